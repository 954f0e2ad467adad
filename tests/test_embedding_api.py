"""The kernels for C and Cython: the table gives rtfast.kernels' bits and refuses what is wrong, the examples build."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time

import numpy as np
import pytest
from c_table import BAD_SIZE, BAD_VALUE, OVERLAP, Table, table_of
from cases import both_dtypes, normal
from subprocesses import TESTS, WATCHED, python

import rtfast
from rtfast import backends, kernels

EXAMPLES = os.path.join(os.path.dirname(TESTS), "examples")
COMPILED = [name for name in backends.available() if name != "python"]
HUGE = 2 ** 62


@pytest.fixture(params=COMPILED)
def table(request):
    """The table of each compiled backend in turn, which runs meanwhile."""
    with backends.using(request.param):
        yield table_of(kernels.C_API)


def same(out, expected):
    assert out.dtype == expected.dtype and out.tobytes() == expected.tobytes()


def test_the_table_and_its_capsule(table):
    assert table.version == 1 and table.size == ctypes.sizeof(Table)
    absent = pytest.raises(ImportError, match="C_API needs a compiled backend, but backend 'python' runs now")
    with backends.using("python"), absent:
        kernels.C_API  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute 'C_APE'"):
        kernels.C_APE  # noqa: B018


# ---------------------------------------------------------------------------------------------
# The bits of rtfast.kernels

@both_dtypes
@pytest.mark.parametrize("batch, m, k, n", [
    (1, 3, 5, 7), (1, 64, 300, 130), (4, 5, 257, 33), (1, 2, 600, 700), (3, 40, 600, 700), (2, 3, 0, 4), (1, 0, 2, 3),
    (2, 5, 6, 0)])
def test_matmul(table, dtype, batch, m, k, n):
    a, b, out = normal((batch, m, k), dtype), normal((batch, k, n), dtype, 1), np.empty((batch, m, n), dtype)
    assert table("matmul", dtype, a, b, batch, m, k, n, out) == 0
    same(out, kernels.matmul(a, b))


@both_dtypes
@pytest.mark.parametrize("rows, d_in, d_out", [(1, 512, 512), (3, 16, 8), (50, 300, 97), (200, 512, 700), (4, 0, 5)])
@pytest.mark.parametrize("activation", [None, "relu", "gelu", "gelu_tanh", "silu"])
def test_linear(table, dtype, rows, d_in, d_out, activation):
    x, weight, bias = normal((rows, d_in), dtype), normal((d_in, d_out), dtype, 1), normal(d_out, dtype, 2)
    code = [None, "relu", "gelu", "gelu_tanh", "silu"].index(activation)
    packed, out = table.pack(weight), np.empty((rows, d_out), dtype)
    for given in (bias, None):
        assert table("linear", dtype, x, packed, given, rows, d_in, d_out, code, out) == 0
        same(out, kernels.linear(x, weight, given, activation))
    table.free_weight(packed)


@both_dtypes
@pytest.mark.parametrize("rows, n", [(1, 1), (5, 33), (300, 512), (3, 5000), (0, 4), (4, 0)])
def test_rows(table, dtype, rows, n):
    x, y, out = normal((rows, n), dtype), normal((rows, n), dtype, 1), np.empty((rows, n), dtype)
    gamma, beta = normal(n, dtype, 2), normal(n, dtype, 3)
    assert table("softmax", dtype, x, rows, n, out) == 0
    same(out, kernels.softmax(x))
    for article in (False, True):
        assert table("layer_norm", dtype, x, gamma, None, rows, n, 1e-5, article, out) == 0
        same(out, kernels.layer_norm(x, gamma, article=article))
        assert table("add_layer_norm", dtype, x, y, gamma, beta, rows, n, 1e-6, article, out) == 0
        same(out, kernels.add_layer_norm(x, y, gamma, beta, 1e-6, article=article))
    expected = kernels.softmax(x)
    assert table("softmax", dtype, x, rows, n, x) == 0  # in place
    same(x, expected)


@both_dtypes
@pytest.mark.parametrize("heads, T, S, d_key, d_value", [
    (2, 3, 3, 4, 4), (8, 40, 70, 64, 64), (1, 130, 260, 33, 17), (3, 5, 0, 4, 4), (0, 1, 1, 1, 1), (2, 3, 4, 5, 0)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention(table, dtype, heads, T, S, d_key, d_value, causal, masked):
    q, k = normal((heads, T, d_key), dtype), normal((heads, S, d_key), dtype, 1)
    v = normal((heads, S, d_value), dtype, 2)
    mask = np.random.default_rng(0).random((heads, T, S)) < 0.7 if masked else None
    out = np.empty((heads, T, d_value), dtype)
    assert table("attention", dtype, q, k, v, mask, heads, T, S, d_key, d_value, causal, 0.3, out) == 0
    same(out, kernels.attention(q, k, v, mask, causal, 0.3))


@both_dtypes
def test_an_array_without_numbers_may_be_null(table, dtype):
    q, v, out = (normal((1, n, 8), dtype, seed=n) for n in (3, 5, 3))
    assert table("attention", dtype, q, None, None, None, 1, 3, 0, 8, 8, 0, 0.3, out) == 0
    assert not out.any()
    assert table("attention", dtype, None, None, v, None, 1, 3, 5, 0, 8, 0, 0.3, out) == 0
    assert np.allclose(out, v.mean(1, keepdims=True), atol=1e-6)


# ---------------------------------------------------------------------------------------------
# What is wrong gets a code

@both_dtypes
@pytest.mark.parametrize("size", [-1, -HUGE, HUGE, 2 ** 63 - 1])
def test_wrong_sizes(table, dtype, size):
    x, out = normal((64, 64), dtype), np.full((64, 64), 7, dtype)
    packed, handle = table.pack(x), ctypes.c_void_p(1)
    for place in range(4):
        sizes = [2, 2, 2, 2]
        sizes[place] = size
        assert table("matmul", dtype, x, x, *sizes, out) == BAD_SIZE
    for place in range(5):
        sizes = [2, 2, 2, 2, 2]
        sizes[place] = size
        assert table("attention", dtype, x, x, x, None, *sizes, 0, 1.0, out) == BAD_SIZE
    for sizes in ((size, 2), (2, size)):
        assert table("softmax", dtype, x, *sizes, out) == BAD_SIZE
        assert table("layer_norm", dtype, x, x, x, *sizes, 0.0, 0, out) == BAD_SIZE
        assert table("add_layer_norm", dtype, x, x, x, x, *sizes, 0.0, 0, out) == BAD_SIZE
        assert table("pack", dtype, x, *sizes, ctypes.byref(handle)) == BAD_SIZE and handle.value is None
    for sizes in ((size, 64, 64), (2, size, 64), (2, 64, size), (2, 64, 63), (2, 63, 64)):
        assert table("linear", dtype, x, packed, None, *sizes, 0, out) == BAD_SIZE
    # sizes whose product is 0 or wraps around
    assert table("attention", dtype, x, x, x, None, 1, 1, HUGE, 0, 1, 0, 1.0, out) == BAD_SIZE
    assert table("softmax", dtype, x, 2 ** 33, 2 ** 33, out) == BAD_SIZE
    assert (out == 7).all()
    table.free_weight(packed)


@both_dtypes
def test_wrong_values(table, dtype):
    x, out = normal((4, 4), dtype), np.full((4, 4), 7, dtype)
    other = np.float64 if dtype == np.float32 else np.float32
    packed, handle = table.pack(x), ctypes.c_void_p()
    assert table("softmax", dtype, None, 4, 4, out) == table("softmax", dtype, x, 4, 4, None) == BAD_VALUE
    assert table("matmul", dtype, x, None, 1, 4, 4, 4, out) == BAD_VALUE
    assert table("matmul", dtype, x, x, 1, 4, 4, 4, None) == BAD_VALUE
    assert table("add_layer_norm", dtype, x, None, None, None, 4, 4, 1e-5, 0, out) == BAD_VALUE
    assert table("attention", dtype, x, x, None, None, 1, 4, 4, 4, 4, 0, 1.0, out) == BAD_VALUE
    assert table("attention", dtype, x, x, x, None, 1, 4, 4, 4, 4, 0, 1.0, None) == BAD_VALUE
    for eps in (-1.0, np.nan, np.inf):
        assert table("layer_norm", dtype, x, None, None, 4, 4, eps, 0, out) == BAD_VALUE
    for activation in (-1, 5):
        assert table("linear", dtype, x, packed, None, 4, 4, 4, activation, out) == BAD_VALUE
    assert table("linear", dtype, x, None, None, 4, 4, 4, 0, out) == BAD_VALUE
    assert table("linear", other, x, packed, None, 4, 4, 4, 0, out) == BAD_VALUE
    assert table("pack", dtype, None, 4, 4, ctypes.byref(handle)) == BAD_VALUE
    assert table("pack", dtype, x, 4, 4, None) == BAD_VALUE
    assert (out == 7).all()
    table.free_weight(packed)
    table.free_weight(None)


@both_dtypes
def test_an_output_over_an_input(table, dtype):
    room, packed = normal(40, dtype), table.pack(normal((4, 4), dtype))
    x, y = room[:16], normal(16, dtype, 1)
    before = room.copy()
    for out in (room[1:17], room[15:31]):
        assert table("softmax", dtype, x, 4, 4, out) == OVERLAP
        assert table("layer_norm", dtype, x, None, None, 4, 4, 0.0, 0, out) == OVERLAP
    assert table("layer_norm", dtype, y, x, None, 4, 4, 0.0, 0, room[3:19]) == OVERLAP
    assert table("layer_norm", dtype, y, None, x, 4, 4, 0.0, 0, room[3:19]) == OVERLAP
    for out in (x, room[1:17], room[15:31]):
        assert table("add_layer_norm", dtype, y, x, None, None, 4, 4, 0.0, 0, out) == OVERLAP
        assert table("linear", dtype, x, packed, None, 4, 4, 4, 0, out) == OVERLAP
        assert table("matmul", dtype, x, y, 1, 4, 4, 4, out) == table("matmul", dtype, y, x, 1, 4, 4, 4, out) == OVERLAP
        for three in ((x, y, y), (y, x, y), (y, y, x)):
            assert table("attention", dtype, *three, None, 1, 4, 4, 4, 4, 0, 1.0, out) == OVERLAP
    same(room, before)
    assert table("softmax", dtype, x, 4, 4, room[16:32]) == 0  # side by side is fine
    table.free_weight(packed)


@pytest.mark.skipif(len(COMPILED) < 2, reason="one compiled backend only")
def test_a_weight_of_another_backend(table):
    x, out = normal((4, 4), np.float32), np.empty((4, 4), np.float32)
    packed = table.pack(x)
    for name in COMPILED:
        with backends.using(name):
            other = table_of(kernels.C_API)
        mine = ctypes.addressof(other) == ctypes.addressof(table)
        assert other("linear", np.float32, x, packed, None, 4, 4, 4, 0, out) == (0 if mine else BAD_VALUE)
    table.free_weight(packed)


def test_several_threads_at_once(table):
    """ctypes lets go of the GIL, so that these calls run side by side, on one packed weight."""
    x, weight = normal((70, 300), np.float32), normal((300, 400), np.float32, 1)
    expected, packed = kernels.linear(x, weight), table.pack(weight)
    outs = [np.empty_like(expected) for _ in range(4)]

    def work(out):
        for _ in range(20):
            out[...] = 0
            codes.append(table("linear", np.float32, x, packed, None, 70, 300, 400, 0, out))

    codes, before = [], rtfast.get_num_threads()
    rtfast.set_num_threads(2)
    try:
        threads = [threading.Thread(target=work, args=(out,)) for out in outs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        rtfast.set_num_threads(before)
    assert codes == [0] * 80
    for out in outs:
        same(out, expected)
    table.free_weight(packed)


class Interrupted(Exception):
    pass


@pytest.mark.skipif(not COMPILED or not hasattr(signal, "setitimer"), reason="no compiled backend, or no timers")
def test_a_call_leaves_signals_to_python():
    """rtfast.kernels ends early where a handler raises; a C program's call is computed to its end."""
    def interrupt(*_):
        raise Interrupted

    table, n = table_of(kernels.C_API), 2500
    x, out = np.ones((n, n)), np.zeros((n, n))
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(Interrupted):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            table("matmul", x.dtype, x, x, 1, n, n, n, out)
            time.sleep(1)  # where the call took less than that
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (out == n).all()


