#include "tests/unit/scorer_fixture.h"

static radar_scorer_options options_of(const char *name, int D, const char *isa, int pair) {
    return (radar_scorer_options){.D = D,
                                  .seed = 11,
                                  .rf_features = strcmp(name, "rf") ? 0 : D + 3,
                                  .rf_pair = pair,
                                  .isa = isa};
}

static radar_scorer *open_scorer(const char *name, int D, const char *isa, int pair) {
    return scorer_with(name, options_of(name, D, isa, pair));
}

/* ---- open ---- */

static long calls_left;
static void *(*real_alloc)(size_t);
static void *failing_alloc(size_t bytes) { return calls_left-- > 0 ? real_alloc(bytes) : NULL; }

static void open_refuses_what_it_cannot_do(void **state) {
    (void)state;
    radar_scorer *s = (radar_scorer *)1;
    radar_error err = {0};
    radar_scorer_options opt = {.D = 64};
    assert_int_equal(radar_scorer_open(&s, "quest", &opt, &err), RADAR_ERR_USAGE);
    assert_null(s);
    assert_string_equal(
        err.text,
        "scorer 'quest': unknown; use one of sketch, mean, outlier, minmax, rf, exact, q8top");
    for (int i = 0; radar_scorers[i]; i++) {
        const int bad[] = {-2, 0, 7, 258};
        for (int k = 0; k < COUNT(bad); k++) {
            opt.D = bad[k];
            assert_int_equal(radar_scorer_open(&s, radar_scorers[i]->name, &opt, NULL),
                             RADAR_ERR_CONFIG);
        }
        opt.D = 64;
        opt.isa = "sparc";
        assert_int_equal(radar_scorer_open(&s, radar_scorers[i]->name, &opt, NULL),
                         RADAR_ERR_CONFIG);
        opt.isa = NULL;
        long before = radar_alloc_live();
        real_alloc = radar_sys_table.alloc;
        radar_sys_table.alloc = failing_alloc;
        for (int n = 0; n < 2; n++) {
            calls_left = n;
            assert_int_equal(radar_scorer_open(&s, radar_scorers[i]->name, &opt, NULL),
                             RADAR_ERR_MEMORY);
            assert_null(s);
        }
        radar_sys_table.alloc = real_alloc;
        assert_int_equal(radar_alloc_live(), before);
    }
    opt.rf_features = 4097;
    opt.rf_pair = 1;
    assert_int_equal(radar_scorer_open(&s, "rf", &opt, NULL), RADAR_ERR_USAGE);
    opt.rf_features = -1;
    assert_int_equal(radar_scorer_open(&s, "rf", &opt, NULL), RADAR_ERR_USAGE);
    radar_scorer_close(NULL);
}

/* ---- bits ---- */

static void bits_do_not_depend_on_isa_neighbours_threads_or_range(void **state) {
    (void)state;
    for (int i = 0; radar_scorers[i]; i++)
        for (int t = 0; t < (radar_scorers[i]->reads_packed ? 0 : COUNT(all_types)); t++)
            for (int d = 0; d < COUNT(all_D); d++)
                check_same_bits(radar_scorers[i]->name, all_types[t],
                                options_of(radar_scorers[i]->name, all_D[d], NULL, d % 2));
}

static void mean_has_an_avx2_twin(void **state) {
    (void)state;
    if (!has_isa("avx2")) skip();
    for (int d = 0; d < COUNT(all_D); d++)
        check_twin("avx2", "mean", all_types[d % 3], options_of("mean", all_D[d], NULL, 0));
}

static void an_empty_range_writes_nothing(void **state) {
    (void)state;
    for (int i = 0; radar_scorers[i]; i++) {
        if (radar_scorers[i]->reads_packed) continue;
        radar_kv_view kv = kv_random(RADAR_F16, 64, 4, 1, 1);
        radar_scorer *s = open_scorer(radar_scorers[i]->name, 64, NULL, 0);
        seal_all(s, &kv, 4, NULL, 1);
        float *q = normals(64, 2, 1);
        radar_free(score_range(s, &kv, q, 1, 0, 4, NULL));
        radar_score_task t = {.kv = kv, .n_query = 0, .unit = 1};
        radar_cpu cpu = cpu_with(NULL, 1);
        radar_cpu_score(&cpu.base, s, &t, 1);
        radar_scorer_close(s);
        radar_free(q);
        kv_free(&kv);
    }
}

