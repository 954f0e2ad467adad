"""`rtfast generate`: a model of the article's sizes, a saved one, the user's own weights and words."""

import json
import subprocess
import sys

import numpy as np
import pytest
from commands import TESTS, command, environment
from models import random_values

import rtfast
from rtfast import article

ARTICLE_TEXT = " ".join(article.TOKENS)


def random_model(seed=0, **fields):
    """A model of the article's sizes and words in which every weight counts."""
    config = rtfast.Config.article(**fields)
    return rtfast.Transformer(config, random_values(config, seed), rtfast.WordTokenizer(article.VOCABULARY))


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
    assert done.stderr.splitlines()[-1] == "rtfast generate: stdin: line 3: --ids takes whole numbers, got '0 x'"


def test_lines_of_stdin_are_utf_8():
    """As those of rtfast translate, whatever the locale."""
    arguments = [sys.executable, "-m", "rtfast", "generate"]
    done = subprocess.run(arguments, input=b"\xef\xbb\xbfhello world\nhello w\xffrld\n", env=environment(LC_ALL="C"),
                          cwd=TESTS, capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (2, b"hola mundo\n")
    assert done.stderr == b"rtfast generate: stdin: line 2: not UTF-8: invalid start byte at byte 8\n"


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
    (["--d-model", "5", "hello"], "--d-key must be given where --heads does not divide --d-model, got"),
    (["--d-model", "8000000", "hello"], "a model of these sizes needs "),
    (["--d-model", "99999999999", "hello"], "--d-model must be within 1..2147483647"),
    (["--layers", "99999999", "hello"], "--layers must be within"),
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
