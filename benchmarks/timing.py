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


def alternate(functions, budget=1.0, least_rounds=7):
    """name -> samples in seconds: every function once a round, round after round."""
    repeats = {name: repeats_for(function) for name, function in functions.items()}
    samples = {name: [] for name in functions}
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(samples[next(iter(samples))]) < least_rounds:
        for name, function in functions.items():
            samples[name].append(seconds(function, repeats[name]))
    return samples


def compare(ours, peers, budget=1.0):
    """Our median, the best peer's name and median, and the quartiles of the ratio round by round."""
    samples = alternate({"rtfast": ours, **peers}, budget)
    medians = {name: float(np.median(values)) for name, values in samples.items()}
    best = min(peers, key=medians.get)
    ratios = np.array(samples[best]) / np.array(samples["rtfast"])
    low, middle, high = (float(q) for q in np.percentile(ratios, (25, 50, 75)))
    return {"seconds": medians["rtfast"], "peer": best, "peer_seconds": medians[best],
            "ratio": middle, "ratio_low": low, "ratio_high": high, "medians": medians}
