"""Any number of threads gives the same bits; a model may be shared by threads and used across a fork."""

import os
import pickle
import select
import signal
import textwrap
import threading
import time

import numpy as np
import pytest
from cases import assert_same_bits, normal
from models import large_config, ragged_ids, random_ids, random_values, threads
from subprocesses import printed, python
from thread_counts import assert_threads_change_nothing

import rtfast
from rtfast import backends, kernels

COMPILED = [name for name in backends.available() if name != "python"]
compiled = pytest.mark.parametrize("name", COMPILED)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
# Python 3.12 warns of a fork in a process with threads: what these tests are about.
fork_warning = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def large_model(backend, **fields):
    """One that is worth a team of threads; for the reference, which has none, a smaller one."""
    if backend == "python":
        fields = {"d_model": 32, "d_ff": 48, **fields}
    config = large_config(**fields)
    with backends.using(backend):
        return rtfast.Transformer(config, random_values(config))


def results(model):
    """What encode, logits and generate give for sentences of 100 and of a few words."""
    source, target = random_ids(model.config, 100), random_ids(model.config, 60, seed=1)
    batch = ragged_ids(model.config, (7, 90, 1, 33))
    return [model.logits(source, target), *model.encode(batch), *map(np.array, model.generate(batch, 3))]


def fewer_results(model):
    """The same with one run of each program, for tests that do it in many processes."""
    source = random_ids(model.config, 100)
    return [model.encode(source), np.array(model.generate(source, 1))]


def assert_same_results(got, expected):
    for one, other in zip(got, expected, strict=True):
        assert_same_bits(one, other)


# The team of threads

@compiled
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_number_of_threads_gives_the_same_bits(name, dtype):
    model = large_model(name, dtype=dtype)
    assert_threads_change_nothing(lambda: results(model))


@compiled
def test_the_number_may_change_between_calls(name):
    model = large_model(name)
    source = random_ids(model.config, 100)
    expected = model.encode(source)
    for n in (1, 8, 2, 128, 1, 3):
        with threads(n):
            assert_same_bits(model.encode(source), expected)


def in_threads(n, work):
    """[work(0), ..., work(n - 1)], each in a thread of its own, all begun at once; errors are raised here."""
    outcomes, start = [None] * n, threading.Barrier(n)

    def body(i):
        try:
            start.wait(30)
            outcomes[i] = work(i), None
        except BaseException as error:
            outcomes[i] = None, error

    members = [threading.Thread(target=body, args=(i,)) for i in range(n)]
    for member in members:
        member.start()
    for member in members:
        member.join(60)
        assert not member.is_alive(), "a thread hangs"
    for _, error in outcomes:
        if error is not None:
            raise error
    return [value for value, _ in outcomes]


def test_a_model_is_shared_by_threads(backend):
    model = large_model(backend)
    sources = ragged_ids(model.config, (50, 3, 100, 17, 64, 1, 80, 9))
    with threads(3):

        def use(ids):
            return model.encode(ids), model.logits(ids, ids[:9]), model.generate(ids, 3)

        def work(i):
            return [use(sources[(i + j) % 8]) for j in range(10)]

        expected = [use(ids) for ids in sources]

        for i, got in enumerate(in_threads(8, work)):
            for j, (states, logits, generated) in enumerate(got):
                whole = expected[(i + j) % 8]
                assert_same_bits(states, whole[0])
                assert_same_bits(logits, whole[1])
                assert generated == whole[2]


def test_threads_share_a_tracing_model(backend):
    model = large_model(backend)
    source, target = random_ids(model.config, 20), random_ids(model.config, 10)
    expected = model.trace(source, target)
    for trace in in_threads(4, lambda i: model.trace(source, target)):
        for name, values in expected.items():
            assert_same_bits(trace[name], values, name)


@compiled
def test_the_interpreter_runs_on_while_a_model_computes(name):
    """A run gives the GIL away: another thread gets to work meanwhile."""
    model = large_model(name, n_encoder_layers=12)
    batch = [random_ids(model.config, 128)] * 64
    model.encode(batch)
    assert_others_run_meanwhile(lambda: model.encode(batch))


@compiled
def test_the_interpreter_runs_on_while_a_kernel_computes(name):
    x = normal((2000, 2000), np.float32)
    with backends.using(name):
        packed = kernels.pack(x)
        for compute in (lambda: kernels.linear(x, packed), lambda: kernels.matmul(x, x),
                        lambda: kernels.attention(x, x, x)):
            assert_others_run_meanwhile(compute)


def assert_others_run_meanwhile(compute):
    """That another Python thread is never kept from running for half of the time that it takes on one thread."""
    stop, ticks = threading.Event(), []

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    with threads(1):
        ticker.start()
        begun = time.perf_counter()
        compute()
        ended = time.perf_counter()
        stop.set()
        ticker.join()
    times = [begun, *(t for t in ticks if begun < t < ended), ended]
    longest = max(after - before for before, after in zip(times, times[1:], strict=False))
    assert longest < (ended - begun) / 2, f"no tick for {longest:.3f} s of {ended - begun:.3f} s"


