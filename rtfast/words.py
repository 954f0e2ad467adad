"""Ids as words that can be seen.

A model's output may have more words than its tokenizer: T5, M2M100 and NLLB fill theirs up to a round number. Such ids
have no name: a text leaves them out, where each word is shown they are shown as <300>.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .subwords.missing import MissingTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rtfast.model import Transformer


def reads_ids(tokenizer: object) -> bool:
    """Whether there is a tokenizer, and the package that it needs."""
    return tokenizer is not None and not isinstance(tokenizer, MissingTokenizer)


def text_of(tokenizer: Any, ids: Iterable[int]) -> str:
    """The text of ids, by a tokenizer's `decode`, without those that have no name."""
    words = len(tokenizer) if hasattr(tokenizer, "__len__") else None
    return str(tokenizer.decode([i for i in ids if words is None or i < words]))


def spelled(tokenizer: Any, ids: Iterable[int], source: bool = False) -> list[str] | None:
    """The word of each id, <300> for one without a name; None where the tokenizer shows no words, or there is none.

    source: the ids are of a source, for which a tokenizer may have other words than for a target.
    """
    if source:
        tokenizer = getattr(tokenizer, "source_words", tokenizer)
    if not reads_ids(tokenizer) or not hasattr(tokenizer, "tokens"):
        return None
    ids = [int(number) for number in ids]
    words = len(tokenizer) if hasattr(tokenizer, "__len__") else max(ids, default=0) + 1
    found = iter(tokenizer.tokens([number for number in ids if number < words]))
    return [(next(found, "") if number < words else "") or f"<{number}>" for number in ids]


def words_of(model: Transformer | None, ids: Iterable[int]) -> list[str]:
    """The words of ids as text: the tokenizer's, or the ids themselves where there is none (or no model, None)."""
    ids = [int(number) for number in ids]
    words = spelled(getattr(model, "tokenizer", None), ids)
    return [str(number) for number in ids] if words is None else words


def visible(text: str) -> str:
    """Text in which control characters are escaped: none of them moves a cursor or begins a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
