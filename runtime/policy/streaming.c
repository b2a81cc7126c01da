/* Sinks and window only: the first `sinks` tokens and the latest `window`.
 * Source: StreamingLLM, arXiv:2309.17453.  It counts positions within what is kept, which `restream` does too; without it
 * positions are those of the cache.
 *
 * Restream.  With sinks + window kept tokens the row's index is sinks + window - 1 whatever its position t; the window's keys
 * keep their distance to it, sink j is at distance sinks + window - 1 - j instead of t - j.  As RoPE makes logits of distances,
 * the keys stay as they are stored and a copy of the query is turned on by (sinks + window - 1 - t) positions for the sinks:
 *   piece of a shard = fold(window's tokens with the query, sinks with its copy)          two tasks where it holds sinks
 * Nothing changes while everything is kept, t < sinks + window. */
#include "kernels/merge.h"
#include "runtime/policy.h"

static bool turns(const radar_attention *a, int64_t position) {
    return a->restream && a->sinks > 0 && position >= a->sinks + a->window;
}

/* ---- room ---- */

/* The room of restream, on the device but for `back`. */
typedef struct work {
    int64_t *back;  /* [rows] positions to turn by */
    float *q;       /* [G, rows, group, D] turned */
    float *cos_sin; /* [rows, 2, rotary / 2] */
    float *partial; /* [shards, G, rows, group, PARTIAL(D)] of the sinks */
} work;

/* Cuts base into the arrays of w that are the device's; returns the bytes used. */
static size_t lay_out(work *w, char *base, const radar_kvcache *kv, int n_heads, int n_rows) {
    size_t rows = (size_t)n_rows, D = (size_t)kv->D, queries = rows * (size_t)n_heads;
    size_t q = queries * D * sizeof(float), cos_sin = rows * D * sizeof(float);
    *w = (work){.q = (float *)base,
                .cos_sin = (float *)(base + q),
                .partial = (float *)(base + q + cos_sin)};
    return q + cos_sin +
           (size_t)kv->n_shards * queries * (size_t)RADAR_PARTIAL(kv->D) * sizeof(float);
}

static int64_t most_items(const radar_kvcache *kv, const radar_attention *a) {
    int64_t listed = (a->sinks + a->window) / RADAR_SEGMENT + 5;
    return radar_min64(listed, kv->rank_tokens / RADAR_SEGMENT + 2);
}

static void streaming_room(const radar_kvcache *kv, const radar_attention *a, int n_heads,
                           int n_rows, radar_plan *need) {
    work w;
    int tasks = kv->n_shards * kv->kv_heads * n_rows;
    need->max_tasks = a->restream ? 2 * tasks : tasks;
    need->max_items = (size_t)n_rows * (size_t)most_items(kv, a) + (size_t)kv->n_shards;
    need->max_missed = 0;
    need->max_folds = a->restream ? tasks : 0;
    need->scratch_bytes = a->restream ? (size_t)n_rows * sizeof *w.back : 0;
    need->memory_bytes = a->restream ? lay_out(&w, NULL, kv, n_heads, n_rows) : 0;
}

/* ---- lists ---- */

/* Items of global segments [first, last), of them the tokens before `end` and those from `from` on. */
static void list_segments(radar_select *s, int i, int64_t first, int64_t last, int64_t end,
                          int64_t from) {
    radar_kv_view view = radar_kvcache_view(s->kv, s->layer, 0, i);
    size_t item = s->plan->n_items;
    radar_plan_range(s->plan, s->kv, i, first, last);
    for (; item < s->plan->n_items; item++) {
        int64_t p = radar_kv_position(&view, s->plan->item[item].segment);
        s->plan->item[item].tokens =
            radar_tokens_within(p, 0, end) | radar_tokens_within(p, from, p + RADAR_SEGMENT);
    }
}

static int64_t sinks_end(const radar_attention *a) {
    return radar_ceil_div(a->sinks, RADAR_SEGMENT);
}

static void list_kept(radar_select *s, int i, int64_t position) {
    const radar_attention *a = s->attention;
    int64_t from = radar_max64(position + 1 - a->window, 0),
            end = radar_segment_number(position) + 1, sinks = radar_min64(sinks_end(a), end);
    list_segments(s, i, 0, sinks, a->sinks, from);
    list_segments(s, i, radar_max64(radar_segment_number(from), sinks), end, a->sinks, from);
}

