/* Sums over pairs: losses, rewards of both responses, which of them is larger, and the worst pair. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "train/tally.h"

enum { N = 3 };

static struct pair pairs[N] = {{.line = 1, .record = 1}, {.line = 2, .record = 2, .objective = 1}, {.line = 5, .record = 3}};
static const struct pair *const packed[N] = {&pairs[0], &pairs[1], &pairs[2]};
static char *paths[] = {(char[]){"pairs.jsonl"}};
static const struct data data = {.pairs = pairs, .n_pairs = N, .paths = paths, .n_paths = 1};
static int32_t trees[4 * N] = {0, 9, 5, 4, 18, 9, 5, 4, 36, 9, 5, 4};
static const struct pack pack = {.n_pairs = N, .trees = trees, .pairs = (const struct pair **)(uintptr_t)packed};

static void test_rewards_add_up_by_response(void **state) {
    (void)state;
    static const struct loss_value values[N] = {
        {.loss = 1, .rewards = {-2, -3}}, {.loss = 4, .rewards = {-5, -1}}, {.loss = 2, .rewards = {-1, -1}}};
    static const double weights[] = {1, 0.5};
    struct tally t = {0};
    assert_int_equal(tally_add(&t, &pack, values, NULL, &data, 1, NULL), GENARM_OK);
    assert_true(t.n == 3 && t.loss == 7 && t.right == 1);
    assert_true(t.rewards[CHOSEN] == -8 && t.rewards[REJECTED] == -5);
    assert_true(t.worst == &pairs[1] && t.worst_loss == 4);
    assert_int_equal(tally_add(&t, &pack, values, weights, &data, 1, NULL), GENARM_OK);
    assert_true(t.n == 6 && t.loss == 7 + 5 && t.right == 2); /* objectives weigh losses alone */
    assert_true(t.rewards[CHOSEN] == -16 && t.rewards[REJECTED] == -10);
}

static void test_pairs_of_one_response_are_not_ranked(void **state) {
    (void)state;
    static const struct loss_value values[N] = {
        {.loss = 1, .rewards = {-2, -3}}, {.loss = 4, .rewards = {-5, (double)NAN}}, {.loss = 2, .rewards = {-1, -1}}};
    struct tally t = {0};
    trees[4 + 2 + REJECTED] = 0;
    assert_int_equal(tally_add(&t, &pack, values, NULL, &data, 1, NULL), GENARM_OK);
    trees[4 + 2 + REJECTED] = 4;
    assert_true(t.n == 3 && t.n_ranked == 2 && t.loss == 7 && t.right == 1);
    assert_true(t.rewards[CHOSEN] == -3 && t.rewards[REJECTED] == -4);
}

static void test_a_loss_that_is_no_number_names_its_pair(void **state) {
    (void)state;
    static const struct loss_value values[N] = {{.loss = 1}, {.loss = 1}, {.loss = (double)NAN}};
    struct tally t = {0};
    struct genarm_error err = {0};
    assert_int_equal(tally_add(&t, &pack, values, NULL, &data, 7, &err), GENARM_EDIVERGED);
    assert_string_equal(err.where, "pairs.jsonl:5, record 3");
    assert_non_null(strstr(err.what, "step 7"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rewards_add_up_by_response),
        cmocka_unit_test(test_pairs_of_one_response_are_not_ranked),
        cmocka_unit_test(test_a_loss_that_is_no_number_names_its_pair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
