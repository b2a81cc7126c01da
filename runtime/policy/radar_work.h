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

/* The room of one call: scratch of the host and memory of the device, cut by radar_work_lay_out(). */
typedef struct radar_work {
    int group, n_lists; /* query heads per KV head; lists per KV head: 1, or one per query head */
    int n_groups;       /* of rows that attend to the same lists (choose.h) */
    int64_t first[RADAR_MAX_SHARDS]; /* of own shard i in a row of scores */
    int64_t scores;                  /* that a row has room for: of all own shards */
    int keep;                        /* the largest of the rows */
    int room;                        /* keys of a list that is chosen from */
    /* host */
    radar_row_choice *row;         /* [rows] */
    radar_choose_part *part;       /* [rows, shards] */
    radar_choose_row *choose;      /* [rows] */
    radar_choose_part *group_part; /* [groups, shards] */
    radar_score_task *score_task;  /* [rows, G, shards]; progressive: [rows, H, shards] */
    radar_topk_range *range;       /* [rows, H, shards] */
    radar_topk_task *topk;         /* [rows, H], or [rows, H, shards] */
    /* device */
    char *query;   /* [rows, H, query_bytes] prepared */
    float *score;  /* [rows, H, scores] */
    uint64_t *key; /* [rows, H, scores] scratch */
    uint64_t *
        packet; /* [P, rows, H, room] the ranks' best; with --select local [rows, H, room], of own shards */
    uint64_t *merged; /* [P, room] */
    uint32_t *bits;   /* [tasks, words] */
    int64_t *begin;   /* [tasks + 1] */
    int32_t *count;   /* [tasks] */
    radar_item *item; /* of all tasks */
    int32_t words;
    /* --scan progressive */
    int stage; /* how many times candidates have become fewer */
    int64_t listed
        [RADAR_MAX_SHARDS +
         1]; /* lists of own shard i begin there among those of a query head; the last: all of them */
    char *exact_query; /* device [rows, H, query_bytes of exact] */
    int32_t *list
        [2]; /* device [rows, H, listed] storage units still in the running, after odd and even stages */
    int32_t *n_list[2]; /* device [rows, H, shards] how many */
} radar_work;

/* What the call is about, beside session and layer. */
typedef struct radar_work_shape {
    int n_heads, n_rows, n_groups;
    int keep;     /* the largest of the rows */
    size_t items; /* that all lists together can have */
} radar_work_shape;

/* Cuts the room of plan into the arrays of w.  plan NULL: only counts, into need's scratch_bytes, memory_bytes, packet_bytes; need
 * NULL: it is known to suffice. */
void radar_work_lay_out(radar_work *w, radar_plan *plan, radar_plan *need, const radar_kvcache *kv,
                        const radar_attention *a, const radar_work_shape *shape);
/* Where a row's candidates lie, by w->row, and what it attends to behind them, up to position `last`. */
void radar_work_locate(const radar_select *s, radar_work *w, int row, int64_t last);
static inline const radar_choose_part *radar_work_part(const radar_select *s, const radar_work *w,
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

/* [all ranks] The best units of every row and query head of s, and from them the lists of all groups; w->row and w->part say of
 * which candidates, and `group` and `weight` of w->choose which rows belong together. */
radar_status radar_work_choose(radar_select *s, radar_work *w);
/* What list `list` (a KV head's, or with --share head a query head's) of a group has in own shard i. */
radar_items radar_work_items(const radar_select *s, const radar_work *w, int group, int list,
                             int i);

#endif
