#include "kernels/quant.h"

#include <string.h>

#include "runtime/base.h"

static float load_f16(const uint8_t *p) {
    uint16_t u;
    memcpy(&u, p, sizeof u);
    return radar_f16_to_f32(u);
}

/* Byte i holds columns i (low) and i + 16 (high). */
static void nibbles(int8_t *q, const uint8_t *p, int offset) {
    for (int i = 0; i < 16; i++) {
        q[i] = (int8_t)((p[i] & 15) - offset);
        q[i + 16] = (int8_t)((p[i] >> 4) - offset);
    }
}

/* Bit i of the 32 at `high` is the fifth bit of column i. */
static void five_bits(int8_t *q, const uint8_t *high, const uint8_t *p, int offset) {
    uint32_t bits =
        high[0] | (uint32_t)high[1] << 8 | (uint32_t)high[2] << 16 | (uint32_t)high[3] << 24;
    nibbles(q, p, 0);
    for (int i = 0; i < RADAR_QUANT; i++)
        q[i] = (int8_t)((q[i] | (int)(bits >> i & 1) << 4) - offset);
}

/* 8 scales and 8 minima of 6 bits in 12 bytes: the first four of each in the low bits of bytes 0-3 and 4-7; the others have
 * their low halves in bytes 8-11 and their high bits on top of those of the first four. */
static void scale_and_min(int *scale, int *min, const uint8_t *p, int i) {
    if (i < 4) {
        *scale = p[i] & 63;
        *min = p[i + 4] & 63;
    } else {
        *scale = (p[i + 4] & 15) | p[i - 4] >> 6 << 4;
        *min = p[i + 4] >> 4 | p[i] >> 6 << 4;
    }
}

/* Blocks i of 8 of Q4_K and Q5_K; 32 bytes of nibbles are shared by two blocks: the even one has the low halves. */
static void k_with_min(radar_quant *out, const uint8_t *p, int i, bool five) {
    int scale = 0, min = 0;
    const uint8_t *high = p + 16, *low = high + (five ? 32 : 0) + 32 * (i / 2);
    scale_and_min(&scale, &min, p + 4, i);
    out->d = load_f16(p);
    out->m = -load_f16(p + 2);
    out->scale[0] = out->scale[1] = (int8_t)scale;
    out->min = (int8_t)min;
    for (int c = 0; c < RADAR_QUANT; c++) {
        int q = i % 2 ? low[c] >> 4 : low[c] & 15;
        out->q[c] = (int8_t)(five ? q | (high[c] >> i & 1) << 4 : q);
    }
}

/* Block i of 8 of Q6_K: blocks 4 h + k have their low halves in 64 bytes (k even: the first 32; k >= 2: the high nibbles),
 * their upper two bits at 2 k in 32 bytes. */
static void six_bits(radar_quant *out, const uint8_t *p, int i) {
    int half = i / 4, k = i % 4;
    const uint8_t *low = p + 64 * half + 32 * (k % 2), *high = p + 128 + 32 * half;
    memcpy(out->scale, p + 192 + 2 * i, sizeof out->scale);
    out->d = load_f16(p + 208);
    for (int c = 0; c < RADAR_QUANT; c++) {
        int q = k >= 2 ? low[c] >> 4 : low[c] & 15;
        out->q[c] = (int8_t)((q | (high[c] >> 2 * k & 3) << 4) - 32);
    }
}

void radar_quant_read(radar_quant *out, radar_dtype type, const uint8_t *row, int64_t index) {
    int per_block = radar_quant_is_k(type) ? 8 : 1, i = (int)(index % per_block);
    const uint8_t *p = row + (size_t)(index / per_block) * radar_dtype_block_bytes(type);
    bool has_min = radar_quant_has_min(type);
    if (type == RADAR_Q4_K || type == RADAR_Q5_K) {
        k_with_min(out, p, i, type == RADAR_Q5_K);
        return;
    }
    out->scale[0] = out->scale[1] = out->min = 1;
    out->m = has_min ? load_f16(p + 2) : 0.0f;
    if (type == RADAR_Q6_K) {
        six_bits(out, p, i);
        return;
    }
    const uint8_t *q = p + (has_min ? 4 : 2);
    int offset = radar_quant_offset(type);
    out->d = load_f16(p);
    if (type == RADAR_Q8_0)
        memcpy(out->q, q, RADAR_QUANT);
    else if (type == RADAR_Q5_0 || type == RADAR_Q5_1)
        five_bits(out->q, q, q + 4, offset);
    else
        nibbles(out->q, q, offset);
}
