"""The `rtfast` command: what it prints, what it refuses, and that it never ends in a traceback."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from commands import command, environment
from models import model_of_fewer_words
from subprocesses import TESTS

import rtfast
from rtfast import backends, cli, info

with open(os.path.join(os.path.dirname(__file__), "data", "random_transformer.json")) as _file:
    EXPECTED = json.load(_file)["encoder"]["expected"]

posix = pytest.mark.skipif(os.name == "nt", reason="signals and pipes of POSIX")


# The command itself

def test_version_and_help(prints):
    assert prints("--version") == prints("-V") == f"rtfast {rtfast.__version__}\n"
    text = prints("--help")
    assert text == prints("-h") == prints() == prints("help")
    for name, (_, summary) in cli.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", text, re.MULTILINE)
    assert text.rstrip().splitlines()[-1].startswith("  rtfast")  # examples at the end
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_a_command(prints, name):
    text = prints(name, "--help")
    assert text == prints("help", name)
    assert text.startswith(f"usage: rtfast {name}") and "examples:\n  rtfast" in text
    assert max(map(len, text.splitlines())) <= 115


def test_main_refuses_in_one_line(call):
    for arguments in (["nonsense"], ["--nonsense"], ["help", "nonsense"]):
        status, out, err = call(*arguments)
        assert (status, out) == (2, "") and err.count("\n") == 1
        assert "nonsense" in err and "translate, explain, demo, generate, bench, info" in err


def test_the_library_does_not_import_the_command():
    code = "import sys, rtfast; print(*(name for name in sys.modules if name.startswith('rtfast')))"
    imported = subprocess.check_output([sys.executable, "-c", code], env=environment(), cwd=TESTS, text=True).split()
    assert "rtfast.kernels" in imported
    assert not {"rtfast.cli", "rtfast.show", *(module for module, _ in cli.COMMANDS.values())} & set(imported)


def test_kernels_alone_load_no_model():
    """`import rtfast` is to take little longer than `import numpy`; every name is there for who asks."""
    code = """if True:
        import sys
        import rtfast
        rtfast.kernels.softmax([1.0, 2.0])
        print(*(name for name in sys.modules if name.startswith("rtfast.")))
        assert set(rtfast.__all__) <= set(dir(rtfast))
        for name in rtfast.__all__:
            assert getattr(rtfast, name) is vars(rtfast)[name]
        print(hasattr(rtfast, "nonsense"), rtfast.load.__module__)"""
    loaded, rest = subprocess.check_output(
        [sys.executable, "-c", code], env=environment(), cwd=TESTS, text=True).splitlines()
    assert not {"rtfast.model", "rtfast.config", "rtfast.checkpoint", "rtfast.trace"} & set(loaded.split())
    assert rest == "False rtfast.loading"


def test_as_a_process():
    done = command("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"rtfast {rtfast.__version__}\n", "")
    done = command("generate", "hello", "--model", "no such folder")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("rtfast generate: no such folder: ") and done.stderr.count("\n") == 1


@posix
def test_a_reader_that_leaves_early():
    with subprocess.Popen([sys.executable, "-m", "rtfast", "generate"], env=environment(), cwd=TESTS, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        process.stdin.write("hello world\n" * 3)
        process.stdin.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 141


@posix
def test_interrupting():
    def heed_interrupts():  # a shell's background jobs, and so their children, ignore them
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen([sys.executable, "-m", "rtfast", "generate"], env=environment(), cwd=TESTS, text=True,
                          preexec_fn=heed_interrupts,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write("hello world\n")
        process.stdin.flush()
        assert process.stdout.readline() == "hola mundo\n"  # answered before the next line, or the end
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == ""


# demo

def numbers_in(text):
    return np.array([float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text)])


def test_demo_prints_the_articles_figures(prints):
    text = prints("demo", "--precision", "8")
    printed = numbers_in(text)
    for name, figures in EXPECTED.items():
        for figure in np.ravel(figures):
            tolerance = 1e-8 if abs(figure) > 1e-8 else abs(figure) / 100  # 4.68e-10 has three digits
            assert np.abs(printed - figure).min() <= tolerance * 1.01, f"{name}: {figure}"
    assert "68.0000  105.2100" in text and "11.46394285" in text and "4.68e-10" in text


def test_demo_from_words_to_words(prints):
    text = prints("demo")
    assert re.findall(r"^( ?\d+)\. ", text, re.MULTILINE) == [f"{i:2}" for i in range(1, 14)]
    warned = "Without them, the engine warns: the result is NaN: it appeared first in encoder.layers.1"
    assert warned in " ".join(text.split())
    assert "With them, the numbers stay finite." in text
    assert "hello world  ->  hola mundo EOS" in text
    assert re.search(r"3 decode steps .* [\d,]+ microseconds", text)
    assert ("on the python backend" in text) == (rtfast.backend() != "python")
    assert float(re.search(r"the largest difference\s+is\s+(\S+)\.\n", text)[1]) < 1e-13
    assert max(map(len, text.splitlines())) <= 90
    assert "\x1b" not in text and text.isascii()


def test_demo_shows_the_steps_asked_for(prints):
    text = prints("demo", "--steps", "6,2-3")
    assert re.findall(r"^( ?\d+)\. ", text, re.MULTILINE) == [" 2", " 3", " 6"]


def test_demo_in_float32_and_with_other_weights(prints):
    text = prints("demo", "--float32", "--seed", "1")
    assert "float32" in text and "105.2100" in text and "hola mundo EOS" not in text
    assert "With them, the numbers stay finite." in text


def test_demo_says_how_a_number_comes_about(prints):
    text = prints("demo", "--steps", "5-6")
    assert "1*1 + 3*0 + 3*1 + 5*0 = 4." in text
    assert "8*6.84 + 3*9.99 + 3*6.84 = 105.21." in text


def test_demo_on_the_python_backend():
    done = command("demo", "--steps", "7-13", RTFAST_BACKEND="python")
    assert (done.returncode, done.stderr) == (0, "")
    assert "python backend, float64" in done.stdout and "hola mundo EOS" in done.stdout


@pytest.mark.parametrize(("arguments", "message"), [
    (["--steps", "0"], "--steps must be within 1-13, got '0'"),
    (["--steps", "9-14"], "--steps must be within 1-13"),
    (["--steps", "5-3"], "--steps must be within 1-13"),
    (["--steps", "all"], "--steps must look like"),
    (["--precision", "0"], "argument --precision: must be a whole number from 1 to 15, got '0'"),
    (["--precision", "x"], "argument --precision: must be a whole number"),
    (["--seed", "-1"], "argument --seed: must be a whole number of 0 or more, got '-1'"),
    (["--seed", "9" * 5000], "argument --seed: must be a whole number"),
    (["hello"], "unrecognized arguments: hello"),
])
def test_demo_refuses(refuses, arguments, message):
    assert refuses("demo", *arguments).startswith(message)


# info

def test_info(prints, monkeypatch):
    monkeypatch.delenv("RTFAST_NUM_THREADS", raising=False)
    text = prints("info")
    assert f"rtfast    {rtfast.__version__} in " in text and f"NumPy     {np.__version__}" in text
    assert re.search(rf"^backend   {rtfast.backend()} ", text, re.MULTILINE)
    for name in backends.BACKENDS:
        assert name in text
    assert f"threads   {rtfast.get_num_threads()} (the CPUs that this process may use)" in text
    assert ("pip install" in text) == (backends.available() == ["python"])


def test_info_as_json(prints):
    found = json.loads(prints("info", "--json"))
    assert found["backend"]["in_use"] == rtfast.backend()
    assert set(found["backend"]["unavailable"]) == set(backends.BACKENDS) - set(backends.available())
    assert found["threads"]["count"] == rtfast.get_num_threads()
    assert found["optional"]["pytest"] == pytest.__version__
    assert found["numpy"]["version"] == np.__version__


def test_info_names_every_optional_package(prints):
    path = os.path.join(os.path.dirname(TESTS), "pyproject.toml")
    if not os.path.exists(path):
        pytest.skip("the tests lie apart from the sources")
    with open(path, encoding="utf-8") as file:
        extras = file.read().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    named = re.findall(r'"([A-Za-z0-9-]+)[>=]', extras)  # tomllib came with Python 3.11
    assert {"pytest", "onnx", "onnxruntime", "matplotlib"} <= set(named)
    assert {*named, "torch"} == set(info.OPTIONAL)
    text = prints("info")
    users, _, others = text.partition("for tests, benchmarks and documentation:")
    assert all(f" {name} " in users and f" {name} " not in others for name in info.EXTRAS) and " pytest " not in users
    for name in info.OPTIONAL:
        assert re.search(rf"^ +{name} +\S", text, re.MULTILINE)


def test_info_says_what_a_missing_package_is_for(prints, monkeypatch):
    monkeypatch.setattr(info, "version", lambda name: None)
    text = prints("info")
    for name, purpose in info.OPTIONAL.items():
        assert re.search(rf"^ +{name} +missing \({re.escape(purpose)}\)$", text, re.MULTILINE)


def test_info_where_the_environment_chooses():
    text = command("info", RTFAST_BACKEND="python", RTFAST_NUM_THREADS="3").stdout
    assert "backend   python (RTFAST_BACKEND=python)" in text
    assert "threads   3 (RTFAST_NUM_THREADS=3)" in text


@pytest.mark.parametrize("how", [["-m", "rtfast"], ["-mrtfast"], ["rtfast"]])
@pytest.mark.parametrize("variable, message", [
    ({"RTFAST_BACKEND": "foo"}, "RTFAST_BACKEND=foo: backend must be one of avx512, avx2, neon, baseline, python, got"),
    ({"RTFAST_NUM_THREADS": "0"}, "RTFAST_NUM_THREADS must be a whole number from 1 to 128, got '0'")])
def test_a_wrong_variable_is_said_in_one_line(tmp_path, how, variable, message):
    """As the script, too, that pip writes. A program gets the exception."""
    (tmp_path / "rtfast").write_text("import sys\nfrom rtfast.cli import main\nsys.exit(main())\n")
    for arguments in ([], ["info"]):
        done = subprocess.run([sys.executable, *how, *arguments], env=environment(**variable), cwd=tmp_path, text=True,
                              capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"rtfast: {message}") and done.stderr.count("\n") == 1
    code = "try:\n import rtfast\nexcept ValueError as error:\n print(error)"
    for arguments in (["-c", code], ["-c", code, "rtfast"]):
        assert subprocess.run([sys.executable, *arguments], env=environment(**variable), cwd=tmp_path, text=True,
                              capture_output=True, check=True).stdout.startswith(message)


@posix
def test_without_stderr_no_message_is_among_the_answers():
    done = subprocess.run(["/bin/sh", "-c", f"'{sys.executable}' -m rtfast translate crocodile 2>&-"],
                          env=environment(), cwd=TESTS, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")


def test_info_without_a_compiled_build(prints, monkeypatch):
    monkeypatch.setattr(backends, "available", lambda: ["python"])
    assert "The python backend is slow: no compiled build" in prints("info")


@pytest.mark.parametrize("arguments, shown", [
    (["translate"], "w3"), (["translate", "--stream"], "w3"), (["translate", "--scores"], "\tw3"),
    (["generate", "--model", "FOLDER"], "w3"), (["explain", "--model", "FOLDER"], "<10>"),
    (["explain", "--model", "FOLDER", "--target", "w3 w4"], "<9>")])
def test_ids_that_the_tokenizer_has_no_word_for(call, monkeypatch, arguments, shown):
    monkeypatch.setattr(rtfast, "load", lambda *_: model_of_fewer_words())
    status, out, err = call(*arguments, "w4 w5")
    assert (status, err) == (0, "") and shown in out


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"do_sample": True, "seed": 0}])
def test_one_line_for_each_whatever_the_model_says(call, tmp_path, options):
    model, text = rtfast.load(), "the red house"
    model = rtfast.Transformer(model.config, model.weights, model.tokenizer, {"num_return_sequences": 3, **options})
    model.save(tmp_path)
    best = model.translate(text)
    assert len(best) == 3
    one = model.translate(text, num_return_sequences=1) + "\n"
    for arguments in (["translate"], ["generate"], ["translate", "--num-return-sequences", "1"]):
        assert call(*arguments, "--model", tmp_path, text) == (0, one, "")
    assert call("translate", "--model", tmp_path, "--num-return-sequences", "3", text)[1] == "\n".join(best) + "\n"
    streamed = "".join(model.stream(text))
    assert call("translate", "--model", tmp_path, "--stream", text) == (0, streamed + "\n", "")
    assert call("explain", "--model", tmp_path, "--list", text)[0] == 0
