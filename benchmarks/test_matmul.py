"""The packed product against the measured peak of the core, and against NumPy and torch."""

import numpy as np
import peers
import pytest

from rtfast import backends, kernels

SHAPES = [(m, k, n) for k, n in ((512, 512), (512, 2048), (2048, 512), (2048, 2048))
          for m in (1, 16, 32, 128, 1024)]


@pytest.mark.parametrize("name", [n for n in ("avx512", "avx2", "neon") if n in backends.available()])
@pytest.mark.parametrize("m, k, n", SHAPES)
def test_packed_product(measure, peak, threads, name, m, k, n):
    x, weight, out = peers.normal((m, k)), peers.normal((k, n), seed=1), peers.aligned((m, n))
    with backends.using(name):
        packed = kernels.pack(weight)
        kernels.linear(x, packed, out=out)
        bound = 2 * k * np.finfo(np.float32).eps * (np.abs(x) @ np.abs(weight))
        assert (np.abs(out - x.astype(float) @ weight.astype(float)) <= bound).all()
        row = measure(f"packed product, {name} (FMA peak of a core {peak[name]:.0f} GFLOP/s)",
                      f"({m}, {k}) @ ({k}, {n})", lambda: kernels.linear(x, packed, out=out),
                      peers.matmul_peers(x, weight), threads=threads, budget=0.4)
        row["of_peak"] = 2e-9 * m * k * n / row["seconds"] / peak[name] / threads
