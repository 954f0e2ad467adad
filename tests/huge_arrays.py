"""Arrays of more than 2^31 numbers in little memory: a block that is there again and again, and a tail of its own."""

import ctypes
import mmap
import os

import numpy as np

_NO_RESERVE, _FIXED = 0x4000, 0x10


def repeated(block, count, tail):
    """(count * len(block) + len(tail), ...): every `block` is the same memory, the tail's is its own (Linux).

    What a kernel writes for one block it writes for all, so that blocks must be computed alike. A block takes whole
    pages. An index that wraps around ends in front of the array, or leaves the tail as it was.
    """
    assert block.nbytes % mmap.PAGESIZE == 0
    room = block.nbytes * count
    memory = mmap.mmap(-1, room + max(tail.nbytes, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE)
    shape = (count * len(block) + len(tail), *block.shape[1:])
    array = np.ndarray(shape, block.dtype, buffer=memory)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    file = os.memfd_create("block")
    try:
        os.ftruncate(file, block.nbytes)
        for start in range(array.ctypes.data, array.ctypes.data + room, block.nbytes):
            wanted = mmap.PROT_READ | mmap.PROT_WRITE
            if libc.mmap(start, block.nbytes, wanted, mmap.MAP_SHARED | _FIXED, file, 0) != start:
                raise OSError(ctypes.get_errno(), "mmap")
    finally:
        os.close(file)
    array[:len(block)] = block
    array[len(array) - len(tail):] = tail
    return array
