/* The blocks of attention, written over gemm_tile.h and rows.h; included once by each kernels_*.c after both.
 *
 * "Lanes" are the up to TILE_NR rows of a query block: arrays [..][TILE_NR] have one in each column.
 */
#include "ops/attention.h"

enum {
    KEY_BLOCK = 128, /* keys whose scores exist at one time */
    AHEAD = 8,       /* rows */
};

/* A thread's scratch, for a tree of n_keys rows and heads of d elements, dp when padded to whole vectors. */
struct attention_scratch {
    int d, dp, n_keys;
    size_t key_stride;                    /* of k_t and v_t: n_keys, padded so that rows of a power of two do not collide */
    float *k_t, *v_t;                     /* [d][key_stride] */
    float *k_rows, *v_rows, *dk, *dv;     /* [n_keys][dp]; v_rows, of the forward pass, is dv's memory */
    float *q_rows, *dout_rows;            /* [TILE_NR][dp] */
    float *q_t, *dout_t, *out_t, *dq_t;   /* [d][TILE_NR] */
    float *s, *ds;                        /* [KEY_BLOCK][TILE_NR] */
};

static float *take(float **memory, size_t n) {
    float *p = *memory;
    *memory += (n + 15) / 16 * 16;
    return p;
}

static struct attention_scratch scratch_layout(const struct attention *at, int64_t n_keys, void *memory) {
    struct attention_scratch s = {.d = at->n_embd_head, .n_keys = (int)n_keys};
    s.dp = (s.d + VEC - 1) / VEC * VEC;
    s.key_stride = ((size_t)n_keys + 31) / 32 * 32 + 16;
    const size_t d = (size_t)s.d, dp = (size_t)s.dp, keys = (size_t)n_keys;
    float *m = memory;
    float **lanes[] = {&s.q_t, &s.dout_t, &s.out_t, &s.dq_t};
    for (int i = 0; i < 4; i++) {
        *lanes[i] = take(&m, d * TILE_NR);
    }
    s.s = take(&m, (size_t)KEY_BLOCK * TILE_NR);
    s.ds = take(&m, (size_t)KEY_BLOCK * TILE_NR);
    s.q_rows = take(&m, dp * TILE_NR);
    s.dout_rows = take(&m, dp * TILE_NR);
    s.k_t = take(&m, d * s.key_stride);
    s.v_t = take(&m, d * s.key_stride);
    s.k_rows = take(&m, dp * keys);
    s.dk = take(&m, dp * keys);
    s.dv = s.v_rows = take(&m, dp * keys);
    return s;
}

static float *head_at(const struct heads *h, int64_t row, int head) {
    return h->data + (size_t)row * h->row_stride + (size_t)head * h->head_stride;
}

static int tile_count(int rows) { return (rows + TILE_MR - 1) / TILE_MR; }

static const float *table_row(const struct attention *at, int64_t row) {
    return at->table + (size_t)row * 2 * (size_t)at->n_rot;
}

/* Rows of a head lie far apart, where no processor expects the next one. */
VEC_INLINE void prefetch_row(const struct heads *h, int64_t row, int64_t n_rows, int head, int d) {
    const float *p = head_at(h, row < n_rows ? row : n_rows - 1, head);
    for (int e = 0; e < d; e += 16) {
        __builtin_prefetch(p + e);
    }
}

/* Copies a head's row to dst[dp], the padding 0, rotated if the attention rotates. */
static void copy_row(const struct attention *at, float *dst, int dp, const float *src, int64_t row, bool rotate) {
    const int d = at->n_embd_head;
    if (rotate && at->table) {
        row_rope(dst, src, table_row(at, row), d, at->n_rot, at->neox, false);
    } else {
        memcpy(dst, src, (size_t)d * sizeof(float));
    }
    memset(dst + d, 0, (size_t)(dp - d) * sizeof(float));
}

/* dst[e * stride + i] = rows[i * row_stride + e] for i < n, e < d; further i up to a whole vector are 0 */
static void transpose_rows(float *dst, size_t stride, const float *rows, size_t row_stride, int n, int d) {
    for (int i0 = 0; i0 < n; i0 += VEC) {
        const float *source[VEC];
        for (int i = 0; i < VEC; i++) {
            source[i] = i0 + i < n ? rows + (size_t)(i0 + i) * row_stride : NULL;
        }
        pack_transposed(dst + i0, stride, source, d, v_set1(1.0f));
    }
}

