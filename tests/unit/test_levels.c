/* Summaries of longer segments: merged level by level as blocks are sealed, and scored; the random features centred and tempered. */
#include "tests/unit/kv_fixture.h"

#include "kernels/cpu/rf.h"
#include "runtime/kvcache.h"

enum { D = 32, LAYERS = 2, HEADS = 2, CONTEXT = 1500, WINDOW = 40, STRIPE = 256, MOST_F = 96 };

typedef struct form {
    const char *name;
    int features, pair, center;
    double temper;
    int levels; /* that the kind can make within a stripe */
} form;

static const form forms[] = {{"mean", 0, 0, 0, 0, 4},   {"rf", 40, 0, 0, 0, 4},
                             {"rf", 24, 1, 0, 0.5, 4},  {"rf", 40, 0, 1, 0, 2},
                             {"rf", 40, 0, 1, 0.25, 2}, {"rf", 40, 0, 0, 0.7, 4}};

static radar_scorer *open_form(const form *f, const char *isa) {
    radar_scorer_options opt = {.D = D,
                                .seed = 5,
                                .rf_features = f->features,
                                .rf_pair = f->pair,
                                .rf_center = f->center,
                                .rf_temper = f->temper,
                                .isa = isa};
    radar_scorer *s;
    assert_int_equal(radar_scorer_open(&s, f->name, &opt, NULL), RADAR_OK);
    assert_non_null(s->kind->merge);
    assert_int_equal(s->longest, f->center ? 64 : 0);
    return s;
}

/* ---- a cache that is fed and rewound ---- */

typedef struct cache {
    radar_cpu cpu;
    radar_kvcache kv;
    radar_scorer *scorer;
    int64_t t;
} cache;

static void open_cache(cache *c, const form *f, const char *isa, int ranks, int rank) {
    c->cpu = cpu_with(isa, 2);
    c->scorer = open_form(f, isa);
    c->t = 0;
    c->kv = (radar_kvcache){.be = &c->cpu.base,
                            .layout = {.shards = 2, .stripe = STRIPE, .ranks = ranks},
                            .rank = rank,
                            .layers = LAYERS,
                            .kv_heads = HEADS,
                            .D = D,
                            .type = RADAR_F16,
                            .block_bytes = c->scorer->block_bytes,
                            .levels = f->levels,
                            .context = CONTEXT};
    assert_int_equal(radar_kvcache_plan(&c->kv, NULL), RADAR_OK);
    assert_int_equal(radar_kvcache_open(&c->kv, NULL), RADAR_OK);
}

static void close_cache(cache *c) {
    radar_kvcache_close(&c->kv);
    radar_scorer_close(c->scorer);
}

/* n more tokens; another version has other keys.  Their mean is far from 0 where a block is. */
static void feed(cache *c, int n, uint64_t version) {
    int32_t scratch[CONTEXT];
    float *k = must(radar_alloc((size_t)n * HEADS * D * sizeof *k));
    for (int layer = 0; layer < LAYERS; layer++) {
        for (int i = 0; i < n * HEADS * D; i++)
            k[i] = 0.5f * (float)radar_random_normal(version * 2 + (uint64_t)layer, 99,
                                                     (uint64_t)(c->t * HEADS * D + i)) +
                   (i % 3 ? 0 : (float)sin((double)(c->t + i / (HEADS * D)) / 90));
        radar_kvcache_append(&c->kv, layer, c->t, n, k, k, scratch);
        radar_kvcache_seal(&c->kv, c->scorer, layer, c->t + n, WINDOW);
    }
    c->t += n;
    radar_free(k);
}

/* Summaries of all segments of 16 tokens, sealed directly from the cache's keys, back to back. */
static char *seal_directly(const cache *c, const radar_kv_view *view, int64_t blocks) {
    char *out = must(radar_alloc((size_t)blocks * c->scorer->block_bytes + 1));
    float key[64 * D];
    for (int64_t b = 0; b < blocks; b++) {
        for (int i = 0; i < 64; i++)
            for (int d = 0; d < D; d++) key[i * D + d] = (float)key_at(view, (int)(b * 64) + i, d);
        c->scorer->kind->seal(c->scorer, out + (size_t)b * c->scorer->block_bytes, key);
    }
    return out;
}

