/* A fact hidden in a long text is found: every answer that dense attention gets right, the default attention gets right.
 * The two shortest prompts here; all ten in make check-long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "runtime/radar.h"

#define DEMO "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define DIGITS 5

/* Greedy digits after the prompt, its last token and everything after it under `attention`; true when they are the answer's. */
static bool answers(radar_engine *e, radar_session *s, const char *attention, const int32_t *ids,
                    size_t n, const json_t *answer) {
    bool right = true;
    assert_int_equal(radar_rewind(s, (int64_t)n - 1), RADAR_OK);
    assert_int_equal(radar_session_set_attention(s, attention), RADAR_OK);
    if (radar_score(s, ids + n - 1, 1, NULL) != RADAR_OK) fail_msg("%s", radar_last_error(e));
    for (size_t i = 0; i < DIGITS; i++) {
        int32_t token;
        assert_int_equal(radar_step(s, &token), RADAR_OK);
        right = right && token == json_integer_value(json_array_get(answer, i));
    }
    return right;
}

static void check_needle(radar_engine *e, const json_t *needle, int *n_dense, int *n_radar) {
    const char *prompt = json_string_value(json_object_get(needle, "prompt"));
    const json_t *answer = json_object_get(needle, "answer_ids");
    int32_t *ids;
    size_t n;
    radar_session *s;
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    radar_session_stats stats = {.size = sizeof stats};
    assert_int_equal(radar_tokenize(e, prompt, strlen(prompt), RADAR_TEXT_SPECIAL, &ids, &n),
                     RADAR_OK);
    assert_int_equal(n, json_integer_value(json_object_get(needle, "tokens")));
    opt.context = (int64_t)n + DIGITS;
    if (radar_session_open(&s, e, &opt) != RADAR_OK) fail_msg("%s", radar_last_error(e));
    assert_int_equal(radar_prefill(s, ids, n - 1), RADAR_OK);
    bool dense = answers(e, s, "dense", ids, n, answer),
         sparse = answers(e, s, "radar", ids, n, answer);
    assert_int_equal(radar_stats(s, &stats), RADAR_OK);
    assert_true(stats.segments_scored > 0);
    assert_true(stats.attended_tokens_mean < 0.6 * (double)n);
    print_message(
        "    %-8s %5zu tokens: dense %s, radar %s (%.0f tokens attended, coverage %.3f)\n",
        json_string_value(json_object_get(needle, "name")), n, dense ? "right" : "wrong",
        sparse ? "right" : "wrong", stats.attended_tokens_mean, stats.coverage_mean);
    if (dense && !sparse)
        fail_msg("dense attention finds the fact, the default attention does not");
    *n_dense += dense;
    *n_radar += sparse;
    radar_session_close(s);
    radar_release(ids);
}

static int by_length(const void *a, const void *b) {
    json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, "tokens"));
    json_int_t y = json_integer_value(json_object_get(*(json_t *const *)b, "tokens"));
    return (x > y) - (x < y);
}

static void what_dense_finds_the_default_attention_finds(void **state) {
    (void)state;
    json_error_t error;
    json_t *golden = json_load_file("tests/golden/needle-smollm2.json", 0, &error),
           *list = json_object_get(golden, "prompts"), *sorted[16];
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e;
    char text[512];
    int n_dense = 0, n_radar = 0;
    opt.model = DEMO;
    if (radar_engine_open(&e, MPI_COMM_NULL, &opt, text, sizeof text) != RADAR_OK) {
        if (getenv("RADAR_NO_MODEL")) skip();
        fail_msg("%s", text);
    }
    assert_int_equal(json_array_size(list), 10);
    for (size_t i = 0; i < 10; i++) sorted[i] = json_array_get(list, i);
    qsort(sorted, 10, sizeof *sorted, by_length);
    size_t n = 2;
    for (size_t i = 0; i < n; i++) check_needle(e, sorted[i], &n_dense, &n_radar);
    print_message("    right of %zu: dense %d, radar %d\n", n, n_dense, n_radar);
    assert_true(n_dense > 0);
    radar_engine_close(e);
    json_decref(golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_dense_finds_the_default_attention_finds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
