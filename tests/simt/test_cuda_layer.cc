/* Kernels of layer.cu: against formulas in double, and bit for bit against the CPU's operations where the header promises it. */
#include <cfloat>
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

extern "C" {
#include <cmocka.h>

#include "kernels/backend.h"
}

#include "tests/simt/dev.h"
#include "kernels/cuda/layer.cu"
#include "tests/simt/fixture.h"

#define SCHEDULES 4
#define GUARD 0x7fc12345u /* a NaN that nobody computes */

static radar_backend *cpu;

static int open_cpu(void **) {
    radar_backend_options opt = {};
    opt.n_threads = 1;
    opt.precision = RADAR_PRECISION_EXACT;
    opt.max_rows = 1;
    opt.max_cols = 32;
    radar_error err = {};
    return radar_backend_cpu->open(&cpu, &opt, &err) == RADAR_OK ? 0 : -1;
}
static int close_cpu(void **) {
    cpu->ops->close(cpu);
    return 0;
}

static std::vector<float> drawn(uint64_t stream, size_t n) {
    std::vector<float> x(n);
    for (size_t i = 0; i < n; i++) x[i] = draw(stream, i);
    return x;
}

static std::vector<float> guards(size_t n) { return std::vector<float>(n, dev_float(GUARD)); }

/* The same bits, or no number in both. */
static bool same(const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (dev_bits(a[i]) != dev_bits(b[i]) && !(a[i] != a[i] && b[i] != b[i])) return false;
    return true;
}

static bool guarded(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (dev_bits(x[i]) != GUARD) return false;
    return true;
}

/* ---- norm ---- */

static void norm_in_double(double *out, const float *x, const float *weight, float eps, int width) {
    double sum = 0;
    for (int i = 0; i < width; i++) sum += (double)x[i] * x[i];
    const double scale = 1 / std::sqrt(sum / width + (double)eps);
    for (int i = 0; i < width; i++) out[i] = weight[i] * (x[i] * scale);
}

/* Worst relative error of numbers that are not tiny. */
static double worst_of(const float *got, const double *want, size_t n) {
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double miss = std::fabs(got[i] - want[i]) / (std::fabs(want[i]) + 1e-30);
        if (!(miss <= worst)) worst = miss;
    }
    return worst;
}

/* A sum of squares misses by half a step for each of its at most 16 + 10 additions in a row, its root by half of that; then
 * division, root, and two products. */
static const double NORM_ERROR = 20 * 0x1p-24;

static bool norms(int n, int width, bool add, bool in_place, float size, int schedules) {
    const size_t N = (size_t)n * (size_t)width;
    const std::vector<float> x0 = drawn(1, N), y = drawn(2, N), weight = drawn(3, (size_t)width);
    std::vector<float> sum = x0;
    std::vector<double> want(N);
    for (size_t i = 0; i < N; i++) sum[i] = x0[i] * size + (add ? y[i] : 0.0f);
    for (int i = 0; i < n; i++)
        norm_in_double(&want[(size_t)i * width], &sum[(size_t)i * width], weight.data(), 1e-5f,
                       width);
    return right_always(
        [&] {
            std::vector<float> x = x0, other = guards(N + 9);
            for (float &f : x) f *= size;
            float *const out = in_place ? x.data() : other.data();
            if (radar_cuda_norm(out, x.data(), add ? y.data() : NULL, weight.data(), 1e-5f, n,
                                width, NULL))
                return false;
            if (!in_place && !same(x.data(), sum.data(), N)) return false;
            if (!guarded(other.data() + (in_place ? 0 : N), 9)) return false;
            return worst_of(out, want.data(), N) <= NORM_ERROR;
        },
        schedules);
}

static void rows_are_normed(void **) {
    for (int width : {1, 2, 31, 32, 33, 64, 100, 576, 1024, 1500}) {
        assert_true(norms(3, width, false, false, 1, SCHEDULES));
        assert_true(norms(2, width, false, true, 1e15f, SCHEDULES));
        assert_true(norms(3, width, true, false, 1e-3f, SCHEDULES));
    }
    for (int width : {4096, 4097, 8192, 8193}) assert_true(norms(1, width, true, false, 1, 2));
    assert_true(norms(1, RADAR_CUDA_NORM_WIDTH, true, false, 1, 2));
    assert_true(norms(1, RADAR_CUDA_NORM_WIDTH - 1, false, true, 1, 2));
}

