/* layer.cu - what layer.h declares.
 *
 *   kernel          grid             block               moves, bytes
 *   norm_rows_W     n                width up to 1024    8 width a row (16 width with y), and the weight; W bounds the width
 *   add_numbers     n / 1024         256                 12 n
 *   gate_numbers    n / 1024         256                 12 n
 *   fill_angles     M                64                  4 rotary a row
 *   rotate_append   M x (H + 2 G)    32: a warp a head   8 D a head, and what the cache keeps of it
 *
 * In decoding (M = 1..64) all of them are a launch and one trip to memory, so each keeps to one round of loads and at most one
 * barrier, and what would be four launches (norm of q, of k, rope, append) is one.  In prefill they are bandwidth bound: loads are
 * coalesced, 4 bytes a lane and several in flight, and need no alignment.
 *
 * Orders of summation are fixed by the width alone.  norm_rows_W: thread t sums x[t], x[t + threads], ... by fma, then a tree over the
 * lanes, then one over the warps.  rotate_append: the 16 lanes of norm.h and their tree. */
#include "kernels/cuda/dev.h"

#include "kernels/cuda/layer.h"

constexpr int LANES = 32;
constexpr int ELEMENT_THREADS = 256,
              EACH = 4; /* of the element-wise kernels; EACH numbers a thread */

/* ---- norm ---- */

constexpr int NORM_THREADS = 1024;

DEV float sum_of_warp(float v) {
    for (int m = LANES / 2; m; m /= 2) v = dev_add(v, dev_shuffle_xor(v, m));
    return v;
}

/* The same sum in every thread. */
DEV float sum_of_block(float v) {
    SHARED(float, part, NORM_THREADS / LANES);
    v = sum_of_warp(v);
    if (dev_lane() == 0) part[dev_warp()] = v;
    dev_block_sync();
    return sum_of_warp(dev_lane() < blockDim.x / LANES ? part[dev_lane()] : 0.0f);
}

/* A block has one row, EACH numbers of it in the registers of a thread.  y may be NULL.  Weights are long gone from the caches when
 * a token comes back to them, so they travel beside x, unless there are no registers for them. */
template <int EACH>
DEV void norm_row(float *out, float *x, const float *__restrict__ y,
                  const float *__restrict__ weight, float eps, int width) {
    constexpr bool early = EACH <= 8;
    const int threads = (int)blockDim.x, first = (int)threadIdx.x;
    const size_t at = (size_t)blockIdx.x * (size_t)width;
    float *const row = x + at, *const to = out + at;
    float v[EACH], w[EACH], sum = 0;
    for (int j = 0, i = first; j < EACH; j++, i += threads) {
        if (early) w[j] = i < width ? weight[i] : 0.0f;
        v[j] = i < width ? row[i] : 0.0f;
        if (y && i < width) v[j] = dev_add(v[j], y[at + (size_t)i]);
    }
    for (int j = 0; j < EACH; j++) sum = dev_fma(v[j], v[j], sum);
    sum = sum_of_block(sum);
    const float scale = dev_div(1.0f, dev_sqrt(dev_add(dev_div(sum, (float)width), eps)));
    for (int j = 0, i = first; j < EACH; j++, i += threads) {
        if (i >= width) continue;
        if (y) row[i] = v[j];
        to[i] = dev_mul(early ? w[j] : weight[i], dev_mul(v[j], scale));
    }
}

KERNEL void __launch_bounds__(NORM_THREADS)
    norm_rows_4096(float *out, float *x, const float *__restrict__ y,
                   const float *__restrict__ weight, float eps, int width) {
    norm_row<4>(out, x, y, weight, eps, width);
}
KERNEL void __launch_bounds__(NORM_THREADS)
    norm_rows_8192(float *out, float *x, const float *__restrict__ y,
                   const float *__restrict__ weight, float eps, int width) {
    norm_row<8>(out, x, y, weight, eps, width);
}
KERNEL void __launch_bounds__(NORM_THREADS)
    norm_rows_16384(float *out, float *x, const float *__restrict__ y,
                    const float *__restrict__ weight, float eps, int width) {
    norm_row<16>(out, x, y, weight, eps, width);
}

