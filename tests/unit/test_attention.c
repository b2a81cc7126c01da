/* The rules that decide from options and position alone: sealing, candidates, budget, break-even; and what streaming lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/attention.h"
#include "tests/unit/plan_fixture.h"

static radar_attention attention_of(int64_t window, int64_t sinks) {
    return (radar_attention){.window = window, .sinks = sinks, .budget = -1, .dense_below = -1};
}

/* The definition, token by token: a block is sealed once its last position < t - window; a segment is a candidate iff its
 * block is sealed and its first position >= sinks rounded up to a segment. */
static void candidates_are_sealed_segments_after_the_sinks(void **state) {
    (void)state;
    static const int64_t windows[] = {1, 15, 32, 64, 100, 256}, sinks[] = {0, 1, 4, 16, 17, 200};
    for (int w = 0; w < 6; w++)
        for (int k = 0; k < 6; k++) {
            radar_attention a = attention_of(windows[w], sinks[k]);
            for (int64_t position = 0; position < 700; position++) {
                int64_t begin, end, t = position + 1, expected = 0;
                radar_attention_candidates(&a, position, &begin, &end);
                for (int64_t segment = 0; segment * 16 <= position; segment++) {
                    int64_t last_of_block = segment / 4 * 64 + 63,
                            rounded_sinks = (sinks[k] + 15) / 16 * 16;
                    bool candidate =
                        last_of_block < t - windows[w] && segment * 16 >= rounded_sinks;
                    assert_int_equal(candidate, segment >= begin && segment < end);
                    expected += candidate;
                }
                assert_int_equal(expected, end - begin);
            }
        }
}

static void budget_gives_segments_and_doubles_in_long_contexts(void **state) {
    (void)state;
    radar_attention a = attention_of(256, 4);
    assert_int_equal(radar_attention_keep(&a, 9999), 32);
    assert_int_equal(radar_attention_keep(&a, 65534), 32);
    assert_int_equal(radar_attention_keep(&a, 65535), 64); /* 65,536 tokens of context */
    assert_int_equal(radar_attention_keep(&a, 400),
                     7); /* 401 tokens: 2 sealed blocks, less the sinks' segment */
    a.budget = 100;
    assert_int_equal(radar_attention_keep(&a, 9999), 8); /* never fewer than 8 */
    a.budget = 1600;
    assert_int_equal(radar_attention_keep(&a, 9999), 100);
    a.segments = 3;
    assert_int_equal(radar_attention_keep(&a, 9999), 3);
}

static void dense_until_reading_everything_costs_more_bytes(void **state) {
    (void)state;
    radar_attention a = attention_of(256, 4);
    radar_kvcache kv = {.D = 64, .type = RADAR_F16, .block_bytes = 18 * 64, .context = 1 << 20};
    /* R = 256 and B = 18 bytes a token: R t <= B t + (4 + 256 + 1.6 * 512) R  <=>  t <= 1160.3 */
    assert_int_equal(radar_attention_dense_limit(&a, &kv, 5000), 1160);
    assert_int_equal(radar_attention_dense_limit(&a, &kv, 70000), 2041); /* budget 1,024 there */
    kv.context = 600;
    assert_int_equal(radar_attention_dense_limit(&a, &kv, 500), 600);
    a.dense_below = 0;
    assert_int_equal(radar_attention_dense_limit(&a, &kv, 500), 0);
    a.dense_below = 100; /* attends everything while the context is shorter than 100 tokens */
    assert_int_equal(radar_attention_dense_limit(&a, &kv, 500), 99);
}