# ---------------------------------------------------------------------------------------------
# The example projects

def needs_compiler():
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if not COMPILED:
        pytest.skip("no compiled backend")
    if shutil.which(compiler) is None:
        pytest.skip(f"no C compiler ({compiler})")
    if not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
        pytest.skip("no Python.h")
    pytest.importorskip("setuptools")


def build(source, folder):
    """Build the project in `source` in `folder`, watched where rtfast's own build is; what its compiler printed."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    paths = [os.path.dirname(os.path.dirname(rtfast.__file__)), *[path for path in sys.path if path]]
    flags = "-g -fsanitize=address,undefined -fno-sanitize-recover=undefined" if WATCHED else ""
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"], cwd=folder, capture_output=True, text=True, timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "LDFLAGS": flags,
             "CFLAGS": f"-O1 -Wall -Wno-unused-function {flags}"}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run(folder, code, **environment):
    """Run `code` in a fresh interpreter that finds what was built in `folder`."""
    done = python(f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}", "-W", "error", **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_c_example(tmp_path):
    needs_compiler()
    assert "warning" not in build(os.path.join(EXAMPLES, "c_user"), tmp_path)
    assert run(tmp_path, """
import numpy as np, rows
from rtfast import kernels
for dtype in (np.float32, np.float64):
    x = np.random.default_rng(0).standard_normal((40, 100)).astype(dtype)
    out = np.empty_like(x)
    rows.softmax(x, out)
    assert out.tobytes() == kernels.softmax(x).tobytes()
    rows.layer_norm(x, 1e-5, out)
    assert out.tobytes() == kernels.layer_norm(x).tobytes()
