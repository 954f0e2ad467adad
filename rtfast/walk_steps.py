"""A trace's intermediates as steps of a walk, by their names alone: any order of norms, any kind of layer.

A step is what belongs together in one place: query, key and value of one layer's self-attention. Steps of one kind
have one number, whichever their layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    #: (side, part, kind)
    Key: TypeAlias = tuple[str, str, str]

#: Last part of a name -> kind of step. What is not here is a step of its own.
_KINDS = {"query": "projections", "key": "projections", "value": "projections",
          "scores": "weights", "scaled_scores": "weights", "weights": "weights",
          "heads": "heads", "concatenated": "heads", "residual": "residual", "norm": "norm",
          "hidden": "feed_forward", "gate": "feed_forward", "gated": "feed_forward"}
_TITLES = {"tokens": "words become numbers", "embedding": "embedding and positions",
           "projections": "query, key and value", "weights": "scores and attention weights",
           "heads": "weighted values, the heads together", "residual": "residual connection", "norm": "layer norm",
           "feed_forward": "hidden layer and output", "final norm": "the norm after the last layer",
           "logits": "logits and probabilities", "candidates": "the likeliest next words",
           "sentence": "the sentence that came out"}
#: The paper's sections. Cross-attention and the decoder's masked self-attention are in 3.2.3 too.
_SECTIONS = {"embedding": "3.4, 3.5", "projections": "3.2.2", "weights": "3.2.1", "heads": "3.2.1, 3.2.2",
             "residual": "3.1", "norm": "3.1", "feed_forward": "3.3", "final norm": "3.1", "logits": "3.4",
             "candidates": "3.4"}
_PARTS = {"self_attention": "self-attention", "cross_attention": "cross-attention", "feed_forward": "feed-forward"}


@dataclass(frozen=True)
class Step:
    """Some intermediates, `names`, of one kind in one place.

    side: "encoder", "decoder" or "". layer: its number, None outside of layers. part: the sublayer, or "".
    """

    kind: str
    side: str = ""
    layer: int | None = None
    part: str = ""
    names: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        """What steps of one number have in common."""
        return self.side, self.part, self.kind

    @property
    def masked(self) -> bool:
        """Whether no position sees a later one."""
        return (self.side, self.part) == ("decoder", "self_attention")

    @property
    def sections(self) -> str:
        """The paper's sections, as text, "" for none."""
        found = _SECTIONS.get(self.kind, "")
        if found and (self.masked or self.part == "cross_attention") and self.kind in ("projections", "weights"):
            found += ", 3.2.3"
        return found

    def title(self, with_layer: bool = True) -> str:
        """Its heading."""
        layer = f" layer {self.layer}" if with_layer and self.layer is not None else ""
        where = f"{self.side}{layer}"
        if self.part:
            where += ", " + ("masked " if self.masked else "") + _PARTS.get(self.part, self.part)
        what = _TITLES.get(self.kind, self.kind.replace("_", " "))
        text = f"{where}: {what}" if where else what
        return text[0].upper() + text[1:]


def steps_of(trace: Iterable[str]) -> list[Step]:
    """All steps of the walk, from the tokens to the sentence that came out, as a list of `Step`."""
    steps = [Step("tokens")]
    for name in walking_order(trace):
        where = _place(name)
        last = steps[-1]
        if (last.kind, last.side, last.layer, last.part) == where:
            steps[-1] = Step(*where, (*last.names, name))
        else:
            steps.append(Step(*where, (name,)))
    return [*steps, Step("candidates"), Step("sentence")]


def numbered(steps: list[Step]) -> dict[Key, int]:
    """{key: number} of the steps' kinds, from 1 on, as they come first."""
    return {key: i for i, key in enumerate(dict.fromkeys(step.key for step in steps), start=1)}


def walking_order(trace: Iterable[str]) -> list[str]:
    """Names as a reader meets them: cross-attention's keys and values, computed early, beside its query."""
    names: list[str] = []
    early: dict[str, list[str]] = {}
    for name in trace:
        stem, _, leaf = name.rpartition(".")
        if stem.endswith("cross_attention") and leaf in ("key", "value"):
            early.setdefault(stem, []).append(name)
        else:
            names.append(name)
            if leaf == "query":
                names += early.pop(stem, ())
    return names + [name for left in early.values() for name in left]


def _place(name: str) -> tuple[str, str, int | None, str]:
    """(kind, side, layer, part) of an intermediate."""
    parts = name.split(".")
    if name in ("logits", "probabilities") or parts[-1] == "wanted":
        return "logits", "", None, ""
    if parts[1:2] == ["layers"] and len(parts) > 4:
        layer, part, leaf = int(parts[2]), parts[3], ".".join(parts[4:])
        if leaf == "output":
            return "feed_forward" if part == "feed_forward" else "heads", parts[0], layer, part
        return _KINDS.get(leaf, leaf), parts[0], layer, part
    leaf = ".".join(parts[1:])
    if leaf in ("embedding", "positional_encoding", "input", "embedding.norm"):
        return "embedding", parts[0], None, ""
    return "final norm" if leaf == "norm" else leaf or name, parts[0] if leaf else "", None, ""
