"""Matrix products: the one micro-kernel that everything else is built on.

The right operand is packed into column panels, (N / NR, K, NR), zero-padded, NR being
TILE_VECTORS vectors. `tile` multiplies up to TILE_ROWS rows with a panel, its accumulators in
registers. Each output is summed over k in order with fused multiply-adds, in chunks of 256
whose sums are added in order: whatever the number of rows, threads or panels at a time, the
additions of one output are the same, and so are its bits.
"""

cdef enum:
    CHUNK = 256                      # k per chain of additions: part of the results' definition
    CHUNK_STRIDE = CHUNK + 16        # rows of the copied left operand, off the power of two
    TURNED_PANELS = 16               # so many use a copy of the left operand that is worth turning
    ROW_BLOCK = 48                   # rows whose chunk is copied at a time, about: more would leave the L1 cache
    MOST_ROWS = ROW_BLOCK * 3 // 2   # of a block: 64 rows are one block, not one and a third
    HUGE_WEIGHT = 16 << 20           # bytes: one that comes from memory for each block of rows
    MANY_WEIGHTS = 24 << 20          # bytes of a program's weights, which come from memory each time it runs,
    LARGE_WEIGHT = 4 << 20           # and of a weight used alone, which may come from there
    L1_OPERAND = 32 << 10            # bytes: a plain right operand is read where it lies,
    SMALL_OPERAND = 256 << 10        # one that stays in the L2 cache if no more rows than these use it,
    ROWS_NOT_WORTH_PACKING = 128
    MOST_IN_PLACE = 64 << 20         # and one that up to three rows use: one task still, which ends soon
    PACKED_AT_ONCE = 16              # panels, side by side,
    ROWS_PACKED_AT_ONCE = 16         # and so many rows of them
    FAR = 16                         # k to fetch ahead of few rows
    GROUP_BYTES = 1 << 20            # of such a weight, which all rows use before the next: it stays in the L2 cache


cdef inline Py_ssize_t panel_width(const vec* like) noexcept nogil:
    """NR: columns of a panel."""
    return TILE_VECTORS * lanes(like)


cdef inline Py_ssize_t up_to(Py_ssize_t n, Py_ssize_t multiple) noexcept nogil:
    return (n + multiple - 1) // multiple * multiple


# Of nested loops gcc unrolls only the innermost early enough to see that each sum of a tile is a variable of its own, in
# a register. So what goes over the vectors of a row is written out, in fours, and only the rows are a loop.

cdef inline void clear_sum(int j, int r, int across, vec* sums) noexcept nogil:
    if j < across:
        sums[r * across + j] = constant(0.0, sums)


cdef inline void clear_four(int j, int r, int across, vec* sums) noexcept nogil:
    clear_sum(j, r, across, sums)
    clear_sum(j + 1, r, across, sums)
    clear_sum(j + 2, r, across, sums)
    clear_sum(j + 3, r, across, sums)


cdef inline void store_sum(
    int j, int r, int across, const vec* sums, vec* c, Py_ssize_t c_stride, bint accumulate,
) noexcept nogil:
    """c[r, j] = or += sums[r, j]."""
    cdef Py_ssize_t i = r * c_stride + j * lanes(c)
    if j < across:
        store(c, i, load(c, i) + sums[r * across + j] if accumulate else sums[r * across + j])


cdef inline void store_four(
    int j, int r, int across, const vec* sums, vec* c, Py_ssize_t c_stride, bint accumulate,
) noexcept nogil:
    store_sum(j, r, across, sums, c, c_stride, accumulate)
    store_sum(j + 1, r, across, sums, c, c_stride, accumulate)
    store_sum(j + 2, r, across, sums, c, c_stride, accumulate)
    store_sum(j + 3, r, across, sums, c, c_stride, accumulate)


cdef inline void add_product(
    int j, int r, int rows, int across, const vec* a, Py_ssize_t a_stride, const vec* right, int n_k, vec* sums,
) noexcept nogil:
    """sums[r, j] += a[r, k] b[k, j] for n_k <= 2 k in order.

    One sum takes its products in a row: with another order gcc does not keep it in one register.
    """
    cdef vec sum
    if j >= across:
        return
    sum = sums[r * across + j]
    if rows >= TURNED_ROWS and a_stride == 0:
        sum = fma(splat(a, r), right[j], sum)
        if n_k > 1:
            sum = fma(splat(a, rows + r), right[across + j], sum)
    else:
        sum = added_product(sum, splat(a, r * a_stride), right[j])
        if n_k > 1:
            sum = added_product(sum, splat(a, r * a_stride + 1), right[across + j])
    sums[r * across + j] = sum


