"""What the kernels accept and what they refuse: layouts, kinds of input, out, and every message."""

import re
import warnings

import numpy as np
import pytest
from cases import (
    CASES,
    SMALL,
    Guarded,
    assert_same_bits,
    both_dtypes,
    every_case,
    layouts,
    normal,
)

from rtfast import backends, kernels

OTHER = {np.float32: np.float64, np.float64: np.float32}


# ---------------------------------------------------------------------------------------------
# Kinds of input

@both_dtypes
@every_case
def test_every_layout_gives_the_same_bits(backend, dtype, case):
    operands = case.operands(SMALL, dtype)
    expected = case(**operands)
    for name, array in operands.items():
        for layout, variant in layouts(array).items():
            before = variant.copy()
            got = case(**{**operands, name: variant})
            for one, other in zip(got, expected, strict=True):
                assert_same_bits(one, other, (name, layout))
                assert type(one) is not np.ndarray or one.flags.c_contiguous
            assert_same_bits(variant, before, "input changed")


@both_dtypes
@every_case
def test_lists_take_the_dtype_of_the_arrays_beside_them(backend, dtype, case):
    operands = case.operands(SMALL, dtype)
    expected = case(**operands)
    for name, array in operands.items():
        if len(operands) == 1 and dtype == np.float32:
            continue  # alone it becomes float64
        got = case(**{**operands, name: array.tolist()})
        for one, other in zip(got, expected, strict=True):
            assert_same_bits(one, other, name)


@every_case
def test_lists_alone_become_float64(backend, case):
    operands = case.operands(SMALL, np.float64)
    expected = case(**operands)
    got = case(**{name: array.tolist() for name, array in operands.items()})
    for one, other in zip(got, expected, strict=True):
        assert_same_bits(one, other)


def test_whole_numbers_in_lists(backend):
    assert kernels.matmul([[1, 2]], [[3], [4]]).tolist() == [[11.0]]
    assert kernels.softmax((1, 1)).tolist() == [0.5, 0.5]
    assert kernels.softmax(range(1)).tolist() == [1.0]
    assert kernels.activate(-3, "relu") == 0
    assert kernels.softmax([True, True]).dtype == np.float64
    assert kernels.softmax([]).shape == (0,)
    packed = kernels.pack(np.eye(2, dtype=np.float32))
    assert kernels.linear([1, 2], packed, [10, 20]).dtype == np.float32


@both_dtypes
def test_objects_with_an_array_inside(backend, dtype):
    class Tensor:
        def __init__(self, array):
            self.array = array

        def __array__(self, dtype=None, copy=None):
            return self.array if dtype is None else self.array.astype(dtype)

    x = normal((3, 4), dtype)
    expected = kernels.softmax(x)
    assert_same_bits(kernels.softmax(Tensor(x)), expected)
    assert_same_bits(kernels.softmax(memoryview(x)), expected)
    assert_same_bits(kernels.softmax(x[0, 0:1]), kernels.softmax(x[0, 0:1].tolist()).astype(dtype))
    assert kernels.activate(dtype(2), "relu").dtype == dtype


@both_dtypes
@every_case
def test_mixed_dtypes_are_refused(backend, dtype, case):
    operands = case.operands(SMALL, dtype)
    for name in list(operands)[1:]:
        with pytest.raises(TypeError, match=rf"{name} must be {np.dtype(dtype)} like .*, got float(32|64); "
                                            rf"convert with {name}\.astype\(numpy\.{np.dtype(dtype)}\)"):
            case(**{**operands, name: operands[name].astype(OTHER[dtype])})


@every_case
@pytest.mark.parametrize("kind", ["int64", "bool", "float16", "complex128", ">f4", ">f8", "U3", "M8[s]", "O"])
def test_other_dtypes_are_refused(backend, case, kind):
    operands = case.operands(SMALL, np.float32)
    name = next(iter(operands))
    wrong = np.zeros(operands[name].shape, kind)
    function = case.kernel.__name__
    with pytest.raises(TypeError, match=rf"^{function}: {name} must be float32 or float64, got .*convert"):
        case(**{**operands, name: wrong})


