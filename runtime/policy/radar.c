/* Radar: score sealed segments by their summaries, take the best of the whole context per query head, attend exactly.
 *
 *   own scores -> best of the rank --X2--> best of all -> union of the group's lists -> own items
 *
 * Sinks (whole segments) and everything not sealed yet are always attended.  Where longer segments are scored (--segment), `unit`
 * segments of 16 tokens are ranked as one, by their number position / (16 unit), and attended together; sealed ones in no whole
 * unit are always attended.  Source: Hao et al., ICLR 2025, arXiv 2503.10571. */
#include <string.h>

#include "kernels/merge.h"
#include "runtime/attention.h"

/* What one row may choose from. */
typedef struct row_choice {
    int64_t begin, end; /* candidate segments of the context, whole units */
    int32_t unit;
    int keep; /* units of them, per query head; 0 = attend everything */
} row_choice;

/* Where a row's candidates, and what follows them, lie in own shard i: storage segments [begin, end), [end, stop). */
typedef struct row_part {
    int32_t begin, end, stop;
} row_part;

/* Where a chosen unit lies. */
typedef struct chosen_unit {
    int32_t shard, segment; /* own shard; the first of its storage segments */
} chosen_unit;

/* The scratch of one call, cut from the plan's memory by lay_out(). */
typedef struct work {
    int group, n_lists; /* query heads per KV head; lists per KV head: 1, or one per query head */
    int64_t first[RADAR_MAX_SHARDS]; /* of own shard i in a row of scores */
    int64_t scores;                  /* that a row has room for: of all own shards */
    int keep;                        /* the largest of the rows */
    uint64_t *bits;                  /* [context / 16] chosen units of one list */
    chosen_unit *chosen;             /* the same, own ones, ascending */
    int32_t *sorted;                 /* their segments, shard by shard */
    int n_chosen[RADAR_MAX_SHARDS];  /* how many of own shard i */
    row_choice *row;                 /* [rows] */
    row_part *part;                  /* [rows, shards] */
    char *query;                     /* [rows, H, query_bytes] prepared */
    float *score;                    /* [rows, H, scores] */
    uint64_t *key;                   /* [rows, H, scores] */
    radar_score_task *score_task;    /* [rows, G, shards] */
    radar_topk_range *range;         /* [rows, H, shards] */
    radar_topk_task *topk;           /* [rows, H], or [rows, H, shards] with --select local */
    uint64_t *packet;                /* [P, rows, H, keep] the ranks' best */
    uint64_t *merged;                /* [P, keep] room to merge the lists of one query head */
} work;

static size_t take(size_t *used, size_t bytes) {
    size_t at = *used;
    *used += (bytes + 63) / 64 * 64;
    return at;
}

static int64_t context_segments(const radar_kvcache *kv) {
    return radar_ceil_div(kv->context, RADAR_SEGMENT);
}

/* Cuts base into the arrays of w; returns the bytes used.  base NULL: only counts. */
static size_t lay_out(work *w, char *base, const radar_kvcache *kv, const radar_attention *a,
                      int n_heads, int n_rows, int keep) {
    size_t used = 0, rows = (size_t)n_rows, heads = rows * (size_t)n_heads;
    size_t all = (size_t)context_segments(kv), scores;
    size_t shards = (size_t)kv->n_shards, ranks = (size_t)kv->layout.ranks;
    *w = (work){.group = n_heads / kv->kv_heads, .keep = keep};
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
    work w;
    int group = n_heads / kv->kv_heads;
    size_t lists = (size_t)n_rows * (size_t)(a->share_head ? n_heads : kv->kv_heads);
    int64_t rank_segments = kv->rank_tokens / RADAR_SEGMENT, listed, dense;
    radar_attention_longest_lists(a, kv, a->share_head ? 1 : group, &listed, &dense);
    need->max_tasks = n_rows * n_heads * kv->n_shards;
    need->max_items = lists * (size_t)radar_min64(listed, rank_segments) +
                      (size_t)n_rows * (size_t)radar_min64(dense, rank_segments);
    need->max_missed = n_rows * n_heads * kv->n_shards;
    need->scratch_bytes = lay_out(&w, NULL, kv, a, n_heads, n_rows, (int)a->max_keep);
}

/* ---- scores ---- */

