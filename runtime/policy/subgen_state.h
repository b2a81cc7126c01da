/* subgen_state.h - the streaming estimator of SubGen over the tokens of one KV head that have left the window.
 *
 * Source: Zandieh et al., arXiv:2402.06082, algorithm 1.  With logits x = q . k / sqrt D, t samples a cluster, s value samples:
 *   keys     a key farther than delta from every representative opens a cluster, else it joins the nearest (the earlier of
 *            equals); cluster i counts n_i keys, each of its t sample slots becomes the new key with probability 1 / n_i
 *   values   mu = sum |v|^2; each of s slots becomes the new token with probability |v|^2 / mu
 *   tau = sum_i n_i / t sum_{k in samples of i} e^x         estimates the denominator of the softmax
 *   z   = sum_j mu / (s |v_j|^2) e^(x_j) v_j                estimates the numerator
 * The paper leaves delta open.  Here memory is what is given: delta starts at 0, and when there are more clusters than fit it
 * becomes the smallest distance of two representatives, afterwards twice what it was, and of representatives within delta of each
 * other the earlier takes the other's keys (the doubling algorithm of Charikar et al., STOC 1997), until they fit.  Each slot of a
 * merged cluster is taken from one of the two with probability in proportion to their counts, so samples stay uniform.
 *
 * Draws depend on seed, position of the token and place alone: the same on every rank. */
#ifndef RADAR_SUBGEN_STATE_H
#define RADAR_SUBGEN_STATE_H

#include "runtime/base.h"

#define RADAR_SUBGEN_SAMPLES 4 /* t */

typedef struct radar_subgen_shape {
    int D;
    int64_t clusters; /* at most, >= 1 */
    int64_t values;   /* s >= 1 */
    int64_t window, sinks;
    int64_t ring; /* tokens of the window that are remembered: min(window, context) */
} radar_subgen_shape;

typedef struct radar_subgen {
    radar_subgen_shape shape;
    uint64_t seed; /* of this head's draws */
    int64_t n_clusters;
    double radius2;       /* delta^2 */
    double mass;          /* mu */
    char *memory;         /* all arrays */
    float *center;        /* [clusters + 1, D] representatives */
    int64_t *count;       /* [clusters + 1] n_i */
    int64_t *sample;      /* [clusters + 1, t] positions */
    int64_t *value;       /* [s] positions, -1: empty */
    double *norm2;        /* [s] |v|^2 */
    float *recent_key;    /* [ring, D] of the window's tokens, position modulo ring */
    double *recent_norm2; /* [ring] |v|^2 */
} radar_subgen;

/* Bytes of the arrays of one estimator. */
size_t radar_subgen_bytes(const radar_subgen_shape *shape);
/* [this rank] An empty estimator in memory of radar_subgen_bytes. */
void radar_subgen_init(radar_subgen *g, const radar_subgen_shape *shape, uint64_t seed,
                       char *memory);
void radar_subgen_reset(radar_subgen *g);                           /* forgets all tokens */
void radar_subgen_copy(radar_subgen *to, const radar_subgen *from); /* of the same shape */
/* The next token, key [D] and |v|^2 as the cache holds them: it enters the window, and the token that leaves it the estimate;
 * the first `sinks` tokens never do. */
void radar_subgen_push(radar_subgen *g, int64_t position, const float *key, double norm2);

/* What a sampled key counts in the denominator, and a sampled value in the numerator, each time it was sampled. */
static inline double radar_subgen_key_weight(const radar_subgen *g, int64_t cluster) {
    return (double)g->count[cluster] / RADAR_SUBGEN_SAMPLES;
}
static inline double radar_subgen_value_weight(const radar_subgen *g, int64_t slot) {
    return g->mass / ((double)g->shape.values * g->norm2[slot]);
}

/* Places of the draws that the token at `position` makes, uniform in [0, 1): sample slots of its cluster, value slots, and slots of
 * merges - of cluster b, as numbered before, in round r of widening. */
static inline double radar_subgen_draw(const radar_subgen *g, int64_t position, int64_t place) {
    return radar_random_uniform(g->seed, (uint64_t)position, (uint64_t)place);
}
static inline int64_t radar_subgen_value_place(int64_t slot) { return RADAR_SUBGEN_SAMPLES + slot; }
static inline int64_t radar_subgen_merge_place(const radar_subgen_shape *shape, int64_t round,
                                               int64_t cluster, int64_t slot) {
    return radar_subgen_value_place(shape->values) +
           (round * (shape->clusters + 1) + cluster) * RADAR_SUBGEN_SAMPLES + slot;
}

#endif
