/* Adapters from and to PEFT: to the bit there and back, and with PEFT's own logits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "convert/peft.h"
#include "convert/safetensors.h"
#include "engine/engine.h"
#include "genarm/reward.h"
#include "model/adapter.h"
#include "model/model.h"
#include "support/edit.h"
#include "support/golden.h"
#include "support/libllama.h"
#include "support/temp.h"

static const char *const all[] = {"llama", "llama-linear", "llama3", "llama-yarn", "mistral", "qwen2", "qwen3"};
static const char *const peft[] = {"llama", "mistral", "qwen2"};
enum { N_ALL = sizeof all / sizeof *all, N_PEFT = sizeof peft / sizeof *peft };

static const char *file_of(const char *name, const char *end) {
    char file[64];
    snprintf(file, sizeof file, "%s%s", name, end);
    return golden_path(file);
}

static struct genarm_model *model_of(const char *name) {
    char file[64];
    snprintf(file, sizeof file, "%s.gguf", name);
    return golden_model(file);
}

static void assert_same_bytes(const char *a, const char *b) {
    struct buf x, y;
    buf_init(&x, 1 << 24);
    buf_init(&y, 1 << 24);
    assert_int_equal(file_read(&x, a, NULL), GENARM_OK);
    assert_int_equal(file_read(&y, b, NULL), GENARM_OK);
    if (x.len != y.len || memcmp(x.data, y.data, x.len) != 0) {
        fail_msg("%s and %s differ", a, b);
    }
    buf_deinit(&x);
    buf_deinit(&y);
}

static void to_peft(const struct genarm_model *model, const char *adapter, const char *folder) {
    struct genarm_error err = {0};
    must(genarm_adapter_to_peft(model, adapter, folder, NULL, &err), &err);
}

static void from_peft(const struct genarm_model *model, const char *folder, const char *output) {
    struct genarm_error err = {0};
    must(genarm_adapter_from_peft(model, folder, output, &err), &err);
}

/* ---- there and back ---- */

static void test_gguf_to_peft_and_back_gives_the_same_file(void **state) {
    (void)state;
    for (size_t i = 0; i < N_ALL; i++) {
        struct genarm_model *model = model_of(all[i]);
        to_peft(model, file_of(all[i], ".lora.gguf"), temp_path("peft"));
        from_peft(model, temp_path("peft"), temp_path("back.gguf"));
        assert_same_bytes(file_of(all[i], ".lora.gguf"), temp_path("back.gguf"));
        genarm_model_free(model);
    }
}

