/* See schema.h and schema_compiler.h: rules, conjunctions and unions. */
#include "guide/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "genarm/steer.h"
#include "guide/gbnf.h"
#include "guide/schema_compiler.h"

enum { OUT_MAX = 1 << 22, RULES_MAX = 20000, DEPTH_MAX = 128, SCHEMA_MAX_BYTES = 1 << 22, CONJUNCTS_MAX = 10000 };
enum { STEPS_MAX = 200000, ARENA_MAX = 1 << 26 /* bytes */ };

static const char too_large[] = "the schema is too large: its alternatives and properties multiply";

struct memo {
    struct conjunction all;
    uint64_t hash;
    struct rule_name name;
    enum { MEMO_OPEN, MEMO_DONE, MEMO_NEVER } state;
    bool called_open;
};

struct block {
    struct block *next;
    max_align_t bytes[];
};

void *arena_new(struct compiler *c, size_t size) {
    if (size > ARENA_MAX - c->n_bytes) {
        refuse(c, GENARM_EUNSUPPORTED, c->root, NULL, too_large);
        return NULL;
    }
    c->n_bytes += size;
    struct block *block = c->rc == GENARM_OK ? calloc(1, sizeof *block + size) : NULL;
    if (!block) {
        c->rc = c->rc ? c->rc : error_nomem(c->err, "a schema");
        return NULL;
    }
    block->next = c->arena;
    c->arena = block;
    return block->bytes;
}

struct rule_name new_rule_name(struct compiler *c, char kind) {
    struct rule_name name = {{0}};
    if (++c->n_rules > RULES_MAX) {
        refuse(c, GENARM_EUNSUPPORTED, c->root, NULL, too_large);
    }
    snprintf(name.text, sizeof name.text, "%c%d", kind, c->n_rules);
    return name;
}

bool take_steps(struct compiler *c, size_t n) {
    c->n_steps += n;
    if (c->n_steps > STEPS_MAX) {
        refuse(c, GENARM_EUNSUPPORTED, c->root, NULL, too_large);
    }
    return c->rc == GENARM_OK;
}

void note_unsatisfiable(struct compiler *c, const struct conjunction *all) {
    if (!c->unsatisfiable && all->n > 0) {
        c->unsatisfiable = all->items[all->n - 1].schema;
    }
}

/* ---- conjunctions ---- */

/* The schemas whose $ref and allOf are being followed. */
struct followed {
    const struct followed *before;
    const json_t *schema;
};

static void add_conjunct(struct compiler *c, struct conjunction *all, const json_t *schema) {
    for (size_t i = 0; i < all->n; i++) {
        if (all->items[i].schema == schema) {
            if (all->items[i].chosen) {
                refuse(c, GENARM_EUNSUPPORTED, schema, NULL, "the schema is an alternative of itself");
            }
            return;
        }
    }
    if (all->n == CONJUNCTS_MAX) {
        refuse(c, GENARM_EUNSUPPORTED, schema, NULL, "a value would have to satisfy more than 10000 schemas at once");
        return;
    }
    if (all->n == all->max) {
        const size_t max = all->max ? 2 * all->max : 4;
        struct conjunct *items = arena_new(c, max * sizeof *items);
        if (!items) {
            return;
        }
        if (all->n > 0) {
            memcpy(items, all->items, all->n * sizeof *items);
        }
        all->items = items;
        all->max = max;
    }
    all->items[all->n++] = (struct conjunct){schema, 0};
}

static void follow(struct compiler *c, struct conjunction *all, const json_t *schema, const struct followed *before) {
    const struct followed here = {before, schema};
    const size_t first = all->n;
    bool asserts = false;
    int depth = 0;
    if (c->rc != GENARM_OK || json_is_true(schema)) {
        return;
    }
    if (json_is_false(schema)) {
        all->never = true;
        return;
    }
    for (const struct followed *f = before; f; f = f->before, depth++) {
        if (f->schema == schema) {
            refuse(c, GENARM_EUNSUPPORTED, schema, NULL, "the schema refers to itself and nothing else");
            return;
        }
    }
    if (depth > DEPTH_MAX) {
        refuse(c, GENARM_EUNSUPPORTED, schema, NULL, "too many references are nested here");
    }
    if (!take_steps(c, 1) || !check_keywords(c, schema, &asserts)) {
        return;
    }
    if (asserts) {
        add_conjunct(c, all, schema);
    }
    if (json_object_get(schema, "$ref")) {
        const json_t *target = resolve_ref(c, schema);
        if (target) {
            follow(c, all, target, &here);
        }
    }
    size_t i;
    json_t *part;
    json_array_foreach(json_object_get(schema, "allOf"), i, part) { follow(c, all, part, &here); }
    if (json_is_false(json_object_get(schema, "unevaluatedProperties")) && !all->closer) {
        all->closer = schema;
        all->n_closed = all->n - first;
    }
}