/* Every level of one head of one shard is the pair tree over its own segments, whole as far as blocks are sealed. */
static void check_tree(const cache *c, int layer, int head, int i) {
    radar_kv_view view = radar_kvcache_view(&c->kv, layer, head, i);
    int64_t sealed = radar_sealed_blocks(c->t, WINDOW) * 64;
    int64_t n = radar_shard_tokens(&c->kv.layout, c->kv.first_shard + i, sealed) / 16;
    size_t bytes = c->scorer->block_bytes / 4;
    char *tree = seal_directly(c, &view, n / 4);
    for (int level = 0; level <= c->kv.levels; level++) {
        assert_memory_equal(radar_kv_summaries(&view, 1 << level), tree, (size_t)n * bytes);
        n /= 2;
        char *next = must(radar_alloc((size_t)n * bytes + 1));
        for (int64_t j = 0; j < n; j++)
            c->scorer->kind->merge(c->scorer, next + (size_t)j * bytes,
                                   tree + (size_t)(2 * j) * bytes,
                                   tree + (size_t)(2 * j + 1) * bytes);
        radar_free(tree);
        tree = next;
    }
    radar_free(tree);
}

static void check_cache(const cache *c) {
    for (int layer = 0; layer < LAYERS; layer++)
        for (int head = 0; head < HEADS; head++)
            for (int i = 0; i < c->kv.n_shards; i++) check_tree(c, layer, head, i);
}

static void levels_are_the_pair_tree_of_their_segments(void **state) {
    (void)state;
    const int steps[] = {63, 41, 1, 300, 64, 250, 7, 500}, again[] = {5, 130, 64, 70, 3};
    for (int f = 0; f < COUNT(forms); f++) {
        for (int ranks = 1; ranks <= 2; ranks++) {
            for (int rank = 0; rank < ranks; rank++) {
                cache c;
                open_cache(&c, &forms[f], f % 2 ? NULL : "plain", ranks, rank);
                for (int i = 0; i < COUNT(steps); i++) {
                    feed(&c, steps[i], 1);
                    check_cache(&c);
                }
                for (int i = 0; i < 3; i++) { /* other keys from somewhere before on */
                    c.t -= 170 + 250 * i;
                    radar_kvcache_truncate(&c.kv, c.t, WINDOW);
                    for (int j = 0; j < COUNT(again); j++) {
                        feed(&c, again[j] / (i + 1), 2 + (uint64_t)i);
                        check_cache(&c);
                    }
                }
                close_cache(&c);
            }
        }
    }
    assert_int_equal(radar_alloc_live(), 0);
}

/* What is reserved beside the blocks: S / 2 + S / 4 + ... summaries, and never more than it adds up to. */
static void levels_are_counted_and_their_size_cannot_overflow(void **state) {
    (void)state;
    radar_kvcache kv = {.layout = {.shards = 2, .stripe = STRIPE, .ranks = 1},
                        .layers = 3,
                        .kv_heads = 5,
                        .D = D,
                        .type = RADAR_F16,
                        .block_bytes = 400,
                        .context = 1024};
    for (int level = 0; level <= 4; level++) {
        kv.levels = level;
        assert_int_equal(radar_kvcache_plan(&kv, NULL), RADAR_OK);
        size_t segments = 64, all = 64;
        for (int l = 1; l <= level; l++) all += segments >> l;
        assert_int_equal(kv.summary_bytes, 15 * all * 100);
    }
    kv.block_bytes = SIZE_MAX / 240 / 4 * 4; /* the blocks alone would fit */
    kv.levels = 0;
    assert_int_equal(radar_kvcache_plan(&kv, NULL), RADAR_OK);
    kv.levels = 1;
    assert_int_equal(radar_kvcache_plan(&kv, NULL), RADAR_ERR_CONFIG);
}

/* ---- what a level holds, in double ---- */

static int features_of(const form *f) { return f->pair ? 2 * f->features : f->features; }

/* ln phi_i(b u), F values; u in double. */
static void exponents_ref(double *out, const form *f, const double *u, double b) {
    double square = 0, root = pow(D, -0.25);
    for (int d = 0; d < D; d++) square += b * b * u[d] * u[d] * root * root;
    for (int i = 0; i < f->features; i++) {
        double dot = 0;
        for (int d = 0; d < D; d++)
            dot +=
                radar_random_normal(5, RADAR_STREAM_OMEGA, (uint64_t)(i * D + d)) * b * u[d] * root;
        out[i] = dot - square / 2 - log(features_of(f)) / 2;
        if (f->pair) out[f->features + i] = -dot - square / 2 - log(features_of(f)) / 2;
    }
}

/* The stored parts of a summary of `rf`. */
typedef struct stored_rf {
    double lambda, phi[MOST_F], mu[D];
} stored_rf;

