/* genarm generate --method best-of-n: which of several answers to a prompt is kept. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/progress.h"
#include "generate.h"
#include "records.h"
#include "tell.h"
#include "terminal.h"

/* The samples of a job that can be rewarded. */
struct choice {
    const struct job *job;
    size_t *which;                 /* [n] index of the sample */
    struct genarm_sample *samples; /* [n] */
    int32_t **tokens;              /* [n] those of the samples, owned */
    double *values;                /* [n, sources] */
    double *rewards;               /* [n_samples] weighted sums; NaN: none */
    size_t n;
};

static void choice_free(struct choice *c) {
    for (size_t i = 0; i < c->n; i++) {
        free(c->tokens[i]);
    }
    free(c->which);
    free(c->samples);
    free(c->tokens);
    free(c->values);
    free(c->rewards);
}

static int choice_make(struct choice *c, const struct generation *g, size_t index, struct genarm_error *err) {
    const struct prompt *prompt = &g->prompts.items[index];
    const size_t n_samples = (size_t)g->method.n_samples;
    *c = (struct choice){.job = &g->jobs[index],
                         .which = calloc(n_samples, sizeof *c->which),
                         .samples = calloc(n_samples, sizeof *c->samples),
                         .tokens = calloc(n_samples, sizeof *c->tokens),
                         .values = calloc(n_samples * (g->method.rewards.n + 1), sizeof *c->values),
                         .rewards = calloc(n_samples, sizeof *c->rewards)};
    if (!c->which || !c->samples || !c->tokens || !c->values || !c->rewards) {
        return error_nomem(err, "rewards");
    }
    int code = 0;
    for (size_t k = 0; k < n_samples && code == 0; k++) {
        const json_t *facts = c->job->samples[k].facts;
        size_t n_tokens = 0;
        c->rewards[k] = (double)NAN;
        if (facts) {
            code = record_tokens(&c->tokens[c->n], &n_tokens, facts, err);
            const char *finish = json_string_value(json_object_get(facts, "finish_reason"));
            const char *response = json_string_value(json_object_get(facts, "response"));
            c->which[c->n] = k;
            c->samples[c->n] = (struct genarm_sample){.messages = prompt->messages,
                                                      .n_messages = prompt->n_messages,
                                                      .response = response ? response : "",
                                                      .finished = finish && strcmp(finish, "stop") == 0,
                                                      .tokens = c->tokens[c->n],
                                                      .n_tokens = n_tokens};
            c->n++;
        }
    }
    return code;
}

/* ---- rewards ---- */

/* What is wrong with one sample, such as its length, rather than with the source. */
static bool of_one_sample(int code) {
    return code == GENARM_EINVAL || code == GENARM_ECONTEXT || code == GENARM_EDIVERGED;
}

/* Adds up what the sources gave n samples from sample `first` on: values[i * n + j]. */
static void add_up(struct choice *c, const struct reward_set *set, size_t first, size_t n) {
    for (size_t j = 0; j < n; j++) {
        double sum = 0;
        for (size_t i = 0; i < set->n; i++) {
            sum += (double)genarm_source_weight(set->sources[i]) * c->values[i * n + j];
        }
        c->rewards[c->which[first + j]] = sum;
    }
}

/* One by one. A sample that cannot be rewarded has no reward, and *failure is that of the first. Returns what is wrong with a
 * source. */
static int score_each(struct choice *c, const struct reward_set *set, struct genarm_error *failure, struct genarm_error *err) {
    for (size_t j = 0; j < c->n; j++) {
        const int code = rewards_compute(set, &c->samples[j], 1, c->values, err);
        if (code == 0) {
            add_up(c, set, j, 1);
        } else if (!of_one_sample(code)) {
            return code;
        } else if (failure->code == 0) {
            *failure = *err;
        }
    }
    return 0;
}

/* All at once, which computes once what they share; where that fails for one of them, one by one. */
static int score(struct choice *c, const struct reward_set *set, struct genarm_error *failure, struct genarm_error *err) {
    const int code = rewards_compute(set, c->samples, c->n, c->values, err);
    if (code == 0) {
        add_up(c, set, 0, c->n);
    }
    return of_one_sample(code) ? score_each(c, set, failure, err) : code;
}

