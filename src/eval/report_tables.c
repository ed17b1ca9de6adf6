/* See report_tables.h. */
#include "eval/report_tables.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_OPTIONS = 220 }; /* characters of a model's options */

const char tables_legend[] =
    "Brackets: 95 % bootstrap interval over prompts. Bold: the best value of its column, where its interval overlaps with that "
    "of no other method (points of its own sweep do not count).";

static void begin(struct sheet *s, const struct numbers *n, const char *id, const char *title) {
    sheet_init(s, n->pool, id, title, 16 + 2 * n->results->n_rewards + n->results->n_judges, n->results->n_cells);
    sheet_column(s, SHEET_TEXT, "method");
}

static void begin_row(struct sheet *s, const struct numbers *n, size_t cell) {
    sheet_row(s, n->results->cells[cell].method);
    sheet_text(s, n->results->cells[cell].name);
}

static bool is_shown(const struct numbers *n, size_t reward) { return reward != n->kl_reward; }

/* ---- methods ---- */

static bool any(const struct numbers *n, size_t offset) {
    for (size_t i = 0; i < n->results->n_cells; i++) {
        if (numbers_any((const struct interval *)((const char *)&n->cells[i] + offset))) {
            return true;
        }
    }
    return false;
}

#define ANY(n, member) any(n, offsetof(struct cell_numbers, member))

static const struct interval none = {NAN, NAN, NAN};

static void judge_rate(struct sheet *s, const struct judge_numbers *j) {
    sheet_interval(s, j->judged ? &j->verdicts.rate : &none, 100);
}

static void findings(struct sheet *s, const struct numbers *n) {
    const struct results *r = n->results;
    const bool kl = ANY(n, kl), work = ANY(n, all_work), ms = ANY(n, ms);
    begin(s, n, "findings", "Main findings");
    for (size_t i = 0; i < r->n_rewards; i++) {
        if (is_shown(n, i)) {
            sheet_column(s, SHEET_HIGHER, r->rewards[i]);
        }
    }
    for (size_t j = 0; j < r->n_judges; j++) {
        sheet_column(s, SHEET_HIGHER, pool_text(n->pool, "%s: wins + ties/2, %%", r->judges[j].label));
    }
    if (kl) {
        sheet_column(s, SHEET_NUMBER, "KL, nats an answer");
    }
    if (work) {
        sheet_column(s, SHEET_NUMBER, "tokens evaluated per token");
    }
    if (ms) {
        sheet_column(s, SHEET_NUMBER, "ms per token");
    }
    for (size_t i = 0; i < r->n_cells; i++) {
        const struct cell_numbers *c = &n->cells[i];
        begin_row(s, n, i);
        for (size_t k = 0; k < r->n_rewards; k++) {
            if (is_shown(n, k)) {
                sheet_interval(s, &c->rewards[k], 1);
            }
        }
        for (size_t j = 0; j < r->n_judges; j++) {
            judge_rate(s, &n->judges[j * r->n_cells + i]);
        }
        if (kl) {
            sheet_interval(s, &c->kl, 1);
        }
        if (work) {
            sheet_interval(s, &c->all_work, 1);
        }
        if (ms) {
            sheet_interval(s, &c->ms, 1);
        }
    }
}

static void differences(struct sheet *s, const struct numbers *n) {
    const struct results *r = n->results;
    begin(s, n, "differences", pool_text(n->pool, "Rewards, difference to %s", r->cells[n->reference].name));
    for (size_t i = 0; i < r->n_rewards; i++) {
        if (is_shown(n, i)) {
            sheet_column(s, SHEET_NUMBER, r->rewards[i]);
        }
    }
    s->note = "Mean over prompts of the answer's reward minus that of the reference's answer to the same prompt. An interval "
              "without 0 is a difference.";
    if (n->has_gap) {
        sheet_column(s, SHEET_NUMBER, pool_text(n->pool, "recovered gap in %s, %%", r->rewards[n->gap_reward]));
        s->note = pool_text(n->pool, "%s Recovered gap: of the way from %s (0 %%) to %s (100 %%).", s->note,
                            r->cells[n->gap_from].name, r->cells[n->gap_to].name);
    }
    for (size_t i = 0; i < r->n_cells; i++) {
        if (i != n->reference) {
            begin_row(s, n, i);
            for (size_t k = 0; k < r->n_rewards; k++) {
                if (is_shown(n, k)) {
                    sheet_interval(s, &n->cells[i].difference[k], 1);
                }
            }
            if (n->has_gap) {
                sheet_interval(s, i == n->gap_from || i == n->gap_to ? &none : &n->cells[i].gap, 100);
            }
        }
    }
}

