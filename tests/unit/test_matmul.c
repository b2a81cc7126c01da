/* Matrix products against references in double, and the bits that must not change: with M, threads, jobs, instruction set. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "kernels/cpu/cpu.h"
#include "kernels/matmul.h"
#include "runtime/sys.h"

#define ROWS 37 /* two tiles and a short one */
#define MAX_M 100
#define MAX_COLS 640

/* ---- a backend without its other operations ---- */

static bool have_avx512(void) {
    bool ok;
    return radar_cpu_isa("avx512", &ok).avx512;
}

static radar_cpu open_cpu(radar_precision precision, const char *isa, int threads) {
    bool ok;
    radar_cpu cpu = {.opt = {threads, precision, isa, MAX_M, MAX_COLS},
                     .isa = radar_cpu_isa(isa, &ok)};
    assert_true(ok);
    cpu.scratch_bytes = radar_cpu_matmul_scratch(&cpu.opt);
    cpu.scratch = radar_alloc(cpu.scratch_bytes);
    assert_non_null(cpu.scratch);
    return cpu;
}

/* Every kind of backend there is on this machine: calls fn with each. */
static void with_each_cpu(radar_dtype type, void (*fn)(radar_cpu *cpu, radar_dtype type)) {
    static const char *const isa[] = {"plain", "avx512"};
    for (int precision = RADAR_PRECISION_FAST; precision <= RADAR_PRECISION_EXACT; precision++)
        for (int i = 0; i < (have_avx512() ? 2 : 1); i++) {
            radar_cpu cpu = open_cpu((radar_precision)precision, isa[i], 2);
            fn(&cpu, type);
            radar_free(cpu.scratch);
        }
}

static void with_everything(void (*fn)(radar_cpu *cpu, radar_dtype type)) {
    for (int type = 0; type < RADAR_DTYPE_COUNT; type++) with_each_cpu((radar_dtype)type, fn);
}

/* ---- memory between pages that must not be touched ---- */

typedef struct guarded {
    uint8_t *map, *data;
    size_t map_bytes;
} guarded;

/* bytes of memory that begin right behind a forbidden page (at_front) or end right before one. */
static guarded guarded_alloc(size_t bytes, bool at_front) {
    size_t page = 4096, inner = (bytes + page - 1) / page * page;
    guarded g = {.map_bytes = inner + 2 * page};
    g.map = mmap(NULL, g.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect(g.map + page, inner, PROT_READ | PROT_WRITE), 0);
    g.data = g.map + page + (at_front ? 0 : inner - bytes);
    return g;
}

static void guarded_free(guarded *g) { munmap(g->map, g->map_bytes); }

/* ---- matrices and inputs ---- */

static double uniform(uint64_t i) {
    return 2.0 * radar_random_uniform(1, RADAR_STREAM_SAMPLER, i) - 1.0;
}

static size_t row_bytes(radar_dtype type, int64_t cols) {
    return (size_t)(cols / radar_dtype_block(type)) * radar_dtype_block_bytes(type);
}

static void put_u16(uint8_t *p, uint16_t v) { memcpy(p, &v, sizeof v); }

/* Any stored bytes; scales of quantised blocks in (-0.1, 0.1), all nibbles and bytes. */
static void fill_row(uint8_t *p, radar_dtype type, int64_t cols, uint64_t seed) {
    for (int64_t c = 0; c < cols; c++) {
        float v = (float)uniform(seed + (uint64_t)c);
        if (type == RADAR_F32) memcpy(p + 4 * c, &v, sizeof v);
        if (type == RADAR_F16) put_u16(p + 2 * c, radar_f32_to_f16(v));
        if (type == RADAR_BF16) put_u16(p + 2 * c, radar_f32_to_bf16(v));
    }
    if (radar_dtype_block(type) == 1) return;
    size_t bytes = radar_dtype_block_bytes(type);
    for (int64_t b = 0; b < cols / 32; b++, p += bytes) {
        uint64_t at = seed + 1000u * (uint64_t)b;
        for (size_t i = 0; i < bytes; i++)
            p[i] = (uint8_t)radar_random(2, RADAR_STREAM_SAMPLER, at + i);
        put_u16(p, radar_f32_to_f16((float)(0.1 * uniform(at))));
        if (type == RADAR_Q4_1) put_u16(p + 2, radar_f32_to_f16((float)uniform(at + 1)));
    }
}

static double read_f16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return radar_f16_to_f32(h);
}

