/* Products of F16 or f32 rows with a few f32 rows, written over vec.h; included once by each kernels_*.c that has a conversion
 * from F16. A weight is loaded and converted once for all rows, so that memory, not arithmetic, is the limit. Many rows do
 * not fit into the first-level cache, and a conversion costs several multiply-adds: converted weights are put aside for them.
 */
#include "ops/vec.h"

enum {
    FEW_ROWS = 4,     /* of x at once */
    FEW_TOGETHER = VEC == 8 ? 2 : 4, /* rows of weights at once: AVX2 has half the registers */
    FEW_AGAIN = 16384, /* bytes of weights that the next FEW_ROWS of x find in the second-level cache */
    ASIDE_FROM = 12,   /* rows of x from which weights are put aside, and */
    ASIDE_ROWS = 32,   /* how many meet them, at most */
    ASIDE_TOGETHER = VEC == 8 ? 3 : 4, /* rows of those at once: no conversion wants registers */
    ASIDE_WEIGHTS = 2 * ASIDE_TOGETHER, /* rows of weights put aside, and */
    ASIDE_DEPTH = 640                  /* how many of each: they and FEW_ROWS of x lie in the first-level cache */
};

#ifdef HAS_V_LOAD_F16

/* Weights are F16 or, where `f32` says so, f32. */
VEC_INLINE size_t few_bytes(const bool f32) { return f32 ? sizeof(float) : sizeof(uint16_t); }

/* The last n < VEC of a row of F16. */
VEC_INLINE vf v_load_f16_part(const uint16_t *p, int n) {
    uint16_t part[VEC] = {0};
    memcpy(part, p, (size_t)n * sizeof *part);
    return v_load_f16(part);
}

/* n weights, at most VEC */
VEC_INLINE vf few_load(const char *w, const int n, const bool f32) {
    const void *p = w;
    if (f32) {
        return n == VEC ? v_load(p) : v_load_part(p, n);
    }
    return n == VEC ? v_load_f16(p) : v_load_f16_part(p, n);
}

/* How far ahead of `from` something lies, in other memory perhaps, and then perhaps before it; `otherwise`: it is NULL. */
VEC_INLINE size_t few_distance(const void *from, const void *to, size_t otherwise) {
    return to ? (uintptr_t)to - (uintptr_t)from : otherwise;
}

/* What lies so far ahead of p goes into the second-level cache. */
VEC_INLINE void few_fetch(const char *p, size_t ahead, const size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch((const void *)((uintptr_t)p + ahead + i), 0, 2);
    }
}

/* y[r][j] = w_j x_r for constant numbers of rows of weights and of x. Several weight rows meet what is read of x, rows of which
 * may not fit into the first-level cache. What lies `ahead` of the weights is fetched into the second-level one meanwhile, a few
 * bytes with every few that are used, so that the memory is always busy. */
VEC_INLINE void few_block(float *y, int64_t y_stride, const char *w, size_t w_stride, const float *x, int64_t x_stride,
                          int64_t n, size_t ahead, const int n_w, const int n_x, const bool f32) {
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
            const char *wj = w + (size_t)j * w_stride + (size_t)i * few_bytes(f32);
            a[j] = few_load(wj, VEC, f32);
            b[j] = few_load(wj + VEC * few_bytes(f32), VEC, f32);
            few_fetch(wj, ahead, 2 * VEC * few_bytes(f32));
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
            const vf a = few_load(w + (size_t)j * w_stride + (size_t)i * few_bytes(f32), part, f32);
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
                         int64_t n, int64_t first, int64_t end, size_t ahead, const int n_x, const bool f32) {
    int64_t j = first;
    for (; j + FEW_TOGETHER <= end; j += FEW_TOGETHER) {
        few_block(y + j, y_stride, w + (size_t)j * w_stride, w_stride, x, x_stride, n, ahead, FEW_TOGETHER, n_x, f32);
    }
    for (; j < end; j++) {
        few_block(y + j, y_stride, w + (size_t)j * w_stride, w_stride, x, x_stride, n, ahead, 1, n_x, f32);
    }
}

