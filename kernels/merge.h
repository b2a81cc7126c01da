/* merge.h - combine two partial attention results over disjoint sets of keys: a := merge(a, b).
 *   m    = max(m_a, m_b);   l = l_a exp(m_a - m) + l_b exp(m_b - m)
 *   o[d] = o_a[d] exp(m_a - m) + o_b[d] exp(m_b - m)                 (divided by l once, at the root of the tree)
 *   missed mass (m', l') of the candidates that were scored and not chosen merges like (m, l).
 * A partial is RADAR_PARTIAL(D) f32: {m, l, o[D], m', l'};  m = -inf: no key, then l = 0, o = 0: the identity.
 * Source: online softmax, arXiv:1805.02867.   Cost: 12 (D + 4) bytes a partial; bandwidth bound. */
#ifndef RADAR_MERGE_H
#define RADAR_MERGE_H
#include "kernels/backend.h"

#define RADAR_PARTIAL(D) ((D) + 4)
#define RADAR_PARTIAL_M 0
#define RADAR_PARTIAL_L 1
#define RADAR_PARTIAL_O 2
#define RADAR_PARTIAL_MISSED_M(D) ((D) + 2)
#define RADAR_PARTIAL_MISSED_L(D) ((D) + 3)

#endif
