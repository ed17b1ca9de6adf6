#include "model/words.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "model/model.h"

static int compare(const void *a, const void *b) {
    const struct word *x = a, *y = b;
    const int order = memcmp(x->bytes, y->bytes, (size_t)(x->n < y->n ? x->n : y->n));
    return order ? order : x->n != y->n ? x->n - y->n : x->token - y->token;
}

/* Reads the bytes of all tokens. */
static int read_bytes(struct words *w, const struct genarm_model *model, struct genarm_error *err) {
    size_t max = 0, n = 0;
    for (int32_t t = 0; t < w->n_vocab; t++) {
        max += (size_t)abs(genarm_token_bytes(model, t, false, NULL, 0));
    }
    w->bytes = malloc(max + 1);
    if (!w->bytes) {
        return error_nomem(err, "a vocabulary");
    }
    for (int32_t t = 0; t < w->n_vocab; t++) {
        const int32_t left = (int32_t)(max - n < INT32_MAX ? max - n : INT32_MAX);
        const int32_t got = genarm_token_bytes(model, t, false, (char *)w->bytes + n, left);
        w->offsets[t] = n;
        n += got > 0 ? (size_t)got : 0;
    }
    w->offsets[w->n_vocab] = n;
    return GENARM_OK;
}

static void sort(struct words *w, const struct genarm_model *model) {
    for (int32_t t = 0; t < w->n_vocab; t++) {
        const uint8_t *bytes;
        const int32_t n = words_bytes(w, t, &bytes);
        if (genarm_token_ends(model, t)) {
            w->ends[w->n_ends++] = t;
        } else if (n > 0) {
            w->sorted[w->n++] = (struct word){.bytes = bytes, .n = n, .token = t};
            w->longest = n > w->longest ? n : w->longest;
        }
    }
    qsort(w->sorted, (size_t)w->n, sizeof *w->sorted, compare);
    for (int32_t i = 1; i < w->n; i++) {
        const struct word *last = &w->sorted[i - 1];
        struct word *word = &w->sorted[i];
        while (word->shared < last->n && word->shared < word->n && last->bytes[word->shared] == word->bytes[word->shared]) {
            word->shared++;
        }
    }
}

static int words_new(struct words **out, const struct genarm_model *model, struct genarm_error *err) {
    struct words *w = calloc(1, sizeof *w);
    if (!w) {
        return error_nomem(err, "a vocabulary");
    }
    w->n_vocab = model->hp.n_vocab;
    w->sorted = calloc((size_t)w->n_vocab + 1, sizeof *w->sorted);
    w->ends = calloc((size_t)w->n_vocab + 1, sizeof *w->ends);
    w->offsets = calloc((size_t)w->n_vocab + 1, sizeof *w->offsets);
    const int rc = w->sorted && w->ends && w->offsets ? read_bytes(w, model, err) : error_nomem(err, "a vocabulary");
    if (rc != GENARM_OK) {
        words_free(w);
        return rc;
    }
    sort(w, model);
    *out = w;
    return GENARM_OK;
}

int model_words(const struct words **out, const struct genarm_model *model, struct genarm_error *err) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    struct words **words = &((struct genarm_model *)model)->words; /* nobody else looks at them */
    pthread_mutex_lock(&mutex);
    const int rc = *words ? GENARM_OK : words_new(words, model, err);
    if (rc == GENARM_OK) {
        *out = *words;
    }
    pthread_mutex_unlock(&mutex);
    return rc;
}

void words_free(struct words *w) {
    if (w) {
        free(w->sorted);
        free(w->ends);
        free(w->bytes);
        free(w->offsets);
        free(w);
    }
}

int32_t words_bytes(const struct words *w, int32_t token, const uint8_t **bytes) {
    if (token < 0 || token >= w->n_vocab) {
        return 0;
    }
    *bytes = w->bytes + w->offsets[token];
    return (int32_t)(w->offsets[token + 1] - w->offsets[token]);
}
