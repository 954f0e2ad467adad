"""Softmax of rows against torch."""

import numpy as np
import peers
import pytest

from rtfast import kernels

torch = pytest.importorskip("torch", reason="torch is compared with where it is installed")

SHAPES = [(rows, width) for rows in (1, 8, 64, 512, 4096) for width in (8, 64, 512, 2048, 32000)]


@pytest.mark.parametrize("rows, width", SHAPES)
def test_softmax(measure, threads, rows, width):
    x, out, theirs = peers.normal((rows, width)), peers.aligned((rows, width)), peers.aligned((rows, width))
    kernels.softmax(x, out=out)
    exact = np.exp(x.astype(float) - x.max(-1, keepdims=True))
    exact /= exact.sum(-1, keepdims=True)
    assert np.allclose(out, exact, rtol=1e-5, atol=0)
    given, result = torch.from_numpy(x), torch.from_numpy(theirs)
    measure("softmax", f"({rows}, {width})", lambda: kernels.softmax(x, out=out),
            {"torch": lambda: torch.softmax(given, -1, out=result), "torch, new": lambda: torch.softmax(given, -1)},
            threads=threads, bytes=8 * x.size, rows=rows, width=width)
