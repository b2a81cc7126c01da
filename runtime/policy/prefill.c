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
#include "runtime/policy/radar_work.h"

#define BLOCK RADAR_PREFILL_BLOCK
#define RUN RADAR_PREFILL_RUN

/* Rows [first, end) of a call, and the runs [run, run_end) of them. */
typedef struct block {
    int first, end, run, run_end;
} block;

/* The room of one call. */
typedef struct work {
    radar_work choice; /* of the runs */
    block *block;      /* [blocks] */
    int n_blocks, n_runs;
    int32_t *last;     /* [runs] row that stands for the run */
    int64_t *position; /* [runs] the first of its block: that decides of candidates */
    int64_t *until;    /* [runs] the last of its block */
    float *q;          /* device [G, runs, group, D] */
} work;

/* Of rows that begin at `position`. */
static int most_blocks(int64_t position, int n_rows) {
    return (int)radar_ceil_div(position % BLOCK + n_rows, BLOCK);
}

/* As radar_work_lay_out; its own arrays lie behind those of the choice. */
static void lay_out(work *w, radar_plan *plan, radar_plan *need, const radar_kvcache *kv,
                    const radar_attention *a, const radar_work_shape *shape) {
    radar_plan all = {0};
    size_t runs = (size_t)shape->n_rows;
    radar_work_lay_out(&w->choice, plan, &all, kv, a, shape);
#define TAKE(member, count, base, used) \
    w->member = plan ? (void *)((char *)plan->base + all.used) : NULL, \
    all.used += ((count) * sizeof *w->member + 255) / 256 * 256
    TAKE(block, (size_t)shape->n_groups, scratch, scratch_bytes);
    TAKE(last, runs, scratch, scratch_bytes);
    TAKE(position, runs, scratch, scratch_bytes);
    TAKE(until, runs, scratch, scratch_bytes);
    TAKE(q, runs * (size_t)shape->n_heads * (size_t)kv->D, memory, memory_bytes);
#undef TAKE
    if (!need) return;
    need->scratch_bytes = all.scratch_bytes;
    need->memory_bytes = all.memory_bytes;
    need->packet_bytes = all.packet_bytes;
}

/* The segments that all lists of so many blocks can have. */
static size_t most_items(const radar_kvcache *kv, const radar_attention *a, int n_heads,
                         int blocks) {
    const int lists = a->share_head ? n_heads : kv->kv_heads,
              choosing = BLOCK / RUN * (n_heads / lists);
    const int64_t listed = radar_attention_longest_list(a, kv, choosing) + BLOCK / RADAR_SEGMENT;
    return (size_t)blocks * (size_t)lists *
           (size_t)radar_min64(listed, kv->rank_tokens / RADAR_SEGMENT);
}

