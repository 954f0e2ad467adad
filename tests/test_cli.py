"""The `rtfast` command: what it prints, what it refuses, and that it never ends in a traceback."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from models import random_values

import rtfast
from rtfast import article, backends, bench, cli, info

with open(os.path.join(os.path.dirname(__file__), "data", "random_transformer.json")) as _file:
    EXPECTED = json.load(_file)["encoder"]["expected"]

posix = pytest.mark.skipif(os.name == "nt", reason="signals and pipes of POSIX")
TESTS = os.path.dirname(os.path.abspath(__file__))  # not the root, whose rtfast/ may be without its builds
ARTICLE_TEXT = " ".join(article.TOKENS)


def environment(**more):
    """Of a process that finds this rtfast, on this backend by name: then the fallback does not warn."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(rtfast.__file__)))
    paths = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": paths, "RTFAST_BACKEND": rtfast.backend(), **more}


def command(*arguments, text="", **more):
    """The finished process of `python -m rtfast ARGUMENTS`."""
    return subprocess.run([sys.executable, "-m", "rtfast", *arguments], input=text, env=environment(**more),
                          cwd=TESTS, capture_output=True, encoding="utf-8", timeout=120, check=False)


@pytest.fixture
def call(capsys, monkeypatch):
    """Call cli.main(arguments) in this process: (status, stdout, stderr)."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def refuses(call):
    """As `call`, for what must be refused in one line: that line, without the command's name."""
    def run(name, *arguments):
        status, _, err = call(name, *arguments)
        assert status == 2
        assert err.endswith("\n") and err.count("\n") == 1 and len(err) < 700
        assert err.startswith(f"rtfast {name}: ")
        assert "Traceback" not in err and "usage" not in err
        return err.removeprefix(f"rtfast {name}: ").rstrip()

    return run


def random_model(seed=0, **fields):
    """A model of the article's sizes and words in which every weight counts."""
    config = rtfast.Config.article(**fields)
    return rtfast.Transformer(config, random_values(config, seed), rtfast.WordTokenizer(article.VOCABULARY))


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


# generate

def test_generate_with_random_weights(prints, call):
    assert prints("generate", ARTICLE_TEXT) == prints("generate", "hello", "world") == "hola mundo\n"
    assert prints("generate", "hello", "--max-new-tokens", "9", "world") == "hola mundo\n"  # in any order
    assert prints("generate", "--ids", "0", "2") == "8 1 5\n"
    model = rtfast.Transformer.random(rtfast.Config.article(), 3, article.VOCABULARY)
    status, out, err = call("generate", ARTICLE_TEXT, "--seed", "3", "--max-new-tokens", "5")
    assert (status, out) == (0, model.translate(ARTICLE_TEXT, 5) + "\n")
    assert err == "rtfast generate: note: stopped after 5 words without EOS (--max-new-tokens)\n"


def test_generate_says_why_nothing_comes(call):
    assert call("generate", "hello world", "--seed", "0") == (
        0, "\n", "rtfast generate: note: the answer is empty, the first word was EOS\n")


def test_generate_with_sizes(call, tmp_path):
    call("generate", "--d-model", "8", "--heads", "4", "--layers", "1", "--seed", "7", "--dtype", "float32",
         "--d-key", "5", "--save", tmp_path / "a", "--ids", "0")
    call("generate", "--heads", "1", "--d-ff", "5", "--save", tmp_path / "b", "--ids", "0")
    a, b = rtfast.load(tmp_path / "a").config, rtfast.load(tmp_path / "b").config
    assert a == rtfast.Config.article(d_model=8, n_heads=4, d_key=5, d_value=2, d_ff=16, n_encoder_layers=1,
                                      n_decoder_layers=1, dtype="float32")
    assert b == rtfast.Config.article(n_heads=1, d_ff=5, d_key=4, d_value=4)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model that answers in several words, and its folder."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    for seed in range(330, 1330):  # the first that does
        model = random_model(seed)
        ids = model.generate(ARTICLE_TEXT, 20)
        if len(set(ids)) > 2 and ids[-1] == model.config.eos_id:
            model.save(folder)
            return model, folder
    raise AssertionError("no such seed")


def test_generate_with_a_saved_model(prints, saved):
    model, folder = saved
    assert prints("generate", "--model", folder, ARTICLE_TEXT) == model.translate(ARTICLE_TEXT) + "\n"
    assert prints("generate", "--model", folder, "--ids", "0", "2") == " ".join(
        map(str, model.generate([0, 2]))) + "\n"


def test_generate_with_own_weights(prints, saved, tmp_path):
    model, folder = saved
    answer = model.translate(ARTICLE_TEXT) + "\n"
    np.savez(tmp_path / "own.npz", **model.weights)
    assert prints("generate", "--weights", tmp_path / "own.npz", ARTICLE_TEXT) == answer
    np.savez_compressed(tmp_path / "small.npz", **{name: np.asfortranarray(w) for name, w in model.weights.items()})
    assert prints("generate", "--weights", tmp_path / "small.npz", ARTICLE_TEXT) == answer
    (tmp_path / "own.json").write_text(json.dumps(model.config.to_dict()))
    (tmp_path / "own.txt").write_text("\n".join(article.VOCABULARY) + "\n")
    given = ("generate", "--weights", tmp_path / "own.npz", ARTICLE_TEXT, "--config")
    assert prints(*given, tmp_path / "own.json", "--vocabulary", tmp_path / "own.txt") == answer
    assert prints(*given, folder / "config.json") == answer  # a folder's has the words too


