/* round.cu - x as 16-bit numbers for tensor cores, radar_cuda_round of matmul.h.
 * A block rounds a row, in two passes for f16: the largest exponent, then the numbers; 4 lanes a chunk of 32 columns, 8 numbers and 16
 * bytes of the result each.  Reads x once (f16: and once more out of the L2 cache). */
#include "kernels/cuda/matmul.h"

#include "kernels/cuda/split.h"

namespace {

constexpr int ROW_THREADS = 128, ROW_WARPS = ROW_THREADS / 32, SUM_COLUMNS = 32,
              LANE_NUMBERS = 8; /* numbers of a lane */

/* 8 numbers from column c on; there are `columns`, a multiple of 4 or not. */
DEV void load(float v[LANE_NUMBERS], const float *x, int c, int columns) {
#pragma unroll
    for (int i = 0; i < LANE_NUMBERS; i += 4) {
        if (c + i + 4 <= columns) {
            const float4 u = *reinterpret_cast<const float4 *>(x + c + i);
            v[i] = u.x, v[i + 1] = u.y, v[i + 2] = u.z, v[i + 3] = u.w;
        } else {
            for (int e = 0; e < 4; e++) v[i + e] = c + i + e < columns ? x[c + i + e] : 0.0f;
        }
    }
}

/* The largest exponent field of the row's finite numbers, in place; less than 14 counts as 14. */
DEV uint32_t largest(const float *x, int columns, uint32_t *of_warp) {
    uint32_t most = 14u << 23;
    for (int c = (int)threadIdx.x * LANE_NUMBERS; c < columns; c += ROW_THREADS * LANE_NUMBERS) {
        float v[LANE_NUMBERS];
        load(v, x, c, columns);
        for (int i = 0; i < LANE_NUMBERS; i++) {
            const uint32_t bits = dev_bits(v[i]) & 0x7f800000u;
            most = bits > most && bits < 0x7f800000u ? bits : most;
        }
    }
    for (int mask = 16; mask; mask /= 2) {
        const uint32_t other = dev_shuffle_xor(most, mask);
        most = other > most ? other : most;
    }
    if (dev_lane() == 0) of_warp[dev_warp()] = most;
    dev_block_sync();
    for (int w = 0; w < ROW_WARPS; w++) most = of_warp[w] > most ? of_warp[w] : most;
    return most;
}

/* Rounds v, leaves the words of each part, and in v what the parts add up to. */
template <bool F16, int PARTS> DEV void cut(uint4 word[PARTS], float v[LANE_NUMBERS]) {
    uint32_t bits[PARTS][LANE_NUMBERS / 2] = {};
#pragma unroll
    for (int i = 0; i < LANE_NUMBERS; i++) {
        float left = v[i], sum = 0;
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
            const uint32_t h = split_narrow<F16>(left);
            bits[p][i / 2] |= h << 16 * (i % 2);
            sum += split_widen<F16>(h);
            left -= split_widen<F16>(h);
        }
        v[i] = sum;
    }
    for (int p = 0; p < PARTS; p++) word[p] = uint4{bits[p][0], bits[p][1], bits[p][2], bits[p][3]};
}

/* The sum of a chunk, at its first lane. */
DEV float add_up(const float v[LANE_NUMBERS]) {
    float sum = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
    sum += dev_shuffle_xor(sum, 1);
    return sum + dev_shuffle_xor(sum, 2);
}

/* grid: rows of the result; block: 4 warps. */
template <bool F16, int PARTS>
__global__ void __launch_bounds__(ROW_THREADS) round_row(const radar_cuda_halves h) {
    SHARED(uint32_t, of_warp, ROW_WARPS);
    const int row = (int)blockIdx.x, columns = row < h.M ? h.columns : 0;
    const float *x = h.x + (row < h.M ? (size_t)row * h.x_stride : 0);
    float factor = 1;
    if (F16) {
        factor = dev_float((267u << 23) - largest(x, columns, of_warp));
        if (threadIdx.x == 0) h.back[row] = split_back(factor);
    }
    const int end = (h.columns + SUM_COLUMNS - 1) / SUM_COLUMNS * SUM_COLUMNS;
    for (int base = 0; base < end;
         base += ROW_THREADS * LANE_NUMBERS) { /* all lanes, as they shuffle */
        const int c = base + (int)threadIdx.x * LANE_NUMBERS, chunk = c / SUM_COLUMNS;
        float v[LANE_NUMBERS];
        uint4 word[PARTS];
        load(v, x, c, columns);
        for (int i = 0; i < LANE_NUMBERS; i++) v[i] *= factor;
        cut<F16, PARTS>(word, v);
        const float sum = h.sums ? add_up(v) * 0x1p-24f : 0.0f;
        if (c >= end) continue;
        uint16_t *to = h.to + (size_t)row * h.row_stride + (size_t)chunk * h.chunk_stride;
        for (int p = 0; p < PARTS; p++)
            *reinterpret_cast<uint4 *>(to + (size_t)p * h.part_stride + c % SUM_COLUMNS) = word[p];
        if (h.sums && c % SUM_COLUMNS == 0)
            h.sums[(size_t)chunk * (size_t)h.rows + (size_t)row] = sum;
    }
}

template <bool F16, int PARTS>
int launch_rounding(const radar_cuda_halves &h, radar_cuda_queue *queue) {
    void (*const kernel)(const radar_cuda_halves) = round_row<F16, PARTS>;
    return LAUNCH(kernel, dim3((unsigned)h.rows), dim3(ROW_THREADS), 0, queue, h);
}

} // namespace

extern "C" int radar_cuda_round(const radar_cuda_halves *h, bool f16, int parts,
                                radar_cuda_queue *queue) {
    if ((uintptr_t)h->x % 16 || h->x_stride % 4 || parts < 1 || parts > 2 || (f16 && !h->back))
        return cudaErrorInvalidValue;
    if (h->rows < 1) return cudaSuccess;
    if (f16)
        return parts == 1 ? launch_rounding<true, 1>(*h, queue)
                          : launch_rounding<true, 2>(*h, queue);
    return parts == 1 ? launch_rounding<false, 1>(*h, queue) : launch_rounding<false, 2>(*h, queue);
}
