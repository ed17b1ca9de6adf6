/* Products of a few rows with quantised weights in whole numbers, for decoding.
 *
 * Activations become 16-bit numbers with a scale for every 256 of them: 15 significant bits of the largest, so
 * that a product is nearly exact, where libllama gives them 7. Weights are unpacked once for all rows and multiplied without
 * their scale. What of the weights' scales is a whole number, as in the K types, is multiplied as one.
 */
#ifndef OPS_FEW_INT16_H
#define OPS_FEW_INT16_H

#include <ggml.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FEW_INT16_MAX_ROWS = 8 /* at once; more are for many.h, or few_bf16.h */ };

/* How activations are packed: what types of weights meet them. */
enum few_int16_form { FEW_INT16_NONE, FEW_INT16_BLOCKS, FEW_INT16_SUPER_BLOCKS };

struct few_int16 {
    const char *name;
    /* The form for rows of n weights of this type; FEW_INT16_NONE: they cannot be read. */
    enum few_int16_form (*form)(enum ggml_type type, int64_t n);
    /* Bytes of a packed row of n, less than 3 n + 128; a multiple of 64 */
    size_t (*packed_bytes)(int64_t n);
    /* x [n] f32 -> packed, aligned to 64 bytes */
    void (*pack)(enum few_int16_form form, void *packed, const float *x, int64_t n);
    /* y[r][j] = sum_i w[j][i] x[r][i], i in [0, n), r in [0, n_rows), j in [first, end); w_stride in bytes, rows of x packed one
     * after the other, at most FEW_INT16_MAX_ROWS. What comes of a row does not depend on the others. */
    void (*product)(float *y, int64_t y_stride, const void *w, enum ggml_type type, size_t w_stride, const void *x, int64_t n,
                    int n_rows, int64_t first, int64_t end);
};

#if defined(__x86_64__)
extern const struct few_int16 few_int16_avx512vnni, few_int16_avxvnni, few_int16_avx2;
#elif defined(__aarch64__)
extern const struct few_int16 few_int16_neon, few_int16_dotprod;
#endif

#endif
