/* Scoring with AVX-512: one pass over the codes, which up to four queries share, four blocks at a time. */
#include "kernels/cpu/sketch.h"

#include <string.h>

#define LANES RADAR_SEGMENT
/* In place of bits: one bit, or both of two, by tables of the query. */
#define TABLES_1 0
#define TABLES_2 3
#define AHEAD 12        /* blocks between reading and prefetching */
#define LISTED_AHEAD 12 /* the same, units of a list */

/* Up to 16 segments that are scored at once: those of four blocks, or each of a block of its own. */
typedef struct batch {
    const char *block[16];
    int segment[16]; /* of the block */
    float scale[16]; /* step_scale */
    size_t ahead;    /* bytes between what is read and what is prefetched; 0: nothing is */
} batch;

/* 64 bytes of codes.  Each read asks for those that are `ahead` of it, so that requests for memory come as evenly as their answers
 * are used: a block's at once would fill the queue and then leave it empty. */
RADAR_TEMPLATE RADAR_AVX512 __m512i read_codes(const char *p, size_t ahead) {
    if (ahead) __builtin_prefetch((const void *)((uintptr_t)p + ahead), 0, 3);
    return _mm512_loadu_si512(p);
}

/* Of query j in lanes 4 j .. 4 j + 3. */
typedef struct query_lanes {
    __m512 reach;
} query_lanes;

RADAR_TEMPLATE RADAR_AVX512 query_lanes lanes_of(const radar_sketch_query *q, int Q) {
    _Alignas(64) float reach[16] = {0};
    for (int i = 0; i < 4 * Q; i++) reach[i] = q[i / 4].reach;
    return (query_lanes){_mm512_load_ps(reach)};
}

/* (q . mu) / sqrt D of Q queries and four blocks: lane 4 j + b. */
RADAR_TEMPLATE RADAR_AVX512 __m512 bases(const radar_sketch *x, const radar_sketch_block b[4],
                                         const radar_sketch_query *q, int Q) {
    __m512 sum[4 * RADAR_QUERY_BLOCK];
    for (int i = 0; i < 4 * Q; i++) sum[i] = _mm512_setzero_ps();
    for (int d = 0; d < x->Dp; d += 16) {
        for (int i = 0; i < 4; i++) {
            __m512 mu = _mm512_cvtepi32_ps(
                _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(b[i].mu + d))));
            for (int j = 0; j < Q; j++)
                sum[4 * j + i] = _mm512_fmadd_ps(_mm512_loadu_ps(q[j].q + d), mu, sum[4 * j + i]);
        }
    }
    __m128 scale = _mm_setr_ps(b[0].mu_scale, b[1].mu_scale, b[2].mu_scale, b[3].mu_scale);
    return _mm512_mul_ps(radar_fold16(false, sum, Q), _mm512_broadcast_f32x4(scale));
}

/* Steps of 16 tokens in units of the largest, 2^((c - 255) / 16): c >> 4 goes to the exponent, the rest through a register. */
RADAR_TEMPLATE RADAR_AVX512 __m512i step_table(const radar_sketch *x) {
    const __m512i i = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i last = _mm512_sub_epi32(_mm512_loadu_si512(x->step + 240), _mm512_set1_epi32(15 << 23));
    return _mm512_sub_epi32(last, _mm512_slli_epi32(i, 19));
}

RADAR_TEMPLATE RADAR_AVX512 __m512 steps_of(const uint8_t *code, __m512i table) {
    __m128i c8 = _mm_loadu_si128((const __m128i *)code);
    __m512i c = _mm512_cvtepu8_epi32(c8);
    return _mm512_castsi512_ps(_mm512_maskz_add_epi32(
        _mm_test_epi8_mask(c8, c8), _mm512_slli_epi32(c, 19), _mm512_permutexvar_epi32(c, table)));
}

/* Adds, of each of four segments, n groups of four dimensions, d + 4 k step + ..., whose codes stand `bits` apart in word. */
RADAR_TEMPLATE RADAR_AVX512 void add_codes(__m512i *dot, const __m512i word[4],
                                           const radar_sketch_query *q, int d, int n, int step,
                                           int bits, int Q) {
    const __m512i mask = _mm512_set1_epi8((char)((1 << bits) - 1));
    for (int k = 0; k < n; k++) {
        __m512i hq[RADAR_QUERY_BLOCK];
        for (int j = 0; j < Q; j++) {
            int32_t four;
            memcpy(&four, q[j].hq + d + 4 * step * k, sizeof four);
            hq[j] = _mm512_set1_epi32(four);
        }
        for (int i = 0; i < 4; i++) {
            __m512i code = _mm512_and_si512(_mm512_srli_epi32(word[i], (unsigned)(bits * k)), mask);
            for (int j = 0; j < Q; j++)
                dot[4 * j + i] = _mm512_dpbusd_epi32(dot[4 * j + i], code, hq[j]);
        }
    }
}

