/* sketch.h - the scorer `sketch`: every key of a block in 2 bits a dimension, after a rotation that makes its coordinates look alike.
 *   mu = mean of the block's 64 keys, stored int8 with one scale
 *   z_i = H (k_i - mu),  H: normalised Hadamard matrix times seeded signs; D no power of two: one H per power of two, largest first
 *   zhat_i = step_i level(z_i),  levels -1.5 -.5 .5 1.5;  step_i: the best of max|z| / 2 {1, .8, .65, .5} by squared error,
 *            then, the levels kept, the one of least squares
 *   logit_i = (q . mu + (H q) . zhat_i) / sqrt D,  H q in int8 with one scale;   score = log-sum-exp of the segment's 16
 *
 * Block (Dp = D rounded up to 16; 17 Dp + 72 bytes, D = 64: 18.1 a token):
 *   u32 code[4 segments][Dp / 16][16 tokens]   dimension 16 z + 4 s + b of a token: bits 8 b + 2 s, 2 wide, of its dword z, so
 *                                              that (dword >> 2 s) & 0x03030303 has four dimensions in order, one a byte
 *   u8  step[64]     0: step 0;  c: 2^((c - 255) / 16) times the block's largest step
 *   i8  mu[Dp]       zeros at the end
 *   f32 mu_scale, step_scale
 * Prepared query: f32 factor (scale of hq / sqrt D), f32 centre (1.5 sum hq), 8 bytes 0, i8 hq[Dp], f32 q[Dp] / sqrt D. */
#ifndef RADAR_CPU_SKETCH_H
#define RADAR_CPU_SKETCH_H

#include "kernels/backend.h"
#include "kernels/cpu/segment.h"

typedef struct radar_sketch {
    bool avx512;
    int D, Dp;
    int n_part, part[8];     /* sizes of the Hadamard matrices */
    float norm[RADAR_MAX_D]; /* sign / sqrt(size of the part) */
    float scale;             /* 1 / sqrt D */
    float step[256];         /* of a code */
    float middle[16];        /* 2^((i + 1/2) / 16): where step codes change */
} radar_sketch;

/* [this rank] One task; query_bytes as in the scorer.  sketch_scan.c */
void radar_sketch_scan(const radar_sketch *x, const radar_score_task *t, size_t query_bytes);

#endif
