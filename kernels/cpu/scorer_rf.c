/* rf - the mean random feature of each segment (rf.h), with a log scale of its own, so that nothing over- or underflows.
 *   phi(u) = F^(-1/2) exp(a - l(u)) e^l(u),  F features;  segment: lambda = max over its keys and features of a
 *   score = ln c + q . mu / sqrt D + (lambda_j + lambda_q + ln(phi~(q) . phi~_j)) / b,  c tokens of the segment
 * Centred (rf_center): features of k - mu, mu the mean of the block's 64 keys rounded to f16: q . k = q . mu + q . (k - mu), so
 * mu's part is exact and the features carry a shorter vector.  Without: mu = 0, and nothing of it is stored or computed.
 * Tempered (rf_temper, b): features of b q, whose product with phi_j estimates the mean of exp(b logit).  Its logarithm is
 * divided by b: ln c + (1/b) ln mean exp(b logit), the logits' power mean of exponent b, is between the mean key's estimate
 * (b -> 0) and the log-mass (b = 1), never above it, and in its units; the order is that of the mass of b times the logits.
 * Segment: bf16 phi~[Fp] (Fp = F rounded up to 16, zeros at the end), f32 lambda, centred: f16 mu[D].  Block: its four segments.
 * Merging: lambda = max(l1, l2), phi~ = (e^(l1 - lambda) p1 + e^(l2 - lambda) p2) / 2 in f32 from the stored bf16, rounded to
 * bf16 again at every level.  Features around different mu have no common mean: centred segments end with their block.
 * Prepared query: f32 lambda_q / b, 12 bytes 0, f32 phi~[Fp], centred: f32 q / sqrt D [Dp] (Dp = D rounded up to 16).
 * The keys of a segment are added in order; when one raises lambda, what is there is scaled down. */
#include "kernels/cpu/rf.h"

#include <math.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/cpu/lse.h"
#include "runtime/sys.h"

#define MAX_FEATURES 8192
#define STRIP 64 /* features projected at a time: their sums stay in registers */

typedef struct rf {
    radar_rf_map map;
    int F, Fp;
    float log_weight; /* of one feature in a product of two: -ln F / 2 for each side */
    bool center;
    float temper, cool; /* b, 1 / b */
    float scale;        /* 1 / sqrt D */
    size_t bytes;       /* of a segment */
    float omega[];
} rf;

/* ---- the map ---- */

RADAR_TEMPLATE void project_strip(const radar_rf_map *map, float *a, float *b, const float *u,
                                  float half, int begin, int width) {
    float sum[STRIP] = {0};
    for (int d = 0; d < map->D; d++) {
        const float *w = map->omega + (size_t)d * (size_t)map->n + begin;
        for (int i = 0; i < width; i++) sum[i] += w[i] * u[d];
    }
    for (int i = 0; i < width; i++) a[begin + i] = sum[i] - half;
    if (b)
        for (int i = 0; i < width; i++) b[begin + i] = -sum[i] - half;
}

RADAR_TEMPLATE void exponents(const radar_rf_map *map, float *a, float *b, const float *u) {
    float scaled[RADAR_MAX_D], square = 0, root = (float)(1 / sqrt(sqrt(map->D)));
    int i = 0;
    for (int d = 0; d < map->D; d++) {
        scaled[d] = u[d] * root;
        square += scaled[d] * scaled[d];
    }
    for (; i + STRIP <= map->n; i += STRIP) project_strip(map, a, b, scaled, square / 2, i, STRIP);
    if (i < map->n) project_strip(map, a, b, scaled, square / 2, i, map->n - i);
}

static void exponents_plain(const radar_rf_map *map, float *a, float *b, const float *u) {
    exponents(map, a, b, u);
}
RADAR_AVX512 static void exponents_avx512(const radar_rf_map *map, float *a, float *b,
                                          const float *u) {
    exponents(map, a, b, u);
}

void radar_rf_exponents(const radar_rf_map *map, float *a, float *b, const float *u) {
    (map->avx512 ? exponents_avx512 : exponents_plain)(map, a, b, u);
}

