/* SnapKV: the last queries of the prompt vote once for the tokens that are kept of it.
 *
 *   vote[token]  = sum over the last `observe` queries of the prompt of their softmax weights        (per layer and list: kept.h)
 *   pooled[p]    = (vote[p - 2] + .. + vote[p + 2]) / 5, zero beyond both ends of the tokens voted for
 *   kept: of the tokens before those queries' own the window + budget - observe with the largest pooled votes, and these own
 *
 * Only the prompt is compressed: every generated token is attended, so a long answer reads more and more.  The vote is taken
 * when the first token after a prefill is computed; a prompt that continues an answer makes the next one, by its own queries
 * (as many as it has, at most `observe`) over everything in the cache.
 *
 *   ring of the last rows' queries and {m, l} -> own votes --X2--> votes of the context -> pooled, best of it -> own lists
 *
 * The whole votes travel because pooling crosses the edges of shards: a float a token and list, once for each vote.
 * The heads of a KV head vote together (--share head: each its own list).
 * Source: Li et al., NeurIPS 2024, arXiv 2404.14469, listing 1; average pooling of 5 with zeros counted at the ends, and 32
 * queries, are the defaults of the authors' code (FasterDecoding/SnapKV). */
#include <math.h>
#include <string.h>

#include "kernels/topk.h"
#include "runtime/attention.h"
#include "runtime/policy/kept.h"
#include "runtime/sys.h"

#define REACH 2 /* tokens that pooling looks at on either side */

/* One layer, as far as it has come. */
typedef struct progress {
    int64_t seen;  /* rows [0, seen) have come */
    int64_t begin; /* of the prompt whose end is in the ring */
    int64_t from;  /* after the vote: everything from here on is attended */
    bool voted;
} progress;

typedef struct snapkv {
    radar_kvcache shape; /* sizes alone */
    radar_kept kept;
    int observe;
    progress *layer; /* [layers] */
    float *q,
        *root; /* [layers, G, observe, group, D], [layers, G, observe, group, 2]: row p at p % observe */
    int64_t *position;      /* [observe, group] of the row that votes for */
    float *vote;            /* [N] of [lists, slots] as place_votes lays them */
    float *line;            /* [context + 2 REACH] votes of one list by position, zeros around */
    uint64_t *key;          /* of a sieve */
    radar_weigh_task *task; /* [lists, shards] */
    int64_t mark;           /* where the prefill ended; -1: no row came after it */
} snapkv;

/* ---- budget ---- */

static int64_t prompt_tokens(const radar_kvcache *kv, const radar_attention *a, int64_t position) {
    return radar_min64(a->window + radar_attention_budget(a, position), kv->context);
}

static void snapkv_room(const radar_kvcache *kv, const radar_attention *a, int n_heads, int n_rows,
                        radar_plan *need) {
    radar_kept_room(kv, a, n_heads, n_rows, prompt_tokens(kv, a, kv->context - 1), kv->context,
                    need);
}

/* ---- state ---- */

static void snapkv_close(void *state) {
    snapkv *v = state;
    if (!v) return;
    radar_kept_close(&v->kept);
    radar_free(v->layer);
    radar_free(v->q);
    radar_free(v->root);
    radar_free(v->position);
    radar_free(v->vote);
    radar_free(v->line);
    radar_free(v->key);
    radar_free(v->task);
    radar_free(v);
}

/* Votes of a list fill whole segments of each shard. */
static size_t most_votes(const radar_kvcache *kv) {
    return (size_t)kv->context + (size_t)kv->layout.shards * RADAR_SEGMENT;
}

static bool reserve(snapkv *v, int64_t keep) {
    const radar_kvcache *kv = &v->shape;
    size_t lists = (size_t)v->kept.lists, votes,
           heads = (size_t)v->observe * (size_t)kv->kv_heads * (size_t)v->kept.group, ring;
    if (!radar_mul(lists, most_votes(kv), &votes) ||
        !radar_mul((size_t)kv->layers * (size_t)kv->D, heads, &ring))
        return false;
    v->layer = radar_alloc_array((size_t)kv->layers, sizeof *v->layer);
    v->q = radar_alloc_array(ring, sizeof *v->q);
    v->root = radar_alloc_array((size_t)kv->layers * heads, 2 * sizeof *v->root);
    v->position = radar_alloc_array(heads, sizeof *v->position);
    v->vote = radar_alloc_array(votes, sizeof *v->vote);
    v->line = radar_alloc_array((size_t)kv->context + 2 * REACH, sizeof *v->line);
    v->key = radar_alloc_array(RADAR_SIEVE_ROOM(keep), sizeof *v->key);
    v->task = radar_alloc_array(lists * (size_t)kv->n_shards, sizeof *v->task);
    return v->layer && v->q && v->root && v->position && v->vote && v->line && v->key && v->task;
}

