"""Taking a trace: a run whose intermediates stay, all of them or the chosen ones, as computed or changed on the way."""

from __future__ import annotations

import numbers
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from . import trace as traces
from .config import shown
from .inputs import Batch, check_one_length, check_pairs, one, read_source, read_target
from .interventions import Interventions
from .names import matching, selected
from .transformer import decoder_program, encoder_program
from .user_lines import users_level
from .workspace import Workspace, capacity_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rtfast.config import Config
    from rtfast.model import Transformer
    from rtfast.typing import Change, Ids, Patterns, Sentences

#: Bytes that a trace may hold unless it is told otherwise.
MAX_BYTES = 2**30

PROGRAMS = ENCODER, _ = range(2)


class Selection:
    """The programs of a traced run, and which of their intermediates are wanted, by name in `names`.

    include, exclude: as of `names.selected`.
    """

    def __init__(self, config: Config, include: Patterns | None = None, exclude: Patterns | None = None) -> None:
        self.programs = (encoder_program(config, memory=True), decoder_program(config, probabilities=True))
        self.items = {item.name: item for program in self.programs for item in program.traced}
        self.names = selected(self.items, include, exclude)
        self.keep(self.names)

    def keep(self, names: Iterable[str]) -> None:
        """Let a run keep these only."""
        names = set(names)
        for program in self.programs:
            ops = set(program.ops)
            program.traced = [item for name, item in self.items.items() if name in names and item.op in ops]

    def sizes(self, source: Batch, target: Batch, itemsize: int) -> dict[str, int]:
        """{name: bytes} of what is wanted."""
        return {name: traces.size_of(self.items[name], source, target, itemsize) for name in self.names}

    def changed(self, changes: Mapping[str, Change]) -> dict[str, Change]:
        """{name: change} of changes by name or pattern, of several for one name the last, and keep what they need.

        Raises KeyError for a name that nothing has.
        """
        by_name: dict[str, Change] = {}
        for key, change in changes.items():
            found = matching(key, self.items) if isinstance(key, str) else []
            if not found:
                raise KeyError(f"no intermediate is named or matches {key!r}; list(trace) shows them")
            by_name.update((name, change) for name in found)
        wanted = {*self.names, *by_name}
        self.names = [name for name in self.items if name in wanted]
        changed_ops = {self.items[name].op for name in by_name}
        self.keep({*self.names, *(name for name, item in self.items.items() if item.extra and item.op in changed_ops)})
        return by_name


def check_size(sizes: dict[str, int], max_bytes: int | None) -> None:
    """Raise ValueError where a trace of {name: bytes} would hold more than max_bytes; None allows any size.

    TypeError for what is no number.
    """
    if max_bytes is not None and (isinstance(max_bytes, bool) or not isinstance(max_bytes, numbers.Real)):
        raise TypeError(f"max_bytes must be None or a number, got {shown(max_bytes)}")
    total = sum(sizes.values())
    if max_bytes is not None and total > max_bytes:
        largest = max(sizes, key=sizes.__getitem__)
        raise ValueError(
            f"the trace would hold {total:,} bytes in {len(sizes)} intermediates, more than max_bytes {max_bytes:,}; "
            f"the largest is {largest} with {sizes[largest]:,}. Choose with include or exclude, or raise max_bytes")


def take(model: Transformer, source: Batch, target: Batch, *, include: Patterns | None = None,
         exclude: Patterns | None = None, max_bytes: int | None = None, generated: Any = None,
         changes: Mapping[str, Change] | None = None) -> traces.Trace:
    """A `Trace` of checked batches. changes: {name or pattern: change}, see `Interventions`."""
    check_pairs(source, target)
    check_one_length(source, target)
    selection = Selection(model.config, include, exclude)
    changes = selection.changed(changes) if changes else {}
    check_size(selection.sizes(source, target, np.dtype(model.config.dtype).itemsize), max_bytes)
    workspace = Workspace(model._backend, selection.programs, model._packed,
                          capacity_for(source.sentences, target.sentences), trace=True)
    words = traces.words_of(source, model.tokenizer, True), traces.words_of(target, model.tokenizer, False)
    trace = traces.Trace(source.sentences, target.sentences, words,
                         single=source.single, generated=generated, model=model)
    wanted = set(selection.names)
    for which, batch in zip(PROGRAMS, (source, target), strict=True):
        program = selection.programs[which]
        on_the_way = Interventions(workspace, which, program, batch, changes) if changes else None
        (workspace.encode if which == ENCODER else workspace.decode)(which, batch.sentences, on_the_way)
        for item in program.traced:
            if item.name in wanted:
                array = traces.shaped(workspace.traced(which, item), item, batch)
                trace.put(traces.described(item, source.single), array)
    return trace


def batches(model: Transformer, src: Sentences, tgt: Sentences | None,
            max_new_tokens: int | None) -> tuple[Batch, Batch, Any]:
    """The batches of a trace, and what was generated or None."""
    source = read_source(src, "src", model.config, model.tokenizer)
    if tgt is None:
        generated = model.generate(src, max_new_tokens, num_return_sequences=1)
        start = model._options(max_new_tokens, {}, src).start_id
        rows = [generated] if source.single else generated
        read = [np.array([start, *ids[:-1]]) for ids in rows]
        target = Batch(read, source.single, None)  # all of it, padding that was generated too
        lengths = sorted({len(ids) for ids in rows})
        if len(lengths) > 1:
            raise ValueError(f"a trace shows sentences of one length, but of {lengths} words were generated: "
                             "trace them one at a time, or give tgt")
    else:
        generated = None
        target = read_target(tgt, "tgt", model.config, model.tokenizer, model._start_of(src, tgt))
    return source, target, generated


def warn_of_nan(model: Transformer, sources: Sequence[Ids], targets: Sequence[Any] | None) -> None:
    """Say which intermediate of the first sentence that has a NaN had it first."""
    targets = targets or [[model.config.sos_id or 0]] * len(sources)
    for source, target in zip(sources, targets, strict=True):
        try:
            trace = take(model, one(source), one(np.asarray(target)), max_bytes=MAX_BYTES)
        except ValueError:  # too much to look at
            warnings.warn("the result is NaN; a trace of parts (include=...) tells where it appeared first",
                          RuntimeWarning, stacklevel=users_level())
            return
        name = trace.first_nan()
        if name is not None:
            warnings.warn(
                f"the result is NaN: it appeared first in {name} = {trace.formula(name)}",
                RuntimeWarning, stacklevel=users_level())
            return
