"""Regular expressions of a tokenizer.json, before `tokenizers` compiles them: what takes for ever is refused.

Its engine (Oniguruma) backtracks: "(a+)+$" doubles its time with every letter, "a*a*[xyz]" is cubic in the text, and a
long pattern without case is slow to compile. What is accepted here takes time of at most the text's length squared,
as the patterns of GPT-2 and Llama do in theory, and a bounded factor. Constructs that no tokenizer needs, such as
references back, are refused too: this reader must read a pattern as the engine does.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

#: Patterns of a file, and their characters together: DeepSeek has four, the longest ones have some 500.
MAX_PATTERNS, MAX_LENGTH = 64, 8192
#: Groups within groups, and the largest number in braces.
MAX_DEPTH, MAX_REPEAT = 32, 1000
#: Ways to match one place, but for the lengths of what has no bound: "(?:a|b)?c{1,3}" has 9.
MAX_WAYS = 1000
#: The same of those in which a repetition without bound is tried again at every length: o200k has 30.
MAX_SLOW_WAYS = 64

#: A key "Regex" and where its value begins; a letter that is written as a number, as one of a key may be.
_KEY = re.compile(r'"Regex"[ \t\r\n]*:[ \t\r\n]*(?=")')
_HIDDEN_LETTER = re.compile(r"(?<!\\)(?:\\\\)*\\u00(?:[46][1-9A-Fa-f]|[57][0-9Aa])")

_REPEAT = re.compile(r"\{(?:(\d+)(,?)(\d*)|,(\d+))\}", re.ASCII)
_SHORT = {"?": (0, 1), "*": (0, None), "+": (1, None)}
_GROUP = re.compile(r"\?(?::|>|<?[=!]|<[A-Za-z_]\w{0,63}>|(?=[im-])[im]*-?[im]*(?=[:)]):?)", re.ASCII)
_ESCAPE = re.compile(r"\\(?:[pP]\{\^?[\w \-=]{1,64}\}|x\{[0-9A-Fa-f]{1,8}\}|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}"
                     r"|[dDwWsShHtnrfvaebBAzZG]|0(?![0-7])|[^\w])", re.DOTALL | re.ASCII)
#: What is left of a class of single ASCII letters and ranges of them.
_PLAIN_CLASS = re.compile(r"[!-Z_-~ ]*\]")
_POSIX = re.compile(r"\[:\^?(?:alnum|alpha|ascii|blank|cntrl|digit|graph|lower|print|punct|space|upper|word|xdigit):\]")


class _Node(NamedTuple):
    """What is known of a part of a pattern.

    ways: in which it may match at one place, lengths of what has no bound not counted. retried: how many repetitions
    without bound are tried again at every length when what follows them fails; last: how many of them nothing has
    followed so far. fails: whether it may not match at all. least: characters that it matches at least. slow: how many
    of its ways have something that is retried.
    """

    ways: int = 1
    retried: int = 0
    last: int = 0
    fails: bool = True
    least: int = 1
    slow: int = 0


def check(text: str) -> None:
    """Raise ValueError for a tokenizer.json one of whose regular expressions may take for ever."""
    if _HIDDEN_LETTER.search(text):
        raise ValueError("its letters must be written as letters, not as \\u0065")
    length = 0
    for number, match in enumerate(_KEY.finditer(text)):
        pattern, _ = json.JSONDecoder().raw_decode(text, match.end())
        length += len(pattern)
        if length > MAX_LENGTH or number == MAX_PATTERNS:
            raise ValueError(f"its regular expressions must be at most {MAX_PATTERNS}, of {MAX_LENGTH} characters in "
                             "all")
        check_pattern(pattern)


def check_pattern(pattern: str) -> bool:
    """Whether a regular expression matches one character at least.

    Raises ValueError for one that may take for ever, or that is not understood here.
    """
    try:
        reader = _Reader(pattern)
        node = reader.alternatives(0)
        if reader.at < len(pattern):
            raise ValueError("a parenthesis closes nothing")
        return _bounded(node).least > 0
    except ValueError as error:
        raise ValueError(f"regular expression {pattern[:200]!r}: {error}") from None


def _bounded(node: _Node) -> _Node:
    for ways, most in ((node.ways, MAX_WAYS), (node.slow, MAX_SLOW_WAYS)):
        if ways > most:
            raise ValueError(f"more than {most} ways to match the same text")
    if node.retried > 1:
        raise ValueError("repetitions without bound one after the other, before something that may fail: slow on "
                         "long texts")
    return node


class _Reader:
    """Reads a pattern from left to right."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.at = pattern, 0
        self.folds = False  # whether case does not count here

    def _here(self, text: str) -> bool:
        """Whether `text` comes next: then it is read."""
        found = self.pattern.startswith(text, self.at)
        self.at += len(text) * found
        return found

    def _match(self, expression: re.Pattern[str]) -> re.Match[str] | None:
        match = expression.match(self.pattern, self.at)
        self.at = self.at if match is None else match.end()
        return match

    def alternatives(self, depth: int) -> _Node:
        """All up to the group's end, which is not read."""
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} groups within groups")
        node = self._sequence(depth)
        while self._here("|"):
            other = self._sequence(depth)
            node = _bounded(_Node(node.ways + other.ways, max(node.retried, other.retried),
                                  max(node.last, other.last), node.fails and other.fails,
                                  min(node.least, other.least), node.slow + other.slow))
        return node

    def _sequence(self, depth: int) -> _Node:
        ways, retried, last, fails, least, slow = 1, 0, 0, False, 0, 0
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            part = self._repeated(self._part(depth))
            if part.fails:
                slow = ways if last else slow
                retried, last, fails = retried + last, 0, True
            slow = ways * part.ways if slow == ways else slow * part.ways + ways * part.slow
            ways, retried, last = ways * part.ways, retried + part.retried, last + part.last
            least += part.least
            _bounded(_Node(ways, retried, slow=slow))
        return _Node(ways, retried, last, fails, least, slow)

    def _part(self, depth: int) -> _Node:
        letter = self.pattern[self.at]
        if letter in _SHORT or _REPEAT.match(self.pattern, self.at):
            raise ValueError("a repetition of nothing, or of a repetition")
        if letter == "\\":
            if not self._match(_ESCAPE):
                raise ValueError(f"{self.pattern[self.at:self.at + 2]!r} is not supported")
            return _Node(least=self.pattern[self.at - 1] not in "bBAzZG" or self.pattern[self.at - 2] != "\\")
        self.at += 1
        if letter in "^$":
            return _Node(least=0)
        if letter == "[":
            begin = self.at
            self._character_class()
            # Without case the engine takes [\u00df] for one letter, or for the two of "ss".
            return _Node(2 if self.folds and not _PLAIN_CLASS.match(self.pattern, begin) else 1)
        if letter == "(":
            return self._group(depth)
        return _Node()

    def _character_class(self) -> None:
        """The rest of [...], classes within it and all."""
        open_classes = 1
        self._begin_class()
        while open_classes:
            if self._match(_POSIX) or self._match(_ESCAPE):
                continue
            if self._here("]"):
                open_classes -= 1
            elif self._here("["):
                open_classes += 1
                self._begin_class()
            elif self.at == len(self.pattern) or self.pattern[self.at] == "\\":
                raise ValueError("a class that does not end, or that is not supported")
            else:
                self.at += 1

    def _begin_class(self) -> None:
        """What comes after "[": the engine has rules of its own for some of it."""
        self._here("^")
        if self.pattern.startswith(("]", ":"), self.at):
            raise ValueError("']' and ':' must be escaped at the beginning of a class")

    def _group(self, depth: int) -> _Node:
        kind = ""
        if self.pattern.startswith("?", self.at):
            match = self._match(_GROUP)
            if match is None:
                raise ValueError(f"'({self.pattern[self.at:self.at + 3]}' is not supported")
            kind = match.group()
        folds = self.folds
        if "i" in kind:  # of options; names have no part in this: they end with ">"
            self.folds = self.folds if kind[-1] == ">" else "-" not in kind[:kind.index("i")]
        if kind and kind[-1] not in ":=!>":
            # Options to the end of the group around: alternatives there are within them.
            if not self._here(")"):
                raise ValueError("a group that does not end")
            node = self.alternatives(depth + 1)
            self.folds = folds
            return node
        node = self.alternatives(depth + 1)
        self.folds = folds
        if not self._here(")"):
            raise ValueError("a group that does not end")
        if kind[-1:] in ("=", "!"):  # once it is decided, it is not tried again, but it may look far
            retried = node.retried + node.last
            return _bounded(_Node(node.ways, retried, least=0, slow=node.ways if retried else 0))
        return node

    def _repeated(self, node: _Node) -> _Node:
        """`node` with what says, after it, how often it comes."""
        letter = self.pattern[self.at:self.at + 1]
        match = self._match(_REPEAT)
        if match:
            least, most, lazy = self._numbers(match)
        elif letter and letter in _SHORT:
            self.at += 1
            (least, most), lazy = _SHORT[letter], self._here("?")
            if not lazy:
                self._here("+")
        else:
            return node
        fails = node.fails and least > 0
        if most is None:
            if (node.ways, node.retried, node.last) != (1, 0, 0):
                raise ValueError("a repetition without bound of what may match in several ways")
            return _Node(1, 0, 1, fails, least * node.least)
        if most > 1 and node.retried + node.last:
            raise ValueError("a repetition of a repetition without bound")
        ways = (most - least + 1) * node.ways ** min(most, 10)  # two ways are too many then already
        slow = ways if node.retried else 0
        return _bounded(_Node(ways, node.retried, node.last, fails, least * node.least, slow))

    def _numbers(self, match: re.Match[str]) -> tuple[int, int | None, bool]:
        """Least and most of {n}, {n,}, {n,m} and {,m}; what follows must be no other repetition."""
        if max(map(len, match.groups(""))) > 6:
            raise ValueError("a large number of repetitions")
        first, comma, second, upper = match.groups("")
        least = int(first or 0)
        most = int(second or upper or first) if second or upper or not comma else None
        if max(least, most or 0) > MAX_REPEAT or (most is not None and least > most):
            raise ValueError(f"repetitions must be at most {MAX_REPEAT}, the smaller number first")
        lazy = self._here("?")
        if lazy and not comma and first:  # to this engine {3}? is nothing, or three
            least = 0
        return least, most, lazy
