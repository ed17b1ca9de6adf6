/* The first line of results.jsonl: which methods, points, rewards and judges the other lines may speak of. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/results.h"

enum { MOST_LABEL = 4096, MOST_CELLS = 100000, MOST_REWARDS = 1000 };

#define MOST_PROMPTS 100000000

static int wrong(const char *where, const char *what, struct genarm_error *err) {
    return error_at(err, error_set(err, GENARM_EFORMAT, "%s", what), "%s", where);
}

/* An optional array; an empty one where there is none. */
static int list_of(size_t *n, const json_t *object, const char *key, const char *where, struct genarm_error *err) {
    const json_t *list = json_object_get(object, key);
    *n = json_array_size(list);
    return !list || json_is_null(list) || json_is_array(list)
               ? GENARM_OK
               : error_at(err, error_set(err, GENARM_EFORMAT, "\"%s\" must be an array", key), "%s", where);
}

/* A number with as few digits as tell it from all others. */
static int real_text(struct buf *b, double x) {
    char text[40];
    int digits = 6;
    do {
        snprintf(text, sizeof text, "%.*g", digits, x);
    } while (strtod(text, NULL) - x != 0 && digits++ < 17);
    return buf_puts(b, text, NULL);
}

static int value_text(struct buf *b, const json_t *value) {
    return json_is_string(value)    ? buf_puts(b, json_string_value(value), NULL)
           : json_is_integer(value) ? buf_printf(b, NULL, "%lld", (long long)json_integer_value(value))
           : json_is_real(value)    ? real_text(b, json_real_value(value))
                                    : json_dump(b, value, NULL);
}

char *results_label(const json_t *point) {
    struct buf b;
    const char *key;
    json_t *value;
    int rc = GENARM_OK;
    buf_init(&b, MOST_LABEL);
    json_object_foreach((json_t *)(uintptr_t)point, key, value) { /* its macro wants it so; nothing is changed */
        rc = rc ? rc : buf_printf(&b, NULL, "%s%s=", b.len ? ", " : "", key);
        rc = rc ? rc : value_text(&b, value);
    }
    char *label = rc == GENARM_ENOMEM ? NULL : strdup(b.data ? b.data : ""); /* what is too long is cut */
    buf_deinit(&b);
    return label;
}

static char *cell_name(const char *method, const char *label) {
    const size_t size = strlen(method) + strlen(label) + 2;
    char *name = malloc(size);
    if (name) {
        snprintf(name, size, "%s%s%s", method, *label ? " " : "", label);
    }
    return name;
}

static int add_cell(struct results *r, size_t method, const json_t *point, const json_t *plain, const char *where,
                    struct genarm_error *err) {
    if (point && !json_is_object(point)) {
        return wrong(where, "a point must be an object", err);
    }
    struct results_cell *c = &r->cells[r->n_cells];
    *c = (struct results_cell){
        .method = method, .values = point, .label = results_label(point), .best_of = NAN, .plain = !json_is_false(plain)};
    r->n_cells++;
    c->name = c->label ? cell_name(r->methods[method].label, c->label) : NULL;
    return c->name ? GENARM_OK : error_nomem(err, "methods");
}

static size_t points_of(const json_t *method) {
    const size_t n = json_array_size(json_object_get(method, "points"));
    return n ? n : 1;
}

static int add_method(struct results *r, size_t i, const json_t *object, const char *where, struct genarm_error *err) {
    struct results_method *m = &r->methods[i];
    size_t n = 0;
    int rc = json_get_string(&m->name, object, "name", where, err);
    rc = rc ? rc : json_opt_string(&m->label, object, "label", m->name, where, err);
    rc = rc ? rc : json_opt_string(&m->how, object, "method", "guided", where, err);
    rc = rc ? rc : list_of(&n, object, "points", where, err);
    m->first_cell = r->n_cells;
    m->n_cells = points_of(object);
    for (size_t k = 0; k < m->n_cells && rc == GENARM_OK; k++) {
        rc = add_cell(r, i, json_array_get(json_object_get(object, "points"), k), json_array_get(json_object_get(object, "plain"), k),
                      where, err);
    }
    return rc;
}

static int read_methods(struct results *r, const char *where, struct genarm_error *err) {
    const json_t *list = json_object_get(r->experiment, "methods");
    size_t n_cells = 0;
    int rc = list_of(&r->n_methods, r->experiment, "methods", where, err);
    for (size_t i = 0; i < r->n_methods && rc == GENARM_OK; i++) {
        n_cells += points_of(json_array_get(list, i));
    }
    if (rc || n_cells > MOST_CELLS) {
        return rc ? rc : wrong(where, "too many points", err);
    }
    r->methods = calloc(r->n_methods + 1, sizeof *r->methods);
    r->cells = calloc(n_cells + 1, sizeof *r->cells);
    if (!r->methods || !r->cells) {
        return error_nomem(err, "methods");
    }
    for (size_t i = 0; i < r->n_methods && rc == GENARM_OK; i++) {
        rc = add_method(r, i, json_array_get(list, i), where, err);
    }
    return rc;
}

