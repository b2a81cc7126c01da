/* kept.h - lists of single tokens that a policy keeps: what h2o and snapkv share.
 *
 * A list belongs to a KV head, or with --share head to a query head.  A rank has of every list the tokens of its own shards,
 * ascending by position.  What is kept is decided by keys {weight, position}: those of topk.h with the position of a token in
 * place of the number of a segment, so heavier first, equal weights to the lower position, and a weight that is no number
 * never; hence positions below 2^32. */
#ifndef RADAR_KEPT_H
#define RADAR_KEPT_H

#include "runtime/policy.h"

typedef struct radar_kept_token {
    uint32_t position;
    uint32_t index; /* among all slots of this rank: kv->before[i] + slot */
} radar_kept_token;

typedef struct radar_kept {
    int group;               /* query heads of a KV head */
    int heads;               /* query heads of a list: 1, or group */
    int lists;               /* of a layer */
    int64_t most;            /* tokens of this rank in a list at most */
    int64_t *n;              /* [layers, lists] */
    radar_kept_token *token; /* [layers, lists, most] */
    radar_item *all;         /* every segment of a shard, all tokens */
} radar_kept;

/* [this rank] Room for lists of up to `keep` tokens of the context each.  `state_bytes`: what the policy keeps beside it, for the
 * refusal of what does not fit; `name`: of the policy. */
radar_status radar_kept_open(radar_kept *kept, const char *name, const radar_policy_shape *shape,
                             int64_t keep, double state_bytes, radar_error *err);
void radar_kept_close(radar_kept *kept);
/* Bytes of that room. */
double radar_kept_bytes(const radar_policy_shape *shape, int64_t keep);
/* How many lists a layer has. */
int radar_kept_lists(const radar_kvcache *kv, const radar_attention *a, int n_heads);

static inline int64_t *radar_kept_count(const radar_kept *k, int layer, int list) {
    return &k->n[(size_t)layer * (size_t)k->lists + (size_t)list];
}
static inline radar_kept_token *radar_kept_tokens(const radar_kept *k, int layer, int list) {
    return k->token + ((size_t)layer * (size_t)k->lists + (size_t)list) * (size_t)k->most;
}

/* ---- own tokens of a range of positions ---- */

/* Consecutive positions of one stripe that lie on this rank, one slot after the other. */
typedef struct radar_kept_run {
    int64_t begin, end; /* positions */
    int64_t index;      /* of the first */
} radar_kept_run;

/* The first of them in [begin, end); false: there is none. */
bool radar_kept_next_run(const radar_kvcache *kv, int64_t begin, int64_t end, radar_kept_run *run);

/* ---- the k best of a stream of keys ---- */

typedef struct radar_sieve {
    uint64_t *key; /* [RADAR_SIEVE_ROOM(keep)] */
    int n, keep;
    uint64_t bar; /* only larger keys enter */
} radar_sieve;

#define RADAR_SIEVE_ROOM(keep) (4 * (size_t)(keep) + 64)

static inline radar_sieve radar_sieve_begin(uint64_t *key, int keep) {
    return (radar_sieve){.key = key, .keep = keep, .bar = keep > 0 ? 0 : UINT64_MAX};
}
void radar_sieve_cut(radar_sieve *s);
static inline void radar_sieve_offer(radar_sieve *s, uint64_t key) {
    if (key <= s->bar) return;
    s->key[s->n++] = key;
    if ((size_t)s->n == RADAR_SIEVE_ROOM(s->keep)) radar_sieve_cut(s);
}
/* The smallest of n keys, of which all are kept: whoever has that much stays.  UINT64_MAX: nobody. */
uint64_t radar_kept_bar(const uint64_t *key, int n);

/* ---- tasks ---- */

/* Room in a plan for radar_kept_plan with lists of `keep` tokens and ranges of `range` tokens. */
void radar_kept_room(const radar_kvcache *kv, const radar_attention *a, int n_heads, int n_rows,
                     int64_t keep, int64_t range, radar_plan *need);
/* Every row attends to the kept tokens of its lists and to positions [from, its own]. */
void radar_kept_plan(radar_select *s, const radar_kept *kept, int64_t from);

/* Queries whose attention is weighed. */
typedef struct radar_kept_queries {
    const float *q;    /* [G, room, group, D] */
    const float *root; /* [G, room, group, root_size]: {m, l} first */
    size_t root_size;
    int room, first, n;                      /* rows [first, first + n) of room */
    const int64_t *position, *head_position; /* [n] and [n, group] positions of these rows */
} radar_kept_queries;
/* The task of list `list` in own shard i; items and weight are left to the caller. */
radar_weigh_task radar_kept_weigh(const radar_select *s, const radar_kept *kept,
                                  const radar_kept_queries *rows, int list, int i);

#endif
