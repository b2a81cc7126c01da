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
static void run_norm(radar_backend *be) {
    radar_cpu_norm(be, out, x, NULL, y, 1e-5f, N / width, width);
}

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
        radar_cpu_norm(&cpu.base, out, x, NULL, y, 1e-5f, 3, 33);
        for (int j = 33; j < 66; j++) assert_true(out[j] == 0.0f);
        memcpy(want, x, 3 * 33 * sizeof *x);
        radar_cpu_norm(&cpu.base, want, want, NULL, y, 1e-5f, 3, 33);
        assert_memory_equal(want, out, 3 * 33 * sizeof *out);
    }
}

/* ---- rope ---- */

static radar_rope_style style;
enum { HEADS = 3, D = 20, ROTARY = 12, ROPE_ROWS = N / (HEADS * D) };

static void run_rope(radar_backend *be) {
    memcpy(out, x, sizeof out);
    radar_cpu_rotate(be, &(radar_rotate_job){.q = out,
                                             .M = ROPE_ROWS,
                                             .H = HEADS,
                                             .D = D,
                                             .cos_sin = y,
                                             .style = style,
                                             .rotary = ROTARY});
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

/* Heads of q and of k, each with its own number and weights: what norm and rotation of each alone give. */
static void rotation_takes_normed_heads_of_q_and_k(void **state) {
    (void)state;
    enum { M = 5, H = 4, G = 2, Q = M * H * D, K = M * G * D };
    float weight[2][D], *k = x + Q, *want_k = want + Q;
    radar_cpu cpu;
    fill(weight[0], D, 1, 21), fill(weight[1], D, 1, 22);
    fill(y, M * ROTARY, 1, 23);
    for (int norms = 0; norms < 4; norms++) {
        for (int kind = 0; kind < 3; kind++) {
            if (!open_kind(&cpu, kind, 1)) continue;
            radar_rotate_job job = {
                .M = M, .D = D, .eps = 1e-5f, .cos_sin = y, .style = style, .rotary = ROTARY};
            fill(x, Q + K, 4, 24);
            memcpy(want, x, (Q + K) * sizeof *want);
            if (norms & 1)
                radar_cpu_norm(&cpu.base, want, want, NULL, weight[0], job.eps, M * H, D);
            if (norms & 2)
                radar_cpu_norm(&cpu.base, want_k, want_k, NULL, weight[1], job.eps, M * G, D);
            job.q = want, job.H = H;
            radar_cpu_rotate(&cpu.base, &job);
            job.q = want_k, job.H = G;
            radar_cpu_rotate(&cpu.base, &job);
            job.q = x, job.H = H, job.k = k, job.G = G;
            job.q_norm = norms & 1 ? weight[0] : NULL;
            job.k_norm = norms & 2 ? weight[1] : NULL;
            radar_cpu_rotate(&cpu.base, &job);
            assert_memory_equal(x, want, (Q + K) * sizeof *want);
        }
    }
}

/* ---- gate, add, sum, odd, copy ---- */

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

/* 1 to 16 pieces: as add gives them pair by pair, in the tree. */
static void sum_adds_pieces_in_the_tree(void **state) {
    (void)state;
    enum { MOST = 16, EACH = N / MOST };
    static const int counts[] = {1, 17, EACH};
    fill(x, N, 1.0f, 41);
    for (int pieces = 1; pieces <= MOST; pieces *= 2) {
        for (size_t k = 0; k < 3; k++) {
            float *piece[MOST];
            for (int kind = 0; kind < 3; kind++) {
                radar_cpu cpu;
                if (!open_kind(&cpu, kind, 1 + kind % 2)) continue;
                memcpy(want, x, sizeof want);
                memcpy(out, x, sizeof out);
                for (int i = 0; i < pieces; i++) piece[i] = out + i * EACH;
                for (int half = 1; half < pieces; half *= 2)
                    for (int a = 0; a < pieces; a += 2 * half)
                        radar_cpu_add(&cpu.base, want + a * EACH, want + (a + half) * EACH,
                                      counts[k]);
                radar_cpu_sum(&cpu.base, piece, pieces, counts[k]);
                assert_memory_equal(out, want, EACH * sizeof *out);
            }
        }
    }
}

/* More numbers than one thread takes alone. */
static void sum_of_long_pieces_does_not_depend_on_threads(void **state) {
    (void)state;
    enum { PIECES = 4, LONG = 50000 };
    float *one = malloc(PIECES * LONG * sizeof *one), *two = malloc(PIECES * LONG * sizeof *two);
    float *a[PIECES], *b[PIECES];
    radar_cpu cpu;
    assert_true(one && two && open_kind(&cpu, 1, 1));
    fill(one, PIECES * LONG, 1.0f, 43);
    memcpy(two, one, PIECES * LONG * sizeof *two);
    for (int i = 0; i < PIECES; i++) a[i] = one + i * LONG, b[i] = two + i * LONG;
    for (int i = 0; i < LONG; i++) one[i] = (a[0][i] + a[1][i]) + (a[2][i] + a[3][i]);
    cpu.opt.n_threads = 3;
    radar_cpu_sum(&cpu.base, b, PIECES, LONG);
    assert_memory_equal(two, one, LONG * sizeof *two);
    free(one), free(two);
}

static void norm_adds_before(void **state) {
    (void)state;
    enum { ROWS = 3, WIDTH = 33 };
    radar_cpu cpu;
    for (int kind = 0; kind < 3; kind++) {
        if (!open_kind(&cpu, kind, 1)) continue;
        static float sum[ROWS * WIDTH], both[ROWS * WIDTH];
        fill(x, ROWS * WIDTH, 1.0f, 71);
        fill(y, ROWS * WIDTH, 1.0f, 72);
        for (int i = 0; i < ROWS * WIDTH; i++) sum[i] = x[i] + y[i];
        memcpy(both, sum, sizeof sum);
        radar_cpu_norm(&cpu.base, want, sum, NULL, y, 1e-5f, ROWS, WIDTH);
        radar_cpu_norm(&cpu.base, out, x, y, y, 1e-5f, ROWS, WIDTH);
        assert_memory_equal(out, want, sizeof both);
        assert_memory_equal(x, both, sizeof both);
    }
}

static void odd_is_the_first_row_that_is_not_finite(void **state) {
    (void)state;
    static const float bad[] = {INFINITY, -INFINITY, NAN, -NAN};
    enum { ROWS = 9, WIDTH = 37 };
    radar_cpu cpu;
    uint64_t found = 0;
    open_kind(&cpu, 1, 1);
    fill(x, ROWS * WIDTH, 1.0f, 51);
    x[3] = 3.4e38f, x[4] = 0, x[5] = 1e-45f;
    radar_cpu_odd(&cpu.base, &found, x, ROWS, WIDTH);
    assert_int_equal(found, 0);
    for (int i = ROWS * WIDTH - 1, k = 0; i >= 0; i -= 11) {
        x[i] = bad[k++ % 4];
        radar_cpu_odd(&cpu.base, &found, x, ROWS, WIDTH);
        assert_int_equal(ROWS - (int)found, i / WIDTH);
    }
    found = 0;
    radar_cpu_odd(&cpu.base, &found, x, 0, WIDTH);
    assert_int_equal(found, 0);
}

static void copies_move_rectangles_and_nothing_beside_them(void **state) {
    (void)state;
    radar_cpu cpu;
    open_kind(&cpu, 1, 1);
    fill(x, N, 1.0f, 61);
    fill(out, N, 1.0f, 62);
    memcpy(want, out, sizeof out);
    const radar_copy copy[] = {
        {.to = out + 1, .from = x + 7, .to_stride = 50, .from_stride = 19, .rows = 30, .width = 13},
        {.to = out + 14, .from = x, .to_stride = 50, .from_stride = 0, .rows = 30, .width = 20},
        {.to = out + 2000, .from = x + 900, .rows = 1, .width = 30000},
        {.to = out, .from = x, .to_stride = 1, .from_stride = 1, .rows = 0, .width = 5},
        {.to = out, .from = x, .to_stride = 1, .from_stride = 1, .rows = 5, .width = 0}};
    for (int c = 0; c < 5; c++)
        for (int64_t i = 0; i < copy[c].rows; i++)
            for (int64_t j = 0; j < copy[c].width; j++)
                want[copy[c].to - out + i * (int64_t)copy[c].to_stride + j] =
                    copy[c].from[i * (int64_t)copy[c].from_stride + j];
    radar_cpu_copy(&cpu.base, copy, 5);
    assert_memory_equal(out, want, sizeof out);
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
        cmocka_unit_test(rotation_takes_normed_heads_of_q_and_k),
        cmocka_unit_test(gate_meets_the_formula_at_any_length),
        cmocka_unit_test(add_adds_and_stops_at_its_length),
        cmocka_unit_test(sum_adds_pieces_in_the_tree),
        cmocka_unit_test(sum_of_long_pieces_does_not_depend_on_threads),
        cmocka_unit_test(norm_adds_before),
        cmocka_unit_test(odd_is_the_first_row_that_is_not_finite),
        cmocka_unit_test(copies_move_rectangles_and_nothing_beside_them),
        cmocka_unit_test(embed_gives_the_exact_rows_of_every_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
