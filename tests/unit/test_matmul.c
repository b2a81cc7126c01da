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
#define MAX_M 64
#define MAX_COLS 1024

/* ---- a backend without its other operations ---- */

static bool have(const char *isa) {
    bool ok;
    radar_cpu_isa(isa, &ok);
    return ok;
}

static radar_cpu open_cpu(radar_precision precision, const char *isa, int threads) {
    bool ok;
    radar_cpu cpu = {.opt = {.n_threads = threads,
                             .precision = precision,
                             .isa = isa,
                             .max_rows = MAX_M,
                             .max_cols = MAX_COLS},
                     .isa = radar_cpu_isa(isa, &ok)};
    assert_true(ok);
    cpu.scratch_bytes = radar_cpu_matmul_scratch(&cpu.opt);
    cpu.scratch = radar_alloc(cpu.scratch_bytes);
    assert_non_null(cpu.scratch);
    return cpu;
}

/* Every kind of backend there is on this machine: calls fn with each. */
static void with_each_cpu(radar_dtype type, void (*fn)(radar_cpu *cpu, radar_dtype type)) {
    static const char *const isa[] = {"plain", "avx2", "avx512"};
    for (int precision = RADAR_PRECISION_FAST; precision <= RADAR_PRECISION_EXACT; precision++)
        for (int i = 0; i < 3; i++) {
            if (!have(isa[i])) continue;
            radar_cpu cpu = open_cpu((radar_precision)precision, isa[i], 2);
            fn(&cpu, type);
            radar_free(cpu.scratch);
        }
}

static void with_everything(void (*fn)(radar_cpu *cpu, radar_dtype type)) {
    for (int type = 0; type < RADAR_Q8; type++) with_each_cpu((radar_dtype)type, fn);
}

/* Where floats are multiplied by panels, 12 rows of x at a time and here 2 more. */
#define MANY_ROWS 50

static int many_rows(const radar_cpu *cpu) { return cpu->isa.avx512 ? MANY_ROWS : 10; }

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

static bool has_min(radar_dtype type) {
    return type == RADAR_Q4_1 || type == RADAR_Q5_1 || type == RADAR_Q4_K || type == RADAR_Q5_K;
}

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
    bool k = radar_dtype_block(type) == 256; /* times scales of up to 63, or 128 */
    for (int64_t b = 0; b < cols / radar_dtype_block(type); b++, p += bytes) {
        uint64_t at = seed + 1000u * (uint64_t)b;
        for (size_t i = 0; i < bytes; i++)
            p[i] = (uint8_t)radar_random(2, RADAR_STREAM_SAMPLER, at + i);
        put_u16(p + (type == RADAR_Q6_K ? 208 : 0),
                radar_f32_to_f16((float)((k ? 0.002 : 0.1) * uniform(at))));
        if (has_min(type))
            put_u16(p + 2, radar_f32_to_f16((float)((k ? 0.02 : 1) * uniform(at + 1))));
    }
}

static double read_f16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return radar_f16_to_f32(h);
}

/* Of a stored element w = scale q + min. */
typedef struct part {
    double scale, q, min;
} part;

/* Element i of a block of 256 of Q4_K (high NULL) or Q5_K: sub-block i / 32 has its 6-bit scale and minimum in s[12]. */
static part k_element(const uint8_t *block, const uint8_t *high, const uint8_t *low, int i) {
    const uint8_t *s = block + 4;
    int j = i / 32, l = i % 32, nibble = low[i / 64 * 32 + l] >> (j % 2 ? 4 : 0) & 15;
    int sc = j < 4 ? s[j] & 63 : (s[j + 4] & 15) + (s[j - 4] >> 6) * 16;
    int mn = j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) + (s[j] >> 6) * 16;
    int fifth = high ? (high[l] >> j & 1) * 16 : 0;
    return (part){read_f16(block) * sc, nibble + fifth, -read_f16(block + 2) * mn};
}

/* Element i of a block of 256 of Q6_K: two halves of 128, in each four quarters of 32 that share 64 and 32 bytes. */
static part q6_k_element(const uint8_t *block, int i) {
    int half = i / 128, quarter = i % 128 / 32, l = i % 32;
    int nibble = block[64 * half + quarter % 2 * 32 + l] >> quarter / 2 * 4 & 15;
    int two = block[128 + 32 * half + l] >> 2 * quarter & 3;
    return (part){read_f16(block + 208) * (int8_t)block[192 + i / 16], nibble + 16 * two - 32, 0};
}

