/* Which segments are attended: top-k, the lists of the own shards, and the mass that is left out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/twin.h"

#define SHARDS 2
#define STRIPE_SEGMENTS 16
#define HEADS 8
#define PER_LIST 4
#define LISTS (HEADS / PER_LIST)
#define TASKS (LISTS * SHARDS)

static char name[96];

static int descending(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* The keys of each list, largest first, back to both sides. */
static void sort_lists(twin key, int lists, int keep) {
    ON_BOTH(s) {
        uint64_t *host = (uint64_t *)(uintptr_t)read_twin(key, s);
        for (int i = 0; i < lists; i++)
            qsort(host + i * keep, (size_t)keep, sizeof *host, descending);
        write_twin(key, s, host);
    }
}

/* Scores [HEADS, SHARDS, n]; equal ones, and some that are no numbers. */
static twin some_scores(int n, bool coarse) {
    const size_t count = (size_t)(HEADS * SHARDS) * (size_t)n;
    float *x = malloc(count * sizeof *x);
    fill_normal(x, count, 60);
    for (size_t i = 0; coarse && i < count; i++) x[i] = (float)(int)x[i];
    const twin t = twin_of(x, count * sizeof *x);
    free(x);
    return t;
}

/* The best of each head over both shards. */
static twin best_of(twin score, int n, int keep) {
    const twin key = twin_of(NULL, (size_t)HEADS * (size_t)keep * sizeof(uint64_t)),
               kept = twin_of(NULL, HEADS * sizeof(int32_t)),
               scratch = twin_of(NULL, 2 * score.bytes);
    ON_BOTH(s) {
        radar_topk_range range[HEADS * SHARDS];
        radar_topk_task task[HEADS];
        for (int h = 0; h < HEADS; h++) {
            for (int i = 0; i < SHARDS; i++)
                range[h * SHARDS + i] =
                    (radar_topk_range){.score = (float *)score.at[s] + (h * SHARDS + i) * n,
                                       .n = n,
                                       .segment_begin = 4,
                                       .phase = i};
            task[h] = (radar_topk_task){.range = range + h * SHARDS,
                                        .n_ranges = SHARDS,
                                        .stripe_segments = STRIPE_SEGMENTS,
                                        .shards = SHARDS,
                                        .keep = keep,
                                        .scratch = (uint64_t *)scratch.at[s] + h * SHARDS * n,
                                        .key = (uint64_t *)key.at[s] + h * keep,
                                        .n_kept = (int32_t *)kept.at[s] + h};
        }
        side[s]->ops->topk(side[s], task, HEADS);
    }
    sort_lists(key, HEADS, keep);
    snprintf(name, sizeof name, "topk %d of %d", keep, SHARDS * n);
    expect_same(name, key, 0);
    expect_same(name, kept, 0);
    return key;
}

typedef struct lists {
    twin item, begin, count;
    int most;
} lists;

static lists choose(twin key, int n, int keep) {
    const int32_t words = (4 + n + 2) / 32 + 1;
    const int most = 4 + n + 2;
    const radar_choose_row row = {.keep = keep, .unit = 1, .weight = 3};
    const radar_choose_part part[SHARDS] = {{4, 4 + n, 4 + n + 2}, {4, 4 + n, 4 + n + 1}};
    const lists l = {twin_of(NULL, (size_t)(TASKS * most) * sizeof(radar_item)),
                     twin_of(NULL, (TASKS + 1) * sizeof(int64_t)),
                     twin_of(NULL, TASKS * sizeof(int32_t)), most};
    const twin bits = twin_of(NULL, (size_t)(TASKS * words) * sizeof(uint32_t)),
               merged = twin_of(NULL, (size_t)keep * sizeof(uint64_t)),
               listed = twin_of(NULL, sizeof(int64_t));
    ON_BOTH(s) {
        const radar_choose_job job = {.packet = key.at[s],
                                      .row = &row,
                                      .part = part,
                                      .ranks = 1,
                                      .rows = 1,
                                      .groups = 1,
                                      .heads = HEADS,
                                      .heads_per_list = PER_LIST,
                                      .room = keep,
                                      .words = words,
                                      .bits = bits.at[s],
                                      .merged = merged.at[s],
                                      .item = l.item.at[s],
                                      .begin = l.begin.at[s],
                                      .count = l.count.at[s],
                                      .listed = listed.at[s],
                                      .shards = {STRIPE_SEGMENTS, SHARDS, 0, SHARDS}};
        side[s]->ops->choose(side[s], &job);
    }
    const int64_t *begin = read_twin(l.begin, CPU);
    snprintf(name, sizeof name, "choose %d of %d", keep, SHARDS * n);
    expect_same(name, l.begin, 0);
    expect_same(name, l.count, 0);
    expect_same(name, l.item, (size_t)begin[TASKS] * sizeof(radar_item));
    expect_same(name, listed, 0);
    expect_same("choose leaves no bits", bits, 0);
    return l;
}

static void missed(twin score, const lists *l, int n) {
    const twin out = twin_of(NULL, HEADS * SHARDS * 2 * sizeof(float));
    ON_BOTH(s) {
        radar_missed_task task[TASKS];
        for (int t = 0; t < TASKS; t++) {
            const int list = t / SHARDS, shard = t % SHARDS;
            const size_t first = (size_t)(list * PER_LIST * SHARDS + shard);
            task[t] = (radar_missed_task){.n_query = PER_LIST,
                                          .score = (float *)score.at[s] + first * (size_t)n,
                                          .score_stride = (size_t)(SHARDS * n),
                                          .n = n,
                                          .unit = 1,
                                          .segment_begin = 4,
                                          .items = {.item = l->item.at[s],
                                                    .n = l->most,
                                                    .on_device = true,
                                                    .begin = (int64_t *)l->begin.at[s] + t,
                                                    .count = (int32_t *)l->count.at[s] + t},
                                          .missed = (float *)out.at[s] + 2 * first,
                                          .missed_stride = 2 * SHARDS};
        }
        side[s]->ops->missed(side[s], task, TASKS);
    }
    snprintf(name, sizeof name, "missed of %d", n);
    expect_close(name, out, 2e-6);
}

static void selections(int n, int keep, bool coarse) {
    const twin score = some_scores(n, coarse);
    const twin key = best_of(score, n, keep);
    const lists l = choose(key, n, keep);
    missed(score, &l, n);
    drop_twins();
}

void select_cases(void) {
    selections(60, 8, false);
    selections(60, 8, true);   /* many are equal */
    selections(12, 40, false); /* fewer than are kept */
    selections(5000, 64, false);
    selections(5000, 512, true);
}
