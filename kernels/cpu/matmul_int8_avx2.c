/* The int8 path with AVX2: a lane is a row, 8 rows at a time, in the same order of sums as with AVX-512 and so with its bits.
 *
 * VPMADDUBSW adds pairs of products in 16 bits that saturate.  Unsigned weights times x stay below that for as many steps as
 * `steps` says (4 bits: 8 x 2 x 15 x 127 = 30480; 5 bits: 4 x 2 x 31 x 127; 6 bits: 2 x 2 x 63 x 127); Q8_0 goes in as
 * |q| times x with q's sign, 2 x 128 x 127 = 32512. */
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/packed.h"

#define INLINE RADAR_AVX2 static inline __attribute__((always_inline))
#define MANY 4 /* rows of x that share the unpacked weights */
#define ROWS 8 /* of the tile, in one register */

/* A place in a packed tile, and the head that its block stands under. */
typedef struct reader {
    const uint8_t *at;
    __m256 d, m;
} reader;

/* What belongs to a whole block of 8 rows. */
typedef struct block {
    __m256 d, m;
    __m256i scale[2]; /* Q6_K */
    const uint8_t *high, *low;
} block;

INLINE int steps(radar_dtype type) {
    if (type == RADAR_Q8_0) return 1;
    return type == RADAR_Q6_K ? 2 : radar_packed_high(type) ? 4 : 8;
}

/* ---- unpacking ---- */

INLINE __m256 f16_at(const uint8_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

INLINE __m256i bytes_at(const uint8_t *p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
}

/* Scales of block b, rows [row, row + 8); the reader moves on to the next. */
INLINE void read_block(block *w, reader *r, radar_dtype type, int64_t b, int row) {
    bool k = radar_quant_is_k(type), has_min = radar_quant_has_min(type);
    if (b % radar_packed_blocks(type) == 0) {
        r->d = f16_at(r->at + 2 * row);
        if (has_min) r->m = f16_at(r->at + 32 + 2 * row);
        r->at += radar_packed_head(type);
    }
    const uint8_t *p = r->at;
    w->d = r->d;
    w->m = r->m;
    if (type == RADAR_Q6_K) {
        w->scale[0] = bytes_at(p + row);
        w->scale[1] = bytes_at(p + 16 + row);
    } else if (k) {
        w->d = _mm256_mul_ps(r->d, _mm256_cvtepi32_ps(bytes_at(p + row)));
        w->m = _mm256_mul_ps(r->m, _mm256_cvtepi32_ps(bytes_at(p + 16 + row)));
    }
    w->high = p + (k ? 32 : 0) + 4 * row;
    w->low = w->high + radar_packed_high(type);
    r->at += radar_packed_block(type);
}

INLINE __m256i shift_left(__m256i v, int by) {
    return by >= 0 ? _mm256_slli_epi16(v, by) : _mm256_srli_epi16(v, -by);
}

INLINE __m256i load(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }

/* Columns 4 i .. 4 i + 3 of 8 rows, unsigned; of Q8_0 signed. */
INLINE __m256i columns(const block *w, radar_dtype type, int i) {
    if (type == RADAR_Q8_0) return _mm256_xor_si256(load(w->low + 64 * i), _mm256_set1_epi8(-128));
    __m256i v = load(w->low + 64 * (i % 4));
    v = _mm256_and_si256(i < 4 ? v : _mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
    if (!radar_packed_high(type)) return v;
    bool six = type == RADAR_Q6_K;
    __m256i bits = six ? shift_left(load(w->high + 64 * (i / 4)), 4 - 2 * (i % 4))
                       : shift_left(load(w->high), 4 - i);
    return _mm256_or_si256(v, _mm256_and_si256(bits, _mm256_set1_epi8(six ? 0x30 : 0x10)));
}

/* ---- multiplying ---- */

/* Sums of pairs of products, in 16 bits; v as columns gives it. */
INLINE __m256i pairs(__m256i v, const int8_t *x, radar_dtype type) {
    int32_t u;
    memcpy(&u, x, sizeof u);
    __m256i y = _mm256_set1_epi32(u);
    if (type != RADAR_Q8_0) return _mm256_maddubs_epi16(v, y);
    return _mm256_maddubs_epi16(_mm256_abs_epi8(v), _mm256_sign_epi8(y, v));
}

/* sum[i] := the integer sums of columns [16 half, 16 half + 16) and row i of x. */
INLINE void half_sums(__m256i *sum, const block *w, radar_dtype type, const int8_t *x,
                      size_t stride, int half, int n) {
    const __m256i one = _mm256_set1_epi16(1);
    int run = steps(type) < 4 ? steps(type) : 4;
    for (int i = 0; i < n; i++) sum[i] = _mm256_setzero_si256();
    for (int k = 0; k < 4; k += run) {
        __m256i sixteen[MANY];
        for (int j = k; j < k + run; j++) {
            __m256i v = columns(w, type, 4 * half + j);
            for (int i = 0; i < n; i++) {
                __m256i p = pairs(v, x + (size_t)i * stride + 16 * half + 4 * j, type);
                sixteen[i] = j == k ? p : _mm256_add_epi16(sixteen[i], p);
            }
        }
        for (int i = 0; i < n; i++)
            sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(sixteen[i], one));
    }
}

/* The integer sums of a block, offset and Q6_K's scales included; at: the block's index in x8's arrays. */
INLINE void block_sums(__m256i *sum, const block *w, radar_dtype type, const int8_t *x,
                       const radar_x8 *x8, size_t at, int n) {
    int offset = type == RADAR_Q8_0 ? 0 : radar_quant_offset(type); /* Q8_0 is signed here */
    __m256i second[MANY];
    half_sums(sum, w, type, x, x8->q_stride, 0, n);
    half_sums(second, w, type, x, x8->q_stride, 1, n);
    for (int i = 0; i < n; i++, at += x8->b_stride) {
        if (type == RADAR_Q6_K) {
            int32_t half = x8->neg_half[at], rest = x8->neg_sum[at] - half;
            sum[i] = _mm256_add_epi32(sum[i], _mm256_set1_epi32(half * offset));
            second[i] = _mm256_add_epi32(second[i], _mm256_set1_epi32(rest * offset));
            sum[i] = _mm256_mullo_epi32(sum[i], w->scale[0]);
            second[i] = _mm256_mullo_epi32(second[i], w->scale[1]);
        } else if (offset) {
            sum[i] = _mm256_add_epi32(sum[i], _mm256_set1_epi32(x8->neg_sum[at] * offset));
        }
        sum[i] = _mm256_add_epi32(sum[i], second[i]);
    }
}

INLINE void put_row(const radar_tile *t, int m, int row, __m256 acc) {
    float lane[ROWS];
    float *out = t->out + (size_t)m * t->out_stride + row;
    int rows = t->rows - row < ROWS ? t->rows - row : ROWS;
    _mm256_storeu_ps(lane, acc);
    for (int r = 0; r < rows; r++) out[r] = t->bias ? lane[r] + t->bias[row + r] : lane[r];
}

/* Rows [row, row + 8) of the tile and n rows of x from row m on. */
INLINE void multiply(const radar_tile *t, const radar_x8 *x8, radar_dtype type, int row, int m,
                     int n) {
    const int8_t *x = x8->q + (size_t)m * x8->q_stride;
    reader r = {t->packed, _mm256_setzero_ps(), _mm256_setzero_ps()};
    __m256 acc[MANY];
    for (int i = 0; i < n; i++) acc[i] = _mm256_setzero_ps();
    for (int64_t b = 0; b < t->cols / RADAR_QUANT; b++, x += RADAR_QUANT) {
        block w;
        read_block(&w, &r, type, b, row);
        size_t at = (size_t)m * x8->b_stride + (size_t)b;
        __m256i sum[MANY];
        block_sums(sum, &w, type, x, x8, at, n);
        for (int i = 0; i < n; i++, at += x8->b_stride) {
            __m256 scale = _mm256_mul_ps(w.d, _mm256_set1_ps(x8->dx[at]));
            acc[i] = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(sum[i]), acc[i]);
            if (radar_quant_has_min(type))
                acc[i] = _mm256_fmadd_ps(w.m, _mm256_set1_ps(x8->dx_sum[at]), acc[i]);
        }
    }
    for (int i = 0; i < n; i++) put_row(t, m + i, row, acc[i]);
}

