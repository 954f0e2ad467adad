"""What this core can do at best: the figures that benchmarks print beside the kernels'."""

def multiply_add_loop(Py_ssize_t iterations, bint is_float):
    """Run independent multiply-adds in registers; how many floating-point operations that was."""
    return fma_loop(iterations, <vf*> NULL) if is_float else fma_loop(iterations, <vd*> NULL)


cdef double fma_loop(Py_ssize_t iterations, const vec* like):
    cdef vec sums[10]
    cdef vec x = constant(0.999, like), y = constant(1e-3, like), total = constant(0.0, like)
    cdef double numbers[16]
    cdef Py_ssize_t i
    cdef int j
    for j in range(10):
        sums[j] = constant(j * 0.1, like)
    with nogil:
        for i in range(iterations):
            for j in range(10):
                sums[j] = fma(sums[j], x, y)
    for j in range(10):
        total = total + sums[j]
    store(<vec*> numbers, 0, total)  # used, so that the compiler keeps the loop
    return 2.0 * 10 * iterations * lanes(like) + 0.0 * number(<vec*> numbers, 0)


def read_loop(array):
    """Read an array once, as fast as the memory it lies in delivers; its bytes, of which less than 2 KB may be left.

    Eight places at a time: memory answers them sooner than one.
    """
    cdef vf sums[8]
    cdef vf* p = <vf*> address(array)
    cdef Py_ssize_t i = 0, part = array.nbytes // 4 // 8 // (4 * LANES_F) * (4 * LANES_F)
    cdef float numbers[16]
    cdef int j, line
    for j in range(8):
        sums[j] = constant(0.0, p)
    with nogil:
        while i < part:
            for j in range(8):
                for line in range(4):
                    sums[j] = larger(load(p, j * part + i + line * LANES_F), sums[j])
            i += 4 * LANES_F
    for j in range(1, 8):
        sums[0] = larger(sums[j], sums[0])
    store(<vf*> numbers, 0, sums[0])
    return 8 * part * 4 if numbers[0] == numbers[0] else 0
