"""Beam search: bits that do not depend on company, caches that do not move, sentences that leave, NaN."""

import numpy as np
import pytest
from cases import assert_same_bits, skip_unless_bits_are_promised
from models import model_with_logits, ragged_ids, random_ids, random_model, small_config, threads

import rtfast
from rtfast import beam_search
from rtfast.generation_options import GenerationOptions, Limits
from rtfast.model import DECODER, ENCODER_WITH_MEMORY
from rtfast.workspace import Capacity, Workspace

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def talkative(dtype="float64", **fields):
    """A model whose sentences end at many steps, and 12 sources."""
    model, _ = random_model(small_config(vocab_size=200, eos_id=76, embedding_scale=1.5, output_bias=False,
                                         dtype=dtype, **fields), 4)
    random = np.random.default_rng(0)
    return model, [random.integers(3, 200, n).tolist() for n in random.integers(1, 9, 12)]


def found(model, sources, **options):
    out = model.generate(sources, 20, num_beams=4, num_return_sequences=3, return_dict_in_generate=True, **options)
    return [[(hypothesis.ids, hypothesis.score) for hypothesis in row] for row in out]


@both_dtypes
def test_a_batch_gives_what_each_gives_alone(backend, dtype):
    skip_unless_bits_are_promised(backend)
    model, sources = talkative(dtype)
    together = found(model, sources)
    assert len({len(row[0][0]) for row in together}) > 3  # else no sentence would leave before others
    assert [found(model, [source])[0] for source in sources] == together
    assert found(model, sources[::-1]) == together[::-1]
    assert found(model, sources, max_batch_tokens=7) == together
    for n in (2, 3):
        with threads(n):
            assert found(model, sources) == together


def test_the_score_is_that_of_the_whole_sentence(backend):
    """Cached beams, whose keys lie in each other's slots, against one full pass over each hypothesis."""
    for positions in ("sinusoidal", "relative"):
        model, sources = talkative(positions=positions)
        for source, row in zip(sources, found(model, sources, length_penalty=0.7), strict=True):
            for ids, score in row:
                assert model.score(source, ids) / len(ids)**0.7 == pytest.approx(score, rel=1e-5, abs=1e-5)


