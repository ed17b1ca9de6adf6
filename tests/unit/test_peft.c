/* PEFT adapters from outside: every option is honoured or refused, and what does not fit is named. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "convert/metadata.h"
#include "convert/peft.h"
#include "convert/safetensors.h"
#include "model/adapter.h"
#include "model/model.h"
#include "support/golden.h"
#include "support/temp.h"

static struct genarm_model *model; /* llama: 2 layers, n_embd 64, 4 heads of 16, 2 for keys and values */

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

#define PREFIX "base_model.model.model.layers."
static const char q0[] = PREFIX "0.self_attn.q_proj", v1[] = PREFIX "1.self_attn.v_proj";

/* A tensor of the adapter under test; all its numbers are 1 / 4. */
struct matrix {
    const char *module, *end;
    int64_t rows, columns;
};

static const struct matrix good[] = {{q0, ".lora_A.weight", 2, 64}, {q0, ".lora_B.weight", 64, 2},
                                     {v1, ".lora_A.weight", 4, 64}, {v1, ".lora_B.weight", 32, 4}};

static const char *write_adapter(const char *config, const struct matrix *matrices, size_t n, json_t *metadata) {
    static float values[64 * 160];
    static char names[8][PEFT_NAME_MAX];
    struct safetensors_tensor tensors[8];
    struct genarm_error err = {0};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        values[i] = 0.25f;
    }
    for (size_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "%s%s", matrices[i].module, matrices[i].end);
        tensors[i] = (struct safetensors_tensor){.name = names[i], .type = SAFETENSORS_F32, .n_dims = 2,
                                                 .shape = {matrices[i].rows, matrices[i].columns}, .data = values};
    }
    must(file_make_folder(temp_path("in"), &err), &err);
    must(safetensors_write(temp_path("in/" PEFT_TENSORS), tensors, n, metadata, &err), &err);
    must(file_write(temp_path("in/" PEFT_CONFIG), config, strlen(config), &err), &err);
    return temp_path("in");
}

/* Options beside those that make the good adapter good. */
static const char *config_with(const char *more) {
    static char text[600];
    snprintf(text, sizeof text, "{\"peft_type\": \"LORA\", \"r\": 2, \"rank_pattern\": {\"v_proj\": 4}%s%s}",
             *more ? ", " : "", more);
    return text;
}

static struct genarm_adapter *load(const char *config) {
    struct genarm_error err = {0};
    struct genarm_adapter *ad = NULL;
    must(genarm_adapter_from_peft(model, write_adapter(config, good, 4, NULL), temp_path("out.gguf"), &err), &err);
    must(genarm_adapter_load(&ad, model, temp_path("out.gguf"), &err), &err);
    return ad;
}

static void expect_folder(const char *folder, int code, const char *where, const char *what) {
    struct genarm_error err = {0};
    remove(temp_path("out.gguf"));
    const int rc = genarm_adapter_from_peft(model, folder, temp_path("out.gguf"), &err);
    if (rc != code || !strstr(err.what, what) || !strstr(err.where, where) || !strstr(err.where, folder)) {
        fail_msg("got %d %s: \"%s\", expected %d \"%s\"", rc, err.where, err.what, code, what);
    }
    assert_false(file_exists(temp_path("out.gguf")));
}

static void expect_option(const char *more, int code, const char *what) {
    expect_folder(write_adapter(config_with(more), good, 4, NULL), code, PEFT_CONFIG, what);
}

/* ---- options that are honoured ---- */

/* What one entry of B A becomes: scale times rank times 1/16. */
static double change(const struct genarm_adapter *ad, int layer, enum linear l) {
    const struct lora *x = &ad->layers[layer][l];
    const float *a = x->a->data, *b = x->b->data;
    double sum = 0;
    for (int64_t j = 0; j < x->a->ne[1]; j++) {
        sum += (double)a[j * x->a->ne[0]] * (double)b[j];
    }
    return (double)x->scale * sum;
}

