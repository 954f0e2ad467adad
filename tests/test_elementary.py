"""exp, erf and tanh: their largest errors, special values, and the same bits at every vector width."""

import math

import numpy as np
import pytest
from cases import assert_same_bits, both_dtypes

from rtfast import backends, kernels

#: Largest error in units of the last place of the exact result; benchmarks/ulp.py measures it over every float32.
BOUNDS = {"exp": 1.08, "erf": 1.25, "tanh": 2.8}
FALLBACK = 3.0  # what NumPy's own functions do is not ours to promise
EXACT = {"exp": np.exp, "erf": np.vectorize(math.erf), "tanh": np.tanh}
FUSED = ("avx512", "avx2", "neon")
functions = pytest.mark.parametrize("name", BOUNDS)


def floats(step):
    """Every `step`-th float32 in order of its bits, but for NaN."""
    x = np.arange(0, 1 << 32, step, dtype=np.uint64).astype(np.uint32).view(np.float32)
    return x[~np.isnan(x)]


@functions
def test_largest_error_of_float32(backend, name):
    x = floats(20_011)
    x = np.concatenate([x, np.linspace(-12, 12, 40_001, dtype=np.float32)])
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.float64))
    got = getattr(kernels, name)(x).astype(np.float64)
    finite = np.abs(exact) < 3.4028235e38
    assert (got[~finite] == np.inf).all()
    got, exact = got[finite], exact[finite]
    place = np.ldexp(1.0, np.maximum(np.frexp(exact)[1] - 24, -149))
    error = np.abs(got - exact) / place
    assert error.max() <= (FALLBACK if backend == "python" else BOUNDS[name]), x[finite][error.argmax()]


@functions
def test_float64_is_as_close_as_doubles_are(backend, name):
    """Python's own functions are within a unit or so themselves."""
    x = np.concatenate([np.linspace(-30, 30, 20_001), np.geomspace(1e-300, 1, 5_001)])
    exact = np.array([getattr(math, name)(number) for number in x])
    assert np.allclose(getattr(kernels, name)(x), exact, rtol=2e-15, atol=0)


@both_dtypes
@functions
def test_special_values(backend, dtype, name):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], dtype)
    got = getattr(kernels, name)(x)
    low, zero = (0, 1) if name == "exp" else (-1, 0)
    assert got.dtype == x.dtype
    assert got[0] == got[1] == zero and got[2] == (np.inf if name == "exp" else 1) and got[3] == low
    assert np.isnan(got[4])
    if name != "exp":
        assert np.signbit(got[1]) and not np.signbit(got[0])


@both_dtypes
@functions
def test_shapes_strides_and_out(backend, dtype, name):
    function = getattr(kernels, name)
    x = np.random.default_rng(0).standard_normal((7, 6, 5)).astype(dtype)
    expected = function(x.reshape(-1)).reshape(x.shape)
    assert_same_bits(function(x.T), np.ascontiguousarray(expected.T), name)
    own = x.copy()
    assert function(own, out=own) is own
    assert_same_bits(own, expected, name)
    assert function(x[0, 0, 0]).shape == () and function(x[:0]).shape == (0, 6, 5)
    with pytest.raises(TypeError, match=f"{name}: x"):
        function(x.astype(np.int32))


@both_dtypes
@functions
def test_every_vector_width_gives_the_same_bits(dtype, name):
    names = [backend for backend in backends.available() if backend in FUSED]
    if len(names) < 2:
        pytest.skip("needs two builds with a fused multiply-add")
    x = floats(40_009).astype(dtype)
    results = []
    for backend in names:
        with backends.using(backend):
            results.append(getattr(kernels, name)(x))
    for other in results[1:]:
        assert_same_bits(other, results[0], name)
