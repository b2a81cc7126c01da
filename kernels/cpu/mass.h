/* mass.h - the log of a sum of 16 exponentials in as few operations as a scan can afford: 16 lanes and their twins for 8 and for
 * one, the same operations, so the same bits.  Numbers come in units of ln 2.
 *   mass = m ln 2 + ln sum_i 2^(y_i - m)        m = 0 where |y_i| <= RADAR_MASS_REACH for sure, else max_i y_i
 *   2^y = 2^n p(f),  n = y rounded, f = y - n;  p of degree 3, relative error at most 7.5e-5
 *   ln x = e ln 2 + r + r^2 g(r),  x = 2^e (1 + r),  sqrt(1/2) <= 1 + r < sqrt 2;  g of degree 4, error at most 2e-6
 * so that a mass is within 8e-5 + 2^-22 |m| of the true one.  Rough, for who only looks for the best:
 *   2^y = 2^n (1 + f),  n + f = y - log2 1.0407: the float whose bits are y 2^23 + const; relative error -.04 to +.02, mean 0
 * and the mass is within .05.  Beside a maximum m, what lies more than
 * RADAR_MASS_REACH below counts as that.  Sums and maxima run in the tree of lse.h. */
#ifndef RADAR_CPU_MASS_H
#define RADAR_CPU_MASS_H

#include "kernels/cpu/lse.h"

#define RADAR_MASS_REACH 118.0f /* 16 times 2^118 is finite, 2^-119 normal */
#define RADAR_MASS_LOG2E 0x1.715476p+0f
#define RADAR_MASS_LN2 0x1.62e43p-1f
#define RADAR_EXP2_ROUND \
    0x1.8p23f /* added and taken away: rounds to an integer; its last bits are that integer */
#define RADAR_EXP2_P0 0x1.fff692p-1f
#define RADAR_EXP2_P1 0x1.62f31ap-1f
#define RADAR_EXP2_P2 0x1.f0de1ap-3f
#define RADAR_EXP2_P3 0x1.c3f76p-5f

#define RADAR_ROUGH_ONE 0x1p23f
#define RADAR_ROUGH_BASE \
    0x1.fbc516p+29f /* (127 - log2 1.0407) 2^23: the mean of (1 + f) 2^-f is 1.0407 */

#define RADAR_LN_G0 -0x1.ffdf4p-2f
#define RADAR_LN_G1 0x1.549b48p-2f
#define RADAR_LN_G2 -0x1.04b2cep-2f
#define RADAR_LN_G3 0x1.c4023ep-3f
#define RADAR_LN_G4 -0x1.20e668p-3f

/* |y| <= RADAR_MASS_REACH + 1. */
static inline float radar_exp2_1(float y) {
    float t = y + RADAR_EXP2_ROUND, f = y - (t - RADAR_EXP2_ROUND);
    float p = __builtin_fmaf(RADAR_EXP2_P3, f, RADAR_EXP2_P2);
    uint32_t n, bits;
    p = __builtin_fmaf(p, f, RADAR_EXP2_P1);
    p = __builtin_fmaf(p, f, RADAR_EXP2_P0);
    memcpy(&n, &t, sizeof n);
    memcpy(&bits, &p, sizeof bits);
    bits += n << 23;
    memcpy(&p, &bits, sizeof p);
    return p;
}

static inline float radar_rough_exp2_1(float y) {
    /* an infinite y, of numbers at the end of the range: what the vectors' conversion makes of it */
    float t = rintf(__builtin_fmaf(y, RADAR_ROUGH_ONE, RADAR_ROUGH_BASE)), p;
    int32_t bits = t >= -0x1p31f && t < 0x1p31f ? (int32_t)t : INT32_MIN;
    memcpy(&p, &bits, sizeof p);
    return p;
}

