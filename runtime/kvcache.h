/* kvcache.h - the key/value cache of one sequence: this rank's shards of it, and the summaries of its sealed blocks.
 *
 * Reserved once for `context` tokens; nothing grows, nothing is evicted.  A block b of 64 tokens is sealed with t tokens in
 * the cache once its last position < t - window; its summary is then made, and made once.  Longer segments are merged from
 * their halves as soon as all of their blocks are sealed, level by level, whichever of them is scored today.
 *
 * q8 (kv.h): what a row reads packed is what lies RADAR_Q8_LATEST tokens before the position at which its pass begins, in whole
 * blocks.  A pass of scored or decoded rows begins at a multiple of 64 tokens, one of prefill at a multiple of the engine's
 * chunk, whether or not rows before it are part of the same call: so a row reads the same in any batch, after any resume and on
 * any number of ranks.  This does not depend on the attention: window, scorer and policy may change over one cache.
 * The tail, in which all tokens begin as f16, holds the latest `ring` tokens of the context, in whole stripes of every shard. */
#ifndef RADAR_KVCACHE_H
#define RADAR_KVCACHE_H

#include "kernels/backend.h"
#include "parallel/shard.h"

#define RADAR_Q8_LATEST 256 /* tokens: the default window */

typedef struct radar_kvcache {
    radar_backend *be;
    radar_layout layout;
    int rank, first_shard, n_shards; /* own shards [first_shard, first_shard + n_shards) */
    int layers, kv_heads, D;
    radar_dtype type;
    size_t block_bytes;  /* of the scorer; 0 = no summaries */
    int levels;          /* of longer segments: 2, 4, ... 2^levels times 16 tokens; 0 = none */
    int64_t context;     /* tokens of capacity */
    int64_t pass_rows;   /* q8: most rows of one pass */
    int64_t rank_tokens; /* tokens this rank holds when full, in whole stripes */
    int64_t capacity[RADAR_MAX_SHARDS]; /* tokens of shard first_shard + i */
    int64_t before[RADAR_MAX_SHARDS];   /* tokens of the own shards before it */
    int64_t ring, shard_ring;           /* q8: tokens of the tail, in all shards and in each */
    int64_t tail_before[RADAR_MAX_SHARDS + 1]; /* q8: tokens of the own shards' tails before it */
    size_t bytes, summary_bytes;               /* reserved on this rank */
    char *k, *v, *summary;
    char *scale;                          /* q8, fp8 */
    char *centre, *tail;                  /* q8 */
    int32_t tail_begin[RADAR_MAX_SHARDS]; /* q8: storage segment from which on the tail is read */
    int64_t tail_from;                    /* q8: positions from here on are in the tail */
    int64_t *sealed;     /* [layers] blocks sealed so far, counted over the whole context */
    radar_kv_view *view; /* [kv_heads] scratch */
} radar_kvcache;

/* [this rank] Fills shards and sizes from be, layout, rank, layers, kv_heads, D, type, block_bytes, levels, context,
 * pass_rows; reserves nothing yet. */
radar_status radar_kvcache_plan(radar_kvcache *kv, radar_error *err);
radar_status radar_kvcache_open(radar_kvcache *kv,
                                radar_error *err); /* [this rank] reserves what was planned */
void radar_kvcache_close(radar_kvcache *kv);       /* [this rank] */
/* [this rank] Only the summaries, as planned; and back. */
radar_status radar_kvcache_open_summaries(radar_kvcache *kv, radar_error *err);
void radar_kvcache_close_summaries(radar_kvcache *kv);

/* own shard i (0-based among the rank's) */
radar_kv_view radar_kvcache_view(const radar_kvcache *kv, int layer, int head, int i);
/* All KV heads of own shard i, until the next call. */
const radar_kv_view *radar_kvcache_views(const radar_kvcache *kv, int layer, int i);
/* [this rank] Before the first layer's append of a pass that begins at `position`, as said above; any type. */
void radar_kvcache_begin(radar_kvcache *kv, int64_t position);
/* [this rank] Stores k, v [n, kv_heads, D] of positions [first, first + n) that belong to this rank. */
void radar_kvcache_append(radar_kvcache *kv, int layer, int64_t first, int n, const float *k,
                          const float *v, int32_t *slot_scratch);
/* [this rank] Seals what is due with t tokens in the cache. */
void radar_kvcache_seal(radar_kvcache *kv, const radar_scorer *scorer, int layer, int64_t t,
                        int64_t window);
/* [this rank] Forgets positions from t on. */
void radar_kvcache_truncate(radar_kvcache *kv, int64_t t, int64_t window);
/* [this rank] q8, after that: the next pass begins at `next` <= t; what it reads as f16 and the tail has lost by now is put back from
 * what was packed. */
void radar_kvcache_restore(radar_kvcache *kv, int64_t next, int64_t t);

/* Bytes of the keys, or of the values, that are read of so many tokens, a multiple of 16. */
static inline int64_t radar_kvcache_key_bytes(const radar_kvcache *kv, int64_t tokens) {
    if (kv->type == RADAR_FP8) return tokens * (kv->D + (int64_t)sizeof(float));
    if (kv->type != RADAR_Q8) return tokens * kv->D * (int64_t)radar_dtype_block_bytes(kv->type);
    return tokens * (kv->D + 2) +
           tokens / RADAR_SEGMENT * (int64_t)radar_kv_centre_bytes(kv->D) / RADAR_BLOCK_SEGMENTS;
}
static inline int64_t radar_kvcache_value_bytes(const radar_kvcache *kv, int64_t tokens) {
    if (kv->type == RADAR_FP8) return radar_kvcache_key_bytes(kv, tokens);
    return tokens *
           (kv->type == RADAR_Q8 ? kv->D + 2 : kv->D * (int64_t)radar_dtype_block_bytes(kv->type));
}

/* Segments of the longest own shard. */
static inline size_t radar_most_segments(const radar_kvcache *kv) {
    int64_t most = 0;
    for (int i = 0; i < kv->n_shards; i++) most = kv->capacity[i] > most ? kv->capacity[i] : most;
    return (size_t)(most / RADAR_SEGMENT);
}

/* Blocks sealed with t tokens in the cache. */
static inline int64_t radar_sealed_blocks(int64_t t, int64_t window) {
    return t > window ? (t - window) / RADAR_BLOCK : 0;
}

#endif
