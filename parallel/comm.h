/* comm.h - the exchanges between ranks: one table, several carriers.
 *   self    one rank                                                                                          any memory
 *   mpi     host memory through MPI
 *   local   ranks of one process, threads of it                                                  host or device memory
 *   staged  device memory through host memory and MPI                             the host waits at every exchange
 *   nccl    device memory, queued behind what the device does             the host does not wait; part of a CUDA graph
 * What a carrier of device memory is asked to gather is queued on the device (radar_device), as operations are.  What is queued
 * may meet the other ranks whenever the device is waited for, so all ranks wait for it at the same places among their exchanges.
 *
 * All gathers are in place and variable: every rank knows every rank's number of bytes from the layout, writes its piece at its own
 * place of the buffer, and finds all pieces there afterwards.  Every exchange has a name, and is counted and timed.
 *
 * A failed exchange gives RADAR_ERR_PEER, perhaps on some ranks only: after it no further exchange is safe, not even radar_agree. */
#ifndef RADAR_COMM_H
#define RADAR_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parallel/shard.h"
#include "runtime/base.h"

#define RADAR_MAX_RANKS RADAR_MAX_SHARDS /* a rank owns a shard at least */

typedef enum radar_exchange {
    RADAR_X1_QKV,      /* the rows of q, k, v; in host memory behind {step, status} */
    RADAR_X2_TOPK,     /* candidates: keys of topk.h */
    RADAR_X3_PARTIALS, /* partial softmaxes, a subtree each */
    RADAR_X4_OUTPUT,   /* rows of the attention output */
    RADAR_X5_DOWN,     /* partial sums of the FFN, a subtree each */
    RADAR_X_LOGITS,    /* rows of the vocabulary */
    RADAR_X_PROBE,     /* masses of the candidates, for an observer */
    RADAR_X_SETUP,     /* everything outside a step */
    RADAR_X_COUNT
} radar_exchange;

typedef struct radar_exchange_stats {
    int64_t calls;
    int64_t bytes;  /* received from other ranks */
    double seconds; /* of the host, which does not wait for what is queued on a device */
} radar_exchange_stats;

typedef struct radar_comm radar_comm;

/* A rectangle of numbers that moves, from one place of memory to another. */
typedef struct radar_move {
    float *to;
    const float *from;
    size_t to_stride, from_stride; /* numbers from row to row */
    int64_t rows, width;
} radar_move;

/* The device whose memory a carrier works on, as the runtime hands it over. */
typedef struct radar_device {
    void *user;
    /* Queue: calls of a library on the device's stream, and work of the host between what is queued before and behind it; data
     * is copied. */
    void (*call)(void *user, const char *what, int (*work)(void *data, void *stream),
                 const void *data, size_t bytes);
    void (*host)(void *user, radar_status (*work)(void *data, radar_error *err), const void *data,
                 size_t bytes);
    void (*move)(void *user, const radar_move *move, int n); /* queued; no two overlap */
    /* Within work of the host: at once; 0 or an error. */
    int (*read)(void *user, void *host, const void *device, size_t bytes);
    int (*write)(void *user, void *device, const void *host, size_t bytes);
    void *(*alloc)(void *user, size_t bytes); /* device memory, zeroed */
    void (*release)(void *user, void *memory);
    /* NULL: there is nothing to do.  No captured list of commands holds on to what a library has any more; with `run`, what is queued
     * is done before. */
    void (*let_go)(void *user, bool run);
} radar_device;

/* What a carrier offers.  Called through the functions below, which count, time and name. */
typedef struct radar_comm_ops {
    const char *name;
    /* piece of rank r: bytes[r] at offset[r] of buffer */
    radar_status (*gather)(radar_comm *c, radar_exchange x, void *buffer, const size_t *bytes,
                           const size_t *offset, radar_error *err);
    radar_status (*broadcast)(radar_comm *c, void *buffer, size_t bytes, int root,
                              radar_error *err);
    /* the worst status and the rank that has it (lowest of several) */
    radar_status (*worst)(radar_comm *c, radar_status *status, int *rank, radar_error *err);
    void (*close)(radar_comm *c);
    /* The rest may be NULL.  Memory that gathers work on; NULL: any memory of the device (or of the host) will do. */
    void *(*alloc)(radar_comm *c, size_t bytes);
    void (*release)(radar_comm *c, void *memory);
    /* NULL: nothing goes wrong behind the host's back, and nobody waits for a rank that has given up */
    radar_status (*check)(radar_comm *c, radar_error *err);
    void (*abandon)(radar_comm *c);
} radar_comm_ops;