VEC_INSTANCE void few_rows_of_x(float *y, int64_t y_stride, const void *w, size_t w_stride, const float *x, int64_t x_stride,
                                int64_t n, int n_rows, int64_t first, int64_t end, size_t ahead, const bool f32) {
    switch (n_rows) {
    case 1: few_rows(y, y_stride, w, w_stride, x, x_stride, n, first, end, ahead, 1, f32); break;
    case 2: few_rows(y, y_stride, w, w_stride, x, x_stride, n, first, end, ahead, 2, f32); break;
    case 3: few_rows(y, y_stride, w, w_stride, x, x_stride, n, first, end, ahead, 3, f32); break;
    default: few_rows(y, y_stride, w, w_stride, x, x_stride, n, first, end, ahead, FEW_ROWS, f32); break;
    }
}

/* FEW_ROWS at a time */
VEC_INSTANCE void few_passes(float *y, int64_t y_stride, const char *w, size_t w_stride, const float *x, int64_t x_stride,
                             int64_t n, int n_rows, int64_t first, int64_t end, size_t ahead, const bool f32) {
    const int64_t again = FEW_AGAIN / (int64_t)w_stride / FEW_TOGETHER * FEW_TOGETHER;
    const int64_t chunk = n_rows <= FEW_ROWS ? end - first : again > FEW_TOGETHER ? again : FEW_TOGETHER;
    for (int64_t j = first; j < end; j += chunk) {
        const int64_t stop = end - j < chunk ? end : j + chunk;
        for (int r = 0; r < n_rows; r += FEW_ROWS) {
            few_rows_of_x(y + r * y_stride, y_stride, w, w_stride, x + r * x_stride, x_stride, n, n_rows - r, j, stop,
                          ahead, f32);
        }
    }
}

/* to[j][i] = the n weights [i, i + n) of rows j < n_w; n <= ASIDE_DEPTH. Zeros follow up to a whole vector. */
VEC_INSTANCE void aside_convert(float *to, const char *w, size_t w_stride, int64_t i, int64_t n, int n_w, size_t ahead,
                                const bool f32) {
    for (int j = 0; j < n_w; j++, to += ASIDE_DEPTH, w += w_stride) {
        const char *wj = w + (size_t)i * few_bytes(f32);
        int64_t k = 0;
        for (; k + 2 * VEC <= n; k += 2 * VEC, wj += 2 * VEC * few_bytes(f32)) {
            v_store(to + k, few_load(wj, VEC, f32));
            v_store(to + k + VEC, few_load(wj + VEC * few_bytes(f32), VEC, f32));
            few_fetch(wj, ahead, 2 * VEC * few_bytes(f32));
        }
        for (; k < n; k += VEC, wj += VEC * few_bytes(f32)) {
            v_store(to + k, few_load(wj, (int)(n - k < VEC ? n - k : VEC), f32));
        }
    }
}

/* part[r * ASIDE_TOGETHER + j] += w_j x_r for the n <= VEC numbers at w and x; whole: n is VEC */
VEC_INLINE void aside_step(vf part[], const float *w, const float *x, int64_t x_stride, int n, const int n_x, const bool whole) {
    vf a[ASIDE_TOGETHER];
    UNROLL
    for (int j = 0; j < ASIDE_TOGETHER; j++) {
        a[j] = v_load(w + j * ASIDE_DEPTH);
    }
    UNROLL
    for (int r = 0; r < n_x; r++) {
        const vf b = v_loaded(whole ? v_load(x + r * x_stride) : v_load_part(x + r * x_stride, n));
        UNROLL
        for (int j = 0; j < ASIDE_TOGETHER; j++) {
            part[r * ASIDE_TOGETHER + j] = v_fma(a[j], b, part[r * ASIDE_TOGETHER + j]);
        }
    }
}

/* sum[r][j] += w_j x_r, by lanes, for ASIDE_TOGETHER rows of converted weights and a constant number of rows of x */
VEC_INLINE void aside_tile(vf sum[], const float *w, const float *x, int64_t x_stride, int64_t n, const int n_x) {
    vf part[FEW_ROWS * ASIDE_TOGETHER];
    UNROLL
    for (int k = 0; k < n_x * ASIDE_TOGETHER; k++) {
        part[k] = sum[k / ASIDE_TOGETHER * ASIDE_WEIGHTS + k % ASIDE_TOGETHER];
    }
    int64_t i = 0;
    for (; i + VEC <= n; i += VEC) {
        aside_step(part, w + i, x + i, x_stride, VEC, n_x, true);
    }
    if (i < n) {
        aside_step(part, w + i, x + i, x_stride, (int)(n - i), n_x, false);
    }
    UNROLL
    for (int k = 0; k < n_x * ASIDE_TOGETHER; k++) {
        sum[k / ASIDE_TOGETHER * ASIDE_WEIGHTS + k % ASIDE_TOGETHER] = part[k];
    }
}

