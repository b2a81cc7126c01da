/* attend.cu - attend.h of kernels/ for a step: gather flash-decode over lists of segments, partial softmax per split.
 *   s_i = scale q . k_i over the attended tokens i;  m = max s_i;  l = sum exp(s_i - m);  o = sum exp(s_i - m) v_i
 *
 * Work: a list is cut into runs (attend_runs.h); a run has 4 chains, item i of it in chain i % 4, each an online softmax; their sum
 * is (0 + 1) + (2 + 3).  So the bits of a query follow from its list and `splits` alone.
 * Grid (splits, groups of tiles, tasks); a tile is 8 queries, 4 warps, one per chain; blocks of 1, 2 or 4 tiles that share
 * what is read: all query heads of a KV head, or rows with one list.  Two buffers of 4 segments are filled by cp.async, one ahead
 * of the other; the warps of a block of one tile read only what they copied themselves and need no barrier of the block.
 *
 * Tensor cores (m16n8k16, f32 sums): the 16 rows are the 8 queries twice, once their numbers rounded to f16 (bf16), once what
 * that left over, so that q and the weights count with 22 (16) bits and row g + row g + 8 is the result, both in one lane.
 *   logits  [queries, tokens] = q [queries, D] k [D, tokens]      k slot {2t, 2t + 1, 2t + 8, 2t + 9} = d 16 j + t + {0, 4, 8, 12},
 *           column g = token 2g, and in a second product token 2g + 1: two tokens of a dimension lie in one word
 *   output  [queries, d] += weights [queries, tokens] v [tokens, d]      the slots are tokens 4t + {0, 2, 1, 3}: where the logits
 *           came out; column g = d 16 b + 2g, and in a second product 2g + 1
 * Lane 4 g + t: query g of the tile, its tokens 4t .. 4t + 3 of a segment.  e4m3 is widened to f16, which is exact.
 * Weights of fp8 carry the scale of their value, in units of 2^unit, the largest power of two met so far, to stay in f16.
 *
 * A token that no query of the block attends is not read as a value: its row is zeros, whatever lies there.
 * Bytes: 2 * 16 * D * bytes(type) an item, once per block; a partial of 4 (D + 4) a query and split.  Bandwidth bound: up to 4
 * blocks of 128 threads on an SM keep 64 to 100 KB of copies under way. */
#include "kernels/cuda/attend_segment.h"

