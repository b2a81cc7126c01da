/* merge.h - launches of merge.cu: partials of shards become one, in the fixed tree, and then the output of attention.
 * All pointers are device memory; 0 or a cudaError_t; queued. */
#ifndef RADAR_CUDA_MERGE_H
#define RADAR_CUDA_MERGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */

#define RADAR_CUDA_MERGE_PIECES 64 /* at most */

/* piece[0][i] := ((0, 1), (2, 3)), ... of merge.h over the partials piece[p] + i * RADAR_PARTIAL(D), p < pieces, a power of two,
 * i < n; D up to 256.  piece: host memory, read before the return. */
int radar_cuda_merge(float *const *piece, int pieces, int64_t n, int D,
                     struct radar_cuda_queue *queue);

/* finish of arrange.h: out [M, H, D], coverage [M, H] of partial [G, M, group, RADAR_PARTIAL(D)], H = G group. */
int radar_cuda_finish(float *out, float *coverage, const float *partial, int M, int G, int group,
                      int D, struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
