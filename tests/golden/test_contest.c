/* What `genarm bench` measures with: both sides compute the same, and take their turns as they should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bench/bandwidth.h"
#include "bench/contest.h"
#include "bench/machine.h"
#include "bench/random_arms.h"
#include "support/golden.h"

enum { N_ARMS = 2, N_ROUNDS = 3, CTX = 64 };

static struct genarm_model *model;
static struct genarm_adapter *adapters[N_ARMS];
static struct genarm_guide *guide;
static struct contest contest;

static int open_contest(void **state) {
    (void)state;
    struct genarm_error err = {0};
    struct genarm_guide_params params = genarm_guide_default_params();
    params.n_ctx = CTX;
    params.n_threads = 1;
    model = golden_model("llama.gguf");
    must(genarm_guide_new(&guide, model, &params, &err), &err);
    must(random_arms_add(guide, adapters, N_ARMS, &err), &err);
    must(contest_open(&contest, guide, 16, machine_resident(), NULL, &err), &err);
    return 0;
}

static int close_contest(void **state) {
    (void)state;
    contest_close(&contest);
    genarm_guide_free(guide);
    for (int i = 0; i < N_ARMS; i++) {
        genarm_adapter_free(adapters[i]);
    }
    genarm_model_free(model);
    return 0;
}

static void count(void *user) { ++*(int *)user; }

static void test_every_contestant_is_timed_in_every_round(void **state) {
    (void)state;
    struct genarm_error err = {0};
    const struct contest_test tests[] = {
        {.n_prompt = 16}, {.n_prompt = 8, .n_depth = 20}, {.n_gen = 4}, {.n_gen = 4, .n_depth = 20}};
    for (size_t t = 0; t < sizeof tests / sizeof *tests; t++) {
        double seconds[(N_ARMS + 2) * N_ROUNDS] = {0};
        int n_turns = 0;
        must(contest_rounds(&contest, &tests[t], 1, N_ROUNDS, seconds, count, &n_turns, &err), &err);
        assert_int_equal(contest_n(&contest), N_ARMS + 2);
        assert_int_equal(n_turns, (N_ROUNDS + 1) * (N_ARMS + 2));
        for (int i = 0; i < (N_ARMS + 2) * N_ROUNDS; i++) {
            assert_true(seconds[i] > 0);
        }
    }
}

static int n_asked, stop_at;
static int stop(void) { return ++n_asked == stop_at; }

static void test_a_stop_is_asked_for_before_each_batch_and_each_token(void **state) {
    (void)state;
    struct genarm_error err = {0};
    const struct {
        struct contest_test test;
        int n_rival, n_guide; /* how often each is to ask: the guide with both ARMs */
    } cases[] = {{{.n_gen = 5}, 7, 6}, {{.n_prompt = 40}, 10, 12}};
    const int32_t rival_batch = contest.rival.n_batch, guide_batch = guide->params.n_batch;
    contest.stop = contest.rival.stop = stop;
    contest.rival.n_batch = 4;
    guide->params.n_batch = 10;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double seconds[N_ARMS + 2];
        int n_turns = 0, n_all;
        contest.n_kept = 0;
        n_asked = stop_at = 0;
        must(contest_rounds(&contest, &cases[i].test, 0, 1, seconds, count, &n_turns, &err), &err);
        assert_int_equal(n_turns, N_ARMS + 2);
        n_all = n_asked;
        for (stop_at = 1; stop_at <= n_all; stop_at++) {
            n_asked = n_turns = 0;
            contest.n_kept = 0;
            assert_int_equal(contest_rounds(&contest, &cases[i].test, 0, 1, seconds, count, &n_turns, &err), GENARM_ECANCELED);
            assert_int_equal(n_asked, stop_at);
            assert_true((n_turns > 0) == (stop_at > cases[i].n_rival));
            assert_true((n_turns == N_ARMS + 1) == (stop_at > n_all - cases[i].n_guide));
        }
    }
    contest.stop = contest.rival.stop = NULL;
    contest.rival.n_batch = rival_batch;
    guide->params.n_batch = guide_batch;
    contest.n_kept = 0;
}

static void test_a_test_beyond_the_context_is_an_error(void **state) {
    (void)state;
    struct genarm_error err = {0};
    const struct contest_test test = {.n_prompt = CTX};
    double seconds[(N_ARMS + 2) * N_ROUNDS];
    assert_int_equal(contest_rounds(&contest, &test, 0, 1, seconds, NULL, NULL, &err), GENARM_ECONTEXT);
}

