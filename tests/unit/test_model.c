/* Opening models: weights where they belong, and an error that names what is wrong with a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "model/model.h"
#include "support/edit.h"
#include "support/golden.h"
#include "support/temp.h"

/* Of our own graph: what it does not have, libllama may. */
static void expect_error(const char *path, int code, const char *text) {
    struct genarm_error err = {0};
    struct genarm_model *model = NULL;
    struct genarm_model_params params = genarm_model_default_params();
    params.engine = GENARM_ENGINE_GENARM;
    const int rc = genarm_model_load(&model, path, &params, &err);
    if (rc != code || !strstr(err.what, text) || strncmp(err.where, path, strlen(path)) != 0) {
        fail_msg("got %d %s: \"%s\", expected %d \"%s\"", rc, err.where, err.what, code, text);
    }
    assert_null(model);
}

static struct genarm_model *load(const char *path) {
    struct genarm_model *model = NULL;
    struct genarm_error err;
    must(genarm_model_load(&model, path, NULL, &err), &err);
    return model;
}

/* ---- good models ---- */

static void test_every_family_loads_with_its_facts(void **state) {
    (void)state;
    static const struct {
        const char *file, *arch;
        int n_embd, n_layer, n_head, n_head_kv, n_ff;
        bool tied, bias, norms;
    } cases[] = {
        {"llama.gguf", "llama", 64, 2, 4, 2, 160, true, false, false},
        {"llama-linear.gguf", "llama", 64, 2, 4, 2, 96, false, false, false},
        {"mistral.gguf", "llama", 64, 2, 4, 2, 160, false, false, false},
        {"qwen2.gguf", "qwen2", 96, 2, 6, 2, 160, true, true, false},
        {"qwen3.gguf", "qwen3", 64, 3, 4, 2, 96, true, false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct genarm_model *m = load(golden_path(cases[i].file));
        struct genarm_model_info info;
        genarm_model_get_info(m, &info);
        assert_string_equal(info.architecture, cases[i].arch);
        assert_string_equal(info.file_type, "F32");
        assert_string_equal(info.path, golden_path(cases[i].file));
        assert_int_equal(info.n_vocab, 301);
        assert_int_equal(info.n_ctx_train, 256);
        assert_int_equal(info.n_embd, cases[i].n_embd);
        assert_int_equal(info.n_layer, cases[i].n_layer);
        assert_int_equal(info.n_head, cases[i].n_head);
        assert_int_equal(info.n_head_kv, cases[i].n_head_kv);
        assert_int_equal(info.n_ff, cases[i].n_ff);
        assert_int_equal(info.size, 4 * info.n_params);
        assert_int_equal(strlen(info.fingerprint), 16);
        assert_non_null(strstr(info.chat_template, "<|im_start|>"));
        assert_int_equal(m->weights.output == m->weights.token_embd, cases[i].tied);
        const struct layer_weights *layer = &m->weights.layers[cases[i].n_layer - 1];
        assert_int_equal(layer->bias[LINEAR_Q] != NULL, cases[i].bias);
        assert_int_equal(layer->bias[LINEAR_O] != NULL, false);
        assert_int_equal(layer->q_norm && layer->k_norm, cases[i].norms);
        genarm_model_free(m);
    }
    genarm_model_free(NULL);
}

static void assert_same_values(const struct genarm_model *m, const struct ggml_tensor *t) {
    const struct gguf_file *f = &m->weights.file;
    const void *want = gguf_file_data(f, t->name);
    assert_non_null(want);
    const size_t n = ggml_nbytes(t);
    void *got = malloc(n);
    ggml_backend_tensor_get(t, got, 0, n);
    assert_memory_equal(got, want, n);
    free(got);
}

static struct genarm_model *load_as(enum genarm_load_mode mode) {
    struct genarm_model *m = NULL;
    struct genarm_error err;
    struct genarm_model_params params = genarm_model_default_params();
    params.load_mode = mode;
    must(genarm_model_load(&m, golden_path("qwen2.gguf"), &params, &err), &err);
    return m;
}

static void test_weights_are_used_where_they_lie_in_the_file(void **state) {
    (void)state;
    struct genarm_model *m = load_as(GENARM_LOAD_MMAP);
    const uint8_t *map = m->weights.file.map;
    int n = 0;
    for (struct ggml_tensor *t = ggml_get_first_tensor(m->weights.ctx); t;
         t = ggml_get_next_tensor(m->weights.ctx, t)) {
        assert_ptr_equal(t->data, gguf_file_data(&m->weights.file, t->name));
        assert_true((uint8_t *)t->data >= map && (uint8_t *)t->data + ggml_nbytes(t) <= map + m->weights.file.size);
        assert_int_equal(ggml_backend_buffer_get_usage(t->buffer), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        n++;
    }
    assert_int_equal(n, gguf_get_n_tensors(m->weights.file.gguf));
    assert_int_equal(m->weights.n_buffers, 1);
    assert_null(gguf_file_data(&m->weights.file, "no.such.tensor"));
    genarm_model_free(m);
}

/* Where there is room, as there is for one this small, by default. */
static void test_weights_are_copied_when_asked_or_where_there_is_room(void **state) {
    (void)state;
    static const enum genarm_load_mode modes[] = {GENARM_LOAD_NONE, GENARM_LOAD_AUTO};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        struct genarm_model *m = load_as(modes[i]);
        for (struct ggml_tensor *t = ggml_get_first_tensor(m->weights.ctx); t; t = ggml_get_next_tensor(m->weights.ctx, t)) {
            const void *in_file = gguf_file_data(&m->weights.file, t->name);
            assert_ptr_not_equal(t->data, in_file);
            assert_memory_equal(t->data, in_file, ggml_nbytes(t));
            assert_int_equal(ggml_backend_buffer_get_usage(t->buffer), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        }
        genarm_model_free(m);
    }
}

/* What the system says, which other processes change while we look. */
static void test_available_memory_is_some_and_not_more_than_there_is(void **state) {
    (void)state;
    const size_t all = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE), available = memory_available();
    assert_in_range(available, 1 << 20, all);
}

static void test_unaligned_weights_are_copied(void **state) {
    (void)state;
    struct edit e;
    edit_open(&e, golden_path("qwen2.gguf"));
    gguf_set_val_u32(e.gguf, "general.alignment", 4);
    struct genarm_model *m = load(edit_save(&e, temp_path("unaligned.gguf")));
    int copied = 0;
    for (struct ggml_tensor *t = ggml_get_first_tensor(m->weights.ctx); t;
         t = ggml_get_next_tensor(m->weights.ctx, t)) {
        assert_same_values(m, t);
        assert_int_equal((uintptr_t)t->data % 32, 0);
        copied += t->data != gguf_file_data(&m->weights.file, t->name);
    }
    assert_true(copied > 0);
    genarm_model_free(m);
}

static void test_half_precision_norms_and_biases_become_f32(void **state) {
    (void)state;
    struct edit e;
    edit_open(&e, golden_path("qwen2.gguf"));
    edit_convert(&e, "blk.1.attn_norm.weight", GGML_TYPE_F16);
    edit_convert(&e, "blk.0.attn_k.bias", GGML_TYPE_BF16);
    struct genarm_model *m = load(edit_save(&e, temp_path("halves.gguf")));
    struct genarm_model *want = golden_model("qwen2.gguf");
    const struct ggml_tensor *pairs[][2] = {
        {m->weights.layers[1].attn_norm, want->weights.layers[1].attn_norm},
        {m->weights.layers[0].bias[LINEAR_K], want->weights.layers[0].bias[LINEAR_K]},
    };
    for (int i = 0; i < 2; i++) { /* the golden weights are exact in both types */
        assert_int_equal(pairs[i][0]->type, GGML_TYPE_F32);
        assert_memory_equal(pairs[i][0]->data, pairs[i][1]->data, ggml_nbytes(pairs[i][1]));
    }
    genarm_model_free(m);
    genarm_model_free(want);
}

static void test_offloaded_layers_live_in_buffers_of_the_device(void **state) {
    (void)state;
    struct genarm_error err;
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU); /* plays the part */
    for (int layers = 0; layers <= 3; layers++) {
        struct gguf_file file;
        struct hparams hp;
        struct weights w;
        must(gguf_file_open(&file, golden_path("llama.gguf"), &err), &err);
        must(hparams_read(&hp, file.gguf, &err), &err);
        struct placement where = {.devices = {device}, .n_devices = 1};
        must(placement_split(&where, 2, layers, NULL, &err), &err);
        must(weights_load(&w, &hp, &file, &where, GENARM_LOAD_MMAP, &err), &err);
        assert_null(file.gguf);
        for (int i = 0; i < 2; i++) {
            const struct ggml_tensor *t = w.layers[i].linear[LINEAR_UP];
            const bool mapped = t->data == gguf_file_data(&w.file, t->name);
            assert_int_equal(mapped, i < 2 - layers);
            assert_memory_equal(t->data, gguf_file_data(&w.file, t->name), ggml_nbytes(t));
        }
        assert_ptr_equal(w.token_embd->data, gguf_file_data(&w.file, "token_embd.weight"));
        assert_int_equal(w.output != w.token_embd, layers == 3); /* a tied head on the device is a copy */
        assert_memory_equal(w.output->data, w.token_embd->data, ggml_nbytes(w.token_embd));
        weights_deinit(&w);
    }
}

