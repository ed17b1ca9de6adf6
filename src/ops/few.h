/* Products of F16 rows with a few f32 rows, written over vec.h; included once by each kernels_*.c that has a conversion from
 * F16. A weight is loaded and converted once for all rows, so that memory, not arithmetic, is the limit.
 */
#include "ops/vec.h"

enum {
    FEW_ROWS = 4,     /* of x at once */
    FEW_TOGETHER = VEC == 8 ? 2 : 4, /* rows of weights at once: AVX2 has half the registers */
    FEW_AGAIN = 16384  /* bytes of weights that the next FEW_ROWS of x find in the second-level cache */
};

#ifdef HAS_V_LOAD_F16

/* The last n < VEC of a row of F16. */
VEC_INLINE vf v_load_f16_part(const uint16_t *p, int n) {
    uint16_t part[VEC] = {0};
    memcpy(part, p, (size_t)n * sizeof *part);
    return v_load_f16(part);
}

/* y[r][j] = w_j x_r for constant numbers of rows of weights and of x. Several weight rows meet what is read of x, rows of which
 * may not fit into the first-level cache. Weights that come later are fetched into the second-level one meanwhile, a few bytes
 * with every few that are used, so that the memory is always busy. */
VEC_INLINE void few_block(float *y, int64_t y_stride, const char *w, size_t w_stride, const float *x, int64_t x_stride,
                          int64_t n, size_t ahead, const int n_w, const int n_x) {
    vf sum[FEW_ROWS * FEW_TOGETHER]; /* of row r of x, weight row j: at r * n_w + j */
    UNROLL
    for (int k = 0; k < n_x * n_w; k++) {
        sum[k] = v_zero();
    }
    int64_t i = 0;
    for (; i + 2 * VEC <= n; i += 2 * VEC) {
        vf a[FEW_TOGETHER], b[FEW_TOGETHER];
        UNROLL
        for (int j = 0; j < n_w; j++) {
            const uint16_t *wj = (const uint16_t *)(const void *)(w + (size_t)j * w_stride) + i;
            a[j] = v_load_f16(wj);
            b[j] = v_load_f16(wj + VEC);
            __builtin_prefetch((const char *)wj + ahead, 0, 2);
        }
        UNROLL
        for (int r = 0; r < n_x; r++) {
            const vf low = v_load(x + r * x_stride + i), high = v_load(x + r * x_stride + i + VEC);
            UNROLL
            for (int j = 0; j < n_w; j++) {
                sum[r * n_w + j] = v_fma(b[j], high, v_fma(a[j], low, sum[r * n_w + j]));
            }
        }
    }
    for (; i < n; i += VEC) {
        const int part = (int)(n - i < VEC ? n - i : VEC);
        UNROLL
        for (int j = 0; j < n_w; j++) {
            const uint16_t *wj = (const void *)(w + (size_t)j * w_stride);
            const vf a = part == VEC ? v_load_f16(wj + i) : v_load_f16_part(wj + i, part);
            UNROLL
            for (int r = 0; r < n_x; r++) {
                const float *xr = x + r * x_stride + i;
                sum[r * n_w + j] = v_fma(a, part == VEC ? v_load(xr) : v_load_part(xr, part), sum[r * n_w + j]);
            }
        }
    }
    float out[FEW_ROWS * FEW_TOGETHER];
    v_sums(out, sum, n_x * n_w);
    UNROLL
    for (int k = 0; k < n_x * n_w; k++) {
        y[k / n_w * y_stride + k % n_w] = out[k];
    }
}

VEC_INLINE void few_rows(float *y, int64_t y_stride, const char *w, size_t w_stride, const float *x, int64_t x_stride,
                         int64_t n, int64_t first, int64_t end, const int n_x) {
    const size_t ahead = fetch_distance(FEW_TOGETHER * w_stride);
    int64_t j = first;
    for (; j + FEW_TOGETHER <= end; j += FEW_TOGETHER) {
        few_block(y + j, y_stride, w + (size_t)j * w_stride, w_stride, x, x_stride, n, ahead, FEW_TOGETHER, n_x);
    }
    for (; j < end; j++) {
        few_block(y + j, y_stride, w + (size_t)j * w_stride, w_stride, x, x_stride, n, ahead, 1, n_x);
    }
}

static void few_rows_of_x(float *y, int64_t y_stride, const void *w, size_t w_stride, const float *x, int64_t x_stride,
                          int64_t n, int n_rows, int64_t first, int64_t end) {
    switch (n_rows) {
    case 1: few_rows(y, y_stride, w, w_stride, x, x_stride, n, first, end, 1); break;
    case 2: few_rows(y, y_stride, w, w_stride, x, x_stride, n, first, end, 2); break;
    case 3: few_rows(y, y_stride, w, w_stride, x, x_stride, n, first, end, 3); break;
    default: few_rows(y, y_stride, w, w_stride, x, x_stride, n, first, end, FEW_ROWS); break;
    }
}

