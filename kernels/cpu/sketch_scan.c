/* Scoring: one pass over the codes, which the queries of a task share. */
#include "kernels/cpu/sketch.h"

#include <string.h>

#include "kernels/cpu/lse.h"

#define LANES RADAR_SEGMENT

typedef struct block_view {
    const uint32_t *code;
    const uint8_t *step;
    const int8_t *mu;
    float mu_scale, step_scale;
} block_view;

typedef struct query_view {
    float factor, centre;
    const int8_t *hq;
    const float *q;
} query_view;

RADAR_TEMPLATE block_view view_block(const radar_sketch *x, const radar_score_task *t,
                                     int32_t block, int bits) {
    const char *p = (const char *)t->kv.summary + (size_t)block * t->kv.block_bytes;
    block_view b = {.code = (const uint32_t *)p, .step = (const uint8_t *)p + 8 * bits * x->Dp};
    b.mu = (const int8_t *)b.step + RADAR_BLOCK;
    memcpy(&b.mu_scale, b.mu + x->Dp, sizeof b.mu_scale);
    memcpy(&b.step_scale, b.mu + x->Dp + 4, sizeof b.step_scale);
    return b;
}

RADAR_TEMPLATE query_view view_query(const radar_sketch *x, const char *prepared) {
    query_view q = {.hq = (const int8_t *)prepared + 16,
                    .q = (const float *)(prepared + 16 + x->Dp)};
    memcpy(&q.factor, prepared, sizeof q.factor);
    memcpy(&q.centre, prepared + 4, sizeof q.centre);
    return q;
}

RADAR_TEMPLATE int32_t dot_codes(const uint32_t *code, const int8_t *hq, int Dp, int token,
                                 int bits) {
    const int dims = 32 / bits, mask = (1 << bits) - 1;
    int32_t sum = 0;
    for (int d = 0; d < Dp; d++) {
        uint32_t word = code[d / dims * LANES + token] >> (8 * (d % 4) + bits * (d % dims / 4));
        sum += (int32_t)(word & (uint32_t)mask) * hq[d];
    }
    return sum;
}

RADAR_TEMPLATE float segment_plain(const radar_sketch *x, const block_view *b, const query_view *q,
                                   int segment, float base, int bits) {
    const uint32_t *code = b->code + segment * (x->Dp * bits / 2);
    const uint8_t *step = b->step + segment * LANES;
    float logit[LANES], gain = q->factor * b->step_scale;
    for (int i = 0; i < LANES; i++) {
        float dot = (float)dot_codes(code, q->hq, x->Dp, i, bits) - q->centre;
        logit[i] = fmaf(dot * x->step[step[i]], gain, base);
    }
    return radar_lse1(logit);
}

RADAR_TEMPLATE void score_plain_bits(const radar_sketch *x, const radar_score_task *t,
                                     size_t query_bytes, int bits) {
    for (int32_t i = t->segment_begin; i < t->segment_end; i++) {
        block_view b = view_block(x, t, i / RADAR_BLOCK_SEGMENTS, bits);
        for (int j = 0; j < t->n_query; j++) {
            query_view q = view_query(x, (const char *)t->query + (size_t)j * query_bytes);
            float lane[16] = {0};
            for (int d = 0; d < x->Dp; d++)
                lane[d % 16] = fmaf(q.q[d], (float)b.mu[d], lane[d % 16]);
            t->score[(size_t)j * t->score_stride + (size_t)(i - t->segment_begin)] = segment_plain(
                x, &b, &q, i % RADAR_BLOCK_SEGMENTS, radar_fold_sum1(lane) * b.mu_scale, bits);
        }
    }
}

static void score_plain(const radar_sketch *x, const radar_score_task *t, size_t query_bytes) {
    switch (x->bits) {
    case 1:
        score_plain_bits(x, t, query_bytes, 1);
        break;
    case 2:
        score_plain_bits(x, t, query_bytes, 2);
        break;
    default:
        score_plain_bits(x, t, query_bytes, 4);
    }
}

