/* The whole decoder on one rank against golden data made by independent implementations (tests/golden/README.md). */
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

#include "runtime/radar.h"
#include "runtime/sys.h"

/* Under sanitizers, ten times slower, only the beginning of each golden text is computed. */
#if defined(__SANITIZE_ADDRESS__)
#define TEXT_TOKENS 400
#else
#define TEXT_TOKENS SIZE_MAX
#endif

#define DEMO "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"

static json_t *load(const char *path) {
    json_error_t e;
    json_t *j = json_load_file(path, 0, &e);
    if (!j) fail_msg("%s: %s", path, e.text);
    return j;
}

static void *slurp(const char *path, size_t *bytes) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: missing", path);
    fseek(f, 0, SEEK_END);
    *bytes = (size_t)ftell(f);
    rewind(f);
    void *p = malloc(*bytes ? *bytes : 1);
    assert_int_equal(fread(p, 1, *bytes, f), *bytes);
    fclose(f);
    return p;
}

static int32_t *ids_of(const json_t *list, size_t *n) {
    *n = json_array_size(list);
    int32_t *ids = malloc((*n ? *n : 1) * sizeof *ids);
    for (size_t i = 0; i < *n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return ids;
}

static bool demo_absent(void) {
    FILE *f = fopen(DEMO, "rb");
    if (f) fclose(f);
    if (!f && !getenv("RADAR_NO_MODEL")) fail_msg("%s is missing: make model fetches it", DEMO);
    return !f;
}

static radar_engine *open_engine(const char *model) {
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e;
    char error[512] = "";
    opt.model = model;
    opt.precision = "exact";
    if (radar_engine_open(&e, MPI_COMM_NULL, &opt, error, sizeof error) != RADAR_OK)
        fail_msg("%s", error);
    return e;
}

static radar_session *open_session(radar_engine *e, const char *attention, int64_t context) {
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    radar_session *s;
    opt.kv_type = "f32";
    opt.attention = attention;
    opt.context = context;
    if (radar_session_open(&s, e, &opt) != RADAR_OK) fail_msg("%s", radar_last_error(e));
    return s;
}

/* Greedy ids must be golden's up to the first near-tie. */
static void check_greedy(radar_session *s, const json_t *ids, const json_t *margins) {
    for (size_t i = 0; i < json_array_size(ids); i++) {
        int32_t token;
        if (json_number_value(json_array_get(margins, i)) < 0.005) return;
        assert_int_equal(radar_step(s, &token), RADAR_OK);
        assert_int_equal(token, json_integer_value(json_array_get(ids, i)));
    }
}

/* ---- tiny models of every family ---- */

static double worst_of(const float *got, const float *want, size_t n, double tolerance) {
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        if (!(d <= tolerance))
            fail_msg("logit %zu: %.9g, golden %.9g", i, (double)got[i], (double)want[i]);
        worst = d > worst ? d : worst;
    }
    return worst;
}

static double check_run(radar_engine *e, const char *name, const json_t *run) {
    char path[256];
    size_t n, bytes;
    int32_t *ids = ids_of(json_object_get(run, "ids"), &n);
    radar_model_info info = {.size = sizeof info};
    radar_engine_info(e, &info);
    snprintf(path, sizeof path, "tests/golden/tiny/%s/logits-%zu.f32", name, n);
    float *want = slurp(path, &bytes), *got = malloc(bytes);
    assert_int_equal(bytes, n * (size_t)info.vocab * sizeof *got);
    radar_session *s = open_session(e, "dense", 512);
    assert_int_equal(radar_score(s, ids, n, got), RADAR_OK);
    double worst = worst_of(got, want, n * (size_t)info.vocab, 1e-4);
    check_greedy(s, json_object_get(run, "greedy_ids"), json_object_get(run, "greedy_margin"));
    radar_session_close(s);
    /* prefill gives the same last logits as rows one by one */
    s = open_session(e, "dense", 512);
    assert_int_equal(radar_prefill(s, ids, n), RADAR_OK);
    assert_memory_equal(radar_logits(s), got + (n - 1) * (size_t)info.vocab,
                        (size_t)info.vocab * sizeof *got);
    radar_session_close(s);
    free(got);
    free(want);
    free(ids);
    return worst;
}

static void tiny_models_of_all_families_give_golden_logits(void **state) {
    (void)state;
    json_t *tiny = load("tests/golden/tiny-models.json"), *models = json_object_get(tiny, "models");
    assert_int_equal(json_array_size(models), 8);
    for (size_t i = 0; i < json_array_size(models); i++) {
        const json_t *model = json_array_get(models, i), *runs = json_object_get(model, "runs");
        const char *name = json_string_value(json_object_get(model, "name"));
        char path[256];
        double worst = 0;
        snprintf(path, sizeof path, "tests/golden/tiny/%s", name);
        radar_engine *e = open_engine(path);
        for (size_t r = 0; r < json_array_size(runs); r++)
            worst = fmax(worst, check_run(e, name, json_array_get(runs, r)));
        radar_engine_close(e);
        print_message("    %s: worst logit error %.2g\n", name, worst);
    }
    json_decref(tiny);
    assert_int_equal(radar_alloc_live(), 0);
}

