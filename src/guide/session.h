/* A session: one conversation under a guide, as one timeline of tokens per policy. */
#ifndef GUIDE_SESSION_H
#define GUIDE_SESSION_H

#include "guide/guide.h"
#include "guide/sample.h"

struct timeline {
    int32_t *tokens; /* [n_ctx] */
    int32_t n;       /* tokens so far */
    int32_t n_prompt;
    int32_t n_cached; /* leading tokens that the engine holds */
};

struct genarm_session {
    struct genarm_guide *guide;
    int32_t slot;
    struct sampler sampler;
    float weights[GUIDE_MAX_POLICIES]; /* [0] is 1 */
    struct objective_weights preferences[GUIDE_MAX_POLICIES]; /* of policies with objectives */
    struct timeline timelines[GUIDE_MAX_POLICIES];
    float *logp; /* [n_vocab of the base] the mixture of the last step */
};

/* A policy of weight 0 is not run; it catches up when its weight changes. */
static inline bool session_counts(const struct genarm_session *s, int32_t policy) { return s->weights[policy] != 0.0f; }

/* Appends the row of one position of a policy's timeline. */
void session_push_row(const struct genarm_session *s, int32_t policy, int32_t adapter, int32_t pos, bool output,
                      struct row *rows, size_t *n_rows);

/* Takes over from another session of the guide what its engines hold of the same leading prompt tokens, so that a prompt that
 * is answered several times is evaluated once. Before the first step of `to`. */
int session_share_prompt(struct genarm_session *to, const struct genarm_session *from, struct genarm_error *err);

/* The distribution that answer token `pos` (0-based) is drawn from, before temperature: out [n_vocab of the base], from
 * logits [n_policies]; those of policies that do not count may be NULL. The tokens of the answer before it are those of
 * timelines[0]. An error when that is no distribution: it would be sampled from all the same. */
int session_mix(struct genarm_session *s, int32_t pos, const float *const *logits, float *out, struct genarm_error *err);

/* The error of a policy whose logits are not finite. */
int session_not_finite(const struct genarm_session *s, int32_t policy, struct genarm_error *err);

#endif
