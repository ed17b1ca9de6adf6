/* LoRA adapters: written, read back, read by llama.cpp, and refused when they are not for the model. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <llama.h>

#include "base/file.h"
#include "base/rng.h"
#include "bench/random_adapter.h"
#include "model/adapter.h"
#include "model/model.h"
#include "support/edit.h"
#include "support/golden.h"
#include "support/temp.h"

static struct genarm_model *model;

static int open_model(void **state) {
    (void)state;
    model = golden_model("llama.gguf");
    return 0;
}

static int close_model(void **state) {
    (void)state;
    genarm_model_free(model);
    return 0;
}

static void expect_error(const char *path, int code, const char *what) {
    struct genarm_error err = {0};
    struct genarm_adapter *ad = NULL;
    const int rc = genarm_adapter_load(&ad, model, path, &err);
    if (rc != code || !strstr(err.what, what) || strncmp(err.where, path, strlen(path)) != 0) {
        fail_msg("got %d %s: \"%s\", expected %d \"%s\"", rc, err.where, err.what, code, what);
    }
    assert_null(ad);
}

static void edit_adapter(struct edit *e) { edit_open(e, golden_path("llama.lora.gguf")); }

static const char *save(struct edit *e) { return edit_save(e, temp_path("edited.gguf")); }

/* ---- good adapters ---- */

static void test_values_scale_and_facts_are_those_of_the_file(void **state) {
    (void)state;
    struct genarm_adapter *ad = golden_adapter(model, "llama.lora.gguf");
    struct genarm_adapter_info info;
    genarm_adapter_get_info(ad, &info);
    assert_string_equal(info.targets, "q,k,v,o,gate,up,down");
    assert_int_equal(info.rank, 4);
    assert_true(info.alpha == 8.0f);
    assert_null(info.loss);
    assert_null(info.base_fingerprint);
    struct edit e;
    edit_adapter(&e);
    int64_t n = 0;
    for (int32_t l = 0; l < 2; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            const struct lora *x = &ad->layers[l][t];
            assert_true(x->scale == 2.0f);
            for (int b = 0; b < 2; b++) {
                char name[80];
                snprintf(name, sizeof name, "blk.%d.%s.weight.lora_%c", l, linear_tensor_name((enum linear)t),
                         b ? 'b' : 'a');
                const struct ggml_tensor *got = b ? x->b : x->a, *want = edit_tensor(&e, name);
                assert_true(ggml_are_same_shape(got, want));
                float *values = malloc(ggml_nbytes(want));
                ggml_backend_tensor_get(got, values, 0, ggml_nbytes(want));
                assert_memory_equal(values, want->data, ggml_nbytes(want));
                free(values);
                n += ggml_nelements(want);
            }
        }
    }
    assert_int_equal(info.n_params, n);
    save(&e);
    genarm_adapter_free(ad);
    genarm_adapter_free(NULL);
}

static void test_an_adapter_may_leave_maps_and_layers_out(void **state) {
    (void)state;
    struct edit e;
    edit_open(&e, golden_path("llama.lora2.gguf"));
    edit_remove(&e, "blk.0.attn_v.weight.lora_a");
    edit_remove(&e, "blk.0.attn_v.weight.lora_b");
    edit_remove(&e, "blk.1.attn_q.weight.lora_a");
    edit_remove(&e, "blk.1.attn_q.weight.lora_b");
    struct genarm_adapter *ad = NULL;
    struct genarm_error err;
    must(genarm_adapter_load(&ad, model, save(&e), &err), &err);
    struct genarm_adapter_info info;
    genarm_adapter_get_info(ad, &info);
    assert_string_equal(info.targets, "q,v");
    assert_int_equal(info.rank, 2);
    assert_true(ad->layers[0][LINEAR_Q].scale == 3.0f);
    assert_null(ad->layers[0][LINEAR_V].a);
    assert_null(ad->layers[0][LINEAR_V].b);
    assert_non_null(ad->layers[1][LINEAR_V].b);
    assert_null(ad->layers[1][LINEAR_Q].a);
    genarm_adapter_free(ad);
}

