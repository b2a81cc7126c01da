/* lse.h - ln x, and the log-sum-exp of 16 logits: 16 lanes and their twins for one, the same operations, so the same bits.
 *   ln x = e ln 2 + 2 artanh(s),  x = 2^e m,  sqrt(1/2) <= m < sqrt 2,  s = (m - 1) / (m + 1), odd series to s^9: within 2^-22
 * Sums and maxima of 16 logits x[4 r + c]: over c first, (0+2)+(1+3), then over r, (0+2)+(1+3): the tree that folds 16
 * vectors at once with the fewest shuffles. */
#ifndef RADAR_CPU_LSE_H
#define RADAR_CPU_LSE_H

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/segment.h"
#include "kernels/cpu/vmath.h"

#define RADAR_LOG_LN2_HIGH 0x1.62e4p-1f /* few bits: times e it is exact */
#define RADAR_LOG_LN2_LOW 0x1.7f7d1cp-20f
#define RADAR_LOG_SPLIT 0x3f3504f3 /* sqrt(1/2) */

/* ln(16 unit), unit a power of two: of the tokens of a scored segment. */
static inline float radar_log_tokens(int32_t unit) {
    return 2.7725887f + (float)__builtin_ctz((unsigned)unit) * 0.6931472f;
}

/* 0 gives -inf, inf gives inf, below 0 and NaN give NaN; subnormal x counts as 0. */
static inline float radar_logf1(float x) {
    int32_t bits;
    if (!(x >= 0x1p-126f)) return x >= 0 ? -INFINITY : NAN;
    if (x == INFINITY) return x;
    memcpy(&bits, &x, sizeof bits);
    int32_t shifted = bits - RADAR_LOG_SPLIT;
    float e = (float)(shifted >> 23), m;
    bits = (shifted & 0x7fffff) + RADAR_LOG_SPLIT;
    memcpy(&m, &bits, sizeof m);
    float s = (m - 1.0f) / (m + 1.0f), z = s * s, t = s + s;
    float p = z * (1.0f / 9) + 1.0f / 7;
    p = p * z + 1.0f / 5;
    p = p * z + 1.0f / 3;
    return e * RADAR_LOG_LN2_HIGH + (t + (t * z * p + e * RADAR_LOG_LN2_LOW));
}

RADAR_TEMPLATE float radar_fold_max(float a, float b) { return a > b ? a : b; }

static inline float radar_fold_sum1(const float x[16]) {
    float r[4];
    for (int i = 0; i < 4; i++) r[i] = (x[4 * i] + x[4 * i + 2]) + (x[4 * i + 1] + x[4 * i + 3]);
    return (r[0] + r[2]) + (r[1] + r[3]);
}

static inline float radar_fold_max1(const float x[16]) {
    float r[4];
    for (int i = 0; i < 4; i++)
        r[i] = radar_fold_max(radar_fold_max(x[4 * i], x[4 * i + 2]),
                              radar_fold_max(x[4 * i + 1], x[4 * i + 3]));
    return radar_fold_max(radar_fold_max(r[0], r[2]), radar_fold_max(r[1], r[3]));
}

static inline float radar_lse1(const float x[16]) {
    float e[16], m = radar_fold_max1(x);
    for (int i = 0; i < 16; i++) e[i] = radar_expf1(x[i] - m);
    return m + radar_logf1(radar_fold_sum1(e));
}

/* ---- AVX-512 ---- */

RADAR_TEMPLATE RADAR_AVX512 __m512 radar_logf16(__m512 x) {
    const __m512i split = _mm512_set1_epi32(RADAR_LOG_SPLIT);
    __m512i shifted = _mm512_sub_epi32(_mm512_castps_si512(x), split);
    __m512 e = _mm512_cvtepi32_ps(_mm512_srai_epi32(shifted, 23)), one = _mm512_set1_ps(1.0f);
    __m512 m = _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_and_si512(shifted, _mm512_set1_epi32(0x7fffff)), split));
    __m512 s = _mm512_div_ps(_mm512_sub_ps(m, one), _mm512_add_ps(m, one));
    __m512 z = _mm512_mul_ps(s, s), t = _mm512_add_ps(s, s);
    __m512 p = _mm512_add_ps(_mm512_mul_ps(z, _mm512_set1_ps(1.0f / 9)), _mm512_set1_ps(1.0f / 7));
    p = _mm512_add_ps(_mm512_mul_ps(p, z), _mm512_set1_ps(1.0f / 5));
    p = _mm512_add_ps(_mm512_mul_ps(p, z), _mm512_set1_ps(1.0f / 3));
    __m512 small = _mm512_add_ps(_mm512_mul_ps(_mm512_mul_ps(t, z), p),
                                 _mm512_mul_ps(e, _mm512_set1_ps(RADAR_LOG_LN2_LOW)));
    __m512 y = _mm512_add_ps(_mm512_mul_ps(e, _mm512_set1_ps(RADAR_LOG_LN2_HIGH)),
                             _mm512_add_ps(t, small));
    y = _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, _mm512_set1_ps(0x1p-126f), _CMP_NGE_UQ),
                           _mm512_set1_ps(-INFINITY));
    y = _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NGE_UQ),
                           _mm512_set1_ps(NAN));
    return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, _mm512_set1_ps(INFINITY), _CMP_EQ_OQ), x);
}

