"""The table of rtfast/include/rtfast.h seen through ctypes: C calls without a compiler, and without the GIL."""

import ctypes
from ctypes import CFUNCTYPE, POINTER, c_double, c_int, c_size_t, c_ssize_t, c_void_p

import numpy as np

NO_MEMORY, BAD_SIZE, OVERLAP, BAD_VALUE = -1, -2, -3, -4

_ARRAY, _SIZE = c_void_p, c_ssize_t
_FUNCTIONS = {
    "matmul": [_ARRAY] * 2 + [_SIZE] * 4 + [_ARRAY],
    "pack": [_ARRAY] + [_SIZE] * 2 + [POINTER(c_void_p)],
    "free_weight": [c_void_p],
    "linear": [_ARRAY, c_void_p, _ARRAY] + [_SIZE] * 3 + [c_int, _ARRAY],
    "softmax": [_ARRAY] + [_SIZE] * 2 + [_ARRAY],
    "layer_norm": [_ARRAY] * 3 + [_SIZE] * 2 + [c_double, c_int, _ARRAY],
    "add_layer_norm": [_ARRAY] * 4 + [_SIZE] * 2 + [c_double, c_int, _ARRAY],
    "attention": [_ARRAY] * 4 + [_SIZE] * 5 + [c_int, c_double, _ARRAY],
}


def _fields():
    fields = [("version", c_int), ("size", c_size_t)]
    for name, arguments in _FUNCTIONS.items():
        if name == "free_weight":
            fields.append((name, CFUNCTYPE(None, *arguments)))
        else:
            fields += [(name + kind, CFUNCTYPE(c_int, *arguments)) for kind in ("_f", "_d")]
    return fields


class Table(ctypes.Structure):
    """rtfast_kernels."""

    _fields_ = _fields()

    def __call__(self, name, dtype, *arguments):
        """The code of a call; arrays go as their addresses, None as NULL."""
        function = getattr(self, name + ("_f" if dtype == np.float32 else "_d"))
        return function(*(a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments))

    def pack(self, weight):
        """An rtfast_weight of an array (d_in, d_out), to be freed."""
        packed = c_void_p()
        assert self("pack", weight.dtype, weight, *weight.shape, ctypes.byref(packed)) == 0
        return packed


def table_of(capsule):
    """The table in the capsule rtfast.kernels.C_API."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return Table.from_address(pointer(capsule, b"rtfast.kernels.C_API"))