@every_case
@pytest.mark.parametrize("wrong", [None, "abc", b"abc", {1: 2}, object(), [1, None], ["1"], [1j]])
def test_things_that_are_no_numbers_are_refused(backend, case, wrong):
    operands = case.operands(SMALL, np.float32)
    name = next(iter(operands))
    with pytest.raises(TypeError, match=rf"^{case.kernel.__name__}: {name} must"):
        case(**{**operands, name: wrong})


def test_ragged_lists_are_refused(backend):
    with pytest.raises(ValueError, match="softmax: x must be a rectangular list of numbers"):
        kernels.softmax([[1, 2], [3]])
    with pytest.raises(ValueError, match="embedding: ids must be a rectangular list of integers"):
        kernels.embedding([[1, 2], [3]], np.zeros((9, 2)))


@both_dtypes
@every_case
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, "largest", "smallest"])
def test_no_input_raises_a_warning(backend, dtype, case, value):
    """pyproject.toml turns warnings into errors."""
    value = {"largest": np.finfo(dtype).max, "smallest": np.finfo(dtype).smallest_subnormal}.get(value, value)
    operands = case.operands(SMALL, dtype)
    for name in operands:
        mixed = operands[name].copy()
        mixed[..., ::2] = value
        for array in (np.full_like(mixed, value), mixed):
            case(**{**operands, name: array})


# ---------------------------------------------------------------------------------------------
# out

OUT_CASES = {name: case for name, case in CASES.items() if not name.startswith(("attention", "argmax"))}
every_out_case = pytest.mark.parametrize("case", OUT_CASES.values(), ids=OUT_CASES.keys())


@both_dtypes
@every_out_case
def test_out_of_every_layout(backend, dtype, case):
    operands = case.operands(SMALL, dtype)
    expected, = case(**operands)
    guarded = Guarded(expected.shape, dtype)
    assert case(**operands, out=guarded.array)[0] is guarded.array
    assert_same_bits(guarded.check(), expected)
    for layout, out in layouts(np.full(expected.shape, np.nan, dtype)).items():
        if layout != "read-only":
            assert case(**operands, out=out)[0] is out, layout
            assert_same_bits(out, expected, layout)


@both_dtypes
@every_out_case
def test_out_may_overlap_every_input(backend, dtype, case):
    operands = case.operands(SMALL, dtype)
    expected, = case(**operands)
    for name, array in operands.items():
        for shift in (-3, -1, 0, 1, 3):
            room = np.zeros(array.size + expected.size + 6, dtype)
            clash = room[3:3 + array.size].reshape(array.shape)
            clash[...] = array
            out = room[3 + shift:3 + shift + expected.size].reshape(expected.shape)
            case(**{**operands, name: clash}, out=out)
            assert_same_bits(out, expected, (name, shift))


@both_dtypes
@every_out_case
def test_a_wrong_out_is_refused(backend, dtype, case):
    operands = case.operands(SMALL, dtype)
    shape = case(**operands)[0].shape
    function = case.kernel.__name__
    with pytest.raises(ValueError, match=re.escape(f"{function}: out must have shape {shape}, got ")):
        case(**operands, out=np.empty((*shape[:-1], shape[-1] + 1), dtype))
    with pytest.raises(ValueError, match=f"{function}: out must have shape"):
        case(**operands, out=np.empty((1, *shape), dtype))
    with pytest.raises(TypeError, match=f"{function}: out must be {np.dtype(dtype)} like the operands, got"):
        case(**operands, out=np.empty(shape, OTHER[dtype]))
    with pytest.raises(TypeError, match=f"{function}: out must be an ndarray, got list"):
        case(**operands, out=np.empty(shape, dtype).tolist())
    frozen = np.empty(shape, dtype)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match=f"{function}: out must be writeable, got a read-only array"):
        case(**operands, out=frozen)


# ---------------------------------------------------------------------------------------------
# Shapes and values. The strings are what a user reads.

X, W = np.zeros((2, 4)), np.zeros((4, 3))
Q, K, V = np.zeros((2, 5, 4)), np.zeros((2, 7, 4)), np.zeros((2, 7, 3))
FLOAT_MASK = np.zeros((5, 7))

#: What NumPy says of a ragged list.
try:
    np.asarray([[True], [True, False]])
except ValueError as _error:
    RAGGED = str(_error)

