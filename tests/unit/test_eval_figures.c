/* The figures of eval recall, calibrate, stats and bound, from observations and keys made by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launch/eval/figures.h"
#include "runtime/sys.h"

static void near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.9g, expected %.9g", got, want);
}

static double number(const json_t *row, const char *key) {
    const json_t *value = json_object_get(row, key);
    if (!json_is_number(value)) fail_msg("%s is no number", key);
    return json_number_value(value);
}

static double at3(const json_t *row, const char *key, const char *figure, size_t i, size_t j) {
    const json_t *all = json_object_get(json_object_get(row, key), figure);
    return json_number_value(json_array_get(json_array_get(all, i), j));
}

/* ---- recall ---- */

enum { H = 2, D = 2, C = 4 };

/* Two heads of one group, four candidates of 16 tokens from position 16 on, lists of two.  Shares of the mass:
 *   head 0: .4 .3 .1 .05, always .15;  head 1: .05 .1 .2 .3, always .35 */
static const double share[H][C] = {{.4, .3, .1, .05}, {.05, .1, .2, .3}};

typedef struct sample {
    float exact[H][C], estimate[H][C], mass[H], dense_mass[H], coverage[H], output[H][D],
        dense_output[H][D];
    unsigned char chosen[H][C];
    radar_observation o;
} sample;

static void make_sample(sample *s, int layer, int64_t position) {
    memset(s, 0, sizeof *s);
    for (int h = 0; h < H; h++) {
        s->dense_mass[h] = 7 + (float)h;
        for (int c = 0; c < C; c++) s->exact[h][c] = s->dense_mass[h] + logf((float)share[h][c]);
    }
    /* head 0: the best is second; the list holds one of the two heaviest */
    const float estimate[H][C] = {{3, 1, 5, 0}, {1, 2, NAN, 4}};
    const unsigned char chosen[H][C] = {{1, 0, 1, 0}, {0, 1, 0, 1}};
    memcpy(s->estimate, estimate, sizeof estimate);
    memcpy(s->chosen, chosen, sizeof chosen);
    for (int h = 0; h < H; h++) {
        s->mass[h] = s->dense_mass[h] + logf(h == 0 ? .95f : .9f);
        s->coverage[h] = h == 0 ? .97f : .8f;
        s->dense_output[h][0] = 3, s->dense_output[h][1] = 4;
        s->output[h][0] = 3, s->output[h][1] = h == 0 ? 4 : 3;
    }
    s->o = (radar_observation){.size = sizeof s->o,
                               .position = position,
                               .layer = layer,
                               .layers = 2,
                               .heads = H,
                               .kv_heads = 1,
                               .head_dim = D,
                               .output = s->output[0],
                               .dense_output = s->dense_output[0],
                               .mass = s->mass,
                               .dense_mass = s->dense_mass,
                               .coverage = s->coverage,
                               .segment = 16,
                               .first_candidate = 16,
                               .candidates = C,
                               .keep = 2,
                               .exact = s->exact[0],
                               .estimate = s->estimate[0],
                               .chosen = s->chosen[0]};
}

static json_t *recall_row(bool share_head, int unscored) {
    eval_recall_figures r = {.layers = 2,
                             .heads = H,
                             .layer = -1,
                             .head = -1,
                             .first = 100,
                             .end = 108,
                             .every = 2,
                             .share_head = share_head};
    radar_error err = {0};
    json_t *row = json_object();
    assert_int_equal(eval_recall_open(&r, &err), RADAR_OK);
    for (int64_t position = 100; position < 108; position += 2)
        for (int layer = 0; layer < 2; layer++) {
            sample s;
            make_sample(&s, layer, position);
            if (layer == 1) memcpy(s.chosen[0], (unsigned char[]){1, 1, 0, 0}, C);
            if ((position - 100) / 2 < unscored) s.o.candidates = s.o.keep = 0;
            eval_recall_add(&r, &s.o);
        }
    eval_recall_write(&r, row);
    eval_recall_close(&r);
    return row;
}

