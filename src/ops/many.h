/* Products of many rows with quantised weights in whole numbers, where the processor multiplies those fastest.
 *
 * Weights stay the numbers of 8 bits or less that they are, with a scale for every 32 of them (q6_K: 16) and for some types a
 * minimum. Activations become 16-bit numbers with a scale for every 256 of them, as in few_int16.h: products are nearly exact.
 * A group of 256 of a tile's columns is unpacked into a panel in the first-level cache and met by all rows.
 */
#ifndef OPS_MANY_H
#define OPS_MANY_H

#include <ggml.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MANY_GROUP = 256, /* elements of a row, at most, that are packed at a time */
    MANY_MAX_ROWS = 8,
    MANY_MAX_COLUMNS = 32,
    MANY_PANEL_BYTES = 24 << 10
};

/* Panel of weights [0, n) of a group: of `columns` rows of weights, at most as many as a tile has. */
typedef void (*many_pack_t)(void *panel, const void *const *rows, int columns, int n);

/* Bytes that are wanted next: fetched while a tile is computed, a few with every few steps, so that neither waits for the
 * other. */
struct many_ahead {
    const char *at;
    size_t bytes;
};

struct many_kernel {
    const char *name;
    int rows, columns;           /* of a tile */
    size_t x_bytes;              /* of a packed group of a tile's rows of x, a multiple of 64 */
    /* How groups of rows of n weights of a type are packed; NULL: they cannot be read. */
    many_pack_t (*packs)(enum ggml_type type, int64_t n);
    /* n elements of n_rows rows of x, stride floats apart */
    void (*pack_x)(void *packed, const float *x, size_t stride, int n_rows, int n);
    /* y[r][j] (= or +=) their product; columns of y up to the next multiple of 16 are written */
    void (*tile)(const void *x, const void *panel, float *y, size_t y_stride, int n_rows, int columns, int n, bool add,
                 const struct many_ahead *ahead);
    double pack_x_cost, pack_cost; /* of an element of x, and of a weight, in multiply-adds that take as long */
};

/* y[r][j] = sum_i w[j][i] x[r][i], i < n, r < n_rows, j < n_w */
struct many_product {
    const void *w;
    enum ggml_type type;
    size_t w_stride; /* bytes */
    int64_t n_w, n, n_rows;
    const float *x;
    float *y;
    size_t x_stride, y_stride; /* floats */
    bool same_x; /* x, n and n_rows are those of the call before with this scratch and kernel, both with nth 1: it is packed */
};

/* Whether the kernel, which may be NULL, reads rows of n weights of a type. */
bool many_reads(const struct many_kernel *kernel, enum ggml_type type, int64_t n);

/* Bytes of scratch that each thread wants, whatever the product; aligned to 64. */
size_t many_scratch_bytes(void);

/* Computes thread ith's share of nth; threads do not meet. What comes of a row depends neither on their number nor on other
 * rows. */
void many_run(const struct many_kernel *kernel, const struct many_product *p, void *scratch, int ith, int nth);

#if defined(__x86_64__)
extern const struct many_kernel many_int16_avx512vnni, many_int16_avxvnni, many_int16_avx2;
#endif

#endif
