/* Merged adapters answer as the adapters do that were merged; models without some layers are those that libllama makes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/random_adapter.h"
#include "convert/merge.h"
#include "convert/prune.h"
#include "model/adapter.h"
#include "model/model.h"
#include "support/edit.h"
#include "support/golden.h"
#include "support/libllama.h"
#include "support/temp.h"

static const char *const names[] = {"llama", "mistral", "qwen2", "qwen3"};

struct fixture {
    struct golden golden;
    struct genarm_model *model;
    char path[128], lora[128];
    const int32_t *tokens;
    size_t n, n_logits;
};

static void setup(struct fixture *f, const char *name) {
    char file[64];
    golden_open(&f->golden, name);
    snprintf(file, sizeof file, "%s.gguf", name);
    f->model = golden_model(file);
    snprintf(f->path, sizeof f->path, "%s", golden_path(file));
    snprintf(file, sizeof file, "%s.lora.gguf", name);
    snprintf(f->lora, sizeof f->lora, "%s", golden_path(file));
    f->tokens = golden_i32(&f->golden, &f->n, "seq1.tokens");
    f->n_logits = f->n * (size_t)f->model->hp.n_vocab;
}

static void teardown(struct fixture *f) {
    genarm_model_free(f->model);
    golden_close(&f->golden);
}

static float max_difference(const float *a, const float *b, size_t n) {
    float max = 0.0f;
    for (size_t i = 0; i < n; i++) {
        const float d = fabsf(a[i] - b[i]);
        max = d > max || isnan(d) ? d : max;
    }
    return max;
}

static float *base_with(const struct fixture *f, const char *a, float scale_a, const char *b, float scale_b) {
    const char *adapters[] = {a, b};
    const float scales[] = {scale_a, scale_b};
    return libllama_logits(f->path, adapters, scales, b ? 2 : a ? 1 : 0, f->tokens, f->n);
}

static void merge(const struct fixture *f, const struct genarm_merge_part *parts, size_t n, const char *type,
                  int n_threads, const char *output) {
    const struct genarm_merge_params params = {.type = type, .n_threads = n_threads};
    struct genarm_error err = {0};
    must(genarm_merge_into_model(f->model, parts, n, &params, output, &err), &err);
}

/* ---- into a model ---- */

static void test_a_merged_model_equals_base_and_adapter(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct fixture f;
        setup(&f, names[i]);
        merge(&f, &(struct genarm_merge_part){.path = f.lora, .weight = 1}, 1, NULL, 2, temp_path("merged.gguf"));
        float *want = base_with(&f, f.lora, 1, NULL, 0), *base = base_with(&f, NULL, 0, NULL, 0);
        float *got = libllama_logits(temp_path("merged.gguf"), NULL, NULL, 0, f.tokens, f.n);
        const float d = max_difference(got, want, f.n_logits);
        print_message("%-8s merged %.1e effect %.1f\n", names[i], (double)d,
                      (double)max_difference(base, want, f.n_logits));
        assert_true(d <= 1e-4f);
        assert_true(max_difference(got, golden_f32(&f.golden, NULL, "seq1.logits_lora"), f.n_logits) <= 1e-4f);
        assert_true(max_difference(base, want, f.n_logits) > 1.0f);
        free(got);
        free(base);
        free(want);
        teardown(&f);
    }
}

static void test_two_adapters_merge_with_their_weights(void **state) {
    (void)state;
    struct fixture f;
    setup(&f, "llama");
    const struct genarm_merge_part parts[] = {{.path = f.lora, .weight = 0.5},
                                              {.path = golden_path("llama.lora2.gguf"), .weight = -0.75}};
    merge(&f, parts, 2, NULL, 1, temp_path("two.gguf"));
    float *want = base_with(&f, parts[0].path, 0.5f, parts[1].path, -0.75f);
    float *got = libllama_logits(temp_path("two.gguf"), NULL, NULL, 0, f.tokens, f.n);
    assert_true(max_difference(got, want, f.n_logits) <= 1e-4f);
    free(got);
    free(want);
    teardown(&f);
}

