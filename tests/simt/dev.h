/* tests/simt/dev.h - kernels/cuda/dev.h for the CPU: the same names.  Included before a kernel's source, whose own include of the other
 * then finds its guard set. */
#ifndef RADAR_CUDA_DEV_H
#define RADAR_CUDA_DEV_H
#define RADAR_SIMT_DEV 1

extern "C" {
#include "kernels/dtype.h"
#include "runtime/base.h"
}
#include "tests/simt/simt.h"
#include "kernels/cuda/launch.h"

#include <type_traits>
#include <utility>

#define DEV static inline
#define KERNEL extern "C"
#define DEV_ALL 0xffffffffu

#define SHARED(type, name, n) \
    type *const name = static_cast<type *>(simt::shared(SIMT_SITE, sizeof(type) * (size_t)(n)))
#define DYNAMIC_SHARED(type, name) type *const name = static_cast<type *>(simt::dynamic())

#ifndef SIMT_CUDA_RUNTIME /* of tests/simt/fake, which has them too */
typedef int cudaError_t;
typedef void *cudaStream_t;
#define cudaSuccess 0
#define cudaErrorInvalidValue 1
#endif

/* Programs that test kernels alone have no queue, and pass nullptr. */
extern "C" {
int radar_cuda_launch(radar_cuda_queue *, const void *, const radar_cuda_shape *, void *const *,
                      const size_t *, int) __attribute__((weak));
int radar_cuda_allow_shared(const void *, size_t) __attribute__((weak));
}

#define ALLOW_SHARED(kernel, bytes) \
    simt_allow_shared(reinterpret_cast<const void *>(kernel), (size_t)(bytes))
#define LAUNCH(kernel, grid, block, shared_bytes, queue, ...) \
    simt_queue_kernel(#kernel, (kernel), (grid), (block), (size_t)(shared_bytes), (queue), \
                      __VA_ARGS__)

static inline cudaError_t simt_allow_shared(const void *kernel, size_t bytes) {
    if (radar_cuda_allow_shared) return (cudaError_t)radar_cuda_allow_shared(kernel, bytes);
    return bytes > 227 << 10 ? cudaErrorInvalidValue : cudaSuccess;
}
/* args[i] points to argument i. */
template <class... P, size_t... I>
static inline void simt_invoke(void (*kernel)(P...), void **args, std::index_sequence<I...>) {
    (void)args; /* of a kernel without parameters */
    kernel(*static_cast<P *>(args[I])...);
}
template <class... P>
static inline cudaError_t
simt_queue_kernel(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                  size_t shared_bytes, radar_cuda_queue *queue, typename radar_as<P>::type... a) {
    if (!queue) {
        simt::launch(grid, block, shared_bytes, [&] { kernel(a...); });
        return cudaSuccess;
    }
    static_assert((std::is_trivially_copyable<P>::value && ...), "arguments are copied as bytes");
    const void *const at = reinterpret_cast<const void *>(kernel);
    if (!simt::known_of(at))
        simt::know(at, {name, {sizeof(P)...}, [kernel](void **args) {
                            simt_invoke(kernel, args, std::index_sequence_for<P...>());
                        }});
    return (cudaError_t)radar_queue_kernel(kernel, grid, block, shared_bytes, queue, a...);
}

/* ---- threads together ---- */

#define dev_block_sync() simt::barrier(SIMT_SITE)
#define dev_warp_sync() ((void)simt::exchange(SIMT_SITE, DEV_ALL, 0, -1))
#define dev_block_count(flag) simt::barrier_sum(SIMT_SITE, (flag) ? 1 : 0)
#define dev_shuffle(value, lane) simt_move(SIMT_SITE, (value), (int)(lane) % 32)
#define dev_shuffle_xor(value, mask) \
    simt_move(SIMT_SITE, (value), (int)(dev_lane() ^ (unsigned)(mask)))
#define dev_shuffle_up(value, n) \
    simt_move(SIMT_SITE, (value), \
              (int)(dev_lane() >= (unsigned)(n) ? dev_lane() - (unsigned)(n) : dev_lane()))
#define dev_ballot(flag) simt_ballot(SIMT_SITE, (flag))

static inline unsigned dev_lane() { return simt::lane(); }
static inline unsigned dev_warp() { return threadIdx.x / 32; }

