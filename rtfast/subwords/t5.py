"""T5 and mT5 without tokenizer.json: one SentencePiece model, and the sentinels <extra_id_0>, ... after its pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .files import check_ids, check_text, read_sentencepiece
from .languages import OneLanguage

if TYPE_CHECKING:
    from collections.abc import Iterable


def read(folder: str, fields: dict[str, Any], config: dict[str, Any]) -> T5Tokenizer:
    """The tokenizer of a folder."""
    extra = config.get("extra_ids", 100)
    return T5Tokenizer(read_sentencepiece(folder, "spiece.model"), extra if type(extra) is int and extra >= 0 else 100)


class T5Tokenizer(OneLanguage):
    """A SentencePiece model; encode adds EOS."""

    def __init__(self, pieces: Any, extra: int) -> None:
        self._pieces, self._extra = pieces, extra

    def __len__(self) -> int:
        return len(self._pieces) + self._extra

    def __repr__(self) -> str:
        return f"T5Tokenizer({len(self)} words)"

    def encode(self, text: str) -> list[int]:
        return [*self._pieces.encode(check_text(text)), self._pieces.eos_id()]

    def encode_target(self, text: str) -> list[int]:
        return self.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        model = self._pieces
        ids = [i for i in check_ids(ids, max(len(self), 1)) if i < len(model) and not model.is_control(i)
               and not model.is_unknown(i)]
        return str(model.decode(ids))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        n = len(self._pieces)
        return [self._pieces.id_to_piece(i) if i < n else f"<extra_id_{len(self) - 1 - i}>"
                for i in check_ids(ids, len(self))]
