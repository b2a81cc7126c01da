/* comm_staged.c - exchanges of device memory through host memory: device -> host, base's gather, host -> device.
 *
 * All three are one piece of host work between what the device does before and behind it, so the device idles for two copies and
 * base's exchange.  The pieces lie close together in host memory, wherever they are in the buffer. */
#include "parallel/staged.h"

#include <stddef.h>

#include "parallel/agree.h"
#include "runtime/sys.h"

typedef struct staged_carrier {
    radar_comm comm;
    bool owns_base;
    char *stage; /* host memory */
    size_t room; /* bytes of it */
} staged_carrier;

/* What the host is asked to do, of as many pieces as there are ranks. */
typedef struct gathering {
    staged_carrier *s;
    char *buffer; /* of the device */
    size_t x;     /* a radar_exchange */
    struct {
        size_t bytes, offset;
    } piece[RADAR_MAX_RANKS];
} gathering;

static radar_status lost(int code, const char *what, radar_error *err) {
    return radar_fail(err, RADAR_ERR_PEER, "copy %s the device failed (error %d); start again",
                      what, code);
}

static radar_status carry(const gathering *g, radar_error *err) {
    staged_carrier *s = g->s;
    radar_comm *base = s->comm.base;
    const radar_device *device = s->comm.device;
    const int me = s->comm.rank;
    size_t bytes[RADAR_MAX_RANKS], at[RADAR_MAX_RANKS], used = 0;
    int code = 0;
    for (int r = 0; r < s->comm.size; used += bytes[r++]) {
        bytes[r] = g->piece[r].bytes;
        at[r] = used;
    }
    if (bytes[me])
        code = device->read(device->user, s->stage + at[me], g->buffer + g->piece[me].offset,
                            bytes[me]);
    if (code) return lost(code, "from", err);
    radar_status st = base->ops->gather(base, (radar_exchange)g->x, s->stage, bytes, at, err);
    if (st != RADAR_OK) return st;
    for (int r = 0; r < s->comm.size && !code; r++)
        if (r != me && bytes[r])
            code = device->write(device->user, g->buffer + g->piece[r].offset, s->stage + at[r],
                                 bytes[r]);
    return code ? lost(code, "to", err) : RADAR_OK;
}

/* The host's work when its turn comes; the caller of radar_gather is long gone, so time and name are noted here. */
static radar_status run_gather(void *data, radar_error *err) {
    const gathering *g = data;
    radar_exchange x = (radar_exchange)g->x;
    radar_error why = {0};
    double began = radar_clock();
    radar_status st = carry(g, &why);
    g->s->comm.stats[x].seconds += radar_clock() - began;
    if (st == RADAR_OK) return st;
    radar_comm_abandon(g->s->comm.base);
    return radar_fail(err, st, "exchange %s: %.400s", radar_exchange_name(x), why.text);
}

/* Between passes, when buffers are made; a pass only grows what nobody made room for. */
static bool make_room(staged_carrier *s, size_t bytes) {
    if (bytes <= s->room) return true;
    char *stage = radar_alloc(bytes);
    if (!stage) return false;
    radar_free(s->stage);
    s->stage = stage;
    s->room = bytes;
    return true;
}

static radar_status staged_gather(radar_comm *c, radar_exchange x, void *buffer,
                                  const size_t *bytes, const size_t *offset, radar_error *err) {
    staged_carrier *s = (staged_carrier *)c;
    gathering g = {.s = s, .buffer = buffer, .x = (size_t)x};
    size_t total = 0;
    for (int r = 0; r < c->size; r++) {
        g.piece[r].bytes = bytes[r];
        g.piece[r].offset = offset[r];
        total += bytes[r];
    }
    if (c->size == 1 || total == 0) return RADAR_OK;
    if (!make_room(s, total))
        return radar_fail(err, RADAR_ERR_PEER, "no host memory for %zu bytes", total);
    c->device->host(c->device->user, run_gather, &g,
                    offsetof(gathering, piece) + (size_t)c->size * sizeof *g.piece);
    return RADAR_OK;
}

static radar_status staged_broadcast(radar_comm *c, void *buffer, size_t bytes, int root,
                                     radar_error *err) {
    return c->base->ops->broadcast(c->base, buffer, bytes, root, err);
}

static radar_status staged_worst(radar_comm *c, radar_status *status, int *rank, radar_error *err) {
    return c->base->ops->worst(c->base, status, rank, err);
}

static void *staged_alloc(radar_comm *c, size_t bytes) {
    if (c->size > 1 && !make_room((staged_carrier *)c, bytes)) return NULL;
    return c->device->alloc(c->device->user, bytes);
}

static void staged_release(radar_comm *c, void *memory) {
    c->device->release(c->device->user, memory);
}

static void staged_abandon(radar_comm *c) { radar_comm_abandon(c->base); }

static void staged_close(radar_comm *c) {
    staged_carrier *s = (staged_carrier *)c;
    if (s->owns_base) radar_comm_close(c->base);
    radar_free(s->stage);
    radar_free(s);
}

static const radar_comm_ops staged_ops = {.name = "staged",
                                          .gather = staged_gather,
                                          .broadcast = staged_broadcast,
                                          .worst = staged_worst,
                                          .close = staged_close,
                                          .alloc = staged_alloc,
                                          .release = staged_release,
                                          .abandon = staged_abandon};

radar_comm *radar_staged(radar_comm *base, const radar_device *device, bool owns_base) {
    staged_carrier *s = radar_alloc(sizeof *s);
    if (!s) return NULL;
    s->comm = (radar_comm){.ops = &staged_ops,
                           .rank = base->rank,
                           .size = base->size,
                           .message_bytes = base->message_bytes,
                           .device = device,
                           .base = base};
    s->owns_base = owns_base;
    return &s->comm;
}

radar_status radar_comm_staged(radar_comm **out, radar_comm *base, const radar_device *device,
                               radar_error *err) {
    radar_error mine = {0};
    radar_comm *c = *out = radar_staged(base, device, false);
    if (!c)
        radar_fail(&mine, RADAR_ERR_MEMORY, "exchanges: no memory for %zu bytes",
                   sizeof(staged_carrier));
    radar_status st = radar_agree(base, &mine);
    if (st == RADAR_OK) return st;
    radar_comm_close(c);
    *out = NULL;
    return radar_fail(err, st, "%s", mine.text);
}
