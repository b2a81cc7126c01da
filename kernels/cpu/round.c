/* Activations rounded once per matmul: to int8 with one scale per 32 values, or to bf16. */
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/tile.h"

#define BLOCK 32
/* Blocks whose largest value is below this become 0: 127 / max must stay finite. */
#define TINY 0x1p-100f
#define ROUND 0x1.8p23f /* added and taken away: rounds to an integer, nearest even */

/* Largest |x| as bits: NaN > infinity > numbers, so a NaN is not lost. */
static float largest(const float *x) {
    int32_t most = 0;
    for (int i = 0; i < BLOCK; i++) {
        int32_t u;
        memcpy(&u, x + i, sizeof u);
        u &= 0x7fffffff;
        most = u > most ? u : most;
    }
    float max;
    memcpy(&max, &most, sizeof max);
    return max;
}

/* What to multiply x with; 0 for blocks that are too small, infinite or NaN. */
static inline float factor_of(float max) {
    return max >= TINY && max <= 0x1.fffffep127f ? 127.0f / max : 0.0f;
}

static inline float scale_of(float max) { return max < TINY ? 0.0f : max / 127.0f; }

static void block_done(const radar_x8 *x8, size_t at, float max, int32_t half, int32_t sum) {
    float dx = scale_of(max);
    x8->dx[at] = dx;
    x8->dx_sum[at] = dx * (float)sum;
    x8->neg_sum[at] = -sum;
    x8->neg_half[at] = -half;
}

static void round_plain(const radar_x8 *x8, int m, const float *x, int64_t cols) {
    int8_t *q = x8->q + (size_t)m * x8->q_stride;
    size_t at = (size_t)m * x8->b_stride;
    for (int64_t c = 0; c < cols; c += BLOCK, at++) {
        float max = largest(x + c), factor = factor_of(max);
        int32_t half = 0, sum = 0;
        for (int i = 0; i < BLOCK; i++) {
            if (i == BLOCK / 2) half = sum;
            float v = factor > 0.0f ? (x[c + i] * factor + ROUND) - ROUND : 0.0f;
            q[c + i] = (int8_t)v;
            sum += q[c + i];
        }
        block_done(x8, at, max, half, sum);
    }
}

RADAR_AVX512 static void round_avx512(const radar_x8 *x8, int m, const float *x, int64_t cols) {
    int8_t *q = x8->q + (size_t)m * x8->q_stride;
    size_t at = (size_t)m * x8->b_stride;
    const __m512i number = _mm512_set1_epi32(0x7fffffff);
    for (int64_t c = 0; c < cols; c += BLOCK, at++) {
        __m512 a = _mm512_loadu_ps(x + c), b = _mm512_loadu_ps(x + c + 16);
        __m512i most = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(a), number),
                                        _mm512_and_si512(_mm512_castps_si512(b), number));
        int32_t bits = _mm512_reduce_max_epi32(most);
        float max;
        memcpy(&max, &bits, sizeof max);
        __m512 factor = _mm512_set1_ps(factor_of(max));
        __mmask16 keep = factor_of(max) > 0.0f ? 0xffff : 0;
        __m512i qa = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(a, factor));
        __m512i qb = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(b, factor));
        _mm_storeu_si128((__m128i *)(q + c), _mm512_cvtepi32_epi8(qa));
        _mm_storeu_si128((__m128i *)(q + c + 16), _mm512_cvtepi32_epi8(qb));
        int32_t half = _mm512_reduce_add_epi32(qa);
        block_done(x8, at, max, half, half + _mm512_reduce_add_epi32(qb));
    }
}

void radar_round_int8(radar_isa isa, const radar_x8 *x8, int m, const float *x, int64_t cols) {
    if (isa.avx512)
        round_avx512(x8, m, x, cols);
    else
        round_plain(x8, m, x, cols);
}

RADAR_AVX512_BF16 void radar_round_bf16(const radar_x16 *x16, int m, const float *x, int64_t cols) {
    uint16_t *q = x16->q + (size_t)m * x16->stride;
    for (int64_t c = 0; c < cols; c += 16) {
        __mmask16 k = cols - c >= 16 ? 0xffff : (__mmask16)((1u << (cols - c)) - 1);
        __m256bh v = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(k, x + c));
        _mm256_mask_storeu_epi16(q + c, k, (__m256i)v);
    }
}
