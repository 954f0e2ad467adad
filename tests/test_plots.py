"""Plots: their data are the trace's, read back from the Axes; no display, no pyplot, words that matplotlib survives."""

import os
import subprocess
import sys

import numpy as np
import pytest
from cases import assert_same_bits
from models import random_ids, random_model, small_config

import rtfast
from rtfast import kernels, plots
from rtfast.packing import bucket, sinusoids

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed: nothing to draw with")

SOURCE, TARGET = [3, 9, 4, 7], [1, 8, 9]


@pytest.fixture(scope="module")
def model():
    return rtfast.load()


@pytest.fixture(scope="module")
def trace(model):
    return model.trace("the red house")


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def drawn(axes):
    """Draw it, so that what matplotlib cannot draw raises; its image's data."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(axes.figure).draw()
    (image,) = axes.images
    return image.get_array()


# Attention

@pytest.mark.parametrize("name, queries, keys", [
    ("encoder.layers.1.self_attention.weights", 0, 0), ("decoder.layers.0.self_attention", 1, 1),
    ("decoder.layers.1.cross_attention", 1, 0)])
def test_one_head(trace, name, queries, keys):
    axes = plots.plot_attention(trace, name, head=2)
    data = drawn(axes)
    full = name if name.endswith("weights") else f"{name}.weights"
    assert_same_bits(np.ma.getdata(data), trace[full][2])
    masked = full.startswith("decoder") and "self_attention" in full
    hidden = ~np.tri(4, dtype=bool) if masked else np.zeros(data.shape, bool)
    assert np.array_equal(np.ma.getmaskarray(data), hidden)
    assert labels(axes.yaxis) == trace.tokens[queries] and labels(axes.xaxis) == trace.tokens[keys]
    assert axes.get_xlabel() and axes.get_ylabel() and "head 2" in axes.get_title()
    assert axes.images[0].get_clim() == (0, 1) and axes.yaxis_inverted()  # the first word on top
    numbers = {tuple(map(int, text.get_position())): text.get_text() for text in axes.texts}
    expected = {(j, i): f"{trace[full][2][i, j]:.2f}" for i, j in np.argwhere(~hidden)}
    assert numbers == expected


def test_several_heads_and_layers(trace):
    name = "encoder.layers.0.self_attention.weights"
    row = plots.plot_attention(trace, name)
    assert row.shape == (4,)
    for h, axes in enumerate(row):
        assert_same_bits(np.ma.getdata(drawn(axes)), trace[name][h])
    grid = plots.plot_attention(trace, "decoder.layers.*.cross_attention")
    assert grid.shape == (2, 4)
    for layer, head in np.ndindex(2, 4):
        expected = trace[f"decoder.layers.{layer}.cross_attention.weights"][head]
        assert_same_bits(np.ma.getdata(grid[layer, head].images[0].get_array()), expected)
    assert plots.plot_attention(trace, "decoder.layers.*.cross_attention", head=0).shape == (2, 1)


def test_into_given_axes(trace):
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots(2, 2)
    given = plots.plot_attention(trace, "encoder.layers.0.self_attention", 1, axes[0, 0])
    assert given is axes[0, 0] and len(figure.axes) == 4  # no colour bar uninvited
    assert plots.plot_alignment(trace, ax=axes[0, 1]) is axes[0, 1]
    four = plots.plot_attention(trace, "encoder.layers.0.self_attention", ax=Figure().subplots(2, 2))
    assert four.shape == (4,) and all(len(each.images) == 1 for each in four)
    with pytest.raises(ValueError, match="plot_attention: ax must be 4 Axes, got 1"):
        plots.plot_attention(trace, "encoder.layers.0.self_attention", ax=axes[1, 0])


def test_numbers_only_where_few(trace):
    def written(**options):
        return len(plots.plot_attention(trace, "encoder.layers.0.self_attention", 0, **options).texts)

    assert (written(), written(numbers=False), written(numbers=True)) == (9, 0, 9)
    config = small_config()
    long = random_model(config)[0].trace(random_ids(config, 12), TARGET)
    axes = plots.plot_attention(long, "encoder.layers.0.self_attention", 0)
    assert not axes.texts and labels(axes.xaxis) == list(map(str, long.tokens[0]))


def test_wrong_names_and_heads(trace):
    with pytest.raises(KeyError, match=r"no attention weights are named 'encoder\.input'; there are encoder"):
        plots.plot_attention(trace, "encoder.input")
    for head in (4, -1):
        with pytest.raises(IndexError, match=rf"head must be within 0\.\.3, got {head}"):
            plots.plot_attention(trace, "encoder.layers.0.self_attention", head)
    batch = random_model(small_config())[0].trace([SOURCE, SOURCE], [TARGET, TARGET])
    with pytest.raises(ValueError, match="one sentence"):
        plots.plot_attention(batch, "encoder.layers.0.self_attention")
    with pytest.raises(ValueError, match="one sentence"):
        plots.plot_alignment(batch)


# Alignment

@pytest.mark.parametrize("layers, heads", [(None, None), (1, None), (None, [0, 2]), ([0], 3)])
def test_alignment(trace, layers, heads):
    axes = plots.plot_alignment(trace, layers, heads)
    weights = np.stack([trace[f"decoder.layers.{i}.cross_attention.weights"] for i in range(2)])
    chosen = weights[np.ravel(range(2) if layers is None else layers)]
    chosen = chosen[:, np.ravel(range(4) if heads is None else heads)]
    assert np.allclose(drawn(axes), chosen.mean(axis=(0, 1)), rtol=0, atol=1e-7)
    assert labels(axes.yaxis) == trace.tokens[1] and labels(axes.xaxis) == trace.tokens[0]


def test_alignment_refuses(trace):
    with pytest.raises(ValueError, match=r"layers must be None or numbers within 0\.\.1, got 2"):
        plots.plot_alignment(trace, 2)
    alone = random_model(small_config(n_decoder_layers=0))[0].trace(SOURCE, TARGET)
    with pytest.raises(KeyError, match="cross_attention"):
        plots.plot_alignment(alone)


# What each layer would say

@pytest.mark.parametrize("k", [1, 3])
def test_plot_lens(model, trace, k):
    axes = plots.plot_lens(trace, k)
    shares = [kernels.softmax(logits) for logits in trace.lens().values()]
    assert_same_bits(np.ma.getdata(drawn(axes)), np.stack([each.max(axis=1) for each in shares]))
    assert labels(axes.xaxis) == trace.tokens[1] and labels(axes.yaxis) == ["input", "layer 0", "layer 1"]
    assert not axes.yaxis_inverted()  # the last layer on top
    cells = {tuple(map(int, text.get_position())): text.get_text().split("\n") for text in axes.texts}
    assert len(cells) == 12
    for (t, i), lines in cells.items():
        best = np.argsort(-shares[i][t])[:k]
        assert [line.split("  ")[0] for line in lines] == model.tokenizer.tokens(best)
        assert lines[0].endswith(f"{100 * shares[i][t].max():.0f}%")
    assert [cells[t, 2][0].split()[0] for t in range(4)] == ["la", "casa", "roja", "EOS"]


def test_plot_lens_refuses(trace):
    with pytest.raises(ValueError, match="k must be 1 or more, got 0"):
        plots.plot_lens(trace, 0)
    batch = random_model(small_config())[0].trace([SOURCE, SOURCE], [TARGET, TARGET])
    with pytest.raises(ValueError, match="one sentence"):
        plots.plot_lens(batch)


@pytest.mark.parametrize("call, message", [
    (lambda trace: trace.plot_attention(3), "plot_attention: name must be a name or pattern, got int"),
    (lambda trace: trace.plot_attention("*.weights", head="a"), "plot_attention: head must be an integer, got str"),
    (lambda trace: trace.plot_attention("*.0.cross_attention.weights", 0, ax=3), "plot_attention: ax must be Axes"),
    (lambda trace: trace.plot_attention("*.weights", numbers="x"), "plot_attention: numbers must be"),
    (lambda trace: plots.plot_attention(3, "*.weights"), "plot_attention: trace must be a Trace, got int"),
    (lambda trace: plots.plot_alignment(None), "plot_alignment: trace must be a Trace, got NoneType"),
    (lambda trace: trace.plot_alignment(layers="a"), "alignment: layers must be an integer, got str"),
    (lambda trace: plots.plot_lens({}), "plot_lens: trace must be a Trace, got dict"),
    (lambda trace: trace.plot_lens("a"), "plot_lens: k must be an integer, got str"),
    (lambda trace: trace.plot_positional_encoding("a"), "plot_positional_encoding: length must be an int"),
    (lambda trace: plots.plot_positional_encoding(3), "plot_positional_encoding: model must be")])
def test_arguments_of_another_kind(trace, call, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        call(trace)


def test_plot_lens_without_layers_or_words():
    model = random_model(small_config(n_decoder_layers=0, norm_first=True, final_norm=True))[0]
    trace = model.trace(SOURCE, TARGET)
    axes = plots.plot_lens(trace, 2)
    assert labels(axes.yaxis) == ["input"] and drawn(axes).shape == (1, 3)
    best = trace["logits"].argmax(axis=1)
    assert [text.get_text().split()[0] for text in axes.texts] == [str(i) for i in best]


# Positions

@pytest.mark.parametrize("positions", ["sinusoidal", "halves", "tensor2tensor"])
def test_sinusoidal_positions(positions):
    config = small_config(positions=positions, position_offset=2)
    for model in (config, random_model(config)[0]):
        axes = plots.plot_positional_encoding(model, length=20)
        assert_same_bits(np.ma.getdata(drawn(axes)), sinusoids(config)[:20])
        assert axes.get_xlabel() and axes.get_ylabel() == "position" and positions in axes.get_title()


def test_positions_of_weights():
    model = random_model(small_config(positions="learned"))[0]
    for side in ("encoder", "decoder"):
        axes = plots.plot_positional_encoding(model, 10, side=side)
        assert_same_bits(np.ma.getdata(drawn(axes)), model.weights[f"{side}.positions.weight"][:10])
    model = random_model(small_config(positions="relative"))[0]
    for side in ("encoder", "decoder"):
        axes = plots.plot_positional_encoding(model, 10, side=side)
        buckets = bucket(np.arange(-9, 10), model.config, bidirectional=side == "encoder")
        assert_same_bits(np.ma.getdata(drawn(axes)), model.weights[f"{side}.relative_bias.weight"].T[:, buckets])
        assert axes.images[0].get_extent()[:2] == [-9.5, 9.5]
        with pytest.raises(ValueError, match="relative positions are weights: give the model"):
            plots.plot_positional_encoding(model.config, side=side, length=9)


@pytest.mark.parametrize("fields, options, message", [
    ({"positions": None}, {}, "no positions"), ({}, {"length": 0}, r"length must be within 1\.\.40, got 0"),
    ({}, {"length": 41}, r"length must be within 1\.\.40, got 41"), ({}, {"side": "x"}, "side must be 'encoder'")])
def test_positions_refuse(fields, options, message):
    with pytest.raises(ValueError, match=message):
        plots.plot_positional_encoding(small_config(**fields), **{"length": 9, **options})


# Around them

def test_words_that_mean_something_to_matplotlib():
    words = ["$x^$", "$$", "\\frac{", "SOS", "EOS", "%_&"]
    config = rtfast.Config.article(vocab_size=6, sos_id=3, eos_id=4)
    model = rtfast.Transformer.random(config, vocabulary=words)
    trace = model.trace([0, 1, 2, 5], [3, 5])
    for axes in (plots.plot_attention(trace, "encoder.layers.0.self_attention", 0), plots.plot_alignment(trace),
                 plots.plot_lens(trace, 3)):
        drawn(axes)
    assert plots._plain("a\nb") == "a\\nb"


def test_long_words_leave_room():
    words = ["SOS", "EOS", "x" * 200, "$" * 200]
    model = rtfast.Transformer.random(small_config(vocab_size=4, sos_id=0, eos_id=1, pad_id=None), vocabulary=words)
    figure = model.trace([2, 3], [0, 2]).plot_alignment().figure
    figure.canvas.draw()  # warns, which is an error here, where the axes have no room
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["x" * 23 + "…", r"\$" * 23 + "…"]
    assert axes.get_window_extent().width > 100


def test_pyplot_and_settings_are_left_alone(trace, model, tmp_path):
    """In a process of its own: pyplot is not even imported, rcParams stay, and no display is needed."""
    code = f"""
