/* sketch.h - the scorer `sketch` on the device: blocks, prepared queries and scores as in kernels/cpu/sketch.h.
 * x and a task to seal are of the host, all that they point to and all other pointers of the device: queries aligned to 16 bytes,
 * summaries to 8.  Every launch is queued and returns 0 or the CUDA error. */
#ifndef RADAR_CUDA_SKETCH_H
#define RADAR_CUDA_SKETCH_H

#include "kernels/cuda/scoring.h"

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */

#include "kernels/backend.h"

/* radar_sketch of the CPU without what only it needs. */
typedef struct radar_cuda_sketch {
    int D;                /* a multiple of 16 up to 256 */
    int Dp, Dq, bits;     /* 1, 2 or 4 bits */
    int words, low_words; /* W, L */
    size_t block_bytes;   /* multiples of 8 */
    size_t query_bytes;   /* and of 16 */
    float scale;          /* 1 / sqrt D */
    const float *norm;    /* [D] of the rotation: sign / sqrt(size of the part) */
    const float *step;    /* [256] of a code */
    const float *middle;  /* [16] where step codes change */
} radar_cuda_sketch;

/* task->most is a limit of the blocks.  The bytes are those of the CPU. */
int radar_cuda_sketch_seal(const radar_cuda_sketch *x, const radar_cuda_seal *task,
                           struct radar_cuda_queue *queue);

/* Prepares n queries, q + i q_stride [D] f32 each, into query_bytes each.  The bytes are those of the CPU. */
int radar_cuda_sketch_query(const radar_cuda_sketch *x, void *prepared, const float *q,
                            size_t q_stride, int n, struct radar_cuda_queue *queue);

/* Scores n tasks of at most max_query queries; D up to 128.  task: on the device, as are its pointers; of unit 1, and alike in
 * having a list (`listed`) and in being coarse.  ctas: blocks of 256 threads that the device holds at once, twice its
 * multiprocessors: what the work is spread over, which changes no bit of a score. */
int radar_cuda_sketch_scan(const radar_cuda_sketch *x, const radar_score_task *task, int n,
                           int max_query, bool listed, bool coarse, int ctas,
                           struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
