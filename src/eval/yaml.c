/* See yaml.h: the tree is a copy of libyaml's, in which an alias is one node that is reached several times. */
#include "eval/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/strset.h"
#include "base/utf8.h"

/* A tree on its way. */
struct copy {
    yaml_document_t *from;
    const char *file;
    bool *open;      /* [nodes of the document] what the value that is copied lies in */
    size_t n_values; /* so far */
};

/* ---- errors ---- */

static int error_in(const char *file, size_t line, size_t column, struct genarm_error *err, const char *what) {
    return error_at(err, error_set(err, GENARM_EFORMAT, "%s", what), "%s:%zu:%zu", file, line + 1, column + 1);
}

static int error_node(const struct copy *c, const yaml_node_t *node, struct genarm_error *err, const char *what) {
    return error_in(c->file, node->start_mark.line, node->start_mark.column, err, what);
}

int yaml_error(const struct yaml_value *at, struct genarm_error *err, const char *fmt, ...) {
    char text[sizeof err->what];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return yaml_error_at(at, error_set(err, GENARM_EFORMAT, "%s", text), err);
}

int yaml_error_at(const struct yaml_value *at, int code, struct genarm_error *err) {
    return error_at(err, code, "%s:%d:%d", at->file, at->line, at->column);
}

/* What libyaml says about a text that it cannot read. */
static int error_parser(const yaml_parser_t *p, const char *file, struct genarm_error *err) {
    char text[256];
    if (p->error == YAML_MEMORY_ERROR) {
        return error_nomem(err, "a YAML document");
    }
    snprintf(text, sizeof text, "broken YAML: %s%s%s", p->problem ? p->problem : "cannot be read", p->context ? ", " : "",
             p->context ? p->context : "");
    const int code = error_in(file, p->problem_mark.line, p->problem_mark.column, err, text);
    if (p->problem && strstr(p->problem, "cannot start any token")) {
        error_hint(err, code, "put the text into quotes, and indent with spaces, not tabs");
    } else if (p->problem && strstr(p->problem, "mapping values are not allowed")) {
        error_hint(err, code, "a text with ': ' needs quotes");
    }
    return code;
}

/* ---- the tree ---- */

static void free_value(struct yaml_value *v) {
    for (size_t i = 0; i < v->n; i++) {
        free_value(&v->items[i]);
        if (v->keys) {
            free_value(&v->keys[i]);
        }
    }
    free((void *)(uintptr_t)v->text);
    free(v->items);
    free(v->keys);
    *v = (struct yaml_value){0};
}

static int copy_value(struct copy *c, struct yaml_value *out, int index, int depth, struct genarm_error *err);

static int copy_text(struct copy *c, struct yaml_value *out, const yaml_node_t *node, struct genarm_error *err) {
    const char *text = (const char *)node->data.scalar.value;
    if (memchr(text, '\0', node->data.scalar.length)) {
        return error_node(c, node, err, "a text has a zero byte");
    }
    if (strchr(text, '\1')) { /* ITEM_FOLDER */
        return error_node(c, node, err, "a text has a byte 1, which means something else here");
    }
    out->kind = YAML_TEXT;
    out->plain = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    out->text = strdup(text);
    return out->text ? 0 : error_nomem(err, "a YAML document");
}

static int copy_list(struct copy *c, struct yaml_value *out, const yaml_node_t *node, int depth, struct genarm_error *err) {
    const yaml_node_item_t *from = node->data.sequence.items.start;
    const size_t n = (size_t)(node->data.sequence.items.top - from);
    out->kind = YAML_LIST;
    out->items = calloc(n + 1, sizeof *out->items);
    int code = out->items ? 0 : error_nomem(err, "a YAML document");
    for (size_t i = 0; i < n && code == 0; i++) {
        out->n = i + 1;
        code = copy_value(c, &out->items[i], from[i], depth, err);
    }
    return code;
}

/* Keys are texts, each once. */
static int check_keys(const struct yaml_value *map, struct genarm_error *err) {
    struct strset seen = {0};
    int code = 0;
    for (size_t i = 0; i < map->n && code == 0; i++) {
        const struct yaml_value *key = &map->keys[i];
        size_t first = 0;
        if (key->kind != YAML_TEXT) {
            code = yaml_error(key, err, "a key must be a text");
            break;
        }
        const int added = strset_add(&seen, key->text, strlen(key->text), &first, err);
        if (added == 0) {
            code = yaml_error(key, err, "\"%.100s\" is there twice, first in line %d", key->text, map->keys[first].line);
        }
        code = added < 0 ? added : code;
    }
    strset_deinit(&seen);
    return code;
}

