"""Traces in files: .safetensors, with what is known of the intermediates as metadata, or .npz, with that as JSON bytes.

A file is hostile until it is checked: no pickle, no compressed member, nothing read that does not fit.
"""

from __future__ import annotations

import json
import os
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from . import npz_file, safetensors_file
from .paths import path_of, replacing
from .safetensors_file import CheckpointError
from .trace import Trace, TraceItem, described, size_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rtfast.config import Config
    from rtfast.model import Transformer
    from rtfast.typing import Array, StrPath

ABOUT = "rtfast.trace"
FORMAT = 1
AXES = {"sentence", "head", "source", "target", "feature", "word"}
#: Bytes of JSON about a trace: thousands of intermediates.
MAX_ABOUT = 16 * 2**20
IDS = ("source_ids", "target_ids")
_NPY_TYPES = ("<f4", "<f8", "<i8", "|u1")
_FLOATS = (np.dtype("<f4"), np.dtype("<f8"))


def save(trace: Trace, path: StrPath) -> None:
    """Write a `Trace`, whole or not at all; raises ValueError for a name that ends in neither .npz nor .safetensors."""
    path = path_of(path)
    write = _KINDS[_kind(path)][0]
    about = {"format": FORMAT, "single": trace.single, "tokens": list(trace.tokens), "generated": trace.generated,
             "items": [[item.name, item.op, item.formula, list(item.inputs), list(item.axes)]
                       for item in (trace.item(name) for name in trace)]}
    arrays = {**trace, "source_ids": np.stack(trace.source_ids), "target_ids": np.stack(trace.target_ids)}
    with replacing(path) as file:
        write(file, arrays, json.dumps(about, ensure_ascii=False))


def load(path: StrPath, model: Transformer | None = None) -> Trace:
    """The `Trace` in a file; raises CheckpointError for whatever is wrong with it, OSError.

    model: raises TypeError for what is no `Transformer`, ValueError for one that did not compute this trace.
    """
    path = path_of(path)
    if model is not None:
        from .model import Transformer

        if not isinstance(model, Transformer):
            raise TypeError(f"Trace.load: model must be a Transformer or None, got {type(model).__name__}")
    text, arrays = _KINDS[_kind(path)][1](path)
    about = safetensors_file.parse_json(path, text.encode("utf-8", "surrogatepass"), ABOUT)
    try:
        _check(about, arrays)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(f"{path}: {ABOUT}: {error or type(error).__name__}") from None
    source_ids, target_ids = (list(arrays[name].astype(np.int64)) for name in IDS)
    trace = Trace(source_ids, target_ids, tuple(about["tokens"]), single=about["single"],
                  generated=about.get("generated"), model=model)
    for name, op, formula, inputs, axes in about["items"]:
        trace.put(TraceItem(name, op, formula, tuple(inputs), tuple(axes)), arrays[name])
    if model is not None:
        _check_model(model.config, trace)
    return trace


def _check_model(config: Config, trace: Trace) -> None:
    """Raise ValueError unless a model of this config computes the trace's intermediates, of these shapes and type."""
    from .inputs import Batch
    from .tracing import Selection

    def refuse(what: str) -> None:
        raise ValueError(f"Trace.load: model must be the one that was traced, but {what}")

    read = ((trace.source_ids, config.vocab_size, "source"), (trace.target_ids, config.target_words, "target"))
    for ids, words, side in read:
        length, largest = len(ids[0]), max(int(row.max()) for row in ids)
        if length > config.max_length or largest >= (words or 0):
            refuse(f"the {side} of the trace has {length} tokens up to {largest}, the model {config.max_length} "
                   f"positions and {words} words")
    known, (source, target) = Selection(config).items, (Batch(ids, trace.single, None) for ids, _, _ in read)
    dtype = np.dtype(config.dtype)
    for name, array in trace.items():
        if name not in known:
            refuse(f"it has no {name}")
        item = described(known[name], trace.single)
        heads = [n for n, axis in zip(array.shape, trace.axes(name), strict=True) if axis == "head"]
        if (array.dtype != dtype or item.axes != trace.axes(name) or heads not in ([], [config.n_heads])
                or array.nbytes != size_of(known[name], source, target, dtype.itemsize)):
            refuse(f"its {name} is not of shape {array.shape} and {array.dtype}")


def _kind(path: str) -> str:
    kind = os.path.splitext(path)[1]
    if kind not in _KINDS:
        raise ValueError(f"a trace's file must end in {' or '.join(_KINDS)}, got {path!r}")
    return kind


# What a file must say -------------------------------------------------------------------------

