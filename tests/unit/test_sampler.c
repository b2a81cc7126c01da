/* Sampling against a slow reference in long double and against exact probabilities. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "runtime/sampler.h"
#include "runtime/sys.h"

enum { VOCAB = 500, LARGE = 49152 };

static const radar_sampler_options plain = {.temperature = 1, .top_p = 1, .seed = 7};

/* One call with scratch of exactly the size asked for. */
static radar_status sample(int32_t *token, const radar_sampler_options *opt, int64_t position,
                           const float *logit, int vocab, radar_error *err) {
    void *scratch = malloc(radar_sampler_scratch(vocab));
    *token = -1;
    radar_status st = radar_sample(token, opt, position, logit, vocab, scratch, err);
    free(scratch);
    return st;
}

static int32_t token_of(const radar_sampler_options *opt, int64_t position, const float *logit,
                        int vocab) {
    radar_error err = {0};
    int32_t token;
    assert_int_equal(sample(&token, opt, position, logit, vocab, &err), RADAR_OK);
    assert_in_range(token, 0, vocab - 1);
    return token;
}

static void make_logits(float *logit, int vocab, double spread, uint64_t seed) {
    for (int i = 0; i < vocab; i++)
        logit[i] = (float)(spread * radar_random_normal(seed, RADAR_STREAM_SIGNS, (uint64_t)i));
}

/* ---- the reference: probabilities written from the definitions ---- */

typedef struct candidate {
    long double logit;
    int id;
} candidate;

static int by_probability(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->id - y->id;
}

static int softmax(long double *p, const candidate *c, int n, long double temperature) {
    long double sum = 0;
    for (int i = 0; i < n; i++) sum += p[i] = expl((c[i].logit - c[0].logit) / temperature);
    for (int i = 0; i < n; i++) p[i] /= sum;
    return n;
}

/* Fills c and p, most likely first; returns how many tokens stay. */
static int reference(candidate *c, long double *p, const radar_sampler_options *o,
                     const float *logit, int vocab) {
    for (int i = 0; i < vocab; i++) c[i] = (candidate){logit[i], i};
    qsort(c, (size_t)vocab, sizeof *c, by_probability);
    int n = o->top_k > 0 && o->top_k < vocab ? o->top_k : vocab;
    if (o->top_p < 1) {
        long double sum = 0;
        int kept = 0;
        softmax(p, c, n, 1);
        do sum += p[kept++];
        while (kept < n && sum < (long double)o->top_p);
        n = kept;
    }
    if (o->min_p > 0) {
        int kept = 1;
        while (kept < n && expl(c[kept].logit - c[0].logit) >= (long double)o->min_p) kept++;
        n = kept;
    }
    return softmax(p, c, n, (long double)o->temperature);
}

static int reference_draw(const candidate *c, const long double *p, int n, double u) {
    long double sum = 0;
    for (int i = 0; i < n; i++)
        if ((sum += p[i]) > (long double)u) return c[i].id;
    return c[n - 1].id;
}

static void draws_match(const radar_sampler_options *o, const float *logit, int vocab, int draws) {
    candidate *c = malloc((size_t)vocab * sizeof *c);
    long double *p = malloc((size_t)vocab * sizeof *p);
    int n = reference(c, p, o, logit, vocab);
    for (int i = 0; i < draws; i++) {
        double u = radar_random_uniform(o->seed, RADAR_STREAM_SAMPLER, (uint64_t)i);
        assert_int_equal(token_of(o, i, logit, vocab), reference_draw(c, p, n, u));
    }
    free(p);
    free(c);
}

static void filters_and_draws_match_the_definitions(void **state) {
    (void)state;
    static const double temperatures[] = {0.1, 0.7, 1, 2.5}, shares[] = {0, 0.3, 0.95, 1},
                        least[] = {0, 0.05, 0.5, 1};
    static const int ks[] = {0, 1, 2, 40, VOCAB - 1, VOCAB, 10 * VOCAB};
    float logit[VOCAB];
    make_logits(logit, VOCAB, 2, 1);
    for (int t = 0; t < 4; t++)
        for (int k = 0; k < 7; k++)
            for (int s = 0; s < 4; s++)
                for (int m = 0; m < 4; m++) {
                    radar_sampler_options o = {temperatures[t], ks[k], shares[s], least[m], 5};
                    draws_match(&o, logit, VOCAB, 12);
                }
}

static void a_large_vocabulary_is_sorted_right(void **state) {
    (void)state;
    static float logit[LARGE];
    static const double spread[] = {0.001, 3, 1000};
    for (int s = 0; s < 3; s++) {
        make_logits(logit, LARGE, spread[s], 2);
        radar_sampler_options all = plain, some = {0.8, 40, 0.95, 0.05, 3};
        draws_match(&all, logit, LARGE, 20);
        draws_match(&some, logit, LARGE, 20);
    }
}

