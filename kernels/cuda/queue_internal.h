/* queue_internal.h - what a queue is: the list of commands, the memory behind parameters and fetches, and the graphs of lists seen
 * before. */
#ifndef RADAR_CUDA_QUEUE_INTERNAL_H
#define RADAR_CUDA_QUEUE_INTERNAL_H

#include <cuda_runtime.h>

#include "kernels/cuda/queue.h"

#define RADAR_CUDA_SMALL ((size_t)1 << 20) /* bytes that fetch and upload have room for */
#define RADAR_CUDA_LANDING ((size_t)4 << 20)
#define RADAR_CUDA_GRAPHS 64

enum radar_cuda_kind {
    RADAR_CUDA_PARAMETERS, /* the first of every list */
    RADAR_CUDA_KERNEL,
    RADAR_CUDA_COPY,
    RADAR_CUDA_LAND, /* a copy into the landing block */
    RADAR_CUDA_CLEAR,
    RADAR_CUDA_CALL,
    RADAR_CUDA_HOST
};

/* No padding, and zero where it says nothing: a list is known by its bytes. */
typedef struct radar_cuda_command {
    uint32_t kind, args;
    const void *kernel;
    union {
        int (*call)(void *data, void *stream);
        radar_status (*host)(void *data, radar_error *err);
    } work;
    const char *what; /* of a call */
    void *to;
    const void *from;
    size_t bytes; /* copied; of data */
    size_t at;    /* of its data, behind the first of the piece; of host work: of the list */
    radar_cuda_shape shape;
} radar_cuda_command;

/* What the host gets when the command before `command` is done. */
typedef struct radar_cuda_fetched {
    void *host;
    const void *from; /* pinned, or of the device where it did not fit */
    size_t bytes;
    size_t command;
} radar_cuda_fetched;

typedef struct radar_cuda_block {
    unsigned char *host, *device; /* pinned; where it is copied to */
    size_t bytes;
} radar_cuda_block;

typedef struct radar_cuda_graph {
    uint64_t hash;
    cudaGraphExec_t exec;
    int64_t used; /* the latest launch of all that used it */
} radar_cuda_graph;

struct radar_cuda_queue {
    int device;
    bool graphs;
    cudaStream_t stream;
    radar_error err;                                     /* the first since the last wait */
    radar_status (*check)(void *user, radar_error *err); /* NULL: nobody watches */
    void *check_user;
    radar_cuda_queue_stats stats;

    radar_cuda_command *command;
    size_t n, room;
    unsigned char *data;                 /* arguments, and data of calls and host work */
    size_t data_bytes, data_room, piece; /* piece: where the data of the current one begins */
    radar_cuda_fetched *fetched;
    size_t n_fetched, fetched_room;

    /* Two, in turn: what is put stays as it is while the other one fills. */
    radar_cuda_block block[2];
    int turn;
    size_t block_used;
    unsigned char *landing; /* pinned */
    size_t landing_used;
    struct {
        void *memory;
        size_t bytes;
    } scratch[RADAR_CUDA_SCRATCHES];

    radar_cuda_graph graph[RADAR_CUDA_GRAPHS];
    int n_graphs;
    int64_t graph_clock;
    uint64_t seen[2 * RADAR_CUDA_GRAPHS]; /* hashes of pieces that were issued, a ring */
    unsigned seen_next;
};

/* Notes the failure, unless there is one. */
/* The list begins with the copy of parameters; false: no memory, which is noted. */
bool radar_cuda_begin(radar_cuda_queue *q);
/* A command at the end of the list, with `bytes` of data, zero, at *data; NULL: no memory, which is noted. */
radar_cuda_command *radar_cuda_push(radar_cuda_queue *q, enum radar_cuda_kind kind, size_t bytes,
                                    unsigned char **data);
/* The array with room for at least n of `size` bytes, *room of them so far; NULL: no memory, which is noted. */
void *radar_cuda_grow(radar_cuda_queue *q, void *array, size_t n, size_t *room, size_t size);
/* Runs what is queued, and hands out what was fetched. */
void radar_cuda_run(radar_cuda_queue *q);
/* queue_graph.c: launches the graph of commands [begin, end) if it has one, or makes it where they came before; false: they are to be
 * issued one by one. */
bool radar_cuda_replay(radar_cuda_queue *q, size_t begin, size_t end, unsigned char *data,
                       size_t data_bytes);
void radar_cuda_forget_graphs(radar_cuda_queue *q);
/* queue_run.c: commands [begin, end) on the stream; the first failure is noted only when told to. */
bool radar_cuda_issue(radar_cuda_queue *q, size_t begin, size_t end, unsigned char *data,
                      bool note);

#endif
