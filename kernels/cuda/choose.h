/* choose.h - kernels/choose.h on CUDA.
 * [this rank] On the stream, 0 or the error; row and part of the job are of the device, merged is not used. */
#ifndef RADAR_CUDA_CHOOSE_H
#define RADAR_CUDA_CHOOSE_H

#include "kernels/choose.h"

#ifdef __cplusplus
extern "C" {
#endif

int radar_cuda_choose(const radar_choose_job *job, void *stream);

#ifdef __cplusplus
}
#endif

#endif
