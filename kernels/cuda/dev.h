/* dev.h - what kernels are written in: every instruction that C++ has no name for, once.
 *
 * Kernels compile twice: by nvcc with this header, and by a C++ compiler for the CPU with tests/simt/dev.h in its place, which
 * has the same names.  So kernels use no PTX, no <<<>>> and no CUDA type but those named here.  Numbers are stored as bits
 * (uint16_t for f16 and bf16, uint8_t for e4m3) and computed in f32. */
#ifndef RADAR_CUDA_DEV_H
#define RADAR_CUDA_DEV_H

#include <cstdint>
#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"

#define DEV __device__ __forceinline__
#define KERNEL extern "C" __global__
#define DEV_ALL 0xffffffffu /* lanes of a warp */

/* ---- memory of a block ---- */

#define SHARED(type, name, n) __shared__ __align__(16) type name[n]
/* The dynamic part, as the launch asks for it; 16-byte aligned. */
#define DYNAMIC_SHARED(type, name) \
    extern __shared__ __align__(16) unsigned char radar_dynamic_shared[]; \
    type *const name = reinterpret_cast<type *>(radar_dynamic_shared)

/* ---- launching ---- */

/* Queues the kernel, its arguments converted to the types of its parameters; queue NULL: at once.  cudaError_t. */
#define LAUNCH(kernel, grid, block, shared_bytes, queue, ...) \
    ((cudaError_t)radar_queue_kernel((kernel), (grid), (block), (size_t)(shared_bytes), (queue), \
                                     __VA_ARGS__))
/* Dynamic shared memory beyond 48 KB has to be asked for, ahead of the launch; cudaError_t. */
#define ALLOW_SHARED(kernel, bytes) \
    ((cudaError_t)radar_cuda_allow_shared(reinterpret_cast<const void *>(kernel), (size_t)(bytes)))

/* ---- threads together ---- */

#define dev_block_sync() __syncthreads()
#define dev_warp_sync() __syncwarp()
#define dev_block_count(flag) __syncthreads_count(flag)
#define dev_shuffle(value, lane) __shfl_sync(DEV_ALL, (value), (lane))
#define dev_shuffle_xor(value, mask) __shfl_xor_sync(DEV_ALL, (value), (mask))
#define dev_shuffle_up(value, n) __shfl_up_sync(DEV_ALL, (value), (n))
#define dev_ballot(flag) __ballot_sync(DEV_ALL, (flag))

DEV unsigned dev_lane() { return threadIdx.x % 32; }
DEV unsigned dev_warp() { return threadIdx.x / 32; }

template <class T> DEV T dev_atomic_add(T *p, T v) { return atomicAdd(p, v); }
template <class T> DEV T dev_atomic_or(T *p, T v) { return atomicOr(p, v); }
DEV void dev_atomic_max(uint64_t *p, uint64_t v) {
    atomicMax(reinterpret_cast<unsigned long long *>(p), (unsigned long long)v);
}
/* What this thread wrote before is seen by who sees what it writes next; and the like for reads. */
#define dev_fence() __threadfence()
/* For all lanes of a warp, behind what one of them has seen. */
#define dev_warp_fence() (__threadfence(), __syncwarp())

/* ---- numbers ---- */

DEV float dev_f16_to_f32(uint16_t h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}
DEV uint16_t dev_f32_to_f16(float f) { /* nearest, ties to even */
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}
DEV float dev_bf16_to_f32(uint16_t h) { return __uint_as_float((uint32_t)h << 16); }
DEV uint16_t dev_f32_to_bf16(float f) { /* nearest, ties to even */
    uint16_t h;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
DEV float dev_e4m3_to_f32(uint8_t b) {
    uint32_t two;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(two) : "h"((uint16_t)b));
    return dev_f16_to_f32((uint16_t)two);
}
DEV uint8_t dev_f32_to_e4m3(float f) { /* nearest, ties to even; beyond 448: 448 */
    uint16_t two;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(two) : "f"(0.0f), "f"(f));
    return (uint8_t)two;
}
#endif
/* Two numbers in a word, lower first: e4m3 to f16, exact. */
DEV uint32_t dev_e4m3x2_to_f16x2(uint16_t two) {
    uint32_t wide;
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(wide) : "h"(two));
#else /* bits in their places, but for an exponent that is less by 8; NaN reads as 480 */
    const uint32_t x = (two & 0xffu) << 8 | (two & 0xff00u) << 16;
    asm("mul.rn.f16x2 %0, %1, %2;"
        : "=r"(wide)
        : "r"((x & 0x80008000u) | (x & 0x7f007f00u) >> 1), "r"(0x5c005c00u));
