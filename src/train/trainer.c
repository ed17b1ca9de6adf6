/* The public API of training: one run from pair files to an adapter. In a team every rank comes to the same calls of team.h
 * in the same order: in genarm_trainer_new, and at the end of every validation, step and run. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/progress.h"
#include "base/rng.h"
#include "model/adapter.h"
#include "train/backprop.h"
#include "train/batches.h"
#include "train/checkpoint.h"
#include "train/conditioned.h"
#include "train/data.h"
#include "train/metrics.h"
#include "train/optim.h"
#include "train/options.h"
#include "train/plan.h"
#include "train/record.h"
#include "train/run.h"
#include "train/share.h"
#include "train/start.h"
#include "train/team.h"
#include "train/trainer.h"

enum { STREAM_DROPOUT = 4, STREAM_PREFERENCE = 5 /* of the seed, beside those of plan.c and start.c */ };

struct genarm_trainer {
    const struct genarm_model *model;
    struct genarm_train_params params; /* own copy; rank, alpha and targets as they are in effect */
    const struct loss *loss;
    char *output, *folder;
    int lock; /* of the folder, start.h; -1: none */
    struct data data;
    struct plan plan;
    struct share share; /* of this rank in a step or a validation */
    struct trainable adapter;
    struct trainable reference_adapter; /* zeroed: the reference is the model alone */
    struct adamw adamw;
    struct backprop *backprop;
    double objective_weights[OBJECTIVES_MAX]; /* of the micro-batch at hand, their mean 1; without objectives 1 */
    struct batches batches;
    float *theta, *gradient; /* [adapter.n] the adapter on the host, its gradient */
    json_t *run;             /* what a checkpoint must agree with */
    struct metrics log;

    int64_t step;       /* optimiser steps finished */
    int64_t first_step; /* of this process */
    int64_t validated;  /* step of the last validation, or of the last epoch that was kept where nothing is held out; -1: none */
    int64_t saved;      /* step of the last checkpoint; -1: none */
    double seconds;     /* spent training in this process */
    int64_t pairs;      /* trained in this process */
    double grad_norm;   /* of the last step */
    struct tally last;  /* of the last step */

    int (*each)(const struct genarm_train_status *status, void *user);
    void *user;
};

/* ---- construction ---- */

static int load_data(struct genarm_trainer *t, const char *const *paths, size_t n_paths,
                     const struct genarm_objective *objectives, struct genarm_error *err) {
    struct genarm_train_params *p = &t->params;
    start_max_length(p, t->model);
    const struct pref_params formats = {
        .format = p->format, .label = p->label, .use = t->loss->uses_rejected ? PREF_PAIRS : PREF_CHOSEN};
    if (p->n_objectives > 0 && n_paths > 0) {
        return error_set(err, GENARM_EINVAL, "pairs belong to an objective when there are objectives");
    }
    int rc = p->n_objectives > 0
                 ? data_read_objectives(&t->data, t->model, objectives, p->n_objectives, &formats, p->template_name,
                                        p->max_length, err)
                 : data_read(&t->data, t->model, paths, n_paths, &formats, p->template_name, p->max_length, err);
    if (rc == GENARM_OK) {
        rc = plan_init(&t->plan, &t->data, p, err);
    }
    return rc == GENARM_OK ? share_init(&t->share, t->plan.most, p->team, err) : rc;
}

static int make_adapter(struct genarm_trainer *t, struct genarm_error *err) {
    return start_adapter(&t->adapter, &t->params, t->model, t->loss->uses_head, err);
}

static int load_reference(struct genarm_trainer *t, struct genarm_error *err) {
    return start_reference(&t->reference_adapter, &t->params, t->model, err);
}

