"""The kernels for C and Cython programs: the table of rtfast/include/rtfast.h, in a capsule.

The ops are those of arrays.pxi, and so are the bits. Arguments are checked here, as plain sizes and addresses; nothing
here takes the GIL or raises, so that any thread may call it.
"""

cdef extern from *:
    """
    #define RTFAST_ITSELF
    #include "rtfast.h"
    /* of an array: beyond what a machine has, and a few such do not overflow */
    #define MOST_BYTES 1125899906842624.0
    """
    const double MOST_BYTES
    enum:
        RTFAST_API_VERSION
        RTFAST_NO_MEMORY
        RTFAST_BAD_SIZE
        RTFAST_OVERLAP
        RTFAST_BAD_VALUE
    ctypedef struct rtfast_weight:
        Py_ssize_t d_in, d_out
        size_t itemsize
        const void* table
        void* panels
    ctypedef struct rtfast_kernels:
        int version
        size_t size
        int (*matmul_f)(const float*, const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                        float*) noexcept nogil
        int (*matmul_d)(const double*, const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                        double*) noexcept nogil
        int (*pack_f)(const float*, Py_ssize_t, Py_ssize_t, rtfast_weight**) noexcept nogil
        int (*pack_d)(const double*, Py_ssize_t, Py_ssize_t, rtfast_weight**) noexcept nogil
        void (*free_weight)(rtfast_weight*) noexcept nogil
        int (*linear_f)(const float*, const rtfast_weight*, const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, int,
                        float*) noexcept nogil
        int (*linear_d)(const double*, const rtfast_weight*, const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, int,
                        double*) noexcept nogil
        int (*softmax_f)(const float*, Py_ssize_t, Py_ssize_t, float*) noexcept nogil
        int (*softmax_d)(const double*, Py_ssize_t, Py_ssize_t, double*) noexcept nogil
        int (*layer_norm_f)(const float*, const float*, const float*, Py_ssize_t, Py_ssize_t, double, int,
                            float*) noexcept nogil
        int (*layer_norm_d)(const double*, const double*, const double*, Py_ssize_t, Py_ssize_t, double, int,
                            double*) noexcept nogil
        int (*add_layer_norm_f)(const float*, const float*, const float*, const float*, Py_ssize_t, Py_ssize_t, double,
                                int, float*) noexcept nogil
        int (*add_layer_norm_d)(const double*, const double*, const double*, const double*, Py_ssize_t, Py_ssize_t,
                                double, int, double*) noexcept nogil
        int (*attention_f)(const float*, const float*, const float*, const unsigned char*, Py_ssize_t, Py_ssize_t,
                           Py_ssize_t, Py_ssize_t, Py_ssize_t, int, double, float*) noexcept nogil
        int (*attention_d)(const double*, const double*, const double*, const unsigned char*, Py_ssize_t, Py_ssize_t,
                           Py_ssize_t, Py_ssize_t, Py_ssize_t, int, double, double*) noexcept nogil

from cpython.pycapsule cimport PyCapsule_New

ctypedef fused real:
    float
    double

# Checks -----------------------------------------------------------------------------------

cdef double bytes_of(Py_ssize_t a, Py_ssize_t b, Py_ssize_t c, size_t itemsize) noexcept nogil:
    """Bytes of an array (a, b, c), which may be too many for an integer; infinite where a size is negative."""
    if a < 0 or b < 0 or c < 0:
        return INFINITY
    return <double> a * <double> b * <double> c * itemsize


cdef int check_input(const void* start, double size, const void* out, double out_size) noexcept nogil:
    """0, or what is wrong with an input of that many bytes beside an output."""
    if size == 0:
        return 0
    if start == NULL:
        return RTFAST_BAD_VALUE
    if out_size > 0 and <size_t> out < <size_t> start + <size_t> size and (
            <size_t> start < <size_t> out + <size_t> out_size):
        return RTFAST_OVERLAP
    return 0


cdef int check_vector(const void* start, double size, const void* out, double out_size) noexcept nogil:
    """The same for an input that may be NULL."""
    return 0 if start == NULL else check_input(start, size, out, out_size)


