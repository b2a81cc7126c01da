/* outlier and minmax against their formulas in double, their bounds, and their edges. */
#include "tests/unit/scorer_fixture.h"

static radar_scorer_options of(int D, int outliers) {
    return (radar_scorer_options){.D = D, .outliers = outliers};
}

static double f16(double x) { return radar_f16_to_f32(radar_f32_to_f16((float)x)); }

static const uint16_t *summary_of(const radar_kv_view *kv, int segment, int rows) {
    return (const uint16_t *)kv->summary + (size_t)(segment * rows * kv->D);
}

/* ---- outlier ---- */

enum { MOST = 7 };

/* The m tokens of a segment farthest from its mean, farthest first; mean of the rest. */
static void outliers_ref(int *token, double *rest, const radar_kv_view *kv, int segment, int m) {
    double mean[256], far[16];
    bool taken[16] = {false};
    for (int d = 0; d < kv->D; d++) {
        mean[d] = rest[d] = 0;
        for (int i = 0; i < 16; i++) mean[d] += key_at(kv, segment * 16 + i, d) / 16;
    }
    for (int i = 0; i < 16; i++) {
        far[i] = 0;
        for (int d = 0; d < kv->D; d++) far[i] += pow(key_at(kv, segment * 16 + i, d) - mean[d], 2);
    }
    for (int n = 0; n < m; n++) {
        token[n] = -1;
        for (int i = 0; i < 16; i++)
            if (!taken[i] && (token[n] < 0 || far[i] > far[token[n]])) token[n] = i;
        taken[token[n]] = true;
    }
    for (int i = 0; i < 16; i++)
        for (int d = 0; d < kv->D; d++)
            if (!taken[i]) rest[d] += key_at(kv, segment * 16 + i, d) / (16 - m);
}

/* The formula on what is stored; size: the largest logit's sum of magnitudes. */
static double outlier_score_ref(const radar_kv_view *kv, const float *q, int segment, int m,
                                double *size) {
    const uint16_t *row = summary_of(kv, segment, 1 + m);
    double sum = 0;
    *size = 0;
    for (int r = 0; r <= m; r++) {
        double dot = 0, abs = 0;
        for (int d = 0; d < kv->D; d++) {
            dot += (double)q[d] * (double)radar_f16_to_f32(row[r * kv->D + d]);
            abs += fabs((double)q[d] * (double)radar_f16_to_f32(row[r * kv->D + d]));
        }
        sum += (r ? 1 : 16 - m) * exp(dot / sqrt(kv->D));
        *size = fmax(*size, abs / sqrt(kv->D));
    }
    return log(sum);
}

static void outlier_keeps_the_farthest_keys_and_the_mean_of_the_rest(void **state) {
    (void)state;
    for (int m = 1; m <= MOST; m++) {
        for (int n = 0; n < COUNT(all_D) * COUNT(all_types); n++) {
            int D = all_D[n / COUNT(all_types)], token[MOST];
            radar_kv_view kv = kv_random(all_types[n % COUNT(all_types)], D, 8, 41, 2);
            radar_scorer *s = scorer_with("outlier", of(D, m));
            assert_int_equal(s->block_bytes, 64 * (1 + m) * 2 * D / 16);
            seal_all(s, &kv, 8, NULL, 1);
            for (int i = 0; i < 8; i++) {
                double rest[256];
                const uint16_t *row = summary_of(&kv, i, 1 + m);
                outliers_ref(token, rest, &kv, i, m);
                for (int d = 0; d < D; d++) {
                    double got = radar_f16_to_f32(row[d]);
                    assert_true(fabs(got - rest[d]) <= fabs(rest[d]) * 0x1.01p-11 + 1e-6);
                    for (int r = 1; r <= m; r++)
                        assert_true(radar_f16_to_f32(row[r * D + d]) ==
                                    f16(key_at(&kv, i * 16 + token[r - 1], d)));
                }
            }
            radar_scorer_close(s);
            kv_free(&kv);
        }
    }
}

