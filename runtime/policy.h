/* policy.h - what a row attends to.  A policy is one file in policy/ and one line in the table.
 *
 * For one layer and some rows of one session, after their keys and values are in the cache and due blocks are sealed, a
 * policy lists for every (row, KV head, own shard) what is attended, as tasks of the attention kernel; exactly one task
 * covers each (query, own shard), empty lists included.  What is listed depends on options, position and scores alone,
 * never on the rank count or on the rows beside it. */
#ifndef RADAR_POLICY_H
#define RADAR_POLICY_H

#include "kernels/merge.h"
#include "parallel/comm.h"
#include "runtime/kvcache.h"

/* The numbers behind a session's attention, checked and resolved once. */
typedef struct radar_attention {
    const struct radar_policy *policy; /* of decode steps */
    radar_scorer *scorer;              /* NULL when the policy needs none */
    radar_scorer *exact;               /* of the last stage of a progressive scan, else NULL */
    int64_t window, sinks;
    int64_t budget;      /* -1 = auto */
    int64_t segments;    /* 0 = from the budget */
    int64_t dense_below; /* -1 = auto */
    int64_t segment;     /* tokens of a scored segment; -1 = auto */
    int64_t longest;     /* tokens of a segment that auto can reach */
    int64_t observe;     /* snapkv: queries of the prompt that vote */
    bool exact_scores;   /* paper, code: true masses instead of features */
    int64_t rf_features; /* paper, code: directions; 0 = 16 D */
    bool restream;       /* streaming: positions counted within what is kept */
    bool share_head;     /* each query head attends to its own list */
    bool select_local;
    bool progressive;      /* scores by the high bit plane first */
    bool sparse_prefill;   /* blocks of the prompt's queries choose segments together */
    int64_t dense_prefill; /* of those, the first tokens that attend densely; -1 = auto */
    radar_pick pick;
    uint64_t pick_seed;
    int64_t max_keep; /* most units a query head can choose, at any position of the context */
} radar_attention;

/* Counted on each rank over what it does itself; radar_stats adds the ranks up. */
typedef struct radar_counts {
    int64_t segments_scored, scored_bytes; /* what was read to score them */
    int64_t
        attended_tokens; /* read from the cache under the session's policy: per list and KV head; but for: */
    int64_t *listed;   /* device: 16 tokens each, too; NULL: nobody wants to know */
    int64_t rows;      /* (row, layer, KV head) under the session's policy */
    int64_t coverages; /* (row, layer, query head) */
    double coverage_sum, coverage_min;
    int candidate_shards;
} radar_counts;

/* How a model turns queries and keys by their position. */
typedef struct radar_rope {
    const double *frequency; /* [rotary / 2] radians per position */
    int rotary;
    radar_rope_style style;
    double magnitude; /* cos and sin are multiplied by it */
} radar_rope;

/* into[i] := merge(into[i], from[i]) for n partials, after the attention: where one piece is the work of two tasks. */
typedef struct radar_fold {
    float *into, *from;
    int64_t n;
} radar_fold;

/* Where a policy puts its tasks, and the scratch it works in. */
typedef struct radar_plan {
    radar_attend_task *task;
    int n_tasks, max_tasks;
    radar_item *item; /* host */
    size_t n_items, max_items;
    radar_missed_task *
        missed; /* tasks of missed.h to run after the attention; only where something was left out */
    int n_missed, max_missed;
    radar_fold *fold;
    int n_folds, max_folds;
    /* The policy's own: of the host, and of the device; zero when a session is set to it */
    void *scratch, *memory;
    size_t scratch_bytes, memory_bytes;
    void *
        packet; /* what it exchanges: device memory of the carrier's, the same size on every rank */
    size_t packet_bytes;
    uint64_t cut;      /* how the policy has cut its memory; 0: not yet */
    radar_item *every; /* device [segments of the longest own shard]: all of them, whole */
} radar_plan;

/* One call: layer `layer`, rows [0, n_rows) at ascending positions of one session. */
typedef struct radar_select {
    radar_comm *comm;
    radar_kvcache *kv;
    const radar_attention *attention;
    radar_counts *counts;
    radar_plan *plan;
    int layer, n_rows, n_heads;
    const int64_t *position;       /* [n_rows] */
    const int64_t *query_position; /* [n_rows * group]: the position of each query of a KV head */
    const float *q;                /* [G, n_rows, group, D] */
    const float *k, *v;            /* [n_rows, G, D] of these rows, all heads, on every rank */
    float *
        partial; /* [shards, G, n_rows, group, PARTIAL(D)]: pieces of the tree; the first is its root afterwards */
    const radar_rope *rope; /* how positions turn queries */
    void *state;            /* of the session's policy, NULL when it has none */
    bool prefill;           /* these rows are of a prompt, whatever the session's policy */
    radar_error *err;
} radar_select;

