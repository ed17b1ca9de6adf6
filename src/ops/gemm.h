/* Matrix products of f32 rows with weights of any type, split over threads that never meet.
 *
 *     C[i, j] (= or +=) scale * sum_p A[i, p] B[p, j]        i < m, j < n, p < depth
 *
 * A and C are f32 with one contiguous axis. B is one or more weight matrices as ggml stores them: rows of contiguous elements
 * in any type that ggml converts to f32, converted while they are packed, so no f32 copy of a weight ever exists. Its rows
 * run along j (GEMM_ROWS_ARE_COLUMNS: y = W x) or along p (GEMM_ROWS_ARE_DEPTH: dx = W^T dy).
 *
 * Every thread of a team calls gemm_run with its own scratch and computes its own rectangle of C. Each element is summed over
 * p in an order that depends on depth alone, so results depend neither on the number of threads nor on m.
 *
 * What a processor multiplies fastest is a struct gemm_kernel: how to pack panels of A and B, and one tile of C from them.
 */
#ifndef OPS_GEMM_H
#define OPS_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ggml.h>

enum {
    GEMM_ALIGN = 64,            /* bytes; of panels and scratch */
    GEMM_MAX_MR = 32,           /* tile of C, at most */
    GEMM_MAX_NR = 32,
    GEMM_MAX_PARTS = 9,
};

/* How one tile of C comes about. A tile is mr x nr. Panels of A hold mr rows, those of B nr columns, both for up to
 * GEMM_MAX_DEPTH steps of p; panels advance by mr (nr) * 4 bytes a step at most. */
struct gemm_kernel {
    const char *name;
    int mr, nr;
    int nr_step;          /* tiles may be narrower by multiples of this */
    int depth_step;       /* packing pads the depth with zeros to a multiple of this, at most 32 */
    int a_bytes, b_bytes; /* of an element in its panel */

    /* Panel of rows of A: element (i, p) at a[i * i_stride + p * p_stride]; one stride is 1. i < rows <= mr. Times scale. */
    void (*pack_a)(void *panel, const float *a, size_t i_stride, size_t p_stride, int rows, int depth, float scale);
    /* Panel of columns of B from f32 rows[j][p] (b_columns) or rows[p][j] (b_depth), j < columns <= nr: absent ones are 0. */
    void (*pack_b_columns)(void *panel, const float *const *rows, int columns, int depth);
    void (*pack_b_depth)(void *panel, const float *const *rows, size_t first_column, int columns, int depth);
    /* C tile = (or +=) panels' product. rows <= mr; columns <= nr, a multiple of nr_step; c's rows are c_stride apart. */
    void (*tile)(int depth, const void *a, const void *b, float *c, size_t c_stride, int rows, int columns, bool accumulate);

    /* Around a thread's tiles, NULL: nothing to do. `state` is 64 bytes, aligned to as many. */
    void (*begin)(void *state);
    void (*end)(void *state);

    /* Conversion of a row of weights to f32, NULL: ggml's */
    ggml_to_float_t (*to_float)(enum ggml_type type);
};

enum gemm_orientation { GEMM_ROWS_ARE_COLUMNS, GEMM_ROWS_ARE_DEPTH };

/* One weight matrix: n_rows rows of which each starts row_bytes after the last. */
struct gemm_part {
    const void *data;
    enum ggml_type type;
    size_t row_bytes;
    int64_t n_rows;
};

struct gemm {
    int64_t m, n, depth;
    const float *a; /* (i, p) at a[i * a_i_stride + p * a_p_stride]; one stride is 1 */
    size_t a_i_stride, a_p_stride;
    enum gemm_orientation orientation;
    struct gemm_part parts[GEMM_MAX_PARTS]; /* together n rows (columns of C), or `depth` rows */
    int n_parts;
    float *c; /* (i, j) at c[i * c_i_stride + j * c_j_stride]; one stride is 1 */
    size_t c_i_stride, c_j_stride;
    float scale;
    bool accumulate;
};

/* A part of C: [first_row, end_row) x [first_column, end_column) */
struct gemm_rectangle {
    int64_t first_row, end_row, first_column, end_column;
};

/* Thread ith's of nth rectangles of m x n, in the cheapest grid of them: rows begin at multiples of row_unit, columns of unit,
 * and packing an element of A or B costs as much as this many multiply-adds. */
struct gemm_rectangle gemm_share(int64_t m, int64_t n, int64_t row_unit, int64_t unit, double pack_a, double pack_b, int ith,
                                 int nth);

/* Bytes of scratch that gemm_run wants for each thread, whatever the product; aligned to GEMM_ALIGN. */
size_t gemm_scratch_bytes(void);

/* Computes thread ith's share of nth. */
void gemm_run(const struct gemm_kernel *kernel, const struct gemm *g, void *scratch, int ith, int nth);

#endif
