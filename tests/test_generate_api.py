"""`generate`, `translate`, `stream` and `score`: forms of arguments and results, options, generation_config.json."""

import json
import warnings

import numpy as np
import pytest
from models import (
    model_of_fewer_words,
    model_with_logits,
    ragged_ids,
    random_ids,
    random_model,
    random_values,
    small_config,
)

import rtfast
from rtfast import GenerationOptions, Hypothesis
from rtfast.article import VOCABULARY
from rtfast.streaming import stream_text
from rtfast.subwords.missing import MissingTokenizer


@pytest.fixture(scope="module")
def model():
    return random_model(small_config(dtype="float64", embedding_scale=1.5))[0]


@pytest.fixture(scope="module")
def speaker():
    return rtfast.load()


SENTENCES = ["the red house", "hello world", "two hundred tables", "my brother reads the book"]


# Forms

def test_ids_that_the_tokenizer_has_no_word_for():
    model = model_of_fewer_words()
    assert model.generate("w4 w5") == [9, 3, 10, 2]
    assert model.translate("w4 w5") == "w3" and model.translate(["w4 w5"] * 2) == ["w3"] * 2
    assert "".join(model.stream("w4 w5")) == "w3"
    assert model.generate([4, 5], return_dict_in_generate=True).text == "w3"
    model.tokenizer = MissingTokenizer("tokenizers")
    assert model.generate([4, 5], return_dict_in_generate=True).text is None


def test_forms_of_results(model):
    one, many = [3, 4, 5], [[3, 4, 5], [6], [7, 8]]
    beams = {"num_beams": 3, "num_return_sequences": 2}
    assert model.generate(many, 5)[0] == model.generate(one, 5)
    assert [len(row) for row in model.generate(many, 5, **beams)] == [2, 2, 2]
    assert model.generate(one, 5, **beams) == model.generate(many, 5, **beams)[0]
    hypothesis = model.generate(one, 5, return_dict_in_generate=True)
    assert isinstance(hypothesis, Hypothesis) and hypothesis.ids == model.generate(one, 5)
    assert hypothesis.text is None and hypothesis.attention is None
    rows = model.generate(many, 5, return_dict_in_generate=True, **beams)
    assert all(isinstance(h, Hypothesis) and type(h.score) is float for row in rows for h in row)
    assert all(row[0].score >= row[1].score for row in rows)


def test_text(speaker):
    found = speaker.translate(SENTENCES, num_beams=2, num_return_sequences=2, return_dict_in_generate=True)
    assert [row[0].text for row in found] == speaker.translate(SENTENCES, num_beams=2)
    assert speaker.translate(SENTENCES[0], num_beams=2, num_return_sequences=2) == [h.text for h in found[0]]
    assert speaker.translate(tuple(SENTENCES)) == speaker.translate(SENTENCES)
    for bad in (5, None, [1, 2], ["a", 3], {"a": 1}):
        with pytest.raises(TypeError, match="text must be a string or a list of strings"):
            speaker.translate(bad)


def test_order_and_batches(model):
    sources = ragged_ids(model.config, np.random.default_rng(0).integers(1, 40, 150))
    expected = model.generate(sources, 5)
    assert expected == [model.generate(source, 5) for source in sources]
    for tokens in (1, 50, 10**6):
        assert model.generate(sources, 5, max_batch_tokens=tokens) == expected
    for bad, kind in ((0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError), ("1", TypeError)):
        with pytest.raises(kind, match="max_batch_tokens must be"):
            model.generate([3], max_batch_tokens=bad)


def test_sources_that_are_too_long(model):
    source = random_ids(model.config, 45).tolist()
    with pytest.raises(ValueError, match=r"src has 45 tokens.* max_length of 40 \(truncation=True cuts it\)"):
        model.generate(source, 3)
    assert model.generate(source, 3, truncation=True) == model.generate(source[:39] + source[-1:], 3)
    assert model.generate([source, [3]], 3, truncation=True)[1] == model.generate([3], 3)
    with pytest.raises(TypeError, match="truncation must be True or False"):
        model.generate(source, 3, truncation=1)