static void a_row_is_normed_as_if_alone(void **) {
    const int width = 200;
    std::vector<float> x = drawn(5, 4 * width), weight = drawn(6, width), all = guards(4 * width),
                       one = guards(width);
    for (int i = 0; i < width; i++) x[width + i] = 0;
    x[2 * width + 7] = NAN;
    assert_int_equal(radar_cuda_norm(all.data(), x.data(), NULL, weight.data(), 1e-6f, 4, width, 0),
                     0);
    for (int i = 0; i < 4; i++) {
        radar_cuda_norm(one.data(), x.data() + i * width, NULL, weight.data(), 1e-6f, 1, width, 0);
        assert_true(same(all.data() + i * width, one.data(), width));
    }
    for (int i = 0; i < width; i++) {
        assert_true(all[width + i] == 0);
        assert_true(all[i] == all[i] && all[3 * width + i] == all[3 * width + i]);
        assert_true(all[2 * width + i] != all[2 * width + i]);
    }
}

static void every_barrier_of_norm_is_needed(void **) {
    const int width = 500;
    const std::vector<float> x0 = drawn(1, 2 * width), weight = drawn(3, width);
    std::vector<double> want(2 * width);
    for (int i = 0; i < 2; i++)
        norm_in_double(&want[i * width], &x0[i * width], weight.data(), 1e-5f, width);
    auto run = [&] {
        std::vector<float> x = x0, out = guards(2 * width);
        radar_cuda_norm(out.data(), x.data(), NULL, weight.data(), 1e-5f, 2, width, NULL);
        return worst_of(out.data(), want.data(), 2 * width) <= NORM_ERROR;
    };
    assert_true(idle_barriers(run, 20).empty());
    run();
    assert_int_equal(simt::sites, 1);
}

/* ---- element by element ---- */

static std::vector<float> with_edges(uint64_t stream, size_t n) {
    const float edge[] = {0.0f,    -0.0f,  INFINITY, -INFINITY, NAN,     88.8f, -88.8f, -89.5f, 104,
                          -104.5f, -1e30f, 1e30f,    1e-40f,    -1e-40f, 1e-8f, -87.4f, -95};
    std::vector<float> x = drawn(stream, n);
    for (size_t i = 0; i < n; i++) {
        x[i] *= i % 3 ? 1.0f : 30.0f;
        if (n > 40 && i % 2 == 0 && i / 2 < sizeof edge / sizeof *edge) x[i] = edge[i / 2];
    }
    return x;
}

static const int64_t lengths[] = {1, 255, 256, 257, 1023, 1024, 1025, 3333};

static void gates_as_the_cpu_does(void **) {
    for (int64_t n : lengths) {
        const std::vector<float> g = with_edges(1, (size_t)n), up = drawn(2, (size_t)n);
        std::vector<float> want = g;
        cpu->ops->gate(cpu, want.data(), up.data(), n);
        for (int64_t i = 0; i < n; i++) {
            const double exact = g[i] / (1 + std::exp(-(double)g[i])) * up[i];
            if (std::fabs(g[i]) < 80)
                assert_true(std::fabs(want[i] - exact) <= 4e-7 * std::fabs(exact) + 0x1p-148);
        }
        assert_true(right_always(
            [&] {
                std::vector<float> gate = g;
                gate.resize((size_t)n + 5, dev_float(GUARD));
                return radar_cuda_gate(gate.data(), up.data(), n, NULL) == 0 &&
                       same(gate.data(), want.data(), (size_t)n) && guarded(&gate[(size_t)n], 5);
            },
            SCHEDULES));
    }
}

