/* rope.h - rotary position embedding, in place.
 *   pair (a, b) of head h of row m:  a' = a cos - b sin,  b' = b cos + a sin
 *   x [M, heads, D] f32   cos_sin [M, 2, rotary / 2] f32 (all cosines, then all sines of the row's position)
 *   pairs: style HALF (i, i + rotary/2), ADJACENT (2i, 2i + 1); elements from rotary to D stay as they are.
 * Source: arXiv:2104.09864. */
#ifndef RADAR_ROPE_H
#define RADAR_ROPE_H
#include "kernels/backend.h"

/* cos_sin [2, rotary / 2], host: of one position, from angles in double, rounded once; all times magnitude.  frequency
 * [rotary / 2] in radians per position. */
void radar_rope_angles(float *cos_sin, const double *frequency, int rotary, double magnitude,
                       int64_t position);
#endif