/* Element c of a stored row, by the formulas of dtype.h. */
static double element(const uint8_t *p, radar_dtype type, int64_t c) {
    float f;
    uint16_t h;
    const uint8_t *block = p + (size_t)(c / 32) * radar_dtype_block_bytes(type);
    int i = (int)(c % 32), head = type == RADAR_Q4_1 ? 4 : 2;
    int nibble = i < 16 ? block[head + i % 16] & 15 : block[head + i % 16] >> 4;
    switch (type) {
    case RADAR_F32:
        memcpy(&f, p + 4 * c, sizeof f);
        return f;
    case RADAR_F16:
        return read_f16(p + 2 * c);
    case RADAR_BF16:
        memcpy(&h, p + 2 * c, sizeof h);
        return radar_bf16_to_f32(h);
    case RADAR_Q8_0:
        return read_f16(block) * (int8_t)block[2 + i];
    case RADAR_Q4_0:
        return read_f16(block) * (nibble - 8);
    default:
        return read_f16(block) * nibble + read_f16(block + 2);
    }
}

typedef struct problem {
    radar_matrix w;
    guarded memory;
    float *x, *bias;
    guarded x_memory;
    int64_t x_cols;
} problem;

/* Rows [row_begin, row_begin + ROWS) of a larger matrix, whose other rows are not mapped; x ends before a forbidden page. */
static problem make_problem(radar_dtype type, int64_t cols, int64_t row_begin, bool at_front) {
    size_t row = row_bytes(type, cols), before = (size_t)row_begin * row;
    problem p = {.memory = guarded_alloc(ROWS * row, at_front), .x_cols = cols};
    for (int64_t r = 0; r < ROWS; r++)
        fill_row(p.memory.data + (size_t)r * row, type, cols, 100000u * (uint64_t)r);
    p.w = (radar_matrix){type, row_begin + ROWS + 5, cols,
                         (const void *)((uintptr_t)p.memory.data - before), row};
    p.x_memory = guarded_alloc(MAX_M * (size_t)cols * sizeof(float), false);
    p.x = (float *)p.x_memory.data;
    for (int64_t i = 0; i < MAX_M * cols; i++)
        p.x[i] = (float)(uniform(7000000u + (uint64_t)i) *
                         exp(4.0 * uniform(9000000u + (uint64_t)(i / 32))));
    p.bias = radar_alloc_array((size_t)p.w.rows, sizeof *p.bias);
    assert_non_null(p.bias);
    for (int64_t r = 0; r < p.w.rows; r++) p.bias[r] = (float)r * 0.25f;
    return p;
}

static void free_problem(problem *p) {
    guarded_free(&p->memory);
    guarded_free(&p->x_memory);
    radar_free(p->bias);
}

/* ---- the reference and what it may be missed by ---- */

static bool rounds_to_int8(const radar_cpu *cpu, radar_dtype type) {
    return cpu->opt.precision == RADAR_PRECISION_FAST && radar_dtype_block(type) == 32;
}

static bool rounds_to_bf16(const radar_cpu *cpu, radar_dtype type) {
    return cpu->opt.precision == RADAR_PRECISION_FAST && type == RADAR_BF16 && cpu->isa.bf16;
}

/* Half a step of x: max|x| / 254 of its block of 32 for int8, 2^-8 |x| for bf16. */
static double x_error(const radar_cpu *cpu, radar_dtype type, const float *x, int64_t c) {
    double max = 0;
    if (rounds_to_bf16(cpu, type)) return fabs(x[c]) * 0x1p-8;
    if (!rounds_to_int8(cpu, type)) return 0;
    for (int64_t i = c / 32 * 32; i < c / 32 * 32 + 32; i++) max = fmax(max, fabs(x[i]));
    return max / 254;
}

/* One output in double, and what it may be missed by: the rounding of x, and f32 roundings of terms as large as their sum. */
typedef struct answer {
    double value, x_rounding, f32_rounding;
} answer;

static answer reference(const radar_cpu *cpu, const radar_matmul_job *job, const float *x,
                        int64_t row) {
    const radar_matrix *w = job->w;
    const uint8_t *stored = (const uint8_t *)((uintptr_t)w->data + (size_t)row * w->row_bytes);
    double scale = 0, steps = (double)(job->col_end - job->col_begin) / 16 + 8;
    bool has_min = w->type == RADAR_Q4_1 && rounds_to_int8(cpu, w->type);
    answer a = {.value = job->bias ? job->bias[row] : 0};
    for (int64_t c = job->col_begin; c < job->col_end; c++) {
        int64_t at = job->x_begin + c - job->col_begin;
        double v = element(stored, w->type, c);
        double m =
            has_min ? fabs(read_f16(stored + c / 32 * 20 + 2)) : 0; /* d q and m are added apart */
        a.value += v * x[at];
        scale += (fabs(v) + 2 * m) * fabs(x[at]);
        a.x_rounding += fabs(v) * x_error(cpu, w->type, x, at);
    }
    a.f32_rounding = (1.01 * scale + fabs(job->bias ? job->bias[row] : 0)) * steps * 0x1p-24;
    return a;
}

