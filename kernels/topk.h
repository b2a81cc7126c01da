/* topk.h - the k best candidates of a list of scores, as keys that carry score and segment in one integer.
 *   key = order(score) << 32 | (0xffffffff - segment),  order monotonic in the score, NaN -> 0
 * so that one comparison of integers decides: higher score first, equal scores to the lower segment, NaN never.
 * segment is the global number of the segment (position / 16).  Key 0 = no candidate. */
#ifndef RADAR_TOPK_H
#define RADAR_TOPK_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t radar_topk_key(float score, uint32_t segment) {
    uint32_t u;
    if (isnan(score)) return 0;
    memcpy(&u, &score, sizeof u);
    u = u & 0x80000000u ? ~u : u | 0x80000000u;
    return (uint64_t)u << 32 | (0xffffffffu - segment);
}

static inline uint32_t radar_topk_segment(uint64_t key) { return 0xffffffffu - (uint32_t)key; }

/* The `keep` largest keys of key[n], in any order, in place at key[0..]; returns min(n without zero keys, keep).  Selection needs a
 * set, not a ranking: nothing is sorted. */
int radar_topk_select(uint64_t *key, int n, int keep);

/* Which candidates a list takes: Radar's ablations.  What is compared instead of the score:
 * BOTTOM its negative, RANDOM 32 seeded bits of the segment (no replacement), LAST the segment's number. */
typedef enum radar_pick {
    RADAR_PICK_TOP,
    RADAR_PICK_BOTTOM,
    RADAR_PICK_RANDOM,
    RADAR_PICK_LAST
} radar_pick;

/* Scores of storage segments segment_begin, segment_begin + 1, ... of one shard; with a list of *n_listed of them, theirs alone. */
typedef struct radar_topk_range {
    const float *score; /* device; of segment s at score[s - segment_begin] */
    int n;              /* of the range, or with a list: of it at most */
    int32_t segment_begin;
    int32_t phase;           /* of the shard, as in radar_kv_view */
    const int32_t *list;     /* device, NULL, or [n] */
    const int32_t *n_listed; /* device */
} radar_topk_range;

typedef struct radar_topk_task {
    const radar_topk_range
        *range; /* [n_ranges] of different shards: one ranking over all of them */
    int n_ranges;
    int32_t stripe_segments,
        shards; /* as in radar_kv_view: global number = radar_kv_position / 16 */
    radar_pick pick;
    uint64_t
        seed; /* RANDOM: the segment's bits are radar_random(seed, RADAR_STREAM_PICK, segment) */
    int keep;
    uint64_t *scratch; /* device, as many as there are scores */
    /* Out, device: the n = min(keep, scores without NaN) best, in any order; each NULL: not wanted */
    uint64_t *key; /* [keep] n keys, then zeros; may be scratch */
    int32_t *
        segment; /* [keep] what radar_topk_segment() gives of them; the rest is left in any state */
    int32_t *n_kept; /* n */
} radar_topk_task;

static inline int radar_topk_range_count(const radar_topk_range *r) {
    return r->list ? *r->n_listed : r->n;
}

#endif