static void test_all_supported_types_load(void **state) {
    (void)state;
    static const enum ggml_type types[] = {GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0,
                                           GGML_TYPE_Q4_1};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct edit e;
        edit_open(&e, golden_path("llama.gguf"));
        edit_convert(&e, "token_embd.weight", types[i]);
        edit_convert(&e, "blk.0.ffn_up.weight", types[i]);
        struct genarm_model *m = load(edit_save(&e, temp_path("typed.gguf")));
        assert_int_equal(m->weights.token_embd->type, types[i]);
        assert_int_equal(m->weights.layers[0].linear[LINEAR_UP]->type, types[i]);
        assert_ptr_equal(m->weights.output, m->weights.token_embd);
        genarm_model_free(m);
    }
    struct edit e; /* the k-quants need rows of 256 */
    edit_open(&e, golden_path("llama.gguf"));
    gguf_set_val_u32(e.gguf, "llama.feed_forward_length", 256);
    static const enum ggml_type k_types[] = {GGML_TYPE_Q4_K, GGML_TYPE_Q6_K};
    for (int i = 0; i < 2; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.ffn_down.weight", i);
        edit_add(&e, name, k_types[i], 256, 64);
        snprintf(name, sizeof name, "blk.%d.ffn_up.weight", i);
        edit_add(&e, name, GGML_TYPE_F16, 64, 256);
        snprintf(name, sizeof name, "blk.%d.ffn_gate.weight", i);
        edit_add(&e, name, GGML_TYPE_BF16, 64, 256);
    }
    struct genarm_model *m = load(edit_save(&e, temp_path("k.gguf")));
    assert_int_equal(m->weights.layers[1].linear[LINEAR_DOWN]->type, GGML_TYPE_Q6_K);
    genarm_model_free(m);
}

