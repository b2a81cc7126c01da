/* place.h - the host's threads near the GPU they feed. */
#ifndef RADAR_LAUNCH_PLACE_H
#define RADAR_LAUNCH_PLACE_H

#include <sched.h>
#include <stdbool.h>

/* Cores of a list as the kernel writes it, "0-3,8,10-11\n"; false: it is none. */
bool launch_core_list(cpu_set_t *out, const char *text);
/* [this rank] Binds the process to the cores beside the GPU with this bus id ("0000:65:00.0"), where the system says which they are
 * and no launcher has bound it yet; returns how many, 0: nothing was done. */
int launch_bind_near(const char *bus);

#endif
