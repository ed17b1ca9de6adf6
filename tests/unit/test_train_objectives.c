/* Training runs on several objectives: what makes up a step, resuming, what is written, what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/adapter.h"
#include "support/golden.h"
#include "support/train_run.h"
#include "train/plan.h"

/* ---- what makes up a step ---- */

/* Pairs of objectives of these sizes, each with a prompt of its own. */
static void fake_data(struct data *d, const int32_t *sizes, int32_t n_objectives) {
    *d = (struct data){0};
    for (int32_t o = 0; o < n_objectives; o++) {
        const char name[] = {(char)('a' + o), '\0'};
        assert_int_equal(objectives_add(&d->objectives, name, NULL), GENARM_OK);
        d->pairs = realloc(d->pairs, (d->n_pairs + (size_t)sizes[o]) * sizeof *d->pairs);
        for (int32_t i = 0; i < sizes[o]; i++, d->n_pairs++) {
            d->pairs[d->n_pairs] = (struct pair){.objective = o, .prompt_hash = d->n_pairs * 7919};
        }
    }
}

static struct genarm_train_params plan_params(int32_t batch_size, int32_t draws) {
    struct genarm_train_params p = genarm_train_default_params();
    p.batch_size = batch_size;
    p.preference_draws = draws;
    p.epochs = 2;
    p.val_split = 0;
    return p;
}

static void test_every_draw_has_equally_many_pairs_of_each_objective(void **state) {
    (void)state;
    const int32_t sizes[] = {23, 10, 4};
    const struct genarm_train_params params = plan_params(7, 3);
    struct data d;
    struct plan p;
    int32_t n, uses[37] = {0};
    fake_data(&d, sizes, 3);
    assert_int_equal(plan_init(&p, &d, &params, NULL), GENARM_OK);
    assert_int_equal(p.steps_per_epoch, 4); /* of the objective with the most pairs */
    for (int64_t step = 0; step < p.steps_per_epoch; step++) {
        const uint32_t *pairs = plan_step(&p, step, &n);
        assert_int_equal(n, 3 * (step < 3 ? 7 : 2));
        for (int32_t draw = 0, at = 0, end; at < n; draw++, at = end) {
            int32_t of[3] = {0};
            end = plan_draw_end(&p, n, draw);
            for (int32_t i = at; i < end; i++) {
                of[d.pairs[pairs[i]].objective]++;
                uses[pairs[i]]++;
            }
            assert_true(of[0] > 0 && of[0] == of[1] && of[1] == of[2]);
            assert_true(draw < 3);
        }
    }
    for (int32_t i = 0; i < 37; i++) { /* 23 places: once, two or three times, five or six times */
        const int32_t least = i < 23 ? 1 : i < 33 ? 2 : 5;
        assert_in_range(uses[i], least, i < 23 ? 1 : least + 1);
    }
    assert_int_equal(plan_pairs_before(&p, 5), 3 * (23 + 7));
    plan_deinit(&p);
    data_deinit(&d);
}

static void test_a_step_does_not_depend_on_those_before(void **state) {
    (void)state;
    const int32_t sizes[] = {9, 20};
    const struct genarm_train_params params = plan_params(6, 8);
    struct data d;
    struct plan walked, jumped;
    uint32_t step[12];
    int32_t n;
    fake_data(&d, sizes, 2);
    plan_init(&walked, &d, &params, NULL);
    for (int64_t s = 0; s < walked.n_steps; s++) {
        memcpy(step, plan_step(&walked, s, &n), 2 * 6 * sizeof *step);
        plan_init(&jumped, &d, &params, NULL);
        assert_memory_equal(step, plan_step(&jumped, s, &n), (size_t)n * sizeof *step);
        plan_deinit(&jumped);
    }
    plan_deinit(&walked);
    data_deinit(&d);
}