static void test_fingerprint_is_of_shape_and_vocabulary_not_of_weights(void **state) {
    (void)state;
    struct edit e;
    edit_open(&e, golden_path("llama.gguf"));
    edit_convert(&e, "blk.0.attn_q.weight", GGML_TYPE_Q8_0);
    struct ggml_tensor *v = edit_tensor(&e, "blk.0.attn_v.weight");
    ((float *)v->data)[5] += 1.0f;
    gguf_set_val_str(e.gguf, "general.name", "renamed");
    struct genarm_model *a = golden_model("llama.gguf"), *b = load(edit_save(&e, temp_path("other.gguf")));
    assert_string_equal(a->fingerprint, b->fingerprint);
    genarm_model_free(b);
    static const char *const others[] = {"llama-mismatch.gguf", "llama-padded.gguf", "mistral.gguf", "qwen2.gguf",
                                         "llama3.gguf"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        b = golden_model(others[i]);
        assert_string_not_equal(a->fingerprint, b->fingerprint);
        genarm_model_free(b);
    }
    genarm_model_free(a);
}

static void test_default_model_is_the_same_in_every_type(void **state) {
    (void)state;
    static const char *const types[] = {"Q4_1", "Q8_0", "F16", "F32"};
    char fingerprint[17] = "";
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char path[512];
        snprintf(path, sizeof path, GENARM_MODEL_DIR "/SmolLM2-135M-Instruct-%s.gguf", types[i]);
        struct genarm_model *m = load(path);
        struct genarm_model_info info;
        genarm_model_get_info(m, &info);
        assert_string_equal(info.file_type, types[i]);
        assert_int_equal(info.n_params, 134515008);
        assert_int_equal(info.n_vocab, 49152);
        assert_true(!*fingerprint || strcmp(fingerprint, info.fingerprint) == 0);
        snprintf(fingerprint, sizeof fingerprint, "%s", info.fingerprint);
        genarm_model_free(m);
    }
}

