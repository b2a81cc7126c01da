#include "runtime/policy/kept.h"

#include "kernels/topk.h"
#include "runtime/sys.h"

int radar_kept_lists(const radar_kvcache *kv, const radar_attention *a, int n_heads) {
    return a->share_head ? n_heads : kv->kv_heads;
}

/* ---- memory ---- */

static radar_status check(const char *name, const radar_policy_shape *shape, int64_t keep,
                          double bytes, radar_error *err) {
    const radar_kvcache *kv = shape->kv;
    double available = (double)radar_memory_available();
    if (kv->context > (int64_t)1 << 32)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "attention '%s': its lists count positions up to 4294967295, --ctx is "
                          "%lld; use --ctx 4294967296 or less",
                          name, (long long)kv->context);
    if (keep * kv->layout.ranks > INT32_MAX / 8)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "attention '%s': lists of %lld tokens on %d ranks; use a --window and a "
                          "--budget of %d tokens together or less",
                          name, (long long)keep, kv->layout.ranks,
                          INT32_MAX / 8 / kv->layout.ranks);
    if (available > 0 && bytes > available)
        return radar_fail(err, RADAR_ERR_MEMORY,
                          "attention '%s': %.1f GB for what %lld tokens received, %.1f GB are "
                          "free; use a smaller --ctx",
                          name, bytes * 1e-9, (long long)kv->context, available * 1e-9);
    return RADAR_OK;
}

radar_status radar_kept_open(radar_kept *k, const char *name, const radar_policy_shape *shape,
                             int64_t keep, double state_bytes, radar_error *err) {
    const radar_kvcache *kv = shape->kv;
    radar_status st = check(name, shape, keep, state_bytes, err);
    if (st != RADAR_OK) return st;
    *k = (radar_kept){.group = shape->n_heads / kv->kv_heads,
                      .lists = radar_kept_lists(kv, shape->attention, shape->n_heads),
                      .most = radar_min64(keep, kv->rank_tokens)};
    k->heads = shape->n_heads / k->lists;
    size_t lists = (size_t)kv->layers * (size_t)k->lists, tokens;
    int64_t segments = kv->rank_tokens / RADAR_SEGMENT + 1;
    k->n = radar_alloc_array(lists, sizeof *k->n);
    if (radar_mul(lists, (size_t)k->most, &tokens))
        k->token = radar_alloc_array(tokens + 1, sizeof *k->token);
    k->all = radar_alloc_array((size_t)segments, sizeof *k->all);
    if (!k->n || !k->token || !k->all)
        return radar_fail(err, RADAR_ERR_MEMORY,
                          "attention '%s': no memory for %zu lists of %lld tokens; use a smaller "
                          "--budget",
                          name, lists, (long long)k->most);
    for (int64_t i = 0; i < segments; i++) k->all[i] = (radar_item){(int32_t)i, 0xffff};
    return RADAR_OK;
}

double radar_kept_bytes(const radar_policy_shape *shape, int64_t keep) {
    const radar_kvcache *kv = shape->kv;
    double lists = (double)kv->layers * radar_kept_lists(kv, shape->attention, shape->n_heads);
    return lists * (double)radar_min64(keep, kv->rank_tokens) * sizeof(radar_kept_token) +
           (double)(kv->rank_tokens / RADAR_SEGMENT + 1) * sizeof(radar_item);
}

void radar_kept_close(radar_kept *k) {
    radar_free(k->n);
    radar_free(k->token);
    radar_free(k->all);
}

/* ---- own tokens ---- */

bool radar_kept_next_run(const radar_kvcache *kv, int64_t begin, int64_t end, radar_kept_run *run) {
    const radar_layout *l = &kv->layout;
    for (int64_t next; begin < end; begin = next) {
        next = radar_min64((begin / l->stripe + 1) * l->stripe, end);
        int i = radar_shard_of(l, begin) - kv->first_shard;
        if (i < 0 || i >= kv->n_shards) continue;
        *run = (radar_kept_run){begin, next, kv->before[i] + radar_slot_of(l, begin)};
        return true;
    }
    return false;
}

/* ---- keys ---- */

uint64_t radar_kept_bar(const uint64_t *key, int n) {
    uint64_t bar = UINT64_MAX;
    for (int i = 0; i < n; i++) bar = key[i] < bar ? key[i] : bar;
    return bar;
}