/* Steps of 16 tokens in units of the largest: 2^(low 4 bits / 16) from a register, the rest goes to the exponent. */
RADAR_TEMPLATE RADAR_AVX512 __m512 steps_of(const uint8_t *code, __m512 table) {
    __m128i c8 = _mm_loadu_si128((const __m128i *)code);
    __m512i c = _mm512_add_epi32(_mm512_cvtepu8_epi32(c8), _mm512_set1_epi32(1));
    __m512i power =
        _mm512_slli_epi32(_mm512_sub_epi32(_mm512_srli_epi32(c, 4), _mm512_set1_epi32(16)), 23);
    __m512i bits = _mm512_add_epi32(_mm512_castps_si512(_mm512_permutexvar_ps(c, table)), power);
    return _mm512_castsi512_ps(_mm512_maskz_mov_epi32(_mm_test_epi8_mask(c8, c8), bits));
}

/* (q . mu) / sqrt D of Q queries. */
RADAR_TEMPLATE RADAR_AVX512 void bases(float *out, const radar_sketch *x, const block_view *b,
                                       const query_view *q, int Q) {
    __m512 sum[4];
    for (int j = 0; j < 4; j++) sum[j] = _mm512_setzero_ps();
    for (int d = 0; d < x->Dp; d += 16) {
        __m512 mu =
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(b->mu + d))));
        for (int j = 0; j < Q; j++)
            sum[j] = _mm512_fmadd_ps(_mm512_loadu_ps(q[j].q + d), mu, sum[j]);
    }
    __m512 r = radar_fold4(false, sum);
    __m128 lo = _mm_add_ps(_mm512_castps512_ps128(r), _mm512_extractf32x4_ps(r, 2));
    __m128 hi = _mm_add_ps(_mm512_extractf32x4_ps(r, 1), _mm512_extractf32x4_ps(r, 3));
    _mm_storeu_ps(out, _mm_mul_ps(_mm_add_ps(lo, hi), _mm_set1_ps(b->mu_scale)));
}

/* sum code hq of the block's 64 tokens: 16 lanes, segment i of query j in out[4 j + i]. */
RADAR_TEMPLATE RADAR_AVX512 void dot_block(__m512i *out, const radar_sketch *x, const block_view *b,
                                           const query_view *q, int Q, int bits) {
    const int dims = 32 / bits, words = x->Dp / dims; /* dimensions of a dword, dwords of a token */
    const __m512i mask = _mm512_set1_epi8((char)((1 << bits) - 1));
    for (int i = 0; i < 4 * Q; i++) out[i] = _mm512_setzero_si512();
    for (int z = 0; z < words; z++) {
        __m512i word[4];
        for (int i = 0; i < 4; i++) word[i] = _mm512_loadu_si512(b->code + (i * words + z) * LANES);
        for (int s = 0; s < dims / 4; s++) {
            __m512i hq[RADAR_QUERY_BLOCK];
            for (int j = 0; j < Q; j++) {
                int32_t four;
                memcpy(&four, q[j].hq + dims * z + 4 * s, sizeof four);
                hq[j] = _mm512_set1_epi32(four);
            }
            for (int i = 0; i < 4; i++) {
                __m512i code =
                    _mm512_and_si512(_mm512_srli_epi32(word[i], (unsigned)(bits * s)), mask);
                for (int j = 0; j < Q; j++)
                    out[4 * j + i] = _mm512_dpbusd_epi32(out[4 * j + i], code, hq[j]);
            }
        }
    }
}

