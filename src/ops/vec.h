/* One vector of floats, in the widest instructions that a file is compiled for.
 *
 * The kernels are written once over these few functions and compiled for each instruction set (kernels_*.c). Loads and
 * stores need no alignment. v_max and v_min give their second argument when either is not a number, as x86 does.
 */
#ifndef OPS_VEC_H
#define OPS_VEC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define VEC_INLINE static inline __attribute__((always_inline, unused))

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define VEC_SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define VEC_SANITIZED
#endif

/* UNROLL: before a loop of constant count that must vanish, so that arrays of vectors stay in registers. VEC_INSTANCE: a
 * function that is compiled once for each set of its constant arguments. Sanitizers' checks make such code so long that
 * compiling it takes minutes: there it stays as it is written. */
#if defined(VEC_SANITIZED)
#define UNROLL
#define VEC_INSTANCE static inline __attribute__((unused))
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define VEC_INSTANCE VEC_INLINE
#else
#define UNROLL _Pragma("GCC unroll 32")
#define VEC_INSTANCE VEC_INLINE
#endif

#if defined(__AVX512F__)

enum { VEC = 16 };
typedef __m512 vf;

VEC_INLINE vf v_load(const float *p) { return _mm512_loadu_ps(p); }
VEC_INLINE void v_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
VEC_INLINE vf v_set1(float a) { return _mm512_set1_ps(a); }
VEC_INLINE vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
VEC_INLINE vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
VEC_INLINE vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
VEC_INLINE vf v_div(vf a, vf b) { return _mm512_div_ps(a, b); }
VEC_INLINE vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
VEC_INLINE vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
VEC_INLINE vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
VEC_INLINE vf v_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
VEC_INLINE __mmask16 v_first(int n) { return (__mmask16)((1u << n) - 1u); }
VEC_INLINE vf v_load_part(const float *p, int n) { return _mm512_maskz_loadu_ps(v_first(n), p); }
VEC_INLINE void v_store_part(float *p, int n, vf a) { _mm512_mask_storeu_ps(p, v_first(n), a); }
VEC_INLINE float v_sum(vf a) { return _mm512_reduce_add_ps(a); }
VEC_INLINE void v_sum4(float out[4], vf a, vf b, vf c, vf d) {
    const vf ab = v_add(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)); /* in each 128 bits two sums of a, two of b */
    const vf cd = v_add(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const vf all = v_add(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
/* a < b ? 0 : x */
VEC_INLINE vf v_zero_if_less(vf a, vf b, vf x) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ), x); }
#if defined(__OPTIMIZE__)
VEC_INLINE vf v_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
#else /* gcc has a macro for it here, with a conversion that it warns of */
VEC_INLINE vf v_round(vf a) { return _mm512_cvtepi32_ps(_mm512_cvtps_epi32(a)); }
#endif
/* lanes 1, 0, 3, 2, ... */
VEC_INLINE vf v_swap_pairs(vf a) { return _mm512_permute_ps(a, 0xb1); }
/* x * 2^n for integral n with normal results */
VEC_INLINE vf v_scale2(vf x, vf n) {
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_mul_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23)));
}
/* VEC half floats, signed bytes, and the low (shift 0) or high (4) halves of bytes; absent where no instruction converts half
 * floats */
#define HAS_V_LOAD_F16 1
VEC_INLINE vf v_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p)); }
VEC_INLINE vf v_from_i8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)));
}
VEC_INLINE vf v_from_half_bytes(const uint8_t *p, int shift) {
    const __m512i q = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
    return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(q, (unsigned)shift), _mm512_set1_epi32(15)));
}

