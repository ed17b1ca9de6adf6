/* Judges: from a spec to one of the kinds, the orders in which answers are shown, and what several verdicts on a pair come to. */
#include "eval/judge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "eval/judge_kinds.h"

#define PROGRAM_PREFIX "pairwise:"

struct judge {
    struct source_spec spec; /* of a program: as cmd: */
    struct source_params source;
    struct judge_params params;
    const struct judge_vtable *vtable;
    void *self; /* of the kind */
};

struct judge_params judge_default_params(void) {
    return (struct judge_params){.source = genarm_source_default_params(), .n_logprobs = 5};
}

const char *judge_outcome_name(enum judge_outcome outcome) {
    static const char *const names[] = {"invalid", "a", "b", "tie"};
    return names[outcome];
}

/* ---- making ---- */

bool judge_spec_is_program(const char *spec) { return strncmp(spec, PROGRAM_PREFIX, strlen(PROGRAM_PREFIX)) == 0; }

static int parse_spec(struct source_spec *out, const char *spec, struct genarm_error *err) {
    char *text = NULL;
    if (!judge_spec_is_program(spec)) {
        return source_spec_parse(out, spec, file_exists, err);
    }
    if (asprintf(&text, "cmd:%s ", spec + strlen(PROGRAM_PREFIX)) < 0) { /* a blank: nothing of it is a weight */
        return error_nomem(err, "arguments");
    }
    const int rc = source_spec_parse(out, text, file_exists, err);
    if (rc == GENARM_OK) {
        char *const parts[] = {out->part.path, out->part.name};
        for (size_t i = 0; i < 2; i++) {
            const size_t n = strlen(parts[i]);
            parts[i][n - (n > 1 && parts[i][n - 1] == ' ')] = '\0';
        }
    }
    free(text);
    return rc;
}

bool judge_spec_needs_base(const char *spec) {
    struct source_spec parsed = {0};
    const bool read = !judge_spec_is_program(spec) && parse_spec(&parsed, spec, NULL) == GENARM_OK;
    const bool needs = read && parsed.kind != SOURCE_CMD && parsed.kind != SOURCE_OPENAI && parsed.kind != SOURCE_RANK;
    source_spec_deinit(&parsed);
    return needs;
}

static int check_weight(const struct source_spec *spec, struct genarm_error *err) {
    return spec->part.weight < 1 || spec->part.weight > 1 ? error_set(err, GENARM_EINVAL, "a weight has no meaning here")
                                                          : GENARM_OK;
}

int judge_spec_check(const char *spec, struct genarm_error *err) {
    struct source_spec parsed = {0};
    int rc = parse_spec(&parsed, spec, err);
    rc = rc == GENARM_OK ? check_weight(&parsed, err) : rc;
    source_spec_deinit(&parsed);
    return rc;
}

static int check_params(const struct judge_params *p, struct genarm_error *err) {
    if (!(p->tie_margin >= 0) || !isfinite(p->tie_margin) || p->n_logprobs < 0 || p->n_logprobs > 1000) {
        return error_set(err, GENARM_EINVAL, "a margin of %g, %d log-probabilities: out of range", p->tie_margin, p->n_logprobs);
    }
    return source_params_check(&p->source, err);
}