/* One dword of each plane: the bits of even groups of four dimensions meet in one word of 2-bit codes, those of odd ones in
 * another. */
RADAR_TEMPLATE RADAR_AVX512 void add_planes(__m512i *dot, const __m512i high[4],
                                            const __m512i low[4], const radar_sketch_query *q,
                                            int d, int n, int Q) {
    const __m512i upper = _mm512_set1_epi8((char)0xaa);
    __m512i even[4], odd[4];
    for (int i = 0; i < 4; i++) {
        even[i] = _mm512_ternarylogic_epi32(upper, _mm512_slli_epi32(high[i], 1), low[i], 0xca);
        odd[i] = _mm512_ternarylogic_epi32(upper, high[i], _mm512_srli_epi32(low[i], 1), 0xca);
    }
    add_codes(dot, even, q, d, n, 2, 2, Q);
    add_codes(dot, odd, q, d + 4, n, 2, 2, Q);
}

/* table[i] for 6-bit i in the bytes of index: AVX512_VBMI, which the others of this file do without. */
RADAR_TEMPLATE RADAR_AVX512 __m512i look_up(__m512i index, __m512i table) {
    __m512i out;
    __asm__("vpermb %2, %1, %0" : "=v"(out) : "v"(index), "v"(table));
    return out;
}

/* Adds `times` the bits of four segments, four dimensions a byte: nibble n of every byte of word is of table `at`. */
RADAR_TEMPLATE RADAR_AVX512 void add_nibbles(__m512i *dot, const __m512i word[4],
                                             const radar_sketch_query *q, int at, int n, int times,
                                             int Q) {
    const __m512i place = _mm512_set1_epi32(0x30201000), low = _mm512_set1_epi8(15),
                  factor = _mm512_set1_epi8((char)times);
    __m512i table[RADAR_QUERY_BLOCK];
    for (int j = 0; j < Q; j++) table[j] = _mm512_loadu_si512(q[j].table + 64 * at);
    for (int i = 0; i < 4; i++) {
        __m512i index = _mm512_ternarylogic_epi32(n ? _mm512_srli_epi32(word[i], 4) : word[i], low,
                                                  place, 0xea); /* a & b | c */
        for (int j = 0; j < Q; j++)
            dot[4 * j + i] = _mm512_dpbusd_epi32(dot[4 * j + i], look_up(index, table[j]), factor);
    }
}

/* Twice the same sums, less twice the centre, by the queries' tables: of the upper plane alone, or of both. */
RADAR_TEMPLATE RADAR_AVX512 void dot_tables(__m512i *dot, const radar_sketch *x,
                                            const char *const code[4], const char *const low[4],
                                            const radar_sketch_query *q, size_t ahead, bool both,
                                            int Q) {
    int odd = both && x->words > x->low_words,
        tables = both ? 3 * (2 * x->low_words + odd) : 2 * x->words;
    __m512i word[4];
    for (int i = 0; i < 4 * Q; i++)
        dot[i] = _mm512_set1_epi32(-8 * 124 * tables - q[i / 4].twice_centre);
#pragma GCC unroll 1
    for (int z = 0; z < x->words - odd; z++) {
        for (int i = 0; i < 4; i++) word[i] = read_codes(code[i] + z * 64, ahead);
        add_nibbles(dot, word, q, 2 * z, 0, both ? 4 : 2, Q);
        add_nibbles(dot, word, q, 2 * z + 1, 1, both ? 4 : 2, Q);
        if (!both) continue;
        for (int i = 0; i < 4; i++) word[i] = read_codes(low[i] + z * 64, ahead);
        add_nibbles(dot, word, q, 2 * z, 0, 2, Q);
        add_nibbles(dot, word, q, 2 * z + 1, 1, 2, Q);
    }
    if (!odd) return;
    int z = x->words - 1;
    for (int i = 0; i < 4; i++) word[i] = read_codes(code[i] + z * 64, ahead);
    add_nibbles(dot, word, q, 2 * z, 0, 4, Q);
    add_nibbles(dot, word, q, 2 * z, 1, 2, Q);
}

