/* phases.h - where the time of decode steps went, as a table on stderr and as "profile" of --json. */
#ifndef RADAR_LAUNCH_PHASES_H
#define RADAR_LAUNCH_PHASES_H

#include "launch/json_out.h"

/* What the other ranks add to this rank's own profile. */
typedef struct launch_phases {
    const radar_phase *phase; /* of the engine */
    size_t n;
    int64_t steps;
    int longest_rank;                 /* the rank that spent most time in exchanges */
    double longest_s, own_exchange_s; /* how much, over all steps; and this rank */
} launch_phases;

/* [all ranks] The profile since radar_profile_reset, over its forward passes; n is 0 where there were none. */
launch_phases launch_phases_read(launch_job *job);
/* [this rank] One line of fact for each phase. */
void launch_phases_print(launch_job *job, const launch_phases *p);
/* [this rank] "profile": an array of {phase, ms_per_step, share, bytes_per_s, bytes_per_step, calls_per_step}. */
void launch_json_phases(launch_json *j, const launch_phases *p);

#endif
