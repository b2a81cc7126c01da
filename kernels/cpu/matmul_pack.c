/* Packing: what a rank multiplies with is copied once into tiles (packed.h). */
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/packed.h"
#include "kernels/matmul.h"

/* ---- one block of one row ---- */

static void put_f16(uint8_t *at, int row, float value) {
    uint16_t h = radar_f32_to_f16(value); /* it was one */
    memcpy(at + 2 * row, &h, sizeof h);
}

static void put_low(uint8_t *low, radar_dtype type, const uint8_t q[RADAR_QUANT], int row) {
    if (type == RADAR_Q8_0) {
        for (int i = 0; i < 8; i++) memcpy(low + 64 * i + 4 * row, q + 4 * i, 4);
        return;
    }
    uint8_t pair[16];
    for (int i = 0; i < 16; i++) pair[i] = (uint8_t)((q[i] & 15) | q[i + 16] << 4);
    for (int i = 0; i < 4; i++) memcpy(low + 64 * i + 4 * row, pair + 4 * i, 4);
}

static void put_high(uint8_t *high, radar_dtype type, const uint8_t q[RADAR_QUANT], int row) {
    uint8_t bits[8] = {0};
    bool six = type == RADAR_Q6_K;
    for (int c = 0; c < RADAR_QUANT; c++) {
        int k = c % 4, part = c / 4;
        if (six)
            bits[4 * (part / 4) + k] |= (uint8_t)((q[c] >> 4 & 3) << 2 * (part % 4));
        else
            bits[k] |= (uint8_t)((q[c] >> 4 & 1) << part);
    }
    memcpy(high + 4 * row, bits, 4);
    if (six) memcpy(high + 64 + 4 * row, bits + 4, 4);
}

/* Scales, high and low of row `row` of a block that begins at `at`. */
static void put_block(uint8_t *at, radar_dtype type, const radar_quant *w, int row) {
    uint8_t q[RADAR_QUANT];
    int offset = radar_quant_offset(type);
    for (int i = 0; i < RADAR_QUANT; i++) q[i] = (uint8_t)(w->q[i] + offset);
    if (radar_quant_is_k(type)) {
        at[row] = (uint8_t)w->scale[0];
        at[16 + row] = (uint8_t)(type == RADAR_Q6_K ? w->scale[1] : w->min);
        at += 32;
    }
    if (radar_packed_high(type)) put_high(at, type, q, row);
    put_low(at + radar_packed_high(type), type, q, row);
}

void radar_pack_tile(uint8_t *tile, radar_dtype type, const uint8_t *w, size_t stride, int rows,
                     int64_t cols) {
    int per_head = radar_packed_blocks(type);
    if (rows < RADAR_TILE_ROWS) memset(tile, 0, radar_packed_bytes(type, cols));
    for (int64_t b = 0; b < cols / RADAR_QUANT; b++) {
        bool head = b % per_head == 0;
        uint8_t *block = tile + (head ? radar_packed_head(type) : 0);
        for (int r = 0; r < rows; r++) {
            radar_quant q;
            radar_quant_read(&q, type, w + (size_t)r * stride, b);
            if (head) put_f16(tile, r, q.d);
            if (head && radar_quant_has_min(type)) put_f16(tile + 32, r, q.m);
            put_block(block, type, &q, r);
        }
        tile = block + radar_packed_block(type);
    }
}

/* ---- whole matrices ---- */

size_t radar_matmul_packed_bytes(radar_dtype type, int64_t rows, int64_t cols) {
    size_t tiles = (size_t)radar_ceil_div(radar_max64(rows, 0), RADAR_TILE_ROWS), bytes;
    if (!radar_quantised(type) || rows <= 0 || cols <= 0) return 0;
    bool fits = radar_mul(tiles, radar_packed_bytes(type, cols), &bytes) &&
                radar_add(bytes, sizeof(struct radar_packed) + 63, &bytes);
    return fits ? bytes / 64 * 64 : SIZE_MAX; /* which no allocation gives */
}

size_t radar_cpu_pack_bytes(radar_backend *be, const radar_matrix *w, const radar_region *part) {
    const radar_cpu *cpu = radar_cpu_of(be);
    bool pays = cpu->opt.precision == RADAR_PRECISION_FAST && cpu->isa.avx2;
    return pays ? radar_matmul_packed_bytes(w->type, part->row_end - part->row_begin,
                                            part->col_end - part->col_begin)
                : 0;
}

void radar_cpu_pack(radar_backend *be, void *memory, radar_matrix *w, const radar_region *part) {
    struct radar_packed *p = memory;
    int64_t rows = part->row_end - part->row_begin, cols = part->col_end - part->col_begin,
            tiles = radar_ceil_div(rows, RADAR_TILE_ROWS);
    *p = (struct radar_packed){*part, radar_packed_bytes(w->type, cols)};
    const uint8_t *first =
        (const uint8_t *)w->data + (size_t)part->row_begin * w->row_bytes +
        (size_t)(part->col_begin / radar_dtype_block(w->type)) * radar_dtype_block_bytes(w->type);
#pragma omp parallel for num_threads(radar_cpu_of(be)->opt.n_threads) schedule(static)
    for (int64_t i = 0; i < tiles; i++)
        radar_pack_tile(p->tile + (size_t)i * p->tile_bytes, w->type,
                        first + (size_t)(i * RADAR_TILE_ROWS) * w->row_bytes, w->row_bytes,
                        (int)radar_min64(rows - i * RADAR_TILE_ROWS, RADAR_TILE_ROWS), cols);
    w->packed = p;
}
