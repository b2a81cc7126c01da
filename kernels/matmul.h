/* matmul.h - y = W x on weights as stored.
 *   out[m, r - row_begin] = bias[r] + sum_{c in [col_begin, col_end)} W[r, c] x[m, x_begin + c - col_begin]
 *   W [rows, cols] any dtype of dtype.h, as stored   x [M, *] f32   out [M, *] f32
 *
 * One accumulation order per output, whatever M, threads and the cut into jobs:
 *   int8 path (fast; quantised weights, w = d s q + m n in the terms of quant.h): x is rounded per block of 32 to dx * xq,
 *     dx = max|x| / 127, xq nearest even (dx = 0 where max|x| < 2^-100; a block with an infinity or NaN makes every output
 *     it enters NaN); for blocks b of 32, ascending: acc = fma(d_b dx_b, float(sum q xq), acc), then, where the type has a
 *     minimum, acc = fma(m_b, dx_b float(sum xq), acc).  The sums are exact in int32; d_b is the exact product d s and m_b the
 *     exact product m n, but for Q6_K, which has two s in a block: d_b is d, and they are inside the sum.
 *   bf16 path (fast; BF16 on machines with AVX512_BF16): x rounded to bf16; lane j of 16 takes the column pairs
 *     (c - col_begin) / 2 % 16 = j by VDPBF16PS, ascending; lanes are summed as below.
 *   f32 path (everything else): lane j of 16 takes columns c with (c - col_begin) % 16 = j by fma, ascending; lanes are
 *     summed in the tree ((0+8)+(4+12)) ...
 * bias is added last.  Blocks count from col_begin; with quantised weights col_begin and col_end are multiples of the
 * type's block and x_begin is one of 32.
 * Cost: reads the weights once for every M (M = 1: bandwidth bound).  With many rows of x the float paths rearrange 32 rows of W
 * at a time and x once (cpu/panel.h): the same order, lane by lane, for 16 outputs at once.
 * A job never reads outside its rows and columns: pages a rank does not own stay untouched.
 *
 * Packing copies the rows and columns that a rank multiplies with into the order the kernels want; w->packed points to the copy,
 * and jobs inside the part (row_begin a whole number of 16 rows into it) read it in place of w->data.  The bits are the same.
 * It costs the bytes of that part once more in memory, 0 to 3 % above those stored; the stored bytes are file pages that
 * the system may then drop. */
#ifndef RADAR_MATMUL_H
#define RADAR_MATMUL_H

#include "kernels/backend.h"

/* Columns at which a matrix of this type may be cut: its block, and at least the 32 of int8 activations, for the float types
 * too, so that the cut does not depend on them.  Only the last piece may be shorter. */
int radar_matmul_column_block(radar_dtype type);

/* Bytes that pack needs for a part of rows x cols of this type; 0: it is never packed; SIZE_MAX: more than a size holds. */
size_t radar_matmul_packed_bytes(radar_dtype type, int64_t rows, int64_t cols);

#endif
