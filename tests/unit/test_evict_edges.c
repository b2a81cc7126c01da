/* h2o and snapkv where lists are empty, whole or tied, where they go back, and where they are refused. */
#include "tests/unit/evict_rig.h"

static const char *const both[] = {"h2o", "snapkv"};
static const radar_attention small = {.window = 40, .budget = 60, .observe = 24};

static int count_seen(const rig *r, int64_t t, int head) {
    int n = 0;
    for (int64_t p = 0; p <= t; p++) n += r->seen[t][head][p];
    return n;
}

/* Every weight the same: lower positions first; pooling counts zeros beyond the ends, so the two at either end come last. */
static void equal_votes_go_to_lower_positions(void **state) {
    (void)state;
    rig r;
    rig_open(&r, "snapkv", small, RADAR_F32, SHARDS, 3);
    memset(r.k, 0, N * G * D * sizeof *r.k);
    rows(&r, 300, 50, true);
    rows(&r, 10, 4, false);
    for (int h = 0; h < H; h++)
        for (int64_t p = 0; p < 310; p++)
            assert_int_equal(r.seen[309][h][p], (p >= 2 && p < 2 + 40 + 60 - 24) || p >= 300 - 24);
    rig_close(&r);
}

/* Every token gave the same to all before it: the oldest have most. */
static void h2o_counts_every_query_of_the_prompt(void **state) {
    (void)state;
    rig r;
    rig_open(&r, "h2o", small, RADAR_F32, SHARDS, 3);
    memset(r.k, 0, N * G * D * sizeof *r.k);
    rows(&r, 300, 50, true);
    rows(&r, 20, 1, false);
    for (int64_t t = 300; t < 320; t++)
        for (int h = 0; h < H; h++)
            for (int64_t p = 0; p <= t; p++)
                assert_int_equal(r.seen[t][h][p], p < 50 || p > t - 50);
    rig_close(&r);
}

static void the_smallest_budget_leaves_the_row_itself(void **state) {
    (void)state;
    const radar_attention none = {.window = 1, .budget = 0, .observe = 5};
    for (int i = 0; i < 2; i++) {
        rig r;
        rig_open(&r, both[i], none, RADAR_F32, SHARDS, 5);
        rows(&r, 100, 50, true);
        rows(&r, 8, 8, false);
        for (int64_t t = 100; t < 108; t++)
            for (int h = 0; h < H; h++)
                assert_int_equal(count_seen(&r, t, h), i == 0 ? 1 : 5 + t - 99);
        rig_close(&r);
    }
}

/* Also the first row of all, with no prompt before it. */
static void a_large_budget_attends_everything(void **state) {
    (void)state;
    const radar_attention all = {.window = 512, .budget = (int64_t)1 << 40, .observe = 32};
    for (int i = 0; i < 2; i++) {
        rig r;
        rig_open(&r, both[i], all, RADAR_F32, SHARDS, 6);
        rows(&r, 40, 7, false);
        rows(&r, 100, 50, true);
        rows(&r, 60, 20, false);
        for (int64_t t = 0; t < 200; t++)
            for (int h = 0; h < H; h++) assert_int_equal(count_seen(&r, t, h), t + 1);
        rig_close(&r);
    }
}

static void tokens_are_counted_per_list(void **state) {
    (void)state;
    for (int share = 0; share < 2; share++) {
        rig r;
        radar_attention a = small;
        a.share_head = share;
        rig_open(&r, "h2o", a, RADAR_F16, SHARDS, 7);
        rows(&r, 300, 50, true);
        r.counts = (radar_counts){0};
        rows(&r, 20, 1, false);
        assert_int_equal(r.counts.attended_tokens, 20 * 100 * (share ? H : G));
        rig_close(&r);
    }
}

/* To where the prefill ended and to the beginning, and nowhere else; what follows is the same, bit for bit. */
static void going_back_repeats(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        rig r;
        float *out = must(radar_alloc(N * H * D * sizeof *out));
        rig_open(&r, both[i], small, RADAR_F16, SHARDS, 8);
        rows(&r, 290, 50, true);
        rows(&r, 80, 9, false);
        memcpy(out, r.out, N * H * D * sizeof *out);
        for (int again = 0; again < 2; again++) {
            assert_false(r.policy->rewind(r.state, 291));
            assert_false(r.policy->rewind(r.state, 289));
            assert_true(r.policy->rewind(r.state, 290));
            r.t = 290;
            memset(r.out + 290 * H * D, 0, 80 * H * D * sizeof *out);
            rows(&r, 80, 9, false);
            assert_memory_equal(out, r.out, 370 * H * D * sizeof *out);
        }
        rows(&r, 30, 30,
             true); /* another question: now its end is the place, and lists are there already */
        assert_false(r.policy->rewind(r.state, 290));
        rows(&r, 50, 11, false);
        memcpy(out + 400 * H * D, r.out + 400 * H * D, 50 * H * D * sizeof *out);
        assert_true(r.policy->rewind(r.state, 400));
        r.t = 400;
        memset(r.out + 400 * H * D, 0, 50 * H * D * sizeof *out);
        rows(&r, 50, 50, false);
        assert_memory_equal(out + 400 * H * D, r.out + 400 * H * D, 50 * H * D * sizeof *out);
        assert_true(r.policy->rewind(r.state, 0));
        r.t = 0;
        memset(r.out, 0, N * H * D * sizeof *out);
        rows(&r, 290, 64, true);
        rows(&r, 80, 64, false);
        assert_memory_equal(out, r.out, 370 * H * D * sizeof *out);
        radar_free(out);
        rig_close(&r);
    }
}

