/* bound.h - real queries and segments of some layers and heads, and what the two estimators make of them. */
#ifndef RADAR_LAUNCH_BOUND_H
#define RADAR_LAUNCH_BOUND_H

#include "launch/eval/figures.h"
#include "launch/eval/watch.h"

enum {
    BOUND_ROWS = 4,
    BOUND_LAYERS = 6,
    BOUND_BLOCKS = 16
}; /* at most, spread over what there is */

/* A query and a segment of 16 keys. */
typedef struct bound_pair {
    double s, ln_mean, estimate; /* figures.h */
} bound_pair;

typedef struct bound_samples {
    eval_span span;
    int H, G, D, rows, layers, blocks;
    int head_begin, head_end; /* looked at */
    int layer[BOUND_LAYERS];
    int64_t block[BOUND_BLOCKS];
    float *q;   /* [rows, layers, H, D], rank 0 */
    float *key; /* [layers, G, blocks, 64, D] */
    int64_t n_pairs;
    bound_pair *pair; /* [rows, layers, heads, blocks] in any order, rank 0 */
} bound_samples;

static inline const float *block_of(const bound_samples *s, int l, int g, int b) {
    return s->key + (((size_t)l * (size_t)s->G + (size_t)g) * (size_t)s->blocks + (size_t)b) *
                        EVAL_BLOCK * (size_t)s->D;
}

static inline const float *query_of(const bound_samples *s, int row, int l, int head) {
    return s->q + (((size_t)row * (size_t)s->layers + (size_t)l) * (size_t)s->H + (size_t)head) *
                      (size_t)s->D;
}

/* [rank 0] Every pair, by n features; s and ln_mean too.  RADAR_ERR_MEMORY. */
radar_status bound_estimate(bound_samples *s, int64_t n, uint64_t seed, radar_error *err);

/* Errors of q . k by the sketch, root of the mean square over all queries and keys of their blocks; and |q| |k - mu| 2^-b / sqrt D
 * likewise. */
typedef struct bound_sketch {
    int bits;
    double error, predicted;
} bound_sketch;
/* [rank 0] RADAR_ERR_MEMORY. */
radar_status bound_sketch_errors(const bound_samples *s, bound_sketch *out, int n, uint64_t seed,
                                 radar_error *err);

#endif
