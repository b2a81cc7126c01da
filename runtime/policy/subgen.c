/* SubGen: the tokens that have left the window enter the softmax by an estimate, made of samples of clustered keys for its
 * denominator and samples of values for its numerator (subgen_state.h).
 *
 * Source: Zandieh et al., arXiv:2402.06082.  As in the paper's experiments the latest `window` tokens are exact on both sides;
 * here the first `sinks` are too, and no part of the estimate.  What is kept is the budget at the context's end: half of it
 * key samples, 4 for each of budget / 8 clusters, half of them value samples.
 * A sampled token is attended with weights: c n_i / t in the denominator when it was sampled c times in cluster i,
 * c mu / (s |v|^2) in the numerator when it holds c value slots, 0 on a side where it was not sampled.
 * The estimator's state follows from all keys and values and is the same on every rank; a rank attends the samples that lie in
 * its shards.  Where every token that counts in the denominator is 105 or more below a sampled value's logit, l underflows to 0
 * and finish (arrange.h) divides by it: the row is then no number, as the estimate is. */
#include <string.h>

#include "runtime/attention.h"
#include "runtime/policy/subgen_state.h"
#include "runtime/sys.h"

#define MOST_HEAD 256 /* D of any model */

/* One layer, as far as it has come. */
typedef struct progress {
    int64_t seen; /* rows [0, seen) have been pushed */
    bool decoded; /* rows have been decoded since the prompt: `before` is filled */
} progress;

/* The same on every rank but for the lists below. */
typedef struct state {
    int layers, kv_heads, D;
    radar_dtype type;
    int64_t prefill_end;  /* the first decoded row, while decoded */
    progress *layer;      /* [layers] */
    radar_subgen *now;    /* [layers, G] */
    radar_subgen *before; /* [layers, G] as the prompt left them */
    char *memory;         /* of both */
    size_t rank_tokens;   /* slots of a KV head on this rank */
    float *key_weight;    /* [G, rank_tokens] 1 but for the tokens of `touched` */
    float *value_weight;  /* [G, rank_tokens] */
    size_t *touched;      /* [n_touched] */
    size_t n_touched;
    uint64_t *listed; /* a bit per storage segment of this rank: mask is not 0 */
    uint16_t *mask;   /* [rank_tokens / 16] tokens that the head being listed attends */
} state;

static radar_subgen_shape shape_of(const radar_kvcache *kv, const radar_attention *a) {
    int64_t budget = radar_attention_budget(a, kv->context - 1);
    int64_t clusters = budget / 2 / RADAR_SUBGEN_SAMPLES;
    return (radar_subgen_shape){
        .D = kv->D,
        .clusters = radar_max64(1, radar_min64(clusters, kv->context)),
        .values = radar_max64(1, budget / 2),
        .window = a->window,
        .sinks = a->sinks,
        .ring = radar_min64(a->window, kv->context),
    };
}

/* Tokens that one KV head can sample on this rank. */
static int64_t most_samples(const radar_subgen_shape *shape, const radar_kvcache *kv) {
    return radar_min64(shape->clusters * RADAR_SUBGEN_SAMPLES + shape->values, kv->rank_tokens);
}

static void subgen_room(const radar_kvcache *kv, const radar_attention *a, int n_heads, int n_rows,
                        radar_plan *need) {
    (void)n_heads;
    radar_subgen_shape shape = shape_of(kv, a);
    int64_t listed = (a->sinks + a->window) / RADAR_SEGMENT + 4 + most_samples(&shape, kv);
    need->max_tasks = kv->n_shards * kv->kv_heads * n_rows;
    need->max_items = (size_t)n_rows * (size_t)kv->kv_heads *
                      (size_t)radar_min64(listed, kv->rank_tokens / RADAR_SEGMENT + 1);
}

/* ---- the state ---- */

