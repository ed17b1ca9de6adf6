/* Hyper-parameters: read as libllama reads them, and refused where we would compute something else. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <ggml.h>

#include "model/hparams.h"

/* A small, valid set of keys. */
static struct gguf_context *metadata(const char *arch) {
    struct gguf_context *g = gguf_init_empty();
    char key[128];
    gguf_set_val_str(g, "general.architecture", arch);
    static const struct {
        const char *suffix;
        uint32_t value;
    } sizes[] = {{"context_length", 2048},     {"embedding_length", 96},    {"block_count", 3},
                 {"feed_forward_length", 256}, {"attention.head_count", 6}, {"attention.head_count_kv", 2}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, sizes[i].suffix);
        gguf_set_val_u32(g, key, sizes[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    gguf_set_val_f32(g, key, 1e-6f);
    return g;
}

static void expect_success(struct gguf_context *g, struct hparams *hp) {
    struct genarm_error err;
    const int rc = hparams_read(hp, g, &err);
    gguf_free(g);
    if (rc != GENARM_OK) {
        fail_msg("%d: %s", rc, err.what);
    }
}

static void expect_error(struct gguf_context *g, int code, const char *text) {
    struct genarm_error err = {0};
    struct hparams hp = {.n_ff = 77};
    const int rc = hparams_read(&hp, g, &err);
    gguf_free(g);
    if (rc != code || !strstr(err.what, text)) {
        fail_msg("got %d \"%s\", expected %d \"%s\"", rc, err.what, code, text);
    }
    assert_int_equal(hp.n_ff, 77); /* untouched on failure */
}

static void test_sizes_are_read_and_defaults_filled_in(void **state) {
    (void)state;
    struct hparams hp;
    expect_success(metadata("llama"), &hp);
    assert_int_equal(hp.arch, ARCH_LLAMA);
    assert_int_equal(hp.n_ctx_train, 2048);
    assert_int_equal(hp.n_embd, 96);
    assert_int_equal(hp.n_layer, 3);
    assert_int_equal(hp.n_ff, 256);
    assert_int_equal(hp.n_head, 6);
    assert_int_equal(hp.n_head_kv, 2);
    assert_int_equal(hp.n_embd_head, 16);
    assert_int_equal(hparams_n_embd_q(&hp), 96);
    assert_int_equal(hparams_n_embd_kv(&hp), 32);
    assert_true(hp.norm_eps == 1e-6f);
    assert_int_equal(hp.n_rot, 16);
    assert_int_equal(hp.n_ctx_orig, 2048);
    assert_true(hp.rope_freq_base == 10000.0f && hp.rope_freq_scale == 1.0f);
    assert_true(hp.rope_ext_factor == 0.0f && hp.rope_attn_factor == 1.0f);
    assert_true(hp.rope_beta_fast == 32.0f && hp.rope_beta_slow == 1.0f);
}

static void test_architectures_rotate_as_libllama_does(void **state) {
    (void)state;
    static const char *const names[] = {"llama", "qwen2", "qwen3"};
    for (int i = 0; i < ARCH_COUNT; i++) {
        struct hparams hp;
        expect_success(metadata(names[i]), &hp);
        assert_int_equal(hp.arch, i);
        assert_int_equal(hp.rope_mode, i == ARCH_LLAMA ? GGML_ROPE_TYPE_NORMAL : GGML_ROPE_TYPE_NEOX);
        assert_string_equal(arch_name((enum arch)i), names[i]);
    }
    assert_null(arch_name(ARCH_COUNT));
    struct gguf_context *g = metadata("llama");
    gguf_set_val_str(g, "general.architecture", "gemma3");
    expect_error(g, GENARM_EUNSUPPORTED, "gemma3");
    g = metadata("llama");
    gguf_remove_key(g, "general.architecture");
    expect_error(g, GENARM_EFORMAT, "general.architecture");
}

static void test_head_size_may_differ_from_the_embedding(void **state) {
    (void)state;
    struct hparams hp;
    struct gguf_context *g = metadata("qwen3");
    gguf_set_val_u32(g, "qwen3.attention.key_length", 128);
    gguf_set_val_u32(g, "qwen3.attention.value_length", 128);
    gguf_remove_key(g, "qwen3.attention.head_count_kv");
    expect_success(g, &hp);
    assert_int_equal(hp.n_embd_head, 128);
    assert_int_equal(hp.n_head_kv, 6);
    assert_int_equal(hparams_n_embd_q(&hp), 768);
    g = metadata("qwen3");
    gguf_set_val_u32(g, "qwen3.attention.key_length", 128);
    expect_error(g, GENARM_EUNSUPPORTED, "qwen3.attention.value_length");
}

static void test_linear_scaling_divides_positions(void **state) {
    (void)state;
    struct hparams hp;
    struct gguf_context *g = metadata("llama");
    gguf_set_val_f32(g, "llama.rope.scaling.factor", 4.0f);
    gguf_set_val_f32(g, "llama.rope.freq_base", 5e5f);
    gguf_set_val_u32(g, "llama.rope.scaling.original_context_length", 512);
    expect_success(g, &hp); /* no type: linear */
    assert_true(hp.rope_freq_scale == 0.25f && hp.rope_ext_factor == 0.0f && hp.rope_attn_factor == 1.0f);
    assert_true(hp.rope_freq_base == 5e5f);
    assert_int_equal(hp.n_ctx_orig, 512);
    g = metadata("llama");
    gguf_set_val_f32(g, "llama.rope.scale_linear", 8.0f); /* the old name */
    expect_success(g, &hp);
    assert_true(hp.rope_freq_scale == 0.125f);
    gguf_set_val_f32(g = metadata("llama"), "llama.rope.scale_linear", 8.0f);
    gguf_set_val_f32(g, "llama.rope.scaling.factor", 2.0f); /* the new one wins */
    expect_success(g, &hp);
    assert_true(hp.rope_freq_scale == 0.5f);
    g = metadata("llama");
    gguf_set_val_f32(g, "llama.rope.scaling.factor", 4.0f);
    gguf_set_val_str(g, "llama.rope.scaling.type", "none");
    expect_success(g, &hp);
    assert_true(hp.rope_freq_scale == 1.0f);
}

static void test_yarn_scales_attention_as_published_after_ggml_did_its_part(void **state) {
    (void)state;
    struct hparams hp;
    struct gguf_context *g = metadata("qwen2");
    gguf_set_val_str(g, "qwen2.rope.scaling.type", "yarn");
    gguf_set_val_f32(g, "qwen2.rope.scaling.factor", 4.0f);
    gguf_set_val_u32(g, "qwen2.rope.scaling.original_context_length", 512);
    expect_success(g, &hp);
    assert_true(hp.rope_freq_scale == 0.25f && hp.rope_ext_factor == 1.0f);
    /* YaRN's own factor is 0.1 ln(s) + 1, and ggml_rope_ext multiplies by the same when ext_factor is not 0 */
    assert_true(fabsf(hp.rope_attn_factor - 1.0f) < 1e-6f);
    g = metadata("qwen2");
    gguf_set_val_str(g, "qwen2.rope.scaling.type", "yarn");
    gguf_set_val_f32(g, "qwen2.rope.scaling.factor", 4.0f);
    gguf_set_val_f32(g, "qwen2.rope.scaling.attn_factor", 0.5f);
    expect_success(g, &hp);
    assert_true(fabsf(hp.rope_attn_factor - 0.5f) < 1e-6f);
}

static void test_missing_keys_are_named(void **state) {
    (void)state;
    static const char *const keys[] = {"llama.context_length",       "llama.embedding_length",
                                       "llama.block_count",          "llama.feed_forward_length",
                                       "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct gguf_context *g = metadata("llama");
        assert_true(gguf_remove_key(g, keys[i]) >= 0);
        expect_error(g, GENARM_EFORMAT, keys[i]);
    }
}

static void test_absurd_sizes_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *key;
        uint32_t value;
    } cases[] = {
        {"llama.context_length", 0},
        {"llama.context_length", UINT32_MAX},
        {"llama.embedding_length", 0},
        {"llama.embedding_length", 1u << 30},
        {"llama.block_count", 0},
        {"llama.block_count", 100000},
        {"llama.feed_forward_length", 0},
        {"llama.feed_forward_length", 1u << 31},
        {"llama.attention.head_count", 0},
        {"llama.attention.head_count", 7},
        {"llama.attention.head_count", 97},
        {"llama.attention.head_count_kv", 0},
        {"llama.attention.head_count_kv", 4},
        {"llama.attention.key_length", 0},
        {"llama.attention.key_length", 1u << 20},
        {"llama.rope.dimension_count", 0},
        {"llama.rope.scaling.original_context_length", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gguf_context *g = metadata("llama");
        gguf_set_val_u32(g, cases[i].key, cases[i].value);
        expect_error(g, GENARM_EFORMAT, cases[i].key);
    }
    static const struct {
        const char *key;
        float value;
    } numbers[] = {
        {"llama.attention.layer_norm_rms_epsilon", 0.0f},
        {"llama.attention.layer_norm_rms_epsilon", NAN},
        {"llama.rope.freq_base", 0.0f},
        {"llama.rope.freq_base", INFINITY},
        {"llama.rope.scaling.factor", -1.0f},
        {"llama.rope.scaling.factor", NAN},
        {"llama.rope.scaling.factor", 1e-45f},
        {"llama.rope.scaling.attn_factor", NAN},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct gguf_context *g = metadata("llama");
        gguf_set_val_f32(g, numbers[i].key, numbers[i].value);
        expect_error(g, GENARM_EFORMAT, numbers[i].key);
    }
}

static void test_what_we_would_compute_wrongly_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *key;
        uint32_t value;
    } counts[] = {{"llama.expert_count", 8},
                  {"llama.nextn_predict_layers", 1},
                  {"llama.attention.sliding_window", 1024},
                  {"llama.rope.dimension_count", 8}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct gguf_context *g = metadata("llama");
        gguf_set_val_u32(g, counts[i].key, counts[i].value);
        expect_error(g, GENARM_EUNSUPPORTED, counts[i].key);
    }
    static const char *const numbers[] = {
        "llama.attention.scale", "llama.attention.clamp_kqv",      "llama.attn_logit_softcapping",
        "llama.logit_scale",     "llama.final_logit_softcapping",  "llama.residual_scale",
        "llama.embedding_scale", "llama.attention.max_alibi_bias",
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct gguf_context *g = metadata("llama");
        gguf_set_val_f32(g, numbers[i], 0.3f);
        expect_error(g, GENARM_EUNSUPPORTED, numbers[i]);
    }
    struct gguf_context *g = metadata("llama");
    gguf_set_val_bool(g, "llama.attention.causal", false);
    expect_error(g, GENARM_EUNSUPPORTED, "llama.attention.causal");
    g = metadata("llama");
    gguf_set_val_str(g, "llama.rope.scaling.type", "longrope");
    expect_error(g, GENARM_EUNSUPPORTED, "longrope");
    g = metadata("llama");
    gguf_set_arr_data(g, "llama.attention.head_count", GGUF_TYPE_UINT32, (uint32_t[]){6, 6, 4}, 3);
    expect_error(g, GENARM_EUNSUPPORTED, "llama.attention.head_count is an array");
}

