/* published.h - Radar as published: what stands behind --attention paper and --attention code, on one shard of the CPU backend.
 *
 * With a row at position p, the store is positions [sinks, p - window) in order, T of them.  Segment j of S is stored tokens
 * [j c, (j + 1) c); those behind the last segment are the remainder.  Each query head attends to the sinks, its own k best
 * segments, the remainder and the window [p - window, p].
 *             paper                                      code (its authors')
 *   features  plain (rf.h), n                            the pair, 2n, with the normalisers below
 *   c         floor(sqrt T)                              floor(sqrt(T) / r), r = 4
 *   rebuilt   whenever c changes: at squares             when floor(T / c) >= 2 r^2 c: T has about doubled
 *   S         c                                          floor(T / c): whole segments of the remainder are added
 *   summary   mean over the segment of exp(a_i - lambda) mean of rf.h's reference with M+, M-: the largest a_i, b_i of the T
 *             with its own log scale lambda              stored keys at the rebuild, at least 0; epsilon 1e-18
 *   score     ln phi(q) . summary, true scale            phi(q) . summary, phi(q) normalised by the largest a_i, b_i of
 *                                                        the heads that share the KV head
 * The first build waits until there are k segments (k^2 <= r^2 T, r = 1 in paper; or the budget of tokens) and c >= 1; before,
 * everything is attended.  Rows of a dense prefill build nothing: the first row after it does, once, for all.
 * What there is at a row is a function of the keys and of the rebuilds so far; those are remembered, so that going back to any
 * position gives what the run up to there gave: the same bits.
 * Source: Hao et al., ICLR 2025, arXiv 2503.10571 (algorithm 1), and the figures of the authors' code in tests/golden. */
#ifndef RADAR_PUBLISHED_H
#define RADAR_PUBLISHED_H

#include "kernels/cpu/rf.h"
#include "runtime/policy.h"

typedef struct radar_published_rule {
    bool code; /* else paper */
    int64_t window, sinks;
    int64_t aspect; /* r; 1 in paper */
    int64_t keep;   /* k segments per query head */
    int64_t target; /* above 0: k = floor(target / c) instead */
    bool exact;     /* true masses instead of features */
    radar_pick pick;
    uint64_t seed;      /* of Omega and of random picks */
    int features;       /* n */
    const float *omega; /* [D, n] to use instead of seeded directions, NULL = none; copied */
} radar_published_rule;

/* The segments of one layer, alike in all its KV heads. */
typedef struct radar_published_layer {
    int64_t next;     /* rows before it have been seen */
    int64_t size;     /* c; 0 = not built */
    int64_t segments; /* S that have summaries */
    int64_t *built;   /* [n_built] T at each rebuild; paper: only at the last */
    int n_built;
    bool measured; /* the normalisers are those of the last rebuild */
} radar_published_layer;

typedef struct radar_published {
    radar_published_rule rule;
    radar_rf_map map;
    float *omega;
    int F; /* numbers of a summary: n or 2n; 0 = none are kept */
    int layers, heads, kv_heads;
    int64_t most_segments;
    radar_published_layer *layer; /* [layers] */
    int64_t *built;               /* [layers, most rebuilds] */
    float *summary;               /* [layers, G, most_segments, F] */
    float *scale;                 /* paper: [layers, G, most_segments] lambda */
    float *normaliser;            /* code: [layers, G, 2] M+, M- */
    /* of the last row */
    float *phi;    /* [group, F] */
    double *sum;   /* [F] */
    float *score;  /* [H, most_segments]; exact: log-masses */
    uint64_t *key; /* [H, most_segments] */
    radar_topk_range *range;
    radar_topk_task *topk; /* [H] the chosen segments */
} radar_published;

/* [this rank] One shard, exact keys, the CPU. */
radar_status radar_published_check(const radar_policy_shape *shape, radar_error *err);
/* [this rank] Room for every row of the context of a shape that was checked. */
radar_status radar_published_open(radar_published **out, const radar_published_rule *rule,
                                  const radar_policy_shape *shape, radar_error *err);
void radar_published_close(radar_published *p); /* [this rank] NULL is fine */
/* Bytes of that room, all but small pieces. */
double radar_published_bytes(const radar_published_rule *rule, const radar_policy_shape *shape);

/* T for a row at `position`. */
int64_t radar_published_stored(const radar_published_rule *rule, int64_t position);
/* Rows from `position` on are void: they come anew, or never. */
void radar_published_forget(radar_published *p, int layer, int64_t position);
/* Brings the segments of a layer to where the row at `position` needs them.  Its tokens are in the cache. */
void radar_published_advance(radar_published *p, const radar_kvcache *kv, int layer,
                             int64_t position);
/* Scores of every segment for the query heads of one KV head, q [group, D], into p->score. */
void radar_published_score(radar_published *p, const radar_kvcache *kv, int layer, int kv_head,
                           const float *q);
/* Chooses for every query head among p->score, into p->topk. */
void radar_published_pick(radar_published *p, const radar_kvcache *kv, int layer, int64_t position);

#endif
