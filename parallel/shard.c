#include "parallel/shard.h"

#include "runtime/base.h"

bool radar_layout_valid(const radar_layout *l) {
    return l->shards >= 1 && l->shards <= RADAR_MAX_SHARDS && (l->shards & (l->shards - 1)) == 0 &&
           l->ranks >= 1 && l->ranks <= l->shards && l->stripe >= 64 && l->stripe <= 65536 &&
           l->stripe % 64 == 0;
}

/* The last rank r with floor(r N / P) <= shard: the largest r with r N < (shard + 1) P. */
int radar_shard_owner(const radar_layout *l, int shard) {
    return ((shard + 1) * l->ranks - 1) / l->shards;
}

/* ---- tokens ---- */

int radar_bit_reverse(int i, int n) {
    int reversed = 0;
    for (; n > 1; n >>= 1, i >>= 1) reversed = (reversed << 1) | (i & 1);
    return reversed;
}

int radar_shard_of(const radar_layout *l, int64_t position) {
    return radar_bit_reverse((int)(position / l->stripe % l->shards), l->shards);
}

int64_t radar_slot_of(const radar_layout *l, int64_t position) {
    return position / l->stripe / l->shards * l->stripe + position % l->stripe;
}

/* How many of stripes [0, stripes) are dealt to the shard: those that are `turn` mod N. */
static int64_t stripes_of(const radar_layout *l, int turn, int64_t stripes) {
    return stripes / l->shards + (stripes % l->shards > turn);
}

int64_t radar_shard_tokens(const radar_layout *l, int shard, int64_t tokens) {
    int turn = radar_bit_reverse(shard, l->shards); /* its own inverse */
    int64_t whole = tokens / l->stripe, rest = tokens % l->stripe;
    return stripes_of(l, turn, whole) * l->stripe + (whole % l->shards == turn ? rest : 0);
}

int64_t radar_shard_capacity(const radar_layout *l, int shard, int64_t context) {
    int64_t stripes = context / l->stripe + (context % l->stripe != 0);
    return stripes_of(l, radar_bit_reverse(shard, l->shards), stripes) * l->stripe;
}

int64_t radar_position_of(const radar_layout *l, int shard, int64_t slot) {
    int64_t stripe = slot / l->stripe * l->shards + radar_bit_reverse(shard, l->shards);
    return stripe * l->stripe + slot % l->stripe;
}

/* ---- rows and columns ---- */

static int64_t slice_edge(int64_t total, int64_t block, int shards, int i) {
    int64_t blocks = radar_ceil_div(total, block);
    return radar_min64(blocks * i / shards * block, total);
}

void radar_slice(int64_t total, int64_t block, int shards, int i, int64_t *begin, int64_t *end) {
    *begin = slice_edge(total, block, shards, i);
    *end = slice_edge(total, block, shards, i + 1);
}

void radar_rank_slice(const radar_layout *l, int rank, int64_t total, int64_t block, int64_t *begin,
                      int64_t *end) {
    *begin = slice_edge(total, block, l->shards, radar_first_shard(l, rank));
    *end = slice_edge(total, block, l->shards, radar_first_shard(l, rank + 1));
}

/* ---- the tree ---- */

int radar_subtrees(const radar_layout *l, int rank, radar_subtree out[RADAR_MAX_SUBTREES]) {
    int first = radar_first_shard(l, rank), end = radar_first_shard(l, rank + 1), n = 0;
    while (first < end) {
        int count = 1;
        while (first % (2 * count) == 0 && first + 2 * count <= end) count *= 2;
        out[n++] = (radar_subtree){first, count};
        first += count;
    }
    return n;
}

void radar_tree(int first, int count, radar_merge merge, void *user) {
    if (count > 1) merge(user, first, count, 1);
}

void radar_tree_of_rank(const radar_layout *l, int rank, radar_merge merge, void *user) {
    radar_subtree tree[RADAR_MAX_SUBTREES];
    int n = radar_subtrees(l, rank, tree);
    for (int i = 0; i < n; i++) radar_tree(tree[i].first, tree[i].count, merge, user);
}

/* A node of the tree is a rank's own where the rank has its first and its last piece. */
void radar_tree_above_ranks(const radar_layout *l, radar_merge merge, void *user) {
    if ((l->ranks & (l->ranks - 1)) == 0) { /* a subtree a rank, all of one size */
        if (l->ranks > 1) merge(user, 0, l->ranks, l->shards / l->ranks);
        return;
    }
    for (int half = 1; half < l->shards; half *= 2)
        for (int a = 0; a < l->shards; a += 2 * half)
            if (radar_shard_owner(l, a) != radar_shard_owner(l, a + 2 * half - 1))
                merge(user, a, 2, half);
}
