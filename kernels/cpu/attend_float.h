/* attend_float.h - segments of f32, f16 or bf16 with AVX-512: logits and values of up to four queries at once, in the order of
 * attend.h. */
#ifndef RADAR_ATTEND_FLOAT_H
#define RADAR_ATTEND_FLOAT_H

#include "kernels/cpu/attend_cpu.h"

/* s[j]: the 16 logits of query j, times scale; the queries are q_stride apart.  ahead: NULL, or the keys, of the values the values, of a
 * segment that will be read soon (radar_prefetch_like). */
typedef void radar_attend_logits_fn(float (*s)[16], const void *k, int D, const float *q,
                                    size_t q_stride, float scale, const void *ahead);
/* o of query j at o + j * stride: faded, then the values of the tokens of mask by weights p[j], ascending. */
typedef void radar_attend_values_fn(float *o, size_t stride, const void *v, int D, uint32_t mask,
                                    float (*p)[16], const float *fade, const void *ahead);
/* [type][queries - 1] */
extern radar_attend_logits_fn *const radar_attend_logits[RADAR_DTYPE_COUNT][RADAR_QUERY_BLOCK];
extern radar_attend_values_fn *const radar_attend_values[RADAR_DTYPE_COUNT][RADAR_QUERY_BLOCK];

#endif
