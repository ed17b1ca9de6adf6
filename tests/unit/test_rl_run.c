/* Whole runs of reinforcement learning: the reward rises, the KL penalty holds it back, stopped and resumed is uninterrupted,
 * and what fails is named. */
#include <llama.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/file.h"
#include "support/golden.h"
#include "support/rl_run.h"

static struct train_run r;

static int setup(void **state) {
    (void)state;
    train_run_open(&r, "llama.gguf");
    return 0;
}

static int teardown(void **state) {
    (void)state;
    train_run_close(&r);
    return 0;
}

static void run(const struct genarm_rl_params *p) {
    struct genarm_error err = {0};
    must(rl_run(&r, p, NULL, NULL, &err), &err);
}

/* Mean of a member over lines [from, to) of the log. */
static double mean_logged(int from, int to, const char *key) {
    double sum = 0;
    for (int i = from; i < to; i++) {
        sum += rl_logged(&r, i, key);
    }
    return sum / (to - from);
}

/* ---- learning ---- */

enum { STEPS = 24, FIRST = 5 };

/* The divergence at the end */
static double last_kl(void) { return mean_logged(STEPS - FIRST, STEPS, "kl"); }

static void check_learns(struct genarm_rl_params *p) {
    p->steps = STEPS;
    p->training.save_every = 0;
    run(p);
    assert_int_equal(rl_count_logged(&r), STEPS);
    const double before = mean_logged(0, FIRST, "reward"), after = mean_logged(STEPS - FIRST, STEPS, "reward");
    print_message("reward %.3f -> %.3f, kl %.2f\n", before, after, last_kl());
    assert_true(after > before + 1);
    assert_true(last_kl() > 0);
}

/* It learns, and stays near the base when that is asked for. */
static void check_method(enum genarm_rl_method method) {
    struct genarm_rl_params p = rl_run_params(&r);
    p.method = method;
    check_learns(&p);
    const double loose = last_kl();
    p.kl_coef = 2;
    run(&p);
    print_message("kl held at %.2f\n", last_kl());
    assert_true(last_kl() < 0.3 * loose);
}

static void test_rloo_raises_the_reward_and_a_kl_coefficient_holds_it(void **state) {
    (void)state;
    check_method(GENARM_RL_RLOO);
}

static void test_grpo_raises_the_reward_and_a_kl_coefficient_holds_it(void **state) {
    (void)state;
    check_method(GENARM_RL_GRPO);
}

static void test_several_updates_on_the_samples_of_a_step_raise_the_reward(void **state) {
    (void)state;
    struct genarm_rl_params p = rl_run_params(&r);
    p.method = GENARM_RL_GRPO;
    p.num_iterations = 3;
    check_learns(&p);
    assert_true(mean_logged(0, STEPS, "clipped") > 0);
}

/* Two rewards that cancel, or one of weight 0, are none: B stays what it was, zero. */
static void test_weight_zero_leaves_the_policy_unchanged(void **state) {
    (void)state;
    struct genarm_rl_reward reward = rl_run_params(&r).rewards[0];
    for (int method = GENARM_RL_RLOO; method <= GENARM_RL_GRPO; method++) {
        struct genarm_rl_params p = rl_run_params(&r);
        size_t n = 0;
        p.method = (enum genarm_rl_method)method;
        reward.weight = 0;
        p.rewards = &reward;
        run(&p);
        float *b = rl_numbers(&r, r.output, true, &n);
        assert_true(n > 0);
        for (size_t i = 0; i < n; i++) {
            assert_true(fpclassify(b[i]) == FP_ZERO);
        }
        free(b);
        assert_true(fabs(rl_logged(&r, 3, "kl")) < 1e-6 && rl_logged(&r, 0, "length") > 1);
        assert_true(fpclassify(rl_logged(&r, 3, "reward")) == FP_ZERO);
    }
}