static int make_machinery(struct genarm_trainer *t, struct genarm_error *err) {
    const struct backprop_params params = {.loss = t->loss,
                                           .loss_params = loss_params_from(&t->params),
                                           .reference = t->reference_adapter.n ? &t->reference_adapter : NULL,
                                           .dropout = t->params.lora_dropout,
                                           .checkpoint_layers = t->params.checkpoint_layers,
                                           .n_threads = t->params.n_threads,
                                           .bf16 = t->params.bf16};
    int rc = backprop_new(&t->backprop, t->model, &t->adapter, &params, err);
    if (rc == GENARM_OK) {
        rc = adamw_init(&t->adamw, t->adapter.n, &t->params, err);
    }
    if (rc == GENARM_OK) {
        rc = batches_init(&t->batches, &t->data, t->plan.most, t->loss, t->backprop, t->params.micro_batch, err);
    }
    if (rc != GENARM_OK) {
        return rc;
    }
    t->theta = malloc(t->adapter.n * sizeof *t->theta);
    t->gradient = malloc(t->adapter.n * sizeof *t->gradient);
    if (!t->theta || !t->gradient) {
        return error_nomem(err, "the optimiser");
    }
    trainable_get(&t->adapter, t->theta);
    return GENARM_OK;
}

/* With the objectives. NULL: no memory. */
static json_t *all_options(const struct genarm_trainer *t) {
    json_t *options = options_to_json(&t->params);
    if (options && !options_add_objectives(options, &t->params, &t->data.objectives)) {
        json_decref(options);
        return NULL;
    }
    return options;
}

/* What makes this run: options, data, model. */
static int describe_run(struct genarm_trainer *t, struct genarm_error *err) {
    t->run = run_describe(all_options(t), t->model, &t->reference_adapter, t->data.hash);
    return t->run ? GENARM_OK : error_nomem(err, "the description of the run");
}

static struct checkpoint checkpoint_of(const struct genarm_trainer *t) {
    return (struct checkpoint){.run = t->run,
                               .step = t->step,
                               .n_steps = t->plan.n_steps,
                               .validated = t->validated,
                               .n = t->adapter.n,
                               .theta = t->theta,
                               .m = t->adamw.m,
                               .v = t->adamw.v};
}

/* The lines of the log that say what the run is, and that it goes on. */
static int log_start(struct genarm_trainer *t, bool resumed, json_t *changed, struct genarm_error *err) {
    int rc = GENARM_OK;
    if (metrics_is_empty(&t->log)) {
        const struct record_source source = {.command = "train",
                                             .options = record_options(all_options(t), &t->params),
                                             .model = t->model,
                                             .output = t->output,
                                             .n_steps = t->plan.n_steps,
                                             .n_params = (int64_t)t->adapter.n,
                                             .data_hash = t->data.hash};
        json_t *record = record_run(&source);
        record_add_pairs(record, &t->data, &t->plan);
        rc = metrics_write(&t->log, record, err);
        json_decref(source.options);
    }
    return rc == GENARM_OK && resumed ? metrics_write(&t->log, record_resumed(t->step, changed), err) : rc;
}

/* The adapters of epochs can be written too. */
static int try_epochs(const struct genarm_trainer *t, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (int32_t epoch = 1; t->params.save_epochs && epoch < t->params.epochs && rc == GENARM_OK; epoch++) {
        char *path = start_epoch_output(t->output, epoch);
        rc = path ? start_try_output(path, err) : error_nomem(err, "a file name");
        free(path);
    }
    return rc;
}

/* Continues from the checkpoint, or starts anew; then opens the log. */
static int start_leader(struct genarm_trainer *t, struct genarm_error *err) {
    struct checkpoint c = checkpoint_of(t);
    int rc = start_output(&t->lock, t->output, t->folder, err);
    rc = rc == GENARM_OK ? try_epochs(t, err) : rc;
    if (rc != GENARM_OK) {
        return rc;
    }
    const bool there = checkpoint_exists(t->folder);
    c.may_change = t->params.resume_changed ? options_that_may_change : NULL;
    if (there && t->params.resume) {
        rc = checkpoint_read(t->folder, &c, err);
        if (rc != GENARM_OK) {
            return rc;
        }
        t->step = t->saved = c.step;
        t->validated = c.validated;
        log_line(GENARM_LOG_INFO, "%s: continuing after step %" PRId64 " of %" PRId64, t->folder, t->step,
                 t->plan.n_steps);
    } else if (there) {
        log_line(GENARM_LOG_WARN, "%s: the checkpoint of an earlier run will be replaced", t->folder);
    }
    start_warmup(&t->params, t->plan.n_steps);
    rc = metrics_open(&t->log, t->params.log_path, c.log_size, err);
    if (rc == GENARM_OK) {
        rc = log_start(t, there && t->params.resume, c.changed, err);
    }
    json_decref(c.changed);
    return rc;
}

