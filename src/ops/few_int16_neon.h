/* What few_int16_blocks.h needs of NEON; included once by each few_int16_*.c of it.
 *
 * With the dot product of bytes, an activation is 256 h + l, two signed bytes, and 16 h precede 16 l in memory: four
 * instructions for 32 weights and one to shift the sum of the h, where products of 16 bits take eight, which go through one of a
 * core's pipes on many processors. |h| is 125 at most.
 */
#include <arm_neon.h>

#include "ops/few_int16.h"
#include "ops/vec.h"

typedef uint8_t vq_lane;
typedef vq_lane vq __attribute__((vector_size(16)));

VEC_INLINE vq vq_load(const uint8_t *p) { return (vq)vld1q_u8(p); }
VEC_INLINE vq vq_load_signed(const uint8_t *p) { return vq_load(p); }

#if defined(__ARM_FEATURE_DOTPROD)

VEC_INLINE int32x4_t dot16(int32x4_t sum, vq q, const uint8_t *x) {
    return vdotq_s32(sum, (int8x16_t)q, vreinterpretq_s8_u8(vld1q_u8(x)));
}

VEC_INLINE vf v_dot16(vq q, const uint8_t *x) {
    const int32x4_t high = dot16(vdupq_n_s32(0), q, x);
    return (vf)vcvtq_f32_s32(dot16(vshlq_n_s32(high, 8), q, x + 16));
}

VEC_INLINE vf v_dot32(vq q, vq p, const uint8_t *x) {
    const int32x4_t high = dot16(dot16(vdupq_n_s32(0), q, x), p, x + 32);
    return (vf)vcvtq_f32_s32(dot16(dot16(vshlq_n_s32(high, 8), q, x + 16), p, x + 48));
}

VEC_INLINE void store16(uint8_t *to, int16x8_t a, int16x8_t b) {
    const int8x8_t high_a = vshrn_n_s16(vqaddq_s16(a, vdupq_n_s16(128)), 8);
    const int8x8_t high_b = vshrn_n_s16(vqaddq_s16(b, vdupq_n_s16(128)), 8);
    vst1q_u8(to, vreinterpretq_u8_s8(vcombine_s8(high_a, high_b)));
    vst1q_u8(to + 16, vreinterpretq_u8_s8(vcombine_s8(vmovn_s16(a), vmovn_s16(b)))); /* l: the lower byte, signed */
}

#else

VEC_INLINE int32x4_t dot8(int32x4_t sum, int16x8_t q, const uint8_t *x) {
    const int16x8_t y = vreinterpretq_s16_u8(vld1q_u8(x));
    return vmlal_high_s16(vmlal_s16(sum, vget_low_s16(q), vget_low_s16(y)), q, y);
}

VEC_INLINE int32x4_t dot16(int32x4_t sum, vq q, const uint8_t *x) {
    return dot8(dot8(sum, vmovl_s8(vget_low_s8((int8x16_t)q)), x), vmovl_high_s8((int8x16_t)q), x + 16);
}

VEC_INLINE vf v_dot16(vq q, const uint8_t *x) { return (vf)vcvtq_f32_s32(dot16(vdupq_n_s32(0), q, x)); }
VEC_INLINE vf v_dot32(vq q, vq p, const uint8_t *x) {
    return (vf)vcvtq_f32_s32(dot16(dot16(vdupq_n_s32(0), q, x), p, x + 32));
}

VEC_INLINE void store16(uint8_t *to, int16x8_t a, int16x8_t b) {
    vst1q_u8(to, vreinterpretq_u8_s16(a));
    vst1q_u8(to + 16, vreinterpretq_u8_s16(b));
}

#endif

VEC_INLINE int32x4_t rounded(const float *x, float by) { return vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), by)); }

VEC_INLINE int32_t pack16(uint8_t *to, const float *x, float by) {
    const int32x4_t a = rounded(x, by), b = rounded(x + 4, by), c = rounded(x + 8, by), d = rounded(x + 12, by);
    store16(to, vqmovn_high_s32(vqmovn_s32(a), b), vqmovn_high_s32(vqmovn_s32(c), d));
    return vaddvq_s32(vaddq_s32(vaddq_s32(a, b), vaddq_s32(c, d)));
}

#include "ops/few_int16_blocks.h"
