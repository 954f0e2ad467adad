"""`rtfast bench`: the roofline, each row's share of it, and the comparison with an earlier run."""

import copy

import numpy as np
import pytest

from rtfast import backends, bench, bench_compare, cli, roofline

COMPILED = [name for name in backends.available() if name != "python"]


# The roofline

@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("name", COMPILED)
def test_rates(name, n_threads, monkeypatch):
    monkeypatch.setattr(roofline, "MEMORY", 8 << 20)
    with backends.using(name), roofline.measured(n_threads) as roof:
        assert 1e8 < roof.flops < 1e14 and 1e7 < roof.bytes < 1e14
        assert 1e7 < roof.read_rate(0) < 1e14 and 1e7 < roof.read_rate(1001) < 1e14


@pytest.mark.parametrize("name", COMPILED)
def test_an_array_is_read_to_its_end_or_nearly(name):
    """In eight parts, each a multiple of four vectors."""
    module = backends.load(name)
    for size in (0, 1, 511, 512, 513, 12345, 1 << 16):
        array = np.ones(size, np.float32)
        assert 0 <= array.nbytes - module.read_loop(array) < 2048
    assert module.read_loop(np.ones(1 << 16, np.float32)) == 4 << 16


def test_the_reference_has_none():
    with backends.using("python"):
        assert roofline.measured(1) is None


class Counted:
    """A module whose loops take a second on a clock of our own, and say that they did 100 and 10 bytes' worth."""

    def __init__(self):
        self.now, self.read = 0.0, []

    def multiply_add_loop(self, iterations, is_float):
        self.now += 1
        return 100

    def read_loop(self, array):
        self.now += 1
        self.read.append(array)
        return 10


@pytest.fixture
def counted(monkeypatch):
    module = Counted()
    monkeypatch.setattr(roofline.backends, "active", lambda: module)
    monkeypatch.setattr(roofline.time, "perf_counter", lambda: module.now)
    monkeypatch.setattr(roofline, "MEMORY", 1 << 20)
    return module


def test_the_longer_of_work_and_reading_counts(counted):
    roof = roofline.measured(1)
    assert (roof.flops, roof.bytes) == (100, 10)
    assert roof.seconds(1000, 10) == 10 and roof.seconds(10, 1000) == 100 and roof.seconds(None, 30) == 3


def test_reads_as_much_as_a_call_works_on(counted):
    roof = roofline.measured(1)
    for n, expected in ((1, roofline.LEAST), (1 << 19, 1 << 19), (1 << 20, None), (1 << 30, None)):
        counted.read.clear()
        roof.seconds(1, n)
        assert {array.nbytes for array in counted.read} == ({expected} if expected else set())
        assert all(array.ctypes.data % 64 == 0 for array in counted.read)


def test_share_of_the_roof():
    class Roof:
        def seconds(self, flops, n_bytes):
            assert (flops, n_bytes) == (7, 24)
            return 1e-5

    x = np.ones(3)
    row = bench.measure("x", bench.case(lambda: x, lambda: x, 7, arrays=(x,)), 0.01, 1, Roof())
    assert row["of_roofline"] == pytest.approx(1e-5 / row["rtfast_seconds"])
    assert f"{row['of_roofline']:.2f}" in bench.line(row)
    for roof, arrays in ((None, (x,)), (Roof(), ())):  # nothing to set it beside
        row = bench.measure("x", bench.case(lambda: x, lambda: x, 7, arrays=arrays), 0.01, 1, roof)
        assert row["of_roofline"] is None and bench.line(row)


def test_wrong_results_are_not_timed_with_a_roof_either():
    calls = []
    wrong = bench.case(lambda: calls.append(1) or np.zeros(3), lambda: np.ones(3), 1, arrays=(np.ones(3),))
    with pytest.raises(RuntimeError, match="wrong: the results differ"):
        bench.measure("wrong", wrong, 0.01, 1, object())
    assert len(calls) == 1


