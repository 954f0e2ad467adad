# cython: language_level=3, boundscheck=False
"""The kernels for Cython: `from rtfast cimport kernels`, and no Python between a call and its result.

Every function here may be called without the GIL, from several threads at once. It checks shapes, calls the table of
rtfast/include/rtfast.h, and gives the bits of its namesake in rtfast/kernels.py, whose docstrings hold; here arrays have
a fixed number of dimensions, lie in C order, and `out` may overlap no input, except that it may be x where the table
says so. What may be None is a typed memoryview set to None: `cdef const float[::1] no_bias = None`. Raises ValueError for a
wrong shape or value, MemoryError, and at the first call ImportError where no compiled backend runs.

The compiler needs `include_dirs=[rtfast.get_include()]`. The table itself is here too, for plain pointers.
"""

cdef extern from "rtfast.h" nogil:
    enum:
        RTFAST_API_VERSION
        RTFAST_NO_MEMORY
        RTFAST_BAD_SIZE
        RTFAST_OVERLAP
        RTFAST_BAD_VALUE
        IDENTITY "RTFAST_IDENTITY"
        RELU "RTFAST_RELU"
        GELU "RTFAST_GELU"
        GELU_TANH "RTFAST_GELU_TANH"
        SILU "RTFAST_SILU"

    # A packed weight: see `pack`.
    ctypedef struct Weight "rtfast_weight":
        Py_ssize_t d_in, d_out
        size_t itemsize

    ctypedef struct Table "rtfast_kernels":
        int version
        size_t size
        int (*matmul_f)(const float* a, const float* b, Py_ssize_t batch, Py_ssize_t m, Py_ssize_t k, Py_ssize_t n,
                        float* out) noexcept nogil
        int (*matmul_d)(const double* a, const double* b, Py_ssize_t batch, Py_ssize_t m, Py_ssize_t k, Py_ssize_t n,
                        double* out) noexcept nogil
        int (*pack_f)(const float* weight, Py_ssize_t d_in, Py_ssize_t d_out, Weight** packed) noexcept nogil
        int (*pack_d)(const double* weight, Py_ssize_t d_in, Py_ssize_t d_out, Weight** packed) noexcept nogil
        void (*free_weight)(Weight* packed) noexcept nogil
        int (*linear_f)(const float* x, const Weight* weight, const float* bias, Py_ssize_t rows, Py_ssize_t d_in,
                        Py_ssize_t d_out, int activation, float* out) noexcept nogil
        int (*linear_d)(const double* x, const Weight* weight, const double* bias, Py_ssize_t rows, Py_ssize_t d_in,
                        Py_ssize_t d_out, int activation, double* out) noexcept nogil
        int (*softmax_f)(const float* x, Py_ssize_t rows, Py_ssize_t n, float* out) noexcept nogil
        int (*softmax_d)(const double* x, Py_ssize_t rows, Py_ssize_t n, double* out) noexcept nogil
        int (*layer_norm_f)(const float* x, const float* gamma, const float* beta, Py_ssize_t rows, Py_ssize_t d,
                            double eps, int article, float* out) noexcept nogil
        int (*layer_norm_d)(const double* x, const double* gamma, const double* beta, Py_ssize_t rows, Py_ssize_t d,
                            double eps, int article, double* out) noexcept nogil
        int (*add_layer_norm_f)(const float* x, const float* y, const float* gamma, const float* beta,
                                Py_ssize_t rows, Py_ssize_t d, double eps, int article, float* out) noexcept nogil
        int (*add_layer_norm_d)(const double* x, const double* y, const double* gamma, const double* beta,
                                Py_ssize_t rows, Py_ssize_t d, double eps, int article, double* out) noexcept nogil
        int (*attention_f)(const float* q, const float* k, const float* v, const unsigned char* mask,
                           Py_ssize_t heads, Py_ssize_t T, Py_ssize_t S, Py_ssize_t d_key, Py_ssize_t d_value,
                           int causal, double scale, float* out) noexcept nogil
        int (*attention_d)(const double* q, const double* k, const double* v, const unsigned char* mask,
                           Py_ssize_t heads, Py_ssize_t T, Py_ssize_t S, Py_ssize_t d_key, Py_ssize_t d_value,
                           int causal, double scale, double* out) noexcept nogil

    # NULL until `table()` has been called.
    const Table* rtfast_api
    const char* rtfast_message(int code)
    int rtfast_import() except -1 with gil

ctypedef fused real:
    float
    double


cdef inline const Table* table() except NULL nogil:
    """The table of functions, looked up at the first call; ImportError where no compiled backend runs."""
    if rtfast_api == NULL:
        with gil:
            rtfast_import()
    return rtfast_api


