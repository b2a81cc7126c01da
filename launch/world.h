/* world.h - joins the ranks of the job that this process was started for, and leaves them. */
#ifndef RADAR_LAUNCH_WORLD_H
#define RADAR_LAUNCH_WORLD_H

#include "launch/launch.h"

/* [this rank] One rank, or where a launcher's marks are in the environment [all ranks] one of several.  signal: see launch_world.
 * Afterwards, also after a failure, launch_world_close [all ranks]. */
radar_status launch_world_open(launch_world *w, int *argc, char ***argv,
                               volatile const sig_atomic_t *signal, radar_error *err);
void launch_world_close(launch_world *w);

/* world_mpi.c: w, which is alone so far, joins MPI's ranks. */
radar_status launch_world_join(launch_world *w, int *argc, char ***argv, radar_error *err);

#endif
