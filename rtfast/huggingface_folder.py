"""Hugging Face folders: config.json, and model.safetensors whole or in shards, of the families that rtfast knows.

Nothing is read outside the folder (and the blobs its links lead to), and no pickle at all.
"""

import os

import numpy as np

from rtfast import safetensors_file
from rtfast.safetensors_file import CheckpointError
from rtfast.weights import check_shapes, prepare_weights

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
#: 64 MB: room for the index of millions of tensors
MAX_INDEX = 64 * 2**20


class _Fields(dict):
    """config.json's fields; one that is missing is a ValueError that names it."""

    def __missing__(self, name):
        raise ValueError(f"{name} is missing")


def read(folder, fields, family, naming):
    """(config, weights) of a folder whose config.json holds `fields`, of a family (rtfast/families).

    naming: a context manager of a path that turns TypeError and ValueError into CheckpointError.
    """
    shards = _shards(folder)
    config_path = os.path.join(folder, "config.json")
    shapes = {}  # of every tensor, from the headers alone: nothing large is read before all of them fit
    for path in shards:
        found = safetensors_file.read_shapes(path)
        twice = sorted(set(found) & set(shapes))
        if twice:
            raise CheckpointError(f"{path}: tensor {twice[0]!r} is in another shard too")
        shapes.update(found)
    with naming(config_path):
        config = family.config_of(_Fields(fields), shapes)
    sources = family.sources(config)
    wanted = {}  # their name -> our names
    for ours, source in sources.items():
        theirs = next((name for name in source.names if name in shapes), None)
        if theirs is not None:
            wanted.setdefault(theirs, []).append(ours)
    with naming(shards[0] if len(shards) == 1 else os.path.join(folder, INDEX_FILE)):
        _check(config, family, sources, wanted, shapes)
        weights = {}
        for path in shards:
            for theirs, array in safetensors_file.read(path, names=wanted).items():
                for ours in wanted[theirs]:
                    weights[ours] = _ours(sources[ours].array(array), config.dtype)
        return config, prepare_weights(config, weights)


def _ours(array, dtype):
    """A read-only array of our own, of the config's type."""
    array = np.ascontiguousarray(array, dtype)
    if not array.flags.owndata:
        array = array.copy()
    array.flags.writeable = False
    return array


def _check(config, family, sources, wanted, shapes):
    """Raise one ValueError that lists all missing, unexpected and misshapen tensors."""
    found = {ours: sources[ours].shape(shapes[theirs]) for theirs, names in wanted.items() for ours in names}
    for ours, source in sources.items():
        if ours not in found and ours != "output.bias":  # which a folder may leave out, where nothing else may be
            raise ValueError(f"tensor {source.names[0]!r} is missing (for {ours})")
    check_shapes(config, found)
    others = [name for name in shapes if name not in wanted and not name.endswith(family.IGNORED)]
    if others:
        listed = ", ".join(repr(name)[:100] for name in sorted(others)[:20])
        raise ValueError(f"{len(others)} tensors that this family does not have: {listed}")


def _shards(folder):
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
