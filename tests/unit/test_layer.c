/* Embedding, norm, rotary embedding, gate, add and the exponential: references in double, one answer for all instruction sets. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vmath.h"

#define N 40000 /* beyond the sizes from which on threads share the work */

static float x[N], y[N], out[N], want[N];

static bool have_avx512(void) {
    bool ok;
    return radar_cpu_isa("avx512", &ok).avx512;
}

/* Kinds: plain C without FMA instructions, plain C, AVX-512; 1 or 2 threads. */
static bool open_kind(radar_cpu *cpu, int kind, int threads) {
    bool ok;
    *cpu = (radar_cpu){.opt = {.n_threads = threads},
                       .isa = radar_cpu_isa(kind < 2 ? "plain" : "avx512", &ok)};
    if (kind == 0) cpu->isa.fma = false;
    return ok;
}

static float uniform(uint64_t i) {
    return (float)(2.0 * radar_random_uniform(3, RADAR_STREAM_SAMPLER, i) - 1.0);
}

static void fill(float *v, int n, float scale, uint64_t seed) {
    for (int i = 0; i < n; i++) v[i] = scale * uniform(seed + (uint64_t)i);
}

static void assert_close(float got, double right, double tolerance) {
    if (!(fabs(got - right) <= tolerance))
        fail_msg("%.9g is not %.9g +- %.3g", (double)got, right, tolerance);
}

/* Runs fn on every kind and thread count; the first one's `out` must come out of all of them, bit for bit. */
static void same_on_all(void (*fn)(radar_backend *be), size_t n) {
    for (int kind = 0; kind < 3; kind++)
        for (int threads = 1; threads <= 2; threads++) {
            radar_cpu cpu;
            if (!open_kind(&cpu, kind, threads)) continue;
            fn(&cpu.base);
            if (kind == 0 && threads == 1) memcpy(want, out, n * sizeof *out);
            assert_memory_equal(out, want, n * sizeof *out);
        }
}

/* ---- isa ---- */

static void unknown_instruction_sets_are_refused(void **state) {
    (void)state;
    bool ok;
    radar_cpu_isa("sse9", &ok);
    assert_false(ok);
    radar_isa plain = radar_cpu_isa("plain", &ok);
    assert_true(ok && !plain.avx512 && !plain.bf16);
    radar_isa best = radar_cpu_isa(NULL, &ok);
    assert_true(ok && (best.avx512 || !best.bf16));
    radar_cpu_isa("avx512", &ok);
    assert_int_equal(ok, best.avx512);
    radar_isa avx2 = radar_cpu_isa("avx2", &ok);
    assert_true(ok == avx2.avx2 && avx2.avx2 == best.avx2 && !avx2.avx512 && !avx2.bf16);
    assert_true(!plain.avx2 && plain.fma == best.fma && (best.avx2 || !best.avx512));
}

/* ---- exp ---- */

RADAR_AVX512 static void exp16(float *to, const float *from) {
    _mm512_storeu_ps(to, radar_expf16(_mm512_loadu_ps(from)));
}

static void exp_is_within_two_units_and_ends_in_zero_and_infinity(void **state) {
    (void)state;
    double worst = 0;
    for (float v = -87.3f; v < 88.7f; v += 0.00317f) {
        double right = exp((double)v), error = fabs(radar_expf1(v) - right) / right;
        if (!(error <= worst)) worst = error;
    }
    assert_true(worst <= 0x1p-23);
    assert_true(radar_expf1(0.0f) == 1.0f);
    assert_true(radar_expf1(-INFINITY) == 0.0f && radar_expf1(-104.0f) == 0.0f &&
                radar_expf1(-3e38f) == 0.0f);
    assert_true(radar_expf1(-103.0f) == 0x1p-149f);
    assert_close(radar_expf1(-90.0f), exp(-90.0), 0x1.01p-150);
    assert_true(isinf(radar_expf1(88.73f)) && isinf(radar_expf1(INFINITY)) &&
                isfinite(radar_expf1(88.72f)));
    assert_true(isnan(radar_expf1(NAN)));
}

