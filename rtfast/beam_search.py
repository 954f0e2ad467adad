"""Beam search: the num_beams likeliest beginnings of a translation, each one token longer at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .search import Hypothesis, best

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rtfast.generation_options import GenerationOptions, Limits
    from rtfast.logits_rules import Rules
    from rtfast.search import Steps
    from rtfast.typing import Bools, Floats, Ids

#: The score of what must not win: a beam that holds no beginning yet, a beam that has ended. It is added in
#: float32, as in transformers, so that what remains of the score below it is the same.
NEVER = np.float32(-1e9)


class BeamSearch:
    """The best continuations of n prompts by beam search, as transformers' `generate` finds them.

    steps, options, rules, limits, sources, prompts: as of `GreedySearch`; options.num_beams is 2 or more.
    A sentence leaves the batch when its search is decided; the others do not notice.

    Raises ValueError where the vocabulary is too small for so many beams.
    """

    def __init__(self, steps: Steps, options: GenerationOptions, rules: Rules, limits: Limits, sources: Iterable[int],
                 prompts: Ids) -> None:
        # So many candidates that num_beams of them go on even if every beam could end with every EOS.
        self._kept = max(2, 1 + len(options.eos_ids)) * options.num_beams
        if self._kept > options.num_beams * rules.vocab_size:
            raise ValueError(f"num_beams: beam search with {len(options.eos_ids)} EOS ids needs a vocabulary of at "
                             f"least {self._kept // options.num_beams} words, got {rules.vocab_size}")
        self._steps, self._options, self._rules, self._limits = steps, options, rules, limits
        self._sources, self._prompts = list(sources), prompts
        self.bad: int | None = None

    def run(self) -> list[list[Hypothesis]]:
        """Make the steps; of each prompt its num_return_sequences best `Hypothesis`, the best first, fewer where the
        rules leave fewer: where they leave no word before any has ended, the best beginning with the score -inf. And
        an empty one with the score NaN where the logits were NaN. `bad` is the first such."""
        most = self._options.num_return_sequences
        with np.errstate(over="ignore", invalid="ignore"):
            found = self._search()
        found = [[Hypothesis(ids, float(score)) for score, ids in best_first[:most]] for best_first in found]
        self.bad = next((place for place, hypotheses in enumerate(found) if not hypotheses), None)
        return [hypotheses or [Hypothesis([], float("nan"))] * most for hypotheses in found]

    def _search(self) -> list[list[tuple[Any, list[int]]]]:
        """Hypotheses, (score, ids) and best first, of every prompt."""
        steps, options, rules, limits = self._steps, self._options, self._rules, self._limits
        n, prompt_length = self._prompts.shape
        beams, eos_ids = options.num_beams, options.eos_ids
        # Of each sentence at most `beams`, the best first.
        hypotheses: list[list[tuple[Any, list[int]]]] = [[] for _ in range(n)]
        running = np.arange(n)               # the sentence behind each `beams` rows
        scores = np.full((n, beams), NEVER)  # log-probabilities; all beams begin alike, one is enough
        scores[:, 0] = 0.0
        steps.begin(self._sources, self._prompts)
        parents, ids, latest = None, self._prompts[:, None], np.ascontiguousarray(self._prompts[:, -1])
        for length in range(prompt_length + 1, limits.max_length + 1):  # of ids (n, 1 or beams, T) with this token
            m = len(running)
            values, tokens = best(steps, latest, parents, self._kept, rules, ids.reshape(-1, length - 1),
                                  log_probs=True)
            # Each sentence's `kept` best among all tokens of its beams; (m, 1 or beams, k) -> (m, kept)
            totals = scores[:, :, None] + values.astype(np.float32, copy=False).reshape(m, -1, values.shape[1])
            totals = totals.reshape(m, -1)
            tokens = np.broadcast_to(tokens.reshape(m, -1, values.shape[1]), (m, beams, values.shape[1])).reshape(m, -1)
            order = np.argsort(-totals, axis=1, kind="stable")[:, :self._kept]
            totals, tokens = np.take_along_axis(totals, order, axis=1), np.take_along_axis(tokens, order, axis=1)
            beam = order // values.shape[1] if ids.shape[1] > 1 else np.zeros_like(order)
            ended = np.isin(tokens, eos_ids) if length < limits.max_length else np.ones(tokens.shape, bool)

            # An end counts where it is among the best num_beams; what comes from no beginning is none.
            penalty = np.float32((length - prompt_length) ** options.length_penalty)
            for s, c in np.argwhere(ended[:, :beams] & (totals[:, :beams] > NEVER / 2)).tolist():
                _keep(hypotheses[running[s]], beams, totals[s, c] / penalty,
                      ids[s, beam[s, c], prompt_length:].tolist() + [int(tokens[s, c])])
            # Where the rules left no word at all and nothing has ended, what there is: the best beginning.
            for s in np.flatnonzero((totals == -np.inf).all(axis=1)).tolist():
                if not hypotheses[running[s]]:
                    _keep(hypotheses[running[s]], beams, -np.inf, ids[s, 0, prompt_length:].tolist())
            if length == limits.max_length:
                break

            # The best that have not ended go on.
            totals = totals + ended * NEVER
            chosen = np.argsort(-totals, axis=1, kind="stable")[:, :beams]
            scores = np.take_along_axis(totals, chosen, axis=1)
            undecided = _undecided(
                [hypotheses[s] for s in running], scores[:, 0], length - prompt_length, limits, options)
            sentences = np.flatnonzero(undecided)
            if not len(sentences):
                break
            before = np.take_along_axis(beam, chosen, axis=1)[sentences]
            latest = np.take_along_axis(tokens, chosen, axis=1)[sentences]
            parents = (sentences[:, None] * ids.shape[1] + before).ravel()
            ids = np.concatenate((ids[sentences[:, None], before], latest[:, :, None]), axis=2)
            latest, scores, running = latest.ravel(), scores[sentences], running[sentences]
        return hypotheses


def _keep(hypotheses: list[tuple[Any, list[int]]], most: int, score: Any, ids: list[int]) -> None:
    """Put a hypothesis in its place among a sentence's best, `most` at most; equals stay in order."""
    place = sum(not hypothesis[0] < score for hypothesis in hypotheses)
    hypotheses.insert(place, (score, ids))
    del hypotheses[most:]


def _undecided(hypotheses: list[list[tuple[Any, list[int]]]], best_running: Floats, new_tokens: int, limits: Limits,
               options: GenerationOptions) -> Bools:
    """Whether each sentence's search goes on, (m,).

    hypotheses: (score, ids) of each. best_running: log-probability (m,) of each sentence's best beam, which has
    `new_tokens`. The score that this beam may get to is guessed, as in transformers: as if it ended now, or,
    with early_stopping "never", at the length that would be best for it.
    """
    full = np.array([len(found) == options.num_beams for found in hypotheses])
    worst = np.array([found[-1][0] if done else NEVER for found, done in zip(hypotheses, full, strict=True)])
    longest = options.early_stopping == "never" and options.length_penalty > 0
    tokens = limits.max_length - limits.prompt_length if longest else new_tokens
    going_on = best_running / np.float32(tokens ** options.length_penalty) > worst
    return going_on & ~full if options.early_stopping is True else going_on