static void verdicts(struct sheet *s, const struct numbers *n, size_t judge) {
    const struct results *r = n->results;
    const struct results_judge *j = &r->judges[judge];
    bool preferences = false;
    for (size_t i = 0; i < r->n_cells; i++) {
        preferences = preferences || n->judges[judge * r->n_cells + i].has_preferences;
    }
    begin(s, n, pool_text(n->pool, "judge-%zu", judge + 1),
          pool_text(n->pool, "Verdicts of %s%s%s", j->label, j->against < r->n_methods ? " against " : "",
                    j->against < r->n_methods ? r->methods[j->against].label : ""));
    sheet_column(s, SHEET_NUMBER, "wins");
    sheet_column(s, SHEET_NUMBER, "ties");
    sheet_column(s, SHEET_NUMBER, "losses");
    sheet_column(s, SHEET_NUMBER, "invalid");
    sheet_column(s, SHEET_HIGHER, "wins + ties/2, %");
    if (preferences) {
        sheet_column(s, SHEET_HIGHER, "mean preference, %");
    }
    sheet_column(s, SHEET_HIGHER, "length-controlled, %");
    s->note = "Invalid verdicts count in no rate. Length-controlled: what the rate would be if both answers were equally long; "
              "its fit is penalised, and is 50 where few prompts say little.";
    for (size_t i = 0; i < r->n_cells; i++) {
        const struct judge_numbers *x = &n->judges[judge * r->n_cells + i];
        if (x->judged) {
            begin_row(s, n, i);
            sheet_count(s, (double)x->verdicts.wins);
            sheet_count(s, (double)x->verdicts.ties);
            sheet_count(s, (double)x->verdicts.losses);
            sheet_count(s, (double)x->verdicts.invalid);
            judge_rate(s, x);
            if (preferences) {
                sheet_interval(s, x->has_preferences ? &x->preferences.rate : &none, 100);
            }
            sheet_interval(s, &x->length_controlled, 100);
        }
    }
}

static void texts(struct sheet *s, const struct numbers *n) {
    const struct results *r = n->results;
    const bool kl = ANY(n, kl);
    begin(s, n, "texts", "Answers");
    sheet_column(s, SHEET_NUMBER, "answers");
    sheet_column(s, SHEET_NUMBER, "words");
    sheet_column(s, SHEET_NUMBER, "tokens");
    sheet_column(s, SHEET_NUMBER, "finished, %");
    sheet_column(s, SHEET_NUMBER, "diversity");
    sheet_column(s, SHEET_NUMBER, "distinct 1");
    sheet_column(s, SHEET_NUMBER, "distinct 2");
    if (kl) {
        sheet_column(s, SHEET_NUMBER, "KL, nats a token");
    }
    s->note = kl ? "Finished: the answer ended its turn and was not cut off. KL: mean of log \xCF\x80(answer) \xE2\x88\x92 log "
                   "\xCF\x80_base(answer), an estimate of the divergence where answers are sampled at temperature 1 without "
                   "truncation; of best-of-n the bound log n \xE2\x88\x92 (n \xE2\x88\x92 1)/n."
                 : "Finished: the answer ended its turn and was not cut off.";
    for (size_t i = 0; i < r->n_cells; i++) {
        const struct cell_numbers *c = &n->cells[i];
        if (r->cells[i].n_answers) {
            begin_row(s, n, i);
            sheet_count(s, (double)r->cells[i].n_answers);
            sheet_interval(s, &c->words, 1);
            sheet_interval(s, &c->tokens, 1);
            sheet_interval(s, &c->finished, 100);
            sheet_interval(s, &c->diversity, 1);
            sheet_number(s, c->distinct[1]);
            sheet_number(s, c->distinct[2]);
            if (kl) {
                sheet_interval(s, &c->kl_token, 1);
            }
        }
    }
}

