/* attend_cpu.h - what the files of attend share: one task on one thread, and the integer arithmetic of packed segments.
 *
 * Packed segments (kv.h, q8), scale = that of attend.h; the same integers for every instruction set:
 *   keys    H q is rounded to 15 bits: n = round(H q / step), step = max|H q| / 16256, as 128 hi + lo, hi and lo int8
 *           s_i = float(sum n k_i) (k_scale_i step scale) + (q . mu) mu_scale scale
 *           q . mu runs in 16 lanes d % 16, ascending, one fma each, folded as in sum16.h; one fma makes s_i
 *   values  w_i = exp(s_i - m) v_scale_i, rounded to 15 bits of the segment's largest W: u_i = round(w_i 32767 / W)
 *           o[d] = float(sum u_i v_i[d]) (W / 32767) + o[d] fade, one fma;  W below 2^-100 counts as 0
 * Sums of integers are exact, so their order is free; all roundings belong to one (query, segment).
 * Error beside the roundings of f32: of a logit at most scale step / 2 sum_d |z_d| <= |q|max |k - mu|_1 scale 2^-15 (H q in place
 * of q), mostly sqrt(D) less; of o at most 16 (half a unit) 127 W / 32767 < 0.032 W = 2.5e-4 of the segment's largest
 * |w v|max, mostly a tenth of that: what int8 values themselves are rounded by is 1/254. */
#ifndef RADAR_ATTEND_CPU_H
#define RADAR_ATTEND_CPU_H

#include "kernels/attend.h"
#include "kernels/cpu/q8.h"

#define RADAR_Q8_STEPS 16256.0f  /* 127 * 128 */
#define RADAR_Q8_WEIGHT 32767.0f /* of the segment's largest value weight */
#define RADAR_Q8_NOTHING 0x1p-100f

/* [this rank] One task; its partials begin as the identity. */
void radar_attend_portable(radar_isa isa, const radar_attend_task *task, float scale);
void radar_attend_avx512(radar_isa isa, const radar_attend_task *task, float scale);

#endif
