/* The responses of a step as training sees them: two responses to a prompt are a pair, pairs are packed into micro-batches, and
 * the objective looks at the log-probabilities of their tokens.
 *
 * Log-probabilities of a step are arrays over all scored rows, micro-batch by micro-batch: response after response, each
 * contiguous.
 */
#ifndef RL_BATCH_H
#define RL_BATCH_H

#include "rl/objective.h"
#include "rl/rollout.h"
#include "train/backprop.h"

struct batch {
    struct data data;    /* pairs; `line` is the number of a pair's first response */
    uint32_t *order;     /* [data.n_pairs] 0, 1, … */
    struct pack *packs;  /* [n_packs] */
    size_t n_packs;
    size_t n_responses, n_scored;
    size_t *first;       /* [n_responses] first token of a response in the arrays below */
    float *logp;         /* [n_scored] under the policy when the step began */
    float *reference;    /* [n_scored] under the reference */
    struct objective_response *responses; /* [n_responses]; logp is set when it is known */
};

/* responses[n]: groups one after the other, n even, those of a pair to the same prompt. micro_batch, max_rows: as
 * pack_count. On failure *b is empty. */
int batch_init(struct batch *b, const struct response *responses, size_t n, int32_t micro_batch, int32_t max_rows,
               struct genarm_error *err);
void batch_deinit(struct batch *b); /* safe on a zeroed struct */

enum batch_pass { BATCH_POLICY, BATCH_REFERENCE };

/* Fills b->logp or b->reference by forward passes. `each` (may be NULL) is called after every micro-batch; not 0 stops with
 * that code. GENARM_EDIVERGED where one is no number: *culprit is the response. */
int batch_forward(struct batch *b, struct backprop *backprop, enum batch_pass pass, size_t *culprit, int (*each)(void *user),
                  void *user, struct genarm_error *err);

/* What a backward pass is to compute. */
struct batch_job {
    const struct objective *objective;
    bool first;          /* of the updates of a step: the policy is the one that sampled, and the ratio is 1 */
    bool fill;           /* b->logp is not known yet and filled */
    uint64_t seed, step; /* of dropout, of the first micro-batch */
};

struct batch_result {
    double loss;
    int64_t clipped; /* responses or tokens */
};

/* Adds the gradient of the objective over all responses, whose advantages and weights are set, to the adapter's. */
int batch_backward(struct batch *b, struct backprop *backprop, const struct batch_job *job, struct batch_result *result,
                   size_t *culprit, int (*each)(void *user), void *user, struct genarm_error *err);

/* sum over the tokens of log pi - log pi_ref of a response. */
double batch_log_ratio(const struct batch *b, size_t response);

#endif
