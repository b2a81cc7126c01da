/* matvec_weights.h - what a lane of matvec.cu takes of a row of weights at a time: reading it from shared memory, and its numbers. */
#ifndef RADAR_CUDA_MATVEC_WEIGHTS_H
#define RADAR_CUDA_MATVEC_WEIGHTS_H

#include "kernels/cuda/dev.h"

struct unit_bf16 {
    static constexpr int COLUMNS = 8, BYTES = 16, ROWS = 4;
    uint32_t word[4];
};
struct unit_f16 {
    static constexpr int COLUMNS = 8, BYTES = 16, ROWS = 4;
    uint32_t word[4];
};
struct unit_f32 {
    static constexpr int COLUMNS = 4, BYTES = 16, ROWS = 4;
    uint32_t word[4];
};
struct unit_e4m3 {
    static constexpr int COLUMNS = 16, BYTES = 16, ROWS = 4;
    uint32_t word[4];
};
struct unit_q8_0 {
    static constexpr int COLUMNS = 32, BYTES = 34, ROWS = 2;
    uint32_t q[8];
    float d;
};
struct unit_q4_0 {
    static constexpr int COLUMNS = 32, BYTES = 18, ROWS = 4;
    uint32_t q[4]; /* nibbles: columns 0 .. 15 low, the others high */
    float d;
};
struct unit_q4_1 {
    static constexpr int COLUMNS = 32, BYTES = 20, ROWS = 4;
    uint32_t q[4];
    float d, m;
};

/* 4 bytes out of 8. */
DEV uint32_t join(uint32_t low, uint32_t high, unsigned shift) {
    return (uint32_t)(((uint64_t)high << 32 | low) >> shift);
}

/* 16 bytes from any address of shared memory. */
DEV void read16(uint32_t out[4], const uint8_t *p) {
    const unsigned odd = (unsigned)((uintptr_t)p % 4);
    if ((uintptr_t)p % 16 == 0) {
        const uint4 v = *reinterpret_cast<const uint4 *>(p);
        out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
        return;
    }
    const uint32_t *word = reinterpret_cast<const uint32_t *>(p - odd);
    for (int i = 0; i < 4; i++) out[i] = odd ? join(word[i], word[i + 1], 8 * odd) : word[i];
}

/* f16 d, then N words; p is even. */
template <int N> DEV float read_block(uint32_t (&q)[N], const uint8_t *p) {
    const unsigned odd = (unsigned)((uintptr_t)p % 4); /* 0 or 2 */
    const uint32_t *word = reinterpret_cast<const uint32_t *>(p - odd);
    uint32_t low = word[0];
    const float d = dev_f16_to_f32((uint16_t)(low >> 8 * odd));
#pragma unroll
    for (int i = 0; i < N; i++) {
        const uint32_t high = word[i + 1];
        q[i] = join(low, high, 16 + 8 * odd);
        low = high;
    }
    return d;
}

DEV void read(unit_bf16 &u, const uint8_t *p) { read16(u.word, p); }
DEV void read(unit_f16 &u, const uint8_t *p) { read16(u.word, p); }
DEV void read(unit_f32 &u, const uint8_t *p) { read16(u.word, p); }
DEV void read(unit_e4m3 &u, const uint8_t *p) { read16(u.word, p); }
DEV void read(unit_q8_0 &u, const uint8_t *p) { u.d = read_block(u.q, p); }
DEV void read(unit_q4_0 &u, const uint8_t *p) { u.d = read_block(u.q, p); }
DEV void read(unit_q4_1 &u, const uint8_t *p) {
    const uint32_t *word = reinterpret_cast<const uint32_t *>(p);
    u.d = dev_f16_to_f32((uint16_t)word[0]);
    u.m = dev_f16_to_f32((uint16_t)(word[0] >> 16));
#pragma unroll
    for (int i = 0; i < 4; i++) u.q[i] = word[i + 1];
}

/* Only the first `columns` of the row's last unit are its own: the others become 0. */
template <class U> DEV void trim(U &u, int columns) {
    const int bytes = columns * (U::BYTES / U::COLUMNS);
    for (int i = 0; i < 4; i++)
        if (bytes < 4 * i + 4) u.word[i] &= bytes > 4 * i ? (1u << 8 * (bytes - 4 * i)) - 1 : 0;
}
DEV void trim(unit_q8_0 &, int) {}
DEV void trim(unit_q4_0 &, int) {}
DEV void trim(unit_q4_1 &, int) {}

/* Columns 4 j .. 4 j + 3, exactly. */
DEV void four(const unit_bf16 &u, int j, float w[4]) {
    for (int i = 0; i < 4; i++)
        w[i] = dev_float(i % 2 ? u.word[2 * j + i / 2] & 0xffff0000u : u.word[2 * j + i / 2] << 16);
}
DEV void four(const unit_f16 &u, int j, float w[4]) {
    for (int i = 0; i < 4; i++)
        w[i] = dev_f16_to_f32((uint16_t)(u.word[2 * j + i / 2] >> 16 * (i % 2)));
}
DEV void four(const unit_f32 &u, int, float w[4]) {
    for (int i = 0; i < 4; i++) w[i] = dev_float(u.word[i]);
}
DEV void four(const unit_e4m3 &u, int j, float w[4]) {
    dev_e4m3x2_to_f32((uint16_t)u.word[j], w);
    dev_e4m3x2_to_f32((uint16_t)(u.word[j] >> 16), w + 2);
}
DEV void four(const unit_q8_0 &u, int j, float w[4]) {
    for (int i = 0; i < 4; i++) w[i] = dev_mul(u.d, (float)(int8_t)(u.q[j] >> 8 * i));
}
DEV int nibble(const uint32_t q[4], int j, int i) {
    return (int)(q[j % 4] >> (8 * i + j / 4 * 4) & 15);
}
DEV void four(const unit_q4_0 &u, int j, float w[4]) {
    for (int i = 0; i < 4; i++) w[i] = dev_mul(u.d, (float)(nibble(u.q, j, i) - 8));
}
DEV void four(const unit_q4_1 &u, int j, float w[4]) {
    for (int i = 0; i < 4; i++) w[i] = dev_add(dev_mul(u.d, (float)nibble(u.q, j, i)), u.m);
}

#endif
