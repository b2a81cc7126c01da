/* topk.h - the best candidates of many lists on CUDA; formula and keys in kernels/topk.h.  All of a call lies in tables on the
 * device: one launch serves every length.  [this rank] Queued; 0 or the error. */
#ifndef RADAR_CUDA_TOPK_H
#define RADAR_CUDA_TOPK_H

#include <stddef.h>
#include <stdint.h>

#define RADAR_CUDA_TOPK_RANGES 64 /* of a task, at most: a shard each */

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */

/* As radar_topk_range, and radar_topk_task with RADAR_PICK_TOP; all pointers are of the device. */
typedef struct radar_cuda_topk_range {
    const float *score;
    int32_t n, segment_begin, phase;
    const int32_t *list, *n_listed;
} radar_cuda_topk_range;

typedef struct radar_cuda_topk_task {
    const radar_cuda_topk_range *range;
    int32_t n_ranges, stripe_segments, shards, keep;
    /* Out, each may be NULL: the best, range by range in the order of their candidates */
    uint64_t *key; /* [keep] and then zeros */
    int32_t *segment;
    int32_t *n_kept;
} radar_cuda_topk_task;

typedef struct radar_cuda_topk_args {
    const radar_cuda_topk_task *task; /* device */
    int n_tasks;
    int64_t most;  /* limit of the candidates of a task, all ranges together */
    void *scratch; /* radar_cuda_topk_scratch() bytes, zero before the first call, and after each */
} radar_cuda_topk_args;

size_t radar_cuda_topk_scratch(int n_tasks, int64_t most);
int radar_cuda_topk(const radar_cuda_topk_args *args, struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
