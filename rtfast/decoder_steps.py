"""The engine's side of a search: decode steps on a workspace. No keys or values move, whatever the search does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtfast.screening import Screening
    from rtfast.typing import Floats, Ids
    from rtfast.workspace import Workspace


class DecoderSteps:
    """`search.Steps` on a workspace in which the source sentences are encoded.

    plain, choosing: the workspace's decoder programs, without and with the choice of the likeliest words.
    screening(words): the one to find so many of these with and without all logits, None for `choosing`.
    beams: 2 or more where targets branch, so many of each sentence from the second step on.
    """

    def __init__(self, workspace: Workspace, plain: int, choosing: int, screening: Screening | None = None,
                 beams: int = 1) -> None:
        self._workspace, self._plain, self._choosing, self._beams = workspace, plain, choosing, beams
        self._screening = screening

    def begin(self, sources: list[int], prompts: Ids) -> None:
        """Targets with the tokens that they have, of which the last is not read yet."""
        self._workspace.begin_steps(sources, prompts[:, :-1], self._plain, self._beams)

    def step(self, ids: Ids, parents: Sequence[int] | Ids | None) -> Floats:
        """One more token for each target: all logits (R, V)."""
        self._go_on(parents)
        self._workspace.step(self._plain, ids)
        return self._workspace.result(self._plain, "logits")

    def top(self, ids: Ids, parents: Sequence[int] | Ids | None, k: int, log_probs: bool) -> tuple[Floats, Ids]:
        """A step, and the k largest logits or log-probabilities with their ids, each (R, k)."""
        return self._chosen(self._choosing, ids, parents, k, log_probs)

    def largest(self, ids: Ids, parents: Sequence[int] | Ids | None, k: int) -> tuple[Floats, Ids]:
        """The k largest logits with their ids, without the others where that pays."""
        return self._chosen(self._quickest(len(ids)), ids, parents, k, False)

    def _quickest(self, words: int) -> int:
        program = None if self._screening is None else self._screening(words)
        return self._choosing if program is None else program

    def _chosen(self, program: int, ids: Ids, parents: Sequence[int] | Ids | None, k: int,
                log_probs: bool) -> tuple[Floats, Ids]:
        self._go_on(parents)
        self._ask(k, log_probs)
        self._workspace.step(program, ids)
        return self._workspace.top(program, len(ids), k)

    def several(self, ids: Ids, parents: Sequence[int] | Ids | None, ends: Ids, most: int,
                log_probs: bool) -> tuple[Ids, Floats]:
        """Greedy steps in one call: tokens and values (steps, R)."""
        self._go_on(parents)
        self._ask(1, log_probs)
        program = self._choosing if log_probs else self._quickest(len(ids) * most)
        return self._workspace.choose(program, ids, ends, most)

    def logits(self) -> Floats:
        """All logits (R, V) of the step that `top` made."""
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