static void recall_counts_lists_against_the_heaviest(void **state) {
    (void)state;
    json_t *row = recall_row(false, 0);
    assert_int_equal(number(row, "rows"), 4);
    assert_int_equal(number(row, "rows_scored"), 4);
    assert_int_equal(number(row, "keep"), 2);
    /* head 0 finds 1 of {0, 1} in layer 0 and both in layer 1; head 1 finds 1 of {2, 3} */
    near(at3(row, "layer_head", "recall", 0, 0), .5, 1e-6);
    near(at3(row, "layer_head", "recall", 1, 0), 1, 1e-6);
    near(at3(row, "layer_head", "recall", 0, 1), .5, 1e-6);
    near(number(row, "recall_mean"), (.5 + .5 + 1 + .5) / 4, 1e-6);
    near(at3(row, "layer_head", "hit1", 0, 0), 0, 0); /* 5 is above its 3 */
    near(at3(row, "layer_head", "hit1", 0, 1), 1, 0);
    near(number(row, "hit1"), .5, 1e-6);
    near(number(row, "hit3"), 1, 1e-6);
    near(at3(row, "layer_head", "mass", 0, 0), .95, 1e-6);
    near(at3(row, "layer_head", "error", 0, 0), 0, 0);
    near(at3(row, "layer_head", "error", 0, 1), .2, 1e-6);
    near(number(row, "error"), .1, 1e-6);
    /* the heaviest two of both heads together are all four */
    near(number(row, "mass_best"), 1, 1e-6);
    near(number(row, "list_tokens"), 32, 1e-6);
    near(number(row, "union_tokens"), 16 * (4 + 3) / 2., 1e-6);
    json_decref(row);
}

static void lists_of_their_own_are_not_united(void **state) {
    (void)state;
    json_t *row = recall_row(true, 0);
    near(at3(row, "layer_head", "mass_best", 0, 0), .15 + .7, 1e-6);
    near(at3(row, "layer_head", "mass_best", 1, 1), .35 + .5, 1e-6);
    near(at3(row, "layer_head", "list_mass_best", 1, 1), .35 + .5, 1e-6);
    near(at3(row, "layer_head", "list_mass", 0, 0), .15 + .5, 1e-6); /* segments 0 and 2 */
    near(at3(row, "layer_head", "list_mass", 1, 0), .15 + .7, 1e-6);
    near(at3(row, "layer_head", "list_mass", 0, 1), .35 + .4, 1e-6);
    json_decref(row);
    assert_int_equal(radar_alloc_live(), 0);
}

static void the_heat_map_shows_the_median_head(void **state) {
    (void)state;
    json_t *row = recall_row(false, 0), *heat = json_object_get(row, "heat"), *part;
    assert_int_equal(number(heat, "layer") * H + number(heat, "head"), 3); /* .5 .5 [.5] 1 */
    assert_int_equal(number(heat, "segment"), 16);
    assert_int_equal(json_array_size(json_object_get(heat, "positions")), 4);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(heat, "positions"), 3)),
                     106);
    part = json_array_get(json_object_get(heat, "mass"), 2);
    assert_int_equal(json_array_size(part), C);
    for (size_t c = 0; c < C; c++)
        near(json_number_value(json_array_get(part, c)), share[1][c], 1e-6);
    part = json_array_get(json_object_get(heat, "chosen"), 2);
    assert_int_equal(json_array_size(part), 2);
    assert_int_equal(json_integer_value(json_array_get(part, 1)), 3);
    near(json_number_value(json_array_get(json_object_get(heat, "always"), 0)), .35, 1e-6);
    json_decref(row);
}

