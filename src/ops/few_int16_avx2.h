/* What few_int16_blocks.h needs of AVX2; included once by each few_int16_*.c of it. Weights widened to 16 bits meet 16
 * activations in one vpmaddwd; with AVX-VNNI the products of the other 16 are added by the instruction that multiplies them.
 */
#include <immintrin.h>

#include "ops/few_int16.h"
#include "ops/vec.h"

typedef uint16_t vq_lane;
typedef vq_lane vq __attribute__((vector_size(32)));

VEC_INLINE vq vq_load(const uint8_t *p) { return (vq)_mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)p)); }
VEC_INLINE vq vq_load_signed(const uint8_t *p) { return (vq)_mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)p)); }

VEC_INLINE __m256i load_x(const uint8_t *x) { return _mm256_loadu_si256((const void *)x); }
VEC_INLINE __m256i dot16(vq q, const uint8_t *x) { return _mm256_madd_epi16((__m256i)q, load_x(x)); }

VEC_INLINE __m256i dot32(vq q, vq p, const uint8_t *x) {
#if defined(__AVXVNNI__)
    return _mm256_dpwssd_avx_epi32(dot16(q, x), (__m256i)p, load_x(x + 32));
#else
    return _mm256_add_epi32(dot16(q, x), dot16(p, x + 32));
#endif
}

VEC_INLINE vf v_dot16(vq q, const uint8_t *x) { return _mm256_cvtepi32_ps(dot16(q, x)); }
VEC_INLINE vf v_dot32(vq q, vq p, const uint8_t *x) { return _mm256_cvtepi32_ps(dot32(q, p, x)); }

#define HAS_WHOLE_SCALES
typedef __m256i vi;
VEC_INLINE vq vq_times(vq q, uint32_t twice) { return q * (vq)_mm256_set1_epi32((int)twice); }
VEC_INLINE vi vi_zero(void) { return _mm256_setzero_si256(); }
VEC_INLINE vf vi_to_float(vi a) { return _mm256_cvtepi32_ps(a); }
VEC_INLINE vi vi_add_dot32(vi sum, vq q, vq p, const uint8_t *x) {
    sum = _mm256_add_epi32(sum, dot32(q, p, x));
    __asm__("" : "+x"(sum)); /* the compiler would put the products of all blocks aside and add them at the end */
    return sum;
}

VEC_INLINE int32_t pack16(uint8_t *to, const float *x, float by) {
    const __m256i a = _mm256_cvtps_epi32(v_mul(v_load(x), v_set1(by)));
    const __m256i b = _mm256_cvtps_epi32(v_mul(v_load(x + VEC), v_set1(by)));
    _mm256_storeu_si256((void *)to, _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8));
    const __m256i eight = _mm256_add_epi32(a, b);
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}

#include "ops/few_int16_blocks.h"
