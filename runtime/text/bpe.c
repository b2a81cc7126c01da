#include "runtime/text/bpe.h"

#include <string.h>

#include "runtime/sys.h"

#define EMPTY UINT64_MAX
#define SHORT 32 /* symbols of a word that is merged on the stack */
#define FAN 16   /* children of a node of the tree: one cache line of ranks */
#define LEVELS 16

static uint64_t pair_of(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static size_t first_slot(const radar_bpe *b, uint64_t pair) {
    return (size_t)((pair * 0x9e3779b97f4a7c15u ^ pair >> 29) * 0xbf58476d1ce4e5b9u >> b->shift);
}

radar_status radar_bpe_init(radar_bpe *b, size_t n_merges, radar_error *err) {
    if (n_merges > (size_t)1 << 28)
        return radar_fail(err, RADAR_ERR_DATA,
                          "tokenizer: %zu merges, at most 2^28 are possible; the file is damaged",
                          n_merges);
    int bits = 4;
    while ((size_t)1 << bits < 2 * n_merges) bits++;
    b->slot = radar_alloc_array((size_t)1 << bits, sizeof *b->slot);
    if (!b->slot)
        return radar_fail(err, RADAR_ERR_MEMORY, "tokenizer: no memory for %zu merges", n_merges);
    b->mask = ((size_t)1 << bits) - 1;
    b->shift = 64 - bits;
    for (size_t i = 0; i <= b->mask; i++) b->slot[i].pair = EMPTY;
    return RADAR_OK;
}

void radar_bpe_free(radar_bpe *b) {
    radar_free(b->slot);
    memset(b, 0, sizeof *b);
}

void radar_bpe_add(radar_bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t made) {
    uint64_t pair = pair_of(left, right);
    size_t i = first_slot(b, pair);
    while (b->slot[i].pair != EMPTY && b->slot[i].pair != pair) i = (i + 1) & b->mask;
    b->slot[i] = (radar_merge){pair, rank, made};
}

const radar_merge *radar_bpe_find(const radar_bpe *b, int32_t left, int32_t right) {
    uint64_t pair = pair_of(left, right);
    for (size_t i = first_slot(b, pair);; i = (i + 1) & b->mask) {
        const radar_merge *m = &b->slot[i];
        if (m->pair == pair) return m;
        if (m->pair == EMPTY) return NULL;
    }
}

/* ---- short words: ranks of all pairs in an array, the minimum found by looking at all ---- */

static void look_up(const radar_bpe *b, const int32_t *symbol, uint32_t *rank, int32_t *made,
                    size_t i) {
    const radar_merge *m = radar_bpe_find(b, symbol[i], symbol[i + 1]);
    rank[i] = m ? m->rank : RADAR_BPE_NONE;
    made[i] = m ? m->made : -1;
}

static size_t merge_short(const radar_bpe *b, int32_t *symbol, size_t n) {
    uint32_t rank[SHORT];
    int32_t made[SHORT];
    for (size_t i = 0; i + 1 < n; i++) look_up(b, symbol, rank, made, i);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == RADAR_BPE_NONE) break;
        symbol[best] = made[best];
        n--;
        for (size_t i = best + 1; i < n; i++) {
            symbol[i] = symbol[i + 1];
            rank[i - 1] = rank[i];
            made[i - 1] = made[i];
        }
        if (best + 1 < n) look_up(b, symbol, rank, made, best);
        if (best > 0) look_up(b, symbol, rank, made, best - 1);
    }
    return n;
}

/* ---- long words: a tree whose nodes hold the least rank below them ---- */

typedef struct tree {
    int levels;
    uint32_t *rank
        [LEVELS]; /* [0]: of the pair that begins at each position; then minima of FAN each; the last has FAN entries */
    uint64_t *live; /* a bit for each position that still begins a symbol */
} tree;

static uint32_t least_of(const uint32_t *rank) {
    uint32_t least = rank[0];
    for (int i = 1; i < FAN; i++) least = rank[i] < least ? rank[i] : least;
    return least;
}

static void set_rank(tree *t, size_t i, uint32_t rank) {
    t->rank[0][i] = rank;
    for (int l = 1; l < t->levels; l++) {
        uint32_t least = least_of(t->rank[l - 1] + i / FAN * FAN);
        i /= FAN;
        if (t->rank[l][i] == least) return;
        t->rank[l][i] = least;
    }
}

/* Position of the least rank, the leftmost one; its rank is RADAR_BPE_NONE when nothing is left to merge. */
static size_t best_of(const tree *t) {
    size_t i = 0;
    uint32_t least = least_of(t->rank[t->levels - 1]);
    for (int l = t->levels - 1; l >= 0; l--) {
        const uint32_t *node = t->rank[l] + i * FAN;
        size_t k = 0;
        while (node[k] != least) k++;
        i = i * FAN + k;
    }
    return i;
}

