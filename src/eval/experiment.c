/* See experiment.h. */
#include "eval/experiment.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/names.h"

enum { MAX_NAMES = 512 /* among which the nearest is sought */ };

static const char *const top_keys = "title about model seed options sweeps models prompts methods rewards judges accuracy report";
static const char *const report_keys = "objectives reference gap kl reference-point";
static const char *const commands = "train rl merge generate score judge";
static const char *const file_commands = "train rl merge"; /* that make models */

/* Sections of parts; the keys of ours in each. */
static const struct section {
    const char *key, *name, *command, *own;
} sections[] = {
    [PART_MODEL] = {"models", "model", NULL, "sweep train rl merge"},
    [PART_METHOD] = {"methods", "method", "generate", "label sweep"},
    [PART_REWARD] = {"rewards", "reward", "score", "files"},
    [PART_JUDGE] = {"judges", "judge", "judge", "label against methods files"},
    [PART_ACCURACY] = {"accuracy", "accuracy", "score", "sweep"},
};
enum { N_SECTIONS = sizeof sections / sizeof *sections };

const char *part_section(enum part_kind kind) { return sections[kind].key; }

static bool among(const char *names, const char *text) {
    char name[NAME_MAX_LENGTH];
    while (next_name(&names, ' ', name, sizeof name)) {
        if (strcmp(name, text) == 0) {
            return true;
        }
    }
    return false;
}

bool part_own_key(const struct part *p, const char *key) { return among(sections[p->kind].own, key); }

/* ---- keys ---- */

static int unknown_key(const struct yaml_value *key, const char *names, const char *what, struct genarm_error *err) {
    char near[NAME_MAX_LENGTH];
    if (nearest_name(key->text, &names, 1, near, sizeof near)) {
        return yaml_error(key, err, "unknown %s \"%.60s\"; did you mean \"%s\"?", what, key->text, near);
    }
    return error_hint(err, yaml_error(key, err, "unknown %s \"%.60s\"", what, key->text), "there is: %s", names);
}

static int check_keys(const struct yaml_value *map, const char *names, const char *what, struct genarm_error *err) {
    for (size_t i = 0; i < map->n; i++) {
        if (!among(names, map->keys[i].text)) {
            return unknown_key(&map->keys[i], names, what, err);
        }
    }
    return 0;
}

/* A section that is empty is one that is not there. */
static const struct yaml_value *get_section(const struct yaml_value *map, const char *key) {
    const struct yaml_value *v = yaml_get(map, key);
    return v && yaml_is_null(v) ? NULL : v;
}

static int opt_text(const char **out, const struct yaml_value *map, const char *key, struct genarm_error *err) {
    const struct yaml_value *v = get_section(map, key);
    return v ? yaml_text(out, v, key, err) : 0;
}

/* ---- names ---- */

const struct part *experiment_find(const struct experiment *e, enum part_kind kind, const char *name) {
    for (size_t i = 0; i < e->n; i++) {
        if (e->parts[i].kind == kind && strcmp(e->parts[i].name, name) == 0) {
            return &e->parts[i];
        }
    }
    return NULL;
}

int experiment_unknown(const struct experiment *e, enum part_kind kind, const struct yaml_value *at, const char *name,
                       const char *what, struct genarm_error *err) {
    const char *names[MAX_NAMES];
    char near[NAME_MAX_LENGTH];
    size_t n = 0;
    for (size_t i = 0; i < e->n && n < MAX_NAMES; i++) {
        if (e->parts[i].kind == kind) {
            names[n++] = e->parts[i].name;
        }
    }
    if (nearest_name(name, names, n, near, sizeof near)) {
        return yaml_error(at, err, "there is no %s \"%.60s\"; did you mean \"%s\"?", what, name, near);
    }
    return yaml_error(at, err, "there is no %s \"%.60s\"", what, name);
}

