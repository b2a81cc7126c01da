/* Dense attention: every token up to the row's own.  Also what prefill uses. */
#include "runtime/policy.h"

#include "runtime/base.h"

/* Rows that share one task: enough queries to reuse a tile of keys, few enough to spread over threads. */
#define ROWS_PER_TASK 16

static void dense_room(const radar_kvcache *kv, const radar_attention *a, int n_heads, int n_rows,
                       radar_plan *need) {
    (void)a, (void)n_heads;
    need->max_tasks = kv->n_shards * kv->kv_heads * (int)radar_ceil_div(n_rows, ROWS_PER_TASK);
    need->max_items = 0;
    need->max_missed = 0;
    need->scratch_bytes = 0;
}

/* A task takes what its last row can see. */
void radar_dense_rows(radar_select *s, int n) {
    const radar_kvcache *kv = s->kv;
    int group = s->n_heads / kv->kv_heads;
    for (int i = 0; i < kv->n_shards; i++) {
        for (int row = 0; row < n; row += ROWS_PER_TASK) {
            int rows = (int)radar_min64(ROWS_PER_TASK, n - row);
            int64_t last = s->position[row + rows - 1];
            int32_t items = radar_storage_segment(kv, i, radar_segment_number(last) + 1);
            for (int head = 0; head < kv->kv_heads; head++)
                radar_plan_attend(s, head, i, row * group, rows * group,
                                  radar_plan_every(s->plan, items));
        }
        for (int row = 0; row < n; row++)
            s->counts->attended_tokens +=
                kv->kv_heads *
                radar_shard_tokens(&kv->layout, kv->first_shard + i, s->position[row] + 1);
    }
}

static radar_status dense_select(radar_select *s) {
    radar_dense_rows(s, s->n_rows);
    return RADAR_OK;
}

const radar_policy radar_policy_dense = {
    .name = "dense",
    .room = dense_room,
    .select = dense_select,
};
