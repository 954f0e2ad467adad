/* Vectors of the machine: with bytes.h the only file that knows an instruction set.
 *
 * `vf` and `vd` are the widest float and double vectors of the build. Cython is told that
 * they are a float and a double, so that `a * b + c` in a .pxi file is vector arithmetic
 * that stays in registers. A `vf *` is the address of plain, possibly unaligned floats;
 * every offset counts numbers, not vectors.
 *
 * To add an instruction set: give VECTOR_BYTES, the register tile of the product, and
 * whatever of the functions under "what the compiler needs help with" it has a faster form of.
 */
#ifndef RTFAST_SIMD_H
#define RTFAST_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(__GNUC__) && !defined(__clang__) /* clang-cl is clang, but does not say that it is like GCC */
#error "rtfast's kernels need the vector extension of GCC or clang: Microsoft's cl cannot compile them, clang-cl can"
#endif

/* The tile of a product: TILE_ROWS x TILE_VECTORS accumulators fill the register file, and
 * TILE_VECTORS is small so that 256 rows of a panel (32 KB at most) stay in the L1 cache.
 * TILE_K k are loaded at a time, as many as there are registers for. From TURNED_ROWS rows on the left operand may be
 * turned, see copy_turned in matmul.pxi: worth it where a multiplication reads and spreads one number of it by itself. */
#if defined(__AVX512F__)
#include <immintrin.h>
#define VECTOR_BYTES 64
enum { TILE_ROWS = 12, TILE_VECTORS = 2, TILE_K = 2, TURNED_ROWS = 10 };
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define VECTOR_BYTES 32
enum { TILE_ROWS = 6, TILE_VECTORS = 2, TILE_K = 1, TURNED_ROWS = 99 };
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
enum { TILE_ROWS = 6, TILE_VECTORS = 4, TILE_K = 1, TURNED_ROWS = 99 };
#else
#define VECTOR_BYTES 16
enum { TILE_ROWS = 6, TILE_VECTORS = 2, TILE_K = 1, TURNED_ROWS = 99 };
#endif
enum { MOST_SUMS = 24 }; /* accumulators, which tile.pxi writes out one by one: of 12 rows, or of 3 and two panels */
_Static_assert(TILE_ROWS * TILE_VECTORS <= MOST_SUMS && 3 * 2 * TILE_VECTORS <= MOST_SUMS, "a tile has too many sums");

enum {
    LANES_F = VECTOR_BYTES / 4,
    LANES_D = VECTOR_BYTES / 8,
    /* Sums along a row run in 16 lanes at every vector width: this many vectors. */
    ROW_VECTORS_F = 16 / LANES_F,
    ROW_VECTORS_D = 16 / LANES_D
};

typedef float vf __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef double vd __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
typedef uint32_t vf_bits __attribute__((vector_size(VECTOR_BYTES)));
typedef uint64_t vd_bits __attribute__((vector_size(VECTOR_BYTES)));

#define INLINE static inline __attribute__((always_inline))

/* Into the L2 cache; `prefetch_near`: into the L1 cache, for what is used once and soon. */
INLINE void prefetch(const void *address) { __builtin_prefetch(address, 0, 2); }
INLINE void prefetch_near(const void *address) { __builtin_prefetch(address, 0, 3); }
/* A read: AMD's cores follow reads of one line after another with fetching, but not prefetches. */
INLINE void touch(const void *address) { (void)*(const volatile char *)address; }

/* The same number, which the compiler then neither computes anew nor takes apart. */
INLINE ptrdiff_t hidden(ptrdiff_t n) {
    __asm__ volatile("" : "+r"(n));
    return n;
}

/* The place of the lowest bit of some. */
INLINE int lowest_bit(uint64_t bits) { return __builtin_ctzll(bits); }

