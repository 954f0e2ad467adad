"""The article's word tokenizer: a word is a token, its id is its place in a given vocabulary."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from typing import Any

#: Longer words are refused, so that cutting a text stays linear in its length whatever the vocabulary.
MAX_WORD = 256
#: Words without a letter or digit of so many characters at most are looked for in every word that is unknown.
MAX_MARK = 16

_NO_SPACE_BEFORE = frozenset(".,;:!?%)]}…»”’。，！？、")
_NO_SPACE_AFTER = frozenset("([{¿¡«“‘")


class WordTokenizer:
    """Words to ids and back, over a fixed vocabulary.

    vocabulary: an iterable of distinct, non-empty words without white space; a word's id is its index.
    sos, eos: the words that start and end a sequence; they must be in the vocabulary. unknown: the word that
    stands for all others, None to make an unknown word an error.

    Raises TypeError for words that are not strings; ValueError for an empty vocabulary, an empty or repeated
    word, one with white space, of more than 256 characters or not valid Unicode, and a special word that is missing.

    >>> tokenizer = WordTokenizer(["SOS", "EOS", "hello", "world", "!"])
    >>> tokenizer.encode("Hello world!")
    [2, 3, 4]
    >>> tokenizer.decode([2, 3, 4, 1])
    'hello world!'
    """

    def __init__(self, vocabulary: Iterable[str], sos: str = "SOS", eos: str = "EOS",
                 unknown: str | None = None) -> None:
        self._words = _checked_words(vocabulary)
        self._ids = {word: i for i, word in enumerate(self._words)}
        self._special: dict[str, Any] = {"sos": sos, "eos": eos, "unknown": unknown}
        for role, word in self._special.items():
            if word is None and role == "unknown":
                continue
            if not isinstance(word, str):
                raise TypeError(f"WordTokenizer: {role} must be a word of the vocabulary, got {word!r}")
            if word not in self._ids:
                raise ValueError(f"WordTokenizer: {role} must be in the vocabulary, {word!r} is not")
        self._marks = {word for word in self._words if len(word) <= MAX_MARK and not any(map(str.isalnum, word))}
        self._mark_starts = {mark[0] for mark in self._marks}
        self._mark_lengths = sorted({len(mark) for mark in self._marks}, reverse=True)
        self._most_pieces = max(len(self._cut(word)) for word in self._words)  # of "don't": 3

    def __len__(self) -> int:
        return len(self._words)

    def __repr__(self) -> str:
        return f"WordTokenizer({len(self)} words, sos={self._special['sos']!r}, eos={self._special['eos']!r})"

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words, in the order of their ids: a tuple of strings."""
        return self._words

    @property
    def sos_id(self) -> int:
        """Id of the word that starts a sequence."""
        return self._ids[self._special["sos"]]

    @property
    def eos_id(self) -> int:
        """Id of the word that ends a sequence."""
        return self._ids[self._special["eos"]]

    def encode(self, text: str) -> list[int]:
        """The ids of the words of `text`, a list of ints, without sos or eos.

        Words are separated by white space. A word that is not in the vocabulary is looked for in lower case,
        then cut at the punctuation marks that the vocabulary holds, words without a letter or digit of up to 16
        characters; sos and eos are words like any other.
        Raises TypeError unless text is a string, ValueError naming an unknown word and its place where there
        is no `unknown` word.
        """
        if not isinstance(text, str):
            raise TypeError(f"WordTokenizer: text must be a string, got {type(text).__name__}")
        ids = []
        for number, match in enumerate(re.finditer(r"\S+", text)):
            whole = self._find(match.group())
            if whole is not None:
                ids.append(whole)
            else:
                self._encode_pieces(match, number, ids)
        return ids

    def _encode_pieces(self, match: re.Match[str], number: int, ids: list[int]) -> None:
        """Append the ids of one unknown word's pieces; the longest known run of pieces ("don't") wins."""
        pieces = self._cut(match.group())
        start = 0
        while start < len(pieces):
            for end in range(min(start + self._most_pieces, len(pieces)), start, -1):
                found = self._find("".join(pieces[start:end]))
                if found is not None:
                    break
            else:
                end, found = start + 1, self._unknown_id(pieces[start], match, number)
            ids.append(found)
            start = end

    def _cut(self, word: str) -> list[str]:
        """The marks in `word`, the longest first where several begin, and what is between them."""
        pieces, start, at = [], 0, 0
        while at < len(word):
            mark = self._mark_at(word, at) if word[at] in self._mark_starts else ""
            if mark:
                pieces += [word[start:at], mark] if start < at else [mark]
                start = at + len(mark)
            at += len(mark) or 1
        return [*pieces, word[start:]] if start < len(word) else pieces

    def _mark_at(self, word: str, at: int) -> str:
        return next((word[at:at + n] for n in self._mark_lengths if word[at:at + n] in self._marks), "")

    def _find(self, word: str) -> int | None:
        """Id of the word, or of its lower-case form; None if the vocabulary has neither."""
        found = self._ids.get(word)
        return self._ids.get(word.lower()) if found is None else found

    def _unknown_id(self, piece: str, match: re.Match[str], number: int) -> int:
        if self._special["unknown"] is not None:
            return self._ids[self._special["unknown"]]
        shown = piece if len(piece) <= 60 else piece[:57] + "..."
        raise ValueError(
            f"WordTokenizer: {shown!r} is not in the vocabulary (word {number + 1} of the text, at character "
            f"{match.start()}); a WordTokenizer made with unknown= one of its words takes that for all such words")

    def encode_target(self, text: str) -> list[int]:
        """As `encode`: source and target have the same words."""
        return self.encode(text)

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The words of `ids` as one string, without spaces before punctuation marks.

        skip_special leaves out sos and eos. Raises as `tokens` does.
        """
        words = self.tokens(ids)
        if skip_special:
            words = [word for word in words if word not in (self._special["sos"], self._special["eos"])]
        text = []
        for i, word in enumerate(words):
            if i and not _NO_SPACE_BEFORE.issuperset(word) and not _NO_SPACE_AFTER.issuperset(words[i - 1]):
                text.append(" ")
            text.append(word)
        return "".join(text)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The word of each id, a list of strings.

        ids: an iterable of integers. Raises TypeError for anything else, ValueError for one outside the vocabulary.
        """
        return [self._words[i] for i in check_ids(ids, len(self))]

    def to_dict(self) -> dict[str, Any]:
        """What `WordTokenizer.from_dict` needs to make an equal tokenizer; plain values, for JSON."""
        return {"type": "word", "vocabulary": list(self._words), **self._special}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> WordTokenizer:
        """The tokenizer of a dict made by `to_dict`.

        Raises TypeError for anything but a dict with a list of words, ValueError for another type of
        tokenizer, missing or unknown fields, and what `WordTokenizer` raises.
        """
        if not isinstance(fields, dict):
            raise TypeError(f"WordTokenizer: fields must be a dict, got {type(fields).__name__}")
        wanted = ("type", "vocabulary", "sos", "eos", "unknown")
        if set(fields) != set(wanted):
            raise ValueError(
                f"WordTokenizer: fields must be {', '.join(wanted)}, got {', '.join(map(str, fields))[:200]}")
        if fields["type"] != "word":
            raise ValueError(f"WordTokenizer: type must be 'word', got {fields['type']!r}"[:200])
        words = fields["vocabulary"]
        if not isinstance(words, list):
            raise TypeError(f"WordTokenizer: vocabulary must be a list, got {type(words).__name__}")
        return cls(words, fields["sos"], fields["eos"], fields["unknown"])


