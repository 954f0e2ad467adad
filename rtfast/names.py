"""Names of intermediates and patterns for several of them, as in file names: *, ? and [...], each matching dots too."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rtfast.typing import Patterns


def is_pattern(name: str) -> bool:
    """Whether it may match several names."""
    return any(mark in name for mark in "*?[")


def matching(patterns: Patterns, names: Iterable[str]) -> list[str]:
    """The names, in their order, that one of the patterns matches; patterns: a string or several."""
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def selected(names: Iterable[str], include: Patterns | None = None, exclude: Patterns | None = None) -> list[str]:
    """The names that include leaves (None: all) and exclude does not take out, in their order.

    include, exclude: None, a name or pattern, or several. Raises TypeError for what holds no strings, ValueError for
    one that no name matches: it was meant to choose something.
    """
    names = list(names)
    chosen = {}
    for argument, given in (("include", include), ("exclude", exclude)):
        if given is None:
            continue
        patterns = [given] if isinstance(given, str) else given
        if not hasattr(patterns, "__iter__") or not all(isinstance(pattern, str) for pattern in patterns):
            raise TypeError(f"{argument} must be None, a name or pattern, or a list of those, got {given!r}")
        patterns = list(patterns)
        idle = [pattern for pattern in patterns if not matching(pattern, names)]
        if idle:
            raise ValueError(f"{argument}: no intermediate matches {idle[0]!r}; the first are {', '.join(names[:3])}")
        chosen[argument] = set(matching(patterns, names))
    return [name for name in names
            if ("include" not in chosen or name in chosen["include"]) and name not in chosen.get("exclude", ())]
