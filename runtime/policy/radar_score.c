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

/* ---- room ---- */

/* Arrays one behind the other; base NULL: they are only counted. */
typedef struct region {
    char *base;
    size_t used;
} region;

static void *take(region *r, size_t count, size_t size) {
    char *at = r->base ? r->base + r->used : NULL;
    r->used += (count * size + 255) / 256 * 256;
    return at;
}

/* Keys of one list that is chosen from: of a rank, or of its shards that choose by themselves. */
static int room_of(const radar_kvcache *kv, const radar_attention *a, int keep) {
    if (!a->select_local) return keep;
    return kv->n_shards * radar_attention_keep_local(keep, kv->layout.shards);
}

static void lay_out_host(radar_work *w, region *r, const radar_kvcache *kv,
                         const radar_attention *a, const radar_work_shape *shape) {
    size_t rows = (size_t)shape->n_rows, heads = rows * (size_t)shape->n_heads,
           shards = (size_t)kv->n_shards;
    bool each_head = a->progressive;
#define TAKE(member, count) w->member = take(r, count, sizeof *w->member)
    TAKE(row, rows);
    TAKE(part, rows * shards);
    TAKE(choose, rows);
    TAKE(group_part, (size_t)shape->n_groups * shards);
    TAKE(score_task, (each_head ? heads : rows * (size_t)kv->kv_heads) * shards);
    TAKE(range, heads * shards);
    TAKE(topk, heads * shards);
}

static void lay_out_device(radar_work *w, region *r, const radar_kvcache *kv,
                           const radar_attention *a, const radar_work_shape *shape) {
    size_t heads = (size_t)shape->n_rows * (size_t)shape->n_heads, shards = (size_t)kv->n_shards,
           tasks = (size_t)shape->n_groups * (size_t)(kv->kv_heads * w->n_lists) * shards,
           ranks = a->select_local ? 1 : (size_t)kv->layout.ranks;
    TAKE(query, heads * a->scorer->query_bytes);
    TAKE(score, heads * (size_t)w->scores);
    TAKE(key, heads * (size_t)w->scores);
    if (a->select_local) TAKE(packet, heads * (size_t)w->room);
    TAKE(merged, ranks * (size_t)w->room);
    TAKE(bits, tasks * (size_t)w->words);
    TAKE(begin, tasks + 1);
    TAKE(count, tasks);
    if (a->progressive) {
        TAKE(exact_query, heads * a->exact->query_bytes);
        for (int i = 0; i < 2; i++) {
            TAKE(list[i], heads * (size_t)w->listed[kv->n_shards]);
            TAKE(n_list[i], heads * shards);
        }
    }
    TAKE(item, shape->items); /* last: how many is only known where room is asked for */
#undef TAKE
}

/* Bits are zero between calls, as long as they stay where they are. */
static void keep_bits(radar_plan *plan, const radar_kvcache *kv, const radar_work *w,
                      const radar_work_shape *shape) {
    const uint64_t cut[] = {(uint64_t)shape->n_rows, (uint64_t)shape->n_groups, (uint64_t)w->room};
    const uint64_t now = (cut[0] << 48 | cut[1] << 32 | cut[2]) + 1;
    if (plan->cut == now) return;
    plan->cut = now;
    kv->be->ops->clear(kv->be, w->bits,
                       (size_t)shape->n_groups * (size_t)(kv->kv_heads * w->n_lists) *
                           (size_t)kv->n_shards * (size_t)w->words * sizeof *w->bits);
}

void radar_work_lay_out(radar_work *w, radar_plan *plan, radar_plan *need, const radar_kvcache *kv,
                        const radar_attention *a, const radar_work_shape *shape) {
    region host = {.base = plan ? plan->scratch : NULL},
           device = {.base = plan ? plan->memory : NULL};
    *w = (radar_work){.group = shape->n_heads / kv->kv_heads,
                      .n_groups = shape->n_groups,
                      .keep = shape->keep,
                      .room = room_of(kv, a, shape->keep)};
    for (int i = 0; i < kv->n_shards; i++) {
        int64_t most = radar_attention_most_scores(a, kv, i);
        w->first[i] = w->scores;
        w->scores += most;
        w->listed[i + 1] =
            w->listed[i] + radar_min64(most, share_of(kv, shape->keep, 1, FIRST_TIMES));
    }
    w->n_lists = a->share_head ? w->group : 1;
    w->words = (int32_t)(radar_most_segments(kv) / 32 + 1);
    lay_out_host(w, &host, kv, a, shape);
    lay_out_device(w, &device, kv, a, shape);
    if (plan) {
        if (!a->select_local) w->packet = plan->packet;
        keep_bits(plan, kv, w, shape);
    }
    if (!need) return;
    need->scratch_bytes = host.used;
    need->memory_bytes = device.used;
    need->packet_bytes = a->select_local || kv->layout.ranks * w->room == 0
                             ? 0
                             : (size_t)kv->layout.ranks * (size_t)shape->n_rows *
                                   (size_t)shape->n_heads * (size_t)w->room * sizeof *w->packet;
}