/* All ranks begin with the first one's numbers. */
static int start(struct genarm_trainer *t, struct genarm_error *err) {
    const struct genarm_team *team = t->params.team;
    const size_t size = t->adapter.n * sizeof(float);
    const struct {
        void *bytes;
        size_t n;
    } parts[] = {{&t->step, sizeof t->step}, {&t->validated, sizeof t->validated}, {&t->saved, sizeof t->saved},
                 {t->theta, size},           {t->adamw.m, size},                   {t->adamw.v, size}};
    int rc = team_agree(team, team_leads(team) ? start_leader(t, err) : GENARM_OK, err);
    for (size_t i = 0; i < sizeof parts / sizeof *parts && rc == GENARM_OK; i++) {
        rc = team_share(team, parts[i].bytes, parts[i].n, err);
    }
    t->first_step = t->adamw.step = t->step;
    trainable_set(&t->adapter, t->theta);
    return rc;
}

/* What a rank prepares by itself. */
static int prepare(struct genarm_trainer *t, const char *const *pair_paths, size_t n_paths,
                   const struct genarm_objective *objectives, struct genarm_error *err) {
    int rc = t->output && t->folder ? load_data(t, pair_paths, n_paths, objectives, err) : error_nomem(err, "a trainer");
    int (*const steps[])(struct genarm_trainer *, struct genarm_error *) = {make_adapter, load_reference, make_machinery,
                                                                            describe_run};
    for (size_t i = 0; i < sizeof steps / sizeof *steps && rc == GENARM_OK; i++) {
        rc = steps[i](t, err);
    }
    return rc;
}

static int new_trainer(struct genarm_trainer **out, const struct genarm_model *model, const char *output,
                       const struct genarm_train_params *params, struct genarm_error *err) {
    int rc = options_check(params, err);
    if (rc == GENARM_OK) {
        rc = start_check_output(output, err);
    }
    struct genarm_trainer *t = rc == GENARM_OK ? calloc(1, sizeof *t) : NULL;
    if (!t) {
        return rc == GENARM_OK ? error_nomem(err, "a trainer") : rc;
    }
    *t = (struct genarm_trainer){.model = model,
                                 .loss = loss_get(params->loss),
                                 .lock = -1,
                                 .validated = -1,
                                 .saved = -1,
                                 .output = strdup(output),
                                 .folder = checkpoint_folder(output)};
    *out = t;
    return options_copy(&t->params, params, err);
}

