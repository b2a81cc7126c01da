/* choose.h - kernels/choose.h on CUDA.
 * [this rank] Queued; 0 or the error; row and part of the job are of the device, merged is not used. */
#ifndef RADAR_CUDA_CHOOSE_H
#define RADAR_CUDA_CHOOSE_H

#include "kernels/choose.h"

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */

int radar_cuda_choose(const radar_choose_job *job, struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
