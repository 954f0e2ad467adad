"""One token after the other: the likeliest (greedy search), or one that is drawn (sampling.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .search import Hypothesis, best

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rtfast.generation_options import GenerationOptions, Limits
    from rtfast.logits_rules import Rules
    from rtfast.search import Steps
    from rtfast.typing import Floats, Ids


class GreedySearch:
    """Continues each of n prompts by its likeliest token, again and again.

    steps: `search.Steps`. options: `GenerationOptions`. rules: `logits_rules.Rules`. limits: `Limits`.
    sources (n,): the encoded sentence that each decodes; prompts (n, P): ids, all of one length.
    scores: also the sum of the log-probabilities. stop(place, ids): called after each token with the ids so far;
    what is true ends that target. A target leaves the batch when it ends; the others do not notice.
    at_once: most steps in one call of the engine, where nothing has to look at the tokens in between.

    Iterating makes the steps: (places, tokens (steps, R)), which targets got which tokens. Then `hypotheses`, one
    for each target, and `bad`, the first target whose logits turned NaN, or None, are complete.
    """

    def __init__(self, steps: Steps, options: GenerationOptions, rules: Rules, limits: Limits, sources: Iterable[int],
                 prompts: Ids, *, scores: bool = False, stop: Callable[[int, list[int]], object] | None = None,
                 at_once: int = 1) -> None:
        self._steps, self._options, self._rules, self._limits = steps, options, rules, limits
        self._scores, self._stop, self._at_once = scores, stop, at_once
        self._sources, self._prompts = list(sources), prompts
        self._ids: list[list[int]] = [[] for _ in range(len(prompts))]
        self._totals = np.zeros(len(prompts)) if scores else None
        self.bad: int | None = None

    @property
    def hypotheses(self) -> list[Hypothesis]:
        """A `Hypothesis` for each target; complete once the iteration has ended."""
        if self._totals is None:
            return [Hypothesis(ids, None) for ids in self._ids]
        return [Hypothesis(ids, total) for ids, total in zip(self._ids, self._totals.tolist(), strict=True)]

    def __iter__(self) -> Iterator[tuple[list[int], Ids]]:
        running, parents = list(range(len(self._prompts))), None  # the target behind each row of a step
        so_far, latest = self._prompts, self._prompts[:, -1]
        eos, stop, with_ids = self._options.eos_ids, self._stop, bool(self._rules)
        left = self._limits.max_length - self._prompts.shape[1]
        self._steps.begin(self._sources, self._prompts)
        while left > 0:
            chosen, values = self._advance(latest, parents, so_far, running, left)
            left, latest = left - len(chosen), chosen[-1]
            if self._totals is not None:
                for step_values in values:
                    self._totals[running] += step_values
            going_on = []
            for row, (place, tokens, of_row) in enumerate(
                    zip(running, chosen.T.tolist(), values.T.tolist(), strict=True)):
                self._ids[place] += tokens
                for value in of_row:
                    if value != value and self.bad is None:
                        self.bad = place
                if tokens[-1] not in eos:
                    going_on.append(row)
            yield running, chosen
            if stop is not None:
                going_on = [row for row in going_on if not stop(running[row], list(self._ids[running[row]]))]
            if not going_on:
                return
            if with_ids:
                so_far = np.concatenate((so_far, latest[:, None]), axis=1)
            parents = None
            if len(going_on) < len(running):
                parents, latest, running = going_on, latest[going_on], [running[row] for row in going_on]
                so_far = so_far[going_on]

    def _advance(self, latest: Ids, parents: list[int] | None, so_far: Ids, running: list[int],
                 left: int) -> tuple[Ids, Floats]:
        """Steps, `left` at most: the ids and values (steps, R) of the running targets' next tokens.
        After all but the last of them every target goes on."""
        if self._rules or self._stop is not None:
            values, tokens = best(self._steps, latest, parents, 1, self._rules, so_far, log_probs=self._scores,
                                  own_logits=True)
            return tokens.T, values.T
        return self._steps.several(latest, parents, self._options.eos_array, min(left, self._at_once), self._scores)
