/* missed.h - the softmax mass that selection leaves out, as the scores estimate it.
 *   m' = max_j score_j,  l' = sum_j exp(score_j - m')   over the scored segments j that are not attended; none: (-inf, 0)
 * A scored segment has unit times 16 tokens, and all or none of its items are listed.
 * The sum runs in 16 lanes (segment - segment_begin) % 16, ascending, lanes summed in the tree of matmul.h.
 * Cost: 8 bytes a score. */
#ifndef RADAR_MISSED_H
#define RADAR_MISSED_H
#include "kernels/backend.h"
#endif
