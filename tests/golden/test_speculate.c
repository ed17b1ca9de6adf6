/* Speculated draws have the distribution of plain ones, whatever drafts them: checked against the exact probabilities of the
 * first tokens of an answer, and token for token where sampling is greedy. Tiny models in f32. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guide/answer.h"
#include "guide/session.h"
#include "guide/speculate.h"
#include "support/edit.h"
#include "support/golden.h"
#include "support/temp.h"

enum { ANSWER = 40, DRAWS = 20000, LENGTH = 3, MAX_CELLS = 4096, N_CTX = 128 };

static const struct genarm_message hello[] = {{"user", "one two three, one two three, one two"}};

/* A guide with a strong base, its weak ARM, and a model that only drafts. */
struct fixture {
    struct genarm_model *base, *weak, *other;
    struct genarm_adapter *arm;
    struct genarm_guide *guide; /* ARM 0 "arm", weight 0.7; ARM 1 "draft", weight 0 */
};

static struct genarm_guide *make_guide(const struct fixture *f, int32_t n_slots) {
    struct genarm_guide *g;
    struct genarm_error err = {0};
    struct genarm_guide_params params = genarm_guide_default_params();
    params.n_slots = n_slots;
    params.n_ctx = N_CTX;
    params.n_threads = 1;
    params.kv_type = GENARM_KV_F32;
    must(genarm_guide_new(&g, f->base, &params, &err), &err);
    const struct genarm_arm_params arm = {.name = "arm", .model = f->weak, .adapter = f->arm, .weight = 0.7f};
    const struct genarm_arm_params draft = {.name = "draft", .model = f->other, .weight = 0.0f};
    must(genarm_guide_add_arm(g, &arm, &err), &err);
    must(genarm_guide_add_arm(g, &draft, &err), &err);
    return g;
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    f->base = golden_model("llama.gguf");
    f->weak = golden_model("llama.gguf");
    f->other = golden_model("llama-padded.gguf");
    f->arm = golden_adapter(f->weak, "llama.lora.gguf");
    f->guide = make_guide(f, 3);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    genarm_guide_free(f->guide);
    genarm_adapter_free(f->arm);
    genarm_model_free(f->base);
    genarm_model_free(f->weak);
    genarm_model_free(f->other);
    free(f);
    return 0;
}

/* What drafts: weights of base, ARM and draft model, or the text itself. */
struct draft {
    float weights[3];
    bool looks_up;
};

static const struct draft by_arm = {{0, 1, 0}, false}, by_model = {{0, 0, 1}, false}, by_both = {{0, 0.5f, 2}, false},
                          by_base = {{1, 0, 0}, false}, by_text = {{0}, true};

static struct genarm_session *make_session(struct genarm_guide *g, struct genarm_sampling sampling) {
    struct genarm_session *s;
    struct genarm_error err = {0};
    must(genarm_session_new(&s, g, &sampling, &err), &err);
    must(genarm_session_prompt(s, hello, 1, &err), &err);
    return s;
}

static void set_draft(struct genarm_session *s, const struct draft *draft, int32_t n_min, int32_t n_max) {
    struct genarm_error err = {0};
    const struct genarm_draft_params params = {
        .weights = draft->looks_up ? NULL : draft->weights, .n_min = n_min, .n_max = n_max, .n_lookup = 1};
    must(genarm_session_set_draft(s, &params, &err), &err);
}

static void answer(struct genarm_session *s, int32_t *tokens, int n) {
    struct genarm_error err = {0};
    for (int i = 0; i < n; i++) {
        must(genarm_session_step(s, &tokens[i], &err), &err);
    }
}

/* Back to the prompt and n tokens of an answer; the random stream goes on. */
static void rewind_to(struct genarm_session *s, const int32_t *tokens, int32_t n) {
    session_drop_ahead(s);
    for (int32_t p = 0; p < s->guide->n_policies; p++) {
        struct timeline *t = &s->timelines[p];
        memcpy(t->tokens + t->n_prompt, tokens, (size_t)n * sizeof *tokens);
        t->n = t->n_prompt + n;
        t->n_cached = t->n_cached < t->n_prompt ? t->n_cached : t->n_prompt;
    }
}

/* ---- exact probabilities ---- */

struct cell {
    int32_t tokens[LENGTH];
    double p;
    int count;
};

