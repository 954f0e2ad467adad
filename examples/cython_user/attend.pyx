# cython: language_level=3, freethreading_compatible=True
"""An extension of your own on rtfast's kernels: they are called as C functions, without the GIL."""

from libc.math cimport sqrt

from rtfast cimport kernels

import numpy


def softmax(kernels.real[:, ::1] x):
    """Each row's exp(x) / sum(exp(x)): x (rows, n), floats or doubles -> an array of the same shape."""
    result = numpy.empty_like(x)
    cdef kernels.real[:, ::1] out = result
    with nogil:
        kernels.softmax(x, out)
    return result


cdef class Layer:
    """softmax(q k^T / sqrt(d)) v, where q, k and v are one packed projection each of what is given."""

    cdef kernels.Weight* query
    cdef kernels.Weight* key
    cdef kernels.Weight* value

    def __cinit__(self, const float[:, ::1] query, const float[:, ::1] key, const float[:, ::1] value):
        """The weights, (d_model, d) each."""
        self.query, self.key, self.value = kernels.pack(query), kernels.pack(key), kernels.pack(value)

    def __dealloc__(self):
        kernels.free(self.query)
        kernels.free(self.key)
        kernels.free(self.value)

    cdef int attend(self, const float[:, ::1] x, float[:, :, ::1] room, const float[::1] bias,
                    const unsigned char[:, :, ::1] mask, float[:, :, ::1] out) except -1 nogil:
        """out (1, T, d) from one sentence x (T, d_model); room (3, T, d) for q, k and v."""
        kernels.linear(x, self.query, bias, kernels.IDENTITY, room[0])
        kernels.linear(x, self.key, bias, kernels.IDENTITY, room[1])
        kernels.linear(x, self.value, bias, kernels.IDENTITY, room[2])
        return kernels.attention(room[:1], room[1:2], room[2:], mask, True, 1 / sqrt(room.shape[2]), out)

    def __call__(self, const float[:, ::1] x, int times=1):
        """(T, d) for one sentence x (T, d_model); computed `times` times over, all of it without the GIL."""
        cdef Py_ssize_t T = x.shape[0], d = self.query.d_out
        result = numpy.empty((1, T, d), numpy.float32)
        cdef float[:, :, ::1] out = result
        cdef float[:, :, ::1] room = numpy.empty((3, T, d), numpy.float32)
        cdef const float[::1] no_bias = None
        cdef const unsigned char[:, :, ::1] no_mask = None
        cdef int i
        with nogil:
            for i in range(times):
                self.attend(x, room, no_bias, no_mask, out)
        return result[0]
