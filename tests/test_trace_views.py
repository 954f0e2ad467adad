"""What a trace tells of a run: parts by pattern, steps, likeliest words, alignment, the lens, and how large it gets."""

import time

import numpy as np
import pytest
from cases import assert_same_bits, skip_unless_bits_are_promised
from models import assert_close, model_of_fewer_words, random_model, small_config

import rtfast
from rtfast.names import selected
from rtfast.page.data import page_data
from rtfast.subwords.missing import MissingTokenizer

SOURCE, TARGET = [3, 4, 5, 6, 7], [1, 8, 9, 4]
VOCABULARY = ["PAD", "SOS", "EOS", *(f"w{i}" for i in range(3, 13))]


def model_of(dtype="float32", tokenizer=None, **fields):
    config = small_config(**fields, dtype=dtype)
    return rtfast.Transformer(config, random_model(config)[0].weights, tokenizer)


# Patterns and selection

def test_patterns():
    trace = model_of().trace(SOURCE, TARGET)
    found = trace["decoder.layers.*.cross_attention.weights"]
    assert list(found) == [f"decoder.layers.{i}.cross_attention.weights" for i in range(2)]
    assert all(found[name] is trace[name] for name in found)
    assert list(trace["encoder.layers.[01].*.quer?"]) == [f"encoder.layers.{i}.self_attention.query" for i in range(2)]
    assert "*.weights" in trace and "*.nothing" not in trace and "logits" in trace
    with pytest.raises(KeyError, match="no intermediate matches"):
        trace["*.nothing"]


def test_include_and_exclude(backend):
    model = model_of()
    whole = model.trace(SOURCE, TARGET)
    for options, wanted in [
            ({"include": "logits"}, lambda name: name == "logits"),
            ({"include": ["*.weights", "probabilities"]}, lambda name: name.endswith(("weights", "probabilities"))),
            ({"exclude": "*scores"}, lambda name: not name.endswith("scores")),
            ({"include": "decoder.*", "exclude": ["*.heads", "*query"]},
             lambda name: name.startswith("decoder.") and not name.endswith(("heads", "query"))),
            ({"include": "*.scaled_scores"}, lambda name: name.endswith(".scaled_scores"))]:
        part = model.trace(SOURCE, TARGET, **options)
        assert list(part) == [name for name in whole if wanted(name)]
        for name in part:
            assert_same_bits(part[name], whole[name], name)


def test_as_many_names_as_a_deep_model_has_take_linear_time():
    """`run_with` asks for all of a trace's by name."""
    every = [f"encoder.layers.{i}.feed_forward" for i in range(4000)]
    started = time.perf_counter()
    assert selected(every, include=[*every[::-1], "*.[0-9].*"], exclude=[every[3], *every[10:]]) \
        == every[:3] + every[4:10]
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("options, error, message", [
    ({"include": "encoder.nothing"}, ValueError, "include: no intermediate matches 'encoder.nothing'"),
    ({"exclude": ["*.weights", "x*"]}, ValueError, r"exclude: no intermediate matches 'x\*'"),
    ({"include": 3}, TypeError, "include must be None, a name or pattern"),
    ({"exclude": [b"logits"]}, TypeError, "exclude must be"),
])
def test_selections_of_nothing(options, error, message):
    with pytest.raises(error, match=message):
        model_of().trace(SOURCE, TARGET, **options)


@pytest.mark.parametrize("fields", [{}, {"d_key": 5, "d_value": 2}, {"gated": True, "positions": "relative"},
                                    {"positions": "learned", "embedding_norm": True, "norm_first": True,
                                     "final_norm": True, "output_scale": 0.5}])
@pytest.mark.parametrize("source, target", [(SOURCE, TARGET), ([SOURCE, SOURCE], [TARGET, TARGET])])
def test_bytes_are_known_before(backend, fields, source, target):
    model = model_of(**fields)
    trace = model.trace(source, target)
    sizes = model.trace_bytes(source, target)
    assert sizes == {name: trace[name].nbytes for name in trace} and list(sizes) == list(trace)
    assert sum(sizes.values()) == trace.nbytes
    assert model.trace_bytes(source, target, include="logits") == {"logits": trace["logits"].nbytes}