static void test_an_objective_that_is_all_held_out_is_an_error(void **state) {
    (void)state;
    const int32_t sizes[] = {1, 20};
    struct genarm_train_params params = plan_params(6, 8);
    struct data d;
    struct plan p;
    struct genarm_error err = {0};
    bool refused = false;
    fake_data(&d, sizes, 2);
    params.val_split = 0.5f;
    for (params.seed = 0; params.seed < 64 && !refused; params.seed++) {
        refused = plan_init(&p, &d, &params, &err) == GENARM_EINVAL;
        if (!refused) {
            plan_deinit(&p);
        }
    }
    assert_true(refused);
    assert_non_null(strstr(err.what, "objective a"));
    data_deinit(&d);
}

/* ---- runs ---- */

static struct train_run r;
static char opposite[128];
static const char *good_paths[1], *bad_paths[1];
static struct genarm_objective objectives[2];

/* Two objectives that rank the same pairs in opposite ways, the second with fewer of them. */
static int setup(void **state) {
    (void)state;
    train_run_open(&r, "llama.gguf");
    train_run_write_pairs(&r, 21);
    snprintf(opposite, sizeof opposite, "%s/opposite.jsonl", r.folder);
    FILE *f = fopen(opposite, "w");
    assert_non_null(f);
    for (int i = 0; i < 8; i++) {
        fprintf(f, "{\"prompt\": \"%c%d?\", \"chosen\": \"%s\", \"rejected\": \"yes\"}\n", 'a' + i * 7 % 26, i,
                i % 2 ? "never so" : "bad");
    }
    assert_int_equal(fclose(f), 0);
    good_paths[0] = r.pairs;
    bad_paths[0] = opposite;
    objectives[0] = (struct genarm_objective){.name = "good", .paths = good_paths, .n_paths = 1};
    objectives[1] = (struct genarm_objective){.name = "bad", .paths = bad_paths, .n_paths = 1};
    return 0;
}

static int teardown(void **state) {
    (void)state;
    train_run_close(&r);
    return 0;
}

static struct genarm_train_params params_of(size_t n_objectives) {
    struct genarm_train_params p = train_run_params(&r);
    p.objectives = objectives;
    p.n_objectives = n_objectives;
    p.preference_draws = 2;
    return p;
}

static void test_the_adapter_says_what_it_weighs(void **state) {
    (void)state;
    struct genarm_train_params p = params_of(2);
    struct genarm_error err = {0};
    struct genarm_adapter *adapter = NULL;
    struct genarm_adapter_info info;
    p.lora_rank = 5; /* 2 that do not depend on the preference, 3 that do */
    must(train_run(&r, &p, NULL, NULL, &err), &err);
    must(genarm_adapter_load(&adapter, r.model, r.output, &err), &err);
    genarm_adapter_get_info(adapter, &info);
    assert_int_equal(info.n_objectives, 2);
    assert_string_equal(info.objectives[0], "good");
    assert_int_equal(adapter->info.objectives.rank, 3);
    assert_int_equal(info.rank, 2 + 2 * 3);
    assert_true(fabsf(adapter->layers[0][LINEAR_Q].scale - 16.0f / 5) < 1e-6f); /* alpha / rank of the options */
    assert_string_equal(info.loss, "arm");
    genarm_adapter_free(adapter);
}

/* Of one objective there is nothing to prefer: whatever its weight, the adapter is the plain one in the file. */
static void test_one_objective_is_a_plain_adapter(void **state) {
    (void)state;
    struct genarm_train_params p = params_of(1);
    struct genarm_error err = {0};
    struct genarm_adapter *file = NULL, *fixed = NULL;
    must(train_run(&r, &p, NULL, NULL, &err), &err);
    must(genarm_adapter_load(&file, r.model, r.output, &err), &err);
    must(genarm_adapter_load(&fixed, r.model, r.output, &err), &err);
    assert_int_equal(file->rank, 4);
    must(adapter_fix_preference(fixed, (const float[]){0.3f}, 1, &err), &err);
    const struct ggml_tensor *a = file->layers[1][LINEAR_V].b, *b = fixed->layers[1][LINEAR_V].b;
    assert_memory_equal(a->data, b->data, ggml_nbytes(a));
    genarm_adapter_free(file);
    genarm_adapter_free(fixed);
}

