/* blas_unite.cu - slices that cuBLAS has multiplied become one output, radar_cuda_unite_slices of blas.h.
 * A thread makes one number; neighbours lie together in both.  Bandwidth bound: 8 bytes a number. */
#include "kernels/cuda/blas.h"

#include "kernels/cuda/dev.h"

namespace {

constexpr int UNITE_THREADS = 256;

/* radar_cuda_slice_end. */
DEV int64_t slice_end(const radar_cuda_slices &s, int64_t i) {
    const int64_t end = (s.rows + s.block - 1) / s.block * (i + 1) / s.slices * s.block;
    return end < s.rows ? end : s.rows;
}

/* grid: (rows by 256, rows of x) */
__global__ void __launch_bounds__(UNITE_THREADS) unite(const radar_cuda_unite u) {
    const int row = (int)(blockIdx.x * UNITE_THREADS + threadIdx.x), m = (int)blockIdx.y;
    if (row >= u.rows) return;
    const float *slice = u.slice;
    int64_t begin = 0;
    for (int64_t i = 0; i < u.slices.slices; i++) {
        const int64_t end = slice_end(u.slices, i);
        if (end > u.begin + row) break;
        if (end > begin && end > u.begin) slice += (size_t)u.M * u.width; /* it is of the job */
        begin = end;
    }
    float y = slice[(size_t)m * u.width + (size_t)(u.begin + row - begin)];
    if (u.back) y = dev_mul(y, u.back[m]);
    if (u.bias) y = dev_add(y, u.bias[row]);
    u.out[(size_t)m * u.out_stride + (size_t)row] = y;
}

} // namespace

extern "C" int radar_cuda_unite_slices(const radar_cuda_unite *u, radar_cuda_queue *queue) {
    return LAUNCH(unite,
                  dim3((unsigned)((u->rows + UNITE_THREADS - 1) / UNITE_THREADS), (unsigned)u->M),
                  dim3(UNITE_THREADS), 0, queue, *u);
}