static void costs(struct sheet *s, const struct numbers *n) {
    static const char *const names[NUMBERS_WORK] = {"base", "arms", "value", "roll-out"};
    const struct results *r = n->results;
    begin(s, n, "costs", "Cost of answers");
    for (size_t k = 0; k < NUMBERS_WORK; k++) {
        sheet_column(s, SHEET_NUMBER, names[k]);
    }
    sheet_column(s, SHEET_NUMBER, "all");
    sheet_column(s, SHEET_NUMBER, "ms per token");
    sheet_column(s, SHEET_NUMBER, "seconds in all");
    s->note = "Tokens that went through the base, the ARMs, the reward model of value guidance and its roll-outs, prompts "
              "included, for each token of the answers.";
    for (size_t i = 0; i < r->n_cells; i++) {
        const struct cell_numbers *c = &n->cells[i];
        if (r->cells[i].n_answers) {
            begin_row(s, n, i);
            for (size_t k = 0; k < NUMBERS_WORK; k++) {
                sheet_number(s, c->work[k]);
            }
            sheet_interval(s, &c->all_work, 1);
            sheet_interval(s, &c->ms, 1);
            sheet_number(s, c->seconds);
        }
    }
}

/* ---- sweeps ---- */

static const char *reference_text(const struct numbers *n) {
    const char *text = "Hypervolume above the reference point";
    for (size_t k = 0; k < n->n_objectives; k++) {
        text = pool_text(n->pool, "%s%s %s = %.6g", text, k ? "," : "", n->results->rewards[n->objectives[k]],
                         n->reference_point[k]);
    }
    return pool_text(n->pool,
                     "%s%s. MIP: mean inner product of preference (weights, divided by their sum) and achieved rewards%s; "
                     "scaled: of rewards from 0 at the worst to 1 at the best point of all. On the front: points that no point "
                     "of any method dominates.",
                     text, n->worst_is_reference ? ", the worst value of all points" : "",
                     n->some_not_compared ? ", over the preferences that all methods with weights have" : "");
}

/* [n_cells] points that none dominates. */
static const bool *front_of(const struct numbers *n) {
    const size_t n_cells = n->results->n_cells;
    bool *front = pool_array(n->pool, n_cells, sizeof *front);
    double *points = pool_array(n->pool, n_cells * n->n_objectives, sizeof *points);
    for (size_t i = 0; i < n_cells * n->n_objectives && points; i++) {
        points[i] = n->cells[i / n->n_objectives].rewards[n->objectives[i % n->n_objectives]].value;
    }
    if (front && points) {
        (void)pareto_front(front, points, n_cells, n->n_objectives);
    }
    return front;
}

static void trade_offs(struct sheet *s, const struct numbers *n) {
    const struct results *r = n->results;
    const bool *front = front_of(n);
    begin(s, n, "trade-offs", "Trade-offs");
    sheet_column(s, SHEET_NUMBER, "points");
    sheet_column(s, SHEET_NUMBER, "on the front");
    sheet_column(s, SHEET_HIGHER, "hypervolume");
    sheet_column(s, SHEET_HIGHER, "MIP");
    sheet_column(s, SHEET_HIGHER, "MIP, scaled");
    s->note = reference_text(n);
    for (size_t i = 0; i < r->n_methods; i++) {
        const struct family_numbers *f = &n->families[i];
        double on_front = 0;
        for (size_t k = 0; k < r->methods[i].n_cells && front; k++) {
            on_front += front[r->methods[i].first_cell + k];
        }
        if (f->n_points) {
            sheet_row(s, i);
            sheet_text(s, r->methods[i].label);
            sheet_count(s, (double)f->n_points);
            sheet_count(s, on_front);
            sheet_interval(s, &f->hypervolume, 1);
            sheet_interval(s, &f->mip, 1);
            sheet_interval(s, &f->mip_scaled, 1);
        }
    }
}

/* ---- rewards and models ---- */

/* The first rows of a name: points of one accuracy. */
static size_t first_of_name(const struct results *r, size_t pairs) {
    size_t first = 0;
    while (strcmp(r->pairs[first].name, r->pairs[pairs].name) != 0) {
        first++;
    }
    return first;
}

