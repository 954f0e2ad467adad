"""The walk of one sentence through a model, printed step by step: see explain.py. A page is `show.Page`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rtfast import shading, show
from rtfast.weights import weight_shapes
from rtfast.words import words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rtfast.model import Transformer
    from rtfast.trace import Trace
    from rtfast.typing import Array
    from rtfast.walk_steps import Key, Step

#: Columns that are shown of a matrix, and of each of several heads, where it is wider.
COLUMNS, HEAD_COLUMNS = 12, 4
#: Rows of queries, keys, values and outputs that are shown of each of several heads, the last one among them.
HEAD_ROWS = 6

_NOTES = {
    "tokens": "The text is cut into tokens. Each becomes its place in the vocabulary, its id.",
    "projections": "Three projections of the same rows, each head's its own: the query says what a word looks for, "
                   "the key what it offers, the value what it hands over.",
    "weights": "A score is a query times a key: a row for who looks, a column for who is looked at. Scaled, softmax "
               "turns each row into weights that add up to 1.",
    "heads": "Each head mixes the values by its weights. The heads side by side, once more projected, have the "
             "model's width.",
    "residual": "What the sublayer read is added to what it made of it.",
    "norm": "Every row is brought to one scale; then each column has a factor of its own, gamma.",
    "feed_forward": "Each word by itself goes through the same small network.",
    "final norm": "One more norm ends the stack.",
    "logits": "The last linear layer gives each word of the vocabulary a logit. Softmax turns these into "
              "probabilities that add up to 1.",
}
_CROSS_NOTES = {
    "projections": "The query is the decoder's, keys and values are of the encoder's last states: here the target "
                   "looks at the source.",
    "weights": "A row for each word that the decoder has read, a column for each word of the source.",
}


class Walk:
    """Prints steps of a trace of one sentence on a page.

    text: what was read, None for its words. top: likeliest words to show. head: the only head to show, None for all.
    spell: target ids -> text.
    """

    def __init__(self, model: Transformer, trace: Trace, page: show.Page, *, text: str | None = None, top: int = 5,
                 head: int | None = None, spell: Callable[[list[int]], str] | None = None) -> None:
        self.model, self.trace, self.page, self.ink = model, trace, page, page.ink
        self.source, self.target = ([self.ink.word(str(word)) for word in words] for words in trace.tokens)
        self._text = " ".join(self.source if text is None else [self.ink.word(word) for word in text.split()])
        self._top, self._head, self._spell = top, head, spell or (lambda ids: " ".join(self._words(ids)))
        self._weights = weight_shapes(model.config)
        self._told: set[Key] = set()
        self._legend = False

    def show(self, step: Step, number: int) -> None:
        """Print one step under its number."""
        sections = f"  (section{'s' * (',' in step.sections)} {step.sections})" if step.sections else ""
        self.page.title(f"{number:2}. {step.title()}{sections}")
        note = self._note(step)
        if note and step.key not in self._told:  # once for all layers
            self._told.add(step.key)
            self.page.say(note)
        special = {"tokens": self._tokens, "candidates": self._candidates, "sentence": self._sentence}
        if step.kind in special:
            special[step.kind]()
        for name in step.names:
            self._intermediate(name, step)

    def _note(self, step: Step) -> str:
        if step.kind == "embedding":
            return self._embedding_note(step)
        if step.part == "cross_attention" and step.kind in _CROSS_NOTES:
            return _CROSS_NOTES[step.kind]
        note = _NOTES.get(step.kind, "")
        if step.masked and step.kind == "weights":
            note += f" No word sees a later one ({self.ink.dot})."
        return note

    def _embedding_note(self, step: Step) -> str:
        note = "Each id picks a row of the embedding, a table of learned vectors."
        if step.side == "decoder":
            note = f"The decoder reads what is written so far, from {self.target[0]} on, by the same means."
        if f"{step.side}.positional_encoding" in step.names:
            note += " Attention alone sees no order, so each position adds a pattern of its own."
        return note

    # Intermediates --------------------------------------------------------------------------

    def _intermediate(self, name: str, step: Step) -> None:
        """Its name, shape, formula and inputs, then its numbers."""
        array = self.trace[name]
        shape = f"({', '.join(map(str, array.shape))})"
        inputs = [f"{given} {self._weights[given]}".replace(", ", ",\xa0") if given in self._weights else given
                  for given in self.trace.inputs(name)]
        fits = len(name) + 1 + len(shape) <= self.page.room
        self.page.lines(["", f"{self.ink.bold(name)} {shape}"] if fits else ["", self.ink.bold(name), f"  {shape}"])
        self.page.say(f"= {self.trace.formula(name)}" + (f", from {', '.join(inputs)}" if inputs else ""))
        self.page.lines([""])
        rows, columns = self._labels(name, step)
        if array.ndim == 3:
            self.page.lines(self._heads(name, array, rows, columns))
        else:
            self.page.lines(self._rows(array, rows, COLUMNS, columns))

    def _labels(self, name: str, step: Step) -> tuple[list[str], Any]:
        """The words of an intermediate's rows, and what labels its columns: words, a function, or ()."""
        memory = step.part == "cross_attention" and name.endswith((".key", ".value"))
        rows = self.source if step.side == "encoder" or memory else self.target
        if step.kind == "weights":
            return rows, self.source if step.part == "cross_attention" else rows
        return rows, self._words if name in ("logits", "probabilities") else ()

    def _rows(self, array: Array, rows: Sequence[str], most: int, columns: Any = (),
              width: int | None = None) -> list[str]:
        return show.shortened(array, most, rows, columns, self.page.precision, width or self.page.room,
                              self.ink.ellipsis)

    def _heads(self, name: str, array: Array, rows: Sequence[str], columns: Any) -> list[str]:
        """The lines of (n_heads, T, width), head beside head."""
        heads = range(len(array)) if self._head is None else [self._head]
        if name.endswith(".weights"):
            blocks = [self._shaded(name, h, rows, columns) for h in heads]
        elif columns:
            blocks = [show.table_lines(show.cells_of(array[h], self.page.precision), rows, columns, self.page.room)
                      for h in heads]
        else:
            blocks = [self._one_of_many(array[h], rows) if len(heads) > 1 else self._rows(array[h], rows, COLUMNS)
                      for h in heads]
        blocks = [[self.ink.faint(f"head {h}"), *block] for h, block in zip(heads, blocks, strict=True)]
        return show.beside(blocks, self.page.room)

    def _one_of_many(self, array: Array, rows: Sequence[str]) -> list[str]:
        """A head's first and last rows and columns, so narrow that two fit beside each other."""
        half = (self.page.room - len(show.GAP)) // 2
        if len(rows) <= HEAD_ROWS:
            return self._rows(array, rows, HEAD_COLUMNS, width=half)
        places = [*range(HEAD_ROWS - 1), len(rows) - 1]
        lines = self._rows(array[places], [rows[i] for i in places], HEAD_COLUMNS, width=half)
        return [*lines[:-1], self.ink.ellipsis, lines[-1]]

    def _shaded(self, name: str, head: int, rows: Sequence[str], columns: Any) -> list[str]:
        if not self._legend:
            self._legend = True
            self.page.lines([*self.ink.legend(self.page.room), ""])
        hidden = ~np.tri(len(rows), len(columns), dtype=bool) if "masked" in self.trace.formula(name) else None
        return shading.attention(self.trace[name][head], rows, columns, self.ink, self.page.precision, hidden,
                                 self.page.room)

    # Words ----------------------------------------------------------------------------------

    def _words(self, ids: Iterable[int]) -> list[str]:
        return [self.ink.word(word) for word in words_of(self.model, ids)]

    def _tokens(self) -> None:
        ids = [str(number) for number in self.trace.source_ids[0]]
        self.page.lines(["", *show.table_lines(
            [self.source, ids], ["token", "id"], [str(i) for i in range(len(ids))], self.page.room)])

    def _next_ids(self) -> list[int | None]:
        """The word that follows each of the target's: generated, or given; none where the given ones end."""
        if self.trace.generated is not None:
            return list(self.trace.generated)
        return [*map(int, self.trace.target_ids[0][1:]), None]

    def _candidates(self) -> None:
        self.page.say("After each word that the decoder has read, the likeliest next ones, in percent.",
                      f"{self.ink.arrow} is the word that", "was chosen." if self.trace.generated is not None
                      else "is given.")
        following = [None if i is None else self._words([i])[0] for i in self._next_ids()]
        found = [[(self.ink.word(str(word)), p) for word, p in row] for row in self.trace.top(self._top)]
        for row, word, i, p in zip(found, following, self._next_ids(), self.trace["probabilities"], strict=True):
            if word is not None and word not in [candidate for candidate, _ in row]:
                row.append((word, float(p[i])))
        wide = max(show.size(word) for row in found for word, _ in row)
        percent = {p: show.number(100 * p, self.page.precision, self.page.precision) for row in found for _, p in row}
        digits = max(map(len, percent.values()))
        bar = max(1, min(40, self.page.room - wide - digits - 10))
        for i, (row, word) in enumerate(zip(found, following, strict=True)):
            self.page.lines(["", f"{i}. after {self.ink.bold(self.target[i])}"])
            for candidate, p in row:
                mark = self.ink.arrow if candidate == word else ""
                self.page.lines([f"{mark:>4} {show.left(candidate, wide)}  {percent[p]:>{digits}} % "
                                 f"{self.ink.bar(p, bar)}"])

    def _sentence(self) -> None:
        trace, end = self.trace, set(self.model.generation.eos_ids)
        if trace.generated is None:
            given, likeliest = trace.target_ids[0][1:].tolist(), trace["logits"].argmax(axis=1)
            self.page.say("The target was given. Beside it, the likeliest word in each of its places:")
            self.page.lines([""])
            self.page.say(f"{self._text}  {self.ink.arrow}  {' '.join(self._words(given))}")
            self.page.say(f"likeliest: {' '.join(self._words(likeliest))}")
            return
        ids = list(trace.generated)
        self.page.lines([""])
        self.page.say(f"{self._text}  {self.ink.arrow}  {self.ink.bold(self.ink.word(self._spell(ids)))}")
        if not end.intersection(ids):
            self.page.say(f"It stopped after {len(ids)} words without one that ends a sentence (--max-new-tokens).")
