"""What mkdocs does beside docs/: CHANGELOG.md and CONTRIBUTING.md become pages, and links that lead out of docs/ stay.

The pages of docs/ are read on a code host too, where `../CONTRIBUTING.md` and `../examples/own_values.py` are right. On
the site the first is a page, the second a file that lies beside the pages, and a folder is its name without a link.
"""

import os
import re

from mkdocs.structure.files import File

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
#: Files of the repository's top -> pages of the site.
PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}

_LINK = re.compile(r"\[([^]]*)\]\((\.\./)?([^)#\s:]+)(#[^)\s]*)?\)")


def on_files(files, config):
    """Add the pages that are made of the repository's top, and the files that pages link to outside of docs/."""
    linked = set()
    for file in [*files.documentation_pages()]:
        linked.update(path for _, up, path, _ in _LINK.findall(file.content_string) if up and path not in PAGES)
    for path in sorted(linked):
        if os.path.isfile(os.path.join(ROOT, path)):
            files.append(File.generated(config, path, abs_src_path=os.path.join(ROOT, path)))
    for source, page in PAGES.items():
        if page not in files.src_uris:
            with open(os.path.join(ROOT, source), encoding="utf-8") as text:
                files.append(File.generated(config, page, content=_LINK.sub(_from_the_top, text.read())))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links out of docs/ lead to what `on_files` made of their targets."""
    return _LINK.sub(lambda link: _led(link, link[3]) if link[2] else link[0], markdown)


def _from_the_top(link):
    """A link of a page of the repository's top: it begins with docs/, or leads to another such page."""
    return _led(link, link[3].removeprefix("docs/"))


def _led(link, path):
    if os.path.isdir(os.path.join(ROOT, path)):
        return link[1]
    return f"[{link[1]}]({PAGES.get(path, path)}{link[4] or ''})"