def test_bytes_and_work_of_every_kernel_row():
    """Operands and result once each; generation is no single pass over anything."""
    made = {name: make() for name, make in bench.cases(quick=True)}
    assert made["linear 16 x 512 x 512"].bytes == 4 * (16 * 512 + 512 * 512 + 512 + 16 * 512)
    assert made["softmax 1024 x 512"].bytes == 2 * 4 * 1024 * 512
    assert made["attention 8 x 128 x 64"].bytes == 4 * 4 * 8 * 128 * 64
    assert [name for name, case in made.items() if not case.bytes] == ["article's model, 8 words"]


# --compare

@pytest.fixture
def report():
    rows = [{"name": name, "rtfast_seconds": 2e-3, "numpy_seconds": 4e-3} for name in ("a", "b")]
    machine = {"cpu": {"model": "C"}, "backend": {"in_use": "avx2"}, "numpy": {"version": "2"}}
    return {"machine": machine, "threads": 1, "rows": rows}


def compared(before, now):
    return bench_compare.lines(before, now, "FILE", bench.duration)


def test_then_and_now(report):
    now = copy.deepcopy(report)
    now["rows"][1].update(rtfast_seconds=5e-4, numpy_seconds=8e-3)
    text = compared(report, now)
    assert text[1] == "then: FILE"
    assert [line.split() for line in text if line[:2] in ("a ", "b ")] == [
        ["a", "2.00", "ms", "2.00", "ms", "1.00", "1.00"], ["b", "2.00", "ms", "500.0", "us", "4.00", "0.50"]]
    assert not any("only" in line for line in text)


def test_rows_of_one_run_only(report):
    now = copy.deepcopy(report)
    now["rows"][0]["name"] = "c"
    text = compared(report, now)
    assert "only there, not measured now: a" in text and "only now, not there: c" in text
    now["rows"] = now["rows"][:1]
    text = compared(report, now)
    assert "only there, not measured now: a; b" in text and not any("then/now" in line for line in text)


def test_another_machine_is_noted_in_one_line(report):
    now = copy.deepcopy(report)
    now["machine"] = {"cpu": {"model": "D"}, "backend": {"in_use": "avx512"}, "numpy": {"version": "2"}}
    now["threads"] = 2
    assert compared(report, now)[1] == (
        "then: FILE (not alike: CPU C, now D; backend avx2, now avx512; threads 1, now 2)")


def test_a_report_is_read(report, tmp_path):
    (tmp_path / "f").write_text(bench.json.dumps(report))
    assert bench_compare.read(str(tmp_path / "f")) == report


@pytest.mark.parametrize("damage", [
    lambda report: report.pop("machine"), lambda report: report.pop("rows"), lambda report: report.pop("threads"),
    lambda report: report.update(rows={}), lambda report: report.update(rows=[1]),
    lambda report: report.update(machine=3),
    lambda report: report["rows"][0].pop("name"), lambda report: report["rows"][0].update(rtfast_seconds=0),
    lambda report: report["rows"][0].update(numpy_seconds=float("nan")),
    lambda report: report["rows"][0].update(numpy_seconds="1"),
    lambda report: report["rows"][0].update(rtfast_seconds=10**400),
    lambda report: report["machine"]["cpu"].update(model=None)])
def test_what_is_no_report(report, tmp_path, damage):
    damage(report)
    (tmp_path / "f").write_text(bench.json.dumps(report))
    with pytest.raises(cli.UserError, match="f: --compare takes a file that rtfast bench --json wrote"):
        bench_compare.read(str(tmp_path / "f"))


def test_a_restart_passes_every_option_on(monkeypatch):
    seen = []
    monkeypatch.setattr(bench.subprocess, "call", lambda command, env: seen.append(command) or 0)
    given = ["--quick", "--only=a", "--json=b", "--compare=c"]
    parser = cli.Parser()
    bench.add_arguments(parser)
    assert bench.restart(parser.parse_args(given), 3) == 0
    assert set(seen[0][4:]) == {*given, "--threads=3"}
    assert len(given) + 1 == len([action for action in parser._actions if action.dest != "help"])
