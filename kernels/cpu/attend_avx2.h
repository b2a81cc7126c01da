/* attend_avx2.h - the inner loops of attend_portable.c for AVX2, FMA and F16C: one query, one segment; the same operations in the
 * same order. */
#ifndef RADAR_ATTEND_AVX2_H
#define RADAR_ATTEND_AVX2_H

#include "kernels/cpu/q8_dot.h"
#include "kernels/cpu/vmath.h"

/* s := exp(s - m) */
RADAR_AVX2 static void soften_avx2(float s[RADAR_SEGMENT], float m) {
    for (int i = 0; i < RADAR_SEGMENT; i += 8)
        _mm256_storeu_ps(s + i,
                         radar_expf8(_mm256_sub_ps(_mm256_loadu_ps(s + i), _mm256_set1_ps(m))));
}

/* k [D, 16] f32, D even. */
RADAR_AVX2 static void logits_avx2(float s[RADAR_SEGMENT], const float *k, int D, const float *q,
                                   float scale) {
    __m256 chain[4][2];
    for (int c = 0; c < 4; c++) chain[c][0] = chain[c][1] = _mm256_setzero_ps();
    int d = 0;
    for (; d + 4 <= D; d += 4, k += 4 * RADAR_SEGMENT)
        for (int c = 0; c < 4; c++)
            for (int i = 0; i < 2; i++)
                chain[c][i] =
                    _mm256_fmadd_ps(_mm256_set1_ps(q[d + c]),
                                    _mm256_loadu_ps(k + c * RADAR_SEGMENT + 8 * i), chain[c][i]);
    for (int c = 0; d < D && c < 2; c++)
        for (int i = 0; i < 2; i++)
            chain[c][i] =
                _mm256_fmadd_ps(_mm256_set1_ps(q[d + c]),
                                _mm256_loadu_ps(k + c * RADAR_SEGMENT + 8 * i), chain[c][i]);
    for (int i = 0; i < 2; i++) {
        __m256 sum = _mm256_add_ps(_mm256_add_ps(chain[0][i], chain[1][i]),
                                   _mm256_add_ps(chain[2][i], chain[3][i]));
        _mm256_storeu_ps(s + 8 * i, _mm256_mul_ps(sum, _mm256_set1_ps(scale)));
    }
}

/* v [16, D] f32 */
RADAR_AVX2 static void add_values_avx2(float *o, const float *v, int D,
                                       const float p[RADAR_SEGMENT], uint32_t mask, float fade) {
    int d = 0;
    for (; d + 16 <= D; d += 16) {
        __m256 a = _mm256_mul_ps(_mm256_loadu_ps(o + d), _mm256_set1_ps(fade)),
               b = _mm256_mul_ps(_mm256_loadu_ps(o + d + 8), _mm256_set1_ps(fade));
        for (uint32_t rest = mask; rest; rest &= rest - 1) {
            int i = __builtin_ctz(rest);
            const float *row = v + i * D + d;
            a = _mm256_fmadd_ps(_mm256_set1_ps(p[i]), _mm256_loadu_ps(row), a);
            b = _mm256_fmadd_ps(_mm256_set1_ps(p[i]), _mm256_loadu_ps(row + 8), b);
        }
        _mm256_storeu_ps(o + d, a);
        _mm256_storeu_ps(o + d + 8, b);
    }
    for (; d < D; d++) {
        float sum = o[d] * fade;
        for (uint32_t rest = mask; rest; rest &= rest - 1) {
            int i = __builtin_ctz(rest);
            sum = fmaf(p[i], v[i * D + d], sum);
        }
        o[d] = sum;
    }
}

/* o[d] := float(sum u_i v_i[d]) step + o[d] fade, values as they are packed. */
RADAR_AVX2 static void add_products_of_values_avx2(float *o, const int8_t *v, const int16_t *u,
                                                   int D, float step, float fade) {
    for (int d = 0; d < D; d += 8) {
        __m256i a = _mm256_setzero_si256(), b = a;
        for (int t = 0; t < RADAR_SEGMENT / 4; t++) {
            const int8_t *row = v + (t * D + d) * 4;
            a = add_products_avx2(a, row, four_avx2(u + 4 * t));
            b = add_products_avx2(b, row + 16, four_avx2(u + 4 * t));
        }
        __m256 faded = _mm256_mul_ps(_mm256_loadu_ps(o + d), _mm256_set1_ps(fade));
        _mm256_storeu_ps(o + d, _mm256_fmadd_ps(_mm256_cvtepi32_ps(join_avx2(a, b)),
                                                _mm256_set1_ps(step), faded));
    }
}

#endif
