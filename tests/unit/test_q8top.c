/* q8top: what a q8 cache's upper two bits say, against its formula in double, its twins, its edges, and a real head. */
#include "tests/unit/q8_fixture.h"
#include "tests/unit/scorer_fixture.h"

enum { SEGMENTS = 16, QUERIES = 7, HEAD = 16 };
static const double STEP = 0.89; /* of 64 codes */

static radar_scorer_options of(int D, const char *isa) {
    return (radar_scorer_options){.D = D, .isa = isa};
}

/* Coordinate d of z by the upper two bits. */
static double upper_z(const radar_kv_view *kv, int slot, int d) {
    return half(kv->k_scale, slot) * 64 * (floor(packed_code(kv, slot, d) / 64.0) + 0.5);
}

/* ---- scores ---- */

/* H q as the prepared query has it: int8 within half a unit of its largest coordinate / 127, read from its place. */
static void stored_query(double *hq, const radar_scorer *s, const float *q) {
    double exact[256], max = 0;
    char *prepared = must(radar_alloc(s->query_bytes));
    radar_rotation r;
    radar_rotation_of_q8(&r, s->opt.D);
    s->kind->query(s, prepared, q);
    for (int i = 0; i < s->opt.D; i++) {
        exact[i] = 0;
        for (int j = 0; j < s->opt.D; j++) exact[i] += rotation_at(&r, i, j) * q[j];
        max = fmax(max, fabs(exact[i]));
    }
    for (int d = 0; d < s->opt.D; d++) {
        hq[d] = ((const int8_t *)prepared)[HEAD + d] * max / 127;
        assert_true(fabs(hq[d] - exact[d]) <= max / 127 * 0.501);
    }
    radar_free(prepared);
}

/* Log-mass of a segment; size: the largest sum of what a logit is made of, without signs. */
static double score_ref(const radar_kv_view *kv, const float *q, const double *hq, int segment,
                        double *size) {
    double logit[16], m = -INFINITY, l = 0;
    *size = 0;
    for (int i = 0; i < 16; i++) {
        int slot = segment * 16 + i;
        double sum = 0, parts = 0;
        for (int d = 0; d < kv->D; d++) {
            double middle = q[d] * packed_mean(kv, slot, d),
                   rest = hq[d] * STEP * upper_z(kv, slot, d);
            sum += middle + rest;
            parts += fabs(middle) + fabs(rest);
        }
        logit[i] = sum / sqrt(kv->D);
        m = fmax(m, logit[i]);
        *size = fmax(*size, parts / sqrt(kv->D));
    }
    for (int i = 0; i < 16; i++) l += exp(logit[i] - m);
    return m + log(l);
}

/* Small logits, and such that no sum of exponentials holds without their maximum. */
static void scores_the_upper_two_bits(void **state) {
    (void)state;
    const float scales[] = {1, 100};
    for (int n = 0; n < COUNT(q8_D) * COUNT(scales); n++) {
        int D = q8_D[n / COUNT(scales)];
        float *k = floats((size_t)(SEGMENTS * 16 * D)), *v = floats((size_t)(SEGMENTS * 16 * D)),
              *q = normals((size_t)(QUERIES * D), 4, scales[n % COUNT(scales)]);
        radar_kv_view kv = q8_random(D, SEGMENTS, SEGMENTS, (uint64_t)n, k, v);
        radar_scorer *s = scorer_with("q8top", of(D, "plain"));
        assert_int_equal(s->block_bytes, 0);
        assert_int_equal(s->query_bytes, HEAD + 5 * D);
        float *score = score_range(s, &kv, q, QUERIES, 0, SEGMENTS, "plain");
        double worst = 0;
        for (int j = 0; j < QUERIES; j++) {
            double hq[256], size;
            stored_query(hq, s, q + j * D);
            for (int i = 0; i < SEGMENTS; i++) {
                double want = score_ref(&kv, q + j * D, hq, i, &size);
                worst = worse(worst, fabs(score[j * SEGMENTS + i] - want) / (80 + size));
            }
        }
        print_message("D %3d, queries of %3g: within %.1e of the logits\n", D,
                      (double)scales[n % COUNT(scales)], worst);
        assert_true(worst <= 1e-6);
        radar_scorer_close(s);
        q8_free(&kv), radar_free(k), radar_free(v), radar_free(q), radar_free(score);
    }
}

/* ---- bits ---- */

static float *score_list(const radar_scorer *s, const radar_kv_view *kv, const float *q,
                         const int32_t *list, int n) {
    radar_cpu cpu = cpu_with(NULL, 1);
    char *query = must(radar_alloc(s->query_bytes));
    float *score = floats(SEGMENTS);
    radar_score_task t = {.kv = *kv,
                          .n_query = 1,
                          .query = query,
                          .unit = 1,
                          .segment_end = SEGMENTS,
                          .score = score,
                          .list = list,
                          .n_listed = &n};
    radar_cpu_query(&cpu.base, s, query, q, (size_t)kv->D, 1);
    radar_cpu_score(&cpu.base, s, &t, 1);
    radar_free(query);
    return score;
}