/* What is best is marked only where all rank the same pairs. */
static void accuracy(struct sheet *s, const struct numbers *n) {
    const struct results *r = n->results;
    bool same = true;
    for (size_t i = 1; i < r->n_pairs; i++) {
        same = same && strcmp(r->pairs[i].data, r->pairs[0].data) == 0;
    }
    sheet_init(s, n->pool, "accuracy", "Rewards on held-out pairs", 9, r->n_pairs);
    sheet_column(s, SHEET_TEXT, "name");
    sheet_column(s, SHEET_NUMBER, "pairs");
    sheet_column(s, same ? SHEET_HIGHER : SHEET_NUMBER, "accuracy, %");
    sheet_column(s, SHEET_NUMBER, "margin");
    sheet_column(s, SHEET_NUMBER, "margin times");
    sheet_column(s, same ? SHEET_LOWER : SHEET_NUMBER, "log loss");
    sheet_column(s, same ? SHEET_LOWER : SHEET_NUMBER, "calibration error");
    s->note = "Accuracy: the chosen response has the higher reward; a tie counts half. Margin: its reward minus that of the "
              "rejected one. Log loss and calibration are of sigmoid(margin times the number stated: beta of an ARM that was "
              "trained here, else 1), the probability that it is preferred; a reward that says nothing has log loss 0.693.";
    for (size_t i = 0; i < r->n_pairs; i++) {
        const struct calibration *c = &n->pairs[i];
        sheet_row(s, first_of_name(r, i));
        sheet_text(s, numbers_pairs_name(n, i));
        sheet_count(s, (double)c->n);
        sheet_interval(s, &c->accuracy, 100);
        sheet_interval(s, &c->margin, 1);
        sheet_number(s, n->scales[i]);
        sheet_interval(s, &c->log_loss, 1);
        sheet_interval(s, &c->ece, 1);
    }
}

static const char *options_text(struct pool *pool, const json_t *options) {
    const char *key, *text = "";
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)options, key, value) { /* nothing is changed */
        char *dumped = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
        text = pool_text(pool, "%s%s%s %s", text, *text ? ", " : "", key,
                         json_is_string(value) ? json_string_value(value) : dumped ? dumped : "");
        free(dumped);
    }
    return pool_short(pool, text, MOST_OPTIONS);
}

static void models(struct sheet *s, const struct numbers *n) {
    const struct results *r = n->results;
    sheet_init(s, n->pool, "models", "Models made first", 5, r->n_models);
    sheet_column(s, SHEET_TEXT, "model");
    sheet_column(s, SHEET_TEXT, "command");
    sheet_column(s, SHEET_NUMBER, "seconds");
    sheet_column(s, SHEET_TEXT, "options");
    for (size_t i = 0; i < r->n_models; i++) {
        const struct results_model *m = &r->models[i];
        sheet_row(s, i);
        sheet_text(s, *m->label ? pool_text(n->pool, "%s %s", m->name, m->label) : m->name);
        sheet_text(s, m->command);
        sheet_number(s, m->seconds);
        sheet_text(s, options_text(n->pool, m->options));
    }
}

/* ---- all ---- */

int tables_make(struct tables *out, const struct numbers *n, struct genarm_error *err) {
    const struct results *r = n->results;
    struct tables t = {.sheets = pool_array(n->pool, 8 + r->n_judges, sizeof *t.sheets)};
    if (!t.sheets) {
        return pool_check(n->pool, err);
    }
    findings(&t.sheets[t.n++], n);
    differences(&t.sheets[t.n++], n);
    for (size_t j = 0; j < r->n_judges; j++) {
        verdicts(&t.sheets[t.n++], n, j);
    }
    if (n->n_objectives) {
        trade_offs(&t.sheets[t.n++], n);
    }
    texts(&t.sheets[t.n++], n);
    costs(&t.sheets[t.n++], n);
    accuracy(&t.sheets[t.n++], n);
    models(&t.sheets[t.n++], n);
    size_t kept = 0;
    for (size_t i = 0; i < t.n; i++) { /* the first one stays, be it empty */
        sheet_finish(&t.sheets[i]);
        if (i == 0 || !sheet_is_empty(&t.sheets[i])) {
            t.sheets[kept++] = t.sheets[i];
        }
    }
    t.n = kept;
    *out = t;
    return pool_check(n->pool, err);
}
