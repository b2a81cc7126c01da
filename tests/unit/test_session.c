/* What a session may be told after it was opened: another attention on the cache it has; and how it refuses numbers that are none. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/unit/engine_fixture.h"
#include "runtime/radar.h"

#define TINY "tests/golden/tiny/llama-tied-f32"
enum { TOKENS = 600, PREFILL = 560 };

static int vocab_of(const radar_engine *e) {
    radar_model_info info = {.size = sizeof info};
    radar_engine_info(e, &info);
    return info.vocab;
}

static void fill(int32_t *token, int vocab) {
    uint32_t state = 7;
    for (int i = 0; i < TOKENS; i++) {
        state = state * 1664525u + 1013904223u;
        token[i] = (int32_t)((state >> 8) % (uint32_t)vocab);
    }
}

static radar_session_options options(const char *attention, const char *scorer) {
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    opt.context = TOKENS;
    opt.attention = attention;
    opt.scorer = scorer;
    opt.dense_below = 0;
    opt.window = 64;
    opt.budget = 128;
    return opt;
}

static radar_session *session_of(radar_engine *e, const radar_session_options *opt) {
    radar_session *s;
    if (radar_session_open(&s, e, opt) != RADAR_OK) fail_msg("%s", radar_last_error(e));
    return s;
}

/* Logits of the rows behind the prefill, [TOKENS - PREFILL, vocab]; what was scored before is forgotten. */
static float *scored(radar_engine *e, radar_session *s, const int32_t *token) {
    size_t n = TOKENS - PREFILL;
    float *logits = malloc(n * (size_t)vocab_of(e) * sizeof *logits);
    assert_int_equal(radar_rewind(s, PREFILL), RADAR_OK);
    if (radar_score(s, token + PREFILL, n, logits) != RADAR_OK) fail_msg("%s", radar_last_error(e));
    return logits;
}

static int64_t segments_scored(radar_session *s) {
    radar_session_stats stats = {.size = sizeof stats};
    assert_int_equal(radar_stats(s, &stats), RADAR_OK);
    return stats.segments_scored;
}

/* One session taken through settings in turn computes what a session opened with each would. */
static void a_reconfigured_session_equals_a_fresh_one(void **state) {
    (void)state;
    static const char *const settings[][2] = {{"radar", "mean"},     {"radar", "exact"},
                                              {"dense", "sketch"},   {"radar", "rf"},
                                              {"streaming", "mean"}, {"radar", "sketch"}};
    radar_engine *e = engine_of(TINY, 0);
    size_t bytes = (size_t)(TOKENS - PREFILL) * (size_t)vocab_of(e) * sizeof(float);
    int32_t token[TOKENS];
    fill(token, vocab_of(e));
    radar_session_options first = options("radar", "sketch");
    radar_session *kept = session_of(e, &first);
    assert_int_equal(radar_prefill(kept, token, PREFILL), RADAR_OK);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        radar_session_options opt = options(settings[i][0], settings[i][1]);
        radar_session *fresh = session_of(e, &opt);
        assert_int_equal(radar_prefill(fresh, token, PREFILL), RADAR_OK);
        assert_int_equal(radar_rewind(kept, PREFILL), RADAR_OK);
        if (radar_session_reconfigure(kept, &opt) != RADAR_OK) fail_msg("%s", radar_last_error(e));
        float *a = scored(e, fresh, token), *b = scored(e, kept, token);
        assert_memory_equal(a, b, bytes);
        assert_int_equal(segments_scored(fresh), segments_scored(kept));
        assert_int_equal(segments_scored(kept) > 0, strcmp(settings[i][0], "radar") == 0);
        free(a), free(b);
        radar_session_close(fresh);
    }
    radar_session_close(kept);
    radar_engine_close(e);
}

static void a_refused_setting_changes_nothing(void **state) {
    (void)state;
    radar_engine *e = engine_of(TINY, 0);
    size_t bytes = (size_t)(TOKENS - PREFILL) * (size_t)vocab_of(e) * sizeof(float);
    int32_t token[TOKENS];
    fill(token, vocab_of(e));
    radar_session_options good = options("radar", "sketch"), bad[] = {good, good, good, good};
    bad[0].scorer = "guess";
    bad[1].attention = "none";
    bad[2].window = 0;
    bad[3].rf_temper = 2;
    radar_session *s = session_of(e, &good);
    assert_int_equal(radar_prefill(s, token, PREFILL), RADAR_OK);
    float *before = scored(e, s, token);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(radar_session_reconfigure(s, &bad[i]), RADAR_ERR_USAGE);
        assert_true(strlen(radar_last_error(e)) > 10);
    }
    float *after = scored(e, s, token);
    assert_memory_equal(before, after, bytes);
    free(before), free(after);
    radar_session_close(s);
    radar_engine_close(e);
}

