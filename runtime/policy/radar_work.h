/* radar_work.h - what the parts of the policy `radar` share: its scratch, and the scores it fills. */
#ifndef RADAR_WORK_H
#define RADAR_WORK_H

#include "runtime/attention.h"

/* What one row may choose from. */
typedef struct radar_row_choice {
    int64_t begin, end; /* candidate segments of the context, whole units */
    int32_t unit;
    int keep; /* units of them, per query head; 0 = attend everything */
} radar_row_choice;

/* The scratch of one call, cut from the plan's memory by radar_work_lay_out(). */
typedef struct radar_work {
    int group, n_lists; /* query heads per KV head; lists per KV head: 1, or one per query head */
    int64_t first[RADAR_MAX_SHARDS]; /* of own shard i in a row of scores */
    int64_t scores;                  /* that a row has room for: of all own shards */
    int keep;                        /* the largest of the rows */
    uint64_t *bits;                  /* [context / 16] chosen units of one list */
    int32_t *chosen;                 /* the same, ascending */
    radar_row_choice *row;           /* [rows] */
    char *query;                     /* [rows, H, query_bytes] prepared */
    float *score;                    /* [rows, H, scores] */
    uint64_t *key;                   /* [rows, H, scores] */
    radar_score_task *score_task;    /* [rows, G, shards]; progressive: [rows, H, shards] */
    radar_topk_range *range;         /* [rows, H, shards] */
    radar_topk_task *topk;           /* [rows, H], or [rows, H, shards] with --select local */
    uint64_t *packet;                /* [P, rows, H, keep] the ranks' best */
    uint64_t *merged;                /* [P, keep] room to merge the lists of one query head */
    /* --scan progressive */
    int64_t listed
        [RADAR_MAX_SHARDS +
         1]; /* lists of own shard i begin there among those of a query head; the last: all of them */
    char *exact_query; /* [rows, H, query_bytes of exact] */
    int32_t *list;     /* [rows, H, listed] storage units still in the running */
    float *estimate;   /* [rows, H, listed] */
    int32_t *n_list;   /* [rows, H, shards] */
} radar_work;

/* Cuts base into the arrays of w; returns the bytes used.  base NULL: only counts. */
size_t radar_work_lay_out(radar_work *w, char *base, const radar_kvcache *kv,
                          const radar_attention *a, int n_heads, int n_rows, int keep);
/* Scores of a query head in own shard i. */
float *radar_work_scores(const radar_select *s, const radar_work *w, int row, int head, int i);
/* Candidates of a row in own shard i: storage indices [begin, end) in units. */
void radar_work_units(const radar_select *s, const radar_work *w, int row, int i, int32_t *begin,
                      int32_t *end);
/* The candidates of one query head, shard by shard. */
void radar_work_ranges(const radar_select *s, const radar_work *w, int row, int head,
                       radar_topk_range *range);
/* How many a query head, or with --select local one of its shards, takes of `keep`. */
int radar_work_keep(const radar_select *s, int keep);

/* [this rank] Scores of all own candidates: by the upper plane alone for a progressive scan. */
void radar_score_candidates(radar_select *s, radar_work *w);
/* [this rank] What is left of them stage by stage; ends with the best by their keys in w->topk, as topk would leave them. */
void radar_score_progressive(radar_select *s, radar_work *w);

#endif