static void unknown_values_are_refused_with_the_known_ones(void **state) {
    (void)state;
    static const struct {
        const char *field, *says;
    } cases[] = {{"attention", "radar, dense, streaming"},
                 {"scorer", "sketch"},
                 {"share", "group, head"},
                 {"pick", "top, bottom, random, last"},
                 {"select", "global, local"},
                 {"rf-form", "plain, pair"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
        radar_error err = {0};
        radar_attention a;
        const char **field[] = {&opt.attention, &opt.scorer, &opt.share,
                                &opt.pick,      &opt.select, &opt.rf_form};
        *field[i] = "bogus";
        assert_int_equal(radar_attention_open(&a, &opt, 64, NULL, &err), RADAR_ERR_USAGE);
        if (!strstr(err.text, "bogus") || !strstr(err.text, cases[i].says))
            fail_msg("%s: %s", cases[i].field, err.text);
    }
    assert_int_equal(radar_alloc_live(), 0);
}

static void numbers_out_of_range_are_refused(void **state) {
    (void)state;
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    int64_t *const field[] = {&opt.window,   &opt.sinks,       &opt.budget,
                              &opt.segments, &opt.dense_below, &opt.rf_features};
    for (size_t i = 0; i < 6; i++) {
        int64_t good = *field[i];
        radar_attention a;
        radar_error err = {0};
        *field[i] = -5;
        assert_int_equal(radar_attention_open(&a, &opt, 64, NULL, &err), RADAR_ERR_USAGE);
        err = (radar_error){0};
        *field[i] = INT64_MAX;
        assert_int_equal(radar_attention_open(&a, &opt, 64, NULL, &err), RADAR_ERR_USAGE);
        *field[i] = good;
    }
    assert_int_equal(radar_alloc_live(), 0);
}

/* Every shard's list of a row, by position: exactly the sinks and the latest window. */
static void streaming_lists_sinks_and_window_exactly(void **state) {
    (void)state;
    radar_attention a = attention_of(50, 5);
    radar_kvcache kv = {.layout = {.shards = 4, .stripe = 64, .ranks = 1},
                        .layers = 1,
                        .kv_heads = 1,
                        .D = 16,
                        .type = RADAR_F32,
                        .context = 400};
    assert_int_equal(radar_kvcache_plan(&kv, NULL), RADAR_OK);
    const radar_policy *streaming = radar_policy_find("streaming");
    for (int64_t position = 0; position < 400; position += 7) {
        int seen[400] = {0};
        radar_plan plan = {0};
        radar_counts counts = {0};
        streaming->room(&kv, &a, 1, 1, &plan);
        plan_open(&plan, &kv);
        float partial[4 * 20];
        radar_select select = {.kv = &kv,
                               .attention = &a,
                               .counts = &counts,
                               .plan = &plan,
                               .n_rows = 1,
                               .n_heads = 1,
                               .position = &position,
                               .query_position = &position,
                               .partial = partial};
        assert_int_equal(streaming->select(&select), RADAR_OK);
        assert_int_equal(plan.n_tasks, 4);
        plan_check_room(&plan);
        for (int t = 0; t < plan.n_tasks; t++) {
            const radar_items items = plan_items(&plan.task[t]);
            for (int i = 0; i < items.n; i++)
                for (int j = 0; j < 16; j++) {
                    int64_t p = radar_kv_position(&plan.task[t].kv, items.item[i].segment) + j;
                    if (items.item[i].tokens >> j & 1 && p <= position) seen[p]++;
                }
        }
        int64_t total = 0;
        for (int64_t p = 0; p <= position; p++) {
            assert_int_equal(seen[p], p < 5 || p > position - 50);
            total += seen[p];
        }
        assert_int_equal(counts.attended_tokens, total);
        plan_close(&plan);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(candidates_are_sealed_segments_after_the_sinks),
        cmocka_unit_test(budget_gives_segments_and_doubles_in_long_contexts),
        cmocka_unit_test(dense_until_reading_everything_costs_more_bytes),
        cmocka_unit_test(unknown_values_are_refused_with_the_known_ones),
        cmocka_unit_test(numbers_out_of_range_are_refused),
        cmocka_unit_test(streaming_lists_sinks_and_window_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
