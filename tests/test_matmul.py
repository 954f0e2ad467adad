"""matmul and packed weights: error bounds, exact sums, and bits that do not depend on company."""

import numpy as np
import pytest
from cases import (
    Guarded,
    assert_same_bits,
    assert_within,
    both_dtypes,
    normal,
    precise,
    product_bound,
    product_sizes,
    skip_unless_bits_are_promised,
    surrounded,
    whole,
)

from rtfast import backends, kernels

SIZES = product_sizes()


@both_dtypes
def test_error_is_within_the_bound(backend, dtype):
    for i, (m, k, n) in enumerate(SIZES):
        a, b = surrounded(normal((m, k), dtype, i)), surrounded(normal((k, n), dtype, i + 1))
        out = Guarded((m, n), dtype)
        assert kernels.matmul(a, b, out=out.array) is out.array
        assert_within(out.check(), precise(a) @ precise(b), product_bound(a, b), (m, k, n))


@both_dtypes
def test_where_the_right_operand_lies_changes_no_bit(backend, dtype):
    """Read in place or packed first, all of it or what is no whole panel: each limit of that from both sides."""
    skip_unless_bits_are_promised(backend)
    for m, k, n in ((1, 300, 1031), (3, 261, 512), (3, 7, 20), (4, 261, 517), (128, 120, 513), (129, 120, 513),
                    (128, 130, 480), (129, 64, 64), (129, 65, 128), (2, 600, 3001)):
        a, b = normal((m, k), dtype), normal((k, n), dtype, 1)
        packed, bias = kernels.matmul(a, kernels.pack(b)), normal((n,), dtype, 2)
        assert_same_bits(kernels.matmul(surrounded(a), surrounded(b)), packed, (m, k, n))
        assert_same_bits(kernels.linear(a, surrounded(b), bias, "silu"),
                         kernels.linear(a, kernels.pack(b), bias, "silu"), (m, k, n))
        several = kernels.matmul(np.stack([a, a + 1, a]), np.stack([b, b, b - 1]))
        assert_same_bits(several[0], packed, (m, k, n))
        assert_same_bits(several[2], kernels.matmul(a, kernels.pack(b - 1)), (m, k, n))


@both_dtypes
def test_whole_numbers_are_exact(backend, dtype):
    """A dropped or doubled term cannot hide in a tolerance."""
    for i, (m, k, n) in enumerate(SIZES):
        a, b = surrounded(whole((m, k), dtype, i)), surrounded(whole((k, n), dtype, i + 1))
        expected = (a.astype(np.int64) @ b.astype(np.int64)).astype(dtype)
        for weight in (b, kernels.pack(b)):
            out = Guarded((m, n), dtype)
            kernels.matmul(a, weight, out=out.array)
            assert np.array_equal(out.check(), expected), (m, k, n, type(weight))


@both_dtypes
def test_one_hot_probe_at_every_k(backend, dtype):
    for k, n in ((1, 1), (17, 65), (65, 16), (257, 33), (513, 64)):
        b = normal((k, n), dtype)
        for weight in (b, kernels.pack(b)):
            assert np.array_equal(kernels.matmul(np.eye(k, dtype=dtype), weight), b)
            for probe in range(k):
                a = np.zeros((1, k), dtype)
                a[0, probe] = 1
                assert np.array_equal(kernels.matmul(a, weight)[0], b[probe]), (k, n, probe)


@both_dtypes
def test_one_hot_probe_at_every_column(backend, dtype):
    a = normal((13, 31), dtype)
    for n in (1, 15, 64, 67, 130):
        columns = np.arange(n) % 31
        b = np.zeros((31, n), dtype)
        b[columns, np.arange(n)] = 1
        assert np.array_equal(kernels.matmul(a, b), a[:, columns]), n


@both_dtypes
def test_batches(backend, dtype):
    for batch, m, k, n in ((0, 3, 4, 5), (1, 1, 1, 1), (3, 5, 17, 33), (7, 13, 64, 65), (2, 37, 257, 16)):
        a, b = whole((batch, m, k), dtype, 1), whole((batch, k, n), dtype, 2)
        assert np.array_equal(kernels.matmul(a, b), a @ b)
        if batch:
            assert np.array_equal(kernels.matmul(a, b[0]), a @ b[0])


@both_dtypes
def test_leading_axes_broadcast(backend, dtype):
    for left, right in (
            ((2, 3), (2, 3)), ((2, 1), (3,)), ((), (4,)), ((4,), ()), ((1,), (4,)), ((2, 0), (1, 1))):
        a, b = whole((*left, 5, 7), dtype, 1), whole((*right, 7, 3), dtype, 2)
        got = kernels.matmul(a, b)
        assert got.shape == (a @ b).shape and np.array_equal(got, a @ b), (left, right)


@both_dtypes
def test_backend_takes_one_matrix_for_a_whole_batch(backend, dtype):
    """The public function folds such a batch into rows; an executor may not."""
    a, b = whole((4, 5, 70), dtype, 1), whole((70, 67), dtype, 2)
    module = backends.active()
    for weight in (b, module.pack(b)):
        out = Guarded((4, 5, 67), dtype)
        module.matmul(a, weight, out.array)
        assert np.array_equal(out.check(), a @ b)


