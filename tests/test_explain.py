"""`rtfast explain`: every number it prints is the trace's, for every kind of model, in pipes and on terminals."""

import os
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from models import random_values

import rtfast
from rtfast import article, cli, shading, show, walk_steps

TESTS = os.path.dirname(os.path.abspath(__file__))
TEXT = "the red house"
NUMBER = re.compile(r"(?<![\w.])-?(?:\d+(?:\.\d+)?(?:e[+-]\d+)?|inf)(?![\w.])|NaN")


@pytest.fixture
def call(capsys, monkeypatch):
    """Call `rtfast explain ARGUMENTS` in this process: (status, stdout, stderr)."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments):
        status = cli.main(["explain", *map(str, arguments)])
        return (status, *capsys.readouterr())

    return run


@pytest.fixture
def refuses(call):
    """As `call`, for what must be refused in one line: that line without the command's name."""
    def run(*arguments):
        status, out, err = call(*arguments)
        assert (status, out) == (2, "") and err.count("\n") == 1 and "usage" not in err
        return err.removeprefix("rtfast explain: ").rstrip()

    return run


@pytest.fixture(scope="module")
def shipped():
    model = rtfast.load()
    return model, model.trace(TEXT, max_new_tokens=20)


def sections(text):
    """{name: the lines of numbers below it} of everything that is printed by name."""
    found, name = {}, None
    lines = text.splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        heading = re.fullmatch(r"    (\S+) (\([\d, ]+\))", line)
        if heading and below.startswith("    = "):
            name = heading[1]
            assert name not in found
            found[name] = {"shape": heading[2], "lines": []}
        elif re.match(r"[ \d]\d\. ", line):
            name = None
        elif name is not None:
            found[name]["lines"].append(line[4:])
    return found


def table(lines, row_labels):
    """The rows of numbers behind these labels, in order, "…" and "-" left out."""
    rows = []
    for line in lines:
        label = next((w for w in row_labels if line.startswith(f"{w} ")), None)
        if label is not None:
            rows.append([float(n) for n in NUMBER.findall(line[len(label):])])
    return rows


def close(printed, exact, precision):
    """Whether a printed number is the exact one to that many decimals, or three digits if in scientific notation."""
    bound = 0.51 * 10.0 ** -precision
    return abs(printed - exact) <= max(bound, 0.0051 * abs(exact) if abs(exact) < bound or abs(exact) >= 1e7 else 0)