static void a_session_is_set_to_its_own_or_a_simple_attention(void **state) {
    (void)state;
    radar_engine *e = engine_of(TINY, 0);
    radar_session_options opt = options("dense", "sketch");
    radar_session *s = session_of(e, &opt);
    assert_int_equal(radar_session_set_attention(s, "streaming"), RADAR_OK);
    assert_int_equal(radar_session_set_attention(s, "radar"), RADAR_ERR_CONFIG);
    assert_int_equal(radar_session_set_attention(s, "nothing"), RADAR_ERR_USAGE);
    assert_int_equal(radar_session_set_attention(s, "dense"), RADAR_OK);
    radar_session_close(s);
    radar_engine_close(e);
}

/* Both work in the session's scratch: neither finds what the other left there. */
static void an_attention_in_between_leaves_no_trace(void **state) {
    (void)state;
    radar_engine *e = engine_of(TINY, 0);
    size_t bytes = (size_t)(TOKENS - PREFILL) * (size_t)vocab_of(e) * sizeof(float);
    int32_t token[TOKENS];
    fill(token, vocab_of(e));
    radar_session_options opt = options("radar", "sketch");
    opt.restream = 1;
    radar_session *s = session_of(e, &opt);
    assert_int_equal(radar_prefill(s, token, PREFILL), RADAR_OK);
    float *before = scored(e, s, token);
    assert_int_equal(radar_session_set_attention(s, "streaming"), RADAR_OK);
    float *other = scored(e, s, token);
    assert_memory_not_equal(before, other, bytes);
    assert_int_equal(radar_session_set_attention(s, "radar"), RADAR_OK);
    float *after = scored(e, s, token);
    assert_memory_equal(before, after, bytes);
    free(before), free(other), free(after);
    radar_session_close(s);
    radar_engine_close(e);
}

/* A prompt behind rows of another attention is not taken up, so that going back to before them finds the state of then. */
static void a_prompt_behind_a_gap_is_not_remembered(void **state) {
    (void)state;
    static const char *const sees[] = {"h2o", "snapkv", "subgen"};
    enum { GAP = PREFILL - 100 };
    radar_engine *e = engine_of(TINY, 0);
    size_t bytes = (size_t)(TOKENS - PREFILL) * (size_t)vocab_of(e) * sizeof(float);
    int32_t token[TOKENS];
    fill(token, vocab_of(e));
    for (int i = 0; i < 3; i++) {
        radar_session_options opt = options(sees[i], "sketch");
        radar_session *s = session_of(e, &opt), *fresh = session_of(e, &opt);
        assert_int_equal(radar_prefill(fresh, token, PREFILL), RADAR_OK);
        assert_int_equal(radar_prefill(s, token, GAP), RADAR_OK);
        assert_int_equal(radar_session_set_attention(s, "dense"), RADAR_OK);
        assert_int_equal(radar_score(s, token, 20, NULL), RADAR_OK);
        assert_int_equal(radar_prefill(s, token, 100), RADAR_OK);
        assert_int_equal(radar_rewind(s, GAP), RADAR_OK);
        assert_int_equal(radar_session_set_attention(s, sees[i]), RADAR_OK);
        assert_int_equal(radar_prefill(s, token + GAP, PREFILL - GAP), RADAR_OK);
        float *a = scored(e, fresh, token), *b = scored(e, s, token);
        assert_memory_equal(a, b, bytes);
        free(a), free(b);
        radar_session_close(s);
        radar_session_close(fresh);
    }
    radar_engine_close(e);
}

/* What has to see the prompt is refused behind one and taken before it; Radar as published is made from the cache at any position. */
static void an_attention_with_a_memory_is_taken_where_it_can_be(void **state) {
    (void)state;
    static const char *const sees[] = {"h2o", "snapkv", "subgen"}, *const looks[] = {"paper",
                                                                                     "code"};
    radar_engine_options one = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e;
    char error[512] = "";
    one.model = TINY;
    one.shards = 1;
    if (radar_engine_open(&e, MPI_COMM_NULL, &one, error, sizeof error) != RADAR_OK)
        fail_msg("%s", error);
    size_t bytes = (size_t)(TOKENS - PREFILL) * (size_t)vocab_of(e) * sizeof(float);
    int32_t token[TOKENS];
    fill(token, vocab_of(e));
    radar_session_options first = options("radar", "sketch");
    radar_session *s = session_of(e, &first);
    for (int i = 0; i < 5; i++) {
        radar_session_options opt = options(i < 3 ? sees[i] : looks[i - 3], "rf");
        opt.segments = i < 3 ? 0 : 4;
        radar_session *fresh = session_of(e, &opt);
        assert_int_equal(radar_rewind(s, 0), RADAR_OK);
        assert_int_equal(radar_session_reconfigure(s, &first), RADAR_OK);
        assert_int_equal(radar_prefill(s, token, PREFILL), RADAR_OK);
        assert_int_equal(radar_session_reconfigure(s, &opt), i < 3 ? RADAR_ERR_CONFIG : RADAR_OK);
        if (i < 3) {
            assert_int_equal(radar_rewind(s, 0), RADAR_OK);
            assert_int_equal(radar_session_reconfigure(s, &opt), RADAR_OK);
            assert_int_equal(radar_prefill(s, token, PREFILL), RADAR_OK);
        }
        assert_int_equal(radar_prefill(fresh, token, PREFILL), RADAR_OK);
        float *a = scored(e, fresh, token), *b = scored(e, s, token);
        assert_memory_equal(a, b, bytes);
        free(a), free(b);
        radar_session_close(fresh);
    }
    radar_session_close(s);
    radar_engine_close(e);
}