cdef inline int check(const char* function, int code) except -1 nogil:
    """Raise what a code of the table means."""
    if code != 0:
        with gil:
            if code == RTFAST_NO_MEMORY:
                raise MemoryError(f"{function.decode()}: no room")
            raise ValueError(f"{function.decode()}: {rtfast_message(code).decode()}")
    return 0


cdef inline int refuse_shape(
    const char* function, const char* name, const char* meaning, const Py_ssize_t* shape, int n_axes,
    Py_ssize_t first, Py_ssize_t second, Py_ssize_t third,
) except -1 with gil:
    expected = (first, second, third)[:n_axes]
    got = (shape[0], shape[1] if n_axes > 1 else 0, shape[2] if n_axes > 2 else 0)[:n_axes]
    raise ValueError(f"{function.decode()}: {name.decode()} must have shape {meaning.decode()} = {expected}, got {got}")


cdef inline int check_shape(
    const char* function, const char* name, const char* meaning, const Py_ssize_t* shape, int n_axes,
    Py_ssize_t first, Py_ssize_t second, Py_ssize_t third,
) except -1 nogil:
    """Raise ValueError unless shape, of n_axes axes, is what its name means: (first,), (first, second) or all three."""
    if shape[0] != first or (n_axes > 1 and shape[1] != second) or (n_axes > 2 and shape[2] != third):
        return refuse_shape(function, name, meaning, shape, n_axes, first, second, third)
    return 0


cdef inline int check_vector(
    const char* function, const char* name, const char* meaning, const real[::1] vector, Py_ssize_t width,
) except -1 nogil:
    """The same for a vector (width,) or None."""
    return 0 if vector is None else check_shape(function, name, meaning, vector.shape, 1, width, 0, 0)


cdef inline const real* start(const real[::1] vector) noexcept nogil:
    """Where a vector lies; NULL for None."""
    if vector is None:
        return NULL
    return &vector[0]


cdef inline int matmul(const real[:, ::1] a, const real[:, ::1] b, real[:, ::1] out) except -1 nogil:
    """out (m, n) = a (m, k) @ b (k, n)."""
    cdef Py_ssize_t m = a.shape[0], k = a.shape[1], n = b.shape[1]
    check_shape("matmul", "b", "(a.shape[1], n)", b.shape, 2, k, n, 0)
    check_shape("matmul", "out", "(m, n)", out.shape, 2, m, n, 0)
    if real is float:
        return check("matmul", table().matmul_f(&a[0, 0], &b[0, 0], 1, m, k, n, &out[0, 0]))
    else:
        return check("matmul", table().matmul_d(&a[0, 0], &b[0, 0], 1, m, k, n, &out[0, 0]))


cdef inline Weight* pack(const real[:, ::1] weight) except NULL nogil:
    """A packed copy of weight (d_in, d_out), to be given to `free` in the end."""
    cdef Weight* packed = NULL
    if real is float:
        check("pack", table().pack_f(&weight[0, 0], weight.shape[0], weight.shape[1], &packed))
    else:
        check("pack", table().pack_d(&weight[0, 0], weight.shape[0], weight.shape[1], &packed))
    return packed


cdef inline void free(Weight* packed) noexcept nogil:
    """Give a packed weight back; NULL is fine."""
    if packed != NULL:
        table().free_weight(packed)


cdef inline int check_weight(const Weight* weight, Py_ssize_t d_in, size_t itemsize) except -1 nogil:
    cdef Py_ssize_t[2] shape
    if weight == NULL:
        with gil:
            raise ValueError("linear: weight is NULL")
    if weight.itemsize != itemsize:
        with gil:
            raise ValueError(f"linear: weight must hold numbers of {itemsize} bytes like x, got {weight.itemsize}")
    shape[0], shape[1] = weight.d_in, weight.d_out
    return check_shape("linear", "weight", "(x.shape[1], d_out)", shape, 2, d_in, weight.d_out, 0)


cdef inline int linear(
    const real[:, ::1] x, const Weight* weight, const real[::1] bias, int activation, real[:, ::1] out,
) except -1 nogil:
    """out (rows, d_out) = activation(x (rows, d_in) @ weight (d_in, d_out) + bias (d_out,)).

    bias may be None; activation: IDENTITY, RELU, GELU, GELU_TANH or SILU.
    """
    cdef Py_ssize_t rows = x.shape[0], d_in = x.shape[1]
    check_weight(weight, d_in, sizeof(real))
    check_vector("linear", "bias", "(d_out,)", bias, weight.d_out)
    check_shape("linear", "out", "(rows, d_out)", out.shape, 2, rows, weight.d_out, 0)
    if real is float:
        return check("linear", table().linear_f(
            &x[0, 0], weight, start(bias), rows, d_in, weight.d_out, activation, &out[0, 0]))
    else:
        return check("linear", table().linear_d(
            &x[0, 0], weight, start(bias), rows, d_in, weight.d_out, activation, &out[0, 0]))