/* What open() of a policy may size its state by, valid during the call. */
typedef struct radar_policy_shape {
    const radar_kvcache *kv; /* planned */
    const radar_attention *attention;
    int n_heads;
} radar_policy_shape;

typedef struct radar_policy {
    const char *name;
    bool needs_summaries;
    bool
        sees_prompt; /* what it remembers comes from every row from position 0 on; else from the cache, at any position */
    /* Rows of one select at most, 0 = any number.  1: what a row attends to depends on what the row before it did. */
    int most_rows;
    /* Rows are handed over up to a multiple of this many positions, as far as a call has room; 0: cut anywhere. */
    int block;
    /* Room this policy needs in the plan for n_rows rows: entries of task, item and missed, and bytes of scratch. */
    void (*room)(const radar_kvcache *kv, const radar_attention *a, int n_heads, int n_rows,
                 radar_plan *need);
    radar_status (*select)(radar_select *s); /* [all ranks] */
    /* What a policy remembers of a session beside the cache; NULL, all of them, where the choice follows from options, position
     * and scores alone.  State is the same on every rank, or split like the shards. */
    radar_status (*check)(const radar_policy_shape *shape,
                          radar_error *err); /* what cannot be opened; NULL: nothing */
    radar_status (*open)(void **state, const radar_policy_shape *shape,
                         radar_error *err); /* [this rank] */
    void (*close)(void *state);             /* [this rank] NULL is fine */
    /* [all ranks] After the attention of every block of rows, prefill's too; s->partial begins with the merged partials
     * [G, n_rows, group, PARTIAL(D)], and the tasks of the plan are still there. */
    radar_status (*attended)(radar_select *s);
    /* [this rank] Forget everything from position on; false where that is not possible (where the prefill ended, and 0, always
     * are). */
    bool (*rewind)(void *state, int64_t position);
    /* Bytes that open() reserves, all but small pieces; NULL where open is. */
    double (*bytes)(const radar_policy_shape *shape);
} radar_policy;

extern const radar_policy radar_policy_dense; /* also what prefill uses */
extern const radar_policy
    radar_policy_prefill; /* and with --prefill radar; no attention of steps */
/* NULL-terminated. */
extern const radar_policy *const radar_policies[];
const radar_policy *radar_policy_find(const char *name); /* NULL: none of that name */

/* ---- shared by policies ---- */

static inline int64_t radar_segment_number(int64_t position) { return position / RADAR_SEGMENT; }
/* Storage index in own shard i of the first of its segments with global number >= segment. */
int32_t radar_storage_segment(const radar_kvcache *kv, int i, int64_t segment);
/* Tokens of the 16 from position `first` on that lie in [begin, end), one bit each. */
static inline uint32_t radar_tokens_within(int64_t first, int64_t begin, int64_t end) {
    uint32_t mask = 0;
    for (int i = 0; i < RADAR_SEGMENT; i++)
        if (first + i >= begin && first + i < end) mask |= 1u << i;
    return mask;
}

/* Appends to the plan's items those of global segments [begin, end) that lie in own shard i, all tokens attended. */
void radar_plan_range(radar_plan *plan, const radar_kvcache *kv, int i, int64_t begin, int64_t end);
/* Adds one attention task: queries [first, first + n) of KV head `head` in own shard i. */
void radar_plan_attend(const radar_select *s, int head, int i, int first, int n, radar_items items);
/* The same with items [first_item, plan->n_items). */
void radar_plan_task(const radar_select *s, int head, int i, int first, int n, size_t first_item);
/* The first n segments of a shard. */
static inline radar_items radar_plan_every(const radar_plan *plan, int n) {
    return (radar_items){.item = plan->every, .n = n, .on_device = true};
}
/* Tokens of own shard i that the items [first_item, plan->n_items) attend for a query at `position`. */
int64_t radar_plan_tokens(const radar_select *s, int i, size_t first_item, int64_t position);
/* Tasks of rows [0, n) of s that attend to every token up to their own. */
void radar_dense_rows(radar_select *s, int n);
/* The piece of partials that belongs to own shard i, KV head `head`, query `first`. */
float *radar_select_partial(const radar_select *s, int i, int head, int first);
/* After the merge: the partial of query `query` (row * group + head of the group) of KV head `head`. */
static inline float *radar_select_root(const radar_select *s, int head, int query) {
    size_t queries = (size_t)s->n_rows * (size_t)(s->n_heads / s->kv->kv_heads);
    return s->partial + ((size_t)head * queries + (size_t)query) * (size_t)RADAR_PARTIAL(s->kv->D);
}

#endif
