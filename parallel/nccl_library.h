/* nccl_library.h - what we use of NCCL's C interface, found when the program runs: without NCCL everything else still works. */
#ifndef RADAR_NCCL_LIBRARY_H
#define RADAR_NCCL_LIBRARY_H

#include <stddef.h>

#include "runtime/base.h"

typedef struct nccl_comm nccl_comm;
typedef struct nccl_window nccl_window;
/* Passed by value. */
typedef struct nccl_id {
    char bytes[128];
} nccl_id;

/* Values of NCCL's enumerations; results are int, 0 = success. */
enum { NCCL_IN_PROGRESS = 7, NCCL_UINT8 = 1, NCCL_WINDOW_SYMMETRIC = 1 };

typedef struct nccl_library {
    int (*version)(int *version);
    const char *(*error_string)(int result);
    int (*unique_id)(nccl_id *id);
    int (*init)(nccl_comm **comm, int n_ranks, nccl_id id, int rank);
    int (*destroy)(nccl_comm *comm);
    int (*abort)(nccl_comm *comm);
    int (*async_error)(nccl_comm *comm, int *result);
    /* count of elements; stream is a cudaStream_t */
    int (*all_gather)(const void *send, void *receive, size_t count, int type, nccl_comm *comm,
                      void *stream);
    int (*broadcast)(const void *send, void *receive, size_t count, int type, int root,
                     nccl_comm *comm, void *stream);
    int (*group_start)(void);
    int (*group_end)(void);
    /* NULL in versions before 2.19, and 2.27 */
    int (*mem_alloc)(void **memory, size_t bytes);
    int (*mem_free)(void *memory);
    int (*window_register)(nccl_comm *comm, void *memory, size_t bytes, nccl_window **window,
                           int flags);
    int (*window_deregister)(nccl_comm *comm, nccl_window *window);
} nccl_library;

/* [this rank] Loads libnccl.so.2, or what the environment's RADAR_NCCL names; it stays loaded.  RADAR_ERR_CONFIG: it is not there, or
 * lacks a function. */
radar_status nccl_library_load(nccl_library *out, radar_error *err);

#endif