/* Whether AMD made this CPU: its cores fetch ahead by themselves where Intel's have to be told, and the other way round. */
INLINE int made_by_amd(void) {
#if defined(__x86_64__)
    unsigned function = 0, vendor, ecx = 0, edx;
    __asm__("cpuid" : "+a"(function), "=b"(vendor), "+c"(ecx), "=d"(edx));
    return vendor == 0x68747541; /* "Auth" of "AuthenticAMD" */
#else
    return 0;
#endif
}

/* One definition for both widths of number. S: suffix, V: vector, T: number, LANES: of them. */
#define DEFINE_VECTOR(S, V, T, B, U, LANES, MANTISSA_BITS, BIAS)                                  \
    INLINE V fill_##S(T x) { return x - (V){0}; }                                                 \
    INLINE V splat_##S(const V *p, ptrdiff_t i) { return fill_##S(((const T *)p)[i]); }           \
    INLINE V load_##S(const V *p, ptrdiff_t i) { return *(const V *)((const T *)p + i); }         \
    INLINE void store_##S(V *p, ptrdiff_t i, V v) { *(V *)((T *)p + i) = v; }                     \
    INLINE T number_##S(const V *p, ptrdiff_t i) { return ((const T *)p)[i]; }                    \
    INLINE void put_##S(V *p, ptrdiff_t i, T x) { ((T *)p)[i] = x; }                              \
    INLINE V choose_##S(B mask, V yes, V no) { return (V)((mask & (B)yes) | (~mask & (B)no)); }   \
    INLINE V if_less_generic_##S(V a, V b, V yes, V no) { return choose_##S((B)(a < b), yes, no); } \
    INLINE V with_sign_of_##S(V magnitude, V sign) {                                              \
        const B top = (B)fill_##S((T)-0.0);                                                       \
        return (V)(((B)magnitude & ~top) | ((B)sign & top));                                      \
    }                                                                                             \
    /* 2^n for whole n within the exponent range: n lands in the low bits of a large number */    \
    INLINE V power_of_two_##S(V n) {                                                              \
        const T magic = (T)((U)3 << (MANTISSA_BITS - 1));                                         \
        const B bits = (B)(n + fill_##S(magic)) - (B)fill_##S(magic);                             \
        return (V)((bits + BIAS) << MANTISSA_BITS);                                               \
    }                                                                                             \
    /* x * 2^n, in two steps so that only the second one rounds, where the result is denormal */          \
    INLINE V scaled_generic_##S(V x, V n) {                                                       \
        const V magic = fill_##S((T)((U)3 << (MANTISSA_BITS - 1)));                               \
        const V least = fill_##S((T)(2 - 2 * BIAS));                                              \
        const V bounded = if_less_generic_##S(least, n, n, least);                                \
        const V half = (bounded * fill_##S((T)0.5) + magic) - magic;                              \
        return x * power_of_two_##S(half) * power_of_two_##S(bounded - half);                     \
    }                                                                                             \
    INLINE unsigned not_less_generic_##S(V a, V b) {                                              \
        unsigned found = 0;                                                                       \
        for (int l = 0; l < LANES; l++) found |= (unsigned)!(a[l] < b[l]) << l;                   \
        return found;                                                                             \
    }                                                                                             \
    INLINE unsigned not_at_most_generic_##S(V a, V b) {                                           \
        unsigned found = 0;                                                                       \
        for (int l = 0; l < LANES; l++) found |= (unsigned)!(a[l] <= b[l]) << l;                  \
        return found;                                                                             \
    }                                                                                             \
    INLINE V gathered_##S(const V *p, ptrdiff_t i, ptrdiff_t stride) {                            \
        T lanes[LANES];                                                                           \
        for (ptrdiff_t l = 0; l < LANES; l++) lanes[l] = ((const T *)p)[i + l * stride];          \
        return *(const V *)lanes;                                                                 \
    }                                                                                             \
    /* 16 bytes of LANES rows into rows of one vector each */                                     \
    INLINE void transpose_generic_##S(const V *from, ptrdiff_t stride, V *to, ptrdiff_t to_stride) { \
        for (ptrdiff_t l = 0; l < LANES; l++)                                                     \
            for (ptrdiff_t i = 0; i < 16 / (ptrdiff_t)sizeof(T); i++)                             \
                ((T *)to)[i * to_stride + l] = ((const T *)from)[l * stride + i];                 \
    }                                                                                             \
    /* 16 bytes of some rows, side by side */                                                     \
    INLINE void turn_generic_##S(const V *from, ptrdiff_t stride, ptrdiff_t rows, V *to) {        \
        for (ptrdiff_t r = 0; r < rows; r++)                                                      \
            for (ptrdiff_t i = 0; i < 16 / (ptrdiff_t)sizeof(T); i++)                             \
                ((T *)to)[i * rows + r] = ((const T *)from)[r * stride + i];                      \
    }                                                                                             \
    INLINE V load_some_generic_##S(const V *p, ptrdiff_t i, ptrdiff_t n, V otherwise) {           \
        T lanes[LANES];                                                                           \
        memcpy(lanes, &otherwise, sizeof lanes);                                                  \
        for (ptrdiff_t l = 0; l < n && l < LANES; l++) lanes[l] = ((const T *)p)[i + l];          \
        return *(const V *)lanes;                                                                 \
    }                                                                                             \
    INLINE void store_some_generic_##S(V *p, ptrdiff_t i, ptrdiff_t n, V v) {                     \
        T lanes[LANES];                                                                           \
        memcpy(lanes, &v, sizeof lanes);                                                          \
        for (ptrdiff_t l = 0; l < n && l < LANES; l++) ((T *)p)[i + l] = lanes[l];                \
    }                                                                                             \
    /* The sum of 16 numbers: halves upon halves, the same tree at every vector width */          \
    typedef T quad_##S __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)), may_alias)); \
    INLINE T sum_of_16_##S(const V *p) {                                                          \
        const quad_##S *q = (const quad_##S *)p;                                                  \
        const quad_##S sums = (q[0] + q[2]) + (q[1] + q[3]);                                      \
        return (sums[0] + sums[2]) + (sums[1] + sums[3]);                                         \
    }                                                                                             \
    /* The largest of 16 numbers, none of them NaN */                                             \
    typedef U quad_##S##_bits __attribute__((vector_size(4 * sizeof(T))));                        \
    INLINE quad_##S larger_quad_##S(quad_##S a, quad_##S b) {                                     \
        const quad_##S##_bits mask = (quad_##S##_bits)(a > b);                                    \
        return (quad_##S)((mask & (quad_##S##_bits)a) | (~mask & (quad_##S##_bits)b));            \
    }                                                                                             \
    INLINE T largest_of_16_##S(const V *p) {                                                      \
        const quad_##S *q = (const quad_##S *)p;                                                  \
        const quad_##S m = larger_quad_##S(larger_quad_##S(q[0], q[2]), larger_quad_##S(q[1], q[3])); \
        const T even = m[0] > m[2] ? m[0] : m[2], odd = m[1] > m[3] ? m[1] : m[3];                \
        return even > odd ? even : odd;                                                           \
    }