extern "C" int radar_cuda_norm(float *out, float *x, const float *y, const float *weight, float eps,
                               int n, int width, radar_cuda_queue *queue) {
    if (n < 0 || width < 1 || width > RADAR_CUDA_NORM_WIDTH || (y && out == x))
        return cudaErrorInvalidValue;
    if (n == 0) return 0;
    const int threads = (width + LANES - 1) / LANES * LANES;
    const dim3 grid((unsigned)n),
        block((unsigned)(threads < NORM_THREADS ? threads : NORM_THREADS));
    auto *const kernel = width <= 4096   ? norm_rows_4096
                         : width <= 8192 ? norm_rows_8192
                                         : norm_rows_16384;
    return LAUNCH(kernel, grid, block, 0, queue, out, x, y, weight, eps, width);
}

/* ---- element by element ---- */

/* e^x as kernels/cpu/vmath.h computes it, the same bits: x = n ln 2 + r, e^x = 2^n (1 + r + r^2 q(r)). */
DEV float exponential(float x) {
    if (x != x) return x;
    const float round = 0x1.8p23f; /* added and taken away: rounds to an integer, nearest even */
    x = x < -105.0f ? -105.0f : x;
    x = x > 89.0f ? 89.0f : x;
    const float n = dev_add(dev_fma(x, 0x1.715476p+0f, round), -round);
    const float r = dev_fma(n, 0x1.05c61p-29f, dev_fma(n, -0x1.62e43p-1f, x));
    float q = dev_fma(0x1.6a2352p-10f, r, 0x1.123a6cp-7f);
    q = dev_fma(q, r, 0x1.5558f4p-5f);
    q = dev_fma(q, r, 0x1.55549p-3f);
    q = dev_fma(q, r, 0x1.fffffcp-2f);
    const float p = dev_add(1.0f, dev_fma(q, dev_mul(r, r), r));
    /* 2^n in two steps, of which only the last can round */
    const int whole = (int)n, half = whole >> 1;
    return dev_mul(dev_mul(p, dev_float((uint32_t)(half + 127) << 23)),
                   dev_float((uint32_t)(whole - half + 127) << 23));
}

/* The j-th number of a thread: those of a warp lie side by side. */
DEV int64_t element_index(int j) {
    return ((int64_t)blockIdx.x * EACH + j) * ELEMENT_THREADS + threadIdx.x;
}

KERNEL void gate_numbers(float *gate, const float *up, int64_t n) {
    float g[EACH], u[EACH];
    for (int j = 0; j < EACH; j++) {
        const int64_t i = element_index(j);
        g[j] = i < n ? gate[i] : 0.0f;
        u[j] = i < n ? up[i] : 0.0f;
    }
    for (int j = 0; j < EACH; j++) {
        const int64_t i = element_index(j);
        const float below = dev_add(1.0f, exponential(-g[j]));
        if (i < n) gate[i] = dev_mul(dev_div(g[j], below), u[j]);
    }
}

KERNEL void add_numbers(float *x, const float *y, int64_t n) {
    float a[EACH], b[EACH];
    for (int j = 0; j < EACH; j++) {
        const int64_t i = element_index(j);
        a[j] = i < n ? x[i] : 0.0f;
        b[j] = i < n ? y[i] : 0.0f;
    }
    for (int j = 0; j < EACH; j++) {
        const int64_t i = element_index(j);
        if (i < n) x[i] = dev_add(a[j], b[j]);
    }
}

static unsigned element_blocks(int64_t n) {
    return (unsigned)((n + EACH * ELEMENT_THREADS - 1) / (EACH * ELEMENT_THREADS));
}

extern "C" int radar_cuda_gate(float *gate, const float *up, int64_t n, radar_cuda_queue *queue) {
    if (n < 0) return cudaErrorInvalidValue;
    if (n == 0) return 0;
    return LAUNCH(gate_numbers, dim3(element_blocks(n)), dim3(ELEMENT_THREADS), 0, queue, gate, up,
                  n);
}

