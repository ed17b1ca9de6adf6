/* Points of sweeps: values of variables, for each of which something of an experiment is done. */
#ifndef EVAL_SWEEP_H
#define EVAL_SWEEP_H

#include "base/buf.h"
#include "eval/yaml.h"

enum { SWEEP_MAX_POINTS = 10000 };

struct point {
    struct binding {
        const char *name, *value; /* borrowed from the document */
    } *bindings;                  /* [n] */
    size_t n;
};

struct sweep {
    struct point *points; /* [n] */
    size_t n;
};

/* The points of a list of maps, or of a map of lists, whose product they are, the first variable slowest. */
int sweep_read(struct sweep *out, const struct yaml_value *v, struct genarm_error *err);
/* All pairs of a point of a and one of b, the points of a slowest. */
int sweep_product(struct sweep *out, const struct sweep *a, const struct sweep *b, const struct yaml_value *at,
                  struct genarm_error *err);
/* The one point that has no variables. */
int sweep_none(struct sweep *out, struct genarm_error *err);
void sweep_deinit(struct sweep *s); /* safe on a zeroed struct */

const char *point_get(const struct point *p, const char *name); /* or NULL */

/* Whether all variables of `part` have the same values in `whole`. */
bool point_within(const struct point *part, const struct point *whole);

/* Appends "h=0.5,s=0.5": with only letters, digits and ._+-= so that it can be part of a file's name. */
int point_print(struct buf *out, const struct point *p, struct genarm_error *err);

json_t *point_json(const struct point *p); /* numbers as such; NULL when out of memory */

#endif
