"""Products of two plain matrices: the right operand packed first, or multiplied where it lies."""

cdef enum:
    L1_OPERAND = 32 << 10            # bytes: a right operand is read where it lies,
    ROWS_NOT_WORTH_PACKING = 128     # one of SMALL_OPERAND if no more rows than these use it,
    MOST_IN_PLACE = 64 << 20         # and one of so many bytes that up to three rows use
    K_IN_L1 = 128                    # of a panel that stays in the L1 cache, packed
    ROWS_OF_NARROW = 16              # so many use one of less than a panel, chunk by chunk
    ROWS_OF_PIECE = 16               # at least, where the rows of a product are several tasks,
    ROWS_OF_FAR = 96                 # if each of these tasks fetches the right operand,
    PANELS_OF_PIECE = 4              # and panels, where its columns are
    COLUMNS_IN_L3 = 4 << 20          # bytes of a right operand that all rows of a task use before the next columns
    ALONE = 4 << 20                  # multiply-adds: fewer are done sooner than packed for a second thread
    LONG_PRODUCT = 1 << 30           # multiply-adds: a task ends soon, so that a run can be interrupted


cdef inline bint is_narrow(Py_ssize_t m, Py_ssize_t n, Py_ssize_t itemsize) noexcept nogil:
    """Whether a right operand has less than a panel of columns, and so few rows to multiply that packing would take more
    memory than they do."""
    return m <= ROWS_OF_NARROW and n * itemsize < TILE_VECTORS * <Py_ssize_t> sizeof(vf)


