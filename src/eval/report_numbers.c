/* See report_numbers.h. */
#include "eval/report_numbers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/gap.h"
#include "eval/kl.h"

enum { LENGTH_CONTROL_DRAWS = 200 }; /* each of them is a fit */

static const struct interval unknown = {NAN, NAN, NAN};

bool numbers_any(const struct interval *x) { return isfinite(x->value); }

static void note(struct numbers *n, const char *text) {
    if (n->n_notes < NUMBERS_NOTES) {
        n->notes[n->n_notes++] = text;
    }
}

/* ---- what the experiment asks for ---- */

static const char *option_text(const struct numbers *n, const char *key) {
    return json_string_value(json_object_get(n->results->report, key));
}

/* The first cell of a method; n_cells and a note when there is no such method. */
static size_t cell_of(struct numbers *n, const char *option, const char *name) {
    const struct results *r = n->results;
    const size_t method = results_find_method(r, name);
    if (method < r->n_methods) {
        return r->methods[method].first_cell;
    }
    note(n, pool_text(n->pool, "%s: there is no method %s.", option, name));
    return r->n_cells;
}

static size_t reward_of(struct numbers *n, const char *option, const char *name) {
    const size_t reward = results_find_reward(n->results, name);
    if (reward == n->results->n_rewards) {
        note(n, pool_text(n->pool, "%s: there is no reward %s.", option, name));
    }
    return reward;
}

static void read_gap(struct numbers *n) {
    const json_t *gap = json_object_get(n->results->report, "gap");
    const char *from = json_string_value(json_object_get(gap, "from")), *to = json_string_value(json_object_get(gap, "to")),
               *reward = json_string_value(json_object_get(gap, "reward"));
    if (from && to && reward) {
        n->gap_from = cell_of(n, "gap", from);
        n->gap_to = cell_of(n, "gap", to);
        n->gap_reward = reward_of(n, "gap", reward);
        n->has_gap = n->gap_from < n->results->n_cells && n->gap_to < n->results->n_cells &&
                     n->gap_reward < n->results->n_rewards;
    }
}

static void read_objectives(struct numbers *n) {
    const char *name;
    json_t *variable;
    json_object_foreach(json_object_get(n->results->report, "objectives"), name, variable) {
        const size_t reward = reward_of(n, "objectives", name);
        if (reward < n->results->n_rewards && n->n_objectives < PARETO_MAX_OBJECTIVES) {
            n->objectives[n->n_objectives] = reward;
            n->variables[n->n_objectives] = json_is_string(variable) ? json_string_value(variable) : "";
            n->n_objectives++;
        }
    }
}

static void read_options(struct numbers *n) {
    const char *reference = option_text(n, "reference"), *kl = option_text(n, "kl");
    const size_t cell = reference ? cell_of(n, "reference", reference) : 0;
    n->reference = cell < n->results->n_cells ? cell : 0;
    n->kl_reward = kl ? reward_of(n, "kl", kl) : n->results->n_rewards;
    read_gap(n);
    read_objectives(n);
}

/* ---- one cell ---- */

static int rewards_of(struct numbers *n, size_t cell, struct genarm_error *err) {
    const struct results *r = n->results;
    struct cell_numbers *c = &n->cells[cell];
    int rc = GENARM_OK;
    c->rewards = pool_array(n->pool, r->n_rewards, sizeof *c->rewards);
    c->difference = pool_array(n->pool, r->n_rewards, sizeof *c->difference);
    rc = pool_check(n->pool, err);
    for (size_t i = 0; i < r->n_rewards && rc == GENARM_OK; i++) {
        const double *x = results_rewards(r, &r->cells[cell], i),
                     *reference = results_rewards(r, &r->cells[n->reference], i);
        c->rewards[i] = c->difference[i] = unknown;
        rc = x ? bootstrap_mean(&c->rewards[i], x, r->n_prompts, NULL, err) : GENARM_OK;
        if (rc == GENARM_OK && x && reference && cell != n->reference) {
            rc = bootstrap_difference(&c->difference[i], x, reference, r->n_prompts, NULL, err);
        }
    }
    return rc;
}