static void outlier_scores_its_formula_and_never_overrates(void **state) {
    (void)state;
    double worst = 0, above = -INFINITY;
    for (int n = 0; n < COUNT(all_D) * MOST; n++) {
        int D = all_D[n / MOST], m = 1 + n % MOST;
        radar_kv_view kv = kv_random(RADAR_F16, D, 8, 42, 1.5f);
        radar_scorer *s = scorer_with("outlier", of(D, m));
        seal_all(s, &kv, 8, NULL, 1);
        float *q = normals((size_t)(3 * D), 43, 2), *score = score_range(s, &kv, q, 3, 1, 8, NULL);
        for (int j = 0; j < 3; j++)
            for (int i = 1; i < 8; i++) {
                double got = score[j * 7 + i - 1], size;
                double e = fabs(got - outlier_score_ref(&kv, q + j * D, i, m, &size)) / (1 + size);
                worst = !(e <= worst) ? e : worst;
                e = got - lse_ref(&kv, q + j * D, i, 1) - size * 0x1p-11;
                above = !(e <= above) ? e : above;
            }
        radar_free(q), radar_free(score);
        radar_scorer_close(s);
        kv_free(&kv);
    }
    print_message("outlier: %.2g of the logits from the formula in double; above the log-mass at "
                  "most by %.2g and the mean's rounding\n",
                  worst, above);
    assert_true(worst <= 1e-6);
    assert_true(above <= 1e-5);
}

static void equal_distances_keep_the_lower_token(void **state) {
    (void)state;
    float key[64 * 16] = {0};
    for (int i = 0; i < 64; i++)
        key[i * 16 + i % 16 / 2] = i % 2 ? -1 : 1; /* a segment's mean is 0 */
    radar_kv_view kv = kv_empty(RADAR_F16, 16, 4);
    kv_put(&kv, key, key, 16, 64);
    radar_scorer *s = scorer_with("outlier", of(16, 0)); /* 0: three of them */
    seal_all(s, &kv, 4, NULL, 1);
    const uint16_t *row = summary_of(&kv, 2, 4);
    for (int r = 1; r <= 3; r++)
        for (int d = 0; d < 16; d++)
            assert_true(radar_f16_to_f32(row[r * 16 + d]) == key[(r - 1) * 16 + d]);
    radar_scorer_close(s);
    kv_free(&kv);
}

static void outlier_refuses_other_numbers_of_keys(void **state) {
    (void)state;
    const int bad[] = {-1, 8, 16};
    for (int i = 0; i < COUNT(bad); i++) {
        radar_scorer *s = (radar_scorer *)1;
        radar_scorer_options opt = of(64, bad[i]);
        assert_int_equal(radar_scorer_open(&s, "outlier", &opt, NULL), RADAR_ERR_USAGE);
        assert_null(s);
    }
}

/* ---- minmax ---- */

/* ln 16 + sum max(q min, q max) / sqrt D of the segment's keys, bounds rounded to f16; size: the sum of magnitudes. */
static double minmax_score_ref(const radar_kv_view *kv, const float *q, int segment, double *size) {
    double sum = 0;
    *size = 0;
    for (int d = 0; d < kv->D; d++) {
        double min = INFINITY, max = -INFINITY;
        for (int i = segment * 16; i < segment * 16 + 16; i++) {
            min = fmin(min, key_at(kv, i, d));
            max = fmax(max, key_at(kv, i, d));
        }
        double bound = fmax((double)q[d] * f16(min), (double)q[d] * f16(max));
        sum += bound;
        *size += fabs(bound) / sqrt(kv->D);
    }
    return log(16) + sum / sqrt(kv->D);
}

static void minmax_scores_its_formula_and_bounds_the_largest_logit(void **state) {
    (void)state;
    double worst = 0, below = -INFINITY;
    for (int n = 0; n < COUNT(all_D) * COUNT(all_types); n++) {
        int D = all_D[n / COUNT(all_types)];
        radar_dtype type = all_types[n % COUNT(all_types)];
        radar_kv_view kv = kv_random(type, D, 20, 52, 1.5f);
        radar_scorer *s = scorer_with("minmax", of(D, 0));
        assert_int_equal(s->block_bytes, 64 * 4 * D / 16);
        seal_all(s, &kv, 20, NULL, 1);
        float *q = normals((size_t)(3 * D), 53, 2);
        q[D] = 0;
        float *score = score_range(s, &kv, q, 3, 1, 20, NULL);
        for (int j = 0; j < 3; j++)
            for (int i = 1; i < 20; i++) {
                double got = score[j * 19 + i - 1], size;
                double e = fabs(got - minmax_score_ref(&kv, q + j * D, i, &size)) / (1 + size);
                worst = !(e <= worst) ? e : worst;
                if (type != RADAR_F16) continue;
                e = (lse_ref(&kv, q + j * D, i, 1) - got) / (1 + size);
                below = !(e <= below) ? e : below;
            }
        radar_free(q), radar_free(score);
        radar_scorer_close(s);
        kv_free(&kv);
    }
    print_message("minmax: %.2g of the logits from the formula in double; below the log-mass at "
                  "most by %.2g\n",
                  worst, below);
    assert_true(worst <= 1e-6);
    assert_true(below <= 1e-6);
}

