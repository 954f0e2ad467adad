"""Generation for many sentences: what is decoded together, by which search, and the results in order."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from .beam_search import BeamSearch
from .decoder_steps import DecoderSteps
from .generation_options import GenerationOptions
from .greedy_search import GreedySearch
from .logits_rules import rules_of
from .sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rtfast.config import Config
    from rtfast.generation_options import Limits
    from rtfast.logits_rules import Rules
    from rtfast.screening import Screening
    from rtfast.search import Hypothesis
    from rtfast.typing import Ids
    from rtfast.workspace import Workspace

#: What is encoded and decoded at a time: sentences, targets (their beams or samples), source tokens.
SENTENCES, TARGETS, SOURCE_TOKENS = 64, 256, 4096
#: Greedy steps in one call of the engine: with a small model it keeps the GIL for so many, a few microseconds each.
STEPS_AT_ONCE = 16


def options_of(config: Config, fields: dict[str, Any] | GenerationOptions | None = None) -> GenerationOptions:
    """The `GenerationOptions` that a model starts from: its ids, and other options or the fields of a
    generation_config.json, of which an id that is None is none.

    Raises TypeError for anything else, ValueError for a field that is no option and as `GenerationOptions` does. A
    max_length or max_new_tokens beyond the model's positions becomes as much as they allow.
    """
    own = {"decoder_start_token_id": config.sos_id, "eos_token_id": config.eos_id, "pad_token_id": config.pad_id}
    if isinstance(fields, GenerationOptions):
        given = {name: value for name, value in dataclasses.asdict(fields).items() if value is not None}
    elif fields is None or isinstance(fields, dict):
        given = dict(fields or {})
        GenerationOptions.check_known(given)
    else:
        raise TypeError("generation must be a dict of options, a GenerationOptions or None, got "
                        f"{type(fields).__name__}")
    for name, most in (("max_length", config.max_length + 1), ("max_new_tokens", config.max_length)):
        if isinstance(given.get(name), int):
            given[name] = min(given[name], most)
    return GenerationOptions.from_dict({**own, **given})


def lanes(options: GenerationOptions) -> int:
    """How many targets each sentence has at a time."""
    return options.num_return_sequences if options.do_sample else options.num_beams


def parts(sentences: Sequence[Ids], prompts: Sequence[Ids], options: GenerationOptions,
          max_batch_tokens: int | None = None) -> list[list[int]]:
    """Which sentences go together, as lists of their places: alike in prompt length, alike long.

    Neither changes a result: each sentence's bits are its own.
    """
    if len(sentences) == 1:
        return [[0]]
    most = max(1, min(SENTENCES, TARGETS // lanes(options)))
    tokens = SOURCE_TOKENS if max_batch_tokens is None else max_batch_tokens
    order = sorted(range(len(sentences)), key=lambda place: (len(prompts[place]), -len(sentences[place])))
    found: list[list[int]] = [[]]
    held = 0
    for place in order:
        length, part = len(sentences[place]), found[-1]
        if part and (len(part) == most or held + length > tokens or len(prompts[place]) != len(prompts[part[0]])):
            part, held = [], 0
            found.append(part)
        part.append(place)
        held += length
    return found


def search(workspace: Workspace, decoders: tuple[int, int, Screening | None], options: GenerationOptions,
           limits: Limits, prompts: Ids, words: int, places: Sequence[int], *, scores: bool = False,
           stop: Callable[[list[int]], object] | None = None) -> tuple[list[list[Hypothesis]], tuple[int, int] | None]:
    """Hypotheses, a list for each of the sentences that the workspace has encoded; and which is the first bad one,
    by its sentence and its place in that list, or None.

    decoders: the workspace's programs, as `DecoderSteps` takes them. limits: `Limits`. prompts: (n, P). words: of
    the vocabulary. places: of the sentences among all that were asked for, which a seeded draw depends on. scores:
    also without beams. stop(ids): called with the ids of a target after the start id; what is true ends it.
    """
    n, rules = len(prompts), rules_of(options, limits, words)
    steps = DecoderSteps(workspace, *decoders, options.num_beams)
    if options.mode == "beam":
        beam_search = BeamSearch(steps, options, rules, limits, range(n), prompts)
        found, bad = beam_search.run(), beam_search.bad
        return found, None if bad is None else (bad, 0)
    many = options.num_return_sequences
    steps_of_all = one_by_one(steps, options, rules, limits, prompts, places, scores=scores, stop=stop,
                              at_once=STEPS_AT_ONCE)
    for _ in steps_of_all:
        pass
    hypotheses, bad = steps_of_all.hypotheses, steps_of_all.bad
    found = [[one] for one in hypotheses] if many == 1 else [
        hypotheses[i:i + many] for i in range(0, len(hypotheses), many)]
    return found, None if bad is None else divmod(bad, many)


def one_by_one(steps: DecoderSteps, options: GenerationOptions, rules: Rules, limits: Limits, prompts: Ids,
               places: Sequence[int], *, scores: bool = False, stop: Callable[[list[int]], object] | None = None,
               at_once: int = 1) -> Sampling | GreedySearch:
    """The search without beams, to be iterated over: each time it makes a step, or `at_once` of them. Arguments of
    `search`."""
    sources, many = list(range(len(prompts))), options.num_return_sequences
    if many > 1:
        sources, prompts = [b for b in sources for _ in range(many)], np.repeat(prompts, many, axis=0)
    ends: Callable[[int, list[int]], object] | None = stop and (
        lambda place, ids: stop(prompts[place, 1:].tolist() + ids))
    if options.do_sample:
        draws = [generator(options.seed, place, i) for place in places for i in range(many)]
        return Sampling(steps, options, rules, limits, sources, prompts, draws=draws, scores=scores, stop=ends)
    return GreedySearch(steps, options, rules, limits, sources, prompts, scores=scores, stop=ends, at_once=at_once)


def generator(seed: int | None, place: int, sample: int) -> np.random.Generator:
    """What draws sample number `sample` of the sentence in this place: with a seed always the same."""
    return np.random.default_rng(None if seed is None else [seed, place, sample])
