"""What the kernel tests share: edge sizes, hostile arrays, one case per kernel, error bounds."""

import dataclasses
import random

import numpy as np
import pytest

from rtfast import kernels

DTYPES = (np.float32, np.float64)
both_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])

# Around the register tiles (2 to 12 rows), the vectors and panels (16, 32, 64 columns) and the
# chunks of a sum (256), with a few primes.
ROWS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 17, 24, 37)
COLUMNS = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 97, 127, 128, 129, 191, 193)
DEPTHS = (0, 1, 2, 3, 15, 16, 17, 61, 64, 65, 255, 256, 257, 511, 512, 513, 1031)
LENGTHS = (*range(36), 47, 48, 49, 63, 64, 65, 127, 128, 129, 255, 256, 257, 521, 1031)


def product_sizes(count=100):
    """A sample of (rows, depth, columns) in which each size comes up several times."""
    shuffle = random.Random(0)
    axes = []
    for sizes in (ROWS, DEPTHS, COLUMNS):
        axis = []
        while len(axis) < count:
            axis += shuffle.sample(sizes, len(sizes))
        axes.append(axis[:count])
    return list(zip(*axes, strict=True))


def normal(shape, dtype, seed=0):
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def whole(shape, dtype, seed=0, largest=8):
    """Whole numbers in -largest .. largest: sums of 2^24 / 64 products of them are exact in float32."""
    return np.random.default_rng(seed).integers(-largest, largest + 1, shape).astype(dtype)


def precise(array):
    """The array in a wider type: float64 for float32, longdouble for float64."""
    return array.astype(np.float64 if array.dtype == np.float32 else np.longdouble)


# ---------------------------------------------------------------------------------------------
# Hostile memory

_ROOM = 67  # odd, so that what lies in the middle is aligned to one number and no more


def surrounded(array):
    """A contiguous copy with NaN before and after it: reading past the ends shows in the result."""
    room = np.full(array.size + 2 * _ROOM, np.nan, array.dtype)
    middle = room[_ROOM:_ROOM + array.size].reshape(array.shape)
    middle[...] = array
    return middle


class Guarded:
    """An output array full of NaN with sentinels before and after it."""

    SENTINEL = -12345.0

    def __init__(self, shape, dtype):
        size = int(np.prod(shape))
        self.room = np.full(size + 2 * _ROOM, self.SENTINEL, dtype)
        self.room[_ROOM:_ROOM + size] = np.nan
        self.array = self.room[_ROOM:_ROOM + size].reshape(shape)

    def check(self):
        """The array, once it is certain that nothing was written beside it."""
        assert (self.room[:_ROOM] == self.SENTINEL).all(), "wrote before the start of out"
        assert (self.room[-_ROOM:] == self.SENTINEL).all(), "wrote past the end of out"
        return self.array


def layouts(array):
    """{name: the same values in another memory layout}."""
    found = {"plain": array.copy(), "Fortran": np.asfortranarray(array), "surrounded": surrounded(array)}
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1] + 1), np.nan, array.dtype)
    wide[..., 1::2] = array
    found["every second"] = wide[..., 1::2]
    found["backwards"] = array[..., ::-1].copy()[..., ::-1]
    stacked = np.full((2 * array.shape[0], *array.shape[1:]), np.nan, array.dtype)
    stacked[::2] = array
    found["strided rows"] = stacked[::2]
    raw = np.zeros(array.nbytes + 1, np.uint8)
    found["unaligned"] = raw[1:].view(array.dtype).reshape(array.shape)
    found["unaligned"][...] = array
    found["read-only"] = array.copy()
    found["read-only"].flags.writeable = False
    found["subclass"] = array.view(type("Subclass", (np.ndarray,), {}))
    return found


# ---------------------------------------------------------------------------------------------
# Comparisons

