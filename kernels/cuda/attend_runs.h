/* attend_runs.h - a task's list cut into runs, one a block, and runs made one partial: what attend.cu and attend_plain.cu share.
 * A list of n items is cut into `splits` runs of 4 ceil(n / (4 splits)) items, the last ones shorter or empty.  Run i is block i of
 * the grid's first dimension, the task is its third.  An empty run does nothing, but for the first one, which leaves the identity.
 * Of one run: its partial is the task's.  Of more: each leaves its own in `work`; who is the last to come merges them in the tree
 * ((0, 1), (2, 3)), ... of merge.h, as merge.cu does.  Who comes last changes nothing. */
#ifndef RADAR_CUDA_ATTEND_RUNS_H
#define RADAR_CUDA_ATTEND_RUNS_H

#include "kernels/cuda/attend.h"

#include "kernels/cuda/vmath.h"

namespace {

constexpr int RUN_CHAINS = 4; /* the items of a run are a multiple of it, but for the last one's */

/* An item as the kernels see it; no tokens: there is none. */
struct work {
    int32_t segment;
    uint32_t tokens;
    int64_t first; /* position of its first token */
};

/* Items [begin, begin + n) of the task's; used: runs of its list that have any, 1 at least. */
struct piece {
    int64_t begin;
    int n, used;
};

DEV uint32_t seen(uint32_t tokens, int64_t first, int64_t position) {
    const int64_t n = position - first + 1;
    if (n <= 0) return 0;
    return tokens & (n >= RADAR_SEGMENT ? 0xffffu : (1u << n) - 1);
}

DEV piece run_of(const radar_cuda_attend_task &t, int splits) {
    const int64_t listed = t.count ? *t.count : t.n, n = listed > 0 ? listed : 0;
    const int64_t per = (n + RUN_CHAINS * splits - 1) / (RUN_CHAINS * splits) * RUN_CHAINS;
    const int used = per ? (int)((n + per - 1) / per) : 1;
    const int64_t left = n - per * blockIdx.x;
    return {(t.begin ? *t.begin : 0) + per * blockIdx.x, (int)(left < per ? left : per), used};
}

/* Item i of a run. */
DEV work fetch(const radar_cuda_attend_task &t, const piece &r, int i) {
    if (i >= r.n) return {0, 0, 0};
    const radar_item item =
        t.item ? t.item[r.begin + i] : radar_item{(int32_t)(r.begin + i), 0xffffu};
    const uint32_t s = (uint32_t)item.segment, per = (uint32_t)t.stripe_segments;
    const int64_t stripe = (int64_t)(s / per) * t.shards + t.phase;
    return {item.segment, item.tokens & 0xffffu, (stripe * per + s % per) * RADAR_SEGMENT};
}

/* Where the partials of a query's runs are, before they are one. */
DEV float *runs_of(const radar_cuda_attend_args &a, int query) {
    const size_t i = (size_t)blockIdx.z * (size_t)a.most_query + (size_t)query;
    return a.work + i * (size_t)a.splits * (size_t)RADAR_PARTIAL(a.D);
}

/* Where this run's partial goes. */
DEV float *partial_of(const radar_cuda_attend_args &a, const radar_cuda_attend_task &t,
                      const piece &r, int query) {
    return r.used == 1 ? t.partial + (size_t)query * t.partial_stride
                       : runs_of(a, query) + (size_t)blockIdx.x * (size_t)RADAR_PARTIAL(a.D);
}

/* One warp: factors of every node of the tree over `used` runs, those of node (a, b) at fa[b] and fb[b]; returns the largest m. */
DEV float weigh_runs(float *fa, float *fb, const float *from, int size, int used, int runs) {
    const int p = (int)dev_lane();
    float top = p < used ? from[p * size + RADAR_PARTIAL_M] : -INFINITY;
    for (int half = 1; half < runs; half *= 2) {
        const bool right = p & half;
        const float other = dev_shuffle_xor(top, half), both = top > other ? top : other;
        const bool none = both == -INFINITY; /* then the left one stays as it is */
        const float mine = none ? (right ? 0.0f : 1.0f) : exp_as_cpu(top - both);
        const float left = dev_shuffle_xor(mine, half);
        if (p % (2 * half) == half) {
            fa[p] = left;
            fb[p] = mine;
        }
        top = both;
    }
    dev_warp_sync(); /* the factors are there */
    return top;
}

template <int COLUMNS> DEV void join(float *x, const float *y, float fa, float fb) {
    for (int c = 0; c < COLUMNS; c++) x[c] = dev_add(dev_mul(x[c], fa), dev_mul(y[c], fb));
}

/* The lane's columns of l and o, of the four runs at `from`, of which there are `left`, as one.  fa, fb: of these runs. */
template <int COLUMNS>
DEV void join_four(float x[COLUMNS], const float *from, int D, int left, const float *fa,
                   const float *fb) {
    float y[4][COLUMNS];
    for (int i = 0; i < 4; i++)
        for (int c = 0; c < COLUMNS; c++) {
            const int column = (int)dev_lane() + 32 * c;
            y[i][c] = i < left && column <= D
                          ? from[i * RADAR_PARTIAL(D) + RADAR_PARTIAL_L + column]
                          : 0.0f;
        }
    join<COLUMNS>(y[0], y[1], fa[1], fb[1]);
    join<COLUMNS>(y[2], y[3], fa[3], fb[3]);
    join<COLUMNS>(y[0], y[2], fa[2], fb[2]);
    for (int c = 0; c < COLUMNS; c++) x[c] = y[0][c];
}

/* One warp, which wrote this run's partial of a query: if it is the last, the task's partial of all runs.  32 COLUMNS
 * >= D + 1.  factor: 2 * RADAR_CUDA_ATTEND_SPLITS floats of shared memory, the warp's own. */
template <int COLUMNS>
DEV void unite_if_last(const radar_cuda_attend_args &a, const radar_cuda_attend_task &t,
                       const piece &r, int query, float *factor) {
    unsigned *const turn = a.turn + (size_t)blockIdx.z * (size_t)a.most_query + query;
    unsigned before = 0;
    dev_warp_sync(); /* all of the partial is written before lane 0 says so */
    if (dev_lane() == 0) {
        dev_fence();
        before = dev_atomic_add(turn, 1u);
    }
    if ((int)dev_shuffle(before, 0) + 1 < r.used) return;
    dev_warp_fence(); /* what others wrote is read from here on */
    if (dev_lane() == 0) *turn = 0;

    const float *const from = runs_of(a, query);
    float *const to = t.partial + (size_t)query * t.partial_stride;
    float *const fa = factor, *const fb = factor + RADAR_CUDA_ATTEND_SPLITS;
    const int size = RADAR_PARTIAL(a.D);
    int runs = 4;
    while (runs < r.used) runs *= 2;
    const float m = weigh_runs(fa, fb, from, size, r.used, runs);
    /* left: subtrees of 4, 8 and 16 runs that wait for their right ones */
    float x[COLUMNS], left[3][COLUMNS];
    for (int s = 0; s < runs; s += 4) {
        join_four<COLUMNS>(x, from + s * size, a.D, r.used - s, fa + s, fb + s);
        bool waits = false;
#pragma unroll
        for (int level = 0; level < 3; level++) { /* unrolled, `left` stays in registers */
            const int b = s & ~((4 << level) - 1);
            const bool right = s >> (level + 2) & 1;
            for (int c = 0; c < COLUMNS && !waits; c++) {
                if (right)
                    x[c] = dev_add(dev_mul(left[level][c], fa[b]), dev_mul(x[c], fb[b]));
                else
                    left[level][c] = x[c];
            }
            waits |= !right;
        }
    }
    for (int c = 0; c < COLUMNS; c++) {
        const int column = (int)dev_lane() + 32 * c;
        if (column <= a.D) to[RADAR_PARTIAL_L + column] = x[c];
    }
    if (dev_lane() > 0) return;
    to[RADAR_PARTIAL_M] = m;
    to[RADAR_PARTIAL_MISSED_M(a.D)] = -INFINITY;
    to[RADAR_PARTIAL_MISSED_L(a.D)] = 0;
}

} // namespace

#endif