DEFINE_VECTOR(f, vf, float, vf_bits, uint32_t, LANES_F, 23, 127)
DEFINE_VECTOR(d, vd, double, vd_bits, uint64_t, LANES_D, 52, 1023)

/* What the compiler needs help with.
 * if_less(a, b, yes, no) is `a < b ? yes : no`; so no where one is NaN.
 * larger(a, b) is `a > b ? a : b`: the second where either is NaN. smaller likewise.
 * load_some reads n lanes, at most all of them, and takes the rest from `otherwise`;
 * it touches no memory past them. store_some likewise.
 * not_less has a bit for every lane in which a < b does not hold, so also where one is NaN; not_at_most: a <= b. */
#if defined(__AVX512F__)

INLINE vf fma_f(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
INLINE vd fma_d(vd a, vd b, vd c) { return (vd)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
INLINE vf larger_f(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vd larger_d(vd a, vd b) { return (vd)_mm512_max_pd((__m512d)a, (__m512d)b); }
INLINE vf smaller_f(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE vd smaller_d(vd a, vd b) { return (vd)_mm512_min_pd((__m512d)a, (__m512d)b); }
INLINE vf if_less_f(vf a, vf b, vf yes, vf no) {
    return (vf)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ), (__m512)no, (__m512)yes);
}
INLINE vd if_less_d(vd a, vd b, vd yes, vd no) {
    return (vd)_mm512_mask_blend_pd(_mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_LT_OQ), (__m512d)no, (__m512d)yes);
}
INLINE vf scaled_f(vf x, vf n) { return (vf)_mm512_scalef_ps((__m512)x, (__m512)n); }
INLINE vd scaled_d(vd x, vd n) { return (vd)_mm512_scalef_pd((__m512d)x, (__m512d)n); }
INLINE unsigned not_less_f(vf a, vf b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_NLT_UQ); }
INLINE unsigned not_less_d(vd a, vd b) { return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_NLT_UQ); }
INLINE unsigned not_at_most_f(vf a, vf b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_NLE_UQ); }
INLINE unsigned not_at_most_d(vd a, vd b) { return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_NLE_UQ); }
/* Row r of each group of rows in its own quarter of a vector, then 4 x 4 (2 x 2) within the quarters. */
INLINE __m512 quarters_f(const float *p, ptrdiff_t stride) {
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(p));
    v = _mm512_insertf32x4(v, _mm_loadu_ps(p + 4 * stride), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps(p + 8 * stride), 2);
    return _mm512_insertf32x4(v, _mm_loadu_ps(p + 12 * stride), 3);
}
INLINE __m512d quarters_d(const double *p, ptrdiff_t stride) {
    __m512d v = _mm512_castpd128_pd512(_mm_loadu_pd(p));
    v = _mm512_insertf64x2(v, _mm_loadu_pd(p + 2 * stride), 1);
    v = _mm512_insertf64x2(v, _mm_loadu_pd(p + 4 * stride), 2);
    return _mm512_insertf64x2(v, _mm_loadu_pd(p + 6 * stride), 3);
}
INLINE void store_fours_f(__m512 a, __m512 b, __m512 c, __m512 d, vf *to, ptrdiff_t stride) {
    const __m512 ab = _mm512_unpacklo_ps(a, b), cd = _mm512_unpacklo_ps(c, d);
    const __m512 ab2 = _mm512_unpackhi_ps(a, b), cd2 = _mm512_unpackhi_ps(c, d);
    store_f(to, 0, (vf)_mm512_shuffle_ps(ab, cd, 0x44));
    store_f(to, stride, (vf)_mm512_shuffle_ps(ab, cd, 0xee));
    store_f(to, 2 * stride, (vf)_mm512_shuffle_ps(ab2, cd2, 0x44));
    store_f(to, 3 * stride, (vf)_mm512_shuffle_ps(ab2, cd2, 0xee));
}
INLINE void transpose_f(const vf *from, ptrdiff_t stride, vf *to, ptrdiff_t to_stride) {
    const float *p = (const float *)from;
    const __m512 a = quarters_f(p, stride), b = quarters_f(p + stride, stride);
    const __m512 c = quarters_f(p + 2 * stride, stride), d = quarters_f(p + 3 * stride, stride);
    store_fours_f(a, b, c, d, to, to_stride);
}
INLINE void transpose_d(const vd *from, ptrdiff_t stride, vd *to, ptrdiff_t to_stride) {
    const double *p = (const double *)from;
    const __m512d a = quarters_d(p, stride), b = quarters_d(p + stride, stride);
    store_d(to, 0, (vd)_mm512_unpacklo_pd(a, b));
    store_d(to, to_stride, (vd)_mm512_unpackhi_pd(a, b));
}
/* The same for TURNED_ROWS to 12 rows, one after the other: up to 6 numbers past the last are written too. */
INLINE __m512 thirds_f(const float *p, const float *q, const float *r) {
    const __m512 v = _mm512_insertf32x4(_mm512_castps128_ps512(_mm_loadu_ps(p)), _mm_loadu_ps(q), 1);
    return _mm512_insertf32x4(v, _mm_loadu_ps(r), 2);
}
INLINE void turn_f(const vf *from, ptrdiff_t stride, ptrdiff_t rows, vf *to) {
    const float *p = (const float *)from, *last = p + (rows - 1) * stride;
    const __m512 a = thirds_f(p, p + 4 * stride, p + 8 * stride);
    const __m512 b = thirds_f(p + stride, p + 5 * stride, p + 9 * stride);
    const __m512 c = thirds_f(p + 2 * stride, p + 6 * stride, rows > 10 ? p + 10 * stride : last);
    const __m512 d = thirds_f(p + 3 * stride, p + 7 * stride, last);
    store_fours_f(a, b, c, d, to, rows);
}
INLINE void turn_d(const vd *from, ptrdiff_t stride, ptrdiff_t rows, vd *to) {
    transpose_d(from, stride, to, rows);
    transpose_d((const vd *)((const double *)from + (rows - 8) * stride), stride, (vd *)((double *)to + rows - 8), rows);
}
/* Another address of the same number, for all that the compiler knows. An operand of a multiplication that is used once
 * stays in memory, instead of taking an instruction that spreads it: fewer to start in a cycle, see docs/kernels.md. */