static int kl_of(struct numbers *n, size_t cell, struct genarm_error *err) {
    const struct results *r = n->results;
    const struct results_cell *at = &r->cells[cell];
    struct cell_numbers *c = &n->cells[cell];
    const double *logprob = results_column(r, at, RESULTS_LOGPROB), *tokens = results_column(r, at, RESULTS_TOKENS),
                 *base = results_rewards(r, at, n->kl_reward);
    if (!base) {
        return GENARM_OK;
    }
    if (!at->plain) {
        return GENARM_OK; /* log pi is that of another distribution than was drawn from */
    }
    if (isfinite(at->best_of)) { /* whatever other points of the method are */
        c->kl.value = kl_best_of((int64_t)at->best_of);
        return GENARM_OK;
    }
    int rc = kl_per_answer(&c->kl, logprob, base, r->n_prompts, NULL, err);
    return rc ? rc : kl_per_token(&c->kl_token, logprob, base, tokens, r->n_prompts, NULL, err);
}

/* sum of a / sum of b over what has both. */
static double ratio(const double *a, const double *b, size_t n) {
    double above = 0, below = 0;
    for (size_t i = 0; i < n; i++) {
        above += isfinite(a[i] + b[i]) ? a[i] : 0;
        below += isfinite(a[i] + b[i]) ? b[i] : 0;
    }
    return below > 0 ? above / below : NAN;
}

static int work_of(struct numbers *n, size_t cell, struct genarm_error *err) {
    const struct results *r = n->results;
    const struct results_cell *at = &r->cells[cell];
    struct cell_numbers *c = &n->cells[cell];
    const double *tokens = results_column(r, at, RESULTS_TOKENS), *seconds = results_column(r, at, RESULTS_SECONDS);
    double *sum = pool_array(n->pool, r->n_prompts, sizeof *sum), *ms = pool_array(n->pool, r->n_prompts, sizeof *ms);
    int rc = pool_check(n->pool, err);
    for (size_t k = 0; k < NUMBERS_WORK && rc == GENARM_OK; k++) {
        const double *x = results_column(r, at, (enum results_column)(RESULTS_BASE + k));
        c->work[k] = ratio(x, tokens, r->n_prompts);
        for (size_t i = 0; i < r->n_prompts; i++) {
            sum[i] += x[i];
        }
    }
    c->seconds = 0;
    for (size_t i = 0; i < r->n_prompts && rc == GENARM_OK; i++) {
        ms[i] = 1000 * seconds[i];
        c->seconds += isfinite(seconds[i]) ? seconds[i] : 0;
    }
    rc = rc ? rc : bootstrap_ratio(&c->all_work, sum, tokens, r->n_prompts, NULL, err);
    c->ms = (struct interval){ratio(ms, tokens, r->n_prompts), NAN, NAN}; /* prompts do not tell how loaded the machine was */
    return rc;
}

/* Needs the texts of the cell: they are read again, and dropped. */
static int distinct_of(struct numbers *n, size_t cell, FILE *stream, struct genarm_error *err) {
    const struct results *r = n->results;
    const struct results_cell *at = &r->cells[cell];
    char **texts = calloc((size_t)at->n_answers + 1, sizeof *texts);
    size_t count = 0;
    int rc = texts ? GENARM_OK : error_nomem(err, "answers");
    for (size_t i = 0; i < r->n_prompts && rc == GENARM_OK; i++) {
        struct results_texts t = {0};
        if (at->offsets[i] >= 0) {
            rc = results_text(&t, stream, r, at, i, err);
            free(t.prompt);
            texts[count] = t.response;
            count += rc == GENARM_OK;
        }
    }
    for (int k = 1; k <= 2 && rc == GENARM_OK; k++) {
        rc = diversity_distinct_words(&n->cells[cell].distinct[k], (const char *const *)texts, count, k, err);
    }
    for (size_t i = 0; i < count; i++) {
        free(texts[i]);
    }
    free(texts);
    return rc;
}

