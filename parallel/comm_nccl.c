/* comm_nccl.c - exchanges of device memory through NCCL, queued on the device's stream behind what it does.
 *
 * The host does not wait, and a list of commands with exchanges in it can be one CUDA graph.  What an exchange costs the device
 * inside one node of NVLink: pieces of equal size that lie side by side are one all-gather, in symmetric memory 5 us (8 GPUs, 1 KB
 * a rank) to 12 us (256 KB), else 7 us (2 GPUs) to 11 us (8); any others are a group of broadcasts, one launch, 10 us and more.
 * Symmetric memory is what radar_comm_alloc gives from NCCL 2.27 on.
 *
 * A rank captures a list when it comes again on that rank; shards end at different lengths, so one may replay while another issues.
 * NCCL's guide wants captures alike on all ranks.  What it does with a captured exchange is made the same as with another by
 * NCCL_GRAPH_REGISTER=0 (nccl_library.c); that this suffices has not been tried on GPUs: --graphs off does without. */
#include "parallel/comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/agree.h"
#include "parallel/nccl_library.h"
#include "runtime/sys.h"

enum { MOST_WINDOWS = 16 };

typedef struct registered {
    void *memory;
    nccl_window *window;
} registered;

typedef struct nccl_carrier {
    radar_comm comm;
    nccl_library nccl;
    nccl_comm *nccl_comm; /* NULL: abandoned */
    registered registered[MOST_WINDOWS];
    char why[320]; /* what went wrong first; empty: nothing */
} nccl_carrier;

static nccl_carrier *of(radar_comm *c) { return (nccl_carrier *)c; }

/* ---- who takes part: told through base before anybody opens anything ---- */

typedef struct introduction {
    int32_t version;                      /* 0: no library */
    int32_t shares_gpu;                   /* NCCL was told that it may */
    char gpu[32], host[64], machine[160]; /* machine: what NCCL takes for one; host: for people */
    char why[256];                        /* no library */
} introduction;

/* NCCL tells machines apart by NCCL_HOSTID, else by their name and boot. */
static void name_machine(introduction *me) {
    const char *id = getenv("NCCL_HOSTID");
    char boot[64] = "", host[sizeof me->host];
    radar_host_name(host, sizeof host);
    memcpy(me->host, host, sizeof host);
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (f && !fgets(boot, sizeof boot, f)) boot[0] = '\0';
    if (f) fclose(f);
    if (id && *id)
        snprintf(me->machine, sizeof me->machine, "id %.128s", id);
    else
        snprintf(me->machine, sizeof me->machine, "host %s %s", host, boot);
}

static void introduce(introduction *me, nccl_library *nccl, const char *gpu) {
    radar_error why = {0};
    int version = 0;
    memset(me, 0, sizeof *me);
    name_machine(me);
    snprintf(me->gpu, sizeof me->gpu, "%s", gpu);
    me->shares_gpu = getenv("NCCL_MULTI_RANK_GPU_ENABLE") != NULL;
    if (nccl_library_load(nccl, &why) == RADAR_OK && nccl->version(&version) == 0)
        me->version = version;
    else
        snprintf(me->why, sizeof me->why, "%.250s",
                 why.text[0] ? why.text : "NCCL does not tell its version");
}

static bool share_a_gpu(const introduction *a, const introduction *b) {
    return strcmp(a->machine, b->machine) == 0 && strcmp(a->gpu, b->gpu) == 0 &&
           !(a->shares_gpu && b->shares_gpu);
}

/* All ranks judge the same list, so they say the same. */
static radar_status judge(const introduction *all, int n, radar_error *err) {
    for (int r = 0; r < n; r++)
        if (all[r].version == 0)
            return radar_fail(err, RADAR_ERR_CONFIG,
                              "rank %d: %s; install libnccl2 there, name it by RADAR_NCCL, or use "
                              "--exchange staged",
                              r, all[r].why);
    for (int r = 1; r < n; r++)
        if (all[r].version != all[0].version)
            return radar_fail(err, RADAR_ERR_CONFIG,
                              "rank %d: NCCL %d.%d.%d, but rank 0 has %d.%d.%d; give all ranks the "
                              "same, or use --exchange staged",
                              r, all[r].version / 10000, all[r].version / 100 % 100,
                              all[r].version % 100, all[0].version / 10000,
                              all[0].version / 100 % 100, all[0].version % 100);
    for (int r = 1; r < n; r++)
        for (int q = 0; q < r; q++)
            if (share_a_gpu(&all[q], &all[r]))
                return radar_fail(err, RADAR_ERR_CONFIG,
                                  "rank %d: shares GPU %s of %s with rank %d, which NCCL refuses; "
                                  "give each rank its GPU, or its own NCCL_HOSTID, or use "
                                  "--exchange staged",
                                  r, all[r].gpu, all[r].host, q);
    return RADAR_OK;
}

