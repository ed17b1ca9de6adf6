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

static int find_objectives(struct plan *p, const struct data *d, struct genarm_error *err) {
    for (int32_t o = 0; o < p->n_objectives; o++) {
        int32_t end = p->first[o];
        while (end < p->n_train && d->pairs[p->train[end]].objective == o) {
            end++;
        }
        const int32_t n = end - p->first[o];
        if (n == 0) {
            const int rc =
                error_set(err, GENARM_EINVAL, "all pairs of objective %s are held out", d->objectives.names[o]);
            return error_hint(err, rc, "lower the share held out");
        }
        p->longest = n > p->longest ? n : p->longest;
        p->first[o + 1] = end;
        p->pass[o] = -1;
    }
    return GENARM_OK;
}

int plan_init(struct plan *p, const struct data *d, const struct genarm_train_params *params,
              struct genarm_error *err) {
    *p = (struct plan){.batch_size = params->batch_size,
                       .epochs = params->epochs,
                       .shuffle = params->shuffle,
                       .seed = params->seed,
                       .n_objectives = d->objectives.n > 0 ? d->objectives.n : 1,
                       .draws = d->objectives.n > 0 ? params->preference_draws : 1};
    if (d->n_pairs > INT32_MAX / 2) {
        return error_set(err, GENARM_EUNSUPPORTED, "%zu pairs are too many", d->n_pairs);
    }
    p->train = malloc(d->n_pairs * sizeof *p->train);
    p->val = malloc(d->n_pairs * sizeof *p->val);
    p->order = malloc(d->n_pairs * sizeof *p->order);
    const size_t step = (size_t)p->n_objectives * (size_t)p->batch_size;
    p->step = malloc(step * sizeof *p->step);
    p->most = step > d->n_pairs ? step : d->n_pairs;
    int rc = p->train && p->val && p->order && p->step ? split(p, d, params->val_split, err)
                                                       : error_nomem(err, "the order of pairs");
    rc = rc == GENARM_OK ? find_objectives(p, d, err) : rc;
    if (rc != GENARM_OK) {
        plan_deinit(p);
        return rc;
    }
    p->steps_per_epoch = (p->longest + p->batch_size - 1) / p->batch_size;
    p->n_steps = p->steps_per_epoch * p->epochs;
    return GENARM_OK;
}

void plan_deinit(struct plan *p) {
    free(p->train);
    free(p->val);
    free(p->order);
    free(p->step);
    *p = (struct plan){0};
}

/* The pair of an objective at a place of an epoch; an objective with fewer pairs than places goes through them again. */
static uint32_t pair_at(struct plan *p, int32_t objective, int64_t epoch, int64_t place) {
    const int32_t first = p->first[objective], n = p->first[objective + 1] - first;
    const int64_t pass = epoch * ((p->longest + n - 1) / n) + place / n;
    if (p->pass[objective] != pass) {
        memcpy(p->order + first, p->train + first, (size_t)n * sizeof *p->order);
        if (p->shuffle) {
            struct rng rng;
            rng_seed(&rng, rng_hash(p->seed, (uint64_t)STREAM_ORDER + ((uint64_t)objective << 8), (uint64_t)pass));
            rng_shuffle(&rng, p->order + first, (size_t)n);
        }
        p->pass[objective] = pass;
    }
    return p->order[first + place % n];
}

int32_t plan_draw_end(const struct plan *p, int32_t n, int32_t draw) {
    const int32_t each = n / p->n_objectives, draws = p->draws < each ? p->draws : each;
    return (int32_t)((int64_t)(draw + 1) * each / draws) * p->n_objectives;
}

const uint32_t *plan_step(struct plan *p, int64_t step, int32_t *n) {
    const int64_t epoch = step / p->steps_per_epoch, first = step % p->steps_per_epoch * p->batch_size;
    const int64_t left = p->longest - first;
    *n = p->n_objectives * (left < p->batch_size ? (int32_t)left : p->batch_size);
    for (int32_t draw = 0, begin = 0, end = 0; end < *n; draw++, begin = end) {
        end = plan_draw_end(p, *n, draw);
        uint32_t *to = p->step + begin;
        for (int32_t o = 0; o < p->n_objectives; o++) {
            for (int32_t i = begin / p->n_objectives; i < end / p->n_objectives; i++) {
                *to++ = pair_at(p, o, epoch, first + i);
            }
        }
    }
    return p->step;
}

int64_t plan_pairs_before(const struct plan *p, int64_t step) {
    return p->n_objectives * (step / p->steps_per_epoch * p->longest + step % p->steps_per_epoch * p->batch_size);
}
