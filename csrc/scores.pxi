"""The scores of attention (section 3.2): q k^T, from keys packed in a cache (cache.pxi), in rows of an open group of it,
in several slots of it, as the beams of a sentence leave them, or plain.
"""

cdef enum:
    MOST_PANEL = 64              # keys in a panel

# Keys and values of one head of one sequence, as a task sees them.
cdef struct Head:
    void* keys                   # packed, or where to pack them panel by panel
    const void* plain_keys       # (n_keys, d_key) not packed yet, or NULL
    const void* values           # (n_keys, ...)
    Py_ssize_t values_row        # from one value to the next
    Py_ssize_t d_key, d_value, n_keys
    const int32_t* ancestors         # (n_keys,): the slot of each, `keys` and `values` being of slot 0; or NULL
    Py_ssize_t keys_slot, values_slot  # numbers from one slot to the next
    const void* open_keys            # of slot 0, where there are ancestors: the open group in rows; or NULL
    const int32_t* open_group        # of slot 0 likewise: which one that is, or -1
    Py_ssize_t heads                 # from one slot to the next in open_group
    void* room                       # for a group of keys, in rows and packed


cdef inline void score_groups(
    int groups, const vec* q, const vec* keys, Py_ssize_t d_key, vec* scores, const vec* ahead,
) noexcept nogil:
    """scores (groups * lanes,) = q k^T for one query and keys in rows, turned on their way into registers.

    groups: a constant; two hide each other's latency. ahead: what to fetch meanwhile, as much as is read.
    """
    cdef vec columns[2 * 4]
    cdef vec sums[2]
    cdef Py_ssize_t width = lanes(q), step = 16 // number_bytes(q), first = 0, end, i
    cdef int g, j
    while True:
        end = min(d_key, first + CHUNK)
        for g in range(groups):
            sums[g] = constant(0.0, q)
        i = first
        while i + step <= end:
            for j in range(<int> (groups * width * 16 // 64)):
                prefetch(<const char*> at(ahead, i * groups * width) + 64 * j)
            for g in range(groups):
                transpose(at(keys, g * width * d_key + i), d_key, &columns[g * 4], width)
            for j in range(<int> step):
                for g in range(groups):
                    sums[g] = fma(splat(q, i + j), columns[g * 4 + j], sums[g])
            i += step
        while i < end:
            for g in range(groups):
                sums[g] = fma(splat(q, i), gathered(keys, g * width * d_key + i, d_key), sums[g])
            i += 1
        for g in range(groups):
            store(scores, g * width, sums[g] if first == 0 else load(scores, g * width) + sums[g])
        first = end
        if first >= d_key:
            break


cdef void score_rows(const Head* head, const vec* q, Py_ssize_t n, vec* scores) noexcept nogil:
    """scores (n up to whole vectors,) = q k^T for one query and n keys in rows: nobody else needs them packed."""
    cdef Py_ssize_t width = lanes(q), d_key = head.d_key, t = 0
    cdef const vec* keys = <const vec*> head.plain_keys
    cdef const vec* values = <const vec*> head.values
    while t + 2 * width <= n:
        score_groups(2, q, at(keys, t * d_key), d_key, at(scores, t),
                     at(keys, (t + 2 * width) * d_key) if t + 4 * width <= n else values)
        t += 2 * width
    if t + width <= n:
        score_groups(1, q, at(keys, t * d_key), d_key, at(scores, t), values)
        t += width
    if t < n and n >= width:  # the last whole vector of keys, some of them once more
        t = n - width
        score_groups(1, q, at(keys, t * d_key), d_key, at(scores, t), values)
    elif t < n:  # zeros beside them: stray bits could be slow
        memcpy(head.keys, keys, n * d_key * number_bytes(q))
        memset(at(<vec*> head.keys, n * d_key), 0, (width - n) * d_key * number_bytes(q))
        score_groups(1, q, <const vec*> head.keys, d_key, scores, values)


cdef inline Py_ssize_t open_from(const Head* head, Py_ssize_t slot, const vec* like) noexcept nogil:
    """The position at which the open group of a slot starts; far away where none is open."""
    if head.open_keys == NULL or head.open_group[slot * head.heads] < 0:
        return PY_SSIZE_T_MAX
    return head.open_group[slot * head.heads] * lanes(like)


cdef inline const vec* open_rows(const Head* head, Py_ssize_t slot, const vec* like) noexcept nogil:
    return at(<const vec*> head.open_keys, slot * head.heads * lanes(like) * head.d_key)


cdef void score_group(
    const Head* head, const vec* rows, const vec* q, Py_ssize_t q_stride, Py_ssize_t n_queries, vec* scores,
    Py_ssize_t stride, vec* scratch,
) noexcept nogil:
    """scores (n_queries, lanes) = q k^T for a group of keys in rows."""
    cdef Py_ssize_t width = lanes(q)
    cdef vec* packed = at(<vec*> head.room, width * head.d_key)
    # Rows of one vector, not of a panel: what a tile reads past it belongs to the next row, or pads the last one.
    pack_group(rows, head.d_key, head.d_key, packed, width)
    product(q, q_stride, n_queries, packed, width, 0, head.d_key, width, scores, stride, NULL, IDENTITY, False, scratch)


cdef void score_panel(
    const Head* head, Py_ssize_t slot, Py_ssize_t first, Py_ssize_t end, const vec* q, vec* scores, vec* scratch,
) noexcept nogil:
    """scores (NR,) = q k^T for one query and the panel at `first` in a slot; only keys before `end` count."""
    cdef Py_ssize_t nr = panel_width(q), opened = open_from(head, slot, q)
    product(q, 0, 1, at(<const vec*> head.keys, slot * head.keys_slot + first * head.d_key), nr, nr * head.d_key,
            head.d_key, nr, scores, nr, NULL, IDENTITY, False, scratch)
    if first <= opened < end:
        score_group(head, open_rows(head, slot, q), q, 0, 1, at(scores, opened - first), nr, scratch)


cdef void score_newest(
    const Head* head, Py_ssize_t first, Py_ssize_t n, const vec* q, vec* scores, vec* scratch,
) noexcept nogil:
    """scores (lanes,) = q k^T for one query and the keys from `first` to n, one group, each from its own slot."""
    cdef Py_ssize_t t, slot
    cdef vec* rows = <vec*> head.room
    for t in range(first, n):
        slot = head.ancestors[t]
        if open_from(head, slot, q) == first:
            memcpy(at(rows, (t - first) * head.d_key), at(open_rows(head, slot, q), (t - first) * head.d_key),
                   head.d_key * number_bytes(q))
        else:
            unpack_key(at(<const vec*> head.keys, slot * head.keys_slot), t, head.d_key,
                       at(rows, (t - first) * head.d_key))
    score_group(head, rows, q, 0, 1, scores, lanes(q), scratch)


cdef void score_ancestors(
    const Head* head, const vec* q, Py_ssize_t n, vec* scores, vec* scratch,
) noexcept nogil:
    """scores (n up to whole panels,) = q k^T for one query whose keys lie in several slots.

    Each panel is multiplied once for each slot that it has keys of; ancestors of long ago are mostly the same.
    """
    cdef Py_ssize_t nr = panel_width(q), packed = n, first = 0, end, t, u
    cdef double room[MOST_PANEL]
    cdef vec* other = <vec*> room
    cdef int32_t slot
    if head.open_keys != NULL and n > 0:
        packed = (n - 1) // lanes(q) * lanes(q)
    while first < packed:
        end = min(packed, first + nr)
        slot = head.ancestors[first]
        score_panel(head, slot, first, end, q, at(scores, first), scratch)
        for t in range(first + 1, end):
            slot = head.ancestors[t]
            u = first
            while head.ancestors[u] != slot:
                u += 1
            if u < t:  # has been seen to
                continue
            score_panel(head, slot, first, end, q, other, scratch)
            for u in range(t, end):
                if head.ancestors[u] == slot:
                    put(scores, u, number(other, u - first))
        first += nr
    if packed < n:
        score_newest(head, packed, n, q, at(scores, packed), scratch)


cdef void score(
    const Head* head, const vec* q, Py_ssize_t q_stride, Py_ssize_t rows, Py_ssize_t n, vec* scores, vec* scratch,
) noexcept nogil:
    """scores (rows, n up to whole panels) = q k^T."""
    cdef Py_ssize_t nr = panel_width(q), stride = up_to(n, nr), first = 0, left, line, opened
    cdef vec* panel = <vec*> head.keys
    if head.ancestors != NULL:
        score_ancestors(head, q, n, scores, scratch)
        return
    if head.plain_keys == NULL:
        opened = open_from(head, 0, q)
        if rows <= FEW_ROWS and n <= nr and head.d_key <= CHUNK:  # the sizes of the article
            tile_of(rows, 1, q, q_stride, panel, nr, 0, head.d_key, 0, scores, stride, False, panel, 0)
        else:
            product(q, q_stride, rows, panel, nr, head.d_key * nr, head.d_key, up_to(min(n, opened), nr), scores, stride,
                    NULL, IDENTITY, False, scratch)
        if opened < n:
            score_group(head, open_rows(head, 0, q), q, q_stride, rows, at(scores, opened), stride, scratch)
        return
    if rows == 1:
        score_rows(head, q, n, scores)
        return
    while first < n:
        left = n - first
        for line in range(min(nr, left - nr) * head.d_key * number_bytes(q) // 64):  # the next keys, meanwhile
            prefetch(<const char*> at(<const vec*> head.plain_keys, (first + nr) * head.d_key) + 64 * line)
        if left < nr:
            memset(panel, 0, head.d_key * nr * number_bytes(q))
        pack_keys(at(<const vec*> head.plain_keys, first * head.d_key), head.d_key, min(nr, left), head.d_key, 0, panel)
        product(q, q_stride, rows, panel, nr, head.d_key * nr, head.d_key, nr, at(scores, first), stride, NULL, IDENTITY,
                False, scratch)
        first += nr
