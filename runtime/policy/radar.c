/* Radar: score sealed segments by their summaries, take the best of the whole context per query head, attend exactly.
 *
 *   own scores -> best of the rank --X2--> best of all -> union of the group's lists -> own items
 *
 * Sinks (whole segments) and everything not sealed yet are always attended.  Where longer segments are scored (--segment), `unit`
 * segments of 16 tokens are ranked as one, by their number position / (16 unit), and attended together; sealed ones in no whole
 * unit are always attended.  Source: Hao et al., ICLR 2025, arXiv 2503.10571. */
#include <string.h>

#include "kernels/merge.h"
#include "runtime/policy/radar_work.h"

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
    TAKE(row, rows);
    TAKE(query, heads * a->scorer->query_bytes);
    TAKE(score, heads * scores);
    TAKE(key, heads * scores);
    TAKE(score_task, rows * (size_t)kv->kv_heads * shards);
    TAKE(range, heads * shards);
    TAKE(topk, heads * shards);
    TAKE(packet, ranks * heads * (size_t)keep);
    TAKE(merged, ranks * (size_t)keep);
#undef TAKE
    return used;
}

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

/* ---- scores ---- */

static float *scores_of(const radar_select *s, const radar_work *w, int row, int head, int i) {
    return w->score + ((size_t)row * (size_t)s->n_heads + (size_t)head) * (size_t)w->scores +
           w->first[i];
}

/* Candidates of a row in own shard i: storage indices [begin, end) in units. */
static void units_of(const radar_select *s, const radar_work *w, int row, int i, int32_t *begin,
                     int32_t *end) {
    const radar_row_choice *c = &w->row[row];
    *begin = radar_storage_segment(s->kv, i, c->begin) / c->unit;
    *end = radar_storage_segment(s->kv, i, c->end) / c->unit;
}

/* What is read to score one unit: its summary, or its keys. */
static int64_t unit_bytes(const radar_kvcache *kv, int32_t unit) {
    if (kv->block_bytes) return (int64_t)kv->block_bytes / RADAR_BLOCK_SEGMENTS;
    return (int64_t)unit * RADAR_SEGMENT * kv->D * (int64_t)radar_dtype_block_bytes(kv->type);
}

static void score_candidates(radar_select *s, radar_work *w) {
    const radar_kvcache *kv = s->kv;
    const radar_scorer *scorer = s->attention->scorer;
    int n = 0, queries = s->n_rows * w->group;
    kv->be->ops->query(kv->be, scorer, w->query, s->q, (size_t)kv->D, kv->kv_heads * queries);
    for (int row = 0; row < s->n_rows; row++) {
        if (w->row[row].keep == 0) continue;
        for (int i = 0; i < kv->n_shards; i++) {
            int32_t begin, end;
            units_of(s, w, row, i, &begin, &end);
            if (begin == end) continue;
            int64_t units = (int64_t)kv->kv_heads * (end - begin);
            s->counts->segments_scored += units;
            s->counts->scored_bytes += units * unit_bytes(kv, w->row[row].unit);
            for (int g = 0; g < kv->kv_heads; g++) {
                size_t query = (size_t)g * (size_t)queries + (size_t)row * (size_t)w->group;
                w->score_task[n++] = (radar_score_task){
                    .kv = radar_kvcache_view(kv, s->layer, g, i),
                    .n_query = w->group,
                    .query = w->query + query * scorer->query_bytes,
                    .unit = w->row[row].unit,
                    .segment_begin = begin,
                    .segment_end = end,
                    .score = scores_of(s, w, row, g * w->group, i),
                    .score_stride = (size_t)w->scores,
                };
            }
        }
    }
    kv->be->ops->score(kv->be, scorer, w->score_task, n);
}

/* ---- best of the rank, of all ---- */

/* One task per query head over all own shards; with --select local one per shard. */
static int tasks_per_head(const radar_select *s) {
    return s->attention->select_local ? s->kv->n_shards : 1;
}

static int keep_of_task(const radar_select *s, int keep) {
    if (!s->attention->select_local) return keep;
    return radar_attention_keep_local(keep, s->kv->layout.shards);
}

/* The candidates of one query head, shard by shard. */
static void list_ranges(const radar_select *s, const radar_work *w, int row, int head,
                        radar_topk_range *range) {
    for (int i = 0; i < s->kv->n_shards; i++) {
        int32_t begin, end;
        units_of(s, w, row, i, &begin, &end);
        range[i] = (radar_topk_range){.score = scores_of(s, w, row, head, i),
                                      .n = end - begin,
                                      .segment_begin = begin,
                                      .phase = radar_kvcache_view(s->kv, s->layer, 0, i).phase};
    }
}

static void best_of_rank(radar_select *s, radar_work *w) {
    const radar_kvcache *kv = s->kv;
    int n = 0, tasks = tasks_per_head(s), ranges = kv->n_shards / tasks;
    for (int row = 0; row < s->n_rows; row++) {
        for (int head = 0; head < s->n_heads; head++) {
            radar_topk_range *range =
                w->range + ((size_t)row * (size_t)s->n_heads + (size_t)head) * (size_t)kv->n_shards;
            list_ranges(s, w, row, head, range);
            for (int task = 0; task < tasks; task++) {
                w->topk[n++] = (radar_topk_task){
                    .range = range + task * ranges,
                    .n_ranges = ranges,
                    .stripe_segments = kv->layout.stripe / RADAR_SEGMENT / w->row[row].unit,
                    .shards = kv->layout.shards,
                    .pick = s->attention->pick,
                    .seed = radar_attention_draw(s->attention, s->position[row], s->layer,
                                                 kv->layers, head, s->n_heads),
                    .keep = keep_of_task(s, w->row[row].keep),
                    .key = w->key + (range[task * ranges].score - w->score),
                };
            }
        }
    }
    kv->be->ops->topk(kv->be, w->topk, n);
}