struct cells {
    struct cell *at; /* [n] sequences likely enough to be counted one by one */
    int n;
    double rest;     /* probability of all others */
    int rest_count;
};

/* Enumerates the sequences that continue `prefix`, following no branch less likely than `least`. */
static void enumerate(struct genarm_session *s, int32_t *prefix, int32_t n, double p, double least, struct cells *cells) {
    struct genarm_error err = {0};
    int32_t token;
    if (n == LENGTH) {
        struct cell *c = &cells->at[cells->n++];
        assert_true(cells->n <= MAX_CELLS);
        memcpy(c->tokens, prefix, sizeof c->tokens);
        c->p = p;
        c->count = 0;
        cells->rest -= p;
        return;
    }
    const int32_t n_vocab = s->sampler.n_vocab;
    float *next = calloc((size_t)n_vocab, sizeof *next);
    rewind_to(s, prefix, n);
    must(genarm_session_step(s, &token, &err), &err);
    sampler_distribution(&s->sampler, s->logp, next);
    for (int32_t t = 0; t < n_vocab; t++) {
        if (p * (double)next[t] > least) {
            prefix[n] = t;
            enumerate(s, prefix, n + 1, p * (double)next[t], least, cells);
        }
    }
    free(next);
}

static void count(struct cells *cells, const int32_t *tokens) {
    for (int i = 0; i < cells->n; i++) {
        if (memcmp(cells->at[i].tokens, tokens, sizeof cells->at[i].tokens) == 0) {
            cells->at[i].count++;
            return;
        }
    }
    cells->rest_count++;
}

/* Standard normal deviate of Pearson's chi-square (Wilson and Hilferty). */
static double deviate(const struct cells *cells) {
    double x = 0.0, df = cells->n - 1;
    for (int i = 0; i < cells->n; i++) {
        const double want = DRAWS * cells->at[i].p;
        x += (cells->at[i].count - want) * (cells->at[i].count - want) / want;
    }
    if (cells->rest * DRAWS > 5) {
        x += (cells->rest_count - DRAWS * cells->rest) * (cells->rest_count - DRAWS * cells->rest) / (DRAWS * cells->rest);
        df++;
    }
    const double v = 2.0 / (9.0 * df);
    return (cbrt(x / df) - (1.0 - v)) / sqrt(v);
}

/* Draws the first tokens many times, and holds their frequencies against the probabilities. */
static void check_draws(struct genarm_guide *g, const struct draft *draft, struct genarm_sampling sampling, int32_t n_min,
                        int32_t n_max) {
    int32_t tokens[LENGTH];
    struct cells cells = {.at = calloc(MAX_CELLS, sizeof *cells.at), .rest = 1.0};
    struct genarm_session *exact = make_session(g, sampling), *s = make_session(g, sampling);
    enumerate(exact, tokens, 0, 1.0, 10.0 / DRAWS, &cells);
    genarm_session_free(exact);
    assert_true(cells.n > 10); /* or the test would prove little */
    set_draft(s, draft, n_min, n_max);
    for (int i = 0; i < DRAWS; i++) {
        rewind_to(s, tokens, 0);
        answer(s, tokens, LENGTH);
        count(&cells, tokens);
    }
    struct genarm_draft_stats stats;
    genarm_session_get_draft_stats(s, &stats);
    const double z = deviate(&cells);
    print_message("%d cells, rest %.3f: z = %.2f; %.2f of tested tokens accepted\n", cells.n, cells.rest, z,
                  (double)stats.n_accepted / (double)stats.n_tested);
    assert_true(stats.n_tested > (n_min ? DRAWS / 4 : DRAWS / 100));
    assert_true(stats.n_accepted > stats.n_tested / 10 && stats.n_accepted < stats.n_tested);
    assert_true(fabs(z) < 4.5);
    genarm_session_free(s);
    free(cells.at);
}

static const struct genarm_sampling warm = {.temperature = 0.7f, .top_p = 1.0f, .seed = 11};

static void test_draws_drafted_by_an_arm_follow_the_mixture(void **state) {
    check_draws(((struct fixture *)*state)->guide, &by_arm, warm, 2, 2);
}

static void test_draws_drafted_by_another_model_follow_the_mixture(void **state) {
    check_draws(((struct fixture *)*state)->guide, &by_model, warm, 3, 3);
}

