"""The bits of a row do not depend on its company: other rows, its place among them, padding, cache, run, process."""

import hashlib

import numpy as np
import pytest
from cases import assert_same_bits, both_dtypes, normal
from models import large_config, random_ids, random_values
from subprocesses import printed

import rtfast
from rtfast import backends, kernels

#: The backends that promise it: not the fallback, where NumPy's BLAS decides.
COMPILED = [name for name in backends.available() if name != "python"]
compiled = pytest.mark.parametrize("name", COMPILED)
D_IN, D_OUT = 261, 83  # more than a chunk, no whole panel
WIDE = 517  # enough columns that some tiles' rows are turned, no whole panel either


def rows_of(dtype, width=D_IN, rows=64):
    return np.random.default_rng(0).standard_normal((rows, width)).astype(dtype)


def row_functions(dtype):
    """name -> function of rows (M, D_IN) that treats each row by itself."""
    random = np.random.default_rng(1)
    weight, bias = random.standard_normal((D_IN, D_OUT)).astype(dtype), random.standard_normal(D_OUT).astype(dtype)
    packed, gamma = kernels.pack(weight), random.standard_normal(D_IN).astype(dtype)
    wide = kernels.pack(random.standard_normal((D_IN, WIDE)).astype(dtype))
    return {
        "linear": lambda x: kernels.linear(x, packed, bias),
        "linear, plain": lambda x: kernels.linear(x, weight, bias),
        "linear, wide": lambda x: kernels.linear(x, wide),
        "linear, gelu": lambda x: kernels.linear(x, packed, bias, "gelu"),
        "linear, silu": lambda x: kernels.linear(x, packed, bias, "silu"),
        "matmul": lambda x: kernels.matmul(x, weight),
        "softmax": kernels.softmax,
        "layer_norm": lambda x: kernels.layer_norm(x, gamma, gamma),
        "add_layer_norm": lambda x: kernels.add_layer_norm(x, x[:, ::-1], gamma),
        "gelu_tanh": lambda x: kernels.activate(x, "gelu_tanh"),
    }


@compiled
@both_dtypes
def test_a_row_at_every_place_of_every_batch(name, dtype):
    """Alone, and at each place of batches of 1 to 64; the others change nothing, even if they are NaN."""
    rows = rows_of(dtype)
    with backends.using(name):
        for what, function in row_functions(dtype).items():
            alone = function(rows[:1])[0]
            others = np.full_like(rows, np.nan)
            for batch in range(1, 65):
                for place in range(batch):
                    x = (rows if place % 2 else others)[:batch].copy()
                    x[place] = rows[0]
                    assert_same_bits(function(x)[place], alone, (what, batch, place))


@compiled
@both_dtypes
def test_packed_and_plain_weights(name, dtype):
    with backends.using(name):
        functions = row_functions(dtype)
        for batch in (1, 2, 3, 4, 7, 12, 13, 48, 64):
            x = rows_of(dtype)[:batch]
            assert_same_bits(functions["linear, plain"](x), functions["linear"](x), batch)


@compiled
@both_dtypes
def test_a_query_among_any_others(name, dtype):
    """The weights and the sum of one query: beside others, before longer padding, full, causal or masked."""
    random = np.random.default_rng(2)
    q, k, v = (random.standard_normal((3, 5, 100, 16)).astype(dtype) for _ in range(3))
    with backends.using(name):
        for keys in (1, 5, 33, 100):
            alone = kernels.attention(q[1:2, 2:3, 40:41], k[1:2, 2:3, :keys], v[1:2, 2:3, :keys])[0, 0, 0]
            together = kernels.attention(q, k[..., :keys, :], v[..., :keys, :])
            assert_same_bits(together[1, 2, 40], alone, keys)
            mask = np.arange(100) < keys
            bad_k, bad_v = k.copy(), v.copy()
            bad_k[..., keys:, :] = bad_v[..., keys:, :] = np.nan
            assert_same_bits(kernels.attention(q, bad_k, bad_v, mask=mask)[1, 2, 40], alone, ("padded", keys))
            causal = kernels.attention(q[..., :keys, :], bad_k[..., :keys, :], bad_v[..., :keys, :], causal=True)
            last = kernels.attention(q[1:2, 2:3, keys - 1:keys], k[1:2, 2:3, :keys], v[1:2, 2:3, :keys])[0, 0, 0]
            assert_same_bits(causal[1, 2, keys - 1], last, ("causal", keys))


