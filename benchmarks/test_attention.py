"""Scaled dot-product attention against torch: prefill, full and causal, and the one query of a decode step."""

import numpy as np
import peers
import pytest

from rtfast import kernels

torch = pytest.importorskip("torch", reason="torch is compared with where it is installed")

HEADS, WIDTH = 8, 64
PREFILL = [(batch, length, length) for batch in (1, 8, 32) for length in (16, 128, 512, 2048)
           if batch * length <= 8192]
DECODE = [(batch, 1, length) for batch in (1, 8, 32) for length in (1, 16, 128, 512, 2048)]
CASES = [(*shape, causal) for shape in PREFILL for causal in (False, True)] + [(*shape, False) for shape in DECODE]


def exact(q, k, v, causal):
    """Of the last head of the last sequence, in float64."""
    q, k, v = (array[-1, -1].astype(float) for array in (q, k, v))
    scores = q @ k.T / 8
    if causal:
        scores[np.triu_indices(len(q), 1)] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


@pytest.mark.parametrize("batch, queries, keys, causal", CASES)
def test_attention(measure, threads, batch, queries, keys, causal):
    q = peers.normal((batch, HEADS, queries, WIDTH))
    k, v = (peers.normal((batch, HEADS, keys, WIDTH), seed=seed) for seed in (1, 2))
    assert np.allclose(kernels.attention(q, k, v, causal=causal)[-1, -1], exact(q, k, v, causal), rtol=0, atol=2e-6)
    tensors = [torch.from_numpy(array) for array in (q, k, v)]
    attend = torch.nn.functional.scaled_dot_product_attention
    share = (keys + 1) / (2 * keys) if causal else 1  # of the pairs that count
    what = f"B {batch}, T {queries}, S {keys}{', causal' * causal}"
    measure("attention", what, lambda: kernels.attention(q, k, v, causal=causal),
            {"torch": lambda: attend(*tensors, is_causal=causal)}, threads=threads,
            flops=4 * batch * HEADS * queries * keys * WIDTH * share, batch=batch, queries=queries, keys=keys,
            causal=causal)