/* Ranks that differ, maps that only some layers have, and everything that genarm or others may say in the metadata. */
static void test_uneven_ranks_and_all_metadata_survive(void **state) {
    (void)state;
    static const char *const words[] = {"one", "", "drei — 三"};
    static const uint16_t numbers[] = {0, 65535, 7};
    struct genarm_model *model = model_of("llama");
    struct edit e;
    edit_open(&e, golden_path("llama.lora.gguf"));
    gguf_set_val_str(e.gguf, "genarm.base", model->fingerprint);
    gguf_set_val_str(e.gguf, "genarm.template", "raw:{system}\"\\\n{prompt}");
    gguf_set_val_f32(e.gguf, "genarm.beta", 0.05f);
    gguf_set_val_f32(e.gguf, "adapter.lora.alpha", 0.3f);
    float head[64];
    for (int i = 0; i < 64; i++) {
        head[i] = 1.0f / (float)(i + 3);
    }
    gguf_set_arr_data(e.gguf, "genarm.head", GGUF_TYPE_FLOAT32, head, 64);
    gguf_set_val_f64(e.gguf, "other.f64", 1e-300);
    gguf_set_val_u64(e.gguf, "other.u64", INT64_MAX);
    gguf_set_val_i8(e.gguf, "other.i8", -128);
    gguf_set_val_bool(e.gguf, "other.bool", true);
    gguf_set_arr_str(e.gguf, "other.words", (const char **)(uintptr_t)words, 3);
    gguf_set_arr_data(e.gguf, "other.numbers", GGUF_TYPE_UINT16, numbers, 3);
    gguf_set_arr_data(e.gguf, "other.none", GGUF_TYPE_FLOAT32, numbers, 0);
    edit_remove(&e, "blk.0.attn_q.weight.lora_a");
    edit_remove(&e, "blk.0.attn_q.weight.lora_b");
    float *a = edit_add(&e, "blk.1.attn_q.weight.lora_a", GGML_TYPE_F32, 64, 3);
    float *b = edit_add(&e, "blk.1.attn_q.weight.lora_b", GGML_TYPE_F32, 3, 64);
    for (int i = 0; i < 3 * 64; i++) {
        a[i] = (float)i / 7;
        b[i] = 1.0f / (float)(i + 1);
    }
    edit_save(&e, temp_path("uneven.gguf"));
    to_peft(model, temp_path("uneven.gguf"), temp_path("uneven"));
    from_peft(model, temp_path("uneven"), temp_path("uneven1.gguf")); /* tensors in genarm's order */
    to_peft(model, temp_path("uneven1.gguf"), temp_path("uneven1"));
    from_peft(model, temp_path("uneven1"), temp_path("uneven2.gguf"));
    assert_same_bytes(temp_path("uneven1.gguf"), temp_path("uneven2.gguf"));
    struct edit x, y;
    edit_open(&x, temp_path("uneven.gguf"));
    edit_open(&y, temp_path("uneven1.gguf"));
    assert_int_equal(gguf_get_n_kv(x.gguf), gguf_get_n_kv(y.gguf));
    for (int64_t i = 0; i < gguf_get_n_kv(x.gguf); i++) {
        assert_string_equal(gguf_get_key(x.gguf, i), gguf_get_key(y.gguf, i));
        assert_int_equal(gguf_get_kv_type(x.gguf, i), gguf_get_kv_type(y.gguf, i));
    }
    assert_true(gguf_get_val_f64(y.gguf, gguf_find_key(y.gguf, "other.f64")) == 1e-300);
    assert_memory_equal(gguf_get_arr_data(y.gguf, gguf_find_key(y.gguf, "genarm.head")), head, sizeof head);
    assert_string_equal(gguf_get_arr_str(y.gguf, gguf_find_key(y.gguf, "other.words"), 2), words[2]);
    for (int64_t i = 0; i < gguf_get_n_tensors(x.gguf); i++) {
        const struct ggml_tensor *t = edit_tensor(&x, gguf_get_tensor_name(x.gguf, i));
        assert_memory_equal(t->data, edit_tensor(&y, t->name)->data, ggml_nbytes(t));
    }
    edit_save(&x, temp_path("x.gguf"));
    edit_save(&y, temp_path("y.gguf"));
    genarm_model_free(model);
}

/* Without an alpha the scale is 1 whatever the rank: PEFT needs an alpha for each module then. */
static void test_an_adapter_without_alpha_survives(void **state) {
    (void)state;
    struct genarm_model *model = model_of("qwen2");
    struct edit e;
    edit_open(&e, golden_path("qwen2.lora.gguf"));
    gguf_remove_key(e.gguf, "adapter.lora.alpha");
    edit_add(&e, "blk.1.ffn_up.weight.lora_a", GGML_TYPE_F32, 96, 2);
    edit_add(&e, "blk.1.ffn_up.weight.lora_b", GGML_TYPE_F32, 2, 160);
    edit_save(&e, temp_path("scale1.gguf"));
    to_peft(model, temp_path("scale1.gguf"), temp_path("scale1"));
    from_peft(model, temp_path("scale1"), temp_path("scale1back.gguf"));
    struct genarm_adapter *ad = NULL;
    struct genarm_error err = {0};
    must(genarm_adapter_load(&ad, model, temp_path("scale1back.gguf"), &err), &err);
    assert_true(ad->alpha == 0 && ad->layers[1][LINEAR_UP].scale == 1 && ad->layers[0][LINEAR_UP].scale == 1);
    assert_int_equal(ad->layers[1][LINEAR_UP].a->ne[1], 2);
    genarm_adapter_free(ad);
    genarm_model_free(model);
}

/* ---- order of rows ---- */

/* llama.cpp's converter: reshape(heads, 2, half, ...).swapaxes(1, 2) */
static void test_rows_are_permuted_as_llama_cpp_does(void **state) {
    (void)state;
    enum { HEADS = 3, HALF = 4, ROWS = HEADS * 2 * HALF, WIDTH = 5 };
    float rows[ROWS * WIDTH], permuted[ROWS * WIDTH], back[ROWS * WIDTH];
    for (int i = 0; i < ROWS * WIDTH; i++) {
        rows[i] = (float)i;
    }
    peft_rows_to_gguf(permuted, rows, ROWS, WIDTH, HEADS);
    for (int h = 0; h < HEADS; h++) {
        for (int half = 0; half < 2; half++) {
            for (int p = 0; p < HALF; p++) {
                const int from = (h * 2 + half) * HALF + p, to = (h * HALF + p) * 2 + half;
                assert_memory_equal(&permuted[to * WIDTH], &rows[from * WIDTH], WIDTH * sizeof *rows);
            }
        }
    }
    peft_rows_from_gguf(back, permuted, ROWS, WIDTH, HEADS);
    assert_memory_equal(back, rows, sizeof rows);
}

