/* Packing and reading back: one C source for all instruction sets, 16 tokens side by side, so that the bits are the same. */
#include "kernels/cpu/q8.h"

#include <string.h>

#include "kernels/cpu/sum16.h"

#define LANES RADAR_SEGMENT

/* ---- rows of f16 ---- */

static void widen_plain(float *out, const uint16_t *h, int n) {
    for (int i = 0; i < n; i++) out[i] = radar_f16_to_f32(h[i]);
}

RADAR_AVX2 static void widen_avx2(float *out, const uint16_t *h, int n) {
    for (int i = 0; i < n; i += 8)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(h + i))));
}

void radar_widen_f16(radar_isa isa, float *out, const uint16_t *h, int n) {
    (isa.avx2 ? widen_avx2 : widen_plain)(out, h, n);
}

static const uint16_t *tail_tile(const uint16_t *tail, const radar_kv_view *kv, int64_t segment) {
    return tail + (size_t)(segment % kv->tail_segments) * (size_t)kv->D * LANES;
}

/* ---- packing ---- */

/* The least f16 that is not below max / 127; 0 for what is not finite. */
static uint16_t scale_of(float max) {
    if (!(max < INFINITY)) return 0;
    float least = max / 127;
    uint16_t h = radar_f32_to_f16(least);
    return radar_f16_to_f32(h) < least ? (uint16_t)(h + 1) : h;
}

RADAR_TEMPLATE int8_t rounded(float x, float inverse) {
    float r = rintf(x * inverse);
    r = r < 127 ? r : 127; /* NaN too */
    return (int8_t)(int32_t)(r > -127 ? r : -127);
}

static float inverse_of(uint16_t scale) { return scale ? 1 / radar_f16_to_f32(scale) : 0; }

/* Rotated, centred keys z [D, 16] of one segment. */
RADAR_TEMPLATE void pack_keys(int8_t *k, uint16_t *scale, const float *z, int D) {
    float max[LANES] = {0}, inverse[LANES];
    for (int d = 0; d < D; d++)
        for (int l = 0; l < LANES; l++)
            max[l] = fabsf(z[d * LANES + l]) > max[l] ? fabsf(z[d * LANES + l]) : max[l];
    for (int l = 0; l < LANES; l++) inverse[l] = inverse_of(scale[l] = scale_of(max[l]));
    for (int d = 0; d < D; d++)
        for (int l = 0; l < LANES; l++)
            k[(d / 4 * LANES + l) * 4 + d % 4] = rounded(z[d * LANES + l], inverse[l]);
}

RADAR_TEMPLATE void pack_values(int8_t *out, uint16_t *scale, const float *v, int D) {
    for (int t = 0; t < LANES; t++) {
        float max = 0;
        for (int d = 0; d < D; d++) max = fabsf(v[t * D + d]) > max ? fabsf(v[t * D + d]) : max;
        float inverse = inverse_of(scale[t] = scale_of(max));
        for (int d = 0; d < D; d++)
            out[(t / 4 * D + d) * 4 + t % 4] = rounded(v[t * D + d], inverse);
    }
}

/* The mean of the block's keys [4, D, 16] as it is stored; returns its scale. */
RADAR_TEMPLATE float pack_centre(uint8_t *centre, const float *key, int D) {
    float mean[RADAR_MAX_D];
    for (int d = 0; d < D; d++) {
        float sum[LANES] = {0};
        for (int s = 0; s < RADAR_BLOCK_SEGMENTS; s++)
            for (int l = 0; l < LANES; l++) sum[l] += key[(s * D + d) * LANES + l];
        mean[d] = radar_sum16(sum) * (1.0f / RADAR_BLOCK);
    }
    float scale = radar_round_to_int8((int8_t *)centre, mean, D, 127);
    memcpy(centre + D, &scale, sizeof scale);
    return scale;
}

/* key [4, D, 16] and value [4, 16, D] f32 of the block; key becomes z. */
RADAR_TEMPLATE void pack(const radar_rotation *r, const radar_kv_view *kv, int32_t block,
                         float *key, const float *value) {
    int D = kv->D;
    uint8_t *centre = (uint8_t *)kv->centre + (size_t)block * radar_kv_centre_bytes(D);
    const int8_t *mu = (const int8_t *)centre;
    float scale = pack_centre(centre, key, D);
    for (int s = 0; s < RADAR_BLOCK_SEGMENTS; s++, key += D * LANES, value += D * LANES) {
        size_t segment = (size_t)block * RADAR_BLOCK_SEGMENTS + (size_t)s,
               at = segment * radar_segment_bytes(RADAR_Q8, D);
        for (int d = 0; d < D; d++)
            for (int l = 0; l < LANES; l++) key[d * LANES + l] -= scale * (float)mu[d];
        radar_rotate(r, key, LANES);
        pack_keys((int8_t *)kv->k + at, kv->k_scale + segment * LANES, key, D);
        pack_values((int8_t *)kv->v + at, kv->v_scale + segment * LANES, value, D);
    }
}

