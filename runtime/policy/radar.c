/* Radar: score sealed segments by their summaries, take the best of the whole context per query head, attend exactly.
 *
 *   own scores -> best of the rank --X2--> best of all -> union of the group's lists -> own items
 *
 * Sinks (whole segments) and everything not sealed yet are always attended.  Where longer segments are scored (--segment), `unit`
 * segments of 16 tokens are ranked as one, by their number position / (16 unit), and attended together; sealed ones in no whole
 * unit are always attended.  Source: Hao et al., ICLR 2025, arXiv 2503.10571. */
#include "kernels/merge.h"
#include "runtime/policy/radar_work.h"

static void radar_room(const radar_kvcache *kv, const radar_attention *a, int n_heads, int n_rows,
                       radar_plan *need) {
    radar_work w;
    int group = n_heads / kv->kv_heads;
    size_t lists = (size_t)n_rows * (size_t)(a->share_head ? n_heads : kv->kv_heads);
    int64_t rank_segments = kv->rank_tokens / RADAR_SEGMENT;
    const radar_work_shape shape = {
        .n_heads = n_heads,
        .n_rows = n_rows,
        .n_groups = n_rows,
        .keep = (int)a->max_keep,
        .items = lists *
                 (size_t)radar_min64(radar_attention_longest_list(a, kv, a->share_head ? 1 : group),
                                     rank_segments),
    };
    need->max_tasks = n_rows * n_heads * kv->n_shards;
    need->max_missed = n_rows * n_heads * kv->n_shards;
    radar_work_lay_out(&w, NULL, need, kv, a, &shape);
}

/* ---- lists ---- */

/* Query heads [head, head + n) of one KV head, whose list is number `list` of their row's, in own shard i. */
static void plan_heads(radar_select *s, const radar_work *w, int row, int list, int head, int n,
                       int i) {
    const radar_items items = radar_work_items(s, w, row, list, i);
    const int query = row * w->group + head % w->group;
    int32_t begin, end;
    radar_plan_attend(s, head / w->group, i, query, n, items);
    radar_work_units(s, w, row, i, &begin, &end);
    s->plan->missed[s->plan->n_missed++] = (radar_missed_task){
        .n_query = n,
        .score = radar_work_scores(s, w, row, head, i),
        .score_stride = (size_t)w->scores,
        .n = end - begin,
        .unit = w->row[row].unit,
        .segment_begin = begin,
        .items = items,
        .missed =
            radar_select_partial(s, i, head / w->group, query) + RADAR_PARTIAL_MISSED_M(s->kv->D),
        .missed_stride = (size_t)RADAR_PARTIAL(s->kv->D),
    };
}

/* Of listed segments the last is the row's own, and ends behind it. */
static int64_t behind_row(const radar_select *s, int64_t position) {
    const int i = radar_shard_of(&s->kv->layout, position) - s->kv->first_shard;
    return i < 0 || i >= s->kv->n_shards ? 0 : RADAR_SEGMENT - 1 - position % RADAR_SEGMENT;
}

static void list_chosen(radar_select *s, const radar_work *w, int row) {
    const int heads = w->group / w->n_lists;
    for (int head = 0; head < s->n_heads; head += heads)
        for (int i = 0; i < s->kv->n_shards; i++)
            plan_heads(s, w, row, head / heads, head, heads, i);
    s->counts->attended_tokens -= s->n_heads / heads * behind_row(s, s->position[row]);
}

static void list_dense(radar_select *s, const radar_work *w, int row) {
    for (int i = 0; i < s->kv->n_shards; i++) {
        const radar_items items = radar_plan_every(s->plan, radar_work_part(s, w, row, i)->stop);
        for (int g = 0; g < s->kv->kv_heads; g++)
            radar_plan_attend(s, g, i, row * w->group, w->group, items);
        s->counts->attended_tokens +=
            s->kv->kv_heads *
            radar_shard_tokens(&s->kv->layout, s->kv->first_shard + i, s->position[row] + 1);
    }
}

static void count_candidate_shards(radar_select *s, const radar_row_choice *c) {
    const radar_layout *l = &s->kv->layout;
    int n = 0;
    for (int shard = 0; shard < l->shards; shard++)
        n += radar_shard_tokens(l, shard, c->end * RADAR_SEGMENT) >
             radar_shard_tokens(l, shard, c->begin * RADAR_SEGMENT);
    if (n > s->counts->candidate_shards) s->counts->candidate_shards = n;
}

static radar_status radar_select_rows(radar_select *s) {
    radar_work w;
    int keep = 0;
    for (int row = 0; row < s->n_rows; row++)
        keep = (int)radar_max64(keep, radar_attention_keep(s->attention, s->position[row]));
    const radar_work_shape shape = {
        .n_heads = s->n_heads, .n_rows = s->n_rows, .n_groups = s->n_rows, .keep = keep};
    radar_work_lay_out(&w, s->plan, NULL, s->kv, s->attention, &shape);
    keep = 0;
    for (int row = 0; row < s->n_rows; row++) {
        radar_row_choice *c = &w.row[row];
        radar_attention_candidates(s->attention, s->position[row], &c->begin, &c->end);
        c->unit = radar_attention_unit(s->attention, s->position[row]);
        bool dense = radar_attention_dense(s->attention, s->kv, s->position[row]);
        c->keep = dense ? 0 : (int)radar_attention_keep(s->attention, s->position[row]);
        if (c->keep) count_candidate_shards(s, c);
        w.choose[row] = (radar_choose_row){.group = row, .weight = 1};
        radar_work_locate(s, &w, row, s->position[row]);
        keep = keep > c->keep ? keep : c->keep;
    }
    radar_status st = keep ? radar_work_choose(s, &w) : RADAR_OK;
    if (st != RADAR_OK) return st;
    for (int row = 0; row < s->n_rows; row++)
        (w.row[row].keep ? list_chosen : list_dense)(s, &w, row);
    return RADAR_OK;
}

const radar_policy radar_policy_radar = {
    .name = "radar",
    .needs_summaries = true,
    .room = radar_room,
    .select = radar_select_rows,
};
