"""Whole models against the plain transformer: every choice of the config, form of input and error."""

import copy
import dataclasses
import functools
import math
import pickle

import numpy as np
import pytest
from cases import assert_same_bits
from models import (
    SMALL,
    assert_close,
    assert_greedy,
    ragged_ids,
    random_ids,
    random_model,
    random_values,
    small_config,
)
from plain_transformer import PlainTransformer

import rtfast
from rtfast.weights import random_weights, weight_shapes

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

#: One departure from SMALL each, then a few together.
CHOICES = {
    "as the paper": {},
    "one head": {"n_heads": 1},
    "narrow heads": {"d_key": 2, "d_value": 1},
    "heads wider than a panel": {"d_key": 70, "d_value": 65},
    "odd width": {"d_model": 7, "n_heads": 3, "d_key": 3, "d_value": 5, "d_ff": 9},
    "width one": {"d_model": 1, "n_heads": 1, "d_ff": 1, "attention_bias": True},
    "width beyond a panel": {"d_model": 67, "n_heads": 1, "d_ff": 131, "vocab_size": 70},
    "a sum of two chunks": {"d_model": 260, "n_heads": 2, "d_ff": 517},
    "attention biases": {"attention_bias": True},
    "no biases": {"feed_forward_bias": False, "output_bias": False},
    "tied": {"tie_embeddings": True},
    "tied, no output bias": {"tie_embeddings": True, "output_bias": False},
    "no activation": {"activation": None},
    "gelu": {"activation": "gelu"},
    "gelu_tanh": {"activation": "gelu_tanh"},
    "silu": {"activation": "silu"},
    "no residual": {"residual": False},
    "no norm": {"norm": False},
    "neither": {"residual": False, "norm": False},
    "large eps": {"layer_norm_eps": 0.1},
    "article's norm": {"article_layer_norm": True, "layer_norm_eps": 0.1},
    "article's positions": {"article_positional_encoding": True},
    "article's softmax": {"article_softmax": True},
    "embedding scale": {"embedding_scale": math.sqrt(12)},
    "attention scale": {"attention_scale": 1 / 30},
    "no encoder layers": {"n_encoder_layers": 0},
    "no decoder layers": {"n_decoder_layers": 0},
    "no layers": {"n_encoder_layers": 0, "n_decoder_layers": 0},
    "uneven layers": {"n_encoder_layers": 1, "n_decoder_layers": 3},
    "Marian's": {"tie_embeddings": True, "attention_bias": True, "activation": "silu",
                 "embedding_scale": math.sqrt(12)},
    "nearly the article's": {
        "d_model": 4, "n_heads": 2, "d_key": 3, "d_value": 3, "d_ff": 8, "vocab_size": 10,
        "article_layer_norm": True, "article_positional_encoding": True, "article_softmax": True},
}


@functools.cache
def expected(config, source_length, target_length, seed=0):
    """The plain transformer, ids, and what it computes of them: the same for every backend."""
    plain = PlainTransformer(config, random_values(config, seed))
    source, target = random_ids(config, source_length, seed), random_ids(config, target_length, seed + 1)
    states = plain.encode(source)
    return plain, source, target, states, plain.decode(states, target)


def assert_as_expected(config, source_length, target_length, seed=0, tolerance=None):
    """The model, once its states and logits are those of the plain transformer."""
    _, source, target, states, logits = expected(config, source_length, target_length, seed)
    model = rtfast.Transformer(config, random_values(config, seed))
    assert_close(model.encode(source), states, config.dtype, f"encode, {config}", tolerance)
    assert_close(model.logits(source, target), logits, config.dtype, f"logits, {config}", tolerance)
    return model


@both_dtypes
@pytest.mark.parametrize("fields", CHOICES.values(), ids=CHOICES.keys())
def test_every_choice_of_the_config(backend, fields, dtype):
    config = small_config(**fields, dtype=dtype)
    model = assert_as_expected(config, 9, 6)
    plain, source, *_ = expected(config, 9, 6)
    generated = model.generate(source, max_new_tokens=8)
    assert_greedy(plain, source, generated, 8)
    if dtype == "float64":
        assert generated == plain.generate(source, 8)


