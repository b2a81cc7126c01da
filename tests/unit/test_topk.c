#include "tests/unit/kv_fixture.h"

#include "kernels/topk.h"

static int descending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static int select_ref(uint64_t *key, int n, int keep) {
    qsort(key, (size_t)n, sizeof *key, descending);
    while (n > 0 && key[n - 1] == 0) n--;
    return n < keep ? n : keep;
}

static void check_select(const uint64_t *key, int n, int keep) {
    uint64_t *got = must(radar_alloc((size_t)(n + 1) * sizeof *got)),
             *want = must(radar_alloc((size_t)(n + 1) * sizeof *want));
    memcpy(got, key, (size_t)n * sizeof *got);
    memcpy(want, key, (size_t)n * sizeof *want);
    int m = select_ref(want, n, keep);
    assert_int_equal(radar_topk_select(got, n, keep), m);
    qsort(got, (size_t)m, sizeof *got, descending);
    assert_memory_equal(got, want, (size_t)m * sizeof *got);
    radar_free(got), radar_free(want);
}

static void selects_what_a_full_sort_selects(void **state) {
    (void)state;
    const int sizes[] = {0, 1, 2, 3, 15, 16, 17, 100, 1000, 5000};
    uint64_t key[5000];
    for (int shape = 0; shape < 5; shape++) {
        for (int s = 0; s < COUNT(sizes); s++) {
            for (int i = 0; i < sizes[s]; i++) {
                uint64_t r = radar_random(1, 1, (uint64_t)i);
                key[i] = shape == 0   ? r
                         : shape == 1 ? (uint64_t)i + 1
                         : shape == 2 ? (uint64_t)(5000 - i)
                         : shape == 3 ? r % 3 /* zeros and equal keys */
                                      : 7;
            }
            const int keeps[] = {0, 1, 2, 16, sizes[s] / 2, sizes[s] - 1, sizes[s], sizes[s] + 9};
            for (int k = 0; k < COUNT(keeps); k++)
                if (keeps[k] >= 0) check_select(key, sizes[s], keeps[k]);
        }
    }
}

static radar_topk_task make_task(const radar_topk_range *range, int keep, uint64_t *key) {
    return (radar_topk_task){.range = range,
                             .n_ranges = 1,
                             .stripe_segments = 16,
                             .shards = 1,
                             .keep = keep,
                             .key = key};
}

/* What the header says, key by key. */
static uint64_t key_ref(const radar_topk_task *t, const radar_topk_range *r, int i) {
    int64_t s = r->list ? r->list[i] : r->segment_begin + i,
            stripe = s / t->stripe_segments * t->shards + r->phase;
    const float score = r->score[s - r->segment_begin];
    uint32_t segment = (uint32_t)(stripe * t->stripe_segments + s % t->stripe_segments);
    if (isnan(score)) return 0;
    if (t->pick == RADAR_PICK_TOP) return radar_topk_key(score, segment);
    if (t->pick == RADAR_PICK_BOTTOM) return radar_topk_key(-score, segment);
    uint64_t high = t->pick == RADAR_PICK_LAST
                        ? segment
                        : radar_random(t->seed, RADAR_STREAM_PICK, segment) >> 32;
    return high << 32 | (0xffffffffu - segment);
}

static void check_task(radar_topk_task t, const char *isa) {
    radar_cpu cpu = cpu_with(isa, 1);
    int n = 0;
    for (int r = 0; r < t.n_ranges; r++) n += t.range[r].n;
    uint64_t *want = must(radar_alloc((size_t)(n + 1) * sizeof *want));
    n = 0;
    for (int r = 0; r < t.n_ranges; r++)
        for (int i = 0; i < t.range[r].n; i++) want[n++] = key_ref(&t, &t.range[r], i);
    int m = select_ref(want, n, t.keep);
    radar_cpu_topk(&cpu.base, &t, 1);
    assert_int_equal(t.n_kept, m);
    qsort(t.key, (size_t)m, sizeof *t.key, descending);
    assert_memory_equal(t.key, want, (size_t)m * sizeof *want);
    radar_free(want);
}