static void test_a_penalty_of_missing_ends_teaches_to_end(void **state) {
    (void)state;
    struct genarm_rl_reward reward = rl_run_params(&r).rewards[0];
    struct genarm_rl_params p = rl_run_params(&r);
    reward.weight = 0;
    p.rewards = &reward;
    p.missing_eos_penalty = 1;
    p.temperature = 1.3;
    p.top_k = 200;
    p.steps = STEPS;
    run(&p);
    assert_true(mean_logged(STEPS - FIRST, STEPS, "finished") > mean_logged(0, FIRST, "finished") + 0.4);
}

/* Of responses cut after one token none is left in the loss, of GRPO neither its KL term. */
static void test_masked_responses_teach_nothing(void **state) {
    (void)state;
    struct genarm_rl_params p = rl_run_params(&r);
    size_t n = 0;
    p.method = GENARM_RL_GRPO;
    p.kl_coef = 1;
    p.missing_eos_penalty = 1;
    p.max_new_tokens = 1;
    p.min_p = 0.5; /* no end of turn is drawn */
    p.steps = 2;
    run(&p);
    assert_true(fpclassify(rl_logged(&r, 0, "finished")) == FP_ZERO);
    p.mask_truncated = true;
    run(&p);
    float *b = rl_numbers(&r, r.output, true, &n);
    for (size_t i = 0; i < n; i++) {
        assert_true(fpclassify(b[i]) == FP_ZERO);
    }
    free(b);
}

static void test_the_reference_may_be_an_adapter(void **state) {
    (void)state;
    struct genarm_rl_params p = rl_run_params(&r);
    char first[128];
    run(&p);
    train_run_keep(&r, first, sizeof first, r.output, "first.gguf");
    p.steps = 1;
    p.training.init_adapter = first;
    run(&p);
    assert_true(rl_logged(&r, 0, "kl") > 0.05);
    p.training.reference_adapter = first;
    run(&p);
    assert_true(fabs(rl_logged(&r, 0, "kl")) < 1e-4);
}

/* ---- results ---- */

static void test_the_adapter_says_what_it_is_and_libllama_loads_it(void **state) {
    (void)state;
    struct genarm_rl_params p = rl_run_params(&r);
    struct genarm_adapter *adapter = NULL;
    struct genarm_adapter_info info;
    struct genarm_error err = {0};
    p.method = GENARM_RL_GRPO;
    run(&p);
    must(genarm_adapter_load(&adapter, r.model, r.output, &err), &err);
    genarm_adapter_get_info(adapter, &info);
    assert_string_equal(info.loss, "grpo");
    assert_string_equal(info.targets, "q,v,o,down");
    assert_int_equal(strlen(info.data_hash), 16);
    genarm_adapter_free(adapter);
    struct llama_model *model = llama_model_load_from_file(golden_path("llama.gguf"), llama_model_default_params());
    assert_non_null(llama_adapter_lora_init(model, r.output));
    llama_model_free(model);
}

struct calls {
    int n, stop_at_call;
    int64_t stop_at_step;
    struct genarm_rl_status last;
};

static int note(const struct genarm_rl_status *s, void *user) {
    struct calls *c = user;
    assert_true(s->sampled <= s->to_sample && s->step <= s->n_steps);
    c->last = *s;
    return ++c->n == c->stop_at_call || (s->step == c->stop_at_step && s->finished_step);
}

static void test_statuses_count_samples_and_steps(void **state) {
    (void)state;
    struct genarm_rl_params p = rl_run_params(&r);
    struct calls c = {.stop_at_step = -1};
    struct genarm_error err = {0};
    must(rl_run(&r, &p, note, &c, &err), &err);
    assert_true(c.last.step == 4 && c.last.n_steps == 4 && c.last.finished_step);
    assert_true(c.last.to_sample == 16 && c.last.sampled == 16);
    assert_true(c.last.n_rewards == 1 && c.n > 4 * 12);
    assert_true(c.last.finished >= 0 && c.last.finished <= 1 && c.last.length >= 1 && c.last.length <= 12);
    assert_true(c.last.tokens_per_second > 0);
}

