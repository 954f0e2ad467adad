"""How far a long translation is, on stderr: a bar by `rich` where it is installed, else a line now and then."""

from __future__ import annotations

import sys
import time
from typing import Any

from rtfast.cli import note

#: Seconds between two lines where there is no bar.
INTERVAL = 5.0


def progress(wanted: bool | None, size: int | None, shared: bool = False) -> Nothing:
    """What shows the progress: a context manager with `advance`.

    wanted: None for a bar on a terminal only. size: bytes of the input, None where it is not known. shared: lines are
    typed at a terminal, or printed on one: a bar would move about among them, so there is none.
    """
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if wanted is False or (wanted is None and (shared or not terminal)):
        return Nothing()
    if shared:
        return Lines()
    try:
        import rich.progress
    except ImportError:
        return Lines()
    return Bar(rich.progress, size)


class Nothing:
    """Shows nothing."""

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, lines: int, tokens: int, read_bytes: int) -> None:
        """So many more lines and tokens are done; read_bytes of the input so far."""


class Lines(Nothing):
    """A line every few seconds, and one at the end."""

    def __enter__(self) -> Lines:
        self._start = self._shown = time.perf_counter()
        self._lines = self._tokens = 0
        return self

    def __exit__(self, *_: object) -> None:
        self._show()

    def advance(self, lines: int, tokens: int, read_bytes: int) -> None:
        self._lines += lines
        self._tokens += tokens
        if time.perf_counter() - self._shown > INTERVAL:
            self._show()

    def _show(self) -> None:
        self._shown = time.perf_counter()
        seconds = max(self._shown - self._start, 1e-9)
        note(f"rtfast translate: {self._lines:,} lines, {self._lines / seconds:,.1f} lines/s, "
             f"{self._tokens / seconds:,.0f} tokens/s")


class Bar(Nothing):
    """A bar over the bytes of the input, with lines and tokens a second and the time left."""

    def __init__(self, module: Any, size: int | None) -> None:
        columns = [module.TextColumn("{task.fields[lines]:,} lines"), module.BarColumn(), module.TaskProgressColumn(),
                   module.TextColumn("{task.fields[speed]}"), module.TimeRemainingColumn()]
        import rich.console
        # Redirected, stdout would go to stderr and be folded: what is printed there is the translation.
        self._bar = module.Progress(*columns, console=rich.console.Console(stderr=True), redirect_stdout=False,
                                    redirect_stderr=False)
        self._size, self._lines, self._tokens = size, 0, 0

    def __enter__(self) -> Bar:
        self._start = time.perf_counter()
        self._task = self._bar.add_task("", total=self._size, lines=0, speed="")
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, lines: int, tokens: int, read_bytes: int) -> None:
        self._lines += lines
        self._tokens += tokens
        seconds = max(time.perf_counter() - self._start, 1e-9)
        self._bar.update(self._task, completed=read_bytes, lines=self._lines, speed=(
            f"{self._lines / seconds:,.1f} lines/s, {self._tokens / seconds:,.0f} tokens/s"))
