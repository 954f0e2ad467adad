"""Memory: a compiled decode step allocates nothing, nothing leaks, workspaces are used again."""

import ctypes
import gc
import os
import shutil
import subprocess
import tracemalloc
import weakref

import pytest
from models import ragged_ids, random_ids, random_values, ready_to_decode, small_config
from subprocesses import WATCHED, printed, python

import rtfast
from rtfast import backends, idle_workspaces
from rtfast.model import DECODER_WITH_CHOICE
from rtfast.workspace import Workspace

COMPILED = [name for name in backends.available() if name != "python"]
compiled = pytest.mark.parametrize("name", COMPILED)

#: Counts what all threads of the process ask the C library for, while `counting` is set.
COUNTER = r"""
#include <errno.h>
#include <stddef.h>
void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
int counting;
long counted;
static void note(void) { if (counting) __atomic_add_fetch(&counted, 1, __ATOMIC_SEQ_CST); }
void *malloc(size_t n) { note(); return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { note(); return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { note(); return __libc_realloc(p, n); }
void *memalign(size_t a, size_t n) { note(); return __libc_memalign(a, n); }
void *aligned_alloc(size_t a, size_t n) { note(); return __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n) {
    note();
    return (*p = __libc_memalign(a, n)) ? 0 : ENOMEM;
}
"""


plain_malloc = pytest.mark.skipif(WATCHED, reason="AddressSanitizer keeps what is freed for a while")


@pytest.fixture(scope="session")
def counter(tmp_path_factory):
    """Path of a library that counts allocations when it is loaded before all others."""
    if WATCHED:
        pytest.skip("AddressSanitizer has a malloc of its own")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or os.name != "posix" or not hasattr(ctypes.CDLL(None), "__libc_memalign"):
        pytest.skip("counting allocations needs a C compiler and glibc")
    folder = tmp_path_factory.mktemp("counter")
    (folder / "counter.c").write_text(COUNTER)
    library = folder / "counter.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-fno-builtin", "-o", library, folder / "counter.c"],
                   check=True)
    return str(library)


#: Prints the allocations of steps of 8 sentences, 1 to 320 words long, and those after one that is known.
STEPS = """if True:
    import ctypes
    import models, rtfast
    from rtfast.model import DECODER_WITH_CHOICE
    config = models.{kind}_config(max_length=320, dtype={dtype!r})
    model = rtfast.Transformer(config, models.random_values(config))
    library = ctypes.CDLL({library!r})
    counting, counted = (ctypes.c_int.in_dll(library, "counting"), ctypes.c_long.in_dll(library, "counted"))
    workspace = models.ready_to_decode(model, models.ragged_ids(config, [40] * 8), 320)
    run = workspace._executor.run
    for position in range(320):
        workspace.step(DECODER_WITH_CHOICE, [3] * 8)
        if position >= 20:  # the team has started by then
            counting.value = 1
            run(DECODER_WITH_CHOICE, 8, 0, 8, 8, 1, position + 1, 40)
            counting.value = 0
    print(counted.value)
    malloc = ctypes.CDLL(None).malloc  # free-threaded Python takes its own memory elsewhere
    counting.value = 1
    malloc(ctypes.c_size_t(100000))
    counting.value = 0
    print(counted.value)"""


@compiled
@pytest.mark.parametrize("kind, dtype", [("small", "float32"), ("large", "float32"), ("large", "float64")])
def test_a_decode_step_allocates_nothing(counter, name, kind, dtype):
    code = STEPS.format(kind=kind, dtype=dtype, library=counter)
    words = printed(code, LD_PRELOAD=counter, RTFAST_BACKEND=name, RTFAST_NUM_THREADS="2")
    during, after = map(int, words)
    assert during == 0
    assert after > 0  # the counter does count


