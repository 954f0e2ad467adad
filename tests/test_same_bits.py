"""Every kernel gives the same bits on any number of threads and at every vector width."""

import numpy as np
import pytest
from cases import LARGE, SMALL, assert_same_bits, both_dtypes, every_case, normal
from models import FUSED
from thread_counts import assert_threads_change_nothing

import rtfast
from rtfast import backends, kernels

every_size = pytest.mark.parametrize("sizes", [SMALL, LARGE], ids=["small", "large"])


@both_dtypes
@every_case
@every_size
def test_any_number_of_threads(backend, dtype, case, sizes):
    operands = case.operands(sizes, dtype)
    assert_threads_change_nothing(lambda: case(**operands))


@both_dtypes
def test_one_row_on_any_number_of_threads(backend, dtype):
    """A decode step: threads can only split the columns."""
    x, weight = normal((1, 513), dtype), kernels.pack(normal((513, 4100), dtype, seed=1))
    assert_threads_change_nothing(lambda: [kernels.linear(x, weight, activation="gelu")])


@both_dtypes
def test_a_sum_that_threads_split_is_noticed(dtype):
    """What this file is about, done wrong on purpose: a product whose sum over k is split among the threads."""
    x, weight = normal((3, 1000), dtype), normal((1000, 7), dtype, seed=1)

    def split_sum():
        parts = np.array_split(np.arange(1000), rtfast.get_num_threads())
        return [sum(np.einsum("mk,kn->mn", x[:, part], weight[part]) for part in parts)]

    for n in range(2, 9):
        with pytest.raises(AssertionError, match=f"{n} threads and one, result 0: .* of 21 differ"):
            assert_threads_change_nothing(split_sum, [n])


@pytest.mark.parametrize("wrong", range(2, 9))
def test_one_bit_on_one_number_of_threads_is_noticed(wrong):
    def results():
        x = np.ones((4, 5), np.float32)
        if rtfast.get_num_threads() == wrong:
            x[3, 4] = np.nextafter(x[3, 4], np.float32(2))
        return [np.zeros(3), x]

    with pytest.raises(AssertionError, match=f"{wrong} threads and one, result 1: 1 of 20 differ"):
        assert_threads_change_nothing(results)


@pytest.mark.parametrize(("one", "other"), [
    ([0.0], [-0.0]), ([1.0], [np.nan]), ([1.0], [[1.0]]), ([1.0], np.float32([1.0])), ([5e-324], [0.0])])
def test_what_counts_as_a_difference(one, other):
    for got, expected in ((one, other), (other, one)):
        with pytest.raises(AssertionError):
            assert_same_bits(got, expected)
    assert_same_bits(one, one)
    assert_same_bits(other, other)


@both_dtypes
@every_case
@every_size
def test_every_vector_width(dtype, case, sizes):
    names = [name for name in backends.available() if name in FUSED]
    if len(names) < 2:
        pytest.skip("needs two builds with a fused multiply-add")
    operands = case.operands(sizes, dtype)
    results = {}
    for name in names:
        with backends.using(name):
            results[name] = case(**operands)
    for name in names[1:]:
        for one, other in zip(results[name], results[names[0]], strict=True):
            assert_same_bits(one, other, f"{name} and {names[0]}")
