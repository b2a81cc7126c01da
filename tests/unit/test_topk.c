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

enum { MOST = 5000 };

/* What a task gives out, and its scratch. */
typedef struct best {
    uint64_t scratch[MOST], key[MOST];
    int32_t segment[MOST], n;
} best;

static radar_topk_task make_task(const radar_topk_range *range, int keep, best *out) {
    assert_true(keep <= MOST);
    return (radar_topk_task){.range = range,
                             .n_ranges = 1,
                             .stripe_segments = 16,
                             .shards = 1,
                             .keep = keep,
                             .scratch = out->scratch,
                             .key = out->key,
                             .segment = out->segment,
                             .n_kept = &out->n};
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

/* The best keys of a task, then zeros: MOST of them; returns how many. */
static int best_ref(const radar_topk_task *t, uint64_t *key) {
    int n = 0;
    for (int r = 0; r < t->n_ranges; r++)
        for (int i = 0; i < radar_topk_range_count(&t->range[r]); i++)
            key[n++] = key_ref(t, &t->range[r], i);
    int m = select_ref(key, n, t->keep);
    memset(key + m, 0, (size_t)(MOST - m) * sizeof *key);
    return m;
}

/* All outputs, the keys beside the scratch or in it, and each alone; nothing behind `keep` is written. */
static void check_task(radar_topk_task t, const char *isa) {
    static best own;
    static uint64_t want[MOST];
    radar_cpu cpu = cpu_with(isa, 1);
    const int m = best_ref(&t, want);
    for (int form = 0; form < 5; form++) {
        const bool keys = form != 2 && form != 3, segments = form < 3,
                   count = form < 2 || form == 3;
        memset(&own, 0xa5, sizeof own);
        t.scratch = own.scratch;
        t.key = form == 1 ? own.scratch : keys ? own.key : NULL;
        t.segment = segments ? own.segment : NULL;
        t.n_kept = count ? &own.n : NULL;
        radar_cpu_topk(&cpu.base, &t, 1);
        if (count) assert_int_equal(own.n, m);
        for (int i = 0; segments && keys && i < m; i++)
            assert_int_equal(own.segment[i], radar_topk_segment(t.key[i]));
        for (int i = t.keep; segments && i < MOST; i++)
            assert_int_equal((uint32_t)own.segment[i], 0xa5a5a5a5u);
        if (!keys) continue;
        qsort(t.key, (size_t)m, sizeof *t.key, descending);
        assert_memory_equal(t.key, want, (size_t)t.keep * sizeof *want);
        for (int i = t.keep; t.key == own.key && i < MOST; i++)
            assert_true(own.key[i] == 0xa5a5a5a5a5a5a5a5u);
    }
}

static void every_pick_takes_what_a_full_sort_takes(void **state) {
    (void)state;
    enum { LONGEST = 3000 };
    static best out;
    float score[LONGEST];
    const int sizes[] = {0, 1, 15, 17, 200, LONGEST}, keeps[] = {0, 1, 8, 64, MOST};
    const char *isa[] = {"plain", NULL};
    for (int shape = 0; shape < 5; shape++) {
        for (int i = 0; i < LONGEST; i++) {
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
                    {.score = score, .n = a, .segment_begin = 5, .phase = 3},
                    {.score = score + a, .n = b, .segment_begin = 0, .phase = 6},
                    {.score = score, .n = 0, .segment_begin = 9, .phase = 1}};
                radar_topk_task t = make_task(range, keeps[k], &out);
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
    static best out;
    float score[400];
    int32_t list[2][60], n_listed[2];
    for (int i = 0; i < 400; i++) score[i] = (float)(radar_random(3, 1, (uint64_t)i) % 50);
    for (int i = 0; i < 120; i++) list[i / 60][i % 60] = 9 + i % 60 * 7 % 200; /* no two alike */
    radar_topk_range range[2];
    for (int i = 0; i < 2; i++)
        range[i] = (radar_topk_range){.score = score + 200 * i,
                                      .n = 60,
                                      .segment_begin = 9,
                                      .phase = 3 + 3 * i,
                                      .list = list[i],
                                      .n_listed = &n_listed[i]};
    for (int keep = 1; keep <= 130; keep += 43) {
        for (int i = 0; i < 12; i++) {
            radar_topk_task t = make_task(range, keep, &out);
            n_listed[0] = i / 4 ? 60 - 30 * (i / 4 - 1) : 0; /* none, all, half */
            n_listed[1] = i / 4 == 1 ? 60 : 17;
            t.n_ranges = 1 + i % 4 / 2;
            t.stripe_segments = 4;
            t.shards = 8;
            for (int pick = RADAR_PICK_TOP; pick <= RADAR_PICK_LAST; pick++) {
                t.pick = (radar_pick)pick;
                check_task(t, isa[i % 2]);
            }
        }
    }
}

static void equal_scores_take_the_lower_segment(void **state) {
    (void)state;
    static best out;
    float score[300];
    radar_cpu cpu = cpu_with(NULL, 1);
    for (int i = 0; i < 300; i++) score[i] = 1.5f;
    const radar_topk_range range = {.score = score, .n = 300};
    radar_topk_task t = make_task(&range, 10, &out);
    radar_cpu_topk(&cpu.base, &t, 1);
    assert_int_equal(out.n, 10);
    qsort(out.key, 10, sizeof *out.key, descending);
    for (int i = 0; i < 10; i++) assert_int_equal(radar_topk_segment(out.key[i]), i);
}

static void a_nan_score_never_wins(void **state) {
    (void)state;
    static best out;
    float score[40];
    radar_cpu cpu = cpu_with(NULL, 1);
    for (int i = 0; i < 40; i++) score[i] = i % 3 ? NAN : -1e30f;
    score[39] = -INFINITY;
    for (int pick = RADAR_PICK_TOP; pick <= RADAR_PICK_LAST; pick++) {
        const radar_topk_range range = {.score = score, .n = 40};
        radar_topk_task t = make_task(&range, 40, &out);
        t.pick = (radar_pick)pick;
        radar_cpu_topk(&cpu.base, &t, 1);
        assert_int_equal(out.n, 14);
        for (int i = 0; i < 14; i++) assert_int_equal(radar_topk_segment(out.key[i]) % 3, 0);
    }
}

static void random_picks_without_replacement_and_by_seed(void **state) {
    (void)state;
    float score[500] = {0};
    static best a, b;
    bool seen[500] = {false};
    radar_cpu cpu = cpu_with(NULL, 1);
    const radar_topk_range range = {.score = score, .n = 500};
    radar_topk_task t = make_task(&range, 400, &a), u = make_task(&range, 400, &b);
    t.pick = u.pick = RADAR_PICK_RANDOM;
    t.seed = 1;
    u.seed = 2;
    radar_cpu_topk(&cpu.base, &t, 1);
    radar_cpu_topk(&cpu.base, &u, 1);
    for (int i = 0; i < 400; i++) {
        assert_false(seen[radar_topk_segment(a.key[i])]);
        seen[radar_topk_segment(a.key[i])] = true;
    }
    assert_memory_not_equal(a.key, b.key, 400 * sizeof *a.key);
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
