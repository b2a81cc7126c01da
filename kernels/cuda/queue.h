/* queue.h - what is to be done on a device, in order: kernels, copies, library calls, and work of the host between them.
 *
 * Nothing runs when it is queued; radar_cuda_wait runs all of it and comes back when it is done.  So a pass of the model is one list
 * of commands, and where the same list comes again - the same kernels with the same arguments - it is launched as a CUDA graph,
 * captured the second time it is seen: a decode step costs the host one launch.  (If it cannot be captured, no list is any more.)
 * Host work cuts a list into pieces, a graph each.
 *
 * What changes from step to step - positions, lengths, pointers to what is listed - is therefore no argument but a parameter: bytes
 * that radar_cuda_put lays into one block of memory, copied to the device once, ahead of all commands.
 * A failure of any call is kept: what is queued afterwards is not run, and radar_cuda_wait says what it was. */
#ifndef RADAR_CUDA_QUEUE_H
#define RADAR_CUDA_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#include "runtime/base.h"

typedef struct radar_cuda_queue radar_cuda_queue;

typedef struct radar_cuda_queue_options {
    int device;  /* number, of those that the process sees */
    bool graphs; /* false: every command is issued by itself (--graphs off) */
    size_t
        parameter_bytes; /* of the block of parameters; 0 = 8 MiB.  What does not fit waits for what is queued */
} radar_cuda_queue_options;

typedef struct radar_cuda_queue_stats {
    int64_t waits, commands, graph_launches, captures,
        direct;              /* direct: commands issued by themselves */
    int64_t parameter_bytes; /* copied to the device */
} radar_cuda_queue_stats;

/* [this rank] Makes the device the calling thread's, a stream and the block of parameters.  Calls on a queue come from one thread. */
radar_status radar_cuda_queue_open(radar_cuda_queue **out, const radar_cuda_queue_options *opt,
                                   radar_error *err);
void radar_cuda_queue_close(radar_cuda_queue *q); /* NULL is fine */
radar_cuda_queue_stats radar_cuda_queue_stats_of(const radar_cuda_queue *q);

/* ---- commands; of none is the result there before radar_cuda_wait ---- */

typedef struct radar_cuda_shape {
    unsigned grid[3], block[3];
    size_t shared_bytes;
} radar_cuda_shape;

/* args[i] points to bytes[i] bytes of argument i, copied.  queue NULL: at once, on the default stream.  0, or the cudaError_t of a
 * launch at once. */
int radar_cuda_launch(radar_cuda_queue *q, const void *kernel, const radar_cuda_shape *shape,
                      void *const *args, const size_t *bytes, int n);
/* Dynamic shared memory that launches of the kernel may ask for from now on, beyond 48 KB; at once, and only raised.  0 or the cudaError_t. */
int radar_cuda_allow_shared(const void *kernel, size_t bytes);

/* Keeps that `what` could not be queued, or run: error is a cudaError_t; 0 is fine. */
void radar_cuda_note(radar_cuda_queue *q, const char *what, int error);

/* Parameters: the device address where `bytes` of host memory, read before the return, will be when commands run, aligned to 256
 * bytes.  Valid until the next wait, or until as much as a whole block was put behind it; never before something else is put.
 * room >= bytes: what is kept free for them, so that lists of another length do not move what comes after. */
void *radar_cuda_put(radar_cuda_queue *q, const void *host, size_t bytes, size_t room);

void radar_cuda_copy(radar_cuda_queue *q, void *to, const void *from,
                     size_t bytes);                                     /* device to device */
void radar_cuda_clear(radar_cuda_queue *q, void *device, size_t bytes); /* := 0 */
/* host := device, in the course of the next wait, but ahead of host work that is queued later.  host stays the caller's.  More than
 * 1 MiB is copied when all commands up to the next host work are done: what they write last is what it gets. */
void radar_cuda_fetch(radar_cuda_queue *q, void *host, const void *device, size_t bytes);
/* device := host, which is read before the return.  More than 1 MiB runs what is queued, and is waited for. */
void radar_cuda_upload(radar_cuda_queue *q, void *device, const void *host, size_t bytes);

/* work(data, stream): calls of a library that queues on the stream (a cudaStream_t), captured with the rest, so that what it queues
 * holds whenever data is the same; 0 or an error of `what`, which is not copied.  data: copied. */
void radar_cuda_call(radar_cuda_queue *q, const char *what, int (*work)(void *data, void *stream),
                     const void *data, size_t bytes);
/* work(data, err) by the host when all before it is done, before anything behind it begins.  data: copied. */
void radar_cuda_host(radar_cuda_queue *q, radar_status (*work)(void *data, radar_error *err),
                     const void *data, size_t bytes);
/* Within that work, which queues nothing, at once: copies to the host, and to the device.  0 or a cudaError_t. */
int radar_cuda_read_now(radar_cuda_queue *q, void *host, const void *device, size_t bytes);
int radar_cuda_write_now(radar_cuda_queue *q, void *device, const void *host, size_t bytes);

/* Forgets all graphs: a library waits for those that it is part of before it ends.  With `run`, what is queued is done before. */
void radar_cuda_let_go(radar_cuda_queue *q, bool run);
/* Forgets what is queued. */
void radar_cuda_drop(radar_cuda_queue *q);
/* Until everything queued is done; after a failure, nothing is queued any more.  The first error since the last wait:
 * RADAR_ERR_MEMORY, RADAR_ERR_PEER where the device is lost, what work of the host failed with, or RADAR_ERR_INTERNAL. */
radar_status radar_cuda_wait(radar_cuda_queue *q, radar_error *err);

/* From now on, while the host waits for the device, it asks check(user, err) every now and then whether what is queued can still
 * end.  Where it cannot, that is the error of the wait, and the device may still be busy. */
void radar_cuda_watch(radar_cuda_queue *q, radar_status (*check)(void *user, radar_error *err),
                      void *user);

/* ---- memory; at once ---- */

void *radar_cuda_alloc(radar_cuda_queue *q, size_t bytes);  /* zeroed; NULL: there is not so much */
void radar_cuda_release(radar_cuda_queue *q, void *memory); /* when what is queued is done */
/* Scratch of the device that commands share one after the other, at least `bytes`, zero when it is new; grows by running
 * what is queued, NULL: there is not so much, which wait says.  slot: 0 .. RADAR_CUDA_SCRATCHES - 1, each a memory of its own. */
#define RADAR_CUDA_SCRATCHES 8
void *radar_cuda_scratch(radar_cuda_queue *q, int slot, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
