/* Packed segments with AVX-512 VNNI: four products of bytes and their sum to a lane.  One operand is unsigned: keys are
 * offset by 128, which the accumulators begin without (-128 sum n); weights are not negative. */
#include <string.h>

#include "kernels/cpu/attend_q8.h"
#include "kernels/cpu/lse.h"
#include "kernels/cpu/sum16.h"

/* ---- queries ---- */

/* One step of the Hadamard matrix within 16 lanes: lane i and lane i ^ half become their sum and difference. */
RADAR_TEMPLATE RADAR_AVX512 __m512 butterfly(__m512 z, int half) {
    static const uint16_t upper[] = {0, 0xaaaa, 0xcccc, 0, 0xf0f0, 0, 0, 0, 0xff00};
    const __m512 minus = _mm512_set1_ps(-0.0f);
    __m512 other = half == 1   ? _mm512_permute_ps(z, 0xb1)
                   : half == 2 ? _mm512_permute_ps(z, 0x4e)
                   : half == 4 ? _mm512_shuffle_f32x4(z, z, 0xb1)
                               : _mm512_shuffle_f32x4(z, z, 0x4e);
    return _mm512_add_ps(other, _mm512_mask_xor_ps(z, upper[half], z, minus));
}

/* z := H z, the additions of radar_rotate. */
RADAR_AVX512 static void rotate(const radar_rotation *r, __m512 *z) {
    for (int p = 0; p < r->n_part; z += r->part[p++] / 16) {
        int n = r->part[p] / 16;
        for (int i = 0; i < n; i++)
            z[i] = butterfly(butterfly(butterfly(butterfly(z[i], 1), 2), 4), 8);
        for (int half = 1; half < n; half *= 2) {
            for (int i = 0; i < n; i++) {
                if (i & half) continue;
                __m512 a = z[i], b = z[i + half];
                z[i] = _mm512_add_ps(a, b);
                z[i + half] = _mm512_sub_ps(a, b);
            }
        }
    }
}

RADAR_AVX512 void radar_q8_split(radar_q8_query *out, const radar_rotation *r, const float *q,
                                 float scale) {
    __m512 z[RADAR_MAX_D / 16], most = _mm512_setzero_ps();
    int n = r->D / 16;
    for (int i = 0; i < n; i++)
        z[i] = _mm512_mul_ps(_mm512_loadu_ps(q + 16 * i), _mm512_loadu_ps(r->norm + 16 * i));
    rotate(r, z);
    for (int i = 0; i < n; i++) most = _mm512_max_ps(most, _mm512_abs_ps(z[i]));
    float max = _mm512_reduce_max_ps(most),
          steps = max >= RADAR_Q8_NOTHING ? RADAR_Q8_STEPS / max : 0;
    __m512i high = _mm512_setzero_si512(), low = high;
    for (int i = 0; i < n; i++) {
        __m512i x = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_mul_ps(z[i], _mm512_set1_ps(steps)),
                                                     _mm512_set1_ps(RADAR_Q8_STEPS)));
        __m512i hi = _mm512_srai_epi32(_mm512_add_epi32(x, _mm512_set1_epi32(64)), 7),
                lo = _mm512_sub_epi32(x, _mm512_slli_epi32(hi, 7));
        _mm_store_si128((__m128i *)(out->hi + 16 * i), _mm512_cvtepi32_epi8(hi));
        _mm_store_si128((__m128i *)(out->lo + 16 * i), _mm512_cvtepi32_epi8(lo));
        high = _mm512_add_epi32(high, hi);
        low = _mm512_add_epi32(low, lo);
    }
    out->begin_hi = -128 * _mm512_reduce_add_epi32(high);
    out->begin_lo = -128 * _mm512_reduce_add_epi32(low);
    out->factor = max / RADAR_Q8_STEPS * scale;
}

/* ---- logits ---- */

RADAR_TEMPLATE RADAR_AVX512 __m512 scales(const uint16_t *scale) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)scale));
}

