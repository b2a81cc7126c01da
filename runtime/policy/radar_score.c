/* The scoring of the policy `radar`, and the scratch it works in.
 *
 * --scan progressive reads less of most candidates, per query head:
 *   the upper plane of every code -> the best 8 keep by both planes -> the best 2 keep of those by their keys -> the best keep
 * Each shard brings its own best to a stage, at most ceil(1.5 m / shards) of m, or what a stripe has of keep where that is
 * more: no exchange, and the same whatever the number of ranks.  A unit that drops out keeps the score of its last stage,
 * which is what coverage then adds up. */
#include "runtime/policy/radar_work.h"

#include <math.h>
#include <string.h>

#define FIRST_TIMES 8  /* of keep: by the upper plane */
#define SECOND_TIMES 2 /* of keep: by both */

/* The most that one shard brings to a stage of times * keep. */
static int share_of(const radar_kvcache *kv, int keep, int32_t unit, int times) {
    int64_t fair = radar_ceil_div(3 * (int64_t)times * keep, 2 * (int64_t)kv->layout.shards);
    int64_t stripe = kv->layout.stripe / (RADAR_SEGMENT * (int64_t)unit);
    return (int)radar_max64(fair, radar_min64(keep, stripe));
}

static size_t take(size_t *used, size_t bytes) {
    size_t at = *used;
    *used += (bytes + 63) / 64 * 64;
    return at;
}

static int64_t context_segments(const radar_kvcache *kv) {
    return radar_ceil_div(kv->context, RADAR_SEGMENT);
}

size_t radar_work_lay_out(radar_work *w, char *base, const radar_kvcache *kv,
                          const radar_attention *a, int n_heads, int n_rows, int keep) {
    size_t used = 0, rows = (size_t)n_rows, heads = rows * (size_t)n_heads;
    size_t all = (size_t)context_segments(kv), scores;
    size_t shards = (size_t)kv->n_shards, ranks = (size_t)kv->layout.ranks;
    *w = (radar_work){.group = n_heads / kv->kv_heads, .keep = keep};
    for (int i = 0; i < kv->n_shards; i++) {
        w->first[i] = w->scores;
        w->scores += radar_attention_most_scores(a, kv, i);
    }
    scores = (size_t)w->scores;
    w->n_lists = a->share_head ? w->group : 1;
#define TAKE(member, count) w->member = (void *)(base + take(&used, (count) * sizeof *w->member))
    TAKE(
        bits,
        all / 64 +
            1); /* first: stays in its place, and zero between calls, whatever the number of rows */
    TAKE(chosen, all);
    TAKE(sorted, all);
    TAKE(row, rows);
    TAKE(part, rows * shards);
    TAKE(query, heads * a->scorer->query_bytes);
    TAKE(score, heads * scores);
    TAKE(key, heads * scores);
    TAKE(score_task, (a->progressive ? heads : rows * (size_t)kv->kv_heads) * shards);
    TAKE(range, heads * shards);
    TAKE(topk, heads * shards);
    TAKE(packet, ranks * heads * (size_t)keep);
    TAKE(merged, ranks * (size_t)keep);
    if (a->progressive) {
        for (int i = 0; i < kv->n_shards; i++)
            w->listed[i + 1] = w->listed[i] + radar_min64(radar_attention_most_scores(a, kv, i),
                                                          share_of(kv, keep, 1, FIRST_TIMES));
        TAKE(exact_query, heads * a->exact->query_bytes);
        TAKE(list, heads * (size_t)w->listed[kv->n_shards]);
        TAKE(n_list, heads * shards);
    }
#undef TAKE
    return used;
}

void radar_work_locate(const radar_select *s, radar_work *w, int row, int64_t last) {
    const radar_row_choice *c = &w->row[row];
    int64_t stop = radar_segment_number(last) + 1;
    for (int i = 0; i < s->kv->n_shards; i++)
        w->part[(size_t)row * (size_t)s->kv->n_shards + (size_t)i] = (radar_row_part){
            radar_storage_segment(s->kv, i, c->begin), radar_storage_segment(s->kv, i, c->end),
            radar_storage_segment(s->kv, i, stop)};
}

/* ---- scores ---- */

#define ALL (-1) /* candidates are left: no stage has chosen yet */

/* Where the units of a query head that are left in own shard i are listed. */
typedef struct units_left {
    int32_t *list, *n;
} units_left;

static units_left left_of(const radar_select *s, const radar_work *w, int row, int head, int i) {
    size_t at = (size_t)row * (size_t)s->n_heads + (size_t)head,
           listed = (size_t)w->listed[s->kv->n_shards];
    return (units_left){w->list + at * listed + (size_t)w->listed[i],
                        w->n_list + at * (size_t)s->kv->n_shards + (size_t)i};
}