static void pack_plain(const radar_rotation *r, const radar_kv_view *kv, int32_t block, float *key,
                       const float *value) {
    pack(r, kv, block, key, value);
}
RADAR_AVX2 static void pack_avx2(const radar_rotation *r, const radar_kv_view *kv, int32_t block,
                                 float *key, const float *value) {
    pack(r, kv, block, key, value);
}
RADAR_AVX512 static void pack_avx512(const radar_rotation *r, const radar_kv_view *kv,
                                     int32_t block, float *key, const float *value) {
    pack(r, kv, block, key, value);
}

void radar_q8_pack(radar_isa isa, const radar_rotation *r, const radar_kv_view *kv, int32_t block) {
    _Alignas(64) float key[RADAR_BLOCK * RADAR_MAX_D], value[RADAR_BLOCK * RADAR_MAX_D];
    int tile = kv->D * LANES;
    for (int s = 0; s < RADAR_BLOCK_SEGMENTS; s++) {
        int64_t segment = (int64_t)block * RADAR_BLOCK_SEGMENTS + s;
        radar_widen_f16(isa, key + s * tile, tail_tile(kv->tail_k, kv, segment), tile);
        radar_widen_f16(isa, value + s * tile, tail_tile(kv->tail_v, kv, segment), tile);
    }
    (isa.avx512 ? pack_avx512 : isa.avx2 ? pack_avx2 : pack_plain)(r, kv, block, key, value);
}

/* ---- reading back ---- */

RADAR_TEMPLATE void keys(const radar_rotation *r, float *z, const int8_t *k, const float *scale,
                         const uint8_t *centre) {
    int D = r->D;
    float mu_scale;
    memcpy(&mu_scale, centre + D, sizeof mu_scale);
    for (int d = 0; d < D; d++) {
        const int8_t *kd = k + d / 4 * LANES * 4 + d % 4;
        float *zd = z + d * LANES;
#pragma omp simd
        for (int l = 0; l < LANES; l++) zd[l] = scale[l] * (float)kd[l * 4];
    }
    radar_rotate_back(r, z, LANES);
    for (int d = 0; d < D; d++) {
        const float mu = mu_scale * (float)((const int8_t *)centre)[d];
        for (int l = 0; l < LANES; l++) z[d * LANES + l] += mu;
    }
}

static void keys_plain(const radar_rotation *r, float *z, const int8_t *k, const float *scale,
                       const uint8_t *centre) {
    keys(r, z, k, scale, centre);
}
RADAR_AVX2 static void keys_avx2(const radar_rotation *r, float *z, const int8_t *k,
                                 const float *scale, const uint8_t *centre) {
    keys(r, z, k, scale, centre);
}
RADAR_AVX512 static void keys_avx512(const radar_rotation *r, float *z, const int8_t *k,
                                     const float *scale, const uint8_t *centre) {
    keys(r, z, k, scale, centre);
}

void radar_q8_keys(radar_isa isa, const radar_rotation *r, float *k, const radar_kv_view *kv,
                   int64_t segment) {
    float scale[LANES];
    const int8_t *q =
        (const int8_t *)kv->k + (size_t)segment * radar_segment_bytes(RADAR_Q8, kv->D);
    radar_widen_f16(isa, scale, kv->k_scale + (size_t)segment * LANES, LANES);
    (isa.avx512 ? keys_avx512
     : isa.avx2 ? keys_avx2
                : keys_plain)(r, k, q, scale, radar_q8_centre(kv, segment));
}

void radar_q8_values(radar_isa isa, float *v, const radar_kv_view *kv, int64_t segment) {
    float scale[LANES];
    int D = kv->D;
    const int8_t *q = (const int8_t *)kv->v + (size_t)segment * radar_segment_bytes(RADAR_Q8, D);
    radar_widen_f16(isa, scale, kv->v_scale + (size_t)segment * LANES, LANES);
    for (int t = 0; t < LANES; t++)
        for (int d = 0; d < D; d++) v[t * D + d] = scale[t] * (float)q[(t / 4 * D + d) * 4 + t % 4];
}

void radar_kv_read(float *k, float *v, const radar_kv_view *kv, int32_t segment) {
    const radar_isa plain = {0};
    int tile = kv->D * LANES;
    if (radar_kv_packed(kv, segment)) {
        radar_rotation r;
        radar_rotation_of_q8(&r, kv->D);
        radar_q8_keys(plain, &r, k, kv, segment);
        if (v) radar_q8_values(plain, v, kv, segment);
        return;
    }
    radar_place p = radar_place_of(kv, segment);
    radar_dequantize(k, p.type, p.k, 0, tile);
    if (v) radar_dequantize(v, p.type, p.v, 0, tile);
}
