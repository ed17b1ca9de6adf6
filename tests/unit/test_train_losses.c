/* Runs whose losses compare with a reference or train a head: where they start, what they save, that they resume to the
 * bit. */
#include <llama.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/golden.h"
#include "support/train_run.h"

enum { N_PAIRS = 24 };

static struct train_run r;
static struct train_calls calls;

static int setup(void **state) {
    (void)state;
    train_run_open(&r, "llama.gguf");
    train_run_write_pairs(&r, N_PAIRS);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    train_run_close(&r);
    return 0;
}

static struct genarm_train_params params_of(enum genarm_loss loss) {
    struct genarm_train_params p = train_run_params(&r);
    p.loss = loss;
    p.beta = 0;
    return p;
}

static const struct genarm_train_status *run(const struct genarm_train_params *p) {
    struct genarm_error err = {0};
    calls = (struct train_calls){.stop_at_step = -1};
    must(train_run(&r, p, train_note, &calls, &err), &err);
    return &calls.status[0];
}

/* ---- where runs start ---- */

static void test_dpo_starts_at_log_two_to_the_bit(void **state) {
    (void)state;
    struct genarm_train_params p = params_of(GENARM_LOSS_DPO);
    p.lora_dropout = 0.3f; /* B is zero: nothing to drop */
    run(&p);
    assert_true(calls.status[0].has_validation && calls.status[0].val_loss == log(2));
    assert_true(calls.status[1].step == 1 && calls.status[1].loss == log(2) && calls.status[1].margin == 0);
    assert_true(calls.status[2].loss != log(2));
}

static void test_ipo_starts_at_the_square_of_its_target(void **state) {
    (void)state;
    const struct genarm_train_params p = params_of(GENARM_LOSS_IPO);
    assert_true(fabs(run(&p)->val_loss - 25) < 1e-5); /* beta is .1 */
}

static void test_a_head_starts_at_log_two(void **state) {
    (void)state;
    const struct genarm_train_params p = params_of(GENARM_LOSS_BT);
    assert_true(run(&p)->val_loss == log(2));
}

/* Published: beta 2, a margin of half of it. B is zero at first, so the first loss is that of the model alone. */
static void test_simpo_has_its_published_scale(void **state) {
    (void)state;
    struct genarm_train_params p = params_of(GENARM_LOSS_SIMPO);
    const struct genarm_train_status own = *run(&p);
    p.beta = 2;
    p.margin = 1;
    assert_true(run(&p)->val_loss == own.val_loss && calls.status[0].val_margin == own.val_margin);
    struct genarm_train_params arm = params_of(GENARM_LOSS_ARM);
    arm.beta = 2;
    arm.length_normalize = true;
    assert_true(run(&arm)->val_margin == own.val_margin && calls.status[0].val_loss != own.val_loss);
}

/* ---- the reference ---- */

static void test_the_reference_is_the_model_alone_or_a_named_adapter(void **state) {
    (void)state;
    char sft[128];
    struct genarm_train_params p = params_of(GENARM_LOSS_SFT);
    run(&p);
    train_run_keep(&r, sft, sizeof sft, r.output, "sft.gguf");
    p = params_of(GENARM_LOSS_DPO);
    p.init_adapter = sft;
    assert_true(fabs(run(&p)->val_loss - log(2)) > 1e-3);
    p.reference_adapter = sft;
    assert_true(run(&p)->val_loss == log(2));
    p.init_adapter = NULL;
    assert_true(fabs(run(&p)->val_loss - log(2)) > 1e-3);
}

static void test_another_reference_is_another_run(void **state) {
    (void)state;
    struct genarm_error err = {0};
    struct genarm_train_params p = params_of(GENARM_LOSS_DPO);
    p.reference_adapter = golden_path("llama.lora.gguf");
    calls = (struct train_calls){.stop_at_step = 2};
    assert_int_equal(train_run(&r, &p, train_note, &calls, &err), GENARM_ECANCELED);
    p.resume = true;
    p.reference_adapter = golden_path("llama.lora2.gguf");
    assert_int_equal(train_run(&r, &p, NULL, NULL, &err), GENARM_EMISMATCH);
    assert_non_null(strstr(err.what, "reference adapter"));
    p.reference_adapter = golden_path("qwen2.lora.gguf");
    assert_int_equal(train_run(&r, &p, NULL, NULL, &err), GENARM_EMISMATCH);
    assert_string_equal(err.where, p.reference_adapter);
    p.reference_adapter = NULL;
    assert_int_equal(train_run(&r, &p, NULL, NULL, &err), GENARM_EMISMATCH);
    assert_non_null(strstr(err.what, "reference adapter"));
    p.reference_adapter = golden_path("llama.lora.gguf");
    run(&p);
}

