"""What notebooks show: well-formed, escaped, small, with the trace's own numbers."""

import html.parser
import re

import pytest
from models import random_ids, random_model, small_config

import rtfast
from rtfast import notebook, show
from rtfast.weights import weight_shapes

VOID = {"br"}


class Reader(html.parser.HTMLParser):
    """Checks that every element is closed in its place; gathers rows of tables, tags and attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.rows, self.text = [], set(), [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
        if "style" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def trace():
    return rtfast.load().trace("the red house")


def names_in(text):
    return re.findall(r'title="([^"]+)"', text)


def test_every_intermediate_is_there(trace):
    text = notebook.trace_html(trace)
    read = Reader(text)
    rows = [row for row in read.rows if row[0] != "name"]
    names = names_in(text)
    assert sorted(names) == sorted(trace)
    for name, (short, shape, op, formula, numbers) in zip(names, rows, strict=True):
        array = trace[name]
        assert name.endswith(short) and shape == str(array.shape)
        assert (op, formula) == (trace.op(name), trace.formula(name))
        shown = [show.number(float(value), 3, 3) for value in array[(0,) * (array.ndim - 1)][:4]]
        assert numbers.split() == [*shown, "…"]
    assert all(word in read.text for words in trace.tokens for word in words)
    assert read.text.split("encoder.layers.0")[0].strip().startswith("Trace: 90 intermediates")


def test_groups_are_in_walking_order(trace):
    text = notebook.trace_html(trace)
    assert re.findall(r"<summary><code>([^<]+)", text) == [
        "encoder", "encoder.layers.0", "encoder.layers.1", "decoder", "decoder.layers.0", "decoder.layers.1", "output"]


def test_it_is_small():
    model = rtfast.Transformer.random(rtfast.Config.base(50, n_encoder_layers=12, n_decoder_layers=12, d_model=64,
                                                         n_heads=4, d_ff=64))
    trace = model.trace([3, 4, 5], [1, 2])
    assert len(trace) > 400 and len(notebook.trace_html(trace)) < 200_000
    assert len(notebook.trace_html(trace)) / len(trace) < 450


def test_it_is_the_same_each_time(trace):
    assert notebook.trace_html(trace) == notebook.trace_html(rtfast.load().trace("the red house"))


def test_no_scripts_and_everything_escaped():
    words = ["<script>alert(1)</script>", "a&b", '"q"', "SOS", "EOS", "<b>"]
    config = rtfast.Config.article(vocab_size=6, sos_id=3, eos_id=4)
    model = rtfast.Transformer.random(config, vocabulary=words)
    trace = model.trace([0, 1, 2, 5], [3, 5])
    for text in (notebook.trace_html(trace), notebook.model_html(model)):
        read = Reader(text)
        assert read.tags <= {"style", "div", "b", "details", "summary", "code", "table", "tr", "th", "td", "span", "br"}
        assert {name for name, _ in read.attributes} <= {"class", "title"}
    assert "<script>alert(1)</script>" in Reader(notebook.trace_html(trace)).text


def test_no_colours_but_the_pages(trace):
    """Light or dark: text keeps the page's colour, lines are half transparent grey."""
    colours = set(re.findall(r"#[0-9a-f]+", notebook.trace_html(trace)))
    assert colours <= {"#8884", "#8888"}


def test_batches_ids_and_oddities():
    config = small_config(max_length=200)
    trace = random_model(config)[0].trace(random_ids(config, (20, 150)), random_ids(config, (20, 3)))
    text = notebook.trace_html(trace)
    read = Reader(text)
    assert "… 150 tokens" in read.text and "… 20 sentences" in read.text and sorted(names_in(text)) == sorted(trace)
    for word, seen in (("", "''"), (" ", "' '"), ("\n", "\\n"), ("x" * 50, "x" * 39 + "…"), (5, "5")):
        assert notebook._seen(word) == seen


@pytest.mark.parametrize("fields", [{}, {"rms_norm": True, "gated": True, "norm_first": True, "positions": None},
                                    {"target_vocab_size": 17}, {"norm": False, "residual": False}], ids=str)
def test_the_model(fields):
    config = small_config(**fields)
    model = random_model(config)[0]
    facts = dict(row for row in Reader(notebook.model_html(model)).rows)
    assert facts["parameters"] == f"{sum(array.size for array in model.weights.values()):,}"
    assert set(weight_shapes(config)) == set(model.weights)
    assert facts["layers"] == "2 encoder, 2 decoder" and facts["d_model"] == "12"
    assert (facts["dtype"], facts["backend"]) == (config.dtype, model.backend)
    assert facts["words"] == ("13 to 17" if config.target_vocab_size else "13")
    assert ("RMS norm" in facts["kind"]) == config.rms_norm and ("no norm" in facts["kind"]) == (not config.norm)


def test_a_trace_from_a_file_and_a_part_of_one(trace, tmp_path):
    trace.save(tmp_path / "trace.npz")
    assert notebook.trace_html(rtfast.Trace.load(tmp_path / "trace.npz")) == notebook.trace_html(trace)
    part = rtfast.load().trace("the red house", include="*.weights")
    assert sorted(names_in(notebook.trace_html(part))) == sorted(part) and len(part) == 6