static void adds(void **) {
    for (int64_t n : lengths) {
        const std::vector<float> a = with_edges(3, (size_t)n), b = drawn(4, (size_t)n);
        std::vector<float> want = a;
        for (size_t i = 0; i < want.size(); i++) want[i] = a[i] + b[i];
        assert_true(right_always(
            [&] {
                std::vector<float> x = a;
                x.resize((size_t)n + 5, dev_float(GUARD));
                return radar_cuda_add(x.data(), b.data(), n, NULL) == 0 &&
                       same(x.data(), want.data(), (size_t)n) && guarded(&x[(size_t)n], 5);
            },
            SCHEDULES));
    }
}

/* ---- angles ---- */

static void angles_are_right_at_every_position(void **) {
    const int rotary = 130, half = rotary / 2;
    const int64_t position[] = {
        0, 1, 2, 3, 710, 1 << 20, 123456789, (1LL << 32) + 1, (1LL << 34) - 1, 1LL << 34};
    const int M = sizeof position / sizeof *position;
    for (double magnitude : {1.0, 1.34}) {
        for (double theta : {1e4, 5e5, 1e7, 1.7}) {
            std::vector<double> frequency((size_t)half);
            for (int i = 0; i < half; i++)
                frequency[(size_t)i] = std::pow(theta, -2.0 * i / rotary);
            std::vector<float> got = guards((size_t)(M * rotary) + 4);
            assert_int_equal(radar_cuda_angles(got.data(), frequency.data(), rotary, magnitude,
                                               position, M, NULL),
                             0);
            for (int m = 0; m < M; m++) {
                for (int i = 0; i < half; i++) {
                    const long double radians = (long double)position[m] * frequency[(size_t)i];
                    const float *row = &got[(size_t)(m * rotary)];
                    assert_true(fabsl(row[i] - magnitude * cosl(radians)) <= 1e-7L);
                    assert_true(fabsl(row[half + i] - magnitude * sinl(radians)) <= 1e-7L);
                }
            }
            assert_true(guarded(&got[(size_t)(M * rotary)], 4));
        }
    }
}

/* ---- heads ---- */

struct shape {
    int M, H, G, D, rotary;
    radar_rope_style style;
    bool q_norm, k_norm, packed; /* packed: q, k and v of a row side by side */
};

struct heads_of {
    std::vector<float> row, q_norm, k_norm, cos_sin;
    std::vector<int32_t> slot;
    std::vector<uint8_t> k, v;
    std::vector<float> k_scale, v_scale;
};

static const int SEGMENTS = 4;
static const float EPS = 1e-6f;

static size_t tile_bytes(radar_cuda_kv type, int D) {
    const size_t bytes[] = {2, 2, 1, 4};
    return bytes[type] * 16 * (size_t)D;
}

static heads_of make_heads(const shape &s, radar_cuda_kv type) {
    heads_of h;
    h.row = drawn(11, (size_t)(s.M * (s.H + 2 * s.G) * s.D));
    h.q_norm = drawn(12, (size_t)s.D);
    h.k_norm = drawn(13, (size_t)s.D);
    for (int m = 0; m < s.M; m++)
        for (int i = 0; i < s.rotary; i++) {
            const double angle = (m + 3) * std::pow(100.0, -2.0 * (i % (s.rotary / 2)) / s.rotary);
            h.cos_sin.push_back((float)(i < s.rotary / 2 ? std::cos(angle) : std::sin(angle)));
        }
    for (int m = 0; m < s.M; m++)
        h.slot.push_back(m % 4 == 2 ? -1 : (m * 23 + 15) % (SEGMENTS * 16));
    h.k.assign((size_t)(s.G * SEGMENTS) * tile_bytes(type, s.D), 0xa5);
    h.v.assign(h.k.size(), 0x5a);
    h.k_scale = h.v_scale = guards((size_t)(s.G * SEGMENTS * 16));
    return h;
}

