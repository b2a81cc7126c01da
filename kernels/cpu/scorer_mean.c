/* mean - the mean key of each segment.  score = ln c + q . mean / sqrt D, c tokens of the segment
 * Block: f16 [4][D].  Prepared query: f32 [D rounded up to 16], zeros at the end.  2 D / 16 bytes a token.
 * Merging: (a + b) / 2 in f32, rounded to f16 again at every level.
 * The dot product runs in 16 lanes d % 16, ascending, one fma each; lanes are folded by the tree of lse.h. */
#include <math.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/cpu/lse.h"
#include "runtime/sys.h"

#define AHEAD 4096 /* bytes between reading and prefetching; beyond the summaries it does no harm */

typedef struct mean {
    bool avx512, avx2;
    float scale; /* 1 / sqrt D */
} mean;

static radar_status mean_open(radar_scorer *s, radar_error *err) {
    bool ok;
    radar_isa isa = radar_cpu_isa(s->opt.isa, &ok);
    if (!ok)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "instruction set '%s': not on this machine; use plain", s->opt.isa);
    mean *x = radar_alloc(sizeof *x);
    if (!x)
        return radar_fail(err, RADAR_ERR_MEMORY, "scorer 'mean': no memory for %zu bytes",
                          sizeof *x);
    *x = (mean){isa.avx512, isa.avx2, (float)(1 / sqrt(s->opt.D))};
    s->state = x;
    s->block_bytes = RADAR_BLOCK_SEGMENTS * (size_t)s->opt.D * 2;
    s->query_bytes = ((size_t)s->opt.D + 15) / 16 * 16 * sizeof(float);
    return RADAR_OK;
}

static void mean_close(radar_scorer *s) { radar_free(s->state); }

static void mean_seal(const radar_scorer *s, void *summary, const float *key) {
    int D = s->opt.D;
    uint16_t *out = summary;
    for (int i = 0; i < RADAR_BLOCK_SEGMENTS; i++, key += RADAR_SEGMENT * D, out += D) {
        float sum[RADAR_MAX_D] = {0};
        for (int j = 0; j < RADAR_SEGMENT; j++)
            for (int d = 0; d < D; d++) sum[d] += key[j * D + d];
        for (int d = 0; d < D; d++) out[d] = radar_f32_to_f16(sum[d] * (1.0f / RADAR_SEGMENT));
    }
}

static void mean_merge(const radar_scorer *s, void *out, const void *a, const void *b) {
    const uint16_t *x = a, *y = b;
    uint16_t *to = out;
    for (int d = 0; d < s->opt.D; d++)
        to[d] = radar_f32_to_f16((radar_f16_to_f32(x[d]) + radar_f16_to_f32(y[d])) * 0.5f);
}

static void mean_query(const radar_scorer *s, void *prepared, const float *q) {
    memset(prepared, 0, s->query_bytes);
    memcpy(prepared, q, (size_t)s->opt.D * sizeof *q);
}

static const uint16_t *mean_of(const radar_score_task *t, int32_t segment) {
    return (const uint16_t *)radar_kv_summaries(&t->kv, t->unit) +
           (size_t)segment * (size_t)t->kv.D;
}

static float dot_plain(const uint16_t *k, const float *q, int D) {
    float lane[16] = {0};
    for (int d = 0; d < D; d++) lane[d % 16] = fmaf(q[d], radar_f16_to_f32(k[d]), lane[d % 16]);
    return radar_fold_sum1(lane);
}

static void score_plain(const mean *x, const radar_score_task *t, const float *q, size_t q_stride) {
    float mass = radar_log_tokens(t->unit);
    for (int32_t i = t->segment_begin; i < t->segment_end; i++)
        for (int j = 0; j < t->n_query; j++)
            t->score[(size_t)j * t->score_stride + (size_t)(i - t->segment_begin)] =
                dot_plain(mean_of(t, i), q + (size_t)j * q_stride, t->kv.D) * x->scale + mass;
}

/* Q queries, n <= 4 segments from `first` on: a mean is converted once for all of them. */
RADAR_TEMPLATE RADAR_AVX512 void score_four(const mean *x, const radar_score_task *t,
                                            const float *q, size_t q_stride, int32_t first, int n,
                                            float *out, int Q) {
    __m512 sum[4 * RADAR_QUERY_BLOCK];
    const uint16_t *k = mean_of(t, first);
    const size_t D = (size_t)t->kv.D;
    for (size_t d = 0; d < 4 * D; d += 32) __builtin_prefetch((const char *)(k + d) + AHEAD, 0, 3);
    for (int i = 0; i < 4 * Q; i++) sum[i] = _mm512_setzero_ps();
    for (size_t d = 0; d < D; d += 16) {
        __mmask16 tail = radar_tail_mask((int)(D - d));
        for (int i = 0; i < 4; i++) {
            __m512 mu =
                radar_segment_load_tail(RADAR_F16, k, (i < n ? (size_t)i : 0) * D + d, tail);
            for (int j = 0; j < Q; j++)
                sum[4 * j + i] = _mm512_fmadd_ps(_mm512_loadu_ps(q + (size_t)j * q_stride + d), mu,
                                                 sum[4 * j + i]);
        }
    }
    __m512 dot = _mm512_mul_ps(radar_fold16(false, sum, Q), _mm512_set1_ps(x->scale));
    _Alignas(64) float score[16];
    _mm512_store_ps(score, _mm512_add_ps(dot, _mm512_set1_ps(radar_log_tokens(t->unit))));
    for (int j = 0; j < Q; j++) {
        float *to = out + (size_t)j * t->score_stride;
        if (n == 4)
            memcpy(to, score + 4 * j, 4 * sizeof *score);
        else
            memcpy(to, score + 4 * j, (size_t)n * sizeof *score);
    }
}

