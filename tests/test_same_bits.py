"""Every kernel gives the same bits on any number of threads and at every vector width."""

import numpy as np
import pytest
from cases import LARGE, SMALL, assert_same_bits, both_dtypes, every_case, normal, skip_unless_bits_are_promised
from models import FUSED, large_config, random_values, small_config, threads
from subprocesses import printed
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
@pytest.mark.parametrize("rows", [7, 50, 128, 517, 1021, 2161])
def test_threads_share_the_panels_of_a_packed_product_or_its_rows(backend, dtype, rows):
    """Groups of panels of one block of rows or a few; whole blocks where there are many, then perhaps of fewer rows
    than on one thread, so that every thread has as many. Of 2161 rows three threads have 47 blocks, not 48."""
    x, weight, bias = normal((rows, 300), dtype), normal((300, 709), dtype, seed=1), normal((709,), dtype, seed=2)
    packed = kernels.pack(weight)
    assert_threads_change_nothing(lambda: [kernels.linear(x, packed, bias, activation="relu")])
    np.testing.assert_allclose(kernels.matmul(x, packed), x.astype(np.float64) @ weight, atol=1e-4)


@both_dtypes
@pytest.mark.parametrize("sizes", [(128, 128, 128), (131, 67, 77), (1000, 64, 64), (250, 300, 100)], ids=str)
@pytest.mark.parametrize("batch", [(), (3,)], ids=["one", "three"])
def test_threads_share_the_rows_of_a_small_plain_product(backend, dtype, sizes, batch):
    """The right operand is read where it lies, its last columns are packed by each task for itself."""
    m, k, n = sizes
    a, b, bias = normal((*batch, m, k), dtype), normal((*batch, k, n), dtype, seed=1), normal((n,), dtype, seed=2)
    products = [lambda: kernels.matmul(a, b)] + [lambda: kernels.linear(a, b, bias, activation="relu")] * (not batch)
    for product in products:
        assert_threads_change_nothing(lambda product=product: [product()])
    np.testing.assert_allclose(kernels.matmul(a, b), a.astype(np.float64) @ b, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in backends.available() if name != "python"])
def test_an_op_waits_for_all_short_tasks_of_the_one_before(name):
    """They are claimed several at a time, the last claim being shorter. Two inputs by turns: what lies in a buffer from
    the run before is wrong."""
    config = large_config(d_model=44, n_heads=11, d_ff=48)
    with backends.using(name):
        model = rtfast.Transformer(config, random_values(config))
        inputs = [[[5 + (place + seed + t) % 20 for t in range(3)] for place in range(41)] for seed in (0, 7)]
        with threads(1):
            expected = [model.encode(batch) for batch in inputs]
        with threads(2):
            for turn in range(600):
                for one, other in zip(model.encode(inputs[turn % 2]), expected[turn % 2], strict=True):
                    assert_same_bits(one, other, turn)


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


#: What NumPy has a part in, hashed: positions of every kind, log-probabilities, the scores of beams and of draws.
BESIDE_NUMPY = """if True:
    import hashlib
    import models, numpy as np, rtfast
    from rtfast.logits_rules import log_softmax
    from rtfast.packing import sinusoids
    found = [sinusoids(models.small_config(positions=kind, d_model=96, max_length=300, dtype="float64"))
             for kind in ("sinusoidal", "halves", "tensor2tensor")]
    found += [rtfast.kernels.positional_encoding(300, 48, article=True)]
    random = np.random.default_rng(1)
    found += [log_softmax(random.normal(0, 5, (200, 50)).astype(dtype)) for dtype in ("float32", "float64")]
    model = rtfast.load()
    found += [model.score("the red house is big", "la casa roja es grande", return_tokens=True)]
    ids = model.tokenizer.encode("the red house is big")
    for options in ({"num_beams": 3, "repetition_penalty": 1.1}, {"do_sample": True, "seed": 3, "top_p": 0.9}):
        made = model.generate([ids] * 5, 8, return_dict_in_generate=True, **options)
        found += [np.array([hypothesis.score for hypothesis in made])]
    for numbers in found:
        print(hashlib.sha256(np.ascontiguousarray(numbers).tobytes()).hexdigest())"""


def test_no_code_of_numpys_for_this_cpu_has_a_part():
    """NumPy's exp, log and power have other last bits on other CPUs; told to, it works as on one without AVX-512."""
    numpy_core = pytest.importorskip("numpy._core._multiarray_umath", reason="NumPy 1 has its core elsewhere")
    more = [name for name in numpy_core.__cpu_dispatch__
            if numpy_core.__cpu_features__.get(name) and name.startswith(("AVX512", "X86_V4"))]
    if "avx2" not in backends.available() or not more:
        pytest.skip("needs AVX-512 and a NumPy that uses it")
    assert printed(BESIDE_NUMPY, RTFAST_BACKEND="avx2") == printed(
        BESIDE_NUMPY, RTFAST_BACKEND="avx2", NPY_DISABLE_CPU_FEATURES=" ".join(more))


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


@pytest.mark.parametrize("d_key", [1, 40, 300, 515])
@both_dtypes
def test_a_single_key_has_the_score_that_it_has_among_others(backend, dtype, d_key):
    """A sentence's first word looks at itself alone: the score, which makes no weight but 1, is in the trace."""
    skip_unless_bits_are_promised(backend)
    config = small_config(d_key=d_key, dtype=np.dtype(dtype).name)
    model = rtfast.Transformer(config, random_values(config))
    alone, among = ([model.trace([[3, 4]], [target])[f"decoder.layers.{i}.self_attention.scores"] for i in range(
        config.n_decoder_layers)] for target in ([5], [5, 6, 4]))
    assert_same_bits(alone, [scores[..., :1, :1] for scores in among])
