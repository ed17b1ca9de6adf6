#include "ops/gemm.h"

#include <string.h>

enum {
    DEPTH_BLOCK = 768,  /* steps of p in a panel, at most: a panel of B in the second-level cache, one of A in the first */
    COLUMN_BLOCK = 256, /* columns of B packed at a time; a multiple of every block of a quantised type, as is DEPTH_BLOCK */
    CHUNK = 256,        /* elements of a row of weights converted at a time; likewise */
    CHUNK_ROWS = 32,    /* rows of weights converted at a time */
    A_BYTES = 4 << 20,  /* panels of A kept while B passes by */
    PANEL_SLACK = 64,   /* bytes that packing may write beyond a panel */
    B_BYTES = DEPTH_BLOCK * COLUMN_BLOCK * 4,
    ROWS_BYTES = CHUNK * CHUNK_ROWS * 4,
    TILE_BYTES = GEMM_MAX_MR * GEMM_MAX_NR * 4,
};

struct range {
    int64_t first, end;
};

/* What one thread computes, and with what. */
struct job {
    const struct gemm_kernel *kernel;
    const struct gemm *g;
    struct range rows, columns; /* of C */
    int64_t depth_block;
    unsigned char *a, *b; /* panels */
    float *converted;     /* [CHUNK_ROWS][CHUNK] */
    float *tile;          /* [mr][nr] */
};

static int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }
static int64_t divide_up(int64_t x, int64_t y) { return (x + y - 1) / y; }
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

size_t gemm_scratch_bytes(void) { return A_BYTES + B_BYTES + PANEL_SLACK + ROWS_BYTES + TILE_BYTES; }

/* ---- who computes what ---------------------------------------------------------------------------------------- */

/* Columns of C come in multiples of this: whole panels, and whole blocks of quantised rows where these run along j. */
static int64_t column_unit(const struct gemm_kernel *kernel, const struct gemm *g) {
    int64_t unit = kernel->nr;
    for (int i = 0; g->orientation == GEMM_ROWS_ARE_DEPTH && i < g->n_parts; i++) {
        const int64_t block = ggml_blck_size(g->parts[i].type);
        unit = block > unit ? block : unit; /* both are powers of two */
    }
    return unit;
}

static struct range share(int64_t n, int64_t unit, int part, int n_parts) {
    const int64_t units = divide_up(n, unit);
    return (struct range){min64(n, units * part / n_parts * unit), min64(n, units * (part + 1) / n_parts * unit)};
}

struct gemm_rectangle gemm_share(int64_t m, int64_t n, int64_t row_unit, int64_t unit, double pack_a, double pack_b, int ith,
                                 int nth) {
    int best = 1;
    double best_cost = 0;
    for (int down = 1; down <= nth; down++) { /* `down` shares of the rows, nth / down of the columns */
        if (nth % down != 0) {
            continue;
        }
        const double rows = (double)min64(m, divide_up(divide_up(m, row_unit), down) * row_unit);
        const double columns = (double)min64(n, divide_up(divide_up(n, unit), nth / down) * unit);
        const double cost = rows * columns + pack_a * rows + pack_b * columns;
        if (down == 1 || cost < best_cost) {
            best = down;
            best_cost = cost;
        }
    }
    const struct range rows = share(m, row_unit, ith % best, best), columns = share(n, unit, ith / best, nth / best);
    return (struct gemm_rectangle){rows.first, rows.end, columns.first, columns.end};
}

static void choose_rectangle(struct job *job, int ith, int nth) {
    const struct gemm *g = job->g;
    const double pack_b = g->parts[0].type == GGML_TYPE_F32 ? 32 : 64;
    const struct gemm_rectangle r = gemm_share(g->m, g->n, job->kernel->mr, column_unit(job->kernel, g), 16, pack_b, ith, nth);
    job->rows = (struct range){r.first_row, r.end_row};
    job->columns = (struct range){r.first_column, r.end_column};
}

/* ---- packing -------------------------------------------------------------------------------------------------- */

static const struct gemm_part *find_part(const struct gemm *g, int64_t *row) {
    const struct gemm_part *part = g->parts;
    while (*row >= part->n_rows) {
        *row -= part->n_rows;
        part++;
    }
    return part;
}

/* Rows that follow are read next, at the same columns: far apart for a processor that would guess. */
static void prefetch(const char *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += GEMM_ALIGN) {
        __builtin_prefetch(p + i, 0, 2);
    }
}

/* rows[i] = elements [first, first + n) of weight row first_row + i, in f32: where it lies, or converted. n <= CHUNK and
 * n_rows <= CHUNK_ROWS. `first` is a multiple of the type's block, and so is n unless the row ends there. */