room = np.zeros(60)
for call in (lambda: rows.softmax(x, out[:3]), lambda: rows.softmax(x, out.astype(np.float32)),
             lambda: rows.layer_norm(x, -1.0, out),
             lambda: rows.softmax(room[:40].reshape(4, 10), room[20:].reshape(4, 10))):
    try:
        call()
    except ValueError as error:
        print(error)
""").splitlines() == [
        "x and out must have one shape (rows, n) and one type, float or double"] * 2 + [
        "rows: an argument is NULL, unknown or out of range, or the weight is of another type",
        "rows: out overlaps an input"]
    assert "C_API needs a compiled backend" in run(tmp_path, """
import warnings
warnings.simplefilter("ignore")
try:
    import rows
except ImportError as error:
    print(error)
""", RTFAST_BACKEND="python")


def test_the_cython_example(tmp_path):
    needs_compiler()
    pytest.importorskip("Cython")
    build(os.path.join(EXAMPLES, "cython_user"), tmp_path)
    assert run(tmp_path, """
import threading, attend, numpy as np
from rtfast import kernels
for dtype in (np.float32, np.float64):
    x = np.random.default_rng(0).standard_normal((40, 100)).astype(dtype)
    assert attend.softmax(x).tobytes() == kernels.softmax(x).tobytes()