/* ---- refusals ---- */

static size_t one_gigabyte(void) { return (size_t)1 << 30; }

static radar_kvcache shape_of(int64_t context, int layers) {
    radar_kvcache kv = {.layout = {.shards = 8, .stripe = 256, .ranks = 1},
                        .layers = layers,
                        .kv_heads = G,
                        .D = D,
                        .type = RADAR_F16,
                        .context = context};
    assert_int_equal(radar_kvcache_plan(&kv, NULL), RADAR_OK);
    return kv;
}

static radar_status try_open(const char *name, const radar_kvcache *kv, int64_t budget,
                             radar_error *err) {
    const radar_attention a = {.window = 256, .budget = budget, .observe = 32};
    const radar_policy_shape shape = {kv, &a, H};
    void *state = NULL;
    *err = (radar_error){0};
    radar_status st = radar_policy_find(name)->open(&state, &shape, err);
    if (st == RADAR_OK)
        radar_policy_find(name)->close(state);
    else
        assert_null(state);
    assert_int_equal(radar_alloc_live(), 0);
    return st;
}

static void what_cannot_be_held_is_refused_with_numbers(void **state) {
    (void)state;
    radar_error err;
    for (int i = 0; i < 2; i++) {
        radar_kvcache kv = shape_of(((int64_t)1 << 32) + 1, 1);
        assert_int_equal(try_open(both[i], &kv, 512, &err), RADAR_ERR_CONFIG);
        assert_non_null(strstr(err.text, "4294967296"));
        kv = shape_of((int64_t)1 << 32, 1);
        assert_int_equal(try_open(both[i], &kv, (int64_t)1 << 40, &err), RADAR_ERR_CONFIG);
        assert_non_null(strstr(err.text, "--budget"));
        size_t (*available)(void) = radar_sys_table.available;
        radar_sys_table.available = one_gigabyte;
        kv = shape_of((int64_t)1 << 28, 30);
        assert_int_equal(try_open(both[i], &kv, 512, &err), RADAR_ERR_MEMORY);
        radar_sys_table.available = available;
        if (!strstr(err.text, i == 0 ? "128.8 GB" : "3.2 GB") || !strstr(err.text, "1.1 GB"))
            fail_msg("%s", err.text);
        kv = shape_of(5000, 2);
        assert_int_equal(try_open(both[i], &kv, -1, &err), RADAR_OK);
    }
}

static void *(*real_alloc)(size_t);
static long countdown; /* the call that fails; 0 = none */

static void *failing_alloc(size_t bytes) {
    if (countdown > 0 && --countdown == 0) return NULL;
    return real_alloc(bytes);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    radar_kvcache kv = shape_of(5000, 2);
    real_alloc = radar_sys_table.alloc;
    for (int i = 0; i < 2; i++) {
        long n = 0;
        radar_error err;
        radar_sys_table.alloc = failing_alloc;
        for (radar_status st = RADAR_ERR_MEMORY; st != RADAR_OK;) {
            countdown = ++n;
            st = try_open(both[i], &kv, 512, &err);
            if (st != RADAR_OK && (st != RADAR_ERR_MEMORY || !strstr(err.text, "memory")))
                fail_msg("allocation %ld: %s", n, err.text);
        }
        radar_sys_table.alloc = real_alloc;
        countdown = 0;
        assert_true(n > 10);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_votes_go_to_lower_positions),
        cmocka_unit_test(h2o_counts_every_query_of_the_prompt),
        cmocka_unit_test(the_smallest_budget_leaves_the_row_itself),
        cmocka_unit_test(a_large_budget_attends_everything),
        cmocka_unit_test(tokens_are_counted_per_list),
        cmocka_unit_test(going_back_repeats),
        cmocka_unit_test(what_cannot_be_held_is_refused_with_numbers),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
