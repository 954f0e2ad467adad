"""Rules on the scores of the next token: which tokens are excluded, forced or penalised, and what a draw is among.

Every rule takes scores (R, V) and the rows' ids so far (R, T), the prompt counted, and changes the scores in
place. What a rule does is what the logits processor of that name does in transformers, so that the same
options give the same ids.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .generation_options import several
from .kernels import exp, softmax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    from rtfast.generation_options import GenerationOptions, Limits
    from rtfast.typing import Array, Floats, Ids

    #: Changes scores (R, V) of rows that have ids (R, T), in place.
    Rule: TypeAlias = Callable[[Floats, Ids], None]

LOWEST = -np.inf
NOTHING = np.empty(0, np.int64)


class RepetitionPenalty:
    """Tokens that came before: a negative score is multiplied by the penalty, another divided by it."""

    def __init__(self, penalty: float) -> None:
        self.penalty = np.float32(penalty)

    def __call__(self, scores: Floats, ids: Ids) -> None:
        seen = np.take_along_axis(scores, ids, axis=1)
        # A token that came twice is written twice, with one value.
        np.put_along_axis(scores, ids, np.where(seen < 0, seen * self.penalty, seen / self.penalty), axis=1)


class NoRepeatNgram:
    """The tokens that would complete an n-gram of `size` tokens that the row has already are excluded."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, scores: Floats, ids: Ids) -> None:
        n, length = self.size, ids.shape[1]
        if length < n:
            return
        windows = np.lib.stride_tricks.sliding_window_view(ids, n, axis=1)  # (R, T - n + 1, n)
        same = (windows[:, :, :-1] == ids[:, None, length - n + 1:]).all(axis=2)
        row, place = np.nonzero(same)
        scores[row, windows[row, place, -1]] = LOWEST


class Excluded:
    """Some tokens are excluded always: bad words of one token, suppressed tokens."""

    def __init__(self, tokens: Iterable[int]) -> None:
        self.tokens = np.array(sorted(set(tokens)), np.int64)

    def __call__(self, scores: Floats, ids: Ids) -> None:
        scores[:, self.tokens] = LOWEST

    def excluded(self, length: int) -> Ids:
        """Its tokens, at any length."""
        return self.tokens


class BadWords:
    """The last token of a bad word of several tokens is excluded where the row ends with those before it.

    words: tuples of two or more ids.
    """

    def __init__(self, words: Iterable[tuple[int, ...]]) -> None:
        by_length: dict[int, list[tuple[int, ...]]] = {}
        for word in dict.fromkeys(words):
            by_length.setdefault(len(word) - 1, []).append(word)
        self.groups = [(before, np.array([word[:-1] for word in group]), np.array([word[-1] for word in group]))
                       for before, group in by_length.items()]

    def __call__(self, scores: Floats, ids: Ids) -> None:
        for before, starts, lasts in self.groups:
            if before <= ids.shape[1]:
                row, word = np.nonzero((ids[:, None, ids.shape[1] - before:] == starts).all(axis=2))
                scores[row, lasts[word]] = LOWEST


class MinLength:
    """EOS is excluded until a row has `length` tokens, the prompt counted."""

    def __init__(self, length: int, eos_ids: Sequence[int]) -> None:
        self.length, self.eos_ids = length, np.asarray(eos_ids, dtype=np.int64)

    def __call__(self, scores: Floats, ids: Ids) -> None:
        scores[:, self.excluded(ids.shape[1])] = LOWEST

    def excluded(self, length: int) -> Ids:
        """The EOS ids while rows are too short."""
        return self.eos_ids if length < self.length else self.eos_ids[:0]


class Forced:
    """Rows of `length` tokens go on with one of `tokens`: these have score 0, and all others are excluded."""

    def __init__(self, length: int, tokens: Sequence[int]) -> None:
        self.length, self.tokens = length, np.asarray(tokens, dtype=np.int64)

    def __call__(self, scores: Floats, ids: Ids) -> None:
        if ids.shape[1] == self.length:
            scores[...] = LOWEST
            scores[:, self.tokens] = 0.0

    def excluded(self, length: int) -> Ids | None:
        """None where a token is forced: then it does more than exclude."""
        return None if length == self.length else self.tokens[:0]


class Renormalize:
    """The scores become log-probabilities again, but for rows whose every word is excluded; the last of the rules."""

    def __call__(self, scores: Floats, ids: Ids) -> None:
        left = scores.max(axis=1) != LOWEST
        scores[left] = log_softmax(scores[left])


class Rules:
    """The rules that the options ask for, in transformers' order; false where there are none."""

    def __init__(self, rules: Iterable[Rule], vocab_size: int) -> None:
        self.rules, self.vocab_size = tuple(rules), vocab_size

    def __len__(self) -> int:
        return len(self.rules)

    def __call__(self, scores: Floats, ids: Ids) -> Floats:
        """Apply all to scores (R, V) of rows that have ids (R, T), in place."""
        with np.errstate(over="ignore", invalid="ignore"):
            for rule in self.rules:
                rule(scores, ids)
        return scores

    def excluded(self, length: int) -> Ids | None:
        """The tokens, ascending, that the rules exclude in rows of `length` tokens, where that is all they do.

        None where they do more, or it depends on the row: then the scores of all tokens are needed.
        """
        if not self.rules:
            return NOTHING
        tokens, normal = NOTHING, True
        for rule in self.rules:
            if isinstance(rule, Renormalize):
                normal = not len(tokens)  # what is normalised stays so where nothing was excluded
                continue
            part = rule.excluded(length) if hasattr(rule, "excluded") else None
            if part is None:
                return None
            tokens = np.concatenate((tokens, part))
        return np.array(sorted(set(tokens.tolist())), np.int64) if normal else None


