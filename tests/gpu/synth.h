/* synth.h - what measurements need of the device beside the library's own kernels: memory full of plausible numbers, made where it
 * lies, and the two plainest kernels there are, which say how fast memory is.
 *   fill   number i := table[r_i], r_i of 4096, drawn by the seed and i; keys (dims > 0) have a few dimensions of the second table
 *   read   every 16 bytes once; copy   every 16 bytes once read and once written
 * Queued on the queue; 0 or the CUDA error.  Memory begins at a multiple of 16 and has a multiple of 16 bytes. */
#ifndef RADAR_GPU_SYNTH_H
#define RADAR_GPU_SYNTH_H

#ifdef __cplusplus
extern "C" {
#endif
#include "kernels/cuda/queue.h"

#define SYNTH_ENTRIES 4096

typedef struct synth_table {
    const void *entry; /* device [2, SYNTH_ENTRIES], of each 1, 2 or 4 bytes */
    int each;
    int dims; /* keys [S, dims, 16 numbers]; 0: nothing is larger */
} synth_table;

int synth_fill(void *memory, size_t bytes, const synth_table *table, uint64_t seed,
               radar_cuda_queue *queue);
/* *sum, device: changed, so that the reads are needed. */
int synth_read(const void *memory, size_t bytes, uint32_t *sum, radar_cuda_queue *queue);
int synth_copy(void *to, const void *from, size_t bytes, radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