static int open_kind(struct judge *j, const char *spec, const struct genarm_model *base, struct genarm_error *err) {
    const int rc = check_weight(&j->spec, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (judge_spec_is_program(spec)) {
        return judge_program_new(&j->vtable, &j->self, j->spec.part.path, &j->params, err);
    }
    return j->spec.kind == SOURCE_OPENAI ? judge_chat_new(&j->vtable, &j->self, &j->spec, &j->params, err)
                                         : judge_reward_new(&j->vtable, &j->self, spec, base, &j->params, err);
}

int judge_new(struct judge **out, const char *spec, const struct genarm_model *base, const struct judge_params *params,
              struct genarm_error *err) {
    struct judge *j = calloc(1, sizeof *j);
    if (!j) {
        return error_nomem(err, "a judge");
    }
    j->params = params ? *params : judge_default_params();
    int rc = check_params(&j->params, err);
    rc = rc == GENARM_OK ? source_params_copy(&j->source, &j->params.source, err) : rc;
    j->params.source = j->source.p;
    rc = rc == GENARM_OK ? parse_spec(&j->spec, spec, err) : rc;
    rc = rc == GENARM_OK ? open_kind(j, spec, base, err) : rc;
    if (rc != GENARM_OK) {
        judge_free(j);
        return error_at(err, rc, "judge \"%s\"", spec);
    }
    *out = j;
    return GENARM_OK;
}

void judge_free(struct judge *j) {
    if (j) {
        if (j->vtable) {
            j->vtable->free(j->self);
        }
        source_spec_deinit(&j->spec);
        source_params_deinit(&j->source);
        free(j);
    }
}

const char *judge_name(const struct judge *j) { return j->spec.part.name; }

struct genarm_judge_stats judge_get_stats(const struct judge *j) {
    return j->vtable->stats ? j->vtable->stats(j->self) : (struct genarm_judge_stats){0};
}

/* ---- orders ---- */

const struct judge_pair *judge_question(const struct judge_round *r, size_t question, int *first) {
    const struct judge_pair *pair = &r->batch->pairs[question / r->per_pair];
    switch (r->params->order) {
    case JUDGE_BOTH:
        *first = (int)(question % r->per_pair);
        break;
    case JUDGE_RANDOM:
        *first = (int)(rng_hash(r->params->seed, pair->number, 0) >> 63);
        break;
    case JUDGE_GIVEN:
        *first = 0;
        break;
    }
    return pair;
}

/* ---- verdicts ---- */

static double preference_of(enum judge_outcome outcome) {
    return outcome == JUDGE_A ? 2 : outcome == JUDGE_B ? 1 : outcome == JUDGE_TIE ? 1.5 : NAN;
}

/* What was said, of A and B instead of first and second. */
static void read_answer(struct judge_showing *s, const struct judge_answer *a) {
    const enum judge_outcome places[2] = {s->first ? JUDGE_B : JUDGE_A, s->first ? JUDGE_A : JUDGE_B};
    s->outcome = a->said == SAID_FIRST    ? places[0]
                 : a->said == SAID_SECOND ? places[1]
                 : a->said == SAID_EQUAL  ? JUDGE_TIE
                                          : JUDGE_INVALID;
    s->preference = preference_of(s->outcome);
    if (s->outcome != JUDGE_INVALID && !isnan(a->p_first)) {
        s->preference = s->first ? 2 - a->p_first : 1 + a->p_first;
    }
}

/* What the showings come to: agreement wins, disagreement is a tie, what is not known is not guessed. */
static void combine(struct judge_verdict *v) {
    double sum = 0;
    v->outcome = v->showings[0].outcome;
    for (size_t i = 0; i < v->n_showings; i++) {
        const enum judge_outcome o = v->showings[i].outcome;
        v->outcome = o == JUDGE_INVALID || v->outcome == JUDGE_INVALID ? JUDGE_INVALID : o != v->outcome ? JUDGE_TIE : o;
        sum += v->showings[i].preference;
    }
    v->preference = sum / (double)v->n_showings; /* NaN if one is */
}

static void free_texts(struct judge_verdict *v) {
    for (size_t i = 0; i < 2; i++) {
        free(v->showings[i].reply);
        free(v->showings[i].refusal);
        v->showings[i].reply = v->showings[i].refusal = NULL;
    }
}

static bool keep_text(char **out, const char *text) {
    *out = text ? strdup(text) : NULL;
    return !text || *out;
}

int judge_answered(struct judge_round *r, size_t question, const struct judge_answer *a, struct genarm_error *err) {
    const size_t pair = question / r->per_pair, place = question % r->per_pair;
    struct judge_verdict *v = &r->verdicts[pair];
    struct judge_showing *s = &v->showings[place];
    judge_question(r, question, &s->first);
    if (!keep_text(&s->reply, a->reply) || !keep_text(&s->refusal, a->refusal)) {
        return error_nomem(err, "a verdict");
    }
    read_answer(s, a);
    v->prompt_tokens += a->prompt_tokens;
    v->completion_tokens += a->completion_tokens;
    v->n_showings++;
    if (v->n_showings < r->per_pair) {
        return GENARM_OK;
    }
    combine(v);
    const int rc = r->batch->take(pair, v, r->batch->user, err);
    free_texts(v);
    return rc;
}

/* The pairs of a batch that a judge need see. */
struct selection {
    const struct judge_batch *batch;
    struct judge_pair *pairs; /* [n] */
    size_t *numbers, n;       /* [n] their places in the batch */
};

static bool is_same(const struct judge_pair *p) {
    return strcmp(p->texts[0], p->texts[1]) == 0 && p->finished[0] == p->finished[1];
}

/* The same answer twice is a tie, whatever a judge's mood or rounding would say. */
static int select_pairs(struct selection *s, struct genarm_error *err) {
    const struct judge_verdict tie = {.outcome = JUDGE_TIE, .preference = 1.5, .rewards = {NAN, NAN}, .same = true};
    int rc = GENARM_OK;
    for (size_t i = 0; i < s->batch->n && rc == GENARM_OK; i++) {
        if (is_same(&s->batch->pairs[i])) {
            rc = s->batch->take(i, &tie, s->batch->user, err);
        } else {
            s->pairs[s->n] = s->batch->pairs[i];
            s->numbers[s->n++] = i;
        }
    }
    return rc;
}

static int take_selected(size_t i, const struct judge_verdict *v, void *user, struct genarm_error *err) {
    const struct selection *s = user;
    return s->batch->take(s->numbers[i], v, s->batch->user, err);
}

static int ask(struct judge *j, const struct judge_batch *batch, size_t *at, struct genarm_error *err) {
    const size_t per_pair = j->params.order == JUDGE_BOTH ? 2 : 1;
    struct judge_round r = {.params = &j->params, .batch = batch, .per_pair = per_pair, .n_questions = per_pair * batch->n};
    r.verdicts = calloc(batch->n + 1, sizeof *r.verdicts);
    int rc = r.verdicts ? GENARM_OK : error_nomem(err, "verdicts");
    for (size_t i = 0; i < batch->n && rc == GENARM_OK; i++) {
        r.verdicts[i].rewards[0] = r.verdicts[i].rewards[1] = NAN;
    }
    if (rc == GENARM_OK && batch->n > 0) {
        rc = j->vtable->run(j->self, &r, at, err);
    }
    for (size_t i = 0; i < batch->n && r.verdicts; i++) {
        free_texts(&r.verdicts[i]);
    }
    free(r.verdicts);
    return rc;
}

int judge_run(struct judge *j, const struct judge_batch *batch, size_t *at, struct genarm_error *err) {
    struct selection s = {.batch = batch,
                          .pairs = calloc(batch->n + 1, sizeof *s.pairs),
                          .numbers = calloc(batch->n + 1, sizeof *s.numbers)};
    size_t asked = 0;
    int rc = s.pairs && s.numbers ? select_pairs(&s, err) : error_nomem(err, "pairs");
    if (rc == GENARM_OK) {
        rc = ask(j, &(struct judge_batch){s.pairs, s.n, take_selected, &s}, &asked, err);
    }
    *at = asked < s.n ? s.numbers[asked] : batch->n;
    free(s.pairs);
    free(s.numbers);
    return rc;
}
