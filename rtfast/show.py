"""Matrices on a terminal: named, shaped, aligned, with a label on every row. 80 columns unless told otherwise."""

from __future__ import annotations

import math
import os
import re
import sys
import textwrap
import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    from rtfast.shading import Ink
    from rtfast.typing import Array, ArrayLike, MaybeNone

    #: A function from the places of columns to their labels, or ().
    Columns: TypeAlias = Callable[[Sequence[int]], Sequence[str]] | tuple[()]

WIDTH = 80
INDENT = "    "
ROOM = WIDTH - len(INDENT)
GAP = "   "

_STYLE = re.compile(r"\x1b\[[\d;]*m")


def size(text: str) -> int:
    """Columns that text takes on a terminal: colours none, Chinese characters two, combining marks none."""
    if text.isascii() and "\x1b" not in text:
        return len(text)
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else not unicodedata.combining(letter)
               for letter in _STYLE.sub("", text))


def left(text: str, width: int) -> str:
    """Text filled up with spaces behind it to `width` columns."""
    return text + " " * (width - size(text))


def right(text: str, width: int) -> str:
    """Text filled up with spaces before it to `width` columns."""
    return " " * (width - size(text)) + text


def number(value: float, decimals: int, precision: int) -> str:
    """One number as text: `decimals` places, or scientific where these would hide it or run away."""
    if not math.isfinite(value):
        return "NaN" if value != value else "inf" if value > 0 else "-inf"
    if value and (abs(value) < 0.5 * 10.0 ** -precision or abs(value) >= 1e7):
        return f"{value:.2e}"
    text = f"{value:.{decimals}f}"
    return text.replace("-", "") if float(text) == 0 else text


def decimals_needed(values: Iterable[float], precision: int) -> int:
    """The fewest decimals, `precision` at most, that lose no digit of what `precision` would show."""
    needed = 0
    for value in values:
        if math.isfinite(value) and abs(value) < 1e7:
            fraction = f"{value:.{precision}f}".partition(".")[2].rstrip("0")
            needed = max(needed, len(fraction))
    return needed


def matrix(name: str, array: ArrayLike, rows: Sequence[str] = (), columns: Sequence[str] = (), precision: int = 4,
           hidden: Any = None) -> list[str]:
    """The lines of a matrix: its name and shape, then its rows, column by column to the right.

    array: (m, n) or (n,). rows, columns: labels. hidden: booleans, True where only a dash is to be seen.
    What is wider than a page is cut into several groups of columns.
    """
    array = np.asarray(array)
    shape = ", ".join(map(str, array.shape)) + ("," if array.ndim == 1 else "")
    return [f"{name} ({shape})", *table_lines(cells_of(np.atleast_2d(array), precision, hidden), rows, columns)]


def cells_of(table: Array, precision: int = 4, hidden: Any = None) -> list[list[str]]:
    """The numbers of a table (m, n) as text, all with the same decimals; a dash where `hidden` is True."""
    values = [[float(value) for value in row] for row in table]
    decimals = decimals_needed([value for row in values for value in row], precision)
    cells = [[number(value, decimals, precision) for value in row] for row in values]
    if hidden is None:
        return cells
    return [["-" if dash else cell for cell, dash in zip(row, dashes, strict=True)]
            for row, dashes in zip(cells, hidden, strict=True)]


def shortened(table: Array, most: int, rows: Sequence[str] = (), columns: Columns = (), precision: int = 4,
              width: int = ROOM, ellipsis: str = "...") -> list[str]:
    """The lines of a table (m, n) of which only the first and last columns are shown where it is wide.

    most: columns to show at most; fewer where these do not fit `width`, but two. columns: a function from the
    places of the columns that are shown to their labels, or ().
    """
    for shown in range(min(most, table.shape[1]), 1, -1):
        lines = _shortened(table, shown, rows, columns, precision, ellipsis)
        if max(map(size, lines)) <= width:
            break
    else:
        lines = _shortened(table, 2, rows, columns, precision, ellipsis)
    return lines


