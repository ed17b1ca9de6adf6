#include "train/tally.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/error.h"
#include "train/team.h"

int tally_at_pair(const struct data *d, const struct pair *pair, int rc, struct genarm_error *err) {
    return error_at(err, rc, "%s:%" PRId64 ", record %" PRId64, d->paths[pair->file], pair->line, pair->record);
}

int tally_add(struct tally *t, const struct pack *p, const struct loss_value *values, const double *weights,
              const struct data *d, int64_t step, struct genarm_error *err) {
    for (int32_t i = 0; i < p->n_pairs; i++) {
        const struct loss_value *v = &values[i];
        if (!isfinite(v->loss)) {
            const int rc = error_set(err, GENARM_EDIVERGED, "the loss is %f in step %" PRId64, v->loss, step);
            return tally_at_pair(d, p->pairs[i], rc, err);
        }
        if (!t->worst || v->loss > t->worst_loss) {
            t->worst = p->pairs[i];
            t->worst_loss = v->loss;
        }
        t->loss += weights ? weights[p->pairs[i]->objective] * v->loss : v->loss;
        if (p->trees[4 * i + 2 + REJECTED] > 0) {
            t->n_ranked++;
            t->rewards[CHOSEN] += v->rewards[CHOSEN];
            t->rewards[REJECTED] += v->rewards[REJECTED];
            t->right += v->rewards[CHOSEN] > v->rewards[REJECTED];
        }
    }
    t->n += p->n_pairs;
    return GENARM_OK;
}

int tally_of_all(struct tally *t, const struct genarm_team *team, int rc, struct genarm_error *err) {
    double sums[] = {(double)t->n, t->loss, t->rewards[CHOSEN], t->rewards[REJECTED], (double)t->right, (double)t->n_ranked};
    _Static_assert(sizeof sums / sizeof *sums <= TEAM_VALUES, "all fit into one message");
    rc = team_add(team, rc, sums, sizeof sums / sizeof *sums, err);
    if (rc == GENARM_OK) {
        t->n = (int64_t)sums[0];
        t->loss = sums[1];
        t->rewards[CHOSEN] = sums[2];
        t->rewards[REJECTED] = sums[3];
        t->right = (int64_t)sums[4];
        t->n_ranked = (int64_t)sums[5];
    }
    return rc;
}

int tally_find_worst(struct tally *t, const struct data *d, const struct genarm_team *team, struct genarm_error *err) {
    struct candidate {
        double loss;
        int64_t pair; /* -1: a rank without pairs */
    } mine = {.loss = t->worst_loss, .pair = t->worst ? t->worst - d->pairs : -1};
    if (!team_works(team)) {
        return GENARM_OK;
    }
    struct candidate *all = malloc((size_t)team->size * sizeof *all);
    int rc = all ? team->gather(&mine, all, sizeof mine, team->user, err) : error_nomem(err, "the ranks' pairs");
    for (int32_t i = 0; i < team->size && rc == GENARM_OK; i++) {
        if (all[i].pair >= 0 && (mine.pair < 0 || all[i].loss > mine.loss)) {
            mine = all[i];
        }
    }
    if (rc == GENARM_OK && mine.pair >= 0) {
        t->worst = &d->pairs[mine.pair];
        t->worst_loss = mine.loss;
    }
    free(all);
    return rc;
}

struct tally_means tally_means(const struct tally *t) {
    const double n = t->n > 0 ? (double)t->n : NAN, ranked = t->n_ranked > 0 ? (double)t->n_ranked : NAN;
    return (struct tally_means){.loss = t->loss / n,
                                .accuracy = (double)t->right / ranked,
                                .margin = (t->rewards[CHOSEN] - t->rewards[REJECTED]) / ranked,
                                .chosen = t->rewards[CHOSEN] / ranked,
                                .rejected = t->rewards[REJECTED] / ranked};
}
