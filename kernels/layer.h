/* layer.h - the plain element-wise parts of a layer.
 *   embed  out[i, :] = row token[i] of the embedding matrix, dequantised exactly   out [n, cols] f32
 *   gate   gate[i] := gate[i] / (1 + exp(-gate[i])) * up[i]                        (SiLU-gated, arXiv:2002.05202)
 *   add    x[i] := x[i] + y[i]
 *   sum    piece 0 := ((0 + 1) + (2 + 3)) + ...  of a power of two of pieces [n]
 *   odd    the first of n rows x [n, width] that holds an infinity or no number */
#ifndef RADAR_LAYER_H
#define RADAR_LAYER_H
#include "kernels/backend.h"
#endif
