/* The public API of reinforcement learning: one run from prompts and rewards to an adapter. */
#include "genarm/rl.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "model/model.h"
#include "ops/attention.h"
#include "rl/run.h"
#include "train/checkpoint.h"
#include "train/record.h"
#include "train/run.h"
#include "train/start.h"

/* ---- construction ---- */

/* What is too long for all prompts. `fits_tree`: not two responses in one tree of rows. */
static int none_left(const struct genarm_rl *rl, bool fits_tree, struct genarm_error *err) {
    const int32_t max_length = rl->params.training.max_length;
    const bool whole = max_length == rl->model->hp.n_ctx_train;
    const int rc = error_set(err, GENARM_EINVAL, "no prompt leaves room for a response of that length within %s of %d tokens",
                             !fits_tree ? "the limit for two responses"
                             : whole    ? "the model's context"
                                        : "the maximum length",
                             fits_tree ? max_length : ATTENTION_MAX_TREE);
    return error_hint(err, rc, "%sask for fewer new tokens",
                      fits_tree && !whole ? "raise the maximum length, or " : "");
}

static int load_prompts(struct genarm_rl *rl, const struct genarm_rl_prompt *prompts, size_t n, struct genarm_error *err) {
    struct genarm_train_params *p = &rl->params.training;
    start_max_length(p, rl->model);
    const int32_t n_new = rl->params.max_new_tokens;
    const int32_t in_length = p->max_length - n_new, in_tree = ATTENTION_MAX_TREE - SIDES * n_new; /* two responses a tree */
    const bool fits_tree = in_length <= in_tree;
    int rc = rl_prompts_init(&rl->prompts, rl->model, prompts, n, p->template_name, fits_tree ? in_length : in_tree, err);
    return rc == GENARM_OK && rl->prompts.n == 0 ? none_left(rl, fits_tree, err) : rc;
}

/* The order of prompts is that of pairs without any held out. */
static int make_plan(struct genarm_rl *rl, struct genarm_error *err) {
    struct data data = {.n_pairs = rl->prompts.n, .pairs = calloc(rl->prompts.n, sizeof *data.pairs)};
    if (!data.pairs) {
        return error_nomem(err, "the order of prompts");
    }
    const int rc = plan_init(&rl->plan, &data, &rl->params.training, err);
    free(data.pairs);
    if (rc == GENARM_OK && rl->params.steps > 0) {
        rl->plan.n_steps = rl->params.steps;
    }
    return rc;
}

static int make_adapters(struct genarm_rl *rl, struct genarm_error *err) {
    int rc = start_adapter(&rl->adapter, &rl->params.training, rl->model, false, err);
    return rc == GENARM_OK ? start_reference(&rl->reference_adapter, &rl->params.training, rl->model, err) : rc;
}

static int make_machinery(struct genarm_rl *rl, struct genarm_error *err) {
    const struct genarm_train_params *p = &rl->params.training;
    const struct backprop_params params = {.reference = rl->reference_adapter.n ? &rl->reference_adapter : NULL,
                                           .dropout = p->lora_dropout,
                                           .temperature = rl->params.temperature,
                                           .n_threads = p->n_threads,
                                           .checkpoint_layers = p->checkpoint_layers,
                                           .bf16 = p->bf16};
    int rc = backprop_new(&rl->backprop, rl->model, &rl->adapter, &params, err);
    if (rc == GENARM_OK) {
        rc = adamw_init(&rl->adamw, rl->adapter.n, p, err);
    }
    if (rc == GENARM_OK) {
        rc = rollout_init(&rl->rollout, rl->model, &rl->adapter, &rl->params,
                          rl->prompts.longest + rl->params.max_new_tokens, err);
    }
    return rc;
}

