/* A session in a file: what its policies have seen, their KV caches, how it weighs and draws. Nothing in a session changes
 * before the whole file has been checked.
 *
 * Layout: struct saved_session; the caller's note; for each policy struct saved_policy, tokens (i32), what its engine says of
 * the cached ones (engine_save); u64 hash of all before. Numbers are in the machine's order: a file is for where it was made.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "guide/session.h"

#define MAGIC "GENARMSN"

enum { VERSION = 3, MAX_NOTE = 1 << 28 /* bytes */ };

struct saved_session {
    char magic[8];
    uint32_t version;
    int32_t n_policies;
    uint64_t n_note; /* bytes; 0: there is none */
    float temperature, top_p, min_p;
    int32_t top_k;
    uint64_t seed;
    struct rng rng;
};

struct saved_policy {
    uint64_t model, weights, adapter, template_; /* hashes; adapter 0: none */
    float weight;
    int32_t n, n_prompt, n_given, n_cached, moved;
    int32_t base_is_reference; /* 1: the base saw the same prompt, and is what the policy is counted relative to */
    int32_t engine;            /* enum genarm_engine: of another one neither cache nor adapter can be compared */
    struct objective_weights preference;
    uint64_t n_cache; /* bytes */
};
_Static_assert(sizeof(struct saved_policy) == 5 * 8 + 8 * 4 + sizeof(struct objective_weights), "a hole");

/* ---- who the policies are ---- */

static uint64_t adapter_hash(const struct genarm_adapter *a) {
    uint64_t hash = hash_u64(HASH_START, (uint64_t)a->info.objectives.n << 32 | (uint32_t)a->info.objectives.rank);
    if (!a->layers) { /* libllama has them */
        return hash_u64(hash, a->hash);
    }
    for (int32_t l = 0; l < a->n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            const struct lora *lora = &a->layers[l][t];
            hash = hash_bytes(hash, &lora->scale, sizeof lora->scale);
            if (lora->a) { /* in the CPU's memory */
                hash = hash_bytes(hash, lora->a->data, ggml_nbytes(lora->a));
                hash = hash_bytes(hash, lora->b->data, ggml_nbytes(lora->b));
            }
        }
    }
    return hash;
}

static uint64_t template_hash(const struct policy *p) {
    const char *own = p->model->chat_template ? p->model->chat_template : "";
    const char *text = p->template_name && *p->template_name ? p->template_name : own;
    return hash_bytes(HASH_START, text, strlen(text));
}

static struct saved_policy describe(const struct genarm_session *s, int32_t policy) {
    const struct policy *p = &s->guide->policies[policy];
    const struct timeline *t = &s->timelines[policy];
    return (struct saved_policy){
        .model = hash_bytes(HASH_START, p->model->fingerprint, strlen(p->model->fingerprint)),
        .weights = p->model->sample,
        .adapter = p->adapter ? adapter_hash(p->adapter) : 0,
        .template_ = template_hash(p),
        .weight = s->weights[policy],
        .n = t->n, .n_prompt = t->n_prompt, .n_given = t->n_given, .n_cached = t->n_cached < t->n ? t->n_cached : t->n,
        .moved = t->moved < t->n ? t->moved : 0, /* without a prompt, a slot still knows what it held */
        .base_is_reference = s->references[policy] == 0,
        .engine = (int32_t)p->model->engine,
        .preference = s->preferences[policy],
    };
}

static struct engine *engine_of(const struct genarm_session *s, int32_t policy) {
    return s->guide->engines[s->guide->policies[policy].engine].engine;
}

/* ---- saving ---- */

static uint64_t put(FILE *stream, uint64_t hash, const void *bytes, size_t n) {
    fwrite(bytes, 1, n, stream); /* failures are collected by file_commit */
    return hash_bytes(hash, bytes, n);
}

/* `cache` is scratch. */
static int put_policy(FILE *stream, uint64_t *hash, const struct genarm_session *s, int32_t policy, struct buf *cache,
                      struct genarm_error *err) {
    struct saved_policy saved = describe(s, policy);
    buf_clear(cache);
    const int rc = engine_save(engine_of(s, policy), guide_seq(s->guide, policy, s->slot), saved.n_cached, cache, err);
    if (rc == GENARM_OK) {
        saved.n_cache = cache->len;
        *hash = put(stream, *hash, &saved, sizeof saved);
        *hash = put(stream, *hash, s->timelines[policy].tokens, (size_t)saved.n * sizeof(int32_t));
        *hash = put(stream, *hash, cache->data, cache->len);
    }
    return rc;
}

