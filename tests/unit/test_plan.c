/* What the planner says against what sessions reserve: the bytes of every allocation are counted. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "runtime/engine.h"
#include "runtime/sys.h"

#define TINY "tests/golden/tiny/llama-tied-f32"

static void *(*real_alloc)(size_t);
static void (*real_release)(void *, size_t);
static size_t now, most;

static void *counting_alloc(size_t bytes) {
    now += bytes;
    if (now > most) most = now;
    return real_alloc(bytes);
}

static void counting_release(void *memory, size_t bytes) {
    now -= bytes;
    real_release(memory, bytes);
}

static int count_allocations(void **state) {
    (void)state;
    real_alloc = radar_sys_table.alloc, real_release = radar_sys_table.release;
    radar_sys_table.alloc = counting_alloc, radar_sys_table.release = counting_release;
    return 0;
}

static int count_no_more(void **state) {
    (void)state;
    radar_sys_table.alloc = real_alloc, radar_sys_table.release = real_release;
    return 0;
}

static radar_planner *open_planner(int ranks, int shards) {
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_planner *p = NULL;
    char why[512] = "";
    opt.model = TINY, opt.threads = 1, opt.shards = shards;
    if (radar_planner_open(&p, &opt, ranks, why, sizeof why)) fail_msg("%s", why);
    return p;
}

static radar_engine *open_engine(int shards) {
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e = NULL;
    char why[512] = "";
    opt.model = TINY, opt.threads = 1, opt.shards = shards;
    if (radar_engine_open(&e, MPI_COMM_NULL, &opt, why, sizeof why)) fail_msg("%s", why);
    return e;
}

static radar_rank_memory ask(radar_planner *p, const radar_session_options *s, int rank) {
    radar_rank_memory m = {.size = sizeof m};
    if (radar_planner_session(p, s, rank, &m)) fail_msg("%s", radar_planner_error(p));
    return m;
}

static void near(const char *what, double got, double want, double slack) {
    if (!(got <= want * 1.01 + slack && want <= got * 1.01 + slack))
        fail_msg("%s: planned %.0f, reserved %.0f", what, want, got);
}

/* Every attention; 1 % and 64 KB for small pieces and the headers of blocks. */
static void sessions_reserve_what_was_planned(void **state) {
    (void)state;
    static const char *const attention[] = {"radar",  "dense",  "streaming", "h2o",
                                            "snapkv", "subgen", "paper",     "code"};
    for (size_t i = 0; i < sizeof attention / sizeof *attention; i++) {
        const int shards = i >= 6 ? 1 : 8;
        radar_session_options s = RADAR_SESSION_OPTIONS_DEFAULT;
        radar_planner *p = open_planner(1, shards);
        radar_engine *e = open_engine(shards);
        radar_session *session;
        s.context = 20000, s.attention = attention[i];
        if (i >= 6) s.scorer = "rf";
        const radar_rank_memory m = ask(p, &s, 0);
        const size_t before = now;
        if (radar_session_open(&session, e, &s)) fail_msg("%s", radar_last_error(e));
        near(attention[i], (double)(now - before), (double)(m.kv + m.summaries + m.lists + m.state),
             65536);
        assert_int_equal(m.kv, session->kv.bytes);
        assert_int_equal(m.summaries, session->kv.summary_bytes);
        radar_session_close(session);
        radar_engine_close(e);
        radar_planner_close(p);
    }
    assert_int_equal(radar_alloc_live(), 0);
}