static int check_name(const struct yaml_value *key, enum part_kind kind, struct genarm_error *err) {
    const char *name = key->text;
    const size_t n = strlen(name);
    bool good = n > 0 && n < 48 && (kind == PART_MODEL ? isalpha((unsigned char)*name) : isalnum((unsigned char)*name));
    for (size_t i = 0; i < n; i++) {
        good = good && (isalnum((unsigned char)name[i]) || name[i] == '_' || name[i] == '-');
    }
    if (!good) {
        return yaml_error(key, err, "\"%.60s\" is no name: up to 47 letters, digits, - and _, beginning with a letter", name);
    }
    if (kind == PART_MODEL && strcmp(name, "model") == 0) {
        return yaml_error(key, err, "$model is the base: another name is needed");
    }
    return 0;
}

/* ---- sweeps ---- */

static int add_variables(struct experiment *e, const struct sweep *s, struct genarm_error *err) {
    const struct point *p = &s->points[0];
    for (size_t i = 0; i < p->n; i++) {
        bool known = false;
        for (size_t j = 0; j < e->n_variables && !known; j++) {
            known = strcmp(e->variables[j], p->bindings[i].name) == 0;
        }
        const char **variables = known ? e->variables : realloc(e->variables, (e->n_variables + 1) * sizeof *variables);
        if (!variables) {
            return error_nomem(err, "variables");
        }
        e->variables = variables;
        if (!known) {
            variables[e->n_variables++] = p->bindings[i].name;
        }
    }
    return 0;
}

static int named_sweep(struct sweep *out, const struct yaml_value *sweeps, const struct yaml_value *v,
                       struct genarm_error *err) {
    const char *names[MAX_NAMES];
    char near[NAME_MAX_LENGTH];
    const struct yaml_value *found = yaml_get(sweeps, v->text);
    const size_t n = sweeps && sweeps->n < MAX_NAMES ? sweeps->n : 0;
    if (found) {
        return sweep_read(out, found, err);
    }
    for (size_t i = 0; i < n; i++) {
        names[i] = sweeps->keys[i].text;
    }
    if (nearest_name(v->text, names, n, near, sizeof near)) {
        return yaml_error(v, err, "there is no sweep \"%.60s\"; did you mean \"%s\"?", v->text, near);
    }
    return yaml_error(v, err, "there is no sweep \"%.60s\"", v->text);
}

/* A part's sweep: a name, names whose product it is, or points. */
static int read_sweep(struct sweep *out, const struct yaml_value *sweeps, const struct yaml_value *v,
                      struct genarm_error *err) {
    if (!v || yaml_is_null(v)) {
        return sweep_none(out, err);
    }
    if (v->kind == YAML_TEXT) {
        return named_sweep(out, sweeps, v, err);
    }
    if (v->kind == YAML_MAP || v->n == 0 || v->items[0].kind != YAML_TEXT) {
        return sweep_read(out, v, err);
    }
    int code = sweep_none(out, err);
    for (size_t i = 0; i < v->n && code == 0; i++) {
        struct sweep one = {0}, both = {0};
        code = v->items[i].kind == YAML_TEXT ? named_sweep(&one, sweeps, &v->items[i], err)
                                             : yaml_error(&v->items[i], err, "the name of a sweep is a text");
        code = code ? code : sweep_product(&both, out, &one, v, err);
        sweep_deinit(&one);
        if (code == 0) {
            sweep_deinit(out);
            *out = both;
        }
    }
    return code;
}

static int check_sweeps(struct experiment *e, const struct yaml_value *sweeps, struct genarm_error *err) {
    int code = sweeps ? yaml_map(sweeps, "sweeps", err) : 0;
    for (size_t i = 0; sweeps && i < sweeps->n && code == 0; i++) {
        struct sweep s = {0};
        code = sweep_read(&s, &sweeps->items[i], err);
        code = code ? code : add_variables(e, &s, err);
        sweep_deinit(&s);
    }
    return code;
}

/* ---- parts ---- */

