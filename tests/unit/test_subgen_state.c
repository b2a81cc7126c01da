/* The estimator of SubGen: its clusters and samples against a slow reference that follows the paper token by token with the same
 * draws, and its estimates against what they estimate over many seeds. */
#include "tests/unit/kv_fixture.h"
#include "tests/unit/subgen_ref.h"

/* ---- the state ---- */

/* Keys in lumps of three sizes, so that radii from small to large matter; some keys twice. */
static ref *make_ref(int D, int m, int s, int window, int sinks, uint64_t seed) {
    ref *r = must(radar_alloc(sizeof *r));
    *r = (ref){.D = D, .m = m, .s = s, .window = window, .sinks = sinks, .seed = seed};
    for (int p = 0; p < MOST; p++) {
        int lump = (int)(radar_random(4, 1, (uint64_t)p) % 12);
        bool again = p > 20 && p % 7 == 0;
        for (int d = 0; d < D; d++) {
            uint64_t at = (uint64_t)(p * D + d), in = (uint64_t)(lump * D + d);
            float key = (float)(3 * radar_random_normal(4, 2, in) +
                                (lump % 3 ? 0.3 : 1.5) * radar_random_normal(4, 3, at));
            r->key[p][d] = again ? r->key[p - 20][d] : (double)key;
        }
        r->norm2[p] = exp(radar_random_normal(4, 5, (uint64_t)p));
    }
    ref_reset(r);
    return r;
}

static radar_subgen open_state(const ref *r) {
    radar_subgen g;
    radar_subgen_shape shape = {.D = r->D,
                                .clusters = r->m,
                                .values = r->s,
                                .window = r->window,
                                .sinks = r->sinks,
                                .ring = r->window < MOST ? r->window : MOST};
    radar_subgen_init(&g, &shape, r->seed, must(radar_alloc(radar_subgen_bytes(&shape))));
    return g;
}

static void push_state(radar_subgen *g, const ref *r, int token) {
    float key[64];
    for (int d = 0; d < r->D; d++) key[d] = (float)r->key[token][d];
    radar_subgen_push(g, token, key, r->norm2[token]);
}

static void assert_same(const radar_subgen *g, const ref *r) {
    assert_int_equal(g->n_clusters, r->n);
    for (int i = 0; i < r->n; i++) {
        assert_int_equal(g->count[i], count_of(r, i));
        for (int d = 0; d < r->D; d++)
            assert_true(g->center[i * r->D + d] == (float)r->key[r->center[i]][d]);
        for (int j = 0; j < T; j++) {
            assert_int_equal(g->sample[i * T + j], r->sample[i][j]);
            assert_int_equal(r->cluster[r->sample[i][j]], i);
        }
    }
    for (int j = 0; j < r->s; j++) {
        assert_int_equal(g->value[j], r->value[j]);
        if (r->value[j] >= 0) assert_true(g->norm2[j] == r->norm2[r->value[j]]);
    }
    assert_true(fabs(g->mass - r->mu) <= 1e-12 * r->mu);
    assert_true(fabs(sqrt(g->radius2) - r->delta) <= 1e-12 * r->delta);
}

static void clusters_and_samples_are_those_of_the_paper(void **state) {
    (void)state;
    static const struct {
        int D, m, s, window, sinks;
    } cases[] = {{16, 8, 12, 10, 3}, {6, 1, 1, 1, 0}, {64, 40, 30, 100, 200}, {19, 3, 5, 2, 1}};
    for (int c = 0; c < COUNT(cases); c++) {
        ref *r = make_ref(cases[c].D, cases[c].m, cases[c].s, cases[c].window, cases[c].sinks,
                          (uint64_t)(c + 1));
        radar_subgen g = open_state(r);
        int fewest = 1000, most = 0;
        for (int p = 0; p < MOST; p++) {
            ref_push(r, p);
            push_state(&g, r, p);
            if (p % 3 == 0 || p < 60) assert_same(&g, r);
            if (r->delta > 0 && r->n < fewest) fewest = r->n;
            if (r->n > most) most = r->n;
        }
        print_message("%d tokens, %d to %d clusters after the first merge, delta %.3g\n", MOST,
                      fewest, most, r->delta);
        assert_int_equal(most, r->m);
        assert_true(r->delta > 0);
        radar_free(g.memory);
        radar_free(r);
    }
}

static void tokens_of_sinks_and_window_stay_outside(void **state) {
    (void)state;
    ref *r = make_ref(8, 300, 9, 50, 20, 3);
    radar_subgen g = open_state(r);
    for (int p = 0; p < 69; p++) push_state(&g, r, p);
    assert_true(g.n_clusters == 0 && g.mass == 0 && g.value[0] == -1); /* token 20 leaves next */
    for (int p = 69; p < 100; p++) push_state(&g, r, p);
    int64_t counted = 0;
    for (int64_t i = 0; i < g.n_clusters; i++) {
        counted += g.count[i];
        for (int j = 0; j < T; j++)
            assert_true(g.sample[i * T + j] >= 20 && g.sample[i * T + j] <= 50);
    }
    assert_int_equal(counted, 31); /* 20 ... 50 */
    radar_free(g.memory);
    r->window = 2 * MOST; /* longer than the context */
    g = open_state(r);
    for (int p = 0; p < MOST; p++) push_state(&g, r, p);
    assert_true(g.n_clusters == 0 && g.mass == 0);
    radar_free(g.memory);
    radar_free(r);
}

