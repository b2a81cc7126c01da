/* H2O, heavy-hitter oracle: the latest tokens, and of the older ones those that attention has given most so far.
 *
 *   weight[token] += softmax weight that each query gave it, prefill's included       (per layer and list: kept.h)
 *   row t: total = window + budget, recent = total / 2, heavy = total - recent:
 *     attends to the last `recent` tokens, its own among them, and to the `heavy` heaviest of those older tokens that were
 *     still kept, by what they had received before this row; the others are dropped for good
 *
 *   own weights -> best of the rank --X2--> best of all -> own lists
 *
 * The first row after a prefill so chooses from the whole prompt, then one token goes for each that comes.  A later prefill
 * attends to everything in the cache, as every prefill does; what was dropped before it stays dropped.  Weights are f32 sums,
 * one addition per query head and row in ascending order: n of them are within n 2^-24 relative (weigh.h).
 * The paper counts per head; here the heads of a KV head are added, which share its cache (--share head: each its own).
 * Source: Zhang et al., NeurIPS 2023, arXiv 2306.14048: algorithm 1, the budget in equal halves as in its experiments. */
#include <math.h>
#include <string.h>

#include "kernels/topk.h"
#include "runtime/attention.h"
#include "runtime/policy/kept.h"
#include "runtime/sys.h"

/* One layer, as far as it has come. */
typedef struct progress {
    int64_t seen;          /* rows [0, seen) have given their weights */
    int64_t judged;        /* of tokens before this position only the lists are left */
    int64_t judged_before; /* the same when the prefill ended */
    bool decoding;         /* since the last prefill */
} progress;

typedef struct h2o {
    radar_kvcache shape; /* sizes alone */
    radar_kept kept;
    progress *layer;                 /* [layers] */
    float *weight;                   /* [layers, lists, rank_tokens] */
    uint64_t *key, *packet, *merged; /* of a sieve; [P, lists, keep]; [P, keep] */
    radar_weigh_task *task;          /* [lists, shards] */
    int64_t mark;                    /* where the prefill ended; -1: no row came after it */
    float *weight_before;            /* the state at mark: as weight, kept.n and kept.token */
    int64_t *n_before;
    radar_kept_token *token_before;
} h2o;

/* ---- budget ---- */

static int64_t total_tokens(const radar_kvcache *kv, const radar_attention *a, int64_t position) {
    return radar_min64(a->window + radar_attention_budget(a, position), 2 * kv->context);
}

static int64_t recent_tokens(const radar_kvcache *kv, const radar_attention *a, int64_t position) {
    return radar_max64(total_tokens(kv, a, position) / 2, 1);
}

static int64_t heavy_tokens(const radar_kvcache *kv, const radar_attention *a, int64_t position) {
    return total_tokens(kv, a, position) - recent_tokens(kv, a, position);
}

/* The largest list of any row. */
static int64_t most_heavy(const radar_kvcache *kv, const radar_attention *a) {
    return radar_min64(heavy_tokens(kv, a, kv->context - 1), kv->context);
}

static void h2o_room(const radar_kvcache *kv, const radar_attention *a, int n_heads, int n_rows,
                     radar_plan *need) {
    radar_kept_room(kv, a, n_heads, n_rows, most_heavy(kv, a), total_tokens(kv, a, kv->context - 1),
                    need);
}

/* ---- state ---- */

static void h2o_close(void *state) {
    h2o *h = state;
    if (!h) return;
    radar_kept_close(&h->kept);
    radar_free(h->layer);
    radar_free(h->weight);
    radar_free(h->key);
    radar_free(h->packet);
    radar_free(h->merged);
    radar_free(h->task);
    radar_free(h->weight_before);
    radar_free(h->n_before);
    radar_free(h->token_before);
    radar_free(h);
}