/* Element c of a stored row of a quantised type, by the formulas of dtype.h. */
static part quantised(const uint8_t *p, radar_dtype type, int64_t c) {
    const uint8_t *block =
        p + (size_t)(c / radar_dtype_block(type)) * radar_dtype_block_bytes(type);
    int i = (int)(c % radar_dtype_block(type)), head = has_min(type) ? 4 : 2;
    const uint8_t *low = block + head + (type == RADAR_Q5_0 || type == RADAR_Q5_1 ? 4 : 0);
    if (type == RADAR_Q4_K) return k_element(block, NULL, block + 16, i);
    if (type == RADAR_Q5_K) return k_element(block, block + 16, block + 48, i);
    if (type == RADAR_Q6_K) return q6_k_element(block, i);
    double d = read_f16(block), m = has_min(type) ? read_f16(block + 2) : 0;
    if (type == RADAR_Q8_0) return (part){d, (int8_t)block[2 + i], 0};
    int nibble = i < 16 ? low[i % 16] & 15 : low[i % 16] >> 4;
    int fifth = block[head + i / 8] >> i % 8 & 1;
    if (type == RADAR_Q4_0) return (part){d, nibble - 8, 0};
    if (type == RADAR_Q4_1) return (part){d, nibble, m};
    return (part){d, nibble + 16 * fifth - (type == RADAR_Q5_0 ? 16 : 0), m};
}

/* Element c of a stored row. */
static double element(const uint8_t *p, radar_dtype type, int64_t c) {
    float f;
    uint16_t h;
    part w;
    switch (type) {
    case RADAR_F32:
        memcpy(&f, p + 4 * c, sizeof f);
        return f;
    case RADAR_F16:
        return read_f16(p + 2 * c);
    case RADAR_BF16:
        memcpy(&h, p + 2 * c, sizeof h);
        return radar_bf16_to_f32(h);
    default:
        w = quantised(p, type, c);
        return w.scale * w.q + w.min;
    }
}

/* The smallest width of whole blocks that holds cols. */
static int64_t whole(radar_dtype type, int64_t cols) {
    return radar_ceil_div(cols, radar_dtype_block(type)) * radar_dtype_block(type);
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
    p.w = (radar_matrix){.type = type,
                         .rows = row_begin + ROWS + 5,
                         .cols = cols,
                         .data = (const void *)((uintptr_t)p.memory.data - before),
                         .row_bytes = row};
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
    return cpu->opt.precision == RADAR_PRECISION_FAST && radar_dtype_block(type) > 1;
}

static bool rounds_to_bf16(const radar_cpu *cpu, radar_dtype type) {
    return cpu->opt.precision == RADAR_PRECISION_FAST && type == RADAR_BF16 && cpu->isa.bf16;
}

/* Half a step of x: max|x| / 254 of the block of 32 from c on for int8, 2^-8 |x| for bf16. */
static double int8_step(const float *x, int64_t c) {
    double max = 0;
    for (int64_t i = c; i < c + 32; i++) max = fmax(max, fabs(x[i]));
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
    bool apart = has_min(w->type) && rounds_to_int8(cpu, w->type);
    answer a = {.value = job->bias ? job->bias[row] : 0};
    bool int8 = rounds_to_int8(cpu, w->type), bf16 = rounds_to_bf16(cpu, w->type);
    double half = 0;
    for (int64_t c = job->col_begin; c < job->col_end; c++) {
        int64_t at = job->x_begin + c - job->col_begin;
        if (int8 && at % 32 == 0) half = int8_step(x, at);
        if (bf16) half = fabs(x[at]) * 0x1p-8;
        double v = element(stored, w->type, c);
        /* d q and m are added apart */
        double m = apart ? fabs(quantised(stored, w->type, c).min) : 0;
        a.value += v * x[at];
        scale += (fabs(v) + 2 * m) * fabs(x[at]);
        a.x_rounding += fabs(v) * half;
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
             cpu->isa.avx512 ? "avx512"
             : cpu->isa.avx2 ? "avx2"
                             : "plain",
             (long)job->col_begin, (long)job->col_end, worst);
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
            int64_t cols = whole(type, width[i]);
            problem p = make_problem(type, cols, 1000, front);
            radar_matmul_job job = {&p.w, 1000, 1000 + ROWS, 0, cols, 0, 0, p.bias, out, ROWS + 3};
            for (int M = 9; M <= many_rows(cpu); M += MANY_ROWS - 9) {
                run(cpu, &p, &job, 1, M);
                assert_within(cpu, &job, p.x, p.x_cols, M);
            }
            free_problem(&p);
        }
}