struct radar_comm {
    const radar_comm_ops *ops;
    int rank, size;             /* size <= RADAR_MAX_RANKS */
    size_t message_bytes;       /* a carrier cuts what is longer; the same on all ranks */
    const radar_device *device; /* whose memory gathers work on; NULL: the host's */
    radar_comm *base; /* with a device, else NULL: carries set-up, broadcast and worst, always of
                         the host's memory */
    radar_exchange_stats stats[RADAR_X_COUNT];
};

/* [this rank] One rank, no MPI. */
radar_status radar_comm_self(radar_comm **out, radar_error *err);
/* [all ranks] Duplicates *mpi_comm (an MPI_Comm), sets MPI_ERRORS_RETURN on the duplicate.  MPI must be initialised (FUNNELED or more). */
radar_status radar_comm_mpi(radar_comm **out, const void *mpi_comm, radar_error *err);
/* Carriers of device memory stand on one of host memory, `base`, which stays the caller's and carries set-up, broadcast and worst.
 * device outlives them. */
/* [all ranks] Bytes go through host memory and base's gather.  With one rank nothing moves: the carrier for one device. */
radar_status radar_comm_staged(radar_comm **out, radar_comm *base, const radar_device *device,
                               radar_error *err);
/* [all ranks] RADAR_ERR_CONFIG where a rank has no NCCL, or another version of it, or shares its GPU (`gpu`: its bus id) with
 * another rank and has no NCCL that can; the same on all. */
radar_status radar_comm_nccl(radar_comm **out, radar_comm *base, const radar_device *device,
                             const char *gpu, radar_error *err);
/* [this process] n ranks of one process into out[n]; each is then used and closed by its own thread.  device: NULL, or [n].
 * When a rank closes, the exchanges of those that still make some are RADAR_ERR_PEER. */
radar_status radar_comm_local(radar_comm **out, int n, const radar_device *const *device,
                              radar_error *err);
/* [all ranks] NULL is fine */
void radar_comm_close(radar_comm *c);

/* [this rank] "X1 qkv", ..., "setup". */
const char *radar_exchange_name(radar_exchange x);

/* [all ranks] The pieces of all ranks into buffer; see radar_comm_ops. */
radar_status radar_gather(radar_comm *c, radar_exchange x, void *buffer, const size_t *bytes,
                          const size_t *offset, radar_error *err);
/* [all ranks] root's bytes to all; counted as RADAR_X_SETUP. */
radar_status radar_broadcast(radar_comm *c, void *buffer, size_t bytes, int root, radar_error *err);
/* [all ranks] *status in: this rank's; out: the worst of all, *rank: the lowest that has it.  Counted as RADAR_X_SETUP. */
radar_status radar_worst(radar_comm *c, radar_status *status, int *rank, radar_error *err);

/* [all ranks] in the same order.  Memory for buffers of gathers: of the device, if there is one; its contents may be anything.  NULL:
 * there is not so much, perhaps on this rank only. */
void *radar_comm_alloc(radar_comm *c, size_t bytes);
/* [all ranks] in the same order.  NULL is fine. */
void radar_comm_release(radar_comm *c, void *memory);

/* [this rank] Whether what is queued can still end; to be asked while the host waits for the device, and when that failed.
 * RADAR_ERR_PEER: it could not, and is abandoned. */
radar_status radar_comm_check(radar_comm *c, radar_error *err);
/* [this rank] Gives up: what waits for other ranks on the device ends; local ranks that wait for this one get RADAR_ERR_PEER.  No
 * exchange works afterwards. */
void radar_comm_abandon(radar_comm *c);

#endif
