#include "kernels/rope.h"

#include <math.h>

#include "kernels/cpu/cpu.h"

/* Fewer elements than this are not worth waking the other threads. */
#define PARALLEL_FROM 65536

/* Pair i is (x[i * step], x[i * step + apart]).  Products and sums are rounded one by one, so every compiler's vectors
 * give the same bits. */
static void rotate(float *x, const float *c, const float *s, int pairs, int step, int apart) {
    for (int i = 0; i < pairs; i++) {
        float a = x[i * step], b = x[i * step + apart];
        x[i * step] = a * c[i] - b * s[i];
        x[i * step + apart] = b * c[i] + a * s[i];
    }
}

static void rotate_row(float *x, const float *cos_sin, radar_rope_style style, int heads, int D,
                       int pairs) {
    bool half = style == RADAR_ROPE_HALF;
    for (int h = 0; h < heads; h++)
        rotate(x + (size_t)h * (size_t)D, cos_sin, cos_sin + pairs, pairs, half ? 1 : 2,
               half ? pairs : 1);
}

static void rotate_rows(radar_backend *be, float *x, const float *cos_sin, radar_rope_style style,
                        int M, int heads, int D, int rotary) {
    size_t row = (size_t)heads * (size_t)D, angles = (size_t)rotary;
    if ((int64_t)M * heads * D < PARALLEL_FROM) {
        for (int m = 0; m < M; m++)
            rotate_row(x + (size_t)m * row, cos_sin + (size_t)m * angles, style, heads, D,
                       rotary / 2);
        return;
    }
#pragma omp parallel for num_threads(radar_cpu_of(be)->opt.n_threads)
    for (int m = 0; m < M; m++)
        rotate_row(x + (size_t)m * row, cos_sin + (size_t)m * angles, style, heads, D, rotary / 2);
}

void radar_cpu_rotate(radar_backend *be, const radar_rotate_job *job) {
    if (job->q_norm)
        radar_cpu_norm(be, job->q, job->q, NULL, job->q_norm, job->eps, (int64_t)job->M * job->H,
                       job->D);
    if (job->k_norm)
        radar_cpu_norm(be, job->k, job->k, NULL, job->k_norm, job->eps, (int64_t)job->M * job->G,
                       job->D);
    if (job->q)
        rotate_rows(be, job->q, job->cos_sin, job->style, job->M, job->H, job->D, job->rotary);
    if (job->k)
        rotate_rows(be, job->k, job->cos_sin, job->style, job->M, job->G, job->D, job->rotary);
}

void radar_rope_angles(float *cos_sin, const double *frequency, int rotary, double magnitude,
                       int64_t position) {
    int half = rotary / 2;
    for (int i = 0; i < half; i++) {
        double radians = (double)position * frequency[i];
        cos_sin[i] = (float)(magnitude * cos(radians));
        cos_sin[half + i] = (float)(magnitude * sin(radians));
    }
}

void radar_cpu_angles(radar_backend *be, float *cos_sin, const double *frequency, int rotary,
                      double magnitude, const int64_t *position, int n) {
    (void)be;
    for (int i = 0; i < n; i++)
        radar_rope_angles(cos_sin + (size_t)i * (size_t)rotary, frequency, rotary, magnitude,
                          position[i]);
}