/* ---- the demo model ---- */

static double log_sum_exp(const float *logit, int n) {
    double m = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) m = fmax(m, (double)logit[i]);
    for (int i = 0; i < n; i++) sum += exp((double)logit[i] - m);
    return m + log(sum);
}

static void check_prompt(radar_engine *e, const json_t *prompt, int vocab) {
    size_t n, i;
    json_t *pair;
    int32_t *ids = ids_of(json_object_get(prompt, "ids"), &n);
    radar_session *s = open_session(e, "dense", (int64_t)n + 64);
    assert_int_equal(radar_prefill(s, ids, n), RADAR_OK);
    const float *logit = radar_logits(s);
    json_array_foreach(json_object_get(prompt, "top20"), i, pair) {
        double want = json_number_value(json_array_get(pair, 1)),
               got = (double)logit[json_integer_value(json_array_get(pair, 0))];
        if (!(fabs(got - want) <= 1e-3))
            fail_msg("%s: logit %g, golden %g", json_string_value(json_object_get(prompt, "name")),
                     got, want);
    }
    assert_true(fabs(log_sum_exp(logit, vocab) -
                     json_number_value(json_object_get(prompt, "logsumexp"))) <= 1e-3);
    double squares = 0, want = json_number_value(json_object_get(prompt, "logits_sum_squares"));
    for (int j = 0; j < vocab; j++) squares += (double)logit[j] * (double)logit[j];
    assert_true(fabs(squares - want) <= 1e-4 * want);
    check_greedy(s, json_object_get(prompt, "greedy_ids"),
                 json_object_get(prompt, "greedy_margin"));
    radar_session_close(s);
    free(ids);
}

static void demo_model_gives_golden_logits_and_greedy_text(void **state) {
    (void)state;
    if (demo_absent()) skip();
    json_t *golden = load("tests/golden/model-smollm2.json"), *prompt;
    size_t i;
    radar_engine *e = open_engine(DEMO);
    json_array_foreach(json_object_get(golden, "prompts"), i, prompt)
        check_prompt(e, prompt, 49152);
    radar_engine_close(e);
    json_decref(golden);
}

/* Loss of every token of a golden text, dense: mean, rms and worst error within the tolerances of tests/golden/README.md. */
static void check_losses(const char *ids_path, const char *nll_path, double want_mean) {
    size_t id_bytes, nll_bytes, rows = 64;
    int vocab = 49152;
    int32_t *ids = slurp(ids_path, &id_bytes);
    float *want = slurp(nll_path, &nll_bytes),
          *logits = malloc(rows * (size_t)vocab * sizeof *logits);
    size_t all = id_bytes / sizeof *ids, n = all < TEXT_TOKENS ? all : TEXT_TOKENS;
    double sum = 0, squares = 0, worst = 0;
    radar_engine *e = open_engine(DEMO);
    radar_session *s = open_session(e, "dense", (int64_t)n);
    for (size_t first = 0; first + 1 < n; first += rows) {
        size_t m = first + rows < n - 1 ? rows : n - 1 - first;
        assert_int_equal(radar_score(s, ids + first, m, logits), RADAR_OK);
        for (size_t i = 0; i < m; i++) {
            const float *logit = logits + i * (size_t)vocab;
            double nll = log_sum_exp(logit, vocab) - (double)logit[ids[first + i + 1]],
                   d = fabs(nll - (double)want[first + i]);
            if (!(d <= 5e-3))
                fail_msg("position %zu: loss %g, golden %g", first + i, nll,
                         (double)want[first + i]);
            sum += nll;
            squares += d * d;
            worst = fmax(worst, d);
        }
    }
    double mean = sum / (double)(n - 1), rms = sqrt(squares / (double)(n - 1));
    print_message("    %s: mean loss %.6f (golden %.6f), error rms %.2g, worst %.2g\n", ids_path,
                  mean, want_mean, rms, worst);
    assert_true(rms <= 3e-4);
    if (n == all) assert_true(fabs(mean - want_mean) <= 1e-4);
    radar_session_close(s);
    radar_engine_close(e);
    free(logits);
    free(want);
    free(ids);
}

