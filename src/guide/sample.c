#include "guide/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "guide/combine.h"
#include "ops/cpu.h"

enum { BLOCK = 1024, MAX_BLOCKS = 1024 }; /* of the vocabulary */

struct genarm_sampling genarm_sampling_default(void) {
    return (struct genarm_sampling){.temperature = 1.0f, .top_k = 0, .top_p = 1.0f, .min_p = 0.0f, .seed = 0};
}

int sampler_init(struct sampler *s, const struct genarm_sampling *params, int32_t n_vocab, struct genarm_error *err) {
    if (!(params->temperature >= 0.0f) || !isfinite(params->temperature)) {
        return error_set(err, GENARM_EINVAL, "temperature %g is not a number >= 0", (double)params->temperature);
    }
    if (params->top_k < 0) {
        return error_set(err, GENARM_EINVAL, "top-k %d is negative (0 turns it off)", params->top_k);
    }
    if (!(params->top_p > 0.0f && params->top_p <= 1.0f)) {
        return error_set(err, GENARM_EINVAL, "top-p %g is outside (0, 1]", (double)params->top_p);
    }
    if (!(params->min_p >= 0.0f && params->min_p < 1.0f)) {
        return error_set(err, GENARM_EINVAL, "min-p %g is outside [0, 1)", (double)params->min_p);
    }
    struct candidate *scratch = calloc((size_t)n_vocab, sizeof *scratch);
    if (!scratch) {
        return error_nomem(err, "a sampler");
    }
    *s = (struct sampler){.params = *params, .kernels = cpu_kernels(NULL), .candidates = scratch, .n_vocab = n_vocab};
    rng_seed(&s->rng, params->seed);
    return GENARM_OK;
}

void sampler_deinit(struct sampler *s) {
    free(s->candidates);
    s->candidates = NULL;
}

/* The first of the largest. */
static int32_t argmax(const float *x, int32_t n) {
    int32_t best = 0;
    float max = -INFINITY;
    for (int32_t first = 0; first < n; first += BLOCK) {
        const float m = largest(x + first, (size_t)(n - first < BLOCK ? n - first : BLOCK));
        if (m > max) {
            best = first;
            max = m;
        }
    }
    for (int32_t i = best; i < n; i++) {
        if (x[i] == max) {
            return i;
        }
    }
    return 0;
}

static bool before(const struct candidate *a, const struct candidate *b) {
    return a->p > b->p || (a->p == b->p && a->token < b->token);
}

static int compare(const void *a, const void *b) { return before(a, b) ? -1 : before(b, a) ? 1 : 0; }

static void swap(struct candidate *a, struct candidate *b) {
    const struct candidate t = *a;
    *a = *b;
    *b = t;
}

/* Moves the k foremost of c[0, n) to the front, sorted (quickselect, then sort). */
static void sort_front(struct candidate *c, int32_t n, int32_t k) {
    for (int32_t lo = 0, hi = n - 1; lo < hi;) {
        swap(&c[lo + (hi - lo) / 2], &c[hi]);
        int32_t store = lo;
        for (int32_t i = lo; i < hi; i++) {
            if (before(&c[i], &c[hi])) {
                swap(&c[i], &c[store++]);
            }
        }
        swap(&c[store], &c[hi]);
        if (store == k - 1 || store == k) {
            break;
        }
        if (store < k) {
            lo = store + 1;
        } else {
            hi = store - 1;
        }
    }
    qsort(c, (size_t)(k < n ? k : n), sizeof *c, compare);
}

int32_t sampler_foremost(struct sampler *s, const float *logp, int32_t n, int32_t k) {
    int32_t found = 0;
    for (int32_t t = 0; t < n; t++) {
        if (logp[t] > -INFINITY) {
            s->candidates[found++] = (struct candidate){.p = logp[t], .token = t};
        }
    }
    k = k < found ? k : found;
    if (k > 0) {
        sort_front(s->candidates, found, k);
    }
    return k;
}

/* How many of the sorted front reach the share `top_p` of `total`; 0 if the front of k does not reach it. */
static int32_t reach(const struct candidate *c, int32_t k, double share) {
    double sum = 0.0;
    for (int32_t i = 0; i < k; i++) {
        sum += (double)c[i].p;
        if (sum >= share) {
            return i + 1;
        }
    }
    return 0;
}

/* Candidates left after top-k, top-p and min-p; the first ones of c. */
static int32_t filter(const struct genarm_sampling *p, struct candidate *c, int32_t n) {
    if (p->top_k > 0 && p->top_k < n) {
        sort_front(c, n, p->top_k);
        n = p->top_k;
    }
    if (p->top_p < 1.0f) {
        double total = 0.0;
        for (int32_t i = 0; i < n; i++) {
            total += (double)c[i].p;
        }
        int32_t kept = 0;
        for (int32_t k = 64; kept == 0; k *= 4) { /* most distributions need few */
            const int32_t front = k < n ? k : n;
            sort_front(c, n, front);
            kept = reach(c, front, (double)p->top_p * total);
            if (front == n && kept == 0) {
                kept = n;
            }
        }
        n = kept;
    }
    if (p->min_p > 0.0f) { /* relative to the likeliest, whose p is 1 before normalisation */
        int32_t kept = 0;
        for (int32_t i = 0; i < n; i++) {
            if (c[i].p >= p->min_p) {
                c[kept++] = c[i];
            }
        }
        n = kept;
    }
    return n;
}

