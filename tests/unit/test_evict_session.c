/* Sessions whose attention keeps a state: rows cut in any way, rewinding, other attentions in between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base.h"
#include "runtime/radar.h"
#include "runtime/sys.h"

enum { N = 420, FROM = 330, MORE = N - FROM, VOCAB = 128 };

static const char *const both[] = {"h2o", "snapkv"};
static int32_t ids[N];
static float want[MORE * VOCAB], got[MORE * VOCAB];

static int fill_ids(void **state) {
    (void)state;
    for (int i = 0; i < N; i++) ids[i] = (int32_t)(radar_random(5, 1, (uint64_t)i) % VOCAB);
    return 0;
}

static radar_engine *open_engine(int chunk) {
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e;
    char error[512] = "";
    opt.model = "tests/golden/tiny/qwen3-qknorm-bf16";
    opt.chunk = chunk, opt.stripe = 64, opt.threads = 2;
    if (radar_engine_open(&e, MPI_COMM_NULL, &opt, error, sizeof error) != RADAR_OK)
        fail_msg("%s", error);
    return e;
}

static radar_session *open_session(radar_engine *e, const char *attention) {
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    radar_session *s;
    opt.context = N, opt.attention = attention, opt.window = 32, opt.budget = 64, opt.observe = 16;
    if (radar_session_open(&s, e, &opt) != RADAR_OK) fail_msg("%s", radar_last_error(e));
    return s;
}

static void score(radar_session *s, float *logits, int first, int n, int at_once) {
    for (int m; n > 0; n -= m, first += m, logits += m * VOCAB) {
        m = n < at_once ? n : at_once;
        assert_int_equal(radar_score(s, ids + first, (size_t)m, logits), RADAR_OK);
    }
}

/* Logits of positions FROM .. N after a prefill of the rest. */
static void straight(radar_engine *e, const char *attention) {
    radar_session *s = open_session(e, attention);
    radar_session_stats stats = {.size = sizeof stats};
    assert_int_equal(radar_prefill(s, ids, FROM), RADAR_OK);
    score(s, want, FROM, MORE, MORE);
    assert_int_equal(radar_stats(s, &stats), RADAR_OK);
    /* window + budget; beside it every token after the first of the answer */
    double tokens = strcmp(attention, "h2o") == 0 ? 96 : 96 + (MORE + 1) / 2.0;
    assert_true(stats.attended_tokens_mean == tokens);
    assert_true(stats.coverage_min == 1 && stats.steps == MORE);
    radar_session_close(s);
}

static void rows_do_not_depend_on_the_rows_beside_them(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        radar_engine *e = open_engine(512), *chunks = open_engine(64);
        straight(e, both[i]);
        radar_session *s = open_session(chunks, both[i]);
        assert_int_equal(radar_prefill(s, ids, 7), RADAR_OK);
        assert_int_equal(radar_prefill(s, ids + 7, FROM - 7), RADAR_OK);
        score(s, got, FROM, MORE, 1);
        assert_memory_equal(got, want, sizeof want);
        radar_session_close(s);
        radar_engine_close(e);
        radar_engine_close(chunks);
    }
    assert_int_equal(radar_alloc_live(), 0);
}

static void a_rewound_session_repeats_itself(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        radar_engine *e = open_engine(512);
        straight(e, both[i]);
        radar_session *s = open_session(e, both[i]);
        assert_int_equal(radar_prefill(s, ids, FROM), RADAR_OK);
        score(s, got, FROM, 50, 50);
        assert_int_equal(radar_rewind(s, FROM + 20), RADAR_ERR_CONFIG);
        assert_non_null(strstr(radar_last_error(e), "where the prefill ended"));
        assert_int_equal(radar_rewind(s, FROM - 1), RADAR_ERR_CONFIG);
        assert_int_equal(radar_position(s), FROM + 50);
        score(s, got + 50 * VOCAB, FROM + 50, MORE - 50, 7); /* as if nothing had been asked */
        assert_memory_equal(got, want, sizeof want);
        for (int back = 0; back < 2; back++) {
            memset(got, 0, sizeof got);
            assert_int_equal(radar_rewind(s, back ? 0 : FROM), RADAR_OK);
            if (back) assert_int_equal(radar_prefill(s, ids, FROM), RADAR_OK);
            score(s, got, FROM, MORE, 13);
            assert_memory_equal(got, want, sizeof want);
        }
        radar_session_close(s);
        radar_engine_close(e);
    }
    assert_int_equal(radar_alloc_live(), 0);
}

/* Rows under another attention, and a prefill after them, leave the state where it was. */
static void other_attentions_in_between_change_nothing(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        radar_engine *e = open_engine(512);
        straight(e, both[i]);
        radar_session *s = open_session(e, both[i]);
        assert_int_equal(radar_prefill(s, ids, FROM), RADAR_OK);
        assert_int_equal(radar_session_set_attention(s, "dense"), RADAR_OK);
        score(s, got, FROM, 40, 40);
        assert_memory_not_equal(got, want, 40 * VOCAB * sizeof *got);
        assert_int_equal(radar_prefill(s, ids, 30), RADAR_OK);
        assert_int_equal(radar_session_set_attention(s, both[i]), RADAR_ERR_CONFIG);
        assert_int_equal(radar_rewind(s, FROM), RADAR_OK);
        assert_int_equal(radar_session_set_attention(s, both[i]), RADAR_OK);
        score(s, got, FROM, MORE, MORE);
        assert_memory_equal(got, want, sizeof want);
        radar_session_close(s);
        radar_engine_close(e);
    }
}

/* A session of another attention takes these up at position 0 alone. */
static void they_have_to_see_the_prompt(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        radar_engine *e = open_engine(512);
        straight(e, both[i]);
        radar_session *s = open_session(e, "radar");
        radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
        opt.context = N, opt.attention = both[i], opt.window = 32, opt.budget = 64;
        opt.observe = 16;
        assert_int_equal(radar_prefill(s, ids, FROM), RADAR_OK);
        assert_int_equal(radar_session_set_attention(s, both[i]), RADAR_ERR_CONFIG);
        assert_int_equal(radar_session_reconfigure(s, &opt), RADAR_ERR_CONFIG);
        assert_int_equal(radar_rewind(s, 0), RADAR_OK);
        assert_int_equal(radar_session_reconfigure(s, &opt), RADAR_OK);
        assert_int_equal(radar_prefill(s, ids, FROM), RADAR_OK);
        score(s, got, FROM, MORE, MORE);
        assert_memory_equal(got, want, sizeof want);
        radar_session_close(s);
        radar_engine_close(e);
    }
    assert_int_equal(radar_alloc_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_do_not_depend_on_the_rows_beside_them),
        cmocka_unit_test(a_rewound_session_repeats_itself),
        cmocka_unit_test(other_attentions_in_between_change_nothing),
        cmocka_unit_test(they_have_to_see_the_prompt),
    };
    return cmocka_run_group_tests(tests, fill_ids, NULL);
}
