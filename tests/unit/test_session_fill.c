/* Positions that are made up: what the cache then holds, what is decoded from there, what is refused; and the read bandwidth. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/radar.h"

#define TINY "tests/golden/tiny/llama-tied-f32"
enum { CONTEXT = 1200, FILL = 900 };

static int stop_at = -1; /* in reports of "fill"; -1: never */

static int watch(void *user, const char *what, int64_t done, int64_t total) {
    (void)user, (void)total;
    return stop_at >= 0 && strcmp(what, "fill") == 0 && done >= stop_at;
}

static radar_engine *engine_on(const char *isa, int threads, int stripe) {
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e;
    char error[512] = "";
    opt.model = TINY;
    opt.stripe = stripe;
    opt.chunk = 128;
    opt.threads = threads;
    opt.isa = isa;
    opt.progress = watch;
    if (radar_engine_open(&e, MPI_COMM_NULL, &opt, error, sizeof error) != RADAR_OK)
        fail_msg("%s", error);
    return e;
}

static radar_engine *engine_of(int stripe) { return engine_on(NULL, 2, stripe); }

static radar_session_options options(const char *attention) {
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    opt.context = CONTEXT;
    opt.kv_type = "f32";
    opt.attention = attention;
    opt.dense_below = 0;
    opt.window = 64;
    opt.budget = 128;
    opt.temperature = 0;
    return opt;
}

static radar_session *session_of(radar_engine *e, const char *attention) {
    const radar_session_options opt = options(attention);
    radar_session *s;
    if (radar_session_open(&s, e, &opt) != RADAR_OK) fail_msg("%s", radar_last_error(e));
    return s;
}

static float wave(int layer, int head, int64_t position, int d, int value) {
    return (float)sin(0.37 * (double)position + 1.3 * d + 5 * layer + 7 * head + 11 * value);
}

typedef struct asked {
    int D;
    int64_t positions;
} asked;

static void fill(void *user, int layer, int head, int64_t first, int64_t n, float *key,
                 float *value) {
    asked *a = user;
    a->positions += n;
    for (int64_t i = 0; i < n; i++)
        for (int d = 0; d < a->D; d++) {
            key[i * a->D + d] = wave(layer, head, first + i, d, 0);
            value[i * a->D + d] = wave(layer, head, first + i, d, 1);
        }
}

static radar_model_info info_of(const radar_engine *e) {
    radar_model_info info = {.size = sizeof info};
    radar_engine_info(e, &info);
    return info;
}

static void the_cache_holds_what_was_made_up(void **state) {
    (void)state;
    radar_engine *e = engine_of(64);
    radar_session *s = session_of(e, "radar");
    const radar_model_info m = info_of(e);
    asked a = {.D = m.head_dim};
    const int32_t prompt[] = {5, 9, 2};
    float *key = malloc(2 * FILL * (size_t)m.head_dim * sizeof *key),
          *value = key + FILL * m.head_dim;
    assert_int_equal(radar_prefill(s, prompt, 3), RADAR_OK);
    assert_int_equal(radar_session_fill(s, FILL, fill, &a), RADAR_OK);
    assert_int_equal(radar_position(s), 3 + FILL);
    assert_int_equal(a.positions, FILL * m.layers * m.kv_heads);
    for (int layer = 0; layer < m.layers; layer++)
        for (int head = 0; head < m.kv_heads; head++) {
            assert_int_equal(radar_session_read(s, layer, head, 3, FILL, key, value), RADAR_OK);
            for (int i = 0; i < FILL; i++)
                for (int d = 0; d < m.head_dim; d++) {
                    assert_true(key[i * m.head_dim + d] == wave(layer, head, 3 + i, d, 0));
                    assert_true(value[i * m.head_dim + d] == wave(layer, head, 3 + i, d, 1));
                }
        }
    free(key);
    radar_session_close(s);
    radar_engine_close(e);
}

/* Logits of three tokens behind FILL positions, made up in `cuts` calls. */
static void logits_behind(radar_engine *e, int cuts, float *logits, int64_t *scored) {
    radar_session *s = session_of(e, "radar");
    asked a = {.D = info_of(e).head_dim};
    const int32_t token[] = {7, 3, 11};
    radar_session_stats stats = {.size = sizeof stats};
    for (int i = 0; i < cuts; i++) {
        const size_t n = (size_t)(FILL * (i + 1) / cuts - FILL * i / cuts);
        assert_int_equal(radar_session_fill(s, n, fill, &a), RADAR_OK);
    }
    assert_int_equal(radar_session_fill(s, 0, fill, &a), RADAR_OK);
    assert_int_equal(radar_score(s, token, 3, logits), RADAR_OK);
    assert_int_equal(radar_stats(s, &stats), RADAR_OK);
    *scored = stats.segments_scored;
    radar_session_close(s);
}