/* The pairs of the shorter objective are repeated within the step, in one micro-batch. */
static void test_a_step_may_have_more_pairs_than_the_data(void **state) {
    (void)state;
    struct genarm_train_params p = params_of(2);
    struct genarm_error err = {0};
    p.loss = GENARM_LOSS_DPO;
    p.preference_draws = 1;
    p.batch_size = 21;
    p.micro_batch = 64;
    p.val_split = 0;
    must(train_run(&r, &p, NULL, NULL, &err), &err);
}

/* The seconds that pairs and their rate come to never grow less. */
static void test_the_rate_is_of_the_pairs_that_are_done(void **state) {
    (void)state;
    static struct train_calls c;
    struct genarm_train_params p = params_of(2);
    struct genarm_error err = {0};
    double before = 0;
    p.val_split = 0; /* a validation tells its own pairs */
    c = (struct train_calls){.stop_at_step = -1};
    must(train_run(&r, &p, train_note, &c, &err), &err);
    for (int i = 0; i < c.n; i++) {
        const double seconds = (double)c.status[i].pairs_done / c.status[i].pairs_per_second;
        assert_true(seconds > 0.999999 * before);
        before = seconds;
    }
}

static void test_resumed_equals_uninterrupted_to_the_bit(void **state) {
    (void)state;
    struct genarm_train_params p = params_of(2);
    p.lora_dropout = 0.1f;
    p.epochs = 2;
    train_run_check_resumed(&r, &p, 0, 3, 2);
    p.micro_batch = 2;
    train_run_check_resumed(&r, &p, 13, -1, 1); /* within a step */
}

static void test_another_conditioned_run_is_not_resumed(void **state) {
    (void)state;
    struct genarm_train_params good = params_of(2), others[6];
    static const char *const says[] = {"objective", "objective", "preference_rank", "preference_concentration",
                                       "preference_draws"};
    static struct train_calls c;
    struct genarm_error err = {0};
    c = (struct train_calls){.stop_at_step = 2};
    assert_int_equal(train_run(&r, &good, train_note, &c, &err), GENARM_ECANCELED);
    struct genarm_objective renamed[2] = {objectives[0], objectives[1]};
    renamed[1].name = "other";
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        others[i] = good;
        others[i].resume = true;
    }
    others[0].n_objectives = 1;
    others[1].objectives = renamed;
    others[2].preference_rank = 1;
    others[3].preference_concentration = 1;
    others[4].preference_draws = 1;
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        assert_int_equal(train_run(&r, &others[i], NULL, NULL, &err), GENARM_EMISMATCH);
        if (!strstr(err.what, says[i])) {
            fail_msg("not named: %s in: %s", says[i], err.what);
        }
    }
    others[3].resume_changed = true; /* how preferences are drawn may change on the way */
    must(train_run(&r, &others[3], NULL, NULL, &err), &err);
}

static void test_losses_of_policies_take_objectives_as_well(void **state) {
    (void)state;
    static const enum genarm_loss losses[] = {GENARM_LOSS_HINGE, GENARM_LOSS_SIMPO, GENARM_LOSS_SFT, GENARM_LOSS_DPO,
                                              GENARM_LOSS_IPO};
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
        struct genarm_train_params p = params_of(2);
        struct genarm_error err = {0};
        p.loss = losses[i];
        p.beta = 0;
        must(train_run(&r, &p, NULL, NULL, &err), &err);
    }
}

