"""Hugging Face folders: config.json, and model.safetensors whole or in shards, of the families that rtfast knows.

Nothing is read outside the folder (and the blobs its links lead to), and no pickle at all.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from rtfast import safetensors_file
from rtfast.safetensors_file import CheckpointError
from rtfast.weights import StoredWeight, check_layers, check_positions, check_shapes, prepare_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from rtfast.config import Config
    from rtfast.families.source import Family, Source
    from rtfast.safetensors_file import StoredTensor
    from rtfast.typing import Array, Shape

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
#: 64 MB: room for the index of millions of tensors
MAX_INDEX = 64 * 2**20


class _Fields(dict[str, Any]):
    """config.json's fields; one that is missing is a ValueError that names it."""

    def __missing__(self, name: str) -> Any:
        raise ValueError(f"{name} is missing")


def read(folder: str, fields: dict[str, Any], family: Family,
         naming: Callable[[str], AbstractContextManager[None]]) -> tuple[Config, dict[str, Any]]:
    """(config, weights, most of them `StoredWeight`) of a folder of a family (rtfast/families) whose config.json
    holds `fields`.

    naming: a context manager of a path that turns TypeError and ValueError into CheckpointError.
    """
    shards = _shards(folder)
    config_path = os.path.join(folder, "config.json")
    # Their names and shapes, from the headers alone: nothing large is read before all of them fit.
    tensors: dict[str, StoredTensor] = {}
    for path in shards:
        found = safetensors_file.stored(path)
        twice = sorted(set(found) & set(tensors))
        if twice:
            raise CheckpointError(f"{path}: tensor {twice[0]!r} is in another shard too")
        tensors.update(found)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    equal = equals(tensors, family.EMBEDDINGS)
    with naming(config_path):
        config = family.config_of(_Fields(fields), equal)
        check_layers(config, shapes)
        check_positions(config, shapes)
    sources = family.sources(config, fields)
    wanted: dict[str, list[str]] = {}  # their name -> our names
    for ours, source in sources.items():
        theirs = next((name for name in source.names if name in shapes), None)
        if theirs is not None:
            wanted.setdefault(equal[theirs], []).append(ours)
    with naming(shards[0] if len(shards) == 1 else os.path.join(folder, INDEX_FILE)):
        _check(config, family, sources, wanted, {name: shape for name, shape in shapes.items() if equal[name] == name})
        weights = {ours: _weight(ours, source, tensors[theirs], config.dtype)
                   for theirs, names in wanted.items() for ours in names for source in (sources[ours],)}
        return config, prepare_weights(config, weights)


def equals(tensors: Mapping[str, StoredTensor], names: Sequence[str]) -> dict[str, str]:
    """For every tensor the first of `names` that is the same matrix, to be kept in its place; itself where none is.

    Whatever config.json says of ties: transformers too keeps apart what differs.
    """
    equal = {name: name for name in tensors}
    found = [name for name in names if name in tensors and len(tensors[name].shape) == 2]
    for i, name in enumerate(found):
        equal[name] = next((other for other in found[:i] if tensors[name].equals(tensors[other])), name)
    return equal


def _weight(name: str, source: Source, tensor: StoredTensor, dtype: str) -> Array | StoredWeight:
    """A matrix is left in its file until it is packed; the small rest is read."""
    if len(tensor.shape) == 2 and not source.flat:
        return StoredWeight(name, tensor, dtype, source.transposed, slice(source.skip, None))
    array = np.array(source.array(tensor.rows(0, tensor.shape[0]) if tensor.shape else np.zeros(())), dtype)
    array.flags.writeable = False
    return array


def _check(config: Config, family: Family, sources: Mapping[str, Source], wanted: Mapping[str, list[str]],
           shapes: Mapping[str, Shape]) -> None:
    """Raise one ValueError that lists all missing, unexpected and misshapen tensors."""
    found = {ours: sources[ours].shape(shapes[theirs]) for theirs, names in wanted.items() for ours in names}
    for ours, source in sources.items():
        if ours not in found and ours != "output.bias":  # which a folder may leave out, where nothing else may be
            raise ValueError(f"tensor {source.names[0]!r} is missing (for {ours})")
    check_shapes(config, found)
    # What differs from the ends' own embeddings is left over, and used by nothing.
    others = [name for name in shapes
              if name not in wanted and name not in family.EMBEDDINGS and not name.endswith(family.IGNORED)]
    if others:
        listed = ", ".join(repr(name)[:100] for name in sorted(others)[:20])
        raise ValueError(f"{len(others)} tensors that this family does not have: {listed}")


def _shards(folder: str) -> list[str]:
    """Paths of the files that hold the weights."""
    if os.path.exists(os.path.join(folder, WEIGHTS_FILE)):
        return [os.path.join(folder, WEIGHTS_FILE)]
    path = os.path.join(folder, INDEX_FILE)
    with safetensors_file.open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_INDEX:
            raise CheckpointError(f"{path}: must be at most {MAX_INDEX} bytes, has {size}")
        index = safetensors_file.parse_json(path, safetensors_file.read_bytes(path, file, size, "index"), "index")
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{path}: weight_map must be an object of tensors and files")
    for name in places.values():
        if not isinstance(name, str) or os.path.basename(name) != name or name in ("", ".", "..") or "\\" in name \
                or "\0" in name or not name.endswith(".safetensors"):
            raise CheckpointError(
                f"{path}: a shard must be a .safetensors file of this folder, got {str(name)[:100]!r}")
    return [os.path.join(folder, name) for name in sorted(set(places.values()))]