/* ---- exact ---- */

static void exact_is_the_log_mass_in_double(void **state) {
    (void)state;
    double worst = 0;
    for (int t = 0; t < COUNT(all_types); t++) {
        for (int d = 0; d < COUNT(all_D); d++) {
            int D = all_D[d];
            radar_kv_view kv = kv_random(all_types[t], D, 8, 5, 2);
            radar_scorer *s = open_scorer("exact", D, NULL, 0);
            float *q = normals((size_t)(3 * D), 6, 2),
                  *score = score_range(s, &kv, q, 3, 1, 8, NULL);
            for (int j = 0; j < 3; j++)
                for (int i = 1; i < 8; i++) {
                    double e = fabs(score[j * 7 + i - 1] - lse_ref(&kv, q + j * D, i, 1));
                    worst = !(e <= worst) ? e : worst;
                }
            radar_free(q), radar_free(score);
            radar_scorer_close(s);
            kv_free(&kv);
        }
    }
    print_message("exact: worst error %.2g nats\n", worst);
    assert_true(worst <= 5e-6);
}

/* ---- mean ---- */

static double mean_ref(const radar_kv_view *kv, const float *q, int segment, int n_segments) {
    double sum = 0;
    for (int i = segment * 16; i < (segment + n_segments) * 16; i++) sum += logit_ref(kv, q, i);
    return sum / (16 * n_segments);
}

static void mean_scores_the_mean_key_and_merges(void **state) {
    (void)state;
    for (int d = 0; d < COUNT(all_D); d++) {
        int D = all_D[d];
        radar_kv_view kv = kv_random(RADAR_F16, D, 8, 5, 1);
        radar_scorer *s = open_scorer("mean", D, NULL, 0);
        seal_all(s, &kv, 8, NULL, 1);
        float *q = normals((size_t)D, 6, 1), *score = score_range(s, &kv, q, 1, 0, 8, NULL);
        const uint16_t *mean = kv.summary;
        double q1 = 0;
        for (int k = 0; k < D; k++) q1 += fabs(q[k]);
        double tolerance =
            q1 / sqrt(D) * 0x1p-12 * 1.5; /* means are below 1.5, half a step of f16 there */
        for (int i = 0; i < 8; i++)
            assert_true(fabs(score[i] - log(16) - mean_ref(&kv, q, i, 1)) <= tolerance);
        for (int i = 0; i < 8;
             i += 2) { /* two neighbours: the mean of their summaries against their keys */
            double dot = 0;
            for (int k = 0; k < D; k++)
                dot += (double)q[k] * 0.5 *
                       ((double)radar_f16_to_f32(mean[i * D + k]) +
                        (double)radar_f16_to_f32(mean[(i + 1) * D + k]));
            assert_true(fabs(dot / sqrt(D) - mean_ref(&kv, q, i, 2)) <= tolerance);
        }
        radar_free(q), radar_free(score);
        radar_scorer_close(s);
        kv_free(&kv);
    }
}

/* ---- rf ---- */

typedef struct rf_ref {
    int D, n, pair;
    double w[2048][64];
} rf_ref;

static rf_ref *rf_make(const radar_scorer *s) {
    rf_ref *r = must(radar_alloc(sizeof *r));
    r->D = s->opt.D;
    r->n = s->opt.rf_features;
    r->pair = s->opt.rf_pair;
    assert_true(r->n <= 2048 && r->D <= 64);
    for (int i = 0; i < r->n; i++)
        for (int d = 0; d < r->D; d++)
            r->w[i][d] =
                radar_random_normal(s->opt.seed, RADAR_STREAM_OMEGA, (uint64_t)(i * r->D + d));
    return r;
}