extern "C" int radar_cuda_add(float *x, const float *y, int64_t n, radar_cuda_queue *queue) {
    if (n < 0) return cudaErrorInvalidValue;
    if (n == 0) return 0;
    return LAUNCH(add_numbers, dim3(element_blocks(n)), dim3(ELEMENT_THREADS), 0, queue, x, y, n);
}

/* ---- angles ---- */

struct turn {
    double cosine, sine;
};

/* Taylor series on [-pi / 4, pi / 4]; what is left out is below 2^-45. */
DEV turn turn_of_small(double r) {
    const double z = r * r;
    turn t = {1, 1};
    for (int k = 7; k >= 1; k--) {
        t.cosine = dev_fma64(-z * (1.0 / ((2 * k - 1) * (2 * k))), t.cosine, 1.0);
        t.sine = dev_fma64(-z * (1.0 / ((2 * k) * (2 * k + 1))), t.sine, 1.0);
    }
    t.sine *= r;
    return t;
}

/* position * frequency = product + rest exactly; quarters of a turn are taken from the product in two parts, of which fma makes
 * the first exact. */
DEV turn turn_of(int64_t position, double frequency) {
    const double p = (double)position, product = p * frequency;
    const double rest = dev_fma64(p, frequency, -product);
    const double round = 0x1.8p52; /* added and taken away: rounds to an integer */
    const double n = product * 0x1.45f306dc9c883p-1 + round - round;
    double r = dev_fma64(-n, 0x1.921fb54442d18p+0, product);
    r = dev_fma64(-n, 0x1.1a62633145c07p-54, r) + rest;
    const turn t = turn_of_small(r);
    switch ((int64_t)n & 3) {
    case 0:
        return t;
    case 1:
        return {-t.sine, t.cosine};
    case 2:
        return {-t.cosine, -t.sine};
    default:
        return {t.sine, -t.cosine};
    }
}

KERNEL void fill_angles(float *cos_sin, const double *frequency, int pairs, double magnitude,
                        const int64_t *position) {
    float *const row = cos_sin + (size_t)blockIdx.x * 2 * (size_t)pairs;
    for (int i = (int)threadIdx.x; i < pairs; i += (int)blockDim.x) {
        const turn t = turn_of(position[blockIdx.x], frequency[i]);
        row[i] = (float)(magnitude * t.cosine);
        row[pairs + i] = (float)(magnitude * t.sine);
    }
}

extern "C" int radar_cuda_angles(float *cos_sin, const double *frequency, int rotary,
                                 double magnitude, const int64_t *position, int M,
                                 radar_cuda_queue *queue) {
    if (M < 0 || rotary < 0 || rotary % 2) return cudaErrorInvalidValue;
    if (M == 0 || rotary == 0) return 0;
    return LAUNCH(fill_angles, dim3((unsigned)M), dim3(64), 0, queue, cos_sin, frequency,
                  rotary / 2, magnitude, position);
}

/* ---- heads: norm, rope, append ---- */

constexpr int SEGMENT = 16, HEAD_MAX = 256, HEAD_EACH = HEAD_MAX / LANES;

/* e4m3, nearest, ties to even, at most 448, from its bits: one code for machines with and without the instruction. */
DEV uint8_t to_e4m3(float f) {
    const uint32_t u = dev_bits(f), sign = u >> 24 & 0x80, size = u & 0x7fffffffu;
    if (size > 0x7f800000u) return 0x7f;
    if (size >= 0x43e00000u) return (uint8_t)(sign | 0x7e);
    /* below 2^-6 codes count steps of 2^-9: the sum leaves them in its last bits */
    if (size < 0x3c800000u)
        return (uint8_t)(sign | (dev_bits(dev_add(dev_float(size), 0x1.0p14f)) & 15));
    return (uint8_t)(sign | (((size + 0x7ffffu + (size >> 20 & 1)) >> 20) - (120 << 3)));
}

/* A head in a warp's registers: lane l has x[l], x[l + 32], ...; 0 beyond D. */
struct head {
    float x[HEAD_EACH];
};