static void how_it_is_cut_does_not_change_a_bit(void **state) {
    (void)state;
    int64_t scored[3];
    float *logits[3];
    static const int stripes[] = {64, 64, 256}, cuts[] = {1, 7, 1};
    size_t bytes = 0;
    for (int i = 0; i < 3; i++) {
        radar_engine *e = engine_of(stripes[i]);
        bytes = 3 * (size_t)info_of(e).vocab * sizeof(float);
        logits[i] = malloc(bytes);
        logits_behind(e, cuts[i], logits[i], &scored[i]);
        radar_engine_close(e);
    }
    assert_true(scored[0] > 0); /* sealed blocks were candidates */
    assert_int_equal(scored[0], scored[1]);
    assert_memory_equal(logits[0], logits[1], bytes);
    assert_int_equal(scored[0], scored[2]);
    for (int i = 0; i < 3; i++) free(logits[i]);
}

static void what_cannot_be_made_up_is_refused(void **state) {
    (void)state;
    radar_engine *e = engine_of(64);
    asked a = {.D = info_of(e).head_dim};
    static const char *const sees_prompt[] = {"h2o", "snapkv", "subgen"};
    for (int i = 0; i < 3; i++) {
        radar_session *s = session_of(e, sees_prompt[i]);
        assert_int_equal(radar_session_fill(s, 10, fill, &a), RADAR_ERR_CONFIG);
        assert_non_null(strstr(radar_last_error(e), "has to see the prompt"));
        assert_int_equal(radar_position(s), 0);
        radar_session_close(s);
    }
    radar_session *s = session_of(e, "dense");
    assert_int_equal(radar_session_fill(s, CONTEXT + 1, fill, &a), RADAR_ERR_CONFIG);
    assert_int_equal(radar_session_fill(s, 10, NULL, &a), RADAR_ERR_USAGE);
    assert_int_equal(a.positions, 0);
    assert_int_equal(radar_session_fill(s, CONTEXT, fill, &a), RADAR_OK);
    assert_int_equal(radar_session_fill(s, 1, fill, &a), RADAR_ERR_CONFIG);
    radar_session_close(s);
    radar_engine_close(e);
}

/* A token that was sampled and not computed is in the cache before what is made up; what it gave is gone. */
static void a_sampled_token_comes_first(void **state) {
    (void)state;
    radar_engine *e = engine_of(64);
    radar_session *s = session_of(e, "dense");
    asked a = {.D = info_of(e).head_dim};
    const int32_t prompt[] = {5, 9};
    int32_t token;
    assert_int_equal(radar_prefill(s, prompt, 2), RADAR_OK);
    assert_int_equal(radar_step(s, &token), RADAR_OK);
    assert_int_equal(radar_session_fill(s, 4, fill, &a), RADAR_OK);
    assert_int_equal(radar_position(s), 7);
    assert_int_equal(radar_step(s, &token), RADAR_ERR_USAGE);
    assert_int_equal(radar_score(s, prompt, 1, NULL), RADAR_OK);
    assert_int_equal(radar_step(s, &token), RADAR_OK);
    radar_session_close(s);
    radar_engine_close(e);
}

static void a_wish_to_stop_keeps_what_is_whole(void **state) {
    (void)state;
    radar_engine *e = engine_of(64);
    radar_session *s = session_of(e, "radar");
    asked a = {.D = info_of(e).head_dim};
    const int32_t token = 1;
    stop_at = 300;
    assert_int_equal(radar_session_fill(s, FILL, fill, &a), RADAR_ERR_STOPPED);
    stop_at = -1;
    assert_int_equal(radar_position(s), 384); /* passes of 128 */
    assert_int_equal(radar_session_fill(s, 16, fill, &a), RADAR_OK);
    assert_int_equal(radar_score(s, &token, 1, NULL), RADAR_OK);
    assert_int_equal(radar_position(s), 401);
    radar_session_close(s);
    radar_engine_close(e);
}

/* It is told only where every word was read: threads and lines that do not divide the bytes leave none out. */
static void every_word_is_read(void **state) {
    (void)state;
    static const char *const isa[] = {NULL, "plain"};
    for (int i = 0; i < 2; i++)
        for (int threads = 1; threads <= 3; threads++) {
            radar_engine *e = engine_on(isa[i], threads, 64);
            assert_true(radar_read_bandwidth(e, (1 << 20) + 13 * 64 + 5) > 0);
            radar_engine_close(e);
        }
}

static void the_read_bandwidth_is_that_of_memory(void **state) {
    (void)state;
    radar_engine *e = engine_of(64);
    const double small = radar_read_bandwidth(e, 1), rate = radar_read_bandwidth(e, 96 << 20);
    print_message("%.1f GB/s, of 1 MB %.1f GB/s\n", rate * 1e-9, small * 1e-9);
    assert_true(rate > 1e8 && rate < 1e13 && isfinite(small) && small > 0);
    assert_true(radar_read_bandwidth(e, (size_t)1 << 62) == 0); /* nobody has that much */
    radar_engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cache_holds_what_was_made_up),
        cmocka_unit_test(how_it_is_cut_does_not_change_a_bit),
        cmocka_unit_test(what_cannot_be_made_up_is_refused),
        cmocka_unit_test(a_sampled_token_comes_first),
        cmocka_unit_test(a_wish_to_stop_keeps_what_is_whole),
        cmocka_unit_test(every_word_is_read),
        cmocka_unit_test(the_read_bandwidth_is_that_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
