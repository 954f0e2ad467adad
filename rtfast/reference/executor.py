"""The reference executor: runs a program op by op in Python, with the NumPy kernels.

Same programs, names, shapes and results (to rounding) as csrc/executor.pxi. Here every
intermediate is simply kept in a dict until the next run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import kernels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rtfast.packing import PackedWeights
    from rtfast.program import Buffer, Op, Program, View
    from rtfast.typing import Array, Floats, Ids
    from rtfast.workspace import Capacity


class Executor:
    """Programs on one workspace. Not for two threads at once: each takes a workspace of its own."""

    def __init__(self, programs: Sequence[Program], weights: PackedWeights, index: Mapping[str, Array],
                 capacity: Capacity, trace: bool) -> None:
        """weights: packing.PackedWeights; index: the arrays of a workspace; capacity: its Capacity;
        trace: also keep what only a trace shows."""
        self._programs, self._weights, self._index = programs, weights, index
        self._wanted = [program.extras() if trace else {} for program in programs]
        self._values: list[dict[Buffer, Array]] = [{} for _ in programs]
        self._extras: list[dict[tuple[str, str], Array]] = [{} for _ in programs]
        self._caches: dict[str, tuple[Array, Array]] = {}
        self._given: dict[Op, str | None] = {}
        for spec in (spec for program in programs for spec in program.caches):
            length = capacity.target_length if spec.role == "self" else capacity.source_length
            slots = capacity.sequences * (capacity.lanes if spec.role == "self" else 1)
            shape = (slots, spec.heads, length)
            self._caches.setdefault(spec.name, (np.zeros((*shape, spec.d_key), weights.dtype),
                                                np.zeros((*shape, spec.d_value), weights.dtype)))

    def run(self, which: int, sequences: int, source_rows: int, target_rows: int, output_rows: int, longest: int,
            target_keys: int, memory_keys: int) -> None:
        """Run program `which` over the rows that the index arrays describe."""
        self.prepare(which, sequences, source_rows, target_rows, output_rows, longest, target_keys, memory_keys)
        self.run_ops(which, 0, len(self._programs[which].ops))

    def prepare(self, which: int, sequences: int, source_rows: int, target_rows: int, output_rows: int, longest: int,
                target_keys: int, memory_keys: int) -> None:
        """What `run` does before it runs the ops."""
        del target_keys, memory_keys  # each attention finds its own in the index arrays
        self._sequences, self._longest = sequences, longest
        self._rows = {"source": source_rows, "target": target_rows, "output": output_rows}
        self._values[which].clear()

    def run_ops(self, which: int, first: int, end: int) -> None:
        """Run the ops [first, end) of a program that `prepare` was called for."""
        for op in self._programs[which].ops[first:end]:
            extras: dict[str, Any] = dict.fromkeys(self._wanted[which].get(op, ()))
            if self._given.get(op) is not None:
                extras = {name: self._extras[which][op.name, name] for name in extras}
            result = getattr(self, f"_{op.kind}")(op, self._values[which], extras)
            if op.output is not None:
                self._values[which][op.output] = result
            for name, array in extras.items():
                self._extras[which][op.name, name] = array

    def run_steps(self, which: int, targets: int, position: int, memory_keys: int, ends: Ids, tokens: Ids,
                  values: Floats) -> int:
        """Run program `which` on one token for each target, then on the tokens that it chose, again and again.

        The first tokens are in the index. ends: int64 ids, after one of which there is no further step.
        tokens, values (most steps, targets): what was chosen. Returns how many steps were made.
        """
        index, best = self._index, self._programs[which].results["top"]
        for step in range(len(tokens)):
            index["target_positions"][:targets] = position + step
            index["target_keys"][:targets] = position + step + 1
            self.run(which, targets, 0, targets, targets, 1, position + step + 1, memory_keys)
            tokens[step] = index["target_ids"][:targets] = index["top_ids"][:targets, 0]
            values[step] = self._values[which][best][:, 0]
            if np.isin(tokens[step], ends).any():
                break
        return step + 1

    def read(self, which: int, buffer: Buffer) -> Array:
        """A copy of a buffer's rows after a run: (rows, width)."""
        return self._values[which][buffer].copy()

    def write(self, which: int, buffer: Buffer, first: int, values: Floats) -> None:
        """Put values (rows, width) into a buffer's columns from `first` on."""
        self._values[which][buffer][:, first:first + values.shape[1]] = values

    def give(self, which: int, i: int, name: str | None) -> None:
        """Let op i, an attention, go on from its array of that name (see `read_extra`), not from keys and queries;
        None: compute all of it again."""
        self._given[self._programs[which].ops[i]] = name

    def read_extra(self, which: int, op: Op, name: str) -> Floats:
        """What an op wrote for a trace: (sequences, heads, T, keys) or (rows, width)."""
        return self._extras[which][op.name, name]

    def _new(self, op: Op) -> Array:
        return np.empty((self._rows[op.output.dimension], op.output.width), self._weights.dtype)

    # One method for each kind of op ---------------------------------------------------------

    def _embedding(self, op: Op, values: dict[Buffer, Array], extras: dict[str, Any]) -> Array:
        side, rows, out = op.output.dimension, self._rows[op.output.dimension], self._new(op)
        table: Any = self._weights.table(op)
        places: Any = self._weights.positions(op)
        if isinstance(table, kernels.PackedWeight):
            table = kernels._plain(table).T
        ids, positions = self._index[f"{side}_ids"][:rows], self._index[f"{side}_positions"][:rows]
        kernels.embedding(ids, table, op.options["scale"], positions, places, out)
        if extras:
            extras["embedding"] = np.empty_like(out)
            kernels.embedding(ids, table, op.options["scale"], None, None, extras["embedding"])
        if "position" in extras:
            extras["position"] = places[positions]
        return out

    def _input(self, op: Op, values: dict[Buffer, Array], extras: dict[str, Any]) -> Array:
        side = op.output.dimension
        return self._index[f"{side}_states"][:self._rows[side]].copy()

    def _linear(self, op: Op, values: dict[Buffer, Array], extras: dict[str, Any]) -> Array:
        out = self._new(op)
        weight: Any = self._weights.linear(op)
        kernels.linear(values[op.inputs[0]], weight, self._weights.bias(op),
                       self._weights.activation_code(op), out)
        return out

    def _heads(self, view: View, values: dict[Buffer, Array], first: int, last: int) -> Array:
        """Rows [first, last) of a view as (heads, T, width)."""
        columns = values[view.buffer][first:last, view.start:view.start + view.heads * view.width]
        return columns.reshape(last - first, view.heads, view.width).transpose(1, 0, 2)

    def _store(self, op: Op, values: dict[Buffer, Array], extras: dict[str, Any]) -> None:
        side = op.inputs[0].buffer.dimension
        starts, n_keys = self._index[f"{side}_starts"], self._index[f"{side}_keys"]
        for b in range(self._sequences):
            first, last, end = starts[b], starts[b + 1], n_keys[b]
            slot = self._index[f"{side}_slots"][b]
            for view, cache in zip(op.inputs, self._caches[op.cache.name], strict=True):
                cache[slot, :, end - (last - first):end] = self._heads(view, values, first, last)

    def _attention(self, op: Op, values: dict[Buffer, Array], extras: dict[str, Any]) -> Array:
        (query,) = op.inputs
        side, out = query.buffer.dimension, self._new(op)
        starts = self._index[f"{side}_starts"]
        n_keys = self._index["memory_keys" if op.cache.role == "cross" else f"{side}_keys"]
        shape = (self._sequences, op.cache.heads, self._longest, n_keys[:self._sequences].max(initial=0))
        given, order = self._given.get(op), ("scores", "scaled_scores", "weights")
        for name in extras:
            if given is None or order.index(name) > order.index(given):
                extras[name] = np.zeros(shape, out.dtype)
        for b in range(self._sequences):
            first, last = starts[b], starts[b + 1]
            k, v = self._cached(op, side, b, n_keys[b])
            q = np.ascontiguousarray(self._heads(query, values, first, last))
            heads = np.empty((*q.shape[:2], op.cache.d_value), out.dtype)
            taken = [np.empty((*q.shape[:2], n_keys[b]), out.dtype) if extras else None for _ in range(3)]
            with np.errstate(all="ignore"):
                kernels._attend(q, k, v, None, op.options["causal"], op.options["scale"], heads, taken[0],
                                taken[1], taken[2], op.options["article_softmax"],
                                self._position_bias(op, len(q[0]), n_keys[b]),
                                (given, extras[given][b, :, :last - first, :n_keys[b]]) if given else None)
            out[first:last] = heads.transpose(1, 0, 2).reshape(last - first, -1)
            for name, array in zip(("scores", "scaled_scores", "weights"), taken, strict=True):
                if name in extras and (given is None or order.index(name) > order.index(given)):
                    extras[name][b, :, :last - first, :n_keys[b]] = array
        return out

    def _cached(self, op: Op, side: str, b: int, n: int) -> list[Array]:
        """The first n keys and values of sequence b, each (heads, n, width)."""
        slots = self._index["memory_slots" if op.cache.role == "cross" else f"{side}_slots"]
        if op.cache.role == "self" and self._index["reordered"][0]:
            slots = self._index["ancestors"][b, :n]  # of each key
            return [np.ascontiguousarray(cache[slots, :, np.arange(n)].swapaxes(0, 1))
                    for cache in self._caches[op.cache.name]]
        return [np.ascontiguousarray(cache[slots[b], :, :n]) for cache in self._caches[op.cache.name]]

    def _position_bias(self, op: Op, length: int, n_keys: int) -> Array | None:
        """The relative bias (heads, T, S) of the last `length` of n_keys positions, or None."""
        by_distance, reach = self._weights.relative_bias(op), op.options["reach"]
        if by_distance is None:
            return None
        distance = np.arange(n_keys) - np.arange(n_keys - length, n_keys)[:, None]
        return by_distance[:, np.clip(distance, -reach, reach) + reach]

    def _add_layer_norm(self, op: Op, values: dict[Buffer, Array], extras: dict[str, Any]) -> Array:
        x, y = (values[operand] for operand in op.inputs)
        out = self._new(op)
        if extras:
            extras["residual"] = np.empty_like(out)
        kernels.add_layer_norm(x, y, *self._gamma_beta(op), op.options["eps"], op.options["form"],
                               extras.get("residual"), out)
        return out

    def _layer_norm(self, op: Op, values: dict[Buffer, Array], extras: dict[str, Any]) -> Array:
        out = self._new(op)
        kernels.layer_norm(values[op.inputs[0]], *self._gamma_beta(op), op.options["eps"], op.options["form"], out)
        return out

    def _gamma_beta(self, op: Op) -> tuple[Array, Array | None]:
        gamma, *beta = map(self._weights.array, op.weights)
        return gamma, beta[0] if beta else None

    def _gate(self, op: Op, values: dict[Buffer, Array], extras: dict[str, Any]) -> Array:
        gate, hidden = np.split(values[op.inputs[0]], 2, axis=1)
        gate = gate.copy()  # of one row it is contiguous in the input already, which a trace shows
        kernels.activate(gate.reshape(-1), self._weights.activation_code(op), gate.reshape(-1))
        with np.errstate(all="ignore"):
            product: Array = gate * hidden
        return product

    def _add(self, op: Op, values: dict[Buffer, Array], extras: dict[str, Any]) -> Array:
        x, y = (values[operand] for operand in op.inputs)
        with np.errstate(all="ignore"):
            return x + y

    def _softmax(self, op: Op, values: dict[Buffer, Array], extras: dict[str, Any]) -> Array:
        out = self._new(op)
        kernels.softmax(values[op.inputs[0]], out)
        return out

    def _gather(self, op: Op, values: dict[Buffer, Array], extras: dict[str, Any]) -> Array:
        with np.errstate(all="ignore"):
            rows = values[op.inputs[0]][self._index["wanted_rows"][:self._rows["output"]]]
            return rows if op.options["scale"] == 1.0 else rows * rows.dtype.type(op.options["scale"])

    def _top(self, op: Op, values: dict[Buffer, Array], extras: dict[str, Any]) -> Array:
        out, x = self._new(op), values[op.inputs[0]]
        k, log_softmax = self._index["top_options"]
        k = min(k, x.shape[1])
        kernels.top_k(x, k, log_softmax, out[:, :k], self._index["top_ids"][:len(x), :k])
        return out
