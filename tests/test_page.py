"""The page: its data are the trace's and the model's own numbers, its text is safe, its size is kept."""

import base64
import errno
import fnmatch
import json
import os
import re
import stat
import subprocess

import numpy as np
import pytest
from models import random_model, random_values, small_config

import rtfast
from rtfast import page
from rtfast.page import data as page_module
from rtfast.page import page_html, write_page

SOURCE, TARGET = [3, 4, 5, 6, 7], [1, 8, 9, 2]

CONFIGS = {
    "small": {},
    "float64": {"dtype": "float64"},
    "article's conventions": {
        "article_layer_norm": True, "article_softmax": True, "embedding_scale": 2.0, "dtype": "float64",
        "article_positional_encoding": True, "attention_scale": 1 / 30, "d_key": 5, "d_value": 2},
    "T5": {"positions": "relative", "rms_norm": True, "gated": True, "norm_first": True, "final_norm": True,
           "tie_embeddings": True, "output_scale": 0.3, "output_bias": False, "feed_forward_bias": False,
           "activation": "gelu_tanh", "relative_buckets": 8, "relative_distance": 6},
    "BART": {"positions": "learned", "embedding_norm": True, "attention_bias": True, "activation": "gelu",
             "norm_first": True, "final_norm": True, "final_norm_eps": 1e-3, "tie_embeddings": True},
    "Marian": {"positions": "halves", "position_offset": 2, "d_model": 9, "activation": "silu"},
    "M2M100, odd width": {"positions": "tensor2tensor", "d_model": 7, "n_heads": 1},
    "without residual, norm, positions": {"residual": False, "norm": False, "positions": None, "output_bias": False},
    "no residual, no activation": {"residual": False, "activation": None},
    "no norm": {"norm": False},
    "two vocabularies": {"target_vocab_size": 17},
    "two vocabularies, tied, gated": {"target_vocab_size": 17, "tie_embeddings": True, "gated": True,
                                      "activation": "gelu", "dtype": "float64"},
    "no layers": {"n_encoder_layers": 0, "n_decoder_layers": 0},
}
every_config = pytest.mark.parametrize("fields", CONFIGS.values(), ids=CONFIGS.keys())


def traced(fields=None):
    """A model of small sizes and its trace."""
    model = random_model(small_config(**(fields or {})))[0]
    return model, model.trace(SOURCE, TARGET)


