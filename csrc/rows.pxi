"""Reductions along a row, in 16 lanes at every vector width, and the splitting of rows into tasks.

Lane l takes the numbers l, l + 16, l + 32, ... in order; the lanes are then added as a fixed
tree. So a sum has the same bits on AVX2, AVX-512 and NEON.
"""

cdef inline double add_lanes(vec* sums, const vec* like) noexcept nogil:
    """The sum of 16 lanes, in the precision of `vec`."""
    cdef float f[16]
    cdef double d[16]
    cdef int i, j
    if vec is vf:
        for j in range(ROW_VECTORS_F):
            store(<vec*> f, j * LANES_F, sums[j])
        for i in range(8):
            f[i] = f[i] + f[i + 8]
        for i in range(4):
            f[i] = f[i] + f[i + 4]
        return (f[0] + f[2]) + (f[1] + f[3])
    else:
        for j in range(ROW_VECTORS_D):
            store(<vec*> d, j * LANES_D, sums[j])
        for i in range(8):
            d[i] = d[i] + d[i + 8]
        for i in range(4):
            d[i] = d[i] + d[i + 4]
        return (d[0] + d[2]) + (d[1] + d[3])


cdef inline double largest_lane(vec* values, const vec* like) noexcept nogil:
    """The largest of 16 lanes, none of them NaN."""
    cdef float f[16]
    cdef double d[16]
    cdef int i, j
    if vec is vf:
        for j in range(ROW_VECTORS_F):
            store(<vec*> f, j * LANES_F, values[j])
        for i in range(8):
            f[i] = f[i] if f[i] > f[i + 8] else f[i + 8]
        for i in range(4):
            f[i] = f[i] if f[i] > f[i + 4] else f[i + 4]
        for i in range(1, 4):
            f[0] = f[i] if f[i] > f[0] else f[0]
        return f[0]
    else:
        for j in range(ROW_VECTORS_D):
            store(<vec*> d, j * LANES_D, values[j])
        for i in range(8):
            d[i] = d[i] if d[i] > d[i + 8] else d[i + 8]
        for i in range(4):
            d[i] = d[i] if d[i] > d[i + 4] else d[i + 4]
        for i in range(1, 4):
            d[0] = d[i] if d[i] > d[0] else d[0]
        return d[0]


cdef inline bint any_larger_or_nan(const vec* x, double limit) noexcept nogil:
    """Whether one of 4 vectors holds a number above limit, or a NaN."""
    cdef vec most = constant(limit, x)
    cdef Py_ssize_t width = lanes(x)
    return (not_at_most(load(x, 0), most) | not_at_most(load(x, width), most)
            | not_at_most(load(x, 2 * width), most) | not_at_most(load(x, 3 * width), most)) != 0


cdef inline bint any_not_below(const vec* x, double limit) noexcept nogil:
    """Whether one of 4 vectors holds a number that is not below limit."""
    cdef vec least = constant(limit, x)
    cdef Py_ssize_t width = lanes(x)
    return (not_less(load(x, 0), least) | not_less(load(x, width), least)
            | not_less(load(x, 2 * width), least) | not_less(load(x, 3 * width), least)) != 0


cdef inline double rounded(double x, const vec* like) noexcept nogil:
    """x to the precision of `vec`."""
    if vec is vf:
        return <float> x
    else:
        return x


cdef inline Py_ssize_t rows_per_task(Py_ssize_t rows, Py_ssize_t width, int threads) noexcept nogil:
    """Enough rows that a task is worth its claim, few enough that every thread finds some, and that a
    task ends soon: between tasks a run can be interrupted."""
    cdef Py_ssize_t worthwhile = 4096 // (width + 1) + 1, soon = max(<Py_ssize_t> 4, (1 << 22) // (width + 1))
    if threads == 1:
        return max(<Py_ssize_t> 1, min(rows, soon))
    return min(soon, max(worthwhile, (rows + 4 * threads - 1) // (4 * threads)))


cdef inline Py_ssize_t split_rows(Op* op, Py_ssize_t rows, Py_ssize_t width, int threads,
                                  Py_ssize_t* per_task, int64_t picoseconds_per_number) noexcept nogil:
    """Set the number of tasks and the estimate of an op that works row by row."""
    per_task[0] = rows_per_task(rows, width, threads)
    op.n_tasks = (rows + per_task[0] - 1) // per_task[0]
    op.nanoseconds = rows * width * picoseconds_per_number // 1000
    op.scratch_bytes = 0
    return op.n_tasks


cdef inline bint out_of_cache(Py_ssize_t rows, Py_ssize_t width, const vec* like) noexcept nogil:
    """Whether so many numbers come from memory, which reads one row after the other fastest."""
    return <double> rows * width * number_bytes(like) > (8 << 20)
