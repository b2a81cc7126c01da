#include "kernels/pool.h"

#include <string.h>

#include "kernels/cpu/cpu.h"

/* One run of one KV head: rows of `part` floats. */
static void mean_rows(float *out, const float *q, int rows, size_t part) {
    memcpy(out, q, part * sizeof *out);
    for (int m = 1; m < rows; m++)
        for (size_t i = 0; i < part; i++) out[i] += q[(size_t)m * part + i];
    for (size_t i = 0; i < part; i++) out[i] *= 1.0f / (float)rows;
}

void radar_cpu_pool(radar_backend *be, float *out, const float *q, int M, int G, int group, int D,
                    const int32_t *begin, int n) {
    size_t part = (size_t)group * (size_t)D;
#pragma omp parallel for num_threads(radar_cpu_of(be)->opt.n_threads) if (G * n >= 8)
    for (int j = 0; j < G * n; j++) {
        int g = j / n, i = j % n;
        mean_rows(out + (size_t)j * part, q + ((size_t)g * (size_t)M + (size_t)begin[i]) * part,
                  begin[i + 1] - begin[i], part);
    }
}
