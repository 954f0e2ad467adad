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
    # Whole names, of which there may be as many as a trace has, are not tried one after the other.
    whole, several = {one for one in patterns if not is_pattern(one)}, [one for one in patterns if is_pattern(one)]
    return [name for name in names
            if name in whole or any(fnmatch.fnmatchcase(name, pattern) for pattern in several)]


def selected(names: Iterable[str], include: Patterns | None = None, exclude: Patterns | None = None) -> list[str]:
    """The names that include leaves (None: all) and exclude does not take out, in their order.

    include, exclude: None, a name or pattern, or several. Raises TypeError for what holds no strings, ValueError for
    one that no name matches: it was meant to choose something.

    >>> selected(["encoder.layers.0.norm", "decoder.layers.0.norm", "logits"], include="*.norm", exclude="encoder.*")
    ['decoder.layers.0.norm']
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
        known = set(names)
        idle = [one for one in patterns if one not in known and not (is_pattern(one) and matching(one, names))]
        if idle:
            raise ValueError(f"{argument}: no intermediate matches {idle[0]!r}; the first are {', '.join(names[:3])}")
        chosen[argument] = set(matching(patterns, names))
    return [name for name in names
            if ("include" not in chosen or name in chosen["include"]) and name not in chosen.get("exclude", ())]
