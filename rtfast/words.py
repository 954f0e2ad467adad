"""Ids as words that can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rtfast.model import Transformer


def words_of(model: Transformer | None, ids: Iterable[int]) -> list[str]:
    """The words of ids as text: the tokenizer's, or the ids themselves where there is none (or no model, None)."""
    ids = [int(number) for number in ids]
    tokenizer: Any = getattr(model, "tokenizer", None)
    return list(tokenizer.tokens(ids)) if hasattr(tokenizer, "tokens") else [str(number) for number in ids]


def visible(text: str) -> str:
    """Text in which control characters are escaped: none of them moves a cursor or begins a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
