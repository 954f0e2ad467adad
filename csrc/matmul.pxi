"""Matrix products, tile by tile (tile.pxi), of a right operand in panels (pack.pxi) or as it comes (plain.pxi).

Each output is summed over k in order, in chunks of CHUNK whose sums are added in order: whatever the number of rows,
threads or panels at a time, the additions of one output are the same, and so are its bits.
"""

cdef enum:
    TURNED_PANELS = 16               # so many use a copy of the left operand that is worth turning
    ROW_BLOCK = 48                   # rows whose chunk is copied at a time, about: more would leave the L1 cache
    MOST_ROWS = ROW_BLOCK * 3 // 2   # of a block: 64 rows are one block, not one and a third
    HUGE_WEIGHT = 16 << 20           # bytes: one that comes from memory for each block of rows,
    GROUP_BYTES = 1 << 20            # of which all rows use so many before the next: they stay in the L2 cache
    MANY_WEIGHTS = 24 << 20          # bytes of a program's weights, which come from memory each time it runs,
    LARGE_WEIGHT = 4 << 20           # and of a weight used alone, which may come from there, or from a slow L3 cache
    SMALL_OPERAND = 256 << 10        # bytes: a right operand that stays in the L2 cache
    FAR_OPERAND = 1 << 20            # and one that does not: fetched ahead where it lies
    PANELS_OF_GROUP = 8              # at least, unless a thread would have no task
    ROWS_IN_A_HURRY = 18             # so many need the next panel soon: on AMD's cores their first two tiles fetch it all
    CACHE_WAY = 4 << 10              # bytes: addresses so far apart share a set of the L1 cache,
    CACHE_WAYS = 8                   # which holds so many lines of them
    ROWS_IN_SEQUENCE = 4             # so many read a packed operand from end to end on AMD's cores


cdef inline Py_ssize_t panels_at_once(Py_ssize_t rows) noexcept nogil:
    """Few rows leave registers free for several panels, whose sums hide each other's latency."""
    return 4 if rows == 1 else 2 if rows <= FEW_ROWS else 1


cdef inline bint read_in_sequence(Py_ssize_t rows) noexcept nogil:
    """Whether so few rows read each panel from end to end: AMD's cores then fetch by themselves, sooner than tiles do
    (measured on Zen 4)."""
    return amd and rows <= ROWS_IN_SEQUENCE


