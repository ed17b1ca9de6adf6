#include "train/batches.h"

#include <stdlib.h>

#include "base/error.h"

enum { MAX_ROWS = 1024 /* beyond, a bigger micro-batch is hardly faster and its activations cost memory */ };

int batches_init(struct batches *b, const struct data *data, size_t max_pairs, const struct loss *loss,
                 struct backprop *backprop, int32_t limit, struct genarm_error *err) {
    *b = (struct batches){.data = data, .loss = loss, .backprop = backprop, .limit = limit};
    b->values = malloc(max_pairs * sizeof *b->values);
    b->sums = malloc(max_pairs * sizeof *b->sums);
    int rc = b->values && b->sums ? GENARM_OK : error_nomem(err, "a micro-batch");
    if (rc == GENARM_OK && loss->uses_reference) {
        rc = reference_init(&b->reference, data, err);
    }
    if (rc != GENARM_OK) {
        batches_deinit(b);
    }
    return rc;
}

void batches_deinit(struct batches *b) {
    reference_deinit(&b->reference);
    free(b->values);
    free(b->sums);
    *b = (struct batches){0};
}

enum pack_form batches_form(const struct batches *b, bool both) {
    return b->loss->uses_head ? PACK_ENDS : both || b->loss->uses_rejected ? PACK_BOTH : PACK_CHOSEN;
}

static int run_pack(struct batches *b, const struct pack *p, const struct backprop_job *job, struct genarm_error *err) {
    struct backprop_job with_reference = *job;
    if (!b->loss->uses_reference) {
        return backprop_run(b->backprop, p, job, b->values, err);
    }
    int rc = reference_of(&b->reference, b->backprop, p, b->sums, err);
    with_reference.reference = (const double(*)[SIDES])b->sums;
    return rc == GENARM_OK ? backprop_run(b->backprop, p, &with_reference, b->values, err) : rc;
}

int batches_run(struct batches *b, const uint32_t *pairs, int32_t n, int32_t *done, enum pack_form form,
                const struct backprop_job *job, int64_t step, struct tally *tally, struct genarm_error *err) {
    struct pack pack;
    const int32_t count = pack_count(b->data, pairs + *done, n - *done, form, b->limit, MAX_ROWS);
    int rc = pack_init(&pack, b->data, pairs + *done, count, form, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    rc = run_pack(b, &pack, job, err);
    if (rc == GENARM_OK) {
        rc = tally_add(tally, &pack, b->values, job->objective_weights, b->data, step, err);
    }
    *done += count;
    pack_deinit(&pack);
    return rc;
}