static void expect_changes(const char *more, double q, double v) {
    struct genarm_adapter *ad = load(config_with(more));
    if (fabs(change(ad, 0, LINEAR_Q) - q / 16) > 1e-6 || fabs(change(ad, 1, LINEAR_V) - v / 16) > 1e-6) {
        fail_msg("%s: changes of %g and %g, not %g and %g", more, 16 * change(ad, 0, LINEAR_Q),
                 16 * change(ad, 1, LINEAR_V), q, v);
    }
    genarm_adapter_free(ad);
}

static void test_scales_are_pefts(void **state) {
    (void)state;
    expect_changes("", 8, 8); /* lora_alpha is 8 in PEFT when it is not given; rank times alpha / rank */
    expect_changes("\"lora_alpha\": 3.5", 3.5, 3.5);
    expect_changes("\"lora_alpha\": -2", -2, -2);
    expect_changes("\"lora_alpha\": 3, \"use_rslora\": true", 3 * sqrt(2), 3 * sqrt(4));
    expect_changes("\"lora_alpha\": 3, \"alpha_pattern\": {\"v_proj\": 5}", 3, 5);
    expect_changes("\"lora_alpha\": 3, \"alpha_pattern\": {\"layers.1.self_attn.v_proj\": 5, \"v_proj\": 7}", 3, 5);
    expect_changes("\"lora_alpha\": 3, \"alpha_pattern\": {\"^model.layers.1.self_attn.v_proj\": 5}", 3, 5);
    expect_changes("\"lora_alpha\": 3, \"alpha_pattern\": {\"^v_proj\": 5, \"layers.11.self_attn.v_proj\": 7}", 3, 3);
    expect_changes("\"lora_alpha\": 3, \"alpha_pattern\": {\"proj\": 5, \"1.self_attn.q_proj\": 7}", 3, 3);
}

static void test_harmless_options_change_nothing(void **state) {
    (void)state;
    static const char *const options[] = {
        "\"fan_in_fan_out\": true", "\"bias\": \"none\"", "\"modules_to_save\": null", "\"modules_to_save\": []",
        "\"use_dora\": false", "\"init_lora_weights\": \"gaussian\"", "\"init_lora_weights\": true",
        "\"lora_dropout\": 0.05", "\"target_modules\": [\"q_proj\", \"v_proj\"]", "\"target_modules\": \"all-linear\"",
        "\"target_modules\": [\"model.layers.0.self_attn.q_proj\", \"self_attn.v_proj\"]", "\"loftq_config\": {}",
        "\"an_option_of_the_future\": 1", "\"target_modules\": null",
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        expect_changes(options[i], 8, 8);
    }
}

static void test_the_result_is_for_the_model_and_remembers_its_base(void **state) {
    (void)state;
    struct genarm_adapter *ad = load(config_with("\"base_model_name_or_path\": \"org/base\""));
    struct gguf_file file;
    const char *base;
    assert_string_equal(ad->info.base_hash, model->fingerprint);
    assert_string_equal(ad->targets, "q,v");
    assert_int_equal(gguf_file_open(&file, temp_path("out.gguf"), NULL), GENARM_OK);
    assert_int_equal(gguf_need_str(&base, file.gguf, PEFT_BASE_KEY, NULL), GENARM_OK);
    assert_string_equal(base, "org/base");
    gguf_file_close(&file);
    genarm_adapter_free(ad);
}

/* ---- options that are refused ---- */

