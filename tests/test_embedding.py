"""embedding, argmax and the positional encoding: what happens before and after the layers."""

import numpy as np
import pytest
from cases import LENGTHS, Guarded, both_dtypes, epsilon, normal, surrounded

from rtfast import backends, kernels


@both_dtypes
def test_embedding_takes_rows(backend, dtype):
    for d in (0, 1, 3, 8, 16, 17, 64, 67, 300):
        table = surrounded(normal((11, d), dtype))
        for shape in ((), (0,), (1,), (7,), (2, 3), (2, 0, 3)):
            ids = np.random.default_rng(0).integers(0, 11, shape)
            out = Guarded((*shape, d), dtype)
            assert kernels.embedding(ids, table, out=out.array) is out.array
            assert np.array_equal(out.check(), table[ids]), (d, shape)


@both_dtypes
def test_embedding_takes_every_kind_of_integers(backend, dtype):
    table = normal((5, 3), dtype)
    for kind in "bhilqBHILQ":
        assert np.array_equal(kernels.embedding(np.array([4, 0, 2], kind), table), table[[4, 0, 2]]), kind
    assert np.array_equal(kernels.embedding([[4], [0]], table), table[[[4], [0]]])
    assert np.array_equal(kernels.embedding(range(5), table), table)
    assert np.array_equal(kernels.embedding(np.arange(10)[::-2] // 2, table), table[::-1])
    assert np.array_equal(kernels.embedding(3, table), table[3])
    assert kernels.embedding([], table).shape == (0, 3)


@both_dtypes
def test_embedding_scales_and_adds_positions(backend, dtype):
    for d in (0, 1, 16, 17, 67):
        table, positional = surrounded(normal((11, d), dtype)), surrounded(normal((7, d), dtype, 1))
        ids, positions = np.array([10, 0, 3, 3, 5]), np.array([0, 6, 2, 3, 0])
        scale = d ** 0.5
        module = backends.active()
        out = Guarded((5, d), dtype)
        module.embedding(ids, table, scale, positions, positional, out.array)
        scaled = table[ids] * dtype(scale)
        bound = 2 * epsilon(dtype) * (np.abs(scaled) + np.abs(positional[positions]))
        assert (np.abs(out.check() - (scaled + positional[positions])) <= bound).all(), d
        out = Guarded((5, d), dtype)
        module.embedding(ids, table, scale, None, None, out.array)
        assert np.array_equal(out.check(), scaled), d
        out = Guarded((5, d), dtype)
        module.embedding(ids, table, 1.0, positions, positional, out.array)
        assert np.array_equal(out.check(), table[ids] + positional[positions]), d


@both_dtypes
def test_argmax_as_in_numpy(backend, dtype):
    for i, n in enumerate(LENGTHS[1:]):
        x = surrounded(normal((1 + i % 7, n), dtype, i))
        got = kernels.argmax(x)
        assert got.dtype == np.int64 and np.array_equal(got, x.argmax(axis=-1)), n
        assert np.array_equal(kernels.argmax(-np.abs(x)), (-np.abs(x)).argmax(axis=-1)), n


@both_dtypes
def test_argmax_takes_the_first_of_equals(backend, dtype):
    for n in (1, 2, 15, 16, 17, 33, 70):
        first, second = np.triu_indices(n)
        x = np.full((len(first), n), -1, dtype)
        x[np.arange(len(first)), first] = x[np.arange(len(first)), second] = 3
        assert np.array_equal(kernels.argmax(x), first), n
        assert (kernels.argmax(np.full((3, n), -np.inf, dtype)) == 0).all()
        assert (kernels.argmax(np.full((3, n), np.inf, dtype)) == 0).all()
    assert kernels.argmax(np.array([-1, -0.0, 0.0, -0.0], dtype)) == 1


@both_dtypes
def test_argmax_takes_the_first_nan(backend, dtype):
    for n in (1, 2, 15, 16, 17, 33, 70):
        first, second = np.triu_indices(n)
        x = np.tile(normal(n, dtype), (len(first), 1))
        x[:, n // 2] = np.inf
        x[np.arange(len(first)), first] = x[np.arange(len(first)), second] = np.nan
        assert np.array_equal(kernels.argmax(x), first), n


@both_dtypes
def test_argmax_shapes(backend, dtype):
    x = normal((2, 3, 5), dtype)
    assert np.array_equal(kernels.argmax(x), x.argmax(axis=-1))
    assert isinstance(kernels.argmax(x[0, 0]), np.int64)
    assert kernels.argmax(x[:0]).shape == (0, 3)
    for shape in ((0,), (3, 0), (0, 0)):
        with pytest.raises(ValueError, match="argmax: the last axis must not be empty"):
            kernels.argmax(np.empty(shape, dtype))


def test_positional_encoding_of_the_paper():
    table = kernels.positional_encoding(50, 6)
    assert table.shape == (50, 6) and table.dtype == np.float64
    for position in (0, 1, 7, 49):
        for i in range(3):
            angle = position / 10000 ** (2 * i / 6)
            assert abs(table[position, 2 * i] - np.sin(angle)) < 1e-14
            assert abs(table[position, 2 * i + 1] - np.cos(angle)) < 1e-14


def test_positional_encoding_of_the_article():
    table = kernels.positional_encoding(2, 4, article=True)
    expected = [[0, 1, 0, 1], [np.sin(1), np.cos(0.01), np.sin(1e-4), np.cos(1e-6)]]
    assert np.abs(table - expected).max() < 1e-15


def test_positional_encoding_of_any_size():
    assert np.array_equal(kernels.positional_encoding(9, 5), kernels.positional_encoding(30, 5)[:9])
    odd = kernels.positional_encoding(3, 5)[1]
    assert abs(odd[4] - np.sin(10000 ** -0.8)) < 1e-15
    for shape in ((0, 0), (0, 4), (4, 0), (1, 1)):
        assert kernels.positional_encoding(*shape).shape == shape
    single = kernels.positional_encoding(30, 5, dtype=np.float32)
    assert np.array_equal(single, kernels.positional_encoding(30, 5).astype(np.float32))
    assert single.dtype == np.float32


def test_positional_encoding_arguments():
    with pytest.raises(ValueError, match="length must be >= 0, got -1"):
        kernels.positional_encoding(-1, 4)
    with pytest.raises(TypeError, match="d_model must be an integer, got float"):
        kernels.positional_encoding(3, 4.0)
    with pytest.raises(TypeError, match="dtype must be float32 or float64, got int64"):
        kernels.positional_encoding(3, 4, dtype=np.int64)
    for dtype in ("foo", 3):
        with pytest.raises(TypeError, match=f"dtype must be float32 or float64, got {dtype!r}"):
            kernels.positional_encoding(3, 4, dtype=dtype)
    with pytest.raises(TypeError, match="length must be an integer, got bool"):
        kernels.positional_encoding(True, 4)
    with pytest.raises(TypeError, match="article must be True or False, got 'x'"):
        kernels.positional_encoding(3, 4, article="x")
    for length, d_model in ((2**63, 4), (2**63, 0), (2**24, 2**24)):
        with pytest.raises(ValueError, match=r"length \* d_model must be < 2\*\*48, got"):
            kernels.positional_encoding(length, d_model)
