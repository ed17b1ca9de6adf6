#include "random_model.h"

#include <gguf.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

enum { N_EMBD = 2048, N_LAYER = 22, N_HEAD = 32, N_HEAD_KV = 4, N_FF = 5632, N_KV = N_EMBD / N_HEAD * N_HEAD_KV, ROWS = 32 };

static void die(const char *path, const char *what) {
    fprintf(stderr, "%s: %s\n", path, what);
    exit(1);
}

static int64_t vocabulary_size(const struct gguf_context *g) {
    const int64_t tokens = gguf_find_key(g, "tokenizer.ggml.tokens");
    return tokens < 0 ? 0 : (int64_t)gguf_get_arr_n(g, tokens);
}

static void set_shape(struct gguf_context *g) {
    gguf_set_val_str(g, "general.name", "random 1.1B");
    gguf_set_val_u32(g, "llama.embedding_length", N_EMBD);
    gguf_set_val_u32(g, "llama.block_count", N_LAYER);
    gguf_set_val_u32(g, "llama.attention.head_count", N_HEAD);
    gguf_set_val_u32(g, "llama.attention.head_count_kv", N_HEAD_KV);
    gguf_set_val_u32(g, "llama.feed_forward_length", N_FF);
    gguf_set_val_u32(g, "llama.rope.dimension_count", N_EMBD / N_HEAD);
}

static void add(struct gguf_context *g, struct ggml_context *ctx, const char *name, enum ggml_type type, int64_t n_in,
                int64_t n_out) {
    struct ggml_tensor *t = n_out ? ggml_new_tensor_2d(ctx, type, n_in, n_out) : ggml_new_tensor_1d(ctx, GGML_TYPE_F32, n_in);
    ggml_set_name(t, name);
    gguf_add_tensor(g, t);
}

static void add_tensors(struct gguf_context *g, struct ggml_context *ctx, enum ggml_type type, int64_t n_vocab) {
    static const struct {
        const char *name;
        int64_t n_in, n_out;
    } maps[] = {
        {"attn_norm", N_EMBD, 0},     {"attn_q", N_EMBD, N_EMBD},      {"attn_k", N_EMBD, N_KV},
        {"attn_v", N_EMBD, N_KV},     {"attn_output", N_EMBD, N_EMBD}, {"ffn_norm", N_EMBD, 0},
        {"ffn_gate", N_EMBD, N_FF},   {"ffn_up", N_EMBD, N_FF},        {"ffn_down", N_FF, N_EMBD},
    };
    add(g, ctx, "token_embd.weight", type, N_EMBD, n_vocab);
    add(g, ctx, "output_norm.weight", GGML_TYPE_F32, N_EMBD, 0);
    for (int l = 0; l < N_LAYER; l++) {
        for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%d.%s.weight", l, maps[i].name);
            add(g, ctx, name, type, maps[i].n_in, maps[i].n_out);
        }
    }
}

/* ROWS rows of n random numbers of a type's usual size; ones for a norm. */
static void *make_rows(enum ggml_type type, int64_t n, bool norm) {
    float *x = malloc((size_t)n * ROWS * sizeof *x);
    void *q = malloc(ggml_row_size(type, n) * ROWS);
    struct rng rng;
    rng_seed(&rng, (uint64_t)n);
    for (int64_t i = 0; i < n * ROWS; i++) {
        x[i] = norm ? 1.0f : (float)(rng_normal(&rng) / sqrt((double)n));
    }
    ggml_quantize_chunk(type, x, q, 0, ROWS, n, NULL);
    free(x);
    return q;
}

static void write_tensor(FILE *f, const struct ggml_tensor *t, size_t alignment) {
    static const char zeros[64];
    const size_t row = ggml_row_size(t->type, t->ne[0]), size = row * (size_t)t->ne[1];
    char *rows = make_rows(t->type, t->ne[0], t->ne[1] == 1);
    for (int64_t j = 0; j < t->ne[1]; j++) {
        fwrite(rows + (size_t)(j % ROWS) * row, 1, row, f);
    }
    fwrite(zeros, 1, (alignment - size % alignment) % alignment, f);
    free(rows);
}

void random_model_write(const char *path, const char *like, enum ggml_type type) {
    struct gguf_context *from = gguf_init_from_file(like, (struct gguf_init_params){.no_alloc = true});
    struct gguf_context *g = gguf_init_empty();
    struct ggml_context *ctx = ggml_init((struct ggml_init_params){.mem_size = 512 * ggml_tensor_overhead(), .no_alloc = true});
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s.part", path);
    if (!from || !ctx || vocabulary_size(from) == 0) {
        die(like, "cannot take the vocabulary from there");
    }
    gguf_set_kv(g, from);
    set_shape(g);
    add_tensors(g, ctx, type, vocabulary_size(from));
    FILE *f = gguf_write_to_file(g, temporary, true) ? fopen(temporary, "ab") : NULL;
    if (!f) {
        die(temporary, "cannot write the random model");
    }
    for (struct ggml_tensor *t = ggml_get_first_tensor(ctx); t; t = ggml_get_next_tensor(ctx, t)) {
        write_tensor(f, t, gguf_get_alignment(g));
    }
    if (ferror(f) || fclose(f) != 0 || rename(temporary, path) != 0) {
        remove(temporary);
        die(path, "cannot write the random model: is the disk full?");
    }
    gguf_free(from);
    gguf_free(g);
    ggml_free(ctx);
}