/* Nor on what a query reads packed. */
static void bits_do_not_depend_on_isa_neighbours_range_or_tail(void **state) {
    (void)state;
    const int32_t list[] = {9, 0, 3, 3, 15, 7, 6};
    for (int n = 0; n < 2 * COUNT(q8_D); n++) {
        int D = q8_D[n / 2];
        float *k = floats((size_t)(SEGMENTS * 16 * D)), *v = floats((size_t)(SEGMENTS * 16 * D)),
              *q = normals((size_t)(QUERIES * D), 5, n % 2 ? 60 : 1.5f);
        radar_kv_view kv = q8_random(D, SEGMENTS, SEGMENTS, (uint64_t)n, k, v), tail = kv;
        tail.tail_begin = 0;
        radar_scorer *plain = scorer_with("q8top", of(D, "plain")),
                     *fast = scorer_with("q8top", of(D, NULL));
        float *want = score_range(plain, &kv, q, QUERIES, 0, SEGMENTS, "plain"),
              *got = score_range(fast, &tail, q, QUERIES, 0, SEGMENTS, NULL);
        assert_memory_equal(want, got, QUERIES * SEGMENTS * sizeof *want);
        radar_free(got);
        for (int j = 0; j < QUERIES; j++) {
            int begin = 2 * j, end = SEGMENTS - j / 2, m = 1 + j % 3;
            if (j + m > QUERIES) m = QUERIES - j;
            got = score_range(fast, &kv, q + j * D, m, begin, end, NULL);
            for (int i = 0; i < m; i++)
                assert_memory_equal(got + i * (end - begin), want + (j + i) * SEGMENTS + begin,
                                    (size_t)(end - begin) * sizeof *got);
            radar_free(got);
            got = score_list(j % 2 ? plain : fast, &kv, q + j * D, list, COUNT(list));
            for (int i = 0; i < COUNT(list); i++)
                assert_true(got[list[i]] == want[j * SEGMENTS + list[i]]);
            radar_free(got);
        }
        radar_scorer_close(plain), radar_scorer_close(fast);
        q8_free(&kv), radar_free(k), radar_free(v), radar_free(q), radar_free(want);
    }
}

/* ---- edges ---- */

static void keys_that_are_not_finite_harm_only_their_block(void **state) {
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int n = 0; n < COUNT(bad); n++) {
        float *k = normals(128 * 64, 3, 1), *q = normals(64, 4, 1);
        radar_kv_view kv = q8_empty(64, 8, 8);
        k[3 * 64 + 5] = bad[n];
        kv_put(&kv, k, k, 64, 128);
        radar_scorer *plain = scorer_with("q8top", of(64, "plain")),
                     *fast = scorer_with("q8top", of(64, NULL));
        float *score = score_range(fast, &kv, q, 1, 0, 8, NULL),
              *twin = score_range(plain, &kv, q, 1, 0, 8, "plain");
        assert_memory_equal(score, twin, 8 * sizeof *score);
        for (int i = 4; i < 8; i++) assert_true(isfinite(score[i]));
        radar_scorer_close(plain), radar_scorer_close(fast);
        q8_free(&kv), radar_free(k), radar_free(q), radar_free(score), radar_free(twin);
    }
}

static void refuses_heads_that_no_q8_cache_has(void **state) {
    (void)state;
    radar_scorer *s = (radar_scorer *)1;
    radar_error err = {0};
    radar_scorer_options opt = of(72, NULL);
    assert_int_equal(radar_scorer_open(&s, "q8top", &opt, &err), RADAR_ERR_CONFIG);
    assert_null(s);
    assert_non_null(strstr(err.text, "multiples of 16"));
}

/* ---- a real head ---- */

static radar_kv_view packed_real(const real *r, int g) {
    float *key = floats(REAL_TOKENS * 64);
    for (int slot = 0; slot < REAL_TOKENS; slot++)
        for (int d = 0; d < 64; d++) key[slot * 64 + d] = (float)key_at(&r->kv[g], slot, d);
    radar_kv_view kv = q8_empty(64, REAL_SEGMENTS, REAL_SEGMENTS);
    kv_put(&kv, key, key, 64, REAL_TOKENS);
    radar_free(key);
    return kv;
}

/* By least squares 64 codes stand for .89 of their width, and leave 13.6 % of the square of z: normal coordinates leave 13.8 %, and
 * 11.9 % where the step is the best for them. */
static void the_step_is_that_of_least_squares(void **state) {
    (void)state;
    real r = load_real();
    double dot = 0, square = 0, all = 0;
    for (int g = 0; g < 3; g++) {
        radar_kv_view kv = packed_real(&r, g);
        for (int slot = 0; slot < REAL_TOKENS; slot++)
            for (int d = 0; d < 64; d++) {
                double z = packed_z(&kv, slot, d), level = upper_z(&kv, slot, d);
                dot += z * level, square += level * level, all += z * z;
            }
        q8_free(&kv);
    }
    print_message("a step of least squares %.4f; left of the square %.4f\n", dot / square,
                  1 - dot * dot / (square * all));
    assert_true(fabs(dot / square - STEP) <= 0.01);
    assert_true(fabs(1 - dot * dot / (square * all) - 0.136) <= 0.003);
    free_real(&r);
}

static void finds_nearly_as_much_as_the_sketch(void **state) {
    (void)state;
    real r = load_real(), packed = r;
    for (int g = 0; g < 3; g++) packed.kv[g] = packed_real(&r, g);
    const double top = recall("q8top", of(64, NULL), &packed, 8),
                 sketch = recall("sketch", of(64, NULL), &packed, 8);
    print_message("recall of the best 8 of 79 segments: q8top %.3f, sketch %.3f\n", top, sketch);
    assert_true(top >= 0.85 && top >= sketch - 0.03);
    for (int g = 0; g < 3; g++) q8_free(&packed.kv[g]);
    free_real(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_the_upper_two_bits),
        cmocka_unit_test(bits_do_not_depend_on_isa_neighbours_range_or_tail),
        cmocka_unit_test(keys_that_are_not_finite_harm_only_their_block),
        cmocka_unit_test(refuses_heads_that_no_q8_cache_has),
        cmocka_unit_test(the_step_is_that_of_least_squares),
        cmocka_unit_test(finds_nearly_as_much_as_the_sketch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
