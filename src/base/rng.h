/* Random numbers: xoshiro256** seeded by splitmix64 (Blackman & Vigna). Reproducible on every platform. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t s[4];
};

void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);              /* uniform over 64 bits */
double rng_uniform(struct rng *r);             /* [0, 1), 53 bits */
double rng_normal(struct rng *r);              /* mean 0, variance 1; no hidden state is kept between calls */
uint64_t rng_below(struct rng *r, uint64_t n); /* uniform over [0, n), unbiased; n > 0 */
void rng_shuffle(struct rng *r, uint32_t *items, size_t n); /* Fisher-Yates */

/* Stateless: a well-mixed 64-bit value of (seed, a, b). For dropout masks and per-item seeds. */
uint64_t rng_hash(uint64_t seed, uint64_t a, uint64_t b);

#endif
