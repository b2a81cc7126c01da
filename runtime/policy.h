/* policy.h - what a row attends to.  A policy is one file in policy/ and one line in the table.
 *
 * For one layer and some rows of one session, after their keys and values are in the cache and due blocks are sealed, a
 * policy lists for every (row, KV head, own shard) what is attended, as tasks of the attention kernel; exactly one task
 * covers each (query, own shard), empty lists included.  What is listed depends on options, position and scores alone,
 * never on the rank count or on the rows beside it. */
#ifndef RADAR_POLICY_H
#define RADAR_POLICY_H

#include "parallel/comm.h"
#include "runtime/kvcache.h"

/* The numbers behind a session's attention, checked and resolved once. */
typedef struct radar_attention {
    const struct radar_policy *policy; /* of decode steps */
    radar_scorer *scorer;              /* NULL when the policy needs none */
    int64_t window, sinks;
    int64_t budget;      /* -1 = auto */
    int64_t segments;    /* 0 = from the budget */
    int64_t dense_below; /* -1 = auto */
    bool share_head;     /* each query head attends to its own list */
    bool select_local;
    radar_pick pick;
    uint64_t pick_seed;
    int64_t max_keep; /* most segments a query head can choose, at any position of the context */
} radar_attention;

/* Counted on each rank over what it does itself; radar_stats adds the ranks up. */
typedef struct radar_counts {
    int64_t segments_scored;
    int64_t
        attended_tokens; /* read from the cache under the session's policy: per list and KV head */
    int64_t rows;        /* (row, layer, KV head) under the session's policy */
    int64_t coverages;   /* (row, layer, query head) */
    double coverage_sum, coverage_min;
    int candidate_shards;
} radar_counts;

/* Where a policy puts its tasks, and the scratch it works in. */
typedef struct radar_plan {
    radar_attend_task *task;
    int n_tasks, max_tasks;
    radar_item *item;
    size_t n_items, max_items;
    radar_missed_task *
        missed; /* tasks of missed.h to run after the attention; only where something was left out */
    int n_missed, max_missed;
    void *scratch; /* the policy's own */
    size_t scratch_bytes;
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
    float *partial;                /* [shards, G, n_rows, group, PARTIAL(D)]: pieces of the tree */
    radar_error *err;
} radar_select;

typedef struct radar_policy {
    const char *name;
    bool needs_summaries;
    /* Room this policy needs in the plan for n_rows rows: entries of task, item and missed, and bytes of scratch. */
    void (*room)(const radar_kvcache *kv, const radar_attention *a, int n_heads, int n_rows,
                 radar_plan *need);
    radar_status (*select)(radar_select *s); /* [all ranks] */
} radar_policy;

extern const radar_policy radar_policy_dense; /* also what prefill uses */
/* NULL-terminated. */
extern const radar_policy *const radar_policies[];
const radar_policy *radar_policy_find(const char *name); /* NULL: none of that name */

/* ---- shared by policies ---- */

static inline int64_t radar_segment_number(int64_t position) { return position / RADAR_SEGMENT; }
/* Storage index in own shard i of the first of its segments with global number >= segment. */
int32_t radar_storage_segment(const radar_kvcache *kv, int i, int64_t segment);
/* Appends to the plan's items those of global segments [begin, end) that lie in own shard i, all tokens attended. */
void radar_plan_range(radar_plan *plan, const radar_kvcache *kv, int i, int64_t begin, int64_t end);
/* Adds one attention task: queries [first, first + n) of KV head `head` in own shard i, items [first_item, plan->n_items). */
void radar_plan_task(const radar_select *s, int head, int i, int first, int n, size_t first_item);
/* Tokens of own shard i that the items [first_item, plan->n_items) attend for a query at `position`. */
int64_t radar_plan_tokens(const radar_select *s, int i, size_t first_item, int64_t position);
/* The piece of partials that belongs to own shard i, KV head `head`, query `first`. */
float *radar_select_partial(const radar_select *s, int i, int head, int first);

#endif
