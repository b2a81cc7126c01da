/* rf - mean random features of segments, and the logarithm of their product with a query's.
 *   a_i = w_i . u' - |u'|^2 / 2,  u' = u D^(-1/4);  b_i = -w_i . u' - |u'|^2 / 2;   phi = exp(a - lambda), and exp(b - lambda) in pairs
 *   score = ln c + q . mu / sqrt D + (lambda_j + lambda_q + ln(phi(q) . phi_j)) / b
 * Layouts are those of kernels/cpu/rf.h.  A segment's bytes are a multiple of 4, not of 16, so rows are read 4 bytes a lane.
 *
 * centers   a thread per (block of keys, d): the mean of 64 keys, rounded to f16, into its four segments
 * project   w . u' of 64 keys, or 16 queries, by 64 directions a block: slices of 64 dimensions through shared memory, 4 x 4 (1 x 4)
 *           sums a thread.  Sums run over d ascending, products and sums rounded apart, as on the CPU: the same bits, at two
 *           instructions a product.  Results go through scratch that stays in L2: 4 n bytes a key.
 * features  a block per segment.  A warp finds the largest exponent of a key; those of the keys up to it give its lambda; then a
 *           thread has a feature and adds the 16 keys in order, what is there faded when lambda rises.
 * prepare   a block per query: the same for one row.
 * unite     a block per KV head, a barrier between levels, as in mean.cu.
 * score     a warp per 16 segments on tensor cores (split.h), 8 warps a block.  Strips of 256 features of the queries are staged for
 *           all warps; a strip's products are added up on their own and then rounded into the sum, since tensor cores cut off
 *           what they add.  Reads 2 Fp bytes a segment once for 16 queries: memory bound.
 * No result depends on the grid. */
#include "kernels/cuda/rf.h"

#include <cmath>

#include "kernels/cuda/dev.h"
#include "kernels/cuda/keys.h"
#include "kernels/cuda/split.h"
#include "kernels/cuda/vmath.h"

DEV float minus_infinity() { return dev_float(0xff800000u); }
DEV float greater(float a, float b) { return b > a ? b : a; }

/* Numbers of 4 bytes in a segment: features, lambda, mu. */
DEV int segment_words(const radar_cuda_rf &x) { return x.Fp / 2 + 1 + (x.center ? x.D / 2 : 0); }
DEV int query_floats(const radar_cuda_rf &x) { return 4 + x.Fp + (x.center ? x.D : 0); }

/* ---- centers ---- */

/* Where the mu of a block's segment stands. */
DEV uint16_t *mu_of(const radar_cuda_rf &x, char *summary, int64_t segment) {
    return (uint16_t *)(summary + (segment * segment_words(x) + x.Fp / 2 + 1) * 4);
}

/* Grid (most, KV heads), 128 threads. */
KERNEL void radar_rf_centers(radar_cuda_rf x, radar_cuda_seal t) {
    const head_keys keys = keys_of(t, blockIdx.y);
    char *summary = t.summary + blockIdx.y * t.summary_stride;
    const int64_t block = (int64_t)t.blocks[0] + blockIdx.x;
    if (block >= t.blocks[1]) return;
    for (int d = (int)threadIdx.x; d < t.D; d += (int)blockDim.x) {
        float sum = 0;
        for (int s = 0; s < 4; s++) {
            float key[16];
            key_row(key, keys, block * 4 + s, d);
            for (int i = 0; i < 16; i++) sum = dev_add(sum, key[i]);
        }
        for (int s = 0; s < 4; s++)
            mu_of(x, summary, block * 4 + s)[d] = dev_f32_to_f16(sum * (1.0f / 64));
    }
}

/* ---- project ---- */

enum { PROJECT_THREADS = 256, PROJECT_COLUMNS = 64, PROJECT_DEPTH = 64 };