INLINE const void *another(const void *p) {
    __asm__ volatile("" : "+r"(p));
    return p;
}
INLINE unsigned first_lanes(ptrdiff_t n) { return n <= 0 ? 0u : n >= 16 ? 0xffffu : (1u << n) - 1; }
INLINE vf load_some_f(const vf *p, ptrdiff_t i, ptrdiff_t n, vf otherwise) {
    return (vf)_mm512_mask_loadu_ps((__m512)otherwise, (__mmask16)first_lanes(n), (const float *)p + i);
}
INLINE vd load_some_d(const vd *p, ptrdiff_t i, ptrdiff_t n, vd otherwise) {
    return (vd)_mm512_mask_loadu_pd((__m512d)otherwise, (__mmask8)first_lanes(n), (const double *)p + i);
}
INLINE void store_some_f(vf *p, ptrdiff_t i, ptrdiff_t n, vf v) {
    _mm512_mask_storeu_ps((float *)p + i, (__mmask16)first_lanes(n), (__m512)v);
}
INLINE void store_some_d(vd *p, ptrdiff_t i, ptrdiff_t n, vd v) {
    _mm512_mask_storeu_pd((double *)p + i, (__mmask8)first_lanes(n), (__m512d)v);
}

#elif defined(__AVX2__) && defined(__FMA__)

