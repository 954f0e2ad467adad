"""A model as a folder: config.json says what it computes, model.safetensors holds its weights.

Two kinds are read: those that `save` writes, and Hugging Face's, of the families in rtfast/families.

No pickle is ever read, so no file can run code; what is wrong with one is a CheckpointError that names it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Any

from rtfast import huggingface_folder, safetensors_file
from rtfast.config import Config
from rtfast.families import FAMILIES, family_of
from rtfast.generation_options import GenerationOptions
from rtfast.paths import path_of, replacing
from rtfast.safetensors_file import CheckpointError
from rtfast.subwords import tokenizer_of
from rtfast.tokenizer import WordTokenizer
from rtfast.weights import StoredWeight, array_of, check_positions, check_shapes, prepare_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rtfast.typing import Array, StrPath

__all__ = ["CheckpointError", "load", "save", "save_generation"]

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
GENERATION_FILE = "generation_config.json"
MODEL_TYPE = "rtfast-transformer"
FORMAT_VERSION = 1
#: 16 MB: room for a vocabulary of hundreds of thousands of words
MAX_CONFIG = 16 * 2**20

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def save(folder: StrPath, config: Config, weights: Mapping[str, Any], tokenizer: Any = None) -> None:
    """Write config.json and model.safetensors into `folder`, which is made if need be.

    weights: as `prepare_weights` takes them. tokenizer: a WordTokenizer of config.vocab_size words, one that came
    with a checkpoint (rtfast/subwords), whose files are copied, or None.
    Both files are written beside their final names, then moved over them: a reader, or a crash, finds whole
    files only. Raises what `prepare_weights` raises, TypeError or ValueError for another tokenizer, OSError.
    """
    folder = path_of(folder, "folder")
    weights = prepare_weights(config, weights)
    check_positions(config, {name: array.shape for name, array in weights.items()})
    fields = {"model_type": MODEL_TYPE, "format_version": FORMAT_VERSION, **config.to_dict()}
    origin = getattr(tokenizer, "origin", None)
    if origin is not None:
        fields["subwords"] = origin.model_type
    elif tokenizer is not None:
        _check_tokenizer(config, tokenizer)
        fields["tokenizer"] = tokenizer.to_dict()
    text = _config_text(fields)
    os.makedirs(folder, exist_ok=True)
    if origin is not None:
        origin.copy_to(folder)
    # The contexts close in reverse: nothing is moved before both are written, the small file goes last.
    with replacing(os.path.join(folder, CONFIG_FILE)) as config_file:
        config_file.write(text)
        config_file.flush()
        with replacing(os.path.join(folder, WEIGHTS_FILE)) as weights_file:
            safetensors_file.write(weights_file, weights)


def load(folder: StrPath, stored: bool = False) -> tuple[Config, dict[str, Any], Any, dict[str, Any] | None]:
    """(config, weights, tokenizer or None, generation or None) of a folder that `save` wrote, or one like it.

    weights: as `prepare_weights` returns them, with the very bits that were saved. generation: the fields that
    generation_config.json holds. stored: matrices may be `StoredWeight`, not read yet. Files may be links, as in
    the Hugging Face cache. Raises FileNotFoundError naming what is missing, another OSError for what cannot
    be opened, CheckpointError for everything that is wrong with the content.
    """
    folder = os.fsdecode(folder)
    _check_folder(folder)
    fields = _read_fields(os.path.join(folder, CONFIG_FILE))
    family = family_of(fields.get("model_type"))
    if family is not None:
        config, weights = huggingface_folder.read(folder, fields, family, _naming)
        weights = weights if stored else {name: array_of(values) for name, values in weights.items()}
        return config, weights, tokenizer_of(folder, fields), _generation(folder, fields)
    generation = _generation(folder, fields)
    config, tokenizer = _own_config(os.path.join(folder, CONFIG_FILE), fields)
    path = os.path.join(folder, WEIGHTS_FILE)
    with _naming(path):
        tensors = safetensors_file.stored(path)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        check_shapes(config, shapes)
        with _naming(os.path.join(folder, CONFIG_FILE)):
            check_positions(config, shapes)
        weights = {name: StoredWeight(name, tensor, config.dtype) if len(tensor.shape) == 2
                   else _read_only(tensor.rows(0, tensor.shape[0])) for name, tensor in tensors.items()}
        weights = prepare_weights(config, weights)
        return config, weights if stored else {name: array_of(values) for name, values in weights.items()}, \
            tokenizer, generation


def _generation(folder: str, fields: dict[str, Any]) -> dict[str, Any] | None:
    """The fields of a folder's generation_config.json, None where it has none; `fields` are config.json's.

    Older Hugging Face folders have them there.
    """
    path = os.path.join(folder, GENERATION_FILE)
    foreign, older = family_of(fields.get("model_type")) is not None, not os.path.exists(path)
    if older and not foreign:
        return None
    if older:
        path = os.path.join(folder, CONFIG_FILE)
        fields = {name: value for name, value in fields.items() if value is not None}
    else:
        fields = _with_ids(_read_fields(path)) if foreign else _read_fields(path)
    if fields.get("force_bos_token_to_be_generated") and (older or fields.get("_from_model_config")):  # BART's
        fields = {**fields, "forced_bos_token_id": fields.get("bos_token_id")}
    with _naming(path):
        GenerationOptions.from_dict(fields)
    return fields


def _with_ids(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with null for ids that they leave out, which transformers takes from no other file either.

    Where nothing would start a target, and transformers refuses to generate, the start is left to config.json.
    """
    fields = {"eos_token_id": None, "decoder_start_token_id": None, **fields}
    if fields["decoder_start_token_id"] is None and fields.get("bos_token_id") is None:
        del fields["decoder_start_token_id"]
    return fields


