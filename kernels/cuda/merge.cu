/* merge.cu - merge.h and the end of arrange.h: many partials of a query become one, then o / l and the attended share.
 *   m = max(m_a, m_b);  l = l_a exp(m_a - m) + l_b exp(m_b - m);  o and the missed (m', l') alike
 * in the binary tree ((0, 1), (2, 3)), ...: every node rounds as the CPU's does, and exp is the CPU's, so the bits are too.
 *
 * merge: a block per query, a thread per number of a partial.  The factors of all nodes depend on the maxima alone: two warps
 * work them out, for (m, l, o) and for (m', l'), level by level; then each thread sums its own column of numbers through the
 * tree, without another barrier.  Node (a, b) has its factors at b, which no other node has.
 * Bytes: 4 (D + 4) (pieces + 1) a query.
 * finish: a warp per query head. */
#include "kernels/cuda/merge.h"

#include "kernels/cuda/vmath.h"
#include "kernels/merge.h"

namespace {

constexpr int FINISH_WARPS = 4;

/* Partials of a query lie at the same place of every piece. */
struct pieces_of_tree {
    float *piece[RADAR_CUDA_MERGE_PIECES];
};

/* One warp: top [pieces] are maxima and become those of subtrees; a node's factors go to fa and fb at its right piece. */
DEV void weigh_nodes(float *top, float *fa, float *fb, const pieces_of_tree &tree, size_t m,
                     int pieces) {
    for (int p = (int)dev_lane(); p < pieces; p += 32) top[p] = tree.piece[p][m];
    for (int half = 1; half < pieces; half *= 2) {
        dev_warp_sync(); /* the level below is done */
        for (int k = (int)dev_lane(); k < pieces / (2 * half); k += 32) {
            const int a = 2 * half * k, b = a + half;
            const float both = top[a] > top[b] ? top[a] : top[b];
            const bool none = both == -INFINITY; /* then a stays as it is */
            fa[b] = none ? 1.0f : exp_as_cpu(top[a] - both);
            fb[b] = none ? 0.0f : exp_as_cpu(top[b] - both);
            top[a] = both;
        }
    }
}

/* Grid n, block D + 4 threads rounded up to whole warps, two at least; dynamic shared memory (D + 10) pieces floats. */
__global__ void __launch_bounds__(288) merge_tree(pieces_of_tree tree, int pieces, int D) {
    DYNAMIC_SHARED(float, shared);
    const int size = RADAR_PARTIAL(D), mine = (int)threadIdx.x;
    float *const column = shared + 6 * pieces + mine;
    const size_t first = (size_t)blockIdx.x * (size_t)size;
    if (mine < size)
        for (int p = 0; p < pieces; p++) column[p * size] = tree.piece[p][first + (size_t)mine];
    if (dev_warp() < 2) {
        float *const of = shared + 3 * pieces * (int)dev_warp();
        const int m = dev_warp() == 0 ? RADAR_PARTIAL_M : RADAR_PARTIAL_MISSED_M(D);
        weigh_nodes(of, of + pieces, of + 2 * pieces, tree, first + (size_t)m, pieces);
    }
    dev_block_sync(); /* factors of both are there, and all has been read of the piece that is written */
    if (mine >= size) return;
    const float *const of = shared + (mine < RADAR_PARTIAL_MISSED_M(D) ? 0 : 3 * pieces);
    const float *const fa = of + pieces, *const fb = of + 2 * pieces;
    for (int half = 1; half < pieces; half *= 2)
        for (int b = half; b < pieces; b += 2 * half) {
            float *const x = column + (b - half) * size;
            *x = dev_add(dev_mul(*x, fa[b]), dev_mul(column[b * size], fb[b]));
        }
    const bool maximum = mine == RADAR_PARTIAL_M || mine == RADAR_PARTIAL_MISSED_M(D);
    tree.piece[0][first + (size_t)mine] = maximum ? of[0] : column[0];
}

/* A warp of the grid per (row, head). */
__global__ void __launch_bounds__(FINISH_WARPS * 32)
    finish_heads(float *out, float *coverage, const float *partial, int M, int G, int group,
                 int D) {
    const int64_t to = (int64_t)blockIdx.x * FINISH_WARPS + dev_warp(), H = (int64_t)G * group;
    if (to >= M * H) return;
    const int64_t m = to / H, h = to % H;
    const float *const from =
        partial + (size_t)((h / group * M + m) * group + h % group) * (size_t)RADAR_PARTIAL(D);
    const float l = from[RADAR_PARTIAL_L], missed = from[RADAR_PARTIAL_MISSED_L(D)];
    for (int d = (int)dev_lane(); d < D; d += 32)
        out[(size_t)to * (size_t)D + (size_t)d] = dev_div(from[RADAR_PARTIAL_O + d], l);
    if (dev_lane() > 0) return;
    const float weight = exp_as_cpu(from[RADAR_PARTIAL_MISSED_M(D)] - from[RADAR_PARTIAL_M]);
    coverage[to] = missed == 0 ? 1.0f : dev_div(1.0f, 1.0f + dev_div(dev_mul(weight, missed), l));
}

} // namespace

extern "C" int radar_cuda_merge(float *const *piece, int pieces, int64_t n, int D,
                                radar_cuda_queue *queue) {
    const int size = RADAR_PARTIAL(D), bytes = (size + 6) * pieces * (int)sizeof(float);
    if (pieces < 1 || pieces > RADAR_CUDA_MERGE_PIECES || pieces & (pieces - 1) || D < 1 || D > 256)
        return cudaErrorInvalidValue;
    if (n == 0 || pieces == 1) return cudaSuccess;
    pieces_of_tree tree = {};
    for (int p = 0; p < pieces; p++) tree.piece[p] = piece[p];
    const cudaError_t e = ALLOW_SHARED(merge_tree, bytes);
    if (e != cudaSuccess) return e;
    return LAUNCH(merge_tree, dim3((unsigned)n), dim3(size > 64 ? (size + 31) / 32 * 32 : 64),
                  bytes, queue, tree, pieces, D);
}

extern "C" int radar_cuda_finish(float *out, float *coverage, const float *partial, int M, int G,
                                 int group, int D, radar_cuda_queue *queue) {
    const int64_t warps = (int64_t)M * G * group;
    if (warps == 0) return cudaSuccess;
    return LAUNCH(finish_heads, dim3((unsigned)((warps + FINISH_WARPS - 1) / FINISH_WARPS)),
                  dim3(FINISH_WARPS * 32), 0, queue, out, coverage, partial, M, G, group, D);
}
