/* matvec_x.h - the rows of x that matvec.cu multiplies with: in shared memory, as stored or rounded, and times units of weights. */
#ifndef RADAR_CUDA_MATVEC_X_H
#define RADAR_CUDA_MATVEC_X_H

#include "kernels/cuda/matvec_weights.h"

static constexpr int LANES = 32; /* of a warp */

/* ---- x in shared memory, as stored or rounded: groups of 32 units, [M][planes][32 units] each, so that all offsets in a group
 * are constants and the lanes' reads lie together ---- */

struct x_f32 { /* planes of 4 columns */
    using plane = float4;
    static constexpr bool BLOCKS = false;
    static constexpr int MOST = 2;
};
struct x_bf16 {
    using plane = uint2;
    static constexpr bool BLOCKS = false;
    static constexpr int MOST = 8;
};
struct
    x_int8 { /* 2 planes of 16 columns, and behind those of all M {dx, what the type needs} of each block */
    using plane = uint4;
    static constexpr bool BLOCKS = true;
    static constexpr int MOST = 4;
};

/* Rows of a task.  With more than MOST rows of x the sums of 4 rows of blocks and the blocks do not fit into the registers. */
template <class U, class X, int M>
constexpr int rows_each = U::COLUMNS == 32 && M > X::MOST ? 2 : U::ROWS;

/* Of one row of x. */
template <class U, class X>
constexpr int unit_bytes = U::COLUMNS / 4 * (int)sizeof(typename X::plane);
template <class U> constexpr int unit_bytes<U, x_int8> = 2 * sizeof(uint4) + sizeof(uint2);

template <class U, class X, int M> DEV uint8_t *group_of(uint8_t *x, int unit) {
    return x + unit / LANES * (LANES * M * unit_bytes<U, X>);
}
template <class X> DEV typename X::plane *plane_of(uint8_t *group, int plane, int unit) {
    return reinterpret_cast<typename X::plane *>(group) + plane * LANES + unit % LANES;
}
template <int M> DEV uint2 *scales_of(uint8_t *group, int m, int unit) {
    return reinterpret_cast<uint2 *>(plane_of<x_int8>(group, 2 * M, 0)) + m * LANES + unit % LANES;
}

DEV float4 as_floats(float4 v) { return v; }
DEV float4 as_floats(uint2 v) {
    return {dev_float(v.x << 16), dev_float(v.x & 0xffff0000u), dev_float(v.y << 16),
            dev_float(v.y & 0xffff0000u)};
}
DEV float4 as_plane(x_f32, float4 v) { return v; }
DEV uint2 as_plane(x_bf16, float4 v) {
    return {dev_f32_to_bf16(v.x) | (uint32_t)dev_f32_to_bf16(v.y) << 16,
            dev_f32_to_bf16(v.z) | (uint32_t)dev_f32_to_bf16(v.w) << 16};
}

/* Columns 4 four .. 4 four + 3 of row m, by a whole warp with neighbouring fours; `there`: x has them. */
template <class U, int M, class X>
DEV void keep(X kind, uint8_t *x, int m, int four, float4 v, bool there) {
    constexpr int EACH = U::COLUMNS / 4;
    const int unit = four / EACH;
    if (there)
        *plane_of<X>(group_of<U, X, M>(x, unit), m * EACH + four % EACH, unit) = as_plane(kind, v);
}

/* What the formula of a block takes beside dx: minus the offset times sum q; dx sum q; nothing. */
DEV uint32_t beside(const unit_q4_0 *, float, int32_t sum) { return (uint32_t)(-8 * sum); }
DEV uint32_t beside(const unit_q4_1 *, float dx, int32_t sum) {
    return dev_bits(dev_mul(dx, (float)sum));
}
DEV uint32_t beside(const unit_q8_0 *, float, int32_t) { return 0; }

/* Nearest even, as a byte: adding 1.5 * 2^23 leaves the integer in the lowest bits. */
DEV uint32_t rounded(float v, float factor) {
    return factor > 0.0f ? dev_bits(dev_add(dev_mul(v, factor), 12582912.0f)) & 0xff : 0;
}

