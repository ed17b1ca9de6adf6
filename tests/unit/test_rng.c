/* Random numbers: known values, ranges, distributions. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"

static void test_generator_gives_the_published_sequence(void **state) {
    (void)state;
    /* xoshiro256** from state {1, 2, 3, 4}: first outputs of the reference implementation */
    struct rng r = {{1, 2, 3, 4}};
    static const uint64_t want[] = {
        11520u, 0u, 1509978240u, 1215971899390074240u, 1216172134540287360u, 607988272756665600u};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        assert_true(rng_next(&r) == want[i]);
    }
}

static void test_seeding_is_splitmix64(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 0);
    assert_true(r.s[0] == 0xE220A8397B1DCDAFu); /* first outputs of splitmix64 with seed 0 */
    assert_true(r.s[1] == 0x6E789E6AA1B965F4u);
    assert_true(r.s[2] == 0x06C45D188009454Fu);
    assert_true(r.s[3] == 0xF88BB8A8724C81ECu);
}

static void test_uniform_has_its_mean_variance_and_range(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 1);
    double sum = 0, squares = 0;
    const int n = 200000;
    for (int i = 0; i < n; i++) {
        const double u = rng_uniform(&r);
        assert_true(u >= 0.0 && u < 1.0);
        sum += u;
        squares += u * u;
    }
    const double mean = sum / n;
    assert_true(fabs(mean - 0.5) < 5 * sqrt(1.0 / 12 / n));
    assert_true(fabs(squares / n - mean * mean - 1.0 / 12) < 1e-3);
}

static void test_normal_has_its_moments(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 2);
    double m[5] = {0};
    const int n = 400000;
    for (int i = 0; i < n; i++) {
        const double x = rng_normal(&r);
        assert_true(isfinite(x));
        for (int k = 1; k <= 4; k++) {
            m[k] += pow(x, k) / n;
        }
    }
    assert_true(fabs(m[1]) < 0.01);
    assert_true(fabs(m[2] - 1) < 0.02);
    assert_true(fabs(m[3]) < 0.05);
    assert_true(fabs(m[4] - 3) < 0.15);
}

static void test_below_is_unbiased_and_in_range(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 3);
    int count[7] = {0};
    for (int i = 0; i < 70000; i++) {
        const uint64_t x = rng_below(&r, 7);
        assert_true(x < 7);
        count[x]++;
    }
    for (int i = 0; i < 7; i++) {
        assert_in_range(count[i], 9500, 10500);
    }
    /* where a plain remainder would give the lower half two thirds of the draws */
    const uint64_t n = (UINT64_MAX / 3) * 2;
    int low = 0;
    for (int i = 0; i < 30000; i++) {
        low += rng_below(&r, n) < n / 2;
    }
    assert_in_range(low, 14500, 15500);
    assert_true(rng_below(&r, 1) == 0);
}

static void test_shuffle_permutes_evenly(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 4);
    int seen[4][4] = {{0}};
    for (int round = 0; round < 24000; round++) {
        uint32_t items[4] = {0, 1, 2, 3};
        rng_shuffle(&r, items, 4);
        uint32_t all = 0;
        for (uint32_t i = 0; i < 4; i++) {
            all |= 1u << items[i];
            seen[i][items[i]]++;
        }
        assert_int_equal(all, 15);
    }
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 4; j++) {
            assert_in_range(seen[i][j], 5600, 6400);
        }
    }
    rng_shuffle(&r, NULL, 0);
}

static void test_equal_seeds_give_equal_sequences(void **state) {
    (void)state;
    struct rng a, b, c;
    rng_seed(&a, 77);
    rng_seed(&b, 77);
    rng_seed(&c, 78);
    bool differs = false;
    for (int i = 0; i < 100; i++) {
        const uint64_t x = rng_next(&a);
        assert_true(x == rng_next(&b));
        differs |= x != rng_next(&c);
    }
    assert_true(differs);
}

static void test_hash_is_stateless_and_mixes_every_argument(void **state) {
    (void)state;
    const uint64_t h = rng_hash(1, 2, 3);
    assert_true(h == rng_hash(1, 2, 3));
    assert_true(rng_hash(1, 3, 2) != h);
    int total = 0;
    for (int bit = 0; bit < 64; bit++) {
        const uint64_t flip = (uint64_t)1 << bit;
        const uint64_t changed[] = {rng_hash(1 ^ flip, 2, 3), rng_hash(1, 2 ^ flip, 3), rng_hash(1, 2, 3 ^ flip)};
        for (int i = 0; i < 3; i++) {
            const int bits = __builtin_popcountll(changed[i] ^ h);
            assert_in_range(bits, 10, 54);
            total += bits;
        }
    }
    assert_in_range(total, 3 * 64 * 31, 3 * 64 * 33); /* half of the bits on average */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generator_gives_the_published_sequence),
        cmocka_unit_test(test_seeding_is_splitmix64),
        cmocka_unit_test(test_uniform_has_its_mean_variance_and_range),
        cmocka_unit_test(test_normal_has_its_moments),
        cmocka_unit_test(test_below_is_unbiased_and_in_range),
        cmocka_unit_test(test_shuffle_permutes_evenly),
        cmocka_unit_test(test_equal_seeds_give_equal_sequences),
        cmocka_unit_test(test_hash_is_stateless_and_mixes_every_argument),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
