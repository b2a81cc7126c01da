/* weigh.h - the softmax weights that attention gave to tokens, added up per token.
 *   weight[slot] += sum over queries j of exp(scale q_j . k_slot - m_j) / l_j   over the attended tokens, queries ascending
 * with m_j, l_j of the query's merged partial (merge.h), so that weights of all shards together are shares of one softmax.
 * A token is attended as in attend.h.  Cost: the keys once, as attend.h. */
#ifndef RADAR_WEIGH_H
#define RADAR_WEIGH_H
#include "kernels/backend.h"
#endif