static void test_what_lora_cannot_say_is_refused(void **state) {
    (void)state;
    expect_option("\"use_dora\": true", GENARM_EUNSUPPORTED, "use_dora");
    expect_option("\"bias\": \"lora_only\"", GENARM_EUNSUPPORTED, "bias");
    expect_option("\"bias\": \"all\"", GENARM_EUNSUPPORTED, "bias");
    expect_option("\"lora_bias\": true", GENARM_EUNSUPPORTED, "lora_bias");
    expect_option("\"modules_to_save\": [\"lm_head\"]", GENARM_EUNSUPPORTED, "modules_to_save");
    expect_option("\"modules_to_save\": [\"score\", \"lm_head\"]", GENARM_EUNSUPPORTED, "modules_to_save");
    expect_option("\"modules_to_save\": \"score\"", GENARM_EUNSUPPORTED, "modules_to_save");
    expect_option("\"trainable_token_indices\": [1]", GENARM_EUNSUPPORTED, "trainable_token_indices");
    expect_option("\"layer_replication\": [[0, 2], [1, 2]]", GENARM_EUNSUPPORTED, "layer_replication");
    expect_option("\"alora_invocation_tokens\": [1, 2]", GENARM_EUNSUPPORTED, "alora_invocation_tokens");
    expect_option("\"init_lora_weights\": \"pissa\"", GENARM_EUNSUPPORTED, "\"pissa\", which changes the base model");
    expect_option("\"init_lora_weights\": \"olora\"", GENARM_EUNSUPPORTED, "init_lora_weights");
    expect_option("\"alpha_pattern\": {\".*v_proj\": 4}", GENARM_EUNSUPPORTED, "regular expression");
    expect_option("\"lora_alpha\": 0", GENARM_EUNSUPPORTED, "lora_alpha of model.layers.0.self_attn.q_proj is 0");
    expect_option("\"lora_alpha\": 1e-60", GENARM_EUNSUPPORTED, "no usable scale");
    expect_option("\"target_modules\": [\"q_proj\"]", GENARM_EMISMATCH,
                  "model.layers.1.self_attn.v_proj is adapted, but target_modules does not name it");
    expect_option("\"target_modules\": [\"layers.11.self_attn.v_proj\", \"q_proj\"]", GENARM_EMISMATCH, "v_proj");
}

static void test_wrong_types_are_refused(void **state) {
    (void)state;
    expect_option("\"use_rslora\": 1", GENARM_EFORMAT, "\"use_rslora\" must be true or false");
    expect_option("\"lora_alpha\": \"8\"", GENARM_EFORMAT, "\"lora_alpha\" must be a number");
    expect_option("\"alpha_pattern\": [1]", GENARM_EFORMAT, "\"alpha_pattern\" must be an object");
}

static void test_broken_configurations_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *config, *what;
        int code;
    } cases[] = {
        {"{\"r\": 2}", "\"peft_type\" is missing", GENARM_EFORMAT},
        {"{\"peft_type\": \"IA3\"}", "type IA3, not LORA", GENARM_EUNSUPPORTED},
        {"{\"peft_type\": \"LORA\", \"r\": 2, \"r\": 3}", "duplicate", GENARM_EFORMAT},
        {"{\"peft_type\": \"LORA\", \"r\": 2.5}", "\"r\" must be a whole number", GENARM_EFORMAT},
        {"{\"peft_type\": \"LORA\", \"r\": 0}", "r is 0", GENARM_EFORMAT},
        {"{\"peft_type\": \"LORA\", \"rank_pattern\": {\"q_proj\": 1.5}}", "rank_pattern", GENARM_EFORMAT},
        {"{\"peft_type\": \"LORA\", \"rank_pattern\": {\"q_proj\": 100000}}", "rank of model.layers.0", GENARM_EFORMAT},
        {"{\"peft_type\": \"LORA\", \"rank_pattern\": [1]}", "\"rank_pattern\" must be an object", GENARM_EFORMAT},
        {"{\"peft_type\": \"LORA\", \"target_modules\": [1]}", "\"target_modules\" must be a list", GENARM_EFORMAT},
        {"{\"peft_type\": \"LORA\"", "broken JSON", GENARM_EFORMAT},
        {"[]", "must be a JSON object", GENARM_EFORMAT},
        {"", "broken JSON", GENARM_EFORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_folder(write_adapter(cases[i].config, good, 4, NULL), cases[i].code, PEFT_CONFIG, cases[i].what);
    }
}

