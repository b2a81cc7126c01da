/* Logits and values of one segment with AVX-512, compiled per type and number of queries. */
#include "kernels/cpu/attend_float.h"

RADAR_TEMPLATE RADAR_AVX512 void logits(float (*s)[16], radar_dtype type, const void *k, int D,
                                        const float *q, size_t q_stride, float scale,
                                        const void *ahead, int Q) {
    __m512 x[RADAR_QUERY_BLOCK];
    radar_segment_logits_avx512(x, type, k, D, q, q_stride, ahead, Q);
    for (int j = 0; j < Q; j++) _mm512_store_ps(s[j], _mm512_mul_ps(x[j], _mm512_set1_ps(scale)));
}

/* o of Q queries, dimensions d0 .. d0 + 16 n: faded, then the attended tokens' values, ascending. */
RADAR_TEMPLATE RADAR_AVX512 void values_strip(float *o, size_t stride, radar_dtype type,
                                              const void *v, int D, int d0, uint32_t mask,
                                              float (*p)[16], const float *fade, bool faded,
                                              const void *ahead, int n, int Q) {
    __m512 sum[RADAR_QUERY_BLOCK][4];
    __mmask16 tail = n == 4 ? 0xffff : radar_tail_mask(D - d0);
    for (int j = 0; j < Q; j++) {
        for (int i = 0; i < n; i++) {
            sum[j][i] = _mm512_maskz_loadu_ps(tail, o + (size_t)j * stride + d0 + 16 * i);
            if (faded) sum[j][i] = _mm512_mul_ps(sum[j][i], _mm512_set1_ps(fade[j]));
        }
    }
    for (; mask; mask &= mask - 1) {
        int token = __builtin_ctz(mask);
        __m512 row[4];
        size_t from = (size_t)(token * D + d0) * (type == RADAR_F32 ? 4 : 2);
        radar_prefetch_like(ahead, from, from + (size_t)(16 * n) * (type == RADAR_F32 ? 4 : 2));
        for (int i = 0; i < n; i++) {
            size_t at = (size_t)(token * D + d0 + 16 * i);
            row[i] = n == 4 ? radar_segment_load(type, v, at)
                            : radar_segment_load_tail(type, v, at, tail);
        }
        for (int j = 0; j < Q; j++)
            for (int i = 0; i < n; i++)
                sum[j][i] = _mm512_fmadd_ps(_mm512_set1_ps(p[j][token]), row[i], sum[j][i]);
    }
    for (int j = 0; j < Q; j++)
        for (int i = 0; i < n; i++)
            _mm512_mask_storeu_ps(o + (size_t)j * stride + d0 + 16 * i, tail, sum[j][i]);
}

RADAR_TEMPLATE RADAR_AVX512 void values(float *o, size_t stride, radar_dtype type, const void *v,
                                        int D, uint32_t mask, float (*p)[16], const float *fade,
                                        const void *ahead, int Q) {
    bool faded = false; /* times 1 changes nothing: most segments raise no maximum */
    int d = 0;
    for (int j = 0; j < Q; j++) faded |= fade[j] != 1;
    for (; d + 64 <= D; d += 64)
        values_strip(o, stride, type, v, D, d, mask, p, fade, faded, ahead, 4, Q);
    for (; d < D; d += 16)
        values_strip(o, stride, type, v, D, d, mask, p, fade, faded, ahead, 1, Q);
}

#define COPIES(suffix, type, Q) \
    RADAR_AVX512 static void logits_##suffix(float(*s)[16], const void *k, int D, const float *q, \
                                             size_t q_stride, float scale, const void *ahead) { \
        logits(s, type, k, D, q, q_stride, scale, ahead, Q); \
    } \
    RADAR_AVX512 static void values_##suffix(float *o, size_t stride, const void *v, int D, \
                                             uint32_t mask, float(*p)[16], const float *fade, \
                                             const void *ahead) { \
        values(o, stride, type, v, D, mask, p, fade, ahead, Q); \
    }
#define COPIES_OF(suffix, type) \
    COPIES(suffix##_1, type, 1) \
    COPIES(suffix##_2, type, 2) \
    COPIES(suffix##_3, type, 3) \
    COPIES(suffix##_4, type, 4)
COPIES_OF(f32, RADAR_F32)
COPIES_OF(f16, RADAR_F16)
COPIES_OF(bf16, RADAR_BF16)

#define TABLE(f) \
    { \
        [RADAR_F32] = {f##_f32_1, f##_f32_2, f##_f32_3, f##_f32_4}, \
        [RADAR_F16] = {f##_f16_1, f##_f16_2, f##_f16_3, f##_f16_4}, [RADAR_BF16] = { \
            f##_bf16_1, \
            f##_bf16_2, \
            f##_bf16_3, \
            f##_bf16_4 \
        } \
    }
radar_attend_logits_fn *const radar_attend_logits[RADAR_DTYPE_COUNT][RADAR_QUERY_BLOCK] =
    TABLE(logits);
radar_attend_values_fn *const radar_attend_values[RADAR_DTYPE_COUNT][RADAR_QUERY_BLOCK] =
    TABLE(values);
