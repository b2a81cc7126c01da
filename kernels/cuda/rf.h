/* rf.h - the scorer `rf` on CUDA: summaries, prepared queries and formula of kernels/cpu/rf.h.
 * Summaries and prepared queries are the CPU's to the bit, scores within 3e-5 (1 + 1 / b) of them.
 * [this rank] Queued; 0 or the error.  D is a multiple of 16 up to 256. */
#ifndef RADAR_CUDA_RF_H
#define RADAR_CUDA_RF_H

#include "kernels/cuda/scoring.h"

#ifdef __cplusplus
extern "C" {
#endif
struct radar_cuda_queue; /* queue.h; NULL: at once */

/* As in radar_rf of kernels/cpu/rf.h; omega on the device. */
typedef struct radar_cuda_rf {
    int D, n, F, Fp;
    const float *omega; /* [D, n] */
    float log_weight, temper, cool;
    int center;
} radar_cuda_rf;

/* Floats of scratch for so many rows: kv_heads * most * 64 for sealing, n for queries. */
static inline size_t radar_cuda_rf_work(const radar_cuda_rf *x, size_t rows) {
    return (rows + 15) / 16 * 16 * ((size_t)x->n + 1);
}

/* task->most is a limit of the blocks. */
int radar_cuda_rf_seal(const radar_cuda_rf *x, const radar_cuda_seal *task, float *work,
                       struct radar_cuda_queue *queue);
int radar_cuda_rf_unite(const radar_cuda_rf *x, const radar_cuda_unite *task,
                        struct radar_cuda_queue *queue);
/* q: n of [D] at q_stride; out [n] prepared queries. */
int radar_cuda_rf_query(const radar_cuda_rf *x, float *out, const float *q, size_t q_stride, int n,
                        float *work, struct radar_cuda_queue *queue);
int radar_cuda_rf_score(const radar_cuda_rf *x, const radar_cuda_score *task,
                        struct radar_cuda_queue *queue);

#ifdef __cplusplus
}
#endif
#endif
