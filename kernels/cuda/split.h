/* split.h - f32 queries against rows of stored 16-bit numbers, on tensor cores.
 *   q ~ hi + lo, both rounded to the rows' type, so that every product is exact; what is lost of q is 2^-22 (f16) or 2^-17 (bf16)
 * f16 has too few exponents for that: a query is first multiplied by the power of two that brings its largest number to
 * [2^13, 2^14), its factor; one that is not finite scores NaN.
 * A warp multiplies 16 rows with tiles of 8 queries.  The queries stand in shared memory as the registers of mma's b:
 *   panel [tile][chunk of 32 numbers][hi, lo][lane] of 16 bytes,  up to 8 chunks
 * Lane 4 g + t has query g of the tile, and of the chunk the pairs p = 0 .. 3 that begin at
 *   WIDE: 8 t + 2 p, so that a lane reads 16 bytes of a row at once;   else 2 t + 8 p, so that four lanes read 16 bytes, 4 each */
#ifndef RADAR_CUDA_SPLIT_H
#define RADAR_CUDA_SPLIT_H

#include "kernels/cuda/dev.h"

enum {
    SPLIT_QUERIES = 16,
    SPLIT_CHUNK = 32,
    SPLIT_CHUNKS = 8,
    SPLIT_NUMBERS = SPLIT_CHUNK * SPLIT_CHUNKS,
    SPLIT_PANEL = SPLIT_QUERIES / 8 * SPLIT_CHUNKS * 2 * 32 /* uint4 */
};

/* Factors of n queries of `size` numbers, one warp each. */
DEV void split_factors(float *factor, const float *query, size_t stride, int n, int size) {
    for (int j = (int)dev_warp(); j < n; j += (int)blockDim.x / 32) {
        uint32_t most = 14u << 23; /* less is as if 2^-113 */
        for (int i = (int)dev_lane(); i < size; i += 32) {
            const uint32_t bits = dev_bits(query[(size_t)j * stride + (size_t)i]) & 0x7f800000u;
            most = bits > most && bits < 0x7f800000u ? bits : most;
        }
        for (int m = 16; m; m /= 2) {
            const uint32_t other = dev_shuffle_xor(most, m);
            most = other > most ? other : most;
        }
        if (dev_lane() == 0) factor[j] = dev_float((267u << 23) - most);
    }
}

/* 1 / x of a power of two. */
DEV float split_back(float x) { return dev_float((254u << 23) - dev_bits(x)); }

template <bool F16> DEV uint32_t split_narrow(float x) {
    return F16 ? dev_f32_to_f16(x) : dev_f32_to_bf16(x);
}
template <bool F16> DEV float split_widen(uint32_t h) {
    return F16 ? dev_f16_to_f32((uint16_t)h) : dev_bf16_to_f32((uint16_t)h);
}

/* One lane's registers of one chunk: hi to to[0], lo to to[32]. */
template <bool F16, bool WIDE>
DEV void split_lane(uint4 *to, const float *query, int t, int left, float factor) {
    uint32_t hi[4], lo[4];
    for (int p = 0; p < 4; p++) {
        const int k = WIDE ? 8 * t + 2 * p : 2 * t + 8 * p;
        hi[p] = lo[p] = 0;
        for (int e = 0; e < 2; e++) {
            const float q = k + e < left ? query[k + e] * factor : 0.0f;
            const uint32_t h = split_narrow<F16>(q);
            hi[p] |= h << 16 * e;
            lo[p] |= split_narrow<F16>(q - split_widen<F16>(h)) << 16 * e;
        }
    }
    to[0] = uint4{hi[0], hi[1], hi[2], hi[3]};
    to[32] = uint4{lo[0], lo[1], lo[2], lo[3]};
}

/* The block puts `size` <= SPLIT_NUMBERS numbers of n queries into the panel; factor NULL: all 1. */
template <bool F16, bool WIDE>
DEV void split_stage(uint4 *panel, const float *query, size_t stride, int n, int size,
                     const float *factor) {
    const int chunks = (size + SPLIT_CHUNK - 1) / SPLIT_CHUNK, lanes = (n + 7) / 8 * chunks * 32;
    for (int i = (int)threadIdx.x; i < lanes; i += (int)blockDim.x) {
        const int lane = i % 32, chunk = i / 32 % chunks, tile = i / 32 / chunks;
        const int j = tile * 8 + lane / 4, left = j < n ? size - chunk * SPLIT_CHUNK : 0;
        split_lane<F16, WIDE>(panel + (tile * SPLIT_CHUNKS + chunk) * 64 + lane,
                              query +
                                  (left > 0 ? (size_t)j * stride + (size_t)chunk * SPLIT_CHUNK : 0),
                              lane % 4, left, left > 0 && factor ? factor[j] : 1.0f);
    }
}

/* hi and lo [16 rows, 8 queries] += a chunk of rows g (top) and g + 8 (bottom) times that of the panel. */
template <bool F16>
DEV void split_multiply(float hi[4], float lo[4], uint4 top, uint4 bottom, const uint4 *chunk) {
    const uint4 h = chunk[dev_lane()], l = chunk[32 + dev_lane()];
    const uint32_t a[2][4] = {{top.x, bottom.x, top.y, bottom.y},
                              {top.z, bottom.z, top.w, bottom.w}},
                   bh[2][2] = {{h.x, h.y}, {h.z, h.w}}, bl[2][2] = {{l.x, l.y}, {l.z, l.w}};
    for (int i = 0; i < 2; i++) {
        if (F16) {
            dev_mma_f16(hi, a[i], bh[i]);
            dev_mma_f16(lo, a[i], bl[i]);
        } else {
            dev_mma_bf16(hi, a[i], bh[i]);
            dev_mma_bf16(lo, a[i], bl[i]);
        }
    }
}

#endif
