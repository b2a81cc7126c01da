#include "runtime/kvcache.h"

#include <string.h>

#include "runtime/sys.h"

static bool is_q8(const radar_kvcache *kv) { return kv->type == RADAR_Q8; }

/* Bytes of one scored segment's summary, and how many longer ones there are beside so many of 16 tokens. */
static size_t segment_bytes(const radar_kvcache *kv) {
    return kv->block_bytes / RADAR_BLOCK_SEGMENTS;
}
static size_t longer(const radar_kvcache *kv, size_t segments) {
    return segments - (segments >> kv->levels);
}

/* Of one allocation each: keys, values; of q8 and fp8 both scales; of q8 centres, keys and values of the tail. */
typedef struct parts {
    size_t half, scale, centre, tail;
} parts;

/* `rows`: (layer, KV head, token) of this rank.  False when the numbers overflow. */
static bool parts_of(const radar_kvcache *kv, size_t rows, parts *p) {
    size_t D = (size_t)kv->D, heads = (size_t)kv->layers * (size_t)kv->kv_heads;
    *p = (parts){0};
    if (!radar_mul(rows, D * radar_dtype_block_bytes(kv->type), &p->half)) return false;
    if (kv->type == RADAR_FP8) return radar_mul(rows, 2 * sizeof(float), &p->scale);
    if (!is_q8(kv)) return true;
    return radar_mul(rows, 2 * sizeof(uint16_t), &p->scale) &&
           radar_mul(rows / RADAR_BLOCK, radar_kv_centre_bytes(kv->D), &p->centre) &&
           radar_mul(heads, (size_t)kv->tail_before[kv->n_shards], &p->tail) &&
           radar_mul(p->tail, 2 * D * sizeof(uint16_t), &p->tail);
}

static bool kv_bytes(const parts *p, size_t *bytes) {
    return radar_mul(p->half, 2, bytes) && radar_add(*bytes, p->scale, bytes) &&
           radar_add(*bytes, p->centre, bytes) && radar_add(*bytes, p->tail, bytes);
}

static size_t rows_of(const radar_kvcache *kv) {
    return (size_t)kv->layers * (size_t)kv->rank_tokens * (size_t)kv->kv_heads;
}

/* Keys and values, and summaries: of all blocks, and behind them those of longer segments; false when the numbers overflow. */
static bool reserved_bytes(const radar_kvcache *kv, size_t *bytes, size_t *summary) {
    size_t rows, merged;
    parts p;
    if (!radar_mul((size_t)kv->layers, (size_t)kv->rank_tokens, &rows) ||
        !radar_mul(rows, (size_t)kv->kv_heads, &rows))
        return false;
    return parts_of(kv, rows, &p) && kv_bytes(&p, bytes) &&
           radar_mul(rows / RADAR_BLOCK, kv->block_bytes, summary) &&
           radar_mul(longer(kv, rows / RADAR_SEGMENT), segment_bytes(kv), &merged) &&
           radar_add(*summary, merged, summary);
}

/* The tail holds what any row of a pass reads as f16, and what the pass appends: RADAR_Q8_LATEST tokens, up to 2 blocks that
 * are not whole, the rows; as many again, so that going back by so many finds what a prefill there reads from the beginning of
 * its chunk; one stripe more, as it may begin anywhere in one. */
static void plan_tail(radar_kvcache *kv) {
    const radar_layout *l = &kv->layout;
    int64_t tokens = RADAR_Q8_LATEST + 2 * RADAR_BLOCK + 2 * kv->pass_rows;
    int64_t stripes = radar_ceil_div(tokens, l->stripe) + 1;
    kv->shard_ring = radar_ceil_div(stripes, l->shards) * l->stripe;
    kv->ring = kv->shard_ring * l->shards;
    kv->tail_before[0] = 0;
    for (int i = 0; i < kv->n_shards; i++)
        kv->tail_before[i + 1] = kv->tail_before[i] + radar_min64(kv->shard_ring, kv->capacity[i]);
}

