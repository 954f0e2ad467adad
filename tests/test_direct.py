"""The quick way in for plain arrays: it takes only what it may, and gives the bits of the long way."""

import numpy as np
import pytest
from cases import assert_same_bits, both_dtypes, layouts, normal

from rtfast import backends, kernels

WAYS_IN = ["softmax_directly", "layer_norm_directly", "linear_directly", "matmul_directly", "attention_directly"]


def the_long_way(call):
    """The result of a call while no quick way in is open."""
    with pytest.MonkeyPatch.context() as patch:
        for name in WAYS_IN:
            patch.setattr(backends.active(), name, lambda *arguments: None)
        return call()


def weight_of(x):
    return normal((x.shape[-1], 5), x.dtype, 9)


def calls(x, y, vector):
    """Every kernel with a quick way in, on x and y of one shape and a vector as wide."""
    weight = kernels.pack(weight_of(x))
    return {
        "softmax": lambda: kernels.softmax(x),
        "softmax, out": lambda: kernels.softmax(x, out=np.full(x.shape, np.nan, x.dtype)),
        "softmax, in place": lambda: kernels.softmax(copy := x.copy(), out=copy),
        "layer_norm": lambda: kernels.layer_norm(x, vector, vector),
        "layer_norm, beta": lambda: kernels.layer_norm(x, beta=vector, eps=1e-3, article=True),
        "layer_norm, in place": lambda: kernels.layer_norm(copy := x.copy(), vector, out=copy),
        "add_layer_norm": lambda: kernels.add_layer_norm(x, y, vector, None),
        "linear": lambda: kernels.linear(x, weight),
        "linear, bias": lambda: kernels.linear(x, weight, np.ones(5, x.dtype), "gelu"),
        "matmul": lambda: kernels.matmul(x, weight_of(x)),
        "matmul, batched": lambda: kernels.matmul(x, np.ascontiguousarray(np.swapaxes(y, -1, -2))),
        "matmul, out": lambda: kernels.matmul(x, weight_of(x), out=np.full((*x.shape[:-1], 5), np.nan, x.dtype)),
        "attention": lambda: kernels.attention(x, y, y),
        "attention, causal": lambda: kernels.attention(x, x, y, causal=True, scale=0.25),
    }


@both_dtypes
@pytest.mark.parametrize("layout", layouts(np.zeros((2, 2))))
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 5), (1, 1), (2, 7, 70)], ids=str)
def test_both_ways_give_the_same(backend, dtype, layout, shape):
    x, y = (layouts(normal(shape, dtype, seed))[layout] for seed in (0, 1))
    for name, call in calls(x, y, normal(shape[-1:], dtype, 2)).items():
        assert_same_bits(call(), the_long_way(call), name)


def taken(way, *arguments):
    return getattr(backends.active(), way)(*arguments) is not None


def test_plain_arrays_go_the_quick_way(backend):
    x, out = np.ones((2, 3)), np.empty((2, 3))
    quick = backend != "python"
    assert taken("softmax_directly", x, None) is quick
    assert taken("softmax_directly", x, out) is quick
    assert taken("softmax_directly", x, x) is quick
    assert taken("layer_norm_directly", x, None, np.ones(3), None, 1e-5, False, out) is quick
    assert taken("layer_norm_directly", x, x.copy(), None, None, 1e-5, False, x) is quick
    assert taken("linear_directly", x, kernels.pack(np.ones((3, 4))), np.ones(4), 0, None) is quick
    assert taken("matmul_directly", x, np.ones((3, 4)), None) is quick
    assert taken("matmul_directly", np.ones((5, 2, 3)), np.ones((5, 3, 4)), np.empty((5, 2, 4))) is quick
    assert taken("matmul_directly", np.ones((5, 2, 3)), np.ones((3, 4)), None) is quick
    assert taken("attention_directly", x, x, x, False, None) is quick


