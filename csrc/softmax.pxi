"""Softmax (section 3.2.1): exp(x - max) over its sum, row by row."""

cdef void softmax_row(vec* x, Py_ssize_t n, bint subtract_maximum, vec* out) noexcept nogil:
    """One row; out may be x. Without subtracting the maximum large numbers overflow to NaN."""
    cdef vec sums[8]
    cdef vec shift, e, factor, lowest
    cdef Py_ssize_t i, width = lanes(x)
    cdef int j, per_row = row_vectors(x)
    cdef double total
    lowest = constant(-INFINITY, x)
    if subtract_maximum:
        for j in range(per_row):
            sums[j] = lowest
        i = 0
        while i + 16 <= n:
            for j in range(per_row):
                sums[j] = larger(load(x, i + j * width), sums[j])
            i += 16
        if i < n:
            for j in range(per_row):
                sums[j] = larger(load_some(x, i + j * width, n - i - j * width, lowest), sums[j])
        shift = constant(largest_lane(sums, x), x)
    else:
        shift = constant(0.0, x)
    for j in range(per_row):
        sums[j] = constant(0.0, x)
    i = 0
    while i + 16 <= n:
        for j in range(per_row):
            e = exp_(load(x, i + j * width) - shift, x)
            store(out, i + j * width, e)
            sums[j] = sums[j] + e
        i += 16
    if i < n:
        for j in range(per_row):
            e = exp_(load_some(x, i + j * width, n - i - j * width, lowest) - shift, x)
            store_some(out, i + j * width, n - i - j * width, e)
            sums[j] = sums[j] + e
    total = add_lanes(sums, x)
    factor = constant(rounded(1.0 / total, x), x)
    i = 0
    while i + width <= n:
        store(out, i, load(out, i) * factor)
        i += width
    if i < n:
        store_some(out, i, n - i, load_some(out, i, n - i, lowest) * factor)


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
    cdef Py_ssize_t r, first = task * row.rows_per_task
    for r in range(first, min(row.rows, first + row.rows_per_task)):
        softmax_row(at(<vec*> row.x, r * row.width), row.width, True, at(<vec*> row.out, r * row.width))


cdef void size_softmax(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    cdef RowArguments* row = &op.arguments.row
    row.rows = rows
    split_rows(op, rows, row.width, threads, &row.rows_per_task, 600)
    op.task = <TaskFunction> (<void*> softmax_task[vec])
