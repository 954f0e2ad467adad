"""Arrays against a page that nobody may touch: one byte too far, read or written, ends the process (Linux)."""

import ctypes
import mmap

import numpy as np

PAGE = mmap.PAGESIZE
SIDES = ("back", "front")
_NOTHING, _READ_ONLY = 0, mmap.PROT_READ


def _protect(start, size, protection):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(size), protection) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


def guarded(array, side, writeable=True):
    """A C-contiguous copy whose last byte lies right before such a page ("back"), or its first one right after one.

    writeable: else writing the array itself ends the process too; its flag says nothing of that, so that the array
    takes the way of any other.
    """
    room = -(-max(array.nbytes, 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, room + 2 * PAGE)
    offset = PAGE + (room - array.nbytes if side == "back" else 0)
    copy = np.ndarray(array.shape, array.dtype, buffer=memory, offset=offset)
    copy[...] = array
    start = copy.ctypes.data - offset
    _protect(start, PAGE, _NOTHING)
    _protect(start + PAGE + room, PAGE, _NOTHING)
    if not writeable:
        _protect(start + PAGE, room, _READ_ONLY)
    return copy
