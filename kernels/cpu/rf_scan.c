/* rf_scan - products of prepared queries with stored segments.  Sums run in 16 lanes f % 16, ascending, one fma each, folded by
 * the tree of lse.h. */
#include "kernels/cpu/lse.h"
#include "kernels/cpu/rf.h"

static float score_one(const radar_rf *x, const char *segment, const float *q, float mass) {
    const uint16_t *phi = (const uint16_t *)segment;
    float lane[16] = {0};
    for (int f = 0; f < x->Fp; f++)
        lane[f % 16] = fmaf(q[4 + f], radar_bf16_to_f32(phi[f]), lane[f % 16]);
    float score = (radar_logf1(radar_fold_sum1(lane)) + radar_rf_lambda(x, segment)) * x->cool +
                  (q[0] + mass);
    if (!x->center) return score;
    const uint16_t *mu = radar_rf_mu(x, segment);
    memset(lane, 0, sizeof lane);
    for (int d = 0; d < x->map.D; d++)
        lane[d % 16] = fmaf(q[4 + x->Fp + d], radar_f16_to_f32(mu[d]), lane[d % 16]);
    return score + radar_fold_sum1(lane);
}

static void score_plain(const radar_rf *x, const radar_score_task *t, const float *q,
                        size_t q_stride) {
    const char *segment = radar_kv_summaries(&t->kv, t->unit) + (size_t)t->segment_begin * x->bytes;
    float mass = radar_log_tokens(t->unit);
    for (int32_t i = 0; i < t->segment_end - t->segment_begin; i++, segment += x->bytes)
        for (int j = 0; j < t->n_query; j++)
            t->score[(size_t)j * t->score_stride + (size_t)i] =
                score_one(x, segment, q + (size_t)j * q_stride, mass);
}

/* Products of Q queries with `n` numbers, a multiple of 16 or masked at the end, of four segments: vector 4 j + i. */
RADAR_TEMPLATE RADAR_AVX512 void dot_four(__m512 *sum, radar_dtype type, const void *const *p,
                                          int n, const float *q, size_t q_stride, int Q) {
    for (int i = 0; i < 4 * Q; i++) sum[i] = _mm512_setzero_ps();
    for (int f = 0; f < n; f += 16) {
        __m512 k[4];
        for (int i = 0; i < 4; i++)
            k[i] = radar_segment_load_tail(type, p[i], (size_t)f, radar_tail_mask(n - f));
        for (int j = 0; j < Q; j++) {
            __m512 qj = _mm512_loadu_ps(q + (size_t)j * q_stride + f);
            for (int i = 0; i < 4; i++) sum[4 * j + i] = _mm512_fmadd_ps(qj, k[i], sum[4 * j + i]);
        }
    }
}

/* Four segments for up to four queries: lane 4 j + i. */
RADAR_TEMPLATE RADAR_AVX512 __m512 score_four(const radar_rf *x, const char *const *segment,
                                              const float *q, size_t q_stride, float mass, int Q) {
    __m512 sum[4 * RADAR_QUERY_BLOCK];
    const void *part[4];
    _Alignas(64) float head[16] = {0}, lambda[16] = {0};
    for (int i = 0; i < 4; i++) part[i] = segment[i];
    dot_four(sum, RADAR_BF16, part, x->Fp, q + 4, q_stride, Q);
    for (int i = 0; i < 4 * Q; i++) {
        head[i] = q[(size_t)(i / 4) * q_stride] + mass;
        lambda[i] = radar_rf_lambda(x, segment[i % 4]);
    }
    __m512 score = _mm512_add_ps(radar_logf16(radar_fold16(false, sum, Q)), _mm512_load_ps(lambda));
    score = _mm512_add_ps(_mm512_mul_ps(score, _mm512_set1_ps(x->cool)), _mm512_load_ps(head));
    if (!x->center) return score;
    for (int i = 0; i < 4; i++) part[i] = radar_rf_mu(x, segment[i]);
    dot_four(sum, RADAR_F16, part, x->map.D, q + 4 + x->Fp, q_stride, Q);
    return _mm512_add_ps(score, radar_fold16(false, sum, Q));
}

RADAR_AVX512 static void score_queries(float s[16], const radar_rf *x, const char *const *segment,
                                       const float *q, size_t q_stride, float mass, int Q) {
    switch (Q) {
    case 1:
        _mm512_store_ps(s, score_four(x, segment, q, q_stride, mass, 1));
        break;
    case 2:
        _mm512_store_ps(s, score_four(x, segment, q, q_stride, mass, 2));
        break;
    case 3:
        _mm512_store_ps(s, score_four(x, segment, q, q_stride, mass, 3));
        break;
    default:
        _mm512_store_ps(s, score_four(x, segment, q, q_stride, mass, 4));
    }
}

/* Four segments at a time; what is missing at the end is the last one again. */
RADAR_AVX512 static void score_avx512(const radar_rf *x, const radar_score_task *t, const float *q,
                                      size_t q_stride) {
    const char *first = radar_kv_summaries(&t->kv, t->unit) + (size_t)t->segment_begin * x->bytes;
    int32_t n = t->segment_end - t->segment_begin;
    float mass = radar_log_tokens(t->unit);
    for (int32_t k = 0; k < n; k += 4) {
        const char *segment[4];
        for (int i = 0; i < 4; i++)
            segment[i] = first + (size_t)(k + i < n ? k + i : n - 1) * x->bytes;
        for (int j = 0; j < t->n_query; j += RADAR_QUERY_BLOCK) {
            int Q = t->n_query - j < RADAR_QUERY_BLOCK ? t->n_query - j : RADAR_QUERY_BLOCK;
            _Alignas(64) float s[16];
            score_queries(s, x, segment, q + (size_t)j * q_stride, q_stride, mass, Q);
            for (int l = 0; l < Q; l++)
                for (int i = 0; i < 4 && k + i < n; i++)
                    t->score[(size_t)(j + l) * t->score_stride + (size_t)(k + i)] = s[4 * l + i];
        }
    }
}

void radar_rf_scan(const radar_rf *x, const radar_score_task *t, size_t query_bytes) {
    if (t->segment_end <= t->segment_begin) return;
    (x->map.avx512 ? score_avx512 : score_plain)(x, t, t->query, query_bytes / sizeof(float));
}
