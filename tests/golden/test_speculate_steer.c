/* Speculation and steering together: whatever shapes the mixture, greedy answers, what they were drawn from and the
 * log-probabilities kept of them are those without a draft. Tiny models in f32. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guide/grammar.h"
#include "guide/session.h"
#include "guide/speculate.h"
#include "support/golden.h"

enum { ANSWER = 32, DRAFT = 4 };

static const struct genarm_message hello[] = {{"user", "one two three, one two three, one two"}};

struct fixture {
    struct genarm_model *base, *weak;
    struct genarm_adapter *arm;
    struct genarm_guide *guide; /* ARM 0 "arm", on the weak model, relative to its reference: a hidden policy */
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    struct genarm_error err = {0};
    struct genarm_guide_params params = genarm_guide_default_params();
    f->base = golden_model("llama.gguf");
    f->weak = golden_model("llama.gguf");
    f->arm = golden_adapter(f->weak, "llama.lora.gguf");
    params.n_slots = 2;
    params.n_ctx = 128;
    params.n_threads = 1;
    params.kv_type = GENARM_KV_F32;
    must(genarm_guide_new(&f->guide, f->base, &params, &err), &err);
    const struct genarm_arm_params arm = {
        .name = "arm", .model = f->weak, .adapter = f->arm, .weight = 0.7f, .minus_reference = true};
    must(genarm_guide_add_arm(f->guide, &arm, &err), &err);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    genarm_guide_free(f->guide);
    genarm_adapter_free(f->arm);
    genarm_model_free(f->base);
    genarm_model_free(f->weak);
    free(f);
    return 0;
}

/* Two sessions alike, the second one drafting: from the text, or by the ARM. */
struct pair {
    struct genarm_session *plain, *drafting;
};

static struct pair make_pair(struct fixture *f, bool looks_up) {
    static const float by_arm[] = {0, 1};
    struct pair p;
    struct genarm_error err = {0};
    struct genarm_sampling greedy = genarm_sampling_default();
    const struct genarm_draft_params draft = {
        .weights = looks_up ? NULL : by_arm, .n_min = DRAFT, .n_max = DRAFT, .n_lookup = 1};
    greedy.temperature = 0.0f;
    must(genarm_session_new(&p.plain, f->guide, &greedy, &err), &err);
    must(genarm_session_new(&p.drafting, f->guide, &greedy, &err), &err);
    must(genarm_session_set_draft(p.drafting, &draft, &err), &err);
    must(genarm_session_prompt(p.plain, hello, 1, &err), &err);
    must(genarm_session_prompt(p.drafting, hello, 1, &err), &err);
    return p;
}

static void check_logprobs(const struct pair *p) {
    size_t n, n_plain;
    const struct genarm_token_logprob *kept = genarm_session_logprobs(p->drafting, &n);
    const struct genarm_token_logprob *want = genarm_session_logprobs(p->plain, &n_plain);
    assert_int_equal(n, n_plain);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(kept[i].token, want[i].token);
        assert_true(kept[i].guided == want[i].guided || fabsf(kept[i].guided - want[i].guided) < 2e-4f);
        assert_true(fabsf(kept[i].base - want[i].base) < 2e-4f);
        assert_true(fabsf(kept[i].arms[0] - want[i].arms[0]) < 2e-4f);
    }
}

static int64_t accepted(const struct pair *p) {
    struct genarm_draft_stats stats;
    genarm_session_get_draft_stats(p->drafting, &stats);
    return stats.n_accepted;
}

/* Steps both; returns how many drafted tokens were accepted. */
static int64_t check_same(struct pair *p, int n) {
    const int32_t n_vocab = p->plain->guide->policies[0].model->hp.n_vocab;
    const int64_t before = accepted(p);
    struct genarm_error err = {0};
    for (int i = 0; i < n; i++) {
        int32_t a, b;
        must(genarm_session_step(p->plain, &a, &err), &err);
        must(genarm_session_step(p->drafting, &b, &err), &err);
        assert_int_equal(a, b);
        for (int32_t t = 0; t < n_vocab; t++) {
            const float x = p->plain->logp[t], y = p->drafting->logp[t];
            assert_true(x == y || fabsf(x - y) < 2e-4f); /* both -INFINITY where nothing is allowed */
        }
        check_logprobs(p);
    }
    return accepted(p) - before;
}

static void drop(struct pair *p) {
    genarm_session_free(p->plain);
    genarm_session_free(p->drafting);
}

static void set_schedule(struct pair *p, const struct genarm_knot *knots, size_t n) {
    struct genarm_error err = {0};
    must(genarm_session_set_schedule(p->plain, 0, knots, n, &err), &err);
    must(genarm_session_set_schedule(p->drafting, 0, knots, n, &err), &err);
}