static radar_cuda_heads as_argument(heads_of &h, const shape &s, radar_cuda_kv type) {
    const size_t q = (size_t)(s.H * s.D), kv = (size_t)(s.G * s.D), M = (size_t)s.M;
    radar_cuda_heads a = {};
    a.M = s.M, a.H = s.H, a.G = s.G, a.D = s.D;
    a.q = h.row.data();
    a.k = h.row.data() + (s.packed ? q : M * q);
    a.v = a.k + (s.packed ? kv : M * kv);
    a.q_stride = s.packed ? q + 2 * kv : q;
    a.kv_stride = s.packed ? q + 2 * kv : kv;
    a.q_norm = s.q_norm ? h.q_norm.data() : NULL;
    a.k_norm = s.k_norm ? h.k_norm.data() : NULL;
    a.eps = EPS;
    a.cos_sin = h.cos_sin.data();
    a.rotary = s.rotary;
    a.style = s.style;
    a.slot = h.slot.data();
    a.cache = {type, SEGMENTS, h.k.data(), h.v.data(), NULL, NULL};
    if (type == RADAR_CUDA_KV_FP8)
        a.cache.k_scale = h.k_scale.data(), a.cache.v_scale = h.v_scale.data();
    return a;
}

/* What the operations of the CPU make of it. */
static void on_cpu(heads_of &h, const shape &s, radar_cuda_kv type) {
    const radar_cuda_heads a = as_argument(h, s, type);
    const radar_dtype of[] = {RADAR_F16, RADAR_BF16, RADAR_FP8, RADAR_F32};
    const size_t head_bytes = SEGMENTS * tile_bytes(type, s.D);
    for (int m = 0; m < s.M; m++) {
        float *const q = a.q + (size_t)m * a.q_stride, *const k = a.k + (size_t)m * a.kv_stride;
        const float *const angles = a.cos_sin + m * s.rotary, *v = a.v + (size_t)m * a.kv_stride;
        const radar_rotate_job job = {q,        k,        1,   s.H,    s.G,     s.D,
                                      a.q_norm, a.k_norm, EPS, angles, s.style, s.rotary};
        cpu->ops->rotate(cpu, &job);
        if (type == RADAR_CUDA_KV_FP8 || a.slot[m] < 0) continue;
        std::vector<radar_kv_view> kv((size_t)s.G);
        for (size_t g = 0; g < kv.size(); g++) {
            kv[g].type = of[type], kv[g].D = s.D, kv[g].segments = SEGMENTS;
            kv[g].k = (char *)a.cache.k + g * head_bytes;
            kv[g].v = (char *)a.cache.v + g * head_bytes;
        }
        cpu->ops->append(cpu, kv.data(), s.G, &a.slot[m], k, v, a.kv_stride, 1);
    }
}

static std::vector<shape> shapes() {
    std::vector<shape> all;
    for (int D : {16, 64, 80, 96, 112, 128, 208, 256})
        for (int rotary : {D, D / 2, D / 16 * 6, 2, 0})
            for (radar_rope_style style : {RADAR_ROPE_HALF, RADAR_ROPE_ADJACENT}) {
                const bool a = all.size() % 2, b = all.size() % 3, c = all.size() % 5 > 1;
                all.push_back({3 + (int)(all.size() % 3), 3, 2, D, rotary, style, a, b, c});
            }
    all.push_back({1, 1, 1, 64, 64, RADAR_ROPE_HALF, true, true, true});
    all.push_back({2, 0, 3, 64, 64, RADAR_ROPE_HALF, true, true, true});
    all.push_back({2, 3, 0, 64, 64, RADAR_ROPE_HALF, true, true, true});
    return all;
}

static bool equal(const heads_of &a, const heads_of &b) {
    return same(a.row.data(), b.row.data(), a.row.size()) && a.k == b.k && a.v == b.v;
}

static void heads_become_what_the_cpu_makes_of_them(void **) {
    for (const shape &s : shapes()) {
        for (radar_cuda_kv type : {RADAR_CUDA_KV_F32, RADAR_CUDA_KV_F16, RADAR_CUDA_KV_BF16}) {
            heads_of want = make_heads(s, type);
            on_cpu(want, s, type);
            assert_true(right_always(
                [&] {
                    heads_of got = make_heads(s, type);
                    const radar_cuda_heads a = as_argument(got, s, type);
                    return radar_cuda_rotate_append(&a, NULL) == 0 && equal(got, want);
                },
                type == RADAR_CUDA_KV_F16 ? SCHEDULES : 1));
        }
    }
}

