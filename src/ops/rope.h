/* Sines and cosines of rotary positions, as ggml_rope_ext takes them, in the layout that the rope kernel reads. */
#ifndef OPS_ROPE_H
#define OPS_ROPE_H

#include <stdbool.h>
#include <stdint.h>

struct rope_params {
    int32_t n_rot;
    int32_t neox; /* pairs are (i, i + n_rot/2), else (2i, 2i + 1) */
    int32_t n_ctx_orig;
    float freq_base, freq_scale, ext_factor, attn_factor, beta_fast, beta_slow;
};

/* Fills table[2 * n_rot] for one position: the factor of each rotated element itself (cos), then that of its partner in the
 * pair (sin, with its sign). factors: [n_rot / 2] divisors of the frequencies, or NULL. */
void rope_table(const struct rope_params *p, const float *factors, int32_t position, float *table);

#endif
