#include "ops/attention.h"

#include <string.h>

#include "ops/kernels.h"

size_t attention_scratch_bytes(int n_embd_head) {
    const size_t d = (size_t)n_embd_head + 16, keys = ATTENTION_MAX_TREE + 64;
    const size_t per_key = 5 * d, per_block = 6 * 32 * d + 2 * 128 * 32, padding = 16 * 16;
    return (keys * per_key + per_block + padding) * sizeof(float);
}

struct tree {
    int64_t row;
    int segments[4]; /* first rows of prompt, chosen and rejected, and the end; from `row` */
};

static struct tree tree_at(const struct attention *at, int i) {
    const int32_t *t = at->trees + (size_t)i * 4;
    return (struct tree){t[0], {0, t[1], t[1] + t[2], t[1] + t[2] + t[3]}};
}

/* Visits the query blocks of a tree in order. Starts from *b all zero but `at`; false when there are no more. */
static bool next_block(struct attention_block *b, const struct tree *tree, int lanes) {
    const int *seg = tree->segments;
    b->tree_row = tree->row;
    b->first += b->n;
    if (b->first >= seg[3]) {
        return false;
    }
    const int s = b->first < seg[1] ? 0 : b->first < seg[2] ? 1 : 2;
    const int left = seg[s + 1] - b->first;
    b->n = left < lanes ? left : lanes;
    b->seen[0].first = 0;
    b->seen[0].end = s == 0 ? 0 : seg[1]; /* a branch sees the whole prompt */
    b->seen[1].first = seg[s];
    b->seen[1].end = b->first;
    b->seen[2].first = b->first;
    b->seen[2].end = b->first + b->n;
    return true;
}

static int64_t block_cost(const struct attention_block *b) {
    return b->seen[0].end + (b->seen[1].end - b->seen[1].first) + b->n;
}

static int64_t tree_cost(const struct attention *at, const struct tree *tree, int lanes) {
    struct attention_block b = {.at = at};
    int64_t cost = 0;
    while (next_block(&b, tree, lanes)) {
        cost += block_cost(&b);
    }
    return cost;
}

/* Work is laid out in a line, each piece as long as its cost; a thread does the pieces whose middle lies in its share. */
struct line {
    int64_t total, at;
    int ith, nth;
};

static struct line line_new(const struct attention *at, int lanes, int64_t times, int ith, int nth) {
    struct line line = {.ith = ith, .nth = nth};
    for (int i = 0; i < at->n_trees; i++) {
        const struct tree tree = tree_at(at, i);
        line.total += tree_cost(at, &tree, lanes) * times;
    }
    return line;
}

static bool line_is_mine(struct line *line, int64_t cost) {
    const int64_t middle = 2 * line->at + cost; /* of 2 total */
    line->at += cost;
    return middle >= 2 * line->total * line->ith / line->nth && middle < 2 * line->total * (line->ith + 1) / line->nth;
}

/* Rows of no tree get 0, so that nothing uninitialised goes on from them. */
static void clear_padding(const struct attention *at, const struct heads *h, int n_heads, int ith, int nth) {
    int64_t row = 0;
    for (int i = 0; i <= at->n_trees; i++) {
        const struct tree tree = i < at->n_trees ? tree_at(at, i) : (struct tree){.row = at->n_rows};
        for (; row < tree.row; row++) {
            for (int head = 0; row % nth == ith && head < n_heads; head++) {
                memset(h->data + (size_t)row * h->row_stride + (size_t)head * h->head_stride, 0,
                       (size_t)at->n_embd_head * sizeof(float));
            }
        }
        row = tree.row + tree.segments[3];
    }
}

void attention_run(const struct kernels *kernels, const struct attention *at, void *scratch, int ith, int nth) {
    const int lanes = kernels->attention_lanes, group = at->n_head / at->n_head_kv;
    struct line line = line_new(at, lanes, at->n_head, ith, nth);
    clear_padding(at, &at->out, at->n_head, ith, nth);
    for (int i = 0; i < at->n_trees; i++) {
        const struct tree tree = tree_at(at, i);
        int packed = -1; /* key head whose keys are in scratch */
        for (int head = 0; head < at->n_head; head++) {
            struct attention_block b = {.at = at, .head = head};
            while (next_block(&b, &tree, lanes)) {
                if (!line_is_mine(&line, block_cost(&b))) {
                    continue;
                }
                if (packed != head / group) {
                    packed = head / group;
                    kernels->attend_keys(at, tree.row, tree.segments[3], packed, scratch);
                }
                kernels->attend(&b, tree.segments[3], scratch);
            }
        }
    }
}

void attention_back_run(const struct kernels *kernels, const struct attention *at, void *scratch, int ith, int nth) {
    const int lanes = kernels->attention_lanes, group = at->n_head / at->n_head_kv;
    struct line line = line_new(at, lanes, at->n_head_kv, ith, nth);
    clear_padding(at, &at->dq, at->n_head, ith, nth);
    clear_padding(at, &at->dk, at->n_head_kv, ith, nth);
    clear_padding(at, &at->dv, at->n_head_kv, ith, nth);
    for (int i = 0; i < at->n_trees; i++) {
        const struct tree tree = tree_at(at, i);
        const int64_t cost = tree_cost(at, &tree, lanes);
        for (int kv_head = 0; kv_head < at->n_head_kv; kv_head++) {
            if (!line_is_mine(&line, cost)) {
                continue;
            }
            kernels->attend_back_begin(at, tree.row, tree.segments[3], kv_head, scratch);
            for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
                struct attention_block b = {.at = at, .head = head};
                while (next_block(&b, &tree, lanes)) {
                    kernels->attend_back(&b, tree.segments[3], scratch);
                }
            }
            kernels->attend_back_end(at, tree.row, tree.segments[3], kv_head, scratch);
        }
    }
}