/* ---- tensors ---- */

static void expect_matrices(const struct matrix *matrices, size_t n, int code, const char *where, const char *what) {
    expect_folder(write_adapter(config_with(""), matrices, n, NULL), code, where, what);
}

static void test_tensors_that_do_not_fit_are_named(void **state) {
    (void)state;
    struct matrix m[5];
    memcpy(m, good, sizeof good);
    m[0].columns = 96;
    expect_matrices(m, 4, GENARM_EMISMATCH, "layers.0.self_attn.q_proj.lora_A.weight", "the model needs [rank, 64]");
    m[0] = good[0];
    m[3].rows = 64;
    expect_matrices(m, 4, GENARM_EMISMATCH, "layers.1.self_attn.v_proj.lora_B.weight", "the model needs [32, rank]");
    m[3] = good[3];
    m[0].rows = m[1].columns = 3;
    expect_matrices(m, 4, GENARM_EMISMATCH, "q_proj.lora_A.weight", "the rank is 3 and 3, adapter_config.json says 2");
    m[1] = good[1];
    m[0].rows = 3;
    expect_matrices(m, 4, GENARM_EMISMATCH, "q_proj", "the rank is 3 and 2");
    expect_matrices(good, 3, GENARM_EFORMAT, "v_proj.lora_A.weight", "lora_B is missing");
    expect_matrices(good, 0, GENARM_EFORMAT, PEFT_TENSORS, "no tensors");
    memcpy(m, good, sizeof good);
    m[4] = (struct matrix){"base_model.model.layers.1.self_attn.v_proj", ".lora_A.weight", 4, 64};
    expect_matrices(m, 5, GENARM_EFORMAT, "v_proj.lora_A.weight", "there twice");
    m[4] = (struct matrix){PREFIX "2.self_attn.v_proj", ".lora_A.weight", 4, 64};
    expect_matrices(m, 5, GENARM_EMISMATCH, "layers.2.", "the model has 2 layers");
    static const struct matrix strange[] = {
        {"base_model.model.lm_head", ".lora_A.weight", 2, 64},
        {PREFIX "0.self_attn.q_proj", ".lora_magnitude_vector", 2, 64},
        {PREFIX "0.self_attn.qkv_proj", ".lora_A.weight", 2, 64},
        {PREFIX "-1.self_attn.q_proj", ".lora_A.weight", 2, 64},
        {PREFIX "0.self_attn.q_proj.base_layer", ".weight", 2, 64},
        {"model.layers.0.self_attn.q_proj", ".lora_A.weight", 2, 64},
    };
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
        m[4] = strange[i];
        expect_matrices(m, 5, GENARM_EUNSUPPORTED, strange[i].module, "this is no lora_A or lora_B");
    }
}

/* ---- heads of reward models ---- */

#define SEQ_CLS "\"task_type\": \"SEQ_CLS\", \"modules_to_save\": [\"classifier\", \"score\"]"

static void expect_head(const char *more, int64_t rows, int64_t columns, int code, const char *where, const char *what) {
    struct matrix m[5];
    memcpy(m, good, sizeof good);
    m[4] = (struct matrix){"base_model.model.score", ".weight", rows, columns};
    expect_folder(write_adapter(config_with(more), m, 4 + (rows > 0), NULL), code, where, what);
}

static void test_heads_that_are_none_are_refused(void **state) {
    (void)state;
    expect_head(SEQ_CLS, 1, 96, GENARM_EMISMATCH, "base_model.model.score.weight", "the head is not [1, 64]");
    expect_head(SEQ_CLS, 2, 64, GENARM_EUNSUPPORTED, "base_model.model.score.weight", "a classifier with 2 outputs");
    expect_head(SEQ_CLS, 0, 0, GENARM_EFORMAT, PEFT_TENSORS, "there is no base_model.model.score.weight");
    expect_head("\"task_type\": [\"SEQ_CLS\"]", 1, 64, GENARM_EFORMAT, PEFT_CONFIG, "\"task_type\" must be");
}