static stored_rf read_rf(const form *f, const char *segment) {
    stored_rf s = {0};
    int F = features_of(f), Fp = (F + 15) / 16 * 16;
    const uint16_t *phi = (const uint16_t *)segment;
    float lambda;
    memcpy(&lambda, phi + Fp, sizeof lambda);
    s.lambda = lambda;
    for (int i = 0; i < F; i++) s.phi[i] = radar_bf16_to_f32(phi[i]);
    for (int i = F; i < Fp; i++) assert_int_equal(phi[i], 0);
    for (int d = 0; d < D && f->center; d++) s.mu[d] = radar_f16_to_f32(phi[Fp + 2 + d]);
    return s;
}

static void check_mean_level(const radar_kv_view *view, int level, int j) {
    const uint16_t *mean = (const uint16_t *)radar_kv_summaries(view, 1 << level) + j * D;
    for (int d = 0; d < D; d++) {
        double sum = 0, largest = 0;
        for (int i = j << level; i < (j + 1) << level; i++) {
            double part = 0;
            for (int k = 0; k < 16; k++) part += key_at(view, i * 16 + k, d) / 16;
            largest = fmax(largest, fabs(part));
            sum += part;
        }
        /* one rounding to f16, 11 bits, at every level */
        assert_true(fabs(radar_f16_to_f32(mean[d]) - sum / (1 << level)) <=
                    1.01 * (level + 1) * (largest * 0x1p-11 + 0x1p-25));
    }
}

static void check_center(const radar_kv_view *view, const stored_rf *s, int block) {
    for (int d = 0; d < D; d++) {
        double mean = 0;
        for (int i = 0; i < 64; i++) mean += key_at(view, block * 64 + i, d) / 64;
        assert_true(fabs(s->mu[d] - mean) <= 1e-6 + fabs(mean) * 0x1p-11);
    }
}

static double check_rf_level(const form *f, const radar_kv_view *view, int level, int j) {
    size_t bytes = view->block_bytes / 4;
    stored_rf s = read_rf(f, radar_kv_summaries(view, 1 << level) + (size_t)j * bytes);
    double want[MOST_F] = {0}, e[MOST_F], u[D], worst = 0;
    if (f->center) check_center(view, &s, (j << level) / 4);
    for (int i = j * 16 << level; i < (j + 1) * 16 << level; i++) {
        for (int d = 0; d < D; d++) u[d] = key_at(view, i, d) - s.mu[d];
        exponents_ref(e, f, u, 1);
        for (int k = 0; k < features_of(f); k++) want[k] += exp(e[k]) / (16 << level);
    }
    for (int k = 0; k < features_of(f); k++)
        worst = fmax(worst, fabs(s.phi[k] * exp(s.lambda) - want[k]) / want[k]);
    /* bf16 has 8 bits: a rounding at every level, all of positive numbers */
    assert_true(worst <= (level + 1) * 0x1p-8 + 2e-5);
    return worst;
}

static void levels_hold_the_average_of_all_their_tokens(void **state) {
    (void)state;
    for (int f = 0; f < COUNT(forms); f++) {
        cache c;
        double worst = 0;
        open_cache(&c, &forms[f], NULL, 1, 0);
        feed(&c, CONTEXT, 1);
        for (int i = 0; i < 2; i++) {
            radar_kv_view view = radar_kvcache_view(&c.kv, 1, 1, i);
            for (int level = 0; level <= forms[f].levels; level++)
                for (int j = 0; j < 40 >> level; j += 1 + (level == 0)) {
                    if (forms[f].features)
                        worst = fmax(worst, check_rf_level(&forms[f], &view, level, j));
                    else
                        check_mean_level(&view, level, j);
                }
        }
        if (forms[f].features)
            print_message("    rf, pair %d, centred %d: features within %.2g of the average\n",
                          forms[f].pair, forms[f].center, worst);
        close_cache(&c);
    }
}

/* ---- scores ---- */

enum { QUERIES = 7 };

static float *scores_of(const cache *c, const radar_kv_view *view, const float *q, int unit,
                        int begin, int end) {
    char *query = must(radar_alloc(QUERIES * c->scorer->query_bytes));
    size_t n = (size_t)(end - begin);
    float *score = must(radar_alloc(QUERIES * n * sizeof *score));
    radar_cpu cpu = c->cpu;
    radar_score_task task = {.kv = *view,
                             .n_query = QUERIES,
                             .query = query,
                             .unit = unit,
                             .segment_begin = begin,
                             .segment_end = end,
                             .score = score,
                             .score_stride = n};
    radar_cpu_query(&cpu.base, c->scorer, query, q, D, QUERIES);
    radar_cpu_score(&cpu.base, c->scorer, &task, 1);
    radar_free(query);
    return score;
}