/* The two halves of the tile in turn: what the second reads is in the cache. */
INLINE void rows(const radar_tile *t, const radar_x8 *x8, radar_dtype type) {
    for (int m = 0; m < t->M;)
        if (t->M - m >= MANY) {
            for (int row = 0; row < t->rows; row += ROWS) multiply(t, x8, type, row, m, MANY);
            m += MANY;
        } else {
            for (int row = 0; row < t->rows; row += ROWS) multiply(t, x8, type, row, m, 1);
            m++;
        }
}

/* One function for each type, so that all choices are made by the compiler. */
#define TYPE(name, type) \
    RADAR_AVX2 static void name(const radar_tile *t, const radar_x8 *x8) { rows(t, x8, type); }
TYPE(tile_q8_0, RADAR_Q8_0)
TYPE(tile_q4_0, RADAR_Q4_0)
TYPE(tile_q4_1, RADAR_Q4_1)
TYPE(tile_q5_0, RADAR_Q5_0)
TYPE(tile_q5_1, RADAR_Q5_1)
TYPE(tile_q4_k, RADAR_Q4_K)
TYPE(tile_q5_k, RADAR_Q5_K)
TYPE(tile_q6_k, RADAR_Q6_K)
#undef TYPE

void radar_tile_int8_avx2(const radar_tile *t, const radar_x8 *x8) {
    static void (*const tile[RADAR_DTYPE_COUNT])(const radar_tile *, const radar_x8 *) = {
        [RADAR_Q8_0] = tile_q8_0, [RADAR_Q4_0] = tile_q4_0, [RADAR_Q4_1] = tile_q4_1,
        [RADAR_Q5_0] = tile_q5_0, [RADAR_Q5_1] = tile_q5_1, [RADAR_Q4_K] = tile_q4_k,
        [RADAR_Q5_K] = tile_q5_k, [RADAR_Q6_K] = tile_q6_k,
    };
    tile[t->type](t, x8);
}
