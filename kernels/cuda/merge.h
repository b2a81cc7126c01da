/* merge.h - launches of merge.cu: partials of splits and shards become one, in the fixed tree, and then the output of attention.
 * All pointers are device memory; 0 or a cudaError_t; queued. */
#ifndef RADAR_CUDA_MERGE_H
#define RADAR_CUDA_MERGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */

/* out[i] = ((0, 1), (2, 3)), ... of merge.h over partials piece + p * stride + i * RADAR_PARTIAL(D), p < pieces, a power of two
 * up to 256 and with (D + 10) pieces numbers in shared memory, i < n; stride in floats.  out = piece is allowed.  Splits of
 * consecutive shards are one tree: that of the splits below that of the shards. */
int radar_cuda_merge(float *out, const float *piece, size_t stride, int pieces, int64_t n, int D,
                     struct radar_cuda_queue *queue);

/* finish of arrange.h: out [M, H, D], coverage [M, H] of partial [G, M, group, RADAR_PARTIAL(D)], H = G group. */
int radar_cuda_finish(float *out, float *coverage, const float *partial, int M, int G, int group,
                      int D, struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
