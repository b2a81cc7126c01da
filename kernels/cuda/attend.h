/* attend.h - launch of attend.cu: exact attention of the queries of a step to listed segments of many KV heads at once.
 * All pointers are device memory; what they point to is read when the kernel runs, so that a captured graph can be replayed. */
#ifndef RADAR_CUDA_ATTEND_H
#define RADAR_CUDA_ATTEND_H

#include "kernels/backend.h"
#include "kernels/cuda/kv.h"

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */

/* One KV head of one shard and layer; k and v 16-byte aligned, scales too. */
typedef struct radar_cuda_view {
    const void *k, *v;
    const float *k_scale, *v_scale; /* FP8 only */
    int32_t stripe_segments, shards,
        phase; /* where its segments stand: radar_kv_position of kv.h */
} radar_cuda_view;

typedef struct radar_cuda_attend_args {
    radar_cuda_kv type;          /* not F32 */
    int D;                       /* 64, 80, 96, 112 or 128 */
    int shards, G;               /* this rank's shards; KV heads */
    const radar_cuda_view *view; /* [shards, G] */
    int queries;                 /* of a KV head: rows times query heads of a KV head */
    int span; /* queries that share a list, all in a row: lists = ceil(queries / span) of every view */
    const float *q;          /* [G, queries, D] */
    const int64_t *position; /* [queries] tokens after it are not attended */
    const radar_item *item;  /* ascending segments of a list, `count` from `begin` on */
    const int64_t *begin;    /* [shards, G, lists] */
    const int32_t *count;    /* [shards, G, lists] */
    float scale;             /* of logits */
    int splits; /* pieces of a list, a power of two: the only number here that a result depends on beside its own list */
    float *
        partial; /* [shards, splits, G, queries, RADAR_PARTIAL(D)] as in merge.h; nothing missed yet */
} radar_cuda_attend_args;

/* 0 or a cudaError_t; queued. */
int radar_cuda_attend(const radar_cuda_attend_args *a, struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