static double snapkv_bytes(const radar_policy_shape *shape) {
    const radar_kvcache *kv = shape->kv;
    const int64_t keep = prompt_tokens(kv, shape->attention, kv->context - 1);
    const double lists = radar_kept_lists(kv, shape->attention, shape->n_heads),
                 heads = (double)kv->layers * (double)shape->attention->observe * shape->n_heads;
    return radar_kept_bytes(shape, keep) + sizeof(float) * (lists + 1) * (double)most_votes(kv) +
           heads * (kv->D + 2) * sizeof(float) + (double)RADAR_SIEVE_ROOM(keep) * sizeof(uint64_t);
}

static radar_status snapkv_open(void **state, const radar_policy_shape *shape, radar_error *err) {
    const radar_kvcache *kv = shape->kv;
    const int64_t keep = prompt_tokens(kv, shape->attention, kv->context - 1);
    const int lists = radar_kept_lists(kv, shape->attention, shape->n_heads);
    const double bytes = sizeof(float) * (double)(lists + 1) * (double)most_votes(kv);
    snapkv *v = radar_alloc(sizeof *v);
    if (!v) return radar_fail(err, RADAR_ERR_MEMORY, "attention 'snapkv': no memory");
    v->shape = *kv;
    v->observe = (int)shape->attention->observe;
    v->mark = -1;
    radar_status st = radar_kept_open(&v->kept, "snapkv", shape, keep, bytes, err);
    if (st == RADAR_OK && !reserve(v, keep))
        st = radar_fail(
            err, RADAR_ERR_MEMORY,
            "attention 'snapkv': no memory for %.0f bytes of votes; use a smaller --ctx", bytes);
    if (st == RADAR_OK)
        *state = v;
    else
        snapkv_close(v);
    return st;
}

/* The ring is the prefill's alone, so the vote can be taken again. */
static bool snapkv_rewind(void *state, int64_t position) {
    snapkv *v = state;
    if (position != 0 && position != v->mark) return false;
    for (int layer = 0; layer < v->shape.layers; layer++) {
        v->layer[layer].voted = false;
        v->layer[layer].seen = position;
        if (position == 0) v->layer[layer].begin = 0;
    }
    v->mark = -1;
    return true;
}

/* ---- the ring ---- */

/* Heads of all rows of the ring before those of KV head g. */
static size_t ring_heads(const snapkv *v, int layer, int g) {
    return ((size_t)layer * (size_t)v->shape.kv_heads + (size_t)g) * (size_t)v->observe *
           (size_t)v->kept.group;
}

static void store_row(const radar_select *s, snapkv *v, int row) {
    const size_t group = (size_t)v->kept.group, D = (size_t)s->kv->D;
    const size_t place = (size_t)(s->position[row] % v->observe) * group;
    for (int g = 0; g < s->kv->kv_heads; g++) {
        size_t at = ring_heads(v, s->layer, g) + place,
               from = ((size_t)g * (size_t)s->n_rows + (size_t)row) * group;
        memcpy(v->q + at * D, s->q + from * D, group * D * sizeof *v->q);
        for (size_t h = 0; h < group; h++)
            memcpy(v->root + 2 * (at + h), radar_select_root(s, g, row * (int)group + (int)h),
                   2 * sizeof *v->root);
    }
}

static radar_status snapkv_attended(radar_select *s) {
    snapkv *v = s->state;
    progress *p = &v->layer[s->layer];
    if (s->position[0] != p->seen) return RADAR_OK; /* after rows of another attention: of no use */
    p->seen += s->n_rows;
    if (!s->prefill) return RADAR_OK;
    if (p->voted) p->begin = s->position[0], p->voted = false;
    v->mark = -1;
    for (int row = (int)radar_max64(0, s->n_rows - v->observe); row < s->n_rows; row++)
        store_row(s, v, row);
    return RADAR_OK;
}

/* ---- the vote ---- */

/* Where the votes of each shard begin, those of one list behind those of another; by rank they lie side by side. */
typedef struct places {
    size_t base[RADAR_MAX_SHARDS + 1], slots[RADAR_MAX_SHARDS];
} places;

static places place_votes(const snapkv *v, int64_t end) {
    const radar_layout *l = &v->shape.layout;
    places at = {0};
    for (int shard = 0; shard < l->shards; shard++) {
        int64_t segments = radar_ceil_div(radar_shard_tokens(l, shard, end), RADAR_SEGMENT);
        at.slots[shard] = (size_t)segments * RADAR_SEGMENT;
        at.base[shard + 1] = at.base[shard] + (size_t)v->kept.lists * at.slots[shard];
    }
    return at;
}

/* Rows [first, first + n) of the ring, side by side there, vote for the own tokens that have places. */
static void weigh_rows(const radar_select *s, snapkv *v, const places *at, int first, int n) {
    const size_t heads = ring_heads(v, s->layer, 0);
    const radar_kept_queries rows = {.q = v->q + heads * (size_t)s->kv->D,
                                     .root = v->root + 2 * heads,
                                     .root_size = 2,
                                     .room = v->observe,
                                     .first = first,
                                     .n = n,
                                     .position = v->position,
                                     .head_position = v->position};
    int tasks = 0;
    for (int list = 0; list < v->kept.lists; list++) {
        for (int i = 0; i < s->kv->n_shards; i++) {
            int shard = s->kv->first_shard + i;
            radar_weigh_task *task = &v->task[tasks++];
            *task = radar_kept_weigh(s, &v->kept, &rows, list, i);
            task->items.item = v->kept.all;
            task->items.n = (int)(at->slots[shard] / RADAR_SEGMENT);
            task->weight = v->vote + at->base[shard] + (size_t)list * at->slots[shard];
        }
    }
    s->kv->be->ops->weigh(s->kv->be, v->task, tasks, 1.0f / sqrtf((float)s->kv->D));
}