/* Whatever is not adapted is the base's, metadata and bytes; the result does not depend on threads. */
static void test_everything_else_is_copied(void **state) {
    (void)state;
    struct fixture f;
    setup(&f, "qwen2");
    struct edit lora;
    edit_open(&lora, f.lora);
    edit_remove(&lora, "blk.0.ffn_up.weight.lora_a");
    edit_remove(&lora, "blk.0.ffn_up.weight.lora_b");
    const struct genarm_merge_part part = {.path = edit_save(&lora, temp_path("most.gguf")), .weight = 1};
    merge(&f, &part, 1, NULL, 1, temp_path("one.gguf"));
    merge(&f, &part, 1, NULL, 7, temp_path("seven.gguf"));
    struct edit base, one, seven;
    edit_open(&base, f.path);
    edit_open(&one, temp_path("one.gguf"));
    edit_open(&seven, temp_path("seven.gguf"));
    assert_int_equal(gguf_get_n_kv(one.gguf), gguf_get_n_kv(base.gguf) + 1);
    for (int64_t i = 0; i < gguf_get_n_kv(base.gguf); i++) {
        assert_string_equal(gguf_get_key(one.gguf, i), gguf_get_key(base.gguf, i));
    }
    assert_string_equal(gguf_get_val_str(one.gguf, gguf_find_key(one.gguf, MERGE_KEY)), "1 most.gguf");
    assert_int_equal(gguf_get_n_tensors(one.gguf), gguf_get_n_tensors(base.gguf));
    int changed = 0;
    for (int64_t i = 0; i < gguf_get_n_tensors(base.gguf); i++) {
        const char *name = gguf_get_tensor_name(base.gguf, i);
        assert_string_equal(gguf_get_tensor_name(one.gguf, i), name);
        const struct ggml_tensor *x = edit_tensor(&base, name), *y = edit_tensor(&one, name);
        assert_int_equal(x->type, y->type);
        assert_memory_equal(y->data, edit_tensor(&seven, name)->data, ggml_nbytes(y));
        changed += memcmp(x->data, y->data, ggml_nbytes(x)) != 0;
    }
    assert_int_equal(changed, 2 * LINEAR_COUNT - 1);
    edit_save(&base, temp_path("x"));
    edit_save(&one, temp_path("y"));
    edit_save(&seven, temp_path("z"));
    teardown(&f);
}

static enum ggml_type type_in(const char *path, const char *tensor, uint32_t *file_type) {
    struct edit e;
    edit_open(&e, path);
    const enum ggml_type type = edit_tensor(&e, tensor)->type;
    *file_type = gguf_get_val_u32(e.gguf, gguf_find_key(e.gguf, "general.file_type"));
    edit_save(&e, temp_path("seen.gguf"));
    return type;
}

