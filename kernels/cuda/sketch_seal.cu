/* Sealing 64 keys into a block of the sketch: layout and formula in kernels/cpu/sketch.h, byte for byte what the CPU makes, so every
 * sum runs in its order: over the keys for the mean, over the dimensions of one token for the errors and the least squares.
 * A block of threads per block of tokens, 128 threads:
 *   mean        a thread per dimension (two where D > 128), 64 keys one after the other
 *   then 32 tokens at a time, z [D, 33] in shared memory (33: neither a row nor a column meets itself in a bank)
 *   centre      a thread per dimension
 *   rotate      a warp takes every fourth token, its lanes the dimensions
 *   steps       a warp per candidate, a lane per token
 *   codes       warp j makes byte j of every dword, which has dimensions 4 s + j; a lane per token
 * The block is put together in shared memory and written once.  Reads 64 D keys twice (the second time from L1), writes
 * block_bytes.  Bound by the steps: four candidates times 64 D terms of some 8 operations. */
#include "kernels/cuda/sketch.h"

#include "kernels/cuda/dev.h"
#include "kernels/cuda/keys.h"
#include "kernels/cuda/rotate.h"

namespace {

constexpr int THREADS = 128, WARPS = THREADS / 32;
constexpr int TOKENS = 32; /* at a time */
constexpr int ROW = TOKENS + 1;

/* Where a block's parts lie in its image. */
struct image {
    uint8_t *code, *step, *low;
    int8_t *mu;
};

DEV image image_at(const radar_cuda_sketch &x, unsigned char *p) {
    image b;
    b.code = p;
    b.step = p + 256 * x.words;
    b.mu = (int8_t *)b.step + RADAR_BLOCK;
    b.low = b.step + RADAR_BLOCK + x.Dp + 8;
    return b;
}

/* Mean of a dimension over the block. */
DEV float mean_of(const head_keys &keys, int64_t block, int d) {
    float sum = 0;
#pragma unroll 1 /* all at once they spill */
    for (int s = 0; s < RADAR_BLOCK_SEGMENTS; s++) {
        float key[RADAR_SEGMENT];
        key_row(key, keys, block * RADAR_BLOCK_SEGMENTS + s, d);
#pragma unroll
        for (int i = 0; i < RADAR_SEGMENT; i++) sum = dev_add(sum, key[i]);
    }
    return dev_mul(sum, 1.0f / RADAR_BLOCK);
}

/* The level next to z. */
template <int BITS> DEV float level_of(float z, float step) {
    if (BITS == 1) return z >= 0 ? 0.5f : -0.5f;
    if (BITS == 2)
        return (z >= -step ? 1.0f : 0.0f) + (z >= 0 ? 1.0f : 0.0f) + (z >= step ? 1.0f : 0.0f) -
               1.5f;
    float code = dev_add(dev_div(z, step), 8.0f);
    code = code > 0 ? code : 0; /* NaN too */
    return (float)(int)(code < 15 ? code : 15) - 7.5f;
}

/* Candidate `c` for the step of a token whose coordinates begin at z, and its squared error. */
template <int BITS> DEV float try_step(float *error, const float *z, int D, int c) {
    const float shrink = c == 0 ? 0.5f : c == 1 ? 0.4f : c == 2 ? 0.325f : 0.25f;
    float max = 0, sum = 0;
    for (int d = 0; d < D; d++) max = radar_larger(max, z[d * ROW]);
    const float step = dev_mul(max, shrink * (4.0f / (1 << BITS)));
    for (int d = 0; d < D; d++) {
        const float e = dev_add(z[d * ROW], -dev_mul(level_of<BITS>(z[d * ROW], step), step));
        sum = dev_add(sum, dev_mul(e, e));
    }
    *error = sum;
    return step;
}

/* The first of the best; 0 where no error is a number. */
DEV float best_step(const float *step, const float *error) {
    float best = dev_float(0x7f800000u), chosen = 0;
    for (int c = 0; c < 4; c++) {
        if (!(error[c * TOKENS] < best)) continue;
        best = error[c * TOKENS];
        chosen = step[c * TOKENS];
    }
    return chosen;
}

/* Bytes j of a token's dwords. */
template <int BITS>
DEV void put_codes(const radar_cuda_sketch &x, const image &to, const float *z, float step,
                   int token, int j) {
    constexpr int DIMS = BITS == 4 ? 8 : 32, WIDE = BITS == 4 ? 4 : 1;
    const float centre = 0.5f * ((1 << BITS) - 1);
    const int segment = token / RADAR_SEGMENT, i = token % RADAR_SEGMENT;
    for (int d = j; d < x.D; d += 4) {
        const unsigned code = (unsigned)(int)(level_of<BITS>(z[d * ROW], step) + centre);
        const int word = d / DIMS, shift = WIDE * (d % DIMS / 4);
        uint8_t *high = to.code + 4 * ((segment * x.words + word) * RADAR_SEGMENT + i) + j;
        if (BITS != 2) {
            *high = (uint8_t)(*high | code << shift);
        } else if (word < x.low_words) {
            uint8_t *low = to.low + 4 * ((segment * x.low_words + word) * RADAR_SEGMENT + i) + j;
            *high = (uint8_t)(*high | code >> 1 << shift);
            *low = (uint8_t)(*low | (code & 1) << shift);
        } else {
            *high = (uint8_t)(*high | code >> 1 << shift | (code & 1) << (shift + 4));
        }
    }
}

/* The step of least squares for the levels that `step` gave. */
template <int BITS> DEV float fit_step(const float *z, int D, float step) {
    float dot = 0, square = 0;
    for (int d = 0; d < D; d++) {
        const float level = level_of<BITS>(z[d * ROW], step);
        dot = dev_add(dot, dev_mul(z[d * ROW], level));
        square = dev_add(square, dev_mul(level, level));
    }
    return dev_div(dot, square);
}

/* Nearest code, on the logarithmic scale, of a step in units of the largest: ratio = m 2^e, 1 <= m < 2. */
DEV uint8_t step_code(const float *middle, float ratio) {
    if (!(ratio > 0)) return 0;
    const uint32_t bits = dev_bits(ratio);
    const float m = dev_float((bits & 0x7fffffu) | 0x3f800000u);
    int i = 0;
    while (i < 16 && m >= middle[i]) i++;
    const int code = 16 * ((int)(bits >> 23) - 127) + i + 255;
    return (uint8_t)(code < 0 ? 0 : code > 255 ? 255 : code < 1 ? 1 : code);
}

/* z := H z of every fourth token, from number dev_warp() on. */
template <int N> DEV void rotate_tokens(float *z, int D) {
    for (int token = (int)dev_warp(); token < TOKENS; token += WARPS) {
        float v[N];
#pragma unroll
        for (int i = 0; i < N; i++) {
            const int d = 32 * i + (int)dev_lane();
            v[i] = d < D ? z[d * ROW + token] : 0.0f;
        }
        radar_hadamard_warp<N>(v, D);
#pragma unroll
        for (int i = 0; i < N; i++) {
            const int d = 32 * i + (int)dev_lane();
            if (d < D) z[d * ROW + token] = v[i];
        }
    }
}

/* Dimension i of a thread, which may be past the last. */
DEV int dim_of(int i) { return (int)threadIdx.x + i * THREADS; }

/* What a thread knows of its dimensions. */
struct centre {
    float mean[2], scale; /* scale: of mu */
    int8_t mu[2];
};

/* Fills mu of the image; meets all threads once. */
DEV centre find_centre(const radar_cuda_sketch &x, const image &to, const head_keys &keys,
                       int64_t block) {
    SHARED(float, most, WARPS);
    centre c = {{0, 0}, 0, {0, 0}};
    float max = 0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int d = dim_of(i);
        if (d >= x.D) continue;
        c.mean[i] = mean_of(keys, block, d);
        max = radar_larger(max, c.mean[i]);
    }
    max = radar_warp_max(max);
    if (dev_lane() == 0) most[dev_warp()] = max;
    dev_block_sync(); /* and the image is empty */
    for (int i = 0; i < WARPS; i++) max = radar_larger(max, most[i]);
    if (!radar_rounds(max)) return c;
    c.scale = dev_div(max, 127.0f);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        c.mu[i] = radar_round_one(c.mean[i], max, 127.0f);
        if (dim_of(i) < x.D) to.mu[dim_of(i)] = c.mu[i];
    }
    return c;
}

