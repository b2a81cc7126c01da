/* scoring.h - where that lies what the kernels of scorers read and write: all KV heads of one layer and shard in one launch.
 * KV head g begins g strides of bytes behind head 0.  How much there is to do is read on the device while a kernel runs, so that one
 * captured launch serves every length; `most` only shapes the grid unless it is said to be a limit. */
#ifndef RADAR_CUDA_SCORING_H
#define RADAR_CUDA_SCORING_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/cuda/kv.h"

/* scorer.h: summaries of sealed blocks. */
typedef struct radar_cuda_seal {
    radar_cuda_kv type;
    int D, kv_heads;
    const void *key; /* [S, D, 16] of kv.h, aligned to 16 */
    size_t key_stride;
    const float *key_scale; /* FP8: [S, 16], aligned to 16 */
    size_t scale_stride;    /* floats */
    char *summary;          /* of block 0, aligned to 16 */
    size_t summary_stride;
    const int32_t *blocks; /* device: {begin, end} */
    int most;              /* blocks */
} radar_cuda_seal;

/* backend.h: from the summaries of those blocks, all that end with one of them at levels 1 ... `levels`. */
typedef struct radar_cuda_unite {
    int D, kv_heads, levels;
    int32_t segments; /* S of kv.h */
    char *summary, *merged;
    size_t summary_stride, merged_stride;
    const int32_t *blocks; /* device: {begin, end} */
} radar_cuda_unite;

/* backend.h: scores of units of a range. */
typedef struct radar_cuda_score {
    int D, kv_heads, n_query; /* queries of each KV head */
    const float *query;       /* prepared, aligned to 16; those of a KV head back to back */
    size_t query_stride;      /* floats from the queries of a KV head to those of the next */
    const char *summary;      /* radar_kv_summaries of `unit` */
    size_t summary_stride;
    int32_t unit;         /* segments of 16 tokens scored as one, a power of two */
    const int32_t *units; /* device: {begin, end} */
    int most;
    float *score; /* [kv_heads, n_query] rows of score_stride; unit i at [i - begin] */
    size_t score_stride;
} radar_cuda_score;

#ifdef __cplusplus
}
#endif

/* ln(16 unit), as kernels/cpu/lse.h has it. */
static inline float radar_cuda_log_tokens(int32_t unit) {
    return 2.7725887f + (float)__builtin_ctz((unsigned)unit) * 0.6931472f;
}

/* Blocks of a grid for `work` of them in each of `rows`: no more than 4 for each of 132 SMs, about as many as run at once, so that
 * what a block does before its first piece of work is done once for several. */
static inline unsigned radar_cuda_grid(int64_t work, int64_t rows) {
    const int64_t full = 4 * 132 / rows + 1;
    return (unsigned)(work < 1 ? 1 : work < full ? work : full);
}

#endif