def test_every_field_of_the_config_makes_a_difference():
    """Else the test above would pass with a field that both sides forgot."""
    base = small_config(attention_bias=True, dtype="float64")
    weights = random_values(base)
    source, target = random_ids(base, 9), [1, 4, 5]

    def run(**fields):
        config = dataclasses.replace(base, **fields)
        names = rtfast.weights.weight_shapes(config)
        return PlainTransformer(config, {name: weights[name] for name in names}).logits(source, target)

    expected = run()
    for fields in (
            {"attention_bias": False}, {"feed_forward_bias": False}, {"output_bias": False},
            {"residual": False}, {"norm": False}, {"layer_norm_eps": 0.1}, {"tie_embeddings": True},
            {"article_layer_norm": True, "layer_norm_eps": 0.1}, {"article_positional_encoding": True},
            {"embedding_scale": 2.0}, {"attention_scale": 1 / 30}, {"n_encoder_layers": 1},
            {"n_decoder_layers": 1}, {"activation": None}, {"activation": "gelu"}, {"activation": "silu"}):
        assert np.abs(run(**fields) - expected).max() > 1e-3, fields
    assert np.abs(run(activation="gelu_tanh") - run(activation="gelu")).max() > 1e-6


@both_dtypes
@pytest.mark.parametrize("length", [1, 2, 13, 65, 257, 600])
def test_lengths(backend, length, dtype):
    """One key, and more than the 256 that are summed at a time."""
    config = small_config(max_length=600, n_encoder_layers=1, n_decoder_layers=1, dtype=dtype)
    assert_as_expected(config, length, length)


@pytest.mark.parametrize("source_length, target_length", [(1, 70), (70, 1), (3, 258), (258, 3)])
def test_source_and_target_of_different_lengths(backend, source_length, target_length):
    config = small_config(max_length=260, n_encoder_layers=1, n_decoder_layers=1, dtype="float64")
    assert_as_expected(config, source_length, target_length)


def chosen_at_random(seed):
    """A config that nobody thought of, in float64."""
    random = np.random.default_rng(seed)

    def one_of(*choices):
        return choices[random.integers(len(choices))]

    switches = ("attention_bias", "feed_forward_bias", "output_bias", "residual", "norm", "tie_embeddings",
                "article_layer_norm", "article_positional_encoding")
    return small_config(
        vocab_size=one_of(4, 17, 64, 65, 130), d_model=one_of(1, 2, 3, 8, 31, 64, 65, 130),
        n_heads=one_of(1, 2, 3, 5), d_key=one_of(1, 2, 3, 17, 64, 65), d_value=one_of(1, 2, 3, 17, 64, 65),
        d_ff=one_of(1, 7, 64, 129, 300), embedding_scale=one_of(0.5, 1.0, 3.0),
        n_encoder_layers=one_of(0, 1, 2), n_decoder_layers=one_of(0, 1, 2),
        activation=one_of(None, "relu", "gelu", "gelu_tanh", "silu"), attention_scale=one_of(None, 0.1),
        layer_norm_eps=one_of(1e-5, 0.1), max_length=130, dtype="float64",
        **{name: bool(random.integers(3)) for name in switches})


@pytest.mark.parametrize("seed", range(40))
def test_random_configs(backend, seed):
    config = chosen_at_random(seed)
    lengths = np.random.default_rng(seed).integers(1, (130, 70)).tolist()
    model = assert_as_expected(config, *lengths, seed=seed, tolerance=1e-11)
    if backend != "python":
        _, source, target, *_ = expected(config, *lengths, seed=seed)
        batch = [target, source, target[:1]]
        assert_same_bits(model.encode(batch)[1], model.encode(source), config)
        assert_same_bits(model.logits(batch, [target] * 3)[1], model.logits(source, target), config)


# Forms of input

@pytest.fixture
def padded(backend):
    """A model with a pad_id, and the plain transformer of the same values."""
    return random_model(small_config(pad_id=0, dtype="float64"))


def test_a_batch(padded):
    model, plain = padded
    sources, targets = random_ids(model.config, (5, 6)), random_ids(model.config, (5, 4), seed=1)
    states, logits = model.encode(sources), model.logits(sources, targets)
    assert states.shape == (5, 6, 12) and logits.shape == (5, 4, 13)
    for b in range(5):
        assert_close(states[b], plain.encode(sources[b]), "float64")
        assert_close(logits[b], plain.logits(sources[b], targets[b]), "float64")
    assert model.generate(sources, max_new_tokens=5) == [plain.generate(row, 5) for row in sources]