# set_num_threads and RTFAST_NUM_THREADS

@pytest.mark.parametrize("n, kind", [
    (0, ValueError), (-1, ValueError), (129, ValueError), (10**30, ValueError), (1.5, TypeError),
    (2.0, TypeError), ("2", TypeError), (None, TypeError), ([2], TypeError),
    (True, TypeError), (np.array([2]), TypeError)])
def test_bad_numbers_of_threads(n, kind):
    before = rtfast.get_num_threads()
    with pytest.raises(kind, match="n must be"):
        rtfast.set_num_threads(n)
    assert rtfast.get_num_threads() == before


def test_the_number_holds_for_every_backend():
    for n in (1, 3, np.int64(2), 128):
        with threads(n):
            assert rtfast.get_num_threads() == n
            for name in backends.available():
                with backends.using(name):
                    assert rtfast.get_num_threads() == n


@pytest.mark.parametrize("n", [1, 2, 5])
def test_num_threads_of_the_environment(n):
    code = "import rtfast; print(rtfast.get_num_threads())"
    assert printed(code, RTFAST_NUM_THREADS=str(n)) == [str(n)]
    assert printed(code, RTFAST_NUM_THREADS=f" {n} ") == [str(n)]


def test_as_many_threads_as_processors_without_it():
    code = "import os, rtfast; print(rtfast.get_num_threads(), rtfast.threads.available_cpus())"
    there, available = map(int, printed(code, RTFAST_NUM_THREADS=""))
    assert there == min(available, 128) and 1 <= available <= os.cpu_count()


@pytest.mark.parametrize(
    "asked", ["0", "129", "-1", "two", "1.5", "²", "9" * 5000], ids=lambda asked: asked[:6])
def test_bad_num_threads_of_the_environment(asked):
    code = "try: import rtfast\nexcept ValueError as error: print(str(error)[:200])"
    message = " ".join(printed(code, RTFAST_NUM_THREADS=asked))
    assert message.startswith("RTFAST_NUM_THREADS must be a whole number from 1 to 128, got")


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
@pytest.mark.skipif(not COMPILED, reason="the reference has no threads of its own")
@pytest.mark.parametrize("n", [1, 3])
def test_as_many_threads_start_as_were_asked_for(n):
    """Large runs start the team, small ones do not: else the tests above compared one thread with itself."""
    code = """if True:
        import os
        import models, rtfast
        n = rtfast.get_num_threads()
        rtfast.set_num_threads(1)
        model = rtfast.Transformer.random(models.large_config())
        small = rtfast.Transformer.random(rtfast.Config.article())
        def count(): return len(os.listdir("/proc/self/task"))
        before = count()
        rtfast.set_num_threads(n)
        small.encode([1, 2, 3])
        print(count() - before)
        model.encode(range(100))
        print(count() - before)
        model.generate(range(100), 3)
        print(count() - before)"""
    assert printed(code, RTFAST_NUM_THREADS=str(n)) == ["0", str(n - 1), str(n - 1)]


# Processes

def in_child(work, seconds=30):
    """What work() returns in a forked child; a child that hangs is killed and fails the test."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            with open(writing, "wb") as pipe:
                pickle.dump(work(), pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    received, deadline = b"", time.monotonic() + seconds
    with open(reading, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
            piece = pipe.read(1 << 20)
            if not piece:
                break
            received += piece
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail(f"the child hangs: no result within {seconds} s")
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with status {status}"
    return pickle.loads(received)


@needs_fork
@fork_warning
def test_a_model_works_in_a_child_after_use(backend):
    model = large_model(backend)
    with threads(2):
        expected = fewer_results(model)
        for _ in range(20):
            assert_same_results(in_child(lambda: fewer_results(model)), expected)
            assert_same_results(fewer_results(model), expected)  # and in the parent


@needs_fork
@fork_warning
@compiled
def test_a_child_of_a_child(name):
    model = large_model(name)
    with threads(2):
        expected = fewer_results(model)

        def work():
            return fewer_results(model), in_child(lambda: fewer_results(model), 15)

        for got in in_child(work):
            assert_same_results(got, expected)


@needs_fork
@fork_warning
@compiled
def test_a_fork_while_another_thread_runs_the_model(name):
    model = large_model(name)
    stop, failures = threading.Event(), []
    with threads(2):
        expected = fewer_results(model)

        def keep_running():
            while not stop.is_set():
                for one, other in zip(fewer_results(model), expected, strict=True):
                    if not np.array_equal(one, other):
                        failures.append("the thread got other bits")

        thread = threading.Thread(target=keep_running)
        thread.start()
        try:
            for _ in range(20):
                assert_same_results(in_child(lambda: fewer_results(model)), expected)
        finally:
            stop.set()
            thread.join(30)
        assert not thread.is_alive() and not failures


@needs_fork
@fork_warning
@compiled
def test_a_signal_that_forks_in_the_middle_of_a_product(name):
    """The child has no other threads: it computes on alone or says so, and never waits for them. The product takes
    several times as long as a run goes without looking for signals."""
    x, children = np.ones((4000, 4000), np.float32), []
    with backends.using(name), threads(2):
        weight = kernels.pack(np.ones((4000, 2000), np.float32))

        def fork(number, frame):
            if not children:
                children.append(os.fork())

        before = signal.signal(signal.SIGALRM, fork)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            deadline = time.monotonic() + 60
            while not children and time.monotonic() < deadline:
                try:
                    right = (kernels.linear(x, weight) == 4000).all()
                except RuntimeError as error:
                    right = "forked" in str(error)
            if children == [0]:
                right = right and (kernels.linear(x, weight) == 4000).all()
                os._exit(0 if right else 1)
        finally:
            if children != [0]:
                signal.signal(signal.SIGALRM, before)
        assert right and children
        for _ in range(300):
            done, status = os.waitpid(children[0], os.WNOHANG)
            if done:
                break
            time.sleep(0.1)
        else:
            os.kill(children[0], signal.SIGKILL)
            os.waitpid(children[0], 0)
            pytest.fail("the child hangs")
        assert status == 0


@needs_fork
@fork_warning
@compiled
def test_threads_of_a_child(name):
    """A child's own Python threads share its new team."""
    model = large_model(name)
    with threads(2):
        expected = fewer_results(model)
        for got in in_child(lambda: in_threads(4, lambda i: fewer_results(model))):
            assert_same_results(got, expected)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