/* ---- resuming ---- */

static void check_resumed(struct genarm_rl_params *p, int stop_at_call, int64_t stop_at_step, int32_t n_threads) {
    char whole[128];
    struct genarm_error err = {0};
    struct calls c = {.stop_at_call = stop_at_call, .stop_at_step = stop_at_step};
    p->training.resume = false;
    run(p);
    const double kl = rl_logged(&r, (int)p->steps - 1, "kl");
    train_run_keep(&r, whole, sizeof whole, r.output, "whole.gguf");
    assert_int_equal(rl_run(&r, p, note, &c, &err), GENARM_ECANCELED);
    assert_false(file_exists(r.output));
    p->training.resume = true;
    p->training.n_threads = n_threads;
    run(p);
    assert_true(same_files(whole, r.output));
    assert_int_equal(rl_count_logged(&r), p->steps);
    assert_true(fabs(rl_logged(&r, (int)p->steps - 1, "kl") - kl) < 1e-12);
    p->training.n_threads = 1;
}

static void test_resumed_equals_uninterrupted_to_the_bit(void **state) {
    (void)state;
    struct genarm_rl_params p = rl_run_params(&r);
    p.kl_coef = 0.05;
    p.training.schedule = GENARM_SCHEDULE_COSINE;
    p.training.warmup = 2;
    p.training.lora_dropout = 0.2f;
    check_resumed(&p, 0, 2, 2);
    check_resumed(&p, 50, -1, 1);
    p.training.save_every = 4; /* a checkpoint is written when the run stops */
    p.method = GENARM_RL_GRPO;
    check_resumed(&p, 0, 3, 1);
}

static void test_stopped_between_updates_of_a_step_resumes_before_it(void **state) {
    (void)state;
    struct genarm_rl_params p = rl_run_params(&r);
    p.steps = 3;
    p.num_iterations = 3;
    p.training.micro_batch = 2;
    for (int call = 26; call < 41; call += 5) { /* some in sampling, some in an update */
        check_resumed(&p, call, -1, 1);
    }
}

static void test_another_run_is_not_resumed(void **state) {
    (void)state;
    struct genarm_rl_params p = rl_run_params(&r);
    struct genarm_rl_reward reward = p.rewards[0];
    struct genarm_error err = {0};
    struct calls c = {.stop_at_step = 1};
    assert_int_equal(rl_run(&r, &p, note, &c, &err), GENARM_ECANCELED);
    assert_non_null(strstr(err.hint, "arm.gguf.ckpt"));
    p.training.resume = true;
    reward.weight = 0.5;
    p.rewards = &reward;
    assert_int_equal(rl_run(&r, &p, NULL, NULL, &err), GENARM_EMISMATCH);
    assert_non_null(strstr(err.what, "its reward is \"1 letter\", not \"0.5 letter\""));
    p = rl_run_params(&r);
    p.training.resume = true;
    p.group_size = 4;
    assert_int_equal(rl_run(&r, &p, NULL, NULL, &err), GENARM_EMISMATCH);
    assert_non_null(strstr(err.what, "group_size is 8, not 4"));
    p = rl_run_params(&r);
    p.training.resume = true;
    run(&p);
}

/* ---- failures ---- */

static int reward_nothing(void *user, const struct genarm_sample *samples, size_t n, double *rewards,
                          struct genarm_error *err) {
    int *calls = user;
    (void)samples;
    for (size_t i = 0; i < n; i++) {
        rewards[i] = i == 9 && *calls == 2 ? NAN : (double)i;
    }
    return ++*calls == 4 ? error_set(err, GENARM_EIO, "the reward is asleep") : GENARM_OK;
}

