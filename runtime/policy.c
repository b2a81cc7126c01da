#include "runtime/policy.h"

#include <string.h>

#include "kernels/merge.h"
#include "runtime/radar.h"

extern const radar_policy radar_policy_radar, radar_policy_streaming, radar_policy_h2o,
    radar_policy_snapkv, radar_policy_subgen, radar_policy_paper, radar_policy_code;

const radar_policy *const radar_policies[] = {
    &radar_policy_radar, &radar_policy_dense,  &radar_policy_streaming,
    &radar_policy_h2o,   &radar_policy_snapkv, &radar_policy_subgen,
    &radar_policy_paper, &radar_policy_code,   NULL};

const radar_policy *radar_policy_find(const char *name) {
    for (const radar_policy *const *p = radar_policies; *p; p++)
        if (strcmp((*p)->name, name) == 0) return *p;
    return NULL;
}

int radar_sees_prompt(const char *attention) {
    const radar_policy *policy = radar_policy_find(attention);
    return policy && policy->sees_prompt;
}

int32_t radar_storage_segment(const radar_kvcache *kv, int i, int64_t segment) {
    return (int32_t)(radar_shard_tokens(&kv->layout, kv->first_shard + i, segment * RADAR_SEGMENT) /
                     RADAR_SEGMENT);
}

void radar_plan_range(radar_plan *plan, const radar_kvcache *kv, int i, int64_t begin,
                      int64_t end) {
    int32_t first = radar_storage_segment(kv, i, begin), last = radar_storage_segment(kv, i, end);
    for (int32_t s = first; s < last; s++) plan->item[plan->n_items++] = (radar_item){s, 0xffff};
}

float *radar_select_partial(const radar_select *s, int i, int head, int first) {
    size_t queries = (size_t)s->n_rows * (size_t)(s->n_heads / s->kv->kv_heads);
    size_t at =
        ((size_t)(s->kv->first_shard + i) * (size_t)s->kv->kv_heads + (size_t)head) * queries +
        (size_t)first;
    return s->partial + at * (size_t)RADAR_PARTIAL(s->kv->D);
}

void radar_plan_attend(const radar_select *s, int head, int i, int first, int n,
                       radar_items items) {
    int D = s->kv->D, queries = s->n_rows * (s->n_heads / s->kv->kv_heads);
    s->plan->task[s->plan->n_tasks++] = (radar_attend_task){
        .kv = radar_kvcache_view(s->kv, s->layer, head, i),
        .n_query = n,
        .q = s->q + ((size_t)head * (size_t)queries + (size_t)first) * (size_t)D,
        .q_stride = (size_t)D,
        .position = s->query_position + first,
        .items = items,
        .partial = radar_select_partial(s, i, head, first),
        .partial_stride = (size_t)RADAR_PARTIAL(D),
    };
}

void radar_plan_task(const radar_select *s, int head, int i, int first, int n, size_t first_item) {
    radar_plan_attend(s, head, i, first, n,
                      (radar_items){.item = s->plan->item + first_item,
                                    .n = (int)(s->plan->n_items - first_item)});
}

int64_t radar_plan_tokens(const radar_select *s, int i, size_t first_item, int64_t position) {
    radar_kv_view view = radar_kvcache_view(s->kv, s->layer, 0, i);
    size_t end = s->plan->n_items;
    int64_t tokens = 0;
    for (; end > first_item; end--) { /* items ascend: only the last ones can lie behind the row */
        radar_item item = s->plan->item[end - 1];
        int64_t first = radar_kv_position(&view, item.segment);
        if (first + RADAR_SEGMENT - 1 <= position) break;
        tokens += __builtin_popcount(radar_attended(item.tokens, first, position));
    }
    for (size_t j = first_item; j < end; j++) {
        uint32_t mask = s->plan->item[j].tokens & 0xffff;
        tokens += mask == 0xffff ? RADAR_SEGMENT : __builtin_popcount(mask);
    }
    return tokens;
}
