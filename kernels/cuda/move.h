/* move.h - numbers that move and little else: odd and sum of layer.h, arrange and take of arrange.h, copies.
 * Pointers are of the device unless said otherwise.  Every function queues and returns 0 or the CUDA
 * error; what an argument cannot be is cudaErrorInvalidValue.  Nothing to do is 0. */
#ifndef RADAR_CUDA_MOVE_H
#define RADAR_CUDA_MOVE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */
#include "kernels/backend.h"

/* *found, 0 before, := n - the first of n rows of x [n, width] that has a number that is not finite; none: it stays. */
int radar_cuda_odd(uint64_t *found, const float *x, int64_t n, int width,
                   struct radar_cuda_queue *queue);

int radar_cuda_arrange(float *out, const float *q, int M, int G, int group, int D,
                       struct radar_cuda_queue *queue);
/* row [n] */
int radar_cuda_take(float *out, const float *q, int M, int G, int group, int D, const int32_t *row,
                    int n, struct radar_cuda_queue *queue);

#define RADAR_CUDA_SUM_PIECES 64 /* at most */
/* piece[0][i] := the sum of piece[p][i], p < pieces, a power of two, in the tree ((0, 1), (2, 3)), ...; i < n.  piece: host memory,
 * read before the return. */
int radar_cuda_sum(float *const *piece, int pieces, int64_t n, struct radar_cuda_queue *queue);

/* All n rectangles, of which no two overlap.  copy [n]; most: bound of rows * width of each, it only shapes the grid. */
int radar_cuda_copies(const radar_copy *copy, int n, int64_t most, struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