def test_given_beginnings(model):
    sos, sources = model.config.sos_id, [[3, 4], [5, 6, 7], [8]]
    begun = model.generate(sources, 4, decoder_input_ids=[9, 10])
    assert all(ids[:2] == [9, 10] and len(ids) <= 6 for ids in begun)
    assert model.generate(sources, 4, decoder_input_ids=[sos, 9, 10]) == begun
    assert model.generate(sources, 4, decoder_input_ids=[[9, 10]] * 3) == begun
    assert model.generate(sources, 4, decoder_input_ids=[]) == model.generate(sources, 4)
    mixed = model.generate(sources, 4, decoder_input_ids=[[9, 10], [], [4] * 35])  # of several lengths
    assert mixed[0] == begun[0] and mixed[1] == model.generate(sources[1], 4)
    assert mixed[2] == model.generate(sources[2], 4, decoder_input_ids=[4] * 35)
    for beams in (1, 3):  # what a full pass says after the beginning
        ids = model.generate([3, 4], 1, decoder_input_ids=[9, 10], num_beams=beams)
        assert ids[-1] == model.logits([3, 4], [sos, 9, 10])[-1].argmax()
    with pytest.raises(ValueError, match="one for each of the 3 sources, got 2"):
        model.generate(sources, 4, decoder_input_ids=[[9], [9]])
    with pytest.raises(ValueError, match="outside the vocabulary"):
        model.generate(sources, 4, decoder_input_ids=[10**6])
    with pytest.raises(ValueError, match="40 given tokens leave none|max_new_tokens must be from 1 to"):
        model.generate(sources, 4, decoder_input_ids=[4] * 39)


def test_long_beginnings_of_many_beams(model):
    """More rows of given tokens than of steps."""
    sources = ragged_ids(model.config, [3] * 20)
    prefix = [7] * 30
    expected = [model.generate(source, 3, decoder_input_ids=prefix, num_beams=4) for source in sources]
    assert model.generate(sources, 3, decoder_input_ids=prefix, num_beams=4) == expected
    rows = model.generate(sources, 3, decoder_input_ids=prefix, do_sample=True, seed=1, num_return_sequences=3)
    assert all(ids[:30] == prefix for row in rows for ids in row)


def test_text_that_a_translation_begins_with(speaker):
    assert speaker.translate("the red house", target_prefix="la casa") == "la casa roja"
    found = speaker.translate(SENTENCES[:2], target_prefix=["una", "hola"])
    assert found[0].startswith("una ") and found[1] == "hola mundo"
    with pytest.raises(ValueError, match="target_prefix and decoder_input_ids say the same"):
        speaker.translate("hello", target_prefix="hola", decoder_input_ids=[3])


# While it generates

def test_stopping(model):
    whole, seen = model.generate([3, 4], 12), []
    stopped = model.generate([3, 4], 12, stopping_criteria=lambda ids: seen.append(ids) or len(ids) == 4)
    assert stopped == whole[:4] and seen == [whole[:n] for n in range(1, 5)]
    rows, all_of_it = [[3, 4], [5], [6]], model.generate([[3, 4], [5], [6]], 12)
    stopped = model.generate(rows, 12, stopping_criteria=lambda ids: len(ids) >= 2 + ids[0] % 3)
    assert stopped == [ids[:2 + ids[0] % 3] for ids in all_of_it] and stopped != all_of_it
    with pytest.raises(TypeError, match="stopping_criteria must be callable"):
        model.generate([3], stopping_criteria=3)
    with pytest.raises(ValueError, match="no token is sure before beam search has ended"):
        model.generate([3], num_beams=2, stopping_criteria=len)


def test_an_error_in_a_callback_leaves_the_model_whole(model):
    def fail(ids):
        raise KeyError("mine")

    expected = model.generate([3, 4], 12)
    with pytest.raises(KeyError, match="mine"):
        model.generate([3, 4], 12, stopping_criteria=fail)
    assert model.generate([3, 4], 12) == expected


