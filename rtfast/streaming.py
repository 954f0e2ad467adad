"""Text while it is generated: the pieces that are sure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .words import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rtfast.typing import Tokenizer


def stream_text(ids: Iterable[int], tokenizer: Tokenizer) -> Iterator[str]:
    """Pieces of text of an iterable of ids; side by side they are the text of all of them."""
    so_far, shown = [], ""
    for token in ids:
        so_far.append(token)
        text = text_of(tokenizer, so_far)
        # A character may take several tokens: until the last one it decodes to a replacement character.
        if text.startswith(shown) and len(text) > len(shown) and not text.endswith("\ufffd"):
            yield text[len(shown):]
            shown = text
    text = text_of(tokenizer, so_far) if so_far else ""
    if len(text) > len(shown):
        yield text[len(shown):]
