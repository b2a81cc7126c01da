/* attend_q8.h - packed segments with AVX-512: logits and values of up to four queries at once (attend_cpu.h has the formulas). */
#ifndef RADAR_ATTEND_Q8_H
#define RADAR_ATTEND_Q8_H

#include "kernels/cpu/attend_cpu.h"

/* H q = factor / scale (128 hi + lo), rounded. */
typedef struct radar_q8_query {
    _Alignas(16) int8_t hi[RADAR_MAX_D], lo[RADAR_MAX_D];
    int32_t begin_hi, begin_lo; /* -128 times their sums */
    float factor;
} radar_q8_query;

void radar_q8_split(radar_q8_query *out, const radar_rotation *r, const float *q, float scale);

/* middle[j] := q_j . mu of the segment's block, times scale; the n queries are q_stride apart. */
void radar_q8_middles(float *middle, const radar_kv_view *kv, int64_t segment, const float *q,
                      size_t q_stride, float scale, int n);
/* s[j]: the 16 logits of query j, times scale.  ahead: as in attend_float.h. */
typedef void radar_q8_logits_fn(float (*s)[16], const radar_kv_view *kv, int64_t segment,
                                const radar_q8_query *x, const float *middle, const void *ahead);
/* o of query j at o + j * stride: faded, then the segment's values by weights p[j]. */
typedef void radar_q8_values_fn(float *o, size_t stride, const radar_kv_view *kv, int64_t segment,
                                float (*p)[16], const float *fade, const void *ahead);
/* [queries - 1] */
extern radar_q8_logits_fn *const radar_q8_logits[RADAR_QUERY_BLOCK];
extern radar_q8_values_fn *const radar_q8_values_of[RADAR_QUERY_BLOCK];

#endif
