/* Prepared queries of the sketch: layout and formula in kernels/cpu/sketch.h, byte for byte what the CPU makes.
 * A warp per query, four to a block; lane l holds dimensions l, 32 + l, ...  Reads 4 D bytes, writes query_bytes (D = 128, 2 bits:
 * 1184): a decode step prepares H of them, so all that counts is the latency of one: five shuffles and what is left of the
 * rotation, two sums, 16 table entries a lane. */
#include "kernels/cuda/sketch.h"

#include "kernels/cuda/dev.h"
#include "kernels/cuda/rotate.h"

namespace {

constexpr int QUERIES = 4;                            /* a block */
constexpr float LOG2E = 0x1.715476p+0f, UPPER = 0.8f; /* RADAR_MASS_LOG2E, RADAR_SKETCH_UPPER */

DEV int warp_sum(int v) {
    for (int mask = 16; mask; mask /= 2) v += dev_shuffle_xor(v, mask);
    return v;
}

/* gain, sum of hq and reach, for codes of `bits`. */
DEV void store_head(float *head, const radar_cuda_sketch &x, float scale, int sum, int size,
                    int bits) {
    float gain = dev_mul(dev_mul(scale, x.scale), LOG2E);
    if (bits < x.bits) gain = dev_mul(gain, 2 * UPPER);
    const float centre = 0.5f * (float)((1 << bits) - 1);
    head[0] = gain;
    head[1] = (float)sum;
    head[2] = dev_mul(gain, dev_mul(centre, (float)size));
}

/* Entry 16 j + c of 16 dimensions: 124 + sum over the bits s of c of hq 4 s + j. */
DEV uint8_t table_entry(const int8_t *hq, int j, int c) {
    int sum = 124;
    for (int s = 0; s < 4; s++)
        if (c >> s & 1) sum += hq[4 * s + j];
    return (uint8_t)sum;
}

template <int N>
DEV void prepare(const radar_cuda_sketch &x, char *out, const float *q, int8_t *room) {
    const int lane = (int)dev_lane();
    float v[N], most = 0;
    int8_t *hq = (int8_t *)out + 32;
    float *head = (float *)out, *scaled = (float *)(hq + x.Dq);
#pragma unroll
    for (int i = 0; i < N; i++) {
        const int d = 32 * i + lane;
        v[i] = d < x.D ? dev_mul(q[d], x.norm[d]) : 0.0f;
        if (d < x.Dp) scaled[d] = d < x.D ? dev_mul(q[d], x.scale) : 0.0f;
    }
    radar_hadamard_warp<N>(v, x.D);
#pragma unroll
    for (int i = 0; i < N; i++) most = radar_larger(most, v[i]);
    most = radar_warp_max(most);
    const float largest = x.bits == 2 ? 31.0f : 127.0f;
    const bool rounds = radar_rounds(most);
    int sum = 0, size = 0, h[N];
#pragma unroll
    for (int i = 0; i < N; i++) {
        h[i] = rounds && 32 * i + lane < x.D ? radar_round_one(v[i], most, largest) : 0;
        sum += h[i];
        size += h[i] < 0 ? -h[i] : h[i];
    }
    sum = warp_sum(sum);
    size = warp_sum(size);
#pragma unroll
    for (int i = 0; i < N; i++) {
        const int d = 32 * i + lane;
        if (d < x.Dq) hq[d] = room[d] = (int8_t)h[i];
    }
    const float scale = rounds ? dev_div(most, largest) : 0.0f;
    if (lane < 2) head[6 + lane] = 0;
    if (lane == 0) store_head(head, x, scale, sum, size, x.bits);
    if (lane == 1) {
        head[3] = head[4] = head[5] = 0;
        if (x.bits == 2) store_head(head + 3, x, scale, sum, size, 1);
    }
    dev_warp_sync(); /* room is whole */
    if (x.bits != 2) return;
    uint8_t *table = (uint8_t *)(scaled + x.Dp);
    for (int i = lane; i < 4 * x.Dq; i += 32)
        table[i] = table_entry(room + i / 64 * 16, i / 16 % 4, i % 16);
}

} // namespace

/* Grid: queries / 4, rounded up. */
KERNEL void __launch_bounds__(32 * QUERIES)
    sketch_query(radar_cuda_sketch x, char *prepared, const float *q, size_t q_stride, int n) {
    SHARED(int8_t, room, QUERIES * 256);
    const int i = (int)(blockIdx.x * QUERIES + dev_warp());
    if (i >= n) return;
    char *out = prepared + (size_t)i * x.query_bytes;
    q += (size_t)i * q_stride;
    if (x.D <= 128)
        prepare<4>(x, out, q, room + 256 * dev_warp());
    else
        prepare<8>(x, out, q, room + 256 * dev_warp());
}

extern "C" int radar_cuda_sketch_query(const radar_cuda_sketch *x, void *prepared, const float *q,
                                       size_t q_stride, int n, radar_cuda_queue *queue) {
    if (n <= 0) return 0;
    return LAUNCH(sketch_query, dim3((unsigned)(n + QUERIES - 1) / QUERIES), dim3(32 * QUERIES), 0,
                  queue, *x, (char *)prepared, q, q_stride, n);
}