/* z of 32 tokens, from a segment's first on, before the rotation. */
DEV void load_centred(float *z, const radar_cuda_sketch &x, const head_keys &keys, int64_t segment,
                      const centre &c) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int d = dim_of(i);
        if (d >= x.D) continue;
        const float mu = dev_mul(c.scale, (float)c.mu[i]), norm = x.norm[d];
        for (int s = 0; s < TOKENS / RADAR_SEGMENT; s++) {
            float key[RADAR_SEGMENT];
            key_row(key, keys, segment + s, d);
#pragma unroll
            for (int t = 0; t < RADAR_SEGMENT; t++)
                z[d * ROW + s * RADAR_SEGMENT + t] = dev_mul(dev_add(key[t], -mu), norm);
        }
    }
}

/* Codes of 32 tokens, from number `first` on, and their steps. */
template <int BITS>
DEV void encode(const radar_cuda_sketch &x, const image &to, const float *z, float *steps,
                int first) {
    SHARED(float, tried, WARPS *TOKENS);
    SHARED(float, error, WARPS *TOKENS);
    const int lane = (int)dev_lane(), warp = (int)dev_warp();
    float step = 0;
    if (BITS > 1) {
        tried[threadIdx.x] = try_step<BITS>(error + threadIdx.x, z + lane, x.D, warp);
        dev_block_sync();
        step = best_step(tried + lane, error + lane);
    }
    put_codes<BITS>(x, to, z + lane, step, first + lane, warp);
    if (warp == 0) steps[first + lane] = fit_step<BITS>(z + lane, x.D, step);
}

