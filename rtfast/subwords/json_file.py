"""tokenizer.json, by the package `tokenizers`: T5, BART, mBART, NLLB, and whoever else has it."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

from rtfast.tokenizer import check_ids

from . import growth, patterns
from .files import check_text, language, naming, read_file, using
from .languages import Languages, OneLanguage, SeveralLanguages

if TYPE_CHECKING:
    from collections.abc import Iterable

#: tokenizer_class without "Fast" -> (how the codes of its languages look, how `Languages` marks a text with them)
_LANGUAGES = {
    "NllbTokenizer": (r"[a-z]{3}_[A-Z][a-z]{3}", {}),
    "MBartTokenizer": (r"[a-z]{2}_[A-Z]{2}", {"after": True, "start": True}),
    "MBart50Tokenizer": (r"[a-z]{2}_[A-Z]{2}", {}),
}
#: Characters of a word that WordPiece cuts, and of the mark of its later pieces: BERT has 100 and 2.
MAX_WORDPIECE = 256
_NORMALIZER = re.compile(r'"normalizer"[ \t\r\n]*:[ \t\r\n]*')


def read(folder: str, config: dict[str, Any]) -> JsonTokenizer:
    """The tokenizer of a folder."""
    import tokenizers

    path = os.path.join(folder, "tokenizer.json")
    with naming(path):
        text = read_file(folder, "tokenizer.json").decode("utf-8")
        patterns.check(text)
        for match in _NORMALIZER.finditer(text):  # which the added tokens go through as soon as the file is read
            growth.check_json(json.JSONDecoder().raw_decode(text, match.end())[0])
        tokenizer = tokenizers.Tokenizer.from_str(text)
        _check(tokenizer)
        tokenizer.no_truncation()  # what is too long is an error of the model's
        tokenizer.no_padding()
        pattern, form = _LANGUAGES.get(str(config.get("tokenizer_class")).removesuffix("Fast"), (None, {}))
        if pattern is None:
            return JsonTokenizer(tokenizer)
        added = {token.content: i for i, token in sorted(tokenizer.get_added_tokens_decoder().items())}
        codes = {word: i for word, i in added.items() if re.fullmatch(pattern, word)}
        eos = tokenizer.token_to_id("</s>")
        if eos is None or not codes:
            raise ValueError("a tokenizer of several languages must have </s> and their codes among its added tokens")
        source, target = (language(config, name, codes) for name in ("src_lang", "tgt_lang"))
        return LanguagesJsonTokenizer(tokenizer, Languages(codes, source, target, **form), eos)


def _check(tokenizer: Any) -> None:
    """Raise ValueError for one that a short text can keep busy for long, or fill the memory with."""
    for part in (tokenizer.normalizer, tokenizer.decoder, tokenizer.post_processor):
        if part is not None:
            growth.check_json(json.loads(part.__getstate__()))
    added = tokenizer.num_special_tokens_to_add(False)
    if added > growth.MAX_ADDED:
        raise ValueError(f"its template must add at most {growth.MAX_ADDED} ids to a text, got {added}")
    for name in ("max_input_chars_per_word", "continuing_subword_prefix"):  # WordPiece, cubic in the length of a word
        value = getattr(tokenizer.model, name, None) or 0
        length = len(value) if isinstance(value, str) else value
        if length > MAX_WORDPIECE:
            raise ValueError(f"{name} must be at most {MAX_WORDPIECE}, got {length}")


class JsonTokenizer(OneLanguage):
    """A `tokenizers.Tokenizer`; special tokens as its file says."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._n_words = max(tokenizer.get_vocab().values(), default=-1) + 1  # some ids may be nobody's

    def __len__(self) -> int:
        return self._n_words

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} words)"

    def encode(self, text: str) -> list[int]:
        """The ids of a source text with the special tokens of the family. Raises TypeError for what is no string."""
        with using():
            return list(self._tokenizer.encode(check_text(text)).ids)

    def encode_target(self, text: str) -> list[int]:
        """The ids of a target text, EOS among them."""
        return self.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, without special tokens. Raises ValueError for one outside the vocabulary."""
        known = check_ids(ids, len(self))
        with using():
            return str(self._tokenizer.decode(known))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The piece of each id, a list of strings. Raises ValueError for one outside the vocabulary."""
        return [self._tokenizer.id_to_token(i) or "" for i in check_ids(ids, len(self))]


class LanguagesJsonTokenizer(SeveralLanguages, JsonTokenizer):
    """The same with a source and a target language."""

    def __init__(self, tokenizer: Any, languages: Languages, eos: int) -> None:
        super().__init__(tokenizer)
        self._languages, self._eos = languages, eos

    def encode(self, text: str) -> list[int]:
        """The ids of a source text, marked with the source language."""
        return self._marked(text, self._languages.source)

    def encode_target(self, text: str) -> list[int]:
        """The ids of a target text, marked with the target language."""
        return self._marked(text, self._languages.target)

    def _marked(self, text: str, code: str | None) -> list[int]:
        with using():
            ids = self._tokenizer.encode(check_text(text), add_special_tokens=False).ids
        return self._languages.marked(ids, self._eos, code)