int genarm_trainer_new(struct genarm_trainer **out, const struct genarm_model *model, const char *const *pair_paths,
                       size_t n_paths, const char *output, const struct genarm_train_params *params,
                       struct genarm_data_report *report, struct genarm_error *err) {
    const struct genarm_train_params defaults = genarm_train_default_params();
    struct genarm_error ignored;
    struct genarm_trainer *t = NULL;
    params = params ? params : &defaults;
    err = err ? err : &ignored; /* other ranks want to know it */
    int rc = team_check(params->team, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    rc = model_need_graph(model, "training", err);
    rc = rc == GENARM_OK ? new_trainer(&t, model, output, params, err) : rc;
    if (rc == GENARM_OK) {
        rc = prepare(t, pair_paths, n_paths, params->objectives, err);
    }
    rc = team_agree(params->team, rc, err);
    if (rc == GENARM_OK) {
        rc = team_compare(t->params.team, t->run, &t->adapter, err);
    }
    if (rc == GENARM_OK) {
        rc = start(t, err);
    }
    if (rc != GENARM_OK) {
        genarm_trainer_free(t);
        return rc;
    }
    if (report) {
        *report = t->data.report;
    }
    *out = t;
    return GENARM_OK;
}

void genarm_trainer_free(struct genarm_trainer *t) {
    if (!t) {
        return;
    }
    metrics_close(&t->log);
    batches_deinit(&t->batches);
    backprop_free(t->backprop);
    adamw_deinit(&t->adamw);
    trainable_deinit(&t->adapter);
    trainable_deinit(&t->reference_adapter);
    plan_deinit(&t->plan);
    share_deinit(&t->share);
    data_deinit(&t->data);
    json_decref(t->run);
    start_release(t->lock, t->folder);
    options_deinit(&t->params);
    free(t->output);
    free(t->folder);
    free(t->theta);
    free(t->gradient);
    free(t);
}

/* ---- reporting ---- */

static double learning_rate(const struct genarm_trainer *t, int64_t step) {
    return options_decimal(t->params.learning_rate) *
           schedule_factor(t->params.schedule, step, t->params.warmup, t->plan.n_steps);
}

/* `step` is the one that the tally is of. */
static struct genarm_train_status status_of(const struct genarm_trainer *t, int64_t step, const struct tally *tally) {
    const struct tally_means means = tally_means(tally);
    const int64_t in_step = t->step == step ? tally->n : 0;
    return (struct genarm_train_status){
        .step = t->step,
        .n_steps = t->plan.n_steps,
        .pairs_done = plan_pairs_before(&t->plan, t->step) + in_step,
        .pairs_total = plan_pairs_before(&t->plan, t->plan.n_steps),
        .pairs_before = plan_pairs_before(&t->plan, t->first_step),
        .epoch = (int32_t)(step / t->plan.steps_per_epoch),
        .loss = means.loss,
        .accuracy = means.accuracy,
        .margin = means.margin,
        .chosen = means.chosen,
        .rejected = means.rejected,
        .learning_rate = learning_rate(t, step),
        .grad_norm = t->grad_norm,
        .pairs_per_second = t->seconds > 0 ? (double)t->pairs / t->seconds : 0,
    };
}

static int report(struct genarm_trainer *t, const struct genarm_train_status *status, struct genarm_error *err) {
    if (t->each && t->each(status, t->user) != 0) {
        return error_set(err, GENARM_ECANCELED, "stopped at step %" PRId64 " of %" PRId64, t->step, t->plan.n_steps);
    }
    return GENARM_OK;
}

/* Other ranks than the first only know that there is one. */
static int save_checkpoint(struct genarm_trainer *t, struct genarm_error *err) {
    struct checkpoint c = checkpoint_of(t);
    if (!team_leads(t->params.team)) {
        t->saved = t->step;
        return GENARM_OK;
    }
    int rc = metrics_sync(&t->log, &c.log_size, err);
    if (rc == GENARM_OK) {
        rc = checkpoint_write(t->folder, &c, err);
    }
    if (rc == GENARM_OK) {
        t->saved = t->step;
    }
    return rc;
}

/* ---- saving the adapter ---- */

/* The head on the host. */
static float *head_of(const struct genarm_trainer *t) {
    return t->adapter.head ? t->theta + t->adapter.head->view_offs / sizeof(float) : NULL;
}

static int save_adapter(const struct genarm_trainer *t, const char *path, struct genarm_error *err) {
    struct genarm_model_info model;
    char data[17];
    genarm_model_get_info(t->model, &model);
    run_hex(data, t->data.hash);
    /* adapter_save only reads the strings and the head */
    const struct adapter_info info = {.loss = (char *)(uintptr_t)loss_name(t->params.loss),
                                      .beta = t->loss->has_beta ? t->params.beta : 0,
                                      .template_ = (char *)(uintptr_t)t->params.template_name,
                                      .base_hash = (char *)(uintptr_t)model.fingerprint,
                                      .data_hash = data,
                                      .head = head_of(t),
                                      .n_head = t->adapter.head ? (size_t)t->model->hp.n_embd : 0};
    return t->data.objectives.n > 0
               ? conditioned_save(path, &t->model->hp, &t->adapter, &t->data.objectives, &info, err)
               : adapter_save(path, &t->model->hp, t->adapter.layers, t->adapter.alpha, &info, err);
}

/* Whether an epoch has ended whose adapter is kept beside that of the last one. */
static bool keeps_epoch(const struct genarm_trainer *t) {
    return t->params.save_epochs && t->step > 0 && t->step < t->plan.n_steps && t->step % t->plan.steps_per_epoch == 0;
}

/* The adapter of the epoch that has ended, then a checkpoint which knows that it is there: a run that resumes neither misses it
 * nor writes it again. */
static int keep_epoch(struct genarm_trainer *t, struct genarm_error *err) {
    const int32_t epoch = (int32_t)(t->step / t->plan.steps_per_epoch);
    int rc = GENARM_OK;
    if (team_leads(t->params.team)) {
        char *path = start_epoch_output(t->output, epoch);
        rc = path ? save_adapter(t, path, err) : error_nomem(err, "a file name");
        if (rc == GENARM_OK) {
            log_line(GENARM_LOG_INFO, "%s: the adapter after epoch %d of %d", path, epoch, t->params.epochs);
        }
        free(path);
    }
    return rc == GENARM_OK ? save_checkpoint(t, err) : rc;
}

/* ---- computing ---- */

/* What can be done when the numbers have grown without bounds. */
static int diverged_hint(const struct genarm_trainer *t, int rc, const char *first, struct genarm_error *err) {
    return t->saved < 0 ? error_hint(err, rc, "%slower the learning rate", first)
                        : error_hint(err, rc, "%sgo on after step %" PRId64 " from %s with a lower learning rate: "
                                     "--resume-changed -lr X", first, t->saved, t->folder);
}

/* Sets the adapter's preference and with it the weight of the pairs of each objective. NULL: all alike, with weight 1. */
static void prefer(struct genarm_trainer *t, const float *preference) {
    const int32_t n = t->data.objectives.n;
    float even[OBJECTIVES_MAX];
    for (int32_t i = 0; i < OBJECTIVES_MAX; i++) {
        even[i] = (float)(1.0 / (n > 0 ? n : 1));
        t->objective_weights[i] = preference && i < n ? (double)preference[i] * n : 1;
    }
    trainable_set_preference(&t->adapter, preference ? preference : even);
}

/* Preference number `draw` of the step at hand. */
static void draw_preference(struct genarm_trainer *t, int32_t draw) {
    float preference[OBJECTIVES_MAX];
    if (t->data.objectives.n > 0) {
        conditioned_draw(preference, t->data.objectives.n, options_decimal(t->params.preference_concentration),
                         rng_hash(t->params.seed, STREAM_PREFERENCE, 0), (uint64_t)t->step, (uint64_t)draw);
        prefer(t, preference);
    }
}

/* The losses of the held-out pairs, with both responses whatever the loss looks at, where there are two. */
static int validate(struct genarm_trainer *t, struct genarm_train_status *status, struct genarm_error *err) {
    const struct backprop_job job = {.gradient = false};
    const enum pack_form form = batches_form(&t->batches, true);
    struct tally tally = {0};
    int rc = GENARM_OK;
    *status = status_of(t, t->step > 0 ? t->step - 1 : 0, &t->last);
    prefer(t, NULL);
    share_split(&t->share, &t->data, t->plan.val, t->plan.n_val, form);
    for (int32_t done = 0; done < t->share.n && rc == GENARM_OK;) {
        rc = batches_run(&t->batches, t->share.pairs, t->share.n, &done, form, &job, t->step + 1, &tally, err);
        if (rc == GENARM_OK && done < t->share.n) {
            rc = report(t, status, err);
        }
    }
    rc = rc == GENARM_EDIVERGED ? diverged_hint(t, rc, "look at this pair, or ", err) : rc;
    rc = tally_of_all(&tally, t->params.team, rc, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    const struct tally_means means = tally_means(&tally);
    status->has_validation = true;
    status->val_loss = means.loss;
    status->val_accuracy = means.accuracy;
    status->val_margin = means.margin;
    status->val_chosen = means.chosen;
    status->val_rejected = means.rejected;
    return metrics_validation(&t->log, status, err);
}

/* Clips the gradient and updates the adapter. */
static int update(struct genarm_trainer *t, struct tally *tally, struct genarm_error *err) {
    t->grad_norm = clip_gradients(t->gradient, t->adapter.n, options_decimal(t->params.max_grad_norm));
    if (!isfinite(t->grad_norm)) { /* on all ranks */
        int rc = tally_find_worst(tally, &t->data, t->params.team, err);
        if (rc != GENARM_OK) {
            return rc;
        }
        rc = error_set(err, GENARM_EDIVERGED,
                                 "the gradient is not finite in step %" PRId64
                                 "; of its pairs this one has the largest loss, %g",
                                 t->step + 1, tally->worst_loss);
        return diverged_hint(t, tally_at_pair(&t->data, tally->worst, rc, err), "look at this pair, or ", err);
    }
    adamw_update(&t->adamw, t->theta, t->gradient, learning_rate(t, t->step));
    trainable_set(&t->adapter, t->theta);
    return GENARM_OK;
}

/* This rank's share of a step's n pairs: adds up their gradients. */
static int train_share(struct genarm_trainer *t, const uint32_t *pairs, int32_t n, struct tally *tally,
                       struct genarm_error *err) {
    const struct backprop_job job = {.gradient = true,
                                     .weight = 1.0 / n,
                                     .objective_weights = t->objective_weights,
                                     .seed = rng_hash(t->params.seed, STREAM_DROPOUT, 0),
                                     .step = (uint64_t)t->step};
    const enum pack_form form = batches_form(&t->batches, false);
    int64_t before_draw = plan_pairs_before(&t->plan, t->step) - plan_pairs_before(&t->plan, t->first_step);
    int rc = GENARM_OK;
    trainable_zero_gradient(&t->adapter);
    for (int32_t draw = 0, begin = 0, end = 0; end < n && rc == GENARM_OK; draw++, begin = end) {
        end = plan_draw_end(&t->plan, n, draw);
        draw_preference(t, draw);
        share_split(&t->share, &t->data, pairs + begin, end - begin, form);
        for (int32_t done = 0; done < t->share.n && rc == GENARM_OK;) {
            const double before = clock_seconds();
            rc = batches_run(&t->batches, t->share.pairs, t->share.n, &done, form, &job, t->step + 1, tally, err);
            t->pairs = before_draw + done;
            t->seconds += clock_seconds() - before;
            if (rc == GENARM_OK && tally->n < n) {
                const struct genarm_train_status status = status_of(t, t->step, tally);
                rc = report(t, &status, err);
            }
        }
        before_draw += t->share.n;
    }
    return rc == GENARM_EDIVERGED ? diverged_hint(t, rc, "look at this pair, or ", err) : rc;
}

/* The tally and the gradient of all ranks. */
static int add_ranks(struct genarm_trainer *t, int32_t n, struct tally *tally, int rc, struct genarm_error *err) {
    const double before = clock_seconds();
    rc = tally_of_all(tally, t->params.team, rc, err);
    if (rc == GENARM_OK) {
        trainable_get_gradient(&t->adapter, t->gradient);
        rc = team_sum(t->params.team, t->gradient, t->adapter.n, err);
    }
    if (rc == GENARM_OK) {
        t->pairs = plan_pairs_before(&t->plan, t->step) - plan_pairs_before(&t->plan, t->first_step) + n;
    }
    t->seconds += clock_seconds() - before;
    return rc;
}

/* Writes down a step that is done. */
static int record_step(struct genarm_trainer *t, struct genarm_error *err) {
    const struct genarm_train_status status = status_of(t, t->step - 1, &t->last);
    int rc = metrics_step(&t->log, &status, err);
    if (rc == GENARM_OK && t->params.save_every > 0 && t->step % t->params.save_every == 0) {
        rc = save_checkpoint(t, err);
    }
    return rc == GENARM_OK ? report(t, &status, err) : rc;
}

static int train_step(struct genarm_trainer *t, struct genarm_error *err) {
    struct tally tally = {0};
    int32_t n = 0;
    bool changed = false;
    const uint32_t *pairs = plan_step(&t->plan, t->step, &n);
    int rc = train_share(t, pairs, n, &tally, err);
    rc = add_ranks(t, n, &tally, rc, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    rc = update(t, &tally, err);
    if (rc == GENARM_OK) {
        t->step++;
        t->last = tally;
        rc = record_step(t, err);
    }
    rc = team_unify(t->params.team, rc, t->theta, t->adapter.n, &changed, err);
    if (changed) {
        trainable_set(&t->adapter, t->theta);
    }
    return rc;
}

/* Whether something is still to be done before the first step, after an epoch or at the end. */
static bool pause_due(const struct genarm_trainer *t) {
    const bool between = t->step % t->plan.steps_per_epoch == 0 || t->step == t->plan.n_steps;
    return between && t->validated != t->step && (t->plan.n_val > 0 || keeps_epoch(t));
}

/* Validates, and keeps the adapter of an epoch. */
static int pause_training(struct genarm_trainer *t, struct genarm_error *err) {
    const bool validates = t->plan.n_val > 0;
    struct genarm_train_status status;
    int rc = validates ? validate(t, &status, err) : GENARM_OK;
    if (rc == GENARM_OK) {
        t->validated = t->step;
        rc = keeps_epoch(t) ? keep_epoch(t, err) : GENARM_OK;
    }
    return team_agree(t->params.team, rc == GENARM_OK && validates ? report(t, &status, err) : rc, err);
}

static int train(struct genarm_trainer *t, struct genarm_error *err) {
    int rc = GENARM_OK;
    if (pause_due(t)) {
        rc = pause_training(t, err);
    } else if (t->step == t->plan.n_steps) { /* resumed when only the adapter was left to write */
        const struct genarm_train_status status = status_of(t, t->step - 1, &t->last);
        rc = team_agree(t->params.team, report(t, &status, err), err);
    }
    while (rc == GENARM_OK && t->step < t->plan.n_steps) {
        rc = train_step(t, err);
        if (rc == GENARM_OK && pause_due(t)) {
            rc = pause_training(t, err);
        }
    }
    return rc;
}

/* Saves the last step unless it is saved. */
static int keep_step(struct genarm_trainer *t, struct genarm_error *err) {
    return t->saved != t->step ? save_checkpoint(t, err) : GENARM_OK;
}

/* The adapter, and no checkpoint any more. Writing may fail, as on a full disk: then the last step is not lost. */
static int finish(struct genarm_trainer *t, struct genarm_error *err) {
    int rc = keep_step(t, err);
    if (rc == GENARM_OK) {
        rc = save_adapter(t, t->output, err);
    }
    return rc == GENARM_OK ? checkpoint_remove(t->folder, err) : rc;
}

const float *trainer_theta(const struct genarm_trainer *t, size_t *n) {
    *n = t->adapter.n;
    return t->theta;
}

int genarm_trainer_run(struct genarm_trainer *t, int (*each)(const struct genarm_train_status *status, void *user),
                       void *user, struct genarm_error *err) {
    const struct genarm_team *team = t->params.team;
    struct genarm_error ignored;
    err = err ? err : &ignored;
    t->each = each;
    t->user = user;
    prefer(t, NULL);
    int rc = train(t, err);
    if (rc == GENARM_OK) {
        return team_agree(team, team_leads(team) ? finish(t, err) : GENARM_OK, err);
    }
    if (rc == GENARM_ECANCELED) {
        struct genarm_error failure;
        const int saving = team_agree(team, team_leads(team) ? keep_step(t, &failure) : GENARM_OK, &failure);
        if (saving != GENARM_OK) {
            *err = failure;
            return saving;
        }
        return error_hint(err, rc, "resume to continue from %s", t->folder);
    }
    return rc;
}
