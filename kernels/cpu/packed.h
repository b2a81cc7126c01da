/* packed.h - quantised weights in the order the int8 kernels read them, without a gather or a transposition: tiles of 16
 * rows, in a tile one block of 32 columns after the other, in a block one row in each 4-byte lane.
 *
 *   head    f16 d[16], then f16 m[16] where the type has a minimum; once for 8 blocks of the types with blocks of 256
 *   scales  Q4_K, Q5_K: u8 scale[16], u8 min[16];  Q6_K: int8 scale[2][16]
 *   high    Q5_*: [16][4] bytes, bit i of byte k of row r = bit 4 of column 4 i + k
 *           Q6_K: [2][16][4] bytes, bits 2 i and 2 i + 1 of byte k of row r of half h = bits 4 and 5 of column 16 h + 4 i + k
 *   low     Q8_0: [8][16][4] bytes, byte k of row r of part i = column 4 i + k
 *           others: [4][16][4] bytes, of part i the low nibble = column 4 i + k, the high one = column 16 + 4 i + k
 * Integers are without sign, radar_quant_offset above their value.  Every piece is a multiple of 32 bytes.  Rows that are
 * missing in the last tile have d = 0. */
#ifndef RADAR_CPU_PACKED_H
#define RADAR_CPU_PACKED_H

#include "kernels/backend.h"
#include "kernels/cpu/tile.h"
#include "kernels/quant.h"

struct radar_packed {
    radar_region part;
    size_t tile_bytes;
    _Alignas(64) uint8_t tile[];
};

static inline size_t radar_packed_head(radar_dtype type) {
    return radar_quant_has_min(type) ? 64 : 32;
}

static inline size_t radar_packed_high(radar_dtype type) {
    if (type == RADAR_Q6_K) return 128;
    return type == RADAR_Q5_0 || type == RADAR_Q5_1 || type == RADAR_Q5_K ? 64 : 0;
}

/* Scales, high and low of one block of 32 columns. */
static inline size_t radar_packed_block(radar_dtype type) {
    return (radar_quant_is_k(type) ? 32u : 0u) + radar_packed_high(type) +
           (type == RADAR_Q8_0 ? 512 : 256);
}

/* Blocks of 32 columns under one head. */
static inline int radar_packed_blocks(radar_dtype type) { return radar_quant_is_k(type) ? 8 : 1; }

/* Bytes of a tile's columns [0, cols); cols a multiple of the type's block. */
static inline size_t radar_packed_bytes(radar_dtype type, int64_t cols) {
    size_t per = (size_t)radar_packed_blocks(type);
    return (size_t)cols / (per * RADAR_QUANT) *
           (radar_packed_head(type) + per * radar_packed_block(type));
}

/* Packs `rows` rows of cols columns, stored from w on, into one tile. */
void radar_pack_tile(uint8_t *tile, radar_dtype type, const uint8_t *w, size_t stride, int rows,
                     int64_t cols);

#endif