/* Largest error over tolerance of all outputs of a job. */
static double worst_of(const radar_cpu *cpu, const radar_matmul_job *job, const float *x,
                       int64_t x_stride, int M) {
    double worst = 0;
    for (int m = 0; m < M; m++)
        for (int64_t r = job->row_begin; r < job->row_end; r++) {
            answer a = reference(cpu, job, x + m * x_stride, r);
            float got = job->out[(size_t)m * job->out_stride + (size_t)(r - job->row_begin)];
            double ratio = fabs(got - a.value) / (1.0001 * a.x_rounding + a.f32_rounding);
            if (!(ratio <= worst)) worst = ratio;
        }
    return worst;
}

static void assert_within(const radar_cpu *cpu, const radar_matmul_job *job, const float *x,
                          int64_t x_stride, int M) {
    double worst = worst_of(cpu, job, x, x_stride, M);
    if (worst <= 1.0) return;
    fail_msg("%s %s %s, columns %ld to %ld: worst error %.3g of the tolerance",
             radar_dtype_name(job->w->type),
             cpu->opt.precision == RADAR_PRECISION_FAST ? "fast" : "exact",
             cpu->isa.avx512 ? "avx512" : "plain", (long)job->col_begin, (long)job->col_end, worst);
}

static void run(radar_cpu *cpu, const problem *p, const radar_matmul_job *job, int n_jobs, int M) {
    radar_cpu_matmul(&cpu->base, job, n_jobs, p->x, (size_t)p->x_cols, M);
}

static void assert_same_bits(const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a))
            fail_msg("element %zu of %zu: %a is not %a", i, n, (double)a[i], (double)b[i]);
}

/* ---- tests ---- */

static float out[MAX_M * 4 * ROWS], want[MAX_M * 4 * ROWS];

static void check_reference(radar_cpu *cpu, radar_dtype type) {
    static const int64_t width[] = {32, 160, 576};
    for (size_t i = 0; i < 3; i++)
        for (int front = 0; front < 2; front++) {
            problem p = make_problem(type, width[i], 1000, front);
            radar_matmul_job job = {&p.w, 1000, 1000 + ROWS, 0, width[i], 0, p.bias, out, ROWS + 3};
            run(cpu, &p, &job, 1, 9);
            assert_within(cpu, &job, p.x, p.x_cols, 9);
            free_problem(&p);
        }
}

static void every_type_meets_the_reference_between_forbidden_pages(void **state) {
    (void)state;
    with_everything(check_reference);
}

/* Slices of columns with another place in x; float types with a last block of 16 columns. */
static void check_slices(radar_cpu *cpu, radar_dtype type) {
    int64_t cols = radar_dtype_block(type) == 1 ? 80 : 96;
    problem p = make_problem(type, cols, 0, false);
    radar_matmul_job job[] = {
        {&p.w, 0, ROWS, 0, 32, 64, NULL, out, 4 * ROWS},
        {&p.w, 0, ROWS, 32, 64, 0, NULL, out + ROWS, 4 * ROWS},
        {&p.w, 0, ROWS, 64, cols, 32, p.bias, out + 2 * ROWS, 4 * ROWS},
        {&p.w, 0, ROWS, 64, 64, 0, p.bias, out + 3 * ROWS, 4 * ROWS},
    };
    if (cols == 80) job[0].x_begin = 48;
    for (int M = 1; M <= 7; M += 3) {
        run(cpu, &p, job, 4, M);
        for (int i = 0; i < 4; i++) assert_within(cpu, job + i, p.x, cols, M);
    }
    free_problem(&p);
}

static void column_slices_meet_the_reference(void **state) {
    (void)state;
    with_everything(check_slices);
}

