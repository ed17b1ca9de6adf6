/* Private to the engine of libllama: what it consists of, and what its two files share. */
#ifndef ENGINE_LLAMA_ENGINE_H
#define ENGINE_LLAMA_ENGINE_H

#include <llama.h>

#include "engine/engine.h"

enum { ANY_ADAPTER = -2 }; /* of a sequence that was loaded: its first row says which */

struct llama_engine {
    struct engine base;
    struct engine_threads *own_threads; /* or NULL: the caller's */
    struct llama_context *ctx;
    llama_memory_t memory; /* of ctx */

    struct llama_adapter_lora **loras; /* [n_adapters], of the model, which would free them, but late */
    int32_t active;                    /* adapter that ctx applies */

    int32_t *tokens;       /* [n_ctx, n_seq] what each sequence holds */
    int32_t *seen_through; /* [n_seq] adapter, or ANY_ADAPTER */
    bool recurrent;        /* its state cannot be rewound, and knows when */
    bool shift_pending;    /* libllama moves positions with its next pass */

    struct llama_batch batch; /* [batch_max] rows of the pass at hand */
    float **to;               /* [batch_max] where their logits go, NULL: nowhere */
    int32_t n_outputs;        /* of the batch */
    int32_t max_outputs;
};

/* `what` with libllama's own words. */
int engine_llama_failed(struct genarm_error *err, int code, const char *what);

/* [n_ctx] what a sequence holds, as far as n_cached says. */
static inline int32_t *sequence_tokens(const struct llama_engine *e, int32_t seq) {
    return e->tokens + (size_t)seq * (size_t)e->base.params.n_ctx;
}

/* How many of these tokens libllama has. What it lacks is fed to it before the sequence's next row. */
static inline int32_t sequence_held(const struct llama_engine *e, int32_t seq) {
    return llama_memory_seq_pos_max(e->memory, seq) + 1;
}

/* Makes libllama forget all positions from n_pos on, and those before where it cannot do without. */
void sequence_rewind(struct llama_engine *e, int32_t seq, int32_t n_pos);
void sequence_forget(struct llama_engine *e, int32_t seq); /* all */

/* Entries of the vtable. */
void sequence_clear(struct engine *base, int32_t seq);
int sequence_copy_prefix(struct engine *base, int32_t from, int32_t to, int32_t n_pos, struct genarm_error *err);
int sequence_shift(struct engine *base, int32_t seq, int32_t keep, int32_t n_drop, struct genarm_error *err);
int sequence_save(struct engine *base, int32_t seq, int32_t n_pos, struct buf *out, struct genarm_error *err);
int sequence_load(struct engine *base, int32_t seq, int32_t n_pos, const void *data, size_t n, struct genarm_error *err);

#endif
