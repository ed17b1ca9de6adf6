/* Words become numbers, equal words equal ones, by sorting; n-grams are counted by sorting where they begin. Nothing is
 * hashed, so that the counts are exact. */
#include "eval/diversity.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* ---- words ---- */

struct word {
    const char *text;
    size_t n;  /* bytes */
    size_t at; /* which word it is, from 0 */
};

struct words {
    struct word *items; /* [n] */
    size_t n, cap;
};

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static int words_add(struct words *w, const char *text, struct genarm_error *err) {
    for (const char *s = text;;) {
        while (is_space(*s)) {
            s++;
        }
        const char *end = s;
        while (*end && !is_space(*end)) {
            end++;
        }
        if (end == s) {
            return 0;
        }
        if (w->n == w->cap) {
            const size_t cap = w->cap ? 2 * w->cap : 256;
            struct word *grown = realloc(w->items, cap * sizeof *grown);
            if (!grown) {
                return error_nomem(err, "the words of a text");
            }
            w->items = grown;
            w->cap = cap;
        }
        w->items[w->n] = (struct word){s, (size_t)(end - s), w->n};
        w->n++;
        s = end;
    }
}

static int by_bytes(const void *a, const void *b) {
    const struct word *x = a, *y = b;
    const int order = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

/* ids[w->n]: equal words have equal ones. Sorts the words. */
static void words_number(int32_t *ids, struct words *w) {
    int32_t id = 0;
    if (w->n) {
        qsort(w->items, w->n, sizeof *w->items, by_bytes);
    }
    for (size_t i = 0; i < w->n; i++) {
        id += i > 0 && by_bytes(&w->items[i - 1], &w->items[i]) != 0;
        ids[w->items[i].at] = id;
    }
}

/* ---- n-grams ---- */

struct grams {
    const int32_t *ids;
    int n; /* ids of an n-gram */
};

static int by_ids(const void *a, const void *b, void *context) {
    const struct grams *g = context;
    const int32_t *x = g->ids + *(const size_t *)a, *y = g->ids + *(const size_t *)b;
    for (int i = 0; i < g->n; i++) {
        if (x[i] != y[i]) {
            return x[i] < y[i] ? -1 : 1;
        }
    }
    return 0;
}

/* Different n-grams among those that begin at starts[n_starts], which is sorted. */
static int64_t count_unique(size_t *starts, size_t n_starts, struct grams g) {
    int64_t unique = n_starts > 0;
    qsort_r(starts, n_starts, sizeof *starts, by_ids, &g);
    for (size_t i = 1; i < n_starts; i++) {
        unique += by_ids(&starts[i - 1], &starts[i], &g) != 0;
    }
    return unique;
}

int diversity_count_tokens(struct diversity_counts *out, const int32_t *tokens, size_t n, struct genarm_error *err) {
    struct diversity_counts made = {0};
    size_t *starts = calloc(n + 1, sizeof *starts);
    if (!starts) {
        return error_nomem(err, "the n-grams of a text");
    }
    for (int k = 1; k <= DIVERSITY_MAX_N; k++) {
        const size_t n_starts = n >= (size_t)k ? n - (size_t)k + 1 : 0;
        for (size_t i = 0; i < n_starts; i++) {
            starts[i] = i;
        }
        made.total[k] = (int64_t)n_starts;
        made.unique[k] = count_unique(starts, n_starts, (struct grams){tokens, k});
    }
    free(starts);
    *out = made;
    return 0;
}

int diversity_count_words(struct diversity_counts *out, const char *text, struct genarm_error *err) {
    struct words words = {0};
    int32_t *ids = NULL;
    int code = words_add(&words, text, err);
    if (code == 0) {
        ids = calloc(words.n + 1, sizeof *ids);
        code = ids ? 0 : error_nomem(err, "the words of a text");
    }
    if (code == 0) {
        words_number(ids, &words);
        code = diversity_count_tokens(out, ids, words.n, err);
    }
    free(ids);
    free(words.items);
    return code;
}

int diversity_distinct_words(double *out, const char *const *texts, size_t n_texts, int n, struct genarm_error *err) {
    struct words words = {0};
    int32_t *ids = NULL;
    size_t *starts = NULL, n_starts = 0;
    const size_t length = (size_t)n;
    if (n < 1 || n > DIVERSITY_MAX_N) {
        return error_set(err, GENARM_EINVAL, "n-grams of %d words, not of 1 to %d", n, DIVERSITY_MAX_N);
    }
    size_t *ends = calloc(n_texts + 1, sizeof *ends); /* words up to the end of each text */
    int code = ends ? 0 : error_nomem(err, "the words of texts");
    for (size_t i = 0; i < n_texts && code == 0; i++) {
        code = words_add(&words, texts[i], err);
        ends[i] = words.n;
    }
    if (code == 0) {
        ids = calloc(words.n + 1, sizeof *ids);
        starts = calloc(words.n + 1, sizeof *starts);
        code = ids && starts ? 0 : error_nomem(err, "the words of texts");
    }
    if (code) {
        goto done;
    }
    words_number(ids, &words);
    for (size_t i = 0, at = 0; i < n_texts; at = ends[i++]) {
        for (; at + length <= ends[i]; at++) { /* none goes from a text into the next */
            starts[n_starts++] = at;
        }
    }
    *out = n_starts ? (double)count_unique(starts, n_starts, (struct grams){ids, n}) / (double)n_starts : NAN;
done:
    free(starts);
    free(ids);
    free(ends);
    free(words.items);
    return code;
}

/* ---- numbers of counts ---- */

void diversity_counts_add(struct diversity_counts *sum, const struct diversity_counts *counts) {
    for (int n = 1; n <= DIVERSITY_MAX_N; n++) {
        sum->total[n] += counts->total[n];
        sum->unique[n] += counts->unique[n];
    }
}

double diversity_rep(const struct diversity_counts *counts, int n) {
    return counts->total[n] ? 100 * (1 - (double)counts->unique[n] / (double)counts->total[n]) : 0;
}

double diversity_of(const struct diversity_counts *counts) {
    double product = 1;
    for (int n = 2; n <= 4; n++) {
        product *= 1 - diversity_rep(counts, n) / 100;
    }
    return product;
}

static double of_sum(const size_t *index, size_t n, const void *data) {
    const struct diversity_counts *counts = data;
    struct diversity_counts sum = {0};
    for (size_t i = 0; i < n; i++) {
        diversity_counts_add(&sum, &counts[index[i]]);
    }
    return diversity_of(&sum);
}

int diversity_interval(struct interval *out, const struct diversity_counts *counts, size_t n,
                       const struct bootstrap_params *params, struct genarm_error *err) {
    return bootstrap(out, n, of_sum, counts, params, err);
}