/* What a step reads, as the planner reckons it for the last position, against what a session counts there. */
static void a_step_scores_the_bytes_that_were_planned(void **state) {
    (void)state;
    static const char *const scorer[] = {"sketch", "sketch", "mean", "exact"}, *const scan[] = {
                                                                                   "full",
                                                                                   "progressive",
                                                                                   "full", "full"};
    enum { CONTEXT = 4096 };
    static int32_t token[CONTEXT];
    radar_planner *p = open_planner(1, 8);
    radar_engine *e = open_engine(8);
    for (int i = 0; i < CONTEXT; i++) token[i] = i * 37 % 128;
    for (size_t i = 0; i < sizeof scorer / sizeof *scorer; i++) {
        radar_session_options s = RADAR_SESSION_OPTIONS_DEFAULT;
        radar_session_stats stats = {.size = sizeof stats};
        radar_session *session;
        s.context = CONTEXT, s.scorer = scorer[i], s.scan = scan[i];
        s.dense_below = 0, s.budget = 64;
        const radar_rank_memory m = ask(p, &s, 0);
        if (radar_session_open(&session, e, &s)) fail_msg("%s", radar_last_error(e));
        assert_int_equal(radar_prefill(session, token, CONTEXT - 1), RADAR_OK);
        assert_int_equal(radar_score(session, token, 1, NULL), RADAR_OK);
        assert_int_equal(radar_stats(session, &stats), RADAR_OK);
        print_message("%s, %s: %lld bytes scored\n", scorer[i], scan[i],
                      (long long)stats.scored_bytes);
        near(scan[i], (double)stats.scored_bytes, (double)m.step_scored, 0);
        radar_session_close(session);
    }
    /* 2 layers of 2 KV heads of 64: of ten tokens, not of the stripe that is reserved for them */
    radar_session_options s = RADAR_SESSION_OPTIONS_DEFAULT;
    radar_model_info c = {.size = sizeof c};
    radar_planner_info(p, &c);
    s.context = 10;
    assert_int_equal(ask(p, &s, 0).step_attended, 10 * 2 * 2 * c.layers * c.kv_heads * c.head_dim);
    radar_engine_close(e);
    radar_planner_close(p);
}

static void engines_reserve_the_workspace_that_was_planned(void **state) {
    (void)state;
    radar_session_options s = RADAR_SESSION_OPTIONS_DEFAULT;
    radar_planner *p = open_planner(1, 8);
    radar_engine *e = open_engine(8);
    s.context = 1000;
    const radar_rank_memory m = ask(p, &s, 0);
    assert_int_equal(m.workspace, radar_workspace_bytes(e));
    radar_engine_close(e);
    radar_planner_close(p);
}

/* Shares of the ranks add up to the whole, whatever their number. */
static void ranks_share_one_cache_and_one_model(void **state) {
    (void)state;
    radar_session_options s = RADAR_SESSION_OPTIONS_DEFAULT;
    radar_rank_memory whole = {0};
    s.context = (int64_t)1 << 20;
    for (int ranks = 1; ranks <= 8; ranks++) {
        radar_planner *p = open_planner(ranks, 8);
        radar_rank_memory sum = {0};
        for (int r = 0; r < ranks; r++) {
            const radar_rank_memory m = ask(p, &s, r);
            sum.kv += m.kv, sum.summaries += m.summaries, sum.step_weights += m.step_weights;
            sum.step_scored += m.step_scored;
        }
        if (ranks == 1) whole = sum;
        assert_int_equal(sum.kv, whole.kv);
        assert_int_equal(sum.summaries, whole.summaries);
        near("weights of a step", (double)sum.step_weights, (double)whole.step_weights, 0);
        near("summaries of a step", (double)sum.step_scored, (double)whole.step_scored, 0);
        radar_planner_close(p);
    }
}

/* Positions, slots and bytes of contexts that no machine of today holds. */
static void long_contexts_do_not_overflow(void **state) {
    (void)state;
    radar_planner *p = open_planner(3, 64);
    for (int bits = 20; bits <= 34; bits++) {
        radar_session_options s = RADAR_SESSION_OPTIONS_DEFAULT;
        s.context = (int64_t)1 << bits;
        const radar_rank_memory m = ask(p, &s, 2);
        /* rank 2 of 3 has shards 42 to 63: 22 of 64 */
        const int64_t tokens = ((int64_t)1 << bits) / 64 * 22;
        radar_model_info c = {.size = sizeof c};
        radar_planner_info(p, &c);
        const uint64_t a_token =
            2ull * (uint64_t)c.layers * (uint64_t)c.kv_heads * (uint64_t)c.head_dim * 2;
        assert_int_equal(m.kv, (uint64_t)tokens * a_token);
        assert_true(m.summaries > 0 && m.summaries < m.kv);
        assert_true(m.step_scored <= m.summaries && m.step_attended < m.kv);
        assert_true(m.lists > (uint64_t)tokens / 16 && m.lists < m.kv);
    }
    radar_planner_close(p);
    p = open_planner(1, 1); /* more than 2^31 tokens of one shard are counted nowhere */
    radar_session_options s = RADAR_SESSION_OPTIONS_DEFAULT;
    radar_rank_memory m = {.size = sizeof m};
    s.context = (int64_t)1 << 33;
    assert_int_equal(radar_planner_session(p, &s, 0, &m), RADAR_ERR_CONFIG);
    assert_non_null(strstr(radar_planner_error(p), "raise --shards"));
    radar_planner_close(p);
    p = open_planner(64, 64); /* 2^29 segments of 64 ranks are merged nowhere, 2^24 are */
    s.context = (int64_t)1 << 34, s.budget = (int64_t)1 << 33;
    assert_int_equal(radar_planner_session(p, &s, 0, &m), RADAR_ERR_CONFIG);
    assert_non_null(strstr(radar_planner_error(p), "use a --budget of 536870896 tokens"));
    s.budget = (int64_t)1 << 28;
    assert_int_equal(radar_planner_session(p, &s, 0, &m), RADAR_OK);
    radar_planner_close(p);
}