float *radar_work_scores(const radar_select *s, const radar_work *w, int row, int head, int i) {
    return w->score + ((size_t)row * (size_t)s->n_heads + (size_t)head) * (size_t)w->scores +
           w->first[i];
}

void radar_work_units(const radar_select *s, const radar_work *w, int row, int i, int32_t *begin,
                      int32_t *end) {
    const radar_row_part *part = radar_work_part(s, w, row, i);
    *begin = part->begin / w->row[row].unit;
    *end = part->end / w->row[row].unit;
}

/* What is read to score one unit: its summary, or its keys. */
static int64_t unit_bytes(const radar_attention *a, const radar_kvcache *kv, int32_t unit) {
    if (a->progressive) return (int64_t)a->scorer->coarse_bytes / RADAR_BLOCK_SEGMENTS;
    if (kv->block_bytes) return (int64_t)kv->block_bytes / RADAR_BLOCK_SEGMENTS;
    return radar_kvcache_key_bytes(kv, (int64_t)unit * RADAR_SEGMENT);
}

void radar_score_candidates(radar_select *s, radar_work *w) {
    const radar_kvcache *kv = s->kv;
    const radar_scorer *scorer = s->attention->scorer;
    int n = 0, queries = s->n_rows * w->group;
    for (int i = 0; s->attention->progressive && i < s->n_rows * s->n_heads * kv->n_shards; i++)
        w->n_list[i] = ALL;
    kv->be->ops->query(kv->be, scorer, w->query, s->q, (size_t)kv->D, kv->kv_heads * queries);
    for (int row = 0; row < s->n_rows; row++) {
        if (w->row[row].keep == 0) continue;
        for (int i = 0; i < kv->n_shards; i++) {
            int32_t begin, end;
            radar_work_units(s, w, row, i, &begin, &end);
            if (begin == end) continue;
            int64_t units = (int64_t)kv->kv_heads * (end - begin);
            s->counts->segments_scored += units;
            s->counts->scored_bytes += units * unit_bytes(s->attention, kv, w->row[row].unit);
            for (int g = 0; g < kv->kv_heads; g++) {
                size_t query = (size_t)g * (size_t)queries + (size_t)row * (size_t)w->group;
                w->score_task[n++] = (radar_score_task){
                    .kv = radar_kvcache_view(kv, s->layer, g, i),
                    .n_query = w->group,
                    .query = w->query + query * scorer->query_bytes,
                    .unit = w->row[row].unit,
                    .segment_begin = begin,
                    .segment_end = end,
                    .score = radar_work_scores(s, w, row, g * w->group, i),
                    .score_stride = (size_t)w->scores,
                    .coarse = s->attention->progressive,
                };
            }
        }
    }
    kv->be->ops->score(kv->be, scorer, w->score_task, n);
}

void radar_work_ranges(const radar_select *s, const radar_work *w, int row, int head,
                       radar_topk_range *range) {
    for (int i = 0; i < s->kv->n_shards; i++) {
        int32_t begin, end;
        radar_work_units(s, w, row, i, &begin, &end);
        range[i] = (radar_topk_range){.score = radar_work_scores(s, w, row, head, i),
                                      .n = end - begin,
                                      .segment_begin = begin,
                                      .phase = radar_kvcache_view(s->kv, s->layer, 0, i).phase};
        if (!s->attention->progressive) continue;
        const units_left left = left_of(s, w, row, head, i);
        if (*left.n == ALL) continue;
        range[i].list = left.list;
        range[i].n = *left.n;
    }
}

int radar_work_keep(const radar_select *s, int keep) {
    if (!s->attention->select_local) return keep;
    return radar_attention_keep_local(keep, s->kv->layout.shards);
}

/* ---- progressive ---- */

/* Each shard keeps its best of a stage, so that it need not know of others. */
static void narrow(radar_select *s, radar_work *w, int times) {
    const radar_kvcache *kv = s->kv;
    int n = 0;
    for (int row = 0; row < s->n_rows; row++) {
        const radar_row_choice *c = &w->row[row];
        for (int head = 0; head < s->n_heads && c->keep; head++) {
            radar_topk_range *range = w->range + n;
            radar_work_ranges(s, w, row, head, range);
            for (int i = 0; i < kv->n_shards; i++)
                w->topk[n++] = (radar_topk_task){
                    .range = range + i,
                    .n_ranges = 1,
                    .stripe_segments = 1, /* numbers are those of the storage: */
                    .shards = 1,          /* within a shard their order is that of positions */
                    .keep = share_of(kv, c->keep, c->unit, times),
                    .key = w->key + (range[i].score - w->score),
                };
            for (int i = 0; i < kv->n_shards; i++) range[i].phase = 0;
        }
    }
    kv->be->ops->topk(kv->be, w->topk, n);
    const radar_topk_task *task = w->topk;
    for (int row = 0; row < s->n_rows; row++) {
        for (int head = 0; head < s->n_heads && w->row[row].keep; head++) {
            for (int i = 0; i < kv->n_shards; i++, task++) {
                units_left left = left_of(s, w, row, head, i);
                *left.n = task->n_kept;
                for (int j = 0; j < task->n_kept; j++)
                    left.list[j] = (int32_t)radar_topk_segment(task->key[j]);
            }
        }
    }
}