radar_status radar_kvcache_plan(radar_kvcache *kv, radar_error *err) {
    kv->first_shard = radar_first_shard(&kv->layout, kv->rank);
    kv->n_shards = radar_first_shard(&kv->layout, kv->rank + 1) - kv->first_shard;
    kv->rank_tokens = 0;
    for (int i = 0; i < kv->n_shards; i++) {
        kv->capacity[i] = radar_shard_capacity(&kv->layout, kv->first_shard + i, kv->context);
        kv->before[i] = kv->rank_tokens;
        kv->rank_tokens += kv->capacity[i];
        if (kv->capacity[i] > INT32_MAX) /* slots and segments of a shard are counted in 32 bits */
            return radar_fail(err, RADAR_ERR_CONFIG,
                              "context of %lld tokens: too long for %d shards; raise --shards",
                              (long long)kv->context, kv->layout.shards);
    }
    if (is_q8(kv)) plan_tail(kv);
    if (!reserved_bytes(kv, &kv->bytes, &kv->summary_bytes))
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "context of %lld tokens: its size overflows; use a smaller --ctx",
                          (long long)kv->context);
    return RADAR_OK;
}

static void *reserve(radar_kvcache *kv, size_t bytes, bool *ok) {
    if (bytes == 0) return NULL;
    void *p = kv->be->ops->alloc(kv->be, bytes);
    *ok = *ok && p;
    return p;
}

radar_status radar_kvcache_open_summaries(radar_kvcache *kv, radar_error *err) {
    bool ok = true;
    kv->summary = reserve(kv, kv->summary_bytes, &ok);
    if (ok) return RADAR_OK;
    return radar_fail(err, RADAR_ERR_MEMORY,
                      "summaries: no memory for %zu bytes; use a smaller --ctx", kv->summary_bytes);
}

void radar_kvcache_close_summaries(radar_kvcache *kv) {
    kv->be->ops->release(kv->be, kv->summary);
    kv->summary = NULL;
}

radar_status radar_kvcache_open(radar_kvcache *kv, radar_error *err) {
    bool ok = true;
    parts p;
    ok = parts_of(kv, rows_of(kv), &p);
    kv->k = reserve(kv, p.half, &ok);
    kv->v = reserve(kv, p.half, &ok);
    kv->scale = reserve(kv, p.scale, &ok);
    kv->centre = reserve(kv, p.centre, &ok);
    kv->tail = reserve(kv, p.tail, &ok);
    kv->summary = reserve(kv, kv->summary_bytes, &ok);
    kv->sealed = radar_alloc_array((size_t)kv->layers, sizeof *kv->sealed);
    kv->view = radar_alloc_array((size_t)kv->kv_heads, sizeof *kv->view);
    if (ok && kv->sealed && kv->view) return RADAR_OK;
    radar_kvcache_close(kv);
    return radar_fail(
        err, RADAR_ERR_MEMORY,
        "KV cache: no memory for %zu + %zu bytes; use a smaller --ctx or --kv-type %s", kv->bytes,
        kv->summary_bytes, kv->type == RADAR_F32 ? "f16" : "q8");
}

void radar_kvcache_close(radar_kvcache *kv) {
    if (!kv->be) return;
    char **const all[] = {&kv->k, &kv->v, &kv->scale, &kv->centre, &kv->tail};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        kv->be->ops->release(kv->be, *all[i]);
        *all[i] = NULL;
    }
    radar_kvcache_close_summaries(kv);
    radar_free(kv->sealed);
    radar_free(kv->view);
    kv->sealed = NULL;
    kv->view = NULL;
}

/* Summaries of longer segments of what begins behind `token` tokens of this rank's memory. */
static char *merged_at(const radar_kvcache *kv, size_t token) {
    if (!kv->summary || kv->levels == 0) return NULL;
    size_t tokens = (size_t)kv->layers * (size_t)kv->rank_tokens * (size_t)kv->kv_heads;
    return kv->summary + tokens / RADAR_BLOCK * kv->block_bytes +
           longer(kv, token / RADAR_SEGMENT) * segment_bytes(kv);
}

