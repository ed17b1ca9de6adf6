#include "support/train_pairs.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/temp.h"

static void add_pair(struct data *d, const struct golden *g, int32_t i) {
    static const char *const parts[] = {"prompt", "chosen", "rejected"};
    struct pair *p = &d->pairs[i];
    size_t lengths[3];
    p->first = d->n_tokens;
    for (int k = 0; k < 3; k++) {
        const int32_t *tokens = golden_i32(g, &lengths[k], "pair%d.%s", i, parts[k]);
        d->tokens = realloc(d->tokens, (d->n_tokens + lengths[k]) * sizeof *d->tokens);
        memcpy(d->tokens + d->n_tokens, tokens, lengths[k] * sizeof *tokens);
        d->n_tokens += lengths[k];
    }
    p->n_prompt = (int32_t)lengths[0];
    p->n_response[CHOSEN] = (int32_t)lengths[1];
    p->n_response[REJECTED] = (int32_t)lengths[2];
    p->line = i + 1;
}

static void read_pairs(struct train_case *c) {
    const int32_t n = (int32_t)golden_number(&c->golden, "golden.n_pairs");
    c->data = (struct data){.pairs = calloc((size_t)n, sizeof *c->data.pairs), .n_pairs = (size_t)n};
    c->all = calloc((size_t)n, sizeof *c->all);
    for (int32_t i = 0; i < n; i++) {
        add_pair(&c->data, &c->golden, i);
        c->all[i] = (uint32_t)i;
    }
}

struct backprop_params train_case_params(void) {
    return (struct backprop_params){.loss = loss_get(GENARM_LOSS_ARM), .loss_params = {.beta = 1}, .n_threads = 1};
}

static void open_with(struct train_case *c, const char *name, struct genarm_model *model, uint32_t targets,
                      const struct backprop_params *params) {
    char file[64];
    struct genarm_error err = {0};
    const struct backprop_params defaults = train_case_params();
    golden_open(&c->golden, name);
    c->model = model;
    snprintf(file, sizeof file, "%s.lora.gguf", name);
    struct genarm_adapter *adapter = golden_adapter(c->model, file);
    for (int32_t l = 0; l < c->model->hp.n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            if (!(targets >> t & 1)) {
                adapter->layers[l][t].a = NULL;
            }
        }
    }
    params = params ? params : &defaults;
    must(trainable_init_from(&c->adapter, &c->model->hp, adapter, params->loss->uses_head, ggml_backend_cpu_buffer_type(), &err),
         &err);
    c->loss = params->loss;
    genarm_adapter_free(adapter);
    read_pairs(c);
    must(backprop_new(&c->backprop, c->model, &c->adapter, params, &err), &err);
}

void train_case_open(struct train_case *c, const char *name, uint32_t targets, const struct backprop_params *params) {
    char file[64];
    snprintf(file, sizeof file, "%s.gguf", name);
    open_with(c, name, golden_model(file), targets, params);
}

static void convert(const char *from, const char *to, enum llama_ftype type) {
    struct llama_model_quantize_params how = llama_model_quantize_default_params();
    how.ftype = type;
    how.pure = true;
    how.allow_requantize = true;
    assert_int_equal(llama_model_quantize(from, to, &how), 0);
}

void train_case_open_as(struct train_case *c, const char *name, enum llama_ftype type, bool back, uint32_t targets,
                        const struct backprop_params *params) {
    char file[64];
    struct genarm_model *model = NULL;
    struct genarm_error err = {0};
    const char *converted = temp_path("converted.gguf"), *restored = temp_path("restored.gguf");
    snprintf(file, sizeof file, "%s.gguf", name);
    convert(golden_path(file), converted, type);
    if (back) {
        convert(converted, restored, LLAMA_FTYPE_ALL_F32);
    }
    must(genarm_model_load(&model, back ? restored : converted, NULL, &err), &err);
    open_with(c, name, model, targets, params);
}

void train_case_close(struct train_case *c) {
    backprop_free(c->backprop);
    trainable_deinit(&c->adapter);
    data_deinit(&c->data);
    free(c->all);
    genarm_model_free(c->model);
    golden_close(&c->golden);
}

void train_case_run(struct train_case *c, int32_t first, int32_t n, const struct backprop_job *job,
                    struct loss_value *values) {
    struct pack pack;
    struct genarm_error err = {0};
    double reference[16][SIDES];
    struct backprop_job with_reference = *job;
    must(pack_init(&pack, &c->data, c->all + first, n, c->loss->uses_head ? PACK_ENDS : PACK_BOTH, &err), &err);
    if (c->loss->uses_reference) {
        must(backprop_reference(c->backprop, &pack, reference, &err), &err);
        with_reference.reference = (const double(*)[SIDES])reference;
    }
    must(backprop_run(c->backprop, &pack, &with_reference, values, &err), &err);
    pack_deinit(&pack);
}

float *train_case_gradient(struct train_case *c, double *loss) {
    const int32_t n = (int32_t)c->data.n_pairs;
    struct loss_value *values = calloc((size_t)n, sizeof *values);
    float *gradient = calloc(c->adapter.n, sizeof *gradient);
    trainable_zero_gradient(&c->adapter);
    train_case_run(c, 0, n, &(struct backprop_job){.gradient = true, .weight = 1.0 / n}, values);
    trainable_get_gradient(&c->adapter, gradient);
    *loss = 0;
    for (int32_t i = 0; i < n; i++) {
        *loss += values[i].loss / n;
    }
    free(values);
    return gradient;
}

double relative_distance(const float *a, const float *b, size_t n) {
    double distance = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        distance += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(distance) / (norm > 0 ? sqrt(norm) : 1);
}

static void assert_tensor_near(const struct ggml_tensor *t, const struct golden *g, const float *flat, const char *name,
                               double tolerance) {
    size_t n;
    const float *expected = golden_f32(g, &n, "%s", name);
    assert_int_equal(n, ggml_nelements(t));
    const double distance = relative_distance(flat + t->view_offs / sizeof(float), expected, n);
    if (!(distance <= tolerance)) {
        fail_msg("%s is off by %g", name, distance);
    }
}

void assert_matrices_near(const struct trainable *adapter, const struct golden *g, const float *flat, const char *prefix,
                          double tolerance) {
    char name[128];
    for (int32_t l = 0; l < adapter->n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            const struct ggml_tensor *matrices[] = {adapter->layers[l][t].a, adapter->layers[l][t].b};
            for (int m = 0; m < 2; m++) {
                snprintf(name, sizeof name, "%s.blk.%d.%s.weight.lora_%c", prefix, l, linear_tensor_name((enum linear)t),
                         "ab"[m]);
                assert_tensor_near(matrices[m], g, flat, name, tolerance);
            }
        }
    }
    if (adapter->head) {
        snprintf(name, sizeof name, "%s.head", prefix);
        assert_tensor_near(adapter->head, g, flat, name, tolerance);
    }
}

void assert_relative(double value, double expected, double tolerance, const char *what) {
    if (!(fabs(value - expected) <= tolerance * fabs(expected))) {
        fail_msg("%s: %.9g, not %.9g", what, value, expected);
    }
}
