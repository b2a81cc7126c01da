/* rotate.h - the rotation of kernels/cpu/rotate.h by a warp, and the rounding of its file: the same operations, the same bits.
 * Lane l holds dimensions 32 i + l, i = 0 .. N - 1. */
#ifndef RADAR_CUDA_ROTATE_H
#define RADAR_CUDA_ROTATE_H

#include "kernels/cuda/dev.h"

/* The size of the Hadamard matrix that dimension d belongs to: one per bit of D, largest first; 0 from D on. */
DEV int radar_part_of(int d, int D) {
    int begin = 0;
    for (int size = 256; size; size /= 2) {
        if (!(D & size)) continue;
        begin += size;
        if (d < begin) return size;
    }
    return 0;
}

/* The matrices without signs and norm.  A part begins at a multiple of its size, so pairs are those of d and d ^ half. */
template <int N> DEV void radar_hadamard_warp(float v[N], int D) {
    const int lane = (int)dev_lane();
    int part[N];
#pragma unroll
    for (int i = 0; i < N; i++) part[i] = radar_part_of(32 * i + lane, D);
#pragma unroll
    for (int half = 1; half < 32; half *= 2) {
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float other = dev_shuffle_xor(v[i], half);
            if (half < part[i]) v[i] = lane & half ? other - v[i] : v[i] + other;
        }
    }
#pragma unroll
    for (int apart = 1; apart < N; apart *= 2) {
#pragma unroll
        for (int i = 0; i < N; i++) {
            if ((i & apart) || 32 * apart >= part[i]) continue;
            const float a = v[i], b = v[i | apart];
            v[i] = a + b;
            v[i | apart] = a - b;
        }
    }
}

/* v in units of max / largest: the nearest integer; NaN counts as 0. */
DEV int8_t radar_round_one(float v, float max, float largest) {
    const float u = dev_mul(dev_div(v, max), largest);
    return u == u ? (int8_t)(int)dev_add(u, u < 0 ? -0.5f : 0.5f) : (int8_t)0;
}

/* Whether rounding has a scale at all: else all is 0. */
DEV bool radar_rounds(float max) { return max > 0 && max < dev_float(0x7f800000u); }

/* The largest |v| of a lane's numbers so far, NaN left out. */
DEV float radar_larger(float max, float v) {
    const float size = dev_float(dev_bits(v) & 0x7fffffffu);
    return size > max ? size : max;
}

DEV float radar_warp_max(float v) {
#pragma unroll
    for (int mask = 16; mask; mask /= 2) {
        const float other = dev_shuffle_xor(v, mask);
        v = other > v ? other : v;
    }
    return v;
}

#endif
