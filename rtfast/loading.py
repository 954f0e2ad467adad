"""`load`: a model out of a folder, of our own or of Hugging Face, or from the hub."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

from . import checkpoint, hub
from .generation_options import GenerationOptions
from .model import Transformer

if TYPE_CHECKING:
    from rtfast.typing import StrPath

#: The model that comes with rtfast: English to Spanish, within the grammar of docs/shipped_model.md.
SHIPPED = os.path.join(os.path.dirname(__file__), "models", "en_es")


def load(name: StrPath | None = None, *, revision: str | None = None, cache_dir: StrPath | None = None,
         local_files_only: bool = False) -> Transformer:
    """The model in a folder, or on the Hugging Face hub.

    name: a folder that `Transformer.save` wrote, read bit for bit, or a Hugging Face checkpoint of MarianMT, BART,
    mBART, M2M100, NLLB or T5 (rtfast/families) with its tokenizer (rtfast/subwords); or the name of such a one on the
    hub, "owner/name", which is downloaded (rtfast/hub.py; revision, cache_dir and local_files_only are
    huggingface_hub's). Without a name: the small English-to-Spanish model that comes with rtfast.

    Raises FileNotFoundError for a missing file, `CheckpointError` (a ValueError) for a bad one, ImportError and
    ConnectionError where nothing can be downloaded.
    """
    if name is not None and hub.is_name(name):
        folder: StrPath = hub.folder_of(str(name), revision, cache_dir, local_files_only)
    elif revision is not None or cache_dir is not None or local_files_only:
        raise ValueError("load: revision, cache_dir and local_files_only are for names on the hub, \"owner/name\"; got "
                         f"{name!r}")
    else:
        folder = SHIPPED if name is None else name
    config, weights, tokenizer, generation = checkpoint.load(folder, stored=True)
    ignored = GenerationOptions.unsupported(generation or {})
    if ignored:
        own = os.path.exists(os.path.join(os.fsdecode(folder), checkpoint.GENERATION_FILE))
        file = checkpoint.GENERATION_FILE if own else checkpoint.CONFIG_FILE
        warnings.warn(f"{folder}: these options of its {file} do nothing here: {', '.join(ignored)}", RuntimeWarning,
                      stacklevel=2)
    return Transformer(config, weights, tokenizer, GenerationOptions.known(generation or {}))
