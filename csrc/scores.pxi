"""The scores of attention (section 3.2): q k^T, from keys packed in a cache (cache.pxi) or in rows.

One query turns rows on their way into registers, several have them packed first. Rows may lie in several slots of a
cache, as the beams of a sentence leave them.
"""

cdef enum:
    FEW_KEYS = 64                    # of a head in a cache: a core has hardly begun to follow when they end
    BEGUN = 12                       # lines of the next head's: a core waits for so many at a time
    TOUCHING_ROWS = 8                # queries, of beams: of more of them, reading keys and values is a small part
    MOST_IN_VAIN = 512               # bytes of keys that are not there yet, read rather than a copy made without them

# Keys and values of one head of one sequence, as a task sees them.
cdef struct Head:
    void* keys                   # packed, or where to pack them panel by panel
    const void* key_rows         # (n_keys, d_key) not packed, or NULL
    const void* next_keys        # perhaps the next head's, to fetch meanwhile
    bint from_memory             # whether anything need be fetched
    bint touched                 # whether keys in rows are by reading them line by line, which AMD's cores follow
    bint few_keys                # whether all of them are, values too, and the next head's begun
    const void* values           # (n_keys, ...)
    Py_ssize_t values_row        # from one value to the next
    Py_ssize_t d_key, d_value, n_keys
    Py_ssize_t capacity          # key rows that may be read, n_keys or more
    const int32_t* ancestors         # (n_keys,): the slot of each, rows and values being of slot 0; or NULL
    Py_ssize_t keys_slot, values_slot  # numbers from one slot to the next


