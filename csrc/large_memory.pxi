"""Memory in huge pages (pages.h), piece by piece: for the packed weights of a model, or what a workspace needs."""

cdef extern from "pages.h" nogil:
    enum: HUGE_PAGE
    void* map_pages(size_t bytes)
    void unmap_pages(void* start, size_t bytes)
    void* take_large_memory(size_t bytes)

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX

cdef enum:
    SMALL_WEIGHT = 256 << 10         # bytes: smaller ones are left to malloc
    MOST_MAPPED = 64 << 20           # bytes to map ahead: what is not used of them is never touched


@cython.no_gc  # which would clear `mapped` before __dealloc__ reads it; nothing here can be part of a cycle
cdef class LargeMemory:
    """Memory for things that live and die together: it goes when the last of them has gone. Not for two threads."""

    cdef list mapped                 # (start, bytes)
    cdef char* start                 # of what is left of the last
    cdef size_t left, total

    def __cinit__(self):
        self.mapped = []

    def __dealloc__(self):
        for start, size in self.mapped:
            unmap_pages(<void*> <size_t> start, size)

    cdef void* take(self, size_t bytes) except NULL:
        """Memory of zeros that starts on a cache line; none is taken before it is touched."""
        cdef size_t wanted = (bytes + 63) // 64 * 64, size
        cdef void* block
        if bytes > <size_t> PY_SSIZE_T_MAX - 2 * HUGE_PAGE:
            raise MemoryError(f"no room for {bytes} bytes")
        if wanted > self.left:
            size = max(wanted, min(self.total, <size_t> MOST_MAPPED))
            size = (size + HUGE_PAGE - 1) // HUGE_PAGE * HUGE_PAGE
            block = map_pages(size)
            if block == NULL:
                raise MemoryError(f"no room for {bytes} bytes")
            self.mapped.append((<size_t> block, size))
            self.start, self.left = <char*> block, size
            self.total += size
        block = self.start
        self.start += wanted
        self.left -= wanted
        return block


def large_memory():
    """A place for packed weights to lie side by side: `memory` of `pack` and `packed_empty`."""
    return LargeMemory()
