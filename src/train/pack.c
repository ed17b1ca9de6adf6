#include "train/pack.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/rng.h"

enum key_kind { KEY_ROW = 1, KEY_SCORED = 2 };

static bool has_branch(const struct pair *pair, enum side side, enum pack_form form) {
    return side == CHOSEN || (form != PACK_CHOSEN && pair->n_response[side] > 0);
}

/* Rows of one response. */
static int32_t branch_rows(const struct pair *pair, enum side side, enum pack_form form) {
    return has_branch(pair, side, form) ? pair->n_response[side] - (form != PACK_ENDS) : 0;
}

static int32_t branch_scored(const struct pair *pair, enum side side, enum pack_form form) {
    return !has_branch(pair, side, form) ? 0 : form == PACK_ENDS ? 1 : pair->n_response[side];
}

int32_t pack_rows_of(const struct pair *pair, enum pack_form form) {
    return pair->n_prompt + branch_rows(pair, CHOSEN, form) + branch_rows(pair, REJECTED, form);
}

int32_t pack_count(const struct data *d, const uint32_t *pairs, int32_t n, enum pack_form form, int32_t limit,
                   int32_t max_rows) {
    if (limit > 0) {
        return n < limit ? n : limit;
    }
    int32_t count = 0;
    for (int64_t rows = 0; count < n; count++) {
        rows += pack_rows_of(&d->pairs[pairs[count]], form);
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
    p->row_keys = malloc(rows * sizeof *p->row_keys);
    p->scored_keys = malloc(scored * sizeof *p->scored_keys);
    p->pairs = malloc(pairs * sizeof *p->pairs);
    if (!p->tokens || !p->positions || !p->trees || !p->scored_rows || !p->targets || !p->branches || !p->row_keys ||
        !p->scored_keys || !p->pairs) {
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

static void add_scored(struct pack *p, int32_t row, int32_t target, enum side side) {
    p->scored_rows[p->n_scored] = row;
    p->targets[p->n_scored] = target;
    p->branches[p->n_scored++] = SIDES * p->n_pairs + (int32_t)side;
}

static void add_branch(struct pack *p, const struct data *d, const struct pair *pair, enum side side,
                       int32_t prompt_row, enum pack_form form) {
    const int32_t n = pair->n_response[side], n_rows = branch_rows(pair, side, form);
    const int32_t *tokens = data_response(d, pair, side);
    const int32_t first = add_rows(p, tokens, n_rows, pair->n_prompt);
    for (int32_t i = 0; i < n && form != PACK_ENDS; i++) {
        add_scored(p, i == 0 ? prompt_row + pair->n_prompt - 1 : first + i - 1, tokens[i], side);
    }
    if (form == PACK_ENDS) {
        add_scored(p, first + n - 1, tokens[n - 1], side);
    }
    p->trees[4 * p->n_pairs + 2 + (int32_t)side] = n_rows;
}

/* Keys of n rows that a pair has, or of what of it is scored. */
static void fill_keys(int64_t *keys, int32_t n, enum key_kind kind, ptrdiff_t pair) {
    for (int32_t i = 0; i < n; i++) {
        keys[i] = (int64_t)rng_hash((uint64_t)kind, (uint64_t)pair, (uint64_t)i);
    }
}

static void add_pair(struct pack *p, const struct data *d, const struct pair *pair, enum pack_form form) {
    const int32_t first_scored = p->n_scored;
    int32_t *tree = p->trees + 4 * p->n_pairs;
    const int32_t row = add_rows(p, data_prompt(d, pair), pair->n_prompt, 0);
    tree[0] = row;
    tree[1] = pair->n_prompt;
    tree[2 + REJECTED] = 0;
    add_branch(p, d, pair, CHOSEN, row, form);
    if (has_branch(pair, REJECTED, form)) {
        add_branch(p, d, pair, REJECTED, row, form);
    }
    fill_keys(p->row_keys + row, p->n_rows - row, KEY_ROW, pair - d->pairs);
    fill_keys(p->scored_keys + first_scored, p->n_scored - first_scored, KEY_SCORED, pair - d->pairs);
    p->pairs[p->n_pairs++] = pair;
}

int pack_init(struct pack *p, const struct data *d, const uint32_t *pairs, int32_t n_pairs, enum pack_form form,
              struct genarm_error *err) {
    *p = (struct pack){.n_pairs = n_pairs};
    for (int32_t i = 0; i < n_pairs; i++) {
        const struct pair *pair = &d->pairs[pairs[i]];
        p->n_rows += pack_rows_of(pair, form);
        p->n_scored += branch_scored(pair, CHOSEN, form) + branch_scored(pair, REJECTED, form);
    }
    int rc = allocate(p, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    p->n_rows = p->n_scored = p->n_pairs = 0;
    for (int32_t i = 0; i < n_pairs; i++) {
        add_pair(p, d, &d->pairs[pairs[i]], form);
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
    free(p->row_keys);
    free(p->scored_keys);
    free(p->pairs);
    *p = (struct pack){0};
}
