"""A trace: every intermediate by name, in order of computation, with the bits of the untraced run."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from cases import assert_same_bits, skip_unless_bits_are_promised
from models import TOLERANCE, assert_close, random_ids, random_model, random_values, small_config

import rtfast
from rtfast import backends, tracing

SOURCE, TARGET = [3, 4, 5, 6, 7], [1, 8, 9]

CONFIGS = {
    "small": {},
    "free head sizes": {"d_key": 5, "d_value": 2},
    "odd width, one head": {"d_model": 7, "n_heads": 1},
    "biases": {"attention_bias": True},
    "no residual": {"residual": False},
    "no norm": {"norm": False},
    "neither": {"residual": False, "norm": False},
    "tied": {"tie_embeddings": True, "output_bias": False},
    "no layers": {"n_encoder_layers": 0, "n_decoder_layers": 0},
    "article's conventions": {"article_layer_norm": True, "article_softmax": True, "embedding_scale": 2.0,
                              "article_positional_encoding": True, "attention_scale": 1 / 30},
}
every_config = pytest.mark.parametrize("fields", CONFIGS.values(), ids=CONFIGS.keys())
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def expected_shapes(config, s, t):
    """{name: shape} of a trace of S source and T target words, in order of computation."""
    h, d, k, v = config.n_heads, config.d_model, config.d_key, config.d_value

    def embedding(name, n):
        return {f"{name}.embedding": (n, d), f"{name}.positional_encoding": (n, d), f"{name}.input": (n, d)}

    def attend(name, queries, keys):
        return {f"{name}.scores": (h, queries, keys), f"{name}.scaled_scores": (h, queries, keys),
                f"{name}.weights": (h, queries, keys), f"{name}.heads": (h, queries, v),
                f"{name}.concatenated": (queries, h * v), f"{name}.output": (queries, d)}

    def self_attention(name, n):
        return {f"{name}.query": (h, n, k), f"{name}.key": (h, n, k), f"{name}.value": (h, n, v),
                **attend(name, n, n), **residual_and_norm(name, n)}

    def residual_and_norm(name, n):
        return {f"{name}.{part}": (n, d) for part in ("residual", "norm") if getattr(config, part)}

    def feed_forward(name, n):
        return {f"{name}.hidden": (n, config.d_ff), f"{name}.output": (n, d), **residual_and_norm(name, n)}

    shapes = embedding("encoder", s)
    for i in range(config.n_encoder_layers):
        shapes |= self_attention(f"encoder.layers.{i}.self_attention", s)
        shapes |= feed_forward(f"encoder.layers.{i}.feed_forward", s)
    for i in range(config.n_decoder_layers):
        name = f"decoder.layers.{i}.cross_attention"
        shapes |= {f"{name}.key": (h, s, k), f"{name}.value": (h, s, v)}
    shapes |= embedding("decoder", t)
    for i in range(config.n_decoder_layers):
        name = f"decoder.layers.{i}"
        shapes |= self_attention(f"{name}.self_attention", t)
        shapes |= {f"{name}.cross_attention.query": (h, t, k), **attend(f"{name}.cross_attention", t, s)}
        shapes |= residual_and_norm(f"{name}.cross_attention", t)
        shapes |= feed_forward(f"{name}.feed_forward", t)
    return {**shapes, "logits": (t, config.vocab_size), "probabilities": (t, config.vocab_size)}


@both_dtypes
@every_config
def test_names_in_order_and_shapes(backend, fields, dtype):
    config = small_config(**fields, dtype=dtype)
    trace = random_model(config)[0].trace(SOURCE, TARGET)
    expected = expected_shapes(config, len(SOURCE), len(TARGET))
    assert list(trace) == list(expected)
    for name, shape in expected.items():
        assert trace[name].shape == shape and trace[name].dtype == dtype, name
        assert trace[name].flags.c_contiguous and trace[name].flags.writeable


@every_config
def test_formulas_and_inputs(fields):
    """What an intermediate was computed from came before it, or is a weight of the model."""
    model = random_model(small_config(**fields))[0]
    trace = model.trace(SOURCE, TARGET)
    known = set(model.weights)
    for name in trace:
        assert trace.formula(name) and isinstance(trace.formula(name), str)
        assert trace.inputs(name) or name.endswith("positional_encoding"), name
        assert isinstance(trace.op(name), str)
        unknown = [one for one in trace.inputs(name) if one not in known]
        assert not unknown, f"{name} is said to come from {unknown}, which the trace does not show"
        known.add(name)


def test_formulas_tell_the_config():
    def formula(name, **fields):
        return random_model(small_config(**fields))[0].trace(SOURCE, TARGET).formula(name)

    name = "encoder.layers.0.feed_forward"
    assert formula(f"{name}.hidden") == "relu(x W + b)"
    assert formula(f"{name}.hidden", activation=None, feed_forward_bias=False) == "x W"
    assert "sqrt(var + eps)" in formula(f"{name}.norm")
    assert "(std + eps)" in formula(f"{name}.norm", article_layer_norm=True)
    assert formula("encoder.layers.0.self_attention.query", attention_bias=True) == "x W_Q + b"
    assert "2.5" in formula("encoder.embedding", embedding_scale=2.5)
    assert formula("logits", output_bias=True) == "x W + b"
    assert formula("logits", output_bias=False) == "x W"


# The same values as everywhere else

@both_dtypes
@every_config
def test_traced_is_untraced_bit_for_bit(backend, fields, dtype):
    config = small_config(**fields, dtype=dtype)
    model = random_model(config)[0]
    source, target = random_ids(config, 30), random_ids(config, 20, seed=1)
    states, logits = model.encode(source), model.logits(source, target)
    trace = model.trace(source, target)
    before_memory = [name for name in trace if name.startswith("encoder.")][-1]
    assert_same_bits(trace[before_memory], states)
    assert_same_bits(trace["logits"], logits)
    assert_same_bits(model.encode(source), states)  # nor does a trace change the model


@both_dtypes
@every_config
def test_every_backend_gives_the_same_trace(fields, dtype):
    config = small_config(**fields, dtype=dtype)
    weights, traces = random_values(config), {}
    for name in backends.available():
        with backends.using(name):
            traces[name] = rtfast.Transformer(config, weights).trace(SOURCE, TARGET)
    reference = traces.pop("python")
    for backend, trace in traces.items():
        assert list(trace) == list(reference)
        for name, expected in reference.items():
            assert trace.formula(name) == reference.formula(name)
            assert_close(trace[name], expected, dtype, f"{name} of {backend}", 4 * TOLERANCE[dtype])


@both_dtypes
@every_config
def test_the_steps_follow_from_each_other(backend, fields, dtype):
    """Every intermediate is what its name says of those before it."""
    config = small_config(**fields, dtype=dtype)
    model = random_model(config)[0]
    trace = model.trace(SOURCE, TARGET)
    scale = config.attention_scale or 1 / math.sqrt(config.d_key)

    def check(name, expected):
        assert_close(trace[name], np.asarray(expected, np.float64), dtype, name, 4 * TOLERANCE[dtype])

    for side, ids in (("encoder", SOURCE), ("decoder", TARGET)):
        check(f"{side}.embedding", model.weights["embedding.weight"][ids] * config.embedding_scale)
        check(f"{side}.input", trace[f"{side}.embedding"] + trace[f"{side}.positional_encoding"])
    for name in [name[:-len(".scores")] for name in trace if name.endswith(".scores")]:
        query, key, value = (trace[f"{name}.{part}"] for part in ("query", "key", "value"))
        check(f"{name}.scores", query @ key.swapaxes(1, 2))
        causal = name.startswith("decoder") and name.endswith("self_attention")
        visible = np.tri(*trace[f"{name}.scores"].shape[1:], dtype=bool) | (not causal)
        scaled = trace[f"{name}.scaled_scores"]
        assert np.allclose(scaled[:, visible], trace[f"{name}.scores"][:, visible] * scale, rtol=1e-5)
        powers = np.where(visible, np.exp(np.where(visible, scaled, 0)), 0)
        check(f"{name}.weights", powers / powers.sum(axis=-1, keepdims=True))
        check(f"{name}.heads", trace[f"{name}.weights"] @ value)
        assert_same_bits(trace[f"{name}.concatenated"], np.concatenate(trace[f"{name}.heads"], axis=1))
        projected = trace[f"{name}.concatenated"] @ model.weights[f"{name}.output.weight"]
        check(f"{name}.output", projected + model.weights.get(f"{name}.output.bias", 0))
    powers = np.exp(trace["logits"] - trace["logits"].max(axis=1, keepdims=True))
    check("probabilities", powers / powers.sum(axis=1, keepdims=True))


@both_dtypes
def test_attention_weights(backend, dtype):
    """Rows sum to one; the decoder's own are zero above the diagonal, and nowhere else."""
    trace = random_model(small_config(dtype=dtype))[0].trace(SOURCE, [1, 8, 9, 10, 11])
    for name in (name for name in trace if name.endswith(".weights")):
        weights = trace[name]
        assert np.allclose(weights.sum(axis=-1), 1, rtol=0, atol=1e-6)
        causal = name.startswith("decoder") and ".self_attention" in name
        seen = np.tri(5, dtype=bool) if causal else np.ones((5, 5), bool)
        assert (weights[:, ~seen] == 0).all() and (weights[:, seen] > 0).all(), name


