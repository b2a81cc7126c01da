/* fake.h - a CUDA runtime whose device is this process: kernels run through simt.h, when the host waits for them and not before.
 *
 * Device memory can only be touched while a kernel or a copy runs: the host that looks into it dies, saying so, as does a kernel that
 * leaves an allocation by 256 bytes or more.  New memory holds NaN.
 * RADAR_FAKE_CUDA, separated by commas: no-driver, old-driver, devices=N, sm=75, sms=N (multiprocessors), memory=BYTES, lost=N (the
 * device fails in the N-th kernel and in everything behind it), hung=N (the N-th kernel never ends: who waits for it without asking
 * dies).  RADAR_SIMT_SEED: the order of blocks and threads, 0 ascending.
 * RADAR_FAKE_REPORT: a file to which a process that ends adds its counts. */
#ifndef SIMT_FAKE_H
#define SIMT_FAKE_H

#include "cuda_runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fake_cuda_counts {
    long launches; /* of kernels by themselves; in a graph they are the graph's */
    long graph_launches, captures, copies, clears, waits;
    long kernels; /* that ran, by themselves and in graphs */
    long allocations, bytes;
} fake_cuda_counts;
fake_cuda_counts fake_cuda_count(void);

/* Anew, with these faults (as in the environment): nothing counted, nothing lost.  Memory and streams stay. */
void fake_cuda_reset(const char *faults);

/* For fakes of libraries: work(data), which may touch device memory, runs in its turn on the stream; captured like a kernel.
 * data: copied. */
cudaError_t fake_cuda_enqueue(cudaStream_t stream, void (*work)(void *data), const void *data,
                              size_t bytes);

/* How much of that waits on a stream, or is part of a graph that is still there. */
long fake_cuda_held(void);

#ifdef __cplusplus
}
#endif
#endif
