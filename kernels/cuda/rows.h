/* rows.h - what the kernels of selection are told of the rows of a step and of the shards of their rank; all of it but
 * radar_cuda_shards lies in device memory, because it changes from step to step. */
#ifndef RADAR_CUDA_ROWS_H
#define RADAR_CUDA_ROWS_H

#include <stdint.h>

#define RADAR_CUDA_MOST_SHARDS 64

/* What one row may choose: as radar_row_choice. */
typedef struct radar_cuda_row {
    int32_t keep; /* units, per query head; 0 = attend everything */
    int32_t take; /* units, per list of top-k: keep, or with --select local a shard's share of it */
    int32_t unit; /* segments of 16 tokens that are chosen as one: a power of two */
} radar_cuda_row;

/* As radar_row_part: a row's candidates in own shard i are storage segments [begin, end), what follows them [end, stop). */
typedef struct radar_cuda_part {
    int32_t begin, end, stop;
} radar_cuda_part;

/* The same for a whole session; see parallel/shard.h. */
typedef struct radar_cuda_shards {
    int32_t stripe_segments; /* of 16 tokens */
    int32_t shards;          /* of all ranks, a power of two */
    int32_t first, n;        /* own ones: [first, first + n) */
} radar_cuda_shards;

#endif
