"""The workspaces that a model keeps: lent to one run at a time, made when none is idle that is large enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rtfast.packing import PackedWeights
    from rtfast.program import Program
    from rtfast.typing import Backend
    from rtfast.workspace import Capacity

#: Sentences that are encoded and decoded at a time, and idle workspaces that are kept.
BATCH, IDLE_WORKSPACES = 64, 4


class IdleWorkspaces:
    """Workspaces for `programs`; `borrow` lends one. May be shared by threads.

    most_length: tokens of the longest sentence that the model takes.
    """

    def __init__(self, backend: Backend, programs: Sequence[Program], packed: PackedWeights, most_length: int) -> None:
        self.backend, self.programs, self.packed, self.most_length = backend, programs, packed, most_length
        self.idle: list[Workspace] = []

    def borrow(self, capacity: Capacity) -> _Borrowed:
        """A workspace of at least that `Capacity`, for the time of a `with`."""
        return _Borrowed(self, capacity)


class _Borrowed:
    """A workspace for the time of a `with`: an idle one that is large enough, or a new one.

    Only list.pop, list.append and list.extend touch the idle ones, each of them atomic: a workspace belongs to the
    thread that popped it, and a fork in between leaves no lock behind.
    """

    def __init__(self, owner: IdleWorkspaces, capacity: Capacity) -> None:
        self._owner, self._capacity = owner, capacity

    def __enter__(self) -> Workspace:
        owner, idle = self._owner, self._owner.idle
        found, too_small = None, []
        while found is None and (workspace := _pop(idle)):
            if workspace.capacity.covers(self._capacity):
                found = workspace
            else:
                too_small.append(workspace)
        idle.extend(too_small)
        if found is None:
            capacity = self._capacity.rounded_up(BATCH, owner.most_length)
            found = Workspace(owner.backend, owner.programs, owner.packed, capacity)
        self._workspace = found
        return found

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        # Only after a run that went well: nothing is left half done in a workspace that is used again.
        if kind is None:
            idle, others = self._owner.idle, []
            if not idle:
                idle.append(self._workspace)
                return
            while workspace := _pop(idle):
                if not self._workspace.capacity.covers(workspace.capacity):
                    others.append(workspace)
            idle.extend([*others[:IDLE_WORKSPACES - 1], self._workspace])


def _pop(idle: list[Workspace]) -> Workspace | None:
    """The last of a list that other threads pop from too, or None."""
    try:
        return idle.pop() if idle else None
    except IndexError:
        return None
