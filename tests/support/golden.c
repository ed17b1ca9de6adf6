#include "support/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

void must(int rc, const struct genarm_error *err) {
    if (rc < 0) {
        fail_msg("%d: %s: %s (%s)", rc, err->where, err->what, err->hint);
    }
}

const char *golden_path(const char *file) {
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "tests/golden/%s", file);
    return path;
}

void golden_open(struct golden *g, const char *name) {
    char file[128];
    snprintf(file, sizeof file, "%s.golden.gguf", name);
    golden_open_file(g, file);
}

void golden_open_file(struct golden *g, const char *file) {
    g->ctx = NULL;
    g->gguf = gguf_init_from_file(golden_path(file), (struct gguf_init_params){.no_alloc = false, .ctx = &g->ctx});
    if (!g->gguf) {
        fail_msg("cannot read %s", golden_path(file));
    }
}

void golden_close(struct golden *g) {
    gguf_free(g->gguf);
    ggml_free(g->ctx);
}

struct ggml_tensor *golden_tensor(const struct golden *g, const char *name) { return ggml_get_tensor(g->ctx, name); }

static const void *data(const struct golden *g, enum ggml_type type, size_t *n, const char *name) {
    const struct ggml_tensor *t = golden_tensor(g, name);
    if (!t || t->type != type) {
        fail_msg("golden file has no %s tensor %s", ggml_type_name(type), name);
    }
    if (n) {
        *n = (size_t)ggml_nelements(t);
    }
    return t->data;
}

const float *golden_f32(const struct golden *g, size_t *n, const char *fmt, ...) {
    char name[128];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    return data(g, GGML_TYPE_F32, n, name);
}

const int32_t *golden_i32(const struct golden *g, size_t *n, const char *fmt, ...) {
    char name[128];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    return data(g, GGML_TYPE_I32, n, name);
}

double golden_number(const struct golden *g, const char *key) {
    const int64_t id = gguf_find_key(g->gguf, key);
    if (id < 0) {
        fail_msg("golden file has no key %s", key);
    }
    return gguf_get_kv_type(g->gguf, id) == GGUF_TYPE_UINT32 ? (double)gguf_get_val_u32(g->gguf, id)
                                                             : gguf_get_val_f64(g->gguf, id);
}

enum genarm_engine golden_engine = GENARM_ENGINE_AUTO;

const char *golden_engine_name(void) { return golden_engine == GENARM_ENGINE_LLAMA ? "libllama" : "our graph"; }

struct genarm_model *golden_model(const char *file) {
    struct genarm_model *model = NULL;
    struct genarm_error err = {0};
    struct genarm_model_params params = genarm_model_default_params();
    params.engine = golden_engine;
    must(genarm_model_load(&model, golden_path(file), &params, &err), &err);
    return model;
}

struct genarm_adapter *golden_adapter(const struct genarm_model *model, const char *file) {
    struct genarm_adapter *adapter = NULL;
    struct genarm_error err = {0};
    must(genarm_adapter_load(&adapter, model, golden_path(file), &err), &err);
    return adapter;
}
