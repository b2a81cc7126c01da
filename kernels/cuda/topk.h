/* topk.h - the best candidates of every query head over the own shards of a rank; formula and keys in kernels/topk.h. */
#ifndef RADAR_CUDA_TOPK_H
#define RADAR_CUDA_TOPK_H

#include <stddef.h>

#include "kernels/cuda/rows.h"

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */

/* All pointers are of the device. */
typedef struct radar_cuda_topk_job {
    const float *score;          /* [rows, heads, scores]: unit u of own shard i has
                                  * score[first[i] + u - part[i].begin / unit] */
    const int64_t *first;        /* [shards.n] */
    const radar_cuda_row *row;   /* [rows] */
    const radar_cuda_part *part; /* [rows, shards.n] */
    uint64_t *
        key; /* out [rows, heads, tasks, room]: the min(take, scores that are numbers) best, shard by
                                  * shard in the order of their storage, then zeros */
    void *
        scratch; /* radar_cuda_topk_scratch() bytes, zero before the first call; no two calls at a time */
    int64_t scores; /* of a row and query head, all own shards together: room for them */
    int32_t rows, heads;
    int32_t tasks; /* lists per query head: 1 over all own shards, or shards.n of one each */
    int32_t room;  /* at least the `take` of every row */
    radar_cuda_shards shards;
} radar_cuda_topk_job;

/* lists = rows * heads * tasks. */
size_t radar_cuda_topk_scratch(int64_t lists, int64_t scores);
/* Queued; 0 or a cudaError_t. */
int radar_cuda_topk(const radar_cuda_topk_job *job, struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
