/* kv_fixture.h - what the tests of attention share: a CPU backend without its matmul part, random caches, golden files. */
#ifndef RADAR_TEST_KV_FIXTURE_H
#define RADAR_TEST_KV_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/cpu.h"
#include "kernels/merge.h"
#include "runtime/sys.h"

static const int all_D[] = {2, 6, 16, 32, 64, 80, 96, 128, 130, 256};
static const radar_dtype all_types[] = {RADAR_F32, RADAR_F16, RADAR_BF16};
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static inline radar_cpu cpu_with(const char *isa, int threads) {
    radar_cpu cpu = {.base = {radar_backend_cpu}, .opt = {.n_threads = threads, .isa = isa}};
    bool ok;
    cpu.isa = radar_cpu_isa(isa, &ok);
    assert_true(ok);
    return cpu;
}

static inline bool has_avx512(void) {
    bool ok;
    return radar_cpu_isa("avx512", &ok).avx512 && ok;
}

static inline void *must(void *memory) {
    assert_non_null(memory);
    return memory;
}

static inline float *normals(size_t n, uint64_t seed, float scale) {
    float *x = must(radar_alloc(n * sizeof *x));
    for (size_t i = 0; i < n; i++) x[i] = scale * (float)radar_random_normal(seed, 99, i);
    return x;
}

static inline size_t kv_bytes(radar_dtype type, int D, int segments) {
    return (size_t)segments * 16 * (size_t)D * (type == RADAR_F32 ? 4 : 2);
}

/* The greater of two errors; one that is no number counts as infinite, and stays. */
static inline double worse(double worst, double e) {
    return e <= worst ? worst : e > worst ? e : INFINITY;
}

/* An empty cache of one shard of one. */
static inline radar_kv_view kv_empty(radar_dtype type, int D, int segments) {
    radar_kv_view kv = {.type = type, .D = D, .stripe_segments = 16, .shards = 1};
    kv.k = must(radar_alloc(kv_bytes(type, D, segments)));
    kv.v = must(radar_alloc(kv_bytes(type, D, segments)));
    return kv;
}

static inline void kv_put(const radar_kv_view *kv, const float *k, const float *v, size_t stride,
                          int tokens) {
    radar_cpu cpu = cpu_with("plain", 1);
    int32_t *slot = must(radar_alloc_array((size_t)tokens, sizeof *slot));
    for (int i = 0; i < tokens; i++) slot[i] = i;
    radar_cpu_append(&cpu.base, kv, 1, slot, k, v, stride, tokens);
    radar_free(slot);
}

/* The n items as a part of a longer list on the device, of which only the device knows where it is. */
typedef struct device_list {
    radar_item item[128];
    int64_t begin;
    int32_t count;
} device_list;

static inline radar_items on_device(device_list *l, const radar_item *item, int n) {
    const int all = COUNT(l->item);
    *l = (device_list){.begin = 9, .count = n};
    assert_true(n + 9 <= all);
    for (int i = 0; i < all; i++) l->item[i] = (radar_item){i % 4, 0xffff};
    memcpy(l->item + 9, item, (size_t)n * sizeof *item);
    return (radar_items){
        .item = l->item, .n = all - 9, .on_device = true, .begin = &l->begin, .count = &l->count};
}

/* a := merge(a, b), n partials each; b is left in any state. */
static inline void merge_into(radar_cpu *cpu, float *a, float *b, int64_t n, int D) {
    radar_cpu_merge(&cpu->base, (float *const[]){a, b}, 2, n, D);
}

static inline radar_kv_view kv_random(radar_dtype type, int D, int segments, uint64_t seed,
                                      float key_scale) {
    radar_kv_view kv = kv_empty(type, D, segments);
    float *k = normals((size_t)(segments * 16 * D), seed, key_scale),
          *v = normals((size_t)(segments * 16 * D), seed + 1, 1);
    kv_put(&kv, k, v, (size_t)D, segments * 16);
    radar_free(k);
    radar_free(v);
    return kv;
}

static inline void kv_free(radar_kv_view *kv) {
    radar_free(kv->k);
    radar_free(kv->v);
    radar_free(kv->summary);
}

static inline double stored(const radar_kv_view *kv, const void *base, size_t i) {
    if (kv->type == RADAR_F32) return ((const float *)base)[i];
    uint16_t h = ((const uint16_t *)base)[i];
    return kv->type == RADAR_F16 ? radar_f16_to_f32(h) : radar_bf16_to_f32(h);
}

static inline double key_at(const radar_kv_view *kv, int slot, int d) {
    return stored(kv, kv->k,
                  ((size_t)(slot / 16) * (size_t)kv->D + (size_t)d) * 16 + (size_t)(slot % 16));
}

static inline double value_at(const radar_kv_view *kv, int slot, int d) {
    return stored(kv, kv->v, (size_t)slot * (size_t)kv->D + (size_t)d);
}

static inline double logit_ref(const radar_kv_view *kv, const float *q, int slot) {
    double sum = 0;
    for (int d = 0; d < kv->D; d++) sum += (double)q[d] * key_at(kv, slot, d);
    return sum / sqrt(kv->D);
}

static inline void *golden(const char *name, size_t bytes) {
    char path[256];
    snprintf(path, sizeof path, "tests/golden/%s", name);
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: cannot be opened; run the tests from the repository's root", path);
    void *data = must(radar_alloc(bytes + 1));
    size_t got = fread(data, 1, bytes + 1, f);
    fclose(f);
    if (got != bytes) fail_msg("%s: %zu bytes, expected %zu", path, got, bytes);
    return data;
}

#endif
