/* Decoding under a preference: sessions with different ones in one batch, one that changes, and what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guide/session.h"
#include "support/conditioned_case.h"
#include "support/temp.h"

enum { ANSWER = 20, K = CONDITIONED_OBJECTIVES };

static const struct genarm_message hello[] = {{"user", "How are you, and what is the time?"}};
static const float one[K] = {1, 0, 0}, two[K] = {0, 1, 3}, even[K] = {5, 5, 5};

struct fixture {
    struct genarm_model *model;
    struct genarm_adapter *adapter, *plain; /* the second has no objectives */
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    struct conditioned_case c;
    struct genarm_error err = {0};
    conditioned_case_open(&c, "llama", false);
    conditioned_case_save(&c, temp_path("conditioned.gguf"));
    conditioned_case_close(&c);
    f->model = golden_model("llama.gguf");
    must(genarm_adapter_load(&f->adapter, f->model, temp_path("conditioned.gguf"), &err), &err);
    f->plain = golden_adapter(f->model, "llama.lora.gguf");
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    genarm_adapter_free(f->adapter);
    genarm_adapter_free(f->plain);
    genarm_model_free(f->model);
    free(f);
    return 0;
}

/* A guide with ARM 0, of this adapter, and ARM 1, without objectives and of weight 0.3. */
static struct genarm_guide *make_guide(const struct fixture *f, struct genarm_adapter *adapter, int32_t n_slots) {
    struct genarm_guide *g;
    struct genarm_error err = {0};
    struct genarm_guide_params params = genarm_guide_default_params();
    params.n_ctx = 128;
    params.n_threads = 1;
    params.n_slots = n_slots;
    params.kv_type = GENARM_KV_F32;
    must(genarm_guide_new(&g, f->model, &params, &err), &err);
    must(genarm_guide_add_arm(g, &(struct genarm_arm_params){.name = "both", .model = f->model, .adapter = adapter,
                                                             .weight = 1}, &err), &err);
    must(genarm_guide_add_arm(g, &(struct genarm_arm_params){.name = "plain", .model = f->model, .adapter = f->plain,
                                                             .weight = 0.3f}, &err), &err);
    return g;
}

static struct genarm_session *make_session(struct genarm_guide *g, const float *preference) {
    struct genarm_session *s;
    struct genarm_error err = {0};
    struct genarm_sampling sampling = genarm_sampling_default();
    sampling.seed = 5;
    must(genarm_session_new(&s, g, &sampling, &err), &err);
    if (preference) {
        must(genarm_session_set_preference(s, 0, preference, K, &err), &err);
    }
    must(genarm_session_prompt(s, hello, 1, &err), &err);
    return s;
}

static void answer(struct genarm_session *s, int32_t *tokens, int n) {
    struct genarm_error err = {0};
    for (int i = 0; i < n; i++) {
        must(genarm_session_step(s, &tokens[i], &err), &err);
    }
}

static void answer_under(const struct fixture *f, struct genarm_adapter *adapter, const float *preference, int32_t *tokens) {
    struct genarm_guide *g = make_guide(f, adapter, 1);
    struct genarm_session *s = make_session(g, preference);
    answer(s, tokens, ANSWER);
    genarm_session_free(s);
    genarm_guide_free(g);
}

static void test_a_preference_is_the_plain_adapter_that_it_is_fixed_at(void **state) {
    struct fixture *f = *state;
    int32_t weighed[ANSWER], fixed[ANSWER], other[ANSWER];
    struct genarm_adapter *adapter = NULL;
    struct genarm_error err = {0};
    must(genarm_adapter_load(&adapter, f->model, f->adapter->path, &err), &err);
    must(adapter_fix_preference(adapter, two, K, &err), &err);
    answer_under(f, f->adapter, two, weighed);
    answer_under(f, adapter, NULL, fixed);
    answer_under(f, f->adapter, one, other);
    assert_memory_equal(weighed, fixed, sizeof fixed);
    assert_memory_not_equal(weighed, other, sizeof other); /* or the test would prove nothing */
    answer_under(f, f->adapter, even, weighed);
    answer_under(f, f->adapter, NULL, other);
    assert_memory_equal(weighed, other, sizeof other);
    genarm_adapter_free(adapter);
}

static void test_sessions_with_different_preferences_together_equal_them_alone(void **state) {
    struct fixture *f = *state;
    const float *const preferences[] = {one, two, even};
    struct genarm_guide *g = make_guide(f, f->adapter, 3);
    struct genarm_session *sessions[3];
    struct genarm_error err = {0};
    int32_t alone[3][ANSWER], together[ANSWER][3];
    for (int i = 0; i < 3; i++) {
        answer_under(f, f->adapter, preferences[i], alone[i]);
        sessions[i] = make_session(g, preferences[i]);
    }
    for (int t = 0; t < ANSWER; t++) {
        must(genarm_sessions_step(sessions, 3, together[t], &err), &err);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(together[t][i], alone[i][t]);
        }
    }
    assert_memory_not_equal(alone[0], alone[1], sizeof alone[0]);
    for (int i = 0; i < 3; i++) {
        genarm_session_free(sessions[i]);
    }
    genarm_guide_free(g);
}

