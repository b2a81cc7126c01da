/* exact - log-mass of segments by their keys.   score = ln sum over 16 tokens of exp(q . k / sqrt D)
 *
 * A warp per segment.  Lane 4 r + c has tokens 4 c .. 4 c + 3 of dimensions r, r + 8, ...: a load of the warp is 8 dimensions, up
 * to 512 bytes in a row.  Queries stand in shared memory as [D, Q], so that a lane finds those of its dimension side by side.
 * Sums of the 8 lanes of the same tokens meet in a tree in which each step halves the queries that a lane still sums: at the
 * end lane 4 r + c has query r's logits of its tokens, and their exponentials fold in the CPU's order.
 * Q = 4 or 8; what there is not of queries is zeros.  No result depends on Q, on the grid or on what is listed beside it.
 * Bytes: 16 D bytes(type) a segment, once for all queries; 2 D a query's products of a token keep pace with that up to 8. */
#include "kernels/cuda/exact.h"

#include <cmath>

#include "kernels/cuda/dev.h"
#include "kernels/cuda/scoring.h"
#include "kernels/cuda/vmath.h"

enum { EXACT_THREADS = 256, EXACT_WARPS = EXACT_THREADS / 32, EXACT_MOST_D = 256 };

/* ---- four neighbours of a row ---- */

template <radar_cuda_kv KV> struct four {
    static constexpr int WORDS = KV == RADAR_CUDA_KV_F32 ? 4 : KV == RADAR_CUDA_KV_FP8 ? 1 : 2;
    uint32_t word[WORDS];
};

template <radar_cuda_kv KV> DEV four<KV> load_four(const char *p) {
    four<KV> x;
    if constexpr (KV == RADAR_CUDA_KV_F32) {
        const uint4 v = dev_stream16(p);
        x.word[0] = v.x, x.word[1] = v.y, x.word[2] = v.z, x.word[3] = v.w;
    } else if constexpr (KV == RADAR_CUDA_KV_FP8) {
        x.word[0] = *reinterpret_cast<const uint32_t *>(p);
    } else {
        const uint2 v = dev_stream8(p);
        x.word[0] = v.x, x.word[1] = v.y;
    }
    return x;
}

template <radar_cuda_kv KV> DEV void widen(float out[4], const four<KV> &x) {
    if constexpr (KV == RADAR_CUDA_KV_FP8) {
        dev_e4m3x2_to_f32((uint16_t)x.word[0], out);
        dev_e4m3x2_to_f32((uint16_t)(x.word[0] >> 16), out + 2);
    } else if constexpr (KV == RADAR_CUDA_KV_F32) {
        for (int i = 0; i < 4; i++) out[i] = dev_float(x.word[i]);
    } else {
        for (int i = 0; i < 4; i++) {
            const uint16_t h = (uint16_t)(x.word[i / 2] >> 16 * (i % 2));
            out[i] = KV == RADAR_CUDA_KV_F16 ? dev_f16_to_f32(h) : dev_bf16_to_f32(h);
        }
    }
}

/* ---- logits ---- */

/* The lane's part of q . k of its tokens, over its dimensions ascending.  query: [D, Q]. */
template <radar_cuda_kv KV, int Q>
DEV void add_products(float s[Q][4], const char *tile, const float *query, int D) {
    constexpr int BYTES = 4 * four<KV>::WORDS, AHEAD = KV == RADAR_CUDA_KV_F32 ? 4 : 8;
    const float *own = query + dev_lane() / 4 * Q;
    const int rows = D / 8; /* of the warp's loads */
    for (int row = 0; row < rows; row += AHEAD) {
        four<KV> x[AHEAD] = {};
        for (int i = 0; i < AHEAD; i++)
            if (row + i < rows)
                x[i] = load_four<KV>(tile + ((row + i) * 32 + (int)dev_lane()) * BYTES);
        for (int i = 0; i < AHEAD; i++) {
            if (row + i >= rows) break;
            float k[4];
            widen<KV>(k, x[i]);
            for (int j = 0; j < Q; j += 4) {
                const float4 q = *reinterpret_cast<const float4 *>(own + (row + i) * 8 * Q + j);
                for (int t = 0; t < 4; t++) {
                    s[j][t] = dev_fma(q.x, k[t], s[j][t]);
                    s[j + 1][t] = dev_fma(q.y, k[t], s[j + 1][t]);
                    s[j + 2][t] = dev_fma(q.z, k[t], s[j + 2][t]);
                    s[j + 3][t] = dev_fma(q.w, k[t], s[j + 3][t]);
                }
            }
        }
    }
}

/* Lanes that differ by N add theirs up: each for one half of the queries, or, of one, both. */
template <int HALF, int N> DEV void fold_once(float (*s)[4]) {
    const bool upper = dev_lane() & N;
    for (int t = 0; t < 4; t++) {
        if (HALF == 0) s[0][t] += dev_shuffle_xor(s[0][t], N);
        for (int j = 0; j < HALF; j++) {
            const float given = dev_shuffle_xor(upper ? s[j][t] : s[j + HALF][t], N);
            s[j][t] = (upper ? s[j + HALF][t] : s[j][t]) + given;
        }
    }
}