RADAR_TEMPLATE RADAR_AVX512 __m512 radar_fold_op(bool max, __m512 a, __m512 b) {
    return max ? _mm512_max_ps(a, b) : _mm512_add_ps(a, b);
}

/* Four vectors x[0..3]: in each quarter r, lane i becomes x[i] folded over its four lanes of that quarter. */
RADAR_TEMPLATE RADAR_AVX512 __m512 radar_fold4(bool max, const __m512 *x) {
    __m512 a = radar_fold_op(max, _mm512_unpacklo_ps(x[0], x[1]), _mm512_unpackhi_ps(x[0], x[1]));
    __m512 b = radar_fold_op(max, _mm512_unpacklo_ps(x[2], x[3]), _mm512_unpackhi_ps(x[2], x[3]));
    __m512d c = _mm512_castps_pd(a), d = _mm512_castps_pd(b);
    return radar_fold_op(max, _mm512_castpd_ps(_mm512_unpacklo_pd(c, d)),
                         _mm512_castpd_ps(_mm512_unpackhi_pd(c, d)));
}

/* 4 Q vectors: lane i of the result is x[i] folded over its 16 lanes; lanes from 4 Q on have no meaning. */
RADAR_TEMPLATE RADAR_AVX512 __m512 radar_fold16(bool max, const __m512 *x, int Q) {
    __m512 q[4];
    for (int j = 0; j < 4; j++) q[j] = j < Q ? radar_fold4(max, x + 4 * j) : q[0];
    __m512 a = radar_fold_op(max, _mm512_shuffle_f32x4(q[0], q[1], 0x44),
                             _mm512_shuffle_f32x4(q[0], q[1], 0xee));
    __m512 b = radar_fold_op(max, _mm512_shuffle_f32x4(q[2], q[3], 0x44),
                             _mm512_shuffle_f32x4(q[2], q[3], 0xee));
    return radar_fold_op(max, _mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

/* Log-sum-exp of each of 4 Q vectors of 16 logits, one lane each. */
RADAR_TEMPLATE RADAR_AVX512 __m512 radar_lse16(__m512 *x, int Q) {
    __m512 m = radar_fold16(true, x, Q);
    for (int i = 0; i < 4 * Q; i++)
        x[i] = radar_expf16(_mm512_sub_ps(x[i], _mm512_permutexvar_ps(_mm512_set1_epi32(i), m)));
    return _mm512_add_ps(m, radar_logf16(radar_fold16(false, x, Q)));
}

/* ---- AVX2: four vectors of 16, x[i] with lanes 0 .. 7, x[4 + i] with 8 .. 15 ---- */

RADAR_TEMPLATE RADAR_AVX2 __m256 radar_fold_op_avx2(bool max, __m256 a, __m256 b) {
    return max ? _mm256_max_ps(a, b) : _mm256_add_ps(a, b);
}

/* In each quarter, lane i becomes x[i] folded over its four lanes of that quarter. */
RADAR_TEMPLATE RADAR_AVX2 __m256 radar_fold4_avx2(bool max, const __m256 *x) {
    __m256 a =
        radar_fold_op_avx2(max, _mm256_unpacklo_ps(x[0], x[1]), _mm256_unpackhi_ps(x[0], x[1]));
    __m256 b =
        radar_fold_op_avx2(max, _mm256_unpacklo_ps(x[2], x[3]), _mm256_unpackhi_ps(x[2], x[3]));
    return radar_fold_op_avx2(max, _mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xee));
}

/* Lane i: vector i folded over its 16 lanes, in the tree of lse.h. */
RADAR_TEMPLATE RADAR_AVX2 __m128 radar_fold16_avx2(bool max, const __m256 x[8]) {
    __m256 s = radar_fold_op_avx2(max, radar_fold4_avx2(max, x), radar_fold4_avx2(max, x + 4));
    __m128 even = _mm256_castps256_ps128(s), odd = _mm256_extractf128_ps(s, 1);
    return max ? _mm_max_ps(even, odd) : _mm_add_ps(even, odd);
}

#endif
