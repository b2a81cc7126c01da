/* bpe.h - byte-pair merging: which pairs of symbols become one, and doing it in the order of their ranks.
 *
 *   while any adjacent pair has a merge: take the one of lowest rank, of those the leftmost; replace it by its result
 *
 * A symbol is a token id.  Ranks need not be unique (SentencePiece scores are not).  Cost: short words O(n^2) on the stack, long
 * ones O(n log n) with a tree of minima over positions, which stays in cache because equal ranks are taken from left to right. */
#ifndef RADAR_BPE_H
#define RADAR_BPE_H

#include "runtime/base.h"

#define RADAR_BPE_NONE UINT32_MAX /* the rank of pairs without merge */

typedef struct radar_merge {
    uint64_t pair; /* left << 32 | right; all ones: a free slot */
    uint32_t rank;
    int32_t made;
} radar_merge;

typedef struct radar_bpe {
    radar_merge *slot; /* open addressing, a power of two, at most half full */
    size_t mask;
    int shift;
} radar_bpe;

/* Room for merges, at most 2^28. */
radar_status radar_bpe_init(radar_bpe *b, size_t n_merges, radar_error *err);
void radar_bpe_free(radar_bpe *b);
/* The last of several merges of one pair counts. */
void radar_bpe_add(radar_bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t made);
/* NULL: the pair has no merge. */
const radar_merge *radar_bpe_find(const radar_bpe *b, int32_t left, int32_t right);

/* What long words need; zeroed before the first use, kept from word to word. */
typedef struct radar_bpe_scratch {
    void *memory;
    size_t bytes;
} radar_bpe_scratch;
void radar_bpe_scratch_free(radar_bpe_scratch *s);

/* Merges symbol[0 .. *n-1] in place; *n becomes the number of symbols left. */
radar_status radar_bpe_merge(const radar_bpe *b, radar_bpe_scratch *s, int32_t *symbol, size_t *n,
                             radar_error *err);

#endif
