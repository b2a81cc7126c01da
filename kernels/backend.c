#include "kernels/backend.h"

extern const radar_backend_ops radar_cpu_backend;
#ifdef RADAR_CUDA
extern const radar_backend_ops radar_cuda_backend;
#endif

const radar_backend_ops *const radar_backends[] = {
#ifdef RADAR_CUDA
    &radar_cuda_backend,
#endif
    &radar_cpu_backend, NULL};

const radar_backend_ops *const radar_backend_cpu = &radar_cpu_backend;