/* The sum over tokens of (seen - expected)^2 / expected. */
static double chi_square(const radar_sampler_options *o, const float *logit, int vocab, int draws) {
    candidate *c = malloc((size_t)vocab * sizeof *c);
    long double *p = malloc((size_t)vocab * sizeof *p);
    int *seen = calloc((size_t)vocab, sizeof *seen);
    int n = reference(c, p, o, logit, vocab), counted = 0;
    for (int i = 0; i < draws; i++) seen[token_of(o, i, logit, vocab)]++;
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double expected = (double)p[i] * draws, off = seen[c[i].id] - expected;
        sum += off * off / expected;
        counted += seen[c[i].id];
    }
    assert_int_equal(counted, draws); /* nothing outside what the filters keep */
    free(seen);
    free(p);
    free(c);
    return sum;
}

static void draws_have_the_exact_distribution(void **state) {
    (void)state;
    float logit[12];
    make_logits(logit, 12, 1, 4);
    radar_sampler_options o = plain;
    double chi = chi_square(&o, logit, 12,
                            100000); /* 11 degrees of freedom: 37.4 is passed once in 10,000 */
    print_message("chi-square of 12 tokens: %.1f\n", chi);
    assert_true(chi < 37.4);
    o = (radar_sampler_options){0.7, 8, 0.95, 0.02, 9}; /* at most 7 degrees: 29.9 */
    chi = chi_square(&o, logit, 12, 100000);
    print_message("chi-square with filters: %.1f\n", chi);
    assert_true(chi < 29.9);
}

static void temperature_zero_takes_the_largest(void **state) {
    (void)state;
    static float logit[LARGE];
    make_logits(logit, LARGE, 3, 6);
    radar_sampler_options o = {0, 40, 0.5, 0.5, 1};
    static const int places[] = {0, 1, 777, LARGE - 1};
    for (int i = 0; i < 4; i++) {
        float before = logit[places[i]];
        logit[places[i]] = 1e30f;
        assert_int_equal(token_of(&o, i, logit, LARGE), places[i]);
        logit[places[i]] = before;
    }
    float negative[] = {-3, -2.5f, -2.5f, -1e30f};
    assert_int_equal(token_of(&o, 0, negative, 4), 1);
}

static void equal_logits_take_the_lower_id(void **state) {
    (void)state;
    float logit[300];
    for (int i = 0; i < 300; i++) logit[i] = i % 3 == 1 ? 2.0f : 1.0f;
    radar_sampler_options greedy = {0, 0, 1, 0, 1}, three = {1, 3, 1, 0, 1};
    assert_int_equal(token_of(&greedy, 0, logit, 300), 1);
    int seen[300] = {0};
    for (int i = 0; i < 200; i++) seen[token_of(&three, i, logit, 300)]++;
    assert_int_equal(seen[1] + seen[4] + seen[7], 200);
    assert_true(seen[1] && seen[4] && seen[7]);
    radar_sampler_options half = {1, 0, 0.25, 0,
                                  1}; /* 4 equal tokens: the first alone reaches 1/4 */
    float four[] = {5, 5, 5, 5};
    for (int i = 0; i < 50; i++) assert_int_equal(token_of(&half, i, four, 4), 0);
}

static void minus_zero_equals_zero(void **state) {
    (void)state;
    float logit[] = {-1, -0.0f, 0.0f};
    radar_sampler_options greedy = {0, 0, 1, 0, 1}, one = {1, 1, 1, 0, 1};
    assert_int_equal(token_of(&greedy, 0, logit, 3), 1);
    assert_int_equal(token_of(&one, 0, logit, 3), 1);
}

static void a_nan_is_named(void **state) {
    (void)state;
    static const float nans[] = {NAN, -NAN};
    float logit[VOCAB];
    for (int place = 0; place < VOCAB; place += 83)
        for (int t = 0; t < 2; t++)
            for (int sign = 0; sign < 2; sign++) {
                make_logits(logit, VOCAB, 1, 8);
                logit[place] = nans[sign];
                logit[VOCAB - 1] = NAN;
                radar_sampler_options o = {t, 40, 0.95, 0.05, 1};
                radar_error err = {0};
                char name[32];
                int32_t token;
                assert_int_equal(sample(&token, &o, 0, logit, VOCAB, &err), RADAR_ERR_INTERNAL);
                snprintf(name, sizeof name, "token %d of %d", place, VOCAB);
                assert_non_null(strstr(err.text, name));
                assert_int_equal(token, -1);
            }
}

