/* panel_multiply.h - multiplies what panel.h rearranged; included by the file of each accumulation order, which first defines
 *   TARGET          the attribute of its instruction set
 *   step(acc, w, x) acc + w x for 16 outputs, in its order */
#include <immintrin.h>
#include <stdbool.h>

#include "kernels/cpu/panel.h"

#define INLINE TARGET static inline __attribute__((always_inline))
#define QUAD RADAR_PANEL_QUAD
/* Rows of x at a time: times 32 rows of W and 4 lanes they make 24 registers of sums, as many as there is room for. */
#define PART 3
#define PARTS (RADAR_PANEL_X / PART)
#define SUMS (RADAR_PANEL_ROWS / 16 * PART)

/* sum[k * wide + r] := what the lanes of a quad add to 16 rows r of W and row k of x.  ahead: what to prefetch, a line for
 * each chunk. */
INLINE void quad_products(__m512 sum[SUMS], const uint32_t *w, const uint32_t *x, size_t chunks,
                          const uint32_t *ahead, int wide) {
    __m512 acc[QUAD][SUMS];
#pragma GCC unroll 24
    for (int k = 0; k < QUAD * SUMS; k++) acc[k / SUMS][k % SUMS] = _mm512_setzero_ps();
    for (size_t i = 0; i < chunks; i++, w += QUAD * 16 * wide, x += QUAD * RADAR_PANEL_X) {
        _mm_prefetch((const char *)(ahead + 16 * i), _MM_HINT_T1);
#pragma GCC unroll 4
        for (int j = 0; j < QUAD; j++) {
            __m512 v[2];
#pragma GCC unroll 2
            for (int r = 0; r < wide; r++) {
                v[r] = _mm512_loadu_ps(w + 16 * (j * wide + r));
                __asm__("" : "+v"(v[r])); /* one load, not one in every multiplication */
            }
#pragma GCC unroll 3
            for (int k = 0; k < PART; k++) {
                __m512 u = _mm512_castsi512_ps(_mm512_set1_epi32((int)x[j * RADAR_PANEL_X + k]));
#pragma GCC unroll 2
                for (int r = 0; r < wide; r++)
                    acc[j][k * wide + r] = step(acc[j][k * wide + r], v[r], u);
            }
        }
    }
#pragma GCC unroll 6
    for (int k = 0; k < PART * wide; k++)
        sum[k] =
            _mm512_add_ps(_mm512_add_ps(acc[0][k], acc[1][k]), _mm512_add_ps(acc[2][k], acc[3][k]));
}

/* Sum number i of the tree ((0+1)+(2+3)) of quads; true: it is complete.  `waiting` are the sums of 1 and of 2 quads that
 * wait for their neighbours. */
INLINE bool add_quad(__m512 sum[SUMS], __m512 waiting[2][SUMS], int i, int wide) {
#pragma GCC unroll 2
    for (int level = 0; level < 2; level++) {
        if (!(i >> level & 1)) {
#pragma GCC unroll 6
            for (int k = 0; k < PART * wide; k++) waiting[level][k] = sum[k];
            return false;
        }
#pragma GCC unroll 6
        for (int k = 0; k < PART * wide; k++) sum[k] = _mm512_add_ps(waiting[level][k], sum[k]);
    }
    return true;
}

/* Stores the sums of `rows` rows of x. */
INLINE void put(const radar_tile *t, float *out, const __m512 sum[SUMS], int wide, int rows) {
#pragma GCC unroll 2
    for (int r = 0; r < wide; r++) {
        int left = t->rows - 16 * r;
        __mmask16 keep = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
        __m512 bias = t->bias ? _mm512_maskz_loadu_ps(keep, t->bias + 16 * r) : _mm512_setzero_ps();
#pragma GCC unroll 6
        for (int k = 0; k < PART; k++) {
            __m512 y = sum[k * wide + r];
            if (t->bias) y = _mm512_add_ps(y, bias);
            if (k < rows) _mm512_mask_storeu_ps(out + (size_t)k * t->out_stride + 16 * r, keep, y);
        }
    }
}