static void exp_of_16_lanes_is_exp_of_one(void **state) {
    (void)state;
    if (!have_avx512()) skip();
    float in[16], lanes[16];
    for (uint64_t u = 0; u < 1ull << 32; u += 16 * 1021) { /* patterns of bits from everywhere */
        for (uint32_t i = 0; i < 16; i++) memcpy(in + i, &(uint32_t){(uint32_t)u + 1021 * i}, 4);
        exp16(lanes, in);
        for (int i = 0; i < 16; i++) {
            float one = radar_expf1(in[i]);
            if (isnan(in[i]))
                assert_true(isnan(one) && isnan(lanes[i]));
            else
                assert_memory_equal(&one, lanes + i, sizeof one);
        }
    }
}

/* ---- norm ---- */

static int width;
static void run_norm(radar_backend *be) { radar_cpu_norm(be, out, x, y, 1e-5f, N / width, width); }

static void norm_meets_the_formula_at_any_width(void **state) {
    (void)state;
    static const int widths[] = {1, 15, 16, 17, 576};
    fill(x, N, 30.0f, 0);
    fill(y, N, 2.0f, N);
    for (size_t k = 0; k < 5; k++) {
        width = widths[k];
        int rows = N / width;
        same_on_all(run_norm, (size_t)(rows * width));
        for (int i = 0; i < rows; i++) {
            double squares = 0;
            for (int j = 0; j < width; j++) squares += (double)x[i * width + j] * x[i * width + j];
            double scale = 1 / sqrt(squares / width + (double)1e-5f);
            for (int j = 0; j < width; j++) {
                double right = y[j] * (x[i * width + j] * scale);
                assert_close(out[i * width + j], right, fabs(right) * (8 + width / 16.0) * 0x1p-24);
            }
        }
    }
}

static void norm_of_zeros_is_zero_and_in_place_is_the_same(void **state) {
    (void)state;
    radar_cpu cpu;
    fill(x, 3 * 33, 1.0f, 5);
    memset(x + 33, 0, 33 * sizeof *x);
    fill(y, 33, 1.0f, 6);
    for (int kind = 0; kind < 3; kind++) {
        if (!open_kind(&cpu, kind, 1)) continue;
        radar_cpu_norm(&cpu.base, out, x, y, 1e-5f, 3, 33);
        for (int j = 33; j < 66; j++) assert_true(out[j] == 0.0f);
        memcpy(want, x, 3 * 33 * sizeof *x);
        radar_cpu_norm(&cpu.base, want, want, y, 1e-5f, 3, 33);
        assert_memory_equal(want, out, 3 * 33 * sizeof *out);
    }
}

/* ---- rope ---- */

static radar_rope_style style;
#define HEADS 3
#define D 20
#define ROTARY 12
#define ROPE_ROWS (N / (HEADS * D))

static void run_rope(radar_backend *be) {
    memcpy(out, x, sizeof out);
    radar_cpu_rope(be, out, y, style, ROPE_ROWS, HEADS, D, ROTARY);
}

static void check_head(const float *got, const float *from, const float *cos_sin) {
    for (int i = 0; i < ROTARY / 2; i++) {
        int a = style == RADAR_ROPE_HALF ? i : 2 * i,
            b = style == RADAR_ROPE_HALF ? i + ROTARY / 2 : 2 * i + 1;
        double c = cos_sin[i], s = cos_sin[ROTARY / 2 + i];
        assert_close(got[a], from[a] * c - from[b] * s, 0x1p-23 * (fabs(from[a]) + fabs(from[b])));
        assert_close(got[b], from[b] * c + from[a] * s, 0x1p-23 * (fabs(from[a]) + fabs(from[b])));
    }
    assert_memory_equal(got + ROTARY, from + ROTARY, (D - ROTARY) * sizeof *got);
}