def test_streaming(model, speaker):
    assert list(model.stream([3, 4], 9)) == model.generate([3, 4], 9)
    assert list(model.stream([3, 4], 4, decoder_input_ids=[9])) == model.generate([3, 4], 4, decoder_input_ids=[9])
    for sentence in SENTENCES:
        pieces = list(speaker.stream(sentence))
        assert "".join(pieces) == speaker.translate(sentence) and len(pieces) > 1
    tokens = model.stream([3, 4], 9)
    next(tokens)
    assert model.generate([5, 6], 5) == random_model(model.config)[0].generate([5, 6], 5)  # in the middle of it
    tokens.close()
    assert list(model.stream([3, 4], 9)) == model.generate([3, 4], 9)
    for options, given, message in (
            ({"num_beams": 2}, [3], "num_beams must be 1, got 2"),
            ({}, [[3]], "src must be one sentence, got a list of 1"),
            ({"do_sample": True, "num_return_sequences": 2}, [3], "num_return_sequences must be 1, got 2")):
        with pytest.raises(ValueError, match=f"stream: {message}"):
            model.stream(given, **options)
    with pytest.raises(ValueError, match="stream: src must be one sentence, got a list of 2"):
        speaker.stream(SENTENCES[:2])


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 1}])
def test_streaming_until_a_criterion_holds(model, options):
    seen = []

    def long_enough(ids):
        seen.append(ids)
        return len(ids) >= 4

    streamed = list(model.stream([3, 4], 9, decoder_input_ids=[9], stopping_criteria=long_enough, **options))
    assert streamed == seen[-1] == model.generate(
        [3, 4], 9, decoder_input_ids=[9], stopping_criteria=long_enough, **options) and len(streamed) == 4
    with pytest.raises(TypeError, match="stopping_criteria must be callable, got int"):
        model.stream([3, 4], stopping_criteria=3)


def test_text_in_place_of_ids(model, speaker):
    for given in ("la", ["la"]):
        with pytest.raises(TypeError, match=r"decoder_input_ids must be ids, got text: .*model\.prefix_ids\(text\)"):
            speaker.generate("the red house", decoder_input_ids=given)
    for given in (3, None, ["la", 3], b"la"):
        with pytest.raises(TypeError, match="text must be a string or a list of strings, got"):
            speaker.prefix_ids(given)
    with pytest.raises(TypeError, match="target_prefix must be a string or a list of strings, got 3"):
        speaker.translate("the red house", target_prefix=3)
    with pytest.raises(ValueError, match="this model has no tokenizer; give decoder_input_ids"):
        model.prefix_ids("la")
    with pytest.raises(TypeError, match="return_tokens must be True or False, got 'x'"):
        model.score([3], [4], return_tokens="x")


# Scores and attention

def test_score(model, speaker):
    source, target = [3, 4], [5, 6, model.config.eos_id]
    logits = model.logits(source, [model.config.sos_id, *target[:-1]])
    exact = logits - logits.max(axis=1, keepdims=True)
    exact = (exact - np.log(np.exp(exact).sum(axis=1, keepdims=True)))[np.arange(3), target]
    assert model.score(source, target) == pytest.approx(exact.sum())
    assert model.score(source, target, return_tokens=True) == pytest.approx(exact)
    batch = model.score([source, [7]], [target, [8]])
    assert batch.shape == (2,) and batch[0] == model.score(source, target)
    assert [len(row) for row in model.score([source, [7]], [target, [8]], return_tokens=True)] == [3, 1]
    right, wrong = speaker.score("the red house", "la casa roja"), speaker.score("the red house", "el casa roja")
    assert right > -0.1 and wrong < -3
    best = speaker.translate("the red house", return_dict_in_generate=True)
    assert best.score == pytest.approx(right, abs=1e-5)
    with pytest.raises(ValueError, match="as many targets as sources"):
        model.score([source], [target, target])


