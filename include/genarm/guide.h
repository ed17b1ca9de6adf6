/* Guided decoding: a base policy steered by weighted autoregressive reward models (ARMs).
 *
 *     log pi(y_t | .) = log pi_base(y_t | .) + sum_i alpha_i log pi_ARM,i(y_t | .) - log Z          (GenARM, eq. 7, 9)
 *
 * over the tokens that all parts know, from normalised log-probabilities; then temperature, top-k, top-p, min-p. Weights may be
 * negative: an expert and an anti-expert of opposite weights are proxy tuning. genarm/steer.h has more ways to steer.
 * One forward pass of the base and of each ARM per token; ARMs that are adapters on the base run as further rows of
 * the base's own batch.
 *
 * A guide is what is loaded: policies, weights by default, engines with room for `n_slots` conversations. A session is one
 * mutable conversation in one slot. A guide and its sessions belong to one thread at a time.
 *
 *     genarm_guide_new(&guide, base, NULL, &err);
 *     genarm_guide_add_arm(guide, &(struct genarm_arm_params){.name = "kind", .model = base, .adapter = a, .weight = 1}, &err);
 *     genarm_session_new(&s, guide, NULL, &err);
 *     genarm_session_prompt(s, messages, 1, &err);
 *     while (genarm_session_step(s, &token, &err) == GENARM_OK && !genarm_token_ends(base, token)) { ... }
 */
#ifndef GENARM_GUIDE_H
#define GENARM_GUIDE_H

#include "genarm/model.h"

