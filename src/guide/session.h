/* A session: one conversation under a guide, as one timeline of tokens per policy. */
#ifndef GUIDE_SESSION_H
#define GUIDE_SESSION_H

#include "genarm/value.h"
#include "guide/guide.h"
#include "guide/sample.h"
#include "guide/steer.h"

struct timeline {
    int32_t *tokens; /* [n_ctx]; those from n on are ahead: drafted, or accepted and not yet handed out */
    int32_t n;       /* tokens so far, without those that were forgotten */
    int32_t n_prompt; /* where the answer begins; below that of the tokens at hand, even below 0, once some are forgotten */
    int32_t n_given;  /* leading tokens that are of the prompt; n_prompt until some are forgotten */
    int32_t n_cached; /* leading tokens that the engine holds, some of them perhaps ahead */
    int32_t moved;    /* cached tokens from here on moved down when others were forgotten, and have traces of those; 0: none */
    struct objective_weights preference; /* under which they were seen */
};

struct speculation;

struct genarm_session {
    struct genarm_guide *guide;
    int32_t slot;
    struct sampler sampler;
    float weights[GUIDE_MAX_POLICIES]; /* of ARM policies, as set; those of others are not looked at */
    int32_t references[GUIDE_MAX_POLICIES]; /* as in the policies, or the base where its prompt is the same; -1: none */
    struct steering steering;
    struct objective_weights preferences[GUIDE_MAX_POLICIES]; /* of policies with objectives */
    struct timeline *timelines; /* [n_policies] of the slot */
    int32_t n_reused; /* of the base's prompt, that were known */
    size_t lead;      /* spaces that an answer may begin with, which are the template's: see response_unlead */
    int32_t n_ahead;  /* tokens ahead, in every timeline: during a pass the draft, after it what can be handed out */
    int32_t n_handed; /* tokens of the last pass that were handed out */
    const float **logits; /* [n_policies, room] of a pass: after the last token, and after each drafted one */
    float *mixtures;      /* [n_vocab of the base, room] the same, mixed */
    float *logp;          /* one of them: what the token handed out last was drawn from */
    struct speculation *speculation; /* how tokens are drafted; NULL: they are not */
    struct genarm_work work;     /* since it was made */
    struct genarm_error failure; /* of the step at hand, the session's own; code 0: none */
};

/* Leading tokens of a timeline whose cache is what evaluating them anew would give. */
static inline int32_t timeline_exact(const struct timeline *t) {
    return t->moved > 0 && t->moved < t->n_cached ? t->moved : t->n_cached;
}

/* What is cached from here on is seen under a preference: keys and values of another one are of no use. */
void timeline_prefer(struct timeline *t, const struct objective_weights *p);

/* The coefficient of log pi of a policy in the mixture for answer token `pos`, before the gate: 1 for the base, the weight times
 * the schedule's factor for an ARM, less those of the ARMs whose reference the policy is. */
float session_coefficient(const struct genarm_session *s, int32_t policy, int32_t pos);

/* Whether a policy is needed for any of the next n answer tokens. One that is not is not run, and catches up when it is. */
bool session_counts(const struct genarm_session *s, int32_t policy, int32_t n);

/* Makes `logits` and `mixtures` as large as drafts of n tokens need. On failure as before. */
int session_reserve(struct genarm_session *s, int32_t n, struct genarm_error *err);

/* Forgets the tokens ahead. Whoever changes a timeline or what tokens are drawn from calls this first. */
void session_drop_ahead(struct genarm_session *s);

/* Adds a token to those ahead, in every timeline. */
void session_put_ahead(struct genarm_session *s, int32_t token);

/* The coefficient of an ARM or reference in units of the base's: what the engine mixes with. */
float session_share(const struct genarm_session *s, int32_t policy, int32_t pos);

/* Whether the engine can mix what counts in a pass, the hidden states before the head, instead of giving each policy logits:
 * all of it is on the base's engine, and nobody looks at a policy's own log-probabilities. */
bool session_mixes_early(const struct genarm_session *s);

/* Which policies a batch runs: those of the mixture, after the last token and each one ahead, or those that draft, after the
 * very last. FEED_MIXTURE lets the engine mix where it can, FEED_APART gives each policy logits of its own. */
