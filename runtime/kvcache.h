/* kvcache.h - the key/value cache of one sequence: this rank's shards of it, and the summaries of its sealed blocks.
 *
 * Reserved once for `context` tokens; nothing grows, nothing is evicted.  A block b of 64 tokens is sealed with t tokens in
 * the cache once its last position < t - window; its summary is then made, and made once.  Longer segments are merged from
 * their halves as soon as all of their blocks are sealed, level by level, whichever of them is scored today. */
#ifndef RADAR_KVCACHE_H
#define RADAR_KVCACHE_H

#include "kernels/backend.h"
#include "parallel/shard.h"

typedef struct radar_kvcache {
    radar_backend *be;
    radar_layout layout;
    int rank, first_shard, n_shards; /* own shards [first_shard, first_shard + n_shards) */
    int layers, kv_heads, D;
    radar_dtype type;
    size_t block_bytes;  /* of the scorer; 0 = no summaries */
    int levels;          /* of longer segments: 2, 4, ... 2^levels times 16 tokens; 0 = none */
    int64_t context;     /* tokens of capacity */
    int64_t rank_tokens; /* tokens this rank holds when full, in whole stripes */
    int64_t capacity[RADAR_MAX_SHARDS]; /* tokens of shard first_shard + i */
    int64_t before[RADAR_MAX_SHARDS];   /* tokens of the own shards before it */
    size_t bytes, summary_bytes;        /* reserved on this rank */
    char *k, *v, *summary;
    int64_t *sealed; /* [layers] blocks sealed so far, counted over the whole context */
} radar_kvcache;

/* [this rank] Fills shards and sizes from be, layout, rank, layers, kv_heads, D, type, block_bytes, levels, context; reserves nothing yet. */
/* [this rank] Bytes read to score one segment of a KV head: its summary, or its keys where the scorer keeps none; 0: no scorer. */
size_t radar_kvcache_scored_bytes(const radar_kvcache *kv, const radar_scorer *scorer);
radar_status radar_kvcache_plan(radar_kvcache *kv, radar_error *err);
radar_status radar_kvcache_open(radar_kvcache *kv,
                                radar_error *err); /* [this rank] reserves what was planned */
void radar_kvcache_close(radar_kvcache *kv);       /* [this rank] */
/* [this rank] Only the summaries, as planned; and back. */
radar_status radar_kvcache_open_summaries(radar_kvcache *kv, radar_error *err);
void radar_kvcache_close_summaries(radar_kvcache *kv);

/* own shard i (0-based among the rank's) */
radar_kv_view radar_kvcache_view(const radar_kvcache *kv, int layer, int head, int i);
/* [this rank] Stores k, v [n, kv_heads, D] of positions [first, first + n) that belong to this rank. */
void radar_kvcache_append(radar_kvcache *kv, int layer, int64_t first, int n, const float *k,
                          const float *v, int32_t *slot_scratch);
/* [this rank] Seals what is due with t tokens in the cache.  block_scratch: as many as the rank has blocks to seal (<= capacity / 64). */
void radar_kvcache_seal(radar_kvcache *kv, const radar_scorer *scorer, int layer, int64_t t,
                        int64_t window, int32_t *block_scratch);
/* [this rank] Forgets positions from t on. */
void radar_kvcache_truncate(radar_kvcache *kv, int64_t t, int64_t window);

/* Blocks sealed with t tokens in the cache. */
static inline int64_t radar_sealed_blocks(int64_t t, int64_t window) {
    return t > window ? (t - window) / RADAR_BLOCK : 0;
}

#endif