/* 8 lanes round a block. */
template <class U, int M> DEV void keep(x_int8, uint8_t *x, int m, int four, float4 v, bool there) {
    const uint32_t size[4] = {dev_bits(v.x) & 0x7fffffffu, dev_bits(v.y) & 0x7fffffffu,
                              dev_bits(v.z) & 0x7fffffffu, dev_bits(v.w) & 0x7fffffffu};
    uint32_t most = 0; /* as bits a NaN is the largest */
    for (int i = 0; i < 4; i++) most = size[i] > most ? size[i] : most;
    for (int mask = 4; mask; mask /= 2) {
        const uint32_t other = dev_shuffle_xor(most, mask);
        most = other > most ? other : most;
    }
    const float max = dev_float(most);
    const bool tiny = max < 0x1p-100f;
    const float factor = !tiny && most < 0x7f800000u ? dev_div(127.0f, max) : 0.0f;
    const uint32_t q = rounded(v.x, factor) | rounded(v.y, factor) << 8 |
                       rounded(v.z, factor) << 16 | rounded(v.w, factor) << 24;
    int32_t sum = dev_dot4(q, 0x01010101u, 0);
    for (int mask = 4; mask; mask /= 2) sum += dev_shuffle_xor(sum, mask);
    if (!there) return;
    const int unit = four / 8, word = four % 8;
    uint8_t *const group = group_of<U, x_int8, M>(x, unit);
    reinterpret_cast<uint32_t *>(plane_of<x_int8>(group, 2 * m + word / 4, unit))[word % 4] = q;
    if (word) return;
    const float dx = tiny ? 0.0f : dev_div(max, 127.0f);
    *scales_of<M>(group, m, unit) = {dev_bits(dx),
                                     beside(static_cast<const U *>(nullptr), dx, sum)};
}

/* ---- one unit of the task's rows times x ---- */

template <class U, class X, int M, int R>
DEV void multiply_floats(float (&sum)[M * R], const U (&u)[R], uint8_t *x, int unit) {
    constexpr int EACH = U::COLUMNS / 4;
    uint8_t *const group = group_of<U, X, M>(x, unit);
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        float w[R][4];
        for (int r = 0; r < R; r++) four(u[r], j, w[r]);
#pragma unroll
        for (int m = 0; m < M; m++) {
            const float4 v = as_floats(*plane_of<X>(group, m * EACH + j, unit));
#pragma unroll
            for (int r = 0; r < R; r++) {
                float &s = sum[m * R + r];
                s = dev_fma(w[r][0], v.x, s);
                s = dev_fma(w[r][1], v.y, s);
                s = dev_fma(w[r][2], v.z, s);
                s = dev_fma(w[r][3], v.w, s);
            }
        }
    }
}

DEV void add_block(float &sum, const unit_q8_0 &u, const uint32_t q[8], float dx, uint32_t) {
    int32_t dot = 0;
    for (int i = 0; i < 8; i++) dot = dev_dot4(u.q[i], q[i], dot);
    sum = dev_fma(dev_mul(u.d, dx), (float)dot, sum);
}
DEV int32_t dot_nibbles(const uint32_t w[4], const uint32_t q[8], int32_t dot) {
    for (int i = 0; i < 4; i++) {
        dot = dev_dot4(w[i] & 0x0f0f0f0fu, q[i], dot);
        dot = dev_dot4(w[i] >> 4 & 0x0f0f0f0fu, q[i + 4], dot);
    }
    return dot;
}
DEV void add_block(float &sum, const unit_q4_0 &u, const uint32_t q[8], float dx, uint32_t offset) {
    const int32_t dot = dot_nibbles(u.q, q, (int32_t)offset);
    sum = dev_fma(dev_mul(u.d, dx), (float)dot, sum);
}
DEV void add_block(float &sum, const unit_q4_1 &u, const uint32_t q[8], float dx, uint32_t dx_sum) {
    sum = dev_fma(dev_mul(u.d, dx), (float)dot_nibbles(u.q, q, 0), sum);
    sum = dev_fma(u.m, dev_float(dx_sum), sum);
}

template <class U, int M, int R>
DEV void multiply_blocks(float (&sum)[M * R], const U (&u)[R], uint8_t *x, int unit) {
    uint8_t *const group = group_of<U, x_int8, M>(x, unit);
#pragma unroll
    for (int m = 0; m < M; m++) {
        const uint4 a = *plane_of<x_int8>(group, 2 * m, unit),
                    b = *plane_of<x_int8>(group, 2 * m + 1, unit);
        const uint2 scale = *scales_of<M>(group, m, unit);
        const uint32_t q[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
        for (int r = 0; r < R; r++) add_block(sum[m * R + r], u[r], q, dev_float(scale.x), scale.y);
    }
}

#endif
