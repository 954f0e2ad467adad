"""Layer norm, and residual connection and layer norm in one pass (section 3.1, "Add & Norm").

(x - mean) / sqrt(var + eps) * gamma + beta, in two passes over the row: the mean, then the
squares of what is left. E[x^2] - E[x]^2 in one pass would lose the digits that matter.
"""

cdef enum:                           # forms of the norm, codes of rtfast/norms.py
    PAPER = 0
    ARTICLE = 1                      # divides by std + eps
    RMS = 2                          # takes the mean for 0

cdef inline double square_root(double x, const vec* like) noexcept nogil:
    if vec is vf:
        return sqrtf(<float> x)
    else:
        return sqrt(x)


cdef void add_rows(const vec* x, const vec* y, Py_ssize_t n, vec* out) noexcept nogil:
    cdef Py_ssize_t i = 0, width = lanes(x)
    cdef vec zero = constant(0.0, x)
    while i + width <= n:
        store(out, i, load(x, i) + load(y, i))
        i += width
    if i < n:
        store_some(out, i, n - i, load_some(x, i, n - i, zero) + load_some(y, i, n - i, zero))


cdef inline vec summed(const vec* x, const vec* y, Py_ssize_t i) noexcept nogil:
    """Numbers i and on of x + y, or of x where y is NULL."""
    return load(x, i) if y == NULL else load(x, i) + load(y, i)


cdef inline vec summed_some(const vec* x, const vec* y, Py_ssize_t i, Py_ssize_t n, vec otherwise) noexcept nogil:
    """The first n lanes of `summed`; the others are `otherwise`."""
    cdef vec zero = constant(0.0, x)
    return load_some(x, i, n, otherwise) if y == NULL else load_some(x, i, n, otherwise) + load_some(y, i, n, zero)


cdef inline void layer_norm_rows(
    int rows, const vec* x, const vec* y, Py_ssize_t n, const vec* gamma, const vec* beta, double eps, int form,
    vec* total, vec* out,
) noexcept nogil:
    """`rows` (a constant) rows of n numbers at once: a row's sum is one chain of additions, and several hide each
    other's latency. total takes x + y, if it is not NULL; out may be x or y."""
    cdef vec sums[32]
    cdef vec mean[4]
    cdef vec factor[4]
    cdef vec d, g, b, zero = constant(0.0, x), one = constant(1.0, x)
    cdef Py_ssize_t i, width = lanes(x)
    cdef int r, j, per_row = row_vectors(x)
    cdef double variance, deviation
    for j in range(rows * per_row):
        sums[j] = zero
    i = 0 if form != RMS else n
    while i + 16 <= n:
        for r in range(rows):
            for j in range(per_row):
                sums[r * per_row + j] = sums[r * per_row + j] + summed(x, y, r * n + i + j * width)
        i += 16
    for j in range(per_row):  # of the last 16, those that there are
        if i + j * width < n:
            for r in range(rows):
                sums[r * per_row + j] = sums[r * per_row + j] + summed_some(
                    x, y, r * n + i + j * width, n - i - j * width, zero)
    for r in range(rows):
        mean[r] = constant(mean_of_lanes(&sums[r * per_row], n), x)
    for j in range(rows * per_row):
        sums[j] = zero
    i = 0
    while i + 16 <= n:
        for r in range(rows):
            for j in range(per_row):
                d = summed(x, y, r * n + i + j * width) - mean[r]
                sums[r * per_row + j] = fma(d, d, sums[r * per_row + j])
        i += 16
    for j in range(per_row):
        if i + j * width < n:
            for r in range(rows):
                d = summed_some(x, y, r * n + i + j * width, n - i - j * width, mean[r]) - mean[r]
                sums[r * per_row + j] = fma(d, d, sums[r * per_row + j])
    for r in range(rows):
        variance = mean_of_lanes(&sums[r * per_row], n)
        if form == ARTICLE:
            deviation = rounded(square_root(variance, x) + eps, x)
        else:
            deviation = square_root(rounded(variance + eps, x), x)
        factor[r] = constant(reciprocal(deviation, x), x)
    i = 0
    while i + width <= n:
        g = one if gamma == NULL else load(gamma, i)
        b = zero if beta == NULL else load(beta, i)
        for r in range(rows):
            d = summed(x, y, r * n + i)
            if total != NULL:
                store(total, r * n + i, d)
            store(out, r * n + i, fma((d - mean[r]) * factor[r], g, b))
            if rows > 1:  # the next ones: hardware loses track of so many rows
                prefetch(at(x, (rows + r) * n + i))
                if y != NULL:
                    prefetch(at(y, (rows + r) * n + i))
                prefetch(at(out, (rows + r) * n + i))
        i += width
    if i < n:
        g = one if gamma == NULL else load_some(gamma, i, n - i, one)
        b = zero if beta == NULL else load_some(beta, i, n - i, zero)
        for r in range(rows):
            d = summed_some(x, y, r * n + i, n - i, zero)
            if total != NULL:
                store_some(total, r * n + i, n - i, d)
            store_some(out, r * n + i, n - i, fma((d - mean[r]) * factor[r], g, b))


cdef void layer_norm_some(const NormArguments* norm, Py_ssize_t first, Py_ssize_t rows, vec* scratch) noexcept nogil:
    """1, 2 or 4 rows."""
    cdef Py_ssize_t n = norm.width
    cdef const vec* x = at(<const vec*> norm.x, first * n)
    cdef const vec* y = <const vec*> norm.y
    cdef const vec* gamma = <const vec*> norm.gamma
    cdef const vec* beta = <const vec*> norm.beta
    cdef vec* total = <vec*> norm.sum
    cdef vec* out = at(<vec*> norm.out, first * n)
    if total != NULL:
        total = at(total, first * n)
    if y == NULL and rows == 4:
        layer_norm_rows(4, x, <const vec*> NULL, n, gamma, beta, norm.eps, norm.form, total, out)
    elif y == NULL and rows == 2:
        layer_norm_rows(2, x, <const vec*> NULL, n, gamma, beta, norm.eps, norm.form, total, out)
    elif y == NULL:
        layer_norm_rows(1, x, <const vec*> NULL, n, gamma, beta, norm.eps, norm.form, total, out)
    elif rows == 4:
        layer_norm_rows(4, x, at(y, first * n), n, gamma, beta, norm.eps, norm.form, total, out)
    elif rows == 2:
        layer_norm_rows(2, x, at(y, first * n), n, gamma, beta, norm.eps, norm.form, total, out)
    else:
        layer_norm_rows(1, x, at(y, first * n), n, gamma, beta, norm.eps, norm.form, total, out)


cdef void layer_norm_task(const NormArguments* norm, Py_ssize_t task, vec* scratch) noexcept nogil:
    cdef Py_ssize_t first = task * norm.rows_per_task, end = min(norm.rows, first + norm.rows_per_task), at_once
    while first < end:
        at_once = 4 if row_vectors(scratch) <= 2 else 2 if row_vectors(scratch) <= 4 else 1  # chains that registers hold
        if out_of_cache(norm.rows, norm.width, scratch):
            at_once = 1
        while at_once > end - first:
            at_once //= 2
        layer_norm_some(norm, first, at_once, scratch)
        first += at_once


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