/* dst[i * stride + e] = lanes[e][i] for i < n, e < d: the way back */
static void lanes_to_rows(float *dst, size_t stride, const float *lanes, int n, int d) {
    int e = 0;
    for (; e + VEC <= d; e += VEC) {
        const float *source[VEC];
        for (int i = 0; i < VEC; i++) {
            source[i] = lanes + (size_t)(e + i) * TILE_NR;
        }
        pack_transposed(dst + e, stride, source, n, v_set1(1.0f));
    }
    for (; e < d; e++) {
        for (int i = 0; i < n; i++) {
            dst[(size_t)i * stride + (size_t)e] = lanes[e * TILE_NR + i];
        }
    }
}

/* out[key][lane] = sum_d keys_t[d][key] lanes[d][lane], for n keys from `first` */
static void key_products(const struct attention_scratch *s, const float *keys_t, int first, int n, const float *lanes, int nv,
                         float *out) {
    const int n_tiles = tile_count(n);
    for (int t = 0; t < n_tiles; t++) {
        const int i = n * t / n_tiles, end = n * (t + 1) / n_tiles;
        tile_any(s->d, keys_t + first + i, s->key_stride, lanes, TILE_NR, out + (size_t)i * TILE_NR, TILE_NR, end - i, nv,
                 false);
    }
}

/* lanes[d][lane] (+)= sum_key rows[key][d] p[key][lane] */
static void weighted_rows(int d, const float *rows, size_t row_stride, const float *p, int n, int nv, float *lanes,
                          bool accumulate) {
    const int n_tiles = tile_count(d);
    for (int t = 0; t < n_tiles; t++) {
        const int i = d * t / n_tiles, end = d * (t + 1) / n_tiles;
        tile_any(n, rows + i, row_stride, p, TILE_NR, lanes + (size_t)i * TILE_NR, TILE_NR, end - i, nv, accumulate);
    }
}

/* out[key][d] += sum_lane p[key][lane] rows[lane][d], for n_lanes of them */
static void add_outer(const struct attention_scratch *s, const float *p, int n, const float *rows, int n_lanes, float *out) {
    const int n_tiles = tile_count(n);
    const size_t dp = (size_t)s->dp;
    for (int t = 0; t < n_tiles; t++) {
        const int i = n * t / n_tiles, end = n * (t + 1) / n_tiles;
        int e = 0;
        for (; e + TILE_NR <= s->dp; e += TILE_NR) {
            tile_rows_any(n_lanes, p + i * TILE_NR, rows + e, dp, out + (size_t)i * dp + e, dp, end - i, TILE_NV);
        }
        for (; e < s->dp; e += VEC) {
            tile_rows_any(n_lanes, p + i * TILE_NR, rows + e, dp, out + (size_t)i * dp + e, dp, end - i, 1);
        }
    }
}

/* In the block's own range of keys, row i does not see keys after i: their entries become `value`. */
static void mask_own(float *s, int n, float value) {
    for (int key = 1; key < n; key++) {
        for (int lane = 0; lane < key; lane++) {
            s[key * TILE_NR + lane] = value;
        }
    }
}

/* ---- forward -------------------------------------------------------------------------------------------------- */

static void attend_keys(const struct attention *at, int64_t tree_row, int64_t n_keys, int kv_head, void *memory) {
    const struct attention_scratch s = scratch_layout(at, n_keys, memory);
    for (int first = 0; first < s.n_keys; first += TILE_NR) {
        const int n = s.n_keys - first < TILE_NR ? s.n_keys - first : TILE_NR;
        for (int i = 0; i < n; i++) {
            const int64_t row = tree_row + first + i;
            prefetch_row(&at->k, row + AHEAD, at->n_rows, kv_head, s.d);
            prefetch_row(&at->v, row + AHEAD, at->n_rows, kv_head, s.d);
            copy_row(at, s.q_rows + i * s.dp, s.dp, head_at(&at->k, row, kv_head), row, true);
            copy_row(at, s.v_rows + (size_t)(first + i) * (size_t)s.dp, s.dp, head_at(&at->v, row, kv_head), row, false);
        }
        transpose_rows(s.k_t + first, s.key_stride, s.q_rows, (size_t)s.dp, n, s.d);
    }
}

static void load_queries(const struct attention_block *b, const struct attention_scratch *s) {
    for (int i = 0; i < b->n; i++) {
        const int64_t row = b->tree_row + b->first + i;
        prefetch_row(&b->at->q, row + AHEAD, b->at->n_rows, b->head, s->d);
        copy_row(b->at, s->q_rows + i * s->dp, s->dp, head_at(&b->at->q, row, b->head), row, true);
    }
    transpose_rows(s->q_t, TILE_NR, s->q_rows, (size_t)s->dp, b->n, s->d);
}