/* Whatever is beside a schema with unevaluatedProperties false might name properties that it knows nothing of. */
static void check_closed(struct compiler *c, const struct conjunction *all, const json_t *before) {
    if (all->closer && ((all->closer != before && all->n_closed != all->n) || all->n_roots > 1)) {
        refuse(c, GENARM_EUNSUPPORTED, all->closer, "unevaluatedProperties", "it cannot be enforced beside or in another schema");
    }
}

void conjoin(struct compiler *c, struct conjunction *all, const json_t *schema) {
    all->n_roots++;
    follow(c, all, schema, NULL);
    check_closed(c, all, NULL);
}

void conjoin_part(struct compiler *c, struct conjunction *all, const json_t *schema) {
    const json_t *closer = all->closer;
    follow(c, all, schema, NULL);
    check_closed(c, all, closer);
}

struct conjunction conjunction_copy(struct compiler *c, const struct conjunction *all) {
    struct conjunction copy = *all;
    copy.n = copy.max = 0;
    copy.items = all->n ? arena_new(c, all->n * sizeof *copy.items) : NULL;
    if (copy.items) {
        memcpy(copy.items, all->items, all->n * sizeof *copy.items);
        copy.n = copy.max = all->n;
    }
    return copy;
}

static int compare(const void *a, const void *b) {
    const uintptr_t x = (uintptr_t)((const struct conjunct *)a)->schema, y = (uintptr_t)((const struct conjunct *)b)->schema;
    return (x > y) - (x < y);
}

static uint64_t hash_of(const struct conjunction *all) {
    uint64_t hash = HASH_START;
    for (size_t i = 0; i < all->n; i++) {
        hash = hash_u64(hash, (uint64_t)(uintptr_t)all->items[i].schema << 2 | all->items[i].chosen);
    }
    return hash;
}

static bool same(const struct conjunction *a, const struct conjunction *b) {
    if (a->n != b->n) {
        return false;
    }
    for (size_t i = 0; i < a->n; i++) {
        if (a->items[i].schema != b->items[i].schema || a->items[i].chosen != b->items[i].chosen) {
            return false;
        }
    }
    return true;
}

/* ---- rules ---- */

/* Alternatives of a disjunction of item `at`; each is the conjunction with one schema more. */
static bool put_union(struct compiler *c, struct buf *b, const struct conjunction *all, size_t at) {
    const json_t *schema = all->items[at].schema;
    const bool any = !(all->items[at].chosen & CHOSEN_ANY_OF) && json_object_get(schema, "anyOf");
    const json_t *alternatives = json_object_get(schema, any ? "anyOf" : "oneOf"), *alternative;
    const char *tag = json_string_value(json_object_get(json_object_get(schema, "discriminator"), "propertyName"));
    json_t *extra = NULL;
    size_t i;
    int n = 0;
    struct conjunction rest = conjunction_copy(c, all);
    if (c->rc != GENARM_OK) {
        return false;
    }
    rest.items[at].chosen |= any ? CHOSEN_ANY_OF : CHOSEN_ONE_OF;
    if (!any && tag && json_array_size(alternatives) > 1) { /* what tells the alternatives apart must be there */
        extra = json_pack("{s:[s]}", "required", tag);
        if (!extra || json_array_append_new(c->owned, extra) != 0) {
            c->rc = error_nomem(c->err, "a schema");
            return false;
        }
    }
    if (!any) {
        check_one_of(c, &rest, schema, extra);
    }
    json_array_foreach(alternatives, i, alternative) {
        struct conjunction with = conjunction_copy(c, &rest);
        conjoin_part(c, &with, alternative);
        if (extra) {
            conjoin_part(c, &with, extra);
        }
        const struct rule_name name = compile(c, &with);
        if (name.text[0]) {
            PUT(c, b, "%s%s", n++ ? " | " : "", name.text);
        }
    }
    return n > 0;
}