def test_a_list_of_sentences_of_several_lengths(padded):
    model, plain = padded
    sources, targets = ragged_ids(model.config, (3, 1, 9)), ragged_ids(model.config, (2, 4, 1), seed=7)
    states, logits = model.encode(sources), model.logits(sources, targets)
    assert isinstance(states, list) and isinstance(logits, list)
    for b in range(3):
        assert_close(states[b], plain.encode(sources[b]), "float64")
        assert_close(logits[b], plain.logits(sources[b], targets[b]), "float64")
    assert model.generate(sources, max_new_tokens=5) == [plain.generate(row, 5) for row in sources]


def test_padding_is_no_part_of_a_sentence(padded):
    model, plain = padded
    sources = np.array([[5, 6, 7, 0, 0], [3, 0, 0, 0, 0], [4, 5, 6, 7, 8], [3, 0, 4, 0, 0]])  # one 0 within
    targets = np.array([[1, 3, 0], [1, 4, 5], [1, 0, 0], [1, 0, 3]])
    states, logits = model.encode(sources), model.logits(sources, targets)
    words = [([5, 6, 7], [1, 3]), ([3], [1, 4, 5]), ([4, 5, 6, 7, 8], [1]), ([3, 0, 4], [1, 0, 3])]
    for b, (source, target) in enumerate(words):
        assert_close(states[b, :len(source)], plain.encode(source), "float64")
        assert_close(logits[b, :len(target)], plain.logits(source, target), "float64")
        assert not states[b, len(source):].any() and not logits[b, len(target):].any()
    generated = model.generate(sources, max_new_tokens=5)
    assert generated == [plain.generate(source, 5) for source, _ in words]
    assert_same_bits(model.encode([5, 6, 7, 0, 0]), model.encode([5, 6, 7]))


def test_padding_that_is_eos_begins_with_the_sentence_s_own(backend):
    model, plain = random_model(small_config(pad_id=2, eos_id=2, sos_id=1, dtype="float64"))
    sources = np.array([[5, 6, 2, 2, 2], [3, 4, 5, 6, 2], [3, 4, 5, 6, 7], [2, 2, 2, 2, 2]])
    targets = np.array([[1, 3, 2, 2], [1, 4, 5, 2], [1, 3, 4, 5], [1, 2, 2, 2]])
    states, logits = model.encode(sources), model.logits(sources, targets)
    words = [([5, 6, 2], [1, 3, 2]), ([3, 4, 5, 6, 2], [1, 4, 5, 2]), ([3, 4, 5, 6, 7], [1, 3, 4, 5]), ([2], [1, 2])]
    for b, (source, target) in enumerate(words):
        assert_close(states[b, :len(source)], plain.encode(source), "float64")
        assert_close(logits[b, :len(target)], plain.logits(source, target), "float64")
        assert not states[b, len(source):].any() and not logits[b, len(target):].any()
    assert model.generate(sources, max_new_tokens=5) == [plain.generate(source, 5) for source, _ in words]
    ends = [model.score(source, [*target[1:], 2, 2]) for source, target in words]
    assert ends == [model.score(source, [*target[1:], *[2] * (target[-1] != 2)]) for source, target in words]


def test_without_a_pad_id_every_id_is_a_word(backend):
    model, plain = random_model(small_config(dtype="float64"))
    assert_close(model.encode([5, 6, 0, 0]), plain.encode([5, 6, 0, 0]), "float64")


@pytest.mark.parametrize("form", [
    list, tuple, np.array, lambda ids: np.array(ids, np.uint8), lambda ids: np.array(ids, np.int16),
    lambda ids: np.repeat(ids, 2)[::2], lambda ids: [np.int64(i) for i in ids]])
def test_every_kind_of_integers(form):
    model, _ = random_model(small_config())
    ids = [3, 4, 12, 5]
    assert_same_bits(model.encode(form(ids)), model.encode(ids))
    assert_same_bits(model.encode([form(ids), form(ids)]), np.stack([model.encode(ids)] * 2))
    assert model.generate(form(ids), max_new_tokens=3) == model.generate(ids, max_new_tokens=3)


def test_inputs_are_left_alone():
    model, _ = random_model(small_config(pad_id=0))
    ids = np.array([[3, 4, 0], [5, 6, 7]])
    before = ids.copy()
    ids.flags.writeable = False
    model.encode(ids)
    model.logits(ids, ids)
    model.generate(ids, max_new_tokens=3)
    model.trace(ids[1:], ids[1:])
    assert np.array_equal(ids, before)