void radar_work_locate(const radar_select *s, radar_work *w, int row, int64_t last) {
    const radar_row_choice *c = &w->row[row];
    int64_t stop = radar_segment_number(last) + 1;
    for (int i = 0; i < s->kv->n_shards; i++)
        w->part[(size_t)row * (size_t)s->kv->n_shards + (size_t)i] = (radar_choose_part){
            radar_storage_segment(s->kv, i, c->begin), radar_storage_segment(s->kv, i, c->end),
            radar_storage_segment(s->kv, i, stop)};
}

/* ---- scores ---- */

/* Where the units of a query head that are left in own shard i after a stage are listed, and how many at most. */
typedef struct units_left {
    int32_t *list, *n;
    int most;
} units_left;

static units_left left_of(const radar_select *s, const radar_work *w, int row, int head, int i,
                          int stage, int times) {
    size_t at = (size_t)row * (size_t)s->n_heads + (size_t)head,
           listed = (size_t)w->listed[s->kv->n_shards];
    const radar_row_choice *c = &w->row[row];
    int32_t begin, end;
    radar_work_units(s, w, row, i, &begin, &end);
    return (units_left){w->list[stage % 2] + at * listed + (size_t)w->listed[i],
                        w->n_list[stage % 2] + at * (size_t)s->kv->n_shards + (size_t)i,
                        (int)radar_min64(end - begin, share_of(s->kv, c->keep, c->unit, times))};
}

/* How often `keep` units a stage leaves. */
static int times_of(int stage) { return stage == 1 ? FIRST_TIMES : SECOND_TIMES; }

float *radar_work_scores(const radar_select *s, const radar_work *w, int row, int head, int i) {
    return w->score + ((size_t)row * (size_t)s->n_heads + (size_t)head) * (size_t)w->scores +
           w->first[i];
}

void radar_work_units(const radar_select *s, const radar_work *w, int row, int i, int32_t *begin,
                      int32_t *end) {
    const radar_choose_part *part = radar_work_part(s, w, row, i);
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
    w->stage = 0;
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
        if (w->stage == 0) continue;
        const units_left left = left_of(s, w, row, head, i, w->stage, times_of(w->stage));
        range[i].list = left.list;
        range[i].n_listed = left.n;
        range[i].n = left.most;
    }
}

int radar_work_keep(const radar_select *s, int keep) {
    if (!s->attention->select_local) return keep;
    return radar_attention_keep_local(keep, s->kv->layout.shards);
}

/* ---- progressive ---- */

/* The next stage: each shard keeps its best, so that it need not know of others. */
static void narrow(radar_select *s, radar_work *w) {
    const radar_kvcache *kv = s->kv;
    const int stage = w->stage + 1;
    int n = 0;
    for (int row = 0; row < s->n_rows; row++) {
        for (int head = 0; head < s->n_heads && w->row[row].keep; head++) {
            radar_topk_range *range = w->range + n;
            radar_work_ranges(s, w, row, head, range);
            for (int i = 0; i < kv->n_shards; i++) {
                const units_left left = left_of(s, w, row, head, i, stage, times_of(stage));
                range[i].phase = 0;
                w->topk[n++] = (radar_topk_task){
                    .range = range + i,
                    .n_ranges = 1,
                    .stripe_segments = 1, /* numbers are those of the storage: */
                    .shards = 1,          /* within a shard their order is that of positions */
                    .keep = left.most,
                    .scratch = w->key + (range[i].score - w->score),
                    .segment = left.list,
                    .n_kept = left.n,
                };
            }
        }
    }
    kv->be->ops->topk(kv->be, w->topk, n);
    w->stage = stage;
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
                const units_left left = left_of(s, w, row, head, i, w->stage, times_of(w->stage));
                radar_score_task *task = &w->score_task[n++];
                *task = (radar_score_task){
                    .kv = radar_kvcache_view(kv, s->layer, head / w->group, i),
                    .n_query = 1,
                    .query = query + j * scorer->query_bytes,
                    .unit = w->row[row].unit,
                    .score = radar_work_scores(s, w, row, head, i),
                    .list = left.list,
                    .n_listed = left.n,
                };
                radar_work_units(s, w, row, i, &task->segment_begin, &task->segment_end);
                s->counts->scored_bytes += left.most * bytes;
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
    narrow(s, w);
    score_left(s, w, a->scorer, w->query, (int64_t)kv->block_bytes / RADAR_BLOCK_SEGMENTS);
    narrow(s, w);
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
        const units_left last = left_of(s, w, 0, head, i, w->stage, times_of(w->stage));
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
    const radar_work_shape shape = {
        .n_heads = s->n_heads, .n_rows = 1, .n_groups = 1, .keep = c->keep};
    radar_work_lay_out(&w, s->plan, NULL, s->kv, s->attention, &shape);
    w.row[0] = *c;
    radar_work_locate(&again, &w, 0, s->position[0]);
    radar_score_candidates(&again, &w);
    radar_score_progressive(&again, &w);
    for (int i = 0; i < s->kv->n_shards; i++) copy_stages(&again, &w, i, score[i], left[i]);
}