/* The values of a shape, type by type. */
static bool put_shape(struct compiler *c, struct buf *b, const struct conjunction *all) {
    static bool (*const puts[])(struct compiler *, struct buf *, const struct shape *) = {put_object, put_array, put_string,
                                                                                          put_number};
    static const unsigned types[] = {TYPE_OBJECT, TYPE_ARRAY, TYPE_STRING, TYPE_NUMBER};
    struct shape s;
    int n = 0;
    shape_of(c, &s, all);
    if (c->rc == GENARM_OK && s.values) {
        json_t *values = shape_values(c, &s), *value;
        size_t i;
        json_array_foreach(values, i, value) {
            PUT(c, b, "%s", n++ ? " | " : "");
            put_value(c, b, value);
        }
        return n > 0;
    }
    for (size_t i = 0; i < sizeof types / sizeof *types && c->rc == GENARM_OK; i++) {
        struct buf one;
        buf_init(&one, OUT_MAX);
        if ((s.types & types[i]) && puts[i](c, &one, &s)) {
            PUT(c, b, "%s%s", n++ ? " | " : "", one.data ? one.data : "");
        }
        buf_deinit(&one);
    }
    if (s.types & TYPE_BOOLEAN) {
        PUT(c, b, "%s%s", n++ ? " | " : "", ready(c, READY_BOOLEAN));
    }
    if (s.types & TYPE_NULL) {
        PUT(c, b, "%s%s", n++ ? " | " : "", ready(c, READY_NULL));
    }
    return n > 0;
}

static bool put_conjunction(struct compiler *c, struct buf *b, const struct conjunction *all) {
    for (size_t i = 0; i < all->n; i++) {
        const struct conjunct *item = &all->items[i];
        if ((json_object_get(item->schema, "anyOf") && !(item->chosen & CHOSEN_ANY_OF)) ||
            (json_object_get(item->schema, "oneOf") && !(item->chosen & CHOSEN_ONE_OF))) {
            return put_union(c, b, all, i);
        }
    }
    return put_shape(c, b, all);
}

/* The entry of a conjunction, which is made open if there is none; its index, or a negative number after an error. */
static long memo_of(struct compiler *c, const struct conjunction *all) {
    struct conjunction key = conjunction_copy(c, all);
    if (c->rc != GENARM_OK) {
        return -1;
    }
    qsort(key.items, key.n, sizeof *key.items, compare);
    const uint64_t hash = hash_of(&key);
    for (size_t i = 0; i < c->n_memos; i++) {
        if (c->memos[i].hash == hash && same(&c->memos[i].all, &key)) {
            c->memos[i].called_open = c->memos[i].called_open || c->memos[i].state == MEMO_OPEN;
            return (long)i;
        }
    }
    if (c->n_memos == c->max_memos) {
        const size_t max = c->max_memos ? 2 * c->max_memos : 64;
        struct memo *memos = realloc(c->memos, max * sizeof *memos);
        if (!memos) {
            c->rc = error_nomem(c->err, "a schema");
            return -1;
        }
        c->memos = memos;
        c->max_memos = max;
    }
    c->memos[c->n_memos] = (struct memo){.all = key, .hash = hash};
    return (long)c->n_memos++;
}

/* Whether a rule is just another one. */
static bool is_name(const struct buf *text) {
    return text->len > 0 && text->len < RULE_NAME_BYTES &&
           text->len == strspn(text->data, "abcdefghijklmnopqrstuvwxyz0123456789-");
}