/* u' of a block of keys, less mu where there is one. */
struct key_rows {
    head_keys keys;
    int64_t block;
    const uint16_t *mu;
    float root;
    __device__ __forceinline__ float at(int j, int d) const {
        float k = key_at(keys, block * 4 + j / 16, d, j % 16);
        if (mu) k = dev_add(k, -dev_f16_to_f32(mu[d]));
        return dev_mul(k, root);
    }
};

/* u' of queries times b; zeros after the last. */
struct query_rows {
    const float *q;
    size_t stride;
    int n;
    float temper, root;
    __device__ __forceinline__ float at(int j, int d) const {
        return j < n ? dev_mul(dev_mul(q[(size_t)j * stride + (size_t)d], temper), root) : 0.0f;
    }
};

/* out [R, n] := w . u' of 64 directions from 64 blockIdx.x on, half [R] := |u'|^2 / 2. */
template <int R, class Rows>
DEV void project(const radar_cuda_rf &x, const Rows &rows, float *out, float *half) {
    SHARED(float, u, PROJECT_DEPTH *R);
    SHARED(float, w, PROJECT_DEPTH *PROJECT_COLUMNS);
    const int thread = (int)threadIdx.x, begin = (int)blockIdx.x * PROJECT_COLUMNS;
    const int row = thread / 16, column = thread % 16;
    float sum[R / 16][4] = {}, square = 0;
    for (int d0 = 0; d0 < x.D; d0 += PROJECT_DEPTH) {
        const int depth = x.D - d0 < PROJECT_DEPTH ? x.D - d0 : PROJECT_DEPTH;
        dev_block_sync(); /* the slice before is done with */
        for (int i = thread; i < depth * R; i += PROJECT_THREADS) u[i] = rows.at(i % R, d0 + i / R);
        for (int i = thread; i < depth * PROJECT_COLUMNS; i += PROJECT_THREADS) {
            const int c = begin + i % PROJECT_COLUMNS, d = d0 + i / PROJECT_COLUMNS;
            w[i] = c < x.n ? x.omega[(size_t)d * (size_t)x.n + (size_t)c] : 0.0f;
        }
        dev_block_sync();
        for (int d = 0; d < depth; d++)
            for (int r = 0; r < R / 16; r++)
                for (int c = 0; c < 4; c++)
                    sum[r][c] = dev_add(sum[r][c], dev_mul(w[d * PROJECT_COLUMNS + column + 16 * c],
                                                           u[d * R + row + 16 * r]));
        for (int d = 0; d < depth && thread < R; d++)
            square = dev_add(square, dev_mul(u[d * R + thread], u[d * R + thread]));
    }
    for (int r = 0; r < R / 16; r++)
        for (int c = 0; c < 4; c++)
            if (begin + column + 16 * c < x.n)
                out[(size_t)(row + 16 * r) * (size_t)x.n + (size_t)(begin + column + 16 * c)] =
                    sum[r][c];
    if (blockIdx.x == 0 && thread < R) half[thread] = square / 2;
}

/* Grid (n / 64, most, KV heads), 256 threads. */
KERNEL void radar_rf_project_keys(radar_cuda_rf x, radar_cuda_seal t, float root, float *out,
                                  float *half) {
    const int64_t block = (int64_t)t.blocks[0] + blockIdx.y;
    if (block >= t.blocks[1]) return;
    const size_t row = ((size_t)blockIdx.z * (size_t)t.most + blockIdx.y) * 64;
    char *summary = t.summary + blockIdx.z * t.summary_stride;
    const key_rows rows = {keys_of(t, blockIdx.z), block,
                           x.center ? mu_of(x, summary, block * 4) : nullptr, root};
    project<64>(x, rows, out + row * (size_t)x.n, half + row);
}

/* Grid (n / 64, queries / 16), 256 threads; scratch has rows for 16 queries each. */
KERNEL void radar_rf_project_queries(radar_cuda_rf x, const float *q, size_t q_stride, int n,
                                     float root, float *out, float *half) {
    const int first = (int)blockIdx.y * 16;
    const query_rows rows = {q + (size_t)first * q_stride, q_stride, n - first, x.temper, root};
    project<16>(x, rows, out + (size_t)first * (size_t)x.n, half + first);
}

