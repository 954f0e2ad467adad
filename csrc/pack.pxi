"""Packing: a right operand into column panels, (N / NR, K, NR), zero-padded, which the products of matmul.pxi read."""

cdef enum:
    PACKED_AT_ONCE = 16              # panels, side by side,
    ROWS_PACKED_AT_ONCE = 16         # and so many rows of them
    ROWS_PER_PACKING = 128           # of one task


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


cdef inline Py_ssize_t pack_groups(const PackArguments* pack, const vec* like) noexcept nogil:
    cdef Py_ssize_t columns = PACKED_AT_ONCE * panel_width(like)
    return (pack.d_out + columns - 1) // columns


cdef inline Py_ssize_t pack_tasks(const PackArguments* pack, const vec* like) noexcept nogil:
    return pack_groups(pack, like) * ((pack.d_in + ROWS_PER_PACKING - 1) // ROWS_PER_PACKING)


cdef void pack_task(const PackArguments* pack, Py_ssize_t task, vec* scratch) noexcept nogil:
    """Some rows of PACKED_AT_ONCE panels. A few rows of all at a time: so a plain weight is read along its rows, not
    down a column, each number of which lies in another page."""
    cdef Py_ssize_t n_panels = up_to(pack.d_out, panel_width(scratch)) // panel_width(scratch), panel, end
    cdef Py_ssize_t groups = pack_groups(pack, scratch), first = task % groups * PACKED_AT_ONCE
    cdef Py_ssize_t k = task // groups * ROWS_PER_PACKING, last_k = min(k + ROWS_PER_PACKING, pack.d_in)
    while k < last_k:
        end = min(k + ROWS_PACKED_AT_ONCE, last_k)
        for panel in range(first, min(first + PACKED_AT_ONCE, n_panels)):
            pack_part(pack, panel, k, end, scratch)
        k = end


cdef void size_pack(Op* op, const vec* like) noexcept nogil:
    cdef PackArguments* pack = &op.arguments.pack
    op.n_tasks = pack_tasks(pack, like)
    op.nanoseconds = pack.d_in * pack.d_out * number_bytes(like) // 8
    op.scratch_bytes = 0
    op.task = <TaskFunction> (<void*> pack_task[vec])
