/* The int8 path of matmul.h: quantised weights times x rounded to int8, integer sums per block of 32, one fma each.
 *
 * AVX-512: the 16 rows of a tile are unpacked once into a panel in which one register holds 4 consecutive weights of each
 * row, as VPDPBUSD wants them; a lane is a row, so no sum across lanes is needed.  Weights are unsigned there: Q4 nibbles as
 * they are, Q8_0 with the sign bit flipped; the offset (8, 128) is taken out by starting the integer sum at -offset sum(xq). */
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/tile.h"
#include "runtime/base.h"

#define BLOCK 32
#define PANEL_BLOCK (BLOCK * RADAR_TILE_ROWS) /* bytes of one block of 16 rows */

typedef struct panel {
    uint8_t *q; /* [blocks][8][16 rows][4] */
    float *d;   /* [blocks][16 rows] */
    float *m;   /* the same, Q4_1 only */
} panel;

/* ---- AVX-512: the arithmetic of one block, the same wherever it stands ---- */

/* Where blocks go: into a panel, or, for one row of x, straight into its sums. */
typedef struct sink {
    panel w;
    const radar_x8 *x8;
    __m512 acc;
    bool direct, has_min;
    unsigned shift; /* log2 of the weights' offset */
} sink;

/* at: index of the block in x8's arrays. */
RADAR_AVX512 static inline __attribute__((always_inline)) __m512i
first_sum(const radar_x8 *x8, size_t at, bool has_min, unsigned shift) {
    if (has_min) return _mm512_setzero_si512();
    return _mm512_slli_epi32(_mm512_set1_epi32(x8->neg_sum[at]), shift);
}

RADAR_AVX512 static inline __attribute__((always_inline)) __m512i broadcast_4(const int8_t *x) {
    int32_t u;
    memcpy(&u, x, sizeof u);
    return _mm512_set1_epi32(u);
}

RADAR_AVX512 static inline __attribute__((always_inline)) __m512
add_block(__m512 acc, __m512i sum, __m512 d, __m512 m, const radar_x8 *x8, size_t at,
          bool has_min) {
    acc =
        _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(x8->dx[at])), _mm512_cvtepi32_ps(sum), acc);
    return has_min ? _mm512_fmadd_ps(m, _mm512_set1_ps(x8->dx_sum[at]), acc) : acc;
}

/* ---- AVX-512: reading 16 rows as stored ---- */

/* The rows that come after a tile, line by line: fetched while the tile is unpacked.  The 16 interleaved streams of one
 * tile are more than the hardware's prefetchers follow. */
typedef struct ahead {
    const uint8_t *row, *at;
    size_t stride, bytes; /* bytes used of each row */
    int64_t rows;         /* left */
} ahead;

static inline __attribute__((always_inline)) void fetch(ahead *a, int lines) {
    for (; lines > 0 && a->rows > 0; lines--) {
        _mm_prefetch((const char *)a->at, _MM_HINT_T0);
        a->at += 64;
        if (a->at < a->row + a->bytes) continue;
        a->at = a->row += a->stride;
        a->rows--;
    }
}

/* 16 bytes at p of 16 rows: dword i of row r becomes lane r of c[i]. */
RADAR_AVX512 static inline __attribute__((always_inline)) void columns(__m512i c[4],
                                                                       const uint8_t *p, size_t s) {
    __m512i z[4];
    for (int i = 0; i < 4; i++) {
        const uint8_t *row = p + (size_t)i * s;
        z[i] = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)row));
        z[i] = _mm512_inserti32x4(z[i], _mm_loadu_si128((const __m128i *)(row + 4 * s)), 1);
        z[i] = _mm512_inserti32x4(z[i], _mm_loadu_si128((const __m128i *)(row + 8 * s)), 2);
        z[i] = _mm512_inserti32x4(z[i], _mm_loadu_si128((const __m128i *)(row + 12 * s)), 3);
    }
    __m512i a = _mm512_unpacklo_epi32(z[0], z[1]), b = _mm512_unpackhi_epi32(z[0], z[1]);
    __m512i e = _mm512_unpacklo_epi32(z[2], z[3]), f = _mm512_unpackhi_epi32(z[2], z[3]);
    c[0] = _mm512_unpacklo_epi64(a, e);
    c[1] = _mm512_unpackhi_epi64(a, e);
    c[2] = _mm512_unpacklo_epi64(b, f);
    c[3] = _mm512_unpackhi_epi64(b, f);
}

