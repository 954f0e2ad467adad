"""T5 and mT5 without tokenizer.json: one SentencePiece model, and the sentinels <extra_id_0>, ... after its pieces."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rtfast.config import shown
from rtfast.safetensors_file import CheckpointError
from rtfast.tokenizer import check_ids

from .files import check_text, read_sentencepiece, using
from .languages import OneLanguage

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Most sentinels after the pieces.
MAX_EXTRA = 2**20



def read(folder: str, config: dict[str, Any]) -> T5Tokenizer:
    """The tokenizer of a folder."""
    extra = config.get("extra_ids", 100)
    if type(extra) is not int or not 0 <= extra <= MAX_EXTRA:
        raise CheckpointError(f"{os.path.join(folder, 'tokenizer_config.json')}: extra_ids must be an integer within "
                              f"0..{MAX_EXTRA}, got {shown(extra)}")
    return T5Tokenizer(read_sentencepiece(folder, "spiece.model"), extra)


class T5Tokenizer(OneLanguage):
    """A SentencePiece model; encode adds EOS."""

    def __init__(self, pieces: Any, extra: int) -> None:
        self._pieces, self._extra = pieces, extra

    def __len__(self) -> int:
        return len(self._pieces) + self._extra

    def __repr__(self) -> str:
        return f"T5Tokenizer({len(self)} words)"

    def encode(self, text: str) -> list[int]:
        """The ids of a source text with the special tokens of the family. Raises TypeError for what is no string."""
        with using():
            return [*self._pieces.encode(check_text(text)), self._pieces.eos_id()]

    def encode_target(self, text: str) -> list[int]:
        """The ids of a target text, EOS among them."""
        return self.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, without special tokens. Raises ValueError for one outside the vocabulary."""
        model = self._pieces
        ids = [i for i in check_ids(ids, max(len(self), 1)) if i < len(model) and not model.is_control(i)
               and not model.is_unknown(i)]
        with using():
            return str(model.decode(ids))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The piece of each id, a list of strings. Raises ValueError for one outside the vocabulary."""
        n = len(self._pieces)
        return [self._pieces.id_to_piece(i) if i < n else f"<extra_id_{len(self) - 1 - i}>"
                for i in check_ids(ids, len(self))]