def rules_of(options: GenerationOptions, limits: Limits, vocab_size: int) -> Rules:
    """The `Rules` of options (`GenerationOptions`) for sentences of `limits`; without warpers. They keep no state.

    Raises ValueError for an id that the vocabulary has not.
    """
    known, key = options.remembered, (limits, vocab_size)
    rules: Rules | None = known.get(key)
    if rules is None:
        if len(known) >= 64:
            known.clear()
        rules = known[key] = _made_of(options, limits, vocab_size)
    return rules


def _made_of(options: GenerationOptions, limits: Limits, vocab_size: int) -> Rules:
    _check_ids(options, vocab_size)
    rules: list[Rule] = []
    if options.repetition_penalty != 1.0:
        rules.append(RepetitionPenalty(options.repetition_penalty))
    if options.no_repeat_ngram_size:
        rules.append(NoRepeatNgram(options.no_repeat_ngram_size))
    single = _single(options)
    if single:
        rules.append(Excluded(single))
    long = [word for word in options.bad_words_ids or () if len(word) > 1]
    if long:
        rules.append(BadWords(long))
    if limits.min_length > limits.prompt_length and options.eos_ids:
        rules.append(MinLength(limits.min_length, options.eos_ids))
    if options.forced_bos_token_id is not None and limits.prompt_length == 1:
        rules.append(Forced(1, [options.forced_bos_token_id]))
    if options.forced_eos_token_id is not None:
        rules.append(Forced(limits.max_length - 1, several(options.forced_eos_token_id)))
    if options.suppress_tokens:
        rules.append(Excluded(options.suppress_tokens))
    if options.renormalize_logits and options.num_beams > 1 and rules:
        # Beams alone need it: neither the likeliest token nor a draw's probabilities depend on it.
        rules.append(Renormalize())
    return Rules(rules, vocab_size)


def _check_ids(options: GenerationOptions, vocab_size: int) -> None:
    named = {"bad_words_ids": [token for word in options.bad_words_ids or () for token in word],
             "suppress_tokens": options.suppress_tokens or (), "eos_token_id": options.eos_ids,
             "forced_bos_token_id": several(options.forced_bos_token_id),
             "forced_eos_token_id": several(options.forced_eos_token_id)}
    for name, ids in named.items():
        outside = [token for token in ids if token >= vocab_size]
        if outside:
            raise ValueError(f"{name} must be ids of the vocabulary, 0..{vocab_size - 1}, got {outside[:5]}")
    if len({*(options.suppress_tokens or ()), *_single(options)}) == vocab_size:
        raise ValueError("suppress_tokens and bad_words_ids must leave a word of the vocabulary, got all of its "
                         f"{vocab_size}")


def _single(options: GenerationOptions) -> list[int]:
    """Bad words of one token, which no EOS is."""
    return [word[0] for word in options.bad_words_ids or () if len(word) == 1 and word[0] not in options.eos_ids]


# Warpers: what a draw is among ----------------------------------------------------------------


def warp_temperature(scores: Floats, temperature: float) -> None:
    """Divide the scores; in place. Where they would leave float32, their distances from the largest are divided."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.abs(scores).max(where=np.isfinite(scores), initial=0) > 1e38 * float(temperature):
            scores[...] = (scores - scores.max(axis=1, keepdims=True).astype(np.float64)) / temperature
        else:
            scores /= np.float32(temperature)


def keep_top_k(scores: Floats, k: int) -> None:
    """Exclude what is less than the k-th largest score of its row (equal ones stay); in place."""
    k = min(k, scores.shape[1])
    kth = np.partition(scores, -k, axis=1)[:, -k:][:, :1]
    scores[scores < kth] = LOWEST


def keep_top_p(scores: Floats, p: float) -> None:
    """Exclude the least likely tokens that have a probability of at most 1 - p together, never the likeliest."""
    order = np.argsort(scores, axis=1, kind="stable")
    below = np.cumsum(softmax(np.take_along_axis(scores, order, axis=1)), axis=1, dtype=np.float32)
    out = below <= np.float32(1 - p)
    out[:, -1] = False
    row, place = np.nonzero(out)
    scores[row, order[row, place]] = LOWEST


def keep_min_p(scores: Floats, p: float) -> None:
    """Exclude tokens that have less than p times the probability of the row's likeliest; in place."""
    probabilities = softmax(scores)
    scores[probabilities < np.float32(p) * probabilities.max(axis=1, keepdims=True)] = LOWEST


def warp(scores: Floats, options: GenerationOptions, top_k: bool = True) -> Floats:
    """Temperature, top-k, top-p and min-p as far as options ask for them, in transformers' order, in place.

    top_k: False where the scores are the top-k already.
    """
    if options.temperature != 1.0:
        warp_temperature(scores, options.temperature)
    if top_k and options.top_k:
        keep_top_k(scores, options.top_k)
    if options.top_p < 1.0:
        keep_top_p(scores, options.top_p)
    if options.min_p is not None:
        keep_min_p(scores, options.min_p)
    return scores


def log_softmax(scores: Floats, out: Floats | None = None) -> Floats:
    """Log-probabilities (R, V) of scores (R, V); NaN in a row that excludes every token."""
    with np.errstate(over="ignore", invalid="ignore"):
        result: Floats = np.subtract(scores, scores.max(axis=1, keepdims=True), out=out)
        result -= logarithms(exp(result).sum(axis=1))[:, None]
    return result


def logarithms(x: Floats) -> Array:
    """log of x (R,) >= 0, float64: by the C library, since NumPy's has other last bits on other CPUs."""
    return np.array([math.log(number) if number else LOWEST for number in x.tolist()])
