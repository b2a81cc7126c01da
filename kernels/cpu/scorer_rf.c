/* rf - seals, merges and prepares; rf.h says what, rf_scan.c scores. */
#include "kernels/cpu/rf.h"

#include <math.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/cpu/lse.h"
#include "runtime/sys.h"

#define MAX_FEATURES 8192
#define STRIP 64 /* features projected at a time: their sums stay in registers */

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

static void draw_omega(radar_rf *x, uint64_t seed) {
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
    size_t bytes = sizeof(radar_rf) + (size_t)n * (size_t)D * sizeof(float);
    radar_rf *x = radar_alloc(bytes);
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
RADAR_TEMPLATE void features(const radar_rf *x, float *a, const float *u, float *lambda) {
    exponents(&x->map, a, x->F > x->map.n ? a + x->map.n : NULL, u);
    *lambda = largest(a, x->F, *lambda);
    (x->map.avx512 ? exp_all_avx512 : exp_all)(a, x->F, *lambda);
}

/* mu [D] as it is stored, and shifted [64, D] := key - mu. */
RADAR_TEMPLATE void center(const radar_rf *x, uint16_t *mu, float *shifted, const float *key) {
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

RADAR_TEMPLATE void seal_segment(const radar_rf *x, char *summary, const float *key) {
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

RADAR_TEMPLATE void seal(const radar_rf *x, void *summary, const float *key) {
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

static void seal_plain(const radar_rf *x, void *summary, const float *key) {
    seal(x, summary, key);
}
RADAR_AVX512 static void seal_avx512(const radar_rf *x, void *summary, const float *key) {
    seal(x, summary, key);
}

static void rf_seal(const radar_scorer *s, void *summary, const float *key) {
    const radar_rf *x = s->state;
    (x->map.avx512 ? seal_avx512 : seal_plain)(x, summary, key);
}

static void rf_merge(const radar_scorer *s, void *out, const void *a, const void *b) {
    const radar_rf *x = s->state;
    const uint16_t *p = a, *r = b;
    uint16_t *phi = out;
    float la = radar_rf_lambda(x, a), lb = radar_rf_lambda(x, b), lambda = la > lb ? la : lb;
    float wa = radar_expf1(la - lambda) * 0.5f, wb = radar_expf1(lb - lambda) * 0.5f;
    for (int f = 0; f < x->Fp; f++)
        phi[f] = radar_f32_to_bf16(wa * radar_bf16_to_f32(p[f]) + wb * radar_bf16_to_f32(r[f]));
    memcpy(phi + x->Fp, &lambda, sizeof lambda);
    if (x->center) memcpy(phi + x->Fp + 2, radar_rf_mu(x, a), (size_t)x->map.D * sizeof *phi);
}

/* ---- queries ---- */

static void query_plain(const radar_rf *x, float *a, const float *q, float *lambda) {
    features(x, a, q, lambda);
}
RADAR_AVX512 static void query_avx512(const radar_rf *x, float *a, const float *q, float *lambda) {
    features(x, a, q, lambda);
}

static void rf_query(const radar_scorer *s, void *prepared, const float *q) {
    const radar_rf *x = s->state;
    float *out = prepared, tempered[RADAR_MAX_D], lambda = -INFINITY;
    memset(prepared, 0, s->query_bytes);
    for (int d = 0; d < x->map.D; d++) tempered[d] = q[d] * x->temper;
    (x->map.avx512 ? query_avx512 : query_plain)(x, out + 4, tempered, &lambda);
    out[0] = (lambda + x->log_weight) * x->cool;
    for (int d = 0; d < x->map.D && x->center; d++) out[4 + x->Fp + d] = q[d] * x->scale;
}

static void rf_score(const radar_scorer *s, const radar_score_task *t) {
    radar_rf_scan(s->state, t, s->query_bytes);
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
