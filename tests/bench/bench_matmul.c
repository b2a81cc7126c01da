/* bench_matmul.c - speed of the matrix products on the demo model's shapes: GB/s of weights at M = 1, GFLOP/s at M = 512.
 *   bench_matmul [threads] [isa] [type]
 * Every repetition takes the next copy of the weights, so that M = 1 reads memory and not the cache; the best counts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/matmul.h"
#include "kernels/quant.h"
#include "runtime/sys.h"

#define COPIES_BYTES ((size_t)160 << 20)
#define MAX_ROWS 512
#define MAX_COLS 4096

typedef struct shape {
    const char *name;
    int64_t rows, cols;
    int slices;    /* column slices, a job each */
    int per_token; /* how often a token needs it */
} shape;

static const shape shapes[] = {{"q o       576 x 576", 576, 576, 1, 60},
                               {"k v       192 x 576", 192, 576, 1, 60},
                               {"gate up  1536 x 576", 1536, 576, 1, 60},
                               {"down     576 x 1536", 576, 1536, 8, 30},
                               {"head    49152 x 576", 49152, 576, 1, 1}};

static radar_status open_cpu(radar_cpu *cpu, radar_precision precision, const char *isa,
                             int threads) {
    bool ok;
    *cpu = (radar_cpu){.opt = {.n_threads = threads,
                               .precision = precision,
                               .isa = isa,
                               .max_rows = MAX_ROWS,
                               .max_cols = MAX_COLS},
                       .isa = radar_cpu_isa(isa, &ok)};
    cpu->scratch = radar_alloc(radar_cpu_matmul_scratch(&cpu->opt));
    return ok && cpu->scratch ? RADAR_OK : RADAR_ERR_CONFIG;
}

/* Bytes that are finite numbers in every type; all of them take the same time. */
static void fill(uint8_t *w, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) w[i] = (uint8_t)((i * 2654435761u >> 13) & 0x3b);
}

/* Bytes of one copy of a matrix: what is read, packed where that pays. */
static size_t copy_bytes(radar_cpu *cpu, const radar_matrix *m) {
    radar_region all = {0, m->rows, 0, m->cols};
    size_t packed = radar_cpu_pack_bytes(&cpu->base, m, &all);
    return packed ? packed : m->row_bytes * (size_t)m->rows;
}

/* Seconds of one product, the best of `repeats`; w: COPIES_BYTES of stored bytes, packed as many. */
static double best_of(radar_cpu *cpu, const shape *s, radar_dtype type, const uint8_t *w,
                      uint8_t *packed, float *x, float *out, int M, int repeats) {
    radar_matrix m = {.type = type, .rows = s->rows, .cols = s->cols, .data = w};
    m.row_bytes = (size_t)(s->cols / radar_dtype_block(type)) * radar_dtype_block_bytes(type);
    radar_region all = {0, s->rows, 0, s->cols};
    size_t bytes = copy_bytes(cpu, &m), copies = COPIES_BYTES / bytes;
    bool pays = radar_cpu_pack_bytes(&cpu->base, &m, &all) > 0;
    for (size_t i = 0; pays && i < copies; i++)
        radar_cpu_pack(&cpu->base, packed + i * bytes, &m, &all);
    double best = 1e9;
    for (int i = 0; i < repeats; i++) {
        size_t at = (size_t)i % copies * bytes;
        m.data = w + (pays ? 0 : at);
        m.packed = pays ? (const struct radar_packed *)(packed + at) : NULL;
        radar_matmul_job job[8];
        int64_t part = s->cols / s->slices;
        for (int j = 0; j < s->slices; j++)
            job[j] = (radar_matmul_job){.w = &m,
                                        .row_end = s->rows,
                                        .col_begin = j * part,
                                        .col_end = (j + 1) * part,
                                        .x_begin = j * part,
                                        .out = out + j * s->rows,
                                        .out_stride = (size_t)(s->slices * s->rows)};
        double start = radar_clock();
        radar_cpu_matmul(&cpu->base, job, s->slices, x, (size_t)s->cols, M);
        double took = radar_clock() - start;
        best = took < best ? took : best;
    }
    return best;
}