static size_t next_live(const tree *t, size_t i, size_t n) {
    i++;
    if (i >= n) return n;
    size_t w = i / 64, words = (n + 63) / 64;
    uint64_t bits = t->live[w] & (UINT64_MAX << i % 64);
    while (!bits) {
        if (++w == words) return n;
        bits = t->live[w];
    }
    return w * 64 + (size_t)__builtin_ctzll(bits);
}

/* i > 0; position 0 always lives. */
static size_t previous_live(const tree *t, size_t i) {
    i--;
    size_t w = i / 64;
    uint64_t bits = t->live[w] & (UINT64_MAX >> (63 - i % 64));
    while (!bits) bits = t->live[--w];
    return w * 64 + 63 - (size_t)__builtin_clzll(bits);
}

static uint32_t rank_of(const radar_bpe *b, int32_t left, int32_t right) {
    const radar_merge *m = radar_bpe_find(b, left, right);
    return m ? m->rank : RADAR_BPE_NONE;
}

static size_t padded(size_t n) { return (n + FAN - 1) / FAN * FAN; }

/* Lays the tree out in the scratch memory, which grows by doubling. */
static radar_status lay_out(tree *t, radar_bpe_scratch *s, size_t n, radar_error *err) {
    size_t size[LEVELS], total = 0, words = (n + 63) / 64;
    t->levels = 0;
    for (size_t m = n;; m = padded(m) / FAN) {
        size[t->levels++] = padded(m);
        total += padded(m);
        if (m <= FAN) break;
    }
    size_t bytes = words * sizeof(uint64_t) + total * sizeof(uint32_t);
    if (bytes > s->bytes) {
        radar_bpe_scratch_free(s);
        s->memory = radar_alloc(2 * bytes);
        if (!s->memory)
            return radar_fail(err, RADAR_ERR_MEMORY,
                              "tokenizer: no memory for a word of %zu characters", n);
        s->bytes = 2 * bytes;
    }
    uint32_t *at = s->memory;
    for (int l = 0; l < t->levels; at += size[l++]) t->rank[l] = at;
    t->live = (uint64_t *)(void *)at; /* a multiple of FAN ranks lies before it */
    for (size_t i = 0; i < words; i++) t->live[i] = UINT64_MAX;
    memset(t->rank[0], 0xff, total * sizeof(uint32_t));
    return RADAR_OK;
}

static void fill(tree *t, const radar_bpe *b, const int32_t *symbol, size_t n) {
    for (size_t i = 0; i + 1 < n; i++) t->rank[0][i] = rank_of(b, symbol[i], symbol[i + 1]);
    size_t m = n;
    for (int l = 1; l < t->levels; l++) {
        m = padded(m) / FAN;
        for (size_t i = 0; i < m; i++) t->rank[l][i] = least_of(t->rank[l - 1] + i * FAN);
    }
}

static void merge_at(tree *t, const radar_bpe *b, int32_t *symbol, size_t n, size_t i) {
    size_t gone = next_live(t, i, n);
    symbol[i] = radar_bpe_find(b, symbol[i], symbol[gone])->made;
    t->live[gone / 64] &= ~((uint64_t)1 << gone % 64);
    set_rank(t, gone, RADAR_BPE_NONE);
    size_t after = next_live(t, gone, n);
    set_rank(t, i, after < n ? rank_of(b, symbol[i], symbol[after]) : RADAR_BPE_NONE);
    if (i > 0) {
        size_t before = previous_live(t, i);
        set_rank(t, before, rank_of(b, symbol[before], symbol[i]));
    }
}

static radar_status merge_long(const radar_bpe *b, radar_bpe_scratch *s, int32_t *symbol, size_t *n,
                               radar_error *err) {
    tree t = {0};
    radar_status st = lay_out(&t, s, *n, err);
    if (st != RADAR_OK) return st;
    fill(&t, b, symbol, *n);
    for (size_t i = best_of(&t); t.rank[0][i] != RADAR_BPE_NONE; i = best_of(&t))
        merge_at(&t, b, symbol, *n, i);
    size_t left = 0;
    for (size_t i = 0; i < *n; i = next_live(&t, i, *n)) symbol[left++] = symbol[i];
    *n = left;
    return RADAR_OK;
}

radar_status radar_bpe_merge(const radar_bpe *b, radar_bpe_scratch *s, int32_t *symbol, size_t *n,
                             radar_error *err) {
    if (*n > SHORT) return merge_long(b, s, symbol, n, err);
    *n = merge_short(b, symbol, *n);
    return RADAR_OK;
}

void radar_bpe_scratch_free(radar_bpe_scratch *s) {
    radar_free(s->memory);
    memset(s, 0, sizeof *s);
}