static bool reserve(h2o *h, int64_t keep) {
    const radar_kvcache *kv = &h->shape;
    const radar_kept *k = &h->kept;
    size_t lists = (size_t)kv->layers * (size_t)k->lists, weights, tokens,
           ranks = (size_t)kv->layout.ranks, list = (size_t)keep + 1;
    if (!radar_mul(lists, (size_t)kv->rank_tokens + 1, &weights) ||
        !radar_mul(lists, (size_t)k->most + 1, &tokens))
        return false;
    h->layer = radar_alloc_array((size_t)kv->layers, sizeof *h->layer);
    h->weight = radar_alloc_array(weights, sizeof *h->weight);
    h->weight_before = radar_alloc_array(weights, sizeof *h->weight_before);
    h->n_before = radar_alloc_array(lists, sizeof *h->n_before);
    h->token_before = radar_alloc_array(tokens, sizeof *h->token_before);
    h->key = radar_alloc_array(RADAR_SIEVE_ROOM(keep), sizeof *h->key);
    h->packet = radar_alloc_array(ranks * (size_t)k->lists * list, sizeof *h->packet);
    h->merged = radar_alloc_array(ranks * list, sizeof *h->merged);
    h->task = radar_alloc_array((size_t)k->lists * (size_t)kv->n_shards, sizeof *h->task);
    return h->layer && h->weight && h->weight_before && h->n_before && h->token_before && h->key &&
           h->packet && h->merged && h->task;
}

static double h2o_bytes(const radar_policy_shape *shape) {
    const radar_kvcache *kv = shape->kv;
    const int64_t keep = most_heavy(kv, shape->attention);
    const double lists = radar_kept_lists(kv, shape->attention, shape->n_heads),
                 all = kv->layers * lists;
    return radar_kept_bytes(shape, keep) + 2.0 * sizeof(float) * all * (double)kv->rank_tokens +
           all * (double)radar_min64(keep, kv->rank_tokens) * sizeof(radar_kept_token) +
           (double)kv->layout.ranks * (lists + 1) * (double)(keep + 1) * sizeof(uint64_t) +
           (double)RADAR_SIEVE_ROOM(keep) * sizeof(uint64_t);
}

static radar_status h2o_open(void **state, const radar_policy_shape *shape, radar_error *err) {
    const radar_kvcache *kv = shape->kv;
    const int64_t keep = most_heavy(kv, shape->attention);
    const int lists = radar_kept_lists(kv, shape->attention, shape->n_heads);
    const double bytes = 2.0 * sizeof(float) * kv->layers * lists * (double)kv->rank_tokens;
    h2o *h = radar_alloc(sizeof *h);
    if (!h) return radar_fail(err, RADAR_ERR_MEMORY, "attention 'h2o': no memory");
    h->shape = *kv;
    h->mark = -1;
    radar_status st = radar_kept_open(&h->kept, "h2o", shape, keep, bytes, err);
    if (st == RADAR_OK && !reserve(h, keep))
        st = radar_fail(err, RADAR_ERR_MEMORY,
                        "attention 'h2o': no memory for %.0f bytes of weights; use a smaller --ctx",
                        bytes);
    if (st == RADAR_OK)
        *state = h;
    else
        h2o_close(h);
    return st;
}

/* Weights of the tokens of one list in own shard i. */
static float *weights_of(const h2o *h, float *weight, int layer, int list, int i) {
    size_t at = (size_t)layer * (size_t)h->kept.lists + (size_t)list;
    return weight + at * (size_t)h->shape.rank_tokens + h->shape.before[i];
}

/* Weights between weight and weight_before: those of positions [0, kept) are copied, of [kept, end) nothing is left. */
static void copy_weights(const h2o *h, float *to, float *from, int layer, int64_t kept,
                         int64_t end) {
    const radar_kvcache *kv = &h->shape;
    for (int list = 0; list < h->kept.lists; list++) {
        for (int i = 0; i < kv->n_shards; i++) {
            size_t n = (size_t)radar_shard_tokens(&kv->layout, kv->first_shard + i, kept),
                   all = (size_t)radar_shard_tokens(&kv->layout, kv->first_shard + i, end);
            float *out = weights_of(h, to, layer, list, i);
            memcpy(out, weights_of(h, from, layer, list, i), n * sizeof *out);
            memset(out + n, 0, (all - n) * sizeof *out);
        }
    }
}

