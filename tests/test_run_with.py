"""Changing intermediates on the way: what follows is computed from the changed values, what came before stays."""

import numpy as np
import pytest
from cases import assert_same_bits, skip_unless_bits_are_promised
from models import assert_close, random_model, small_config

import rtfast

SOURCE, TARGET = [3, 4, 5, 6, 7], [1, 8, 9, 4]
ATTENTION, CROSS = "encoder.layers.0.self_attention", "decoder.layers.1.cross_attention"
MASKED = "decoder.layers.0.self_attention"

CONFIGS = {
    "small": {"attention_bias": True},
    "pre-norm": {"norm_first": True, "final_norm": True},
    "rms, gated, relative": {"norm_first": True, "rms_norm": True, "gated": True, "positions": "relative",
                             "final_norm": True, "output_scale": 0.5},
    "learned, normed embedding": {"positions": "learned", "embedding_norm": True, "d_key": 5, "d_value": 2},
    "no residual, no norm": {"residual": False, "norm": False},
    "article's": {"article_layer_norm": True, "article_softmax": True, "article_positional_encoding": True},
}
every_config = pytest.mark.parametrize("fields", CONFIGS.values(), ids=CONFIGS.keys())


def traced(fields=None, dtype="float32"):
    model = random_model(small_config(**(fields or {}), dtype=dtype))[0]
    return model, model.trace(SOURCE, TARGET)


def assert_same_trace(one, other):
    assert list(one) == list(other)
    for name in one:
        assert_same_bits(one[name], other[name], name)


@every_config
def test_nothing_changed(backend, fields):
    model, trace = traced(fields)
    assert_same_trace(model.run_with(trace, {}), trace)


@every_config
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_values_in_every_place(backend, fields, dtype):
    """Each intermediate replaced by itself: what follows comes out the same, to the last bit."""
    skip_unless_bits_are_promised(backend)
    model, trace = traced(fields, dtype)
    for name in trace:
        again = model.run_with(trace, {name: trace[name]})
        for other in trace:
            assert_same_bits(again[other], trace[other], f"{other} after {name}")


@every_config
def test_every_place_counts_for_what_follows_only(backend, fields):
    model, trace = traced(fields)
    names, random = list(trace), np.random.default_rng(0)
    for i, name in enumerate(names):
        values = random.standard_normal(trace[name].shape).astype("float32")
        other = model.run_with(trace, {name: values})
        assert_same_bits(other[name], values, name)
        for before in names[:i]:
            if not _same_numbers(before, name):
                assert_same_bits(other[before], trace[before], f"{before} before {name}")
        for after in names:
            if name in trace.inputs(after):
                assert not np.allclose(other[after], trace[after], rtol=1e-2), f"{after} after {name}"
        if fields.get("residual", True):  # without, little gets through all the layers
            assert not np.allclose(other["probabilities"], trace["probabilities"], atol=1e-5), name


def _same_numbers(name, other):
    """Heads and their concatenation are two sights of one buffer."""
    return {name.rpartition(".")[2], other.rpartition(".")[2]} == {"heads", "concatenated"}


# Against the arithmetic in NumPy

@pytest.mark.parametrize("name", [ATTENTION, MASKED, CROSS])
@pytest.mark.parametrize("part", ["scores", "scaled_scores", "weights"])
def test_inside_attention(backend, name, part):
    model, trace = traced(dtype="float64")
    values = np.random.default_rng(0).standard_normal(trace[f"{name}.{part}"].shape)
    other = model.run_with(trace, {f"{name}.{part}": values})
    weights = values
    if part != "weights":
        scale = 1 / np.sqrt(model.config.d_key) if part == "scores" else 1.0
        weights = np.exp(values * scale)
        if name == MASKED:
            weights = weights * np.tri(len(TARGET))
        weights = weights / weights.sum(axis=-1, keepdims=True)
    assert_close(other[f"{name}.weights"], weights, "float64")
    assert_close(other[f"{name}.heads"], weights @ trace[f"{name}.value"], "float64")
    assert_same_bits(other[f"{name}.{part}"], values)
    for before in list(trace)[:list(trace).index(f"{name}.{part}")]:
        assert_same_bits(other[before], trace[before], before)


def test_hidden_keys_may_be_given_weight(backend):
    model, trace = traced(dtype="float64")
    last = np.zeros_like(trace[f"{MASKED}.weights"])
    last[..., -1] = 1.0  # every query attends to the last target word, its future
    other = model.run_with(trace, {f"{MASKED}.weights": last})
    expected = np.broadcast_to(trace[f"{MASKED}.value"][:, -1:], trace[f"{MASKED}.heads"].shape)
    assert_close(other[f"{MASKED}.heads"], expected, "float64")


