#include "deep_model.h"

#include <gguf.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

static void die(const char *path, const char *what) {
    fprintf(stderr, "%s: %s\n", path, what);
    exit(1);
}

/* ---- layout ---- */

static uint32_t count_layers(const struct gguf_context *from, const char *like) {
    const int64_t id = gguf_find_key(from, "llama.block_count");
    if (id < 0) {
        die(like, "no model of the llama architecture");
    }
    return gguf_get_val_u32(from, id);
}

/* Where a tensor of the deep model comes from; *silent: it is zero instead. */
static struct ggml_tensor *source_of(struct ggml_context *from, const char *name, int times, bool *silent) {
    int layer, rest;
    char source[GGML_MAX_NAME];
    *silent = false;
    if (sscanf(name, "blk.%d.%n", &layer, &rest) < 1) {
        return ggml_get_tensor(from, name);
    }
    const bool projects = strcmp(name + rest, "attn_output.weight") == 0 || strcmp(name + rest, "ffn_down.weight") == 0;
    *silent = projects && layer % times != 0;
    snprintf(source, sizeof source, "blk.%d.%.40s", layer / times, name + rest);
    return ggml_get_tensor(from, source);
}

static void add(struct gguf_context *g, struct ggml_context *ctx, const char *name, const struct ggml_tensor *like,
                enum ggml_type type) {
    struct ggml_tensor *t = ggml_new_tensor(ctx, like->ne[1] > 1 ? type : GGML_TYPE_F32, ggml_n_dims(like), like->ne);
    ggml_set_name(t, name);
    gguf_add_tensor(g, t);
}

static void add_tensors(struct gguf_context *g, struct ggml_context *ctx, const struct gguf_context *old,
                        struct ggml_context *from, int times, enum ggml_type type) {
    for (int64_t id = 0; id < gguf_get_n_tensors(old); id++) {
        const struct ggml_tensor *t = ggml_get_tensor(from, gguf_get_tensor_name(old, id));
        int layer, rest;
        char name[GGML_MAX_NAME];
        if (sscanf(t->name, "blk.%d.%n", &layer, &rest) < 1) {
            add(g, ctx, t->name, t, type);
            continue;
        }
        for (int i = 0; i < times; i++) {
            snprintf(name, sizeof name, "blk.%d.%.40s", layer * times + i, t->name + rest);
            add(g, ctx, name, t, type);
        }
    }
}

/* ---- values ---- */

static void add_noise(float *x, int64_t n, float noise, struct rng *rng) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    const double size = (double)noise * sqrt(sum / (double)n);
    for (int64_t i = 0; i < n; i++) {
        x[i] += (float)(size * rng_normal(rng));
    }
}

static void write_tensor(FILE *f, const struct ggml_tensor *t, const struct ggml_tensor *from, bool silent, float noise,
                         uint64_t seed, size_t alignment) {
    static const char zeros[64];
    const size_t row = ggml_row_size(t->type, t->ne[0]), size = row * (size_t)t->ne[1];
    float *x = calloc((size_t)t->ne[0], sizeof *x);
    void *q = malloc(row);
    struct rng rng;
    rng_seed(&rng, seed);
    for (int64_t j = 0; j < t->ne[1]; j++) {
        if (!silent) {
            memcpy(x, (const float *)from->data + j * t->ne[0], (size_t)t->ne[0] * sizeof *x);
        }
        if (!silent && noise > 0.0f) {
            add_noise(x, t->ne[0], noise, &rng);
        }
        if (t->type == GGML_TYPE_F32) {
            fwrite(x, 1, row, f);
        } else {
            ggml_quantize_chunk(t->type, x, q, 0, 1, t->ne[0], NULL);
            fwrite(q, 1, row, f);
        }
    }
    fwrite(zeros, 1, (alignment - size % alignment) % alignment, f);
    free(x);
    free(q);
}

void deep_model_write(const char *path, const char *like, int times, float noise, enum ggml_type type) {
    struct ggml_context *from = NULL;
    struct gguf_context *old = gguf_init_from_file(like, (struct gguf_init_params){.no_alloc = false, .ctx = &from});
    struct gguf_context *g = gguf_init_empty();
    const struct ggml_init_params room = {.mem_size = 8192 * ggml_tensor_overhead(), .no_alloc = true};
    struct ggml_context *ctx = ggml_init(room);
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s.part", path);
    if (!old || !ctx) {
        die(like, "cannot read the model");
    }
    gguf_set_kv(g, old);
    gguf_set_val_u32(g, "llama.block_count", count_layers(old, like) * (uint32_t)times);
    gguf_set_val_str(g, "general.name", "deep");
    add_tensors(g, ctx, old, from, times, type);
    FILE *f = gguf_write_to_file(g, temporary, true) ? fopen(temporary, "ab") : NULL;
    if (!f) {
        die(temporary, "cannot write the deep model");
    }
    uint64_t seed = 0;
    for (struct ggml_tensor *t = ggml_get_first_tensor(ctx); t; t = ggml_get_next_tensor(ctx, t), seed++) {
        bool silent;
        const struct ggml_tensor *source = source_of(from, t->name, times, &silent);
        if (!source || source->type != GGML_TYPE_F32) {
            die(like, "its tensors are not F32");
        }
        const bool in_layer = strncmp(t->name, "blk.", 4) == 0 && t->ne[1] > 1;
        write_tensor(f, t, source, silent, in_layer ? noise : 0.0f, seed, gguf_get_alignment(g));
    }
    if (ferror(f) || fclose(f) != 0 || rename(temporary, path) != 0) {
        remove(temporary);
        die(path, "cannot write the deep model: is the disk full?");
    }
    gguf_free(old);
    gguf_free(g);
    ggml_free(from);
    ggml_free(ctx);
}
