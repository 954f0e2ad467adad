"""docs/guide.md is the guide's one source: what its blocks print is checked, the notebook is made of it.

    python tools/guide.py run         run the Python blocks, write what they print below them
    python tools/guide.py pictures    draw docs/guide/*.png (needs matplotlib)
    python tools/guide.py notebook    write docs/guide.ipynb

A block of ```python is followed by one of ```text, what it prints. Where a line there ends in "...", its numbers are
the machine's: only its form is compared. A picture is a block of ```python in a comment, <!-- picture NAME.png ...
-->, whose last line is a Figure; the notebook shows its code, the guide its picture where it has a link to it.
"""

import argparse
import ast
import base64
import contextlib
import io
import json
import os
import re
from typing import NamedTuple

DOCS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "docs")
GUIDE, NOTEBOOK, PICTURES = (os.path.join(DOCS, name) for name in ("guide.md", "guide.ipynb", "guide"))
VARIES = " ..."
#: The notebook's first cell.
SHOW_FIGURES = "%matplotlib inline"

_BLOCK = re.compile(
    r"^<!-- picture (?P<name>\S+)\n```python\n(?P<drawing>.*?)^```\n-->\n(?P<link>!\[[^\n]*\]\([^\n]*\)\n)?"
    r"|^```python\n(?P<code>.*?)^```\n(?:```text\n(?P<output>.*?)^```\n)?", re.DOTALL | re.MULTILINE)


class Part(NamedTuple):
    """A piece of the guide. kind: "prose", "code" or "picture"; line: where it begins, from 1 on; output: what the
    guide says that the code prints; name, link: of a picture."""

    kind: str
    text: str
    line: int
    output: str = ""
    name: str = ""
    link: str = ""


def parts(text):
    """The guide's parts in order."""
    found, end = [], 0
    for match in _BLOCK.finditer(text):
        if text[end:match.start()].strip():
            found.append(Part("prose", text[end:match.start()].strip(), text.count("\n", 0, end) + 1))
        line = text.count("\n", 0, match.start("drawing" if match["name"] else "code")) + 1
        if match["name"]:
            found.append(Part("picture", match["drawing"], line, name=match["name"], link=match["link"] or ""))
        else:
            found.append(Part("code", match["code"], line, output=match["output"] or ""))
        end = match.end()
    if text[end:].strip():
        found.append(Part("prose", text[end:].strip(), text.count("\n", 0, end) + 1))
    return found


def run_code(part, values):
    """What a part's code prints, run with `values` as its names; errors tell the guide's lines."""
    source = "\n" * (part.line - 1) + part.text
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, GUIDE, "exec"), values)
    return printed.getvalue()


def figure_of(part, values):
    """The Figure that a picture's last line is."""
    tree = ast.parse("\n" * (part.line - 1) + part.text, GUIDE)
    last = ast.Expression(tree.body.pop().value)
    exec(compile(tree, GUIDE, "exec"), values)
    return eval(compile(last, GUIDE, "eval"), values)


def agree(shown, printed):
    """Whether output is what the guide shows: line by line the same, or the same but for numbers where it varies."""
    shown, printed = shown.splitlines(), printed.splitlines()
    return len(shown) == len(printed) and all(map(_agree, shown, printed))


def _agree(shown, printed):
    if shown.endswith(VARIES):
        return _form(shown[:-len(VARIES)]) == _form(printed)
    return shown == printed


def _form(line):
    """The line with every number and every space alike."""
    return re.sub(r"\s+", " ", re.sub(r"[\d.,]*\d", "0", line)).strip()


def with_outputs(text, fresh=False):
    """The guide's text with what its blocks print now; fresh: with new numbers in lines that vary, too."""
    values, new, end = {"__name__": "__main__"}, [], 0
    for match in _BLOCK.finditer(text):
        if match["name"]:
            continue
        part = Part("code", match["code"], text.count("\n", 0, match.start("code")) + 1)
        printed = run_code(part, values)
        old = [line for line in (match["output"] or "").splitlines() if line.endswith(VARIES)]
        lines = printed.splitlines()
        for i, line in enumerate(lines):
            kept = next((kept for kept in old if _agree(kept, line)), None)
            if kept is not None:
                lines[i] = line + VARIES if fresh else kept
        output = "```text\n" + "".join(line + "\n" for line in lines) + "```\n" if lines else ""
        new += [text[end:match.start()], f"```python\n{part.text}```\n", output]
        end = match.end()
    return "".join([*new, text[end:]])


def draw(text):
    """Draw every picture of the guide into docs/guide."""
    os.makedirs(PICTURES, exist_ok=True)
    values = {"__name__": "__main__"}
    for part in parts(text):
        if part.kind == "code":
            run_code(part, values)
        elif part.kind == "picture":
            figure_of(part, values).savefig(os.path.join(PICTURES, part.name), dpi=80, metadata={"Software": None})


def notebook(text):
    """docs/guide.ipynb as text: the guide's prose and code, its outputs and pictures as they are in docs."""
    cells = []
    for i, part in enumerate([Part("code", SHOW_FIGURES, 0), *parts(text)]):
        cell = {"cell_type": "markdown" if part.kind == "prose" else "code", "id": f"part-{i}", "metadata": {},
                "source": part.text.rstrip("\n").splitlines(keepends=True)}
        if part.kind != "prose":
            cell |= {"execution_count": None, "outputs": _outputs(part)}
        cells.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": cells, "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
             "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _outputs(part):
    if part.kind == "picture":
        with open(os.path.join(PICTURES, part.name), "rb") as file:
            data = {"image/png": base64.b64encode(file.read()).decode()}
        return [{"data": data, "metadata": {}, "output_type": "display_data"}]
    if not part.output:
        return []
    return [{"name": "stdout", "output_type": "stream", "text": part.output.splitlines(keepends=True)}]


def read():
    """The guide's text."""
    with open(GUIDE, encoding="utf-8") as file:
        return file.read()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "pictures", "notebook"])
    parser.add_argument("--fresh", action="store_true", help="run: new numbers in the lines that vary, too")
    arguments, text = parser.parse_args(), read()
    what = arguments.what
    if what == "pictures":
        draw(text)
        return
    path, made = (GUIDE, with_outputs(text, arguments.fresh)) if what == "run" else (NOTEBOOK, notebook(text))
    with open(path, "w", encoding="utf-8") as file:
        file.write(made)


if __name__ == "__main__":
    main()