/* ---- features ---- */

/* Exponent f of a row of products. */
DEV float exponent(const radar_cuda_rf &x, const float *a, float half, int f) {
    return dev_add(f < x.n ? a[f] : -a[f - x.n], -half);
}

DEV float fold_max(float m) {
    for (int i = 16; i; i /= 2) m = greater(m, dev_shuffle_xor(m, i));
    return m;
}

/* Grid (4 most, KV heads), 256 threads. */
KERNEL void radar_rf_features(radar_cuda_rf x, radar_cuda_seal t, const float *a,
                              const float *half) {
    SHARED(float, peak, 16);
    SHARED(float, lambda, 16);
    SHARED(float, fade, 16);
    const int64_t segment = (int64_t)t.blocks[0] * 4 + blockIdx.x;
    const size_t row = (size_t)blockIdx.y * (size_t)t.most * 64 + blockIdx.x * 16;
    if (segment >= (int64_t)t.blocks[1] * 4) return;
    a += row * (size_t)x.n;
    half += row;
    for (int j = (int)dev_warp(); j < 16; j += 8) {
        float m = minus_infinity();
        for (int f = (int)dev_lane(); f < x.F; f += 32)
            m = greater(m, exponent(x, a + (size_t)j * (size_t)x.n, half[j], f));
        m = fold_max(m);
        if (dev_lane() == 0) peak[j] = m;
    }
    dev_block_sync();
    if (threadIdx.x < 16) {
        float before = minus_infinity();
        for (unsigned j = 0; j < threadIdx.x; j++) before = greater(before, peak[j]);
        const float now = greater(before, peak[threadIdx.x]);
        lambda[threadIdx.x] = now;
        fade[threadIdx.x] = exp_as_cpu(before - now);
    }
    dev_block_sync();
    char *summary = t.summary + blockIdx.y * t.summary_stride + segment * segment_words(x) * 4;
    for (int f = (int)threadIdx.x; f < x.Fp; f += (int)blockDim.x) {
        float sum = 0;
        for (int j = 0; j < 16 && f < x.F; j++) {
            const float e = exponent(x, a + (size_t)j * (size_t)x.n, half[j], f);
            sum = dev_add(dev_mul(sum, fade[j]), exp_as_cpu(dev_add(e, -lambda[j])));
        }
        ((uint16_t *)summary)[f] = dev_f32_to_bf16(sum * (1.0f / 16));
    }
    if (threadIdx.x == 0) ((float *)summary)[x.Fp / 2] = lambda[15] + x.log_weight;
}

static float fourth_root_of(int D) { return (float)(1 / std::sqrt(std::sqrt((double)D))); }

int radar_cuda_rf_seal(const radar_cuda_rf *x, const radar_cuda_seal *t, float *work,
                       radar_cuda_queue *queue) {
    const unsigned most = (unsigned)t->most, heads = (unsigned)t->kv_heads;
    const unsigned columns = (unsigned)(x->n + PROJECT_COLUMNS - 1) / PROJECT_COLUMNS;
    float *half = work + (size_t)heads * most * 64 * (size_t)x->n;
    int bad = 0;
    if (most * heads == 0) return 0;
    if (x->center) bad = LAUNCH(radar_rf_centers, dim3(most, heads), dim3(128), 0, queue, *x, *t);
    if (!bad)
        bad = LAUNCH(radar_rf_project_keys, dim3(columns, most, heads), dim3(PROJECT_THREADS), 0,
                     queue, *x, *t, fourth_root_of(x->D), work, half);
    if (bad) return bad;
    return LAUNCH(radar_rf_features, dim3(4 * most, heads), dim3(256), 0, queue, *x, *t, work,
                  half);
}

/* ---- prepare ---- */

