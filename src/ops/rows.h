/* Row-wise kernels, written over vec.h; included once by each kernels_*.c. */
#include <math.h>
#include <stdbool.h>

#include "ops/vec.h"

/* Elements [i, i + VEC) of a row of n, or what is left of it (0 in the other lanes). */
VEC_INLINE vf load_at(const float *x, int64_t i, int64_t n) {
    return i + VEC <= n ? v_load(x + i) : v_load_part(x + i, (int)(n - i));
}

VEC_INLINE void store_at(float *x, int64_t i, int64_t n, vf a) {
    if (i + VEC <= n) {
        v_store(x + i, a);
    } else {
        v_store_part(x + i, (int)(n - i), a);
    }
}

/* ---- norm ----------------------------------------------------------------------------------------------------- */

static float inverse_rms(const float *x, int64_t n, float eps) {
    vf sum[2] = {v_zero(), v_zero()};
    int64_t i = 0;
    for (; i + 2 * VEC <= n; i += 2 * VEC) {
        const vf a = v_load(x + i), b = v_load(x + i + VEC);
        sum[0] = v_fma(a, a, sum[0]);
        sum[1] = v_fma(b, b, sum[1]);
    }
    for (; i < n; i += VEC) {
        const vf a = load_at(x, i, n);
        sum[0] = v_fma(a, a, sum[0]);
    }
    return 1.0f / sqrtf(v_sum(v_add(sum[0], sum[1])) / (float)n + eps);
}

static void row_rms_norm(float *y, const float *x, const float *w, int64_t n, float eps) {
    const vf r = v_set1(inverse_rms(x, n, eps));
    for (int64_t i = 0; i < n; i += VEC) {
        store_at(y, i, n, v_mul(v_mul(load_at(x, i, n), r), load_at(w, i, n)));
    }
}

/* y_i = r w_i x_i with r = (mean(x^2) + eps)^-1/2, so dx_i = r w_i dy_i - x_i r^3 / n sum_j w_j dy_j x_j */
static void row_rms_norm_back(float *dx, const float *x, const float *w, const float *dy, const float *add, int64_t n,
                              float eps) {
    const float r = inverse_rms(x, n, eps);
    vf sum = v_zero();
    for (int64_t i = 0; i < n; i += VEC) {
        sum = v_fma(v_mul(load_at(w, i, n), load_at(dy, i, n)), load_at(x, i, n), sum);
    }
    const vf along = v_set1(v_sum(sum) * r * r * r / (float)n), rv = v_set1(r);
    for (int64_t i = 0; i < n; i += VEC) {
        vf d = v_mul(rv, v_mul(load_at(w, i, n), load_at(dy, i, n)));
        d = v_fnma(along, load_at(x, i, n), d);
        store_at(dx, i, n, add ? v_add(load_at(add, i, n), d) : d);
    }
}

/* ---- swiglu --------------------------------------------------------------------------------------------------- */

VEC_INLINE vf sigmoid(vf x) { return v_div(v_set1(1.0f), v_add(v_set1(1.0f), v_exp(v_sub(v_zero(), x)))); }

static void row_swiglu(float *y, const float *gate, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i += VEC) {
        const vf g = load_at(gate, i, n);
        store_at(y, i, n, v_mul(v_mul(g, sigmoid(g)), load_at(up, i, n)));
    }
}

/* silu(g) = g s, s = sigmoid(g); silu'(g) = s (1 + g (1 - s)) */
static void row_swiglu_back(float *dgate, float *dup, const float *gate, const float *up, const float *dy, int64_t n) {
    for (int64_t i = 0; i < n; i += VEC) {
        const vf g = load_at(gate, i, n), d = load_at(dy, i, n), s = sigmoid(g);
        const vf slope = v_mul(s, v_fma(g, v_sub(v_set1(1.0f), s), v_set1(1.0f)));
        store_at(dup, i, n, v_mul(d, v_mul(g, s)));
        store_at(dgate, i, n, v_mul(v_mul(d, load_at(up, i, n)), slope));
    }
}

