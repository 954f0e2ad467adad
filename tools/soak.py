"""Does memory grow? Many translations, loadings and errors in one process, and what they left behind.

    python tools/soak.py                         # 100,000 calls of generate, 10,000 loadings
    python tools/soak.py --calls 1000 --loads 100
"""

import argparse
import gc
import os
import sys
import time

import numpy as np

import rtfast

#: MB that may stay behind, of caches that fill once.
MOST = 2.0


def resident():
    """MB of memory that the process holds."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def grown(name, work, times):
    """Do it a tenth as often to warm up, then that often; print and return the MB more."""
    for i in range(max(1, times // 10)):
        work(i)
    before, start = resident(), time.perf_counter()
    for i in range(times):
        work(i)
    more = resident() - before
    print(f"{name:40}{times:9,} times  {time.perf_counter() - start:7.1f} s  {more:+6.2f} MB", flush=True)
    return more


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=100_000, metavar="N")
    parser.add_argument("--loads", type=int, default=10_000, metavar="N")
    arguments = parser.parse_args()
    model, random = rtfast.load(), np.random.default_rng(0)
    words = model.config.vocab_size

    def sentence():
        return random.integers(3, words, random.integers(1, 20)).tolist()

    def refuse(i):
        try:
            model.generate([words + i])
        except ValueError:
            return
        raise AssertionError("an id outside the vocabulary was taken")

    found = [
        grown("generate, any length", lambda i: model.generate(sentence(), 8), arguments.calls),
        grown("generate, beams of a batch", lambda i: model.generate([sentence(), sentence()], 6, num_beams=3),
              arguments.calls // 20),
        grown("streams left early", lambda i: next(model.stream(sentence(), 8)), arguments.calls // 10),
        grown("errors", refuse, arguments.calls),
        grown("load, translate, drop", lambda i: rtfast.load().translate("the red house"), arguments.loads),
    ]
    return 0 if max(found) < MOST else 1


if __name__ == "__main__":
    sys.exit(main())
