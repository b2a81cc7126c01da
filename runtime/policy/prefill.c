/* Sparse prefill: the queries of a block choose together.
 *
 *   the last query of each run of a block -> its best units, per query head (radar_work.h)
 *     -> union over the block's runs and the group's heads -> attended exactly by all queries of the block
 *
 * Blocks and runs are those of absolute positions, so what a query attends to depends neither on ranks nor on how many blocks
 * are looked at in one call; where a pass begins or ends inside a block, its part of the block chooses alone.  Candidates are
 * those of the block's first position here, before every query of it; what is behind them is attended, causally, as are the
 * sinks.  The first tokens (--dense-prefill, in whole blocks) attend to everything.
 *
 * One query of 16 stands for its run as it is: the run's mean, in which the dimensions that turn fast cancel, loses single
 * facts.  Loss of a fact's digits above a dense prefill, 20 facts in texts of 6k tokens without dense beginning, in nats: means
 * of 16 queries with 512 / 1,024 tokens each .14 / .06, single queries .09 / .01 (+- .02), every 8th with 512 .04.
 * Cost: the scan of a sixteenth of the queries, and attention to the union, 1.8 to 2.5 lists at 8k to 32k. */
#include <string.h>

#include "runtime/policy/radar_work.h"

#define BLOCK RADAR_PREFILL_BLOCK
#define RUN RADAR_PREFILL_RUN

/* Rows [first, end) of a call, and the runs [run, run_end) of them. */
typedef struct block {
    int first, end, run, run_end;
} block;

/* The scratch of one call. */
typedef struct work {
    radar_work choice; /* of the runs; first, so that its bits keep their place */
    block *block;      /* [blocks] */
    int n_blocks, n_runs;
    int32_t *last;     /* [runs] row that stands for the run */
    int64_t *position; /* [runs] the first of its block: that decides of candidates */
    int64_t *until;    /* [runs] the last of its block */
    float *q;          /* [G, runs, group, D] */
} work;

/* Of rows that begin at `position`. */
static int most_blocks(int64_t position, int n_rows) {
    return (int)radar_ceil_div(position % BLOCK + n_rows, BLOCK);
}

static size_t lay_out(work *w, char *base, const radar_kvcache *kv, const radar_attention *a,
                      int n_heads, int n_blocks, int n_runs, int keep) {
    size_t used = radar_work_lay_out(&w->choice, base, kv, a, n_heads, n_runs, keep);
    size_t blocks = (size_t)n_blocks, runs = (size_t)n_runs;
#define TAKE(member, count) \
    w->member = (void *)(base + used), used += ((count) * sizeof *w->member + 63) / 64 * 64
    TAKE(block, blocks);
    TAKE(last, runs);
    TAKE(position, runs);
    TAKE(until, runs);
    TAKE(q, runs * (size_t)n_heads * (size_t)kv->D);
#undef TAKE
    return used;
}

static void prefill_room(const radar_kvcache *kv, const radar_attention *session, int n_heads,
                         int n_rows, radar_plan *need) {
    const radar_attention own = radar_attention_of_prefill(session, kv->context), *a = &own;
    work w;
    int64_t listed, dense, rank_segments = kv->rank_tokens / RADAR_SEGMENT;
    int blocks = most_blocks(0, n_rows), lists = a->share_head ? n_heads : kv->kv_heads,
        choosing = BLOCK / RUN * (n_heads / lists);
    radar_attention_longest_lists(a, kv, choosing, &listed, &dense);
    listed = radar_min64(listed + BLOCK / RADAR_SEGMENT, rank_segments);
    radar_policy_dense.room(kv, a, n_heads, n_rows, need);
    need->max_tasks += blocks * lists * kv->n_shards;
    need->max_items += (size_t)blocks * (size_t)lists * (size_t)listed;
    need->scratch_bytes =
        lay_out(&w, NULL, kv, a, n_heads, blocks, blocks * (BLOCK / RUN), (int)a->max_keep);
}

/* ---- blocks and runs ---- */

/* Rows [first, n_rows) of s, cut at the multiples of BLOCK and RUN. */
static void cut(const radar_select *s, int first, work *w) {
    w->n_blocks = w->n_runs = 0;
    for (int row = first; row < s->n_rows; row++) {
        if (row == first || s->position[row] % BLOCK == 0)
            w->block[w->n_blocks++] = (block){.first = row, .run = w->n_runs};
        block *b = &w->block[w->n_blocks - 1];
        if (row == b->first || s->position[row] % RUN == 0)
            w->position[w->n_runs++] = s->position[b->first];
        w->last[w->n_runs - 1] = row;
        b->end = row + 1;
        b->run_end = w->n_runs;
    }
    for (int i = 0; i < w->n_blocks; i++)
        for (int run = w->block[i].run; run < w->block[i].run_end; run++)
            w->until[run] = s->position[w->block[i].end - 1];
}

/* A select whose rows are the runs. */
static radar_select runs_of(const radar_select *s, const radar_attention *a, work *w) {
    radar_select runs = *s;
    s->kv->be->ops->take(s->kv->be, w->q, s->q, s->n_rows, s->kv->kv_heads,
                         s->n_heads / s->kv->kv_heads, s->kv->D, w->last, w->n_runs);
    runs.attention = a;
    runs.n_rows = w->n_runs;
    runs.position = w->position;
    runs.q = w->q;
    return runs;
}

