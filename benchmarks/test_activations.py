"""Activations fused into a linear layer, against torch's one after the other."""

import math

import numpy as np
import peers
import pytest

from rtfast import kernels

torch = pytest.importorskip("torch", reason="torch is compared with where it is installed")

FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))) / 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize("k, n", ((512, 2048), (768, 3072)))
@pytest.mark.parametrize("m", (1, 8, 32, 128, 512))
def test_linear_with_activation(measure, threads, m, k, n, activation):
    x, weight, bias = peers.normal((m, k)), peers.normal((k, n), seed=1) / np.float32(k ** 0.5), peers.normal((n,), 2)
    packed, out = kernels.pack(weight), peers.aligned((m, n))

    def ours():
        return kernels.linear(x, packed, bias, activation, out=out)

    exact = FUNCTIONS[activation](x[::9].astype(float) @ weight.astype(float) + bias)
    assert np.allclose(ours()[::9], exact, rtol=0, atol=2e-5)
    measure("linear with activation", f"({m}, {k}) @ ({k}, {n}), {activation}", ours,
            peers.linear(x, weight, bias, activation), threads=threads, flops=2 * m * k * n, m=m)