cdef inline void add_four(
    int j, int r, int rows, int across, const vec* even, const vec* odd, Py_ssize_t a_stride, const vec* right, int n_k,
    vec* sums,
) noexcept nogil:
    add_product(j, r, rows, across, even, a_stride, right, n_k, sums)
    add_product(j + 1, r, rows, across, odd, a_stride, right, n_k, sums)
    add_product(j + 2, r, rows, across, even, a_stride, right, n_k, sums)
    add_product(j + 3, r, rows, across, odd, a_stride, right, n_k, sums)


cdef inline void add_products(
    int rows, int across, const vec* a, Py_ssize_t a_stride, const vec* b, Py_ssize_t b_row,
    Py_ssize_t b_stride, Py_ssize_t k, int n_k, int first_row, vec* sums,
) noexcept nogil:
    """sums (rows, across) += a[:, k] b[k, :] for n_k <= TILE_K k in order, from row first_row on."""
    cdef vec right[TILE_K * 4 * TILE_VECTORS]
    cdef const vec* even = at(a, k)
    cdef const vec* odd = even
    cdef int r, i
    if rows >= TURNED_ROWS and a_stride == 0:
        even, odd = <const vec*> another(at(a, k * rows)), <const vec*> another(at(a, k * rows))
    for i in range(n_k * across):
        right[i] = load(b, i % across // TILE_VECTORS * b_stride + (k + i // across) * b_row
                        + i % across % TILE_VECTORS * lanes(a))
    for r in range(rows):
        if r >= first_row:
            add_four(0, r, rows, across, even, odd, a_stride, right, n_k, sums)
            add_four(4, r, rows, across, even, odd, a_stride, right, n_k, sums)
            add_four(8, r, rows, across, even, odd, a_stride, right, n_k, sums)
            add_four(12, r, rows, across, even, odd, a_stride, right, n_k, sums)