/* ---- resuming ---- */

static void test_resumed_equals_uninterrupted_to_the_bit(void **state) {
    (void)state;
    static const enum genarm_loss losses[] = {GENARM_LOSS_DPO, GENARM_LOSS_IPO, GENARM_LOSS_BT};
    for (int i = 0; i < 3; i++) {
        struct genarm_train_params p = params_of(losses[i]);
        p.epochs = 3;
        p.lora_dropout = 0.2f;
        p.micro_batch = 2;
        train_run_check_resumed(&r, &p, 0, 7, 2);
        train_run_check_resumed(&r, &p, 23, -1, 1); /* within a step */
        p.save_every = 4;
        p.micro_batch = 0;
        train_run_check_resumed(&r, &p, 0, 11, 1);
    }
    struct genarm_train_params p = params_of(GENARM_LOSS_DPO);
    p.epochs = 2;
    p.reference_adapter = golden_path("llama.lora.gguf");
    train_run_check_resumed(&r, &p, 0, 7, 1);
}

/* ---- what is saved ---- */

static void test_a_reward_model_says_what_it_is_and_goes_on_from_its_head(void **state) {
    (void)state;
    char first[128];
    struct genarm_adapter *adapter = NULL;
    struct genarm_adapter_info info;
    struct genarm_error err = {0};
    struct genarm_train_params p = params_of(GENARM_LOSS_BT);
    run(&p);
    const double last = calls.status[calls.n - 1].val_loss;
    train_run_keep(&r, first, sizeof first, r.output, "first.gguf");
    must(genarm_adapter_load(&adapter, r.model, first, &err), &err);
    genarm_adapter_get_info(adapter, &info);
    assert_string_equal(info.loss, "bt");
    assert_true(info.has_head && info.beta == 0);
    genarm_adapter_free(adapter);
    p.init_adapter = first;
    assert_true(run(&p)->val_loss == last);
    assert_true(calls.status[calls.n - 1].val_loss < last);
    p = params_of(GENARM_LOSS_ARM); /* takes the matrices and leaves the head */
    p.init_adapter = first;
    run(&p);
    must(genarm_adapter_load(&adapter, r.model, r.output, &err), &err);
    genarm_adapter_get_info(adapter, &info);
    assert_true(!info.has_head && info.beta == 0.05f);
    genarm_adapter_free(adapter);
}

static void test_llama_cpp_loads_what_every_loss_saves(void **state) {
    (void)state;
    struct llama_model *oracle = llama_model_load_from_file(golden_path("llama.gguf"), llama_model_default_params());
    assert_non_null(oracle);
    for (int loss = GENARM_LOSS_DPO; loss <= GENARM_LOSS_BT; loss++) {
        const struct genarm_train_params p = params_of((enum genarm_loss)loss);
        run(&p);
        assert_non_null(llama_adapter_lora_init(oracle, r.output));
    }
    llama_model_free(oracle); /* and its adapters */
}

static void test_a_reward_model_of_responses_is_no_arm(void **state) {
    (void)state;
    struct genarm_guide *guide = NULL;
    struct genarm_adapter *adapter = NULL;
    struct genarm_error err = {0};
    const struct genarm_train_params p = params_of(GENARM_LOSS_BT);
    run(&p);
    must(genarm_adapter_load(&adapter, r.model, r.output, &err), &err);
    must(genarm_guide_new(&guide, r.model, NULL, &err), &err);
    const struct genarm_arm_params arm = {.name = "x", .model = r.model, .adapter = adapter, .weight = 1};
    assert_int_equal(genarm_guide_add_arm(guide, &arm, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "whole responses"));
    genarm_guide_free(guide);
    genarm_adapter_free(adapter);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_dpo_starts_at_log_two_to_the_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ipo_starts_at_the_square_of_its_target, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_head_starts_at_log_two, setup, teardown),
        cmocka_unit_test_setup_teardown(test_simpo_has_its_published_scale, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_reference_is_the_model_alone_or_a_named_adapter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_reference_is_another_run, setup, teardown),
        cmocka_unit_test_setup_teardown(test_resumed_equals_uninterrupted_to_the_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reward_model_says_what_it_is_and_goes_on_from_its_head, setup, teardown),
        cmocka_unit_test_setup_teardown(test_llama_cpp_loads_what_every_loss_saves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reward_model_of_responses_is_no_arm, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
