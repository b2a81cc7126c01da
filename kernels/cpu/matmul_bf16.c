/* The bf16 path of matmul.h: BF16 weights as stored times x rounded to bf16, on machines with AVX512_BF16.
 * Lane j of 16 takes columns 32 i + 2 j and 32 i + 2 j + 1, i ascending, as VDPBF16PS adds them; lanes are summed as in sum16.h. */
#include <immintrin.h>
#include <stdbool.h>

#include "kernels/cpu/sum16.h"
#include "kernels/cpu/tile.h"

#define GROUP 4 /* rows of W that share the loads of x */
#define PASS 6  /* rows of x at a time: 24 sums hide the latency of VDPBF16PS */
#define AHEAD 8 /* rows */

/* Columns c .. c + 31, those outside k left out, of GROUP rows of W and n rows of x. */
RADAR_AVX512_BF16 static inline __attribute__((always_inline)) void
step(__m512 acc[GROUP][PASS], const uint8_t *const w[GROUP], const uint16_t *x, size_t x_stride,
     int64_t c, int n, __mmask32 k) {
    __m512i v[GROUP];
    for (int r = 0; r < GROUP; r++) v[r] = _mm512_maskz_loadu_epi16(k, w[r] + 2 * c);
    for (int i = 0; i < n; i++) {
        __m512bh u = (__m512bh)_mm512_maskz_loadu_epi16(k, x + (size_t)i * x_stride + c);
        for (int r = 0; r < GROUP; r++) acc[r][i] = _mm512_dpbf16_ps(acc[r][i], (__m512bh)v[r], u);
    }
}

/* Rows past `rows` read the last valid one and are not stored.  ahead: bytes to the rows to prefetch; 0 = none. */
RADAR_AVX512_BF16 static inline __attribute__((always_inline)) void
multiply(const uint8_t *const w[GROUP], const uint16_t *x, size_t x_stride, int64_t cols, int n,
         float *out, size_t out_stride, int rows, const float *bias, size_t ahead) {
    __m512 acc[GROUP][PASS];
    for (int r = 0; r < GROUP; r++)
        for (int i = 0; i < n; i++) acc[r][i] = _mm512_setzero_ps();
    int64_t c = 0;
    for (; c + 32 <= cols; c += 32) {
        if (ahead)
            for (int r = 0; r < GROUP; r++)
                _mm_prefetch((const char *)w[r] + ahead + 2 * c, _MM_HINT_T0);
        step(acc, w, x, x_stride, c, n, 0xffffffffu);
    }
    if (c < cols) step(acc, w, x, x_stride, c, n, (1u << (cols - c)) - 1);
    __mmask8 keep = (__mmask8)((1u << rows) - 1);
    for (int i = 0; i < n; i++) {
        __m128 y = radar_sum16_four(acc[0][i], acc[1][i], acc[2][i], acc[3][i]);
        if (bias) y = _mm_add_ps(y, _mm_maskz_loadu_ps(keep, bias));
        _mm_mask_storeu_ps(out + (size_t)i * out_stride, keep, y);
    }
}

RADAR_AVX512_BF16 static void group(const radar_tile *t, int r, const radar_x16 *x16, int begin,
                                    int end) {
    int rows = t->rows - r < GROUP ? t->rows - r : GROUP;
    const float *bias = t->bias ? t->bias + r : NULL;
    const uint8_t *w[GROUP];
    for (int i = 0; i < GROUP; i++)
        w[i] = t->w + (size_t)(r + (i < rows ? i : rows - 1)) * t->stride;
    bool below = t->below + t->rows - r >= AHEAD + GROUP;
    for (int m = begin; m < end;) {
        size_t ahead = m == 0 && below ? AHEAD * t->stride : 0;
        const uint16_t *x = x16->q + (size_t)m * x16->stride;
        float *out = t->out + (size_t)m * t->out_stride + r;
        int left = end - m;
#define MULTIPLY(n) \
    multiply(w, x, x16->stride, t->cols, n, out, t->out_stride, rows, bias, ahead), m += n
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

void radar_tile_bf16(const radar_tile *t, const radar_x16 *x16) {
    for (int m = 0; m < t->M; m += PASS) {
        int end = m + PASS < t->M ? m + PASS : t->M;
        for (int r = 0; r < t->rows; r += GROUP) group(t, r, x16, m, end);
    }
}