/* The mixture after a change is that of a session which never had another preference. */
static void test_a_changed_preference_equals_a_fresh_session_with_it(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *g = make_guide(f, f->adapter, 2);
    struct genarm_session *changed = make_session(g, one), *fresh = make_session(g, two);
    struct genarm_error err = {0};
    int32_t before[ANSWER], token;
    const size_t n_vocab = (size_t)f->model->hp.n_vocab;
    answer(changed, before, ANSWER);
    must(genarm_session_set_preference(changed, 0, one, K, &err), &err);
    assert_true(changed->timelines[1].n_cached > 0); /* the same as before costs nothing */
    must(genarm_session_set_preference(changed, 0, two, K, &err), &err);
    for (int32_t p = 0; p < g->n_policies; p++) {
        struct timeline *to = &fresh->timelines[p];
        memcpy(to->tokens + to->n, before, sizeof before);
        to->n += ANSWER;
    }
    must(genarm_session_step(changed, &token, &err), &err);
    must(genarm_session_step(fresh, &token, &err), &err);
    for (size_t i = 0; i < n_vocab; i++) {
        assert_true(fabsf(changed->logp[i] - fresh->logp[i]) < 1e-4f);
    }
    genarm_session_free(changed);
    genarm_session_free(fresh);
    genarm_guide_free(g);
}

static int take_arm(const struct genarm_token_score *score, void *user) {
    *(double *)user += (double)score->arms[0];
    return 0;
}

static double score_of(struct genarm_session *s) {
    static const int32_t response[] = {40, 77, 120, 2};
    struct genarm_error err = {0};
    double sum = 0;
    must(genarm_session_prompt(s, hello, 1, &err), &err);
    must(genarm_session_score(s, response, 4, take_arm, &sum, &err), &err);
    return sum;
}

/* Also where the prompt is the same, so that its cache would be used again. */
static void test_scores_follow_the_preference(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *g = make_guide(f, f->adapter, 1);
    struct genarm_error err = {0};
    struct genarm_session *s = make_session(g, one);
    const double first = score_of(s);
    must(genarm_session_set_preference(s, 0, two, K, &err), &err);
    const double second = score_of(s);
    genarm_session_free(s);
    s = make_session(g, two);
    assert_true(fabs(second - score_of(s)) < 1e-4);
    assert_true(fabs(second - first) > 1e-2);
    genarm_session_free(s);
    genarm_guide_free(g);
}

static void test_preferences_are_kept_normalised_and_by_default(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *g = make_guide(f, f->adapter, 1);
    struct genarm_error err = {0};
    struct genarm_adapter_info info;
    genarm_adapter_get_info(f->adapter, &info);
    assert_int_equal(info.n_objectives, K);
    assert_string_equal(info.objectives[1], "b");
    assert_true(fabsf(genarm_guide_preference(g, 0)[2] - 1.0f / 3) < 1e-6f);
    assert_null(genarm_guide_preference(g, 1));
    must(genarm_guide_set_preference(g, 0, two, K, &err), &err);
    struct genarm_session *s = make_session(g, NULL);
    const float *kept = genarm_session_preference(s, 0);
    assert_true(kept[0] == 0.0f && kept[1] == 0.25f && kept[2] == 0.75f);
    assert_null(genarm_session_preference(s, 1));
    genarm_session_free(s);
    genarm_guide_free(g);
}

static void test_bad_preferences_are_refused_and_change_nothing(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *g = make_guide(f, f->adapter, 1);
    struct genarm_session *s = make_session(g, two);
    const struct {
        int32_t arm;
        size_t n;
        float weights[K];
        const char *says;
    } bad[] = {
        {0, 2, {1, 1, 0}, "2 weights for 3 objectives"}, {0, K, {1, -1, 1}, "weight -1 of objective b"},
        {0, K, {1, 1, NAN}, "of objective c"},           {0, K, {INFINITY, 1, 1}, "of objective a"},
        {0, K, {0, 0, 0}, "0"},                          {1, K, {1, 1, 1}, "no objectives"},
        {2, K, {1, 1, 1}, "no ARM 2"},                   {-1, K, {1, 1, 1}, "no ARM -1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct genarm_error err = {0};
        assert_int_equal(genarm_session_set_preference(s, bad[i].arm, bad[i].weights, bad[i].n, &err), GENARM_EINVAL);
        assert_non_null(strstr(err.what, bad[i].says));
        assert_int_equal(genarm_guide_set_preference(g, bad[i].arm, bad[i].weights, bad[i].n, &err), GENARM_EINVAL);
    }
    assert_true(genarm_session_preference(s, 0)[2] == 0.75f);
    genarm_session_free(s);
    genarm_guide_free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_preference_is_the_plain_adapter_that_it_is_fixed_at),
        cmocka_unit_test(test_sessions_with_different_preferences_together_equal_them_alone),
        cmocka_unit_test(test_a_changed_preference_equals_a_fresh_session_with_it),
        cmocka_unit_test(test_scores_follow_the_preference),
        cmocka_unit_test(test_preferences_are_kept_normalised_and_by_default),
        cmocka_unit_test(test_bad_preferences_are_refused_and_change_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