cdef inline void tile(
    int rows, int panels,                           # constants: every use is a kernel of its own
    const vec* a, Py_ssize_t a_stride, const vec* b, Py_ssize_t b_row, Py_ssize_t b_stride,
    Py_ssize_t n_k, Py_ssize_t tail, vec* c, Py_ssize_t c_stride, bint accumulate, const vec* ahead, Py_ssize_t every,
) noexcept nogil:
    """c (rows, panels * NR) = or += a (rows, n_k) @ b, one chunk.

    a_stride: from row to row of a; from TURNED_ROWS on perhaps 0: a is turned, (n_k, rows).
    b_row: from k to k; b_stride: from panel to panel. tail: row r goes on for min(r, tail) more k, the staircase of
    causal attention. ahead: what to fetch from memory meanwhile, where `every` is not 0: of one panel a line in each
    quarter every so many times two k, since memory gives four places at a time sooner than one; of several panels all.
    """
    cdef vec sums[TILE_ROWS * 4 * TILE_VECTORS]
    cdef Py_ssize_t k = 0, until = every, quarter = n_k * b_row * number_bytes(a) // 4
    cdef int r, j, across = panels * TILE_VECTORS
    cdef const vec* fetched
    for r in range(rows):
        clear_four(0, r, across, sums)
        clear_four(4, r, across, sums)
        clear_four(8, r, across, sums)
        clear_four(12, r, across, sums)
    while k + 2 <= n_k:
        if panels == 1:
            until -= 1
            if until == 0:
                for j in range(4):
                    prefetch(<const char*> ahead + j * quarter)
                ahead = <const vec*> (<const char*> ahead + 64)
                until = every
        elif every > 0:
            fetched = at(b, (k + FAR) * b_row) if k + FAR < n_k else at(ahead, (k + FAR - n_k) * b_row)
            for j in range(panels):
                for r in range(<int> (2 * TILE_VECTORS * lanes(a) * number_bytes(a) // 64)):
                    prefetch(<const char*> at(fetched, j * b_stride) + 64 * r)
        add_products(rows, across, a, a_stride, b, b_row, b_stride, k, TILE_K, 0, sums)
        if TILE_K == 1:
            add_products(rows, across, a, a_stride, b, b_row, b_stride, k + 1, 1, 0, sums)
        k += 2
    if k < n_k:
        add_products(rows, across, a, a_stride, b, b_row, b_stride, k, 1, 0, sums)
    for k in range(n_k, n_k + tail):
        add_products(rows, across, a, a_stride, b, b_row, b_stride, k, 1, <int> (k - n_k + 1), sums)
    for r in range(rows):
        store_four(0, r, across, sums, c, c_stride, accumulate)
        store_four(4, r, across, sums, c, c_stride, accumulate)
        store_four(8, r, across, sums, c, c_stride, accumulate)
        store_four(12, r, across, sums, c, c_stride, accumulate)


cdef void tile_of(
    Py_ssize_t rows, Py_ssize_t panels, const vec* a, Py_ssize_t a_stride,
    const vec* b, Py_ssize_t b_row, Py_ssize_t b_stride,
    Py_ssize_t n_k, Py_ssize_t tail, vec* c, Py_ssize_t c_stride, bint accumulate, const vec* ahead, Py_ssize_t every,
) noexcept nogil:
    """`tile` for a number of rows known only now; from four rows on, a lies CHUNK_STRIDE apart, or a_stride is 0.

    With a constant stride one register addresses all rows.
    """
    if panels == 4:
        tile(1, 4, a, a_stride, b, b_row, b_stride, n_k, 0, c, c_stride, accumulate, ahead, every)
    elif panels == 2:
        if rows == 1:
            tile(1, 2, a, a_stride, b, b_row, b_stride, n_k, 0, c, c_stride, accumulate, ahead, every)
        elif rows == 2:
            tile(2, 2, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every)
        else:
            tile(3, 2, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every)
    elif TURNED_ROWS <= TILE_ROWS and rows >= TURNED_ROWS and a_stride == 0:
        if rows == 10:
            tile(10, 1, a, 0, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every)
        elif rows == 11:
            tile(11, 1, a, 0, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every)
        else:
            tile(12, 1, a, 0, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every)
    elif rows == 1:
        tile(1, 1, a, a_stride, b, b_row, b_stride, n_k, 0, c, c_stride, accumulate, ahead, every)
    elif rows == 2:
        tile(2, 1, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every)
    elif rows == 3:
        tile(3, 1, a, a_stride, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every)
    elif rows == 4:
        tile(4, 1, a, CHUNK_STRIDE, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every)
    elif rows == 5:
        tile(5, 1, a, CHUNK_STRIDE, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every)
    elif rows == 6:
        tile(6, 1, a, CHUNK_STRIDE, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every)
    elif TILE_ROWS > 6:
        if rows == 7:
            tile(7, 1, a, CHUNK_STRIDE, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every)
        elif rows == 8:
            tile(8, 1, a, CHUNK_STRIDE, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every)
        elif rows == 9:
            tile(9, 1, a, CHUNK_STRIDE, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every)
        elif rows == 10:
            tile(10, 1, a, CHUNK_STRIDE, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every)
        elif rows == 11:
            tile(11, 1, a, CHUNK_STRIDE, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every)
        else:
            tile(12, 1, a, CHUNK_STRIDE, b, b_row, b_stride, n_k, tail, c, c_stride, accumulate, ahead, every)


cdef void tile_at_edge(
    Py_ssize_t rows, const vec* a, Py_ssize_t a_stride, const vec* b, Py_ssize_t b_row, Py_ssize_t n_k, Py_ssize_t tail,
    vec* c, Py_ssize_t c_stride, Py_ssize_t columns, bint accumulate, vec* edge,
) noexcept nogil:
    """`tile` on the last panel, of which only `columns` < NR exist in c: by way of `edge` (TILE_ROWS, NR)."""
    cdef Py_ssize_t r, i, j, nr = panel_width(a), width = lanes(a)
    if accumulate:
        for r in range(rows):
            for j in range(vectors(columns, a)):
                i = j * width
                store(edge, r * nr + i, load_some(c, r * c_stride + i, columns - i, constant(0.0, a)))
    tile_of(rows, 1, a, a_stride, b, b_row, 0, n_k, tail, edge, nr, accumulate, b, 0)
    for r in range(rows):
        for j in range(vectors(columns, a)):
            i = j * width
            store_some(c, r * c_stride + i, columns - i, load(edge, r * nr + i))


cdef inline Py_ssize_t panels_at_once(Py_ssize_t rows) noexcept nogil:
    """Few rows leave registers free for several panels, whose sums hide each other's latency."""
    return 4 if rows == 1 else 2 if rows <= 3 else 1


cdef void multiply_chunk(
    const vec* a, Py_ssize_t a_stride, Py_ssize_t rows, const vec* b, Py_ssize_t b_row, Py_ssize_t b_stride,
    Py_ssize_t n_k, Py_ssize_t tail, Py_ssize_t columns, vec* c, Py_ssize_t c_stride,
    bint accumulate, const vec* after, bint from_memory, vec* edge,
) noexcept nogil:
    """c (rows, columns) = or += a (rows, n_k) @ b, n_k <= CHUNK; `after` is where b goes on.

    From four rows on, a is what `copy_chunk` or `copy_turned` made, and a_stride is CHUNK_STRIDE or 0.
    """
    cdef Py_ssize_t nr = panel_width(a), column = 0, first, last, i
    cdef Py_ssize_t n_tiles = (rows + TILE_ROWS - 1) // TILE_ROWS
    cdef Py_ssize_t at_once = panels_at_once(rows), from_row = CHUNK_STRIDE if a_stride == 0 else a_stride
    # the tiles of a panel fetch the next one between them
    cdef Py_ssize_t every = n_tiles * 128 // (nr * number_bytes(a)) if b_row == nr else 0
    cdef const vec* ahead
    while at_once > 1:
        while column + at_once * nr <= columns:
            ahead = at(b, at_once * b_stride) if column + at_once * nr < columns else after
            tile_of(rows, at_once, a, a_stride, b, b_row, b_stride, n_k, tail, at(c, column), c_stride, accumulate,
                    ahead, from_memory)
            b = at(b, at_once * b_stride)
            column += at_once * nr
        at_once //= 2
    while column < columns:
        for i in range(n_tiles):
            first, last = 0, rows
            if n_tiles > 1:  # a division costs as much as a tile of the article
                first, last = rows * i // n_tiles, rows * (i + 1) // n_tiles
            if column + nr <= columns:
                ahead = b
                if every > 0:
                    ahead = at(b, b_stride) if column + nr < columns else after
                    if i > 0:
                        ahead = <const vec*> (<const char*> ahead + i * (n_k // 2) // every * 64)
                tile_of(last - first, 1, at(a, first * from_row), a_stride, b, b_row, 0, n_k, tail,
                        at(c, first * c_stride + column), c_stride, accumulate, ahead, every)
            else:
                tile_at_edge(last - first, at(a, first * from_row), a_stride, b, b_row, n_k, tail,
                             at(c, first * c_stride + column), c_stride, columns - column, accumulate, edge)
        b = at(b, b_stride)
        column += nr


cdef inline void finish_rows(
    vec* c, Py_ssize_t c_stride, Py_ssize_t rows, Py_ssize_t columns, const vec* bias, int activation,
) noexcept nogil:
    """c = activation(c + bias), the activation a constant."""
    cdef Py_ssize_t r, i, width = lanes(c)
    cdef vec x
    cdef vec zero = constant(0.0, c)
    for r in range(rows):
        i = 0
        while i + width <= columns:
            x = load(c, i)
            if bias != NULL:
                x = x + load(bias, i)
            store(c, i, activated(x, activation, c))
            i += width
        if i < columns:
            x = load_some(c, i, columns - i, zero)
            if bias != NULL:
                x = x + load_some(bias, i, columns - i, zero)
            store_some(c, i, columns - i, activated(x, activation, c))
        c = at(c, c_stride)


cdef void finish(
    vec* c, Py_ssize_t c_stride, Py_ssize_t rows, Py_ssize_t columns, const vec* bias, int activation,
) noexcept nogil:
    """Bias and activation, while the columns are still in the cache."""
    if activation == RELU:
        finish_rows(c, c_stride, rows, columns, bias, RELU)
    elif activation == GELU:
        finish_rows(c, c_stride, rows, columns, bias, GELU)
    elif activation == GELU_TANH:
        finish_rows(c, c_stride, rows, columns, bias, GELU_TANH)
    elif activation == SILU:
        finish_rows(c, c_stride, rows, columns, bias, SILU)
    elif bias != NULL:
        finish_rows(c, c_stride, rows, columns, bias, IDENTITY)


cdef void copy_chunk(
    const vec* a, Py_ssize_t a_stride, Py_ssize_t rows, Py_ssize_t n_k, vec* copy,
) noexcept nogil:
    """Rows of a chunk side by side: one constant stride, which shares no cache sets and few pages."""
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


cdef inline bint worth_turning(Py_ssize_t rows, Py_ssize_t columns, const vec* like) noexcept nogil:
    """Whether all tiles have TURNED_ROWS, and enough panels to use them."""
    cdef Py_ssize_t n_tiles = (rows + TILE_ROWS - 1) // TILE_ROWS
    return rows >= n_tiles * TURNED_ROWS and columns >= TURNED_PANELS * panel_width(like)


cdef inline size_t product_scratch_bytes(const vec* like) noexcept nogil:
    return <size_t> ((MOST_ROWS * CHUNK_STRIDE + TILE_ROWS * panel_width(like)) * number_bytes(like))


cdef void product(
    const vec* a, Py_ssize_t a_stride, Py_ssize_t rows, const vec* b, Py_ssize_t b_row, Py_ssize_t b_stride,
    Py_ssize_t n_k, Py_ssize_t columns, vec* c, Py_ssize_t c_stride, const vec* bias, int activation, bint from_memory,
    vec* scratch,
) noexcept nogil:
    """c (rows, columns) = activation(a (rows, n_k) @ b + bias); at most MOST_ROWS rows.

    b: panels, b_row = NR and b_stride = n_k * NR; or a plain matrix of whole panels, b_stride = NR. from_memory: b is
    in no cache, and a few rows have time to fetch it themselves.
    """
    cdef Py_ssize_t k = 0, chunk
    cdef vec* copy = at(scratch, TILE_ROWS * panel_width(a))
    cdef const vec* left
    cdef bint turn = worth_turning(rows, columns, a)
    while True:  # once even where n_k is 0: the sums are then zeros
        chunk = min(CHUNK, n_k - k)
        left = at(a, k)
        if turn:
            copy_turned(left, a_stride, rows, chunk, copy)
            left = copy
        elif rows > 3:
            copy_chunk(left, a_stride, rows, chunk, copy)
            left = copy
        multiply_chunk(left, 0 if turn else CHUNK_STRIDE if rows > 3 else a_stride, rows,
                       at(b, k * b_row), b_row, b_stride, chunk, 0, columns, c, c_stride, k > 0,
                       at(b, (k + chunk) * b_row if k + chunk < n_k else 0), from_memory, scratch)
        k += chunk
        if k >= n_k:
            break
    if bias != NULL or activation != IDENTITY:
        finish(c, c_stride, rows, columns, bias, activation)


cdef void tiny_product(const LinearArguments* linear, vec* edge) noexcept nogil:
    """Up to three rows, one chunk, one panel: the sizes of the article, where every instruction counts."""
    cdef Py_ssize_t r, i, j, nr = panel_width(edge), width = lanes(edge)
    cdef const vec* bias = <const vec*> linear.bias
    cdef vec x
    cdef vec zero = constant(0.0, edge)
    tile_of(linear.rows, 1, <const vec*> linear.x, linear.x_stride, <const vec*> linear.weight, nr, 0,
            linear.d_in, 0, edge, nr, False, <const vec*> linear.weight, 0)
    for r in range(linear.rows):
        for j in range(vectors(linear.d_out, edge)):
            i = j * width
            x = load(edge, r * nr + i)
            if bias != NULL:
                x = x + load_some(bias, i, linear.d_out - i, zero)
            if linear.activation != IDENTITY:
                x = activated(x, linear.activation, edge)
            store_some(<vec*> linear.out, r * linear.out_stride + i, linear.d_out - i, x)


cdef inline bint from_memory(const LinearArguments* linear, const vec* like) noexcept nogil:
    if linear.company > 0:
        return linear.company > MANY_WEIGHTS
    return linear.d_in * linear.d_out * number_bytes(like) >= LARGE_WEIGHT


cdef void linear_task(const LinearArguments* linear, Py_ssize_t task, vec* scratch) noexcept nogil:
    """One block of rows times one group of panels."""
    cdef Py_ssize_t nr = panel_width(scratch), row, column
    cdef const vec* bias = <const vec*> linear.bias
    if linear.rows <= 3 and linear.d_in <= CHUNK and linear.d_out <= nr:
        tiny_product(linear, scratch)
        return
    row = task % linear.n_row_blocks * linear.rows_per_block
    column = task // linear.n_row_blocks * linear.panels_per_group * nr
    product(at(<const vec*> linear.x, row * linear.x_stride), linear.x_stride,
            min(linear.rows_per_block, linear.rows - row),
            at(<const vec*> linear.weight, column * linear.d_in), nr, linear.d_in * nr, linear.d_in,
            min(linear.panels_per_group * nr, linear.d_out - column),
            at(<vec*> linear.out, row * linear.out_stride + column), linear.out_stride,
            NULL if bias == NULL else at(bias, column), linear.activation,
            from_memory(linear, scratch), scratch)


cdef void size_linear(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    """Split rows and columns so that a few tasks fall to each thread, all rows of one group of columns in turn."""
    cdef LinearArguments* linear = &op.arguments.linear
    cdef Py_ssize_t n_panels = up_to(linear.d_out, panel_width(like)) // panel_width(like)
    cdef Py_ssize_t blocks = max(<Py_ssize_t> 1, (rows + ROW_BLOCK // 2) // ROW_BLOCK), groups = 1
    cdef double numbers = <double> linear.d_in * linear.d_out
    linear.rows = rows
    linear.rows_per_block = max(<Py_ssize_t> 1, (rows + blocks - 1) // blocks)
    blocks = (rows + linear.rows_per_block - 1) // linear.rows_per_block  # rounding up may have made the last ones empty
    linear.n_row_blocks = max(<Py_ssize_t> 1, blocks)
    if blocks > 1 and numbers * number_bytes(like) > HUGE_WEIGHT:
        groups = min(n_panels, <Py_ssize_t> (numbers * number_bytes(like) / GROUP_BYTES))
    if threads > 1:
        groups = max(groups, min(n_panels, (4 * threads + blocks - 1) // max(<Py_ssize_t> 1, blocks)))
    linear.panels_per_group = max(<Py_ssize_t> 1, (n_panels + groups - 1) // groups)
    if rows <= 3:  # whole sets of panels at once
        linear.panels_per_group = up_to(linear.panels_per_group, 4)
    op.n_tasks = 0 if rows == 0 else blocks * (
        (n_panels + linear.panels_per_group - 1) // linear.panels_per_group)
    op.nanoseconds = <int64_t> (numbers * number_bytes(like) * max(<double> rows / 300, 1.0 / 30))
    op.scratch_bytes = product_scratch_bytes(like) if rows > 3 else TILE_ROWS * panel_width(like) * number_bytes(like)
    op.task = <TaskFunction> (<void*> linear_task[vec])


cdef void pack_part(
    const PackArguments* pack, Py_ssize_t panel, Py_ssize_t k, Py_ssize_t end, const vec* like,
) noexcept nogil:
    """Rows k to end of one panel."""
    cdef Py_ssize_t nr = panel_width(like), width = lanes(like), column = panel * nr, j
    cdef Py_ssize_t columns = min(nr, pack.d_out - column)
    cdef const vec* source = at(<const vec*> pack.weight, k * pack.row_stride + column * pack.column_stride)
    cdef vec* to = at(<vec*> pack.panels, column * pack.d_in + k * nr)
    if pack.row_stride == 1 and columns == nr:  # a transposed weight
        for j in range(TILE_VECTORS):
            pack_group(at(source, j * width * pack.column_stride), pack.column_stride, end - k, at(to, j * width), nr)
        return
    for k in range(k, end):
        if pack.column_stride == 1 and columns == nr:
            for j in range(TILE_VECTORS):
                store(to, j * width, load(source, j * width))
        elif pack.column_stride == 1:
            for j in range(TILE_VECTORS):
                store(to, j * width, load_some(source, j * width, columns - j * width, constant(0.0, like)))
        else:
            for j in range(nr):
                put(to, j, number(source, j * pack.column_stride) if j < columns else 0.0)
        source = at(source, pack.row_stride)
        to = at(to, nr)


cdef void pack_task(const PackArguments* pack, Py_ssize_t task, vec* scratch) noexcept nogil:
    """PACKED_AT_ONCE panels. A few rows of all at a time: so a plain weight is read along its rows, not down a column,
    each number of which lies in another page."""
    cdef Py_ssize_t n_panels = up_to(pack.d_out, panel_width(scratch)) // panel_width(scratch)
    cdef Py_ssize_t first = task * PACKED_AT_ONCE, last = min(first + PACKED_AT_ONCE, n_panels), panel, k = 0, end
    while k < pack.d_in:
        end = min(k + ROWS_PACKED_AT_ONCE, pack.d_in)
        for panel in range(first, last):
            pack_part(pack, panel, k, end, scratch)
        k = end


cdef void size_pack(Op* op, const vec* like) noexcept nogil:
    cdef PackArguments* pack = &op.arguments.pack
    cdef Py_ssize_t n_panels = up_to(pack.d_out, panel_width(like)) // panel_width(like)
    op.n_tasks = (n_panels + PACKED_AT_ONCE - 1) // PACKED_AT_ONCE
    op.nanoseconds = pack.d_in * pack.d_out * number_bytes(like) // 8
    op.scratch_bytes = 0
    op.task = <TaskFunction> (<void*> pack_task[vec])


cdef inline bint is_read_in_place(Py_ssize_t m, Py_ssize_t k, Py_ssize_t n, Py_ssize_t itemsize) noexcept nogil:
    """Whether a plain right operand (k, n) is multiplied where it lies, but for what is no whole panel."""
    cdef double size = <double> k * n * itemsize
    return size <= (MOST_IN_PLACE if m <= 3 else SMALL_OPERAND if m <= ROWS_NOT_WORTH_PACKING else L1_OPERAND)


cdef void matmul_task(const MatmulArguments* matmul, Py_ssize_t task, vec* scratch) noexcept nogil:
    """One product of a batch, block by block of its rows; what is not read in place is packed first."""
    cdef Py_ssize_t nr = panel_width(scratch), k = matmul.k, n = matmul.n, row = 0, rows, panel, whole = 0
    cdef Py_ssize_t blocks = max(<Py_ssize_t> 1, (matmul.m + ROW_BLOCK // 2) // ROW_BLOCK)
    cdef Py_ssize_t block = (matmul.m + blocks - 1) // blocks
    cdef const vec* a = at(<const vec*> matmul.a, task * matmul.m * k)
    cdef const vec* b = at(<const vec*> matmul.b, task * k * n)
    cdef const vec* bias = <const vec*> matmul.bias
    cdef vec* out = at(<vec*> matmul.out, task * matmul.m * n)
    cdef vec* panels = at(scratch, product_scratch_bytes(scratch) // number_bytes(scratch))
    cdef bint from_memory = <double> k * n * number_bytes(scratch) >= LARGE_WEIGHT
    cdef PackArguments pack
    if is_read_in_place(matmul.m, k, n, number_bytes(scratch)):
        whole = n // nr * nr  # all but what is no whole panel
    if whole < n:
        pack = PackArguments(at(b, whole), n, 1, k, n - whole, panels)
        for panel in range((n - whole + PACKED_AT_ONCE * nr - 1) // (PACKED_AT_ONCE * nr)):
            pack_task(&pack, panel, scratch)
    while row < matmul.m:
        rows = min(block, matmul.m - row)
        if whole > 0:
            product(at(a, row * k), k, rows, b, n, nr, k, whole, at(out, row * n), n, bias, matmul.activation,
                    from_memory, scratch)
        if whole < n:
            product(at(a, row * k), k, rows, panels, nr, k * nr, k, n - whole, at(out, row * n + whole), n,
                    NULL if bias == NULL else at(bias, whole), matmul.activation, False, scratch)
        row += block


cdef void size_matmul(Op* op, Py_ssize_t batch, int threads, const vec* like) noexcept nogil:
    cdef MatmulArguments* matmul = &op.arguments.matmul
    op.n_tasks = batch
    op.nanoseconds = <int64_t> (
        <double> batch * matmul.k * matmul.n * number_bytes(like) * max(<double> matmul.m / 300, 1.0 / 30))
    op.scratch_bytes = product_scratch_bytes(like) + <size_t> (number_bytes(like) * matmul.k * (
        panel_width(like) if is_read_in_place(matmul.m, matmul.k, matmul.n, number_bytes(like))
        else up_to(matmul.n, panel_width(like))))
    op.task = <TaskFunction> (<void*> matmul_task[vec])