static void infinity_takes_everything(void **state) {
    (void)state;
    float logit[] = {3, INFINITY, -INFINITY, 3.4e38f, INFINITY};
    radar_sampler_options greedy = {0, 0, 1, 0, 1};
    assert_int_equal(token_of(&greedy, 0, logit, 5), 1);
    static const radar_sampler_options options[] = {
        {1, 0, 1, 0, 1}, {2, 3, 0.95, 0, 1}, {1, 0, 0.9, 0.05, 1}, {1e300, 0, 1, 1, 1}};
    for (int o = 0; o < 4; o++) {
        int seen[5] = {0};
        for (int i = 0; i < 200; i++) seen[token_of(&options[o], i, logit, 5)]++;
        assert_int_equal(seen[1] + seen[4], 200);
        assert_true(seen[1] > 60 && seen[4] > 60);
    }
}

static void minus_infinity_is_never_drawn(void **state) {
    (void)state;
    float logit[] = {-INFINITY, 1, -INFINITY, 1, -INFINITY};
    radar_sampler_options hot = {1e300, 0, 1, 0, 1};
    for (int i = 0; i < 200; i++) assert_int_equal(token_of(&hot, i, logit, 5) % 2, 1);
    float none[] = {-INFINITY, -INFINITY};
    for (int t = 0; t < 2; t++) {
        radar_sampler_options o = {t, 0, 1, 0, 1};
        radar_error err = {0};
        int32_t token;
        assert_int_equal(sample(&token, &o, 0, none, 2, &err), RADAR_ERR_INTERNAL);
    }
}

static void a_tiny_temperature_is_greedy(void **state) {
    (void)state;
    float logit[] = {1, 1.0000001f, 1.0000002f, -5};
    radar_sampler_options cold = {1e-300, 0, 1, 0, 1};
    for (int i = 0; i < 50; i++) assert_int_equal(token_of(&cold, i, logit, 4), 2);
}

static void the_draw_depends_on_seed_and_position_only(void **state) {
    (void)state;
    float logit[VOCAB];
    make_logits(logit, VOCAB, 0.5, 10);
    radar_sampler_options a = plain, b = plain;
    b.seed = 8;
    int other_seed = 0, other_position = 0;
    for (int64_t p = 0; p < 100; p++) {
        int32_t token = token_of(&a, p, logit, VOCAB);
        assert_int_equal(token_of(&a, p, logit, VOCAB), token);
        other_seed += token_of(&b, p, logit, VOCAB) != token;
        other_position += token_of(&a, p + 1, logit, VOCAB) != token;
    }
    assert_true(other_seed > 80 && other_position > 80);
}

static void one_token_is_always_drawn(void **state) {
    (void)state;
    float logit[] = {-1e30f};
    radar_sampler_options o = {1, 40, 0, 1, 1};
    assert_int_equal(token_of(&o, 0, logit, 1), 0);
    radar_error err = {0};
    int32_t token;
    assert_int_equal(radar_sample(&token, &o, 0, logit, 0, NULL, &err), RADAR_ERR_INTERNAL);
}

static void options_out_of_range_are_named(void **state) {
    (void)state;
    static const struct {
        radar_sampler_options o;
        const char *name;
    } cases[] = {
        {{-0.1, 0, 1, 0, 0}, "temperature"},
        {{NAN, 0, 1, 0, 0}, "temperature"},
        {{INFINITY, 0, 1, 0, 0}, "temperature"},
        {{1, -1, 1, 0, 0}, "top-k"},
        {{1, 0, -0.1, 0, 0}, "top-p"},
        {{1, 0, 1.1, 0, 0}, "top-p"},
        {{1, 0, NAN, 0, 0}, "top-p"},
        {{1, 0, 1, -0.1, 0}, "min-p"},
        {{1, 0, 1, 1.1, 0}, "min-p"},
        {{1, 0, 1, NAN, 0}, "min-p"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        radar_error err = {0};
        assert_int_equal(radar_sampler_check(&cases[i].o, &err), RADAR_ERR_USAGE);
        assert_non_null(strstr(err.text, cases[i].name));
    }
    static const radar_sampler_options good[] = {
        {0, 0, 0, 0, 0}, {1e9, INT32_MAX, 1, 1, UINT64_MAX}, {0.8, 40, 0.95, 0.05, 1}};
    for (int i = 0; i < 3; i++) assert_int_equal(radar_sampler_check(&good[i], NULL), RADAR_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters_and_draws_match_the_definitions),
        cmocka_unit_test(a_large_vocabulary_is_sorted_right),
        cmocka_unit_test(draws_have_the_exact_distribution),
        cmocka_unit_test(temperature_zero_takes_the_largest),
        cmocka_unit_test(equal_logits_take_the_lower_id),
        cmocka_unit_test(minus_zero_equals_zero),
        cmocka_unit_test(a_nan_is_named),
        cmocka_unit_test(infinity_takes_everything),
        cmocka_unit_test(minus_infinity_is_never_drawn),
        cmocka_unit_test(a_tiny_temperature_is_greedy),
        cmocka_unit_test(the_draw_depends_on_seed_and_position_only),
        cmocka_unit_test(one_token_is_always_drawn),
        cmocka_unit_test(options_out_of_range_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