/* Widths that are no multiple of the vectors, one column, stored at an odd address. */
static void check_odd_widths(radar_cpu *cpu, radar_dtype type) {
    static const int64_t width[] = {96, 1, 15, 17, 31, 33, 80};
    for (size_t i = 0; i < (radar_dtype_block(type) == 1 ? 7 : 1); i++) {
        problem p = make_problem(type, width[i], 3, true);
        memmove(p.memory.data + 1, p.memory.data, ROWS * p.w.row_bytes);
        p.w.data = (const uint8_t *)p.w.data + 1;
        radar_matmul_job job = {&p.w, 3, 3 + ROWS, 0, width[i], 0, NULL, out, ROWS};
        for (int M = 1; M <= 5; M += 4) {
            run(cpu, &p, &job, 1, M);
            assert_within(cpu, &job, p.x, p.x_cols, M);
        }
        free_problem(&p);
    }
}

static void odd_widths_and_addresses_meet_the_reference(void **state) {
    (void)state;
    with_everything(check_odd_widths);
}

static void check_rows_alone(radar_cpu *cpu, radar_dtype type) {
    static const int count[] = {2, 7, 64, 100};
    problem p = make_problem(type, 576, 2, false);
    radar_matmul_job job = {&p.w, 2, 2 + ROWS, 0, 576, 0, p.bias, want, ROWS};
    for (int m = 0; m < MAX_M; m++) {
        job.out = want + m * ROWS;
        radar_cpu_matmul(&cpu->base, &job, 1, p.x + m * 576, 576, 1);
    }
    job.out = out;
    for (size_t i = 0; i < 4; i++) {
        memset(out, 0xff, sizeof out);
        run(cpu, &p, &job, 1, count[i]);
        assert_same_bits(out, want, (size_t)count[i] * ROWS);
    }
    free_problem(&p);
}

static void a_row_has_the_same_bits_alone_and_among_others(void **state) {
    (void)state;
    with_everything(check_rows_alone);
}

static void check_cut_and_threads(radar_cpu *cpu, radar_dtype type) {
    problem p = make_problem(type, 160, 0, false);
    radar_matmul_job whole = {&p.w, 0, ROWS, 32, 160, 0, p.bias, want, ROWS};
    for (int M = 1; M <= 9; M += 4) {
        run(cpu, &p, &whole, 1, M);
        for (int threads = 1; threads <= 3; threads++)
            for (int cut = 1; cut < ROWS; cut += 7) {
                radar_cpu other = open_cpu(cpu->opt.precision, cpu->opt.isa, threads);
                radar_matmul_job job[] = {whole, whole};
                job[0].row_end = job[1].row_begin = cut;
                job[0].out = out, job[1].out = out + cut;
                memset(out, 0xff, sizeof out);
                run(&other, &p, job, 2, M);
                assert_same_bits(out, want, (size_t)M * ROWS);
                radar_free(other.scratch);
            }
    }
    free_problem(&p);
}

static void neither_threads_nor_cuts_change_a_bit(void **state) {
    (void)state;
    with_everything(check_cut_and_threads);
}

/* Plain C with and without FMA instructions, and AVX-512: one answer, but for bf16, which plain C does not do. */
static void instruction_sets_agree_to_the_bit(void **state) {
    (void)state;
    for (int type = 0; type < RADAR_DTYPE_COUNT; type++)
        for (int precision = 0; precision < 2; precision++) {
            problem p = make_problem((radar_dtype)type, 224, 0, false);
            radar_matmul_job job = {&p.w, 0, ROWS, 0, 224, 0, p.bias, want, ROWS};
            radar_cpu plain = open_cpu((radar_precision)precision, "plain", 1), other = plain;
            plain.isa.fma = false;
            run(&plain, &p, &job, 1, 5);
            job.out = out;
            run(&other, &p, &job, 1, 5);
            assert_same_bits(out, want, 5 * ROWS);
            if (have_avx512()) {
                radar_cpu fast = open_cpu((radar_precision)precision, "avx512", 1);
                fast.isa.bf16 = false;
                run(&fast, &p, &job, 1, 5);
                assert_same_bits(out, want, 5 * ROWS);
                radar_free(fast.scratch);
            }
            radar_free(plain.scratch);
            free_problem(&p);
        }
}

/* x of whole numbers with 127 in every block is not changed by rounding: only f32 roundings remain. */
static void check_whole_numbers(radar_cpu *cpu, radar_dtype type) {
    if (!rounds_to_int8(cpu, type)) return;
    problem p = make_problem(type, 320, 0, false);
    for (int64_t i = 0; i < MAX_M * 320; i++)
        p.x[i] = i % 32 == 5 ? -127.0f : (float)(i * 37 % 255 - 127);
    radar_matmul_job job = {&p.w, 0, ROWS, 0, 320, 0, NULL, out, ROWS};
    run(cpu, &p, &job, 1, 10);
    for (int m = 0; m < 10; m++)
        for (int64_t r = 0; r < ROWS; r++) {
            answer a = reference(cpu, &job, p.x + m * 320, r);
            float got = out[m * ROWS + r];
            if (!(fabs(got - a.value) <= a.f32_rounding))
                fail_msg("row %ld: %.9g, not %.9g", (long)r, (double)got, a.value);
        }
    free_problem(&p);
}