def save_generation(folder: StrPath, fields: dict[str, Any] | None) -> None:
    """Write generation_config.json into `folder`; without fields there is none."""
    path = os.path.join(os.fsdecode(folder), GENERATION_FILE)
    if fields:
        with replacing(path) as file:
            file.write(_config_text(fields))
    elif os.path.exists(path):
        os.remove(path)


def _check_folder(folder: str) -> None:
    """Raise the error that says best what `folder` lacks, if it lacks anything."""
    expected = f"a model folder holds {CONFIG_FILE} and {WEIGHTS_FILE}"
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else None
    if names is None and os.path.exists(folder):
        raise NotADirectoryError(errno.ENOTDIR, f"not a folder ({expected})", folder)
    if names is None:
        raise FileNotFoundError(errno.ENOENT, f"no such folder ({expected})", folder)
    pickles = [name for name in names if name.endswith(_PICKLES)]
    sharded = huggingface_folder.INDEX_FILE in names
    if pickles and WEIGHTS_FILE not in names and not sharded:
        raise CheckpointError(
            f"{os.path.join(folder, pickles[0])}: a pickle file can run code when it is read, so rtfast "
            "reads none; convert it once, where you trust it, with PyTorch and safetensors: "
            f"safetensors.torch.save_file(torch.load({pickles[0]!r}, weights_only=True), {WEIGHTS_FILE!r})")
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if name not in names and not (name == WEIGHTS_FILE and sharded):
            raise FileNotFoundError(errno.ENOENT, f"no such file ({expected})", os.path.join(folder, name))


def _read_only(array: Array) -> Array:
    array.flags.writeable = False  # ours alone: prepare_weights need not copy it
    return array


def _read_fields(path: str) -> dict[str, Any]:
    """The fields of a config.json, a dict."""
    with safetensors_file.open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_CONFIG:
            raise CheckpointError(f"{path}: must be at most {MAX_CONFIG} bytes, has {size}")
        data = safetensors_file.read_bytes(path, file, size, "config")
    fields = safetensors_file.parse_json(path, data, "config")
    if not isinstance(fields, dict):
        raise CheckpointError(f"{path}: config must be a JSON object, got {type(fields).__name__}")
    return fields


def _own_config(path: str, fields: dict[str, Any]) -> tuple[Config, Any]:
    """The Config and the tokenizer, or None, of the fields that `save` wrote."""
    if fields.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f"{path}: model_type must be {MODEL_TYPE!r} or one of {', '.join(map(repr, FAMILIES))}, "
            f"got {str(fields.get('model_type'))[:80]!r}")
    version = fields.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version must be {FORMAT_VERSION}, got {str(version)[:80]}; "
            "a greater one needs a newer rtfast")
    tokenizer, subwords = fields.pop("tokenizer", None), fields.pop("subwords", None)
    del fields["model_type"], fields["format_version"]
    with _naming(path):
        config = Config.from_dict(fields)
        if config.vocab_size is None:
            raise ValueError("Config: vocab_size must be an integer, got None")
        if tokenizer is not None:
            tokenizer = WordTokenizer.from_dict(tokenizer)
            _check_tokenizer(config, tokenizer)
        elif subwords is not None:
            tokenizer = tokenizer_of(os.path.dirname(path), {"model_type": subwords})
    return config, tokenizer


def _check_tokenizer(config: Config, tokenizer: object) -> None:
    if not isinstance(tokenizer, WordTokenizer):
        raise TypeError(
            f"checkpoint: tokenizer must be a WordTokenizer or None, got {type(tokenizer).__name__}")
    if len(tokenizer) != config.vocab_size:
        raise ValueError(
            f"checkpoint: vocabulary must have vocab_size = {config.vocab_size} words, got {len(tokenizer)}")


def _config_text(fields: dict[str, Any]) -> bytes:
    import json

    text = json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    if len(text) > MAX_CONFIG:
        raise ValueError(f"checkpoint: {CONFIG_FILE} must be at most {MAX_CONFIG} bytes, got {len(text)}")
    return text


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Turn the body's TypeError and ValueError into a CheckpointError that names the file."""
    try:
        yield
    except CheckpointError:
        raise
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
