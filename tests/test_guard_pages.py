"""No kernel touches a byte outside its operands: each lies against an unreadable page, by turns at both ends."""

import os
import signal
import sys

import numpy as np
import pytest
from guard_pages import SIDES, guarded
from guarded_cases import GROUPS
from subprocesses import python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mprotect is called as Linux has it")

ENDED = (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT)  # AddressSanitizer aborts


def run(code, **environment):
    """How a process ended, the last line that it printed, and what it said of errors."""
    quiet = ("-W", "error", "-W", "ignore:rtfast runs on its pure-Python fallback:RuntimeWarning")
    done = python(code, *quiet, **environment)
    return done.returncode, (done.stdout.splitlines() or [""])[-1], done.stderr


@pytest.mark.parametrize("group", GROUPS)
def test_every_operand_against_an_unreadable_page(backend, group):
    status, last, errors = run(f"import guarded_cases; guarded_cases.main({backend!r}, {group!r})")
    assert status == 0 and last == "all", f"ended with {status} in: {last}\n{errors[-2000:]}"


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("way", ["read", "write"])
def test_a_byte_too_far_is_noticed(side, way):
    """The guard itself: an index one too far ends the process, the last one allowed does not."""
    code = f"""
import numpy as np
from guard_pages import guarded
array = guarded(np.arange(5, dtype=np.float32), {side!r})
beside = np.lib.stride_tricks.as_strided(array, (7,), writeable=True)[5:] if {side!r} == "back" else (
    np.lib.stride_tricks.as_strided(array[::-1], (7,), writeable=True)[5:])
assert array.sum() == 10
array[:] = 1
print("so far", flush=True)
{"beside[0] + 1" if way == "read" else "beside[0] = 1"}
print("too far")
"""
    status, last, errors = run(code)
    assert status in ENDED and last == "so far", errors


def test_an_input_that_is_written_is_noticed():
    code = """
import numpy as np
from guard_pages import guarded
array = guarded(np.ones(5), "back", writeable=False)
assert array.sum() == 5
print("so far", flush=True)
array[0] = 2
"""
    status, last, errors = run(code)
    assert status in ENDED and last == "so far", errors


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025])
def test_guarded_arrays_are_of_the_plain_kind(side, size):
    values = np.arange(size, dtype=np.float32)
    array = guarded(values, side)
    assert type(array) is np.ndarray and array.flags.c_contiguous and array.flags.aligned and array.flags.writeable
    assert np.array_equal(array, values)


def test_a_kernel_that_reads_too_far_fails_by_name():
    """The cases name what touched the page: here a backend function that sums one number more than there is."""
    code = """
import numpy as np
import guarded_cases
def rows(dtype):
    def too_far(x, out):
        out[0] = np.lib.stride_tricks.as_strided(x, (x.size + 1,)).sum()
    yield guarded_cases.Call("good", lambda x, out: np.copyto(out, x), [np.ones(3, dtype)], [np.ones(3, dtype)])
    yield guarded_cases.Call("one too many", too_far, [np.ones(1024, dtype)], [np.ones(1, dtype)])
guarded_cases.GROUPS["rows"] = rows
guarded_cases.main("python", "rows")
"""
    status, last, errors = run(code, ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ":handle_segv=0")
    assert status in ENDED and last == "one too many, float32, back", (status, last, errors)