void radar_sieve_cut(radar_sieve *s) {
    s->n = radar_topk_select(s->key, s->n, s->keep);
    s->bar = radar_kept_bar(s->key, s->n);
}

/* ---- tasks ---- */

void radar_kept_room(const radar_kvcache *kv, const radar_attention *a, int n_heads, int n_rows,
                     int64_t keep, int64_t range, radar_plan *need) {
    int64_t lists = radar_kept_lists(kv, a, n_heads), segments = kv->rank_tokens / RADAR_SEGMENT;
    int64_t listed = radar_min64(keep, segments) +
                     radar_min64(range / RADAR_SEGMENT + 2 * kv->n_shards, segments);
    need->max_tasks = kv->n_shards * (a->share_head ? n_rows * n_heads : kv->kv_heads);
    need->max_items = (size_t)lists * (size_t)radar_min64(listed, segments) + 1;
}

/* Tokens of a segment behind those that the task from `first` on has: ascending segments. */
static void add_item(radar_plan *plan, size_t first, int32_t segment, uint32_t tokens) {
    if (plan->n_items > first && plan->item[plan->n_items - 1].segment == segment)
        plan->item[plan->n_items - 1].tokens |= tokens;
    else
        plan->item[plan->n_items++] = (radar_item){segment, tokens};
}

static void list_shard(radar_select *s, const radar_kept *k, int list, int i, int64_t from) {
    const radar_kvcache *kv = s->kv;
    const radar_kept_token *token = radar_kept_tokens(k, s->layer, list);
    const size_t first = s->plan->n_items;
    const int64_t n = *radar_kept_count(k, s->layer, list);
    for (int64_t j = 0; j < n; j++) {
        int64_t slot = (int64_t)token[j].index - kv->before[i];
        if (slot < 0 || slot >= kv->capacity[i]) continue;
        add_item(s->plan, first, (int32_t)(slot / RADAR_SEGMENT), 1u << slot % RADAR_SEGMENT);
    }
    int64_t last = s->position[s->n_rows - 1],
            slot = radar_shard_tokens(&kv->layout, kv->first_shard + i, from),
            end = radar_shard_tokens(&kv->layout, kv->first_shard + i, last + 1);
    for (int64_t tokens; slot < end; slot += tokens) {
        int at = (int)(slot % RADAR_SEGMENT);
        tokens = radar_min64(RADAR_SEGMENT - at, end - slot);
        add_item(s->plan, first, (int32_t)(slot / RADAR_SEGMENT), ((1u << tokens) - 1) << at);
    }
}

/* All rows of a call share the lists of its last one; a task's queries must lie side by side. */
static void plan_tasks(radar_select *s, const radar_kept *k, int list, int i, size_t first_item) {
    int head = list * k->heads / k->group, query = list * k->heads % k->group;
    if (k->heads == k->group) {
        radar_plan_task(s, head, i, 0, s->n_rows * k->group, first_item);
        return;
    }
    for (int row = 0; row < s->n_rows; row++)
        radar_plan_task(s, head, i, row * k->group + query, k->heads, first_item);
}

void radar_kept_plan(radar_select *s, const radar_kept *k, int64_t from) {
    for (int list = 0; list < k->lists; list++) {
        for (int i = 0; i < s->kv->n_shards; i++) {
            size_t first_item = s->plan->n_items;
            list_shard(s, k, list, i, from);
            plan_tasks(s, k, list, i, first_item);
            for (int row = 0; row < s->n_rows; row++)
                s->counts->attended_tokens += radar_plan_tokens(s, i, first_item, s->position[row]);
        }
    }
}

radar_weigh_task radar_kept_weigh(const radar_select *s, const radar_kept *k,
                                  const radar_kept_queries *r, int list, int i) {
    int head = list * k->heads / k->group, query = list * k->heads % k->group;
    bool whole = k->heads == k->group; /* else one head of every row */
    size_t at = ((size_t)head * (size_t)r->room + (size_t)r->first) * (size_t)k->group +
                (size_t)query,
           step = whole ? 1 : (size_t)k->group, D = (size_t)s->kv->D;
    return (radar_weigh_task){
        .kv = radar_kvcache_view(s->kv, s->layer, head, i),
        .n_query = whole ? r->n * k->group : r->n,
        .q = r->q + at * D,
        .q_stride = step * D,
        .position = whole ? r->head_position : r->position,
        .root = r->root + at * r->root_size,
        .root_stride = step * r->root_size,
    };
}
