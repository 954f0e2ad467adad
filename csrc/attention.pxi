"""Attention (section 3.2): softmax(q k^T * scale) v, head by head, O(length) memory.

Keys and values come from a `Cache` (cache.pxi), which the executor fills first, so that the encoder,
the decoder's growing cache and cross-attention are one code; or they lie plain in memory, and a
task packs the keys that it needs. A task is some queries of one head of one sequence, which it takes
block by block.
"""

cdef enum:
    QUERY_BLOCK = 2 * TILE_ROWS  # queries whose scores are held at a time
    L2_OPERANDS = 1 << 20        # bytes of plain keys and values; those of a cache make room for a program's weights
    L3_OPERANDS = 32 << 20       # more bytes come from memory itself
    WORTH_PACKING = 4 * QUERY_BLOCK  # queries that share the keys which a task packs
    LONG_TASK = 1 << 24          # pairs of query and key: a task ends soon, so that a run can be interrupted


cdef void attend_masked(
    const vec* weights, const unsigned char* mask, Py_ssize_t n_keys, const vec* values, Py_ssize_t values_row,
    Py_ssize_t d_value, vec* out,
) noexcept nogil:
    """out = weights @ values for one query over the keys that its mask lets through.

    A masked value is left out, not multiplied by zero: it may be NaN.
    """
    cdef Py_ssize_t width = lanes(out), i, k, piece
    cdef vec chunk, total
    cdef bint first
    for piece in range(vectors(d_value, out)):
        i = piece * width
        total = constant(0.0, out)
        chunk = constant(0.0, out)
        first = True
        for k in range(n_keys):
            if k > 0 and k % CHUNK == 0:
                total = chunk if first else total + chunk
                first = False
                chunk = constant(0.0, out)
            if mask[k]:
                chunk = fma(splat(weights, k), load_some(values, k * values_row + i, d_value - i, constant(0.0, out)), chunk)
        store_some(out, i, d_value - i, chunk if first else total + chunk)


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


cdef inline bint hides_keys(const AttentionArguments* attention) noexcept nogil:
    """Whether a query sees no later keys; weights that are given may reach them."""
    return attention.causal and attention.given != GIVEN_WEIGHTS


cdef inline bint shows_all(const AttentionArguments* attention) noexcept nogil:
    """Whether scores are wanted of masked pairs too: a trace shows them, and what is given may have them."""
    return attention.scores != NULL or attention.scaled_scores != NULL or attention.given != NOTHING_GIVEN


cdef inline Py_ssize_t visible(const AttentionArguments* attention, Py_ssize_t t, Py_ssize_t length,
                               Py_ssize_t n_keys) noexcept nogil:
    """How many keys query t sees: the last query of a causal row sees the last key."""
    if not hides_keys(attention):
        return n_keys
    return max(<Py_ssize_t> 0, n_keys - length + t + 1)


cdef void trace_scores(
    const AttentionArguments* attention, void* taken, Py_ssize_t row, const vec* x, Py_ssize_t n, Py_ssize_t n_keys,
) noexcept nogil:
    """Copy a row of scores or weights to where a trace wants it; zeros where nothing was attended."""
    cdef vec* to = at(<vec*> taken, row * attention.most_keys)
    memcpy(to, x, n * number_bytes(x))
    memset(at(to, n), 0, (n_keys - n) * number_bytes(x))


cdef void take_given(
    const AttentionArguments* attention, const void* given, Py_ssize_t row, vec* x, Py_ssize_t n_keys,
) noexcept nogil:
    memcpy(x, at(<const vec*> given, row * attention.most_keys), n_keys * number_bytes(x))


cdef void add_bias(vec* x, Py_ssize_t n, Py_ssize_t position, const vec* bias, Py_ssize_t reach) noexcept nogil:
    """x[k] += the bias for keys k - position away, as far as `reach`."""
    cdef Py_ssize_t k = 0, middle = min(n, max(<Py_ssize_t> 0, position - reach)), end = min(n, position + reach + 1)
    cdef Py_ssize_t width = lanes(x)
    cdef vec zero = constant(0.0, x), far = splat(bias, 0)
    while k < middle:
        store_some(x, k, middle - k, load_some(x, k, middle - k, zero) + far)
        k += width
    k = middle
    while k < end:
        store_some(x, k, end - k, load_some(x, k, end - k, zero) + load_some(bias, k - position + reach, end - k, zero))
        k += width
    k = max(end, middle)
    far = splat(bias, 2 * reach)
    while k < n:
        store_some(x, k, n - k, load_some(x, k, n - k, zero) + far)
        k += width