static void prefill_room(const radar_kvcache *kv, const radar_attention *session, int n_heads,
                         int n_rows, radar_plan *need) {
    const radar_attention own = radar_attention_of_prefill(session, kv->context), *a = &own;
    work w;
    const int blocks = most_blocks(0, n_rows), lists = a->share_head ? n_heads : kv->kv_heads;
    const radar_work_shape shape = {.n_heads = n_heads,
                                    .n_rows = blocks * (BLOCK / RUN),
                                    .n_groups = blocks,
                                    .keep = (int)a->max_keep,
                                    .items = most_items(kv, a, n_heads, blocks)};
    radar_policy_dense.room(kv, a, n_heads, n_rows, need);
    need->max_tasks += blocks * lists * kv->n_shards;
    lay_out(&w, NULL, need, kv, a, &shape);
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

/* The block of a run; runs come in order. */
static int group_of(const work *w, int run) {
    int i = 0;
    while (run >= w->block[i].run_end) i++;
    return i;
}

static int rows_of(const work *w, int run) {
    const block *b = &w->block[group_of(w, run)];
    return b->end - b->first;
}

static radar_status choose(radar_select *runs, work *w) {
    int most = 0;
    for (int i = 0; i < w->n_runs; i++) {
        radar_row_choice *c = &w->choice.row[i];
        radar_attention_candidates(runs->attention, w->position[i], &c->begin, &c->end);
        c->unit = radar_attention_unit(runs->attention, w->position[i]);
        c->keep = (int)radar_attention_keep(runs->attention, w->position[i]);
        w->choice.choose[i].group = group_of(w, i);
        w->choice.choose[i].weight = rows_of(w, i);
        if (c->keep == 0) c->begin = c->end = 0; /* sinks may reach past what is there */
        radar_work_locate(runs, &w->choice, i, w->until[i]);
        most = c->keep > most ? c->keep : most;
    }
    return most ? radar_work_choose(runs, &w->choice) : RADAR_OK;
}

/* ---- lists ---- */

/* Everything before the candidates' end that is listed is attended by every row, what is behind causally: listed are whole segments
 * up to the block's last row. */
static void count_attended(radar_select *s, const block *b, int i, int64_t end) {
    const radar_layout *l = &s->kv->layout;
    int shard = s->kv->first_shard + i;
    int64_t before = radar_shard_tokens(l, shard, end * RADAR_SEGMENT), tail,
            rows = b->end - b->first;
    tail = radar_storage_segment(s->kv, i, radar_segment_number(s->position[b->end - 1]) + 1) -
           before / RADAR_SEGMENT;
    s->counts->attended_tokens -= rows * tail * RADAR_SEGMENT;
    for (int row = b->first; row < b->end; row++)
        s->counts->attended_tokens += radar_shard_tokens(l, shard, s->position[row] + 1) - before;
}

/* Queries of heads [head, head + n) of all rows of a block: one task for a whole group, else a head's rows lie `group` apart. */
static void plan_block(radar_select *s, const block *b, int i, int head, int n, radar_items items) {
    int group = s->n_heads / s->kv->kv_heads, rows = b->end - b->first;
    radar_plan_attend(s, head / group, i, b->first * group + head % group, rows * n, items);
    if (n == group) return;
    radar_attend_task *t = &s->plan->task[s->plan->n_tasks - 1];
    t->position = s->position + b->first;
    t->q_stride *= (size_t)group;
    t->partial_stride *= (size_t)group;
}

static void list_block(radar_select *s, const work *w, int index) {
    const block *b = &w->block[index];
    const radar_row_choice *c = &w->choice.row[b->run];
    const int heads = w->choice.group / w->choice.n_lists;
    for (int head = 0; head < s->n_heads; head += heads) {
        for (int i = 0; i < s->kv->n_shards; i++) {
            const int32_t stop = radar_work_part(s, &w->choice, b->run, i)->stop;
            plan_block(s, b, i, head, heads,
                       c->keep ? radar_work_items(s, &w->choice, index, head / heads, i)
                               : radar_plan_every(s->plan, stop));
            if (c->keep == 0)
                s->counts->attended_tokens += (int64_t)(b->end - b->first) * stop * RADAR_SEGMENT;
            count_attended(s, b, i, c->end);
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
    const radar_work_shape shape = {.n_heads = s->n_heads,
                                    .n_rows = blocks * (BLOCK / RUN),
                                    .n_groups = blocks,
                                    .keep = most_keep(s, &a, dense),
                                    .items = most_items(s->kv, &a, s->n_heads, blocks)};
    lay_out(&w, s->plan, NULL, s->kv, &a, &shape);
    cut(s, dense, &w);
    w.choice.n_groups = w.n_blocks;
    radar_select runs = runs_of(s, &a, &w);
    radar_status st = choose(&runs, &w);
    if (st != RADAR_OK) return st;
    for (int i = 0; i < w.n_blocks; i++) list_block(s, &w, i);
    return RADAR_OK;
}

const radar_policy radar_policy_prefill = {
    .name = "prefill",
    .needs_summaries = true,
    .block = BLOCK,
    .room = prefill_room,
    .select = prefill_select,
};
