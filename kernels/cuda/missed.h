/* missed.h - kernels/missed.h on CUDA: all query heads of one layer and shard in one call.
 * Within 1e-6 of the sum: chunks of RADAR_CUDA_MISSED_CHUNK scores first, then chunks ascending; the same bits for any grid.
 * [this rank] Queued; 0 or the error. */
#ifndef RADAR_CUDA_MISSED_H
#define RADAR_CUDA_MISSED_H

#include <stddef.h>
#include <stdint.h>

#define RADAR_CUDA_MISSED_CHUNK 4096

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */

typedef struct radar_cuda_missed {
    int rows;     /* query heads, of all KV heads and rows of the pass */
    float *score; /* [rows] of score_stride; unit i at [i - begin]; the chosen ones become -inf */
    size_t score_stride;
    int32_t unit;         /* segments of 16 tokens scored as one */
    const int32_t *units; /* device: {begin, end} */
    int most;             /* limit of end - begin */
    int share;            /* consecutive rows that attend the same list */
    const void *
        item; /* radar_item of backend.h, [rows / share] lists of item_stride items, in any order */
    size_t item_stride;
    const int32_t *n_items; /* device: [rows / share] */
    float *missed;          /* row j: {m', l'} at missed + j * missed_stride */
    size_t missed_stride;
    float *work; /* radar_cuda_missed_work(rows, most) floats */
} radar_cuda_missed;

static inline size_t radar_cuda_missed_work(int rows, int most) {
    const size_t chunks = ((size_t)most + RADAR_CUDA_MISSED_CHUNK - 1) / RADAR_CUDA_MISSED_CHUNK;
    return 2 * (size_t)rows * chunks;
}

int radar_cuda_sum_missed(const radar_cuda_missed *task, struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif
#endif