/* The dword at p of 16 rows. */
RADAR_AVX512 static inline __attribute__((always_inline)) __m512i column(const uint8_t *p,
                                                                         size_t s) {
    __m512i rows = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_i32gather_epi32(_mm512_mullo_epi32(rows, _mm512_set1_epi32((int)s)), p, 1);
}

RADAR_AVX512 static inline __m512 low_f16(__m512i v) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v));
}

/* Takes one block of 16 rows: v[i] holds weights 4 i .. 4 i + 3 of each row, dm the f16 scale and, above it, the minimum.
 * For one row of x the products are formed at once, without the panel between: the same operations in the same order. */
RADAR_AVX512 static inline __attribute__((always_inline)) void
take_block(sink *to, int64_t b, const __m512i v[8], __m512i dm) {
    __m512 d = low_f16(dm),
           m = to->has_min ? low_f16(_mm512_srli_epi32(dm, 16)) : _mm512_setzero_ps();
    if (!to->direct) {
        for (int i = 0; i < 8; i++) _mm512_store_si512(to->w.q + b * PANEL_BLOCK + 64 * i, v[i]);
        _mm512_store_ps(to->w.d + b * RADAR_TILE_ROWS, d);
        if (to->has_min) _mm512_store_ps(to->w.m + b * RADAR_TILE_ROWS, m);
        return;
    }
    __m512i sum = first_sum(to->x8, (size_t)b, to->has_min, to->shift),
            other = _mm512_setzero_si512();
    const int8_t *x = to->x8->q + b * BLOCK;
    for (int i = 0; i < 8; i += 2) {
        sum = _mm512_dpbusd_epi32(sum, v[i], broadcast_4(x + 4 * i));
        other = _mm512_dpbusd_epi32(other, v[i + 1], broadcast_4(x + 4 * i + 4));
    }
    to->acc =
        add_block(to->acc, _mm512_add_epi32(sum, other), d, m, to->x8, (size_t)b, to->has_min);
}

/* Byte i of a Q4 block holds elements i and i + 16. */
RADAR_AVX512 static inline __attribute__((always_inline)) void
take_nibbles(sink *to, int64_t b, const __m512i c[4], __m512i dm) {
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i v[8];
    for (int i = 0; i < 4; i++) {
        v[i] = _mm512_and_si512(c[i], nibble);
        v[i + 4] = _mm512_and_si512(_mm512_srli_epi16(c[i], 4), nibble);
    }
    take_block(to, b, v, dm);
}

RADAR_AVX512 static inline __attribute__((always_inline)) void
read_q4(sink *to, const uint8_t *w, size_t s, int64_t begin, int64_t blocks, ahead *next) {
    size_t head = to->has_min ? 4 : 2, bytes = head + 16;
    for (int64_t b = begin; b < blocks; b++) {
        const uint8_t *p = w + (size_t)b * bytes;
        __m512i c[4];
        columns(c, p + head, s);
        take_nibbles(to, b, c, column(p, s));
        fetch(next, 6);
    }
}

/* Four blocks of Q4_1 are 20 dwords: {d, m}, 4 of nibbles, {d, m}, ...: five transposes and no gather. */
RADAR_AVX512 static inline __attribute__((always_inline)) void
read_q4_1(sink *to, const uint8_t *w, size_t s, int64_t blocks, ahead *next) {
    int64_t b = 0;
    for (; b + 4 <= blocks; b += 4) {
        __m512i c[20];
        for (int i = 0; i < 5; i++) columns(c + 4 * i, w + (size_t)b * 20 + 16 * i, s);
        for (int k = 0; k < 4; k++) {
            take_nibbles(to, b + k, c + 5 * k + 1, c[5 * k]);
            fetch(next, 6);
        }
    }
    read_q4(to, w, s, b, blocks, next);
}

RADAR_AVX512 static inline __attribute__((always_inline)) void
read_q8_0(sink *to, const uint8_t *w, size_t s, int64_t blocks, ahead *next) {
    const __m512i sign = _mm512_set1_epi8(-128);
    for (int64_t b = 0; b < blocks; b++) {
        const uint8_t *p = w + (size_t)b * 34;
        __m512i v[8];
        columns(v, p + 2, s);
        columns(v + 4, p + 18, s);
        for (int i = 0; i < 8; i++) v[i] = _mm512_xor_si512(v[i], sign);
        take_block(to, b, v, column(p, s));
        fetch(next, 10);
    }
}

