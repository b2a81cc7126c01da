#include "runtime/kvcache.h"

#include <string.h>

#include "runtime/sys.h"

static size_t element_bytes(const radar_kvcache *kv) { return radar_dtype_block_bytes(kv->type); }

/* Bytes of one scored segment's summary, and how many longer ones there are beside so many of 16 tokens. */
static size_t segment_bytes(const radar_kvcache *kv) {
    return kv->block_bytes / RADAR_BLOCK_SEGMENTS;
}
size_t radar_kvcache_scored_bytes(const radar_kvcache *kv, const radar_scorer *scorer) {
    if (!scorer) return 0;
    return kv->block_bytes > 0 ? segment_bytes(kv)
                               : RADAR_SEGMENT * (size_t)kv->D * element_bytes(kv);
}
static size_t longer(const radar_kvcache *kv, size_t segments) {
    return segments - (segments >> kv->levels);
}

/* Keys and values, and summaries: of all blocks, and behind them those of longer segments; false when the numbers overflow. */
static bool reserved_bytes(const radar_kvcache *kv, size_t *bytes, size_t *summary) {
    size_t rows, row, merged;
    if (!radar_mul((size_t)kv->layers, (size_t)kv->rank_tokens, &rows) ||
        !radar_mul(rows, (size_t)kv->kv_heads, &rows))
        return false;
    row = 2 * (size_t)kv->D * element_bytes(kv);
    return radar_mul(rows, row, bytes) && radar_mul(rows / RADAR_BLOCK, kv->block_bytes, summary) &&
           radar_mul(longer(kv, rows / RADAR_SEGMENT), segment_bytes(kv), &merged) &&
           radar_add(*summary, merged, summary);
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
    kv->k = reserve(kv, kv->bytes / 2, &ok);
    kv->v = reserve(kv, kv->bytes / 2, &ok);
    kv->summary = reserve(kv, kv->summary_bytes, &ok);
    kv->sealed = radar_alloc_array((size_t)kv->layers, sizeof *kv->sealed);
    if (ok && kv->sealed) return RADAR_OK;
    radar_kvcache_close(kv);
    return radar_fail(
        err, RADAR_ERR_MEMORY,
        "KV cache: no memory for %zu + %zu bytes; use a smaller --ctx or --kv-type f16", kv->bytes,
        kv->summary_bytes);
}

void radar_kvcache_close(radar_kvcache *kv) {
    if (!kv->be) return;
    kv->be->ops->release(kv->be, kv->k);
    kv->be->ops->release(kv->be, kv->v);
    radar_kvcache_close_summaries(kv);
    radar_free(kv->sealed);
    kv->k = kv->v = NULL;
    kv->sealed = NULL;
}

/* Summaries of longer segments of what begins behind `token` tokens of this rank's memory. */
static char *merged_at(const radar_kvcache *kv, size_t token) {
    if (!kv->summary || kv->levels == 0) return NULL;
    size_t tokens = (size_t)kv->layers * (size_t)kv->rank_tokens * (size_t)kv->kv_heads;
    return kv->summary + tokens / RADAR_BLOCK * kv->block_bytes +
           longer(kv, token / RADAR_SEGMENT) * segment_bytes(kv);
}

/* Memory order: layer, own shard, KV head, token. */
radar_kv_view radar_kvcache_view(const radar_kvcache *kv, int layer, int head, int i) {
    size_t token =
        ((size_t)layer * (size_t)kv->rank_tokens + (size_t)kv->before[i]) * (size_t)kv->kv_heads +
        (size_t)head * (size_t)kv->capacity[i];
    size_t offset = token * (size_t)kv->D * element_bytes(kv);
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
    return view;
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
        int64_t base = radar_slot_of(&kv->layout, position);
        for (int j = 0; j < end - begin; j++) slot[j] = (int32_t)(base + j);
        for (int head = 0; head < kv->kv_heads; head++) {
            radar_kv_view view = radar_kvcache_view(kv, layer, head, i);
            size_t at = (size_t)begin * row + (size_t)head * (size_t)kv->D;
            kv->be->ops->append(kv->be, &view, slot, k + at, v + at, row, end - begin);
        }
    }
}

/* Blocks [begin, end) of own shard i have been sealed: every longer segment that ends with one of them can be made. */
static void unite_levels(const radar_kvcache *kv, const radar_scorer *scorer,
                         const radar_kv_view *view, int64_t begin, int64_t end) {
    for (int level = 1; level <= kv->levels; level++) {
        int32_t first = (int32_t)(begin * RADAR_BLOCK_SEGMENTS >> level),
                last = (int32_t)(end * RADAR_BLOCK_SEGMENTS >> level);
        kv->be->ops->unite(kv->be, scorer, view, 1 << level, first, last);
    }
}

void radar_kvcache_seal(radar_kvcache *kv, const radar_scorer *scorer, int layer, int64_t t,
                        int64_t window, int32_t *block) {
    int64_t due = radar_sealed_blocks(t, window), done = kv->sealed[layer];
    if (due <= done) return;
    kv->sealed[layer] = due;
    if (kv->block_bytes == 0) return;
    for (int i = 0; i < kv->n_shards; i++) {
        int shard = kv->first_shard + i;
        int64_t begin = radar_shard_tokens(&kv->layout, shard, done * RADAR_BLOCK) / RADAR_BLOCK;
        int64_t end = radar_shard_tokens(&kv->layout, shard, due * RADAR_BLOCK) / RADAR_BLOCK;
        if (begin == end) continue;
        for (int64_t b = begin; b < end; b++) block[b - begin] = (int32_t)b;
        for (int head = 0; head < kv->kv_heads; head++) {
            radar_kv_view view = radar_kvcache_view(kv, layer, head, i);
            kv->be->ops->seal(kv->be, scorer, &view, block, (int)(end - begin));
            unite_levels(kv, scorer, &view, begin, end);
        }
    }
}

void radar_kvcache_truncate(radar_kvcache *kv, int64_t t, int64_t window) {
    int64_t keep = radar_sealed_blocks(t, window);
    for (int layer = 0; layer < kv->layers; layer++)
        kv->sealed[layer] = radar_min64(kv->sealed[layer], keep);
}