RADAR_TEMPLATE RADAR_AVX512 void score_queries(const mean *x, const radar_score_task *t,
                                               const float *q, size_t q_stride, float *out, int Q) {
    int32_t n = t->segment_end - t->segment_begin, i = 0;
    for (; i + 4 <= n; i += 4) score_four(x, t, q, q_stride, t->segment_begin + i, 4, out + i, Q);
    if (i < n) score_four(x, t, q, q_stride, t->segment_begin + i, n - i, out + i, Q);
}

RADAR_AVX512 static void score_avx512(const mean *x, const radar_score_task *t, const float *q,
                                      size_t q_stride) {
    for (int j = 0; j < t->n_query; j += RADAR_QUERY_BLOCK) {
        const float *qj = q + (size_t)j * q_stride;
        float *out = t->score + (size_t)j * t->score_stride;
        switch (t->n_query - j) {
        case 1:
            score_queries(x, t, qj, q_stride, out, 1);
            break;
        case 2:
            score_queries(x, t, qj, q_stride, out, 2);
            break;
        case 3:
            score_queries(x, t, qj, q_stride, out, 3);
            break;
        default:
            score_queries(x, t, qj, q_stride, out, 4);
        }
    }
}

/* ---- AVX2 ---- */

/* Adds 16 numbers of q times those of four means, as lse.h has four vectors of 16. */
RADAR_TEMPLATE RADAR_AVX2 void add_16(__m256 sum[8], const uint16_t *const k[4], const float *q) {
    for (int h = 0; h < 2; h++) {
        __m256 part = _mm256_loadu_ps(q + 8 * h);
        for (int i = 0; i < 4; i++) {
            __m256 mu = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(k[i] + 8 * h)));
            sum[4 * h + i] = _mm256_fmadd_ps(part, mu, sum[4 * h + i]);
        }
    }
}

/* q . mean of four segments. */
RADAR_TEMPLATE RADAR_AVX2 __m128 dots_avx2(const uint16_t *const mean_at[4], const float *q,
                                           int D) {
    uint16_t last[4][16] = {{0}};
    const uint16_t *k[4];
    __m256 sum[8];
    int d = 0;
    for (int i = 0; i < 8; i++) sum[i] = _mm256_setzero_ps();
    for (; d + 16 <= D; d += 16) {
        for (int i = 0; i < 4; i++) k[i] = mean_at[i] + d;
        add_16(sum, k, q + d);
    }
    if (d == D) return radar_fold16_avx2(false, sum);
    for (int i = 0; i < 4; i++) {
        memcpy(last[i], mean_at[i] + d, (size_t)(D - d) * sizeof **last);
        k[i] = last[i];
    }
    add_16(sum, k, q + d);
    return radar_fold16_avx2(false, sum);
}

RADAR_AVX2 static void score_avx2(const mean *x, const radar_score_task *t, const float *q,
                                  size_t q_stride) {
    const __m128 scale = _mm_set1_ps(x->scale), mass = _mm_set1_ps(radar_log_tokens(t->unit));
    const int32_t all = t->segment_end - t->segment_begin;
    for (int32_t i = 0; i < all; i += 4) {
        const int32_t n = all - i < 4 ? all - i : 4;
        const uint16_t *k[4];
        for (int s = 0; s < 4; s++) k[s] = mean_of(t, t->segment_begin + i + (s < n ? s : 0));
        for (int j = 0; j < t->n_query; j++) {
            float score[4];
            __m128 dot = dots_avx2(k, q + (size_t)j * q_stride, t->kv.D);
            _mm_storeu_ps(score, _mm_add_ps(_mm_mul_ps(dot, scale), mass));
            memcpy(t->score + (size_t)j * t->score_stride + (size_t)i, score,
                   (size_t)n * sizeof *score);
        }
    }
}

static void mean_score(const radar_scorer *s, const radar_score_task *t) {
    const mean *x = s->state;
    (x->avx512 ? score_avx512
     : x->avx2 ? score_avx2
               : score_plain)(x, t, t->query, s->query_bytes / sizeof(float));
}

const radar_scorer_kind radar_scorer_mean = {
    .name = "mean",
    .open = mean_open,
    .close = mean_close,
    .seal = mean_seal,
    .merge = mean_merge,
    .query = mean_query,
    .score = mean_score,
};
