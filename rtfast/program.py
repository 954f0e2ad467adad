"""A program: the list of named operations that one forward pass is.

The layers (layers.py) append ops to a program; an executor runs it: the compiled one
(csrc/executor.pxi) or the reference one (reference/executor.py), which know each op by its
`kind`. Nothing here computes.

Rows are ragged: a buffer of dimension "source" has one row for each token of all source
sentences, one sentence after the other; "target" likewise; "output" has one for each target
token whose next-word probabilities are wanted. Only the width of a buffer is fixed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtfast.typing import MaybeNone

SOURCE, TARGET, OUTPUT = "source", "target", "output"


@dataclass(eq=False)
class Buffer:
    """An intermediate matrix (rows of `dimension`, `width`)."""

    name: str
    dimension: str
    width: int


@dataclass(eq=False)
class View:
    """Columns [start, start + width) of a buffer, side by side for `heads` heads where it has heads."""

    buffer: Buffer
    name: str
    start: int
    width: int
    heads: int = 1


@dataclass(eq=False)
class Cache:
    """Packed keys and values of one attention: `role` is "encoder", "self" or "cross".

    All encoder layers share one; each decoder layer has its own two.
    """

    name: str
    role: str
    heads: int
    d_key: int
    d_value: int


@dataclass(eq=False)
class Op:
    """One operation: `kind` says which, `formula` says it to a reader."""

    kind: str
    name: str
    inputs: tuple[Any, ...]
    output: Buffer | MaybeNone
    weights: tuple[str, ...] = ()
    bias: tuple[str, ...] = ()
    cache: Cache | MaybeNone = None
    options: dict[str, Any] = field(default_factory=dict)
    formula: str = ""


@dataclass(eq=False)
class Traced:
    """A named intermediate: columns of a buffer, or an extra that an op writes only in a trace.

    `form` is "rows" (T, width), "heads" (H, T, width) or "scores" (H, T, keys).
    """

    name: str
    form: str
    op: Op
    formula: str
    inputs: tuple[str, ...]
    view: View | MaybeNone = None
    extra: str | None = None


class Program:
    """Ops in order, the buffers they write, the caches they use, and what a trace may show."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ops: list[Op] = []
        self.buffers: list[Buffer] = []
        self.caches: list[Cache] = []
        self.traced: list[Traced] = []
        self.results: dict[str, Buffer] = {}

    # Building -----------------------------------------------------------------------------

    def buffer(self, name: str, dimension: str, width: int) -> Buffer:
        """A new buffer."""
        made = Buffer(name, dimension, width)
        self.buffers.append(made)
        return made

    def cache(self, name: str, role: str, heads: int, d_key: int, d_value: int) -> Cache:
        """The cache of that name, made if it is not there."""
        for known in self.caches:
            if known.name == name:
                return known
        self.caches.append(Cache(name, role, heads, d_key, d_value))
        return self.caches[-1]

    def append(self, kind: str, name: str, inputs: Sequence[Buffer | View], output: Buffer | None,
               **details: Any) -> Op:
        """A new op at the end; details: its further fields."""
        op = Op(kind, name, tuple(inputs), output, **details)
        self.ops.append(op)
        return op

    def trace_view(self, view: View, op: Op, formula: str, inputs: Sequence[str], form: str = "rows") -> None:
        """Let a trace show these columns under the view's name."""
        self.traced.append(Traced(view.name, form, op, formula, tuple(inputs), view=view))

    def trace_extra(self, name: str, form: str, op: Op, formula: str, inputs: Sequence[str], extra: str) -> None:
        """Let a trace show what `op` writes beside its output when it is asked for `extra`."""
        self.traced.append(Traced(name, form, op, formula, tuple(inputs), extra=extra))

    def extras(self) -> dict[Op, dict[str, str]]:
        """{extra: form} of what a trace shows of each op beside its output."""
        found: dict[Op, dict[str, str]] = {}
        for item in self.traced:
            if item.extra:
                found.setdefault(item.op, {})[item.extra] = item.form
        return found

    def trace_output(self, op: Op, formula: str, inputs: Sequence[str]) -> None:
        """Let a trace show the whole output of `op`."""
        whole = View(op.output, op.output.name, 0, op.output.width)
        self.trace_view(whole, op, formula, inputs)

    # Running ------------------------------------------------------------------------------

    def plan_slots(self, reuse: bool = True) -> tuple[list[tuple[str, int]], dict[Buffer, int]]:
        """Give each buffer a slot of the workspace; the slots as a list of (dimension, width).

        A slot is free for another buffer once the last op that reads its buffer is done. A trace
        passes reuse=False: then every intermediate is still there at the end.
        """
        last_use = {}
        for i, op in enumerate(self.ops):
            for operand in (*op.inputs, op.output):
                if operand is not None:
                    last_use[_buffer_of(operand)] = i
        for result in self.results.values():
            last_use[result] = len(self.ops)
        slots: list[tuple[str, int]] = []
        owner: list[Buffer] = []
        placed: dict[Buffer, int] = {}
        for i, op in enumerate(self.ops):
            made = op.output
            if made is None or made in placed:
                continue
            fit = [s for s, (dimension, _) in enumerate(slots)
                   if dimension == made.dimension and last_use[owner[s]] < i] if reuse else []
            if fit:
                slot = min(fit, key=lambda s: abs(slots[s][1] - made.width))
                slots[slot] = (made.dimension, max(slots[slot][1], made.width))
                owner[slot] = made
            else:
                slot = len(slots)
                slots.append((made.dimension, made.width))
                owner.append(made)
            placed[made] = slot
        return slots, placed


def _buffer_of(operand: Buffer | View) -> Buffer:
    return operand.buffer if isinstance(operand, View) else operand
