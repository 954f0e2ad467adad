"""Greedy generation: the plain transformer's words, whoever else is in the batch, cached or computed anew."""

import dataclasses
import functools
import warnings

import numpy as np
import pytest
from cases import assert_same_bits, skip_unless_bits_are_promised
from models import (
    assert_greedy,
    large_config,
    ragged_ids,
    random_ids,
    random_model,
    random_values,
    ready_to_decode,
    small_config,
)

import rtfast
from rtfast.model import DECODER
from rtfast.workspace import Workspace

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

#: Vocabulary, seed, EOS and embedding scale with which 20 sentences end at many different steps.
TALKATIVE = {"5 words": (5, 3, 3, 3.0), "13 words": (13, 4, 6, 0.7), "200 words": (200, 4, 76, 1.5),
             "200 other words": (200, 2, 195, 0.7)}
LIMIT = 30


def talkative(name, dtype="float64"):
    """A model whose sentences end at many steps, its plain twin, and 20 source sentences."""
    vocab_size, seed, eos, scale = TALKATIVE[name]
    config = small_config(
        vocab_size=vocab_size, eos_id=eos, embedding_scale=scale, output_bias=False, dtype=dtype)
    model, plain = random_model(config, seed)
    random = np.random.default_rng(0)
    return model, plain, [random.integers(3, vocab_size, n).tolist() for n in random.integers(1, 9, 20)]


@functools.cache
def expected_words(name):
    """What the plain transformer generates from the 20 sentences: the same for every backend."""
    _, plain, sources = talkative(name)
    return [plain.generate(source, LIMIT) for source in sources]


def alone(model, sources, limit):
    return [model.generate(source, limit) for source in sources]


# Against the plain transformer, which computes everything anew for each word

@pytest.mark.parametrize("name", TALKATIVE)
def test_the_argmax_loop(backend, name):
    model, _, sources = talkative(name)
    generated = model.generate(sources, LIMIT)
    assert generated == expected_words(name)
    lengths = {len(ids) for ids in generated}
    assert len(lengths) > 5 and LIMIT in lengths  # else this would test no sentence that leaves the batch


@pytest.mark.parametrize("name", TALKATIVE)
def test_the_argmax_loop_in_float32(backend, name):
    model, plain, sources = talkative(name, "float32")
    for source, ids in zip(sources, model.generate(sources, LIMIT), strict=True):
        assert_greedy(plain, source, ids, LIMIT)


@pytest.mark.parametrize("seed", range(8))
def test_other_seeds(backend, seed):
    config = small_config(vocab_size=40 + seed, max_length=12, embedding_scale=1.5, attention_bias=True,
                          tie_embeddings=bool(seed % 2), dtype="float64")
    model, plain = random_model(config, seed)
    sources = ragged_ids(config, (1, 5, 12), seed)
    assert model.generate(sources) == [plain.generate(source, 12) for source in sources]


def test_past_a_panel_of_keys(backend):
    """More words than the 64 keys that lie side by side in a cache, and than the 256 summed at a time."""
    config = small_config(max_length=280, n_encoder_layers=1, n_decoder_layers=1, embedding_scale=1.5,
                          eos_id=None, dtype="float64")
    model, plain = random_model(config, 2)
    source = random_ids(config, 270).tolist()
    generated = model.generate(source)
    assert len(generated) == 280 and len(set(generated)) > 1
    logits = plain.logits(source, [config.sos_id, *generated[:-1]])  # causal: row t is that of the t-th step
    assert logits.argmax(axis=1).tolist() == generated


# When it ends

@pytest.mark.parametrize("limit", [1, 2, 7, 39, 40])
def test_max_new_tokens(backend, limit):
    model, _ = random_model(small_config(eos_id=None))
    longest = model.generate([[3, 4], [5]])
    assert [len(ids) for ids in longest] == [40, 40]  # without a limit, all positions that there are
    assert model.generate([[3, 4], [5]], limit) == [ids[:limit] for ids in longest]
    assert model.generate([3, 4], max_new_tokens=limit) == longest[0][:limit]


