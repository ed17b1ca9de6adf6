/* The reading of --objective NAME=PAIRS[@LABEL]. */
#ifndef CLI_OBJECTIVES_H
#define CLI_OBJECTIVES_H

#include <stdbool.h>

#include "genarm/train.h"
#include "options.h"

#define OBJECTIVE_FORM "NAME=PAIRS[@LABEL]"

struct objective_set {
    struct genarm_objective *items; /* [n] in the order in which their names appear first */
    size_t n;
};

/* A name that is given again adds its file to those before. `label` is of files that name none; a path that ends like a label
 * wins over it where that file exists. Errors: CLI_USAGE. objectives_free in every case. */
int objectives_parse(struct objective_set *out, const struct option_list *texts, enum genarm_data_label label,
                     struct genarm_error *err);
void objectives_free(struct objective_set *set); /* safe on a zeroed struct */

#endif