cdef void multiply_chunk(
    const vec* a, Py_ssize_t a_stride, Py_ssize_t rows, const vec* b, Py_ssize_t b_row, Py_ssize_t b_stride,
    Py_ssize_t n_k, Py_ssize_t tail, Py_ssize_t columns, vec* c, Py_ssize_t c_stride,
    bint accumulate, const vec* after, Upcoming* upcoming, bint from_memory, vec* edge,
) noexcept nogil:
    """c (rows, columns) = or += a (rows, n_k) @ b, n_k <= CHUNK; `after` is where b goes on, upcoming what else may be
    fetched, or NULL.

    a_stride: 0 if a is what `copy_turned` made.
    """
    cdef Py_ssize_t nr = panel_width(a), column = 0, first, last, i, r
    cdef Py_ssize_t n_tiles = (rows + TILE_ROWS - 1) // TILE_ROWS
    cdef Py_ssize_t at_once = panels_at_once(rows), from_row = CHUNK_STRIDE if a_stride == 0 else a_stride
    cdef Py_ssize_t every = 0, fetching = 0, seldom = 0, apart = fetched_apart(n_k, a)
    cdef Py_ssize_t far = 2 * apart
    cdef const vec* ahead
    if b_row != nr:
        apart, far = 64, b_row * number_bytes(a)
    if (b_row == nr or from_memory) and not read_in_sequence(rows) and (upcoming == NULL or not upcoming.by_all):
        fetching = min(n_tiles, <Py_ssize_t> 2) if amd and rows <= ROWS_IN_A_HURRY else n_tiles
        if upcoming != NULL:
            fetching -= 1
        # These tiles of a panel fetch the next one between them, the others what is upcoming.
        every = fetching * 128 // (nr * number_bytes(a)) if b_row == nr else fetching
    if upcoming != NULL:
        seldom = max(<Py_ssize_t> 1, n_k // 2 // upcoming.fours)
    while at_once > 1:
        while column + at_once * nr <= columns:
            ahead = at(b, at_once * b_stride) if column + at_once * nr < columns else after
            tile_of(rows, at_once, a, a_stride, b, b_row, b_stride, n_k, tail, at(c, column), c_stride, accumulate,
                    ahead, from_memory, 64, 128)
            b = at(b, at_once * b_stride)
            column += at_once * nr
        at_once //= 2
    while column < columns:
        for i in range(n_tiles):
            first, last = 0, rows
            if n_tiles > 1:  # a division costs as much as a tile of the article
                first, last = rows * i // n_tiles, rows * (i + 1) // n_tiles
                # c may come from memory, or its rows share cache sets.
                if not accumulate and (upcoming == NULL or not upcoming.out_too):
                    for r in range(first, last):
                        prefetch_near(at(c, r * c_stride + column))
                        prefetch_near(<const char*> at(c, r * c_stride + column) + 64)
            if column + nr <= columns:
                ahead = b
                if i < fetching:
                    ahead = at(b, b_stride) if column + nr < columns else after
                    if b_row != nr:  # the last two lines of each row: it may begin in the middle of one
                        ahead = <const vec*> (<const char*> ahead + nr * number_bytes(a) - 65)
                    if i > 0:
                        ahead = <const vec*> (<const char*> ahead + i * (n_k // 2) // every * fetch_step(apart, far))
                elif upcoming != NULL:
                    ahead = next_lines(upcoming, a)
                tile_of(last - first, 1, at(a, first * from_row), a_stride, b, b_row, 0, n_k, tail,
                        at(c, first * c_stride + column), c_stride, accumulate, ahead,
                        every if i < fetching else seldom if ahead != NULL else 0, apart if i < fetching else 64,
                        far if i < fetching else 128)
            else:
                tile_at_edge(last - first, at(a, first * from_row), a_stride, b, b_row, n_k, tail,
                             at(c, first * c_stride + column), c_stride, columns - column, accumulate, edge)
        b = at(b, b_stride)
        column += nr


cdef inline void finish(
    vec* c, Py_ssize_t c_stride, Py_ssize_t rows, Py_ssize_t columns, const vec* bias, int activation,
) noexcept nogil:
    """c = activation(c + bias), while the columns are still in the cache."""
    if bias != NULL or activation != IDENTITY:
        activate_rows(c, c_stride, rows, columns, bias, activation, c, c_stride)


cdef inline bint is_copied(Py_ssize_t rows, Py_ssize_t a_stride, const vec* like) noexcept nogil:
    """Whether the rows of a tile share cache sets, and are more than the places in one: such rows are copied chunk by chunk,
    if not turned."""
    return min(rows, <Py_ssize_t> TILE_ROWS) > CACHE_WAYS and a_stride * number_bytes(like) % CACHE_WAY == 0


cdef void copy_chunk(
    const vec* a, Py_ssize_t a_stride, Py_ssize_t rows, Py_ssize_t n_k, vec* copy,
) noexcept nogil:
    """Rows of a chunk side by side, at a stride that shares no cache sets."""
    cdef Py_ssize_t r, i, width = lanes(a)
    for r in range(rows):
        i = 0
        while i + width <= n_k:
            store(copy, i, load(a, i))
            i += width
        if i < n_k:
            store_some(copy, i, n_k - i, load_some(a, i, n_k - i, constant(0.0, a)))
        a = at(a, a_stride)
        copy = at(copy, CHUNK_STRIDE)


cdef void copy_turned(
    const vec* a, Py_ssize_t a_stride, Py_ssize_t rows, Py_ssize_t n_k, vec* copy,
) noexcept nogil:
    """Rows of a chunk, those of each tile turned: (n_k, rows of the tile), from CHUNK_STRIDE times its first row on.

    A multiplication then reads its number of a from memory, next to those of the other rows.
    """
    cdef Py_ssize_t n_tiles = (rows + TILE_ROWS - 1) // TILE_ROWS, step = 16 // number_bytes(a), i, k, r, n
    cdef const vec* first
    cdef vec* to
    for i in range(n_tiles):
        r = rows * i // n_tiles
        n = rows * (i + 1) // n_tiles - r
        first, to = at(a, r * a_stride), at(copy, r * CHUNK_STRIDE)
        k = 0
        while k + step <= n_k:
            turn(at(first, k), a_stride, n, at(to, k * n))
            k += step
        while k < n_k:
            for r in range(n):
                put(to, k * n + r, number(first, r * a_stride + k))
            k += 1


cdef inline Py_ssize_t rows_of_a_block(Py_ssize_t rows) noexcept nogil:
    """About ROW_BLOCK: one block more or not, whichever leaves less over of its tiles."""
    cdef Py_ssize_t some = max(<Py_ssize_t> 1, rows), blocks = max(<Py_ssize_t> 1, (some + ROW_BLOCK // 2) // ROW_BLOCK)
    cdef Py_ssize_t size = (some + blocks - 1) // blocks, smaller = (some + blocks) // (blocks + 1)
    return smaller if up_to(smaller, TILE_ROWS) * (blocks + 1) < up_to(size, TILE_ROWS) * blocks else size


cdef inline bint worth_turning(Py_ssize_t rows, Py_ssize_t columns, const vec* like) noexcept nogil:
    """Whether all tiles have TURNED_ROWS, and enough panels to use them."""
    cdef Py_ssize_t n_tiles = (rows + TILE_ROWS - 1) // TILE_ROWS
    return rows >= n_tiles * TURNED_ROWS and columns >= TURNED_PANELS * panel_width(like)


cdef inline size_t product_scratch_bytes(const vec* like) noexcept nogil:
    return <size_t> ((MOST_ROWS * CHUNK_STRIDE + TILE_ROWS * panel_width(like)) * number_bytes(like))


cdef void multiply_in_sequence(
    const vec* a, Py_ssize_t a_stride, Py_ssize_t rows, const vec* b, Py_ssize_t n_k, Py_ssize_t columns,
    vec* c, Py_ssize_t c_stride, bint from_memory, vec* edge,
) noexcept nogil:
    """c (rows, columns) = a (rows, n_k) @ b, panel by panel; or two at a time, which keep up with a cache."""
    cdef Py_ssize_t nr = panel_width(a), column = 0, k, chunk
    cdef Py_ssize_t at_once = nr if from_memory else min(<Py_ssize_t> 2, panels_at_once(rows)) * nr
    while column < columns:
        k = 0
        while True:  # once even where n_k is 0: the sums are then zeros
            chunk = min(CHUNK, n_k - k)
            multiply_chunk(at(a, k), a_stride, rows, at(b, column * n_k + k * nr), nr, n_k * nr, chunk, 0,
                           min(at_once, columns - column), at(c, column), c_stride, k > 0, b, NULL, False, edge)
            k += chunk
            if k >= n_k:
                break
        column += at_once


cdef void multiply_by_chunks(
    const vec* a, Py_ssize_t a_stride, Py_ssize_t rows, const vec* b, Py_ssize_t b_row, Py_ssize_t b_stride,
    Py_ssize_t n_k, Py_ssize_t columns, vec* c, Py_ssize_t c_stride, Upcoming* upcoming, bint from_memory, vec* scratch,
) noexcept nogil:
    """c (rows, columns) = a (rows, n_k) @ b: all panels with one chunk of a, which stays in the L1 cache."""
    cdef Py_ssize_t k = 0, chunk
    cdef vec* copy = at(scratch, TILE_ROWS * panel_width(a))
    cdef const vec* left
    cdef bint turn = worth_turning(rows, columns, a), copied = is_copied(rows, a_stride, a)
    if b_row == panel_width(a) and rows > FEW_ROWS:
        from_memory = from_memory or n_k * columns * number_bytes(a) > SMALL_OPERAND
    upcoming = shared(upcoming, rows, columns, n_k, from_memory, a)
    while True:  # once even where n_k is 0
        chunk = min(CHUNK, n_k - k)
        left = at(a, k)
        if turn:
            copy_turned(left, a_stride, rows, chunk, copy)
            left = copy
        elif copied:
            copy_chunk(left, a_stride, rows, chunk, copy)
            left = copy
        multiply_chunk(left, 0 if turn else CHUNK_STRIDE if copied else a_stride, rows,
                       at(b, k * b_row), b_row, b_stride, chunk, 0, columns, c, c_stride, k > 0,
                       at(b, (k + chunk) * b_row if k + chunk < n_k else 0), upcoming, from_memory, scratch)
        k += chunk
        if k >= n_k:
            break


cdef void product(
    const vec* a, Py_ssize_t a_stride, Py_ssize_t rows, const vec* b, Py_ssize_t b_row, Py_ssize_t b_stride,
    Py_ssize_t n_k, Py_ssize_t columns, vec* c, Py_ssize_t c_stride, const vec* bias, int activation, Upcoming* upcoming,
    bint from_memory, vec* scratch,
) noexcept nogil:
    """c (rows, columns) = activation(a (rows, n_k) @ b + bias); at most MOST_ROWS rows.

    b: panels, b_row = NR and b_stride = n_k * NR; or a plain matrix of whole panels, b_stride = NR. from_memory: b is
    in no cache, and a few rows have time to fetch it themselves.
    """
    if b_row == panel_width(a) and read_in_sequence(rows):
        multiply_in_sequence(a, a_stride, rows, b, n_k, columns, c, c_stride, from_memory, scratch)
    else:
        multiply_by_chunks(a, a_stride, rows, b, b_row, b_stride, n_k, columns, c, c_stride, upcoming, from_memory, scratch)
    finish(c, c_stride, rows, columns, bias, activation)


cdef void tiny_product(const LinearArguments* linear, Py_ssize_t panels, vec* edge) noexcept nogil:
    """Up to three rows, one chunk, one or two panels: the sizes of the article, where every instruction counts."""
    cdef Py_ssize_t r, i, j, nr = panel_width(edge), width = lanes(edge)
    cdef const vec* bias = <const vec*> linear.bias
    cdef vec x
    cdef vec zero = constant(0.0, edge)
    tile_of(linear.rows, panels, <const vec*> linear.x, linear.x_stride, <const vec*> linear.weight, nr,
            linear.d_in * nr, linear.d_in, 0, edge, panels * nr, False, <const vec*> linear.weight, 0, 64, 128)
    for r in range(linear.rows):
        for j in range(vectors(linear.d_out, edge)):
            i = j * width
            x = load(edge, r * panels * nr + i)
            if bias != NULL:
                x = x + load_some(bias, i, linear.d_out - i, zero)
            if linear.activation != IDENTITY:
                activated(1, &x, linear.activation)
            store_some(<vec*> linear.out, r * linear.out_stride + i, linear.d_out - i, x)


cdef inline bint is_far(double bytes_of_weight) noexcept nogil:
    """Whether a weight used alone has to be fetched ahead for a few rows. AMD's cores do that by themselves within L3."""
    return bytes_of_weight >= (MANY_WEIGHTS if amd else LARGE_WEIGHT)


cdef inline bint from_memory(const LinearArguments* linear, const vec* like) noexcept nogil:
    if linear.company > 0:
        return linear.company > MANY_WEIGHTS
    return is_far(<double> linear.d_in * linear.d_out * number_bytes(like))


cdef void linear_task(const LinearArguments* linear, Py_ssize_t task, vec* scratch) noexcept nogil:
    """One block of rows times one group of panels."""
    cdef Py_ssize_t nr = panel_width(scratch), row, column, rows, columns, later
    cdef const vec* bias = <const vec*> linear.bias
    cdef Upcoming upcoming
    if linear.rows <= FEW_ROWS and linear.d_in <= CHUNK and linear.d_out <= min(<Py_ssize_t> 2, linear.panels_per_group) * nr:
        tiny_product(linear, 1 if linear.d_out <= nr else 2, scratch)
        return
    row = task % linear.n_row_blocks * linear.rows_per_block
    column = task // linear.n_row_blocks * linear.panels_per_group * nr
    columns = min(linear.panels_per_group * nr, linear.d_out - column)
    upcoming.now = upcoming.n = 0
    later = row + linear.threads * linear.rows_per_block  # those in between are other threads'
    rows = min(linear.rows_per_block, linear.rows - later)
    if rows > 0 and linear.x_stride == linear.d_in:
        expect(&upcoming, at(<const vec*> linear.x, later * linear.d_in), rows * linear.d_in)
    upcoming.out_too = rows > 0 and linear.out_stride == columns
    if upcoming.out_too:
        expect(&upcoming, at(<const vec*> linear.out, later * columns), rows * columns)
    product(at(<const vec*> linear.x, row * linear.x_stride), linear.x_stride,
            min(linear.rows_per_block, linear.rows - row),
            at(<const vec*> linear.weight, column * linear.d_in), nr, linear.d_in * nr, linear.d_in, columns,
            at(<vec*> linear.out, row * linear.out_stride + column), linear.out_stride,
            NULL if bias == NULL else at(bias, column), linear.activation, &upcoming,
            from_memory(linear, scratch), scratch)


cdef void size_linear(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    """Split rows and columns so that as many tasks fall to each thread, all rows of one group of columns in turn.

    Few tasks: each copies its rows, and waits for its first panel, by itself.
    """
    cdef LinearArguments* linear = &op.arguments.linear
    cdef Py_ssize_t n_panels = up_to(linear.d_out, panel_width(like)) // panel_width(like)
    cdef Py_ssize_t blocks, groups = 1
    cdef double numbers = <double> linear.d_in * linear.d_out
    linear.rows = rows
    linear.rows_per_block = rows_of_a_block(rows)
    blocks = max(<Py_ssize_t> 1, (rows + linear.rows_per_block - 1) // linear.rows_per_block)
    if blocks > 1 and numbers * number_bytes(like) > HUGE_WEIGHT:
        groups = min(n_panels, <Py_ssize_t> (numbers * number_bytes(like) / GROUP_BYTES))
    # No thread should work on a last task while another waits.
    if threads > 1 and blocks >= 8 * threads:
        blocks = up_to(blocks, threads)
        linear.rows_per_block = (rows + blocks - 1) // blocks
        blocks = (rows + linear.rows_per_block - 1) // linear.rows_per_block
    elif threads > 1:
        groups = max(groups, min(n_panels, (threads + blocks - 1) // blocks),
                     min(n_panels // PANELS_OF_GROUP, (2 * threads + blocks - 1) // blocks))
        while groups < n_panels and blocks * groups < 8 * threads and blocks * groups % threads != 0:
            groups += 1
    linear.n_row_blocks, linear.threads = blocks, threads
    linear.panels_per_group = max(<Py_ssize_t> 1, (n_panels + groups - 1) // groups)
    if rows <= FEW_ROWS:  # whole sets of panels at once
        linear.panels_per_group = up_to(linear.panels_per_group, 4)
    op.n_tasks = 0 if rows == 0 else blocks * (
        (n_panels + linear.panels_per_group - 1) // linear.panels_per_group)
    op.nanoseconds = <int64_t> (numbers * number_bytes(like) * max(<double> rows / 300, 1.0 / 30))
    op.scratch_bytes = product_scratch_bytes(like) if rows > FEW_ROWS else TILE_ROWS * panel_width(like) * number_bytes(like)
    op.task = <TaskFunction> (<void*> linear_task[vec])