WRONG = {
    "other type": np.ones((2, 3), np.float32), "integers": np.ones((2, 3), int), "big-endian": np.ones((2, 3), ">f8"),
    "complex": np.ones((2, 3), complex), "strided": np.ones((2, 6))[:, ::2], "Fortran": np.ones((3, 2)).T,
    "no axis": np.float64(1.0), "0-d": np.array(1.0), "empty": np.empty((0, 3)), "other shape": np.ones((2, 4)),
    "more axes": np.ones((1, 2, 3)), "list": [[1.0] * 3] * 2, "subclass": np.ones((2, 3)).view(np.matrix),
    "unaligned": np.zeros(49, np.uint8)[1:].view(np.float64).reshape(2, 3),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("kind", WRONG)
def test_anything_else_is_left_alone(backend, kind):
    good, wrong = np.ones((2, 3)), WRONG[kind]
    weight = kernels.pack(np.ones((3, 5)))
    assert not taken("softmax_directly", good, wrong)
    assert not taken("layer_norm_directly", good, wrong, None, None, 1e-5, False, None)
    assert not taken("layer_norm_directly", good, None, None, None, 1e-5, False, wrong)
    assert not taken("layer_norm_directly", good, None, wrong, None, 1e-5, False, None)
    assert not taken("linear_directly", good, weight, wrong, 0, None)
    assert not taken("linear_directly", good, weight, None, 0, wrong)
    assert not taken("attention_directly", wrong, good, good, False, None)
    assert not taken("matmul_directly", wrong, np.ones((3, 3)), None) or kind == "more axes"
    assert not taken("matmul_directly", good, wrong, None)
    assert not taken("matmul_directly", good, np.ones((3, 3)), wrong)
    if kind != "other shape":
        assert not taken("attention_directly", good, good, wrong, False, None)
    if kind not in ("other type", "other shape", "more axes"):
        assert not taken("softmax_directly", wrong, None)
        assert not taken("linear_directly", wrong, weight, None, 0, None)


def test_an_out_that_must_not_be_written_is_left_alone(backend):
    x = np.arange(12.0).reshape(4, 3)
    read_only = np.ones((4, 3))
    read_only.flags.writeable = False
    assert not taken("softmax_directly", x, read_only)
    room = np.arange(24.0)
    first, second = room[:12].reshape(4, 3), room[3:15].reshape(4, 3)
    assert not taken("softmax_directly", first, second)
    assert not taken("layer_norm_directly", x, first, None, None, 1e-5, False, second)
    assert not taken("layer_norm_directly", x, first, None, None, 1e-5, False, first)
    assert not taken("linear_directly", first, kernels.pack(np.ones((3, 3))), None, 0, first)
    assert not taken("linear_directly", x, kernels.pack(np.ones((3, 3))), room[:3], 0, first)
    assert not taken("matmul_directly", first, np.ones((3, 3)), second)
    assert not taken("matmul_directly", np.ones((4, 3)), room[:9].reshape(3, 3), first)
    assert np.array_equal(room, np.arange(24.0))


@pytest.mark.parametrize("eps", [-1.0, np.inf, np.nan, 1, "1"], ids=str)
def test_an_odd_eps_is_left_alone(backend, eps):
    assert not taken("layer_norm_directly", np.ones((2, 3)), None, None, None, eps, False, None)


def test_a_weight_of_another_kind_is_left_alone(backend):
    assert not taken("linear_directly", np.ones((2, 3)), np.ones((3, 4)), None, 0, None)
    assert not taken("linear_directly", np.ones((2, 3)), kernels.pack(np.ones((3, 4), np.float32)), None, 0, None)
    assert not taken("linear_directly", np.ones((2, 3)), kernels.pack(np.ones((2, 4))), None, 0, None)
    assert not taken("linear_directly", np.ones((2, 3)), kernels.pack(np.ones((3, 0))), None, 0, None)