static void demo_model_gives_golden_losses_on_scripture_and_code(void **state) {
    (void)state;
    if (demo_absent()) skip();
    check_losses("tests/golden/ids-kjv-4096.u32", "tests/golden/nll-kjv-4096.f32",
                 2.5308672102203746);
    check_losses("tests/golden/ids-code-4096.u32", "tests/golden/nll-code-4096.f32",
                 2.242276142325958);
}

/* ---- selection ---- */

static void fill_ids(int32_t *ids, int n, int vocab) {
    for (int i = 0; i < n; i++) ids[i] = (int32_t)((i * 2654435761u >> 7) % (unsigned)vocab);
}

static void radar_with_every_candidate_chosen_equals_dense(void **state) {
    (void)state;
    enum { N = 600, FROM = 400, VOCAB = 128 };
    static const char *const scorers[] = {"sketch",  "sketch", "sketch", "mean",
                                          "outlier", "minmax", "rf",     "exact"};
    static const int bits[] = {1, 2, 4, 2, 2, 2, 2, 2};
    int32_t ids[N];
    float *dense = malloc((N - FROM) * VOCAB * sizeof *dense),
          *got = malloc((N - FROM) * VOCAB * sizeof *got);
    fill_ids(ids, N, VOCAB);
    radar_engine *e = open_engine("tests/golden/tiny/qwen3-qknorm-bf16");
    radar_session *s = open_session(e, "dense", N);
    assert_int_equal(radar_prefill(s, ids, FROM), RADAR_OK);
    assert_int_equal(radar_score(s, ids + FROM, N - FROM, dense), RADAR_OK);
    radar_session_close(s);
    for (int i = 0; i < 8; i++) {
        radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
        radar_session_stats stats = {.size = sizeof stats};
        opt.context = N, opt.kv_type = "f32", opt.scorer = scorers[i], opt.dense_below = 0,
        opt.sketch_bits = bits[i], opt.window = 32, opt.sinks = 4, opt.segments = N;
        assert_int_equal(radar_session_open(&s, e, &opt), RADAR_OK);
        assert_int_equal(radar_prefill(s, ids, FROM), RADAR_OK);
        assert_int_equal(radar_score(s, ids + FROM, N - FROM, got), RADAR_OK);
        double worst = worst_of(got, dense, (N - FROM) * VOCAB, 1e-4);
        assert_int_equal(radar_stats(s, &stats), RADAR_OK);
        assert_true(stats.segments_scored > 0);
        assert_int_equal(stats.steps, N - FROM);
        assert_true(stats.coverage_min == 1);
        print_message("    %s: worst difference %.2g, %lld segments scored\n", scorers[i], worst,
                      (long long)stats.segments_scored);
        radar_session_close(s);
    }
    radar_engine_close(e);
    free(dense);
    free(got);
    assert_int_equal(radar_alloc_live(), 0);
}

/* A row scored in a batch, alone, or as a decode step is the same computation. */
static void rows_do_not_depend_on_the_rows_beside_them(void **state) {
    (void)state;
    enum { N = 520, FROM = 450, VOCAB = 128 };
    int32_t ids[N];
    float together[(N - FROM) * VOCAB], alone[VOCAB];
    fill_ids(ids, N, VOCAB);
    radar_engine *e = open_engine("tests/golden/tiny/llama-sharded-bf16");
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    opt.context = N, opt.dense_below = 0, opt.window = 32, opt.segments = 3;
    radar_session *a, *b;
    assert_int_equal(radar_session_open(&a, e, &opt), RADAR_OK);
    assert_int_equal(radar_session_open(&b, e, &opt), RADAR_OK);
    assert_int_equal(radar_prefill(a, ids, FROM), RADAR_OK);
    assert_int_equal(radar_score(a, ids + FROM, N - FROM, together), RADAR_OK);
    /* the other session takes its prompt in pieces, and the rest one by one */
    assert_int_equal(radar_prefill(b, ids, 7), RADAR_OK);
    assert_int_equal(radar_prefill(b, ids + 7, FROM - 7), RADAR_OK);
    for (int i = 0; i < N - FROM; i++) {
        assert_int_equal(radar_score(b, ids + FROM + i, 1, alone), RADAR_OK);
        assert_memory_equal(alone, together + i * VOCAB, sizeof alone);
    }
    radar_session_close(a);
    radar_session_close(b);
    radar_engine_close(e);
}