REFUSED = {
    "linear: weight must have shape (d_in, d_out) with d_in = x.shape[-1] = 4, got (3, 8)":
        lambda: kernels.linear(X, np.zeros((3, 8))),
    "linear: weight must have shape (d_in, d_out) with d_in = x.shape[-1] = 4, got (4,)":
        lambda: kernels.linear(X, np.zeros(4)),
    "linear: weight must have shape (d_in, d_out) with d_in = x.shape[-1] = 4, got (3, 9)":
        lambda: kernels.linear(X, kernels.pack(np.zeros((3, 9)))),
    "linear: x must have at least 1 dimension, got shape ()": lambda: kernels.linear(1.0, W),
    "linear: bias must have shape (d_out,) = (3,), got (4,)": lambda: kernels.linear(X, W, np.zeros(4)),
    "linear: bias must have shape (d_out,) = (3,), got (1, 3)":
        lambda: kernels.linear(X, W, np.zeros((1, 3))),
    "linear: activation must be one of None, 'relu', 'gelu', 'gelu_tanh', 'silu', got 'swish'":
        lambda: kernels.linear(X, W, activation="swish"),
    "activate: activation must be one of None, 'relu', 'gelu', 'gelu_tanh', 'silu', got ['relu']":
        lambda: kernels.activate(X, ["relu"]),
    "matmul: a must have at least 2 dimensions, got shape (4,)": lambda: kernels.matmul(X[0], W),
    "matmul: b must have at least 2 dimensions, got shape (4,)": lambda: kernels.matmul(X, W[:, 0]),
    "matmul: b must have shape (k, n) or (..., k, n) with k = a.shape[-1] = 4, got (3, 4)":
        lambda: kernels.matmul(X, W.T),
    "matmul: leading axes of a (2,) and b (3,) must broadcast, got a (2, 5, 4) and b (3, 4, 7)":
        lambda: kernels.matmul(Q, np.zeros((3, 4, 7))),
    "pack: weight must have shape (d_in, d_out), got (2, 5, 4)": lambda: kernels.pack(Q),
    "softmax: x must have at least 1 dimension, got shape ()": lambda: kernels.softmax(1.0),
    "layer_norm: x must have at least 1 dimension, got shape ()": lambda: kernels.layer_norm(1.0),
    "layer_norm: gamma must have shape (x.shape[-1],) = (4,), got (3,)":
        lambda: kernels.layer_norm(X, np.zeros(3)),
    "layer_norm: beta must have shape (x.shape[-1],) = (4,), got ()":
        lambda: kernels.layer_norm(X, beta=0.0),
    "layer_norm: eps must be finite and >= 0, got -1": lambda: kernels.layer_norm(X, eps=-1),
    "layer_norm: eps must be a number that a float can hold, got one that is larger":
        lambda: kernels.layer_norm(X, eps=10 ** 400),
    "layer_norm: eps must be finite and >= 0, got nan": lambda: kernels.layer_norm(X, eps=np.nan),
    "add_layer_norm: eps must be finite and >= 0, got inf": lambda: kernels.add_layer_norm(X, X, eps=np.inf),
    "add_layer_norm: y must have x's shape (2, 4), got (4,)": lambda: kernels.add_layer_norm(X, X[0]),
    "attention: q must have at least 2 dimensions, got shape (4,)": lambda: kernels.attention(Q[0, 0], K, V),
    "attention: k must have shape (..., S, d_key) with q's leading axes (2,) and d_key = q.shape[-1] = 4, "
    "got (2, 7, 3)": lambda: kernels.attention(Q, V, V),
    "attention: k must have shape (..., S, d_key) with q's leading axes (2,) and d_key = q.shape[-1] = 4, "
    "got (1, 7, 4)": lambda: kernels.attention(Q, K[:1], V[:1]),
    "attention: v must have shape (..., S, d_value) with k's (..., S) = (2, 7), got (2, 6, 3)":
        lambda: kernels.attention(Q, K, V[:, 1:]),
    "attention: mask must broadcast to (..., T, S) = (2, 5, 7), got (7, 5)":
        lambda: kernels.attention(Q, K, V, np.ones((7, 5), bool)),
    "attention: mask must broadcast to (..., T, S) = (2, 5, 7), got (1, 2, 5, 7)":
        lambda: kernels.attention(Q, K, V, np.ones((1, 2, 5, 7), bool)),
    "attention: mask must be a rectangular list of booleans: " + RAGGED:
        lambda: kernels.attention(Q, K, V, [[True], [True, False]]),
    "embedding: table must have shape (vocabulary, d), got (2, 5, 4)": lambda: kernels.embedding([0], Q),
    "embedding: ids must be in 0 <= id < 4 (the vocabulary size), got 4 at [1, 0]":
        lambda: kernels.embedding([[0, 3], [4, 9]], W),
    "embedding: ids must be in 0 <= id < 4 (the vocabulary size), got -1 at [2]":
        lambda: kernels.embedding(np.array([0, 3, -1], np.int8), W),
    "embedding: ids must be in 0 <= id < 4 (the vocabulary size), got 18446744073709551615 at [0]":
        lambda: kernels.embedding(np.array([2 ** 64 - 1], np.uint64), W),
    "embedding: ids must be in 0 <= id < 4 (the vocabulary size), got 7 at []":
        lambda: kernels.embedding(7, W),
    "embedding: ids must be in 0 <= id < 0 (the vocabulary size), got 0 at [0]":
        lambda: kernels.embedding([0], W[:0]),
}

