/* merge_tree.h - partials merged one by one as merge.h says, in f32, every number rounded where the CPU rounds it. */
#ifndef RADAR_SIMT_MERGE_TREE_H
#define RADAR_SIMT_MERGE_TREE_H

#include <vector>

#include "kernels/cuda/vmath.h"
#include "kernels/merge.h"

/* m, and `n` numbers x that count from it. */
static inline void merge_sums(float *m, float *x, float other_m, const float *y, int n) {
    const float top = *m > other_m ? *m : other_m;
    if (top == -INFINITY) return;
    const float fa = exp_as_cpu(*m - top), fb = exp_as_cpu(other_m - top);
    for (int i = 0; i < n; i++) {
        const float a = x[i] * fa, b = y[i] * fb;
        x[i] = a + b;
    }
    *m = top;
}

/* Partial a := merge(a, b). */
static inline void merge_two(float *a, const float *b, int D) {
    merge_sums(a, a + RADAR_PARTIAL_L, b[RADAR_PARTIAL_M], b + RADAR_PARTIAL_L, D + 1);
    const int m = RADAR_PARTIAL_MISSED_M(D), l = RADAR_PARTIAL_MISSED_L(D);
    merge_sums(a + m, a + l, b[m], b + l, 1);
}

/* Pieces of n partials each, a power of two, into the first. */
static inline void merge_tree_of(std::vector<std::vector<float>> &piece, int n, int D) {
    for (size_t half = 1; half < piece.size(); half *= 2)
        for (size_t a = 0; a < piece.size(); a += 2 * half)
            for (int i = 0; i < n; i++)
                merge_two(&piece[a][(size_t)(i * RADAR_PARTIAL(D))],
                          &piece[a + half][(size_t)(i * RADAR_PARTIAL(D))], D);
}

#endif
