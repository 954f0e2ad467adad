"""Packed linear layers: against NumPy and torch over the whole table, and every build against its core's peak."""

import peers
import pytest
from checks import check_product

from rtfast import backends, kernels

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 512, 2048)
WEIGHTS = ((512, 512), (512, 2048), (2048, 512), (768, 3072), (1024, 1024), (512, 32000), (509, 1021))


@pytest.mark.parametrize("k, n", WEIGHTS)
@pytest.mark.parametrize("m", ROWS)
def test_linear(measure, threads, m, k, n):
    x, weight, out = peers.normal((m, k)), peers.normal((k, n), seed=1), peers.aligned((m, n))
    packed = kernels.pack(weight)
    check_product(kernels.linear(x, packed, out=out), x, weight)
    measure("linear", f"({m}, {k}) @ ({k}, {n})", lambda: kernels.linear(x, packed, out=out), peers.linear(x, weight),
            threads=threads, flops=2 * m * k * n, bytes=4 * (m * k + k * n + m * n), m=m, k=k, n=n)


@pytest.mark.parametrize("name", [n for n in ("avx512", "avx2", "neon") if n in backends.available()])
@pytest.mark.parametrize("k, n", ((512, 512), (512, 2048), (2048, 512), (2048, 2048)))
@pytest.mark.parametrize("m", (16, 32, 128, 1024))
def test_packed_product(measure, threads, name, m, k, n):
    x, weight, out = peers.normal((m, k)), peers.normal((k, n), seed=1), peers.aligned((m, n))
    with backends.using(name):
        packed = kernels.pack(weight)
        check_product(kernels.linear(x, packed, out=out), x, weight)
        measure(f"packed product, {name}", f"({m}, {k}) @ ({k}, {n})", lambda: kernels.linear(x, packed, out=out),
                peers.linear(x, weight), threads=threads, flops=2 * m * k * n, backend=name, m=m)
