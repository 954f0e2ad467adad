"""The vector type `vec` and its operations: simd.h seen from Cython.

`vec` is fused over the float and the double vector of the build. A `vec*` is the address of
plain numbers, aligned or not; every offset counts numbers, not vectors.
"""

cdef extern from "simd.h" nogil:
    # Cython takes the vectors for a float and a double: `a * b + c` is then vector arithmetic.
    ctypedef float vf
    ctypedef double vd
    enum: TILE_ROWS
    enum: MOST_SUMS
    enum: TILE_VECTORS
    enum: TILE_K
    enum: TURNED_ROWS
    enum: LANES_F
    enum: LANES_D
    enum: ROW_VECTORS_F
    enum: ROW_VECTORS_D
    void prefetch(const void* address)
    void prefetch_near(const void* address)
    void touch(const void* address)
    bint made_by_amd()
    int lowest_bit(uint64_t bits)
    const void* another(const void* p)
    Py_ssize_t hidden(Py_ssize_t n)
    vf fill_f(float x)
    vd fill_d(double x)
    vf splat_f(const vf* p, Py_ssize_t i)
    vd splat_d(const vd* p, Py_ssize_t i)
    vf load_f(const vf* p, Py_ssize_t i)
    vd load_d(const vd* p, Py_ssize_t i)
    void store_f(vf* p, Py_ssize_t i, vf v)
    void store_d(vd* p, Py_ssize_t i, vd v)
    float number_f(const vf* p, Py_ssize_t i)
    double number_d(const vd* p, Py_ssize_t i)
    void put_f(vf* p, Py_ssize_t i, float x)
    void put_d(vd* p, Py_ssize_t i, double x)
    vf load_some_f(const vf* p, Py_ssize_t i, Py_ssize_t n, vf otherwise)
    vd load_some_d(const vd* p, Py_ssize_t i, Py_ssize_t n, vd otherwise)
    void store_some_f(vf* p, Py_ssize_t i, Py_ssize_t n, vf v)
    void store_some_d(vd* p, Py_ssize_t i, Py_ssize_t n, vd v)
    void transpose_f(const vf* source, Py_ssize_t stride, vf* to, Py_ssize_t to_stride)
    void transpose_d(const vd* source, Py_ssize_t stride, vd* to, Py_ssize_t to_stride)
    void turn_f(const vf* source, Py_ssize_t stride, Py_ssize_t rows, vf* to)
    void turn_d(const vd* source, Py_ssize_t stride, Py_ssize_t rows, vd* to)
    vf gathered_f(const vf* p, Py_ssize_t i, Py_ssize_t stride)
    vd gathered_d(const vd* p, Py_ssize_t i, Py_ssize_t stride)
    vf fma_f(vf a, vf b, vf c)
    vd fma_d(vd a, vd b, vd c)
    vf added_product_f(vf sum, vf a, vf b)
    vd added_product_d(vd sum, vd a, vd b)
    vf larger_f(vf a, vf b)
    vd larger_d(vd a, vd b)
    vf smaller_f(vf a, vf b)
    vd smaller_d(vd a, vd b)
    unsigned not_less_f(vf a, vf b)
    unsigned not_less_d(vd a, vd b)
    unsigned not_at_most_f(vf a, vf b)
    unsigned not_at_most_d(vd a, vd b)
    vf if_less_f(vf a, vf b, vf yes, vf no)
    vd if_less_d(vd a, vd b, vd yes, vd no)
    vf with_sign_of_f(vf magnitude, vf sign)
    vd with_sign_of_d(vd magnitude, vd sign)
    float sum_of_16_f(const vf* p)
    double sum_of_16_d(const vd* p)
    float largest_of_16_f(const vf* p)
    double largest_of_16_d(const vd* p)
    vf scaled_f(vf x, vf n)
    vd scaled_d(vd x, vd n)

ctypedef fused vec:
    vf
    vd


cdef inline Py_ssize_t lanes(const vec* like) noexcept nogil:
    """Numbers in one vector."""
    if vec is vf:
        return LANES_F
    else:
        return LANES_D


cdef inline Py_ssize_t vectors(Py_ssize_t n, const vec* like) noexcept nogil:
    """Vectors that n numbers take, the last perhaps in part."""
    return (n + lanes(like) - 1) // lanes(like)


cdef inline int row_vectors(const vec* like) noexcept nogil:
    """Vectors that hold the 16 lanes of a row reduction."""
    if vec is vf:
        return ROW_VECTORS_F
    else:
        return ROW_VECTORS_D


cdef inline Py_ssize_t number_bytes(const vec* like) noexcept nogil:
    if vec is vf:
        return sizeof(float)
    else:
        return sizeof(double)


cdef inline vec* at(const vec* p, Py_ssize_t i) noexcept nogil:
    """The address of number i."""
    if vec is vf:
        return <vec*> (<float*> p + i)
    else:
        return <vec*> (<double*> p + i)