static void a_rewound_session_repeats_itself(void **state) {
    (void)state;
    enum { N = 500, FROM = 400, VOCAB = 128 };
    int32_t ids[N];
    static float first[(N - FROM) * VOCAB], again[(N - FROM) * VOCAB];
    fill_ids(ids, N, VOCAB);
    radar_engine *e = open_engine("tests/golden/tiny/llama-tied-f32");
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    opt.context = N, opt.dense_below = 0, opt.window = 32, opt.segments = 4;
    radar_session *s;
    assert_int_equal(radar_session_open(&s, e, &opt), RADAR_OK);
    assert_int_equal(radar_prefill(s, ids, FROM), RADAR_OK);
    assert_int_equal(radar_score(s, ids + FROM, N - FROM, first), RADAR_OK);
    assert_int_equal(radar_session_set_attention(s, "dense"), RADAR_OK);
    assert_int_equal(radar_rewind(s, FROM), RADAR_OK);
    assert_int_equal(radar_score(s, ids + FROM, N - FROM, again), RADAR_OK);
    assert_memory_not_equal(again, first, sizeof first);
    assert_int_equal(radar_session_set_attention(s, "radar"), RADAR_OK);
    assert_int_equal(radar_rewind(s, FROM), RADAR_OK);
    assert_int_equal(radar_score(s, ids + FROM, N - FROM, again), RADAR_OK);
    assert_memory_equal(again, first, sizeof first);
    radar_session_close(s);
    radar_engine_close(e);
}

/* A sampled token that no pass has seen yet takes its place in the cache, too. */
static void a_pending_token_counts_against_the_context(void **state) {
    (void)state;
    enum { N = 256, FROM = 250, VOCAB = 128 };
    int32_t ids[N], token;
    fill_ids(ids, N, VOCAB);
    radar_engine *e = open_engine("tests/golden/tiny/llama-tied-f32");
    for (int scored = 0; scored < 2; scored++) {
        radar_session *s = open_session(e, "radar", N);
        assert_int_equal(radar_prefill(s, ids, FROM), RADAR_OK);
        assert_int_equal(radar_step(s, &token), RADAR_OK);
        radar_status st =
            scored ? radar_score(s, ids, N - FROM, NULL) : radar_prefill(s, ids, N - FROM);
        assert_int_equal(st, RADAR_ERR_CONFIG);
        assert_int_equal(radar_position(s), FROM);
        st = scored ? radar_score(s, ids, N - FROM - 1, NULL) : radar_prefill(s, ids, N - FROM - 1);
        assert_int_equal(st, RADAR_OK);
        assert_int_equal(radar_position(s), N);
        assert_int_equal(radar_step(s, &token), RADAR_OK); /* drawn, but no room to compute it */
        assert_int_equal(radar_step(s, &token), RADAR_ERR_CONFIG);
        radar_session_close(s);
    }
    radar_engine_close(e);
}

/* Option strings belong to the caller again after the call; unknown or missing ones are refused. */
static void option_strings_are_copied_and_checked(void **state) {
    (void)state;
    char isa[] = "plain", backend[] = "cpu", precision[] = "exact", error[512] = "";
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e;
    opt.model = "tests/golden/tiny/llama-tied-f32";
    opt.isa = isa, opt.backend = backend, opt.precision = precision;
    assert_int_equal(radar_engine_open(&e, MPI_COMM_NULL, &opt, error, sizeof error), RADAR_OK);
    memset(isa, 'x', 5), memset(backend, 'x', 3), memset(precision, 'x', 5);
    radar_session *s = open_session(e, "radar", 64);
    assert_int_equal(radar_session_set_attention(s, NULL), RADAR_ERR_USAGE);
    assert_non_null(strstr(radar_last_error(e), "radar, dense, streaming"));
    radar_session_close(s);
    radar_engine_close(e);
    const char **const field[] = {&opt.isa, &opt.backend, &opt.precision};
    opt.isa = NULL, opt.backend = "cpu", opt.precision = "fast";
    for (int i = 0; i < 3; i++) {
        const char *good = *field[i];
        *field[i] = "a name that is longer than any that is known";
        assert_int_equal(radar_engine_open(&e, MPI_COMM_NULL, &opt, error, sizeof error),
                         RADAR_ERR_USAGE);
        *field[i] = NULL;
        assert_int_equal(radar_engine_open(&e, MPI_COMM_NULL, &opt, error, sizeof error),
                         i == 0 ? RADAR_OK : RADAR_ERR_USAGE);
        if (i == 0) radar_engine_close(e);
        *field[i] = good;
    }
    assert_int_equal(radar_alloc_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_models_of_all_families_give_golden_logits),
        cmocka_unit_test(radar_with_every_candidate_chosen_equals_dense),
        cmocka_unit_test(rows_do_not_depend_on_the_rows_beside_them),
        cmocka_unit_test(a_rewound_session_repeats_itself),
        cmocka_unit_test(a_pending_token_counts_against_the_context),
        cmocka_unit_test(option_strings_are_copied_and_checked),
        cmocka_unit_test(demo_model_gives_golden_logits_and_greedy_text),
        cmocka_unit_test(demo_model_gives_golden_losses_on_scripture_and_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