/* Rows of 64 in Q8_0 blocks of 32. */
static void test_types_of_changed_weights(void **state) {
    (void)state;
    static const char q[] = "blk.0.attn_q.weight", out[] = "blk.0.attn_output.weight";
    uint32_t file_type;
    struct edit e;
    edit_open(&e, golden_path("llama.gguf"));
    for (int l = 0; l < 2; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%d.%s.weight", l, linear_tensor_name((enum linear)t));
            edit_convert(&e, name, GGML_TYPE_Q8_0);
        }
    }
    gguf_set_val_u32(e.gguf, "general.file_type", 7);
    struct fixture f = {0};
    struct genarm_error err = {0};
    must(genarm_model_load(&f.model, edit_save(&e, temp_path("q8.gguf")), NULL, &err), &err);
    const struct genarm_merge_part part = {.path = golden_path("llama.lora2.gguf"), .weight = 1}; /* q and v only */
    static const struct {
        const char *asked;
        enum ggml_type q;
    } cases[] = {{NULL, GGML_TYPE_F16},    {"keep", GGML_TYPE_Q8_0}, {"q4_1", GGML_TYPE_Q4_1},
                 {"BF16", GGML_TYPE_BF16}, {"F32", GGML_TYPE_F32}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        merge(&f, &part, 1, cases[i].asked, 2, temp_path("typed.gguf"));
        assert_int_equal(type_in(temp_path("typed.gguf"), q, &file_type), cases[i].q);
        assert_int_equal(type_in(temp_path("typed.gguf"), out, &file_type), GGML_TYPE_Q8_0);
        assert_int_equal(file_type, 7); /* of most weights */
        struct genarm_model *merged = NULL;
        must(genarm_model_load(&merged, temp_path("typed.gguf"), NULL, &err), &err);
        assert_string_equal(merged->fingerprint, f.model->fingerprint);
        genarm_model_free(merged);
    }
    const struct genarm_merge_part all = {.path = golden_path("llama.lora.gguf"), .weight = 1};
    merge(&f, &all, 1, NULL, 2, temp_path("typed.gguf"));
    type_in(temp_path("typed.gguf"), q, &file_type);
    assert_int_equal(file_type, 1); /* most are F16 now */
    const struct genarm_merge_params k = {.type = "Q4_K"}, no = {.type = "Q3"};
    assert_int_equal(genarm_merge_into_model(f.model, &part, 1, &k, temp_path("no.gguf"), &err), GENARM_EUNSUPPORTED);
    assert_non_null(strstr(err.what, "blk.0.attn_q.weight"));
    assert_int_equal(genarm_merge_into_model(f.model, &part, 1, &no, temp_path("no.gguf"), &err), GENARM_EINVAL);
    genarm_model_free(f.model);
}

static int stop(int64_t done, int64_t total, void *user) {
    *(int64_t *)user = total;
    return done > total / 2;
}

static void test_failures_leave_nothing_behind(void **state) {
    (void)state;
    struct fixture f;
    setup(&f, "llama");
    struct genarm_error err = {0};
    int64_t total = 0;
    const char *output = temp_path("none.gguf");
    const struct genarm_merge_params stopped = {.each = stop, .user = &total};
    const struct genarm_merge_params narrow[] = {{.type = "F16"}, {.type = "Q4_1"}, {.type = "Q8_0"}};
    struct genarm_merge_part part = {.path = f.lora, .weight = 1};
    assert_int_equal(genarm_merge_into_model(f.model, &part, 1, &stopped, output, &err), GENARM_ECANCELED);
    assert_int_equal(total, 2 * (64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 160));
    part.weight = 1e6;
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++) {
        assert_int_equal(genarm_merge_into_model(f.model, &part, 1, &narrow[i], output, &err), GENARM_EDIVERGED);
        assert_non_null(strstr(err.where, "blk.0."));
    }
    part.weight = 0;
    assert_int_equal(genarm_merge_into_model(f.model, &part, 1, NULL, output, &err), GENARM_EINVAL);
    part.weight = NAN;
    assert_int_equal(genarm_merge_into_model(f.model, &part, 1, NULL, output, &err), GENARM_EINVAL);
    assert_int_equal(genarm_merge_into_model(f.model, &part, 0, NULL, output, &err), GENARM_EINVAL);
    part = (struct genarm_merge_part){.path = golden_path("qwen2.lora.gguf"), .weight = 1};
    assert_int_equal(genarm_merge_into_model(f.model, &part, 1, NULL, output, &err), GENARM_EMISMATCH);
    assert_null(fopen(output, "rb"));
    teardown(&f);
}

/* ---- without some layers ---- */

static void prune(const struct fixture *f, const struct genarm_merge_part *parts, size_t n_parts, const int32_t *layers, size_t n,
                  const char *output) {
    const struct genarm_merge_params params = {.n_threads = 2, .prune = layers, .n_prune = n};
    struct genarm_error err = {0};
    must(genarm_merge_into_model(f->model, parts, n_parts, &params, output, &err), &err);
}

