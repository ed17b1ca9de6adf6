/* Trajectory-level rewards: those that training computes, whatever was scored before; wrong use is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "model/adapter.h"
#include "model/model.h"
#include "support/golden.h"
#include "support/temp.h"
#include "support/train_run.h"

enum { N_PAIRS = 12 };

static struct train_run r;

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

/* An adapter of `model` with matrices and a head that are not zero. */
static struct genarm_adapter *reward_adapter(const struct genarm_model *model, const char *lora) {
    struct genarm_adapter *ad = golden_adapter(model, lora), *with_head = NULL;
    struct genarm_error err = {0};
    float *head = malloc((size_t)model->hp.n_embd * sizeof *head);
    for (int32_t i = 0; i < model->hp.n_embd; i++) {
        head[i] = sinf((float)i) / 4;
    }
    const struct adapter_info info = {.head = head, .n_head = (size_t)model->hp.n_embd};
    const char *path = temp_path("reward.gguf");
    must(adapter_save(path, &model->hp, ad->layers, ad->alpha, &info, &err), &err);
    must(genarm_adapter_load(&with_head, model, path, &err), &err);
    free(head);
    genarm_adapter_free(ad);
    return with_head;
}

static double reward_of(struct genarm_reward *reward, const char *prompt, const char *response, bool whole) {
    double value = (double)NAN;
    struct genarm_error err = {0};
    const struct genarm_message message = {"user", prompt};
    must(genarm_reward_text(reward, &message, 1, response, whole, &value, &err), &err);
    return value;
}

static struct genarm_reward *new_reward(const struct genarm_model *model, const struct genarm_adapter *adapter,
                                        int32_t n_batch) {
    struct genarm_reward *reward = NULL;
    struct genarm_error err = {0};
    struct genarm_reward_params params = genarm_reward_default_params();
    params.n_threads = 1;
    params.n_batch = n_batch;
    must(genarm_reward_new(&reward, model, adapter, &params, &err), &err);
    return reward;
}

/* ---- values ---- */

static int last_margin(const struct genarm_train_status *s, void *user) {
    *(double *)user = s->margin;
    return 0;
}

/* The mean margin of all pairs: a step of training from the adapter that does not move it. */
static double margin_in_training(const char *adapter) {
    struct genarm_train_params p = train_run_params(&r);
    struct genarm_error err = {0};
    double margin = (double)NAN;
    p.loss = GENARM_LOSS_BT;
    p.beta = 0;
    p.init_adapter = adapter;
    p.learning_rate = 0;
    p.batch_size = N_PAIRS;
    p.val_split = 0;
    must(train_run(&r, &p, last_margin, &margin, &err), &err);
    return margin;
}

static double margin_in_scoring(struct genarm_reward *reward) {
    double sum = 0;
    char line[256];
    FILE *f = fopen(r.pairs, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        json_t *pair = NULL;
        must(json_parse(&pair, line, strlen(line), r.pairs, NULL), &(struct genarm_error){0});
        const char *prompt = json_string_value(json_object_get(pair, "prompt"));
        sum += reward_of(reward, prompt, json_string_value(json_object_get(pair, "chosen")), true) -
               reward_of(reward, prompt, json_string_value(json_object_get(pair, "rejected")), true);
        json_decref(pair);
    }
    fclose(f);
    return sum / N_PAIRS;
}

static void test_rewards_are_those_of_training(void **state) {
    (void)state;
    struct genarm_adapter *ad = reward_adapter(r.model, "llama.lora.gguf");
    const double expected = margin_in_training(ad->path);
    for (int32_t n_batch = 3; n_batch < 600; n_batch *= 13) { /* few rows and many take other nodes */
        struct genarm_reward *reward = new_reward(r.model, ad, n_batch);
        assert_true(fabs(expected) > 1e-2 && fabs(margin_in_scoring(reward) - expected) < 1e-4);
        genarm_reward_free(reward);
    }
    genarm_adapter_free(ad);
}

static void test_a_reward_does_not_depend_on_what_was_scored_before(void **state) {
    (void)state;
    static const char *const models[][2] = {{"qwen3.gguf", "qwen3.lora.gguf"}, {"mistral.gguf", "mistral.lora.gguf"}};
    static const char *const texts[][2] = {{"Name a bird.", "The owl, of course."},
                                           {"Name a bird.", "The owl"},
                                           {"Name a bird.", "The owl, of course. Or not?"},
                                           {"Name a bird.", "The owl, of course."},
                                           {"Name", "The owl, of course."},
                                           {"Name a bird.", "The"}};
    for (int m = 0; m < 2; m++) {
        struct genarm_model *model = golden_model(models[m][0]);
        struct genarm_adapter *ad = reward_adapter(model, models[m][1]);
        struct genarm_reward *kept = new_reward(model, ad, 512);
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
            for (int whole = 0; whole < 2; whole++) {
                struct genarm_reward *fresh = new_reward(model, ad, 512);
                const double a = reward_of(kept, texts[i][0], texts[i][1], whole);
                assert_true(fabs(a - reward_of(fresh, texts[i][0], texts[i][1], whole)) < 1e-4);
                assert_true(fabs(a - reward_of(kept, texts[i][0], texts[i][1], whole)) < 1e-4);
                genarm_reward_free(fresh);
            }
        }
        genarm_reward_free(kept);
        genarm_adapter_free(ad);
        genarm_model_free(model);
    }
}