REFUSED_TYPES = {
    "linear: x must be an array, got a PackedWeight; convert with x.unpack()":
        lambda: kernels.linear(kernels.pack(W), W),
    "linear: bias must hold real numbers, got <U1": lambda: kernels.linear(X, W, ["a", "b", "c"]),
    "layer_norm: eps must be a number, got 'small'": lambda: kernels.layer_norm(X, eps="small"),
    "layer_norm: eps must be a number, got '1e-5'": lambda: kernels.layer_norm(X, eps="1e-5"),
    "layer_norm: eps must be a number, got True": lambda: kernels.layer_norm(X, eps=True),
    "add_layer_norm: eps must be a number, got b'1'": lambda: kernels.add_layer_norm(X, X, eps=b"1"),
    "layer_norm: eps must be a number": lambda: kernels.layer_norm(X, eps=np.complex64(1 + 2j)),
    "add_layer_norm: eps must be a number": lambda: kernels.add_layer_norm(X, X, eps=np.timedelta64(1)),
    "attention: scale must be a number, got '1'": lambda: kernels.attention(Q, K, V, scale="1"),
    "top_k: log_softmax must be True or False, got 'no'": lambda: kernels.top_k(X, 2, log_softmax="no"),
    "top_k: k must be an integer, got ndarray": lambda: kernels.top_k(X, np.array([2])),
    "attention: scale must be a number, got [1]": lambda: kernels.attention(Q, K, V, scale=[1]),
    "attention: causal must be True or False, got 'no'": lambda: kernels.attention(Q, K, V, causal="no"),
    "attention: causal must be True or False, got array([ True, False])":
        lambda: kernels.attention(Q, K, V, causal=np.array([True, False])),
    "attention: return_weights must be True or False, got 1": lambda: kernels.attention(Q, K, V, return_weights=1),
    "layer_norm: article must be True or False, got 'paper'": lambda: kernels.layer_norm(X, article="paper"),
    "add_layer_norm: article must be True or False, got None": lambda: kernels.add_layer_norm(X, X, article=None),
    "attention: mask must be boolean, True where a query may attend a key, got float64; "
    "convert with mask != 0 (1 = may attend) or mask == 0 (additive mask, 0 = may attend)":
        lambda: kernels.attention(Q, K, V, FLOAT_MASK),
    "attention: mask must be boolean": lambda: kernels.attention(Q, K, V, [[1] * 7]),
    "positional_encoding: dtype must be float32 or float64, got [('a', 'f4'), ('a', 'f4')]":
        lambda: kernels.positional_encoding(2, 3, dtype=[("a", "f4"), ("a", "f4")]),
    "embedding: ids must be integers, got float64": lambda: kernels.embedding(np.zeros(3), W),
    "embedding: ids must be integers, got bool": lambda: kernels.embedding([True], W),
    "embedding: ids must be integers, got object": lambda: kernels.embedding([2 ** 70], W),
    "embedding: ids must be integers, got float32": lambda: kernels.embedding(np.zeros(0, np.float32), W),
}


