"""A model's weights as its backend reads them: packed once, shared by every workspace."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .activations import ACTIVATIONS
from .kernels import positional_encoding
from .weights import StoredWeight, array_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rtfast.config import Config
    from rtfast.program import Op, Program
    from rtfast.typing import Array, Backend, Floats, Ids, Packed, Screened


class PackedWeights:
    """What the ops of `programs` need of `weights`, packed for `backend` when made. Immutable then.

    weights: as of `prepare_weights`. A matrix that linear ops read is kept packed only, one that still lies in a file
    is packed while it is read: each number is in memory once.
    """

    def __init__(self, backend: Backend, config: Config, weights: Mapping[str, Any],
                 programs: Sequence[Program]) -> None:
        self.backend = backend
        self.dtype = np.dtype(config.dtype)
        self._config = config
        self._sinusoids = sinusoids(config)
        self._packed: dict[tuple[str, ...], Packed] = {}
        self._biases: dict[tuple[str, ...], Array] = {}
        self._relative: dict[tuple[str, bool], Array] = {}
        self._screened: dict[tuple[str, ...], Screened | None] = {}
        # Name of a packed weight -> (key in _packed, first column, columns, whether transposed).
        self._places: dict[str, tuple[tuple[str, ...], int, int, bool]] = {}
        self._memory = backend.large_memory()
        linears = [op for program in programs for op in program.ops if op.kind == "linear"]
        for op in linears:
            self._pack(op, weights)
        self._place_twins(weights)
        self._names = tuple(weights)
        self._arrays = {name: array_of(values) for name, values in weights.items() if name not in self._places}
        for op in linears:
            if op.bias and op.bias not in self._biases:
                self._biases[op.bias] = np.concatenate([self._arrays[name] for name in op.bias])
        for program in programs:
            for op in program.ops:
                if op.kind == "attention" and op.weights:
                    self._spread(op)

    def _pack(self, op: Op, weights: Mapping[str, Any]) -> None:
        if op.weights in self._packed:
            return
        parts, transposed, first = [weights[name] for name in op.weights], op.options["transposed"], 0
        columns = [part.shape[0 if transposed else 1] for part in parts]
        if len(parts) == 1 and isinstance(parts[0], np.ndarray):
            packed = self.backend.pack(parts[0], transposed, self._memory)
        else:
            packed = self.backend.packed_empty(parts[0].shape[1 if transposed else 0], sum(columns), self.dtype,
                                               self._memory)
            for part, n in zip(parts, columns, strict=True):
                put(packed, first, part, transposed)
                first += n
        self._packed[op.weights], first = packed, 0
        for name, n in zip(op.weights, columns, strict=True):
            self._places[name] = op.weights, first, n, transposed
            first += n

    def _place_twins(self, weights: Mapping[str, Any]) -> None:
        """An embedding with the numbers of an output layer that is not tied to it is read from that."""
        for name, values in weights.items():
            for key, packed in self._packed.items() if isinstance(values, StoredWeight) else ():
                if name not in self._places and len(key) == 1 and values.is_transpose_of(weights[key[0]]):
                    self._places[name] = key, 0, packed.shape[1], True

    def _spread(self, op: Op) -> None:
        """The relative bias of every distance from -reach to reach, (n_heads, 2 * reach + 1)."""
        (name,) = op.weights
        if (name, op.options["causal"]) not in self._relative:
            distances = np.arange(-op.options["reach"], op.options["reach"] + 1)
            buckets = bucket(distances, self._config, bidirectional=not op.options["causal"])
            self._relative[name, op.options["causal"]] = np.ascontiguousarray(self._arrays[name][buckets].T)

    def array(self, name: str) -> Array:
        """A weight that no linear op reads, as it was given."""
        return self._arrays[name]

    def weights(self) -> dict[str, Array]:
        """{name: array} of all weights as they were given, read-only; those that are packed are copies."""
        return {name: self._arrays[name] if name in self._arrays else self._unpacked(name) for name in self._names}

    def _unpacked(self, name: str) -> Array:
        key, first, n, transposed = self._places[name]
        whole = self._packed[key].unpack()
        part = np.ascontiguousarray(whole.T if transposed else whole[:, first:first + n])
        part.flags.writeable = False
        return part

    def table(self, op: Op) -> Array | Packed:
        """The table of words of an embedding op, an array (words, d_model); or the PackedWeight (d_model, words) of
        the output layer that has the same numbers."""
        name = op.weights[0]
        return self._arrays[name] if name in self._arrays else self._packed[self._places[name][0]]

    def positions(self, op: Op) -> Array | None:
        """The table of an embedding op's positions, (max_length, d_model), or None."""
        if self._config.positions == "learned":
            return self._arrays[op.weights[1]]
        return self._sinusoids

    def relative_bias(self, op: Op) -> Array | None:
        """What an attention op adds to the scores by distance, (n_heads, 2 * reach + 1), or None."""
        return self._relative[op.weights[0], op.options["causal"]] if op.weights else None

    def linear(self, op: Op) -> Packed:
        """The PackedWeight of a linear op, its weights side by side."""
        return self._packed[op.weights]

    def screened(self, op: Op) -> Screened | None:
        """The weight of a "screen" op as bytes too, made when it is first asked for; None where that cannot be."""
        if op.weights not in self._screened:
            # Two threads may both make it: the first stays, since executors hold addresses in it, not it.
            self._screened.setdefault(op.weights, self.backend.screen(self.linear(op), self.bias(op)))
        return self._screened[op.weights]

    def bias(self, op: Op) -> Array | None:
        """The bias of a linear op, (d_out,), or None."""
        return self._biases[op.bias] if op.bias else None

    def activation_code(self, op: Op) -> int:
        """The code of an op's activation (rtfast/activations.py)."""
        return ACTIVATIONS[op.options.get("activation")]