def test_what_is_masked_says_so(backend):
    """Causal scaled scores, as their formula tells, have no number where a query may not attend."""
    trace = random_model(small_config())[0].trace(SOURCE, TARGET)
    name = "decoder.layers.0.self_attention.scaled_scores"
    hidden = trace[name][:, ~np.tri(3, dtype=bool)]
    assert ("the future masked" in trace.formula(name)) == bool(np.isneginf(hidden).all())


# Batches and generated targets

@both_dtypes
def test_a_batch(backend, dtype):
    skip_unless_bits_are_promised(backend)
    config = small_config(dtype=dtype)
    model = random_model(config)[0]
    sources, targets = random_ids(config, (3, 5)), random_ids(config, (3, 4), seed=1)
    trace = model.trace(sources, targets)
    shapes = expected_shapes(config, 5, 4)
    assert {name: trace[name].shape for name in trace} == {name: (3, *shapes[name]) for name in shapes}
    for b in range(3):
        alone = model.trace(sources[b], targets[b])
        for name in alone:
            assert_same_bits(trace[name][b], alone[name], name)
    one = model.trace(sources[:1], targets[:1])
    assert all(one[name].shape == (1, *shape) for name, shape in shapes.items())


def test_sentences_of_several_lengths_are_refused():
    model = random_model(small_config(pad_id=0))[0]
    with pytest.raises(ValueError, match=r"one length; src has lengths \[1, 2\]"):
        model.trace([[3, 4], [5]], [[1], [1]])
    with pytest.raises(ValueError, match=r"one length; tgt has lengths \[1, 3\]"):
        model.trace([[3, 4], [5, 6]], [[1, 0, 0], [1, 4, 4]])


