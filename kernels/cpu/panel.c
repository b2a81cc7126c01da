/* Rearranges W and x by lane, 16 x 16 elements at a time. */
#include "kernels/cpu/panel.h"

#include <immintrin.h>

#include "kernels/cpu/dequantize.h"

#define LANES RADAR_PANEL_LANES
#define STRETCH 256 /* columns dequantised at a time: whole blocks of every type */

/* The lane at each place of the four quads: neighbours are added first, then pairs of them, as in sum16.h. */
static const uint8_t lane_at[LANES] = {0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15};

/* v[i] lane j := v[j] lane i */
RADAR_AVX512 static inline __attribute__((always_inline)) void transpose(__m512 v[LANES]) {
    __m512d u[LANES];
    for (int r = 0; r < LANES; r += 4) {
        __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(v[r], v[r + 1]));
        __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(v[r], v[r + 1]));
        __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(v[r + 2], v[r + 3]));
        __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(v[r + 2], v[r + 3]));
        u[r] = _mm512_unpacklo_pd(a, c);
        u[r + 1] = _mm512_unpackhi_pd(a, c);
        u[r + 2] = _mm512_unpacklo_pd(b, d);
        u[r + 3] = _mm512_unpackhi_pd(b, d);
    }
    for (int k = 0; k < 4; k++) {
        __m512 a = _mm512_castpd_ps(u[k]), b = _mm512_castpd_ps(u[4 + k]);
        __m512 c = _mm512_castpd_ps(u[8 + k]), d = _mm512_castpd_ps(u[12 + k]);
        __m512 p = _mm512_shuffle_f32x4(a, b, 0x44), q = _mm512_shuffle_f32x4(a, b, 0xee);
        __m512 r = _mm512_shuffle_f32x4(c, d, 0x44), s = _mm512_shuffle_f32x4(c, d, 0xee);
        v[k] = _mm512_shuffle_f32x4(p, r, 0x88);
        v[4 + k] = _mm512_shuffle_f32x4(p, r, 0xdd);
        v[8 + k] = _mm512_shuffle_f32x4(q, s, 0x88);
        v[12 + k] = _mm512_shuffle_f32x4(q, s, 0xdd);
    }
}

/* 16 registers, one for each lane, into the quads of a chunk, `width` elements from lane to lane. */
RADAR_AVX512 static inline __attribute__((always_inline)) void
put_chunk(uint32_t *chunk, size_t quad, int width, const __m512 v[LANES]) {
    for (int i = 0; i < LANES; i++)
        _mm512_storeu_ps(chunk + (size_t)(i / 4) * quad + i % 4 * width, v[lane_at[i]]);
}

/* ---- x: a store of 16 rows writes 4 too many, which the next lane or the line behind a quad takes ---- */

RADAR_AVX512 void radar_panel_x_f32(const radar_panel_x *p, int b, const float *x, size_t x_stride,
                                    int n, int64_t cols) {
    uint32_t *q = p->q + (size_t)b * p->block;
    for (int64_t c = 0; c < cols; c += LANES, q += 4 * RADAR_PANEL_X) {
        __m512 v[LANES];
        for (int m = 0; m < LANES; m++)
            v[m] = m < n ? _mm512_loadu_ps(x + (size_t)m * x_stride + c) : _mm512_setzero_ps();
        transpose(v);
        put_chunk(q, p->quad, RADAR_PANEL_X, v);
    }
}

RADAR_AVX512_BF16 static inline __attribute__((always_inline)) __m512 pairs_at(const float *x) {
    return (__m512)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));
}

RADAR_AVX512_BF16 void radar_panel_x_bf16(const radar_panel_x *p, int b, const float *x,
                                          size_t x_stride, int n, int64_t cols) {
    uint32_t *q = p->q + (size_t)b * p->block;
    for (int64_t c = 0; c < cols; c += 2 * LANES, q += 4 * RADAR_PANEL_X) {
        __m512 v[LANES];
        for (int m = 0; m < LANES; m++)
            v[m] = m < n ? pairs_at(x + (size_t)m * x_stride + c) : _mm512_setzero_ps();
        transpose(v);
        put_chunk(q, p->quad, RADAR_PANEL_X, v);
    }
}

/* ---- W ---- */

/* 16 rows from w on, of which only `rows` are there; panel: where their first chunk goes, `width` elements to the next. */
RADAR_AVX512 static void arrange(uint32_t *panel, size_t quad, int width, const uint8_t *w,
                                 size_t stride, int rows, int64_t chunks) {
    for (int64_t i = 0; i < chunks; i++, w += 64, panel += 4 * width) {
        __m512 v[LANES];
        for (int r = 0; r < LANES; r++)
            v[r] = _mm512_loadu_ps(w + (size_t)(r < rows ? r : rows - 1) * stride);
        transpose(v);
        put_chunk(panel, quad, width, v);
    }
}

static int width_of(const radar_tile *t) { return t->rows > 16 ? 32 : 16; }

/* Elements of 32 bits as stored. */
static int arrange_stored(uint32_t *panel, const radar_tile *t, int64_t chunks) {
    int width = width_of(t);
    for (int r = 0; r < width; r += 16)
        arrange(panel + r, radar_panel_quad(chunks, width), width, t->w + (size_t)r * t->stride,
                t->stride, t->rows - r, chunks);
    return width;
}

int radar_panel_w_bf16(uint32_t *panel, const radar_tile *t) {
    return arrange_stored(panel, t, t->cols / (2 * LANES));
}

int radar_panel_w_f32(radar_isa isa, uint32_t *panel, const radar_tile *t) {
    int64_t chunks = t->cols / LANES;
    if (t->type == RADAR_F32) return arrange_stored(panel, t, chunks);
    _Alignas(64) float part[16][STRETCH];
    int width = width_of(t);
    size_t quad = radar_panel_quad(chunks, width);
    for (int r = 0; r < width; r += 16) {
        int rows = t->rows - r < 16 ? t->rows - r : 16;
        for (int64_t c = 0; c < t->cols; c += STRETCH) {
            int64_t end = c + STRETCH < t->cols ? c + STRETCH : t->cols;
            for (int i = 0; i < rows; i++)
                radar_cpu_dequantize(isa, part[i], t->type, t->w + (size_t)(r + i) * t->stride, c,
                                     end);
            arrange(panel + r + c / LANES * 4 * width, quad, width, (const uint8_t *)part,
                    sizeof *part, rows, (end - c) / LANES);
        }
    }
    return width;
}
