"""`rtfast translate` over files and pipes: order, whole lines, resuming, n best, memory."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest

import rtfast
from rtfast import cli, line_files, progress

TESTS = os.path.dirname(os.path.abspath(__file__))

SENTENCES = ["the red house", "hello world", "two hundred tables", "my brother reads the book", "",
             "we will dance in the park tomorrow", "is the cat tired ?", "good morning , marta"]


@pytest.fixture(scope="module")
def expected():
    model = rtfast.load()
    return dict(zip(SENTENCES, [model.translate(s) if s else "" for s in SENTENCES], strict=True))


def run(capsys, *arguments):
    """(status, stdout, stderr) of a command line."""
    status = cli.main(["translate", *map(str, arguments)])
    return (status, *capsys.readouterr())


def lines(n):
    return [SENTENCES[i * 5 % len(SENTENCES)] for i in range(n)]


# Files

def test_a_file(capsys, tmp_path, expected):
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    given = lines(1300)
    source.write_text("\n".join(given), encoding="utf-8")  # the last line without its newline
    assert run(capsys, "--input", source, "--output", target) == (0, "", "")
    assert target.read_text(encoding="utf-8") == "".join(expected[line] + "\n" for line in given)
    assert run(capsys, "--input", source)[1] == target.read_text(encoding="utf-8")


@pytest.mark.parametrize("text, out", [
    ("", ""), ("\n", "\n"), ("\n\n", "\n\n"), ("hello world", "hola mundo\n"),
    ("hello world\r\n \r\n", "hola mundo\n\n"),
    ("\thello   world \n", "hola mundo\n")])
def test_blank_lines_and_ends(capsys, tmp_path, text, out):
    (tmp_path / "in.txt").write_bytes(text.encode())
    assert run(capsys, "--input", tmp_path / "in.txt") == (0, out, "")


def test_errors_name_the_line(capsys, tmp_path):
    source = tmp_path / "in.txt"
    for bad, message in ((b"hello w\xffrld", "line 3: not UTF-8"), (b"the crocodile", "line 3: WordTokenizer: "),
                         (b"no " * 65, "line 3: 65 words, but the model reads at most 64 (--truncation cuts)")):
        source.write_bytes(b"hello world\n\n" + bad + b"\nhello world\n")
        status, out, err = run(capsys, "--input", source)
        assert status == 2 and f"rtfast translate: {source}: {message}" in err and not out
    assert run(capsys, "--input", source, "--truncation")[0] == 0
    assert "no such file" in run(capsys, "--input", tmp_path / "none.txt")[2].lower()


def test_the_input_is_never_overwritten(capsys, tmp_path):
    source, link = tmp_path / "in.txt", tmp_path / "link.txt"
    source.write_text("hello world\n")
    link.symlink_to(source)
    for target in (source, link):
        for option in ("--force", "--resume"):
            status, _, err = run(capsys, "--input", source, "--output", target, option)
            assert status == 2 and f"{target}: is the input; --output must be another file" in err
    assert source.read_text() == "hello world\n"


def test_a_dash_is_stdin_and_stdout(tmp_path):
    done = subprocess.run([sys.executable, "-m", "rtfast", "translate", "--input", "-", "--output", "-"], cwd=tmp_path,
                          input=b"hello world\n", capture_output=True, check=True)
    assert done.stdout == b"hola mundo\n" and not os.listdir(tmp_path)


def test_a_mark_of_utf_8_is_no_part_of_the_text(capsys, tmp_path):
    (tmp_path / "in.txt").write_bytes(b"\xef\xbb\xbfhello world\nhello world\n")
    assert run(capsys, "--input", tmp_path / "in.txt") == (0, "hola mundo\n" * 2, "")


@pytest.mark.parametrize("options, message", [
    (["--num-return-sequences", "3"], "--num-return-sequences must be at most --num-beams 1, got 3"),
    (["--length-penalty", "2"], "--length-penalty does nothing without --num-beams of 2 or more")])
def test_options_have_the_command_lines_names(capsys, options, message):
    status, _, err = run(capsys, *options, "hello world")
    assert status == 2 and message in err


def test_an_unknown_word_comes_without_advice_for_programs(capsys):
    status, _, err = run(capsys, "the crocodile")
    assert status == 2 and "'crocodile' is not in the vocabulary" in err and "unknown=" not in err


def test_a_line_that_is_too_long(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(line_files, "MAX_LINE", 2**17)
    (tmp_path / "in.txt").write_bytes(b"hello\n" + b"x" * 2**19)
    assert "line 2 has more than" in run(capsys, "--input", tmp_path / "in.txt")[2]


# Resuming

@pytest.mark.parametrize("there, done", [
    (None, 0), ("", 0), ("hola", 0), ("hola mundo\n", 1), ("hola mundo\nbuenos dí", 1), ("x\ny\nz\n", 3)])
def test_resume(capsys, tmp_path, there, done):
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("hello world\ngood morning\n\nthe red house\n")
    if there is not None:
        target.write_text(there, encoding="utf-8")
    assert run(capsys, "--input", source, "--output", target, "--resume") == (0, "", "")
    whole = ["hola mundo", "buenos días", "", "la casa roja"]
    assert target.read_text(encoding="utf-8").splitlines() == [*(there or "").splitlines()[:done], *whole[done:]]
    assert run(capsys, "--input", source, "--output", target, "--resume")[0] == 0  # nothing is left to do
    assert len(target.read_text(encoding="utf-8").splitlines()) == 4


def test_resume_with_several_lines_each(capsys, tmp_path):
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("hello world\nthe red house\n")
    options = ("--input", source, "--output", target, "--num-beams", 3, "--num-return-sequences", 3)
    assert run(capsys, *options)[0] == 0
    whole = target.read_text(encoding="utf-8")
    target.write_text("".join(whole.splitlines(keepends=True)[:5]), encoding="utf-8")  # the second has two of three
    assert run(capsys, *options, "--resume")[0] == 0
    assert target.read_text(encoding="utf-8") == whole and len(whole.splitlines()) == 6


def test_an_output_that_is_there(capsys, tmp_path):
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("hello world\n")
    target.write_text("mine\n")
    status, _, err = run(capsys, "--input", source, "--output", target)
    assert status == 2 and "is there already; --resume goes on where it ends, --force overwrites it" in err
    assert target.read_text() == "mine\n"
    assert run(capsys, "--input", source, "--output", target, "--force")[0] == 0
    assert target.read_text() == "hola mundo\n"
    target.write_text("1\n2\n")
    status, _, err = run(capsys, "--input", source, "--output", target, "--resume")
    assert status == 2 and "has 1 lines, but the output has 2 already" in err


@pytest.mark.parametrize("options, there", [
    ([], "1\n2\n3\nhalf"), (["--num-return-sequences", 2, "--num-beams", 2], "1\n2\n3\n4\n5\n6\nhalf"),
    ([], "1\nhalf"), ([], "half")])
def test_a_resume_that_is_refused_changes_nothing(capsys, tmp_path, options, there):
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("hello world\nthe crocodile\n")
    target.write_text(there)
    status, _, err = run(capsys, "--input", source, "--output", target, "--resume", *options)
    assert status == 2 and ("has 2 lines, but the output has 3 already" in err or "crocodile" in err)
    assert target.read_text() == there


def test_a_resume_with_nothing_to_do_cuts_half_a_line(capsys, tmp_path):
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("hello world\n")
    target.write_text("hola mundo\nhola mun")
    assert run(capsys, "--input", source, "--output", target, "--resume") == (0, "", "")
    assert target.read_text() == "hola mundo\n"


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices of POSIX")
def test_only_a_file_is_resumed(capsys, tmp_path):
    """Reading a device or a pipe to its end, as a resume does with a file, may take for ever."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "in.txt").write_text("hello world\n")
    for path in (tmp_path / "pipe", "/dev/zero"):
        status, out, err = run(capsys, "--input", tmp_path / "in.txt", "--output", path, "--resume")
        assert (status, out) == (2, "") and err.startswith(f"rtfast translate: {path}: is no regular file")


