#include "kernels/cpu/cpu.h"
#include "kernels/cpu/q8.h"

/* A sealed block is complete, so in a q8 cache its keys are the packed ones, whatever a query reads: summaries made anew from
 * the cache are those that were made at first. */
static radar_tile_keys keys_of(radar_isa isa, const radar_kv_view *kv, int64_t segment,
                               float *room) {
    radar_kv_view packed = *kv;
    packed.tail_begin = kv->segments;
    return radar_keys_of(isa, &packed, segment, room);
}

/* The 64 keys of a block, one after the other, from its four tiles [D, 16]. */
static void gather_keys(radar_isa isa, float *key, const radar_kv_view *kv, int64_t block) {
    _Alignas(64) float room[RADAR_SEGMENT * RADAR_MAX_D];
    for (int s = 0; s < RADAR_BLOCK_SEGMENTS; s++) {
        radar_tile_keys tile = keys_of(isa, kv, block * RADAR_BLOCK_SEGMENTS + s, room);
        for (int i = 0; i < RADAR_SEGMENT; i++, key += kv->D)
            for (int d = 0; d < kv->D; d++)
                key[d] = radar_segment_at(tile.type, tile.k, (size_t)(d * RADAR_SEGMENT + i));
    }
}

/* The same: a tile row in one load, its 16 lanes to 16 keys. */
RADAR_AVX512 static void gather_keys_avx512(radar_isa isa, float *key, const radar_kv_view *kv,
                                            int64_t block) {
    const __m512i column =
        _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                           _mm512_set1_epi32(kv->D));
    _Alignas(64) float room[RADAR_SEGMENT * RADAR_MAX_D];
    for (int s = 0; s < RADAR_BLOCK_SEGMENTS; s++, key += RADAR_SEGMENT * kv->D) {
        radar_tile_keys tile = keys_of(isa, kv, block * RADAR_BLOCK_SEGMENTS + s, room);
        for (int d = 0; d < kv->D; d++) {
            size_t at = (size_t)d * RADAR_SEGMENT;
            __m512 k = tile.type == RADAR_F32   ? radar_segment_load(RADAR_F32, tile.k, at)
                       : tile.type == RADAR_F16 ? radar_segment_load(RADAR_F16, tile.k, at)
                                                : radar_segment_load(RADAR_BF16, tile.k, at);
            _mm512_i32scatter_ps(key + d, column, k, 4);
        }
    }
}

void radar_cpu_seal(radar_backend *be, const radar_scorer *scorer, const radar_kv_view *kv,
                    int heads, int32_t block, int n) {
    const radar_cpu *cpu = radar_cpu_of(be);
    if (scorer->block_bytes == 0) return;
#pragma omp parallel for num_threads(cpu->opt.n_threads) schedule(dynamic, 1) collapse(2)
    for (int h = 0; h < heads; h++) {
        for (int i = 0; i < n; i++) {
            _Alignas(64) float key[RADAR_BLOCK * RADAR_MAX_D];
            if (cpu->isa.avx512)
                gather_keys_avx512(cpu->isa, key, &kv[h], block + i);
            else
                gather_keys(cpu->isa, key, &kv[h], block + i);
            scorer->kind->seal(
                scorer, (char *)kv[h].summary + (size_t)(block + i) * kv[h].block_bytes, key);
        }
    }
}

static void unite_head(const radar_cpu *cpu, const radar_scorer *scorer, const radar_kv_view *kv,
                       int32_t unit, int32_t begin, int32_t end) {
    size_t bytes = kv->block_bytes / RADAR_BLOCK_SEGMENTS;
    const char *half = radar_kv_summaries(kv, unit / 2);
    char *out = radar_kv_summaries(kv, unit);
#pragma omp parallel for num_threads(cpu->opt.n_threads) schedule(static) if (end - begin >= 16)
    for (int32_t i = begin; i < end; i++) {
        const char *first = half + 2 * (size_t)i * bytes;
        scorer->kind->merge(scorer, out + (size_t)i * bytes, first, first + bytes);
    }
}

void radar_cpu_unite(radar_backend *be, const radar_scorer *scorer, const radar_kv_view *kv,
                     int heads, int levels, int32_t begin, int32_t end) {
    for (int h = 0; h < heads; h++)
        for (int level = 1; level <= levels; level++)
            unite_head(radar_cpu_of(be), scorer, &kv[h], 1 << level,
                       (int32_t)((int64_t)begin * RADAR_BLOCK_SEGMENTS >> level),
                       (int32_t)((int64_t)end * RADAR_BLOCK_SEGMENTS >> level));
}

void radar_cpu_query(radar_backend *be, const radar_scorer *scorer, void *out, const float *q,
                     size_t q_stride, int n) {
    const radar_cpu *cpu = radar_cpu_of(be);
    if (n < 16) { /* not worth waking the other threads */
        for (int i = 0; i < n; i++)
            scorer->kind->query(scorer, (char *)out + (size_t)i * scorer->query_bytes,
                                q + (size_t)i * q_stride);
        return;
    }
#pragma omp parallel for num_threads(cpu->opt.n_threads) schedule(static)
    for (int i = 0; i < n; i++)
        scorer->kind->query(scorer, (char *)out + (size_t)i * scorer->query_bytes,
                            q + (size_t)i * q_stride);
}

void radar_cpu_score(radar_backend *be, const radar_scorer *scorer, const radar_score_task *task,
                     int n_tasks) {
    const radar_cpu *cpu = radar_cpu_of(be);
#pragma omp parallel for num_threads(cpu->opt.n_threads) schedule(dynamic, 1)
    for (int i = 0; i < n_tasks; i++) scorer->kind->score(scorer, &task[i]);
}
