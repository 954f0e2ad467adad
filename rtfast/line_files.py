"""Lines in and out of files and pipes: in chunks that nobody waits for, whole, and resumed where they ended."""

from __future__ import annotations

import codecs
import os
import select
import stat
import sys
from typing import IO, TYPE_CHECKING, Any

from rtfast.cli import UserError, blaming_the_user, note

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A line is read whole; this many bytes are far more than a model has positions for.
MAX_LINE = 2**20
#: Seconds without a further line after which those that are there are worth an answer.
PAUSE = 0.05
_BLOCK = 2**16


class LineReader:
    """The lines of a file, or of stdin. name: as messages have it; size: bytes of a regular file, else None; typed:
    whether they come from a terminal."""

    def __init__(self, path: str | None = None, program: str = "rtfast translate") -> None:
        """program: begins a note to who sits at a terminal."""
        self.name = "stdin" if path is None else path
        self.read_bytes, self.number = 0, 0
        self._held, self._ended, self._opened = bytearray(), False, None
        if path is None:
            if sys.stdin is None:
                raise UserError("no text, and no stdin to read it from")
            if sys.stdin.isatty():
                note(f"{program}: reading lines; Ctrl-D ends")
            self._file = getattr(sys.stdin, "buffer", sys.stdin)
        else:
            with blaming_the_user():
                self._file = self._opened = open(path, "rb", buffering=0)  # noqa: SIM115 (closed by __exit__)
        try:
            self._number_of_file = self._file.fileno()
            self.typed, status = os.isatty(self._number_of_file), os.fstat(self._number_of_file)
            self.size = status.st_size if stat.S_ISREG(status.st_mode) else None
        except (OSError, AttributeError, ValueError):  # an object in memory
            self._number_of_file, self.size, self.typed = None, None, False

    def __enter__(self) -> LineReader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened is not None:
            self._opened.close()

    def reads(self, path: str) -> bool:
        """Whether that file is the one that is read."""
        try:
            return self.size is not None and os.path.samestat(os.stat(path), os.fstat(self._number_of_file))
        except OSError:  # there is none yet
            return False

    def chunk(self, most: int) -> list[tuple[int, str]]:
        """The next lines, (number from 1, text) each: `most`, or as many as come without a pause; none at the end."""
        lines: list[tuple[int, str]] = []
        while len(lines) < most:
            line = self._line(wait=not lines)
            if line is None:
                break
            lines.append(line)
        return lines

    def skip(self, n: int) -> None:
        """Read over n lines; UserError if there are fewer."""
        for _ in range(n):
            if self._line(wait=True) is None:
                raise UserError(f"{self.name}: has {self.number} lines, but the output has {n} already")

    def _line(self, wait: bool) -> tuple[int, str] | None:
        """(number, text) of the next line, None at the end or, unless told to wait, where none comes soon."""
        searched = 0
        while (end := self._held.find(b"\n", searched)) < 0 and not self._ended:
            searched = len(self._held)
            if searched > MAX_LINE:
                raise UserError(f"{self.name}: line {self.number + 1} has more than {MAX_LINE} bytes")
            if not wait and not self._soon():
                return None
            self._fetch()
        if end < 0 and not self._held:
            return None
        line = bytes(self._held if end < 0 else self._held[:end])
        del self._held[:len(line) + 1]
        self.number += 1
        if self.number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            return self.number, line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.name}: line {self.number}: not UTF-8: {error.reason} at byte {error.start + 1}") from None

    def _soon(self) -> bool:
        if self._number_of_file is None:
            return True
        try:
            return bool(select.select([self._number_of_file], [], [], PAUSE)[0])
        except (OSError, ValueError):  # not on this system, or not this kind of file
            return True

    def _fetch(self) -> None:
        with blaming_the_user(self.name):
            if self._number_of_file is not None:
                block = os.read(self._number_of_file, _BLOCK)
            else:
                block = self._file.read(_BLOCK)
        block = block.encode("utf-8", "surrogateescape") if isinstance(block, str) else block
        self._ended = not block
        self.read_bytes += len(block)
        self._held += block


class LineWriter:
    """Whole lines to a file, or to stdout. done: lines that the file had already, of those to resume after; seen:
    whether they go to a terminal."""

    def __init__(self, path: str | None = None, *, resume: bool = False, force: bool = False,
                 together: int = 1) -> None:
        """together: lines that belong to one line of the input: what is resumed are whole such groups."""
        self.done, self._path, self._file = 0, path, None
        self._end: int | None = None  # of the whole lines there, until something is written after them
        if path is None:
            self.seen = _is_terminal(sys.stdout)
            return
        if os.path.exists(path) and not resume and not force:
            raise UserError(f"{path}: is there already; --resume goes on where it ends, --force overwrites it")
        if resume and os.path.exists(path) and not os.path.isfile(path):  # reading a device or a pipe may never end
            raise UserError(f"{path}: is no regular file, which --resume reads to its end")
        with blaming_the_user():
            there = resume and os.path.exists(path)
            self._file = open(path, "r+b" if there else "wb", buffering=0)  # noqa: SIM115 (closed by __exit__)
            self.seen = self._file.isatty()
            if there:
                self.done, self._end = _whole_lines(self._file, together)

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is not None:
            if kind is None:
                self._cut()
            self._file.close()
            if kind is KeyboardInterrupt:
                note(f"rtfast translate: interrupted; --output {self._path} --resume goes on where it ended")

    def _cut(self) -> None:
        """Leave out the half line or group that a resumed file ends with: not before, since a resume may be refused."""
        if self._end is not None and self._file is not None:
            self._file.truncate(self._end)
            self._file.seek(self._end)
            self._end = None

    def write(self, lines: Sequence[str]) -> None:
        """Write lines, each with its newline, and let them be seen."""
        if self._file is None:
            print("\n".join(lines), flush=True)
            return
        data = memoryview("".join(line + "\n" for line in lines).encode("utf-8", "backslashreplace"))
        with blaming_the_user(self._path or ""):
            self._cut()
            while data:
                data = data[self._file.write(data):]


def _is_terminal(file: Any) -> bool:
    """Whether a file is one; None and objects that only write are none."""
    try:
        return bool(file.isatty())
    except (AttributeError, ValueError):
        return False


def _whole_lines(file: IO[bytes], together: int) -> tuple[int, int]:
    """How many whole groups of `together` lines a file has, and where the last of them ends, in bytes."""
    lines, end, position, last = 0, 0, 0, 0
    while block := file.read(_BLOCK):
        start = 0
        while (found := block.find(b"\n", start)) >= 0:
            lines, start = lines + 1, found + 1
            if lines % together == 0:
                last, end = lines // together, position + start
        position += len(block)
    return last, end
