#include "train/loss.h"

#include <math.h>

/* -log sigma(z) = log(1 + exp(-z)), without overflow */
static double neg_log_sigmoid(double z) { return z > 0 ? log1p(exp(-z)) : log1p(exp(z)) - z; }

static double sigmoid(double z) { return z > 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z)); }

/* d reward / d logp of one side: 1, or 1 / length */
static double slope(const struct loss_input *in, const struct loss_params *p, enum side side) {
    return p->length_normalize ? 1.0 / in->n_tokens[side] : 1.0;
}

/* What the loss compares: log pi, or, with a reference, log pi - log pi_ref; sum or mean over tokens */
static double reward(const struct loss_input *in, const struct loss_params *p, enum side side) {
    return (in->logp[side] - in->reference[side]) * slope(in, p, side);
}

/* beta (r_w - r_l) */
static double scaled_difference(const struct loss_input *in, const struct loss_params *p) {
    return p->beta * (reward(in, p, CHOSEN) - reward(in, p, REJECTED));
}

static struct loss_value new_value(const struct loss_input *in, const struct loss_params *p, double loss) {
    return (struct loss_value){
        .loss = loss,
        .rewards = {[CHOSEN] = p->beta * reward(in, p, CHOSEN), [REJECTED] = p->beta * reward(in, p, REJECTED)}};
}

/* The value of a loss f(z), z = beta (r_w - r_l) - margin, with derivative df = f'(z). */
static struct loss_value of_difference(const struct loss_input *in, const struct loss_params *p, double f, double df) {
    struct loss_value v = new_value(in, p, f);
    v.d_logp[CHOSEN] = df * p->beta * slope(in, p, CHOSEN);
    v.d_logp[REJECTED] = -df * p->beta * slope(in, p, REJECTED);
    return v;
}

/* -(1 - e) log sigma(z) - e log sigma(-z)     (GenARM, eq. 6; e: conservative DPO's label smoothing)
 * and SimPO (arXiv 2405.14734, eq. 6), which is the same on means, DPO (arXiv 2305.18290, eq. 7), which is the same on
 * log-ratios to the reference, and Bradley-Terry, the same on the rewards of a head. */
static struct loss_value log_sigmoid_loss(const struct loss_input *in, const struct loss_params *p) {
    const double z = scaled_difference(in, p) - p->margin, e = p->label_smoothing;
    const double f = (1 - e) * neg_log_sigmoid(z) + e * neg_log_sigmoid(-z);
    return of_difference(in, p, f, sigmoid(z) - (1 - e));
}

/* max(0, 1 - z)     (SLiC-HF, arXiv 2305.10425) */
static struct loss_value hinge_loss(const struct loss_input *in, const struct loss_params *p) {
    const double z = scaled_difference(in, p) - p->margin;
    return of_difference(in, p, z < 1 ? 1 - z : 0, z < 1 ? -1 : 0);
}

/* ((r_w - r_l) - 1 / (2 beta))^2, beta being the paper's tau     (IPO, arXiv 2310.12036, eq. 17)
 * on mean log-ratios: the paper has sums, which grow with the length while the target stays; TRL takes means. */
static struct loss_value ipo_loss(const struct loss_input *in, const struct loss_params *p) {
    const double z = scaled_difference(in, p), excess = z / p->beta - 1 / (2 * p->beta);
    return of_difference(in, p, excess * excess, 2 * excess / p->beta);
}

/* - mean log-probability of the chosen response's tokens */
static struct loss_value sft_loss(const struct loss_input *in, const struct loss_params *p) {
    const double n = in->n_tokens[CHOSEN];
    struct loss_value v = new_value(in, p, -in->logp[CHOSEN] / n);
    v.d_logp[CHOSEN] = -1 / n;
    return v;
}

static const struct loss losses[] = {
    [GENARM_LOSS_ARM] = {.uses_rejected = true,
                         .smooths = true,
                         .has_margin = true,
                         .has_beta = true,
                         .default_beta = 0.05f,
                         .value = log_sigmoid_loss},
    [GENARM_LOSS_HINGE] = {.uses_rejected = true,
                           .has_margin = true,
                           .has_beta = true,
                           .default_beta = 0.05f,
                           .value = hinge_loss},
    [GENARM_LOSS_SIMPO] = {.uses_rejected = true,
                           .always_normalizes = true,
                           .smooths = true,
                           .has_margin = true,
                           .has_beta = true,
                           .default_beta = 2,
                           .default_ratio = 0.5f,
                           .value = log_sigmoid_loss},
    [GENARM_LOSS_SFT] = {.always_normalizes = true, .default_beta = 1, .value = sft_loss},
    [GENARM_LOSS_DPO] = {.uses_rejected = true,
                         .uses_reference = true,
                         .smooths = true,
                         .has_margin = true,
                         .has_beta = true,
                         .default_beta = 0.1f,
                         .value = log_sigmoid_loss},
    [GENARM_LOSS_IPO] = {.uses_rejected = true,
                         .uses_reference = true,
                         .always_normalizes = true,
                         .has_beta = true,
                         .default_beta = 0.1f,
                         .value = ipo_loss},
    [GENARM_LOSS_BT] = {.uses_rejected = true,
                        .uses_head = true,
                        .has_margin = true,
                        .default_beta = 1,
                        .value = log_sigmoid_loss},
};

static const char *const names[] = {
#define LOSS_NAME(id, name, text) [id] = name,
    GENARM_LOSSES(LOSS_NAME)
#undef LOSS_NAME
};

const struct loss *loss_get(enum genarm_loss id) {
    return (size_t)id < sizeof losses / sizeof *losses ? &losses[id] : NULL;
}

const char *loss_name(enum genarm_loss id) { return loss_get(id) ? names[id] : NULL; }

float genarm_loss_default_beta(enum genarm_loss id) { return loss_get(id) ? losses[id].default_beta : 0; }

struct loss_params loss_params_from(const struct genarm_train_params *p) {
    const struct loss *loss = loss_get(p->loss);
    const float beta = p->beta > 0 ? p->beta : genarm_loss_default_beta(p->loss);
    const bool has_own = p->margin < 0 || p->margin > 0;
    return (struct loss_params){.beta = beta,
                                .margin = has_own ? p->margin : loss ? loss->default_ratio * beta : 0,
                                .label_smoothing = p->label_smoothing,
                                .length_normalize = p->length_normalize || (loss && loss->always_normalizes)};
}
