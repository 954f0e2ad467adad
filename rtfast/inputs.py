"""Sentences as users give them - ids, arrays, nested lists, text - checked, and results in the same form."""

import numpy as np


class Batch:
    """Checked sentences: `sentences` are id arrays without padding; `single` where one came without a batch.

    width: S of a (B, S) batch, or None where the sentences came as a list of several lengths.
    """

    def __init__(self, sentences, single, width):
        self.sentences, self.single, self.width = sentences, single, width

    def parts(self, size):
        """The sentences, `size` at a time."""
        return [self.sentences[i:i + size] for i in range(0, len(self.sentences), size)]

    def shaped(self, rows):
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


def one(ids):
    """A batch of one checked sentence that came alone."""
    return Batch([ids], True, None)


def read_source(given, name, config, tokenizer):
    """A `Batch` of source sentences: a tail of pad_id is no part of them, and text is tokenized.

    Raises TypeError for what holds no integers, ValueError for ids and lengths that the model does not have.
    """
    return _read(given, name, config, tokenizer, start=None, pad=config.pad_id, words=config.vocab_size)


def read_target(given, name, config, tokenizer):
    """A `Batch` of what the decoder reads: as `read_source`, but text begins with SOS.

    Where pad_id is also sos_id, as in Marian's models, the first one is the SOS.
    """
    return _read(given, name, config, tokenizer, start=config.sos_id, pad=config.pad_id, words=config.target_words)


def _read(given, name, config, tokenizer, start, pad, words):
    if isinstance(given, str):
        return one(_check(_tokens(given, name, tokenizer, start), name, config, pad, start, words))
    array = _plain(given)
    if array.dtype.kind not in "iu" and isinstance(given, (list, tuple)):
        if any(isinstance(sentence, str) for sentence in given):
            sentences = [_tokens(text, name, tokenizer, start) for text in given]
            return _batch(sentences, name, config, pad, start, words, None)
        if any(np.ndim(_plain(sentence)) for sentence in given):  # of several lengths, or with an empty one
            return _batch([_plain(sentence) for sentence in given], name, config, pad, start, words, None)
    if array.ndim == 1:
        return one(_check(array, name, config, pad, start, words))
    if array.ndim == 2:
        return _batch(list(array), name, config, pad, start, words, array.shape[1])
    if array.ndim == 3 and isinstance(given, (list, tuple)):
        return _batch(list(array), name, config, pad, start, words, None)
    raise ValueError(f"{name} must be ids (length,) or (batch, length), got shape {array.shape}")


def _plain(values):
    """An array of what should be ids, an array of objects where it has no regular shape."""
    try:
        return np.asarray(values)
    except ValueError:
        return np.asarray(values, object)


def check_pairs(source, target):
    """Raise ValueError unless there are as many targets as sources."""
    if len(source.sentences) != len(target.sentences) or source.single != target.single:
        raise ValueError(f"as many targets as sources are needed, got {len(source.sentences)} sources "
                         f"and {len(target.sentences)} targets")


def check_one_length(source, target):
    """Raise ValueError unless all sources have one length, and all targets."""
    for batch, name in ((source, "src"), (target, "tgt")):
        lengths = sorted({len(ids) for ids in batch.sentences})
        if len(lengths) > 1:
            raise ValueError(f"a trace shows sentences of one length; {name} has lengths {lengths}: "
                             "trace them one at a time")


def _tokens(text, name, tokenizer, start):
    if tokenizer is None:
        raise ValueError(f"{name} is text, but this model has no tokenizer; give ids")
    if not isinstance(text, str):
        raise TypeError(f"{name} must be all text or all ids, got {type(text).__name__} among the text")
    ids = list(tokenizer.encode(text))
    return ids if start is None else [start, *ids]


def _batch(sentences, name, config, pad, start, words, width):
    if not sentences:
        raise ValueError(f"{name} holds no sentence")
    checked = [_check(ids, f"{name}[{b}]", config, pad, start, words) for b, ids in enumerate(sentences)]
    return Batch(checked, False, width)


def _check(ids, name, config, pad, start, words):
    """One sentence as an int64 array without its tail of `pad`, a first token that is `start` kept."""
    ids = np.asarray(ids)
    if ids.ndim != 1:
        raise ValueError(f"{name} must be a row of ids, got shape {ids.shape}")
    if ids.size and ids.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integer ids, got {ids.dtype}")
    ids = ids.astype(np.int64)
    if pad is not None:
        others = np.flatnonzero(ids != pad)
        kept = 1 if start == pad and ids[:1] == pad else 0
        ids = ids[:others[-1] + 1] if len(others) else ids[:kept]
    if not len(ids):
        raise ValueError(f"{name} has no tokens")
    if len(ids) > config.max_length:
        raise ValueError(f"{name} has {len(ids)} tokens, more than the model's max_length of {config.max_length}")
    if ids.view(np.uint64).max() >= words:  # a negative id is a huge unsigned number
        bad = np.flatnonzero((ids < 0) | (ids >= words))
        raise ValueError(f"{name}[{bad[0]}] is {ids[bad[0]]}, outside the vocabulary of {words} words")
    return ids