/* libllama's own writer; `layers` ends in -1. */
static void libllama_prune(const char *path, const int32_t *layers, const char *output) {
    struct llama_model_quantize_params p = llama_model_quantize_default_params();
    p.only_copy = true;
    p.nthread = 1;
    p.prune_layers = layers;
    remove(output);
    assert_int_equal(llama_model_quantize(path, output, &p), 0);
}

static void check_same_tensors(const char *got, const char *want) {
    struct edit x, y;
    edit_open(&x, got);
    edit_open(&y, want);
    assert_int_equal(gguf_get_n_tensors(x.gguf), gguf_get_n_tensors(y.gguf));
    for (int64_t i = 0; i < gguf_get_n_tensors(y.gguf); i++) {
        const char *name = gguf_get_tensor_name(y.gguf, i);
        const struct ggml_tensor *a = edit_tensor(&x, name), *b = edit_tensor(&y, name);
        assert_true(a->type == b->type && ggml_are_same_shape(a, b));
        assert_memory_equal(a->data, b->data, ggml_nbytes(b));
    }
    edit_save(&x, temp_path("x"));
    edit_save(&y, temp_path("y"));
}

/* First, middle and last of three layers, and two of them. */
static void test_a_pruned_model_is_the_one_libllama_makes(void **state) {
    (void)state;
    static const int32_t lists[][3] = {{0, -1}, {1, -1}, {2, -1}, {0, 2, -1}};
    struct fixture f;
    setup(&f, "qwen3");
    float *whole = base_with(&f, NULL, 0, NULL, 0);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const size_t n = lists[i][1] < 0 ? 1 : 2;
        prune(&f, NULL, 0, lists[i], n, temp_path("pruned.gguf"));
        libllama_prune(f.path, lists[i], temp_path("theirs.gguf"));
        check_same_tensors(temp_path("pruned.gguf"), temp_path("theirs.gguf"));
        float *got = libllama_logits(temp_path("pruned.gguf"), NULL, NULL, 0, f.tokens, f.n);
        float *want = libllama_logits(temp_path("theirs.gguf"), NULL, NULL, 0, f.tokens, f.n);
        assert_memory_equal(got, want, f.n_logits * sizeof *want);
        assert_true(max_difference(got, whole, f.n_logits) > 0.5f);
        struct genarm_model *model = NULL;
        struct genarm_error err = {0};
        must(genarm_model_load(&model, temp_path("pruned.gguf"), NULL, &err), &err);
        assert_int_equal(model->engine, GENARM_ENGINE_GENARM);
        assert_int_equal(model->hp.n_layer, 3 - (int)n);
        assert_string_not_equal(model->fingerprint, f.model->fingerprint);
        genarm_model_free(model);
        free(got);
        free(want);
    }
    free(whole);
    teardown(&f);
}

/* Adapters are for the whole model. */
static void test_merging_and_pruning_is_pruning_what_was_merged(void **state) {
    (void)state;
    static const int32_t first[] = {0, -1};
    struct fixture f;
    setup(&f, "qwen3");
    const struct genarm_merge_part part = {.path = f.lora, .weight = 0.5};
    merge(&f, &part, 1, "F16", 2, temp_path("merged.gguf"));
    libllama_prune(temp_path("merged.gguf"), first, temp_path("theirs.gguf"));
    const struct genarm_merge_params params = {.type = "F16", .n_threads = 2, .prune = first, .n_prune = 1};
    struct genarm_error err = {0};
    must(genarm_merge_into_model(f.model, &part, 1, &params, temp_path("both.gguf"), &err), &err);
    check_same_tensors(temp_path("both.gguf"), temp_path("theirs.gguf"));
    struct edit e;
    edit_open(&e, temp_path("both.gguf"));
    assert_string_equal(gguf_get_val_str(e.gguf, gguf_find_key(e.gguf, PRUNE_KEY)), "0");
    assert_string_equal(gguf_get_val_str(e.gguf, gguf_find_key(e.gguf, MERGE_KEY)), "0.5 qwen3.lora.gguf");
    edit_save(&e, temp_path("x"));
    teardown(&f);
}

