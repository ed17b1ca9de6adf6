/* Training reward models and policies: LoRA on a frozen model, from preference pairs. An autoregressive reward model:
 *
 *     L = - E log sigma( beta (log pi_r(y_w | x) - log pi_r(y_l | x)) )                             (GenARM, eq. 6)
 *
 * with log pi_r(y | x) the sum of the response's token log-probabilities, its end-of-turn token included. Other losses take
 * the place of this one; two look at a reference model as well (DPO, IPO), and one trains a trajectory-level reward model,
 * which gives a whole response one number (Bradley-Terry; score with genarm/reward.h).
 * A run is a folder-less object: its checkpoints go to <output>.ckpt/, the adapter to <output>.
 */
#ifndef GENARM_TRAIN_H
#define GENARM_TRAIN_H

#include "genarm/data.h"
#include "genarm/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Losses of a pair; the one list of names. All but bt are functions of the responses' summed log-probabilities. */
#define GENARM_LOSSES(X)                                                                                     \
    X(GENARM_LOSS_ARM, "arm", "log-sigmoid of the scaled difference of log-probabilities (GenARM)")          \
    X(GENARM_LOSS_HINGE, "hinge", "hinge on the scaled difference")                                          \
    X(GENARM_LOSS_SIMPO, "simpo", "log-sigmoid of the scaled difference of mean log-probabilities")          \
    X(GENARM_LOSS_SFT, "sft", "negative log-likelihood of the chosen response")                              \
    X(GENARM_LOSS_DPO, "dpo", "log-sigmoid of the scaled difference of log-ratios to the reference")         \
    X(GENARM_LOSS_IPO, "ipo", "square of the difference of mean log-ratios minus 1 / (2 beta)")              \
    X(GENARM_LOSS_BT, "bt", "Bradley-Terry on a scalar head: a trajectory-level reward model")

enum genarm_loss {
#define GENARM_LOSS_ENUM(id, name, text) id,
    GENARM_LOSSES(GENARM_LOSS_ENUM)
#undef GENARM_LOSS_ENUM
};

/* Ranks: processes, one on each of several machines or more, that train one adapter together (data parallel): all read the
 * same data, each computes its share of every step's pairs, and gradients are summed. What a rank needs of the others;
 * genarm train makes one of MPI. Every rank has a trainer with the same options; the functions are called by all of them in
 * the same order, in the thread of genarm_trainer_new and genarm_trainer_run, and return when all have come to them: 0, or
 * a negative code with *err filled, which ends the run. */
struct genarm_team {
    int32_t rank, size; /* 0 <= rank < size */
    /* values[n] become their sums over the ranks: the same bits on every rank, and in every run with as many ranks */
    int (*sum)(float *values, size_t n, void *user, struct genarm_error *err);
    /* all[size][n_bytes] becomes mine[n_bytes] of every rank, in order */
    int (*gather)(const void *mine, void *all, size_t n_bytes, void *user, struct genarm_error *err);
    /* bytes[n_bytes] become those of rank 0 */
    int (*share)(void *bytes, size_t n_bytes, void *user, struct genarm_error *err);
    void *user;
};

enum genarm_schedule { GENARM_SCHEDULE_CONSTANT, GENARM_SCHEDULE_LINEAR, GENARM_SCHEDULE_COSINE };

/* One of the objectives that an adapter is conditioned on, and its preference pairs. */
struct genarm_objective {
    const char *name; /* at most 64 bytes of UTF-8, without spaces and any of ,=:@/ */
    const char *const *paths; /* [n_paths] pair files */
    size_t n_paths;
    enum genarm_data_label label; /* where records carry two */
};

struct genarm_train_params {
    enum genarm_loss loss;
    float beta;            /* 0 (default): the loss's own, genarm_loss_default_beta; sft and bt have none */
    float margin;          /* subtracted inside the sigmoid; 0 (default): none, for simpo half of beta; not for sft and ipo */
    float label_smoothing; /* [0, .5); default 0; arm, simpo and dpo only */
    bool length_normalize; /* mean instead of sum over a response's tokens; default false (simpo, sft and ipo: always; bt:
                              never) */