DEV void put_steps(const radar_cuda_sketch &x, const image &to, const float *steps, float scale) {
    const int lane = (int)dev_lane();
    float max = steps[lane] > 0 ? steps[lane] : 0;
    max = radar_warp_max(steps[TOKENS + lane] > max ? steps[TOKENS + lane] : max);
    if (!radar_rounds(max)) max = 0;
    if (threadIdx.x < RADAR_BLOCK)
        to.step[threadIdx.x] =
            max > 0 ? step_code(x.middle, dev_div(steps[threadIdx.x], max)) : (uint8_t)0;
    if (threadIdx.x == 0) {
        float *scales = (float *)(to.mu + x.Dp);
        scales[0] = scale;
        scales[1] = max;
    }
}

/* Grid: most, KV heads.  128 threads; dynamic: z and the image. */
template <int BITS>
__global__ void __launch_bounds__(THREADS) sketch_seal(radar_cuda_sketch x, radar_cuda_seal t) {
    DYNAMIC_SHARED(float, z);
    SHARED(float, steps, RADAR_BLOCK);
    uint64_t *whole = (uint64_t *)(z + (x.D * ROW + 1) / 2 * 2);
    const image to = image_at(x, (unsigned char *)whole);
    const head_keys keys = keys_of(t, blockIdx.y);
    const int64_t block = (int64_t)t.blocks[0] + blockIdx.x;
    const int n = (int)(x.block_bytes / 8);
    if (block >= t.blocks[1]) return;
    for (int i = (int)threadIdx.x; i < n; i += THREADS) whole[i] = 0;
    const centre c = find_centre(x, to, keys, block);
    for (int first = 0; first < RADAR_BLOCK; first += TOKENS) {
        load_centred(z, x, keys, block * RADAR_BLOCK_SEGMENTS + first / RADAR_SEGMENT, c);
        dev_block_sync();
        if (x.D <= 128)
            rotate_tokens<4>(z, x.D);
        else
            rotate_tokens<8>(z, x.D);
        dev_block_sync();
        encode<BITS>(x, to, z, steps, first);
        dev_block_sync(); /* z is written again, and all steps are there */
    }
    put_steps(x, to, steps, c.scale);
    dev_block_sync();
    uint64_t *out =
        (uint64_t *)(t.summary + blockIdx.y * t.summary_stride + (size_t)block * x.block_bytes);
    for (int i = (int)threadIdx.x; i < n; i += THREADS) out[i] = whole[i];
}

} // namespace

extern "C" int radar_cuda_sketch_seal(const radar_cuda_sketch *x, const radar_cuda_seal *t,
                                      radar_cuda_queue *queue) {
    const size_t bytes = sizeof(float) * (size_t)((x->D * ROW + 1) / 2 * 2) + x->block_bytes;
    const auto kernel = x->bits == 1   ? sketch_seal<1>
                        : x->bits == 2 ? sketch_seal<2>
                                       : sketch_seal<4>;
    if (t->most <= 0 || t->kv_heads <= 0) return 0;
    return LAUNCH(kernel, dim3((unsigned)t->most, (unsigned)t->kv_heads), dim3(THREADS), bytes,
                  queue, *x, *t);
}