namespace {

constexpr int TILE = 8;            /* queries */
constexpr int CHAINS = RUN_CHAINS; /* warps of a tile, segments of a stage */
constexpr int MOST_TILES = 4;
template <int D> constexpr int STATE = D + 4; /* floats of a chain's result: o, m, l */

/* What a warp knows of its query g and has summed for it. */
template <int D> struct state {
    float factor;     /* of logits */
    int64_t position; /* of the query; below 0: there is none */
    float m, l;       /* l: of the lane's own tokens */
    uint32_t unit;    /* fp8: exponent in which o counts */
    float o[D / 8][4];
};

/* ---- in and out ---- */

/* Queries as the tensor cores take them, [D / 16][32 lanes], each times a power of two that brings it near 1, which `factor`
 * takes back.  The chains of a tile share the work. */
template <radar_cuda_kv KV, int D>
DEV float prepare(uint4 *to, const float *q, bool valid, float scale, int chain) {
    const int t = (int)dev_lane() % 4;
    uint32_t most = 27u << 23; /* far from where powers of two end */
    for (int d = t; d < D; d += 4) {
        const uint32_t size = valid ? dev_bits(q[d]) & 0x7fffffffu : 0;
        most = size > most ? size : most;
    }
    for (int mask = 1; mask <= 2; mask *= 2) {
        const uint32_t other = dev_shuffle_xor(most, mask);
        most = other > most ? other : most;
    }
    const uint32_t exponent = most >> 23 < 227 ? most >> 23 : 227;
    const float down = dev_float((254 - exponent) << 23);
    for (int j = chain; j < D / 16; j += CHAINS) {
        float x[4];
        for (int i = 0; i < 4; i++) x[i] = valid ? q[16 * j + 4 * i + t] * down : 0.0f;
        uint4 a;
        cleave<KV>(a.x, a.y, x[0], x[1]);
        cleave<KV>(a.z, a.w, x[2], x[3]);
        to[j * 32 + (int)dev_lane()] = a;
    }
    return scale * dev_float(exponent << 23);
}

/* ---- one segment ---- */

/* q . k of the lane's query and its four tokens. */
template <radar_cuda_kv KV, int D>
DEV void logits(float s[4], const unsigned char *segment, const uint4 *q) {
    using L = layout<KV, D>;
    const int g = (int)dev_lane() / 4, t = (int)dev_lane() % 4;
    const unsigned char *row = segment + t * L::KEY_ROW + 2 * g * L::NUMBER;
    float even[4] = {}, odd[4] = {};
    for (int j = 0; j < D / 16; j++, row += 16 * L::KEY_ROW) {
        const uint4 x = q[j * 32 + (int)dev_lane()];
        const uint32_t a[4] = {x.x, x.y, x.z, x.w};
        uint32_t b[2][2];
        weave<KV>(b[0][0], b[1][0], row, row + 4 * L::KEY_ROW);
        weave<KV>(b[0][1], b[1][1], row + 8 * L::KEY_ROW, row + 12 * L::KEY_ROW);
        multiply<KV>(even, a, b[0]);
        multiply<KV>(odd, a, b[1]);
    }
    for (int i = 0; i < 2; i++) {
        s[2 * i] = even[i] + even[i + 2];
        s[2 * i + 1] = odd[i] + odd[i + 2];
    }
}

/* Logits s of tokens `mask` become weights p of their values; m, l and unit follow, and o fades. */
template <radar_cuda_kv KV, int D>
DEV void soften(state<D> &q, float p[4], const float s[4], uint32_t mask,
                const float *value_scale) {
    float top = q.m;
    for (int i = 0; i < 4; i++) {
        p[i] = mask >> i & 1 ? s[i] * q.factor : -INFINITY;
        top = p[i] > top ? p[i] : top;
    }
    top = most_of_query(top);
    const float base = top == -INFINITY ? 0.0f : top; /* no key yet: exp(-inf) = 0 */
    for (int i = 0; i < 4; i++) p[i] = dev_exp2((p[i] - base) * LOG2E);
    float fade = dev_exp2((q.m - base) * LOG2E);
    bool fades = top > q.m;
    q.l = q.l * fade + ((p[0] + p[2]) + (p[1] + p[3]));
    q.m = top;
    if constexpr (KV == RADAR_CUDA_KV_FP8) {
        uint32_t unit = q.unit;
        for (int i = 0; i < 4; i++) {
            const uint32_t exponent = mask >> i & 1 ? dev_bits(value_scale[i]) >> 23 & 0xff : 0;
            unit = exponent > unit ? exponent : unit;
        }
        unit = most_of_query(unit < 253 ? unit : 253);
        const float inverse = dev_float((254 - unit) << 23);
        for (int i = 0; i < 4; i++) p[i] = mask >> i & 1 ? p[i] * (value_scale[i] * inverse) : 0.0f;
        fade *= unit - q.unit < 127 ? dev_float((127 - (unit - q.unit)) << 23) : 0.0f;
        fades |= unit > q.unit;
        q.unit = unit;
    }
    if (dev_ballot(fades) == 0) return; /* times 1 changes nothing */
    for (int i = 0; i < D / 8; i++)
        for (int c = 0; c < 4; c++) q.o[i][c] *= fade;
}

template <radar_cuda_kv KV, int D>
DEV void add_values(state<D> &q, const unsigned char *segment, const float p[4]) {
    using L = layout<KV, D>;
    const int g = (int)dev_lane() / 4, t = (int)dev_lane() % 4;
    const unsigned char *row = segment + L::VALUES + t * L::VALUE_ROW + 2 * g * L::NUMBER;
    uint32_t a[4];
    cleave<KV>(a[0], a[1], p[0], p[2]);
    cleave<KV>(a[2], a[3], p[1], p[3]);
    for (int j = 0; j < D / 16; j++, row += 16 * L::NUMBER) {
        uint32_t b[2][2];
        weave<KV>(b[0][0], b[1][0], row, row + 8 * L::VALUE_ROW);
        weave<KV>(b[0][1], b[1][1], row + 4 * L::VALUE_ROW, row + 12 * L::VALUE_ROW);
        multiply<KV>(q.o[2 * j], a, b[0]);
        multiply<KV>(q.o[2 * j + 1], a, b[1]);
    }
}

template <radar_cuda_kv KV, int D>
DEV void take_in(state<D> &q, const unsigned char *segment, const work &w, const uint4 *prepared) {
    const int t = (int)dev_lane() % 4;
    const uint32_t mask = seen(w.tokens, w.first, q.position) >> 4 * t & 15;
    const float *scale = reinterpret_cast<const float *>(segment + layout<KV, D>::SCALES) + 4 * t;
    float s[4], p[4];
    logits<KV, D>(s, segment, prepared);
    if constexpr (KV == RADAR_CUDA_KV_FP8)
        for (int i = 0; i < 4; i++) s[i] *= scale[i];
    soften<KV, D>(q, p, s, mask, scale + RADAR_SEGMENT);
    add_values<KV, D>(q, segment, p);
}

/* ---- results ---- */

/* A chain's result into shared memory, layout::STATE floats a query. */
template <radar_cuda_kv KV, int D> DEV void leave(float *chain, const state<D> &q) {
    const int g = (int)dev_lane() / 4, t = (int)dev_lane() % 4;
    float *to = chain + g * STATE<D>, l = q.l;
    l += dev_shuffle_xor(l, 1);
    l += dev_shuffle_xor(l, 2);
    const float unit = KV == RADAR_CUDA_KV_FP8 ? dev_float(q.unit << 23) : 1.0f;
    for (int j = 0; j < D / 16; j++) {
        const float *even = q.o[2 * j], *odd = q.o[2 * j + 1];
        float4 o = {(even[0] + even[2]) * unit, (odd[0] + odd[2]) * unit,
                    (even[1] + even[3]) * unit, (odd[1] + odd[3]) * unit};
        *reinterpret_cast<float4 *>(to + 16 * j + 4 * t) = o;
    }
    if (t == 0) {
        to[D] = q.m;
        to[D + 1] = l;
    }
}

/* One warp: the four chains of a query, whose results lie `stride` floats apart, as a partial; chain NULL: no keys. */
template <int D> DEV void write(float *partial, const float *chain, int stride) {
    float m = -INFINITY, f[CHAINS] = {};
    for (int c = 0; chain && c < CHAINS; c++)
        m = chain[c * stride + D] > m ? chain[c * stride + D] : m;
    for (int c = 0; m > -INFINITY && c < CHAINS; c++)
        f[c] = dev_exp2((chain[c * stride + D] - m) * LOG2E);
    for (int i = (int)dev_lane(); i < RADAR_PARTIAL(D); i += 32) {
        float x = 0;
        if (i == RADAR_PARTIAL_M) {
            x = m;
        } else if (i == RADAR_PARTIAL_MISSED_M(D)) {
            x = -INFINITY;
        } else if (chain && i < RADAR_PARTIAL_MISSED_M(D)) {
            const float *y = chain + (i == RADAR_PARTIAL_L ? D + 1 : i - RADAR_PARTIAL_O);
            x = (y[0] * f[0] + y[stride] * f[1]) + (y[2 * stride] * f[2] + y[3 * stride] * f[3]);
        }
        partial[i] = x;
    }
}

DEV int64_t latest_of(const int64_t *position, int n) {
    const int lane = (int)dev_lane();
    int64_t latest = lane < n ? position[lane] : -1;
    for (int mask = 16; mask; mask /= 2) {
        const int64_t other = dev_shuffle_xor(latest, mask);
        latest = other > latest ? other : latest;
    }
    return latest;
}

/* tiles * 128 threads; shared_bytes of dynamic shared memory: prepared queries of the tiles, then two buffers of four
 * segments.  In the end the chains leave their results over the buffers, and factors of runs go where the queries were. */
template <radar_cuda_kv KV, int D>
__global__ void __launch_bounds__(MOST_TILES *CHAINS * 32) attend(radar_cuda_attend_args a) {
    using L = layout<KV, D>;
    DYNAMIC_SHARED(unsigned char, shared);
    const radar_cuda_attend_task &task = a.task[blockIdx.z];
    const int tiles = (int)blockDim.x / (CHAINS * 32), warps = tiles * CHAINS;
    const int first = (int)blockIdx.y * tiles * TILE, left = task.n_query - first;
    const int queries = left < tiles * TILE ? left : tiles * TILE; /* of the block */
    const piece r = run_of(task, a.splits);
    if (queries <= 0 || (int)blockIdx.x >= r.used) return;

    if (r.n == 0) {
        for (int i = (int)dev_warp(); i < queries; i += warps)
            write<D>(partial_of(a, task, r, first + i), nullptr, 0);
        return;
    }

    const int tile = (int)dev_warp() / CHAINS, chain = (int)dev_warp() % CHAINS;
    uint4 *const prepared = reinterpret_cast<uint4 *>(shared) + tile * (D / 16) * 32;
    unsigned char *const buffers = shared + tiles * (D / 16) * 32 * 16;
    const memory view = {task.k, task.v, task.k_scale, task.v_scale};
    const int64_t latest = latest_of(task.position + first, queries);
    const auto buffer = [&](int stage) {
        return buffers + (stage % 2 * CHAINS + chain) * L::BYTES;
    };
    work now = fetch(task, r, chain);
    work next = fetch(task, r, chain + CHAINS);
    copy<KV, D, 4>(buffer(0), view, now, latest, tile, tiles);
    dev_copy_commit();

    state<D> q = {};
    const int mine = tile * TILE + (int)dev_lane() / 4;
    const bool valid = mine < queries;
    const int query = first + (valid ? mine : 0);
    q.m = -INFINITY;
    q.position = valid ? task.position[query] : -1;
    q.factor =
        prepare<KV, D>(prepared, task.q + (size_t)query * task.q_stride, valid, a.scale, chain);
    if (tiles == 1) dev_block_sync(); /* the chains prepared the queries together */

    for (int stage = 0; stage * CHAINS < r.n; stage++) {
        dev_copy_wait<0>();
        /* all have their part of this stage and are done with the one before, whose buffer is next */
        if (tiles == 1)
            dev_warp_sync();
        else
            dev_block_sync();
        copy<KV, D, 4>(buffer(stage + 1), view, next, latest, tile, tiles);
        dev_copy_commit();
        const work after = fetch(task, r, (stage + 2) * CHAINS + chain);
        if (now.tokens) take_in<KV, D>(q, buffer(stage), now, prepared);
        now = next;
        next = after;
    }
    dev_copy_wait<0>();

    dev_block_sync(); /* the buffers and the queries are free */
    float *const results = reinterpret_cast<float *>(buffers);
    float *const factor =
        reinterpret_cast<float *>(shared) + dev_warp() * 2 * RADAR_CUDA_ATTEND_SPLITS;
    leave<KV, D>(results + (tile * CHAINS + chain) * TILE * STATE<D>, q);
    dev_block_sync();
    for (int i = (int)dev_warp(); i < queries; i += warps) {
        write<D>(partial_of(a, task, r, first + i),
                 results + (i / TILE * CHAINS * TILE + i % TILE) * STATE<D>, TILE * STATE<D>);
        if (r.used > 1) unite_if_last<D / 32 + 1>(a, task, r, first + i, factor);
    }
}

template <radar_cuda_kv KV, int D>
int launch(const radar_cuda_attend_args &a, radar_cuda_queue *queue) {
    using L = layout<KV, D>;
    static_assert(D * 32 >= CHAINS * 2 * RADAR_CUDA_ATTEND_SPLITS * 4, "factors over the queries");
    const int need = (a.most_query + TILE - 1) / TILE;
    const int tiles = need == 1   ? 1
                      : need == 2 ? 2
                                  : MOST_TILES,
              groups = (need + tiles - 1) / tiles;
    const int buffers = 2 * CHAINS * L::BYTES, results = tiles * CHAINS * TILE * STATE<D> * 4;
    const int bytes = tiles * D * 32 + (buffers > results ? buffers : results);
    auto *const kernel = attend<KV, D>;
    const cudaError_t e = ALLOW_SHARED(kernel, bytes);
    if (e != cudaSuccess) return e;
    return LAUNCH(kernel, dim3((unsigned)a.splits, (unsigned)groups, (unsigned)a.n_tasks),
                  dim3(tiles * CHAINS * 32), bytes, queue, a);
}

template <radar_cuda_kv KV>
int launch_type(const radar_cuda_attend_args &a, radar_cuda_queue *queue) {
    switch (a.D) {
    case 64:
        return launch<KV, 64>(a, queue);
    case 80:
        return launch<KV, 80>(a, queue);
    case 96:
        return launch<KV, 96>(a, queue);
    case 112:
        return launch<KV, 112>(a, queue);
    case 128:
        return launch<KV, 128>(a, queue);
    }
    return radar_cuda_attend_plain(&a, queue);
}

} // namespace

extern "C" int radar_cuda_attend(const radar_cuda_attend_args *a, radar_cuda_queue *queue) {
    if (a->splits < 1 || a->splits > RADAR_CUDA_ATTEND_SPLITS || a->splits & (a->splits - 1))
        return cudaErrorInvalidValue;
    if (a->n_tasks < 1 || a->most_query < 1) return cudaSuccess;
    switch (a->type) {
    case RADAR_CUDA_KV_F16:
        return launch_type<RADAR_CUDA_KV_F16>(*a, queue);
    case RADAR_CUDA_KV_BF16:
        return launch_type<RADAR_CUDA_KV_BF16>(*a, queue);
    case RADAR_CUDA_KV_FP8:
        return launch_type<RADAR_CUDA_KV_FP8>(*a, queue);
    case RADAR_CUDA_KV_F32: /* tensor cores would round it */
        return radar_cuda_attend_plain(a, queue);
    }
    return cudaErrorInvalidValue;
}