/* The score that the formula gives for a stored summary, and the size of what it is made of. */
static double score_ref(const form *f, const char *segment, const float *q, int unit,
                        double *size) {
    double u[D], e[MOST_F], dot = 0, center = 0, b = f->temper > 0 ? f->temper : 1;
    for (int d = 0; d < D; d++) u[d] = q[d];
    if (!f->features) {
        for (int d = 0; d < D; d++)
            dot += u[d] * radar_f16_to_f32(((const uint16_t *)segment)[d]) / sqrt(D);
        *size = 1 + fabs(dot);
        return log(16 * unit) + dot;
    }
    stored_rf s = read_rf(f, segment);
    exponents_ref(e, f, u, b);
    for (int i = 0; i < features_of(f); i++) dot += exp(e[i]) * s.phi[i];
    for (int d = 0; d < D; d++) center += u[d] * s.mu[d] / sqrt(D);
    *size = 1 + fabs(s.lambda) + fabs(log(dot)) / b + fabs(center);
    return log(16 * unit) + (s.lambda + log(dot)) / b + center;
}

static void scores_are_those_of_the_formula_at_every_unit(void **state) {
    (void)state;
    float *q = normals(QUERIES * D, 3, 1.2f);
    double worst = 0, size;
    for (int f = 0; f < COUNT(forms); f++) {
        cache c, plain;
        open_cache(&c, &forms[f], NULL, 1, 0);
        open_cache(&plain, &forms[f], "plain", 1, 0);
        feed(&c, CONTEXT, 1);
        feed(&plain, CONTEXT, 1);
        radar_kv_view view = radar_kvcache_view(&c.kv, 0, 1, 1),
                      other = radar_kvcache_view(&plain.kv, 0, 1, 1);
        for (int level = 0; level <= forms[f].levels; level++) {
            int unit = 1 << level, begin = level < 4, end = 40 >> level;
            int n = end - begin;
            float *score = scores_of(&c, &view, q, unit, begin, end),
                  *same = scores_of(&plain, &other, q, unit, begin, end);
            assert_memory_equal(score, same, (size_t)(QUERIES * n) * sizeof *score);
            for (int j = 0; j < QUERIES; j++)
                for (int i = 0; i < n; i++) {
                    const char *segment = radar_kv_summaries(&view, unit) +
                                          (size_t)(begin + i) * (view.block_bytes / 4);
                    double want = score_ref(&forms[f], segment, q + j * D, unit, &size);
                    worst = fmax(worst, fabs(score[j * n + i] - want) / size);
                    assert_true(fabs(score[j * n + i] - want) <= 1e-5 * size);
                }
            radar_free(score), radar_free(same);
        }
        close_cache(&c), close_cache(&plain);
    }
    print_message("    scores: worst error %.2g of the size of their terms\n", worst);
    radar_free(q);
}

/* ---- centred, tempered: what the features estimate ---- */

/* (1 / b) ln mean exp(b logit) + ln 16, of one segment of 16 tokens: at b = 1 its log-mass. */
static double power_mean(const radar_kv_view *kv, const float *q, int segment, double b) {
    double sum = 0;
    for (int i = segment * 16; i < segment * 16 + 16; i++) sum += exp(b * logit_ref(kv, q, i)) / 16;
    return log(sum) / b + log(16);
}

/* Worst distance of the estimate from the power mean, over 8 segments whose keys are spread around a distant point. */
static double estimate_error(int center, double b, float spread) {
    radar_scorer_options opt = {
        .D = D, .seed = 3, .rf_features = 4096, .rf_center = center, .rf_temper = b};
    form f = {"rf", 4096, 0, center, b, 0};
    cache c = {.cpu = cpu_with(NULL, 2)};
    assert_int_equal(radar_scorer_open(&c.scorer, f.name, &opt, NULL), RADAR_OK);
    radar_kv_view kv = kv_empty(RADAR_F32, D, 8);
    float *k = normals(128 * D, 8, spread), *q = normals(QUERIES * D, 9, 0.3f);
    for (int i = 0; i < 128 * D; i++) k[i] += i / D < 64 ? 1.5f : -1.5f;
    kv_put(&kv, k, k, D, 128);
    kv.block_bytes = c.scorer->block_bytes;
    kv.summary = must(radar_alloc(2 * kv.block_bytes));
    radar_cpu_seal(&c.cpu.base, c.scorer, &kv, 1, 0, 2);
    float *score = scores_of(&c, &kv, q, 1, 0, 8);
    double worst = 0;
    for (int j = 0; j < QUERIES; j++)
        for (int i = 0; i < 8; i++)
            worst = fmax(worst, fabs(score[j * 8 + i] - power_mean(&kv, q + j * D, i, b)));
    radar_free(k), radar_free(q), radar_free(score);
    radar_scorer_close(c.scorer);
    kv_free(&kv);
    return worst;
}