def test_it_ends_with_the_first_eos(backend):
    model, _, sources = talkative("200 words")
    endless = rtfast.Transformer(dataclasses.replace(model.config, eos_id=None), model.weights)
    eos = model.config.eos_id
    for ids, more in zip(model.generate(sources, LIMIT), endless.generate(sources, LIMIT), strict=True):
        assert len(more) == LIMIT
        assert ids == (more[:more.index(eos) + 1] if eos in more else more)


def test_eos_at_the_first_step(backend):
    config = small_config()
    weights = random_values(config)
    weights["output.bias"][config.eos_id] = 1e3
    model = rtfast.Transformer(config, weights)
    assert model.generate([[3], [4, 5]]) == [[config.eos_id]] * 2
    assert model.generate([3, 4]) == [config.eos_id]


def test_finished_sentences_leave_the_batch(backend, monkeypatch):
    model, _, sources = talkative("200 words")
    rows, choose = [], Workspace.choose

    def counted(self, which, ids, *arguments):
        tokens, values = choose(self, which, ids, *arguments)
        assert tokens.shape == values.shape
        rows.extend([len(ids)] * len(tokens))
        return tokens, values

    monkeypatch.setattr(Workspace, "choose", counted)
    lengths = [len(ids) for ids in model.generate(sources, LIMIT)]
    assert rows == [sum(length > t for length in lengths) for t in range(max(lengths))]


@pytest.mark.parametrize("name", TALKATIVE)
def test_many_steps_in_one_call_are_the_steps_one_by_one(backend, name):
    """A callback has to see each token, so that every step is a call of its own."""
    model, _, sources = talkative(name, "float32")
    together = model.generate(sources, LIMIT, return_dict_in_generate=True)
    seen = []
    one_by_one = model.generate(sources, LIMIT, return_dict_in_generate=True,
                                stopping_criteria=lambda ids: seen.append(ids))
    assert together == one_by_one and len(seen) > LIMIT
    assert model.generate(sources, LIMIT) == [hypothesis.ids for hypothesis in together]
    for source, hypothesis in zip(sources, together, strict=True):
        assert list(model.stream(source, LIMIT)) == hypothesis.ids


# Company

@both_dtypes
@pytest.mark.parametrize("name", TALKATIVE)
def test_a_batch_gives_what_each_gives_alone(backend, name, dtype):
    skip_unless_bits_are_promised(backend)
    model, _, sources = talkative(name, dtype)
    assert model.generate(sources, LIMIT) == alone(model, sources, LIMIT)


def test_a_batch_that_is_split(backend):
    """64 sentences are worked on at a time."""
    model, _, _ = talkative("13 words")
    random = np.random.default_rng(1)
    sources = [random.integers(3, 13, n).tolist() for n in random.integers(1, 9, 150)]
    assert model.generate(sources, LIMIT) == alone(model, sources, LIMIT)


@both_dtypes
@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 150])
def test_encode_and_logits_have_equal_bits_in_any_batch(backend, n, dtype):
    skip_unless_bits_are_promised(backend)
    config = small_config(dtype=dtype)
    model, _ = random_model(config)
    lengths = np.random.default_rng(n).integers(1, 9, (2, n))
    sources, targets = ragged_ids(config, lengths[0]), ragged_ids(config, lengths[1], seed=500)
    states, logits = model.encode(sources), model.logits(sources, targets)
    for b, (source, target) in enumerate(zip(sources, targets, strict=True)):
        assert_same_bits(states[b], model.encode(source), b)
        assert_same_bits(logits[b], model.logits(source, target), b)