INLINE vf fma_f(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
INLINE vd fma_d(vd a, vd b, vd c) { return (vd)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
INLINE vf larger_f(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vd larger_d(vd a, vd b) { return (vd)_mm256_max_pd((__m256d)a, (__m256d)b); }
INLINE vf smaller_f(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE vd smaller_d(vd a, vd b) { return (vd)_mm256_min_pd((__m256d)a, (__m256d)b); }
INLINE vf if_less_f(vf a, vf b, vf yes, vf no) {
    return (vf)_mm256_blendv_ps((__m256)no, (__m256)yes, _mm256_cmp_ps((__m256)a, (__m256)b, _CMP_LT_OQ));
}
INLINE vd if_less_d(vd a, vd b, vd yes, vd no) {
    return (vd)_mm256_blendv_pd((__m256d)no, (__m256d)yes, _mm256_cmp_pd((__m256d)a, (__m256d)b, _CMP_LT_OQ));
}
INLINE unsigned not_less_f(vf a, vf b) {
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_NLT_UQ));
}
INLINE unsigned not_less_d(vd a, vd b) {
    return (unsigned)_mm256_movemask_pd(_mm256_cmp_pd((__m256d)a, (__m256d)b, _CMP_NLT_UQ));
}
INLINE unsigned not_at_most_f(vf a, vf b) {
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_NLE_UQ));
}
INLINE unsigned not_at_most_d(vd a, vd b) {
    return (unsigned)_mm256_movemask_pd(_mm256_cmp_pd((__m256d)a, (__m256d)b, _CMP_NLE_UQ));
}
/* As in AVX-512, with halves. */
INLINE __m256 halves_f(const float *p, ptrdiff_t stride) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + 4 * stride), 1);
}
INLINE __m256d halves_d(const double *p, ptrdiff_t stride) {
    return _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(p)), _mm_loadu_pd(p + 2 * stride), 1);
}
INLINE void transpose_f(const vf *from, ptrdiff_t stride, vf *to, ptrdiff_t to_stride) {
    const float *p = (const float *)from;
    const __m256 a = halves_f(p, stride), b = halves_f(p + stride, stride);
    const __m256 c = halves_f(p + 2 * stride, stride), d = halves_f(p + 3 * stride, stride);
    const __m256 ab = _mm256_unpacklo_ps(a, b), cd = _mm256_unpacklo_ps(c, d);
    const __m256 ab2 = _mm256_unpackhi_ps(a, b), cd2 = _mm256_unpackhi_ps(c, d);
    store_f(to, 0, (vf)_mm256_shuffle_ps(ab, cd, 0x44));
    store_f(to, to_stride, (vf)_mm256_shuffle_ps(ab, cd, 0xee));
    store_f(to, 2 * to_stride, (vf)_mm256_shuffle_ps(ab2, cd2, 0x44));
    store_f(to, 3 * to_stride, (vf)_mm256_shuffle_ps(ab2, cd2, 0xee));
}
INLINE void transpose_d(const vd *from, ptrdiff_t stride, vd *to, ptrdiff_t to_stride) {
    const double *p = (const double *)from;
    const __m256d a = halves_d(p, stride), b = halves_d(p + stride, stride);
    store_d(to, 0, (vd)_mm256_unpacklo_pd(a, b));
    store_d(to, to_stride, (vd)_mm256_unpackhi_pd(a, b));
}
INLINE __m256i first_lanes_f(ptrdiff_t n) {
    const int count = n < 0 ? 0 : n > 8 ? 8 : (int)n;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE __m256i first_lanes_d(ptrdiff_t n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)n), _mm256_setr_epi64x(0, 1, 2, 3));
}
INLINE vf load_some_f(const vf *p, ptrdiff_t i, ptrdiff_t n, vf otherwise) {
    const __m256i lanes = first_lanes_f(n);
    const __m256 read = _mm256_maskload_ps((const float *)p + i, lanes);
    return (vf)_mm256_blendv_ps((__m256)otherwise, read, (__m256)lanes);
}
INLINE vd load_some_d(const vd *p, ptrdiff_t i, ptrdiff_t n, vd otherwise) {
    const __m256i lanes = first_lanes_d(n);
    const __m256d read = _mm256_maskload_pd((const double *)p + i, lanes);
    return (vd)_mm256_blendv_pd((__m256d)otherwise, read, (__m256d)lanes);
}
INLINE void store_some_f(vf *p, ptrdiff_t i, ptrdiff_t n, vf v) {
    _mm256_maskstore_ps((float *)p + i, first_lanes_f(n), (__m256)v);
}
INLINE void store_some_d(vd *p, ptrdiff_t i, ptrdiff_t n, vd v) {
    _mm256_maskstore_pd((double *)p + i, first_lanes_d(n), (__m256d)v);
}