/* The one command that makes a model, and its options. */
static int read_model(struct part *p, const struct yaml_value *v, struct genarm_error *err) {
    int code = check_keys(v, sections[PART_MODEL].own, "key of a model", err);
    for (size_t i = 0; i < v->n && code == 0; i++) {
        if (!among(file_commands, v->keys[i].text)) {
            continue;
        }
        if (p->command) {
            return yaml_error(&v->keys[i], err, "one command makes a model, and %s is there already", p->command);
        }
        p->command = v->keys[i].text;
        p->options = &v->items[i];
        code = yaml_map(p->options, p->command, err);
    }
    if (code == 0 && !p->command) {
        code = error_hint(err, yaml_error(v, err, "what makes the model is missing"), "one of: %s", file_commands);
    }
    return code;
}

static int read_part(struct experiment *e, const struct section *s, const struct yaml_value *key, const struct yaml_value *v,
                     const struct yaml_value *sweeps, struct genarm_error *err) {
    const enum part_kind kind = (enum part_kind)(s - sections);
    struct part *p = &e->parts[e->n];
    *p = (struct part){.kind = kind, .name = key->text, .label = key->text, .command = s->command, .at = key, .options = v};
    e->n++;
    int code = check_name(key, kind, err);
    const bool text = (kind == PART_REWARD || kind == PART_JUDGE) && v->kind == YAML_TEXT && !yaml_is_null(v);
    const bool empty = kind == PART_METHOD && yaml_is_null(v); /* nothing but defaults */
    if (code == 0 && !text && !empty) {
        code = yaml_map(v, s->name, err);
    }
    if (code == 0 && kind == PART_MODEL) {
        code = read_model(p, v, err);
    }
    if (code == 0 && part_own_key(p, "label")) {
        code = opt_text(&p->label, v, "label", err);
    }
    code = code ? code : read_sweep(&p->sweep, sweeps, part_own_key(p, "sweep") ? yaml_get(v, "sweep") : NULL, err);
    return code ? code : add_variables(e, &p->sweep, err);
}

static int read_parts(struct experiment *e, const struct yaml_value *root, struct genarm_error *err) {
    size_t n = 0;
    int code = 0;
    for (size_t s = 0; s < N_SECTIONS && code == 0; s++) {
        const struct yaml_value *section = get_section(root, sections[s].key);
        code = section ? yaml_map(section, sections[s].key, err) : 0;
        n += section ? section->n : 0;
    }
    e->parts = code ? NULL : calloc(n + 1, sizeof *e->parts);
    if (code == 0 && !e->parts) {
        code = error_nomem(err, "an experiment");
    }
    for (size_t s = 0; s < N_SECTIONS && code == 0; s++) {
        const struct yaml_value *section = get_section(root, sections[s].key);
        for (size_t i = 0; section && i < section->n && code == 0; i++) {
            code = read_part(e, &sections[s], &section->keys[i], &section->items[i], get_section(root, "sweeps"), err);
        }
    }
    if (code == 0 && n == 0) {
        code = error_hint(err, yaml_error(root, err, "the experiment does nothing"), "give it methods, or models");
    }
    return code;
}

/* ---- judges ---- */

static int find_method(const struct part **out, const struct experiment *e, const struct yaml_value *v,
                       struct genarm_error *err) {
    const char *name = NULL;
    int code = yaml_text(&name, v, "the name of a method", err);
    if (code == 0 && !(*out = experiment_find(e, PART_METHOD, name))) {
        code = experiment_unknown(e, PART_METHOD, v, name, "method", err);
    }
    return code;
}

static const struct part *first_method(const struct experiment *e) {
    for (size_t i = 0; i < e->n; i++) {
        if (e->parts[i].kind == PART_METHOD) {
            return &e->parts[i];
        }
    }
    return NULL;
}