#: The same of beams, four of each of 8 sentences, which go on in random order; and of screened steps.
BEAM_STEPS = """if True:
    import ctypes
    import numpy as np
    import models, rtfast
    from rtfast import model as model_module
    from rtfast.model import DECODER_WITH_CHOICE, ENCODER_WITH_MEMORY, SCREENED_DECODER
    from rtfast.workspace import Capacity, Workspace
    model_module.WORTH_SCREENING = 1
    config = models.large_config(max_length=200)
    model = rtfast.Transformer(config, models.random_values(config))
    which = SCREENED_DECODER if {screened} and len(model._programs) > SCREENED_DECODER else DECODER_WITH_CHOICE
    library = ctypes.CDLL({library!r})
    counting, counted = (ctypes.c_int.in_dll(library, "counting"), ctypes.c_long.in_dll(library, "counted"))
    sources, random = models.ragged_ids(config, [40] * 8), np.random.default_rng(0)
    workspace = Workspace(model._backend, model._programs, model._packed, Capacity(8, 320, 40, 32, 200, 4))
    workspace.encode(ENCODER_WITH_MEMORY, sources)
    workspace.begin_steps(range(8), beams=4)
    workspace.index["top_options"][:] = 8, not {screened}
    run = workspace._executor.run
    for position in range(200):
        if position:
            workspace.reorder([s * (4 if position > 1 else 1) + int(random.integers(4 if position > 1 else 1))
                               for s in range(8) for _ in range(4)], 4)
        workspace.step(which, [3] * (32 if position else 8))
        if position >= 20:
            counting.value = 1
            run(which, 32, 0, 32, 32, 1, position + 1, 40)
            counting.value = 0
    print(counted.value)"""


@compiled
@pytest.mark.parametrize("screened", [False, True])
def test_a_step_of_beams_allocates_nothing(counter, name, screened):
    code = BEAM_STEPS.format(screened=screened, library=counter)
    assert printed(code, LD_PRELOAD=counter, RTFAST_BACKEND=name, RTFAST_NUM_THREADS="2") == ["0"]


@compiled
def test_python_allocates_nothing_that_stays(name):
    """200 steps with all that Python does around them."""
    config = small_config(max_length=300)
    with backends.using(name):
        model = rtfast.Transformer(config, random_values(config))
    workspace = ready_to_decode(model, ragged_ids(config, [40] * 8), 300)

    def step():
        workspace.step(DECODER_WITH_CHOICE, [3] * 8)
        workspace.top(DECODER_WITH_CHOICE, 8, 1)

    for _ in range(50):
        step()
    gc.collect()
    tracemalloc.start()
    try:
        step()
        gc.collect()  # what it takes itself may stay, in free-threaded Python
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            step()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 2000, f"{grown} bytes more after 200 steps"


#: Prints by how many KB the process grew while `work` ran `count` times, after as many for warming up.
GROWTH = """if True:
    import gc, os
    import numpy as np
    import models, rtfast
    rtfast.set_num_threads(1)
    config = models.{kind}_config(pad_id=0)
    weights = models.random_values(config)
    model = rtfast.Transformer(config, weights)
    random = np.random.default_rng(0)
    def ids(longest=30):
        return models.random_ids(config, random.integers(1, longest), random.integers(1 << 30))
    {work}
    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    for _ in range({count}):
        work()
    before = resident()
    for _ in range({count}):
        work()
    print(resident() - before)"""

WORK = {
    "generate": ("large", 100, "def work(): model.generate(ids(), 5)"),
    "every length": ("large", 100, "def work(): model.encode(ids(100)), model.logits(ids(100), ids(100))"),
    "batches": ("large", 30, "def work(): model.generate([ids() for _ in range(random.integers(1, 9))], 5)"),
    "traces": ("large", 30, "def work(): model.trace(ids(), ids())"),
    "models": ("large", 15, "def work(): rtfast.Transformer(config, weights).generate(ids(), 2)"),
    "errors": ("small", 1000, """
    def work():
        for bad in ([99], [], [0], [3.5], [3] * 41, [[3], [99]]):
            try: model.encode(bad)
            except (TypeError, ValueError): pass
            try: model.logits([3], bad)
            except (TypeError, ValueError): pass"""),
}


@plain_malloc
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc/self/statm")
@compiled
@pytest.mark.parametrize("kind, count, work", WORK.values(), ids=WORK.keys())
def test_memory_does_not_grow(name, kind, count, work):
    """A model of large_config takes 3 MB, a workspace of it for 30 words 1 MB."""
    grown = int(printed(GROWTH.format(kind=kind, count=count, work=work), RTFAST_BACKEND=name,
                        MALLOC_ARENA_MAX="1")[0])
    assert grown < 2000, f"{grown} KB more after {count} times"


