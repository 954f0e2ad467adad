"""Calls with plain arrays, without a detour: the common case of rtfast/kernels.py, checked here.

Each function takes the arguments of its namesake in rtfast/kernels.py. Where all of them are of the
plain kind (ndarrays of one floating type, C-contiguous and aligned, of fitting shapes, `out` apart
from the inputs) it computes and returns the result. Otherwise it returns None and has done nothing:
rtfast/arguments.py then looks closer, converts, or says what is wrong.
"""

from numpy import empty as new_array
from numpy import ndarray

cdef enum:
    MOST_OPERANDS = 6

# The arrays of one call.
cdef struct Operands:
    Py_buffer[MOST_OPERANDS] views
    int n                            # views held
    Py_ssize_t itemsize              # 4 or 8: all are alike; 0 before the first


cdef int take(Operands* operands, object array, bint written) except -1:
    """Hold a view of the array; whether it is of the plain kind."""
    cdef Py_buffer* view = &operands.views[operands.n]
    if type(array) is not ndarray:
        return 0
    try:
        PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (PyBUF_WRITABLE if written else 0))
    except (ValueError, BufferError):
        return 0
    operands.n += 1
    if (view.format[0] != c"f" and view.format[0] != c"d") or view.format[1] != 0:
        return 0
    if view.ndim == 0 or view.len == 0 or <size_t> view.buf % view.itemsize != 0:
        return 0
    if operands.itemsize == 0:
        operands.itemsize = view.itemsize
    return operands.itemsize == view.itemsize


cdef int take_vector(Operands* operands, object array, Py_ssize_t width) except -1:
    """The same for an optional array (width,)."""
    cdef Py_buffer* view = &operands.views[operands.n]
    if array is None:
        return 1
    return take(operands, array, False) and view.ndim == 1 and view.shape[0] == width


cdef void give_back(Operands* operands) noexcept:
    while operands.n > 0:
        operands.n -= 1
        PyBuffer_Release(&operands.views[operands.n])


cdef bint apart(const Operands* operands, bint may_be_first):
    """Whether the last view overlaps none of the others; may_be_first: it may be the first one exactly."""
    cdef const Py_buffer* out = &operands.views[operands.n - 1]
    cdef const Py_buffer* other
    cdef int i
    for i in range(operands.n - 1):
        other = &operands.views[i]
        if i == 0 and may_be_first and out.buf == other.buf:
            continue
        if <char*> out.buf < <char*> other.buf + other.len and <char*> other.buf < <char*> out.buf + out.len:
            return False
    return True


cdef bint same_shape(const Py_buffer* one, const Py_buffer* other, int axes):
    """Whether the first `axes` axes are alike."""
    return memcmp(one.shape, other.shape, axes * sizeof(Py_ssize_t)) == 0


cdef Py_ssize_t last(const Py_buffer* view):
    return view.shape[view.ndim - 1]


cdef object like_first(Operands* operands, object x, object out):
    """Take `out`, or a new array of x's shape: x is the first operand. None if `out` does not fit."""
    if out is None:
        out = new_array(x.shape, x.dtype)
    if (take(operands, out, True) and operands.views[operands.n - 1].ndim == operands.views[0].ndim
            and same_shape(&operands.views[0], &operands.views[operands.n - 1], operands.views[0].ndim)):
        return out
    return None


def softmax_directly(x, out):
    cdef Operands operands
    cdef Op op
    operands.n = operands.itemsize = 0
    try:
        if not take(&operands, x, False):
            return None
        out = like_first(&operands, x, out)
        if out is None or not apart(&operands, True):
            return None
        op.arguments.row = RowArguments(operands.views[0].buf, NULL, operands.views[1].buf, 0,
                                        last(&operands.views[0]), 0, IDENTITY)
        run_rows(&op, operands.views[0].len // operands.itemsize // last(&operands.views[0]),
                 <SizeFunction> (<void*> size_softmax[vf] if operands.itemsize == 4 else <void*> size_softmax[vd]))
        return out
    finally:
        give_back(&operands)


def layer_norm_directly(x, y, gamma, beta, eps, article, out):
    """y: what to add to x first, or None."""
    cdef Operands operands
    cdef Op op
    cdef Py_ssize_t width
    operands.n = operands.itemsize = 0
    if type(eps) is not float or not 0 <= eps < INFINITY or type(article) is not bool:
        return None
    try:
        if not take(&operands, x, False):
            return None
        width = last(&operands.views[0])
        if y is not None:
            if not (take(&operands, y, False) and operands.views[1].ndim == operands.views[0].ndim
                    and same_shape(&operands.views[0], &operands.views[1], operands.views[0].ndim)):
                return None
        op.arguments.norm = NormArguments(operands.views[0].buf, NULL, NULL, NULL, NULL, NULL, 0, width, 0, eps, article)
        if y is not None:
            op.arguments.norm.y = operands.views[1].buf
        if not take_vector(&operands, gamma, width):
            return None
        if gamma is not None:
            op.arguments.norm.gamma = operands.views[operands.n - 1].buf
        if not take_vector(&operands, beta, width):
            return None
        if beta is not None:
            op.arguments.norm.beta = operands.views[operands.n - 1].buf
        out = like_first(&operands, x, out)
        if out is None or not apart(&operands, True):
            return None
        op.arguments.norm.out = operands.views[operands.n - 1].buf
        run_rows(&op, operands.views[0].len // operands.itemsize // width, <SizeFunction> (
            <void*> size_layer_norm[vf] if operands.itemsize == 4 else <void*> size_layer_norm[vd]))
        return out
    finally:
        give_back(&operands)