def elsewhere():
    """How to start a process that finds the installed rtfast, not the repository's."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return {"cwd": TESTS, "env": {**os.environ, "PYTHONPATH": paths, "PYTHONUTF8": "1"}}


def command(*arguments, **more):
    return subprocess.Popen([sys.executable, "-m", "rtfast", "translate", *map(str, arguments)], **elsewhere(), **more)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_stopped_half_way(tmp_path, expected, how):
    source, target, given = tmp_path / "in.txt", tmp_path / "out.txt", lines(6000)
    source.write_text("".join(line + "\n" for line in given))
    # A background job of a shell ignores SIGINT, and so would its children.
    process = command("--input", source, "--output", target, stderr=subprocess.PIPE, text=True,
                      preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    while process.poll() is None and (not target.exists() or target.stat().st_size == 0):
        time.sleep(0.005)
    process.send_signal(getattr(signal, how))
    err = process.communicate()[1]
    if how == "SIGINT" and process.returncode == 130:
        assert "--resume goes on where it ended" in err
    whole, begun = "".join(expected[line] + "\n" for line in given).encode(), target.read_bytes()
    assert begun and whole.startswith(begun)
    if how == "SIGINT":  # a kill stops a write between two pages
        assert begun.endswith(b"\n")
    assert command("--input", source, "--output", target, "--resume").wait() == 0
    assert target.read_bytes() == whole


# Pipes

def test_nobody_waits_for_a_slow_pipe():
    """Each line is answered though no other has come yet."""
    answers = []
    with command(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        for line, answer in (("hello world", "hola mundo"), ("the red house", "la casa roja"), ("", "")):
            process.stdin.write(line + "\n")
            process.stdin.flush()
            reader = threading.Thread(target=lambda: answers.append(process.stdout.readline()))
            reader.start()
            reader.join(20)
            assert answers and answers.pop() == answer + "\n"
        process.stdin.close()
        assert process.wait() == 0


def peak_memory(tmp_path, n):
    """KB that the process takes at most for n lines."""
    source = tmp_path / f"{n}.txt"
    source.write_text("".join(line + "\n" for line in lines(n)))
    code = ("import resource, sys; from rtfast import cli; status = cli.main(sys.argv[1:]); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(status)")
    process = subprocess.run([sys.executable, "-c", code, "translate", "--input", str(source)], capture_output=True,
                             text=True, check=True, **elsewhere())
    assert process.stdout.count("\n") == n
    return int(process.stderr.split()[-1])


def test_memory_does_not_grow_with_the_file(tmp_path):
    few, many = peak_memory(tmp_path, 2000), peak_memory(tmp_path, 30000)
    assert many < few + 10_000


# Options

def test_several_translations_and_scores(capsys):
    model = rtfast.load()
    found = model.translate("the red house", num_beams=3, num_return_sequences=3, return_dict_in_generate=True)
    status, out, _ = run(capsys, "--num-beams", 3, "--num-return-sequences", 3, "--scores", "The red house")
    assert status == 0
    rows = [line.split("\t") for line in out.splitlines()]
    assert [text.lower() for _, text in rows] == [hypothesis.text for hypothesis in found]
    assert [float(score) for score, _ in rows] == pytest.approx([h.score for h in found], abs=1e-6)
    assert float(rows[0][0]) > float(rows[1][0])
    assert run(capsys, "--scores", "hello world")[1].endswith("\thola mundo\n")


@pytest.mark.parametrize("options", [
    {"num_beams": 4, "length_penalty": 0.5}, {"no_repeat_ngram_size": 1}, {"repetition_penalty": 3.0},
    {"max_new_tokens": 2}, {"max_batch_tokens": 5}], ids=str)
def test_options_of_generation(capsys, options):
    arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    text = "the brothers of the brothers read the book"[:-26] + " read the book"
    assert run(capsys, *arguments, text)[1] == rtfast.load().translate(text, **options) + "\n"


def test_prefix_and_stream(capsys):
    assert run(capsys, "--target-prefix", "la mesa", "the red house")[1].startswith("la mesa")
    for sentence in ("the red house", "", " ", "Hello world", "Is the cat tired ?"):
        assert run(capsys, "--stream", sentence) == run(capsys, sentence)
    assert run(capsys, "--stream", "Hello world") == (0, "Hola mundo\n", "")


@pytest.mark.parametrize("arguments, message", [
    (("--input", "x", "hello"), "--input cannot be given with text"),
    (("--output", "x", "hello"), "--output cannot be given with text"),
    (("--resume",), "--resume needs --output FILE"), (("--force",), "--force needs --output FILE"),
    (("--resume", "--force", "--output", "x"), "--resume cannot be given with --force"),
    (("--stream",), "--stream needs one sentence"), (("--stream", "a", "b"), "--stream needs one sentence"),
    (("--stream", "--num-beams", "4", "hello"), "--num-beams cannot be given with --stream"),
    (("--src-lang", "en", "hello"), "no languages"),
    (("--num-return-sequences", "2", "hello"), "at most --num-beams 1"),
    (("--length-penalty", "2", "hello"), "--length-penalty does nothing"),
    (("--model", "nowhere", "hello"), "nowhere"),
    (("--max-new-tokens", "1000", "hello"), "--max-new-tokens must be from"),
    (("--src-lang", "xx", "hello"), "--src-lang and --tgt-lang do nothing here"),
    (("--target-prefix", "crocodile", "hello"), "--target-prefix: WordTokenizer: 'crocodile' is not in the vocabulary"),
    (("--target-prefix", "la " * 70, "hello"), "--target-prefix has 70 tokens, more than"),
    (("max_new_tokens",), "'max_new_tokens' is not in the vocabulary"),
    (("--model", "", "x"), "--model: must be a name, got ''"), (("--input", ""), "--input: must be a name, got ''"),
    (("--output", " "), "--output: must be a name, got ' '")])
def test_what_does_not_fit(capsys, arguments, message):
    status, out, err = run(capsys, *arguments)
    assert status == 2 and message in err and not out


# Progress

def test_progress(capsys, tmp_path, monkeypatch):
    (tmp_path / "in.txt").write_text("hello world\n" * 600)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    status, out, err = run(capsys, "--input", tmp_path / "in.txt", "--progress")
    assert status == 0 and out.count("hola mundo") == 600
    assert "600 lines, " in err and " lines/s, " in err and " tokens/s" in err
    assert run(capsys, "--input", tmp_path / "in.txt")[2] == ""  # stderr is no terminal
    assert run(capsys, "--input", tmp_path / "in.txt", "--quiet")[2] == ""


def test_a_bar(capsys, tmp_path):
    pytest.importorskip("rich", reason="rich is not installed: no bar")
    (tmp_path / "in.txt").write_text("hello world\n" * 600)
    status, out, err = run(capsys, "--input", tmp_path / "in.txt", "--progress")
    assert status == 0 and out.count("hola mundo") == 600
    assert "600 lines" in err and "100%" in err


def at_a_terminal(command, typed=b""):
    """(status, what the terminal shows) of a shell command that has one as its stdin, stdout and stderr."""
    pty = pytest.importorskip("pty", reason="no terminals of this kind here")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(["sh", "-c", command], stdin=theirs, stdout=theirs, stderr=theirs, **elsewhere())
    os.close(theirs)
    os.write(ours, typed)
    shown = b""
    try:
        while block := os.read(ours, 4096):
            shown += block
    except OSError:  # Linux: nobody has the other end
        pass
    os.close(ours)
    return process.wait(60), shown.decode("utf-8").replace("\r\n", "\n")


def wide_lines(tmp_path, capsys):
    """(a shell's command but for the input, the input as a shell reads it, the translations): wider than a terminal."""
    (tmp_path / "in.txt").write_text("the red house\n\nmy brother reads the book\n" * 200)
    prefix = "la casa roja " * 8
    status, out, _ = run(capsys, "--input", tmp_path / "in.txt", "--target-prefix", prefix)
    assert status == 0 and len(out.splitlines()[0]) > 80
    return (f"{shlex.quote(sys.executable)} -m rtfast translate --target-prefix '{prefix}'",
            shlex.quote(str(tmp_path / "in.txt")), out)


def test_a_bar_leaves_the_translation_alone(capsys, tmp_path):
    pytest.importorskip("rich", reason="rich is not installed: no bar")
    translate, source, expected = wide_lines(tmp_path, capsys)
    target = tmp_path / "out.txt"
    for command in (f"{translate} < {source} > {shlex.quote(str(target))}",
                    f"{translate} --input {source} | cat > {shlex.quote(str(target))}"):
        status, shown = at_a_terminal(command)
        assert (status, target.read_text(encoding="utf-8")) == (0, expected)
        assert "600 lines" in shown and "100%" in shown


def test_no_bar_among_lines_on_a_terminal(capsys, tmp_path):
    translate, source, expected = wide_lines(tmp_path, capsys)
    assert at_a_terminal(f"{translate} < {source}") == (0, expected)
    status, shown = at_a_terminal(f"{translate} --progress < {source}")
    said = [line for line in shown.splitlines(keepends=True) if " lines/s, " in line]
    assert status == 0 and said and "".join(line for line in shown.splitlines(keepends=True) if line not in said) == (
        expected)
    translate = f"{shlex.quote(sys.executable)} -m rtfast translate"
    status, shown = at_a_terminal(translate, typed=b"hello world\n\x04")
    assert status == 0 and shown.endswith("\nhola mundo\n") and "\x1b" not in shown
    target = tmp_path / "out.txt"
    status, shown = at_a_terminal(f"{translate} > {shlex.quote(str(target))}", typed=b"hello world\n\x04")
    assert status == 0 and target.read_text() == "hola mundo\n" and "\x1b" not in shown


def test_what_shows_progress(monkeypatch):
    assert type(progress.progress(False, None)) is progress.Nothing
    monkeypatch.setattr("sys.stderr", None)
    assert type(progress.progress(None, None)) is progress.Nothing


def test_the_same_through_a_pipe(expected):
    given = lines(700)
    process = subprocess.run([sys.executable, "-m", "rtfast", "translate"], input="\n".join(given), text=True,
                             capture_output=True, check=True, encoding="utf-8", **elsewhere())
    assert process.stdout == "".join(expected[line] + "\n" for line in given)
