/* matmul.h - matmul.h of kernels/ for many rows of x, on the device: prefill, where tensor cores are all the work.
 *   out[m, row - row_begin] = scale[row] sum_{c in [col_begin, col_end)} w[row, c] x[m, x_begin + c - col_begin] + bias[row]
 * Weights count exactly, as stored: F16, BF16, Q8_0, Q4_0, Q4_1, and e4m3 bytes with one f32 scale per row.  x counts as
 *            BF16 weights          all others
 *   fast     bf16: 2^-9            f16: 2^-12
 *   exact    2 bf16: 2^-18         2 f16: 2^-23
 * of each number, f16 after the row's largest was brought to [2^13, 2^14) by a power of two: what is less than 2^-27 of it counts with
 * fewer bits.  Sums are f32.  A row of x that has a number that is not finite gives NaN or infinities, the others what they did.
 * One accumulation order per output, whatever M, the other rows and the cut of rows into jobs; it is not matvec.h's. */
#ifndef RADAR_CUDA_MATMUL_H
#define RADAR_CUDA_MATMUL_H

#include "kernels/cuda/matvec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whether radar_cuda_matmul takes the job: types as above, data, row_bytes and the first column's place in multiples of 16 bytes
 * (quantised: the row's), columns in multiples of 16 (quantised: 32). */
bool radar_cuda_matmul_takes(const radar_matvec_job *job);

/* Bytes of `work` that the jobs need. */
size_t radar_cuda_matmul_work(const radar_matvec_job *job, int n_jobs, int M);

/* [this rank] Pointers, x and x_stride as in matvec.h; any M.  work: device memory, a multiple of 256 bytes, free again behind what
 * is queued.  0 or the CUDA error; cudaErrorInvalidValue: a job that it does not take, and nothing or a part has run. */
int radar_cuda_matmul(const radar_matvec_job *job, int n_jobs, const float *x, size_t x_stride,
                      int M, radar_precision precision, void *work, struct radar_cuda_queue *queue);

/* x as tensor cores take it: parts [parts][...] of 16 bits, whose sum times back[m] is x. */
typedef struct radar_cuda_halves {
    const float *x; /* first column */
    size_t x_stride;
    int M, columns; /* of x; behind them are zeros */
    int rows;       /* of the result */
    /* Numbers from row to row, from 32 columns to the next, from part to part; multiples of 8. */
    uint16_t *to;
    size_t row_stride, chunk_stride, part_stride;
    float *back; /* [rows]; NULL: BF16, where it is 1 */
    float *
        sums; /* [chunks, rows] 2^-24 times the sums of 32 columns, in units of back; NULL: not asked for */
} radar_cuda_halves;

/* f16, else bf16; parts: 1 or 2.  0 or a cudaError_t; queued. */
int radar_cuda_round(const radar_cuda_halves *h, bool f16, int parts,
                     struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
