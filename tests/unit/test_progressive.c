/* --scan progressive in a session: equal to the full scan where nothing can drop out, the same whatever the rows beside it,
 * fewer bytes, and what it is refused with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/attention.h"
#include "runtime/radar.h"
#include "runtime/sys.h"

#define TINY "tests/golden/tiny/llama-tied-f32"
enum { TOKENS = 600, PREFILL = 560 };

static radar_engine *open_engine(void) {
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e;
    char error[512] = "";
    opt.model = TINY;
    opt.stripe = 64;
    if (radar_engine_open(&e, MPI_COMM_NULL, &opt, error, sizeof error) != RADAR_OK)
        fail_msg("%s", error);
    return e;
}

static radar_session_options options(const char *scan, int segments) {
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    opt.context = TOKENS;
    opt.scan = scan;
    opt.dense_below = 0;
    opt.window = 64;
    opt.segments = segments;
    return opt;
}

static void fill(int32_t *token, int vocab) {
    uint32_t state = 7;
    for (int i = 0; i < TOKENS; i++) {
        state = state * 1664525u + 1013904223u;
        token[i] = (int32_t)((state >> 8) % (uint32_t)vocab);
    }
}

/* Logits of the rows behind the prefill, `together` of them in each call, and the bytes that scoring read. */
static float *logits_of(radar_engine *e, const radar_session_options *opt, size_t together,
                        size_t *n_logits, int64_t *bytes) {
    radar_model_info info = {.size = sizeof info};
    radar_session_stats stats = {.size = sizeof stats};
    radar_session *s;
    int32_t token[TOKENS];
    radar_engine_info(e, &info);
    fill(token, info.vocab);
    *n_logits = (size_t)(TOKENS - PREFILL) * (size_t)info.vocab;
    float *logits = malloc(*n_logits * sizeof *logits);
    if (radar_session_open(&s, e, opt) != RADAR_OK) fail_msg("%s", radar_last_error(e));
    assert_int_equal(radar_prefill(s, token, PREFILL), RADAR_OK);
    for (size_t i = 0; i < TOKENS - PREFILL; i += together)
        assert_int_equal(
            radar_score(s, token + PREFILL + i, together, logits + i * (size_t)info.vocab),
            RADAR_OK);
    assert_int_equal(radar_stats(s, &stats), RADAR_OK);
    assert_true(stats.segments_scored > 0);
    *bytes = stats.scored_bytes;
    radar_session_close(s);
    return logits;
}

static void equals_the_full_scan_when_all_are_kept(void **state) {
    (void)state;
    radar_engine *e = open_engine();
    size_t n;
    int64_t bytes;
    for (int local = 0; local < 2; local++) {
        radar_session_options full = options("full", 64), progressive = options("progressive", 64);
        full.select = progressive.select = local ? "local" : "global";
        float *a = logits_of(e, &full, 1, &n, &bytes),
              *b = logits_of(e, &progressive, 1, &n, &bytes);
        assert_memory_equal(a, b, n * sizeof *a);
        free(a), free(b);
    }
    radar_engine_close(e);
}

static void rows_do_not_depend_on_those_beside_them(void **state) {
    (void)state;
    radar_engine *e = open_engine();
    size_t n;
    int64_t alone, together;
    radar_session_options opt = options("progressive", 1); /* something drops out at every stage */
    float *a = logits_of(e, &opt, 1, &n, &alone), *b = logits_of(e, &opt, 8, &n, &together);
    assert_memory_equal(a, b, n * sizeof *a);
    assert_int_equal(alone, together);
    opt.scan = "full";
    float *c = logits_of(e, &opt, 1, &n, &together);
    assert_true(memcmp(a, c, n * sizeof *a) != 0); /* it does choose by itself */
    free(a), free(b), free(c);
    radar_engine_close(e);
}

/* What a rank reads, at one row: the upper plane of all candidates, both planes of 8 times what is kept at most, and the keys of
 * each shard's share of twice that. */
static void reads_the_bytes_of_its_stages(void **state) {
    (void)state;
    radar_scorer *s;
    radar_scorer_options opt = {.D = 64, .seed = 1};
    assert_int_equal(radar_scorer_open(&s, "sketch", &opt, NULL), RADAR_OK);
    assert_int_equal(s->coarse_bytes, 8 * 64 + 64 + 64 + 8); /* of 17 * 64 + 72 */
    radar_scorer_close(s);
    radar_engine *e = open_engine();
    size_t n;
    int64_t full, few, many;
    radar_session_options a = options("full", 1), b = options("progressive", 1),
                          c = options("progressive", 64);
    free(logits_of(e, &a, 1, &n, &full));
    free(logits_of(e, &b, 1, &n, &few));
    free(logits_of(e, &c, 1, &n, &many));
    assert_true(few < many); /* more drop out */
    assert_true(many > full);
    radar_engine_close(e);
}

static void refuses_what_it_cannot_do(void **state) {
    (void)state;
    const struct {
        const char *scorer, *pick, *says;
        int64_t bits;
    } cases[] = {{"mean", "top", "--scorer sketch with --sketch-bits 2", 2},
                 {"exact", "top", "--scorer sketch with --sketch-bits 2", 2},
                 {"sketch", "top", "--scorer sketch with --sketch-bits 2", 1},
                 {"sketch", "top", "--scorer sketch with --sketch-bits 2", 4},
                 {"sketch", "random", "use --pick top", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        radar_session_options opt = options("progressive", 0);
        radar_error err = {0};
        radar_attention a;
        opt.scorer = cases[i].scorer;
        opt.pick = cases[i].pick;
        opt.sketch_bits = cases[i].bits;
        assert_int_equal(radar_attention_open(&a, &opt, 64, NULL, &err), RADAR_ERR_USAGE);
        if (!strstr(err.text, "--scan progressive") || !strstr(err.text, cases[i].says))
            fail_msg("case %zu: %s", i, err.text);
        assert_int_equal(radar_alloc_live(), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_full_scan_when_all_are_kept),
        cmocka_unit_test(rows_do_not_depend_on_those_beside_them),
        cmocka_unit_test(reads_the_bytes_of_its_stages),
        cmocka_unit_test(refuses_what_it_cannot_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
