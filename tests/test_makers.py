"""What the kernels do for one maker's CPUs and not for another's changes no bit."""

import numpy as np
import pytest
from cases import assert_same_bits, both_dtypes, normal
from models import large_config, random_values

import rtfast
from rtfast import backends, kernels

compiled = pytest.mark.parametrize("name", [name for name in backends.available() if name != "python"])


@pytest.fixture
def as_on_both(name):
    """`as_on_both(compute)`: what it gives as on AMD's cores, and as on others."""
    with backends.using(name):
        module = backends.active()
        here = module.fetch_as_on_amd(True)

        def run(compute):
            results = []
            for amd in (True, False):
                module.fetch_as_on_amd(amd)
                results.append(compute())
            return results

        yield run
        module.fetch_as_on_amd(here)


@compiled
def test_the_choice_is_told_and_kept(name, as_on_both):
    def turn():
        module = backends.active()
        now = module.fetch_as_on_amd(True)
        module.fetch_as_on_amd(now)
        return now

    assert as_on_both(turn) == [True, False]


@compiled
@both_dtypes
@pytest.mark.parametrize("rows", [*range(1, 7), 12, 16, 18, 24, 37])
@pytest.mark.parametrize("k", [0, 1, 255, 256, 257, 515])
@pytest.mark.parametrize("n", [1, 33, 64, 130, 200])
def test_products(name, as_on_both, dtype, rows, k, n):
    """Up to four rows read panels from end to end on AMD's cores: none to three chunks of k, any number of panels. The
    first two tiles of up to 18 fetch the next panel."""
    x, weight, bias = normal((rows, 2 * k), dtype)[:, :k], normal((k, n), dtype, seed=1), normal((n,), dtype, seed=2)
    packed = kernels.pack(weight)
    amd, others = as_on_both(lambda: [kernels.linear(x, packed, bias, activation="gelu"), kernels.matmul(x, packed),
                                      kernels.matmul(x, weight)])
    for i, (one, other) in enumerate(zip(amd, others, strict=True)):
        assert_same_bits(one, other, i)
    assert np.abs(amd[1] - x @ weight).max(initial=0) < 1e-3


@compiled
@both_dtypes
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("k", [0, 1, 2, 3, 64, 257])
@pytest.mark.parametrize("n", [1, 31, 70, 520])
def test_products_of_several_blocks_of_rows(name, as_on_both, dtype, threads, k, n):
    """While one block is multiplied, the rows of the next are fetched, what they are stored to, and the next product's
    right operand: of a batch and of one product, in place, packed for it and before."""
    a, b = normal((3, 161, k), dtype), normal((3, k, n), dtype, seed=1)
    before = rtfast.get_num_threads()
    rtfast.set_num_threads(threads)
    try:
        for compute in (lambda: kernels.matmul(a, b), lambda: kernels.matmul(a, b[0]),
                        lambda: kernels.matmul(a, kernels.pack(b[0]))):
            assert_same_bits(*as_on_both(compute))
        expected = np.stack([[kernels.matmul(row[None], b[i])[0] for row in a[i]] for i in range(3)])
        assert_same_bits(kernels.matmul(a, b), expected)
    finally:
        rtfast.set_num_threads(before)


@compiled
@both_dtypes
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("sizes", [
    (7, 70, 700),        # threads share the columns
    (20, 515, 1003),     # more than a block may be read in place, rows that begin in the middle of a cache line
    (49, 1024, 1024),    # rows that share the sets of a cache
    (131, 64, 1024),     # many of a panel that the L1 cache holds
    (203, 520, 700),     # threads share the rows of an operand that they fetch
    (90, 1060, 2100),    # all rows use some columns before the next
    (1090, 1000, 1009),  # more multiply-adds than one task's
])
def test_plain_operands_read_in_place_or_packed(name, as_on_both, dtype, threads, sizes):
    m, k, n = sizes
    x, weight, bias = normal((m, k), dtype), normal((k, n), dtype, seed=1), normal((n,), dtype, seed=2)
    before = rtfast.get_num_threads()
    rtfast.set_num_threads(threads)
    try:
        packed = kernels.pack(weight)
        for result in as_on_both(lambda: kernels.matmul(x, weight)):
            assert_same_bits(result, kernels.matmul(x, packed))
        for result in as_on_both(lambda: kernels.linear(x, weight, bias, activation="relu")):
            assert_same_bits(result, kernels.linear(x, packed, bias, activation="relu"))
    finally:
        rtfast.set_num_threads(before)


@compiled
@both_dtypes
def test_weights_that_come_from_memory(name, as_on_both, dtype):
    """28 MB and more: read panel by panel for up to four rows, fetched by the tiles from others."""
    x, weight = normal((5, 700), dtype), kernels.pack(normal((700, 10_030), dtype, seed=1))
    for rows in range(1, 6):
        assert_same_bits(*as_on_both(lambda rows=rows: kernels.matmul(x[:rows], weight)), rows)


@compiled
@both_dtypes
def test_keys_that_come_from_memory(name, as_on_both, dtype):
    """Plain keys and values of 32 MB and more, one query a head: read line by line first on AMD's cores."""
    q = normal((600, 1, 40), dtype)
    k, v = (normal((600, 2000 // q.itemsize, 40), dtype, seed=seed) for seed in (1, 2))
    assert k.nbytes + v.nbytes > 32 << 20
    assert_same_bits(*as_on_both(lambda: kernels.attention(q, k, v)))


@compiled
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("num_beams", [1, 4])
def test_generation(name, as_on_both, dtype, num_beams):
    """Of few keys, less than a vector to more than four panels, and of more; a long source beside short ones."""
    config = large_config(d_model=80, n_heads=5, d_ff=96, max_length=128, dtype=dtype)
    model = rtfast.Transformer(config, random_values(config))
    ids = [[5 + (3 * place + t) % 20 for t in range(length)] for place, length in enumerate((1, 5, 16, 33, 64, 65, 90))]
    amd, others = as_on_both(lambda: model.generate(
        ids, num_beams=num_beams, max_new_tokens=80, return_dict_in_generate=True))
    assert [one.ids for one in amd] == [one.ids for one in others]
    assert [one.score for one in amd] == [one.score for one in others]
