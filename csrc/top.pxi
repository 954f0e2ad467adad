"""The largest numbers of a row, as generation asks for the likeliest next words: top k, and log-softmax of those."""

cdef enum:
    MOST_TOP = 64                    # the largest k


cdef inline bint ranks_before(double x, double y) noexcept nogil:
    """Whether x comes before y: larger, or a NaN, which counts as the largest as in argmax."""
    return x > y or (x != x and y == y)


cdef double log_sum_of_powers(const vec* x, Py_ssize_t n, double largest) noexcept nogil:
    """log(sum(exp(x - largest)))."""
    cdef vec sums[8]               # 16 lanes: so many vectors of two doubles
    cdef vec powers[MOST_AT_ONCE]
    cdef vec shift = constant(largest, x), lowest = constant(-INFINITY, x)
    cdef Py_ssize_t i = 0, width = lanes(x)
    cdef int j, b, place, per_row = row_vectors(x), blocks = max(1, per_row // MOST_AT_ONCE)  # of vectors at once
    for j in range(per_row):
        sums[j] = constant(0.0, x)
    while i + blocks * MOST_AT_ONCE * width <= n:
        for b in range(blocks):
            for j in range(MOST_AT_ONCE):
                powers[j] = load(x, i + j * width) - shift
            exp_of_small(MOST_AT_ONCE, powers, True)
            for j in range(MOST_AT_ONCE):
                place = (b * MOST_AT_ONCE + j) % per_row
                sums[place] = sums[place] + powers[j]
            i += MOST_AT_ONCE * width
    while i < n:
        powers[0] = load_some(x, i, n - i, lowest) - shift
        exp_of_small(1, powers, True)
        place = <int> (i // width) % per_row
        sums[place] = sums[place] + powers[0]
        i += width
    return log(add_lanes(sums))


cdef inline void find_largest(const vec* x, Py_ssize_t n, Py_ssize_t k, double* best, int64_t* ids) noexcept nogil:
    """The k <= n largest numbers of a row and where they are: descending, of equal ones the first first."""
    cdef Py_ssize_t i = 0, j, block = 4 * lanes(x), found = 0, place
    cdef double candidate
    cdef uint64_t bits
    while i < n:
        bits = larger_or_nan(at(x, i), best[k - 1]) if found == k and i + block <= n else first_bits(min(block, n - i))
        while bits != 0:
            j = i + lowest_bit(bits)
            bits &= bits - 1
            candidate = number(x, j)
            if found < k or ranks_before(candidate, best[k - 1]):
                place = found if found < k else k - 1
                found = min(found + 1, k)
                while place > 0 and ranks_before(candidate, best[place - 1]):
                    best[place], ids[place] = best[place - 1], ids[place - 1]
                    place -= 1
                best[place], ids[place] = candidate, j
        i += block


cdef void top_task(const TopArguments* top, Py_ssize_t task, vec* scratch) noexcept nogil:
    """The k largest of one row, or their log-softmax."""
    cdef const vec* x = at(<const vec*> top.x, task * top.width)
    cdef vec* values = at(<vec*> top.values, task * top.stride)
    cdef double best[MOST_TOP]
    cdef Py_ssize_t n = top.width, k = min(top.options[0], n), place
    cdef double largest, log_sum
    find_largest(x, n, k, best, top.ids + task * top.stride)
    if top.options[1]:
        largest = best[0]
        log_sum = log_sum_of_powers(x, n, largest)
        for place in range(k):
            best[place] = best[place] - largest - log_sum
    for place in range(k):
        put(values, place, best[place])


cdef void size_top(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    cdef TopArguments* top = &op.arguments.top
    top.rows = rows
    op.n_tasks = rows
    op.nanoseconds = rows * top.width // (2 if top.options[1] else 4)
    op.scratch_bytes = 0
    op.task = <TaskFunction> (<void*> top_task[vec])
