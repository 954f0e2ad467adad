/* rtfast's kernels for C: a table of functions, found through the capsule rtfast.kernels.C_API.
 *
 *     if (rtfast_import() < 0) return NULL;                      (once, with the GIL)
 *     code = rtfast_api->softmax_f(x, rows, n, out);             (as often as you like, from any thread)
 *
 * Every function but rtfast_import() may be called without the GIL, from several threads at once, and touches no
 * Python object. It gives the bits of its namesake in rtfast.kernels and returns 0, or a negative code, and has then
 * written nothing: but after RTFAST_NO_MEMORY, `out` may hold part of the result. An argument's shape stands beside it;
 * all are in C order, without gaps. The order of arguments is inputs, weights, sizes and other scalars, outputs. `out`
 * may overlap no input, except where it says that it may be x. Sizes may be 0; of an array without numbers the
 * address is not looked at, and may be NULL. A call uses up to rtfast.get_num_threads() threads where it is long
 * enough to be worth them and no other call has them.
 */
#ifndef RTFAST_H
#define RTFAST_H

#include <Python.h>
#include <stddef.h>

/* Changes with what older programs cannot use. What newer ones need is added at the end of the table. */
#define RTFAST_API_VERSION 1

enum {
    RTFAST_NO_MEMORY = -1,
    RTFAST_BAD_SIZE = -2,   /* a negative size, more than 2^50 bytes, or another than a weight was packed with */
    RTFAST_OVERLAP = -3,    /* out overlaps an input */
    RTFAST_BAD_VALUE = -4   /* NULL, an unknown activation, a bad eps, a weight of another type or backend */
};

enum { RTFAST_IDENTITY = 0, RTFAST_RELU = 1, RTFAST_GELU = 2, RTFAST_GELU_TANH = 3, RTFAST_SILU = 4 };

/* A weight (d_in, d_out) in the layout that is multiplied fastest, to be had from pack_f() or pack_d() alone. Immutable:
 * any number of threads may use one. */
typedef struct {
    ptrdiff_t d_in, d_out;
    size_t itemsize;      /* of float or double */
    const void *table;    /* of the backend that packed it: others have another layout */
    void *panels;         /* the numbers in that layout */
} rtfast_weight;

typedef struct {
    int version;      /* RTFAST_API_VERSION of the rtfast that runs */
    size_t size;      /* bytes of its table */

    /* out (batch, m, n) = a (batch, m, k) @ b (batch, k, n); for one b (k, n) and many a, batch is 1 */
    int (*matmul_f)(const float *a, const float *b, ptrdiff_t batch, ptrdiff_t m, ptrdiff_t k, ptrdiff_t n,
                    float *out);
    int (*matmul_d)(const double *a, const double *b, ptrdiff_t batch, ptrdiff_t m, ptrdiff_t k, ptrdiff_t n,
                    double *out);

    /* *packed = a packed copy of weight (d_in, d_out), to be given to free_weight(); NULL where that fails */
    int (*pack_f)(const float *weight, ptrdiff_t d_in, ptrdiff_t d_out, rtfast_weight **packed);
    int (*pack_d)(const double *weight, ptrdiff_t d_in, ptrdiff_t d_out, rtfast_weight **packed);
    void (*free_weight)(rtfast_weight *packed); /* NULL is fine */

    /* out (rows, d_out) = activation(x (rows, d_in) @ weight (d_in, d_out) + bias (d_out,)); bias may be NULL */
    int (*linear_f)(const float *x, const rtfast_weight *weight, const float *bias, ptrdiff_t rows, ptrdiff_t d_in,
                    ptrdiff_t d_out, int activation, float *out);
    int (*linear_d)(const double *x, const rtfast_weight *weight, const double *bias, ptrdiff_t rows, ptrdiff_t d_in,
                    ptrdiff_t d_out, int activation, double *out);

    /* out (rows, n) = softmax of each row of x (rows, n); out may be x */
    int (*softmax_f)(const float *x, ptrdiff_t rows, ptrdiff_t n, float *out);
    int (*softmax_d)(const double *x, ptrdiff_t rows, ptrdiff_t n, double *out);

    /* out (rows, d) = (x - mean) / sqrt(variance + eps) * gamma (d,) + beta (d,) of each row of x (rows, d);
     * gamma and beta may be NULL; article: / (std + eps) instead; out may be x */
    int (*layer_norm_f)(const float *x, const float *gamma, const float *beta, ptrdiff_t rows, ptrdiff_t d, double eps,
                        int article, float *out);
    int (*layer_norm_d)(const double *x, const double *gamma, const double *beta, ptrdiff_t rows, ptrdiff_t d,
                        double eps, int article, double *out);

    /* the same of x + y (rows, d) */
    int (*add_layer_norm_f)(const float *x, const float *y, const float *gamma, const float *beta, ptrdiff_t rows,
                            ptrdiff_t d, double eps, int article, float *out);
    int (*add_layer_norm_d)(const double *x, const double *y, const double *gamma, const double *beta, ptrdiff_t rows,
                            ptrdiff_t d, double eps, int article, double *out);

    /* out (heads, T, d_value) = softmax(q (heads, T, d_key) k (heads, S, d_key)^T * scale) v (heads, S, d_value), for
     * each head of each sentence. mask (heads, T, S): not 0 where a query may attend a key; or NULL. causal: a query may
     * not attend later keys, the last query and the last key being aligned. scale: usually 1 / sqrt(d_key). */
    int (*attention_f)(const float *q, const float *k, const float *v, const unsigned char *mask, ptrdiff_t heads,
                       ptrdiff_t T, ptrdiff_t S, ptrdiff_t d_key, ptrdiff_t d_value, int causal, double scale,
                       float *out);
    int (*attention_d)(const double *q, const double *k, const double *v, const unsigned char *mask, ptrdiff_t heads,
                       ptrdiff_t T, ptrdiff_t S, ptrdiff_t d_key, ptrdiff_t d_value, int causal, double scale,
                       double *out);
} rtfast_kernels;

#ifndef RTFAST_ITSELF

/* The table of the backend that ran when this file first asked for it; NULL before. */
#ifdef __GNUC__
__attribute__((unused))
#endif
static const rtfast_kernels *rtfast_api = NULL;

/* Look up rtfast_api, with the GIL. 0, or -1 with ImportError set: no rtfast, one without compiled kernels, or one whose
 * table this program was not compiled for. */
static inline int rtfast_import(void) {
    const rtfast_kernels *found;
    if (rtfast_api) return 0;
    found = (const rtfast_kernels *)PyCapsule_Import("rtfast.kernels.C_API", 0);
    if (!found) return -1;
    if (found->version != RTFAST_API_VERSION || found->size < sizeof(rtfast_kernels)) {
        PyErr_Format(PyExc_ImportError,
                     "compiled for version %d of rtfast's C API (a table of %zu bytes), but the rtfast that runs has "
                     "version %d (%zu bytes): compile again with its header, or install a newer rtfast",
                     RTFAST_API_VERSION, sizeof(rtfast_kernels), found->version, found->size);
        return -1;
    }
    rtfast_api = found;
    return 0;
}

/* What a code means. */
static inline const char *rtfast_message(int code) {
    switch (code) {
    case 0: return "no error";
    case RTFAST_NO_MEMORY: return "no memory";
    case RTFAST_BAD_SIZE: return "a size is negative, too large, or not that of the packed weight";
    case RTFAST_OVERLAP: return "out overlaps an input";
    case RTFAST_BAD_VALUE: return "an argument is NULL, unknown or out of range, or the weight is of another type";
    default: return "unknown error";
    }
}
#endif
#endif
