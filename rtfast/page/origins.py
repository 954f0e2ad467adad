"""How each number of a trace came about: for every name a kind of computation, its operands and its constants.

Read from `trace.op`, `trace.formula`, `trace.inputs` and the config, so that no architecture is assumed. A name of an
op that is not known here gets the kind "other": the page then says what the inputs were, and no more.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rtfast.packing import bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtfast.config import Config
    from rtfast.trace import Trace


def origins(config: Config, trace: Trace) -> dict[str, dict[str, Any]]:
    """{name: {"kind", "formula", "inputs", "rows", "columns", ...constants}}; rows and columns say whose words they
    are: "source", "target", "words" or None."""
    made = {}
    for name in trace:
        details = _ATTENTION.get(name.rpartition(".")[2]) if trace.op(name) == "attention" else _OPS.get(trace.op(name))
        found = details(config, trace, name) if details else {"kind": "other"}
        rows, columns = (_LABELS.get(axis) for axis in trace.axes(name)[-2:])
        made[name] = {"formula": trace.formula(name), "inputs": list(trace.inputs(name)), "rows": rows,
                      "columns": columns, **found}
    return made


#: Axes of a trace whose places have words of their own.
_LABELS = {"source": "source", "target": "target", "word": "words"}


def _embedding(config: Config, trace: Trace, name: str) -> dict[str, Any]:
    if len(trace.inputs(name)) == 2:
        return {"kind": "sum"}
    if name.endswith(".positional_encoding"):
        return {"kind": "position", "positions": config.positions, "offset": config.position_offset,
                "article": config.article_positional_encoding, "d_model": config.d_model}
    return {"kind": "table", "scale": config.embedding_scale, "ids": trace.axes(name)[0]}


def _linear(config: Config, trace: Trace, name: str) -> dict[str, Any]:
    inputs = trace.inputs(name)
    activated = config.activation is not None and trace.formula(name).startswith(f"{config.activation}(")
    return {"kind": "linear", "activation": config.activation if activated else None,
            "transposed": "W^T" in trace.formula(name), "bias": inputs[2] if len(inputs) > 2 else _bias(config, name)}


def _bias(config: Config, name: str) -> str | None:
    """The bias of a projection, of which the inputs name the weight alone; None without one."""
    part = name.rpartition(".")[2]
    biased = config.attention_bias if part in ("query", "key", "value") else config.feed_forward_bias
    return f"{name}.bias" if biased and part in ("query", "key", "value", "gate", "hidden") else None


def _norm(config: Config, trace: Trace, name: str) -> dict[str, Any]:
    if trace.formula(name) == "x + sublayer":
        return {"kind": "sum"}
    final = name in ("encoder.norm", "decoder.norm") and config.final_norm_eps is not None
    form = "rms" if config.rms_norm else "article" if config.article_layer_norm else "paper"
    return {"kind": "norm", "form": form, "eps": config.final_norm_eps if final else config.layer_norm_eps}


def _scores(config: Config, trace: Trace, name: str) -> dict[str, Any]:
    return {"kind": "scores", "masked": _causal(trace, name)}


def _scaled(config: Config, trace: Trace, name: str) -> dict[str, Any]:
    scale = config.attention_scale if config.attention_scale is not None else 1 / math.sqrt(config.d_key)
    made = {"kind": "scaled", "scale": scale, "masked": _causal(trace, name)}
    biases = [one for one in trace.inputs(name) if one.endswith("relative_bias.weight")]
    if biases:
        reach, (_, queries, keys) = config.relative_distance, trace[name].shape
        distances = np.clip(np.arange(1 - queries, keys), -reach, reach)
        made |= {"bias": biases[0], "first_distance": 1 - queries,
                 "buckets": bucket(distances, config, bidirectional=not made["masked"]).tolist()}
    return made


def _weights(config: Config, trace: Trace, name: str) -> dict[str, Any]:
    return {"kind": "softmax", "masked": _causal(trace, name), "article": config.article_softmax}


def _heads(config: Config, trace: Trace, name: str) -> dict[str, Any]:
    return {"kind": "heads", "masked": _causal(trace, name)}


def _causal(trace: Trace, name: str) -> bool:
    """Whether the attention that `name` belongs to hides the future: as the formula of its weights says, and where
    these were left out, in the decoder's attention to itself."""
    weights = f"{name.rpartition('.')[0]}.weights"
    if weights in trace:
        return "masked" in trace.formula(weights)
    return name.startswith("decoder.") and ".self_attention." in name


def _gather(config: Config, trace: Trace, name: str) -> dict[str, Any]:
    return {"kind": "times", "scale": config.output_scale}


def _gate(config: Config, trace: Trace, name: str) -> dict[str, Any]:
    return {"kind": "gate", "activation": config.activation}


def _given(config: Config, trace: Trace, name: str) -> dict[str, Any]:
    return {"kind": "copy" if trace.inputs(name) else "other"}


_Details: TypeAlias = "Callable[[Config, Trace, str], dict[str, Any]]"
_ATTENTION: dict[str, _Details] = {
    "scores": _scores, "scaled_scores": _scaled, "weights": _weights, "heads": _heads,
    "concatenated": lambda config, trace, name: {"kind": "concatenated", "width": config.d_value}}
_OPS: dict[str, _Details] = {
    "embedding": _embedding, "linear": _linear, "add": lambda config, trace, name: {"kind": "sum"},
    "add_layer_norm": _norm, "layer_norm": _norm, "gather": _gather, "gate": _gate, "input": _given,
    "softmax": lambda config, trace, name: {"kind": "softmax", "masked": False, "article": False}}
