"""A short run of every fuzzing harness (fuzz/), without atheris: the seeds, what once failed, and what they become.

`python fuzz/run.py` is the long one. What it finds goes to fuzz/regressions/HARNESS/, as a file, and is tested here.
"""

import os
import pathlib
import pickle
import random
import socket
import subprocess
import sys
import time

import pytest

import rtfast

FUZZ = pathlib.Path(__file__).parents[1] / "fuzz"
if not FUZZ.is_dir():
    pytest.skip("the harnesses are not here", allow_module_level=True)
sys.path.insert(0, str(FUZZ))

import checks as fuzz_checks  # noqa: E402
import mutators  # noqa: E402
from harnesses import HARNESSES, folders  # noqa: E402
from harnesses.base import stored_inputs  # noqa: E402

#: Inputs of each harness: most take a tenth of a millisecond, a model or a tokenizer some.
INPUTS = {"weights": 2000, "weights_beside_package": 2000, "generation_options": 3000, "ids": 5000, "config": 1000,
          "vocabulary": 1000, "sentencepiece": 1000, "trace_npz": 1000, "weights_npz": 1000}
FEW = 400
PACKAGES = {"weights_beside_package": ("safetensors",), "tokenizer_json": ("tokenizers",),
            "sentencepiece": ("sentencepiece",), "vocabulary": ("sentencepiece",),
            "tokenizer_config": ("tokenizers", "sentencepiece")}
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=HARNESSES)
def checks(request, tmp_path):
    """The `Checks` of each harness in turn."""
    for package in PACKAGES.get(request.param, ()):
        pytest.importorskip(package, reason=f"{package} is not installed: its files are not fuzzed")
    made = fuzz_checks.Checks(HARNESSES[request.param](tmp_path), tmp_path)
    yield made
    made.end()


def test_a_short_run(checks):
    name, draws = checks.harness.name, random.Random(2026)
    pool = checks.harness.seeds()
    for data in list(pool):
        assert checks.run(data) is None
    assert checks.accepted >= len(pool) / 2  # the seeds are good files, but what is in regressions
    for _ in range(INPUTS.get(name, FEW)):
        data = checks.harness.mutate(draws.choice(pool), draws)
        fault = checks.run(data)
        assert fault is None, f"{fault}\nof {data!r}"
        pool.append(data)
    assert checks.executions > checks.accepted or name in ("weights_beside_package",)


@pytest.mark.parametrize("name", HARNESSES)
def test_what_once_failed(name, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz_checks, "MEASURED", 1)
    monkeypatch.setattr(folders, "USED", 1)
    for package in PACKAGES.get(name, ()):
        pytest.importorskip(package, reason=f"{package} is not installed: its files are not read")
    inputs = stored_inputs("regressions", name)
    checks = fuzz_checks.Checks(HARNESSES[name](tmp_path), tmp_path)
    for data in inputs:
        for _ in range(3):
            assert checks.run(data) is None, data
    checks.end()


def test_the_corpus_is_small():
    files = [path for kind in ("corpus", "regressions") for path in (FUZZ / kind).rglob("*") if path.is_file()]
    assert files and sum(path.stat().st_size for path in files) < 200_000


# That the checks themselves notice

class Bad:
    """A harness that does what its input says."""

    allowed = (ValueError,)
    memory = 2**20

    def __init__(self, folder):
        self.folder = folder

    def seeds(self):
        return []

    def run(self, data):
        self.does(self.folder)


def refuse(message):
    raise rtfast.CheckpointError(message)


def fail(error):
    raise error


@pytest.mark.parametrize("does, fault", [
    (lambda folder: 1 / 0, "ZeroDivisionError"), (lambda folder: fail(BaseException()), "BaseException"),
    (lambda folder: fail(ValueError()), None), (lambda folder: refuse(f"{folder}/config.json: bad"), None),
    (lambda folder: refuse("bad"), "the message names no file"),
    (lambda folder: refuse(f"{folder}/{'x' * 10**6}"), "long message"),
    (lambda folder: socket.socket().close(), "event socket"),
    (lambda folder: pickle.loads(pickle.dumps(print)), "event pickle"),
    (lambda folder: open(__file__).close(), "event open"), (lambda folder: os.system("true"), "event os.system"),
    (lambda folder: eval("1"), "event compile"), (lambda folder: bytes(10**8), "memory"),
    (lambda folder: time.sleep(0.02), "hang"), (lambda folder: fail(fuzz_checks.Fault("they differ")), "they differ")])
def test_what_the_checks_notice(tmp_path, monkeypatch, does, fault):
    monkeypatch.setattr(fuzz_checks, "SECONDS", 0.01 if fault == "hang" else 10.0)
    monkeypatch.setattr(fuzz_checks, "MEASURED", 1)
    checks = fuzz_checks.Checks(Bad(str(tmp_path)), tmp_path)
    checks.harness.does = does
    try:
        said = checks.run(b"")
    finally:
        checks.end()
    assert said is None if fault is None else said.startswith(fault), said


@pytest.mark.parametrize("mutate", [mutators.of_bytes, mutators.of_json, mutators.of_safetensors, mutators.of_npz,
                                    mutators.of_message], ids=lambda mutate: mutate.__name__)
@pytest.mark.parametrize("data", [b"", b"{", b'{"a": [1, {"b": null}], "c": "d"}', bytes(range(256))], ids=len)
def test_any_input_can_be_changed_and_again_the_same(mutate, data):
    changed = [mutate(data, random.Random(seed)) for seed in range(200)]
    assert changed == [mutate(data, random.Random(seed)) for seed in range(200)]
    assert len(set(changed)) > 20 and all(type(one) is bytes for one in changed)


@pytest.mark.parametrize("name", ["config", "families", "generation_file", "ids", "trace_npz"])
def test_a_harness_in_a_process_of_its_own(name, tmp_path):
    """Where nothing was imported before: what a harness imports late counts as a file that its input opened."""
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run([sys.executable, str(FUZZ / "run.py"), name, "--plain", "--executions", "30", "--findings",
                           str(tmp_path)], env={**os.environ, "PYTHONPATH": paths}, cwd=tmp_path, timeout=120,
                          capture_output=True, text=True, check=False)
    assert (done.returncode, os.listdir(tmp_path)) == (0, []), done.stdout + done.stderr
