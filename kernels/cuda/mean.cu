/* mean - f16 means of 16 tokens, and of longer segments, scored by reading each once for all queries of its KV head.
 *   score = ln c + (q . mean) / sqrt D
 * seal    a thread per (segment, d): a row of the key tile is 16 tokens of one d, so it reads 16 to 64 bytes in a piece, and the
 *         mean's place is the row's number.  Sums run over tokens ascending, as on the CPU: the same bits.
 * unite   a block per KV head, a barrier between levels: a step seals at most a block, so all levels together are a few
 *         kilobytes, and a launch for each would cost more than its work.
 * score   a warp per 16 segments, products on tensor cores (split.h).  Lanes 4 g .. 4 g + 3 read 64 bytes of segment g; all of
 *         a tile, D / 32 times 1 KB, is asked for before the first product.  Reads 2 D bytes a segment, writes 4 a query: memory
 *         bound up to 16 queries; further ones read again (grid z).
 * No result depends on the grid. */
#include "kernels/cuda/mean.h"

#include <cmath>

#include "kernels/cuda/dev.h"
#include "kernels/cuda/keys.h"
#include "kernels/cuda/split.h"

/* ---- seal ---- */

/* Grid (blocks, KV heads), 256 threads. */
KERNEL void radar_mean_seal(radar_cuda_seal t) {
    const head_keys keys = keys_of(t, blockIdx.y);
    uint16_t *out = (uint16_t *)(t.summary + blockIdx.y * t.summary_stride);
    const int64_t begin = (int64_t)t.blocks[0] * 4 * t.D, end = (int64_t)t.blocks[1] * 4 * t.D;
    for (int64_t row = begin + blockIdx.x * blockDim.x + threadIdx.x; row < end;
         row += (int64_t)gridDim.x * blockDim.x) {
        float key[16], sum = 0;
        key_row(key, keys, row / t.D, (int)(row % t.D));
        for (int i = 0; i < 16; i++) sum = dev_add(sum, key[i]);
        out[row] = dev_f32_to_f16(sum * (1.0f / 16));
    }
}

int radar_cuda_mean_seal(const radar_cuda_seal *t, radar_cuda_queue *queue) {
    const int64_t work = ((int64_t)t->most * 4 * t->D + 255) / 256;
    return LAUNCH(radar_mean_seal, dim3(radar_cuda_grid(work, t->kv_heads), (unsigned)t->kv_heads),
                  dim3(256), 0, queue, *t);
}

/* ---- unite ---- */

DEV uint32_t mean_of_two(uint32_t a, uint32_t b) {
    uint32_t out = 0;
    for (int i = 0; i < 2; i++) {
        const float x = dev_f16_to_f32((uint16_t)(a >> 16 * i)),
                    y = dev_f16_to_f32((uint16_t)(b >> 16 * i));
        out |= (uint32_t)dev_f32_to_f16((x + y) * 0.5f) << 16 * i;
    }
    return out;
}

/* Grid KV heads, 512 threads; a thread merges 8 numbers. */
KERNEL void radar_mean_unite(radar_cuda_unite t) {
    const uint4 *half = (const uint4 *)(t.summary + blockIdx.x * t.summary_stride);
    uint4 *whole = (uint4 *)(t.merged + blockIdx.x * t.merged_stride);
    const int width = t.D / 8;
    for (int level = 1; level <= t.levels; level++) {
        const int64_t begin = (int64_t)t.blocks[0] * 4 >> level,
                      end = (int64_t)t.blocks[1] * 4 >> level;
        if (level > 1) dev_block_sync(); /* the halves are written */
        for (int64_t i = begin * width + threadIdx.x; i < end * width; i += blockDim.x) {
            const uint4 *from = half + i / width * 2 * width + i % width;
            const uint4 a = from[0], b = from[width];
            whole[i] = uint4{mean_of_two(a.x, b.x), mean_of_two(a.y, b.y), mean_of_two(a.z, b.z),
                             mean_of_two(a.w, b.w)};
        }
        half = whole;
        whole += (int64_t)(t.segments >> level) * width;
    }
}

int radar_cuda_mean_unite(const radar_cuda_unite *t, radar_cuda_queue *queue) {
    return LAUNCH(radar_mean_unite, dim3((unsigned)t->kv_heads), dim3(512), 0, queue, *t);
}

/* ---- query ---- */

/* Grid n, 128 threads. */
KERNEL void radar_mean_query(float *out, const float *q, size_t q_stride, int D) {
    for (int d = (int)threadIdx.x; d < D; d += (int)blockDim.x)
        out[(size_t)blockIdx.x * (size_t)D + (size_t)d] = q[blockIdx.x * q_stride + (size_t)d];
}

int radar_cuda_mean_query(float *out, const float *q, size_t q_stride, int n, int D,
                          radar_cuda_queue *queue) {
    if (n < 1) return 0;
    return LAUNCH(radar_mean_query, dim3((unsigned)n), dim3(128), 0, queue, out, q, q_stride, D);
}

