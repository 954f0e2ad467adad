"""Attention weights as shaded blocks, bars, words that a terminal can show: in colours, blocks or plain characters."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from rtfast import show
from rtfast.words import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtfast.typing import Array

#: From nothing to everything, without colours: where the encoding has blocks, and where it has not.
BLOCKS, CHARACTERS = " ░▒▓█", " .:-=+*#%@"
#: The same in colours of 256-colour terminals, near matplotlib's viridis: each lighter than the one before.
COLOURS = (53, 54, 24, 30, 36, 71, 77, 148, 190, 226)
#: Less than this is nothing.
NOTHING = 0.005
#: Columns of a cell at most: longer words above it are cut.
WIDEST_CELL = 9
#: Columns of what goes into a pipe or a file.
PIPE = 120


class Ink:
    """How a terminal is written on. colour: whether it shows colours; encoding: what it can show."""

    def __init__(self, colour: bool = False, encoding: str | None = "utf-8") -> None:
        self.colour, self._encoding = colour, encoding or "ascii"
        blocks = self._has(BLOCKS + "…·→")
        self.ramp = BLOCKS if blocks else CHARACTERS
        self.ellipsis, self.dot, self.arrow = ("…", "·", "→") if blocks else ("...", "-", "->")

    @classmethod
    def of_stdout(cls, colour: bool = True) -> Ink:
        """The ink of stdout. colour: False for none, else where it is a terminal that shows colours."""
        return cls(colour and show.styled(), getattr(sys.stdout, "encoding", None))

    def _has(self, text: str) -> bool:
        try:
            text.encode(self._encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    def word(self, text: str) -> str:
        """A word as one that can be seen: what the encoding lacks, spaces alone and control characters are escaped."""
        if not text.strip():
            return repr(text)
        text = visible(text)
        return text if self._has(text) else text.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def bold(self, text: str) -> str:
        """`text` in bold, where there are colours."""
        return self._styled("1", text)

    def faint(self, text: str) -> str:
        """`text` faintly, where there are colours."""
        return self._styled("2", text)

    def _styled(self, style: str, text: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.colour and text else text

    def cell(self, share: float, width: int, hidden: bool = False) -> str:
        """`width` columns shaded by `share` (0 to 1); a dot where it is hidden, ? for a NaN."""
        if hidden or share != share:
            return f"{self.dot if hidden else '?':^{width}}"
        steps = len(COLOURS if self.colour else self.ramp) - 1
        level = 0 if share < NOTHING else min(steps, max(1, round(share * steps)))
        return self._styled(f"48;5;{COLOURS[level]}", " " * width) if self.colour else self.ramp[level] * width

    def bar(self, share: float, width: int) -> str:
        """A bar of `share` of the width, a sliver for the little that is not nothing."""
        line = show.bar(share, width)
        return self._styled("38;5;36", line.replace("#", "█").replace(".", "▏") if self.ramp is BLOCKS else line)

    def legend(self, width: int = show.ROOM) -> list[str]:
        """What the shades stand for: one line, or two where it is wider than `width`."""
        swatches = [self.cell(share, 2) + f" {share:g}" for share in (0, 0.25, 0.5, 0.75, 1)]
        lines = ["shades: " + show.GAP.join(swatches)]
        if show.size(lines[0]) > width:
            lines = ["shades: " + show.GAP.join(swatches[:2]), " " * 8 + show.GAP.join(swatches[2:])]
        return lines


def attention(weights: Array, rows: Sequence[str], columns: Sequence[str], ink: Ink, precision: int = 3,
              hidden: Any = None, width: int = show.ROOM) -> list[str]:
    """The lines of attention weights (T, S): shaded, and the numbers beside the block or, without room, below.

    rows, columns: words. hidden: booleans, True where a query may not attend.
    """
    hidden = [[False] * len(columns) for _ in rows] if hidden is None else hidden
    numbers = [["-" if dash else _share(float(share), precision) for share, dash in zip(row, dashes, strict=True)]
               for row, dashes in zip(weights, hidden, strict=True)]
    block = shaded(weights, rows, columns, ink, hidden, width)
    table = show.table_lines(numbers, (), columns, width=sys.maxsize)
    if len(block) == len(table) and max(map(show.size, block)) + len(show.GAP) + max(map(show.size, table)) <= width:
        return show.beside([block, table], width)
    return [*block, "", *show.table_lines(numbers, rows, columns, width)]


def shaded(weights: Array, rows: Sequence[str], columns: Sequence[str], ink: Ink, hidden: Any,
           width: int = show.ROOM) -> list[str]:
    """The lines of weights (T, S) as a block of shaded cells under the columns' words."""
    label = max(map(show.size, rows)) + 2
    cell = min(WIDEST_CELL, max(3, *map(show.size, columns)) + 1)
    while cell > 2 and label + cell * len(columns) > width:
        cell -= 1
    lines = []
    for first, last in _groups(len(columns), cell, width - label):
        head = "".join(show.left(_cut(columns[j], cell - 1), cell) for j in range(first, last))
        lines.append((" " * label + head).rstrip())
        for word, row, unseen in zip(rows, weights, hidden, strict=True):
            cells = [ink.cell(float(row[j]), cell, bool(unseen[j])) for j in range(first, last)]
            lines.append(show.left(word, label) + "".join(cells))
    return lines


def _share(value: float, precision: int) -> str:
    """A weight with as many decimals as all others: next to nothing is 0.000 here."""
    return f"{value:.{precision}f}" if value == value else "NaN"


def _groups(count: int, cell: int, room: int) -> list[tuple[int, int]]:
    most = max(1, room // cell)
    return [(first, min(count, first + most)) for first in range(0, count, most)]


def _cut(word: str, width: int) -> str:
    """As much of the word's beginning as fits `width` columns."""
    while show.size(word) > width:
        word = word[:-1]
    return word


def room(asked: int | None = None) -> int:
    """Columns to write in: as asked; a terminal's, 80 at least; else `PIPE`, or $COLUMNS."""
    if asked is not None:
        return asked
    if sys.stdout is not None and sys.stdout.isatty():
        import shutil

        return max(show.WIDTH, shutil.get_terminal_size((show.WIDTH, 24)).columns)
    columns = os.environ.get("COLUMNS", "")[:4]
    return max(show.WIDTH, int(columns)) if columns.isascii() and columns.isdigit() else PIPE