#: Prints by how many KB the process grew for 64 sentences whose translations end with the first word.
SHORT = """if True:
    import os
    import models, rtfast
    config = rtfast.Config(vocab_size=50, d_model=256, d_ff=256, n_encoder_layers=2, n_decoder_layers=2,
                           max_length=512, sos_id=1, eos_id=2)
    weights = models.random_values(config)
    weights["output.bias"][2] = 1e6
    model = rtfast.Transformer(config, weights)
    model.generate([3], 1)
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    before = resident()
    for length in (3, 4, 5, 6):
        assert model.generate(models.ragged_ids(config, [length] * 64)) == [[2]] * 64
    print(resident() - before)"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc/self/statm")
@compiled
def test_short_sentences_take_little_memory(name):
    """Caches for 64 targets of 512 words would take 200 MB; only what is used of them should."""
    grown = int(printed(SHORT, RTFAST_BACKEND=name)[0])
    assert grown < 100_000, f"{grown} KB for 64 translations of one word"


@pytest.fixture
def made(monkeypatch):
    """A list that grows by one, a weak reference, for each workspace that a model makes."""
    workspaces = []

    class Counted(Workspace):
        def __init__(self, *arguments, **options):
            workspaces.append(weakref.ref(self))
            super().__init__(*arguments, **options)

    monkeypatch.setattr(idle_workspaces, "Workspace", Counted)
    return workspaces


def test_a_workspace_is_used_again(backend, made):
    config = small_config()
    model = rtfast.Transformer(config, random_values(config))
    for length in (30, 1, 20, 29):
        source, target = random_ids(config, length), random_ids(config, 5)
        model.generate(source, 20)
        model.generate(source, 3)
        model.encode(source)
        assert len(made) == 1
    for length in (30, 1, 20, 29):
        model.logits(random_ids(config, length), target)  # several words at a time
    assert len(made) == 1
    model.encode(random_ids(config, 33))  # capacities are multiples of 32
    assert len(made) == 2


def test_few_idle_workspaces_are_kept(backend, made):
    """However many shapes of batches come along, none of which serves another."""
    config = small_config(max_length=1024)
    model = rtfast.Transformer(config, random_values(config))
    for i in range(7):
        model.encode([random_ids(config, 2 ** (10 - i)) for _ in range(2 ** i)])
    gc.collect()
    assert len(made) == 7
    assert sum(one() is not None for one in made) == 4
    del model
    gc.collect()
    assert all(one() is None for one in made)


def test_a_larger_workspace_takes_the_place_of_smaller_ones(backend, made):
    config = small_config(max_length=1024)
    model = rtfast.Transformer(config, random_values(config))
    for length in (1, 100, 1000):
        model.encode(random_ids(config, length))
    gc.collect()
    assert [one() is not None for one in made] == [False, False, True]


def test_a_workspace_that_failed_is_not_used_again(backend, made, monkeypatch):
    """Nothing half done is left in one that is."""
    config = small_config()
    model = rtfast.Transformer(config, random_values(config))
    expected = model.generate([3, 4, 5], 5)
    with monkeypatch.context() as broken:
        broken.setattr(Workspace, "choose", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.generate([3, 4, 5], 5)
    assert model.generate([3, 4, 5], 5) == expected
    assert len(made) == 2


@compiled
def test_what_goes_with_a_cycle(name):
    done = python("""if True:
        import gc
        import numpy as np
        import models, rtfast
        from rtfast import backends
        backend = backends.active()
        for n in (8, 300):  # the large ones lie side by side
            memory = backend.large_memory()
            weight = backend.pack(np.ones((n, n), np.float32), False, memory)
            cycle = [weight, memory]
            cycle.append(cycle)
            del memory, weight, cycle
            print(gc.collect() > 0)
        config = models.large_config(d_ff=4096)  # for large buffers
        model = rtfast.Transformer(config, models.random_values(config))
        workspace = models.ready_to_decode(model, models.ragged_ids(config, [40] * 8), 40)
        cycle = [workspace._executor]
        cycle.append(cycle)
        del workspace, model, cycle
        print(gc.collect() > 0)""", RTFAST_BACKEND=name)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["True"] * 3, "")
