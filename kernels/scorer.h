/* scorer.h - what is kept of sealed blocks, and how queries are scored against it.
 *
 * A score is a log-mass: an estimate of  ln sum_{i in segment} exp(q . k_i / sqrt D), in natural log units, so that
 * scores of all kinds compare, and add up to the softmax mass that selection leaves out (coverage).
 * What a scorer stores for a block is a function of that block's 64 keys alone.
 * A scorer is one file cpu/scorer_<name>.c and one line in the table of scorers. */
#ifndef RADAR_SCORER_H
#define RADAR_SCORER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kv.h"
#include "runtime/base.h"

typedef struct radar_scorer_options {
    int D;           /* head size */
    uint64_t seed;   /* of signs (sketch) and directions (rf) */
    int rf_features; /* n directions; 0 = 16 D */
    int sketch_bits; /* sketch: 1, 2 or 4; 0 = 2 */
    int outliers;    /* outlier: keys kept beside the mean of the rest; 0 = 3 */
    int rf_center; /* rf: 1: features of k - mu, mu the mean of the block's keys, stored beside them */
    double
        rf_temper; /* rf: b; features of b q, so that a segment's rank is its mass of b q . k / sqrt D; 0 = 1 */
    int rf_pair;     /* 0: features exp(w.u - |u|^2/2); 1: the pair with -w beside it */
    const char *isa; /* as in radar_backend_options */
} radar_scorer_options;

typedef struct radar_scorer radar_scorer;
struct radar_score_task; /* backend.h */

/* One kind of summary.  Functions take one KV head of one shard and run on one thread; the backend calls them in parallel.
 * avx512 and avx2 twins are chosen inside the file, by radar_cpu_isa(opt.isa). */
typedef struct radar_scorer_kind {
    const char *name;
    bool reads_packed; /* scores by the packed keys of a cache, which only q8 has */
    radar_status (*open)(radar_scorer *s,
                         radar_error *err); /* fills block_bytes, query_bytes and state */
    void (*close)(radar_scorer *s);
    /* key [64, D] f32, as stored in the cache (already rounded to its type) -> summary [block_bytes] */
    void (*seal)(const radar_scorer *s, void *summary, const float *key);
    /* q [D] f32 -> prepared query [query_bytes] (16-byte aligned) */
    void (*query)(const radar_scorer *s, void *prepared, const float *q);
    /* Summaries of two neighbours of equal length: out := that of both together, rounded as it is stored; NULL: this kind does not
     * merge.  Kinds that merge keep a block as its four segments' summaries back to back, block_bytes / 4 each. */
    void (*merge)(const radar_scorer *s, void *out, const void *a, const void *b);
    /* one task of backend.h: all its queries against all its segments; kinds that merge find them by radar_kv_summaries */
    void (*score)(const radar_scorer *s, const struct radar_score_task *task);
} radar_scorer_kind;

struct radar_scorer {
    const radar_scorer_kind *kind;
    radar_scorer_options opt;
    size_t block_bytes;  /* stored per 64 tokens and KV head; 0 = nothing is stored (exact) */
    size_t query_bytes;  /* of one prepared query; a multiple of 16 */
    size_t coarse_bytes; /* of a block, what a coarse scan reads; 0 = there is none (backend.h) */
    int longest;         /* tokens of the longest segment that merging can make; 0 = any */
    void *state;         /* tables made from the seed */
    void *mirror;        /* a device's copy of them; see adopt of backend.h */
};

/* NULL-terminated. */
extern const radar_scorer_kind *const radar_scorers[];

/* [this rank] Unknown name: RADAR_ERR_USAGE with the names there are.  On failure *out is NULL. */
radar_status radar_scorer_open(radar_scorer **out, const char *name,
                               const radar_scorer_options *opt, radar_error *err);
void radar_scorer_close(radar_scorer *s); /* [this rank] NULL is fine */

#endif