static void check_same_file(const char *a, const char *b) {
    FILE *x = fopen(a, "rb"), *y = fopen(b, "rb");
    int c, d;
    assert_true(x && y);
    do {
        c = getc(x);
        d = getc(y);
        assert_int_equal(c, d);
    } while (c != EOF);
    fclose(x);
    fclose(y);
}

static void test_pruning_nothing_is_a_copy_to_the_byte(void **state) {
    (void)state;
    static const int32_t none[] = {-1};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct fixture f;
        setup(&f, names[i]);
        prune(&f, NULL, 0, none, 0, temp_path("copy.gguf"));
        check_same_file(temp_path("copy.gguf"), f.path);
        const struct genarm_merge_part part = {.path = f.lora, .weight = 1};
        prune(&f, &part, 1, none, 0, temp_path("copy.gguf"));
        merge(&f, &part, 1, NULL, 1, temp_path("merged.gguf"));
        check_same_file(temp_path("copy.gguf"), temp_path("merged.gguf"));
        teardown(&f);
    }
}

static void set_u32s(struct edit *e, const char *key, const uint32_t *values, size_t n) {
    gguf_remove_key(e->gguf, key);
    gguf_set_arr_data(e->gguf, key, GGUF_TYPE_UINT32, values, n);
}

static void check_u32s(const struct edit *e, const char *key, const uint32_t *want, size_t n) {
    const int64_t id = gguf_find_key(e->gguf, key);
    assert_int_equal(gguf_get_arr_n(e->gguf, id), n);
    assert_memory_equal(gguf_get_arr_data(e->gguf, id), want, n * sizeof *want);
}

/* A model that says everything for each layer, which only libllama runs; and what is as long as there are layers by accident. */
static void test_values_for_each_layer_are_pruned_with_it(void **state) {
    (void)state;
    static const uint32_t heads[] = {4, 4, 4}, ff[] = {96, 96, 96}, sections[] = {7, 8, 9};
    static const int32_t two[] = {2, 0, 2};
    struct fixture f = {0};
    struct genarm_error err = {0};
    struct edit e;
    edit_open(&e, golden_path("qwen3.gguf"));
    set_u32s(&e, "qwen3.attention.head_count", heads, 3);
    set_u32s(&e, "qwen3.feed_forward_length", ff, 3);
    set_u32s(&e, "qwen3.rope.dimension_sections", sections, 3);
    set_u32s(&e, "other.list", sections, 3);
    gguf_set_val_u32(e.gguf, "qwen3.leading_dense_block_count", 2);
    const float numbers[] = {0.5f, 1.5f, 2.5f};
    gguf_set_arr_data(e.gguf, "qwen3.scales", GGUF_TYPE_FLOAT32, numbers, 3);
    must(genarm_model_load(&f.model, edit_save(&e, temp_path("uneven.gguf")), NULL, &err), &err);
    assert_int_equal(f.model->engine, GENARM_ENGINE_LLAMA);
    const struct genarm_merge_part part = {.path = golden_path("qwen3.lora.gguf"), .weight = 1};
    assert_int_equal(genarm_merge_into_model(f.model, &part, 1, NULL, temp_path("no.gguf"), &err), GENARM_EUNSUPPORTED);
    prune(&f, NULL, 0, two, 3, temp_path("pruned.gguf"));
    edit_open(&e, temp_path("pruned.gguf"));
    check_u32s(&e, "qwen3.attention.head_count", heads + 1, 1);
    check_u32s(&e, "qwen3.feed_forward_length", ff + 1, 1);
    check_u32s(&e, "qwen3.rope.dimension_sections", sections, 3);
    check_u32s(&e, "other.list", sections, 3);
    const float *scales = gguf_get_arr_data(e.gguf, gguf_find_key(e.gguf, "qwen3.scales"));
    assert_true(scales[0] == 1.5f);
    assert_int_equal(gguf_get_val_u32(e.gguf, gguf_find_key(e.gguf, "qwen3.leading_dense_block_count")), 1);
    assert_int_equal(gguf_get_val_u32(e.gguf, gguf_find_key(e.gguf, "qwen3.block_count")), 1);
    assert_string_equal(gguf_get_val_str(e.gguf, gguf_find_key(e.gguf, PRUNE_KEY)), "0,2");
    edit_save(&e, temp_path("x"));
    genarm_model_free(f.model);
    must(genarm_model_load(&f.model, temp_path("pruned.gguf"), NULL, &err), &err);
    assert_int_equal(f.model->hp.n_layer, 1);
    genarm_model_free(f.model);
}

