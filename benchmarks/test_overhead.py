"""What an op costs beside its arithmetic: a long program of tiny ops."""

import statistics

import numpy as np
import peers
import pytest
import timing

import rtfast
from rtfast import transformer

LAYERS = 12  # of the encoder, eight ops each


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_op_overhead(record, dtype):
    peers.set_threads(1)
    long, short = (rtfast.Transformer.random(rtfast.Config.article(n_encoder_layers=n, dtype=dtype), seed=0)
                   for n in (LAYERS, 0))
    ids = [0, 2]
    assert np.isfinite(long.encode(ids)).all() and long.encode(ids).shape == (2, 4)
    n_ops = ops_of(long) - ops_of(short)
    samples, _ = timing.alternate({"long": lambda: long.encode(ids), "short": lambda: short.encode(ids)}, 2.0)
    costs = [(a - b) / n_ops for a, b in zip(samples["long"], samples["short"], strict=True)]
    record("overhead", f"{n_ops} ops on 2x4 arrays, {dtype}", seconds=statistics.median(samples["long"]),
           nanoseconds_per_op=statistics.median(costs) * 1e9)


def ops_of(model):
    """How many ops the encoder's program has."""
    return len(transformer.encoder_program(model.config, memory=False).ops)
