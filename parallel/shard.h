/* shard.h - who owns what: pure integers, no memory, no messages.
 *
 * Work is cut into N shards (N a power of two, N >= P) that do not know how many ranks there are.  Rank r of P owns shards
 * [r N / P, (r + 1) N / P).  Tokens are dealt in stripes: stripe i belongs to shard bitrev(i mod N), so that short contexts
 * spread over all ranks: of any t tokens a rank holds at most ceil(N / P) / N and one stripe more (two where P is no power of
 * two and N > 8).  Rows of matrices are cut into N slices at multiples of a block; slices may be empty.
 *
 * All functions are [this rank] and expect a valid layout, a shard in [0, N), a rank in [0, P), positions and slots >= 0. */
#ifndef RADAR_SHARD_H
#define RADAR_SHARD_H

#include <stdbool.h>
#include <stdint.h>

#define RADAR_MAX_SHARDS 64
#define RADAR_MAX_SUBTREES 12 /* 2 log2 N */

typedef struct radar_layout {
    int shards; /* N */
    int stripe; /* tokens, a multiple of 64 */
    int ranks;  /* P */
} radar_layout;

/* N a power of two in [1, 64], P in [1, N], stripe a multiple of 64 in [64, 65536]. */
bool radar_layout_valid(const radar_layout *l);

static inline int radar_first_shard(const radar_layout *l, int rank) {
    return (int)((int64_t)rank * l->shards / l->ranks);
}
int radar_shard_owner(const radar_layout *l, int shard);

/* ---- tokens ---- */

/* n a power of two: reverses the log2(n) low bits of i. */
int radar_bit_reverse(int i, int n);
int radar_shard_of(const radar_layout *l, int64_t position);
/* Index among the tokens of its shard, in the order of positions. */
int64_t radar_slot_of(const radar_layout *l, int64_t position);
int64_t radar_position_of(const radar_layout *l, int shard, int64_t slot);
/* How many of positions [0, tokens) the shard holds; and the same in whole stripes. */
int64_t radar_shard_tokens(const radar_layout *l, int shard, int64_t tokens);
int64_t radar_shard_capacity(const radar_layout *l, int shard, int64_t context);

/* ---- rows and columns ---- */

/* Slice i of N of [0, total): whole blocks [i B / N, (i + 1) B / N), B = ceil(total / block); the last block may be short. */
void radar_slice(int64_t total, int64_t block, int shards, int i, int64_t *begin, int64_t *end);
/* The slices of a rank's shards together. */
void radar_rank_slice(const radar_layout *l, int rank, int64_t total, int64_t block, int64_t *begin,
                      int64_t *end);

/* ---- the tree: always the N pieces in the same binary tree (((0,1),(2,3)),((4,5),(6,7))) ---- */

/* A maximal subtree of a rank's pieces: pieces [first, first + count), count a power of two that divides first. */
typedef struct radar_subtree {
    int first, count;
} radar_subtree;
/* Fills the rank's maximal subtrees in ascending order; returns how many. */
int radar_subtrees(const radar_layout *l, int rank, radar_subtree out[RADAR_MAX_SUBTREES]);

/* Merges `count` (a power of two, >= 2) pieces first, first + apart, ... in the fixed tree (((0,1),(2,3)),...) into piece `first`;
 * the others are left in any state.  The operation need not be associative. */
typedef void (*radar_merge)(void *user, int first, int count, int apart);
/* Merges pieces [first, first + count), count a power of two that divides first; the result is at `first`.  At most one call. */
void radar_tree(int first, int count, radar_merge merge, void *user);
/* The same tree in two parts: what a rank can do with its own pieces (results at the `first` of its maximal subtrees), and what is
 * left when the results of all ranks are there (result at 0).  Together they make exactly the merges of radar_tree(0, N), in one call
 * each where P is a power of two. */
void radar_tree_of_rank(const radar_layout *l, int rank, radar_merge merge, void *user);
void radar_tree_above_ranks(const radar_layout *l, radar_merge merge, void *user);

#endif