@pytest.mark.parametrize("message", REFUSED)
def test_wrong_shapes_and_values(backend, message):
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        REFUSED[message]()


@pytest.mark.parametrize("message", REFUSED_TYPES)
def test_wrong_types(backend, message):
    with pytest.raises(TypeError, match="^" + re.escape(message)):
        REFUSED_TYPES[message]()


def test_a_weight_packed_by_another_backend_is_refused():
    names = backends.available()
    if len(names) < 2:
        pytest.skip("one backend only")
    weights = {}
    for name in names:
        with backends.using(name):
            weights[name] = kernels.pack(W)
    for name in names:
        with backends.using(name):
            for other in names:
                if other == name:
                    kernels.linear(X, weights[other])
                    continue
                for call in (lambda w: kernels.linear(X, w), lambda w: kernels.matmul(X, w), kernels.pack):
                    packer = re.escape(type(weights[other]).__module__)
                    with pytest.raises(TypeError, match=rf"(weight|b) was packed by {packer}, but backend "
                                                        rf"'{name}' runs now; pack it again"):
                        call(weights[other])


def test_an_id_that_changes_after_the_check_is_not_read(backend):
    """The backend gets its own copy of the ids: no other thread can swap one in between."""
    ids = np.array([0, 1])
    seen = []
    original = backends.active().embedding

    def spy(given, *rest):
        seen.append(np.may_share_memory(given, ids))
        original(given, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends.active(), "embedding", spy)
        kernels.embedding(ids, W)
    assert seen == [False]


@pytest.mark.parametrize("layout", layouts(np.zeros((2, 2))))
def test_the_backend_gets_contiguous_aligned_arrays_and_no_needless_copy(backend, layout):
    x = layouts(normal((3, 4), np.float32))[layout]
    seen = []
    original = backends.active().softmax

    def spy(given, out):
        assert type(given) is type(out) is np.ndarray
        for array in (given, out):
            assert array.flags.c_contiguous and array.flags.aligned
        seen.append(np.shares_memory(given, x))
        original(given, out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends.active(), "softmax", spy)
        patch.setattr(backends.active(), "softmax_directly", lambda x, out: None)
        kernels.softmax(x)
        kernels.softmax(normal((3, 4), np.float32), out=x.copy() if layout == "read-only" else x)
    assert seen == [x.flags.c_contiguous and x.flags.aligned, False]


def test_a_number_that_is_too_large_is_infinite_without_a_warning(backend):
    x = np.array([[2.0]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kernels.matmul(x, [[1e300]]) == np.inf and kernels.linear(x, [[-1e300]]) == -np.inf


def test_out_may_be_an_operand(backend):
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert kernels.matmul(a, a, out=a) is a and a.tolist() == [[7, 10], [15, 22]]


@pytest.mark.parametrize("name", [name for name in backends.available() if name != "python"])
def test_a_packed_weight_made_by_hand(name):
    """What `kernels.pack` returns tells its class: no size of it may wrap around."""
    make = type(backends.load(name).pack(np.ones((2, 3), np.float32)))
    for d_in, d_out in ((2**61, 8), (3, 2**63 - 10), (2**32, 2**32), (-1, 3)):
        with pytest.raises(MemoryError, match=re.escape(f"no room for a weight ({d_in}, {d_out})")):
            make(d_in, d_out, np.dtype(np.float32))
    with pytest.raises(TypeError, match="dtype must be float32 or float64, got int32"):
        make(2, 3, np.dtype(np.int32))


def test_rows_of_out_that_overlap_each_other():
    """Windows on one array: each number is several results' place."""
    x = np.ones((3, 4), np.float32)
    for out in (np.lib.stride_tricks.as_strided(np.zeros(8, np.float32), (3, 4), (8, 4)),
                np.lib.stride_tricks.as_strided(np.zeros(9, np.float32), (3, 4), (4, 8))):
        with pytest.raises(ValueError, match="softmax: out must have an element of memory for each number"):
            kernels.softmax(x, out=out)
    apart = np.zeros((3, 8), np.float32)[:, ::2]
    assert kernels.softmax(x, out=apart) is apart and (apart == 0.25).all()
