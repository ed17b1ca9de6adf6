#include "ops/many.h"

#include <string.h>

#include "ops/gemm.h"

enum {
    X_BYTES = 4 << 20 /* packed rows of x that meet a panel */
};

/* What one thread computes. */
struct job {
    const struct many_kernel *kernel;
    const struct many_product *p;
    many_pack_t pack;
    int64_t n_groups, first_row, n_rows, n_tiles; /* rows of the pass at hand, in tiles of nearly equal height */
    char *x, *panel;
    float *tile;
};

static int64_t divide_up(int64_t x, int64_t y) { return (x + y - 1) / y; }
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t tile_bytes(const struct many_kernel *kernel, int64_t n) {
    return divide_up(n, MANY_GROUP) * (int64_t)kernel->x_bytes;
}

bool many_reads(const struct many_kernel *kernel, enum ggml_type type, int64_t n) {
    return kernel && n > 0 && tile_bytes(kernel, n) <= X_BYTES && kernel->packs(type, n);
}

size_t many_scratch_bytes(void) {
    return X_BYTES + MANY_PANEL_BYTES + sizeof(float) * MANY_MAX_ROWS * MANY_MAX_COLUMNS;
}

static int64_t tile_begin(const struct job *job, int64_t t) { return job->n_rows * t / job->n_tiles; }
static int tile_height(const struct job *job, int64_t t) { return (int)(tile_begin(job, t + 1) - tile_begin(job, t)); }
static int group_length(const struct job *job, int64_t group) { return (int)min64(MANY_GROUP, job->p->n - group * MANY_GROUP); }
static char *x_at(const struct job *job, int64_t t, int64_t group) {
    return job->x + (size_t)(t * job->n_groups + group) * job->kernel->x_bytes;
}

static void pack_x(const struct job *job) {
    const struct many_product *p = job->p;
    for (int64_t t = 0; t < job->n_tiles; t++) {
        const float *x = p->x + (size_t)(job->first_row + tile_begin(job, t)) * p->x_stride;
        for (int64_t group = 0; group < job->n_groups; group++) {
            job->kernel->pack_x(x_at(job, t, group), x + group * MANY_GROUP, p->x_stride, tile_height(job, t),
                                group_length(job, group));
        }
    }
}

static const char *weights_at(const struct job *job, int64_t column, int64_t group) {
    return (const char *)job->p->w + (size_t)column * job->p->w_stride + ggml_row_size(job->p->type, group * MANY_GROUP);
}

static void pack_panel(const struct job *job, int64_t column, int n_columns, int64_t group) {
    const void *rows[MANY_MAX_COLUMNS];
    const char *row = weights_at(job, column, group);
    for (int c = 0; c < n_columns; c++, row += job->p->w_stride) {
        rows[c] = row;
    }
    job->pack(job->panel, rows, n_columns, group_length(job, group));
}

/* The panel's product with tile t, to columns of y of which there are fewer than a tile has: there and back, since a sum is not
 * to depend on where its tile ends. */
static void tile_aside(const struct job *job, int64_t t, float *y, int n_columns, int64_t group, const struct many_ahead *ahead) {
    const size_t width = (size_t)job->kernel->columns, stride = job->p->y_stride, bytes = (size_t)n_columns * sizeof *y;
    const int height = tile_height(job, t);
    for (int r = 0; r < height && group > 0; r++) {
        memcpy(job->tile + (size_t)r * width, y + (size_t)r * stride, bytes);
    }
    job->kernel->tile(x_at(job, t, group), job->panel, job->tile, width, height, n_columns, group_length(job, group), group > 0,
                      ahead);
    for (int r = 0; r < height; r++) {
        memcpy(y + (size_t)r * stride, job->tile + (size_t)r * width, bytes);
    }
}

/* Share i of n of the columns that come after `column`. */
static struct many_ahead ahead_of(const struct job *job, int64_t column, int n_columns, int64_t i, int64_t n) {
    const size_t bytes = (size_t)n_columns * job->p->w_stride, from = bytes * (size_t)i / (size_t)n / 64 * 64;
    return (struct many_ahead){.at = (const char *)job->p->w + (size_t)column * job->p->w_stride + from,
                               .bytes = bytes * (size_t)(i + 1) / (size_t)n / 64 * 64 - from};
}

/* All rows of the pass with columns [column, column + n_columns); n_next columns come next. */
static void multiply(const struct job *job, int64_t column, int n_columns, int n_next) {
    const struct many_product *p = job->p;
    for (int64_t group = 0; group < job->n_groups; group++) {
        pack_panel(job, column, n_columns, group);
        for (int64_t t = 0; t < job->n_tiles; t++) {
            float *y = p->y + (size_t)(job->first_row + tile_begin(job, t)) * p->y_stride + column;
            const struct many_ahead ahead = ahead_of(job, column + n_columns, n_next, group * job->n_tiles + t,
                                                     job->n_groups * job->n_tiles);
            if (n_columns == job->kernel->columns) {
                job->kernel->tile(x_at(job, t, group), job->panel, y, p->y_stride, tile_height(job, t), n_columns,
                                  group_length(job, group), group > 0, &ahead);
            } else {
                tile_aside(job, t, y, n_columns, group, &ahead);
            }
        }
    }
}

void many_run(const struct many_kernel *kernel, const struct many_product *p, void *scratch, int ith, int nth) {
    const struct gemm_rectangle part = gemm_share(p->n_rows, p->n_w, kernel->rows, kernel->columns, kernel->pack_x_cost,
                                                    kernel->pack_cost, ith, nth);
    struct job job = {.kernel = kernel, .p = p, .pack = kernel->packs(p->type, p->n), .x = scratch};
    job.n_groups = divide_up(p->n, MANY_GROUP);
    job.panel = job.x + X_BYTES;
    job.tile = (float *)(void *)(job.panel + MANY_PANEL_BYTES);
    const int64_t most = X_BYTES / tile_bytes(kernel, p->n) * kernel->rows;
    if (part.first_column == part.end_column) {
        return;
    }
    for (int64_t row = part.first_row; row < part.end_row; row += most) {
        job.first_row = row;
        job.n_rows = min64(most, part.end_row - row);
        job.n_tiles = divide_up(job.n_rows, kernel->rows);
        if (!p->same_x || most < p->n_rows) {
            pack_x(&job);
        }
        for (int64_t j = part.first_column; j < part.end_column; j += kernel->columns) {
            const int64_t left = part.end_column - j, columns = min64(kernel->columns, left);
            multiply(&job, j, (int)columns, (int)min64(kernel->columns, left - columns));
        }
    }
}
