/* The f32 path of matmul.h: weights exactly as f32, 16 lanes along the columns, fma. */
#include <immintrin.h>
#include <stdbool.h>

#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/sum16.h"
#include "kernels/cpu/tile.h"

#define GROUP 4 /* rows of W that share the loads of x */
#define PASS 6  /* rows of x at a time */
#define AHEAD 8 /* rows of W prefetched */

/* acc: lanes of the dot products of GROUP rows (w + r * w_stride bytes) and n rows of x. */
RADAR_AVX512 static inline __attribute__((always_inline)) void
multiply(const uint8_t *w, size_t w_stride, const float *x, size_t x_stride, int64_t cols, int n,
         float *out, size_t out_stride, int rows, const float *bias) {
    __m512 acc[GROUP][PASS];
    for (int r = 0; r < GROUP; r++)
        for (int i = 0; i < n; i++) acc[r][i] = _mm512_setzero_ps();
    int64_t c = 0;
    for (; c + 16 <= cols; c += 16) {
        __m512 v[GROUP];
        for (int r = 0; r < GROUP; r++) v[r] = _mm512_loadu_ps(w + (size_t)r * w_stride + 4 * c);
        for (int i = 0; i < n; i++) {
            __m512 u = _mm512_loadu_ps(x + (size_t)i * x_stride + c);
            for (int r = 0; r < GROUP; r++) acc[r][i] = _mm512_fmadd_ps(v[r], u, acc[r][i]);
        }
    }
    if (c < cols) {
        __mmask16 k = (__mmask16)((1u << (cols - c)) - 1);
        for (int i = 0; i < n; i++) {
            __m512 u = _mm512_maskz_loadu_ps(k, x + (size_t)i * x_stride + c);
            for (int r = 0; r < GROUP; r++) {
                __m512 v = _mm512_maskz_loadu_ps(k, w + (size_t)r * w_stride + 4 * c);
                acc[r][i] = _mm512_mask3_fmadd_ps(v, u, acc[r][i], k);
            }
        }
    }
    __mmask8 keep = (__mmask8)((1u << rows) - 1);
    __m128 b = bias ? _mm_maskz_loadu_ps(keep, bias) : _mm_setzero_ps();
    for (int i = 0; i < n; i++) {
        __m128 y = radar_sum16_four(acc[0][i], acc[1][i], acc[2][i], acc[3][i]);
        if (bias) y = _mm_add_ps(y, b);
        _mm_mask_storeu_ps(out + (size_t)i * out_stride, keep, y);
    }
}

/* Rows [r, r + GROUP) of the tile, at w, times all rows of x. */
RADAR_AVX512 static void group_avx512(const radar_tile *t, int r, const uint8_t *w, size_t w_stride,
                                      const float *x, size_t x_stride, int begin, int end) {
    int rows = t->rows - r < GROUP ? t->rows - r : GROUP;
    const float *bias = t->bias ? t->bias + r : NULL;
    for (int m = begin; m < end;) {
        const float *xm = x + (size_t)m * x_stride;
        float *out = t->out + (size_t)m * t->out_stride + r;
        int left = end - m;
#define MULTIPLY(n) \
    multiply(w, w_stride, xm, x_stride, t->cols, n, out, t->out_stride, rows, bias), m += n
        if (left >= PASS)
            MULTIPLY(PASS);
        else if (left >= 4)
            MULTIPLY(4);
        else if (left >= 2)
            MULTIPLY(2);
        else
            MULTIPLY(1);
#undef MULTIPLY
    }
}

/* Dequantises rows [r, r + GROUP) into scratch; rows past the tile's end repeat the last one and are not stored. */
static void load_group(radar_isa isa, const radar_tile *t, int r, float *scratch, int64_t stride) {
    size_t bytes =
        (size_t)(t->cols / radar_dtype_block(t->type)) * radar_dtype_block_bytes(t->type);
    for (int i = 0; i < GROUP; i++) {
        int row = r + i < t->rows ? r + i : t->rows - 1;
        const uint8_t *w = t->w + (size_t)row * t->stride;
        if (row + AHEAD < t->rows + t->below)
            for (size_t b = 0; b < bytes; b += 64)
                _mm_prefetch((const char *)w + AHEAD * t->stride + b, _MM_HINT_T0);
        radar_cpu_dequantize(isa, scratch + i * stride, t->type, w, 0, t->cols);
    }
}

/* With many rows of x all 16 rows of W are kept as f32, and PASS rows of x at a time, in the first cache, pass over them. */
static void tile_avx512(radar_isa isa, const radar_tile *t, const float *x, size_t x_stride,
                        float *scratch) {
    int64_t stride = (t->cols + 15) / 16 * 16;
    bool direct = t->type == RADAR_F32 && t->rows % GROUP == 0;
    const uint8_t *w = direct ? t->w : (const uint8_t *)scratch;
    size_t w_stride = direct ? t->stride : (size_t)stride * sizeof(float);
    if (!direct && t->M <= PASS) {
        for (int r = 0; r < t->rows; r += GROUP) {
            load_group(isa, t, r, scratch, stride);
            group_avx512(t, r, w, w_stride, x, x_stride, 0, t->M);
        }
        return;
    }
    if (!direct)
        for (int r = 0; r < t->rows; r += GROUP)
            load_group(isa, t, r, scratch + r * stride, stride);
    for (int m = 0; m < t->M; m += PASS) {
        int end = m + PASS < t->M ? m + PASS : t->M;
        for (int r = 0; r < t->rows; r += GROUP)
            group_avx512(t, r, w + (size_t)r * w_stride, w_stride, x, x_stride, m, end);
    }
}

static inline __attribute__((always_inline)) float dot_body(const float *w, const float *x,
                                                            int64_t cols) {
    float lane[16] = {0};
    int64_t c = 0;
    for (; c + 16 <= cols; c += 16)
        for (int j = 0; j < 16; j++) lane[j] = __builtin_fmaf(w[c + j], x[c + j], lane[j]);
    for (int j = 0; c + j < cols; j++) lane[j] = __builtin_fmaf(w[c + j], x[c + j], lane[j]);
    return radar_sum16(lane);
}

static float dot_plain(const float *w, const float *x, int64_t cols) {
    return dot_body(w, x, cols);
}
RADAR_FMA static float dot_fma(const float *w, const float *x, int64_t cols) {
    return dot_body(w, x, cols);
}

static void tile_plain(radar_isa isa, const radar_tile *t, const float *x, size_t x_stride,
                       float *scratch) {
    for (int r = 0; r < t->rows; r++) {
        radar_dequantize(scratch, t->type, t->w + (size_t)r * t->stride, 0, t->cols);
        for (int m = 0; m < t->M; m++) {
            const float *xm = x + (size_t)m * x_stride;
            float y = isa.fma ? dot_fma(scratch, xm, t->cols) : dot_plain(scratch, xm, t->cols);
            t->out[(size_t)m * t->out_stride + (size_t)r] = t->bias ? y + t->bias[r] : y;
        }
    }
}

void radar_tile_f32(radar_isa isa, const radar_tile *t, const float *x, size_t x_stride,
                    void *scratch) {
    if (isa.avx512)
        tile_avx512(isa, t, x, x_stride, scratch);
    else
        tile_plain(isa, t, x, x_stride, scratch);
}