def test_results_belong_to_the_caller(backend):
    """A later run must not change them, nor they a later run."""
    model, _ = random_model(small_config())
    states = model.encode([3, 4, 5])
    logits = model.logits([3, 4, 5], [1, 6])
    kept = states.copy(), logits.copy()
    model.encode([6, 7, 8])
    model.logits([6, 7, 8], [1, 9])
    assert_same_bits(states, kept[0])
    assert_same_bits(logits, kept[1])
    states[...] = np.nan
    assert_same_bits(model.encode([3, 4, 5]), kept[0])


def test_text(backend):
    config = small_config(vocab_size=10, sos_id=6, eos_id=5, dtype="float64")
    weights = random_values(config)
    model = rtfast.Transformer(config, weights, rtfast.WordTokenizer(rtfast.article.VOCABULARY))
    assert_same_bits(model.encode("hello world"), model.encode([0, 2]))
    for one, other in zip(model.encode(["hello world", "how"]), model.encode([[0, 2], [3]]), strict=True):
        assert_same_bits(one, other)
    assert_same_bits(model.logits("hello world", "hola mundo"), model.logits([0, 2], [6, 8, 1]))
    assert_same_bits(model.logits("hello world", ""), model.logits([0, 2], [6]))
    assert model.generate(["hello", "a c"], 4) == model.generate([[0], [7, 9]], 4)


def test_repr_names_the_sizes(backend):
    model, _ = random_model(small_config())
    assert "d_model=12" in repr(model) and f"backend={backend}" in repr(model) and model.backend == backend


# Weights

def test_weights_are_read_only_and_as_given():
    given = random_values(small_config())
    model = rtfast.Transformer(small_config(), given)
    assert list(model.weights) == list(given)
    for name, array in model.weights.items():
        assert_same_bits(array, given[name])
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    expected = model.encode([3, 4])
    for array in given.values():
        array[...] = np.nan  # the model has copies
    assert_same_bits(model.encode([3, 4]), expected)


def test_one_matrix_per_head(backend):
    config = small_config(d_key=5, d_value=2)
    weights = random_values(config)
    by_head = dict(weights)
    for name, array in weights.items():
        if name.endswith(("query.weight", "key.weight", "value.weight")):
            width = array.shape[1] // 3
            by_head[name] = [array[:, h * width:(h + 1) * width] for h in range(3)]
    expected = rtfast.Transformer(config, weights).logits([3, 4, 5], [1, 6])
    assert_same_bits(rtfast.Transformer(config, by_head).logits([3, 4, 5], [1, 6]), expected)


def test_weights_left_out(backend):
    config = small_config(attention_bias=True)
    weights = random_values(config)
    plain = {name: np.full_like(array, {"gamma": 1}.get(name.split(".")[-1], 0))
             if name.endswith((".gamma", ".beta", ".bias")) else array for name, array in weights.items()}
    few = {name: array for name, array in weights.items() if name.endswith(".weight")}
    assert_same_bits(rtfast.Transformer(config, few).logits([3, 4], [1, 5]),
                     rtfast.Transformer(config, plain).logits([3, 4], [1, 5]))


def test_wrong_weights_are_all_named_at_once():
    weights = random_values(small_config())
    del weights["output.weight"]
    weights["encoder.layers.0.feed_forward.hidden.weight"] = np.zeros((12, 21))
    weights["spare"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"1 missing: output\.weight \(12, 13\)") as error:
        rtfast.Transformer(small_config(), weights)
    assert "1 unexpected: 'spare'" in str(error.value)
    assert "hidden.weight is (12, 21), must be (12, 20)" in str(error.value)
    with pytest.raises(TypeError, match="weights must be a mapping"):
        rtfast.Transformer(small_config(), list(weights.values()))


def test_a_tokenizer_of_another_vocabulary():
    config = small_config(vocab_size=9, sos_id=None, eos_id=None)
    with pytest.raises(ValueError, match="tokenizer.*10 words.*vocab_size.*9"):
        rtfast.Transformer(config, random_values(config), rtfast.WordTokenizer(rtfast.article.VOCABULARY))


# Errors: the message names the argument and what was wrong

@pytest.fixture(scope="module")
def model():
    return rtfast.Transformer(small_config(pad_id=0), random_values(small_config()))