@pytest.mark.parametrize("ids", [{"sos_id": 1, "eos_id": 2}, {"sos_id": None, "eos_id": None}], ids=str)
def test_scores_start_and_end_as_generation_does(ids):
    """By the model's own generation options, whatever the config says."""
    config = small_config(**ids)
    words = rtfast.WordTokenizer([f"word{i}" for i in range(config.vocab_size - 2)] + ["SOS", "EOS"])
    model = rtfast.Transformer(config, random_values(config), words,
                               generation={"decoder_start_token_id": 6, "eos_token_id": [7, 8]})
    best = model.generate([3, 4], 5, return_dict_in_generate=True)
    assert model.score([3, 4], best.ids) == pytest.approx(best.score, abs=1e-5)
    assert model.score("word3 word4", "word5") == model.score([3, 4], [5, 7])
    assert model.score("word3 word4", "word5 word8") == model.score([3, 4], [5, 8])
    assert np.array_equal(model.logits("word3 word4", "word5"), model.logits([3, 4], [6, 5]))
    assert np.array_equal(model.trace("word3", "word5")["logits"], model.logits([3], [6, 5]))
    outside = rtfast.Transformer(config, random_values(config), generation={"decoder_start_token_id": 99})
    for call in (outside.generate, lambda source: outside.score(source, [5])):
        with pytest.raises(ValueError, match="decoder_start_token_id must be below the 13 words"):
            call([3, 4])
    if config.sos_id is None:
        with pytest.raises(ValueError, match="score: the config has no sos_id to start from"):
            rtfast.Transformer(config, random_values(config)).score([3], [4])


def test_attention(model):
    for given in ([], [9, 10]):
        for beams in (1, 2):
            found = model.generate([3, 4, 5], 4, decoder_input_ids=given, num_beams=beams, output_attentions=True,
                                   return_dict_in_generate=True)
            c = model.config
            assert found.attention.shape == (c.n_decoder_layers, c.n_heads, len(found.ids), 3)
            assert np.allclose(found.attention.sum(axis=-1), 1)
            trace = model.trace([3, 4, 5], [c.sos_id, *found.ids[:-1]])
            for i in range(c.n_decoder_layers):
                assert np.array_equal(found.attention[i], trace[f"decoder.layers.{i}.cross_attention.weights"])
    with pytest.raises(ValueError, match="output_attentions does nothing without return_dict_in_generate"):
        model.generate([3], output_attentions=True)


# Options

