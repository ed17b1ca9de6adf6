/* Points that trade objectives off: fronts, hypervolumes, and how well points follow the preferences they were made for.
 *
 * All objectives are maximised; points[n * n_objectives] lie one after the other. A point with a coordinate that is not finite
 * is no part of anything.
 */
#ifndef EVAL_PARETO_H
#define EVAL_PARETO_H

#include <stdbool.h>

#include "eval/bootstrap.h"

enum { PARETO_MAX_OBJECTIVES = 8 };

/* a is nowhere worse than b, and somewhere better. */
bool pareto_dominates(const double *a, const double *b, size_t n_objectives);

/* on_front[n]: points that no other dominates; of equal ones all. Returns how many. */
size_t pareto_front(bool *on_front, const double *points, size_t n, size_t n_objectives);

/* Volume that lies below at least one point and above the reference point: the product of the objectives' units, >= 0.
 * Exact, by exclusive volumes (WFG; While, Bradstreet & Barone, IEEE TEC 2012). A point not better than the reference in all
 * objectives adds nothing. n_objectives in 1 to PARETO_MAX_OBJECTIVES. */
int pareto_hypervolume(double *out, const double *points, size_t n, size_t n_objectives, const double *reference,
                       struct genarm_error *err);

/* The worst value of each objective over points: the reference point where none is given. NaN where there is none. */
void pareto_worst(double *reference, const double *points, size_t n, size_t n_objectives);

/* Rewards of the answers that points stand for: rewards[(point * n_objectives + objective) * n_prompts + prompt]; NaN: not
 * known. A point is the mean over prompts. */
struct pareto_rewards {
    const double *rewards;
    size_t n_points, n_objectives, n_prompts;
};

/* points[n_points * n_objectives]: the means. */
void pareto_means(double *points, const struct pareto_rewards *r);

/* The hypervolume of the means; the bootstrap draws prompts, the same for all points. */
int pareto_hypervolume_interval(struct interval *out, const struct pareto_rewards *r, const double *reference,
                                const struct bootstrap_params *params, struct genarm_error *err);

/* Normalisation of objectives: (x - low) / (high - low), not cut to [0, 1]; 0 where high = low. */
struct pareto_scale {
    double low[PARETO_MAX_OBJECTIVES], high[PARETO_MAX_OBJECTIVES];
};

/* Worst and best value of each objective over points: give it the points of all methods that are compared. */
void pareto_scale_of(struct pareto_scale *out, const double *points, size_t n, size_t n_objectives);

/* Mean inner product: the mean over points of sum_i p_i x_i, x the normalised rewards achieved under the preference p
 * (preferences[n_points * n_objectives], each >= 0; divided by their sum first, so that 1 is the best of all objectives at
 * once). `scale` NULL: rewards as they are. Larger is better: what was asked for was got (reported by PARM, arXiv 2505.06274).
 * A preference that sums to 0 leaves its point out. */
double pareto_mip(const double *preferences, const double *points, size_t n_points, size_t n_objectives,
                  const struct pareto_scale *scale);
int pareto_mip_interval(struct interval *out, const double *preferences, const struct pareto_rewards *r,
                        const struct pareto_scale *scale, const struct bootstrap_params *params, struct genarm_error *err);

#endif
