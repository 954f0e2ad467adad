"""`Op`: what one operation works on. Kernels and programs alike are lists of these.

Every buffer is a plain address; every stride and width counts numbers. `rows` are the rows of
a ragged batch: the tokens of all sequences, one after the other.
"""

# A task of an op: the op's arguments, which task, and this thread's scratch memory.
ctypedef void (*TaskFunction)(const void* arguments, Py_ssize_t task, void* scratch) noexcept nogil

cdef struct LinearArguments:         # out (rows, d_out) = activation(x @ weight + bias)
    const void* x                    # (rows, d_in)
    Py_ssize_t x_stride
    const void* weight               # panels, see matmul.pxi
    const void* bias                 # (d_out,) or NULL
    void* out
    Py_ssize_t out_stride
    Py_ssize_t rows, d_in, d_out
    int activation
    Py_ssize_t n_row_blocks, rows_per_block, panels_per_group, threads
    Py_ssize_t company               # bytes of all weights of the program, which share the caches; 0 for a kernel

cdef struct MatmulArguments:         # out (batch, m, n) = activation(a (batch, m, k) @ b (batch, k, n) + bias)
    const void* a
    const void* b
    const void* bias                 # (n,) or NULL
    void* out
    Py_ssize_t m, k, n
    int activation
    # Set when the op is sized; pieces: of one product.
    Py_ssize_t batch, row_pieces, rows_per_task, column_pieces, columns_per_task, threads

cdef struct PackArguments:           # a matrix into panels
    const void* weight               # element (k, n) at k * row_stride + n * column_stride
    Py_ssize_t row_stride, column_stride
    Py_ssize_t d_in, d_out
    void* panels

cdef struct NormArguments:           # out = layer_norm(x) or layer_norm(x + y)
    const void* x                    # (rows, width)
    const void* y                    # (rows, width) or NULL
    const void* gamma                # (width,) or NULL
    const void* beta                 # (width,) or NULL
    void* sum                        # (rows, width) or NULL: takes x + y
    void* out                        # (rows, width)
    Py_ssize_t rows, width, rows_per_task
    double eps
    int form                         # PAPER, ARTICLE or RMS, see layer_norm.pxi

cdef struct RowArguments:            # out = x, softmax(x), x + y, an activation of x, or gated, row by row
    const void* x
    const void* y
    void* out
    Py_ssize_t rows, width, rows_per_task
    int activation

cdef struct EmbeddingArguments:      # out = table[ids] * scale + positional[positions]
    const int64_t* ids               # (rows,)
    const void* table                # (vocabulary, width), or packed: the columns of panels
    double scale
    const int64_t* positions         # (rows,) or NULL
    const void* positional           # (positions, width) or NULL
    void* embedding                  # (rows, width) or NULL: takes table[ids] * scale
    void* position                   # (rows, width) or NULL: takes positional[positions]
    void* out                        # (rows, width)
    Py_ssize_t rows, width, rows_per_task
    bint packed

cdef struct GatherArguments:         # out[i] = x[rows_wanted[i]] * scale
    const void* x
    const int64_t* rows_wanted
    double scale
    void* out
    Py_ssize_t rows, width, rows_per_task

cdef struct ArgmaxArguments:
    const void* x                    # (rows, width)
    int64_t* out                     # (rows,)
    Py_ssize_t rows, width

cdef struct TopArguments:            # the k largest numbers of each row and where they are
    const void* x                    # (rows, width)
    const int64_t* options           # k, from 1 to MOST_TOP, and whether the values become log-softmax
    void* values                     # (rows, stride), the first k of each row
    int64_t* ids                     # likewise
    Py_ssize_t rows, width, stride

cdef struct ScreenArguments:         # upper (rows, panels) >= the largest of x @ weight + bias there, see screen.pxi
    const void* x                    # (rows, d_in)
    const signed char* panels        # the rest: of a ScreenedWeight
    Py_ssize_t fours
    const int32_t* offsets
    const float* scales
    const float* bias
    const float* norms
    const float* errors
    void* upper                      # (rows, n_panels)
    Py_ssize_t rows, d_in, n_panels, panels_per_task