static void rf_features(double *phi, const rf_ref *r, const double *u) {
    int F = r->pair ? 2 * r->n : r->n;
    double square = 0, root = pow(r->D, -0.25);
    for (int d = 0; d < r->D; d++) square += u[d] * u[d] * root * root;
    for (int i = 0; i < r->n; i++) {
        double dot = 0;
        for (int d = 0; d < r->D; d++) dot += r->w[i][d] * u[d] * root;
        phi[i] = exp(dot - square / 2) / sqrt(F);
        if (r->pair) phi[r->n + i] = exp(-dot - square / 2) / sqrt(F);
    }
}

/* ln(16 phi(q) . mean of phi(k)), in double, over n_segments segments (and per 16 tokens). */
static double rf_score_ref(const rf_ref *r, const radar_kv_view *kv, const float *q, int segment,
                           int n_segments) {
    static double phi_q[4096], phi_k[4096];
    double u[64] = {0}, sum = 0;
    for (int d = 0; d < r->D; d++) u[d] = q[d];
    rf_features(phi_q, r, u);
    for (int i = segment * 16; i < (segment + n_segments) * 16; i++) {
        for (int d = 0; d < r->D; d++) u[d] = key_at(kv, i, d);
        rf_features(phi_k, r, u);
        for (int f = 0; f < (r->pair ? 2 : 1) * r->n; f++) sum += phi_q[f] * phi_k[f];
    }
    return log(sum / n_segments);
}

/* Two neighbours' summaries, merged by the rule of their log scales, and scored. */
static double rf_merged(const radar_scorer *s, const radar_kv_view *kv, const float *q,
                        int segment) {
    int F = (s->opt.rf_pair ? 2 : 1) * s->opt.rf_features, Fp = (F + 15) / 16 * 16;
    size_t bytes = kv->block_bytes / 4;
    const char *first = (const char *)kv->summary + (size_t)segment * bytes,
               *second = first + bytes;
    const uint16_t *p1 = (const uint16_t *)first, *p2 = (const uint16_t *)second;
    float *prepared = must(radar_alloc(s->query_bytes));
    s->kind->query(s, prepared, q);
    double l1 = *(const float *)(p1 + Fp), l2 = *(const float *)(p2 + Fp), l = fmax(l1, l2),
           dot = 0;
    for (int f = 0; f < F; f++)
        dot += (double)prepared[4 + f] *
               (exp(l1 - l) * (double)radar_bf16_to_f32(p1[f]) +
                exp(l2 - l) * (double)radar_bf16_to_f32(p2[f])) /
               2;
    double score = log(16) + l + (double)prepared[0] + log(dot);
    radar_free(prepared);
    return score;
}

static void rf_is_the_feature_estimate_in_double_and_merges(void **state) {
    (void)state;
    const float scales[] = {
        0.3f, 1, 3, 12}; /* at 12 exp(-|k|^2 / 2 sqrt D) = e^-576: only the log scales carry it */
    double worst = 0;
    for (int pair = 0; pair < 2; pair++) {
        for (int k = 0; k < COUNT(scales); k++) {
            radar_scorer *s = open_scorer("rf", 64, NULL, pair);
            rf_ref *r = rf_make(s);
            radar_kv_view kv = kv_random(RADAR_F32, 64, 4, 8, scales[k]);
            seal_all(s, &kv, 4, NULL, 1);
            float *q = normals(64, 9, scales[k]), *score = score_range(s, &kv, q, 1, 0, 4, NULL);
            for (int i = 0; i < 4; i++) {
                if (scales[k] > 10) {
                    assert_true(score[i] < -500 && score[i] > -3000);
                    continue;
                }
                double e = fabs(score[i] - rf_score_ref(r, &kv, q, i, 1));
                worst = !(e <= worst) ? e : worst;
            }
            for (int i = 0; i < 4 && scales[k] < 10; i += 2)
                assert_true(fabs(rf_merged(s, &kv, q, i) - rf_score_ref(r, &kv, q, i, 2)) <=
                            0x1p-8);
            radar_free(q), radar_free(score), radar_free(r);
            radar_scorer_close(s);
            kv_free(&kv);
        }
    }
    print_message("rf: worst distance from the formula in double %.2g nats\n", worst);
    assert_true(worst <= 0x1p-8); /* features are rounded to bf16: 2^-9 each */
}