# Running ----------------------------------------------------------------------------------

cdef int run_quietly(const Op* ops, Py_ssize_t n_ops, int wanted) noexcept nogil:
    """As run_ops, without exceptions, and nobody looks for signals."""
    cdef Run run
    if not prepare_run(&run, ops, n_ops, wanted):
        return RTFAST_NO_MEMORY
    run.last_look = INT64_MAX
    run_on_team(&run, wanted)
    release_memory(run.scratch)
    return 0


cdef int run_rows_quietly(Op* op, Py_ssize_t rows, SizeFunction size) noexcept nogil:
    return run_quietly(op, 1, size_rows(op, rows, size))


# The functions of the table, as rtfast.h describes them --------------------------------------

cdef int c_softmax(const real* x, Py_ssize_t rows, Py_ssize_t n, real* out) noexcept nogil:
    cdef double size = bytes_of(rows, n, 1, sizeof(real))
    cdef Op op
    cdef int code
    if size > MOST_BYTES:
        return RTFAST_BAD_SIZE
    code = check_input(x, size, out, 0 if out == x else size)
    if code != 0 or size == 0:
        return code
    if out == NULL:
        return RTFAST_BAD_VALUE
    op.arguments.row = RowArguments(x, NULL, out, 0, n, 0, IDENTITY)
    if real is float:
        return run_rows_quietly(&op, rows, <SizeFunction> (<void*> size_softmax[vf]))
    else:
        return run_rows_quietly(&op, rows, <SizeFunction> (<void*> size_softmax[vd]))


cdef int norm(const real* x, const real* y, const real* gamma, const real* beta, Py_ssize_t rows, Py_ssize_t d,
              double eps, int article, real* out) noexcept nogil:
    """Of x, or of x + y; y may be NULL."""
    cdef double size = bytes_of(rows, d, 1, sizeof(real)), width = bytes_of(d, 1, 1, sizeof(real))
    cdef Op op
    cdef int code
    if size > MOST_BYTES or width > MOST_BYTES:
        return RTFAST_BAD_SIZE
    if not 0 <= eps < INFINITY:
        return RTFAST_BAD_VALUE
    code = check_input(x, size, out, 0 if out == x else size)
    if code == 0:
        code = check_vector(y, size, out, size)
    if code == 0:
        code = check_vector(gamma, width, out, size)
    if code == 0:
        code = check_vector(beta, width, out, size)
    if code != 0 or size == 0:
        return code
    if out == NULL:
        return RTFAST_BAD_VALUE
    op.arguments.norm = NormArguments(
        x, y, gamma, beta, NULL, out, 0, d, 0, eps, ARTICLE if article else PAPER)
    if real is float:
        return run_rows_quietly(&op, rows, <SizeFunction> (<void*> size_layer_norm[vf]))
    else:
        return run_rows_quietly(&op, rows, <SizeFunction> (<void*> size_layer_norm[vd]))


cdef int c_layer_norm(const real* x, const real* gamma, const real* beta, Py_ssize_t rows, Py_ssize_t d,
                      double eps, int article, real* out) noexcept nogil:
    return norm(x, <const real*> NULL, gamma, beta, rows, d, eps, article, out)


cdef int c_add_layer_norm(const real* x, const real* y, const real* gamma, const real* beta, Py_ssize_t rows,
                          Py_ssize_t d, double eps, int article, real* out) noexcept nogil:
    if y == NULL and rows != 0 and d != 0:
        return RTFAST_BAD_VALUE
    return norm(x, y, gamma, beta, rows, d, eps, article, out)


cdef int fill_panels(const real* weight, Py_ssize_t d_in, Py_ssize_t d_out, void* panels) noexcept nogil:
    cdef Op op
    op.arguments.pack = PackArguments(weight, d_out, 1, d_in, d_out, panels)
    if real is float:
        size_pack(&op, <vf*> NULL)
    else:
        size_pack(&op, <vd*> NULL)
    return run_quietly(&op, 1, members_of_op(&op))


