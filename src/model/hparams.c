/* Hyper-parameters from GGUF metadata, understood as libllama understands them. */
#include "model/hparams.h"

#include <ggml.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/gguf_check.h"

enum {
    MAX_LAYERS = 512, /* libllama's limit */
    MAX_HEADS = 4096,
    MAX_HEAD_SIZE = 1024,
    MAX_WIDTH = 1 << 20, /* of embeddings and feed-forward layers */
};

static const char *const arch_names[ARCH_COUNT] = {
    [ARCH_LLAMA] = "llama", [ARCH_QWEN2] = "qwen2", [ARCH_QWEN3] = "qwen3"};

const char *arch_name(enum arch arch) { return (unsigned)arch < ARCH_COUNT ? arch_names[arch] : NULL; }

/* Reads keys "<architecture>.<suffix>". The first failure sticks: after it, every read does nothing. */
struct reader {
    const struct gguf_context *gguf;
    const char *arch;
    struct genarm_error *err;
    int rc;
    char key[128];
};

static const char *key(struct reader *r, const char *suffix) {
    snprintf(r->key, sizeof r->key, "%s.%s", r->arch, suffix);
    return r->key;
}

static bool has(struct reader *r, const char *suffix) { return gguf_find_key(r->gguf, key(r, suffix)) >= 0; }

static bool ok(const struct reader *r) { return r->rc == GENARM_OK; }

/* A whole number in [1, max]; `fallback` 0: the key must be there. */
static int32_t read_size(struct reader *r, const char *suffix, int32_t fallback, uint32_t max) {
    uint32_t value = (uint32_t)fallback;
    if (ok(r)) {
        r->rc = fallback ? gguf_opt_u32(&value, r->gguf, key(r, suffix), value, r->err)
                         : gguf_need_u32(&value, r->gguf, key(r, suffix), r->err);
    }
    if (ok(r) && (value < 1 || value > max)) {
        r->rc = error_set(r->err, GENARM_EFORMAT, "%s is %u, 1 to %u can be", key(r, suffix), value, max);
    }
    return ok(r) ? (int32_t)value : 1;
}

static float read_number(struct reader *r, const char *suffix, float fallback) {
    float value = fallback;
    if (ok(r)) {
        r->rc = gguf_opt_f32(&value, r->gguf, key(r, suffix), fallback, r->err);
    }
    if (ok(r) && !isfinite(value)) {
        r->rc = error_set(r->err, GENARM_EFORMAT, "%s is not a finite number", key(r, suffix));
    }
    return value;
}

static void refuse(struct reader *r, const char *suffix, const char *what) {
    if (ok(r)) {
        r->rc = error_set(r->err, GENARM_EUNSUPPORTED, "%s: %s is not supported", key(r, suffix), what);
    }
}

static int read_arch(enum arch *arch, const char **name, const struct gguf_context *gguf, struct genarm_error *err) {
    int rc = gguf_need_str(name, gguf, "general.architecture", err);
    if (rc != GENARM_OK) {
        return rc;
    }
    for (int i = 0; i < ARCH_COUNT; i++) {
        if (strcmp(*name, arch_names[i]) == 0) {
            *arch = (enum arch)i;
            return GENARM_OK;
        }
    }
    rc = error_set(err, GENARM_EUNSUPPORTED, "general.architecture: \"%s\" is not supported", *name);
    return error_hint(err, rc, "supported are llama (also Mistral's models), qwen2 and qwen3");
}

static void read_heads(struct reader *r, struct hparams *hp) {
    hp->n_head = read_size(r, "attention.head_count", 0, MAX_HEADS);
    hp->n_head_kv = read_size(r, "attention.head_count_kv", hp->n_head, MAX_HEADS);
    if (ok(r) && hp->n_head % hp->n_head_kv != 0) {
        r->rc = error_set(r->err, GENARM_EFORMAT, "%s: %d key heads do not divide %d query heads",
                          key(r, "attention.head_count_kv"), hp->n_head_kv, hp->n_head);
    }
    if (ok(r) && !has(r, "attention.key_length") && hp->n_embd % hp->n_head != 0) {
        r->rc = error_set(r->err, GENARM_EFORMAT, "%s: %d heads do not divide an embedding of %d",
                          key(r, "attention.head_count"), hp->n_head, hp->n_embd);
    }
    const int32_t by_default = ok(r) && hp->n_embd >= hp->n_head ? hp->n_embd / hp->n_head : 1;
    hp->n_embd_head = read_size(r, "attention.key_length", by_default, MAX_HEAD_SIZE);
    if (read_size(r, "attention.value_length", by_default, MAX_HEAD_SIZE) != hp->n_embd_head) {
        refuse(r, "attention.value_length", "a length other than the keys'");
    }
}