/* Sums over the lanes of the same tokens: s[0] becomes those of query lane / (32 / Q). */
template <int Q> DEV void fold_queries(float (*s)[4]) {
    fold_once<Q / 2, 16>(s);
    fold_once<Q / 4, 8>(s);
    fold_once<Q / 8, 4>(s);
}

DEV float greater(float a, float b) { return a > b ? a : b; }

/* ln sum exp of 16 logits, 4 in each of 4 neighbouring lanes. */
DEV float log_sum(const float s[4]) {
    float m = greater(greater(s[0], s[2]), greater(s[1], s[3])), e[4];
    for (int n = 2; n; n /= 2) m = greater(m, dev_shuffle_xor(m, n));
    for (int t = 0; t < 4; t++) e[t] = exp_as_cpu(s[t] - m);
    float sum = (e[0] + e[2]) + (e[1] + e[3]);
    for (int n = 2; n; n /= 2) sum += dev_shuffle_xor(sum, n);
    return m + ln_as_cpu(sum);
}

/* ---- kernels ---- */

template <radar_cuda_kv KV, int Q>
DEV float score_segment(const radar_cuda_exact_task &t, int32_t segment, const float *query, int D,
                        float scale) {
    constexpr size_t BYTES = 16 * four<KV>::WORDS; /* of a dimension */
    const char *tile = static_cast<const char *>(t.k) + (size_t)segment * (size_t)D * BYTES;
    float s[Q][4] = {};
    add_products<KV, Q>(s, tile, query, D);
    fold_queries<Q>(s);
    for (int i = 0; i < 4; i++) {
        if (KV == RADAR_CUDA_KV_FP8)
            s[0][i] *= t.k_scale[(size_t)segment * 16 + dev_lane() % 4 * 4 + (unsigned)i];
        s[0][i] *= scale;
    }
    return log_sum(s[0]);
}

template <radar_cuda_kv KV, int Q>
DEV void score_exactly(const radar_cuda_exact_args &a, float scale) {
    SHARED(float, query, EXACT_MOST_D *Q);
    const radar_cuda_exact_task t = a.task[blockIdx.x];
    const int32_t n = t.list ? *t.n_listed : t.segment_end - t.segment_begin;
    const int j = (int)dev_lane() / (32 / Q);
    if ((int32_t)blockIdx.y * EXACT_WARPS >= n) return;
    for (int i = (int)threadIdx.x; i < a.D * Q; i += EXACT_THREADS)
        query[i] = i % Q < t.n_query ? t.query[i % Q * a.D + i / Q] : 0;
    dev_block_sync();
    for (int32_t i = (int32_t)(blockIdx.y * EXACT_WARPS + dev_warp()); i < n;
         i += (int32_t)gridDim.y * EXACT_WARPS) {
        const int32_t segment = t.list ? t.list[i] : t.segment_begin + i;
        const float score = score_segment<KV, Q>(t, segment, query, a.D, scale);
        if (dev_lane() % (32 / Q) == 0 && j < t.n_query)
            t.score[(size_t)j * t.score_stride + (size_t)(segment - t.segment_begin)] = score;
    }
}

/* Grid (tasks, blocks), EXACT_THREADS threads. */
#define EXACT_KERNEL(name, KV, Q) \
    KERNEL void __launch_bounds__(EXACT_THREADS, 2) name(radar_cuda_exact_args a, float scale) { \
        score_exactly<KV, Q>(a, scale); \
    }
EXACT_KERNEL(radar_exact_f16_4, RADAR_CUDA_KV_F16, 4)
EXACT_KERNEL(radar_exact_f16_8, RADAR_CUDA_KV_F16, 8)
EXACT_KERNEL(radar_exact_bf16_4, RADAR_CUDA_KV_BF16, 4)
EXACT_KERNEL(radar_exact_bf16_8, RADAR_CUDA_KV_BF16, 8)
EXACT_KERNEL(radar_exact_fp8_4, RADAR_CUDA_KV_FP8, 4)
EXACT_KERNEL(radar_exact_fp8_8, RADAR_CUDA_KV_FP8, 8)
EXACT_KERNEL(radar_exact_f32_4, RADAR_CUDA_KV_F32, 4)
EXACT_KERNEL(radar_exact_f32_8, RADAR_CUDA_KV_F32, 8)

int radar_cuda_exact_score(const radar_cuda_exact_args *a, radar_cuda_queue *queue) {
    static void (*const kernels[][2])(radar_cuda_exact_args, float) = {
        /* in the order of radar_cuda_kv */
        {radar_exact_f16_4, radar_exact_f16_8},
        {radar_exact_bf16_4, radar_exact_bf16_8},
        {radar_exact_fp8_4, radar_exact_fp8_8},
        {radar_exact_f32_4, radar_exact_f32_8},
    };
    const auto kernel = kernels[a->type][a->most_queries > 4];
    const int64_t blocks = ((int64_t)a->most + EXACT_WARPS - 1) / EXACT_WARPS;
    if (a->n_tasks < 1) return 0;
    if (a->D % 16 || a->D > EXACT_MOST_D || a->most_queries > RADAR_CUDA_EXACT_QUERIES)
        return (int)cudaErrorInvalidValue;
    return (int)LAUNCH(kernel, dim3((unsigned)a->n_tasks, radar_cuda_grid(blocks, a->n_tasks)),
                       dim3(EXACT_THREADS), 0, queue, *a, (float)(1 / std::sqrt((double)a->D)));
}
