/* radar_profile: its phases add up to the time of the passes, and its bytes are those of the weights, summaries and tokens read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/engine_fixture.h"
#include "runtime/radar.h"
#include "runtime/sys.h"

#define TINY "tests/golden/tiny/llama-tied-f32"
#define DEMO "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"
enum { TOKENS = 700, PREFILL = 600 };

static radar_model_info info_of(const radar_engine *e) {
    radar_model_info info = {.size = sizeof info};
    radar_engine_info(e, &info);
    return info;
}

static radar_session *session_of(radar_engine *e, const char *attention, const char *scorer,
                                 const char *kv_type, const char *scan) {
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    radar_session *s;
    opt.context = TOKENS, opt.attention = attention, opt.scorer = scorer, opt.kv_type = kv_type;
    opt.dense_below = 0, opt.window = 64, opt.budget = 128, opt.scan = scan;
    if (radar_session_open(&s, e, &opt) != RADAR_OK) fail_msg("%s", radar_last_error(e));
    return s;
}

static void fill(const radar_engine *e, int32_t token[TOKENS]) {
    uint32_t state = 7, vocab = (uint32_t)info_of(e).vocab;
    for (int i = 0; i < TOKENS; i++) {
        state = state * 1664525u + 1013904223u;
        token[i] = (int32_t)((state >> 8) % vocab);
    }
}

static radar_session_stats stats_of(radar_session *s) {
    radar_session_stats stats = {.size = sizeof stats};
    assert_int_equal(radar_stats(s, &stats), RADAR_OK);
    return stats;
}

/* NULL: did not occur. */
static const radar_phase *phase_of(radar_engine *e, const char *name) {
    const radar_phase *phase;
    size_t n;
    radar_profile(e, &phase, &n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(phase[i].name, name) == 0) return &phase[i];
    return NULL;
}

static double seconds(radar_engine *e) {
    const radar_phase *phase;
    double sum = 0;
    size_t n;
    radar_profile(e, &phase, &n);
    for (size_t i = 0; i < n; i++) {
        assert_true(phase[i].seconds >= 0);
        sum += phase[i].seconds;
    }
    return sum;
}

/* ---- time ---- */

/* One second goes by from a reading of the clock to the next, and nowhere else: what an operation took is known. */
static double now;
static double tick(void) { return now += 1; }

/* Readings outside of passes: those that time the agreement on a call's tokens. */
enum { OUTSIDE = 16 };

static void phases_add_up_to_the_time_of_the_passes(void **state) {
    (void)state;
    radar_engine *e = engine_of(TINY, 1);
    radar_session *s = session_of(e, "radar", "sketch", "f16", "full");
    int32_t token[TOKENS], next;
    double (*clock)(void) = radar_sys_table.clock;
    fill(e, token);
    assert_int_equal(radar_prefill(s, token, PREFILL), RADAR_OK);
    radar_sys_table.clock = tick;
    radar_profile_reset(e);
    double began = now;
    assert_int_equal(radar_step(s, &next), RADAR_OK);
    assert_int_equal(radar_step(s, &next), RADAR_OK);
    double gone = now - began, sum = seconds(e);
    radar_sys_table.clock = clock;
    if (sum > gone || sum < gone - OUTSIDE) fail_msg("phases: %g, passes: %g", sum, gone);
    radar_model_info info = info_of(e);
    static const struct {
        const char *phase;
        int calls; /* of a layer, in the one pass between two draws */
    } made[] = {{"scan", 1},
                {"top-k", 2}, /* the best keys, and lists of them */
                {"attend", 1},
                {"query", 1},
                {"coverage", 1}};
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        const radar_phase *p = phase_of(e, made[i].phase);
        assert_non_null(p);
        assert_int_equal(p->calls, made[i].calls * info.layers);
        assert_true(p->seconds == (double)p->calls);
    }
    assert_int_equal(phase_of(e, "matmul F32")->calls, 4 * info.layers + 1);
    assert_int_equal(phase_of(e, "sample")->calls, 2);
    assert_int_equal(phase_of(e, "other")->calls, 1);
    /* as many gaps as operations, and two readings for each exchange of a layer */
    assert_true(phase_of(e, "other")->seconds > 0.3 * sum);
    assert_true(phase_of(e, "other")->seconds < 0.7 * sum);
    radar_session_close(s);
    radar_engine_close(e);
}

/* ---- bytes ---- */

/* Per layer [576, 576] twice, [192, 576] twice and [1536, 576] three times in Q4_1, 20 bytes for 32 weights; the head [49152, 576]
 * in Q8_0, 34 bytes for 32. */
