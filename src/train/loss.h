/* Preference losses as plug-ins on what the model gave to a pair's two responses. One table holds them all.
 *
 * A loss sees two numbers, the responses' summed log-probabilities or the rewards of a scalar head, and returns its value
 * and its derivative by each; the backward pass needs nothing else from it.
 */
#ifndef TRAIN_LOSS_H
#define TRAIN_LOSS_H

#include "genarm/train.h"
#include "train/data.h"

struct loss_input {
    double logp[SIDES];      /* sum over the response's tokens, nats; [REJECTED] is 0 when the loss does not use it. For a
                                loss with a head its reward of the whole response */
    double reference[SIDES]; /* the same sums under the reference; 0 when the loss has none */
    int32_t n_tokens[SIDES]; /* tokens of each response, the last one included; rejected 0: there is none */
};

struct loss_value {
    double loss;
    double d_logp[SIDES]; /* derivative by logp[side] */
    double rewards[SIDES]; /* beta r_w, beta r_l; the first is larger: the pair is ranked right. Of a response that was not
                              computed it has no meaning */
};

struct loss_params {
    double beta, margin, label_smoothing;
    bool length_normalize; /* rewards are means over tokens, not sums */
};

struct loss {
    bool uses_rejected;  /* otherwise only the chosen response is computed */
    bool uses_reference; /* of each response the reference's log-probability is wanted too */
    bool uses_head;      /* logp is the reward that a scalar head gives to the response's last token */
    bool always_normalizes;
    bool smooths;        /* label_smoothing has a meaning */
    bool has_margin;     /* margin has one */
    bool has_beta;       /* beta can be chosen; else it is 1 */
    float default_beta;
    float default_ratio; /* of margin to beta */
    struct loss_value (*value)(const struct loss_input *in, const struct loss_params *p);
};

/* NULL for a value outside the enum. */
const struct loss *loss_get(enum genarm_loss id);
const char *loss_name(enum genarm_loss id);

/* What the trainer's parameters mean to their loss. */
struct loss_params loss_params_from(const struct genarm_train_params *p);

#endif
