"""The largest error of exp, erf and tanh over every float32, in units of the last place of the exact result.

    python benchmarks/ulp.py [backend ...]

The exact result is that of float64: NumPy's exp and tanh, and for erf torch's or, without torch, the reference's.
2^32 numbers a function take some minutes. NaN must give NaN.
"""

import sys
import time

import numpy as np

from rtfast import backends, kernels
from rtfast.reference import erfc

BLOCK = 1 << 22


def exact_functions():
    found = {"exp": np.exp, "tanh": np.tanh, "erf": erfc.erf}
    try:
        import torch
        found["erf"] = lambda x: torch.erf(torch.from_numpy(x)).numpy()
    except ImportError:
        pass
    return found


def errors(got, exact):
    """|got - exact| in units of the last place: the gap between float32 numbers at the exact result."""
    at = np.minimum(np.abs(exact), float(np.finfo(np.float32).max))
    gap = np.ldexp(1.0, np.maximum(np.frexp(at)[1] - 24, -149))
    difference = np.abs(got - exact) / gap
    overflow = np.abs(exact) > float(np.finfo(np.float32).max) * (1 + 2.0 ** -25)
    return np.where(overflow, np.where(got == np.copysign(np.inf, exact), 0, np.inf), difference)


def worst(function, exact, step=1):
    """(largest error, where) over every `step`-th float32, in order of their bits."""
    most, where = 0.0, None
    for start in range(0, 1 << 32, BLOCK * step):
        bits = np.arange(start, min(start + BLOCK * step, 1 << 32), step, dtype=np.uint64).astype(np.uint32)
        x = bits.view(np.float32)
        with np.errstate(all="ignore"):
            got = function(x)
            error = errors(got.astype(np.float64), exact(x.astype(np.float64)))
        nan = np.isnan(x)
        assert np.isnan(got[nan]).all(), "NaN does not stay NaN"
        error[nan] = 0
        place = int(np.argmax(error))
        if not error[place] <= most:
            most, where = float(error[place]), float(x[place])
    return most, where


def main(names):
    for name in names or [name for name in backends.available() if name != "python"]:
        with backends.using(name):
            for what, exact in exact_functions().items():
                start = time.perf_counter()
                most, where = worst(getattr(kernels, what), exact)
                spent = time.perf_counter() - start
                print(f"{name:10}{what:6}{most:8.3f} ULP at {where!r}  ({spent:.0f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