RADAR_AVX512 void radar_q8_middles(float *middle, const radar_kv_view *kv, int64_t segment,
                                   const float *q, size_t q_stride, float scale, int n) {
    const uint8_t *centre = radar_q8_centre(kv, segment);
    float mu_scale;
    memcpy(&mu_scale, centre + kv->D, sizeof mu_scale);
    for (int j = 0; j < n; j += RADAR_QUERY_BLOCK) {
        int Q = n - j < RADAR_QUERY_BLOCK ? n - j : RADAR_QUERY_BLOCK;
        __m512 sum[RADAR_QUERY_BLOCK];
        for (int i = 0; i < RADAR_QUERY_BLOCK; i++) sum[i] = _mm512_setzero_ps();
        for (int d = 0; d < kv->D; d += 16) {
            __m512 mu = _mm512_cvtepi32_ps(
                _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(centre + d))));
            for (int i = 0; i < RADAR_QUERY_BLOCK; i++)
                sum[i] = _mm512_fmadd_ps(
                    _mm512_loadu_ps(q + (size_t)(j + (i < Q ? i : 0)) * q_stride + d), mu, sum[i]);
        }
        __m128 dots = radar_sum16_four(sum[0], sum[1], sum[2], sum[3]);
        dots = _mm_mul_ps(_mm_mul_ps(dots, _mm_set1_ps(mu_scale)), _mm_set1_ps(scale));
        _mm_mask_storeu_ps(middle + j, (__mmask8)((1u << Q) - 1), dots);
    }
}

RADAR_TEMPLATE RADAR_AVX512 __m512i dword(const int8_t *bytes, int i) {
    int32_t x;
    memcpy(&x, bytes + 4 * i, sizeof x);
    return _mm512_set1_epi32(x);
}

RADAR_TEMPLATE RADAR_AVX512 void logits(float (*s)[16], const radar_kv_view *kv, int64_t segment,
                                        int D, const radar_q8_query *x, const float *middle,
                                        const void *ahead, int Q) {
    const int8_t *k = (const int8_t *)kv->k + (size_t)segment * (size_t)(D * RADAR_SEGMENT);
    __m512i hi[RADAR_QUERY_BLOCK][2], lo[RADAR_QUERY_BLOCK][2];
    for (int j = 0; j < Q; j++) {
        hi[j][0] = _mm512_set1_epi32(x[j].begin_hi);
        lo[j][0] = _mm512_set1_epi32(x[j].begin_lo);
        hi[j][1] = lo[j][1] = _mm512_setzero_si512();
    }
#pragma GCC unroll 8
    for (int g = 0; g < D / 4; g += 2) {
        radar_prefetch_like(ahead, (size_t)g * 64, (size_t)(g + 2) * 64);
        for (int i = 0; i < 2; i++) {
            __m512i key = _mm512_xor_si512(_mm512_loadu_si512(k + (g + i) * 64),
                                           _mm512_set1_epi8((char)0x80));
            for (int j = 0; j < Q; j++) {
                hi[j][i] = _mm512_dpbusd_epi32(hi[j][i], key, dword(x[j].hi, g + i));
                lo[j][i] = _mm512_dpbusd_epi32(lo[j][i], key, dword(x[j].lo, g + i));
            }
        }
    }
    __m512 k_scale = scales(kv->k_scale + (size_t)segment * RADAR_SEGMENT);
    for (int j = 0; j < Q; j++) {
        __m512i dot = _mm512_add_epi32(_mm512_slli_epi32(_mm512_add_epi32(hi[j][0], hi[j][1]), 7),
                                       _mm512_add_epi32(lo[j][0], lo[j][1]));
        _mm512_store_ps(s[j], _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot),
                                              _mm512_mul_ps(k_scale, _mm512_set1_ps(x[j].factor)),
                                              _mm512_set1_ps(middle[j])));
    }
}

/* ---- values ---- */

/* Weights of the 16 tokens of Q queries in units of step, as bytes. */
typedef struct weights {
    _Alignas(16) int8_t hi[RADAR_QUERY_BLOCK][16], lo[RADAR_QUERY_BLOCK][16];
    _Alignas(64) float step[16];
} weights;

RADAR_TEMPLATE RADAR_AVX512 void round_weights(weights *out, __m512 v_scale, float (*p)[16],
                                               int Q) {
    const __m512 most = _mm512_set1_ps(RADAR_Q8_WEIGHT);
    __m512 w[RADAR_QUERY_BLOCK];
    for (int j = 0; j < RADAR_QUERY_BLOCK; j++)
        w[j] = j < Q ? _mm512_mul_ps(_mm512_load_ps(p[j]), v_scale) : _mm512_setzero_ps();
    __m512 largest = radar_fold16(true, w, 1);
    __mmask16 any = _mm512_cmp_ps_mask(largest, _mm512_set1_ps(RADAR_Q8_NOTHING), _CMP_GE_OQ);
    __m512 steps = _mm512_maskz_div_ps(any, most, largest);
    _mm512_store_ps(out->step, _mm512_div_ps(largest, most));
    for (int j = 0; j < Q; j++) {
        __m512 own = _mm512_permutexvar_ps(_mm512_set1_epi32(j), steps);
        __m512i u = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_mul_ps(w[j], own), most));
        _mm_store_si128((__m128i *)out->hi[j], _mm512_cvtepi32_epi8(_mm512_srli_epi32(u, 8)));
        _mm_store_si128((__m128i *)out->lo[j], _mm512_cvtepi32_epi8(u));
    }
}

