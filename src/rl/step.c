/* One step of a run: sampling, rewards, advantages, updates. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/progress.h"
#include "base/rng.h"
#include "rl/run.h"
#include "train/options.h"

enum {
    MICRO_BATCH_ROWS = 1024, /* as in training on pairs */
    STREAM_DROPOUT = 4,      /* of the seed, beside those of plan.c and start.c */
    STREAM_SAMPLE = 5,
    MAX_MICRO_BATCHES = 1 << 20 /* of one update */
};

/* A step being computed: what the callbacks of its parts need. */
struct step {
    struct genarm_rl *rl;
    struct genarm_error *err;
    size_t n; /* responses */
    struct batch batch;
    size_t culprit; /* response whose numbers are none */
};

static int on_sampled(size_t n_done, void *user) {
    const struct step *s = user;
    s->rl->status.sampled = (int64_t)n_done;
    return rl_report(s->rl, s->err);
}

static int on_micro_batch(void *user) {
    const struct step *s = user;
    return rl_report(s->rl, s->err);
}

/* An error of one response says where it comes from. */
static int name_culprit(const struct step *s, size_t response, int rc) {
    if (rc == GENARM_EDIVERGED) {
        error_at(s->err, rc, "step %" PRId64 ", %s", s->rl->step + 1, s->rl->responses[response].prompt->where);
        error_hint(s->err, rc, "lower the learning rate, or look at this prompt");
    }
    return rc;
}

/* ---- sampling ---- */

static int sample(struct step *s) {
    struct genarm_rl *rl = s->rl;
    int32_t n_prompts = 0;
    const uint32_t *prompts = plan_step(&rl->plan, rl->step, &n_prompts);
    const size_t k = (size_t)rl->params.group_size;
    const uint64_t seed = rng_hash(rl->params.training.seed, STREAM_SAMPLE, (uint64_t)rl->step);
    s->n = (size_t)n_prompts * k;
    for (size_t i = 0; i < s->n; i++) {
        const uint32_t prompt = prompts[i / k];
        rl->responses[i] =
            (struct response){.prompt = &rl->prompts.items[prompt], .seed = rng_hash(seed, prompt, i % k)};
    }
    rl->status.sampled = 0;
    rl->status.to_sample = (int64_t)s->n;
    int rc = rollout_sample(&rl->rollout, rl->responses, s->n, on_sampled, s, s->err);
    if (rc == GENARM_EFORMAT) { /* what sampling says of logits that are no numbers, as of a damaged adapter */
        rc = error_set(s->err, GENARM_EDIVERGED, "the policy's logits are not finite");
        error_at(s->err, rc, "step %" PRId64, rl->step + 1);
        error_hint(s->err, rc, "lower the learning rate");
    }
    return rc;
}

static bool is_masked(const struct genarm_rl *rl, size_t response) {
    return rl->params.mask_truncated && !rl->responses[response].finished;
}

/* ---- rewards and advantages ---- */

/* The error of response i, whose reward is no number. */
static int no_number(struct step *s, const struct genarm_rl_reward *r, size_t i) {
    const struct genarm_rl *rl = s->rl;
    const bool abstained = r->source && isnan(rl->values[i]); /* anything else a source refuses itself */
    int rc = abstained ? error_set(s->err, GENARM_EDIVERGED, "the judge %s abstained: it gave a response no rating", r->name)
                       : error_set(s->err, GENARM_EDIVERGED, "the reward %s is %f", r->name, rl->values[i]);
    rc = error_at(s->err, rc, "step %" PRId64 ", %s", rl->step + 1, rl->responses[i].prompt->where);
    return abstained ? error_hint(s->err, rc, "learning takes a number for every response: is the form of its prompt too hard?")
                     : rc;
}

static int ask(struct step *s, const struct genarm_rl_reward *r) {
    struct genarm_rl *rl = s->rl;
    int rc = r->source ? genarm_source_score(r->source, rl->samples, s->n, rl->values, s->err)
                       : r->score(r->user, rl->samples, s->n, rl->values, s->err);
    rc = error_at(s->err, rc, "reward %s", r->name);
    for (size_t i = 0; i < s->n && rc == GENARM_OK; i++) {
        if (!isfinite(rl->values[i])) {
            rc = no_number(s, r, i);
        }
    }
    return rc;
}