#endif
    return wide;
}
DEV void dev_e4m3x2_to_f32(uint16_t two, float out[2]) {
    const uint32_t halves = dev_e4m3x2_to_f16x2(two);
    out[0] = dev_f16_to_f32((uint16_t)halves);
    out[1] = dev_f16_to_f32((uint16_t)(halves >> 16));
}
DEV uint32_t dev_bits(float f) { return __float_as_uint(f); }
DEV float dev_float(uint32_t bits) { return __uint_as_float(bits); }
DEV float dev_fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEV double dev_fma64(double a, double b, double c) { return __fma_rn(a, b, c); }
/* Rounded on their own: the compiler joins no product and sum. */
DEV float dev_mul(float a, float b) { return __fmul_rn(a, b); }
DEV float dev_add(float a, float b) { return __fadd_rn(a, b); }
DEV float dev_div(float a, float b) { return __fdiv_rn(a, b); }
DEV float dev_sqrt(float a) { return __fsqrt_rn(a); }
/* 2^x, relative error 2^-22; -inf gives 0. */
DEV float dev_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/* log2 x, absolute error 2^-21 for x in [.5, 2], relative 2^-22 elsewhere. */
DEV float dev_log2(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/* Bytes of y x, 0 the lowest of x, 7 the highest of y; the hexadecimal digits of order say which, the lowest byte's last. */
DEV uint32_t dev_bytes(uint32_t x, uint32_t y, uint32_t order) { return __byte_perm(x, y, order); }
/* The integer nearest to f, ties to even; far beyond its range: the least one. */
DEV int32_t dev_round(float f) {
    return f >= -0x1p31f && f < 0x1p31f ? __float2int_rn(f) : INT32_MIN;
}
DEV int dev_popcount(uint32_t x) { return __popc(x); }
DEV int dev_first(uint32_t x) { return __ffs((int)x) - 1; } /* lowest set bit; -1: none */

/* ---- loads that are used once ---- */

DEV uint2 dev_stream8(const void *p) {
    uint2 v;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
                 : "=r"(v.x), "=r"(v.y)
                 : "l"(p));
    return v;
}
DEV uint4 dev_stream16(const void *p) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

/* 16 bytes from global to shared memory, both aligned to 16; not valid: zeros, and p is not read. */
DEV void dev_copy16(void *shared, const void *p, bool valid) {
    const uint32_t to = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(p),
                 "r"(valid ? 16 : 0)
                 : "memory");
}
DEV void dev_copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Until at most N of this thread's groups are under way. */
template <int N> DEV void dev_copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* ---- tensor cores ----
 * Lane l of a warp, g = l / 4, t = l % 4.  d [16, 8] += a [16, k] b [k, 8]:
 *   d[0], d[1]: row g, columns 2t, 2t + 1;   d[2], d[3]: row g + 8
 * k = 16, bf16 or f16, two to a register, lower half first:
 *   a[0]: row g, k 2t, 2t + 1;  a[1]: row g + 8;  a[2], a[3]: the same, k + 8;   b[0]: k 2t, 2t + 1, column g;  b[1]: k + 8
 * k = 32, int8, four to a register:
 *   a[0]: row g, k 4t .. 4t + 3;  a[1]: row g + 8;  a[2], a[3]: the same, k + 16;   b[0]: k 4t .. 4t + 3, column g;  b[1]: k + 16
 * The order of the sums inside one product is the hardware's: fixed, not stated. */

DEV void dev_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEV void dev_mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/* a unsigned, b signed. */
DEV void dev_mma_u8s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/* Four signed bytes: c + a . b. */
DEV int32_t dev_dot4(uint32_t a, uint32_t b, int32_t c) {
    return __dp4a((int32_t)a, (int32_t)b, c);
}

#endif