/* Grid n, 256 threads. */
KERNEL void radar_rf_prepare(radar_cuda_rf x, float *out, const float *q, size_t q_stride,
                             float scale, const float *a, const float *half) {
    SHARED(float, peak, 8);
    const float h = half[blockIdx.x];
    float m = minus_infinity();
    a += blockIdx.x * (size_t)x.n;
    q += blockIdx.x * q_stride;
    out += blockIdx.x * (size_t)query_floats(x);
    for (int f = (int)threadIdx.x; f < x.F; f += (int)blockDim.x)
        m = greater(m, exponent(x, a, h, f));
    m = fold_max(m);
    if (dev_lane() == 0) peak[dev_warp()] = m;
    dev_block_sync();
    for (int w = 0; w < 8; w++) m = greater(m, peak[w]);
    for (int f = (int)threadIdx.x; f < x.Fp; f += (int)blockDim.x)
        out[4 + f] = f < x.F ? exp_as_cpu(dev_add(exponent(x, a, h, f), -m)) : 0.0f;
    if (threadIdx.x < 4)
        out[threadIdx.x] = threadIdx.x ? 0.0f : dev_mul(dev_add(m, x.log_weight), x.cool);
    for (int d = (int)threadIdx.x; d < x.D && x.center; d += (int)blockDim.x)
        out[4 + x.Fp + d] = q[d] * scale;
}

int radar_cuda_rf_query(const radar_cuda_rf *x, float *out, const float *q, size_t q_stride, int n,
                        float *work, radar_cuda_queue *queue) {
    const unsigned columns = (unsigned)(x->n + PROJECT_COLUMNS - 1) / PROJECT_COLUMNS;
    const unsigned parts = (unsigned)(n + 15) / 16;
    float *half = work + (size_t)parts * 16 * (size_t)x->n;
    if (n < 1) return 0;
    const int bad = LAUNCH(radar_rf_project_queries, dim3(columns, parts), dim3(PROJECT_THREADS), 0,
                           queue, *x, q, q_stride, n, fourth_root_of(x->D), work, half);
    if (bad) return bad;
    return LAUNCH(radar_rf_prepare, dim3((unsigned)n), dim3(256), 0, queue, *x, out, q, q_stride,
                  (float)(1 / std::sqrt((double)x->D)), work, half);
}

/* ---- unite ---- */

DEV uint32_t faded_sum(uint32_t a, uint32_t b, float wa, float wb) {
    uint32_t out = 0;
    for (int i = 0; i < 2; i++) {
        const float p = dev_bf16_to_f32((uint16_t)(a >> 16 * i)),
                    r = dev_bf16_to_f32((uint16_t)(b >> 16 * i));
        out |= (uint32_t)dev_f32_to_bf16(dev_add(dev_mul(wa, p), dev_mul(wb, r))) << 16 * i;
    }
    return out;
}

/* Word i of two segments merged. */
DEV uint32_t merged_word(const radar_cuda_rf &x, const uint32_t *a, const uint32_t *b, int i) {
    const float la = dev_float(a[x.Fp / 2]), lb = dev_float(b[x.Fp / 2]),
                lambda = la > lb ? la : lb;
    if (i > x.Fp / 2) return a[i];
    if (i == x.Fp / 2) return dev_bits(lambda);
    return faded_sum(a[i], b[i], exp_as_cpu(la - lambda) * 0.5f, exp_as_cpu(lb - lambda) * 0.5f);
}

/* Grid KV heads, 1024 threads. */
KERNEL void radar_rf_unite(radar_cuda_rf x, radar_cuda_unite t) {
    const uint32_t *half = (const uint32_t *)(t.summary + blockIdx.x * t.summary_stride);
    uint32_t *whole = (uint32_t *)(t.merged + blockIdx.x * t.merged_stride);
    const int64_t words = segment_words(x);
    for (int level = 1; level <= t.levels; level++) {
        const int64_t begin = (int64_t)t.blocks[0] * 4 >> level,
                      end = (int64_t)t.blocks[1] * 4 >> level;
        if (level > 1) dev_block_sync(); /* the halves are written */
        for (int64_t i = begin * words + threadIdx.x; i < end * words; i += blockDim.x) {
            const uint32_t *a = half + i / words * 2 * words;
            whole[i] = merged_word(x, a, a + words, (int)(i % words));
        }
        half = whole;
        whole += (int64_t)(t.segments >> level) * words;
    }
}

