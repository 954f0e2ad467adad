"""What this machine could do at best: multiply-adds in registers, and reads of as much memory as a call works on."""

from __future__ import annotations

import functools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from rtfast import backends

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rtfast.typing import Array

#: Bytes that no cache holds, and what shorter measurements read at the least: else the call counts, not the reading.
MEMORY, LEAST = 256 << 20, 256 << 10
_ROUNDS = 7
_SAMPLE = 2e-3  # seconds: long beside the clock and the start of a task


class Roofline:
    """The best rates on `threads` threads: `flops` and `bytes` (of memory) a second. For a `with`."""

    def __init__(self, threads: int) -> None:
        self._module: Any = backends.active()  # a compiled one: these alone have the loops
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self.flops = self._rate([lambda: self._module.multiply_add_loop(30_000, True)] * threads)
        self.bytes = self.read_rate(MEMORY)

    def __enter__(self) -> Roofline:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def read_rate(self, n: int) -> float:
        """Bytes a second from an array of n bytes, of which each thread reads its part again and again."""
        parts = [_aligned(max(n, LEAST) // self._threads) for _ in range(self._threads)]
        return self._rate([functools.partial(self._module.read_loop, part) for part in parts])

    def seconds(self, flops: float | None, n_bytes: int) -> float:
        """What so many operations on so many bytes take at least: the longer of the two."""
        rate = self.bytes if n_bytes >= MEMORY else self.read_rate(n_bytes)
        return max((flops or 0) / self.flops, n_bytes / rate)

    def _rate(self, loops: Sequence[Callable[[], float]]) -> float:
        """The best of some rounds of every loop at once: what a loop returns, a second."""
        self._round(loops, 1)  # brings the memory as near as it stays
        seconds, _ = self._round(loops, 1)
        repeats = max(1, round(_SAMPLE / max(seconds, 1e-7)))
        best = 0.0
        for _ in range(_ROUNDS):
            seconds, amount = self._round(loops, repeats)
            best = max(best, amount / seconds)
        return best

    def _round(self, loops: Sequence[Callable[[], float]], repeats: int) -> tuple[float, float]:
        """(seconds, amount) of each loop `repeats` times, in threads of their own."""
        def run(loop: Callable[[], float]) -> float:
            return sum(loop() for _ in range(repeats))

        start = time.perf_counter()
        amount = sum((self._pool.map if self._pool else map)(run, loops))
        return time.perf_counter() - start, amount


def measured(threads: int) -> Roofline | None:
    """A `Roofline`, or None: the reference backend has no loops that could find it."""
    return Roofline(threads) if hasattr(backends.active(), "multiply_add_loop") else None


def _aligned(n: int) -> Array:
    """n bytes of ones, at a cache line's beginning."""
    room = np.ones(n // 4 + 16, np.float32)
    start = -room.ctypes.data % 64 // 4
    return room[start:start + n // 4]
