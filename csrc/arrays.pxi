"""The kernels on whole arrays: the functions of rtfast/reference/kernels.py, compiled.

Arguments are checked by rtfast/kernels.py: C-contiguous, of one type, of fitting shapes. Each
function fills in an op and runs it.
"""

cdef void* address(object array) except? NULL:
    """Where a C-contiguous array lies. The caller keeps the array alive."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    cdef void* start = view.buf
    PyBuffer_Release(&view)
    return start


cdef void* address_or_null(object array) except? NULL:
    return NULL if array is None else address(array)


cdef void* allocate(size_t bytes) except NULL:
    cdef void* memory = take_large_memory(bytes)
    if memory == NULL:
        raise MemoryError(f"no room for {bytes} bytes")
    return memory


cdef void* allocate_zeroed(size_t bytes) except NULL:
    cdef void* memory = take_memory(bytes, True)
    if memory == NULL:
        raise MemoryError(f"no room for {bytes} bytes")
    return memory


cdef bint prepare_run(Run* run, const Op* ops, Py_ssize_t n_ops, int wanted) noexcept nogil:
    """Set up a run of a short list of ops, with scratch memory for this call only; whether there was room for it."""
    cdef Py_ssize_t i
    memset(run, 0, sizeof(Run))
    run.ops, run.n_ops = ops, n_ops
    for i in range(n_ops):
        run.scratch_bytes = max(run.scratch_bytes, ops[i].scratch_bytes)
    run.scratch_bytes = (run.scratch_bytes + 127) // 64 * 64
    run.scratch = <char*> take_large_memory(run.scratch_bytes * wanted + 2 * n_ops * sizeof(int64_t))
    if run.scratch == NULL:
        return False
    run.claimed = <int64_t*> (run.scratch + run.scratch_bytes * wanted)
    run.done = run.claimed + n_ops
    memset(run.claimed, 0, 2 * n_ops * sizeof(int64_t))
    return True


cdef int run_ops(const Op* ops, Py_ssize_t n_ops, int wanted) except -1:
    """Run a short list of ops; without the GIL, unless that is done sooner than others could use it."""
    cdef Run run
    cdef Py_ssize_t i
    cdef int64_t estimate = 0
    for i in range(n_ops):
        estimate += ops[i].nanoseconds
    if not prepare_run(&run, ops, n_ops, wanted):
        raise MemoryError(f"no room for {run.scratch_bytes * wanted} bytes")
    if estimate < SERIAL_NANOSECONDS:
        walk_ops(&run, 0, 1)
    else:
        run.last_look = first_look()
        with nogil:
            run_on_team(&run, wanted)
    release_memory(run.scratch)
    return check_run(&run)


@cython.no_gc  # as LargeMemory: `memory` has to be there in __dealloc__
cdef class PackedWeight:
    """A weight (d_in, d_out) in the panels that the product reads; see csrc/pack.pxi."""

    cdef void* panels
    cdef size_t bytes
    cdef readonly tuple shape
    cdef readonly object dtype
    cdef Py_ssize_t d_in, d_out
    cdef bint is_float
    cdef LargeMemory memory          # where the panels lie, or None

    def __cinit__(self, Py_ssize_t d_in, Py_ssize_t d_out, dtype, LargeMemory memory=None):
        cdef Py_ssize_t nr
        if dtype.char not in ("f", "d"):
            raise TypeError(f"dtype must be float32 or float64, got {dtype}")
        self.is_float = dtype.itemsize == 4
        nr = panel_width(<vf*> NULL) if self.is_float else panel_width(<vd*> NULL)
        if d_in < 0 or d_out < 0 or d_out > PY_SSIZE_T_MAX - nr or (
                <double> up_to(d_out, nr) * d_in * 8 > <double> (PY_SSIZE_T_MAX // 2)):
            raise MemoryError(f"no room for a weight ({d_in}, {d_out})")
        self.d_in, self.d_out, self.shape, self.dtype = d_in, d_out, (d_in, d_out), dtype
        self.bytes = <size_t> (up_to(d_out, nr) * d_in * dtype.itemsize)
        if memory is not None and self.bytes >= SMALL_WEIGHT:
            self.memory = memory
            self.panels = memory.take(self.bytes)
        else:
            self.panels = allocate(self.bytes)

    def __dealloc__(self):
        if self.memory is None:
            release_memory(self.panels)

    @property
    def nbytes(self):
        return self.bytes

    def __repr__(self):
        return f"PackedWeight(shape={self.shape}, dtype={self.dtype.name})"

    def __reduce__(self):
        raise TypeError("a PackedWeight cannot be pickled; keep the weight itself")

    cdef int fill(self, const void* weight, Py_ssize_t row_stride, Py_ssize_t column_stride) except -1:
        """Pack a (d_in, d_out) matrix."""
        cdef Op op
        op.arguments.pack = PackArguments(weight, row_stride, column_stride, self.d_in, self.d_out, self.panels)
        if self.is_float:
            size_pack(&op, <vf*> NULL)
        else:
            size_pack(&op, <vd*> NULL)
        return run_ops(&op, 1, members_of_op(&op))

    cdef int check_block(self, block, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns) except -1:
        """That a block is of the weight's type and lies in it."""
        if block.dtype != self.dtype or row < 0 or column < 0 or rows > self.d_in - row or columns > self.d_out - column:
            raise ValueError(f"block of {rows} rows and {columns} columns from ({row}, {column}) on, {block.dtype}: "
                             f"not in a weight {self.shape} of {self.dtype}")
        return 0

    def put_columns(self, Py_ssize_t first, block):
        """Columns `first` and following, given side by side as rows: block (n, d_in)."""
        cdef void* source = address(block)
        cdef Py_ssize_t n = block.shape[0]
        self.check_block(block, 0, block.shape[1], first, n)
        if block.shape[1] != self.d_in:
            raise ValueError(f"columns of {block.shape[1]} numbers: {self.d_in} expected")
        if self.is_float:
            pack_keys(<vf*> source, self.d_in, n, self.d_in, first, <vf*> self.panels)
        else:
            pack_keys(<vd*> source, self.d_in, n, self.d_in, first, <vd*> self.panels)

    def put_rows(self, Py_ssize_t first, Py_ssize_t first_column, block):
        """Rows `first` and following of the columns from first_column on: block (n, columns)."""
        cdef Py_ssize_t nr = panel_width(<vf*> NULL) if self.is_float else panel_width(<vd*> NULL)
        cdef Py_ssize_t size = self.dtype.itemsize, columns = block.shape[1], r, j, column, n
        cdef const char* source = <const char*> address(block)
        self.check_block(block, first, block.shape[0], first_column, columns)
        for r in range(first, first + block.shape[0]):
            j = 0
            while j < columns:
                column = first_column + j
                n = min(columns - j, nr - column % nr)
                memcpy(<char*> self.panels + (column // nr * nr * self.d_in + r * nr + column % nr) * size,
                       source + j * size, n * size)
                j += n
            source += columns * size

    def unpack(self):
        """The weight as an array (d_in, d_out)."""
        out = bytearray(self.d_in * self.d_out * self.dtype.itemsize)
        cdef char* to = <char*> address(out) if len(out) else NULL
        cdef Py_ssize_t k, n, size = self.dtype.itemsize
        cdef Py_ssize_t nr = panel_width(<vf*> NULL) if self.is_float else panel_width(<vd*> NULL)
        for n in range(0, self.d_out if self.d_in > 0 else 0, nr):
            for k in range(self.d_in):
                memcpy(to + (k * self.d_out + n) * size, <char*> self.panels + (n * self.d_in + k * nr) * size,
                       min(nr, self.d_out - n) * size)
        import numpy
        return numpy.frombuffer(out, self.dtype).reshape(self.shape)


def packed_empty(Py_ssize_t d_in, Py_ssize_t d_out, dtype, memory=None):
    """A PackedWeight (d_in, d_out) whose columns or rows are still to be put, all of them."""
    cdef PackedWeight packed = PackedWeight(d_in, d_out, dtype, memory)
    cdef Py_ssize_t nr = panel_width(<vf*> NULL) if packed.is_float else panel_width(<vd*> NULL)
    cdef Py_ssize_t size = dtype.itemsize
    if d_out % nr != 0:  # the last panel is padded with zeros
        memset(<char*> packed.panels + d_out // nr * nr * d_in * size, 0, nr * d_in * size)
    return packed


def pack(weight, transposed=False, memory=None):
    """A PackedWeight of a weight (d_in, d_out), or of one that lies transposed as (d_out, d_in).

    memory: a LargeMemory for it, None for memory of its own.
    """
    cdef Py_ssize_t rows = weight.shape[0], columns = weight.shape[1]
    cdef PackedWeight packed
    if transposed:
        packed = PackedWeight(columns, rows, weight.dtype, memory)
        packed.fill(address(weight), 1, columns)
    else:
        packed = PackedWeight(rows, columns, weight.dtype, memory)
        packed.fill(address(weight), columns, 1)
    return packed


def linear(x, weight, bias, int activation, out):
    """out (rows, d_out) = activation(x (rows, d_in) @ weight + bias); weight plain or packed."""
    cdef Py_ssize_t rows = x.shape[0], d_in = weight.shape[0], d_out = weight.shape[1], size = x.dtype.itemsize
    cdef PackedWeight packed
    cdef Op op
    if rows == 0 or d_out == 0:
        return
    if not isinstance(weight, PackedWeight):
        if tasks_multiply(1, rows, d_in, d_out, size):
            op.arguments.matmul = MatmulArguments(
                address(x), address(weight), address_or_null(bias), address(out), rows, d_in, d_out, activation,
                0, 0, 0, 0, 0, 0)
            run_matmul(&op, 1, size == 4)
            return
        weight = pack(weight)
    packed = weight
    op.arguments.linear = LinearArguments(
        address(x), d_in, packed.panels, address_or_null(bias), address(out), d_out, rows, d_in, d_out, activation,
        0, 0, 0, 0, 0)
    run_linear(&op, rows, packed.is_float)


cdef int size_linear_alone(Op* op, Py_ssize_t rows, bint is_float) noexcept nogil:
    """Size a linear op that is a run of its own; how many threads the run is worth."""
    cdef int wanted
    if is_float:
        size_linear(op, rows, num_threads, <vf*> NULL)
    else:
        size_linear(op, rows, num_threads, <vd*> NULL)
    wanted = members_of_op(op)
    if wanted == 1 and num_threads > 1:
        if is_float:
            size_linear(op, rows, 1, <vf*> NULL)
        else:
            size_linear(op, rows, 1, <vd*> NULL)
    return wanted


cdef int run_linear(Op* op, Py_ssize_t rows, bint is_float) except -1:
    return run_ops(op, 1, size_linear_alone(op, rows, is_float))


ctypedef void (*SizeFunction)(Op* op, Py_ssize_t rows, int threads, const void* like) noexcept nogil


cdef int size_rows(Op* op, Py_ssize_t rows, SizeFunction size) noexcept nogil:
    """Size an op that works row by row and is a run of its own; how many threads the run is worth."""
    cdef int wanted
    size(op, rows, num_threads, NULL)
    wanted = members_of_op(op)
    if wanted == 1:
        size(op, rows, 1, NULL)
    return wanted


cdef int run_rows(Op* op, Py_ssize_t rows, SizeFunction size) except -1:
    """Size and run an op that works row by row."""
    return run_ops(op, 1, size_rows(op, rows, size))


def matmul(a, b, out):
    """out (batch, m, n) = a (batch, m, k) @ b (k, n) or (batch, k, n) or packed."""
    cdef Py_ssize_t batch = a.shape[0], m = a.shape[1], k = a.shape[2], n = out.shape[2]
    if 0 in out.shape:
        return
    if isinstance(b, PackedWeight):
        linear(a.reshape(batch * m, k), b, None, IDENTITY, out.reshape(batch * m, n))
    elif b.ndim == 2:
        multiply(<char*> address(a), <char*> address(b), <char*> address(out), 1, batch * m, k, n, b.dtype)
    else:
        multiply(<char*> address(a), <char*> address(b), <char*> address(out), batch, m, k, n, b.dtype)


cdef int run_matmul(Op* op, Py_ssize_t batch, bint is_float) except -1:
    return run_rows(op, batch, <SizeFunction> (<void*> size_matmul[vf] if is_float else <void*> size_matmul[vd]))


cdef inline bint tasks_multiply(Py_ssize_t batch, Py_ssize_t m, Py_ssize_t k, Py_ssize_t n,
                                Py_ssize_t itemsize) noexcept nogil:
    """Whether the products of a batch, or some rows or columns of each, are best left to tasks that read b in place or pack
    it for themselves."""
    return is_read_in_place(rows_of_a_task(batch, m, k, n, num_threads, itemsize), k, n, itemsize) or (
        k * n * itemsize <= SMALL_OPERAND and (batch > 1 or num_threads == 1 or m * k * n < ALONE))


cdef int size_packed_product(Op* ops, const void* a, const void* b, void* panels, void* out, Py_ssize_t m, Py_ssize_t k,
                             Py_ssize_t n, bint is_float) noexcept nogil:
    """Two ops: pack b (k, n) into `panels`, then out (m, n) = a (m, k) @ b; how many threads the run is worth."""
    ops[0].arguments.pack = PackArguments(b, n, 1, k, n, panels)
    if is_float:
        size_pack(&ops[0], <vf*> NULL)
    else:
        size_pack(&ops[0], <vd*> NULL)
    ops[1].arguments.linear = LinearArguments(a, k, panels, NULL, out, n, m, k, n, IDENTITY, 0, 0, 0, 0, 0)
    return max(size_linear_alone(&ops[1], m, is_float), members_of_op(&ops[0]))


cdef int multiply(char* a, char* b, char* out, Py_ssize_t batch, Py_ssize_t m, Py_ssize_t k, Py_ssize_t n,
                  dtype) except -1:
    """The products of two plain operands."""
    cdef Py_ssize_t size = dtype.itemsize, i
    cdef PackedWeight packed
    cdef Op[2] ops
    if tasks_multiply(batch, m, k, n, size):
        ops[0].arguments.matmul = MatmulArguments(a, b, NULL, out, m, k, n, IDENTITY, 0, 0, 0, 0, 0, 0)
        return run_matmul(ops, batch, size == 4)
    packed = PackedWeight(k, n, dtype)
    for i in range(batch):
        run_ops(ops, 2, size_packed_product(
            ops, a + i * m * k * size, b + i * k * n * size, packed.panels, out + i * m * n * size, m, k, n, size == 4))
    return 0


cdef inline bint holds_floats(array):
    return array.dtype.itemsize == 4


def activate(x, int activation, out):
    """out = activation(x), one-dimensional; out may be x."""
    cdef Op op
    op.arguments.row = RowArguments(address(x), NULL, address(out), 0, 1, 0, activation)
    run_rows(&op, x.shape[0], <SizeFunction> (<void*> size_activate[vf] if holds_floats(x)
                                              else <void*> size_activate[vd]))


def softmax(x, out):
    """out (rows, n) = softmax of each row of x; out may be x."""
    cdef Op op
    if 0 in x.shape:
        return
    op.arguments.row = RowArguments(address(x), NULL, address(out), 0, x.shape[1], 0, IDENTITY)
    run_rows(&op, x.shape[0], <SizeFunction> (<void*> size_softmax[vf] if holds_floats(x)
                                              else <void*> size_softmax[vd]))


def layer_norm(x, gamma, beta, double eps, int form, out):
    """out (rows, d) = layer norm of each row of x; out may be x."""
    add_layer_norm(x, None, gamma, beta, eps, form, None, out)


def add_layer_norm(x, y, gamma, beta, double eps, int form, residual, out):
    """out (rows, d) = layer norm of each row of x + y; residual takes x + y."""
    cdef Op op
    if 0 in x.shape:
        return
    op.arguments.norm = NormArguments(
        address(x), address_or_null(y), address_or_null(gamma), address_or_null(beta),
        address_or_null(residual), address(out), 0, x.shape[1], 0, eps, form)
    run_rows(&op, x.shape[0], <SizeFunction> (<void*> size_layer_norm[vf] if holds_floats(x)
                                              else <void*> size_layer_norm[vd]))


def embedding(ids, table, double scale, positions, positional, out):
    """out (rows, d) = table[ids] * scale + positional[positions]."""
    cdef Op op
    if 0 in out.shape:
        return
    op.arguments.embedding = EmbeddingArguments(
        <int64_t*> address(ids), address(table), scale, <int64_t*> address_or_null(positions),
        address_or_null(positional), NULL, NULL, address(out), 0, table.shape[1], 0, False)
    run_rows(&op, ids.shape[0], <SizeFunction> (<void*> size_embedding[vf] if holds_floats(table)
                                                else <void*> size_embedding[vd]))


def argmax(x, out):
    """out (rows,) = index of the first largest number of each row of x (rows, n >= 1)."""
    cdef Op op
    if x.shape[0] == 0:
        return
    op.arguments.argmax = ArgmaxArguments(address(x), <int64_t*> address(out), 0, x.shape[1])
    run_rows(&op, x.shape[0], <SizeFunction> (<void*> size_argmax[vf] if holds_floats(x)
                                              else <void*> size_argmax[vd]))


def top_k(x, Py_ssize_t k, bint log_softmax, values, ids):
    """values, ids (rows, k) = the k largest numbers of each row of x (rows, n), descending, and where they are."""
    cdef Op op
    cdef int64_t[2] options
    if x.shape[0] == 0:
        return
    options[0], options[1] = k, log_softmax
    op.arguments.top = TopArguments(
        address(x), &options[0], address(values), <int64_t*> address(ids), 0, x.shape[1], k)
    run_rows(&op, x.shape[0], <SizeFunction> (<void*> size_top[vf] if holds_floats(x) else <void*> size_top[vd]))


def attention(q, k, v, mask, bint causal, double scale, out, scores, scaled_scores, weights,
              bint article_softmax=False):
    """out (batch, T, d_value) = softmax(q k^T * scale) v; the last three take what a trace shows."""
    attend(address(q), address(k), address(v), address_or_null(mask), causal, scale, address(out),
           address_or_null(scores), address_or_null(scaled_scores), address_or_null(weights), article_softmax,
           q.shape[0], q.shape[1], k.shape[1], q.shape[2], v.shape[2], holds_floats(q))


cdef void set_plain_attention(
    Op* op, Cache* cache, int64_t* numbers, const void* q, const void* k, const void* v, const unsigned char* mask,
    bint causal, double scale, void* out, Py_ssize_t batch, Py_ssize_t length, Py_ssize_t n_keys, Py_ssize_t d_key,
    Py_ssize_t d_value, bint is_float,
) noexcept nogil:
    """An op for `batch` heads, their keys and values plain; numbers (3 * batch + 1,) and cache: room for its
    arguments."""
    cdef Py_ssize_t nr = panel_width(<vf*> NULL) if is_float else panel_width(<vd*> NULL), i
    if k == NULL:  # there are no numbers in it; NULL says that keys are in a cache
        k = numbers
    for i in range(batch):
        numbers[i] = n_keys
        numbers[batch + i] = i
        numbers[2 * batch + i] = i * length
    numbers[3 * batch] = batch * length
    cache[0] = Cache(NULL, NULL, up_to(n_keys, nr), 1, d_key, d_value, False)
    op.arguments.attention = AttentionArguments(
        q, d_key, 0, cache, numbers + 2 * batch, numbers, numbers + batch, NULL, 0, NULL, k, v, batch, 0, 0, out,
        d_value, 0, scale, causal, False, NULL, 0, mask, NULL, NULL, NULL, NOTHING_GIVEN, length, n_keys)


cdef int attend(void* q, void* k, void* v, void* mask, bint causal, double scale, void* out, void* scores,
                void* scaled_scores, void* weights, bint article_softmax, Py_ssize_t batch, Py_ssize_t length,
                Py_ssize_t n_keys, Py_ssize_t d_key, Py_ssize_t d_value, bint is_float) except -1:
    """Attention of `batch` heads, their keys and values plain."""
    cdef Cache cache
    cdef Op op
    cdef int64_t* numbers
    cdef bint shown = scores != NULL or scaled_scores != NULL or weights != NULL
    if batch == 0 or length == 0 or (d_value == 0 and (n_keys == 0 or not shown)):  # nothing to write
        return 0
    numbers = <int64_t*> allocate((3 * batch + 1) * sizeof(int64_t))
    set_plain_attention(&op, &cache, numbers, q, k, v, <unsigned char*> mask, causal, scale, out, batch, length, n_keys,
                        d_key, d_value, is_float)
    op.arguments.attention.article = article_softmax
    op.arguments.attention.scores, op.arguments.attention.scaled_scores = scores, scaled_scores
    op.arguments.attention.weights = weights
    try:
        return run_rows(&op, batch * length, <SizeFunction> (<void*> size_attention[vf] if is_float
                                                             else <void*> size_attention[vd]))
    finally:
        release_memory(numbers)
