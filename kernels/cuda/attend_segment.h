/* attend_segment.h - a segment of the cache in shared memory, and its numbers as tensor cores take them: what attend.cu and
 * attend_block.cu share. */
#ifndef RADAR_CUDA_ATTEND_SEGMENT_H
#define RADAR_CUDA_ATTEND_SEGMENT_H

#include "kernels/cuda/attend_runs.h"

namespace {

constexpr float LOG2E = 0x1.715476p+0f;

/* Where the numbers of a segment lie in its buffer.  Rows of values are spread so that the four rows one load touches lie in
 * different banks. */
template <radar_cuda_kv KV, int D> struct layout {
    static constexpr int NUMBER = KV == RADAR_CUDA_KV_FP8 ? 1 : 2;
    static constexpr int KEY_ROW = RADAR_SEGMENT * NUMBER;
    static constexpr int PIECES = D * NUMBER / 16; /* of a row of values, 16 bytes each */
    static constexpr bool EVEN = KV == RADAR_CUDA_KV_FP8 ? D % 64 == 0 : D % 32 == 0;
    static constexpr int VALUE_ROW = D * NUMBER + (EVEN ? 16 * NUMBER : 0);
    static constexpr int VALUES = D * KEY_ROW;
    static constexpr int SCALES = VALUES + RADAR_SEGMENT * VALUE_ROW; /* of keys, then of values */
    static constexpr int BYTES = SCALES + (KV == RADAR_CUDA_KV_FP8 ? 2 * RADAR_SEGMENT * 4 : 0);
};

/* ---- numbers ---- */

/* Two words of two numbers: the first of both, the second of both, as f16 or bf16. */
template <radar_cuda_kv KV>
DEV void weave(uint32_t &first, uint32_t &second, const unsigned char *x, const unsigned char *y) {
    if constexpr (KV == RADAR_CUDA_KV_FP8) {
        const uint32_t both = dev_bytes(*reinterpret_cast<const uint16_t *>(x),
                                        *reinterpret_cast<const uint16_t *>(y), 0x5140);
        first = dev_e4m3x2_to_f16x2((uint16_t)both);
        second = dev_e4m3x2_to_f16x2((uint16_t)(both >> 16));
    } else {
        const uint32_t u = *reinterpret_cast<const uint32_t *>(x);
        const uint32_t v = *reinterpret_cast<const uint32_t *>(y);
        first = dev_bytes(u, v, 0x5410);
        second = dev_bytes(u, v, 0x7632);
    }
}

template <radar_cuda_kv KV>
DEV void multiply(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    if constexpr (KV == RADAR_CUDA_KV_BF16)
        dev_mma_bf16(d, a, b);
    else
        dev_mma_f16(d, a, b);
}

/* x and y, rounded, in one word; and what that left over. */
template <radar_cuda_kv KV> DEV void cleave(uint32_t &high, uint32_t &low, float x, float y) {
    if constexpr (KV == RADAR_CUDA_KV_BF16) {
        const uint16_t a = dev_f32_to_bf16(x), b = dev_f32_to_bf16(y);
        high = a | (uint32_t)b << 16;
        low = dev_f32_to_bf16(x - dev_bf16_to_f32(a)) |
              (uint32_t)dev_f32_to_bf16(y - dev_bf16_to_f32(b)) << 16;
    } else {
        const uint16_t a = dev_f32_to_f16(x), b = dev_f32_to_f16(y);
        high = a | (uint32_t)b << 16;
        low = dev_f32_to_f16(x - dev_f16_to_f32(a)) |
              (uint32_t)dev_f32_to_f16(y - dev_f16_to_f32(b)) << 16;
    }
}

/* ---- from the cache ---- */

/* Of a task, what every stage needs. */
struct memory {
    const void *k, *v;
    const float *k_scale, *v_scale;
};

/* The 32 lanes of one of `tiles` warps copy their share of a segment.  UNROLL: of loops, whose addresses take registers. */
template <radar_cuda_kv KV, int D, int UNROLL>
DEV void copy(unsigned char *to, const memory &view, const work &w, int64_t latest, int tile,
              int tiles) {
    using L = layout<KV, D>;
    const uint32_t used = seen(w.tokens, w.first, latest);
    const int first = tile * 32 + (int)dev_lane(), step = tiles * 32;
    const size_t at = (size_t)w.segment * (size_t)(D * L::KEY_ROW);
    const unsigned char *k = static_cast<const unsigned char *>(view.k) + at;
    const unsigned char *v = static_cast<const unsigned char *>(view.v) + at;
#pragma unroll(UNROLL)
    for (int i = first; i < D * L::KEY_ROW / 16; i += step)
        dev_copy16(to + 16 * i, k + 16 * i, used != 0);
#pragma unroll(UNROLL)
    for (int i = first; i < RADAR_SEGMENT * L::PIECES; i += step) {
        const int token = i / L::PIECES, row = token % 4 * 4 + token / 4;
        dev_copy16(to + L::VALUES + row * L::VALUE_ROW + i % L::PIECES * 16, v + 16 * i,
                   used >> token & 1);
    }
    if (KV == RADAR_CUDA_KV_FP8 && first < 8) {
        const float *scale = first < 4 ? view.k_scale : view.v_scale;
        dev_copy16(to + L::SCALES + 16 * first,
                   scale + (size_t)w.segment * RADAR_SEGMENT + first % 4 * 4, used != 0);
    }
}

/* The largest of the four lanes of a query. */
template <class T> DEV T most_of_query(T x) {
    for (int mask = 1; mask <= 2; mask *= 2) {
        const T other = dev_shuffle_xor(x, mask);
        x = other > x ? other : x;
    }
    return x;
}

} // namespace

#endif
