"""`write_page`: one HTML file in which a person walks the whole way of a transformer, every number the engine's own.

data.py says what is embedded, origins.py how each number came about, walk.py in which order and words it is shown;
page.html, page.css and the scripts beside them show it. The file loads nothing: it works from disk.
"""

from __future__ import annotations

import html
import json
import os
import re
from typing import TYPE_CHECKING

from rtfast.paths import path_of, write_file

from .data import page_data

if TYPE_CHECKING:
    from rtfast.model import Transformer
    from rtfast.trace import Trace
    from rtfast.typing import StrPath

#: The scripts in the order in which they are put together.
SCRIPTS = ("numbers.js", "explain.js", "matrix.js", "panel.js", "attention.js", "words.js", "map.js", "walk.js",
           "main.js")

_FOLDER = os.path.dirname(__file__)


def page_html(model: Transformer, trace: Trace, *, weights: bool | None = None) -> str:
    """The page of one traced sentence, a string of HTML.

    model: the `Transformer` that was traced; trace: what `model.trace` gave for one sentence. weights: whether the
    layers' weights are embedded too; None does so where they take 20 MB or less.

    Raises TypeError where model or trace are something else, ValueError for a trace of a batch.
    """
    data = page_data(model, trace, weights)
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for mark in "<>&":  # so that no word can end the script element, nor begin a comment in it
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    parts = {
        "title": html.escape(data["title"].encode("utf-8", "replace").decode()),
        "style": _read("page.css"),
        "script": "\n".join(_read(name) for name in SCRIPTS),
        "data": text,
    }
    return re.sub(r"<!-- insert (\w+) -->", lambda match: parts[match[1]], _read("page.html"))


def write_page(model: Transformer, trace: Trace, path: StrPath, *, weights: bool | None = None) -> int:
    """Write `page_html(model, trace, weights=weights)` to the file `path`, whole or not at all; returns its bytes.

    Raises as that, TypeError for a path that is none, OSError.
    """
    path = path_of(path)
    text = page_html(model, trace, weights=weights).encode()
    write_file(path, text)
    return len(text)


def _read(name: str) -> str:
    with open(os.path.join(_FOLDER, name), encoding="utf-8") as file:
        return file.read()
