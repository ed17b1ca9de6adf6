/* Preference losses as plug-ins on a pair's summed log-probabilities. One table holds them all.
 *
 * A loss sees what the model gave to the two responses and returns its value and its derivative by each sum; the
 * backward pass needs nothing else from it.
 */
#ifndef TRAIN_LOSS_H
#define TRAIN_LOSS_H

#include "genarm/train.h"
#include "train/data.h"

struct loss_input {
    double logp[SIDES];      /* sum over the response's tokens, nats; [REJECTED] is 0 when the loss does not use it */
    int32_t n_tokens[SIDES]; /* tokens of each response, the last one included */
};

struct loss_value {
    double loss;
    double d_logp[SIDES]; /* derivative by logp[side] */
    double margin; /* beta (r_w - r_l); positive: the pair is ranked right. Without meaning where the rejected response
                             was not computed */
};

struct loss_params {
    double beta, margin, label_smoothing;
    bool length_normalize; /* rewards are means over tokens, not sums */
};

struct loss {
    bool uses_rejected; /* otherwise only the chosen response is computed */
    bool always_normalizes;
    bool smooths; /* label_smoothing has a meaning */
    struct loss_value (*value)(const struct loss_input *in, const struct loss_params *p);
};

/* NULL for a value outside the enum. */
const struct loss *loss_get(enum genarm_loss id);
const char *loss_name(enum genarm_loss id);

/* What the trainer's parameters mean to their loss. */
struct loss_params loss_params_from(const struct genarm_train_params *p);

#endif
