/* choose.h - from the best keys of all ranks to the items of the own shards: rules in runtime/policy/radar_work.h. */
#ifndef RADAR_CUDA_CHOOSE_H
#define RADAR_CUDA_CHOOSE_H

#include "kernels/cuda/rows.h"

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */

struct radar_item;

/* All pointers are of the device.  A list is what some query heads of a row attend to: those of a KV head, or (share head) one.
 * A task is the part of a list in one own shard: [rows, lists, shards.n], lists = heads / heads_per_list. */
typedef struct radar_cuda_choose_job {
    const uint64_t *packet; /* [ranks, rows, heads, room] keys of kernels/topk.h; 0 = none */
    const radar_cuda_row *row;
    const radar_cuda_part *part; /* [rows, shards.n] */
    uint32_t *bits; /* scratch [tasks, words], zero before the first call; no two calls at a time */
    int32_t *count; /* out [tasks] items */
    int64_t *offset; /* out [tasks + 1] where they begin; the last: items of all tasks */
    int64_t *listed; /* scratch [rows, lists] */
    struct radar_item *
        item; /* out: per task what is before the candidates, the chosen ones, and what is behind the
                              * candidates, ascending; the lists of a row that attends to everything share one */
    int32_t ranks, rows, heads, heads_per_list;
    int32_t room;
    int32_t words; /* 32 segments of a shard each: as many as the longest own shard needs */
    radar_cuda_shards shards;
} radar_cuda_choose_job;

/* With --select local: ranks = 1, the lists of all own shards of a head as one of shards.n times their room, and a `keep` no
 * smaller than that.  Queued; 0 or a cudaError_t. */
int radar_cuda_choose(const radar_cuda_choose_job *job, struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
