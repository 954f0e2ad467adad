"""Layer norm, and residual and layer norm in one pass, against torch."""

import numpy as np
import peers
import pytest

from rtfast import kernels

torch = pytest.importorskip("torch", reason="torch is compared with where it is installed")

SHAPES = [(rows, width) for width in (4, 512, 768, 1024, 4096) for rows in (1, 16, 256, 4096)] + [(65536, 512)]


@pytest.mark.parametrize("rows, width", SHAPES)
@pytest.mark.parametrize("residual", [False, True], ids=["norm", "add-norm"])
def test_layer_norm(measure, threads, residual, rows, width):
    x, y = peers.normal((rows, width)), peers.normal((rows, width), seed=1)
    gamma, beta = peers.normal((width,), seed=2), peers.normal((width,), seed=3)
    out = peers.aligned(x.shape)
    tensors = [torch.from_numpy(array) for array in (x, y, gamma, beta)]
    normalise, shape = torch.nn.functional.layer_norm, (width,)
    if residual:
        def ours():
            return kernels.add_layer_norm(x, y, gamma, beta, out=out)

        def theirs():
            return normalise(tensors[0] + tensors[1], shape, tensors[2], tensors[3], 1e-5)
    else:
        def ours():
            return kernels.layer_norm(x, gamma, beta, out=out)

        def theirs():
            return normalise(tensors[0], shape, tensors[2], tensors[3], 1e-5)

    some = slice(None, None, 1 + rows // 512)
    exact = (x[some] + y[some] if residual else x[some]).astype(float)
    exact = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-5) * gamma + beta
    assert np.allclose(ours()[some], exact, rtol=1e-4, atol=1e-4)
    measure("add and layer norm" if residual else "layer norm", f"({rows}, {width})", ours, {"torch": theirs},
            threads=threads, bytes=4 * x.size * (3 if residual else 2), rows=rows, width=width)
