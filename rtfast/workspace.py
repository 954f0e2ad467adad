"""A workspace: the mutable side of a model. Memory for so many sequences of such lengths, and where they are.

The model is immutable and shared by threads; each run takes a workspace of its own. The index
arrays below say which token lies where; the executor, compiled or reference, reads them.
"""

from typing import NamedTuple

import numpy as np


class Capacity(NamedTuple):
    """What a workspace has room for. Rows are tokens of all sequences in one run."""

    sequences: int
    source_rows: int
    source_length: int
    target_rows: int
    target_length: int

    def rows(self, dimension):
        return self.source_rows if dimension == "source" else self.target_rows

    def rounded_up(self, most_sequences, most_length):
        """A capacity that serves many others too. Memory is only taken once it is touched."""
        sequences = min(most_sequences, 1 << max(self.sequences - 1, 0).bit_length())
        source_length, target_length = (min(most_length, -(-length // 32) * 32)
                                        for length in (self.source_length, self.target_length))
        source_rows, target_rows = (-(-rows // 64) * 64 for rows in (self.source_rows, self.target_rows))
        return Capacity(max(sequences, self.sequences), source_rows, source_length, target_rows, target_length)

    def covers(self, other):
        return (self.sequences >= other.sequences and self.source_rows >= other.source_rows
                and self.source_length >= other.source_length and self.target_rows >= other.target_rows
                and self.target_length >= other.target_length)


class Workspace:
    """Programs bound to memory of a `Capacity`; `programs` are named by their place."""

    def __init__(self, backend, programs, weights, capacity, trace=False):
        self.capacity = capacity
        sequences, source_rows, _, target_rows, _ = capacity
        self.index = {
            "source_ids": _integers(source_rows),
            "source_positions": _integers(source_rows),
            "source_starts": _integers(sequences + 1),   # row of each sentence's first token, and the end
            "source_keys": _integers(sequences),         # tokens of each sentence
            "source_slots": np.arange(max(sequences, 1), dtype=np.int64),
            "target_ids": _integers(target_rows),
            "target_positions": _integers(target_rows),
            "target_starts": _integers(sequences + 1),
            "target_keys": _integers(sequences),         # tokens in the cache once this run's are in
            "target_slots": _integers(sequences),        # the cache slot of each sequence still running
            "memory_keys": _integers(sequences),         # source tokens that each of them attends to
            "wanted_rows": _integers(target_rows),       # target rows whose next word is wanted
        }
        self._programs = programs
        self._count = np.arange(max(source_rows, target_rows, sequences) + 1)
        self._memory = []  # source tokens of each running sequence
        self._executor = backend.Executor(programs, weights, self.index, capacity, trace)

    # Running --------------------------------------------------------------------------------

    def encode(self, which, sentences):
        """Run an encoder program on id arrays; cross keys and values, if it makes them, stay in the caches."""
        rows, longest = self._place("source", sentences)
        self._memory = [len(ids) for ids in sentences]
        self._executor.run(which, len(sentences), rows, 0, 0, longest, 0, longest)

    def decode(self, which, sentences):
        """Run a decoder program on the first tokens of every sentence, all rows wanted."""
        rows, longest = self._place("target", sentences)
        n = len(sentences)
        self._follow_source(n)
        self.index["wanted_rows"][:rows] = self._count[:rows]
        self._executor.run(which, n, 0, rows, rows, longest, longest, max(self._memory))

    def begin_steps(self, n):
        """Prepare for decode steps of n sequences, one new token each."""
        self.index["target_starts"][:n + 1] = self._count[:n + 1]
        self.index["wanted_rows"][:n] = self._count[:n]
        self._follow_source(n)

    def step(self, which, ids, position):
        """One more token for each running sequence, all at `position`: what came before is cached."""
        index, n = self.index, len(ids)
        index["target_ids"][:n] = ids
        index["target_positions"][:n] = position
        index["target_keys"][:n] = position + 1
        self._executor.run(which, n, 0, n, n, 1, position + 1, max(self._memory))

    def keep(self, running):
        """Go on with these of the running sequences only, given by their places: no cache moves."""
        n = len(running)
        for name in ("target_slots", "memory_keys"):
            self.index[name][:n] = self.index[name][running]
        self._memory = [self._memory[row] for row in running]

    def _place(self, side, sentences):
        """Lay the sentences' tokens one after the other; how many rows, and the longest."""
        index, row, longest = self.index, 0, 0
        for b, ids in enumerate(sentences):
            length = len(ids)
            index[f"{side}_ids"][row:row + length] = ids
            index[f"{side}_positions"][row:row + length] = self._count[:length]
            index[f"{side}_keys"][b] = length
            row += length
            index[f"{side}_starts"][b + 1] = row
            longest = max(longest, length)
        return row, longest

    def _follow_source(self, n):
        self.index["target_slots"][:n] = self.index["source_slots"][:n]
        self.index["memory_keys"][:n] = self.index["source_keys"][:n]

    # Reading --------------------------------------------------------------------------------

    def result(self, which, name):
        """A copy of a program's result after its run: (rows, width)."""
        return self._executor.read(which, self._programs[which].results[name])

    def number(self, which, name, row, column):
        """One number of a program's result after its run."""
        return self._executor.peek(which, self._programs[which].results[name], row, column)

    def traced(self, which, item):
        """A copy of a traced intermediate, as rows (rows, width) or (sequences, heads, T, keys)."""
        if item.extra:
            return self._executor.read_extra(which, item.op, item.extra)
        rows = self._executor.read(which, item.view.buffer)
        return rows[:, item.view.start:item.view.start + item.view.heads * item.view.width]


def _integers(n):
    return np.zeros(max(n, 1), np.int64)