/* One step of the running softmax: scores s of n keys become exp(scale (s - max)); returns with the factor by which what was
 * summed under the old max must shrink. */
VEC_INLINE void softmax_step(float *s, int n, vf scale, vf *max, vf *sum, vf *shrink) {
    vf m = *max;
    for (int key = 0; key < n; key++) {
        m = v_max(m, v_load(s + key * TILE_NR));
    }
    *shrink = v_exp(v_mul(scale, v_sub(*max, m)));
    vf total = v_mul(*sum, *shrink);
    for (int key = 0; key < n; key++) {
        const vf p = v_exp(v_mul(scale, v_sub(v_load(s + key * TILE_NR), m)));
        v_store(s + key * TILE_NR, p);
        total = v_add(total, p);
    }
    *max = m;
    *sum = total;
}

static void scale_lanes(float *lanes, int d, int v, vf factor) {
    for (int e = 0; e < d; e++) {
        float *p = lanes + e * TILE_NR + v * VEC;
        v_store(p, v_mul(v_load(p), factor));
    }
}

static void finish_block(const struct attention_block *b, const struct attention_scratch *s, const vf *max, const vf *sum,
                         int nv) {
    const struct attention *at = b->at;
    float m[TILE_NR], l[TILE_NR];
    for (int v = 0; v < nv; v++) {
        scale_lanes(s->out_t, s->d, v, v_div(v_set1(1.0f), sum[v]));
        v_store(m + v * VEC, max[v]);
        v_store(l + v * VEC, sum[v]);
    }
    const int64_t row = b->tree_row + b->first;
    for (int i = 0; i < b->n; i++) {
        at->lse[(size_t)(row + i) * (size_t)at->n_head + (size_t)b->head] = at->scale * m[i] + logf(l[i]);
    }
    lanes_to_rows(head_at(&at->out, row, b->head), at->out.row_stride, s->out_t, b->n, s->d);
}

static void attend(const struct attention_block *b, int64_t n_keys, void *memory) {
    const struct attention *at = b->at;
    const struct attention_scratch s = scratch_layout(at, n_keys, memory);
    const int nv = b->n > VEC ? TILE_NV : 1;
    const vf scale = v_set1(at->scale);
    vf max[TILE_NV], sum[TILE_NV];
    for (int v = 0; v < TILE_NV; v++) {
        max[v] = v_set1(-INFINITY);
        sum[v] = v_zero();
    }
    load_queries(b, &s);
    bool started = false;
    for (int r = 0; r < 3; r++) {
        for (int first = b->seen[r].first; first < b->seen[r].end; first += KEY_BLOCK) {
            const int left = b->seen[r].end - first, n = left < KEY_BLOCK ? left : KEY_BLOCK;
            key_products(&s, s.k_t, first, n, s.q_t, nv, s.s);
            if (r == 2) {
                mask_own(s.s, n, -INFINITY);
            }
            for (int v = 0; v < nv; v++) {
                vf shrink;
                softmax_step(s.s + v * VEC, n, scale, &max[v], &sum[v], &shrink);
                if (started) {
                    scale_lanes(s.out_t, s.d, v, shrink);
                }
            }
            weighted_rows(s.d, s.v_rows + (size_t)first * (size_t)s.dp, (size_t)s.dp, s.s, n, nv, s.out_t, started);
            started = true;
        }
    }
    finish_block(b, &s, max, sum, nv);
}

/* ---- backward ------------------------------------------------------------------------------------------------- */

static void attend_back_begin(const struct attention *at, int64_t tree_row, int64_t n_keys, int kv_head, void *memory) {
    const struct attention_scratch s = scratch_layout(at, n_keys, memory);
    const size_t dp = (size_t)s.dp;
    for (int i = 0; i < s.n_keys; i++) {
        copy_row(at, s.k_rows + (size_t)i * dp, s.dp, head_at(&at->k, tree_row + i, kv_head), tree_row + i, true);
    }
    transpose_rows(s.k_t, s.key_stride, s.k_rows, dp, s.n_keys, s.d);
    transpose_rows(s.v_t, s.key_stride, head_at(&at->v, tree_row, kv_head), at->v.row_stride, s.n_keys, s.d);
    memset(s.dk, 0, (size_t)s.n_keys * dp * sizeof(float));
    memset(s.dv, 0, (size_t)s.n_keys * dp * sizeof(float));
}