cdef inline bint is_read_in_place(Py_ssize_t m, Py_ssize_t k, Py_ssize_t n, Py_ssize_t itemsize) noexcept nogil:
    """Whether a plain right operand (k, n) is multiplied where it lies, but for what is no whole panel.

    On AMD's cores (measured on Zen 4) it is almost always where the rows of a panel are two cache lines: not if all of it
    would stay in the L1 cache, packed, and many tiles use it, while it shares sets of the cache where it lies. Where they
    are one line, twice as many tiles read it from the L2 cache: then a few rows do, or a block if it shares no sets.
    """
    cdef double size = <double> k * n * itemsize
    if is_narrow(m, n, itemsize):
        return True
    if amd and TILE_VECTORS * sizeof(vf) >= 128:
        return m <= ROWS_NOT_WORTH_PACKING or k > K_IN_L1 or n * itemsize % CACHE_WAY != 0
    if amd and (m <= ROW_BLOCK // 2 or m <= ROW_BLOCK and n * itemsize % (CACHE_WAY // 2) != 0):
        return True
    return size <= (MOST_IN_PLACE if m <= FEW_ROWS else SMALL_OPERAND if m <= ROWS_NOT_WORTH_PACKING else L1_OPERAND)


cdef void multiply_edge(
    const vec* a, Py_ssize_t m, Py_ssize_t k, const vec* b, Py_ssize_t b_row, Py_ssize_t columns, vec* c, Py_ssize_t c_stride,
    vec* scratch,
) noexcept nogil:
    """c (m, columns) = a (m, k) @ b, the last columns of a plain operand, no whole panel: packed chunk by chunk."""
    cdef Py_ssize_t nr = panel_width(a), block = rows_of_a_block(m), first = 0, chunk, row, rows, stride, i
    cdef vec* copy = at(scratch, TILE_ROWS * nr)
    cdef vec* panel = at(scratch, product_scratch_bytes(scratch) // number_bytes(scratch))
    cdef const vec* left
    cdef PackArguments pack
    while True:  # once even where k is 0: the sums are then zeros
        chunk = min(CHUNK, k - first)
        pack = PackArguments(at(b, first * b_row), b_row, 1, chunk, columns, panel)
        for i in range(pack_tasks(&pack, scratch)):
            pack_task(&pack, i, scratch)
        row = 0
        while row < m:
            rows = min(block, m - row)
            left, stride = at(a, row * k + first), k
            if is_copied(rows, k, a):
                copy_chunk(left, k, rows, chunk, copy)
                left, stride = copy, CHUNK_STRIDE
            multiply_chunk(left, stride, rows, panel, nr, chunk * nr, chunk, 0, columns, at(c, row * c_stride), c_stride,
                           first > 0, panel, NULL, False, scratch)
            row += rows
        first += chunk
        if first >= k:
            break


cdef inline Py_ssize_t rows_of_a_task(
    Py_ssize_t batch, Py_ssize_t m, Py_ssize_t k, Py_ssize_t n, int threads, Py_ssize_t itemsize,
) noexcept nogil:
    """All of a product's; or so many that a task ends soon; or, where products are fewer than threads, that each thread
    finds two tasks."""
    cdef double size = <double> k * n * itemsize, work = <double> m * k * n
    cdef Py_ssize_t pieces = 1
    if batch < threads:
        pieces = min(<Py_ssize_t> 2 * threads, m // (ROWS_OF_FAR if size > FAR_OPERAND else ROWS_OF_PIECE))
    if work > LONG_PRODUCT:
        pieces = max(pieces, min(m // ROW_BLOCK, <Py_ssize_t> (work / LONG_PRODUCT) + 1))
    return max(<Py_ssize_t> 1, m if pieces <= 1 else (m + pieces - 1) // pieces)


cdef inline Py_ssize_t columns_of_a_task(const MatmulArguments* matmul, int threads, const vec* like) noexcept nogil:
    """Whole panels: all, unless rows make too few tasks, or too long ones, or more is read by each block of them than stays
    in a cache."""
    cdef Py_ssize_t panels = matmul.n // panel_width(like), tasks = matmul.batch * matmul.row_pieces, pieces = 1
    cdef double work = <double> matmul.rows_per_task * matmul.k * matmul.n
    if tasks < threads:
        pieces = min(panels // PANELS_OF_PIECE, (2 * threads + tasks - 1) // tasks)
    if matmul.rows_per_task > MOST_ROWS:
        pieces = max(pieces, min(panels // TURNED_PANELS, <Py_ssize_t> (
            <double> matmul.k * matmul.n * number_bytes(like) / COLUMNS_IN_L3)))
    if work > LONG_PRODUCT:
        pieces = max(pieces, min(panels, <Py_ssize_t> (work / LONG_PRODUCT) + 1))
    return matmul.n if pieces <= 1 else (panels + pieces - 1) // pieces * panel_width(like)


cdef inline Py_ssize_t first_row(const MatmulArguments* matmul, Py_ssize_t task) noexcept nogil:
    """Of a task's rows, among those of all products."""
    cdef Py_ssize_t rows = task // matmul.column_pieces
    return rows // matmul.row_pieces * matmul.m + rows % matmul.row_pieces * matmul.rows_per_task


cdef void matmul_task(const MatmulArguments* matmul, Py_ssize_t task, vec* scratch) noexcept nogil:
    """One product of a batch, or some rows or columns of it, block by block; what is not read in place is packed first."""
    cdef Py_ssize_t nr = panel_width(scratch), k = matmul.k, n = matmul.n, row = 0, i
    cdef Py_ssize_t pieces = matmul.row_pieces * matmul.column_pieces, product_number = task // pieces
    cdef Py_ssize_t first = first_row(matmul, task), block, rows, later
    cdef Py_ssize_t m = min(matmul.rows_per_task, (product_number + 1) * matmul.m - first)
    cdef Py_ssize_t piece = task % matmul.column_pieces, column = piece * matmul.columns_per_task
    cdef Py_ssize_t columns = matmul.columns_per_task if piece < matmul.column_pieces - 1 else n - column
    cdef Py_ssize_t b_row = n, b_stride = nr, whole = columns // nr * nr  # columns: all but what is no whole panel
    cdef const vec* a = at(<const vec*> matmul.a, first * k)
    cdef const vec* b = at(<const vec*> matmul.b, product_number * k * n + column)
    cdef const vec* bias = NULL if matmul.bias == NULL else at(<const vec*> matmul.bias, column)
    cdef vec* out = at(<vec*> matmul.out, first * n + column)
    cdef vec* panels = at(scratch, product_scratch_bytes(scratch) // number_bytes(scratch))
    cdef double size = <double> k * n * number_bytes(scratch)
    cdef bint from_memory = size > FAR_OPERAND if m > FEW_ROWS else is_far(size)
    cdef PackArguments pack
    cdef Upcoming upcoming
    block = rows_of_a_block(m)
    if not is_read_in_place(matmul.rows_per_task, k, n, number_bytes(scratch)):
        pack = PackArguments(b, n, 1, k, n, panels)
        for i in range(pack_tasks(&pack, scratch)):
            pack_task(&pack, i, scratch)
        b, b_row, b_stride, whole, from_memory = panels, nr, k * nr, n, False
    elif whole < columns:
        multiply_edge(a, m, k, at(b, whole), n, columns - whole, at(out, whole), n, scratch)
        finish(at(out, whole), n, m, columns - whole, NULL if bias == NULL else at(bias, whole), matmul.activation)
    while whole > 0 and row < m:
        upcoming.now = upcoming.n = 0
        later, rows = first + row + block, min(block, m - row - block)
        if rows <= 0 and task + matmul.threads < matmul.batch * pieces:  # those in between are other threads'
            later = first_row(matmul, task + matmul.threads)
            rows = min(block, matmul.batch * matmul.m - later)
            if pieces == 1:
                expect(&upcoming, at(<const vec*> matmul.b, (task + matmul.threads) * k * n), k * n)
        upcoming.out_too = rows > 0 and matmul.column_pieces == 1
        if rows > 0:
            expect(&upcoming, at(<const vec*> matmul.a, later * k), rows * k)
        if upcoming.out_too:
            expect(&upcoming, at(<const vec*> matmul.out, later * n), rows * n)
        product(at(a, row * k), k, min(block, m - row), b, b_row, b_stride, k, whole, at(out, row * n), n, bias,
                matmul.activation, &upcoming, from_memory, scratch)
        row += block


cdef void size_matmul(Op* op, Py_ssize_t batch, int threads, const vec* like) noexcept nogil:
    cdef MatmulArguments* matmul = &op.arguments.matmul
    cdef Py_ssize_t rows = rows_of_a_task(batch, matmul.m, matmul.k, matmul.n, threads, number_bytes(like))
    cdef bint in_place = is_read_in_place(rows, matmul.k, matmul.n, number_bytes(like))
    if not in_place:  # packed once
        rows = max(<Py_ssize_t> 1, matmul.m)
    matmul.batch, matmul.threads, matmul.rows_per_task = batch, threads, rows
    matmul.row_pieces = (matmul.m + rows - 1) // rows
    matmul.columns_per_task = columns_of_a_task(matmul, threads, like) if in_place else matmul.n
    matmul.column_pieces = max(<Py_ssize_t> 1, up_to(
        matmul.n // panel_width(like) * panel_width(like), matmul.columns_per_task) // matmul.columns_per_task)
    op.n_tasks = batch * matmul.row_pieces * matmul.column_pieces
    op.nanoseconds = <int64_t> (
        <double> batch * matmul.k * matmul.n * number_bytes(like) * max(<double> matmul.m / 300, 1.0 / 30))
    op.scratch_bytes = product_scratch_bytes(like) + <size_t> (number_bytes(like) * (
        min(matmul.k, CHUNK) * panel_width(like) if in_place else matmul.k * up_to(matmul.n, panel_width(like))))
    op.task = <TaskFunction> (<void*> matmul_task[vec])
