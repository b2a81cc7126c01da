/* sample.h - from logits to a token, on the device: greedy, or temperature, top-k, top-p and min-p with a counter-based draw.
 * The definitions are those of runtime/sampler.h: filters in the order top-k, top-p (of what top-k left, at temperature 1), min-p,
 * temperature; equal logits by ascending id; u = radar_random_uniform(seed, RADAR_STREAM_SAMPLER, position). */
#ifndef RADAR_CUDA_SAMPLE_H
#define RADAR_CUDA_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/sample.h"

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */

#define RADAR_CUDA_SAMPLE_VOCAB (1 << 20) /* at most */

/* Device bytes of scratch, for any vocabulary; 16-byte aligned.  They hold nothing between calls. */
size_t radar_cuda_sample_scratch(void);
/* [device] out, position, logit [vocab] f32 and scratch.  opt is read before the return; position when the kernels run, so that a
 * captured graph draws anew as position moves.  Returns 0 or the cudaError_t; nothing is waited for. */
int radar_cuda_sample(radar_drawn *out, const radar_sampler_options *opt, const int64_t *position,
                      const float *logit, int vocab, void *scratch, struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
