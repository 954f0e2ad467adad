"""What tracing costs: nothing where it is off, and how much where it is on, at the paper's size."""

import numpy as np
import peers
import pytest

import rtfast
from rtfast import model as models


@pytest.fixture(scope="module")
def base():
    return rtfast.Transformer.random(rtfast.Config.base(32000))


def sentences(length):
    random = np.random.default_rng(0)
    return random.integers(3, 32000, length), random.integers(3, 32000, length)


@pytest.mark.parametrize("length", [20, 128])
def test_tracing(measure, base, length):
    """A whole forward pass, both sentences of that length: traced beside untraced."""
    peers.set_threads(1)
    source, target = sentences(length)
    trace = base.trace(source, target)
    assert np.array_equal(trace["logits"], base.logits(source, target))
    measure("tracing on", f"length {length}, {len(trace)} intermediates, {trace.nbytes >> 20} MB",
            lambda: base.trace(source, target), {"untraced": lambda: base.logits(source, target)})


def test_tracing_off(measure, base, monkeypatch):
    """The model as it is beside one whose programs know no trace at all."""
    peers.set_threads(1)
    source, target = sentences(20)

    def without(program):
        def build(*arguments, **options):
            made = program(*arguments, **options)
            made.traced.clear()
            return made
        return build

    with monkeypatch.context() as patched:
        for name in ("encoder_program", "decoder_program"):
            patched.setattr(models, name, without(getattr(models, name)))
        bare = rtfast.Transformer(base.config, base.weights)
    assert not any(program.traced for program in bare._programs) and base._programs[0].traced
    assert np.array_equal(bare.logits(source, target), base.logits(source, target))
    measure("tracing off", "length 20, forward pass", lambda: base.logits(source, target),
            {"programs without traces": lambda: bare.logits(source, target)})
