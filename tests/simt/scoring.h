/* scoring.h - a cache of random keys for the kernels of scorers, and what the CPU makes of it. */
#ifndef RADAR_SIMT_SCORING_H
#define RADAR_SIMT_SCORING_H

#include <cfloat>
#include <vector>

extern "C" {
#include "kernels/backend.h"
#include "runtime/sys.h"
}
#include "kernels/cuda/scoring.h"
#include "tests/simt/fixture.h"

/* As the device allocates: aligned to 16 and more. */
template <class T> struct device_memory {
    T *p;
    size_t n;
    explicit device_memory(size_t count) : p((T *)radar_alloc(count * sizeof(T) + 1)), n(count) {}
    device_memory(const device_memory &) = delete;
    device_memory &operator=(const device_memory &) = delete;
    ~device_memory() { radar_free(p); }
    T &operator[](size_t i) const { return p[i]; }
    void fill(int byte) const { memset((void *)p, byte, n * sizeof(T)); }
};

static inline size_t number_bytes(radar_cuda_kv type) {
    return type == RADAR_CUDA_KV_F32 ? 4 : type == RADAR_CUDA_KV_FP8 ? 1 : 2;
}

/* Number i := x, of FP8 in units of `scale`; what it is then. */
static inline float store_number(radar_cuda_kv type, void *base, size_t i, float x, float scale) {
    if (type == RADAR_CUDA_KV_F32) return ((float *)base)[i] = x;
    if (type == RADAR_CUDA_KV_FP8) {
        const uint8_t code = dev_f32_to_e4m3(x / scale);
        ((uint8_t *)base)[i] = code;
        return dev_e4m3_to_f32(code) * scale;
    }
    const uint16_t h = type == RADAR_CUDA_KV_F16 ? radar_f32_to_f16(x) : radar_f32_to_bf16(x);
    ((uint16_t *)base)[i] = h;
    return type == RADAR_CUDA_KV_F16 ? radar_f16_to_f32(h) : radar_bf16_to_f32(h);
}

/* Key x [D] of a token into tiles as kv.h lays them out; x becomes what is stored of it. */
static inline void store_key(radar_cuda_kv type, void *tiles, float *scale, size_t token, float *x,
                             int D) {
    float max = 0;
    for (int d = 0; d < D; d++) max = std::fmax(max, std::fabs(x[d]));
    max = std::fmin(max, FLT_MAX) / 448;
    scale[token] = max;
    for (int d = 0; d < D; d++)
        x[d] = store_number(type, tiles, (token / 16 * (size_t)D + (size_t)d) * 16 + token % 16,
                            x[d], max > 0 ? max : 1);
}

/* Keys of some KV heads as kv.h lays them out, and the CPU's summaries of them at all levels. */
struct cache {
    const radar_scorer *s;
    radar_cuda_kv type;
    int D, heads, segments, levels;
    size_t key_stride, segment_bytes, merged_bytes; /* of a KV head */
    device_memory<char> key, summary, merged;
    device_memory<float> scale; /* of keys */

    cache(const radar_scorer *scorer, radar_cuda_kv t, int kv_heads, int S, int n_levels,
          uint64_t seed, float size)
        : s(scorer), type(t), D(scorer->opt.D), heads(kv_heads), segments(S), levels(n_levels),
          key_stride((size_t)(S * 16 * scorer->opt.D) * number_bytes(t)),
          segment_bytes(scorer->block_bytes / 4), merged_bytes((size_t)S * segment_bytes),
          key((size_t)kv_heads * key_stride), summary((size_t)(kv_heads * S) * segment_bytes),
          merged((size_t)kv_heads * merged_bytes), scale((size_t)(kv_heads * S * 16)) {
        std::vector<float> block((size_t)(64 * D));
        for (int b = 0; b < heads * S / 4; b++) {
            for (int j = 0; j < 64; j++) {
                float *x = &block[(size_t)(j * D)];
                for (int d = 0; d < D; d++)
                    x[d] = size * draw(seed, (uint64_t)(b * 64 + j) * 256 + (uint64_t)d) +
                           (d == 3 ? 2 : 0);
                store_key(type, key.p, scale.p, (size_t)(b * 64 + j), x, D);
            }
            s->kind->seal(s, summary.p + (size_t)b * s->block_bytes, block.data());
        }
        for (int head = 0; head < heads; head++)
            for (int level = 1; level <= levels; level++)
                for (int i = 0; i < S >> level; i++)
                    s->kind->merge(s, at(head, level, i), at(head, level - 1, 2 * i),
                                   at(head, level - 1, 2 * i + 1));
    }
    /* Summary i of a level, and where that lies in an array of that kind. */
    size_t merged_offset(int head, int level, int i) const {
        return (size_t)head * merged_bytes +
               (size_t)(segments - 2 * (segments >> level) + i) * segment_bytes;
    }
    char *at(int head, int level, int i) const {
        return level ? merged.p + merged_offset(head, level, i)
                     : summary.p + (size_t)(head * segments + i) * segment_bytes;
    }
    radar_cuda_seal seal_task(char *out, const int32_t *blocks, int most) const {
        const size_t summary_stride = (size_t)segments * segment_bytes;
        return {type,
                D,
                heads,
                key.p,
                key_stride,
                type == RADAR_CUDA_KV_FP8 ? scale.p : nullptr,
                (size_t)(segments * 16),
                out,
                summary_stride,
                blocks,
                most};
    }
    radar_cuda_unite unite_task(char *from, char *to, const int32_t *blocks) const {
        return {D,
                heads,
                levels,
                segments,
                from,
                to,
                (size_t)segments * segment_bytes,
                merged_bytes,
                blocks};
    }
};

/* The CPU's scores of units [begin, end) of a level for prepared queries of one KV head: [n][end - begin]. */
static inline std::vector<float> cpu_scores(const cache &c, int head, int level, int begin, int end,
                                            const char *query, int n) {
    std::vector<float> score((size_t)(n * (end - begin)));
    radar_score_task t = {};
    t.kv.D = c.D;
    t.kv.summary = c.at(head, 0, 0);
    t.kv.block_bytes = c.s->block_bytes;
    t.kv.merged = c.merged.p + (size_t)head * c.merged_bytes;
    t.kv.segments = c.segments;
    t.n_query = n;
    t.query = query;
    t.unit = 1 << level;
    t.segment_begin = begin;
    t.segment_end = end;
    t.score = score.data();
    t.score_stride = (size_t)(end - begin);
    c.s->kind->score(c.s, &t);
    return score;
}

/* |a - b| <= tol, or both the same infinity, or both no number. */
static inline bool same_number(float a, float b, double tol) {
    if (a != a || b != b) return a != a && b != b;
    return a == b || std::fabs((double)a - b) <= tol;
}

/* Whether out, 0x5a before, has the summaries of blocks [begin, end) of all heads and nothing else. */
static inline bool sealed_alone(const cache &c, const char *out, int begin, int end) {
    for (int head = 0; head < c.heads; head++)
        for (int i = 0; i < c.segments; i++) {
            const char *got = out + (c.at(head, 0, i) - c.summary.p);
            const bool sealed = i / 4 >= begin && i / 4 < end;
            for (size_t b = 0; b < c.segment_bytes; b++)
                if (got[b] != (sealed ? c.at(head, 0, i)[b] : 0x5a)) return false;
        }
    return true;
}

#endif