/* What q8 has beside k and v; `token`: as in radar_kvcache_view. */
static void view_q8(radar_kv_view *view, const radar_kvcache *kv, size_t token, int layer, int head,
                    int i) {
    size_t G = (size_t)kv->kv_heads, D = (size_t)kv->D, rows = rows_of(kv),
           heads = (size_t)kv->layers * G, all = (size_t)kv->tail_before[kv->n_shards];
    int64_t ring = kv->tail_before[i + 1] - kv->tail_before[i];
    size_t at =
        ((size_t)layer * all + (size_t)kv->tail_before[i]) * G + (size_t)head * (size_t)ring;
    view->k_scale = (uint16_t *)kv->scale + token;
    view->v_scale = view->k_scale + rows;
    view->centre = kv->centre + token / RADAR_BLOCK * radar_kv_centre_bytes(kv->D);
    view->tail_k = (uint16_t *)kv->tail + at * D;
    view->tail_v = view->tail_k + heads * all * D;
    view->tail_begin = kv->tail_begin[i];
    view->tail_segments = (int32_t)(ring / RADAR_SEGMENT);
}

/* Memory order: layer, own shard, KV head, token. */
radar_kv_view radar_kvcache_view(const radar_kvcache *kv, int layer, int head, int i) {
    size_t token =
        ((size_t)layer * (size_t)kv->rank_tokens + (size_t)kv->before[i]) * (size_t)kv->kv_heads +
        (size_t)head * (size_t)kv->capacity[i];
    size_t offset = token * (size_t)kv->D * radar_dtype_block_bytes(kv->type);
    radar_kv_view view = {
        .type = kv->type,
        .D = kv->D,
        .k = kv->k ? kv->k + offset : NULL,
        .v = kv->v ? kv->v + offset : NULL,
        .summary = kv->summary ? kv->summary + token / RADAR_BLOCK * kv->block_bytes : NULL,
        .block_bytes = kv->block_bytes,
        .merged = merged_at(kv, token),
        .segments = (int32_t)(kv->capacity[i] / RADAR_SEGMENT),
        .stripe_segments = kv->layout.stripe / RADAR_SEGMENT,
        .shards = kv->layout.shards,
        .phase = radar_bit_reverse(kv->first_shard + i, kv->layout.shards),
    };
    if (kv->type == RADAR_FP8) {
        view.key_scale = (float *)(void *)kv->scale + token;
        view.value_scale = view.key_scale + rows_of(kv);
    }
    if (is_q8(kv) && kv->k) view_q8(&view, kv, token, layer, head, i);
    return view;
}

const radar_kv_view *radar_kvcache_views(const radar_kvcache *kv, int layer, int i) {
    for (int head = 0; head < kv->kv_heads; head++)
        kv->view[head] = radar_kvcache_view(kv, layer, head, i);
    return kv->view;
}

/* The first position that a pass beginning at `position` reads from the tail. */
static int64_t tail_start(int64_t position) {
    int64_t whole = position / RADAR_BLOCK * RADAR_BLOCK;
    return radar_sealed_blocks(whole, RADAR_Q8_LATEST) * RADAR_BLOCK;
}

void radar_kvcache_begin(radar_kvcache *kv, int64_t position) {
    if (!is_q8(kv)) return;
    for (int i = 0; i < kv->n_shards; i++)
        kv->tail_begin[i] =
            (int32_t)(radar_shard_tokens(&kv->layout, kv->first_shard + i, tail_start(position)) /
                      RADAR_SEGMENT);
}

/* Stripe i lies in the tail where stripe i + ring / stripe will. */
static void note_tail(radar_kvcache *kv, int64_t end) {
    int64_t stripe = kv->layout.stripe;
    int64_t from = radar_ceil_div(end, stripe) * stripe - kv->ring;
    kv->tail_from = radar_max64(kv->tail_from, from);
}