/* One head, from the formulas. */
static void head_in_double(double *out, const float *x, const float *weight, const float *cos_sin,
                           const shape &s) {
    std::vector<double> y((size_t)s.D);
    const int pairs = s.rotary / 2;
    norm_in_double(y.data(), x, weight, EPS, s.D);
    for (int d = 0; d < s.D; d++) out[d] = y[(size_t)d];
    for (int i = 0; i < pairs; i++) {
        const bool half = s.style == RADAR_ROPE_HALF;
        const size_t a = (size_t)(half ? i : 2 * i), b = (size_t)(half ? i + pairs : 2 * i + 1);
        const double c = cos_sin[i], t = cos_sin[pairs + i];
        out[a] = y[a] * c - y[b] * t;
        out[b] = y[b] * c + y[a] * t;
    }
}

static void heads_follow_the_formulas(void **) {
    for (radar_rope_style style : {RADAR_ROPE_HALF, RADAR_ROPE_ADJACENT}) {
        const shape s = {4, 3, 2, 96, 72, style, true, true, false};
        heads_of before = make_heads(s, RADAR_CUDA_KV_F32), h = before;
        const radar_cuda_heads a = as_argument(h, s, RADAR_CUDA_KV_F32);
        assert_int_equal(radar_cuda_rotate_append(&a, NULL), 0);
        const float *const values = before.row.data() + s.M * (s.H + s.G) * s.D;
        for (int i = 0; i < s.M * (s.H + s.G); i++) {
            const bool key = i >= s.M * s.H;
            const int m = key ? (i - s.M * s.H) / s.G : i / s.H, g = (i - s.M * s.H) % s.G;
            double want[96];
            head_in_double(want, &before.row[(size_t)(i * s.D)], key ? a.k_norm : a.q_norm,
                           a.cos_sin + m * s.rotary, s);
            assert_true(relative_error(&h.row[(size_t)(i * s.D)], want, (size_t)s.D) < 3e-7);
            if (!key || a.slot[m] < 0) continue;
            const float *k = (const float *)(h.k.data() + (size_t)(g * SEGMENTS) *
                                                              tile_bytes(RADAR_CUDA_KV_F32, s.D)),
                        *v = (const float *)(h.v.data() + (size_t)(g * SEGMENTS) *
                                                              tile_bytes(RADAR_CUDA_KV_F32, s.D));
            const int tile = a.slot[m] / 16 * 16 * s.D, t = a.slot[m] % 16;
            for (int d = 0; d < s.D; d++) {
                assert_true(k[tile + d * 16 + t] == h.row[(size_t)(i * s.D + d)]);
                assert_true(v[tile + t * s.D + d] == values[(m * s.G + g) * s.D + d]);
            }
        }
    }
}

/* ---- fp8 ---- */

static void e4m3_is_what_the_instruction_gives(void **) {
    for (uint32_t u = 0; u < 0xfff00000u; u += 0x3fff) { /* 64 numbers between neighbours */
        const float f = dev_float(u);
        if (to_e4m3(f) != dev_f32_to_e4m3(f) && f == f) fail_msg("%a", (double)f);
    }
    for (int b = 0; b < 0x7e; b++) { /* halfway, and its neighbours */
        const float low = dev_e4m3_to_f32((uint8_t)b), high = dev_e4m3_to_f32((uint8_t)(b + 1));
        const float half = (low + high) / 2;
        assert_int_equal(to_e4m3(low), b);
        assert_int_equal(to_e4m3(half), b + b % 2);
        assert_int_equal(to_e4m3(std::nextafterf(half, 0)), b);
        assert_int_equal(to_e4m3(std::nextafterf(half, 1e9f)), b + 1);
        assert_int_equal(to_e4m3(-half), (b + b % 2) | 0x80);
    }
    assert_int_equal(to_e4m3(INFINITY), 0x7e);
    assert_int_equal(to_e4m3(-1e9f), 0xfe);
    assert_int_equal(to_e4m3(NAN), 0x7f);
}

