/* q8_fixture.h - a packed cache, and its numbers in double by the formulas of kv.h. */
#ifndef RADAR_TEST_Q8_FIXTURE_H
#define RADAR_TEST_Q8_FIXTURE_H

#include "kernels/cpu/q8.h"
#include "tests/unit/kv_fixture.h"

static const int q8_D[] = {16, 48, 64, 80, 128, 256};

/* An empty cache of one shard of one whose tail holds everything; reads are packed before segment `tail_begin`. */
static inline radar_kv_view q8_empty(int D, int segments, int tail_begin) {
    radar_kv_view kv = kv_empty(RADAR_Q8, D, segments);
    size_t n = (size_t)(segments * 16);
    kv.k_scale = must(radar_alloc(2 * n));
    kv.v_scale = must(radar_alloc(2 * n));
    kv.centre = must(radar_alloc((size_t)segments * radar_kv_centre_bytes(D)));
    kv.tail_k = must(radar_alloc(2 * n * (size_t)D));
    kv.tail_v = must(radar_alloc(2 * n * (size_t)D));
    kv.segments = kv.tail_segments = segments;
    kv.tail_begin = tail_begin;
    return kv;
}

static inline radar_kv_view q8_random(int D, int segments, int tail_begin, uint64_t seed, float *k,
                                      float *v) {
    radar_kv_view kv = q8_empty(D, segments, tail_begin);
    for (size_t i = 0; i < (size_t)(segments * 16 * D); i++) {
        k[i] =
            3 * (float)sin((double)(i % (size_t)D)) + 1.5f * (float)radar_random_normal(seed, 1, i);
        v[i] = (float)radar_random_normal(seed, 2, i);
    }
    kv_put(&kv, k, v, (size_t)D, segments * 16);
    return kv;
}

static inline void q8_free(radar_kv_view *kv) {
    radar_free(kv->k_scale), radar_free(kv->v_scale), radar_free(kv->centre);
    radar_free(kv->tail_k), radar_free(kv->tail_v);
    kv_free(kv);
}

static inline double half(const uint16_t *h, int i) { return radar_f16_to_f32(h[i]); }

static inline double packed_value(const radar_kv_view *kv, int slot, int d) {
    size_t at = ((size_t)(slot / 4) * (size_t)kv->D + (size_t)d) * 4 + (size_t)(slot % 4);
    return half(kv->v_scale, slot) * ((const int8_t *)kv->v)[at];
}

static inline int packed_code(const radar_kv_view *kv, int slot, int d) {
    size_t at = ((size_t)(slot / 16 * kv->D / 4 + d / 4) * 16 + (size_t)(slot % 16)) * 4;
    return ((const int8_t *)kv->k)[at + (size_t)(d % 4)];
}

/* Coordinate d of z. */
static inline double packed_z(const radar_kv_view *kv, int slot, int d) {
    return half(kv->k_scale, slot) * packed_code(kv, slot, d);
}

static inline double packed_mean(const radar_kv_view *kv, int slot, int d) {
    const char *centre = (const char *)kv->centre + (size_t)(slot / 64) * ((size_t)kv->D + 4);
    float scale;
    memcpy(&scale, centre + kv->D, sizeof scale);
    return (double)scale * ((const signed char *)centre)[d];
}

/* Entry (i, j) of H; its parts are powers of two, largest first. */
static inline double rotation_at(const radar_rotation *r, int i, int j) {
    int begin = 0, size = 256;
    for (int left = r->D; left > 0; size /= 2) {
        if (size > left) continue;
        if (i < begin + size || j < begin + size) break;
        begin += size, left -= size;
    }
    if (i < begin || j < begin || i >= begin + size || j >= begin + size) return 0;
    double sign = __builtin_parity((unsigned)((i - begin) & (j - begin))) ? -1 : 1;
    return sign * (r->norm[j] < 0 ? -1 : 1) / sqrt(size);
}

static inline double packed_key(const radar_kv_view *kv, const radar_rotation *r, int slot, int d) {
    double sum = packed_mean(kv, slot, d);
    for (int i = 0; i < kv->D; i++) sum += rotation_at(r, i, d) * packed_z(kv, slot, i);
    return sum;
}

static inline float *floats(size_t n) { return must(radar_alloc(n * sizeof(float))); }

#endif
