"""layer_norm and add_layer_norm, the paper's and the article's."""

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
    skip_unless_bits_are_promised,
    surrounded,
)

from rtfast import backends, kernels

conventions = pytest.mark.parametrize("article", [False, True], ids=["paper", "article"])


def exact_layer_norm(x, gamma, beta, eps, article):
    """The formula in a wider type, and how far a kernel in x's own type may be off.

    The mean, in 16 lanes, is off by n / 16 + 4 roundings of the largest |x|, and dividing by the spread
    enlarges that; a few roundings of the result itself come on top.
    """
    dtype, x = x.dtype, precise(x)
    width = max(x.shape[-1], 1)
    centred = x - x.sum(axis=-1, keepdims=True) / width
    variance = (centred ** 2).sum(axis=-1, keepdims=True) / width
    spread = np.sqrt(variance) + eps if article else np.sqrt(variance + eps)
    gamma = x.dtype.type(1) if gamma is None else precise(gamma)
    beta = x.dtype.type(0) if beta is None else precise(beta)
    normed = centred / spread
    largest = np.abs(x).max(axis=-1, keepdims=True, initial=0)
    bound = (width / 16 + 8) * epsilon(dtype) * (np.abs(normed) + largest / spread) * np.abs(gamma)
    return normed * gamma + beta, bound + epsilon(dtype) * np.abs(beta)


@both_dtypes
@conventions
@pytest.mark.parametrize("offset", [0, 1000])
def test_error_is_within_the_bound(backend, dtype, article, offset):
    """Also far from 0, where mean(x^2) - mean(x)^2 would cancel."""
    for i, n in enumerate(LENGTHS):
        x = surrounded(normal((1 + i % 7, n), dtype, i) + dtype(offset))
        gamma = surrounded(normal(n, dtype, i + 1)) if i % 2 else None
        beta = surrounded(normal(n, dtype, i + 2)) if i % 3 else None
        out = Guarded(x.shape, dtype)
        assert kernels.layer_norm(x, gamma, beta, 1e-5, out=out.array, article=article) is out.array
        expected, bound = exact_layer_norm(x, gamma, beta, 1e-5, article)
        assert_within(out.check(), expected, bound, n)


@both_dtypes
def test_variance_is_not_a_difference_of_squares(backend, dtype):
    """One unit of spread at the largest offset that the type can still tell apart."""
    offset = dtype(2 ** 22 if dtype == np.float32 else 2 ** 50)
    x = np.tile(np.array([offset - 1, offset + 1], dtype), 32)
    assert np.array_equal(kernels.layer_norm(x, eps=0), np.tile([-1.0, 1.0], 32))