import sys
import rtfast
from rtfast import plots
assert "matplotlib" not in sys.modules
import matplotlib
before = matplotlib.rcParams.copy()
model = rtfast.load()
trace = model.trace("the red house")
found = [plots.plot_attention(trace, "decoder.layers.0.cross_attention")[0], plots.plot_alignment(trace),
         plots.plot_lens(trace), plots.plot_positional_encoding(model)]
for i, axes in enumerate(found):
    axes.figure.savefig({str(tmp_path)!r} + f"/{{i}}.png")
assert "matplotlib.pyplot" not in sys.modules
now = matplotlib.rcParams.copy()
assert all(now._get(name) == before._get(name) for name in before)
"""
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
    folder = os.path.dirname(os.path.dirname(os.path.abspath(rtfast.__file__)))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
    subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, check=True, timeout=120,
                   cwd=tmp_path)
    assert [path.read_bytes()[:4] for path in sorted(tmp_path.glob("*.png"))] == [b"\x89PNG"] * 4


def test_without_matplotlib(trace, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"plot_alignment needs matplotlib: pip install 'rtfast\[plot\]'"):
        plots.plot_alignment(trace)


def test_colours_grow_lighter():
    """Maps whose lightness alone tells the order, as colour-blind people and printers need it."""
    for name in (plots.SHARES, plots.SIGNED):
        red, green, blue, _ = matplotlib.colormaps[name](np.linspace(0, 1, 64)).T
        assert (np.diff(0.299 * red + 0.587 * green + 0.114 * blue) > 0).all()
