/* The table of kernels for one instruction set. Chosen once by cpu.h; each set is one file, kernels_*.c, which compiles the
 * same templates (gemm_tile.h, rows.h, attention_tile.h, convert.h) with other flags.
 *
 * Row kernels work on n contiguous f32; outputs may be inputs where that is said.
 */
#ifndef OPS_KERNELS_H
#define OPS_KERNELS_H

#include "ops/attention.h"
#include "ops/gemm.h"

/* y[r][j] = sum_i w[j][i] x[r][i], i in [0, n), r in [0, n_rows), j in [first, end); w_stride in bytes. Rows at `next` that lie
 * as those of w do, which are read after them, are fetched into a cache meanwhile; NULL: rows of w that come later. */
typedef void (*few_product_t)(float *y, int64_t y_stride, const void *w, size_t w_stride, const float *x, int64_t x_stride,
                              int64_t n, int n_rows, int64_t first, int64_t end, const void *next);

/* y[r][d] = sum_p s[r][p] v[p][d], r in [0, n_rows), d in [0, n), p in [0, n_v); v_stride in bytes; `next` likewise, but NULL:
 * nothing. */
typedef void (*few_sum_t)(float *y, int64_t y_stride, const float *s, int64_t s_stride, const void *v, size_t v_stride, int64_t n,
                          int64_t n_v, int n_rows, const void *next);

struct kernels {
    const char *name;
    struct gemm_kernel gemm; /* f32 */

    /* y = w x / rms(x); y may be x */
    void (*rms_norm)(float *y, const float *x, const float *w, int64_t n, float eps);
    /* dx = its gradient (+ add, if not NULL); dx may be dy or add */
    void (*rms_norm_back)(float *dx, const float *x, const float *w, const float *dy, const float *add, int64_t n, float eps);
    /* y = silu(gate) up; y may be either */
    void (*swiglu)(float *y, const float *gate, const float *up, int64_t n);
    void (*swiglu_back)(float *dgate, float *dup, const float *gate, const float *up, const float *dy, int64_t n);
    /* rotation of the first n_rot of n elements by a row of struct attention's table; y may be x */
    void (*rope)(float *y, const float *x, const float *table, int64_t n, int n_rot, bool neox, bool back);
    void (*softmax)(float *x, int64_t n); /* in place, n > 0 */
    float (*log_sum_exp)(const float *x, int64_t n);
    double (*exp_sum)(const float *x, int64_t n, float max, float scale); /* sum_i exp((x[i] - max) scale) */
    void (*exp)(float *y, const float *x, int64_t n, float max, float scale); /* y = exp((x - max) scale), as exp_sum has it */
    void (*negate_softmax)(float *x, int64_t n, float lse); /* x = -exp(x - lse) */
    /* y = x scale, or 0 where the hash of (key, first + i) is below threshold; y may be x */
    void (*dropout)(float *y, const float *x, int64_t n, uint64_t first, uint64_t key, uint32_t threshold, float scale);

    /* y[i] += sum_p s[p] v[p * v_stride + i], i in [0, n), p in [0, n_v) */
    void (*add_scaled)(float *y, const float *s, const float *v, int64_t v_stride, int64_t n, int64_t n_v);

    /* Few rows against many F16 or f32 ones (few.h); NULL where F16 has no fast conversion. */
    few_product_t few_product_f16, few_product_f32;
    few_sum_t few_sum_f16, few_sum_q8_0; /* the latter for n that are multiples of 32 */

    /* See attention.c. */
    int attention_lanes;
    void (*attend_keys)(const struct attention *at, int64_t tree_row, int64_t n_keys, int kv_head, void *scratch);
    void (*attend)(const struct attention_block *b, int64_t n_keys, void *scratch);
    void (*attend_back_begin)(const struct attention *at, int64_t tree_row, int64_t n_keys, int kv_head, void *scratch);
    void (*attend_back)(const struct attention_block *b, int64_t n_keys, void *scratch);
    void (*attend_back_end)(const struct attention *at, int64_t tree_row, int64_t n_keys, int kv_head, void *scratch);
};

extern const struct kernels kernels_plain;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2, kernels_avx512;
extern const struct gemm_kernel gemm_bf16_avx512, gemm_bf16_amx, gemm_bf16x3_amx;
#endif

#endif
