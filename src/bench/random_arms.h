/* ARMs of random numbers, for measurements by those who have trained none: they cost what trained ones cost. */
#ifndef BENCH_RANDOM_ARMS_H
#define BENCH_RANDOM_ARMS_H

#include "guide/guide.h"

enum { RANDOM_ARMS_RANK = 8 }; /* on q, k and v, as the published ones */

/* Makes n adapters on the base of a guide and adds them to it as its last ARMs, "random1", "random2", ... of weight 1; then the
 * guide is started. adapters [n], NULL where there is none yet, are the caller's to free after the guide, also after failure.
 */
int random_arms_add(struct genarm_guide *guide, struct genarm_adapter **adapters, int32_t n, struct genarm_error *err);

#endif
