/* matmul_weights.h - 32 columns of rows of weights, from the bytes as stored to the registers of tensor cores.
 * Of a row the lane with t = lane % 4 takes columns 8 t .. 8 t + 7: b[0], b[1] of one product and b[2], b[3] of the next; whoever meets
 * them orders its columns alike.  What is stored as an integer q becomes the f16 whose bits are those of q + OFFSET, a
 * subnormal: 2^-24 (q + OFFSET), exactly; a block's sum is then
 *   sum w x = d 2^24 sum(b x) + o sum(x)      o = -d OFFSET, or the type's minimum
 * A slot is a row's bytes of a step in the aligned 16-byte words that cover them, `skew` bytes behind its beginning. */
#ifndef RADAR_CUDA_MATMUL_WEIGHTS_H
#define RADAR_CUDA_MATMUL_WEIGHTS_H

#include "kernels/cuda/dev.h"

namespace {

struct w_bf16 {
    static constexpr int BYTES = 64, SLOT = 64; /* of a row and step */
    static constexpr bool F16 = false, BLOCKS = false;
};
struct w_f16 {
    static constexpr int BYTES = 64, SLOT = 64;
    static constexpr bool F16 = true, BLOCKS = false;
};
struct w_e4m3 {
    static constexpr int BYTES = 32, SLOT = 32;
    static constexpr bool F16 = true, BLOCKS = false;
};
struct w_q8_0 {
    static constexpr int BYTES = 34, SLOT = 48;
    static constexpr bool F16 = true, BLOCKS = true;
};
struct w_q4_0 {
    static constexpr int BYTES = 18, SLOT = 32;
    static constexpr bool F16 = true, BLOCKS = true;
};
struct w_q4_1 {
    static constexpr int BYTES = 20, SLOT = 32;
    static constexpr bool F16 = true, BLOCKS = true;
};

/* Two words from an even address. */
DEV void read8(uint32_t v[2], const uint8_t *p) {
    const unsigned odd = (unsigned)((uintptr_t)p % 4);
    const uint32_t *word = reinterpret_cast<const uint32_t *>(p - odd);
    v[0] = word[0], v[1] = word[1];
    if (odd) {
        v[0] = dev_bytes(v[0], v[1], 0x5432);
        v[1] = dev_bytes(v[1], word[2], 0x5432);
    }
}

/* 8 bytes as 8 halves. */
DEV void widen(uint32_t b[4], const uint32_t v[2]) {
    b[0] = dev_bytes(v[0], 0, 0x4140), b[1] = dev_bytes(v[0], 0, 0x4342);
    b[2] = dev_bytes(v[1], 0, 0x4140), b[3] = dev_bytes(v[1], 0, 0x4342);
}

DEV void read_halves(uint32_t b[4], const uint8_t *slot, int t) {
    const uint4 v = *reinterpret_cast<const uint4 *>(slot + 16 * t);
    b[0] = v.x, b[1] = v.y, b[2] = v.z, b[3] = v.w;
}
DEV void read_numbers(w_bf16, uint32_t b[4], const uint8_t *slot, int, int t) {
    read_halves(b, slot, t);
}
DEV void read_numbers(w_f16, uint32_t b[4], const uint8_t *slot, int, int t) {
    read_halves(b, slot, t);
}
DEV void read_numbers(w_e4m3, uint32_t b[4], const uint8_t *slot, int, int t) {
    const uint2 v = *reinterpret_cast<const uint2 *>(slot + 8 * t);
    b[0] = dev_e4m3x2_to_f16x2((uint16_t)v.x), b[1] = dev_e4m3x2_to_f16x2((uint16_t)(v.x >> 16));
    b[2] = dev_e4m3x2_to_f16x2((uint16_t)v.y), b[3] = dev_e4m3x2_to_f16x2((uint16_t)(v.y >> 16));
}
DEV void read_numbers(w_q8_0, uint32_t b[4], const uint8_t *slot, int skew, int t) {
    uint32_t v[2];
    read8(v, slot + skew + 2 + 8 * t);
    for (int i = 0; i < 2; i++) v[i] ^= 0x80808080u; /* + 128 */
    widen(b, v);
}
/* Columns 0 .. 15 are the low nibbles. */
DEV void read_nibbles(uint32_t b[4], const uint8_t *q, int t) {
    uint32_t v[2];
    read8(v, q + t % 2 * 8);
    for (int i = 0; i < 2; i++) v[i] = v[i] >> t / 2 * 4 & 0x0f0f0f0fu;
    widen(b, v);
}
DEV void read_numbers(w_q4_0, uint32_t b[4], const uint8_t *slot, int skew, int t) {
    read_nibbles(b, slot + skew + 2, t);
}
DEV void read_numbers(w_q4_1, uint32_t b[4], const uint8_t *slot, int skew, int t) {
    read_nibbles(b, slot + skew + 4, t);
}

DEV float read_half(const uint8_t *p) {
    return dev_f16_to_f32(*reinterpret_cast<const uint16_t *>(p));
}
DEV void read_scale(w_q8_0, float &d, float &o, const uint8_t *block) {
    d = read_half(block), o = -128 * d;
}
DEV void read_scale(w_q4_0, float &d, float &o, const uint8_t *block) {
    d = read_half(block), o = -8 * d;
}
DEV void read_scale(w_q4_1, float &d, float &o, const uint8_t *block) {
    d = read_half(block), o = read_half(block + 2);
}

} // namespace

#endif
