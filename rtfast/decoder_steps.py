"""The engine's side of a search: decode steps on a workspace. No keys or values move, whatever the search does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtfast.typing import Floats, Ids
    from rtfast.workspace import Workspace


class DecoderSteps:
    """`search.Steps` on a workspace in which the source sentences are encoded.

    plain, choosing: the workspace's decoder programs, without and with the choice of the likeliest words; screened:
    one that finds these without all logits, or None.
    beams: 2 or more where targets branch, so many of each sentence from the second step on.
    """

    def __init__(self, workspace: Workspace, plain: int, choosing: int, screened: int | None = None,
                 beams: int = 1) -> None:
        self._workspace, self._plain, self._choosing, self._beams = workspace, plain, choosing, beams
        self._screened = choosing if screened is None else screened

    def begin(self, sources: list[int], prompts: Ids) -> None:
        self._workspace.begin_steps(sources, prompts[:, :-1], self._plain, self._beams)

    def step(self, ids: Ids, parents: Sequence[int] | Ids | None) -> Floats:
        self._go_on(parents)
        self._workspace.step(self._plain, ids)
        return self._workspace.result(self._plain, "logits")

    def top(self, ids: Ids, parents: Sequence[int] | Ids | None, k: int, log_probs: bool) -> tuple[Floats, Ids]:
        return self._chosen(self._choosing, ids, parents, k, log_probs)

    def largest(self, ids: Ids, parents: Sequence[int] | Ids | None, k: int) -> tuple[Floats, Ids]:
        return self._chosen(self._screened, ids, parents, k, False)

    def _chosen(self, program: int, ids: Ids, parents: Sequence[int] | Ids | None, k: int,
                log_probs: bool) -> tuple[Floats, Ids]:
        self._go_on(parents)
        self._ask(k, log_probs)
        self._workspace.step(program, ids)
        return self._workspace.top(program, len(ids), k)

    def several(self, ids: Ids, parents: Sequence[int] | Ids | None, ends: Ids, most: int,
                log_probs: bool) -> tuple[Ids, Floats]:
        self._go_on(parents)
        self._ask(1, log_probs)
        return self._workspace.choose(self._choosing if log_probs else self._screened, ids, ends, most)

    def logits(self) -> Floats:
        return self._workspace.result(self._choosing, "logits")

    def _ask(self, k: int, log_probs: bool) -> None:
        options = self._workspace.index["top_options"]
        options[0], options[1] = k, log_probs

    def _go_on(self, parents: Sequence[int] | Ids | None) -> None:
        if parents is None:
            return
        if self._beams > 1:
            self._workspace.reorder(parents, self._beams)
        else:
            self._workspace.keep(parents)