/* ---- weights that are no numbers ---- */

static void *slurp(const char *path, size_t *bytes) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *bytes = (size_t)ftell(f);
    rewind(f);
    void *p = malloc(*bytes);
    assert_int_equal(fread(p, 1, *bytes, f), *bytes);
    fclose(f);
    return p;
}

static void spill(const char *folder, const char *name, const void *data, size_t bytes) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

/* A copy of the tiny model, the first element of one tensor replaced. */
static void spoiled_model(const char *folder, const char *tensor, float value) {
    size_t bytes, config_bytes;
    char *file = slurp(TINY "/model.safetensors", &bytes);
    char *config = slurp(TINY "/config.json", &config_bytes);
    uint64_t header;
    json_error_t why;
    memcpy(&header, file, sizeof header);
    json_t *list = json_loadb(file + 8, (size_t)header, 0, &why);
    json_t *offsets = json_object_get(json_object_get(list, tensor), "data_offsets");
    assert_non_null(offsets);
    memcpy(file + 8 + header + json_integer_value(json_array_get(offsets, 0)), &value,
           sizeof value);
    spill(folder, "model.safetensors", file, bytes);
    spill(folder, "config.json", config, config_bytes);
    json_decref(list);
    free(file), free(config);
}

static void remove_model(const char *folder) {
    char path[512];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    remove(path);
    snprintf(path, sizeof path, "%s/config.json", folder);
    remove(path);
    remove(folder);
}

/* The first position and layer are named, again when it is tried again. */
static void values_that_are_not_finite_are_refused_by_place(void **state) {
    (void)state;
    static const float odd[] = {NAN, INFINITY};
    for (int i = 0; i < 2; i++) {
        char folder[] = "/tmp/radar-odd-XXXXXX";
        assert_non_null(mkdtemp(folder));
        spoiled_model(folder, "model.layers.1.post_attention_layernorm.weight", odd[i]);
        radar_engine *e = engine_of(folder, 0);
        radar_session_options opt = options("radar", "sketch");
        radar_session *s = session_of(e, &opt);
        int32_t token[TOKENS];
        fill(token, vocab_of(e));
        assert_int_equal(radar_prefill(s, token, 5), RADAR_ERR_DATA);
        if (!strstr(radar_last_error(e), "position 0:") ||
            !strstr(radar_last_error(e), "after layer 1;"))
            fail_msg("%s", radar_last_error(e));
        assert_int_equal(radar_position(s), 0);
        assert_int_equal(radar_prefill(s, token, 5), RADAR_ERR_DATA);
        radar_session_close(s);
        radar_engine_close(e);
        remove_model(folder);
    }
}

/* Logits that are no numbers: the tokens before them stay, and the session can go back. */
static void a_head_that_fails_leaves_the_session_usable(void **state) {
    (void)state;
    char folder[] = "/tmp/radar-odd-XXXXXX";
    assert_non_null(mkdtemp(folder));
    spoiled_model(folder, "model.norm.weight", NAN);
    radar_engine *e = engine_of(folder, 0);
    radar_session_options opt = options("radar", "sketch");
    radar_session *s = session_of(e, &opt);
    int32_t token[TOKENS];
    float *logits = malloc(2 * (size_t)vocab_of(e) * sizeof *logits);
    fill(token, vocab_of(e));
    assert_int_equal(radar_prefill(s, token, 5), RADAR_ERR_DATA);
    assert_non_null(strstr(radar_last_error(e), "position 4: values that are not finite"));
    assert_non_null(strstr(radar_last_error(e), "after the head;"));
    assert_int_equal(radar_score(s, token + 5, 2, logits), RADAR_ERR_DATA);
    assert_int_equal(radar_position(s), 7);
    assert_int_equal(radar_rewind(s, 3), RADAR_OK);
    assert_int_equal(radar_prefill(s, token + 3, 2), RADAR_ERR_DATA);
    assert_int_equal(radar_position(s), 5);
    free(logits);
    radar_session_close(s);
    radar_engine_close(e);
    remove_model(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reconfigured_session_equals_a_fresh_one),
        cmocka_unit_test(a_refused_setting_changes_nothing),
        cmocka_unit_test(a_session_is_set_to_its_own_or_a_simple_attention),
        cmocka_unit_test(an_attention_in_between_leaves_no_trace),
        cmocka_unit_test(a_prompt_behind_a_gap_is_not_remembered),
        cmocka_unit_test(an_attention_with_a_memory_is_taken_where_it_can_be),
        cmocka_unit_test(values_that_are_not_finite_are_refused_by_place),
        cmocka_unit_test(a_head_that_fails_leaves_the_session_usable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
