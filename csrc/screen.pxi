"""The likeliest next words without all logits: bytes show which words can be it, and only those are computed.

A float32 weight is kept a second time as bytes, a column w as scale * bytes + error. A row x is taken apart likewise
when it comes. The product of the bytes is four times as fast as that of the numbers and reads a quarter of the
memory, and it is off by at most

    |x w - x' w'| <= |x - x'| |w| + |x'| |w - w'|

(Cauchy-Schwarz; x', w' are what the bytes say, | | is the Euclidean norm). So `upper_bounds_task` gives for every
panel of words a number that none of their logits exceeds, and `pick_task` computes logits exactly, by the same products as
ever, from the highest bounds on until no panel can have one of the best words any more: the ids and logits are those of
the full product, bit for bit.
"""

cdef extern from "bytes.h" nogil:
    enum:
        BYTE_COLUMNS
        BYTE_ROWS
    bint can_multiply_bytes()
    void upper_bounds(
        int rows, const unsigned char* x, const float* x_scale, const float* a, const float* b,
        const signed char* w, Py_ssize_t fours, const char* ahead, int lines, const int32_t* offsets, const float* scales,
        const float* bias, const float* norms, const float* errors, float* upper, Py_ssize_t upper_stride)

cdef enum:
    ZERO_BYTE = 128                  # stands for 0 in a row: the products want it unsigned
    LARGEST_BYTE = 127
    TAKEN_AT_ONCE = 16               # numbers of a row, whose sums are apart
    FEW_ROWS_AHEAD = 4096            # bytes: so far few rows fetch ahead
    MOST_SCREENED = 1 << 15          # d_in: no sum of products of bytes overflows 32 bits

cdef double WHOLE_NUMBERS = 1.5 * (<int64_t> 1 << 52)
cdef double ROUNDED_AWAY = 1e-20     # more than what bounds and logits lose among the smallest numbers: it is added to bounds
cdef double HUGE_NUMBER = 1e15       # with larger numbers a bound might overflow: all logits are computed


def can_screen():
    """Whether `screen` can make anything: this build and this CPU multiply bytes, in panels as wide as those of numbers."""
    return can_multiply_bytes() and panel_width(<vf*> NULL) == BYTE_COLUMNS


cdef class ScreenedWeight:
    """The bytes of a packed float32 weight (d_in, d_out), and what bounds the error of each column."""

    cdef readonly PackedWeight packed
    cdef LargeMemory memory          # of the panels
    cdef Py_ssize_t n_panels         # of bytes
    cdef Py_ssize_t fours            # of rows
    cdef signed char* panels         # (n_panels, fours, BYTE_COLUMNS, 4)
    cdef int32_t* offsets            # (n_panels, BYTE_COLUMNS): ZERO_BYTE * the sum of a column's bytes
    cdef float* scales               # the same
    cdef float* bias                 # the same: rounded up, and ROUNDED_AWAY; what is no column never counts
    cdef float* norms                # the same: |w|
    cdef float* errors               # the same: |w - w'|

    def __cinit__(self, PackedWeight packed, bias):
        self.packed = packed
        cdef Py_ssize_t columns = up_to(packed.d_out, BYTE_COLUMNS)
        self.n_panels = columns // BYTE_COLUMNS
        self.fours = (packed.d_in + 3) // 4
        self.memory = LargeMemory()
        self.panels = <signed char*> self.memory.take(4 * self.fours * columns)
        memset(self.panels, 0, 4 * self.fours * columns)
        self.offsets = <int32_t*> allocate_zeroed(columns * sizeof(int32_t))
        self.scales = <float*> allocate_zeroed(columns * sizeof(float))
        self.bias = <float*> allocate_zeroed(columns * sizeof(float))
        self.norms = <float*> allocate_zeroed(columns * sizeof(float))
        self.errors = <float*> allocate_zeroed(columns * sizeof(float))

    def __dealloc__(self):
        release_memory(self.offsets)
        release_memory(self.scales)
        release_memory(self.bias)
        release_memory(self.norms)
        release_memory(self.errors)

    cdef bint fill(self, const float* bias) noexcept nogil:
        """Take the weight's columns apart; whether all numbers are finite and not huge."""
        cdef Py_ssize_t panel, column
        for panel in range(self.n_panels):
            column = panel * BYTE_COLUMNS
            if not panel_as_bytes(
                    <const float*> self.packed.panels + column * self.packed.d_in, self.packed.d_in,
                    <uint32_t*> (self.panels + column * 4 * self.fours), self.offsets + column, self.scales + column,
                    self.norms + column, self.errors + column):
                return False
        for column in range(self.packed.d_out):
            self.bias[column] = <float> ROUNDED_AWAY
            if bias != NULL:
                if not abs_(bias[column]) < HUGE_NUMBER:
                    return False
                self.bias[column] = <float> (bias[column] + abs_(bias[column]) * 1e-6 + ROUNDED_AWAY)
        for column in range(self.packed.d_out, self.n_panels * BYTE_COLUMNS):
            self.bias[column] = -INFINITY
        return True


