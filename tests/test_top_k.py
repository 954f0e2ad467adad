"""`kernels.top_k`: the largest of each row in order, and their log-softmax."""

import numpy as np
import pytest
from cases import assert_same_bits, epsilon, normal, precise, skip_unless_bits_are_promised

from rtfast import backends, kernels, search

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
SIZES = (1, 2, 15, 16, 17, 63, 64, 65, 127, 129, 257, 1021, 32000)


def expected(x, k):
    """Places by value, equal ones by place; a NaN before all others."""
    keys = np.where(np.isnan(x), np.inf, x.astype(np.float64))
    order = np.lexsort((np.broadcast_to(np.arange(x.shape[-1]), x.shape), ~np.isnan(x), -keys), axis=-1)
    return order[..., :k]


@both_dtypes
@pytest.mark.parametrize("k", [1, 2, 5, 10, 63, 64])
def test_values_and_places(backend, dtype, k):
    for n in SIZES:
        x = normal((3, n), dtype, seed=n)
        values, places = kernels.top_k(x, k)
        assert values.dtype == dtype and places.dtype == np.int64
        assert np.array_equal(places, expected(x, k)), n
        assert np.array_equal(values, np.take_along_axis(x, places, axis=1)), n


@both_dtypes
def test_equal_numbers_infinities_and_nan(backend, dtype):
    random = np.random.default_rng(0)
    for n in SIZES[:-1]:
        x = random.integers(-3, 3, (20, n)).astype(dtype)
        x[random.random(x.shape) < 0.1] = np.inf
        x[random.random(x.shape) < 0.1] = -np.inf
        for k in (1, 3, 64):
            assert np.array_equal(kernels.top_k(x, k)[1], expected(x, k)), (n, k)
        x[:10][random.random((10, n)) < 0.1] = np.nan
        for k in (1, 3, 64):
            places = kernels.top_k(x, k)[1]
            finite = ~np.isinf(np.where(np.isnan(x), 0, x)).any(axis=1)  # NaN beside infinity: either may be first
            assert np.array_equal(places[finite], expected(x, k)[finite]), (n, k)


@both_dtypes
def test_log_softmax(backend, dtype):
    for n in SIZES:
        x = 5 * normal((4, n), dtype, seed=n)
        x[1] += 1000
        values, places = kernels.top_k(x, 8, log_softmax=True)
        exact = precise(x)
        exact = exact - exact.max(axis=1, keepdims=True)
        exact = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
        exact = np.take_along_axis(exact, places, axis=1)
        rounding = epsilon(dtype) * (8 + np.abs(exact) + np.abs(x).max(axis=1, keepdims=True))
        assert (np.abs(values - exact) <= rounding).all(), n
    assert np.isnan(kernels.top_k(np.array([1, np.nan, 2], dtype), 2, log_softmax=True)[0]).all()
    assert kernels.top_k(np.array([-np.inf, 3, -np.inf], dtype), 2, True)[0].tolist() == [0, -np.inf]


@both_dtypes
def test_a_row_has_its_bits_in_any_company(backend, dtype):
    skip_unless_bits_are_promised(backend)
    x = 3 * normal((70, 1021), dtype)
    values, places = kernels.top_k(x, 9, True)
    for row in (0, 1, 33, 69):
        alone = kernels.top_k(x[row], 9, True)
        assert_same_bits(alone[0], values[row])
        assert np.array_equal(alone[1], places[row])


@both_dtypes
def test_vector_widths_agree(dtype):
    names = [name for name in ("avx512", "avx2") if name in backends.available()]
    if len(names) < 2:
        pytest.skip("this machine has one build with fused multiply-adds")
    x, found = 3 * normal((9, 1021), dtype), []
    for name in names:
        with backends.using(name):
            found.append(kernels.top_k(x, 9, True)[0])
    assert_same_bits(*found)


def test_layouts(backend):
    x = normal((6, 40, 7), "float32")
    for given in (x.transpose(0, 2, 1), x[::2], x[:, ::-3], x[..., 1:], x[:0], x.astype(np.float64)):
        values, places = kernels.top_k(given, 3)
        assert values.shape == places.shape == (*given.shape[:-1], 3)
        assert np.array_equal(places, expected(np.ascontiguousarray(given), 3))
    unaligned = np.frombuffer(b"\0" + normal(33, "float32").tobytes(), np.float32, offset=1)
    assert np.array_equal(kernels.top_k(unaligned, 2)[1], expected(unaligned, 2))
    assert kernels.top_k([3.0, 1.0, 2.0], 9)[1].tolist() == [0, 2, 1]


def test_arguments():
    with pytest.raises(ValueError, match="top_k: the last axis must not be empty"):
        kernels.top_k(np.empty((3, 0)), 1)
    for k in (0, -1, 65):
        with pytest.raises(ValueError, match="top_k: k must be from 1 to 64"):
            kernels.top_k(np.ones(3), k)
    for k in (1.0, None, True, "1"):
        with pytest.raises(TypeError, match="top_k: k must be an integer"):
            kernels.top_k(np.ones(3), k)
    with pytest.raises(TypeError, match="top_k: x must"):
        kernels.top_k(np.ones(3, np.int8), 1)


@pytest.mark.parametrize("width", [1, 5, 70, 5000])
def test_the_search_chooses_the_same(width):
    """`rtfast.search.top_k`, for any k: ties, infinities and NaN in the same order."""
    rng = np.random.default_rng(width)
    for special in (None, np.nan, np.inf, -np.inf):
        for share in (0.01, 0.5, 1):
            x = rng.integers(-5, 5, (3, width)).astype(np.float32)
            if special is not None:
                x[rng.random(x.shape) < share] = special
            for k in (1, 3, 8):
                values, places = kernels.top_k(x, k)
                found, chosen = search.top_k(x.copy(), k)
                assert np.array_equal(chosen, places), (special, share, k)
                assert np.array_equal(found, values, equal_nan=True)


@pytest.mark.parametrize("k", [1, 2, 5, 64, 70])
def test_any_number_of_scores_with_equal_ones(k):
    """What rules leave is searched in NumPy."""
    for n in (1, 2, 63, 129, 1021, 9000):
        x = np.round(normal((4, n), "float32", seed=n), 1)
        x[2, :] = -np.inf
        values, places = search.top_k(x, k)
        assert np.array_equal(places, expected(x, k)), n
        assert np.array_equal(values, np.take_along_axis(x, places, axis=1)), n