cdef void weigh_scores(
    const AttentionArguments* attention, Py_ssize_t row, Py_ssize_t head_number, Py_ssize_t position,
    vec* x, Py_ssize_t n, Py_ssize_t n_keys, vec* dense,
) noexcept nogil:
    """One row of scores into weights, in place, over its n visible keys: masked, biased, traced or of an odd scale.

    position: of the query among the keys.
    """
    cdef const unsigned char* mask = NULL
    if attention.mask != NULL:
        mask = attention.mask + row * attention.most_keys
    if attention.given == GIVEN_SCORES:
        take_given(attention, attention.scores, row, x, n_keys)
    elif attention.given == NOTHING_GIVEN and attention.scores != NULL:
        trace_scores(attention, attention.scores, row, x, n_keys, n_keys)
    scale_row(x, n_keys if attention.scaled_scores != NULL else n, attention.scale, x)
    if attention.bias != NULL:
        add_bias(x, n_keys if attention.scaled_scores != NULL else n, position,
                 at(<const vec*> attention.bias, head_number * (2 * attention.reach + 1)), attention.reach)
    if attention.given == GIVEN_SCALED_SCORES:
        take_given(attention, attention.scaled_scores, row, x, n_keys)
    elif attention.given < GIVEN_SCALED_SCORES and attention.scaled_scores != NULL:
        trace_scores(attention, attention.scaled_scores, row, x, n_keys, n_keys)
    if attention.given == GIVEN_WEIGHTS:
        take_given(attention, attention.weights, row, x, n_keys)
    elif mask != NULL:
        softmax_masked(x, mask, n, attention.article, dense)
    elif n > 0:
        softmax_some(1, x, 0, n, 1.0, not attention.article, x)
    if attention.weights != NULL:
        trace_scores(attention, attention.weights, row, x, n, n_keys)


cdef void weigh_values(
    const vec* weights, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t tail, const Head* head,
    vec* out, Py_ssize_t out_stride, vec* scratch,
) noexcept nogil:
    """out (rows, d_value) = weights @ values; row r over n + min(r, tail) keys, all ending in one chunk."""
    cdef Py_ssize_t nr = panel_width(out), k = 0, chunk, stairs
    cdef const vec* values = <const vec*> head.values
    cdef const vec* after = <const vec*> head.next_keys
    cdef vec* edge = scratch
    if rows <= FEW_ROWS and n + tail <= CHUNK and head.d_value < nr:
        tile_at_edge(rows, weights, stride, values, head.values_row, n, tail, out, out_stride, head.d_value, False, edge)
        return
    while k < n:
        chunk = min(CHUNK, n - k)
        stairs = tail if k + chunk == n else 0
        multiply_chunk(at(weights, k), stride, rows, at(values, k * head.values_row), head.values_row, nr, chunk, stairs, head.d_value,
                       out, out_stride, k > 0, at(values, (k + chunk) * head.values_row) if k + chunk < n else after, NULL,
                       rows <= FEW_ROWS and head.from_memory, edge)
        k += chunk


cdef void weigh_ancestors(const vec* weights, Py_ssize_t n, const Head* head, vec* out) noexcept nogil:
    """out (d_value,) = weights @ values for one query whose values lie in several slots."""
    cdef Py_ssize_t width = lanes(out), first = 0, i, k, left
    cdef vec chunk[4]
    cdef vec total[4]
    cdef vec weight
    cdef const vec* value
    while first < head.d_value:
        left = min(<Py_ssize_t> 4, vectors(head.d_value - first, out))
        for i in range(4):
            total[i] = chunk[i] = constant(0.0, out)
        for k in range(n):
            if k > 0 and k % CHUNK == 0:
                for i in range(4):
                    total[i] = chunk[i] if k == CHUNK else total[i] + chunk[i]
                    chunk[i] = constant(0.0, out)
            weight = splat(weights, k)
            value = at(<const vec*> head.values, head.ancestors[k] * head.values_slot + k * head.values_row + first)
            if first == 0:  # perhaps the next head's
                fetch(at(key_row(head, k, out), head.capacity * head.d_key), head.d_key)
                fetch(at(value, head.capacity * head.values_row), head.d_value)
            if left == 4:
                for i in range(4):
                    chunk[i] = fma(weight, load(value, i * width), chunk[i])
            else:
                for i in range(left):
                    chunk[i] = fma(weight, load(value, i * width), chunk[i])
        for i in range(left):
            store_some(at(out, first), i * width, head.d_value - first - i * width,
                       chunk[i] if n <= CHUNK else total[i] + chunk[i])
        first += 4 * width