#else

#if defined(__aarch64__)
#include <arm_neon.h>
INLINE vf fma_f(vf a, vf b, vf c) { return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INLINE vd fma_d(vd a, vd b, vd c) { return (vd)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
#else /* no fused multiply-add: this build is outside the promise of equal bits */
INLINE vf fma_f(vf a, vf b, vf c) { return a * b + c; }
INLINE vd fma_d(vd a, vd b, vd c) { return a * b + c; }
#endif
INLINE vf if_less_f(vf a, vf b, vf yes, vf no) { return if_less_generic_f(a, b, yes, no); }
INLINE vd if_less_d(vd a, vd b, vd yes, vd no) { return if_less_generic_d(a, b, yes, no); }
INLINE vf larger_f(vf a, vf b) { return if_less_f(b, a, a, b); }
INLINE vd larger_d(vd a, vd b) { return if_less_d(b, a, a, b); }
INLINE vf smaller_f(vf a, vf b) { return if_less_f(a, b, a, b); }
INLINE vd smaller_d(vd a, vd b) { return if_less_d(a, b, a, b); }
INLINE unsigned not_less_f(vf a, vf b) { return not_less_generic_f(a, b); }
INLINE unsigned not_less_d(vd a, vd b) { return not_less_generic_d(a, b); }
INLINE unsigned not_at_most_f(vf a, vf b) { return not_at_most_generic_f(a, b); }
INLINE unsigned not_at_most_d(vd a, vd b) { return not_at_most_generic_d(a, b); }
INLINE void transpose_f(const vf *p, ptrdiff_t stride, vf *to, ptrdiff_t to_stride) {
    transpose_generic_f(p, stride, to, to_stride);
}
INLINE void transpose_d(const vd *p, ptrdiff_t stride, vd *to, ptrdiff_t to_stride) {
    transpose_generic_d(p, stride, to, to_stride);
}
INLINE vf load_some_f(const vf *p, ptrdiff_t i, ptrdiff_t n, vf other) { return load_some_generic_f(p, i, n, other); }
INLINE vd load_some_d(const vd *p, ptrdiff_t i, ptrdiff_t n, vd other) { return load_some_generic_d(p, i, n, other); }
INLINE void store_some_f(vf *p, ptrdiff_t i, ptrdiff_t n, vf v) { store_some_generic_f(p, i, n, v); }
INLINE void store_some_d(vd *p, ptrdiff_t i, ptrdiff_t n, vd v) { store_some_generic_d(p, i, n, v); }

#endif

/* sum + a * b, in the register that holds the sum. Left to itself gcc (12) moves the sums of a product's tile from
 * register to register: some percent of the time. */
#if defined(__AVX2__) && defined(__FMA__) && !defined(__clang__)
#define DEFINE_ADD_PRODUCT(S, V, M, INSTRUCTION)                                                  \
    INLINE V added_product_##S(V sum, V a, V b) {                                                 \
        M total = (M)sum;                                                                         \
        __asm__(INSTRUCTION " %2, %1, %0" : "+v"(total) : "v"((M)a), "v"((M)b));                  \
        return (V)total;                                                                          \
    }
#if defined(__AVX512F__)
DEFINE_ADD_PRODUCT(f, vf, __m512, "vfmadd231ps")
DEFINE_ADD_PRODUCT(d, vd, __m512d, "vfmadd231pd")
#else
DEFINE_ADD_PRODUCT(f, vf, __m256, "vfmadd231ps")
DEFINE_ADD_PRODUCT(d, vd, __m256d, "vfmadd231pd")
#endif
#else
INLINE vf added_product_f(vf sum, vf a, vf b) { return fma_f(a, b, sum); }
INLINE vd added_product_d(vd sum, vd a, vd b) { return fma_d(a, b, sum); }
#endif

#if !defined(__AVX512F__)
INLINE const void *another(const void *p) { return p; }
INLINE void turn_f(const vf *p, ptrdiff_t stride, ptrdiff_t rows, vf *to) { turn_generic_f(p, stride, rows, to); }
INLINE void turn_d(const vd *p, ptrdiff_t stride, ptrdiff_t rows, vd *to) { turn_generic_d(p, stride, rows, to); }
INLINE vf scaled_f(vf x, vf n) { return scaled_generic_f(x, n); }
INLINE vd scaled_d(vd x, vd n) { return scaled_generic_d(x, n); }
#endif
#endif
