/* Length-controlled win rates against what the package alpaca_eval computes of the same annotations
 * (tests/golden/alpaca.json), and the parts against finite differences, optimality conditions and identities. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "eval/length_control.h"
#include "eval/win_rate.h"

static void near(double value, double expected, double tolerance) {
    if (!(fabs(value - expected) <= tolerance)) {
        fail_msg("%.9g is not %.9g", value, expected);
    }
}

/* ---- the golden file ---- */

static json_t *read_golden(void) {
    struct buf text;
    json_t *golden = NULL;
    struct genarm_error err;
    buf_init(&text, 1 << 24);
    if (file_read(&text, GENARM_SOURCE_DIR "/tests/golden/alpaca.json", &err) ||
        json_parse(&golden, text.data, text.len, "alpaca.json", &err)) {
        fail_msg("%s: %s", err.where, err.what);
    }
    buf_deinit(&text);
    return golden;
}

/* Item i of object's array; null is NaN. */
static double item(const json_t *object, const char *key, size_t i) {
    const json_t *value = json_array_get(json_object_get(object, key), i);
    assert_true(json_is_number(value) || json_is_null(value));
    return json_is_null(value) ? NAN : json_number_value(value);
}

static double number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static struct length_control_gamed *read_gamed(const json_t *golden, size_t *n) {
    const json_t *table = json_object_get(golden, "gamed");
    *n = json_array_size(json_object_get(table, "preference"));
    struct length_control_gamed *gamed = calloc(*n + 1, sizeof *gamed);
    for (size_t i = 0; i < *n; i++) {
        gamed[i] = (struct length_control_gamed){item(table, "preference", i), item(table, "std_delta", i),
                                                 item(table, "difficulty", i)};
    }
    return gamed;
}

/* preferences[n]: as AlpacaEval has them. */
static struct length_control_row *read_rows(const json_t *golden, const json_t *c, double **preferences, size_t *n) {
    const bool with_difficulty = json_is_true(json_object_get(c, "difficulty"));
    *n = json_array_size(json_object_get(c, "preference"));
    struct length_control_row *rows = calloc(*n + 1, sizeof *rows);
    *preferences = calloc(*n + 1, sizeof **preferences);
    for (size_t i = 0; i < *n; i++) {
        const double p = item(c, "preference", i);
        (*preferences)[i] = p;
        rows[i] = (struct length_control_row){p == 0 ? 0.5 : p - 1, item(c, "length", i), item(c, "baseline_length", i),
                                              with_difficulty ? item(golden, "difficulty", i) : NAN};
    }
    return rows;
}

static void check_case(const json_t *golden, const json_t *c) {
    double *preferences;
    size_t n, n_gamed;
    struct length_control_gamed *gamed = read_gamed(golden, &n_gamed);
    struct length_control_row *rows = read_rows(golden, c, &preferences, &n);
    struct length_control_params params = length_control_default_params();
    struct length_control out;
    struct win_rate raw;
    const struct bootstrap_params few = {100, 1, 0.95};
    params.bootstrap = &few;
    if (json_is_true(json_object_get(c, "gamed"))) {
        params.gamed = gamed;
        params.n_gamed = n_gamed;
    }
    assert_int_equal(win_rate_of_preferences(&raw, preferences, n, &few, NULL), GENARM_OK);
    near(100 * raw.rate.value, number(c, "win_rate"), 1e-9);
    assert_int_equal(raw.wins, (int64_t)number(c, "n_wins"));
    assert_int_equal(raw.losses, (int64_t)number(c, "n_wins_base"));
    assert_int_equal(raw.ties, (int64_t)number(c, "n_draws"));
    assert_int_equal(length_control_win_rate(&out, rows, n, &params, NULL), GENARM_OK);
    print_message("%-34s win rate %6.3f, controlled %7.4f (package %7.4f) [%.2f, %.2f], C %g\n",
                  json_string_value(json_object_get(c, "name")), 100 * raw.rate.value, 100 * out.win_rate.value,
                  number(c, "length_controlled_winrate"), 100 * out.win_rate.low, 100 * out.win_rate.high,
                  out.inverse_penalty);
    near(100 * out.win_rate.value, number(c, "length_controlled_winrate"), 0.02); /* points */
    near(100 * out.standard_error, number(c, "lc_standard_error"), 0.02);
    /* Where all is lost the package's solver stops some way before the end: it hardly matters there. */
    const double tolerance = fabs(out.theta) > 5 ? 0.05 * fabs(out.theta) : 0.005;
    near(out.phi, number(c, "phi"), tolerance);
    near(out.psi, number(c, "psi"), tolerance);
    near(out.theta, number(c, "theta"), tolerance);
    free(preferences);
    free(rows);
    free(gamed);
}

