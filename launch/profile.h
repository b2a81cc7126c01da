/* profile.h - options that are not typed: of a publication (--preset) and of a model (--profile). */
#ifndef RADAR_LAUNCH_PROFILE_H
#define RADAR_LAUNCH_PROFILE_H

#include "launch/launch.h"

/* [this rank] Where nothing was typed beside it: what --preset stands for.  A preset that a profile names stands back behind the
 * profile's other options.  Several presets (a list): only what they need of the engine. */
void launch_preset_apply(launch_options *opt);
/* [all ranks] Rank 0 reads --profile; its options hold where nothing was typed.  RADAR_ERR_DATA names an option that is not known or
 * not of its type. */
radar_status launch_profile_apply(launch_job *job, launch_options *opt);
/* [this rank] RADAR_ERR_CONFIG: the profile was made for another model than the one that is open. */
radar_status launch_profile_check(launch_job *job);
void launch_profile_free(launch_job *job);

#endif