def linear_directly(x, weight, bias, int activation, out):
    """weight: packed for this build. activation: its code."""
    cdef Operands operands
    cdef Op op
    cdef PackedWeight packed
    cdef Py_buffer* to
    cdef Py_ssize_t rows
    operands.n = operands.itemsize = 0
    if type(weight) is not PackedWeight:
        return None
    packed = weight
    try:
        if not (take(&operands, x, False) and last(&operands.views[0]) == packed.d_in and packed.d_out > 0
                and operands.itemsize == (4 if packed.is_float else 8) and take_vector(&operands, bias, packed.d_out)):
            return None
        if out is None:
            out = new_array((*x.shape[:x.ndim - 1], packed.d_out), x.dtype)
        if not take(&operands, out, True):
            return None
        to = &operands.views[operands.n - 1]
        if not (to.ndim == operands.views[0].ndim and same_shape(to, &operands.views[0], to.ndim - 1)
                and last(to) == packed.d_out and apart(&operands, False)):
            return None
        rows = to.len // operands.itemsize // packed.d_out
        op.arguments.linear = LinearArguments(
            operands.views[0].buf, packed.d_in, packed.panels, NULL, to.buf, packed.d_out, rows, packed.d_in,
            packed.d_out, activation, 0, 0, 0, 0, 0)
        if bias is not None:
            op.arguments.linear.bias = operands.views[1].buf
        run_linear(&op, rows, packed.is_float)
        return out
    finally:
        give_back(&operands)


def matmul_directly(a, b, out):
    """Both plain: (..., m, k) @ (k, n), or with equal leading axes."""
    cdef Operands operands
    cdef Py_buffer* left = &operands.views[0]
    cdef Py_buffer* right = &operands.views[1]
    cdef Py_buffer* to = &operands.views[2]
    cdef Py_ssize_t m, k, n, batch = 1
    cdef int axis
    operands.n = operands.itemsize = 0
    try:
        if not (take(&operands, a, False) and take(&operands, b, False) and left.ndim >= 2 and right.ndim >= 2):
            return None
        m, k, n = left.shape[left.ndim - 2], last(left), last(right)
        if right.shape[right.ndim - 2] != k:
            return None
        if right.ndim > 2 and not (right.ndim == left.ndim and same_shape(left, right, left.ndim - 2)):
            return None
        if out is None:
            out = new_array((*a.shape[:left.ndim - 1], n), a.dtype)
        if not (take(&operands, out, True) and to.ndim == left.ndim and same_shape(to, left, left.ndim - 1)
                and last(to) == n and apart(&operands, False)):
            return None
        for axis in range(left.ndim - 2):
            batch *= left.shape[axis]
        if right.ndim == 2:
            m, batch = m * batch, 1
        multiply(<char*> left.buf, <char*> right.buf, <char*> to.buf, batch, m, k, n, a.dtype)
        return out
    finally:
        give_back(&operands)


def attention_directly(q, k, v, bint causal, scale):
    """Without a mask."""
    cdef Operands operands
    cdef Py_buffer* first = &operands.views[0]
    cdef Py_buffer* second = &operands.views[1]
    cdef Py_buffer* third = &operands.views[2]
    cdef Py_ssize_t target, source, d_key, d_value, batch = 1
    cdef int axis
    operands.n = operands.itemsize = 0
    if scale is not None and type(scale) is not float:
        return None
    try:
        if not (take(&operands, q, False) and take(&operands, k, False) and take(&operands, v, False)):
            return None
        if not (first.ndim >= 2 and second.ndim == first.ndim and third.ndim == first.ndim
                and same_shape(first, second, first.ndim - 2) and last(first) == last(second)
                and same_shape(second, third, first.ndim - 1)):
            return None
        target, d_key, source, d_value = first.shape[first.ndim - 2], last(first), second.shape[first.ndim - 2], last(third)
        for axis in range(first.ndim - 2):
            batch *= first.shape[axis]
        out = new_array((*q.shape[:q.ndim - 1], d_value), q.dtype)
        if not take(&operands, out, True):
            return None
        attend(first.buf, second.buf, third.buf, NULL, causal, 1 / sqrt(d_key) if scale is None else scale,
               operands.views[3].buf, NULL, NULL, NULL, False, batch, target, source, d_key, d_value,
               operands.itemsize == 4)
        return out
    finally:
        give_back(&operands)
