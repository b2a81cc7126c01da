#include "kernels/merge.h"

#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/segment.h"
#include "kernels/cpu/vmath.h"

#define PARALLEL_FROM 64 /* partials; fewer are not worth waking the other threads */

/* Factors of a and b, and m; false when neither has a key. */
RADAR_TEMPLATE bool factors(float *fa, float *fb, float *m, float ma, float mb) {
    *m = ma > mb ? ma : mb;
    if (*m == -INFINITY) return false;
    *fa = radar_expf1(ma - *m);
    *fb = radar_expf1(mb - *m);
    return true;
}

/* One source for both instruction sets: no reassociation and no fused operation, so the same bits. */
RADAR_TEMPLATE void merge_one(float *a, const float *b, int D) {
    float fa, fb, m;
    if (factors(&fa, &fb, &m, a[RADAR_PARTIAL_M], b[RADAR_PARTIAL_M])) {
        a[RADAR_PARTIAL_M] = m;
        for (int i = RADAR_PARTIAL_L; i < RADAR_PARTIAL_O + D; i++) a[i] = a[i] * fa + b[i] * fb;
    }
    float *am = a + RADAR_PARTIAL_MISSED_M(D), *al = a + RADAR_PARTIAL_MISSED_L(D);
    if (factors(&fa, &fb, &m, *am, b[RADAR_PARTIAL_MISSED_M(D)])) {
        *am = m;
        *al = *al * fa + b[RADAR_PARTIAL_MISSED_L(D)] * fb;
    }
}

static void merge_plain(float *a, const float *b, int D) { merge_one(a, b, D); }
RADAR_AVX512 static void merge_avx512(float *a, const float *b, int D) { merge_one(a, b, D); }

/* Partial i of all pieces, in the tree. */
static void merge_tree(float *const *piece, int pieces, int64_t i, int D, bool avx512) {
    void (*merge)(float *, const float *, int) = avx512 ? merge_avx512 : merge_plain;
    const int64_t at = i * RADAR_PARTIAL(D);
    for (int half = 1; half < pieces; half *= 2)
        for (int a = 0; a < pieces; a += 2 * half) merge(piece[a] + at, piece[a + half] + at, D);
}

void radar_cpu_merge(radar_backend *be, float *const *piece, int pieces, int64_t n, int D) {
    const radar_cpu *cpu = radar_cpu_of(be);
    const bool parallel = n * (pieces - 1) >= PARALLEL_FROM;
#pragma omp parallel for num_threads(cpu->opt.n_threads) schedule(static) if (parallel)
    for (int64_t i = 0; i < n; i++) merge_tree(piece, pieces, i, D, cpu->isa.avx512);
}