/* Votes of the last n rows before `now`, ascending, for every token before `end`; those of all ranks. */
static radar_status collect_votes(const radar_select *s, snapkv *v, const places *at, int64_t now,
                                  int n) {
    size_t bytes[RADAR_MAX_SHARDS], offset[RADAR_MAX_SHARDS];
    const radar_layout *l = &s->kv->layout;
    const int first = (int)((now - n) % v->observe),
              straight = (int)radar_min64(n, v->observe - first);
    for (int r = 0; r < l->ranks; r++) {
        size_t begin = at->base[radar_first_shard(l, r)];
        offset[r] = begin * sizeof *v->vote;
        bytes[r] = (at->base[radar_first_shard(l, r + 1)] - begin) * sizeof *v->vote;
    }
    memset((char *)v->vote + offset[s->comm->rank], 0, bytes[s->comm->rank]);
    for (int i = 0; i < n * v->kept.group; i++) v->position[i] = now;
    weigh_rows(s, v, at, first, straight);
    if (straight < n) weigh_rows(s, v, at, 0, n - straight);
    return radar_gather(s->comm, RADAR_X2_TOPK, v->vote, bytes, offset, s->err);
}

/* One list's votes in the order of positions. */
static void straighten(const snapkv *v, const places *at, int list, int64_t end) {
    const radar_layout *l = &v->shape.layout;
    memset(v->line, 0, REACH * sizeof *v->line);
    for (int64_t p = 0, n; p < end; p += n) {
        int shard = radar_shard_of(l, p);
        const float *from = v->vote + at->base[shard] + (size_t)list * at->slots[shard];
        n = radar_min64(end - p, l->stripe);
        memcpy(v->line + REACH + p, from + radar_slot_of(l, p), (size_t)n * sizeof *from);
    }
    memset(v->line + REACH + end, 0, REACH * sizeof *v->line);
}

static uint64_t key_of(const snapkv *v, int64_t position) {
    const float *x = v->line + position;
    return radar_topk_key((x[0] + x[1] + x[2] + x[3] + x[4]) / (2 * REACH + 1), (uint32_t)position);
}

/* Of tokens before `end` the `keep` with the largest pooled votes, as every rank finds them; own ones are listed. */
static void choose(const radar_select *s, snapkv *v, int list, int64_t end, int keep) {
    radar_sieve sieve = radar_sieve_begin(v->key, keep);
    for (int64_t p = 0; p < end; p++) radar_sieve_offer(&sieve, key_of(v, p));
    radar_sieve_cut(&sieve);
    radar_kept_token *token = radar_kept_tokens(&v->kept, s->layer, list);
    int64_t n = 0;
    radar_kept_run run;
    for (int64_t p = 0; radar_kept_next_run(s->kv, p, end, &run); p = run.end)
        for (int64_t i = run.begin; i < run.end; i++)
            if (key_of(v, i) >= sieve.bar)
                token[n++] = (radar_kept_token){(uint32_t)i, (uint32_t)(run.index + i - run.begin)};
    *radar_kept_count(&v->kept, s->layer, list) = n;
}

static radar_status take_vote(radar_select *s, snapkv *v) {
    progress *p = &v->layer[s->layer];
    const int64_t now = s->position[0];
    const int n = (int)radar_min64(v->observe, now - p->begin);
    const int64_t end = now - n, keep = radar_max64(prompt_tokens(s->kv, s->attention, now) - n, 0);
    const places at = place_votes(v, end);
    radar_status st = collect_votes(s, v, &at, now, n);
    if (st != RADAR_OK) return st;
    for (int list = 0; list < v->kept.lists; list++) {
        straighten(v, &at, list, end);
        choose(s, v, list, end, (int)keep);
    }
    p->from = end;
    p->voted = true;
    v->mark = now;
    return RADAR_OK;
}

static radar_status snapkv_select(radar_select *s) {
    snapkv *v = s->state;
    if (!v->layer[s->layer].voted) {
        radar_status st = take_vote(s, v);
        if (st != RADAR_OK) return st;
    }
    radar_kept_plan(s, &v->kept, v->layer[s->layer].from);
    return RADAR_OK;
}

const radar_policy radar_policy_snapkv = {
    .name = "snapkv",
    .room = snapkv_room,
    .select = snapkv_select,
    .sees_prompt = true,
    .open = snapkv_open,
    .close = snapkv_close,
    .attended = snapkv_attended,
    .rewind = snapkv_rewind,
    .bytes = snapkv_bytes,
};
