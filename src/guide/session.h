/* A session: one conversation under a guide, as one timeline of tokens per policy. */
#ifndef GUIDE_SESSION_H
#define GUIDE_SESSION_H

#include "guide/guide.h"
#include "guide/sample.h"

struct timeline {
    int32_t *tokens; /* [n_ctx]; those from n on are ahead: drafted, or accepted and not yet handed out */
    int32_t n;       /* tokens so far */
    int32_t n_prompt;
    int32_t n_cached; /* leading tokens that the engine holds, some of them perhaps ahead */
};

struct speculation;

struct genarm_session {
    struct genarm_guide *guide;
    int32_t slot;
    struct sampler sampler;
    float weights[GUIDE_MAX_POLICIES]; /* [0] is 1 */
    struct objective_weights preferences[GUIDE_MAX_POLICIES]; /* of policies with objectives */
    struct timeline timelines[GUIDE_MAX_POLICIES];
    int32_t n_ahead;  /* tokens ahead, in every timeline: during a pass the draft, after it what can be handed out */
    int32_t n_handed; /* tokens of the last pass that were handed out */
    const float **logits; /* [n_policies, room] of a pass: after the last token, and after each drafted one */
    float *mixtures;      /* [n_vocab of the base, room] the same, mixed */
    float *logp;          /* one of them: what the token handed out last was drawn from */
    struct speculation *speculation; /* how tokens are drafted; NULL: they are not */
};

/* A policy of weight 0 is not run; it catches up when its weight changes. */
static inline bool session_counts(const struct genarm_session *s, int32_t policy) { return s->weights[policy] != 0.0f; }

/* Makes `logits` and `mixtures` large enough for drafts of n tokens. */
int session_reserve(struct genarm_session *s, int32_t n, struct genarm_error *err);

/* Forgets the tokens ahead. Whoever changes a timeline or what tokens are drawn from calls this first. */
void session_drop_ahead(struct genarm_session *s);

/* Adds a token to those ahead, in every timeline. */
void session_put_ahead(struct genarm_session *s, int32_t token);

/* Which policies a batch runs: those of the mixture, after the last token and each one ahead, or those that draft, after the
 * very last. */
enum feed_role { FEED_MIXTURE, FEED_DRAFT };

struct feed {
    enum feed_role role;
    float *logits;    /* where they go; moves on behind them */
    int32_t catch_up; /* most rows that a policy had to be fed before the first whose logits are new */
};

/* In one batch per engine, feeds what the policies have not cached, and points session.logits at the results. The guide has
 * room for the rows. */
int session_feed(struct genarm_session **sessions, size_t n, struct feed *feed, struct genarm_error *err);

/* Appends the row of one position of a policy's timeline. */
void session_push_row(const struct genarm_session *s, int32_t policy, int32_t adapter, int32_t pos, bool output,
                      struct row *rows, size_t *n_rows);

/* Takes over from another session of the guide what its engines hold of the same leading prompt tokens, so that a prompt that
 * is answered several times is evaluated once. Before the first step of `to`. */
int session_share_prompt(struct genarm_session *to, const struct genarm_session *from, struct genarm_error *err);

/* The guided mixture, out [n_vocab of the base], from logits [n_policies]; those of policies that do not count may be NULL.
 * An error when that is no distribution: it would be sampled from all the same. */
int session_mix(const struct genarm_session *s, const float *const *logits, float *out, struct genarm_error *err);

/* The error of a policy whose logits are not finite. */
int session_not_finite(const struct genarm_session *s, int32_t policy, struct genarm_error *err);

#endif
