"""linear and the activations."""

import math

import numpy as np
import pytest
from cases import (
    LENGTHS,
    Guarded,
    assert_same_bits,
    assert_within,
    both_dtypes,
    epsilon,
    normal,
    precise,
    product_bound,
    product_sizes,
    skip_unless_bits_are_promised,
    surrounded,
    whole,
)

from rtfast import backends, kernels
from rtfast.activations import ACTIVATIONS

SIZES = product_sizes(60)
NAMES = tuple(ACTIVATIONS)
every_activation = pytest.mark.parametrize("activation", NAMES)

#: No activation is steeper than this: it carries at most so much of its input's error over.
STEEPEST = 1.13


def exact_activation(x, activation):
    """Of an array in a wider type than the kernel's."""
    with np.errstate(all="ignore"):
        if activation == "relu":
            return np.where(np.isnan(x), x, np.maximum(x, 0))
        if activation == "gelu":
            erfc = np.vectorize(math.erfc, otypes=[np.float64])
            return x * erfc(-x / np.sqrt(x.dtype.type(2))) / 2
        if activation == "gelu_tanh":
            x = np.clip(x, -1e100, 1e100)  # its cube stays finite
            u = np.sqrt(8 / x.dtype.type(np.pi)) * (x + x.dtype.type(0.044715) * x ** 3)
            return x / (1 + np.exp(-u))
        return x / (1 + np.exp(-x)) if activation == "silu" else x


def activation_bound(x, activation):
    """4 eps |x|: GELU is x times a probability that is good to a few eps, absolutely. Else exact."""
    if activation in (None, "relu"):
        return 0
    eps = np.finfo(np.float32 if x.dtype == np.float64 else np.float64).eps
    return 4 * eps * np.abs(x)


@both_dtypes
def test_wide_products_are_within_the_bound(backend, dtype):
    """Where rows are turned for their tiles: 10 to 12 of them, whatever is left of k, rows far apart or reversed."""
    weight = normal((261, 530), dtype, seed=1)
    for m in (9, 10, 11, 12, 13, 20, 23, 24, 34, 72, 73):
        for k in (0, 1, 2, 3, 4, 5, 7, 255, 256, 257, 261):
            x, packed = normal((m, k), dtype), kernels.pack(weight[:k])
            expected = precise(x) @ precise(weight[:k])
            bound = product_bound(x, weight[:k])
            assert_within(kernels.linear(x, packed), expected, bound, (m, k))
            spread = normal((m, 2 * k + 3), dtype)
            spread[:, 1:k + 1] = x
            assert_within(kernels.linear(spread[:, 1:k + 1], packed), expected, bound, (m, k, "spread"))
            assert_within(kernels.linear(x[::-1], packed), expected[::-1], bound[::-1], (m, k, "reversed"))


@both_dtypes
@every_activation
def test_linear_is_within_the_bound(backend, dtype, activation):
    for i, (m, k, n) in enumerate(SIZES):
        x, weight = surrounded(normal((m, k), dtype, i)), surrounded(normal((k, n), dtype, i + 1))
        bias = surrounded(normal(n, dtype, i + 2)) if i % 2 else None
        exact = precise(x) @ precise(weight)
        bound = product_bound(x, weight)
        if bias is not None:
            exact += precise(bias)
            bound += epsilon(dtype) * (np.abs(exact) + np.abs(precise(bias)))
        if activation is not None:
            bound = STEEPEST * bound + activation_bound(exact, activation)
        for w in (weight, kernels.pack(weight)):
            out = Guarded((m, n), dtype)
            assert kernels.linear(x, w, bias, activation, out=out.array) is out.array
            assert_within(out.check(), exact_activation(exact, activation), bound, (m, k, n, activation))