@pytest.mark.parametrize("options, kind, match", [
    ({"num_beams": 0}, ValueError, "num_beams must be within 1"),
    ({"num_beams": 1.5}, TypeError, "num_beams must be an integer"),
    ({"num_beams": True}, TypeError, "num_beams must be an integer"),
    ({"nonsense": 1}, TypeError, "unknown option nonsense; known are"),
    ({"temperature": 0.5}, ValueError, "temperature does nothing without do_sample=True"),
    ({"do_sample": True, "temperature": 0.0}, ValueError, "temperature must be more than 0"),
    ({"do_sample": True, "temperature": float("nan")}, ValueError, "temperature must be more than 0"),
    ({"do_sample": True, "top_p": 1.5}, ValueError, "top_p must be within 0..1"),
    ({"do_sample": True, "num_beams": 2}, ValueError, "do_sample must be False, or num_beams 1"),
    ({"do_sample": 1}, TypeError, "do_sample must be True or False"),
    ({"length_penalty": 2.0}, ValueError, "length_penalty does nothing without num_beams"),
    ({"num_beams": 2, "early_stopping": "soon"}, ValueError, "early_stopping must be True, False or 'never'"),
    ({"num_return_sequences": 2}, ValueError, "num_return_sequences must be at most num_beams 1"),
    ({"forced_bos_token_id": 7, "suppress_tokens": [5, 7]}, ValueError,
     "forced_bos_token_id must not be among suppress_tokens, got 7 in both"),
    ({"forced_eos_token_id": [2, 3], "suppress_tokens": [5, 3, 2], "num_beams": 3}, ValueError,
     r"forced_eos_token_id must not be among suppress_tokens, got \(2, 3\) in both"),
    ({"suppress_tokens": list(range(13))}, ValueError, "suppress_tokens and bad_words_ids must leave a word"),
    ({"suppress_tokens": [*range(6), 2], "bad_words_ids": [[i] for i in range(6, 13)], "num_beams": 2}, ValueError,
     "must leave a word of the vocabulary, got all of its 13"),
    ({"max_length": 9, "max_new_tokens": 3}, ValueError, "max_length does nothing beside max_new_tokens"),
    ({"max_length": 1}, ValueError, "max_length must be more than the 1 tokens"),
    ({"max_length": 42}, ValueError, "max_length must be .* at most 41"),
    ({"bad_words_ids": [[]]}, ValueError, "bad_words_ids must be lists of one id or more"),
    ({"bad_words_ids": [3]}, TypeError, "bad_words_ids must be a list of ids"),
    ({"bad_words_ids": [[10**6]]}, ValueError, "bad_words_ids must be ids of the vocabulary"),
    ({"suppress_tokens": [-1]}, ValueError, "suppress_tokens must be within 0"),
    ({"num_beams": 2**31 - 1}, ValueError, "num_beams must be within 1..65536"),
    ({"do_sample": True, "num_return_sequences": 2**20}, ValueError, "num_return_sequences must be within 1..65536"),
    ({"num_beams": 2, "length_penalty": 1e300}, ValueError, "length_penalty must be within -10..10"),
    ({"repetition_penalty": 10**5000}, ValueError, "repetition_penalty must be more than 0"),
    ({"max_new_tokens": 10**5000}, ValueError, "max_new_tokens must be within .* got an integer of 16610 bits"),
    ({"early_stopping": "a" * 10**6}, ValueError, "early_stopping must be .{,200}$"),
    ({"return_dict_in_generate": 2**64}, TypeError, "return_dict_in_generate must be True or False"),
    ({"decoder_start_token_id": 10**6}, ValueError, "decoder_start_token_id must be below"),
    ({"do_sample": True, "temperature": "hot"}, TypeError, "temperature must be a number, got 'hot'"),
    ({"eos_token_id": []}, ValueError, "eos_token_id must be an id, or one or more, got an empty list"),
    ({"min_new_tokens": 2, "eos_token_id": None}, ValueError, "min_new_tokens does nothing without an eos_token_id"),
    ({"decoder_input_ids": [3] * 40}, ValueError, "41 given tokens leave none of the decoder's 40 positions")],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) and 10**5000 not in value.values() else None)
def test_options_that_do_not_fit(model, options, kind, match):
    with pytest.raises(kind, match=match):
        model.generate([3, 4], **options)


def test_options_of_a_file_that_are_no_fields():
    with pytest.raises(TypeError, match="GenerationOptions: fields must be a dict, got list"):
        GenerationOptions.from_dict([])


def test_what_is_remembered_of_options_does_not_grow(model):
    """A service that seeds each request asks for new options for ever."""
    other = rtfast.Transformer(model.config, model.weights)
    for seed in range(600):
        other.generate([3, 4], 1, do_sample=True, seed=seed)
    assert 0 < len(other.generation._merges) <= 256
    for n in range(1, 151):
        other.generate([3, 4], decoder_input_ids=[3] * (n % 38), max_new_tokens=1 + n % 2)
    assert len(other.generation.merged(max_new_tokens=1).remembered) <= 64


@pytest.mark.parametrize("name", ["num_beams", "num_return_sequences"])
def test_a_file_may_not_ask_for_all_memory(tmp_path, name):
    rtfast.Transformer.random(small_config()).save(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({name: 1025}))
    with pytest.raises(rtfast.CheckpointError, match=f"generation_config.json: {name} must be within 1..1024"):
        rtfast.load(tmp_path)


