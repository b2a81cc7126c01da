/* Reading memory as fast as all threads together can. */
#include <immintrin.h>
#include <omp.h>

#include "kernels/cpu/cpu.h"
#include "kernels/read.h"

enum { LINE = 8, UNROLL = 8 }; /* 64-bit words of a cache line; lines of one round of the loop */

typedef struct range {
    uint64_t *word;
    size_t n; /* a multiple of LINE */
} range;

static range range_of(void *memory, size_t bytes, int thread, int threads) {
    const size_t lines = bytes / (LINE * sizeof(uint64_t));
    const size_t begin = lines * (size_t)thread / (size_t)threads,
                 end = lines * (size_t)(thread + 1) / (size_t)threads;
    return (range){(uint64_t *)memory + begin * LINE, (end - begin) * LINE};
}

static uint64_t sum_plain(const uint64_t *x, size_t n) {
    uint64_t lane[LINE] = {0}, sum = 0;
    for (size_t i = 0; i < n; i += LINE)
        for (int l = 0; l < LINE; l++) lane[l] += x[i + (size_t)l];
    for (int l = 0; l < LINE; l++) sum += lane[l];
    return sum;
}

RADAR_AVX512 static uint64_t sum_avx512(const uint64_t *x, size_t n) {
    __m512i lane[UNROLL];
    size_t i = 0;
    for (int u = 0; u < UNROLL; u++) lane[u] = _mm512_setzero_si512();
    for (; i + UNROLL * LINE <= n; i += UNROLL * LINE)
        for (size_t u = 0; u < UNROLL; u++)
            lane[u] = _mm512_add_epi64(lane[u], _mm512_load_si512(x + i + u * LINE));
    for (int u = 1; u < UNROLL; u++) lane[0] = _mm512_add_epi64(lane[0], lane[u]);
    return (uint64_t)_mm512_reduce_add_epi64(lane[0]) + sum_plain(x + i, n - i);
}

void radar_cpu_touch(radar_backend *be, void *memory, size_t bytes) {
#pragma omp parallel num_threads(radar_cpu_of(be)->opt.n_threads)
    {
        const range own = range_of(memory, bytes, omp_get_thread_num(), omp_get_num_threads());
        for (size_t i = 0; i < own.n; i++) own.word[i] = 1 + i % LINE;
    }
}

uint64_t radar_cpu_read(radar_backend *be, const void *memory, size_t bytes) {
    const radar_cpu *cpu = radar_cpu_of(be);
    uint64_t sum = 0;
#pragma omp parallel num_threads(cpu->opt.n_threads) reduction(+ : sum)
    {
        const range own =
            range_of((void *)memory, bytes, omp_get_thread_num(), omp_get_num_threads());
        sum += cpu->isa.avx512 ? sum_avx512(own.word, own.n) : sum_plain(own.word, own.n);
    }
    return sum;
}
