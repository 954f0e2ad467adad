"""Examples in docstrings (>>> ...) as blocks of code on the site's reference: Markdown takes them for quotations."""

import re

import griffe

#: A paragraph that begins with a prompt.
_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class Examples(griffe.Extension):
    """Puts a fence round every example."""

    def on_package(self, *, pkg, **_):
        """The whole package was read: griffe's name for this."""
        _fence(pkg)


def _fence(found):
    if found.docstring is not None:
        found.docstring.value = _EXAMPLE.sub(lambda example: f"```pycon\n{example[0]}\n```", found.docstring.value)
    for member in found.members.values():
        if not member.is_alias:
            _fence(member)
