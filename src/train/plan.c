#include "train/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/rng.h"

enum { STREAM_SPLIT = 1, STREAM_ORDER = 2 }; /* of the seed */

/* A pair's place in the order from which the held-out pairs are taken: pairs of one prompt are neighbours. */
struct place {
    uint64_t key;
    uint32_t pair;
};

static int compare_places(const void *a, const void *b) {
    const struct place *x = a, *y = b;
    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    return x->pair < y->pair ? -1 : x->pair > y->pair;
}

static int compare_indices(const void *a, const void *b) {
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* How many of the first places are held out: the border between prompts that is nearest to `wanted`, or, where none is
 * within half of it, `wanted`. */
static int32_t border(const struct place *places, int32_t n, int32_t wanted) {
    int32_t below = wanted, above = wanted;
    while (below > 0 && places[below].key == places[below - 1].key) {
        below--;
    }
    while (above < n && places[above].key == places[above - 1].key) {
        above++;
    }
    const int32_t most = wanted > 1 ? wanted / 2 : 1, to_above = above < n ? above - wanted : INT32_MAX,
                  to_below = below > 0 ? wanted - below : INT32_MAX;
    if (to_above > most && to_below > most) {
        return wanted;
    }
    return to_above < to_below ? above : below;
}

static int split(struct plan *p, const struct data *d, double share, struct genarm_error *err) {
    const int32_t n = (int32_t)d->n_pairs;
    int32_t wanted = (int32_t)lround(share * n);
    struct place *places = malloc(d->n_pairs * sizeof *places);
    if (!places) {
        return error_nomem(err, "the order of pairs");
    }
    for (int32_t i = 0; i < n; i++) {
        places[i] =
            (struct place){.key = rng_hash(p->seed, STREAM_SPLIT, d->pairs[i].prompt_hash), .pair = (uint32_t)i};
    }
    qsort(places, d->n_pairs, sizeof *places, compare_places);
    wanted = share > 0 && wanted == 0 ? 1 : wanted;
    wanted = wanted < n ? wanted : n - 1;
    p->n_val = wanted > 0 ? border(places, n, wanted) : 0;
    p->n_train = n - p->n_val;
    for (int32_t i = 0; i < n; i++) {
        *(i < p->n_val ? &p->val[i] : &p->train[i - p->n_val]) = places[i].pair;
    }
    free(places);
    qsort(p->val, (size_t)p->n_val, sizeof *p->val, compare_indices);
    qsort(p->train, (size_t)p->n_train, sizeof *p->train, compare_indices);
    return GENARM_OK;
}

int plan_init(struct plan *p, const struct data *d, const struct genarm_train_params *params,
              struct genarm_error *err) {
    *p = (struct plan){.batch_size = params->batch_size,
                       .epochs = params->epochs,
                       .shuffle = params->shuffle,
                       .seed = params->seed,
                       .epoch = -1};
    if (d->n_pairs > INT32_MAX / 2) {
        return error_set(err, GENARM_EUNSUPPORTED, "%zu pairs are too many", d->n_pairs);
    }
    p->train = malloc(d->n_pairs * sizeof *p->train);
    p->val = malloc(d->n_pairs * sizeof *p->val);
    p->order = malloc(d->n_pairs * sizeof *p->order);
    int rc =
        p->train && p->val && p->order ? split(p, d, params->val_split, err) : error_nomem(err, "the order of pairs");
    if (rc != GENARM_OK) {
        plan_deinit(p);
        return rc;
    }
    p->steps_per_epoch = (p->n_train + p->batch_size - 1) / p->batch_size;
    p->n_steps = p->steps_per_epoch * p->epochs;
    return GENARM_OK;
}

void plan_deinit(struct plan *p) {
    free(p->train);
    free(p->val);
    free(p->order);
    *p = (struct plan){0};
}

const uint32_t *plan_step(struct plan *p, int64_t step, int32_t *n) {
    const int64_t epoch = step / p->steps_per_epoch, first = step % p->steps_per_epoch * p->batch_size;
    if (p->epoch != epoch) {
        memcpy(p->order, p->train, (size_t)p->n_train * sizeof *p->order);
        if (p->shuffle) {
            struct rng rng;
            rng_seed(&rng, rng_hash(p->seed, STREAM_ORDER, (uint64_t)epoch));
            rng_shuffle(&rng, p->order, (size_t)p->n_train);
        }
        p->epoch = epoch;
    }
    const int64_t left = p->n_train - first;
    *n = left < p->batch_size ? (int32_t)left : p->batch_size;
    return p->order + first;
}

int64_t plan_pairs_before(const struct plan *p, int64_t step) {
    return step / p->steps_per_epoch * p->n_train + step % p->steps_per_epoch * p->batch_size;
}