static void copy_lists(const h2o *h, int layer, bool back) {
    const radar_kept *k = &h->kept;
    for (int list = 0; list < k->lists; list++) {
        int64_t *now = radar_kept_count(k, layer, list),
                *then = h->n_before + (size_t)layer * (size_t)k->lists + (size_t)list;
        radar_kept_token *tokens = radar_kept_tokens(k, layer, list),
                         *before = h->token_before + (tokens - k->token);
        *(back ? now : then) = *(back ? then : now);
        memcpy(back ? tokens : before, back ? before : tokens, (size_t)*now * sizeof *tokens);
    }
}

/* The first row after a prefill finds the state that a rewind to this place needs. */
static void remember(h2o *h, int layer, int64_t position) {
    progress *p = &h->layer[layer];
    if (p->decoding) return;
    p->decoding = true;
    p->judged_before = p->judged;
    h->mark = position;
    copy_weights(h, h->weight_before, h->weight, layer, position, position);
    copy_lists(h, layer, false);
}

static void forget(h2o *h, int layer, int64_t position) {
    progress *p = &h->layer[layer];
    copy_weights(h, h->weight, h->weight_before, layer, position, p->seen);
    if (position == 0)
        memset(radar_kept_count(&h->kept, layer, 0), 0, (size_t)h->kept.lists * sizeof *h->kept.n);
    else
        copy_lists(h, layer, true);
    *p = (progress){.seen = position, .judged = position == 0 ? 0 : p->judged_before};
}

static bool h2o_rewind(void *state, int64_t position) {
    h2o *h = state;
    if (position != 0 && position != h->mark) return false;
    for (int layer = 0; layer < h->shape.layers; layer++) forget(h, layer, position);
    h->mark = -1;
    return true;
}

/* ---- what stays ---- */

/* Tokens that compete in one list: those kept so far, then those that have left the recent ones since. */
typedef struct candidates {
    const radar_kvcache *kv;
    const radar_kept_token *token;
    int64_t n, next, end; /* of the kept ones; positions up to end */
    radar_kept_run run;
} candidates;

static candidates candidates_of(const radar_select *s, const h2o *h, int list, int64_t from) {
    int64_t judged = h->layer[s->layer].judged;
    return (candidates){.kv = s->kv,
                        .token = radar_kept_tokens(&h->kept, s->layer, list),
                        .n = *radar_kept_count(&h->kept, s->layer, list),
                        .end = from,
                        .run = {judged, judged, 0}};
}

static bool next_candidate(candidates *c, radar_kept_token *token) {
    if (c->next < c->n) {
        *token = c->token[c->next++];
        return true;
    }
    if (c->run.begin == c->run.end && !radar_kept_next_run(c->kv, c->run.end, c->end, &c->run))
        return false;
    *token = (radar_kept_token){(uint32_t)c->run.begin++, (uint32_t)c->run.index++};
    return true;
}

/* The list's best of this rank into its place of the packet; zero: no more. */
static void best_of_rank(const radar_select *s, h2o *h, int list, int64_t from, int keep) {
    const float *weight = weights_of(h, h->weight, s->layer, list, 0);
    uint64_t *out =
        h->packet + ((size_t)s->comm->rank * (size_t)h->kept.lists + (size_t)list) * (size_t)keep;
    radar_sieve sieve = radar_sieve_begin(h->key, keep);
    candidates c = candidates_of(s, h, list, from);
    for (radar_kept_token token; next_candidate(&c, &token);)
        radar_sieve_offer(&sieve, radar_topk_key(weight[token.index], token.position));
    radar_sieve_cut(&sieve);
    memcpy(out, sieve.key, (size_t)sieve.n * sizeof *out);
    memset(out + sieve.n, 0, (size_t)(keep - sieve.n) * sizeof *out);
}

