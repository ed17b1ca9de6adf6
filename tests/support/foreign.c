#include "support/foreign.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "support/edit.h"
#include "support/golden.h"

enum { N_EMBD = 32, N_FF = 48, N_HEAD = 4, N_HEAD_KV = 2, HEAD = 16, STATE = 8, CONV = 4, RANK = 2 };

struct maker {
    struct edit e;
    struct rng rng;
};

/* llama.gguf without its tensors and its architecture's keys. */
static void start(struct maker *m, const char *arch, uint32_t n_layer) {
    const char *names[64];
    size_t n = 0;
    char key[96];
    edit_open(&m->e, golden_path("llama.gguf"));
    for (struct ggml_tensor *t = ggml_get_first_tensor(m->e.tensors); t; t = ggml_get_next_tensor(m->e.tensors, t)) {
        assert_true(n < sizeof names / sizeof *names);
        names[n++] = t->name;
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(names[i], "token_embd.weight") != 0) {
            edit_remove(&m->e, names[i]);
        }
    }
    rng_seed(&m->rng, 7);
    gguf_set_val_str(m->e.gguf, "general.architecture", arch);
    const struct {
        const char *suffix;
        uint32_t value;
    } sizes[] = {{"context_length", 1024}, {"embedding_length", N_EMBD}, {"block_count", n_layer},
                 {"feed_forward_length", N_FF}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, sizes[i].suffix);
        gguf_set_val_u32(m->e.gguf, key, sizes[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    gguf_set_val_f32(m->e.gguf, key, 1e-5f);
}

/* Normal numbers around `mean`; in layer `layer`, or, with -1, in none. */
static float *add(struct maker *m, int layer, const char *name, int64_t ne0, int64_t ne1, float mean, float size) {
    char full[64];
    if (layer < 0) {
        snprintf(full, sizeof full, "%s", name);
    } else {
        snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    }
    float *x = edit_add(&m->e, full, GGML_TYPE_F32, ne0, ne1);
    for (int64_t i = 0; i < ne0 * (ne1 ? ne1 : 1); i++) {
        x[i] = mean + size * (float)rng_normal(&m->rng);
    }
    return x;
}

static void add_map(struct maker *m, int layer, const char *name, int64_t n_in, int64_t n_out) {
    add(m, layer, name, n_in, n_out, 0.0f, 1.5f / sqrtf((float)n_in));
}

static void add_embeddings(struct maker *m) {
    const int64_t n_vocab = edit_tensor(&m->e, "token_embd.weight")->ne[1];
    edit_remove(&m->e, "token_embd.weight");
    add(m, -1, "token_embd.weight", N_EMBD, n_vocab, 0.0f, 0.5f);
    add(m, -1, "output_norm.weight", N_EMBD, 1, 1.0f, 0.1f);
}

const char *foreign_gemma3(const char *path) {
    enum { N_LAYER = 6 };
    struct maker m = {0};
    start(&m, "gemma3", N_LAYER);
    gguf_set_val_u32(m.e.gguf, "gemma3.attention.head_count", N_HEAD);
    gguf_set_val_u32(m.e.gguf, "gemma3.attention.head_count_kv", N_HEAD_KV);
    gguf_set_val_u32(m.e.gguf, "gemma3.attention.key_length", HEAD);
    gguf_set_val_u32(m.e.gguf, "gemma3.attention.value_length", HEAD);
    gguf_set_val_u32(m.e.gguf, "gemma3.attention.sliding_window", 8);
    add_embeddings(&m);
    for (int l = 0; l < N_LAYER; l++) {
        static const char *const norms[] = {"attn_norm.weight", "post_attention_norm.weight", "ffn_norm.weight",
                                            "post_ffw_norm.weight"};
        for (size_t i = 0; i < sizeof norms / sizeof *norms; i++) {
            add(&m, l, norms[i], N_EMBD, 1, 1.0f, 0.1f);
        }
        add(&m, l, "attn_q_norm.weight", HEAD, 1, 1.0f, 0.1f);
        add(&m, l, "attn_k_norm.weight", HEAD, 1, 1.0f, 0.1f);
        add_map(&m, l, "attn_q.weight", N_EMBD, N_HEAD * HEAD);
        add_map(&m, l, "attn_k.weight", N_EMBD, N_HEAD_KV * HEAD);
        add_map(&m, l, "attn_v.weight", N_EMBD, N_HEAD_KV * HEAD);
        add_map(&m, l, "attn_output.weight", N_HEAD * HEAD, N_EMBD);
        add_map(&m, l, "ffn_gate.weight", N_EMBD, N_FF);
        add_map(&m, l, "ffn_up.weight", N_EMBD, N_FF);
        add_map(&m, l, "ffn_down.weight", N_FF, N_EMBD);
    }
    return edit_save(&m.e, path);
}

const char *foreign_mamba(const char *path) {
    enum { N_LAYER = 2, INNER = 2 * N_EMBD };
    struct maker m = {0};
    start(&m, "mamba", N_LAYER);
    gguf_set_val_u32(m.e.gguf, "mamba.feed_forward_length", 0);
    gguf_set_val_u32(m.e.gguf, "mamba.attention.head_count", 0);
    gguf_set_val_u32(m.e.gguf, "mamba.ssm.conv_kernel", CONV);
    gguf_set_val_u32(m.e.gguf, "mamba.ssm.inner_size", INNER);
    gguf_set_val_u32(m.e.gguf, "mamba.ssm.state_size", STATE);
    gguf_set_val_u32(m.e.gguf, "mamba.ssm.time_step_rank", RANK);
    add_embeddings(&m);
    for (int l = 0; l < N_LAYER; l++) {
        add(&m, l, "attn_norm.weight", N_EMBD, 1, 1.0f, 0.1f);
        add_map(&m, l, "ssm_in.weight", N_EMBD, 2 * INNER);
        add(&m, l, "ssm_conv1d.weight", CONV, INNER, 0.0f, 0.5f);
        add(&m, l, "ssm_conv1d.bias", INNER, 1, 0.0f, 0.1f);
        add_map(&m, l, "ssm_x.weight", INNER, RANK + 2 * STATE);
        add_map(&m, l, "ssm_dt.weight", RANK, INNER);
        add(&m, l, "ssm_dt.bias", INNER, 1, 0.0f, 0.1f);
        add(&m, l, "ssm_a", STATE, INNER, -1.0f, 0.1f);
        add(&m, l, "ssm_d", INNER, 1, 1.0f, 0.1f);
        add_map(&m, l, "ssm_out.weight", INNER, N_EMBD);
    }
    return edit_save(&m.e, path);
}
