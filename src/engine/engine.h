/* An engine turns a batch of rows into logits, or into hidden states.
 *
 * A row is one token at one position of one sequence, seen by the base model or through one adapter. One forward pass
 * reads the base weights once for all rows, whatever sequences and adapters they belong to: that is how k reward
 * models guide a base at nearly the memory traffic of one, how a prompt is prefilled under all of them, and how
 * several conversations share a step.
 *
 * An engine owns the KV cache of `n_seq` sequences of up to `n_ctx` positions. Which tokens a sequence holds, and
 * through which adapter and preference they were seen, is the caller's business: one of each per sequence.
 *
 * Not thread-safe: one thread at a time uses an engine. Several engines may share a model.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "model/adapter.h"
#include "model/model.h"

enum { ENGINE_NO_ADAPTER = -1 };

struct row {
    int32_t token;
    int32_t seq;     /* [0, n_seq) */
    int32_t pos;     /* [0, n_ctx); cached positions of the sequence from here on are overwritten */
    int32_t adapter; /* index from engine_add_adapter, or ENGINE_NO_ADAPTER */
    bool output;     /* logits, or the hidden state, wanted for this row */
    float share;     /* not 0: the row has no output of its own. So much of its hidden state is added to the output of the row
                        before it: logits are then those of a mixture, by one product with the head (engine_mixes) */
    const float *factors; /* of a conditioned adapter's objectives (struct objective_weights); NULL: the even preference */
};

struct engine_params {
    int32_t n_seq;     /* sequences, >= 1 */
    int32_t n_ctx;     /* positions of each sequence; 0: the model's training context */
    int32_t n_batch;   /* most rows of one forward pass; longer batches are cut; 0: 512 */
    int32_t n_threads; /* 0: number of cores */
    bool plain;        /* nodes of plain ggml only: the reference that faster paths are tested against */
    struct engine_threads *threads; /* outlive the engine and give n_threads; NULL: of its own. Threads spin for a while
                          after work: engines that take turns should share them */
    bool hidden;       /* outputs are hidden states after the last norm, which a scalar head takes, instead of logits */
    enum genarm_kv_type kv_type;
};

struct engine;

/* The threads that compute: ours for passes of a few rows, ggml's for its graphs. */
struct engine_threads {
    int32_t n;
    struct threads *pool;
    struct ggml_threadpool *ggml;
};

/* n_threads > 0, or 0 for the number of cores that the process may use. */
int engine_threads_new(struct engine_threads **out, int32_t n_threads, struct genarm_error *err);
void engine_threads_free(struct engine_threads *t); /* NULL is fine */

enum ggml_type engine_kv_type(enum genarm_kv_type type);

/* What every engine implements. Arguments were checked by the engine_* functions below. */
struct engine_vtable {
    const char *name;
    int (*forward)(struct engine *e, const struct row *rows, int32_t n_rows, float *logits, struct genarm_error *err);
    int (*add_adapter)(struct engine *e, const struct genarm_adapter *adapter, struct genarm_error *err); /* index */
    int (*refresh_adapters)(struct engine *e, struct genarm_error *err);
    int (*copy_prefix)(struct engine *e, int32_t from, int32_t to, int32_t n_pos, struct genarm_error *err);
    int (*copy_range)(struct engine *e, int32_t from, int32_t to, int32_t first, int32_t n_pos,
                      struct genarm_error *err); /* NULL: prefixes are copied */
    int (*shift)(struct engine *e, int32_t seq, int32_t keep, int32_t n_drop, struct genarm_error *err);
    int (*save)(struct engine *e, int32_t seq, int32_t n_pos, struct buf *out, struct genarm_error *err);
    int (*load)(struct engine *e, int32_t seq, int32_t n_pos, const void *data, size_t n, struct genarm_error *err);
    void (*clear)(struct engine *e, int32_t seq); /* NULL: nothing has to be done */
    void (*free)(struct engine *e);
    bool mixes; /* takes rows with a share */
};

struct engine {
    const struct engine_vtable *vtable;
    const struct genarm_model *model;
    struct engine_params params; /* zeros resolved */
    int32_t n_adapters;
    int32_t *n_cached; /* [n_seq] positions that each sequence holds */
    int32_t *n_same;   /* [n_seq] leading ones of which none was written since engine_unchanged was asked */
};

