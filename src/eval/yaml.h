/* Documents in YAML, and so in JSON, as trees of values that know where they stand in the file: what an experiment is read
 * from. libyaml parses; here aliases are resolved, and what no experiment needs is refused: keys that are no text or come
 * twice, tags, several documents, aliases that contain themselves or multiply.
 *
 * Errors are GENARM_EFORMAT at "file:line:column".
 */
#ifndef EVAL_YAML_H
#define EVAL_YAML_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum yaml_kind { YAML_TEXT, YAML_LIST, YAML_MAP };

enum {
    YAML_MAX_BYTES = 16 << 20,
    YAML_MAX_VALUES = 100000, /* with those that aliases repeat */
    YAML_MAX_DEPTH = 64,
};

struct yaml_value {
    enum yaml_kind kind;
    bool plain;       /* a text without quotes: may be a number, true, false or null */
    const char *text; /* of a text, UTF-8 without zero bytes; else NULL */
    size_t n;         /* of a list or a map */
    struct yaml_value *items; /* [n], of a list; of a map its values */
    struct yaml_value *keys;  /* [n] texts, of a map; else NULL */
    int line, column;         /* from 1; of an alias where what it stands for is */
    const char *file;         /* borrowed from the document */
};

struct yaml {
    char *file; /* as errors name it */
    struct yaml_value root;
};

int yaml_read(struct yaml **out, const char *path, struct genarm_error *err);
int yaml_parse(struct yaml **out, const char *text, size_t n, const char *file, struct genarm_error *err);
void yaml_doc_free(struct yaml *doc); /* NULL is fine */

/* An error at a value: GENARM_EFORMAT at "file:line:column". Returns the code. */
int yaml_error(const struct yaml_value *at, struct genarm_error *err, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Names the value's place in an error that has none yet. Returns `code`. */
int yaml_error_at(const struct yaml_value *at, int code, struct genarm_error *err);

/* A map's value, or NULL. `map` may be NULL or no map. */
const struct yaml_value *yaml_get(const struct yaml_value *map, const char *key);

bool yaml_is_null(const struct yaml_value *v); /* nothing, ~ or null */

/* Typed values. `name` is what the error calls the value. */
int yaml_text(const char **out, const struct yaml_value *v, const char *name, struct genarm_error *err);
int yaml_number(double *out, const struct yaml_value *v, const char *name, struct genarm_error *err);
int yaml_integer(int64_t *out, const struct yaml_value *v, int64_t min, const char *name, struct genarm_error *err);
int yaml_bool(bool *out, const struct yaml_value *v, const char *name, struct genarm_error *err);
int yaml_map(const struct yaml_value *v, const char *name, struct genarm_error *err); /* an error unless it is a map */

/* Whether a text is all of a finite number, in decimal. */
bool yaml_reads_as_number(const char *text, double *out);

/* The value as JSON: plain numbers, true, false and null as such. NULL when out of memory. */
json_t *yaml_json(const struct yaml_value *v);

#endif