static void aside_tiles(vf sum[], const float *w, const float *x, int64_t x_stride, int64_t n, int n_rows) {
    for (int r = 0; r < n_rows; r += FEW_ROWS) {
        for (int j = 0; j < ASIDE_WEIGHTS; j += ASIDE_TOGETHER) {
            vf *of = sum + r * ASIDE_WEIGHTS + j;
            const float *wj = w + j * ASIDE_DEPTH, *xr = x + r * x_stride;
            switch (n_rows - r) {
            case 1: aside_tile(of, wj, xr, x_stride, n, 1); break;
            case 2: aside_tile(of, wj, xr, x_stride, n, 2); break;
            case 3: aside_tile(of, wj, xr, x_stride, n, 3); break;
            default: aside_tile(of, wj, xr, x_stride, n, FEW_ROWS); break;
            }
        }
    }
}

/* y[r][j] = w_j x_r for n_w <= ASIDE_WEIGHTS rows of weights and n_rows <= ASIDE_ROWS of x, each sum in the order of few_block */
VEC_INSTANCE void aside_block(float *y, int64_t y_stride, const char *w, size_t w_stride, const float *x, int64_t x_stride,
                              int64_t n, int n_rows, int n_w, size_t ahead, const bool f32) {
    float converted[ASIDE_WEIGHTS * ASIDE_DEPTH];
    vf sum[ASIDE_ROWS * ASIDE_WEIGHTS]; /* of row r of x, weight row j: at r * ASIDE_WEIGHTS + j */
    for (int k = 0; k < n_rows * ASIDE_WEIGHTS; k++) {
        sum[k] = v_zero();
    }
    if (n_w < ASIDE_WEIGHTS) { /* tiles are computed whole */
        memset(converted, 0, sizeof converted);
    }
    for (int64_t i = 0; i < n; i += ASIDE_DEPTH) {
        const int64_t depth = n - i < ASIDE_DEPTH ? n - i : ASIDE_DEPTH;
        aside_convert(converted, w, w_stride, i, depth, n_w, ahead, f32);
        aside_tiles(sum, converted, x + i, x_stride, depth, n_rows);
    }
    for (int r = 0; r < n_rows; r++) {
        float out[ASIDE_WEIGHTS];
        v_sums(out, sum + r * ASIDE_WEIGHTS, ASIDE_WEIGHTS);
        memcpy(y + r * y_stride, out, (size_t)n_w * sizeof *out);
    }
}

VEC_INSTANCE void few_product(float *y, int64_t y_stride, const char *w, size_t w_stride, const float *x, int64_t x_stride,
                              int64_t n, int n_rows, int64_t first, int64_t end, const char *next, const bool f32) {
    const bool aside = n_rows >= ASIDE_FROM;
    const size_t step = (size_t)(aside ? ASIDE_WEIGHTS : FEW_TOGETHER) * w_stride;
    const size_t ahead = few_distance(w, next, fetch_distance(step));
    if (!aside) {
        few_passes(y, y_stride, w, w_stride, x, x_stride, n, n_rows, first, end, ahead, f32);
        return;
    }
    for (int64_t j = first; j < end; j += ASIDE_WEIGHTS) {
        const int n_w = (int)(end - j < ASIDE_WEIGHTS ? end - j : ASIDE_WEIGHTS);
        for (int r = 0; r < n_rows; r += ASIDE_ROWS) {
            aside_block(y + r * y_stride + j, y_stride, w + (size_t)j * w_stride, w_stride, x + r * x_stride, x_stride, n,
                        n_rows - r < ASIDE_ROWS ? n_rows - r : ASIDE_ROWS, n_w, ahead, f32);
        }
    }
}

