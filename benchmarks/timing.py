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


def settle():
    """Wait until this process is idle.

    After a call on several threads, OpenBLAS, MKL and OpenMP keep them spinning for a while, on the cores that
    the next in turn needs.
    """
    for _ in range(40):
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < 0.002:
            return


def alternate(functions, budget=1.0, least_rounds=5, threads=1):
    """name -> samples in seconds: every function once a round, round after round."""
    repeats = {name: repeats_for(function) for name, function in functions.items()}
    samples = {name: [] for name in functions}
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(samples[next(iter(samples))]) < least_rounds:
        for name, function in functions.items():
            if threads > 1:
                settle()
                function()
            samples[name].append(seconds(function, repeats[name]))
    return samples


def compare(ours, peers, budget=1.0, threads=1, rooflines=None, work=None, rounds=5):
    """Our time, the best peer's name and time, and the quartiles of the ratio.

    rooflines: name -> a loop that returns how much it did, run in the same alternation; work: name -> how
    much of the same one call of ours does. The row then has our share of each, `of_<name>`: the median over the
    rounds of our rate over that round's, per thread.

    On one thread the times are medians. On several, now and then somebody's threads are put on one core and the
    others wait: there the times are lower quartiles, for everybody.
    """
    rooflines, amounts = rooflines or {}, {}
    loops = {name: _recording(name, loop, amounts) for name, loop in rooflines.items()}
    samples = alternate({"rtfast": ours, **peers, **loops}, budget, rounds, threads)
    typical = {name: float(np.percentile(values, 50 if threads == 1 else 25)) for name, values in samples.items()}
    best = min(peers, key=typical.get)
    mine = np.array(samples["rtfast"])
    ratios = np.array(samples[best]) / mine
    low, middle, high = (float(q) for q in np.percentile(ratios, (25, 50, 75)))
    if threads > 1:
        middle = typical[best] / typical["rtfast"]
    row = {"seconds": typical["rtfast"], "peer": best, "peer_seconds": typical[best], "rounds": len(mine),
           "ratio": middle, "ratio_low": low, "ratio_high": high,
           "peers": {name: typical[name] for name in peers}}
    for name in rooflines:
        limits = amounts[name] / np.array(samples[name])
        row[f"{name}_limit"] = float(np.median(limits))
        if name in (work or {}):
            row[f"of_{name}"] = float(np.median(work[name] / mine / threads / limits))
    return row


def _recording(name, loop, amounts):
    def run():
        amounts[name] = loop()
    return run