static void rf_estimates_the_log_mass_of_short_vectors(void **state) {
    (void)state;
    for (int pair = 0; pair < 2; pair++) {
        radar_scorer_options opt = {.D = 64, .seed = 3, .rf_features = 4096, .rf_pair = pair};
        radar_scorer *s;
        opt.rf_features /= pair + 1;
        assert_int_equal(radar_scorer_open(&s, "rf", &opt, NULL), RADAR_OK);
        radar_kv_view kv = kv_random(RADAR_F16, 64, 8, 8, 0.35f);
        seal_all(s, &kv, 8, NULL, 2);
        float *q = normals(64, 9, 0.35f), *score = score_range(s, &kv, q, 1, 0, 8, NULL);
        /* |q + k|^2 / sqrt D is about 2: relative deviation sqrt((e^2 - 1) / 4096) = .04 */
        for (int i = 0; i < 8; i++) assert_true(fabs(score[i] - lse_ref(&kv, q, i, 1)) <= 0.12);
        radar_free(q), radar_free(score);
        radar_scorer_close(s);
        kv_free(&kv);
    }
}

static void keys_that_are_not_finite_harm_only_their_block(void **state) {
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; radar_scorers[i]; i++) {
        for (int b = 0; b < (radar_scorers[i]->reads_packed ? 0 : COUNT(bad)); b++) {
            radar_kv_view kv = kv_random(RADAR_F32, 64, 8, 2, 1);
            radar_scorer *s = open_scorer(radar_scorers[i]->name, 64, NULL, 1);
            ((float *)kv.k)[5 * 16 + 3] = bad[b]; /* token 3, dimension 5 */
            seal_all(s, &kv, 8, NULL, 1);
            float *q = normals(64, 3, 1), *score = score_range(s, &kv, q, 1, 0, 8, NULL);
            for (int j = 4; j < 8; j++) assert_true(isfinite(score[j]));
            radar_free(q), radar_free(score);
            radar_scorer_close(s);
            kv_free(&kv);
        }
    }
}

/* ---- all kinds on a real model's keys ---- */

static double recall_of(const char *name, const real *r) {
    return recall(name, options_of(name, 64, NULL, 1), r, 8);
}

static void kinds_rank_a_real_heads_segments(void **state) {
    (void)state;
    real r = load_real();
    double sketch = recall_of("sketch", &r), outlier = recall_of("outlier", &r),
           mean = recall_of("mean", &r), minmax = recall_of("minmax", &r), rf = recall_of("rf", &r),
           exact = recall_of("exact", &r);
    print_message("recall of the best 8 of 79 segments: sketch %.3f, outlier %.3f, mean %.3f, "
                  "minmax %.3f, rf %.3f, exact %.3f\n",
                  sketch, outlier, mean, minmax, rf, exact);
    assert_true(exact == 1);
    assert_true(sketch >= 0.86);
    assert_true(outlier >= 0.86);
    assert_true(mean >= 0.8);
    assert_true(minmax >= 0.6);
    assert_true(sketch > mean && outlier > mean && mean > minmax && minmax > rf);
    free_real(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_refuses_what_it_cannot_do),
        cmocka_unit_test(bits_do_not_depend_on_isa_neighbours_threads_or_range),
        cmocka_unit_test(mean_has_an_avx2_twin),
        cmocka_unit_test(an_empty_range_writes_nothing),
        cmocka_unit_test(exact_is_the_log_mass_in_double),
        cmocka_unit_test(mean_scores_the_mean_key_and_merges),
        cmocka_unit_test(rf_is_the_feature_estimate_in_double_and_merges),
        cmocka_unit_test(rf_estimates_the_log_mass_of_short_vectors),
        cmocka_unit_test(keys_that_are_not_finite_harm_only_their_block),
        cmocka_unit_test(kinds_rank_a_real_heads_segments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