void radar_rf_reference(const radar_rf_map *map, float *out, const float *u, float m_plus,
                        float m_minus, float epsilon) {
    float weight = (float)(1 / sqrt(2.0 * map->n));
    float *minus = out + map->n;
    radar_rf_exponents(map, out, minus, u);
    for (int i = 0; i < map->n; i++) {
        out[i] = weight * (radar_expf1(out[i] - m_plus) + epsilon);
        minus[i] = weight * (radar_expf1(minus[i] - m_minus) + epsilon);
    }
}

/* ---- open ---- */

static void draw_omega(rf *x, uint64_t seed) {
    for (int i = 0; i < x->map.n; i++)
        for (int d = 0; d < x->map.D; d++)
            x->omega[(size_t)d * (size_t)x->map.n + (size_t)i] = (float)radar_random_normal(
                seed, RADAR_STREAM_OMEGA, (uint64_t)i * (uint64_t)x->map.D + (uint64_t)d);
}

static radar_status rf_open(radar_scorer *s, radar_error *err) {
    bool ok;
    radar_isa isa = radar_cpu_isa(s->opt.isa, &ok);
    if (!ok)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "instruction set '%s': not on this machine; use plain", s->opt.isa);
    int D = s->opt.D, n = s->opt.rf_features ? s->opt.rf_features : 16 * D,
        most = MAX_FEATURES / (s->opt.rf_pair ? 2 : 1);
    if (n < 1 || n > most)
        return radar_fail(err, RADAR_ERR_USAGE, "scorer 'rf': %d directions; must be 1 to %d", n,
                          most);
    size_t bytes = sizeof(rf) + (size_t)n * (size_t)D * sizeof(float);
    rf *x = radar_alloc(bytes);
    if (!x)
        return radar_fail(err, RADAR_ERR_MEMORY,
                          "scorer 'rf': no memory for %zu bytes; use fewer directions", bytes);
    x->map = (radar_rf_map){D, n, x->omega, isa.avx512};
    x->F = s->opt.rf_pair ? 2 * n : n;
    x->Fp = (x->F + 15) / 16 * 16;
    x->log_weight = (float)(-0.5 * log(x->F));
    x->center = s->opt.rf_center != 0;
    x->temper = s->opt.rf_temper > 0 ? (float)s->opt.rf_temper : 1;
    x->cool = 1 / x->temper;
    x->scale = (float)(1 / sqrt(D));
    x->bytes = (size_t)x->Fp * 2 + sizeof(float) + (x->center ? (size_t)D * 2 : 0);
    draw_omega(x, s->opt.seed);
    s->state = x;
    s->block_bytes = RADAR_BLOCK_SEGMENTS * x->bytes;
    s->query_bytes = (size_t)(4 + x->Fp + (x->center ? (D + 15) / 16 * 16 : 0)) * sizeof(float);
    s->longest = x->center ? RADAR_BLOCK : 0;
    return RADAR_OK;
}

static void rf_close(radar_scorer *s) { radar_free(s->state); }

/* ---- sealing: one C source for both instruction sets; a maximum does not depend on its order ---- */

RADAR_TEMPLATE float largest(const float *a, int n, float max) {
    float lane[16];
    int i = 0;
    for (int l = 0; l < 16; l++) lane[l] = max;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++) lane[l] = a[i + l] > lane[l] ? a[i + l] : lane[l];
    for (; i < n; i++) lane[0] = a[i] > lane[0] ? a[i] : lane[0];
    for (int l = 0; l < 16; l++) max = lane[l] > max ? lane[l] : max;
    return max;
}

static void exp_all(float *a, int n, float lambda) {
    for (int i = 0; i < n; i++) a[i] = radar_expf1(a[i] - lambda);
}

RADAR_AVX512 static void exp_all_avx512(float *a, int n, float lambda) {
    for (int i = 0; i < n; i += 16) {
        __mmask16 tail = radar_tail_mask(n - i);
        __m512 x = _mm512_sub_ps(_mm512_maskz_loadu_ps(tail, a + i), _mm512_set1_ps(lambda));
        _mm512_mask_storeu_ps(a + i, tail, radar_expf16(x));
    }
}

