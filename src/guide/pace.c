#include "guide/pace.h"

#include <math.h>

enum { PATIENCE_MIN = 16, PATIENCE_MAX = 128, PROBE = 4, VARY = 24 };

static const double memory = 0.98; /* what is kept of old tests at each new one */

/* A machine that is busy otherwise makes a time longer, nothing makes it shorter: down quickly, up slowly. */
static double smoothed(double old, double now) {
    const double calm = now > 4.0 * old ? 4.0 * old : now;
    return old > 0.0 ? old + (calm < old ? 0.5 : 0.125) * (calm - old) : now;
}

/* ---- costs ---- */

void costs_record(struct pass_costs *c, int32_t n, double seconds) {
    if (n < 1 || n > COSTS_MAX || seconds <= 0.0) {
        return;
    }
    if (c->met[n]) {
        c->seconds[n] = smoothed(c->seconds[n], seconds);
        c->largest = n > c->largest ? n : c->largest;
    }
    c->met[n] = true;
}

/* A measured pass, or what a larger one took if that was less. */
static double measured(const struct pass_costs *c, int32_t n) {
    double least = c->seconds[n];
    for (int32_t i = n + 1; i <= c->largest; i++) {
        least = c->seconds[i] > 0.0 && c->seconds[i] < least ? c->seconds[i] : least;
    }
    return least;
}

/* The nearest measured number from n on in a direction; 0: there is none. */
static int32_t neighbour(const struct pass_costs *c, int32_t n, int32_t step) {
    for (; n >= 1 && n <= c->largest; n += step) {
        if (c->seconds[n] > 0.0) {
            return n;
        }
    }
    return 0;
}

double costs_at(const struct pass_costs *c, int32_t n) {
    const int32_t within = n < c->largest ? n : c->largest;
    const int32_t high = neighbour(c, within, 1), low = neighbour(c, within, -1);
    if (high == 0) {
        return 0.0;
    }
    const double b = measured(c, high);
    if (high == low || low == 0) {
        return b;
    }
    const double a = measured(c, low);
    return a + (b - a) * (double)(within - low) / (double)(high - low);
}

/* ---- lengths ---- */

void pace_init(struct pace *p) {
    *p = (struct pace){.tested = 4.0, .accepted = 3.0, .patience = PATIENCE_MIN}; /* as if a few had gone well */
}

void pace_tested(struct pace *p, int32_t n_tested, int32_t n_accepted) {
    const double keep = pow(memory, n_tested);
    p->tested = keep * p->tested + n_tested;
    p->accepted = keep * p->accepted + n_accepted;
}

void pace_drafted(struct pace *p, double seconds) { p->drafting = smoothed(p->drafting, seconds); }

/* Tokens that a pass keeps of n drafted ones: 1 + a + … + a^n. */
static double expected_tokens(double a, int32_t n) {
    double sum = 1.0, power = 1.0;
    for (int32_t i = 0; i < n; i++) {
        power *= a;
        sum += power;
    }
    return sum;
}

static int32_t positions(struct company company, int32_t n) { return company.n_drafting * (n + 1) + company.n_plain; }

static double time_of(const struct pace *p, const struct pass_costs *c, struct company company, int32_t n) {
    return n * p->drafting + costs_at(c, positions(company, n));
}

static int32_t best_length(const struct pace *p, const struct pass_costs *c, struct company company, int32_t n_min,
                           int32_t n_max) {
    const double a = p->accepted / p->tested;
    int32_t best = n_min;
    double most = expected_tokens(a, n_min) / time_of(p, c, company, n_min);
    for (int32_t n = n_min + 1; n <= n_max && positions(company, n) <= 2 * c->largest; n++) {
        const double rate = expected_tokens(a, n) / time_of(p, c, company, n);
        if (rate > most) {
            most = rate;
            best = n;
        }
    }
    return best;
}

/* The best length, but now and then twice or half of it, whose cost may have been measured at a bad moment. */
static int32_t vary(struct pace *p, int32_t best, int32_t n_min, int32_t n_max) {
    if (++p->n_chosen % VARY != 0) {
        return best;
    }
    const int32_t other = p->n_chosen % (2 * VARY) == 0 ? best / 2 : 2 * best;
    return other < n_min ? n_min : other > n_max ? n_max : other;
}

int32_t pace_choose(struct pace *p, const struct pass_costs *c, struct company company, int32_t n_min, int32_t n_max) {
    while (n_max > n_min && positions(company, n_max) > COSTS_MAX) { /* what is not measured would seem to cost nothing more */
        n_max--;
    }
    if (n_min >= n_max || c->largest == 0) {
        return n_min < n_max ? n_min : n_max;
    }
    const int32_t best = best_length(p, c, company, n_min, n_max);
    if (best > n_min) {
        p->idle = 0;
        p->patience = PATIENCE_MIN;
        return vary(p, best, n_min, n_max);
    }
    if (++p->idle < p->patience) {
        return n_min;
    }
    p->idle = 0;
    p->accepted *= p->tested > PROBE ? PROBE / p->tested : 1.0; /* what was seen a while ago says little about this text */
    p->tested = p->tested > PROBE ? PROBE : p->tested;
    p->patience = 2 * p->patience < PATIENCE_MAX ? 2 * p->patience : PATIENCE_MAX;
    const int32_t probe = n_min > PROBE ? n_min : PROBE;
    return probe < n_max ? probe : n_max;
}

/* The acceptance at which n drafted tokens give `tokens` a pass. */
static double acceptance_for(double tokens, int32_t n) {
    double low = 0.0, high = 1.0;
    for (int i = 0; i < 40; i++) {
        const double a = (low + high) / 2;
        if (expected_tokens(a, n) < tokens) {
            low = a;
        } else {
            high = a;
        }
    }
    return high;
}

double pace_break_even(const struct pace *p, const struct pass_costs *c, int32_t n_max) {
    const struct company alone = {.n_drafting = 1};
    if (c->seconds[1] <= 0.0 || c->largest < 2 || p->drafting <= 0.0) {
        return NAN;
    }
    const double plain = time_of(p, c, alone, 0);
    double least = 1.0;
    for (int32_t n = 1; n <= n_max && n + 1 <= c->largest; n++) {
        const double a = acceptance_for(time_of(p, c, alone, n) / plain, n);
        least = a < least ? a : least;
    }
    return least;
}
