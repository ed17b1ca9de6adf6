/* cmd: a program that is asked by JSON lines, one line a sample, and answers with a line each, in order (docs/reward.md). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "reward/line_program.h"
#include "reward/source.h"

struct command {
    struct line_program program;
};

/* One batch under way. */
struct batch {
    const struct command *command;
    const struct genarm_sample *samples;
    double *values;
};

/* ---- requests ---- */

static int write_request(size_t i, struct buf *line, void *user, struct genarm_error *err) {
    const struct genarm_sample *s = &((const struct batch *)user)->samples[i];
    json_t *json = line_program_prompt(s->messages, s->n_messages);
    const bool ok = json && json_object_set_new(json, "response", text_json(s->response)) == 0 &&
                    json_object_set_new(json, "finished", json_boolean(s->finished)) == 0;
    const int rc = ok ? json_dump(line, json, err) : error_nomem(err, "a request");
    json_decref(json);
    return rc;
}

/* ---- answers ---- */

/* A number as programs print it that know no JSON: ".5", "+1", "nan". */
static bool plain_number(double *value, const char *line) {
    char *end;
    *value = strtod(line, &end);
    return end != line && end[strspn(end, " \t\r")] == '\0';
}

static int take_answer(size_t i, const char *line, size_t n, void *user, struct genarm_error *err) {
    const struct batch *b = user;
    const struct line_program *p = &b->command->program;
    double *value = &b->values[i];
    json_t *json = NULL;
    struct genarm_error why = {0};
    int rc = json_parse(&json, line, n, "", &why);
    const json_t *reward = json_is_object(json) ? json_object_get(json, "reward") : json;
    if (rc == GENARM_ENOMEM) {
        rc = error_nomem(err, "an answer");
    } else if (json_is_number(reward)) {
        *value = json_number_value(reward);
        rc = GENARM_OK;
    } else if (json || !plain_number(value, line)) {
        rc = line_program_refuse(p, line, n, line[strspn(line, " \t")] == '{' && !json ? why.what : "this is no reward", err);
    } else {
        rc = isfinite(*value) ? GENARM_OK : line_program_refuse(p, line, n, "this is no finite number", err);
    }
    json_decref(json);
    return rc;
}

static int command_score(void *self, const struct genarm_sample *samples, size_t n, double *values, size_t *at,
                         struct genarm_error *err) {
    struct command *c = self;
    struct batch b = {.command = c, .samples = samples, .values = values};
    const struct line_batch lines = {.n = n, .ask = write_request, .take = take_answer, .user = &b};
    return line_program_run(&c->program, &lines, at, err);
}

static int command_finish(void *self, struct genarm_error *err) {
    struct command *c = self;
    return line_program_finish(&c->program, err);
}

/* ---- making ---- */

static void command_free(void *self) {
    struct command *c = self;
    if (c) {
        line_program_deinit(&c->program);
        free(c);
    }
}

static const struct source_vtable command_vtable = {.score = command_score, .finish = command_finish, .free = command_free};

int command_new(const struct source_vtable **vtable, void **self, const struct source_spec *spec,
                const struct genarm_model *base, const struct genarm_source_params *params, struct genarm_error *err) {
    (void)base;
    struct command *c = calloc(1, sizeof *c);
    if (!c) {
        return error_nomem(err, "a reward source");
    }
    const int rc = line_program_init(&c->program, spec->part.path, "a number or {\"reward\": number}", params, err);
    if (rc != GENARM_OK) {
        command_free(c);
        return rc;
    }
    *vtable = &command_vtable;
    *self = c;
    return GENARM_OK;
}
