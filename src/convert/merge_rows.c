/* W + sum scale B A, a row of W at a time: decoded, changed in f32, encoded. Rows are independent of one another, so the
 * result does not depend on the number of threads. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "convert/merge.h"

static const float largest_f16 = 65504.0f;

struct share {
    const struct merge_rows *m;
    int64_t first, n;
    char *to;
    float *row, *change; /* [n_in] each */
    int64_t bad;         /* first row that cannot be written; -1: none */
};

static void decode(float *row, const struct merge_rows *m, int64_t i) {
    const enum ggml_type type = m->from_type;
    const char *bytes = (const char *)m->from + (size_t)i * ggml_row_size(type, m->n_in);
    if (type == GGML_TYPE_F32) {
        memcpy(row, bytes, (size_t)m->n_in * sizeof *row);
    } else {
        ggml_get_type_traits(type)->to_float(bytes, row, m->n_in);
    }
}

/* change[p] = sum over adapters and ranks of scale b[i, j] a[j, p] */
static void sum_changes(float *restrict change, const struct merge_rows *m, int64_t i) {
    memset(change, 0, (size_t)m->n_in * sizeof *change);
    for (size_t k = 0; k < m->n_changes; k++) {
        const struct merge_change *c = &m->changes[k];
        for (int64_t j = 0; j < c->rank; j++) {
            const float factor = (float)(c->scale * (double)c->b[i * c->rank + j]);
            const float *restrict a = c->a + j * m->n_in;
            for (int64_t p = 0; p < m->n_in; p++) {
                change[p] += factor * a[p];
            }
        }
    }
}

static void *run_share(void *argument) {
    struct share *s = argument;
    const struct merge_rows *m = s->m;
    const enum ggml_type type = m->to_type;
    /* scales of blocks are F16 */
    const float limit = type == GGML_TYPE_F16 || ggml_is_quantized(type) ? largest_f16 : INFINITY;
    for (int64_t i = s->first; i < s->first + s->n && s->bad < 0; i++) {
        decode(s->row, m, i);
        sum_changes(s->change, m, i);
        for (int64_t p = 0; p < m->n_in; p++) {
            s->row[p] += s->change[p];
            s->bad = isfinite(s->row[p]) && fabsf(s->row[p]) <= limit ? s->bad : i;
        }
        if (s->bad < 0) {
            ggml_quantize_chunk(type, s->row, s->to + (size_t)(i - s->first) * ggml_row_size(type, m->n_in), 0, 1,
                                m->n_in, NULL);
        }
    }
    return NULL;
}

/* Runs the shares, the first on this thread; one whose thread does not start runs here, too. */
static void run_shares(struct share *shares, int n) {
    pthread_t threads[64];
    bool started[64] = {false};
    for (int i = 1; i < n; i++) {
        started[i] = pthread_create(&threads[i], NULL, run_share, &shares[i]) == 0;
    }
    for (int i = 0; i < n; i++) {
        if (started[i]) {
            pthread_join(threads[i], NULL);
        } else {
            run_share(&shares[i]);
        }
    }
}

int merge_rows_run(const struct merge_rows *m, int64_t first, int64_t n, void *to, struct genarm_error *err) {
    struct share shares[64];
    int n_shares = m->n_threads < 64 ? m->n_threads : 64;
    n_shares = n_shares < n ? n_shares : (int)n;
    const size_t row_size = ggml_row_size(m->to_type, m->n_in);
    float *rows = malloc((size_t)n_shares * 2 * (size_t)m->n_in * sizeof *rows);
    if (!rows) {
        return error_nomem(err, "rows of weights");
    }
    for (int i = 0; i < n_shares; i++) {
        const int64_t begin = n * i / n_shares, end = n * (i + 1) / n_shares;
        float *own = rows + (size_t)i * 2 * (size_t)m->n_in;
        shares[i] = (struct share){.m = m,
                                   .first = first + begin,
                                   .n = end - begin,
                                   .to = (char *)to + (size_t)begin * row_size,
                                   .row = own,
                                   .change = own + m->n_in,
                                   .bad = -1};
    }
    run_shares(shares, n_shares);
    free(rows);
    for (int i = 0; i < n_shares; i++) {
        if (shares[i].bad >= 0) {
            const int rc = error_set(err, GENARM_EDIVERGED, "row %lld of the sum does not fit the type %s",
                                     (long long)shares[i].bad, ggml_type_name(m->to_type));
            return error_hint(err, rc, "are the weights of the adapters right? F32 and BF16 hold larger numbers");
        }
    }
    return GENARM_OK;
}
