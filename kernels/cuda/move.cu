/* move.cu - odd, arrange, take, sum, copies: a thread per number, or several numbers apart; bandwidth bound. */
#include "kernels/cuda/move.h"

#include "kernels/cuda/dev.h"

namespace {

constexpr int MOVE_THREADS = 256;
constexpr int MOVE_EACH = 16; /* numbers of a thread, where it has several */

unsigned blocks_for(int64_t n, int64_t each) { return (unsigned)((n + each - 1) / each); }

/* ---- odd ---- */

/* Grid (rows, pieces of a row), MOVE_THREADS threads. */
KERNEL void radar_odd_rows(uint64_t *found, const float *x, int width) {
    const float *const from = x + (size_t)blockIdx.x * (size_t)width;
    const int begin = (int)blockIdx.y * MOVE_THREADS * MOVE_EACH + (int)threadIdx.x;
    bool odd = false;
    for (int i = 0; i < MOVE_EACH; i++) {
        const int d = begin + i * MOVE_THREADS;
        if (d < width) odd |= (dev_bits(from[d]) & 0x7f800000u) == 0x7f800000u;
    }
    if (dev_ballot(odd) && dev_lane() == 0)
        dev_atomic_max(found, (uint64_t)(gridDim.x - blockIdx.x));
}

/* ---- arrange, take: grid (pieces of a part, rows, KV heads); a part is the query heads of a KV head ---- */

KERNEL void radar_arrange_parts(float *out, const float *q, int part) {
    const int i = (int)(blockIdx.x * MOVE_THREADS + threadIdx.x);
    const size_t m = blockIdx.y, g = blockIdx.z, M = gridDim.y, G = gridDim.z;
    if (i < part) out[(g * M + m) * (size_t)part + i] = q[(m * G + g) * (size_t)part + i];
}

KERNEL void radar_take_parts(float *out, const float *q, int part, const int32_t *row, int M) {
    const int i = (int)(blockIdx.x * MOVE_THREADS + threadIdx.x);
    const size_t m = blockIdx.y, g = blockIdx.z, n = gridDim.y;
    if (i < part)
        out[(g * n + m) * (size_t)part + i] =
            q[(g * (size_t)M + (size_t)row[m]) * (size_t)part + i];
}

/* ---- sum ---- */

struct summands {
    float *piece[RADAR_CUDA_SUM_PIECES];
};

template <int N> DEV float tree(const summands &s, int first, int64_t i) {
    if constexpr (N == 1)
        return s.piece[first][i];
    else
        return dev_add(tree<N / 2>(s, first, i), tree<N / 2>(s, first + N / 2, i));
}

template <int N> __global__ void __launch_bounds__(MOVE_THREADS) sum(summands s, int64_t n) {
    const int64_t i = (int64_t)blockIdx.x * MOVE_THREADS + threadIdx.x;
    if (i < n) s.piece[0][i] = tree<N>(s, 0, i);
}

template <int N> int launch_sum(const summands &s, int64_t n, radar_cuda_queue *queue) {
    auto *const kernel = sum<N>;
    return LAUNCH(kernel, dim3(blocks_for(n, MOVE_THREADS)), dim3(MOVE_THREADS), 0, queue, s, n);
}

/* ---- copies ---- */

/* Grid (blocks of a copy, copies).  A thread has every so many numbers of a copy and knows row and column without dividing. */
KERNEL void radar_copy_rectangles(const radar_copy *copy) {
    const radar_copy c = copy[blockIdx.y];
    const int64_t all = (int64_t)gridDim.x * MOVE_THREADS;
    const int64_t first = (int64_t)blockIdx.x * MOVE_THREADS + threadIdx.x;
    if (c.rows < 1 || c.width < 1) return;
    const int64_t down = all / c.width, right = all % c.width;
    int64_t row = first / c.width, column = first % c.width;
    while (row < c.rows) {
        c.to[(size_t)row * c.to_stride + column] = c.from[(size_t)row * c.from_stride + column];
        row += down;
        column += right;
        if (column >= c.width) {
            column -= c.width;
            row++;
        }
    }
}

} // namespace

extern "C" int radar_cuda_odd(uint64_t *found, const float *x, int64_t n, int width,
                              radar_cuda_queue *queue) {
    if (n < 1 || width < 1) return 0;
    return LAUNCH(radar_odd_rows, dim3((unsigned)n, blocks_for(width, MOVE_THREADS * MOVE_EACH)),
                  dim3(MOVE_THREADS), 0, queue, found, x, width);
}

extern "C" int radar_cuda_arrange(float *out, const float *q, int M, int G, int group, int D,
                                  radar_cuda_queue *queue) {
    const int part = group * D;
    if (M < 1 || G < 1 || part < 1) return cudaSuccess;
    return LAUNCH(radar_arrange_parts,
                  dim3(blocks_for(part, MOVE_THREADS), (unsigned)M, (unsigned)G),
                  dim3(MOVE_THREADS), 0, queue, out, q, part);
}

extern "C" int radar_cuda_take(float *out, const float *q, int M, int G, int group, int D,
                               const int32_t *row, int n, radar_cuda_queue *queue) {
    const int part = group * D;
    if (n < 1 || G < 1 || part < 1) return cudaSuccess;
    return LAUNCH(radar_take_parts, dim3(blocks_for(part, MOVE_THREADS), (unsigned)n, (unsigned)G),
                  dim3(MOVE_THREADS), 0, queue, out, q, part, row, M);
}

extern "C" int radar_cuda_sum(float *const *piece, int pieces, int64_t n, radar_cuda_queue *queue) {
    summands all = {};
    if (pieces < 1 || pieces > RADAR_CUDA_SUM_PIECES || pieces & (pieces - 1))
        return cudaErrorInvalidValue;
    if (n < 1) return cudaSuccess;
    for (int p = 0; p < pieces; p++) all.piece[p] = piece[p];
    switch (pieces) {
    case 2:
        return launch_sum<2>(all, n, queue);
    case 4:
        return launch_sum<4>(all, n, queue);
    case 8:
        return launch_sum<8>(all, n, queue);
    case 16:
        return launch_sum<16>(all, n, queue);
    case 32:
        return launch_sum<32>(all, n, queue);
    case 64:
        return launch_sum<64>(all, n, queue);
    }
    return cudaSuccess; /* of one piece it is the sum */
}

extern "C" int radar_cuda_copies(const radar_copy *copy, int n, int64_t most,
                                 radar_cuda_queue *queue) {
    const int64_t blocks = blocks_for(most, MOVE_THREADS * 4);
    if (n < 1 || most < 1) return cudaSuccess;
    return LAUNCH(radar_copy_rectangles,
                  dim3((unsigned)(blocks < 1024 ? blocks : 1024), (unsigned)n), dim3(MOVE_THREADS),
                  0, queue, copy);
}
