#include "guide/combine.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 4, VECTORS = 4, LANES = WIDTH * VECTORS, BLOCK = 1024 }; /* LANES independent sums, in a fixed order */

/* What every processor that this runs on has registers for. */
typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH)));

static inline vec vec_load(const float *x) {
    vec v;
    memcpy(&v, x, sizeof v);
    return v;
}

/* n <= WIDTH entries, and -inf for the rest. */
static inline vec vec_load_part(const float *x, size_t n) {
    vec v = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    memcpy(&v, x, n * sizeof *x);
    return v;
}

/* e^x for x <= 0 within 2 ulp; 0 below -87, NaN for NaN. After Cephes' expf: 2^n * e^r with |r| <= ln 2 / 2. */
static inline vec exp_nonpositive(vec x) {
    const vec low = {-87.0f, -87.0f, -87.0f, -87.0f};
    const ivec is_above = x >= low; /* not for NaN, which is no exponent */
    const vec clamped = (vec)((is_above & (ivec)x) | (~is_above & (ivec)low));
    const vec n = (clamped * 1.44269504f + 12582912.0f) - 12582912.0f; /* nearest integer */
    const vec r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const vec scale = (vec)((__builtin_convertvector(n, ivec) + 127) << 23);
    return (vec)(~(x < low) & (ivec)(p * scale + (x - clamped))); /* adds 0, or NaN */
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
        vec sums[VECTORS] = {{0}}; /* short sums in f32, then on in double: the error stays below 1e-6 for any n */
        for (const size_t end = i + BLOCK < n ? i + BLOCK : n; i + LANES <= end; i += LANES) {
            for (size_t v = 0; v < VECTORS; v++) {
                sums[v] += exp_nonpositive((vec_load(x + i + v * WIDTH) - max) * scale);
            }
        }
        for (int j = 0; j < LANES; j++) {
            sum += (double)sums[j / WIDTH][j % WIDTH];
        }
    }
    for (; i < n; i += WIDTH) {
        const size_t left = n - i < WIDTH ? n - i : WIDTH;
        const vec e = exp_nonpositive((vec_load_part(x + i, left) - max) * scale);
        for (size_t j = 0; j < left; j++) {
            sum += (double)e[j];
        }
    }
    return sum;
}

void exp_all(float *out, const float *x, size_t n, float max, float scale) {
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        const vec e = exp_nonpositive((vec_load(x + i) - max) * scale);
        memcpy(out + i, &e, sizeof e);
    }
    if (i < n) {
        const vec e = exp_nonpositive((vec_load_part(x + i, n - i) - max) * scale);
        memcpy(out + i, &e, (n - i) * sizeof *out);
    }
}

float log_sum_exp(const float *logits, size_t n) {
    const float max = largest(logits, n);
    return max + (float)log(exp_sum(logits, n, max, 1.0f));
}

bool normalize(float *logits, size_t n) {
    const float z = log_sum_exp(logits, n);
    for (size_t t = 0; t < n; t++) {
        logits[t] -= z;
    }
    return isfinite(z);
}

/* H = log Z - sum_t p(t) l(t). */
float entropy(const float *logits, size_t n) {
    const float max = largest(logits, n);
    double sum = 0.0, weighted = 0.0;
    for (size_t first = 0; first < n; first += BLOCK) {
        const size_t count = n - first < BLOCK ? n - first : BLOCK;
        float e[BLOCK];
        exp_all(e, logits + first, count, max, 1.0f);
        for (size_t i = 0; i < count; i++) {
            const double p = (double)e[i];
            sum += p;
            weighted += p > 0.0 ? p * (double)(logits[first + i] - max) : p; /* 0 log 0 = 0, and NaN stays */
        }
    }
    const double h = log(sum) - weighted / sum;
    return h < 0.0 ? 0.0f : (float)h;
}

/* out += weight * part, or for the first part out = weight * part. What has no probability has none in the mixture. */
static void add_part(float *out, const struct part *p, size_t n, bool first) {
    for (size_t t = 0; t < n; t++) {
        const float sum = (first ? 0.0f : out[t]) + p->weight * p->logits[t];
        out[t] = p->logits[t] == -INFINITY ? -INFINITY : sum;
    }
}

/* The parts' own normalisers do not depend on the token: one normalisation of the weighted sum takes care of all. */
bool combine(float *out, const struct part *parts, size_t n_parts) {
    size_t n = parts[0].n;
    add_part(out, &parts[0], n, true);
    for (size_t i = 1; i < n_parts; i++) {
        if (parts[i].weight != 0.0f) { /* exactly the base, also where log pi_i is -inf */
            n = parts[i].n < n ? parts[i].n : n;
            add_part(out, &parts[i], n, false);
        }
    }
    const bool ok = normalize(out, n);
    for (size_t t = n; t < parts[0].n; t++) {
        out[t] = -INFINITY;
    }
    return ok;
}