static void test_a_name_that_is_no_clean_text_is_made_so(void **state) {
    (void)state;
    struct edit e;
    char name[300];
    for (size_t i = 0; i + 2 < sizeof name; i += 2) {
        memcpy(name + i, "\xC3\xA9", 3);
    }
    memcpy(name, "a\n\033[", 4);
    edit_open(&e, golden_path("llama.gguf"));
    gguf_set_val_str(e.gguf, "general.name", name);
    struct genarm_model *m = load(edit_save(&e, temp_path("name.gguf")));
    assert_memory_equal(m->name, "a ?[\xC3\xA9", 6);
    assert_true(utf8_valid(m->name, strlen(m->name)));
    genarm_model_free(m);
}

/* ---- parameters ---- */

static void test_devices_are_checked(void **state) {
    (void)state;
    struct genarm_error err;
    struct genarm_model *m = NULL;
    struct genarm_model_params p = genarm_model_default_params();
    p.device = "NoSuchDevice7";
    assert_int_equal(genarm_model_load(&m, golden_path("llama.gguf"), &p, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "NoSuchDevice7"));
    assert_non_null(strstr(err.hint, "CPU"));
    p = genarm_model_default_params();
    p.n_gpu_layers = -2;
    assert_int_equal(genarm_model_load(&m, golden_path("llama.gguf"), &p, &err), GENARM_EINVAL);
    assert_null(m);
    p = (struct genarm_model_params){.device = "CPU", .n_gpu_layers = 99};
    must(genarm_model_load(&m, golden_path("llama.gguf"), &p, &err), &err);
    assert_int_equal(m->placement.n_devices, 0);
    genarm_model_free(m);
    if (!ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_GPU) &&
        !ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_IGPU)) {
        p = (struct genarm_model_params){.n_gpu_layers = 99};
        must(genarm_model_load(&m, golden_path("llama.gguf"), &p, &err), &err);
        assert_int_equal(m->placement.n_devices, 0);
        genarm_model_free(m);
    }
}

/* ---- bad models ---- */

static void test_missing_tensors_are_named(void **state) {
    (void)state;
    static const char *const names[] = {"token_embd.weight",     "output_norm.weight",      "blk.0.attn_norm.weight",
                                        "blk.2.ffn_norm.weight", "blk.1.attn_q.weight",     "blk.1.attn_output.weight",
                                        "blk.2.ffn_down.weight", "blk.0.attn_q_norm.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct edit e;
        edit_open(&e, golden_path("qwen3.gguf"));
        edit_remove(&e, names[i]);
        char text[100];
        snprintf(text, sizeof text, "%s is missing", names[i]);
        expect_error(edit_save(&e, temp_path("missing.gguf")), GENARM_EFORMAT, text);
    }
    struct edit e;
    edit_open(&e, golden_path("llama.gguf"));
    gguf_set_val_u32(e.gguf, "llama.block_count", 3);
    expect_error(edit_save(&e, temp_path("missing.gguf")), GENARM_EFORMAT, "blk.2.");
}

