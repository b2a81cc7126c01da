#include "tests/unit/kv_fixture.h"

static radar_scorer *open_scorer(const char *name, int D, const char *isa, int pair) {
    radar_scorer_options opt = {.D = D,
                                .seed = 11,
                                .rf_features = strcmp(name, "rf") ? 0 : D + 3,
                                .rf_pair = pair,
                                .isa = isa};
    radar_scorer *s;
    assert_int_equal(radar_scorer_open(&s, name, &opt, NULL), RADAR_OK);
    return s;
}

/* Summaries of all blocks of kv. */
static void seal_all(const radar_scorer *s, radar_kv_view *kv, int segments, const char *isa,
                     int threads) {
    radar_cpu cpu = cpu_with(isa, threads);
    int32_t block[64];
    kv->block_bytes = s->block_bytes;
    kv->summary = s->block_bytes ? must(radar_alloc((size_t)segments / 4 * s->block_bytes)) : NULL;
    for (int i = 0; i < segments / 4; i++) block[i] = i;
    radar_cpu_seal(&cpu.base, s, kv, block, segments / 4);
}

/* Scores of n queries for segments [begin, end): [n][end - begin]. */
static float *score_range(const radar_scorer *s, const radar_kv_view *kv, const float *q, int n,
                          int begin, int end, const char *isa) {
    radar_cpu cpu = cpu_with(isa, 2);
    char *query = must(radar_alloc((size_t)n * s->query_bytes));
    float *score = must(radar_alloc((size_t)n * (size_t)(end - begin) * sizeof *score));
    radar_score_task t = {*kv, n, query, 1, begin, end, score, (size_t)(end - begin)};
    radar_cpu_query(&cpu.base, s, query, q, (size_t)kv->D, n);
    radar_cpu_score(&cpu.base, s, &t, 1);
    radar_free(query);
    return score;
}

