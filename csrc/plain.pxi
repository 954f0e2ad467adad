"""Products of two plain matrices: the right operand packed first, or multiplied where it lies."""

cdef enum:
    L1_OPERAND = 32 << 10            # bytes: a right operand is read where it lies,
    ROWS_NOT_WORTH_PACKING = 128     # one of SMALL_OPERAND if no more rows than these use it,
    MOST_IN_PLACE = 64 << 20         # and one of so many bytes that up to three rows use: one task still, which ends soon
    ROWS_OF_NARROW = 16              # so many use one of less than a panel, chunk by chunk
    ROWS_OF_PIECE = 16               # at least, where the rows of a product are several tasks
    ALONE = 4 << 20                  # multiply-adds: fewer are done sooner than packed for a second thread


cdef inline bint is_narrow(Py_ssize_t m, Py_ssize_t n, Py_ssize_t itemsize) noexcept nogil:
    """Whether a right operand has less than a panel of columns, and so few rows to multiply that packing would take more
    memory than they do."""
    return m <= ROWS_OF_NARROW and n * itemsize < TILE_VECTORS * <Py_ssize_t> sizeof(vf)


cdef inline bint is_read_in_place(Py_ssize_t m, Py_ssize_t k, Py_ssize_t n, Py_ssize_t itemsize) noexcept nogil:
    """Whether a plain right operand (k, n) is multiplied where it lies, but for what is no whole panel."""
    cdef double size = <double> k * n * itemsize
    if is_narrow(m, n, itemsize):
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
            if is_copied(rows, k):
                copy_chunk(left, k, rows, chunk, copy)
                left, stride = copy, CHUNK_STRIDE
            multiply_chunk(left, stride, rows, panel, nr, chunk * nr, chunk, 0, columns, at(c, row * c_stride), c_stride,
                           first > 0, panel, NULL, False, scratch)
            row += rows
        first += chunk
        if first >= k:
            break


cdef inline Py_ssize_t rows_of_a_task(Py_ssize_t batch, Py_ssize_t m, int threads) noexcept nogil:
    """All of a product's; or, where products are fewer than threads, so many that each thread finds two tasks."""
    cdef Py_ssize_t pieces = min(<Py_ssize_t> 2 * threads, m // ROWS_OF_PIECE) if batch < threads else 1
    return max(<Py_ssize_t> 1, m if pieces <= 1 else (m + pieces - 1) // pieces)


cdef inline Py_ssize_t first_row(const MatmulArguments* matmul, Py_ssize_t task) noexcept nogil:
    """Of a task's rows, among those of all products."""
    return task // matmul.pieces * matmul.m + task % matmul.pieces * matmul.rows_per_task


cdef void matmul_task(const MatmulArguments* matmul, Py_ssize_t task, vec* scratch) noexcept nogil:
    """One product of a batch or some rows of it, block by block; what is not read in place is packed first."""
    cdef Py_ssize_t nr = panel_width(scratch), k = matmul.k, n = matmul.n, row = 0, i
    cdef Py_ssize_t b_row = n, b_stride = nr, whole = n // nr * nr  # columns: all but what is no whole panel
    cdef Py_ssize_t pieces = matmul.pieces, piece = task % pieces
    cdef Py_ssize_t m = min(matmul.rows_per_task, matmul.m - piece * matmul.rows_per_task)
    cdef Py_ssize_t first = first_row(matmul, task), block = rows_of_a_block(m), rows, later
    cdef const vec* a = at(<const vec*> matmul.a, first * k)
    cdef const vec* b = at(<const vec*> matmul.b, task // pieces * k * n)
    cdef const vec* bias = <const vec*> matmul.bias
    cdef vec* out = at(<vec*> matmul.out, first * n)
    cdef vec* panels = at(scratch, product_scratch_bytes(scratch) // number_bytes(scratch))
    cdef bint from_memory = is_far(<double> k * n * number_bytes(scratch))
    cdef PackArguments pack
    cdef Upcoming upcoming
    if not is_read_in_place(matmul.rows_per_task, k, n, number_bytes(scratch)):
        pack = PackArguments(b, n, 1, k, n, panels)
        for i in range(pack_tasks(&pack, scratch)):
            pack_task(&pack, i, scratch)
        b, b_row, b_stride, whole, from_memory = panels, nr, k * nr, n, False
    elif whole < n:
        multiply_edge(a, m, k, at(b, whole), n, n - whole, at(out, whole), n, scratch)
        finish(at(out, whole), n, m, n - whole, NULL if bias == NULL else at(bias, whole), matmul.activation)
    while whole > 0 and row < m:
        upcoming.now = upcoming.n = 0
        later, rows = first + row + block, min(block, m - row - block)
        if rows <= 0 and task + matmul.threads < matmul.batch * pieces:  # those in between are other threads'
            later = first_row(matmul, task + matmul.threads)
            rows = min(block, matmul.batch * matmul.m - later)
            if pieces == 1:
                expect(&upcoming, at(<const vec*> matmul.b, (task + matmul.threads) * k * n), k * n)
        upcoming.out_too = rows > 0
        if rows > 0:
            expect(&upcoming, at(<const vec*> matmul.a, later * k), rows * k)
            expect(&upcoming, at(<const vec*> matmul.out, later * n), rows * n)
        product(at(a, row * k), k, min(block, m - row), b, b_row, b_stride, k, whole, at(out, row * n), n, bias,
                matmul.activation, &upcoming, from_memory, scratch)
        row += block


cdef void size_matmul(Op* op, Py_ssize_t batch, int threads, const vec* like) noexcept nogil:
    cdef MatmulArguments* matmul = &op.arguments.matmul
    cdef Py_ssize_t rows = rows_of_a_task(batch, matmul.m, threads)
    if not is_read_in_place(rows, matmul.k, matmul.n, number_bytes(like)):  # packed once
        rows = max(<Py_ssize_t> 1, matmul.m)
    matmul.batch, matmul.pieces, matmul.rows_per_task, matmul.threads = batch, (matmul.m + rows - 1) // rows, rows, threads
    op.n_tasks = batch * matmul.pieces
    op.nanoseconds = <int64_t> (
        <double> batch * matmul.k * matmul.n * number_bytes(like) * max(<double> matmul.m / 300, 1.0 / 30))
    op.scratch_bytes = product_scratch_bytes(like) + <size_t> (number_bytes(like) * (
        min(matmul.k, CHUNK) * panel_width(like) if is_read_in_place(rows, matmul.k, matmul.n, number_bytes(like))
        else matmul.k * up_to(matmul.n, panel_width(like))))
    op.task = <TaskFunction> (<void*> matmul_task[vec])