/* rl->rewards: weighted sums; the status gets means and deviation. */
static int reward(struct step *s) {
    struct genarm_rl *rl = s->rl;
    const size_t k = (size_t)rl->params.group_size;
    int rc = GENARM_OK;
    for (size_t i = 0; i < s->n; i++) {
        const struct response *r = &rl->responses[i];
        rl->samples[i] = (struct genarm_sample){.messages = r->prompt->messages,
                                                .n_messages = r->prompt->n_messages,
                                                .response = r->text.data,
                                                .finished = r->finished,
                                                .tokens = r->tokens,
                                                .n_tokens = (size_t)r->n};
        rl->rewards[i] = 0;
    }
    for (size_t j = 0; j < rl->params.n_rewards && rc == GENARM_OK; j++) {
        rc = ask(s, &rl->params.rewards[j]);
        rl->means[j] = 0;
        for (size_t i = 0; i < s->n && rc == GENARM_OK; i++) {
            rl->rewards[i] += rl->params.rewards[j].weight * rl->values[i];
            rl->means[j] += rl->values[i] / (double)s->n;
        }
    }
    double mean = 0, deviation = 0;
    for (size_t i = 0; i < s->n; i++) {
        mean += rl->rewards[i];
        deviation += i % k == 0 ? group_std(rl->rewards + i, k) : 0;
    }
    rl->status.reward = mean / (double)s->n;
    rl->status.reward_std = deviation / (double)(s->n / k);
    return rc;
}

/* Penalties, then advantages and weights of all responses. For RLOO the log-ratios to the reference must be known. */
static void set_advantages(struct step *s) {
    struct genarm_rl *rl = s->rl;
    const struct genarm_rl_params *p = &rl->params;
    const size_t k = (size_t)p->group_size;
    int64_t n_tokens = 0;
    for (size_t i = 0; i < s->n; i++) {
        rl->rewards[i] -= rl->responses[i].finished ? 0 : p->missing_eos_penalty;
        if (p->method == GENARM_RL_RLOO && p->kl_coef > 0 && !is_masked(rl, i)) {
            rl->rewards[i] -= p->kl_coef * batch_log_ratio(&s->batch, i);
        }
        n_tokens += is_masked(rl, i) ? 0 : rl->responses[i].n;
    }
    if (p->method == GENARM_RL_RLOO) {
        advantages_rloo(rl->rewards, s->n / k, k, rl->advantages);
    } else {
        advantages_grpo(rl->rewards, s->n / k, k, p->scale_rewards, rl->advantages);
    }
    for (size_t i = 0; i < s->n; i++) {
        struct objective_response *r = &s->batch.responses[i];
        r->advantage = rl->advantages[i];
        r->weight = is_masked(rl, i)
                        ? 0
                        : objective_weight(p->method, p->average, s->n, n_tokens, r->n, p->max_new_tokens);
    }
}

/* ---- updates ---- */

static double learning_rate(const struct genarm_rl *rl, int64_t update) {
    const struct genarm_train_params *p = &rl->params.training;
    return options_decimal(p->learning_rate) *
           schedule_factor(p->schedule, update, p->warmup, rl->plan.n_steps * rl->params.num_iterations);
}

/* Clips the gradient that has added up and updates the adapter. */
static int update(struct genarm_rl *rl, int64_t number, struct genarm_error *err) {
    struct genarm_rl_status *status = &rl->status;
    trainable_get_gradient(&rl->adapter, rl->gradient);
    status->grad_norm =
        clip_gradients(rl->gradient, rl->adapter.n, options_decimal(rl->params.training.max_grad_norm));
    if (!isfinite(status->grad_norm)) {
        const int rc = error_set(err, GENARM_EDIVERGED, "the gradient is not finite in step %" PRId64, rl->step + 1);
        return error_hint(err, rc, "lower the learning rate");
    }
    status->learning_rate = learning_rate(rl, number);
    adamw_update(&rl->adamw, rl->theta, rl->gradient, status->learning_rate);
    trainable_set(&rl->adapter, rl->theta);
    return GENARM_OK;
}

