#include "train/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

int reference_init(struct reference *r, const struct data *data, struct genarm_error *err) {
    *r = (struct reference){.data = data, .sums = malloc(data->n_pairs * sizeof *r->sums)};
    if (!r->sums) {
        return error_nomem(err, "the reference's log-probabilities");
    }
    for (size_t i = 0; i < data->n_pairs; i++) {
        r->sums[i][CHOSEN] = r->sums[i][REJECTED] = NAN;
    }
    return GENARM_OK;
}

void reference_deinit(struct reference *r) {
    free(r->sums);
    *r = (struct reference){0};
}

static double *kept(const struct reference *r, const struct pair *pair) { return r->sums[pair - r->data->pairs]; }

int reference_of(struct reference *r, struct backprop *b, const struct pack *p, double (*sums)[SIDES],
                 struct genarm_error *err) {
    bool known = backprop_ignores_packing(b);
    for (int32_t i = 0; i < p->n_pairs; i++) {
        memcpy(sums[i], kept(r, p->pairs[i]), sizeof sums[i]);
        known = known && !isnan(sums[i][CHOSEN]);
    }
    if (known) {
        return GENARM_OK;
    }
    int rc = backprop_reference(b, p, sums, err);
    for (int32_t i = 0; i < p->n_pairs && rc == GENARM_OK; i++) {
        memcpy(kept(r, p->pairs[i]), sums[i], sizeof sums[i]);
    }
    return rc;
}
