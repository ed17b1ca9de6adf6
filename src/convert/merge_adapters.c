/* Several adapters as one: stacked, or their factors averaged. */
#include <stdlib.h>
#include <string.h>

#include "convert/merge.h"
#include "model/draft.h"

enum { MAX_RANK = 1 << 16 };

struct blender {
    const struct genarm_merge_part *parts;
    size_t n_parts;
    struct genarm_adapter **adapters; /* [n_parts] */
    int32_t n_layer;                  /* the most that one of them knows of */
    struct adapter_draft draft;       /* the result */
    float alpha;
    float *head; /* [n_head] of the result; NULL: the parts have none */
    size_t n_head;
    struct genarm_error *err;
};

/* The map of part i, NULL when it does not adapt it or counts nothing. */
static const struct lora *map_of(const struct blender *b, size_t i, int32_t layer, int l) {
    const struct genarm_adapter *ad = b->adapters[i];
    const bool has = b->parts[i].weight != 0 && layer < ad->n_layer && ad->layers[layer][l].a;
    return has ? &ad->layers[layer][l] : NULL;
}

static int64_t total_rank(const struct blender *b, int32_t layer, int l) {
    int64_t rank = 0;
    for (size_t i = 0; i < b->n_parts; i++) {
        const struct lora *x = map_of(b, i, layer, l);
        rank += x ? x->a->ne[1] : 0;
    }
    return rank;
}

/* ---- do they belong together ---- */

static int check_bases(const struct blender *b) {
    const struct genarm_adapter *first = b->adapters[0], *known = NULL;
    for (size_t i = 0; i < b->n_parts; i++) {
        const struct genarm_adapter *ad = b->adapters[i];
        int rc = GENARM_OK;
        if (ad->arch != first->arch) {
            rc = error_set(b->err, GENARM_EMISMATCH, "the adapter is for architecture %s, %s for %s",
                           arch_name(ad->arch), first->path, arch_name(first->arch));
        } else if (ad->info.base_hash && known && strcmp(ad->info.base_hash, known->info.base_hash) != 0) {
            rc = error_set(b->err, GENARM_EMISMATCH,
                           "the adapter was trained on the model with fingerprint %s, %s on that with %s",
                           ad->info.base_hash, known->path, known->info.base_hash);
        }
        if (rc != GENARM_OK) {
            error_hint(b->err, rc, "only adapters of the same model can be merged");
            return error_at(b->err, rc, "%s", ad->path);
        }
        known = ad->info.base_hash ? ad : known;
    }
    return GENARM_OK;
}

static int differs(const struct blender *b, size_t i, const struct ggml_tensor *t, const char *what, long long have,
                   size_t first, long long want, const char *hint) {
    const int rc = error_set(b->err, GENARM_EMISMATCH, "tensor %s has %s %lld, in %s it has %lld", t->name, what, have,
                             b->adapters[first]->path, want);
    error_hint(b->err, rc, "%s", hint);
    return error_at(b->err, rc, "%s", b->adapters[i]->path);
}

/* The same map has the same size in all parts. */
static int check_map(const struct blender *b, int32_t layer, int l) {
    static const char hint[] = "only adapters of the same model can be merged";
    const struct lora *first = NULL;
    size_t i_first = 0;
    for (size_t i = 0; i < b->n_parts; i++) {
        const struct lora *x = map_of(b, i, layer, l);
        if (x && first && x->a->ne[0] != first->a->ne[0]) {
            return differs(b, i, x->a, "inputs", x->a->ne[0], i_first, first->a->ne[0], hint);
        }
        if (x && first && x->b->ne[1] != first->b->ne[1]) {
            return differs(b, i, x->b, "outputs", x->b->ne[1], i_first, first->b->ne[1], hint);
        }
        if (x && !first) {
            first = x;
            i_first = i;
        }
    }
    if (total_rank(b, layer, l) > MAX_RANK) {
        return error_set(b->err, GENARM_EUNSUPPORTED, "tensor %s would get rank %lld, %d is the most", first->a->name,
                         (long long)total_rank(b, layer, l), MAX_RANK);
    }
    return GENARM_OK;
}

/* Averaging factors makes sense only where they have the same places: every part, the same rank and scale. */
static int check_alike(const struct blender *b, int32_t layer, int l) {
    static const char hint[] = "stack them instead: that is exact for any adapters";
    const struct lora *some = NULL;
    size_t i_some = 0;
    for (size_t i = 0; i < b->n_parts; i++) {
        const struct lora *x = map_of(b, i, layer, l);
        if (x && !some) {
            some = x;
            i_some = i;
        }
    }
    for (size_t i = 0; some && i < b->n_parts; i++) {
        const struct lora *x = map_of(b, i, layer, l);
        int rc = GENARM_OK;
        if (b->parts[i].weight != 0 && !x) {
            rc = error_set(b->err, GENARM_EMISMATCH, "the adapter lacks tensor %s of %s", some->a->name,
                           b->adapters[i_some]->path);
        } else if (x && x->a->ne[1] != some->a->ne[1]) {
            return differs(b, i, x->a, "rank", x->a->ne[1], i_some, some->a->ne[1], hint);
        } else if (x && x->scale != some->scale) {
            rc = error_set(b->err, GENARM_EMISMATCH, "tensor %s has the scale %g, in %s it has %g", x->a->name,
                           (double)x->scale, b->adapters[i_some]->path, (double)some->scale);
        }
        if (rc != GENARM_OK) {
            error_hint(b->err, rc, "%s", hint);
            return error_at(b->err, rc, "%s", b->adapters[i]->path);
        }
    }
    return GENARM_OK;
}