static int texts_of(struct numbers *n, size_t cell, FILE *stream, struct genarm_error *err) {
    const struct results *r = n->results;
    const struct results_cell *at = &r->cells[cell];
    struct cell_numbers *c = &n->cells[cell];
    struct diversity_counts *counts = pool_array(n->pool, r->n_prompts, sizeof *counts);
    size_t n_counts = 0;
    int rc = pool_check(n->pool, err);
    for (size_t i = 0; i < r->n_prompts && rc == GENARM_OK; i++) {
        if (at->offsets[i] >= 0) {
            counts[n_counts++] = at->counts[i];
        }
    }
    rc = rc ? rc : bootstrap_mean(&c->tokens, results_column(r, at, RESULTS_TOKENS), r->n_prompts, NULL, err);
    rc = rc ? rc : bootstrap_mean(&c->words, results_column(r, at, RESULTS_WORDS), r->n_prompts, NULL, err);
    rc = rc ? rc : bootstrap_mean(&c->finished, results_column(r, at, RESULTS_FINISHED), r->n_prompts, NULL, err);
    rc = rc ? rc : diversity_interval(&c->diversity, counts, n_counts, NULL, err);
    return rc ? rc : distinct_of(n, cell, stream, err);
}

static int gap_of_cell(struct numbers *n, size_t cell, struct genarm_error *err) {
    const struct results *r = n->results;
    if (!n->has_gap) {
        return GENARM_OK;
    }
    const double *x = results_rewards(r, &r->cells[cell], n->gap_reward),
                 *from = results_rewards(r, &r->cells[n->gap_from], n->gap_reward),
                 *to = results_rewards(r, &r->cells[n->gap_to], n->gap_reward);
    return x && from && to ? gap_interval(&n->cells[cell].gap, x, from, to, r->n_prompts, NULL, err) : GENARM_OK;
}

static int cell_numbers(struct numbers *n, size_t cell, FILE *stream, struct genarm_error *err) {
    struct cell_numbers *c = &n->cells[cell];
    c->kl = c->kl_token = c->tokens = c->words = c->finished = c->diversity = c->all_work = c->ms = c->gap = unknown;
    c->work[0] = c->work[1] = c->work[2] = c->work[3] = NAN;
    c->distinct[1] = c->distinct[2] = c->seconds = NAN;
    int rc = rewards_of(n, cell, err);
    if (rc || !n->results->cells[cell].n_answers) {
        return rc;
    }
    rc = kl_of(n, cell, err);
    rc = rc ? rc : work_of(n, cell, err);
    rc = rc ? rc : texts_of(n, cell, stream, err);
    return rc ? rc : gap_of_cell(n, cell, err);
}

/* ---- judges ---- */

