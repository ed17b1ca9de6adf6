/* A model without some of its layers: names and metadata. Called by merge_model.c, which writes the file. */
#include "convert/prune.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "model/gguf_check.h"

int prune_init(struct prune *p, int32_t n_layer, const int32_t *layers, size_t n, struct genarm_error *err) {
    if (n_layer > PRUNE_MAX_LAYERS) {
        return error_set(err, GENARM_EUNSUPPORTED, "the model has %d layers, %d can be", n_layer, PRUNE_MAX_LAYERS);
    }
    p->n_layer = n_layer;
    p->n_kept = 0;
    memset(p->number, 0, sizeof p->number);
    for (size_t i = 0; i < n; i++) {
        if (layers[i] < 0 || layers[i] >= n_layer) {
            const int rc = error_set(err, GENARM_EINVAL, "there is no layer %d to leave out", layers[i]);
            return error_hint(err, rc, "the model has the layers 0 to %d", n_layer - 1);
        }
        p->number[layers[i]] = -1;
    }
    for (int32_t i = 0; i < n_layer; i++) {
        p->number[i] = p->number[i] < 0 ? -1 : p->n_kept++;
    }
    return p->n_kept > 0 ? GENARM_OK : error_set(err, GENARM_EINVAL, "all %d layers would be left out", n_layer);
}

bool prune_rename(const struct prune *p, const char *name, char *to, size_t max) {
    static const char prefix[] = "blk.";
    char *rest = NULL;
    const bool in_layer = strncmp(name, prefix, sizeof prefix - 1) == 0;
    const long layer = in_layer ? strtol(name + sizeof prefix - 1, &rest, 10) : -1;
    if (!in_layer || *rest != '.' || layer < 0 || layer >= p->n_layer) {
        snprintf(to, max, "%s", name);
        return true;
    }
    snprintf(to, max, "%s%d%s", prefix, p->number[layer], rest);
    return p->number[layer] >= 0;
}

/* ---- metadata ---- */

/* Keys that count layers from the first or from the last one. */
static void set_counts(const struct prune *p, struct gguf_context *g, const char *architecture) {
    static const struct {
        const char *suffix;
        bool from_end;
    } counts[] = {{"leading_dense_block_count", false}, {"nextn_predict_layers", true}};
    char key[160];
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        snprintf(key, sizeof key, "%.100s.%s", architecture, counts[i].suffix);
        const int64_t id = gguf_find_key(g, key);
        const uint32_t n = id >= 0 && gguf_get_kv_type(g, id) == GGUF_TYPE_UINT32 ? gguf_get_val_u32(g, id) : 0;
        uint32_t kept = n;
        for (int32_t l = 0; n > 0 && l < p->n_layer; l++) {
            const bool counted = (uint32_t)(counts[i].from_end ? p->n_layer - 1 - l : l) < n;
            kept -= counted && p->number[l] < 0;
        }
        if (kept != n) {
            gguf_set_val_u32(g, key, kept);
        }
    }
    snprintf(key, sizeof key, "%.100s.block_count", architecture);
    gguf_set_val_u32(g, key, (uint32_t)p->n_kept);
}

/* Whether a key holds a value for each layer: an array of the architecture that is as long as there are layers. */
static bool is_per_layer(const struct prune *p, const struct gguf_context *g, int64_t id, const char *architecture) {
    static const char *const others[] = {"rope.dimension_sections", "classifier.output_labels"};
    const char *key = gguf_get_key(g, id);
    const size_t n = strlen(architecture);
    if (strncmp(key, architecture, n) != 0 || key[n] != '.' || gguf_get_kv_type(g, id) != GGUF_TYPE_ARRAY ||
        gguf_value_size(gguf_get_arr_type(g, id)) == 0 || gguf_get_arr_n(g, id) != (size_t)p->n_layer) {
        return false;
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (strcmp(key + n + 1, others[i]) == 0) {
            return false;
        }
    }
    return true;
}

static int shorten(const struct prune *p, struct gguf_context *g, int64_t id, struct genarm_error *err) {
    const enum gguf_type type = gguf_get_arr_type(g, id);
    const size_t size = gguf_value_size(type);
    const char *from = gguf_get_arr_data(g, id);
    char *key = strdup(gguf_get_key(g, id)); /* of its own: setting removes the old entry first */
    char *kept = malloc((size_t)p->n_kept * size);
    if (key && kept) {
        for (int32_t l = 0; l < p->n_layer; l++) {
            if (p->number[l] >= 0) {
                memcpy(kept + (size_t)p->number[l] * size, from + (size_t)l * size, size);
            }
        }
        gguf_set_arr_data(g, key, type, kept, (size_t)p->n_kept);
    }
    const int rc = key && kept ? GENARM_OK : error_nomem(err, "metadata");
    free(key);
    free(kept);
    return rc;
}

/* "3,10-19" */
static int describe(const struct prune *p, struct buf *text, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (int32_t l = 0; rc == GENARM_OK && l < p->n_layer; l++) {
        if (p->number[l] >= 0) {
            continue;
        }
        const int32_t first = l;
        while (l + 1 < p->n_layer && p->number[l + 1] < 0) {
            l++;
        }
        rc = buf_printf(text, err, l > first ? "%s%d-%d" : "%s%d", text->len ? "," : "", first, l);
    }
    return rc;
}

int prune_metadata(const struct prune *p, struct gguf_context *g, const char *architecture, struct genarm_error *err) {
    if (p->n_kept == p->n_layer) {
        return GENARM_OK;
    }
    struct buf text;
    buf_init(&text, 1 << 16);
    int rc = describe(p, &text, err);
    /* From the last key: a shortened one moves to the end, and those before it keep their places. */
    for (int64_t id = gguf_get_n_kv(g) - 1; rc == GENARM_OK && id >= 0; id--) {
        rc = is_per_layer(p, g, id, architecture) ? shorten(p, g, id, err) : GENARM_OK;
    }
    if (rc == GENARM_OK) {
        set_counts(p, g, architecture);
        gguf_set_val_str(g, PRUNE_KEY, text.data);
    }
    buf_deinit(&text);
    return rc;
}
