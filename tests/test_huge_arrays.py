"""More than 2^31 numbers: right or refused, never an index that has wrapped around.

On one compiled backend: the others have the same indices. NumPy would need the memory for what it computes between.
"""

import sys

import numpy as np
import pytest
from cases import assert_same_bits, normal
from huge_arrays import repeated

import rtfast
from rtfast import backends, kernels

COMPILED = [name for name in backends.available() if name != "python"][:1]
pytestmark = [pytest.mark.skipif(sys.platform != "linux" or sys.maxsize < 2**32, reason="64-bit Linux only"),
              pytest.mark.skipif(not COMPILED, reason="no compiled backend")]

WIDTH, BLOCK, COUNT, TAIL = 4096, 256, 2048, 5
ROWS = BLOCK * COUNT + TAIL  # WIDTH * BLOCK * COUNT is 2^31


@pytest.fixture(autouse=True)
def one_backend():
    """And one thread: blocks are the same memory, in which another would change what this one has yet to read."""
    threads = rtfast.get_num_threads()
    rtfast.set_num_threads(1)
    try:
        with backends.using(COMPILED[0]):
            yield
    finally:
        rtfast.set_num_threads(threads)


def huge(*shape, seed=0):
    """Float32 in `shape` for a row: numbers (ROWS, *shape), and the same of the first block and the tail alone."""
    block, tail = normal((BLOCK, *shape), np.float32, seed), normal((TAIL, *shape), np.float32, seed + 100)
    return repeated(block, COUNT, tail), np.concatenate([block, tail])


def new(*shape):
    return repeated(np.zeros((BLOCK, *shape), np.float32), COUNT, np.full((TAIL, *shape), np.nan, np.float32))


def ends(array):
    """The first block and the tail."""
    return np.concatenate([array[:BLOCK], array[-TAIL:]])


@pytest.mark.parametrize("kernel", [
    kernels.softmax, kernels.exp, lambda x, out=None: kernels.add_layer_norm(x, x, out=out)],
    ids=["softmax", "exp", "add_layer_norm"])
def test_row_by_row(kernel):
    x, part = huge(WIDTH)
    assert x.size > 2**31
    assert_same_bits(ends(kernel(x, out=new(WIDTH))), kernel(part))


def test_products_of_many_rows():
    x, part = huge(WIDTH)
    weight = normal((WIDTH, 3), np.float32, 7)
    assert_same_bits(ends(kernels.linear(x, kernels.pack(weight))), kernels.linear(part, weight))


def test_products_with_many_results():
    weight = normal((3, WIDTH), np.float32, 7)
    part = normal((BLOCK + TAIL, 3), np.float32)
    x = np.concatenate([*[part[:BLOCK]] * COUNT, part[BLOCK:]])
    assert_same_bits(ends(kernels.matmul(x, weight, out=new(WIDTH))), kernels.matmul(part, weight))


def test_a_batch_of_products():
    (a, part_a), (b, part_b) = huge(16, 256), huge(256, 16, seed=1)
    assert_same_bits(ends(kernels.matmul(a, b)), kernels.matmul(part_a, part_b))
    c, part_c = huge(16, 16, seed=2)
    assert_same_bits(ends(kernels.matmul(c, a, out=new(16, 256))), kernels.matmul(part_c, part_a))


def test_attention():
    (q, part_q), (k, part_k), (v, part_v) = (huge(16, 256, seed=i) for i in range(3))
    out = new(16, 256)
    backends.active().attention(q, k, v, None, True, 0.2, out, None, None, None)
    assert_same_bits(ends(out), kernels.attention(part_q, part_k, part_v, causal=True, scale=0.2))


def test_attention_with_a_mask_and_weights():
    """The weights are many; queries and keys are few."""
    (q, part_q), (k, part_k), (v, part_v) = (huge(64, 2, seed=i) for i in range(3))
    out, weights = new(64, 2), new(64, 64)
    mask = np.tri(64, dtype=bool)
    backends.active().attention(q, k, v, None, True, 0.2, out, None, None, weights)
    right, right_weights = kernels.attention(part_q, part_k, part_v, mask, scale=0.2, return_weights=True)
    assert_same_bits(ends(out), right)
    assert_same_bits(ends(weights), right_weights)


