"""Keys and values: how attention keeps them for its products.

A `Cache` holds those of some sequences, head by head: keys in panels of NR keys, (capacity / NR, d_key, NR),
which the products of matmul.pxi read as their right operand, values as they come, (capacity, d_value),
each row padded to whole panels of columns.
"""


cdef inline Py_ssize_t keys_numbers(Py_ssize_t capacity, Py_ssize_t d_key) noexcept nogil:
    """Numbers that the packed keys of one head take; capacity: a multiple of NR."""
    return capacity * d_key


cdef inline Py_ssize_t values_width(Py_ssize_t d_value, const vec* like) noexcept nogil:
    """Numbers from one value to the next in a cache."""
    return up_to(d_value, panel_width(like))


cdef void pack_keys(
    const vec* k, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t d_key, Py_ssize_t position, vec* keys,
) noexcept nogil:
    """n keys, `stride` apart, into packed keys from `position` on."""
    cdef Py_ssize_t nr = panel_width(k), width = lanes(k), step = 16 // number_bytes(k), i, t = 0
    cdef vec* column
    while t < n:
        column = at(keys, position // nr * d_key * nr + position % nr)
        if position % width == 0 and t + width <= n:
            i = 0
            while i + step <= d_key:
                transpose(at(k, t * stride + i), stride, at(column, i * nr), nr)
                i += step
            while i < d_key:
                store(column, i * nr, gathered(k, t * stride + i, stride))
                i += 1
            t += width
            position += width
        else:
            for i in range(d_key):
                put(column, i * nr, number(k, t * stride + i))
            t += 1
            position += 1


cdef void copy_values(
    const vec* v, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t d_value, vec* values,
) noexcept nogil:
    """n values, `stride` apart, into rows of a cache; what pads a row becomes 0."""
    cdef Py_ssize_t t, i, row = values_width(d_value, v), width = lanes(v)
    for t in range(n):
        i = 0
        while i < row:
            store(values, t * row + i, load_some(v, t * stride + i, d_value - i, constant(0.0, v)))
            i += width


cdef void store_task(const StoreArguments* put_in, Py_ssize_t task, vec* scratch) noexcept nogil:
    """The new keys and values of one head of one sequence into the cache."""
    cdef const Cache* cache = put_in.cache
    cdef Py_ssize_t sequence = task // cache.heads, head = task % cache.heads
    cdef Py_ssize_t first = put_in.starts[sequence], n_new = put_in.starts[sequence + 1] - first
    cdef Py_ssize_t slot = put_in.slots[sequence] * cache.heads + head
    cdef Py_ssize_t position = put_in.n_keys[sequence] - n_new, row = values_width(cache.d_value, scratch)
    pack_keys(at(<const vec*> put_in.k, first * put_in.k_stride + head * put_in.k_head_stride), put_in.k_stride,
              n_new, cache.d_key, position, at(<vec*> cache.keys, slot * keys_numbers(cache.capacity, cache.d_key)))
    copy_values(at(<const vec*> put_in.v, first * put_in.v_stride + head * put_in.v_head_stride), put_in.v_stride,
                n_new, cache.d_value, at(<vec*> cache.values, (slot * cache.capacity + position) * row))


cdef void size_store(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    cdef StoreArguments* put_in = &op.arguments.store
    op.n_tasks = put_in.n_sequences * put_in.cache.heads
    op.nanoseconds = rows * put_in.cache.heads * (put_in.cache.d_key + put_in.cache.d_value) // 8
    op.scratch_bytes = 0
    op.task = <TaskFunction> (<void*> store_task[vec])
