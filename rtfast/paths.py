"""Files and folders as users name them, and writing one so that nobody finds half of it."""

from __future__ import annotations

import contextlib
import os
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def path_of(path: Any, name: str = "path") -> str:
    """`path` as a string; TypeError for what is none: an integer would be an open file's number."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"{name} must be a string or path, got {type(path).__name__}")
    return os.fsdecode(path)


@contextlib.contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """A new binary file that takes the place of `path` when the body succeeds and goes away when it fails."""
    temporary = f"{path}.{os.urandom(6).hex()}.tmp"
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
