/* attend_block.cu - attention of many queries to a list, attend.h, for prefill: rows of a prompt that share what they read.
 *
 * Grid (1, tiles, tasks); a tile is 64 queries, 4 warps of 16, m16n8k16 with f32 sums.  All warps go through the whole list, 2 segments
 * at a time, in two buffers that cp.async fills one ahead of the other; each query keeps one online softmax, so its bits follow from
 * its list alone.  What no query of the block sees is not read; a warp whose queries see nothing of it does not multiply.
 *
 *   logits  [queries, tokens] = q [queries, D] k [D, tokens];      output [queries, d] += weights [queries, tokens] v [tokens, d]
 * with the slots of attend.cu, but rows g and g + 8 are two queries: q and the weights, rounded to f16 (bf16), and what that left
 * over come one after the other into the same sums.  A lane has tokens 4t .. 4t + 3 of a segment of queries g and g + 8.
 *
 * Shared memory: queries 32 KB, segments 2 buffers of 17 KB (D 128, f16): 3 blocks on an SM.  A step of 16 dimensions or tokens reads 1 KB
 * of queries for 8 products, and 512 bytes of a segment for 4: as long as its products take.  attend.cu, which has 8 queries in a
 * product, reads twice that. */
#include "kernels/cuda/attend_segment.h"