/* ---- rotation ------------------------------------------------------------------------------------------------- */

/* Rotates the first n_rot of n elements in pairs: (2i, 2i + 1), or (i, i + n_rot/2) for neox. table: for each of the n_rot
 * elements the factor of itself, then for each that of its partner (cos, and sin with its sign). back: by the negated angle.
 * y may be x: both values of a pair are read before either is written. */
static void row_rope(float *y, const float *x, const float *table, int64_t n, int n_rot, bool neox, bool back) {
    const float *own = table, *other = table + n_rot;
    const vf sign = v_set1(back ? -1.0f : 1.0f);
    if (neox) {
        const int half = n_rot / 2;
        for (int i = 0; i < half; i += VEC) {
            const vf a = load_at(x, i, half), b = load_at(x + half, i, half);
            const vf sa = v_mul(sign, load_at(other, i, half)), sb = v_mul(sign, load_at(other + half, i, half));
            store_at(y, i, half, v_fma(a, load_at(own, i, half), v_mul(b, sa)));
            store_at(y + half, i, half, v_fma(b, load_at(own + half, i, half), v_mul(a, sb)));
        }
    } else {
        for (int i = 0; i < n_rot; i += VEC) {
            const vf a = load_at(x, i, n_rot), s = v_mul(sign, load_at(other, i, n_rot));
            store_at(y, i, n_rot, v_fma(a, load_at(own, i, n_rot), v_mul(v_swap_pairs(a), s)));
        }
    }
    if (y != x && n > n_rot) {
        memcpy(y + n_rot, x + n_rot, (size_t)(n - n_rot) * sizeof(float));
    }
}

/* ---- softmax -------------------------------------------------------------------------------------------------- */

static float row_max(const float *x, int64_t n) {
    vf max = v_set1(x[0]);
    int64_t i = 0;
    for (; i + VEC <= n; i += VEC) {
        max = v_max(max, v_load(x + i));
    }
    float lanes[VEC];
    v_store(lanes, max);
    float m = lanes[0];
    for (int j = 1; j < VEC; j++) {
        m = lanes[j] > m ? lanes[j] : m;
    }
    for (; i < n; i++) {
        m = x[i] > m ? x[i] : m;
    }
    return m;
}

/* x = exp(x) / sum exp(x) */
static void row_softmax(float *x, int64_t n) {
    const vf max = v_set1(row_max(x, n));
    vf sum = v_zero();
    for (int64_t i = 0; i < n; i += VEC) {
        store_at(x, i, n, v_exp(v_sub(load_at(x, i, n), max)));
        sum = v_add(sum, load_at(x, i, n)); /* 0 beyond n */
    }
    const vf scale = v_set1(1.0f / v_sum(sum));
    for (int64_t i = 0; i < n; i += VEC) {
        store_at(x, i, n, v_mul(load_at(x, i, n), scale));
    }
}

static float row_log_sum_exp(const float *x, int64_t n) {
    const float m = row_max(x, n);
    const vf mv = v_set1(m);
    vf sum[2] = {v_zero(), v_zero()};
    int64_t i = 0;
    for (; i + 2 * VEC <= n; i += 2 * VEC) {
        sum[0] = v_add(sum[0], v_exp(v_sub(v_load(x + i), mv)));
        sum[1] = v_add(sum[1], v_exp(v_sub(v_load(x + i + VEC), mv)));
    }
    float tail = 0;
    for (; i < n; i++) {
        tail += expf(x[i] - m);
    }
    return m + logf(v_sum(v_add(sum[0], sum[1])) + tail);
}

/* Numbers that are summed in f32 before they are in double, 64 in each of two lanes: the error stays below 1e-6 for any n. */
enum { SUM_TOGETHER = 64 * 2 * VEC };

