/* synth.cu - synth.h: 16 bytes of a thread at a time, threads side by side; bandwidth bound. */
#include "tests/gpu/synth.h"

#include "kernels/cuda/dev.h"

namespace {

constexpr int THREADS = 256;
constexpr int EACH = 4;         /* words of 16 bytes of a thread at once */
constexpr unsigned GRID = 2048; /* of fill, whose threads go round */

DEV uint64_t mixed(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The next of a stream; its upper bits are the good ones. */
DEV uint32_t draw(uint64_t &state) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 52);
}

template <class T> DEV uint4 word_of(const T *entry, uint64_t state) {
    constexpr int PER = (int)(4 / sizeof(T));
    uint32_t part[4];
    for (int i = 0; i < 4; i++) {
        part[i] = 0;
        for (int j = 0; j < PER; j++)
            part[i] |= (uint32_t)entry[draw(state)] << (j * 8 * (int)sizeof(T) % 32);
    }
    return uint4{part[0], part[1], part[2], part[3]};
}

/* Grid GRID at most; thread i has words i, i + all threads, ... */
template <class T>
__global__ void __launch_bounds__(THREADS)
    fill(uint4 *to, uint64_t words, const T *entry, int dims, uint64_t seed) {
    const uint64_t all = (uint64_t)gridDim.x * THREADS;
    for (uint64_t w = (uint64_t)blockIdx.x * THREADS + threadIdx.x; w < words; w += all) {
        const bool large = dims && w / sizeof(T) % (uint64_t)dims % 32 == 5;
        to[w] = word_of(entry + (large ? SYNTH_ENTRIES : 0), mixed(seed + w));
    }
}

template <class T>
int launch_fill(void *memory, size_t bytes, const synth_table *t, uint64_t seed,
                radar_cuda_queue *queue) {
    const uint64_t words = bytes / 16, blocks = (words + THREADS - 1) / THREADS;
    auto *const kernel = fill<T>;
    if (words == 0) return 0;
    return LAUNCH(kernel, dim3((unsigned)(blocks < GRID ? blocks : GRID)), dim3(THREADS), 0, queue,
                  (uint4 *)memory, words, (const T *)t->entry, t->dims, seed);
}

/* Grid (words / (THREADS EACH)).  All loads of a thread are under way at once; behind the end the last word stands in. */
DEV void load(uint4 v[EACH], const uint4 *from, uint64_t first, uint64_t words) {
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const uint64_t w = first + (uint64_t)i * THREADS;
        v[i] = dev_stream16(from + (w < words ? w : words - 1));
    }
}

KERNEL void __launch_bounds__(THREADS)
    radar_synth_read(const uint4 *from, uint64_t words, uint32_t *sum) {
    uint4 v[EACH];
    uint32_t x = 0;
    load(v, from, (uint64_t)blockIdx.x * THREADS * EACH + threadIdx.x, words);
#pragma unroll
    for (int i = 0; i < EACH; i++) x ^= v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
    if (x == 0x13579bdfu) dev_atomic_add(sum, x); /* of random numbers: next to never */
}

KERNEL void __launch_bounds__(THREADS)
    radar_synth_copy(uint4 *to, const uint4 *from, uint64_t words) {
    const uint64_t first = (uint64_t)blockIdx.x * THREADS * EACH + threadIdx.x;
    uint4 v[EACH];
    load(v, from, first, words);
#pragma unroll
    for (int i = 0; i < EACH; i++)
        if (first + (uint64_t)i * THREADS < words) to[first + (uint64_t)i * THREADS] = v[i];
}

unsigned grid_of(uint64_t words) {
    return (unsigned)((words + THREADS * EACH - 1) / (THREADS * EACH));
}

} // namespace

int synth_fill(void *memory, size_t bytes, const synth_table *table, uint64_t seed,
               radar_cuda_queue *queue) {
    if (table->each == 1) return launch_fill<uint8_t>(memory, bytes, table, seed, queue);
    if (table->each == 2) return launch_fill<uint16_t>(memory, bytes, table, seed, queue);
    return launch_fill<uint32_t>(memory, bytes, table, seed, queue);
}

int synth_read(const void *memory, size_t bytes, uint32_t *sum, radar_cuda_queue *queue) {
    return LAUNCH(radar_synth_read, dim3(grid_of(bytes / 16)), dim3(THREADS), 0, queue,
                  (const uint4 *)memory, (uint64_t)(bytes / 16), sum);
}

int synth_copy(void *to, const void *from, size_t bytes, radar_cuda_queue *queue) {
    return LAUNCH(radar_synth_copy, dim3(grid_of(bytes / 16)), dim3(THREADS), 0, queue, (uint4 *)to,
                  (const uint4 *)from, (uint64_t)(bytes / 16));
}