RADAR_AVX512 static inline __attribute__((always_inline)) void put_row(const radar_tile *t, int m,
                                                                       __m512 acc) {
    __mmask16 keep = (__mmask16)((1u << t->rows) - 1);
    if (t->bias) acc = _mm512_add_ps(acc, _mm512_maskz_loadu_ps(keep, t->bias));
    _mm512_mask_storeu_ps(t->out + (size_t)m * t->out_stride, keep, acc);
}

/* ---- AVX-512: multiplying with a panel ---- */

/* n rows of x from row m on. */
RADAR_AVX512 static inline __attribute__((always_inline)) void
multiply(const radar_tile *t, const sink *from, int m, int n) {
    const radar_x8 *x8 = from->x8;
    const int8_t *x = x8->q + (size_t)m * x8->q_stride;
    __m512 acc[8];
    for (int i = 0; i < n; i++) acc[i] = _mm512_setzero_ps();
    for (int64_t b = 0; b < t->cols / BLOCK; b++) {
        size_t at = (size_t)m * x8->b_stride + (size_t)b;
        __m512i sum[8];
        for (int i = 0; i < n; i++)
            sum[i] = first_sum(x8, at + (size_t)i * x8->b_stride, from->has_min, from->shift);
        for (int k = 0; k < 8; k++) {
            __m512i v = _mm512_load_si512(from->w.q + b * PANEL_BLOCK + 64 * k);
            for (int i = 0; i < n; i++)
                sum[i] = _mm512_dpbusd_epi32(
                    sum[i], v, broadcast_4(x + (size_t)i * x8->q_stride + b * BLOCK + 4 * k));
        }
        __m512 d = _mm512_load_ps(from->w.d + b * RADAR_TILE_ROWS);
        __m512 min = from->has_min ? _mm512_load_ps(from->w.m + b * RADAR_TILE_ROWS) : d;
        for (int i = 0; i < n; i++)
            acc[i] =
                add_block(acc[i], sum[i], d, min, x8, at + (size_t)i * x8->b_stride, from->has_min);
    }
    for (int i = 0; i < n; i++) put_row(t, m + i, acc[i]);
}

RADAR_AVX512 static inline __attribute__((always_inline)) void multiply_all(const radar_tile *t,
                                                                            const sink *from) {
    int m = 0;
    for (; m + 8 <= t->M; m += 8) multiply(t, from, m, 8);
    if (m + 4 <= t->M) multiply(t, from, m, 4), m += 4;
    if (m + 2 <= t->M) multiply(t, from, m, 2), m += 2;
    if (m < t->M) multiply(t, from, m, 1);
}

/* ---- AVX-512: one function for each type and for one or many rows of x, so that all choices are made by the compiler ---- */

RADAR_AVX512 static inline __attribute__((always_inline)) void tile(const radar_tile *t,
                                                                    const radar_x8 *x8, panel w,
                                                                    const uint8_t *p, size_t s,
                                                                    radar_dtype type, bool direct) {
    int64_t blocks = t->cols / BLOCK;
    const uint8_t *below = p + RADAR_TILE_ROWS * s;
    ahead next = {below, below, s, (size_t)blocks * radar_dtype_block_bytes(type),
                  radar_min64(t->below, RADAR_TILE_ROWS)};
    sink to = {w, x8, _mm512_setzero_ps(), direct, type == RADAR_Q4_1, type == RADAR_Q4_0 ? 3 : 7};
    if (type == RADAR_Q4_1)
        read_q4_1(&to, p, s, blocks, &next);
    else if (type == RADAR_Q4_0)
        read_q4(&to, p, s, 0, blocks, &next);
    else
        read_q8_0(&to, p, s, blocks, &next);
    if (direct)
        put_row(t, 0, to.acc);
    else
        multiply_all(t, &to);
}

#define TILE(name, type) \
    RADAR_AVX512 static void name(const radar_tile *t, const radar_x8 *x8, panel w, \
                                  const uint8_t *p, size_t s) { \
        if (t->M == 1) \
            tile(t, x8, w, p, s, type, true); \
        else \
            tile(t, x8, w, p, s, type, false); \
    }
TILE(tile_q8_0, RADAR_Q8_0)
TILE(tile_q4_0, RADAR_Q4_0)
TILE(tile_q4_1, RADAR_Q4_1)
#undef TILE

