"""What is wrong in the environment, in one line where the `rtfast` command starts: the package is imported first."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The script's names, on Windows too.
_SCRIPTS = ("rtfast", "rtfast.exe", "rtfast-script.py")


@contextlib.contextmanager
def refusing_in_one_line() -> Iterator[None]:
    """End the command, with status 2, where a variable RTFAST_... is refused; a program gets the exception."""
    try:
        yield
    except (ImportError, RuntimeError, ValueError) as error:
        if not (str(error).startswith("RTFAST_") and _is_command()):
            raise
        if sys.stderr is not None:
            with contextlib.suppress(OSError):
                print(f"rtfast: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None


def _is_command() -> bool:
    """Whether this process is `rtfast ...` or `python -m rtfast ...`, whose argv[0] is -m until it runs."""
    argv = getattr(sys, "argv", None) or [""]
    if argv[0] == "-m":
        return sys.orig_argv[-len(argv)] in ("rtfast", "-mrtfast")
    return os.path.basename(argv[0]) in _SCRIPTS
