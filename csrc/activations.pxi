"""The activations of the feed-forward network (section 3.3), on rows of their own or with the bias of a product."""

cdef enum:
    IDENTITY = 0
    RELU = 1
    GELU = 2
    GELU_TANH = 3
    SILU = 4
    EXP = 5
    ERF = 6
    TANH = 7


cdef inline void sigmoid(int n, vec* x) noexcept nogil:
    """x = 1 / (1 + e^-x)."""
    cdef vec one = constant(1.0, x)
    cdef int i
    for i in range(n):
        x[i] = -x[i]
    exp_(n, x)
    for i in range(n):
        x[i] = one / (one + x[i])


cdef inline void activated(int n, vec* x, int activation) noexcept nogil:
    """x = activation(x), n vectors as in elementary.pxi; the codes are those of rtfast/activations.py."""
    cdef vec zero = constant(0.0, x), half = constant(0.5, x)
    cdef vec y[MOST_AT_ONCE]
    cdef int i
    if activation == RELU:
        for i in range(n):
            x[i] = larger(zero, x[i])  # in this order a NaN stays
    elif activation == GELU:  # x Phi(x)
        for i in range(n):
            y[i] = x[i] * constant(0.70710678118654752440, x)
        erf_(n, y)
        for i in range(n):
            x[i] = x[i] * fma(y[i], half, half)
    elif activation == GELU_TANH:  # (1 + tanh u) / 2 = sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)
        for i in range(n):
            y[i] = fma(x[i] * x[i] * x[i], constant(0.0713548162726002527220, x), x[i] * constant(1.59576912160573071176, x))
        sigmoid(n, y)
        for i in range(n):
            x[i] = x[i] * y[i]
    elif activation == SILU:
        for i in range(n):
            y[i] = x[i]
        sigmoid(n, y)
        for i in range(n):
            x[i] = x[i] * y[i]
    elif activation == EXP:
        exp_(n, x)
    elif activation == ERF:
        erf_(n, x)
    elif activation == TANH:
        tanh_(n, x)


cdef inline void activate_all(
    const vec* x, Py_ssize_t x_stride, Py_ssize_t rows, Py_ssize_t n, const vec* bias, int activation,
    vec* out, Py_ssize_t out_stride,
) noexcept nogil:
    """out (rows, n) = activation(x + bias), the activation a constant; bias (n,) or NULL. out may be x."""
    cdef Py_ssize_t i, r, width = lanes(x)
    cdef int j
    cdef vec y[MOST_AT_ONCE]
    cdef vec zero = constant(0.0, x)
    for r in range(rows):
        i = 0
        while i + MOST_AT_ONCE * width <= n:
            for j in range(MOST_AT_ONCE):
                y[j] = load(x, i + j * width)
            if bias != NULL:
                for j in range(MOST_AT_ONCE):
                    y[j] = y[j] + load(bias, i + j * width)
            activated(MOST_AT_ONCE, y, activation)
            for j in range(MOST_AT_ONCE):
                store(out, i + j * width, y[j])
            i += MOST_AT_ONCE * width
        while i < n:
            y[0] = load_some(x, i, n - i, zero)
            if bias != NULL:
                y[0] = y[0] + load_some(bias, i, n - i, zero)
            activated(1, y, activation)
            store_some(out, i, n - i, y[0])
            i += width
        x, out = at(x, x_stride), at(out, out_stride)


cdef void activate_rows(
    const vec* x, Py_ssize_t x_stride, Py_ssize_t rows, Py_ssize_t n, const vec* bias, int activation,
    vec* out, Py_ssize_t out_stride,
) noexcept nogil:
    """`activate_all` for an activation known only now."""
    if activation == RELU:
        activate_all(x, x_stride, rows, n, bias, RELU, out, out_stride)
    elif activation == GELU:
        activate_all(x, x_stride, rows, n, bias, GELU, out, out_stride)
    elif activation == GELU_TANH:
        activate_all(x, x_stride, rows, n, bias, GELU_TANH, out, out_stride)
    elif activation == SILU:
        activate_all(x, x_stride, rows, n, bias, SILU, out, out_stride)
    elif activation == EXP:
        activate_all(x, x_stride, rows, n, bias, EXP, out, out_stride)
    elif activation == ERF:
        activate_all(x, x_stride, rows, n, bias, ERF, out, out_stride)
    elif activation == TANH:
        activate_all(x, x_stride, rows, n, bias, TANH, out, out_stride)
    else:
        activate_all(x, x_stride, rows, n, bias, IDENTITY, out, out_stride)


cdef void activate_task(const RowArguments* row, Py_ssize_t task, vec* scratch) noexcept nogil:
    cdef Py_ssize_t first = task * row.rows_per_task * row.width
    cdef Py_ssize_t n = min(row.rows * row.width - first, row.rows_per_task * row.width)
    activate_rows(at(<const vec*> row.x, first), 0, 1, n, NULL, row.activation, at(<vec*> row.out, first), 0)


cdef void size_activate(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    cdef RowArguments* row = &op.arguments.row
    row.rows = rows
    split_rows(op, rows, row.width, threads, &row.rows_per_task, 800)
    op.task = <TaskFunction> (<void*> activate_task[vec])


cdef void gate_task(const RowArguments* row, Py_ssize_t task, vec* scratch) noexcept nogil:
    """out (rows, width) = activation(left half of x) * right half, x (rows, 2 * width)."""
    cdef Py_ssize_t r, i, n = row.width, width = lanes(scratch), first = task * row.rows_per_task
    cdef vec zero = constant(0.0, scratch)
    cdef const vec* x
    cdef vec* out
    for r in range(first, min(row.rows, first + row.rows_per_task)):
        x, out = at(<const vec*> row.x, 2 * r * n), at(<vec*> row.out, r * n)
        activate_rows(x, 0, 1, n, NULL, row.activation, out, 0)
        i = 0
        while i < n:
            store_some(out, i, n - i, load_some(out, i, n - i, zero) * load_some(x, n + i, n - i, zero))
            i += width


cdef void size_gate(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    cdef RowArguments* row = &op.arguments.row
    row.rows = rows
    split_rows(op, rows, 2 * row.width, threads, &row.rows_per_task, 500)
    op.task = <TaskFunction> (<void*> gate_task[vec])