/* Dimensions d .. d + 16 n. */
RADAR_TEMPLATE RADAR_AVX512 void strip(float *o, size_t stride, const int8_t *v, int D, int d,
                                       const weights *w, const float *fade, const void *ahead,
                                       int n, int Q) {
    __m512i hi[RADAR_QUERY_BLOCK][4], lo[RADAR_QUERY_BLOCK][4];
    for (int j = 0; j < Q; j++)
        for (int i = 0; i < n; i++) hi[j][i] = lo[j][i] = _mm512_setzero_si512();
    for (int t = 0; t < RADAR_SEGMENT / 4; t++) {
        __m512i row[4];
        const size_t from = (size_t)(t * D + d) * 4;
        radar_prefetch_like(ahead, from, from + (size_t)n * 64);
        for (int i = 0; i < n; i++) row[i] = _mm512_loadu_si512(v + (t * D + d + 16 * i) * 4);
        for (int j = 0; j < Q; j++) {
            __m512i a = dword(w->hi[j], t), b = dword(w->lo[j], t);
            for (int i = 0; i < n; i++) {
                hi[j][i] = _mm512_dpbusd_epi32(hi[j][i], a, row[i]);
                lo[j][i] = _mm512_dpbusd_epi32(lo[j][i], b, row[i]);
            }
        }
    }
    for (int j = 0; j < Q; j++) {
        for (int i = 0; i < n; i++) {
            float *at = o + (size_t)j * stride + d + 16 * i;
            __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(hi[j][i], 8), lo[j][i]);
            __m512 faded = _mm512_mul_ps(_mm512_loadu_ps(at), _mm512_set1_ps(fade[j]));
            _mm512_storeu_ps(
                at, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(w->step[j]), faded));
        }
    }
}

RADAR_TEMPLATE RADAR_AVX512 void values(float *o, size_t stride, const radar_kv_view *kv,
                                        int64_t segment, int D, float (*p)[16], const float *fade,
                                        const void *ahead, int Q) {
    const int8_t *v = (const int8_t *)kv->v + (size_t)segment * (size_t)(D * RADAR_SEGMENT);
    weights w;
    round_weights(&w, scales(kv->v_scale + (size_t)segment * RADAR_SEGMENT), p, Q);
    int d = 0, wide = Q == 4 ? 2 : 4; /* as many sums as there are registers */
    for (; d + 16 * wide <= D; d += 16 * wide)
        strip(o, stride, v, D, d, &w, fade, ahead, Q == 4 ? 2 : 4, Q);
    for (; d < D; d += 16) strip(o, stride, v, D, d, &w, fade, ahead, 1, Q);
}

/* ---- one compiled copy per number of queries, and for the usual head size ---- */

#define COPIES(Q) \
    RADAR_AVX512 static void logits_##Q(float(*s)[16], const radar_kv_view *kv, int64_t segment, \
                                        const radar_q8_query *x, const float *middle, \
                                        const void *ahead) { \
        if (kv->D == 64) \
            logits(s, kv, segment, 64, x, middle, ahead, Q); \
        else \
            logits(s, kv, segment, kv->D, x, middle, ahead, Q); \
    } \
    RADAR_AVX512 static void values_##Q(float *o, size_t stride, const radar_kv_view *kv, \
                                        int64_t segment, float(*p)[16], const float *fade, \
                                        const void *ahead) { \
        if (kv->D == 64) \
            values(o, stride, kv, segment, 64, p, fade, ahead, Q); \
        else \
            values(o, stride, kv, segment, kv->D, p, fade, ahead, Q); \
    }
COPIES(1)
COPIES(2)
COPIES(3)
COPIES(4)

radar_q8_logits_fn *const radar_q8_logits[RADAR_QUERY_BLOCK] = {logits_1, logits_2, logits_3,
                                                                logits_4};
radar_q8_values_fn *const radar_q8_values_of[RADAR_QUERY_BLOCK] = {values_1, values_2, values_3,
                                                                   values_4};
