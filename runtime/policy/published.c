/* Radar as published, as two attentions: `paper` and `code`.  published.h has the rules; here they become options and lists.
 *
 *   own segments up to date -> scores -> k best per query head -> items with token masks: segments are not multiples of 16 */
#include "runtime/policy/published.h"

#define DEFAULT_SEGMENTS 64
#define CODE_ASPECT 4

/* ---- options ---- */

static radar_published_rule rule_of(const radar_policy_shape *shape, bool code) {
    const radar_attention *a = shape->attention;
    return (radar_published_rule){
        .code = code,
        .window = a->window,
        .sinks = a->sinks,
        .aspect = code ? CODE_ASPECT : 1,
        .keep = a->segments > 0 ? a->segments : DEFAULT_SEGMENTS,
        .target = a->segments == 0 && a->budget > 0 ? a->budget : 0,
        .exact = a->exact_scores,
        .pick = a->pick,
        .seed = a->pick_seed,
        .features = a->rf_features > 0 ? (int)a->rf_features : 16 * shape->kv->D,
    };
}

static radar_status open_as(void **state, const radar_policy_shape *shape, radar_error *err,
                            bool code) {
    const radar_published_rule rule = rule_of(shape, code);
    radar_published *p = NULL;
    radar_status st = radar_published_open(&p, &rule, shape, err);
    *state = p;
    return st;
}

static double paper_bytes(const radar_policy_shape *shape) {
    const radar_published_rule rule = rule_of(shape, false);
    return radar_published_bytes(&rule, shape);
}

static double code_bytes(const radar_policy_shape *shape) {
    const radar_published_rule rule = rule_of(shape, true);
    return radar_published_bytes(&rule, shape);
}

static radar_status open_paper(void **state, const radar_policy_shape *shape, radar_error *err) {
    return open_as(state, shape, err, false);
}

static radar_status open_code(void **state, const radar_policy_shape *shape, radar_error *err) {
    return open_as(state, shape, err, true);
}

static void published_close(void *state) { radar_published_close(state); }

/* ---- lists ---- */

static void published_room(const radar_kvcache *kv, const radar_attention *a, int n_heads,
                           int n_rows, radar_plan *need) {
    (void)a;
    need->max_tasks = n_rows * n_heads;
    need->max_items = (size_t)n_rows * (size_t)n_heads * (size_t)(kv->context / RADAR_SEGMENT + 1);
}

/* Positions [begin, end), behind those the list has already. */
static void add_range(radar_plan *plan, size_t first, int64_t begin, int64_t end) {
    for (int64_t stop; begin < end; begin = stop) {
        int64_t segment = radar_segment_number(begin);
        stop = radar_min64(end, (segment + 1) * RADAR_SEGMENT);
        uint32_t tokens = ((1u << (stop - begin)) - 1) << begin % RADAR_SEGMENT;
        if (plan->n_items > first && plan->item[plan->n_items - 1].segment == segment)
            plan->item[plan->n_items - 1].tokens |= tokens;
        else
            plan->item[plan->n_items++] = (radar_item){(int32_t)segment, tokens};
    }
}

static bool chosen(const radar_topk_task *t, uint32_t segment) {
    for (int i = 0; i < t->keep && t->key[i]; i++)
        if (radar_topk_segment(t->key[i]) == segment) return true;
    return false;
}

/* What query head `head` attends to; without segments that is everything. */
static void list_tokens(const radar_select *s, const radar_published *p, int64_t position,
                        int head) {
    const radar_published_layer *l = &p->layer[s->layer];
    size_t first = s->plan->n_items;
    int64_t sinks = radar_min64(p->rule.sinks, position + 1);
    add_range(s->plan, first, 0, sinks);
    for (int64_t j = 0; j < l->segments; j++)
        if (chosen(&p->topk[head], (uint32_t)j))
            add_range(s->plan, first, sinks + j * l->size, sinks + (j + 1) * l->size);
    add_range(s->plan, first, sinks + l->segments * l->size, position + 1);
}

/* One list for each run of query heads [head, head + n) of a KV head. */
static void list_heads(radar_select *s, const radar_published *p, int row, int head, int n) {
    int group = s->n_heads / s->kv->kv_heads;
    size_t first = s->plan->n_items;
    list_tokens(s, p, s->position[row], head);
    radar_plan_task(s, head / group, 0, row * group + head % group, n, first);
    s->counts->attended_tokens += radar_plan_tokens(s, 0, first, s->position[row]);
}

/* What is read to score one segment: its features, or its keys. */
static int64_t segment_bytes(const radar_published *p, const radar_kvcache *kv, int layer) {
    if (p->F) return (int64_t)p->F * (int64_t)sizeof *p->summary;
    return p->layer[layer].size * kv->D * (int64_t)radar_dtype_block_bytes(kv->type);
}

static void score_row(radar_select *s, radar_published *p, int row) {
    int group = s->n_heads / s->kv->kv_heads;
    bool ranked = p->rule.pick == RADAR_PICK_TOP || p->rule.pick == RADAR_PICK_BOTTOM;
    for (int g = 0; g < s->kv->kv_heads && ranked; g++) {
        size_t query = ((size_t)g * (size_t)s->n_rows + (size_t)row) * (size_t)group;
        radar_published_score(p, s->kv, s->layer, g, s->q + query * (size_t)s->kv->D);
        s->counts->segments_scored += p->layer[s->layer].segments;
        s->counts->scored_bytes += p->layer[s->layer].segments * segment_bytes(p, s->kv, s->layer);
    }
    radar_published_pick(p, s->kv, s->layer, s->position[row]);
    if (s->counts->candidate_shards == 0) s->counts->candidate_shards = 1;
}

static radar_status published_select(radar_select *s) {
    radar_published *p = s->state;
    for (int row = 0; row < s->n_rows; row++) {
        radar_published_advance(p, s->kv, s->layer, s->position[row]);
        bool built = p->layer[s->layer].segments > 0;
        if (built) score_row(s, p, row);
        int heads = built ? 1 : s->n_heads / s->kv->kv_heads;
        for (int head = 0; head < s->n_heads; head += heads) list_heads(s, p, row, head, heads);
    }
    return RADAR_OK;
}

/* ---- history ---- */

/* Rows of a prefill replace what a pass that was stopped half way may have left behind. */
static radar_status published_attended(radar_select *s) {
    if (s->prefill) radar_published_forget(s->state, s->layer, s->position[0]);
    return RADAR_OK;
}

static bool published_rewind(void *state, int64_t position) {
    radar_published *p = state;
    for (int layer = 0; layer < p->layers; layer++) radar_published_forget(p, layer, position);
    return true;
}

const radar_policy radar_policy_paper = {
    .name = "paper",
    .room = published_room,
    .select = published_select,
    .check = radar_published_check,
    .open = open_paper,
    .close = published_close,
    .attended = published_attended,
    .rewind = published_rewind,
    .bytes = paper_bytes,
};

const radar_policy radar_policy_code = {
    .name = "code",
    .room = published_room,
    .select = published_select,
    .check = radar_published_check,
    .open = open_code,
    .close = published_close,
    .attended = published_attended,
    .rewind = published_rewind,
    .bytes = code_bytes,
};