/* Lines of the tile below, prefetched a few at a time: many at once would hold up the lines that are wanted now. */
typedef struct below {
    const char *w;
    size_t stride, row_lines, next, end, step;
} below;

static below below_of(const radar_tile *t, size_t row_bytes) {
    int64_t rows = t->below < RADAR_PANEL_ROWS ? t->below : RADAR_PANEL_ROWS;
    size_t steps = ((size_t)t->M + RADAR_PANEL_X - 1) / RADAR_PANEL_X * (4 * PARTS);
    below b = {.w = (const char *)t->w + (size_t)t->rows * t->stride,
               .stride = t->stride,
               .row_lines = (row_bytes + 63) / 64};
    b.end = (size_t)rows * b.row_lines;
    b.step = (b.end + steps - 1) / steps;
    return b;
}

INLINE void prefetch_below(below *b) {
    for (size_t i = 0; i < b->step && b->next < b->end; i++, b->next++)
        _mm_prefetch(b->w + b->next / b->row_lines * b->stride + b->next % b->row_lines * 64,
                     _MM_HINT_T1);
}

/* `rows` <= 12 rows of x times the tile whose W is in panel; the next 12 are prefetched. */
INLINE void multiply(const radar_tile *t, const uint32_t *panel, const uint32_t *x,
                     const radar_panel_x *all, below *b, size_t chunks, float *out, int wide,
                     int rows) {
    size_t quad = radar_panel_quad((int64_t)chunks, 16 * wide);
    __m512 waiting[PARTS][2][SUMS];
    for (int i = 0; i < RADAR_PANEL_LANES / QUAD; i++, panel += quad, x += all->quad)
        for (int p = 0, k = 0; k < rows; p++, k += PART) {
            __m512 sum[SUMS];
            float *at = out + (size_t)k * t->out_stride;
            prefetch_below(b);
            for (int r = 0; r < PART && i == 2 && k + r < rows; r++)
                for (int j = 0; j < wide; j++)
                    __builtin_prefetch(at + (size_t)r * t->out_stride + 16 * j, 1);
            quad_products(sum, panel, x + k, chunks, x + all->block + (size_t)p * 16 * chunks,
                          wide);
            if (add_quad(sum, waiting[p], i, wide)) put(t, at, sum, wide, rows - k);
        }
}

TARGET static void multiply_16(const radar_tile *t, const uint32_t *panel, const uint32_t *x,
                               const radar_panel_x *all, below *b, size_t chunks, float *out,
                               int rows) {
    multiply(t, panel, x, all, b, chunks, out, 1, rows);
}

TARGET static void multiply_32(const radar_tile *t, const uint32_t *panel, const uint32_t *x,
                               const radar_panel_x *all, below *b, size_t chunks, float *out,
                               int rows) {
    multiply(t, panel, x, all, b, chunks, out, 2, rows);
}

/* All rows of x times the tile, whose rows are `width` in the panel and have `elements` elements and row_bytes bytes.  While
 * they are multiplied the tile below comes from memory. */
static void multiply_all(const radar_tile *t, const uint32_t *panel, int width,
                         const radar_panel_x *x, int64_t elements, size_t row_bytes) {
    size_t chunks = (size_t)elements / RADAR_PANEL_LANES;
    const uint32_t *q = x->q;
    below b = below_of(t, row_bytes);
    for (int m = 0; m < t->M; m += RADAR_PANEL_X, q += x->block) {
        float *out = t->out + (size_t)m * t->out_stride;
        int rows = t->M - m < RADAR_PANEL_X ? t->M - m : RADAR_PANEL_X;
        (width == 32 ? multiply_32 : multiply_16)(t, panel, q, x, &b, chunks, out, rows);
    }
}
