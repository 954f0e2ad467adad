"""Keys and values: how attention keeps them for its products.

A `Cache` holds those of some sequences, head by head. Keys that come all at once and are read by many queries, those of
the source, lie in panels of NR keys, (capacity / NR, d_key, NR), which the products of matmul.pxi read as their right
operand. Keys that come one at a time, and that each later query reads once, those of the target, lie in rows as they
come, (capacity, d_key): scores.pxi turns them on their way into registers. Values are rows too, (capacity, d_value),
each padded to whole panels of columns.
"""

cdef enum:
    SHORT_CACHE = 128                # keys: of a longer cache perhaps little is used, and huge pages take all of it


cdef inline Py_ssize_t keys_numbers(Py_ssize_t capacity, Py_ssize_t d_key) noexcept nogil:
    """Numbers that the packed keys of one head take; capacity: a multiple of NR."""
    return capacity * d_key


cdef inline Py_ssize_t values_width(Py_ssize_t d_value, const vec* like) noexcept nogil:
    """Numbers from one value to the next in a cache."""
    return up_to(d_value, panel_width(like))


cdef inline void pack_group(
    const vec* k, Py_ssize_t stride, Py_ssize_t d_key, vec* columns, Py_ssize_t row,
) noexcept nogil:
    """As many keys as a vector has lanes, `stride` apart, as columns of rows `row` apart."""
    cdef Py_ssize_t step = 16 // number_bytes(k), i = 0
    while i + step <= d_key:
        transpose(at(k, i), stride, at(columns, i * row), row)
        i += step
    while i < d_key:
        store(columns, i * row, gathered(k, i, stride))
        i += 1


cdef inline vec* column_of(const void* keys, Py_ssize_t position, Py_ssize_t d_key, const vec* like) noexcept nogil:
    """Where the key at `position` lies in packed keys; its numbers are NR apart."""
    cdef Py_ssize_t nr = panel_width(like)
    return at(<const vec*> keys, position // nr * d_key * nr + position % nr)


cdef void pack_keys(
    const vec* k, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t d_key, Py_ssize_t position, vec* keys,
) noexcept nogil:
    """n keys, `stride` apart, into packed keys from `position` on."""
    cdef Py_ssize_t nr = panel_width(k), width = lanes(k), i, t = 0
    cdef vec* column
    while t < n:
        column = column_of(keys, position, d_key, k)
        if position % width == 0 and t + width <= n:
            pack_group(at(k, t * stride), stride, d_key, column, nr)
            t += width
            position += width
        else:
            for i in range(d_key):
                put(column, i * nr, number(k, t * stride + i))
            t += 1
            position += 1


cdef void store_keys(
    const vec* k, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t position, const Cache* cache, Py_ssize_t place,
) noexcept nogil:
    """n keys, `stride` apart, into a place of the cache, a slot and head, from `position` on."""
    cdef Py_ssize_t d_key = cache.d_key, t
    cdef vec* keys = at(<vec*> cache.keys, place * keys_numbers(cache.capacity, d_key))
    if not cache.in_rows:
        pack_keys(k, stride, n, d_key, position, keys)
        return
    for t in range(n):
        memcpy(at(keys, (position + t) * d_key), at(k, t * stride), d_key * number_bytes(k))


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
    store_keys(at(<const vec*> put_in.k, first * put_in.k_stride + head * put_in.k_head_stride), put_in.k_stride,
               n_new, position, cache, slot)
    copy_values(at(<const vec*> put_in.v, first * put_in.v_stride + head * put_in.v_head_stride), put_in.v_stride,
                n_new, cache.d_value, at(<vec*> cache.values, (slot * cache.capacity + position) * row))


cdef void size_store(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    cdef StoreArguments* put_in = &op.arguments.store
    op.n_tasks = put_in.n_sequences * put_in.cache.heads
    op.nanoseconds = rows * put_in.cache.heads * (put_in.cache.d_key + put_in.cache.d_value) // 8
    op.scratch_bytes = 0
    op.task = <TaskFunction> (<void*> store_task[vec])


@cython.no_gc  # as LargeMemory: `large` has to be there in __dealloc__
cdef class CacheMemory:
    """The memory of one `Cache`; zeroed, so that no stray bits slow down or colour a product."""

    cdef Cache cache
    cdef LargeMemory large           # for what is large and will be used
    cdef void* small[2]              # the rest is malloc's
    cdef int n_small

    def __cinit__(self, spec, Py_ssize_t slots, Py_ssize_t length, bint is_float, LargeMemory large):
        cdef Py_ssize_t size = 4 if is_float else 8
        cdef Py_ssize_t nr = panel_width(<vf*> NULL) if is_float else panel_width(<vd*> NULL)
        cdef Py_ssize_t capacity = up_to(length, nr), places = slots * spec.heads
        cdef size_t keys = places * keys_numbers(capacity, spec.d_key) * size
        cdef size_t values = places * capacity * up_to(spec.d_value, nr) * size
        self.large = large
        self.cache = Cache(NULL, NULL, capacity, spec.heads, spec.d_key, spec.d_value, spec.role == "self")
        self.cache.keys = self.take(keys, capacity <= SHORT_CACHE)
        self.cache.values = self.take(values, capacity <= SHORT_CACHE)

    cdef void* take(self, size_t bytes, bint all_used) except NULL:
        if all_used and bytes > HUGE_PAGE // 2:
            return self.large.take(bytes)
        self.small[self.n_small] = allocate_zeroed(bytes)
        self.n_small += 1
        return self.small[self.n_small - 1]

    def __dealloc__(self):
        while self.n_small > 0:
            self.n_small -= 1
            release_memory(self.small[self.n_small])
