/* What the files schema*.c share: the compiler from JSON schema to GBNF.
 *
 * What is compiled is always a conjunction: schemas that one value has to satisfy all, with $ref and allOf resolved away. One
 * that still has an anyOf or oneOf becomes the union of its alternatives, each a conjunction of one schema more; any other is
 * a shape (types, bounds, lengths, ...) that becomes text. A conjunction is compiled once and has one rule, which is how
 * recursion ends.
 *
 *   schema.c            rules, conjunctions, unions               schema_string.c   lengths, formats, names that are excluded
 *   schema_keywords.c   keywords, $ref, places of errors          schema_regex.c    pattern
 *   schema_shape.c      what a conjunction says of each type      schema_number.c   numbers between bounds
 *   schema_values.c     enum and const                            schema_object.c, schema_array.c
 *   schema_text.c       literals, repetitions, ready rules        schema_one_of.c   whether alternatives exclude each other
 */
#ifndef GUIDE_SCHEMA_COMPILER_H
#define GUIDE_SCHEMA_COMPILER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

/* A number that an integer can be has both bits. */
enum {
    TYPE_NULL = 1,
    TYPE_BOOLEAN = 2,
    TYPE_OBJECT = 4,
    TYPE_ARRAY = 8,
    TYPE_STRING = 16,
    TYPE_INTEGER = 32,
    TYPE_FRACTION = 64,
    TYPE_NUMBER = TYPE_INTEGER | TYPE_FRACTION,
    TYPE_ANY = 127
};

enum { RULE_NAME_BYTES = 24 };

/* The name of a rule; "": no value satisfies it. */
struct rule_name {
    char text[RULE_NAME_BYTES];
};

enum { CHOSEN_ANY_OF = 1, CHOSEN_ONE_OF = 2 };

struct conjunct {
    const json_t *schema; /* an object */
    unsigned chosen;      /* disjunctions of it of which an alternative is in the conjunction */
};

struct conjunction {
    struct conjunct *items; /* [n], of the arena */
    size_t n, max;
    const json_t *closer; /* schema with unevaluatedProperties false */
    size_t n_closed;      /* items that it consists of; all, or it is refused */
    int n_roots;          /* schemas that were added, not counting what those consist of */
    bool never;           /* false is among them */
};

struct memo; /* a conjunction and its rule */
struct block;

struct compiler {
    const json_t *root;
    struct buf *out;
    struct genarm_error *err;
    int rc; /* of the first error, after which nothing happens any more */
    struct block *arena;
    size_t n_bytes, n_steps; /* of the arena; schemas that were looked at, each as often as that was done */
    json_t *owned; /* array of values that were made */
    struct memo *memos;
    size_t n_memos, max_memos;
    unsigned ready; /* rules of schema_text.c that are used, one bit each */
    int n_rules, depth;
    const json_t *unsatisfiable; /* where it was first found that no value will do */
};

/* A bound of numbers; long double holds integers of 64 bits and doubles alike. */
struct bound {
    bool set, exclusive;
    long double value;
    const json_t *at; /* schema that has it */
};

enum { UNBOUNDED = -1 };

/* What a conjunction without open disjunctions says. Bounds are 0 and UNBOUNDED where there are none. */
struct shape {
    const struct conjunction *all;
    unsigned types;      /* that are written: without `type`, those that the other keywords are about */
    unsigned true_types; /* that satisfy the schema */
    json_t *values;      /* enum and const: borrowed, NULL without */
    struct bound low, high;
    long long multiple_of; /* 0: none */
    int64_t min_length, max_length, min_items, max_items, min_properties, max_properties;
    bool has_min_items;
    const json_t *pattern_at, *format_at; /* schema that has it, NULL: none */
    const char *pattern, *format;
    const json_t *lengths_at, *items_at, *properties_at, *multiple_at, *unique_at; /* schemas to name in errors */
    bool unique, closed, has_object, has_array;
};

/* ---- schema.c ---- */

