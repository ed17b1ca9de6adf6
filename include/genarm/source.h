/* Reward sources: where a prompt and a whole response get a number, whatever gives it.
 *
 * A source is named by a text, SPEC:
 *
 *     [rm:][NAME=]PATH[+ADAPTER][:WEIGHT]   a trajectory-level reward model (genarm/reward.h): PATH is an adapter of the base
 *                                           with a scalar head, or a model that +ADAPTER adapts
 *     arm:[NAME=]PATH[+ADAPTER][:WEIGHT]    an ARM: sum over the response's tokens of log pi_r
 *     ratio:…                               the same minus its reference: sum of log pi_r - log pi_ref, the reference being
 *                                           the ARM's model without its adapter
 *     arm-mean:…, ratio-mean:…              the mean over the tokens instead of the sum
 *     rank:[NAME=]PATH[#LABEL][:WEIGHT]     a classifier or reranker, a GGUF that libllama runs with pooling RANK: its
 *                                           output for LABEL, or the only one: a logit, of qwen3 a probability
 *     cmd:[NAME=]COMMAND[:WEIGHT]           a program, run by /bin/sh -c, that answers JSON lines (docs/reward.md)
 *     openai:[NAME=]MODEL@BASE_URL[:WEIGHT] a model behind an OpenAI-compatible server, asked for a rating (docs/judge.md); the
 *                                           only kind that may abstain: the reward is NaN then
 *
 * WEIGHT is any finite number, also a negative one, and 1 when it is not given. A source reports it; rewards are not
 * multiplied by it. Rewards have no unit: only differences between responses to one prompt mean something.
 *
 *     genarm_source_new(&source, "cmd:cheer=python3 cheer.py:0.5", NULL, NULL, &err);
 *     genarm_source_score(source, &(struct genarm_sample){messages, 1, "Hi!", true, NULL, 0}, 1, &reward, &err);
 *
 * One thread at a time uses a source; several sources may share the base.
 */
#ifndef GENARM_SOURCE_H
#define GENARM_SOURCE_H

#include "genarm/model.h"

#ifdef __cplusplus
extern "C" {
#endif

struct genarm_source;

/* How models behind servers are asked. */
struct genarm_judge_params {
    const char *prompt;  /* file of what they are told (docs/judge.md); NULL (default): what the library has in itself */
    const char *cache;   /* folder that keeps replies; NULL (default): none */
    const char *key_env; /* environment variable that has the key, which must be set; NULL (default): OPENAI_API_KEY, if set */
    int32_t n_parallel;  /* requests in flight; default 4 */
    int32_t n_retries;   /* of one request, on 429, 5xx and lost connections; default 6 */
    int32_t max_tokens;  /* of a reply; default 512 */
    const char *body;    /* JSON object: members that the body of every request gets, null takes one out; NULL (default): none */
    bool answered;       /* the server has answered such requests before (default: false), so that refusals, however many, are of
                            what is asked rather than of these settings */
};

struct genarm_source_params {
    int32_t n_ctx;     /* tokens of prompt and response; 0 (default): what the model was trained for, at most 4096 */
    int32_t n_batch;   /* most tokens of one forward pass; default 512 */
    int32_t n_threads; /* 0 (default): number of cores */
    const char *template_name; /* of prompts, where the adapter does not record what it was trained under; see
                                  genarm_template_apply; NULL (default): the model's own */
    struct genarm_model_params model; /* how models that the spec names are loaded */
    double timeout;                   /* seconds that a program has for an answer, or a server for a reply; default 60; a
                                         program's first answer includes its start */
    struct genarm_judge_params judge;
    int (*stop)(void *user); /* asked between samples and, several times a second, while a program or a server is waited for:
                                not 0 stops with GENARM_ECANCELED; NULL (default): never */
    void *stop_user;
};
struct genarm_source_params genarm_source_default_params(void);

/* Opens what `spec` names; a program is started. `params` may be NULL; its strings are copied. `base` is what adapters are
 * put on and must outlive the source; NULL where none is. *out is owned by the caller: genarm_source_free.
 * Errors: GENARM_EINVAL for a spec that cannot be read or an adapter of the wrong kind, and those of loading. */
int genarm_source_new(struct genarm_source **out, const char *spec, const struct genarm_model *base,
                      const struct genarm_source_params *params, struct genarm_error *err);
/* A program sees the end of its input, and is killed with all that it started if it does not exit. NULL is fine. */
void genarm_source_free(struct genarm_source *s);

/* Whether its rewards may be NaN. */
bool genarm_source_may_abstain(const struct genarm_source *s);

/* What asking servers came to since the source was made; zeros for other kinds. */
struct genarm_judge_stats {
    int64_t n_requests, n_retries;            /* attempts sent; those after the first */
    int64_t n_cached, n_refused;              /* replies from the cache; requests refused */
    int64_t n_answered;                       /* replies that were sent for */
    int64_t n_abstained;                      /* replies without a rating, refusals among them */
    int64_t n_cut;                            /* replies that ended at max_tokens, those of the cache among them */
    int64_t prompt_tokens, completion_tokens; /* of what was sent */
};
void genarm_source_get_judge_stats(const struct genarm_source *s, struct genarm_judge_stats *out);

const char *genarm_source_name(const struct genarm_source *s);   /* given, or made of the path or the command; UTF-8 */
const char *genarm_source_kind(const struct genarm_source *s);   /* "rm", "arm", "ratio-mean", "cmd", … */
float genarm_source_weight(const struct genarm_source *s);       /* finite */
/* Tokens that went through a model since the source was opened, one count per policy that saw one; 0 of a program. */
int64_t genarm_source_n_evaluated(const struct genarm_source *s);

/* A response to a conversation. */
struct genarm_sample {
    const struct genarm_message *messages; /* [n_messages], n_messages >= 1: the prompt */
    size_t n_messages;
    const char *response;
    bool finished; /* its end-of-turn token follows; false: it was cut */
    /* What the response was drawn as, an end-of-turn token included; NULL: not known. A policy (arm:, ratio:, …) scores these
     * where the response is what they spell in its vocabulary; else, and for all other kinds, the response counts. */
    const int32_t *tokens; /* [n_tokens] */
    size_t n_tokens;
};

/* rewards[n]: finite numbers, written only on success; NaN where the source abstains, which only a judge (openai:) does, when
 * its reply has no rating in the form that its prompt asks for, or its server refuses the request. Who cannot do without a
 * number has to say so: nothing is guessed. Samples of one prompt that stand side by side are computed from where
 * they differ. Errors name the source and the sample, counted from 0: GENARM_ECONTEXT when a sample is too long,
 * GENARM_EDIVERGED when a reward is not finite, GENARM_ECANCELED, GENARM_EIO when a program ended, said nothing in time or
 * did not take its input, or a server gave no reply, GENARM_EFORMAT when what it said is no reward, GENARM_EMISMATCH when it said
 * more than it was asked, so that rewards it gave before may be those of other samples. After an error of a program the next
 * call starts it anew. */
int genarm_source_score(struct genarm_source *s, const struct genarm_sample *samples, size_t n, double *rewards,
                        struct genarm_error *err);

/* When all is scored, before anything is made of it: GENARM_EMISMATCH when a program, which sees the end of its input and is
 * listened to for up to a second, says more than it was asked. The next call of genarm_source_score starts it anew. */
int genarm_source_finish(struct genarm_source *s, struct genarm_error *err);

#ifdef __cplusplus
}
#endif
#endif
