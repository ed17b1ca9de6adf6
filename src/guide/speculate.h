/* Exact speculation: drafting tokens for a pass, and accepting them against its mixtures (Leviathan et al., "Fast inference
 * from transformers via speculative decoding"; Chen et al., "Accelerating large language model decoding with speculative
 * sampling", 2023).
 *
 * A pass (session.c) plans lengths, drafts, feeds the mixture's policies all drafted tokens at once, and verifies. The
 * functions take NULL for the speculation of a session that does not draft. */
#ifndef GUIDE_SPECULATE_H
#define GUIDE_SPECULATE_H

#include "guide/session.h"

enum {
    DRAFT_MAX = 64,
    CATCH_UP_MAX = 2, /* rows that a policy may lag behind for a pass to count as one of decoding when it is timed */
};

struct speculation {
    struct genarm_draft_params params;
    float weights[GUIDE_MAX_POLICIES]; /* of the draft's mixture; all 0: look-up */
    bool looks_up;
    float *mixtures; /* [n_vocab, n_max] what each drafted token was drawn from */
    float *p, *q;    /* [n_vocab] scratch */
    int32_t n_wanted; /* tokens to draft in this pass */
    int32_t n_known;  /* positions of it, from the last token on, whose logits the draft's policies have given */
    struct pace pace;
    struct genarm_draft_stats stats;
};

void speculation_free(struct speculation *sp);

static inline bool speculation_drafts(const struct speculation *sp, int32_t policy) {
    return sp && sp->weights[policy] != 0.0f;
}
static inline int32_t speculation_known(const struct speculation *sp, int32_t policy) {
    return speculation_drafts(sp, policy) ? sp->n_known : 0;
}
static inline int32_t speculation_wanted(const struct speculation *sp) { return sp ? sp->n_wanted : 0; }

/* Plans a pass: decides how many tokens each of its sessions drafts, from what earlier passes took and kept. */
void speculation_plan(struct genarm_session **sessions, size_t n);

/* The same for what is evaluated before a pass: a policy that may be run by it is. */
void speculation_expect(struct genarm_session *s);

/* Whether the pass that is planned runs a policy, in the mixture, to draft or to look ahead. */
bool speculation_runs(const struct genarm_session *s, int32_t policy);

/* Puts the drafts ahead of the timelines. *logits is where logits go, and moves on behind them. A session
 * whose draft is no distribution has it in its `failure`. */
int speculation_draft(struct genarm_session **sessions, size_t n, float **logits, struct genarm_error *err);

/* The mixture after the last token, by the logits of the pass. */
int speculation_mix(struct genarm_session *s, struct genarm_error *err);

/* Once that is known: puts in place of the draft of a session what it keeps of it and one token more. */
int speculation_accept(struct genarm_session *s, struct genarm_error *err);

/* Both. */
int speculation_verify(struct genarm_session *s, struct genarm_error *err);

#endif