def test_a_large_trace_is_refused_before_it_is_taken(monkeypatch):
    from rtfast import tracing
    model = model_of()
    size = model.trace(SOURCE, TARGET).nbytes
    assert model.trace(SOURCE, TARGET, max_bytes=size).nbytes == size
    monkeypatch.setattr(tracing, "Workspace", None)
    with pytest.raises(ValueError, match=f"would hold {size:,} bytes .*more than max_bytes {size - 1:,}; the largest"):
        model.trace(SOURCE, TARGET, max_bytes=size - 1)


# What an intermediate is

def test_items_shapes_and_axes():
    trace = model_of().trace(SOURCE, TARGET)
    sizes = {"head": 3, "source": 5, "target": 4, "word": 13}
    for name in trace:
        item = trace.item(name)
        assert item == (name, trace.op(name), trace.formula(name), trace.inputs(name), trace.axes(name))
        assert trace.shape(name) == trace[name].shape
        assert all(sizes.get(axis, size) == size for axis, size in zip(item.axes, trace[name].shape, strict=True))
    assert trace.axes("decoder.layers.0.cross_attention.scores") == ("head", "target", "source")
    assert trace.axes("decoder.layers.0.cross_attention.key") == ("head", "source", "feature")
    assert trace.axes("logits") == ("target", "word")
    batch = model_of().trace([SOURCE], [TARGET])
    assert all(batch.axes(name) == ("sentence", *trace.axes(name)) for name in trace)


def test_to_dict_is_plain():
    import json
    trace = model_of(tokenizer=rtfast.WordTokenizer(VOCABULARY)).trace(SOURCE, TARGET, include=["*.weights", "logits"])
    read = json.loads(json.dumps(trace.to_dict()))
    assert read["tokens"] == [[VOCABULARY[i] for i in ids] for ids in (SOURCE, TARGET)]
    assert read["source_ids"] == [SOURCE] and read["target_ids"] == [TARGET] and read["generated"] is None
    assert [item["name"] for item in read["intermediates"]] == list(trace)
    for item in read["intermediates"]:
        array = trace[item["name"]]
        assert item["shape"] == list(array.shape) and item["formula"] == trace.formula(item["name"])
        assert np.array_equal(np.array(item["values"], array.dtype), array)


# Steps

@pytest.mark.parametrize("batch", [False, True])
def test_a_step_is_the_trace_of_the_words_until_then(backend, batch):
    """The last step of a shorter target: the decoder had read no more."""
    skip_unless_bits_are_promised(backend)
    model = model_of()
    source, target = ([SOURCE, SOURCE[::-1]], [TARGET, TARGET[::-1]]) if batch else (SOURCE, TARGET)
    trace = model.trace(source, target)
    assert trace.n_steps == 4
    for t in range(4):
        shorter = model.trace(source, [row[:t + 1] for row in target] if batch else target[:t + 1])
        step = trace.step(t)
        assert list(step) == [name for name in trace if "target" in trace.axes(name)]
        for name, row in step.items():
            assert_same_bits(row, shorter[name].take(-1, axis=trace.axes(name).index("target")), f"{name}, step {t}")
        assert list(trace.step(t - 4)) == list(step)
    for t in (4, -5):
        with pytest.raises(IndexError, match=r"step: t must be within 0\.\.3"):
            trace.step(t)


def test_the_likeliest_words(backend):
    model = model_of(tokenizer=rtfast.WordTokenizer(VOCABULARY))
    trace = model.trace(SOURCE, TARGET)
    top = trace.top(3)
    for row, probabilities in zip(top, trace["probabilities"], strict=True):
        order = np.argsort(-probabilities, kind="stable")[:3]
        assert row == [(VOCABULARY[i], float(probabilities[i])) for i in order]
    assert len(trace.top()[0]) == 5 and len(trace.top(100)[0]) == 13
    assert trace.top(1)[-1][0][0] == VOCABULARY[model.logits(SOURCE, TARGET)[-1].argmax()]
    batch = model.trace([SOURCE, SOURCE], [TARGET, TARGET])
    assert batch.top(3) == [top, top]
    assert model_of().trace(SOURCE, TARGET).top(1)[0][0][0] == VOCABULARY.index(top[0][0][0])
    assert trace.top(np.int64(3)) == top
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"top: k must be 1 or more, got {k}"):
            trace.top(k)
    for k in (1.0, True, "a", None):
        with pytest.raises(TypeError, match="top: k must be an integer, got"):
            trace.top(k)
    with pytest.raises(KeyError, match="probabilities is not in this trace"):
        model.trace(SOURCE, TARGET, include="logits").top()