static void test_draws_drafted_by_a_guided_small_model_follow_the_mixture(void **state) {
    check_draws(((struct fixture *)*state)->guide, &by_both, warm, 1, 1);
}

static void test_draws_drafted_by_the_base_follow_the_mixture_within_top_k(void **state) {
    const struct genarm_sampling few = {.temperature = 0.6f, .top_k = 6, .top_p = 1.0f, .seed = 12};
    check_draws(((struct fixture *)*state)->guide, &by_base, few, 2, 2);
}

static void test_draws_drafted_by_an_arm_follow_the_mixture_within_top_p_and_min_p(void **state) {
    const struct genarm_sampling nucleus = {.temperature = 1.2f, .top_k = 20, .top_p = 0.9f, .min_p = 0.02f, .seed = 13};
    check_draws(((struct fixture *)*state)->guide, &by_arm, nucleus, 3, 3);
}

static void test_draws_looked_up_in_the_text_follow_the_mixture(void **state) {
    const struct genarm_sampling few = {.temperature = 0.5f, .top_k = 4, .top_p = 1.0f, .seed = 14};
    check_draws(((struct fixture *)*state)->guide, &by_text, few, 2, 2);
}

static void test_draws_with_lengths_by_the_clock_follow_the_mixture(void **state) {
    check_draws(((struct fixture *)*state)->guide, &by_text, warm, 0, 8);
}

/* ---- greedy: token for token ---- */

static const struct genarm_sampling greedy = {.temperature = 0.0f, .top_p = 1.0f};

static void plain_answer(struct genarm_guide *g, int32_t tokens[ANSWER]) {
    struct genarm_session *s = make_session(g, greedy);
    answer(s, tokens, ANSWER);
    genarm_session_free(s);
}

static void test_greedy_answers_are_those_without_a_draft(void **state) {
    struct fixture *f = *state;
    const struct draft *const drafts[] = {&by_arm, &by_model, &by_both, &by_base, &by_text};
    int32_t plain[ANSWER], drafted[ANSWER];
    plain_answer(f->guide, plain);
    int64_t n_accepted = 0, n_rejected_at_once = 0;
    for (size_t d = 0; d < sizeof drafts / sizeof *drafts; d++) {
        for (int32_t n = 1; n <= 5; n += 2) {
            struct genarm_draft_stats stats, before;
            struct genarm_session *s = make_session(f->guide, greedy);
            set_draft(s, drafts[d], n, n);
            for (int i = 0; i < ANSWER; i++) {
                genarm_session_get_draft_stats(s, &before);
                answer(s, &drafted[i], 1);
                assert_int_equal(genarm_session_n_tokens(s), i + 1);
                genarm_session_get_draft_stats(s, &stats);
                n_rejected_at_once += stats.n_tested == before.n_tested + 1 && stats.n_accepted == before.n_accepted;
            }
            assert_memory_equal(plain, drafted, sizeof plain);
            n_accepted += stats.n_accepted;
            genarm_session_free(s);
        }
    }
    assert_true(n_accepted > 0 && n_rejected_at_once > 0); /* or the test would prove little */
}

static void test_a_draft_that_is_the_mixture_is_always_accepted(void **state) {
    struct fixture *f = *state;
    const struct draft same = {{1, 0.7f, 0}, false}, hotter = {{2, 1.4f, 0}, false};
    struct genarm_sampling sampling = genarm_sampling_default();
    struct genarm_draft_stats stats;
    struct genarm_session *s = make_session(f->guide, sampling);
    int32_t tokens[ANSWER];
    set_draft(s, &same, 3, 3);
    answer(s, tokens, ANSWER);
    genarm_session_get_draft_stats(s, &stats);
    assert_int_equal(stats.n_accepted, stats.n_tested);
    assert_int_equal(stats.n_accepted, stats.n_drafted);
    assert_true(stats.n_drafted >= 3 * (stats.n_passes - 2)); /* an end of turn cuts a draft */
    genarm_session_free(s);
    s = make_session(f->guide, sampling);
    set_draft(s, &hotter, 3, 3);
    answer(s, tokens, ANSWER);
    genarm_session_get_draft_stats(s, &stats);
    assert_true(stats.n_accepted < stats.n_tested); /* weights are not only proportions */
    genarm_session_free(s);
}