cdef void attend_block(
    const AttentionArguments* attention, const Head* head, Py_ssize_t head_number, const vec* q, Py_ssize_t t,
    Py_ssize_t rows, Py_ssize_t length, Py_ssize_t row, vec* out, vec* dense, vec* scores, vec* scratch,
) noexcept nogil:
    """Queries t to t + rows of a sequence of `length`; row: of query t in what a trace or mask has."""
    cdef Py_ssize_t n_keys = head.n_keys, stride, r, n, group, tail
    n = visible(attention, t + rows - 1, length, n_keys)
    if shows_all(attention):
        n = n_keys
    stride = scores_stride(n, out)
    score(head, q, attention.q_stride, rows, n, scores, stride, scratch)
    if (attention.mask != NULL or attention.bias != NULL or shows_all(attention) or attention.weights != NULL
            or not rounded(attention.scale, out) > 0):
        for r in range(rows):
            n = visible(attention, t + r, length, n_keys)
            weigh_scores(attention, row + r, head_number, n_keys - length + t + r, at(scores, r * stride), n, n_keys, dense)
            if attention.mask != NULL:
                attend_masked(at(scores, r * stride), attention.mask + (row + r) * attention.most_keys, n,
                              <const vec*> head.values, head.values_row, head.d_value, at(out, r * attention.out_stride))
        if attention.mask != NULL:
            return
    elif attention.causal:
        for r in range(rows):
            n = visible(attention, t + r, length, n_keys)
            softmax_some(1, at(scores, r * stride), 0, n, attention.scale, not attention.article, at(scores, r * stride))
    else:
        softmax_some(rows, scores, stride, n_keys, attention.scale, not attention.article, scores)
    r = 0
    while r < rows:
        n = visible(attention, t + r, length, n_keys)
        if n == 0 or head.d_value == 0:  # nothing to attend to: zeros; or nothing of it
            memset(at(out, r * attention.out_stride), 0, head.d_value * number_bytes(out))
            r += 1
            continue
        if head.ancestors != NULL:
            weigh_ancestors(at(scores, r * stride), n, head, at(out, r * attention.out_stride))
            r += 1
            continue
        group = min(TILE_ROWS, rows - r)
        tail = 0
        if hides_keys(attention):  # the rows of a tile end in the same chunk of keys
            group = min(group, up_to(n, CHUNK) - n + 1)
            tail = group - 1
        weigh_values(at(scores, r * stride), stride, group, n, tail, head, at(out, r * attention.out_stride),
                     attention.out_stride, scratch)
        r += group


cdef inline Py_ssize_t beams_at(const AttentionArguments* attention, Py_ssize_t sequence) noexcept nogil:
    """Of a decode step: how many sequences from this one on look back at the same source, one query each; 0 if this one
    is not the first of them. 1 where each has to be attended by itself."""
    cdef const int64_t* slots = attention.slots
    cdef Py_ssize_t n = 1
    if (attention.longest != 1 or attention.causal or attention.k != NULL or attention.mask != NULL
            or attention.bias != NULL or attention.weights != NULL or shows_all(attention)):
        return 1
    if sequence > 0 and slots[sequence - 1] == slots[sequence]:
        return 0
    while sequence + n < attention.n_sequences and slots[sequence + n] == slots[sequence]:
        n += 1
    return n