static void test_half_precision_adapters_become_f32(void **state) {
    (void)state;
    static const enum ggml_type types[] = {GGML_TYPE_F16, GGML_TYPE_BF16};
    struct genarm_adapter *want = golden_adapter(model, "llama.lora.gguf");
    for (int i = 0; i < 2; i++) {
        struct edit e;
        edit_adapter(&e);
        edit_convert(&e, "blk.1.ffn_up.weight.lora_a", types[i]);
        edit_convert(&e, "blk.1.ffn_up.weight.lora_b", types[i]);
        struct genarm_adapter *ad = NULL;
        struct genarm_error err;
        must(genarm_adapter_load(&ad, model, save(&e), &err), &err);
        const struct lora *x = &ad->layers[1][LINEAR_UP], *y = &want->layers[1][LINEAR_UP];
        assert_int_equal(x->a->type, GGML_TYPE_F32);
        assert_memory_equal(x->a->data, y->a->data, ggml_nbytes(y->a)); /* golden values are exact in both types */
        assert_memory_equal(x->b->data, y->b->data, ggml_nbytes(y->b));
        genarm_adapter_free(ad);
    }
    genarm_adapter_free(want);
}

static void test_adapters_of_q8_0_become_f32(void **state) {
    (void)state;
    struct genarm_adapter *ad = NULL, *want = golden_adapter(model, "llama.lora.gguf");
    struct genarm_error err;
    struct edit e;
    edit_adapter(&e);
    edit_convert(&e, "blk.1.attn_q.weight.lora_a", GGML_TYPE_Q8_0);
    must(genarm_adapter_load(&ad, model, save(&e), &err), &err);
    const struct ggml_tensor *x = ad->layers[1][LINEAR_Q].a, *y = want->layers[1][LINEAR_Q].a;
    assert_int_equal(x->type, GGML_TYPE_F32);
    for (int64_t i = 0; i < ggml_nelements(y); i++) {
        assert_true(fabsf(((float *)x->data)[i] - ((float *)y->data)[i]) < 0.02f);
    }
    genarm_adapter_free(ad);
    genarm_adapter_free(want);
}

static void count_warning(enum genarm_log_level level, const char *line, void *user) {
    *(int *)user += level == GENARM_LOG_WARN && strstr(line, "blk.1.attn_norm.weight");
}

static void test_vectors_of_norms_are_left_out_with_a_warning(void **state) {
    (void)state;
    static const enum genarm_engine engines[] = {GENARM_ENGINE_GENARM, GENARM_ENGINE_LLAMA};
    for (int i = 0; i < 2; i++) {
        struct genarm_model_params params = genarm_model_default_params();
        struct genarm_model *m = NULL;
        struct genarm_adapter *ad = NULL;
        struct genarm_adapter_info info;
        struct genarm_error err;
        struct edit e;
        int n_warnings = 0;
        params.engine = engines[i];
        must(genarm_model_load(&m, golden_path("llama.gguf"), &params, &err), &err);
        edit_adapter(&e);
        edit_add(&e, "blk.1.attn_norm.weight", GGML_TYPE_F32, 64, 1);
        genarm_log_set(count_warning, &n_warnings);
        must(genarm_adapter_load(&ad, m, save(&e), &err), &err);
        genarm_log_set(NULL, NULL);
        assert_int_equal(n_warnings, 1);
        genarm_adapter_get_info(ad, &info);
        assert_int_equal(info.rank, 4);
        genarm_adapter_free(ad);
        edit_adapter(&e);
        for (struct ggml_tensor *t = ggml_get_first_tensor(e.tensors); t; t = ggml_get_next_tensor(e.tensors, t)) {
            ggml_set_name(t, "");
        }
        edit_add(&e, "blk.1.attn_norm.weight", GGML_TYPE_F32, 64, 1);
        assert_int_equal(genarm_adapter_load(&ad, m, save(&e), &err), GENARM_EFORMAT);
        assert_string_equal(err.what, "the adapter has no tensors");
        genarm_model_free(m);
    }
}

static void test_without_alpha_the_scale_is_one_as_in_llama_cpp(void **state) {
    (void)state;
    struct edit e;
    edit_adapter(&e);
    gguf_remove_key(e.gguf, "adapter.lora.alpha");
    struct genarm_adapter *ad = NULL;
    struct genarm_error err;
    must(genarm_adapter_load(&ad, model, save(&e), &err), &err);
    assert_true(ad->layers[0][LINEAR_Q].scale == 1.0f);
    genarm_adapter_free(ad);
}

