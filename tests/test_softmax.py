"""softmax: a few ULP off, whatever the size and the range of its input."""

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

from rtfast import kernels


def exact_softmax(x):
    """Softmax of the last axis and the distance of each element from the largest, in a wider type."""
    x = precise(x)
    below = x - x.max(axis=-1, keepdims=True, initial=-np.inf)
    powers = np.exp(below)
    return powers / powers.sum(axis=-1, keepdims=True), below


def softmax_bound(exact, below, dtype):
    """(6 + distance + n / 16) eps relative: of exp and division, of x - max, of a sum in 16 lanes.

    The smallest normal number is allowed on top: exp may lose accuracy, or flush, below it.
    """
    relative = (6 + np.abs(below) + below.shape[-1] / 16) * epsilon(dtype)
    return np.where(exact > 0, relative * exact, 0) + np.finfo(dtype).tiny


@both_dtypes
@pytest.mark.parametrize("spread", [0.01, 1, 30, 500])
def test_error_is_within_the_bound(backend, dtype, spread):
    for i, n in enumerate(LENGTHS):
        x = surrounded(normal((1 + i % 7, n), dtype, i) * dtype(spread))
        out = Guarded(x.shape, dtype)
        assert kernels.softmax(x, out=out.array) is out.array
        exact, below = exact_softmax(x)
        assert_within(out.check(), exact, softmax_bound(exact, below, dtype), n)


@both_dtypes
def test_a_vocabulary_of_fifty_thousand(backend, dtype):
    x = normal((2, 50257), dtype)
    exact, below = exact_softmax(x)
    assert_within(kernels.softmax(x), exact, softmax_bound(exact, below, dtype))


@both_dtypes
def test_equal_elements_share_equally(backend, dtype):
    for n in LENGTHS[1:]:
        got = kernels.softmax(np.full((2, n), 3.5, dtype))
        assert (got == got[0, 0]).all()
        assert abs(got[0, 0] * n - 1) <= 2 * epsilon(dtype), n
        if n & (n - 1) == 0:
            assert got[0, 0] * n == 1, n


@both_dtypes
def test_one_element_far_above_takes_all(backend, dtype):
    """At every position: also in the tail of the last vector."""
    for n in (1, 2, 15, 16, 17, 31, 33, 63, 65, 130):
        x = np.full((n, n), -1000, dtype)
        np.fill_diagonal(x, 0)
        assert np.array_equal(kernels.softmax(x), np.eye(n)), n


@both_dtypes
@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_huge_input_neither_overflows_nor_wraps(backend, dtype, scale):
    huge = np.finfo(dtype).max
    x = np.array([[scale, 0, -scale], [huge, huge, -huge], [-huge, -scale, -scale]], dtype)
    assert np.array_equal(kernels.softmax(x), [[1, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]])


@both_dtypes
def test_powers_near_underflow(backend, dtype):
    """From normal numbers through the denormals to zero, without a jump."""
    bottom = np.log(np.finfo(dtype).tiny)
    x = np.concatenate([[0], np.linspace(bottom + 3, bottom - 45, 997)]).astype(dtype)
    exact, below = exact_softmax(x)
    got = kernels.softmax(x)
    assert_within(got, exact, softmax_bound(exact, below, dtype))
    assert (np.diff(got[1:]) <= 0).all() and got[1] > 0 and got[-1] == 0


@both_dtypes
def test_infinities_and_nan_as_in_numpy(backend, dtype):
    inf, nan = np.inf, np.nan
    x = np.array([
        [0, -inf, 0], [-inf, -inf, 1], [-inf, -inf, -inf], [0, inf, 0], [inf, inf, inf], [-inf, 0, inf],
        [nan, 0, 0], [0, 0, nan], [nan, inf, -inf], [nan, nan, nan],
    ], dtype)
    with np.errstate(all="ignore"):
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
        expected = powers / powers.sum(axis=-1, keepdims=True)
    assert np.array_equal(kernels.softmax(x), expected, equal_nan=True)


@both_dtypes
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_nan_row_touches_no_other(backend, dtype, poison):
    for n in (1, 7, 16, 33):
        x = normal((13, n), dtype)
        clean = kernels.softmax(x)
        for position in range(13):
            poisoned = x.copy()
            poisoned[position, n // 2] = poison
            got = kernels.softmax(poisoned)
            others = np.arange(13) != position
            assert_same_bits(got[others], clean[others], (n, position))
            assert np.isnan(got[position]).all()


@both_dtypes
def test_a_nan_anywhere_spoils_its_row(backend, dtype):
    for n in (1, 2, 8, 15, 16, 17, 33, 64, 67):
        x = np.tile(normal(n, dtype), (n, 1))
        np.fill_diagonal(x, np.nan)
        assert np.isnan(kernels.softmax(x)).all(), n


@both_dtypes
def test_in_place_and_empty(backend, dtype):
    x = normal((3, 5, 17), dtype)
    expected = kernels.softmax(x)
    assert_same_bits(kernels.softmax(x.reshape(15, 17)), expected.reshape(15, 17))
    assert kernels.softmax(x, out=x) is x
    assert_same_bits(x, expected)
    for shape in ((0,), (0, 3), (3, 0), (2, 0, 4)):
        assert kernels.softmax(np.empty(shape, dtype)).shape == shape


@both_dtypes
def test_a_row_has_the_same_bits_in_every_batch(backend, dtype):
    skip_unless_bits_are_promised(backend)
    for n in (5, 37, 300):
        x = normal((65, n), dtype)
        alone = kernels.softmax(x[0])
        for rows in range(1, 65):
            for position in range(rows):
                batch = x[1:1 + rows].copy()
                batch[position] = x[0]
                assert_same_bits(kernels.softmax(batch)[position], alone, (n, rows, position))
