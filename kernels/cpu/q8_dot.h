/* q8_dot.h - one query against packed keys in plain C and AVX2, a segment at a time (attend_cpu.h has the formulas). */
#ifndef RADAR_Q8_DOT_H
#define RADAR_Q8_DOT_H

#include <string.h>

#include "kernels/cpu/attend_cpu.h"
#include "kernels/cpu/sum16.h"

/* H q in steps. */
typedef struct radar_rounded_query {
    int16_t n[RADAR_MAX_D];
    float step;
} radar_rounded_query;

RADAR_TEMPLATE void radar_round_query(radar_rounded_query *out, const radar_rotation *r,
                                      const float *q) {
    float h[RADAR_MAX_D], max = 0;
    int D = r->D;
    memcpy(h, q, (size_t)D * sizeof *h);
    radar_rotate(r, h, 1);
    for (int d = 0; d < D; d++) max = fabsf(h[d]) > max ? fabsf(h[d]) : max;
    float steps = max >= RADAR_Q8_NOTHING ? RADAR_Q8_STEPS / max : 0;
    for (int d = 0; d < D; d++) {
        float x = rintf(h[d] * steps);
        out->n[d] = (int16_t)(int32_t)(x < RADAR_Q8_STEPS ? x : RADAR_Q8_STEPS);
    }
    out->step = max / RADAR_Q8_STEPS;
}

/* The keys of a packed segment. */
typedef struct radar_packed_keys {
    const int8_t *k, *mu;
    float scale[RADAR_SEGMENT], mu_scale;
} radar_packed_keys;

static inline radar_packed_keys radar_packed_keys_at(radar_isa isa, const radar_kv_view *kv,
                                                     int64_t segment) {
    radar_packed_keys p = {.k = (const int8_t *)kv->k +
                                (size_t)segment * radar_segment_bytes(RADAR_Q8, kv->D),
                           .mu = (const int8_t *)radar_q8_centre(kv, segment)};
    memcpy(&p.mu_scale, p.mu + kv->D, sizeof p.mu_scale);
    radar_widen_f16(isa, p.scale, kv->k_scale + (size_t)segment * RADAR_SEGMENT, RADAR_SEGMENT);
    return p;
}

/* ---- dot[i] := sum n k_i ---- */

RADAR_TEMPLATE void dots_plain(int32_t dot[RADAR_SEGMENT], const int8_t *k, const int16_t *n,
                               int D) {
    memset(dot, 0, RADAR_SEGMENT * sizeof *dot);
    for (int d = 0; d < D; d += 4)
        for (int i = 0; i < RADAR_SEGMENT; i++)
            for (int c = 0; c < 4; c++) dot[i] += n[d + c] * k[d * RADAR_SEGMENT + 4 * i + c];
}

/* 4 numbers of 16 bits, again and again. */
RADAR_AVX2 static inline __m256i four_avx2(const int16_t *x) {
    int64_t bits;
    memcpy(&bits, x, sizeof bits);
    return _mm256_set1_epi64x(bits);
}

/* Adds 4 rows of 4 bytes times x, in halves of a row. */
RADAR_AVX2 static inline __m256i add_products_avx2(__m256i sum, const int8_t *bytes, __m256i x) {
    __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)bytes));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(wide, x));
}

/* Two times 4 rows in halves: their 8 sums in order. */
RADAR_AVX2 static inline __m256i join_avx2(__m256i a, __m256i b) {
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xd8);
}

/* dot[i] := sum n k_i, keys as they are packed. */
RADAR_AVX2 static inline void dots_avx2(int32_t dot[RADAR_SEGMENT], const int8_t *k,
                                        const int16_t *n, int D) {
    __m256i sum[4];
    for (int i = 0; i < 4; i++) sum[i] = _mm256_setzero_si256();
    for (int d = 0; d < D; d += 4, k += 64)
        for (int i = 0; i < 4; i++)
            sum[i] = add_products_avx2(sum[i], k + 16 * i, four_avx2(n + d));
    _mm256_storeu_si256((__m256i *)dot, join_avx2(sum[0], sum[1]));
    _mm256_storeu_si256((__m256i *)(dot + 8), join_avx2(sum[2], sum[3]));
}

/* s: the 16 logits of query q, times scale. */
RADAR_TEMPLATE void radar_packed_logits(float s[RADAR_SEGMENT], bool avx2,
                                        const radar_packed_keys *x, int D,
                                        const radar_rounded_query *rounded, const float *q,
                                        float scale) {
    int32_t dot[RADAR_SEGMENT];
    float lane[16] = {0};
    if (avx2)
        dots_avx2(dot, x->k, rounded->n, D);
    else
        dots_plain(dot, x->k, rounded->n, D);
    for (int d = 0; d < D; d += 16)
        for (int l = 0; l < 16; l++) lane[l] = fmaf(q[d + l], (float)x->mu[d + l], lane[l]);
    float factor = rounded->step * scale, middle = radar_sum16(lane) * x->mu_scale * scale;
    for (int i = 0; i < RADAR_SEGMENT; i++)
        s[i] = fmaf((float)dot[i], x->scale[i] * factor, middle);
}

#endif