/* a [F] := exp(exponents - lambda) with lambda = max(*lambda, exponents). */
RADAR_TEMPLATE void features(const rf *x, float *a, const float *u, float *lambda) {
    exponents(&x->map, a, x->F > x->map.n ? a + x->map.n : NULL, u);
    *lambda = largest(a, x->F, *lambda);
    (x->map.avx512 ? exp_all_avx512 : exp_all)(a, x->F, *lambda);
}

/* mu [D] as it is stored, and shifted [64, D] := key - mu. */
RADAR_TEMPLATE void center(const rf *x, uint16_t *mu, float *shifted, const float *key) {
    int D = x->map.D;
    float sum[RADAR_MAX_D] = {0};
    for (int j = 0; j < RADAR_BLOCK; j++)
        for (int d = 0; d < D; d++) sum[d] += key[j * D + d];
    for (int d = 0; d < D; d++) {
        mu[d] = radar_f32_to_f16(sum[d] * (1.0f / RADAR_BLOCK));
        sum[d] = radar_f16_to_f32(mu[d]);
    }
    for (int j = 0; j < RADAR_BLOCK; j++)
        for (int d = 0; d < D; d++) shifted[j * D + d] = key[j * D + d] - sum[d];
}

RADAR_TEMPLATE void seal_segment(const rf *x, char *summary, const float *key) {
    float a[MAX_FEATURES], sum[MAX_FEATURES], lambda = -INFINITY;
    uint16_t *out = (uint16_t *)summary;
    memset(a, 0, (size_t)x->Fp * sizeof *a);
    memset(sum, 0, (size_t)x->Fp * sizeof *sum);
    for (int j = 0; j < RADAR_SEGMENT; j++, key += x->map.D) {
        float before = lambda;
        features(x, a, key, &lambda);
        float fade = radar_expf1(before - lambda);
        for (int f = 0; f < x->Fp; f++) sum[f] = sum[f] * fade + a[f];
    }
    for (int f = 0; f < x->Fp; f++) out[f] = radar_f32_to_bf16(sum[f] * (1.0f / RADAR_SEGMENT));
    lambda += x->log_weight;
    memcpy(out + x->Fp, &lambda, sizeof lambda);
}

RADAR_TEMPLATE void seal(const rf *x, void *summary, const float *key) {
    float shifted[RADAR_BLOCK * RADAR_MAX_D];
    uint16_t mu[RADAR_MAX_D];
    if (x->center) {
        center(x, mu, shifted, key);
        key = shifted;
    }
    for (int i = 0; i < RADAR_BLOCK_SEGMENTS; i++) {
        char *segment = (char *)summary + (size_t)i * x->bytes;
        seal_segment(x, segment, key + (size_t)(i * RADAR_SEGMENT * x->map.D));
        if (x->center)
            memcpy(segment + (size_t)x->Fp * 2 + sizeof(float), mu, (size_t)x->map.D * sizeof *mu);
    }
}

static void seal_plain(const rf *x, void *summary, const float *key) { seal(x, summary, key); }
RADAR_AVX512 static void seal_avx512(const rf *x, void *summary, const float *key) {
    seal(x, summary, key);
}

static void rf_seal(const radar_scorer *s, void *summary, const float *key) {
    const rf *x = s->state;
    (x->map.avx512 ? seal_avx512 : seal_plain)(x, summary, key);
}

static float lambda_of(const rf *x, const char *segment) {
    float lambda;
    memcpy(&lambda, segment + (size_t)x->Fp * 2, sizeof lambda);
    return lambda;
}

static const uint16_t *mu_of(const rf *x, const char *segment) {
    return (const uint16_t *)(segment + (size_t)x->Fp * 2 + sizeof(float));
}

static void rf_merge(const radar_scorer *s, void *out, const void *a, const void *b) {
    const rf *x = s->state;
    const uint16_t *p = a, *r = b;
    uint16_t *phi = out;
    float la = lambda_of(x, a), lb = lambda_of(x, b), lambda = la > lb ? la : lb;
    float wa = radar_expf1(la - lambda) * 0.5f, wb = radar_expf1(lb - lambda) * 0.5f;
    for (int f = 0; f < x->Fp; f++)
        phi[f] = radar_f32_to_bf16(wa * radar_bf16_to_f32(p[f]) + wb * radar_bf16_to_f32(r[f]));
    memcpy(phi + x->Fp, &lambda, sizeof lambda);
    if (x->center) memcpy(phi + x->Fp + 2, mu_of(x, a), (size_t)x->map.D * sizeof *phi);
}

