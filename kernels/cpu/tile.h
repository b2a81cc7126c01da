/* tile.h - the unit of work of a matmul: up to 16 rows of one job (by panels, panel.h, 32) times all rows of x, on one thread.
 * matmul.c cuts jobs into tiles; one file per accumulation order (matmul.h) computes them. */
#ifndef RADAR_CPU_TILE_H
#define RADAR_CPU_TILE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/isa.h"
#include "kernels/dtype.h"

#define RADAR_TILE_ROWS 16

typedef struct radar_tile {
    radar_dtype type;
    int rows; /* 1..16; by panels 1..32 */
    int64_t cols;
    const uint8_t *w; /* first column of the first row, as stored */
    size_t stride;    /* bytes from row to row */
    const uint8_t
        *packed;   /* the same columns of the tile as packed.h has them; NULL = w is all there is */
    int64_t below; /* rows of the same job after the tile: they may be prefetched */
    const float *bias; /* [rows]; NULL = none */
    float *out;        /* [M, rows] */
    size_t out_stride;
    int M;
} radar_tile;

/* x rounded per block of 32: x ~ dx q.  Row m of q at q + m * q_stride, of the others at m * b_stride. */
typedef struct radar_x8 {
    int8_t *q;
    float *dx;
    float *dx_sum;     /* dx float(sum q): what multiplies a block's minimum */
    int32_t *neg_sum;  /* -sum q: what takes the offset out of unsigned weights */
    int32_t *neg_half; /* the same of the block's first 16 */
    size_t q_stride, b_stride;
} radar_x8;

/* x rounded to bf16.  Row m at q + m * stride. */
typedef struct radar_x16 {
    uint16_t *q;
    size_t stride;
} radar_x16;

/* Rounds cols values (a multiple of 32) into row m.  A block with an infinity or NaN makes every output it enters NaN. */
void radar_round_int8(radar_isa isa, const radar_x8 *x8, int m, const float *x, int64_t cols);
/* Rounds cols values into row m; needs isa.bf16. */
void radar_round_bf16(const radar_x16 *x16, int m, const float *x, int64_t cols);

/* x8, x16, x begin at the tile's first column; scratch: RADAR_TILE_SCRATCH(cols) bytes, 64-byte aligned. */
void radar_tile_int8(radar_isa isa, const radar_tile *t, const radar_x8 *x8, void *scratch);
/* Its twins.  The first two want the tile packed. */
void radar_tile_int8_avx512(const radar_tile *t, const radar_x8 *x8, void *scratch);
void radar_tile_int8_avx2(const radar_tile *t, const radar_x8 *x8);
void radar_tile_int8_plain(radar_isa isa, const radar_tile *t, const radar_x8 *x8, void *scratch);
void radar_tile_bf16(const radar_tile *t, const radar_x16 *x16);
void radar_tile_f32(radar_isa isa, const radar_tile *t, const float *x, size_t x_stride,
                    void *scratch);

/* 16 rows in f32; the integer path needs less: 24 bytes a column for what it unpacks and up to 18 for a tile that was not packed. */
#define RADAR_TILE_SCRATCH(cols) (((size_t)(cols) + 63) / 64 * 64 * 64)

#endif