/* m ln 2 + ln x, x normal. */
static inline float radar_ln1(float m, float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int32_t shifted = bits - RADAR_LOG_SPLIT;
    bits = (shifted & 0x7fffff) + RADAR_LOG_SPLIT;
    memcpy(&x, &bits, sizeof x);
    float r = x - 1.0f, g = __builtin_fmaf(RADAR_LN_G4, r, RADAR_LN_G3);
    g = __builtin_fmaf(g, r, RADAR_LN_G2);
    g = __builtin_fmaf(g, r, RADAR_LN_G1);
    g = __builtin_fmaf(g, r, RADAR_LN_G0);
    return __builtin_fmaf(m + (float)(shifted >> 23), RADAR_MASS_LN2, __builtin_fmaf(g, r * r, r));
}

/* y is overwritten; far: some |y_i| may be above the reach, or no number. */
static inline float radar_mass1(float y[16], bool far, bool rough) {
    float m = far ? radar_fold_max1(y) : 0;
    for (int i = 0; i < 16; i++) {
        if (far) y[i] = y[i] - m > -RADAR_MASS_REACH ? y[i] - m : -RADAR_MASS_REACH;
        y[i] = rough ? radar_rough_exp2_1(y[i]) : radar_exp2_1(y[i]);
    }
    return radar_ln1(m, radar_fold_sum1(y));
}

/* ---- AVX-512 ---- */

RADAR_TEMPLATE RADAR_AVX512 __m512 radar_exp2_16(__m512 y) {
    const __m512 round = _mm512_set1_ps(RADAR_EXP2_ROUND);
    __m512 t = _mm512_add_ps(y, round), f = _mm512_sub_ps(y, _mm512_sub_ps(t, round));
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(RADAR_EXP2_P3), f, _mm512_set1_ps(RADAR_EXP2_P2));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(RADAR_EXP2_P1));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(RADAR_EXP2_P0));
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}

RADAR_TEMPLATE RADAR_AVX512 __m512 radar_ln16(__m512 m, __m512 x) {
    const __m512i split = _mm512_set1_epi32(RADAR_LOG_SPLIT);
    __m512i shifted = _mm512_sub_epi32(_mm512_castps_si512(x), split);
    __m512 e = _mm512_cvtepi32_ps(_mm512_srai_epi32(shifted, 23));
    x = _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_and_si512(shifted, _mm512_set1_epi32(0x7fffff)), split));
    __m512 r = _mm512_sub_ps(x, _mm512_set1_ps(1.0f));
    __m512 g = _mm512_fmadd_ps(_mm512_set1_ps(RADAR_LN_G4), r, _mm512_set1_ps(RADAR_LN_G3));
    g = _mm512_fmadd_ps(g, r, _mm512_set1_ps(RADAR_LN_G2));
    g = _mm512_fmadd_ps(g, r, _mm512_set1_ps(RADAR_LN_G1));
    g = _mm512_fmadd_ps(g, r, _mm512_set1_ps(RADAR_LN_G0));
    return _mm512_fmadd_ps(_mm512_add_ps(m, e), _mm512_set1_ps(RADAR_MASS_LN2),
                           _mm512_fmadd_ps(g, _mm512_mul_ps(r, r), r));
}

RADAR_TEMPLATE RADAR_AVX512 __m512 radar_rough_exp2_16(__m512 y) {
    return _mm512_castsi512_ps(_mm512_cvtps_epi32(
        _mm512_fmadd_ps(y, _mm512_set1_ps(RADAR_ROUGH_ONE), _mm512_set1_ps(RADAR_ROUGH_BASE))));
}