/* ---- queries ---- */

static void query_plain(const rf *x, float *a, const float *q, float *lambda) {
    features(x, a, q, lambda);
}
RADAR_AVX512 static void query_avx512(const rf *x, float *a, const float *q, float *lambda) {
    features(x, a, q, lambda);
}

static void rf_query(const radar_scorer *s, void *prepared, const float *q) {
    const rf *x = s->state;
    float *out = prepared, tempered[RADAR_MAX_D], lambda = -INFINITY;
    memset(prepared, 0, s->query_bytes);
    for (int d = 0; d < x->map.D; d++) tempered[d] = q[d] * x->temper;
    (x->map.avx512 ? query_avx512 : query_plain)(x, out + 4, tempered, &lambda);
    out[0] = (lambda + x->log_weight) * x->cool;
    for (int d = 0; d < x->map.D && x->center; d++) out[4 + x->Fp + d] = q[d] * x->scale;
}

/* ---- scoring ---- */

static float score_one(const rf *x, const char *segment, const float *q, float mass) {
    const uint16_t *phi = (const uint16_t *)segment;
    float lane[16] = {0};
    for (int f = 0; f < x->Fp; f++)
        lane[f % 16] = fmaf(q[4 + f], radar_bf16_to_f32(phi[f]), lane[f % 16]);
    float score =
        (radar_logf1(radar_fold_sum1(lane)) + lambda_of(x, segment)) * x->cool + (q[0] + mass);
    if (!x->center) return score;
    const uint16_t *mu = mu_of(x, segment);
    memset(lane, 0, sizeof lane);
    for (int d = 0; d < x->map.D; d++)
        lane[d % 16] = fmaf(q[4 + x->Fp + d], radar_f16_to_f32(mu[d]), lane[d % 16]);
    return score + radar_fold_sum1(lane);
}

static void score_plain(const rf *x, const radar_score_task *t, const float *q, size_t q_stride) {
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
RADAR_TEMPLATE RADAR_AVX512 __m512 score_four(const rf *x, const char *const *segment,
                                              const float *q, size_t q_stride, float mass, int Q) {
    __m512 sum[4 * RADAR_QUERY_BLOCK];
    const void *part[4];
    _Alignas(64) float head[16] = {0}, lambda[16] = {0};
    for (int i = 0; i < 4; i++) part[i] = segment[i];
    dot_four(sum, RADAR_BF16, part, x->Fp, q + 4, q_stride, Q);
    for (int i = 0; i < 4 * Q; i++) {
        head[i] = q[(size_t)(i / 4) * q_stride] + mass;
        lambda[i] = lambda_of(x, segment[i % 4]);
    }
    __m512 score = _mm512_add_ps(radar_logf16(radar_fold16(false, sum, Q)), _mm512_load_ps(lambda));
    score = _mm512_add_ps(_mm512_mul_ps(score, _mm512_set1_ps(x->cool)), _mm512_load_ps(head));
    if (!x->center) return score;
    for (int i = 0; i < 4; i++) part[i] = mu_of(x, segment[i]);
    dot_four(sum, RADAR_F16, part, x->map.D, q + 4 + x->Fp, q_stride, Q);
    return _mm512_add_ps(score, radar_fold16(false, sum, Q));
}

RADAR_AVX512 static void score_queries(float s[16], const rf *x, const char *const *segment,
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
RADAR_AVX512 static void score_avx512(const rf *x, const radar_score_task *t, const float *q,
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

static void rf_score(const radar_scorer *s, const radar_score_task *t) {
    const rf *x = s->state;
    if (t->segment_end <= t->segment_begin) return;
    (x->map.avx512 ? score_avx512 : score_plain)(x, t, t->query, s->query_bytes / sizeof(float));
}

const radar_scorer_kind radar_scorer_rf = {
    .name = "rf",
    .open = rf_open,
    .close = rf_close,
    .seal = rf_seal,
    .merge = rf_merge,
    .query = rf_query,
    .score = rf_score,
};
