/* vmath.h - e^x for 16 lanes, and its twins for 8 and for one: the same operations, so the same bits on every machine.
 *   n = round(x / ln 2);  r = x - n ln 2, |r| <= ln 2 / 2;  e^x = 2^n (1 + r + r^2 q(r)),  q of degree 4
 * q minimises the largest relative error, 3.1e-9; with the roundings the result is within 2^-23 relative while it is normal.
 * e^-inf and everything below 2^-150 is 0, subnormal results are rounded once, above ln FLT_MAX inf; NaN stays NaN. */
#ifndef RADAR_VMATH_H
#define RADAR_VMATH_H

#include <immintrin.h>
#include <math.h>

#include "kernels/cpu/isa.h"

/* e^x rounds to 0 from LOW down and to inf from HIGH up: nothing changes beyond. */
#define RADAR_EXP_LOW (-105.0f)
#define RADAR_EXP_HIGH 89.0f
#define RADAR_EXP_ROUND 0x1.8p23f /* added and taken away: rounds to an integer, nearest even */
#define RADAR_EXP_LOG2E 0x1.715476p+0f
#define RADAR_EXP_LN2_HIGH 0x1.62e43p-1f
#define RADAR_EXP_LN2_LOW -0x1.05c61p-29f
#define RADAR_EXP_Q0 0x1.fffffcp-2f
#define RADAR_EXP_Q1 0x1.55549p-3f
#define RADAR_EXP_Q2 0x1.5558f4p-5f
#define RADAR_EXP_Q3 0x1.123a6cp-7f
#define RADAR_EXP_Q4 0x1.6a2352p-10f

static inline float radar_expf1(float x) {
    if (x != x) return x;
    x = x < RADAR_EXP_LOW ? RADAR_EXP_LOW : x;
    x = x > RADAR_EXP_HIGH ? RADAR_EXP_HIGH : x;
    float n = __builtin_fmaf(x, RADAR_EXP_LOG2E, RADAR_EXP_ROUND) - RADAR_EXP_ROUND;
    float r = __builtin_fmaf(n, -RADAR_EXP_LN2_HIGH, x);
    r = __builtin_fmaf(n, -RADAR_EXP_LN2_LOW, r);
    float q = __builtin_fmaf(RADAR_EXP_Q4, r, RADAR_EXP_Q3);
    q = __builtin_fmaf(q, r, RADAR_EXP_Q2);
    q = __builtin_fmaf(q, r, RADAR_EXP_Q1);
    q = __builtin_fmaf(q, r, RADAR_EXP_Q0);
    float p = 1.0f + __builtin_fmaf(q, r * r, r);
    return ldexpf(p, (int)n);
}

/* 2^n for n from -126 to 127. */
RADAR_AVX2 static inline __m256 radar_power8(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

RADAR_AVX2 static inline __m256 radar_expf8(__m256 x) {
    const __m256 round = _mm256_set1_ps(RADAR_EXP_ROUND), one = _mm256_set1_ps(1.0f);
    x = _mm256_max_ps(_mm256_set1_ps(RADAR_EXP_LOW),
                      x); /* of a NaN and a number the second operand comes out */
    x = _mm256_min_ps(_mm256_set1_ps(RADAR_EXP_HIGH), x);
    __m256 n = _mm256_sub_ps(_mm256_fmadd_ps(x, _mm256_set1_ps(RADAR_EXP_LOG2E), round), round);
    __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-RADAR_EXP_LN2_HIGH), x);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(-RADAR_EXP_LN2_LOW), r);
    __m256 q = _mm256_fmadd_ps(_mm256_set1_ps(RADAR_EXP_Q4), r, _mm256_set1_ps(RADAR_EXP_Q3));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(RADAR_EXP_Q2));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(RADAR_EXP_Q1));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(RADAR_EXP_Q0));
    __m256 p = _mm256_add_ps(one, _mm256_fmadd_ps(q, _mm256_mul_ps(r, r), r));
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    /* in two steps, of which only the last can round */
    p = _mm256_mul_ps(p, radar_power8(half));
    return _mm256_mul_ps(p, radar_power8(_mm256_sub_epi32(whole, half)));
}

RADAR_AVX512 static inline __m512 radar_expf16(__m512 x) {
    const __m512 round = _mm512_set1_ps(RADAR_EXP_ROUND);
    x = _mm512_max_ps(_mm512_set1_ps(RADAR_EXP_LOW),
                      x); /* of a NaN and a number the second operand comes out */
    x = _mm512_min_ps(_mm512_set1_ps(RADAR_EXP_HIGH), x);
    __m512 n = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(RADAR_EXP_LOG2E), round), round);
    __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-RADAR_EXP_LN2_HIGH), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(-RADAR_EXP_LN2_LOW), r);
    __m512 q = _mm512_fmadd_ps(_mm512_set1_ps(RADAR_EXP_Q4), r, _mm512_set1_ps(RADAR_EXP_Q3));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(RADAR_EXP_Q2));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(RADAR_EXP_Q1));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(RADAR_EXP_Q0));
    __m512 p = _mm512_add_ps(_mm512_set1_ps(1.0f), _mm512_fmadd_ps(q, _mm512_mul_ps(r, r), r));
    return _mm512_scalef_ps(p, n);
}

#endif
