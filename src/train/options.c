#include "train/options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "data/formats.h"
#include "train/loss.h"

struct genarm_train_params genarm_train_default_params(void) {
    return (struct genarm_train_params){
        .loss = GENARM_LOSS_ARM,
        .lora_rank = 8,
        .lora_alpha = 16,
        .lora_targets = "q,k,v",
        .preference_concentration = 0.5f,
        .preference_draws = 8,
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
    return error_set(err, GENARM_EINVAL, "%s is %g, outside of %c%g, %g%c", r->name, r->value, r->open_low ? '(' : '[',
                     r->low, r->high, r->open_high ? ')' : ']');
}

/* What is set although the loss has no use for it. */
static int check_loss(const struct genarm_train_params *p, const struct loss *loss, struct genarm_error *err) {
    const struct {
        const char *name;
        bool is_set, is_known;
    } options[] = {
        {"label smoothing", p->label_smoothing > 0, loss->smooths},
        {"margin", p->margin < 0 || p->margin > 0, loss->has_margin},
        {"beta", p->beta > 0, loss->has_beta},
        {"length normalisation", p->length_normalize, !loss->uses_head},
        {"reference", p->reference_adapter, loss->uses_reference},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (options[i].is_set && !options[i].is_known) {
            return error_set(err, GENARM_EINVAL, "the %s loss knows no %s", loss_name(p->loss), options[i].name);
        }
    }
    return GENARM_OK;
}

/* What cannot be conditioned on objectives. */
static int check_objectives(const struct genarm_train_params *p, const struct loss *loss, struct genarm_error *err) {
    if (p->n_objectives > 0 && loss->uses_head) {
        return error_set(err, GENARM_EINVAL, "the %s loss rewards whole responses: it knows no objectives",
                         loss_name(p->loss));
    }
    if (p->n_objectives > 0 && p->init_adapter) {
        return error_set(err, GENARM_EINVAL, "an adapter with objectives starts anew, not from another adapter");
    }
    return GENARM_OK;
}

int options_check(const struct genarm_train_params *p, struct genarm_error *err) {
    const struct range ranges[] = {
        {"beta", p->beta, 0, INFINITY, false, true},
        {"margin", p->margin, -INFINITY, INFINITY, true, true},
        {"label smoothing", p->label_smoothing, 0, 0.5, false, true},
        {"LoRA rank", p->lora_rank, 1, 4096, false, false},
        {"LoRA alpha", p->lora_alpha, 0, INFINITY, true, true},
        {"LoRA dropout", p->lora_dropout, 0, 1, false, true},
        {"number of objectives", (double)p->n_objectives, 0, OBJECTIVES_MAX, false, false},
        {"rank of the preference", p->preference_rank, 0, p->lora_rank, false, false},
        {"concentration of preferences", p->preference_concentration, 0, 1000, true, false},
        {"preferences of a step", p->preference_draws, 1, 1 << 20, false, false},
        {"learning rate", p->learning_rate, 0, INFINITY, false, true},
        {"warm-up", p->warmup, 0, INT32_MAX, false, false},
        {"weight decay", p->weight_decay, 0, INFINITY, false, true},
        {"adam beta1", p->adam_beta1, 0, 1, false, true},
        {"adam beta2", p->adam_beta2, 0, 1, false, true},
        {"adam eps", p->adam_eps, 0, INFINITY, true, true},
        {"gradient norm", p->max_grad_norm, 0, INFINITY, false, true},
        {"batch size", p->batch_size, 1, 1 << 20, false, false},
        {"micro-batch", p->micro_batch, 0, 1 << 20, false, false},
        {"layers between kept activations", p->checkpoint_layers, 0, INT32_MAX, false, false},
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
        return error_set(err, GENARM_EINVAL, "unknown %s %d", loss ? "schedule" : "loss",
                         loss ? (int)p->schedule : (int)p->loss);
    }
    if ((size_t)p->format > GENARM_DATA_MESSAGES || (size_t)p->label > GENARM_LABEL_SAFER) {
        return error_set(err, GENARM_EINVAL, "unknown format %d or label %d of the data", (int)p->format, (int)p->label);
    }
    if (!p->lora_targets && !p->init_adapter) {
        return error_set(err, GENARM_EINVAL, "no LoRA target is named");
    }
    int rc = check_objectives(p, loss, err);
    return rc == GENARM_OK ? check_loss(p, loss, err) : rc;
}

static bool copy(const char **to, const char *from) {
    *to = from ? strdup(from) : NULL;
    return !from || *to;
}

int options_copy(struct genarm_train_params *to, const struct genarm_train_params *from, struct genarm_error *err) {
    *to = *from;
    to->beta = (float)loss_params_from(from).beta;
    to->margin = (float)loss_params_from(from).margin;
    to->preference_rank = from->preference_rank ? from->preference_rank : (from->lora_rank + 1) / 2;
    to->objectives = NULL; /* what is kept of them is in struct data */
    to->lora_targets = to->init_adapter = to->reference_adapter = to->template_name = to->log_path = NULL;
    if (!copy(&to->lora_targets, from->lora_targets) || !copy(&to->init_adapter, from->init_adapter) ||
        !copy(&to->reference_adapter, from->reference_adapter) ||
        !copy(&to->template_name, from->template_name) || !copy(&to->log_path, from->log_path)) {
        options_deinit(to);
        return error_nomem(err, "the options");
    }
    return GENARM_OK;
}

void options_deinit(struct genarm_train_params *p) {
    free((char *)(uintptr_t)p->lora_targets);
    free((char *)(uintptr_t)p->init_adapter);
    free((char *)(uintptr_t)p->reference_adapter);
    free((char *)(uintptr_t)p->template_name);
    free((char *)(uintptr_t)p->log_path);
    p->lora_targets = p->init_adapter = p->reference_adapter = p->template_name = p->log_path = NULL;
}

double options_decimal(float x) {
    char text[32] = "";
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) {
            break;
        }
    }
    return strtod(text, NULL);
}