enum feed_role { FEED_MIXTURE, FEED_APART, FEED_DRAFT };

struct feed {
    enum feed_role role;
    float *logits;    /* where they go; moves on behind them */
    int32_t catch_up; /* most rows that a policy had to be fed before the first whose logits are new */
};

/* In one batch per engine, feeds what the policies have not cached, and points session.logits at the results. The guide has
 * room for the rows. */
int session_feed(struct genarm_session **sessions, size_t n, struct feed *feed, struct genarm_error *err);

/* Whether the reference of some ARM is scored apart, which costs its sequence anew with every call of session_score. */
bool session_scores_apart(const struct genarm_session *s);

/* As genarm_session_score; `references`: theirs are wanted too. */
int session_score(struct genarm_session *s, const int32_t *tokens, size_t n_tokens, bool references,
                  int (*each)(const struct genarm_token_score *score, void *user), void *user, struct genarm_error *err);

/* Tokens that go through a policy for the session. */
void session_count(struct genarm_session *s, int32_t policy, int64_t n);

/* Appends the row of one position of a policy's timeline, and counts it. */
void session_push_row(struct genarm_session *s, int32_t policy, int32_t adapter, int32_t pos, bool output,
                      struct row *rows, size_t *n_rows);

/* Room for the rows and logits of a pass, with those of drafting. */
int session_reserve_pass(struct genarm_session **sessions, size_t n, struct genarm_error *err);

/* A prompt as each policy of a guide sees it. */
struct prompt_tokens {
    int32_t *tokens[GUIDE_MAX_POLICIES]; /* [n of it] malloc'ed */
    int32_t n[GUIDE_MAX_POLICIES];
    int32_t longest; /* of those looked at: on GENARM_ECONTEXT what does not fit, or as much as it is at least */
};

/* Messages under the templates of a guide that has started. It reads only what never changes, so any thread may do it while
 * another steps. Zero-initialise *out; prompt_tokens_deinit in every case. */
int guide_prompt_tokens(const struct genarm_guide *g, const struct genarm_message *messages, size_t n_messages,
                        struct prompt_tokens *out, struct genarm_error *err);
void prompt_tokens_deinit(struct prompt_tokens *p);

/* As genarm_session_prompt, with what guide_prompt_tokens gave. */
int session_prompt_each(struct genarm_session *s, const struct prompt_tokens *p, struct genarm_error *err);

/* Whether there is something to step: a prompt, and room in the context. */
int session_check(const struct genarm_session *s, struct genarm_error *err);

/* The first token that a policy has not cached and does not know: padding of the base's vocabulary, drawn while the policy did
 * not count. -1: there is none. */
int32_t session_unknown_token(const struct genarm_session *s, int32_t policy);

/* Whether every policy of the pass that is planned can be fed. */
int session_check_known(const struct genarm_session *s, struct genarm_error *err);

/* Nothing that the session's sequences hold is used again. */
void session_forget_cache(struct genarm_session *s);

/* The distribution that answer token `pos` (0-based) is drawn from, before temperature: out [n_vocab of the base], from
 * logits [n_policies]; those of policies that do not count may be NULL. Those of policies that the engine has added to the base
 * (session_mixes_early) are. The tokens of the answer before it are those of timelines[0]. An error when that is no
 * distribution: it would be sampled from all the same. Threads may mix for several sessions at once. */
int session_mix(struct genarm_session *s, int32_t pos, const float *const *logits, float *out, struct genarm_error *err);

/* Moves the grammar on over the tokens before answer token `pos`: when one is given, and before some are forgotten. */
int session_settle(struct genarm_session *s, int32_t pos, struct genarm_error *err);

/* The log-probabilities that the session keeps of a token that was drawn from a mixture [n_vocab] of logits [n_policies]. */
void session_take_logprobs(const struct genarm_session *s, int32_t token, const float *const *logits, const float *mixture,
                           struct logprobs *out);

/* The error of a policy whose logits are not finite. */
int session_not_finite(const struct genarm_session *s, int32_t policy, struct genarm_error *err);

#endif