    int32_t lora_rank;     /* default 8 */
    float lora_alpha;      /* default 16 */
    float lora_dropout;    /* [0, 1); default 0; on the input of each A, as PEFT */
    const char *lora_targets; /* any of q,k,v,o,gate,up,down; default "q,k,v" */
    const char *init_adapter; /* path of an adapter to start from (its rank, alpha and targets, and, for bt, its head if
                                 it has one); default NULL */
    const char *reference_adapter; /* dpo and ipo: the reference is the model with this adapter; NULL (default): the model
                                 alone, whatever the run starts from */

    /* With objectives the adapter depends on a preference a among them (PARM, Lin et al., ICML 2025), and the loss of a step is
     * the sum of a_i times the mean loss of objective i, for preferences drawn at random: genarm_session_set_preference. Not
     * with bt and init_adapter. */
    const struct genarm_objective *objectives; /* [n_objectives] instead of pair_paths; read by genarm_trainer_new only */
    size_t n_objectives;   /* default 0: none; at most 16 */
    int32_t preference_rank; /* how much of lora_rank depends on the preference; 0 (default): half, rounded up */
    float preference_concentration; /* of the symmetric Dirichlet distribution; default .5; 1: uniform */
    int32_t preference_draws; /* preferences of one step, each for a share of its pairs; default 8 */

    float learning_rate;   /* default 5e-4 */
    enum genarm_schedule schedule; /* default cosine, to 0 at the last step */
    int32_t warmup;        /* steps; default 0; the first of them has learning rate 0, as in transformers */
    float weight_decay;    /* default .05, decoupled */
    double adam_beta1, adam_beta2, adam_eps; /* .9, .999, 1e-8 */
    float max_grad_norm;   /* default 1; 0: no clipping */
    int32_t batch_size;    /* pairs of one optimiser step, with objectives of each; default 32 */
    int32_t micro_batch;   /* pairs computed at once; 0 (default): as many as fit in about 1024 rows */
    int32_t checkpoint_layers; /* keep only the input of every so many layers for the backward pass, and compute the
                              rest again: less memory, more time, the same result to the bit; 0 (default): keep all */
    int32_t epochs;        /* default 1 */
    int32_t max_length;    /* tokens of prompt + longer response; default 1024, never more than the model's context. Prompt and
                              both responses together never have more than 8192 */
    float val_split;       /* share of pairs held out, [0, .5]; default .05 */
    bool shuffle;          /* default true */
    uint64_t seed;         /* default 0 */
    int32_t n_threads;     /* 0: number of cores */
    bool bf16;             /* products with the model's weights in bf16, sums in f32: faster where the processor has
                              instructions for it, else the same as without; default false: faithful to f32 */
    const char *template_name; /* of prompts; see genarm_template_apply; NULL: the model's own */
    enum genarm_data_format format; /* of every pair file; default GENARM_DATA_AUTO: detected for each */
    enum genarm_data_label label;   /* where records carry two; default GENARM_LABEL_BETTER */

    int32_t save_every;    /* steps between checkpoints; 0: none but the last; default 10 */
    bool save_epochs;      /* keep the adapter of every epoch: of the Nth as <output> with .epochN before .gguf, of the last as
                              <output> itself; default false */
    bool resume;           /* continue from <output>.ckpt if it is there, to the bit; else start anew */
    bool resume_changed;   /* with resume: go on although options of the optimiser differ from the checkpoint's: learning rate,
                              schedule, warm-up, weight decay, Adam's numbers, gradient norm, dropout, label smoothing,
                              micro-batch, bf16 and preference_concentration; default false: then all that the result
                              depends on must agree */
    const char *log_path;  /* JSON lines of metrics; NULL: none. Written anew, or, when resuming, continued after the lines
                              of the checkpoint's steps */

    const struct genarm_team *team; /* NULL (default): this process trains alone; else it outlives the trainer */
};
struct genarm_train_params genarm_train_default_params(void);

