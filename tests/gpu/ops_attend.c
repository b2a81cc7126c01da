/* Attention of listed segments, the merge of partials, and what leaves it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/merge.h"
#include "tests/gpu/cache_twin.h"

static char name[96];

/* Every third segment from `first` on, some of them in part. */
static twin some_items(int32_t segments, int first, int *n) {
    radar_item *item = malloc((size_t)segments * sizeof *item);
    *n = 0;
    for (int32_t s = first; s < segments; s += 3)
        item[(*n)++] = (radar_item){s, s % 4 == 1 ? 0x8421u : 0xffffu};
    const twin t = twin_of(item, (size_t)*n * sizeof *item);
    free(item);
    return t;
}

/* rows rows of `group` queries of each KV head; two lists of each, merged. */
static void attention(radar_dtype type, int heads, int group, int D, int rows, int32_t segments) {
    cache_twin c = cache_twin_of(type, heads, D, segments, 70);
    const int queries = rows * group, partial = RADAR_PARTIAL(D);
    const size_t all = (size_t)(heads * queries);
    const twin q = twin_random(all * (size_t)D, 72);
    int64_t *position = malloc((size_t)queries * sizeof *position);
    const int64_t last = radar_kv_position(&c.view[CPU][0], segments - 1) + RADAR_SEGMENT - 1;
    for (int i = 0; i < queries; i++) position[i] = last - 12 * (i / group);
    float *none = calloc(all * (size_t)partial, sizeof *none);
    for (size_t i = 0; i < all; i++)
        none[i * (size_t)partial + RADAR_PARTIAL_MISSED_M(D)] = -INFINITY;
    twin piece[2], item[2], out = twin_of(NULL, all * (size_t)D * sizeof(float)),
                            coverage = twin_of(NULL, all * sizeof(float));
    int n[2];
    for (int i = 0; i < 2; i++) {
        item[i] = some_items(segments, i, &n[i]);
        piece[i] = twin_of(none, all * (size_t)partial * sizeof(float));
    }
    ON_BOTH(s) {
        radar_attend_task task[2 * MOST_HEADS];
        for (int t = 0; t < 2 * heads; t++) {
            const size_t first = (size_t)(t / 2 * queries);
            task[t] = (radar_attend_task){
                .kv = c.view[s][t / 2],
                .n_query = queries,
                .q = (float *)q.at[s] + first * (size_t)D,
                .q_stride = (size_t)D,
                .position = position,
                .items = {.item = item[t % 2].at[s], .n = n[t % 2], .on_device = true},
                .partial = (float *)piece[t % 2].at[s] + first * (size_t)partial,
                .partial_stride = (size_t)partial};
        }
        side[s]->ops->attend(side[s], task, 2 * heads, 1 / sqrtf((float)D), rows);
        side[s]->ops->merge(side[s], (float *[]){piece[0].at[s], piece[1].at[s]}, 2, (int64_t)all,
                            D);
        side[s]->ops->finish(side[s], out.at[s], coverage.at[s], piece[0].at[s], rows, heads, group,
                             D);
    }
    snprintf(name, sizeof name, "attend %s %d x %d x %d, %d rows", radar_dtype_name(type), heads,
             group, D, rows);
    expect_close(name, out, type == RADAR_BF16 ? 1e-4 : 1e-5);
    expect_close("coverage", coverage, 1e-5);
    free(position);
    free(none);
    drop_twins();
}

void attend_cases(void) {
    static const radar_dtype types[] = {RADAR_F16, RADAR_BF16, RADAR_F32, RADAR_FP8};
    for (int i = 0; i < 4; i++) {
        attention(types[i], 2, 4, 128, 1, 60);
        attention(types[i], 2, 3, 64, 3, 44);
        attention(types[i], 1, 8, 128, 2, 200);
        attention(types[i], 1, 2, 64, 80, 40);
    }
}