@both_dtypes
def test_whole_numbers_are_exact(backend, dtype):
    for i, (m, k, n) in enumerate(SIZES):
        x, weight, bias = whole((m, k), dtype, i), whole((k, n), dtype, i + 1), whole(n, dtype, i + 2, 999)
        expected = (x.astype(np.int64) @ weight.astype(np.int64) + bias.astype(np.int64)).astype(dtype)
        for w in (weight, kernels.pack(weight)):
            for activation in (None, "relu"):
                out = Guarded((m, n), dtype)
                kernels.linear(x, w, surrounded(bias), activation, out=out.array)
                wanted = expected if activation is None else np.maximum(expected, 0)
                assert np.array_equal(out.check(), wanted), (m, k, n, activation)


@both_dtypes
def test_empty_input_width_leaves_the_bias(backend, dtype):
    x, weight, bias = np.empty((3, 0), dtype), np.empty((0, 4), dtype), normal(4, dtype)
    out = np.full((3, 4), np.nan, dtype)
    assert np.array_equal(kernels.linear(x, weight, bias, out=out), np.tile(bias, (3, 1)))
    assert np.array_equal(kernels.linear(x, kernels.pack(weight), bias), np.tile(bias, (3, 1)))
    assert np.array_equal(kernels.linear(x, weight), np.zeros((3, 4)))


@both_dtypes
def test_any_leading_axes(backend, dtype):
    x, weight = whole((2, 3, 5, 7), dtype), whole((7, 4), dtype, 1)
    assert np.array_equal(kernels.linear(x, weight), x @ weight)
    assert np.array_equal(kernels.linear(x[0, 0, 0], weight), x[0, 0, 0] @ weight)
    assert kernels.linear(x[:, :0], weight).shape == (2, 0, 5, 4)


@both_dtypes
@every_activation
def test_a_row_has_the_same_bits_in_every_batch(backend, dtype, activation):
    skip_unless_bits_are_promised(backend)
    x, weight, bias = normal((37, 300), dtype), normal((300, 70), dtype, 1), normal(70, dtype, 2)
    weight = kernels.pack(weight)
    together = kernels.linear(x, weight, bias, activation)
    for rows in range(1, 37):
        assert_same_bits(kernels.linear(x[:rows], weight, bias, activation), together[:rows], rows)
        assert_same_bits(kernels.linear(x[rows:], weight, bias, activation), together[rows:], rows)


@both_dtypes
@every_activation
def test_activating_afterwards_gives_the_same_bits(backend, dtype, activation):
    x, weight, bias = normal((13, 70), dtype), normal((70, 67), dtype, 1), normal(67, dtype, 2)
    plain = kernels.linear(x, weight, bias)
    assert_same_bits(kernels.linear(x, weight, bias, activation), kernels.activate(plain, activation))


@both_dtypes
def test_a_nan_row_touches_no_other(backend, dtype):
    x, weight, bias = normal((13, 70), dtype), normal((70, 67), dtype, 1), normal(67, dtype, 2)
    for activation in NAMES:
        clean = kernels.linear(x, weight, bias, activation)
        for position in range(13):
            poisoned = x.copy()
            poisoned[position, 5] = np.nan
            got = kernels.linear(poisoned, weight, bias, activation)
            others = np.arange(13) != position
            assert_same_bits(got[others], clean[others], (activation, position))
            assert np.isnan(got[position]).all(), activation


# ---------------------------------------------------------------------------------------------
# The activations alone

@both_dtypes
@every_activation
def test_activation_is_within_the_bound(backend, dtype, activation):
    tiny, huge = np.finfo(dtype).tiny, np.finfo(dtype).max
    x = np.concatenate([
        np.linspace(-12, 12, 20001), np.linspace(-800, 800, 2001), normal(2000, np.float64),
        [0, -0.0, tiny, -tiny, tiny / 8, -tiny / 8, huge, -huge, huge / 2, -huge / 2, 1e18, -1e18],
    ]).astype(dtype)
    exact = exact_activation(precise(x), activation)
    if activation == "gelu_tanh":
        exact = np.where(np.abs(x) > 1e30, np.maximum(x, 0), exact)
    # Less than one denormal is lost where the result is one.
    bound = activation_bound(precise(x), activation) + (activation not in (None, "relu")) * tiny
    assert_within(kernels.activate(x, activation), exact, bound, activation)


