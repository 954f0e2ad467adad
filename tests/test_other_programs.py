"""In other people's processes: many threads, every way to start a process, servers that fork, sub-interpreters, little
memory, exceptions from callbacks."""

import multiprocessing
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from cases import assert_same_bits, skip_unless_bits_are_promised
from models import large_config, ragged_ids, random_model, random_values, small_config
from subprocesses import printed, python

import rtfast

LENGTHS = (50, 3, 100, 17, 64, 1, 80, 9)


def answers(model, ids):
    return (model.encode(ids), model.logits(ids, ids[:9]), model.generate(ids, 4),
            model.generate([ids, ids[:2]], 3, num_beams=2))


def assert_same_answers(got, expected):
    for one, other in zip(got, expected, strict=True):
        if isinstance(one, np.ndarray):
            assert_same_bits(one, other)
        else:
            assert one == other


@pytest.mark.parametrize("n_models", [1, 4])
def test_sixteen_threads(backend, n_models):
    skip_unless_bits_are_promised(backend)
    config = large_config(n_encoder_layers=1, n_decoder_layers=1)
    models = [rtfast.Transformer(config, random_values(config, seed)) for seed in range(n_models)]
    sources = ragged_ids(config, LENGTHS)
    expected = [[answers(model, ids) for ids in sources] for model in models]
    wrong, start = [], threading.Barrier(16)

    def body(i):
        try:
            start.wait(60)
            for j in range(6):
                m, s = (i + j) % n_models, (i + 3 * j) % len(sources)
                assert_same_answers(answers(models[m], sources[s]), expected[m][s])
        except BaseException as error:
            wrong.append(error)

    members = [threading.Thread(target=body, args=(i,)) for i in range(16)]
    for member in members:
        member.start()
    for member in members:
        member.join(120)
        assert not member.is_alive(), "a thread hangs"
    if wrong:
        raise wrong[0]


# Processes