/* sum code hq of 16 tokens in each of four segments and Q queries: 4 j + i. */
RADAR_TEMPLATE RADAR_AVX512 void dot_segments(__m512i *dot, const radar_sketch *x,
                                              const char *const code[4], const char *const low[4],
                                              const radar_sketch_query *q, size_t ahead, int Q,
                                              int bits) {
    __m512i high[4], rest[4];
    for (int i = 0; i < 4 * Q; i++) dot[i] = _mm512_setzero_si512();
    int planes = bits == 2 ? x->low_words : x->words;
#pragma GCC unroll 1
    for (int z = 0; z < planes; z++) {
        for (int i = 0; i < 4; i++) {
            high[i] = read_codes(code[i] + z * 64, ahead);
            if (bits == 2) rest[i] = read_codes(low[i] + z * 64, ahead);
        }
        if (bits == 2)
            add_planes(dot, high, rest, q, 32 * z, 4, Q);
        else
            add_codes(dot, high, q, 32 / bits * z, 8 / bits, 1, bits, Q);
    }
    if (bits != 2 || planes == x->words) return;
    for (int i = 0; i < 4; i++) {
        high[i] = read_codes(code[i] + planes * 64, ahead);
        rest[i] = _mm512_srli_epi32(high[i], 4);
    }
    add_planes(dot, high, rest, q, 32 * planes, 2, Q);
}

/* y of mass.h of four segments and Q queries, 4 j + i. */
RADAR_TEMPLATE RADAR_AVX512 void logits(__m512 *y, const radar_sketch *x, const batch *s, int first,
                                        const radar_sketch_query *q, __m512i table, int Q,
                                        int bits) {
    __m512i dot[4 * RADAR_QUERY_BLOCK];
    const char *code[4], *low[4];
    for (int i = 0; i < 4; i++) {
        code[i] = s->block[first + i] + s->segment[first + i] * x->words * 64;
        low[i] = s->block[first + i] + 256 * x->words + 72 + x->Dp +
                 s->segment[first + i] * x->low_words * 64;
    }
    const bool tables = bits == TABLES_1 || bits == TABLES_2;
    if (tables)
        dot_tables(dot, x, code, low, q, s->ahead, bits == TABLES_2, Q);
    else
        dot_segments(dot, x, code, low, q, s->ahead, Q, bits);
    for (int i = 0; i < 4; i++) {
        const char *step = s->block[first + i] + 256 * x->words + LANES * s->segment[first + i];
        __m512 steps = _mm512_mul_ps(steps_of((const uint8_t *)step, table),
                                     _mm512_set1_ps(0.5f * s->scale[first + i]));
        for (int j = 0; j < Q; j++) {
            __m512i twice = dot[4 * j + i];
            if (!tables)
                twice = _mm512_sub_epi32(_mm512_slli_epi32(twice, 1),
                                         _mm512_set1_epi32(q[j].twice_centre));
            __m512 centred = _mm512_cvtepi32_ps(twice);
            y[4 * j + i] = _mm512_mul_ps(_mm512_mul_ps(centred, steps), _mm512_set1_ps(q[j].gain));
        }
    }
}

/* Scores of segments [0, 4 n) of the batch for Q queries, added to what is in out: segment 4 b + i of query j in lane 4 j + i of
 * out[b].  All logits first, then all masses: what takes long in each, waits for itself alone. */
RADAR_TEMPLATE RADAR_AVX512 void score_batch(__m512 *out, const radar_sketch *x, const batch *s,
                                             const radar_sketch_query *q, const query_lanes *lanes,
                                             int n, __m512i table, int Q, int bits) {
    __m512 y[4][4 * RADAR_QUERY_BLOCK];
    const bool rough = bits == TABLES_1 || (bits == 1 && x->bits == 2);
#pragma GCC unroll 1
    for (int b = 0; b < n; b++) logits(y[b], x, s, 4 * b, q, table, Q, bits);
#pragma GCC unroll 1
    for (int b = 0; b < n; b++) {
        __m512 scale = _mm512_broadcast_f32x4(_mm_loadu_ps(s->scale + 4 * b));
        __mmask16 far = _mm512_cmp_ps_mask(_mm512_mul_ps(lanes->reach, scale),
                                           _mm512_set1_ps(RADAR_MASS_REACH), _CMP_NLE_UQ);
        out[b] = _mm512_add_ps(out[b], radar_mass16(y[b], far, rough, Q));
    }
}