static int length_controlled(struct judge_numbers *out, const struct numbers *n, size_t judge, size_t cell,
                             struct genarm_error *err) {
    const struct results *r = n->results;
    const struct results_verdicts *v = &r->judges[judge].cells[cell];
    const size_t against = results_against(r, judge, cell);
    struct length_control_params params = length_control_default_params();
    struct bootstrap_params draws = bootstrap_default_params();
    struct length_control lc;
    struct length_control_row *rows = pool_array(n->pool, r->n_prompts, sizeof *rows);
    const double *ours = results_column(r, &r->cells[cell], RESULTS_CHARS),
                 *theirs = against < r->n_cells ? results_column(r, &r->cells[against], RESULTS_CHARS) : NULL;
    size_t n_rows = 0, judged = 0;
    draws.n_resamples = LENGTH_CONTROL_DRAWS;
    params.bootstrap = &draws;
    for (size_t i = 0; i < r->n_prompts && rows && ours && theirs; i++) {
        if (v->verdicts[i] != RESULTS_NO_VERDICT && isfinite(ours[i]) && isfinite(theirs[i])) {
            const double said = v->verdicts[i] == WIN_RATE_WIN    ? 1
                                : v->verdicts[i] == WIN_RATE_TIE  ? 0.5
                                : v->verdicts[i] == WIN_RATE_LOSE ? 0
                                                                  : NAN;
            const double preference = isfinite(v->preferences[i]) && isfinite(said) ? v->preferences[i] - 1 : said;
            rows[n_rows++] = (struct length_control_row){preference, ours[i], theirs[i], NAN};
            judged += isfinite(preference) ? 1 : 0;
        }
    }
    if (judged < (size_t)params.n_folds) {
        return pool_check(n->pool, err);
    }
    const int rc = length_control_win_rate(&lc, rows, n_rows, &params, err);
    out->length_controlled = rc ? unknown : lc.win_rate;
    return rc;
}

static int judge_cell(struct numbers *n, size_t judge, size_t cell, struct genarm_error *err) {
    const struct results *r = n->results;
    const struct results_verdicts *v = &r->judges[judge].cells[cell];
    struct judge_numbers *out = &n->judges[judge * r->n_cells + cell];
    enum win_rate_verdict *verdicts = pool_array(n->pool, r->n_prompts, sizeof *verdicts);
    double *preferences = pool_array(n->pool, r->n_prompts, sizeof *preferences);
    size_t count = 0;
    out->length_controlled = unknown;
    out->judged = v->n > 0;
    int rc = pool_check(n->pool, err);
    for (size_t i = 0; i < r->n_prompts && rc == GENARM_OK && v->n; i++) {
        if (v->verdicts[i] != RESULTS_NO_VERDICT) {
            verdicts[count] = (enum win_rate_verdict)v->verdicts[i];
            preferences[count++] = v->preferences[i];
            out->has_preferences = out->has_preferences || isfinite(v->preferences[i]);
        }
    }
    if (rc || !out->judged) {
        return rc;
    }
    rc = win_rate_of_verdicts(&out->verdicts, verdicts, count, NULL, err);
    if (rc == GENARM_OK && out->has_preferences) {
        rc = win_rate_of_preferences(&out->preferences, preferences, count, NULL, err);
    }
    return rc ? rc : length_controlled(out, n, judge, cell, err);
}

static int judge_numbers(struct numbers *n, struct genarm_error *err) {
    const struct results *r = n->results;
    n->judges = pool_array(n->pool, r->n_judges * r->n_cells, sizeof *n->judges);
    int rc = pool_check(n->pool, err);
    for (size_t j = 0; j < r->n_judges && rc == GENARM_OK; j++) {
        for (size_t i = 0; i < r->n_cells && rc == GENARM_OK; i++) {
            rc = judge_cell(n, j, i, err);
        }
    }
    return rc;
}

/* ---- trade-offs ---- */

/* The worst point, but for what the experiment says. */
static void set_reference_point(struct numbers *n, const double *points, size_t n_points) {
    const json_t *given = json_object_get(n->results->report, "reference-point");
    pareto_worst(n->reference_point, points, n_points, n->n_objectives);
    n->worst_is_reference = true;
    for (size_t k = 0; k < n->n_objectives; k++) {
        const json_t *value = json_object_get(given, n->results->rewards[n->objectives[k]]);
        if (json_is_number(value)) {
            n->reference_point[k] = json_number_value(value);
            n->worst_is_reference = false;
        }
    }
}

