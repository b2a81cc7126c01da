/* What rows choose: the best of the rank, of all, and from them the lists of what is attended. */
#include <string.h>

#include "runtime/policy/radar_work.h"

/* One task per query head over all own shards; with --select local one per shard. */
static int tasks_per_head(const radar_select *s) {
    return s->attention->select_local ? s->kv->n_shards : 1;
}

static void best_of_rank(radar_select *s, radar_work *w) {
    const radar_kvcache *kv = s->kv;
    int n = 0, tasks = tasks_per_head(s), ranges = kv->n_shards / tasks;
    for (int row = 0; row < s->n_rows; row++) {
        for (int head = 0; head < s->n_heads; head++) {
            radar_topk_range *range =
                w->range + ((size_t)row * (size_t)s->n_heads + (size_t)head) * (size_t)kv->n_shards;
            radar_work_ranges(s, w, row, head, range);
            for (int task = 0; task < tasks; task++) {
                w->topk[n++] = (radar_topk_task){
                    .range = range + task * ranges,
                    .n_ranges = ranges,
                    .stripe_segments = kv->layout.stripe / RADAR_SEGMENT / w->row[row].unit,
                    .shards = kv->layout.shards,
                    .pick = s->attention->pick,
                    .seed = radar_attention_draw(s->attention, s->position[row], s->layer,
                                                 kv->layers, head, s->n_heads),
                    .keep = radar_work_keep(s, w->row[row].keep),
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
    radar_score_candidates(s, w);
    if (s->attention->progressive) radar_score_progressive(s, w);
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

/* Empties the bits of a row's candidates into w->chosen, ascending; units of other ranks are left out. */
static int collect(const radar_select *s, radar_work *w, const radar_row_choice *c) {
    const radar_layout *l = &s->kv->layout;
    int64_t begin = c->begin / c->unit, end = c->end / c->unit;
    int n = 0;
    memset(w->n_chosen, 0, sizeof w->n_chosen);
    for (int64_t word = begin / 64; word <= (end - 1) / 64; word++) {
        for (uint64_t rest = w->bits[word]; rest; rest &= rest - 1) {
            int64_t position = (word * 64 + __builtin_ctzll(rest)) * c->unit * RADAR_SEGMENT;
            int i = radar_shard_of(l, position) - s->kv->first_shard;
            if (i < 0 || i >= s->kv->n_shards) continue;
            w->chosen[n++] =
                (radar_chosen_unit){i, (int32_t)(radar_slot_of(l, position) / RADAR_SEGMENT)};
            w->n_chosen[i]++;
        }
        w->bits[word] = 0;
    }
    return n;
}

void radar_work_sort(const radar_select *s, radar_work *w, int row) {
    int32_t *next[RADAR_MAX_SHARDS], *at = w->sorted;
    int n = collect(s, w, &w->row[row]);
    for (int i = 0; i < s->kv->n_shards; at += w->n_chosen[i++]) next[i] = at;
    for (int j = 0; j < n; j++) *next[w->chosen[j].shard]++ = w->chosen[j].segment;
}

void radar_work_list_range(radar_plan *plan, int32_t begin, int32_t end) {
    for (int32_t at = begin; at < end; at++) plan->item[plan->n_items++] = (radar_item){at, 0xffff};
}

void radar_work_list(radar_select *s, const radar_work *w, int row, int i, const int32_t *chosen) {
    const radar_row_part *part = radar_work_part(s, w, row, i);
    int32_t unit = w->row[row].unit;
    radar_work_list_range(s->plan, 0, part->begin);
    for (int j = 0; j < w->n_chosen[i]; j++)
        radar_work_list_range(s->plan, chosen[j], chosen[j] + unit);
    radar_work_list_range(s->plan, part->end, part->stop);
}
