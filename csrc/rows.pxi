"""Reductions along a row, in 16 lanes at every vector width, and the splitting of rows into tasks.

Lane l takes the numbers l, l + 16, l + 32, ... in order; the lanes are then added as a fixed
tree. So a sum has the same bits on AVX2, AVX-512 and NEON.
"""

cdef inline double add_lanes(const vec* sums) noexcept nogil:
    """The sum of 16 lanes, in the precision of `vec`."""
    if vec is vf:
        return sum_of_16_f(sums)
    else:
        return sum_of_16_d(sums)


cdef inline double mean_of_lanes(const vec* sums, Py_ssize_t n) noexcept nogil:
    """The sum of 16 lanes over n, rounded to the precision of `vec`."""
    if vec is vf:
        if n <= 1 << 24:  # a float: its quotient is that of the doubles, rounded
            return <float> add_lanes(sums) / <float> n
        return <float> (add_lanes(sums) / n)
    else:
        return add_lanes(sums) / n


cdef inline double largest_lane(const vec* values) noexcept nogil:
    """The largest of 16 lanes, none of them NaN."""
    if vec is vf:
        return largest_of_16_f(values)
    else:
        return largest_of_16_d(values)


cdef inline uint64_t larger_or_nan(const vec* x, double limit) noexcept nogil:
    """A bit for each number in 4 vectors that is above limit, or a NaN."""
    cdef vec most = constant(limit, x)
    cdef Py_ssize_t width = lanes(x)
    return (<uint64_t> not_at_most(load(x, 0), most) | <uint64_t> not_at_most(load(x, width), most) << width
            | <uint64_t> not_at_most(load(x, 2 * width), most) << 2 * width
            | <uint64_t> not_at_most(load(x, 3 * width), most) << 3 * width)


cdef inline uint64_t not_below(const vec* x, double limit) noexcept nogil:
    """A bit for each number in 4 vectors that is not below limit."""
    cdef vec least = constant(limit, x)
    cdef Py_ssize_t width = lanes(x)
    return (<uint64_t> not_less(load(x, 0), least) | <uint64_t> not_less(load(x, width), least) << width
            | <uint64_t> not_less(load(x, 2 * width), least) << 2 * width
            | <uint64_t> not_less(load(x, 3 * width), least) << 3 * width)


cdef inline uint64_t first_bits(Py_ssize_t n) noexcept nogil:
    """n of 1 to 64 bits."""
    return <uint64_t> -1 >> (64 - n)


cdef inline double rounded(double x, const vec* like) noexcept nogil:
    """x to the precision of `vec`."""
    if vec is vf:
        return <float> x
    else:
        return x


cdef inline double reciprocal(double x, const vec* like) noexcept nogil:
    if vec is vf:
        return <float> 1.0 / <float> x
    else:
        return 1.0 / x


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
