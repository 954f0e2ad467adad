"""Files and folders as users name them, and writing one so that nobody finds half of it."""

from __future__ import annotations

import contextlib
import os
import stat
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
    """A new binary file that takes the place of `path` when the body succeeds and goes away when it fails.

    Who may read a file that is there may read the new one, and no others. An OSError names `path`.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f"{name[:40]}.{os.urandom(6).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            with contextlib.suppress(OSError):
                os.chmod(temporary, stat.S_IMODE(os.stat(path).st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, temporary):
            raise OSError(error.errno, error.strerror, path) from error
        raise


def write_file(path: str, data: bytes) -> None:
    """Write a file, that which a link leads to, whole or not at all; a pipe or a device as it comes. Raises OSError."""
    if os.path.exists(path) and not os.path.isfile(path):  # a folder too: opening it says what is wrong
        with open(path, "wb") as file:
            file.write(data)
        return
    with replacing(os.path.realpath(path)) as file:
        file.write(data)