@compiled
@both_dtypes
def test_a_query_with_any_number_of_keys(name, dtype):
    """Alone its keys are turned in registers, beside 29 others they are packed: every width of what is left over."""
    for d_key, most in ((1, 70), (3, 70), (5, 70), (64, 70), (257, 40), (300, 40), (520, 40)):
        q, k, v = (normal((1, 1, n, d_key), dtype, seed) for seed, n in enumerate((30, most, most)))
        with backends.using(name):
            for keys in range(1, most + 1):
                together = kernels.attention(q, k[..., :keys, :], v[..., :keys, :])
                alone = kernels.attention(q[..., 7:8, :], k[..., :keys, :], v[..., :keys, :])
                assert_same_bits(together[..., 7:8, :], alone, (d_key, keys))


@compiled
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sentence_among_any_others(name, dtype):
    """Encoder states and the words that follow, alone and at several places of batches of any lengths; more words
    than a vector has keys."""
    config = large_config(d_model=48, d_ff=80, dtype=dtype)
    with backends.using(name):
        model = rtfast.Transformer(config, random_values(config))
    sentence = random_ids(config, 11)
    states, words = model.encode(sentence), model.generate(sentence, 20, return_dict_in_generate=True)
    for batch in (2, 3, 9, 33, 64):
        for place in {0, batch // 2, batch - 1}:
            sentences = [random_ids(config, 1 + 7 * i % 23, seed=i) for i in range(batch)]
            sentences[place] = sentence
            assert_same_bits(model.encode(sentences)[place], states, (batch, place))
            found = model.generate(sentences, 20, return_dict_in_generate=True)
            assert found[place] == words, (batch, place)  # the score too, to the last bit


@compiled
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cached_steps_and_whole_sentences(name, dtype):
    """A token's logits are the same computed with its prefix at once as with each longer sentence."""
    config = large_config(d_model=48, d_ff=80, dtype=dtype)
    with backends.using(name):
        model = rtfast.Transformer(config, random_values(config))
    source, target = random_ids(config, 9), random_ids(config, 40, seed=1)
    whole = model.logits(source, target)
    for length in (1, 2, 12, 13, 39):
        assert_same_bits(model.logits(source, target[:length]), whole[:length], length)
    written = model.generate(source, 12)
    for i in range(1, len(written)):  # greedy with a cache = greedy from scratch
        logits = model.logits(source, [config.sos_id, *written[:i]])
        assert int(logits[-1].argmax()) == written[i]


def digest(name):
    """A hash of the bits of every row function, one model and both dtypes."""
    found = hashlib.sha256()
    with backends.using(name):
        for dtype in ("float32", "float64"):
            for function in row_functions(dtype).values():
                found.update(function(rows_of(dtype)).tobytes())
            config = large_config(d_model=48, d_ff=80, dtype=dtype)
            model = rtfast.Transformer(config, random_values(config))
            found.update(model.logits(random_ids(config, 20), random_ids(config, 9, seed=1)).tobytes())
    return found.hexdigest()


@compiled
def test_run_to_run_and_process_to_process(name):
    """Also where malloc fills memory with 0x55 and with 0xAA (glibc): nothing uninitialised counts."""
    expected = digest(name)
    assert digest(name) == expected
    code = f"from test_company import digest; print(digest({name!r}))"
    for perturb, threads in (("0", "1"), ("85", "2"), ("255", "3")):
        assert printed(code, MALLOC_PERTURB_=perturb, RTFAST_NUM_THREADS=threads) == [expected], perturb


def test_builds_with_fused_multiply_add_agree():
    names = [name for name in COMPILED if name in ("avx512", "avx2", "neon")]
    if len(names) < 2:
        pytest.skip("needs two builds with a fused multiply-add")
    assert len({digest(name) for name in names}) == 1