def test_what_no_step_and_no_size_is():
    trace = model_of().trace(SOURCE, TARGET)
    assert list(trace.step(np.int64(1))) == list(trace.step(1))
    for t in ("a", 1.5, None, True):
        with pytest.raises(TypeError, match="step: t must be an integer, got"):
            trace.step(t)
    for size in ("a", True, [3]):
        with pytest.raises(TypeError, match="max_bytes must be None or a number, got"):
            model_of().trace(SOURCE, TARGET, max_bytes=size)
    with pytest.raises(TypeError, match="put: item must be a TraceItem, got str"):
        trace.put("mine", np.zeros(3))
    with pytest.raises(ValueError, match=r"put: array must have the axes \('target', 'feature'\), got shape \(3,\)"):
        trace.put(trace.item("decoder.input"), np.zeros(3))


# Across layers

def test_alignment():
    model = model_of(n_decoder_layers=3)
    trace = model.trace(SOURCE, TARGET)
    weights = np.stack([trace[f"decoder.layers.{i}.cross_attention.weights"] for i in range(3)])
    assert_close(trace.alignment(), weights.mean(axis=(0, 1)), "float32")
    assert_close(trace.alignment(layers=-1), weights[2].mean(axis=0), "float32")
    assert_close(trace.alignment(layers=[0, 2], heads=1), weights[[0, 2], 1].mean(axis=0), "float32")
    assert np.allclose(trace.alignment(heads=[0, -1]).sum(axis=-1), 1)
    batch = model.trace([SOURCE, SOURCE[::-1]], [TARGET, TARGET])
    assert batch.alignment(layers=1).shape == (2, 4, 5)
    assert_same_bits(batch.alignment()[0], trace.alignment())
    for options in ({"layers": 3}, {"heads": -4}, {"layers": []}):
        with pytest.raises(ValueError, match="alignment: (layers|heads) must be"):
            trace.alignment(**options)
    for options in ({"heads": "0"}, {"layers": 1.5}, {"layers": [0, "1"]}, {"heads": True}):
        with pytest.raises(TypeError, match="alignment: (layers|heads) must be an integer, got"):
            trace.alignment(**options)
    with pytest.raises(KeyError, match="cross_attention.weights is not in this trace"):
        model.trace(SOURCE, TARGET, include="logits").alignment()


def test_alignment_of_ten_layers_is_in_their_order():
    trace = model_of(n_decoder_layers=11).trace(SOURCE, TARGET)
    assert_close(trace.alignment(layers=10), trace["decoder.layers.10.cross_attention.weights"].mean(axis=0), "float32")


LENSES = {
    "post-norm": {}, "tied": {"tie_embeddings": True, "output_bias": False, "output_scale": 0.25},
    "pre-norm": {"norm_first": True, "final_norm": True},
    "pre-norm, rms, own words": {"norm_first": True, "final_norm": True, "rms_norm": True, "target_vocab_size": 17},
    "normed embedding": {"embedding_norm": True}, "no residual, no norm": {"residual": False, "norm": False},
    "no layers": {"n_decoder_layers": 0},
}


@pytest.mark.parametrize("fields", LENSES.values(), ids=LENSES.keys())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_lens(backend, fields, dtype):
    model = model_of(dtype, **fields)
    trace = model.trace(SOURCE, TARGET)
    lens = trace.lens()
    c = model.config
    assert len(lens) == 1 + c.n_decoder_layers and set(lens) <= set(trace)
    assert list(lens)[0] == ("decoder.embedding.norm" if c.embedding_norm else "decoder.input")
    assert_same_bits(list(lens.values())[-1], trace["logits"])
    output = model.weights[c.target_embedding].T if c.tie_embeddings else model.weights["output.weight"]
    for name, logits in lens.items():
        state = trace[name].astype(np.float64)
        if c.final_norm:
            mean = 0 if c.rms_norm else state.mean(axis=-1, keepdims=True)
            spread = np.sqrt(((state - mean) ** 2).mean(axis=-1, keepdims=True) + 1e-5)
            state = (state - mean) / spread * model.weights["decoder.norm.gamma"]
            state = state + (0 if c.rms_norm else model.weights["decoder.norm.beta"])
        expected = state * c.output_scale @ output + (model.weights["output.bias"] if c.output_bias else 0)
        assert_close(logits, expected, dtype, name, tolerance=1e-4 if dtype == "float32" else 1e-10)


