/* norm.h - RMSNorm of rows.
 *   out[i, j] = weight[j] x[i, j] / sqrt(mean_j x[i, j]^2 + eps)
 *   x, out [n, width] f32 (may be the same)   weight [width] f32
 * The mean is summed in 16 lanes, as in matmul.h.  Source: arXiv:1910.07467.  Cost: 8 n width bytes. */
#ifndef RADAR_NORM_H
#define RADAR_NORM_H
#include "kernels/backend.h"
#endif