/* K types come in blocks of 256 columns: widths of whole blocks, and fewer slices. */
static shape shape_for(shape s, radar_dtype type) {
    int64_t block = radar_dtype_block(type);
    s.cols = radar_ceil_div(s.cols, block) * block;
    while (s.cols / s.slices % radar_max64(block, RADAR_QUANT)) s.slices--;
    return s;
}

/* Speed of a read alone, GB/s: what the products at M = 1 are measured against.  Eight sums, so that no add waits. */
RADAR_FMA static double read_speed(const uint8_t *w, int threads) {
    double best = 1e9;
    for (int i = 0; i < 4; i++) {
        uint64_t all = 0;
        double start = radar_clock();
#pragma omp parallel for num_threads(threads) schedule(static) reduction(^ : all)
        for (size_t page = 0; page < COPIES_BYTES / 4096; page++) {
            const uint64_t *p = (const uint64_t *)(const void *)(w + page * 4096);
            uint64_t sum[32] = {0};
            for (int j = 0; j < 512; j += 32)
                for (int k = 0; k < 32; k++) sum[k] ^= p[j + k];
            for (int k = 0; k < 32; k++) all ^= sum[k];
        }
        double took = radar_clock() - start;
        best = took < best && all != 1 ? took : best;
    }
    return (double)COPIES_BYTES / best * 1e-9;
}

static void table(radar_cpu *cpu, radar_dtype type, const uint8_t *w, uint8_t *packed, float *x,
                  float *out) {
    double token = 0, layers512 = 0;
    printf("%-5s %s\n", radar_dtype_name(type),
           cpu->opt.precision == RADAR_PRECISION_FAST ? "fast" : "exact");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        shape s = shape_for(shapes[i], type);
        bool head = s.rows > 10000;
        double elements = (double)s.rows * (double)s.cols,
               bytes = elements / radar_dtype_block(type) * (double)radar_dtype_block_bytes(type);
        double one = best_of(cpu, &s, type, w, packed, x, out, 1, head ? 20 : 400);
        printf("  %s  M=1 %7.1f us %6.1f GB/s", s.name, one * 1e6, bytes / one * 1e-9);
        if (!head) {
            double four = best_of(cpu, &s, type, w, packed, x, out, 4, 200),
                   many = best_of(cpu, &s, type, w, packed, x, out, 512, 5);
            printf("   M=4 %7.1f us   M=512 %7.2f ms %7.0f GFLOP/s", four * 1e6, many * 1e3,
                   2e-9 * 512 * elements / many);
            token += one * s.per_token;
            layers512 += many * s.per_token;
        }
        printf("\n");
    }
    printf("  all layers: %.2f ms at M=1, %.3f s at M=512\n", token * 1e3, layers512);
}

static bool wanted(int argc, char **argv, int type) {
    return argc <= 3 || strcmp(argv[3], radar_dtype_name((radar_dtype)type)) == 0;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    const char *isa = argc > 2 && strcmp(argv[2], "best") ? argv[2] : NULL;
    uint8_t *w = radar_alloc(COPIES_BYTES), *packed = radar_alloc(COPIES_BYTES);
    float *x = radar_alloc(MAX_ROWS * MAX_COLS * sizeof *x),
          *out = radar_alloc(MAX_ROWS * 8 * 1536 * sizeof *out);
    radar_cpu cpu[2];
    if (!w || !packed || !x || !out ||
        open_cpu(cpu, RADAR_PRECISION_FAST, isa, threads) != RADAR_OK ||
        open_cpu(cpu + 1, RADAR_PRECISION_EXACT, isa, threads) != RADAR_OK) {
        fprintf(stderr, "bench_matmul: no memory, or no such instruction set\n");
        return 1;
    }
    fill(w, COPIES_BYTES);
    printf("reading alone: %.1f GB/s\n", read_speed(w, threads));
    for (int i = 0; i < MAX_ROWS * MAX_COLS; i++) x[i] = (float)(i % 17 - 8) * 0.1f;
    for (int type = 0; type < RADAR_DTYPE_COUNT; type++)
        for (int exact = 0; exact < 2; exact++)
            if (wanted(argc, argv, type) && !(exact && type < RADAR_BF16))
                table(cpu + exact, (radar_dtype)type, w, packed, x, out);
    return 0;
}