static int read_rewards(struct results *r, const char *where, struct genarm_error *err) {
    size_t n = 0;
    int rc = list_of(&n, r->experiment, "rewards", where, err);
    if (rc || n > MOST_REWARDS) {
        return rc ? rc : wrong(where, "too many rewards", err);
    }
    r->rewards = calloc(n + 1, sizeof *r->rewards);
    if (!r->rewards) {
        return error_nomem(err, "names of rewards");
    }
    for (; r->n_rewards < n; r->n_rewards++) {
        const char *name = json_string_value(json_array_get(json_object_get(r->experiment, "rewards"), r->n_rewards));
        if (!name) {
            return wrong(where, "\"rewards\" must hold names", err);
        }
        r->rewards[r->n_rewards] = name;
    }
    return GENARM_OK;
}

static int read_judges(struct results *r, const char *where, struct genarm_error *err) {
    const json_t *list = json_object_get(r->experiment, "judges");
    size_t n = 0;
    int rc = list_of(&n, r->experiment, "judges", where, err);
    r->judges = calloc(n + 1, sizeof *r->judges);
    if (rc || !r->judges) {
        return rc ? rc : error_nomem(err, "judges");
    }
    for (; r->n_judges < n && rc == GENARM_OK; r->n_judges++) {
        struct results_judge *j = &r->judges[r->n_judges];
        const char *against = NULL;
        rc = json_get_string(&j->name, json_array_get(list, r->n_judges), "name", where, err);
        rc = rc ? rc : json_opt_string(&j->label, json_array_get(list, r->n_judges), "label", j->name, where, err);
        rc = rc ? rc : json_opt_string(&against, json_array_get(list, r->n_judges), "against", NULL, where, err);
        j->against = against ? results_find_method(r, against) : r->n_methods;
        j->cells = calloc(r->n_cells + 1, sizeof *j->cells);
        rc = rc || j->cells ? rc : error_nomem(err, "judges");
    }
    return rc;
}

int results_head(struct results *r, const char *where, struct genarm_error *err) {
    static const char no_title[] = "An experiment";
    long long n = 0;
    int rc = json_opt_string(&r->title, r->experiment, "title", no_title, where, err);
    rc = rc ? rc : json_opt_string(&r->about, r->experiment, "about", "", where, err);
    rc = rc ? rc : json_opt_string(&r->model, r->experiment, "model", "", where, err);
    rc = rc ? rc : json_opt_string(&r->version, r->experiment, "version", "", where, err);
    rc = rc ? rc : json_opt_integer(&n, r->experiment, "n_prompts", 0, where, err);
    if (rc || n < 0 || n > MOST_PROMPTS) {
        return rc ? rc : wrong(where, "\"n_prompts\" is out of range", err);
    }
    r->n_prompts = (size_t)n;
    const json_int_t n_files = json_integer_value(json_object_get(r->experiment, "n_files"));
    const json_int_t n_done = json_integer_value(json_object_get(r->experiment, "n_done"));
    if (n_done >= 0 && n_files > n_done) {
        r->n_files = (size_t)n_files;
        r->n_done = (size_t)n_done;
    }
    r->report = json_object_get(r->experiment, "report");
    if (r->report && !json_is_object(r->report)) {
        r->report = NULL;
    }
    rc = read_methods(r, where, err);
    rc = rc ? rc : read_rewards(r, where, err);
    return rc ? rc : read_judges(r, where, err);
}

size_t results_find_method(const struct results *r, const char *name) {
    for (size_t i = 0; i < r->n_methods; i++) {
        if (strcmp(r->methods[i].name, name) == 0) {
            return i;
        }
    }
    return r->n_methods;
}

size_t results_find_reward(const struct results *r, const char *name) {
    for (size_t i = 0; i < r->n_rewards; i++) {
        if (strcmp(r->rewards[i], name) == 0) {
            return i;
        }
    }
    return r->n_rewards;
}

size_t results_against(const struct results *r, size_t judge, size_t cell) {
    const size_t method = r->judges[judge].against;
    for (size_t i = 0; method < r->n_methods && i < r->methods[method].n_cells; i++) {
        json_t *value;
        const json_t *other = r->cells[r->methods[method].first_cell + i].values;
        const char *key;
        bool within = true;
        json_object_foreach((json_t *)(uintptr_t)other, key, value) { /* nothing is changed */
            within = within && results_same_value(value, json_object_get(r->cells[cell].values, key));
        }
        if (within) {
            return r->methods[method].first_cell + i;
        }
    }
    return method < r->n_methods && r->methods[method].n_cells == 1 ? r->methods[method].first_cell : r->n_cells;
}

double results_variable(const struct results_cell *cell, const char *variable) {
    const json_t *value = json_object_get(cell->values, variable);
    return json_is_number(value) ? json_number_value(value) : NAN;
}
