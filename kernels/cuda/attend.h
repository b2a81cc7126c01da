/* attend.h - launch of attend.cu, attend_block.cu and attend_plain.cu: exact attention of many queries to listed segments of many KV heads at once.
 * All pointers are device memory; what they point to is read when the kernel runs, so that a captured graph can be replayed. */
#ifndef RADAR_CUDA_ATTEND_H
#define RADAR_CUDA_ATTEND_H

#include "kernels/backend.h"
#include "kernels/cuda/kv.h"
#include "kernels/merge.h"

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */

#define RADAR_CUDA_ATTEND_SPLITS 32 /* at most */

/* Queries of one KV head that attend to one list of one shard; k, v and scales are aligned to 16 bytes. */
typedef struct radar_cuda_attend_task {
    const void *k, *v;
    const float *k_scale, *v_scale; /* FP8 only */
    int32_t stripe_segments, shards,
        phase;       /* where its segments stand: radar_kv_position of kv.h */
    int32_t n_query; /* at most most_query of the launch; 0: nothing to do */
    const float *q;  /* query j at q + j * q_stride, [D] */
    size_t q_stride;
    const int64_t *position; /* [n_query] tokens after it are not attended */
    const radar_item *item;  /* ascending segments; NULL: item i is segment i, all its tokens */
    const int64_t *begin;    /* NULL: 0; the list begins with item *begin */
    const int32_t *count;    /* NULL: n; the items of the list */
    int32_t n;
    float
        *partial; /* partial j at partial + j * partial_stride as in merge.h; nothing missed yet */
    size_t partial_stride;
} radar_cuda_attend_task;

typedef struct radar_cuda_attend_args {
    radar_cuda_kv type;
    int D;                              /* a multiple of 16 up to 256 */
    const radar_cuda_attend_task *task; /* [n_tasks] */
    int n_tasks;
    int most_query; /* bound of n_query of every task: it shapes the grid, no result */
    float scale;    /* of logits */
    int splits; /* pieces of a list, a power of two: the only number here that a result depends on beside its own list */
    /* splits > 1: scratch; turn is zero before the first launch that uses it, and after every one */
    float *work;    /* radar_cuda_attend_work bytes */
    unsigned *turn; /* radar_cuda_attend_turns bytes */
} radar_cuda_attend_args;

static inline size_t radar_cuda_attend_work(int n_tasks, int most_query, int splits, int D) {
    if (splits < 2) return 0;
    return (size_t)n_tasks * (size_t)most_query * (size_t)splits * (size_t)RADAR_PARTIAL(D) *
           sizeof(float);
}
static inline size_t radar_cuda_attend_turns(int n_tasks, int most_query) {
    return (size_t)n_tasks * (size_t)most_query * sizeof(unsigned);
}

/* 0 or a cudaError_t; queued.  Tensor cores for 16 and 8 bit caches with D 64,
 * 80, 96, 112 or 128; the rest is attend_plain. */
int radar_cuda_attend(const radar_cuda_attend_args *a, struct radar_cuda_queue *queue);

/* The same for prefill, splits = 1: tiles of 64 queries that share what they read, in bits of their own.  F16 and BF16 with D 64, 80,
 * 96 or 128, FP8 with D 64 or 80; the rest goes to radar_cuda_attend. */
int radar_cuda_attend_block(const radar_cuda_attend_args *a, struct radar_cuda_queue *queue);

/* The same in f32, in the order of kernels/attend.h: with splits = 1 the bits of the CPU.  Any type, any D; slow. */
int radar_cuda_attend_plain(const radar_cuda_attend_args *a, struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
