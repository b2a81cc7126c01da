/* sum16.h - the one order in which 16 partial sums become one: ((0+8)+(4+12)) + ((2+10)+(6+14)), the odd ones alike, even + odd. */
#ifndef RADAR_SUM16_H
#define RADAR_SUM16_H

#include <immintrin.h>

#include "kernels/cpu/isa.h"

static inline __attribute__((always_inline)) float radar_sum16(const float lane[16]) {
    float s[8];
    for (int i = 0; i < 8; i++) s[i] = lane[i] + lane[i + 8];
    for (int i = 0; i < 4; i++) s[i] = s[i] + s[i + 4];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

/* Four sums at once. */
RADAR_AVX512 static inline __m128 radar_sum16_four(__m512 a, __m512 b, __m512 c, __m512 d) {
    __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    __m512 s =
        _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x4e));
    s = _mm512_add_ps(s, _mm512_permute_ps(s, 0xb1));
    return _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, s));
}

RADAR_AVX512 static inline float radar_sum16_avx512(__m512 v) {
    return _mm_cvtss_f32(radar_sum16_four(v, v, v, v));
}

#endif