static int make_arrays(struct genarm_rl *rl, struct genarm_error *err) {
    const size_t n = rl->adapter.n, prompts = (size_t)rl->params.training.batch_size;
    rl->max_responses = (prompts < rl->prompts.n ? prompts : rl->prompts.n) * (size_t)rl->params.group_size;
    rl->theta = malloc(n * sizeof *rl->theta);
    rl->gradient = malloc(n * sizeof *rl->gradient);
    rl->kept = rl->params.num_iterations > 1 ? malloc(3 * n * sizeof *rl->kept) : NULL;
    rl->responses = calloc(rl->max_responses, sizeof *rl->responses);
    rl->samples = calloc(rl->max_responses, sizeof *rl->samples);
    rl->values = calloc(rl->max_responses, sizeof *rl->values);
    rl->rewards = calloc(rl->max_responses, sizeof *rl->rewards);
    rl->advantages = calloc(rl->max_responses, sizeof *rl->advantages);
    rl->means = calloc(rl->params.n_rewards, sizeof *rl->means);
    if (!rl->theta || !rl->gradient || (rl->params.num_iterations > 1 && !rl->kept) || !rl->responses || !rl->samples ||
        !rl->values || !rl->rewards || !rl->advantages || !rl->means) {
        return error_nomem(err, "a run");
    }
    trainable_get(&rl->adapter, rl->theta);
    return GENARM_OK;
}

static int describe_run(struct genarm_rl *rl, struct genarm_error *err) {
    rl->run = run_describe(rl_options_to_json(&rl->params), rl->model, &rl->reference_adapter, rl->prompts.hash);
    return rl->run ? GENARM_OK : error_nomem(err, "the description of the run");
}

static struct checkpoint checkpoint_of(const struct genarm_rl *rl) {
    return (struct checkpoint){.run = rl->run,
                               .step = rl->step,
                               .n_steps = rl->plan.n_steps,
                               .validated = -1,
                               .n = rl->adapter.n,
                               .theta = rl->theta,
                               .m = rl->adamw.m,
                               .v = rl->adamw.v};
}

/* The lines of the log that say what the run is, and that it goes on. */
static int log_start(struct genarm_rl *rl, bool resumed, struct genarm_error *err) {
    int rc = GENARM_OK;
    if (metrics_is_empty(&rl->log)) {
        const struct record_source source = {
            .command = "rl",
            .options = record_options(rl_options_to_json(&rl->params), &rl->params.training),
            .model = rl->model,
            .output = rl->output,
            .n_steps = rl->plan.n_steps,
            .n_params = (int64_t)rl->adapter.n,
            .data_hash = rl->prompts.hash};
        json_t *record = record_run(&source);
        json_object_set_new(json_object_get(record, "run"), "prompts", json_integer((json_int_t)rl->prompts.n));
        rc = metrics_write(&rl->log, record, err);
        json_decref(source.options);
    }
    return rc == GENARM_OK && resumed ? metrics_write(&rl->log, record_resumed(rl->step, NULL), err) : rc;
}