/* Consecutive tokens of own shard i in one stripe: position of the first, k and v of its row. */
static void append_run(radar_kvcache *kv, int layer, int i, int32_t *slot, const float *k,
                       const float *v, int64_t position, int n) {
    size_t row = (size_t)kv->kv_heads * (size_t)kv->D;
    int64_t base = radar_slot_of(&kv->layout, position);
    for (int j = 0; j < n; j++) slot[j] = (int32_t)(base + j);
    kv->be->ops->append(kv->be, radar_kvcache_views(kv, layer, i), kv->kv_heads, slot, k, v, row,
                        n);
}

void radar_kvcache_append(radar_kvcache *kv, int layer, int64_t first, int n, const float *k,
                          const float *v, int32_t *slot) {
    size_t row = (size_t)kv->kv_heads * (size_t)kv->D;
    for (int begin = 0, end; begin < n;
         begin = end) { /* one stripe at a time: consecutive tokens of one shard */
        int64_t position = first + begin;
        end = (int)radar_min64(n, (position / kv->layout.stripe + 1) * kv->layout.stripe - first);
        int i = radar_shard_of(&kv->layout, position) - kv->first_shard;
        if (i < 0 || i >= kv->n_shards) continue;
        append_run(kv, layer, i, slot, k + (size_t)begin * row, v + (size_t)begin * row, position,
                   end - begin);
    }
    if (is_q8(kv)) note_tail(kv, first + n);
}

void radar_kvcache_seal(radar_kvcache *kv, const radar_scorer *scorer, int layer, int64_t t,
                        int64_t window) {
    int64_t due = radar_sealed_blocks(t, window), done = kv->sealed[layer];
    if (due <= done) return;
    kv->sealed[layer] = due;
    if (kv->block_bytes == 0) return;
    for (int i = 0; i < kv->n_shards; i++) {
        int shard = kv->first_shard + i;
        int64_t begin = radar_shard_tokens(&kv->layout, shard, done * RADAR_BLOCK) / RADAR_BLOCK;
        int64_t end = radar_shard_tokens(&kv->layout, shard, due * RADAR_BLOCK) / RADAR_BLOCK;
        if (begin == end) continue;
        const radar_kv_view *view = radar_kvcache_views(kv, layer, i);
        kv->be->ops->seal(kv->be, scorer, view, kv->kv_heads, (int32_t)begin, (int)(end - begin));
        if (kv->levels)
            kv->be->ops->unite(kv->be, scorer, view, kv->kv_heads, kv->levels, (int32_t)begin,
                               (int32_t)end);
    }
}

/* q8: positions [begin, end), whole blocks that are packed, go back into the tail. */
static void restore_tail(radar_kvcache *kv, int64_t begin, int64_t end) {
    for (int i = 0; i < kv->n_shards; i++) {
        int shard = kv->first_shard + i;
        int32_t first = (int32_t)(radar_shard_tokens(&kv->layout, shard, begin) / RADAR_SEGMENT),
                last = (int32_t)(radar_shard_tokens(&kv->layout, shard, end) / RADAR_SEGMENT);
        for (int layer = 0; layer < kv->layers && first < last; layer++) {
            for (int head = 0; head < kv->kv_heads; head++) {
                radar_kv_view view = radar_kvcache_view(kv, layer, head, i);
                kv->be->ops->restore(kv->be, &view, first, last);
            }
        }
    }
}

void radar_kvcache_truncate(radar_kvcache *kv, int64_t t, int64_t window) {
    int64_t keep = radar_sealed_blocks(t, window);
    for (int layer = 0; layer < kv->layers; layer++)
        kv->sealed[layer] = radar_min64(kv->sealed[layer], keep);
}

void radar_kvcache_restore(radar_kvcache *kv, int64_t next, int64_t t) {
    if (!is_q8(kv) || tail_start(next) >= kv->tail_from) return;
    int64_t end = radar_ceil_div(t, RADAR_BLOCK) * RADAR_BLOCK;
    restore_tail(kv, tail_start(next), radar_min64(kv->tail_from, end));
    kv->tail_from = tail_start(next);
}