static void subgen_close(void *memory) {
    state *st = memory;
    if (!st) return;
    radar_free(st->layer);
    radar_free(st->now);
    radar_free(st->memory);
    radar_free(st->key_weight);
    radar_free(st->touched);
    radar_free(st->listed);
    radar_free(st->mask);
    radar_free(st);
}

/* A rank of a short context may hold no token at all.  False when there is no memory; *bytes: what the estimators take, all of it
 * written to at once. */
static bool reserve(state *st, const radar_kvcache *kv, const radar_subgen_shape *shape,
                    size_t *bytes) {
    size_t heads = (size_t)kv->layers * (size_t)kv->kv_heads, G = (size_t)kv->kv_heads, weights,
           available = radar_memory_available();
    if (!radar_mul(radar_subgen_bytes(shape), 2 * heads, bytes) ||
        !radar_mul(2 * G, st->rank_tokens, &weights))
        return false;
    if (available > 0 && *bytes > available) return false;
    st->layer = radar_alloc_array((size_t)kv->layers, sizeof *st->layer);
    st->now = radar_alloc_array(2 * heads, sizeof *st->now);
    st->memory = radar_alloc(*bytes);
    st->key_weight = radar_alloc_array(weights + 1, sizeof *st->key_weight);
    st->touched = radar_alloc_array(G * (size_t)most_samples(shape, kv) + 1, sizeof *st->touched);
    st->listed = radar_alloc_array(st->rank_tokens / RADAR_SEGMENT / 64 + RADAR_MAX_SHARDS + 1,
                                   sizeof *st->listed);
    st->mask = radar_alloc_array(st->rank_tokens / RADAR_SEGMENT + 1, sizeof *st->mask);
    return st->layer && st->now && st->memory && st->key_weight && st->touched && st->listed &&
           st->mask;
}

static double subgen_bytes(const radar_policy_shape *of) {
    const radar_kvcache *kv = of->kv;
    const radar_subgen_shape shape = shape_of(kv, of->attention);
    const double heads = (double)kv->layers * kv->kv_heads, tokens = (double)kv->rank_tokens;
    return 2 * heads * (double)radar_subgen_bytes(&shape) +
           kv->kv_heads *
               (2 * tokens * sizeof(float) + (double)most_samples(&shape, kv) * sizeof(size_t)) +
           tokens / RADAR_SEGMENT * sizeof(uint16_t);
}

static radar_status subgen_open(void **out, const radar_policy_shape *of, radar_error *err) {
    const radar_kvcache *kv = of->kv;
    const radar_subgen_shape shape = shape_of(kv, of->attention);
    size_t heads = (size_t)kv->layers * (size_t)kv->kv_heads, bytes = 0;
    state *st = radar_alloc(sizeof *st);
    if (st)
        *st = (state){.layers = kv->layers,
                      .kv_heads = kv->kv_heads,
                      .D = kv->D,
                      .type = kv->type,
                      .rank_tokens = (size_t)kv->rank_tokens};
    if (!st || !reserve(st, kv, &shape, &bytes)) {
        subgen_close(st);
        return radar_fail(
            err, RADAR_ERR_MEMORY,
            "subgen: no memory for its samples, clusters and window, %zu bytes; use a "
            "smaller --budget or --window",
            bytes);
    }
    st->before = st->now + heads;
    st->value_weight = st->key_weight + (size_t)kv->kv_heads * st->rank_tokens;
    for (size_t i = 0; i < 2 * heads; i++)
        radar_subgen_init(&st->now[i], &shape,
                          radar_random(of->attention->pick_seed, RADAR_STREAM_SUBGEN, i % heads),
                          st->memory + i * radar_subgen_bytes(&shape));
    for (size_t i = 0; i < 2 * (size_t)kv->kv_heads * st->rank_tokens; i++) st->key_weight[i] = 1;
    *out = st;
    return RADAR_OK;
}

