#include "runtime/device.h"

#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "parallel/agree.h"
#include "runtime/sys.h"

/* ---- which device ---- */

/* How many ranks before this one are on the same machine. */
static radar_status local_rank(radar_engine *e, int *local) {
    uint64_t host[RADAR_MAX_RANKS];
    size_t bytes[RADAR_MAX_RANKS], offset[RADAR_MAX_RANKS];
    char name[256] = "";
    radar_comm *c = e->comm;
    radar_host_name(name, sizeof name);
    host[c->rank] = XXH3_64bits(name, strlen(name));
    for (int r = 0; r < c->size; r++)
        bytes[r] = sizeof host[0], offset[r] = (size_t)r * sizeof host[0];
    radar_status st = radar_gather(c, RADAR_X_SETUP, host, bytes, offset, &e->err);
    *local = 0;
    for (int r = 0; st == RADAR_OK && r < c->rank; r++) *local += host[r] == host[c->rank];
    return st;
}

/* The next backend on all ranks, or on none; *fell: some rank could not, and why is the text of err. */
static radar_status try_backend(radar_engine *e, const radar_backend_ops *ops,
                                const radar_backend_options *opt, radar_error *why) {
    radar_status st = ops->open(&e->be, opt, why);
    if (st != RADAR_OK) e->be = NULL;
    st = radar_agree(e->comm, why);
    if (st == RADAR_OK) return st;
    if (e->be) ops->close(e->be);
    e->be = NULL;
    return st;
}

radar_status radar_device_open(radar_engine *e, const radar_backend_options *given) {
    radar_backend_options opt = *given;
    const bool any = strcmp(e->opt.backend, "auto") == 0;
    radar_error why = {0};
    radar_status st = local_rank(e, &opt.turn);
    if (st != RADAR_OK) return st;
    for (const radar_backend_ops *const *ops = radar_backends; *ops; ops++) {
        if (!any && strcmp(e->opt.backend, (*ops)->name) != 0) continue;
        why = (radar_error){0};
        st = try_backend(e, *ops, &opt, &why);
        if (st == RADAR_OK) return st;
        if (!any || !ops[1] || st != RADAR_ERR_CONFIG) break;
        snprintf(e->fallback, sizeof e->fallback, "backend %s: %s", ops[1]->name, why.text);
    }
    if (why.status == RADAR_OK)
        return radar_fail(
            &e->err, RADAR_ERR_CONFIG,
            "--backend '%s': not in this build; use auto or cpu, or build with CUDA=1",
            e->opt.backend);
    return radar_fail(&e->err, why.status, "%s", why.text);
}

/* ---- between device and carrier ---- */

static void device_call(void *user, const char *what, int (*work)(void *data, void *stream),
                        const void *data, size_t bytes) {
    radar_backend *be = user;
    be->ops->call(be, what, work, data, bytes);
}

static void device_host(void *user, radar_status (*work)(void *data, radar_error *err),
                        const void *data, size_t bytes) {
    radar_backend *be = user;
    be->ops->host(be, work, data, bytes);
}

static void device_move(void *user, const radar_move *move, int n) {
    radar_backend *be = user;
    radar_copy copy[3 * RADAR_MAX_RANKS];
    for (int done = 0, some; done < n; done += some) {
        some = (int)radar_min64(n - done, (int64_t)(sizeof copy / sizeof copy[0]));
        for (int i = 0; i < some; i++) {
            const radar_move *m = &move[done + i];
            copy[i] = (radar_copy){m->to, m->from, m->to_stride, m->from_stride, m->rows, m->width};
        }
        be->ops->copy(be, copy, some);
    }
}

static int device_read(void *user, void *host, const void *device, size_t bytes) {
    radar_backend *be = user;
    return be->ops->read_now(be, host, device, bytes);
}

static int device_write(void *user, void *device, const void *host, size_t bytes) {
    radar_backend *be = user;
    return be->ops->write_now(be, device, host, bytes);
}

static void *device_alloc(void *user, size_t bytes) {
    radar_backend *be = user;
    return be->ops->alloc(be, bytes);
}

static void device_release(void *user, void *memory) {
    radar_backend *be = user;
    be->ops->release(be, memory);
}

static void device_let_go(void *user, bool run) {
    radar_backend *be = user;
    be->ops->let_go(be, run);
}

/* NCCL where every rank can have it; one rank needs none. */
static radar_status open_carrier(radar_engine *e, radar_comm **out) {
    const char *bus = e->be->ops->facts(e->be).bus;
    radar_error why = {0};
    if (e->comm->size == 1 || strcmp(e->opt.exchange, "staged") == 0)
        return radar_comm_staged(out, e->comm, &e->device, &e->err);
    radar_status st = radar_comm_nccl(out, e->comm, &e->device, bus, &why);
    if (st == RADAR_OK) return st;
    if (strcmp(e->opt.exchange, "auto") != 0 || st != RADAR_ERR_CONFIG)
        return radar_fail(&e->err, st, "%s", why.text);
    snprintf(e->fallback, sizeof e->fallback, "exchange staged: %s", why.text);
    return radar_comm_staged(out, e->comm, &e->device, &e->err);
}

static radar_status device_check(void *user, radar_error *err) {
    return radar_comm_check(user, err);
}

radar_status radar_device_wait(radar_engine *e, radar_error *err) {
    radar_error device = {0}, carrier = {0};
    radar_status st = e->be->ops->wait(e->be, &device);
    if (st == RADAR_OK) return st;
    if (e->comm->size == 1) return radar_fail(err, st, "%s", device.text);
    /* what a carrier's call failed with is the better story; a lost device is its own */
    const bool lost = st == RADAR_ERR_PEER;
    if (radar_comm_check(e->comm, &carrier) == RADAR_OK || lost) carrier = device;
    radar_comm_abandon(e->comm);
    return radar_fail(err, RADAR_ERR_PEER, "%s", carrier.text);
}

void radar_device_give_up(radar_engine *e) {
    if (!radar_on_device(e)) return;
    e->be->ops->drop(e->be);
    if (e->comm->size > 1) radar_comm_abandon(e->comm);
}

radar_status radar_device_carrier(radar_engine *e) {
    radar_comm *carrier = NULL;
    if (!radar_on_device(e)) return RADAR_OK;
    e->device =
        (radar_device){e->be,        device_call,  device_host,    device_move,  device_read,
                       device_write, device_alloc, device_release, device_let_go};
    radar_status st = open_carrier(e, &carrier);
    if (st != RADAR_OK) return st;
    e->comm = carrier;
    if (carrier->ops->check) e->be->ops->watch(e->be, device_check, carrier);
    return st;
}

void radar_device_leave(radar_engine *e) {
    radar_comm *base = e->comm->base;
    if (!base) return;
    e->be->ops->watch(e->be, NULL, NULL);
    radar_comm_close(e->comm);
    e->comm = base;
}

radar_status radar_device_refuse(radar_engine *e, const char *who, radar_error *err) {
    if (!radar_on_device(e)) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_CONFIG,
                      "%s looks into the memory of the CPU backend; use --backend cpu", who);
}
