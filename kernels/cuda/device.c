/* device.h by the CUDA runtime. */
#include <cuda_runtime.h>

#include <ctype.h>
#include <stdio.h>

#include "kernels/cuda/device.h"

#define OLDEST 8 /* compute capability: bf16 on tensor cores, asynchronous copies */

static bool is_lost(cudaError_t e) {
    switch ((int)e) {
    case cudaErrorDevicesUnavailable:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorUnknown:
        return true;
    default:
        return false;
    }
}

radar_status radar_cuda_fail(radar_error *err, int device, const char *what, int error) {
    const cudaError_t e = (cudaError_t)error;
    const char *const says = cudaGetErrorString(e);
    if (e == cudaErrorMemoryAllocation)
        return radar_fail(err, RADAR_ERR_MEMORY,
                          "GPU %d: %s: %s; a shorter context or more GPUs need less of each",
                          device, what, says);
    if (is_lost(e))
        return radar_fail(err, RADAR_ERR_PEER,
                          "GPU %d: %s: %s; the device is lost to this process; start again", device,
                          what, says);
    return radar_fail(err, RADAR_ERR_INTERNAL, "GPU %d: %s: %s", device, what, says);
}

radar_status radar_cuda_devices(int *n, radar_error *err) {
    int driver = 0, runtime = 0;
    *n = 0;
    cudaError_t e = cudaDriverGetVersion(&driver);
    if (e != cudaSuccess || driver == 0)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "CUDA: there is no NVIDIA driver; install one, or run on the CPU");
    if (cudaRuntimeGetVersion(&runtime) == cudaSuccess && driver / 1000 < runtime / 1000)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "CUDA: the NVIDIA driver is made for CUDA %d.%d, this program for %d.%d; "
                          "install a newer driver",
                          driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    e = cudaGetDeviceCount(n);
    if (e == cudaErrorNoDevice || (e == cudaSuccess && *n == 0))
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "CUDA: the driver finds no GPU; see nvidia-smi and CUDA_VISIBLE_DEVICES, "
                          "or run on the CPU");
    if (e != cudaSuccess)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "CUDA: the driver does not start: %s; see nvidia-smi, or run on the CPU",
                          cudaGetErrorString(e));
    return RADAR_OK;
}

radar_status radar_cuda_device_of(radar_cuda_device *out, int device, radar_error *err) {
    struct cudaDeviceProp p;
    int n;
    *out = (radar_cuda_device){0};
    const radar_status st = radar_cuda_devices(&n, err);
    if (st != RADAR_OK) return st;
    if (device < 0 || device >= n)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "GPU %d: this process sees %d, numbered from 0; see nvidia-smi and "
                          "CUDA_VISIBLE_DEVICES",
                          device, n);
    cudaError_t e = cudaGetDeviceProperties(&p, device);
    if (e != cudaSuccess) return radar_cuda_fail(err, device, "reading its properties", (int)e);
    if (p.major < OLDEST)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "GPU %d: %s has compute capability %d.%d, and 8.0 is the least; take a "
                          "newer GPU, or run on the CPU",
                          device, p.name, p.major, p.minor);
    snprintf(out->name, sizeof out->name, "%s", p.name);
    out->major = p.major;
    out->minor = p.minor;
    out->multiprocessors = p.multiProcessorCount;
    out->shared_bytes = p.sharedMemPerBlockOptin;
    e = cudaDeviceGetPCIBusId(out->bus, (int)sizeof out->bus, device);
    for (char *c = out->bus; *c; c++) *c = (char)tolower((unsigned char)*c);
    if (e == cudaSuccess) e = cudaSetDevice(device);
    if (e == cudaSuccess) e = cudaMemGetInfo(&out->free_bytes, &out->total_bytes);
    return e == cudaSuccess ? RADAR_OK : radar_cuda_fail(err, device, "opening it", (int)e);
}
