/* Products of bytes: how screen.pxi looks at many columns of a weight at a time.
 *
 * The one function here needs VNNI, which not every CPU with AVX-512 has: CAN_MULTIPLY_BYTES says at run time. */
#ifndef RTFAST_BYTES_H
#define RTFAST_BYTES_H

#include <stdint.h>

/* Columns of a panel of bytes, (d_in / 4, BYTE_COLUMNS, 4): two vectors, and the rows that are multiplied at once. */
enum { BYTE_COLUMNS = 32, BYTE_ROWS = 12 };

#if defined(__AVX512F__) && defined(__AVX512BW__)
#include <immintrin.h>

#define WITH_VNNI __attribute__((target("avx512vnni")))

#if defined(_WIN32) /* where the linker finds nothing for __builtin_cpu_supports */
#include <intrin.h>
static inline int can_multiply_bytes(void) {
    int registers[4]; /* eax, ebx, ecx, edx */
    __cpuidex(registers, 7, 0);
    return registers[2] >> 11 & 1;
}
#else
static inline int can_multiply_bytes(void) { return __builtin_cpu_supports("avx512vnni"); }
#endif

/* sum + four products of bytes in each lane, in the register that holds the sum: gcc (12) moves the sums of the intrinsic
 * from register to register, twice the instructions. */
WITH_VNNI static inline __attribute__((always_inline)) __m512i added_fours(__m512i sum, __m512i x, __m512i w) {
#if defined(__clang__)
    return _mm512_dpbusd_epi32(sum, x, w);
#else
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
#endif
}

/* upper (rows,) = the largest of each row of (x w - offsets) * x_scale * scales + bias + a norms + b errors.
 * x: (fours, rows, 4) unsigned bytes; w: a panel of signed ones. ahead: what to fetch from memory meanwhile, `lines` of it,
 * 0 to 2, for each four. */
WITH_VNNI static inline __attribute__((always_inline)) void upper_tile(
    const int rows, const uint8_t *x, const float *x_scale, const float *a, const float *b,
    const int8_t *w, ptrdiff_t fours, const char *ahead, int lines, const int32_t *offsets, const float *scales,
    const float *bias, const float *norms, const float *errors, float *upper, ptrdiff_t upper_stride) {
    __m512i sums[2 * BYTE_ROWS];
#pragma GCC unroll 24
    for (int i = 0; i < 2 * rows; i++) sums[i] = _mm512_setzero_si512();
    for (ptrdiff_t k = 0; k < fours; k++) {
        const __m512i left = _mm512_loadu_si512(w), right = _mm512_loadu_si512(w + 64);
        if (lines > 0) _mm_prefetch(ahead, _MM_HINT_T1);
        if (lines > 1) _mm_prefetch(ahead + 64, _MM_HINT_T1);
        ahead += 64 * lines;
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            const __m512i four = _mm512_set1_epi32(*(const int32_t *)(x + 4 * r));
            sums[2 * r] = added_fours(sums[2 * r], four, left);
            sums[2 * r + 1] = added_fours(sums[2 * r + 1], four, right);
        }
        w += 128;
        x += 4 * rows;
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        __m512 bounds[2];
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            const int at = 16 * j;
            const __m512i sum = _mm512_sub_epi32(sums[2 * r + j], _mm512_loadu_si512(offsets + at));
            const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(x_scale[r]), _mm512_loadu_ps(scales + at));
            __m512 out = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, _mm512_loadu_ps(bias + at));
            out = _mm512_fmadd_ps(_mm512_set1_ps(a[r]), _mm512_loadu_ps(norms + at), out);
            bounds[j] = _mm512_fmadd_ps(_mm512_set1_ps(b[r]), _mm512_loadu_ps(errors + at), out);
        }
        upper[r * upper_stride] = _mm512_reduce_max_ps(_mm512_max_ps(bounds[0], bounds[1]));
    }
}

#define UPPER_TILE(ROWS)                                                                                          \
    case ROWS:                                                                                                    \
        upper_tile(ROWS, x, x_scale, a, b, w, fours, ahead, lines, offsets, scales, bias, norms, errors, upper,   \
                   upper_stride);                                                                                 \
        break;

WITH_VNNI static void upper_bounds(
    int rows, const uint8_t *x, const float *x_scale, const float *a, const float *b,
    const int8_t *w, ptrdiff_t fours, const char *ahead, int lines, const int32_t *offsets, const float *scales,
    const float *bias, const float *norms, const float *errors, float *upper, ptrdiff_t upper_stride) {
    switch (rows) {
        UPPER_TILE(1) UPPER_TILE(2) UPPER_TILE(3) UPPER_TILE(4)
        UPPER_TILE(5) UPPER_TILE(6) UPPER_TILE(7) UPPER_TILE(8)
        UPPER_TILE(9) UPPER_TILE(10) UPPER_TILE(11) UPPER_TILE(12)
    }
}

#else

static inline int can_multiply_bytes(void) { return 0; }

static void upper_bounds(
    int rows, const uint8_t *x, const float *x_scale, const float *a, const float *b,
    const int8_t *w, ptrdiff_t fours, const char *ahead, int lines, const int32_t *offsets, const float *scales,
    const float *bias, const float *norms, const float *errors, float *upper, ptrdiff_t upper_stride) {}

#endif
#endif
