/* The thread team's needs of csrc/platform.h and pages.h, without Python: tests/test_platform.py compiles and runs it. */
#include "pages.h"
#include <stdio.h>
#include <string.h>

enum { MEMBERS = 4, ROUNDS = 2000 };
static int64_t word, arrived, sum, ended;

#define CHECK(holds)                       \
    if (!(holds)) {                        \
        printf("not true: %s\n", #holds);  \
        return 1;                          \
    }

static void *body(void *argument) {
    int64_t seen = 0, now;
    while (1) {
        while ((now = atomic_get(&word)) == seen) sleep_while(&word, seen);
        if (now < 0) break;
        seen = now;
        atomic_add(&sum, now * (int64_t)(intptr_t)argument);
        atomic_add(&arrived, 1);
    }
    atomic_add(&ended, 1);
    return NULL;
}
static void nothing(void) {}

int main(void) {
    const int64_t begin = nanoseconds();
    int64_t before, now;
    char *memory, *blocks[32];
    CHECK(call_after_fork_in_child(nothing) == 0);
    for (int member = 1; member <= MEMBERS; member++) CHECK(start_thread(body, (void *)(intptr_t)member) == 0);
    for (int64_t round = 1; round <= ROUNDS; round++) {
        atomic_set(&arrived, 0);
        if (round % 100 == 0) /* time to fall asleep */
            for (const int64_t until = nanoseconds() + 2000000; nanoseconds() < until;) yield_core();
        CHECK(atomic_swap(&word, round) == round - 1);
        wake_all(&word);
        while (atomic_get(&arrived) < MEMBERS) yield_core();
    }
    atomic_set(&word, -1);
    wake_all(&word);
    while (atomic_get(&ended) < MEMBERS) pause_briefly();
    CHECK(sum == (int64_t)ROUNDS * (ROUNDS + 1) / 2 * (MEMBERS * (MEMBERS + 1) / 2));
    for (int i = 0; i < 32; i++) {
        const size_t bytes = 1000 + 24 * i;
        memory = blocks[i] = (char *)take_memory(bytes, 1);
        CHECK(memory && (uintptr_t)memory % 64 == 0);
        for (size_t k = 0; k < bytes; k++) CHECK(memory[k] == 0);
        memory[0] = memory[bytes - 1] = 1;
    }
    for (int i = 0; i < 32; i++) release_memory(blocks[i]);
    release_memory(NULL);
    CHECK(take_memory((size_t)-1, 0) == NULL && map_pages((size_t)-1) == NULL);
    memory = (char *)map_pages(HUGE_PAGE);
    CHECK(memory && (uintptr_t)memory % 64 == 0);
    memory[0] = memory[HUGE_PAGE - 1] = 1;
    unmap_pages(memory, HUGE_PAGE);
    for (size_t bytes = 1; bytes <= 5 * (size_t)HUGE_PAGE; bytes = bytes * 3 + 4097) {
        memory = (char *)take_large_memory(bytes);
        CHECK(memory && (uintptr_t)memory % 64 == 0);
        memset(memory, 1, bytes);
        release_memory(memory);
    }
    CHECK(take_large_memory((size_t)-1) == NULL);
    before = nanoseconds();
    do { /* over a whole second: the clock's two parts fit */
        now = nanoseconds();
        CHECK(now >= before);
        before = now;
    } while (now < begin + 1100000000);
    printf("ok\n");
    return 0;
}
