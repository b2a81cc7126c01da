/* quant.h - quantised weights as the integers they are stored as, 32 columns of one row at a time.
 *   w[c] = d scale[c / 16] q[c] + m min
 * d and m are stored as f16; scale and min are small integers, 1 where a type has none.  d scale q and m min are exact in f32.
 * Source: the layouts of dtype.h. */
#ifndef RADAR_QUANT_H
#define RADAR_QUANT_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/dtype.h"

#define RADAR_QUANT 32

typedef struct radar_quant {
    float d, m;           /* m = 0: the type has no minimum */
    int8_t scale[2], min; /* scales of columns 0..15 and 16..31, which differ in Q6_K only */
    int8_t q[RADAR_QUANT];
} radar_quant;

static inline bool radar_quantised(radar_dtype type) { return radar_dtype_block(type) > 1; }

/* Blocks of 256: eight of 32 share d and m. */
static inline bool radar_quant_is_k(radar_dtype type) {
    return type == RADAR_Q4_K || type == RADAR_Q5_K || type == RADAR_Q6_K;
}

/* The type adds a minimum to every block. */
static inline bool radar_quant_has_min(radar_dtype type) {
    return type == RADAR_Q4_1 || type == RADAR_Q5_1 || type == RADAR_Q4_K || type == RADAR_Q5_K;
}

/* What q is above when it is stored without a sign: 8 for Q4_0, ... */
static inline int radar_quant_offset(radar_dtype type) {
    if (type == RADAR_Q8_0) return 128;
    return type == RADAR_Q6_K ? 32 : type == RADAR_Q5_0 ? 16 : type == RADAR_Q4_0 ? 8 : 0;
}

/* [this rank] Columns [32 index, 32 index + 32) of the row stored at `row`, of a quantised type. */
void radar_quant_read(radar_quant *out, radar_dtype type, const uint8_t *row, int64_t index);

#endif
