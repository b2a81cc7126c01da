/* arrange.h - into and out of the order in which attention works: queries of one KV head side by side.
 *   arrange  out[g, m, r, :] = q[m, g * group + r, :]                       q [M, H, D], out [G, M, group, D], H = G group
 *   take     out[g, i, r, :] = q[g, row[i], r, :]                          q [G, M, group, D], out [G, n, group, D]
 *   finish   out[m, g * group + r, :] = o / l of partial[g, m, r]           partial [G, M, group, RADAR_PARTIAL(D)], out [M, H, D]
 *            coverage[m, g * group + r] = 1 / (1 + e^(m' - m) l' / l)       the attended share of the softmax mass, [M, H]
 * Cost: one copy. */
#ifndef RADAR_ARRANGE_H
#define RADAR_ARRANGE_H
#include "kernels/backend.h"
#endif