def _check(about: Any, arrays: dict[str, Array]) -> None:
    """Raise an error that says what is wrong with the parsed JSON and the arrays beside it."""
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"must be an object of format {FORMAT}")
    if type(about.get("single")) is not bool:
        raise ValueError("single must be true or false")
    lengths = {}
    for name, tokens in zip(IDS, _pair(about["tokens"]), strict=True):
        ids = arrays.get(name)
        if ids is None or ids.ndim != 2 or ids.dtype != np.int64 or 0 in ids.shape or ids.min() < 0:
            raise ValueError(f"{name} must be ids (sentences, length) of int64")
        _check_tokens(tokens, ids.shape, about["single"])
        lengths[name.split("_")[0]] = ids.shape[1]
    if len(arrays["source_ids"]) != len(arrays["target_ids"]):
        raise ValueError("source_ids and target_ids must have as many sentences")
    _check_generated(about.get("generated"))
    items = about["items"]
    if not isinstance(items, list):
        raise ValueError("items must be a list")
    names = [_check_item(item, arrays, lengths) for item in items]
    if len(set(names)) != len(names) or {*names, *IDS} != set(arrays):
        raise ValueError("items must name each of the arrays once")
    if len({arrays[name].dtype for name in names}) > 1:
        raise ValueError("all intermediates must have one type")


def _pair(tokens: Any) -> list[Any]:
    if not isinstance(tokens, list) or len(tokens) != 2:
        raise ValueError("tokens must be two lists")
    return tokens


def _check_tokens(tokens: Any, shape: tuple[int, ...], single: bool) -> None:
    rows = [tokens] if single else tokens
    if not isinstance(rows, list) or len(rows) != shape[0] or not all(
            isinstance(row, list) and len(row) == shape[1] and all(type(one) in (str, int) for one in row)
            for row in rows):
        raise ValueError(f"tokens must be words or ids of shape {shape}")


def _check_generated(generated: Any) -> None:
    rows = [] if generated is None else generated if generated and isinstance(generated[0], list) else [generated]
    if not all(isinstance(row, list) and all(type(one) is int and one >= 0 for one in row) for row in rows):
        raise ValueError("generated must be null or ids")


def _check_item(item: Any, arrays: dict[str, Array], lengths: dict[str, int]) -> str:
    """The name of a checked item, that there is an array of its axes."""
    name: str
    name, op, formula, inputs, axes = item
    if not all(type(one) is str for one in (name, op, formula, *inputs)) or not isinstance(inputs, list):
        raise ValueError("an item must be name, op, formula, inputs and axes")
    array = arrays.get(name)
    if array is None or array.dtype not in _FLOATS:
        raise ValueError(f"{name[:200]!r} must be an array of float32 or float64")
    if not isinstance(axes, list) or len(axes) != array.ndim or not set(axes) <= AXES:
        raise ValueError(f"{name[:200]!r}: axes must name its {array.ndim} axes")
    if any(lengths.get(axis, size) != size for axis, size in zip(axes, array.shape, strict=True)):
        raise ValueError(f"{name[:200]!r}: shape {array.shape} must fit the sentences")
    return name


# The two kinds of file ------------------------------------------------------------------------

def _write_safetensors(file: IO[bytes], arrays: Mapping[str, Array], about: str) -> None:
    safetensors_file.write(file, arrays, {ABOUT: about})


def _read_safetensors(path: str) -> tuple[str, dict[str, Array]]:
    about = safetensors_file.metadata(path).get(ABOUT)
    if about is None:
        raise CheckpointError(f"{path}: holds no trace: its metadata has no {ABOUT}")
    return about, safetensors_file.read(path)


def _write_npz(file: IO[bytes], arrays: Mapping[str, Array], about: str) -> None:
    members: dict[str, Any] = {**arrays, ABOUT: np.frombuffer(about.encode("utf-8", "surrogatepass"), np.uint8)}
    np.savez(file, **members)


def _read_npz(path: str) -> tuple[str, dict[str, Array]]:
    arrays = npz_file.read(path, _NPY_TYPES)
    about = arrays.pop(ABOUT, None)
    if about is None or about.dtype != np.uint8 or about.nbytes > MAX_ABOUT:
        raise CheckpointError(f"{path}: holds no trace: it has no {ABOUT}")
    try:
        return about.tobytes().decode("utf-8", "surrogatepass"), arrays
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: {ABOUT}: {error}") from None


_KINDS = {".npz": (_write_npz, _read_npz), ".safetensors": (_write_safetensors, _read_safetensors)}