/* ---- refusals ---- */

static size_t available_bytes;
static size_t some(void) { return available_bytes; }

/* Where 40 MB are free. */
static void what_does_not_fit_is_refused_before_the_weights_are_read(void **state) {
    (void)state;
    size_t (*available)(void) = radar_sys_table.available;
    radar_session_options s = RADAR_SESSION_OPTIONS_DEFAULT;
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e = NULL;
    radar_planner *p = open_planner(1, 8);
    char why[512] = "";
    long long largest = 0, asked = 0;
    unsigned long long bytes = 0;
    double gb;
    available_bytes = 40000000;
    radar_sys_table.available = some;
    opt.model = TINY, opt.threads = 1, opt.session = &s;
    s.context = 10000000;
    most = now;
    const size_t before = now;
    assert_int_equal(radar_engine_open(&e, MPI_COMM_NULL, &opt, why, sizeof why), RADAR_ERR_MEMORY);
    assert_null(e);
    assert_int_equal(sscanf(why,
                            "a context of %lld tokens needs %lf GB on this machine (%llu bytes), "
                            "0.0 GB are free: use --ctx %lld or less",
                            &asked, &gb, &bytes, &largest),
                     4);
    assert_int_equal(asked, 10000000);
    assert_true(most - before < 4000000); /* metadata and tokenizer, no cache and no workspace */
    radar_rank_memory m;
    s.context = largest, m = ask(p, &s, 0);
    assert_true(radar_memory_sum(&m) <= available_bytes);
    s.context = largest + 256, m = ask(p, &s, 0);
    assert_true(radar_memory_sum(&m) > available_bytes);
    s.context = largest;
    if (radar_engine_open(&e, MPI_COMM_NULL, &opt, why, sizeof why)) fail_msg("%s", why);
    radar_engine_close(e);
    radar_sys_table.available = available;
    radar_planner_close(p);
}

/* The old summaries are held until the new ones are there. */
static void a_new_attention_needs_room_beside_the_old(void **state) {
    (void)state;
    size_t (*available)(void) = radar_sys_table.available;
    radar_session_options s = RADAR_SESSION_OPTIONS_DEFAULT;
    radar_engine *e = open_engine(8);
    radar_session *session;
    s.context = 100000, s.attention = "dense";
    if (radar_session_open(&session, e, &s)) fail_msg("%s", radar_last_error(e));
    available_bytes = 1000000;
    radar_sys_table.available = some;
    s.attention = "radar";
    const int32_t token[2] = {1, 2};
    assert_int_equal(radar_session_reconfigure(session, &s), RADAR_ERR_MEMORY);
    assert_non_null(
        strstr(radar_last_error(e), "another attention over the context of 100000 tokens needs"));
    radar_sys_table.available = available;
    assert_int_equal(radar_prefill(session, token, 2), RADAR_OK); /* it is as it was */
    assert_int_equal(radar_session_reconfigure(session, &s), RADAR_OK);
    radar_session_close(session);
    radar_engine_close(e);
    assert_int_equal(radar_alloc_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_reserve_what_was_planned),
        cmocka_unit_test(a_step_scores_the_bytes_that_were_planned),
        cmocka_unit_test(engines_reserve_the_workspace_that_was_planned),
        cmocka_unit_test(ranks_share_one_cache_and_one_model),
        cmocka_unit_test(long_contexts_do_not_overflow),
        cmocka_unit_test(what_does_not_fit_is_refused_before_the_weights_are_read),
        cmocka_unit_test(a_new_attention_needs_room_beside_the_old),
    };
    return cmocka_run_group_tests(tests, count_allocations, count_no_more);
}