template <class T> static inline T simt_move(const void *site, T value, int from) {
    static_assert(sizeof(T) <= 8, "8 bytes at most");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = simt::exchange(site, DEV_ALL, bits, from);
    memcpy(&value, &bits, sizeof value);
    return value;
}
static inline unsigned simt_ballot(const void *site, bool flag) {
    uint64_t all[32];
    unsigned mask = 0;
    simt::gather(site, DEV_ALL, flag, all);
    for (int i = 0; i < 32; i++) mask |= (unsigned)all[i] << i;
    return mask;
}

template <class T> static inline T dev_atomic_add(T *p, T v) {
    if (simt::before_add) simt::before_add(p);
    T before = *p;
    *p = before + v;
    return before;
}
template <class T> static inline T dev_atomic_or(T *p, T v) {
    T before = *p;
    *p = before | v;
    return before;
}

DEV void dev_atomic_max(uint64_t *p, uint64_t v) { *p = v > *p ? v : *p; }
DEV void dev_fence() {} /* blocks come one after the other */
DEV void dev_warp_fence() {}

/* ---- numbers ---- */

DEV uint32_t dev_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}
DEV float dev_float(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
DEV float dev_f16_to_f32(uint16_t h) { return radar_f16_to_f32(h); }
DEV uint16_t dev_f32_to_f16(float f) { return radar_f32_to_f16(f); }
DEV float dev_bf16_to_f32(uint16_t h) { return dev_float((uint32_t)h << 16); }
DEV uint16_t dev_f32_to_bf16(float f) { return radar_f32_to_bf16(f); }
DEV float dev_e4m3_to_f32(uint8_t b) {
    const int e = b >> 3 & 15, m = b & 7;
    const float size = e == 15 && m == 7 ? NAN
                       : e               ? ldexpf((float)(8 + m), e - 10)
                                         : ldexpf((float)m, -9);
    return b & 0x80 ? -size : size;
}
DEV uint8_t dev_f32_to_e4m3(float f) {
    const uint8_t sign = std::signbit(f) ? 0x80 : 0;
    if (f != f) return 0x7f;
    f = fabsf(f);
    if (f >= 448) return (uint8_t)(sign | 0x7e);
    int e = 0;
    frexpf(f, &e);
    if (f == 0 || e < -5) e = -5; /* subnormals share the least exponent */
    const float steps =
        nearbyintf(ldexpf(f, 4 - e)); /* of 2^(e - 4); 16 steps are the next exponent's 8 */
    return (uint8_t)(sign | ((e + 5) * 8 + (int)steps));
}
DEV uint32_t dev_e4m3x2_to_f16x2(uint16_t two) {
    return dev_f32_to_f16(dev_e4m3_to_f32((uint8_t)two)) |
           (uint32_t)dev_f32_to_f16(dev_e4m3_to_f32((uint8_t)(two >> 8))) << 16;
}
DEV void dev_e4m3x2_to_f32(uint16_t two, float out[2]) {
    out[0] = dev_e4m3_to_f32((uint8_t)two);
    out[1] = dev_e4m3_to_f32((uint8_t)(two >> 8));
}
DEV float dev_fma(float a, float b, float c) { return fmaf(a, b, c); }
DEV double dev_fma64(double a, double b, double c) { return fma(a, b, c); }
DEV float dev_mul(float a, float b) { return a * b; }
DEV float dev_add(float a, float b) { return a + b; }
DEV float dev_div(float a, float b) { return a / b; }
DEV float dev_sqrt(float a) { return sqrtf(a); }
DEV float dev_exp2(float x) { return exp2f(x); }
DEV float dev_log2(float x) { return log2f(x); }
DEV uint32_t dev_bytes(uint32_t x, uint32_t y, uint32_t order) {
    const uint64_t both = x | (uint64_t)y << 32;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++) out |= (uint32_t)(both >> 8 * (order >> 4 * i & 7) & 0xff) << 8 * i;
    return out;
}
DEV int32_t dev_round(float f) {
    return f >= -0x1p31f && f < 0x1p31f ? (int32_t)rintf(f) : INT32_MIN;
}
DEV int dev_popcount(uint32_t x) { return __builtin_popcount(x); }
DEV int dev_first(uint32_t x) { return __builtin_ffs((int)x) - 1; }

