/* segment.h - one stored segment in registers: reading its numbers as f32, and its 16 logits.
 * logits: keys [D, 16], chain c of 4 takes the d with d % 4 == c, ascending, one fma each; (0+1)+(2+3). */
#ifndef RADAR_CPU_SEGMENT_H
#define RADAR_CPU_SEGMENT_H

#include <immintrin.h>
#include <math.h>

#include "kernels/cpu/isa.h"
#include "kernels/kv.h"
#include "runtime/base.h"

#define RADAR_MAX_D 256
#define RADAR_QUERY_BLOCK 4 /* queries that share one read of a segment */

/* Inlined where the type and the number of queries are constants: one compiled copy for each. */
#define RADAR_TEMPLATE static inline __attribute__((always_inline))

static inline float radar_segment_at(radar_dtype type, const void *tile, size_t i) {
    if (type == RADAR_F32) return ((const float *)tile)[i];
    uint16_t h = ((const uint16_t *)tile)[i];
    return type == RADAR_F16 ? radar_f16_to_f32(h) : radar_bf16_to_f32(h);
}

/* Of the keys, or of the values, of one segment. */
static inline size_t radar_segment_bytes(radar_dtype type, int D) {
    return (size_t)D * RADAR_SEGMENT * (type == RADAR_F32 ? 4 : type == RADAR_Q8 ? 1 : 2);
}

/* Where the numbers of a segment lie that a query reads: type is never RADAR_Q8 but for packed ones. */
typedef struct radar_place {
    radar_dtype type;
    const void *k, *v;
} radar_place;

static inline radar_place radar_place_of(const radar_kv_view *kv, int64_t segment) {
    radar_place p = {kv->type, kv->k, kv->v};
    if (kv->type == RADAR_Q8 && segment >= kv->tail_begin) {
        p = (radar_place){RADAR_F16, kv->tail_k, kv->tail_v};
        segment %= kv->tail_segments;
    }
    size_t at = (size_t)segment * radar_segment_bytes(p.type, kv->D);
    p.k = (const char *)p.k + at;
    p.v = (const char *)p.v + at;
    return p;
}

static inline void radar_segment_logits(float out[16], radar_dtype type, const void *k, int D,
                                        const float *q) {
    for (int i = 0; i < RADAR_SEGMENT; i++) {
        float chain[4] = {0};
        for (int d = 0; d < D; d++)
            chain[d % 4] = fmaf(q[d], radar_segment_at(type, k, (size_t)(d * RADAR_SEGMENT + i)),
                                chain[d % 4]);
        out[i] = (chain[0] + chain[1]) + (chain[2] + chain[3]);
    }
}

/* ---- AVX-512 ---- */

/* Lanes of the last vector of a row of n elements. */
RADAR_TEMPLATE __mmask16 radar_tail_mask(int n) {
    return n >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1);
}

RADAR_TEMPLATE RADAR_AVX512 __m512 radar_segment_widen(radar_dtype type, __m256i h) {
    if (type == RADAR_F16) return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

RADAR_TEMPLATE RADAR_AVX512 __m512 radar_segment_load(radar_dtype type, const void *tile,
                                                      size_t i) {
    if (type == RADAR_F32) return _mm512_loadu_ps((const float *)tile + i);
    return radar_segment_widen(type,
                               _mm256_loadu_si256((const __m256i *)((const uint16_t *)tile + i)));
}

RADAR_TEMPLATE RADAR_AVX512 __m512 radar_segment_load_tail(radar_dtype type, const void *tile,
                                                           size_t i, __mmask16 tail) {
    if (type == RADAR_F32) return _mm512_maskz_loadu_ps(tail, (const float *)tile + i);
    return radar_segment_widen(type, _mm256_maskz_loadu_epi16(tail, (const uint16_t *)tile + i));
}

/* While bytes [begin, end) of something are worked on, those of what comes later are asked for: as evenly as they will be used, where
 * all of it at once would fill the queue of requests and then leave it empty.  ahead may be NULL. */
RADAR_TEMPLATE void radar_prefetch_like(const void *ahead, size_t begin, size_t end) {
    if (!ahead) return;
    for (size_t at = begin; at < end; at += 64) __builtin_prefetch((const char *)ahead + at, 0, 3);
}

/* Adds dimensions d .. d + n - 1, d a multiple of 4, to the chains of Q queries. */
RADAR_TEMPLATE RADAR_AVX512 void radar_segment_chain(__m512 (*chain)[4], radar_dtype type,
                                                     const void *k, const float *q, size_t q_stride,
                                                     int d, int n, int Q) {
    for (int c = 0; c < n; c++) {
        __m512 kd = radar_segment_load(type, k, (size_t)(d + c) * RADAR_SEGMENT);
        for (int j = 0; j < Q; j++)
            chain[j][c] = _mm512_fmadd_ps(_mm512_set1_ps(q[(size_t)j * q_stride + (size_t)(d + c)]),
                                          kd, chain[j][c]);
    }
}

/* Logits of Q <= 4 queries to one segment; D is even.  ahead: of radar_prefetch_like. */
RADAR_TEMPLATE RADAR_AVX512 void radar_segment_logits_avx512(__m512 *out, radar_dtype type,
                                                             const void *k, int D, const float *q,
                                                             size_t q_stride, const void *ahead,
                                                             int Q) {
    __m512 chain[RADAR_QUERY_BLOCK][4];
    for (int j = 0; j < Q; j++)
        for (int c = 0; c < 4; c++) chain[j][c] = _mm512_setzero_ps();
    int d = 0;
    for (; d + 4 <= D; d += 4) {
        radar_prefetch_like(ahead, radar_segment_bytes(type, d), radar_segment_bytes(type, d + 4));
        radar_segment_chain(chain, type, k, q, q_stride, d, 4, Q);
    }
    if (d < D) radar_segment_chain(chain, type, k, q, q_stride, d, 2, Q);
    for (int j = 0; j < Q; j++)
        out[j] = _mm512_add_ps(_mm512_add_ps(chain[j][0], chain[j][1]),
                               _mm512_add_ps(chain[j][2], chain[j][3]));
}

#endif