/* Reward models of whole responses are merged among themselves. */
static int check_heads(const struct blender *b) {
    const struct adapter_info *first = &b->adapters[0]->info;
    for (size_t i = 1; i < b->n_parts; i++) {
        const struct adapter_info *info = &b->adapters[i]->info;
        if (info->n_head != first->n_head) {
            int rc = error_set(b->err, GENARM_EMISMATCH, "genarm.head has %zu numbers, in %s it has %zu", info->n_head,
                               b->adapters[0]->path, first->n_head);
            error_hint(b->err, rc, "a reward model of whole responses can only be merged with others of the same model");
            return error_at(b->err, rc, "%s", b->adapters[i]->path);
        }
    }
    return GENARM_OK;
}

static int check(const struct blender *b, enum genarm_merge_how how) {
    int rc = check_bases(b);
    rc = rc == GENARM_OK ? check_heads(b) : rc;
    for (int32_t layer = 0; layer < b->n_layer; layer++) {
        for (int l = 0; rc == GENARM_OK && l < LINEAR_COUNT; l++) {
            rc = check_map(b, layer, l);
            rc = rc == GENARM_OK && how == GENARM_MERGE_AVERAGE ? check_alike(b, layer, l) : rc;
        }
    }
    return rc;
}

/* ---- numbers ---- */

/* Of one map of the result: A on top of A, B beside B times what makes the file's scale the part's. */
static void stack_map(struct blender *b, int32_t layer, int l) {
    struct lora *to = &b->draft.layers[layer][l];
    int64_t at = 0;
    for (size_t i = 0; i < b->n_parts; i++) {
        const struct lora *x = map_of(b, i, layer, l);
        if (!x) {
            continue;
        }
        const int64_t rank = to->a->ne[1], n_in = x->a->ne[0], r = x->a->ne[1], n_out = x->b->ne[1];
        const double factor = b->parts[i].weight * (double)x->scale * (double)rank / (double)b->alpha;
        memcpy((float *)to->a->data + at * n_in, x->a->data, ggml_nbytes(x->a));
        for (int64_t o = 0; o < n_out; o++) {
            for (int64_t j = 0; j < r; j++) {
                ((float *)to->b->data)[o * rank + at + j] = (float)(factor * (double)((float *)x->b->data)[o * r + j]);
            }
        }
        at += r;
    }
}

static void average_map(struct blender *b, int32_t layer, int l) {
    const struct lora *to = &b->draft.layers[layer][l];
    for (size_t i = 0; i < b->n_parts; i++) {
        const struct lora *x = map_of(b, i, layer, l);
        if (!x) {
            continue;
        }
        const struct {
            float *to;
            const float *from;
            int64_t n;
        } factors[] = {{to->a->data, x->a->data, ggml_nelements(x->a)}, {to->b->data, x->b->data, ggml_nelements(x->b)}};
        for (int f = 0; f < 2; f++) {
            for (int64_t p = 0; p < factors[f].n; p++) {
                const double sum = (double)factors[f].to[p] + b->parts[i].weight * (double)factors[f].from[p];
                factors[f].to[p] = (float)sum;
            }
        }
    }
}

/* The weighted sum of the heads, as of the changes. */
static int blend_heads(struct blender *b) {
    b->n_head = b->adapters[0]->info.n_head;
    b->head = b->n_head ? malloc(b->n_head * sizeof *b->head) : NULL;
    if (b->n_head && !b->head) {
        return error_nomem(b->err, "an adapter");
    }
    for (size_t k = 0; k < b->n_head; k++) {
        double sum = 0;
        for (size_t i = 0; i < b->n_parts; i++) {
            sum += b->parts[i].weight * (double)b->adapters[i]->info.head[k];
        }
        b->head[k] = (float)sum;
    }
    return GENARM_OK;
}

/* Stacked, alpha is the largest rank: the scale of the maps that have it is 1. Averaged, that of the parts that count, which
 * agree. */
