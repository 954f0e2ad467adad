"""Attention (section 3.2): softmax(q k^T * scale) v, head by head, O(length) memory.

Keys and values lie in a `Cache`, packed for the products of matmul.pxi: keys in panels of NR
keys, (capacity / NR, d_key, NR), values as (panels of d_value, capacity, NR). New tokens are
stored into it first, so that the encoder, the decoder's growing cache and cross-attention are
one code. A task is one block of queries of one head of one sequence.
"""

cdef enum:
    QUERY_BLOCK = 2 * TILE_ROWS


cdef inline Py_ssize_t keys_numbers(const Cache* cache) noexcept nogil:
    """Numbers that the keys of one head take in a cache."""
    return cache.capacity * cache.d_key


cdef inline Py_ssize_t values_numbers(const Cache* cache, const vec* like) noexcept nogil:
    """Numbers that the values of one head take in a cache."""
    return cache.capacity * up_to(cache.d_value, panel_width(like))


cdef void store_task(const StoreArguments* put_in, Py_ssize_t task, vec* scratch) noexcept nogil:
    """The new keys and values of one head of one sequence into the cache."""
    cdef const Cache* cache = put_in.cache
    cdef Py_ssize_t nr = panel_width(scratch), width = lanes(scratch)
    cdef Py_ssize_t sequence = task // cache.heads, head = task % cache.heads
    cdef Py_ssize_t first = put_in.starts[sequence], n_new = put_in.starts[sequence + 1] - first
    cdef Py_ssize_t slot = put_in.slots[sequence] * cache.heads + head
    cdef Py_ssize_t t, i, j, piece, position = put_in.n_keys[sequence] - n_new
    cdef vec* keys = at(<vec*> cache.keys, slot * keys_numbers(cache))
    cdef vec* values = at(<vec*> cache.values, slot * values_numbers(cache, scratch))
    cdef const vec* source
    cdef vec* column
    for t in range(n_new):
        source = at(<const vec*> put_in.k, (first + t) * put_in.k_stride + head * put_in.k_head_stride)
        column = at(keys, position // nr * cache.d_key * nr + position % nr)
        for i in range(cache.d_key):
            put(column, i * nr, number(source, i))
        source = at(<const vec*> put_in.v, (first + t) * put_in.v_stride + head * put_in.v_head_stride)
        for piece in range(vectors(cache.d_value, scratch)):
            i = piece * width
            j = i // nr * nr  # the panel that column i lies in
            store_some(values, j * cache.capacity + position * nr + i - j, cache.d_value - i,
                       load_some(source, i, cache.d_value - i, constant(0.0, scratch)))
        position += 1


cdef void size_store(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    cdef StoreArguments* put_in = &op.arguments.store
    op.n_tasks = put_in.n_sequences * put_in.cache.heads
    op.nanoseconds = rows * put_in.cache.heads * (put_in.cache.d_key + put_in.cache.d_value // 4)
    op.scratch_bytes = 0
    op.task = <TaskFunction> (<void*> store_task[vec])


cdef void attend_masked(
    const vec* weights, const unsigned char* mask, Py_ssize_t n_keys, const vec* values, const Cache* cache, vec* out,
) noexcept nogil:
    """out = weights @ values for one query over the keys that its mask lets through.

    A masked value is left out, not multiplied by zero: it may be NaN.
    """
    cdef Py_ssize_t nr = panel_width(out), width = lanes(out), i, j, k, piece
    cdef vec chunk, total
    cdef bint first
    for piece in range(vectors(cache.d_value, out)):
        i = piece * width
        j = i // nr * nr
        total = constant(0.0, out)
        chunk = constant(0.0, out)
        first = True
        for k in range(n_keys):
            if k > 0 and k % CHUNK == 0:
                total = chunk if first else total + chunk
                first = False
                chunk = constant(0.0, out)
            if mask[k]:
                chunk = fma(splat(weights, k), load(values, j * cache.capacity + k * nr + i - j), chunk)
        store_some(out, i, cache.d_value - i, chunk if first else total + chunk)


cdef Py_ssize_t softmax_masked(vec* x, const unsigned char* mask, Py_ssize_t n, bint article, vec* dense) noexcept nogil:
    """Softmax over the numbers that the mask lets through, zero elsewhere; how many there are."""
    cdef Py_ssize_t k, m = 0
    for k in range(n):
        if mask[k]:
            put(dense, m, number(x, k))
            m += 1
    if m > 0:
        softmax_some(1, dense, 0, m, 1.0, not article, dense)
    m = 0
    for k in range(n):
        if mask[k]:
            put(x, k, number(dense, m))
            m += 1
        else:
            put(x, k, 0.0)
    return m


cdef inline Py_ssize_t visible(const AttentionArguments* attention, Py_ssize_t t, Py_ssize_t length,
                               Py_ssize_t n_keys) noexcept nogil:
    """How many keys query t sees: the last query of a causal row sees the last key."""
    if not attention.causal:
        return n_keys
    return max(<Py_ssize_t> 0, n_keys - length + t + 1)


cdef void trace_scores(
    const AttentionArguments* attention, void* taken, Py_ssize_t row, const vec* x, Py_ssize_t n, Py_ssize_t n_keys,
) noexcept nogil:
    """Copy a row of scores or weights to where a trace wants it; zeros where nothing was attended."""
    cdef vec* to = at(<vec*> taken, row * attention.most_keys)
    memcpy(to, x, n * number_bytes(x))
    memset(at(to, n), 0, (n_keys - n) * number_bytes(x))


cdef void weigh_scores(
    const AttentionArguments* attention, Py_ssize_t row, vec* x, Py_ssize_t n, Py_ssize_t n_keys, vec* dense,
) noexcept nogil:
    """One row of scores into weights, in place, over its n visible keys."""
    cdef const unsigned char* mask = NULL
    if attention.mask != NULL:
        mask = attention.mask + row * attention.most_keys
    if attention.scores != NULL:
        trace_scores(attention, attention.scores, row, x, n_keys, n_keys)
    if mask == NULL and attention.scaled_scores == NULL and attention.scale > 0:
        softmax_some(1, x, 0, n, attention.scale, not attention.article, x)
    else:
        scale_row(x, n_keys if attention.scaled_scores != NULL else n, attention.scale, x)
        if attention.scaled_scores != NULL:
            trace_scores(attention, attention.scaled_scores, row, x, n_keys, n_keys)
        if mask != NULL:
            softmax_masked(x, mask, n, attention.article, dense)
        elif n > 0:
            softmax_some(1, x, 0, n, 1.0, not attention.article, x)
    if attention.weights != NULL:
        trace_scores(attention, attention.weights, row, x, n, n_keys)


cdef void weigh_values(
    const vec* weights, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t tail, const vec* values,
    const Cache* cache, vec* out, Py_ssize_t out_stride, vec* scratch,
) noexcept nogil:
    """out (rows, d_value) = weights @ values; row r over n + min(r, tail) keys, all ending in one chunk."""
    cdef Py_ssize_t nr = panel_width(out), k = 0, chunk, stairs
    cdef vec* edge = scratch
    cdef vec* copy = at(scratch, TILE_ROWS * nr)
    while k < n:
        chunk = min(CHUNK, n - k)
        stairs = tail if k + chunk == n else 0
        if rows > 3:
            copy_chunk(at(weights, k), stride, rows, chunk + stairs, copy)
        multiply_chunk(copy if rows > 3 else at(weights, k), CHUNK_STRIDE if rows > 3 else stride, rows,
                       at(values, k * nr), cache.capacity * nr, chunk, stairs, cache.d_value,
                       out, out_stride, k > 0, at(values, (k + chunk) * nr if k + chunk < n else 0), edge)
        k += chunk


cdef void attention_task(const AttentionArguments* attention, Py_ssize_t task, vec* scratch) noexcept nogil:
    cdef const Cache* cache = attention.cache
    cdef Py_ssize_t nr = panel_width(scratch)
    cdef Py_ssize_t block = task % attention.n_blocks
    cdef Py_ssize_t head = task // attention.n_blocks % cache.heads
    cdef Py_ssize_t sequence = task // attention.n_blocks // cache.heads
    cdef Py_ssize_t first = attention.starts[sequence], length = attention.starts[sequence + 1] - first
    cdef Py_ssize_t t = block * QUERY_BLOCK, rows = min(QUERY_BLOCK, length - t), n_keys = attention.n_keys[sequence]
    cdef Py_ssize_t slot = attention.slots[sequence] * cache.heads + head
    cdef const vec* values = at(<const vec*> cache.values, slot * values_numbers(cache, scratch))
    cdef const vec* q
    cdef vec* out
    cdef vec* product_scratch = scratch
    cdef vec* dense = at(scratch, product_scratch_bytes(scratch) // number_bytes(scratch))
    cdef vec* scores = at(dense, cache.capacity)
    cdef Py_ssize_t stride, r, n, row, group, tail
    if rows <= 0:
        return
    q = at(<const vec*> attention.q, (first + t) * attention.q_stride + head * attention.q_head_stride)
    out = at(<vec*> attention.out, (first + t) * attention.out_stride + head * attention.out_head_stride)
    n = visible(attention, t + rows - 1, length, n_keys)
    if attention.scores != NULL:  # a trace shows the scores of masked pairs too
        n = n_keys
    stride = up_to(n, nr)
    product(q, attention.q_stride, rows, at(<const vec*> cache.keys, slot * keys_numbers(cache)),
            cache.d_key, stride, scores, stride, NULL, IDENTITY, product_scratch)
    row = (sequence * cache.heads + head) * attention.longest + t
    for r in range(rows):
        n = visible(attention, t + r, length, n_keys)
        weigh_scores(attention, row + r, at(scores, r * stride), n, n_keys, dense)
        if attention.mask != NULL:
            attend_masked(at(scores, r * stride), attention.mask + (row + r) * attention.most_keys, n,
                          values, cache, at(out, r * attention.out_stride))
        elif n == 0:
            memset(at(out, r * attention.out_stride), 0, cache.d_value * number_bytes(out))
    if attention.mask != NULL:
        return
    r = 0
    while r < rows:
        n = visible(attention, t + r, length, n_keys)
        if n == 0:
            r += 1
            continue
        group = min(TILE_ROWS, rows - r)
        tail = 0
        if attention.causal:  # the rows of a tile end in the same chunk of keys
            group = min(group, up_to(n, CHUNK) - n + 1)
            tail = group - 1
        weigh_values(at(scores, r * stride), stride, group, n, tail, values, cache,
                     at(out, r * attention.out_stride), attention.out_stride, product_scratch)
        r += group


cdef void size_attention(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    """rows: of all sequences; `longest` and `most_keys` are set."""
    cdef AttentionArguments* attention = &op.arguments.attention
    cdef const Cache* cache = attention.cache
    cdef double pairs = <double> rows * attention.most_keys
    attention.n_blocks = (attention.longest + QUERY_BLOCK - 1) // QUERY_BLOCK
    op.n_tasks = attention.n_sequences * cache.heads * attention.n_blocks
    op.nanoseconds = <int64_t> (pairs * cache.heads * (0.3 + (cache.d_key + cache.d_value) / 60.0))
    op.scratch_bytes = product_scratch_bytes(like) + <size_t> ((1 + QUERY_BLOCK) * cache.capacity * number_bytes(like))
    op.task = <TaskFunction> (<void*> attention_task[vec])