void *arena_new(struct compiler *c, size_t size); /* zeroed; NULL after an error */
/* Counts the work that is done next, a step a schema. False: there was an error, or it is too much. */
bool take_steps(struct compiler *c, size_t n);
struct rule_name new_rule_name(struct compiler *c, char kind);
void conjoin(struct compiler *c, struct conjunction *all, const json_t *schema);
void conjoin_part(struct compiler *c, struct conjunction *all, const json_t *schema); /* an alternative of one of them */
struct conjunction conjunction_copy(struct compiler *c, const struct conjunction *all);
struct rule_name compile(struct compiler *c, const struct conjunction *all);
void note_unsatisfiable(struct compiler *c, const struct conjunction *all);

/* ---- schema_keywords.c ---- */

/* An error of the keyword, or with NULL of the schema itself. */
void refuse(struct compiler *c, int code, const json_t *schema, const char *keyword, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* Knows all keywords of an object, each of which is of the JSON type it must have; which are left when $ref and allOf are
 * resolved. */
bool check_keywords(struct compiler *c, const json_t *schema, bool *asserts);
unsigned keyword_types(const json_t *schema); /* that its keywords are about */
unsigned type_named(const char *name);        /* 0: none */
const json_t *resolve_ref(struct compiler *c, const json_t *schema);

/* ---- schema_shape.c, schema_values.c ---- */

void shape_of(struct compiler *c, struct shape *s, const struct conjunction *all);
json_t *shape_values(struct compiler *c, const struct shape *s); /* those of enum and const that satisfy the rest */
unsigned value_types(const json_t *value);
bool values_equal(const json_t *a, const json_t *b);
bool bounds_admit(const struct bound *low, const struct bound *high, long double x);
void put_value(struct compiler *c, struct buf *b, const json_t *value);

/* ---- schema_text.c ---- */

#define PUT(c, b, ...) ((c)->rc = (c)->rc ? (c)->rc : buf_printf((b), (c)->err, __VA_ARGS__))

enum ready_rule {
    READY_WS,
    READY_COLON,
    READY_COMMA,
    READY_VALUE,
    READY_OBJECT,
    READY_ARRAY,
    READY_STRING,
    READY_CHAR,
    READY_HEX,
    READY_NUMBER,
    READY_INTEGER,
    READY_BOOLEAN,
    READY_NULL,
    READY_PLAIN,
    READY_DATE,
    READY_TIME,
    READY_DATE_TIME,
    READY_DURATION,
    READY_EMAIL,
    READY_HOSTNAME,
    READY_IPV4,
    READY_IPV6,
    READY_UUID,
    READY_URI,
    READY_COUNT
};

const char *ready(struct compiler *c, enum ready_rule rule); /* its name; it and what it calls will be written */
void put_ready_rules(struct compiler *c);
void put_rule(struct compiler *c, const char *name, const struct buf *text);
void put_json_char(struct compiler *c, struct buf *b, uint32_t code);                /* inside a GBNF literal */
void put_class_char(struct compiler *c, struct buf *b, uint32_t code);               /* inside a GBNF class */
void put_json_string(struct compiler *c, struct buf *b, const char *text, size_t n); /* a GBNF literal with its quotes */
/* At least `least`, at most `most` times an item, which is one GBNF item. */
void put_repeat(struct compiler *c, struct buf *b, const char *item, int64_t least, int64_t most);
uint32_t code_point(const char *text, size_t left, size_t *n); /* text is UTF-8 */

/* ---- one file each: text of the values of one type; false: there are none ---- */

bool put_string(struct compiler *c, struct buf *b, const struct shape *s);
bool put_number(struct compiler *c, struct buf *b, const struct shape *s);
bool put_object(struct compiler *c, struct buf *b, const struct shape *s);
bool put_array(struct compiler *c, struct buf *b, const struct shape *s);

struct regex_lengths {
    int64_t least, most;
};
/* The characters of a JSON string that match. What it has to do with lengths, it does. */
bool put_regex(struct compiler *c, struct buf *b, const struct shape *s);

/* The rule of keys, with quotes, that are none of the names. */
struct rule_name other_keys(struct compiler *c, const char *const *names, size_t n);

/* The schemas of a property of an object. False: it is not named. */
bool property_of(struct compiler *c, const struct conjunction *all, const char *name, struct conjunction *out);
bool has_name(const json_t *array, const char *name);

/* Refuses alternatives of a oneOf that a value might satisfy several of. */
void check_one_of(struct compiler *c, const struct conjunction *all, const json_t *schema, const json_t *extra);

#endif
