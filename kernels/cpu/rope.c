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

void radar_cpu_rope(radar_backend *be, float *x, const float *cos_sin, radar_rope_style style,
                    int M, int heads, int D, int rotary) {
    int pairs = rotary / 2;
    bool half = style == RADAR_ROPE_HALF;
    bool parallel = (int64_t)M * heads * D >= PARALLEL_FROM;
#pragma omp parallel for num_threads(radar_cpu_of(be)->opt.n_threads) if (parallel)
    for (int m = 0; m < M; m++) {
        const float *c = cos_sin + (size_t)m * (size_t)rotary, *s = c + pairs;
        for (int h = 0; h < heads; h++) {
            float *head = x + ((size_t)m * (size_t)heads + (size_t)h) * (size_t)D;
            if (half)
                rotate(head, c, s, pairs, 1, pairs);
            else
                rotate(head, c, s, pairs, 2, 1);
        }
    }
}