VEC_INLINE void v_transpose(vf r[16]) {
    __m512 t[16];
    UNROLL
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

#elif defined(__AVX2__) && defined(__FMA__)

enum { VEC = 8 };
typedef __m256 vf;

VEC_INLINE vf v_load(const float *p) { return _mm256_loadu_ps(p); }
VEC_INLINE void v_store(float *p, vf a) { _mm256_storeu_ps(p, a); }
VEC_INLINE vf v_set1(float a) { return _mm256_set1_ps(a); }
VEC_INLINE vf v_add(vf a, vf b) { return _mm256_add_ps(a, b); }
VEC_INLINE vf v_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
VEC_INLINE vf v_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
VEC_INLINE vf v_div(vf a, vf b) { return _mm256_div_ps(a, b); }
VEC_INLINE vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
VEC_INLINE vf v_min(vf a, vf b) { return _mm256_min_ps(a, b); }
VEC_INLINE vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
VEC_INLINE vf v_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
VEC_INLINE __m256i v_first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
VEC_INLINE vf v_load_part(const float *p, int n) { return _mm256_maskload_ps(p, v_first(n)); }
VEC_INLINE void v_store_part(float *p, int n, vf a) { _mm256_maskstore_ps(p, v_first(n), a); }
VEC_INLINE float v_sum(vf a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
VEC_INLINE void v_sum4(float out[4], vf a, vf b, vf c, vf d) {
    const vf ab = v_add(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    const vf cd = v_add(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    const vf all = v_add(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
}
VEC_INLINE vf v_zero_if_less(vf a, vf b, vf x) { return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_NLT_UQ), x); }
VEC_INLINE vf v_round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VEC_INLINE vf v_swap_pairs(vf a) { return _mm256_permute_ps(a, 0xb1); }
VEC_INLINE vf v_scale2(vf x, vf n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}
#if defined(__F16C__)
#define HAS_V_LOAD_F16 1
VEC_INLINE vf v_load_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p)); }
VEC_INLINE vf v_from_i8(const uint8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)));
}
VEC_INLINE vf v_from_half_bytes(const uint8_t *p, int shift) {
    const __m256i q = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
    return _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(q, shift), _mm256_set1_epi32(15)));
}
#endif

VEC_INLINE void v_transpose(vf r[8]) {
    __m256 t[8];
    UNROLL
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    }
    UNROLL
    for (int i = 0; i < 8; i++) {
        r[i] = t[i];
    }
}

#else /* 16 bytes in the compiler's own vectors: SSE2, NEON, or whatever there is */

#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

enum { VEC = 4 };
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vec_i32 __attribute__((vector_size(16)));
typedef uint32_t vec_u32 __attribute__((vector_size(16)));
typedef float vf_unaligned __attribute__((vector_size(16), aligned(4), may_alias));

VEC_INLINE vf v_load(const float *p) { return *(const vf_unaligned *)p; }
VEC_INLINE void v_store(float *p, vf a) { *(vf_unaligned *)p = a; }
VEC_INLINE vf v_set1(float a) { return (vf){a, a, a, a}; }
VEC_INLINE vf v_add(vf a, vf b) { return a + b; }
VEC_INLINE vf v_sub(vf a, vf b) { return a - b; }
VEC_INLINE vf v_mul(vf a, vf b) { return a * b; }
VEC_INLINE vf v_div(vf a, vf b) { return a / b; }
VEC_INLINE vf v_select(vec_i32 mask, vf a, vf b) { return (vf)(((vec_i32)a & mask) | ((vec_i32)b & ~mask)); }
VEC_INLINE vf v_max(vf a, vf b) { return v_select(a > b, a, b); }
VEC_INLINE vf v_min(vf a, vf b) { return v_select(a < b, a, b); }
#if defined(__ARM_NEON) && defined(__aarch64__)
VEC_INLINE vf v_fma(vf a, vf b, vf c) { return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
VEC_INLINE vf v_fnma(vf a, vf b, vf c) { return (vf)vfmsq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
#else
VEC_INLINE vf v_fma(vf a, vf b, vf c) { return a * b + c; }
VEC_INLINE vf v_fnma(vf a, vf b, vf c) { return c - a * b; }
#endif
VEC_INLINE vf v_load_part(const float *p, int n) {
    vf r = {0, 0, 0, 0};
    memcpy(&r, p, (size_t)n * sizeof(float));
    return r;
}
VEC_INLINE void v_store_part(float *p, int n, vf a) { memcpy(p, &a, (size_t)n * sizeof(float)); }
VEC_INLINE float v_sum(vf a) { return (a[0] + a[2]) + (a[1] + a[3]); }
VEC_INLINE void v_sum4(float out[4], vf a, vf b, vf c, vf d) {
    const vf ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const vf cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
    v_store(out, __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7));
}
VEC_INLINE vf v_zero_if_less(vf a, vf b, vf x) { return (vf)((vec_i32)x & ~(a < b)); }
/* |a| < 2^22: adding 1.5 * 2^23 leaves no bits for a fraction */
VEC_INLINE vf v_round(vf a) {
    return (a + v_set1(12582912.0f)) - v_set1(12582912.0f);
}
VEC_INLINE vf v_swap_pairs(vf a) { return __builtin_shufflevector(a, a, 1, 0, 3, 2); }
VEC_INLINE vf v_scale2(vf x, vf n) {
    return x * (vf)(((vec_u32)__builtin_convertvector(n, vec_i32) + 127u) << 23);
}
#if defined(__ARM_NEON) && defined(__aarch64__)
#define HAS_V_LOAD_F16 1
VEC_INLINE vf v_load_f16(const uint16_t *p) { return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
VEC_INLINE int8x8_t vec_four_bytes(const uint8_t *p) {
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return vreinterpret_s8_u32(vdup_n_u32(four));
}
VEC_INLINE vf v_from_i8(const uint8_t *p) {
    return (vf)vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vec_four_bytes(p)))));
}
VEC_INLINE vf v_from_half_bytes(const uint8_t *p, int shift) {
    const uint8x8_t q = vshl_u8(vreinterpret_u8_s8(vec_four_bytes(p)), vdup_n_s8((int8_t)-shift));
    const uint8x8_t half = vand_u8(q, vdup_n_u8(15));
    return (vf)vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(half))));
}
#endif

