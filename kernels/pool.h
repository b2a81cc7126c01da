/* pool.h - runs of consecutive queries, each stood for by one: their mean.
 *   out[g, i, r, :] = (sum of q[g, m, r, :] over rows m of run i) / (rows of run i)
 *   q [G, M, group, D] f32, out [G, n, group, D] f32; run i = rows [begin[i], begin[i + 1]), none empty
 * Rows are added one by one, ascending, then multiplied by the reciprocal of their number.  Cost: one read of q. */
#ifndef RADAR_POOL_H
#define RADAR_POOL_H
#include "kernels/backend.h"
#endif