@both_dtypes
def test_equal_bits_at_every_place_of_a_batch(backend, dtype):
    skip_unless_bits_are_promised(backend)
    config = large_config(n_encoder_layers=1, n_decoder_layers=1, dtype=dtype)
    model, _ = random_model(config)
    source, target = random_ids(config, 11), random_ids(config, 7, seed=1)
    states, logits, generated = model.encode(source), model.logits(source, target), model.generate(source, 6)
    others = ragged_ids(config, (3, 20, 11, 1, 17, 64, 2), seed=50)
    for place in range(8):
        batch = [*others[:place], source, *others[place:]]
        assert_same_bits(model.encode(batch)[place], states, place)
        assert_same_bits(model.logits(batch, [target] * 8)[place], logits, place)
        assert model.generate(batch, 6)[place] == generated


def test_the_order_of_a_batch(backend):
    model, _, sources = talkative("200 words")
    generated = model.generate(sources, LIMIT)
    order = np.random.default_rng(0).permutation(20)
    assert model.generate([sources[i] for i in order], LIMIT) == [generated[i] for i in order]


def test_padding_changes_no_bit(backend):
    skip_unless_bits_are_promised(backend)
    model, _ = random_model(small_config(pad_id=0))
    source, target = [5, 6, 7], [1, 8]
    states, logits = model.encode(source), model.logits(source, target)
    generated = model.generate(source, 10)
    for width in (3, 4, 9, 40):
        padded, padded_target = source + [0] * (width - 3), target + [0] * (width - 3)
        batch, targets = [padded, [8] * width], [padded_target, [9] * len(padded_target)]
        assert_same_bits(model.encode(batch)[0, :3], states)
        assert_same_bits(model.logits(batch, targets)[0, :2], logits)
        assert model.generate(batch, 10)[0] == generated


def poisoned(dtype):
    """A model in which word 3 is NaN, and its healthy twin."""
    config = small_config(dtype=dtype)
    weights = random_values(config)
    healthy = rtfast.Transformer(config, weights)
    weights["embedding.weight"][3] = np.nan
    return rtfast.Transformer(config, weights), healthy


@both_dtypes
def test_nan_stays_in_its_sentence(backend, dtype):
    """Neither its neighbours in the batch nor what runs later in the same memory has a bit changed."""
    model, healthy = poisoned(dtype)
    good, bad, targets = [[4, 5, 6], [7, 8]], [9, 3, 10, 11, 12, 4, 5], [[1, 4], [1, 5], [1, 6]]
    states, logits = healthy.encode(good), healthy.logits(good, [targets[0], targets[2]])
    generated = healthy.generate(good, 10)
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="first in encoder.embedding"):
            got = model.encode([good[0], bad, good[1]])
        assert np.isnan(got[1]).all()
        with pytest.warns(RuntimeWarning, match="first in encoder.embedding"):
            got_logits = model.logits([good[0], bad, good[1]], targets)
        with pytest.warns(RuntimeWarning, match="first in encoder.embedding"):
            got_generated = model.generate([good[0], bad, good[1]], 10)
        for place, b in ((0, 0), (2, 1)):
            assert np.allclose(got[place], states[b], rtol=1e-5)
            assert np.allclose(got_logits[place], logits[b], rtol=1e-5, atol=1e-5)
            assert got_generated[place] == generated[b]
            if backend != "python":
                assert_same_bits(got[place], states[b])
                assert_same_bits(got_logits[place], logits[b])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for b in range(2):
                assert np.allclose(model.encode(good[b]), states[b], rtol=1e-5)
                assert model.generate(good[b], 10) == generated[b]


# Cached and computed anew

def cached_logits(model, source, ids):
    """The logits (T, vocab_size) of decode steps that read `ids` (T,) one at a time, as generate does."""
    workspace, rows = ready_to_decode(model, [source], len(ids)), []
    for word in ids:
        workspace.step(DECODER, [word])
        rows.append(workspace.result(DECODER, "logits")[0])
    return np.array(rows)