static void test_a_seed_gives_the_same_answer_with_a_fixed_length(void **state) {
    struct fixture *f = *state;
    struct genarm_sampling sampling = genarm_sampling_default();
    int32_t first[ANSWER], second[ANSWER];
    sampling.seed = 3;
    for (int i = 0; i < 2; i++) {
        struct genarm_session *s = make_session(f->guide, sampling);
        set_draft(s, &by_arm, 4, 4);
        answer(s, i ? second : first, ANSWER);
        genarm_session_free(s);
    }
    assert_memory_equal(first, second, sizeof first);
}

static void test_a_changed_weight_drops_what_was_not_handed_out(void **state) {
    struct fixture *f = *state;
    struct genarm_error err = {0};
    const struct draft *const drafts[] = {&by_arm, &by_base, &by_text};
    int32_t plain[ANSWER], drafted[ANSWER];
    for (size_t d = 0; d < sizeof drafts / sizeof *drafts; d++) {
        int n_dropped = 0;
        for (int i = 0; i < 2; i++) {
            struct genarm_session *s = make_session(f->guide, greedy);
            int32_t *tokens = i ? drafted : plain;
            if (i) {
                set_draft(s, drafts[d], 4, 4);
            }
            for (int t = 0; t < ANSWER; t++) {
                n_dropped += s->n_ahead > 0 && t % 3 == 1;
                if (t % 3 == 1) {
                    must(genarm_session_set_weight(s, 0, (float)(t % 4), &err), &err); /* also off and on again */
                }
                assert_int_equal(genarm_session_n_tokens(s), t);
                answer(s, &tokens[t], 1);
            }
            genarm_session_free(s);
        }
        assert_memory_equal(plain, drafted, sizeof plain);
        assert_true(n_dropped > 0);
    }
}

static void test_a_draft_can_come_and_go(void **state) {
    struct fixture *f = *state;
    struct genarm_error err = {0};
    int32_t plain[ANSWER], drafted[ANSWER];
    plain_answer(f->guide, plain);
    struct genarm_session *s = make_session(f->guide, greedy);
    answer(s, drafted, 5);
    set_draft(s, &by_arm, 4, 4);
    answer(s, drafted + 5, 6);
    set_draft(s, &by_text, 2, 6);
    answer(s, drafted + 11, 6);
    must(genarm_session_set_draft(s, NULL, &err), &err);
    answer(s, drafted + 17, 5);
    set_draft(s, &by_model, 0, 8);
    answer(s, drafted + 22, ANSWER - 22);
    assert_memory_equal(plain, drafted, sizeof plain);
    genarm_session_free(s);
}

static void test_sessions_with_and_without_drafts_in_one_batch_equal_sessions_alone(void **state) {
    struct fixture *f = *state;
    struct genarm_error err = {0};
    int32_t plain[ANSWER], together[3];
    plain_answer(f->guide, plain);
    struct genarm_session *s[3];
    for (int i = 0; i < 3; i++) {
        s[i] = make_session(f->guide, greedy);
    }
    set_draft(s[0], &by_both, 3, 3);
    set_draft(s[2], &by_text, 0, 4);
    for (int t = 0; t < ANSWER; t++) {
        must(genarm_sessions_step(s, 3, together, &err), &err);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(together[i], plain[t]);
        }
    }
    for (int i = 0; i < 3; i++) {
        genarm_session_free(s[i]);
    }
}

static void test_a_draft_ends_where_the_context_does(void **state) {
    struct fixture *f = *state;
    struct genarm_error err = {0};
    int32_t plain[N_CTX], drafted[N_CTX], n = 0;
    struct genarm_session *s = make_session(f->guide, greedy);
    while (genarm_session_n_left(s) > 0) {
        answer(s, &plain[n++], 1);
    }
    genarm_session_free(s);
    for (int32_t length = 1; length <= 7; length += 3) {
        s = make_session(f->guide, greedy);
        set_draft(s, length == 4 ? &by_text : &by_arm, length, length);
        for (int32_t i = 0; i < n; i++) {
            assert_int_equal(genarm_session_n_left(s), n - i);
            answer(s, &drafted[i], 1);
        }
        assert_memory_equal(plain, drafted, (size_t)n * sizeof *plain);
        assert_int_equal(genarm_session_step(s, drafted, &err), GENARM_ECONTEXT);
        genarm_session_free(s);
    }
}

static int take_guided(const struct genarm_token_score *score, void *user) {
    float **at = user;
    *(*at)++ = score->guided;
    return 0;
}

