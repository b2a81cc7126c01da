/* radar_work.h - rows choose units of the candidates: scores, the best of the rank, X2, the best of all, lists of what is attended.
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

/* Where a row's candidates, and what follows them, lie in own shard i: storage segments [begin, end), [end, stop). */
typedef struct radar_row_part {
    int32_t begin, end, stop;
} radar_row_part;

/* Where a chosen unit lies. */
typedef struct radar_chosen_unit {
    int32_t shard, segment; /* own shard; the first of its storage segments */
} radar_chosen_unit;

/* The scratch of one call, cut from the plan's memory by radar_work_lay_out(). */
typedef struct radar_work {
    int group, n_lists; /* query heads per KV head; lists per KV head: 1, or one per query head */
    int64_t first[RADAR_MAX_SHARDS]; /* of own shard i in a row of scores */
    int64_t scores;                  /* that a row has room for: of all own shards */
    int keep;                        /* the largest of the rows */
    uint64_t *bits;                  /* [context / 16] chosen units of one list */
    radar_chosen_unit *chosen;       /* the same, own ones, ascending */
    int32_t *sorted;                 /* their segments, shard by shard */
    int n_chosen[RADAR_MAX_SHARDS];  /* how many of own shard i */
    radar_row_choice *row;           /* [rows] */
    radar_row_part *part;            /* [rows, shards] */
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
    int32_t *n_list;   /* [rows, H, shards] how many; -1: all candidates */
} radar_work;

/* Cuts base into the arrays of w; returns the bytes used.  base NULL: only counts. */
size_t radar_work_lay_out(radar_work *w, char *base, const radar_kvcache *kv,
                          const radar_attention *a, int n_heads, int n_rows, int keep);
/* Where a row's candidates lie, by w->row, and what it attends to behind them, up to position `last`. */
void radar_work_locate(const radar_select *s, radar_work *w, int row, int64_t last);
static inline const radar_row_part *radar_work_part(const radar_select *s, const radar_work *w,
                                                    int row, int i) {
    return &w->part[(size_t)row * (size_t)s->kv->n_shards + (size_t)i];
}
/* Scores of a query head in own shard i. */
float *radar_work_scores(const radar_select *s, const radar_work *w, int row, int head, int i);
/* Candidates of a row in own shard i: storage indices [begin, end) in units. */
void radar_work_units(const radar_select *s, const radar_work *w, int row, int i, int32_t *begin,
                      int32_t *end);
/* The candidates of one query head, or what a progressive scan has left of them, shard by shard. */
void radar_work_ranges(const radar_select *s, const radar_work *w, int row, int head,
                       radar_topk_range *range);
/* How many a query head, or with --select local one of its shards, takes of `keep`. */
int radar_work_keep(const radar_select *s, int keep);

/* [this rank] Scores of all own candidates: by the upper plane alone for a progressive scan. */
void radar_score_candidates(radar_select *s, radar_work *w);
/* [this rank] Stage by stage fewer of them are left, with better scores; the last ones' are of their keys. */
void radar_score_progressive(radar_select *s, radar_work *w);
/* [this rank] Bytes that both read of all layers for a row at `position` that scores, with its scorer. */
double radar_score_bytes(const radar_attention *a, const radar_kvcache *kv, int n_heads,
                         int64_t position);
/* [this rank] The same for who watches the one row of s, whose plan lends its scratch: of own shard i the scores as the stages
 * left them to score[i], [H, n], and those of what reached the last stage to left[i], NaN for the rest. */
void radar_score_stages(const radar_select *s, const radar_row_choice *c, float *const *score,
                        float *const *left);

/* ---- radar_choose.c ---- */

/* [all ranks] The best units of every row and query head of s; w->row and w->part say of which candidates. */
radar_status radar_work_choose(radar_select *s, radar_work *w);
/* Adds what a query head of a row chose to the bits. */
void radar_work_mark(const radar_select *s, radar_work *w, int row, int head);
/* Empties the bits of a row's candidates: own shard i has w->n_chosen[i] of w->sorted, ascending, behind those of the shards before. */
void radar_work_sort(const radar_select *s, radar_work *w, int row);
/* Appends the items of own shard i: what is before the candidates of a row, the chosen ones, and everything behind the candidates. */
void radar_work_list(radar_select *s, const radar_work *w, int row, int i, const int32_t *chosen);
void radar_work_list_range(radar_plan *plan, int32_t begin, int32_t end);

#endif