/* The list becomes what of its candidates is among the `keep` best of all ranks. */
static void drop_others(const radar_select *s, h2o *h, int list, int64_t from, int keep) {
    const float *weight = weights_of(h, h->weight, s->layer, list, 0);
    radar_kept_token *token = radar_kept_tokens(&h->kept, s->layer, list);
    int n = 0;
    for (int r = 0; r < s->comm->size; r++, n += keep)
        memcpy(h->merged + n,
               h->packet + ((size_t)r * (size_t)h->kept.lists + (size_t)list) * (size_t)keep,
               (size_t)keep * sizeof *h->merged);
    uint64_t bar = radar_kept_bar(h->merged, radar_topk_select(h->merged, n, keep));
    int64_t stay = 0;
    candidates c = candidates_of(s, h, list, from); /* reads ahead of what is written */
    for (radar_kept_token t; next_candidate(&c, &t);)
        if (radar_topk_key(weight[t.index], t.position) >= bar) token[stay++] = t;
    *radar_kept_count(&h->kept, s->layer, list) = stay;
}

static radar_status h2o_select(radar_select *s) {
    h2o *h = s->state;
    progress *p = &h->layer[s->layer];
    size_t bytes[RADAR_MAX_SHARDS], offset[RADAR_MAX_SHARDS];
    const int64_t t = s->position[0];
    /* where the automatic budget grows, the recent tokens do not reach back to what has been judged */
    const int64_t from = radar_max64(t + 1 - recent_tokens(s->kv, s->attention, t), p->judged);
    const int keep = (int)radar_min64(heavy_tokens(s->kv, s->attention, t), from);
    const size_t each = (size_t)h->kept.lists * (size_t)keep * sizeof *h->packet;
    remember(h, s->layer, t);
    for (int r = 0; r < s->comm->size; r++) bytes[r] = each, offset[r] = (size_t)r * each;
    for (int list = 0; list < h->kept.lists; list++) best_of_rank(s, h, list, from, keep);
    radar_status st = radar_gather(s->comm, RADAR_X2_TOPK, h->packet, bytes, offset, s->err);
    if (st != RADAR_OK) return st;
    for (int list = 0; list < h->kept.lists; list++) drop_others(s, h, list, from, keep);
    p->judged = from;
    radar_kept_plan(s, &h->kept, from);
    return RADAR_OK;
}

/* ---- what rows give ---- */

/* A prefill's rows attended to everything up to their own token, a decoded row to what its task lists. */
static void give_items(const radar_select *s, const h2o *h, int list, int i,
                       radar_weigh_task *task) {
    if (s->prefill) {
        task->items.item = h->kept.all;
        task->items.n =
            radar_storage_segment(s->kv, i, radar_segment_number(s->position[s->n_rows - 1]) + 1);
        return;
    }
    const radar_attend_task *attended = &s->plan->task[list * s->kv->n_shards + i];
    task->items = attended->items;
}

static radar_status h2o_attended(radar_select *s) {
    h2o *h = s->state;
    progress *p = &h->layer[s->layer];
    if (s->position[0] != p->seen) return RADAR_OK; /* after rows of another attention: of no use */
    const radar_kept_queries rows = {.q = s->q,
                                     .root = radar_select_root(s, 0, 0),
                                     .root_size = (size_t)RADAR_PARTIAL(s->kv->D),
                                     .room = s->n_rows,
                                     .n = s->n_rows,
                                     .position = s->position,
                                     .head_position = s->query_position};
    int n = 0;
    for (int list = 0; list < h->kept.lists; list++) {
        for (int i = 0; i < s->kv->n_shards; i++, n++) {
            h->task[n] = radar_kept_weigh(s, &h->kept, &rows, list, i);
            h->task[n].weight = weights_of(h, h->weight, s->layer, list, i);
            give_items(s, h, list, i, &h->task[n]);
        }
    }
    s->kv->be->ops->weigh(s->kv->be, h->task, n, 1.0f / sqrtf((float)s->kv->D));
    p->seen = s->position[s->n_rows - 1] + 1;
    if (s->prefill) p->decoding = false, h->mark = -1;
    return RADAR_OK;
}

const radar_policy radar_policy_h2o = {
    .name = "h2o",
    .most_rows = 1,
    .room = h2o_room,
    .select = h2o_select,
    .sees_prompt = true,
    .open = h2o_open,
    .close = h2o_close,
    .attended = h2o_attended,
    .rewind = h2o_rewind,
    .bytes = h2o_bytes,
};
