/* How much is left of answers whose lengths are not known before they end. */
#ifndef CLI_ESTIMATE_H
#define CLI_ESTIMATE_H

#include <stddef.h>
#include <stdint.h>

struct estimate {
    int64_t limit;    /* tokens of an answer at most; -1: none */
    int64_t n_ended;  /* answers */
    int64_t n_tokens; /* of all, those that still run included */
};

/* Tokens that an answer is going to have beyond `so_far`. An answer that has not ended says that answers are long: the mean is
 * all tokens by the answers that ended, which is what maximises the likelihood of ends that come at any token alike. -1: none
 * has ended, and there is no limit. */
double estimate_answer(const struct estimate *e, int64_t so_far);

#endif