/* The updates on the step's responses. `known`: the policy's log-probabilities of the step are there. */
static int updates(struct step *s, bool known) {
    struct genarm_rl *rl = s->rl;
    const struct genarm_rl_params *p = &rl->params;
    const struct objective objective = {.method = p->method, .kl_coef = p->kl_coef, .clip_eps = p->clip_eps};
    struct batch_result result = {0};
    int rc = GENARM_OK;
    for (int32_t i = 0; i < p->num_iterations && rc == GENARM_OK; i++) {
        const int64_t number = rl->step * p->num_iterations + i;
        const struct batch_job job = {.objective = &objective,
                                      .first = i == 0,
                                      .fill = i == 0 && !known,
                                      .seed = rng_hash(p->training.seed, STREAM_DROPOUT, 0),
                                      .step = (uint64_t)number * MAX_MICRO_BATCHES};
        trainable_zero_gradient(&rl->adapter);
        rc = batch_backward(&s->batch, rl->backprop, &job, &result, &s->culprit, on_micro_batch, s, s->err);
        rc = name_culprit(s, s->culprit, rc);
        if (rc == GENARM_OK) {
            rc = update(rl, number, s->err);
        }
    }
    int64_t n_clipped_of = 0;
    for (size_t i = 0; i < s->n; i++) {
        const bool counts = s->batch.responses[i].weight > 0;
        n_clipped_of += !counts ? 0 : p->method == GENARM_RL_RLOO ? 1 : s->batch.responses[i].n;
    }
    rl->status.loss = result.loss;
    rl->status.clipped = n_clipped_of ? (double)result.clipped / (double)n_clipped_of : 0;
    return rc;
}

/* ---- the whole ---- */

static void summarise(struct step *s) {
    struct genarm_rl *rl = s->rl;
    double kl = 0, length = 0, finished = 0;
    for (size_t i = 0; i < s->n; i++) {
        kl += batch_log_ratio(&s->batch, i);
        length += rl->responses[i].n;
        finished += rl->responses[i].finished;
    }
    rl->tokens += (int64_t)length;
    rl->status.kl = kl / (double)s->n;
    rl->status.length = length / (double)s->n;
    rl->status.finished = finished / (double)s->n;
    rl->status.rewards = rl->means;
}

static int run_step(struct step *s) {
    struct genarm_rl *rl = s->rl;
    const struct genarm_rl_params *p = &rl->params;
    /* with dropout the policy that samples is not the one that the first update sees */
    const bool before = (p->method == GENARM_RL_RLOO && p->kl_coef > 0) || p->training.lora_dropout > 0;
    int rc = sample(s);
    if (rc == GENARM_OK) {
        rc = batch_init(&s->batch, rl->responses, s->n, p->training.micro_batch, MICRO_BATCH_ROWS, s->err);
    }
    if (rc == GENARM_OK) {
        rc = reward(s);
    }
    if (rc != GENARM_OK) {
        return rc;
    }
    rc = batch_forward(&s->batch, rl->backprop, BATCH_REFERENCE, &s->culprit, on_micro_batch, s, s->err);
    if (rc == GENARM_OK && before) {
        rc = batch_forward(&s->batch, rl->backprop, BATCH_POLICY, &s->culprit, on_micro_batch, s, s->err);
    }
    if (rc != GENARM_OK) {
        return name_culprit(s, s->culprit, rc);
    }
    set_advantages(s);
    return updates(s, before);
}

/* Adapter and moments to or from rl->kept. */
static void keep(struct genarm_rl *rl, bool restore) {
    float *const arrays[] = {rl->theta, rl->adamw.m, rl->adamw.v};
    for (size_t i = 0; rl->kept && i < sizeof arrays / sizeof *arrays; i++) {
        float *kept = rl->kept + i * rl->adapter.n;
        memcpy(restore ? arrays[i] : kept, restore ? kept : arrays[i], rl->adapter.n * sizeof *kept);
    }
}

int rl_step(struct genarm_rl *rl, struct genarm_error *err) {
    struct genarm_error own;
    struct step s = {.rl = rl, .err = err ? err : &own};
    const double before = clock_seconds();
    keep(rl, false);
    rl->status.finished_step = false;
    const int rc = run_step(&s);
    if (rc == GENARM_OK) {
        rl->seconds += clock_seconds() - before;
        summarise(&s);
        rl->step++;
    } else {
        keep(rl, true);
    }
    for (size_t i = 0; i < s.n; i++) {
        response_deinit(&rl->responses[i]);
    }
    batch_deinit(&s.batch);
    return rc;
}