def test_generate_with_own_words(prints, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("\ufeffSOS\nEOS\nuno\ndós\n三\n", encoding="utf-8")  # as some editors begin a file
    config = rtfast.Config.article(vocab_size=5, sos_id=0, eos_id=1)
    for seed in range(277, 1277):
        model = rtfast.Transformer.random(config, seed, ("SOS", "EOS", "uno", "dós", "三"))
        ids = model.generate("uno 三", 20)
        if 3 in ids and ids[-1] == 1:
            break
    answer = prints("generate", "--vocabulary", words, "--seed", seed, "uno 三")
    assert "dós" in answer and answer == model.translate("uno 三") + "\n"


def test_generate_line_by_line():
    done = command("generate", text="hello world\n\nhello world\r\n  hello   world\nhello world")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["hola mundo", "", "hola mundo", "hola mundo", "hola mundo"]
    done = command("generate", "--ids", text="0 2\n2\n0 x\n0 2\n")
    assert done.returncode == 2 and len(done.stdout.splitlines()) == 2
    assert done.stderr.splitlines()[-1] == "rtfast generate: line 3: --ids takes whole numbers, got '0 x'"


def test_generate_writes_what_the_terminal_lacks(tmp_path):
    vocabulary = ("SOS", "EOS", "三")
    (tmp_path / "words").write_text("\n".join(vocabulary), encoding="utf-8")
    config = rtfast.Config.article(vocab_size=3, sos_id=0, eos_id=1)
    seed = next(seed for seed in range(6, 1000) if rtfast.Transformer.random(
        config, seed, vocabulary).translate("三", 1) == "三")
    words = str(tmp_path / "words")
    given = ("generate", "--vocabulary", words, "--seed", str(seed), "--max-new-tokens", "1")
    assert command(*given, text="三\n", PYTHONIOENCODING="utf-8").stdout == "三\n"
    assert command(*given, "三", PYTHONIOENCODING="ascii").stdout == "\\u4e09\n"


def test_generate_warns_in_one_line(tmp_path):
    config = rtfast.Config.article(residual=False, norm=False)
    rtfast.Transformer.random(config, scale=30.0, vocabulary=article.VOCABULARY).save(tmp_path)
    done = command("generate", "--model", str(tmp_path), "hello world", "--max-new-tokens", "1")
    assert done.returncode == 0
    assert done.stderr.startswith("rtfast generate: warning: the result is NaN: it appeared first in encod")
    assert "RuntimeWarning" not in done.stderr


def test_a_model_shorter_than_the_default_limit(call, tmp_path):
    model = random_model(max_length=3)
    model.save(tmp_path)
    assert call("generate", "--model", tmp_path, "hello")[:2] == (0, model.translate("hello") + "\n")


@pytest.mark.parametrize(("arguments", "message"), [
    (["--bogus", "hello"], "unrecognized arguments: --bogus"),
    (["--d-model", "x", "hello"], "argument --d-model: must be a whole number of 1 or more, got 'x'"),
    (["--d-model", "0", "hello"], "argument --d-model: must be a whole number of 1 or more, got '0'"),
    (["--dtype", "int8", "hello"], "argument --dtype: invalid choice: 'int8'"),
    (["--seed", "-1", "hello"], "argument --seed: must be a whole number of 0 or more"),
    (["--d-model", "5", "hello"], "Config: d_key must be given where n_heads does not divide d_model"),
    (["--d-model", "8000000", "hello"], "a model of these sizes needs "),
    (["--d-model", "99999999999", "hello"], "Config: d_model must be within 1..2147483647"),
    (["--layers", "99999999", "hello"], "Config: n_encoder_layers must be within"),
    (["--max-new-tokens", "0", "hello"], "argument --max-new-tokens: must be a whole number"),
    (["--max-new-tokens", "999", "hello"], "--max-new-tokens must be at most the model's max_length of 512"),
    (["hello", "nobody"], "'nobody' is not in the vocabulary (word 2 of the text, at character 6); "
                          "its words are hello mundo"),
    ([""], "the text has no words"),
    (["hello " * 600], "src has 600 tokens, more than the model's max_length"),
    (["--ids", "0", "99"], "src[1] is 99, outside the vocabulary of 10 words"),
    (["--ids", "0", "-1"], "src[1] is -1, outside the vocabulary"),
    (["--ids", "hello"], "--ids takes whole numbers, got 'hello'"),
    (["--ids", "9" * 30], ""),
    (["--model", "DIR/none", "hello"], "DIR/none: no such folder"),
    (["--model", "DIR", "hello"], "DIR/config.json: no such file"),
    (["--weights", "DIR/none.npz", "hello"], "DIR/none.npz: no such file"),
    (["--weights", "DIR/text", "hello"], "DIR/text: not an .npz file"),
    (["--weights", "DIR/short.npz", "hello"], "DIR/short.npz: weights do not fit the config: "),
    (["--weights", "DIR/objects.npz", "hello"], "DIR/objects.npz: 'a.npy': must hold plain numbers, got type '|O'"),
    (["--weights", "DIR/damaged.npz", "hello"], "DIR/damaged.npz: "),
    (["--weights", "DIR/bomb.npz", "hello"], "DIR/bomb.npz: 'output.weight.npy' grows to 64000128 bytes: "),
    (["--weights", "DIR/cut.npz", "hello"], "DIR/cut.npz: not an .npz file, or cut short"),
    (["--weights", "DIR", "hello"], "DIR: must be a regular file"),
    (["--config", "DIR/none.json", "hello"], "DIR/none.json: No such file"),
    (["--config", "DIR/text", "hello"], "DIR/text: not JSON: "),
    (["--config", "DIR/deep.json", "hello"], "DIR/deep.json: "),
    (["--config", "DIR/list.json", "hello"], "DIR/list.json: Config: fields must be a dict, got list"),
    (["--config", "DIR/wrong.json", "hello"], "DIR/wrong.json: Config: unknown fields 'd_modle'"),
    (["--config", "DIR/good.json", "hello"], "this model has no vocabulary"),
    (["--config", "DIR/good.json", "--ids", "1"], "generate: the config has no sos_id"),
    (["--config", "DIR/good.json", "--vocabulary", "DIR/words", "hello"],
     "DIR/good.json: vocab_size is 7, but 3 in the vocabulary"),
    (["--vocabulary", "DIR/none", "hello"], "DIR/none: No such file"),
    (["--vocabulary", "DIR/text", "hello"], "DIR/text: WordTokenizer: a word must be"),
    (["--vocabulary", "DIR/bare", "hello"], "DIR/bare: WordTokenizer: sos must be in the vocabulary"),
    (["--vocabulary", "DIR/latin", "hello"], "DIR/latin: 'utf-8' codec can't decode"),
    (["--save", "DIR/text", "hello"], "DIR/text: File exists"),
    (["--model", "m", "--seed", "0", "x"], "--seed cannot be given with --model: a model folder has its own"),
    (["--model", "m", "--vocabulary", "v", "x"], "--vocabulary cannot be given with --model"),
    (["--model", "m", "--d-value", "1", "x"], "--d-value cannot be given with --model"),
    (["--config", "c", "--dtype", "float32", "x"], "--dtype cannot be given with --config"),
    (["--weights", "w", "--seed", "0", "x"], "--seed cannot be given with --weights"),
])
def test_generate_refuses(refuses, tmp_path, arguments, message):
    files = {
        "text": "not a model\n", "bare": "hello\nworld\n", "words": "SOS\nEOS\nhello\n",
        "deep.json": "[" * 10**5, "list.json": "[1]", "good.json": '{"vocab_size": 7}',
        "wrong.json": '{"vocab_size": 7, "d_modle": 4}'}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin").write_bytes("SOS\nEOS\nd\xf3s\n".encode("latin-1"))
    np.savez(tmp_path / "short.npz", **{"output.weight": np.zeros((4, 10)), "more": np.zeros(3)})
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    if "DIR/bomb.npz" in arguments:
        np.savez_compressed(tmp_path / "bomb.npz", **{"output.weight": np.zeros((2000, 4000))})
    whole = (tmp_path / "short.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:-1])
    (tmp_path / "damaged.npz").write_bytes(whole[:60] + b"\xff" * 40 + whole[100:])
    got = refuses("generate", *(argument.replace("DIR", str(tmp_path)) for argument in arguments))
    assert got.replace(str(tmp_path), "DIR").startswith(message)


def test_a_configuration_that_disagrees_with_the_words(refuses, call, saved, tmp_path):
    model, folder = saved
    (tmp_path / "words").write_text("\n".join(reversed(article.VOCABULARY)))
    (tmp_path / "c.json").write_text(json.dumps(model.config.to_dict()))
    got = refuses("generate", "hello", "--config", tmp_path / "c.json", "--vocabulary", tmp_path / "words")
    assert got.endswith("c.json: sos_id is 6, but 3 in the vocabulary")
    got = refuses("generate", "hello", "--config", folder / "config.json", "--vocabulary", tmp_path / "words")
    assert got.startswith("--vocabulary cannot be given with this --config: ")
    open_fields = {**model.config.to_dict(), "sos_id": None, "eos_id": None, "vocab_size": None}
    (tmp_path / "c.json").write_text(json.dumps(open_fields))
    call("generate", "hello", "--config", tmp_path / "c.json", "--vocabulary", tmp_path / "words", "--save",
         tmp_path / "made")
    assert rtfast.load(tmp_path / "made").config.sos_id == 3


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


def test_info_without_a_compiled_build(prints, monkeypatch):
    monkeypatch.setattr(backends, "available", lambda: ["python"])
    assert "The python backend is slow: no compiled build" in prints("info")


# bench

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