static radar_status meet(radar_comm *base, nccl_library *nccl, const char *gpu, radar_error *err) {
    introduction all[RADAR_MAX_RANKS];
    size_t bytes[RADAR_MAX_RANKS], offset[RADAR_MAX_RANKS];
    for (int r = 0; r < base->size; r++) {
        bytes[r] = sizeof *all;
        offset[r] = (size_t)r * sizeof *all;
    }
    introduce(&all[base->rank], nccl, gpu);
    radar_status st = radar_gather(base, RADAR_X_SETUP, all, bytes, offset, err);
    return st == RADAR_OK ? judge(all, base->size, err) : st;
}

/* ---- gathers ---- */

typedef struct gathering {
    nccl_carrier *n;
    char *buffer;
    size_t x;
    struct {
        size_t bytes, offset;
    } piece[RADAR_MAX_RANKS];
} gathering;

static int note(const gathering *g, int result, const char *call) {
    nccl_carrier *n = g->n;
    if (result && !n->why[0])
        snprintf(n->why, sizeof n->why, "exchange %s: %s: %.200s",
                 radar_exchange_name((radar_exchange)g->x), call, n->nccl.error_string(result));
    return result;
}

static bool lie_side_by_side(const gathering *g, int ranks) {
    for (int r = 1; r < ranks; r++)
        if (g->piece[r].bytes != g->piece[0].bytes ||
            g->piece[r].offset != g->piece[r - 1].offset + g->piece[0].bytes)
            return false;
    return true;
}

static int broadcast_each(const gathering *g, void *stream) {
    nccl_carrier *n = g->n;
    int result = note(g, n->nccl.group_start(), "ncclGroupStart");
    if (result) return result;
    for (int r = 0; r < n->comm.size && !result; r++) {
        char *piece = g->buffer + g->piece[r].offset;
        if (g->piece[r].bytes)
            result = note(g,
                          n->nccl.broadcast(piece, piece, g->piece[r].bytes, NCCL_UINT8, r,
                                            n->nccl_comm, stream),
                          "ncclBroadcast");
    }
    const int end = note(g, n->nccl.group_end(), "ncclGroupEnd"); /* what has begun must end */
    return result ? result : end;
}

static int run_gather(void *data, void *stream) {
    const gathering *g = data;
    nccl_carrier *n = g->n;
    if (!n->nccl_comm) return -1;
    if (!lie_side_by_side(g, n->comm.size)) return broadcast_each(g, stream);
    return note(g,
                n->nccl.all_gather(g->buffer + g->piece[n->comm.rank].offset,
                                   g->buffer + g->piece[0].offset, g->piece[0].bytes, NCCL_UINT8,
                                   n->nccl_comm, stream),
                "ncclAllGather");
}

static radar_status nccl_gather(radar_comm *c, radar_exchange x, void *buffer, const size_t *bytes,
                                const size_t *offset, radar_error *err) {
    gathering g = {.n = of(c), .buffer = buffer, .x = (size_t)x};
    size_t total = 0;
    for (int r = 0; r < c->size; r++) {
        g.piece[r].bytes = bytes[r];
        g.piece[r].offset = offset[r];
        total += bytes[r];
    }
    if (!g.n->nccl_comm) return radar_comm_check(c, err);
    if (c->size > 1 && total > 0)
        c->device->call(c->device->user, radar_exchange_name(x), run_gather, &g,
                        offsetof(gathering, piece) + (size_t)c->size * sizeof *g.piece);
    return RADAR_OK;
}

static radar_status nccl_broadcast(radar_comm *c, void *buffer, size_t bytes, int root,
                                   radar_error *err) {
    return c->base->ops->broadcast(c->base, buffer, bytes, root, err);
}

static radar_status nccl_worst(radar_comm *c, radar_status *status, int *rank, radar_error *err) {
    return c->base->ops->worst(c->base, status, rank, err);
}

/* NCCL ends when the last graph that it is part of is gone, not before. */
static void let_go(const nccl_carrier *n, bool run) {
    const radar_device *d = n->comm.device;
    if (d->let_go) d->let_go(d->user, run);
}

/* ---- symmetric memory ---- */

static registered *find(nccl_carrier *n, const void *memory) {
    for (int i = 0; i < MOST_WINDOWS; i++)
        if (n->registered[i].memory == memory) return &n->registered[i];
    return NULL;
}

/* Whether all ranks have come so far. */
static bool all_do(radar_comm *base, bool mine) {
    radar_status worst = mine ? RADAR_OK : RADAR_ERR_MEMORY;
    int rank = 0;
    return radar_worst(base, &worst, &rank, NULL) == RADAR_OK && worst == RADAR_OK;
}

static void unregister(nccl_carrier *n, registered *slot) {
    let_go(n, true); /* a graph that works on the window would outlive it */
    if (slot->window && n->nccl_comm) n->nccl.window_deregister(n->nccl_comm, slot->window);
    if (slot->memory) n->nccl.mem_free(slot->memory);
    *slot = (registered){0};
}

/* A rank that has no memory, or no window, would leave the others waiting: all have it, or none. */
static void *alloc_registered(nccl_carrier *n, registered *slot, size_t bytes) {
    bool have = n->nccl.mem_alloc(&slot->memory, bytes) == 0;
    if (!have) slot->memory = NULL;
    if (all_do(n->comm.base, have)) {
        have = n->nccl.window_register(n->nccl_comm, slot->memory, bytes, &slot->window,
                                       NCCL_WINDOW_SYMMETRIC) == 0;
        if (!have) slot->window = NULL;
        if (all_do(n->comm.base, have)) return slot->memory;
    }
    unregister(n, slot);
    return NULL;
}