/* libllama multiplies by this for yarn, and divides by what ggml_rope_ext multiplies by itself. */
static float yarn_attn_factor(float factor) {
    const float scale = factor <= 1.0f ? 1.0f : 0.1f * logf(factor) + 1.0f;
    return scale * (1.0f / (1.0f + 0.1f * logf(factor)));
}

/* What libllama gives ggml_rope_ext when no parameter of its context says otherwise. */
static void read_rope(struct reader *r, struct hparams *hp) {
    hp->rope_mode = hp->arch == ARCH_LLAMA ? GGML_ROPE_TYPE_NORMAL : GGML_ROPE_TYPE_NEOX;
    hp->n_rot = read_size(r, "rope.dimension_count", hp->n_embd_head, MAX_HEAD_SIZE);
    if (ok(r) && hp->n_rot != hp->n_embd_head) {
        refuse(r, "rope.dimension_count", "rotating a part of a head");
    }
    if (ok(r) && hp->n_rot % 2 != 0) {
        r->rc = error_set(r->err, GENARM_EFORMAT, "%s: heads of %d, an odd number", key(r, "attention.key_length"),
                          hp->n_rot);
    }
    hp->n_ctx_orig = hp->n_ctx_train;
    if (has(r, "rope.scaling.original_context_length")) {
        hp->n_ctx_orig = read_size(r, "rope.scaling.original_context_length", 0, INT32_MAX);
    }
    hp->rope_freq_base = read_number(r, "rope.freq_base", 10000.0f);
    if (ok(r) && hp->rope_freq_base <= 0.0f) {
        r->rc = error_set(r->err, GENARM_EFORMAT, "%s is %g", key(r, "rope.freq_base"), (double)hp->rope_freq_base);
    }
    const char *factor_key = has(r, "rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
    const float factor = read_number(r, factor_key, 0.0f);
    if (ok(r) && (factor < 0.0f || !isfinite(1.0f / (factor == 0.0f ? 1.0f : factor)))) {
        r->rc = error_set(r->err, GENARM_EFORMAT, "%s is %g", key(r, factor_key), (double)factor);
    }
    hp->rope_freq_scale = factor == 0.0f ? 1.0f : 1.0f / factor;
    hp->rope_attn_factor = read_number(r, "rope.scaling.attn_factor", 1.0f);
    hp->rope_ext_factor = 0.0f;
    hp->rope_beta_fast = 32.0f; /* libllama has no keys for these two in our architectures */
    hp->rope_beta_slow = 1.0f;

    const char *type = "linear";
    if (ok(r)) {
        r->rc = gguf_opt_str(&type, r->gguf, key(r, "rope.scaling.type"), type, r->err);
    }
    if (ok(r) && strcmp(type, "none") == 0) {
        hp->rope_freq_scale = 1.0f;
    } else if (ok(r) && strcmp(type, "yarn") == 0) {
        hp->rope_ext_factor = 1.0f;
        hp->rope_attn_factor *= yarn_attn_factor(1.0f / hp->rope_freq_scale);
    } else if (ok(r) && strcmp(type, "linear") != 0) {
        refuse(r, "rope.scaling.type", type);
    }
}

/* Keys of other models that would change the computation. They are fine at 0 or at the value that changes nothing. */
static void refuse_foreign_features(struct reader *r, const struct hparams *hp) {
    static const struct {
        const char *suffix;
        float neutral;
    } numbers[] = {
        {"attention.scale", 0},        {"attention.output_scale", 1},   {"attention.value_scale", 1},
        {"attention.clamp_kqv", 0},    {"attention.max_alibi_bias", 0}, {"attention.temperature_scale", 0},
        {"attn_logit_softcapping", 0}, {"final_logit_softcapping", 0},  {"logit_scale", 1},
        {"residual_scale", 1},         {"embedding_scale", 1},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const float value = read_number(r, numbers[i].suffix, 0.0f);
        if (value != 0.0f && value != numbers[i].neutral) {
            refuse(r, numbers[i].suffix, "this feature");
        }
    }
    static const struct {
        const char *suffix, *what;
    } counts[] = {{"expert_count", "a mixture of experts"}, {"nextn_predict_layers", "prediction of several tokens"}};
    uint32_t n = 0;
    for (size_t i = 0; ok(r) && i < sizeof counts / sizeof *counts; i++) {
        r->rc = gguf_opt_u32(&n, r->gguf, key(r, counts[i].suffix), 0, r->err);
        if (ok(r) && n > 0) {
            refuse(r, counts[i].suffix, counts[i].what);
        }
    }
    if (ok(r)) {
        r->rc = gguf_opt_u32(&n, r->gguf, key(r, "attention.sliding_window"), 0, r->err);
    }
    if (ok(r) && n > 0 && n < (uint32_t)hp->n_ctx_train) {
        refuse(r, "attention.sliding_window", "a sliding window");
    }
    bool causal = true;
    if (ok(r)) {
        r->rc = gguf_opt_bool(&causal, r->gguf, key(r, "attention.causal"), true, r->err);
    }
    if (ok(r) && !causal) {
        refuse(r, "attention.causal", "attention to later tokens");
    }
}

int hparams_read(struct hparams *hp, const struct gguf_context *gguf, struct genarm_error *err) {
    struct hparams h = {0};
    struct reader r = {.gguf = gguf, .err = err};
    r.rc = read_arch(&h.arch, &r.arch, gguf, err);
    if (!ok(&r)) {
        return r.rc;
    }
    h.n_ctx_train = read_size(&r, "context_length", 0, INT32_MAX);
    h.n_embd = read_size(&r, "embedding_length", 0, MAX_WIDTH);
    h.n_layer = read_size(&r, "block_count", 0, MAX_LAYERS);
    h.n_ff = read_size(&r, "feed_forward_length", 0, MAX_WIDTH);
    read_heads(&r, &h);
    if (ok(&r)) {
        r.rc = gguf_need_f32(&h.norm_eps, gguf, key(&r, "attention.layer_norm_rms_epsilon"), err);
    }
    if (ok(&r) && !(h.norm_eps > 0.0f && h.norm_eps < 1.0f)) {
        r.rc =
            error_set(err, GENARM_EFORMAT, "%s is %g", key(&r, "attention.layer_norm_rms_epsilon"), (double)h.norm_eps);
    }
    read_rope(&r, &h);
    refuse_foreign_features(&r, &h);
    if (ok(&r)) {
        *hp = h;
    }
    return r.rc;
}

/* A number that some architectures have for each layer, or not at all. */
static int32_t read_any_size(struct reader *r, const char *suffix, uint32_t max) {
    const int64_t id = gguf_find_key(r->gguf, key(r, suffix));
    if (id < 0 || gguf_get_kv_type(r->gguf, id) != GGUF_TYPE_UINT32 || gguf_get_val_u32(r->gguf, id) > max) {
        return 0;
    }
    return (int32_t)gguf_get_val_u32(r->gguf, id);
}

int hparams_read_any(struct hparams *hp, const struct gguf_context *gguf, struct genarm_error *err) {
    struct hparams h = {.arch = ARCH_COUNT};
    struct reader r = {.gguf = gguf, .err = err};
    bool causal = true;
    r.rc = gguf_need_str(&r.arch, gguf, "general.architecture", err);
    h.n_ctx_train = ok(&r) ? read_size(&r, "context_length", 0, INT32_MAX) : 0;
    h.n_embd = ok(&r) ? read_size(&r, "embedding_length", 0, MAX_WIDTH) : 0;
    h.n_layer = ok(&r) ? read_size(&r, "block_count", 0, MAX_LAYERS) : 0;
    if (ok(&r)) {
        h.n_ff = read_any_size(&r, "feed_forward_length", MAX_WIDTH);
        h.n_head = read_any_size(&r, "attention.head_count", MAX_HEADS);
        h.n_head_kv = read_any_size(&r, "attention.head_count_kv", MAX_HEADS);
        h.n_embd_head = read_any_size(&r, "attention.key_length", MAX_HEAD_SIZE);
        r.rc = gguf_opt_bool(&causal, gguf, key(&r, "attention.causal"), true, err);
    }
    if (ok(&r) && !causal) {
        refuse(&r, "attention.causal", "attention to later tokens");
    }
    if (ok(&r)) {
        *hp = h;
    }
    return r.rc;
}

/* ---- what libllama asserts ---- */

static uint32_t read_count(struct reader *r, const char *suffix) {
    uint32_t value = 0;
    if (ok(r)) {
        r->rc = gguf_opt_u32(&value, r->gguf, key(r, suffix), 0, r->err);
    }
    return value;
}

/* The largest number where there is one for each layer. */
static uint32_t read_largest(struct reader *r, const char *suffix) {
    const int64_t id = gguf_find_key(r->gguf, key(r, suffix));
    if (!ok(r) || id < 0 || gguf_get_kv_type(r->gguf, id) != GGUF_TYPE_ARRAY) {
        return read_count(r, suffix);
    }
    const enum gguf_type type = gguf_get_arr_type(r->gguf, id);
    if (type != GGUF_TYPE_UINT32 && type != GGUF_TYPE_INT32) {
        r->rc = error_set(r->err, GENARM_EFORMAT, "%s is not an array of 32-bit numbers", r->key);
        return 0;
    }
    const uint32_t *values = gguf_get_arr_data(r->gguf, id);
    uint32_t most = 0;
    for (size_t i = 0; i < gguf_get_arr_n(r->gguf, id); i++) {
        most = values[i] > most ? values[i] : most;
    }
    return most;
}

static void check_scaling(struct reader *r) {
    static const char *const known[] = {"none", "linear", "yarn", "longrope"};
    const char *type = "linear";
    if (ok(r)) {
        r->rc = gguf_opt_str(&type, r->gguf, key(r, "rope.scaling.type"), type, r->err);
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(type, known[i]) == 0) {
            return;
        }
    }
    refuse(r, "rope.scaling.type", type);
}

