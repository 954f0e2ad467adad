# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: binding=True, embedsignature=True, freethreading_compatible=True
"""rtfast's compiled core: kernels and executor, built once per instruction set from these sources.

simd.pxi        vectors of the machine         team.pxi         threads and lists of tasks
elementary.pxi  exp, erf, tanh                 ops.pxi          what each operation works on
activations.pxi ReLU, GELU, SiLU (3.3)         rows.pxi         sums along a row
tile.pxi        a few rows times a panel       pack.pxi         right operands into panels
matmul.pxi      products (3.2, 3.3)            upcoming.pxi     what they fetch a block of rows ahead
plain.pxi       of two plain matrices          softmax.pxi      3.2.1
cache.pxi       keys and values                scores.pxi       q k^T
attention.pxi   3.2                            arrays.pxi       the kernels on NumPy arrays
layer_norm.pxi  add & norm (3.1)               embedding.pxi    the way in (3.4, 3.5)
top.pxi         the likeliest words (3.4)      screen.pxi       the same without all logits
direct.pxi      the same without a detour      executor.pxi     programs of ops
capi.pxi        the kernels for C and Cython   large_memory.pxi memory in huge pages
roofline.pxi    what the core can do at best
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer)
from libc.math cimport INFINITY, fabsf, log, sqrt, sqrtf
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept  # nonzero: the exception is set, and is ours to raise
    void PyErr_SetString(object kind, const char* message) noexcept
    unsigned long PyThread_get_thread_ident() noexcept

from threading import main_thread

include "simd.pxi"
include "elementary.pxi"
include "ops.pxi"
include "team.pxi"
include "rows.pxi"
include "activations.pxi"
include "tile.pxi"
include "pack.pxi"
include "upcoming.pxi"
include "matmul.pxi"
include "plain.pxi"
include "softmax.pxi"
include "layer_norm.pxi"
include "embedding.pxi"
include "top.pxi"
include "large_memory.pxi"
include "cache.pxi"
include "scores.pxi"
include "attention.pxi"
include "arrays.pxi"
include "screen.pxi"
include "direct.pxi"
include "capi.pxi"
include "executor.pxi"
include "roofline.pxi"

if call_after_fork_in_child(forget_threads_after_fork) != 0:
    raise MemoryError("no room for a fork handler")
