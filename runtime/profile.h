/* profile.h - where the time of forward passes goes: a table of operations over the backend's own that times each call and counts
 * the bytes it reads.
 *
 * The backend keeps its place; only its table is exchanged, so nobody who calls an operation knows.  Reading the clock twice for
 * each of some hundred small operations is not free (1 to 2 % of a step of a small model): nothing is exchanged, timed or
 * counted before radar_profile_reset asks for it. */
#ifndef RADAR_PROFILE_H
#define RADAR_PROFILE_H

#include "kernels/backend.h"
#include "parallel/comm.h"
#include "runtime/radar.h"

typedef enum radar_phase_index {
    RADAR_PHASE_MATMUL, /* and so many more: one for each type of weights */
    RADAR_PHASE_SMALL = RADAR_PHASE_MATMUL + RADAR_DTYPE_COUNT,
    RADAR_PHASE_APPEND,
    RADAR_PHASE_SEAL,
    RADAR_PHASE_QUERY,
    RADAR_PHASE_SCAN,
    RADAR_PHASE_TOPK,
    RADAR_PHASE_ATTEND,
    RADAR_PHASE_WEIGH,
    RADAR_PHASE_MERGE,
    RADAR_PHASE_COVERAGE,
    RADAR_PHASE_EXCHANGE, /* and so many more: one for each exchange */
    RADAR_PHASE_SAMPLE = RADAR_PHASE_EXCHANGE + RADAR_X_COUNT,
    RADAR_PHASE_OTHER,
    RADAR_PHASE_COUNT
} radar_phase_index;

typedef struct radar_profiler {
    radar_backend_ops ops;          /* first: what the backend's table points to */
    const radar_backend_ops *inner; /* the backend's own; NULL: no profile was asked for */
    const radar_comm *comm;
    radar_phase phase[RADAR_PHASE_COUNT]; /* OTHER: the whole time of the passes */
    radar_phase list[RADAR_PHASE_COUNT];  /* what the caller was last shown */
    char exchange[RADAR_X_COUNT][32];     /* names */
    bool within;                          /* a pass */
    double began;
    radar_exchange_stats before[RADAR_X_COUNT];
} radar_profiler;

/* [this rank] Around a forward pass (passes 1) and what belongs to its step (0): what the backend does elsewhere is not counted.
 * Nothing without a profile. */
void radar_profile_begin(radar_profiler *p);
void radar_profile_end(radar_profiler *p, int passes);
/* [this rank] The pass so far was, from radar_clock() == began on, work of this phase that is no operation of the backend. */
void radar_profile_note(radar_profiler *p, radar_phase_index phase, double began);

#endif