static void list_sinks(radar_select *s, int i) {
    list_segments(s, i, 0, sinks_end(s->attention), s->attention->sinks, INT64_MAX);
}

static void list_window(radar_select *s, int i, int64_t position) {
    int64_t from = position + 1 - s->attention->window;
    list_segments(s, i, radar_segment_number(from), radar_segment_number(position) + 1, 0, from);
}

static void count(radar_select *s, int i, int row, size_t first) {
    s->counts->attended_tokens +=
        s->kv->kv_heads * radar_plan_tokens(s, i, first, s->position[row]);
}

/* Queries of `row`, with what is listed from item `first` on. */
static void attend_list(radar_select *s, int i, int row, size_t first) {
    int group = s->n_heads / s->kv->kv_heads;
    for (int head = 0; head < s->kv->kv_heads; head++)
        radar_plan_task(s, head, i, row * group, group, first);
    count(s, i, row, first);
}

/* ---- restream ---- */

/* The copy of all queries, turned from their positions to the row's index among the kept tokens. */
static void turn_queries(radar_select *s, const work *w) {
    const radar_backend_ops *ops = s->kv->be->ops;
    const radar_rope *rope = s->rope;
    const int group = s->n_heads / s->kv->kv_heads;
    const size_t of_head = (size_t)s->n_rows * (size_t)group * (size_t)s->kv->D;
    const int64_t index = s->attention->sinks + s->attention->window - 1;
    for (int row = 0; row < s->n_rows; row++)
        w->back[row] = radar_min64(index, s->position[row]) - s->position[row];
    ops->angles(s->kv->be, w->cos_sin, rope->frequency, rope->rotary, 1, w->back, s->n_rows);
    const radar_copy all = {
        .to = w->q, .from = s->q, .rows = 1, .width = (int64_t)of_head * s->kv->kv_heads};
    ops->copy(s->kv->be, &all, 1);
    for (int head = 0; head < s->kv->kv_heads; head++) {
        const radar_rotate_job job = {.q = w->q + (size_t)head * of_head,
                                      .M = s->n_rows,
                                      .H = group,
                                      .D = s->kv->D,
                                      .cos_sin = w->cos_sin,
                                      .style = rope->style,
                                      .rotary = rope->rotary};
        ops->rotate(s->kv->be, &job);
    }
}

/* The sinks of own shard i: like the task that a row has anyway, with the turned query and a partial beside the pieces. */
static void attend_sinks(radar_select *s, const work *w, int i, int row) {
    int group = s->n_heads / s->kv->kv_heads;
    size_t first = s->plan->n_items;
    list_sinks(s, i);
    if (s->plan->n_items == first) return;
    for (int head = 0; head < s->kv->kv_heads; head++) {
        size_t query = ((size_t)head * (size_t)s->n_rows + (size_t)row) * (size_t)group;
        size_t piece = (size_t)i * (size_t)s->n_rows * (size_t)s->n_heads + query;
        radar_plan_task(s, head, i, row * group, group, first);
        radar_attend_task *task = &s->plan->task[s->plan->n_tasks - 1];
        s->plan->fold[s->plan->n_folds++] =
            (radar_fold){.into = task->partial,
                         .from = w->partial + piece * (size_t)RADAR_PARTIAL(s->kv->D),
                         .n = group};
        task->q = w->q + query * (size_t)s->kv->D;
        task->partial = s->plan->fold[s->plan->n_folds - 1].from;
    }
    count(s, i, row, first);
}

static radar_status streaming_select(radar_select *s) {
    work w = {0};
    if (turns(s->attention, s->position[s->n_rows - 1])) {
        lay_out(&w, s->plan->memory, s->kv, s->n_heads, s->n_rows);
        w.back = s->plan->scratch;
        s->plan->cut = 0; /* the memory is cut otherwise from here on */
        turn_queries(s, &w);
    }
    for (int row = 0; row < s->n_rows; row++) {
        bool turned = turns(s->attention, s->position[row]);
        for (int i = 0; i < s->kv->n_shards; i++) {
            size_t first = s->plan->n_items;
            if (turned)
                list_window(s, i, s->position[row]);
            else
                list_kept(s, i, s->position[row]);
            attend_list(s, i, row, first);
            if (turned) attend_sinks(s, &w, i, row);
        }
    }
    return RADAR_OK;
}

const radar_policy radar_policy_streaming = {
    .name = "streaming",
    .room = streaming_room,
    .select = streaming_select,
};
