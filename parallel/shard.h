/* shard.h - who owns what: pure integers, no memory, no messages.
 *
 * Work is cut into N shards (N a power of two, N >= P) that do not know how many ranks there are.  Rank r of P owns shards
 * [r N / P, (r + 1) N / P).  Tokens are dealt in stripes: stripe i belongs to shard bitrev(i mod N), so that short contexts
 * spread over all ranks.  Rows of matrices are cut into N slices at multiples of a block; slices may be empty. */
#ifndef RADAR_SHARD_H
#define RADAR_SHARD_H

#include <stdbool.h>
#include <stdint.h>

#define RADAR_MAX_SHARDS 64

typedef struct radar_layout {
    int shards;     /* N */
    int stripe;     /* tokens, a multiple of 64 */
    int ranks;      /* P */
} radar_layout;

bool radar_layout_valid(const radar_layout *l); /* N a power of two in [1, 64], P in [1, N], stripe a multiple of 64 in [64, 65536] */

static inline int radar_first_shard(const radar_layout *l, int rank) { return (int)((int64_t)rank * l->shards / l->ranks); }
int radar_shard_owner(const radar_layout *l, int shard);

/* ---- tokens ---- */

int radar_bit_reverse(int i, int n);                                        /* n a power of two: reverses the log2(n) low bits of i */
int radar_shard_of(const radar_layout *l, int64_t position);
int64_t radar_slot_of(const radar_layout *l, int64_t position);             /* index among the tokens of its shard */
int64_t radar_shard_tokens(const radar_layout *l, int shard, int64_t tokens);   /* how many of positions [0, tokens) the shard holds */
int64_t radar_shard_capacity(const radar_layout *l, int shard, int64_t context); /* the same in whole stripes */
int64_t radar_position_of(const radar_layout *l, int shard, int64_t slot);

/* ---- rows and columns ---- */

/* Slice i of N of [0, total): whole blocks [i B / N, (i + 1) B / N), B = ceil(total / block); the last block may be short. */
void radar_slice(int64_t total, int64_t block, int shards, int i, int64_t *begin, int64_t *end);
/* The slices of a rank's shards together. */
void radar_rank_slice(const radar_layout *l, int rank, int64_t total, int64_t block, int64_t *begin, int64_t *end);

/* ---- the tree: always the N pieces in the same binary tree (((0,1),(2,3)),((4,5),(6,7))) ---- */

/* A maximal subtree of a rank's pieces: pieces [first, first + count), count a power of two that divides first. */
typedef struct radar_subtree { int first, count; } radar_subtree;
/* Fills the rank's maximal subtrees in ascending order; returns how many (<= 2 log2 N). */
int radar_subtrees(const radar_layout *l, int rank, radar_subtree out[2 * RADAR_MAX_SHARDS]);

/* Merges pieces [first, first + count) in place in tree order: calls merge(user, a, b) with a := a + b for piece numbers a < b; the result is at `first`. */
void radar_tree(int first, int count, void (*merge)(void *user, int a, int b), void *user);

#endif
