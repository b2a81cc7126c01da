/* Scoring with AVX2: four segments at a time, of which up to four queries share one reading of the codes. */
#include "kernels/cpu/sketch.h"

#include <string.h>

#define LANES RADAR_SEGMENT

/* Four units that are scored at once. */
typedef struct batch {
    radar_sketch_block block[4];
    int segment[4]; /* of the block */
} batch;

/* (q . mu) / sqrt D of one query and four blocks; same: they are one. */
RADAR_TEMPLATE RADAR_AVX2 __m128 bases(const radar_sketch *x, const radar_sketch_block b[4],
                                       const float *q, bool same) {
    __m256 sum[8];
    for (int i = 0; i < 8; i++) sum[i] = _mm256_setzero_ps();
    for (int i = 0; i < (same ? 1 : 4); i++) {
        for (int d = 0; d < x->Dp; d += 16) {
            for (int half = 0; half < 2; half++) {
                const __m128i *mu = (const __m128i *)(b[i].mu + d + 8 * half);
                sum[4 * half + i] =
                    _mm256_fmadd_ps(_mm256_loadu_ps(q + d + 8 * half),
                                    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(mu))),
                                    sum[4 * half + i]);
            }
        }
    }
    for (int i = 1; same && i < 4; i++) sum[i] = sum[0], sum[4 + i] = sum[4];
    return _mm_mul_ps(radar_fold16_avx2(false, sum),
                      _mm_setr_ps(b[0].mu_scale, b[1].mu_scale, b[2].mu_scale, b[3].mu_scale));
}

RADAR_TEMPLATE RADAR_AVX2 __m256i load8(const uint32_t *code) {
    return _mm256_loadu_si256((const __m256i *)code);
}

/* Adds, of 8 tokens, n groups of four dimensions, d + 4 k step + ..., whose codes stand `bits` apart in word; sums of 16 bits,
 * which hold a dword's: at most 8 groups of 2 bits, or 2 of 4, times 2 * 127. */
RADAR_TEMPLATE RADAR_AVX2 void add_codes(__m256i *sum, __m256i word, const radar_sketch_query *q,
                                         int d, int n, int step, int bits, int Q) {
    const __m256i mask = _mm256_set1_epi8((char)((1 << bits) - 1));
    for (int k = 0; k < n; k++) {
        __m256i code = _mm256_and_si256(_mm256_srli_epi32(word, bits * k), mask);
        for (int j = 0; j < Q; j++) {
            int32_t four;
            memcpy(&four, q[j].hq + d + 4 * step * k, sizeof four);
            sum[j] = _mm256_add_epi16(sum[j], _mm256_maddubs_epi16(code, _mm256_set1_epi32(four)));
        }
    }
}

/* One dword of each plane: the bits of even groups of four dimensions meet in one word of 2-bit codes, those of odd ones in
 * another. */
RADAR_TEMPLATE RADAR_AVX2 void add_planes(__m256i *sum, __m256i high, __m256i low,
                                          const radar_sketch_query *q, int d, int n, int Q) {
    const __m256i upper = _mm256_set1_epi8((char)0xaa);
    __m256i even = _mm256_or_si256(_mm256_and_si256(upper, _mm256_slli_epi32(high, 1)),
                                   _mm256_andnot_si256(upper, low)),
            odd = _mm256_or_si256(_mm256_and_si256(upper, high),
                                  _mm256_andnot_si256(upper, _mm256_srli_epi32(low, 1)));
    add_codes(sum, even, q, d, n, 2, 2, Q);
    add_codes(sum, odd, q, d + 4, n, 2, 2, Q);
}

/* sum code hq of Q queries and 8 tokens, whose dwords begin at code and at low. */
RADAR_TEMPLATE RADAR_AVX2 void dot_tokens(__m256i *dot, const radar_sketch *x, const uint32_t *code,
                                          const uint32_t *low, const radar_sketch_query *q, int Q,
                                          int bits) {
    const __m256i ones = _mm256_set1_epi16(1);
    for (int j = 0; j < Q; j++) dot[j] = _mm256_setzero_si256();
    for (int z = 0; z < x->words; z++) {
        __m256i sum[RADAR_QUERY_BLOCK], word = load8(code + z * LANES);
        for (int j = 0; j < Q; j++) sum[j] = _mm256_setzero_si256();
        if (bits != 2)
            add_codes(sum, word, q, 32 / bits * z, 8 / bits, 1, bits, Q);
        else if (z < x->low_words)
            add_planes(sum, word, load8(low + z * LANES), q, 32 * z, 4, Q);
        else
            add_planes(sum, word, _mm256_srli_epi32(word, 4), q, 32 * z, 2, Q);
        for (int j = 0; j < Q; j++)
            dot[j] = _mm256_add_epi32(dot[j], _mm256_madd_epi16(sum[j], ones));
    }
}