RADAR_TEMPLATE void prefetch_block(const char *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 3);
}

/* The scores of block k among those of the task. */
RADAR_TEMPLATE RADAR_AVX512 void store_block(const radar_score_task *t, float *score, int32_t k,
                                             __m512 value, int Q) {
    _Alignas(64) float lane[16];
    int32_t first = k * RADAR_BLOCK_SEGMENTS - t->segment_begin,
            n = t->segment_end - t->segment_begin;
    _mm512_store_ps(lane, value);
    if (first >= 0 && first + RADAR_BLOCK_SEGMENTS <= n) {
        for (int j = 0; j < Q; j++)
            memcpy(score + (size_t)j * t->score_stride + (size_t)first, lane + 4 * j,
                   4 * sizeof *lane);
        return;
    }
    for (int i = 0; i < RADAR_BLOCK_SEGMENTS; i++) {
        if (first + i < 0 || first + i >= n) continue;
        for (int j = 0; j < Q; j++)
            score[(ptrdiff_t)((size_t)j * t->score_stride) + first + i] = lane[4 * j + i];
    }
}

/* What a listed unit is scored by: its codes, steps and mean lie apart. */
RADAR_TEMPLATE void prefetch_unit(const radar_sketch *x, const radar_score_task *t, int32_t i) {
    if (i >= *t->n_listed) return;
    const int32_t unit = radar_score_unit(t, i), segment = unit % RADAR_BLOCK_SEGMENTS;
    const char *p =
        (const char *)t->kv.summary + (size_t)(unit / RADAR_BLOCK_SEGMENTS) * t->kv.block_bytes;
    const char *step = p + 256 * x->words, *low = step + 72 + x->Dp;
    prefetch_block(p + segment * x->words * 64, (size_t)x->words * 64 + 1);
    prefetch_block(step + segment * LANES, 1);
    prefetch_block(step + RADAR_BLOCK, (size_t)x->Dp + 8);
    prefetch_block(low + segment * x->low_words * 64, (size_t)x->low_words * 64 + 1);
}

/* Q queries over the task's list. */
RADAR_TEMPLATE RADAR_AVX512 void score_list(const radar_sketch *x, const radar_score_task *t,
                                            const radar_sketch_query *q, float *score, int Q,
                                            int bits) {
    __m512i table = step_table(x);
    query_lanes lanes = lanes_of(q, Q);
    const int32_t n = *t->n_listed;
    for (int32_t i = 0; i < LISTED_AHEAD; i++) prefetch_unit(x, t, i);
    for (int32_t k = 0; k < n; k += 4) {
        radar_sketch_block b[4];
        batch s;
        s.ahead = 0;
        for (int32_t i = 0; i < 4; i++) prefetch_unit(x, t, k + LISTED_AHEAD + i);
        for (int i = 0; i < 4; i++) {
            int32_t unit = radar_score_unit(t, k + i < n ? k + i : n - 1);
            b[i] = radar_sketch_block_at(x, &t->kv, unit / RADAR_BLOCK_SEGMENTS);
            s.block[i] = (const char *)b[i].code;
            s.segment[i] = unit % RADAR_BLOCK_SEGMENTS;
            s.scale[i] = b[i].step_scale;
        }
        __m512 value = bases(x, b, q, Q);
        _Alignas(64) float lane[16];
        score_batch(&value, x, &s, q, &lanes, 1, table, Q, bits);
        _mm512_store_ps(lane, value);
        for (int i = 0; i < 4 && k + i < n; i++)
            for (int j = 0; j < Q; j++)
                score[(size_t)j * t->score_stride +
                      (size_t)(radar_score_unit(t, k + i) - t->segment_begin)] = lane[4 * j + i];
    }
}