static void set_grammar(struct pair *p, struct genarm_grammar *g) {
    struct genarm_error err = {0};
    must(genarm_session_set_grammar(p->plain, g, &err), &err);
    must(genarm_session_set_grammar(p->drafting, g, &err), &err);
}

static void test_schedules_hold_at_drafted_positions(void **state) {
    const struct genarm_knot knots[] = {{0, 0.0f}, {5, 0.0f}, {6, 1.0f}, {14, 3.0f}, {15, 0.0f}};
    for (int looks_up = 0; looks_up < 2; looks_up++) {
        struct pair p = make_pair(*state, looks_up);
        set_schedule(&p, knots, 5);
        assert_true(check_same(&p, ANSWER) > 0);
        drop(&p);
    }
}

static void test_gates_and_biases_hold_at_drafted_positions(void **state) {
    for (int looks_up = 0; looks_up < 2; looks_up++) {
        struct pair p = make_pair(*state, looks_up);
        struct genarm_error err = {0};
        int32_t first;
        must(genarm_session_step(p.plain, &first, &err), &err);
        must(genarm_session_step(p.drafting, &first, &err), &err);
        const struct genarm_token_bias never = {first, -INFINITY};
        struct genarm_session *const both[] = {p.plain, p.drafting};
        for (int i = 0; i < 2; i++) { /* what is ahead was drawn without them */
            must(genarm_session_set_bias(both[i], &never, 1, &err), &err);
            must(genarm_session_set_min_entropy(both[i], 5.0f, &err), &err);
        }
        assert_true(check_same(&p, ANSWER) > 0);
        drop(&p);
    }
}

static void test_grammars_hold_at_drafted_positions(void **state) {
    struct fixture *f = *state;
    struct genarm_grammar *g;
    struct genarm_error err = {0};
    must(genarm_grammar_new(&g, f->base, "root ::= ([a-m]{3} \" \" [n-z]{2} \", \")+", &err), &err);
    for (int looks_up = 0; looks_up < 2; looks_up++) {
        struct pair p = make_pair(f, looks_up);
        set_grammar(&p, g);
        check_same(&p, ANSWER);
        set_grammar(&p, NULL); /* and another one in the middle of an answer */
        check_same(&p, 3);
        set_grammar(&p, g);
        check_same(&p, ANSWER);
        drop(&p);
    }
    genarm_grammar_free(g);
}

static void test_a_grammar_that_leaves_one_way_accepts_what_repeats(void **state) {
    struct fixture *f = *state;
    struct genarm_grammar *g;
    struct genarm_error err = {0};
    must(genarm_grammar_new(&g, f->base, "root ::= (\"ab\")+", &err), &err);
    struct pair p = make_pair(f, true);
    set_grammar(&p, g);
    assert_true(check_same(&p, ANSWER) > ANSWER / 4);
    drop(&p);
    genarm_grammar_free(g);
}

static void test_log_probabilities_are_kept_of_tokens_that_are_handed_out_later(void **state) {
    for (int looks_up = 0; looks_up < 2; looks_up++) {
        struct pair p = make_pair(*state, looks_up);
        struct genarm_error err = {0};
        check_same(&p, 3);
        must(genarm_session_keep_logprobs(p.plain, 3, &err), &err);
        must(genarm_session_keep_logprobs(p.drafting, 3, &err), &err);
        assert_true(check_same(&p, ANSWER) > 0);
        drop(&p);
    }
}

/* An allocation that fails is what the next test wants. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

/* Log-probabilities of more ARMs than any memory holds: the last thing that a draft needs room for. */
static void expect_no_memory(struct fixture *f, struct genarm_session *s, const struct genarm_draft_params *draft) {
    struct genarm_error err = {0};
    const int32_t n_top = s->steering.n_top, n_arms = f->guide->n_arms;
    s->steering.n_top = 999;
    f->guide->n_arms = INT32_MAX;
    assert_int_equal(genarm_session_set_draft(s, draft, &err), GENARM_ENOMEM);
    s->steering.n_top = n_top;
    f->guide->n_arms = n_arms;
}

static void test_where_memory_runs_out_the_draft_before_goes_on(void **state) {
    const struct genarm_draft_params shorter = {.n_min = 1, .n_max = 1, .n_lookup = 1};
    struct pair p = make_pair(*state, false);
    check_same(&p, 3);
    expect_no_memory(*state, p.drafting, &shorter);
    assert_true(check_same(&p, ANSWER) > 0);
    expect_no_memory(*state, p.drafting, NULL);
    assert_true(check_same(&p, ANSWER) > 0);
    drop(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_schedules_hold_at_drafted_positions),
        TEST(test_gates_and_biases_hold_at_drafted_positions),
        TEST(test_grammars_hold_at_drafted_positions),
        TEST(test_a_grammar_that_leaves_one_way_accepts_what_repeats),
        TEST(test_log_probabilities_are_kept_of_tokens_that_are_handed_out_later),
        TEST(test_where_memory_runs_out_the_draft_before_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
