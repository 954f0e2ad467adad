"""`rtfast bench` as a command: what it prints, saves and refuses, and when it starts anew."""

import json
import re

import numpy as np
import pytest
from commands import command

import rtfast
from rtfast import bench, info


def test_bench(tmp_path):
    """In a process of its own: it fixes NumPy's threads, and starts anew where OpenBLAS is held back."""
    path = tmp_path / "figures.json"
    done = command("bench", "--quick", "--threads", "1", "--only", "1024 x 512", "--json", str(path),
                   OPENBLAS_CORETYPE="Haswell")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(path.read_text())
    names = [row["name"] for row in report["rows"]]
    assert "softmax 1024 x 512" in names and "layer_norm 1024 x 512" in names
    assert report["threads"] == 1 and report["machine"]["backend"]["in_use"] == rtfast.backend()
    for row in report["rows"]:
        assert row["name"] in done.stdout
        assert row["ratio"] == pytest.approx(row["numpy_seconds"] / row["rtfast_seconds"])
        assert row["largest_difference"] < 1e-5
    assert f"{rtfast.backend()} backend, 1 thread\n" in done.stdout and "NumPy   " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    again = command("bench", "--quick", "--threads", "1", "--only", "softmax", "--compare", str(path),
                    OPENBLAS_CORETYPE="Haswell")
    assert (again.returncode, again.stderr) == (0, "")
    table, _, compared = again.stdout.partition(f"\nthen: {path}\n")
    then = bench.duration(report["rows"][0]["rtfast_seconds"])
    assert re.search(rf"^softmax 1024 x 512 +{re.escape(then)} ", compared, re.MULTILINE)
    assert "only there, not measured now: layer_norm 1024 x 512\n" in compared


def test_bench_on_the_python_backend(tmp_path):
    """It has no roofline: nothing about one is printed."""
    path = tmp_path / "figures.json"
    done = command("bench", "--quick", "--threads", "1", "--only", "layer_norm", "--json", str(path),
                   RTFAST_BACKEND="python")
    assert (done.returncode, done.stderr) == (0, "")
    assert "layer_norm 1024 x 512" in done.stdout and "roof" not in done.stdout
    report = json.loads(path.read_text())
    assert report["roofline"] is None and report["rows"][0]["of_roofline"] is None


@pytest.mark.parametrize("before", [None, "old"])
def test_bench_interrupted_leaves_no_file_or_the_old_one(call, tmp_path, monkeypatch, before):
    def interrupt(*_):
        raise KeyboardInterrupt

    path = tmp_path / "figures.json"
    if before is not None:
        path.write_text(before)
    monkeypatch.setattr(bench, "must_restart", lambda threads: False)
    monkeypatch.setattr(bench, "table", interrupt)
    assert call("bench", "--quick", "--json", path)[0] == 130
    assert [file.read_text() for file in tmp_path.iterdir()] == ([] if before is None else [before])


@pytest.mark.parametrize("place", range(len(bench.cases())))
def test_bench_compares_equals(place):
    """Every row's two sides agree."""
    name, make = bench.cases()[place]
    if not ("linear" in name and name.split()[1] == "1024"):  # nothing new, and slow on the fallback
        case = make()
        assert bench.disagreement(case.ours(), case.peer()) <= case.tolerance


def test_bench_does_not_time_wrong_results():
    wrong = bench.case(lambda: np.ones(3), lambda: np.array([1, 1, 1.1]))
    with pytest.raises(RuntimeError, match="the results differ by 9.1e-02 of the largest number"):
        bench.measure("wrong", wrong, 0.01, 1)
    assert bench.disagreement([1, 2], [1, 2, 3]) == np.inf == bench.disagreement([np.nan], [np.nan])


def test_bench_restarts_where_numpy_is_held_back(monkeypatch):
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(bench.util, "find_spec", lambda name: object())
    assert not bench.must_restart(2)
    monkeypatch.setattr(bench.util, "find_spec", lambda name: None)  # no threadpoolctl
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    assert bench.must_restart(2)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        monkeypatch.setenv(name, "2")
    assert not bench.must_restart(2)
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "1")
    assert bench.must_restart(2)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--threads", "0"], "argument --threads: must be a whole number from 1 to 128, got '0'"),
    (["--threads", "999"], "argument --threads: must be a whole number from 1 to 128"),
    (["--only", "nothing"], "--only nothing: no row has that in its name; they are linear 1 x 512"),
    (["--json", "DIR/none/figures.json"], "DIR/none/figures.json: No such file"),
    (["--compare", "DIR/none.json"], "DIR/none.json: No such file"),
    (["--compare", "DIR/none.json", "--json", "DIR/none.json"], "DIR/none.json: No such file"),
    (["--compare", "DIR"], "DIR: Is a directory"),
    (["--compare", "DIR/text"], "DIR/text: not JSON: "),
    (["--compare", "DIR/latin"], "DIR/latin: 'utf-8' codec can't decode"),
    (["--compare", "DIR/deep"], "DIR/deep: not JSON: "),
    (["--compare", "DIR/list"], "DIR/list: --compare takes a file that rtfast bench --json wrote"),
    (["--compare", "DIR/info"], "DIR/info: --compare takes a file that rtfast bench --json wrote"),
    (["--compare", ""], ": No such file"),
    (["hello"], "unrecognized arguments: hello"),
])
def test_bench_refuses(refuses, tmp_path, arguments, message):
    for name, text in {"text": "no JSON", "deep": "[" * 10**5, "list": "[1]", "info": json.dumps(info.facts())}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin").write_bytes(b'{"a": "\xf3"}')
    got = refuses("bench", *(argument.replace("DIR", str(tmp_path)) for argument in arguments))
    assert got.replace(str(tmp_path), "DIR").startswith(message)