static void test_what_a_token_was_drawn_from_is_known_when_it_is_handed_out(void **state) {
    struct fixture *f = *state;
    struct genarm_error err = {0};
    struct genarm_sampling sampling = genarm_sampling_default();
    struct genarm_session *s = make_session(f->guide, sampling);
    int32_t tokens[ANSWER];
    float logp[ANSWER], guided[ANSWER], *at = guided;
    set_draft(s, &by_model, 4, 4);
    for (int t = 0; t < ANSWER; t++) {
        answer(s, &tokens[t], 1);
        logp[t] = s->logp[tokens[t]];
    }
    must(genarm_session_prompt(s, hello, 1, &err), &err); /* whatever was ahead */
    answer(s, tokens + ANSWER - 1, 1);
    must(genarm_session_prompt(s, hello, 1, &err), &err);
    must(genarm_session_score(s, tokens, ANSWER - 1, take_guided, &at, &err), &err);
    for (int t = 0; t < ANSWER - 1; t++) {
        assert_true(fabsf(guided[t] - logp[t]) < 1e-3f);
    }
    genarm_session_free(s);
}

/* The first pass took the prompt's time, with all the tokens that it gave. */
static void test_an_answers_rate_is_that_of_the_passes_after_the_first(void **state) {
    struct fixture *f = *state;
    const struct draft same = {{1, 0.7f, 0}, false};
    for (int drafts = 0; drafts < 2; drafts++) {
        struct genarm_error err = {0};
        struct genarm_draft_stats stats = {0};
        struct genarm_session *s = make_session(f->guide, greedy);
        struct answer a;
        size_t n_first = 0;
        int32_t token;
        if (drafts) {
            set_draft(s, &same, 4, 4); /* accepted */
        }
        must(answer_start(&a, f->base, s, NULL, -1, &err), &err);
        for (int t = 0; t < 12; t++) {
            answer(s, &token, 1);
            must(answer_push(&a, token, 100.0 + t, &err), &err);
            assert_int_equal(a.finish, FINISH_RUNNING); /* or the test would prove nothing */
            genarm_session_get_draft_stats(s, &stats);
            n_first = !drafts ? 1 : stats.n_passes == 1 ? (size_t)t + 1 : n_first;
            assert_int_equal(a.n_first, n_first);
            assert_true(answer_rate(&a) == (t + 1 > (int)n_first ? (t + 1.0 - (double)n_first) / t : 0.0));
        }
        assert_true(!drafts || (n_first > 1 && n_first < 12));
        answer_deinit(&a);
        genarm_session_free(s);
    }
}

/* ---- bounds ---- */

static void test_a_token_that_the_draft_does_not_know_ends_drafting_only(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *g;
    struct genarm_error err = {0};
    struct genarm_guide_params params = genarm_guide_default_params();
    params.n_threads = 1;
    params.n_ctx = N_CTX;
    must(genarm_guide_new(&g, f->other, &params, &err), &err); /* the base has padding */
    must(genarm_guide_add_arm(g, &(struct genarm_arm_params){.name = "d", .model = f->base, .weight = 0}, &err), &err);
    struct genarm_session *s = make_session(g, genarm_sampling_default());
    const int32_t unknown = f->other->hp.n_vocab - 1;
    int32_t tokens[8];
    const float weights[] = {0, 1};
    const struct genarm_draft_params draft = {.weights = weights, .n_min = 3, .n_max = 3, .n_lookup = 1};
    assert_true(unknown >= f->base->hp.n_vocab);
    must(genarm_session_set_draft(s, &draft, &err), &err);
    answer(s, tokens, 8);
    struct genarm_draft_stats before, after;
    rewind_to(s, &unknown, 1);
    genarm_session_get_draft_stats(s, &before);
    answer(s, tokens, 8);
    genarm_session_get_draft_stats(s, &after);
    assert_true(before.n_drafted > 0);
    assert_int_equal(after.n_drafted, before.n_drafted);
    assert_int_equal(after.n_passes, before.n_passes + 8);
    genarm_session_free(s);
    genarm_guide_free(g);
}