/* Rewards of the n cells from `first` on, of which `which` (NULL: all) says yes, as src/eval/pareto.h wants them. */
static struct pareto_rewards objective_rewards(const struct numbers *n, size_t first, size_t n_cells, const bool *which) {
    const struct results *r = n->results;
    struct pareto_rewards out = {.n_objectives = n->n_objectives, .n_prompts = r->n_prompts};
    double *values = pool_array(n->pool, n_cells * n->n_objectives * r->n_prompts, sizeof *values), *next = values;
    for (size_t i = first; i < first + n_cells && values; i++) {
        for (size_t j = 0; j < n->n_objectives && (!which || which[i]); j++) {
            const double *x = results_rewards(r, &r->cells[i], n->objectives[j]);
            for (size_t k = 0; k < r->n_prompts; k++) {
                *next++ = x ? x[k] : NAN;
            }
        }
        out.n_points += !which || which[i];
    }
    out.rewards = values;
    return out;
}

/* ---- preferences ---- */

/* The weights of a cell by what they sum up to, out[n_objectives]; false where it has none. */
static bool preference_of(const struct numbers *n, size_t cell, double *out) {
    double sum = 0;
    for (size_t j = 0; j < n->n_objectives; j++) {
        out[j] = results_variable(&n->results->cells[cell], n->variables[j]);
        if (!(out[j] >= 0)) {
            return false;
        }
        sum += out[j];
    }
    for (size_t j = 0; j < n->n_objectives; j++) {
        out[j] /= sum;
    }
    return sum > 0;
}

static bool same_preference(const double *a, const double *b, size_t n) {
    double most = 0;
    for (size_t j = 0; j < n; j++) {
        most = fmax(most, fabs(a[j] - b[j]));
    }
    return most < 1e-9;
}

/* n->preferences, and which of them all methods have that have any: means over other ones could not be compared. */
static void read_preferences(struct numbers *n) {
    const struct results *r = n->results;
    const size_t width = n->n_objectives;
    bool *has = pool_array(n->pool, r->n_cells, sizeof *has);
    n->preferences = pool_array(n->pool, r->n_cells * width, sizeof *n->preferences);
    n->compared = pool_array(n->pool, r->n_cells, sizeof *n->compared);
    for (size_t i = 0; i < r->n_cells && has && n->preferences; i++) {
        has[i] = preference_of(n, i, n->preferences + i * width);
    }
    for (size_t i = 0; i < r->n_cells && has && n->preferences && n->compared; i++) {
        n->compared[i] = has[i];
        for (size_t m = 0; m < r->n_methods; m++) {
            const struct results_method *other = &r->methods[m];
            bool any = false, same = false;
            for (size_t k = other->first_cell; k < other->first_cell + other->n_cells; k++) {
                any = any || has[k];
                same = same || (has[k] && same_preference(n->preferences + i * width, n->preferences + k * width, width));
            }
            n->compared[i] = n->compared[i] && (same || !any);
        }
        n->some_not_compared = n->some_not_compared || (has[i] && !n->compared[i]);
    }
}

static int mean_inner_products(struct numbers *n, size_t method, const struct pareto_scale *scale, struct genarm_error *err) {
    const struct results_method *m = &n->results->methods[method];
    struct family_numbers *f = &n->families[method];
    const struct pareto_rewards rewards = objective_rewards(n, m->first_cell, m->n_cells, n->compared);
    double *preferences = pool_array(n->pool, m->n_cells * n->n_objectives, sizeof *preferences), *next = preferences;
    int rc = pool_check(n->pool, err);
    for (size_t i = m->first_cell; i < m->first_cell + m->n_cells && rc == GENARM_OK; i++) {
        for (size_t j = 0; j < n->n_objectives && n->compared[i]; j++) {
            *next++ = n->preferences[i * n->n_objectives + j];
        }
    }
    if (rc || !rewards.n_points) {
        return rc;
    }
    rc = pareto_mip_interval(&f->mip, preferences, &rewards, NULL, NULL, err);
    return rc ? rc : pareto_mip_interval(&f->mip_scaled, preferences, &rewards, scale, NULL, err);
}

/* ---- families ---- */

