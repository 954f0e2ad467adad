"""The likeliest words by way of bytes: exactly those of all logits, whatever the numbers are."""

import dataclasses
import warnings

import numpy as np
import pytest
from models import random_values, small_config

import rtfast
from rtfast import backends, model
from rtfast import screening as screening_module
from rtfast.model import DECODER, DECODER_WITH_CHOICE, ENCODER_WITH_MEMORY, SCREENED_DECODER
from rtfast.workspace import Workspace

WORDS = 4099
pytestmark = pytest.mark.skipif(
    not any(backends.load(name).can_screen() for name in backends.available()),
    reason="no build here multiplies bytes: all logits are computed")


@pytest.fixture
def screening():
    name = next(name for name in backends.available() if backends.load(name).can_screen())
    with backends.using(name):
        yield name


def config_of(**fields):
    return small_config(vocab_size=WORDS, max_length=40, eos_id=None, **{"output_bias": True, **fields})


def both(config, weights, rows, k):
    """((values, ids) by screening, logits) of one step of `rows` sentences."""
    made = rtfast.Transformer(config, weights)
    sources = [np.array([3 + row, 5 + row, 2 * row + 1]) for row in range(rows)]
    with made._borrow(sources, steps=2) as workspace:
        workspace.encode(ENCODER_WITH_MEMORY, sources)
        workspace.begin_steps(range(rows))
        workspace.step(DECODER, [7] * rows)
        logits = workspace.result(DECODER, "logits")
        workspace.begin_steps(range(rows))
        assert made._packed.screened(made._programs[SCREENED_DECODER].ops[-2]) is not None
        workspace.index["top_options"][:] = k, 0
        workspace.step(SCREENED_DECODER, [7] * rows)
        return workspace.top(SCREENED_DECODER, rows, k), logits


def assert_top(found, logits, k):
    values, ids = found
    order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    assert np.array_equal(ids, order)
    assert np.array_equal(values, np.take_along_axis(logits, order, axis=1))  # bit for bit but for the zeros' sign


def test_what_another_thread_made_meanwhile_stays(screening, monkeypatch):
    """Executors keep addresses in it, not it: a second one in its place would leave them with freed memory."""
    config = config_of()
    made = rtfast.Transformer(config, random_values(config, 1))
    packed, op, first = made._packed, made._programs[SCREENED_DECODER].ops[-2], []

    class Slow:
        @staticmethod
        def screen(*arguments):
            if not first:  # another thread asks too, and is done before
                first.append(None)
                first[0] = packed.screened(op)
            return backends.active().screen(*arguments)

    monkeypatch.setattr(packed, "backend", Slow)
    assert packed.screened(op) is first[0] is packed.screened(op)


def test_builds_that_cannot_make_nothing():
    for name in backends.available():
        backend = backends.load(name)
        made = backend.screen(backend.pack(np.ones((3, 40), np.float32)), None)
        assert (made is not None) == backend.can_screen()
        assert backend.screen(backend.pack(np.ones((3, 40))), None) is None


@pytest.mark.parametrize("k", [1, 2, 5, 64])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 8, 9, 13, 33])
def test_the_same_words_and_logits(screening, rows, tied, k):
    for d_model in (7, 40):
        config = config_of(d_model=d_model, d_key=5, d_value=5, tie_embeddings=tied)
        assert_top(*both(config, random_values(config, rows), rows, k), k)


@pytest.mark.parametrize("what", ["ties", "all equal", "zeros", "one huge", "tiny", "denormal", "large", "bias decides",
                                  "rounded"])
def test_hostile_weights(screening, what):
    config = config_of(d_model=40, d_key=5, d_value=5)
    weights, random = random_values(config), np.random.default_rng(1)
    w, bias = weights["output.weight"], weights["output.bias"]
    if what == "ties":  # every word a few times
        w[:] = w[:, random.integers(0, 50, WORDS)]
        bias[:] = 0
    elif what == "all equal":
        w[:] = w[:, :1]
        bias[:] = 0.25
    elif what == "zeros":
        w[:], bias[:] = 0, 0
    elif what == "one huge":  # its column's bytes say nothing of the other numbers
        w[random.integers(0, 40, WORDS), np.arange(WORDS)] = 1e6
    elif what == "tiny":
        w *= 1e-38
        bias[:] = 0
    elif what == "denormal":  # whose norms are rounded as much as they are long
        w[:], bias[:] = random.integers(-3, 4, w.shape) * np.float32(2.0**-149), 0
    elif what == "large":
        w *= 1e12
    elif what == "bias decides":
        bias[:] = random.integers(-3, 3, WORDS) * 1e3
    else:  # differences far below what a byte can tell
        w[:] = w[:, :1] * (1 + 1e-6 * random.standard_normal(WORDS))
        bias[:] = 0
    for k in (1, 7):
        assert_top(*both(config, weights, 5, k), k)


def test_norms_that_are_rounded_down(screening):
    """Of the smallest number twice the norm is 1.41 of it, which is rounded to one: the bound would be too low."""
    config = config_of(d_model=4, n_heads=1, d_key=4, d_value=4, n_decoder_layers=0, positions=None, norm=False,
                       output_bias=False, embedding_scale=1.0)
    weights = random_values(config)
    weights["embedding.weight"][:] = 1000, 1000, 550, 0
    weights["output.weight"][:] = 0
    weights["output.weight"][:, 3000] = np.float32([1, 1, 0, 0]) * np.float32(2.0**-149)
    weights["output.weight"][:, 9] = np.float32([0, 0, 3, 0]) * np.float32(2.0**-149)
    found, logits = both(config, weights, 2, 1)
    assert (np.argmax(logits, axis=1) == 3000).all()
    assert_top(found, logits, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20])
