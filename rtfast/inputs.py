"""Sentences as users give them - ids, arrays, nested lists, text - checked, and results in the same form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .config import shown
from .foreign_arrays import as_array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rtfast.config import Config
    from rtfast.typing import Array, Floats, Ids, MaybeNone, Tokenizer


class Batch:
    """Checked sentences: `sentences` are id arrays without padding; `single` where one came without a batch.

    width: S of a (B, S) batch, or None where the sentences came as a list of several lengths.
    """

    def __init__(self, sentences: list[Ids], single: bool, width: int | None) -> None:
        self.sentences, self.single, self.width = sentences, single, width

    def parts(self, size: int) -> list[list[Ids]]:
        """The sentences, `size` at a time."""
        return [self.sentences[i:i + size] for i in range(0, len(self.sentences), size)]

    def shaped(self, rows: Floats) -> Floats | list[Floats]:
        """Rows (all tokens, width) as (S, width), (B, S, width) with zeros for padding, or a list of (S, width)."""
        if self.single:
            return rows
        ends = np.cumsum([len(ids) for ids in self.sentences])
        pieces = np.split(rows, ends[:-1])
        if self.width is None:
            return pieces
        out = np.zeros((len(pieces), self.width, rows.shape[1]), rows.dtype)
        for b, piece in enumerate(pieces):
            out[b, :len(piece)] = piece
        return out


def one(ids: Ids) -> Batch:
    """A batch of one checked sentence that came alone."""
    return Batch([ids], True, None)


class _Kind(NamedTuple):
    """What sentences of one argument are: its name, and the model's limits on them."""

    name: str
    config: Config
    #: text -> ids, or None
    encode: Callable[[str], Sequence[int]] | None
    pad: int | None
    words: int | MaybeNone
    #: the id that text begins with here, or None; it stays where it is also the padding
    start: int | None = None
    #: cut what is longer than the model reads
    truncation: bool = False
    #: whether a sentence may have no tokens
    optional: bool = False


def read_source(given: Any, name: str, config: Config, tokenizer: Tokenizer | None, truncation: bool = False) -> Batch:
    """A `Batch` of source sentences: a tail of pad_id is no part of them, and text is tokenized.

    Where pad_id is also eos_id, the first one of the tail is the EOS.
    truncation: a longer one keeps its first max_length - 1 tokens and its last, which may be EOS.
    Raises TypeError for what holds no integers, ValueError for ids and lengths that the model does not have.
    """
    check_switch("truncation", truncation)
    encode = None if tokenizer is None else tokenizer.encode
    return _read(given, _Kind(name, config, encode, config.pad_id, config.vocab_size, None, truncation))


def read_target(given: Any, name: str, config: Config, tokenizer: Tokenizer | None, start: int | None) -> Batch:
    """A `Batch` of what the decoder reads: as `read_source`, but text begins with `start`, if there is one.

    Where that is also pad_id, as in Marian's models, the first one is the start.
    """
    encode = None if tokenizer is None else tokenizer.encode_target
    return _read(given, _Kind(name, config, encode, config.pad_id, config.target_words, start=start))


def read_scored(given: Any, name: str, config: Config, tokenizer: Tokenizer | None, ends: tuple[int, ...]) -> Batch:
    """A `Batch` of whole targets without their start: text ends with EOS, one of `ends`."""
    def encode(text: str) -> list[int]:
        assert tokenizer is not None  # else nobody encodes
        ids = list(tokenizer.encode_target(text))
        return ids if not ends or (ids and ids[-1] in ends) else [*ids, ends[0]]

    known = None if tokenizer is None else encode
    return _read(given, _Kind(name, config, known, config.pad_id, config.target_words))


def read_prefixes(given: Any, name: str, config: Config, n: int) -> list[Ids]:
    """Ids (P,) that each of n targets begins with: one row of ids for all of them, or one for each."""
    if isinstance(given, str) or (isinstance(given, (list, tuple)) and any(isinstance(row, str) for row in given)):
        raise TypeError(f"{name} must be ids, got text: translate takes it as target_prefix, and "
                        "model.prefix_ids(text) gives its ids")
    kind = _Kind(name, config, None, None, config.target_words, optional=True)
    batch = _read(given, kind)
    if batch.single:
        return batch.sentences * n
    if len(batch.sentences) != n:
        raise ValueError(f"{name} must be one row of ids, or one for each of the {n} sources, got "
                         f"{len(batch.sentences)}")
    return batch.sentences


