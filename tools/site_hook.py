"""What mkdocs does beside docs/: CHANGELOG.md and CONTRIBUTING.md become pages, and links that lead out of docs/ stay.

The pages of docs/ are read on a code host too, where `../CONTRIBUTING.md` and `../examples/own_values.py` are right. On
the site the first is a page and the second a file that lies beside the pages; folders, and pages of other folders, are
only named.
"""

import os
import re

from mkdocs.structure.files import File

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
#: Files of the repository's top -> pages of the site.
PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}

_LINK = re.compile(r"\[([^]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def on_files(files, config):
    """Add the pages that are made of the repository's top, and the files that lie beside them."""
    texts = [(file.content_string, "docs") for file in files.documentation_pages()]
    for source, page in PAGES.items():
        if page not in files.src_uris:
            with open(os.path.join(ROOT, source), encoding="utf-8") as file:
                text = file.read()
            texts.append((text, ""))
            files.append(File.generated(config, page, content=_led(text, "")))
    linked = {_from_the_top(path, folder) for text, folder in texts for _, path, _ in _LINK.findall(text)}
    for path in sorted(linked):
        if _lies_beside(path):
            files.append(File.generated(config, path, abs_src_path=os.path.join(ROOT, path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links out of docs/ lead to what `on_files` made of their targets."""
    return markdown if page.file.generated_by else _led(markdown, "docs")


def _from_the_top(path, folder):
    """Where a link in a file of `folder` leads to, seen from the repository's top."""
    return os.path.normpath(os.path.join(folder, path)).replace(os.sep, "/")


def _lies_beside(path):
    """Whether it is a file outside of docs/ that the site takes along."""
    outside = not path.startswith(("docs/", "../"))
    return outside and not path.endswith(".md") and os.path.isfile(os.path.join(ROOT, path))


def _led(text, folder):
    """A text of `folder` with its links as the site has them."""
    def led(link):
        path = _from_the_top(link[2], folder)
        if path in PAGES or path.startswith("docs/") or _lies_beside(path):
            return f"[{link[1]}]({PAGES.get(path, path.removeprefix('docs/'))}{link[3] or ''})"
        return link[1]

    return _LINK.sub(led, text)