static void rows_without_scores_have_mass_and_error_alone(void **state) {
    (void)state;
    json_t *row = recall_row(false, 4);
    assert_int_equal(number(row, "rows_scored"), 0);
    assert_true(json_is_null(json_object_get(row, "recall_mean")));
    assert_true(json_is_null(json_object_get(row, "hit3")));
    assert_true(json_is_null(json_object_get(row, "heat")));
    assert_null(json_object_get(json_object_get(row, "layer_head"), "recall"));
    near(at3(row, "layer_head", "mass", 1, 1), .9, 1e-6);
    near(number(row, "mass"), .925, 1e-6);
    near(number(row, "error"), .1, 1e-6);
    json_decref(row);
    row = recall_row(false, 2); /* half of them */
    assert_int_equal(number(row, "rows_scored"), 2);
    near(number(row, "recall_mean"), .625, 1e-6);
    near(number(row, "mass"), .925, 1e-6);
    json_t *bins = json_object_get(row, "by_position");
    assert_int_equal(json_array_size(bins), 4);
    assert_true(json_is_null(json_array_get(json_array_get(bins, 0), 2)));
    assert_int_equal(json_integer_value(json_array_get(json_array_get(bins, 3), 0)), 106);
    near(json_number_value(json_array_get(json_array_get(bins, 3), 2)), .625, 1e-6);
    assert_int_equal(json_array_size(json_object_get(json_object_get(row, "heat"), "mass")), 2);
    json_decref(row);
    assert_int_equal(radar_alloc_live(), 0);
}

/* ---- calibration ---- */

static void calibration_compares_estimates_with_true_shares(void **state) {
    (void)state;
    eval_calibration c = {.rows = 6, .layers = 1, .heads = H};
    radar_error err = {0};
    json_t *row = json_object();
    assert_int_equal(eval_calibration_open(&c, &err), RADAR_OK);
    for (int i = 5; i >= 0; i--) { /* in any order */
        sample s;
        make_sample(&s, 0, 100);
        if (i == 5) s.o.candidates = 0; /* attends to everything: no estimate */
        s.coverage[0] = .95f + .01f * (float)i;
        eval_calibration_add(&c, i, &s.o);
    }
    assert_int_equal(eval_calibration_end(&c), 10);
    eval_calibration_write(&c, row);
    assert_int_equal(number(row, "estimates"), 10);
    /* errors 0, .01, .02, .03, .04 of head 0 and five times -.1 */
    near(number(row, "bias"), (.1 - .5) / 10, 1e-6);
    near(number(row, "error_median"), (.04 + .1) / 2, 1e-6);
    near(number(row, "error_p95"), .1, 1e-6);
    near(number(row, "error_worst"), .1, 1e-6);
    assert_int_equal(json_array_size(json_object_get(row, "pairs")), 10);
    json_t *pair = json_array_get(json_object_get(row, "pairs"), 3);
    near(json_number_value(json_array_get(pair, 0)), .9, 1e-6);
    near(json_number_value(json_array_get(pair, 1)), .8, 1e-6);
    pair = json_array_get(json_object_get(row, "pairs"), 4);
    near(json_number_value(json_array_get(pair, 1)), .97, 1e-6);
    json_decref(row);
    eval_calibration_close(&c);
    assert_int_equal(radar_alloc_live(), 0);
}

static void quantiles_lie_between_neighbours(void **state) {
    (void)state;
    const double x[] = {1, 2, 4, 8, 16};
    near(eval_quantile(x, 5, 0), 1, 0);
    near(eval_quantile(x, 5, .5), 4, 0);
    near(eval_quantile(x, 5, .6), 5.6, 1e-12);
    near(eval_quantile(x, 5, 1), 16, 0);
    near(eval_quantile(x, 1, .95), 1, 0);
    assert_true(isnan(eval_quantile(x, 0, .5)));
}

/* ---- stats ---- */

static void normals(float *x, size_t n, uint64_t seed, double scale) {
    for (size_t i = 0; i < n; i++) x[i] = (float)(scale * radar_random_normal(seed, 99, i));
}

