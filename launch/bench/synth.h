/* synth.h - made-up keys and values with the mean, the covariance and the norms of real ones, for a cache as deep as a measurement
 * wants it.
 *
 * For one layer and KV head, of keys after RoPE and of values alike, with L L^T the covariance of the real vectors around their mean:
 *   x = mean + r sqrt(D) L u,   u uniform on the unit sphere,   r drawn from the real vectors' |L^-1 (x - mean)| / sqrt(D)
 * With r^2 of mean 1 the covariance of x is L L^T exactly, and its lengths (in the metric of L) are distributed like the real ones'.
 * u is (a s + b t) / |a s + b t| with s and t vectors of D sums of four random bytes, near normal: s of the position's segment of 16
 * tokens, t of the position.  a^2 = 1 - b^2 is how alike the real vectors of a segment are, the mean cosine between two of them around
 * their mean: real keys change slowly from token to token, and how few segments hold most of the mass depends on it.  Every
 * position and segment has a random stream of its own, so that what a position gets does not depend on the ranks, the threads, or
 * the positions made with it.  The first positions are the measured vectors themselves: attention sinks are like no other token.
 *
 * What it does not have: likeness beyond a segment, or of keys with their values; the turning of a key with its position beyond
 * those measured; meaning.  Speed depends on contents only through which segments are chosen, and on how far the query heads of a
 * group agree: they agree less than over a text, so that somewhat more is read. */
#ifndef RADAR_BENCH_SYNTH_H
#define RADAR_BENCH_SYNTH_H

#include "runtime/base.h"

enum {
    SYNTH_SINKS = 16,  /* first positions, as measured: one segment */
    SYNTH_RADII = 256, /* quantiles of r */
    SYNTH_MOST_D = 256
};

/* Keys, or values, of one layer and KV head.  W: D rounded up to whole vector registers. */
typedef struct synth_source {
    float *mean;   /* [W] */
    float *factor; /* [D, W]: row j is column j of L, zero above the diagonal */
    float *sinks;  /* [SYNTH_SINKS, D] */
    float radius[SYNTH_RADII];
    int32_t common, own; /* a and b, times 256 */
} synth_source;

typedef struct bench_synth {
    int layers, heads, D, W, threads;
    uint64_t seed;
    float *memory;
    synth_source *source; /* [layers, heads, 2] */
} bench_synth;

/* [this rank] Sources without contents.  On failure *out is NULL. */
radar_status bench_synth_open(bench_synth **out, int layers, int heads, int D, int threads,
                              uint64_t seed, radar_error *err);
void bench_synth_close(bench_synth *s); /* NULL is fine */
static inline size_t bench_synth_scratch(int64_t n, int D) {
    return (size_t)n * (size_t)(D + 1) + (size_t)D * (size_t)D;
}
/* [this rank] The source of keys (value 0) or values (1) becomes like x [n, D], the vectors of positions 0 to n - 1; n > SYNTH_SINKS + D.
 * scratch [bench_synth_scratch(n, D)]. */
void bench_synth_measure(bench_synth *s, int layer, int head, int value, const float *x, int64_t n,
                         double *scratch);
/* A radar_filler; user is a bench_synth. */
void bench_synth_fill(void *user, int layer, int head, int64_t first, int64_t n, float *key,
                      float *value);

#endif
