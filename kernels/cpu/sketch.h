/* sketch.h - the scorer `sketch`: every key of a block in b = 1, 2 or 4 bits a dimension, after a rotation that makes its
 * coordinates look alike.
 *   mu = mean of the block's 64 keys, stored int8 with one scale
 *   z_i = H (k_i - mu),  H: normalised Hadamard matrix times seeded signs; D no power of two: one H per power of two, largest first
 *   zhat_i = step_i level(z_i),  levels: the 2^b odd multiples of 1/2 from -(2^b - 1)/2 to (2^b - 1)/2
 *            2 and 4 bits: step_i is the best of 2 max|z| / 2^b {1, .8, .65, .5} by squared error, then, the levels kept, the
 *            one of least squares; 1 bit: the levels are the signs, and least squares gives step_i = 2 mean|z|
 *   logit_i = (q . mu + (H q) . zhat_i) / sqrt D,  H q in int8 with one scale;   score = log-sum-exp of the segment's 16
 * Source: 1 bit after a random rotation, scaled by least squares: DRIVE, arXiv 2105.08339; more bits: EDEN, arXiv 2108.08842.
 * Centred on the block's mean, uniform levels and a step per key from four candidates: our own, chosen by measurement.
 *
 * Block (Dp = D rounded up to 16, for 1 bit to 32; (8 b + 1) Dp + 72 bytes; D = 64: 10.1, 18.1, 34.1 a token):
 *   u32 code[4 segments][b Dp / 32][16 tokens]   level + (2^b - 1)/2; dimension (32/b) z + 4 s + j of a token: bits 8 j + b s,
 *                                                b wide, of its dword z, so that (dword >> b s) & (2^b - 1 in every byte) has
 *                                                four dimensions in order, one a byte
 *   u8  step[64]     0: step 0;  c: 2^((c - 255) / 16) times the block's largest step
 *   i8  mu[Dp]       zeros at the end
 *   f32 mu_scale, step_scale
 * Prepared query: f32 factor (scale of hq / sqrt D), f32 centre ((2^b - 1)/2 sum hq), 8 bytes 0, i8 hq[Dp], f32 q[Dp] / sqrt D.
 * Order: code . hq is an exact integer; q . mu runs in 16 lanes d % 16, ascending, one fma each; folds as in lse.h. */
#ifndef RADAR_CPU_SKETCH_H
#define RADAR_CPU_SKETCH_H

#include "kernels/backend.h"
#include "kernels/cpu/rotate.h"

/* The code of level 0: half the largest code. */
#define RADAR_SKETCH_CENTRE(bits) (0.5f * (float)((1 << (bits)) - 1))

typedef struct radar_sketch {
    bool avx512;
    int D, Dp, bits;
    radar_rotation rotation; /* H */
    float scale;             /* 1 / sqrt D */
    float step[256];         /* of a code */
    float middle[16];        /* 2^((i + 1/2) / 16): where step codes change */
} radar_sketch;

/* [this rank] One task; query_bytes as in the scorer.  sketch_scan.c */
void radar_sketch_scan(const radar_sketch *x, const radar_score_task *t, size_t query_bytes);

#endif
