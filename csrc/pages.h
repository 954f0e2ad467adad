/* Memory in huge pages, for weights, which every step reads from end to end, and for keys, values and whatever else is
 * large. With pages of 4 KB the processor walks a page table every 64 lines, and fetching ahead waits for that. */
#ifndef RTFAST_PAGES_H
#define RTFAST_PAGES_H

#include "platform.h"

enum { HUGE_PAGE = 2 << 20 };

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)  /* which watches malloc's blocks */
#include <sys/mman.h>

/* `bytes` of zeroed memory, a multiple of HUGE_PAGE, that starts with a huge page; NULL where there is none. What is never
 * touched of it takes no memory. */
static inline void *map_pages(size_t bytes) {
    char *map, *start;
    if (bytes > (size_t)PTRDIFF_MAX - HUGE_PAGE) return NULL;
    map = (char *)mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == (char *)MAP_FAILED) return NULL;
    start = (char *)(((uintptr_t)map + HUGE_PAGE - 1) & ~((uintptr_t)HUGE_PAGE - 1));
    if (start > map) munmap(map, (size_t)(start - map));
    munmap(start + bytes, (size_t)(map + HUGE_PAGE - start));
    madvise(start, bytes, MADV_HUGEPAGE);
    return start;
}
static inline void unmap_pages(void *start, size_t bytes) {
    munmap(start, bytes);
}

/* As take_memory(), not zeroed, for what is used from end to end: in huge pages where it is some of them long. */
static inline void *take_large_memory(size_t bytes) {
    char *memory = (char *)take_memory(bytes, 0);
    if (memory && bytes >= 2 * (size_t)HUGE_PAGE) {
        char *start = (char *)(((uintptr_t)memory + HUGE_PAGE - 1) & ~((uintptr_t)HUGE_PAGE - 1));
        char *end = (char *)(((uintptr_t)memory + bytes) & ~((uintptr_t)HUGE_PAGE - 1));
        madvise(start, (size_t)(end - start), MADV_HUGEPAGE);
    }
    return memory;
}
#else
static inline void *map_pages(size_t bytes) { return take_memory(bytes, 1); }
static inline void unmap_pages(void *start, size_t bytes) {
    (void)bytes;
    release_memory(start);
}
static inline void *take_large_memory(size_t bytes) { return take_memory(bytes, 0); }
#endif
#endif
