/* matmul.h - y = W x on weights as stored.
 *   out[m, r - row_begin] = bias[r] + sum_{c in [col_begin, col_end)} W[r, c] x[m, x_begin + c - col_begin]
 *   W [rows, cols] any dtype of dtype.h, as stored   x [M, *] f32   out [M, *] f32
 *
 * One accumulation order per output, whatever M, threads and the cut into jobs:
 *   int8 path (fast; Q8_0, Q4_0, Q4_1): x is rounded per block of 32 to dx * xq, dx = max|x| / 127, xq nearest even
 *     (dx = 0 where max|x| < 2^-100; a block with an infinity or NaN makes every output it enters NaN);
 *     for b in blocks, ascending: acc = fma(d_b dx_b, float(sum w_q xq), acc), the sum exact in int32;
 *     Q4_1 then adds fma(m_b, dx_b float(sum xq), acc); Q4_0 has its -8 inside the integer sum.
 *   bf16 path (fast; BF16 on machines with AVX512_BF16): x rounded to bf16; lane j of 16 takes the column pairs
 *     (c - col_begin) / 2 % 16 = j by VDPBF16PS, ascending; lanes are summed as below.
 *   f32 path (everything else): lane j of 16 takes columns c with (c - col_begin) % 16 = j by fma, ascending; lanes are
 *     summed in the tree ((0+8)+(4+12)) ...
 * bias is added last.  Blocks count from col_begin; with quantised weights col_begin, col_end and x_begin are multiples of 32.
 * Cost: reads the weights once for every M (M = 1: bandwidth bound).
 * A job never reads outside its rows and columns: pages a rank does not own stay untouched. */
#ifndef RADAR_MATMUL_H
#define RADAR_MATMUL_H

#include "kernels/backend.h"

/* Columns at which a matrix of this type may be cut: 32, what quantised weights and int8 activations need, and for the
 * other types too, so that the cut does not depend on the type.  Only the last piece may be shorter. */
int radar_matmul_column_block(radar_dtype type);

#endif