@both_dtypes
def test_exact_rows(backend, dtype):
    """Mean 0 and variance 1 without rounding: any element left out changes the result."""
    for n in range(2, 132, 2):
        row = np.tile(np.array([-1, 1], dtype), n // 2)
        gamma, beta = np.arange(1, n + 1, dtype=dtype), np.arange(n, dtype=dtype)
        assert np.array_equal(kernels.layer_norm(row, eps=0), row), n
        assert np.array_equal(kernels.layer_norm(row, gamma, beta, eps=0), row * gamma + beta), n
        assert np.array_equal(kernels.layer_norm(row, gamma, eps=0), row * gamma), n
        assert np.array_equal(kernels.layer_norm(row, beta=beta, eps=0), row + beta), n


@both_dtypes
def test_the_two_conventions(backend, dtype):
    row = np.tile(np.array([-1, 1], dtype), 8)
    assert np.array_equal(kernels.layer_norm(row, eps=3), row / 2)  # sqrt(1 + 3)
    assert np.array_equal(kernels.layer_norm(row, eps=3, article=True), row / 4)  # 1 + 3


@both_dtypes
@conventions
def test_constant_rows(backend, dtype, article):
    assert np.array_equal(kernels.layer_norm(np.full((3, 64), 7, dtype), article=article), np.zeros((3, 64)))
    assert np.isnan(kernels.layer_norm(np.full((3, 64), 7, dtype), eps=0, article=article)).all()  # 0 / 0
    assert np.array_equal(kernels.layer_norm(normal((5, 1), dtype), article=article), np.zeros((5, 1)))


@both_dtypes
@conventions
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_nan_row_touches_no_other(backend, dtype, article, poison):
    for n in (1, 7, 16, 33):
        x = normal((13, n), dtype)
        clean = kernels.layer_norm(x, article=article)
        for position in range(13):
            poisoned = x.copy()
            poisoned[position, n - 1] = poison
            got = kernels.layer_norm(poisoned, article=article)
            others = np.arange(13) != position
            assert_same_bits(got[others], clean[others], (n, position))
            assert np.isnan(got[position]).all()


@both_dtypes
def test_in_place_and_empty(backend, dtype):
    x, gamma, beta = normal((3, 5, 17), dtype), normal(17, dtype, 1), normal(17, dtype, 2)
    expected = kernels.layer_norm(x, gamma, beta)
    assert kernels.layer_norm(x, gamma, beta, out=x) is x
    assert_same_bits(x, expected)
    for shape in ((0,), (0, 3), (3, 0), (2, 0, 4)):
        assert kernels.layer_norm(np.empty(shape, dtype)).shape == shape
        assert kernels.add_layer_norm(np.empty(shape, dtype), np.empty(shape, dtype)).shape == shape


@both_dtypes
def test_out_may_be_gamma(backend, dtype):
    x, gamma = normal((1, 9), dtype), normal((1, 9), dtype, 1)
    expected = kernels.layer_norm(x, gamma[0], gamma[0])
    assert_same_bits(kernels.layer_norm(x, gamma[0], gamma[0], out=gamma), expected)


@both_dtypes
@conventions
def test_add_is_the_sum_then_layer_norm(backend, dtype, article):
    for n in LENGTHS:
        x, y = surrounded(normal((3, n), dtype, 1)), surrounded(normal((3, n), dtype, 2))
        gamma, beta = normal(n, dtype, 3), normal(n, dtype, 4)
        expected = kernels.layer_norm(x + y, gamma, beta, article=article)
        out = Guarded((3, n), dtype)
        assert kernels.add_layer_norm(x, y, gamma, beta, out=out.array, article=article) is out.array
        assert_same_bits(out.check(), expected, n)
        assert_same_bits(kernels.add_layer_norm(x, y, gamma, beta, out=y, article=article), expected, n)


@both_dtypes
def test_the_backend_hands_out_the_sum(backend, dtype):
    for n in (0, 1, 17, 64, 130):
        x, y, gamma = normal((5, n), dtype, 1), normal((5, n), dtype, 2), normal(n, dtype, 3)
        residual, out, alone = Guarded((5, n), dtype), Guarded((5, n), dtype), Guarded((5, n), dtype)
        module = backends.active()
        module.add_layer_norm(x, y, gamma, None, 1e-5, False, residual.array, out.array)
        module.add_layer_norm(x, y, gamma, None, 1e-5, False, None, alone.array)
        assert_same_bits(residual.check(), x + y, n)
        assert_same_bits(out.check(), alone.check(), n)


@both_dtypes
def test_a_row_has_the_same_bits_in_every_batch(backend, dtype):
    skip_unless_bits_are_promised(backend)
    for n in (5, 37, 300):
        x, gamma, beta = normal((65, n), dtype), normal(n, dtype, 1), normal(n, dtype, 2)
        alone = kernels.layer_norm(x[0], gamma, beta)
        for rows in range(1, 65):
            for position in range(rows):
                batch = x[1:1 + rows].copy()
                batch[position] = x[0]
                assert_same_bits(kernels.layer_norm(batch, gamma, beta)[position], alone, (n, rows, position))
