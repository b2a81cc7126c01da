#include "parallel/comm.h"

#include "runtime/sys.h"

const char *radar_exchange_name(radar_exchange x) {
    static const char *const name[RADAR_X_COUNT] = {
        [RADAR_X1_QKV] = "X1 qkv",           [RADAR_X2_TOPK] = "X2 topk",
        [RADAR_X3_PARTIALS] = "X3 partials", [RADAR_X4_OUTPUT] = "X4 output",
        [RADAR_X5_DOWN] = "X5 down",         [RADAR_X_LOGITS] = "logits",
        [RADAR_X_PROBE] = "probe",           [RADAR_X_SETUP] = "setup",
    };
    return (unsigned)x < RADAR_X_COUNT ? name[x] : "unknown";
}

/* Books the exchange and puts its name before what the carrier says went wrong. */
static radar_status finish(radar_comm *c, radar_exchange x, double began, size_t received,
                           radar_status st, const radar_error *why, radar_error *err) {
    c->stats[x].seconds += radar_clock() - began;
    c->stats[x].calls++;
    if (st != RADAR_OK)
        return radar_fail(err, st, "exchange %s: %.400s", radar_exchange_name(x), why->text);
    c->stats[x].bytes += (int64_t)received;
    return RADAR_OK;
}

/* Set-up is of host memory on every carrier. */
static radar_comm *host_carrier(radar_comm *c) { return c->base ? c->base : c; }

radar_status radar_gather(radar_comm *c, radar_exchange x, void *buffer, const size_t *bytes,
                          const size_t *offset, radar_error *err) {
    radar_comm *carrier = x == RADAR_X_SETUP ? host_carrier(c) : c;
    radar_error why = {0};
    double began = radar_clock();
    size_t received = 0;
    for (int r = 0; r < c->size; r++)
        if (r != c->rank) received += bytes[r];
    radar_status st = carrier->ops->gather(carrier, x, buffer, bytes, offset, &why);
    return finish(c, x, began, received, st, &why, err);
}

radar_status radar_broadcast(radar_comm *c, void *buffer, size_t bytes, int root,
                             radar_error *err) {
    radar_comm *carrier = host_carrier(c);
    radar_error why = {0};
    double began = radar_clock();
    radar_status st = carrier->ops->broadcast(carrier, buffer, bytes, root, &why);
    return finish(c, RADAR_X_SETUP, began, c->rank == root ? 0 : bytes, st, &why, err);
}

radar_status radar_worst(radar_comm *c, radar_status *status, int *rank, radar_error *err) {
    radar_comm *carrier = host_carrier(c);
    radar_error why = {0};
    double began = radar_clock();
    radar_status st = carrier->ops->worst(carrier, status, rank, &why);
    return finish(c, RADAR_X_SETUP, began, c->size > 1 ? 2 * sizeof(int) : 0, st, &why, err);
}

void *radar_comm_alloc(radar_comm *c, size_t bytes) {
    if (c->ops->alloc) return c->ops->alloc(c, bytes);
    return c->device ? c->device->alloc(c->device->user, bytes) : radar_alloc(bytes);
}

void radar_comm_release(radar_comm *c, void *memory) {
    if (!memory) return;
    if (c->ops->release)
        c->ops->release(c, memory);
    else if (c->device)
        c->device->release(c->device->user, memory);
    else
        radar_free(memory);
}

radar_status radar_comm_check(radar_comm *c, radar_error *err) {
    return c->ops->check ? c->ops->check(c, err) : RADAR_OK;
}

void radar_comm_abandon(radar_comm *c) {
    if (c->ops->abandon) c->ops->abandon(c);
}

void radar_comm_close(radar_comm *c) {
    if (c) c->ops->close(c);
}