cdef inline vec constant(double x, const vec* like) noexcept nogil:
    if vec is vf:
        return fill_f(<float> x)
    else:
        return fill_d(x)


cdef inline vec splat(const vec* p, Py_ssize_t i) noexcept nogil:
    """Number i in every lane."""
    if vec is vf:
        return splat_f(p, i)
    else:
        return splat_d(p, i)


cdef inline vec load(const vec* p, Py_ssize_t i) noexcept nogil:
    if vec is vf:
        return load_f(p, i)
    else:
        return load_d(p, i)


cdef inline void store(vec* p, Py_ssize_t i, vec v) noexcept nogil:
    if vec is vf:
        store_f(p, i, v)
    else:
        store_d(p, i, v)


cdef inline vec load_some(const vec* p, Py_ssize_t i, Py_ssize_t n, vec otherwise) noexcept nogil:
    """The first n lanes from memory, the others from `otherwise`."""
    if vec is vf:
        return load_some_f(p, i, n, otherwise)
    else:
        return load_some_d(p, i, n, otherwise)


cdef inline void store_some(vec* p, Py_ssize_t i, Py_ssize_t n, vec v) noexcept nogil:
    if vec is vf:
        store_some_f(p, i, n, v)
    else:
        store_some_d(p, i, n, v)


cdef inline double number(const vec* p, Py_ssize_t i) noexcept nogil:
    if vec is vf:
        return number_f(p, i)
    else:
        return number_d(p, i)


cdef inline void put(vec* p, Py_ssize_t i, double x) noexcept nogil:
    """Store one number, rounded to the width of `vec`."""
    if vec is vf:
        put_f(p, i, <float> x)
    else:
        put_d(p, i, x)


cdef inline void transpose(const vec* source, Py_ssize_t stride, vec* to, Py_ssize_t to_stride) noexcept nogil:
    """16 bytes of as many rows as a vector has lanes, into rows of one vector each."""
    if vec is vf:
        transpose_f(source, stride, to, to_stride)
    else:
        transpose_d(source, stride, to, to_stride)


cdef inline void turn(const vec* source, Py_ssize_t stride, Py_ssize_t rows, vec* to) noexcept nogil:
    """16 bytes of each of TURNED_ROWS to TILE_ROWS rows into rows of `rows`; and of a vector past the last."""
    if vec is vf:
        turn_f(source, stride, rows, to)
    else:
        turn_d(source, stride, rows, to)


cdef inline vec gathered(const vec* p, Py_ssize_t i, Py_ssize_t stride) noexcept nogil:
    """Numbers i, i + stride, i + 2 stride, ..."""
    if vec is vf:
        return gathered_f(p, i, stride)
    else:
        return gathered_d(p, i, stride)


cdef inline vec fma(vec a, vec b, vec c) noexcept nogil:
    """a * b + c with one rounding (two on the baseline build)."""
    if vec is vf:
        return fma_f(a, b, c)
    else:
        return fma_d(a, b, c)


cdef inline vec added_product(vec sum, vec a, vec b) noexcept nogil:
    """sum + a * b: fma, for sums that stay in registers through a loop."""
    if vec is vf:
        return added_product_f(sum, a, b)
    else:
        return added_product_d(sum, a, b)


cdef inline vec larger(vec a, vec b) noexcept nogil:
    """a > b ? a : b; so the second where one is NaN."""
    if vec is vf:
        return larger_f(a, b)
    else:
        return larger_d(a, b)


cdef inline vec smaller(vec a, vec b) noexcept nogil:
    """a < b ? a : b; so the second where one is NaN."""
    if vec is vf:
        return smaller_f(a, b)
    else:
        return smaller_d(a, b)


cdef inline unsigned not_less(vec a, vec b) noexcept nogil:
    """A bit for every lane in which a < b does not hold: so also where one is NaN."""
    if vec is vf:
        return not_less_f(a, b)
    else:
        return not_less_d(a, b)


cdef inline unsigned not_at_most(vec a, vec b) noexcept nogil:
    """A bit for every lane in which a <= b does not hold: so also where one is NaN."""
    if vec is vf:
        return not_at_most_f(a, b)
    else:
        return not_at_most_d(a, b)


cdef inline vec if_less(vec a, vec b, vec yes, vec no) noexcept nogil:
    """a < b ? yes : no."""
    if vec is vf:
        return if_less_f(a, b, yes, no)
    else:
        return if_less_d(a, b, yes, no)


cdef inline vec with_sign_of(vec magnitude, vec sign) noexcept nogil:
    if vec is vf:
        return with_sign_of_f(magnitude, sign)
    else:
        return with_sign_of_d(magnitude, sign)


cdef inline vec scaled(vec x, vec n) noexcept nogil:
    """x * 2^n for whole n, rounded once; x near 1, or 0 where n may be far below the exponents of the type."""
    if vec is vf:
        return scaled_f(x, n)
    else:
        return scaled_d(x, n)
