/* probe.h - what one layer made of a row, beside what dense attention would have made of it; for radar_session_observe.
 *
 * A dense pass over the same cache, the true masses of the segments that could be chosen, what the session's scorer said of
 * them, and which of them it led each query head to.  Every rank has the same figures, bit for bit, for every number of ranks. */
#ifndef RADAR_PROBE_H
#define RADAR_PROBE_H

#include "runtime/policy.h"
#include "runtime/radar.h"

typedef struct radar_probe radar_probe;

/* [this rank] Room for queries as the scorer of attention prepares them; what is there already stays good when this fails. */
radar_status radar_probe_reserve(radar_probe *p, const radar_attention *attention,
                                 radar_error *err);
/* [all ranks] After the attention of rows under the session's policy: s->partial begins with the merged partials, output
 * [n_rows, H, D] and coverage [n_rows, H] are what was made of them.  Works out the rest and calls the observer for the rows it
 * wants.  The partials and the plan of s are overwritten. */
radar_status radar_probe_rows(radar_probe *p, const radar_select *s, const float *output,
                              const float *coverage);
void radar_probe_close(radar_probe *p); /* [this rank] NULL is fine */

#endif