def test_weights_that_bytes_cannot_say(screening, value):
    config = config_of(d_model=40, d_key=5, d_value=5)
    for name in ("output.weight", "output.bias"):
        weights = random_values(config)
        weights[name].flat[17] = value
        made = rtfast.Transformer(config, weights)
        assert made._packed.screened(made._programs[SCREENED_DECODER].ops[-2]) is None
        plain = rtfast.Transformer(dataclasses.replace(config), weights)
        plain._programs = plain._programs[:SCREENED_DECODER]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            assert made.generate([3, 4], 12) == plain.generate([3, 4], 12)


@pytest.mark.parametrize("k", [1, 3])
def test_the_last_words_are_the_likeliest_though_others_have_higher_bounds(screening, k):
    """4099 words are no whole number of vectors."""
    config = config_of(d_model=40, d_key=5, d_value=5, output_bias=False)
    weights = random_values(config)
    last = f"decoder.layers.{config.n_decoder_layers - 1}.feed_forward.norm"
    weights[f"{last}.gamma"][:], weights[f"{last}.beta"][:] = 0, 1  # so the state is ones
    w = weights["output.weight"]
    w[:] = np.linspace(0.5, 1, 40)[:, None]
    w[0], w[1] = 30, -30  # no part of a logit, but of what a bound allows for
    w[:, -3:] *= np.float32([1.001, 1.003, 1.002])
    w[:2, -3:] = 0
    (values, ids), logits = both(config, weights, 2, k)
    assert_top((values, ids), logits, k)
    assert set(ids.ravel()) <= {WORDS - 3, WORDS - 2, WORDS - 1}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e25, -1e25])
@pytest.mark.parametrize("d_model", [40, 80])
def test_states_that_bytes_cannot_say(screening, value, d_model):
    """All logits of such a row are computed, and its neighbours are what they were."""
    config = config_of(d_model=d_model, d_key=5, d_value=5, norm=False)
    weights = random_values(config)
    weights["embedding.weight"][3] = value
    (values, ids), logits = both(config, weights, 4, 3)
    for row in range(4):
        if np.isfinite(logits[row]).all():
            assert_top((values[row:row + 1], ids[row:row + 1]), logits[row:row + 1], 3)
        elif np.isnan(logits[row]).any():
            assert np.isnan(values[row, 0]) and ids[row, 0] == np.flatnonzero(np.isnan(logits[row]))[0]
    assert not np.isfinite(logits).all()


@pytest.mark.parametrize("without", [0, 40])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_generation(screening, threads, without, monkeypatch):
    """Whole greedy generations, with rules that exclude words, are those without screening; also if that begins in
    their midst."""
    monkeypatch.setattr(screening_module, "WORDS_WITHOUT", without)
    config = config_of(d_model=40, d_key=5, d_value=5, embedding_scale=1.5)
    weights = random_values(config)
    sources = [[3, 4, 5], [6], list(range(1, 40)), [9, 9]]
    before = rtfast.get_num_threads()
    rtfast.set_num_threads(threads)
    try:
        made = rtfast.Transformer(config, weights)
        assert len(made._programs) > SCREENED_DECODER
        monkeypatch.setattr(model, "WORTH_SCREENING", 10**9)
        plain = rtfast.Transformer(config, weights)
        assert len(plain._programs) == SCREENED_DECODER
        said = plain.generate(sources, 30)
        for options in ({}, {"suppress_tokens": sorted({ids[0] for ids in said})},
                        {"eos_token_id": said[0][3], "min_new_tokens": 12}, {"bad_words_ids": [[said[0][1]]]}):
            expected = plain.generate(sources, 30, **options)
            assert made.generate(sources, 30, **options) == expected
            assert [made.generate(source, 30, **options) for source in sources] == expected
            assert list(made.stream(sources[0], 30, **options)) == expected[0]
    finally:
        rtfast.set_num_threads(before)


def test_the_first_words_are_found_without(screening, monkeypatch):
    """A process of a sentence or two neither makes the bytes nor keeps them."""
    monkeypatch.setattr(screening_module, "WORDS_WITHOUT", 8)
    config = config_of()
    made = rtfast.Transformer(config, random_values(config))
    asked, really, programs = [], made._packed.screened, set()
    monkeypatch.setattr(made._packed, "screened", lambda op: asked.append(op) or really(op))

    def watched(run):
        def also(workspace, program, *rest):
            programs.add(program)
            return run(workspace, program, *rest)

        return also

    for name in ("choose", "step"):  # several greedy steps in one call, and one
        monkeypatch.setattr(Workspace, name, watched(getattr(Workspace, name)))
    first = made.generate([[3, 4], [5]], 2)
    made.generate([3, 4], 2, num_beams=2)  # all logits count
    assert made.generate([3, 4], 2) == first[0] and list(made.stream([3, 4], 2)) == first[0]
    assert not asked and programs == {DECODER_WITH_CHOICE}
    for options in ({}, {"suppress_tokens": [first[0][0]]}):
        programs.clear()
        assert (made.generate([[3, 4], [5]], 2, **options) == first) == (not options)
        assert asked and programs == {SCREENED_DECODER}


def test_small_vocabularies_and_other_types_are_not_screened(screening):
    for fields in ({"vocab_size": 100}, {"dtype": "float64"}):
        config = dataclasses.replace(config_of(), **fields)
        assert len(rtfast.Transformer(config, random_values(config))._programs) == SCREENED_DECODER