static void choose_alpha(struct blender *b, enum genarm_merge_how how) {
    for (size_t i = 0; how == GENARM_MERGE_AVERAGE && i < b->n_parts; i++) {
        b->alpha = i == 0 || b->parts[i].weight != 0 ? b->adapters[i]->alpha : b->alpha;
    }
    for (int32_t layer = 0; how == GENARM_MERGE_STACK && layer < b->n_layer; layer++) {
        for (int l = 0; l < LINEAR_COUNT; l++) {
            const float rank = (float)total_rank(b, layer, l);
            b->alpha = rank > b->alpha ? rank : b->alpha;
        }
    }
}

static int blend_map(struct blender *b, enum genarm_merge_how how, int32_t layer, int l) {
    const struct lora *like = NULL;
    for (size_t i = 0; !like && i < b->n_parts; i++) {
        like = map_of(b, i, layer, l);
    }
    if (!like) {
        return GENARM_OK;
    }
    const int64_t rank = how == GENARM_MERGE_STACK ? total_rank(b, layer, l) : like->a->ne[1];
    const int64_t shape[] = {like->a->ne[0], rank, like->b->ne[1]};
    const int rc = draft_map(&b->draft, layer, l, shape, b->alpha != 0 ? b->alpha / (float)rank : 1, b->err);
    if (rc == GENARM_OK && how == GENARM_MERGE_STACK) {
        stack_map(b, layer, l);
    } else if (rc == GENARM_OK) {
        average_map(b, layer, l);
    }
    return rc;
}

/* ---- writing ---- */

static bool agree(const char *a, const char *b) { return a && b && strcmp(a, b) == 0; }

/* What all parts say alike; the base that some name. */
static struct adapter_info common_info(const struct blender *b) {
    struct adapter_info info = b->adapters[0]->info; /* borrowed */
    info.data_hash = NULL;
    info.head = b->head;
    info.n_head = b->n_head;
    for (size_t i = 1; i < b->n_parts; i++) {
        const struct adapter_info *other = &b->adapters[i]->info;
        info.loss = agree(info.loss, other->loss) ? info.loss : NULL;
        info.beta = info.beta == other->beta ? info.beta : 0;
        info.base_hash = info.base_hash ? info.base_hash : other->base_hash;
        if (!agree(info.template_, other->template_)) {
            if (info.template_ || other->template_) {
                log_line(GENARM_LOG_WARN, "%s was trained under another chat template", b->adapters[i]->path);
            }
            info.template_ = NULL;
        }
    }
    return info;
}

static int write_result(const struct blender *b, const char *output) {
    struct buf text;
    buf_init(&text, 1 << 20);
    struct gguf_context *metadata = gguf_init_empty();
    int rc = metadata ? merge_describe(&text, b->parts, b->n_parts, b->err) : error_nomem(b->err, "an adapter");
    if (rc == GENARM_OK) {
        const struct adapter_info info = common_info(b);
        adapter_metadata(metadata, b->adapters[0]->arch, b->alpha, &info);
        gguf_set_val_str(metadata, MERGE_KEY, text.data);
        rc = adapter_write(output, b->n_layer, b->draft.layers, metadata, b->err);
    }
    gguf_free(metadata);
    buf_deinit(&text);
    return rc;
}

static int blend(struct blender *b, enum genarm_merge_how how, const char *output) {
    int rc = merge_check_parts(b->parts, b->n_parts, b->err);
    for (size_t i = 0; rc == GENARM_OK && i < b->n_parts; i++) {
        rc = adapter_load_alone(&b->adapters[i], b->parts[i].path, b->err);
        rc = rc == GENARM_OK ? merge_fix_preference(b->adapters[i], &b->parts[i], b->err) : rc;
        b->n_layer = rc == GENARM_OK && b->adapters[i]->n_layer > b->n_layer ? b->adapters[i]->n_layer : b->n_layer;
    }
    rc = rc == GENARM_OK ? check(b, how) : rc;
    rc = rc == GENARM_OK ? draft_init(&b->draft, b->n_layer, b->err) : rc;
    rc = rc == GENARM_OK ? blend_heads(b) : rc;
    if (rc == GENARM_OK) {
        choose_alpha(b, how);
    }
    for (int32_t layer = 0; layer < b->n_layer; layer++) {
        for (int l = 0; rc == GENARM_OK && l < LINEAR_COUNT; l++) {
            rc = blend_map(b, how, layer, l);
        }
    }
    return rc == GENARM_OK ? error_at(b->err, write_result(b, output), "%s", output) : rc;
}

int genarm_merge_adapters(const struct genarm_merge_part *parts, size_t n_parts, enum genarm_merge_how how,
                          const char *output, struct genarm_error *err) {
    struct blender b = {.parts = parts,
                        .n_parts = n_parts,
                        .adapters = calloc(n_parts + 1, sizeof(struct genarm_adapter *)),
                        .err = err};
    const int rc = b.adapters ? blend(&b, how, output) : error_nomem(err, "an adapter");
    for (size_t i = 0; b.adapters && i < n_parts; i++) {
        genarm_adapter_free(b.adapters[i]);
    }
    draft_deinit(&b.draft);
    free(b.head);
    free(b.adapters);
    return rc;
}
