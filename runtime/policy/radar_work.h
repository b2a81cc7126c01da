/* radar_work.h - rows choose units of the candidates: scores, the best of the rank, X2, the best of all.
 *
 * A row is a query of every head at a position.  Those of policy/radar.c are the rows of a pass; those of policy/prefill.c each stand
 * for some. */
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
    radar_score_task *score_task;    /* [rows, G, shards] */
    radar_topk_range *range;         /* [rows, H, shards] */
    radar_topk_task *topk;           /* [rows, H], or [rows, H, shards] with --select local */
    uint64_t *packet;                /* [P, rows, H, keep] the ranks' best */
    uint64_t *merged;                /* [P, keep] room to merge the lists of one query head */
} radar_work;

/* Cuts base into the arrays of w; returns the bytes used.  base NULL: only counts. */
size_t radar_work_lay_out(radar_work *w, char *base, const radar_kvcache *kv,
                          const radar_attention *a, int n_heads, int n_rows, int keep);
/* [all ranks] The best units of every row and query head of s; w->row says of which candidates. */
radar_status radar_work_choose(radar_select *s, radar_work *w);
/* Adds what a query head of a row chose to the bits. */
void radar_work_mark(const radar_select *s, radar_work *w, int row, int head);
/* Empties the bits of units [begin, end) into w->chosen, ascending; returns how many there were. */
int radar_work_collect(radar_work *w, int64_t begin, int64_t end);
/* Appends the items of own shard i for rows up to position `last`: those before the candidates of a row, the first n_chosen of w->chosen,
 * and everything behind the candidates. */
void radar_work_list(radar_select *s, const radar_work *w, int row, int i, int n_chosen,
                     int64_t last);

#endif