static double lse_ref(const radar_kv_view *kv, const float *q, int segment, int n_segments) {
    double m = -INFINITY, l = 0;
    for (int i = segment * 16; i < (segment + n_segments) * 16; i++)
        m = fmax(m, logit_ref(kv, q, i));
    for (int i = segment * 16; i < (segment + n_segments) * 16; i++)
        l += exp(logit_ref(kv, q, i) - m);
    return m + log(l);
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
    assert_string_equal(err.text, "scorer 'quest': unknown; use one of sketch, mean, outlier, minmax, rf, exact");
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

static void check_same_bits(const char *name, radar_dtype type, int D, int pair) {
    enum { SEGMENTS = 12, QUERIES = 7 };
    radar_kv_view a = kv_random(type, D, SEGMENTS, (uint64_t)D, 1.5f), b = a;
    float *q = normals((size_t)(QUERIES * D), 3, 1.5f);
    radar_scorer *plain = open_scorer(name, D, "plain", pair),
                 *fast = open_scorer(name, D, NULL, pair);
    seal_all(plain, &a, SEGMENTS, "plain", 1);
    seal_all(fast, &b, SEGMENTS, NULL, 3);
    if (plain->block_bytes)
        assert_memory_equal(a.summary, b.summary, SEGMENTS / 4 * plain->block_bytes);
    float *x = score_range(plain, &a, q, QUERIES, 0, SEGMENTS, "plain");
    float *y = score_range(fast, &b, q, QUERIES, 0, SEGMENTS, NULL);
    assert_memory_equal(x, y, QUERIES * SEGMENTS * sizeof *x);
    for (int j = 0; j < QUERIES; j++) {
        for (int begin = 0; begin < SEGMENTS; begin += 3) {
            int end = begin + 1 + (j + begin) % (SEGMENTS - begin), n = 1 + j % 2;
            if (j + n > QUERIES) n = 1;
            float *part = score_range(fast, &b, q + j * D, n, begin, end, NULL);
            for (int i = 0; i < n; i++)
                assert_memory_equal(part + i * (end - begin), x + (j + i) * SEGMENTS + begin,
                                    (size_t)(end - begin) * sizeof *x);
            radar_free(part);
        }
    }
    radar_scorer_close(plain), radar_scorer_close(fast);
    radar_free(x), radar_free(y), radar_free(q), radar_free(b.summary);
    kv_free(&a);
}

static void bits_do_not_depend_on_isa_neighbours_threads_or_range(void **state) {
    (void)state;
    for (int i = 0; radar_scorers[i]; i++)
        for (int t = 0; t < COUNT(all_types); t++)
            for (int d = 0; d < COUNT(all_D); d++)
                check_same_bits(radar_scorers[i]->name, all_types[t], all_D[d], d % 2);
}

static void an_empty_range_writes_nothing(void **state) {
    (void)state;
    for (int i = 0; radar_scorers[i]; i++) {
        radar_kv_view kv = kv_random(RADAR_F16, 64, 4, 1, 1);
        radar_scorer *s = open_scorer(radar_scorers[i]->name, 64, NULL, 0);
        seal_all(s, &kv, 4, NULL, 1);
        float *q = normals(64, 2, 1);
        radar_free(score_range(s, &kv, q, 1, 0, 4, NULL));
        radar_score_task t = {.kv = kv, .n_query = 0, .segment_begin = 0, .segment_end = 0};
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
    const char *block = (const char *)kv->summary + (size_t)(segment / 4) * kv->block_bytes;
    const float *lambda = (const float *)(block + 8 * Fp);
    const uint16_t *phi = (const uint16_t *)block + (size_t)(segment % 4 * Fp);
    float *prepared = must(radar_alloc(s->query_bytes));
    s->kind->query(s, prepared, q);
    double l1 = lambda[segment % 4], l2 = lambda[segment % 4 + 1], l = fmax(l1, l2), dot = 0;
    for (int f = 0; f < F; f++)
        dot += (double)prepared[4 + f] *
               (exp(l1 - l) * (double)radar_bf16_to_f32(phi[f]) +
                exp(l2 - l) * (double)radar_bf16_to_f32(phi[Fp + f])) /
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

/* ---- sketch ---- */

/* The stored estimate of (H (k - mu))_d and of mu, read as the layout says. */
static double sketch_code(const radar_kv_view *kv, int slot, int d) {
    int Dp = (kv->D + 15) / 16 * 16, token = slot % 64;
    const char *block = (const char *)kv->summary + (size_t)(slot / 64) * kv->block_bytes;
    uint32_t word;
    memcpy(&word, block + ((token / 16 * (Dp / 16) + d / 16) * 16 + token % 16) * 4, 4);
    int code = word >> (8 * (d % 4) + 2 * (d % 16 / 4)) & 3, step = (uint8_t)block[16 * Dp + token];
    float scale;
    memcpy(&scale, block + 17 * Dp + 68, 4);
    return step ? (code - 1.5) * exp2((step - 255) / 16.0) * scale : 0;
}

static double sketch_mu(const radar_kv_view *kv, int slot, int d) {
    int Dp = (kv->D + 15) / 16 * 16;
    const char *block = (const char *)kv->summary + (size_t)(slot / 64) * kv->block_bytes;
    float scale;
    memcpy(&scale, block + 17 * Dp + 64, 4);
    return ((const int8_t *)block)[16 * Dp + 64 + d] * (double)scale;
}

/* H u by its definition: entry (i, j) of a part is (-1)^(bits that i and j share). */
static void hadamard_ref(double *out, const double *u, int D, uint64_t seed) {
    for (int begin = 0, size = 256; begin < D; size /= 2) {
        if (size > D - begin) continue;
        for (int i = 0; i < size; i++) {
            out[begin + i] = 0;
            for (int j = 0; j < size; j++) {
                int sign = __builtin_parity((unsigned)(i & j)) ^
                           (int)(radar_random(seed, RADAR_STREAM_SIGNS, (uint64_t)(begin + j)) & 1);
                out[begin + i] += (sign ? -1 : 1) * u[begin + j] / sqrt(size);
            }
        }
        begin += size;
    }
}

static double sketch_logit(const radar_kv_view *kv, const float *q, const double *hq, int slot) {
    double sum = 0;
    for (int d = 0; d < kv->D; d++)
        sum += (double)q[d] * sketch_mu(kv, slot, d) + hq[d] * sketch_code(kv, slot, d);
    return sum / sqrt(kv->D);
}

static void sketch_scores_what_its_layout_says(void **state) {
    (void)state;
    double worst = 0;
    for (int d = 0; d < COUNT(all_D); d++) {
        int D = all_D[d];
        radar_kv_view kv = kv_random(RADAR_F16, D, 8, 21, 1);
        radar_scorer *s = open_scorer("sketch", D, NULL, 0);
        assert_int_equal(s->block_bytes, 17 * ((D + 15) / 16 * 16) + 72);
        seal_all(s, &kv, 8, NULL, 2);
        float *q = normals((size_t)(2 * D), 22, 1), *score = score_range(s, &kv, q, 2, 0, 8, NULL);
        for (int j = 0; j < 2; j++) {
            double u[256], hq[256], norm = 0;
            for (int k = 0; k < D; k++) {
                u[k] = q[j * D + k];
                norm = fmax(norm, fabs(u[k]));
            }
            hadamard_ref(hq, u, D, 11);
            for (int i = 0; i < 8; i++) {
                double l = 0;
                for (int t = i * 16; t < i * 16 + 16; t++)
                    l += exp(sketch_logit(&kv, q + j * D, hq, t));
                double e = fabs(score[j * 8 + i] - log(l));
                worst = !(e <= worst) ? e : worst;
            }
        }
        radar_free(q), radar_free(score);
        radar_scorer_close(s);
        kv_free(&kv);
    }
    print_message("sketch: scan against the layout in double %.2g nats\n", worst);
    assert_true(worst <=
                0.03); /* H q in int8: a step is 1/127 of the largest, sd .003 |q| |z| / D */
}

static void sketch_of_equal_keys_is_exact_up_to_the_mean(void **state) {
    (void)state;
    const float scales[] = {0, 1e-4f, 1, 3000};
    for (int k = 0; k < COUNT(scales); k++) {
        radar_kv_view kv = kv_empty(RADAR_F32, 96, 4);
        float *key = normals(96, 1, scales[k]), *q = normals(96, 2, 1);
        kv_put(&kv, key, key, 0, 64);
        radar_scorer *s = open_scorer("sketch", 96, NULL, 0);
        seal_all(s, &kv, 4, NULL, 1);
        float *score = score_range(s, &kv, q, 1, 0, 4, NULL);
        double size = 0;
        for (int d = 0; d < 96; d++) size = fmax(size, fabs(key[d]));
        for (int i = 0; i < 4; i++)
            assert_true(fabs(score[i] - lse_ref(&kv, q, i, 1)) <= 1e-5 + size * 0.01);
        radar_free(key), radar_free(q), radar_free(score);
        radar_scorer_close(s);
        kv_free(&kv);
    }
}

static void keys_that_are_not_finite_harm_only_their_block(void **state) {
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; radar_scorers[i]; i++) {
        for (int b = 0; b < COUNT(bad); b++) {
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

/* ---- sketch on a real model's keys ---- */

enum { REAL_TOKENS = 1280, REAL_SEGMENTS = 80, REAL_QUERIES = 17 };

typedef struct real {
    radar_kv_view kv[3];
    float *q; /* [17][9][64] */
} real;

static real load_real(void) {
    real r;
    uint16_t *h = golden("radar-real-k.f16", REAL_TOKENS * 3 * 64 * 2);
    float *k = must(radar_alloc(REAL_TOKENS * 3 * 64 * sizeof *k));
    for (int i = 0; i < REAL_TOKENS * 3 * 64; i++) k[i] = radar_f16_to_f32(h[i]);
    for (int g = 0; g < 3; g++) {
        r.kv[g] = kv_empty(RADAR_F16, 64, REAL_SEGMENTS);
        kv_put(&r.kv[g], k + g * 64, k + g * 64, 3 * 64, REAL_TOKENS);
    }
    r.q = golden("radar-real-q.f32", REAL_QUERIES * 9 * 64 * 4);
    radar_free(h), radar_free(k);
    return r;
}

/* Share of the exact best `keep` segments (of all but the first) that the scores find, over all queries. */
static double recall(const char *name, const real *r, int keep) {
    int hits = 0, all = 0;
    radar_scorer *s = open_scorer(name, 64, NULL, 1), *exact = open_scorer("exact", 64, NULL, 0);
    for (int g = 0; g < 3; g++) {
        radar_kv_view kv = r->kv[g];
        seal_all(s, &kv, REAL_SEGMENTS, NULL, 2);
        for (int j = 0; j < REAL_QUERIES * 3; j++) {
            const float *q = r->q + (j / 3 * 9 + g * 3 + j % 3) * 64;
            float *score[2] = {score_range(s, &kv, q, 1, 1, REAL_SEGMENTS, NULL),
                               score_range(exact, &kv, q, 1, 1, REAL_SEGMENTS, NULL)};
            uint64_t key[2][REAL_SEGMENTS];
            for (int i = 0; i < 2; i++) {
                for (int k = 0; k < REAL_SEGMENTS - 1; k++)
                    key[i][k] = radar_topk_key(score[i][k], (uint32_t)k);
                radar_topk_select(key[i], REAL_SEGMENTS - 1, keep);
                radar_free(score[i]);
            }
            for (int a = 0; a < keep; a++)
                for (int b = 0; b < keep; b++)
                    hits += radar_topk_segment(key[0][a]) == radar_topk_segment(key[1][b]);
            all += keep;
        }
        radar_free(kv.summary);
    }
    radar_scorer_close(s), radar_scorer_close(exact);
    return (double)hits / all;
}

static void free_real(real *r) {
    for (int g = 0; g < 3; g++) kv_free(&r->kv[g]);
    radar_free(r->q);
}

static void sketch_finds_the_best_segments_of_a_real_head(void **state) {
    (void)state;
    real r = load_real();
    double sketch = recall("sketch", &r, 8), mean = recall("mean", &r, 8), rf = recall("rf", &r, 8),
           exact = recall("exact", &r, 8);
    print_message(
        "recall of the best 8 of 79 segments: sketch %.3f, mean %.3f, rf %.3f, exact %.3f\n",
        sketch, mean, rf, exact);
    assert_true(exact == 1);
    assert_true(sketch >= 0.86);
    assert_true(mean >= 0.8);
    assert_true(sketch > mean && mean > rf);
    free_real(&r);
}

/* Error of a logit in units of |q| |k - mu| 2^-2 / D; rms about 1.4 for two bits of a normal coordinate (.345 / .25). */
static void sketchs_logit_error_is_that_of_two_bits(void **state) {
    (void)state;
    real r = load_real();
    radar_scorer *s = open_scorer("sketch", 64, NULL, 0);
    double square = 0, worst = 0, bias = 0;
    long n = 0;
    for (int g = 0; g < 3; g++) {
        radar_kv_view kv = r.kv[g];
        seal_all(s, &kv, REAL_SEGMENTS, NULL, 2);
        for (int j = 0; j < REAL_QUERIES * 3; j += 4) {
            const float *q = r.q + (j / 3 * 9 + g * 3 + j % 3) * 64;
            double u[64], hq[64], nq = 0;
            for (int d = 0; d < 64; d++) {
                u[d] = q[d];
                nq += u[d] * u[d];
            }
            hadamard_ref(hq, u, 64, 11);
            for (int t = 0; t < REAL_TOKENS; t += 3) {
                double nk = 0;
                for (int d = 0; d < 64; d++) nk += pow(key_at(&kv, t, d) - sketch_mu(&kv, t, d), 2);
                double e = (sketch_logit(&kv, q, hq, t) - logit_ref(&kv, q, t)) /
                           (sqrt(nq * nk) * 0.25 / 64);
                square += e * e;
                bias += e;
                worst = !(fabs(e) <= worst) ? fabs(e) : worst;
                n++;
            }
        }
        radar_free(kv.summary);
    }
    print_message("sketch: logit error in units of |q| |k - mu| 2^-2 / D: rms %.3f, mean %.3f, "
                  "largest %.2f\n",
                  sqrt(square / (double)n), bias / (double)n, worst);
    assert_true(sqrt(square / (double)n) <= 1.6);
    assert_true(fabs(bias / (double)n) <= 0.1);
    assert_true(worst <= 8);
    radar_scorer_close(s);
    free_real(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_refuses_what_it_cannot_do),
        cmocka_unit_test(bits_do_not_depend_on_isa_neighbours_threads_or_range),
        cmocka_unit_test(an_empty_range_writes_nothing),
        cmocka_unit_test(exact_is_the_log_mass_in_double),
        cmocka_unit_test(mean_scores_the_mean_key_and_merges),
        cmocka_unit_test(rf_is_the_feature_estimate_in_double_and_merges),
        cmocka_unit_test(rf_estimates_the_log_mass_of_short_vectors),
        cmocka_unit_test(sketch_scores_what_its_layout_says),
        cmocka_unit_test(sketch_of_equal_keys_is_exact_up_to_the_mean),
        cmocka_unit_test(keys_that_are_not_finite_harm_only_their_block),
        cmocka_unit_test(sketch_finds_the_best_segments_of_a_real_head),
        cmocka_unit_test(sketchs_logit_error_is_that_of_two_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
