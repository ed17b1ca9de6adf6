/* The length of drafts, on machines whose costs are made up. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/rng.h"
#include "guide/pace.h"

enum { N_MAX = 16, PASSES = 3000 };

static const struct company alone = {.n_drafting = 1};

/* A pass costs first + more for each further position; a drafted token costs `draft`, and is kept with probability a. */
struct machine {
    double first, more, draft, a;
};

static double pass_cost(const struct machine *m, int32_t n_positions) { return m->first + m->more * (n_positions - 1); }

/* A cost that is known: the first pass of a kind is not counted. */
static void record(struct pass_costs *c, int32_t n, double seconds) {
    costs_record(c, n, 1e9);
    costs_record(c, n, seconds);
}

/* Positions of a pass of several sessions that draft n tokens each. */
static int32_t positions(struct company company, int32_t n) { return company.n_drafting * (n + 1) + company.n_plain; }

/* Tokens a second of one of them. */
static double rate(const struct machine *m, struct company company, int32_t n) {
    double tokens = 1.0;
    for (int32_t i = 1; i <= n; i++) {
        tokens += pow(m->a, i);
    }
    return tokens / (n * m->draft + pass_cost(m, positions(company, n)));
}

/* Tokens a second of a session that chooses its lengths, after it has learned; *idle: share of passes without a draft. */
static double run(struct pace *p, struct pass_costs *c, const struct machine *m, struct company company, double *idle) {
    struct rng rng;
    double tokens = 0.0, time = 0.0;
    rng_seed(&rng, 1);
    *idle = 0.0;
    for (int i = 0; i < PASSES; i++) {
        const int32_t n = pace_choose(p, c, company, 0, N_MAX);
        const double cost = pass_cost(m, positions(company, n));
        int32_t kept = 0;
        assert_in_range(n, 0, N_MAX);
        while (kept < n && rng_uniform(&rng) < m->a) {
            kept++;
        }
        pace_tested(p, kept + (kept < n), kept);
        costs_record(c, positions(company, n), cost);
        if (n > 0) {
            pace_drafted(p, m->draft);
        }
        if (i >= PASSES / 2) {
            tokens += kept + 1;
            time += n * m->draft + cost;
            *idle += n == 0 ? 2.0 / PASSES : 0.0;
        }
    }
    return tokens / time;
}

static void test_the_length_comes_near_the_best_fixed_one(void **state) {
    (void)state;
    const struct machine machines[] = {
        {1, 0.02, 0.1, 0.9}, {1, 0.1, 0.1, 0.7}, {1, 0.3, 0.05, 0.8}, {1, 0.02, 0.3, 0.6}, {1, 0.01, 0.001, 0.97},
        {1, 0.5, 0.2, 0.2},
    };
    const struct company companies[] = {alone, {.n_drafting = 8}, {.n_drafting = 32}, {.n_drafting = 24, .n_plain = 8},
                                        {.n_drafting = 96}};
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++) {
        for (size_t k = 0; k < sizeof companies / sizeof *companies; k++) {
            double best = 0.0, idle;
            struct pace p;
            struct pass_costs c = {0};
            for (int32_t n = 0; n <= N_MAX && positions(companies[k], n) <= COSTS_MAX; n++) {
                best = fmax(best, rate(&machines[i], companies[k], n));
            }
            pace_init(&p);
            assert_true(run(&p, &c, &machines[i], companies[k], &idle) > 0.93 * best);
        }
    }
}

static void test_drafting_that_does_not_pay_is_left_off_and_tried_again(void **state) {
    (void)state;
    const struct machine useless = {1, 0.5, 0.5, 0.1}, useful = {1, 0.05, 0.1, 0.9};
    struct pace p;
    struct pass_costs c = {0};
    double idle;
    pace_init(&p);
    run(&p, &c, &useless, alone, &idle);
    assert_true(idle > 0.95 && idle < 1.0);
    run(&p, &c, &useful, alone, &idle); /* the text or the machine changes */
    assert_true(idle < 0.05);
}

static void test_bounds_are_kept(void **state) {
    (void)state;
    struct pace p;
    struct pass_costs c = {0};
    pace_init(&p);
    assert_int_equal(pace_choose(&p, &c, alone, 0, N_MAX), 0); /* a pass without a draft is measured first */
    assert_int_equal(pace_choose(&p, &c, alone, 5, 5), 5);
    assert_int_equal(pace_choose(&p, &c, alone, 3, 8), 3);
    assert_int_equal(pace_choose(&p, &c, alone, 0, 0), 0);
    record(&c, 1, 1.0);
    assert_int_equal(pace_choose(&p, &c, alone, 0, N_MAX), 1); /* then twice as many positions */
    assert_int_equal(pace_choose(&p, &c, (struct company){.n_drafting = 4, .n_plain = 2}, 0, N_MAX), 0);
}

static void test_costs_are_estimated_from_their_neighbours(void **state) {
    (void)state;
    struct pass_costs c = {0};
    assert_true(costs_at(&c, 3) == 0.0);
    record(&c, 3, 2.0);
    assert_true(costs_at(&c, 1) == 2.0 && costs_at(&c, 3) == 2.0 && costs_at(&c, 9) == 2.0);
    record(&c, 7, 4.0);
    assert_true(fabs(costs_at(&c, 5) - 3.0) < 1e-12);
    assert_true(costs_at(&c, 9) == 4.0);
    record(&c, 9, 1.5); /* a larger pass was faster: the others were slowed by something */
    assert_true(costs_at(&c, 3) == 1.5 && costs_at(&c, 5) == 1.5);
    record(&c, 0, 1.0);
    record(&c, COSTS_MAX + 1, 1.0);
    assert_int_equal(c.largest, 9);
}

static void test_break_even_is_where_the_rates_meet(void **state) {
    (void)state;
    struct machine m = {1, 0.1, 0.2, 0};
    struct pace p;
    struct pass_costs c = {0};
    pace_init(&p);
    assert_true(isnan(pace_break_even(&p, &c, N_MAX)));
    for (int32_t n = 1; n <= N_MAX + 1; n++) {
        record(&c, n, pass_cost(&m, n));
    }
    pace_drafted(&p, m.draft);
    m.a = pace_break_even(&p, &c, N_MAX);
    assert_true(fabs(m.a - 0.3) < 1e-6); /* one token: 1 + a = 1.1 + 0.2 */
    assert_true(fabs(rate(&m, alone, 1) - rate(&m, alone, 0)) < 1e-6);
    for (int i = 0; i < 100; i++) {
        pace_drafted(&p, 2.0);
    }
    assert_true(pace_break_even(&p, &c, N_MAX) == 1.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_length_comes_near_the_best_fixed_one),
        cmocka_unit_test(test_drafting_that_does_not_pay_is_left_off_and_tried_again),
        cmocka_unit_test(test_bounds_are_kept),
        cmocka_unit_test(test_costs_are_estimated_from_their_neighbours),
        cmocka_unit_test(test_break_even_is_where_the_rates_meet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