cdef bint panel_as_bytes(
    const float* numbers, Py_ssize_t d_in, uint32_t* fours, int32_t* offsets, float* scales, float* norms, float* errors,
) noexcept nogil:
    """A panel (d_in, BYTE_COLUMNS) of a packed weight as bytes, (d_in / 4, BYTE_COLUMNS, 4).

    All columns of a row in turn, which compilers make vectors of.
    """
    cdef float[BYTE_COLUMNS] largest
    cdef double[BYTE_COLUMNS] inverse, norm, error
    cdef int32_t[BYTE_COLUMNS] sum_of_bytes
    cdef double byte, left
    cdef Py_ssize_t k, c
    cdef int shift
    cdef const float* row = numbers
    cdef uint32_t* to
    for c in range(BYTE_COLUMNS):
        largest[c], norm[c], error[c], sum_of_bytes[c] = 0.0, 0.0, 0.0, 0
    for k in range(d_in):
        for c in range(BYTE_COLUMNS):
            largest[c] = max(largest[c], fabsf(row[c]))
            norm[c] += <double> row[c] * row[c]  # a NaN, of which no maximum tells, stays in it
        row += BYTE_COLUMNS
    for c in range(BYTE_COLUMNS):
        if not (largest[c] < HUGE_NUMBER and norm[c] == norm[c]):
            return False
        scales[c] = largest[c] / LARGEST_BYTE
        inverse[c] = 1.0 / scales[c] if scales[c] > 1e-30 else 0.0
    row = numbers
    for k in range(d_in):
        to = fours + k // 4 * BYTE_COLUMNS
        shift = k % 4 * 8
        for c in range(BYTE_COLUMNS):
            byte = nearest(row[c] * inverse[c])
            to[c] |= (<uint32_t> <int32_t> byte & 255) << shift
            sum_of_bytes[c] += <int32_t> byte
            left = row[c] - byte * scales[c]
            error[c] += left * left
        row += BYTE_COLUMNS
    for c in range(BYTE_COLUMNS):
        offsets[c] = ZERO_BYTE * sum_of_bytes[c]
        norms[c] = <float> (sqrt(norm[c]) * 1.000001)
        errors[c] = <float> (sqrt(error[c]) * 1.000001)
    return True


cdef inline double abs_(double x) noexcept nogil:
    return -x if x < 0 else x


cdef inline double nearest(double x) noexcept nogil:
    """The nearest whole number, of less than 2**51: what WHOLE_NUMBERS leaves no bits for is rounded."""
    return x + WHOLE_NUMBERS - WHOLE_NUMBERS


def screen(PackedWeight packed, bias):
    """The ScreenedWeight of a packed weight and the bias (d_out,) or None that its product adds.

    None where bytes cannot tell: not `can_screen`, another type than float32, a number that is not finite or huge, too
    many rows.
    """
    cdef ScreenedWeight made
    cdef const float* numbers = <const float*> address_or_null(bias)
    cdef bint good
    if not can_screen() or not packed.is_float or packed.d_in > MOST_SCREENED or packed.d_in == 0:
        return None
    made = ScreenedWeight(packed, bias)
    with nogil:
        good = made.fill(numbers)
    return made if good else None


