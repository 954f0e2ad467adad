"""The pages of docs/: their Python runs, and links and pictures lead to something."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
#: Pages whose Python blocks are one program each. The guide has a test of its own, which compares what is printed.
RUN = ("index", "quickstart", "translate", "explain", "embed")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


@pytest.mark.parametrize("name", RUN)
def test_python_of_the_pages_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((DOCS / f"{name}.md").read_text(encoding="utf-8"))
    assert blocks
    session = {}
    for block in blocks:
        exec(compile(block, f"docs/{name}.md", "exec"), session)
    assert capsys.readouterr().out


@pytest.mark.parametrize("page", [*sorted(DOCS.glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "README.md"],
                         ids=lambda path: path.name)
def test_links_lead_to_something(page):
    missing = [target for target in LINK.findall(page.read_text(encoding="utf-8"))
               if "://" not in target and not (page.parent / target).exists()]
    assert not missing


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r"(\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == {path.name for path in DOCS.glob("*.md")} | {"changelog.md", "contributing.md"}