BAD_IDS = {
    "a negative id": ([3, -1], ValueError, r"{name}\[1\] is -1, outside the vocabulary of 13 words"),
    "an id too large": ([3, 4, 13], ValueError, r"{name}\[2\] is 13, outside the vocabulary of 13 words"),
    "an id too large in a batch": ([[3, 4], [13, 4]], ValueError, r"{name}\[1\]\[0\] is 13, outside"),
    "2**64 - 1": (np.array([2**64 - 1], np.uint64), ValueError, r"{name}\[0\] is 18446744073709551615, outside"),
    "2**63": ([3, 2**63], ValueError, r"{name}\[1\] is 9223372036854775808, outside the vocabulary"),
    "2**63 in a batch": ([[3], [4, 2**63]], ValueError, r"{name}\[1\]\[1\] is 9223372036854775808, outside"),
    "2**70": ([2**70], ValueError, r"{name}\[0\] is 1180591620717411303424, outside the vocabulary"),
    "10**5000": ([10**5000], ValueError, r"{name}\[0\] is an integer of 16610 bits, outside the vocabulary"),
    "floats": ([3.0, 4.0], TypeError, "{name} must hold integer ids, got float64"),
    "bools": ([True, False], TypeError, "{name} must hold integer ids, got bool"),
    "bytes": ([b"a"], TypeError, "{name} must hold integer ids"),
    "None": (None, TypeError, "{name} must be ids, as a list or array of integers, or text, got NoneType"),
    "bytes alone": (b"ab", TypeError, "{name} must be ids, as a list or array of integers, or text, got bytes"),
    "a set": ({1, 2}, TypeError, "{name} must be ids, .* got set"),
    "an iterator": (iter([3, 4]), TypeError, "{name} must be ids, .* got list_iterator"),
    "a number": (3, ValueError, r"{name} must be ids \(length,\) or \(batch, length\), got shape \(\)"),
    "three axes": (np.zeros((1, 2, 3), int), ValueError, r"{name} must be ids .* got shape \(1, 2, 3\)"),
    "three axes of lists": ([[[3]]], ValueError, r"{name}\[0\] must be a row of ids, got shape \(1, 1\)"),
    "nothing": ([], ValueError, "{name} has no tokens"),
    "no sentence": (np.zeros((0, 3), int), ValueError, "{name} holds no sentence"),
    "an empty sentence": ([[3], []], ValueError, r"{name}\[1\] has no tokens"),
    "padding only": ([[3, 4], [0, 0]], ValueError, r"{name}\[1\] has no tokens"),
    "too long": ([3] * 41, ValueError, "{name} has 41 tokens, more than the model's max_length of 40"),
    "too long in a batch": ([[3], [3] * 41], ValueError, r"{name}\[1\] has 41 tokens, more"),
    "text without a tokenizer": ("hello", ValueError, "{name} is text, but this model has no tokenizer"),
    "texts without a tokenizer": (["hello"], ValueError, "{name} is text, but this model has no tokenizer"),
    "a sentence and a number": ([[3], 4], (TypeError, ValueError), "{name}"),
    "a number and a sentence": ([3, [4]], (TypeError, ValueError), "{name}"),
    "a dict": ({3: 4}, TypeError, "{name} must be ids, .* got dict"),
}


@pytest.mark.parametrize("given, kind, message", BAD_IDS.values(), ids=BAD_IDS.keys())
def test_bad_ids(model, given, kind, message):
    for name, call in (("ids", model.encode), ("src", model.generate), ("src", model.trace),
                       ("src_ids", lambda ids: model.logits(ids, [1])),
                       ("tgt_ids", lambda ids: model.logits([3], ids)),
                       ("tgt", lambda ids: model.trace([3], ids))):
        if name == "tgt" and given is None:
            continue  # no target: the trace generates one
        with pytest.raises(kind, match=message.format(name=name)):
            call(given)


def test_one_object_at_two_depths(model):
    """NumPy 2.4 crashes on this where it is asked for an array of objects."""
    part = range(3)
    for given in ([[[[0, 0], 0], 0, part], part], [[[part, 0], part], part, [[part]]]):
        for _ in range(20):
            with pytest.raises(TypeError, match="must hold integer ids"):
                model.generate(given, 3)