static void test_shapes_must_fit_the_hyper_parameters(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t ne0, ne1;
    } cases[] = {
        {"token_embd.weight", 32, 301},    {"output_norm.weight", 63, 1},        {"blk.0.attn_q.weight", 64, 32},
        {"blk.1.attn_k.weight", 32, 64},   {"blk.0.ffn_up.weight", 160, 64},     {"blk.1.ffn_down.weight", 64, 160},
        {"blk.0.attn_norm.weight", 64, 2}, {"blk.1.attn_output.weight", 64, 65},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct edit e;
        edit_open(&e, golden_path("llama.gguf"));
        edit_add(&e, cases[i].name, GGML_TYPE_F32, cases[i].ne0, cases[i].ne1);
        char text[100];
        snprintf(text, sizeof text, "%s has shape [%lld, %lld", cases[i].name, (long long)cases[i].ne0,
                 (long long)cases[i].ne1);
        expect_error(edit_save(&e, temp_path("shape.gguf")), GENARM_EFORMAT, text);
    }
    struct edit e;
    edit_open(&e, golden_path("llama-linear.gguf"));
    edit_add(&e, "output.weight", GGML_TYPE_F32, 64, 300);
    expect_error(edit_save(&e, temp_path("shape.gguf")), GENARM_EFORMAT, "output.weight has shape");
    edit_open(&e, golden_path("llama3.gguf"));
    edit_add(&e, "rope_freqs.weight", GGML_TYPE_F32, 16, 1);
    expect_error(edit_save(&e, temp_path("shape.gguf")), GENARM_EFORMAT, "rope_freqs.weight has shape");
}

static void test_unsupported_types_are_named(void **state) {
    (void)state;
    struct edit e;
    edit_open(&e, golden_path("llama.gguf"));
    edit_convert(&e, "blk.1.ffn_gate.weight", GGML_TYPE_Q5_0);
    const char *path = edit_save(&e, temp_path("type.gguf"));
    expect_error(path, GENARM_EUNSUPPORTED, "blk.1.ffn_gate.weight has the unsupported type q5_0");
    struct genarm_error err;
    struct genarm_model *m;
    struct genarm_model_params params = genarm_model_default_params();
    params.engine = GENARM_ENGINE_GENARM;
    genarm_model_load(&m, path, &params, &err);
    assert_non_null(strstr(err.hint, "Q4_K"));
    edit_open(&e, golden_path("llama.gguf"));
    edit_convert(&e, "blk.1.attn_norm.weight", GGML_TYPE_Q8_0);
    expect_error(edit_save(&e, temp_path("type.gguf")), GENARM_EUNSUPPORTED, "blk.1.attn_norm.weight");
}

static void test_tensors_that_we_would_leave_out_are_refused(void **state) {
    (void)state;
    static const char *const names[] = {"blk.0.attn_q_norm.weight", "blk.0.ffn_gate_exps.weight", "output.bias",
                                        "blk.1.attn_q.scale",       "blk.2.attn_q.weight",        "cls.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct edit e;
        edit_open(&e, golden_path("llama.gguf"));
        edit_add(&e, names[i], GGML_TYPE_F32, 64, 1);
        expect_error(edit_save(&e, temp_path("extra.gguf")), GENARM_EUNSUPPORTED, names[i]);
    }
}

