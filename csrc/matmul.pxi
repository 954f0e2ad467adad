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
    ROW_BLOCK = 48                   # rows whose chunk is copied at a time: it stays in the L2 cache


cdef inline Py_ssize_t panel_width(const vec* like) noexcept nogil:
    """NR: columns of a panel."""
    return TILE_VECTORS * lanes(like)


cdef inline Py_ssize_t up_to(Py_ssize_t n, Py_ssize_t multiple) noexcept nogil:
    return (n + multiple - 1) // multiple * multiple


cdef inline void tile(
    int rows, int panels,                           # constants: every use is a kernel of its own
    const vec* a, Py_ssize_t a_stride, const vec* b, Py_ssize_t b_stride,
    Py_ssize_t n_k, Py_ssize_t tail, vec* c, Py_ssize_t c_stride, bint accumulate, const vec* ahead,
) noexcept nogil:
    """c (rows, panels * NR) = or += a (rows, n_k) @ b, one chunk.

    b_stride: from panel to panel. tail: row r goes on for min(r, tail) more k, the staircase of
    causal attention. ahead: what to fetch from memory meanwhile, a cache line per k.
    """
    cdef vec sums[TILE_ROWS][4 * TILE_VECTORS]
    cdef vec right[4 * TILE_VECTORS]
    cdef vec left
    cdef Py_ssize_t k, width = lanes(a), nr = panel_width(a)
    cdef int r, j
    for r in range(rows):
        for j in range(panels * TILE_VECTORS):
            sums[r][j] = constant(0.0, a)
    for k in range(n_k):
        for j in range(panels * TILE_VECTORS):
            right[j] = load(b, j // TILE_VECTORS * b_stride + k * nr + j % TILE_VECTORS * width)
        if panels == 1:
            prefetch(<const char*> ahead + 64 * k)
        for r in range(rows):
            left = splat(a, r * a_stride + k)
            for j in range(panels * TILE_VECTORS):
                sums[r][j] = fma(left, right[j], sums[r][j])
    for k in range(n_k, n_k + tail):
        for j in range(panels * TILE_VECTORS):
            right[j] = load(b, j // TILE_VECTORS * b_stride + k * nr + j % TILE_VECTORS * width)
        for r in range(rows):
            if r > k - n_k:
                left = splat(a, r * a_stride + k)
                for j in range(panels * TILE_VECTORS):
                    sums[r][j] = fma(left, right[j], sums[r][j])
    for r in range(rows):
        for j in range(panels * TILE_VECTORS):
            if accumulate:
                sums[r][j] = load(c, r * c_stride + j * width) + sums[r][j]
            store(c, r * c_stride + j * width, sums[r][j])


cdef void tile_of(
    Py_ssize_t rows, Py_ssize_t panels, const vec* a, Py_ssize_t a_stride, const vec* b, Py_ssize_t b_stride,
    Py_ssize_t n_k, Py_ssize_t tail, vec* c, Py_ssize_t c_stride, bint accumulate, const vec* ahead,
) noexcept nogil:
    """`tile` for a number of rows known only now; from four rows on, a lies CHUNK_STRIDE apart.

    With a constant stride one register addresses all rows.
    """
    if panels == 4:
        tile(1, 4, a, a_stride, b, b_stride, n_k, 0, c, c_stride, accumulate, ahead)
    elif panels == 2 and rows == 2:
        tile(2, 2, a, a_stride, b, b_stride, n_k, tail, c, c_stride, accumulate, ahead)
    elif panels == 2:
        tile(3, 2, a, a_stride, b, b_stride, n_k, tail, c, c_stride, accumulate, ahead)
    elif rows == 1:
        tile(1, 1, a, a_stride, b, b_stride, n_k, 0, c, c_stride, accumulate, ahead)
    elif rows == 2:
        tile(2, 1, a, a_stride, b, b_stride, n_k, tail, c, c_stride, accumulate, ahead)
    elif rows == 3:
        tile(3, 1, a, a_stride, b, b_stride, n_k, tail, c, c_stride, accumulate, ahead)
    elif rows == 4:
        tile(4, 1, a, CHUNK_STRIDE, b, b_stride, n_k, tail, c, c_stride, accumulate, ahead)
    elif rows == 5:
        tile(5, 1, a, CHUNK_STRIDE, b, b_stride, n_k, tail, c, c_stride, accumulate, ahead)
    elif rows == 6:
        tile(6, 1, a, CHUNK_STRIDE, b, b_stride, n_k, tail, c, c_stride, accumulate, ahead)
    elif TILE_ROWS > 6:
        if rows == 7:
            tile(7, 1, a, CHUNK_STRIDE, b, b_stride, n_k, tail, c, c_stride, accumulate, ahead)
        elif rows == 8:
            tile(8, 1, a, CHUNK_STRIDE, b, b_stride, n_k, tail, c, c_stride, accumulate, ahead)
        elif rows == 9:
            tile(9, 1, a, CHUNK_STRIDE, b, b_stride, n_k, tail, c, c_stride, accumulate, ahead)
        elif rows == 10:
            tile(10, 1, a, CHUNK_STRIDE, b, b_stride, n_k, tail, c, c_stride, accumulate, ahead)
        elif rows == 11:
            tile(11, 1, a, CHUNK_STRIDE, b, b_stride, n_k, tail, c, c_stride, accumulate, ahead)
        else:
            tile(12, 1, a, CHUNK_STRIDE, b, b_stride, n_k, tail, c, c_stride, accumulate, ahead)


cdef void tile_at_edge(
    Py_ssize_t rows, const vec* a, Py_ssize_t a_stride, const vec* b, Py_ssize_t n_k, Py_ssize_t tail,
    vec* c, Py_ssize_t c_stride, Py_ssize_t columns, bint accumulate, vec* edge,
) noexcept nogil:
    """`tile` on the last panel, of which only `columns` < NR exist in c: by way of `edge` (TILE_ROWS, NR)."""
    cdef Py_ssize_t r, i, j, nr = panel_width(a), width = lanes(a)
    if accumulate:
        for r in range(rows):
            for j in range(vectors(columns, a)):
                i = j * width
                store(edge, r * nr + i, load_some(c, r * c_stride + i, columns - i, constant(0.0, a)))
    tile_of(rows, 1, a, a_stride, b, 0, n_k, tail, edge, nr, accumulate, b)
    for r in range(rows):
        for j in range(vectors(columns, a)):
            i = j * width
            store_some(c, r * c_stride + i, columns - i, load(edge, r * nr + i))


cdef inline Py_ssize_t panels_at_once(Py_ssize_t rows) noexcept nogil:
    """Few rows leave registers free for several panels, whose sums hide each other's latency."""
    return 4 if rows == 1 else 2 if rows <= 3 else 1


cdef void multiply_chunk(
    const vec* a, Py_ssize_t a_stride, Py_ssize_t rows, const vec* b, Py_ssize_t b_stride,
    Py_ssize_t n_k, Py_ssize_t tail, Py_ssize_t columns, vec* c, Py_ssize_t c_stride,
    bint accumulate, const vec* after, vec* edge,
) noexcept nogil:
    """c (rows, columns) = or += a (rows, n_k) @ b, n_k <= CHUNK; `after` is where b goes on.

    From four rows on, a_stride is CHUNK_STRIDE: see copy_chunk.
    """
    cdef Py_ssize_t nr = panel_width(a), column = 0, first, last, i
    cdef Py_ssize_t n_tiles = (rows + TILE_ROWS - 1) // TILE_ROWS
    cdef Py_ssize_t at_once = panels_at_once(rows), lines = nr * number_bytes(a) // 64
    cdef const vec* ahead
    if at_once > 1:
        while column + at_once * nr <= columns:
            tile_of(rows, at_once, a, a_stride, b, b_stride, n_k, tail, at(c, column), c_stride, accumulate, b)
            b = at(b, at_once * b_stride)
            column += at_once * nr
    while column < columns:
        for i in range(n_tiles):
            first, last = rows * i // n_tiles, rows * (i + 1) // n_tiles
            if column + nr <= columns:
                ahead = b
                if i < lines:  # each of the first tiles fetches its share of the next panel
                    ahead = after
                    if column + nr < columns:
                        ahead = at(b, b_stride)
                    ahead = at(ahead, i * n_k * nr // lines)
                tile_of(last - first, 1, at(a, first * a_stride), a_stride, b, 0, n_k, tail,
                        at(c, first * c_stride + column), c_stride, accumulate, ahead)
            else:
                tile_at_edge(last - first, at(a, first * a_stride), a_stride, b, n_k, tail,
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
    cdef Py_ssize_t r
    for r in range(rows):
        memcpy(at(copy, r * CHUNK_STRIDE), at(a, r * a_stride), n_k * number_bytes(a))


cdef inline size_t product_scratch_bytes(const vec* like) noexcept nogil:
    return <size_t> ((ROW_BLOCK * CHUNK_STRIDE + TILE_ROWS * panel_width(like)) * number_bytes(like))


cdef void product(
    const vec* a, Py_ssize_t a_stride, Py_ssize_t rows, const vec* panels, Py_ssize_t n_k, Py_ssize_t columns,
    vec* c, Py_ssize_t c_stride, const vec* bias, int activation, vec* scratch,
) noexcept nogil:
    """c (rows, columns) = activation(a (rows, n_k) @ panels + bias)."""
    cdef Py_ssize_t nr = panel_width(a), start = 0, block, k, chunk
    cdef vec* copy = at(scratch, TILE_ROWS * nr)
    cdef bint copying
    while start < rows:
        block = min(ROW_BLOCK, rows - start)
        copying = block > 3
        k = 0
        while True:  # once even where n_k is 0: the sums are then zeros
            chunk = min(CHUNK, n_k - k)
            if copying:
                copy_chunk(at(a, start * a_stride + k), a_stride, block, chunk, copy)
            multiply_chunk(copy if copying else at(a, start * a_stride + k), CHUNK_STRIDE if copying else a_stride,
                           block, at(panels, k * nr), n_k * nr, chunk, 0, columns,
                           at(c, start * c_stride), c_stride, k > 0,
                           at(panels, (k + chunk) * nr if k + chunk < n_k else 0), scratch)
            k += chunk
            if k >= n_k:
                break
        if bias != NULL or activation != IDENTITY:
            finish(at(c, start * c_stride), c_stride, block, columns, bias, activation)
        start += block


cdef void tiny_product(const LinearArguments* linear, vec* edge) noexcept nogil:
    """Up to three rows, one chunk, one panel: the sizes of the article, where every instruction counts."""
    cdef Py_ssize_t r, i, j, nr = panel_width(edge), width = lanes(edge)
    cdef const vec* bias = <const vec*> linear.bias
    cdef vec x
    cdef vec zero = constant(0.0, edge)
    tile_of(linear.rows, 1, <const vec*> linear.x, linear.x_stride, <const vec*> linear.weight, 0,
            linear.d_in, 0, edge, nr, False, <const vec*> linear.weight)
    for r in range(linear.rows):
        for j in range(vectors(linear.d_out, edge)):
            i = j * width
            x = load(edge, r * nr + i)
            if bias != NULL:
                x = x + load_some(bias, i, linear.d_out - i, zero)
            if linear.activation != IDENTITY:
                x = activated(x, linear.activation, edge)
            store_some(<vec*> linear.out, r * linear.out_stride + i, linear.d_out - i, x)


cdef void linear_task(const LinearArguments* linear, Py_ssize_t task, vec* scratch) noexcept nogil:
    """One block of rows times one group of panels."""
    cdef Py_ssize_t nr = panel_width(scratch), row, column
    cdef const vec* bias = <const vec*> linear.bias
    if linear.rows <= 3 and linear.d_in <= CHUNK and linear.d_out <= nr:
        tiny_product(linear, scratch)
        return
    row = task // linear.n_column_groups * ROW_BLOCK
    column = task % linear.n_column_groups * linear.panels_per_group * nr
    product(at(<const vec*> linear.x, row * linear.x_stride), linear.x_stride, min(ROW_BLOCK, linear.rows - row),
            at(<const vec*> linear.weight, column * linear.d_in), linear.d_in,
            min(linear.panels_per_group * nr, linear.d_out - column),
            at(<vec*> linear.out, row * linear.out_stride + column), linear.out_stride,
            NULL if bias == NULL else at(bias, column), linear.activation, scratch)


cdef void size_linear(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    """Split rows and columns so that a few tasks fall to each thread."""
    cdef LinearArguments* linear = &op.arguments.linear
    cdef Py_ssize_t n_panels = up_to(linear.d_out, panel_width(like)) // panel_width(like)
    cdef Py_ssize_t row_blocks = (rows + ROW_BLOCK - 1) // ROW_BLOCK
    cdef Py_ssize_t groups = 1
    cdef double numbers = <double> linear.d_in * linear.d_out
    linear.rows = rows
    if threads > 1 and n_panels > 0 and row_blocks > 0:
        groups = min(n_panels, max(<Py_ssize_t> 1, (4 * threads + row_blocks - 1) // row_blocks))
    linear.panels_per_group = max(<Py_ssize_t> 1, (n_panels + groups - 1) // groups)
    if rows <= 3:  # whole sets of panels at once
        linear.panels_per_group = up_to(linear.panels_per_group, 4)
    linear.n_column_groups = (n_panels + linear.panels_per_group - 1) // linear.panels_per_group
    op.n_tasks = row_blocks * linear.n_column_groups
    op.nanoseconds = <int64_t> (numbers * number_bytes(like) * max(<double> rows / 300, 1.0 / 30))
    op.scratch_bytes = product_scratch_bytes(like)
    op.task = <TaskFunction> (<void*> linear_task[vec])


cdef void pack_task(const PackArguments* pack, Py_ssize_t task, vec* scratch) noexcept nogil:
    """One panel."""
    cdef Py_ssize_t nr = panel_width(scratch), k, j, column = task * nr
    cdef Py_ssize_t columns = min(nr, pack.d_out - column)
    cdef const vec* source = at(<const vec*> pack.weight, column * pack.column_stride)
    cdef vec* panel = at(<vec*> pack.panels, column * pack.d_in)
    cdef Py_ssize_t width = lanes(scratch)
    for k in range(pack.d_in):
        if pack.column_stride == 1:
            for j in range(TILE_VECTORS):
                store(panel, j * width, load_some(source, j * width, columns - j * width, constant(0.0, scratch)))
        else:
            for j in range(nr):
                put(panel, j, number(source, j * pack.column_stride) if j < columns else 0.0)
        source = at(source, pack.row_stride)
        panel = at(panel, nr)


cdef void size_pack(Op* op, const vec* like) noexcept nogil:
    cdef PackArguments* pack = &op.arguments.pack
    op.n_tasks = up_to(pack.d_out, panel_width(like)) // panel_width(like)
    op.nanoseconds = pack.d_in * pack.d_out * number_bytes(like) // 8
    op.scratch_bytes = 0
    op.task = <TaskFunction> (<void*> pack_task[vec])