/* Masses of 4 Q vectors of 16, one lane each; lane i of far is of vector i. */
RADAR_TEMPLATE RADAR_AVX512 __m512 radar_mass16(__m512 *y, __mmask16 far, bool rough, int Q) {
    __m512 m = _mm512_setzero_ps();
    if (__builtin_expect(far != 0, 0)) {
        m = _mm512_maskz_mov_ps(far, radar_fold16(true, y, Q));
        for (int i = 0; i < 4 * Q; i++)
            y[i] = _mm512_max_ps(
                _mm512_sub_ps(y[i], _mm512_permutexvar_ps(_mm512_set1_epi32(i), m)),
                _mm512_set1_ps(-RADAR_MASS_REACH)); /* of a NaN and a number the number comes out */
    }
    for (int i = 0; i < 4 * Q; i++) y[i] = rough ? radar_rough_exp2_16(y[i]) : radar_exp2_16(y[i]);
    return radar_ln16(m, radar_fold16(false, y, Q));
}

/* ---- AVX2 ---- */

RADAR_TEMPLATE RADAR_AVX2 __m256 radar_exp2_8(__m256 y) {
    const __m256 round = _mm256_set1_ps(RADAR_EXP2_ROUND);
    __m256 t = _mm256_add_ps(y, round), f = _mm256_sub_ps(y, _mm256_sub_ps(t, round));
    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(RADAR_EXP2_P3), f, _mm256_set1_ps(RADAR_EXP2_P2));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(RADAR_EXP2_P1));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(RADAR_EXP2_P0));
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));
}

RADAR_TEMPLATE RADAR_AVX2 __m128 radar_ln4(__m128 m, __m128 x) {
    const __m128i split = _mm_set1_epi32(RADAR_LOG_SPLIT);
    __m128i shifted = _mm_sub_epi32(_mm_castps_si128(x), split);
    __m128 e = _mm_cvtepi32_ps(_mm_srai_epi32(shifted, 23));
    x = _mm_castsi128_ps(_mm_add_epi32(_mm_and_si128(shifted, _mm_set1_epi32(0x7fffff)), split));
    __m128 r = _mm_sub_ps(x, _mm_set1_ps(1.0f));
    __m128 g = _mm_fmadd_ps(_mm_set1_ps(RADAR_LN_G4), r, _mm_set1_ps(RADAR_LN_G3));
    g = _mm_fmadd_ps(g, r, _mm_set1_ps(RADAR_LN_G2));
    g = _mm_fmadd_ps(g, r, _mm_set1_ps(RADAR_LN_G1));
    g = _mm_fmadd_ps(g, r, _mm_set1_ps(RADAR_LN_G0));
    return _mm_fmadd_ps(_mm_add_ps(m, e), _mm_set1_ps(RADAR_MASS_LN2),
                        _mm_fmadd_ps(g, _mm_mul_ps(r, r), r));
}

RADAR_TEMPLATE RADAR_AVX2 __m256 radar_rough_exp2_8(__m256 y) {
    return _mm256_castsi256_ps(_mm256_cvtps_epi32(
        _mm256_fmadd_ps(y, _mm256_set1_ps(RADAR_ROUGH_ONE), _mm256_set1_ps(RADAR_ROUGH_BASE))));
}

/* Masses of four vectors of 16 as lse.h has them, which are overwritten; bit i of far is of vector i. */
RADAR_TEMPLATE RADAR_AVX2 __m128 radar_mass4_avx2(__m256 y[8], int far, bool rough) {
    __m128 m = _mm_setzero_ps();
    if (__builtin_expect(far != 0, 0)) {
        float most[4];
        _mm_storeu_ps(most, radar_fold16_avx2(true, y));
        for (int i = 0; i < 8; i++) {
            if (!(far >> i % 4 & 1)) most[i % 4] = 0;
            y[i] = _mm256_max_ps(_mm256_sub_ps(y[i], _mm256_set1_ps(most[i % 4])),
                                 _mm256_set1_ps(-RADAR_MASS_REACH));
        }
        m = _mm_loadu_ps(most);
    }
    for (int i = 0; i < 8; i++) y[i] = rough ? radar_rough_exp2_8(y[i]) : radar_exp2_8(y[i]);
    return radar_ln4(m, radar_fold16_avx2(false, y));
}

#endif