static void a_head_that_looks_at_everything_alike(void **state) {
    (void)state;
    enum { N = 400, DIM = 16 };
    static float key[N * DIM], q[2 * DIM];
    static double scratch[N];
    const int64_t position[] = {99, 399};
    eval_head_stats s;
    normals(key, N * DIM, 1, 2);
    eval_head_look(&s, q, DIM, position, 2, key, N, DIM, 50, scratch); /* q = 0 */
    near(s.mean[EVAL_TOKENS], (100 + 400) / 2., 1e-9);
    near(s.mean[EVAL_FIRST], (1 / 100. + 1 / 400.) / 2, 1e-12);
    near(s.mean[EVAL_WINDOW], (.5 + .125) / 2, 1e-12);
    near(s.mean[EVAL_LOGIT_SD], 0, 1e-12);
    near(s.tokens[30 - 5], 100 / 500., 1e-12); /* ln 1/100 = -4.6, ln 1/400 = -5.99 */
    near(s.tokens[30 - 6], 400 / 500., 1e-12);
    near(s.mass[30 - 5], .5, 1e-12);
    near(s.mass[30 - 6], .5, 1e-12);
    double k2 = 0, centred = 0, sum[DIM] = {0};
    for (int i = 0; i < N; i++)
        for (int d = 0; d < DIM; d++) sum[d] += (double)key[i * DIM + d] / N;
    for (int i = 0; i < N; i++)
        for (int d = 0; d < DIM; d++) {
            double k = (double)key[i * DIM + d];
            k2 += k * k, centred += (k - sum[d]) * (k - sum[d]);
        }
    near(s.mean[EVAL_K2], k2 / N / 4, 1e-9);
    near(s.mean[EVAL_K2_MEAN], centred / N / 4, 1e-9);
}

static void a_head_that_looks_at_one_token(void **state) {
    (void)state;
    enum { N = 64, DIM = 4 };
    static float key[N * DIM], q[DIM] = {200, 0, 0, 0};
    static double scratch[N];
    const int64_t position[] = {N - 1};
    eval_head_stats s;
    key[0] = 1; /* a logit of 100 against 0 */
    eval_head_look(&s, q, DIM, position, 1, key, N, DIM, 8, scratch);
    near(s.mean[EVAL_TOKENS], 1, 1e-9);
    near(s.mean[EVAL_FIRST], 1, 1e-9);
    near(s.mean[EVAL_WINDOW], 0, 1e-9);
    near(s.mean[EVAL_Q2], 40000 / 2., 1e-6);
    near(s.mean[EVAL_LOGIT_SD], 100 * sqrt(63.) / 64, 1e-9);
    near(s.tokens[29], 1 / 64., 1e-12);
    near(s.tokens[0], 63 / 64., 1e-12);
    near(s.mass[29], 1, 1e-9);
}

/* ---- bound ---- */

enum { RF_D = 8, RF_N = 200, RF_SEEDS = 2000 };

/* Mean and standard deviation of the estimate over many draws, relative to the truth. */
static void draw(const float *q, const float *key, int n_keys, double ln_truth, double *mean,
                 double *sd) {
    static double omega[RF_N * RF_D], ln_q[RF_N], ln_k[RF_N], scratch[4 * RF_N];
    double first = 0, second = 0;
    for (uint64_t seed = 1; seed <= RF_SEEDS; seed++) {
        eval_rf_directions(omega, RF_N, RF_D, seed);
        eval_rf_features(ln_q, q, omega, RF_N, RF_D);
        eval_rf_segment(ln_k, key, n_keys, omega, RF_N, RF_D, scratch);
        double ratio = exp(eval_rf_estimate(ln_q, ln_k, RF_N) - ln_truth);
        first += ratio, second += ratio * ratio;
    }
    *mean = first / RF_SEEDS;
    *sd = sqrt(second / RF_SEEDS - *mean * *mean);
}

static void random_features_keep_to_the_theorem(void **state) {
    (void)state;
    float q[RF_D], key[4 * RF_D];
    normals(q, RF_D, 3, .5);
    normals(key, 4 * RF_D, 4, .7);
    for (int n_keys = 1; n_keys <= 4; n_keys += 3) {
        double ln_mean, s, mean, sd, sum = 0, norm = 0;
        eval_rf_truth(q, key, n_keys, RF_D, &ln_mean, &s);
        for (int j = 0; j < n_keys; j++) {
            double dot = 0;
            for (int d = 0; d < RF_D; d++) dot += (double)q[d] * (double)key[j * RF_D + d];
            sum += exp(dot / sqrt(RF_D)) / n_keys;
        }
        near(ln_mean, log(sum), 1e-9);
        for (int d = 0; d < RF_D; d++)
            norm += ((double)q[d] + (double)key[d]) * ((double)q[d] + (double)key[d]);
        if (n_keys == 1) near(s, norm / sqrt(RF_D), 1e-9);
        draw(q, key, n_keys, ln_mean, &mean, &sd);
        double predicted = sqrt((exp(s) - 1) / RF_N);
        print_message("    %d keys, s = %.2f: mean %.4f, sd %.4f, predicted %.4f\n", n_keys, s,
                      mean, sd, predicted);
        near(mean, 1, 4 * predicted / sqrt(RF_SEEDS));
        near(sd, predicted, .1 * predicted);
    }
}