static json_t *decimal(float x) { return json_real(options_decimal(x)); }

json_t *options_add(json_t *object, const struct option_value *members, size_t n) {
    bool ok = object;
    for (size_t i = 0; i < n; i++) { /* takes every value over, also after a failure */
        ok = json_object_set_new(object, members[i].name, members[i].value) == 0 && ok;
    }
    if (!ok) {
        json_decref(object);
        return NULL;
    }
    return object;
}

json_t *options_to_json(const struct genarm_train_params *p) {
    static const char *const schedules[] = {[GENARM_SCHEDULE_CONSTANT] = "constant",
                                            [GENARM_SCHEDULE_LINEAR] = "linear",
                                            [GENARM_SCHEDULE_COSINE] = "cosine"};
    const struct option_value members[] = {
        {"loss", json_string(loss_name(p->loss))},
        {"beta", decimal(p->beta)},
        {"margin", decimal(p->margin)},
        {"label_smoothing", decimal(p->label_smoothing)},
        {"length_normalize", json_boolean(p->length_normalize)},
        {"lora_rank", json_integer(p->lora_rank)},
        {"lora_alpha", decimal(p->lora_alpha)},
        {"lora_dropout", decimal(p->lora_dropout)},
        {"lora_targets", json_string(p->lora_targets)},
        {"learning_rate", decimal(p->learning_rate)},
        {"lr_schedule", json_string(schedules[p->schedule])},
        {"warmup", json_integer(p->warmup)},
        {"weight_decay", decimal(p->weight_decay)},
        {"adam_beta1", json_real(p->adam_beta1)},
        {"adam_beta2", json_real(p->adam_beta2)},
        {"adam_eps", json_real(p->adam_eps)},
        {"max_grad_norm", decimal(p->max_grad_norm)},
        {"batch_size", json_integer(p->batch_size)},
        {"micro_batch", json_integer(p->micro_batch)},
        {"epochs", json_integer(p->epochs)},
        {"max_length", json_integer(p->max_length)},
        {"val_split", decimal(p->val_split)},
        {"bf16", json_boolean(p->bf16)},
        {"no_shuffle", json_boolean(!p->shuffle)},
        {"seed", json_integer((json_int_t)p->seed)},
        {"chat_template", json_string(p->template_name ? p->template_name : "")},
        {"format", json_string(format_name(p->format))},
        {"label", json_string(label_name(p->label))},
    };
    json_t *object = options_add(json_object(), members, sizeof members / sizeof *members);
    if (!loss_get(p->loss)->has_beta) {
        json_object_del(object, "beta");
    }
    return object;
}

const char *const options_that_may_change[] = {
    "learning_rate", "lr_schedule",  "warmup",      "weight_decay", "adam_beta1",      "adam_beta2",               "adam_eps",
    "max_grad_norm", "lora_dropout", "micro_batch", "bf16",         "label_smoothing", "preference_concentration", NULL};

bool options_add_objectives(json_t *run, const struct genarm_train_params *p, const struct objectives *o) {
    if (o->n == 0) {
        return true;
    }
    char names[OBJECTIVES_MAX * (OBJECTIVES_NAME_MAX + 1) + 1] = "";
    for (int32_t i = 0; i < o->n; i++) { /* no name has a comma */
        strcat(strcat(names, i ? "," : ""), o->names[i]);
    }
    return json_object_set_new(run, "objective", json_string(names)) == 0 &&
           json_object_set_new(run, "preference_rank", json_integer(p->preference_rank)) == 0 &&
           json_object_set_new(run, "preference_concentration", decimal(p->preference_concentration)) == 0 &&
           json_object_set_new(run, "preference_draws", json_integer(p->preference_draws)) == 0;
}