static bool subgen_rewind(void *memory, int64_t position) {
    state *st = memory;
    int heads = st->layers * st->kv_heads;
    if (position == 0) {
        for (int i = 0; i < heads; i++) radar_subgen_reset(&st->now[i]);
        memset(st->layer, 0, (size_t)st->layers * sizeof *st->layer);
        return true;
    }
    if (!st->layer[0].decoded || position != st->prefill_end) return false;
    for (int i = 0; i < heads; i++) radar_subgen_copy(&st->now[i], &st->before[i]);
    for (int i = 0; i < st->layers; i++) st->layer[i].seen = position;
    return true;
}

/* As the cache takes it in: q8 begins as f16. */
static float rounded(radar_dtype type, float x) {
    if (type == RADAR_F16 || type == RADAR_Q8) return radar_f16_to_f32(radar_f32_to_f16(x));
    return type == RADAR_BF16 ? radar_bf16_to_f32(radar_f32_to_bf16(x)) : x;
}

static void push_row(state *st, const radar_select *s, int row, int head) {
    float key[MOST_HEAD];
    double norm2 = 0;
    size_t at = ((size_t)row * (size_t)st->kv_heads + (size_t)head) * (size_t)st->D;
    for (int d = 0; d < st->D; d++) {
        double v = (double)rounded(st->type, s->v[at + (size_t)d]);
        key[d] = rounded(st->type, s->k[at + (size_t)d]);
        norm2 += v * v;
    }
    radar_subgen_push(&st->now[s->layer * st->kv_heads + head], s->position[row], key, norm2);
}

/* The first decoded row keeps what the prompt left: where rewind can go back to. */
static void note_phase(state *st, const radar_select *s) {
    if (!s->prefill && !st->layer[s->layer].decoded) {
        int first = s->layer * st->kv_heads;
        for (int i = first; i < first + st->kv_heads; i++)
            radar_subgen_copy(&st->before[i], &st->now[i]);
        st->prefill_end = s->position[0];
    }
    st->layer[s->layer].decoded = !s->prefill;
}

static radar_status subgen_attended(radar_select *s) {
    state *st = s->state;
    progress *p = &st->layer[s->layer];
    if (s->position[0] != p->seen) return RADAR_OK; /* after rows of another attention: of no use */
    note_phase(st, s);
    p->seen += s->n_rows;
    for (int row = 0; row < s->n_rows; row++)
        for (int head = 0; head < st->kv_heads; head++) push_row(st, s, row, head);
    return RADAR_OK;
}

/* ---- lists ---- */

/* Segments of own shard i have whole words of `listed` to themselves. */
static uint64_t *words_of(const state *st, const radar_kvcache *kv, int i) {
    return st->listed + (size_t)kv->before[i] / RADAR_SEGMENT / 64 + (size_t)i;
}

static uint16_t *masks_of(const state *st, const radar_kvcache *kv, int i) {
    return st->mask + (size_t)kv->before[i] / RADAR_SEGMENT;
}

static void mark(state *st, const radar_kvcache *kv, int i, int64_t segment, uint32_t tokens) {
    if (!tokens) return;
    masks_of(st, kv, i)[segment] |= (uint16_t)tokens;
    words_of(st, kv, i)[segment / 64] |= (uint64_t)1 << segment % 64;
}

/* Tokens of positions [begin, end), all exact. */
static void mark_range(state *st, const radar_select *s, int i, int64_t begin, int64_t end) {
    if (begin >= end) return;
    radar_kv_view view = radar_kvcache_view(s->kv, s->layer, 0, i);
    int32_t first = radar_storage_segment(s->kv, i, radar_segment_number(begin)),
            last = radar_storage_segment(s->kv, i, radar_segment_number(end - 1) + 1);
    for (int32_t j = first; j < last; j++)
        mark(st, s->kv, i, j, radar_tokens_within(radar_kv_position(&view, j), begin, end));
}