static int judge_methods(struct part *p, const struct experiment *e, struct genarm_error *err) {
    const struct yaml_value *v = yaml_get(p->options, "methods");
    const size_t n = v && v->kind == YAML_LIST ? v->n : v ? 1 : e->n;
    p->methods = calloc(n + 1, sizeof *p->methods);
    int code = p->methods ? 0 : error_nomem(err, "a judge");
    for (size_t i = 0; i < n && code == 0; i++) {
        const struct part *method = !v && e->parts[i].kind == PART_METHOD ? &e->parts[i] : NULL;
        if (v) {
            code = find_method(&method, e, v->kind == YAML_LIST ? &v->items[i] : v, err);
        }
        for (size_t k = 0; k < p->n_methods && code == 0; k++) {
            code = p->methods[k] == method ? yaml_error(&v->items[i], err, "the method is there twice") : 0;
        }
        if (code == 0 && method && method != p->against) {
            p->methods[p->n_methods++] = method;
        }
    }
    return code;
}

/* Judges compare with the reference of the report, or the first method, if nothing else is said. */
static int resolve_judges(struct experiment *e, struct genarm_error *err) {
    const struct yaml_value *reference = yaml_get(e->report, "reference");
    int code = 0;
    for (size_t i = 0; i < e->n && code == 0; i++) {
        struct part *p = &e->parts[i];
        if (p->kind != PART_JUDGE) {
            continue;
        }
        const struct yaml_value *against = yaml_get(p->options, "against");
        against = against ? against : reference;
        p->against = first_method(e);
        code = against ? find_method(&p->against, e, against, err) : 0;
        code = code ? code : judge_methods(p, e, err);
        if (code == 0 && !p->against) {
            code = yaml_error(p->at, err, "there are no methods to judge");
        }
    }
    return code;
}

/* ---- the report ---- */

static int check_reward(const struct experiment *e, const struct yaml_value *at, const char *name, struct genarm_error *err) {
    return experiment_find(e, PART_REWARD, name) ? 0 : experiment_unknown(e, PART_REWARD, at, name, "reward", err);
}

static int check_objectives(const struct experiment *e, const struct yaml_value *map, struct genarm_error *err) {
    int code = map ? yaml_map(map, "objectives", err) : 0;
    for (size_t i = 0; map && i < map->n && code == 0; i++) {
        const struct yaml_value *v = &map->items[i];
        const char *variable = NULL;
        bool known = false;
        code = check_reward(e, &map->keys[i], map->keys[i].text, err);
        code = code ? code : yaml_text(&variable, v, "the variable of an objective", err);
        for (size_t j = 0; j < e->n_variables && code == 0 && !known; j++) {
            known = strcmp(e->variables[j], variable) == 0;
        }
        if (code == 0 && !known) {
            code = yaml_error(v, err, "no sweep has a variable \"%.60s\"", variable);
        }
    }
    return code;
}

static int check_gap(const struct experiment *e, const struct yaml_value *gap, struct genarm_error *err) {
    const struct part *method;
    const char *name = NULL;
    if (!gap) {
        return 0;
    }
    int code = yaml_map(gap, "gap", err);
    code = code ? code : check_keys(gap, "from to reward", "key of gap", err);
    for (int i = 0; i < 3 && code == 0; i++) {
        const char *key = (const char *const[]){"from", "to", "reward"}[i];
        const struct yaml_value *v = yaml_get(gap, key);
        if (!v) {
            return yaml_error(gap, err, "gap needs \"%s\"", key);
        }
        code = i < 2 ? find_method(&method, e, v, err) : yaml_text(&name, v, "reward", err);
        code = code || i < 2 ? code : check_reward(e, v, name, err);
    }
    return code;
}

static int check_reference_point(const struct experiment *e, const struct yaml_value *map, struct genarm_error *err) {
    int code = map ? yaml_map(map, "reference-point", err) : 0;
    for (size_t i = 0; map && i < map->n && code == 0; i++) {
        double x;
        code = check_reward(e, &map->keys[i], map->keys[i].text, err);
        code = code ? code : yaml_number(&x, &map->items[i], "a reference point's value", err);
    }
    return code;
}