/* A name that was mistyped must not cost a model. */
static int check_target(const char *path, struct genarm_error *err) {
    char magic[8] = {0};
    FILE *stream = fopen(path, "rb");
    const size_t n = stream ? fread(magic, 1, sizeof magic, stream) : 0;
    if (stream) {
        fclose(stream);
    }
    if (n == 0 || memcmp(magic, MAGIC, sizeof magic) == 0) {
        return GENARM_OK;
    }
    const int rc = error_set(err, GENARM_EINVAL, "is not a saved session, and is not replaced by one");
    return error_hint(err, error_at(err, rc, "%s", path), "name another file");
}

int genarm_session_save(struct genarm_session *s, const char *path, const char *note, struct genarm_error *err) {
    const struct genarm_sampling *sampling = &s->sampler.params;
    const struct saved_session head = {
        .magic = MAGIC, .version = VERSION, .n_policies = s->guide->n_policies, .n_note = note ? strlen(note) : 0,
        .temperature = sampling->temperature, .top_p = sampling->top_p, .min_p = sampling->min_p, .top_k = sampling->top_k,
        .seed = sampling->seed, .rng = s->sampler.rng,
    };
    struct file_writer w = {0};
    struct buf cache;
    if (head.n_note > MAX_NOTE) {
        return error_set(err, GENARM_EINVAL, "a note of %zu bytes is too long to be saved with a session", strlen(note));
    }
    int rc = check_target(path, err);
    rc = rc == GENARM_OK ? file_open(&w, path, err) : rc;
    if (rc != GENARM_OK) {
        return rc;
    }
    session_drop_ahead(s); /* they are drawn anew here as where the file is loaded */
    buf_init(&cache, SIZE_MAX - 1);
    uint64_t hash = put(w.stream, HASH_START, &head, sizeof head);
    hash = put(w.stream, hash, note ? note : "", head.n_note);
    for (int32_t p = 0; p < head.n_policies && rc == GENARM_OK; p++) {
        rc = put_policy(w.stream, &hash, s, p, &cache, err);
    }
    buf_deinit(&cache);
    if (rc != GENARM_OK) {
        file_abort(&w);
        return error_at(err, rc, "%s", path);
    }
    put(w.stream, 0, &hash, sizeof hash);
    return file_commit(&w, err);
}

/* ---- loading ---- */

struct saved {
    const uint8_t *map, *at, *end; /* at: what is not read yet; the hash begins at the end */
    size_t size;
    struct saved_session head;
    const char *note; /* [head.n_note] */
    struct saved_policy policies[GUIDE_MAX_POLICIES];
    const uint8_t *tokens[GUIDE_MAX_POLICIES], *caches[GUIDE_MAX_POLICIES]; /* may lie unaligned */
};

static int damaged(struct genarm_error *err, const char *what) {
    const int rc = error_set(err, GENARM_EFORMAT, "the saved session is damaged: %s", what);
    return error_hint(err, rc, "remove it: it cannot be restored");
}

static int other(struct genarm_error *err, const struct genarm_guide *g, int32_t policy, const char *what) {
    const char *const of = policy == 0 ? "the base" : "the reward model ";
    const int rc = error_set(err, GENARM_EMISMATCH, "the session was saved with another %s of %s%s", what, of,
                             policy == 0 ? "" : g->policies[policy].name);
    return error_hint(err, rc, "give what it was saved with: model, adapters, templates, and reward models in their order");
}

/* The next n bytes; NULL: there are not as many. */
static const uint8_t *take(struct saved *f, uint64_t n) {
    const uint8_t *bytes = f->at;
    if (n > (uint64_t)(f->end - f->at)) {
        return NULL;
    }
    f->at += n;
    return bytes;
}

static int check_whole(struct saved *f, struct genarm_error *err) {
    uint64_t hash;
    if (f->size < sizeof f->head.magic || memcmp(f->map, MAGIC, sizeof f->head.magic) != 0) {
        return error_hint(err, error_set(err, GENARM_EFORMAT, "is not a saved session"), "name another file");
    }
    if (f->size < sizeof f->head + sizeof hash) {
        return damaged(err, "it is cut short");
    }
    memcpy(&f->head, f->map, sizeof f->head);
    if (f->head.version != VERSION) {
        return error_set(err, GENARM_EUNSUPPORTED, "the saved session has version %u, this program reads %d", f->head.version,
                         VERSION);
    }
    f->at = f->map + sizeof f->head;
    f->end = f->map + f->size - sizeof hash;
    memcpy(&hash, f->end, sizeof hash);
    const bool same = hash_bytes(HASH_START, f->map, (size_t)(f->end - f->map)) == hash;
    return same ? GENARM_OK : damaged(err, "cut short, or its checksum is wrong");
}

static int take_note(struct saved *f, struct genarm_error *err) {
    f->note = (const char *)take(f, f->head.n_note);
    return f->note && f->head.n_note <= MAX_NOTE ? GENARM_OK : damaged(err, "its note is missing");
}

