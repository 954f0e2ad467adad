"""Layer norm, and residual connection and layer norm in one pass (section 3.1, "Add & Norm").

(x - mean) / sqrt(var + eps) * gamma + beta, in two passes over the row: the mean, then the
squares of what is left. E[x^2] - E[x]^2 in one pass would lose the digits that matter.
"""

cdef inline double square_root(double x, const vec* like) noexcept nogil:
    if vec is vf:
        return sqrtf(<float> x)
    else:
        return sqrt(x)


cdef inline double reciprocal(double x, const vec* like) noexcept nogil:
    if vec is vf:
        return <float> 1.0 / <float> x
    else:
        return 1.0 / x


cdef void add_rows(const vec* x, const vec* y, Py_ssize_t n, vec* out) noexcept nogil:
    cdef Py_ssize_t i = 0, width = lanes(x)
    cdef vec zero = constant(0.0, x)
    while i + width <= n:
        store(out, i, load(x, i) + load(y, i))
        i += width
    if i < n:
        store_some(out, i, n - i, load_some(x, i, n - i, zero) + load_some(y, i, n - i, zero))


cdef void layer_norm_row(
    const vec* x, Py_ssize_t n, const vec* gamma, const vec* beta, double eps, bint article, vec* out,
) noexcept nogil:
    """One row; out may be x."""
    cdef vec sums[8]
    cdef vec mean, d, g, b, factor, zero = constant(0.0, x), one = constant(1.0, x)
    cdef Py_ssize_t i, left, width = lanes(x)
    cdef int j, per_row = row_vectors(x)
    cdef double variance, deviation
    for j in range(per_row):
        sums[j] = zero
    i = 0
    while i + 16 <= n:
        for j in range(per_row):
            sums[j] = sums[j] + load(x, i + j * width)
        i += 16
    if i < n:
        for j in range(per_row):
            sums[j] = sums[j] + load_some(x, i + j * width, n - i - j * width, zero)
    mean = constant(rounded(add_lanes(sums, x) / n, x), x)
    for j in range(per_row):
        sums[j] = zero
    i = 0
    while i + 16 <= n:
        for j in range(per_row):
            d = load(x, i + j * width) - mean
            sums[j] = fma(d, d, sums[j])
        i += 16
    if i < n:
        for j in range(per_row):
            d = load_some(x, i + j * width, n - i - j * width, mean) - mean
            sums[j] = fma(d, d, sums[j])
    variance = rounded(add_lanes(sums, x) / n, x)
    if article:
        deviation = rounded(square_root(variance, x) + eps, x)
    else:
        deviation = square_root(rounded(variance + eps, x), x)
    factor = constant(reciprocal(deviation, x), x)
    i = 0
    while i < n:
        left = n - i
        if left >= width:
            d = (load(x, i) - mean) * factor
            g = one if gamma == NULL else load(gamma, i)
            b = zero if beta == NULL else load(beta, i)
            store(out, i, fma(d, g, b))
        else:
            d = (load_some(x, i, left, mean) - mean) * factor
            g = one if gamma == NULL else load_some(gamma, i, left, one)
            b = zero if beta == NULL else load_some(beta, i, left, zero)
            store_some(out, i, left, fma(d, g, b))
        i += width


cdef void layer_norm_task(const NormArguments* norm, Py_ssize_t task, vec* scratch) noexcept nogil:
    cdef Py_ssize_t r, first = task * norm.rows_per_task, width = norm.width
    cdef const vec* x
    cdef vec* total
    for r in range(first, min(norm.rows, first + norm.rows_per_task)):
        x = at(<const vec*> norm.x, r * width)
        if norm.y != NULL:
            total = at(<vec*> (norm.out if norm.sum == NULL else norm.sum), r * width)
            add_rows(x, at(<const vec*> norm.y, r * width), width, total)
            x = total
        layer_norm_row(x, width, <const vec*> norm.gamma, <const vec*> norm.beta, norm.eps, norm.article,
                       at(<vec*> norm.out, r * width))


cdef void size_layer_norm(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    cdef NormArguments* norm = &op.arguments.norm
    norm.rows = rows
    split_rows(op, rows, norm.width, threads, &norm.rows_per_task, 300)
    op.task = <TaskFunction> (<void*> layer_norm_task[vec])


cdef void add_task(const RowArguments* row, Py_ssize_t task, vec* scratch) noexcept nogil:
    cdef Py_ssize_t first = task * row.rows_per_task * row.width
    cdef Py_ssize_t n = min(row.rows * row.width - first, row.rows_per_task * row.width)
    add_rows(at(<const vec*> row.x, first), at(<const vec*> row.y, first), n, at(<vec*> row.out, first))


cdef void size_add(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    cdef RowArguments* row = &op.arguments.row
    row.rows = rows
    split_rows(op, rows, row.width, threads, &row.rows_per_task, 100)
    op.task = <TaskFunction> (<void*> add_task[vec])


cdef void activate_task(const RowArguments* row, Py_ssize_t task, vec* scratch) noexcept nogil:
    cdef Py_ssize_t first = task * row.rows_per_task * row.width
    cdef Py_ssize_t n = min(row.rows * row.width - first, row.rows_per_task * row.width)
    activate_row(at(<const vec*> row.x, first), n, row.activation, at(<vec*> row.out, first))


cdef void size_activate(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    cdef RowArguments* row = &op.arguments.row
    row.rows = rows
    split_rows(op, rows, row.width, threads, &row.rows_per_task, 800)
    op.task = <TaskFunction> (<void*> activate_task[vec])