static void every_type_meets_the_reference_between_forbidden_pages(void **state) {
    (void)state;
    with_everything(check_reference);
}

/* Slices of columns with another place in x; float types with a last block of 16 columns. */
static void check_slices(radar_cpu *cpu, radar_dtype type) {
    int64_t b = radar_matmul_column_block(type),
            cols = radar_dtype_block(type) == 1 ? 2 * b + 16 : 3 * b;
    problem p = make_problem(type, cols, 0, false);
    radar_matmul_job job[] = {
        {&p.w, 0, ROWS, 0, b, cols - b, 0, NULL, out, 4 * ROWS},
        {&p.w, 0, ROWS, b, 2 * b, 0, 0, NULL, out + ROWS, 4 * ROWS},
        {&p.w, 0, ROWS, 2 * b, cols, b, 0, p.bias, out + 2 * ROWS, 4 * ROWS},
        {&p.w, 0, ROWS, 2 * b, 2 * b, 0, 0, p.bias, out + 3 * ROWS, 4 * ROWS},
    };
    for (int M = 1; M <= many_rows(cpu); M += M < 10 ? 3 : MANY_ROWS - 10) {
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
        int64_t cols = whole(type, width[i]);
        problem p = make_problem(type, cols, 3, true);
        memmove(p.memory.data + 1, p.memory.data, ROWS * p.w.row_bytes);
        p.w.data = (const uint8_t *)p.w.data + 1;
        radar_matmul_job job = {&p.w, 3, 3 + ROWS, 0, cols, 0, 0, NULL, out, ROWS};
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
    static const int count[] = {2, 3, 5, 7, 8, 9, 64};
    int64_t cols = whole(type, 576);
    problem p = make_problem(type, cols, 2, false);
    radar_matmul_job job = {&p.w, 2, 2 + ROWS, 0, cols, 0, 0, p.bias, want, ROWS};
    for (int m = 0; m < 64; m++) {
        job.out = want + m * ROWS;
        radar_cpu_matmul(&cpu->base, &job, 1, p.x + m * cols, (size_t)cols, 1);
    }
    job.out = out;
    for (size_t i = 0; i < sizeof count / sizeof *count; i++) {
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
    int64_t block = radar_matmul_column_block(type), cols = whole(type, 160) + block;
    problem p = make_problem(type, cols, 0, false);
    radar_matmul_job all = {&p.w, 0, ROWS, block, cols, 0, 0, p.bias, want, ROWS};
    for (int M = 1; M <= many_rows(cpu); M += M < 9 ? 4 : MANY_ROWS - 9) {
        run(cpu, &p, &all, 1, M);
        for (int threads = 1; threads <= 3; threads += 2)
            for (int cut = 1; cut < ROWS; cut += 15) {
                radar_cpu other = open_cpu(cpu->opt.precision, cpu->opt.isa, threads);
                radar_matmul_job job[] = {all, all};
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

/* Plain C with and without FMA instructions, AVX2 and AVX-512: one answer, but for bf16, which only the last does. */
static void instruction_sets_agree_to_the_bit(void **state) {
    static const char *const isa[] = {"plain", "avx2", "avx512"};
    (void)state;
    for (int type = 0; type < RADAR_Q8; type++)
        for (int precision = 0; precision < 2; precision++) {
            int64_t cols = whole((radar_dtype)type, 224);
            problem p = make_problem((radar_dtype)type, cols, 0, false);
            radar_matmul_job job = {&p.w, 0, ROWS, 0, cols, 0, 0, p.bias, want, ROWS};
            radar_cpu plain = open_cpu((radar_precision)precision, "plain", 1);
            plain.isa.fma = false;
            run(&plain, &p, &job, 1, 10);
            job.out = out;
            for (int i = 0; i < 3; i++) {
                if (!have(isa[i])) continue;
                radar_cpu other = open_cpu((radar_precision)precision, isa[i], 1);
                other.isa.bf16 = false;
                memset(out, 0xff, sizeof out);
                run(&other, &p, &job, 1, 10);
                assert_same_bits(out, want, 10 * ROWS);
                radar_free(other.scratch);
            }
            radar_free(plain.scratch);
            free_problem(&p);
        }
}

/* ---- packed ---- */

/* Rows [16, 16 + ROWS) and all columns but the first block; the stored rows may then go. */
static void check_packed(radar_cpu *cpu, radar_dtype type) {
    int64_t b = radar_matmul_column_block(type), cols = 3 * b;
    problem p = make_problem(type, cols, 16, false);
    radar_region own = {16, 16 + ROWS, b, cols};
    size_t bytes = radar_cpu_pack_bytes(&cpu->base, &p.w, &own), row = row_bytes(type, 2 * b);
    bool pays = rounds_to_int8(cpu, type) && cpu->isa.avx2;
    if (!pays) {
        assert_int_equal(bytes, 0);
        free_problem(&p);
        return;
    }
    assert_in_range(bytes, 48 * row, 48 * row * 103 / 100 + 192);
    radar_matmul_job job[] = {{&p.w, 16, 16 + ROWS, b, 2 * b, b, 0, p.bias, want, 3 * ROWS},
                              {&p.w, 32, 16 + ROWS, b, cols, 0, 0, NULL, want + ROWS, 3 * ROWS},
                              {&p.w, 16, 32, 2 * b, cols, 0, 0, NULL, want + 2 * ROWS, 3 * ROWS}};
    memset(want, 0, sizeof want), memset(out, 0, sizeof out);
    for (int M = 1; M <= 33; M += 4) {
        p.w.packed = NULL;
        for (int i = 0; i < 3; i++) job[i].out = want + i * ROWS;
        run(cpu, &p, job, 3, M);
        guarded memory = guarded_alloc(bytes, false);
        radar_cpu_pack(&cpu->base, memory.data, &p.w, &own);
        assert_non_null(p.w.packed);
        mprotect(p.memory.map, p.memory.map_bytes, PROT_NONE);
        for (int i = 0; i < 3; i++) job[i].out = out + i * ROWS;
        run(cpu, &p, job, 3, M);
        mprotect(p.memory.map, p.memory.map_bytes, PROT_READ);
        assert_same_bits(out, want, (size_t)M * 3 * ROWS);
        guarded_free(&memory);
    }
    free_problem(&p);
}

static void packed_weights_give_the_bits_of_stored_ones_and_replace_them(void **state) {
    (void)state;
    with_everything(check_packed);
}

/* A row that does not begin a tile, and columns before the part, are read as stored. */
static void check_outside(radar_cpu *cpu, radar_dtype type) {
    int64_t b = radar_matmul_column_block(type), cols = 2 * b;
    problem p = make_problem(type, cols, 0, false);
    radar_region own = {0, 32, b, cols};
    size_t bytes = radar_cpu_pack_bytes(&cpu->base, &p.w, &own);
    if (bytes == 0) {
        free_problem(&p);
        return;
    }
    radar_matmul_job job[] = {{&p.w, 5, 30, b, cols, 0, 0, p.bias, want, 4 * ROWS},
                              {&p.w, 0, ROWS, b, cols, 0, 0, NULL, want + ROWS, 4 * ROWS},
                              {&p.w, 0, 32, 0, b, 0, 0, NULL, want + 2 * ROWS, 4 * ROWS}};
    memset(want, 0, sizeof want), memset(out, 0, sizeof out);
    run(cpu, &p, job, 3, 3);
    void *memory = radar_alloc(bytes);
    radar_cpu_pack(&cpu->base, memory, &p.w, &own);
    for (int i = 0; i < 3; i++) job[i].out = out + i * ROWS;
    run(cpu, &p, job, 3, 3);
    assert_same_bits(out, want, 3 * 4 * ROWS);
    radar_free(memory);
    free_problem(&p);
}

static void jobs_outside_what_is_packed_read_the_stored_rows(void **state) {
    (void)state;
    with_everything(check_outside);
}

static void sizes_of_packed_parts_do_not_overflow(void **state) {
    (void)state;
    assert_int_equal(radar_matmul_packed_bytes(RADAR_F16, 64, 64), 0);
    assert_int_equal(radar_matmul_packed_bytes(RADAR_Q8_0, 0, 64), 0);
    assert_int_equal(radar_matmul_packed_bytes(RADAR_Q4_K, 16, 0), 0);
    assert_true(radar_matmul_packed_bytes(RADAR_Q8_0, INT64_MAX - 16, INT64_MAX / 32 * 32) ==
                SIZE_MAX);
}

/* x of whole numbers with 127 in every block is not changed by rounding: only f32 roundings remain. */
static void check_whole_numbers(radar_cpu *cpu, radar_dtype type) {
    if (!rounds_to_int8(cpu, type)) return;
    int64_t cols = whole(type, 320);
    problem p = make_problem(type, cols, 0, false);
    for (int64_t i = 0; i < MAX_M * cols; i++)
        p.x[i] = i % 32 == 5 ? -127.0f : (float)(i * 37 % 255 - 127);
    radar_matmul_job job = {&p.w, 0, ROWS, 0, cols, 0, 0, NULL, out, ROWS};
    run(cpu, &p, &job, 1, 10);
    for (int m = 0; m < 10; m++)
        for (int64_t r = 0; r < ROWS; r++) {
            answer a = reference(cpu, &job, p.x + m * cols, r);
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
    int64_t cols = whole(type, 96);
    problem p = make_problem(type, cols, 0, false);
    for (int m = 0; m < 6; m++)
        for (int c = 32; c < 64; c++) p.x[m * cols + c] = 0.0f; /* a block of zeros */
    for (int c = 0; c < cols; c++) p.x[5 * cols + c] = 0.0f;
    p.x[1 * cols + 70] = NAN, p.x[3 * cols + 40] = NAN;
    p.x[4 * cols + 3] = INFINITY;
    p.x[2 * cols + 33] = 1e-38f; /* a block too small for int8 */
    radar_matmul_job job = {&p.w, 0, ROWS, 0, cols, 0, 0, NULL, out, ROWS};
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
    static const radar_dtype type[] = {RADAR_Q4_1, RADAR_BF16, RADAR_F32, RADAR_Q6_K};
    radar_cpu cpu = open_cpu(RADAR_PRECISION_FAST, NULL, 2);
    problem p[4];
    radar_matmul_job job[4];
    for (int i = 0; i < 4; i++) {
        p[i] = make_problem(type[i], 256, 0, false);
        job[i] = (radar_matmul_job){&p[i].w, 0, ROWS, 0, 256, 0, 0, NULL, out + i * ROWS, 4 * ROWS};
    }
    for (int M = 6; M <= MANY_ROWS; M += MANY_ROWS - 6) {
        run(&cpu, p, job, 4, M);
        for (int i = 0; i < 4; i++) assert_within(&cpu, job + i, p[0].x, 256, M);
    }
    for (int i = 0; i < 4; i++) free_problem(p + i);
    radar_free(cpu.scratch);
}

static void scratch_grows_with_rows_and_columns(void **state) {
    (void)state;
    radar_backend_options opt = {
        .n_threads = 4, .precision = RADAR_PRECISION_FAST, .max_rows = 4096, .max_cols = 32768};
    size_t bytes = radar_cpu_matmul_scratch(&opt);
    assert_in_range(bytes, (size_t)4096 * 32768, (size_t)4096 * 32768 * 6);
    opt.isa = "plain";
    opt.precision = RADAR_PRECISION_EXACT; /* no activations are rounded: panels only */
    assert_int_equal(radar_cpu_matmul_scratch(&opt), 4 * 16 * 32768 * sizeof(float));
    if (have(
            "avx512")) { /* twice the rows, and x by lane in blocks of 12 rows, with a line behind each of 4 quads */
        opt.isa = "avx512";
        size_t panel = 32 * 32768 + 4 * 16, block = 12 * 32768 + 4 * 16;
        assert_int_equal(radar_cpu_matmul_scratch(&opt), (4 * panel + 342 * block) * sizeof(float));
    }
    assert_int_equal(radar_matmul_column_block(RADAR_Q4_1), 32);
    assert_int_equal(radar_matmul_column_block(RADAR_Q5_1), 32);
    assert_int_equal(radar_matmul_column_block(RADAR_Q6_K), 256);
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
        cmocka_unit_test(packed_weights_give_the_bits_of_stored_ones_and_replace_them),
        cmocka_unit_test(jobs_outside_what_is_packed_read_the_stored_rows),
        cmocka_unit_test(sizes_of_packed_parts_do_not_overflow),
        cmocka_unit_test(whole_numbers_pass_the_int8_path_unchanged),
        cmocka_unit_test(nan_and_infinity_stay_in_their_row_and_zeros_give_zero),
        cmocka_unit_test(jobs_of_different_types_share_a_call),
        cmocka_unit_test(scratch_grows_with_rows_and_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