def is_text(given: Any) -> bool:
    """Whether sentences are text: a string, or a list of strings."""
    return isinstance(given, str) or (are_strings(given) and bool(given))


def are_strings(given: object) -> bool:
    """Whether it is a list of strings, perhaps an empty one."""
    return isinstance(given, (list, tuple)) and all(isinstance(sentence, str) for sentence in given)


def check_tokenizer(tokenizer: object) -> None:
    """Raise TypeError for what is neither None nor a tokenizer."""
    missing = [name for name in ("encode", "encode_target", "decode") if not callable(getattr(tokenizer, name, None))]
    if tokenizer is not None and missing:
        raise TypeError("tokenizer must have encode(text), encode_target(text) and decode(ids), got "
                        f"{type(tokenizer).__name__} without {missing[0]}")


def check_stop(stop: object) -> None:
    """Raise TypeError for stopping_criteria that are neither None nor a function."""
    if stop is not None and not callable(stop):
        raise TypeError(f"stopping_criteria must be callable, got {type(stop).__name__}")


def check_switch(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")


def check_batch_tokens(tokens: Any) -> None:
    """Raise unless max_batch_tokens is None or a positive integer."""
    if tokens is not None and (isinstance(tokens, bool) or not hasattr(tokens, "__index__")):
        raise TypeError(f"max_batch_tokens must be None or an integer, got {tokens!r}")
    if tokens is not None and tokens < 1:
        raise ValueError(f"max_batch_tokens must be 1 or more, got {tokens}")


def _read(given: Any, kind: _Kind) -> Batch:
    if isinstance(given, str):
        return one(_check(_tokens(given, kind), kind.name, kind))
    array = _plain(given, kind.name)
    if array.dtype.kind not in "iu" and isinstance(given, (list, tuple)):
        if any(isinstance(sentence, str) for sentence in given):
            return _batch([_tokens(text, kind, f"[{b}]") for b, text in enumerate(given)], kind, None)
        if any(np.ndim(_plain(sentence, kind.name)) for sentence in given):  # of several lengths, or with an empty one
            return _batch([_plain(sentence, kind.name) for sentence in given], kind, None)
    if array.ndim == 1:
        return one(_check(array, kind.name, kind, type(given) in (list, tuple)))
    if array.ndim == 2:
        return _batch(list(array), kind, array.shape[1])
    if array.ndim == 3 and isinstance(given, (list, tuple)):
        return _batch(list(array), kind, None)
    if array.ndim == 0 and array.dtype.kind not in "iuf":
        raise TypeError(f"{kind.name} must be ids, as a list or array of integers, or text, got {type(given).__name__}")
    raise ValueError(f"{kind.name} must be ids (length,) or (batch, length), got shape {array.shape}")


def _plain(values: Any, name: str) -> Array:
    """An array of what should be ids, an array of objects where it has no regular shape."""
    try:
        array = as_array(values)
        if array.dtype.kind == "f" and isinstance(values, (list, tuple)):
            # NumPy makes floats of 3 and 2**63 side by side.
            given = np.array(values, object)
            array = given if any(isinstance(one, int) and one >= 1 << 63 for one in given.flat) else array
        return array
    except TypeError as error:
        raise TypeError(f"{name} must hold integer ids in the CPU's memory, got {error}") from None
    except ValueError:
        if not isinstance(values, (list, tuple)):
            raise
    # Not np.asarray(values, object): that crashes where one object comes at two depths (NumPy 2.4).
    array = np.empty(len(values), object)
    for i, part in enumerate(values):
        array[i] = part
    return array


def check_pairs(source: Batch, target: Batch) -> None:
    """Raise ValueError unless there are as many targets as sources."""
    if source.single != target.single:
        raise ValueError("source and target must both be one sentence, or both lists of sentences; got "
                         + " and ".join("one" if batch.single else f"a list of {len(batch.sentences)}"
                                        for batch in (source, target)))
    if len(source.sentences) != len(target.sentences):
        raise ValueError(f"as many targets as sources are needed, got {len(source.sentences)} sources "
                         f"and {len(target.sentences)} targets")


def check_one_length(source: Batch, target: Batch) -> None:
    """Raise ValueError unless all sources have one length, and all targets."""
    for batch, name in ((source, "src"), (target, "tgt")):
        lengths = sorted({len(ids) for ids in batch.sentences})
        if len(lengths) > 1:
            raise ValueError(f"a trace shows sentences of one length; {name} has lengths {lengths}: "
                             "trace them one at a time")


def _tokens(text: Any, kind: _Kind, place: str = "") -> list[int]:
    """The ids of a text; place: where it is among several."""
    if kind.encode is None:
        raise ValueError(f"{kind.name} is text, but this model has no tokenizer; give ids")
    if not isinstance(text, str):
        raise TypeError(f"{kind.name} must be all text or all ids, got {type(text).__name__} among the text")
    try:
        ids = list(kind.encode(text))
    except ValueError as error:
        if not place:
            raise
        raise ValueError(f"{kind.name}{place}: {error}") from None
    return ids if kind.start is None else [kind.start, *ids]


def _batch(sentences: Sequence[Any], kind: _Kind, width: int | None) -> Batch:
    if not sentences:
        raise ValueError(f"{kind.name} holds no sentence")
    return Batch([_check(ids, f"{kind.name}[{b}]", kind) for b, ids in enumerate(sentences)], False, width)


def _largest(ids: Ids) -> int:
    """The largest of some ids, a negative one counting as a huge unsigned number."""
    if len(ids) <= 16:  # Python is faster than NumPy's start
        values = ids.tolist()
        return max(values) if min(values) >= 0 else 1 << 63
    return int(np.maximum.reduce(ids.view(np.uint64)))


def _check(ids: Any, name: str, kind: _Kind, ours: bool = False) -> Ids:
    """One sentence as an int64 array without its tail of padding: EOS, and a first token that is `start`, are kept.

    ours: nobody else writes to ids; else they are copied.
    """
    ids, pad, most = np.asarray(ids), kind.pad, kind.config.max_length
    if ids.ndim != 1:
        raise ValueError(f"{name} must be a row of ids, got shape {ids.shape}")
    if ids.size and (ids.dtype.kind not in "iu" or ids.dtype == np.uint64):
        for i, value in enumerate(ids.tolist()):
            if isinstance(value, int) and value >= 1 << 63:  # no int64 holds it
                raise ValueError(f"{name}[{i}] is {shown(value)}, outside the vocabulary of {kind.words} words")
        if ids.dtype != np.uint64:
            raise TypeError(f"{name} must hold integer ids, got {ids.dtype}")
    ids = ids.astype(np.int64, copy=not ours)
    if pad is not None and len(ids) and ids.item(-1) == pad:
        others = np.flatnonzero(ids != pad)
        end = others[-1] + 1 if len(others) else 0
        # The first one is the sentence's own where it ends sentences too, or begins this one.
        ids = ids[:end + (pad == kind.config.eos_id or (kind.start == pad and not end))]
    if not len(ids):
        if kind.optional:
            return ids
        raise ValueError(f"{name} has no tokens")
    if len(ids) > most and kind.truncation:
        ids = np.concatenate((ids[:most - 1], ids[-1:]))
    if len(ids) > most:
        raise ValueError(f"{name} has {len(ids)} tokens, more than the model's max_length of {most}"
                         + (" (truncation=True cuts it)" if name.startswith("src") else ""))
    if _largest(ids) >= kind.words:
        bad = np.flatnonzero((ids < 0) | (ids >= kind.words))
        raise ValueError(f"{name}[{bad[0]}] is {ids[bad[0]]}, outside the vocabulary of {kind.words} words")
    return ids
