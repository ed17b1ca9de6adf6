#include "train/options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "train/loss.h"

struct genarm_train_params genarm_train_default_params(void) {
    return (struct genarm_train_params){
        .loss = GENARM_LOSS_ARM,
        .beta = 0.05f,
        .lora_rank = 8,
        .lora_alpha = 16,
        .lora_targets = "q,k,v",
        .learning_rate = 5e-4f,
        .schedule = GENARM_SCHEDULE_COSINE,
        .weight_decay = 0.05f,
        .adam_beta1 = 0.9,
        .adam_beta2 = 0.999,
        .adam_eps = 1e-8,
        .max_grad_norm = 1,
        .batch_size = 32,
        .epochs = 1,
        .max_length = 1024,
        .val_split = 0.05f,
        .shuffle = true,
        .save_every = 10,
    };
}

struct range {
    const char *name;
    double value, low, high;
    bool open_low, open_high; /* the bound itself is outside */
};

static int check_range(const struct range *r, struct genarm_error *err) {
    const bool above = r->open_low ? r->value > r->low : r->value >= r->low;
    const bool below = r->open_high ? r->value < r->high : r->value <= r->high;
    if (above && below) { /* false for NaN */
        return GENARM_OK;
    }
    return error_set(err, GENARM_EINVAL, "%s is %g, outside of %c%g, %g%c", r->name, r->value, r->open_low ? '(' : '[', r->low,
                     r->high, r->open_high ? ')' : ']');
}

int options_check(const struct genarm_train_params *p, struct genarm_error *err) {
    const struct range ranges[] = {
        {"beta", p->beta, 0, INFINITY, true, true},
        {"margin", p->margin, -INFINITY, INFINITY, true, true},
        {"label smoothing", p->label_smoothing, 0, 0.5, false, true},
        {"LoRA rank", p->lora_rank, 1, 4096, false, false},
        {"LoRA alpha", p->lora_alpha, 0, INFINITY, true, true},
        {"LoRA dropout", p->lora_dropout, 0, 1, false, true},
        {"learning rate", p->learning_rate, 0, INFINITY, false, true},
        {"warm-up", p->warmup, 0, INT32_MAX, false, false},
        {"weight decay", p->weight_decay, 0, INFINITY, false, true},
        {"adam beta1", p->adam_beta1, 0, 1, false, true},
        {"adam beta2", p->adam_beta2, 0, 1, false, true},
        {"adam eps", p->adam_eps, 0, INFINITY, true, true},
        {"gradient norm", p->max_grad_norm, 0, INFINITY, false, true},
        {"batch size", p->batch_size, 1, 1 << 20, false, false},
        {"micro-batch", p->micro_batch, 0, 1 << 20, false, false},
        {"epochs", p->epochs, 1, 1 << 20, false, false},
        {"maximum length", p->max_length, 2, 1 << 24, false, false},
        {"share held out", p->val_split, 0, 0.5, false, false},
        {"threads", p->n_threads, 0, 512, false, false},
        {"steps between checkpoints", p->save_every, 0, INT32_MAX, false, false},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        int rc = check_range(&ranges[i], err);
        if (rc != GENARM_OK) {
            return rc;
        }
    }
    const struct loss *loss = loss_get(p->loss);
    if (!loss || (size_t)p->schedule > GENARM_SCHEDULE_COSINE) {
        return error_set(err, GENARM_EINVAL, "unknown %s %d", loss ? "schedule" : "loss", loss ? (int)p->schedule : (int)p->loss);
    }
    if (!p->lora_targets && !p->init_adapter) {
        return error_set(err, GENARM_EINVAL, "no LoRA target is named");
    }
    if (p->label_smoothing > 0 && !loss->smooths) {
        return error_set(err, GENARM_EINVAL, "the %s loss knows no label smoothing", loss_name(p->loss));
    }
    return GENARM_OK;
}

static bool copy(const char **to, const char *from) {
    *to = from ? strdup(from) : NULL;
    return !from || *to;
}

int options_copy(struct genarm_train_params *to, const struct genarm_train_params *from, struct genarm_error *err) {
    *to = *from;
    to->lora_targets = to->init_adapter = to->template_name = to->log_path = NULL;
    if (!copy(&to->lora_targets, from->lora_targets) || !copy(&to->init_adapter, from->init_adapter) ||
        !copy(&to->template_name, from->template_name) || !copy(&to->log_path, from->log_path)) {
        options_deinit(to);
        return error_nomem(err, "the options");
    }
    return GENARM_OK;
}

void options_deinit(struct genarm_train_params *p) {
    free((char *)(uintptr_t)p->lora_targets);
    free((char *)(uintptr_t)p->init_adapter);
    free((char *)(uintptr_t)p->template_name);
    free((char *)(uintptr_t)p->log_path);
    p->lora_targets = p->init_adapter = p->template_name = p->log_path = NULL;
}

json_t *options_to_json(const struct genarm_train_params *p) {
    static const char *const schedules[] = {
        [GENARM_SCHEDULE_CONSTANT] = "constant", [GENARM_SCHEDULE_LINEAR] = "linear", [GENARM_SCHEDULE_COSINE] = "cosine"};
    return json_pack("{s:s, s:f, s:f, s:f, s:b,"
                     " s:i, s:f, s:f, s:s,"
                     " s:f, s:s, s:i, s:f, s:f, s:f, s:f, s:f,"
                     " s:i, s:i, s:i, s:i, s:f, s:b, s:I, s:s}",
                     "loss", loss_name(p->loss), "beta", (double)p->beta, "margin", (double)p->margin, "label smoothing",
                     (double)p->label_smoothing, "length normalisation", (int)p->length_normalize,
                     "LoRA rank", (int)p->lora_rank, "LoRA alpha", (double)p->lora_alpha, "LoRA dropout",
                     (double)p->lora_dropout, "LoRA targets", p->lora_targets,
                     "learning rate", (double)p->learning_rate, "schedule", schedules[p->schedule], "warm-up", (int)p->warmup,
                     "weight decay", (double)p->weight_decay, "adam beta1", p->adam_beta1, "adam beta2", p->adam_beta2,
                     "adam eps", p->adam_eps, "gradient norm", (double)p->max_grad_norm,
                     "batch size", (int)p->batch_size, "micro-batch", (int)p->micro_batch, "epochs", (int)p->epochs,
                     "maximum length", (int)p->max_length, "share held out", (double)p->val_split, "shuffling", (int)p->shuffle,
                     "seed", (json_int_t)p->seed, "template", p->template_name ? p->template_name : "");
}
