/* exact.h - the scorer `exact` on CUDA: formula of kernels/cpu/scorer_exact.c, within 1e-5 of the size of q and the keys.
 * A prepared query is q [D] as it is: radar_cuda_mean_query() makes it.  All of a call lies in a table on the device.
 * [this rank] Queued; 0 or the error.  D is a multiple of 16 up to 256. */
#ifndef RADAR_CUDA_EXACT_H
#define RADAR_CUDA_EXACT_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cuda/kv.h"

#define RADAR_CUDA_EXACT_QUERIES 8 /* of a task, at most */

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */

/* As radar_score_task with unit 1; all pointers are of the device. */
typedef struct radar_cuda_exact_task {
    const void *k;        /* [S, D, 16], aligned to 16 */
    const float *k_scale; /* FP8: [S, 16], aligned to 16 */
    const float *query;   /* [n_query, D] */
    int32_t n_query, segment_begin, segment_end;
    const int32_t *list, *n_listed; /* segments of the range, in any order; list NULL: all */
    float *score; /* query j's of segment s at [j * score_stride + s - segment_begin] */
    size_t score_stride;
} radar_cuda_exact_task;

typedef struct radar_cuda_exact_args {
    radar_cuda_kv type;
    int D;
    int most_queries;                  /* of a task; like `most` it changes no bit of a score */
    int most;                          /* segments of a task; shapes the grid */
    const radar_cuda_exact_task *task; /* device */
    int n_tasks;
} radar_cuda_exact_args;

int radar_cuda_exact_score(const radar_cuda_exact_args *args, struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