static void read_rows(const struct job *job, int64_t first_row, int n_rows, int64_t first, int64_t n, const float **rows) {
    for (int i = 0; i < n_rows; i++) {
        int64_t row = first_row + i;
        const struct gemm_part *part = find_part(job->g, &row);
        const int64_t block = ggml_blck_size(part->type);
        const size_t block_bytes = ggml_type_size(part->type);
        const char *data = (const char *)part->data + (size_t)row * part->row_bytes + (size_t)(first / block) * block_bytes;
        prefetch(data + (size_t)n_rows * part->row_bytes, (size_t)round_up(n, block) / (size_t)block * block_bytes);
        if (part->type == GGML_TYPE_F32) {
            rows[i] = (const float *)(const void *)data;
            continue;
        }
        const ggml_to_float_t own = job->kernel->to_float ? job->kernel->to_float(part->type) : NULL;
        const ggml_to_float_t to_float = own ? own : ggml_get_type_traits(part->type)->to_float;
        float *converted = job->converted + i * CHUNK;
        to_float(data, converted, round_up(n, block));
        rows[i] = converted;
    }
}

static size_t b_panel_bytes(const struct job *job, int64_t depth) {
    return (size_t)(round_up(depth, job->kernel->depth_step) * job->kernel->nr * job->kernel->b_bytes);
}

/* Panels of columns [j0, j0 + columns) and steps [p0, p0 + depth) of B whose rows run along j. */
static void pack_b_columns(const struct job *job, int64_t j0, int64_t columns, int64_t p0, int64_t depth) {
    const struct gemm_kernel *k = job->kernel;
    const float *rows[CHUNK_ROWS];
    unsigned char *panel = job->b;
    for (int64_t j = 0; j < columns; j += k->nr, panel += b_panel_bytes(job, depth)) {
        const int width = (int)min64(k->nr, columns - j);
        for (int64_t p = 0; p < depth; p += CHUNK) {
            const int64_t n = min64(CHUNK, depth - p);
            read_rows(job, j0 + j, width, p0 + p, n, rows);
            k->pack_b_columns(panel + (size_t)(p * k->nr * k->b_bytes), rows, width, (int)n);
        }
    }
}

/* The same of B whose rows run along p. */
static void pack_b_depth(const struct job *job, int64_t j0, int64_t columns, int64_t p0, int64_t depth) {
    const struct gemm_kernel *k = job->kernel;
    const float *rows[CHUNK_ROWS];
    for (int64_t p = 0; p < depth; p += CHUNK_ROWS) {
        const int n = (int)min64(CHUNK_ROWS, depth - p);
        read_rows(job, p0 + p, n, j0, columns, rows);
        unsigned char *panel = job->b + (size_t)(p * k->nr * k->b_bytes);
        for (int64_t j = 0; j < columns; j += k->nr, panel += b_panel_bytes(job, depth)) {
            k->pack_b_depth(panel, rows, (size_t)j, (int)min64(k->nr, columns - j), n);
        }
    }
}

/* ---- the product ---------------------------------------------------------------------------------------------- */

static size_t a_panel_bytes(const struct job *job, int64_t depth) {
    const int64_t bytes = round_up(depth, job->kernel->depth_step) * job->kernel->mr * job->kernel->a_bytes;
    return (size_t)round_up(bytes + PANEL_SLACK, GEMM_ALIGN);
}

/* Rows of C are cut in tiles of nearly equal height: tile t of n. */
static struct range tile_rows(int64_t rows, int64_t t, int64_t n) { return (struct range){rows * t / n, rows * (t + 1) / n}; }

static void pack_a(const struct job *job, int64_t i0, int64_t rows, int64_t p0, int64_t depth) {
    const struct gemm *g = job->g;
    const int64_t n_tiles = divide_up(rows, job->kernel->mr);
    for (int64_t t = 0; t < n_tiles; t++) {
        const struct range r = tile_rows(rows, t, n_tiles);
        const float *a = g->a + (size_t)(i0 + r.first) * g->a_i_stride + (size_t)p0 * g->a_p_stride;
        job->kernel->pack_a(job->a + (size_t)t * a_panel_bytes(job, depth), a, g->a_i_stride, g->a_p_stride,
                            (int)(r.end - r.first), (int)depth, g->scale);
    }
}