static void test_what_cannot_be_conditioned_is_refused(void **state) {
    (void)state;
    struct genarm_train_params good = params_of(2), bad[8];
    static const char *const says[] = {"whole responses", "starts anew", "rank of the preference", "concentration",
                                       "preferences of a step", "no name of an objective", "two objectives", "objectives"};
    struct genarm_objective unnamed[2] = {objectives[0], objectives[1]}, same[2] = {objectives[0], objectives[0]};
    struct genarm_objective many[17];
    unnamed[1].name = "a b";
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        bad[i] = good;
    }
    for (size_t i = 0; i < 17; i++) {
        many[i] = objectives[0];
    }
    bad[0].loss = GENARM_LOSS_BT;
    bad[0].beta = 0;
    bad[1].init_adapter = "x.gguf";
    bad[2].preference_rank = 5;
    bad[3].preference_concentration = 0;
    bad[4].preference_draws = 0;
    bad[5].objectives = unnamed;
    bad[6].objectives = same;
    bad[7].objectives = many;
    bad[7].n_objectives = 17;
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        struct genarm_error err = {0};
        assert_int_equal(train_run(&r, &bad[i], NULL, NULL, &err), GENARM_EINVAL);
        if (!strstr(err.what, says[i])) {
            fail_msg("not named: %s in: %s", says[i], err.what);
        }
    }
}

static void test_pairs_without_an_objective_and_objectives_without_pairs_are_refused(void **state) {
    (void)state;
    struct genarm_train_params p = params_of(2);
    struct genarm_trainer *trainer = NULL;
    struct genarm_error err = {0};
    const char *paths[] = {r.pairs};
    assert_int_equal(genarm_trainer_new(&trainer, r.model, paths, 1, r.output, &p, NULL, &err), GENARM_EINVAL);
    FILE *f = fopen(opposite, "w");
    fprintf(f, "{\"prompt\": \"a\", \"chosen\": \"same\", \"rejected\": \"same\"}\n");
    assert_int_equal(fclose(f), 0);
    assert_int_equal(train_run(&r, &p, NULL, NULL, &err), GENARM_EFORMAT);
    assert_non_null(strstr(err.where, "objective bad"));
    objectives[1].n_paths = 0;
    assert_int_equal(train_run(&r, &p, NULL, NULL, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.where, "objective bad"));
}

static void test_a_conditioned_adapter_is_not_trained_further(void **state) {
    (void)state;
    struct genarm_train_params p = params_of(2);
    struct genarm_error err = {0};
    char first[128];
    must(train_run(&r, &p, NULL, NULL, &err), &err);
    train_run_keep(&r, first, sizeof first, r.output, "first.gguf");
    p.n_objectives = 0;
    p.init_adapter = first;
    assert_int_equal(train_run(&r, &p, NULL, NULL, &err), GENARM_EUNSUPPORTED);
    assert_non_null(strstr(err.where, first));
    assert_true(err.hint[0] != '\0');
    p.init_adapter = NULL; /* as a reference it is the plain adapter of the even preference */
    p.loss = GENARM_LOSS_DPO;
    p.reference_adapter = first;
    must(train_run(&r, &p, NULL, NULL, &err), &err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_draw_has_equally_many_pairs_of_each_objective),
        cmocka_unit_test(test_a_step_does_not_depend_on_those_before),
        cmocka_unit_test(test_an_objective_that_is_all_held_out_is_an_error),
        cmocka_unit_test_setup_teardown(test_the_adapter_says_what_it_weighs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_objective_is_a_plain_adapter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_step_may_have_more_pairs_than_the_data, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_rate_is_of_the_pairs_that_are_done, setup, teardown),
        cmocka_unit_test_setup_teardown(test_resumed_equals_uninterrupted_to_the_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_conditioned_run_is_not_resumed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_losses_of_policies_take_objectives_as_well, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_conditioned_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pairs_without_an_objective_and_objectives_without_pairs_are_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_conditioned_adapter_is_not_trained_further, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