cdef void* panels_for(Py_ssize_t d_in, Py_ssize_t d_out, const real* like) noexcept nogil:
    """Room for a packed weight, or NULL."""
    if real is float:
        return take_large_memory(up_to(d_out, panel_width(<vf*> NULL)) * d_in * sizeof(float))
    else:
        return take_large_memory(up_to(d_out, panel_width(<vd*> NULL)) * d_in * sizeof(double))


cdef int c_pack(const real* weight, Py_ssize_t d_in, Py_ssize_t d_out, rtfast_weight** packed) noexcept nogil:
    cdef double size = bytes_of(d_in, d_out, 1, sizeof(real)), padded = bytes_of(d_in, MOST_PANEL, 1, sizeof(real))
    cdef rtfast_weight* made
    cdef int code
    if packed == NULL:
        return RTFAST_BAD_VALUE
    packed[0] = NULL
    if size > MOST_BYTES or padded > MOST_BYTES or d_out > MOST_BYTES:
        return RTFAST_BAD_SIZE
    if weight == NULL and size > 0:
        return RTFAST_BAD_VALUE
    made = <rtfast_weight*> take_memory(sizeof(rtfast_weight), False)
    if made == NULL:
        return RTFAST_NO_MEMORY
    made.table, made.d_in, made.d_out, made.itemsize = &c_table, d_in, d_out, sizeof(real)
    made.panels = panels_for(d_in, d_out, weight)
    code = RTFAST_NO_MEMORY if made.panels == NULL else fill_panels(weight, d_in, d_out, made.panels)
    if code != 0:
        c_free_weight(made)
        return code
    packed[0] = made
    return 0


cdef void c_free_weight(rtfast_weight* packed) noexcept nogil:
    if packed != NULL:
        release_memory(packed.panels)
        release_memory(packed)


cdef int c_linear(const real* x, const rtfast_weight* packed, const real* bias, Py_ssize_t rows, Py_ssize_t d_in,
                  Py_ssize_t d_out, int activation, real* out) noexcept nogil:
    cdef double x_size = bytes_of(rows, d_in, 1, sizeof(real)), size = bytes_of(rows, d_out, 1, sizeof(real))
    cdef Op op
    cdef int code
    if packed == NULL or packed.table != &c_table or packed.itemsize != sizeof(real):
        return RTFAST_BAD_VALUE
    if packed.d_in != d_in or packed.d_out != d_out or x_size > MOST_BYTES or size > MOST_BYTES:
        return RTFAST_BAD_SIZE
    if not IDENTITY <= activation <= SILU:
        return RTFAST_BAD_VALUE
    code = check_input(x, x_size, out, size)
    if code == 0:
        code = check_vector(bias, bytes_of(d_out, 1, 1, sizeof(real)), out, size)
    if code != 0 or size == 0:
        return code
    if out == NULL:
        return RTFAST_BAD_VALUE
    op.arguments.linear = LinearArguments(
        x, d_in, packed.panels, bias, out, d_out, rows, d_in, d_out, activation, 0, 0, 0, 0, 0)
    return run_quietly(&op, 1, size_linear_alone(&op, rows, real is float))


cdef int c_matmul(const real* a, const real* b, Py_ssize_t batch, Py_ssize_t m, Py_ssize_t k, Py_ssize_t n,
                  real* out) noexcept nogil:
    cdef double a_size = bytes_of(batch, m, k, sizeof(real)), b_size = bytes_of(batch, k, n, sizeof(real))
    cdef double size = bytes_of(batch, m, n, sizeof(real)), padded = bytes_of(k, MOST_PANEL, 1, sizeof(real))
    cdef Py_ssize_t i
    cdef void* panels
    cdef Op[2] ops
    cdef int code
    if a_size > MOST_BYTES or b_size > MOST_BYTES or size > MOST_BYTES or padded > MOST_BYTES:
        return RTFAST_BAD_SIZE
    code = check_input(a, a_size, out, size)
    if code == 0:
        code = check_input(b, b_size, out, size)
    if code != 0 or size == 0:
        return code
    if out == NULL:
        return RTFAST_BAD_VALUE
    if tasks_multiply(batch, m, k, n, sizeof(real)):
        ops[0].arguments.matmul = MatmulArguments(a, b, NULL, out, m, k, n, IDENTITY, 0, 0, 0, 0, 0, 0)
        if real is float:
            return run_rows_quietly(ops, batch, <SizeFunction> (<void*> size_matmul[vf]))
        else:
            return run_rows_quietly(ops, batch, <SizeFunction> (<void*> size_matmul[vd]))
    panels = panels_for(k, n, b)
    if panels == NULL:
        return RTFAST_NO_MEMORY
    for i in range(batch):
        code = run_quietly(ops, 2, size_packed_product(
            ops, a + i * m * k, b + i * k * n, panels, out + i * m * n, m, k, n, real is float))
        if code != 0:
            break
    release_memory(panels)
    return code