static int check_report(const struct experiment *e, struct genarm_error *err) {
    const struct yaml_value *reference = yaml_get(e->report, "reference"), *kl = yaml_get(e->report, "kl");
    const struct part *method;
    const char *name = NULL;
    if (!e->report) {
        return 0;
    }
    int code = yaml_map(e->report, "report", err);
    code = code ? code : check_keys(e->report, report_keys, "key of report", err);
    code = code || !reference ? code : find_method(&method, e, reference, err);
    code = code || !kl ? code : yaml_text(&name, kl, "kl", err);
    code = code || !kl ? code : check_reward(e, kl, name, err);
    code = code ? code : check_objectives(e, yaml_get(e->report, "objectives"), err);
    code = code ? code : check_gap(e, yaml_get(e->report, "gap"), err);
    return code ? code : check_reference_point(e, yaml_get(e->report, "reference-point"), err);
}

/* ---- the whole ---- */

static int check_defaults(const struct yaml_value *map, struct genarm_error *err) {
    int code = map ? yaml_map(map, "options", err) : 0;
    code = code || !map ? code : check_keys(map, commands, "command", err);
    for (size_t i = 0; map && i < map->n && code == 0; i++) {
        code = yaml_is_null(&map->items[i]) ? 0 : yaml_map(&map->items[i], map->keys[i].text, err);
    }
    return code;
}

static int read_experiment(struct experiment *e, struct genarm_error *err) {
    const struct yaml_value *root = &e->doc->root, *seed;
    int code = yaml_map(root, "an experiment", err);
    code = code ? code : check_keys(root, top_keys, "key", err);
    code = code ? code : opt_text(&e->title, root, "title", err);
    code = code ? code : opt_text(&e->about, root, "about", err);
    code = code ? code : opt_text(&e->model, root, "model", err);
    code = code ? code : opt_text(&e->prompts, root, "prompts", err);
    e->seed = -1;
    if (code == 0 && (seed = get_section(root, "seed"))) {
        code = yaml_integer(&e->seed, seed, 0, "seed", err);
    }
    e->defaults = get_section(root, "options");
    e->report = get_section(root, "report");
    code = code ? code : check_defaults(e->defaults, err);
    code = code ? code : check_sweeps(e, get_section(root, "sweeps"), err);
    code = code ? code : read_parts(e, root, err);
    code = code ? code : check_report(e, err);
    code = code ? code : resolve_judges(e, err);
    if (code == 0 && first_method(e) && !e->prompts) {
        code = error_hint(err, yaml_error(root, err, "there are methods but no prompts"), "prompts: FILE.jsonl");
    }
    return code;
}

static int from_document(struct experiment **out, struct yaml *doc, struct genarm_error *err) {
    struct experiment *e = calloc(1, sizeof *e);
    if (!e) {
        yaml_doc_free(doc);
        return error_nomem(err, "an experiment");
    }
    e->doc = doc;
    const int code = read_experiment(e, err);
    if (code) {
        experiment_free(e);
        return code;
    }
    *out = e;
    return 0;
}

int experiment_read(struct experiment **out, const char *path, struct genarm_error *err) {
    struct yaml *doc = NULL;
    const int code = yaml_read(&doc, path, err);
    return code ? code : from_document(out, doc, err);
}

int experiment_parse(struct experiment **out, const char *text, size_t n, const char *file, struct genarm_error *err) {
    struct yaml *doc = NULL;
    const int code = yaml_parse(&doc, text, n, file, err);
    return code ? code : from_document(out, doc, err);
}

void experiment_free(struct experiment *e) {
    if (!e) {
        return;
    }
    for (size_t i = 0; i < e->n; i++) {
        sweep_deinit(&e->parts[i].sweep);
        free(e->parts[i].methods);
    }
    free(e->parts);
    free(e->variables);
    yaml_doc_free(e->doc);
    free(e);
}