cdef inline int softmax(const real[:, ::1] x, real[:, ::1] out) except -1 nogil:
    """out (rows, n) = softmax of each row of x (rows, n); out may be x."""
    check_shape("softmax", "out", "x.shape", out.shape, 2, x.shape[0], x.shape[1], 0)
    if real is float:
        return check("softmax", table().softmax_f(&x[0, 0], x.shape[0], x.shape[1], &out[0, 0]))
    else:
        return check("softmax", table().softmax_d(&x[0, 0], x.shape[0], x.shape[1], &out[0, 0]))


cdef inline int layer_norm(
    const real[:, ::1] x, const real[::1] gamma, const real[::1] beta, double eps, bint article, real[:, ::1] out,
) except -1 nogil:
    """out (rows, d) = layer norm of each row of x (rows, d); gamma and beta (d,) may be None; out may be x."""
    cdef Py_ssize_t rows = x.shape[0], d = x.shape[1]
    check_vector("layer_norm", "gamma", "(x.shape[1],)", gamma, d)
    check_vector("layer_norm", "beta", "(x.shape[1],)", beta, d)
    check_shape("layer_norm", "out", "x.shape", out.shape, 2, rows, d, 0)
    if real is float:
        return check("layer_norm", table().layer_norm_f(
            &x[0, 0], start(gamma), start(beta), rows, d, eps, article, &out[0, 0]))
    else:
        return check("layer_norm", table().layer_norm_d(
            &x[0, 0], start(gamma), start(beta), rows, d, eps, article, &out[0, 0]))


cdef inline int add_layer_norm(
    const real[:, ::1] x, const real[:, ::1] y, const real[::1] gamma, const real[::1] beta, double eps, bint article,
    real[:, ::1] out,
) except -1 nogil:
    """out (rows, d) = layer norm of each row of x + y; gamma and beta (d,) may be None; out may be x."""
    cdef Py_ssize_t rows = x.shape[0], d = x.shape[1]
    check_shape("add_layer_norm", "y", "x.shape", y.shape, 2, rows, d, 0)
    check_vector("add_layer_norm", "gamma", "(x.shape[1],)", gamma, d)
    check_vector("add_layer_norm", "beta", "(x.shape[1],)", beta, d)
    check_shape("add_layer_norm", "out", "x.shape", out.shape, 2, rows, d, 0)
    if real is float:
        return check("add_layer_norm", table().add_layer_norm_f(
            &x[0, 0], &y[0, 0], start(gamma), start(beta), rows, d, eps, article, &out[0, 0]))
    else:
        return check("add_layer_norm", table().add_layer_norm_d(
            &x[0, 0], &y[0, 0], start(gamma), start(beta), rows, d, eps, article, &out[0, 0]))


cdef inline int attention(
    const real[:, :, ::1] q, const real[:, :, ::1] k, const real[:, :, ::1] v, const unsigned char[:, :, ::1] mask,
    bint causal, double scale, real[:, :, ::1] out,
) except -1 nogil:
    """out (heads, T, d_value) = softmax(q (heads, T, d_key) k (heads, S, d_key)^T * scale) v (heads, S, d_value).

    heads: of all sentences. mask (heads, T, S): not 0 where a query may attend a key; or None. scale: usually
    1 / sqrt(d_key).
    """
    cdef Py_ssize_t heads = q.shape[0], T = q.shape[1], d_key = q.shape[2], S = k.shape[1], d_value = v.shape[2]
    cdef const unsigned char* allowed = NULL
    check_shape("attention", "k", "(heads, S, d_key)", k.shape, 3, heads, S, d_key)
    check_shape("attention", "v", "(heads, S, d_value)", v.shape, 3, heads, S, d_value)
    if mask is not None:
        check_shape("attention", "mask", "(heads, T, S)", mask.shape, 3, heads, T, S)
        allowed = &mask[0, 0, 0]
    check_shape("attention", "out", "(heads, T, d_value)", out.shape, 3, heads, T, d_value)
    if real is float:
        return check("attention", table().attention_f(
            &q[0, 0, 0], &k[0, 0, 0], &v[0, 0, 0], allowed, heads, T, S, d_key, d_value, causal, scale, &out[0, 0, 0]))
    else:
        return check("attention", table().attention_d(
            &q[0, 0, 0], &k[0, 0, 0], &v[0, 0, 0], allowed, heads, T, S, d_key, d_value, causal, scale, &out[0, 0, 0]))