static void centring_estimates_the_same_mass_with_less_noise(void **state) {
    (void)state;
    double plain = estimate_error(0, 1, 0.3f), centred = estimate_error(1, 1, 0.3f);
    print_message("    log-mass of keys around a distant mean: within %.3f, centred %.3f nats\n",
                  plain, centred);
    /* |q + k - mu|^2 / sqrt D is about 1: relative deviation sqrt((e - 1) / 4096) = .02, of 56 the worst; with mu, |k|^2 / sqrt D
     * is 13 and one feature decides */
    assert_true(centred <= 0.1);
    assert_true(plain >= 1);
}

static void tempering_estimates_the_power_mean_of_its_exponent(void **state) {
    (void)state;
    const double b[] = {0.3, 0.6, 1};
    for (int i = 0; i < COUNT(b); i++) {
        double error = estimate_error(1, b[i], 0.3f);
        print_message("    b = %g: within %.3f nats of the power mean\n", b[i], error);
        assert_true(error <= 0.1);
    }
}

/* Every head size, centred and tempered: one machine's instructions give the bits of the other's. */
static void centred_bits_do_not_depend_on_isa(void **state) {
    (void)state;
    for (int d = 0; d < COUNT(all_D); d++) {
        radar_kv_view kv[2];
        float *q = normals((size_t)(QUERIES * all_D[d]), 3, 1), score[2][QUERIES * 7];
        for (int i = 0; i < 2; i++) {
            radar_cpu cpu = cpu_with(i ? "plain" : NULL, 1);
            radar_scorer_options opt = {.D = all_D[d],
                                        .seed = 4,
                                        .rf_features = all_D[d] + 3,
                                        .rf_center = 1,
                                        .rf_temper = 0.4,
                                        .isa = cpu.opt.isa};
            radar_scorer *s;
            assert_int_equal(radar_scorer_open(&s, "rf", &opt, NULL), RADAR_OK);
            kv[i] = kv_random(RADAR_BF16, all_D[d], 8, 6, 1.5f);
            kv[i].block_bytes = s->block_bytes;
            kv[i].summary = must(radar_alloc(2 * s->block_bytes));
            void *query = must(radar_alloc(QUERIES * s->query_bytes));
            radar_cpu_seal(&cpu.base, s, &kv[i], 1, 0, 2);
            radar_cpu_query(&cpu.base, s, query, q, (size_t)all_D[d], QUERIES);
            radar_score_task task = {.kv = kv[i],
                                     .n_query = QUERIES,
                                     .query = query,
                                     .unit = 1,
                                     .segment_begin = 1,
                                     .segment_end = 8,
                                     .score = score[i],
                                     .score_stride = 7};
            radar_cpu_score(&cpu.base, s, &task, 1);
            radar_free(query);
            radar_scorer_close(s);
        }
        assert_memory_equal(kv[0].summary, kv[1].summary, 2 * kv[0].block_bytes);
        assert_memory_equal(score[0], score[1], sizeof score[0]);
        kv_free(&kv[0]), kv_free(&kv[1]), radar_free(q);
    }
}

/* b = 1, given or not, is the plain estimate bit for bit. */
static void a_temper_of_one_changes_no_bit(void **state) {
    (void)state;
    float *q = normals(QUERIES * D, 3, 1.2f), *score[2];
    for (int i = 0; i < 2; i++) {
        form f = {"rf", 40, 1, 0, i, 0};
        cache c;
        open_cache(&c, &f, NULL, 1, 0);
        feed(&c, 300, 1);
        radar_kv_view view = radar_kvcache_view(&c.kv, 0, 0, 0);
        score[i] = scores_of(&c, &view, q, 1, 0, 8);
        close_cache(&c);
    }
    assert_memory_equal(score[0], score[1], QUERIES * 8 * sizeof *q);
    radar_free(q), radar_free(score[0]), radar_free(score[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_are_the_pair_tree_of_their_segments),
        cmocka_unit_test(levels_are_counted_and_their_size_cannot_overflow),
        cmocka_unit_test(levels_hold_the_average_of_all_their_tokens),
        cmocka_unit_test(scores_are_those_of_the_formula_at_every_unit),
        cmocka_unit_test(centring_estimates_the_same_mass_with_less_noise),
        cmocka_unit_test(tempering_estimates_the_power_mean_of_its_exponent),
        cmocka_unit_test(centred_bits_do_not_depend_on_isa),
        cmocka_unit_test(a_temper_of_one_changes_no_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
