"""Which line of the user's a warning blames."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import types


def users_level() -> int:
    """The `stacklevel` of the caller's warnings that blames the first line outside of rtfast: each of these warns.

    The frames of an import are none to `warnings`.
    """
    frame: types.FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in ("rtfast", "importlib"):
            break
        level += module.partition(".")[0] == "rtfast"
        frame = frame.f_back
    return level