static void keys_that_are_no_numbers_end_in_a_cluster(void **state) {
    (void)state;
    ref *r = make_ref(8, 4, 9, 1, 0, 3);
    for (int p = 10; p < 200; p += 3) r->key[p][p % 8] = NAN;
    radar_subgen g = open_state(r);
    for (int p = 0; p < 300; p++) push_state(&g, r, p);
    int64_t counted = 0;
    for (int64_t i = 0; i < g.n_clusters; i++) counted += g.count[i];
    assert_int_equal(counted, 300);
    assert_true(g.n_clusters <= 4);
    radar_free(g.memory);
    radar_free(r);
}

/* ---- estimates ---- */

/* A value of the token, unit vector along one of 8 axes or against it, times its norm. */
static double value_of(const ref *r, int token, int d) {
    uint64_t u = radar_random(6, 1, (uint64_t)token);
    return (int)(u % 8) == d ? (u & 8 ? 1 : -1) * sqrt(r->norm2[token]) : 0;
}

typedef struct moments {
    double sum, sum2;
    int n;
} moments;

static void note(moments *m, double x) { m->sum += x, m->sum2 += x * x, m->n++; }

/* Distance of the mean from what is expected, in standard errors. */
static double deviation(const moments *m, double expected) {
    double mean = m->sum / m->n, variance = (m->sum2 - m->n * mean * mean) / (m->n - 1);
    return fabs(mean - expected) / sqrt(variance / m->n);
}

#define SEEDS 20000
#define SOME 90 /* tokens */

/* The clusters are the same for every seed, their samples are uniform: tau is unbiased also where clusters were merged. */
static void the_denominator_is_unbiased_over_seeds(void **state) {
    (void)state;
    ref *r = make_ref(8, 5, 8, 1, 0, 0);
    double q[8], exact = 0;
    moments tau = {0};
    for (int d = 0; d < 8; d++) q[d] = 0.6 * radar_random_normal(7, 1, (uint64_t)d);
    for (int p = 0; p < SOME; p++) exact += weight_of(r, q, p);
    for (int seed = 0; seed < SEEDS; seed++) {
        r->seed = (uint64_t)seed;
        radar_subgen g = open_state(r);
        double sum = 0;
        for (int p = 0; p < SOME; p++) push_state(&g, r, p);
        for (int64_t i = 0; i < g.n_clusters; i++)
            for (int j = 0; j < T; j++)
                sum += radar_subgen_key_weight(&g, i) * weight_of(r, q, (int)g.sample[i * T + j]);
        note(&tau, sum);
        radar_free(g.memory);
    }
    double e = deviation(&tau, exact);
    print_message("tau: mean %.4g, exact %.4g, %.2f standard errors\n", tau.sum / SEEDS, exact, e);
    assert_true(e <= 3);
    radar_free(r);
}

/* Every token its own cluster: the denominator is exact, and so the output is unbiased. */
static void outputs_approach_exact_attention_over_seeds(void **state) {
    (void)state;
    ref *r = make_ref(8, SOME, 64, 1, 0, 0);
    double q[8], tau = 0, exact[8] = {0};
    moments out[8] = {{0}};
    for (int d = 0; d < 8; d++) q[d] = 0.6 * radar_random_normal(7, 2, (uint64_t)d);
    for (int p = 0; p < SOME; p++) {
        tau += weight_of(r, q, p);
        for (int d = 0; d < 8; d++) exact[d] += weight_of(r, q, p) * value_of(r, p, d);
    }
    for (int seed = 0; seed < SEEDS; seed++) {
        r->seed = (uint64_t)seed;
        radar_subgen g = open_state(r);
        double z[8] = {0}, sum = 0;
        for (int p = 0; p < SOME; p++) push_state(&g, r, p);
        for (int64_t i = 0; i < g.n_clusters; i++)
            for (int j = 0; j < T; j++)
                sum += radar_subgen_key_weight(&g, i) * weight_of(r, q, (int)g.sample[i * T + j]);
        assert_true(fabs(sum - tau) <= 1e-12 * tau);
        for (int j = 0; j < r->s; j++)
            for (int d = 0; d < 8; d++)
                z[d] += radar_subgen_value_weight(&g, j) * weight_of(r, q, (int)g.value[j]) *
                        value_of(r, (int)g.value[j], d);
        for (int d = 0; d < 8; d++) note(&out[d], z[d] / sum);
        radar_free(g.memory);
    }
    for (int d = 0; d < 8; d++) {
        double e = deviation(&out[d], exact[d] / tau);
        print_message("output %d: mean %.4f, exact %.4f, %.2f standard errors\n", d,
                      out[d].sum / SEEDS, exact[d] / tau, e);
        assert_true(e <= 3);
    }
    radar_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clusters_and_samples_are_those_of_the_paper),
        cmocka_unit_test(tokens_of_sinks_and_window_stay_outside),
        cmocka_unit_test(keys_that_are_no_numbers_end_in_a_cluster),
        cmocka_unit_test(the_denominator_is_unbiased_over_seeds),
        cmocka_unit_test(outputs_approach_exact_attention_over_seeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