@both_dtypes
@every_activation
def test_activation_at_every_length(backend, dtype, activation):
    x = normal(max(LENGTHS), dtype)
    full = kernels.activate(x, activation)
    for length in LENGTHS:
        out = Guarded(length, dtype)
        got = kernels.activate(surrounded(x[-length:] if length else x[:0]), activation, out=out.array)
        assert got is out.array
        wanted = full[-length:] if length else full[:0]
        if backend == "python":
            assert_within(out.check(), precise(wanted), 4 * epsilon(dtype) * np.abs(wanted), length)
        else:
            assert_same_bits(out.check(), wanted, length)


@both_dtypes
def test_activation_of_infinities_and_nan(backend, dtype):
    x = np.array([np.inf, -np.inf, np.nan], dtype)
    for activation in NAMES:
        got = kernels.activate(x, activation)
        assert got[0] == np.inf and np.isnan(got[2]), activation
        if activation is None:
            assert got[1] == -np.inf
        elif activation == "relu":
            assert got[1] == 0
        else:
            assert np.isnan(got[1]), activation  # -inf * 0


@both_dtypes
def test_activation_in_place_and_of_any_shape(backend, dtype):
    x = normal((3, 5, 7), dtype)
    for activation in NAMES:
        expected = kernels.activate(x, activation)
        for shape in ((3, 5, 7), (105,), (1, 105, 1)):
            assert_same_bits(kernels.activate(x.reshape(shape), activation), expected.reshape(shape))
        assert kernels.activate(x[0, 0, 0], activation).shape == ()
        assert kernels.activate(x[:0], activation).shape == (0, 5, 7)
        own = x.copy()
        assert kernels.activate(own, activation, out=own) is own
        assert_same_bits(own, expected, activation)


@both_dtypes
def test_every_number_of_rows(backend, dtype):
    """However the rows are split among tasks, each is computed once, and none beside them."""
    weight = np.ones((1, 1), dtype)
    packed = kernels.pack(weight)
    for m in (*range(1, 400), *range(400, 13000, 331), 4088, 4096):
        x = np.arange(1, m + 1, dtype=dtype)[:, None]
        memory = np.full(m + 128, -1, dtype)
        kernels.linear(x, packed, out=memory[64:-64, None])
        assert np.array_equal(memory[64:-64], x[:, 0]), m
        assert (memory[:64] == -1).all() and (memory[-64:] == -1).all(), m


@pytest.mark.parametrize("name", [name for name in backends.available() if name != "python"])
def test_blocks_are_put_inside_a_weight_only(name):
    """What packs a checkpoint's matrices while it reads them."""
    with backends.using(name):
        weight = kernels.pack(normal((5, 40), np.float32))
        before = weight.unpack()
        for put in (lambda: weight.put_rows(5, 0, normal((1, 40), np.float32)),
                    lambda: weight.put_rows(-1, 0, normal((1, 40), np.float32)),
                    lambda: weight.put_rows(4, 1, normal((1, 40), np.float32)),
                    lambda: weight.put_rows(10**12, 0, normal((1, 4), np.float32)),
                    lambda: weight.put_rows(0, 0, normal((1, 40), np.float64)),
                    lambda: weight.put_columns(39, normal((2, 5), np.float32)),
                    lambda: weight.put_columns(-1, normal((1, 5), np.float32)),
                    lambda: weight.put_columns(0, normal((1, 4), np.float32))):
            with pytest.raises(ValueError, match="not in a weight|columns of 4 numbers: 5 expected"):
                put()
        assert_same_bits(weight.unpack(), before)
