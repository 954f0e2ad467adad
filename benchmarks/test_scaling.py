"""Every kernel on two threads against itself on one."""

import os

import numpy as np
import peers
import pytest

import rtfast
from rtfast import kernels

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="this machine has one core")


def linear(m, k, n):
    x, packed, out = peers.normal((m, k)), kernels.pack(peers.normal((k, n), 1)), peers.aligned((m, n))
    return lambda: kernels.linear(x, packed, out=out)


def matmul(n):
    a, b, out = peers.normal((n, n)), peers.normal((n, n), 1), peers.aligned((n, n))
    return lambda: kernels.matmul(a, b, out=out)


def softmax(rows, width):
    x, out = peers.normal((rows, width)), peers.aligned((rows, width))
    return lambda: kernels.softmax(x, out=out)


def layer_norm(rows, width):
    x, out = peers.normal((rows, width)), peers.aligned((rows, width))
    return lambda: kernels.layer_norm(x, out=out)


def attention(batch, queries, keys, causal=False):
    q, k, v = (peers.normal((batch, 8, length, 64), length) for length in (queries, keys, keys))
    return lambda: kernels.attention(q, k, v, causal=causal)


def encoder(batch, length):
    model = rtfast.Transformer.random(rtfast.Config.base(1000, n_decoder_layers=0))
    ids = [list(range(length))] * batch
    return lambda: np.concatenate(model.encode(ids))


CASES = [(linear, (64, 512, 2048)), (linear, (128, 512, 512)), (linear, (128, 768, 3072)), (linear, (512, 512, 2048)),
         (linear, (2048, 1024, 1024)), (linear, (8, 512, 32000)), (matmul, (512,)), (matmul, (1024,)),
         (softmax, (4096, 512)), (softmax, (512, 2048)), (layer_norm, (4096, 512)), (layer_norm, (1024, 4096)),
         (attention, (1, 512, 512)), (attention, (1, 2048, 2048, True)), (attention, (32, 1, 512)),
         (encoder, (1, 16)), (encoder, (1, 128)), (encoder, (8, 128))]


@pytest.mark.parametrize("make, sizes", CASES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_scaling(measure, make, sizes):
    run = make(*sizes)

    def on(n):
        def call():
            rtfast.set_num_threads(n)
            return run()
        return call

    try:
        assert np.array_equal(on(1)(), on(2)())
        row = measure("scaling", f"{make.__name__} {sizes}", on(2), {"1 thread": on(1)}, threads=2)
        assert row["peer_seconds"] > 0
    finally:
        rtfast.set_num_threads(1)
