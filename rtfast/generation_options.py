"""What to generate and how to search for it: one frozen, checked `GenerationOptions`."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .config import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rtfast.typing import Ids

#: Most new tokens where no length is given and the model has positions for more.
DEFAULT_NEW_TOKENS = 512
MAX_ID = 2**31 - 1
#: Most targets of a sentence at a time, beams or samples; and as a model's defaults: no file may ask for all memory.
MAX_TARGETS, MAX_DEFAULT_TARGETS = 2**16, 1024
#: Beyond this, plus or minus, length ** length_penalty is no float32.
MAX_LENGTH_PENALTY = 10.0

#: Fields of a generation_config.json that change the ids in transformers and that are not supported here,
#: with the values that change nothing.
_UNSUPPORTED = {
    "encoder_no_repeat_ngram_size": (None, 0), "encoder_repetition_penalty": (None, 1.0),
    "begin_suppress_tokens": (None,), "sequence_bias": (None,), "typical_p": (None, 1.0), "top_h": (None,),
    "epsilon_cutoff": (None, 0.0), "eta_cutoff": (None, 0.0), "exponential_decay_length_penalty": (None,),
    "guidance_scale": (None, 1.0), "num_beam_groups": (None, 1), "diversity_penalty": (None, 0.0),
    "penalty_alpha": (None, 0.0), "constraints": (None,), "force_words_ids": (None,), "stop_strings": (None,),
    "max_time": (None,), "watermarking_config": (None,), "remove_invalid_values": (None, False),
    "forced_decoder_ids": (None,), "token_healing": (None, False), "dola_layers": (None,),
}

_SAMPLING_ONLY = ("temperature", "top_k", "top_p", "min_p", "seed")
_BEAM_ONLY = ("length_penalty", "early_stopping")
_PLAIN = {type(None), bool, int, float, str}


class Limits(NamedTuple):
    """Lengths in tokens, the prompt counted."""

    prompt_length: int
    #: EOS is excluded before a sentence is this long; 0 for never
    min_length: int
    #: a sentence ends with this length at the latest
    max_length: int


@dataclasses.dataclass(frozen=True)
class GenerationOptions:
    """How to generate; the names, defaults and meanings are those of transformers' GenerationConfig.

    Raises TypeError for a value of the wrong type (a bool is no integer), ValueError for one that does not
    fit, alone or with the others, and ValueError for an option that does nothing here, such as a temperature
    without do_sample: it was meant to do something. Those of a generation_config.json (`from_dict`) are the
    model's defaults for any search and may be idle.
    """

    #: most tokens after the prompt; goes before max_length; with neither it is what the model has positions for,
    #: at most 512
    max_new_tokens: int | None = None
    #: most tokens, the prompt counted
    max_length: int | None = None
    #: tokens after the prompt before EOS may come; goes before min_length
    min_new_tokens: int | None = None
    #: tokens, the prompt counted, before EOS may come
    min_length: int = 0
    #: hypotheses that beam search follows; 1 is greedy search (or sampling)
    num_beams: int = 1
    #: hypotheses to return of each sentence: at most num_beams, or any number of samples
    num_return_sequences: int = 1
    #: a hypothesis' score is its log-probability / (new tokens ** length_penalty)
    length_penalty: float = 1.0
    #: when a sentence's beam search ends: True, with num_beams hypotheses; False, when the best running one
    #: would not get among them if it ended now; "never", when it could not at any length
    early_stopping: bool | str = False
    #: no n-gram of this size comes twice; 0 for any may
    no_repeat_ngram_size: int = 0
    #: divides a positive score, and multiplies a negative one, of tokens that came before; 1 does nothing
    repetition_penalty: float = 1.0
    #: sequences of ids that may not come
    bad_words_ids: tuple[tuple[int, ...], ...] | None = None
    #: ids that may not come
    suppress_tokens: tuple[int, ...] | None = None
    #: the token after a prompt of one token
    forced_bos_token_id: int | None = None
    #: the last token of a sentence that got as long as it may; an id or several
    forced_eos_token_id: int | tuple[int, ...] | None = None
    #: the rules' scores are normalised again, to log-probabilities
    renormalize_logits: bool = False
    #: draw each token, do not take the likeliest
    do_sample: bool = False
    #: divides the scores before they become probabilities
    temperature: float = 1.0
    #: draw among this many likeliest tokens; 0 for all
    top_k: int = 50
    #: draw among the likeliest tokens that have this probability together; 1 for all
    top_p: float = 1.0
    #: draw among tokens that have this share of the likeliest one's probability
    min_p: float | None = None
    #: of the draws; None for a fresh one each time
    seed: int | None = None
    #: starts every target; where it is None, bos_token_id does
    decoder_start_token_id: int | None = None
    #: ends a sentence; an id or several
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None

    def __post_init__(self) -> None:
        self._check_values()
        self._check_together()
        self._check_idle([field.name for field in dataclasses.fields(self)])

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> GenerationOptions:
        """The options of a generation_config.json: unknown fields are ignored, null is the default.

        At most 1024 beams or samples: a request may ask for more.
        `unsupported(fields)` names those among the ignored that would change the result. What the values of
        several fields say together is checked once a search is asked for: `merged` and the searches do.
        """
        if not isinstance(fields, dict):
            raise TypeError(f"GenerationOptions: fields must be a dict, got {type(fields).__name__}")
        options = cls._unchecked({name: value for name, value in cls.known(fields).items() if value is not None})
        for name in ("num_beams", "num_return_sequences"):
            _integer(name, getattr(options, name), 1, MAX_DEFAULT_TARGETS)
        return options

    @staticmethod
    def unsupported(fields: dict[str, Any]) -> list[str]:
        """The names of a generation_config.json's fields that transformers would obey and that do nothing here."""
        return [name for name, value in fields.items() if name in _UNSUPPORTED and not _is_idle(name, value)]

    @classmethod
    def known(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Those of a generation_config.json's fields that are options here."""
        known = {field.name for field in dataclasses.fields(cls)}
        return {name: value for name, value in fields.items() if name in known}

    @classmethod
    def check_known(cls, fields: dict[str, Any]) -> None:
        """Raise ValueError that names what is no option here, unless it does nothing in transformers either."""
        known = cls.known(fields)
        others = [shown(name) for name, value in fields.items() if name not in known and not _is_idle(name, value)]
        if others:
            raise ValueError(f"generation: unknown or unsupported options {', '.join(others[:20])}"
                             f"{', ...' * (len(others) > 20)}; known are "
                             f"{', '.join(field.name for field in dataclasses.fields(cls))}")

    def merged(self, **overrides: Any) -> GenerationOptions:
        """These options with the user's own in their place; one that does nothing then is a ValueError."""
        types = tuple(map(type, overrides.values()))
        if not _PLAIN.issuperset(types):
            return self._merged(overrides)
        # Checking some thirty options takes as long as a small model's sentence: they are remembered.
        key = (*overrides.items(), types)  # True, 1 and 1.0 are equal, and differ as options
        options = self._merges.get(key)
        if options is None:
            if len(self._merges) >= 256:
                self._merges.clear()
            options = self._merges[key] = self._merged(overrides)
        return options

    @functools.cached_property
    def _merges(self) -> dict[Any, GenerationOptions]:
        return {}

    @functools.cached_property
    def remembered(self) -> dict[Any, Any]:
        """What others have made of these options, by what else it depends on: `logits_rules.rules_of`."""
        return {}

    def _merged(self, overrides: dict[str, Any]) -> GenerationOptions:
        known = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        unknown = [name for name in overrides if name not in known]
        if unknown:
            raise TypeError(f"generate: unknown option {', '.join(unknown[:20])}{', ...' * (len(unknown) > 20)}; "
                            f"known are {', '.join(known)}")
        # A user's length goes before a length of the model's, whichever of the two names each has.
        for mine, other in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
            if overrides.get(mine) is not None and overrides.get(other) is None:
                known[other] = None
        options = self._unchecked({**known, **overrides})
        options._check_together()
        options._check_idle(overrides)
        return options

    def changes(self, other: GenerationOptions) -> dict[str, Any]:
        """The fields, by name, in which these options differ from `other`."""
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return {name: value for name, value in mine.items() if value != theirs[name]}

    @functools.cached_property
    def mode(self) -> str:
        """The search: "greedy", "beam" or "sampling". Raises ValueError where the options do not fit together."""
        self._check_together()
        return "sampling" if self.do_sample else "beam" if self.num_beams > 1 else "greedy"

    @functools.cached_property
    def eos_ids(self) -> tuple[int, ...]:
        """The ids that end a sentence, a tuple of none, one or several."""
        return several(self.eos_token_id)

    @functools.cached_property
    def eos_array(self) -> Ids:
        """The same as an array (n,) of int64."""
        return np.array(self.eos_ids, np.int64)

    @functools.cached_property
    def start_array(self) -> Ids:
        """`start_id` as an array (1,) of int64 that nobody writes to."""
        start = np.array([self.start_id], np.int64)
        start.flags.writeable = False
        return start

    @property
    def given_start(self) -> int | None:
        """The id that starts every target, decoder_start_token_id or else bos_token_id; None where there is neither."""
        return self.bos_token_id if self.decoder_start_token_id is None else self.decoder_start_token_id

    @functools.cached_property
    def start_id(self) -> int:
        """`given_start`. Raises ValueError where there is none."""
        start = self.given_start
        if start is None:
            raise ValueError("generate: the config has no sos_id to start from, and neither decoder_start_token_id "
                             "nor bos_token_id is given")
        return start

    def limits(self, prompt_length: int, positions: int | None = None) -> Limits:
        """The lengths for a prompt of so many tokens. positions: tokens that the decoder has room for, or None.

        The last token is never fed to the decoder, so a sentence may be one longer than that. Raises
        ValueError for a prompt or an asked length that does not fit.
        """
        room: Any = math.inf if positions is None else positions + 1
        if prompt_length >= room:
            raise ValueError(f"{prompt_length} given tokens leave none of the decoder's {positions} positions")
        if self.max_new_tokens is not None:
            most = prompt_length + self.max_new_tokens
            if most > room:
                raise ValueError(
                    f"max_new_tokens must be from 1 to {room - prompt_length}, since of {positions} positions "
                    f"{prompt_length - 1} hold given tokens; got {self.max_new_tokens}")
        elif self.max_length is not None:
            most = self.max_length
            if not prompt_length < most <= room:
                raise ValueError(f"max_length must be more than the {prompt_length} tokens that are given and at most "
                                 f"{room}, one more than the decoder has positions; got {most}")
        else:
            most = min(prompt_length + DEFAULT_NEW_TOKENS, room)
        least = self.min_length if self.min_new_tokens is None else prompt_length + self.min_new_tokens
        return Limits(prompt_length, least, most)

    # Checks ---------------------------------------------------------------------------------

    @classmethod
    def _unchecked(cls, values: dict[str, Any]) -> GenerationOptions:
        """Options whose values are checked one by one only."""
        options = object.__new__(cls)
        for field in dataclasses.fields(cls):
            object.__setattr__(options, field.name, values.get(field.name, field.default))
        options._check_values()
        return options

    def _check_values(self) -> None:
        """Each value by itself, in plain Python types; lists become tuples."""
        for name in ("max_new_tokens", "max_length", "min_new_tokens"):
            self._replace(name, _integer, least=0 if name.startswith("min") else 1, optional=True)
        for name in ("num_beams", "num_return_sequences"):
            self._replace(name, _integer, least=1, most=MAX_TARGETS)
        for name in ("min_length", "no_repeat_ngram_size", "top_k"):
            self._replace(name, _integer, least=0)
        for name in ("forced_bos_token_id", "decoder_start_token_id", "pad_token_id", "bos_token_id"):
            self._replace(name, _integer, least=0, optional=True)
        for name in ("eos_token_id", "forced_eos_token_id"):
            self._replace(name, _id_or_ids)
        for name in ("repetition_penalty", "temperature"):
            self._replace(name, _number, above=0.0)
        self._replace("length_penalty", _number, least=-MAX_LENGTH_PENALTY, most=MAX_LENGTH_PENALTY)
        self._replace("top_p", _number, least=0.0, most=1.0)
        if self.min_p is not None:
            self._replace("min_p", _number, least=0.0, most=1.0)
        if self.seed is not None:
            self._replace("seed", _integer, least=0, most=2**128 - 1)
        for name in ("do_sample", "renormalize_logits"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, got {shown(getattr(self, name))}")
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            error = ValueError if isinstance(self.early_stopping, str) else TypeError
            raise error(f"early_stopping must be True, False or 'never', "
                        f"got {shown(self.early_stopping)}")
        if self.suppress_tokens is not None:
            self._replace("suppress_tokens", _ids)
        if self.bad_words_ids is not None:
            words = _listed("bad_words_ids", self.bad_words_ids, "lists of ids")
            object.__setattr__(self, "bad_words_ids", tuple(_ids("bad_words_ids", word) for word in words))
            if not all(self.bad_words_ids):
                raise ValueError("bad_words_ids must be lists of one id or more, "
                                 "got an empty one among them")

    def _replace(self, name: str, check: Callable[..., Any], **bounds: Any) -> None:
        object.__setattr__(self, name, check(name, getattr(self, name), **bounds))

    def _check_together(self) -> None:
        """What several values say together."""
        if self.do_sample and self.num_beams > 1:
            raise ValueError(f"do_sample must be False, or num_beams 1: beams are not sampled "
                             f"here; got do_sample with num_beams {self.num_beams}")
        if not self.do_sample and self.num_return_sequences > self.num_beams:
            raise ValueError(
                f"num_return_sequences must be at most num_beams {self.num_beams} where "
                f"do_sample is False, got {self.num_return_sequences}")
        for name in ("forced_bos_token_id", "forced_eos_token_id"):
            forced = several(getattr(self, name))
            if forced and self.suppress_tokens and set(forced) <= set(self.suppress_tokens):
                raise ValueError(f"{name} must not be among suppress_tokens, got "
                                 f"{shown(getattr(self, name))} in both")

    def _check_idle(self, given: Iterable[str]) -> None:
        """The given options must do something in this mode. A default value asks for nothing."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        asked = [name for name in given if getattr(self, name) != defaults[name]]
        for name in asked:
            if name in _SAMPLING_ONLY and not self.do_sample:
                raise ValueError(f"{name} does nothing without do_sample=True, "
                                 f"got {getattr(self, name)!r}")
            if name in _BEAM_ONLY and self.num_beams == 1:
                raise ValueError(f"{name} does nothing without num_beams of 2 or more, "
                                 f"got {getattr(self, name)!r}")
        for name, winner in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
            if name in asked and getattr(self, winner) is not None:
                raise ValueError(f"{name} does nothing beside {winner}, got {name} "
                                 f"{getattr(self, name)} with {winner} {getattr(self, winner)}")
        for name in ("min_length", "min_new_tokens"):
            if name in asked and getattr(self, name) and not self.eos_ids:
                raise ValueError(f"{name} does nothing without an eos_token_id, "
                                 f"got {getattr(self, name)!r}")


def _is_idle(name: str, value: Any) -> bool:
    """Whether a field that is not supported has a value with which transformers does nothing."""
    return name in _UNSUPPORTED and (value in _UNSUPPORTED[name] or value in ([], (), {}))


def several(ids: Any) -> tuple[int, ...]:
    """An id, several or None as a tuple."""
    if ids is None:
        return ()
    return ids if isinstance(ids, tuple) else (ids,)


def _integer(name: str, value: Any, least: int, most: int = MAX_ID, optional: bool = False) -> int | None:
    """`value` as a plain int within least..most, or None where it is optional."""
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        wanted = "None or an integer" if optional else "an integer"
        raise TypeError(f"{name} must be {wanted}, got {shown(value)}")
    number = int(value)
    if not least <= number <= most:
        raise ValueError(f"{name} must be within {least}..{most}, got {shown(value)}")
    return number


def _number(name: str, value: Any, least: float = -math.inf, most: float = math.inf, above: float = -math.inf) -> float:
    """`value` as a plain float, finite, least <= value <= most, and > above."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and least <= number <= most and number > above):
        wanted = (f"within {least:g}..{most:g}" if most < math.inf
                  else f"more than {above:g}" if above > -math.inf else "finite")
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}")
    return number


def _listed(name: str, value: Any, of_what: str) -> list[Any]:
    """`value` as a list; text, a number and a dict are none."""
    if isinstance(value, (str, bytes, dict)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} must be a list of {of_what}, got {shown(value)}")
    return list(value)


def _ids(name: str, value: Any) -> tuple[int | None, ...]:
    """`value` as a tuple of ids."""
    return tuple(_integer(name, number, 0) for number in _listed(name, value, "ids"))


def _id_or_ids(name: str, value: Any) -> int | tuple[int | None, ...] | None:
    """`value`, an id, several or None, with several as a tuple."""
    if value is None or isinstance(value, numbers.Number):
        return _integer(name, value, 0, optional=True)
    ids = _ids(name, value)
    if not ids:
        raise ValueError(f"{name} must be an id, or one or more, got an empty list")
    return ids