static void rope_rotates_pairs_of_both_styles_and_leaves_the_rest(void **state) {
    (void)state;
    fill(x, N, 4.0f, 11);
    for (int m = 0; m < ROPE_ROWS; m++)
        for (int i = 0; i < ROTARY / 2; i++) {
            double angle = m * pow(10000.0, -2.0 * i / ROTARY);
            y[m * ROTARY + i] = (float)cos(angle),
                           y[m * ROTARY + ROTARY / 2 + i] = (float)sin(angle);
        }
    for (int k = 0; k < 2; k++) {
        style = k ? RADAR_ROPE_ADJACENT : RADAR_ROPE_HALF;
        same_on_all(run_rope, N);
        assert_memory_equal(out, x, HEADS * D * sizeof *x); /* position 0 */
        for (int h = 0; h < ROPE_ROWS * HEADS; h++)
            check_head(out + h * D, x + h * D, y + h / HEADS * ROTARY);
    }
}

/* ---- gate, add ---- */

static int count;
static void run_gate(radar_backend *be) {
    memcpy(out, x, sizeof out);
    radar_cpu_gate(be, out, y, count);
}

static void gate_meets_the_formula_at_any_length(void **state) {
    (void)state;
    static const int counts[] = {1, 17, N};
    fill(x, N, 30.0f, 21);
    fill(y, N, 3.0f, 22);
    x[0] = 0.0f, x[3] = -200.0f, x[4] = 200.0f, x[5] = -88.0f;
    for (size_t k = 0; k < 3; k++) {
        count = counts[k];
        same_on_all(run_gate, N);
        for (int i = 0; i < count; i++) {
            double right = x[i] / (1 + exp(-(double)x[i])) * y[i];
            assert_close(out[i], right, fabs(right) * 0x1.8p-22 + 0x1p-120);
        }
        assert_memory_equal(out + count, x + count, (size_t)(N - count) * sizeof *x);
    }
}

static void run_add(radar_backend *be) {
    memcpy(out, x, sizeof out);
    radar_cpu_add(be, out, y, N - 1);
}

static void add_adds_and_stops_at_its_length(void **state) {
    (void)state;
    fill(x, N, 1.0f, 31);
    fill(y, N, 1.0f, 32);
    same_on_all(run_add, N);
    for (int i = 0; i < N - 1; i++) assert_true(out[i] == x[i] + y[i]);
    assert_true(out[N - 1] == x[N - 1]);
}

/* ---- embed ---- */

static radar_matrix table;
static const int32_t token[] = {2, 0, 7, 2};
static void run_embed(radar_backend *be) { radar_cpu_embed(be, out, &table, token, 4); }

static void embed_gives_the_exact_rows_of_every_type(void **state) {
    (void)state;
    static uint8_t stored[8 * 256 * 4 + 1];
    for (int type = 0; type < RADAR_DTYPE_COUNT; type++) {
        int block = radar_dtype_block((radar_dtype)type), cols = block > 96 ? block : 96;
        size_t row = (size_t)(cols / block) * radar_dtype_block_bytes((radar_dtype)type);
        for (size_t i = 0; i < sizeof stored; i++)
            stored[i] = (uint8_t)(i * 89 % 97); /* exponents stay finite */
        table = (radar_matrix){(radar_dtype)type, 8, cols, stored + 1, row, NULL};
        same_on_all(run_embed, 4 * cols);
        for (int i = 0; i < 4; i++) {
            float right[256];
            radar_dequantize(right, table.type, stored + 1 + (size_t)token[i] * row, 0, cols);
            assert_memory_equal(out + cols * i, right, (size_t)cols * sizeof *right);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_instruction_sets_are_refused),
        cmocka_unit_test(exp_is_within_two_units_and_ends_in_zero_and_infinity),
        cmocka_unit_test(exp_of_16_lanes_is_exp_of_one),
        cmocka_unit_test(norm_meets_the_formula_at_any_width),
        cmocka_unit_test(norm_of_zeros_is_zero_and_in_place_is_the_same),
        cmocka_unit_test(rope_rotates_pairs_of_both_styles_and_leaves_the_rest),
        cmocka_unit_test(gate_meets_the_formula_at_any_length),
        cmocka_unit_test(add_adds_and_stops_at_its_length),
        cmocka_unit_test(embed_gives_the_exact_rows_of_every_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
