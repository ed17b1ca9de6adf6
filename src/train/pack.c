#include "train/pack.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

int32_t pack_rows_of(const struct pair *pair, bool both) {
    return pair->n_prompt + pair->n_response[CHOSEN] - 1 + (both ? pair->n_response[REJECTED] - 1 : 0);
}

int32_t pack_count(const struct data *d, const uint32_t *pairs, int32_t n, bool both, int32_t limit, int32_t max_rows) {
    if (limit > 0) {
        return n < limit ? n : limit;
    }
    int32_t count = 0;
    for (int64_t rows = 0; count < n; count++) {
        rows += pack_rows_of(&d->pairs[pairs[count]], both);
        if (rows > max_rows && count > 0) {
            break;
        }
    }
    return count;
}

static int allocate(struct pack *p, struct genarm_error *err) {
    const size_t rows = (size_t)p->n_rows, scored = (size_t)p->n_scored, pairs = (size_t)p->n_pairs;
    p->tokens = malloc(rows * sizeof *p->tokens);
    p->positions = malloc(rows * sizeof *p->positions);
    p->trees = malloc(4 * pairs * sizeof *p->trees);
    p->scored_rows = malloc(scored * sizeof *p->scored_rows);
    p->targets = malloc(scored * sizeof *p->targets);
    p->branches = malloc(scored * sizeof *p->branches);
    p->pairs = malloc(pairs * sizeof *p->pairs);
    if (!p->tokens || !p->positions || !p->trees || !p->scored_rows || !p->targets || !p->branches || !p->pairs) {
        pack_deinit(p);
        return error_nomem(err, "a micro-batch");
    }
    return GENARM_OK;
}

/* Appends n rows with tokens at positions from `position` on; returns the first of them. */
static int32_t add_rows(struct pack *p, const int32_t *tokens, int32_t n, int32_t position) {
    const int32_t first = p->n_rows;
    memcpy(p->tokens + first, tokens, (size_t)n * sizeof *tokens);
    for (int32_t i = 0; i < n; i++) {
        p->positions[first + i] = position + i;
    }
    p->n_rows += n;
    return first;
}

static void add_branch(struct pack *p, const struct data *d, const struct pair *pair, enum side side,
                       int32_t prompt_row) {
    const int32_t n = pair->n_response[side], *tokens = data_response(d, pair, side);
    const int32_t first = add_rows(p, tokens, n - 1, pair->n_prompt);
    for (int32_t i = 0; i < n; i++, p->n_scored++) {
        p->scored_rows[p->n_scored] = i == 0 ? prompt_row + pair->n_prompt - 1 : first + i - 1;
        p->targets[p->n_scored] = tokens[i];
        p->branches[p->n_scored] = SIDES * p->n_pairs + (int32_t)side;
    }
    p->trees[4 * p->n_pairs + 2 + (int32_t)side] = n - 1;
}

static void add_pair(struct pack *p, const struct data *d, const struct pair *pair, bool both) {
    int32_t *tree = p->trees + 4 * p->n_pairs;
    const int32_t row = add_rows(p, data_prompt(d, pair), pair->n_prompt, 0);
    tree[0] = row;
    tree[1] = pair->n_prompt;
    tree[2 + REJECTED] = 0;
    add_branch(p, d, pair, CHOSEN, row);
    if (both) {
        add_branch(p, d, pair, REJECTED, row);
    }
    p->pairs[p->n_pairs++] = pair;
}

int pack_init(struct pack *p, const struct data *d, const uint32_t *pairs, int32_t n_pairs, bool both,
              struct genarm_error *err) {
    *p = (struct pack){.n_pairs = n_pairs};
    for (int32_t i = 0; i < n_pairs; i++) {
        const struct pair *pair = &d->pairs[pairs[i]];
        p->n_rows += pack_rows_of(pair, both);
        p->n_scored += pair->n_response[CHOSEN] + (both ? pair->n_response[REJECTED] : 0);
    }
    int rc = allocate(p, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    p->n_rows = p->n_scored = p->n_pairs = 0;
    for (int32_t i = 0; i < n_pairs; i++) {
        add_pair(p, d, &d->pairs[pairs[i]], both);
    }
    return GENARM_OK;
}

void pack_deinit(struct pack *p) {
    free(p->tokens);
    free(p->positions);
    free(p->trees);
    free(p->scored_rows);
    free(p->targets);
    free(p->branches);
    free(p->pairs);
    *p = (struct pack){0};
}
