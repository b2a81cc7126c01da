/* Products: every type of weights, exact and fast, 1 to 70 rows of x, parts of rows and columns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/matmul.h"
#include "tests/gpu/twin.h"

#define ROWS 80
#define COLS 512
#define MOST_M 70

static char name[96];

/* f16 numbers of a block, of weights about 0.02: where they lie. */
static void tame(uint8_t *block, radar_dtype type, uint64_t i) {
    const uint16_t d = radar_f32_to_f16(0.002f * (1 + (float)(i % 5))),
                   m = radar_f32_to_f16(-0.01f * (float)(i % 3));
    const bool two =
        type == RADAR_Q4_1 || type == RADAR_Q5_1 || type == RADAR_Q4_K || type == RADAR_Q5_K;
    memcpy(block + (type == RADAR_Q6_K ? 208 : 0), &d, sizeof d);
    if (two) memcpy(block + 2, &m, sizeof m);
}

static void *random_rows(radar_dtype type, radar_matrix *w) {
    const size_t each = radar_dtype_block_bytes(type);
    const int64_t blocks = (int64_t)ROWS * COLS / radar_dtype_block(type);
    uint8_t *data = malloc((size_t)blocks * each + 16);
    for (size_t i = 0; i < (size_t)blocks * each; i++) data[i] = (uint8_t)radar_random(80, 1, i);
    for (int64_t i = 0; i < blocks; i++) {
        uint8_t *block = data + (size_t)i * each;
        const float x = 0.02f * (float)radar_random_normal(81, 1, (uint64_t)i);
        const uint16_t half = type == RADAR_F16 ? radar_f32_to_f16(x) : radar_f32_to_bf16(x);
        if (type == RADAR_F32)
            memcpy(block, &x, sizeof x);
        else if (each == sizeof half)
            memcpy(block, &half, sizeof half);
        else
            tame(block, type, (uint64_t)i);
    }
    *w = (radar_matrix){.type = type,
                        .rows = ROWS,
                        .cols = COLS,
                        .data = data,
                        .row_bytes = (size_t)(COLS / radar_dtype_block(type)) * each};
    return data;
}

/* Both sides multiply with a part of the matrix; two jobs share x. */
static void product(const radar_matrix *stored, const radar_region *part, int M, double bound,
                    const char *how) {
    radar_matrix w[SIDES] = {*stored, *stored};
    const int64_t rows = part->row_end - part->row_begin;
    const size_t cols = (size_t)(part->col_end - part->col_begin);
    const twin x = twin_random((size_t)M * cols, 82), bias = twin_random(ROWS, 83),
               out = twin_of(NULL, (size_t)M * (size_t)rows * sizeof(float));
    void *memory[SIDES] = {NULL};
    ON_BOTH(s) {
        const size_t bytes = side[s]->ops->pack_bytes(side[s], &w[s], part);
        if (bytes) memory[s] = side[s]->ops->alloc(side[s], bytes);
        if (bytes) side[s]->ops->pack(side[s], memory[s], &w[s], part);
        radar_matmul_job job[2];
        for (int i = 0; i < 2; i++) {
            const int64_t begin = part->row_begin + i * rows / 2;
            job[i] = (radar_matmul_job){.w = &w[s],
                                        .row_begin = begin,
                                        .row_end = part->row_begin + (i + 1) * rows / 2,
                                        .col_begin = part->col_begin,
                                        .col_end = part->col_end,
                                        .bias = i ? bias.at[s] : NULL,
                                        .out = (float *)out.at[s] + (begin - part->row_begin),
                                        .out_stride = (size_t)rows};
        }
        side[s]->ops->matmul(side[s], job, 2, x.at[s], cols, M);
    }
    snprintf(name, sizeof name, "matmul %s %s, %d rows of x, %lld x %zu",
             radar_dtype_name(stored->type), how, M, (long long)rows, cols);
    expect_close(name, out, bound);
    drop_twins();
    ON_BOTH(s) side[s]->ops->release(side[s], memory[s]);
}

#define MANY 64 /* rows of x above which fast products may go by other formats */

/* What the GPU's form of a type, and its x, are away from the CPU's: bf16 has steps of 2^-8, e4m3 of 2^-3. */
static double bound_of(radar_dtype type, bool fast, bool fp8, int M) {
    const bool float_type = type == RADAR_F16 || type == RADAR_BF16;
    if (fp8 && float_type) return 0.04;
    if (fast && M > MANY) return type == RADAR_F16 ? 1e-3 : float_type ? 4e-3 : 2e-2;
    if (float_type) return fast && type == RADAR_BF16 ? 4e-3 : 3e-6;
    if (type == RADAR_Q8_0 || type == RADAR_Q4_0 || type == RADAR_Q4_1) return 3e-6;
    return fast ? 2e-2 : 4e-3;
}

static void products(bool fast, bool fp8) {
    static const radar_region whole = {0, ROWS, 0, COLS}, part = {16, ROWS, 256, COLS};
    static const int few[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, MOST_M};
    if (!open_sides(fast ? RADAR_PRECISION_FAST : RADAR_PRECISION_EXACT, fp8)) return;
    const char *how = fp8 ? "as fp8" : fast ? "fast" : "exact";
    for (int type = 0; type < RADAR_Q8; type++) {
        radar_matrix w;
        if (fp8 && type != RADAR_F16 && type != RADAR_BF16) continue;
        void *data = random_rows((radar_dtype)type, &w);
        for (size_t i = 0; i < sizeof few / sizeof few[0]; i++)
            product(&w, &whole, few[i], bound_of(w.type, fast, fp8, few[i]), how);
        product(&w, &part, 3, bound_of(w.type, fast, fp8, 3), how);
        free(data);
    }
    close_sides();
}

void matmul_cases(void) {
    products(false, false);
    products(true, false);
    products(true, true);
}
