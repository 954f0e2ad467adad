"""How the benchmarks find what the machine could do at best: benchmarks/timing.py."""

import importlib.util
import itertools
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture
def timing():
    path = Path(__file__).parent.parent / "benchmarks" / "timing.py"
    spec = importlib.util.spec_from_file_location("timing", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_rate_is_what_threads_do_together(timing, monkeypatch, threads):
    """Each runs a part of its own while the others run theirs; here a part takes 4 seconds of its thread's clock."""
    clock, together, parts = threading.local(), threading.Barrier(threads), []

    def seconds():
        clock.now = getattr(clock, "now", 0) + 4
        return clock.now

    def loop(i, n):
        together.wait(timeout=30)
        parts.append((i, n))
        return 8 * (i + 1)

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=seconds))
    assert timing.rate(loop, threads) == sum(2 * (i + 1) for i in range(threads))
    assert sorted(parts) == [(i, threads) for i in range(threads)]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_share_is_of_what_as_many_threads_do(timing, monkeypatch, threads):
    """Ours takes 2 s for 30 operations, the peer 5 s; each thread by itself could do 20 a second."""
    monkeypatch.setattr(timing, "settle", lambda: None)
    monkeypatch.setattr(timing, "repeats_for", lambda function: 1)
    monkeypatch.setattr(timing, "seconds", lambda function, repeats: function())
    monkeypatch.setattr(timing, "rate", lambda loop, n: n * loop(0, n))
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=itertools.count().__next__))
    row = timing.compare(
        lambda: 2.0, {"peer": lambda: 5.0}, budget=0, threads=threads, rooflines={"peak": lambda i, n: 20},
        work={"peak": 30})
    assert (row["ratio"], row["rounds"], row["peak_limit"]) == (2.5, 5, 20 * threads)
    assert row["of_peak"] == pytest.approx(30 / 2 / (20 * threads))
