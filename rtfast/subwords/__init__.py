"""The tokenizers of Hugging Face folders: their own files, read by `tokenizers` and `sentencepiece`.

`tokenizer_of(folder, fields)` finds a folder's. All of them have encode(text) -> ids of a source with the special
tokens of the family, encode_target(text) -> ids of a target, decode(ids) -> text without special tokens, tokens(ids)
-> pieces, and the number of their words; those of several languages also `languages` and for_languages(src, tgt).
They hold no state and may be shared by threads.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from rtfast.paths import replacing

from .files import JSON, SENTENCEPIECE, read_config
from .missing import MissingTokenizer

#: Which module reads which files: the first that fits the model's type and what is in the folder.
_READERS = (
    ("marian", ("source.spm", "target.spm", "vocab.json"), "marian", SENTENCEPIECE),
    (None, ("tokenizer.json",), "json_file", JSON),
    ("m2m_100", ("sentencepiece.bpe.model", "vocab.json"), "m2m100", SENTENCEPIECE),
    ("t5", ("spiece.model",), "t5", SENTENCEPIECE),
    ("mt5", ("spiece.model",), "t5", SENTENCEPIECE),
)
_OPTIONAL = ("tokenizer_config.json", "target_vocab.json")


def tokenizer_of(folder: str, fields: dict[str, Any]) -> Any:
    """The tokenizer of a folder whose config.json holds `fields`, None where it has no files of one.

    Where the package that reads them is not installed, one that says so when it is used. Raises CheckpointError for
    files that are broken or too large.
    """
    import importlib

    for model_type, names, module, package in _READERS:
        if model_type not in (None, fields.get("model_type")):
            continue
        if all(os.path.exists(os.path.join(folder, name)) for name in names):
            try:
                importlib.import_module(package)
            except ImportError:
                tokenizer: Any = MissingTokenizer(package)
            else:
                reader = importlib.import_module(f"{__name__}.{module}")
                tokenizer = reader.read(folder, read_config(folder))
            tokenizer.origin = Origin(folder, fields.get("model_type"), (*names, *_OPTIONAL))
            return tokenizer
    return None


class Origin(NamedTuple):
    """Where a tokenizer came from, so that it can be saved with a model."""

    folder: str
    model_type: Any
    names: tuple[str, ...]

    def copy_to(self, folder: str) -> None:
        """Copy its files. Raises FileNotFoundError where they are no longer there."""
        import shutil  # with bz2 and lzma: a thirtieth of importing rtfast

        for name in self.names:
            source, target = os.path.join(self.folder, name), os.path.join(folder, name)
            if name in _OPTIONAL and not os.path.exists(source):
                continue
            if not (os.path.exists(target) and os.path.samefile(source, target)):
                with open(source, "rb") as file, replacing(target) as copy:
                    shutil.copyfileobj(file, copy)
