/* radar bench: fits, made-up keys and values against the ones they are to be like, figures from phases, losses, formats. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "launch/bench/bench.h"
#include "launch/bench/fit.h"
#include "runtime/sys.h"

/* ---- fit ---- */

static void a_fit_through_points_of_a_curve_is_the_curve(void **state) {
    (void)state;
    const double x[] = {512, 2048, 8192, 32768};
    double y[4];
    bench_curve c;
    for (int i = 0; i < 4; i++) y[i] = 0.3 + 2e-3 * x[i] + 4e-8 * x[i] * x[i];
    assert_true(bench_fit_curve(&c, x, y, 4, 3));
    assert_true(c.worst < 1e-9);
    const double want = 0.3 + 2e-3 * 131072 + 4e-8 * 131072.0 * 131072;
    assert_true(fabs(bench_curve_at(&c, 131072) - want) < 1e-6 * want);
    assert_true(bench_fit_curve(&c, x, y, 2, 2));
    const double slope = (y[1] - y[0]) / (x[1] - x[0]), line = y[0] + slope * (65536 - x[0]);
    assert_true(fabs(bench_curve_at(&c, 65536) - line) < 1e-9 * line);
}

/* The minimum of sum ((y - f) / y)^2 for a line, by its derivative: no step of either factor makes it smaller. */
static double misfit(const double *x, const double *y, int n, double a, double b) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += pow((y[i] - a - b * x[i]) / y[i], 2);
    return sum;
}

static void a_fit_counts_relative_errors(void **state) {
    (void)state;
    const double x[] = {1, 10, 100, 1000}, y[] = {1.1, 2.2, 9, 120};
    bench_curve c;
    assert_true(bench_fit_curve(&c, x, y, 4, 2));
    const double a = c.factor[0], b = c.factor[1] / c.scale, least = misfit(x, y, 4, a, b);
    for (double step = 1e-4; step < 0.2; step *= 10) {
        assert_true(misfit(x, y, 4, a * (1 + step), b) > least);
        assert_true(misfit(x, y, 4, a * (1 - step), b) > least);
        assert_true(misfit(x, y, 4, a, b * (1 + step)) > least);
        assert_true(misfit(x, y, 4, a, b * (1 - step)) > least);
    }
    double worst = 0;
    for (int i = 0; i < 4; i++) worst = fmax(worst, fabs(y[i] - a - b * x[i]) / y[i]);
    assert_true(fabs(worst - c.worst) < 1e-12);
}

static void a_fit_refuses_what_does_not_determine_it(void **state) {
    (void)state;
    const double x[] = {5, 5, 5}, y[] = {1, 2, 3}, zero[] = {0, 1, 2};
    bench_curve c;
    assert_false(bench_fit_curve(&c, x, y, 3, 2));
    assert_false(bench_fit_curve(&c, zero, y, 2, 3));
    assert_false(bench_fit_curve(&c, y, zero, 3, 2));
}

/* ---- lists, spread, phases ---- */

static void lists_are_sorted_and_checked(void **state) {
    (void)state;
    bench_list list;
    radar_error err = {0};
    assert_int_equal(bench_numbers(&list, "-d", "8192,0,8192,17", 0, &err), RADAR_OK);
    assert_int_equal(list.n, 3);
    assert_int_equal(list.at[0], 0);
    assert_int_equal(list.at[1], 17);
    assert_int_equal(list.at[2], 8192);
    static const char *const bad[] = {"", "1,", ",1", "1;2", "-1", "1e3", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        err = (radar_error){0};
        assert_int_equal(bench_numbers(&list, "-d", bad[i], 0, &err), RADAR_ERR_USAGE);
        assert_non_null(strstr(err.text, "-d"));
    }
}

static void the_median_is_of_the_times(void **state) {
    (void)state;
    bench_times t = {.n = 4, .seconds = {4, 1, 3, 2}};
    bench_spread(&t);
    assert_true(t.median == 2.5 && t.least == 1 && t.most == 4);
    assert_true(fabs(t.deviation - sqrt(5.0 / 3)) < 1e-12);
    bench_times one = {.n = 1, .seconds = {7}};
    bench_spread(&one);
    assert_true(one.median == 7 && one.deviation == 0);
}