weights = np.random.default_rng(1).standard_normal((3, 64, 16)).astype(np.float32)
layer = attend.Layer(*weights)
sentences = np.random.default_rng(2).standard_normal((3, 20, 64)).astype(np.float32)
expected = [kernels.attention(*[kernels.linear(x, w)[None] for w in weights], causal=True)[0] for x in sentences]
results = [None] * 3
def work(i):
    results[i] = layer(sentences[i], 50)
threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert [r.tobytes() for r in results] == [e.tobytes() for e in expected]
try:
    layer(np.zeros((5, 63), np.float32))
except ValueError as error:
    print(error)
""") == "linear: weight must have shape (x.shape[1], d_out) = (63, 16), got (64, 16)\n"


PROBE = """
# cython: language_level=3, freethreading_compatible=True
from rtfast cimport kernels

def matmul(const kernels.real[:, ::1] a, const kernels.real[:, ::1] b, kernels.real[:, ::1] out):
    with nogil:
        kernels.matmul(a, b, out)

def linear(const kernels.real[:, ::1] x, const kernels.real[:, ::1] weight, const kernels.real[::1] bias,
           int activation, kernels.real[:, ::1] out):
    cdef kernels.Weight* packed = kernels.pack(weight)
    try:
        with nogil:
            kernels.linear(x, packed, bias, activation, out)
    finally:
        kernels.free(packed)

