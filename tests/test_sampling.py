"""Sampling draws from exactly the distribution that its options define; with a seed always the same."""

import numpy as np
import pytest
from models import model_with_logits, random_model, small_config

import rtfast
from rtfast import logits_rules

SOURCE = [3, 4, 5]
DRAWS = 6000


@pytest.fixture(scope="module")
def model():
    return random_model(small_config(vocab_size=12, dtype="float64", embedding_scale=2.0))[0]


def distribution(logits, temperature=1.0, top_k=0, top_p=1.0, min_p=None, repetition_penalty=1.0, seen=()):
    """Probabilities (V,) as transformers defines the options, written down anew in plain Python."""
    logits = np.array(logits, np.float64)
    for word in seen:
        logits[word] = logits[word] * repetition_penalty if logits[word] < 0 else logits[word] / repetition_penalty
    logits = logits / temperature
    kept = set(range(len(logits)))
    if top_k:
        kth = sorted(logits)[-top_k]
        kept = {word for word in kept if logits[word] >= kth}
    if top_p < 1:
        share = {word: np.exp(logits[word]) / sum(np.exp(logits[w]) for w in kept) for word in kept}
        below = 0.0
        for word in sorted(kept, key=share.get):
            below += share[word]
            if below <= 1 - top_p and len(kept) > 1:
                kept = kept - {word}
    if min_p is not None:
        most = max(logits[word] for word in kept)
        kept = {word for word in kept if np.exp(logits[word] - most) >= min_p}
    powers = np.array([np.exp(logits[word]) if word in kept else 0.0 for word in range(len(logits))])
    return powers / powers.sum()


def assert_drawn_from(counts, probabilities):
    """Chi-squared at a level of one false alarm in a million, by Wilson and Hilferty's approximation."""
    assert not counts[probabilities == 0].any()
    expected = counts.sum() * probabilities
    common = expected >= 5
    rest = expected[~common].sum()
    statistic = ((counts - expected)[common]**2 / expected[common]).sum()
    degrees = common.sum() - 1
    if rest > 0:
        statistic += (counts[~common].sum() - rest)**2 / max(rest, 1)
        degrees += 1
    if degrees == 0:
        return
    limit = degrees * (1 - 2 / (9 * degrees) + 4.753 * np.sqrt(2 / (9 * degrees)))**3
    assert statistic < limit, (statistic, limit, counts, expected)


@pytest.mark.parametrize("options", [
    {}, {"temperature": 0.5}, {"temperature": 2.0}, {"top_k": 3}, {"top_k": 1}, {"top_p": 0.6}, {"top_p": 0.95},
    {"min_p": 0.2}, {"temperature": 1.5, "top_k": 6, "top_p": 0.8, "min_p": 0.1}, {"repetition_penalty": 1.7},
    {"temperature": 0.7, "repetition_penalty": 0.6, "top_k": 5}], ids=str)
def test_first_and_second_tokens(model, options):
    sos = model.config.sos_id
    rows = model.generate(SOURCE, 2, do_sample=True, seed=5, num_return_sequences=DRAWS,
                          **{"top_k": 0, "eos_token_id": None, **options})
    words = np.array(rows)
    first = distribution(model.logits(SOURCE, [sos])[-1], **options, seen=[sos])
    assert_drawn_from(np.bincount(words[:, 0], minlength=12), first)
    likeliest = int(first.argmax())
    second = distribution(model.logits(SOURCE, [sos, likeliest])[-1], **options, seen={sos, likeliest})
    assert_drawn_from(np.bincount(words[words[:, 0] == likeliest, 1], minlength=12), second)


def test_equal_scores_at_the_edge_of_top_k(model):
    """Words whose scores equal the k-th stay, whichever way the k largest are found."""
    config = small_config(vocab_size=200, dtype="float64", output_bias=True)
    model, _ = random_model(config)
    weights = model.weights
    weights["output.weight"] = np.zeros_like(weights["output.weight"])
    weights["output.bias"] = np.repeat([2.0, 1.0, 0.0], [3, 7, 190])
    model = rtfast.Transformer(config, weights)
    rows = model.generate(SOURCE, 1, do_sample=True, seed=1, num_return_sequences=DRAWS, top_k=5, eos_token_id=None)
    counts = np.bincount(np.ravel(rows), minlength=200)
    assert_drawn_from(counts, distribution(weights["output.bias"], top_k=5))
    assert (counts[:10] > 0).all() and not counts[10:].any()


@pytest.mark.parametrize("options", [
    {"temperature": 1e-40}, {"temperature": 1e-40, "top_k": 0}, {"temperature": 1e-3, "top_k": 0, "top_p": 0.0},
    {"temperature": 1e-3, "top_p": 0.0}], ids=str)
def test_at_the_bounds_the_likeliest_is_drawn(options):
    model = model_with_logits([1.0, 2.0, -3.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    assert model.generate(SOURCE, 3, do_sample=True, seed=1, eos_token_id=None, **options) == [3, 3, 3]


def test_seeds(model):
    options = {"do_sample": True, "temperature": 3.0, "num_return_sequences": 4}
    first = model.generate([SOURCE, [6, 7]], 10, seed=1, **options)
    assert model.generate([SOURCE, [6, 7]], 10, seed=1, **options) == first
    assert model.generate([SOURCE, [6, 7]], 10, seed=2, **options) != first
    assert len({tuple(ids) for ids in first[0]}) > 1
    assert model.generate(SOURCE, 10, seed=1, **options) == first[0]  # the second sentence had no say
    assert model.generate(SOURCE, 10, seed=1, max_batch_tokens=1, **options) == first[0]
    assert model.generate(SOURCE, 20, **options) != model.generate(SOURCE, 20, **options)


def test_scores_are_those_of_the_drawn(model):
    row = model.generate(SOURCE, 6, do_sample=True, seed=3, top_k=0, return_dict_in_generate=True)
    assert row.score == pytest.approx(model.score(SOURCE, row.ids), rel=1e-5)
    (only,) = {tuple(ids) for ids in model.generate(SOURCE, 6, do_sample=True, top_k=1, num_return_sequences=9)}
    assert list(only) == model.generate(SOURCE, 6)


def test_streaming_draws_the_same(model):
    options = {"do_sample": True, "seed": 8, "temperature": 2.0}
    assert list(model.stream(SOURCE, 9, **options)) == model.generate(SOURCE, 9, **options)


@pytest.mark.parametrize("seed", range(3))
def test_warpers_are_those_of_transformers(seed):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: no warpers to compare")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no warpers to compare")
    scores = (3 * np.random.default_rng(seed).standard_normal((7, 100))).astype(np.float32)
    scores[1] = np.round(scores[1])  # ties
    for ours, theirs in (
            (lambda s: logits_rules.keep_top_k(s, 5), transformers.TopKLogitsWarper(5)),
            (lambda s: logits_rules.keep_top_p(s, 0.7), transformers.TopPLogitsWarper(0.7)),
            (lambda s: logits_rules.keep_min_p(s, 0.1), transformers.MinPLogitsWarper(0.1)),
            (lambda s: logits_rules.warp_temperature(s, 0.3), transformers.TemperatureLogitsWarper(0.3))):
        mine = scores.copy()
        ours(mine)
        chance = theirs.__class__.__name__.startswith("TopP")  # which of equal ones go
        rows = [0, *range(2, 7)] if chance else range(7)
        np.testing.assert_allclose(mine[rows], theirs(None, torch.from_numpy(scores.copy())).numpy()[rows], rtol=1e-6)
