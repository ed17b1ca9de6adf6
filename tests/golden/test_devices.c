/* A model that is divided over devices computes what it computes on the CPU: over two of ggml's RPC servers, and over the
 * CPU itself in the part of two devices. */
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "model/rpc.h"
#include "reward/classifier.h"
#include "support/edit.h"
#include "support/ports.h"
#include "support/temp.h"
#include "support/train_pairs.h"

enum { ALL_TARGETS = (1 << LINEAR_COUNT) - 1, N_SERVERS = 2 };

static const char *const names[] = {"llama", "llama3", "mistral", "qwen2", "qwen3"};
enum { N_NAMES = 5 };

/* ---- servers ---- */

static pid_t pids[N_SERVERS];
static char servers[64];

static void serve(int port) {
    char endpoint[32];
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
    void (*start)(const char *, const char *, size_t, size_t, ggml_backend_dev_t *) =
        (void (*)(const char *, const char *, size_t, size_t, ggml_backend_dev_t *))ggml_backend_reg_get_proc_address(
            rpc, "ggml_backend_rpc_start_server");
    snprintf(endpoint, sizeof endpoint, "127.0.0.1:%d", port);
    signal(SIGPIPE, SIG_IGN);
    start(endpoint, NULL, 1, 1, &cpu);
}

/* Before anything of ggml runs in this process. */
static int start_servers(void **state) {
    (void)state;
    for (int i = 0; i < N_SERVERS; i++) {
        const int port = free_port();
        pids[i] = fork();
        if (pids[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            freopen("/dev/null", "w", stdout);
            serve(port);
            _exit(1);
        }
        snprintf(servers + strlen(servers), sizeof servers - strlen(servers), "%s127.0.0.1:%d", i ? "," : "", port);
        if (!port_opens(port)) {
            return 1;
        }
    }
    return 0;
}

static int stop_servers(void **state) {
    (void)state;
    for (int i = 0; i < N_SERVERS; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    return 0;
}

/* ---- models ---- */

static struct genarm_model *over_servers(const char *name, int n_gpu_layers, const char *shares) {
    char file[64];
    struct genarm_error err = {0};
    struct genarm_model *model = NULL;
    struct genarm_model_params params = genarm_model_default_params();
    snprintf(file, sizeof file, "%s.gguf", name);
    params.rpc = servers;
    params.device = "RPC0,RPC1"; /* and no GPU of this machine */
    params.n_gpu_layers = n_gpu_layers;
    params.tensor_split = shares;
    must(genarm_model_load(&model, golden_path(file), &params, &err), &err);
    return model;
}

/* Only caches and adapters are in buffers of the devices. */
static struct genarm_model *over_cpus(const char *name) {
    char file[64];
    snprintf(file, sizeof file, "%s.gguf", name);
    struct genarm_model *model = golden_model(file);
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    model->placement =
        (struct placement){.devices = {cpu, cpu}, .n_devices = 2, .first = {0, 1, model->hp.n_layer + 1}};
    return model;
}

/* ---- decoding ---- */

static void check_near(const char *name, const float *got, const float *want, size_t n) {
    float most = 0;
    for (size_t i = 0; i < n; i++) {
        const float d = fabsf(got[i] - want[i]);
        most = d > most || isnan(d) ? d : most;
    }
    if (!(most <= 2e-4f)) { /* as on the CPU: test_engine.c */
        fail_msg("%s: logits differ by %g", name, (double)most);
    }
}

static void push(struct row *rows, int32_t *n, const int32_t *tokens, int32_t from, int32_t to, int32_t seq, int32_t adapter) {
    for (int32_t p = from; p < to; p++) {
        rows[(*n)++] = (struct row){.token = tokens[p], .seq = seq, .pos = p, .adapter = adapter, .output = true};
    }
}

/* Half of the tokens under base and adapter in one batch, the base's sequence copied, then token by token. */
static void check_engine(const char *name, struct genarm_model *model) {
    struct golden golden;
    struct engine *engine;
    struct genarm_error err = {0};
    char file[64];
    size_t n_tokens;
    golden_open(&golden, name);
    snprintf(file, sizeof file, "%s.lora.gguf", name);
    struct genarm_adapter *adapter = golden_adapter(model, file);
    const struct engine_params params = {.n_seq = 3, .n_ctx = 64, .n_threads = 1, .kv_type = GENARM_KV_F32};
    must(engine_rows_new(&engine, model, &params, &err), &err);
    must(engine_add_adapter(engine, adapter, &err), &err);
    const int32_t *tokens = golden_i32(&golden, &n_tokens, "seq1.tokens");
    const float *base = golden_f32(&golden, NULL, "seq1.logits"), *lora = golden_f32(&golden, NULL, "seq1.logits_lora");
    const size_t V = (size_t)model->hp.n_vocab;
    float *logits = calloc(3 * n_tokens * V, sizeof *logits);
    struct row rows[256];
    for (int32_t p = 0, to; p < (int32_t)n_tokens; p = to) {
        int32_t n = 0;
        to = p == 0 ? (int32_t)n_tokens / 2 : p + 1;
        push(rows, &n, tokens, p, to, 0, ENGINE_NO_ADAPTER);
        push(rows, &n, tokens, p, to, 1, 0);
        if (p > 0) {
            push(rows, &n, tokens, p, to, 2, ENGINE_NO_ADAPTER);
        }
        must(engine_forward(engine, rows, n, logits, &err), &err);
        const size_t each = (size_t)(to - p) * V;
        check_near(name, logits, base + (size_t)p * V, each);
        check_near(name, logits + each, lora + (size_t)p * V, each);
        if (p > 0) {
            check_near(name, logits + 2 * each, base + (size_t)p * V, each);
        } else {
            must(engine_copy_prefix(engine, 0, 2, to, &err), &err);
        }
    }
    free(logits);
    engine_free(engine);
    genarm_adapter_free(adapter);
    golden_close(&golden);
}

static void test_logits_over_servers_equal_pytorch(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        struct genarm_model *model = over_servers(names[i], -1, NULL);
        check_engine(names[i], model);
        genarm_model_free(model);
    }
}

static void test_any_number_of_layers_can_be_offloaded(void **state) {
    (void)state;
    for (int layers = 0; layers <= 4; layers++) {
        struct genarm_model *model = over_servers("qwen3", layers, "2,1");
        assert_int_equal(model->placement.n_devices, layers == 0 ? 0 : layers <= 2 ? 1 : 2);
        check_engine("qwen3", model);
        genarm_model_free(model);
    }
}

static void test_logits_over_cpus_equal_pytorch(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        struct genarm_model *model = over_cpus(names[i]);
        check_engine(names[i], model);
        genarm_model_free(model);
    }
}