static int copy_map(struct copy *c, struct yaml_value *out, const yaml_node_t *node, int depth, struct genarm_error *err) {
    const yaml_node_pair_t *from = node->data.mapping.pairs.start;
    const size_t n = (size_t)(node->data.mapping.pairs.top - from);
    out->kind = YAML_MAP;
    out->items = calloc(n + 1, sizeof *out->items);
    out->keys = calloc(n + 1, sizeof *out->keys);
    int code = out->items && out->keys ? 0 : error_nomem(err, "a YAML document");
    for (size_t i = 0; i < n && code == 0; i++) {
        out->n = i + 1;
        code = copy_value(c, &out->keys[i], from[i].key, depth, err);
        code = code ? code : copy_value(c, &out->items[i], from[i].value, depth, err);
    }
    return code ? code : check_keys(out, err);
}

static bool known_tag(const yaml_node_t *node) {
    static const char *const tags[] = {"str", "seq", "map", "int", "float", "bool", "null"};
    const char *tag = (const char *)node->tag, *core = "tag:yaml.org,2002:";
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        if (strncmp(tag, core, strlen(core)) == 0 && strcmp(tag + strlen(core), tags[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int copy_value(struct copy *c, struct yaml_value *out, int index, int depth, struct genarm_error *err) {
    const yaml_node_t *node = yaml_document_get_node(c->from, index);
    int code = 0;
    *out = (struct yaml_value){.line = (int)node->start_mark.line + 1, .column = (int)node->start_mark.column + 1,
                               .file = c->file};
    if (c->open[index - 1]) {
        return error_node(c, node, err, "an alias lies in what it stands for");
    }
    if (depth >= YAML_MAX_DEPTH) {
        return error_node(c, node, err, "lists and maps are nested too deeply");
    }
    if (++c->n_values > YAML_MAX_VALUES) {
        return error_node(c, node, err, "too many values, with those that aliases repeat");
    }
    if (!known_tag(node)) {
        return error_node(c, node, err, "tags have no meaning here");
    }
    c->open[index - 1] = true;
    switch (node->type) {
    case YAML_SCALAR_NODE:
        code = copy_text(c, out, node, err);
        break;
    case YAML_SEQUENCE_NODE:
        code = copy_list(c, out, node, depth + 1, err);
        break;
    case YAML_MAPPING_NODE:
        code = copy_map(c, out, node, depth + 1, err);
        break;
    case YAML_NO_NODE:
        code = error_node(c, node, err, "a value is missing");
        break;
    }
    c->open[index - 1] = false;
    return code;
}

/* ---- reading ---- */

/* The document that libyaml has read, as a tree. */
static int copy_document(struct yaml *doc, yaml_document_t *from, struct genarm_error *err) {
    struct copy c = {.from = from, .file = doc->file};
    const yaml_node_t *root = yaml_document_get_root_node(from);
    if (!root) {
        return error_in(doc->file, 0, 0, err, "there is nothing in it");
    }
    c.open = calloc((size_t)(from->nodes.top - from->nodes.start), sizeof *c.open);
    const int code = c.open ? copy_value(&c, &doc->root, (int)(root - from->nodes.start) + 1, 0, err)
                            : error_nomem(err, "a YAML document");
    free(c.open);
    return code;
}

static int parse_documents(struct yaml *doc, yaml_parser_t *parser, struct genarm_error *err) {
    yaml_document_t first, second;
    if (!yaml_parser_load(parser, &first)) {
        return error_parser(parser, doc->file, err);
    }
    int code = copy_document(doc, &first, err);
    yaml_document_delete(&first);
    if (code) {
        return code;
    }
    if (!yaml_parser_load(parser, &second)) {
        return error_parser(parser, doc->file, err);
    }
    const yaml_node_t *root = yaml_document_get_root_node(&second);
    if (root) {
        code = error_in(doc->file, root->start_mark.line, root->start_mark.column, err, "a second document begins");
    }
    yaml_document_delete(&second);
    return code;
}

/* libyaml guesses encodings; here there is one. */
static int check_text(const char *text, size_t n, const char *file, struct genarm_error *err) {
    size_t line = 0, start = 0;
    if (n > YAML_MAX_BYTES) {
        return error_at(err, error_set(err, GENARM_EFORMAT, "larger than an experiment can be"), "%s", file);
    }
    for (size_t i = 0; i < n;) {
        const size_t length = utf8_char(text + i, n - i);
        if (length == 0) {
            return error_in(file, line, i - start, err, "not UTF-8");
        }
        line += text[i] == '\n';
        start = text[i] == '\n' ? i + 1 : start;
        i += length;
    }
    return 0;
}

int yaml_parse(struct yaml **out, const char *text, size_t n, const char *file, struct genarm_error *err) {
    static const char mark[] = "\xEF\xBB\xBF"; /* with which some editors begin */
    yaml_parser_t parser;
    if (n >= sizeof mark - 1 && memcmp(text, mark, sizeof mark - 1) == 0) {
        text += sizeof mark - 1;
        n -= sizeof mark - 1;
    }
    int code = check_text(text, n, file, err);
    if (code) {
        return code;
    }
    struct yaml *doc = calloc(1, sizeof *doc);
    if (!doc || !(doc->file = strdup(file)) || !yaml_parser_initialize(&parser)) {
        yaml_doc_free(doc);
        return error_nomem(err, "a YAML document");
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    code = parse_documents(doc, &parser, err);
    yaml_parser_delete(&parser);
    if (code) {
        yaml_doc_free(doc);
        return code;
    }
    *out = doc;
    return 0;
}

int yaml_read(struct yaml **out, const char *path, struct genarm_error *err) {
    struct buf text;
    buf_init(&text, YAML_MAX_BYTES);
    int code = file_read(&text, path, err);
    code = code ? code : yaml_parse(out, text.data ? text.data : "", text.len, path, err);
    buf_deinit(&text);
    return code;
}

void yaml_doc_free(struct yaml *doc) {
    if (doc) {
        free_value(&doc->root);
        free(doc->file);
        free(doc);
    }
}

/* ---- values ---- */

const struct yaml_value *yaml_get(const struct yaml_value *map, const char *key) {
    for (size_t i = 0; map && map->kind == YAML_MAP && i < map->n; i++) {
        if (strcmp(map->keys[i].text, key) == 0) {
            return &map->items[i];
        }
    }
    return NULL;
}

bool yaml_is_null(const struct yaml_value *v) {
    return v->kind == YAML_TEXT && v->plain && (!*v->text || strcmp(v->text, "~") == 0 || strcmp(v->text, "null") == 0);
}

int yaml_text(const char **out, const struct yaml_value *v, const char *name, struct genarm_error *err) {
    if (v->kind != YAML_TEXT || yaml_is_null(v)) {
        return yaml_error(v, err, "%s must be a text", name);
    }
    *out = v->text;
    return 0;
}

bool yaml_reads_as_number(const char *text, double *out) {
    char *end;
    if (!*text || text[strspn(text, "+-.0123456789eE")]) {
        return false;
    }
    const double x = strtod(text, &end);
    if (end == text || *end || !isfinite(x)) {
        return false;
    }
    *out = x;
    return true;
}

int yaml_number(double *out, const struct yaml_value *v, const char *name, struct genarm_error *err) {
    if (v->kind != YAML_TEXT || !yaml_reads_as_number(v->text, out)) {
        return yaml_error(v, err, "%s must be a number", name);
    }
    return 0;
}

int yaml_integer(int64_t *out, const struct yaml_value *v, int64_t min, const char *name, struct genarm_error *err) {
    char *end = NULL;
    errno = 0;
    const long long x = v->kind == YAML_TEXT ? strtoll(v->text, &end, 10) : 0;
    if (!end || end == v->text || *end || errno == ERANGE || x < min) {
        return yaml_error(v, err, "%s must be a whole number from %lld", name, (long long)min);
    }
    *out = x;
    return 0;
}

int yaml_bool(bool *out, const struct yaml_value *v, const char *name, struct genarm_error *err) {
    const bool yes = v->kind == YAML_TEXT && strcmp(v->text, "true") == 0;
    if (!yes && (v->kind != YAML_TEXT || strcmp(v->text, "false") != 0)) {
        return yaml_error(v, err, "%s must be true or false", name);
    }
    *out = yes;
    return 0;
}

int yaml_map(const struct yaml_value *v, const char *name, struct genarm_error *err) {
    return v->kind == YAML_MAP ? 0 : yaml_error(v, err, "%s must be a map: \"name: value\" in lines below it", name);
}

/* ---- as JSON ---- */

static json_t *text_value(const struct yaml_value *v) {
    double x;
    if (v->plain && yaml_is_null(v)) {
        return json_null();
    }
    if (v->plain && (strcmp(v->text, "true") == 0 || strcmp(v->text, "false") == 0)) {
        return json_boolean(v->text[0] == 't');
    }
    if (v->plain && yaml_reads_as_number(v->text, &x)) {
        const bool whole = !v->text[strspn(v->text, "-0123456789")] && fabs(x) < 1e15;
        return whole ? json_integer((json_int_t)x) : json_real(x);
    }
    return json_string(v->text);
}

json_t *yaml_json(const struct yaml_value *v) {
    if (v->kind == YAML_TEXT) {
        return text_value(v);
    }
    json_t *json = v->kind == YAML_LIST ? json_array() : json_object();
    bool ok = json != NULL;
    for (size_t i = 0; i < v->n && ok; i++) {
        json_t *item = yaml_json(&v->items[i]);
        ok = v->kind == YAML_LIST ? json_array_append_new(json, item) == 0
                                  : json_object_set_new(json, v->keys[i].text, item) == 0;
    }
    if (!ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}
