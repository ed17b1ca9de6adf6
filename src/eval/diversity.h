/* How varied texts are, by their n-grams.
 *
 *     distinct-n  different n-grams of all texts / n-grams of all texts (Li et al., arXiv 1510.03055)
 *     rep-n       100 * (1 - different n-grams / n-grams), different within a text, both summed over texts (Welleck et al.,
 *                 arXiv 1908.04319; sums as in Su et al., "A contrastive framework", arXiv 2202.06417)
 *     diversity   product over n = 2, 3, 4 of (1 - rep-n / 100), in [0, 1]: 1 where no text repeats itself
 *
 * An n-gram is of words (runs of bytes that are not ASCII white space; case and punctuation count) or of tokens.
 */
#ifndef EVAL_DIVERSITY_H
#define EVAL_DIVERSITY_H

#include "eval/bootstrap.h"

enum { DIVERSITY_MAX_N = 4 };

/* Counts of a text, or sums of them over texts; [n]: of n-grams, n = 1 to DIVERSITY_MAX_N. */
struct diversity_counts {
    int64_t total[DIVERSITY_MAX_N + 1];
    int64_t unique[DIVERSITY_MAX_N + 1]; /* different ones within a text */
};

/* Of one text. Error: GENARM_ENOMEM. */
int diversity_count_words(struct diversity_counts *out, const char *text, struct genarm_error *err);
int diversity_count_tokens(struct diversity_counts *out, const int32_t *tokens, size_t n, struct genarm_error *err);
void diversity_counts_add(struct diversity_counts *sum, const struct diversity_counts *counts);

/* rep-n in percent, [0, 100), 0 where there is no n-gram; diversity in (0, 1]. */
double diversity_rep(const struct diversity_counts *counts, int n);
double diversity_of(const struct diversity_counts *counts);

/* distinct-n of texts[n_texts], n in 1 to DIVERSITY_MAX_N, in [0, 1]; NaN where there is no n-gram. It falls with the amount
 * of text: compare only equally many answers. */
int diversity_distinct_words(double *out, const char *const *texts, size_t n_texts, int n, struct genarm_error *err);

/* Of n texts, each with its counts: diversity_of their sum, with its interval over texts. */
int diversity_interval(struct interval *out, const struct diversity_counts *counts, size_t n,
                       const struct bootstrap_params *params, struct genarm_error *err);

#endif
