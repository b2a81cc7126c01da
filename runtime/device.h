/* device.h - what the runtime does of its own where the backend's memory is not the host's: which device a rank takes, what stands
 * between it and the carriers of exchanges, and who has to look elsewhere. */
#ifndef RADAR_DEVICE_H
#define RADAR_DEVICE_H

#include "runtime/engine.h"

/* [this rank] Whether operations of e's backend are queued on a device with memory of its own. */
static inline bool radar_on_device(const radar_engine *e) {
    return e->be && e->be->ops->host != NULL;
}

/* [all ranks] Opens the backend that the options ask for.  "auto": the first that every rank can open; why it is not an earlier one
 * is in e->fallback.  On success e->be is set on all ranks. */
radar_status radar_device_open(radar_engine *e, const radar_backend_options *opt);
/* [all ranks] On a device: puts its carrier over e->comm, which from then on is that one's base. */
radar_status radar_device_carrier(radar_engine *e);
/* [this rank] Closes what radar_device_carrier put; the base stays e->comm. */
void radar_device_leave(radar_engine *e);

/* [this rank] A pass cannot be ended: what of it is queued is forgotten, and no other rank waits for it. */
void radar_device_give_up(radar_engine *e);
/* [this rank] Until what is queued of a pass, exchanges too, is done.  RADAR_ERR_PEER where it is not: the other ranks may wait for
 * this one for ever, and no exchange works any more. */
radar_status radar_device_wait(radar_engine *e, radar_error *err);

/* [this rank] RADAR_ERR_CONFIG on a device: `who` looks into memory of the backend. */
radar_status radar_device_refuse(radar_engine *e, const char *who, radar_error *err);

#endif
