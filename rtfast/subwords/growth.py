"""How much longer a tokenizer's files make a text: what would fill the memory from a few letters is refused.

`tokenizers` and `sentencepiece` set no limit, and the first of them ends the process where there is no memory left.
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

from . import patterns

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A character may become so many. The longest of Unicode's own forms (of U+FDFA) has 18, and replacements of one by
#: three are usual.
MAX_GROWTH = 256
#: Ids of special words that may be added to a text: there are two or three.
MAX_ADDED = 256

#: Fields of SentencePiece's messages: pieces, two specs of replacements, and these in a spec.
_PIECE, _NORMALIZER, _DENORMALIZER, _CHARSMAP = 1, 3, 5, 2
#: The first byte of a field with bytes; of numbers of 8 and 4 bytes.
_BYTES, _EIGHT, _FOUR = 2, 1, 5


def check_json(part: Any) -> None:
    """Raise ValueError for what makes a text more than MAX_GROWTH times as long.

    part: a normalizer, decoder or post-processor as JSON says it. What has not the form of one is refused by
    `tokenizers`.
    """
    growth, before, parts = 1.0, 1, [part]
    while parts:
        part = parts.pop()
        parts += part if isinstance(part, list) else part.values() if isinstance(part, dict) else ()
        if not isinstance(part, dict):
            continue
        pattern, content, prefix = part.get("pattern"), part.get("content"), part.get("prepend")
        if isinstance(pattern, dict) and isinstance(content, str):
            growth *= _growth(pattern, len(content))
        if isinstance(prefix, str):
            before += len(prefix)
        if isinstance(part.get("precompiled_charsmap"), str):
            growth *= longest_replacement(base64.b64decode(part["precompiled_charsmap"]))
        if isinstance(part.get("single"), list):  # a template: how often it has the text
            growth *= max(1, sum("Sequence" in piece for piece in part["single"] if isinstance(piece, dict)))
    _check(growth * before)


def check_sentencepiece(model: bytes) -> None:
    """Raise ValueError for a SentencePiece model that makes a text more than MAX_GROWTH times as long, or is cut."""
    for number, spec in _parts(model):
        if number in (_NORMALIZER, _DENORMALIZER):
            for field, charsmap in _parts(spec):
                if field == _CHARSMAP:
                    _check(longest_replacement(charsmap))


def longest_replacement(charsmap: bytes) -> int:
    """Characters of the longest text by which SentencePiece's table replaces some, 1 at least.

    charsmap: the bytes of an index, after their number in 4 bytes, and texts that end with 0.
    """
    texts = charsmap[4 + int.from_bytes(charsmap[:4], "little"):]
    return max(1, *(len(text.decode("utf-8", "replace")) for text in texts.split(b"\0")))


def _growth(pattern: dict[str, Any], content: int) -> float:
    """Of a replacement by `content` characters."""
    if isinstance(pattern.get("String"), str):
        return max(1.0, content / len(pattern["String"])) if pattern["String"] else content + 1
    if isinstance(pattern.get("Regex"), str):  # what matches nothing does so before every letter
        return max(1, content) if patterns.check_pattern(pattern["Regex"]) else content + 1
    return 1.0


def _check(growth: float) -> None:
    if growth > MAX_GROWTH:
        raise ValueError(f"its replacements may make a text {math.ceil(growth)} times as long, at most {MAX_GROWTH} "
                         "are allowed")


def _parts(message: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of the fields of a protocol buffer that have bytes; SentencePiece's pieces are passed over."""
    at, end = 0, len(message)
    while at < end:
        if message[at] == _PIECE << 3 | _BYTES and at + 1 < end and message[at + 1] < 128:  # 250 thousand, perhaps
            at += 2 + message[at + 1]
            continue
        tag, at = _number(message, at)
        kind, size = tag & 7, 0
        if kind == 0:
            _, at = _number(message, at)
        elif kind == _BYTES:
            size, at = _number(message, at)
            if size <= end - at:
                yield tag >> 3, message[at:at + size]
        elif kind in (_EIGHT, _FOUR):
            size = 8 if kind == _EIGHT else 4
        else:
            raise ValueError("must be a SentencePiece model: there is a field of an unknown kind")
        at += size
    if at > end:
        raise ValueError("must be a SentencePiece model: it is cut short")


def _number(message: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at == len(message):
            raise ValueError("must be a SentencePiece model: it is cut short")
        value |= (message[at] & 127) << shift
        at += 1
        if message[at - 1] < 128:
            return value, at
    raise ValueError("must be a SentencePiece model: a number has no end")