def put(packed: Packed, first: int, part: Any, transposed: bool) -> None:
    """A matrix into the columns of a packed weight from `first` on; transposed: it lies as (columns, d_in)."""
    blocks = [(0, part)] if isinstance(part, np.ndarray) else part.blocks()
    lies_transposed = transposed != getattr(part, "transposed", False)
    for row, block in blocks:
        if lies_transposed:
            packed.put_columns(first + row, block)
        else:
            packed.put_rows(row, first, block)


def sinusoids(config: Config) -> Floats | None:
    """The table that config.positions names, (max_length, d_model), or None where there is none (section 3.5)."""
    length, d_model = config.max_length + config.position_offset, config.d_model
    if config.positions == "sinusoidal":
        table = positional_encoding(length, d_model, article=config.article_positional_encoding)
    elif config.positions == "halves":
        paired = positional_encoding(length, d_model)
        table = np.concatenate([paired[:, 0::2], paired[:, 1::2]], axis=1)
    elif config.positions == "tensor2tensor":
        half = d_model // 2
        step = -(math.log(10000) / max(half - 1, 1))
        angles = np.arange(length)[:, None] * np.array([math.exp(i * step) for i in range(half)])
        table = np.concatenate([np.sin(angles), np.cos(angles), np.zeros((length, d_model % 2))], axis=1)
    else:
        return None
    return np.ascontiguousarray(table[config.position_offset:], config.dtype)


def bucket(distance: Ids, config: Config, *, bidirectional: bool) -> Ids:
    """T5's bucket of key minus query position: exact when near, by logarithm when far, integers (n,)."""
    buckets, first = config.relative_buckets, 0
    if bidirectional:
        buckets //= 2
        first = np.where(distance > 0, buckets, 0)
        distance = np.abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = buckets // 2
    # float32, as T5 rounds: a distance may lie on the edge of two buckets
    steps = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(config.relative_distance / exact))
    far = exact + (steps * np.float32(buckets - exact)).astype(np.int64)
    return first + np.where(distance < exact, distance, np.minimum(far, buckets - 1))