static void test_layers_that_cannot_be_pruned(void **state) {
    (void)state;
    static const int32_t outside[] = {3}, negative[] = {-1}, all[] = {2, 1, 0};
    struct fixture f;
    setup(&f, "qwen3");
    struct genarm_error err = {0};
    struct genarm_merge_params params = {.prune = outside, .n_prune = 1};
    const char *output = temp_path("nothing.gguf");
    assert_int_equal(genarm_merge_into_model(f.model, NULL, 0, &params, output, &err), GENARM_EINVAL);
    assert_string_equal(err.what, "there is no layer 3 to leave out");
    params.prune = negative;
    assert_int_equal(genarm_merge_into_model(f.model, NULL, 0, &params, output, &err), GENARM_EINVAL);
    params = (struct genarm_merge_params){.prune = all, .n_prune = 3};
    assert_int_equal(genarm_merge_into_model(f.model, NULL, 0, &params, output, &err), GENARM_EINVAL);
    assert_string_equal(err.what, "all 3 layers would be left out");
    assert_null(fopen(output, "rb"));
    teardown(&f);
}

/* ---- into an adapter ---- */

static void check_blend(const struct fixture *f, const struct genarm_merge_part parts[2], const char *output,
                        float tolerance) {
    float *want = base_with(f, parts[0].path, (float)parts[0].weight, parts[1].path, (float)parts[1].weight);
    float *got = base_with(f, output, 1, NULL, 0);
    const float d = max_difference(got, want, f->n_logits);
    print_message("stacked %.1e\n", (double)d);
    assert_true(d <= tolerance);
    free(got);
    free(want);
}

/* Other ranks, alphas and targets: the change is the weighted sum of the changes. */
static void test_a_stacked_adapter_equals_the_adapters_together(void **state) {
    (void)state;
    struct fixture f;
    setup(&f, "llama");
    struct genarm_error err = {0};
    const struct genarm_merge_part parts[] = {{.path = f.lora, .weight = 0.3},
                                              {.path = golden_path("llama.lora2.gguf"), .weight = 0.7}};
    const char *output = temp_path("soup.gguf");
    must(genarm_merge_adapters(parts, 2, GENARM_MERGE_STACK, output, &err), &err);
    check_blend(&f, parts, output, 1e-4f);
    struct genarm_adapter *ad = NULL;
    must(genarm_adapter_load(&ad, f.model, output, &err), &err);
    assert_int_equal(ad->rank, 6);
    assert_int_equal(ad->layers[0][LINEAR_Q].a->ne[1], 6);
    assert_int_equal(ad->layers[0][LINEAR_UP].a->ne[1], 4);
    genarm_adapter_free(ad);
    teardown(&f);
}

static void test_one_adapter_at_weight_one_stays_what_it_is(void **state) {
    (void)state;
    struct fixture f;
    setup(&f, "qwen3");
    struct genarm_error err = {0};
    const struct genarm_merge_part parts[] = {{.path = f.lora, .weight = 1}, {.path = f.lora, .weight = 0}};
    const char *output = temp_path("same.gguf");
    must(genarm_merge_adapters(parts, 2, GENARM_MERGE_STACK, output, &err), &err);
    check_blend(&f, parts, output, 1e-5f);
    teardown(&f);
}