def test_a_silenced_head(backend):
    """Heads that give nothing are what zeros in the rows of the output projection do."""
    model, trace = traced(dtype="float64")
    c, name = model.config, ATTENTION
    keep = np.arange(c.n_heads)[:, None, None] != 1
    other = model.run_with(trace, {f"{name}.heads": lambda heads: heads * keep})
    weights = dict(model.weights)
    weights[f"{name}.output.weight"] = weights[f"{name}.output.weight"].copy()
    weights[f"{name}.output.weight"][c.d_value:2 * c.d_value] = 0
    expected = rtfast.Transformer(c, weights).trace(SOURCE, TARGET)
    for after in list(trace)[list(trace).index(f"{name}.output"):]:
        assert_close(other[after], expected[after], "float64")


def test_embeddings_of_other_words(backend):
    model, trace = traced()
    other = model.trace([9, 8, 3, 4, 5], TARGET)
    changed = model.run_with(trace, {"encoder.embedding": other["encoder.embedding"]})
    for name in trace:
        assert_same_bits(changed[name], other[name], name)


def test_several_changes_patterns_and_order(backend):
    model, trace = traced()
    seen = []

    def uniform(weights):
        seen.append(weights.shape)
        return np.full_like(weights, 1 / weights.shape[-1])

    other = model.run_with(trace, {"*.cross_attention.weights": uniform, "logits": 0.0,
                                   "encoder.layers.*.self_attention.scores": lambda scores: scores * 0,
                                   f"{ATTENTION}.weights": uniform})
    assert seen == [(model.config.n_heads, 5, 5)] + [(model.config.n_heads, 4, 5)] * 2
    assert (other[f"{ATTENTION}.scores"] == 0).all() and (other[f"{CROSS}.weights"] == np.float32(1 / 5)).all()
    assert_close(other["probabilities"], np.full_like(trace["probabilities"], 1 / model.config.vocab_size),
                 "float32")


def test_a_batch(backend):
    model = random_model(small_config())[0]
    trace = model.trace([SOURCE, SOURCE[::-1]], [TARGET, [1, 2, 3, 4]])
    name = f"{MASKED}.key"
    other = model.run_with(trace, {name: lambda keys: keys * np.array([1.0, 0.0])[:, None, None, None]})
    for after in trace:
        assert_same_bits(other[after][0], trace[after][0], after)
    assert not np.allclose(other["logits"][1], trace["logits"][1])
    assert not other[name][1].any()


def test_what_a_trace_shows_is_shown_again(backend):
    model = random_model(small_config())[0]
    trace = model.trace(SOURCE, TARGET, include=["logits", "*.weights"])
    other = model.run_with(trace, {"encoder.positional_encoding": 0.0})
    assert list(other) == ["encoder.positional_encoding", *trace]
    assert other.source_ids[0].tolist() == SOURCE and other.target_ids[0].tolist() == TARGET
    assert not np.allclose(other["logits"], trace["logits"])


def test_generated_targets_stay(backend):
    model = random_model(small_config(eos_id=None))[0]
    trace = model.trace(SOURCE, max_new_tokens=6)
    other = model.run_with(trace, {"encoder.input": 0.0})
    assert other.generated == trace.generated and other.tokens == trace.tokens


@pytest.mark.parametrize("changes, error, message", [
    ({"encoder.layer.0": 1.0}, KeyError, "encoder.layer.0"),
    ({"nothing.*": 1.0}, KeyError, "nothing"),
    ({3: 1.0}, KeyError, "3"),
    ({"logits": np.zeros((2, 2))}, ValueError, r"logits must keep its shape \(4, "),
    ({"logits": "one"}, TypeError, "logits"),
    ({"logits": lambda old: None}, TypeError, "logits"),
    ({"logits": np.zeros((4, 1), complex)}, TypeError, "complex128"),
])
def test_what_does_not_fit(backend, changes, error, message):
    model, trace = traced()
    with pytest.raises(error, match=message):
        model.run_with(trace, changes)


def test_an_exception_inside_leaves_the_model_usable(backend):
    model, trace = traced()
    with pytest.raises(ZeroDivisionError):
        model.run_with(trace, {"encoder.input": lambda old: 1 / 0})
    assert_same_trace(model.run_with(trace, {}), trace)


def test_a_trace_of_another_model():
    _, trace = traced({"vocab_size": 30})
    small = random_model(small_config(vocab_size=5))[0]
    with pytest.raises(ValueError, match="outside the vocabulary"):
        small.run_with(trace, {})
    with pytest.raises(TypeError, match="trace must be a Trace"):
        small.run_with({}, {})


@pytest.mark.parametrize("changes", [3, None, ["logits"]])
def test_changes_that_are_no_dict(changes):
    model = random_model(small_config())[0]
    with pytest.raises(TypeError, match="run_with: changes must be a dict of names or patterns, got"):
        model.run_with(model.trace([3], [1]), changes)
