/* mean.h - the scorer `mean` on CUDA: summaries, prepared queries and formula of kernels/cpu/scorer_mean.c.
 * Summaries and prepared queries are the CPU's to the bit, scores within 1e-5 of the size of q and the mean.
 * [this rank] On the stream, 0 or the error.  D is a multiple of 16 up to 256. */
#ifndef RADAR_CUDA_MEAN_H
#define RADAR_CUDA_MEAN_H

#include "kernels/cuda/scoring.h"

#ifdef __cplusplus
extern "C" {
#endif

int radar_cuda_mean_seal(const radar_cuda_seal *task, void *stream);
int radar_cuda_mean_unite(const radar_cuda_unite *task, void *stream);
/* q: n of [D] at q_stride; out [n][D]. */
int radar_cuda_mean_query(float *out, const float *q, size_t q_stride, int n, int D, void *stream);
int radar_cuda_mean_score(const radar_cuda_score *task, void *stream);

#ifdef __cplusplus
}
#endif
#endif
