"""When a model begins to find the likeliest words by way of bytes (csrc/screen.pxi)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtfast.packing import PackedWeights
    from rtfast.program import Op

#: Words that a model finds before it keeps its output weight as bytes too. These take a quarter of the weight's memory
#: again and some ms to make, and save up to 1.5 ms a word: a process that translates a sentence or two is better off
#: without, any other loses a fraction of a second.
WORDS_WITHOUT = 128


class Screening:
    """The program that screens, once it is worth it. Shared by threads: words that one forgets to count do no harm.

    program: the number of the one whose op `op` reads the bytes of `packed`.
    """

    def __init__(self, packed: PackedWeights, program: int, op: Op) -> None:
        self._packed, self._program, self._op = packed, program, op
        self._words = 0

    def __call__(self, words: int) -> int | None:
        """The program to find so many more words with, or None: by all logits."""
        self._words += words
        if self._words <= WORDS_WITHOUT or self._packed.screened(self._op) is None:
            return None
        return self._program
