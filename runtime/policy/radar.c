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
    int64_t rank_segments = kv->rank_tokens / RADAR_SEGMENT, listed, dense;
    radar_attention_longest_lists(a, kv, a->share_head ? 1 : group, &listed, &dense);
    need->max_tasks = n_rows * n_heads * kv->n_shards;
    need->max_items = lists * (size_t)radar_min64(listed, rank_segments) +
                      (size_t)n_rows * (size_t)radar_min64(dense, rank_segments);
    need->max_missed = n_rows * n_heads * kv->n_shards;
    need->scratch_bytes = radar_work_lay_out(&w, NULL, kv, a, n_heads, n_rows, (int)a->max_keep);
}

static void note_missed(radar_select *s, const radar_work *w, int row, int head, int i,
                        size_t first_item) {
    int32_t begin, end;
    radar_work_units(s, w, row, i, &begin, &end);
    float *partial = radar_select_partial(s, i, head / w->group, row * w->group + head % w->group);
    s->plan->missed[s->plan->n_missed++] = (radar_missed_task){
        .score = radar_work_scores(s, w, row, head, i),
        .n = end - begin,
        .unit = w->row[row].unit,
        .segment_begin = begin,
        .item = s->plan->item + first_item,
        .n_items = (int)(s->plan->n_items - first_item),
        .missed = partial + RADAR_PARTIAL_MISSED_M(s->kv->D),
    };
}

/* Query heads [head, head + n) of one KV head attend to what has been marked for them. */
static void list_heads(radar_select *s, radar_work *w, int row, int head, int n) {
    const int32_t *chosen = w->sorted;
    radar_work_sort(s, w, row);
    for (int i = 0; i < s->kv->n_shards; i++) {
        size_t first_item = s->plan->n_items;
        radar_work_list(s, w, row, i, chosen);
        chosen += w->n_chosen[i];
        radar_plan_task(s, head / w->group, i, row * w->group + head % w->group, n, first_item);
        s->counts->attended_tokens += radar_plan_tokens(s, i, first_item, s->position[row]);
        for (int h = head; h < head + n; h++) note_missed(s, w, row, h, i, first_item);
    }
}

static void list_dense(radar_select *s, const radar_work *w, int row) {
    for (int i = 0; i < s->kv->n_shards; i++) {
        size_t first_item = s->plan->n_items;
        radar_work_list_range(s->plan, 0, radar_work_part(s, w, row, i)->stop);
        for (int g = 0; g < s->kv->kv_heads; g++)
            radar_plan_task(s, g, i, row * w->group, w->group, first_item);
        s->counts->attended_tokens +=
            s->kv->kv_heads * radar_plan_tokens(s, i, first_item, s->position[row]);
    }
}

static void list_row(radar_select *s, radar_work *w, int row) {
    if (w->row[row].keep == 0) {
        list_dense(s, w, row);
        return;
    }
    int heads = w->group / w->n_lists;
    for (int head = 0; head < s->n_heads; head += heads) {
        for (int h = head; h < head + heads; h++) radar_work_mark(s, w, row, h);
        list_heads(s, w, row, head, heads);
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
    radar_work_lay_out(&w, s->plan->scratch, s->kv, s->attention, s->n_heads, s->n_rows, keep);
    keep = 0;
    for (int row = 0; row < s->n_rows; row++) {
        radar_row_choice *c = &w.row[row];
        radar_attention_candidates(s->attention, s->position[row], &c->begin, &c->end);
        c->unit = radar_attention_unit(s->attention, s->position[row]);
        bool dense = radar_attention_dense(s->attention, s->kv, s->position[row]);
        c->keep = dense ? 0 : (int)radar_attention_keep(s->attention, s->position[row]);
        if (c->keep) count_candidate_shards(s, c);
        radar_work_locate(s, &w, row, s->position[row]);
        keep = keep > c->keep ? keep : c->keep;
    }
    radar_status st = keep ? radar_work_choose(s, &w) : RADAR_OK;
    if (st != RADAR_OK) return st;
    for (int row = 0; row < s->n_rows; row++) list_row(s, &w, row);
    return RADAR_OK;
}

const radar_policy radar_policy_radar = {
    .name = "radar",
    .needs_summaries = true,
    .room = radar_room,
    .select = radar_select_rows,
};