DEV head load_head(const float *p, int D) {
    head h;
    for (int j = 0; j < HEAD_EACH; j++) {
        const int d = (int)dev_lane() + j * LANES;
        h.x[j] = d < D ? p[d] : 0.0f;
    }
    return h;
}

/* norm.h: lanes l and l + 16 both sum x[l % 16], x[l % 16 + 16], ... in that order, then sum16.h's tree. */
DEV void norm_head(head &h, const head &weight, float eps, int D) {
    const bool upper = dev_lane() >= 16;
    float sum = 0;
    for (int j = 0; j < HEAD_EACH; j++) {
        const float other = dev_shuffle_xor(h.x[j], 16);
        const float first = upper ? other : h.x[j], second = upper ? h.x[j] : other;
        sum = dev_fma(second, second, dev_fma(first, first, sum));
    }
    for (int m = 8; m; m /= 2) sum = dev_add(sum, dev_shuffle_xor(sum, m));
    const float scale = dev_div(1.0f, dev_sqrt(dev_add(dev_div(sum, (float)D), eps)));
    for (int j = 0; j < HEAD_EACH; j++) h.x[j] = dev_mul(weight.x[j], dev_mul(h.x[j], scale));
}

/* Number d of a head is turned with number `other`, by the angle of pair `pair`; `second`: of the two. */
struct partner {
    int other, pair;
    bool second;
};

DEV partner partner_of(int d, radar_rope_style style, int pairs) {
    if (style == RADAR_ROPE_ADJACENT) return {d ^ 1, d / 2, d % 2 == 1};
    return d < pairs ? partner{d + pairs, d, false} : partner{d - pairs, d - pairs, true};
}

/* Cosines and sines as the numbers of a head need them; beyond `rotary` a turn by nothing. */
struct angles {
    head cosine, sine;
};

DEV angles load_angles(const float *cos_sin, radar_rope_style style, int rotary) {
    angles a;
    for (int j = 0; j < HEAD_EACH; j++) {
        const int d = (int)dev_lane() + j * LANES, pair = partner_of(d, style, rotary / 2).pair;
        a.cosine.x[j] = d < rotary ? cos_sin[pair] : 1.0f;
        a.sine.x[j] = d < rotary ? cos_sin[rotary / 2 + pair] : 0.0f;
    }
    return a;
}

/* rope.h: a lane turns the numbers it has, and finds the other of each pair in shared memory. */
DEV void rotate_head(head &h, const angles &a, radar_rope_style style, int rotary) {
    SHARED(float, all, HEAD_MAX);
    for (int j = 0; j < HEAD_EACH; j++) all[dev_lane() + j * LANES] = h.x[j];
    dev_warp_sync();
    for (int j = 0; j < HEAD_EACH; j++) {
        const int d = (int)dev_lane() + j * LANES;
        if (d >= rotary) continue;
        const partner p = partner_of(d, style, rotary / 2);
        const float other = p.second ? all[p.other] : -all[p.other];
        h.x[j] = dev_add(dev_mul(h.x[j], a.cosine.x[j]), dev_mul(other, a.sine.x[j]));
    }
}

/* Where a token's numbers go: d at tile[at + d * step]; and its scale (FP8). */
struct place {
    void *tile;
    int at, step;
    float *scale;
};

DEV void store_fp8(const head &h, const place &to, int D) {
    float max = 0;
    for (int j = 0; j < HEAD_EACH; j++) max = fmaxf(max, fabsf(h.x[j]));
    for (int m = LANES / 2; m; m /= 2) max = fmaxf(max, dev_shuffle_xor(max, m));
    const float scale = dev_div(fminf(max, 0x1.fffffep127f), 448.0f);
    const float below = scale > 0 ? scale : 1.0f;
    for (int j = 0; j < HEAD_EACH; j++) {
        const int d = (int)dev_lane() + j * LANES;
        if (d < D)
            static_cast<uint8_t *>(to.tile)[to.at + d * to.step] = to_e4m3(dev_div(h.x[j], below));
    }
    if (dev_lane() == 0) *to.scale = scale;
}

