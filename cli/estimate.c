/* See estimate.h. */
#include "estimate.h"

double estimate_answer(const struct estimate *e, int64_t so_far) {
    const double limit = e->limit < 0 ? -1 : (double)(e->limit > so_far ? e->limit - so_far : 0);
    const double mean = e->n_ended ? (double)e->n_tokens / (double)e->n_ended : limit;
    return limit >= 0 && mean > limit ? limit : mean;
}
