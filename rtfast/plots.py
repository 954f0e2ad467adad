"""Plots of a trace with matplotlib: attention, alignment, what each layer would say, positions.

Every function draws into the Axes that it is given, or into a Figure of its own that pyplot knows nothing of, and
returns the Axes: `axes.figure` is the Figure, for a notebook to show or for `savefig`.

Raises ImportError where matplotlib is missing: pip install 'rtfast[plot]'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rtfast import kernels
from rtfast.arguments import integer, switch
from rtfast.config import Config
from rtfast.names import matching
from rtfast.search import top_k
from rtfast.trace import Trace
from rtfast.words import visible, words_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtfast.model import Transformer
    from rtfast.typing import Array, Places

#: Both can be told apart by colour-blind people, and in print.
SHARES, SIGNED = "viridis", "cividis"
#: Cells that have their numbers written into them, at most, along each side.
MOST_NUMBERS = 8
#: Letters of a word that are written: a longer one would leave the picture no room.
MOST_LETTERS = 24


def plot_attention(trace: Trace, name: str, head: int | None = None, ax: Any = None, *, numbers: bool | None = None,
                   cmap: str = SHARES) -> Any:
    """Attention weights as heat maps, a row for each query word, a column for each key word.

    name: an intermediate such as "decoder.layers.0.cross_attention.weights" or a pattern such as
    "decoder.layers.*.cross_attention.weights"; ".weights" may be left out. head: one head's number; None for all of
    them. ax: the Axes to draw into, or as many as there are heat maps. numbers: write the weights into the cells;
    None: where there are few. What may not be attended stays empty.

    Returns the Axes of one heat map, (heads,) of one name with several heads, else (names, heads), as an array.
    Raises KeyError where no attention weights have the name, IndexError for a head that is not there, ValueError for a
    trace of a batch and another number of Axes, TypeError for arguments of another kind.
    """
    _check("plot_attention", trace, numbers)
    if head is not None:
        head = integer("plot_attention", "head", head)
    names = _weights_named(trace, name)
    heads = range(trace[names[0]].shape[0]) if head is None else [head]
    if not all(0 <= h < trace[names[0]].shape[0] for h in heads):
        raise IndexError(f"plot_attention: head must be within 0..{trace[names[0]].shape[0] - 1}, got {head!r}")
    shape = (len(names), len(heads))
    rows, columns = trace[names[0]].shape[1:]
    axes = _axes("plot_attention", ax, shape, (1.4 + 0.42 * columns, 1.1 + 0.42 * rows))
    for i, each in enumerate(names):
        queries, keys, masked = _sides(trace, each)
        for j, h in enumerate(heads):
            weights = np.ma.array(trace[each][h], copy=False)
            if masked:
                weights = np.ma.masked_where(~np.tri(*weights.shape, dtype=np.bool_), trace[each][h])
            image = heat_map(axes[i, j], weights, queries, keys, cmap=cmap, numbers=numbers)
            axes[i, j].set(title=_title(each, h), xlabel="attended to (key)", ylabel="looking (query)")
            axes[i, j].label_outer()
    if ax is None:
        _colour_bar(image, axes, "attention weight")
    return axes[0, 0] if axes.size == 1 else axes[0] if len(names) == 1 else axes


def plot_alignment(trace: Trace, layers: Places | None = None, heads: Places | None = None, ax: Any = None, *,
                   numbers: bool | None = None, cmap: str = SHARES) -> Any:
    """Which source words each target word looks at: `trace.alignment(layers, heads)` as a heat map.

    The rest as in `plot_attention`, errors as there and in `Trace.alignment`. Returns the Axes.
    """
    _check("plot_alignment", trace, numbers)
    weights = trace.alignment(layers, heads)
    if weights.ndim != 2:
        raise ValueError(f"plot_alignment: the trace must be of one sentence, got an alignment of {weights.shape}")
    source, target = _words(trace)
    axes = _axes("plot_alignment", ax, (1, 1), (2 + 0.5 * len(source), 1.2 + 0.45 * len(target)))
    image = heat_map(axes[0, 0], weights, target, source, cmap=cmap, numbers=numbers)
    what = ", ".join(f"{kind} {_listed(asked)}" for kind, asked in (("layer", layers), ("head", heads))
                     if asked is not None)
    axes[0, 0].set(title=f"alignment, mean of {what or 'all layers and heads'}", xlabel="source word",
                   ylabel="word that the decoder reads")
    if ax is None:
        _colour_bar(image, axes, "mean cross-attention weight")
    return axes[0, 0]


def plot_lens(trace: Trace, k: int = 1, ax: Any = None, *, cmap: str = SHARES) -> Any:
    """What the decoder would say after each layer (`Trace.lens`): a row for each, a column for each position.

    A cell has the k likeliest words with their probabilities; its colour is the first one's. The row below is of what
    the first layer reads, the one on top is what the model says. Returns the Axes. Raises ValueError for a k below 1
    and a batch, TypeError for arguments of another kind, and as `Trace.lens`.
    """
    _check("plot_lens", trace)
    if integer("plot_lens", "k", k) < 1:
        raise ValueError(f"plot_lens: k must be 1 or more, got {k}")
    states, shares, places = _lens(trace, k)
    _, target = _words(trace)
    size = (2.4 + 1.15 * len(target), 1.3 + (0.2 + 0.28 * k) * len(states))
    axes = _axes("plot_lens", ax, (1, 1), size)[0, 0]
    image = heat_map(axes, shares[:, :, 0], states, target, cmap=cmap, numbers=False,
                     slanted=False)
    for i in range(len(states)):
        for t in range(len(target)):
            words = words_of(trace.model, places[i, t])
            text = "\n".join(f"{_plain(word)}  {_percent(p)}" for word, p in zip(words, shares[i, t], strict=True))
            axes.text(t, i, text, ha="center", va="center", fontsize=8, color=_ink(image, shares[i, t, 0]))
    axes.invert_yaxis()
    axes.set(title="what each layer would say next", xlabel="word that the decoder reads", ylabel="decoder's state")
    if ax is None:
        _colour_bar(image, axes, "probability of the likeliest word")
    return axes


def plot_positional_encoding(model: Transformer | Config, length: int = 50, ax: Any = None, *, side: str = "encoder",
                             cmap: str = SIGNED) -> Any:
    """What positions add: a row for each position, a column for each dimension of the embedding.

    model: a Config, or a Transformer where the positions are its weights. length: positions from the first on. side:
    "encoder" or "decoder", of positions that are weights. Of relative positions: what each head, a row, adds to a
    score by the distance, a column, between key and query. Returns the Axes. Raises ValueError for a model without
    positions, a Config whose positions are weights, and a length outside 1..max_length, TypeError for arguments of
    another kind.
    """
    table, x, y, label = _positions(model, length, side)
    axes = _axes("plot_positional_encoding", ax, (1, 1), (7, 4.5))[0, 0]
    biggest = float(np.abs(table).max()) or 1.0
    first = 0 if x.startswith("dimension") else -(table.shape[1] // 2)
    image = axes.imshow(table, aspect="auto", cmap=cmap, vmin=-biggest, vmax=biggest, interpolation="nearest",
                        extent=(first - 0.5, first + table.shape[1] - 0.5, len(table) - 0.5, -0.5))
    axes.set(title=label, xlabel=x, ylabel=y)
    if ax is None:
        _colour_bar(image, axes, "added")
    return axes


def heat_map(ax: Any, values: Array, rows: Sequence[str], columns: Sequence[str], *, cmap: str = SHARES,
             numbers: bool | None = None, slanted: bool = True) -> Any:
    """Shares (0 to 1) as an image with words as labels, rows from top to bottom; the image.

    numbers: as in `plot_attention`. slanted: so may be the columns' words.
    """
    image = ax.imshow(values, cmap=cmap, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    slanted = slanted and max(map(len, columns)) > 3
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    ax.set_xticks(range(len(columns)), [_plain(word) for word in columns], **slant)
    ax.set_yticks(range(len(rows)), [_plain(word) for word in rows])
    if numbers or (numbers is None and max(values.shape) <= MOST_NUMBERS):
        for (i, j), value in np.ndenumerate(np.ma.getdata(values)):
            if not np.ma.getmaskarray(values)[i, j]:
                ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=_ink(image, value))
    return image


def _check(function: str, trace: Trace, numbers: bool | None = None) -> None:
    """Raise TypeError for what is no trace, and for numbers that are no switch."""
    if not isinstance(trace, Trace):
        raise TypeError(f"{function}: trace must be a Trace, got {type(trace).__name__}")
    if numbers is not None:
        switch(function, "numbers", numbers)


def _weights_named(trace: Trace, name: str) -> list[str]:
    """Names of the attention weights that `name` stands for."""
    if not isinstance(name, str):
        raise TypeError(f"plot_attention: name must be a name or pattern, got {type(name).__name__}")
    known = [each for each in trace if each.endswith("attention.weights")]
    found = matching([name, f"{name}.weights"], known)
    if not found:
        raise KeyError(f"plot_attention: no attention weights are named {name!r}; there are {', '.join(known)}")
    for each in found:
        if trace[each].ndim != 3:
            raise ValueError("plot_attention: the trace must be of one sentence, got weights of shape "
                             f"{trace[each].shape}")
    return found


def _sides(trace: Trace, name: str) -> tuple[list[str], list[str], bool]:
    """Words of the queries and of the keys, and whether the future is masked."""
    source, target = _words(trace)
    queries = source if name.startswith("encoder") else target
    return queries, source if ".cross_attention." in name else queries, "masked" in trace.formula(name)


def _words(trace: Trace) -> tuple[list[str], list[str]]:
    source, target = ([str(word) for word in words] for words in trace.tokens)
    return source, target


def _title(name: str, head: int) -> str:
    side, _, layer, part, _ = name.split(".")
    return f"{side} {layer}, {part.replace('_', '-')}, head {head}"


def _lens(trace: Trace, k: int) -> tuple[list[str], Array, Array]:
    """What the states are called (states,), and of each the k likeliest words: probabilities, ids (states, T, k)."""
    logits = trace.lens()
    if any(each.ndim != 2 for each in logits.values()):
        raise ValueError("plot_lens: the trace must be of one sentence, not of a batch")
    found = [top_k(kernels.softmax(each), k) for each in logits.values()]
    states = [f"layer {name.split('.')[2]}" if ".layers." in name else "input" for name in logits]
    return states, np.stack([shares for shares, _ in found]), np.stack([places for _, places in found])


def _positions(model: Transformer | Config, length: int, side: str) -> tuple[Any, str, str, str]:
    """(table, what its columns are, what its rows are, title)."""
    config = model if isinstance(model, Config) else getattr(model, "config", None)
    if not isinstance(config, Config):
        raise TypeError("plot_positional_encoding: model must be a Transformer or Config, got "
                        f"{type(model).__name__}")
    length = integer("plot_positional_encoding", "length", length)
    if side not in ("encoder", "decoder"):
        raise ValueError(f"plot_positional_encoding: side must be 'encoder' or 'decoder', got {side!r}")
    if not 1 <= length <= config.max_length:
        raise ValueError(f"plot_positional_encoding: length must be within 1..{config.max_length}, got {length}")
    if config.positions is None:
        raise ValueError("plot_positional_encoding: the config has no positions")
    title = f"{config.positions} positions"
    if config.positions not in ("learned", "relative"):
        from rtfast.packing import sinusoids

        table: Any = sinusoids(config)
        return table[:length], "dimension of the embedding", "position", title
    if isinstance(model, Config):
        raise ValueError(f"plot_positional_encoding: {config.positions} positions are weights: give the model, "
                         "not its config")
    if config.positions == "learned":
        table = model.weights[f"{side}.positions.weight"][:length]
        return table, "dimension of the embedding", "position", f"{title} of the {side}"
    from rtfast.packing import bucket

    distances = np.arange(1 - length, length)
    buckets = bucket(distances, config, bidirectional=side == "encoder")
    return (model.weights[f"{side}.relative_bias.weight"][buckets].T, "distance, key minus query", "head",
            f"{title} of the {side}")


# Figures ------------------------------------------------------------------------------------------

def _axes(function: str, ax: Any, shape: tuple[int, int], size: tuple[float, float]) -> Any:
    """The Axes to draw into as an array of `shape`: those given, or new ones of `size` inches each."""
    if ax is not None:
        axes = np.empty(shape, object)
        given = [ax] if not np.ndim(ax) else list(np.ravel(ax))
        if len(given) != axes.size:
            raise ValueError(f"{function}: ax must be {axes.size} Axes, got {len(given)}")
        for one in given:
            if not hasattr(one, "imshow"):
                raise TypeError(f"{function}: ax must be Axes of matplotlib, got {type(one).__name__}")
        axes.flat[:] = given
        return axes
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(f"{function} needs matplotlib: pip install 'rtfast[plot]'") from None
    figure = Figure(figsize=(size[0] * shape[1] + 0.8, size[1] * shape[0] + 0.3), layout="constrained")
    return figure.subplots(*shape, squeeze=False)


def _colour_bar(image: Any, axes: Any, label: str) -> None:
    """A bar beside one Axes or an array of them, no wider for many."""
    axes = np.atleast_2d(axes)
    share = 0.15 / axes.shape[1]
    image.figure.colorbar(image, ax=list(axes.flat), label=label, fraction=share, pad=0.15 * share, aspect=25)


def _ink(image: Any, value: float) -> str:
    """Black or white, whichever can be read on the image's colour of a value."""
    red, green, blue, _ = image.cmap(image.norm(value))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def _plain(word: str) -> str:
    """A word that matplotlib writes as it is: $ begins no formula, what is unseen is escaped, an endless one cut."""
    text = visible(word)
    return (text if len(text) <= MOST_LETTERS else text[:MOST_LETTERS - 1] + "…").replace("$", r"\$")


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if not share < 0.01 else "<1%"


def _listed(numbers: Any) -> str:
    return ", ".join(map(str, np.ravel(numbers)))