static void a_dense_pass_reads_every_weight_once(void **state) {
    (void)state;
    radar_engine *e = engine_of(DEMO, 1);
    radar_session *s = session_of(e, "dense", "sketch", "f16", "full");
    const int32_t token[] = {1, 2, 3, 4};
    radar_profile_reset(e);
    assert_int_equal(radar_score(s, token, 1, NULL), RADAR_OK);
    assert_true(phase_of(e, "matmul Q4_1")->bytes ==
                30.0 * (2 * 576 * 576 + 2 * 192 * 576 + 3 * 1536 * 576) * 20 / 32);
    assert_true(phase_of(e, "matmul Q8_0")->bytes == 49152.0 * 576 * 34 / 32);
    radar_profile_reset(e);
    assert_int_equal(radar_score(s, token + 1, 3, NULL), RADAR_OK); /* three rows, one reading */
    assert_true(phase_of(e, "matmul Q4_1")->bytes == 66355200);
    radar_session_close(s);
    radar_engine_close(e);
}

/* What rows of one pass each read, by radar_stats, which counts where the choice is made. */
static void scan_and_attention_read_what_the_session_counts(void **state) {
    (void)state;
    static const char *const settings[][4] = {
        {"radar", "sketch", "f16", "full"}, {"radar", "sketch", "f16", "progressive"},
        {"radar", "mean", "f32", "full"},   {"radar", "exact", "bf16", "full"},
        {"dense", "sketch", "f16", "full"}, {"streaming", "mean", "f16", "full"}};
    radar_engine *e = engine_of(TINY, 1);
    radar_model_info info = info_of(e);
    int32_t token[TOKENS];
    fill(e, token);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        radar_session *s =
            session_of(e, settings[i][0], settings[i][1], settings[i][2], settings[i][3]);
        bool scores = strcmp(settings[i][0], "radar") == 0;
        int element = strcmp(settings[i][2], "f32") == 0 ? 4 : 2;
        assert_int_equal(radar_prefill(s, token, PREFILL), RADAR_OK);
        radar_profile_reset(e);
        for (int t = PREFILL; t < TOKENS; t++)
            assert_int_equal(radar_score(s, token + t, 1, NULL), RADAR_OK);
        radar_session_stats stats = stats_of(s);
        double tokens =
            stats.attended_tokens_mean * (double)(stats.steps * info.layers * info.kv_heads);
        double attended = phase_of(e, "attend")->bytes, want = tokens * 2 * info.head_dim * element;
        if (!(attended > 0.999999 * want && attended < 1.000001 * want))
            fail_msg("%s: %g bytes attended, %g counted", settings[i][0], attended, want);
        assert_int_equal(stats.scored_bytes > 0, scores);
        assert_int_equal(phase_of(e, "scan") != NULL, scores);
        if (scores) assert_true(phase_of(e, "scan")->bytes == (double)stats.scored_bytes);
        radar_session_close(s);
    }
    radar_engine_close(e);
}

/* ---- what a profile leaves alone ---- */

static void nothing_is_counted_before_it_is_asked_for_nor_outside_passes(void **state) {
    (void)state;
    radar_engine *e = engine_of(TINY, 1);
    radar_session *s = session_of(e, "radar", "sketch", "f16", "full");
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    const radar_phase *phase;
    size_t n = 1;
    int32_t token[TOKENS];
    fill(e, token);
    assert_int_equal(radar_prefill(s, token, PREFILL), RADAR_OK);
    radar_profile(e, &phase, &n);
    assert_int_equal(n, 0);
    radar_profile_reset(e);
    opt.context = TOKENS, opt.scorer = "mean", opt.window = 64; /* seals every block anew */
    assert_int_equal(radar_session_reconfigure(s, &opt), RADAR_OK);
    radar_profile(e, &phase, &n);
    assert_int_equal(n, 0);
    assert_int_equal(radar_score(s, token + PREFILL, 1, NULL), RADAR_OK);
    radar_profile(e, &phase, &n);
    assert_true(n > 4);
    assert_string_equal(phase[n - 1].name, "other");
    radar_profile_reset(e);
    radar_profile(e, &phase, &n);
    assert_int_equal(n, 0);
    radar_session_close(s);
    radar_engine_close(e);
}

static void a_profile_changes_no_bit(void **state) {
    (void)state;
    radar_engine *e = engine_of(TINY, 1);
    radar_session *s = session_of(e, "radar", "sketch", "f16", "full");
    size_t n = TOKENS - PREFILL, floats = n * (size_t)info_of(e).vocab;
    float *without = malloc(floats * sizeof *without), *with = malloc(floats * sizeof *with);
    int32_t token[TOKENS];
    fill(e, token);
    assert_int_equal(radar_prefill(s, token, PREFILL), RADAR_OK);
    assert_int_equal(radar_score(s, token + PREFILL, n, without), RADAR_OK);
    assert_int_equal(radar_rewind(s, PREFILL), RADAR_OK);
    radar_profile_reset(e);
    assert_int_equal(radar_score(s, token + PREFILL, n, with), RADAR_OK);
    assert_memory_equal(without, with, floats * sizeof *with);
    free(without), free(with);
    radar_session_close(s);
    radar_engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phases_add_up_to_the_time_of_the_passes),
        cmocka_unit_test(a_dense_pass_reads_every_weight_once),
        cmocka_unit_test(scan_and_attention_read_what_the_session_counts),
        cmocka_unit_test(nothing_is_counted_before_it_is_asked_for_nor_outside_passes),
        cmocka_unit_test(a_profile_changes_no_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