cdef void attention_task(const AttentionArguments* attention, Py_ssize_t task, vec* scratch) noexcept nogil:
    cdef const Cache* cache = attention.cache
    cdef Py_ssize_t nr = panel_width(scratch), per_task = attention.queries_per_task
    cdef Py_ssize_t pieces = attention.tasks_per_head, head_task = task if pieces == 1 else task // pieces
    cdef Py_ssize_t t = (task - head_task * pieces) * per_task
    cdef Py_ssize_t sequence = head_task // cache.heads, head_number = head_task - sequence * cache.heads
    cdef Py_ssize_t first = attention.starts[sequence], beams = beams_at(attention, sequence)
    cdef Py_ssize_t length = beams if beams != 1 else attention.starts[sequence + 1] - first
    cdef Py_ssize_t end = length if beams > 1 else min(t + per_task, length)
    cdef Py_ssize_t slot = attention.slots[sequence] * cache.heads + head_number
    cdef Py_ssize_t row = (sequence * cache.heads + head_number) * attention.longest, n, operands
    cdef vec* dense = at(scratch, product_scratch_bytes(scratch) // number_bytes(scratch))
    cdef vec* scores = at(dense, cache.capacity)
    cdef vec* room = at(scores, QUERY_BLOCK * scores_stride(cache.capacity, scratch))
    cdef const vec* q = at(<const vec*> attention.q, first * attention.q_stride + head_number * attention.q_head_stride)
    cdef vec* out = at(<vec*> attention.out, first * attention.out_stride + head_number * attention.out_head_stride)
    cdef Head head
    if t >= end:
        return
    head.d_key, head.d_value, head.n_keys = cache.d_key, cache.d_value, attention.n_keys[sequence]
    head.key_rows, head.ancestors, head.capacity, head.from_memory = NULL, NULL, cache.capacity, True
    head.keys_slot = cache.heads * keys_numbers(cache.capacity, head.d_key)
    head.values_slot = cache.heads * cache.capacity * values_width(head.d_value, scratch)
    head.touched, head.few_keys = amd, amd and head.n_keys <= FEW_KEYS
    if attention.k == NULL:
        if attention.ancestors != NULL and attention.reordered[0]:
            head.ancestors = attention.ancestors + sequence * attention.ancestors_row
            head.touched = head.few_keys = False
            slot = head_number
        head.keys = at(<vec*> cache.keys, slot * keys_numbers(cache.capacity, head.d_key))
        head.next_keys = at(<const vec*> head.keys, cache.capacity * head.d_key)
        if cache.in_rows:
            head.key_rows = head.keys
            if head.ancestors != NULL:
                head.next_keys = at(<const vec*> head.next_keys, head.ancestors[0] * head.keys_slot)
        head.values_row = values_width(head.d_value, scratch)
        head.values = at(<const vec*> cache.values, slot * cache.capacity * head.values_row)
    else:
        head.key_rows = at(<const vec*> attention.k, slot * head.n_keys * head.d_key)
        head.next_keys = at(<const vec*> head.key_rows, head.n_keys * head.d_key)
        head.capacity = head.n_keys
        operands = attention.n_sequences * head.n_keys * (head.d_key + head.d_value) * number_bytes(q)
        head.from_memory = operands > L2_OPERANDS
        head.touched, head.few_keys = amd and operands > L3_OPERANDS, False
        head.values = at(<const vec*> attention.v, slot * head.n_keys * head.d_value)
        head.values_row = head.d_value
    if head.key_rows != NULL:
        n = head.n_keys if shows_all(attention) else visible(attention, end - 1, length, head.n_keys)
        head.keys = room
        if end - t > QUERY_BLOCK:  # packed for all the blocks at once
            if n % nr != 0:
                memset(at(room, n // nr * nr * head.d_key), 0, head.d_key * nr * number_bytes(room))
            pack_keys(<const vec*> head.key_rows, head.d_key, n, head.d_key, 0, room)
            head.key_rows = NULL
        if head.values_row % nr != 0:
            room = at(room, keys_numbers(cache.capacity, head.d_key))
            copy_values(<const vec*> head.values, head.d_value, n, head.d_value, room)
            head.values, head.values_row = room, values_width(head.d_value, scratch)
    while t < end:
        attend_block(attention, &head, head_number, at(q, t * attention.q_stride), t, min(<Py_ssize_t> QUERY_BLOCK, end - t), length,
                     row + t, at(out, t * attention.out_stride), dense, scores, scratch)
        t += QUERY_BLOCK


cdef void size_attention(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    """rows: of all sequences; `longest` and `most_keys` are set."""
    cdef AttentionArguments* attention = &op.arguments.attention
    cdef const Cache* cache = attention.cache
    cdef double pairs = <double> rows * attention.most_keys
    cdef Py_ssize_t heads = max(<Py_ssize_t> 1, attention.n_sequences * cache.heads), numbers, pieces = 1
    cdef bint one_query
    if threads > 1:
        pieces = (4 * threads + heads - 1) // heads
    pieces = max(pieces, attention.longest * attention.most_keys // LONG_TASK)
    attention.queries_per_task = up_to(max(<Py_ssize_t> 1, (attention.longest + pieces - 1) // pieces), QUERY_BLOCK)
    numbers = cache.capacity + QUERY_BLOCK * scores_stride(cache.capacity, like)
    if attention.k != NULL or cache.in_rows:
        attention.queries_per_task = max(<Py_ssize_t> WORTH_PACKING, attention.queries_per_task)
        one_query = attention.longest == 1 and attention.k == NULL
        numbers += lanes(like) * cache.d_key if one_query else keys_numbers(cache.capacity, cache.d_key)
    if attention.k != NULL:
        numbers += cache.capacity * values_width(cache.d_value, like)
    attention.tasks_per_head = max(
        <Py_ssize_t> 1, (attention.longest + attention.queries_per_task - 1) // attention.queries_per_task)
    op.n_tasks = attention.n_sequences * cache.heads * attention.tasks_per_head
    op.nanoseconds = <int64_t> (cache.heads * (
        pairs * (0.3 + (cache.d_key + cache.d_value) / 60.0) + attention.n_sequences * (
            150 + attention.most_keys * <double> (cache.d_key + cache.d_value) * number_bytes(like) / 20)))
    op.scratch_bytes = product_scratch_bytes(like) + <size_t> (numbers * number_bytes(like))
    op.task = <TaskFunction> (<void*> attention_task[vec])
