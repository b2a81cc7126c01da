/* attend.h - exact attention of queries to listed segments of one shard: a partial softmax.
 *   s_i = scale q . k_i over the attended tokens i;  m = max s_i;  l = sum exp(s_i - m);  o = sum exp(s_i - m) v_i
 *   partial {m, l, o[D]} f32 per query; no token attended: the identity of merge.h.
 *   with weights:  l = sum u_i exp(s_i - m);  o = sum w_i exp(s_i - m) v_i      (u key_weight, w value_weight: estimators
 *   that count a token for many, or only on one side of the fraction)
 * A token is attended when its bit is set in its item and its position is <= the query's.
 * Order, the same for every n_query: items ascending; a dot product in 4 chains over d % 4, summed (0+1)+(2+3);
 * one online update per segment with at least one attended token; values added token by token, ascending; a weight is
 * multiplied with exp(s_i - m) first.
 * Packed segments of a q8 cache: sums of integers for the dot product and the values, their formula and error in
 * cpu/attend_cpu.h; with weights they are read as f32 first.
 * Source: online softmax, arXiv:1805.02867.  Cost: 2 * 16 * D * bytes(type) read per item, shared by the task's queries. */
#ifndef RADAR_ATTEND_H
#define RADAR_ATTEND_H
#include "kernels/backend.h"
#endif
