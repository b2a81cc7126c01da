/* The int8 path with AVX-512 VNNI: a lane is a row, so no sum across lanes is needed; one register holds 4 columns of 16 rows,
 * as VPDPBUSD wants them.  Weights are unsigned there; their offset is taken out by starting the integer sum at
 * -offset sum(xq).
 *
 * Up to 8 rows of x are multiplied while the packed tile streams by; for more the tile is unpacked once into a panel. */
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/packed.h"

#define INLINE RADAR_AVX512 static inline __attribute__((always_inline))
#define MANY 8     /* rows of x that share the weights' registers */
#define AHEAD 2048 /* bytes: the prefetchers of the hardware stop at every page */

/* One block of 32 columns of 16 rows. */
typedef struct block {
    __m512i v[8]; /* columns 4 i .. 4 i + 3, unsigned */
    __m512 d, m;
    __m512i scale[2]; /* Q6_K */
} block;

/* A place in a packed tile, and the head that its block stands under. */
typedef struct reader {
    const uint8_t *at;
    __m512 d, m;
} reader;

/* ---- unpacking ---- */

INLINE __m512 f16_at(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

INLINE __m512i bytes_at(const uint8_t *p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}

/* a | (b & mask) */
INLINE __m512i or_bits(__m512i a, __m512i b, int mask) {
    return _mm512_ternarylogic_epi64(a, b, _mm512_set1_epi8((char)mask), 0xf8);
}

INLINE void read_low(block *w, radar_dtype type, const uint8_t *low) {
    if (type == RADAR_Q8_0) {
        for (int i = 0; i < 8; i++) w->v[i] = _mm512_loadu_si512(low + 64 * i);
        return;
    }
    const __m512i nibble = _mm512_set1_epi8(15);
    for (int i = 0; i < 4; i++) {
        __m512i c = _mm512_loadu_si512(low + 64 * i);
        w->v[i] = _mm512_and_si512(c, nibble);
        w->v[i + 4] = _mm512_and_si512(_mm512_srli_epi16(c, 4), nibble);
    }
}

INLINE __m512i shift_left(__m512i v, int by) {
    return by >= 0 ? _mm512_slli_epi16(v, (unsigned)by) : _mm512_srli_epi16(v, (unsigned)-by);
}

INLINE void read_high(block *w, radar_dtype type, const uint8_t *high) {
    if (type == RADAR_Q6_K) {
        for (int i = 0; i < 8; i++) {
            __m512i bits = _mm512_loadu_si512(high + 64 * (i / 4));
            w->v[i] = or_bits(w->v[i], shift_left(bits, 4 - 2 * (i % 4)), 0x30);
        }
    } else {
        __m512i bits = _mm512_loadu_si512(high);
        for (int i = 0; i < 8; i++) w->v[i] = or_bits(w->v[i], shift_left(bits, 4 - i), 0x10);
    }
}

/* Block b of the tile; the reader moves on to the next. */
INLINE void read_block(block *w, reader *r, radar_dtype type, int64_t b) {
    bool k = radar_quant_is_k(type), has_min = radar_quant_has_min(type);
    if (b % radar_packed_blocks(type) == 0) {
        r->d = f16_at(r->at);
        if (has_min) r->m = f16_at(r->at + 32);
        r->at += radar_packed_head(type);
    }
    const uint8_t *p = r->at;
    w->d = r->d;
    w->m = r->m;
    if (type == RADAR_Q6_K) {
        w->scale[0] = bytes_at(p);
        w->scale[1] = bytes_at(p + 16);
    } else if (k) {
        w->d = _mm512_mul_ps(r->d, _mm512_cvtepi32_ps(bytes_at(p)));
        w->m = _mm512_mul_ps(r->m, _mm512_cvtepi32_ps(bytes_at(p + 16)));
    }
    p += k ? 32 : 0;
    read_low(w, type, p + radar_packed_high(type));
    if (radar_packed_high(type)) read_high(w, type, p);
    r->at += radar_packed_block(type);
}

/* ---- multiplying ---- */

INLINE __m512i broadcast_4(const int8_t *x) {
    int32_t u;
    memcpy(&u, x, sizeof u);
    return _mm512_set1_epi32(u);
}

/* times: the offset. */
INLINE __m512i first_sum(int32_t neg_sum, radar_dtype type) {
    int offset = radar_quant_offset(type);
    return offset ? _mm512_set1_epi32(neg_sum * offset) : _mm512_setzero_si512();
}

/* The integer sums of a block and the 32 values x; at: the block's index in x8's arrays. */
INLINE __m512i block_sum(const block *w, radar_dtype type, const int8_t *x, const radar_x8 *x8,
                         size_t at) {
    int32_t whole = x8->neg_sum[at], half = type == RADAR_Q6_K ? x8->neg_half[at] : whole;
    __m512i a = first_sum(half, type);
    __m512i b = type == RADAR_Q6_K ? first_sum(whole - half, type) : _mm512_setzero_si512();
    for (int i = 0; i < 4; i++) {
        a = _mm512_dpbusd_epi32(a, w->v[i], broadcast_4(x + 4 * i));
        b = _mm512_dpbusd_epi32(b, w->v[i + 4], broadcast_4(x + 4 * i + 16));
    }
    if (type == RADAR_Q6_K) {
        a = _mm512_mullo_epi32(a, w->scale[0]);
        b = _mm512_mullo_epi32(b, w->scale[1]);
    }
    return _mm512_add_epi32(a, b);
}

/* n sums at once, each register of weights used for all of them. */
INLINE void block_sums(__m512i *sum, const block *w, radar_dtype type, const int8_t *x,
                       const radar_x8 *x8, size_t at, int n) {
    for (int i = 0; i < n; i++)
        sum[i] = first_sum(x8->neg_sum[at + (size_t)i * x8->b_stride], type);
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < n; i++)
            sum[i] = _mm512_dpbusd_epi32(sum[i], w->v[k],
                                         broadcast_4(x + (size_t)i * x8->q_stride + 4 * k));
}