def test_as_many_targets_as_sources(model):
    for source, target, message in (
            ([[3], [4]], [[1]], "as many targets as sources"), ([[3]], [[1], [1]], "as many targets as sources"),
            ([3], [[1]], "must both be one sentence"), ([[3]], [1], "must both be one sentence")):
        with pytest.raises(ValueError, match=message):
            model.logits(source, target)
        with pytest.raises(ValueError, match=message):
            model.trace(source, target)


@pytest.mark.parametrize("limit, kind", [
    (0, ValueError), (-1, ValueError), (41, ValueError), (10**30, ValueError), (3.0, TypeError),
    ("3", TypeError), (True, TypeError), ([3], TypeError)])
def test_bad_max_new_tokens(model, limit, kind):
    with pytest.raises(kind, match="max_new_tokens must be"):
        model.generate([3], max_new_tokens=limit)
    with pytest.raises(kind, match="max_new_tokens must be"):
        model.trace([3], max_new_tokens=limit)


def test_generating_needs_a_sos_id():
    config = small_config(sos_id=None)
    model, _ = random_model(config)
    for call in (model.generate, model.trace):
        with pytest.raises(ValueError, match="the config has no sos_id to start from"):
            call([3, 4])
    model.logits([3, 4], [1])  # the caller's own start


def test_translating_needs_a_tokenizer(model):
    with pytest.raises(ValueError, match="translate: this model has no tokenizer"):
        model.translate("hello")


def test_unknown_words_are_named():
    config = small_config(vocab_size=10, sos_id=6, eos_id=5)
    model = rtfast.Transformer(config, random_values(config), rtfast.WordTokenizer(rtfast.article.VOCABULARY))
    with pytest.raises(ValueError, match="'goodbye' is not in the vocabulary"):
        model.encode("hello goodbye")
    with pytest.raises(TypeError, match="ids must be all text or all ids, got int"):
        model.encode(["hello", 3])
    with pytest.raises(ValueError, match="ids has no tokens"):
        model.encode("  ")


def test_an_error_leaves_the_model_usable(model):
    expected = model.logits([3, 4], [1, 5])
    for bad in ([99], [], [3.5]):
        with pytest.raises((TypeError, ValueError)):
            model.logits([3, 4], bad)
        assert_same_bits(model.logits([3, 4], [1, 5]), expected)


def test_the_longest_sentence_that_fits(model):
    assert model.encode([3] * SMALL["max_length"]).shape == (40, 12)
    assert model.logits([3], [4] * 40).shape == (40, 13)


def test_translate_takes_text():
    model = rtfast.Transformer.random(rtfast.Config.article(), vocabulary=rtfast.article.VOCABULARY)
    for given in ([1, 2], ["hello", 2]):
        with pytest.raises(TypeError, match="text must be a string or a list of strings"):
            model.translate(given)


# What no model is made of, and what becomes of one

def test_what_no_model_is_made_of(model):
    config, weights = model.config, model.weights
    for wrong in (None, 3, {}):
        for function, call in (("Transformer", lambda c: rtfast.Transformer(c, weights)),
                               (r"Transformer\.random", rtfast.Transformer.random), ("weight_shapes", weight_shapes),
                               ("random_weights", lambda c: random_weights(c, 0))):
            with pytest.raises(TypeError, match=f"^{function}: config must be a Config, got {type(wrong).__name__}$"):
                call(wrong)
    for wrong, missing in ((3, "encode"), ("abc", "encode_target"), (object(), "encode")):
        with pytest.raises(TypeError, match=rf"tokenizer must have encode\(text\), .* without {missing}$"):
            rtfast.Transformer(config, weights, wrong)
    for wrong in (3, [1]):
        with pytest.raises(TypeError, match="generation must be a dict of options, a GenerationOptions or None, got"):
            rtfast.Transformer(config, weights, generation=wrong)
    for seed, kind in ((-1, ValueError), ("a", TypeError), (1.5, TypeError)):
        with pytest.raises(kind, match=f"random_weights: seed must be an integer >= 0, got {seed!r}"):
            rtfast.Transformer.random(config, seed)


def test_copies(model):
    assert np.array_equal(copy.copy(model).encode([3, 4]), model.encode([3, 4]))
    for call in (pickle.dumps, copy.deepcopy):
        for what in (model, model.trace([3], [1])):
            with pytest.raises(TypeError, match=r"a Transformer cannot be pickled or copied deeply: .*model\.save"):
                call(what)
