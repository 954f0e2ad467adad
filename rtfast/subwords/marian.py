"""MarianMT (OPUS-MT): SentencePiece for source and target, and vocab.json for the ids of both."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from rtfast.config import shown
from rtfast.safetensors_file import CheckpointError
from rtfast.tokenizer import check_ids

from .files import check_text, read_sentencepiece, read_words, using, word_id
from .languages import OneLanguage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: A target language, as models of several want it: the first word of the source.
_LANGUAGE = re.compile(r">>[^<>]{1,64}<<")
_SPACE = "▁"


def read(folder: str, config: dict[str, Any]) -> MarianTokenizer:
    """The tokenizer of a folder."""
    source = target = read_words(folder, "vocab.json")
    if os.path.exists(os.path.join(folder, "target_vocab.json")):
        target = read_words(folder, "target_vocab.json")
    path = os.path.join(folder, "vocab.json")
    special: dict[str, Any] = {name: config.get(f"{name}_token", default) for name, default in
               (("eos", "</s>"), ("unk", "<unk>"), ("pad", "<pad>"))}
    special = {name: word.get("content") if isinstance(word, dict) else word for name, word in special.items()}
    if not isinstance(special["pad"], str):
        raise CheckpointError(f"{os.path.join(folder, 'tokenizer_config.json')}: pad_token must be a word, got "
                              f"{shown(special['pad'])}")
    for name in ("eos", "unk"):
        word_id(source[1], special[name], path)
        word_id(target[1], special[name], path)
    return MarianTokenizer(read_sentencepiece(folder, "source.spm"), read_sentencepiece(folder, "target.spm"),
                           source, target, special)


class Words:
    """The words of one side."""

    def __init__(self, words: list[str]) -> None:
        self._words = words

    def __len__(self) -> int:
        return len(self._words)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The piece of each id, a list of strings. Raises ValueError for one outside the vocabulary."""
        return [self._words[i] for i in check_ids(ids, len(self._words))]


class MarianTokenizer(OneLanguage):
    """Text to pieces by the SentencePiece model of its side, pieces to ids by the vocabulary of its side."""

    def __init__(self, source: Any, target: Any, source_words: tuple[list[str], dict[str, int]],
                 target_words: tuple[list[str], dict[str, int]], special: dict[str, Any]) -> None:
        self._source, self._target, self._special = source, target, special
        self._ids, self._target_ids = source_words[1], target_words[1]
        self._words = Words(target_words[0])
        #: Names the source's ids, as the tokenizer itself does the target's.
        self.source_words = Words(source_words[0])

    def __len__(self) -> int:
        return len(self._words)

    def __repr__(self) -> str:
        return f"MarianTokenizer({len(self)} words)"

    def encode(self, text: str) -> list[int]:
        """The ids of a source text with the special tokens of the family. Raises TypeError for what is no string."""
        return self._encoded(text, self._source, self._ids)

    def encode_target(self, text: str) -> list[int]:
        """The ids of a target text, EOS among them."""
        return self._encoded(text, self._target, self._target_ids)

    def _encoded(self, text: str, model: Any, ids: Mapping[str, int]) -> list[int]:
        code, unknown = _LANGUAGE.match(check_text(text)), ids[self._special["unk"]]
        pieces = [code.group()] if code else []
        with using():
            pieces += model.encode(text[code.end():] if code else text, out_type=str)
        return [*(ids.get(piece, unknown) for piece in pieces), ids[self._special["eos"]]]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, without special tokens. Raises ValueError for one outside the vocabulary."""
        special = set(self._special.values())
        pieces = [piece for piece in self.tokens(ids) if piece not in special]
        with using():
            return str(self._target.decode_pieces(pieces)).replace(_SPACE, " ").strip()

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The piece of each id of the target, a list of strings. Raises ValueError for one outside the vocabulary."""
        return self._words.tokens(ids)