static void test_an_arm_that_steers_away_is_timed_with_its_weight(void **state) {
    (void)state;
    struct genarm_error err = {0};
    const struct contest_test test = {.n_gen = 2};
    double seconds[N_ARMS + 2];
    guide->policies[1].weight = -0.5f;
    guide->policies[2].weight = 0;
    must(contest_rounds(&contest, &test, 0, 1, seconds, NULL, NULL, &err), &err);
    assert_float_equal(genarm_session_weight(contest.session, 0), -0.5, 0);
    assert_float_equal(genarm_session_weight(contest.session, 1), 1, 0); /* an ARM that does not count costs nothing */
}

static void test_the_rival_chooses_what_the_unguided_guide_chooses(void **state) {
    (void)state;
    struct genarm_error err = {0};
    int32_t prompt[] = {5, 90, 17, 200, 33}, theirs = 0, ours = 0;
    for (int32_t i = 0; i < N_ARMS; i++) {
        must(genarm_session_set_weight(contest.session, i, 0, &err), &err);
    }
    must(genarm_session_prompt_tokens(contest.session, prompt, 5, &err), &err);
    rival_keep(&contest.rival, 0);
    must(rival_decode(&contest.rival, prompt, 5, &theirs, &err), &err);
    for (int i = 0; i < 8; i++) {
        must(genarm_session_step(contest.session, &ours, &err), &err);
        assert_int_equal(ours, theirs);
        must(rival_decode(&contest.rival, &theirs, 1, &theirs, &err), &err);
    }
    assert_true(rival_keep(&contest.rival, 3));
    must(rival_decode(&contest.rival, prompt + 3, 2, &theirs, &err), &err);
    must(genarm_session_prompt_tokens(contest.session, prompt, 5, &err), &err);
    must(genarm_session_step(contest.session, &ours, &err), &err);
    assert_int_equal(ours, theirs);
    contest.n_kept = 0;
}

static void test_bytes_are_weights_adapters_and_cache(void **state) {
    (void)state;
    const struct contest_test near = {.n_gen = 2}, far = {.n_gen = 2, .n_depth = 31};
    const double cached = 2 * 2.0 * model->hp.n_layer * hparams_n_embd_kv(&model->hp); /* of a token, keys and values in f16 */
    const double base = contest_bytes(&contest, 0, &near);
    assert_true(contest_bytes(&contest, CONTEST_LIBLLAMA, &near) == base);
    assert_true(contest_bytes(&contest, 0, &far) - base == 30 * cached);
    assert_true(contest_bytes(&contest, 1, &near) - base == 4.0 * (double)adapters[0]->n_params + 3 * cached);
    assert_true(base > 0.5 * (double)model->size && base < 1.1 * (double)model->size);
}

static void test_a_prompt_of_tokens_leaves_room_for_one(void **state) {
    (void)state;
    struct genarm_error err = {0};
    int32_t tokens[CTX] = {0}, token;
    assert_int_equal(genarm_session_prompt_tokens(contest.session, tokens, CTX, &err), GENARM_ECONTEXT);
    assert_int_equal(genarm_session_prompt_tokens(contest.session, tokens, 0, &err), GENARM_EINVAL);
    must(genarm_session_prompt_tokens(contest.session, tokens, CTX - 1, &err), &err);
    must(genarm_session_step(contest.session, &token, &err), &err);
    assert_int_equal(genarm_session_step(contest.session, &token, &err), GENARM_ECONTEXT);
}

static void test_the_machine_says_what_it_is(void **state) {
    (void)state;
    struct machine m;
    machine_describe(&m, model);
    assert_true(*m.cpu && *m.kernels && *m.llama);
    assert_string_equal(m.devices, "CPU");
    assert_null(strstr(m.features, "= "));
    assert_true(machine_resident() > (double)model->size);
    assert_true(bandwidth_measure(1) > 0.01);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_contestant_is_timed_in_every_round),
        cmocka_unit_test(test_a_stop_is_asked_for_before_each_batch_and_each_token),
        cmocka_unit_test(test_a_test_beyond_the_context_is_an_error),
        cmocka_unit_test(test_an_arm_that_steers_away_is_timed_with_its_weight),
        cmocka_unit_test(test_the_rival_chooses_what_the_unguided_guide_chooses),
        cmocka_unit_test(test_bytes_are_weights_adapters_and_cache),
        cmocka_unit_test(test_a_prompt_of_tokens_leaves_room_for_one),
        cmocka_unit_test(test_the_machine_says_what_it_is),
    };
    return cmocka_run_group_tests(tests, open_contest, close_contest);
}
