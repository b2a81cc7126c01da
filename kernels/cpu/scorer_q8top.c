/* q8top - a q8 cache as its own sketch: the two upper bits of each code of the packed keys (kv.h), nothing stored beside them.
 *   zhat_i = STEP 64 k_scale_i level(c),  level(c) = floor(c / 64) + 1/2: -1.5, -.5, .5, 1.5
 *   logit_i = (q . mu + (H q) . zhat_i) / sqrt D,  H q in int8 with one scale;   score = log-sum-exp of the segment's 16
 * A scale follows the largest coordinate of a key, so a step of 64 codes is half of that: 1.3 deviations where D = 64, coarser than the
 * step that sketch.h seeks for each key.  Sealed blocks are packed, whatever part of them a query reads as f16.
 * Prepared query: f32 gain (64 STEP times the scale of hq / (sqrt D ln 2)), f32 1.5 sum of hq, f32 reach (gain 1.5 sum |hq|), 4 bytes
 *                 0, i8 hq[D], f32 q[D] / sqrt D.
 * Order: code . hq is an exact integer, code = level + 1.5; q . mu runs in 16 lanes d % 16, ascending, one fma each, folded as in
 * lse.h; y_i = (code . hq - 1.5 sum hq) k_scale_i gain;   score = q . mu + mass of y (mass.h), far where reach times the largest
 * k_scale of the segment is above RADAR_MASS_REACH, or no number.
 * Cost: D + 2 bytes a token, as much as its keys cost to attend to.  An instrument: planes that lie apart would be read alone.
 * Measured (D = 64, 8,192 tokens of three texts, the last 512 scored, q8 cache): beside the sketch, .0028 +- .0023 nats a token less
 * with 352 tokens a query head, .0034 +- .0028 less with 176; 11 of 30 hidden facts right under both, and under dense.  It finds .852
 * of the best segments, the sketch .871: what it misses is worth little. */
#include <math.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/cpu/mass.h"
#include "kernels/cpu/q8.h"
#include "runtime/sys.h"

#define LANES RADAR_SEGMENT
#define HEAD 16 /* bytes of a prepared query before hq */

/* Of least squares, for real keys of 64 numbers as for normal ones; of 128 it is .86, of 256 .84. */
#define STEP 0.89f

typedef struct q8top {
    bool avx512;
    int D;
    radar_rotation rotation; /* H */
    float scale;             /* 1 / sqrt D */
} q8top;

/* A prepared query in its parts. */
typedef struct query {
    float gain, centre, reach;
    const int8_t *hq;
    const float *q;
} query;

static radar_status q8top_open(radar_scorer *s, radar_error *err) {
    bool ok;
    radar_isa isa = radar_cpu_isa(s->opt.isa, &ok);
    if (!ok)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "instruction set '%s': not on this machine; use plain", s->opt.isa);
    if (s->opt.D % 16)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "scorer 'q8top': head size %d; a q8 cache has multiples of 16", s->opt.D);
    q8top *x = radar_alloc(sizeof *x);
    if (!x)
        return radar_fail(err, RADAR_ERR_MEMORY, "scorer 'q8top': no memory for %zu bytes",
                          sizeof *x);
    *x = (q8top){.avx512 = isa.avx512, .D = s->opt.D, .scale = (float)(1 / sqrt(s->opt.D))};
    radar_rotation_of_q8(&x->rotation, x->D);
    s->state = x;
    s->block_bytes = 0;
    s->query_bytes = HEAD + 5 * (size_t)x->D;
    return RADAR_OK;
}

static void q8top_close(radar_scorer *s) { radar_free(s->state); }

static void q8top_seal(const radar_scorer *s, void *summary, const float *key) {
    (void)s, (void)summary, (void)key;
}

/* ---- queries ---- */

