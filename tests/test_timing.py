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


@pytest.fixture
def given_times(timing, monkeypatch):
    """Functions say by themselves how long they took, loops how fast one thread of theirs was."""
    monkeypatch.setattr(timing, "settle", lambda threads, multiply: None)
    monkeypatch.setattr(timing, "once", lambda function: 0.1)
    monkeypatch.setattr(timing, "seconds", lambda function, repeats: function())
    monkeypatch.setattr(timing, "rate", lambda loop, n: n * loop(0, n))
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=itertools.count().__next__))
    return timing


@pytest.mark.parametrize("threads", [1, 2])
def test_a_share_is_of_what_as_many_threads_do(given_times, threads):
    """Ours takes 2 s for 30 operations, the peer 5 s; each thread by itself could do 20 a second."""
    row = given_times.compare(
        lambda: 2.0, {"peer": lambda: 5.0}, budget=0, threads=threads, rooflines={"peak": lambda i, n: 20},
        work={"peak": 30})
    assert (row["ratio"], row["rounds"], row["peak_limit"]) == (2.5, 5, 20 * threads)
    assert row["of_peak"] == pytest.approx(30 / 2 / (20 * threads))


def test_threads_that_shared_a_core_do_not_count(given_times):
    """In some rounds somebody's two threads had one core between them: in the call before a sample as in the sample."""
    def by_turns(*values):
        return itertools.cycle([value for value in values for _ in range(2)]).__next__

    rates = iter([10, 20, 10, 10, 20])
    row = given_times.compare(
        by_turns(2.0, 4.0, 2.0, 4.0, 4.0), {"peer": by_turns(10.0, 10.0, 10.0, 5.0, 5.0)}, budget=0, threads=2,
        rooflines={"peak": lambda i, n: next(rates)}, work={"peak": 60})
    assert (row["seconds"], row["peer_seconds"], row["ratio"], row["peak_limit"]) == (2, 5, 2.5, 40)
    assert row["of_peak"] == pytest.approx(60 / 2 / 40)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("duration", [0.1, 1.0])
def test_each_runs_once_before_it_is_timed(given_times, monkeypatch, threads, duration):
    """Whose turn was before left nothing of its operands in the caches; a long call soon has them there."""
    monkeypatch.setattr(given_times, "once", lambda function: duration)
    turns, times = [], 2 if duration < 0.2 else 1

    def function(name):
        return lambda: turns.append(name) or 1.0

    given_times.alternate({"ours": function("ours"), "peer": function("peer")}, 0, 2, threads,
                          {"memory": lambda i, n: turns.append("memory") or 1.0})
    assert turns == 2 * [*times * ["ours"], *times * ["peer"], "memory"]


def test_several_threads_wait_for_several_cores(timing, monkeypatch):
    """Two threads do no more than one, three times; then 1.9 times as much."""
    together, naps = iter([1.0, 1.0, 1.5, 1.9]), []
    monkeypatch.setattr(timing, "time", SimpleNamespace(process_time=lambda: 0, sleep=naps.append))
    monkeypatch.setattr(timing, "rate", lambda loop, threads=1: loop() * (next(together) if threads == 2 else 1))
    timing.settle(2, lambda: 100)
    assert next(together, None) is None
    assert len(naps) == 1 + 3  # one to find the process idle
