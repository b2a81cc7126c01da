#include "kernels/backend.h"

extern const radar_backend_ops radar_cpu_backend;

const radar_backend_ops *const radar_backends[] = {&radar_cpu_backend, NULL};
