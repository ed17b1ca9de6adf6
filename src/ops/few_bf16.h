/* Products of a few rows with quantised weights in bf16, for decoding: a block of 32 weights is unpacked once, in registers,
 * for all rows. Activations keep the 8 significant bits that libllama gives them, without its scale for every 32 of them.
 */
#ifndef OPS_FEW_BF16_H
#define OPS_FEW_BF16_H

#include <ggml.h>
#include <stdbool.h>
#include <stdint.h>

struct few_bf16 {
    /* Whether rows of n weights of this type can be read: n a multiple of 32. */
    bool (*reads)(enum ggml_type type, int64_t n);
    /* y [n] = bf16 of x [n], n a multiple of 32 */
    void (*pack)(uint16_t *y, const float *x, int64_t n);
    /* y[r][j] = sum_i w[j][i] x[r][i], i in [0, n), r in [0, n_rows), j in [first, end); w_stride in bytes, x packed. What
     * comes of a row does not depend on the others. */
    void (*product)(float *y, int64_t y_stride, const void *w, enum ggml_type type, size_t w_stride, const uint16_t *x,
                    int64_t x_stride, int64_t n, int n_rows, int64_t first, int64_t end);
};

#if defined(__x86_64__)
extern const struct few_bf16 few_bf16_avx512;
#endif

#endif