static void test_averaged_factors_are_the_averages(void **state) {
    (void)state;
    struct genarm_model *model = golden_model("qwen2.gguf");
    struct genarm_error err = {0};
    const unsigned targets = 1u << LINEAR_Q | 1u << LINEAR_DOWN;
    must(random_adapter_write(temp_path("r1.gguf"), model, 4, targets, 0.1f, 1, &err), &err);
    must(random_adapter_write(temp_path("r2.gguf"), model, 4, targets, 0.1f, 2, &err), &err);
    must(random_adapter_write(temp_path("r3.gguf"), model, 3, targets, 0.1f, 3, &err), &err);
    const struct genarm_merge_part parts[] = {{.path = temp_path("r1.gguf"), .weight = 0.25},
                                              {.path = temp_path("r2.gguf"), .weight = 0.75}};
    must(genarm_merge_adapters(parts, 2, GENARM_MERGE_AVERAGE, temp_path("mean.gguf"), &err), &err);
    struct genarm_adapter *x = NULL, *y = NULL, *mean = NULL;
    must(genarm_adapter_load(&x, model, parts[0].path, &err), &err);
    must(genarm_adapter_load(&y, model, parts[1].path, &err), &err);
    must(genarm_adapter_load(&mean, model, temp_path("mean.gguf"), &err), &err);
    assert_true(mean->rank == 4 && mean->alpha == x->alpha);
    for (int b = 0; b < 2; b++) {
        const struct lora *l[] = {&x->layers[1][LINEAR_DOWN], &y->layers[1][LINEAR_DOWN], &mean->layers[1][LINEAR_DOWN]};
        const float *of[3];
        for (int k = 0; k < 3; k++) {
            of[k] = (b ? l[k]->b : l[k]->a)->data;
        }
        for (int64_t i = 0; i < ggml_nelements(b ? l[0]->b : l[0]->a); i++) {
            assert_true(fabsf(of[2][i] - (0.25f * of[0][i] + 0.75f * of[1][i])) <= 1e-6f);
        }
    }
    genarm_adapter_free(x);
    genarm_adapter_free(y);
    genarm_adapter_free(mean);
    const struct genarm_merge_part other[] = {parts[0], {.path = temp_path("r3.gguf"), .weight = 0.5}};
    assert_int_equal(genarm_merge_adapters(other, 2, GENARM_MERGE_AVERAGE, temp_path("no.gguf"), &err), GENARM_EMISMATCH);
    assert_non_null(strstr(err.what, "blk.0.attn_q.weight.lora_a has rank 3"));
    genarm_model_free(model);
}

static void expect_mismatch(const char *a, const char *b, enum genarm_merge_how how, const char *what) {
    struct genarm_error err = {0};
    const struct genarm_merge_part parts[] = {{.path = a, .weight = 0.5}, {.path = b, .weight = 0.5}};
    const int rc = genarm_merge_adapters(parts, 2, how, temp_path("no.gguf"), &err);
    if (rc != GENARM_EMISMATCH || !strstr(err.what, what) || strcmp(err.where, b) != 0) {
        fail_msg("got %d %s: \"%s\", expected \"%s\"", rc, err.where, err.what, what);
    }
}

