"""Embedding and positions at the way in (sections 3.4 and 3.5), rows and argmax at the way out."""

cdef inline void unpack_column(const vec* panels, Py_ssize_t n, Py_ssize_t column, vec* out) noexcept nogil:
    """One column, n numbers, of a packed weight (n, ...): the row of a table that lies transposed."""
    cdef Py_ssize_t nr = panel_width(out), i
    panels = at(panels, column // nr * nr * n + column % nr)
    for i in range(n):
        put(out, i, number(panels, i * nr))


cdef void embedding_task(const EmbeddingArguments* embedding, Py_ssize_t task, vec* scratch) noexcept nogil:
    """out = table[ids] * scale + positional[positions]."""
    cdef Py_ssize_t r, i, j, left, n = embedding.width, width = lanes(scratch)
    cdef Py_ssize_t first = task * embedding.rows_per_task
    cdef const vec* word
    cdef const vec* place = NULL
    cdef vec scale = constant(embedding.scale, scratch), zero = constant(0.0, scratch), x, p
    for r in range(first, min(embedding.rows, first + embedding.rows_per_task)):
        word = at(<const vec*> embedding.table, embedding.ids[r] * n)
        if embedding.packed:
            unpack_column(<const vec*> embedding.table, n, embedding.ids[r], scratch)
            word = scratch
        if embedding.positional != NULL:
            place = at(<const vec*> embedding.positional, embedding.positions[r] * n)
        for j in range(vectors(n, scratch)):
            i = j * width
            left = n - i
            x = load_some(word, i, left, zero) * scale
            if embedding.embedding != NULL:
                store_some(at(<vec*> embedding.embedding, r * n), i, left, x)
            if place != NULL:
                p = load_some(place, i, left, zero)
                if embedding.position != NULL:
                    store_some(at(<vec*> embedding.position, r * n), i, left, p)
                x = x + p
            store_some(at(<vec*> embedding.out, r * n), i, left, x)


cdef void size_embedding(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    cdef EmbeddingArguments* embedding = &op.arguments.embedding
    embedding.rows = rows
    split_rows(op, rows, embedding.width, threads, &embedding.rows_per_task, 200)
    if embedding.packed:
        op.scratch_bytes = embedding.width * number_bytes(like)
    op.task = <TaskFunction> (<void*> embedding_task[vec])


cdef void copy_task(const RowArguments* row, Py_ssize_t task, vec* scratch) noexcept nogil:
    """out = x: states that the caller gives."""
    cdef Py_ssize_t first = task * row.rows_per_task * row.width
    cdef Py_ssize_t n = min(row.rows * row.width - first, row.rows_per_task * row.width)
    memcpy(at(<vec*> row.out, first), at(<const vec*> row.x, first), n * number_bytes(scratch))


cdef void size_copy(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    cdef RowArguments* row = &op.arguments.row
    row.rows = rows
    split_rows(op, rows, row.width, threads, &row.rows_per_task, 100)
    op.task = <TaskFunction> (<void*> copy_task[vec])


cdef void gather_task(const GatherArguments* gather, Py_ssize_t task, vec* scratch) noexcept nogil:
    cdef Py_ssize_t r, n = gather.width, first = task * gather.rows_per_task
    for r in range(first, min(gather.rows, first + gather.rows_per_task)):
        if gather.scale != 1.0:
            scale_row(at(<const vec*> gather.x, gather.rows_wanted[r] * n), n, gather.scale, at(<vec*> gather.out, r * n))
        else:
            memcpy(at(<vec*> gather.out, r * n), at(<const vec*> gather.x, gather.rows_wanted[r] * n),
                   n * number_bytes(scratch))


cdef void size_gather(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    cdef GatherArguments* gather = &op.arguments.gather
    gather.rows = rows
    split_rows(op, rows, gather.width, threads, &gather.rows_per_task, 100)
    op.task = <TaskFunction> (<void*> gather_task[vec])


cdef void argmax_task(const ArgmaxArguments* argmax, Py_ssize_t task, vec* scratch) noexcept nogil:
    """The first largest number of one row; a NaN counts as the largest, as in NumPy."""
    cdef const vec* x = at(<const vec*> argmax.x, task * argmax.width)
    cdef Py_ssize_t i = 0, j, n = argmax.width, block = 4 * lanes(scratch), best = 0
    cdef double top = number(x, 0), candidate
    cdef uint64_t bits
    while i < n:
        bits = larger_or_nan(at(x, i), top) if i + block <= n else first_bits(n - i)
        while bits != 0:
            j = i + lowest_bit(bits)
            bits &= bits - 1
            candidate = number(x, j)
            if candidate != candidate:
                argmax.out[task] = j
                return
            if candidate > top:
                top, best = candidate, j
        i += block
    argmax.out[task] = best


cdef void size_argmax(Op* op, Py_ssize_t rows, int threads, const vec* like) noexcept nogil:
    cdef ArgmaxArguments* argmax = &op.arguments.argmax
    argmax.rows = rows
    op.n_tasks = rows
    op.nanoseconds = rows * argmax.width // 4
    op.scratch_bytes = 0
    op.task = <TaskFunction> (<void*> argmax_task[vec])