/* Continues from the checkpoint, or starts anew; then opens the log. */
static int start(struct genarm_rl *rl, struct genarm_error *err) {
    struct checkpoint c = checkpoint_of(rl);
    int rc = start_output(&rl->lock, rl->output, rl->folder, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    const bool there = checkpoint_exists(rl->folder);
    if (there && rl->params.training.resume) {
        rc = checkpoint_read(rl->folder, &c, err);
        if (rc != GENARM_OK) {
            return rc;
        }
        rl->step = rl->first_step = rl->saved = c.step;
        rl->adamw.step = c.step * rl->params.num_iterations;
        trainable_set(&rl->adapter, rl->theta);
        log_line(GENARM_LOG_INFO, "%s: continuing after step %" PRId64 " of %" PRId64, rl->folder, rl->step,
                 rl->plan.n_steps);
    } else if (there) {
        log_line(GENARM_LOG_WARN, "%s: the checkpoint of an earlier run will be replaced", rl->folder);
    }
    rl->status = (struct genarm_rl_status){.step = rl->step,
                                           .n_steps = rl->plan.n_steps,
                                           .first_step = rl->first_step,
                                           .n_rewards = rl->params.n_rewards,
                                           .reward = NAN,
                                           .reward_std = NAN,
                                           .kl = NAN,
                                           .length = NAN,
                                           .finished = NAN,
                                           .loss = NAN,
                                           .grad_norm = NAN,
                                           .learning_rate = NAN,
                                           .clipped = NAN};
    start_warmup(&rl->params.training, rl->plan.n_steps * rl->params.num_iterations);
    rc = metrics_open(&rl->log, rl->params.training.log_path, c.log_size, err);
    return rc == GENARM_OK ? log_start(rl, there && rl->params.training.resume, err) : rc;
}

int genarm_rl_new(struct genarm_rl **out, const struct genarm_model *model, const struct genarm_rl_prompt *prompts,
                  size_t n_prompts, const char *output, const struct genarm_rl_params *params, struct genarm_rl_report *report,
                  struct genarm_error *err) {
    int rc = model_need_graph(model, "reinforcement learning", err);
    rc = rc == GENARM_OK ? rl_options_check(params, err) : rc;
    if (rc == GENARM_OK) {
        rc = start_check_output(output, err);
    }
    if (rc != GENARM_OK) {
        return rc;
    }
    struct genarm_rl *rl = calloc(1, sizeof *rl);
    if (!rl) {
        return error_nomem(err, "a run");
    }
    *rl = (struct genarm_rl){
        .model = model, .lock = -1, .saved = -1, .output = strdup(output), .folder = checkpoint_folder(output)};
    rc = rl_options_copy(&rl->params, params, err);
    rl->params.training.val_split = 0;
    if (rc == GENARM_OK && (!rl->output || !rl->folder)) {
        rc = error_nomem(err, "a run");
    }
    if (rc == GENARM_OK) {
        rc = load_prompts(rl, prompts, n_prompts, err);
    }
    int (*const steps[])(struct genarm_rl *, struct genarm_error *) = {make_plan,   make_adapters, make_machinery,
                                                                       make_arrays, describe_run,  start};
    for (size_t i = 0; i < sizeof steps / sizeof *steps && rc == GENARM_OK; i++) {
        rc = steps[i](rl, err);
    }
    if (rc != GENARM_OK) {
        genarm_rl_free(rl);
        return rc;
    }
    if (report) {
        *report = rl->prompts.report;
    }
    *out = rl;
    return GENARM_OK;
}

void genarm_rl_free(struct genarm_rl *rl) {
    if (!rl) {
        return;
    }
    metrics_close(&rl->log);
    rollout_deinit(&rl->rollout);
    backprop_free(rl->backprop);
    adamw_deinit(&rl->adamw);
    trainable_deinit(&rl->adapter);
    trainable_deinit(&rl->reference_adapter);
    plan_deinit(&rl->plan);
    rl_prompts_deinit(&rl->prompts);
    rl_options_deinit(&rl->params);
    json_decref(rl->run);
    start_release(rl->lock, rl->folder);
    free(rl->output);
    free(rl->folder);
    free(rl->theta);
    free(rl->gradient);
    free(rl->kept);
    free(rl->responses);
    free(rl->samples);
    free(rl->values);
    free(rl->rewards);
    free(rl->advantages);
    free(rl->means);
    free(rl);
}

/* ---- reporting ---- */

int rl_report(struct genarm_rl *rl, struct genarm_error *err) {
    struct genarm_rl_status *s = &rl->status;
    s->step = rl->step;
    s->tokens_per_second = rl->seconds > 0 ? (double)rl->tokens / rl->seconds : 0;
    if (rl->each && rl->each(s, rl->user) != 0) {
        return error_set(err, GENARM_ECANCELED, "stopped at step %" PRId64 " of %" PRId64, rl->step, rl->plan.n_steps);
    }
    return GENARM_OK;
}

static json_t *rewards_json(const struct genarm_rl *rl) {
    json_t *object = json_object();
    for (size_t i = 0; i < rl->params.n_rewards && object; i++) {
        metrics_number(object, rl->params.rewards[i].name, rl->means[i]);
    }
    return object;
}

static int log_step(struct genarm_rl *rl, struct genarm_error *err) {
    const struct genarm_rl_status *s = &rl->status;
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"reward", s->reward},
                   {"reward_std", s->reward_std},
                   {"kl", s->kl},
                   {"length", s->length},
                   {"finished", s->finished},
                   {"loss", s->loss},
                   {"clipped", s->clipped},
                   {"grad_norm", s->grad_norm},
                   {"learning_rate", s->learning_rate},
                   {"tokens_per_second", s->tokens_per_second}};
    if (!rl->log.stream) {
        return GENARM_OK;
    }
    json_t *object = json_pack("{s:I, s:I, s:o}", "step", (json_int_t)rl->step, "epoch",
                               (json_int_t)((rl->step - 1) / rl->plan.steps_per_epoch), "rewards", rewards_json(rl));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && object; i++) {
        metrics_number(object, numbers[i].name, numbers[i].value);
    }
    return metrics_write(&rl->log, object, err);
}