static void q8top_query(const radar_scorer *s, void *prepared, const float *q) {
    const q8top *x = s->state;
    float h[RADAR_MAX_D], head[HEAD / 4] = {0};
    int8_t *hq = (int8_t *)prepared + HEAD;
    float *scaled = (float *)(hq + x->D);
    int sum = 0, size = 0;
    memcpy(h, q, (size_t)x->D * sizeof *q);
    radar_rotate(&x->rotation, h, 1);
    head[0] = radar_round_to_int8(hq, h, x->D, 127) * x->scale * RADAR_MASS_LOG2E * (64 * STEP);
    for (int d = 0; d < x->D; d++) {
        sum += hq[d];
        size += hq[d] < 0 ? -hq[d] : hq[d];
        scaled[d] = q[d] * x->scale;
    }
    head[1] = 1.5f * (float)sum;
    head[2] = head[0] * (1.5f * (float)size);
    memcpy(prepared, head, sizeof head);
}

RADAR_TEMPLATE query query_at(const q8top *x, const radar_score_task *t, int j) {
    const char *p = (const char *)t->query + (size_t)j * (HEAD + 5 * (size_t)x->D);
    float head[3];
    memcpy(head, p, sizeof head);
    return (query){.gain = head[0],
                   .centre = head[1],
                   .reach = head[2],
                   .hq = (const int8_t *)p + HEAD,
                   .q = (const float *)(p + HEAD + x->D)};
}

/* ---- scanning: plain C ---- */

/* A packed segment in its parts. */
typedef struct segment {
    const int8_t *k, *mu;
    const uint16_t *scale;
    float mu_scale;
} segment;

RADAR_TEMPLATE segment segment_at(const radar_kv_view *kv, int64_t unit) {
    segment s = {.k = (const int8_t *)kv->k + (size_t)unit * radar_segment_bytes(RADAR_Q8, kv->D),
                 .mu = (const int8_t *)radar_q8_centre(kv, unit),
                 .scale = kv->k_scale + (size_t)unit * LANES};
    memcpy(&s.mu_scale, s.mu + kv->D, sizeof s.mu_scale);
    return s;
}

static float segment_score(const q8top *x, const segment *s, const query *q) {
    float y[LANES], scale[LANES], lane[16] = {0};
    for (int d = 0; d < x->D; d++) lane[d % 16] = fmaf(q->q[d], (float)s->mu[d], lane[d % 16]);
    for (int i = 0; i < LANES; i++) {
        int32_t dot = 0;
        for (int d = 0; d < x->D; d++)
            dot += ((s->k[(d / 4 * LANES + i) * 4 + d % 4] + 128) >> 6) * q->hq[d];
        scale[i] = radar_f16_to_f32(s->scale[i]);
        y[i] = ((float)dot - q->centre) * scale[i] * q->gain;
    }
    bool far = !(q->reach * radar_fold_max1(scale) <= RADAR_MASS_REACH);
    return radar_fold_sum1(lane) * s->mu_scale + radar_mass1(y, far, false);
}

static void scan_plain(const q8top *x, const radar_score_task *t) {
    for (int32_t i = 0; i < radar_score_count(t); i++) {
        const int32_t unit = radar_score_unit(t, i);
        segment s = segment_at(&t->kv, unit);
        for (int j = 0; j < t->n_query; j++) {
            query q = query_at(x, t, j);
            *radar_score_of(t, j, unit) = segment_score(x, &s, &q);
        }
    }
}

/* ---- AVX-512: four segments at a time, up to four queries share one read ---- */

/* (q . mu) / sqrt D of Q queries and four segments: lane 4 j + i. */
RADAR_TEMPLATE RADAR_AVX512 __m512 bases(const q8top *x, const segment s[4], const query *q,
                                         int Q) {
    __m512 sum[4 * RADAR_QUERY_BLOCK];
    for (int i = 0; i < 4 * Q; i++) sum[i] = _mm512_setzero_ps();
    for (int d = 0; d < x->D; d += 16) {
        for (int i = 0; i < 4; i++) {
            __m512 mu = _mm512_cvtepi32_ps(
                _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(s[i].mu + d))));
            for (int j = 0; j < Q; j++)
                sum[4 * j + i] = _mm512_fmadd_ps(_mm512_loadu_ps(q[j].q + d), mu, sum[4 * j + i]);
        }
    }
    __m128 scale = _mm_setr_ps(s[0].mu_scale, s[1].mu_scale, s[2].mu_scale, s[3].mu_scale);
    return _mm512_mul_ps(radar_fold16(false, sum, Q), _mm512_broadcast_f32x4(scale));
}

