"""The benchmarks' options, fixtures and closing report.

    pytest benchmarks --budget 0.3 --save results.json --compare earlier.json

--budget is in seconds for each row; --save writes the rows, --compare sets them beside rows saved earlier.
`python benchmarks/plots.py results.json` draws the saved rows.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
import peers  # noqa: E402  before NumPy
import pytest  # noqa: E402
import report  # noqa: E402
import timing  # noqa: E402

import rtfast  # noqa: E402
from rtfast import backends  # noqa: E402

ROWS = []


EARLIER = pytest.StashKey()


def pytest_addoption(parser):
    group = parser.getgroup("rtfast")
    group.addoption("--budget", type=float, default=0.5, metavar="SECONDS", help="of each row of the table")
    group.addoption("--save", metavar="FILE", help="write the table as JSON")
    group.addoption("--compare", metavar="FILE", help="set the table beside one written by --save")


def pytest_configure(config):
    config.option.benchmark_quiet = True  # its table has no peers, ours has
    earlier = config.getoption("--compare")
    config.stash[EARLIER] = report.read(earlier) if earlier else None  # better to fail now than after an hour


@pytest.fixture(params=[1, 2], ids=["1-thread", "2-threads"])
def threads(request):
    if request.param > (os.cpu_count() or 1):
        pytest.skip(f"this machine has no {request.param} cores")
    peers.set_threads(request.param)
    yield request.param
    peers.set_threads(1)


@pytest.fixture
def measure(benchmark, pytestconfig):
    """measure(group, what, ours, peers, ...): time in alternation, add a row to the table, save in the JSON.

    The caller has verified the results first. flops, bytes: of one call of ours, to be set beside the roofline.
    What else is given goes into the row.
    """
    def run(group, what, ours, others, *, threads=1, flops=None, bytes=None, backend=None, rounds=5, **extra):
        work = {name: amount for name, amount in (("peak", flops), ("bandwidth", bytes)) if amount}
        loops = roofline(backend)
        beside = {name: loop for name, loop in loops.items() if name in work}
        row = timing.compare(ours, others, pytestconfig.getoption("--budget"), threads, beside, work, rounds,
                             loops.get("peak"))
        row = {"group": group, "what": what, "threads": threads, **extra, **row, "flops": flops, "bytes": bytes}
        ROWS.append(row)
        benchmark.group = f"{group}, {threads} threads"
        benchmark.extra_info.update(row, backend=rtfast.backend())
        benchmark.pedantic(ours, rounds=rounds, iterations=max(1, int(1e-3 / row["seconds"])))
        return row
    return run


@pytest.fixture
def record(benchmark):
    """record(group, what, seconds=..., ...): add a row that was measured in a way of its own."""
    def add(group, what, *, threads=1, **columns):
        ROWS.append({"group": group, "what": what, "threads": threads, **columns})
        benchmark.group = group
        benchmark.extra_info.update(ROWS[-1])
        benchmark.pedantic(lambda: None, rounds=1)
    return add


_memory = []


def roofline(backend=None):
    """Loops whose i-th of n parts a thread runs: "peak" multiplies and adds, "bandwidth" reads 256 MB from DRAM."""
    module = backends.load(backend) if backend else backends.active()
    if not hasattr(module, "multiply_add_loop"):
        return {}
    if not _memory:
        _memory.append(peers.aligned((64 << 20,)))
        _memory[0].fill(1)
    size = _memory[0].size
    return {"peak": lambda i, n: module.multiply_add_loop(800_000, True),
            "bandwidth": lambda i, n: module.read_loop(_memory[0][i * size // n:(i + 1) * size // n])}


def pytest_terminal_summary(terminalreporter, config):
    if not ROWS:
        return
    found = {"machine": report.machine(roofline()), "rows": ROWS}
    terminalreporter.write_line("")
    for line in report.lines(found, config.stash[EARLIER]):
        terminalreporter.write_line(line)
    if config.getoption("--save"):
        report.write(found, config.getoption("--save"))
