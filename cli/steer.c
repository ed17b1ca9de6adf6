/* See steer.h. */
#include "steer.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tell.h"

enum { GRAMMAR_MAX_BYTES = 1 << 24 };

/* ---- texts ---- */

/* One POS:X at *text, which moves past it and a comma. */
static bool read_knot(struct genarm_knot *k, const char **text) {
    char *end;
    errno = 0;
    const long position = strtol(*text, &end, 10);
    const bool ok = end != *text && *end == ':' && **text >= '0' && **text <= '9' && !errno && position <= INT32_MAX;
    const char *number = end + 1;
    if (!ok) {
        return false;
    }
    *k = (struct genarm_knot){(int32_t)position, strtof(number, &end)};
    if (end == number || (*end && *end != ',') || (*end == ',' && !end[1]) || !isfinite(k->factor)) {
        return false;
    }
    *text = end + (*end == ',');
    return true;
}

int steer_read_knots(struct genarm_knot **knots, size_t *n, const char *text, struct genarm_error *err) {
    struct genarm_knot *all = calloc(strlen(text) / 2 + 1, sizeof *all); /* a knot has three characters at least */
    const char *cursor = text;
    size_t found = 0;
    if (!all) {
        return error_nomem(err, "a schedule");
    }
    do {
        if (!read_knot(&all[found++], &cursor)) {
            free(all);
            const int code = error_set(err, CLI_USAGE, "\"%.60s\" is no list of POSITION:FACTOR", text);
            return error_hint(err, code, "as in 0:1,32:0: factor 1 at the first token of the answer, falling to 0 at the 33rd");
        }
    } while (*cursor);
    *knots = all;
    *n = found;
    return 0;
}

int steer_read_bias(struct genarm_token_bias *out, const char *text, struct genarm_error *err) {
    char *sign, *end = NULL;
    errno = 0;
    const long token = strtol(text, &sign, 10);
    const bool has_token = *text >= '0' && *text <= '9' && !errno && token <= INT32_MAX && (*sign == '+' || *sign == '-');
    const float bias = has_token ? strtof(sign, &end) : NAN;
    if (!has_token || *end || end == sign || !(bias < INFINITY)) {
        const int code = error_set(err, CLI_USAGE, "\"%.60s\" is not TOKEN_ID(+/-)BIAS", text);
        return error_hint(err, code, "as in 15043+1.5 or, to forbid the token, 15043-inf; genarm score shows ids");
    }
    *out = (struct genarm_token_bias){(int32_t)token, bias};
    return 0;
}

/* ---- loading ---- */

static int load_schedules(struct steer *s, const struct option_list *texts, const struct genarm_guide *guide,
                          struct genarm_error *err) {
    int code = 0;
    s->schedules = calloc(texts->n + 1, sizeof *s->schedules);
    if (!s->schedules) {
        return error_nomem(err, "schedules");
    }
    for (size_t i = 0; i < texts->n && code == 0; i++) {
        struct steer_schedule *schedule = &s->schedules[s->n_schedules];
        const char *text = texts->items[i], *equals = strrchr(text, '='); /* a list has none, a name may */
        char *name = equals ? strndup(text, (size_t)(equals - text)) : NULL;
        schedule->arm = name ? genarm_guide_find_arm(guide, name) : -1;
        free(name);
        if (!equals) {
            code = usage_error(err, "--arm-schedule", "\"%.60s\" is not NAME=POS:X,...", text);
        } else if (schedule->arm < 0) {
            code = usage_error(err, "--arm-schedule", "no --arm is called \"%.*s\"", (int)(equals - text), text);
        } else {
            code = error_at(err, steer_read_knots(&schedule->knots, &schedule->n, equals + 1, err), "--arm-schedule");
            s->n_schedules += code == 0;
        }
    }
    return code;
}

static int load_biases(struct steer *s, const struct option_list *texts, struct genarm_error *err) {
    int code = 0;
    s->biases = calloc(texts->n + 1, sizeof *s->biases);
    if (!s->biases) {
        return error_nomem(err, "biases");
    }
    for (size_t i = 0; i < texts->n && code == 0; i++) {
        code = error_at(err, steer_read_bias(&s->biases[s->n_biases++], texts->items[i], err), "--logit-bias");
    }
    return code;
}

