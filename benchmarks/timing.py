"""Alternating runs and their medians: the machine's speed drifts, the ratio of neighbours does not."""

import time

import numpy as np


def seconds(function, repeats=1):
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


def repeats_for(function, least=2e-3):
    """How many calls make a sample long enough for the clock."""
    function()
    return max(1, int(least / max(seconds(function), 1e-7)))


#: After a call on several threads, OpenBLAS, MKL and OpenMP keep them spinning for a while on the cores that the
#: next in turn needs. A pause of this many seconds lets everybody start from an idle machine.
SETTLE = 0.15


def alternate(functions, budget=1.0, least_rounds=7, threads=1):
    """name -> samples in seconds: every function once a round, round after round."""
    repeats = {name: repeats_for(function) for name, function in functions.items()}
    samples = {name: [] for name in functions}
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(samples[next(iter(samples))]) < least_rounds:
        for name, function in functions.items():
            if threads > 1:
                time.sleep(SETTLE)
                function()
            samples[name].append(seconds(function, repeats[name]))
    return samples


def compare(ours, peers, budget=1.0, threads=1):
    """Our time, the best peer's name and time, and the quartiles of the ratio.

    On one thread the times are medians. On several, now and then somebody's threads are put on one core and the
    others wait: there the times are lower quartiles, for everybody.
    """
    samples = alternate({"rtfast": ours, **peers}, budget, threads=threads)
    typical = {name: float(np.percentile(values, 50 if threads == 1 else 25)) for name, values in samples.items()}
    best = min(peers, key=typical.get)
    ratios = np.array(samples[best]) / np.array(samples["rtfast"])
    low, middle, high = (float(q) for q in np.percentile(ratios, (25, 50, 75)))
    if threads > 1:
        middle = typical[best] / typical["rtfast"]
    return {"seconds": typical["rtfast"], "peer": best, "peer_seconds": typical[best],
            "ratio": middle, "ratio_low": low, "ratio_high": high, "all": typical}