static void test_a_reward_that_is_no_number_stops_and_keeps_the_checkpoint(void **state) {
    (void)state;
    int calls = 0;
    const struct genarm_rl_reward rewards[] = {{.name = "odd", .weight = 1, .score = reward_nothing, .user = &calls}};
    struct genarm_rl_params p = rl_run_params(&r);
    struct genarm_error err = {0};
    p.rewards = rewards;
    assert_int_equal(rl_run(&r, &p, NULL, NULL, &err), GENARM_EDIVERGED);
    assert_non_null(strstr(err.what, "the reward odd is nan"));
    assert_non_null(strstr(err.where, "step 3, prompt "));
    assert_int_equal(access(r.checkpoint, F_OK), 0);
    p.training.resume = true; /* the third step is asked again, and the fourth fails otherwise */
    assert_int_equal(rl_run(&r, &p, NULL, NULL, &err), GENARM_EIO);
    assert_string_equal(err.where, "reward odd");
    run(&p);
    assert_int_equal(rl_count_logged(&r), 4);
}

static void test_a_policy_that_diverges_stops_naming_the_step(void **state) {
    (void)state;
    struct genarm_rl_params p = rl_run_params(&r);
    struct genarm_error err = {0};
    p.training.learning_rate = 1e30f;
    assert_int_equal(rl_run(&r, &p, NULL, NULL, &err), GENARM_EDIVERGED);
    assert_non_null(strstr(err.where, "step 2"));
}

static void check_refused(const struct genarm_rl_params *p, const char *what) {
    struct genarm_error err = {0};
    assert_int_equal(rl_run(&r, p, NULL, NULL, &err), GENARM_EINVAL);
    if (!strstr(err.what, what)) {
        fail_msg("\"%s\" does not say \"%s\"", err.what, what);
    }
}

static void test_options_out_of_range_are_refused(void **state) {
    (void)state;
    const struct genarm_rl_params good = rl_run_params(&r);
    struct genarm_rl_reward twice[] = {good.rewards[0], good.rewards[0]};
    struct genarm_rl_params p = good;
    p.group_size = 3;
    check_refused(&p, "group size is 3, an odd number");
    p = good;
    p.temperature = 0;
    check_refused(&p, "temperature is 0");
    p = good;
    p.n_rewards = 0;
    check_refused(&p, "no reward");
    p = good;
    p.rewards = twice;
    p.n_rewards = 2;
    check_refused(&p, "two rewards are called \"letter\"");
    p = good;
    p.max_new_tokens = p.training.max_length;
    check_refused(&p, "largest number of new tokens");
    p = good;
    p.training.max_length = 20; /* no prompt has so few */
    check_refused(&p, "no prompt leaves room");
    const struct genarm_objective objectives[2] = {{.name = "a"}, {.name = "b"}};
    p = good;
    p.training.objectives = objectives;
    p.training.n_objectives = 2;
    check_refused(&p, "an adapter of several objectives");
    p = good;
    p.training.team = &(struct genarm_team){.size = 2};
    check_refused(&p, "several machines");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rloo_raises_the_reward_and_a_kl_coefficient_holds_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_grpo_raises_the_reward_and_a_kl_coefficient_holds_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_several_updates_on_the_samples_of_a_step_raise_the_reward, setup, teardown),
        cmocka_unit_test_setup_teardown(test_weight_zero_leaves_the_policy_unchanged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_penalty_of_missing_ends_teaches_to_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_masked_responses_teach_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_reference_may_be_an_adapter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_adapter_says_what_it_is_and_libllama_loads_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_statuses_count_samples_and_steps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_resumed_equals_uninterrupted_to_the_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stopped_between_updates_of_a_step_resumes_before_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_run_is_not_resumed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reward_that_is_no_number_stops_and_keeps_the_checkpoint, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_policy_that_diverges_stops_naming_the_step, setup, teardown),
        cmocka_unit_test_setup_teardown(test_options_out_of_range_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