/* ---- score ---- */

/* Lane t's 16 bytes of each chunk of a row. */
template <int CHUNKS> DEV void load_row(uint4 *row, const uint16_t *mean, int D) {
    for (int c = 0; c < CHUNKS; c++) {
        const int d = SPLIT_CHUNK * c + 8 * (int)(dev_lane() % 4);
        row[c] = d < D ? dev_stream16(mean + d) : uint4{0, 0, 0, 0};
    }
}

/* Scores of 16 segments from `first` of n for the queries of the panel. */
template <int CHUNKS>
DEV void score_tile(const radar_cuda_score &t, const uint16_t *mean, int64_t first, int64_t n,
                    float *out, int n_query, const uint4 *panel, const float *factor, float scale,
                    float mass) {
    uint4 top[CHUNKS], bottom[CHUNKS];
    const int64_t g = first + dev_lane() / 4, last = n - 1;
    load_row<CHUNKS>(top, mean + (g < n ? g : last) * t.D, t.D);
    load_row<CHUNKS>(bottom, mean + (g + 8 < n ? g + 8 : last) * t.D, t.D);
    for (int tile = 0; tile * 8 < n_query; tile++) {
        float hi[4] = {0, 0, 0, 0}, lo[4] = {0, 0, 0, 0};
        for (int c = 0; c < CHUNKS; c++)
            if (c * SPLIT_CHUNK < t.D) /* the panel has no more */
                split_multiply<true>(hi, lo, top[c], bottom[c],
                                     panel + (tile * SPLIT_CHUNKS + c) * 64);
        for (int i = 0; i < 4; i++) {
            const int j = tile * 8 + 2 * (int)(dev_lane() % 4) + i % 2;
            const int64_t at = g + i / 2 * 8;
            if (j < n_query && at < n)
                out[(size_t)j * t.score_stride + (size_t)at] =
                    (hi[i] + lo[i]) * split_back(factor[j]) * scale + mass;
        }
    }
}

template <int CHUNKS> DEV void score_means(const radar_cuda_score &t, float scale, float mass) {
    SHARED(uint4, panel, SPLIT_PANEL);
    SHARED(float, factor, SPLIT_QUERIES);
    const int skip = (int)blockIdx.z * SPLIT_QUERIES;
    const int n_query = t.n_query - skip < SPLIT_QUERIES ? t.n_query - skip : SPLIT_QUERIES;
    const size_t first = (size_t)blockIdx.y * (size_t)t.n_query + (size_t)skip;
    const float *query = t.query + blockIdx.y * t.query_stride + (size_t)skip * (size_t)t.D;
    const int64_t begin = t.units[0], n = t.units[1] - begin;
    if ((int64_t)blockIdx.x * blockDim.x / 2 >= n) return; /* a warp of 32 has 16 segments */
    split_factors(factor, query, (size_t)t.D, n_query, t.D);
    dev_block_sync();
    split_stage<true, true>(panel, query, (size_t)t.D, n_query, t.D, factor);
    dev_block_sync();
    const uint16_t *mean =
        (const uint16_t *)(t.summary + blockIdx.y * t.summary_stride) + begin * t.D;
    for (int64_t at = ((int64_t)blockIdx.x * blockDim.x / 32 + dev_warp()) * 16; at < n;
         at += (int64_t)gridDim.x * blockDim.x / 2)
        score_tile<CHUNKS>(t, mean, at, n, t.score + first * t.score_stride, n_query, panel, factor,
                           scale, mass);
}

/* Grid (blocks, KV heads, 16 queries), 256 threads. */
KERNEL void radar_mean_score_64(radar_cuda_score t, float scale, float mass) {
    score_means<2>(t, scale, mass);
}
KERNEL void radar_mean_score_96(radar_cuda_score t, float scale, float mass) {
    score_means<3>(t, scale, mass);
}
KERNEL void radar_mean_score_128(radar_cuda_score t, float scale, float mass) {
    score_means<4>(t, scale, mass);
}
KERNEL void radar_mean_score_256(radar_cuda_score t, float scale, float mass) {
    score_means<8>(t, scale, mass);
}

int radar_cuda_mean_score(const radar_cuda_score *t, radar_cuda_queue *queue) {
    const auto kernel = t->D <= 64    ? radar_mean_score_64
                        : t->D <= 96  ? radar_mean_score_96
                        : t->D <= 128 ? radar_mean_score_128
                                      : radar_mean_score_256;
    const unsigned parts = (unsigned)(t->n_query + SPLIT_QUERIES - 1) / SPLIT_QUERIES;
    const unsigned heads = (unsigned)t->kv_heads;
    if (parts * heads == 0) return 0;
    const dim3 grid(radar_cuda_grid(((int64_t)t->most + 127) / 128, parts * heads), heads, parts);
    return LAUNCH(kernel, grid, dim3(256), 0, queue, *t, (float)(1 / std::sqrt((double)t->D)),
                  radar_cuda_log_tokens(t->unit));
}