/* Q queries over the task's segments. */
RADAR_TEMPLATE RADAR_AVX512 void score_queries(const radar_sketch *x, const radar_score_task *t,
                                               const char *prepared, size_t query_bytes,
                                               float *score, int Q, int bits) {
    const __m512i quarter = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
    radar_sketch_query q[RADAR_QUERY_BLOCK];
    __m512i table = step_table(x);
    const int stored = bits == TABLES_1 ? 1 : bits == TABLES_2 ? 2 : bits;
    for (int j = 0; j < Q; j++)
        q[j] = radar_sketch_query_of(x, prepared + (size_t)j * query_bytes, stored);
    if (t->list) {
        score_list(x, t, q, score, Q, bits);
        return;
    }
    size_t read =
        stored < x->bits ? 256 * (size_t)x->words + 72 + (size_t)x->Dp : t->kv.block_bytes;
    query_lanes lanes = lanes_of(q, Q);
    int32_t first = t->segment_begin / RADAR_BLOCK_SEGMENTS,
            last = (t->segment_end - 1) / RADAR_BLOCK_SEGMENTS;
    for (int32_t k = first; k < first + AHEAD && k <= last; k++)
        prefetch_block((const char *)radar_sketch_block_at(x, &t->kv, k).code, read);
    for (int32_t k = first; k <= last; k += 4) {
        radar_sketch_block b[4];
        __m512 score_of[4];
        int n = last - k < 3 ? last - k + 1 : 4;
        batch s;
        s.ahead = AHEAD * t->kv.block_bytes;
        for (int i = 0; i < 4; i++) {
            b[i] = radar_sketch_block_at(x, &t->kv, k + i < last ? k + i : last);
            for (int c = 0; c < 4; c++) {
                s.block[4 * i + c] = (const char *)b[i].code;
                s.segment[4 * i + c] = c;
                s.scale[4 * i + c] = b[i].step_scale;
            }
        }
        __m512 base = bases(x, b, q, Q);
        for (int i = 0; i < n; i++) {
            prefetch_block((const char *)((uintptr_t)b[i].step + s.ahead), 72 + (size_t)x->Dp);
            score_of[i] =
                _mm512_permutexvar_ps(_mm512_add_epi32(quarter, _mm512_set1_epi32(i)), base);
        }
        score_batch(score_of, x, &s, q, &lanes, n, table, Q, bits);
        for (int i = 0; i < n; i++) store_block(t, score, k + i, score_of[i], Q);
    }
}

/* One function for each number of queries and bits: together they are more than a compiler allocates registers for well. */
#define SCAN(name, Q, bits) \
    RADAR_AVX512 static __attribute__((noinline)) void name( \
        const radar_sketch *x, const radar_score_task *t, const char *prepared, \
        size_t query_bytes, float *score) { \
        score_queries(x, t, prepared, query_bytes, score, Q, bits); \
    }
#define SCANS(name, bits) \
    SCAN(name##_1, 1, bits) SCAN(name##_2, 2, bits) SCAN(name##_3, 3, bits) SCAN(name##_4, 4, bits)
SCANS(scan_tables_1, TABLES_1)
SCANS(scan_tables_2, TABLES_2)
SCANS(scan_one, 1)
SCANS(scan_two, 2)
SCANS(scan_four, 4)

typedef void scan(const radar_sketch *x, const radar_score_task *t, const char *prepared,
                  size_t query_bytes, float *score);

void radar_sketch_scan_avx512(const radar_sketch *x, const radar_score_task *t,
                              size_t query_bytes) {
    static scan *const scans[5][RADAR_QUERY_BLOCK] = {
        [TABLES_1] = {scan_tables_1_1, scan_tables_1_2, scan_tables_1_3, scan_tables_1_4},
        [TABLES_2] = {scan_tables_2_1, scan_tables_2_2, scan_tables_2_3, scan_tables_2_4},
        [1] = {scan_one_1, scan_one_2, scan_one_3, scan_one_4},
        [2] = {scan_two_1, scan_two_2, scan_two_3, scan_two_4},
        [4] = {scan_four_1, scan_four_2, scan_four_3, scan_four_4}};
    int bits = t->coarse ? 1 : x->bits;
    if (x->vbmi && x->bits == 2) bits = t->coarse ? TABLES_1 : TABLES_2;
    for (int j = 0; j < t->n_query; j += RADAR_QUERY_BLOCK) {
        int Q = t->n_query - j < RADAR_QUERY_BLOCK ? t->n_query - j : RADAR_QUERY_BLOCK;
        scans[bits][Q - 1](x, t, (const char *)t->query + (size_t)j * query_bytes, query_bytes,
                           t->score + (size_t)j * t->score_stride);
    }
}