/* The option that a grammar comes from, "" if there is none; two are a mistake. */
static int choose_grammar(const char **option, const struct steer_args *args, struct genarm_error *err) {
    const struct {
        const char *option, *value;
    } all[] = {{"--grammar", args->grammar},
               {"--grammar-file", args->grammar_file},
               {"--json-schema", args->json_schema},
               {"--json-schema-file", args->json_schema_file}};
    *option = "";
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i].value && **option) {
            return usage_error(err, *option, "there is one grammar or schema: leave out %s", all[i].option);
        }
        *option = all[i].value ? all[i].option : *option;
    }
    return 0;
}

static int read_text(struct buf *text, const char *path, const char *what, struct genarm_error *err) {
    const int code = file_read(text, path, err);
    return code == 0 && text->len > 0 && strlen(text->data) != text->len
               ? error_set(err, GENARM_EFORMAT, "there is a zero byte in the %s", what)
               : code;
}

static int load_grammar(struct steer *s, const struct steer_args *args, const struct genarm_model *base,
                        struct genarm_error *err) {
    const bool is_schema = args->json_schema || args->json_schema_file;
    const char *path = is_schema ? args->json_schema_file : args->grammar_file, *option;
    const char *given = is_schema ? args->json_schema : args->grammar;
    char *gbnf = NULL;
    struct buf text;
    int code = choose_grammar(&option, args, err);
    if (code != 0 || !*option) {
        return code;
    }
    buf_init(&text, GRAMMAR_MAX_BYTES);
    code = path ? read_text(&text, path, is_schema ? "schema" : "grammar", err) : 0;
    given = path ? (text.data ? text.data : "") : given;
    if (code == 0 && is_schema) {
        code = genarm_schema_to_gbnf(&gbnf, given, err);
    }
    if (code == 0) {
        code = genarm_grammar_new(&s->grammar, base, is_schema ? gbnf : given, err);
    }
    free(gbnf);
    buf_deinit(&text);
    return error_at(err, code, "%s", path ? path : option);
}

int steer_load(struct steer *s, const struct steer_args *args, int32_t n_logprobs, const struct genarm_guide *guide,
               const struct genarm_model *base, struct genarm_error *err) {
    *s = (struct steer){.min_entropy = (float)args->min_entropy, .n_logprobs = n_logprobs};
    int code = load_schedules(s, &args->schedules, guide, err);
    code = code ? code : load_biases(s, &args->biases, err);
    code = code ? code : load_grammar(s, args, base, err);
    if (code == 0) {
        code = error_at(err, genarm_stop_new(&s->stop, args->stops.items, args->stops.n, err), "--stop");
    }
    if (code == GENARM_EINVAL && err) {
        err->code = code = CLI_USAGE;
    }
    return code;
}

void steer_free(struct steer *s) {
    for (size_t i = 0; i < s->n_schedules; i++) {
        free(s->schedules[i].knots);
    }
    free(s->schedules);
    free(s->biases);
    genarm_grammar_free(s->grammar);
    genarm_stop_free(s->stop);
    *s = (struct steer){0};
}

int steer_session(const struct steer *s, struct genarm_session *session, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < s->n_schedules && code == 0; i++) {
        const struct steer_schedule *one = &s->schedules[i];
        code = error_at(err, genarm_session_set_schedule(session, one->arm, one->knots, one->n, err), "--arm-schedule");
    }
    if (code == 0) {
        code = error_at(err, genarm_session_set_bias(session, s->biases, s->n_biases, err), "--logit-bias");
    }
    if (code == GENARM_EINVAL && err) { /* what is out of range there was typed here */
        err->code = code = CLI_USAGE;
    }
    code = code ? code : genarm_session_set_min_entropy(session, s->min_entropy, err);
    code = code ? code : genarm_session_set_grammar(session, s->grammar, err);
    return code ? code : genarm_session_keep_logprobs(session, s->n_logprobs, err);
}
