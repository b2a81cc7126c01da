/* rf - the mean random feature of each segment (rf.h), with a log scale of its own, so that nothing over- or underflows.
 *   phi(u) = F^(-1/2) exp(a - l(u)) e^l(u),  F features;  segment: lambda = max over its keys and features of a
 *   score = ln 16 + lambda_j + lambda_q + ln(phi~(q) . phi~_j)
 * Block: bf16 phi~[4][Fp] (Fp = F rounded up to 16, zeros at the end), f32 lambda[4].
 * Prepared query: f32 lambda, 12 bytes 0, f32 phi~[Fp].
 * The keys of a segment are added in order; when one raises lambda, what is there is scaled down. */
#include "kernels/cpu/rf.h"

#include <math.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/cpu/lse.h"
#include "runtime/sys.h"

#define MAX_FEATURES 8192
#define LN_16 2.7725887f
#define STRIP 64 /* features projected at a time: their sums stay in registers */

typedef struct rf {
    radar_rf_map map;
    int F, Fp;
    float log_weight; /* of one feature in a product of two: -ln F / 2 for each side */
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
    draw_omega(x, s->opt.seed);
    s->state = x;
    s->block_bytes = RADAR_BLOCK_SEGMENTS * ((size_t)x->Fp * 2 + sizeof(float));
    s->query_bytes = 16 + (size_t)x->Fp * sizeof(float);
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

RADAR_TEMPLATE void seal(const rf *x, void *summary, const float *key) {
    float a[MAX_FEATURES], sum[MAX_FEATURES], lambda[RADAR_BLOCK_SEGMENTS];
    uint16_t *out = summary;
    memset(a, 0, (size_t)x->Fp * sizeof *a);
    for (int i = 0; i < RADAR_BLOCK_SEGMENTS; i++, out += x->Fp) {
        lambda[i] = -INFINITY;
        memset(sum, 0, (size_t)x->Fp * sizeof *sum);
        for (int j = 0; j < RADAR_SEGMENT; j++, key += x->map.D) {
            float before = lambda[i];
            features(x, a, key, &lambda[i]);
            float fade = radar_expf1(before - lambda[i]);
            for (int f = 0; f < x->Fp; f++) sum[f] = sum[f] * fade + a[f];
        }
        for (int f = 0; f < x->Fp; f++) out[f] = radar_f32_to_bf16(sum[f] * (1.0f / RADAR_SEGMENT));
        lambda[i] += x->log_weight;
    }
    memcpy(out, lambda, sizeof lambda);
}

static void seal_plain(const rf *x, void *summary, const float *key) { seal(x, summary, key); }
RADAR_AVX512 static void seal_avx512(const rf *x, void *summary, const float *key) {
    seal(x, summary, key);
}

static void rf_seal(const radar_scorer *s, void *summary, const float *key) {
    const rf *x = s->state;
    (x->map.avx512 ? seal_avx512 : seal_plain)(x, summary, key);
}

static void query_plain(const rf *x, float *a, const float *q, float *lambda) {
    features(x, a, q, lambda);
}
RADAR_AVX512 static void query_avx512(const rf *x, float *a, const float *q, float *lambda) {
    features(x, a, q, lambda);
}

static void rf_query(const radar_scorer *s, void *prepared, const float *q) {
    const rf *x = s->state;
    float head[4] = {-INFINITY};
    memset(prepared, 0, s->query_bytes);
    (x->map.avx512 ? query_avx512 : query_plain)(x, (float *)prepared + 4, q, &head[0]);
    head[0] += x->log_weight;
    memcpy(prepared, head, sizeof head);
}

/* ---- scoring ---- */

static void score_plain(const rf *x, const radar_score_task *t, const float *q, size_t q_stride) {
    for (int32_t i = t->segment_begin; i < t->segment_end; i++) {
        const char *block =
            (const char *)t->kv.summary + (size_t)(i / RADAR_BLOCK_SEGMENTS) * t->kv.block_bytes;
        const uint16_t *phi =
            (const uint16_t *)block + (size_t)(i % RADAR_BLOCK_SEGMENTS) * (size_t)x->Fp;
        const float *lambda = (const float *)(block + (size_t)(RADAR_BLOCK_SEGMENTS * x->Fp * 2));
        for (int j = 0; j < t->n_query; j++) {
            const float *qj = q + (size_t)j * q_stride;
            float lane[16] = {0};
            for (int f = 0; f < x->Fp; f++)
                lane[f % 16] = fmaf(qj[4 + f], radar_bf16_to_f32(phi[f]), lane[f % 16]);
            t->score[(size_t)j * t->score_stride + (size_t)(i - t->segment_begin)] =
                (radar_logf1(radar_fold_sum1(lane)) + lambda[i % RADAR_BLOCK_SEGMENTS]) +
                (qj[0] + LN_16);
        }
    }
}

/* The four segments of a block for up to four queries: lane 4 j + i. */
RADAR_TEMPLATE RADAR_AVX512 __m512 score_block(const rf *x, const char *block, const float *q,
                                               size_t q_stride, int Q) {
    const uint16_t *phi = (const uint16_t *)block;
    __m512 sum[4 * RADAR_QUERY_BLOCK];
    _Alignas(64) float head[16] = {0};
    for (int i = 0; i < 4 * Q; i++) sum[i] = _mm512_setzero_ps();
    for (int f = 0; f < x->Fp; f += 16) {
        __m512 p[4];
        for (int i = 0; i < 4; i++)
            p[i] = radar_segment_load(RADAR_BF16, phi, (size_t)(i * x->Fp + f));
        for (int j = 0; j < Q; j++) {
            __m512 qj = _mm512_loadu_ps(q + (size_t)j * q_stride + 4 + f);
            for (int i = 0; i < 4; i++) sum[4 * j + i] = _mm512_fmadd_ps(qj, p[i], sum[4 * j + i]);
        }
    }
    for (int i = 0; i < 4 * Q; i++) head[i] = q[(size_t)(i / 4) * q_stride] + LN_16;
    __m512 lambda =
        _mm512_broadcast_f32x4(_mm_loadu_ps((const float *)(phi + RADAR_BLOCK_SEGMENTS * x->Fp)));
    return _mm512_add_ps(_mm512_add_ps(radar_logf16(radar_fold16(false, sum, Q)), lambda),
                         _mm512_load_ps(head));
}

RADAR_AVX512 static void score_avx512(const rf *x, const radar_score_task *t, const float *q,
                                      size_t q_stride) {
    int32_t last = (t->segment_end - 1) / RADAR_BLOCK_SEGMENTS,
            n = t->segment_end - t->segment_begin;
    for (int32_t k = t->segment_begin / RADAR_BLOCK_SEGMENTS; k <= last; k++) {
        const char *block = (const char *)t->kv.summary + (size_t)k * t->kv.block_bytes;
        int32_t first = k * RADAR_BLOCK_SEGMENTS - t->segment_begin;
        for (int j = 0; j < t->n_query; j += RADAR_QUERY_BLOCK) {
            int Q = t->n_query - j < RADAR_QUERY_BLOCK ? t->n_query - j : RADAR_QUERY_BLOCK;
            const float *qj = q + (size_t)j * q_stride;
            _Alignas(64) float s[16];
            switch (Q) {
            case 1:
                _mm512_store_ps(s, score_block(x, block, qj, q_stride, 1));
                break;
            case 2:
                _mm512_store_ps(s, score_block(x, block, qj, q_stride, 2));
                break;
            case 3:
                _mm512_store_ps(s, score_block(x, block, qj, q_stride, 3));
                break;
            default:
                _mm512_store_ps(s, score_block(x, block, qj, q_stride, 4));
            }
            for (int i = 0; i < RADAR_BLOCK_SEGMENTS; i++)
                if (first + i >= 0 && first + i < n)
                    for (int l = 0; l < Q; l++)
                        t->score[(ptrdiff_t)((size_t)(j + l) * t->score_stride) + first + i] =
                            s[4 * l + i];
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
    .query = rf_query,
    .score = rf_score,
};
