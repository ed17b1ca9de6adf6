#include "train/share.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

struct share_item {
    int32_t rows, at; /* of the pair at this place */
    int32_t rank;     /* that computes it */
};

int share_init(struct share *s, size_t max_pairs, const struct genarm_team *team, struct genarm_error *err) {
    *s = (struct share){.rank = team ? team->rank : 0, .size = team ? team->size : 1};
    s->pairs = malloc(max_pairs * sizeof *s->pairs);
    s->items = malloc(max_pairs * sizeof *s->items);
    s->rows = malloc((size_t)s->size * sizeof *s->rows);
    if (!s->pairs || !s->items || !s->rows) {
        share_deinit(s);
        return error_nomem(err, "the shares of the ranks");
    }
    return GENARM_OK;
}

void share_deinit(struct share *s) {
    free(s->pairs);
    free(s->items);
    free(s->rows);
    *s = (struct share){0};
}

static int longest_first(const void *a, const void *b) {
    const struct share_item *x = a, *y = b;
    return x->rows != y->rows ? (x->rows < y->rows) - (x->rows > y->rows) : (x->at > y->at) - (x->at < y->at);
}

static int in_order(const void *a, const void *b) {
    const struct share_item *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

static int32_t least_loaded(const struct share *s) {
    int32_t best = 0;
    for (int32_t r = 1; r < s->size; r++) {
        best = s->rows[r] < s->rows[best] ? r : best;
    }
    return best;
}

void share_split(struct share *s, const struct data *d, const uint32_t *pairs, int32_t n, enum pack_form form) {
    memset(s->rows, 0, (size_t)s->size * sizeof *s->rows);
    for (int32_t i = 0; i < n; i++) {
        s->items[i] = (struct share_item){.rows = pack_rows_of(&d->pairs[pairs[i]], form), .at = i};
    }
    qsort(s->items, (size_t)n, sizeof *s->items, longest_first);
    for (int32_t i = 0; i < n; i++) {
        s->items[i].rank = least_loaded(s);
        s->rows[s->items[i].rank] += s->items[i].rows;
    }
    qsort(s->items, (size_t)n, sizeof *s->items, in_order);
    s->n = 0;
    for (int32_t i = 0; i < n; i++) {
        if (s->items[i].rank == s->rank) {
            s->pairs[s->n++] = pairs[i];
        }
    }
}