def _shortened(table: Array, shown: int, rows: Sequence[str], columns: Columns, precision: int,
               ellipsis: str) -> list[str]:
    wide = table.shape[1]
    last = max(1, shown // 4) if shown < wide else 0
    places = [*range(min(shown, wide) - last), *range(wide - last, wide)]
    cells = cells_of(table[:, places], precision)
    labels = list(columns(places)) if columns else ()
    if last:
        cells = [[*row[:-last], ellipsis, *row[-last:]] for row in cells]
        labels = [*labels[:-last], ellipsis, *labels[-last:]] if labels else ()
    return table_lines(cells, rows, labels, width=sys.maxsize)


def table_lines(cells: Sequence[Sequence[str]], rows: Sequence[str] = (), columns: Sequence[str] = (),
                width: int = ROOM) -> list[str]:
    """Cells of text as lines, right-aligned under `columns`, behind `rows`; in groups that fit `width`."""
    if columns:
        cells, rows = [list(columns), *cells], ["", *rows] if rows else ()
    label = max(map(size, rows), default=0)
    start = label + 2 if label else 0
    widths = [max(size(row[j]) for row in cells) for j in range(len(cells[0]))]
    lines = []
    for first, last in groups(widths, width - start):
        for i, row in enumerate(cells):
            head = left(rows[i], label) + "  " if label else ""
            line = "  ".join(right(row[j], widths[j]) for j in range(first, last))
            lines.append((head + line).rstrip())
    return lines


def groups(widths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """(first, last) columns of each group that fits `room`; one column at least."""
    found, first, used = [], 0, 0
    for j, width in enumerate(widths):
        if j > first and used + width > room:
            found.append((first, j))
            first, used = j, 0
        used += width + 2
    return [*found, (first, len(widths))]


def beside(blocks: Sequence[list[str]], width: int = ROOM) -> list[str]:
    """Blocks of lines next to each other, as many as fit, the rest below."""
    lines: list[str] = []
    shelf: list[list[str]] = []
    used = 0
    for block in blocks:
        wide = max(map(size, block))
        if shelf and used + wide > width:
            lines += [*_side_by_side(shelf), ""]
            shelf, used = [], 0
        shelf.append(block)
        used += wide + len(GAP)
    return lines + _side_by_side(shelf)


def _side_by_side(blocks: Sequence[list[str]]) -> list[str]:
    widths = [max(map(size, block)) for block in blocks]
    height = max(map(len, blocks))
    padded = [block + [""] * (height - len(block)) for block in blocks]
    return [GAP.join(left(line, width) for line, width in zip(parts, widths, strict=True)).rstrip()
            for parts in zip(*padded, strict=True)]


def bar(share: float, width: int = 30) -> str:
    """A bar of `share` (0 to 1) of the width; a sliver for the little that is not nothing."""
    if not 0 <= share <= 1:  # NaN too
        return ""
    return "#" * round(share * width) or ("." if share else "")


def bold(text: str) -> str:
    """`text` in bold, on a terminal whose user has not asked for plain text."""
    if not styled():
        return text
    return f"\x1b[1m{text}\x1b[0m"


def styled() -> bool:
    """Whether stdout is a terminal that shows colours, and its user has not asked for plain text."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb" or os.name == "nt":
        return False
    return sys.stdout is not None and sys.stdout.isatty()


class Page:
    """Where an explanation is printed: titles, sentences, formulas, matrices.

    width: columns to fill. ink: what writes bold and in colours (shading.Ink), None for bold titles on terminals.
    """

    def __init__(self, precision: int = 4, width: int = WIDTH, ink: Ink | MaybeNone = None) -> None:
        self.precision, self.ink, self.room = precision, ink, width - len(INDENT)

    def heading(self, text: str) -> None:
        """What the page is about, wrapped."""
        print("\n".join(textwrap.wrap(text, self.room + len(INDENT), break_on_hyphens=False)))

    def title(self, text: str) -> None:
        """A step's heading."""
        print()
        for line in textwrap.wrap(text, self.room + len(INDENT), subsequent_indent=INDENT, break_on_hyphens=False):
            print(bold(line) if self.ink is None else self.ink.bold(line))

    def say(self, *sentences: str) -> None:
        """Sentences as a paragraph."""
        for line in textwrap.wrap(" ".join(sentences), self.room, break_on_hyphens=False, break_long_words=False):
            print(INDENT + line.replace("\xa0", " "))  # where no line may end

    def formula(self, formula: str, call: str = "") -> None:
        """A formula, and the call that computes it: behind it, or below where there is no room."""
        start = max(36, len(formula) + 4)
        line = f"{formula:{start}}{call}".rstrip()
        lines = [line] if len(line) <= self.room else [formula, " " * 8 + call]
        print()
        self.lines(lines)
        print()

    def lines(self, lines: Iterable[str]) -> None:
        """Lines as they are."""
        for line in lines:
            print((INDENT + line).rstrip())

    def matrices(self, *blocks: Any) -> None:
        """Matrices, (name, array) or (name, array, rows) or (..., rows, columns), side by side."""
        self.lines(beside([self._matrix(*block) for block in blocks], self.room))

    def _matrix(self, name: str, array: ArrayLike, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> list[str]:
        return matrix(name, array, rows, columns, self.precision)
