/* An experiment: what `genarm eval` reads from a YAML file (docs/eval.md). Here its form is checked: every key is known, every
 * name that refers to something refers to something. What options the commands take is checked by items.c, which makes
 * command lines of it.
 */
#ifndef EVAL_EXPERIMENT_H
#define EVAL_EXPERIMENT_H

#include "eval/sweep.h"
#include "eval/yaml.h"

enum part_kind { PART_MODEL, PART_METHOD, PART_REWARD, PART_JUDGE, PART_ACCURACY };

/* One named thing of an experiment: a file to make, a method, a reward, a judge, pairs to rank. */
struct part {
    enum part_kind kind;
    const char *name;                 /* letters, digits, - and _ */
    const char *label;                /* of a method or judge, for people; the name if not given */
    const char *command;              /* that makes its files */
    const struct yaml_value *at;      /* its key */
    const struct yaml_value *options; /* a map of the command's options, beside keys of our own; or the text of the one option
                                         that a reward or judge is made of */
    struct sweep sweep;               /* at least one point */
    const struct part *against;       /* of a judge: the method that others are compared with */
    const struct part **methods;      /* [n_methods] of a judge: those that are compared */
    size_t n_methods;
};

struct experiment {
    struct yaml *doc;
    const char *title, *about, *model, *prompts; /* NULL: not given */
    const struct yaml_value *defaults;           /* command -> map of options; NULL: none */
    const struct yaml_value *report;             /* map; NULL: none */
    int64_t seed;                                /* -1: not given */
    struct part *parts;                          /* [n], in the order of enum part_kind, then of the file */
    size_t n;
    const char **variables; /* [n_variables] of all sweeps, each once */
    size_t n_variables;
};

int experiment_read(struct experiment **out, const char *path, struct genarm_error *err);
int experiment_parse(struct experiment **out, const char *text, size_t n, const char *file, struct genarm_error *err);
void experiment_free(struct experiment *e); /* NULL is fine */

const struct part *experiment_find(const struct experiment *e, enum part_kind kind, const char *name); /* or NULL */

/* An error at a value that names nothing: says what was probably meant. `what` is for example "method". */
int experiment_unknown(const struct experiment *e, enum part_kind kind, const struct yaml_value *at, const char *name,
                       const char *what, struct genarm_error *err);

/* Whether a key of a part is ours rather than an option of its command. */
bool part_own_key(const struct part *p, const char *key);

/* The key of the experiment under which parts of this kind are: "models", "methods", … */
const char *part_section(enum part_kind kind);

#endif