static void test_agrees_with_alpaca_eval(void **state) {
    (void)state;
    json_t *golden = read_golden(), *cases = json_object_get(golden, "cases");
    assert_true(json_array_size(cases) >= 8);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        check_case(golden, json_array_get(cases, i));
    }
    json_decref(golden);
}

/* ---- the fit ---- */

enum { N_SAMPLES = 60 };

static void draw_samples(struct length_control_sample *samples, uint64_t seed) {
    struct rng rng;
    rng_seed(&rng, seed);
    for (size_t i = 0; i < N_SAMPLES; i++) {
        samples[i] = (struct length_control_sample){
            {tanh(rng_normal(&rng)), rng_normal(&rng), i % 3 ? 1 : 0}, rng_uniform(&rng), 0.1 + rng_uniform(&rng)};
    }
}

static void test_the_gradient_is_that_of_finite_differences(void **state) {
    (void)state;
    struct length_control_sample samples[N_SAMPLES];
    draw_samples(samples, 3);
    const double w[] = {-0.7, 0.4, 1.3}; /* |w|_1 has the slopes -1, 1, 1 */
    const double c = 2.5, slopes[] = {-1, 1, 1}, h = 1e-5;
    double gradient[LENGTH_CONTROL_TERMS];
    length_control_objective(w, samples, N_SAMPLES, c, gradient);
    for (int k = 0; k < LENGTH_CONTROL_TERMS; k++) {
        double more[] = {w[0], w[1], w[2]}, less[] = {w[0], w[1], w[2]};
        more[k] += h;
        less[k] -= h;
        const double slope = (length_control_objective(more, samples, N_SAMPLES, c, NULL) -
                              length_control_objective(less, samples, N_SAMPLES, c, NULL)) /
                             (2 * h);
        near(slopes[k] + c * gradient[k], slope, 1e-7);
    }
}

/* A minimiser of |w|_1 + C f(w) has C f'_k = -sign(w_k), or |C f'_k| <= 1 where w_k = 0; the function is convex, so that
 * nothing else has it. */
static void test_the_fit_is_where_nothing_is_smaller(void **state) {
    (void)state;
    struct length_control_sample samples[N_SAMPLES];
    int n_zero = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        draw_samples(samples, seed);
        for (double c = 1e-2; c < 2e4; c *= 10) {
            double w[LENGTH_CONTROL_TERMS] = {0}, gradient[LENGTH_CONTROL_TERMS];
            length_control_fit(w, samples, N_SAMPLES, c);
            length_control_objective(w, samples, N_SAMPLES, c, gradient);
            for (int k = 0; k < LENGTH_CONTROL_TERMS; k++) {
                n_zero += w[k] == 0;
                if (w[k] != 0) {
                    near(c * gradient[k], w[k] > 0 ? -1 : 1, 1e-6 * (1 + c));
                } else {
                    assert_true(fabs(c * gradient[k]) <= 1 + 1e-9);
                }
            }
        }
    }
    assert_in_range(n_zero, 20, 20 * 7 * 3 - 20); /* both kinds occurred */
}

static void test_separable_samples_have_a_finite_fit(void **state) {
    (void)state;
    struct length_control_sample samples[N_SAMPLES];
    draw_samples(samples, 5);
    double w[LENGTH_CONTROL_TERMS] = {0};
    for (size_t i = 0; i < N_SAMPLES; i++) {
        samples[i].target = samples[i].features[1] > 0;
    }
    length_control_fit(w, samples, N_SAMPLES, 1e4);
    assert_true(isfinite(w[0]) && isfinite(w[1]) && isfinite(w[2]) && w[1] > 10);
}

/* ---- the whole ---- */

enum { N_ROWS = 400 };

/* Answers of a model that is as good as its baseline, before a judge who likes what is long. */
static void draw_rows(struct length_control_row *rows, double longer) {
    struct rng rng;
    rng_seed(&rng, 11);
    for (size_t i = 0; i < N_ROWS; i++) {
        const double delta = longer + rng_normal(&rng); /* length - baseline_length, in deviations */
        const double p = 1 / (1 + exp(-1.5 * tanh(delta)));
        rows[i] = (struct length_control_row){rng_uniform(&rng) < p ? 1 : 0, 1000 + 100 * delta, 1000, NAN};
    }
}

static struct length_control control(const struct length_control_row *rows, size_t n) {
    struct length_control out;
    assert_int_equal(length_control_win_rate(&out, rows, n, NULL, NULL), GENARM_OK);
    return out;
}

