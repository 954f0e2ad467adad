"""The benchmarks' fixtures and their closing table: `pytest benchmarks`, JSON with --benchmark-json=FILE."""

import os
import platform
import sys

sys.path.insert(0, os.path.dirname(__file__))
import peers  # noqa: E402  before NumPy
import pytest  # noqa: E402
import timing  # noqa: E402

import rtfast  # noqa: E402
from rtfast import backends  # noqa: E402

ROWS = []


@pytest.fixture(params=[1, 2], ids=["1-thread", "2-threads"])
def threads(request):
    if request.param > (os.cpu_count() or 1):
        pytest.skip(f"this machine has no {request.param} cores")
    peers.set_threads(request.param)
    yield request.param
    peers.set_threads(1)


@pytest.fixture
def measure(benchmark):
    """measure(group, what, ours, peers, ...): time in alternation, add a row to the table, save in the JSON.

    The caller has verified the results first. target: the ratio to reach.
    """
    def run(group, what, ours, others, *, threads=1, target=None, budget=1.0, **extra):
        row = timing.compare(ours, others, budget, threads)
        row |= {"group": group, "what": what, "threads": threads, "target": target, **extra}
        ROWS.append(row)
        benchmark.group = group
        benchmark.extra_info.update(row, backend=rtfast.backend())
        benchmark.pedantic(ours, rounds=3, warmup_rounds=0)
        return row
    return run


@pytest.fixture(scope="session")
def peak():
    """backend name -> multiply-add operations a second that one core does at best, in 10^9 (float32)."""
    found = {}
    for name in backends.available():
        module = backends.load(name)
        if hasattr(module, "multiply_add_loop"):
            best = min(timing.seconds(lambda: module.multiply_add_loop(500_000, True)) for _ in range(15))  # noqa: B023
            found[name] = module.multiply_add_loop(1, True) * 500_000 / best / 1e9
    return found


@pytest.fixture(scope="session")
def bandwidth():
    """size in MB -> read bandwidth of one core in GB/s: from L2, from L3 or DRAM."""
    import numpy as np
    module, found = backends.active(), {}
    if hasattr(module, "read_loop"):
        for megabytes in (1, 16, 256):
            array = np.ones(megabytes << 18, np.float32)
            best = min(timing.seconds(lambda: module.read_loop(array)) for _ in range(7))  # noqa: B023
            found[megabytes] = array.nbytes / best / 1e9
    return found


def pytest_terminal_summary(terminalreporter, config):
    if not ROWS:
        return
    write = terminalreporter.write_line
    write("")
    write(f"{_cpu()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, "
          f"rtfast {rtfast.__version__} on {rtfast.backend()}")
    write(peers.versions())
    write("ratio: the best peer's time over ours (medians; lower quartiles on several threads), and its quartiles")
    group = None
    for row in sorted(ROWS, key=lambda row: (row["group"], row["threads"])):
        if row["group"] != group:
            group = row["group"]
            write(f"\n{group}")
        spread = f"{row['ratio']:7.2f}x ({row['ratio_low']:.2f} - {row['ratio_high']:.2f})"
        aim = "" if row["target"] is None else f"  must reach {row['target']:g}x"
        peak = f"  {row['of_peak']:.2f} of FMA peak" if "of_peak" in row else ""
        write(f"  {row['what']:44s} {row['threads']} thr {row['seconds'] * 1e6:11.1f} us  {row['peer']:>13s} "
              f"{row['peer_seconds'] * 1e6:11.1f} us {spread}{peak}{aim}")


def _cpu():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
