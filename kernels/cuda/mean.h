/* mean.h - the scorer `mean` on CUDA: summaries, prepared queries and formula of kernels/cpu/scorer_mean.c.
 * Summaries and prepared queries are the CPU's to the bit, scores within 1e-5 of the size of q and the mean.
 * [this rank] Queued; 0 or the error.  D is a multiple of 16 up to 256. */
#ifndef RADAR_CUDA_MEAN_H
#define RADAR_CUDA_MEAN_H

#include "kernels/cuda/scoring.h"

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */

int radar_cuda_mean_seal(const radar_cuda_seal *task, struct radar_cuda_queue *queue);
int radar_cuda_mean_unite(const radar_cuda_unite *task, struct radar_cuda_queue *queue);
/* q: n of [D] at q_stride; out [n][D]. */
int radar_cuda_mean_query(float *out, const float *q, size_t q_stride, int n, int D,
                          struct radar_cuda_queue *queue);
int radar_cuda_mean_score(const radar_cuda_score *task, struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif
#endif