/* A tile that the kernel cannot write in place: narrower than its step, or to a C whose columns are contiguous. */
static void tile_aside(const struct job *job, int64_t depth, const void *a, const void *b, float *c, int rows, int columns,
                       bool accumulate) {
    const struct gemm_kernel *k = job->kernel;
    const size_t is = job->g->c_i_stride, js = job->g->c_j_stride;
    k->tile((int)depth, a, b, job->tile, (size_t)k->nr, rows, (int)round_up(columns, k->nr_step), false);
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < columns; j++) {
            float *out = c + (size_t)i * is + (size_t)j * js;
            const float x = job->tile[i * k->nr + j];
            *out = accumulate ? *out + x : x;
        }
    }
}

/* C[i0.., j0..] from the panels packed for them. */
static void multiply_panels(const struct job *job, int64_t i0, int64_t rows, int64_t j0, int64_t columns, int64_t depth,
                            bool accumulate) {
    const struct gemm *g = job->g;
    const struct gemm_kernel *k = job->kernel;
    const int64_t n_tiles = divide_up(rows, k->mr), padded = round_up(depth, k->depth_step);
    for (int64_t t = 0; t < n_tiles; t++) {
        const struct range r = tile_rows(rows, t, n_tiles);
        const unsigned char *a = job->a + (size_t)t * a_panel_bytes(job, depth), *b = job->b;
        for (int64_t j = 0; j < columns; j += k->nr, b += b_panel_bytes(job, depth)) {
            const int width = (int)min64(k->nr, columns - j), height = (int)(r.end - r.first);
            float *c = g->c + (size_t)(i0 + r.first) * g->c_i_stride + (size_t)(j0 + j) * g->c_j_stride;
            if (g->c_j_stride == 1 && width % k->nr_step == 0) {
                k->tile((int)padded, a, b, c, g->c_i_stride, height, width, accumulate);
            } else {
                tile_aside(job, padded, a, b, c, height, width, accumulate);
            }
        }
    }
}

static void multiply_columns(const struct job *job, int64_t i0, int64_t rows, int64_t p0, int64_t depth) {
    const struct gemm *g = job->g;
    const int64_t n = job->columns.end - job->columns.first, unit = column_unit(job->kernel, g);
    const int64_t step = round_up(divide_up(n, divide_up(n, COLUMN_BLOCK)), unit); /* nearly equal blocks */
    for (int64_t j0 = job->columns.first; j0 < job->columns.end; j0 += step) {
        const int64_t columns = min64(step, job->columns.end - j0);
        if (g->orientation == GEMM_ROWS_ARE_COLUMNS) {
            pack_b_columns(job, j0, columns, p0, depth);
        } else {
            pack_b_depth(job, j0, columns, p0, depth);
        }
        multiply_panels(job, i0, rows, j0, columns, depth, g->accumulate || p0 > 0);
    }
}

/* Without depth the sum is 0. */
static void clear(const struct job *job) {
    const struct gemm *g = job->g;
    for (int64_t i = job->rows.first; i < job->rows.end; i++) {
        for (int64_t j = job->columns.first; j < job->columns.end; j++) {
            g->c[(size_t)i * g->c_i_stride + (size_t)j * g->c_j_stride] = 0;
        }
    }
}

void gemm_run(const struct gemm_kernel *kernel, const struct gemm *g, void *scratch, int ith, int nth) {
    struct job job = {.kernel = kernel, .g = g, .a = scratch};
    job.b = job.a + A_BYTES;
    job.converted = (float *)(void *)(job.b + B_BYTES + PANEL_SLACK);
    job.tile = job.converted + ROWS_BYTES / 4;
    choose_rectangle(&job, ith, nth);
    if (job.rows.first == job.rows.end || job.columns.first == job.columns.end) {
        return;
    }
    if (g->depth == 0 && !g->accumulate) {
        clear(&job);
    }
    _Alignas(GEMM_ALIGN) unsigned char state[GEMM_ALIGN];
    if (kernel->begin) {
        kernel->begin(state);
    }
    const int64_t n_blocks = divide_up(g->depth, DEPTH_BLOCK);
    const int64_t block = n_blocks > 1 ? round_up(divide_up(g->depth, n_blocks), CHUNK) : g->depth;
    const int64_t max_tiles = A_BYTES / (int64_t)a_panel_bytes(&job, block);
    for (int64_t i0 = job.rows.first; i0 < job.rows.end; i0 += max_tiles * kernel->mr) {
        const int64_t rows = min64(max_tiles * kernel->mr, job.rows.end - i0);
        for (int64_t p0 = 0; p0 < g->depth; p0 += block) {
            const int64_t depth = min64(block, g->depth - p0);
            pack_a(&job, i0, rows, p0, depth);
            multiply_columns(&job, i0, rows, p0, depth);
        }
    }
    if (kernel->end) {
        kernel->end(state);
    }
}