static void phases_become_kinds_of_work(void **state) {
    (void)state;
    const radar_phase phase[] = {
        {"matmul Q4_1", 2, 100, 8}, {"matmul Q8_0", 1, 30, 2},   {"scan", 0.5, 9, 4},
        {"top-k", 0.25, 0, 4},      {"attend", 0.75, 64, 4},     {"append", 0.125, 0, 4},
        {"exchange X1", 0.5, 7, 4}, {"exchange X3", 0.25, 7, 4}, {"other", 9, 0, 0}};
    bench_work w = {0};
    bench_work_add(&w, phase, sizeof phase / sizeof phase[0], 2);
    assert_true(w.phases && w.weight_bytes == 130 && w.weight_s == 3);
    assert_true(w.summary_bytes == 9 && w.scan_s == 0.5 && w.kv_bytes == 64 && w.attend_s == 0.75);
    assert_true(w.attention_s == 0.5 + 0.25 + 0.75 + 0.125 && w.exchange_s == 0.75);
    const json_t *first = json_array_get(w.list, 0);
    assert_int_equal(json_array_size(w.list), 9);
    assert_true(json_real_value(json_object_get(first, "ms")) == 1000);
    assert_true(json_real_value(json_object_get(first, "bytes")) == 50);
    bench_work_add(&w, phase, 1, 4); /* another repetition */
    assert_true(w.weight_bytes == 230 && w.weight_s == 5 && w.kv_bytes == 64);
    first = json_array_get(w.list, 0);
    assert_int_equal(json_array_size(w.list), 1);
    assert_true(json_real_value(json_object_get(first, "bytes")) == 25);
    json_decref(w.list);
    bench_work none = {0};
    bench_work_add(&none, NULL, 0, 2);
    assert_false(none.phases);
    assert_true(isnan(none.attention_s));
}

/* ---- rows ---- */

static double real_of(const launch_json *j, const char *key) {
    const json_t *value = json_object_get(j->object, key);
    if (!json_is_real(value)) fail_msg("%s is no real number", key);
    return json_real_value(value);
}

static void near(const launch_json *j, const char *key, double want) {
    const double got = real_of(j, key);
    if (!(fabs(got - want) <= 1e-9 * fabs(want))) fail_msg("%s is %g, not %g", key, got, want);
}