@compiled
def test_an_interrupted_call_leaves_the_model_usable(name):
    """Ctrl-C at any time."""
    model = large_model(name)
    source, caught = random_ids(model.config, 100), 0

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with threads(1):
            expected = model.generate(source, 20)
            for i in range(30):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0003 + 0.0001 * i)  # once
                    for _ in range(10):
                        model.generate(source, 20)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    caught += 1
                assert model.generate(source, 20) == expected
    finally:
        signal.signal(signal.SIGALRM, before)
    assert caught > 20


#: Seconds of work in one call on any of today's machines, in little memory.
LONG_CALL = (128, 8192, 8)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
@pytest.mark.parametrize("n_threads", [1, 2])
@compiled
def test_a_long_call_can_be_interrupted(name, n_threads):
    """The exception comes in the middle of one call, which would take much longer."""
    q = np.random.default_rng(0).standard_normal(LONG_CALL).astype(np.float32)
    short = q[:2, :100]
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with backends.using(name), threads(n_threads):
            expected = kernels.attention(short, short, short)
            for _ in range(2):
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                with pytest.raises(KeyboardInterrupt):
                    kernels.attention(q, q, q)
                assert_same_bits(kernels.attention(short, short, short), expected)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
@pytest.mark.parametrize("n_threads", [1, 2])
@compiled
def test_a_long_product_is_left_unfinished(name, n_threads):
    """32 thousand million multiply-adds: some of the output has not been written when Ctrl-C is seen."""
    a, b = np.ones((16_000, 1000), np.float32), np.ones((1000, 2000), np.float32)
    out = np.full((16_000, 2000), np.nan, np.float32)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with backends.using(name), threads(n_threads):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                kernels.matmul(a, b, out=out)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert np.isnan(out).any()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
@compiled
def test_a_signal_that_raises_nothing_interrupts_nothing(name):
    q = np.random.default_rng(0).standard_normal((16, 4096, 8)).astype(np.float32)
    seen = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
    try:
        with backends.using(name), threads(1):
            expected = kernels.attention(q, q, q)
            signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
            got = kernels.attention(q, q, q)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen and np.array_equal(got, expected)


@pytest.mark.parametrize("n_threads", [1, 2])
@compiled
def test_python_may_exit_while_a_thread_computes(name, n_threads):
    """Once Python ends, it ends a daemon thread that asks for the GIL; its stack, with the list of what the team
    computes, goes with it."""
    done = python(textwrap.dedent("""
        import os, threading, time
        import numpy as np
        from rtfast import kernels

        class Slow:
            def __del__(self, sleep=time.sleep):
                sleep(1)

        slow = Slow()
        a, b, out = (np.ones(shape, np.float32) for shape in ((8000, 4000), (4000, 6000), (8000, 6000)))
        b = kernels.pack(b)

        def compute(depth, matmul=kernels.matmul, a=a, b=b, out=out):
            if depth:
                list(map(compute, [depth - 1]))  # a level of C: enough of them, and the end of the stack is given back
            else:
                while True:
                    matmul(a, b, out=out)

        threading.Thread(target=compute, args=(60,), daemon=True).start()
        time.sleep(0.3)
        """), RTFAST_BACKEND=name, RTFAST_NUM_THREADS=str(n_threads))
    assert (done.returncode, done.stderr) == (0, "")