int radar_cuda_rf_unite(const radar_cuda_rf *x, const radar_cuda_unite *t,
                        radar_cuda_queue *queue) {
    return LAUNCH(radar_rf_unite, dim3((unsigned)t->kv_heads), dim3(1024), 0, queue, *x, *t);
}

/* ---- score ---- */

enum { SCORE_THREADS = 256, SCORE_SEGMENTS = SCORE_THREADS / 2, SCORE_AHEAD = 4 };

/* A chunk of a row of `size` numbers, lane t's pairs 2 t + 8 p; zeros behind the end. */
DEV uint4 load_chunk(const uint32_t *row, int chunk, int size) {
    uint32_t word[4];
    for (int p = 0; p < 4; p++) {
        const int i = chunk * (SPLIT_CHUNK / 2) + (int)(dev_lane() % 4) + 4 * p;
        word[p] = 2 * i < size ? row[i] : 0;
    }
    return uint4{word[0], word[1], word[2], word[3]};
}

/* sum += `size` numbers of rows g and g + 8 times those of the panel. */
template <bool F16, int TILES>
DEV void add_strip(float (*sum)[4], const uint32_t *top, const uint32_t *bottom, int size,
                   const uint4 *panel) {
    const int chunks = (size + SPLIT_CHUNK - 1) / SPLIT_CHUNK;
    float hi[TILES][4] = {}, lo[TILES][4] = {};
    for (int c = 0; c < chunks; c += SCORE_AHEAD) {
        uint4 a[SCORE_AHEAD], b[SCORE_AHEAD];
        for (int i = 0; i < SCORE_AHEAD; i++) {
            a[i] = load_chunk(top, c + i, size);
            b[i] = load_chunk(bottom, c + i, size);
        }
        for (int i = 0; i < SCORE_AHEAD; i++)
            for (int tile = 0; tile < TILES && c + i < chunks; tile++)
                split_multiply<F16>(hi[tile], lo[tile], a[i], b[i],
                                    panel + (tile * SPLIT_CHUNKS + c + i) * 64);
    }
    for (int tile = 0; tile < TILES; tile++)
        for (int i = 0; i < 4; i++) sum[tile][i] += hi[tile][i] + lo[tile][i];
}

/* What a block scores with: queries [n] of its KV head, in shared memory a panel of them and their factors. */
struct rf_queries {
    const float *query;
    int n;
    uint4 *panel;
    const float *factor;
};

/* Scores of this warp's 16 rows, of which g and g + 8 are this lane's, for the queries of a tile. */
DEV void finish(const radar_cuda_rf &x, const rf_queries &q, int tile, const float phi[4],
                const float mu[4], const float lambda[2], float mass, float *out, size_t stride,
                const bool valid[2]) {
    for (int i = 0; i < 4; i++) {
        const int j = tile * 8 + 2 * (int)(dev_lane() % 4) + i % 2;
        if (j >= q.n || !valid[i / 2]) continue;
        const float head = q.query[(size_t)j * (size_t)query_floats(x)] + mass;
        const float logarithm = dev_add(ln_as_cpu(phi[i]), lambda[i / 2]);
        float score = dev_add(dev_mul(logarithm, x.cool), head);
        if (x.center) score += mu[i] * split_back(q.factor[j]);
        out[(size_t)j * stride + (size_t)(i / 2 * 8)] = score;
    }
}

