/* Rewards by ARMs and reward models: those that scoring computes, whatever was scored before; wrong use is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/adapter.h"
#include "model/model.h"
#include "support/golden.h"
#include "support/temp.h"

static const struct genarm_message asked[] = {{"user", "Name a bird."}};
static const struct genarm_message talk[] = {
    {"system", "Be terse."}, {"user", "Name a fish."}, {"assistant", "Cod"}, {"user", "Name a bird."}};

static const struct genarm_sample samples[] = {
    {asked, 1, "The owl, of course.", true, NULL, 0},  {asked, 1, "The owl, of", false, NULL, 0},
    {asked, 1, "The owl, of course.", false, NULL, 0}, {talk, 4, "The owl, of course.", true, NULL, 0},
    {asked, 1, "", true, NULL, 0},                     {asked, 1, "The owl, of course.", true, NULL, 0}};
enum { N = sizeof samples / sizeof *samples };

static struct genarm_source_params params_of(int32_t n_batch) {
    struct genarm_source_params p = genarm_source_default_params();
    p.n_threads = 1;
    p.n_batch = n_batch;
    return p;
}

static struct genarm_source *open_source(const char *kind, const char *rest, struct genarm_model *base,
                                         const struct genarm_source_params *params) {
    struct genarm_source *s = NULL;
    struct genarm_error err = {0};
    char spec[1100];
    snprintf(spec, sizeof spec, "%s%s", kind, rest);
    must(genarm_source_new(&s, spec, base, params, &err), &err);
    return s;
}

/* ---- ARMs ---- */

struct sums {
    double arm, reference;
    int n;
};

static int add(const struct genarm_token_score *score, void *user) {
    struct sums *s = user;
    s->arm += (double)score->arms[0];
    s->reference += (double)score->reference[0];
    s->n++;
    return 0;
}

/* By a session of a guide. */
static struct sums expected(struct genarm_model *base, struct genarm_model *model, struct genarm_adapter *adapter,
                            const char *template_name, const struct genarm_sample *sample) {
    struct genarm_guide *g = NULL;
    struct genarm_session *s = NULL;
    struct genarm_error err = {0};
    struct genarm_guide_params p = genarm_guide_default_params();
    struct sums sums = {0};
    p.kv_type = GENARM_KV_F32;
    p.n_threads = 1;
    must(genarm_guide_new(&g, base, &p, &err), &err);
    const struct genarm_arm_params arm = {
        .name = "a", .model = model, .adapter = adapter, .weight = 1, .template_name = template_name};
    must(genarm_guide_add_arm(g, &arm, &err), &err);
    must(genarm_session_new(&s, g, NULL, &err), &err);
    must(genarm_session_prompt(s, sample->messages, sample->n_messages, &err), &err);
    int32_t tokens[64];
    int32_t n = (int32_t)sample->n_tokens;
    if (sample->tokens) {
        memcpy(tokens, sample->tokens, sample->n_tokens * sizeof *tokens);
    } else {
        n = genarm_tokenize(base, sample->response, strlen(sample->response), false, false, tokens, 63);
        assert_true(n >= 0);
    }
    if (sample->finished && !(n > 0 && genarm_token_ends(base, tokens[n - 1]))) {
        tokens[n++] = genarm_token_eos(base);
    }
    must(genarm_session_score(s, tokens, (size_t)n, add, &sums, &err), &err);
    assert_int_equal(sums.n, n);
    genarm_session_free(s);
    genarm_guide_free(g);
    return sums;
}