INLINE __m512 add_block(__m512 acc, __m512i sum, const block *w, radar_dtype type,
                        const radar_x8 *x8, size_t at) {
    __m512 scale = _mm512_mul_ps(w->d, _mm512_set1_ps(x8->dx[at]));
    acc = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(sum), acc);
    return radar_quant_has_min(type) ? _mm512_fmadd_ps(w->m, _mm512_set1_ps(x8->dx_sum[at]), acc)
                                     : acc;
}

INLINE void put_row(const radar_tile *t, int m, __m512 acc) {
    __mmask16 keep = (__mmask16)((1u << t->rows) - 1);
    if (t->bias) acc = _mm512_add_ps(acc, _mm512_maskz_loadu_ps(keep, t->bias));
    _mm512_mask_storeu_ps(t->out + (size_t)m * t->out_stride, keep, acc);
}

/* n rows of x from row m on; panel NULL: the packed tile is read. */
INLINE void multiply(const radar_tile *t, const radar_x8 *x8, radar_dtype type, const block *panel,
                     int m, int n) {
    const int8_t *x = x8->q + (size_t)m * x8->q_stride;
    reader r = {t->packed, _mm512_setzero_ps(), _mm512_setzero_ps()};
    __m512 acc[MANY];
    for (int i = 0; i < n; i++) acc[i] = _mm512_setzero_ps();
    for (int64_t b = 0; b < t->cols / RADAR_QUANT; b++, x += RADAR_QUANT) {
        block now;
        const block *w = panel ? panel + b : &now;
        if (!panel) {
            for (size_t at = 0; at < radar_packed_block(type); at += 64)
                _mm_prefetch((const char *)r.at + AHEAD + at, _MM_HINT_T0);
            read_block(&now, &r, type, b);
        }
        size_t at = (size_t)m * x8->b_stride + (size_t)b;
        __m512i sum[MANY];
        if (type == RADAR_Q6_K || n < 3)
            for (int i = 0; i < n; i++)
                sum[i] = block_sum(w, type, x + (size_t)i * x8->q_stride, x8,
                                   at + (size_t)i * x8->b_stride);
        else
            block_sums(sum, w, type, x, x8, at, n);
        for (int i = 0; i < n; i++)
            acc[i] = add_block(acc[i], sum[i], w, type, x8, at + (size_t)i * x8->b_stride);
    }
    for (int i = 0; i < n; i++) put_row(t, m + i, acc[i]);
}

INLINE void few_rows(const radar_tile *t, const radar_x8 *x8, radar_dtype type, int m) {
    switch (t->M - m) {
#define ROWS(n) \
    case n: \
        multiply(t, x8, type, NULL, m, n); \
        break;
        ROWS(1)
        ROWS(2)
        ROWS(3)
        ROWS(4)
        ROWS(5)
        ROWS(6)
        ROWS(7)
        ROWS(8)
#undef ROWS
    }
}

INLINE void many_rows(const radar_tile *t, const radar_x8 *x8, radar_dtype type, block *panel) {
    reader r = {t->packed, _mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t b = 0; b < t->cols / RADAR_QUANT; b++) read_block(panel + b, &r, type, b);
    int m = 0;
    for (; t->M - m > MANY; m += MANY) {
        for (int i = m + MANY; i < m + 2 * MANY && i < t->M; i++) /* what is written next */
            __builtin_prefetch(t->out + (size_t)i * t->out_stride, 1);
        multiply(t, x8, type, panel, m, MANY);
    }
    few_rows(t, x8, type, m);
}

/* One function for each type, so that all choices are made by the compiler. */
#define TYPE(name, type) \
    RADAR_AVX512 static void name(const radar_tile *t, const radar_x8 *x8, block *panel) { \
        if (t->M <= MANY) \
            few_rows(t, x8, type, 0); \
        else \
            many_rows(t, x8, type, panel); \
    }
TYPE(tile_q8_0, RADAR_Q8_0)
TYPE(tile_q4_0, RADAR_Q4_0)
TYPE(tile_q4_1, RADAR_Q4_1)
TYPE(tile_q5_0, RADAR_Q5_0)
TYPE(tile_q5_1, RADAR_Q5_1)
TYPE(tile_q4_k, RADAR_Q4_K)
TYPE(tile_q5_k, RADAR_Q5_K)
TYPE(tile_q6_k, RADAR_Q6_K)
#undef TYPE

void radar_tile_int8_avx512(const radar_tile *t, const radar_x8 *x8, void *scratch) {
    static void (*const tile[RADAR_DTYPE_COUNT])(const radar_tile *, const radar_x8 *, block *) = {
        [RADAR_Q8_0] = tile_q8_0, [RADAR_Q4_0] = tile_q4_0, [RADAR_Q4_1] = tile_q4_1,
        [RADAR_Q5_0] = tile_q5_0, [RADAR_Q5_1] = tile_q5_1, [RADAR_Q4_K] = tile_q4_k,
        [RADAR_Q5_K] = tile_q5_k, [RADAR_Q6_K] = tile_q6_k,
    };
    tile[t->type](t, x8, scratch);
}