/* 4 repetitions of 8 tokens took 2 s together; 0.25, 0.5, 0.5 and 0.75. */
static void a_row_holds_work_against_time_and_bandwidth(void **state) {
    (void)state;
    char *argv[] = {"radar", "bench", "-m", "x", NULL};
    radar_error err = {0};
    const launch_world world = {.size = 2, .cores = 3};
    launch_job job = {.world = &world};
    job.info = (radar_model_info){
        .name = "m", .family = "llama", .weight_type = "Q8_0", .backend = "b", .parameters = 5};
    bench b = {.job = &job, .fill_name = "synth", .bandwidth = 1e9};
    assert_int_equal(launch_args_parse(&b.base, 4, argv, &err), RADAR_OK);
    b.setting = b.base;
    bench_times times = {.n = 4, .seconds = {0.5, 0.25, 0.75, 0.5}};
    bench_spread(&times);
    bench_work work = {.seconds = 2,
                       .tokens = 32,
                       .weight_bytes = 640e6,
                       .weight_s = 0.8,
                       .summary_bytes = 64e6,
                       .scan_s = 0.1,
                       .kv_bytes = 320e6,
                       .attend_s = 0.5,
                       .attention_s = 0.7,
                       .exchange_s = 0.04,
                       .phases = true};
    const radar_session_stats stats = {
        .steps = 32, .segments_scored = 320, .attended_tokens_mean = 77, .coverage_mean = 0.9};
    const bench_test test = {BENCH_TG, 8, 4096};
    launch_json j = bench_row(&b, &test, &times, &work, &stats, NULL);
    assert_false(j.failed);
    assert_string_equal(json_string_value(json_object_get(j.object, "test")), "tg8 @ d4096");
    assert_int_equal(json_integer_value(json_object_get(j.object, "ranks")), 2);
    assert_int_equal(json_integer_value(json_object_get(j.object, "threads")), 3);
    near(&j, "tokens_per_s", 16);
    near(&j, "tokens_per_s_min", 8 / 0.75);
    near(&j, "tokens_per_s_max", 32);
    near(&j, "ms_per_token", 62.5);
    near(&j, "bytes_per_token", 32e6);
    near(&j, "weight_bytes_per_token", 20e6);
    near(&j, "summary_bytes_per_token", 2e6);
    near(&j, "kv_bytes_per_token", 10e6);
    near(&j, "read_share", 0.512);
    near(&j, "weight_read_share", 0.8);
    near(&j, "scan_read_share", 0.64);
    near(&j, "attend_read_share", 0.64);
    near(&j, "attention_s", 0.175);
    near(&j, "exchange_ms_per_token", 1.25);
    near(&j, "exchange_share", 0.02);
    near(&j, "segments_scored_per_token", 10);
    near(&j, "coverage_mean", 0.9);
    const size_t keys = json_object_size(j.object);
    json_decref(j.object);
    bench_times one = {.median = 4};
    bench_work unknown = {.attention_s = NAN};
    j = bench_row(&b, &test, &one, &unknown, NULL, "d0,d512");
    near(&j, "tokens_per_s", 2);
    static const char *const none[] = {
        "tokens_per_s_min", "bytes_per_token", "read_share", "attention_s",
        "exchange_share",   "coverage_mean",   "loss"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_true(json_is_null(json_object_get(j.object, none[i])));
    assert_true(json_is_true(json_object_get(j.object, "extrapolated")));
    assert_int_equal(json_object_size(j.object), keys);
    json_decref(j.object);
}

/* ---- made-up vectors ---- */

enum { N = 3000, MADE = 40000 };

/* Vectors whose dimensions hang together, around a mean, with lengths that vary more than those of normal vectors; the first ones
 * are far away. */
static float *real_vectors(int D, uint64_t seed) {
    float *x = radar_alloc_array((size_t)N * (size_t)D, sizeof *x);
    for (int i = 0; i < N; i++) {
        const double stretch = exp(0.4 * radar_random_normal(seed, 1, (uint64_t)i));
        double before = 0;
        for (int d = 0; d < D; d++) {
            const double z = radar_random_normal(seed, 2, (uint64_t)(i * D + d));
            before = 0.8 * before + z * (1 + d % 3);
            x[i * D + d] = (float)(2 * sin(d) + stretch * before + (i < SYNTH_SINKS ? 100 : 0));
        }
    }
    return x;
}

static bench_synth *synth_of(int D, int threads, const float *key, const float *value) {
    radar_error err = {0};
    bench_synth *s;
    double *scratch = radar_alloc_array(bench_synth_scratch(N, D), sizeof *scratch);
    assert_int_equal(bench_synth_open(&s, 2, 3, D, threads, 5, &err), RADAR_OK);
    for (int layer = 0; layer < 2; layer++)
        for (int head = 0; head < 3; head++) {
            bench_synth_measure(s, layer, head, 0, key, N, scratch);
            bench_synth_measure(s, layer, head, 1, value, N, scratch);
        }
    radar_free(scratch);
    return s;
}

static void moments(double *mean, double *cov, const float *x, int n, int D) {
    memset(cov, 0, (size_t)(D * D) * sizeof *cov);
    for (int d = 0; d < D; d++) {
        mean[d] = 0;
        for (int i = 0; i < n; i++) mean[d] += (double)x[i * D + d] / n;
    }
    for (int i = 0; i < n; i++)
        for (int a = 0; a < D; a++)
            for (int b = 0; b < D; b++)
                cov[a * D + b] +=
                    ((double)x[i * D + a] - mean[a]) * ((double)x[i * D + b] - mean[b]) / n;
}

/* Of MADE draws a mean has the standard error sd / 200; a covariance, with these long tails, about 2 sd_a sd_b / 200. */
static void check_moments(const float *made, const float *real, int D) {
    double *m = malloc((size_t)D * 2 * sizeof *m), *c = malloc((size_t)(D * D) * 2 * sizeof *c);
    double *want_m = m + D, *want_c = c + D * D, worst_m = 0, worst_c = 0;
    moments(want_m, want_c, real + SYNTH_SINKS * D, N - SYNTH_SINKS, D);
    moments(m, c, made + SYNTH_SINKS * D, MADE - SYNTH_SINKS, D);
    for (int a = 0; a < D; a++) {
        const double sd = sqrt(want_c[a * D + a]);
        worst_m = fmax(worst_m, fabs(m[a] - want_m[a]) / sd);
        for (int b = 0; b < D; b++)
            worst_c = fmax(worst_c,
                           fabs(c[a * D + b] - want_c[a * D + b]) / (sd * sqrt(want_c[b * D + b])));
    }
    print_message("D %d: mean within %.4f sd, covariance within %.4f\n", D, worst_m, worst_c);
    assert_true(worst_m <= 5 / 200.0);
    assert_true(worst_c <= 5 * 2 / 200.0);
    free(m);
    free(c);
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Quantile q of the distances from the mean. */
static double distance(const float *x, int n, int D, double q) {
    double *r = malloc((size_t)n * sizeof *r), *mean = calloc((size_t)D, sizeof *mean);
    for (int i = 0; i < n; i++)
        for (int d = 0; d < D; d++) mean[d] += (double)x[i * D + d] / n;
    for (int i = 0; i < n; i++) {
        r[i] = 0;
        for (int d = 0; d < D; d++) r[i] += pow((double)x[i * D + d] - mean[d], 2);
    }
    qsort(r, (size_t)n, sizeof *r, ascending);
    const double at = sqrt(r[(int)(q * n)]);
    free(r);
    free(mean);
    return at;
}

static void made_up_vectors_are_like_the_real_ones(void **state) {
    (void)state;
    static const int sizes[] = {64, 24};
    for (int i = 0; i < 2; i++) {
        const int D = sizes[i];
        const size_t floats = (size_t)MADE * (size_t)D;
        float *key = real_vectors(D, 1), *value = real_vectors(D, 2);
        float *k = malloc(floats * sizeof *k), *v = malloc(floats * sizeof *v);
        bench_synth *s = synth_of(D, 2, key, value);
        bench_synth_fill(s, 1, 2, 0, MADE, k, v);
        assert_memory_equal(k, key, SYNTH_SINKS * (size_t)D * sizeof *k);
        assert_memory_equal(v, value, SYNTH_SINKS * (size_t)D * sizeof *v);
        check_moments(k, key, D);
        check_moments(v, value, D);
        for (double q = 0.1; q < 0.95; q += 0.2) {
            const double want = distance(key + SYNTH_SINKS * D, N - SYNTH_SINKS, D, q),
                         got = distance(k + SYNTH_SINKS * D, MADE - SYNTH_SINKS, D, q);
            print_message("norm at %.1f: %.3f, real %.3f\n", q, got, want);
            assert_true(fabs(got - want) <= 0.05 * want);
        }
        bench_synth_close(s);
        radar_free(key);
        radar_free(value);
        free(k);
        free(v);
    }
}

/* Mean cosine between vectors `apart` positions from each other, both of one segment or of neighbouring ones. */
static double cosine(const float *x, int n, int D, int apart, bool same_segment) {
    double sum = 0;
    int pairs = 0;
    for (int i = SYNTH_SINKS; i + apart < n; i++) {
        double xy = 0, xx = 0, yy = 0;
        if ((i / 16 == (i + apart) / 16) != same_segment) continue;
        for (int d = 0; d < D; d++) {
            const double a = (double)x[i * D + d], b = (double)x[(i + apart) * D + d];
            xy += a * b, xx += a * a, yy += b * b;
        }
        sum += xy / sqrt(xx * yy);
        pairs++;
    }
    return sum / pairs;
}

/* Independent dimensions of equal spread around 0: cosines are those of the metric.  Half of the variance is the segment's. */
static void vectors_of_a_segment_are_as_alike_as_real_ones(void **state) {
    (void)state;
    enum { D = 64 };
    float *key = radar_alloc_array(N * D, sizeof *key), *k = malloc(2 * sizeof *k * N * D),
          *v = k + N * D;
    for (int i = 0; i < N * D; i++)
        key[i] =
            (float)(sqrt(0.5) * (radar_random_normal(3, 1, (uint64_t)i) +
                                 radar_random_normal(3, 2, (uint64_t)(i / D / 16 * D + i % D))));
    bench_synth *s = synth_of(D, 1, key, key);
    bench_synth_fill(s, 1, 1, 0, N, k, v);
    for (int apart = 1; apart < 16; apart += 7) {
        const double real = cosine(key, N, D, apart, true), got = cosine(k, N, D, apart, true);
        print_message("%d apart: cosine %.3f, real %.3f\n", apart, got, real);
        assert_true(real > 0.45 && fabs(got - real) < 0.03);
        assert_true(fabs(cosine(k, N, D, apart, false)) < 0.03);
    }
    bench_synth_close(s);
    radar_free(key);
    free(k);
}

/* The correlation of two columns of made vectors, one from each array. */
static double likeness(const float *x, const float *y, int n, int D, int d) {
    double sx = 0, sy = 0, xx = 0, yy = 0, xy = 0;
    for (int i = 0; i < n; i++) {
        const double a = (double)x[i * D + d], b = (double)y[i * D + d];
        sx += a, sy += b, xx += a * a, yy += b * b, xy += a * b;
    }
    return (xy / n - sx / n * sy / n) /
           sqrt((xx / n - sx / n * sx / n) * (yy / n - sy / n * sy / n));
}

static void heads_and_positions_have_numbers_of_their_own(void **state) {
    (void)state;
    enum { D = 32, MANY = 10000 };
    float *key = real_vectors(D, 1), *value = real_vectors(D, 2);
    float *x = malloc(4 * sizeof *x * MANY * D), *v = x + MANY * D, *y = v + MANY * D,
          *w = y + MANY * D;
    bench_synth *s = synth_of(D, 1, key, value);
    bench_synth_fill(s, 0, 1, 1000, MANY, x, v);
    bench_synth_fill(s, 0, 2, 1000, MANY, y, w);
    for (int d = 0; d < D; d++) {
        assert_true(fabs(likeness(x, v, MANY, D, d)) < 0.05); /* five standard errors */
        assert_true(fabs(likeness(x, y, MANY, D, d)) < 0.05);
        assert_true(fabs(likeness(x, x + D, MANY - 1, D, d)) < 0.05); /* neighbours */
    }
    bench_synth_close(s);
    radar_free(key);
    radar_free(value);
    free(x);
}

static void what_a_position_gets_does_not_depend_on_the_cut(void **state) {
    (void)state;
    enum { D = 40, MANY = 700, FIRST = 3 };
    float *key = real_vectors(D, 1), *value = real_vectors(D, 2);
    float *k = malloc(4 * sizeof *k * MANY * D), *v = k + MANY * D, *part_k = v + MANY * D,
          *part_v = part_k + MANY * D;
    bench_synth *one = synth_of(D, 1, key, value), *two = synth_of(D, 2, key, value);
    bench_synth_fill(one, 1, 0, FIRST, MANY, k, v);
    for (int at = 0, n; at < MANY; at += n) {
        n = (int)radar_min64(1 + at % 97, MANY - at);
        bench_synth_fill(two, 1, 0, FIRST + at, n, part_k + at * D, part_v + at * D);
    }
    assert_memory_equal(k, part_k, sizeof *k * MANY * D);
    assert_memory_equal(v, part_v, sizeof *k * MANY * D);
    bench_synth_close(one);
    bench_synth_close(two);
    radar_free(key);
    radar_free(value);
    free(k);
}

/* ---- losses ---- */

static json_t *eval_row_of(const char *text, int64_t length, const char *attention, double nll) {
    return json_pack("{s:s, s:s, s:I, s:i, s:I, s:s, s:s, s:s, s:i, s:f}", "fingerprint", "f",
                     "text_hash", text, "length", (json_int_t)length, "first", 10, "last",
                     (json_int_t)length - 2, "precision", "fast", "attention", attention, "kv_type",
                     "f16", "budget", 512, "nll_mean", nll);
}

static void write_row(FILE *f, json_t *row) {
    json_dumpf(row, f, JSON_COMPACT);
    fputc('\n', f);
    json_decref(row);
}

static void a_loss_is_found_by_setting_and_length(void **state) {
    (void)state;
    char dir[] = "/tmp/bench_loss_XXXXXX", path[64], from[160];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/ppl.jsonl", dir);
    FILE *f = fopen(path, "w");
    static const int64_t lengths[] = {2048, 8192};
    for (int i = 0; i < 2; i++) {
        write_row(f, eval_row_of("a", lengths[i], "dense", 2));
        write_row(f, eval_row_of("b", lengths[i], "dense", 3));
        write_row(f, eval_row_of("a", lengths[i], "radar", 2.02 + i));
        write_row(f, eval_row_of("b", lengths[i], "radar", 3.04 + i));
    }
    write_row(f, eval_row_of("c", 2048, "radar", 9)); /* no dense row beside it */
    fclose(f);
    bench_losses *l;
    radar_error err = {0};
    double loss;
    assert_int_equal(bench_losses_open(&l, dir, &err), RADAR_OK);
    json_t *row = eval_row_of("-", 0, "radar", 0), *other = eval_row_of("-", 0, "radar", 0);
    json_object_set_new(other, "budget", json_integer(64));
    assert_true(bench_loss(l, row, 0, &loss, from, sizeof from));
    assert_true(fabs(loss - 0.03) < 1e-9);
    assert_string_equal(from, "2 texts of 2048 tokens");
    assert_true(bench_loss(l, row, 2049, &loss, from, sizeof from));
    assert_true(fabs(loss - 1.03) < 1e-9);
    assert_true(bench_loss(l, row, 8192, &loss, from, sizeof from));
    assert_false(bench_loss(l, row, 8193, &loss, from, sizeof from));
    assert_false(bench_loss(l, other, 2048, &loss, from, sizeof from));
    bench_losses_close(l);
    json_decref(row);
    json_decref(other);
    unlink(path);
    assert_int_equal(bench_losses_open(&l, dir, &err), RADAR_ERR_NO_INPUT);
    rmdir(dir);
}

/* ---- formats ---- */

static launch_json row_of(const char *test, bool extrapolated) {
    launch_json j = launch_json_open();
    launch_json_text(&j, "test", test, strlen(test));
    launch_json_set(&j, "extrapolated", json_boolean(extrapolated));
    launch_json_text(&j, "model_type", "llama \"Q4\", 1", 13);
    launch_json_int(&j, "model_bytes", 98400000);
    launch_json_int(&j, "model_parameters", 134500000);
    launch_json_int(&j, "threads", 2);
    launch_json_int(&j, "ranks", 1);
    launch_json_text(&j, "scorer", "mean", 4);
    launch_json_int(&j, "segment", -1);
    launch_json_text(&j, "backend", "cpu (avx2)", 10);
    launch_json_real(&j, "tokens_per_s", 12.345);
    launch_json_real(&j, "tokens_per_s_sd", extrapolated ? NAN : 0.25);
    launch_json_real(&j, "read_share", extrapolated ? NAN : 0.5);
    launch_json_real(&j, "loss", NAN);
    launch_json_set(&j, "samples_s", json_array());
    return j;
}

/* What the printer writes to stdout for two rows; rows 0: for none. */
static char *printed(const char *format, int rows) {
    const bench_columns columns = {.varied = {"scorer", "segment"}, .n_varied = 2, .loss = true};
    static char text[4096];
    radar_error err = {0};
    bench_printer *p;
    FILE *f = tmpfile();
    fflush(stdout);
    const int saved = dup(STDOUT_FILENO);
    dup2(fileno(f), STDOUT_FILENO);
    radar_status st = bench_print_open(&p, format, &columns, &err);
    for (int i = 0; i < rows && st == RADAR_OK; i++) {
        launch_json row = row_of(i == 0 ? "pp512" : "tg128 @ d8192", i == 1);
        st = bench_print_row(p, &row, &err);
    }
    bench_print_close(p, &err);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    assert_int_equal(st, RADAR_OK);
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

static int count(const char *text, const char *what) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what)) n++;
    return n;
}