static void test_what_length_alone_won_is_taken_away(void **state) {
    (void)state;
    struct length_control_row rows[N_ROWS];
    draw_rows(rows, 1);
    double raw = 0;
    for (size_t i = 0; i < N_ROWS; i++) {
        raw += rows[i].preference / N_ROWS;
    }
    const struct length_control out = control(rows, N_ROWS);
    assert_true(raw > 0.66);
    assert_true(out.win_rate.low < 0.5 && out.win_rate.high > 0.5 && fabs(out.win_rate.value - 0.5) < 0.07);
    assert_true(out.win_rate.low < out.win_rate.value && out.win_rate.value < out.win_rate.high);
    assert_false(out.has_difficulty);
    assert_true(out.psi == 0 && out.phi < -1);
}

static void test_the_unit_of_lengths_says_nothing(void **state) {
    (void)state;
    struct length_control_row rows[N_ROWS];
    draw_rows(rows, 0.3);
    const double value = control(rows, N_ROWS).win_rate.value;
    for (size_t i = 0; i < N_ROWS; i++) {
        rows[i].length *= 0.25;
        rows[i].baseline_length *= 0.25;
    }
    near(control(rows, N_ROWS).win_rate.value, value, 1e-9);
}

static void test_swapped_sides_swap_the_win_rate(void **state) {
    (void)state;
    struct length_control_row rows[N_ROWS];
    draw_rows(rows, 0.5);
    const double value = control(rows, N_ROWS).win_rate.value;
    for (size_t i = 0; i < N_ROWS; i++) {
        rows[i] = (struct length_control_row){1 - rows[i].preference, rows[i].baseline_length, rows[i].length, NAN};
    }
    near(control(rows, N_ROWS).win_rate.value, 1 - value, 1e-6);
}

static void test_equal_lengths_leave_the_win_rate(void **state) {
    (void)state;
    struct length_control_row rows[N_ROWS];
    double raw = 0;
    draw_rows(rows, 0.4);
    for (size_t i = 0; i < N_ROWS; i++) {
        rows[i].length = rows[i].baseline_length + 5; /* no deviation */
        raw += rows[i].preference / N_ROWS;
    }
    const struct length_control out = control(rows, N_ROWS);
    near(out.win_rate.value, raw, 0.01); /* the penalty takes some */
    assert_true(out.phi == 0);
}

static void test_degenerate_rows(void **state) {
    (void)state;
    struct length_control out;
    struct length_control_row rows[8];
    struct genarm_error err;
    for (size_t i = 0; i < 8; i++) {
        rows[i] = (struct length_control_row){NAN, (double)i, 3, NAN};
    }
    out = control(rows, 8); /* nothing was judged */
    assert_true(isnan(out.win_rate.value) && isnan(out.win_rate.low) && isnan(out.theta));
    out = control(rows, 0);
    assert_true(isnan(out.win_rate.value));
    rows[0].preference = 1;
    assert_int_equal(length_control_win_rate(&out, rows, 8, NULL, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "1 judged answers"));
    for (size_t i = 0; i < 8; i++) {
        rows[i].preference = 1; /* always preferred */
    }
    out = control(rows, 8);
    assert_true(out.win_rate.value > 0.9 && out.win_rate.value <= 1 && isfinite(out.theta));
    rows[3].preference = 1.5;
    assert_int_equal(length_control_win_rate(&out, rows, 8, NULL, &err), GENARM_EINVAL);
    rows[3] = (struct length_control_row){1, INFINITY, 3, NAN};
    assert_int_equal(length_control_win_rate(&out, rows, 8, NULL, &err), GENARM_EINVAL);
}

static void test_lengths_are_characters(void **state) {
    (void)state;
    assert_true(length_control_length("") == 0 && length_control_length("abc") == 3);
    assert_true(length_control_length("h\xC3\xA9\xF0\x9F\x98\x80") == 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_alpaca_eval),
        cmocka_unit_test(test_the_gradient_is_that_of_finite_differences),
        cmocka_unit_test(test_the_fit_is_where_nothing_is_smaller),
        cmocka_unit_test(test_separable_samples_have_a_finite_fit),
        cmocka_unit_test(test_what_length_alone_won_is_taken_away),
        cmocka_unit_test(test_the_unit_of_lengths_says_nothing),
        cmocka_unit_test(test_swapped_sides_swap_the_win_rate),
        cmocka_unit_test(test_equal_lengths_leave_the_win_rate),
        cmocka_unit_test(test_degenerate_rows),
        cmocka_unit_test(test_lengths_are_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
