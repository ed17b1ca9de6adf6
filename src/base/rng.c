/* xoshiro256** and splitmix64 after D. Blackman and S. Vigna, "Scrambled linear pseudorandom number generators", 2021.
 */
#include "base/rng.h"

#include <math.h>

static uint64_t rotl(uint64_t x, int k) { return x << k | x >> (64 - k); }

/* The output function of splitmix64: a bijection of 64-bit words. */
static uint64_t mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static const uint64_t golden = 0x9E3779B97F4A7C15u;

void rng_seed(struct rng *r, uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        seed += golden;
        r->s[i] = mix(seed);
    }
}

uint64_t rng_next(struct rng *r) {
    uint64_t *s = r->s;
    const uint64_t result = rotl(s[1] * 5, 7) * 9;
    const uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

double rng_uniform(struct rng *r) { return (double)(rng_next(r) >> 11) * 0x1p-53; }

double rng_normal(struct rng *r) {
    const double u = 1.0 - rng_uniform(r); /* (0, 1]: the logarithm is finite */
    const double v = rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925286766559 * v);
}

uint64_t rng_below(struct rng *r, uint64_t n) {
    const uint64_t rest = (0 - n) % n; /* 2^64 mod n: that many values are left out, so that all are equally likely */
    uint64_t x;
    do {
        x = rng_next(r);
    } while (x < rest);
    return x % n;
}

void rng_shuffle(struct rng *r, uint32_t *items, size_t n) {
    for (size_t i = n; i > 1; i--) {
        const size_t j = (size_t)rng_below(r, i);
        const uint32_t kept = items[i - 1];
        items[i - 1] = items[j];
        items[j] = kept;
    }
}

uint64_t rng_hash(uint64_t seed, uint64_t a, uint64_t b) {
    uint64_t h = mix(seed + golden);
    h = mix(h + a + golden);
    return mix(h + b + golden);
}
