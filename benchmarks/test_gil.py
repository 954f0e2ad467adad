"""A Python thread that only counts, beside a model that runs on another core."""

import os
import statistics
import threading
import time

import numpy as np
import peers
import pytest

import rtfast

SECONDS = 0.4


def count(until):
    """How far Python counts until then."""
    counted = 0
    while time.perf_counter() < until:
        for _ in range(1000):
            counted += 1
    return counted


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="this machine has one core")
def test_counting_beside_a_run(record):
    peers.set_threads(1)
    model = rtfast.Transformer.random(rtfast.Config.base(1000, n_decoder_layers=0))
    ids = np.arange(128)
    stop = threading.Event()

    def run():
        while not stop.is_set():
            model.encode(ids)

    shares = []
    for _ in range(7):
        alone = count(time.perf_counter() + SECONDS)
        stop.clear()
        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.05)
        beside = count(time.perf_counter() + SECONDS)
        stop.set()
        thread.join()
        shares.append(beside / alone)
    record("GIL", "counting beside the base encoder, length 128", seconds=SECONDS,
           of_alone=statistics.median(shares))