/* ---- both ---- */

static void bits_do_not_depend_on_isa_neighbours_threads_or_range(void **state) {
    (void)state;
    for (int n = 0; n < COUNT(all_D) * MOST; n++)
        check_same_bits("outlier", all_types[n % 3], of(all_D[n / MOST], 1 + n % MOST));
    for (int n = 0; n < COUNT(all_D) * COUNT(all_types); n++)
        check_same_bits("minmax", all_types[n % 3], of(all_D[n / 3], 0));
}

/* Every segment chosen among the best `keep` by the stored scores is among them by the reference, unless both lie within the
 * rounding of the last place. */
static void check_best(const char *name, const radar_kv_view *kv, const float *q, int keep) {
    radar_scorer *s = scorer_with(name, of(64, 3));
    radar_kv_view sealed = *kv;
    seal_all(s, &sealed, REAL_SEGMENTS, NULL, 2);
    float *score = score_range(s, &sealed, q, 1, 0, REAL_SEGMENTS, NULL);
    uint64_t key[REAL_SEGMENTS];
    double ref[REAL_SEGMENTS], size, lowest = INFINITY, highest = -INFINITY;
    bool chosen[REAL_SEGMENTS] = {false};
    for (int i = 0; i < REAL_SEGMENTS; i++) {
        key[i] = radar_topk_key(score[i], (uint32_t)i);
        ref[i] = strcmp(name, "outlier") ? minmax_score_ref(&sealed, q, i, &size)
                                         : outlier_score_ref(&sealed, q, i, 3, &size);
    }
    assert_int_equal(radar_topk_select(key, REAL_SEGMENTS, keep), keep);
    for (int i = 0; i < keep; i++) chosen[radar_topk_segment(key[i])] = true;
    for (int i = 0; i < REAL_SEGMENTS; i++) {
        if (chosen[i])
            lowest = fmin(lowest, ref[i]);
        else
            highest = fmax(highest, ref[i]);
    }
    assert_true(lowest >= highest - 1e-4);
    radar_free(score), radar_free(sealed.summary);
    radar_scorer_close(s);
}

static void the_best_segments_are_those_of_the_formula(void **state) {
    (void)state;
    real r = load_real();
    for (int g = 0; g < 3; g++)
        for (int j = 0; j < REAL_QUERIES * 3; j += 5) {
            check_best("outlier", &r.kv[g], real_query(&r, g, j), 8);
            check_best("minmax", &r.kv[g], real_query(&r, g, j), 8);
        }
    free_real(&r);
}

static void a_nan_makes_its_segment_unchoosable(void **state) {
    (void)state;
    const char *const names[] = {"outlier", "minmax"}, *const isas[] = {"plain", NULL};
    for (int n = 0; n < 2 * 2 * 16; n++) {
        radar_kv_view kv = kv_random(RADAR_F32, 64, 8, 2, 1);
        radar_scorer_options opt = of(64, 1 + n / 4 % MOST);
        opt.isa = isas[n % 2];
        radar_scorer *s = scorer_with(names[n / 2 % 2], opt);
        ((float *)kv.k)[2 * 64 * 16 + 5 * 16 + n / 4] = NAN; /* segment 2, dimension 5 */
        seal_all(s, &kv, 8, opt.isa, 1);
        float *q = normals(2 * 64, 3, 1);
        for (int d = 0; d < 64; d++) q[64 + d] = -q[d];
        float *score = score_range(s, &kv, q, 2, 0, 8, opt.isa);
        for (int i = 0; i < 16; i++) assert_true(i % 8 == 2 ? isnan(score[i]) : isfinite(score[i]));
        assert_true(radar_topk_key(score[2], 2) == 0);
        radar_free(q), radar_free(score);
        radar_scorer_close(s);
        kv_free(&kv);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outlier_keeps_the_farthest_keys_and_the_mean_of_the_rest),
        cmocka_unit_test(outlier_scores_its_formula_and_never_overrates),
        cmocka_unit_test(equal_distances_keep_the_lower_token),
        cmocka_unit_test(outlier_refuses_other_numbers_of_keys),
        cmocka_unit_test(minmax_scores_its_formula_and_bounds_the_largest_logit),
        cmocka_unit_test(bits_do_not_depend_on_isa_neighbours_threads_or_range),
        cmocka_unit_test(the_best_segments_are_those_of_the_formula),
        cmocka_unit_test(a_nan_makes_its_segment_unchoosable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