static bool all_finite(const struct saved_policy *p) {
    bool ok = isfinite(p->weight);
    for (int i = 0; i < OBJECTIVES_MAX; i++) {
        ok = ok && isfinite(p->preference.weights[i]) && isfinite(p->preference.factors[i]);
    }
    return ok;
}

static int check_identity(const struct genarm_session *s, int32_t policy, const struct saved_policy *was,
                          struct genarm_error *err) {
    const struct saved_policy is = describe(s, policy);
    const struct genarm_guide *g = s->guide;
    if (was->model != is.model) {
        return other(err, g, policy, "model");
    }
    if (was->weights != is.weights) {
        return other(err, g, policy, "file of the model, with other weights,");
    }
    if (was->engine != is.engine) {
        const int rc = error_set(err, GENARM_EMISMATCH, "the saved KV cache is of another kind of engine");
        return error_hint(err, rc, "use the engine that it was saved with (--engine)");
    }
    if (was->adapter != is.adapter) {
        return other(err, g, policy, "adapter");
    }
    return was->template_ == is.template_ ? GENARM_OK : other(err, g, policy, "template");
}

/* Every policy has a prompt or none has, and behind it the same number of tokens. */
static bool goes_with(const struct saved_policy *p, const struct saved_policy *first) {
    return (p->n > 0) == (first->n > 0) && (int64_t)p->n - p->n_prompt == (int64_t)first->n - first->n_prompt;
}

static int check_timeline(const struct genarm_guide *g, int32_t policy, const struct saved_policy *p,
                          const struct saved_policy *first, const uint8_t *tokens, struct genarm_error *err) {
    const int32_t own = g->policies[policy].model->hp.n_vocab, base = g->policies[0].model->hp.n_vocab;
    if (p->n_given < 0 || p->n_given > p->n || p->n_prompt > p->n_given || p->n_prompt < -(INT32_MAX / 2) ||
        p->n_cached < 0 || p->n_cached > p->n ||
        p->moved < 0 || p->moved > p->n || (p->base_is_reference != 0 && p->base_is_reference != 1) || !all_finite(p) ||
        !goes_with(p, first)) {
        return damaged(err, "its numbers are impossible");
    }
    if (p->n > g->params.n_ctx) {
        const int rc =
            error_set(err, GENARM_ECONTEXT, "the saved session has %d tokens, the context %d", p->n, g->params.n_ctx);
        return error_hint(err, rc, "raise the context size (-c)");
    }
    for (int32_t i = 0, token; i < p->n; i++) {
        memcpy(&token, tokens + (size_t)i * sizeof token, sizeof token);
        if (token < 0 || token >= (own > base ? own : base)) {
            return damaged(err, "it has tokens that the vocabulary lacks");
        }
    }
    return GENARM_OK;
}

