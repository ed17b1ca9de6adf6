/* pairwise: a program that is asked which of two answers is better, one JSON line a question (docs/judge.md). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "eval/judge_kinds.h"
#include "reward/line_program.h"

struct judge_program {
    struct line_program program;
};

struct judge_program_round {
    struct judge_program *j;
    struct judge_round *r;
};

static int judge_program_ask(size_t question, struct buf *line, void *user, struct genarm_error *err) {
    const struct judge_program_round *p = user;
    int first;
    const struct judge_pair *pair = judge_question(p->r, question, &first);
    json_t *json = line_program_prompt(pair->messages, pair->n_messages);
    const bool ok = json && json_object_set_new(json, "a", text_json(pair->texts[first])) == 0 &&
                    json_object_set_new(json, "b", text_json(pair->texts[!first])) == 0;
    const int rc = ok ? json_dump(line, json, err) : error_nomem(err, "a question");
    json_decref(json);
    return rc;
}

static const char *const said_names[] = {"", "a", "b", "tie"}; /* by what is said */

/* Whether n bytes are one of the three words; blanks around it do not count. */
static bool read_word(struct judge_answer *out, const char *word, size_t n) {
    const size_t blanks = strspn(word, " \t");
    word += blanks;
    n -= blanks;
    while (n > 0 && strchr(" \t\r", word[n - 1])) {
        n--;
    }
    for (int i = SAID_FIRST; i <= SAID_EQUAL; i++) {
        if (strlen(said_names[i]) == n && memcmp(word, said_names[i], n) == 0) {
            out->said = i == SAID_FIRST ? SAID_FIRST : i == SAID_SECOND ? SAID_SECOND : SAID_EQUAL;
            return true;
        }
    }
    return false;
}

/* A string, or an object with such a verdict and perhaps a preference for a, from 1 (none) to 2. */
static void read_json(struct judge_answer *out, const json_t *json) {
    const char *verdict = json_string_value(json_is_object(json) ? json_object_get(json, "verdict") : json);
    const json_t *preference = json_object_get(json, "preference");
    if (verdict) {
        read_word(out, verdict, strlen(verdict));
    }
    if (json_is_number(preference) && json_number_value(preference) >= 1 && json_number_value(preference) <= 2) {
        out->p_first = json_number_value(preference) - 1;
    }
}

static int judge_program_take(size_t question, const char *line, size_t n, void *user, struct genarm_error *err) {
    struct judge_program_round *p = user;
    struct judge_answer answer = {.reply = line, .p_first = NAN};
    struct genarm_error why = {0};
    json_t *json = NULL;
    if (read_word(&answer, line, n)) {
        return judge_answered(p->r, question, &answer, err);
    }
    int rc = json_parse(&json, line, n, "", &why);
    if (rc == GENARM_OK) {
        read_json(&answer, json);
        rc = judge_answered(p->r, question, &answer, err);
    } else {
        rc = rc == GENARM_ENOMEM ? error_nomem(err, "an answer") : line_program_refuse(&p->j->program, line, n, why.what, err);
    }
    json_decref(json);
    return rc;
}

static int judge_program_run(void *self, struct judge_round *r, size_t *at, struct genarm_error *err) {
    struct judge_program_round p = {self, r};
    const struct line_batch lines = {
        .n = r->n_questions, .ask = judge_program_ask, .take = judge_program_take, .user = &p};
    const int rc = line_program_run(&p.j->program, &lines, at, err);
    *at /= r->per_pair;
    if (rc == GENARM_OK) {
        *at = r->batch->n;
        return line_program_finish(&p.j->program, err);
    }
    return rc;
}

static void judge_program_free(void *self) {
    struct judge_program *j = self;
    if (j) {
        line_program_deinit(&j->program);
        free(j);
    }
}

static const struct judge_vtable judge_program_vtable = {.run = judge_program_run, .free = judge_program_free};

int judge_program_new(const struct judge_vtable **vtable, void **self, const char *command,
                      const struct judge_params *params, struct genarm_error *err) {
    struct judge_program *j = calloc(1, sizeof *j);
    int rc = j ? line_program_init(&j->program, command, "{\"verdict\": \"a\"}, \"b\" or \"tie\"", &params->source, err)
               : error_nomem(err, "a judge");
    if (rc != GENARM_OK) {
        judge_program_free(j);
        return rc;
    }
    *vtable = &judge_program_vtable;
    *self = j;
    return GENARM_OK;
}
