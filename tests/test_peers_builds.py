"""What broke in peers' builds, numbers and processes, one test each; the table is in test_peers_defects.py."""

import glob
import os
import platform
import shutil
import subprocess
import sys

import numpy as np
import pytest
from models import random_values, small_config
from subprocesses import WATCHED, printed

import rtfast
from rtfast import backends, kernels

COMPILED = [name for name in backends.available() if name != "python"]
compiled = pytest.mark.parametrize("name", COMPILED)


# Numbers and builds

#: Build -> registers that its code must not name.
FOREIGN = {"baseline": ("ymm", "zmm"), "avx2": ("zmm",), "avx512": ()}


@pytest.mark.skipif(platform.machine() != "x86_64" or not sys.platform.startswith("linux"), reason="of ELF on x86-64")
@pytest.mark.parametrize("name", FOREIGN)
def test_instructions_and_symbols_of_the_builds(name):
    """No build has instructions of a larger set, or a weak symbol that another's may stand in for."""
    if shutil.which("objdump") is None or shutil.which("nm") is None:
        pytest.skip("objdump and nm are not installed: the builds cannot be looked into")
    found = glob.glob(os.path.join(os.path.dirname(rtfast.__file__), f"_{name}.*.so"))
    if not found:
        pytest.skip(f"the build {name} is not installed")
    code = subprocess.run(["objdump", "-d", found[0]], capture_output=True, text=True, check=True).stdout
    assert len(code.splitlines()) > 10_000
    for register in FOREIGN[name]:
        assert f"%{register}" not in code
    symbols = subprocess.run(["nm", "-D", "--defined-only", found[0]], capture_output=True, text=True, check=True)
    exported = [line.split()[1:] for line in symbols.stdout.splitlines()]
    assert exported == [["T", f"PyInit__{name}"]]


def test_denormals_stay(backend, tmp_path):
    """The floating-point mode is the same after loading, generating and threads of our own."""
    tiny = np.full(64, 1e-40, np.float32)
    before = rtfast.get_num_threads()
    try:
        rtfast.set_num_threads(2)
        rtfast.Transformer(small_config(), random_values(small_config())).save(tmp_path / "model")
        model = rtfast.load(tmp_path / "model")
        model.generate([3, 4, 5], 5)
        assert (tiny * np.float32(1) > 0).all() and (tiny * np.float32(0.5) + tiny > tiny).all()
        assert float(np.float32(1) + np.float32(2**-24)) == 1.0  # to nearest, ties to even
    finally:
        rtfast.set_num_threads(before)


@pytest.mark.skipif(sys.maxsize < 2**32, reason="a table of more than 2**31 numbers needs 64 bits")
def test_offsets_beyond_32_bits(backend):
    """A table of 2**31 numbers and more, of which only the pages that are used are there."""
    try:
        table = np.zeros((2**28 + 2, 9), np.float32)
    except MemoryError:
        pytest.skip("this system does not promise memory that is not used")
    rows = [0, 2**31 // 9 + 1, 2**30 // 9 + 1, 2**28 + 1]
    for row in rows:
        table[row] = row % 1000 + np.arange(9)
    assert np.array_equal(kernels.embedding(rows, table), table[rows])


# In a process

FORKS = """if True:
    import os, sys, threading
    import models, rtfast
    config = models.small_config()
    model = rtfast.Transformer(config, models.random_values(config))
    large = models.large_config()
    busy = rtfast.Transformer(large, models.random_values(large))
    expected, again = model.generate([3, 4, 5], 4), busy.encode(range(100)).tobytes()
    stop, wrong = threading.Event(), []
    def keep_running():
        while not stop.is_set():
            if busy.encode(range(100)).tobytes() != again:
                wrong.append(True)
    for n, running in ((200, False), (100, True)):
        thread = threading.Thread(target=keep_running)
        if running:
            thread.start()
        for i in range(n):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    good = model.generate([3, 4, 5], 4) == expected
                    if i % 10 == 0:
                        good = good and busy.encode(range(100)).tobytes() == again
                    code = 0 if good else 2
                finally:
                    os._exit(code)
            print(os.waitpid(child, 0)[1])
        if running:
            stop.set()
            thread.join()
    print(len(wrong))"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@compiled
def test_many_forks(name):
    """200 after use, 100 while another thread runs a model: each child's results are the parent's."""
    statuses = printed(FORKS, "-W", "ignore:.*use of fork:DeprecationWarning", RTFAST_BACKEND=name,
                       RTFAST_NUM_THREADS="2")
    assert statuses == ["0"] * 301


INTERRUPTS = """if True:
    import random, signal
    import models, rtfast
    config = models.large_config()
    model = rtfast.Transformer(config, models.random_values(config))
    def work():
        return model.generate([5, 6, 7] * 20, 12), model.generate([5, 6], 4, num_beams=3)
    expected, caught, other, draws = work(), 0, 0, random.Random(2026)
    def interrupt(number, frame):
        raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, interrupt)
    for _ in range(100):
        try:
            signal.setitimer(signal.ITIMER_REAL, 10 ** draws.uniform(-4, -1.7))
            while True:
                if work() != expected:
                    other += 1
        except KeyboardInterrupt:
            caught += 1
    print(caught, other, work() == expected)"""


@pytest.mark.skipif(not hasattr(__import__("signal"), "setitimer"), reason="this system has no interval timer")
@compiled
def test_interrupts_at_random_times(name):
    """100 of them, at any moment of a search; the model gives the same before and after each."""
    assert printed(INTERRUPTS, RTFAST_BACKEND=name, RTFAST_NUM_THREADS="2") == ["100", "0", "True"]


ALLOCATIONS = """if True:
    import resource
    import numpy, models, rtfast
    config = models.small_config(max_length=2000, vocab_size=5000)
    model = rtfast.Transformer(config, models.random_values(config))
    source = [3, 4, 5] * 300
    expected, small = model.encode(source[:300]).tobytes(), model.generate([3, 4], 5)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    failed = 0
    for megabytes in range(0, 120, 4):
        resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, resource.RLIM_INFINITY))
        try:
            model.logits(source, source)
        except MemoryError:
            failed += 1
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert model.encode(source[:300]).tobytes() == expected and model.generate([3, 4], 5) == small
    print(failed)"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space, as Linux does")
@pytest.mark.skipif(WATCHED, reason="AddressSanitizer takes address space in its own steps")
@compiled
def test_failed_allocations(name):
    """Wherever memory ends it is a MemoryError, and the model works on."""
    failed, = printed(ALLOCATIONS, RTFAST_BACKEND=name, RTFAST_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    assert 5 < int(failed) < 30