static int64_t n_evaluated(const struct reward_set *set) {
    int64_t n = 0;
    for (size_t i = 0; i < set->n; i++) {
        n += genarm_source_n_evaluated(set->sources[i]);
    }
    return n;
}

/* ---- the choice ---- */

/* Index of the sample with the highest reward, the first of those; n: none has one. */
static size_t best_of(const double *rewards, size_t n) {
    size_t best = n;
    for (size_t k = 0; k < n; k++) {
        if (!isnan(rewards[k]) && (best == n || rewards[k] > rewards[best])) {
            best = k;
        }
    }
    return best;
}

static json_t *numbers_json(const double *x, size_t n) {
    json_t *list = json_array();
    for (size_t k = 0; k < n && list; k++) {
        json_array_append_new(list, json_rounded(x[k], 6)); /* NaN: null */
    }
    return list;
}

/* Takes the facts of sample k over, and adds what is of all of them. */
static int take_facts(struct generation *g, size_t index, size_t k, const double *rewards, json_t **facts,
                      struct genarm_error *err) {
    struct job *job = &g->jobs[index];
    json_t *taken = job->samples[k].facts;
    job->samples[k].facts = NULL;
    if (json_object_set_new(taken, "evaluated", work_json(&job->work)) != 0 ||
        json_object_set_new(taken, "seconds", seconds_json(job->seconds)) != 0 ||
        json_object_set_new(taken, "best_of", json_integer(g->method.n_samples)) != 0 ||
        json_object_set_new(taken, "rewards_of_samples", numbers_json(rewards, (size_t)g->method.n_samples)) != 0) {
        json_decref(taken);
        return error_nomem(err, "a record");
    }
    *facts = taken;
    return 0;
}

/* The failure of the first sample that failed; where none has, a judge had nothing to say. */
static void first_failure(const struct job *job, size_t n, struct genarm_error *failure) {
    for (size_t k = 0; k < n && failure->code == 0; k++) {
        if (job->samples[k].answer.failure.code != 0) {
            *failure = job->samples[k].answer.failure;
        }
    }
    if (failure->code == 0) {
        error_set(failure, GENARM_EFORMAT, "no answer has a reward: the judge abstained");
    }
}

int generate_choose(struct generation *g, size_t index, json_t **facts, struct genarm_error *failure, struct genarm_error *err) {
    const size_t n = (size_t)g->method.n_samples;
    const struct reward_set *set = &g->method.rewards;
    const double start = clock_seconds();
    const int64_t before = n_evaluated(set);
    struct job *job = &g->jobs[index];
    struct choice c;
    *failure = (struct genarm_error){0};
    *facts = NULL;
    int code = interrupt_signal() ? error_set(err, GENARM_ECANCELED, "stopped") : 0;
    if (code) {
        return code;
    }
    code = choice_make(&c, g, index, err);
    if (code == 0 && c.n > 0) {
        code = score(&c, set, failure, err);
    }
    job->work.value += n_evaluated(set) - before;
    job->seconds += clock_seconds() - start;
    if (code == 0) {
        const size_t best = best_of(c.rewards, n);
        if (best < n) {
            code = take_facts(g, index, best, c.rewards, facts, err);
        } else {
            first_failure(job, n, failure);
        }
    }
    choice_free(&c);
    return code;
}

int generate_choose_none(struct generation *g, size_t index, json_t **facts, struct genarm_error *failure,
                         struct genarm_error *err) {
    const struct job *job = &g->jobs[index];
    const size_t n = (size_t)g->method.n_samples;
    struct choice c;
    size_t first = 0;
    *failure = (struct genarm_error){0};
    *facts = NULL;
    while (first < n && !job->samples[first].facts) {
        first++;
    }
    if (first == n) {
        first_failure(job, n, failure);
        return 0;
    }
    int code = choice_make(&c, g, index, err); /* rewards that nobody gave */
    code = code ? code : take_facts(g, index, first, c.rewards, facts, err);
    if (code == 0 && json_object_set_new(*facts, "finish_reason", json_string(finish_name(FINISH_INTERRUPTED))) != 0) {
        json_decref(*facts);
        *facts = NULL;
        code = error_nomem(err, "a record");
    }
    choice_free(&c);
    return code;
}