def first_and_last(row, shown):
    """The entries of a row that a shortened matrix shows."""
    last = max(1, shown // 4) if shown < len(row) else 0
    return [*row[:shown - last], *row[len(row) - last:]]


def assert_printed(text, model, trace, source, target, precision=3):
    """Every intermediate of the trace is there, under its shape and formula, with its numbers."""
    found = sections(text)
    assert set(found) == set(trace)
    for name, array in trace.items():
        lines, where = found[name]["lines"], name.split(".")
        assert found[name]["shape"] == str(array.shape)
        said = " ".join(" ".join(lines).split())
        assert said.startswith(f"= {trace.formula(name)}"), name
        assert all(given in said for given in trace.inputs(name)), name
        memory = name.endswith(("cross_attention.key", "cross_attention.value"))
        words = source if where[0] == "encoder" or memory else target
        start = lines.index("")  # below the formula
        if array.ndim == 2:
            printed = table(lines[start:], words)
            assert len(printed) == len(array)
            for row, exact in zip(printed, array, strict=True):
                assert 2 <= len(row) <= 12
                assert all(map(close, row, first_and_last(exact.tolist(), len(row)), [precision] * len(row))), name


IDS = ["17", "4", "9", "12"]


# Numbers

def test_every_number_of_the_shipped_model(prints, shipped):
    model, trace = shipped
    assert_printed(prints(TEXT), model, trace, *trace.tokens)
    assert_printed(prints(TEXT, "--precision", 7, "--width", 80), model, trace, *trace.tokens, precision=7)


def test_the_heads_numbers(prints, shipped):
    """Of one head all rows of scores, weights, queries."""
    _, trace = shipped
    source, target = trace.tokens
    for head in range(4):
        found = sections(prints(TEXT, "--head", head, "--precision", 4))
        for name, array in trace.items():
            if array.ndim != 3:
                continue
            memory = name.endswith(("cross_attention.key", "cross_attention.value"))
            words = source if name.startswith("encoder") or memory else target
            printed = table(found[name]["lines"], words)
            masked = name.endswith("weights") and "masked" in trace.formula(name)
            for i, (row, exact) in enumerate(zip(printed, array[head].tolist(), strict=True)):
                exact = exact[:i + 1] if masked else exact
                assert all(map(close, row, first_and_last(exact, len(row)), [4] * len(row))), name
                if name.endswith(("scores", "weights")):
                    assert len(row) == len(exact)


def test_all_heads_stand_there(prints, shipped):
    _, trace = shipped
    name = "decoder.layers.1.cross_attention.weights"
    lines = "\n".join(sections(prints(TEXT, "--step", 18))[name]["lines"])
    assert re.findall(r"head (\d)", lines) == list("0123")
    printed = [float(n) for n in NUMBER.findall(re.sub(r".*shades.*|head \d", "", lines))]
    for exact in trace[name].ravel().tolist():
        assert any(close(number, exact, 3) for number in printed)
    assert len(printed) == trace[name].size


def test_of_many_heads_the_first_and_last_rows(prints):
    """Of long sentences, all heads: their numbers, five rows and the last."""
    text = "my brother reads the book in the park"
    trace = rtfast.load().trace(text, max_new_tokens=20)
    name = "encoder.layers.0.self_attention.query"
    lines = sections(prints(text, "--step", 3, "--layer", 0, "--width", 300))[name]["lines"]
    block = lines[lines.index("") + 2:]
    labels = ["my", "brother", "reads", "the", "book", "…", "park"]
    assert [line.split()[0] for line in block if line] == labels
    labels.remove("…")
    for row, i in zip(table(block, labels), (0, 1, 2, 3, 4, 7), strict=True):
        exact = [number for h in range(4) for number in first_and_last(trace[name][h][i].tolist(), 4)]
        assert len(row) == 16 and all(map(close, row, exact, [3] * 16))


def test_the_likeliest_words(prints, shipped):
    _, trace = shipped
    text = prints("The red house", "--step", "26-27", "--top", 3, "--precision", 6)
    expected = trace.top(3)
    blocks = re.split(r"\n    \d+\. after ", text)[1:]
    assert [block.split("\n")[0] for block in blocks] == ["SOS", "la", "casa", "roja"]
    for block, row in zip(blocks, expected, strict=True):
        lines = re.findall(r"^ +(→ )? *(\S+) +([\d.e-]+) % ", block, re.MULTILINE)
        assert [word for _, word, _ in lines] == [word for word, _ in row]
        assert all(close(float(p), 100 * exact, 6) for (_, _, p), (_, exact) in zip(lines, row, strict=True))
        assert [bool(mark) for mark, *_ in lines] == [True, False, False]
    assert "    The red house  →  La casa roja\n" in text  # as translate writes it


def test_a_given_target(prints):
    model = rtfast.load()
    trace = model.trace(TEXT, "la casa azul")
    text = prints(TEXT, "--target", "la casa azul")
    assert_printed(text, model, trace, *trace.tokens)
    assert "    the red house  →  la casa azul\n    likeliest: la casa roja" in text
    p = trace["probabilities"][2][model.tokenizer.encode("azul")[0]]
    assert re.search(rf"→ azul +{re.escape(show.number(100 * float(p), 3, 3))} %", text)  # not among the likeliest
    assert "is given" in text


# Every kind of model

def own_model(seed=3, **fields):
    config = rtfast.Config.article(**fields)
    return rtfast.Transformer(config, random_values(config, seed), rtfast.WordTokenizer(article.VOCABULARY))


@pytest.mark.parametrize("fields", [
    {}, {"norm_first": True, "final_norm": True}, {"rms_norm": True, "article_layer_norm": False}, {"gated": True},
    {"positions": None}, {"positions": "relative"}, {"positions": "learned", "max_length": 30},
    {"embedding_norm": True}, {"norm": False}, {"residual": False}, {"norm": False, "residual": False},
    {"output_scale": 0.5, "tie_embeddings": True}, {"n_encoder_layers": 0}, {"n_decoder_layers": 0},
    {"n_encoder_layers": 1, "n_decoder_layers": 3}, {"dtype": "float32"}, {"n_heads": 1, "attention_bias": True},
    {"article_softmax": False, "d_key": 7, "d_value": 2}], ids=str)
def test_every_architecture(prints, tmp_path, fields):
    model = own_model(**{"n_encoder_layers": 2, "n_decoder_layers": 2, **fields})
    model.save(tmp_path)
    trace = model.trace("hello world", max_new_tokens=4)
    text = prints("hello", "world", "--model", tmp_path, "--max-new-tokens", 4)
    assert_printed(text, model, trace, *trace.tokens)
    kinds = prints("hello world", "--model", tmp_path, "--list").splitlines()
    assert [line.split(".")[0].strip() for line in kinds] == [str(i + 1) for i in range(len(kinds))]
    assert not any(line.split(".")[1].strip() in ("", "None") for line in kinds)


def test_a_pre_norm_walks_in_order():
    """Where the norm comes first it is shown first, and so numbered."""
    trace = own_model(norm_first=True, final_norm=True).trace("hello world", "hola")
    kinds = [step.kind for step in walk_steps.steps_of(trace) if step.layer == 0 and step.part == "self_attention"]
    assert kinds == ["norm", "projections", "weights", "heads", "residual"] * 2
    assert walk_steps.numbered(walk_steps.steps_of(trace))["encoder", "self_attention", "norm"] == 3


def test_all_names_are_walked_once():
    for fields in ({}, {"norm_first": True, "gated": True}, {"output_scale": 2.0, "positions": None}):
        trace = own_model(**fields).trace("hello world", "hola mundo")
        names = [name for step in walk_steps.steps_of(trace) for name in step.names]
        assert sorted(names) == sorted(trace)


def test_the_articles_model(prints, tmp_path):
    """4 columns are shown whole, and the article's words come out."""
    rtfast.Transformer.random(rtfast.Config.article(), 2495, article.VOCABULARY).save(tmp_path)
    text = prints("hello world", "--model", tmp_path)
    assert "…" not in "".join("".join(s["lines"]) for n, s in sections(text).items() if n.startswith("encoder"))
    assert "hello world  →  hola mundo" in text


def test_checkpoints_of_every_family(prints, tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    import test_families

    for name in test_families.MODELS:
        folder = tmp_path / name.replace(", ", "-").replace(" ", "-")
        test_families.make(name, test_families.SIZES[1], 0, folder)
        model = rtfast.load(folder)
        trace = model.trace([int(i) for i in IDS], max_new_tokens=5)
        text = prints("--model", folder, "--ids", *IDS, "--max-new-tokens", 5)
        words = [[str(word) for word in row] for row in trace.tokens]
        assert_printed(text, model, trace, *words)
        assert f"    17 4 9 12  →  {' '.join(map(str, trace.generated))}\n" in text
        given = prints("--model", folder, "--ids", *IDS, "--target", "0 5 6", "--step", "1")
        assert "17" in given


# What is shown

def numbers_of_steps(text):
    return [int(n) for n in re.findall(r"^([ \d]\d)\. ", text, re.MULTILINE)]


def test_steps_layers_and_heads(prints):
    assert numbers_of_steps(prints(TEXT, "--step", "6,2-3")) == [2, 3, 6, 3, 6]
    assert numbers_of_steps(prints(TEXT, "--step", "3,6", "--layer", 1)) == [3, 6]
    text = prints(TEXT, "--layer", 0)
    assert "layer 1" not in text and numbers_of_steps(text) == list(range(1, 28))
    text = prints(TEXT, "--step", "3-5", "--head", 2)
    assert set(re.findall(r"head (\d)", text)) == {"2"}


def test_the_list(prints, shipped):
    text = prints(TEXT, "--list")
    assert re.search("^  4. Encoder, self-attention: scores and attention weights +3.2.1$", text, re.MULTILINE)
    assert len(text.splitlines()) == 27 and "layer 0" not in text


@pytest.mark.parametrize("step, section", [
    (2, "sections 3.4, 3.5"), (3, "section 3.2.2"), (4, "section 3.2.1"), (7, "section 3.1"), (8, "section 3.3"),
    (18, "sections 3.2.1, 3.2.3"), (25, "section 3.4")])
def test_sections_of_the_paper(prints, step, section):
    assert f"({section})" in " ".join(prints(TEXT, "--step", step, "--layer", 0).split())


def test_it_ends_without_end(prints, tmp_path):
    model = own_model(eos_id=None)
    model.save(tmp_path)
    assert "It stopped after 3 words without" in prints("hello", "--model", tmp_path, "--max-new-tokens", 3)
    assert "It stopped after 20 words without" in prints("hello", "--model", tmp_path, "--step", 27)


# Widths, colours, encodings

@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_widths(prints, width):
    long = "my brother reads the book"
    text = prints(long, "--width", width)
    widest = max(map(show.size, text.splitlines()))
    assert [line for line in text.splitlines() if show.size(line) > width and len(line.split()) > 1] == []  # names
    assert widest > width - 25


def test_a_pipe_is_120_wide_or_what_columns_says(prints, monkeypatch):
    assert prints(TEXT) == prints(TEXT, "--width", 120)
    monkeypatch.setenv("COLUMNS", "100")
    assert prints(TEXT) == prints(TEXT, "--width", 100)
    for columns, width in (("20", 80), ("", 120), ("x", 120)):
        monkeypatch.setenv("COLUMNS", columns)
        assert prints(TEXT) == prints(TEXT, "--width", width)


def test_a_terminals_width(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    for columns, expected in ((30, 80), (80, 80), (133, 133)):
        monkeypatch.setattr("shutil.get_terminal_size", lambda fallback, columns=columns: os.terminal_size(
            (columns, 24)))
        assert shading.room() == expected
    assert shading.room(64) == 64


def test_a_long_sentence(prints):
    """More words than fit beside each other: columns go on below, no line is too long, no number is lost."""
    text = "my brother reads the book , we will dance in the park tomorrow"
    model = rtfast.load()
    trace = model.trace(text, max_new_tokens=20)
    out = prints(text, "--step", "4,13,18", "--head", 1, "--width", 80)
    assert max(map(show.size, out.splitlines())) <= 100
    name = "encoder.layers.1.self_attention.weights"
    lines = sections(out)[name]["lines"]
    numbers = [float(n) for line in lines[5:] for n in NUMBER.findall(line)]
    assert len(numbers) == trace[name][1].size


@pytest.fixture
def terminal(monkeypatch):
    """Make stdout look like a terminal that shows colours."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(os, "name", "posix")
    monkeypatch.setattr(show, "styled", lambda: not os.environ.get("NO_COLOR"))


def test_colours_on_and_off(prints, monkeypatch, terminal):
    coloured = prints(TEXT)
    assert "\x1b[48;5;" in coloured and "\x1b[1m" in coloured
    plain = prints(TEXT, "--no-color")
    assert "\x1b" not in plain and "█" in plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert prints(TEXT) == plain

    def words(text):  # all but the shades
        return re.sub(r"[ ░▒▓█·\n]+", " ", show._STYLE.sub("", text))

    assert words(coloured) == words(plain)


def process(*arguments, **more):
    folder = os.path.dirname(os.path.dirname(os.path.abspath(rtfast.__file__)))
    paths = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": paths, "RTFAST_BACKEND": rtfast.backend(), **more}
    return subprocess.run([sys.executable, "-m", "rtfast", "explain", *arguments], env=environment, cwd=TESTS,
                          capture_output=True, timeout=120, check=False)


def test_pipes_and_encodings():
    done = process(TEXT, PYTHONIOENCODING="utf-8")
    text = done.stdout.decode("utf-8")
    assert (done.returncode, done.stderr) == (0, b"") and "█" in text and "\x1b" not in text
    done = process(TEXT, PYTHONIOENCODING="ascii")
    text = done.stdout.decode("ascii")
    assert (done.returncode, done.stderr) == (0, b"") and "@@@" in text and "\\u" not in text
    assert " ..." in text and "->" in text


def test_words_that_a_terminal_lacks():
    plain = shading.Ink(encoding="ascii")
    assert plain.word("casa") == "casa" and plain.word("三") == "\\u4e09" and plain.word("\x1b[1m") == "\\x1b[1m"
    assert shading.Ink().word("三") == "三" and shading.Ink().word("a\nb") == "a\\nb"
    assert shading.Ink().word(" ") == "' '" and shading.Ink().word("") == "''"
    assert shading.Ink(encoding=None).ellipsis == "..." and shading.Ink(encoding="no such").dot == "-"


def test_wide_letters_are_aligned():
    assert [show.size(text) for text in ("abc", "三x", "e\u0301", "\x1b[1mab\x1b[0m")] == [3, 3, 1, 2]
    lines = show.table_lines([["1", "2"], ["3", "4"]], ["三", "ab"], ["三三", "x"])
    assert {show.size(line) for line in lines} == {11}


# Shading

def test_shades_grow_with_the_share():
    for ink in (shading.Ink(), shading.Ink(encoding="ascii")):
        levels = [ink.ramp.index(ink.cell(share, 1)) for share in np.linspace(0, 1, 101)]
        assert levels == sorted(levels) and set(levels) == set(range(len(ink.ramp)))
        assert ink.cell(0.02, 1) == ink.ramp[1]  # what shows as a number shows as a shade
    ink = shading.Ink(colour=True)
    found = [int(re.search(r"48;5;(\d+)m", ink.cell(share, 2))[1]) for share in np.linspace(0, 1, 101)]
    assert list(dict.fromkeys(found)) == list(shading.COLOURS)
    assert shading.Ink().cell(0.5, 3, hidden=True) == " · " and shading.Ink().cell(np.nan, 3) == " ? "


def test_a_block():
    weights = np.array([[1, 0], [0.25, 0.75]])
    lines = shading.attention(weights, ["a", "bcd"], ["x", "yz"], shading.Ink(), 2, [[False, True], [False, False]])
    assert lines == ["     x   yz        x    yz",
                     "a    ████ ·     1.00     -",
                     "bcd  ░░░░▓▓▓▓   0.25  0.75"]
    narrow = shading.attention(weights, ["a", "bcd"], ["x", "yz"], shading.Ink(), 2, width=20)
    assert narrow[3] == "" and narrow[4:] == show.table_lines(show.cells_of(weights, 2), ["a", "bcd"], ["x", "yz"])


def test_shortened_matrices():
    values = np.arange(20.0).reshape(2, 10)
    assert show.shortened(values, 4, ["a", "b"]) == ["a   0   1   2  ...   9", "b  10  11  12  ...  19"]
    assert show.shortened(values, 12)[0] == " 0   1   2   3   4   5   6   7   8   9"
    assert show.shortened(values, 12, width=16) == [" 0   1  ...   9", "10  11  ...  19"]
    assert show.shortened(values, 12, width=3) == [" 0  ...   9", "10  ...  19"]
    assert show.shortened(values, 2, (), lambda places: [f"c{j}" for j in places])[0] == "c0  ...  c9"


# Refusals and pages

@pytest.mark.parametrize("arguments, message", [
    ([], "the following arguments are required: text"),
    ([""], "the text is empty"), (["  "], "the text is empty"),
    ([TEXT, "--step", "0"], "--step must be within 1-27, got '0'"),
    ([TEXT, "--step", "28"], "--step must be within 1-27"), ([TEXT, "--step", "all"], "--step must look like"),
    ([TEXT, "--layer", "2"], "--layer must be within 0-1, got 2"),
    ([TEXT, "--head", "4"], "--head must be within 0-3, got 4"),
    ([TEXT, "--precision", "0"], "argument --precision: must be a whole number from 1 to 15"),
    ([TEXT, "--top", "65"], "argument --top: must be a whole number from 1 to 64"),
    ([TEXT, "--width", "10"], "argument --width"), ([TEXT, "--layer", "-1"], "argument --layer"),
    ([TEXT, "--max-new-tokens", "65"], "--max-new-tokens must be from 1 to 64"),
    ([TEXT, "--target", "la", "--max-new-tokens", "3"], "--max-new-tokens cannot be given with --target"),
    ([TEXT, "--target", "la xyzzy"], "--target: WordTokenizer: 'xyzzy' is not in the vocabulary"),
    (["the xyzzy"], "text: WordTokenizer: 'xyzzy' is not in the vocabulary"),
    (["no " * 65], "the text has 65 tokens, but the model reads at most 64"),
    ([TEXT, "--ids"], "text: --ids takes whole numbers, got 'the red house'"),
    (["--ids", "5000"], "src[0] is 5000, outside the vocabulary"),
    (["--ids", "4", "--target", ""], "--target is empty"),
    ([TEXT, "--model", "no such folder"], "no such folder: no such folder"),
    ([TEXT, "--html", "x.html", "--step", "3"], "--step cannot be given with --html"),
    ([TEXT, "--html", "x.html", "--layer", "0"], "--layer cannot be given with --html"),
    ([TEXT, "--html", "x.html", "--list"], "--list cannot be given with --html"),
    ([TEXT, "--list", "--head", "0"], "--head cannot be given with --list"),
])
def test_refuses(refuses, arguments, message):
    assert refuses(*arguments).startswith(message)


def test_a_model_without_a_tokenizer(refuses, prints, tmp_path):
    config = rtfast.Config.article()
    rtfast.Transformer(config, random_values(config)).save(tmp_path)
    assert refuses("hello", "--model", tmp_path) == "this model has no tokenizer: give token ids, with --ids"
    assert "    token  0  2\n    id     0  2\n" in prints("--ids", "0,", "2", "--model", tmp_path, "--step", "1,3")


def test_html_to_stdout(prints, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = prints(TEXT, "--html", "-")
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>") and not os.listdir()
    model = rtfast.load()
    assert text == rtfast.page.page_html(model, model.trace(TEXT, max_new_tokens=20))


@pytest.fixture
def page(monkeypatch):
    """A page module that writes what it is given."""
    def write_page(model, trace, path):
        return pathlib.Path(path).write_text(f"{model!r} {trace.tokens}")

    module = types.ModuleType("rtfast.page")
    module.write_page = write_page
    monkeypatch.setitem(sys.modules, "rtfast.page", module)
    monkeypatch.setattr(rtfast, "page", module, raising=False)


def test_html(prints, refuses, page, tmp_path):
    path = tmp_path / "page.html"
    text = prints(TEXT, "--html", path, "--target", "la casa azul")
    assert text == f"{path}: {path.stat().st_size:,} bytes\n"
    assert "['SOS', 'la', 'casa', 'azul']" in path.read_text()
    assert "No such file" in refuses(TEXT, "--html", tmp_path / "none" / "page.html")


def test_nan_is_said(tmp_path):
    config = rtfast.Config.article(residual=False, norm=False)
    rtfast.Transformer.random(config, scale=30.0, vocabulary=article.VOCABULARY).save(tmp_path)
    done = process("hello world", "--model", str(tmp_path), "--max-new-tokens", "2", PYTHONIOENCODING="utf-8")
    assert done.returncode == 0 and re.search(rb"hello +\? +\? +NaN +NaN", done.stdout)
    assert done.stderr.startswith(b"rtfast explain: warning: the result is NaN: it appeared first in encoder")
