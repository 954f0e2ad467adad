"""Attention takes memory in proportion to the length: the scores of all pairs are never there at once; products in
proportion to their operands.

Measured as the most memory that a process ever held (VmHWM). ru_maxrss would not do: a process inherits it from
the one that started it, here a pytest that may have held more than the whole matrix of scores.
"""

import pytest
from subprocesses import WATCHED, printed

from rtfast import backends

COMPILED = [name for name in backends.available() if name != "python"]
LENGTH, WIDTH = 8192, 64
SCORES = LENGTH * LENGTH * 4  # bytes: 256 MB
OPERAND = LENGTH * WIDTH * 4  # bytes: 2 MB

#: Prints how far `call` raised the peak, in bytes. q, k and v were made by then, in place: no peak of their own.
MEASURED = f"""if True:
    import numpy as np
    from rtfast import kernels

    def peak():
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))

    q, k, v = (np.random.default_rng(i).standard_normal(({LENGTH}, {WIDTH}), np.float32) for i in range(3))
    kernels.attention(q[:64], k[:64], v[:64])
    before = peak()
    {{call}}
    print(peak() - before)"""


def has_peak():
    try:
        with open("/proc/self/status") as file:
            return "VmHWM:" in file.read()
    except OSError:
        return False


pytestmark = [
    pytest.mark.skipif(WATCHED, reason="AddressSanitizer's own memory would be measured"),
    pytest.mark.skipif(not has_peak(), reason="this system has no VmHWM in /proc/self/status"),
]


def growth(call, **environment):
    (grown,) = map(int, printed(MEASURED.format(call=call), **environment))
    return grown


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("name", COMPILED)
def test_memory_is_of_the_order_of_the_length(name, causal, threads):
    """What comes out, and for each thread a copy of the keys and the scores of a few queries."""
    grown = growth(f"kernels.attention(q, k, v, causal={causal})", RTFAST_BACKEND=name, RTFAST_NUM_THREADS=threads)
    assert OPERAND / 2 < grown < 32 << 20 < SCORES / 4


def test_the_matrix_of_scores_would_show():
    assert growth(f"np.ones(({LENGTH}, {LENGTH}), np.float32)") > 0.9 * SCORES


@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("name", COMPILED)
def test_a_narrow_operand_is_not_packed_whole(name, rows):
    """A column by itself, padded to a panel, would take 16 times its size and more."""
    narrow = (f"a, b = np.ones(({rows}, 1 << 19), np.float32), np.ones((1 << 19, 1), np.float32); "
              "kernels.matmul(a[:, :64], b[:64]); before = peak(); kernels.matmul(a, b)")
    assert growth(narrow, RTFAST_BACKEND=name) < 8 << 20