cdef inline void fetch(const vec* row, Py_ssize_t n) noexcept nogil:
    """n numbers, meanwhile, from memory."""
    cdef Py_ssize_t line
    for line in range((n * number_bytes(row) + 63) // 64):
        prefetch(<const char*> row + 64 * line)


cdef inline void score_groups(
    int groups, const vec* q, const vec* keys, Py_ssize_t apart, Py_ssize_t d_key, vec* scores, const vec* ahead,
) noexcept nogil:
    """scores (groups, lanes) = q k^T for one query and groups of keys in rows, turned on their way into registers.

    groups: a constant; two hide each other's latency. apart: keys from one group to the next, and scores. ahead: what to
    fetch meanwhile, as much as is read, into the L1 cache, since it is read next and once: an eighth faster than into the
    L2; or NULL.
    """
    cdef vec columns[2 * 4]
    cdef vec sums[2]
    cdef vec totals[2]
    cdef Py_ssize_t width = lanes(q), step = 16 // number_bytes(q), first = 0, end, i
    cdef int g, j
    while True:
        end = min(d_key, first + CHUNK)
        for g in range(groups):
            sums[g] = constant(0.0, q)
        i = first
        while i + step <= end:
            if ahead != NULL:
                for j in range(<int> (groups * width * 16 // 64)):
                    prefetch_near(<const char*> at(ahead, i * groups * width) + 64 * j)
            for g in range(groups):
                transpose(at(keys, g * apart * d_key + i), d_key, &columns[g * 4], width)
            for j in range(<int> step):
                for g in range(groups):
                    sums[g] = fma(splat(q, i + j), columns[g * 4 + j], sums[g])
            i += step
        while i < end:
            for g in range(groups):
                sums[g] = fma(splat(q, i), gathered(keys, g * apart * d_key + i, d_key), sums[g])
            i += 1
        for g in range(groups):
            totals[g] = sums[g] if first == 0 else totals[g] + sums[g]
        first = end
        if first >= d_key:
            break
    for g in range(groups):
        store(scores, g * apart, totals[g])


cdef inline void score_one(const vec* q, const vec* key, Py_ssize_t d_key, vec* scores) noexcept nogil:
    """The score of one query and one key, in every lane of a vector."""
    cdef Py_ssize_t first = 0, i
    cdef vec sum, total = constant(0.0, q)
    while True:
        sum = constant(0.0, q)
        for i in range(first, min(d_key, first + CHUNK)):
            sum = fma(splat(q, i), splat(key, i), sum)
        total = sum if first == 0 else total + sum
        first += CHUNK
        if first >= d_key:
            break
    store(scores, 0, total)


cdef inline bint in_one_slot(const Head* head, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t t
    if head.ancestors != NULL:
        for t in range(first + 1, min(end, head.n_keys)):
            if head.ancestors[t] != head.ancestors[first]:
                return False
    return True


cdef inline const vec* key_row(const Head* head, Py_ssize_t t, const vec* like) noexcept nogil:
    cdef Py_ssize_t slot = 0 if head.ancestors == NULL else head.ancestors[t] * head.keys_slot
    return at(<const vec*> head.key_rows, slot + t * head.d_key)


cdef inline void touch_lines(const vec* x, Py_ssize_t n_x, const vec* y, Py_ssize_t n_y) noexcept nogil:
    """Read so many numbers line by line into the nearest cache: memory answers two places sooner than one."""
    cdef Py_ssize_t line, lines_x = (n_x * number_bytes(x) + 63) // 64, lines_y = (n_y * number_bytes(y) + 63) // 64
    for line in range(min(lines_x, lines_y)):
        touch(<const char*> x + 64 * line)
        touch(<const char*> y + 64 * line)
    for line in range(lines_y, lines_x):
        touch(<const char*> x + 64 * line)
    for line in range(lines_x, lines_y):
        touch(<const char*> y + 64 * line)


cdef inline void touch_rows(const Head* head, Py_ssize_t first, Py_ssize_t end, const vec* like) noexcept nogil:
    """Some keys in rows, of one slot, and perhaps their values."""
    cdef Py_ssize_t n = end - first
    if head.touched:
        touch_lines(at(<const vec*> head.key_rows, first * head.d_key), n * head.d_key,
                    at(<const vec*> head.values, first * head.values_row), n * head.values_row if head.few_keys else 0)


cdef inline void touch_packed(const Head* head, const vec* like) noexcept nogil:
    """All keys and values."""
    touch_lines(<const vec*> head.keys, up_to(head.n_keys, panel_width(like)) * head.d_key,
                <const vec*> head.values, head.n_keys * head.values_row)


cdef inline void begin_next(const Head* head, const vec* like) noexcept nogil:
    """Fetch what the next head's touching starts with, so that it need not wait."""
    cdef Py_ssize_t line
    cdef const vec* values = at(<const vec*> head.values, head.capacity * head.values_row)
    for line in range(min(<Py_ssize_t> BEGUN, head.n_keys * head.d_key * number_bytes(like) // 64)):
        prefetch_near(<const char*> head.next_keys + 64 * line)
        prefetch_near(<const char*> values + 64 * line)


cdef void score_rows(const Head* head, const vec* q, Py_ssize_t n, vec* scores) noexcept nogil:
    """scores (n up to whole vectors,) = q k^T for one query and n keys in rows: nobody else needs them packed."""
    cdef Py_ssize_t width = lanes(q), d_key = head.d_key, row_bytes = d_key * number_bytes(q), t = 0, i, left, apart
    cdef const vec* values = <const vec*> (NULL if head.touched else head.values)
    cdef const vec* keys
    cdef const vec* ahead
    cdef vec* copy = <vec*> head.keys
    if n == 1:  # as a sentence's first step, or the article's
        score_one(q, key_row(head, 0, q), d_key, scores)
        return
    while t < n:
        left = n - t
        keys = key_row(head, t, q)
        if left > width and in_one_slot(head, t, t + 2 * width):
            touch_rows(head, t, min(n, t + 2 * width), q)
            ahead = at(keys, 2 * width * d_key) if t + 4 * width <= n and not head.touched else values
            apart = min(width, left - width)  # the last ones: perhaps some keys in both groups
            score_groups(2, q, keys, apart, d_key, at(scores, t), ahead)
            t += 2 * width
        elif left < width <= n and head.ancestors == NULL:  # the last vector of keys, some of them once more
            touch_rows(head, t, n, q)
            t = n - width
            score_groups(1, q, key_row(head, t, q), 0, d_key, at(scores, t), values)
            break
        elif (t + width <= head.capacity and in_one_slot(head, t, t + width)
                and not (head.from_memory and (width - left) * row_bytes > MOST_IN_VAIN)):
            touch_rows(head, t, min(n, t + width), q)
            ahead = at(keys, width * d_key) if t + 2 * width <= n and not head.touched else values
            score_groups(1, q, keys, 0, d_key, at(scores, t), ahead)
            t += width
        else:
            left = min(width, left)
            touch_rows(head, t, t + left, q)
            for i in range(left):
                memcpy(at(copy, i * d_key), key_row(head, t + i, q), row_bytes)
            memset(at(copy, left * d_key), 0, (width - left) * row_bytes)  # not stray bits, which could be slow
            score_groups(1, q, copy, 0, d_key, at(scores, t), values)
            t += width
    if head.few_keys:
        begin_next(head, q)


cdef inline Py_ssize_t scores_stride(Py_ssize_t n, const vec* like) noexcept nogil:
    """From one query's scores to the next one's: n up to whole panels, and an odd number of cache lines, so that rows share
    no cache sets."""
    cdef Py_ssize_t line = 64 // number_bytes(like)
    return (up_to(up_to(n, panel_width(like)), line) // line | 1) * line


cdef void score(
    const Head* head, const vec* q, Py_ssize_t q_stride, Py_ssize_t rows, Py_ssize_t n, vec* scores, Py_ssize_t stride,
    vec* scratch,
) noexcept nogil:
    """scores (rows, n up to whole panels) = q k^T."""
    cdef Py_ssize_t nr = panel_width(q), first = 0, left
    cdef vec* panel = <vec*> head.keys
    if n == 0:
        return
    if head.key_rows == NULL:
        if head.few_keys and rows <= TOUCHING_ROWS:
            touch_packed(head, q)
            begin_next(head, q)
        if rows <= FEW_ROWS and n <= nr and head.d_key <= CHUNK:  # the sizes of the article
            tile_of(rows, 1, q, q_stride, panel, nr, 0, head.d_key, 0, scores, stride, False, <const vec*> head.values,
                    head.d_key >= 16, 64, 128)
        else:
            product(q, q_stride, rows, panel, nr, head.d_key * nr, head.d_key, up_to(n, nr), scores, stride, NULL, IDENTITY,
                    NULL, False, scratch)
        return
    if rows == 1:
        score_rows(head, q, n, scores)
        return
    while first < n:
        left = n - first
        if left > nr:
            fetch(at(<const vec*> head.key_rows, (first + nr) * head.d_key), min(nr, left - nr) * head.d_key)
        if left < nr:
            memset(panel, 0, head.d_key * nr * number_bytes(q))
        pack_keys(at(<const vec*> head.key_rows, first * head.d_key), head.d_key, min(nr, left), head.d_key, 0, panel)
        product(q, q_stride, rows, panel, nr, head.d_key * nr, head.d_key, nr, at(scores, first), stride, NULL, IDENTITY,
                NULL, False, scratch)
        first += nr