/* A draft of no numbers is said, and costs the session nothing: without it the answer goes on. */
static void test_a_damaged_draft_is_an_error_that_names_its_model(void **state) {
    struct fixture *f = *state;
    struct genarm_error err = {0};
    struct genarm_model *broken = NULL, *good = f->other;
    struct edit e;
    int32_t plain[ANSWER], drafted[ANSWER], token;
    plain_answer(f->guide, plain);
    edit_open(&e, golden_path("llama.gguf"));
    ((float *)edit_tensor(&e, "output_norm.weight")->data)[3] = NAN;
    must(genarm_model_load(&broken, edit_save(&e, temp_path("nan.gguf")), NULL, &err), &err);
    f->other = broken;
    struct genarm_guide *g = make_guide(f, 1);
    f->other = good;
    struct genarm_session *s = make_session(g, greedy);
    answer(s, drafted, 2);
    set_draft(s, &by_model, 3, 3);
    assert_int_equal(genarm_session_step(s, &token, &err), GENARM_EFORMAT);
    assert_string_equal(err.where, broken->path);
    assert_int_equal(genarm_session_n_tokens(s), 2);
    must(genarm_session_set_draft(s, NULL, &err), &err);
    answer(s, drafted + 2, ANSWER - 2);
    assert_memory_equal(plain, drafted, sizeof plain);
    genarm_session_free(s);
    genarm_guide_free(g);
    genarm_model_free(broken);
}

static void test_bad_drafts_are_refused(void **state) {
    struct fixture *f = *state;
    struct genarm_error err = {0};
    struct genarm_session *s = make_session(f->guide, greedy);
    const float none[] = {0, 0, 0}, negative[] = {0, -1, 0}, nan[] = {0, 0, NAN}, good[] = {0, 1, 0};
    const struct genarm_draft_params bad[] = {
        {.weights = none, .n_max = 4, .n_lookup = 1},    {.weights = negative, .n_max = 4, .n_lookup = 1},
        {.weights = nan, .n_max = 4, .n_lookup = 1},     {.weights = good, .n_max = 0, .n_lookup = 1},
        {.weights = good, .n_max = 65, .n_lookup = 1},   {.weights = good, .n_max = 4, .n_min = 5, .n_lookup = 1},
        {.weights = good, .n_max = 4, .n_min = -1, .n_lookup = 1}, {.n_max = 4, .n_lookup = 0},
    };
    struct genarm_draft_stats stats;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(genarm_session_set_draft(s, &bad[i], &err), GENARM_EINVAL);
    }
    genarm_session_get_draft_stats(s, &stats);
    assert_int_equal(stats.n_passes, 0);
    genarm_session_free(s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest draws[] = {
        TEST(test_draws_drafted_by_an_arm_follow_the_mixture),
        TEST(test_draws_drafted_by_another_model_follow_the_mixture),
        TEST(test_draws_drafted_by_a_guided_small_model_follow_the_mixture),
        TEST(test_draws_drafted_by_the_base_follow_the_mixture_within_top_k),
        TEST(test_draws_drafted_by_an_arm_follow_the_mixture_within_top_p_and_min_p),
        TEST(test_draws_looked_up_in_the_text_follow_the_mixture),
        TEST(test_draws_with_lengths_by_the_clock_follow_the_mixture),
    };
    const struct CMUnitTest tests[] = {
        TEST(test_greedy_answers_are_those_without_a_draft),
        TEST(test_a_draft_that_is_the_mixture_is_always_accepted),
        TEST(test_a_seed_gives_the_same_answer_with_a_fixed_length),
        TEST(test_a_changed_weight_drops_what_was_not_handed_out),
        TEST(test_a_draft_can_come_and_go),
        TEST(test_sessions_with_and_without_drafts_in_one_batch_equal_sessions_alone),
        TEST(test_a_draft_ends_where_the_context_does),
        TEST(test_what_a_token_was_drawn_from_is_known_when_it_is_handed_out),
        TEST(test_an_answers_rate_is_that_of_the_passes_after_the_first),
        TEST(test_a_token_that_the_draft_does_not_know_ends_drafting_only),
        TEST(test_a_damaged_draft_is_an_error_that_names_its_model),
        TEST(test_bad_drafts_are_refused),
    };
    int n_failed = cmocka_run_group_tests(draws, NULL, NULL); /* many passes: on our graph only, which is quick */
    for (golden_engine = GENARM_ENGINE_GENARM; golden_engine <= GENARM_ENGINE_LLAMA; golden_engine++) {
        n_failed += cmocka_run_group_tests_name(golden_engine_name(), tests, NULL, NULL);
    }
    return n_failed;
}
