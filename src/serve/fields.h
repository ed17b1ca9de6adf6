/* Strict reading of a request's JSON: every member is one of a table, of the right type and in its range. Errors name the member
 * in `where`.
 */
#ifndef SERVE_FIELDS_H
#define SERVE_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum field_type {
    FIELD_BOOL,    /* bool */
    FIELD_INTEGER, /* int64_t, min to max */
    FIELD_NUMBER,  /* double, min to max */
    FIELD_STRING,  /* const char *, borrowed; valid UTF-8 without NUL */
    FIELD_OBJECT,  /* const json_t *, borrowed */
    FIELD_ARRAY,   /* the same */
    FIELD_ANY,     /* the same: more than one type will do */
    FIELD_IGNORED, /* known, and changes nothing here */
    FIELD_NEUTRAL, /* known, but only the value that changes nothing is supported: `neutral`, or null */
};

struct field {
    enum field_type type;
    const char *name;
    size_t offset;      /* of the member of what is filled in */
    double min, max;
    const char *neutral; /* JSON: one value, or several in a list */
};

/* Fills in `out` from an object; null is as if a member were not given. GENARM_EINVAL: an unknown member (the nearest known one
 * is named), a wrong type, out of range. */
int fields_read(const json_t *object, const struct field *fields, size_t n, void *out, struct genarm_error *err);

/* The object that a body is; GENARM_EFORMAT when it is none. New reference. */
int fields_parse(json_t **out, const char *body, size_t n, struct genarm_error *err);

/* Whether a number is an integer that a double holds exactly; 5.0 is one, as JSON schemas see it. */
bool field_whole(const json_t *value, int64_t *out);

/* A list of token ids from an array of integers; *out is malloc'ed. */
int fields_tokens(int32_t **out, size_t *n, const json_t *array, const char *name, int32_t n_vocab, struct genarm_error *err);

/* GENARM_EINVAL with the member's name. */
int field_error(struct genarm_error *err, const char *name, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
