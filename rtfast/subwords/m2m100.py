"""M2M100: a SentencePiece model for the pieces, vocab.json for their ids, and its hundred languages after these."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rtfast.tokenizer import check_ids

from .files import check_text, language, read_sentencepiece, read_words, using, word_id
from .languages import Languages, SeveralLanguages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: In the order of their ids, as fairseq has them.
CODES = (
    "af", "am", "ar", "ast", "az", "ba", "be", "bg", "bn", "br", "bs", "ca", "ceb", "cs", "cy", "da", "de", "el",
    "en", "es", "et", "fa", "ff", "fi", "fr", "fy", "ga", "gd", "gl", "gu", "ha", "he", "hi", "hr", "ht", "hu",
    "hy", "id", "ig", "ilo", "is", "it", "ja", "jv", "ka", "kk", "km", "kn", "ko", "lb", "lg", "ln", "lo", "lt",
    "lv", "mg", "mk", "ml", "mn", "mr", "ms", "my", "ne", "nl", "no", "ns", "oc", "or", "pa", "pl", "ps", "pt",
    "ro", "ru", "sd", "si", "sk", "sl", "so", "sq", "sr", "ss", "su", "sv", "sw", "ta", "th", "tl", "tn", "tr",
    "uk", "ur", "uz", "vi", "wo", "xh", "yi", "yo", "zh", "zu",
)


def read(folder: str, config: dict[str, Any]) -> M2M100Tokenizer:
    """The tokenizer of a folder."""
    words, ids = read_words(folder, "vocab.json")
    for word in ("</s>", "<unk>"):
        word_id(ids, word, os.path.join(folder, "vocab.json"))
    codes = {code: len(words) + i for i, code in enumerate(CODES)}
    source, target = (language(config, name, codes) for name in ("src_lang", "tgt_lang"))
    return M2M100Tokenizer(read_sentencepiece(folder, "sentencepiece.bpe.model"), words, ids,
                           Languages(codes, source, target))


class M2M100Tokenizer(SeveralLanguages):
    """The code of the language, the pieces, EOS."""

    def __init__(self, pieces: Any, words: Sequence[str], ids: Mapping[str, int], languages: Languages) -> None:
        self._pieces, self._ids, self._languages = pieces, ids, languages
        self._words = [*words, *(f"__{code}__" for code in languages.ids)]

    def __len__(self) -> int:
        return len(self._words)

    def __repr__(self) -> str:
        return f"M2M100Tokenizer({len(self)} words)"

    def encode(self, text: str) -> list[int]:
        """The ids of a source text with the special tokens of the family. Raises TypeError for what is no string."""
        return self._marked(text, self._languages.source)

    def encode_target(self, text: str) -> list[int]:
        """The ids of a target text, EOS among them."""
        return self._marked(text, self._languages.target)

    def _marked(self, text: str, code: str | None) -> list[int]:
        unknown = self._ids["<unk>"]
        with using():
            ids = [self._ids.get(piece, unknown) for piece in self._pieces.encode(check_text(text), out_type=str)]
        return self._languages.marked(ids, self._ids["</s>"], code)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, without special tokens. Raises ValueError for one outside the vocabulary."""
        special = {"<s>", "</s>", "<pad>", "<unk>", *self._words[len(self._ids):]}
        pieces = [piece for piece in self.tokens(ids) if piece not in special]
        with using():
            return str(self._pieces.decode_pieces(pieces)).strip()

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The piece of each id, a list of strings. Raises ValueError for one outside the vocabulary."""
        return [self._words[i] for i in check_ids(ids, len(self))]