def test_defaults_of_a_model():
    config = small_config()
    model = rtfast.Transformer(config, random_values(config), generation={"max_new_tokens": 3, "num_beams": 2})
    assert model.generation.num_beams == 2
    assert len(model.generate([3, 4])) <= 3 and model.generate([3, 4]) == model.generate([3, 4], num_beams=2)
    assert len(model.generate([3, 4], 7, eos_token_id=None)) == 7
    assert len(model.generate([3, 4], max_length=6, eos_token_id=None)) == 5  # in place of the model's other limit
    with pytest.raises(ValueError, match="num_beams must be within"):
        rtfast.Transformer(config, random_values(config), generation={"num_beams": 0})


@pytest.mark.parametrize("generation, kind, match", [
    ({"num_beam": 4}, ValueError, "generation: unknown or unsupported options 'num_beam'; known are max_new_tokens, "),
    ({"num_beams": 2, "encoder_no_repeat_ngram_size": 2, "begin_suppress_tokens": [3]}, ValueError,
     "options 'encoder_no_repeat_ngram_size', 'begin_suppress_tokens'; known"),
    (3, TypeError, "generation must be a dict of options, a GenerationOptions or None, got int"),
    ([("num_beams", 2)], TypeError, "generation must be a dict of options, a GenerationOptions or None, got list"),
], ids=str)
def test_defaults_that_would_do_nothing(generation, kind, match):
    config = small_config()
    with pytest.raises(kind, match=match):
        rtfast.Transformer(config, random_values(config), generation=generation)


def test_defaults_as_options():
    config = small_config()
    given = [rtfast.Transformer(config, random_values(config), generation=generation).generation for generation in (
        GenerationOptions(num_beams=3, length_penalty=0.5), {"num_beams": 3, "length_penalty": 0.5},
        {"num_beams": 3, "length_penalty": 0.5, "begin_suppress_tokens": [], "top_h": None, "guidance_scale": 1.0})]
    assert given[0] == given[1] == given[2] and given[0].eos_ids == (config.eos_id,)


def test_generation_config_json(tmp_path):
    config = small_config()
    plain = rtfast.Transformer(config, random_values(config))
    plain.save(tmp_path / "plain")
    assert not (tmp_path / "plain" / "generation_config.json").exists()
    more = {"num_beams": 3, "max_length": 99}
    rtfast.Transformer(config, random_values(config), generation=more).save(tmp_path / "m")
    loaded = rtfast.load(tmp_path / "m")
    assert loaded.generation == GenerationOptions.from_dict(
        {"decoder_start_token_id": config.sos_id, "eos_token_id": config.eos_id, "pad_token_id": config.pad_id,
         "num_beams": 3, "max_length": config.max_length + 1})  # as long as it has positions
    plain.save(tmp_path / "m")  # over it: nothing stays behind
    assert rtfast.load(tmp_path / "m").generation == plain.generation
    path = tmp_path / "m" / "generation_config.json"
    path.write_text(json.dumps({"num_beams": 2, "transformers_version": "5", "guidance_scale": 3.0, "top_h": None}))
    with pytest.warns(RuntimeWarning, match="of its generation_config.json do nothing here: guidance_scale$"):
        assert rtfast.load(tmp_path / "m").generation.num_beams == 2
    path.write_text(json.dumps({"num_beams": 2, "begin_suppress_tokens": [], "unknown": 3}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rtfast.load(tmp_path / "m").generation.num_beams == 2
    for content in (b"{", b"[]", b'{"num_beams": "two"}', b'{"top_k": -1}', b"\xff"):
        path.write_bytes(content)
        with pytest.raises(rtfast.CheckpointError, match="generation_config.json: "):
            rtfast.load(tmp_path / "m")


def test_the_first_token_is_no_eos_where_one_is_asked_for(backend):
    model = model_with_logits([0.0, 1.0, 9.0, 5.0, 2.0])
    assert model.generate([3, 4], 4) == [2]
    assert model.generate([3, 4], 4, min_new_tokens=1) == model.generate([3, 4], 4, min_length=2) == [3, 2]
    assert model.generate([3, 4], 4, min_new_tokens=1, num_beams=2) == [3, 2]


@pytest.mark.parametrize("n", [1, 62, 63, 64, 65, 190])
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "top_k": 1}], ids=str)
def test_many_suppressed_words(backend, n, options):
    """The likeliest of what is left, also where more are suppressed than the kernel finds at once."""
    model = model_with_logits(np.arange(200.0, 0.0, -1.0))
    assert model.generate([3, 4], 3, suppress_tokens=range(n), eos_token_id=None, **options) == [n] * 3