cdef struct PickArguments:           # the k largest of x @ weight + bias in each row, given upper bounds of panels
    const void* x                    # (rows, d_in)
    void* upper                      # (rows, n_panels); overwritten
    Py_ssize_t n_panels
    const void* weight               # panels, see matmul.pxi
    const void* bias                 # (d_out,) or NULL
    const int64_t* options           # k, as of TopArguments
    void* values                     # (rows, stride)
    int64_t* ids
    Py_ssize_t rows, d_in, d_out, stride

# What run_with changed inside an attention: computing goes on from there.
cdef enum:
    NOTHING_GIVEN
    GIVEN_SCORES
    GIVEN_SCALED_SCORES
    GIVEN_WEIGHTS

# The keys and values of some sequences (cache.pxi).
cdef struct Cache:
    void* keys                       # per slot, per head: panels of NR keys, (capacity / NR, d_key, NR); or rows
    void* values                     # per slot, per head: (capacity, d_value up to whole panels)
    Py_ssize_t capacity              # keys, a multiple of NR
    Py_ssize_t heads, d_key, d_value
    bint in_rows                     # keys as they come, (capacity, d_key)

cdef struct StoreArguments:          # keys and values of new tokens into a cache
    const void* k                    # (rows, ...), head h at h * head_stride_k
    const void* v
    Py_ssize_t k_stride, v_stride, k_head_stride, v_head_stride
    Cache* cache
    const int64_t* starts            # (sequences + 1,): rows of each sequence
    const int64_t* n_keys            # (sequences,): keys in the cache once these are in
    const int64_t* slots             # (sequences,): where in the cache
    Py_ssize_t n_sequences

cdef struct AttentionArguments:
    const void* q                    # (rows, ...), head h at h * q_head_stride
    Py_ssize_t q_stride, q_head_stride
    Cache* cache
    const int64_t* starts            # (sequences + 1,)
    const int64_t* n_keys            # (sequences,)
    const int64_t* slots             # (sequences,)
    const int32_t* ancestors         # (sequences, ancestors_row): the slot of each key of a sequence, where
    Py_ssize_t ancestors_row         # reordered says that they differ; or NULL
    const int64_t* reordered
    const void* k                    # (sequences, n_keys, d_key) plain, not in the cache, one head each; or NULL
    const void* v                    # (sequences, n_keys, d_value) then
    Py_ssize_t n_sequences, queries_per_task, tasks_per_head
    void* out                        # (rows, ...), head h at h * out_head_stride
    Py_ssize_t out_stride, out_head_stride
    double scale
    bint causal
    bint article                     # softmax without subtracting the maximum
    const void* bias                 # (heads, 2 * reach + 1): added to the scaled score of keys -reach..reach away,
    Py_ssize_t reach                 # those farther away have the nearest one's; or NULL
    const unsigned char* mask        # (sequences * heads, longest, most_keys) or NULL
    void* scores                     # (sequences, heads, longest, most_keys) or NULL, as the next two
    void* scaled_scores
    void* weights
    int given                        # which of these three is given, not computed: see GIVEN_SCORES and so on
    Py_ssize_t longest, most_keys

cdef union Arguments:
    LinearArguments linear
    MatmulArguments matmul
    PackArguments pack
    NormArguments norm
    RowArguments row
    EmbeddingArguments embedding
    GatherArguments gather
    ArgmaxArguments argmax
    TopArguments top
    ScreenArguments screen
    PickArguments pick
    StoreArguments store
    AttentionArguments attention

cdef struct Op:
    TaskFunction task
    Py_ssize_t n_tasks
    Py_ssize_t rows                  # that a program's op is set to; kernels leave it
    int64_t nanoseconds              # estimate for one thread, to tell whether a team is worth it
    size_t scratch_bytes             # per thread
    Arguments arguments
