/* comm_self.c - one rank: everything is already where it belongs. */
#include "parallel/comm.h"

#include "runtime/sys.h"

static radar_status self_gather(radar_comm *c, radar_exchange x, void *buffer, const size_t *bytes,
                                const size_t *offset, radar_error *err) {
    (void)c, (void)x, (void)buffer, (void)bytes, (void)offset, (void)err;
    return RADAR_OK;
}

static radar_status self_broadcast(radar_comm *c, void *buffer, size_t bytes, int root,
                                   radar_error *err) {
    (void)c, (void)buffer, (void)bytes, (void)root, (void)err;
    return RADAR_OK;
}

static radar_status self_worst(radar_comm *c, radar_status *status, int *rank, radar_error *err) {
    (void)c, (void)status, (void)err;
    *rank = 0;
    return RADAR_OK;
}

static void self_close(radar_comm *c) { radar_free(c); }

static const radar_comm_ops self_ops = {.name = "self",
                                        .gather = self_gather,
                                        .broadcast = self_broadcast,
                                        .worst = self_worst,
                                        .close = self_close};

radar_status radar_comm_self(radar_comm **out, radar_error *err) {
    radar_comm *c = *out = radar_alloc(sizeof *c);
    if (!c)
        return radar_fail(err, RADAR_ERR_MEMORY, "exchanges: no memory for %zu bytes", sizeof *c);
    c->ops = &self_ops;
    c->size = 1;
    return RADAR_OK;
}