cdef void take_apart(
    const float* x, Py_ssize_t d_in, unsigned char* bytes, Py_ssize_t stride, float* scale, float* a, float* b,
) noexcept nogil:
    """A row as scale * (bytes - ZERO_BYTE), every four of them `stride` after those before; a and b: what bounds multiply
    norms and errors with."""
    cdef double[TAKEN_AT_ONCE] norms, errors, says
    cdef unsigned char[TAKEN_AT_ONCE] some
    cdef double inverse, norm = 0.0, error = 0.0, said = 0.0, step, byte
    cdef float largest = 0.0
    cdef Py_ssize_t k, i, n
    for k in range(d_in):
        largest = max(largest, fabsf(x[k]))
    step = <float> (largest / LARGEST_BYTE)
    inverse = 1.0 / step if 1e-30 < step < HUGE_NUMBER else 0.0
    for i in range(TAKEN_AT_ONCE):
        norms[i] = errors[i] = says[i] = 0.0
    k = 0
    while k < d_in:
        n = min(<Py_ssize_t> TAKEN_AT_ONCE, d_in - k)
        for i in range(n):
            byte = max(-<double> LARGEST_BYTE, min(<double> LARGEST_BYTE, nearest(x[k + i] * inverse)))  # of a NaN too
            some[i] = <unsigned char> (<int32_t> byte + ZERO_BYTE)
            norms[i] += <double> x[k + i] * x[k + i]
            errors[i] += (x[k + i] - byte * step) * (x[k + i] - byte * step)
            says[i] += (byte * step) * (byte * step)
        for i in range(0, n, 4):
            memcpy(bytes + (k + i) // 4 * stride, some + i, <size_t> min(<Py_ssize_t> 4, n - i))
        k += n
    for i in range(TAKEN_AT_ONCE):
        norm += norms[i]
        error += errors[i]
        said += says[i]
    scale[0] = <float> step
    # The logits, and the bounds themselves, are rounded too: by less than this much of |x| |w|.
    a[0] = <float> ((sqrt(error) + (d_in + 32) * 1.2e-7 * sqrt(norm)) * 1.000001)
    b[0] = <float> (sqrt(said) * 1.000001)


cdef void upper_bounds_task(const ScreenArguments* screen, Py_ssize_t task, void* scratch) noexcept nogil:
    """Some panels of bytes times all rows, which lie in groups of up to BYTE_ROWS, (fours, rows of the group, 4)."""
    cdef Py_ssize_t rows = screen.rows, row_bytes = 4 * screen.fours, first, end, r, group, panel, column
    cdef Py_ssize_t n_groups = (rows + BYTE_ROWS - 1) // BYTE_ROWS, panel_bytes = BYTE_COLUMNS * row_bytes
    cdef int lines
    cdef const char* ahead
    cdef const signed char* w
    cdef unsigned char* bytes = <unsigned char*> scratch
    cdef float* scale = <float*> (bytes + up_to(rows * row_bytes, 64))
    cdef float* a = scale + rows
    cdef float* b = a + rows
    memset(bytes, ZERO_BYTE, rows * row_bytes)  # what pads the last four
    for group in range(n_groups):
        first, end = rows * group // n_groups, rows * (group + 1) // n_groups
        for r in range(first, end):
            take_apart(<const float*> screen.x + r * screen.d_in, screen.d_in, bytes + first * row_bytes + 4 * (r - first),
                       4 * (end - first), scale + r, a + r, b + r)
    for panel in range(task * screen.panels_per_task, min(screen.n_panels, (task + 1) * screen.panels_per_task)):
        column = panel * BYTE_COLUMNS
        w = screen.panels + column * row_bytes
        for group in range(n_groups):
            first, end = rows * group // n_groups, rows * (group + 1) // n_groups
            # The next panel, half of it in each of the first two groups; few rows are done before it would be there.
            lines = 0 if panel + 1 == screen.n_panels else 2 if n_groups == 1 else 1 if group < 2 else 0
            ahead = <const char*> w + (FEW_ROWS_AHEAD if rows <= ROWS_IN_SEQUENCE else (2 + group) * panel_bytes // 2)
            upper_bounds(<int> (end - first), bytes + first * row_bytes, scale + first, a + first, b + first,
                         w, screen.fours, ahead, lines, screen.offsets + column, screen.scales + column,
                         screen.bias + column, screen.norms + column, screen.errors + column,
                         <float*> screen.upper + first * screen.n_panels + panel, screen.n_panels)


cdef void size_screen(Op* op, Py_ssize_t rows, int threads, const void* like) noexcept nogil:
    cdef ScreenArguments* screen = &op.arguments.screen
    cdef Py_ssize_t tasks = 1 if threads == 1 else 2 * threads
    screen.rows = rows
    screen.panels_per_task = max(<Py_ssize_t> 1, (screen.n_panels + tasks - 1) // tasks)
    op.n_tasks = 0 if rows == 0 else (screen.n_panels + screen.panels_per_task - 1) // screen.panels_per_task
    op.nanoseconds = <int64_t> (
        <double> screen.d_in * screen.n_panels * BYTE_COLUMNS * max(rows / 200.0, 1.0 / 30))
    op.scratch_bytes = <size_t> (up_to(rows * 4 * screen.fours, 64) + 3 * rows * 4)
    op.task = <TaskFunction> (<void*> upper_bounds_task)


cdef inline Py_ssize_t place_in(
    double value, int64_t id, const double* best, const int64_t* ids, Py_ssize_t found,
) noexcept nogil:
    """Where (value, id) belongs among `found` that descend, equal ones by id; a NaN after the NaNs before it."""
    cdef Py_ssize_t place = found
    if value != value:
        place = 0
        while place < found and best[place] != best[place]:
            place += 1
        return place
    while place > 0 and (value > best[place - 1] or (value == best[place - 1] and id < ids[place - 1])):
        place -= 1
    return place


# The likeliest words of one row so far, descending, and what it takes to try others.
cdef struct Pick:
    const PickArguments* arguments
    vf* upper                    # (n_panels,); -infinity once the panel was tried
    bint usable                  # whether upper bounds say anything
    Py_ssize_t k, found          # words wanted, and there
    double[MOST_TOP] best
    int64_t* ids
    Py_ssize_t[2] panels         # to be tried together
    Py_ssize_t n_panels
    void* logits                 # of these
    void* scratch


cdef void try_panels(Pick* pick, const vf* x) noexcept nogil:
    """Compute the logits of the panels that wait, and take the words that belong among the likeliest.

    Two panels at a time: each alone is one chain of multiply-adds.
    """
    cdef const PickArguments* arguments = pick.arguments
    cdef Py_ssize_t nr = panel_width(x), d_in = arguments.d_in, columns, i, j, place
    cdef Py_ssize_t width = pick.n_panels * nr, last = pick.panels[pick.n_panels - 1]
    cdef const vf* panels = at(<const vf*> arguments.weight, pick.panels[0] * nr * d_in)
    cdef vf* logits = <vf*> pick.logits
    cdef double candidate
    multiply_by_chunks(x, d_in, 1, panels, nr, (last - pick.panels[0]) * nr * d_in, d_in, width, logits, width, NULL, False,
                       <vf*> pick.scratch)
    for i in range(pick.n_panels):
        j = pick.panels[i] * nr
        columns = min(nr, arguments.d_out - j)
        if arguments.bias != NULL:
            finish(at(logits, i * nr), width, 1, columns, at(<const vf*> arguments.bias, j), IDENTITY)
        for j in range(j, j + columns):
            candidate = number(logits, i * nr + j % nr)
            if pick.found == pick.k and not (ranks_before(candidate, pick.best[pick.k - 1]) or (
                    candidate == pick.best[pick.k - 1] and j < pick.ids[pick.k - 1])):
                continue
            place = place_in(candidate, j, pick.best, pick.ids, pick.found)
            pick.found = min(pick.found + 1, pick.k)
            insert(candidate, j, pick.best, pick.ids, place, pick.found)
    pick.n_panels = 0


cdef inline void try_panel(Pick* pick, Py_ssize_t panel, const vf* x) noexcept nogil:
    """Compute the panel's logits, together with another one's if there is another."""
    if pick.usable:
        put(pick.upper, panel, -INFINITY)
    pick.panels[pick.n_panels] = panel
    pick.n_panels += 1
    if pick.n_panels == 2:
        try_panels(pick, x)


cdef inline bint none_is_huge(const vf* x, Py_ssize_t n) noexcept nogil:
    """Whether bounds of a row's products can be relied on: no NaN either."""
    cdef Py_ssize_t i = 0, block = 4 * lanes(x)
    while i + block <= n:
        if larger_or_nan(at(x, i), HUGE_NUMBER) != 0 or not_below(at(x, i), -HUGE_NUMBER) != first_bits(block):
            return False
        i += block
    while i < n:
        if not abs_(number(x, i)) < HUGE_NUMBER:
            return False
        i += 1
    return True


cdef inline uint64_t to_try(const Pick* pick, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """A bit for each of n panels from `first` on, up to four vectors of them, that may have one of the likeliest words."""
    cdef uint64_t bits = 0
    cdef Py_ssize_t j
    if not pick.usable:
        return first_bits(n)
    if n == 4 * lanes(pick.upper):
        return not_below(at(pick.upper, first), pick.best[pick.k - 1])
    for j in range(n):
        if not number(pick.upper, first + j) < pick.best[pick.k - 1]:
            bits |= <uint64_t> 1 << j
    return bits


cdef void pick_task(const PickArguments* arguments, Py_ssize_t task, vf* scratch) noexcept nogil:
    """The k likeliest words of one row and their logits."""
    cdef const vf* x = at(<const vf*> arguments.x, task * arguments.d_in)
    cdef vf* values = at(<vf*> arguments.values, task * arguments.stride)
    cdef double bounds[MOST_TOP]
    cdef int64_t promising[MOST_TOP]
    cdef Py_ssize_t n_panels = arguments.n_panels, first, n, i, block = 4 * lanes(x)
    cdef uint64_t bits
    cdef Pick pick
    pick.arguments, pick.found, pick.n_panels = arguments, 0, 0
    pick.upper = at(<vf*> arguments.upper, task * n_panels)
    pick.k = min(arguments.options[0], arguments.d_out)
    pick.ids = arguments.ids + task * arguments.stride
    pick.scratch = scratch
    pick.logits = at(scratch, product_scratch_bytes(scratch) // 4)
    pick.usable = none_is_huge(x, arguments.d_in)
    if pick.usable:  # start with the panels of the highest bounds
        n = min(pick.k, n_panels)
        find_largest(pick.upper, n_panels, n, bounds, promising)
        for i in range(n):
            try_panel(&pick, promising[i], x)
        if pick.n_panels > 0:
            try_panels(&pick, x)
    first = 0
    while first < n_panels:  # and go on with all that may have one as good as the last word
        bits = to_try(&pick, first, min(block, n_panels - first))
        while bits != 0:
            i = first + lowest_bit(bits)
            bits &= bits - 1
            if not pick.usable or not number(pick.upper, i) < pick.best[pick.k - 1]:  # which may be better by now
                try_panel(&pick, i, x)
        first += block
    if pick.n_panels > 0:
        try_panels(&pick, x)
    for i in range(pick.k):
        put(values, i, pick.best[i])


cdef inline void insert(double value, int64_t id, double* best, int64_t* ids, Py_ssize_t place, Py_ssize_t n) noexcept nogil:
    """Put (value, id) in its place among n, which the last one leaves."""
    cdef Py_ssize_t i = n - 1
    while i > place:
        best[i], ids[i] = best[i - 1], ids[i - 1]
        i -= 1
    best[place], ids[place] = value, id


cdef void size_pick(Op* op, Py_ssize_t rows, int threads, const void* like) noexcept nogil:
    cdef PickArguments* pick = &op.arguments.pick
    pick.rows = rows
    op.n_tasks = rows
    op.nanoseconds = rows * (pick.n_panels + 20000)
    op.scratch_bytes = product_scratch_bytes(<vf*> NULL) + 2 * MOST_PANEL * 4
    op.task = <TaskFunction> (<void*> pick_task)