def test_an_id_that_is_null_is_none(tmp_path):
    config = small_config()
    model = rtfast.Transformer(config, random_values(config), generation={"eos_token_id": None, "bos_token_id": 7,
                                                                          "decoder_start_token_id": None})
    assert (model.generation.eos_ids, model.generation.start_id) == ((), 7)
    assert len(model.generate([3, 4], 9)) == 9
    model.save(tmp_path)
    assert rtfast.load(tmp_path).generation == model.generation
    assert rtfast.Transformer(config, random_values(config), generation={}).generation.eos_ids == (config.eos_id,)


def test_the_articles_model_has_all_of_it():
    model = rtfast.Transformer.random(rtfast.Config.article(), vocabulary=VOCABULARY)
    assert len(model.translate("hello world", 3, num_beams=2, num_return_sequences=2)) == 2


def test_errors_say_which_text(backend):
    model = rtfast.load()
    with pytest.raises(ValueError, match=r"src\[1\]: WordTokenizer: 'zeppelin' is not in the vocabulary"):
        model.translate(["the red house", "a zeppelin"])
    with pytest.raises(ValueError, match="^WordTokenizer: 'zeppelin'"):
        model.translate("a zeppelin")
    for source, target, got in ((["the red house"], "la casa roja", "a list of 1 and one"),
                                ("the red house", ["la casa roja"], "one and a list of 1")):
        with pytest.raises(ValueError, match=f"both be one sentence, or both lists of sentences; got {got}"):
            model.score(source, target)


@pytest.mark.parametrize("more", [{}, {"do_sample": True, "seed": 1}], ids=str)
def test_scores_change_no_ids_where_the_rules_leave_no_word(backend, more):
    config = small_config(vocab_size=12, eos_id=None)
    model = rtfast.Transformer(config, random_values(config))
    options = {"max_new_tokens": 16, "no_repeat_ngram_size": 1, **more}
    ids = model.generate([3, 4, 5], **options)
    scored = model.generate([3, 4, 5], return_dict_in_generate=True, **options)
    assert scored.ids == ids and len(ids) == 16 and scored.score == -np.inf


def test_a_source_that_is_cut_keeps_its_last_token(model):
    source = [3 + i % 10 for i in range(45)]
    cut = [*source[:39], source[-1]]
    assert source[39] != source[-1]
    for given in (source, [source, [4]]):
        first = model.generate(given, 6, truncation=True, return_dict_in_generate=True)
        first = first if given is source else first[0]
        assert first == model.generate(cut, 6, return_dict_in_generate=True)


def test_padding_at_the_end_of_a_target_whose_start_is_padding(backend):
    """The first id of a target is its start; those at its end are none of its words."""
    model, _ = random_model(small_config(sos_id=0, pad_id=0))
    logits = model.logits([[3, 4]] * 2, [[0, 5, 0, 0], [0, 0, 0, 0]])
    assert (logits != 0).any(axis=2).tolist() == [[True, True, False, False], [True, False, False, False]]


def test_remembered_options_are_those_of_their_types(model):
    model.generate([3, 4], 1, num_beams=1)
    with pytest.raises(TypeError, match="num_beams must be an integer, got True"):
        model.generate([3, 4], 1, num_beams=True)


def test_a_character_of_several_tokens_is_streamed_whole():
    class Bytes:
        def decode(self, ids):
            return bytes(ids).decode("utf-8", "replace")

    assert list(stream_text("aé→".encode(), Bytes())) == ["a", "é", "→"]
    assert "".join(stream_text("aé→".encode()[:-1], Bytes())) == "aé\ufffd"