static void tile_avx512(const radar_tile *t, const radar_x8 *x8, uint8_t *scratch) {
    int64_t blocks = t->cols / BLOCK;
    panel w = {.q = scratch};
    w.d = (float *)(scratch + blocks * PANEL_BLOCK);
    w.m = w.d + blocks * RADAR_TILE_ROWS;
    const uint8_t *p = t->w;
    size_t s = t->stride;
    if (t->rows <
        RADAR_TILE_ROWS) { /* missing rows are zeros, not the memory behind the last one */
        size_t bytes = (size_t)blocks * radar_dtype_block_bytes(t->type);
        uint8_t *copy = (uint8_t *)(w.m + blocks * RADAR_TILE_ROWS);
        for (int r = 0; r < t->rows; r++)
            memcpy(copy + (size_t)r * bytes, p + (size_t)r * s, bytes);
        memset(copy + (size_t)t->rows * bytes, 0, (size_t)(RADAR_TILE_ROWS - t->rows) * bytes);
        p = copy;
        s = bytes;
    }
    if (t->type == RADAR_Q4_1)
        tile_q4_1(t, x8, w, p, s);
    else if (t->type == RADAR_Q4_0)
        tile_q4_0(t, x8, w, p, s);
    else
        tile_q8_0(t, x8, w, p, s);
}

/* ---- plain C: the same sums, row by row ---- */

/* Integer weights of one stored row: q [cols], d and m [blocks] (m = 0 but for Q4_1). */
static void unpack_row(radar_dtype type, const uint8_t *p, int64_t blocks, int8_t *q, float *d,
                       float *m) {
    size_t bytes = radar_dtype_block_bytes(type), head = type == RADAR_Q4_1 ? 4 : 2;
    int offset = type == RADAR_Q4_0 ? 8 : 0;
    for (int64_t b = 0; b < blocks; b++, p += bytes, q += BLOCK) {
        uint16_t h[2];
        memcpy(h, p, sizeof h);
        d[b] = radar_f16_to_f32(h[0]);
        m[b] = type == RADAR_Q4_1 ? radar_f16_to_f32(h[1]) : 0.0f;
        if (type == RADAR_Q8_0) {
            memcpy(q, p + head, BLOCK);
            continue;
        }
        for (int i = 0; i < 16; i++) {
            q[i] = (int8_t)((p[head + (size_t)i] & 15) - offset);
            q[i + 16] = (int8_t)((p[head + (size_t)i] >> 4) - offset);
        }
    }
}

typedef struct plain_row {
    int8_t *q;
    float *d, *m;
    int64_t blocks;
    bool has_min;
} plain_row;

static inline __attribute__((always_inline)) float dot_body(const plain_row *w, const radar_x8 *x8,
                                                            int row) {
    const int8_t *x = x8->q + (size_t)row * x8->q_stride;
    float acc = 0.0f;
    for (int64_t b = 0; b < w->blocks; b++) {
        size_t at = (size_t)row * x8->b_stride + (size_t)b;
        int32_t sum = 0;
        for (int i = 0; i < BLOCK; i++) sum += w->q[b * BLOCK + i] * x[b * BLOCK + i];
        acc = __builtin_fmaf(w->d[b] * x8->dx[at], (float)sum, acc);
        if (w->has_min) acc = __builtin_fmaf(w->m[b], x8->dx_sum[at], acc);
    }
    return acc;
}

static float dot_plain(const plain_row *w, const radar_x8 *x8, int row) {
    return dot_body(w, x8, row);
}
RADAR_FMA static float dot_fma(const plain_row *w, const radar_x8 *x8, int row) {
    return dot_body(w, x8, row);
}

static void tile_plain(radar_isa isa, const radar_tile *t, const radar_x8 *x8, uint8_t *scratch) {
    plain_row w = {
        .q = (int8_t *)scratch, .blocks = t->cols / BLOCK, .has_min = t->type == RADAR_Q4_1};
    w.d = (float *)(scratch + w.blocks * BLOCK);
    w.m = w.d + w.blocks;
    for (int r = 0; r < t->rows; r++) {
        unpack_row(t->type, t->w + (size_t)r * t->stride, w.blocks, w.q, w.d, w.m);
        for (int m = 0; m < t->M; m++) {
            float y = isa.fma ? dot_fma(&w, x8, m) : dot_plain(&w, x8, m);
            t->out[(size_t)m * t->out_stride + (size_t)r] = t->bias ? y + t->bias[r] : y;
        }
    }
}

void radar_tile_int8(radar_isa isa, const radar_tile *t, const radar_x8 *x8, void *scratch) {
    if (isa.avx512)
        tile_avx512(t, x8, scratch);
    else
        tile_plain(isa, t, x8, scratch);
}
