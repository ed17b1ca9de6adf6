#include "guide/combine.h"

#include <math.h>
#include <string.h>

enum { LANES = 16, BLOCK = 1024 }; /* independent sums, in a fixed order: vectorises without licence to reorder */

/* e^x for x <= 0 within 2 ulp; 0 below -87, NaN for NaN. After Cephes' expf: 2^n * e^r with |r| <= ln 2 / 2. */
static inline float exp_nonpositive(float x) {
    const float clamped = x >= -87.0f ? x : -87.0f; /* also for NaN, which is no exponent */
    const float n = (clamped * 1.44269504f + 12582912.0f) - 12582912.0f; /* nearest integer */
    const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t bits = ((int32_t)n + 127) * (1 << 23);
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return x < -87.0f ? 0.0f : p * scale + (x - clamped); /* adds 0, or NaN */
}

static float largest(const float *x, size_t n) {
    float lanes[LANES];
    for (int j = 0; j < LANES; j++) {
        lanes[j] = -INFINITY;
    }
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int j = 0; j < LANES; j++) {
            lanes[j] = x[i + (size_t)j] > lanes[j] ? x[i + (size_t)j] : lanes[j];
        }
    }
    float m = -INFINITY;
    for (; i < n; i++) {
        m = x[i] > m ? x[i] : m;
    }
    for (int j = 0; j < LANES; j++) {
        m = lanes[j] > m ? lanes[j] : m;
    }
    return m;
}

double exp_sum(const float *x, size_t n, float max, float scale) {
    double sum = 0.0;
    size_t i = 0;
    while (i + LANES <= n) {
        float lanes[LANES] = {0}; /* short sums in f32, then on in double: the error stays below 1e-6 for any n */
        for (const size_t end = i + BLOCK < n ? i + BLOCK : n; i + LANES <= end; i += LANES) {
            for (int j = 0; j < LANES; j++) {
                lanes[j] += exp_nonpositive((x[i + (size_t)j] - max) * scale);
            }
        }
        for (int j = 0; j < LANES; j++) {
            sum += (double)lanes[j];
        }
    }
    for (; i < n; i++) {
        sum += (double)exp_nonpositive((x[i] - max) * scale);
    }
    return sum;
}

void exp_all(float *out, const float *x, size_t n, float max, float scale) {
    for (size_t i = 0; i < n; i++) {
        out[i] = exp_nonpositive((x[i] - max) * scale);
    }
}

float log_sum_exp(const float *logits, size_t n) {
    const float max = largest(logits, n);
    return max + (float)log(exp_sum(logits, n, max, 1.0f));
}

/* The parts' own normalisers do not depend on the token: one normalisation of the weighted sum takes care of all. */
bool combine(float *out, const struct part *parts, size_t n_parts) {
    size_t n = parts[0].n;
    memcpy(out, parts[0].logits, n * sizeof *out);
    for (size_t i = 1; i < n_parts; i++) {
        const struct part *p = &parts[i];
        if (p->weight == 0.0f) { /* exactly the base, also where log pi_i is -inf */
            continue;
        }
        n = p->n < n ? p->n : n;
        for (size_t t = 0; t < n; t++) {
            out[t] += p->weight * p->logits[t];
        }
    }
    const float z = log_sum_exp(out, n);
    for (size_t t = 0; t < n; t++) {
        out[t] -= z;
    }
    for (size_t t = n; t < parts[0].n; t++) {
        out[t] = -INFINITY;
    }
    return isfinite(z);
}