#: A program that starts workers by a method; each loads the model from argv[2] and answers.
WORKERS = """
import multiprocessing, os, sys, threading
import rtfast

def begin(folder, shared=None):
    global model
    model = shared or rtfast.load(folder)

def answer(ids):
    found = []
    threads = [threading.Thread(target=lambda: found.append(model.generate(ids, 5))) for _ in range(2)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert found[0] == found[1]
    return found[0], model.encode(ids).tobytes().hex()

if __name__ == "__main__":
    method, folder = sys.argv[1:]
    begin(folder)
    rows = [[3 + i % 9, 4, 5 + i % 3] * (1 + i % 4) for i in range(12)]
    expected = [answer(row) for row in rows]
    context = multiprocessing.get_context(method)
    for _ in range(2):
        with context.Pool(3, begin, (folder,)) as pool:
            assert pool.map(answer, rows) == expected
    assert [answer(row) for row in rows] == expected
    print("right")
"""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers(backend, tmp_path, method):
    random_model(small_config(max_length=64))[0].save(tmp_path / "model")
    (tmp_path / "program.py").write_text(WORKERS)
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run([sys.executable, "-W", "ignore", "program.py", method, "model"], cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": paths, "RTFAST_BACKEND": backend},
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "right\n", done.stderr


#: As gunicorn does it: loaded and used before the fork, then four workers serve at once, each with two threads.
PRE_FORK = """if True:
    import os, threading
    import models, rtfast
    config = models.large_config()
    model = rtfast.Transformer(config, models.random_values(config))
    rtfast.set_num_threads(2)
    rows = models.ragged_ids(config, (40, 7, 90, 12))
    expected = [model.generate(row, 4) for row in rows]
    children = []
    for worker in range(4):
        pid = os.fork()
        if pid == 0:
            wrong = []
            def serve(shift):
                for i in range(8):
                    place = (i + shift) % 4
                    if model.generate(rows[place], 4) != expected[place]:
                        wrong.append(place)
            threads = [threading.Thread(target=serve, args=(worker + n,)) for n in range(2)]
            for thread in threads: thread.start()
            for thread in threads: thread.join(60)
            os._exit(1 if wrong or any(thread.is_alive() for thread in threads) else 0)
        children.append(pid)
    assert [model.generate(row, 4) for row in rows] == expected
    print(*(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_server_that_forks_its_workers(backend):
    assert printed(PRE_FORK, "-W", "ignore::DeprecationWarning", RTFAST_BACKEND=backend) == ["0"] * 4


#: Imports rtfast in a sub-interpreter, before the main interpreter does or after, and prints what that says.
SUB_INTERPRETER = """if True:
    import os
    if os.environ["MAIN"] == "first":
        import rtfast
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    code = '''if True:
        import warnings
        warnings.simplefilter("ignore")
        try:
            import rtfast
        except ImportError as error:
            print(ascii(str(error)), flush=True)
        else:
            print("imported", flush=True)
    '''
    for _ in range(2 if os.environ["MAIN"] == "first" else 1):
        which = interpreters.create()
        outcome = getattr(interpreters, "exec", None) or interpreters.run_string
        assert outcome(which, code) is None
        interpreters.destroy(which)
    if os.environ["MAIN"] == "first":
        print(rtfast.backend(), rtfast.load().translate("hello world"))"""


@pytest.mark.parametrize("main", ["first", "not"])
def test_a_sub_interpreter_is_refused(backend, main):
    """By NumPy, where it was loaded before or has a GIL of its own, or by rtfast; the main interpreter goes on."""
    pytest.importorskip("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters",
                        reason="this Python shows no sub-interpreters")
    words = printed(SUB_INTERPRETER, MAIN=main, RTFAST_BACKEND=backend)
    said = " ".join(words)
    assert "imported" not in words
    if main == "first":
        assert said.count("interpreter") + said.count("more than once per process") >= 2
        assert words[-3:] == [backend, "hola", "mundo"]
    elif sys.version_info < (3, 12):
        assert "rtfast does not run in a sub-interpreter" in said
    else:
        assert "interpreter" in said


# Little memory

#: Under a limit on the address space: what does not fit is a MemoryError, and what fits goes on.
LITTLE = """if True:
    import resource
    import models, rtfast
    config = models.large_config(max_length=4096, vocab_size=2000)
    model = rtfast.Transformer(config, models.random_values(config))
    rtfast.set_num_threads(1)
    expected = model.generate([5, 6, 7], 4)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (48 << 20), resource.RLIM_INFINITY))
    failed = 0
    for many in (64, 256, 2000):
        try:
            model.generate([[5, 6, 7]] * many, 2000, num_beams=4)
        except MemoryError:
            failed += 1
        assert model.generate([5, 6, 7], 4) == expected
    try:
        rtfast.Transformer.random(rtfast.Config(vocab_size=100_000, d_model=512, n_heads=8))
    except MemoryError:
        failed += 1
    assert model.generate([5, 6, 7], 4) == expected
    print(failed)"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space as Linux does")
def test_too_little_memory(backend):
    if backend == "python":
        pytest.skip("NumPy takes what memory it takes")
    done = python(LITTLE, RTFAST_BACKEND=backend)
    assert done.stdout == "4\n", done.stderr


# Callbacks

def test_exceptions_from_callbacks_leave_the_model_usable(backend):
    model = random_model(small_config(eos_id=None))[0]
    expected = model.generate([3, 4, 5], 8)

    def fail(ids):
        if len(ids) == 3:
            raise KeyError("mine")

    for _ in range(3):
        with pytest.raises(KeyError, match="mine"):
            model.generate([[3, 4, 5], [4, 4]], 8, stopping_criteria=fail)
        assert model.generate([3, 4, 5], 8) == expected
    stream = model.stream([3, 4, 5], 8)
    assert [next(stream), next(stream)] == expected[:2]
    other = list(model.stream([3, 4, 5], 8))  # while the first one is held
    stream.close()
    assert other == expected == list(model.stream([3, 4, 5], 8))
    with pytest.raises(ZeroDivisionError):
        model.run_with(model.trace([3], [1]), {"logits": lambda logits: 1 / 0})
    assert model.generate([3, 4, 5], 8) == expected
