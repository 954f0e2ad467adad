"""The tile: the one micro-kernel that every product is built on.

`tile` multiplies up to TILE_ROWS rows with a panel, NR columns of the right operand, its accumulators in registers. Each
output is summed over k in order with fused multiply-adds. csrc/simd.h gives its size.
"""

cdef enum:
    CHUNK = 256                      # k per chain of additions: part of the results' definition
    CHUNK_STRIDE = CHUNK + 16        # rows of a copied left operand, off the power of two
    FEW_ROWS = 3                     # so many are multiplied with several panels at once
    FAR = 16                         # k to fetch ahead of them
    MOST_PANEL = 64                  # columns of a panel on any machine

cdef bint amd = made_by_amd()


def fetch_as_on_amd(bint yes):
    """Fetch, and order what is read, as AMD's cores like it or as the others: so tests see both on any machine. Only time
    depends on it. Returns what it was."""
    global amd
    before = amd
    amd = yes
    return before


cdef inline Py_ssize_t panel_width(const vec* like) noexcept nogil:
    """NR: columns of a panel."""
    return TILE_VECTORS * lanes(like)


cdef inline Py_ssize_t up_to(Py_ssize_t n, Py_ssize_t multiple) noexcept nogil:
    return (n + multiple - 1) // multiple * multiple


# How tiles fetch the next panel from memory: lines at four places at a time, which memory gives sooner than four at one.
# AMD's cores (measured on Zen 4) take four at one place sooner; and what three tiles or more fetch between them, and have
# time for, into the L1 cache.

cdef inline bint is_fetched_near(Py_ssize_t every, const vec* like) noexcept nogil:
    return amd and every * panel_width(like) * number_bytes(like) > 2 * 128


cdef inline Py_ssize_t fetched_apart(Py_ssize_t n_k, const vec* like) noexcept nogil:
    """Bytes between the four lines of a panel (n_k, NR) that are fetched at a time."""
    return 64 if amd else n_k * panel_width(like) * number_bytes(like) // 4


cdef inline Py_ssize_t fetch_step(Py_ssize_t apart, Py_ssize_t far) noexcept nogil:
    """Bytes from one fetch of four lines to the next."""
    return 2 * far if apart == 64 else 64


# gcc keeps a sum of a tile in a register, from the first k to the last, only if it is an array's element of a constant
# index before any loop is unrolled. So what goes over the sums, the vectors of one row after those of another, is written
# out, in fours, up to MOST_SUMS.

cdef inline void clear_sum(int i, int n, vec* sums) noexcept nogil:
    if i < n:
        sums[i] = constant(0.0, sums)


cdef inline void clear_four(int i, int n, vec* sums) noexcept nogil:
    clear_sum(i, n, sums)
    clear_sum(i + 1, n, sums)
    clear_sum(i + 2, n, sums)
    clear_sum(i + 3, n, sums)


cdef inline void clear_sums(int n, vec* sums) noexcept nogil:
    clear_four(0, n, sums)
    clear_four(4, n, sums)
    clear_four(8, n, sums)
    clear_four(12, n, sums)
    clear_four(16, n, sums)
    clear_four(20, n, sums)


