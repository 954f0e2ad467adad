"""Reading a tokenizer's files: whole, of limited size, with errors that name them."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from rtfast import safetensors_file
from rtfast.config import shown
from rtfast.safetensors_file import CheckpointError

from . import growth

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: The packages, by their import names.
JSON, SENTENCEPIECE = "tokenizers", "sentencepiece"
#: NLLB's tokenizer.json has 17 MB, its SentencePiece model 5.
MAX_FILE = 128 * 2**20


def read_file(folder: str, name: str) -> bytes:
    """The bytes of a file. Raises CheckpointError for one that is no regular file or larger than MAX_FILE."""
    path = os.path.join(folder, name)
    with safetensors_file.open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE:
            raise CheckpointError(f"{path}: must be at most {MAX_FILE} bytes, has {size}")
        return bytes(safetensors_file.read_bytes(path, file, size, "tokenizer"))


def read_json(folder: str, name: str) -> dict[str, Any]:
    """The object of a JSON file, a dict."""
    path = os.path.join(folder, name)
    # transformers writes a model_max_length of 31 digits.
    value = safetensors_file.parse_json(path, read_file(folder, name), "tokenizer", digits=40)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: must be a JSON object, got {type(value).__name__}")
    return value


def read_config(folder: str) -> dict[str, Any]:
    """The fields of tokenizer_config.json, none where there is no such file."""
    name = "tokenizer_config.json"
    return read_json(folder, name) if os.path.exists(os.path.join(folder, name)) else {}


def read_words(folder: str, name: str) -> tuple[list[str], dict[str, int]]:
    """(words by id, ids by word) of a vocabulary file {word: id} with the ids 0, 1, 2, ..."""
    ids = read_json(folder, name)
    path = os.path.join(folder, name)
    if not all(type(i) is int for i in ids.values()) or sorted(ids.values()) != list(range(len(ids))):
        raise CheckpointError(f"{path}: must give each word one of the ids from 0 to {len(ids) - 1}")
    return sorted(ids, key=ids.__getitem__), ids


def read_sentencepiece(folder: str, name: str) -> Any:
    """The SentencePieceProcessor of a model file."""
    import sentencepiece

    with naming(os.path.join(folder, name)):
        model = read_file(folder, name)
        growth.check_sentencepiece(model)
        return sentencepiece.SentencePieceProcessor(model_proto=model)


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Turn whatever a package says about a file into a CheckpointError that names it."""
    try:
        yield
    except CheckpointError:
        raise
    except BaseException as error:
        if not _is_of_package(error):
            raise
        raise CheckpointError(f"{path}: {str(error)[:500]}") from None


@contextlib.contextmanager
def using() -> Iterator[None]:
    """Turn whatever a package says of a text or of ids, because of what is in its files, into a ValueError."""
    try:
        yield
    except (TypeError, ValueError):
        raise
    except BaseException as error:
        if not _is_of_package(error):
            raise
        raise ValueError(f"the tokenizer's files do not allow this: {str(error)[:500]}") from None


def _is_of_package(error: BaseException) -> bool:
    """`tokenizers` raises plain Exception, `sentencepiece` RuntimeError, a panic in Rust is a BaseException."""
    if isinstance(error, MemoryError):
        return False
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def language(config: Mapping[str, Any], name: str, codes: Iterable[str]) -> str | None:
    """The code that tokenizer_config.json gives by `name`, None where it is none of the codes."""
    code = config.get(name)
    return code if isinstance(code, str) and code in codes else None


def word_id(ids: Mapping[str, int], word: Any, path: str) -> int:
    """The id of a special word that must be there."""
    if not isinstance(word, str) or word not in ids:
        raise CheckpointError(f"{path}: has no word {shown(word)}")
    return ids[word]


def check_text(text: object) -> str:
    """`text`; TypeError for anything but a string."""
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    return text
