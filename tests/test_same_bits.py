"""Every kernel gives the same bits on any number of threads and at every vector width."""

import numpy as np
import pytest
from cases import LARGE, SMALL, assert_same_bits, both_dtypes, every_case

from rtfast import backends, kernels

#: The builds with a fused multiply-add: they promise each other's bits.
FUSED = ("avx512", "avx2", "neon")
every_size = pytest.mark.parametrize("sizes", [SMALL, LARGE], ids=["small", "large"])


@both_dtypes
@every_case
@every_size
def test_any_number_of_threads(backend, dtype, case, sizes):
    module = backends.active()
    operands = case.operands(sizes, dtype)
    before = module.get_num_threads()
    try:
        module.set_num_threads(1)
        expected = case(**operands)
        for n in (2, 3, 4, 7):
            module.set_num_threads(n)
            for one, other in zip(case(**operands), expected, strict=True):
                assert_same_bits(one, other, n)
    finally:
        module.set_num_threads(before)


@both_dtypes
def test_one_row_on_any_number_of_threads(backend, dtype):
    """A decode step: threads can only split the columns."""
    random = np.random.default_rng(0)
    x, weight = (random.standard_normal(shape).astype(dtype) for shape in ((1, 513), (513, 4100)))
    module = backends.active()
    weight = kernels.pack(weight)
    before = module.get_num_threads()
    try:
        module.set_num_threads(1)
        expected = kernels.linear(x, weight, activation="gelu")
        for n in (2, 3, 5):
            module.set_num_threads(n)
            assert_same_bits(kernels.linear(x, weight, activation="gelu"), expected, n)
    finally:
        module.set_num_threads(before)


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
