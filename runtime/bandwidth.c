/* The ceiling that figures are held against: how fast this backend's threads read memory. */
#include "parallel/agree.h"
#include "runtime/device.h"
#include "runtime/sys.h"

enum { PASSES = 7, LEAST_BYTES = 1 << 20 };

/* Every pass begins on all ranks together: what a rank can have while the others want as much. */
static radar_status time_passes(radar_engine *e, void *memory, size_t bytes, double *seconds) {
    radar_error err = {0};
    const uint64_t want = 36 * (bytes / 64); /* touch leaves 1 to 8 in the words of a line */
    if (memory) e->be->ops->touch(e->be, memory, bytes);
    for (int i = 0; i < PASSES; i++) {
        if (!memory) radar_fail(&err, RADAR_ERR_MEMORY, "read bandwidth: no memory");
        const radar_status st = radar_agree(e->comm, &err);
        if (st != RADAR_OK) return st;
        const double began = radar_clock();
        const uint64_t sum = e->be->ops->read(e->be, memory, bytes);
        seconds[i] = radar_clock() - began;
        if (sum != want) radar_fail(&err, RADAR_ERR_INTERNAL, "read bandwidth: memory is wrong");
    }
    return radar_agree(e->comm, &err);
}

double radar_read_bandwidth(radar_engine *e, size_t bytes) {
    double seconds[PASSES];
    if (radar_on_device(e)) return 0; /* its own tests measure it */
    bytes = bytes < LEAST_BYTES ? LEAST_BYTES : bytes / 64 * 64;
    void *memory = e->be->ops->alloc(e->be, bytes);
    const radar_status st = time_passes(e, memory, bytes, seconds);
    e->be->ops->release(e->be, memory);
    if (st != RADAR_OK) return 0;
    const double median = radar_median(seconds, PASSES);
    return median > 0 ? (double)bytes / median : 0;
}
