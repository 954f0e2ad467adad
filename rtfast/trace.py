"""`Trace`: every named intermediate of one run, in order of computation."""

from collections.abc import Mapping

import numpy as np


class Trace(Mapping):
    """Name -> array. Without a batch axis where one sentence was traced, else with B in front:

    rows (T, width), heads (n_heads, T, width), scores and weights (n_heads, T, S).

    tokens: (source words, target words) as text where the model has a tokenizer, else ids.
    generated: the ids that were generated first, where no target was given.
    """

    def __init__(self, source, target, tokenizer=None, generated=None):
        self._arrays, self._items = {}, {}
        self.source_ids, self.target_ids = source.sentences, target.sentences
        self.generated = generated
        self.tokens = (_words(source, tokenizer), _words(target, tokenizer))

    def take(self, workspace, which, program, batch):
        """Copy what `program`, the workspace's program number `which`, has just computed for `batch`."""
        for item in program.traced:
            self._items[item.name] = item
            self._arrays[item.name] = _shaped(workspace.traced(which, item), item, batch)

    def __getitem__(self, name):
        return self._arrays[self._known(name)]

    def _known(self, name):
        if name not in self._arrays:
            raise KeyError(f"no intermediate is named {name!r}; list(trace) shows all {len(self)}")
        return name

    def __iter__(self):
        return iter(self._arrays)

    def __len__(self):
        return len(self._arrays)

    def __repr__(self):
        size = sum(array.nbytes for array in self._arrays.values())
        return f"Trace({len(self)} intermediates, {size:,} bytes)"

    def formula(self, name):
        """How the intermediate was computed, in short."""
        return self._items[self._known(name)].formula

    def inputs(self, name):
        """Names of the intermediates and weights that it was computed from."""
        return self._items[self._known(name)].inputs

    def op(self, name):
        """Kind of the operation that computed it."""
        return self._items[self._known(name)].op.kind

    def first_nan(self):
        """Name of the first intermediate that holds a NaN, or None."""
        return next((name for name, array in self._arrays.items() if np.isnan(array).any()), None)


def _shaped(array, item, batch):
    n, length = len(batch.sentences), len(batch.sentences[0])
    if item.form == "heads":
        array = array.reshape(n, length, item.view.heads, item.view.width).transpose(0, 2, 1, 3)
    elif item.form == "rows":
        array = array.reshape(n, length, -1)
    return np.ascontiguousarray(array[0] if batch.single else array)


def _words(batch, tokenizer):
    words = [list(map(int, ids)) for ids in batch.sentences]
    if tokenizer is not None and hasattr(tokenizer, "tokens"):
        words = [tokenizer.tokens(ids) for ids in words]
    return words[0] if batch.single else words