static void every_format_holds_the_rows_and_marks(void **state) {
    (void)state;
    const char *md = printed("md", 2);
    assert_int_equal(count(md, "\n"), 4);
    assert_int_equal(count(md, "| scorer   | segment  |"), 1);
    assert_int_equal(count(md, "| mean     | auto     |"), 2);
    assert_int_equal(count(md, "| cpu     |       2 |"), 2);
    assert_int_equal(count(md, "ranks") + count(md, "% scan") + count(md, "% exchange"), 0);
    assert_int_equal(count(md, "| tg128 @ d8192 (extrapolated) |"), 1);
    assert_int_equal(count(md, "| not measured |"), 2);
    assert_int_equal(count(md, " 12.35 |"), 1);
    assert_int_equal(count(md, "|     12.35 ± 0.25 |"), 1);
    assert_int_equal(count(md, "|   98.4 MB |  134.50 M |"), 2);
    const char *csv = printed("csv", 2);
    assert_int_equal(count(csv, "\n"), 3);
    assert_int_equal(count(csv, "test,extrapolated,model_type,"), 1);
    assert_int_equal(count(csv, "samples_s"), 0);
    assert_int_equal(count(csv, "\"tg128 @ d8192\",true,\"llama \"\"Q4\"\", 1\",98400000,"), 1);
    assert_int_equal(count(csv, "12.345,0.25,0.5,\n") + count(csv, "12.345,,,\n"), 2);
    const char *jsonl = printed("jsonl", 2);
    assert_int_equal(count(jsonl, "\n"), 2);
    assert_int_equal(count(jsonl, "\"extrapolated\":true"), 1);
    for (int rows = 0; rows <= 2; rows++) {
        json_t *array = json_loads(printed("json", rows), 0, NULL);
        assert_int_equal(json_array_size(array), rows);
        assert_true(json_is_array(array));
        if (rows == 2)
            assert_true(json_is_null(json_object_get(json_array_get(array, 1), "read_share")));
        json_decref(array);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fit_through_points_of_a_curve_is_the_curve),
        cmocka_unit_test(a_fit_counts_relative_errors),
        cmocka_unit_test(a_fit_refuses_what_does_not_determine_it),
        cmocka_unit_test(lists_are_sorted_and_checked),
        cmocka_unit_test(the_median_is_of_the_times),
        cmocka_unit_test(phases_become_kinds_of_work),
        cmocka_unit_test(a_row_holds_work_against_time_and_bandwidth),
        cmocka_unit_test(made_up_vectors_are_like_the_real_ones),
        cmocka_unit_test(vectors_of_a_segment_are_as_alike_as_real_ones),
        cmocka_unit_test(heads_and_positions_have_numbers_of_their_own),
        cmocka_unit_test(what_a_position_gets_does_not_depend_on_the_cut),
        cmocka_unit_test(a_loss_is_found_by_setting_and_length),
        cmocka_unit_test(every_format_holds_the_rows_and_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
