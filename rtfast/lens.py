"""The logit lens: what the decoder would say if it ended after each of its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .transformer import decoder_states, output_program
from .workspace import Workspace, capacity_for

if TYPE_CHECKING:
    from rtfast.trace import Trace
    from rtfast.typing import Floats


def lens(trace: Trace) -> dict[str, Floats]:
    """Name of the decoder's state -> logits (T, vocab_size), or (B, T, vocab_size) of a batch: see `Trace.lens`."""
    model = trace.model
    if model is None:
        raise ValueError("lens: needs the model's output layer; a trace from a file has none: Trace.load(path, model)")
    names = decoder_states(model.config)
    missing = [name for name in names if name not in trace]
    if missing:
        raise KeyError(f"lens: {missing[0]} is not in this trace: was it left out by include or exclude?")
    first = trace[names[0]]
    n, length = (1 if trace.single else len(first)), first.shape[-2]
    program = output_program(model.config)
    workspace = Workspace(model._backend, (program,), model._packed, capacity_for([[0]] * n, [[0] * length] * n))
    found = {}
    for name in names:
        workspace.decode(0, list(trace[name].reshape(n, length, -1)))
        found[name] = workspace.result(0, "logits").reshape(*first.shape[:-1], -1)
    return found