def assert_same_bits(got, expected, what=""):
    """Equal shape, dtype and bits, save that any NaN equals any other."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape and got.dtype == expected.dtype, what
    bits = f"u{got.dtype.itemsize}"
    same = np.atleast_1d(got).view(bits) == np.atleast_1d(expected).view(bits)
    same |= np.isnan(np.atleast_1d(got)) & np.isnan(np.atleast_1d(expected))
    assert same.all(), f"{what}: {np.count_nonzero(~same)} of {same.size} differ"


def assert_within(got, expected, bound, what=""):
    """|got - expected| <= bound everywhere; a NaN in got fails."""
    error = np.abs(got.astype(expected.dtype) - expected)
    bad = ~(error <= bound)
    if bad.any():
        worst = np.unravel_index(np.argmax(np.where(bad, np.nan_to_num(error, nan=np.inf), -1)), error.shape)
        raise AssertionError(
            f"{what}: {np.count_nonzero(bad)} of {bad.size} outside the bound, worst at {worst}: "
            f"got {got[worst]}, expected {expected[worst]}, "
            f"bound {np.broadcast_to(bound, error.shape)[worst]}")


def epsilon(dtype):
    """The distance from 1 to the next number, as a float."""
    return float(np.finfo(dtype).eps)


def product_bound(a, b):
    """Of |a @ b - exact|: (k + 2) eps |a| @ |b|, twice what a sum of k rounded products can be off."""
    return (a.shape[-1] + 2) * epsilon(a.dtype) * (np.abs(precise(a)) @ np.abs(precise(b)))


def skip_unless_bits_are_promised(backend):
    """The compiled backends promise bits that do not depend on company; NumPy's BLAS does not."""
    if backend == "python":
        pytest.skip("NumPy promises no equal bits")


# ---------------------------------------------------------------------------------------------
# One or two calls of every kernel

@dataclasses.dataclass(frozen=True)
class Case:
    """A call: the kernel, its floating operands by name with their axes' names, other arguments."""

    kernel: object
    axes: dict
    options: dict = dataclasses.field(default_factory=dict)

    def operands(self, sizes, dtype, seed=0):
        """{name: normal numbers}, for `sizes` of the axes."""
        return {name: normal([sizes[axis] for axis in axes.split()], dtype, seed + i)
                for i, (name, axes) in enumerate(self.axes.items())}

    def __call__(self, **operands):
        """The results as a tuple of arrays."""
        result = self.kernel(**operands, **self.options)
        return result if isinstance(result, tuple) else (result,)


SMALL = {"batch": 3, "m": 5, "k": 7, "n": 6, "s": 6}
#: Large enough for several threads to take part, and for several blocks of everything.
LARGE = {"batch": 5, "m": 67, "k": 300, "n": 291, "s": 131}

_ATTENTION = {"q": "batch m k", "k": "batch s k", "v": "batch s n"}
CASES = {
    "matmul": Case(kernels.matmul, {"a": "batch m k", "b": "batch k n"}),
    "matmul, one b": Case(kernels.matmul, {"a": "batch m k", "b": "k n"}),
    "linear": Case(kernels.linear, {"x": "batch m k", "weight": "k n", "bias": "n"}),
    "linear, gelu": Case(
        kernels.linear, {"x": "batch m k", "weight": "k n", "bias": "n"}, {"activation": "gelu"}),
    "activate, gelu_tanh": Case(kernels.activate, {"x": "batch m k"}, {"activation": "gelu_tanh"}),
    "activate, silu": Case(kernels.activate, {"x": "batch m k"}, {"activation": "silu"}),
    "softmax": Case(kernels.softmax, {"x": "batch m k"}),
    "layer_norm": Case(kernels.layer_norm, {"x": "batch m k", "gamma": "k", "beta": "k"}),
    "layer_norm, article": Case(kernels.layer_norm, {"x": "batch m k"}, {"article": True}),
    "add_layer_norm": Case(
        kernels.add_layer_norm, {"x": "batch m k", "y": "batch m k", "gamma": "k", "beta": "k"}),
    "attention": Case(kernels.attention, _ATTENTION),
    "attention, weights": Case(kernels.attention, _ATTENTION, {"return_weights": True}),
    "attention, causal": Case(kernels.attention, _ATTENTION, {"causal": True}),
    "embedding": Case(kernels.embedding, {"table": "m k"}, {"ids": np.array([[0, 3], [4, 3], [1, 0]])}),
    "argmax": Case(kernels.argmax, {"x": "batch m k"}),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
