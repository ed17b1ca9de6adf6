/* See sweep.h. */
#include "eval/sweep.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/strset.h"

static int add_point(struct sweep *s, size_t n_bindings, const struct yaml_value *at, struct genarm_error *err) {
    if (s->n >= SWEEP_MAX_POINTS) {
        return yaml_error(at, err, "more than %d points", SWEEP_MAX_POINTS);
    }
    struct point *points = realloc(s->points, (s->n + 1) * sizeof *points);
    if (!points) {
        return error_nomem(err, "the points of a sweep");
    }
    s->points = points;
    struct point *p = &points[s->n];
    *p = (struct point){.bindings = calloc(n_bindings + 1, sizeof *p->bindings)};
    if (!p->bindings) {
        return error_nomem(err, "the points of a sweep");
    }
    s->n++;
    return 0;
}

static bool is_variable(const char *name) {
    const size_t n = strlen(name);
    if (!isalpha((unsigned char)name[0]) || n > 32) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)name[i]) && name[i] != '_') {
            return false;
        }
    }
    return true;
}

/* A variable's name and one of its values. */
static int check_binding(const struct yaml_value *key, const struct yaml_value *value, struct genarm_error *err) {
    const char *text;
    if (!is_variable(key->text)) {
        return yaml_error(key, err, "\"%.60s\" cannot be a variable: a letter, then up to 31 letters, digits or _", key->text);
    }
    int code = yaml_text(&text, value, "the value of a variable", err);
    if (code == 0 && (!*text || strlen(text) > 64)) {
        code = yaml_error(value, err, "the value of a variable has 1 to 64 bytes");
    }
    return code;
}

static int read_points(struct sweep *s, const struct yaml_value *list, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < list->n && code == 0; i++) {
        const struct yaml_value *map = &list->items[i];
        code = yaml_map(map, "a point of a sweep", err);
        code = code ? code : add_point(s, map->n, map, err);
        for (size_t j = 0; code == 0 && j < map->n; j++) {
            struct point *p = &s->points[s->n - 1];
            code = check_binding(&map->keys[j], &map->items[j], err);
            p->bindings[p->n++] = (struct binding){map->keys[j].text, map->items[j].text};
        }
        if (code == 0 && i > 0 && map->n != list->items[0].n) {
            code = yaml_error(map, err, "a point has other variables than the first one");
        }
        for (size_t j = 0; code == 0 && i > 0 && j < map->n; j++) {
            if (!point_get(&s->points[0], map->keys[j].text)) {
                code = yaml_error(&map->keys[j], err, "the first point has no variable \"%.60s\"", map->keys[j].text);
            }
        }
    }
    return code;
}

/* The points of one variable. */
static int read_values(struct sweep *s, const struct yaml_value *key, const struct yaml_value *v, struct genarm_error *err) {
    const size_t n = v->kind == YAML_LIST ? v->n : 1;
    int code = 0;
    for (size_t i = 0; i < n && code == 0; i++) {
        const struct yaml_value *value = v->kind == YAML_LIST ? &v->items[i] : v;
        code = check_binding(key, value, err);
        code = code ? code : add_point(s, 1, value, err);
        if (code == 0) {
            s->points[s->n - 1].bindings[0] = (struct binding){key->text, value->text};
            s->points[s->n - 1].n = 1;
        }
    }
    return code;
}

static int read_product(struct sweep *s, const struct yaml_value *map, struct genarm_error *err) {
    int code = sweep_none(s, err);
    for (size_t i = 0; i < map->n && code == 0; i++) {
        struct sweep one = {0}, both = {0};
        code = read_values(&one, &map->keys[i], &map->items[i], err);
        code = code ? code : sweep_product(&both, s, &one, map, err);
        sweep_deinit(&one);
        if (code == 0) {
            sweep_deinit(s);
            *s = both;
        }
    }
    return code;
}

/* What a point is equal by: 1 is 1.0, in whatever order the variables are, those of `first`. */
static int point_key(struct buf *out, const struct point *p, const struct point *first, struct genarm_error *err) {
    int code = buf_puts(out, "", err);
    for (size_t i = 0; i < first->n && code == 0; i++) {
        double x;
        const char *name = first->bindings[i].name, *given = point_get(p, name), *value = given ? given : "";
        code = yaml_reads_as_number(value, &x) ? buf_printf(out, err, ",%s==%.17g", name, x + 0.0)
                                               : buf_printf(out, err, ",%s=%s", name, value);
    }
    return code;
}