static void *nccl_alloc(radar_comm *c, size_t bytes) {
    nccl_carrier *n = of(c);
    registered *slot = find(n, NULL);
    void *memory = NULL;
    if (slot && n->nccl_comm && n->nccl.mem_alloc && n->nccl.mem_free && n->nccl.window_register &&
        n->nccl.window_deregister)
        memory = alloc_registered(n, slot, bytes);
    return memory ? memory : c->device->alloc(c->device->user, bytes);
}

static void nccl_release(radar_comm *c, void *memory) {
    registered *slot = find(of(c), memory);
    if (slot)
        unregister(of(c), slot);
    else
        c->device->release(c->device->user, memory);
}

/* ---- when it goes wrong, and the end ---- */

static void nccl_abandon(radar_comm *c) {
    nccl_carrier *n = of(c);
    if (n->nccl_comm) {
        let_go(n, false);
        n->nccl.abort(n->nccl_comm);
    }
    n->nccl_comm = NULL;
    if (!n->why[0]) snprintf(n->why, sizeof n->why, "NCCL was given up");
}

static radar_status nccl_check(radar_comm *c, radar_error *err) {
    nccl_carrier *n = of(c);
    int result = 0;
    if (n->nccl_comm && !n->why[0]) {
        int code = n->nccl.async_error(n->nccl_comm, &result);
        if (code) result = code;
        if (result && result != NCCL_IN_PROGRESS)
            snprintf(n->why, sizeof n->why, "NCCL: %.256s", n->nccl.error_string(result));
    }
    if (!n->why[0]) return RADAR_OK;
    nccl_abandon(c);
    return radar_fail(err, RADAR_ERR_PEER,
                      "%s; see the other ranks' messages and NCCL_DEBUG=WARN, and start again",
                      n->why);
}

static void nccl_close(radar_comm *c) {
    nccl_carrier *n = of(c);
    if (n->why[0]) nccl_abandon(c);
    if (n->nccl_comm) {
        let_go(n, true);
        n->nccl.destroy(n->nccl_comm);
    }
    radar_free(n);
}

static const radar_comm_ops nccl_ops = {.name = "nccl",
                                        .gather = nccl_gather,
                                        .broadcast = nccl_broadcast,
                                        .worst = nccl_worst,
                                        .close = nccl_close,
                                        .alloc = nccl_alloc,
                                        .release = nccl_release,
                                        .check = nccl_check,
                                        .abandon = nccl_abandon};

/* ---- opening ---- */

static void fail_call(const nccl_carrier *n, const char *call, int result, radar_error *err) {
    if (result)
        radar_fail(err, RADAR_ERR_CONFIG,
                   "exchanges: %s: %.256s; NCCL_DEBUG=WARN says more, --exchange staged does "
                   "without NCCL",
                   call, n->nccl.error_string(result));
}

/* Each stage is agreed on before the next, in which a rank alone would wait for ever. */
static radar_status connect_ranks(nccl_carrier *n, radar_error *err) {
    radar_comm *base = n->comm.base;
    nccl_id id = {{0}};
    if (base->rank == 0) fail_call(n, "ncclGetUniqueId", n->nccl.unique_id(&id), err);
    radar_status st = radar_agree(base, err);
    if (st == RADAR_OK) st = radar_broadcast(base, &id, sizeof id, 0, err);
    if (st != RADAR_OK) return st;
    int result = n->nccl.init(&n->nccl_comm, base->size, id, base->rank);
    if (result) n->nccl_comm = NULL;
    fail_call(n, "ncclCommInitRank", result, err);
    return radar_agree(base, err);
}

radar_status radar_comm_nccl(radar_comm **out, radar_comm *base, const radar_device *device,
                             const char *gpu, radar_error *err) {
    nccl_library nccl = {0};
    radar_error mine = {0};
    *out = NULL;
    radar_status st = meet(base, &nccl, gpu, &mine);
    if (st != RADAR_OK) return radar_fail(err, st, "%s", mine.text);
    nccl_carrier *n = radar_alloc(sizeof *n);
    if (!n)
        radar_fail(&mine, RADAR_ERR_MEMORY, "exchanges: no memory for %zu bytes", sizeof *n);
    else {
        n->comm = (radar_comm){.ops = &nccl_ops,
                               .rank = base->rank,
                               .size = base->size,
                               .message_bytes = base->message_bytes,
                               .device = device,
                               .base = base};
        n->nccl = nccl;
    }
    RADAR_TRY(st, radar_agree(base, &mine), fail);
    RADAR_TRY(st, connect_ranks(n, &mine), fail);
    *out = &n->comm;
    return RADAR_OK;
fail:
    if (n && n->nccl_comm) nccl_abandon(&n->comm);
    radar_free(n);
    return radar_fail(err, st, "%s", mine.text);
}