def check_reordered_steps(model, backend, beams, lanes):
    """Steps of beams[step] targets of each of two sentences, with random parents, against full runs.

    lanes: the most beams.
    """
    sources, random = [random_ids(model.config, n, seed=n) for n in (3, 20)], np.random.default_rng(0)
    workspace = Workspace(model._backend, model._programs, model._packed,
                          Capacity(2, 23, 20, 2 * lanes, model.config.max_length, lanes))
    workspace.encode(ENCODER_WITH_MEMORY, sources)
    prompts = random.integers(0, model.config.vocab_size, (2, 3))
    workspace.begin_steps(range(2), prompts, DECODER, lanes)
    histories, many = [list(prompts[row]) for row in range(2)], 1
    for step, now in enumerate(beams):
        if step:
            near = random.random() < 0.7  # beams mostly go on where they were
            parents = [s * many + (b % many if near else int(random.integers(many)))
                       for s in range(2) for b in range(now)]
            workspace.reorder(parents, now)
            histories, many = [list(histories[parent]) for parent in parents], now
        words = random.integers(0, model.config.vocab_size, len(histories)).tolist()
        workspace.step(DECODER, words)
        for history, word in zip(histories, words, strict=True):
            history.append(word)
        if step % 37 and step < len(beams) - 3:
            continue
        logits = workspace.result(DECODER, "logits")
        for row, history in enumerate(histories):
            full = model.logits(sources[row * 2 // len(histories)], history)[-1]
            if backend == "python":
                assert np.allclose(logits[row], full, rtol=1e-4, atol=1e-5)
            else:
                assert_same_bits(logits[row], full, (step, row))


@both_dtypes
@pytest.mark.parametrize("fields", [
    {}, {"d_key": 5, "d_value": 65}, {"d_key": 70, "d_value": 129}, {"d_value": 256},
    {"positions": "relative", "relative_buckets": 8, "relative_distance": 12}, {"article_softmax": True}],
    ids=["small", "odd", "wide", "whole", "relative", "article"])
def test_reordered_steps_have_the_bits_of_a_full_run(backend, fields, dtype):
    """Over several panels of keys and more than one chunk of sums, with random parents."""
    length = 270
    model, _ = random_model(small_config(max_length=length, dtype=dtype, **fields))
    check_reordered_steps(model, backend, [5] * (length - 3), 5)


@both_dtypes
def test_beams_that_come_and_go(backend, dtype):
    """A slot that is left with a group of keys half full is looked back at, and taken up again, at other positions."""
    model, _ = random_model(small_config(max_length=120, dtype=dtype, d_key=70))
    many = np.random.default_rng(1).integers(1, 8, 40)
    check_reordered_steps(model, backend, np.repeat(many, 3)[:117].tolist(), 7)


def test_finished_sentences_leave(backend, monkeypatch):
    model, sources = talkative()
    rows, step = [], Workspace.step
    monkeypatch.setattr(Workspace, "step", lambda self, which, ids: rows.append(len(ids)) or step(self, which, ids))
    found(model, sources)
    assert rows[0] == len(sources) and rows[1] == 4 * len(sources)
    assert rows[-1] < rows[1] and all(n % 4 == 0 for n in rows[1:])


def test_greedy_after_beams_after_greedy(backend):
    """One workspace serves them all."""
    model, sources = talkative()
    first, beams = model.generate(sources, 20), found(model, sources)
    assert model.generate(sources, 20) == first and found(model, sources) == beams
    assert model.generate(sources, 20) == first


def test_nan_stays_in_its_sentence(backend):
    config = small_config(dtype="float64")
    model, _ = random_model(config)
    weights = model.weights
    weights["embedding.weight"] = np.array(weights["embedding.weight"])
    weights["embedding.weight"][3] = np.nan
    broken = rtfast.Transformer(config, weights)
    good = [ids for ids in ragged_ids(config, (3, 5), seed=9) if 3 not in ids]
    with pytest.warns(RuntimeWarning, match="first in encoder.embedding"):
        rows = broken.generate([good[0], [9, 3], good[-1]], 6, num_beams=3, return_dict_in_generate=True,
                               suppress_tokens=[3])
    assert rows[1].ids == [] and np.isnan(rows[1].score)
    expected = model.generate([good[0], good[-1]], 6, num_beams=3, suppress_tokens=[3])
    assert [rows[0].ids, rows[2].ids] == expected


@pytest.mark.parametrize("more", [{}, {"renormalize_logits": True}], ids=str)
def test_rules_that_leave_no_word_before_an_end(backend, more):
    """The words until then are the result, not an empty one."""
    model, _ = random_model(small_config(vocab_size=9, eos_id=None))
    options = {"num_beams": 3, "no_repeat_ngram_size": 1, **more}
    whole = model.generate([3, 4, 5], 8, **options)
    for n in (9, 20):
        found = model.generate([3, 4, 5], n, return_dict_in_generate=True, **options)
        assert found.ids == whole and len(set(whole)) == 8 and found.score == -np.inf
    assert model.generate([[3, 4, 5], [6, 7]], 20, num_return_sequences=2, **options)[0] == [whole]


def test_more_candidates_than_words():
    model, _ = random_model(small_config(vocab_size=5))
    rows = model.generate([1, 2], 3, num_beams=5, num_return_sequences=5)
    assert len({tuple(ids) for ids in rows}) == len(rows)
    with pytest.raises(ValueError, match="needs a vocabulary of at least 4 words"):
        random_model(small_config(vocab_size=3))[0].generate([1, 2], num_beams=2, eos_token_id=[0, 1, 2])


def test_of_equal_hypotheses_the_first_comes_first(backend):
    model = model_with_logits(np.zeros(7))
    rows = model.generate([3, 4], 3, num_beams=2, num_return_sequences=2, eos_token_id=[0, 1])
    assert rows == [[0], [1]]


def test_what_goes_on_from_no_beginning_is_no_hypothesis(backend):
    """At first there is one beginning; where only one word may follow it, the other beams have none."""
    model = model_with_logits(np.zeros(7))
    assert model.generate([3, 4], 1, num_beams=3, num_return_sequences=3, forced_eos_token_id=1) == [[1]]


def test_renormalized_scores_count_the_words_that_are_left(backend):
    model = model_with_logits(np.zeros(7))
    options = {"num_beams": 2, "return_dict_in_generate": True, "suppress_tokens": [0, 3]}
    assert model.generate([3, 4], 1, **options).score == pytest.approx(-np.log(7))
    assert model.generate([3, 4], 1, renormalize_logits=True, **options).score == pytest.approx(-np.log(5))


@pytest.mark.parametrize("early_stopping, length_penalty, goes_on", [
    (True, 1.0, False), (False, 1.0, False), ("never", 1.0, True), (False, -1.0, True), ("never", -1.0, True)])
def test_when_a_full_sentence_is_decided(early_stopping, length_penalty, goes_on):
    """The running beam, of two tokens and -1, gets to -0.5 now and -0.1 with ten tokens; or to -2 and -10."""
    options = GenerationOptions(num_beams=2, early_stopping=early_stopping, length_penalty=length_penalty)
    worst = np.float32(-0.3 if length_penalty > 0 else -3.0)
    undecided = beam_search._undecided([[(np.float32(-0.1), [5]), (worst, [6])]], np.array([-1.0], np.float32), 2,
                                       Limits(1, 0, 11), options)
    assert undecided.tolist() == [goes_on]
