"""What greedy search, sampling and beam search share: the decoder's side, and the best tokens of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from .kernels import MOST_TOP
from .logits_rules import log_softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtfast.logits_rules import Rules
    from rtfast.typing import Floats, Ids

#: Tokens that are looked at as one in the search for the largest k of many.
BLOCK = 64


class Steps(Protocol):
    """A decoder that goes on with some targets, one token each: decoder_steps.py has the engine's."""

    def begin(self, sources: list[int], prompts: Ids) -> None:
        """Start anew: targets (n,), each with the source sentence that it decodes and the tokens (n, P) that it
        has. The last of these are not read yet: the first step gets them."""

    def step(self, ids: Ids, parents: Sequence[int] | Ids | None) -> Floats:
        """One more token for each of R targets, ids (R,) -> logits (R, V).

        Target r goes on where target parents[r] of the step before was; None: where r was. Targets may be fewer,
        more, or in another order than before.
        """

    def top(self, ids: Ids, parents: Sequence[int] | Ids | None, k: int, log_probs: bool) -> tuple[Floats, Ids]:
        """A step, and of each target the k largest logits, descending, of equal ones the lower id first:
        (values (R, k), ids (R, k)). log_probs: of the log-softmax in their place. k: MOST_TOP at most."""

    def largest(self, ids: Ids, parents: Sequence[int] | Ids | None, k: int) -> tuple[Floats, Ids]:
        """`top` without log_probs, and perhaps without the other logits."""

    def several(self, ids: Ids, parents: Sequence[int] | Ids | None, ends: Ids, most: int,
                log_probs: bool) -> tuple[Ids, Floats]:
        """Up to `most` steps, each on the likeliest token of the one before, until a target gets one of `ends`
        (int64 ids): tokens and their values as of `top` (steps, R)."""

    def logits(self) -> Floats:
        """After `top`: all logits (R, V) of that step."""


class Hypothesis(NamedTuple):
    """What a search found for a sentence."""

    #: the tokens after the prompt, EOS included where it came
    ids: list[int]
    #: beam search: log-probability / length ** length_penalty; else the log-probability, None if not asked for
    score: float | None
    #: as text, where the model has a tokenizer
    text: str | None = None
    #: cross-attention (layers, n_heads, T, S) of each token to the source, where it was asked for
    attention: Floats | None = None


def best(steps: Steps, latest: Ids, parents: Sequence[int] | Ids | None, k: int, rules: Rules, ids: Ids, *,
         log_probs: bool, own_logits: bool = False) -> tuple[Floats, Ids]:
    """A step, and the k best tokens of each target, after the rules.

    latest (R,), parents: the step's. rules: `Rules`. ids (R, T): the targets' ids so far, latest the last of
    them. log_probs: the values are log-probabilities, else logits. own_logits: the rules see logits, as in greedy
    search, not log-probabilities, as in beam search.
    Returns values (R, k) descending and tokens (R, k): of equals the lower id first. k: V at most counts.
    """
    excluded = rules.excluded(ids.shape[1])
    # Among the best k + m are the best k of those that are not one of m excluded ones.
    if excluded is not None and k + len(excluded) <= MOST_TOP and not (own_logits and log_probs and len(excluded)):
        wanted = min(k + len(excluded), rules.vocab_size)
        values, tokens = (steps.top(latest, parents, wanted, True) if log_probs
                          else steps.largest(latest, parents, wanted))
        return without(excluded, values, tokens, k) if len(excluded) else (values, tokens)
    scores = np.array(steps.step(latest, parents), dtype=np.float32)
    if own_logits:
        rules(scores, ids)
        values, tokens = top_k(scores, k)
        if log_probs:  # where the rules left no word at all, -inf
            values = np.where(values == -np.inf, values, np.take_along_axis(log_softmax(scores), tokens, axis=1))
        return values, tokens
    scores = log_softmax(scores)
    return top_k(rules(scores, ids) if rules else scores, k)


def without(excluded: Ids, values: Floats, tokens: Ids, k: int) -> tuple[Floats, Ids]:
    """The first k of descending values (R, n) and their tokens once the excluded tokens have gone to the end."""
    out = np.isin(tokens, excluded)
    values = np.where(out, values.dtype.type(-np.inf), values)
    order = np.argsort(out, axis=1, kind="stable")[:, :k]  # by value they are already, a NaN first
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(tokens, order, axis=1)


def top_k(scores: Floats, k: int) -> tuple[Floats, Ids]:
    """The k largest of each row of scores (R, V), descending: values (R, k) and places (R, k).

    Of equal scores the one of the lower place comes first, and NaN before all numbers, as by `kernels.top_k`; but k may
    be any number.
    """
    rows, width = scores.shape
    k = min(k, width)
    if width < 2 * k * BLOCK:
        places = _largest(scores, k)
    else:
        # The largest k lie in the k blocks whose maxima are largest: what is in no block is never sorted.
        whole = width // BLOCK * BLOCK
        maxima = scores[:, :whole].reshape(rows, -1, BLOCK).max(axis=2)
        blocks = _largest(maxima, k)
        places = (blocks[:, :, None] * BLOCK + np.arange(BLOCK)).reshape(rows, -1)
        places = np.concatenate((places, np.broadcast_to(np.arange(whole, width), (rows, width - whole))), axis=1)
        chosen = _largest(np.take_along_axis(scores, places, axis=1), k)
        places = np.take_along_axis(places, chosen, axis=1)
    places.sort(axis=1)
    values = np.take_along_axis(scores, places, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    values, places = np.take_along_axis(values, order, axis=1), np.take_along_axis(places, order, axis=1)
    # Where others equal the k-th, chance took the ones above: rarely more than a row. NaN, if any, is among the values.
    again = ((scores >= values[:, -1:]).sum(axis=1) > k) | np.isnan(values).any(axis=1)
    for row in np.flatnonzero(again):
        places[row] = np.lexsort((-scores[row], ~np.isnan(scores[row])))[:k]
        values[row] = scores[row, places[row]]
    return values, places


def _largest(values: Floats, k: int) -> Ids:
    """The places (R, k) of the k largest of each row, in any order."""
    if k == values.shape[1]:
        return np.broadcast_to(np.arange(k), (len(values), k)).copy()
    return np.argpartition(values, values.shape[1] - k, axis=1)[:, values.shape[1] - k:]