static void few_product_f16(float *y, int64_t y_stride, const void *w, size_t w_stride, const float *x, int64_t x_stride,
                            int64_t n, int n_rows, int64_t first, int64_t end, const void *next) {
    few_product(y, y_stride, w, w_stride, x, x_stride, n, n_rows, first, end, next, false);
}

static void few_product_f32(float *y, int64_t y_stride, const void *w, size_t w_stride, const float *x, int64_t x_stride,
                            int64_t n, int n_rows, int64_t first, int64_t end, const void *next) {
    few_product(y, y_stride, w, w_stride, x, x_stride, n, n_rows, first, end, next, true);
}

/* Where element d of a row of values lies, and its scale if blocks have one. */
enum { Q8_BLOCK = 32, Q8_BYTES = 34 };

VEC_INLINE const char *value_at(const char *row, int64_t d, const bool q8) {
    return q8 ? row + d / Q8_BLOCK * Q8_BYTES + 2 + d % Q8_BLOCK : row + (size_t)d * sizeof(uint16_t);
}

/* y[r][d] = sum_p s[r][p] v[p][d] for n_d <= 2 VEC neighbouring d from `d` on and a constant number of rows; whole: n_d is
 * 2 VEC; q8: values are q8_0, not F16. */
VEC_INLINE void few_sum(float *y, int64_t y_stride, const float *s, int64_t s_stride, const char *v, size_t v_stride, int64_t d,
                        int n_d, int64_t n_v, size_t ahead, const int n_x, const bool whole, const bool q8) {
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
        few_fetch(at, ahead, 1);
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
                             int64_t n, int64_t n_v, size_t ahead, const int n_x, const bool q8) {
    int64_t d = 0;
    for (; d + 2 * VEC <= n; d += 2 * VEC) {
        few_sum(y, y_stride, s, s_stride, v, v_stride, d, 2 * VEC, n_v, ahead, n_x, true, q8);
    }
    if (d < n && !q8) {
        few_sum(y, y_stride, s, s_stride, v, v_stride, d, (int)(n - d), n_v, ahead, n_x, false, false);
    }
}

VEC_INLINE void few_sum_any(float *y, int64_t y_stride, const float *s, int64_t s_stride, const char *v, size_t v_stride,
                            int64_t n, int64_t n_v, int n_rows, const char *next, const bool q8) {
    const size_t ahead = few_distance(v, next, 0);
    for (int r = 0; r < n_rows; r += FEW_ROWS, y += FEW_ROWS * y_stride, s += FEW_ROWS * s_stride) {
        switch (n_rows - r) {
        case 1: few_sum_rows(y, y_stride, s, s_stride, v, v_stride, n, n_v, ahead, 1, q8); break;
        case 2: few_sum_rows(y, y_stride, s, s_stride, v, v_stride, n, n_v, ahead, 2, q8); break;
        case 3: few_sum_rows(y, y_stride, s, s_stride, v, v_stride, n, n_v, ahead, 3, q8); break;
        default: few_sum_rows(y, y_stride, s, s_stride, v, v_stride, n, n_v, ahead, FEW_ROWS, q8); break;
        }
    }
}

static void few_sum_f16(float *y, int64_t y_stride, const float *s, int64_t s_stride, const void *v, size_t v_stride, int64_t n,
                        int64_t n_v, int n_rows, const void *next) {
    few_sum_any(y, y_stride, s, s_stride, v, v_stride, n, n_v, n_rows, next, false);
}

static void few_sum_q8_0(float *y, int64_t y_stride, const float *s, int64_t s_stride, const void *v, size_t v_stride, int64_t n,
                         int64_t n_v, int n_rows, const void *next) {
    few_sum_any(y, y_stride, s, s_stride, v, v_stride, n, n_v, n_rows, next, true);
}

#define FEW_KERNELS                                                                                                   \
    .few_product_f16 = few_product_f16, .few_product_f32 = few_product_f32, .few_sum_f16 = few_sum_f16,               \
    .few_sum_q8_0 = few_sum_q8_0
#else
#define FEW_KERNELS .few_product_f16 = NULL, .few_product_f32 = NULL, .few_sum_f16 = NULL, .few_sum_q8_0 = NULL
#endif
