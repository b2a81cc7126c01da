/* missed.h - kernels/missed.h on CUDA: many tasks in one call.
 * Within 1e-6 of the sum: chunks of RADAR_CUDA_MISSED_CHUNK scores first, then chunks ascending; the same bits for any grid.
 * [this rank] Queued; 0 or the error. */
#ifndef RADAR_CUDA_MISSED_H
#define RADAR_CUDA_MISSED_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */
#include "kernels/backend.h"

#define RADAR_CUDA_MISSED_CHUNK 4096

/* Query heads that attend to one list of one shard.  All pointers, and the task itself, are of the device. */
typedef struct radar_cuda_missed_task {
    int32_t n_query;
    float *score; /* query j: [n] at score + j * score_stride; the chosen ones become -inf */
    size_t score_stride;
    int32_t n;                   /* units scored: segment_begin ... */
    int32_t unit, segment_begin; /* segments of 16 tokens scored as one; counted in units */
    const radar_item *item;      /* in any order, of any range; NULL: item i is segment i */
    const int64_t *begin;        /* NULL: 0; the list begins with item *begin */
    const int32_t *count;        /* NULL: n_items; the items of the list */
    int32_t n_items;
    float *missed; /* query j: {m', l'} at missed + j * missed_stride */
    size_t missed_stride;
} radar_cuda_missed_task;

typedef struct radar_cuda_missed {
    const radar_cuda_missed_task *task; /* [n_tasks] */
    int n_tasks;
    int most_query, most; /* bounds of n_query and n: they shape the grid, no result */
    float *work;          /* radar_cuda_missed_work bytes */
} radar_cuda_missed;

static inline size_t radar_cuda_missed_work(int n_tasks, int most_query, int most) {
    const size_t chunks = ((size_t)most + RADAR_CUDA_MISSED_CHUNK - 1) / RADAR_CUDA_MISSED_CHUNK;
    return 2 * sizeof(float) * (size_t)n_tasks * (size_t)most_query * chunks;
}

int radar_cuda_sum_missed(const radar_cuda_missed *args, struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif
#endif