def test_without_a_target_it_generates_one(backend):
    model = random_model(small_config(eos_id=None))[0]
    trace = model.trace(SOURCE, max_new_tokens=6)
    generated = model.generate(SOURCE, 6)
    assert trace["logits"].shape == (6, 13)
    assert trace["logits"].argmax(axis=1).tolist() == generated
    assert trace.tokens == (SOURCE, [1, *generated[:-1]])
    assert trace.generated == generated  # in generate's form: a list of ids for one sentence
    batch = model.trace([SOURCE, SOURCE[::-1]], max_new_tokens=6)
    assert batch["logits"].shape == (2, 6, 13)
    assert batch.generated == model.generate([SOURCE, SOURCE[::-1]], 6)
    assert model.trace(SOURCE, TARGET).generated is None


def test_a_target_that_ends_in_generated_padding(backend):
    """The decoder reads all that the model generated, though padding is no part of a target that is given."""
    config = small_config(pad_id=0)
    weights = random_values(config)
    weights["output.bias"][0] = 1e3
    model = rtfast.Transformer(config, weights)
    assert model.generate(SOURCE, 6) == [0] * 6
    trace = model.trace(SOURCE, max_new_tokens=6)
    assert trace["logits"].shape == (6, 13) and trace.tokens[1] == [1, 0, 0, 0, 0, 0]


def test_the_words_of_a_text(backend):
    words = rtfast.article.VOCABULARY
    model = rtfast.Transformer.random(rtfast.Config.article(), vocabulary=words)
    trace = model.trace("hello world", "hola mundo")
    assert trace.tokens == (["hello", "world"], ["SOS", "hola", "mundo"])
    assert trace["decoder.input"].shape == (3, 4)
    assert model.trace(["hello world"], ["hola mundo"]).tokens == (
        [["hello", "world"]], [["SOS", "hola", "mundo"]])


# The mapping

@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
@pytest.mark.parametrize("words", [1, 2])
def test_the_gate_is_what_comes_before_its_activation(backend, activation, words):
    model, _ = random_model(small_config(gated=True, activation=activation))
    trace = model.trace(SOURCE[:words], TARGET)
    name = "encoder.layers.0.feed_forward"
    x = trace["encoder.layers.0.self_attention.norm"]
    expected = x @ model.weights[f"{name}.gate.weight"] + model.weights[f"{name}.gate.bias"]
    assert_close(trace[f"{name}.gate"], expected, "float32")
    assert (trace[f"{name}.gate"] < 0).any()
    again = model.run_with(trace, {f"{name}.gate": trace[f"{name}.gate"]})
    assert_same_bits(again["logits"], trace["logits"])


def test_it_is_a_mapping():
    trace = random_model(small_config())[0].trace(SOURCE, TARGET)
    assert isinstance(trace, Mapping) and isinstance(trace, rtfast.Trace)
    assert len(trace) == len(list(trace)) == len(dict(trace)) > 80
    assert "logits" in trace and "nothing" not in trace and trace.get("nothing") is None
    assert [name for name, _ in trace.items()] == list(trace.keys())
    size = sum(values.nbytes for values in trace.values())
    assert repr(trace) == f"Trace({len(trace)} intermediates, {size:,} bytes)"


