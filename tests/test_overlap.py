"""`out` over the memory of an input, in every way that views can lie: the result is that of separate arrays.

test_kernel_arguments.py shifts plain arrays by a few elements; here are views of all kinds, and arrays that several
threads write.
"""

import re

import numpy as np
import pytest
from cases import CASES, LARGE, SMALL, assert_same_bits, both_dtypes, normal
from models import threads

from rtfast import kernels

OUT_CASES = {name: case for name, case in CASES.items() if not name.startswith(("attention", "argmax"))}
every_out_case = pytest.mark.parametrize("case", OUT_CASES.values(), ids=OUT_CASES.keys())


def views(room, shape):
    """{how: a view of `room`, 3 times as large}: plain ones, backwards, transposed, with gaps, one over the other."""
    size = int(np.prod(shape))

    def at(offset):
        return room[offset:offset + size].reshape(shape)

    found = {f"from {offset}": at(offset) for offset in sorted({0, 1, size // 2, size - 1, size, size + 1})}
    found["backwards"] = room[:size][::-1].reshape(shape)
    found["rows backwards"] = at(0)[::-1]
    found["transposed"] = room[:size].reshape(shape[::-1]).T
    found["every second"] = room[:2 * size:2].reshape(shape)
    found["every second, from 1"] = room[1:2 * size + 1:2].reshape(shape)
    found["every third, backwards"] = room[::-3][:size].reshape(shape)
    assert all(np.shares_memory(view, room) for view in found.values())
    return found


@both_dtypes
@every_out_case
def test_views_of_one_room(backend, dtype, case):
    operands = case.operands({**SMALL, "batch": 2, "m": 5}, dtype)
    expected, = case(**operands)
    for name, array in operands.items():
        room = np.empty(3 * max(array.size, expected.size), dtype)
        for where, source in views(room, array.shape).items():
            for how, out in views(room, expected.shape).items():
                room[:] = np.nan
                source[...] = array
                assert case(**{**operands, name: source}, out=out)[0] is out
                assert_same_bits(out, expected, (name, where, how))


@both_dtypes
@every_out_case
@pytest.mark.parametrize("shift", [-1, 0, 1, 1000])
def test_large_ones_on_threads(backend, dtype, case, shift):
    operands = case.operands(LARGE, dtype)
    name, array = next(iter(operands.items()))
    with threads(2):
        expected, = case(**operands)
        room = np.empty(array.size + expected.size + 2000, dtype)
        source = room[1000:1000 + array.size].reshape(array.shape)
        source[...] = array
        out = room[1000 + shift:1000 + shift + expected.size].reshape(expected.shape)
        case(**{**operands, name: source}, out=out)
    assert_same_bits(out, expected)


@pytest.mark.parametrize("function", ["exp", "erf", "tanh"])
def test_elementary_functions(backend, function):
    kernel, x = getattr(kernels, function), normal((4, 9), np.float32)
    expected, room = kernel(x), np.empty(3 * x.size, np.float32)
    for source in views(room, x.shape).values():
        for out in views(room, x.shape).values():
            source[...] = x
            assert_same_bits(kernel(source, out=out), expected)


def test_ids_in_the_memory_of_out(backend):
    table = normal((7, 1), np.float64)
    ids = np.array([6, 0, 3, 3, 1])
    expected = table[ids]
    out = ids.view(np.float64).reshape(5, 1)
    assert_same_bits(kernels.embedding(ids, table, out=out), expected)


@every_out_case
def test_an_out_that_overlaps_itself_is_refused(backend, case):
    operands = case.operands(SMALL, np.float32)
    shape = case(**operands)[0].shape
    before = np.zeros(10_000, np.float32)
    for strides in ((0, 0, 0), (4, 4, 4), (400, 40, 0), (40, 4, 4), (0, 40, 4)):
        out = np.lib.stride_tricks.as_strided(before, shape, strides, writeable=True)
        with pytest.raises(ValueError, match=re.escape(f"out must have an element of memory for each number, got shape "
                                                       f"{shape} with strides {strides}")):
            case(**operands, out=out)
    assert not before.any()
