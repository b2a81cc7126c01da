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

void radar_cpu_merge(radar_backend *be, float *a, const float *b, int64_t n, int D) {
    const radar_cpu *cpu = radar_cpu_of(be);
    int64_t size = RADAR_PARTIAL(D);
    void (*merge)(float *, const float *, int) = cpu->isa.avx512 ? merge_avx512 : merge_plain;
    if (n < PARALLEL_FROM) {
        for (int64_t i = 0; i < n; i++) merge(a + i * size, b + i * size, D);
        return;
    }
#pragma omp parallel for num_threads(cpu->opt.n_threads) schedule(static)
    for (int64_t i = 0; i < n; i++) merge(a + i * size, b + i * size, D);
}
