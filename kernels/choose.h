/* choose.h - from the best keys of all ranks to the items of the own shards: which segments are attended, as flat lists.
 *
 * A row is a query of every head; some rows and query heads attend to one list: those of a group of rows (decode: each row is its
 * own; sparse prefill: the runs of a block) and of `heads_per_list` heads.  A task is the part of a list in one own shard:
 *   task (g, l, i) = (group g, l-th list of it, own shard i)      [groups, heads / heads_per_list, shards.n]
 *   best of a row and head = the `keep` largest keys of all ranks' lists, 0 = none;  their units are marked in the list's tasks
 *   items of a task = segments [0, begin), `unit` segments of every marked unit, segments [end, stop): ascending, all tokens
 * with {keep, unit} of the row, {begin, end, stop} of the group in the shard.  A row with keep = 0 marks nothing, and a group of
 * them has no items.
 * Cost: ranks * room * 8 bytes a head, twice; an eighth of a byte a segment and list, twice; 8 an item. */
#ifndef RADAR_CHOOSE_H
#define RADAR_CHOOSE_H

#include <stdint.h>

struct radar_item;

/* What one row may choose. */
typedef struct radar_choose_row {
    int32_t keep; /* units, per query head */
    int32_t
        unit; /* segments of 16 tokens that are chosen as one: a power of two; alike in a group */
    int32_t group;  /* ascending, each at most one more than that of the row before */
    int32_t weight; /* what an item of the group counts in `listed`; alike in a group */
} radar_choose_row;

/* Candidates of a group in an own shard are storage segments [begin, end), what follows them [end, stop). */
typedef struct radar_choose_part {
    int32_t begin, end, stop;
} radar_choose_part;

/* See parallel/shard.h. */
typedef struct radar_choose_shards {
    int32_t stripe_segments; /* of 16 tokens */
    int32_t shards;          /* of all ranks, a power of two */
    int32_t first, n;        /* own ones: [first, first + n) */
} radar_choose_shards;

typedef struct radar_choose_job {
    const uint64_t *packet;        /* device [ranks, rows, heads, room] keys of topk.h */
    const radar_choose_row *row;   /* host [rows] */
    const radar_choose_part *part; /* host [groups, shards.n] */
    int32_t ranks, rows, groups, heads, heads_per_list;
    int32_t room;     /* keys of a list of a rank */
    int32_t words;    /* 32 units of a shard each: as many as the longest own shard needs */
    uint32_t *bits;   /* device scratch [tasks, words], zero before the first call and after each */
    uint64_t *merged; /* device scratch [ranks, room] */
    struct radar_item *item; /* device, out: all lists, one behind the other */
    int64_t *
        begin; /* device, out [tasks + 1]: where a task's items begin in item; the last: how many there are */
    int32_t *count; /* device, out [tasks] */
    int64_t *
        listed; /* device: items of all tasks are added to it, each its weight; NULL: nobody wants to know */
    radar_choose_shards shards;
} radar_choose_job;

#endif