/* Adds to what a sampled token of this rank counts on the two sides. */
static void mark_sample(state *st, const radar_select *s, int head, int64_t position, double key,
                        double value) {
    const radar_kvcache *kv = s->kv;
    int i = radar_shard_of(&kv->layout, position) - kv->first_shard;
    if (i < 0 || i >= kv->n_shards) return;
    int64_t slot = radar_slot_of(&kv->layout, position), segment = slot / RADAR_SEGMENT;
    uint32_t token = 1u << slot % RADAR_SEGMENT;
    size_t at = (size_t)head * st->rank_tokens + (size_t)(kv->before[i] + slot);
    if (!(masks_of(st, kv, i)[segment] & token)) {
        st->key_weight[at] = st->value_weight[at] = 0;
        st->touched[st->n_touched++] = at;
        mark(st, kv, i, segment, token);
    }
    st->key_weight[at] += (float)key;
    st->value_weight[at] += (float)value;
}

static void mark_estimate(state *st, const radar_select *s, int head) {
    const radar_subgen *g = &st->now[s->layer * st->kv_heads + head];
    for (int64_t i = 0; i < g->n_clusters; i++)
        for (int64_t j = 0; j < RADAR_SUBGEN_SAMPLES; j++)
            mark_sample(st, s, head, g->sample[i * RADAR_SUBGEN_SAMPLES + j],
                        radar_subgen_key_weight(g, i), 0);
    for (int64_t j = 0; j < g->shape.values; j++)
        if (g->value[j] >= 0)
            mark_sample(st, s, head, g->value[j], 0, radar_subgen_value_weight(g, j));
}

/* Empties what is marked of own shard i into items, ascending. */
static void collect(state *st, const radar_select *s, int i) {
    uint64_t *words = words_of(st, s->kv, i);
    uint16_t *masks = masks_of(st, s->kv, i);
    int64_t end = radar_ceil_div(s->kv->capacity[i] / RADAR_SEGMENT, 64);
    for (int64_t word = 0; word < end; word++) {
        for (uint64_t rest = words[word]; rest; rest &= rest - 1) {
            int32_t segment = (int32_t)(word * 64 + __builtin_ctzll(rest));
            s->plan->item[s->plan->n_items++] = (radar_item){segment, masks[segment]};
            masks[segment] = 0;
        }
        words[word] = 0;
    }
}

static void list_head(radar_select *s, int head) {
    state *st = s->state;
    const radar_attention *a = s->attention;
    int64_t position = s->position[0], from = radar_max64(position + 1 - a->window, 0);
    for (int i = 0; i < s->kv->n_shards; i++) {
        mark_range(st, s, i, 0, radar_min64(a->sinks, from));
        mark_range(st, s, i, from, position + 1);
    }
    mark_estimate(st, s, head);
    for (int i = 0; i < s->kv->n_shards; i++) {
        size_t first = s->plan->n_items,
               slot = (size_t)head * st->rank_tokens + (size_t)s->kv->before[i];
        collect(st, s, i);
        radar_plan_task(s, head, i, 0, s->n_heads / s->kv->kv_heads, first);
        radar_attend_task *task = &s->plan->task[s->plan->n_tasks - 1];
        task->key_weight = st->key_weight + slot;
        task->value_weight = st->value_weight + slot;
        s->counts->attended_tokens += radar_plan_tokens(s, i, first, position);
    }
}

static radar_status subgen_select(radar_select *s) {
    state *st = s->state;
    for (; st->n_touched > 0; st->n_touched--) {
        size_t at = st->touched[st->n_touched - 1];
        st->key_weight[at] = st->value_weight[at] = 1;
    }
    for (int head = 0; head < s->kv->kv_heads; head++) list_head(s, head);
    return RADAR_OK;
}

const radar_policy radar_policy_subgen = {
    .name = "subgen",
    .most_rows = 1,
    .room = subgen_room,
    .select = subgen_select,
    .sees_prompt = true,
    .open = subgen_open,
    .close = subgen_close,
    .attended = subgen_attended,
    .rewind = subgen_rewind,
    .bytes = subgen_bytes,
};
