/* probe.h - what one layer made of a row, beside what dense attention would have made of it; for radar_session_observe. */
#ifndef RADAR_PROBE_H
#define RADAR_PROBE_H

#include "runtime/policy.h"
#include "runtime/radar.h"

typedef struct radar_probe radar_probe;

/* [all ranks] After the attention of rows under the session's policy: output [n_rows, H, D] and coverage [n_rows, H] are what it made.
 * Works out the rest and calls the observer for the rows it wants.  The partials of s are used as scratch. */
radar_status radar_probe_rows(radar_probe *p, const radar_select *s, const float *output,
                              const float *coverage);
void radar_probe_reset(radar_probe *p); /* [this rank] the session has another attention now */
void radar_probe_close(radar_probe *p); /* [this rank] NULL is fine */

#endif