/* More runs than a scheduler of fixed size would take. */
static void test_a_batch_of_many_runs_fits(void **state) {
    (void)state;
    enum { N_SEQ = 60 };
    struct engine *engine;
    struct genarm_error err = {0};
    struct genarm_model *model = over_servers("llama", -1, NULL);
    const struct engine_params params = {.n_seq = N_SEQ, .n_ctx = 8, .n_threads = 1};
    must(engine_rows_new(&engine, model, &params, &err), &err);
    float *logits = calloc((size_t)model->hp.n_vocab * N_SEQ, sizeof *logits);
    struct row rows[2 * N_SEQ];
    int32_t n = 0;
    for (int32_t s = 0; s < N_SEQ; s++) { /* of two lengths by turns, so that no two share a run */
        for (int32_t p = 0; p <= s % 2; p++) {
            rows[n++] = (struct row){.token = 5 + p, .seq = s, .pos = p, .adapter = ENGINE_NO_ADAPTER, .output = p == s % 2};
        }
    }
    must(engine_forward(engine, rows, 1, logits, &err), &err); /* a small graph first */
    must(engine_forward(engine, rows, n, logits, &err), &err);
    for (int32_t s = 2; s < N_SEQ; s++) {
        const size_t V = (size_t)model->hp.n_vocab;
        check_near("llama", logits + (size_t)s * V, logits + (size_t)(s % 2) * V, V);
    }
    free(logits);
    engine_free(engine);
    genarm_model_free(model);
}

/* A server serves one connection: models of one process share it, and it is given back. */
static void test_models_share_a_connection(void **state) {
    (void)state;
    struct genarm_model *first = over_servers("llama", -1, NULL), *second = over_servers("qwen2", -1, "1,1");
    struct genarm_error err = {0};
    genarm_model_free(first);
    struct genarm_model *third = over_servers("llama", -1, NULL);
    check_engine("qwen2", second);
    genarm_model_free(second);
    genarm_model_free(third);
    char one[64];
    snprintf(one, sizeof one, "%s", servers);
    must(rpc_check_server(strtok(one, ","), 1000, &err), &err);
}

/* ---- what lies where ---- */

static void test_parts_cover_the_model(void **state) {
    (void)state;
    struct genarm_model_part local, parts[4];
    struct genarm_model *model = golden_model("mistral.gguf"); /* its head is a tensor of its own */
    assert_int_equal(genarm_model_get_parts(model, &local, 1), 1);
    assert_true(local.embeddings && local.head && local.n_layers == model->hp.n_layer);
    assert_int_equal(local.size, model->size);
    genarm_model_free(model);
    model = over_servers("mistral", -1, "1,2");
    assert_int_equal(genarm_model_get_parts(model, parts, 4), 3);
    assert_string_equal(parts[0].device, "CPU");
    assert_string_equal(parts[1].device, "RPC0");
    assert_int_equal(strncmp(servers, parts[1].description, strlen(parts[1].description)), 0);
    assert_true(parts[0].embeddings && !parts[0].head && parts[0].n_layers == 0);
    assert_true(!parts[1].head && parts[2].head);
    assert_int_equal(parts[1].n_layers + parts[2].n_layers, model->hp.n_layer);
    assert_int_equal(parts[2].first_layer, parts[1].n_layers);
    assert_int_equal(parts[0].size + parts[1].size + parts[2].size, local.size);
    genarm_model_free(model);
}