def free(size_t packed):
    with nogil:
        kernels.free(<kernels.Weight*> packed)

def softmax(const kernels.real[:, ::1] x, kernels.real[:, ::1] out):
    with nogil:
        kernels.softmax(x, out)

def layer_norm(const kernels.real[:, ::1] x, const kernels.real[::1] gamma, const kernels.real[::1] beta, double eps,
               bint article, kernels.real[:, ::1] out):
    with nogil:
        kernels.layer_norm(x, gamma, beta, eps, article, out)

def add_layer_norm(const kernels.real[:, ::1] x, const kernels.real[:, ::1] y, const kernels.real[::1] gamma,
                   const kernels.real[::1] beta, double eps, bint article, kernels.real[:, ::1] out):
    with nogil:
        kernels.add_layer_norm(x, y, gamma, beta, eps, article, out)

def attention(const kernels.real[:, :, ::1] q, const kernels.real[:, :, ::1] k, const kernels.real[:, :, ::1] v,
              const unsigned char[:, :, ::1] mask, bint causal, double scale, kernels.real[:, :, ::1] out):
    with nogil:
        kernels.attention(q, k, v, mask, causal, scale, out)
"""

PROBED = """
import numpy as np, probe
from rtfast import kernels
normal = np.random.default_rng(0).standard_normal
def same(call, expected, *arguments):
    out = np.empty_like(expected)
    call(*arguments, out)
    assert out.tobytes() == expected.tobytes(), call
for dtype in (np.float32, np.float64):
    a, b, y = normal((5, 40)).astype(dtype), normal((40, 70)).astype(dtype), normal((5, 40)).astype(dtype)
    g, h, c = normal(40).astype(dtype), normal(40).astype(dtype), normal(70).astype(dtype)
    q, k, v = (normal((3, n, 8)).astype(dtype) for n in (4, 6, 6))
    mask = normal((3, 4, 6)) > 0
    for array in (a, b, y, g, h, c, q, k, v):
        array.flags.writeable = False
    same(probe.matmul, kernels.matmul(a, b), a, b)
    same(probe.matmul, kernels.matmul(a[:0], b), a[:0], b)
    same(probe.linear, kernels.linear(a, b, c, "gelu"), a, b, c, 2)
    same(probe.linear, kernels.linear(a, b), a, b, None, 0)
    same(probe.softmax, kernels.softmax(a), a)
    same(probe.softmax, kernels.softmax(a[:, :0]), np.ascontiguousarray(a[:, :0]))
    same(probe.layer_norm, kernels.layer_norm(a, g), a, g, None, 1e-5, False)
    same(probe.add_layer_norm, kernels.add_layer_norm(a, y, g, h, 0.1, article=True), a, y, g, h, 0.1, True)
    same(probe.attention, kernels.attention(q, k, v, mask, True, 0.5), q, k, v, mask.view(np.uint8), True, 0.5)
    same(probe.attention, kernels.attention(q, k, v, scale=0.5), q, k, v, None, False, 0.5)