cdef inline vec* store_sum(
    int i, int n, int across, const vec* sums, vec* c, Py_ssize_t c_stride, bint accumulate,
) noexcept nogil:
    """c[r, j] = or += sums[r, j]. Returns c, or where there are many rows the address of the next.

    Of so many rows gcc would compute all addresses first, and keep them in vectors, if it saw that they are a stride apart.
    """
    cdef bint many = n > MOST_SUMS * 2 // 3
    cdef Py_ssize_t place = i % across * lanes(c) + (0 if many else i // across * c_stride)
    if i < n:
        store(c, place, load(c, place) + sums[i] if accumulate else sums[i])
        if many and i % across == across - 1:
            return <vec*> another(at(c, c_stride))
    return c


cdef inline vec* store_four(
    int i, int n, int across, const vec* sums, vec* c, Py_ssize_t c_stride, bint accumulate,
) noexcept nogil:
    c = store_sum(i, n, across, sums, c, c_stride, accumulate)
    c = store_sum(i + 1, n, across, sums, c, c_stride, accumulate)
    c = store_sum(i + 2, n, across, sums, c, c_stride, accumulate)
    return store_sum(i + 3, n, across, sums, c, c_stride, accumulate)


cdef inline void store_sums(
    int n, int across, const vec* sums, vec* c, Py_ssize_t c_stride, bint accumulate,
) noexcept nogil:
    c = store_four(0, n, across, sums, c, c_stride, accumulate)
    c = store_four(4, n, across, sums, c, c_stride, accumulate)
    c = store_four(8, n, across, sums, c, c_stride, accumulate)
    c = store_four(12, n, across, sums, c, c_stride, accumulate)
    c = store_four(16, n, across, sums, c, c_stride, accumulate)
    store_four(20, n, across, sums, c, c_stride, accumulate)


cdef inline const vec* row_of(const vec* a, int r, const Py_ssize_t* strides) noexcept nogil:
    """Row r of a. strides: 1, 3, 5, ... times the bytes between rows; an address can add one of them 1, 2, 4 or 8 times,
    so that 12 rows take 7 registers."""
    cdef int times = 8 if r % 8 == 0 else 4 if r % 4 == 0 else 2 if r % 2 == 0 else 1
    return a if r == 0 else <const vec*> (<const char*> a + strides[r // times // 2] * times)


cdef inline void add_product(
    int i, int rows, int across, int first_row, const vec* a, const vec* again, const Py_ssize_t* strides, const vec* right,
    int n_k, vec* sums,
) noexcept nogil:
    """sums[r, j] += a[r, k] b[k, j] for n_k <= 2 k in order.

    One sum takes its products in a row: with another order gcc does not keep it in one register.
    """
    cdef int r = i // across, j = i % across
    cdef vec sum
    if r >= rows or r < first_row:
        return
    if j % 2 == 1 and r % 3 != 0:  # every third spread once after all: a core reads two vectors a cycle at most
        a = again
    sum = sums[i]
    if strides == NULL:
        sum = fma(splat(a, r), right[j], sum)
        if n_k > 1:
            sum = fma(splat(a, rows + r), right[across + j], sum)
    else:
        sum = added_product(sum, splat(row_of(a, r, strides), 0), right[j])
        if n_k > 1:
            sum = added_product(sum, splat(row_of(a, r, strides), 1), right[across + j])
    sums[i] = sum


cdef inline vec* add_one(
    int i, int rows, int across, int first_row, const vec* a, const vec* again, const Py_ssize_t* strides, const vec* right,
    int n_k, vec* sums, vec* c, Py_ssize_t c_stride, bint accumulate,
) noexcept nogil:
    add_product(i, rows, across, first_row, a, again, strides, right, n_k, sums)
    return c if c == NULL else store_sum(i, rows * across, across, sums, c, c_stride, accumulate)


cdef inline vec* add_four(
    int i, int rows, int across, int first_row, const vec* a, const vec* again, const Py_ssize_t* strides, const vec* right,
    int n_k, vec* sums, vec* c, Py_ssize_t c_stride, bint accumulate,
) noexcept nogil:
    c = add_one(i, rows, across, first_row, a, again, strides, right, n_k, sums, c, c_stride, accumulate)
    c = add_one(i + 1, rows, across, first_row, a, again, strides, right, n_k, sums, c, c_stride, accumulate)
    c = add_one(i + 2, rows, across, first_row, a, again, strides, right, n_k, sums, c, c_stride, accumulate)
    return add_one(i + 3, rows, across, first_row, a, again, strides, right, n_k, sums, c, c_stride, accumulate)


cdef inline void add_products(
    int rows, int across, const vec* a, const Py_ssize_t* strides, const vec* b, Py_ssize_t b_row, Py_ssize_t b_stride,
    int n_k, int first_row, vec* sums, vec* c, Py_ssize_t c_stride, bint accumulate,
) noexcept nogil:
    """sums (rows, across) += a[:, k] b[k, :] for the first n_k <= 2 k in order, from row first_row on.

    strides: NULL if a is turned. c: where each sum is stored at once, the last of its products being among these; or NULL.
    """
    cdef vec right[2 * 4 * TILE_VECTORS]
    cdef const vec* again = a
    cdef int i
    if strides == NULL:
        a, again = <const vec*> another(a), <const vec*> another(a)
    for i in range(n_k * across):
        right[i] = load(b, i % across // TILE_VECTORS * b_stride + i // across * b_row + i % across % TILE_VECTORS * lanes(a))
    c = add_four(0, rows, across, first_row, a, again, strides, right, n_k, sums, c, c_stride, accumulate)
    c = add_four(4, rows, across, first_row, a, again, strides, right, n_k, sums, c, c_stride, accumulate)
    c = add_four(8, rows, across, first_row, a, again, strides, right, n_k, sums, c, c_stride, accumulate)
    c = add_four(12, rows, across, first_row, a, again, strides, right, n_k, sums, c, c_stride, accumulate)
    c = add_four(16, rows, across, first_row, a, again, strides, right, n_k, sums, c, c_stride, accumulate)
    add_four(20, rows, across, first_row, a, again, strides, right, n_k, sums, c, c_stride, accumulate)


cdef inline void fetch_line(const char* line, bint near) noexcept nogil:
    if near:
        prefetch_near(line)
    else:
        prefetch(line)


cdef inline void fetch_four(const vec* ahead, Py_ssize_t apart, Py_ssize_t far, bint near) noexcept nogil:
    cdef const char* line = <const char*> ahead
    fetch_line(line, near)
    fetch_line(line + apart, near)
    fetch_line(line + far, near)
    fetch_line(line + far + apart, near)


cdef inline void tile(
    int rows, int panels, bint turned,              # constants: every use is a kernel of its own
    const vec* a, Py_ssize_t a_stride, const vec* b, Py_ssize_t b_row, Py_ssize_t b_stride,
    Py_ssize_t n_k, Py_ssize_t tail, vec* c, Py_ssize_t c_stride, bint accumulate, const vec* ahead, Py_ssize_t every,
    Py_ssize_t apart, Py_ssize_t far,
) noexcept nogil:
    """c (rows, panels * NR) = or += a (rows, n_k) @ b, one chunk.

    turned: a is (n_k, rows); otherwise a_stride goes from row to row.
    b_row: from k to k; b_stride: from panel to panel. tail: row r goes on for min(r, tail) more k, the staircase of
    causal attention. ahead: what to fetch from memory meanwhile, where `every` is not 0: four lines, two `apart` bytes from
    each other and two more `far` bytes on, every so many times two k; for several panels all of the next.
    """
    cdef vec sums[MOST_SUMS]
    cdef Py_ssize_t odd_strides[6]
    cdef const Py_ssize_t* strides = NULL
    cdef Py_ssize_t k = 0
    cdef int turns = <int> every, until = turns  # of 32 bits: with 64 gcc's loop for eight rows is 3 % slower on Zen 4
    cdef int r, j, across = panels * TILE_VECTORS
    cdef Py_ssize_t a_k = rows if turned else 1
    cdef const vec* fetched
    cdef bint near = is_fetched_near(every, a)
    cdef Py_ssize_t step = fetch_step(apart, far)
    # Many sums stored together fill the queue of a core's stores, and the next tile waits.
    cdef bint store_each = rows > MOST_SUMS // 4 and n_k > 1 and tail == 0
    cdef Py_ssize_t end = n_k - 2 if store_each else n_k
    if not turned:
        for r in range(1, rows, 2):
            odd_strides[r // 2] = hidden(r * a_stride * number_bytes(a))
        strides = odd_strides
    clear_sums(rows * across, sums)
    if n_k % 2 == 1:
        add_products(rows, across, a, strides, b, b_row, b_stride, 1, 0, sums, NULL, 0, False)
        a, b, k = at(a, a_k), at(b, b_row), 1
    while k + 2 <= end:
        if panels == 1:
            until -= 1
            if until == 0:
                fetch_four(ahead, apart, far, near)
                until = turns
                ahead = <const vec*> (<const char*> ahead + step)
        elif every > 0:
            fetched = at(b, FAR * b_row) if k + FAR < n_k else at(ahead, (k + FAR - n_k) * b_row)
            for j in range(panels):
                for r in range(<int> (2 * TILE_VECTORS * lanes(a) * number_bytes(a) // 64)):
                    prefetch(<const char*> at(fetched, j * b_stride) + 64 * r)
        add_products(rows, across, a, strides, b, b_row, b_stride, TILE_K, 0, sums, NULL, 0, False)
        if TILE_K == 1:
            add_products(rows, across, at(a, a_k), strides, at(b, b_row), b_row, b_stride, 1, 0, sums, NULL, 0, False)
        a, b, k = at(a, 2 * a_k), at(b, 2 * b_row), k + 2
    if store_each:
        if until == 1:
            fetch_four(ahead, apart, far, near)
        if accumulate:
            add_products(rows, across, a, strides, b, b_row, b_stride, 2, 0, sums, c, c_stride, True)
        else:
            add_products(rows, across, a, strides, b, b_row, b_stride, 2, 0, sums, c, c_stride, False)
        return
    for k in range(n_k, n_k + tail):
        add_products(rows, across, a, strides, b, b_row, b_stride, 1, <int> (k - n_k + 1), sums, NULL, 0, False)
        a, b = at(a, a_k), at(b, b_row)
    store_sums(rows * across, across, sums, c, c_stride, accumulate)


cdef void tile_of(
    Py_ssize_t rows, Py_ssize_t panels, const vec* a, Py_ssize_t a_stride,
    const vec* b, Py_ssize_t b_row, Py_ssize_t b_stride,
    Py_ssize_t n_k, Py_ssize_t tail, vec* c, Py_ssize_t c_stride, bint accumulate, const vec* ahead, Py_ssize_t every,
    Py_ssize_t apart, Py_ssize_t far,
) noexcept nogil:
    """`tile` for a number of rows known only now; an a_stride of 0: a is turned."""
    if panels == 4:
        tile(1, 4, False, a, a_stride, b, b_row, b_stride, n_k, 0, c, c_stride, accumulate, ahead, every, apart, far)
    elif panels == 2:
        if rows == 1:
            tile(1, 2, False, a, a_stride, b, b_row, b_stride, n_k, 0, c, c_stride, accumulate, ahead, every, apart, far)
        elif rows == 2:
            tile(2, 2, False, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every, apart, far)
        else:
            tile(3, 2, False, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every, apart, far)
    elif TURNED_ROWS <= TILE_ROWS and rows >= TURNED_ROWS and a_stride == 0:
        if rows == 10:
            tile(10, 1, True, a, 0, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every, apart, far)
        elif rows == 11:
            tile(11, 1, True, a, 0, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every, apart, far)
        else:
            tile(12, 1, True, a, 0, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every, apart, far)
    elif rows == 1:
        tile(1, 1, False, a, a_stride, b, b_row, b_stride, n_k, 0, c, c_stride, accumulate, ahead, every, apart, far)
    elif rows == 2:
        tile(2, 1, False, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every, apart, far)
    elif rows == 3:
        tile(3, 1, False, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every, apart, far)
    elif rows == 4:
        tile(4, 1, False, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every, apart, far)
    elif rows == 5:
        tile(5, 1, False, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every, apart, far)
    elif rows == 6:
        tile(6, 1, False, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every, apart, far)
    elif TILE_ROWS > 6:
        if rows == 7:
            tile(7, 1, False, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every, apart, far)
        elif rows == 8:
            tile(8, 1, False, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every, apart, far)
        elif rows == 9:
            tile(9, 1, False, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every, apart, far)
        elif rows == 10:
            tile(10, 1, False, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every, apart, far)
        elif rows == 11:
            tile(11, 1, False, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every, apart, far)
        else:
            tile(12, 1, False, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every, apart, far)


cdef void tile_at_edge(
    Py_ssize_t rows, const vec* a, Py_ssize_t a_stride, const vec* b, Py_ssize_t b_row, Py_ssize_t n_k, Py_ssize_t tail,
    vec* c, Py_ssize_t c_stride, Py_ssize_t columns, bint accumulate, vec* edge,
) noexcept nogil:
    """`tile` on the last panel, of which only `columns` < NR exist in c: by way of `edge` (TILE_ROWS, NR)."""
    cdef Py_ssize_t r, i, j, nr = panel_width(a), width = lanes(a)
    if accumulate:
        for r in range(rows):
            for j in range(vectors(columns, a)):
                i = j * width
                store(edge, r * nr + i, load_some(c, r * c_stride + i, columns - i, constant(0.0, a)))
    tile_of(rows, 1, a, a_stride, b, b_row, 0, n_k, tail, edge, nr, accumulate, b, 0, 64, 128)
    for r in range(rows):
        for j in range(vectors(columns, a)):
            i = j * width
            store_some(c, r * c_stride + i, columns - i, load(edge, r * nr + i))
