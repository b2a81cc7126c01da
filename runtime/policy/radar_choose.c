/* What rows choose: the best of the rank, of all, and from them the lists of what is attended. */
#include "runtime/policy/radar_work.h"

/* Query head `head` of a row: its keys on rank `rank`. */
static uint64_t *packet_list(const radar_select *s, const radar_work *w, int rank, int row,
                             int head) {
    size_t list =
        ((size_t)rank * (size_t)s->n_rows + (size_t)row) * (size_t)s->n_heads + (size_t)head;
    return w->packet + list * (size_t)w->room;
}

/* This rank's lists; with --select local there are no others. */
static int own_rank(const radar_select *s) {
    return s->attention->select_local ? 0 : s->comm->rank;
}

/* One task per query head over all own shards; with --select local one per shard. */
static int tasks_per_head(const radar_select *s) {
    return s->attention->select_local ? s->kv->n_shards : 1;
}

/* Lists that are not filled to the end end with zeros. */
static void clear_lists(radar_select *s, radar_work *w) {
    bool filled = true;
    for (int row = 0; row < s->n_rows; row++) filled = filled && w->row[row].keep == w->keep;
    if (filled) return;
    s->kv->be->ops->clear(s->kv->be, packet_list(s, w, own_rank(s), 0, 0),
                          (size_t)s->n_rows * (size_t)s->n_heads * (size_t)w->room *
                              sizeof *w->packet);
}

static void best_of_rank(radar_select *s, radar_work *w) {
    const radar_kvcache *kv = s->kv;
    int n = 0, tasks = tasks_per_head(s), ranges = kv->n_shards / tasks, room = w->room / tasks;
    clear_lists(s, w);
    for (int row = 0; row < s->n_rows; row++) {
        for (int head = 0; head < s->n_heads && w->row[row].keep; head++) {
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
                    .scratch = w->key + (range[task * ranges].score - w->score),
                    .key = packet_list(s, w, own_rank(s), row, head) + task * room,
                };
            }
        }
    }
    kv->be->ops->topk(kv->be, w->topk, n);
}

static radar_status exchange_best(radar_select *s, radar_work *w) {
    size_t bytes[RADAR_MAX_SHARDS], offset[RADAR_MAX_SHARDS];
    size_t each = (size_t)s->n_rows * (size_t)s->n_heads * (size_t)w->room * sizeof *w->packet;
    for (int r = 0; r < s->comm->size; r++) {
        bytes[r] = each;
        offset[r] = (size_t)r * each;
    }
    return radar_gather(s->comm, RADAR_X2_TOPK, w->packet, bytes, offset, s->err);
}

/* ---- lists ---- */

/* Every key of a list of shards that chose by themselves is chosen. */
static void fill_rows(const radar_select *s, radar_work *w) {
    const size_t shards = (size_t)s->kv->n_shards;
    for (int row = 0; row < s->n_rows; row++) {
        const radar_row_choice *c = &w->row[row];
        radar_choose_row *to = &w->choose[row];
        to->keep = s->attention->select_local && c->keep ? w->room : c->keep;
        to->unit = c->unit;
        if (row > 0 && to->group == to[-1].group) continue;
        for (int i = 0; i < s->kv->n_shards; i++)
            w->group_part[(size_t)to->group * shards + (size_t)i] = *radar_work_part(s, w, row, i);
    }
}

static void list_chosen(radar_select *s, radar_work *w) {
    const radar_kvcache *kv = s->kv;
    fill_rows(s, w);
    const radar_choose_job job = {
        .packet = w->packet,
        .row = w->choose,
        .part = w->group_part,
        .ranks = s->attention->select_local ? 1 : s->comm->size,
        .rows = s->n_rows,
        .groups = w->n_groups,
        .heads = s->n_heads,
        .heads_per_list = w->group / w->n_lists,
        .room = w->room,
        .words = w->words,
        .bits = w->bits,
        .merged = w->merged,
        .item = w->item,
        .begin = w->begin,
        .count = w->count,
        .listed = s->counts->listed,
        .shards = {kv->layout.stripe / RADAR_SEGMENT, kv->layout.shards, kv->first_shard,
                   kv->n_shards},
    };
    kv->be->ops->choose(kv->be, &job);
}

radar_status radar_work_choose(radar_select *s, radar_work *w) {
    radar_status st = RADAR_OK;
    radar_score_candidates(s, w);
    if (s->attention->progressive) radar_score_progressive(s, w);
    best_of_rank(s, w);
    if (!s->attention->select_local) st = exchange_best(s, w);
    if (st == RADAR_OK) list_chosen(s, w);
    return st;
}

radar_items radar_work_items(const radar_select *s, const radar_work *w, int group, int list,
                             int i) {
    const size_t lists = (size_t)(s->kv->kv_heads * w->n_lists),
                 task =
                     ((size_t)group * lists + (size_t)list) * (size_t)s->kv->n_shards + (size_t)i;
    return (radar_items){
        .item = w->item,
        .n = w->group_part[(size_t)group * (size_t)s->kv->n_shards + (size_t)i].stop,
        .on_device = true,
        .begin = &w->begin[task],
        .count = &w->count[task],
    };
}
