"""The compiled executor: runs the programs of rtfast/program.py.

When it is made, every op of a program becomes an `Op` with its addresses filled in: buffers in
one arena per program, caches, weights, and the index arrays of rtfast/workspace.py (ids,
positions, where sequences start). A run then only sets the sizes and walks the list, without
the GIL and without allocating.
"""

cdef struct Sizes:                   # of one run, as rtfast/workspace.py gives them
    Py_ssize_t sequences
    Py_ssize_t rows[3]               # source, target, output
    Py_ssize_t longest               # tokens of the longest sequence in this run
    Py_ssize_t most_keys[3]          # encoder, self, cross

DIMENSIONS = {"source": 0, "target": 1, "output": 2}
ROLES = {"encoder": 0, "self": 1, "cross": 2}
GIVEN = {None: NOTHING_GIVEN, "scores": GIVEN_SCORES, "scaled_scores": GIVEN_SCALED_SCORES, "weights": GIVEN_WEIGHTS}


cdef class BoundProgram:
    """A program whose ops know their addresses."""

    cdef Op* ops
    cdef SizeFunction* size
    cdef int* dimension
    cdef int* role                   # of the cache of a store or an attention, else -1
    cdef int* is_attention
    cdef int64_t* claimed            # tasks handed out per op, and then tasks done
    cdef Py_ssize_t n_ops
    cdef bint is_bound
    cdef Py_ssize_t weight_bytes     # that a run reads
    cdef Sizes sizes                 # of the last run, which the ops are set to
    cdef int64_t estimate            # nanoseconds of such a run on one thread
    cdef int threads                 # that its tasks are split for; 0 before the first run
    cdef dict places                 # buffer -> (offset in the arena, dimension, width)
    cdef dict extras                 # (op name, extra) -> NumPy array
    cdef object program

    def __cinit__(self, program):
        self.program = program
        self.n_ops = len(program.ops)
        self.ops = <Op*> allocate_zeroed(self.n_ops * sizeof(Op))
        self.size = <SizeFunction*> allocate_zeroed(self.n_ops * sizeof(SizeFunction))
        self.dimension = <int*> allocate_zeroed(self.n_ops * sizeof(int))
        self.role = <int*> allocate_zeroed(self.n_ops * sizeof(int))
        self.is_attention = <int*> allocate_zeroed(self.n_ops * sizeof(int))
        self.claimed = <int64_t*> allocate_zeroed(2 * self.n_ops * sizeof(int64_t))
        self.places, self.extras = {}, {}

    def __dealloc__(self):
        release_memory(self.ops)
        release_memory(self.size)
        release_memory(self.dimension)
        release_memory(self.role)
        release_memory(self.is_attention)
        release_memory(self.claimed)