static void whole_numbers_pass_the_int8_path_unchanged(void **state) {
    (void)state;
    with_everything(check_whole_numbers);
}

static void check_special_values(radar_cpu *cpu, radar_dtype type) {
    problem p = make_problem(type, 96, 0, false);
    for (int m = 0; m < 6; m++)
        for (int c = 32; c < 64; c++) p.x[m * 96 + c] = 0.0f; /* a block of zeros */
    for (int c = 0; c < 96; c++) p.x[5 * 96 + c] = 0.0f;
    p.x[1 * 96 + 70] = NAN, p.x[3 * 96 + 40] = NAN;
    p.x[4 * 96 + 3] = INFINITY;
    p.x[2 * 96 + 33] = 1e-38f; /* a block too small for int8 */
    radar_matmul_job job = {&p.w, 0, ROWS, 0, 96, 0, NULL, out, ROWS};
    run(cpu, &p, &job, 1, 6);
    for (int r = 0; r < ROWS; r++) {
        assert_true(isnan(out[1 * ROWS + r]) && isnan(out[3 * ROWS + r]));
        assert_false(isfinite(out[4 * ROWS + r]));
        assert_true(isfinite(out[r]) && isfinite(out[2 * ROWS + r]));
        assert_true(out[5 * ROWS + r] == 0.0f);
    }
    free_problem(&p);
}

static void nan_and_infinity_stay_in_their_row_and_zeros_give_zero(void **state) {
    (void)state;
    with_everything(check_special_values);
}

/* Quantised, bf16 and f32 weights in one call, each with its own path. */
static void jobs_of_different_types_share_a_call(void **state) {
    (void)state;
    static const radar_dtype type[] = {RADAR_Q4_1, RADAR_BF16, RADAR_F32, RADAR_Q8_0};
    radar_cpu cpu = open_cpu(RADAR_PRECISION_FAST, NULL, 2);
    problem p[4];
    radar_matmul_job job[4];
    for (int i = 0; i < 4; i++) {
        p[i] = make_problem(type[i], 192, 0, false);
        job[i] = (radar_matmul_job){&p[i].w, 0, ROWS, 0, 192, 0, NULL, out + i * ROWS, 4 * ROWS};
    }
    run(&cpu, p, job, 4, 6);
    for (int i = 0; i < 4; i++) assert_within(&cpu, job + i, p[0].x, 192, 6);
    for (int i = 0; i < 4; i++) free_problem(p + i);
    radar_free(cpu.scratch);
}

static void scratch_grows_with_rows_and_columns(void **state) {
    (void)state;
    radar_backend_options opt = {4, RADAR_PRECISION_FAST, NULL, 4096, 32768};
    size_t bytes = radar_cpu_matmul_scratch(&opt);
    assert_in_range(bytes, (size_t)4096 * 32768, (size_t)4096 * 32768 * 4);
    opt.precision = RADAR_PRECISION_EXACT; /* no activations are rounded: panels only */
    assert_int_equal(radar_cpu_matmul_scratch(&opt), 4 * 16 * 32768 * sizeof(float));
    assert_int_equal(radar_matmul_column_block(RADAR_Q4_1), 32);
    assert_int_equal(radar_matmul_column_block(RADAR_F32), 32);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_meets_the_reference_between_forbidden_pages),
        cmocka_unit_test(column_slices_meet_the_reference),
        cmocka_unit_test(odd_widths_and_addresses_meet_the_reference),
        cmocka_unit_test(a_row_has_the_same_bits_alone_and_among_others),
        cmocka_unit_test(neither_threads_nor_cuts_change_a_bit),
        cmocka_unit_test(instruction_sets_agree_to_the_bit),
        cmocka_unit_test(whole_numbers_pass_the_int8_path_unchanged),
        cmocka_unit_test(nan_and_infinity_stay_in_their_row_and_zeros_give_zero),
        cmocka_unit_test(jobs_of_different_types_share_a_call),
        cmocka_unit_test(scratch_grows_with_rows_and_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