static void test_arms_give_the_sums_of_a_session(void **state) {
    (void)state;
    static const char *const models[][2] = {
        {"llama.gguf", "llama.lora.gguf"}, {"qwen3.gguf", "qwen3.lora.gguf"}, {"mistral.gguf", "mistral.lora.gguf"}};
    static const char *const kinds[] = {"arm:", "arm-mean:", "ratio:", "ratio-mean:"};
    for (int m = 0; m < 3; m++) {
        struct genarm_model *model = golden_model(models[m][0]);
        struct genarm_adapter *ad = golden_adapter(model, models[m][1]);
        struct sums sums[N];
        for (int i = 0; i < N; i++) {
            sums[i] = expected(model, model, ad, NULL, &samples[i]);
            assert_true(fabs(sums[i].arm - sums[i].reference) > 1e-3);
        }
        for (int k = 0; k < 4; k++) {
            const struct genarm_source_params p = params_of(k == 0 ? 7 : 512); /* few rows and many take other nodes */
            struct genarm_source *s = open_source(kinds[k], ad->path, model, &p);
            struct genarm_error err = {0};
            double values[N];
            must(genarm_source_score(s, samples, N, values, &err), &err);
            for (int i = 0; i < N; i++) {
                const double sum = sums[i].arm - (k >= 2 ? sums[i].reference : 0);
                assert_true(fabs(values[i] - (k % 2 ? sum / sums[i].n : sum)) < 1e-3);
            }
            assert_true(values[0] == values[N - 1] || fabs(values[0] - values[N - 1]) < 1e-4);
            genarm_source_free(s);
        }
        genarm_adapter_free(ad);
        genarm_model_free(model);
    }
}

/* A response as tokens that its text is not cut into: each of its bytes by itself. */
static void test_tokens_that_were_drawn_are_what_is_scored(void **state) {
    (void)state;
    struct genarm_model *model = golden_model("llama.gguf");
    struct genarm_adapter *ad = golden_adapter(model, "llama.lora.gguf");
    static const char text[] = "of the owl";
    int32_t drawn[sizeof text], n = 0, cut[32];
    for (const char *c = text; *c; c++, n++) {
        assert_int_equal(genarm_tokenize(model, c, 1, false, false, &drawn[n], 1), 1);
    }
    assert_true(genarm_tokenize(model, text, strlen(text), false, false, cut, 32) < n);
    drawn[n] = genarm_token_eos(model);
    const size_t n_drawn = (size_t)n;
    const int32_t foreign[] = {drawn[0], 1 << 30};
    const struct genarm_sample some[] = {
        {asked, 1, text, false, drawn, n_drawn},     {asked, 1, text, true, drawn, n_drawn + 1},
        {asked, 1, text, true, drawn, n_drawn},      {asked, 1, text, false, drawn, n_drawn + 1}, /* --no-eos */
        {asked, 1, text, false, drawn, n_drawn - 1}, {asked, 1, text, true, foreign, 2}, /* not its spelling */
        {asked, 1, "", false, drawn, 0},
    };
    static const int same_as[] = {0, 1, 1, 0, -1, -1, -1}; /* -1: the text's */
    const struct genarm_source_params p = params_of(512);
    struct genarm_source *s = open_source("arm:", ad->path, model, &p);
    struct genarm_error err = {0};
    double values[2];
    for (size_t i = 0; i < 6; i++) {
        struct genarm_sample counts = same_as[i] < 0 ? some[i] : some[same_as[i]];
        if (same_as[i] < 0) {
            counts.tokens = NULL;
            counts.n_tokens = 0;
        }
        must(genarm_source_score(s, &some[i], 1, values, &err), &err);
        assert_true(fabs(values[0] - expected(model, model, ad, NULL, &counts).arm) < 1e-3);
    }
    must(genarm_source_score(s, &some[0], 1, &values[0], &err), &err);
    must(genarm_source_score(s, &some[4], 1, &values[1], &err), &err);
    assert_true(fabs(values[0] - values[1]) > 1);
    assert_int_equal(genarm_source_score(s, &some[6], 1, values, &err), GENARM_EINVAL);
    genarm_source_free(s);
    genarm_adapter_free(ad);
    genarm_model_free(model);
}

static void test_a_model_of_its_own_is_an_arm_without_a_base(void **state) {
    (void)state;
    struct genarm_model *model = golden_model("llama.gguf");
    struct genarm_adapter *ad = golden_adapter(model, "llama.lora.gguf");
    const struct genarm_source_params p = params_of(512);
    struct genarm_error err = {0};
    char both[1024];
    double value;
    struct genarm_source *s = open_source("arm:", model->path, NULL, &p);
    must(genarm_source_score(s, samples, 1, &value, &err), &err);
    assert_true(fabs(value - expected(model, model, ad, NULL, samples).reference) < 1e-3);
    genarm_source_free(s);
    snprintf(both, sizeof both, "x=%s+%s:-2", model->path, ad->path);
    s = open_source("ratio:", both, NULL, &p);
    must(genarm_source_score(s, samples, 1, &value, &err), &err);
    const struct sums sums = expected(model, model, ad, NULL, samples);
    assert_true(fabs(value - (sums.arm - sums.reference)) < 1e-3); /* not times its weight */
    assert_string_equal(genarm_source_name(s), "x");
    assert_string_equal(genarm_source_kind(s), "ratio");
    assert_true(genarm_source_weight(s) == -2);
    genarm_source_free(s);
    genarm_adapter_free(ad);
    genarm_model_free(model);
}