namespace {

constexpr int BLOCK_WARPS = 4, WARP_QUERIES = 16, BLOCK_QUERIES = BLOCK_WARPS * WARP_QUERIES;
constexpr int STEP = 2; /* segments */

/* Of a query, in shared memory: kept by the lanes, it would take registers from the sums. */
struct query {
    int64_t position; /* below 0: there is none */
    float factor;     /* of logits */
};

/* What a lane has summed for its queries g and g + 8. */
template <int D> struct pair_state {
    float m[2], l[2];  /* l: of the lane's own tokens */
    uint32_t unit[2];  /* fp8: exponent in which o counts */
    float o[D / 8][4]; /* [0], [1]: of query g */
};

/* Weights, or logits, of a lane: [segment][query][token]. */
typedef float pair_tokens[STEP][2][4];

/* ---- queries ---- */

/* The exponent field of a query's largest number, kept from where powers of two end. */
template <int D> DEV uint32_t exponent_of(const float *q, bool valid) {
    uint32_t most = 27u << 23;
    for (int d = (int)dev_lane() % 4; d < D; d += 4) {
        const uint32_t size = valid ? dev_bits(q[d]) & 0x7fffffffu : 0;
        most = size > most ? size : most;
    }
    most = most_of_query(most);
    return most >> 23 < 227 ? most >> 23 : 227;
}

/* Queries g and g + 8 as the tensor cores take them, [D / 16][hi, lo][32 lanes], each times a power of two that brings it near 1, which
 * its factor takes back.  A lane reads only what it has written itself. */
template <radar_cuda_kv KV, int D>
DEV void prepare_pair(uint4 *to, float factor[2], const float *const q[2], const bool valid[2],
                      float scale) {
    const int t = (int)dev_lane() % 4;
    float down[2];
    for (int h = 0; h < 2; h++) {
        const uint32_t exponent = exponent_of<D>(q[h], valid[h]);
        down[h] = dev_float((254 - exponent) << 23);
        factor[h] = scale * dev_float(exponent << 23);
    }
    for (int j = 0; j < D / 16; j++) {
        uint32_t hi[4], lo[4];
        for (int i = 0; i < 4; i++) { /* registers of a: query g, g + 8; then the other slots */
            const int h = i % 2, d = 16 * j + i / 2 * 8 + t;
            cleave<KV>(hi[i], lo[i], valid[h] ? q[h][d] * down[h] : 0.0f,
                       valid[h] ? q[h][d + 4] * down[h] : 0.0f);
        }
        to[2 * j * 32 + (int)dev_lane()] = uint4{hi[0], hi[1], hi[2], hi[3]};
        to[(2 * j + 1) * 32 + (int)dev_lane()] = uint4{lo[0], lo[1], lo[2], lo[3]};
    }
}

/* ---- one step ---- */

template <radar_cuda_kv KV, int D>
DEV void logits_of_pair(pair_tokens s, const unsigned char *segment, const uint4 *q) {
    using L = layout<KV, D>;
    const int g = (int)dev_lane() / 4, t = (int)dev_lane() % 4;
    float sum[STEP][2][4] = {}; /* even, odd tokens */
#pragma unroll 1
    for (int j = 0; j < D / 16; j++) {
        const uint4 h = q[2 * j * 32 + (int)dev_lane()], l = q[(2 * j + 1) * 32 + (int)dev_lane()];
        const uint32_t hi[4] = {h.x, h.y, h.z, h.w}, lo[4] = {l.x, l.y, l.z, l.w};
#pragma unroll
        for (int i = 0; i < STEP; i++) {
            const unsigned char *row =
                segment + i * L::BYTES + (16 * j + t) * L::KEY_ROW + 2 * g * L::NUMBER;
            uint32_t b[2][2];
            weave<KV>(b[0][0], b[1][0], row, row + 4 * L::KEY_ROW);
            weave<KV>(b[0][1], b[1][1], row + 8 * L::KEY_ROW, row + 12 * L::KEY_ROW);
            for (int odd = 0; odd < 2; odd++) multiply<KV>(sum[i][odd], hi, b[odd]);
            for (int odd = 0; odd < 2; odd++) multiply<KV>(sum[i][odd], lo, b[odd]);
        }
    }
    for (int i = 0; i < STEP; i++)
        for (int h = 0; h < 2; h++)
            for (int c = 0; c < 4; c++) s[i][h][c] = sum[i][c % 2][2 * h + c / 2];
}

/* fp8: weights of query h carry their values' scales from here on; returns by how much o fades. */
template <int D>
DEV float scale_weights(pair_state<D> &q, int h, pair_tokens p, const uint32_t mask[STEP][2],
                        const float *const value_scale[STEP]) {
    uint32_t unit = q.unit[h];
    for (int i = 0; i < STEP; i++)
        for (int c = 0; c < 4; c++) {
            const uint32_t exponent =
                mask[i][h] >> c & 1 ? dev_bits(value_scale[i][c]) >> 23 & 0xff : 0;
            unit = exponent > unit ? exponent : unit;
        }
    unit = most_of_query(unit < 253 ? unit : 253);
    const float inverse = dev_float((254 - unit) << 23);
    for (int i = 0; i < STEP; i++)
        for (int c = 0; c < 4; c++)
            p[i][h][c] = mask[i][h] >> c & 1 ? p[i][h][c] * (value_scale[i][c] * inverse) : 0.0f;
    const uint32_t up = unit - q.unit[h];
    q.unit[h] = unit;
    return up < 127 ? dev_float((127 - up) << 23) : 0.0f;
}

/* Logits of tokens `mask` become weights of their values; m, l and unit follow, and o fades. */
template <radar_cuda_kv KV, int D>
DEV void soften_pair(pair_state<D> &q, pair_tokens p, const uint32_t mask[STEP][2],
                     const query *own, const float *const value_scale[STEP]) {
    float fade[2];
    for (int h = 0; h < 2; h++) {
        const float factor = own[8 * h].factor;
        float top = q.m[h], sum = 0;
        for (int i = 0; i < STEP; i++)
            for (int c = 0; c < 4; c++) {
                p[i][h][c] = mask[i][h] >> c & 1 ? p[i][h][c] * factor : -INFINITY;
                top = p[i][h][c] > top ? p[i][h][c] : top;
            }
        top = most_of_query(top);
        const float base = top == -INFINITY ? 0.0f : top; /* no key yet: exp(-inf) = 0 */
        for (int i = 0; i < STEP; i++) {
            for (int c = 0; c < 4; c++) p[i][h][c] = dev_exp2((p[i][h][c] - base) * LOG2E);
            sum += (p[i][h][0] + p[i][h][2]) + (p[i][h][1] + p[i][h][3]);
        }
        fade[h] = dev_exp2((q.m[h] - base) * LOG2E);
        fade[h] = top > q.m[h] ? fade[h] : 1.0f;
        q.l[h] = q.l[h] * fade[h] + sum;
        q.m[h] = top;
        if constexpr (KV == RADAR_CUDA_KV_FP8) fade[h] *= scale_weights(q, h, p, mask, value_scale);
    }
    if (dev_ballot(fade[0] != 1.0f || fade[1] != 1.0f) == 0) return;
    for (int i = 0; i < D / 8; i++)
        for (int c = 0; c < 4; c++) q.o[i][c] *= fade[c / 2];
}

template <radar_cuda_kv KV, int D>
DEV void add_values_of_pair(pair_state<D> &q, const unsigned char *segment, const float p[2][4]) {
    using L = layout<KV, D>;
    const int g = (int)dev_lane() / 4, t = (int)dev_lane() % 4;
    const unsigned char *row = segment + L::VALUES + t * L::VALUE_ROW + 2 * g * L::NUMBER;
    uint32_t hi[4], lo[4];
    for (int i = 0; i < 4; i++) cleave<KV>(hi[i], lo[i], p[i % 2][i / 2], p[i % 2][i / 2 + 2]);
#pragma unroll
    for (int j = 0; j < D / 16; j++, row += 16 * L::NUMBER) {
        uint32_t b[2][2];
        weave<KV>(b[0][0], b[1][0], row, row + 8 * L::VALUE_ROW);
        weave<KV>(b[0][1], b[1][1], row + 4 * L::VALUE_ROW, row + 12 * L::VALUE_ROW);
        for (int odd = 0; odd < 2; odd++) multiply<KV>(q.o[2 * j + odd], hi, b[odd]);
        for (int odd = 0; odd < 2; odd++) multiply<KV>(q.o[2 * j + odd], lo, b[odd]);
    }
}

template <radar_cuda_kv KV, int D>
DEV void take_in_step(pair_state<D> &q, const unsigned char *buffer, const work now[STEP],
                      const uint4 *prepared, const query *own) {
    using L = layout<KV, D>;
    const int t = (int)dev_lane() % 4;
    uint32_t mask[STEP][2], any = 0;
    const float *value_scale[STEP];
    pair_tokens p;
    for (int i = 0; i < STEP; i++)
        for (int h = 0; h < 2; h++) {
            mask[i][h] = seen(now[i].tokens, now[i].first, own[8 * h].position) >> 4 * t & 15;
            any |= mask[i][h];
        }
    if (dev_ballot(any) == 0) return;
    logits_of_pair<KV, D>(p, buffer, prepared);
    for (int i = 0; i < STEP; i++) {
        const float *key_scale =
            reinterpret_cast<const float *>(buffer + i * L::BYTES + L::SCALES) + 4 * t;
        value_scale[i] = key_scale + RADAR_SEGMENT;
        if constexpr (KV == RADAR_CUDA_KV_FP8)
            for (int h = 0; h < 2; h++)
                for (int c = 0; c < 4; c++) p[i][h][c] *= key_scale[c];
    }
    soften_pair<KV, D>(q, p, mask, own, value_scale);
    for (int i = 0; i < STEP; i++) add_values_of_pair<KV, D>(q, buffer + i * L::BYTES, p[i]);
}

/* ---- results ---- */

/* Of query h of the pair, by its four lanes. */
template <radar_cuda_kv KV, int D>
DEV void write_pair(float *partial, const pair_state<D> &q, int h, bool valid) {
    const int t = (int)dev_lane() % 4;
    const float unit = KV == RADAR_CUDA_KV_FP8 ? dev_float(q.unit[h] << 23) : 1.0f;
    float l = q.l[h];
    l += dev_shuffle_xor(l, 1);
    l += dev_shuffle_xor(l, 2);
    if (!valid) return;
    for (int i = 0; i < D / 8; i++)
        for (int c = 0; c < 2; c++)
            partial[RADAR_PARTIAL_O + i / 2 * 16 + 4 * t + 2 * c + i % 2] =
                q.o[i][2 * h + c] * unit;
    if (t > 0) return;
    partial[RADAR_PARTIAL_M] = q.m[h];
    partial[RADAR_PARTIAL_L] = l;
    partial[RADAR_PARTIAL_MISSED_M(D)] = -INFINITY;
    partial[RADAR_PARTIAL_MISSED_L(D)] = 0;
}

/* The latest of n positions, by each warp. */
DEV int64_t latest_of_block(const int64_t *position, int n) {
    int64_t latest = -1;
    for (int i = (int)dev_lane(); i < n; i += 32)
        latest = position[i] > latest ? position[i] : latest;
    for (int mask = 16; mask; mask /= 2) {
        const int64_t other = dev_shuffle_xor(latest, mask);
        latest = other > latest ? other : latest;
    }
    return latest;
}

/* 128 threads; dynamic shared memory: prepared queries of the warps, then two buffers of STEP segments. */
template <radar_cuda_kv KV, int D>
__global__ void __launch_bounds__(BLOCK_WARPS * 32, 4) attend_rows(radar_cuda_attend_args a) {
    using L = layout<KV, D>;
    DYNAMIC_SHARED(unsigned char, shared);
    SHARED(query, queries, BLOCK_QUERIES);
    const radar_cuda_attend_task &task = a.task[blockIdx.z];
    const int first = (int)blockIdx.y * BLOCK_QUERIES, left = task.n_query - first;
    if (left <= 0) return;
    uint4 *const prepared = reinterpret_cast<uint4 *>(shared) + dev_warp() * (D / 16) * 2 * 32;
    unsigned char *const buffers = shared + BLOCK_WARPS * (D / 16) * 2 * 32 * 16;
    const piece r = run_of(task, 1);
    const memory view = {task.k, task.v, task.k_scale, task.v_scale};
    const int64_t latest =
        latest_of_block(task.position + first, left < BLOCK_QUERIES ? left : BLOCK_QUERIES);
    const auto copy_step = [&](int step) {
        for (int i = 0; i < STEP; i++)
            copy<KV, D, 1>(buffers + (step % 2 * STEP + i) * L::BYTES, view,
                           fetch(task, r, step * STEP + i), latest, (int)dev_warp(), BLOCK_WARPS);
        dev_copy_commit();
    };
    copy_step(0);

    pair_state<D> q = {};
    query *const own = queries + dev_warp() * WARP_QUERIES + dev_lane() / 4;
    const float *row[2];
    bool valid[2];
    float factor[2];
    for (int h = 0; h < 2; h++) {
        const int mine = (int)(own - queries) + 8 * h;
        valid[h] = mine < left;
        row[h] = task.q + (size_t)(first + (valid[h] ? mine : 0)) * task.q_stride;
        q.m[h] = -INFINITY;
    }
    prepare_pair<KV, D>(prepared, factor, row, valid, a.scale);
    for (int h = 0; h < 2; h++) /* by all four lanes of a query: none waits for another */
        own[8 * h] = {valid[h] ? task.position[first + (int)(own - queries) + 8 * h] : -1,
                      factor[h]};

    for (int step = 0; step * STEP < r.n; step++) {
        dev_copy_wait<0>();
        dev_block_sync(); /* this step is there, and the one before, whose buffer is next, is read */
        copy_step(step + 1);
        /* items are fetched again: kept, they would take registers from the sums */
        work now[STEP];
        for (int i = 0; i < STEP; i++) now[i] = fetch(task, r, step * STEP + i);
        take_in_step<KV, D>(q, buffers + step % 2 * STEP * L::BYTES, now, prepared, own);
    }
    dev_copy_wait<0>();
    for (int h = 0; h < 2; h++) {
        const int mine = (int)dev_warp() * WARP_QUERIES + (int)dev_lane() / 4 + 8 * h;
        write_pair<KV, D>(task.partial + (size_t)(first + mine) * task.partial_stride, q, h,
                          mine < left);
    }
}

template <radar_cuda_kv KV, int D>
int launch_rows(const radar_cuda_attend_args &a, radar_cuda_queue *queue) {
    const int bytes = BLOCK_WARPS * D * 16 * 4 + 2 * STEP * layout<KV, D>::BYTES;
    auto *const kernel = attend_rows<KV, D>;
    const cudaError_t e = ALLOW_SHARED(kernel, bytes);
    if (e != cudaSuccess) return e;
    const unsigned tiles = (unsigned)((a.most_query + BLOCK_QUERIES - 1) / BLOCK_QUERIES);
    return LAUNCH(kernel, dim3(1, tiles, (unsigned)a.n_tasks), dim3(BLOCK_WARPS * 32), bytes, queue,
                  a);
}

template <radar_cuda_kv KV>
int launch_rows_of(const radar_cuda_attend_args &a, radar_cuda_queue *queue) {
    if (a.D == 64) return launch_rows<KV, 64>(a, queue);
    if (a.D == 80) return launch_rows<KV, 80>(a, queue);
    if constexpr (KV != RADAR_CUDA_KV_FP8) { /* whose scales take registers too */
        if (a.D == 96) return launch_rows<KV, 96>(a, queue);
        if (a.D == 128) return launch_rows<KV, 128>(a, queue);
    }
    return radar_cuda_attend(&a, queue);
}

} // namespace

extern "C" int radar_cuda_attend_block(const radar_cuda_attend_args *a, radar_cuda_queue *queue) {
    if (a->splits != 1) return cudaErrorInvalidValue;
    if (a->n_tasks < 1 || a->most_query < 1) return cudaSuccess;
    switch (a->type) {
    case RADAR_CUDA_KV_F16:
        return launch_rows_of<RADAR_CUDA_KV_F16>(*a, queue);
    case RADAR_CUDA_KV_BF16:
        return launch_rows_of<RADAR_CUDA_KV_BF16>(*a, queue);
    case RADAR_CUDA_KV_FP8:
        return launch_rows_of<RADAR_CUDA_KV_FP8>(*a, queue);
    case RADAR_CUDA_KV_F32:
        break;
    }
    return radar_cuda_attend(a, queue);
}
