/* Whole sequences in the engine of libllama: rewound, copied, shifted, as bytes and from bytes.
 *
 * A sequence is its tokens. What libllama has computed of them saves time: wherever it cannot follow, it forgets, and is fed
 * again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/llama_engine.h"
#include "model/llama_guard.h"
#include "model/runtime.h"

void sequence_forget(struct llama_engine *e, int32_t seq) { llama_memory_seq_rm(e->memory, seq, -1, -1); }

/* False: libllama cannot, or no longer has the whole window before n_pos. */
static bool try_rewind(const struct llama_engine *e, int32_t seq, int32_t n_pos) {
    const int32_t window = llama_model_n_swa(e->base.model->llama), first = n_pos > window ? n_pos - window : 0;
    return n_pos > 0 && llama_memory_seq_rm(e->memory, seq, n_pos, -1) && sequence_held(e, seq) == n_pos &&
           (e->recurrent || window == 0 || llama_memory_seq_pos_min(e->memory, seq) <= first);
}

/* What is no number in a cell that was given up still spoils rows that look past it, and libllama zeroes whole memories only: the
 * other sequences are fed again. */
void sequence_clear(struct engine *base, int32_t seq) {
    struct llama_engine *e = (struct llama_engine *)base;
    (void)seq;
    llama_memory_clear(e->memory, true);
    e->shift_pending = false;
}

void sequence_rewind(struct llama_engine *e, int32_t seq, int32_t n_pos) {
    if (sequence_held(e, seq) > n_pos && !try_rewind(e, seq, n_pos)) {
        sequence_forget(e, seq);
    }
}

/* ---- as bytes ---- */

/* What libllama holds of a sequence, malloc'ed. */
static int get_state(struct llama_engine *e, int32_t seq, void **bytes, size_t *n, struct genarm_error *err) {
    runtime_forget_error();
    const size_t size = guard_state_size(e->ctx, seq);
    void *state = size ? malloc(size) : NULL;
    if (size && !state) {
        return error_nomem(err, "a sequence's memory");
    }
    if (size == 0 || guard_state_get(e->ctx, seq, state, size) != size) {
        free(state);
        return engine_llama_failed(err, GENARM_EBACKEND, "libllama cannot copy a sequence's memory");
    }
    *bytes = state;
    *n = size;
    return GENARM_OK;
}

/* Makes libllama hold n_pos positions in place of what it has; none, where it does not take the bytes. */
static void set_state(struct llama_engine *e, int32_t seq, int32_t n_pos, const void *bytes, size_t n) {
    sequence_forget(e, seq);
    if (n > 0 && (guard_state_set(e->ctx, seq, bytes, n) != n || sequence_held(e, seq) != n_pos)) {
        sequence_forget(e, seq);
    }
}

/* libllama copies between sequences only with its next pass, and whole caches: bytes are simpler. */
int sequence_copy_prefix(struct engine *base, int32_t from, int32_t to, int32_t n_pos, struct genarm_error *err) {
    struct llama_engine *e = (struct llama_engine *)base;
    const int32_t held = sequence_held(e, from);
    void *bytes = NULL;
    size_t n = 0;
    const int rc = n_pos > 0 && held > 0 && !e->shift_pending ? get_state(e, from, &bytes, &n, err) : GENARM_OK;
    if (rc != GENARM_OK) {
        return rc;
    }
    memcpy(sequence_tokens(e, to), sequence_tokens(e, from), (size_t)n_pos * sizeof *e->tokens);
    set_state(e, to, held, bytes, n);
    free(bytes);
    sequence_rewind(e, to, n_pos); /* its tokens end there */
    e->seen_through[to] = e->seen_through[from];
    return GENARM_OK;
}

/* Before the tokens and libllama's bytes of what engine_save wrote. */
struct saved {
    char magic[8];
    char fingerprint[20];
    int32_t kv_type; /* enum ggml_type */
    int32_t n_pos; /* >= those asked for: libllama's bytes are of whole sequences */
};

static struct saved saved_header(const struct llama_engine *e, int32_t n_pos) {
    struct saved s = {.magic = "LLAMA 1", .kv_type = (int32_t)engine_kv_type(e->base.params.kv_type), .n_pos = n_pos};
    memcpy(s.fingerprint, e->base.model->fingerprint, sizeof e->base.model->fingerprint);
    return s;
}

int sequence_save(struct engine *base, int32_t seq, int32_t n_pos, struct buf *out, struct genarm_error *err) {
    struct llama_engine *e = (struct llama_engine *)base;
    const int32_t held = sequence_held(e, seq);
    const bool whole = !e->shift_pending && held >= n_pos; /* else the tokens are enough */
    const struct saved header = saved_header(e, whole ? held : n_pos);
    void *bytes = NULL;
    size_t n = 0;
    int rc = whole && held > 0 ? get_state(e, seq, &bytes, &n, err) : GENARM_OK;
    rc = rc == GENARM_OK ? buf_append(out, &header, sizeof header, err) : rc;
    rc = rc == GENARM_OK ? buf_append(out, sequence_tokens(e, seq), (size_t)header.n_pos * sizeof *e->tokens, err) : rc;
    rc = rc == GENARM_OK && n > 0 ? buf_append(out, bytes, n, err) : rc;
    free(bytes);
    return rc;
}

