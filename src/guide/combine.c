#include "guide/combine.h"

#include <math.h>

#include "ops/cpu.h"

enum { LANES = 16, BLOCK = 1024 };

float largest(const float *x, size_t n) {
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

float log_sum_exp(const float *logits, size_t n) {
    const float max = largest(logits, n);
    return max + (float)log(cpu_kernels(NULL)->exp_sum(logits, (int64_t)n, max, 1.0f));
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
    const struct kernels *kernels = cpu_kernels(NULL);
    const float max = largest(logits, n);
    double sum = 0.0, weighted = 0.0;
    for (size_t first = 0; first < n; first += BLOCK) {
        const size_t count = n - first < BLOCK ? n - first : BLOCK;
        float e[BLOCK];
        kernels->exp(e, logits + first, (int64_t)count, max, 1.0f);
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