@both_dtypes
def test_empty_sums_are_zero(backend, dtype):
    out = np.full((3, 4), np.nan, dtype)
    kernels.matmul(np.empty((3, 0), dtype), np.empty((0, 4), dtype), out=out)
    assert np.array_equal(out, np.zeros((3, 4)))
    packed = kernels.pack(np.empty((0, 4), dtype))
    assert np.array_equal(kernels.matmul(np.empty((3, 0), dtype), packed), np.zeros((3, 4)))
    assert kernels.matmul(np.empty((0, 5), dtype), np.empty((5, 4), dtype)).shape == (0, 4)
    assert kernels.matmul(np.empty((3, 5), dtype), np.empty((5, 0), dtype)).shape == (3, 0)


@both_dtypes
def test_pack_keeps_the_values(backend, dtype):
    for shape in ((0, 0), (0, 5), (5, 0), (1, 1), (7, 63), (64, 64), (257, 65), (3, 130)):
        weight = normal(shape, dtype)
        source = weight.copy()
        packed = kernels.pack(source)
        source[...] = np.nan
        assert packed.shape == shape and packed.dtype == dtype
        assert_same_bits(packed.unpack(), weight)
        assert packed.unpack().flags.writeable
        assert kernels.pack(packed) is packed


@both_dtypes
def test_pack_of_a_transposed_weight(backend, dtype):
    module = backends.active()
    for d_in, d_out in ((0, 5), (5, 0), (1, 1), (7, 63), (65, 64), (257, 65)):
        weight, a = normal((d_in, d_out), dtype), normal((3, d_in), dtype, 1)
        packed = module.pack(surrounded(weight.T), transposed=True)
        assert packed.shape == (d_in, d_out)
        assert_same_bits(packed.unpack(), weight)
        assert_same_bits(kernels.matmul(a, packed), kernels.matmul(a, kernels.pack(weight)))


@both_dtypes
def test_packed_gives_the_bits_of_plain(backend, dtype):
    for i, (m, k, n) in enumerate(SIZES):
        a, b = normal((m, k), dtype, i), normal((k, n), dtype, i + 1)
        assert_same_bits(kernels.matmul(a, kernels.pack(b)), kernels.matmul(a, b), (m, k, n))


@both_dtypes
def test_a_row_has_the_same_bits_in_every_batch(backend, dtype):
    skip_unless_bits_are_promised(backend)
    a, b = normal((64, 300), dtype), normal((300, 70), dtype, 1)
    packed = kernels.pack(b)
    row = a[:1].copy()
    alone = kernels.matmul(row, packed)[0]
    for rows in range(1, 65):
        for position in range(rows):
            batch = a[1:1 + rows].copy() if rows < 64 else a.copy()
            batch[position] = row[0]
            assert_same_bits(kernels.matmul(batch, packed)[position], alone, (rows, position))


@both_dtypes
def test_a_product_has_the_same_bits_in_every_batch(backend, dtype):
    skip_unless_bits_are_promised(backend)
    a, b = normal((9, 13, 300), dtype), normal((9, 300, 70), dtype, 1)
    together = kernels.matmul(a, b)
    for i in range(9):
        assert_same_bits(kernels.matmul(a[i], b[i]), together[i], i)
        assert_same_bits(kernels.matmul(a[i:], b[i:])[0], together[i], i)


@both_dtypes
def test_a_column_has_the_same_bits_at_every_width(backend, dtype):
    skip_unless_bits_are_promised(backend)
    a, b = normal((7, 300), dtype), normal((300, 140), dtype, 1)
    full = kernels.matmul(a, b)
    for n in range(1, 140):
        assert_same_bits(kernels.matmul(a, b[:, :n]), full[:, :n], n)


@both_dtypes
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_nan_row_or_column_touches_no_other(backend, dtype, poison):
    a, b = normal((29, 70), dtype), normal((70, 67), dtype, 1)
    clean = kernels.matmul(a, b)
    for position in range(29):
        poisoned = a.copy()
        poisoned[position] = poison
        got = kernels.matmul(poisoned, b)
        others = np.arange(29) != position
        assert_same_bits(got[others], clean[others], position)
        assert not np.isfinite(got[position]).any()
    for position in range(67):
        poisoned = b.copy()
        poisoned[:, position] = poison
        for weight in (poisoned, kernels.pack(poisoned)):
            got = kernels.matmul(a, weight)
            others = np.arange(67) != position
            assert_same_bits(got[:, others], clean[:, others], position)
            assert not np.isfinite(got[:, position]).any()


@both_dtypes
def test_infinities_and_denormals_as_in_numpy(backend, dtype):
    tiny, huge = np.finfo(dtype).tiny, np.finfo(dtype).max
    a = np.array([[np.inf, 1], [huge, huge], [tiny, 0], [0, np.inf], [-np.inf, 1]], dtype)
    b = np.array([[1, 0.125, 0], [1, 0, -1]], dtype)
    with np.errstate(all="ignore"):
        expected = a[:, :1] * b[0] + a[:, 1:] * b[1]
    assert expected[2, 1] == tiny / 8 != 0  # a denormal is not flushed to zero
    assert np.array_equal(kernels.matmul(a, b), expected, equal_nan=True)


@both_dtypes
@pytest.mark.parametrize("m", [1, 3, 4, 16, 17])
@pytest.mark.parametrize("n", [1, 7, 33])
def test_narrow_right_operands(backend, dtype, m, n):
    """Of less than a panel, and of one and a bit: packed chunk by chunk where few rows use them."""
    for k in (255, 257, 5000):
        a, b = normal((m, k), dtype), normal((k, n), dtype, seed=1)
        result = kernels.matmul(a, b)
        assert_within(result, precise(a) @ precise(b), product_bound(a, b))
        if backend != "python":
            assert_same_bits(result, kernels.matmul(a, kernels.pack(b)))