/* A draw from all tokens: first the block, then the token in it. */
static int32_t draw_unfiltered(struct sampler *s, const float *logp, float max, float scale) {
    const int32_t n = s->n_vocab;
    double sums[MAX_BLOCKS], total = 0.0;
    int32_t n_blocks = 0;
    for (int32_t t = 0; t < n; t += BLOCK) {
        sums[n_blocks] = s->kernels->exp_sum(logp + t, n - t < BLOCK ? n - t : BLOCK, max, scale);
        total += sums[n_blocks++];
    }
    double left = rng_uniform(&s->rng) * total;
    int32_t block = 0, last = -1;
    while (block < n_blocks - 1 && left >= sums[block]) {
        left -= sums[block++];
    }
    const int32_t first = block * BLOCK, count = n - first < BLOCK ? n - first : BLOCK;
    float p[BLOCK];
    s->kernels->exp(p, logp + first, count, max, scale);
    for (int32_t i = 0; i < count; i++) {
        left -= (double)p[i];
        last = p[i] > 0.0f ? first + i : last;
        if (left < 0.0 && p[i] > 0.0f) {
            return first + i;
        }
    }
    return last; /* rounding left a little over */
}

static bool filters(const struct sampler *s) {
    const struct genarm_sampling *p = &s->params;
    return p->top_k != 0 || p->top_p != 1.0f || p->min_p != 0.0f;
}

/* Candidates that temperature and filters leave, likeliest first where something is filtered; 0: nothing but -inf or NaN. */
static int32_t find_candidates(struct sampler *s, const float *logp, float max, float scale) {
    int32_t n = 0;
    for (int32_t first = 0; first < s->n_vocab; first += BLOCK) {
        const int32_t count = s->n_vocab - first < BLOCK ? s->n_vocab - first : BLOCK;
        float p[BLOCK];
        s->kernels->exp(p, logp + first, count, max, scale);
        for (int32_t i = 0; i < count; i++) {
            if (p[i] > 0.0f) {
                s->candidates[n++] = (struct candidate){.p = p[i], .token = first + i};
            }
        }
    }
    return n ? filter(&s->params, s->candidates, n) : 0;
}

static double total_of(const struct candidate *c, int32_t n) {
    double total = 0.0;
    for (int32_t i = 0; i < n; i++) {
        total += (double)c[i].p;
    }
    return total;
}

int32_t sampler_draw(struct sampler *s, const float *logp) {
    const int32_t best = argmax(logp, s->n_vocab);
    const float max = logp[best], scale = 1.0f / s->params.temperature;
    if (!isfinite(scale)) { /* temperature 0, or as good as that */
        return best;
    }
    if (!filters(s) && s->n_vocab <= BLOCK * MAX_BLOCKS) {
        const int32_t token = isfinite(max) ? draw_unfiltered(s, logp, max, scale) : best;
        return token < 0 ? best : token;
    }
    const int32_t n = find_candidates(s, logp, max, scale);
    if (n == 0) { /* the engine's fault, not a reason to read before the array */
        return best;
    }
    double left = rng_uniform(&s->rng) * total_of(s->candidates, n);
    for (int32_t i = 0; i < n - 1; i++) {
        left -= (double)s->candidates[i].p;
        if (left < 0.0) {
            return s->candidates[i].token;
        }
    }
    return s->candidates[n - 1].token;
}

void sampler_distribution(struct sampler *s, const float *logp, float *p) {
    const int32_t best = argmax(logp, s->n_vocab);
    const float max = logp[best], scale = 1.0f / s->params.temperature;
    const bool greedy = !isfinite(scale) || !isfinite(max);
    if (!greedy && !filters(s)) {
        s->kernels->exp(p, logp, s->n_vocab, max, scale);
        const float norm = (float)(1.0 / s->kernels->exp_sum(logp, s->n_vocab, max, scale));
        for (int32_t t = 0; t < s->n_vocab; t++) {
            p[t] *= norm;
        }
        return;
    }
    const int32_t n = greedy ? 0 : find_candidates(s, logp, max, scale);
    const double total = total_of(s->candidates, n);
    memset(p, 0, (size_t)s->n_vocab * sizeof *p);
    for (int32_t i = 0; i < n; i++) {
        p[s->candidates[i].token] = (float)((double)s->candidates[i].p / total);
    }
    if (n == 0) {
        p[best] = 1.0f;
    }
}

int32_t sampler_draw_from(struct sampler *s, const float *p) {
    double total = 0.0;
    for (int32_t t = 0; t < s->n_vocab; t++) {
        total += (double)p[t];
    }
    if (!(total > 0.0)) {
        return -1;
    }
    double left = rng_uniform(&s->rng) * total;
    int32_t last = -1;
    for (int32_t t = 0; t < s->n_vocab; t++) {
        left -= (double)p[t];
        last = p[t] > 0.0f ? t : last;
        if (left < 0.0 && p[t] > 0.0f) {
            return t;
        }
    }
    return last; /* rounding left a little over */
}