/* ---- against PEFT ---- */

static float max_difference(const float *a, const float *b, size_t n) {
    float max = 0.0f;
    for (size_t i = 0; i < n; i++) {
        const float d = fabsf(a[i] - b[i]);
        max = d > max || isnan(d) ? d : max;
    }
    return max;
}

/* Logits of every token; of an adapter with a head, whose hidden states are asked for, those. */
static float *engine_outputs(const struct genarm_model *model, const char *adapter_path, const int32_t *tokens, size_t n,
                             bool hidden) {
    struct genarm_error err = {0};
    struct genarm_adapter *adapter = NULL;
    struct engine *engine = NULL;
    struct row rows[64];
    float *outputs = calloc(n * (size_t)(hidden ? model->hp.n_embd : model->hp.n_vocab), sizeof *outputs);
    assert_non_null(outputs);
    must(genarm_adapter_load(&adapter, model, adapter_path, &err), &err);
    must(engine_rows_new(&engine, model,
                         &(struct engine_params){.n_seq = 1, .n_ctx = 64, .n_batch = 64, .n_threads = 1, .hidden = hidden,
                                                 .kv_type = GENARM_KV_F32},
                         &err), &err);
    must(engine_add_adapter(engine, adapter, &err), &err);
    for (size_t i = 0; i < n; i++) {
        rows[i] = (struct row){.token = tokens[i], .pos = (int32_t)i, .output = true};
    }
    must(engine_forward(engine, rows, (int32_t)n, outputs, &err), &err);
    engine_free(engine);
    genarm_adapter_free(adapter);
    return outputs;
}

static void test_logits_of_a_converted_adapter_equal_pefts(void **state) {
    (void)state;
    for (size_t i = 0; i < N_PEFT; i++) {
        char name[64];
        snprintf(name, sizeof name, "peft/%s", peft[i]);
        struct golden g;
        golden_open(&g, name);
        size_t n, n_logits;
        const int32_t *tokens = golden_i32(&g, &n, "seq0.tokens");
        const float *want = golden_f32(&g, &n_logits, "seq0.logits_peft");
        struct genarm_model *model = model_of(peft[i]);
        const char *adapter = temp_path("frompeft.gguf");
        from_peft(model, golden_path(name), adapter);
        float *libllama = libllama_logits(file_of(peft[i], ".gguf"), &adapter, &(float){1}, 1, tokens, n);
        float *ours = engine_outputs(model, adapter, tokens, n, false);
        float *base = libllama_logits(file_of(peft[i], ".gguf"), NULL, NULL, 0, tokens, n);
        print_message("%-8s ours %.1e libllama %.1e effect %.1f\n", peft[i],
                      (double)max_difference(ours, want, n_logits), (double)max_difference(libllama, want, n_logits),
                      (double)max_difference(base, want, n_logits));
        assert_true(max_difference(ours, want, n_logits) <= 1e-4f);
        assert_true(max_difference(libllama, want, n_logits) <= 1e-4f);
        assert_true(max_difference(base, want, n_logits) > 1.0f);
        free(base);
        free(ours);
        free(libllama);
        genarm_model_free(model);
        golden_close(&g);
    }
}

/* A sequence classifier with one label, saved by PEFT: its output for each beginning of the tokens, and back to the byte. */
static void test_rewards_of_a_converted_classifier_equal_pefts(void **state) {
    (void)state;
    struct golden g;
    struct genarm_adapter *ad = NULL;
    struct genarm_error err = {0};
    size_t n, n_rewards;
    golden_open(&g, "peft/qwen3");
    const int32_t *tokens = golden_i32(&g, &n, "seq0.tokens");
    const float *want = golden_f32(&g, &n_rewards, "seq0.rewards_peft");
    struct genarm_model *model = model_of("qwen3");
    from_peft(model, golden_path("peft/qwen3"), temp_path("rm.gguf"));
    must(genarm_adapter_load(&ad, model, temp_path("rm.gguf"), &err), &err);
    assert_int_equal(ad->info.n_head, model->hp.n_embd);
    assert_int_equal(n_rewards, n);
    float *hidden = engine_outputs(model, temp_path("rm.gguf"), tokens, n, true), most = 0;
    for (size_t t = 0; t < n; t++) {
        float reward = 0;
        for (size_t i = 0; i < ad->info.n_head; i++) {
            reward += ad->info.head[i] * hidden[t * ad->info.n_head + i];
        }
        assert_true(fabsf(reward - want[t]) <= 1e-4f);
        most = fabsf(reward) > most ? fabsf(reward) : most;
    }
    assert_true(most > 1);
    free(hidden);
    genarm_adapter_free(ad);
    to_peft(model, temp_path("rm.gguf"), temp_path("rm"));
    from_peft(model, temp_path("rm"), temp_path("rm2.gguf"));
    assert_same_bytes(temp_path("rm.gguf"), temp_path("rm2.gguf"));
    genarm_model_free(model);
    golden_close(&g);
}

