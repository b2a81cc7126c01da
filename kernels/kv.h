/* kv.h - how one shard of the cache lies in memory, for one layer and one KV head.
 *
 * The unit is the segment of 16 tokens.  Keys of a segment are stored dimension by dimension, so that one vector
 * register holds one dimension of 16 keys and a tile of logits needs no shuffle; values token by token:
 *   k [S, D, 16]   v [S, 16, D]   in `type`        summary [blocks, block_bytes]   (a block = 4 segments = 64 tokens)
 * A slot is the index of a token in this storage: segment * 16 + token.  Slots of later positions come later.
 *
 * q8 keeps complete blocks as int8 with one scale a token, and the latest tokens as f16 beside them:
 *   key    z = H (k - mu), mu the mean of the block's 64 keys, H the rotation of rotate.h with fixed signs;  z ~ k_scale q
 *   k [S, D / 4, 16, 4] int8: dword t of group d holds dimensions 4 d .. 4 d + 3 of token t     k_scale f16 [S, 16]
 *   v [S, 4, D, 4] int8: dword d of group t holds dimension d of tokens 4 t .. 4 t + 3          v_scale f16 [S, 16]
 *   centre [S / 4] of radar_kv_centre_bytes: {int8 mu[D], f32 scale of mu}
 * q . k = q . mu + (H q) . z.  D is a multiple of 16.  A scale is max|z| / 127 (max|v| / 127) rounded up to f16: no number
 * exceeds 127, an error is at most half a scale.  Every token is first written to the tail, a ring of f16 segments in the order
 * of the other types, at segment % tail_segments; a block is packed into k and v as soon as its last token is there.  A query
 * reads storage segments from tail_begin on from the tail, which holds them, and earlier ones packed: where tail_begin stands is
 * a function of position (kvcache.h), so what a row reads is too. */
#ifndef RADAR_KV_H
#define RADAR_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/dtype.h"

#define RADAR_SEGMENT 16 /* tokens: unit of scoring and attending */
#define RADAR_BLOCK 64   /* tokens: unit of sealing */
#define RADAR_BLOCK_SEGMENTS (RADAR_BLOCK / RADAR_SEGMENT)

typedef struct radar_kv_view {
    radar_dtype type; /* RADAR_F32, RADAR_F16, RADAR_BF16, or RADAR_Q8 */
    int D;
    void *k, *v;
    uint16_t *k_scale, *v_scale; /* q8 only, as are the next three */
    void *centre;
    uint16_t *tail_k, *tail_v;
    int32_t tail_begin, tail_segments;
    float *key_scale, *value_scale; /* FP8 only: [S, 16]; kernels/cuda/kv.h */
    void *summary; /* NULL when the scorer stores nothing or the policy needs none */
    size_t block_bytes;
    /* summaries of longer segments, for kinds that merge: level 1 = 2 segments of 16 tokens [S / 2], level 2 = 4 [S / 4], ... one
     * after the other, segment_bytes of the scorer each; NULL = none */
    void *merged;
    int32_t segments; /* S, capacity of this shard */
    /* absolute position of the first token of storage segment s:
     *   (s / stripe_segments * shards + phase) * stripe_segments * 16 + s % stripe_segments * 16 */
    int32_t stripe_segments, shards, phase;
} radar_kv_view;

static inline int64_t radar_kv_position(const radar_kv_view *kv, int64_t segment) {
    int64_t stripe = segment / kv->stripe_segments * kv->shards + kv->phase;
    return (stripe * kv->stripe_segments + segment % kv->stripe_segments) * RADAR_SEGMENT;
}

static inline size_t radar_kv_centre_bytes(int D) { return (size_t)D + sizeof(float); }

/* q8: whether a query reads this segment packed. */
static inline bool radar_kv_packed(const radar_kv_view *kv, int64_t segment) {
    return kv->type == RADAR_Q8 && segment < kv->tail_begin;
}

/* [this rank] Keys and values of one storage segment as a query reads them, k [D, 16] and v [16, D] f32; v may be NULL. */
void radar_kv_read(float *k, float *v, const radar_kv_view *kv, int32_t segment);

/* Summaries of segments of unit * 16 tokens, for kinds that merge: [S / unit], block_bytes / 4 each.  S is a multiple of every
 * unit in use, so that the levels before it take S / 2 + S / 4 + ... + 2 S / unit. */
static inline char *radar_kv_summaries(const radar_kv_view *kv, int32_t unit) {
    if (unit == 1) return (char *)kv->summary;
    return (char *)kv->merged + (size_t)(kv->segments - 2 * (kv->segments / unit)) *
                                    (kv->block_bytes / RADAR_BLOCK_SEGMENTS);
}

/* Tokens of a segment at `first` (one bit each) that a query at `position` sees: none behind it. */
static inline uint32_t radar_attended(uint32_t tokens, int64_t first, int64_t position) {
    int64_t n = position - first + 1;
    if (n <= 0) return 0;
    return tokens & (n >= RADAR_SEGMENT ? 0xffffu : (1u << n) - 1);
}

/* append: token i (of n) has key k + i * stride and value v + i * stride, [D] f32 each, and goes to slot[i];
 * values are rounded to the nearest of `type`.  Slots of one call are distinct; for q8 they ascend, within one stripe: f16 goes to
 * the tail, and a block is packed when the call has its last token.
 * restore (q8): storage segments [begin, end) of packed blocks go back into the tail, as near as f16 comes to what was packed. */

#endif