static void test_prompts_are_written_in_the_template_given(void **state) {
    (void)state;
    static const char template_name[] = "raw:Q: {prompt}\\nA:";
    struct genarm_model *model = golden_model("llama.gguf");
    struct genarm_adapter *ad = golden_adapter(model, "llama.lora.gguf");
    struct genarm_error err = {0};
    struct genarm_source_params p = params_of(512);
    double value;
    char copy[sizeof template_name];
    memcpy(copy, template_name, sizeof copy);
    p.template_name = copy;
    struct genarm_source *s = open_source("arm:", ad->path, model, &p);
    memset(copy, 'x', sizeof copy - 1); /* it was copied */
    must(genarm_source_score(s, samples, 1, &value, &err), &err);
    assert_true(fabs(value - expected(model, model, ad, template_name, samples).arm) < 1e-3);
    assert_true(fabs(value - expected(model, model, ad, NULL, samples).arm) > 1e-2);
    genarm_source_free(s);
    genarm_adapter_free(ad);
    genarm_model_free(model);
}

/* ---- reward models ---- */

/* Writes an adapter of `model` with matrices and a head that are not zero. Returns its path. */
static const char *write_reward_model(const struct genarm_model *model, const char *lora, const char *template_name) {
    struct genarm_adapter *ad = golden_adapter(model, lora);
    struct genarm_error err = {0};
    char name[64];
    float *head = malloc((size_t)model->hp.n_embd * sizeof *head);
    for (int32_t i = 0; i < model->hp.n_embd; i++) {
        head[i] = sinf((float)i) / 4;
    }
    snprintf(name, sizeof name, "%s", template_name ? template_name : "");
    const struct adapter_info info = {
        .head = head, .n_head = (size_t)model->hp.n_embd, .template_ = template_name ? name : NULL};
    const char *path = temp_path("reward.gguf");
    must(adapter_save(path, &model->hp, ad->layers, ad->alpha, &info, &err), &err);
    free(head);
    genarm_adapter_free(ad);
    return path;
}

static void test_reward_models_give_what_genarm_reward_gives(void **state) {
    (void)state;
    static const char *const kinds[] = {"", "rm:", "x="};
    struct genarm_model *model = golden_model("llama.gguf");
    struct genarm_error err = {0};
    for (int k = 0; k < 3; k++) {
        const char *trained = k == 2 ? "raw:{prompt}\\n" : NULL; /* wins over the params' */
        const char *path = write_reward_model(model, "llama.lora.gguf", trained);
        struct genarm_adapter *ad = NULL;
        struct genarm_reward *reward = NULL;
        struct genarm_reward_params rp = genarm_reward_default_params();
        struct genarm_source_params p = params_of(512);
        double values[N], right;
        p.template_name = k ? "chatml" : NULL;
        rp.n_threads = 1;
        rp.template_name = trained ? trained : p.template_name;
        must(genarm_adapter_load(&ad, model, path, &err), &err);
        must(genarm_reward_new(&reward, model, ad, &rp, &err), &err);
        struct genarm_source *s = open_source(kinds[k], path, model, &p);
        must(genarm_source_score(s, samples, N, values, &err), &err);
        for (int i = 0; i < N; i++) {
            must(genarm_reward_text(reward, samples[i].messages, samples[i].n_messages, samples[i].response,
                                    samples[i].finished, &right, &err), &err);
            assert_true(fabs(values[i] - right) < 1e-4);
        }
        assert_string_equal(genarm_source_kind(s), "rm");
        genarm_source_free(s);
        genarm_reward_free(reward);
        genarm_adapter_free(ad);
    }
    genarm_model_free(model);
}

/* ---- faults ---- */

static void refused(const char *kind, const char *path, struct genarm_model *base, int code, const char *text) {
    struct genarm_source *s = NULL;
    struct genarm_error err = {0};
    char spec[1024];
    snprintf(spec, sizeof spec, "%s%s", kind, path);
    const int rc = genarm_source_new(&s, spec, base, NULL, &err);
    if (rc != code || s || !strstr(err.what, text)) {
        fail_msg("%s: %d \"%s\"", spec, rc, err.what);
    }
}

