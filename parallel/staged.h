/* staged.h - the carrier of device memory over one of host memory, as other carriers make it. */
#ifndef RADAR_STAGED_H
#define RADAR_STAGED_H

#include "parallel/comm.h"

/* [this rank] NULL: no memory.  owns_base: closing it closes base. */
radar_comm *radar_staged(radar_comm *base, const radar_device *device, bool owns_base);

#endif