@cython.no_gc_clear  # `large` has to be there in __dealloc__; a cycle is taken apart at its other objects
cdef class Executor:
    """Programs bound to one workspace. Not for two threads at once: each takes a workspace of its own."""

    cdef list programs
    cdef dict caches
    cdef object weights, index
    cdef int64_t* target_ids         # arrays of the index that `run_steps` writes and reads
    cdef int64_t* target_positions
    cdef int64_t* target_keys
    cdef int64_t* top_ids
    cdef bint is_float
    cdef object capacity
    cdef char* arena                 # the buffers of whichever program runs
    cdef LargeMemory large           # where the arena lies if it is large
    cdef char* scratch
    cdef size_t scratch_bytes, scratch_members
    cdef Sizes sizes
    cdef bint trace

    def __init__(self, programs, weights, index, capacity, trace):
        """weights: packing.PackedWeights; index: the arrays of a workspace; capacity: its Capacity;
        trace: keep every intermediate, and what only a trace shows."""
        cdef size_t end = 0
        self.weights, self.index, self.capacity = weights, index, capacity
        self.target_ids, self.target_positions = self.indices("target_ids"), self.indices("target_positions")
        self.target_keys, self.top_ids = self.indices("target_keys"), self.indices("top_ids")
        self.is_float = weights.dtype.itemsize == 4
        self.caches, self.programs = {}, []
        cdef LargeMemory large = LargeMemory()
        for program in programs:
            for spec in program.caches:
                if spec.name not in self.caches:
                    length = capacity.target_length if spec.role == "self" else capacity.source_length
                    lanes = capacity.lanes if spec.role == "self" else 1
                    self.caches[spec.name] = CacheMemory(spec, capacity.sequences * lanes, length, self.is_float, large)
            bound = BoundProgram(program)
            self.programs.append(bound)
            if trace:  # one program's buffers after the other's
                end = self.place_buffers(bound, end, False)
            else:      # all in the same place: a result is read before the next run
                end = max(end, self.place_buffers(bound, 0, True))
        self.large = large if end > HUGE_PAGE else None
        self.arena = <char*> (large.take(end) if end > HUGE_PAGE else allocate(end))
        self.trace = trace

    def __dealloc__(self):
        if self.large is None:
            release_memory(self.arena)
        release_memory(self.scratch)

    # Binding ------------------------------------------------------------------------------

    cdef int bind(self, BoundProgram bound) except -1:
        """Fill in the addresses, when the program runs for the first time."""
        cdef Py_ssize_t i
        extras = bound.program.extras() if self.trace else {}
        bound.weight_bytes = sum(self.weights.linear(op).nbytes for op in bound.program.ops if op.kind == "linear")
        for i, op in enumerate(bound.program.ops):
            bound.role[i] = -1 if op.cache is None else ROLES[op.cache.role]
            bound.is_attention[i] = op.kind == "attention"
            of = op.inputs[0].buffer if op.output is None else op.output
            bound.dimension[i] = DIMENSIONS[of.dimension]
            for name, form in extras.get(op, {}).items():
                bound.extras[op.name, name] = self.extra_array(op, form)
            BINDERS[op.kind](self, bound, i, op)
        bound.is_bound = True
        return 0

    cdef size_t place_buffers(self, BoundProgram bound, size_t start, bint reuse) except? 0:
        """Give the program's buffers their places in the arena from `start` on; where they end."""
        slots, placed = bound.program.plan_slots(reuse)
        offsets = []
        for dimension, width in slots:
            offsets.append(start)
            start += (self.capacity.rows(dimension) * width * (4 if self.is_float else 8) + 127) // 64 * 64
        for buffer, slot in placed.items():
            bound.places[buffer] = (offsets[slot], buffer.dimension, buffer.width)
        return start

    cdef extra_array(self, op, form):
        import numpy
        dtype = self.weights.dtype
        if form == "scores":
            source, target = self.capacity.source_length, self.capacity.target_length
            length = source if op.cache.role == "encoder" else target
            keys = target if op.cache.role == "self" else source
            return numpy.zeros((self.capacity.sequences, op.cache.heads, length, keys), dtype)
        return numpy.zeros((self.capacity.rows(op.output.dimension), op.output.width), dtype)

    cdef void* buffer(self, BoundProgram bound, buffer) except NULL:
        cdef size_t offset = bound.places[buffer][0]
        return self.arena + offset

    cdef void* second_input(self, BoundProgram bound, op) except? NULL:
        if len(op.inputs) < 2:
            return NULL
        return self.buffer(bound, op.inputs[1])

    cdef void* columns(self, BoundProgram bound, view) except NULL:
        cdef size_t offset = view.start * (4 if self.is_float else 8)
        return <char*> self.buffer(bound, view.buffer) + offset

    cdef void* extra(self, BoundProgram bound, op, name) except? NULL:
        return address_or_null(bound.extras.get((op.name, name)))

    cdef int64_t* indices(self, name) except NULL:
        return <int64_t*> address(self.index[name])

    cdef void* weight(self, name) except NULL:
        return address(self.weights.array(name))

    cdef int bind_embedding(self, BoundProgram bound, Py_ssize_t i, op) except -1:
        side, table = op.output.dimension, self.weights.table(op)
        cdef bint packed = isinstance(table, PackedWeight)
        bound.ops[i].arguments.embedding = EmbeddingArguments(
            self.indices(side + "_ids"), NULL, op.options["scale"],
            self.indices(side + "_positions"), address_or_null(self.weights.positions(op)),
            self.extra(bound, op, "embedding"), self.extra(bound, op, "position"),
            self.buffer(bound, op.output), 0, op.output.width, 0, packed)
        if packed:
            bound.ops[i].arguments.embedding.table = (<PackedWeight> table).panels
        else:
            bound.ops[i].arguments.embedding.table = address(table)
        bound.size[i] = <SizeFunction> (<void*> size_embedding[vf] if self.is_float else <void*> size_embedding[vd])
        return 0

    cdef int bind_input(self, BoundProgram bound, Py_ssize_t i, op) except -1:
        bound.ops[i].arguments.row = RowArguments(
            address(self.index[op.output.dimension + "_states"]), NULL, self.buffer(bound, op.output),
            0, op.output.width, 0, 0)
        bound.size[i] = <SizeFunction> (<void*> size_copy[vf] if self.is_float else <void*> size_copy[vd])
        return 0

    cdef int bind_linear(self, BoundProgram bound, Py_ssize_t i, op) except -1:
        cdef PackedWeight packed = self.weights.linear(op)
        bound.ops[i].arguments.linear = LinearArguments(
            self.buffer(bound, op.inputs[0]), op.inputs[0].width, packed.panels,
            address_or_null(self.weights.bias(op)), self.buffer(bound, op.output), op.output.width,
            0, packed.d_in, packed.d_out, self.weights.activation_code(op), 0, 0, 0, 0, bound.weight_bytes)
        bound.size[i] = <SizeFunction> (<void*> size_linear[vf] if self.is_float else <void*> size_linear[vd])
        return 0

    cdef int bind_store(self, BoundProgram bound, Py_ssize_t i, op) except -1:
        cdef CacheMemory memory = self.caches[op.cache.name]
        key, value = op.inputs
        side = key.buffer.dimension
        bound.ops[i].arguments.store = StoreArguments(
            self.columns(bound, key), self.columns(bound, value), key.buffer.width, value.buffer.width,
            op.cache.d_key, op.cache.d_value, &memory.cache, self.indices(side + "_starts"),
            self.indices(side + "_keys"), self.indices(side + "_slots"), 0)
        bound.size[i] = <SizeFunction> (<void*> size_store[vf] if self.is_float else <void*> size_store[vd])
        return 0

    cdef int bind_attention(self, BoundProgram bound, Py_ssize_t i, op) except -1:
        cdef CacheMemory memory = self.caches[op.cache.name]
        (query,) = op.inputs
        side = query.buffer.dimension
        keys, slots = ("memory_keys", "memory_slots") if op.cache.role == "cross" else (side + "_keys", side + "_slots")
        cdef int32_t* ancestors = NULL
        cdef Py_ssize_t row = self.index["ancestors"].shape[1]
        if op.cache.role == "self":
            ancestors = <int32_t*> address(self.index["ancestors"])
        bound.ops[i].arguments.attention = AttentionArguments(
            self.columns(bound, query), query.buffer.width, op.cache.d_key, &memory.cache,
            self.indices(side + "_starts"), self.indices(keys), self.indices(slots), ancestors, row,
            self.indices("reordered"), NULL, NULL, 0, 0, 0,
            self.buffer(bound, op.output), op.output.width, op.cache.d_value, op.options["scale"],
            op.options["causal"], op.options["article_softmax"], address_or_null(self.weights.relative_bias(op)),
            op.options["reach"], NULL, self.extra(bound, op, "scores"),
            self.extra(bound, op, "scaled_scores"), self.extra(bound, op, "weights"), NOTHING_GIVEN, 0, 0)
        bound.size[i] = <SizeFunction> (<void*> size_attention[vf] if self.is_float else <void*> size_attention[vd])
        return 0

    cdef int bind_layer_norm(self, BoundProgram bound, Py_ssize_t i, op) except -1:
        gamma, beta = op.weights if len(op.weights) == 2 else (*op.weights, None)
        bound.ops[i].arguments.norm = NormArguments(
            self.buffer(bound, op.inputs[0]), self.second_input(bound, op),
            self.weight(gamma), NULL, self.extra(bound, op, "residual"),
            self.buffer(bound, op.output), 0, op.output.width, 0, op.options["eps"], op.options["form"])
        if beta is not None:
            bound.ops[i].arguments.norm.beta = self.weight(beta)
        bound.size[i] = <SizeFunction> (<void*> size_layer_norm[vf] if self.is_float else <void*> size_layer_norm[vd])
        return 0

    cdef int bind_rows(self, BoundProgram bound, Py_ssize_t i, op) except -1:
        bound.ops[i].arguments.row = RowArguments(
            self.buffer(bound, op.inputs[0]), self.second_input(bound, op),
            self.buffer(bound, op.output), 0, op.output.width, 0, self.weights.activation_code(op))
        if op.kind == "gate":
            bound.size[i] = <SizeFunction> (<void*> size_gate[vf] if self.is_float else <void*> size_gate[vd])
        elif op.kind == "add":
            bound.size[i] = <SizeFunction> (<void*> size_add[vf] if self.is_float else <void*> size_add[vd])
        else:
            bound.size[i] = <SizeFunction> (<void*> size_softmax[vf] if self.is_float else <void*> size_softmax[vd])
        return 0

    cdef int bind_gather(self, BoundProgram bound, Py_ssize_t i, op) except -1:
        bound.ops[i].arguments.gather = GatherArguments(
            self.buffer(bound, op.inputs[0]), self.indices("wanted_rows"), op.options["scale"],
            self.buffer(bound, op.output), 0, op.output.width, 0)
        bound.size[i] = <SizeFunction> (<void*> size_gather[vf] if self.is_float else <void*> size_gather[vd])
        return 0

    cdef int bind_screen(self, BoundProgram bound, Py_ssize_t i, op) except -1:
        cdef ScreenedWeight screened = self.weights.screened(op)
        bound.ops[i].arguments.screen = ScreenArguments(
            self.buffer(bound, op.inputs[0]), screened.panels, screened.fours, screened.offsets, screened.scales,
            screened.bias, screened.norms, screened.errors, self.buffer(bound, op.output), 0, screened.packed.d_in,
            screened.n_panels, 0)
        bound.size[i] = <SizeFunction> (<void*> size_screen)
        return 0

    cdef int bind_pick(self, BoundProgram bound, Py_ssize_t i, op) except -1:
        cdef PackedWeight packed = self.weights.linear(op)
        x, upper = op.inputs
        bound.ops[i].arguments.pick = PickArguments(
            self.buffer(bound, x), self.buffer(bound, upper), upper.width, packed.panels,
            address_or_null(self.weights.bias(op)), self.indices("top_options"), self.buffer(bound, op.output),
            self.indices("top_ids"), 0, packed.d_in, packed.d_out, op.output.width)
        bound.size[i] = <SizeFunction> (<void*> size_pick)
        return 0

    cdef int bind_top(self, BoundProgram bound, Py_ssize_t i, op) except -1:
        bound.ops[i].arguments.top = TopArguments(
            self.buffer(bound, op.inputs[0]), self.indices("top_options"), self.buffer(bound, op.output),
            self.indices("top_ids"), 0, op.inputs[0].width, op.output.width)
        bound.size[i] = <SizeFunction> (<void*> size_top[vf] if self.is_float else <void*> size_top[vd])
        return 0

    # Running ------------------------------------------------------------------------------

    def run(self, Py_ssize_t which, Py_ssize_t sequences, Py_ssize_t source_rows, Py_ssize_t target_rows,
            Py_ssize_t output_rows, Py_ssize_t longest, Py_ssize_t target_keys, Py_ssize_t memory_keys):
        """Run program `which` over the rows that the index arrays describe."""
        self.prepare(which, sequences, source_rows, target_rows, output_rows, longest, target_keys, memory_keys)
        self.run_ops(which, 0, (<BoundProgram> self.programs[which]).n_ops)

    cpdef prepare(self, Py_ssize_t which, Py_ssize_t sequences, Py_ssize_t source_rows, Py_ssize_t target_rows,
                  Py_ssize_t output_rows, Py_ssize_t longest, Py_ssize_t target_keys, Py_ssize_t memory_keys):
        """What `run` does before it runs the ops."""
        cdef BoundProgram bound = self.programs[which]
        if not bound.is_bound:
            self.bind(bound)
        self.sizes = Sizes(sequences, [source_rows, target_rows, output_rows], longest,
                           [longest, target_keys, memory_keys])
        self.fit(bound)

    def run_steps(self, Py_ssize_t which, Py_ssize_t targets, Py_ssize_t position, Py_ssize_t memory_keys, ends,
                  tokens, values):
        """Run program `which` on one token for each target, then on the tokens that it chose, again and again.

        The first tokens are in the index. ends: int64 ids, after one of which there is no further step.
        tokens, values (most steps, targets): what was chosen. Returns how many steps were made.
        """
        cdef BoundProgram bound = self.programs[which]
        cdef int64_t* ids = self.target_ids
        cdef int64_t* positions = self.target_positions
        cdef int64_t* keys = self.target_keys
        cdef int64_t* chosen = self.top_ids
        cdef int64_t* last = <int64_t*> address(ends)
        cdef int64_t* to = <int64_t*> address(tokens)
        cdef char* to_values = <char*> address(values)
        cdef Py_ssize_t i, r, step = -1, n_ends = len(ends), size = 4 if self.is_float else 8
        cdef bint ended = False
        cdef char* best
        if not bound.is_bound:
            self.bind(bound)
        best = <char*> self.buffer(bound, bound.program.results["top"])
        for step in range(len(tokens)):
            for r in range(targets):
                positions[r], keys[r] = position + step, position + step + 1
            self.sizes = Sizes(targets, [0, targets, targets], 1, [1, position + step + 1, memory_keys])
            self.fit(bound)
            self.run_bound(bound, 0, bound.n_ops)
            for r in range(targets):
                ids[r] = to[step * targets + r] = chosen[r * MOST_TOP]
                memcpy(to_values + (step * targets + r) * size, best + r * MOST_TOP * size, size)
                for i in range(n_ends):
                    ended = ended or ids[r] == last[i]
            if ended:
                break
        return step + 1

    cpdef run_ops(self, Py_ssize_t which, Py_ssize_t first, Py_ssize_t end):
        """Run the ops [first, end) of a program that `prepare` was called for."""
        cdef BoundProgram bound = self.programs[which]
        if not 0 <= first <= end <= bound.n_ops:
            raise IndexError(f"run_ops: ops {first} to {end} of {bound.n_ops}")
        self.run_bound(bound, first, end)

    cdef int run_bound(self, BoundProgram bound, Py_ssize_t first, Py_ssize_t end) except -1:
        cdef Run run
        run = Run(bound.ops + first, end - first, self.scratch, self.scratch_bytes, bound.claimed,
                  bound.claimed + bound.n_ops, 0, 0)
        if bound.estimate < SERIAL_NANOSECONDS:
            walk_ops(&run, 0, 1)
        else:
            memset(bound.claimed, 0, 2 * bound.n_ops * sizeof(int64_t))
            run.last_look = first_look()
            with nogil:
                run_on_team(&run, bound.threads)
            check_run(&run)
        return 0

    cdef int fit(self, BoundProgram bound) except -1:
        """See that the ops are set to `self.sizes` and to the number of threads."""
        cdef int threads = num_threads  # read once: another thread may set it meanwhile
        if bound.threads != threads or memcmp(&self.sizes, &bound.sizes, sizeof(Sizes)) != 0:
            self.size_ops(bound, threads)
        return 0

    cdef int size_ops(self, BoundProgram bound, int threads) except -1:
        """Set rows, tasks and estimates of every op for this run, and see to the scratch memory."""
        cdef Py_ssize_t i
        cdef size_t scratch_bytes = 0
        cdef Op* op
        cdef bint step = self.sizes.longest == bound.sizes.longest and self.sizes.sequences == bound.sizes.sequences
        bound.estimate = 0
        for i in range(bound.n_ops):
            op = &bound.ops[i]
            if bound.is_attention[i]:
                op.arguments.attention.n_sequences = self.sizes.sequences
                op.arguments.attention.longest = self.sizes.longest
                op.arguments.attention.most_keys = self.sizes.most_keys[bound.role[i]]
            elif bound.role[i] >= 0:
                op.arguments.store.n_sequences = self.sizes.sequences
            elif step and bound.threads == threads and op.rows == self.sizes.rows[bound.dimension[i]]:
                # only the number of cached keys has grown: nothing changes for this op
                bound.estimate += op.nanoseconds
                scratch_bytes = max(scratch_bytes, op.scratch_bytes)
                continue
            op.rows = self.sizes.rows[bound.dimension[i]]
            bound.size[i](op, op.rows, threads, NULL)
            bound.estimate += op.nanoseconds
            scratch_bytes = max(scratch_bytes, op.scratch_bytes)
        self.ensure_scratch((scratch_bytes + 127) // 64 * 64, threads)
        bound.sizes, bound.threads = self.sizes, threads  # last: where there is no room, they are not set yet
        return 0

    cdef int ensure_scratch(self, size_t needed, size_t members) except -1:
        """Scratch memory for each thread: grown when it must be, then kept."""
        if needed > self.scratch_bytes or members > self.scratch_members:
            needed = max(needed, self.scratch_bytes)
            members = max(members, self.scratch_members)
            release_memory(self.scratch)
            self.scratch, self.scratch_bytes, self.scratch_members = NULL, 0, 0
            self.scratch = <char*> allocate(needed * members)
            self.scratch_bytes, self.scratch_members = needed, members
        return 0

    # Reading ------------------------------------------------------------------------------

    def read(self, Py_ssize_t which, buffer):
        """A copy of a buffer's rows after a run: (rows, width)."""
        import numpy
        cdef BoundProgram bound = self.programs[which]
        _, dimension, width = bound.places[buffer]
        rows = self.sizes.rows[DIMENSIONS[dimension]]
        out = numpy.empty((rows, width), self.weights.dtype)
        if out.size:
            memcpy(address(out), self.buffer(bound, buffer), out.nbytes)
        return out

    def write(self, Py_ssize_t which, buffer, first, values):
        """Put values (rows, width), C-contiguous and of the weights' type, into a buffer's columns from `first` on."""
        cdef BoundProgram bound = self.programs[which]
        cdef Py_ssize_t r, size = 4 if self.is_float else 8, row = buffer.width * size, width = values.shape[1] * size
        cdef Py_ssize_t rows = self.sizes.rows[DIMENSIONS[buffer.dimension]]
        cdef char* to = <char*> self.buffer(bound, buffer) + <Py_ssize_t> first * size
        cdef const char* source = <const char*> address(values) if len(values) else NULL
        if values.shape[0] != rows or first < 0 or first + values.shape[1] > buffer.width or (
                values.dtype != self.weights.dtype):
            raise ValueError(f"write: ({rows}, {buffer.width}) expected, got {values.shape} {values.dtype} at {first}")
        for r in range(rows):
            memcpy(to + r * row, source + r * width, width)

    def give(self, Py_ssize_t which, Py_ssize_t i, name):
        """Let op i, an attention, go on from its array of that name (see `read_extra`), not from keys and queries;
        None: compute all of it again."""
        cdef BoundProgram bound = self.programs[which]
        bound.ops[i].arguments.attention.given = GIVEN[name]

    def read_extra(self, Py_ssize_t which, op, name):
        """What an op wrote for a trace: (sequences, heads, T, keys) or (rows, width)."""
        return (<BoundProgram> self.programs[which]).extras[op.name, name]


BINDERS = {
    "input": lambda Executor e, BoundProgram b, i, op: e.bind_input(b, i, op),
    "embedding": lambda Executor e, BoundProgram b, i, op: e.bind_embedding(b, i, op),
    "linear": lambda Executor e, BoundProgram b, i, op: e.bind_linear(b, i, op),
    "store": lambda Executor e, BoundProgram b, i, op: e.bind_store(b, i, op),
    "attention": lambda Executor e, BoundProgram b, i, op: e.bind_attention(b, i, op),
    "add_layer_norm": lambda Executor e, BoundProgram b, i, op: e.bind_layer_norm(b, i, op),
    "layer_norm": lambda Executor e, BoundProgram b, i, op: e.bind_layer_norm(b, i, op),
    "gate": lambda Executor e, BoundProgram b, i, op: e.bind_rows(b, i, op),
    "add": lambda Executor e, BoundProgram b, i, op: e.bind_rows(b, i, op),
    "softmax": lambda Executor e, BoundProgram b, i, op: e.bind_rows(b, i, op),
    "gather": lambda Executor e, BoundProgram b, i, op: e.bind_gather(b, i, op),
    "screen": lambda Executor e, BoundProgram b, i, op: e.bind_screen(b, i, op),
    "pick": lambda Executor e, BoundProgram b, i, op: e.bind_pick(b, i, op),
    "top": lambda Executor e, BoundProgram b, i, op: e.bind_top(b, i, op),
}