DEV void store_head(const head &h, radar_cuda_kv type, const place &to, int D) {
    for (int j = 0; j < HEAD_EACH; j++) {
        const int d = (int)dev_lane() + j * LANES, i = to.at + d * to.step;
        if (d >= D) continue;
        if (type == RADAR_CUDA_KV_F32)
            static_cast<float *>(to.tile)[i] = h.x[j];
        else
            static_cast<uint16_t *>(to.tile)[i] =
                type == RADAR_CUDA_KV_F16 ? dev_f32_to_f16(h.x[j]) : dev_f32_to_bf16(h.x[j]);
    }
}

/* A key goes down a column of its tile [D, 16], a value along a row of [16, D]. */
DEV void append_head(const head &h, const radar_cuda_heads &a, bool key, size_t g, int32_t slot) {
    const radar_cuda_cache &c = a.cache;
    const size_t segment = g * (size_t)c.segments + (size_t)(slot / SEGMENT);
    const int number = c.type == RADAR_CUDA_KV_F32 ? 4 : c.type == RADAR_CUDA_KV_FP8 ? 1 : 2;
    const int t = slot % SEGMENT, bytes = SEGMENT * a.D * number;
    place to = {static_cast<uint8_t *>(key ? c.k : c.v) + segment * (size_t)bytes,
                key ? t : t * a.D, key ? SEGMENT : 1, nullptr};
    if (c.type == RADAR_CUDA_KV_FP8) {
        to.scale = (key ? c.k_scale : c.v_scale) + segment * SEGMENT + t;
        store_fp8(h, to, a.D);
    } else {
        store_head(h, c.type, to, a.D);
    }
}

/* Norm and rotation of the head at p, in place.  All loads come first: the kernel is one trip to memory, not four. */
DEV head turn_head(float *p, const float *weight, const radar_cuda_heads &a) {
    head h = load_head(p, a.D), w;
    angles by;
    if (weight) w = load_head(weight, a.D);
    if (a.rotary)
        by = load_angles(a.cos_sin + (size_t)blockIdx.x * (size_t)a.rotary, a.style, a.rotary);
    if (weight) norm_head(h, w, a.eps, a.D);
    if (a.rotary) rotate_head(h, by, a.style, a.rotary);
    for (int j = 0; j < HEAD_EACH; j++) {
        const int d = (int)dev_lane() + j * LANES;
        if (d < a.D) p[d] = h.x[j];
    }
    return h;
}

/* A block is a warp: head blockIdx.y of row blockIdx.x, first those of queries, then of keys, then of values. */
KERNEL void rotate_append(const radar_cuda_heads a) {
    const size_t row = blockIdx.x, unit = blockIdx.y, D = (size_t)a.D;
    if (unit < (size_t)a.H) {
        turn_head(a.q + row * a.q_stride + unit * D, a.q_norm, a);
        return;
    }
    const bool key = unit < (size_t)a.H + (size_t)a.G;
    const size_t g = unit - (size_t)a.H - (key ? 0 : (size_t)a.G), at = row * a.kv_stride + g * D;
    const int32_t slot = a.cache.k ? a.slot[row] : -1;
    const head h = key ? turn_head(a.k + at, a.k_norm, a) : load_head(a.v + at, a.D);
    if (slot >= 0) append_head(h, a, key, g, slot);
}

extern "C" int radar_cuda_rotate_append(const radar_cuda_heads *heads, radar_cuda_queue *queue) {
    const radar_cuda_heads a = *heads;
    const int64_t units = (int64_t)a.H + (int64_t)a.G * (a.cache.k ? 2 : 1);
    if (a.M < 0 || a.H < 0 || a.G < 0 || units > 65535) return cudaErrorInvalidValue;
    if (a.D < 1 || a.D > HEAD_MAX || a.D % SEGMENT) return cudaErrorInvalidValue;
    if (a.rotary < 0 || a.rotary % 2 || a.rotary > a.D) return cudaErrorInvalidValue;
    if (a.M == 0 || units == 0) return 0;
    return LAUNCH(rotate_append, dim3((unsigned)a.M, (unsigned)units), dim3(LANES), 0, queue, a);
}
