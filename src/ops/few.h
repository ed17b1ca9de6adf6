/* Products of F16 rows with a few f32 rows, written over vec.h; included once by each kernels_*.c that has a conversion from
 * F16. A weight is loaded and converted once for all rows, so that memory, not arithmetic, is the limit.
 */
#include "ops/vec.h"

enum { FEW_ROWS = 4, FEW_AHEAD = 1024 }; /* rows at once; weights that are fetched ahead */

#ifdef HAS_V_LOAD_F16

/* The last n < VEC of a row of F16. */
VEC_INLINE vf v_load_f16_part(const uint16_t *p, int n) {
    uint16_t part[VEC] = {0};
    memcpy(part, p, (size_t)n * sizeof *part);
    return v_load_f16(part);
}

/* y[r] = w x_r for a constant number of rows of x. One stream of weights at a time: several at once, each in a page of its
 * own, measured a third of the bandwidth. */
VEC_INLINE void few_row(float *y, int64_t y_stride, const uint16_t *w, const float *x, int64_t x_stride, int64_t n,
                        const int n_x) {
    vf sum[FEW_ROWS][2];
    UNROLL
    for (int r = 0; r < n_x; r++) {
        sum[r][0] = sum[r][1] = v_zero();
    }
    int64_t i = 0;
    for (; i + 2 * VEC <= n; i += 2 * VEC) {
        const vf a = v_load_f16(w + i), b = v_load_f16(w + i + VEC);
        __builtin_prefetch(w + i + FEW_AHEAD, 0, 3);
        UNROLL
        for (int r = 0; r < n_x; r++) {
            sum[r][0] = v_fma(a, v_load(x + r * x_stride + i), sum[r][0]);
            sum[r][1] = v_fma(b, v_load(x + r * x_stride + i + VEC), sum[r][1]);
        }
    }
    for (; i < n; i += VEC) {
        const int part = (int)(n - i < VEC ? n - i : VEC);
        const vf a = part == VEC ? v_load_f16(w + i) : v_load_f16_part(w + i, part);
        UNROLL
        for (int r = 0; r < n_x; r++) {
            const float *xr = x + r * x_stride + i;
            sum[r][0] = v_fma(a, part == VEC ? v_load(xr) : v_load_part(xr, part), sum[r][0]);
        }
    }
    UNROLL
    for (int r = 0; r < n_x; r++) {
        y[r * y_stride] = v_sum(v_add(sum[r][0], sum[r][1]));
    }
}

VEC_INLINE void few_rows(float *y, int64_t y_stride, const char *w, size_t w_stride, const float *x, int64_t x_stride,
                         int64_t n, int64_t first, int64_t end, const int n_x) {
    for (int64_t j = first; j < end; j++) {
        few_row(y + j, y_stride, (const void *)(w + (size_t)j * w_stride), x, x_stride, n, n_x);
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

/* y[d] += sum_p s[p] v[p][d] */
static void few_add_f16(float *y, const float *s, const void *v, size_t v_stride, int64_t n, int64_t n_v) {
    for (int64_t d = 0; d < n; d += VEC) {
        const int part = (int)(n - d < VEC ? n - d : VEC);
        vf sum[2] = {part == VEC ? v_load(y + d) : v_load_part(y + d, part), v_zero()};
        for (int64_t p = 0; p < n_v; p++) {
            const uint16_t *row = (const uint16_t *)(const void *)((const char *)v + (size_t)p * v_stride) + d;
            const vf x = part == VEC ? v_load_f16(row) : v_load_f16_part(row, part);
            sum[p & 1] = v_fma(v_set1(s[p]), x, sum[p & 1]);
        }
        if (part == VEC) {
            v_store(y + d, v_add(sum[0], sum[1]));
        } else {
            v_store_part(y + d, part, v_add(sum[0], sum[1]));
        }
    }
}

#define FEW_KERNELS .few_product_f16 = few_product_f16, .few_add_f16 = few_add_f16
#else
#define FEW_KERNELS .few_product_f16 = NULL, .few_add_f16 = NULL
#endif
