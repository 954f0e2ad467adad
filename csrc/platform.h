/* What the thread team needs of the machine and the operating system: atomics, a pause, the time,
 * sleeping until a word changes, starting a thread, and being told of a fork. */
#ifndef RTFAST_PLATFORM_H
#define RTFAST_PLATFORM_H

#if defined(_WIN32)
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#ifndef _WIN32_WINNT
#define _WIN32_WINNT 0x0602 /* Windows 8, the first with WaitOnAddress */
#endif
#include <windows.h>
#include <process.h>
#else
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#endif
#include <stdint.h>
#include <stdlib.h>

static inline int64_t atomic_get(int64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline void atomic_set(int64_t *word, int64_t x) { __atomic_store_n(word, x, __ATOMIC_RELEASE); }
/* Sequentially consistent: "announce that I sleep, then look again" must not be reordered. */
static inline int64_t atomic_add(int64_t *word, int64_t x) { return __atomic_fetch_add(word, x, __ATOMIC_SEQ_CST); }
static inline int64_t atomic_swap(int64_t *word, int64_t x) { return __atomic_exchange_n(word, x, __ATOMIC_SEQ_CST); }

static inline void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#if defined(_WIN32)
static inline int64_t nanoseconds(void) {
    LARGE_INTEGER ticks, frequency;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&frequency);
    return ticks.QuadPart / frequency.QuadPart * 1000000000 +
           ticks.QuadPart % frequency.QuadPart * 1000000000 / frequency.QuadPart;
}
static inline void yield_core(void) { SwitchToThread(); }
#else
static inline int64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
static inline void yield_core(void) { sched_yield(); }
#endif

/* sleep_while(word, value): return once *word may differ from value. wake_all(word): after a change.
 * forget_sleepers(): in the child of a fork, where nobody sleeps; another thread may have held what guards them. */
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A futex is 32 bits wide: the low half of the word. */
static inline uint32_t *futex_of(int64_t *word) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return (uint32_t *)word + 1;
#else
    return (uint32_t *)word;
#endif
}
static inline void sleep_while(int64_t *word, int64_t value) {
    syscall(SYS_futex, futex_of(word), FUTEX_WAIT_PRIVATE, (uint32_t)value, NULL, NULL, 0);
}
static inline void wake_all(int64_t *word) {
    syscall(SYS_futex, futex_of(word), FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}
static inline void forget_sleepers(void) {}

/* Linux likes to wake a thread on the core of the one that woke it, where it then waits for it
 * to finish. keep_off lets a thread run on all of the caller's CPUs but this one. */
static inline int64_t this_thread(void) { return (int64_t)syscall(SYS_gettid); }
static inline int this_cpu(void) { return sched_getcpu(); }
static inline void keep_off(int64_t thread, int cpu) {
    cpu_set_t cpus;
    if (cpu < 0 || sched_getaffinity(0, sizeof cpus, &cpus) != 0 || CPU_COUNT(&cpus) < 2) return;
    CPU_CLR(cpu, &cpus);
    sched_setaffinity((pid_t)thread, sizeof cpus, &cpus);
}
#else
static inline int64_t this_thread(void) { return 0; }
static inline int this_cpu(void) { return -1; }
static inline void keep_off(int64_t thread, int cpu) { (void)thread; (void)cpu; }

#if defined(_WIN32)
static inline void sleep_while(int64_t *word, int64_t value) { WaitOnAddress(word, &value, sizeof value, INFINITE); }
static inline void wake_all(int64_t *word) { WakeByAddressAll(word); }
static inline void forget_sleepers(void) {}
#else
static pthread_mutex_t sleep_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t sleep_condition = PTHREAD_COND_INITIALIZER;
static inline void sleep_while(int64_t *word, int64_t value) {
    pthread_mutex_lock(&sleep_mutex);
    while (atomic_get(word) == value) pthread_cond_wait(&sleep_condition, &sleep_mutex);
    pthread_mutex_unlock(&sleep_mutex);
}
static inline void wake_all(int64_t *word) {
    (void)word;
    pthread_mutex_lock(&sleep_mutex);
    pthread_cond_broadcast(&sleep_condition);
    pthread_mutex_unlock(&sleep_mutex);
}
static inline void forget_sleepers(void) {
    pthread_mutex_init(&sleep_mutex, NULL);
    pthread_cond_init(&sleep_condition, NULL);
}
#endif
#endif

/* Start a detached thread that takes no signals (Python handles them on its main thread). 0 on success. */
#if defined(_WIN32)
struct thread_start {
    void *(*body)(void *);
    void *argument;
};
static unsigned __stdcall begin_thread(void *start) {
    struct thread_start it = *(struct thread_start *)start;
    free(start);
    it.body(it.argument);
    return 0;
}
static inline int start_thread(void *(*body)(void *), void *argument) {
    struct thread_start *start = (struct thread_start *)malloc(sizeof *start);
    uintptr_t thread;
    if (!start) return -1;
    start->body = body;
    start->argument = argument;
    thread = _beginthreadex(NULL, 0, begin_thread, start, 0, NULL);
    if (!thread) {
        free(start);
        return -1;
    }
    CloseHandle((HANDLE)thread);
    return 0;
}

/* There is no fork. */
static inline int call_after_fork_in_child(void (*function)(void)) { (void)function; return 0; }
#else
static inline int start_thread(void *(*body)(void *), void *argument) {
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    int failed;
    if (pthread_attr_init(&attributes)) return -1;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&thread, &attributes, body, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return failed;
}

static inline int call_after_fork_in_child(void (*function)(void)) { return pthread_atfork(NULL, NULL, function); }
#endif

/* Memory that starts on a cache line; NULL where there is none. Zeroed pages are only taken once they are
 * touched. Give back with release_memory(), which takes NULL too. */
static inline void *take_memory(size_t bytes, int zeroed) {
    const size_t extra = 64 + sizeof(void *);
    char *start, *aligned;
    if (bytes > (size_t)PTRDIFF_MAX - extra) return NULL;
    start = zeroed ? (char *)calloc(1, bytes + extra) : (char *)malloc(bytes + extra);
    if (!start) return NULL;
    aligned = (char *)(((uintptr_t)start + extra - 1) & ~(uintptr_t)63);
    ((void **)aligned)[-1] = start;
    return aligned;
}
static inline void release_memory(void *memory) {
    if (memory) free(((void **)memory)[-1]);
}
#endif
