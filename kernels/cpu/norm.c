#include "kernels/cpu/cpu.h"

#include <math.h>

#include "kernels/cpu/sum16.h"

#define PARALLEL_FROM 32768 /* elements; fewer are not worth waking the other threads */

/* The same operations as the twin below, so the same bits. */
static inline __attribute__((always_inline)) void
norm_body(float *out, const float *x, const float *weight, float eps, int width) {
    float lane[16] = {0};
    for (int i = 0; i < width; i++) lane[i % 16] = __builtin_fmaf(x[i], x[i], lane[i % 16]);
    float scale = 1.0f / sqrtf(radar_sum16(lane) / (float)width + eps);
    for (int i = 0; i < width; i++) out[i] = weight[i] * (x[i] * scale);
}

static void norm_plain(float *out, const float *x, const float *weight, float eps, int width) {
    norm_body(out, x, weight, eps, width);
}

RADAR_FMA static void norm_fma(float *out, const float *x, const float *weight, float eps,
                               int width) {
    norm_body(out, x, weight, eps, width);
}

RADAR_AVX512 static void norm_avx512(float *out, const float *x, const float *weight, float eps,
                                     int width) {
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < width; i += 16) {
        __mmask16 k = width - i >= 16 ? 0xffff : (__mmask16)((1u << (width - i)) - 1);
        __m512 v = _mm512_maskz_loadu_ps(k, x + i);
        sum = _mm512_mask3_fmadd_ps(v, v, sum, k);
    }
    float scale = 1.0f / sqrtf(radar_sum16_avx512(sum) / (float)width + eps);
    for (int i = 0; i < width; i += 16) {
        __mmask16 k = width - i >= 16 ? 0xffff : (__mmask16)((1u << (width - i)) - 1);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(k, x + i), _mm512_set1_ps(scale));
        _mm512_mask_storeu_ps(out + i, k, _mm512_mul_ps(_mm512_maskz_loadu_ps(k, weight + i), v));
    }
}

static void norm_row(radar_isa isa, float *out, const float *x, const float *weight, float eps,
                     int width) {
    if (isa.avx512)
        norm_avx512(out, x, weight, eps, width);
    else if (isa.fma)
        norm_fma(out, x, weight, eps, width);
    else
        norm_plain(out, x, weight, eps, width);
}

/* Row i of radar_cpu_norm. */
static void add_and_norm(radar_isa isa, float *out, float *x, const float *y, const float *weight,
                         float eps, int64_t i, int width) {
    float *row = x + i * width;
    for (int d = 0; y && d < width; d++) row[d] += y[i * width + d];
    norm_row(isa, out + i * width, row, weight, eps, width);
}

void radar_cpu_norm(radar_backend *be, float *out, float *x, const float *y, const float *weight,
                    float eps, int64_t n, int width) {
    const radar_isa isa = radar_cpu_of(be)->isa;
    const bool parallel = n * width >= PARALLEL_FROM;
#pragma omp parallel for num_threads(radar_cpu_of(be)->opt.n_threads) if (parallel)
    for (int64_t i = 0; i < n; i++) add_and_norm(isa, out, x, y, weight, eps, i, width);
}