static float *scores_of(const radar_select *s, const work *w, int row, int head, int i) {
    return w->score + ((size_t)row * (size_t)s->n_heads + (size_t)head) * (size_t)w->scores +
           w->first[i];
}

static const row_part *part_of(const radar_select *s, const work *w, int row, int i) {
    return &w->part[(size_t)row * (size_t)s->kv->n_shards + (size_t)i];
}

/* Candidates of a row in own shard i: storage indices [begin, end) in units. */
static void units_of(const radar_select *s, const work *w, int row, int i, int32_t *begin,
                     int32_t *end) {
    const row_part *part = part_of(s, w, row, i);
    *begin = part->begin / w->row[row].unit;
    *end = part->end / w->row[row].unit;
}

/* What is read to score one unit: its summary, or its keys. */
static int64_t unit_bytes(const radar_kvcache *kv, int32_t unit) {
    if (kv->block_bytes) return (int64_t)kv->block_bytes / RADAR_BLOCK_SEGMENTS;
    return radar_kvcache_key_bytes(kv, (int64_t)unit * RADAR_SEGMENT);
}

static void score_candidates(radar_select *s, work *w) {
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
static void list_ranges(const radar_select *s, const work *w, int row, int head,
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

static void best_of_rank(radar_select *s, work *w) {
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

static uint64_t *packet_list(const radar_select *s, const work *w, int rank, int row, int head) {
    size_t list =
        ((size_t)rank * (size_t)s->n_rows + (size_t)row) * (size_t)s->n_heads + (size_t)head;
    return w->packet + list * (size_t)w->keep;
}

static void fill_packet(radar_select *s, work *w) {
    const radar_topk_task *task = w->topk;
    for (int row = 0; row < s->n_rows; row++) {
        for (int head = 0; head < s->n_heads; head++, task++) {
            uint64_t *out = packet_list(s, w, s->comm->rank, row, head);
            memcpy(out, task->key, (size_t)task->n_kept * sizeof *out);
            memset(out + task->n_kept, 0, (size_t)(w->keep - task->n_kept) * sizeof *out);
        }
    }
}

static radar_status exchange_best(radar_select *s, work *w) {
    size_t bytes[RADAR_MAX_SHARDS], offset[RADAR_MAX_SHARDS];
    size_t each = (size_t)s->n_rows * (size_t)s->n_heads * (size_t)w->keep * sizeof *w->packet;
    for (int r = 0; r < s->comm->size; r++) {
        bytes[r] = each;
        offset[r] = (size_t)r * each;
    }
    return radar_gather(s->comm, RADAR_X2_TOPK, w->packet, bytes, offset, s->err);
}

/* ---- lists ---- */

static void mark(work *w, const uint64_t *key, int n) {
    for (int i = 0; i < n; i++) {
        uint32_t segment = radar_topk_segment(key[i]);
        if (key[i]) w->bits[segment / 64] |= (uint64_t)1 << segment % 64;
    }
}

static void mark_head(radar_select *s, work *w, int row, int head) {
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

/* Empties the bits of units [begin, end) into w->chosen, ascending; units of other ranks are left out. */
static int collect(const radar_select *s, work *w, const row_choice *c) {
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
                (chosen_unit){i, (int32_t)(radar_slot_of(l, position) / RADAR_SEGMENT)};
            w->n_chosen[i]++;
        }
        w->bits[word] = 0;
    }
    return n;
}

/* What has been marked, shard by shard: own shard i has w->n_chosen[i] of w->sorted, ascending, behind those of the shards before. */
static void sort_by_shard(const radar_select *s, work *w, const row_choice *c) {
    int32_t *next[RADAR_MAX_SHARDS], *at = w->sorted;
    int n = collect(s, w, c);
    for (int i = 0; i < s->kv->n_shards; at += w->n_chosen[i++]) next[i] = at;
    for (int j = 0; j < n; j++) *next[w->chosen[j].shard]++ = w->chosen[j].segment;
}

static void list_range(radar_plan *plan, int32_t begin, int32_t end) {
    for (int32_t at = begin; at < end; at++) plan->item[plan->n_items++] = (radar_item){at, 0xffff};
}

static void list_shard(radar_select *s, const work *w, int row, int i, const int32_t *chosen) {
    const row_part *part = part_of(s, w, row, i);
    int32_t unit = w->row[row].unit;
    list_range(s->plan, 0, part->begin);
    for (int j = 0; j < w->n_chosen[i]; j++) list_range(s->plan, chosen[j], chosen[j] + unit);
    list_range(s->plan, part->end, part->stop);
}

static void note_missed(radar_select *s, const work *w, int row, int head, int i,
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
static void list_heads(radar_select *s, work *w, int row, int head, int n) {
    const int32_t *chosen = w->sorted;
    sort_by_shard(s, w, &w->row[row]);
    for (int i = 0; i < s->kv->n_shards; i++) {
        size_t first_item = s->plan->n_items;
        list_shard(s, w, row, i, chosen);
        chosen += w->n_chosen[i];
        radar_plan_task(s, head / w->group, i, row * w->group + head % w->group, n, first_item);
        s->counts->attended_tokens += radar_plan_tokens(s, i, first_item, s->position[row]);
        for (int h = head; h < head + n; h++) note_missed(s, w, row, h, i, first_item);
    }
}

static void list_dense(radar_select *s, const work *w, int row) {
    for (int i = 0; i < s->kv->n_shards; i++) {
        size_t first_item = s->plan->n_items;
        list_range(s->plan, 0, part_of(s, w, row, i)->stop);
        for (int g = 0; g < s->kv->kv_heads; g++)
            radar_plan_task(s, g, i, row * w->group, w->group, first_item);
        s->counts->attended_tokens +=
            s->kv->kv_heads * radar_plan_tokens(s, i, first_item, s->position[row]);
    }
}

static void list_row(radar_select *s, work *w, int row) {
    if (w->row[row].keep == 0) {
        list_dense(s, w, row);
        return;
    }
    int heads = w->group / w->n_lists;
    for (int head = 0; head < s->n_heads; head += heads) {
        for (int h = head; h < head + heads; h++) mark_head(s, w, row, h);
        list_heads(s, w, row, head, heads);
    }
}

static void count_candidate_shards(radar_select *s, const row_choice *c) {
    const radar_layout *l = &s->kv->layout;
    int n = 0;
    for (int shard = 0; shard < l->shards; shard++)
        n += radar_shard_tokens(l, shard, c->end * RADAR_SEGMENT) >
             radar_shard_tokens(l, shard, c->begin * RADAR_SEGMENT);
    if (n > s->counts->candidate_shards) s->counts->candidate_shards = n;
}

static void locate(const radar_select *s, work *w, int row) {
    const row_choice *c = &w->row[row];
    int64_t stop = radar_segment_number(s->position[row]) + 1;
    for (int i = 0; i < s->kv->n_shards; i++)
        w->part[(size_t)row * (size_t)s->kv->n_shards + (size_t)i] = (row_part){
            radar_storage_segment(s->kv, i, c->begin), radar_storage_segment(s->kv, i, c->end),
            radar_storage_segment(s->kv, i, stop)};
}

static radar_status radar_select_rows(radar_select *s) {
    work w;
    int keep = 0;
    for (int row = 0; row < s->n_rows; row++)
        keep = (int)radar_max64(keep, radar_attention_keep(s->attention, s->position[row]));
    lay_out(&w, s->plan->scratch, s->kv, s->attention, s->n_heads, s->n_rows, keep);
    keep = 0;
    for (int row = 0; row < s->n_rows; row++) {
        row_choice *c = &w.row[row];
        radar_attention_candidates(s->attention, s->position[row], &c->begin, &c->end);
        c->unit = radar_attention_unit(s->attention, s->position[row]);
        bool dense = radar_attention_dense(s->attention, s->kv, s->position[row]);
        c->keep = dense ? 0 : (int)radar_attention_keep(s->attention, s->position[row]);
        if (c->keep) count_candidate_shards(s, c);
        locate(s, &w, row);
        keep = keep > c->keep ? keep : c->keep;
    }
    if (keep) {
        score_candidates(s, &w);
        best_of_rank(s, &w);
        if (!s->attention->select_local) {
            fill_packet(s, &w);
            radar_status st = exchange_best(s, &w);
            if (st != RADAR_OK) return st;
        }
    }
    for (int row = 0; row < s->n_rows; row++) list_row(s, &w, row);
    return RADAR_OK;
}

const radar_policy radar_policy_radar = {
    .name = "radar",
    .needs_summaries = true,
    .room = radar_room,
    .select = radar_select_rows,
};
