/* How many tokens to draft: the number that gives most tokens a second by the acceptance and the times measured so far.
 *
 * Of n drafted tokens that are each accepted with probability a, a verifying pass keeps 1 + a + … + a^n = E(n) (Leviathan et
 * al., 2023, eq. 1) and costs n drafting steps and the pass: n is where E(n) / T(n) is largest, 0 where drafting does not pay.
 * Only the past is looked at, so that what is sampled does not depend on it, but with which random numbers does. */
#ifndef GUIDE_PACE_H
#define GUIDE_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum { COSTS_MAX = 128 };

/* Seconds of a pass, by the positions whose mixture it computes. A guide has one: passes are of many sessions. */
struct pass_costs {
    double seconds[COSTS_MAX + 1]; /* running mean; 0: not measured */
    bool met[COSTS_MAX + 1];       /* the first of a kind builds a graph and is not counted */
    int32_t largest;               /* measured so far; 0: none */
};

void costs_record(struct pass_costs *c, int32_t n, double seconds);
/* An estimate from what is measured: linear between neighbours, never more than a larger pass took, and hopeful below and
 * beyond all, so that lengths are tried. 0: nothing is measured. */
double costs_at(const struct pass_costs *c, int32_t n);

/* What one session has seen. */
struct pace {
    double tested, accepted; /* drafted tokens; old ones count less and less */
    double drafting;         /* seconds of a drafted token, running mean; 0: not measured */
    int32_t idle, patience;  /* passes since drafting last seemed to pay; after how many it is tried again */
    uint32_t n_chosen;       /* lengths since then */
};

void pace_init(struct pace *p);
void pace_tested(struct pace *p, int32_t n_tested, int32_t n_accepted);
void pace_drafted(struct pace *p, double seconds); /* for one token */

/* Who else is in the pass. */
struct company {
    int32_t n_drafting; /* sessions that draft, with this one */
    int32_t n_plain;    /* sessions that do not */
};

/* A length in [n_min, n_max]; n_min until a pass is measured. At most doubles the positions that were measured, up to COSTS_MAX,
 * and now and then tries other lengths than the best, and drafting where it did not pay. */
int32_t pace_choose(struct pace *p, const struct pass_costs *c, struct company company, int32_t n_min, int32_t n_max);

/* The least acceptance at which some length up to n_max beats none, for one session; 1: none does; NaN: not measured. */
double pace_break_even(const struct pace *p, const struct pass_costs *c, int32_t n_max);

#endif
