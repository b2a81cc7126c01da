/* blas.h - prefill's products of BF16 and F16 weights by cuBLAS, where it is there and x may be rounded (fast of matmul.h).
 * Found when the program runs: the library that RADAR_CUBLAS names, else libcublas.so.13 or .12; RADAR_CUBLAS=none: matmul.h alone.
 *
 * What cuBLAS adds in which order follows from the shape it is given, so the shape must not follow from the rank: a matrix is cut
 * into slices, a job's rows are whole slices of it, and each of them is a product of its own, from memory and to memory that is
 * aligned alike.  A row's bits do depend on M. */
#ifndef RADAR_CUDA_BLAS_H
#define RADAR_CUDA_BLAS_H

#include "kernels/cuda/matvec.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct radar_cuda_blas radar_cuda_blas;

/* [this rank] On the queue's device, which the thread has.  NULL: none, or it does not work. */
radar_cuda_blas *radar_cuda_blas_open(struct radar_cuda_queue *queue);
void radar_cuda_blas_close(radar_cuda_blas *blas); /* NULL is fine */

/* The slices of a matrix: number i ends with row min(ceil(rows / block) (i + 1) / slices * block, rows). */
typedef struct radar_cuda_slices {
    int64_t rows, block, slices;
} radar_cuda_slices;

static inline int64_t radar_cuda_slice_end(const radar_cuda_slices *s, int64_t i) {
    const int64_t end = (s->rows + s->block - 1) / s->block * (i + 1) / s->slices * s->block;
    return end < s->rows ? end : s->rows;
}

/* A job, and where it lies in its matrix. */
typedef struct radar_cuda_blas_job {
    radar_matvec_job job;
    radar_cuda_slices slices;
    int64_t row; /* of the matrix, that is row 0 of job.job.w */
} radar_cuda_blas_job;

/* Whether it takes the job, whatever its rows: F16 or BF16 that radar_cuda_matmul takes, at least one column. */
bool radar_cuda_blas_takes(const radar_matvec_job *job);
size_t radar_cuda_blas_work(const radar_cuda_blas_job *job, int M); /* bytes */

/* As radar_cuda_matmul. */
int radar_cuda_blas_multiply(radar_cuda_blas *blas, const radar_cuda_blas_job *job, const float *x,
                             size_t x_stride, int M, void *work, struct radar_cuda_queue *queue);

/* out[m, row] = back[m] slice[m, row of the slice] + bias[row]: slices one after the other, [M, width] each. */
typedef struct radar_cuda_unite {
    const float *slice, *back, *bias; /* back, bias: NULL, or of the rows of x, of row `begin` */
    size_t width;
    radar_cuda_slices slices;
    int64_t begin; /* of the matrix; rows of it */
    int32_t rows, M;
    float *out;
    size_t out_stride;
} radar_cuda_unite;
/* 0 or a cudaError_t; queued. */
int radar_cuda_unite_slices(const radar_cuda_unite *u, struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