def test_a_wrong_name_gets_a_message():
    trace = random_model(small_config())[0].trace(SOURCE, TARGET)
    message = rf"no intermediate is named 'logit'; list\(trace\) shows all {len(trace)}"
    with pytest.raises(KeyError, match=message):
        trace["logit"]
    for call in (trace.formula, trace.inputs, trace.op):
        with pytest.raises(KeyError, match="'logit'"):
            call("logit")


def test_its_arrays_are_its_own(backend):
    model = random_model(small_config())[0]
    first = model.trace(SOURCE, TARGET)
    kept = {name: values.copy() for name, values in first.items()}
    second = model.trace(SOURCE[::-1], TARGET[::-1])
    for values in second.values():
        values[...] = np.nan
    third = model.trace(SOURCE, TARGET)
    for name, values in kept.items():
        assert_same_bits(first[name], values, name)
        assert_same_bits(third[name], values, name)


@pytest.mark.parametrize("weight, first", [
    ("embedding.weight", "encoder.embedding"),
    ("encoder.layers.1.self_attention.key.weight", "encoder.layers.1.self_attention.key"),
    ("encoder.layers.1.self_attention.output.weight", "encoder.layers.1.self_attention.output"),
    ("encoder.layers.0.feed_forward.norm.beta", "encoder.layers.0.feed_forward.norm"),
    ("decoder.layers.0.cross_attention.value.weight", "decoder.layers.0.cross_attention.value"),
    ("decoder.layers.1.feed_forward.hidden.bias", "decoder.layers.1.feed_forward.hidden"),
    ("output.bias", "logits")])
def test_first_nan(backend, weight, first):
    config = small_config()
    weights = random_values(config)
    assert rtfast.Transformer(config, weights).trace(SOURCE, TARGET).first_nan() is None
    weights[weight][...] = np.nan
    model = rtfast.Transformer(config, weights)
    trace = model.trace(SOURCE, TARGET)
    assert trace.first_nan() == first
    names = list(trace)
    assert not any(np.isnan(trace[name]).any() for name in names[:names.index(first)])
    with pytest.warns(RuntimeWarning, match=f"appeared first in {first} = "):
        model.logits(SOURCE, TARGET)
    with pytest.warns(RuntimeWarning, match=f"appeared first in {first} = "):
        model.generate(SOURCE, 4)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("call", [
    lambda model: model.encode(SOURCE), lambda model: model.logits(SOURCE, TARGET),
    lambda model: model.generate(SOURCE, 2), lambda model: model.generate(SOURCE, 2, num_beams=2),
    lambda model: list(model.stream(SOURCE, 2)), lambda model: model.score(SOURCE, TARGET[1:])])
def test_a_warning_of_nan_blames_the_users_line(monkeypatch, call, large):
    config = small_config()
    weights = random_values(config)
    weights["encoder.layers.0.self_attention.query.weight"][...] = np.nan
    model = rtfast.Transformer(config, weights)
    if large:
        monkeypatch.setattr(tracing, "MAX_BYTES", 1000)
    with pytest.warns(RuntimeWarning, match="the result is NaN") as caught:
        call(model)
    assert {warning.filename for warning in caught} == {__file__}


def test_nothing_large_is_traced_for_a_warning(backend, monkeypatch):
    config = small_config()
    weights = random_values(config)
    weights["output.bias"][...] = np.nan
    model = rtfast.Transformer(config, weights)
    monkeypatch.setattr(tracing, "MAX_BYTES", 1000)
    with pytest.warns(RuntimeWarning, match="the result is NaN; a trace of parts .* tells where"):
        model.logits(SOURCE, TARGET)


def test_a_trace_of_text_generates_as_generate_does(backend):
    """What the tokenizer asks for, of its target language, holds for both."""
    class OfTwoLanguages(rtfast.WordTokenizer):
        target_options = {"forced_bos_token_id": 3, "decoder_start_token_id": 6}

    words = [f"w{i}" for i in range(small_config().vocab_size)]
    tokenizer = OfTwoLanguages(words, sos="w0", eos="w1")
    config = small_config(sos_id=0, eos_id=1)
    model = rtfast.Transformer(config, random_values(config), tokenizer=tokenizer)
    ids = model.generate("w4 w5 w2", 5)
    trace = model.trace("w4 w5 w2", max_new_tokens=5)
    assert ids[0] == 3 and list(trace.generated) == ids
    assert trace.target_ids[0].tolist() == [6, *ids[:-1]]