static void test_wrong_files_are_refused(void **state) {
    (void)state;
    struct genarm_model *model = golden_model("llama.gguf");
    const char *head = write_reward_model(model, "llama.lora.gguf", NULL);
    const char *arm = golden_path("llama.lora.gguf"), *plain = golden_path("llama.gguf");
    char both[1024];
    refused("rm:", "no.gguf", model, GENARM_EIO, "reward no: ");
    refused("", arm, model, GENARM_EINVAL, "no head");
    refused("", plain, model, GENARM_EINVAL, "its adapter with a head is missing");
    refused("arm:", head, model, GENARM_EINVAL, "no ARM");
    refused("ratio:", plain, model, GENARM_EINVAL, "no reference");
    refused("arm:", arm, NULL, GENARM_EINVAL, "no base");
    snprintf(both, sizeof both, "%s+%s", arm, head);
    refused("rm:", both, model, GENARM_EINVAL, "this is an adapter, before '+'");
    snprintf(both, sizeof both, "%s+%s", golden_path("qwen2.gguf"), arm);
    refused("arm:", both, model, GENARM_EMISMATCH, "reward llama.lora: ");
    genarm_model_free(model);
}

static void test_errors_name_the_source_and_the_sample(void **state) {
    (void)state;
    struct genarm_model *model = golden_model("llama.gguf");
    struct genarm_source_params p = params_of(512);
    struct genarm_error err = {0};
    double values[2];
    p.n_ctx = 60;
    const struct genarm_sample two[] = {{asked, 1, "Yes", true, NULL, 0},
                                        {asked, 1, "a long response, a response much longer than the context is", true, NULL, 0}};
    const struct genarm_sample empty[] = {{asked, 1, "Yes", true, NULL, 0}, {asked, 1, "", false, NULL, 0}};
    for (int k = 0; k < 2; k++) {
        values[0] = values[1] = 5;
        struct genarm_source *s = k ? open_source("x=", write_reward_model(model, "llama.lora.gguf", NULL), model, &p)
                                    : open_source("ratio:x=", golden_path("llama.lora.gguf"), model, &p);
        assert_int_equal(genarm_source_score(s, two, 2, values, &err), GENARM_ECONTEXT);
        assert_memory_equal(err.what, "reward x, sample 1: prompt and response have", 43);
        assert_string_equal(err.hint, "raise the context size (-c)");
        assert_int_equal(genarm_source_score(s, empty, 2, values, &err), GENARM_EINVAL);
        assert_non_null(strstr(err.what, "reward x, sample 1: a response without a token"));
        assert_true(values[0] == 5 && values[1] == 5);
        must(genarm_source_score(s, two, 1, values, &err), &err);
        genarm_source_free(s);
    }
    genarm_model_free(model);
}

static int stop_at_second(void *user) { return ++*(int *)user > 1; }

static void test_a_batch_can_be_stopped_between_samples(void **state) {
    (void)state;
    struct genarm_model *model = golden_model("llama.gguf");
    struct genarm_source_params p = params_of(512);
    struct genarm_error err = {0};
    double values[N];
    int n = 0;
    p.stop = stop_at_second;
    p.stop_user = &n;
    struct genarm_source *s = open_source("arm:", golden_path("llama.lora.gguf"), model, &p);
    assert_int_equal(genarm_source_score(s, samples, N, values, &err), GENARM_ECANCELED);
    assert_non_null(strstr(err.what, "sample 1"));
    genarm_source_free(s);
    genarm_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arms_give_the_sums_of_a_session),
        cmocka_unit_test(test_tokens_that_were_drawn_are_what_is_scored),
        cmocka_unit_test(test_a_model_of_its_own_is_an_arm_without_a_base),
        cmocka_unit_test(test_prompts_are_written_in_the_template_given),
        cmocka_unit_test(test_reward_models_give_what_genarm_reward_gives),
        cmocka_unit_test(test_wrong_files_are_refused),
        cmocka_unit_test(test_errors_name_the_source_and_the_sample),
        cmocka_unit_test(test_a_batch_can_be_stopped_between_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
