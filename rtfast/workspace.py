"""A workspace: the mutable side of a model. Memory for so many sequences of such lengths, and where they are.

The model is immutable and shared by threads; each run takes a workspace of its own. The index
arrays below say which token lies where; the executor, compiled or reference, reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .kernels import MOST_TOP

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rtfast.interventions import Interventions
    from rtfast.packing import PackedWeights
    from rtfast.program import Op, Program, Traced
    from rtfast.typing import Array, Backend, Floats, Ids, MaybeNone


class Capacity(NamedTuple):
    """What a workspace has room for. Rows are tokens of all sequences in one run."""

    sequences: int
    source_rows: int
    source_length: int
    target_rows: int
    target_length: int
    #: targets that each sequence may have at a time: beams, or samples
    lanes: int = 1

    def rows(self, dimension: str) -> int:
        """Rows of a buffer of that dimension."""
        return self.source_rows if dimension == "source" else self.target_rows

    def rounded_up(self, most_sequences: int, most_length: int) -> Capacity:
        """A capacity that serves many others too. Memory is only taken once it is touched."""
        sequences = min(most_sequences, 1 << max(self.sequences - 1, 0).bit_length())
        source_length, target_length = (min(most_length, -(-length // 32) * 32)
                                        for length in (self.source_length, self.target_length))
        source_rows, target_rows = (-(-rows // 64) * 64 for rows in (self.source_rows, self.target_rows))
        sequences = max(sequences, self.sequences)
        return Capacity(sequences, source_rows, source_length, max(target_rows, sequences * self.lanes), target_length,
                        self.lanes)

    def covers(self, other: Capacity) -> bool:
        """Whether what fits the other fits this one too."""
        return (self.sequences >= other.sequences and self.source_rows >= other.source_rows
                and self.source_length >= other.source_length and self.target_rows >= other.target_rows
                and self.target_length >= other.target_length and self.lanes >= other.lanes)


def capacity_for(sources: Sequence[Any], targets: Iterable[Any], steps: int = 0, lanes: int = 1) -> Capacity:
    """The `Capacity` that the sentences take; with `steps`, `lanes` targets of each grow token by token to that
    length."""
    if len(sources) == 1 and steps and lanes == 1:  # one sentence: a small model's takes little longer than this
        length = len(sources[0])
        return Capacity(1, length, length, max([1, *map(len, targets)]), steps, 1)
    lengths, target_lengths = list(map(len, sources)), list(map(len, targets))
    rows = max(sum(target_lengths), len(sources) * lanes if steps else 0)
    return Capacity(len(sources), sum(lengths), max(lengths), rows, max([steps, *target_lengths]), lanes)


class Workspace:
    """Programs bound to memory of a `Capacity`; `programs` are named by their place."""

    def __init__(self, backend: Backend, programs: Sequence[Program], weights: PackedWeights, capacity: Capacity,
                 trace: bool = False) -> None:
        self.capacity = capacity
        sequences, source_rows, _, target_rows, target_length, lanes = capacity
        targets = sequences * lanes
        self.index: dict[str, Array] = {
            "source_ids": _integers(source_rows),
            "source_positions": _integers(source_rows),
            "source_starts": _integers(sequences + 1),   # row of each sentence's first token, and the end
            "source_keys": _integers(sequences),         # tokens of each sentence
            "source_slots": np.arange(max(sequences, 1), dtype=np.int64),
            "target_ids": _integers(target_rows),
            "target_positions": _integers(target_rows),
            "target_starts": _integers(targets + 1),
            "target_keys": _integers(targets),           # tokens in the cache once this run's are in
            "target_slots": _integers(targets),          # where in the cache each target's go
            "memory_slots": _integers(targets),          # the source sentence of each target
            "memory_keys": _integers(targets),           # tokens of that sentence
            "wanted_rows": np.arange(max(target_rows, 1)),  # target rows whose next word is wanted: the first so many
            # Beams: the slot of each token's key and value, one row for each target; else target_slots say it.
            "reordered": _integers(1),
            "ancestors": np.zeros((targets, target_length) if lanes > 1 else (1, 1), np.int32),
            "top_options": np.array([1, 0]),             # how many of the likeliest words, and log-softmax or not
            "top_ids": np.zeros((max(targets, 1), MOST_TOP), np.int64),
        }
        for op in (op for program in programs for op in program.ops if op.kind == "input"):
            states = np.zeros((max(capacity.rows(op.output.dimension), 1), op.output.width), weights.dtype)
            self.index.setdefault(f"{op.output.dimension}_states", states)
        self._programs, self._dtype = programs, weights.dtype
        self._weights, self._backend = weights, backend
        self._sides = {side: (self.index.get(f"{side}_states", self.index[f"{side}_ids"]),
                              *(self.index[f"{side}_{name}"] for name in ("positions", "keys", "starts")))
                       for side in ("source", "target")}
        self._count = np.arange(max(source_rows, target_rows, targets) + 1)
        self._position = self._longest_memory = 0
        self._executor = backend.Executor(programs, weights, self.index, capacity, trace)

    # Running --------------------------------------------------------------------------------

    def encode(self, which: int, sentences: Sequence[Any] | Array, interventions: Interventions | None = None) -> None:
        """Run an encoder program on id arrays, or arrays of states (n, d_model) where it reads these; cross keys and
        values, if it makes them, stay in the caches. interventions: `Interventions`, of a trace."""
        rows, longest = self._place("source", sentences)
        self._run(which, (len(sentences), rows, 0, 0, longest, 0, longest), interventions)

    def decode(self, which: int, sentences: Sequence[Any] | Array, interventions: Interventions | None = None) -> None:
        """Run a decoder program on the first tokens of every sentence, all rows wanted."""
        self._start(range(len(sentences)))
        self._read(which, sentences, True, interventions)

    def _run(self, which: int, sizes: tuple[int, int, int, int, int, int, int],
             interventions: Interventions | None) -> None:
        if interventions is None:
            self._executor.run(which, *sizes)
        else:
            self._executor.prepare(which, *sizes)
            interventions.run(self._executor)

    def begin_steps(self, sources: Sequence[int], prompts: Ids | None = None, which: int | MaybeNone = None,
                    beams: int = 1) -> None:
        """Prepare for decode steps of one target for each of `sources`, numbers of encoded sentences.

        A sentence may come several times, up to the capacity's lanes. prompts: (n, P) ids that every target has
        already, read by the decoder program `which`; of them nothing is wanted. beams: 2 or more allow `reorder`.
        """
        self._start(sources)
        n = len(sources)
        if prompts is not None and prompts.shape[1]:
            self._read(which, prompts, wanted=False)
            self._position = prompts.shape[1]
            self.index["target_starts"][:n + 1] = self._count[:n + 1]  # from now on a token each
        if beams > 1:
            self.index["reordered"][0] = 1
            self.index["ancestors"][:n, :self._position] = self.index["target_slots"][:n, None]

    def step(self, which: int, ids: Ids) -> None:
        """One more token for each running target: what came before is cached."""
        index, n, position = self.index, len(ids), self._position
        index["target_ids"][:n] = ids
        index["target_positions"][:n] = position
        index["target_keys"][:n] = position + 1
        if index["reordered"][0]:
            index["ancestors"][:n, position] = index["target_slots"][:n]
        self._position = position + 1
        self._executor.run(which, n, 0, n, n, 1, position + 1, self._longest_memory)

    def choose(self, which: int, ids: Ids, ends: Ids, most: int) -> tuple[Ids, Floats]:
        """One more token for each running target by a program that finds the likeliest word, then that word, and so on,
        up to `most` steps or until a target gets one of `ends`: words and their values (steps, n). Not with beams."""
        n, position = len(ids), self._position
        self.index["target_ids"][:n] = ids
        tokens, values = np.empty((most, n), np.int64), np.empty((most, n), self._dtype)
        steps = self._executor.run_steps(which, n, position, self._longest_memory, ends, tokens, values)
        self._position = position + steps
        return (tokens, values) if steps == most else (tokens[:steps], values[:steps])

    def keep(self, running: Sequence[int] | Ids) -> None:
        """Go on with these of the running targets only, given by their places: no cache moves."""
        n, index = len(running), self.index
        for name in ("target_slots", "memory_slots", "memory_keys"):
            index[name][:n] = index[name][running]
        self._longest_memory = index["memory_keys"][:n].max()

    def reorder(self, parents: Sequence[int] | Ids, beams: int) -> None:
        """Go on with targets that continue the running ones in places `parents`, `beams` of each sentence: the new
        ones learn where the keys and values of their ancestors lie, none of which move."""
        n, index = len(parents), self.index
        index["ancestors"][:n, :self._position] = index["ancestors"][parents, :self._position]
        for name in ("memory_slots", "memory_keys"):
            index[name][:n] = index[name][parents]
        index["target_slots"][:n] = index["memory_slots"][:n] * self.capacity.lanes + self._count[:n] % beams
        index["target_starts"][:n + 1] = self._count[:n + 1]
        self._longest_memory = index["memory_keys"][:n].max()

    def _start(self, sources: Iterable[int]) -> None:
        """A target for each of `sources`, without tokens."""
        index, longest = self.index, 0
        lanes: dict[int, int] = {}
        source_keys, memory_keys = index["source_keys"], index["memory_keys"]
        target_slots, memory_slots, target_starts = index["target_slots"], index["memory_slots"], index["target_starts"]
        for row, source in enumerate(sources):
            lane = lanes[source] = lanes.get(source, -1) + 1
            target_slots[row] = source * self.capacity.lanes + lane
            memory_slots[row] = source
            target_starts[row + 1] = row + 1
            memory_keys[row] = length = source_keys.item(source)
            longest = max(longest, length)
        index["reordered"][0] = 0
        self._position, self._longest_memory = 0, longest

    def _read(self, which: int, sentences: Sequence[Any] | Array, wanted: bool,
              interventions: Interventions | None = None) -> None:
        """Run a decoder program on tokens of every target."""
        rows, longest = self._place("target", sentences)
        self._run(which, (len(sentences), 0, rows, rows if wanted else 0, longest, longest, self._longest_memory),
                  interventions)

    def _place(self, side: str, sentences: Sequence[Any] | Array) -> tuple[int, int]:
        """Lay the sentences' tokens one after the other; how many rows, and the longest."""
        row, longest = 0, 0
        tokens, positions, keys, starts = self._sides[side]
        for b, ids in enumerate(sentences):
            length = len(ids)
            tokens[row:row + length] = ids
            positions[row:row + length] = self._count[:length]
            keys[b] = length
            row += length
            starts[b + 1] = row
            longest = max(longest, length)
        return row, longest

    # Reading --------------------------------------------------------------------------------

    def result(self, which: int, name: str) -> Floats:
        """A copy of a program's result after its run: (rows, width)."""
        return self._executor.read(which, self._programs[which].results[name])

    def top(self, which: int, n: int, k: int) -> tuple[Floats, Ids]:
        """After a step that chose: the values (n, k) and ids (n, k) of the likeliest words of n targets."""
        return self.result(which, "top")[:, :k], self.index["top_ids"][:n, :k].copy()

    def normalised(self, op: Op, rows: Floats) -> Floats:
        """The rows (rows, width) as an op "add_layer_norm" normalises them once they are added."""
        gamma, beta = (*map(self._weights.array, op.weights), None)[:2]
        out = np.empty_like(rows)
        self._backend.layer_norm(rows, gamma, beta, op.options["eps"], op.options["form"], out)
        return out

    def traced(self, which: int, item: Traced) -> Floats:
        """A traced intermediate, as rows (rows, width) or (sequences, heads, T, keys): a copy, or the executor's own
        array of what lies in no buffer."""
        if item.extra:
            return self._executor.read_extra(which, item.op, item.extra)
        rows = self._executor.read(which, item.view.buffer)
        return rows[:, item.view.start:item.view.start + item.view.heads * item.view.width]


def _integers(n: int) -> Ids:
    return np.zeros(max(n, 1), np.int64)