static void the_rotation_keeps_products(void **state) {
    (void)state;
    static const int dims[] = {2, 6, 64, 80, 96, 128};
    for (size_t t = 0; t < sizeof dims / sizeof dims[0]; t++) {
        double a[128], b[128], before = 0, after = 0, moved = 0;
        for (int d = 0; d < dims[t]; d++) {
            a[d] = radar_random_normal(5, 99, (uint64_t)d);
            b[d] = radar_random_normal(6, 99, (uint64_t)d);
            before += a[d] * b[d];
            moved -= a[d];
        }
        eval_rotate(a, dims[t], 1);
        eval_rotate(b, dims[t], 1);
        for (int d = 0; d < dims[t]; d++) after += a[d] * b[d], moved += a[d];
        near(after, before, 1e-12 * dims[t]);
        assert_true(fabs(moved) > 1e-6);
    }
}

static void each_bit_halves_the_error_of_the_sketch(void **state) {
    (void)state;
    enum { DIM = 64 };
    static float key[EVAL_BLOCK * DIM], q[DIM];
    static double zhat[EVAL_BLOCK * DIM], mean[DIM], rotated[DIM];
    static const double low[] = {0, 1, 1.1, 0, 1.3}, high[] = {0, 1.4, 1.6, 0, 1.9};
    normals(key, EVAL_BLOCK * DIM, 7, 3);
    for (int d = 0; d < DIM; d++) key[d] += 20; /* far from the others, and not judged */
    for (int bits = 1; bits <= 4; bits *= 2) {
        double squares = 0, predicted = 0;
        eval_sketch_block(zhat, mean, key, DIM, bits, 1);
        for (uint64_t seed = 100; seed < 120; seed++) {
            normals(q, DIM, seed, 1);
            double q2 = 0;
            for (int d = 0; d < DIM; d++) rotated[d] = (double)q[d], q2 += rotated[d] * rotated[d];
            eval_rotate(rotated, DIM, 1);
            for (int i = 1; i < EVAL_BLOCK; i++) {
                double error = 0, z2 = 0;
                for (int d = 0; d < DIM; d++) {
                    double z = (double)key[i * DIM + d] - mean[d];
                    error += rotated[d] * zhat[i * DIM + d] - (double)q[d] * z;
                    z2 += z * z;
                }
                squares += error * error;
                predicted += q2 * z2 / (double)(1 << 2 * bits) / DIM;
            }
        }
        double ratio = sqrt(squares / predicted);
        print_message("    %d bits: error %.2f of |q| |k - mu| 2^-b / sqrt D\n", bits, ratio);
        assert_true(ratio > low[bits] && ratio < high[bits]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recall_counts_lists_against_the_heaviest),
        cmocka_unit_test(lists_of_their_own_are_not_united),
        cmocka_unit_test(the_heat_map_shows_the_median_head),
        cmocka_unit_test(rows_without_scores_have_mass_and_error_alone),
        cmocka_unit_test(calibration_compares_estimates_with_true_shares),
        cmocka_unit_test(quantiles_lie_between_neighbours),
        cmocka_unit_test(a_head_that_looks_at_everything_alike),
        cmocka_unit_test(a_head_that_looks_at_one_token),
        cmocka_unit_test(random_features_keep_to_the_theorem),
        cmocka_unit_test(the_rotation_keeps_products),
        cmocka_unit_test(each_bit_halves_the_error_of_the_sketch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
