"""The guide: its blocks print what it shows, and the notebook is made of it and runs."""

import json
import os
import re
import sys

import numpy as np
import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tools"))
guide = pytest.importorskip("guide", reason="tools/guide.py is not beside the tests")


def test_every_block_prints_what_the_guide_shows(backend):
    values = {"__name__": "__main__"}
    with np.printoptions():
        for part in guide.parts(guide.read()):
            if part.kind == "code":
                printed = guide.run_code(part, values)
                assert guide.agree(part.output, printed), f"line {part.line} shows\n{part.output}but prints\n{printed}"


def test_every_block_is_read():
    """No output without a block that prints it, no code that the pattern of blocks passes over."""
    text, found = guide.read(), guide.parts(guide.read())
    assert text.count("```python\n") == sum(part.kind != "prose" for part in found)
    assert text.count("```text\n") == sum(bool(part.output) for part in found)


def test_the_articles_figures_are_shown():
    """To four decimals, as its blocks print them. The saturated weights are 0 and 1 there."""
    with open(os.path.join(os.path.dirname(__file__), "data", "random_transformer.json"), encoding="utf-8") as file:
        figures = json.load(file)
    shown = set(re.findall(r"-?\d+\.\d*", "".join(part.output for part in guide.parts(guide.read()))))
    expected = {**figures["encoder"]["expected"], **figures["decoder"]["expected"]}
    for name, values in expected.items():
        for value in np.ravel(values):
            text = f"{value:.4f}".rstrip("0")
            assert name in ("weights1", "weights2") or text in shown, f"{name}: {text}"


def test_the_eight_questions_are_answered_by_experiments():
    text = guide.read()
    found = re.findall(r"^### Question (\d)", text, re.MULTILINE)
    assert sorted(found) == list("12345678")
    headings = {_anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    links = re.findall(r"\]\(#([^)]*)\)", text)
    assert len(links) >= 9 and set(links) <= headings
    for section in re.split(r"^### Question ", text, flags=re.MULTILINE)[1:]:
        assert any(part.output for part in guide.parts(section)), section[:60]


def _anchor(heading):
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_links_to_files():
    for link in re.findall(r"\]\(([^)#:]+)\)", guide.read()):
        assert os.path.exists(os.path.join(guide.DOCS, link)), link


def test_the_notebook_is_the_guides():
    with open(guide.NOTEBOOK, encoding="utf-8") as file:
        committed = file.read()
    assert committed == guide.notebook(guide.read()), "run: python tools/guide.py notebook"
    assert len(committed.encode()) < 500_000


def test_agreement():
    assert guide.agree("a 1.5\n", "a 1.5\n") and not guide.agree("a 1.5\n", "a 1.6\n")
    assert not guide.agree("a\n", "a\nb\n") and not guide.agree("", "a\n")
    assert guide.agree("took  1,234.5 ms ...\n", "took 7 ms\n") and not guide.agree("took 1 ms ...\n", "took 1 s\n")


def test_parts_and_new_outputs():
    text = ("# T\n\n```python\nprint(1)\n```\n```text\n2\n```\nprose\n\n```python\nprint(3.5, 'ms')\n```\n"
            "```text\n9.5 ms ...\n```\n<!-- picture a.png\n```python\nf()\n```\n-->\n![a](guide/a.png)\nend\n")
    assert [part.kind for part in guide.parts(text)] == ["prose", "code", "prose", "code", "picture", "prose"]
    assert guide.with_outputs(text) == text.replace("2\n", "1\n", 1)
    assert guide.with_outputs(text, fresh=True) == text.replace("2\n", "1\n", 1).replace("9.5", "3.5")


def test_errors_name_the_guides_line():
    part = guide.parts("one\n\n```python\nok = 1\n1 / 0\n```\n")[1]
    with pytest.raises(ZeroDivisionError) as caught:
        guide.run_code(part, {})
    assert caught.traceback[-1].lineno + 1 == 5


def test_the_notebook_runs(monkeypatch):
    """In a kernel of its own: no errors, the guide's outputs, and a picture wherever it has one."""
    for name in ("nbformat", "ipykernel", "matplotlib"):
        pytest.importorskip(name, reason=f"the notebook needs {name}: pip install -e '.[test]'")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install -e '.[test]'")
    import nbformat

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    book = nbformat.reads(guide.notebook(guide.read()), as_version=4)
    expected = [part for part in guide.parts(guide.read()) if part.kind != "prose"]
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3",
                            resources={"metadata": {"path": guide.DOCS}}).execute()
    cells = [cell for cell in book.cells if cell.cell_type == "code"][1:]  # without %matplotlib
    for part, cell in zip(expected, cells, strict=True):
        printed = "".join(output.text for output in cell.outputs if output.output_type == "stream")
        pictures = [output for output in cell.outputs if "image/png" in json.dumps(output.get("data", {}))]
        assert guide.agree(part.output, printed), f"line {part.line}: {printed}"
        assert len(pictures) == (part.kind == "picture"), f"line {part.line}"
