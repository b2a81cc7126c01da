/* matvec.h - matmul.h for 1 to 8 rows of x, on the device: decoding, where reading the weights is all the work.
 *   out[m, row - row_begin] = scale[row] sum_{c in [col_begin, col_end)} w[row, c] x[m, x_begin + c - col_begin] + bias[row]
 * Weights as stored: F32, F16, BF16, Q8_0, Q4_0, Q4_1, and e4m3 bytes with one f32 scale per row (1 for all other types).
 *   fast: x rounded per 32 columns to int8 for the quantised types, with the formula per block of matmul.h; to bf16 for BF16;
 *     f32 for F32, F16 and e4m3
 *   exact: f32 x times the weights' exact values
 * One accumulation order per output, whatever M, the cut of rows into jobs, the device and where the weights lie: matvec.cu. */
#ifndef RADAR_CUDA_MATVEC_H
#define RADAR_CUDA_MATVEC_H

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */
#include "kernels/matmul.h"

#define RADAR_MATVEC_ROWS 8 /* of x, at most */

/* w itself lies on the host, its data, bias and out on the device.  The 16-byte words that a row's first and last byte lie in are
 * read as a whole.  data, row_bytes: multiples of 2, of F32 and Q4_1 of 4, of e4m3 of 1. */
typedef struct radar_matvec_job {
    radar_matmul_job job;
    const float *
        row_scale; /* [w->rows] w's data are e4m3, one byte a column, whatever w->type; NULL: as w->type says */
} radar_matvec_job;

typedef struct radar_matvec_device {
    int multiprocessors;
    size_t shared_bytes; /* that a block may ask for */
} radar_matvec_device;

/* [this rank] x: a multiple of 16 bytes, x_stride (where M > 1) of 4 floats, x_begin of 4, of 32 with quantised weights.
 * Queued.  Returns 0 or the CUDA error; what an argument cannot be is cudaErrorInvalidValue, and then
 * nothing or a part has run. */
int radar_cuda_matvec(const radar_matvec_job *job, int n_jobs, const float *x, size_t x_stride,
                      int M, radar_precision precision, const radar_matvec_device *device,
                      struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
