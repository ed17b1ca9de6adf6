/* One micro-batch: the rows of several pairs one after the other, no padding, every prompt once.
 *
 * Rows of a pair: prompt (positions 0 .. P-1), chosen without its last token (positions P ..), rejected without its last
 * token (positions P ..). The last token of a response is only predicted, never fed. What is scored is a list of
 * (row, target, branch): the prompt's last row predicts the first token of both responses and stands there twice.
 *
 * For a scalar head (PACK_ENDS) responses are fed whole, and scored are their last rows alone.
 */
#ifndef TRAIN_PACK_H
#define TRAIN_PACK_H

#include "train/data.h"

enum pack_form {
    PACK_CHOSEN, /* the tokens of the chosen response */
    PACK_BOTH,   /* the tokens of both responses, or of the chosen one where there is no other */
    PACK_ENDS    /* both responses, each at its last token */
};

struct pack {
    int32_t n_rows, n_pairs, n_scored;
    int32_t *tokens;           /* [n_rows] */
    int32_t *positions;        /* [n_rows] */
    int32_t *trees;            /* [4 * n_pairs] first row, rows of prompt, of chosen, of rejected */
    int32_t *scored_rows;      /* [n_scored] */
    int32_t *targets;          /* [n_scored] token that the row predicts; of PACK_ENDS the row's own */
    int32_t *branches;         /* [n_scored] SIDES * pair + side; branches are contiguous and ascend */
    int64_t *row_keys;         /* [n_rows] of dropout: functions of pair and row in it, whatever else is in the pack */
    int64_t *scored_keys;      /* [n_scored] the same for what is scored */
    const struct pair **pairs; /* [n_pairs] */
};

/* Rows that a pair takes. */
int32_t pack_rows_of(const struct pair *pair, enum pack_form form);

/* Packs the pairs with the given indices. On failure *p is empty. */
int pack_init(struct pack *p, const struct data *d, const uint32_t *pairs, int32_t n_pairs, enum pack_form form,
              struct genarm_error *err);
void pack_deinit(struct pack *p);

/* How many of the next n pairs make one micro-batch: `limit` pairs if that is positive, else as many as fit in max_rows,
 * at least one. */
int32_t pack_count(const struct data *d, const uint32_t *pairs, int32_t n, enum pack_form form, int32_t limit,
                   int32_t max_rows);

#endif