def test_the_lens_of_a_batch(backend):
    model = model_of()
    lens = model.trace([SOURCE, SOURCE[::-1]], [TARGET, TARGET]).lens()
    for name, logits in model.trace(SOURCE, TARGET).lens().items():
        assert_same_bits(lens[name][0], logits, name)


def test_a_lens_without_what_it_needs():
    trace = model_of().trace(SOURCE, TARGET, exclude="decoder.layers.0.feed_forward.*")
    with pytest.raises(KeyError, match="decoder.layers.0.feed_forward.norm is not in this trace"):
        trace.lens()
    trace.model = None
    with pytest.raises(ValueError, match="lens: needs the model"):
        trace.lens()


# Pictures: what they show is the subject of test_plots.py, test_notebook.py and test_page.py

def test_pictures(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra plot")
    trace = model_of(tokenizer=rtfast.WordTokenizer(VOCABULARY)).trace(SOURCE, TARGET)
    axes = trace.plot_attention("decoder.layers.0.cross_attention.weights", head=1)
    assert_same_bits(np.asarray(axes.images[0].get_array()), trace["decoder.layers.0.cross_attention.weights"][1])
    assert_same_bits(np.asarray(trace.plot_alignment(layers=1).images[0].get_array()), trace.alignment(layers=1))
    assert trace.plot_lens(k=2).images
    table = np.asarray(trace.plot_positional_encoding(7).images[0].get_array())
    assert np.allclose(table, rtfast.kernels.positional_encoding(7, 12))
    trace.model = None
    with pytest.raises(ValueError, match="plot_positional_encoding: needs the model"):
        trace.plot_positional_encoding()


def test_html(tmp_path):
    model = model_of(tokenizer=rtfast.WordTokenizer(VOCABULARY))
    trace = model.trace(SOURCE, TARGET)
    assert "decoder.layers.1.cross_attention.weights" in trace._repr_html_() and "w9" in trace._repr_html_()
    assert "d_model" in model._repr_html_()
    size = trace.save_page(tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size == size
    assert trace.save_page(tmp_path / "page.html", weights=False) < size
    trace.model = None
    with pytest.raises(ValueError, match="save_page: needs the model"):
        trace.save_page(tmp_path / "page.html")


# Words without a name

def test_ids_that_the_tokenizer_has_no_word_for():
    model = model_of_fewer_words()
    trace = model.trace("w4 w5")
    assert trace.tokens == (["w4", "w5"], ["SOS", "<9>", "w3", "<10>"])
    words = ["w0", "SOS", "EOS", *(f"w{i}" for i in range(3, 8)), *(f"<{i}>" for i in range(8, 13))]
    assert trace.top(4)[0] == [(word, trace.top(4)[0][i][1]) for i, word in enumerate(["<9>", "w3", "<10>", "EOS"])]
    assert sorted(word for word, _ in trace.top(13)[0]) == sorted(words)
    data = page_data(model, trace)
    assert data["words"] == {str(i): word for i, word in enumerate(words)}
    assert [word["word"] for word in data["following"]] == ["<9>", "w3", "<10>", "EOS"]
    assert "&lt;9&gt;" in trace._repr_html_()
    assert model.trace([4, 5], [1, 9, 12]).tokens[1] == ["SOS", "<9>", "<12>"]


def test_a_tokenizer_whose_package_is_missing():
    model = model_of_fewer_words()
    model.tokenizer = MissingTokenizer("tokenizers")
    trace = model.trace([4, 5])
    assert trace.tokens == ([4, 5], [1, 9, 3, 10]) and trace.top(1)[0][0][0] == 9
    assert page_data(model, trace)["words"]["9"] == "9"