/* y of mass.h of 8 tokens of block b, from number `token` on: y[j][at]. */
RADAR_TEMPLATE RADAR_AVX2 void logits(__m256 (*y)[8], int at, const radar_sketch *x,
                                      const radar_sketch_block *b, int token,
                                      const radar_sketch_query *q, int Q, int bits) {
    __m256i dot[RADAR_QUERY_BLOCK];
    int segment = token / LANES, lane = token % LANES;
    dot_tokens(dot, x, b->code + segment * x->words * LANES + lane,
               b->low + segment * x->low_words * LANES + lane, q, Q, bits);
    __m256i step = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(b->step + token)));
    __m256 steps =
        _mm256_mul_ps(_mm256_i32gather_ps(x->step, step, 4), _mm256_set1_ps(0.5f * b->step_scale));
    for (int j = 0; j < Q; j++) {
        __m256 centred = _mm256_cvtepi32_ps(
            _mm256_sub_epi32(_mm256_slli_epi32(dot[j], 1), _mm256_set1_epi32(q[j].twice_centre)));
        y[j][at] = _mm256_mul_ps(_mm256_mul_ps(centred, steps), _mm256_set1_ps(q[j].gain));
    }
}

/* Scores of the batch for Q queries: four each. */
RADAR_TEMPLATE RADAR_AVX2 void score_batch(float (*out)[4], const radar_sketch *x, const batch *s,
                                           const radar_sketch_query *q, int Q, int bits) {
    __m256 y[RADAR_QUERY_BLOCK][8];
    bool same = true;
    for (int i = 1; i < 4; i++) same = same && s->block[i].code == s->block[0].code;
    for (int i = 0; i < 4; i++)
        for (int half = 0; half < 2; half++)
            logits(y, 4 * half + i, x, &s->block[i], LANES * s->segment[i] + 8 * half, q, Q, bits);
    for (int j = 0; j < Q; j++) {
        int far = 0;
        for (int i = 0; i < 4; i++)
            far |= !(q[j].reach * s->block[i].step_scale <= RADAR_MASS_REACH) << i;
        _mm_storeu_ps(out[j], _mm_add_ps(bases(x, s->block, q[j].q, same),
                                         radar_mass4_avx2(y[j], far, bits < x->bits)));
    }
}

/* Queries j .. j + Q - 1 over the task's units; a batch of a range lies in one block. */
RADAR_TEMPLATE RADAR_AVX2 void score_queries(const radar_sketch *x, const radar_score_task *t,
                                             size_t query_bytes, int j, int Q, int bits) {
    const int32_t all = radar_score_count(t);
    radar_sketch_query q[RADAR_QUERY_BLOCK];
    float score[RADAR_QUERY_BLOCK][4];
    for (int i = 0; i < Q; i++)
        q[i] =
            radar_sketch_query_of(x, (const char *)t->query + (size_t)(j + i) * query_bytes, bits);
    for (int32_t k = 0, n; k < all; k += n) {
        batch s;
        n = t->list ? 4 : 4 - radar_score_unit(t, k) % RADAR_BLOCK_SEGMENTS;
        n = n < all - k ? n : all - k;
        for (int i = 0; i < 4; i++) {
            int32_t unit = radar_score_unit(t, k + (i < n ? i : n - 1));
            s.block[i] = radar_sketch_block_at(x, &t->kv, unit / RADAR_BLOCK_SEGMENTS);
            s.segment[i] = unit % RADAR_BLOCK_SEGMENTS;
        }
        score_batch(score, x, &s, q, Q, bits);
        for (int i = 0; i < Q; i++)
            for (int32_t at = 0; at < n; at++)
                *radar_score_of(t, j + i, radar_score_unit(t, k + at)) = score[i][at];
    }
}

RADAR_TEMPLATE RADAR_AVX2 void score_bits(const radar_sketch *x, const radar_score_task *t,
                                          size_t query_bytes, int bits) {
    for (int j = 0; j < t->n_query; j += RADAR_QUERY_BLOCK) {
        switch (t->n_query - j) {
        case 1:
            score_queries(x, t, query_bytes, j, 1, bits);
            break;
        case 2:
            score_queries(x, t, query_bytes, j, 2, bits);
            break;
        case 3:
            score_queries(x, t, query_bytes, j, 3, bits);
            break;
        default:
            score_queries(x, t, query_bytes, j, 4, bits);
        }
    }
}

RADAR_AVX2 void radar_sketch_scan_avx2(const radar_sketch *x, const radar_score_task *t,
                                       size_t query_bytes) {
    switch (t->coarse ? 1 : x->bits) {
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
