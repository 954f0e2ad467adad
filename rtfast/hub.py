"""Models by their names on the Hugging Face hub, by the package `huggingface_hub`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from .safetensors_file import CheckpointError

if TYPE_CHECKING:
    from rtfast.typing import StrPath

#: "owner/name", or an old model without an owner such as "t5-small".
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
#: All that rtfast reads; pickles are not among them.
FILES = (
    "config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json",
    "model-*-of-*.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.json", "target_vocab.json",
    "source.spm", "target.spm", "spiece.model", "sentencepiece.bpe.model",
)


def is_name(name: object) -> bool:
    """Whether this is a model's name on the hub rather than a path: owner/name, no folder that is there."""
    return isinstance(name, str) and not os.path.exists(name) and _NAME.fullmatch(name) is not None \
        and "/" in name and ".." not in name


def folder_of(name: str, revision: str | None = None, cache_dir: StrPath | None = None,
              local_files_only: bool = False) -> str:
    """The folder of a model on the hub, downloaded with progress bars unless its files are in the cache.

    revision, cache_dir, local_files_only: as of `huggingface_hub.snapshot_download`. Raises ImportError where that
    package is not installed, FileNotFoundError for a name that the hub does not have (or does not show you),
    ConnectionError where it cannot be reached, CheckpointError for a model without safetensors.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise ImportError(f"{name!r} is no folder here, and models are downloaded by the package 'huggingface_hub': "
                          "pip install 'rtfast[hub]', or give a folder") from None
    try:
        folder: str = huggingface_hub.snapshot_download(
            name, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only,
            allow_patterns=list(FILES))
    except errors.GatedRepoError:
        raise PermissionError(f"{name!r}: its owner wants to be asked first: accept the terms on its page on the hub, "
                              "then log in with `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise FileNotFoundError(f"{name!r} is neither a folder here nor a model that the hub shows you: check the "
                                "name, or log in with `hf auth login` if it is private") from None
    except errors.RevisionNotFoundError:
        raise FileNotFoundError(f"{name!r} has no revision {revision!r}") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise ConnectionError(f"{name!r} is no folder here, not in the cache, and the hub is not reached: connect, or "
                              "give the folder of a downloaded model") from None
    except OSError as error:
        raise ConnectionError(f"{name!r} could not be downloaded: {error}") from error
    if not any(file.endswith(".safetensors") for file in os.listdir(folder)):
        raise CheckpointError(
            f"{name}: has no .safetensors file; its pickles can run code when they are read, so rtfast reads none: "
            "look for a revision with safetensors on its page (revision=\"refs/pr/...\"), or convert it once, where "
            "you trust it: transformers.AutoModelForSeq2SeqLM.from_pretrained(name).save_pretrained(folder)")
    return folder