/* For the implementations: fills in *e with zeros resolved, and frees what that took (safe on a zeroed struct). */
int engine_init(struct engine *e, const struct engine_vtable *vtable, const struct genarm_model *model,
                const struct engine_params *params, struct genarm_error *err);
void engine_deinit(struct engine *e);

/* The engine that the model was loaded for. */
int engine_new(struct engine **out, const struct genarm_model *model, const struct engine_params *params,
               struct genarm_error *err);

/* That of our own ggml graph: llama, mistral, qwen2 and qwen3 models. */
int engine_rows_new(struct engine **out, const struct genarm_model *model, const struct engine_params *params,
                    struct genarm_error *err);
/* That of libllama, for a model that it holds whole. No hidden states, no adapters with objectives or under training. */
int engine_llama_new(struct engine **out, const struct genarm_model *model, const struct engine_params *params,
                     struct genarm_error *err);
void engine_free(struct engine *e);

/* Makes an adapter usable in rows; returns its index >= 0 or a negative error code. The adapter must outlive the engine. */
int engine_add_adapter(struct engine *e, const struct genarm_adapter *adapter, struct genarm_error *err);

/* Empties a sequence that may hold what is no number. Rows that look past such positions multiply them by zero, so they must not
 * stay behind what is fed next. */
void engine_clear(struct engine *e, int32_t seq);

/* Takes the adapters' numbers again: one that is under training changed in place. What a sequence holds was seen through the
 * old ones: it is to be fed from position 0 on. */
int engine_refresh_adapters(struct engine *e, struct genarm_error *err);

/* Numbers of one output: logits of the vocabulary, or a hidden state. */
static inline int32_t engine_n_output(const struct engine *e) {
    return e->params.hidden ? e->model->hp.n_embd : e->model->hp.n_vocab;
}

/* Whether the output of one row can have shares of others, of n_rows in all. */
bool engine_mixes(const struct engine *e, int32_t n_rows);

/* Whether an output begins with a row. */
static inline bool row_begins_output(const struct row *r) { return r->output && r->share == 0.0f; }

/* Runs the rows and writes the outputs of those with `output`, in row order, to logits [engine_n_output, n_outputs]. A mixture
 * is one output: its rows follow one another. Rows of one sequence must be in ascending, gapless position order and its earlier
 * positions cached. A row may follow rows of its own sequence in the same batch. On failure the touched sequences are undefined
 * from their first row on. */
int engine_forward(struct engine *e, const struct row *rows, int32_t n_rows, float *logits, struct genarm_error *err);

/* Makes sequence `to` start with the first n_pos cached positions of `from` (same adapter). */
int engine_copy_prefix(struct engine *e, int32_t from, int32_t to, int32_t n_pos, struct genarm_error *err);

/* Makes positions [first, n_pos) of sequence `to`, which holds those before, what they are in `from` (same adapter): of two
 * sequences that are alike up to `first`, the cheap way to keep them alike. `to` then ends at n_pos. */
int engine_copy_range(struct engine *e, int32_t from, int32_t to, int32_t first, int32_t n_pos, struct genarm_error *err);

/* How many leading positions of a sequence hold what they held when this was last called for it: whoever keeps copies of a
 * sequence asks what of them is still good. 0 at first. */
int32_t engine_unchanged(struct engine *e, int32_t seq);

/* Forgets the n_drop cached positions after the first `keep` of a sequence and moves the rest down, as if they had been fed
 * there: exact for what a layer computes from its own input, but the input of deeper layers still saw what is forgotten. */
int engine_shift(struct engine *e, int32_t seq, int32_t keep, int32_t n_drop, struct genarm_error *err);

/* Appends the cache of the first n_pos cached positions as bytes, which only the same engine on the same model reads: in the
 * cache's type, without what tells tokens, adapters and preferences. */
int engine_save(struct engine *e, int32_t seq, int32_t n_pos, struct buf *out, struct genarm_error *err);

/* Makes a sequence hold n_pos positions that engine_save wrote. GENARM_EMISMATCH: they are of another engine, shape or cache
 * type, GENARM_EFORMAT: not the bytes of n_pos positions; the sequence is then as before. */
int engine_load(struct engine *e, int32_t seq, int32_t n_pos, const void *data, size_t n, struct genarm_error *err);

#endif