/* What a head was when the folder was made, and what it is now: the tensor is right. */
static void test_the_tensor_wins_over_a_kept_head(void **state) {
    (void)state;
    struct genarm_error err = {0};
    struct genarm_adapter *ad = NULL;
    struct matrix m[5];
    json_t *numbers = json_array();
    for (int i = 0; i < 64; i++) {
        json_array_append_new(numbers, json_real(i));
    }
    json_t *kept = json_pack("{s:[s, s], s:[s, s], s:[s, s], s:[s, o]}", "general.architecture", "str", "llama", "general.type",
                             "str", "adapter", "adapter.type", "str", "lora", "genarm.head", "f32[]", numbers);
    char *text = json_dumps(kept, 0);
    json_t *metadata = json_pack("{s:s}", PEFT_METADATA, text);
    memcpy(m, good, sizeof good);
    m[4] = (struct matrix){"base_model.model.score", ".weight", 1, 64};
    must(genarm_adapter_from_peft(model, write_adapter(config_with(SEQ_CLS), m, 5, metadata), temp_path("out.gguf"), &err), &err);
    must(genarm_adapter_load(&ad, model, temp_path("out.gguf"), &err), &err);
    assert_int_equal(ad->info.n_head, 64);
    for (int i = 0; i < 64; i++) {
        assert_true(ad->info.head[i] == 0.25f);
    }
    genarm_adapter_free(ad);
    json_decref(metadata);
    free(text);
    json_decref(kept);
}

static void test_numbers_that_are_not_finite_are_named(void **state) {
    (void)state;
    const char *folder = write_adapter(config_with(""), good, 4, NULL);
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_int_equal(file_read(&b, temp_path("in/" PEFT_TENSORS), NULL), GENARM_OK);
    const float infinite = INFINITY;
    memcpy(b.data + b.len - sizeof infinite, &infinite, sizeof infinite);
    assert_int_equal(file_write(temp_path("in/" PEFT_TENSORS), b.data, b.len, NULL), GENARM_OK);
    buf_deinit(&b);
    expect_folder(folder, GENARM_EFORMAT, "v_proj.lora_B.weight", "not finite");
}

static void test_folders_that_are_none(void **state) {
    (void)state;
    char *folder = strdup(write_adapter(config_with(""), good, 4, NULL)); /* temp_path keeps a few */
    remove(temp_path("in/" PEFT_TENSORS));
    expect_folder(folder, GENARM_EIO, PEFT_TENSORS, "No such file");
    assert_int_equal(file_write(temp_path("in/adapter_model.bin"), "x", 1, NULL), GENARM_OK);
    expect_folder(folder, GENARM_EUNSUPPORTED, "adapter_model.bin", "pickle");
    remove(temp_path("in/adapter_model.bin"));
    remove(temp_path("in/" PEFT_CONFIG));
    assert_int_equal(file_write(temp_path("in/config.json"), "{}", 2, NULL), GENARM_OK);
    expect_folder(folder, GENARM_EUNSUPPORTED, "in", "a whole model, no adapter");
    remove(temp_path("in/config.json"));
    expect_folder(temp_path("nowhere"), GENARM_EIO, PEFT_CONFIG, "No such file");
    free(folder);
}

/* ---- metadata that a file brings along ---- */

static void expect_kept(const char *text, int code, const char *what) {
    json_t *metadata = json_pack("{s:s}", PEFT_METADATA, text);
    expect_folder(write_adapter(config_with(""), good, 4, metadata), code, PEFT_TENSORS, what);
    json_decref(metadata);
}