/* code . hq of the 16 tokens of one segment and Q queries. */
RADAR_TEMPLATE RADAR_AVX512 void dots(__m512i dot[RADAR_QUERY_BLOCK], const int8_t *k,
                                      const query *q, int D, int Q) {
    for (int j = 0; j < Q; j++) dot[j] = _mm512_setzero_si512();
    for (int d = 0; d < D; d += 4, k += 64) {
        __m512i above = _mm512_xor_si512(_mm512_loadu_si512(k), _mm512_set1_epi8((char)0x80)),
                code = _mm512_and_si512(_mm512_srli_epi32(above, 6), _mm512_set1_epi8(3));
        for (int j = 0; j < Q; j++) {
            int32_t four;
            memcpy(&four, q[j].hq + d, sizeof four);
            dot[j] = _mm512_dpbusd_epi32(dot[j], code, _mm512_set1_epi32(four));
        }
    }
}

/* Scores of four segments and Q queries: lane 4 j + i. */
RADAR_TEMPLATE RADAR_AVX512 __m512 score_four(const q8top *x, const segment s[4], const query *q,
                                              int Q) {
    __m512 y[4 * RADAR_QUERY_BLOCK];
    __m512i dot[RADAR_QUERY_BLOCK];
    __mmask16 far = 0;
    for (int i = 0; i < 4; i++) {
        __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)s[i].scale));
        float most = _mm512_reduce_max_ps(scale); /* finite: in any order */
        dots(dot, s[i].k, q, x->D, Q);
        for (int j = 0; j < Q; j++) {
            __m512 centred = _mm512_sub_ps(_mm512_cvtepi32_ps(dot[j]), _mm512_set1_ps(q[j].centre));
            y[4 * j + i] = _mm512_mul_ps(_mm512_mul_ps(centred, scale), _mm512_set1_ps(q[j].gain));
            if (!(q[j].reach * most <= RADAR_MASS_REACH)) far |= (__mmask16)(1u << (4 * j + i));
        }
    }
    return _mm512_add_ps(bases(x, s, q, Q), radar_mass16(y, far, false, Q));
}

/* Queries j .. j + Q - 1 over the task's segments. */
RADAR_TEMPLATE RADAR_AVX512 void scan_queries(const q8top *x, const radar_score_task *t, int j,
                                              int Q) {
    const int32_t n = radar_score_count(t);
    _Alignas(64) float lane[16];
    query q[RADAR_QUERY_BLOCK];
    segment s[4];
    for (int i = 0; i < Q; i++) q[i] = query_at(x, t, j + i);
    for (int32_t k = 0; k < n; k += 4) {
        for (int i = 0; i < 4; i++)
            s[i] = segment_at(&t->kv, radar_score_unit(t, k + i < n ? k + i : n - 1));
        _mm512_store_ps(lane, score_four(x, s, q, Q));
        for (int a = 0; a < Q; a++)
            for (int i = 0; i < 4 && k + i < n; i++)
                *radar_score_of(t, j + a, radar_score_unit(t, k + i)) = lane[4 * a + i];
    }
}

RADAR_AVX512 static void scan_avx512(const q8top *x, const radar_score_task *t) {
    for (int j = 0; j < t->n_query; j += RADAR_QUERY_BLOCK) {
        switch (t->n_query - j) {
        case 1:
            scan_queries(x, t, j, 1);
            break;
        case 2:
            scan_queries(x, t, j, 2);
            break;
        case 3:
            scan_queries(x, t, j, 3);
            break;
        default:
            scan_queries(x, t, j, 4);
        }
    }
}

static void q8top_score(const radar_scorer *s, const radar_score_task *t) {
    const q8top *x = s->state;
    (x->avx512 ? scan_avx512 : scan_plain)(x, t);
}

const radar_scorer_kind radar_scorer_q8top = {
    .name = "q8top",
    .reads_packed = true,
    .open = q8top_open,
    .close = q8top_close,
    .seal = q8top_seal,
    .query = q8top_query,
    .score = q8top_score,
};
