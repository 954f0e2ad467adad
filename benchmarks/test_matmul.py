"""Products of two plain arrays: what packing costs is part of ours."""

import numpy as np
import peers
import pytest
from checks import check_product

from rtfast import kernels

SHAPES = [((n, n), (n, n)) for n in (64, 128, 256, 512, 1024, 2048)]
SHAPES += [((16, 8, 128, 64), (64, 128)), ((16, 8, 128, 64), (16, 8, 64, 128))]


@pytest.mark.parametrize("left, right", SHAPES, ids=str)
def test_matmul(measure, threads, left, right):
    a, b = peers.normal(left), peers.normal(right, seed=1)
    out = peers.aligned((*left[:-1], right[-1]))
    kernels.matmul(a, b, out=out)
    if b.ndim == 2:
        check_product(out.reshape(-1, right[-1]), a.reshape(-1, left[-1]), b)
    else:
        assert np.allclose(out, a.astype(float) @ b.astype(float), rtol=0, atol=1e-4)
    what = " @ ".join(str(shape) for shape in (left, right))
    measure("matmul", what, lambda: kernels.matmul(a, b, out=out), peers.matmul(a, b), threads=threads,
            flops=2 * a.size * right[-1], n=left[-1])