/* Scores of the block's four segments for Q queries: lane 4 j + i. */
RADAR_TEMPLATE RADAR_AVX512 __m512 score_block(const radar_sketch *x, const block_view *b,
                                               const query_view *q, __m512 table, int Q, int bits) {
    __m512i dot[4 * RADAR_QUERY_BLOCK];
    __m512 logit[4 * RADAR_QUERY_BLOCK];
    float base[4];
    bases(base, x, b, q, Q);
    dot_block(dot, x, b, q, Q, bits);
    for (int i = 0; i < 4; i++) {
        __m512 step = steps_of(b->step + i * LANES, table);
        for (int j = 0; j < Q; j++) {
            __m512 centred =
                _mm512_sub_ps(_mm512_cvtepi32_ps(dot[4 * j + i]), _mm512_set1_ps(q[j].centre));
            logit[4 * j + i] = _mm512_fmadd_ps(_mm512_mul_ps(centred, step),
                                               _mm512_set1_ps(q[j].factor * b->step_scale),
                                               _mm512_set1_ps(base[j]));
        }
    }
    return radar_lse16(logit, Q);
}

RADAR_TEMPLATE void prefetch_block(const char *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 3);
}

/* Q queries over the task's segments. */
RADAR_TEMPLATE RADAR_AVX512 void score_queries(const radar_sketch *x, const radar_score_task *t,
                                               const char *prepared, size_t query_bytes,
                                               float *score, int Q, int bits) {
    query_view q[RADAR_QUERY_BLOCK];
    __m512 table = _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_loadu_si512(x->step + 239), _mm512_set1_epi32(1 << 23)));
    for (int j = 0; j < Q; j++) q[j] = view_query(x, prepared + (size_t)j * query_bytes);
    int32_t last = (t->segment_end - 1) / RADAR_BLOCK_SEGMENTS;
    for (int32_t k = t->segment_begin / RADAR_BLOCK_SEGMENTS; k <= last; k++) {
        block_view b = view_block(x, t, k, bits);
        if (k + 4 <= last)
            prefetch_block((const char *)b.code + 4 * t->kv.block_bytes, t->kv.block_bytes);
        _Alignas(64) float lse[16];
        _mm512_store_ps(lse, score_block(x, &b, q, table, Q, bits));
        int32_t first = k * RADAR_BLOCK_SEGMENTS - t->segment_begin,
                n = t->segment_end - t->segment_begin;
        for (int i = 0; i < RADAR_BLOCK_SEGMENTS; i++) {
            if (first + i < 0 || first + i >= n) continue;
            for (int j = 0; j < Q; j++)
                score[(ptrdiff_t)((size_t)j * t->score_stride) + first + i] = lse[4 * j + i];
        }
    }
}

RADAR_TEMPLATE RADAR_AVX512 void score_bits(const radar_sketch *x, const radar_score_task *t,
                                            size_t query_bytes, int bits) {
    for (int j = 0; j < t->n_query; j += RADAR_QUERY_BLOCK) {
        const char *prepared = (const char *)t->query + (size_t)j * query_bytes;
        float *score = t->score + (size_t)j * t->score_stride;
        switch (t->n_query - j) {
        case 1:
            score_queries(x, t, prepared, query_bytes, score, 1, bits);
            break;
        case 2:
            score_queries(x, t, prepared, query_bytes, score, 2, bits);
            break;
        case 3:
            score_queries(x, t, prepared, query_bytes, score, 3, bits);
            break;
        default:
            score_queries(x, t, prepared, query_bytes, score, 4, bits);
        }
    }
}

RADAR_AVX512 static void score_avx512(const radar_sketch *x, const radar_score_task *t,
                                      size_t query_bytes) {
    switch (x->bits) {
    case 1:
        score_bits(x, t, query_bytes, 1);
        break;
    case 2:
        score_bits(x, t, query_bytes, 2);
        break;
    default:
        score_bits(x, t, query_bytes, 4);
    }
}

void radar_sketch_scan(const radar_sketch *x, const radar_score_task *t, size_t query_bytes) {
    if (t->segment_end <= t->segment_begin) return;
    (x->avx512 ? score_avx512 : score_plain)(x, t, query_bytes);
}
