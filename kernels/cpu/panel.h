/* panel.h - many rows of x: the orders of matmul.h with 16 outputs, not 16 lanes of one output, in a register.
 *
 * W and x are rearranged by lane, in elements of 32 bits: an f32 column, or a pair of bf16 columns.  Lane j of chunk i is
 * element 16 i + j of a row.  Lanes lie in the order in which the tree of sum16.h adds them, four in a quad:
 *   W: [4 quads][chunks][4 lanes][16 or 32 rows], once per tile     x: [M / 12][4 quads][chunks][4 lanes][12 rows], once per matmul
 * One quad after the other is multiplied and the quads are added as they come, without a shuffle: the bits are those of the
 * kernels for few rows, at close to the speed at which the machine multiplies. */
#ifndef RADAR_CPU_PANEL_H
#define RADAR_CPU_PANEL_H

#include "kernels/cpu/tile.h"

#define RADAR_PANEL_ROWS 32 /* of W */
#define RADAR_PANEL_X 12    /* of x */
#define RADAR_PANEL_LANES 16
#define RADAR_PANEL_QUAD 4 /* lanes */

/* Elements from quad to quad: one line more than they have, so that quads do not all fall into the same cache set. */
static inline size_t radar_panel_quad(int64_t chunks, int rows) {
    return (size_t)chunks * RADAR_PANEL_QUAD * (size_t)rows + 16;
}

/* x rearranged; lane l of quad k of chunk i of rows 12 b ... at q + b * block + k * quad + 12 (4 i + l). */
typedef struct radar_panel_x {
    uint32_t *q;
    size_t quad, block;
} radar_panel_x;

/* Rows of `elements` elements, rounded up to whole chunks, kept from `memory` on, 64-byte aligned. */
static inline radar_panel_x radar_panel_x_at(void *memory, int64_t elements) {
    size_t quad = radar_panel_quad((elements + 15) / RADAR_PANEL_LANES, RADAR_PANEL_X);
    return (radar_panel_x){memory, quad, quad * RADAR_PANEL_QUAD};
}

/* Bytes of a tile's W, which cols columns of f32 need the most of. */
#define RADAR_PANEL_SCRATCH(cols) \
    (4 * RADAR_PANEL_QUAD * radar_panel_quad(((cols) + 15) / RADAR_PANEL_LANES, RADAR_PANEL_ROWS))

/* Rearranges block b: n <= 12 rows of x, cols (a multiple of 16) of them; rows that are missing become 0. */
void radar_panel_x_f32(const radar_panel_x *p, int b, const float *x, size_t x_stride, int n,
                       int64_t cols);
/* The same rounded to bf16; cols a multiple of 32. */
void radar_panel_x_bf16(const radar_panel_x *p, int b, const float *x, size_t x_stride, int n,
                        int64_t cols);

/* Rearranges a tile's W, as f32 or as pairs of bf16; returns 16 or 32, the rows it has then, of which those that are
 * missing repeat the last. */
int radar_panel_w_f32(radar_isa isa, uint32_t *panel, const radar_tile *t);
int radar_panel_w_bf16(uint32_t *panel, const radar_tile *t);

/* Multiply tiles of up to 32 rows; scratch: RADAR_PANEL_SCRATCH(cols) bytes, 64-byte aligned.  x begins at the tile's first column. */
void radar_panel_bf16(const radar_tile *t, const radar_panel_x *x, void *scratch);
void radar_panel_f32(radar_isa isa, const radar_tile *t, const radar_panel_x *x, void *scratch);

#endif