@both_dtypes
@pytest.mark.parametrize("fields", [
    {}, {"d_key": 70, "d_value": 65}, {"d_key": 90}, {"n_heads": 1, "d_model": 7, "tie_embeddings": True},
    {"attention_bias": True, "article_softmax": True}], ids=["small", "wide heads", "wide keys", "odd", "biases"])
def test_cached_steps_have_the_bits_of_a_full_run(backend, fields, dtype):
    config = small_config(**fields, max_length=270, dtype=dtype)
    model, _ = random_model(config)
    source, target = random_ids(config, 20), random_ids(config, 265, seed=1)
    cached, full = cached_logits(model, source, target), model.logits(source, target)
    if backend == "python":
        assert np.allclose(cached, full, rtol=1e-4, atol=1e-5)
    else:
        assert_same_bits(cached, full)


@both_dtypes
def test_every_prefix_of_a_target_gives_the_same_bits(backend, dtype):
    """What comes later has no influence: that is what makes a cache possible."""
    skip_unless_bits_are_promised(backend)
    model, _, sources = talkative("200 words", dtype)
    for source in sources[:5]:
        generated = model.generate(source, LIMIT)
        target = [model.config.sos_id, *generated[:-1]]
        full = model.logits(source, target)
        assert full.argmax(axis=1).tolist() == generated
        assert_same_bits(model.trace(source, target)["logits"], full)
        assert_same_bits(model.trace(source, max_new_tokens=LIMIT)["logits"], full)
        for length in range(1, len(target)):
            assert_same_bits(model.logits(source, target[:length]), full[:length], length)


def test_memory_that_is_used_again(backend):
    """Sentences of many lengths through one model give what a new model gives."""
    model, _ = random_model(small_config())
    for seed, length in enumerate((40, 1, 17, 3, 40, 2, 33)):
        source, target = random_ids(model.config, length, seed), random_ids(model.config, 41 - length, seed)
        new = rtfast.Transformer(model.config, model.weights)
        assert_same_bits(model.encode(source), new.encode(source))
        assert_same_bits(model.logits(source, target), new.logits(source, target))
        assert model.generate(source) == new.generate(source)


# Text

def test_translate(backend):
    words = [f"w{i}" for i in range(11)] + ["SOS", "EOS"]
    config = small_config(sos_id=11, eos_id=12, dtype="float64")
    weights = random_values(config)
    model = rtfast.Transformer(config, weights, rtfast.WordTokenizer(words))
    generated = model.generate([[3, 4], [5]], 6)
    expected = [" ".join(words[i] for i in ids if i < 11) for ids in generated]
    assert model.translate("w3 w4", 6) == expected[0]
    assert model.translate(["w3 w4", "w5"], max_new_tokens=6) == expected
    assert model.translate(("w5",), 6) == expected[1:]
    weights["output.bias"][12] = 1e3
    silent = rtfast.Transformer(config, weights, rtfast.WordTokenizer(words))
    assert silent.translate("w3") == "" and silent.translate(["w3", "w4"]) == ["", ""]


def test_generated_ids_are_plain_integers(backend):
    model, _ = random_model(small_config())
    assert all(type(i) is int for i in model.generate([3, 4], 5))
    assert all(type(i) is int for i in model.generate(np.array([[3, 4]]), 5)[0])


def test_a_decoder_that_starts_with_padding(backend):
    """Marian's models: pad_id starts every target."""
    config = small_config(sos_id=0, pad_id=0, dtype="float64")
    model, plain = random_model(config)
    generated = model.generate([3, 4, 5], 6)
    assert generated == plain.generate([3, 4, 5], 6)
    trace = model.trace([3, 4, 5], [0, *generated[:-1]])
    assert_same_bits(model.trace([3, 4, 5], max_new_tokens=6)["logits"], trace["logits"])
    assert np.allclose(model.logits([3, 4, 5], [0]), plain.logits([3, 4, 5], [0]), rtol=1e-12)
