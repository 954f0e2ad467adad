"""Sampling: each next token is drawn from the model's distribution, as far as the options leave it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .greedy_search import GreedySearch
from .kernels import MOST_TOP, softmax
from .logits_rules import LOWEST, logarithms, warp
from .search import without

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtfast.typing import Floats, Ids


class Sampling(GreedySearch):
    """`GreedySearch` that draws; draws: a numpy Generator for each target, so that none depends on its company."""

    def __init__(self, *arguments: Any, draws: Sequence[np.random.Generator], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._draws = draws

    def _advance(self, latest: Ids, parents: list[int] | None, so_far: Ids, running: list[int],
                 left: int) -> tuple[Ids, Floats]:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            scores, tokens = self._candidates(latest, parents, so_far)
            probabilities = softmax(scores.astype(np.float64))
            ends = np.cumsum(probabilities, axis=1)
            points = np.array([[self._draws[place].random()] for place in running]) * ends[:, -1:]
            # The first whose share ends beyond the point: never one of probability 0. A NaN draws the first.
            chosen = np.minimum((ends <= points).sum(axis=1, keepdims=True), scores.shape[1] - 1)
            values = logarithms(np.take_along_axis(probabilities, chosen, axis=1)[:, 0])
            values[(scores == LOWEST).all(axis=1)] = LOWEST  # the rules left no word: as in greedy search
        return np.take_along_axis(tokens, chosen, axis=1).T, values[None]

    def _candidates(self, latest: Ids, parents: list[int] | None, so_far: Ids) -> tuple[Floats, Ids]:
        """A step: scores (R, n) and ids (R, n) of the tokens to draw from."""
        options, rules = self._options, self._rules
        excluded, k = rules.excluded(so_far.shape[1]), min(options.top_k, rules.vocab_size)
        if excluded is not None and k > 0 and k + len(excluded) < min(MOST_TOP, rules.vocab_size):
            values, tokens = self._steps.top(latest, parents, k + len(excluded) + 1, False)
            values, tokens = without(excluded, values, tokens, k + 1)
            values[:, k:][values[:, k:] < values[:, k - 1:k]] = LOWEST  # one that equals the k-th stays
            if not (values[:, k] == values[:, k - 1]).any():
                return warp(values.astype(np.float32), options, top_k=False), tokens
            scores = np.array(self._steps.logits(), dtype=np.float32)  # more than one may equal it
        else:
            scores = np.array(self._steps.step(latest, parents), dtype=np.float32)
        warp(rules(scores, so_far), options)
        return scores, np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