/* .05; simpo: 2; dpo and ipo: .1, as TRL; sft and bt, which know none: 1. */
float genarm_loss_default_beta(enum genarm_loss loss);

/* What happened to the pairs that were read. */
struct genarm_data_report {
    int64_t read, kept, cut;           /* cut: prompts that lost their earliest turns or words to fit max_length */
    int64_t dropped_equal;             /* chosen equals rejected */
    int64_t dropped_empty;             /* a response is empty */
    int64_t dropped_large;             /* both responses together leave no room for the prompt's template within 8192 tokens */
    int64_t dropped_long;              /* the responses leave no room for the prompt's template within max_length */
    int64_t dropped_unlabelled;        /* no response is labelled as the better one */
    int64_t dropped_turns;             /* a conversation that is not one prompt of the user with two answers */
    int64_t prefixes;                  /* kept: one response is the beginning of the other */
    int64_t spelled;                   /* kept: a text spells control tokens, which are trained on as text */
};

/* Where a run is, for progress and logs. Losses are means per pair; a margin is beta (r_w - r_l), in nats, r being what the
 * loss compares: log-probabilities, for dpo and ipo log-ratios to the reference, for bt the head's rewards; chosen and
 * rejected are beta r_w and beta r_l; accuracy is the share of pairs with a positive margin. With objectives the loss of a
 * training step is weighted by the preferences drawn, and validation is at the even preference. All these are of the step at
 * hand, over its pairs so far, until the step is finished, and NaN before the first. All but the loss are over pairs of which
 * both responses are computed, and NaN where there is none: sft trains on the chosen response alone, and computes rejected ones
 * of held-out pairs only. Within a step of a team pairs are this rank's; what is finished is of all ranks. */
struct genarm_train_status {
    int64_t step, n_steps; /* optimiser steps finished, and to do in all */
    int64_t pairs_done, pairs_total, pairs_before; /* pairs_before: done before this process (resumed) */
    int32_t epoch;         /* from 0 */
    double loss, accuracy, margin, chosen, rejected, learning_rate;
    double grad_norm;      /* before clipping, of the last finished step */
    double pairs_per_second; /* of training, in this process */
    bool has_validation;   /* the next five are new: at the start, after each epoch and at the end */
    double val_loss, val_accuracy, val_margin, val_chosen, val_rejected;
};

struct genarm_trainer;

/* Reads the pair files, tokenises them and prepares (or resumes) a run whose adapter will be written to `output`; creates
 * the folder <output>.ckpt. Pair files are of any format of data.h (with one answer: for sft only): the prompt's messages are
 * what the template wraps, the responses are what follows. Errors in them name file:line; dropped pairs are counted and the
 * first of them logged. The model must outlive the trainer; strings in `params` are copied.
 * `params` and `report` may be NULL. When resuming, GENARM_EMISMATCH names the option, data or model that differs. In a team
 * it names the rank too on which one differs from rank 0's; output, log and checkpoint are rank 0's alone. */
int genarm_trainer_new(struct genarm_trainer **out, const struct genarm_model *model, const char *const *pair_paths,
                       size_t n_paths, const char *output, const struct genarm_train_params *params,
                       struct genarm_data_report *report, struct genarm_error *err);

/* Runs to the end, calling `each` (may be NULL) after every micro-batch, step and validation; a non-zero return writes a
 * checkpoint of the last finished step and stops with GENARM_ECANCELED. A loss that is no number stops with
 * GENARM_EDIVERGED, naming step and pair. After any failure the last checkpoint is there to resume from. On success the
 * adapter is at `output` and the checkpoint folder is removed.
 * In a team what one rank meets, a failure or a wish to stop, ends the run of all at the same step with the same error. A
 * checkpoint does not know the number of ranks. */
int genarm_trainer_run(struct genarm_trainer *t, int (*each)(const struct genarm_train_status *status, void *user),
                       void *user, struct genarm_error *err);

void genarm_trainer_free(struct genarm_trainer *t); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