/* Whether one token is stored as the header says. */
static bool stored(const float *x, const uint8_t *tile, int at, int step, float scale, int D) {
    double max = 0;
    for (int d = 0; d < D; d++) max = std::fmax(max, std::fabs((double)x[d]));
    max = std::fmin(max, (double)FLT_MAX);
    if (!(std::fabs(scale * 448.0 - max) <= max * 0x1p-23)) return false;
    for (int d = 0; d < D; d++) {
        const uint8_t byte = tile[at + d * step];
        const double size = std::fmin(std::fabs((double)x[d]), max);
        const double y = std::fabs((double)scale * dev_e4m3_to_f32(byte));
        const double allowed = std::fmax(size / 16, scale * 0x1p-10) * (1 + 1e-6);
        if (x[d] != x[d] && byte != 0x7f) return false;
        if (x[d] != x[d]) continue;
        if (!(std::fabs(y - size) <= allowed) || std::signbit(x[d]) != byte >> 7) return false;
    }
    return true;
}

static void make_odd_values(const radar_cuda_heads &a) {
    float *v = const_cast<float *>(a.v);
    for (int d = 0; d < a.D; d++) {
        v[d] = d % 2 ? 0.0f : -0.0f;
        v[a.D + d] *= 1e-9f;
        v[a.kv_stride + (size_t)d] *= 1e10f;
    }
    v[a.kv_stride + (size_t)a.D + 3] = NAN;
    v[3 * a.kv_stride + 5] = -INFINITY;
}

static void fp8_keeps_a_scale_for_each_token(void **) {
    const radar_cuda_kv type = RADAR_CUDA_KV_FP8;
    for (int D : {16, 64, 80, 112, 128, 256}) {
        const shape s = {6, 2, 2, D, D, RADAR_ROPE_HALF, true, true, D == 80};
        assert_true(right_always(
            [&] {
                heads_of got = make_heads(s, type), want = got;
                const radar_cuda_heads a = as_argument(got, s, type);
                make_odd_values(a);
                make_odd_values(as_argument(want, s, type));
                on_cpu(want, s, type);
                if (radar_cuda_rotate_append(&a, NULL) ||
                    !same(got.row.data(), want.row.data(), got.row.size()))
                    return false;
                for (int i = 0; i < s.M * s.G; i++) {
                    const int m = i / s.G, g = i % s.G, t = a.slot[m] % 16;
                    if (a.slot[m] < 0) continue;
                    const size_t row = (size_t)m * a.kv_stride + (size_t)(g * D);
                    const size_t segment = (size_t)(g * SEGMENTS + a.slot[m] / 16),
                                 token = segment * 16 + (size_t)t;
                    const uint8_t *k = &got.k[segment * 16 * (size_t)D],
                                  *v = &got.v[segment * 16 * (size_t)D];
                    if (!stored(a.k + row, k, t, 16, got.k_scale[token], D)) return false;
                    if (!stored(a.v + row, v, t * D, 1, got.v_scale[token], D)) return false;
                }
                return true;
            },
            SCHEDULES));
    }
}

static void fp8_leaves_other_tokens_alone(void **) {
    const radar_cuda_kv type = RADAR_CUDA_KV_FP8;
    const shape s = {1, 0, 2, 64, 0, RADAR_ROPE_HALF, false, false, false};
    heads_of h = make_heads(s, type);
    const radar_cuda_heads a = as_argument(h, s, type);
    h.slot[0] = 37; /* segment 2, token 5 */
    assert_int_equal(radar_cuda_rotate_append(&a, NULL), 0);
    for (size_t i = 0; i < h.k.size(); i++) {
        const bool here = i / 1024 % SEGMENTS == 2;
        if (!here || i % 16 != 5) assert_int_equal(h.k[i], 0xa5);
        if (!here || i % 1024 / 64 != 5) assert_int_equal(h.v[i], 0x5a);
    }
    for (size_t i = 0; i < h.k_scale.size(); i++) {
        assert_true(guarded(&h.k_scale[i], 1) == (i % (SEGMENTS * 16) != 37));
        assert_true(guarded(&h.v_scale[i], 1) == (i % (SEGMENTS * 16) != 37));
    }
}