def check_ids(ids: Iterable[int], words: int) -> list[int]:
    """Ids as plain integers; TypeError for anything else, ValueError for one outside a vocabulary of so many words."""
    if not isinstance(ids, Iterable):
        raise TypeError(f"ids must be a list of integers, got {type(ids).__name__}")
    numbers = []
    for place, value in enumerate(ids):
        try:
            number = operator.index(value)
        except TypeError:
            number = None
        if number is None or isinstance(value, bool):
            raise TypeError(f"ids must be integers, got {type(value).__name__} at [{place}]")
        if not 0 <= number < words:
            raise ValueError(f"ids must be within the vocabulary of {words} words, got {number} at [{place}]")
        numbers.append(number)
    return numbers


def _checked_words(vocabulary: Iterable[str]) -> tuple[str, ...]:
    if isinstance(vocabulary, (str, bytes)) or not isinstance(vocabulary, Iterable):
        raise TypeError(f"WordTokenizer: vocabulary must be a list, got {type(vocabulary).__name__}")
    words = tuple(vocabulary)
    if not words:
        raise ValueError("WordTokenizer: vocabulary must have at least one word, got none")
    first: dict[str, int] = {}
    for i, word in enumerate(words):
        if not isinstance(word, str):
            raise TypeError(
                f"WordTokenizer: vocabulary must hold strings, got {type(word).__name__} at [{i}]")
        if not word or len(word) > MAX_WORD or word.split() != [word]:
            raise ValueError(
                f"WordTokenizer: a word must be 1 to {MAX_WORD} characters without white space, "
                f"got {word[:MAX_WORD]!r} at [{i}]")
        try:
            word.encode()
        except UnicodeEncodeError:
            raise ValueError(f"WordTokenizer: a word must be valid Unicode, got {word!r} at [{i}]") from None
        if first.setdefault(word, i) != i:
            raise ValueError(
                f"WordTokenizer: words must be distinct, got {word!r} at [{first[word]}] and [{i}]")
    return words