static uint64_t *packet_list(const radar_select *s, const radar_work *w, int rank, int row,
                             int head) {
    size_t list =
        ((size_t)rank * (size_t)s->n_rows + (size_t)row) * (size_t)s->n_heads + (size_t)head;
    return w->packet + list * (size_t)w->keep;
}

static void fill_packet(radar_select *s, radar_work *w) {
    const radar_topk_task *task = w->topk;
    for (int row = 0; row < s->n_rows; row++) {
        for (int head = 0; head < s->n_heads; head++, task++) {
            uint64_t *out = packet_list(s, w, s->comm->rank, row, head);
            memcpy(out, task->key, (size_t)task->n_kept * sizeof *out);
            memset(out + task->n_kept, 0, (size_t)(w->keep - task->n_kept) * sizeof *out);
        }
    }
}

static radar_status exchange_best(radar_select *s, radar_work *w) {
    size_t bytes[RADAR_MAX_SHARDS], offset[RADAR_MAX_SHARDS];
    size_t each = (size_t)s->n_rows * (size_t)s->n_heads * (size_t)w->keep * sizeof *w->packet;
    for (int r = 0; r < s->comm->size; r++) {
        bytes[r] = each;
        offset[r] = (size_t)r * each;
    }
    return radar_gather(s->comm, RADAR_X2_TOPK, w->packet, bytes, offset, s->err);
}

radar_status radar_work_choose(radar_select *s, radar_work *w) {
    score_candidates(s, w);
    best_of_rank(s, w);
    if (s->attention->select_local) return RADAR_OK;
    fill_packet(s, w);
    return exchange_best(s, w);
}

/* ---- lists ---- */

static void mark(radar_work *w, const uint64_t *key, int n) {
    for (int i = 0; i < n; i++) {
        uint32_t segment = radar_topk_segment(key[i]);
        if (key[i]) w->bits[segment / 64] |= (uint64_t)1 << segment % 64;
    }
}

void radar_work_mark(const radar_select *s, radar_work *w, int row, int head) {
    if (s->attention->select_local) {
        const radar_topk_task *task =
            w->topk + ((size_t)row * (size_t)s->n_heads + (size_t)head) * (size_t)s->kv->n_shards;
        for (int i = 0; i < s->kv->n_shards; i++) mark(w, task[i].key, task[i].n_kept);
        return;
    }
    int n = 0;
    for (int r = 0; r < s->comm->size; r++, n += w->keep)
        memcpy(w->merged + n, packet_list(s, w, r, row, head), (size_t)w->keep * sizeof *w->merged);
    mark(w, w->merged, radar_topk_select(w->merged, n, w->row[row].keep));
}

int radar_work_collect(radar_work *w, int64_t begin, int64_t end) {
    int n = 0;
    for (int64_t word = begin / 64; word <= (end - 1) / 64; word++) {
        for (uint64_t rest = w->bits[word]; rest; rest &= rest - 1)
            w->chosen[n++] = (int32_t)(word * 64 + __builtin_ctzll(rest));
        w->bits[word] = 0;
    }
    return n;
}

void radar_work_list(radar_select *s, const radar_work *w, int row, int i, int n_chosen,
                     int64_t last) {
    const radar_kvcache *kv = s->kv;
    int shard = kv->first_shard + i;
    int32_t unit = w->row[row].unit;
    radar_plan_range(s->plan, kv, i, 0, w->row[row].begin);
    for (int j = 0; j < n_chosen; j++) {
        int64_t position = (int64_t)w->chosen[j] * unit * RADAR_SEGMENT;
        if (radar_shard_of(&kv->layout, position) != shard) continue;
        int32_t at = (int32_t)(radar_slot_of(&kv->layout, position) / RADAR_SEGMENT);
        for (int32_t k = 0; k < unit; k++)
            s->plan->item[s->plan->n_items++] = (radar_item){at + k, 0xffff};
    }
    radar_plan_range(s->plan, kv, i, w->row[row].end, radar_segment_number(last) + 1);
}

static void note_missed(radar_select *s, const radar_work *w, int row, int head, int i,
                        size_t first_item) {
    int32_t begin, end;
    units_of(s, w, row, i, &begin, &end);
    float *partial = radar_select_partial(s, i, head / w->group, row * w->group + head % w->group);
    s->plan->missed[s->plan->n_missed++] = (radar_missed_task){
        .score = scores_of(s, w, row, head, i),
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
    const radar_row_choice *c = &w->row[row];
    int n_chosen = radar_work_collect(w, c->begin / c->unit, c->end / c->unit);
    for (int i = 0; i < s->kv->n_shards; i++) {
        size_t first_item = s->plan->n_items;
        radar_work_list(s, w, row, i, n_chosen, s->position[row]);
        radar_plan_task(s, head / w->group, i, row * w->group + head % w->group, n, first_item);
        s->counts->attended_tokens += radar_plan_tokens(s, i, first_item, s->position[row]);
        for (int h = head; h < head + n; h++) note_missed(s, w, row, h, i, first_item);
    }
}

static void list_dense(radar_select *s, const radar_work *w, int row) {
    for (int i = 0; i < s->kv->n_shards; i++) {
        size_t first_item = s->plan->n_items;
        radar_plan_range(s->plan, s->kv, i, 0, radar_segment_number(s->position[row]) + 1);
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
