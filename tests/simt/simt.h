/* simt.h - CUDA kernels as C++17 on the CPU: the same source, a fiber per thread, blocks one after the other.
 *
 * What it proves: results, indices, barriers (fibers run one at a time from barrier to barrier, in an order drawn anew each
 * round, so that what lacks a barrier reads too early or too late in some of them), every byte of shared memory (each array is a
 * heap block of its own: sanitizers see its ends; it holds NaN until written), async copies (they land when waited for, and
 * their target holds NaN until then).  What it cannot: the memory model within a round, speed, registers.
 * A barrier that not all can reach is a deadlock, which ends the program with what each thread waits for. */
#ifndef RADAR_SIMT_H
#define RADAR_SIMT_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

/* Of the fiber that runs. */
extern thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace simt {

struct options {
    uint64_t seed = 1; /* of the order of blocks and fibers; 0: ascending */
    int drop_barrier =
        0; /* n: the n-th barrier site of the kernel that is met does nothing (mutation check) */
};
extern options opt;
/* Barrier sites that the latest launch met. */
extern int sites;
/* Called ahead of every atomic addition, if set: whether what a thread announces by it is there. */
extern std::function<void(const void *)> before_add;

void launch(dim3 grid, dim3 block, size_t dynamic_bytes, const std::function<void()> &kernel);

/* What a launch by address has to know of a kernel. */
struct known {
    const char *name;
    std::vector<size_t> bytes; /* of each argument */
    std::function<void(void **args)> call;
};
void know(const void *kernel, known what);
const known *known_of(const void *kernel); /* NULL: never launched before */

/* [fiber] All below. */
void barrier(const void *site);                      /* of the block */
void named_barrier(const void *site, int id, int n); /* of n threads of it */
int barrier_sum(const void *site, int value);        /* of the block, and the sum of the values */
void *shared(const void *site, size_t bytes); /* the same memory for all threads of a block */
void *dynamic();
/* Threads of `mask` meet; each leaves 8 bytes and takes those of lane `from` (-1: none; a lane outside the mask: its own). */
uint64_t exchange(const void *site, unsigned mask, uint64_t value, int from);
/* The same; all values of the warp, 0 of lanes outside the mask. */
void gather(const void *site, unsigned mask, uint64_t value, uint64_t all[32]);
unsigned lane();

/* Async copies of a thread, in groups. */
void copy_async(void *to, const void *from, size_t bytes, size_t zeros);
void copy_commit();
void copy_wait(int pending); /* until at most so many groups are under way */

/* Barriers in shared memory that count arrivals and bytes. */
void mbarrier_init(uint64_t *bar, unsigned count);
void mbarrier_expect(uint64_t *bar, unsigned bytes); /* arrives, and bytes have to follow */
void mbarrier_arrive(uint64_t *bar);
void mbarrier_wait(uint64_t *bar, unsigned parity);
void bulk_copy(void *to, const void *from, unsigned bytes, uint64_t *bar);

[[noreturn]] void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

} // namespace simt

/* A barrier is known by where it stands in the source. */
#define SIMT_SITE \
    ([]() -> const void * { \
        static const char site = 0; \
        return &site; \
    }())

#endif
