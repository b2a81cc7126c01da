/* comm_local.c - ranks of one process, a thread each: what one publishes the others copy, between two meetings of all.
 *
 * A rank that closes, or abandons, ends the meetings: whoever waits for it, or comes later, gets RADAR_ERR_PEER. */
#include "parallel/comm.h"

#include <pthread.h>
#include <string.h>

#include "parallel/staged.h"
#include "runtime/sys.h"

typedef struct place {
    pthread_mutex_t mutex;
    pthread_cond_t all_came;
    int n, open; /* ranks, and those that have not closed */
    int waiting;
    int gone; /* the first rank that left, or -1 */
    unsigned meeting;
    const void
        *published[RADAR_MAX_RANKS]; /* what each rank shows the others until the next meeting */
} place;

typedef struct local_carrier {
    radar_comm comm;
    place *place;
} local_carrier;

static radar_status meet(place *p, radar_error *err) {
    pthread_mutex_lock(&p->mutex);
    const unsigned meeting = p->meeting;
    if (p->gone < 0 && ++p->waiting == p->n) {
        p->waiting = 0;
        p->meeting++;
        pthread_cond_broadcast(&p->all_came);
    }
    while (p->meeting == meeting && p->gone < 0) pthread_cond_wait(&p->all_came, &p->mutex);
    const int gone = p->meeting == meeting ? p->gone : -1;
    pthread_mutex_unlock(&p->mutex);
    if (gone < 0) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_PEER,
                      "rank %d of this process has left; see what it said and start again", gone);
}

static radar_status publish(radar_comm *c, const void *data, radar_error *err) {
    place *p = ((local_carrier *)c)->place;
    p->published[c->rank] = data;
    return meet(p, err);
}

static radar_status local_gather(radar_comm *c, radar_exchange x, void *buffer, const size_t *bytes,
                                 const size_t *offset, radar_error *err) {
    place *p = ((local_carrier *)c)->place;
    (void)x;
    radar_status st = publish(c, buffer, err);
    if (st != RADAR_OK) return st;
    for (int r = 0; r < c->size; r++)
        if (r != c->rank && bytes[r])
            memcpy((char *)buffer + offset[r], (const char *)p->published[r] + offset[r], bytes[r]);
    return meet(p, err); /* until then nobody changes what the others copy */
}

static radar_status local_broadcast(radar_comm *c, void *buffer, size_t bytes, int root,
                                    radar_error *err) {
    place *p = ((local_carrier *)c)->place;
    radar_status st = publish(c, buffer, err);
    if (st != RADAR_OK) return st;
    if (c->rank != root && bytes) memcpy(buffer, p->published[root], bytes);
    return meet(p, err);
}

static radar_status local_worst(radar_comm *c, radar_status *status, int *rank, radar_error *err) {
    place *p = ((local_carrier *)c)->place;
    const radar_status mine = *status;
    radar_status st = publish(c, &mine, err);
    if (st != RADAR_OK) return st;
    *rank = 0;
    *status = RADAR_OK;
    for (int r = 0; r < c->size; r++) {
        const radar_status theirs = *(const radar_status *)p->published[r];
        if (theirs > *status) {
            *status = theirs;
            *rank = r;
        }
    }
    return meet(p, err);
}

static void leave(place *p, int rank) {
    pthread_mutex_lock(&p->mutex);
    if (p->gone < 0) p->gone = rank;
    pthread_cond_broadcast(&p->all_came);
    pthread_mutex_unlock(&p->mutex);
}

static void local_abandon(radar_comm *c) { leave(((local_carrier *)c)->place, c->rank); }

static void free_place(place *p) {
    pthread_cond_destroy(&p->all_came);
    pthread_mutex_destroy(&p->mutex);
    radar_free(p);
}

/* Nobody waits in the place that the last one frees: who has closed has come back from his exchanges. */
static void local_close(radar_comm *c) {
    place *p = ((local_carrier *)c)->place;
    leave(p, c->rank);
    pthread_mutex_lock(&p->mutex);
    const bool last = --p->open == 0;
    pthread_mutex_unlock(&p->mutex);
    if (last) free_place(p);
    radar_free(c);
}

static const radar_comm_ops local_ops = {.name = "local",
                                         .gather = local_gather,
                                         .broadcast = local_broadcast,
                                         .worst = local_worst,
                                         .close = local_close,
                                         .abandon = local_abandon};

static place *open_place(int n) {
    place *p = radar_alloc(sizeof *p);
    if (!p) return NULL;
    p->n = n;
    p->gone = -1;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->all_came, NULL);
    return p;
}

/* A rank of the place, and before its device the carrier that goes through host memory. */
static radar_comm *open_rank(place *p, int rank, const radar_device *device) {
    local_carrier *l = radar_alloc(sizeof *l);
    if (!l) return NULL;
    l->comm = (radar_comm){.ops = &local_ops, .rank = rank, .size = p->n};
    l->place = p;
    p->open++;
    if (!device) return &l->comm;
    radar_comm *c = radar_staged(&l->comm, device, true);
    if (c) return c;
    p->open--;
    radar_free(l);
    return NULL;
}

radar_status radar_comm_local(radar_comm **out, int n, const radar_device *const *device,
                              radar_error *err) {
    for (int r = 0; r < n; r++) out[r] = NULL;
    if (n < 1 || n > RADAR_MAX_RANKS)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "%d ranks, but at least one and at most %d can own a shard", n,
                          RADAR_MAX_RANKS);
    place *p = open_place(n);
    int opened = 0;
    if (!p) goto no_memory;
    for (; opened < n; opened++) {
        out[opened] = open_rank(p, opened, device ? device[opened] : NULL);
        if (!out[opened]) goto no_memory;
    }
    return RADAR_OK;
no_memory:
    if (p && opened == 0) free_place(p); /* else the last one closed frees it */
    for (int r = 0; r < opened; r++) {
        radar_comm_close(out[r]);
        out[r] = NULL;
    }
    return radar_fail(err, RADAR_ERR_MEMORY, "exchanges: no memory for %d ranks", n);
}