#ifdef __cplusplus
extern "C" {
#endif

struct genarm_guide;
struct genarm_session;

struct genarm_guide_params {
    int32_t n_slots;   /* sessions at once; default 1 */
    int32_t n_ctx;     /* tokens of one session, prompt and answer; 0 (default): the smallest training context of all parts,
                          4096 at most */
    int32_t n_batch;   /* rows of one forward pass; default 512 */
    int32_t n_threads; /* 0 (default): number of cores */
    bool no_sharing;   /* every prompt is evaluated whole. Without it (default) what a prompt has in common with one evaluated
                          before is not computed again, which with quantised weights may round otherwise */
    enum genarm_kv_type kv_type;
    const struct genarm_adapter *base_adapter; /* LoRA on the base, which is then the policy that is steered: one trained by DPO
                                            or RL; NULL (default): the model alone */
    const char *template_name; /* of the base; see genarm_template_apply; NULL: the one that base_adapter records if it
                                  does, else the model's own */
};
struct genarm_guide_params genarm_guide_default_params(void);

struct genarm_arm_params {
    const char *name;                  /* unique, not empty; copied */
    const struct genarm_model *model;  /* the base itself, or another model with the same vocabulary */
    const struct genarm_adapter *adapter; /* on `model`, or NULL: the model is the ARM */
    float weight;                      /* alpha = 1 / beta, finite; below 0 it steers away: an anti-expert */
    bool minus_reference;              /* counts as log pi_ARM - log pi_reference, the reference being `model` without the
                                          adapter under the same template: what training changed, without the language prior
                                          of the model. Free where the base is that, else one more policy is run, unseen.
                                          GENARM_EINVAL without an adapter */
    const char *template_name;         /* NULL: the one the adapter records if it does, else the base's */
};

/* Models and adapters must outlive the guide. `params` may be NULL. GENARM_EINVAL: base_adapter is another model's, or a reward
 * model of whole responses. */
int genarm_guide_new(struct genarm_guide **out, const struct genarm_model *base, const struct genarm_guide_params *params,
                     struct genarm_error *err);
/* Before the first session. GENARM_EMISMATCH names the first token on which the vocabularies differ. */
int genarm_guide_add_arm(struct genarm_guide *guide, const struct genarm_arm_params *arm, struct genarm_error *err);
void genarm_guide_free(struct genarm_guide *guide); /* after its sessions; NULL is fine */

/* What was computed so far, in tokens seen by one policy each. */
struct genarm_guide_stats {
    int64_t n_evaluated; /* that went through a model */
    int64_t n_reused;    /* of prompts, that were known from an earlier one with the same beginning */
};
void genarm_guide_get_stats(const struct genarm_guide *guide, struct genarm_guide_stats *stats);

int32_t genarm_guide_n_arms(const struct genarm_guide *guide);
const char *genarm_guide_arm_name(const struct genarm_guide *guide, int32_t i);
int32_t genarm_guide_find_arm(const struct genarm_guide *guide, const char *name); /* -1: no such ARM */
/* Default weight for sessions made later. */
int genarm_guide_set_weight(struct genarm_guide *guide, int32_t i, float weight, struct genarm_error *err);

/* An adapter that was trained on several objectives is one ARM with a preference among them (PARM, Lin et al., ICML 2025):
 * n weights, finite and >= 0 and not all 0, in the order of genarm_adapter_info.objectives. They are divided by their sum;
 * at first all are equal. How much the ARM as a whole steers is its weight. This is the default for sessions made later.
 * GENARM_EINVAL also when ARM i has no objectives. */
int genarm_guide_set_preference(struct genarm_guide *guide, int32_t i, const float *weights, size_t n,
                                struct genarm_error *err);
/* The weights in use, [n_objectives], their sum 1; NULL: ARM i has no objectives. Valid as long as the guide. */
const float *genarm_guide_preference(const struct genarm_guide *guide, int32_t i);

struct genarm_sampling {
    float temperature; /* default 1; 0: greedy */
    int32_t top_k;     /* default 0: off */
    float top_p;       /* default 1: off */
    float min_p;       /* default 0: off */
    uint64_t seed;     /* the same seed, guide and prompt give the same answer */
};
struct genarm_sampling genarm_sampling_default(void);

/* Takes a free slot. `sampling` may be NULL. GENARM_EINVAL when all slots are taken. */
int genarm_session_new(struct genarm_session **out, struct genarm_guide *guide, const struct genarm_sampling *sampling,
                       struct genarm_error *err);
void genarm_session_free(struct genarm_session *s); /* NULL is fine */

/* Weight of ARM i from the next token on: finite, also below 0. */
int genarm_session_set_weight(struct genarm_session *s, int32_t i, float weight, struct genarm_error *err);
float genarm_session_weight(const struct genarm_session *s, int32_t i);

/* How tokens are drawn from the next one on; the random stream begins anew with the seed. On failure nothing changes. */
int genarm_session_set_sampling(struct genarm_session *s, const struct genarm_sampling *sampling, struct genarm_error *err);
struct genarm_sampling genarm_session_sampling(const struct genarm_session *s);

/* Preference of ARM i from the next token on, as genarm_guide_set_preference. Another one than before costs the ARM one pass
 * over its prompt and the answer so far, so that what follows is as if the preference had never been another. */
int genarm_session_set_preference(struct genarm_session *s, int32_t i, const float *weights, size_t n,
                                  struct genarm_error *err);
/* The same as genarm_guide_preference, of a session. */
const float *genarm_session_preference(const struct genarm_session *s, int32_t i);

/* Sets the conversation: each policy's own template is applied to the messages. The next step evaluates it, in one batch
 * with whatever else is stepped, from where it departs from what the cache holds. GENARM_ECONTEXT when it leaves no room
 * for one token; the session is then as before. */
int genarm_session_prompt(struct genarm_session *s, const struct genarm_message *messages, size_t n_messages,
                          struct genarm_error *err);

/* The same with n given tokens for every policy, without a template. GENARM_EINVAL: there are none, or one is outside the
 * vocabulary of some policy. */
int genarm_session_prompt_tokens(struct genarm_session *s, const int32_t *tokens, size_t n, struct genarm_error *err);

/* Evaluates part of what the next step would have to evaluate before its last token: so a long prompt does not hold up other
 * sessions, and can be given up between two calls.
 *
 *     int32_t left = 1;
 *     while (left > 0 && !stopped && (rc = genarm_session_prefill(s, 512, &left, &err)) == GENARM_OK) { step the others }
 *
 * First takes over what another slot holds of it, then evaluates up to max_rows >= 0 rows, tokens seen by one policy each, of
 * the policies that take part in the next step: a weight of 0 leaves an ARM out, and a raised one has to be caught up with, which
 * is the same. *left: rows still missing, which is all that max_rows 0 asks for; 0: the next step feeds each policy one token,
 * and drafts. Tokens come out as if steps had evaluated all of it, but that rows in other batches may round otherwise.
 * GENARM_EINVAL also without a prompt, GENARM_ECONTEXT when the context is full. On failure the session is as before. */
int genarm_session_prefill(struct genarm_session *s, int32_t max_rows, int32_t *left, struct genarm_error *err);

/* Tokens of the base's prompt that were not evaluated for it, because the session or another one had evaluated them before:
 * known when the first step is done, at most all but the last token. */
int32_t genarm_session_n_reused(const struct genarm_session *s);

/* Exact speculation (Leviathan et al.; Chen et al., 2023): a cheap draft proposes tokens, one pass of the whole mixture
 * verifies them, and each is kept with probability min(1, pi / q) or replaced from what pi has more of than q. What is
 * sampled has the distribution of plain guided sampling, whatever the draft is.
 *
 * A draft is a second mixture of the guide's policies, with weights of its own: the ARM of a large base, or a small model and
 * its ARM. A model that only drafts is an ARM of weight 0. Or it is what followed when the text last read as it does now. */
struct genarm_draft_params {
    const float *weights; /* [1 + n_arms] of the base and the ARMs in the draft, finite and >= 0, not all 0; copied. NULL
                             (default): no policy drafts, tokens are looked up in prompt and answer */
    int32_t n_max;        /* tokens drafted for one pass at most, 1 to 64; default 16 */
    int32_t n_min;        /* and at least, where the context leaves room and there is something to draft; default 0. Between
                             both, the length is what measured times and acceptance make fastest; 0 means not to draft. With
                             n_min = n_max a seed gives the same answer again, else only the same distribution */
    int32_t n_lookup;     /* tokens that must have occurred before to be looked up, >= 1; default 3 */
};
struct genarm_draft_params genarm_draft_default_params(void);

/* How the session's tokens are drafted from now on; NULL: not at all. What a pass has left to hand out is drawn anew, so this
 * is for use before the first step. */
int genarm_session_set_draft(struct genarm_session *s, const struct genarm_draft_params *params, struct genarm_error *err);

struct genarm_draft_stats {
    int64_t n_passes;   /* of the mixture: each gives one token, and those of the draft that it accepts */
    int64_t n_drafted;
    int64_t n_tested;   /* drafted tokens up to the first of a draft that was not accepted, with that one */
    int64_t n_accepted;
    double break_even;  /* n_accepted / n_tested from which drafting pays at the times measured so far; 1: it does not; NaN: not
                           known, as with n_min > 0, where nothing tells what a pass without a draft costs */
};
/* Since the session was made. All are 0 where nothing was drafted. */
void genarm_session_get_draft_stats(const struct genarm_session *s, struct genarm_draft_stats *out);

/* Samples the next token, appends it to the session and stores it. GENARM_ECONTEXT when the context is full: see
 * genarm_session_shift.
 *
 * With a draft, the tokens that a pass accepts are handed out one by one by the steps that follow; until then they are no part
 * of the session, and a changed weight, preference or prompt, a shift and saving drop them. */
int genarm_session_step(struct genarm_session *s, int32_t *token, struct genarm_error *err);

/* The same for several sessions of one guide in one batch, each at most once: tokens[i] belongs to sessions[i]. A session that
 * fails by itself (no prompt, full context, a grammar that allows nothing, logits that are not finite) has its error in errors[i]
 * and is as before, and the others go on; errors[i].code is 0 with a token. What the function returns concerns all: no memory, a
 * backend that fails, sessions of different guides; then errors and tokens are not written, and no session has a new token. */
int genarm_sessions_step_each(struct genarm_session **sessions, size_t n, int32_t *tokens, struct genarm_error *errors,
                              struct genarm_error *err);

/* The same where all go on or none: the error of the first session that fails is returned. The others have then been given a
 * token, which is in tokens[i]. */
int genarm_sessions_step(struct genarm_session **sessions, size_t n, int32_t *tokens, struct genarm_error *err);

int32_t genarm_session_n_prompt(const struct genarm_session *s); /* base tokens of the prompt that are held */
int32_t genarm_session_n_tokens(const struct genarm_session *s); /* answer tokens so far, also those forgotten */
int32_t genarm_session_n_left(const struct genarm_session *s);   /* steps until the context is full */

/* Makes room in a context that is full or nearly so: every policy keeps the first `keep` tokens of its prompt (-1: all of it;
 * always at least one token) and the newest tokens, which fill half of the rest, and forgets what lies between. What is kept
 * moves down, its keys rotated to their new positions, and nothing is evaluated again. So the answer goes on with what the
 * model remembers of its recent past, not as if it had only seen the tokens that are left; a later prompt is evaluated anew
 * from the first token that moved. Positions in the answer, as of schedules and grammars, go on. GENARM_ECONTEXT: what is to be
 * kept leaves no room. */
int genarm_session_shift(struct genarm_session *s, int32_t keep, struct genarm_error *err);

/* Writes a session to a file: tokens, KV caches, weights, preferences and the random stream. A session that loads it goes on
 * as this one does, to the bit (but of a model that libllama runs, where a shift was not yet followed by a step: it evaluates
 * anew what was moved). Not saved is what the caller chose for a request: schedules, gate, biases, grammar, draft.
 * `note`: a text of the caller's that is stored with it, such as the messages; NULL: none. The file is as large as what is
 * cached, and appears at once when it is complete. GENARM_EINVAL when a file that is no saved session is in its place. */
int genarm_session_save(struct genarm_session *s, const char *path, const char *note, struct genarm_error *err);

/* Makes a session the one that was saved, whatever it was before. Its guide must have the same models, adapters, templates and
 * type of KV cache, and room for the tokens; names, slots and default weights may differ. Schedules, gate, biases, grammar and
 * draft stay those of the session: a grammar must allow the answer so far, or the next step fails; one that is set after
 * loading begins with the next token. GENARM_EMISMATCH says what differs, GENARM_EFORMAT that it is no saved session or a
 * damaged one, GENARM_ECONTEXT that it is too long. The session is then as before. */
int genarm_session_load(struct genarm_session *s, const char *path, struct genarm_error *err);

/* *note becomes the malloc'ed text that was saved with a session, NULL if there is none. */
int genarm_session_read_note(char **note, const char *path, struct genarm_error *err);

/* The same without weights, preferences and random stream, which stay as they are: the next prompt reuses what of it was
 * evaluated before. An ARM with another preference than was saved has nothing to reuse. */
int genarm_session_load_cache(struct genarm_session *s, const char *path, struct genarm_error *err);

struct genarm_token_logprob; /* genarm/steer.h */

/* Log-probabilities of one response token under every part, in nats. */
struct genarm_token_score {
    int32_t token;
    float base;        /* log pi_base */
    float guided;      /* log pi, with the session's weights */
    const float *arms;      /* [n_arms] log pi_ARM,i */
    const float *reference; /* [n_arms] the ARM's model without its adapter, under the ARM's template; arms[i] when it has none */
    const struct genarm_token_logprob *top; /* [n_top] the likeliest tokens there, best first */
    size_t n_top; /* as many as the session keeps: genarm_session_keep_logprobs */
};

/* Scores a given response after the session's prompt, without sampling: calls `each` per token, in order; a non-zero
 * return stops with GENARM_ECANCELED. The tokens become part of the session. */
int genarm_session_score(struct genarm_session *s, const int32_t *tokens, size_t n_tokens,
                         int (*each)(const struct genarm_token_score *score, void *user), void *user,
                         struct genarm_error *err);

#ifdef __cplusplus
}
#endif
#endif