static void test_kept_metadata_is_not_trusted(void **state) {
    (void)state;
    static const char *const broken[] = {
        "[\"f32\"]", "[\"f32\", \"1\"]", "[\"f32\", 1e300]", "[\"u8\", 256]", "[\"u8\", -1]", "[\"u64\", -1]", "[\"i8\", 1.5]",
        "[\"bool\", 1]", "[\"str\", 1]", "[\"str[]\", [1]]", "[\"str[]\", \"x\"]", "[\"u8[]\", [1, 300]]", "[\"arr\", []]",
        "[\"f16\", 1]", "[1, 1]", "{}", "1", "[\"f32\", 1, 2]",
    };
    char text[200];
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        snprintf(text, sizeof text, "{\"some.key\": %s}", broken[i]);
        expect_kept(text, GENARM_EFORMAT, "some.key is not [type, value]");
    }
    expect_kept("{\"a\\u0001\": [\"f32\", 1]}", GENARM_EFORMAT, "is not [type, value]");
    expect_kept("{\"\": [\"f32\", 1]}", GENARM_EFORMAT, "is not [type, value]");
    expect_kept("[]", GENARM_EFORMAT, "no JSON object");
    expect_kept("{", GENARM_EFORMAT, "broken JSON");
    expect_kept("{}", GENARM_EFORMAT, "general.architecture");
    expect_kept("{\"general.architecture\": [\"u8\", 1]}", GENARM_EFORMAT, "general.architecture");
    expect_kept("{\"general.architecture\": [\"str\", \"qwen2\"]}", GENARM_EMISMATCH, "architecture qwen2");
    expect_kept("{\"general.architecture\": [\"str\", \"llama\"], \"genarm.base\": [\"str\", \"0123\"]}", GENARM_EMISMATCH,
                "fingerprint 0123");
    expect_kept("{\"general.architecture\": [\"str\", \"llama\"], \"genarm.head\": [\"f32[]\", [1, 2]]}", GENARM_EMISMATCH,
                "genarm.head is not an array of 64");
}

/* An alpha that the configuration contradicts was changed since: the configuration is right. */
static void test_the_configuration_wins_over_kept_metadata(void **state) {
    (void)state;
    struct genarm_error err = {0};
    struct genarm_adapter *ad = NULL;
    json_t *metadata = json_pack("{s:s}", PEFT_METADATA,
                                 "{\"general.architecture\": [\"str\", \"llama\"], \"general.type\": [\"str\", \"adapter\"],"
                                 " \"adapter.type\": [\"str\", \"lora\"], \"adapter.lora.alpha\": [\"f32\", 3.0],"
                                 " \"general.alignment\": [\"u32\", 64]}");
    const char *folder = write_adapter(config_with("\"lora_alpha\": 6"), good, 4, metadata);
    must(genarm_adapter_from_peft(model, folder, temp_path("out.gguf"), &err), &err);
    must(genarm_adapter_load(&ad, model, temp_path("out.gguf"), &err), &err);
    assert_true(ad->alpha == 6);
    genarm_adapter_free(ad);
    json_decref(metadata);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scales_are_pefts),
        cmocka_unit_test(test_harmless_options_change_nothing),
        cmocka_unit_test(test_the_result_is_for_the_model_and_remembers_its_base),
        cmocka_unit_test(test_what_lora_cannot_say_is_refused),
        cmocka_unit_test(test_wrong_types_are_refused),
        cmocka_unit_test(test_broken_configurations_are_refused),
        cmocka_unit_test(test_tensors_that_do_not_fit_are_named),
        cmocka_unit_test(test_heads_that_are_none_are_refused),
        cmocka_unit_test(test_the_tensor_wins_over_a_kept_head),
        cmocka_unit_test(test_numbers_that_are_not_finite_are_named),
        cmocka_unit_test(test_folders_that_are_none),
        cmocka_unit_test(test_kept_metadata_is_not_trusted),
        cmocka_unit_test(test_the_configuration_wins_over_kept_metadata),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