static int family(struct numbers *n, size_t method, const struct pareto_scale *scale, const double *points,
                  struct genarm_error *err) {
    const struct results_method *m = &n->results->methods[method];
    struct family_numbers *f = &n->families[method];
    const struct pareto_rewards rewards = objective_rewards(n, m->first_cell, m->n_cells, NULL);
    *f = (struct family_numbers){unknown, unknown, unknown, 0};
    for (size_t i = 0; i < m->n_cells; i++) {
        bool whole = true;
        for (size_t k = 0; k < n->n_objectives; k++) {
            whole = whole && isfinite(points[(m->first_cell + i) * n->n_objectives + k]);
        }
        f->n_points += whole;
    }
    int rc = pool_check(n->pool, err);
    if (rc || !f->n_points) {
        return rc;
    }
    rc = pareto_hypervolume_interval(&f->hypervolume, &rewards, n->reference_point, NULL, err);
    return rc ? rc : mean_inner_products(n, method, scale, err);
}

static int trade_offs(struct numbers *n, struct genarm_error *err) {
    const struct results *r = n->results;
    struct pareto_scale scale;
    n->families = pool_array(n->pool, r->n_methods, sizeof *n->families);
    double *points = pool_array(n->pool, r->n_cells * n->n_objectives, sizeof *points);
    int rc = pool_check(n->pool, err);
    if (rc || !n->n_objectives || !r->n_prompts) {
        return rc;
    }
    for (size_t i = 0; i < r->n_cells * n->n_objectives; i++) {
        points[i] = n->cells[i / n->n_objectives].rewards[n->objectives[i % n->n_objectives]].value;
    }
    set_reference_point(n, points, r->n_cells);
    pareto_scale_of(&scale, points, r->n_cells, n->n_objectives);
    read_preferences(n);
    for (size_t i = 0; i < r->n_methods && rc == GENARM_OK; i++) {
        rc = family(n, i, &scale, points, err);
    }
    return rc;
}

/* ---- all ---- */

const char *numbers_pairs_name(const struct numbers *n, size_t pairs) {
    const struct results_pairs *p = &n->results->pairs[pairs];
    return *p->label ? pool_text(n->pool, "%s %s", p->name, p->label) : p->name;
}

static int pair_numbers(struct numbers *n, struct genarm_error *err) {
    n->pairs = pool_array(n->pool, n->results->n_pairs, sizeof *n->pairs);
    n->scales = pool_array(n->pool, n->results->n_pairs, sizeof *n->scales);
    int rc = pool_check(n->pool, err);
    for (size_t i = 0; i < n->results->n_pairs && rc == GENARM_OK; i++) {
        const struct results_pairs *p = &n->results->pairs[i];
        struct calibration_params params = calibration_default_params();
        params.scale = n->scales[i] = isfinite(p->scale) && p->scale > 0 ? p->scale : 1;
        rc = calibration_of_margins(&n->pairs[i], p->margins, p->n, &params, err);
    }
    return rc;
}

int numbers_make(struct numbers *out, const struct results *r, struct pool *pool, struct genarm_error *err) {
    FILE *stream = fopen(r->path, "rbe");
    if (!stream) {
        return error_at(err, error_set(err, GENARM_EIO, "cannot open the file again"), "%s", r->path);
    }
    *out = (struct numbers){.results = r, .pool = pool};
    if (r->n_files) {
        note(out, pool_text(pool, "Unfinished: %zu of %zu files are made.", r->n_done, r->n_files));
    }
    read_options(out);
    out->cells = pool_array(pool, r->n_cells, sizeof *out->cells);
    int rc = pool_check(pool, err);
    for (size_t i = 0; i < r->n_cells && rc == GENARM_OK; i++) {
        rc = cell_numbers(out, i, stream, err);
    }
    fclose(stream);
    rc = rc ? rc : judge_numbers(out, err);
    rc = rc ? rc : pair_numbers(out, err);
    return rc ? rc : trade_offs(out, err);
}
