"""Changing intermediates in the middle of a run: what comes after is computed from the changed values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .trace import rows_of, shaped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rtfast.inputs import Batch
    from rtfast.program import Op, Program, Traced
    from rtfast.typing import Change, Executor, Floats
    from rtfast.workspace import Workspace


class Interventions:
    """Runs a traced program of a workspace, changing intermediates as soon as they are there.

    changes: name -> an array that goes in the intermediate's place, of its shape or broadcast to it, or a function that
    is given a copy of it and returns that array. A program may lack some of the names.
    """

    def __init__(self, workspace: Workspace, which: int, program: Program, batch: Batch,
                 changes: Mapping[str, Change]) -> None:
        self._workspace, self._which, self._program = workspace, which, program
        self._batch, self._changes = batch, changes

    def run(self, executor: Executor) -> None:
        """The ops of a program that was prepared, stopping where something changes."""
        which, done = self._which, 0
        changed: dict[Op, list[Traced]] = {}
        for item in self._program.traced:
            if item.name in self._changes:
                changed.setdefault(item.op, []).append(item)
        for i, op in enumerate(self._program.ops):
            if op in changed:
                executor.run_ops(which, done, i + 1)
                done = i + 1
            for item in changed.get(op, ()):  # what the op computes on the way first, its output last
                self._change(executor, i, item)
        executor.run_ops(which, done, len(self._program.ops))

    def _change(self, executor: Executor, i: int, item: Traced) -> None:
        which, op = self._which, item.op
        old = shaped(self._workspace.traced(which, item), item, self._batch)
        rows = rows_of(_changed(item.name, old, self._changes[item.name]), item, self._batch)
        if item.extra is None:
            executor.write(which, item.view.buffer, item.view.start, rows)
            return
        executor.read_extra(which, op, item.extra)[...] = rows
        if op.kind == "attention":
            executor.give(which, i, item.extra)
            executor.run_ops(which, i, i + 1)
        elif op.kind == "embedding":
            with np.errstate(all="ignore"):
                rows = executor.read_extra(which, op, "embedding") + executor.read_extra(which, op, "position")
            executor.write(which, op.output, 0, rows)
        else:  # the residual inside add_layer_norm
            executor.write(which, op.output, 0, self._workspace.normalised(op, rows))


def _changed(name: str, old: Floats, change: Change) -> Floats:
    """What goes in the place of `old`, of its shape and type. Raises TypeError or ValueError for what cannot."""
    new = np.asarray(change(old.copy()) if callable(change) else change)
    if new.dtype.kind not in "biuf":
        raise TypeError(f"{name} must become an array of real numbers, got {new.dtype}")
    try:
        return np.array(np.broadcast_to(new, old.shape), old.dtype)
    except ValueError:
        raise ValueError(f"{name} must keep its shape {old.shape}, got {new.shape}") from None