/* 16 rows a warp from row `first` of n on; the block stages strips together. */
template <int TILES>
DEV void score_rows(const radar_cuda_rf &x, const radar_cuda_score &t, const rf_queries &q,
                    const uint32_t *rows, int64_t first, int64_t n, float *out, float mass) {
    const int64_t g = first + dev_warp() * 16 + dev_lane() / 4;
    const uint32_t *top = rows + (g < n ? g : n - 1) * segment_words(x);
    const uint32_t *bottom = rows + (g + 8 < n ? g + 8 : n - 1) * segment_words(x);
    const size_t stride = (size_t)query_floats(x);
    float phi[TILES][4] = {}, mu[TILES][4] = {};
    for (int f = 0; f < x.Fp; f += SPLIT_NUMBERS) {
        const int size = x.Fp - f < SPLIT_NUMBERS ? x.Fp - f : SPLIT_NUMBERS;
        dev_block_sync(); /* the strip before is done with */
        split_stage<false, false>(q.panel, q.query + 4 + f, stride, q.n, size, nullptr);
        dev_block_sync();
        add_strip<false, TILES>(phi, top + f / 2, bottom + f / 2, size, q.panel);
    }
    if (x.center) {
        dev_block_sync();
        split_stage<true, false>(q.panel, q.query + 4 + x.Fp, stride, q.n, x.D, q.factor);
        dev_block_sync();
        add_strip<true, TILES>(mu, top + x.Fp / 2 + 1, bottom + x.Fp / 2 + 1, x.D, q.panel);
    }
    const float lambda[2] = {dev_float(top[x.Fp / 2]), dev_float(bottom[x.Fp / 2])};
    const bool valid[2] = {g < n, g + 8 < n};
    finish(x, q, 0, phi[0], mu[0], lambda, mass, out + g, t.score_stride, valid);
    if (TILES == 2)
        finish(x, q, 1, phi[TILES - 1], mu[TILES - 1], lambda, mass, out + g, t.score_stride,
               valid);
}

template <int TILES>
DEV void score_features(const radar_cuda_rf &x, const radar_cuda_score &t, float mass) {
    SHARED(uint4, panel, SPLIT_PANEL);
    SHARED(float, factor, SPLIT_QUERIES);
    const int skip = (int)blockIdx.z * TILES * 8;
    const size_t first = (size_t)blockIdx.y * (size_t)t.n_query + (size_t)skip;
    const float *query =
        t.query + blockIdx.y * t.query_stride + (size_t)skip * (size_t)query_floats(x);
    const rf_queries q = {query, t.n_query - skip < TILES * 8 ? t.n_query - skip : TILES * 8, panel,
                          factor};
    const int64_t begin = t.units[0], n = t.units[1] - begin;
    const uint32_t *rows =
        (const uint32_t *)(t.summary + blockIdx.y * t.summary_stride) + begin * segment_words(x);
    if (x.center) /* the barriers of the first strip come before its use */
        split_factors(factor, query + 4 + x.Fp, (size_t)query_floats(x), q.n, x.D);
    for (int64_t at = (int64_t)blockIdx.x * SCORE_SEGMENTS; at < n;
         at += (int64_t)gridDim.x * SCORE_SEGMENTS)
        score_rows<TILES>(x, t, q, rows, at, n, t.score + first * t.score_stride, mass);
}

/* Grid (blocks, KV heads, 8 or 16 queries), 256 threads. */
KERNEL void radar_rf_score_8(radar_cuda_rf x, radar_cuda_score t, float mass) {
    score_features<1>(x, t, mass);
}
KERNEL void radar_rf_score_16(radar_cuda_rf x, radar_cuda_score t, float mass) {
    score_features<2>(x, t, mass);
}

int radar_cuda_rf_score(const radar_cuda_rf *x, const radar_cuda_score *t,
                        radar_cuda_queue *queue) {
    const int each = t->n_query <= 8 ? 8 : 16;
    const unsigned parts = (unsigned)((t->n_query + each - 1) / each),
                   heads = (unsigned)t->kv_heads;
    if (parts * heads == 0) return 0;
    const int64_t blocks = ((int64_t)t->most + SCORE_SEGMENTS - 1) / SCORE_SEGMENTS;
    const auto kernel = each == 8 ? radar_rf_score_8 : radar_rf_score_16;
    return LAUNCH(kernel, dim3(radar_cuda_grid(blocks, parts * heads), heads, parts),
                  dim3(SCORE_THREADS), 0, queue, *x, *t, radar_cuda_log_tokens(t->unit));
}