/* ---- memory ---- */

DEV uint2 dev_stream8(const void *p) {
    uint2 v;
    if ((uintptr_t)p % 8) simt::die("simt: a load of 8 bytes, not aligned");
    memcpy(&v, p, sizeof v);
    return v;
}
DEV uint4 dev_stream16(const void *p) {
    uint4 v;
    if ((uintptr_t)p % 16) simt::die("simt: a load of 16 bytes, not aligned");
    memcpy(&v, p, sizeof v);
    return v;
}
DEV void dev_copy16(void *shared, const void *p, bool valid) {
    simt::copy_async(shared, p, valid ? 16 : 0, valid ? 0 : 16);
}
DEV void dev_copy_commit() { simt::copy_commit(); }
template <int N> static inline void dev_copy_wait() { simt::copy_wait(N); }

/* ---- tensor cores: a warp's registers meet, each lane computes its own four results in f64, rounded once ---- */

/* Registers of all lanes: [registers][32]. */
template <int N>
static inline void simt_collect(const void *site, const uint32_t *mine, uint32_t (*all)[32]) {
    for (int i = 0; i < N; i += 2) {
        uint64_t both[32], value = mine[i] | (uint64_t)(i + 1 < N ? mine[i + 1] : 0) << 32;
        simt::gather(site, DEV_ALL, value, both);
        for (int l = 0; l < 32; l++) {
            all[i][l] = (uint32_t)both[l];
            if (i + 1 < N) all[i + 1][l] = (uint32_t)(both[l] >> 32);
        }
    }
}
/* Elements of `size` bits of a row, or a column: k of `row`; per register 32 / size of them, t holds them in turn. */
static inline uint32_t simt_a(uint32_t (*a)[32], int row, int k, int size) {
    const int each = 32 / size, half = k / (4 * each), t = k % (4 * each) / each;
    return a[2 * half + row / 8][row % 8 * 4 + t] >> (k % each * size) &
           (size == 16 ? 0xffff : 0xff);
}
static inline uint32_t simt_b(uint32_t (*b)[32], int column, int k, int size) {
    const int each = 32 / size, half = k / (4 * each), t = k % (4 * each) / each;
    return b[half][column * 4 + t] >> (k % each * size) & (size == 16 ? 0xffff : 0xff);
}
template <class Number, class T>
static inline void simt_mma(const void *site, T d[4], const uint32_t a[4], const uint32_t b[2],
                            int K, int size, Number number_a, Number number_b) {
    uint32_t all_a[4][32], all_b[2][32];
    simt_collect<4>(site, a, all_a);
    simt_collect<2>(site, b, all_b);
    const int g = (int)dev_lane() / 4, t = (int)dev_lane() % 4;
    for (int i = 0; i < 4; i++) {
        double sum = (double)d[i];
        for (int k = 0; k < K; k++)
            sum += (double)number_a(simt_a(all_a, g + i / 2 * 8, k, size)) *
                   (double)number_b(simt_b(all_b, 2 * t + i % 2, k, size));
        d[i] = (T)sum;
    }
}
static inline float simt_bf16(uint32_t x) { return dev_bf16_to_f32((uint16_t)x); }
static inline float simt_f16(uint32_t x) { return dev_f16_to_f32((uint16_t)x); }
static inline float simt_s8(uint32_t x) { return (float)(int8_t)x; }
static inline float simt_u8(uint32_t x) { return (float)(uint8_t)x; }
#define dev_mma_bf16(d, a, b) simt_mma(SIMT_SITE, (d), (a), (b), 16, 16, simt_bf16, simt_bf16)
#define dev_mma_f16(d, a, b) simt_mma(SIMT_SITE, (d), (a), (b), 16, 16, simt_f16, simt_f16)
#define dev_mma_u8s8(d, a, b) simt_mma(SIMT_SITE, (d), (a), (b), 32, 8, simt_u8, simt_s8)

DEV int32_t dev_dot4(uint32_t a, uint32_t b, int32_t c) {
    for (int i = 0; i < 4; i++) c += (int8_t)(a >> 8 * i) * (int8_t)(b >> 8 * i);
    return c;
}

#endif
