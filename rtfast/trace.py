"""`Trace`: every named intermediate of one run, in order of computation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .arguments import integer
from .names import is_pattern, matching
from .words import spelled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rtfast.inputs import Batch
    from rtfast.model import Transformer
    from rtfast.program import Traced
    from rtfast.typing import Floats, Ids, Places, Shape, StrPath, Tokenizer


class TraceItem(NamedTuple):
    """What a trace knows of an intermediate besides its values."""

    name: str
    #: kind of the operation that computed it
    op: str
    #: how, in short
    formula: str
    #: names of the intermediates and weights that it was computed from
    inputs: tuple[str, ...]
    #: what its axes count: "sentence", "head", "source", "target", "feature" or "word"
    axes: tuple[str, ...]


class Trace(Mapping[str, "Floats"]):
    """Name -> array, in order of computation; a pattern such as "decoder.layers.*.cross_attention.weights" -> a dict.

    Without a batch axis where one sentence was traced, else with B in front: rows (T, width), heads (n_heads, T,
    width), scores and weights (n_heads, T, S). A name that a trace has not is a KeyError, and so is a pattern that
    nothing matches.

    tokens: (source words, target words) as text where the model has a tokenizer, else ids; <300> is an id that it has
    no word for. source_ids, target_ids: lists of id arrays, what was read. generated: the ids that were generated
    first, where no target was given. model: the model that was traced, None where the trace comes from a file.

    >>> import rtfast
    >>> model = rtfast.Transformer.random(rtfast.Config.article(), vocabulary=rtfast.article.VOCABULARY)
    >>> trace = model.trace("hello world", "hola mundo")
    >>> trace.tokens
    (['hello', 'world'], ['SOS', 'hola', 'mundo'])
    >>> name = "decoder.layers.0.cross_attention.weights"
    >>> trace[name].shape, trace.axes(name), trace.formula(name)
    ((2, 3, 2), ('head', 'target', 'source'), 'softmax(scaled_scores)')
    """

    def __init__(self, source_ids: list[Ids], target_ids: list[Ids], tokens: tuple[list[Any], list[Any]], *,
                 single: bool, generated: Any = None, model: Transformer | None = None) -> None:
        self._arrays: dict[str, Floats] = {}
        self._items: dict[str, TraceItem] = {}
        self.source_ids, self.target_ids, self.tokens = source_ids, target_ids, tokens
        self.single, self.generated, self.model = single, generated, model

    def put(self, item: TraceItem, array: Floats) -> None:
        """Add an intermediate at the end.

        Raises TypeError for what is no `TraceItem`, ValueError for an array of another number of axes.
        """
        if not isinstance(item, TraceItem):
            raise TypeError(f"put: item must be a TraceItem, got {type(item).__name__}")
        if np.ndim(array) != len(item.axes):
            raise ValueError(f"put: array must have the axes {item.axes}, got shape {np.shape(array)}")
        self._items[item.name], self._arrays[item.name] = item, array

    def __getitem__(self, name: str) -> Any:
        if isinstance(name, str) and is_pattern(name):
            found = matching(name, self._arrays)
            if not found:
                raise KeyError(f"no intermediate matches {name!r}; list(trace) shows all {len(self)}")
            return {one: self._arrays[one] for one in found}
        return self._arrays[self._known(name)]

    def _known(self, name: str) -> str:
        if name not in self._arrays:
            raise KeyError(f"no intermediate is named {name!r}; list(trace) shows all {len(self)}")
        return name

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"Trace({len(self)} intermediates, {self.nbytes:,} bytes)"

    def _repr_html_(self) -> str:
        from .notebook import trace_html

        return trace_html(self)

    @property
    def nbytes(self) -> int:
        """Bytes of all its arrays."""
        return sum(array.nbytes for array in self._arrays.values())

    # What an intermediate is ----------------------------------------------------------------

    def item(self, name: str) -> TraceItem:
        """A `TraceItem`: op, formula, inputs and axes together. Raises KeyError as `formula`."""
        return self._items[self._known(name)]

    def formula(self, name: str) -> str:
        """How the intermediate was computed, in short. Raises KeyError for a name that the trace has not."""
        return self.item(name).formula

    def inputs(self, name: str) -> tuple[str, ...]:
        """Names of the intermediates and weights that it was computed from. Raises KeyError as `formula`."""
        return self.item(name).inputs

    def op(self, name: str) -> str:
        """Kind of the operation that computed it. Raises KeyError as `formula`."""
        return self.item(name).op

    def axes(self, name: str) -> tuple[str, ...]:
        """What its axes count, in words: ("head", "target", "source"), ... Raises KeyError as `formula`."""
        return self.item(name).axes

    def shape(self, name: str) -> Shape:
        """The array's shape. Raises KeyError as `formula`."""
        return self._arrays[self._known(name)].shape

    def first_nan(self) -> str | None:
        """Name of the first intermediate that holds a NaN, or None."""
        return next((name for name, array in self._arrays.items() if np.isnan(array).any()), None)

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain Python: tokens, ids, and of each intermediate name, op, formula, inputs, axes, shape and
        values as nested lists."""
        return {
            "tokens": list(self.tokens), "source_ids": [ids.tolist() for ids in self.source_ids],
            "target_ids": [ids.tolist() for ids in self.target_ids], "generated": self.generated,
            "intermediates": [{**item._asdict(), "inputs": list(item.inputs), "axes": list(item.axes),
                               "shape": list(array.shape), "values": array.tolist()}
                              for item, array in zip(self._items.values(), self._arrays.values(), strict=True)]}

    # Step by step ---------------------------------------------------------------------------

    @property
    def n_steps(self) -> int:
        """Tokens that the decoder read: each was a step."""
        return len(self.target_ids[0])

    def step(self, t: int) -> dict[str, Floats]:
        """What the decoder computed in step t, 0 the first: name -> that row of each of its intermediates, and of its
        attention to itself as many keys as there were. Negative t count from the end. Raises IndexError for another
        step, TypeError for what is no integer."""
        t = integer("step", "t", t)
        if not -self.n_steps <= t < self.n_steps:
            raise IndexError(f"step: t must be within 0..{self.n_steps - 1}, got {t}")
        t %= self.n_steps
        rows: dict[str, Floats] = {}
        for name, item in self._items.items():
            if "target" in item.axes:
                row: Any = self._arrays[name].take(t, axis=item.axes.index("target"))
                rows[name] = row[..., :t + 1] if item.axes.count("target") == 2 else row
        return rows

    def top(self, k: int = 5) -> list[Any]:
        """The k likeliest next words after each target token: a list, of each a list of (word, probability), the
        likeliest first; words as text where the model has a tokenizer, else ids. A list of those for a batch.

        Raises ValueError for a k below 1, TypeError for one that is no integer, KeyError where the trace has no
        probabilities.
        """
        from .search import top_k

        probabilities = self._needed("probabilities")
        if integer("top", "k", k) < 1:
            raise ValueError(f"top: k must be 1 or more, got {k}")
        flat = probabilities.reshape(-1, probabilities.shape[-1])
        values, ids = top_k(flat.copy(), k)
        rows = [list(zip(self._words(row), shares, strict=True))
                for row, shares in zip(ids.tolist(), values.tolist(), strict=True)]
        if self.single:
            return rows
        return [rows[i:i + self.n_steps] for i in range(0, len(rows), self.n_steps)]

    def _words(self, ids: list[int]) -> list[Any]:
        words = None if self.model is None else spelled(self.model.tokenizer, ids)
        return list(ids) if words is None else words

    # Across layers --------------------------------------------------------------------------

    def alignment(self, layers: Places | None = None, heads: Places | None = None) -> Floats:
        """How much each target token attends to each source token, (T, S) or (B, T, S): the cross-attention's weights,
        averaged. layers, heads: a number or several, negative ones from the end; all by default.

        Raises ValueError for numbers that are not there and for none, TypeError for what is no number, KeyError where
        the trace has no weights of cross-attention.
        """
        found: dict[str, Floats] = self._needed("decoder.layers.*.cross_attention.weights")
        weights = [found[name] for name in sorted(found, key=lambda name: int(name.split(".")[2]))]
        weights = np.stack(weights)
        weights = weights if self.single else weights.swapaxes(0, 1)  # (B, layers, heads, T, S)
        weights = weights.take(_chosen("layers", layers, weights.shape[-4]), axis=-4)
        mean: Floats = weights.take(_chosen("heads", heads, weights.shape[-3]), axis=-3).mean(axis=(-4, -3))
        return mean

    def lens(self) -> dict[str, Floats]:
        """What the decoder would say if it ended after each layer: name of the state -> logits (T, vocab_size).

        The output layer, after the final norm where there is one, applied to what the layers read and to what each of
        them gives; the last is `trace["logits"]`. Needs the model. Errors: ValueError without it, KeyError where a
        state is not in the trace.
        """
        from .lens import lens

        return lens(self)

    def _needed(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise KeyError(f"{name} is not in this trace: was it left out by include or exclude?") from None

    # Files and pictures ---------------------------------------------------------------------

    def save(self, path: StrPath) -> None:
        """Write all of it to a .npz or .safetensors file, as the name ends; `Trace.load` reads it back.

        The file is there whole or not at all. Raises TypeError for a path that is none, ValueError for another ending,
        OSError.
        """
        from .trace_files import save

        save(self, path)

    @staticmethod
    def load(path: StrPath, model: Transformer | None = None) -> Trace:
        """The trace in a file that `save` wrote; model: the one that it is of, for what needs it.

        Raises CheckpointError for everything that is wrong with the file, OSError where it cannot be opened, TypeError
        for a path or model that is none, ValueError for a model that did not compute this trace.
        """
        from .trace_files import load

        return load(path, model)

    def save_page(self, path: StrPath, *, weights: bool | None = None) -> int:
        """Write a page of its own, a walk through all of it in which every number tells how it came about; returns its
        bytes. weights: of `rtfast.page.write_page`.

        Raises ValueError without the model and for a trace of a batch, TypeError for a path or weights that are none,
        OSError.
        """
        from .page import write_page

        if self.model is None:
            raise ValueError("save_page: needs the model; a trace from a file has none: Trace.load(path, model)")
        return write_page(self.model, self, path, weights=weights)

    def plot_attention(self, name: str, head: int | None = None, ax: Any = None, **options: Any) -> Any:
        """A heat map of the weights of one attention or, by a pattern, of several: see `plots.plot_attention`."""
        from .plots import plot_attention

        return plot_attention(self, name, head, ax, **options)

    def plot_alignment(self, layers: Places | None = None, heads: Places | None = None, ax: Any = None,
                       **options: Any) -> Any:
        """A heat map of `alignment`: see `plots.plot_alignment`."""
        from .plots import plot_alignment

        return plot_alignment(self, layers, heads, ax, **options)

    def plot_lens(self, k: int = 1, ax: Any = None, **options: Any) -> Any:
        """The words that `lens` would say, layer by layer: see `plots.plot_lens`."""
        from .plots import plot_lens

        return plot_lens(self, k, ax, **options)

    def plot_positional_encoding(self, length: int = 50, ax: Any = None, **options: Any) -> Any:
        """What the model's positions add, by position and dimension: see `plots.plot_positional_encoding`. Needs the
        model."""
        from .plots import plot_positional_encoding

        if self.model is None:
            raise ValueError("plot_positional_encoding: needs the model; a trace from a file has none: "
                             "Trace.load(path, model)")
        return plot_positional_encoding(self.model, length, ax, **options)


def _chosen(name: str, wanted: Places | None, n: int) -> list[int]:
    """Places within n as a list, of None, a number or several."""
    if wanted is None:
        return list(range(n))
    several: Any = [wanted] if isinstance(wanted, str) or not np.iterable(wanted) else wanted
    places = [integer("alignment", name, place) for place in several]
    if not places or not all(-n <= place < n for place in places):
        raise ValueError(f"alignment: {name} must be None or numbers within 0..{n - 1}, got {wanted!r}")
    return [place % n for place in places]


def size_of(item: Traced, source: Batch, target: Batch, itemsize: int) -> int:
    """Bytes of a `program.Traced` for batches of so many sentences of one length: what a trace holds of it."""
    lengths = {"source": len(source.sentences[0]), "target": len(target.sentences[0])}
    lengths["output"] = lengths["target"]
    n = len(source.sentences)
    if item.form == "scores":
        keys = {"encoder": "source", "self": "target", "cross": "source"}[item.op.cache.role]
        return n * item.op.cache.heads * lengths[item.op.output.dimension] * lengths[keys] * itemsize
    view = item.view
    width = item.op.output.width if view is None else view.heads * view.width
    return n * lengths[item.op.output.dimension] * width * itemsize


def described(item: Traced, single: bool) -> TraceItem:
    """The `TraceItem` of a `program.Traced`."""
    side = "source" if item.op.output.dimension == "source" else "target"
    if item.form == "scores":
        keys = "target" if item.op.cache.role == "self" else "source"
        axes = ("head", side, keys)
    elif item.form == "heads":
        axes = ("head", side, "feature")
    else:
        axes = (side, "word" if item.name in ("logits", "probabilities") else "feature")
    return TraceItem(item.name, item.op.kind, item.formula, item.inputs, axes if single else ("sentence", *axes))


def shaped(array: Floats, item: Traced, batch: Batch) -> Floats:
    """Rows of a traced intermediate as a trace shows them."""
    n, length = len(batch.sentences), len(batch.sentences[0])
    if item.form == "heads":
        array = array.reshape(n, length, item.view.heads, item.view.width).transpose(0, 2, 1, 3)
    elif item.form == "rows":
        array = array.reshape(n, length, -1)
    return np.ascontiguousarray(array[0] if batch.single else array)


def rows_of(array: Floats, item: Traced, batch: Batch) -> Floats:
    """The inverse of `shaped`: rows (all tokens, width), or scores (n, heads, T, keys), C-contiguous."""
    array = array[None] if batch.single else array
    if item.form == "heads":
        array = array.transpose(0, 2, 1, 3)
    if item.form != "scores":
        array = array.reshape(math.prod(array.shape[:2]), -1)
    return np.ascontiguousarray(array)


def words_of(batch: Batch, tokenizer: Tokenizer | None, source: bool) -> list[Any]:
    """The batch's tokens as text where there is a tokenizer, else as ids: a list, or one for each sentence."""
    words = []
    for ids in batch.sentences:
        row = spelled(tokenizer, ids, source)
        words.append(ids.tolist() if row is None else row)
    return words[0] if batch.single else words