/* sum_i exp((x[i] - max) scale) */
static double row_exp_sum(const float *x, int64_t n, float max, float scale) {
    const vf m = v_set1(max), s = v_set1(scale);
    double total = 0;
    for (int64_t first = 0; first < n; first += SUM_TOGETHER) {
        const int64_t end = n - first < SUM_TOGETHER ? n : first + SUM_TOGETHER;
        vf sum[2] = {v_zero(), v_zero()};
        int64_t i = first;
        for (; i + 2 * VEC <= end; i += 2 * VEC) {
            sum[0] = v_add(sum[0], v_exp(v_mul(v_sub(v_load(x + i), m), s)));
            sum[1] = v_add(sum[1], v_exp(v_mul(v_sub(v_load(x + i + VEC), m), s)));
        }
        float rest[VEC] = {0};
        for (; i < end; i += VEC) {
            const int part = (int)(end - i < VEC ? end - i : VEC);
            v_store_part(rest, part, v_exp(v_mul(v_sub(v_load_part(x + i, part), m), s)));
            sum[0] = v_add(sum[0], v_load_part(rest, part));
        }
        total += (double)v_sum(v_add(sum[0], sum[1]));
    }
    return total;
}

/* y = exp((x - max) scale), the numbers that row_exp_sum adds */
static void row_exp(float *y, const float *x, int64_t n, float max, float scale) {
    const vf m = v_set1(max), s = v_set1(scale);
    for (int64_t i = 0; i < n; i += VEC) {
        store_at(y, i, n, v_exp(v_mul(v_sub(load_at(x, i, n), m), s)));
    }
}

/* x = -exp(x - lse) */
static void row_negate_softmax(float *x, int64_t n, float lse) {
    const vf l = v_set1(lse);
    for (int64_t i = 0; i < n; i += VEC) {
        store_at(x, i, n, v_sub(v_zero(), v_exp(v_sub(load_at(x, i, n), l))));
    }
}

/* ---- dropout -------------------------------------------------------------------------------------------------- */

/* A 32-bit mix of good avalanche (C. Wellons' lowbias32) of a counter under a 64-bit key. */
VEC_INLINE uint32_t mix(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x21f0aaadu;
    x = (x ^ (x >> 15)) * 0xd35a2d97u;
    return x ^ (x >> 15);
}

/* y_i = 0 where the mix of first + i falls below threshold, else x_i * scale. y may be x. */
static void row_dropout(float *y, const float *x, int64_t n, uint64_t first, uint64_t key, uint32_t threshold, float scale) {
    for (int64_t i = 0; i < n; i++) {
        const uint64_t index = first + (uint64_t)i;
        const uint32_t inner = mix((uint32_t)index ^ (uint32_t)key);
        const uint32_t h = mix(inner + (uint32_t)(index >> 32) * 0x9e3779b9u + (uint32_t)(key >> 32));
        y[i] = h < threshold ? 0.0f : x[i] * scale;
    }
}

/* ---- few rows -------------------------------------------------------------------------------------------------- */

static void row_add_scaled(float *y, const float *s, const float *v, int64_t v_stride, int64_t n, int64_t n_v) {
    for (int64_t i = 0; i < n; i += VEC) {
        vf sum = load_at(y, i, n);
        for (int64_t p = 0; p < n_v; p++) {
            sum = v_fma(v_set1(s[p]), load_at(v + p * v_stride, i, n), sum);
        }
        store_at(y, i, n, sum);
    }
}

#define ROW_KERNELS                                                                                                   \
    .rms_norm = row_rms_norm, .rms_norm_back = row_rms_norm_back, .swiglu = row_swiglu,                               \
    .swiglu_back = row_swiglu_back, .rope = row_rope, .log_sum_exp = row_log_sum_exp,                                 \
    .exp_sum = row_exp_sum, .exp = row_exp,                                                                           \
    .softmax = row_softmax, .negate_softmax = row_negate_softmax, .dropout = row_dropout, .add_scaled = row_add_scaled