static void test_adapters_of_other_bases_are_refused(void **state) {
    (void)state;
    const char *llama = golden_path("llama.lora.gguf");
    expect_mismatch(llama, golden_path("qwen2.lora.gguf"), GENARM_MERGE_STACK, "architecture qwen2");
    expect_mismatch(llama, golden_path("mistral.lora.gguf"), GENARM_MERGE_STACK,
                    "tensor blk.0.attn_q.weight.lora_b has outputs 128");
    expect_mismatch(llama, golden_path("llama-linear.lora.gguf"), GENARM_MERGE_STACK, "blk.0.ffn_gate.weight.lora_b");
    expect_mismatch(llama, golden_path("llama.lora2.gguf"), GENARM_MERGE_AVERAGE, "blk.0.attn_q.weight.lora_a has rank 2");
    struct edit e;
    edit_open(&e, llama);
    gguf_set_val_str(e.gguf, "genarm.base", "0123456789abcdef");
    edit_save(&e, temp_path("a.gguf"));
    edit_open(&e, llama);
    gguf_set_val_str(e.gguf, "genarm.base", "fedcba9876543210");
    edit_save(&e, temp_path("b.gguf"));
    expect_mismatch(temp_path("a.gguf"), temp_path("b.gguf"), GENARM_MERGE_STACK, "fingerprint fedcba9876543210");
}

static const char *with_head(const char *name, float value) {
    struct edit e;
    float head[64];
    for (int i = 0; i < 64; i++) {
        head[i] = value;
    }
    edit_open(&e, golden_path("llama.lora.gguf"));
    gguf_set_arr_data(e.gguf, "genarm.head", GGUF_TYPE_FLOAT32, head, 64);
    return edit_save(&e, temp_path(name));
}

/* A head is neither dropped nor made up: heads are summed with the weights, and a model has no place for one. */
static void test_heads_of_reward_models_are_summed(void **state) {
    (void)state;
    struct genarm_error err = {0};
    const char *one = with_head("head1.gguf", 1), *two = with_head("head2.gguf", 2);
    expect_mismatch(one, golden_path("llama.lora.gguf"), GENARM_MERGE_AVERAGE, "genarm.head has 0 numbers");
    expect_mismatch(golden_path("llama.lora.gguf"), one, GENARM_MERGE_STACK, "genarm.head has 64 numbers");
    const struct genarm_merge_part parts[] = {{.path = one, .weight = 0.5}, {.path = two, .weight = -0.75}};
    must(genarm_merge_adapters(parts, 2, GENARM_MERGE_STACK, temp_path("heads.gguf"), &err), &err);
    struct genarm_adapter *ad = NULL;
    struct genarm_model *model = golden_model("llama.gguf");
    must(genarm_adapter_load(&ad, model, temp_path("heads.gguf"), &err), &err);
    assert_true(ad->info.n_head == 64 && ad->info.head[63] == -1);
    const struct genarm_merge_part part = {.path = temp_path("head1.gguf"), .weight = 1};
    assert_int_equal(genarm_merge_into_model(model, &part, 1, NULL, temp_path("no.gguf"), &err), GENARM_EUNSUPPORTED);
    assert_string_equal(err.where, part.path);
    genarm_adapter_free(ad);
    genarm_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_merged_model_equals_base_and_adapter),
        cmocka_unit_test(test_two_adapters_merge_with_their_weights),
        cmocka_unit_test(test_everything_else_is_copied),
        cmocka_unit_test(test_types_of_changed_weights),
        cmocka_unit_test(test_failures_leave_nothing_behind),
        cmocka_unit_test(test_a_pruned_model_is_the_one_libllama_makes),
        cmocka_unit_test(test_merging_and_pruning_is_pruning_what_was_merged),
        cmocka_unit_test(test_pruning_nothing_is_a_copy_to_the_byte),
        cmocka_unit_test(test_values_for_each_layer_are_pruned_with_it),
        cmocka_unit_test(test_layers_that_cannot_be_pruned),
        cmocka_unit_test(test_a_stacked_adapter_equals_the_adapters_together),
        cmocka_unit_test(test_one_adapter_at_weight_one_stays_what_it_is),
        cmocka_unit_test(test_averaged_factors_are_the_averages),
        cmocka_unit_test(test_adapters_of_other_bases_are_refused),
        cmocka_unit_test(test_heads_of_reward_models_are_summed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
