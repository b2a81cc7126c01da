/* sketch.h - the scorer `sketch`: every key of a block in b = 1, 2 or 4 bits a dimension, after a rotation that makes its
 * coordinates look alike.
 *   mu = mean of the block's 64 keys, stored int8 with one scale
 *   z_i = H (k_i - mu),  H: normalised Hadamard matrix times seeded signs; D no power of two: one H per power of two, largest first
 *   zhat_i = step_i level(z_i),  levels: the 2^b odd multiples of 1/2 from -(2^b - 1)/2 to (2^b - 1)/2
 *            2 and 4 bits: step_i is the best of 2 max|z| / 2^b {1, .8, .65, .5} by squared error, then, the levels kept, the
 *            one of least squares; 1 bit: the levels are the signs, and least squares gives step_i = 2 mean|z|
 *   logit_i = (q . mu + (H q) . zhat_i) / sqrt D,  H q in 8 bits, or 6, with one scale;   score = log-sum-exp of the segment's 16
 * Source: 1 bit after a random rotation, scaled by least squares: DRIVE, arXiv 2105.08339; more bits: EDEN, arXiv 2108.08842.
 * Centred on the block's mean, uniform levels and a step per key from four candidates: our own, chosen by measurement.
 *
 * Block (Dp = D rounded up to 16, for 1 bit to 32; (8 b + 1) Dp + 72 bytes; D = 64: 10.1, 18.1, 34.1 a token):
 *   u32 code[4 segments][W][16 tokens]   level + (2^b - 1)/2; dimension (32/b) z + 4 s + j of a token: bits 8 j + b s, b wide,
 *                                        of its dword z, so that (dword >> b s) & (2^b - 1 in every byte) has four
 *                                        dimensions in order, one a byte
 *   u8  step[64]     0: step 0;  c: 2^((c - 255) / 16) times the block's largest step
 *   i8  mu[Dp]       zeros at the end
 *   f32 mu_scale, step_scale
 *   u32 low[4 segments][L][16 tokens]    2 bits only
 * 1 and 4 bits: W = b Dp / 32, L = 0.  2 bits lie in two planes, so that the upper one can be read alone, with all that it takes
 * to use it, as 1-bit codes: code has the upper bits, W = Dp / 32 rounded up, low the lower ones, L = Dp / 32 rounded down;
 * an odd half dword of upper bits leaves bits 8 j + 4 .. 8 j + 7 free, and there its lower bits are.
 * Prepared query: f32 gain (scale of hq / (sqrt D ln 2)), f32 sum of hq, f32 reach (gain (2^b - 1)/2 sum |hq|), the same three
 *                 of a coarse scan, 8 bytes 0, i8 hq[Dq], f32 q[Dp] / sqrt D, 2 bits: u8 table[Dq / 16][64]
 *                 (Dq = D rounded up to 32, zeros at the end).
 * hq is int8, 127 for its largest coordinate; for 2 bits 31, so that the sum of any four of its numbers fits a byte:
 * table[2 z + n][16 j + c] = 124 + sum over the bits s of c of hq 32 z + 16 n + 4 s + j.  What that costs is a thousandth of what
 * the codes' own rounding does (both add to the variance of a logit).  A coarse scan, of 2 bits, reads code as 1-bit codes.
 * Order: code . hq is an exact integer; q . mu runs in 16 lanes d % 16, ascending, one fma each, folded as in lse.h;
 * y_i = (2 code . hq - (2^b - 1) sum hq) (step_i step_scale / 2) gain;   score = q . mu + mass of y (mass.h), far where
 * reach step_scale is above RADAR_MASS_REACH, or no number; rough for a coarse scan.  Error of a score against the formula: that of mass.h. */
#ifndef RADAR_CPU_SKETCH_H
#define RADAR_CPU_SKETCH_H

#include "kernels/backend.h"
#include "kernels/cpu/mass.h"
#include "kernels/cpu/rotate.h"

/* The upper bit of a 2-bit code alone stands for +- this, in steps: by least squares the mean of |level|, .82 for normal
 * coordinates. */
#define RADAR_SKETCH_UPPER 0.8f

/* The code of level 0: half the largest code. */
#define RADAR_SKETCH_CENTRE(bits) (0.5f * (float)((1 << (bits)) - 1))

typedef struct radar_sketch {
    bool avx512, avx2, vbmi;
    int D, Dp, Dq, bits;     /* Dq: of hq in a prepared query */
    int words, low_words;    /* W, L */
    radar_rotation rotation; /* H */
    float scale;             /* 1 / sqrt D */
    float step[256];         /* of a code */
    float middle[16];        /* 2^((i + 1/2) / 16): where step codes change */
} radar_sketch;

/* A block, and a prepared query, in their parts. */
typedef struct radar_sketch_block {
    const uint32_t *code, *low;
    const uint8_t *step;
    const int8_t *mu;
    float mu_scale, step_scale;
} radar_sketch_block;

typedef struct radar_sketch_query {
    float gain, reach;
    int32_t twice_centre; /* (2^b - 1) sum hq */
    const int8_t *hq;
    const float *q;
    const uint8_t *table; /* 2 bits */
} radar_sketch_query;

RADAR_TEMPLATE radar_sketch_block radar_sketch_block_at(const radar_sketch *x,
                                                        const radar_kv_view *kv, int64_t block) {
    const char *p = (const char *)kv->summary + (size_t)block * kv->block_bytes;
    radar_sketch_block b = {.code = (const uint32_t *)p,
                            .step = (const uint8_t *)p + 256 * x->words};
    b.mu = (const int8_t *)b.step + RADAR_BLOCK;
    b.low = (const uint32_t *)(b.mu + x->Dp + 8);
    memcpy(&b.mu_scale, b.mu + x->Dp, sizeof b.mu_scale);
    memcpy(&b.step_scale, b.mu + x->Dp + 4, sizeof b.step_scale);
    return b;
}

/* bits: of a code as it is read; one where two are stored is the upper plane alone. */
RADAR_TEMPLATE radar_sketch_query radar_sketch_query_of(const radar_sketch *x, const void *prepared,
                                                        int bits) {
    const char *p = prepared;
    bool coarse = bits < x->bits;
    float head[3];
    memcpy(head, p + (coarse ? 12 : 0), sizeof head);
    return (radar_sketch_query){.gain = head[0],
                                .reach = head[2],
                                .twice_centre = ((1 << bits) - 1) * (int32_t)head[1],
                                .hq = (const int8_t *)p + 32,
                                .q = (const float *)(p + 32 + x->Dq),
                                .table = (const uint8_t *)p + 32 + x->Dq + 4 * x->Dp};
}

/* [this rank] One task; query_bytes as in the scorer.  Twins, the same bits.  sketch_scan.c, sketch_scan_avx512.c, ..._avx2.c */
void radar_sketch_scan(const radar_sketch *x, const radar_score_task *t, size_t query_bytes);
void radar_sketch_scan_avx512(const radar_sketch *x, const radar_score_task *t, size_t query_bytes);
void radar_sketch_scan_avx2(const radar_sketch *x, const radar_score_task *t, size_t query_bytes);

#endif