def embedded(text):
    """The data of a page, as a browser reads them."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(found[1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def decoded(stored):
    """The array of what `data.encoded` made, in its true type."""
    shape = list(stored["shape"])
    if "ids" in stored:
        shape[stored["axis"]] = len(stored["ids"])
    array = np.frombuffer(base64.b64decode(stored["data"]), np.dtype(stored["dtype"]).newbyteorder("<"))
    return array.reshape(shape).astype(stored["true_dtype"])


def cut(array, stored):
    return np.take(array, stored["ids"], stored["axis"]) if "ids" in stored else array


# The numbers

@every_config
def test_every_array_is_there_bit_for_bit(fields):
    model, trace = traced(fields)
    found = embedded(page_html(model, trace))
    assert list(found["arrays"]) == list(trace)
    for name, array in trace.items():
        assert decoded(found["arrays"][name]).tobytes() == array.tobytes(), name
    assert list(found["weights"]) == list(model.weights)
    for name, array in model.weights.items():
        stored = found["weights"][name]
        assert decoded(stored).tobytes() == cut(array, stored).tobytes(), name


def test_float16_only_where_it_holds_every_bit():
    values = random_values(small_config())
    exact = values["encoder.layers.0.self_attention.query.weight"]
    exact[...] = exact.astype(np.float16)
    model = rtfast.Transformer(small_config(), values)
    weights = embedded(page_html(model, model.trace(SOURCE, TARGET)))["weights"]
    assert {name for name, stored in weights.items() if stored["dtype"] == "float16"} == {
        "encoder.layers.0.self_attention.query.weight"}
    for numbers, dtype in (([0.5, -0.0, np.inf], "float16"), ([1e-9], "float32"), ([70000.0], "float32"),
                           ([np.nan], "float16"), ([1 / 3], "float32")):
        array = np.array(numbers, np.float32)
        assert page_module.packed_dtype(array) == dtype
        assert decoded(page_module.encoded(array)).tobytes() == array.tobytes()


def test_nan_and_infinities_survive():
    config = small_config()
    values = random_values(config)
    values["encoder.layers.1.feed_forward.hidden.bias"][:3] = np.nan, np.inf, -np.inf
    model = rtfast.Transformer(config, values)
    trace = model.trace(SOURCE, TARGET)
    found = embedded(page_html(model, trace))
    hidden = decoded(found["arrays"]["encoder.layers.1.feed_forward.hidden"])
    assert np.isnan(hidden[:, 0]).all() and np.isinf(hidden[:, 1]).all()
    assert all(len(row) == page_module.CANDIDATES for row in found["top"])  # all probabilities are NaN


def test_likeliest_words():
    model, trace = traced()
    found = embedded(page_html(model, trace))
    for row, probabilities in zip(found["top"], trace["probabilities"], strict=True):
        assert probabilities[row].tolist() == sorted(probabilities.tolist(), reverse=True)[:page_module.CANDIDATES]
    assert [one and one["id"] for one in found["following"]] == [8, 9, 2, None] and not found["generated"]
    generated = model.trace(SOURCE, max_new_tokens=4)
    found = embedded(page_html(model, generated))
    assert [one["id"] for one in found["following"]] == generated.generated and found["generated"]


# The walk

@every_config
def test_every_name_has_one_place_and_an_origin(fields):
    model, trace = traced(fields)
    found = embedded(page_html(model, trace))
    blocks = [block for step in found["walk"] for layer in step.get("layers", ()) for block in layer["blocks"]]
    names = [entry["name"] for step in (*found["walk"], *blocks) for entry in step["names"]]
    assert sorted(names) == sorted(trace)
    assert "more" not in {step["id"] for step in found["walk"]}
    for name, origin in found["origins"].items():
        assert origin["kind"] != "other", name
        assert origin["formula"] == trace.formula(name) and origin["inputs"] == list(trace.inputs(name))
    ids = [step["id"] for step in found["walk"]]
    assert ids[0] == "tokens" and ids[-1] == "next-word" and ids == sorted(ids, key=ids.index)
    assert all(step["say"] and "{" not in step["say"] for step in (*found["walk"], *blocks))


def says(**fields):
    """{name of an intermediate or step, of blocks their kind and side: what the page says about it}."""
    found = embedded(page_html(*traced(fields)))["walk"]
    blocks = [block for step in found for layer in step.get("layers", ())[:1] for block in layer["blocks"]]
    texts = {entry["name"]: f"{entry['title']}: {entry['say']}" for step in (*found, *blocks)
             for entry in step["names"]}
    return texts | {step["id"]: step["say"] for step in (*found, *blocks)}


def test_what_it_says_is_so_of_every_kind_of_model():
    """Biases of distances, gates, scales and positions only where the model has them."""
    plain, t5 = says(), says(**CONFIGS["T5"], attention_scale=1.0)
    layer, cross = "encoder.layers.0", "decoder.layers.0.cross_attention.scaled_scores"
    assert "a learned bias" in t5[f"{layer}.self_attention.scaled_scores"]
    assert "a learned bias" not in t5[cross]  # T5's cross-attention has none
    assert "leaves the scores" in t5[cross] and "multiplied by" in plain[cross]
    hidden, gated = f"{layer}.feed_forward.hidden", f"{layer}.feed_forward.gated"
    assert "relu sets" in plain[hidden] and "gelu_tanh" not in t5[hidden] and "gelu_tanh bends" in t5[gated]
    assert gated not in plain and "negative" not in says(gated=True, activation=None)[gated]
    assert "third" in t5["encoder-layers-0-feed_forward"] and "third" not in plain["encoder-layers-0-feed_forward"]
    assert "activation" not in says(activation=None)["encoder-layers-0-feed_forward"]
    assert "told its place" in plain["encoder-input"]
    assert "how far apart" in t5["encoder-input"] and "told of none" in says(positions=None)["encoder-input"]
    assert "times" not in t5["encoder.input"] and "times 2" in says(positions=None, embedding_scale=2)["encoder.input"]
    assert "first layer" in plain["encoder.input"] and "first layer" not in says(embedding_norm=True)["encoder.input"]


def test_the_order_is_that_of_the_paper():
    found = embedded(page_html(*traced()))
    assert [step["id"] for step in found["walk"]] == [
        "tokens", "encoder-input", "encoder-stack", "decoder-input", "decoder-stack", "cross", "next-word"]
    decoder = found["walk"][4]["layers"][0]["blocks"]
    assert [block["kind"] for block in decoder] == ["self_attention", "cross_attention", "feed_forward"]
    assert [entry["name"].rpartition(".")[2] for entry in decoder[1]["names"]] == [
        "query", "key", "value", "scores", "scaled_scores", "weights", "heads", "concatenated", "output", "residual",
        "norm"]


def test_a_part_of_a_trace():
    """What was left out is not on the page; the rest is."""
    model = random_model(small_config())[0]
    trace = model.trace(SOURCE, TARGET, include=["*.self_attention.scores", "*.heads", "encoder.input", "logits"])
    found = embedded(page_html(model, trace))
    assert list(found["arrays"]) == list(trace) and found["top"] == []
    assert found["origins"]["decoder.layers.0.self_attention.scores"]["masked"]


def test_what_no_step_knows_is_shown_at_the_end(monkeypatch):
    model, trace = traced()
    item = trace.item("logits")._replace(name="novelty", op="novel", formula="f(logits)", inputs=("logits",))
    trace.put(item, trace["logits"])
    found = embedded(page_html(model, trace))
    assert found["walk"][-1]["id"] == "more" and found["walk"][-1]["names"][0]["name"] == "novelty"
    assert found["origins"]["novelty"]["kind"] == "other"


# The text

HOSTILE = ["</script><script>alert(1)</script>", "<!--", "]]>", "\"'&amp;<b>", "{0}", "\\u003c", "<img/src=x>",
           "é中\u200b\ud7ff"]


def test_no_word_is_markup():
    words = ["PAD", "SOS", "EOS", *HOSTILE, "a", "b"]
    config = small_config()
    model = rtfast.Transformer(config, random_values(config), rtfast.WordTokenizer(words))
    text = page_html(model, model.trace([3, 4, 5, 6], [1, 7, 8, 9, 10]))
    assert text.count("<script") == 2 and text.count("</script>") == 2 and "<img/src" not in text
    assert "<!--" not in text
    found = embedded(text)
    assert [one["word"] for one in found["source"]] == HOSTILE[:4]
    assert list(found["words"].values()) == words
    assert "&lt;/script&gt;" in re.search("<title>(.*?)</title>", text, re.S)[1]


def test_it_loads_nothing():
    text = page_html(*traced()).replace("http://www.w3.org/2000/svg", "")
    for pattern in (r"https?:", r"\bsrc\s*=", r"url\(", r"@import", r"\bfetch\(", r"XMLHttpRequest", r"\bimport\b[\s(]",
                    r"WebSocket", r"sendBeacon", r"<iframe", r"<link(?! rel=\"icon\" href=\"data:,\")"):
        assert not re.search(pattern, text), pattern
    assert "default-src 'none'" in text


def test_the_html_says_its_language_and_has_all_parts():
    text = page_html(*traced())
    assert '<html lang="en">' in text and "<!-- insert" not in text and "<noscript>" in text
    for name in page.SCRIPTS:
        assert page._read(name) in text


def test_every_template_file_is_packaged():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with open(os.path.join(root, "pyproject.toml"), "rb") as file:
        tools = tomllib.load(file)["tool"]["setuptools"]
    assert "rtfast.page" in tools["packages"]
    for name in ("page.html", "page.css", *page.SCRIPTS):
        assert any(fnmatch.fnmatch(name, pattern) for pattern in tools["package-data"]["rtfast.page"]), name


# The size

def test_the_shipped_model_fits(tmp_path):
    model = rtfast.load()
    weights = {name: values.astype(np.float16).astype(np.float32) for name, values in model.weights.items()}
    model = rtfast.Transformer(model.config, weights, model.tokenizer)
    path = tmp_path / "page.html"
    size = write_page(model, model.trace("the red house"), path)
    assert size == path.stat().st_size <= 1_500_000
    found = embedded(path.read_text(encoding="utf-8"))
    assert found["weights_left_out"] is None
    assert {stored["dtype"] for name, stored in found["weights"].items() if ".layers." in name} == {"float16"}
    assert found["title"] == "the red house → la casa roja"


@pytest.mark.skipif(os.name == "nt", reason="modes, links and pipes of POSIX")
def test_a_page_is_whole_or_as_it_was(tmp_path, monkeypatch):
    """Also what a link leads to; its mode stays. A pipe is written to."""
    model = rtfast.load()
    trace, path, link = model.trace("the red house"), tmp_path / "page.html", tmp_path / "link.html"
    path.write_text("old")
    path.chmod(0o600)
    link.symlink_to(path)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for given, written in ((path, path), (link, path), (tmp_path / "new.html", tmp_path / "new.html")):
        with pytest.raises(OSError, match=f"No space left on device: '{re.escape(str(written))}'"):
            write_page(model, trace, given)
    assert path.read_text() == "old" and sorted(os.listdir(tmp_path)) == ["link.html", "page.html"]
    monkeypatch.undo()
    size = write_page(model, trace, link)
    assert link.is_symlink() and path.stat().st_size == size and stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileNotFoundError, match="none/page.html'"):
        write_page(model, trace, tmp_path / "none" / "page.html")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["wc", "-c", pipe], stdout=subprocess.PIPE) as reader:
        assert write_page(model, trace, pipe) == size == int(reader.stdout.read().split()[0])
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("words, text", [
    (["the", "red", "house"], "the red house"), (["▁the", "▁red", "▁hou", "se"], "the red house"),
    (["the", "Ġred", "Ġhou", "se"], "the red house"), ([], "")])
def test_pieces_of_words_make_a_heading(words, text):
    words = [{"id": 1, "word": "SOS"}, *({"id": 5 + i, "word": word} for i, word in enumerate(words))]
    assert page_module._sentence(small_config(), words) == text


def test_weights_of_large_models_are_left_out(monkeypatch):
    model, trace = traced()
    monkeypatch.setattr(page_module, "MOST_WEIGHTS", 1000)
    found = embedded(page_html(model, trace))
    layers = {name: values for name, values in model.weights.items() if ".layers." in name}
    assert not set(found["weights"]) & set(layers)
    assert set(found["weights"]) == set(model.weights) - set(layers)
    assert found["weights_left_out"] == sum(values.nbytes for values in layers.values())
    assert list(embedded(page_html(model, trace, weights=True))["weights"]) == list(model.weights)
    monkeypatch.undo()
    assert embedded(page_html(model, trace, weights=False))["weights_left_out"]


def test_large_vocabularies_are_cut(monkeypatch):
    model, trace = traced()
    monkeypatch.setattr(page_module, "MOST_WORDS", 12)
    monkeypatch.setattr(page_module, "MOST_TABLE", 20)
    monkeypatch.setattr(page_module, "CANDIDATES", 2)
    found = embedded(page_html(model, trace))
    shown = sorted({8, 9, 2}.union(*found["top"]))
    assert list(map(int, found["words"])) == shown and len(shown) < 13
    for name in ("logits", "probabilities"):
        stored = found["arrays"][name]
        assert stored["ids"] == shown and stored["shape"] == [4, 13]
        assert decoded(stored).tobytes() == trace[name][:, shown].tobytes()
    for name, stored in ((name, found["weights"][name]) for name in ("output.weight", "embedding.weight")):
        assert decoded(stored).tobytes() == cut(model.weights[name], stored).tobytes()
        assert set(stored["ids"]) >= ({3, 4, 5, 6, 7} if name == "embedding.weight" else set(shown))
    peak, total = (np.array(found["denominators"][key]) for key in ("peak", "total"))
    assert np.allclose(np.exp(trace["logits"] - peak[:, None]) / total[:, None], trace["probabilities"], rtol=1e-5)


# Refusals

def test_wrong_arguments():
    model, trace = traced()
    with pytest.raises(TypeError, match="model must be an rtfast.Transformer, got dict"):
        page_html({}, trace)
    with pytest.raises(TypeError, match="trace must be an rtfast.Trace, got dict"):
        page_html(model, {})
    with pytest.raises(TypeError, match="weights must be True, False or None, got 1"):
        page_html(model, trace, weights=1)
    with pytest.raises(ValueError, match="one sentence, got a batch of 2"):
        page_html(model, model.trace([SOURCE, SOURCE], [TARGET, TARGET]))
    with pytest.raises(ValueError, match="the one that was traced"):
        page_html(random_model(small_config(d_ff=8))[0], trace)


def test_a_trace_from_a_file(tmp_path):
    model, trace = traced()
    trace.save(tmp_path / "trace.npz")
    assert page_html(model, rtfast.Trace.load(tmp_path / "trace.npz")) == page_html(model, trace)