struct rule_name compile(struct compiler *c, const struct conjunction *all) {
    struct rule_name name = {{0}};
    if (c->rc != GENARM_OK || all->never) {
        return name;
    }
    if (all->n == 0) {
        snprintf(name.text, sizeof name.text, "%s", ready(c, READY_VALUE));
        return name;
    }
    const long at = memo_of(c, all);
    if (at < 0) {
        return name;
    }
    if (c->memos[at].name.text[0] || c->memos[at].state != MEMO_OPEN) {
        return c->memos[at].state == MEMO_NEVER ? name : c->memos[at].name;
    }
    struct buf text;
    buf_init(&text, OUT_MAX);
    const struct rule_name mine = c->memos[at].name = new_rule_name(c, 'r');
    if (++c->depth > DEPTH_MAX) {
        refuse(c, GENARM_EUNSUPPORTED, all->items[0].schema, NULL, "schemas are nested too deeply here");
    }
    const bool some = take_steps(c, all->n) && put_conjunction(c, &text, all);
    c->depth--;
    if (some && !c->memos[at].called_open && is_name(&text)) {
        strcpy(name.text, text.data);
        c->memos[at].name = name;
    } else if (some) {
        put_rule(c, mine.text, &text);
        name = mine;
    } else if (c->rc == GENARM_OK) {
        note_unsatisfiable(c, all);
        if (c->memos[at].called_open) {
            refuse(c, GENARM_EUNSUPPORTED, all->items[0].schema, NULL, "no value satisfies the schema, which contains itself");
        }
    }
    c->memos[at].state = some ? MEMO_DONE : MEMO_NEVER;
    buf_deinit(&text);
    return name;
}

/* ---- the whole ---- */

/* What was written is read once, so that it is a grammar for sure, and each part of it has an end. */
static int check_grammar(const struct compiler *c, const char *text) {
    struct gbnf g;
    bool endless = false;
    int rc = gbnf_parse(&g, text, c->err);
    if (rc != GENARM_OK) {
        return rc;
    }
    rc = gbnf_endless(&g, &endless, c->err);
    gbnf_deinit(&g);
    if (rc == GENARM_OK && endless) {
        rc = error_set(c->err, GENARM_EFORMAT, "the schema: some part of it contains itself always, so that no answer could end");
    }
    return rc;
}

int schema_to_gbnf(struct buf *out, const json_t *schema, struct genarm_error *err) {
    struct buf text;
    struct compiler c = {.root = schema, .out = &text, .err = err, .owned = json_array()};
    struct conjunction all = {0};
    buf_init(&text, OUT_MAX);
    if (!c.owned) {
        c.rc = error_nomem(err, "a schema");
    } else if (!json_is_object(schema) && !json_is_boolean(schema)) {
        c.rc = error_set(err, GENARM_EFORMAT, "the schema: expected an object, true or false");
    }
    conjoin(&c, &all, schema);
    const struct rule_name root = compile(&c, &all);
    if (c.rc == GENARM_OK && !root.text[0]) {
        refuse(&c, GENARM_EFORMAT, c.unsatisfiable ? c.unsatisfiable : schema, NULL, "no value satisfies the schema");
    }
    put_ready_rules(&c);
    PUT(&c, &text, "root ::= %s\n", root.text);
    if (c.rc == GENARM_EINVAL) {
        c.rc = error_set(err, GENARM_EUNSUPPORTED, "the schema: its grammar is too large");
    }
    c.rc = c.rc ? c.rc : check_grammar(&c, text.data);
    c.rc = c.rc ? c.rc : buf_append(out, text.data, text.len, err);
    while (c.arena) {
        struct block *next = c.arena->next;
        free(c.arena);
        c.arena = next;
    }
    free(c.memos);
    json_decref(c.owned);
    buf_deinit(&text);
    return c.rc;
}

int genarm_schema_to_gbnf(char **out, const char *schema, struct genarm_error *err) {
    struct buf text;
    json_t *value = NULL;
    buf_init(&text, OUT_MAX);
    int rc = strlen(schema) <= SCHEMA_MAX_BYTES ? json_parse_wide(&value, schema, strlen(schema), "", err)
                                                : error_set(err, GENARM_EUNSUPPORTED, "the schema: longer than 4 MB");
    rc = rc ? rc : schema_to_gbnf(&text, value, err);
    json_decref(value);
    if (rc != GENARM_OK) {
        buf_deinit(&text);
        return rc;
    }
    *out = text.data;
    return GENARM_OK;
}