static void few_product_f16(float *y, int64_t y_stride, const void *w, size_t w_stride, const float *x, int64_t x_stride,
                            int64_t n, int n_rows, int64_t first, int64_t end) {
    const int64_t again = FEW_AGAIN / (int64_t)w_stride / FEW_TOGETHER * FEW_TOGETHER;
    const int64_t chunk = n_rows <= FEW_ROWS ? end - first : again > FEW_TOGETHER ? again : FEW_TOGETHER;
    for (int64_t j = first; j < end; j += chunk) {
        const int64_t stop = end - j < chunk ? end : j + chunk;
        for (int r = 0; r < n_rows; r += FEW_ROWS) {
            few_rows_of_x(y + r * y_stride, y_stride, w, w_stride, x + r * x_stride, x_stride, n, n_rows - r, j, stop);
        }
    }
}

/* Where element d of a row of values lies, and its scale if blocks have one. */
enum { Q8_BLOCK = 32, Q8_BYTES = 34 };

VEC_INLINE const char *value_at(const char *row, int64_t d, const bool q8) {
    return q8 ? row + d / Q8_BLOCK * Q8_BYTES + 2 + d % Q8_BLOCK : row + (size_t)d * sizeof(uint16_t);
}

/* y[r][d] = sum_p s[r][p] v[p][d] for n_d <= 2 VEC neighbouring d from `d` on and a constant number of rows; whole: n_d is
 * 2 VEC; q8: values are q8_0, not F16. */
VEC_INLINE void few_sum(float *y, int64_t y_stride, const float *s, int64_t s_stride, const char *v, size_t v_stride, int64_t d,
                        int n_d, int64_t n_v, const int n_x, const bool whole, const bool q8) {
    vf sum[FEW_ROWS][2];
    UNROLL
    for (int r = 0; r < n_x; r++) {
        sum[r][0] = sum[r][1] = v_zero();
    }
    for (int64_t p = 0; p < n_v; p++) {
        const char *row = v + (size_t)p * v_stride, *at = value_at(row, d, q8);
        const uint16_t *halves = (const uint16_t *)(const void *)at;
        const uint8_t *bytes = (const uint8_t *)at;
        const int low = n_d < VEC ? n_d : VEC;
        const vf a = q8 ? v_from_i8(bytes) : whole ? v_load_f16(halves) : v_load_f16_part(halves, low);
        const vf b = q8 ? v_from_i8(bytes + VEC) : whole ? v_load_f16(halves + VEC) : v_load_f16_part(halves + low, n_d - low);
        const vf scale = q8 ? v_set1_f16(row + d / Q8_BLOCK * Q8_BYTES) : v_set1(1.0f);
        UNROLL
        for (int r = 0; r < n_x; r++) {
            const vf one = v_set1(s[r * s_stride + p]), weight = q8 ? v_mul(one, scale) : one;
            sum[r][0] = v_fma(weight, a, sum[r][0]);
            sum[r][1] = v_fma(weight, b, sum[r][1]);
        }
    }
    UNROLL
    for (int r = 0; r < n_x; r++) {
        float out[2 * VEC];
        v_store(out, sum[r][0]);
        v_store(out + VEC, sum[r][1]);
        memcpy(y + r * y_stride + d, out, (size_t)n_d * sizeof *out);
    }
}

VEC_INLINE void few_sum_rows(float *y, int64_t y_stride, const float *s, int64_t s_stride, const char *v, size_t v_stride,
                             int64_t n, int64_t n_v, const int n_x, const bool q8) {
    int64_t d = 0;
    for (; d + 2 * VEC <= n; d += 2 * VEC) {
        few_sum(y, y_stride, s, s_stride, v, v_stride, d, 2 * VEC, n_v, n_x, true, q8);
    }
    if (d < n && !q8) {
        few_sum(y, y_stride, s, s_stride, v, v_stride, d, (int)(n - d), n_v, n_x, false, false);
    }
}

VEC_INLINE void few_sum_any(float *y, int64_t y_stride, const float *s, int64_t s_stride, const char *v, size_t v_stride,
                            int64_t n, int64_t n_v, int n_rows, const bool q8) {
    for (int r = 0; r < n_rows; r += FEW_ROWS, y += FEW_ROWS * y_stride, s += FEW_ROWS * s_stride) {
        switch (n_rows - r) {
        case 1: few_sum_rows(y, y_stride, s, s_stride, v, v_stride, n, n_v, 1, q8); break;
        case 2: few_sum_rows(y, y_stride, s, s_stride, v, v_stride, n, n_v, 2, q8); break;
        case 3: few_sum_rows(y, y_stride, s, s_stride, v, v_stride, n, n_v, 3, q8); break;
        default: few_sum_rows(y, y_stride, s, s_stride, v, v_stride, n, n_v, FEW_ROWS, q8); break;
        }
    }
}

static void few_sum_f16(float *y, int64_t y_stride, const float *s, int64_t s_stride, const void *v, size_t v_stride, int64_t n,
                        int64_t n_v, int n_rows) {
    few_sum_any(y, y_stride, s, s_stride, v, v_stride, n, n_v, n_rows, false);
}

static void few_sum_q8_0(float *y, int64_t y_stride, const float *s, int64_t s_stride, const void *v, size_t v_stride, int64_t n,
                         int64_t n_v, int n_rows) {
    few_sum_any(y, y_stride, s, s_stride, v, v_stride, n, n_v, n_rows, true);
}

#define FEW_KERNELS .few_product_f16 = few_product_f16, .few_sum_f16 = few_sum_f16, .few_sum_q8_0 = few_sum_q8_0
#else
#define FEW_KERNELS .few_product_f16 = NULL, .few_sum_f16 = NULL, .few_sum_q8_0 = NULL
#endif