/* ---- all of rotate_append ---- */

static void every_barrier_of_heads_is_needed(void **) {
    const shape s = {2, 2, 2, 80, 80, RADAR_ROPE_HALF, true, true, false};
    heads_of want = make_heads(s, RADAR_CUDA_KV_F16);
    on_cpu(want, s, RADAR_CUDA_KV_F16);
    auto run = [&] {
        heads_of got = make_heads(s, RADAR_CUDA_KV_F16);
        const radar_cuda_heads a = as_argument(got, s, RADAR_CUDA_KV_F16);
        radar_cuda_rotate_append(&a, NULL);
        return equal(got, want);
    };
    assert_true(idle_barriers(run, 20).empty());
    run();
    assert_int_equal(simt::sites, 1);
}

static void without_a_cache_heads_are_rotated_alone(void **) {
    const shape s = {3, 2, 2, 64, 32, RADAR_ROPE_ADJACENT, false, true, false};
    heads_of got = make_heads(s, RADAR_CUDA_KV_F32), want = got;
    radar_cuda_heads a = as_argument(got, s, RADAR_CUDA_KV_F32);
    on_cpu(want, s, RADAR_CUDA_KV_F32);
    a.cache.k = a.cache.v = NULL;
    a.slot = NULL;
    a.v = NULL;
    assert_int_equal(radar_cuda_rotate_append(&a, NULL), 0);
    assert_true(same(got.row.data(), want.row.data(), got.row.size()));
}

static void nothing_to_do_is_no_error_and_nonsense_is(void **) {
    float x[16] = {};
    const double f[1] = {1};
    radar_cuda_heads a = {};
    a.D = 64;
    assert_int_equal(radar_cuda_norm(x, x, NULL, x, 0, 0, 16, NULL), 0);
    assert_int_equal(radar_cuda_add(x, x, 0, NULL), 0);
    assert_int_equal(radar_cuda_gate(x, x, 0, NULL), 0);
    assert_int_equal(radar_cuda_angles(x, f, 2, 1, NULL, 0, NULL), 0);
    assert_int_equal(radar_cuda_rotate_append(&a, NULL), 0);
    assert_int_equal(radar_cuda_norm(x, x, NULL, x, 0, 1, RADAR_CUDA_NORM_WIDTH + 1, NULL),
                     cudaErrorInvalidValue);
    assert_int_equal(radar_cuda_norm(x, x, x + 8, x, 0, 1, 8, NULL), cudaErrorInvalidValue);
    assert_int_equal(radar_cuda_angles(x, f, 3, 1, NULL, 1, NULL), cudaErrorInvalidValue);
    for (int D : {0, 8, 72, 272}) {
        a.M = a.H = 1;
        a.D = D;
        assert_int_equal(radar_cuda_rotate_append(&a, NULL), cudaErrorInvalidValue);
    }
    a.D = 64;
    a.rotary = 66;
    assert_int_equal(radar_cuda_rotate_append(&a, NULL), cudaErrorInvalidValue);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_normed),
        cmocka_unit_test(a_row_is_normed_as_if_alone),
        cmocka_unit_test(every_barrier_of_norm_is_needed),
        cmocka_unit_test(gates_as_the_cpu_does),
        cmocka_unit_test(adds),
        cmocka_unit_test(angles_are_right_at_every_position),
        cmocka_unit_test(heads_become_what_the_cpu_makes_of_them),
        cmocka_unit_test(heads_follow_the_formulas),
        cmocka_unit_test(e4m3_is_what_the_instruction_gives),
        cmocka_unit_test(fp8_keeps_a_scale_for_each_token),
        cmocka_unit_test(fp8_leaves_other_tokens_alone),
        cmocka_unit_test(every_barrier_of_heads_is_needed),
        cmocka_unit_test(without_a_cache_heads_are_rotated_alone),
        cmocka_unit_test(nothing_to_do_is_no_error_and_nonsense_is),
    };
    return cmocka_run_group_tests(tests, open_cpu, close_cpu);
}
