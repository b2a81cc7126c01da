/* device.h - which GPUs there are, what they have, and what a failure of CUDA means to the user. */
#ifndef RADAR_CUDA_DEVICE_H
#define RADAR_CUDA_DEVICE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
#include "runtime/base.h"

typedef struct radar_cuda_device {
    char name[256], bus[32]; /* bus: "0000:65:00.0", as nvidia-smi has it */
    int major, minor;        /* compute capability */
    int multiprocessors;
    size_t shared_bytes; /* that a block may ask for */
    size_t total_bytes, free_bytes;
} radar_cuda_device;

/* [this rank] GPUs that the process sees: 1 or more.  RADAR_ERR_CONFIG: no driver, one that is too old, or no GPU. */
radar_status radar_cuda_devices(int *n, radar_error *err);
/* [this rank] RADAR_ERR_CONFIG: there is no such device, or it is older than compute capability 8.0.  Makes it the calling thread's. */
radar_status radar_cuda_device_of(radar_cuda_device *out, int device, radar_error *err);

/* Notes that CUDA answered a call with `error`, a cudaError_t: RADAR_ERR_MEMORY, RADAR_ERR_PEER where the device is lost, or
 * RADAR_ERR_INTERNAL. */
radar_status radar_cuda_fail(radar_error *err, int device, const char *what, int error);

#ifdef __cplusplus
}
#endif
#endif