static void test_what_peft_says_is_kept(void **state) {
    (void)state;
    struct genarm_model *model = model_of("mistral");
    struct genarm_adapter *ad = NULL;
    struct genarm_error err = {0};
    from_peft(model, golden_path("peft/mistral"), temp_path("kept.gguf"));
    must(genarm_adapter_load(&ad, model, temp_path("kept.gguf"), &err), &err);
    assert_string_equal(ad->targets, "q,k");
    assert_string_equal(ad->info.base_hash, model->fingerprint);
    assert_true(ad->rank == 3 && ad->alpha == 5);
    to_peft(model, temp_path("kept.gguf"), temp_path("kept"));
    struct peft_config config;
    must(peft_config_read(&config, temp_path("kept/" PEFT_CONFIG), &err), &err);
    assert_string_equal(config.base_model, "golden/mistral");
    assert_int_equal(config.rank, 3);
    assert_true(config.alpha == 5);
    assert_int_equal(json_array_size(config.targets), 2);
    peft_config_deinit(&config);
    must(genarm_adapter_to_peft(model, temp_path("kept.gguf"), temp_path("kept"), "org/model", &err), &err);
    must(peft_config_read(&config, temp_path("kept/" PEFT_CONFIG), &err), &err);
    assert_string_equal(config.base_model, "org/model");
    peft_config_deinit(&config);
    genarm_adapter_free(ad);
    genarm_model_free(model);
}

/* Every tensor that PEFT wrote comes back with the same numbers; F16 and BF16 as F32. */
static void test_peft_to_gguf_and_back_keeps_every_number(void **state) {
    (void)state;
    struct genarm_model *model = model_of("mistral");
    struct safetensors x, y;
    struct genarm_error err = {0};
    from_peft(model, golden_path("peft/mistral"), temp_path("there.gguf"));
    to_peft(model, temp_path("there.gguf"), temp_path("there"));
    must(safetensors_open(&x, golden_path("peft/mistral/" PEFT_TENSORS), &err), &err);
    must(safetensors_open(&y, temp_path("there/" PEFT_TENSORS), &err), &err);
    assert_int_equal(x.n_tensors, y.n_tensors);
    for (size_t i = 0; i < x.n_tensors; i++) {
        const struct safetensors_tensor *a = &x.tensors[i], *b = NULL;
        for (size_t j = 0; j < y.n_tensors; j++) {
            b = strcmp(a->name, y.tensors[j].name) == 0 ? &y.tensors[j] : b;
        }
        assert_non_null(b);
        assert_int_equal(a->type, SAFETENSORS_F16);
        assert_memory_equal(a->shape, b->shape, sizeof a->shape);
        for (int64_t k = 0; k < a->shape[0] * a->shape[1]; k++) {
            uint16_t half;
            float full;
            memcpy(&half, (const char *)a->data + k * 2, sizeof half);
            memcpy(&full, (const char *)b->data + k * 4, sizeof full);
            assert_true(ggml_fp16_to_fp32(half) == full);
        }
    }
    safetensors_close(&x);
    safetensors_close(&y);
    genarm_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gguf_to_peft_and_back_gives_the_same_file),
        cmocka_unit_test(test_uneven_ranks_and_all_metadata_survive),
        cmocka_unit_test(test_an_adapter_without_alpha_survives),
        cmocka_unit_test(test_rows_are_permuted_as_llama_cpp_does),
        cmocka_unit_test(test_logits_of_a_converted_adapter_equal_pefts),
        cmocka_unit_test(test_rewards_of_a_converted_classifier_equal_pefts),
        cmocka_unit_test(test_what_peft_says_is_kept),
        cmocka_unit_test(test_peft_to_gguf_and_back_keeps_every_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
