/* Products of F16 rows with a few f32 rows, written over vec.h; included once by each kernels_*.c that has a conversion from
 * F16. A weight is loaded and converted once for all rows, so that memory, not arithmetic, is the limit.
 */
#include "ops/vec.h"

enum {
    FEW_ROWS = 4,     /* of x at once */
    FEW_TOGETHER = 2, /* rows of weights at once */
    FEW_AHEAD = 1024  /* weights that are fetched ahead in a single row */
};

#ifdef HAS_V_LOAD_F16

/* The last n < VEC of a row of F16. */
VEC_INLINE vf v_load_f16_part(const uint16_t *p, int n) {
    uint16_t part[VEC] = {0};
    memcpy(part, p, (size_t)n * sizeof *part);
    return v_load_f16(part);
}

/* y[r][j] = w_j x_r for constant numbers of rows of weights and of x. Two weight rows meet what is read of x, several rows of
 * which may not fit into the first-level cache. Weights that come next are fetched meanwhile, a few bytes with every few that
 * are used, so that the memory is always busy. */
VEC_INLINE void few_block(float *y, int64_t y_stride, const char *w, size_t w_stride, const float *x, int64_t x_stride,
                          int64_t n, const int n_w, const int n_x) {
    vf sum[FEW_TOGETHER][FEW_ROWS][2];
    UNROLL
    for (int j = 0; j < n_w; j++) {
        UNROLL
        for (int r = 0; r < n_x; r++) {
            sum[j][r][0] = sum[j][r][1] = v_zero();
        }
    }
    int64_t i = 0;
    for (; i + 2 * VEC <= n; i += 2 * VEC) {
        vf a[FEW_TOGETHER], b[FEW_TOGETHER];
        UNROLL
        for (int j = 0; j < n_w; j++) {
            const uint16_t *wj = (const void *)(w + (size_t)j * w_stride);
            a[j] = v_load_f16(wj + i);
            b[j] = v_load_f16(wj + i + VEC);
            if (n_w == 1) {
                __builtin_prefetch(wj + i + FEW_AHEAD, 0, 3);
            } else {
                __builtin_prefetch(w + (size_t)(j + n_w) * w_stride + (size_t)i * sizeof *wj, 0, 2);
            }
        }
        UNROLL
        for (int r = 0; r < n_x; r++) {
            const vf low = v_load(x + r * x_stride + i), high = v_load(x + r * x_stride + i + VEC);
            UNROLL
            for (int j = 0; j < n_w; j++) {
                sum[j][r][0] = v_fma(a[j], low, sum[j][r][0]);
                sum[j][r][1] = v_fma(b[j], high, sum[j][r][1]);
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
                sum[j][r][0] = v_fma(a, part == VEC ? v_load(xr) : v_load_part(xr, part), sum[j][r][0]);
            }
        }
    }
    UNROLL
    for (int j = 0; j < n_w; j++) {
        UNROLL
        for (int r = 0; r < n_x; r++) {
            y[r * y_stride + j] = v_sum(v_add(sum[j][r][0], sum[j][r][1]));
        }
    }
}

VEC_INLINE void few_rows(float *y, int64_t y_stride, const char *w, size_t w_stride, const float *x, int64_t x_stride,
                         int64_t n, int64_t first, int64_t end, const int n_x) {
    int64_t j = first;
    for (; n_x > 1 && j + FEW_TOGETHER <= end; j += FEW_TOGETHER) {
        few_block(y + j, y_stride, w + (size_t)j * w_stride, w_stride, x, x_stride, n, FEW_TOGETHER, n_x);
    }
    for (; j < end; j++) {
        few_block(y + j, y_stride, w + (size_t)j * w_stride, w_stride, x, x_stride, n, 1, n_x);
    }
}

static void few_product_f16(float *y, int64_t y_stride, const void *w, size_t w_stride, const float *x, int64_t x_stride,
                            int64_t n, int n_rows, int64_t first, int64_t end) {
    for (int r = 0; r < n_rows; r += FEW_ROWS) {
        float *yr = y + r * y_stride;
        const float *xr = x + r * x_stride;
        switch (n_rows - r) {
        case 1:
            few_rows(yr, y_stride, w, w_stride, xr, x_stride, n, first, end, 1);
            break;
        case 2:
            few_rows(yr, y_stride, w, w_stride, xr, x_stride, n, first, end, 2);
            break;
        case 3:
            few_rows(yr, y_stride, w, w_stride, xr, x_stride, n, first, end, 3);
            break;
        default:
            few_rows(yr, y_stride, w, w_stride, xr, x_stride, n, first, end, 4);
            break;
        }
    }
}

/* y[r][d] = sum_p s[r][p] v[p][d] for n_d <= 2 VEC neighbouring d and a constant number of rows; whole: n_d is 2 VEC. */
VEC_INLINE void few_sum(float *y, int64_t y_stride, const float *s, int64_t s_stride, const char *v, size_t v_stride, int n_d,
                        int64_t n_v, const int n_x, const bool whole) {
    vf sum[FEW_ROWS][2];
    UNROLL
    for (int r = 0; r < n_x; r++) {
        sum[r][0] = sum[r][1] = v_zero();
    }
    for (int64_t p = 0; p < n_v; p++) {
        const uint16_t *row = (const uint16_t *)(const void *)(v + (size_t)p * v_stride);
        const int low = n_d < VEC ? n_d : VEC;
        const vf a = whole ? v_load_f16(row) : v_load_f16_part(row, low);
        const vf b = whole ? v_load_f16(row + VEC) : v_load_f16_part(row + low, n_d - low);
        UNROLL
        for (int r = 0; r < n_x; r++) {
            const vf weight = v_set1(s[r * s_stride + p]);
            sum[r][0] = v_fma(weight, a, sum[r][0]);
            sum[r][1] = v_fma(weight, b, sum[r][1]);
        }
    }
    UNROLL
    for (int r = 0; r < n_x; r++) {
        float out[2 * VEC];
        v_store(out, sum[r][0]);
        v_store(out + VEC, sum[r][1]);
        memcpy(y + r * y_stride, out, (size_t)n_d * sizeof *out);
    }
}

static void few_sum_f16(float *y, int64_t y_stride, const float *s, int64_t s_stride, const void *v, size_t v_stride, int64_t n,
                        int64_t n_v, int n_rows) {
    for (int r = 0; r < n_rows; r += FEW_ROWS) {
        for (int64_t d = 0; d < n; d += 2 * VEC) {
            const int n_d = (int)(n - d < 2 * VEC ? n - d : 2 * VEC);
            float *yr = y + r * y_stride + d;
            const float *sr = s + r * s_stride;
            const char *vd = (const char *)v + (size_t)d * sizeof(uint16_t);
#define FEW_SUM(count)                                                                                                \
    if (n_d == 2 * VEC) {                                                                                             \
        few_sum(yr, y_stride, sr, s_stride, vd, v_stride, n_d, n_v, count, true);                                     \
    } else {                                                                                                          \
        few_sum(yr, y_stride, sr, s_stride, vd, v_stride, n_d, n_v, count, false);                                    \
    }                                                                                                                 \
    break
            switch (n_rows - r) {
            case 1: FEW_SUM(1);
            case 2: FEW_SUM(2);
            case 3: FEW_SUM(3);
            default: FEW_SUM(4);
            }
#undef FEW_SUM
        }
    }
}

#define FEW_KERNELS .few_product_f16 = few_product_f16, .few_sum_f16 = few_sum_f16
#else
#define FEW_KERNELS .few_product_f16 = NULL, .few_sum_f16 = NULL
#endif