cdef int check_attention(const real* q, const real* k, const real* v, const unsigned char* mask, Py_ssize_t heads,
                         Py_ssize_t T, Py_ssize_t S, Py_ssize_t d_key, Py_ssize_t d_value,
                         const real* out) noexcept nogil:
    cdef double q_size = bytes_of(heads, T, d_key, sizeof(real)), k_size = bytes_of(heads, S, d_key, sizeof(real))
    cdef double v_size = bytes_of(heads, S, d_value, sizeof(real)), size = bytes_of(heads, T, d_value, sizeof(real))
    cdef double pairs = bytes_of(heads, T, S, sizeof(real)), keys = <double> S + MOST_PANEL
    cdef double scratch = keys * (<double> d_key + d_value + MOST_PANEL + QUERY_BLOCK + 1) * sizeof(real)
    cdef int code
    if (q_size > MOST_BYTES or k_size > MOST_BYTES or v_size > MOST_BYTES or size > MOST_BYTES or pairs > MOST_BYTES
            or scratch > MOST_BYTES or bytes_of(heads, T, 1, sizeof(real)) > MOST_BYTES):
        return RTFAST_BAD_SIZE
    code = check_input(q, q_size, out, size)
    if code == 0:
        code = check_input(k, k_size, out, size)
    if code == 0:
        code = check_input(v, v_size, out, size)
    if code == 0:
        code = check_vector(mask, bytes_of(heads, T, S, 1), out, size)
    return RTFAST_BAD_VALUE if code == 0 and out == NULL and size > 0 else code


cdef int c_attention(const real* q, const real* k, const real* v, const unsigned char* mask, Py_ssize_t heads,
                     Py_ssize_t T, Py_ssize_t S, Py_ssize_t d_key, Py_ssize_t d_value, int causal, double scale,
                     real* out) noexcept nogil:
    cdef int64_t* numbers
    cdef Cache cache
    cdef Op op
    cdef int code = check_attention(q, k, v, mask, heads, T, S, d_key, d_value, out)
    if code != 0 or heads == 0 or T == 0 or d_value == 0:
        return code
    numbers = <int64_t*> take_memory((3 * heads + 1) * sizeof(int64_t), False)
    if numbers == NULL:
        return RTFAST_NO_MEMORY
    set_plain_attention(&op, &cache, numbers, q, k, v, mask, causal != 0, scale, out, heads, T, S, d_key, d_value,
                        real is float)
    if real is float:
        code = run_rows_quietly(&op, heads * T, <SizeFunction> (<void*> size_attention[vf]))
    else:
        code = run_rows_quietly(&op, heads * T, <SizeFunction> (<void*> size_attention[vd]))
    release_memory(numbers)
    return code


cdef rtfast_kernels c_table = rtfast_kernels(
    RTFAST_API_VERSION, sizeof(rtfast_kernels),
    c_matmul[float], c_matmul[double], c_pack[float], c_pack[double], c_free_weight,
    c_linear[float], c_linear[double], c_softmax[float], c_softmax[double],
    c_layer_norm[float], c_layer_norm[double], c_add_layer_norm[float], c_add_layer_norm[double],
    c_attention[float], c_attention[double])

#: The capsule "rtfast.kernels.C_API", which rtfast/kernels.py hands on.
C_API = PyCapsule_New(&c_table, b"rtfast.kernels.C_API", NULL)
