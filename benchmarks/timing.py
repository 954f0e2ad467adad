"""Alternating runs and their medians: the machine's speed drifts, the ratio of neighbours does not."""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

LONG_ENOUGH = 2e-3  # seconds of a sample, at least: the clock's error is small then
LONG_CALL = 0.2     # seconds: so long a call soon has the caches full of its own


def seconds(function, repeats=1):
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


def once(function):
    """The seconds of one call, not the first."""
    function()
    return max(seconds(function), 1e-7)


def rate(loop, threads=1):
    """What `threads` threads do together in a second: each runs loop(i, threads), its part, and times itself."""
    begin = threading.Barrier(threads)

    def part(i):
        begin.wait()
        start = time.perf_counter()
        amount = loop(i, threads)
        return amount / (time.perf_counter() - start)

    if threads == 1:
        return part(0)
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(part, range(threads)))


def settle(threads, multiply=None):
    """Wait until this process is idle, and as many cores are there as threads will need.

    After a call on several threads, OpenBLAS, MKL and OpenMP keep them spinning for a while, on the cores that
    the next in turn needs. And a virtual machine's cores are now and then, for a while, two halves of one: `multiply`,
    a loop of multiply-adds as in `rate`, is then as fast on one thread as on two.
    """
    for _ in range(40):
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < 0.002:
            break
    for _ in range(40):
        if multiply is None or rate(multiply, threads) > 0.8 * threads * rate(multiply):
            return
        time.sleep(0.05)


def alternate(functions, budget=1.0, least_rounds=5, threads=1, rooflines=None, multiply=None):
    """(name -> samples in seconds, roofline -> rates): each function and loop once a round, round after round.

    A function runs once before its sample starts: whose turn was before left the caches full of its own, or, as the
    loop over memory, empty. Not one that takes LONG_CALL.
    """
    samples, rates = {name: [] for name in functions}, {name: [] for name in rooflines or {}}
    duration = {name: once(function) for name, function in functions.items()}
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(samples[next(iter(samples))]) < least_rounds:
        for name, function in functions.items():
            if threads > 1:
                settle(threads, multiply)
            if duration[name] < LONG_CALL:
                function()
            samples[name].append(seconds(function, math.ceil(LONG_ENOUGH / duration[name])))
        for name in rates:
            if threads > 1:
                settle(threads, multiply)
            rates[name].append(rate(rooflines[name], threads))
    return samples, rates


def compare(ours, peers, budget=1.0, threads=1, rooflines=None, work=None, rounds=5, multiply=None):
    """Our time, the best peer's name and time, and the quartiles of the ratio.

    rooflines: name -> a loop(i, n) that does the i-th of n parts and returns how much that was, run in the same
    alternation and on as many threads; work: name -> how much of the same one call of ours does. The row then has our
    share of each, `of_<name>`: the median over the rounds of our rate over that round's. multiply: see `settle`.

    On one thread the times are medians. On several, now and then two threads find one core all the same: there the
    times are lower quartiles, for everybody, and rates upper ones.
    """
    samples, rates = alternate({"rtfast": ours, **peers}, budget, rounds, threads, rooflines, multiply)
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
    for name, limits in rates.items():
        row[f"{name}_limit"] = float(np.percentile(limits, 50 if threads == 1 else 75))
        if name in (work or {}):
            row[f"of_{name}"] = (float(np.median(work[name] / mine / limits)) if threads == 1 else
                                 work[name] / typical["rtfast"] / row[f"{name}_limit"])
    return row