/* ---- classifiers ---- */

static const char *write_classifier(void) {
    static const char *const labels[] = {"good", "bad"};
    struct edit e;
    edit_open(&e, golden_path("qwen3.gguf"));
    const int64_t n_embd = edit_tensor(&e, "output_norm.weight")->ne[0];
    float *w = edit_add(&e, "cls.output.weight", GGML_TYPE_F32, n_embd, 2);
    for (int64_t i = 0; i < 2 * n_embd; i++) {
        w[i] = sinf((float)i * 1.7f) / 2;
    }
    gguf_set_val_u32(e.gguf, "qwen3.pooling_type", 4);
    gguf_set_arr_str(e.gguf, "qwen3.classifier.output_labels", (const char **)(uintptr_t)labels, 2);
    return edit_save(&e, temp_path("classifier.gguf"));
}

static void test_classifiers_over_servers_give_what_they_give_here(void **state) {
    (void)state;
    const char *path = write_classifier();
    float out[2][2];
    for (int i = 0; i < 2; i++) {
        struct genarm_error err = {0};
        struct genarm_source_params params = genarm_source_default_params();
        struct classifier c;
        int32_t tokens[] = {5, 17, 40, 99, 3, 250};
        params.n_threads = 1;
        params.model.rpc = i ? servers : NULL;
        params.model.device = i ? "RPC0,RPC1" : NULL;
        params.model.tensor_split = i ? "1,1" : NULL;
        must(classifier_open(&c, path, &params, &err), &err);
        must(classifier_run(&c, tokens, 6, out[i], &err), &err);
        classifier_close(&c);
    }
    assert_true(fabsf(out[0][0] - out[0][1]) > 1e-2f);
    assert_true(fabsf(out[1][0] - out[0][0]) < 1e-3f && fabsf(out[1][1] - out[0][1]) < 1e-3f);
}

/* ---- training ---- */

/* The same micro-batch by another model's graph. */
static void check_training(const char *name, struct genarm_model *model, const struct backprop_params *params) {
    struct train_case c;
    struct genarm_error err = {0};
    struct backprop *local, *other;
    train_case_open(&c, name, ALL_TARGETS, params);
    local = c.backprop;
    must(backprop_new(&other, model, &c.adapter, params, &err), &err);
    const int32_t n = (int32_t)c.data.n_pairs;
    const struct backprop_job job = {.gradient = true, .weight = 1.0 / n, .seed = 7, .step = 3};
    struct loss_value expected[16], got[16];
    float *gradients[2];
    for (int i = 0; i < 2; i++) {
        c.backprop = i ? other : local;
        trainable_zero_gradient(&c.adapter);
        train_case_run(&c, 0, n, &job, i ? got : expected);
        gradients[i] = malloc(c.adapter.n * sizeof(float));
        trainable_get_gradient(&c.adapter, gradients[i]);
    }
    for (int32_t i = 0; i < n; i++) {
        assert_relative(got[i].loss, expected[i].loss, 1e-3, "loss");
    }
    const double distance = relative_distance(gradients[1], gradients[0], c.adapter.n);
    if (!(distance <= 1e-4)) {
        fail_msg("%s: gradients differ by %g", name, distance);
    }
    c.backprop = local;
    backprop_free(other);
    free(gradients[0]);
    free(gradients[1]);
    train_case_close(&c);
}

static void check_training_over_servers(const char *name, const struct backprop_params *params) {
    struct genarm_model *model = over_servers(name, -1, NULL);
    check_training(name, model, params);
    genarm_model_free(model);
}

static void test_training_over_servers_equals_local_training(void **state) {
    (void)state;
    struct backprop_params params = train_case_params();
    params.plain = true;
    for (int i = 0; i < N_NAMES; i++) {
        if (i != 1) { /* llama3 has no pairs */
            check_training_over_servers(names[i], &params);
        }
    }
    params.dropout = 0.3f; /* nodes of our own between those of the servers */
    check_training_over_servers("qwen2", &params);
    params.loss = loss_get(GENARM_LOSS_DPO);
    check_training_over_servers("llama", &params);
    params.loss = loss_get(GENARM_LOSS_BT);
    check_training_over_servers("qwen3", &params);
}

static void test_training_over_cpus_equals_local_training(void **state) {
    (void)state;
    const struct backprop_params params = train_case_params();
    struct genarm_model *model = over_cpus("qwen3");
    check_training("qwen3", model, &params);
    genarm_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_over_servers_equal_pytorch),
        cmocka_unit_test(test_any_number_of_layers_can_be_offloaded),
        cmocka_unit_test(test_logits_over_cpus_equal_pytorch),
        cmocka_unit_test(test_a_batch_of_many_runs_fits),
        cmocka_unit_test(test_models_share_a_connection),
        cmocka_unit_test(test_parts_cover_the_model),
        cmocka_unit_test(test_classifiers_over_servers_give_what_they_give_here),
        cmocka_unit_test(test_training_over_servers_equals_local_training),
        cmocka_unit_test(test_training_over_cpus_equals_local_training),
    };
    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}