static int check_head(const struct llama_engine *e, const struct saved *s, struct genarm_error *err) {
    const struct saved want = saved_header(e, s->n_pos);
    if (memcmp(s->magic, want.magic, sizeof want.magic) != 0) {
        const int rc = error_set(err, GENARM_EMISMATCH, "the saved KV cache is of another kind of engine");
        return error_hint(err, rc, "use the engine that it was saved with (--engine)");
    }
    if (memcmp(s->fingerprint, want.fingerprint, sizeof want.fingerprint) != 0) {
        return error_set(err, GENARM_EMISMATCH, "the saved KV cache is of another model");
    }
    if (s->kv_type != want.kv_type) {
        const int rc = error_set(err, GENARM_EMISMATCH, "the saved KV cache holds numbers of another type");
        return error_hint(err, rc, "use the types that it was saved with (-ctk, -ctv)");
    }
    return GENARM_OK;
}

static int check_tokens(const struct llama_engine *e, const char *data, size_t n_tokens, struct genarm_error *err) {
    const int32_t n_vocab = e->base.model->hp.n_vocab;
    for (size_t i = 0; i < n_tokens; i++) {
        int32_t token;
        memcpy(&token, data + i * sizeof token, sizeof token);
        if (token < 0 || token >= n_vocab) {
            return error_set(err, GENARM_EFORMAT, "the saved KV cache is of token %d in a vocabulary of %d", token, n_vocab);
        }
    }
    return GENARM_OK;
}

int sequence_load(struct engine *base, int32_t seq, int32_t n_pos, const void *data, size_t n, struct genarm_error *err) {
    struct llama_engine *e = (struct llama_engine *)base;
    struct saved s;
    if (n < sizeof s) {
        return error_set(err, GENARM_EFORMAT, "the saved KV cache is cut short");
    }
    memcpy(&s, data, sizeof s);
    int rc = check_head(e, &s, err);
    if (rc == GENARM_OK && (s.n_pos < n_pos || s.n_pos < 0 || (n - sizeof s) / sizeof *e->tokens < (size_t)s.n_pos)) {
        rc = error_set(err, GENARM_EFORMAT, "the saved KV cache has another size than %d positions have", n_pos);
    }
    const char *tokens = (const char *)data + sizeof s;
    rc = rc == GENARM_OK ? check_tokens(e, tokens, (size_t)s.n_pos, err) : rc;
    if (rc == GENARM_OK) {
        const size_t n_before = sizeof s + (size_t)s.n_pos * sizeof *e->tokens;
        memcpy(sequence_tokens(e, seq), tokens, (size_t)n_pos * sizeof *e->tokens);
        set_state(e, seq, s.n_pos, (const char *)data + n_before, n - n_before);
        sequence_rewind(e, seq, n_pos);
        e->seen_through[seq] = ANY_ADAPTER;
    }
    return rc;
}

/* ---- moved down ---- */

static bool is_yarn(const struct genarm_model *model) {
    char key[128], type[16];
    snprintf(key, sizeof key, "%s.rope.scaling.type", model->architecture);
    return llama_model_meta_val_str(model->llama, key, type, sizeof type) >= 0 && strcmp(type, "yarn") == 0;
}

/* Whether what is cached at one position is right at another. libllama dies of shifting keys of 8 bits where it does not mix the
 * numbers of a head, as it does not for heads of some sizes; under YaRN a shift scales the keys of all sequences once more. */
static bool can_shift(const struct llama_engine *e) {
    return !e->recurrent && llama_memory_can_shift(e->memory) && !ggml_is_quantized(engine_kv_type(e->base.params.kv_type)) &&
           llama_model_rope_type(e->base.model->llama) != LLAMA_ROPE_TYPE_NONE && !is_yarn(e->base.model);
}

int sequence_shift(struct engine *base, int32_t seq, int32_t keep, int32_t n_drop, struct genarm_error *err) {
    struct llama_engine *e = (struct llama_engine *)base;
    const int32_t n_cached = base->n_cached[seq], from = keep + n_drop;
    (void)err;
    if (n_drop == 0) {
        return GENARM_OK;
    }
    sequence_rewind(e, seq, n_cached);
    if (can_shift(e) && sequence_held(e, seq) == n_cached && llama_memory_seq_rm(e->memory, seq, keep, from)) {
        llama_memory_seq_add(e->memory, seq, from, -1, -n_drop);
        e->shift_pending = true;
    } else {
        sequence_rewind(e, seq, keep);
    }
    int32_t *tokens = sequence_tokens(e, seq);
    memmove(tokens + keep, tokens + from, (size_t)(n_cached - from) * sizeof *tokens);
    return GENARM_OK;
}
