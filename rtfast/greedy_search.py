"""One token after the other: the likeliest (greedy search), or one that is drawn (sampling.py)."""

import numpy as np

from .search import Hypothesis, best


class GreedySearch:
    """Continues each of n prompts by its likeliest token, again and again.

    steps: `search.Steps`. options: `GenerationOptions`. rules: `logits_rules.Rules`. limits: `Limits`.
    sources (n,): the encoded sentence that each decodes; prompts (n, P): ids, all of one length.
    scores: also the sum of the log-probabilities. stop(place, ids): called after each token with the ids so far;
    what is true ends that target. A target leaves the batch when it ends; the others do not notice.

    Iterating makes the steps: each gives (places, tokens), which targets got which token. Then `hypotheses`, one
    for each target, and `bad`, the first target whose logits turned NaN, or None, are complete.
    """

    def __init__(self, steps, options, rules, limits, sources, prompts, *, scores=False, stop=None):
        self._steps, self._options, self._rules, self._limits = steps, options, rules, limits
        self._scores, self._stop = scores, stop
        self._sources, self._prompts = list(sources), prompts
        self._ids, self._totals = [[] for _ in prompts], np.zeros(len(prompts))
        self.bad = None

    @property
    def hypotheses(self):
        totals = self._totals.tolist() if self._scores else [None] * len(self._ids)
        return [Hypothesis(ids, total) for ids, total in zip(self._ids, totals, strict=True)]

    def __iter__(self):
        running, parents = list(range(len(self._prompts))), None  # the target behind each row of a step
        so_far, latest = self._prompts, np.ascontiguousarray(self._prompts[:, -1])
        eos, stop, rules = set(self._options.eos_ids), self._stop, self._rules
        self._steps.begin(self._sources, self._prompts)
        for _ in range(self._limits.max_length - self._prompts.shape[1]):
            values, latest = self._choose(latest, parents, so_far, running)
            if self.bad is None and (values != values).any():
                self.bad = running[int(np.flatnonzero(values != values)[0])]
            tokens = latest.tolist()
            for place, token in zip(running, tokens, strict=True):
                self._ids[place].append(token)
            if self._scores:
                self._totals[running] += values
            yield running, tokens
            going_on = [row for row, token in enumerate(tokens) if token not in eos]
            if stop is not None:
                going_on = [row for row in going_on if not stop(running[row], list(self._ids[running[row]]))]
            if not going_on:
                return
            if rules:
                so_far = np.concatenate((so_far, latest[:, None]), axis=1)
            parents = None
            if len(going_on) < len(running):
                parents, latest, running = going_on, latest[going_on], [running[row] for row in going_on]
                so_far = so_far[going_on]

    def _choose(self, latest, parents, so_far, running):
        """A step: of each running target the value (R,) and the id (R,) of its next token."""
        values, tokens = best(self._steps, latest, parents, 1, self._rules, so_far, log_probs=self._scores,
                              own_logits=True)
        return values[:, 0], tokens[:, 0]
