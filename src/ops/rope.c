#include "ops/rope.h"

#include <ggml.h>
#include <math.h>

/* Angles of the pairs fall geometrically, are divided by the factors, and blend between the extrapolated and the interpolated
 * by the ramp of YaRN (Peng et al., 2023). */
void rope_table(const struct rope_params *p, const float *factors, int32_t position, float *table) {
    const int32_t half = p->n_rot / 2;
    const float step = powf(p->freq_base, -2.0f / (float)p->n_rot);
    float ramp_ends[2] = {0, 0}, magnitude = p->attn_factor, theta = (float)position;
    if (p->ext_factor != 0) {
        ggml_rope_yarn_corr_dims(p->n_rot, p->n_ctx_orig, p->freq_base, p->beta_fast, p->beta_slow, ramp_ends);
        magnitude *= 1.0f + 0.1f * logf(1.0f / p->freq_scale);
    }
    float *own = table, *partner = table + p->n_rot;
    for (int32_t i = 0; i < half; i++, theta *= step) {
        const float extrapolated = theta / (factors ? factors[i] : 1.0f);
        float angle = p->freq_scale * extrapolated;
        if (p->ext_factor != 0) {
            const float ramp = ((float)i - ramp_ends[0]) / fmaxf(0.001f, ramp_ends[1] - ramp_ends[0]);
            const float mix = (1.0f - fminf(1.0f, fmaxf(0.0f, ramp))) * p->ext_factor;
            angle = angle * (1.0f - mix) + extrapolated * mix;
        }
        const int32_t first = p->neox ? i : 2 * i, second = p->neox ? i + half : 2 * i + 1;
        own[first] = own[second] = cosf(angle) * magnitude;
        partner[second] = sinf(angle) * magnitude;
        partner[first] = -partner[second];
    }
}
