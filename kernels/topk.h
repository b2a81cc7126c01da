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

/* The `keep` largest keys of key[n], descending, in place at key[0..]; returns min(n without zero keys, keep). */
int radar_topk_select(uint64_t *key, int n, int keep);

typedef struct radar_topk_task {
    uint64_t *key; /* [n] in: all candidates; out: the best first */
    int n, keep;
    int n_kept;    /* out */
} radar_topk_task;

#endif
