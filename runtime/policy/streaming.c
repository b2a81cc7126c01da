/* Sinks and window only: the first `sinks` tokens and the latest `window`, at their positions in the cache.
 * Source: StreamingLLM, arXiv:2309.17453 (which re-indexes positions; this keeps them). */
#include "runtime/policy.h"

static int64_t most_items(const radar_kvcache *kv, const radar_attention *a) {
    int64_t listed = (a->sinks + a->window) / RADAR_SEGMENT + 4;
    return radar_min64(listed, kv->rank_tokens / RADAR_SEGMENT + 1);
}

static void streaming_room(const radar_kvcache *kv, const radar_attention *a, int n_heads,
                           int n_rows, radar_plan *need) {
    (void)n_heads;
    need->max_tasks = kv->n_shards * kv->kv_heads * n_rows;
    need->max_items = (size_t)n_rows * (size_t)most_items(kv, a) + (size_t)kv->n_shards;
    need->max_missed = 0;
    need->scratch_bytes = 0;
}

/* Attended tokens of the 16 that start at position p: bits of p + i < sinks or p + i >= from. */
static uint32_t kept(int64_t p, int64_t sinks, int64_t from) {
    uint32_t mask = 0;
    for (int i = 0; i < RADAR_SEGMENT; i++)
        if (p + i < sinks || p + i >= from) mask |= 1u << i;
    return mask;
}

static void list_row(radar_select *s, int i, int64_t position) {
    const radar_attention *a = s->attention;
    radar_kv_view view = radar_kvcache_view(s->kv, s->layer, 0, i);
    int64_t from = radar_max64(position + 1 - a->window, 0);
    int64_t end = radar_segment_number(position) + 1,
            sinks_end = radar_min64(radar_ceil_div(a->sinks, RADAR_SEGMENT), end);
    int64_t window_begin = radar_max64(radar_segment_number(from), sinks_end);
    size_t first = s->plan->n_items;
    radar_plan_range(s->plan, s->kv, i, 0, sinks_end);
    radar_plan_range(s->plan, s->kv, i, window_begin, end);
    for (size_t j = first; j < s->plan->n_items; j++) {
        radar_item *item = &s->plan->item[j];
        item->tokens = kept(radar_kv_position(&view, item->segment), a->sinks, from);
    }
}

static radar_status streaming_select(radar_select *s) {
    int group = s->n_heads / s->kv->kv_heads;
    for (int row = 0; row < s->n_rows; row++) {
        for (int i = 0; i < s->kv->n_shards; i++) {
            size_t first = s->plan->n_items;
            list_row(s, i, s->position[row]);
            for (int head = 0; head < s->kv->kv_heads; head++)
                radar_plan_task(s, head, i, row * group, group, first);
            s->counts->attended_tokens +=
                s->kv->kv_heads * radar_plan_tokens(s, i, first, s->position[row]);
        }
    }
    return RADAR_OK;
}

const radar_policy radar_policy_streaming = {
    .name = "streaming",
    .room = streaming_room,
    .select = streaming_select,
};
