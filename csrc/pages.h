/* Memory for packed weights, which every step reads from end to end: side by side in regions of huge pages. With pages
 * of 4 KB the processor walks a page table every 32 lines, and fetching ahead waits for that. */
#ifndef RTFAST_PAGES_H
#define RTFAST_PAGES_H

#include "platform.h"

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)  /* which watches malloc's blocks */
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define REGION ((size_t)64 << 20)  /* only what is touched of it becomes memory */
#define SMALL_BLOCK ((size_t)256 << 10)  /* left to malloc */

/* At the start of its memory; it ends with its last block. The region that is being filled counts as a block. */
typedef struct {
    size_t size, used, blocks;
} region;

static region *filling = NULL;
static int64_t regions_busy = 0;

static inline void lock_regions(void) {
    while (atomic_swap(&regions_busy, 1)) pause_briefly();
}
static inline void unlock_regions(void) { atomic_set(&regions_busy, 0); }

/* In the child, where no other thread is left to unlock them. */
static inline void unlock_regions_after_fork(void) { unlock_regions(); }

static inline size_t whole(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

/* A new region of `size` bytes, whole huge pages of them; NULL where there is no memory. */
static region *new_region(size_t size) {
    char *map = (char *)mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *start;
    region *made;
    if (map == (char *)MAP_FAILED) return NULL;
    start = (char *)whole((uintptr_t)map, HUGE_PAGE);
    if (start > map) munmap(map, (size_t)(start - map));
    munmap(start + size, (size_t)(map + HUGE_PAGE - start));
    madvise(start, size, MADV_HUGEPAGE);
    made = (region *)start;
    made->size = size;
    made->used = 64;
    made->blocks = 0;
    return made;
}

static inline void leave_region(region *which) {
    if (--which->blocks == 0 || (which == filling && which->blocks == 1)) {
        if (which == filling) filling = NULL;
        munmap(which, which->size);
    }
}

/* A cache line before each block says which region it is in, if in any. */
static void *take_pages(size_t bytes) {
    const size_t wanted = whole(bytes, 64) + 64;
    region *in, *before;
    char *block = NULL;
    if (bytes > (size_t)PTRDIFF_MAX - 2 * HUGE_PAGE) return NULL;
    if (bytes < SMALL_BLOCK) {
        block = (char *)take_memory(wanted, 0);
        if (!block) return NULL;
        *(region **)block = NULL;
        return block + 64;
    }
    lock_regions();
    in = filling;
    if (in && in->used + wanted <= in->size) {
        in->blocks++;
    } else if (wanted + 64 > REGION / 2) {  /* a region of its own */
        in = new_region(whole(wanted + 64, HUGE_PAGE));
        if (in) in->blocks = 1;
    } else {
        in = new_region(REGION);
        if (in) {
            before = filling;
            filling = in;
            in->blocks = 2;
            if (before) leave_region(before);
        }
    }
    if (in) {
        block = (char *)in + in->used;
        in->used += wanted;
        *(region **)block = in;
        block += 64;
    }
    unlock_regions();
    return block;
}

static void release_pages(void *block) {
    char *start = (char *)block - 64;
    if (!block) return;
    if (!*(region **)start) {
        release_memory(start);
        return;
    }
    lock_regions();
    leave_region(*(region **)start);
    unlock_regions();
}
#else
static inline void unlock_regions_after_fork(void) {}
static inline void *take_pages(size_t bytes) { return take_memory(bytes, 0); }
static inline void release_pages(void *block) { release_memory(block); }
#endif
#endif