static void test_features_that_are_switched_off_are_fine(void **state) {
    (void)state;
    struct hparams hp;
    struct gguf_context *g = metadata("llama");
    gguf_set_val_u32(g, "llama.expert_count", 0);
    gguf_set_val_u32(g, "llama.attention.sliding_window", 0);
    gguf_set_val_bool(g, "llama.attention.causal", true);
    gguf_set_val_f32(g, "llama.logit_scale", 1.0f);
    gguf_set_val_f32(g, "llama.attn_logit_softcapping", 0.0f);
    gguf_set_val_u32(g, "llama.rope.dimension_count", 16);
    expect_success(g, &hp);
    g = metadata("llama");
    gguf_set_val_u32(g, "llama.attention.sliding_window", 4096); /* longer than the context */
    expect_success(g, &hp);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_are_read_and_defaults_filled_in),
        cmocka_unit_test(test_architectures_rotate_as_libllama_does),
        cmocka_unit_test(test_head_size_may_differ_from_the_embedding),
        cmocka_unit_test(test_linear_scaling_divides_positions),
        cmocka_unit_test(test_yarn_scales_attention_as_published_after_ggml_did_its_part),
        cmocka_unit_test(test_missing_keys_are_named),
        cmocka_unit_test(test_absurd_sizes_are_refused),
        cmocka_unit_test(test_what_we_would_compute_wrongly_is_refused),
        cmocka_unit_test(test_features_that_are_switched_off_are_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