/* Fills the block's lanes of log-sum-exp and of D = sum_d dout out; lanes without a row get P = 0. */
static void load_gradients(const struct attention_block *b, const struct attention_scratch *s, float *lse, float *dots) {
    const struct attention *at = b->at;
    for (int i = 0; i < TILE_NR; i++) {
        lse[i] = INFINITY;
        dots[i] = 0;
    }
    for (int i = 0; i < b->n; i++) {
        const int64_t row = b->tree_row + b->first + i;
        const float *out = head_at(&at->out, row, b->head), *dout = head_at(&at->dout, row, b->head);
        prefetch_row(&at->out, row + AHEAD, at->n_rows, b->head, s->d);
        prefetch_row(&at->dout, row + AHEAD, at->n_rows, b->head, s->d);
        copy_row(at, s->dout_rows + i * s->dp, s->dp, dout, row, false);
        vf dot = v_zero();
        for (int e = 0; e < s->d; e += VEC) {
            dot = v_fma(load_at(out, e, s->d), load_at(dout, e, s->d), dot);
        }
        dots[i] = v_sum(dot);
        lse[i] = at->lse[(size_t)row * (size_t)at->n_head + (size_t)b->head];
    }
    transpose_rows(s->dout_t, TILE_NR, s->dout_rows, (size_t)s->dp, b->n, s->d);
}

/* s: scores -> P; ds: dP -> dS */
static void softmax_back(float *s, float *ds, int n, int nv, float scale, const float *lse, const float *dots) {
    const vf sc = v_set1(scale);
    for (int v = 0; v < nv; v++) {
        const vf l = v_load(lse + v * VEC), dot = v_load(dots + v * VEC);
        for (int key = 0; key < n; key++) {
            float *ps = s + key * TILE_NR + v * VEC, *pds = ds + key * TILE_NR + v * VEC;
            const vf p = v_exp(v_sub(v_mul(v_load(ps), sc), l));
            v_store(ps, p);
            v_store(pds, v_mul(v_mul(p, v_sub(v_load(pds), dot)), sc));
        }
    }
}

static void attend_back(const struct attention_block *b, int64_t n_keys, void *memory) {
    const struct attention *at = b->at;
    const struct attention_scratch s = scratch_layout(at, n_keys, memory);
    const int nv = b->n > VEC ? TILE_NV : 1;
    float lse[TILE_NR], dots[TILE_NR];
    load_queries(b, &s);
    load_gradients(b, &s, lse, dots);
    bool started = false;
    for (int r = 0; r < 3; r++) {
        for (int first = b->seen[r].first; first < b->seen[r].end; first += KEY_BLOCK) {
            const int left = b->seen[r].end - first, n = left < KEY_BLOCK ? left : KEY_BLOCK;
            key_products(&s, s.k_t, first, n, s.q_t, nv, s.s);
            key_products(&s, s.v_t, first, n, s.dout_t, nv, s.ds);
            if (r == 2) {
                mask_own(s.s, n, -INFINITY);
            }
            softmax_back(s.s, s.ds, n, nv, at->scale, lse, dots);
            weighted_rows(s.d, s.k_rows + (size_t)first * (size_t)s.dp, (size_t)s.dp, s.ds, n, nv, s.dq_t, started);
            add_outer(&s, s.s, n, s.dout_rows, b->n, s.dv + (size_t)first * (size_t)s.dp);
            add_outer(&s, s.ds, n, s.q_rows, b->n, s.dk + (size_t)first * (size_t)s.dp);
            started = true;
        }
    }
    const int64_t row = b->tree_row + b->first;
    lanes_to_rows(head_at(&at->dq, row, b->head), at->dq.row_stride, s.dq_t, b->n, s.d);
    for (int i = 0; at->table && i < b->n; i++) {
        float *dq = head_at(&at->dq, row + i, b->head);
        row_rope(dq, dq, table_row(at, row + i), s.d, at->n_rot, at->neox, true);
    }
}

static void attend_back_end(const struct attention *at, int64_t tree_row, int64_t n_keys, int kv_head, void *memory) {
    const struct attention_scratch s = scratch_layout(at, n_keys, memory);
    for (int i = 0; i < s.n_keys; i++) {
        const int64_t row = tree_row + i;
        float *dk = head_at(&at->dk, row, kv_head);
        memcpy(dk, s.dk + (size_t)i * (size_t)s.dp, (size_t)s.d * sizeof(float));
        memcpy(head_at(&at->dv, row, kv_head), s.dv + (size_t)i * (size_t)s.dp, (size_t)s.d * sizeof(float));
        if (at->table) {
            row_rope(dk, dk, table_row(at, row), s.d, at->n_rot, at->neox, true);
        }
    }
}

#define ATTENTION_KERNELS                                                                                             \
    .attention_lanes = TILE_NR, .attend_keys = attend_keys, .attend = attend, .attend_back_begin = attend_back_begin, \
    .attend_back = attend_back, .attend_back_end = attend_back_end
