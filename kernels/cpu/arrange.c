#include "kernels/arrange.h"

#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/merge.h"

#define PARALLEL_FROM 32 /* rows; fewer are not worth waking the other threads */

static void arrange_row(float *out, const float *q, int m, int M, int G, size_t part) {
    for (int g = 0; g < G; g++)
        memcpy(out + ((size_t)g * (size_t)M + (size_t)m) * part,
               q + ((size_t)m * (size_t)G + (size_t)g) * part, part * sizeof *out);
}

void radar_cpu_arrange(radar_backend *be, float *out, const float *q, int M, int G, int group,
                       int D) {
    size_t part = (size_t)group * (size_t)D;
    if (M < PARALLEL_FROM) {
        for (int m = 0; m < M; m++) arrange_row(out, q, m, M, G, part);
        return;
    }
#pragma omp parallel for num_threads(radar_cpu_of(be)->opt.n_threads)
    for (int m = 0; m < M; m++) arrange_row(out, q, m, M, G, part);
}

void radar_cpu_take(radar_backend *be, float *out, const float *q, int M, int G, int group, int D,
                    const int32_t *row, int n) {
    size_t part = (size_t)group * (size_t)D;
    (void)be;
    for (int g = 0; g < G; g++)
        for (int i = 0; i < n; i++)
            memcpy(out + ((size_t)g * (size_t)n + (size_t)i) * part,
                   q + ((size_t)g * (size_t)M + (size_t)row[i]) * part, part * sizeof *out);
}

static float finish_one(float *out, const float *partial, int D) {
    float m = partial[RADAR_PARTIAL_M], l = partial[RADAR_PARTIAL_L];
    const float *o = partial + RADAR_PARTIAL_O;
    for (int d = 0; d < D; d++) out[d] = o[d] / l;
    float missed = partial[RADAR_PARTIAL_MISSED_L(D)];
    if (missed == 0) return 1;
    return 1 / (1 + expf(partial[RADAR_PARTIAL_MISSED_M(D)] - m) * missed / l);
}

static void finish_row(float *out, float *coverage, const float *partial, int m, int M, int G,
                       int group, int D) {
    int H = G * group;
    for (int h = 0; h < H; h++) {
        size_t from =
            ((size_t)(h / group) * (size_t)M + (size_t)m) * (size_t)group + (size_t)(h % group);
        size_t to = (size_t)m * (size_t)H + (size_t)h;
        coverage[to] =
            finish_one(out + to * (size_t)D, partial + from * (size_t)RADAR_PARTIAL(D), D);
    }
}

void radar_cpu_finish(radar_backend *be, float *out, float *coverage, const float *partial, int M,
                      int G, int group, int D) {
    if (M < PARALLEL_FROM) {
        for (int m = 0; m < M; m++) finish_row(out, coverage, partial, m, M, G, group, D);
        return;
    }
#pragma omp parallel for num_threads(radar_cpu_of(be)->opt.n_threads)
    for (int m = 0; m < M; m++) finish_row(out, coverage, partial, m, M, G, group, D);
}

void radar_cpu_copy(radar_backend *be, const radar_copy *copy, int n) {
    (void)be;
    for (int i = 0; i < n; i++)
        for (int64_t row = 0; row < copy[i].rows; row++)
            memcpy(copy[i].to + (size_t)row * copy[i].to_stride,
                   copy[i].from + (size_t)row * copy[i].from_stride,
                   (size_t)copy[i].width * sizeof *copy[i].to);
}