/* Scores what is left by `scorer`, of which query holds the prepared queries [G, rows, group]; bytes: of what it reads a unit. */
static void score_left(radar_select *s, radar_work *w, const radar_scorer *scorer,
                       const char *query, int64_t bytes) {
    const radar_kvcache *kv = s->kv;
    int n = 0;
    for (int row = 0; row < s->n_rows; row++) {
        for (int head = 0; head < s->n_heads && w->row[row].keep; head++) {
            size_t j =
                ((size_t)(head / w->group) * (size_t)s->n_rows + (size_t)row) * (size_t)w->group +
                (size_t)(head % w->group);
            for (int i = 0; i < kv->n_shards; i++) {
                const units_left left = left_of(s, w, row, head, i);
                radar_score_task *task = &w->score_task[n++];
                *task = (radar_score_task){
                    .kv = radar_kvcache_view(kv, s->layer, head / w->group, i),
                    .n_query = 1,
                    .query = query + j * scorer->query_bytes,
                    .unit = w->row[row].unit,
                    .score = radar_work_scores(s, w, row, head, i),
                    .list = left.list,
                    .n_listed = *left.n,
                };
                radar_work_units(s, w, row, i, &task->segment_begin, &task->segment_end);
                s->counts->scored_bytes += *left.n * bytes;
            }
        }
    }
    kv->be->ops->score(kv->be, scorer, w->score_task, n);
}

void radar_score_progressive(radar_select *s, radar_work *w) {
    const radar_kvcache *kv = s->kv;
    const radar_attention *a = s->attention;
    kv->be->ops->query(kv->be, a->exact, w->exact_query, s->q, (size_t)kv->D,
                       kv->kv_heads * s->n_rows * w->group);
    narrow(s, w, FIRST_TIMES);
    score_left(s, w, a->scorer, w->query, (int64_t)kv->block_bytes / RADAR_BLOCK_SEGMENTS);
    narrow(s, w, SECOND_TIMES);
    score_left(s, w, a->exact, w->exact_query, radar_kvcache_key_bytes(kv, RADAR_SEGMENT));
}

double radar_score_bytes(const radar_attention *a, const radar_kvcache *kv, int n_heads,
                         int64_t position) {
    const int32_t unit = radar_attention_unit(a, position);
    const int keep = (int)radar_attention_keep(a, position);
    int64_t begin, end;
    radar_attention_candidates(a, position, &begin, &end);
    /* shards have stripes in turn: each as good as the same share */
    const double units = (double)(end - begin) / unit / kv->layout.shards,
                 first = radar_min64((int64_t)units, share_of(kv, keep, unit, FIRST_TIMES)),
                 second = radar_min64((int64_t)first, share_of(kv, keep, unit, SECOND_TIMES));
    double bytes = kv->kv_heads * units * (double)unit_bytes(a, kv, unit);
    if (a->progressive)
        bytes += n_heads * (first * (double)kv->block_bytes / RADAR_BLOCK_SEGMENTS +
                            second * (double)radar_kvcache_key_bytes(kv, RADAR_SEGMENT));
    return bytes * kv->layers * kv->n_shards;
}

static void copy_stages(const radar_select *s, const radar_work *w, int i, float *score,
                        float *left) {
    int32_t begin, end;
    radar_work_units(s, w, 0, i, &begin, &end);
    for (int head = 0; head < s->n_heads; head++, score += end - begin, left += end - begin) {
        const float *from = radar_work_scores(s, w, 0, head, i);
        const units_left last = left_of(s, w, 0, head, i);
        for (int j = 0; j < end - begin; j++) score[j] = from[j], left[j] = NAN;
        for (int j = 0; j < *last.n; j++) left[last.list[j] - begin] = score[last.list[j] - begin];
    }
}

void radar_score_stages(const radar_select *s, const radar_row_choice *c, float *const *score,
                        float *const *left) {
    radar_counts elsewhere = {0};
    radar_select again = *s;
    radar_work w;
    again.counts = &elsewhere;
    radar_work_lay_out(&w, s->plan->scratch, s->kv, s->attention, s->n_heads, 1, c->keep);
    w.row[0] = *c;
    radar_work_locate(&again, &w, 0, s->position[0]);
    radar_score_candidates(&again, &w);
    radar_score_progressive(&again, &w);
    for (int i = 0; i < s->kv->n_shards; i++) copy_stages(&again, &w, i, score[i], left[i]);
}