static void every_pick_takes_what_a_full_sort_takes(void **state) {
    (void)state;
    enum { MOST = 3000 };
    float score[MOST];
    uint64_t key[MOST];
    const int sizes[] = {0, 1, 15, 17, 200, MOST}, keeps[] = {0, 1, 8, 64, 5000};
    const char *isa[] = {"plain", NULL};
    for (int shape = 0; shape < 5; shape++) {
        for (int i = 0; i < MOST; i++) {
            uint64_t r = radar_random(2, 2, (uint64_t)i);
            score[i] = shape == 0   ? (float)radar_random_normal(3, 3, (uint64_t)i)
                       : shape == 1 ? (float)i
                       : shape == 2 ? (float)-i
                       : shape == 3 ? (r % 4 == 0   ? NAN
                                       : r % 4 == 1 ? -NAN
                                       : r % 4 == 2 ? -0.0f
                                                    : 0.0f)
                                    : (r % 5 == 0   ? INFINITY
                                       : r % 5 == 1 ? -INFINITY
                                                    : (float)(r % 7));
        }
        for (int n = 0; n < COUNT(sizes); n++) {
            for (int k = 0; k < COUNT(keeps); k++) {
                /* one ranking over three shards, the last of them empty */
                const int a = sizes[n] / 2, b = sizes[n] - a;
                const radar_topk_range range[] = {
                    {score, a, 5, 3, NULL}, {score + a, b, 0, 6, NULL}, {score, 0, 9, 1, NULL}};
                radar_topk_task t = make_task(range, keeps[k], key);
                t.n_ranges = 3;
                t.stripe_segments = 4;
                t.shards = 8;
                t.seed = 42;
                for (int pick = RADAR_PICK_TOP; pick <= RADAR_PICK_LAST; pick++) {
                    t.pick = (radar_pick)pick;
                    for (int i = 0; i < 2; i++) check_task(t, isa[i]);
                }
            }
        }
    }
}

static void a_list_ranks_alone(void **state) {
    (void)state;
    static const char *const isa[] = {NULL, "plain"};
    float score[400];
    int32_t list[2][60];
    uint64_t key[120];
    for (int i = 0; i < 400; i++) score[i] = (float)(radar_random(3, 1, (uint64_t)i) % 50);
    for (int i = 0; i < 120; i++) list[i / 60][i % 60] = 9 + i % 60 * 7 % 200; /* no two alike */
    const radar_topk_range range[] = {{score, 60, 9, 3, list[0]}, {score + 200, 60, 9, 6, list[1]}};
    for (int keep = 1; keep <= 130; keep += 43) {
        for (int i = 0; i < 4; i++) {
            radar_topk_task t = make_task(range, keep, key);
            t.n_ranges = 1 + i / 2;
            t.stripe_segments = 4;
            t.shards = 8;
            check_task(t, isa[i % 2]);
        }
    }
}

static void equal_scores_take_the_lower_segment(void **state) {
    (void)state;
    float score[300];
    uint64_t key[300];
    radar_cpu cpu = cpu_with(NULL, 1);
    for (int i = 0; i < 300; i++) score[i] = 1.5f;
    const radar_topk_range range = {.score = score, .n = 300};
    radar_topk_task t = make_task(&range, 10, key);
    radar_cpu_topk(&cpu.base, &t, 1);
    assert_int_equal(t.n_kept, 10);
    qsort(key, 10, sizeof *key, descending);
    for (int i = 0; i < 10; i++) assert_int_equal(radar_topk_segment(key[i]), i);
}

static void a_nan_score_never_wins(void **state) {
    (void)state;
    float score[40];
    uint64_t key[40];
    radar_cpu cpu = cpu_with(NULL, 1);
    for (int i = 0; i < 40; i++) score[i] = i % 3 ? NAN : -1e30f;
    score[39] = -INFINITY;
    for (int pick = RADAR_PICK_TOP; pick <= RADAR_PICK_LAST; pick++) {
        const radar_topk_range range = {.score = score, .n = 40};
        radar_topk_task t = make_task(&range, 40, key);
        t.pick = (radar_pick)pick;
        radar_cpu_topk(&cpu.base, &t, 1);
        assert_int_equal(t.n_kept, 14);
        for (int i = 0; i < 14; i++) assert_int_equal(radar_topk_segment(key[i]) % 3, 0);
    }
}

static void random_picks_without_replacement_and_by_seed(void **state) {
    (void)state;
    float score[500] = {0};
    uint64_t a[500], b[500];
    bool seen[500] = {false};
    radar_cpu cpu = cpu_with(NULL, 1);
    const radar_topk_range range = {.score = score, .n = 500};
    radar_topk_task t = make_task(&range, 400, a), u = make_task(&range, 400, b);
    t.pick = u.pick = RADAR_PICK_RANDOM;
    t.seed = 1;
    u.seed = 2;
    radar_cpu_topk(&cpu.base, &t, 1);
    radar_cpu_topk(&cpu.base, &u, 1);
    for (int i = 0; i < 400; i++) {
        assert_false(seen[radar_topk_segment(a[i])]);
        seen[radar_topk_segment(a[i])] = true;
    }
    assert_memory_not_equal(a, b, 400 * sizeof *a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(selects_what_a_full_sort_selects),
        cmocka_unit_test(every_pick_takes_what_a_full_sort_takes),
        cmocka_unit_test(a_list_ranks_alone),
        cmocka_unit_test(equal_scores_take_the_lower_segment),
        cmocka_unit_test(a_nan_score_never_wins),
        cmocka_unit_test(random_picks_without_replacement_and_by_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