static void test_the_end_of_turn_counts(void **state) {
    (void)state;
    struct genarm_adapter *ad = reward_adapter(r.model, "llama.lora.gguf");
    struct genarm_reward *reward = new_reward(r.model, ad, 512);
    const int32_t tokens[] = {100, 101, genarm_token_eos(r.model)};
    const struct genarm_message message = {"user", "x"};
    struct genarm_error err = {0};
    double open, whole;
    must(genarm_reward_tokens(reward, &message, 1, tokens, 2, &open, &err), &err);
    must(genarm_reward_tokens(reward, &message, 1, tokens, 3, &whole, &err), &err);
    assert_true(fabs(open - whole) > 1e-3);
    genarm_reward_free(reward);
    genarm_adapter_free(ad);
}

/* ---- merged and converted ---- */

static double reward_by(const char *path) {
    struct genarm_adapter *ad = NULL;
    struct genarm_error err = {0};
    must(genarm_adapter_load(&ad, r.model, path, &err), &err);
    struct genarm_reward *reward = new_reward(r.model, ad, 512);
    const double value = reward_of(reward, "Name a bird.", "The owl.", true);
    genarm_reward_free(reward);
    genarm_adapter_free(ad);
    return value;
}

static void test_halves_of_a_reward_model_are_the_whole(void **state) {
    (void)state;
    struct genarm_error err = {0};
    struct genarm_adapter *ad = reward_adapter(r.model, "llama.lora.gguf");
    const double whole = reward_by(ad->path);
    const struct genarm_merge_part parts[] = {{.path = ad->path, .weight = 0.5}, {.path = ad->path, .weight = 0.5}};
    for (int how = GENARM_MERGE_STACK; how <= GENARM_MERGE_AVERAGE; how++) {
        const char *soup = temp_path("soup.gguf");
        must(genarm_merge_adapters(parts, 2, (enum genarm_merge_how)how, soup, &err), &err);
        assert_true(fabs(reward_by(soup) - whole) < 1e-4);
    }
    const struct genarm_merge_part mixed[] = {{.path = ad->path, .weight = 0.5},
                                              {.path = golden_path("llama.lora.gguf"), .weight = 0.5}};
    assert_int_equal(genarm_merge_adapters(mixed, 2, GENARM_MERGE_STACK, temp_path("no.gguf"), &err), GENARM_EMISMATCH);
    assert_non_null(strstr(err.what, "genarm.head has 0 numbers"));
    assert_int_equal(genarm_merge_into_model(r.model, parts, 1, NULL, temp_path("no.gguf"), &err), GENARM_EUNSUPPORTED);
    assert_string_equal(err.where, ad->path);
    genarm_adapter_free(ad);
}

static void test_a_reward_model_keeps_its_head_as_peft(void **state) {
    (void)state;
    struct genarm_error err = {0};
    struct genarm_adapter *ad = reward_adapter(r.model, "llama.lora.gguf");
    char folder[96];
    snprintf(folder, sizeof folder, "%s/peft", r.folder);
    must(genarm_adapter_to_peft(r.model, ad->path, folder, NULL, &err), &err);
    const char *back = temp_path("back.gguf");
    must(genarm_adapter_from_peft(r.model, folder, back, &err), &err);
    assert_true(reward_by(back) == reward_by(ad->path));
    genarm_adapter_free(ad);
}

/* ---- faults ---- */

static void test_wrong_use_is_refused(void **state) {
    (void)state;
    struct genarm_reward *reward = NULL;
    struct genarm_error err = {0};
    struct genarm_reward_params params = genarm_reward_default_params();
    struct genarm_model *other = golden_model("llama.gguf");
    struct genarm_adapter *ad = reward_adapter(r.model, "llama.lora.gguf"), *arm = golden_adapter(r.model, "llama.lora.gguf");
    assert_int_equal(genarm_reward_new(&reward, r.model, arm, NULL, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "no head"));
    assert_string_equal(err.where, arm->path);
    assert_int_equal(genarm_reward_new(&reward, other, ad, NULL, &err), GENARM_EINVAL);
    params.n_batch = 0;
    assert_int_equal(genarm_reward_new(&reward, r.model, ad, &params, &err), GENARM_EINVAL);
    assert_null(reward);

    params = genarm_reward_default_params();
    params.n_ctx = 40;
    params.n_threads = 1;
    must(genarm_reward_new(&reward, r.model, ad, &params, &err), &err);
    const struct genarm_message message = {"user", "x"};
    const int32_t bad = 301;
    double value = 7;
    assert_int_equal(genarm_reward_tokens(reward, &message, 1, &bad, 1, &value, &err), GENARM_EINVAL);
    assert_int_equal(genarm_reward_tokens(reward, &message, 1, &bad, 0, &value, &err), GENARM_EINVAL);
    assert_int_equal(genarm_reward_text(reward, &message, 1, "", false, &value, &err), GENARM_EINVAL);
    assert_int_equal(genarm_reward_text(reward, &message, 1, "a long response, much longer than the context is", true,
                                        &value, &err),
                     GENARM_ECONTEXT);
    assert_true(value == 7);
    reward_of(reward, "x", "yes", true);
    genarm_reward_free(reward);
    genarm_adapter_free(arm);
    genarm_adapter_free(ad);
    genarm_model_free(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rewards_are_those_of_training, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reward_does_not_depend_on_what_was_scored_before, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_end_of_turn_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_halves_of_a_reward_model_are_the_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reward_model_keeps_its_head_as_peft, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_use_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