static int save_checkpoint(struct genarm_rl *rl, struct genarm_error *err) {
    struct checkpoint c = checkpoint_of(rl);
    int rc = metrics_sync(&rl->log, &c.log_size, err);
    if (rc == GENARM_OK) {
        rc = checkpoint_write(rl->folder, &c, err);
    }
    if (rc == GENARM_OK) {
        rl->saved = rl->step;
    }
    return rc;
}

/* ---- running ---- */

static int train(struct genarm_rl *rl, struct genarm_error *err) {
    const int32_t every = rl->params.training.save_every;
    int rc = rl_report(rl, err);
    while (rc == GENARM_OK && rl->step < rl->plan.n_steps) {
        rc = rl_step(rl, err);
        if (rc == GENARM_OK) {
            rl->status.finished_step = true;
            rl->status.tokens_per_second = rl->seconds > 0 ? (double)rl->tokens / rl->seconds : 0;
            rc = log_step(rl, err);
        }
        if (rc == GENARM_OK && every > 0 && rl->step % every == 0) {
            rc = save_checkpoint(rl, err);
        }
        rc = rc == GENARM_OK ? rl_report(rl, err) : rc;
    }
    return rc;
}

static int save_adapter(const struct genarm_rl *rl, struct genarm_error *err) {
    struct genarm_model_info model;
    char data[17];
    genarm_model_get_info(rl->model, &model);
    run_hex(data, rl->prompts.hash);
    /* adapter_save only reads the strings */
    const struct adapter_info info = {.loss = (char *)(uintptr_t)rl_method_name(rl->params.method),
                                      .template_ = (char *)(uintptr_t)rl->params.training.template_name,
                                      .base_hash = (char *)(uintptr_t)model.fingerprint,
                                      .data_hash = data};
    return adapter_save(rl->output, &rl->model->hp, rl->adapter.layers, rl->adapter.alpha, &info, err);
}

int genarm_rl_run(struct genarm_rl *rl, int (*each)(const struct genarm_rl_status *status, void *user), void *user,
                  struct genarm_error *err) {
    rl->each = each;
    rl->user = user;
    int rc = train(rl, err);
    if (rc == GENARM_ECANCELED) {
        struct genarm_error failure;
        if (rl->saved != rl->step && save_checkpoint(rl, &failure) != GENARM_OK) {
            if (err) {
                *err = failure;
            }
            return failure.code;
        }
        return error_hint(err, rc, "resume to continue from %s", rl->folder);
    }
    /* the adapter may fail to be written: a full disk; then the last step is not lost */
    if (rc == GENARM_OK && rl->saved != rl->step) {
        rc = save_checkpoint(rl, err);
    }
    if (rc == GENARM_OK) {
        rc = save_adapter(rl, err);
    }
    return rc == GENARM_OK ? checkpoint_remove(rl->folder, err) : rc;
}