z = np.zeros
for call in (
    lambda: probe.matmul(z((2, 3)), z((4, 5)), z((2, 5))),
    lambda: probe.matmul(z((2, 3)), z((3, 5)), z((2, 4))),
    lambda: probe.linear(z((2, 3)), z((4, 5)), None, 0, z((2, 5))),
    lambda: probe.linear(z((2, 3)), z((3, 5)), z(4), 0, z((2, 5))),
    lambda: probe.linear(z((2, 3)), z((3, 5)), None, 9, z((2, 5))),
    lambda: probe.softmax(z((2, 3)), z((3, 2))),
    lambda: probe.layer_norm(z((2, 3)), z(2), None, 0.0, False, z((2, 3))),
    lambda: probe.layer_norm(z((2, 3)), None, None, -1.0, False, z((2, 3))),
    lambda: probe.add_layer_norm(z((2, 3)), z((2, 4)), None, None, 0.0, False, z((2, 3))),
    lambda: probe.attention(z((1, 2, 3)), z((1, 4, 5)), z((1, 4, 3)), None, False, 1.0, z((1, 2, 3))),
    lambda: probe.attention(z((1, 2, 3)), z((1, 4, 3)), z((1, 5, 3)), None, False, 1.0, z((1, 2, 3))),
    lambda: probe.attention(z((1, 2, 3)), z((1, 4, 3)), z((1, 4, 3)), z((1, 2, 3), np.uint8), False, 1.0, z((1, 2, 3))),
):
    try:
        call()
        print("nothing")
    except ValueError as error:
        print(error)
"""

REFUSED = [
    "matmul: b must have shape (a.shape[1], n) = (3, 5), got (4, 5)",
    "matmul: out must have shape (m, n) = (2, 5), got (2, 4)",
    "linear: weight must have shape (x.shape[1], d_out) = (3, 5), got (4, 5)",
    "linear: bias must have shape (d_out,) = (5,), got (4,)",
    "linear: an argument is NULL, unknown or out of range, or the weight is of another type",
    "softmax: out must have shape x.shape = (2, 3), got (3, 2)",
    "layer_norm: gamma must have shape (x.shape[1],) = (3,), got (2,)",
    "layer_norm: an argument is NULL, unknown or out of range, or the weight is of another type",
    "add_layer_norm: y must have shape x.shape = (2, 3), got (2, 4)",
    "attention: k must have shape (heads, S, d_key) = (1, 4, 3), got (1, 4, 5)",
    "attention: v must have shape (heads, S, d_value) = (1, 4, 3), got (1, 5, 3)",
    "attention: mask must have shape (heads, T, S) = (1, 2, 4), got (1, 2, 3)",
]


def test_every_function_of_the_pxd(tmp_path):
    needs_compiler()
    pytest.importorskip("Cython")
    source = tmp_path / "source"
    source.mkdir()
    (source / "probe.pyx").write_text(PROBE)
    with open(os.path.join(EXAMPLES, "cython_user", "setup.py"), encoding="utf-8") as file:
        (source / "setup.py").write_text(file.read().replace("attend", "probe"))
    build(source, tmp_path)
    assert run(tmp_path, PROBED).splitlines() == REFUSED
    # A module may free what another has packed, before it calls anything else.
    assert run(tmp_path, """
import numpy as np, probe
from c_table import table_of
from rtfast import kernels
probe.free(table_of(kernels.C_API).pack(np.ones((2, 3), np.float32)).value)
probe.free(0)
print("freed")
""") == "freed\n"
    assert "C_API needs a compiled backend" in run(tmp_path, """
import numpy as np, probe, warnings
warnings.simplefilter("ignore")
import rtfast
try:
    probe.softmax(np.zeros((2, 3)), np.zeros((2, 3)))
except ImportError as error:
    print(error)
""", RTFAST_BACKEND="python")


def test_the_header_is_for_cplusplus_too(tmp_path):
    needs_compiler()
    compiler = shutil.which("c++") or pytest.skip("no C++ compiler")
    (tmp_path / "user.cpp").write_text("#include <rtfast.h>\nint there() { return rtfast_import(); }\n")
    done = subprocess.run(
        [compiler, "-std=c++11", "-Wall", "-Wextra", "-Werror", "-c", "user.cpp", "-I", rtfast.get_include(),
         "-isystem", sysconfig.get_paths()["include"], "-o", "user.o"],
        cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
