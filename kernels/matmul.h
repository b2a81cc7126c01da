/* matmul.h - y = W x on weights as stored.
 *   out[m, r - row_begin] = bias[r] + sum_{c in [col_begin, col_end)} W[r, c] x[m, x_begin + c - col_begin]
 *   W [rows, cols] any dtype of dtype.h, as stored   x [M, *] f32   out [M, *] f32
 *
 * One accumulation order per output, whatever M, threads and the cut into jobs:
 *   int8 path (fast; Q8_0, Q4_0, Q4_1): x is rounded per block of 32 to dx * xq, dx = max|x| / 127, xq nearest even;
 *     for b in blocks, ascending: acc = fma(d_b dx_b, float(sum w_q xq), acc), the sum exact in int32;
 *     Q4_1 then adds fma(m_b, dx_b float(sum xq), acc); Q4_0 has its -8 inside the integer sum.
 *   bf16 path (fast; BF16 on machines with AVX512_BF16): x rounded to bf16, products accumulated in f32.
 *   f32 path (everything else): lane j of 16 takes columns c with (c - col_begin) % 16 = j by fma, ascending; lanes are
 *     summed in the tree ((0+8)+(4+12)) ...
 * bias is added last.  Blocks count from col_begin.
 * Cost: reads the weights once for every M (M = 1: bandwidth bound).
 * A job never reads outside its rows and columns: pages a rank does not own stay untouched. */
#ifndef RADAR_MATMUL_H
#define RADAR_MATMUL_H

#include "kernels/backend.h"

/* Columns at which a matrix of this type may be cut, so that no block is split: the least common multiple of the
 * weight's block and the activation's. */
int radar_matmul_column_block(radar_dtype type);

#endif
