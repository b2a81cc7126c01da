/* The int8 path of matmul.h: quantised weights times x rounded to int8, integer sums per block of 32, one fma each; here the
 * choice of the instruction set, and plain C.  All of them give the same bits. */
#include "kernels/cpu/packed.h"
#include "runtime/base.h"

/* ---- plain C: row by row, from the weights as stored ---- */

/* Integers of one row: q s [cols], d and m [blocks]; s is in d where a block has one. */
typedef struct plain_row {
    int16_t *q;
    float *d, *m;
    int64_t blocks;
    bool has_min;
} plain_row;

static void unpack_row(plain_row *w, radar_dtype type, const uint8_t *p) {
    for (int64_t b = 0; b < w->blocks; b++) {
        radar_quant block;
        radar_quant_read(&block, type, p, b);
        bool apart = type == RADAR_Q6_K;
        for (int i = 0; i < RADAR_QUANT; i++)
            w->q[b * RADAR_QUANT + i] = (int16_t)(block.q[i] * (apart ? block.scale[i / 16] : 1));
        w->d[b] = apart ? block.d : block.d * (float)block.scale[0];
        w->m[b] = block.m * (float)block.min;
    }
}

static inline __attribute__((always_inline)) float dot_body(const plain_row *w, const radar_x8 *x8,
                                                            int row) {
    const int8_t *x = x8->q + (size_t)row * x8->q_stride;
    float acc = 0.0f;
    for (int64_t b = 0; b < w->blocks; b++) {
        size_t at = (size_t)row * x8->b_stride + (size_t)b;
        int32_t sum = 0;
        for (int i = 0; i < RADAR_QUANT; i++)
            sum += w->q[b * RADAR_QUANT + i] * x[b * RADAR_QUANT + i];
        acc = __builtin_fmaf(w->d[b] * x8->dx[at], (float)sum, acc);
        if (w->has_min) acc = __builtin_fmaf(w->m[b], x8->dx_sum[at], acc);
    }
    return acc;
}

static float dot_plain(const plain_row *w, const radar_x8 *x8, int row) {
    return dot_body(w, x8, row);
}
RADAR_FMA static float dot_fma(const plain_row *w, const radar_x8 *x8, int row) {
    return dot_body(w, x8, row);
}

void radar_tile_int8_plain(radar_isa isa, const radar_tile *t, const radar_x8 *x8, void *scratch) {
    plain_row w = {
        .q = scratch, .blocks = t->cols / RADAR_QUANT, .has_min = radar_quant_has_min(t->type)};
    w.d = (float *)(w.q + t->cols);
    w.m = w.d + w.blocks;
    for (int r = 0; r < t->rows; r++) {
        unpack_row(&w, t->type, t->w + (size_t)r * t->stride);
        for (int m = 0; m < t->M; m++) {
            float y = isa.fma ? dot_fma(&w, x8, m) : dot_plain(&w, x8, m);
            t->out[(size_t)m * t->out_stride + (size_t)r] = t->bias ? y + t->bias[r] : y;
        }
    }
}

/* ---- the choice ---- */

/* Behind what the kernels unpack: 24 bytes a column. */
static uint8_t *packed_scratch(const radar_tile *t, void *scratch) {
    return (uint8_t *)scratch + (size_t)t->cols * 24;
}

void radar_tile_int8(radar_isa isa, const radar_tile *t, const radar_x8 *x8, void *scratch) {
    if (!isa.avx2) {
        radar_tile_int8_plain(isa, t, x8, scratch);
        return;
    }
    radar_tile packed = *t;
    if (!t->packed) {
        uint8_t *tile = packed_scratch(t, scratch);
        radar_pack_tile(tile, t->type, t->w, t->stride, t->rows, t->cols);
        packed.packed = tile;
    }
    if (isa.avx512)
        radar_tile_int8_avx512(&packed, x8, scratch);
    else
        radar_tile_int8_avx2(&packed, x8);
}