static int read_policy(struct saved *f, const struct genarm_session *s, int32_t policy, struct genarm_error *err) {
    struct saved_policy *p = &f->policies[policy];
    const uint8_t *bytes = take(f, sizeof *p);
    if (!bytes) {
        return damaged(err, "a policy is missing");
    }
    memcpy(p, bytes, sizeof *p);
    const int rc = check_identity(s, policy, p, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    f->tokens[policy] = p->n < 0 ? NULL : take(f, (uint64_t)p->n * sizeof(int32_t));
    f->caches[policy] = f->tokens[policy] ? take(f, p->n_cache) : NULL;
    return f->caches[policy] ? check_timeline(s->guide, policy, p, &f->policies[0], f->tokens[policy], err)
                             : damaged(err, "tokens are missing");
}

static int read_saved(struct saved *f, const struct genarm_session *s, struct genarm_error *err) {
    int rc = check_whole(f, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (f->head.n_policies != s->guide->n_policies) {
        rc = error_set(err, GENARM_EMISMATCH, "the session was saved with %d polic%s (base, reward models, references, a "
                       "draft model), not %d", f->head.n_policies, f->head.n_policies == 1 ? "y" : "ies",
                       s->guide->n_policies);
        return error_hint(err, rc, "give the reward models and the draft model that it was saved with");
    }
    rc = take_note(f, err);
    for (int32_t p = 0; p < f->head.n_policies && rc == GENARM_OK; p++) {
        rc = read_policy(f, s, p, err);
    }
    return rc == GENARM_OK && f->at != f->end ? damaged(err, "it is too long") : rc;
}

static int make_sampler(struct sampler *sampler, const struct saved_session *head, int32_t n_vocab, struct genarm_error *err) {
    const struct genarm_sampling params = {.temperature = head->temperature, .top_k = head->top_k, .top_p = head->top_p,
                                           .min_p = head->min_p, .seed = head->seed};
    const int rc = sampler_init(sampler, &params, n_vocab, err);
    if (rc == GENARM_OK) {
        sampler->rng = head->rng;
    }
    return rc;
}

/* The last thing that can fail; a cache that is overwritten and then not needed only has to be computed again. */
static int load_caches(struct genarm_session *s, const struct saved *f, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (int32_t p = 0; p < s->guide->n_policies && rc == GENARM_OK; p++) {
        rc = engine_load(engine_of(s, p), guide_seq(s->guide, p, s->slot), f->policies[p].n_cached, f->caches[p],
                         (size_t)f->policies[p].n_cache, err);
        if (rc == GENARM_OK) {
            session_drop_ahead(s);
            s->timelines[p].n_cached = s->timelines[p].moved = 0;
        }
    }
    return rc;
}

/* Which policy an ARM is counted relative to. The guide says whether it is; a base of its model may have seen its prompt. */
static int32_t reference_of(const struct genarm_guide *g, int32_t policy, bool base_saw_the_same) {
    const struct policy *p = &g->policies[policy], *base = &g->policies[0];
    return p->reference >= 0 && base_saw_the_same && p->model == base->model && !base->adapter ? 0 : p->reference;
}

static void take_timelines(struct genarm_session *s, const struct saved *f) {
    steering_restart(&s->steering);
    for (int32_t i = 0; i < s->guide->n_policies; i++) {
        const struct saved_policy *p = &f->policies[i];
        s->references[i] = reference_of(s->guide, i, p->base_is_reference);
        struct timeline *t = &s->timelines[i];
        memcpy(t->tokens, f->tokens[i], (size_t)p->n * sizeof *t->tokens);
        *t = (struct timeline){.tokens = t->tokens, .n = p->n, .n_prompt = p->n_prompt, .n_given = p->n_given,
                               .n_cached = p->n_cached, .moved = p->moved, .preference = p->preference};
    }
    const struct timeline *base = &s->timelines[0];
    s->n_reused = base->n_cached < base->n_given ? base->n_cached : base->n_given;
}

static void take_settings(struct genarm_session *s, const struct saved *f, const struct sampler *sampler) {
    sampler_deinit(&s->sampler);
    s->sampler = *sampler;
    for (int32_t i = 0; i < s->guide->n_policies; i++) {
        s->weights[i] = f->policies[i].weight;
        s->preferences[i] = f->policies[i].preference;
    }
}

/* What was computed under another preference than the session's is of no use. */
static void keep_settings(struct genarm_session *s) {
    for (int32_t i = 0; i < s->guide->n_policies; i++) {
        timeline_prefer(&s->timelines[i], &s->preferences[i]);
    }
}

static int load(struct genarm_session *s, const char *path, bool settings, struct genarm_error *err) {
    struct saved *f = calloc(1, sizeof *f);
    struct sampler sampler = {0};
    int rc = f ? file_map(&f->map, &f->size, path, err) : error_nomem(err, "a saved session");
    if (rc == GENARM_OK) {
        rc = read_saved(f, s, err);
    }
    if (rc == GENARM_OK) {
        rc = make_sampler(&sampler, &f->head, s->sampler.n_vocab, err);
    }
    if (rc == GENARM_OK) {
        rc = load_caches(s, f, err);
    }
    if (rc == GENARM_OK) {
        take_timelines(s, f);
    }
    if (rc == GENARM_OK && settings) {
        take_settings(s, f, &sampler);
    } else {
        sampler_deinit(&sampler);
    }
    if (rc == GENARM_OK && !settings) {
        keep_settings(s);
    }
    file_unmap(f ? f->map : NULL, f ? f->size : 0);
    free(f);
    return error_at(err, rc, "%s", path);
}

int genarm_session_load(struct genarm_session *s, const char *path, struct genarm_error *err) {
    return load(s, path, true, err);
}

int genarm_session_load_cache(struct genarm_session *s, const char *path, struct genarm_error *err) {
    return load(s, path, false, err);
}

int genarm_session_read_note(char **note, const char *path, struct genarm_error *err) {
    struct saved f = {0};
    char *text = NULL;
    int rc = file_map(&f.map, &f.size, path, err);
    rc = rc == GENARM_OK ? check_whole(&f, err) : rc;
    rc = rc == GENARM_OK ? take_note(&f, err) : rc;
    if (rc == GENARM_OK && f.head.n_note > 0) {
        text = strndup(f.note, f.head.n_note);
        rc = text ? GENARM_OK : error_nomem(err, "a saved session");
    }
    file_unmap(f.map, f.size);
    if (rc == GENARM_OK) {
        *note = text;
    }
    return error_at(err, rc, "%s", path);
}