static radar_status choose(radar_select *runs, work *w) {
    int most = 0;
    for (int i = 0; i < w->n_runs; i++) {
        radar_row_choice *c = &w->choice.row[i];
        radar_attention_candidates(runs->attention, w->position[i], &c->begin, &c->end);
        c->unit = radar_attention_unit(runs->attention, w->position[i]);
        c->keep = (int)radar_attention_keep(runs->attention, w->position[i]);
        if (c->keep == 0) c->begin = c->end = 0; /* sinks may reach past what is there */
        radar_work_locate(runs, &w->choice, i, w->until[i]);
        most = c->keep > most ? c->keep : most;
    }
    return most ? radar_work_choose(runs, &w->choice) : RADAR_OK;
}

/* ---- lists ---- */

/* Everything before the candidates' end that is listed is attended by every row, what is behind causally. */
static void count_attended(radar_select *s, const block *b, int i, int64_t end, size_t first_item) {
    const radar_layout *l = &s->kv->layout;
    int shard = s->kv->first_shard + i;
    int64_t before = radar_shard_tokens(l, shard, end * RADAR_SEGMENT), tail,
            rows = b->end - b->first;
    tail = radar_storage_segment(s->kv, i, radar_segment_number(s->position[b->end - 1]) + 1) -
           before / RADAR_SEGMENT;
    s->counts->attended_tokens +=
        rows * ((int64_t)(s->plan->n_items - first_item) - tail) * RADAR_SEGMENT;
    for (int row = b->first; row < b->end; row++)
        s->counts->attended_tokens += radar_shard_tokens(l, shard, s->position[row] + 1) - before;
}

/* Queries of heads [head, head + n) of all rows of a block: one task for a whole group, else a head's rows lie `group` apart. */
static void plan_block(radar_select *s, const block *b, int i, int head, int n, size_t first_item) {
    int group = s->n_heads / s->kv->kv_heads, rows = b->end - b->first;
    radar_plan_task(s, head / group, i, b->first * group + head % group, rows * n, first_item);
    if (n == group) return;
    radar_attend_task *t = &s->plan->task[s->plan->n_tasks - 1];
    t->position = s->position + b->first;
    t->q_stride *= (size_t)group;
    t->partial_stride *= (size_t)group;
}

static void list_block(radar_select *s, const radar_select *runs, work *w, const block *b) {
    const radar_row_choice *c = &w->choice.row[b->run];
    int heads = w->choice.group / w->choice.n_lists;
    for (int head = 0; head < s->n_heads; head += heads) {
        for (int run = b->run; c->keep && run < b->run_end; run++)
            for (int h = head; h < head + heads; h++) radar_work_mark(runs, &w->choice, run, h);
        const int32_t *chosen = w->choice.sorted;
        radar_work_sort(s, &w->choice, b->run);
        for (int i = 0; i < s->kv->n_shards; i++) {
            size_t first_item = s->plan->n_items;
            radar_work_list(s, &w->choice, b->run, i, chosen);
            chosen += w->choice.n_chosen[i];
            plan_block(s, b, i, head, heads, first_item);
            count_attended(s, b, i, c->end, first_item);
        }
    }
}

/* ---- */

/* Rows of whole blocks that begin before the limit. */
static int dense_rows(const radar_select *s) {
    int64_t limit = radar_attention_dense_prefill(s->attention);
    limit = radar_ceil_div(limit, BLOCK) * BLOCK;
    return (int)radar_max64(0, radar_min64(s->n_rows, limit - s->position[0]));
}

/* The most that a run of rows [first, n_rows) takes; whatever the block, its first position decides. */
static int most_keep(const radar_select *s, const radar_attention *a, int first) {
    int64_t keep = 0;
    for (int row = first; row < s->n_rows; row++)
        keep = radar_max64(keep, radar_attention_keep(a, s->position[row]));
    return (int)keep;
}

static radar_status prefill_select(radar_select *s) {
    const radar_attention a = radar_attention_of_prefill(s->attention, s->kv->context);
    const int dense = dense_rows(s), blocks = most_blocks(s->position[0], s->n_rows);
    work w;
    if (dense) radar_dense_rows(s, dense);
    if (dense == s->n_rows) return RADAR_OK;
    lay_out(&w, s->plan->scratch, s->kv, &a, s->n_heads, blocks, blocks * (BLOCK / RUN),
            most_keep(s, &a, dense));
    memset(w.choice.bits, 0,
           (size_t)(s->kv->context / RADAR_SEGMENT / 64 + 1) * sizeof *w.choice.bits);
    cut(s, dense, &w);
    radar_select runs = runs_of(s, &a, &w);
    radar_status st = choose(&runs, &w);
    if (st != RADAR_OK) return st;
    for (int i = 0; i < w.n_blocks; i++) list_block(s, &runs, &w, &w.block[i]);
    return RADAR_OK;
}

const radar_policy radar_policy_prefill = {
    .name = "prefill",
    .needs_summaries = true,
    .block = BLOCK,
    .room = prefill_room,
    .select = prefill_select,
};
