"""Softmax (section 3.2.1): exp(x - max) over its sum, row by row."""

cdef inline void softmax_rows(
    int rows, vec* x, Py_ssize_t stride, Py_ssize_t n, double scale, bint subtract_maximum, vec* out, bint ahead,
) noexcept nogil:
    """`rows` (a constant) rows of x * scale, scale > 0, n numbers each and `stride` apart; out may be x.

    Several rows at once hide the latency of each other's sums; `ahead` (a constant) has the next ones fetched, as
    hardware loses track of so many. Without subtracting the maximum
    large numbers overflow to NaN.
    """
    cdef vec sums[16]                # 16 lanes of every row
    cdef vec last[16]                # the powers past the last whole 16
    cdef vec shift[MOST_AT_ONCE]
    cdef vec powers[MOST_AT_ONCE]
    cdef vec factor, scales = constant(scale, x), lowest = constant(-INFINITY, x)
    cdef Py_ssize_t i, whole = n // 16 * 16, width = lanes(x)
    cdef int r, j, per_row = row_vectors(x)
    for r in range(rows):
        shift[r] = constant(0.0, x)
    if subtract_maximum:
        for j in range(rows * per_row):
            sums[j] = lowest
        for i in range(0, whole, 16):
            for r in range(rows):
                for j in range(per_row):
                    sums[r * per_row + j] = larger(load(x, r * stride + i + j * width), sums[r * per_row + j])
        for j in range(per_row):  # of the last 16, those that there are
            i = whole + j * width
            if i < n:
                for r in range(rows):
                    sums[r * per_row + j] = larger(load_some(x, r * stride + i, n - i, lowest), sums[r * per_row + j])
        for r in range(rows):  # rounding keeps the order: the largest product is that of the largest number
            shift[r] = constant(largest_lane(&sums[r * per_row]), x) * scales
    for j in range(rows * per_row):
        sums[j] = constant(0.0, x)
    for i in range(0, whole, 16):
        for j in range(per_row):
            for r in range(rows):
                powers[r] = load(x, r * stride + i + j * width) * scales - shift[r]
            if not subtract_maximum:
                bound_exponent(rows, powers)
            exp_of_small(rows, powers, True)
            for r in range(rows):
                store(out, r * stride + i + j * width, powers[r])
                sums[r * per_row + j] = sums[r * per_row + j] + powers[r]
    for j in range(per_row):
        i = whole + j * width
        if i < n:
            for r in range(rows):
                powers[r] = load_some(x, r * stride + i, n - i, lowest) * scales - shift[r]
            if not subtract_maximum:
                bound_exponent(rows, powers)
            exp_of_small(rows, powers, True)
            for r in range(rows):
                last[r * per_row + j] = powers[r]
                sums[r * per_row + j] = sums[r * per_row + j] + powers[r]
    for r in range(rows):
        factor = constant(reciprocal(add_lanes(&sums[r * per_row]), x), x)
        i = 0
        while i < whole:
            store(out, r * stride + i, load(out, r * stride + i) * factor)
            if ahead:
                prefetch(at(x, (rows + r) * stride + i))
                prefetch(at(out, (rows + r) * stride + i))
            i += width
        for j in range(per_row):
            i = whole + j * width
            if i < n:
                store_some(out, r * stride + i, n - i, last[r * per_row + j] * factor)


cdef void softmax_some(
    Py_ssize_t rows, vec* x, Py_ssize_t stride, Py_ssize_t n, double scale, bint subtract_maximum, vec* out,
) noexcept nogil:
    """`softmax_rows` for any number of rows, which lie in the L1 cache."""
    cdef Py_ssize_t r = 0
    if row_vectors(x) <= 2:
        while r + 4 <= rows:
            softmax_rows(4, at(x, r * stride), stride, n, scale, subtract_maximum, at(out, r * stride), False)
            r += 4
        if r + 2 <= rows:
            softmax_rows(2, at(x, r * stride), stride, n, scale, subtract_maximum, at(out, r * stride), False)
            r += 2
    while r < rows:
        softmax_rows(1, at(x, r * stride), stride, n, scale, subtract_maximum, at(out, r * stride), False)
        r += 1


cdef void scale_row(const vec* x, Py_ssize_t n, double scale, vec* out) noexcept nogil:
    """out = x * scale; out may be x."""
    cdef vec factor = constant(scale, x)
    cdef Py_ssize_t i = 0, width = lanes(x)
    while i + width <= n:
        store(out, i, load(x, i) * factor)
        i += width
    if i < n:
        store_some(out, i, n - i, load_some(x, i, n - i, factor) * factor)


cdef void softmax_task(const RowArguments* row, Py_ssize_t task, vec* scratch) noexcept nogil:
    cdef Py_ssize_t n = row.width, r = task * row.rows_per_task, end = min(row.rows, r + row.rows_per_task)
    cdef vec* x = <vec*> row.x
    cdef vec* out = <vec*> row.out
    if row_vectors(scratch) <= 2 and not out_of_cache(row.rows, n, scratch):
        while r + 4 <= end:
            softmax_rows(4, at(x, r * n), n, n, 1.0, True, at(out, r * n), True)
            r += 4
    while r < end:
        softmax_rows(1, at(x, r * n), n, n, 1.0, True, at(out, r * n), False)
        r += 1


cdef void size_softmax(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    cdef RowArguments* row = &op.arguments.row
    row.rows = rows
    split_rows(op, rows, row.width, threads, &row.rows_per_task, 600)
    op.task = <TaskFunction> (<void*> softmax_task[vec])