static void check_experts(struct reader *r) {
    enum { MAX_EXPERTS = 1024 };
    const uint32_t n = read_count(r, "expert_count"), used = read_largest(r, "expert_used_count");
    const uint32_t groups = read_count(r, "expert_group_count"), groups_used = read_count(r, "expert_group_used_count");
    if (!ok(r)) {
        return;
    }
    if (n > MAX_EXPERTS) {
        r->rc = error_set(r->err, GENARM_EUNSUPPORTED, "%s is %u, libllama takes up to %d", key(r, "expert_count"), n,
                          MAX_EXPERTS);
    } else if (used > n || (used == 0) != (n == 0)) {
        r->rc = error_set(r->err, GENARM_EFORMAT, "%s: %u of %u experts are used", key(r, "expert_used_count"), used, n);
    } else if ((n > 0 && groups >= n) || (n == 0 && groups > 0) || (groups > 1 && n % groups != 0)) {
        r->rc = error_set(r->err, GENARM_EFORMAT, "%s: %u experts in %u groups", key(r, "expert_group_count"), n, groups);
    } else if (groups > 1 && (groups_used == 0 || groups_used >= groups)) {
        r->rc = error_set(r->err, GENARM_EFORMAT, "%s: %u of %u groups are used", key(r, "expert_group_used_count"), groups_used,
                          groups);
    }
}

int hparams_check_any(const struct gguf_context *gguf, struct genarm_error *err) {
    struct reader r = {.gguf = gguf, .err = err};
    r.rc = gguf_need_str(&r.arch, gguf, "general.architecture", err);
    if (!ok(&r)) {
        return r.rc;
    }
    const uint32_t n_layer = read_count(&r, "block_count"), n_next = read_count(&r, "nextn_predict_layers");
    if (ok(&r) && n_next > n_layer) {
        r.rc = error_set(err, GENARM_EFORMAT, "%s is %u, of %u layers", key(&r, "nextn_predict_layers"), n_next, n_layer);
    }
    check_scaling(&r);
    check_experts(&r);
    return r.rc;
}