VEC_INLINE void v_transpose(vf r[4]) {
    const vf a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
    const vf c = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    r[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
    r[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
    r[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
    r[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

#endif

VEC_INLINE vf v_zero(void) { return v_set1(0.0f); }

#ifdef HAS_V_LOAD_F16
/* a half float in all lanes */
VEC_INLINE vf v_set1_f16(const void *p) {
#if defined(__x86_64__)
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return v_set1(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))));
#else
    __fp16 h;
    memcpy(&h, p, sizeof h);
    return v_set1((float)h);
#endif
}
#endif

/* out[i] = the sum of the lanes of a[i], for a constant number of them: in the same order whatever their number. */
VEC_INLINE void v_sums(float *out, const vf *a, const int n) {
    UNROLL
    for (int i = 0; i + 4 <= n; i += 4) {
        v_sum4(out + i, a[i], a[i + 1], a[i + 2], a[i + 3]);
    }
    if (n % 4) {
        const int i = n / 4 * 4;
        float rest[4];
        v_sum4(rest, a[i], i + 1 < n ? a[i + 1] : v_zero(), i + 2 < n ? a[i + 2] : v_zero(), v_zero());
        UNROLL
        for (int k = 0; k < n % 4; k++) {
            out[i + k] = rest[k];
        }
    }
}

/* x, loaded once: a compiler would read it from memory again for each of its uses. */
VEC_INLINE vf v_loaded(vf x) {
#if defined(__x86_64__)
    __asm__("" : "+v"(x));
#endif
    return x;
}

/* How far ahead of their use weights are fetched, so that what streams by keeps the memory busy: at least 12 KiB, which a core
 * reads in a few times the memory's latency, and a multiple of `step` bytes, so that none is fetched when it is just in use. */
VEC_INLINE size_t fetch_distance(size_t step) { return (12288 + step - 1) / step * step; }

/* e^x to about 1 ulp; below -87.3 (where results would be subnormal) 0; above 88.3 about 2e38; NaN stays. */
VEC_INLINE vf v_exp(vf x) {
    const vf low = v_set1(-87.3f);
    const vf c = v_min(v_set1(88.3f), v_max(low, x));
    const vf n = v_round(v_mul(c, v_set1(1.44269504088896341f)));
    vf r = v_fnma(n, v_set1(0.693145751953125f), c); /* c - n ln 2, in two steps */
    r = v_fnma(n, v_set1(1.428606765330187e-6f), r);
    vf p = v_set1(1.9875691500e-4f);
    p = v_fma(p, r, v_set1(1.3981999507e-3f));
    p = v_fma(p, r, v_set1(8.3334519073e-3f));
    p = v_fma(p, r, v_set1(4.1665795894e-2f));
    p = v_fma(p, r, v_set1(1.6666665459e-1f));
    p = v_fma(p, r, v_set1(5.0000001201e-1f));
    p = v_add(v_fma(p, v_mul(r, r), r), v_set1(1.0f));
    return v_zero_if_less(x, low, v_scale2(p, n));
}

#endif
