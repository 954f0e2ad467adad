"""What the page holds: words, the trace's arrays, the weights that they were computed with, and the walk."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from rtfast.model import Transformer
from rtfast.trace import Trace
from rtfast.words import words_of

from .origins import origins
from .walk import walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rtfast.config import Config
    from rtfast.typing import Array

#: Candidates for each next word that the page shows.
CANDIDATES = 10
#: Bytes of layers' weights, as they are embedded, up to which they are embedded without being asked for.
MOST_WEIGHTS = 20_000_000
#: Words up to which the whole vocabulary, its logits and probabilities are on the page; above, only candidates.
MOST_WORDS = 20_000
#: Numbers up to which a table of words is embedded as a whole, and not only the rows of words that are shown.
MOST_TABLE = 30_000


def page_data(model: Transformer, trace: Trace, weights: bool | None = None) -> dict[str, Any]:
    """All of it as plain values for JSON, arrays as base64. Arguments and errors as `page_html`."""
    _check(model, trace, weights)
    config, values = model.config, model.weights
    target_ids = [int(i) for i in trace.target_ids[0]]
    following = list(trace.generated) if trace.generated is not None else [*target_ids[1:], None]
    following = [None if i is None else int(i) for i in following]
    source = _words(trace.tokens[0], trace.source_ids[0])
    target = _words(trace.tokens[1], trace.target_ids[0])
    said = [i for i in following if i is not None]
    said = _words(words_of(model, said), said)
    sentences = [_sentence(config, source), _sentence(config, said or target)]
    top = _likeliest(trace)
    shown = _shown_words(top, following, config.target_words)
    whole = config.target_words <= MOST_WORDS
    listed = range(config.target_words) if whole else shown
    arrays = {name: encoded(array) if whole or name not in ("logits", "probabilities") else encoded(array, shown, 1)
              for name, array in trace.items()}
    layers = {name: array for name, array in values.items() if ".layers." in name}
    size = sum(array.size * np.dtype(packed_dtype(array)).itemsize for array in layers.values())
    embedded = size <= MOST_WEIGHTS if weights is None else weights
    tables = _tables(config, values, source, target, shown)
    chosen: dict[str, Any] = {**tables, **(layers if embedded else {})}
    for name, array in values.items():  # what is left is small: norms after the last layer, relative biases
        if name not in chosen and name not in layers:
            chosen[name] = encoded(array)
    return {
        "title": " → ".join(sentences),
        "sentences": sentences,
        "config": {**config.to_dict(), "target_words": config.target_words},
        "backend": model.backend,
        "source": source,
        "target": target,
        "following": [*said, *[None] * (len(following) - len(said))],
        "generated": trace.generated is not None,
        "top": top,
        "words": {str(i): word for i, word in zip(listed, words_of(model, listed), strict=True)},
        "denominators": {} if whole else _denominators(trace),
        "arrays": arrays,
        "weights": {name: chosen[name] if isinstance(chosen[name], dict) else encoded(chosen[name])
                    for name in values if name in chosen},
        "weight_shapes": {name: list(array.shape) for name, array in values.items()},
        "weights_left_out": None if embedded else size,
        "origins": origins(config, trace),
        "walk": walk(config, trace),
    }


def _check(model: object, trace: object, weights: object) -> None:
    if not isinstance(model, Transformer):
        raise TypeError(f"page: model must be an rtfast.Transformer, got {type(model).__name__}")
    if not isinstance(trace, Trace):
        raise TypeError(f"page: trace must be an rtfast.Trace, got {type(trace).__name__}")
    if weights is not None and not isinstance(weights, bool):
        raise TypeError(f"page: weights must be True, False or None, got {weights!r}")
    if not trace.single:
        raise ValueError(f"page: trace must be of one sentence, got a batch of {len(trace.source_ids)}: trace them one "
                         "at a time")
    if trace.model is not None and trace.model.config != model.config:
        raise ValueError("page: model must be the one that was traced, got one of another config")


def packed_dtype(array: Array) -> str:
    """The smallest type that holds the very bits of the array's numbers: "float16", or the array's own."""
    with np.errstate(over="ignore", invalid="ignore"):
        back = array.astype(np.float16).astype(array.dtype)
    return "float16" if back.tobytes() == array.tobytes() else array.dtype.name


def encoded(array: Array, ids: Sequence[int] | None = None, axis: int = 0) -> dict[str, Any]:
    """An array for JSON: its shape, type, and bytes (little-endian, base64); with `ids` only these along `axis`."""
    held = array if ids is None else np.take(array, ids, axis)
    dtype = packed_dtype(held)
    data = np.ascontiguousarray(held, np.dtype(dtype).newbyteorder("<")).tobytes()
    made: dict[str, Any] = {"shape": list(array.shape), "dtype": dtype, "true_dtype": array.dtype.name,
            "data": base64.b64encode(data).decode()}
    if ids is not None:
        made |= {"ids": list(ids), "axis": axis}
    return made


def _words(tokens: Iterable[object], ids: Iterable[int]) -> list[dict[str, Any]]:
    return [{"word": str(word), "id": int(i)} for word, i in zip(tokens, ids, strict=True)]


def _sentence(config: Config, words: Sequence[dict[str, Any]]) -> str:
    """The words as text, for a heading: without those that start, end and fill a sentence."""
    special = (config.sos_id, config.eos_id, config.pad_id)
    texts: list[str] = [word["word"] for word in words if word["id"] not in special]
    for mark in "▁Ġ":  # pieces of words, of which those that begin a word have the mark
        if any(text.startswith(mark) for text in texts):
            return "".join(texts).replace(mark, " ").strip()
    return " ".join(texts)


def _likeliest(trace: Trace) -> list[list[int]]:
    """For each target position the ids of the likeliest next words, the likeliest first; NaN counts as least."""
    if "probabilities" not in trace:
        return []
    probabilities = np.nan_to_num(trace["probabilities"], nan=-1.0)
    places: list[list[int]] = np.argsort(-probabilities, axis=1, kind="stable")[:, :CANDIDATES].tolist()
    return places


def _shown_words(top: list[list[int]], following: Iterable[int | None], words: int) -> list[int]:
    """Ids, ascending, of the words whose column of the output layer the page needs."""
    chosen = {i for i in following if i is not None and i < words}
    return sorted(chosen.union(*top))


def _tables(config: Config, values: Mapping[str, Array], source: Sequence[dict[str, Any]],
            target: Sequence[dict[str, Any]], shown: list[int]) -> dict[str, dict[str, Any]]:
    """The rows of the tables of words and positions, and the columns of the output layer, that the page needs."""
    rows: dict[str, Any] = {"embedding.weight": {word["id"] for word in source}}
    rows.setdefault(config.target_embedding, set()).update(word["id"] for word in target)
    if config.tie_embeddings:
        rows[config.target_embedding].update(shown)
    if config.positions == "learned":
        rows["encoder.positions.weight"] = range(len(source))
        rows["decoder.positions.weight"] = range(len(target))
    cuts = {name: (sorted(ids), 0) for name, ids in rows.items()}
    if "output.weight" in values:
        cuts["output.weight"] = shown, 1
    if "output.bias" in values:
        cuts["output.bias"] = shown, 0
    return {name: encoded(values[name], *cut) if values[name].size > MOST_TABLE else encoded(values[name])
            for name, cut in cuts.items()}


def _denominators(trace: Trace) -> dict[str, Any]:
    """Of each row of logits: its maximum, and the sum of exp(logit - maximum) over all words, in float64."""
    if "logits" not in trace:
        return {}
    logits = trace["logits"].astype(np.float64)
    peak = logits.max(axis=1)
    with np.errstate(invalid="ignore"):
        total = np.exp(logits - peak[:, None]).sum(axis=1)
    finite = np.isfinite(peak) & np.isfinite(total)
    return {"peak": [float(x) if ok else None for x, ok in zip(peak, finite, strict=True)],
            "total": [float(x) if ok else None for x, ok in zip(total, finite, strict=True)]}