def test_one_long_row():
    x, _ = huge(WIDTH)
    row = x.reshape(1, -1)
    largest = np.float32(9)
    row[0, 17], row[0, -2] = largest, largest + 1
    assert kernels.argmax(row) == row.size - 2 > 2**31
    values, indices = kernels.top_k(row[0], 2)
    assert indices.tolist() == [row.size - 2, 17] and values.tolist() == [10, 9]
    row[0, -1] = np.nan
    assert kernels.argmax(row) == row.size - 1


def test_a_large_table():
    table, _ = huge(WIDTH)
    ids = np.array([ROWS - 1, 0, BLOCK * COUNT, ROWS - TAIL - 1])
    assert_same_bits(kernels.embedding(ids, table), table[ids])
    with pytest.raises(ValueError, match=f"0 <= id < {ROWS}"):
        kernels.embedding([ROWS], table)


def test_many_ids():
    table, ids = normal((9, WIDTH), np.float32), np.arange(BLOCK + TAIL) % 9
    many = np.concatenate([*[ids[:BLOCK]] * COUNT, ids[BLOCK:]])
    assert_same_bits(ends(kernels.embedding(many, table, out=new(WIDTH))), table[ids])


# ---------------------------------------------------------------------------------------------
# Shapes that are huge and hold nothing: there is nothing to compute, and nothing to allocate

LONG = 2**58


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_of_much(dtype):
    def nothing(*shape):
        return np.empty(shape, dtype)

    assert kernels.softmax(nothing(LONG, 0)).shape == (LONG, 0)
    assert kernels.layer_norm(nothing(LONG, 0)).shape == (LONG, 0)
    assert kernels.add_layer_norm(nothing(LONG, 0), nothing(LONG, 0)).shape == (LONG, 0)
    assert kernels.exp(nothing(0, LONG)).shape == (0, LONG)
    assert kernels.argmax(nothing(0, LONG)).shape == (0,)
    assert kernels.top_k(nothing(0, LONG), 3)[0].shape == (0, 3)
    assert kernels.pack(nothing(0, LONG)).unpack().shape == (0, LONG)
    assert kernels.pack(nothing(LONG, 0)).unpack().shape == (LONG, 0)
    assert kernels.linear(nothing(0, LONG), nothing(LONG, 0)).shape == (0, 0)
    assert kernels.linear(nothing(0, 0), kernels.pack(nothing(0, LONG))).shape == (0, LONG)
    assert kernels.linear(nothing(LONG, 0), nothing(0, 0)).shape == (LONG, 0)
    assert kernels.matmul(nothing(LONG, 0), nothing(0, 0)).shape == (LONG, 0)
    assert kernels.matmul(nothing(0, 0), nothing(0, LONG)).shape == (0, LONG)
    assert kernels.embedding(np.zeros(3, int), nothing(LONG, 0)).shape == (3, 0)
    assert kernels.attention(nothing(LONG, 0), nothing(3, 0), nothing(3, 0)).shape == (LONG, 0)
    assert kernels.attention(nothing(2, 0), nothing(LONG, 0), nothing(LONG, 0), causal=True).shape == (2, 0)
    assert kernels.attention(nothing(LONG, 1, 0), nothing(LONG, 0, 0), nothing(LONG, 0, 0)).shape == (LONG, 1, 0)
    out, weights = kernels.attention(nothing(LONG, 0), nothing(0, 0), nothing(0, 0), return_weights=True)
    assert out.shape == (LONG, 0) and weights.shape == (LONG, 0)


@pytest.mark.parametrize("call", [
    lambda x, y: kernels.linear(x, y),
    lambda x, y: kernels.matmul(x, y),
    lambda x, y: kernels.attention(x, y.T, y.T, return_weights=True),
    lambda x, y: kernels.softmax(np.broadcast_to(np.float32(1), (2**40, 2**20))),
    lambda x, y: kernels.pack(np.broadcast_to(np.float32(1), (2**40, 2**20))),
], ids=["linear", "matmul", "attention", "softmax", "pack"])
def test_more_than_there_is_memory(call):
    """Few operands, a huge result: refused as NumPy refuses it."""
    with pytest.raises((MemoryError, ValueError), match="(?i)unable to allocate|too big|too large"):
        call(np.empty((2**44, 0), np.float32), np.empty((0, 2**44), np.float32))