/* Points are told apart by what is printed of them, and by their values. */
static int check_distinct(const struct sweep *s, const struct yaml_value *at, struct genarm_error *err) {
    struct strset set = {0};
    char **names = calloc(2 * s->n + 1, sizeof *names);
    struct buf name;
    int code = names ? 0 : error_nomem(err, "the points of a sweep");
    buf_init(&name, 1 << 16);
    for (size_t i = 0; i < 2 * s->n && code == 0; i++) {
        const struct point *p = &s->points[i / 2];
        buf_clear(&name);
        code = i % 2 ? point_key(&name, p, s->points, err) : buf_puts(&name, "", err);
        code = i % 2 || code ? code : point_print(&name, p, err);
        names[i] = code ? NULL : strdup(name.data);
        code = code || names[i] ? code : error_nomem(err, "the points of a sweep");
        const int added = code ? code : strset_add(&set, names[i], name.len, NULL, err);
        code = added == 0 ? yaml_error(at, err, "the point %.200s is there twice", names[i / 2 * 2]) : added < 0 ? added : code;
    }
    for (size_t i = 0; names && i < 2 * s->n; i++) {
        free(names[i]);
    }
    free(names);
    buf_deinit(&name);
    strset_deinit(&set);
    return code;
}

int sweep_read(struct sweep *out, const struct yaml_value *v, struct genarm_error *err) {
    struct sweep s = {0};
    if (v->kind == YAML_TEXT || v->n == 0) {
        return yaml_error(v, err, "a sweep is a list of points, [{a: 1}, {a: 2}], or lists of values, {a: [1, 2]}");
    }
    int code = v->kind == YAML_LIST ? read_points(&s, v, err) : read_product(&s, v, err);
    if (code == 0 && s.n == 0) {
        code = yaml_error(v, err, "the sweep has no points");
    }
    code = code ? code : check_distinct(&s, v, err);
    if (code) {
        sweep_deinit(&s);
        return code;
    }
    *out = s;
    return 0;
}

int sweep_product(struct sweep *out, const struct sweep *a, const struct sweep *b, const struct yaml_value *at,
                  struct genarm_error *err) {
    struct sweep s = {0};
    int code = 0;
    for (size_t i = 0; i < a->n && code == 0; i++) {
        for (size_t j = 0; j < b->n && code == 0; j++) {
            const struct point *left = &a->points[i], *right = &b->points[j];
            code = add_point(&s, left->n + right->n, at, err);
            for (size_t k = 0; code == 0 && k < left->n + right->n; k++) {
                struct point *p = &s.points[s.n - 1];
                const struct binding *binding = k < left->n ? &left->bindings[k] : &right->bindings[k - left->n];
                if (point_get(p, binding->name)) {
                    code = yaml_error(at, err, "two sweeps have the variable \"%s\"", binding->name);
                }
                p->bindings[p->n++] = *binding;
            }
        }
    }
    if (code) {
        sweep_deinit(&s);
        return code;
    }
    *out = s;
    return 0;
}

int sweep_none(struct sweep *out, struct genarm_error *err) {
    struct point *p = calloc(1, sizeof *p);
    struct binding *bindings = calloc(1, sizeof *bindings);
    if (!p || !bindings) {
        free(p);
        free(bindings);
        return error_nomem(err, "the points of a sweep");
    }
    p->bindings = bindings;
    *out = (struct sweep){p, 1};
    return 0;
}

void sweep_deinit(struct sweep *s) {
    for (size_t i = 0; i < s->n; i++) {
        free(s->points[i].bindings);
    }
    free(s->points);
    *s = (struct sweep){0};
}

const char *point_get(const struct point *p, const char *name) {
    for (size_t i = 0; i < p->n; i++) {
        if (strcmp(p->bindings[i].name, name) == 0) {
            return p->bindings[i].value;
        }
    }
    return NULL;
}

bool point_within(const struct point *part, const struct point *whole) {
    for (size_t i = 0; i < part->n; i++) {
        const char *value = point_get(whole, part->bindings[i].name), *wanted = part->bindings[i].value;
        double a, b;
        if (!value) {
            return false;
        }
        /* 1 is 1.0 */
        const bool numbers = yaml_reads_as_number(value, &a) && yaml_reads_as_number(wanted, &b);
        if (numbers ? a < b || a > b : strcmp(value, wanted) != 0) {
            return false;
        }
    }
    return true;
}

int point_print(struct buf *out, const struct point *p, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < p->n && code == 0; i++) {
        code = buf_printf(out, err, "%s%s=", i ? "," : "", p->bindings[i].name);
        for (const char *c = p->bindings[i].value; *c && code == 0; c++) {
            const bool safe = isalnum((unsigned char)*c) || strchr("._+-", *c);
            code = buf_append(out, safe ? c : "_", 1, err);
        }
    }
    return code;
}

json_t *point_json(const struct point *p) {
    json_t *json = json_object();
    bool ok = json != NULL;
    for (size_t i = 0; i < p->n && ok; i++) {
        const struct yaml_value text = {.kind = YAML_TEXT, .plain = true, .text = p->bindings[i].value};
        ok = json_object_set_new(json, p->bindings[i].name, yaml_json(&text)) == 0;
    }
    if (!ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}