static void test_optional_biases_of_every_map_are_loaded(void **state) {
    (void)state;
    struct edit e;
    edit_open(&e, golden_path("llama.gguf"));
    for (int t = 0; t < LINEAR_COUNT; t++) {
        char name[64];
        const int64_t n[] = {64, 32, 32, 64, 160, 160, 64};
        snprintf(name, sizeof name, "blk.1.%s.bias", linear_tensor_name((enum linear)t));
        ((float *)edit_add(&e, name, GGML_TYPE_F32, n[t], 1))[3] = (float)t + 0.5f;
    }
    struct genarm_model *m = load(edit_save(&e, temp_path("bias.gguf")));
    for (int t = 0; t < LINEAR_COUNT; t++) {
        assert_null(m->weights.layers[0].bias[t]);
        assert_true(((float *)m->weights.layers[1].bias[t]->data)[3] == (float)t + 0.5f);
        assert_int_equal(m->weights.layers[1].bias[t]->ne[0], linear_n_out((enum linear)t, &m->hp));
        assert_int_equal(m->weights.layers[1].linear[t]->ne[0], linear_n_in((enum linear)t, &m->hp));
    }
    genarm_model_free(m);
}

static void test_files_that_are_no_model_are_told_apart(void **state) {
    (void)state;
    struct edit e;
    struct genarm_error err;
    struct genarm_model *m;
    expect_error(golden_path("llama.lora.gguf"), GENARM_EUNSUPPORTED, "this is an adapter");
    genarm_model_load(&m, golden_path("llama.lora.gguf"), NULL, &err);
    assert_non_null(strstr(err.hint, "--arm"));
    edit_open(&e, golden_path("llama.gguf"));
    gguf_set_val_u16(e.gguf, "split.count", 3);
    expect_error(edit_save(&e, temp_path("split.gguf")), GENARM_EUNSUPPORTED, "split");
    edit_open(&e, golden_path("llama.gguf"));
    gguf_set_val_str(e.gguf, "general.architecture", "mamba");
    expect_error(edit_save(&e, temp_path("arch.gguf")), GENARM_EUNSUPPORTED, "mamba");
    edit_open(&e, golden_path("llama.gguf"));
    edit_convert(&e, "blk.1.ffn_gate.weight", GGML_TYPE_Q5_0);
    m = load(edit_save(&e, temp_path("q5_0.gguf")));
    assert_int_equal(m->engine, GENARM_ENGINE_LLAMA);
    assert_int_equal(m->hp.arch, ARCH_LLAMA);
    genarm_model_free(m);
    expect_error(golden_path("README.md"), GENARM_EFORMAT, "not a GGUF file");
    expect_error(golden_path("nowhere.gguf"), GENARM_EIO, "No such file");
    expect_error("tests", GENARM_EIO, "folder");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_family_loads_with_its_facts),
        cmocka_unit_test(test_weights_are_used_where_they_lie_in_the_file),
        cmocka_unit_test(test_weights_are_copied_when_asked_or_where_there_is_room),
        cmocka_unit_test(test_available_memory_is_some_and_not_more_than_there_is),
        cmocka_unit_test(test_unaligned_weights_are_copied),
        cmocka_unit_test(test_half_precision_norms_and_biases_become_f32),
        cmocka_unit_test(test_offloaded_layers_live_in_buffers_of_the_device),
        cmocka_unit_test(test_all_supported_types_load),
        cmocka_unit_test(test_fingerprint_is_of_shape_and_vocabulary_not_of_weights),
        cmocka_unit_test(test_default_model_is_the_same_in_every_type),
        cmocka_unit_test(test_a_name_that_is_no_clean_text_is_made_so),
        cmocka_unit_test(test_devices_are_checked),
        cmocka_unit_test(test_missing_tensors_are_named),
        cmocka_unit_test(test_shapes_must_fit_the_hyper_parameters),
        cmocka_unit_test(test_unsupported_types_are_named),
        cmocka_unit_test(test_tensors_that_we_would_leave_out_are_refused),
        cmocka_unit_test(test_optional_biases_of_every_map_are_loaded),
        cmocka_unit_test(test_files_that_are_no_model_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