static void test_an_adapter_of_one_weight_type_fits_the_model_in_another(void **state) {
    (void)state;
    struct genarm_error err;
    struct genarm_model *a = NULL, *b = NULL;
    must(genarm_model_load(&a, GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-Q4_1.gguf", NULL, &err), &err);
    must(genarm_model_load(&b, GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-F16.gguf", NULL, &err), &err);
    const char *path = temp_path("small.gguf");
    must(random_adapter_write(path, a, 2, 1u << LINEAR_Q, 0.01f, 1, &err), &err);
    struct edit e;
    edit_open(&e, path);
    gguf_set_val_str(e.gguf, "genarm.base", a->fingerprint);
    edit_save(&e, path);
    struct genarm_adapter *ad = NULL;
    must(genarm_adapter_load(&ad, b, path, &err), &err);
    assert_int_equal(ad->rank, 2);
    genarm_adapter_free(ad);
    genarm_model_free(a);
    genarm_model_free(b);
}

/* ---- writing ---- */

static void test_a_saved_adapter_reads_back_to_the_bit(void **state) {
    (void)state;
    struct genarm_adapter *ad = golden_adapter(model, "llama.lora2.gguf"), *again = NULL;
    struct genarm_error err;
    char loss[] = "arm", template_[] = "raw:{prompt}\\n", base[17], data[] = "0123456789abcdef";
    memcpy(base, model->fingerprint, sizeof base);
    const struct adapter_info info = {
        .loss = loss, .beta = 0.05f, .template_ = template_, .base_hash = base, .data_hash = data};
    const char *path = temp_path("saved.gguf");
    must(adapter_save(path, &model->hp, ad->layers, ad->alpha, &info, &err), &err);
    must(genarm_adapter_load(&again, model, path, &err), &err);
    for (int32_t l = 0; l < 2; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            const struct lora *x = &ad->layers[l][t], *y = &again->layers[l][t];
            assert_int_equal(x->a != NULL, y->a != NULL);
            if (x->a) {
                assert_true(x->scale == y->scale);
                assert_memory_equal(x->a->data, y->a->data, ggml_nbytes(x->a));
                assert_memory_equal(x->b->data, y->b->data, ggml_nbytes(x->b));
            }
        }
    }
    struct genarm_adapter_info told;
    genarm_adapter_get_info(again, &told);
    assert_string_equal(told.loss, loss);
    assert_string_equal(told.template_name, template_);
    assert_string_equal(told.base_fingerprint, base);
    assert_string_equal(told.data_hash, data);
    assert_true(told.beta == 0.05f && told.alpha == 6.0f);
    assert_string_equal(told.targets, "q,v");
    assert_string_equal(told.path, path);
    genarm_adapter_free(ad);
    genarm_adapter_free(again);
}

static void test_llama_cpp_loads_what_we_save(void **state) {
    (void)state;
    static const char *const families[] = {"llama", "qwen2", "qwen3"};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char file[64];
        struct genarm_error err;
        snprintf(file, sizeof file, "%s.gguf", families[i]);
        struct genarm_model *m = golden_model(file);
        const char *path = temp_path("oracle.gguf");
        must(random_adapter_write(path, m, 3, (1u << LINEAR_COUNT) - 1, 0.1f, i, &err), &err);
        struct llama_model_params params = llama_model_default_params();
        struct llama_model *oracle = llama_model_load_from_file(m->path, params);
        assert_non_null(oracle);
        struct llama_adapter_lora *lora = llama_adapter_lora_init(oracle, path);
        assert_non_null(lora);
        char text[64];
        assert_true(llama_adapter_meta_val_str(lora, "general.architecture", text, sizeof text) > 0);
        assert_string_equal(text, families[i]);
        assert_true(llama_adapter_meta_val_str(lora, "adapter.lora.alpha", text, sizeof text) > 0);
        assert_true(strtof(text, NULL) == 6.0f);
        llama_adapter_lora_free(lora);
        llama_model_free(oracle);
        genarm_model_free(m);
    }
}

/* With n numbers of a head, the last of them `last`. */
static const char *save_head(size_t n, float last) {
    struct edit e;
    float head[256] = {0.5f, -2};
    head[n - 1] = last;
    edit_adapter(&e);
    gguf_set_arr_data(e.gguf, "genarm.head", GGUF_TYPE_FLOAT32, head, n);
    return save(&e);
}

static void test_a_reward_models_head_reads_back_and_llama_cpp_loads_the_rest(void **state) {
    (void)state;
    struct genarm_adapter *ad = golden_adapter(model, "llama.lora.gguf"), *again = NULL;
    struct genarm_adapter_info told;
    struct genarm_error err;
    float head[64];
    for (int i = 0; i < 64; i++) {
        head[i] = (float)(i - 20) / 7;
    }
    const struct adapter_info info = {.head = head, .n_head = 64};
    const char *path = temp_path("reward.gguf");
    must(adapter_save(path, &model->hp, ad->layers, ad->alpha, &info, &err), &err);
    must(genarm_adapter_load(&again, model, path, &err), &err);
    assert_memory_equal(again->info.head, head, sizeof head);
    genarm_adapter_get_info(again, &told);
    assert_true(told.has_head);
    genarm_adapter_get_info(ad, &told);
    assert_false(told.has_head);
    struct llama_model *oracle = llama_model_load_from_file(model->path, llama_model_default_params());
    assert_non_null(oracle);
    assert_non_null(llama_adapter_lora_init(oracle, path));
    llama_model_free(oracle); /* and its adapters */
    head[3] = INFINITY;
    assert_int_equal(adapter_save(path, &model->hp, ad->layers, ad->alpha, &info, &err), GENARM_EDIVERGED);
    assert_non_null(strstr(err.what, "head"));
    genarm_adapter_free(ad);
    genarm_adapter_free(again);
}

static void test_a_head_that_does_not_fit_is_refused(void **state) {
    (void)state;
    struct edit e;
    expect_error(save_head(63, 1), GENARM_EMISMATCH, "genarm.head has 63 numbers, the model needs 64");
    expect_error(save_head(64, NAN), GENARM_EFORMAT, "genarm.head has a value that is not finite");
    edit_adapter(&e);
    gguf_set_arr_data(e.gguf, "genarm.head", GGUF_TYPE_INT32, (int32_t[64]){1}, 64);
    expect_error(save(&e), GENARM_EFORMAT, "genarm.head is not an array of f32 numbers");
    edit_adapter(&e);
    gguf_set_val_f32(e.gguf, "genarm.head", 1);
    expect_error(save(&e), GENARM_EFORMAT, "genarm.head is not an array of f32 numbers");
}

static void test_a_value_that_is_not_finite_is_never_written(void **state) {
    (void)state;
    struct genarm_adapter *ad = golden_adapter(model, "llama.lora.gguf");
    struct genarm_error err;
    const char *path = temp_path("diverged.gguf");
    must(file_write(path, "previous", 8, &err), &err);
    float *values = ad->layers[1][LINEAR_V].b->data;
    values[7] = NAN;
    assert_int_equal(adapter_save(path, &model->hp, ad->layers, 8, NULL, &err), GENARM_EDIVERGED);
    assert_non_null(strstr(err.what, "blk.1.attn_v.weight.lora_b"));
    assert_string_equal(err.where, path);
    struct buf b;
    buf_init(&b, 100);
    must(file_read(&b, path, &err), &err);
    assert_string_equal(b.data, "previous");
    buf_deinit(&b);
    genarm_adapter_free(ad);
}

static void test_nothing_to_write_is_an_error(void **state) {
    (void)state;
    struct lora layers[2][LINEAR_COUNT] = {0};
    struct genarm_error err;
    const char *path = temp_path("nothing.gguf");
    assert_int_equal(adapter_save(path, &model->hp, layers, 8, NULL, &err), GENARM_EINVAL);
    assert_false(file_exists(path));
    struct genarm_adapter *ad = golden_adapter(model, "llama.lora.gguf");
    assert_int_equal(adapter_save("/nowhere/x.gguf", &model->hp, ad->layers, 8, NULL, &err), GENARM_EIO);
    genarm_adapter_free(ad);
}

/* ---- bad adapters ---- */

static void test_an_adapter_for_another_model_is_told_so(void **state) {
    (void)state;
    expect_error(golden_path("qwen2.lora.gguf"), GENARM_EMISMATCH, "architecture qwen2, the model is llama");
    expect_error(golden_path("mistral.lora.gguf"), GENARM_EMISMATCH,
                 "blk.0.attn_q.weight.lora_b has shape [4, 128], the model needs [rank, 64]");
    struct edit e;
    edit_adapter(&e);
    edit_rename(&e, "blk.1.attn_q.weight.lora_a", "blk.2.attn_q.weight.lora_a");
    expect_error(save(&e), GENARM_EMISMATCH, "blk.2.attn_q.weight.lora_a: the model has 2 layers");
    edit_adapter(&e);
    gguf_set_val_str(e.gguf, "genarm.base", "00000000deadbeef");
    const char *path = save(&e);
    expect_error(path, GENARM_EMISMATCH, "00000000deadbeef");
    expect_error(path, GENARM_EMISMATCH, model->fingerprint);
    edit_adapter(&e);
    gguf_set_val_str(e.gguf, "genarm.base", model->fingerprint);
    struct genarm_adapter *ad = NULL;
    struct genarm_error err;
    must(genarm_adapter_load(&ad, model, save(&e), &err), &err);
    genarm_adapter_free(ad);
}

static void test_values_that_are_not_finite_are_named(void **state) {
    (void)state;
    static const float values[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        struct edit e;
        edit_adapter(&e);
        ((float *)edit_tensor(&e, "blk.1.ffn_gate.weight.lora_a")->data)[100] = values[i];
        expect_error(save(&e), GENARM_EFORMAT, "blk.1.ffn_gate.weight.lora_a has a value that is not finite");
    }
    struct edit e;
    edit_adapter(&e);
    uint16_t *half = edit_add(&e, "blk.0.attn_k.weight.lora_a", GGML_TYPE_F16, 64, 4);
    half[3] = 0x7C00; /* infinity */
    expect_error(save(&e), GENARM_EFORMAT, "blk.0.attn_k.weight.lora_a");
}

static void test_halves_and_ranks_must_match(void **state) {
    (void)state;
    struct edit e;
    edit_adapter(&e);
    edit_remove(&e, "blk.1.attn_k.weight.lora_b");
    expect_error(save(&e), GENARM_EFORMAT, "blk.1.attn_k.weight.lora_a has no counterpart lora_b");
    edit_adapter(&e);
    edit_remove(&e, "blk.0.ffn_down.weight.lora_a");
    expect_error(save(&e), GENARM_EFORMAT, "blk.0.ffn_down.weight.lora_b has no counterpart lora_a");
    edit_adapter(&e);
    edit_add(&e, "blk.0.attn_q.weight.lora_b", GGML_TYPE_F32, 5, 64);
    expect_error(save(&e), GENARM_EFORMAT, "blk.0.attn_q.weight.lora_a has rank 4, its lora_b 5");
    edit_adapter(&e);
    edit_add(&e, "blk.00.attn_q.weight.lora_a", GGML_TYPE_F32, 64, 4);
    expect_error(save(&e), GENARM_EFORMAT, "there twice");
}

static void test_names_that_we_cannot_place_are_refused(void **state) {
    (void)state;
    static const char *const names[] = {
        "token_embd.weight.lora_a",    "output.weight.lora_b",
        "blk.0.attn_norm.bias",        "blk.0.attn_qkv.weight.lora_a",
        "blk.0.attn_q.weight.lora_c",  "blk.0.attn_q.weight.lora_ab",
        "blk.-1.attn_q.weight.lora_a", "blk.x.attn_q.weight.lora_a",
        "blk.0.attn_q.bias.lora_a",    "blk.99999999999.attn_q.weight.lora_a",
        "attn_q.weight.lora_a",        "xblk.0.attn_q.weight.lora_a",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct edit e;
        edit_adapter(&e);
        edit_rename(&e, "blk.0.attn_q.weight.lora_a", names[i]);
        expect_error(save(&e), GENARM_EUNSUPPORTED, names[i]);
    }
    struct edit e;
    edit_adapter(&e);
    edit_convert(&e, "blk.0.ffn_down.weight.lora_a", GGML_TYPE_Q4_0);
    expect_error(save(&e), GENARM_EUNSUPPORTED, "blk.0.ffn_down.weight.lora_a has type q4_0");
}

static void test_metadata_must_be_an_adapters(void **state) {
    (void)state;
    static const struct {
        const char *key, *value, *what;
        int code;
    } cases[] = {
        {"general.type", "model", "general.type is \"model\"", GENARM_EFORMAT},
        {"adapter.type", "control_vector", "adapter.type is \"control_vector\"", GENARM_EFORMAT},
        {"adapter.type", NULL, "adapter.type", GENARM_EFORMAT},
        {"general.architecture", NULL, "general.architecture", GENARM_EFORMAT},
        {"genarm.loss", "\xFF", "genarm.loss is not UTF-8", GENARM_EFORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct edit e;
        edit_adapter(&e);
        if (cases[i].value) {
            gguf_set_val_str(e.gguf, cases[i].key, cases[i].value);
        } else {
            gguf_remove_key(e.gguf, cases[i].key);
        }
        expect_error(save(&e), cases[i].code, cases[i].what);
    }
    struct edit e;
    edit_adapter(&e);
    gguf_set_val_f32(e.gguf, "adapter.lora.alpha", NAN);
    expect_error(save(&e), GENARM_EFORMAT, "adapter.lora.alpha");
    edit_adapter(&e);
    gguf_set_arr_data(e.gguf, "adapter.alora.invocation_tokens", GGUF_TYPE_UINT32, (uint32_t[]){1}, 1);
    expect_error(save(&e), GENARM_EUNSUPPORTED, "alora");
    expect_error(golden_path("llama.gguf"), GENARM_EFORMAT, "not a LoRA adapter");
    expect_error(golden_path("nowhere.gguf"), GENARM_EIO, "No such file");
}

static void test_an_adapter_cut_anywhere_is_an_error(void **state) {
    (void)state;
    struct buf whole;
    struct genarm_error err;
    buf_init(&whole, 1 << 24);
    must(file_read(&whole, golden_path("llama.lora.gguf"), &err), &err);
    const char *path = temp_path("cut.gguf");
    for (size_t k = 0; k < 50; k++) {
        const size_t n = k * (whole.len - 128) / 49;
        remove(path);
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(whole.data, 1, n, f), n);
        fclose(f);
        expect_error(path, GENARM_EFORMAT, n <= 4 ? "" : "file");
    }
    buf_deinit(&whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_scale_and_facts_are_those_of_the_file),
        cmocka_unit_test(test_an_adapter_may_leave_maps_and_layers_out),
        cmocka_unit_test(test_half_precision_adapters_become_f32),
        cmocka_unit_test(test_adapters_of_q8_0_become_f32),
        cmocka_unit_test(test_vectors_of_norms_are_left_out_with_a_warning),
        cmocka_unit_test(test_without_alpha_the_scale_is_one_as_in_llama_cpp),
        cmocka_unit_test(test_an_adapter_of_one_weight_type_fits_the_model_in_another),
        cmocka_unit_test(test_a_saved_adapter_reads_back_to_the_bit),
        cmocka_unit_test(test_llama_cpp_loads_what_we_save),
        cmocka_unit_test(test_a_reward_models_head_reads_back_and_llama_cpp_loads_the_rest),
        cmocka_unit_test(test_a_head_that_does_not_fit_is_refused),
        cmocka_unit_test(test_a_value_that_is_not_finite_is_never_written),
        cmocka_unit_test(test_nothing_to_write_is_an_error),
        cmocka_unit_test(test_an_adapter_for_another_model_is_told_so),
        cmocka_unit_test(test_values_that_are_not_finite_are_named),
        cmocka_unit_test(test_halves_and_ranks_must_match),
        cmocka_unit_test(test_names_that_we_cannot_place_are_refused),
        cmocka_unit_test(test_metadata_must_be_an_adapters),
        cmocka_unit_test(test_an_adapter_cut_anywhere_is_an_error),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
