#include "tests/unit/kv_fixture.h"

enum { N = 70 };

/* n partials of size D as attend would leave them: some without keys. */
static float *random_partials(int D, int n, uint64_t seed) {
    float *p = normals((size_t)(n * RADAR_PARTIAL(D)), seed, 1);
    for (int i = 0; i < n; i++) {
        float *a = p + i * RADAR_PARTIAL(D);
        a[RADAR_PARTIAL_M] *= 20;
        a[RADAR_PARTIAL_L] = fabsf(a[RADAR_PARTIAL_L]) + 1;
        a[RADAR_PARTIAL_MISSED_M(D)] *= 20;
        a[RADAR_PARTIAL_MISSED_L(D)] = fabsf(a[RADAR_PARTIAL_MISSED_L(D)]) + 1;
        if (radar_random(seed, 3, (uint64_t)i) % 4 == 0) {
            memset(a, 0, sizeof *a * (size_t)(D + 2));
            a[RADAR_PARTIAL_M] = -INFINITY;
        }
        if (radar_random(seed, 4, (uint64_t)i) % 4 == 0) {
            a[RADAR_PARTIAL_MISSED_M(D)] = -INFINITY;
            a[RADAR_PARTIAL_MISSED_L(D)] = 0;
        }
    }
    return p;
}

static float *copy_of(const float *p, int D, int n) {
    size_t bytes = sizeof *p * (size_t)(n * RADAR_PARTIAL(D));
    return memcpy(must(radar_alloc(bytes)), p, bytes);
}

/* a vector of two masses: the value is e^m times each */
static void check_against_double(const float *a, const float *b, const float *got, int D) {
    const int first[] = {RADAR_PARTIAL_L, RADAR_PARTIAL_MISSED_L(D)},
              last[] = {RADAR_PARTIAL_O + D, RADAR_PARTIAL_MISSED_L(D) + 1};
    const int at_m[] = {RADAR_PARTIAL_M, RADAR_PARTIAL_MISSED_M(D)};
    for (int part = 0; part < 2; part++) {
        double ma = a[at_m[part]], mb = b[at_m[part]], m = fmax(ma, mb);
        assert_true(got[at_m[part]] == m);
        double fa = m == -INFINITY ? 0 : exp(ma - m), fb = m == -INFINITY ? 0 : exp(mb - m);
        for (int i = first[part]; i < last[part]; i++) {
            double want = a[i] * fa + b[i] * fb;
            assert_true(fabs(got[i] - want) <= 4e-7 * (fabs(a[i] * fa) + fabs(b[i] * fb)));
        }
    }
}

static void agrees_with_the_formula_in_double(void **state) {
    (void)state;
    const char *isa[] = {"plain", NULL};
    for (int k = 0; k < 2; k++) {
        for (int d = 0; d < COUNT(all_D); d++) {
            int D = all_D[d];
            radar_cpu cpu = cpu_with(isa[k], 2);
            float *a = random_partials(D, N, 1), *b = random_partials(D, N, 2),
                  *got = copy_of(a, D, N), *other = copy_of(b, D, N);
            merge_into(&cpu, got, other, N, D);
            for (int i = 0; i < N * RADAR_PARTIAL(D); i += RADAR_PARTIAL(D))
                check_against_double(a + i, b + i, got + i, D);
            radar_free(a), radar_free(b), radar_free(got), radar_free(other);
        }
    }
}

static void bits_do_not_depend_on_isa_threads_or_cut(void **state) {
    (void)state;
    for (int d = 0; d < COUNT(all_D); d++) {
        int D = all_D[d];
        radar_cpu plain = cpu_with("plain", 1), best = cpu_with(NULL, 3);
        float *a = random_partials(D, N, 5), *b = random_partials(D, N, 6), *c = copy_of(b, D, N),
              *x = copy_of(a, D, N), *y = copy_of(a, D, N);
        merge_into(&best, x, b, N, D);
        for (int i = 0; i < N; i++)
            merge_into(&plain, y + i * RADAR_PARTIAL(D), c + i * RADAR_PARTIAL(D), 1, D);
        assert_memory_equal(x, y, sizeof *x * (size_t)(N * RADAR_PARTIAL(D)));
        radar_free(a), radar_free(b), radar_free(c), radar_free(x), radar_free(y);
    }
}

static void the_identity_changes_nothing_from_either_side(void **state) {
    (void)state;
    radar_cpu cpu = cpu_with(NULL, 1);
    float *a = random_partials(64, N, 8), *same = copy_of(a, 64, N),
          *none = random_partials(64, N, 9);
    for (int i = 0; i < N; i++) {
        float *p = none + i * RADAR_PARTIAL(64);
        memset(p, 0, sizeof *p * RADAR_PARTIAL(64));
        p[RADAR_PARTIAL_M] = p[RADAR_PARTIAL_MISSED_M(64)] = -INFINITY;
    }
    float *other = copy_of(none, 64, N);
    merge_into(&cpu, a, other, N, 64);
    for (int i = 0; i < N * RADAR_PARTIAL(64); i++) assert_true(a[i] == same[i]);
    merge_into(&cpu, none, a, N, 64);
    for (int i = 0; i < N * RADAR_PARTIAL(64); i++) assert_true(none[i] == same[i]);
    radar_free(a), radar_free(same), radar_free(none), radar_free(other);
}

/* A tree of pieces in one call: pair by pair, the left half with the right half. */
static void pieces_merge_like_pairs(void **state) {
    (void)state;
    enum { D = 48, MOST = 16 };
    float *from[MOST], *a[MOST], *b[MOST];
    for (int i = 0; i < MOST; i++) from[i] = random_partials(D, N, (uint64_t)(20 + i));
    for (int pieces = 1; pieces <= MOST; pieces *= 2) {
        for (int k = 0; k < 3; k++) {
            radar_cpu one = cpu_with("plain", 1), all = cpu_with(k ? NULL : "plain", 1 + k);
            for (int i = 0; i < pieces; i++)
                a[i] = copy_of(from[i], D, N), b[i] = copy_of(from[i], D, N);
            for (int half = 1; half < pieces; half *= 2)
                for (int i = 0; i < pieces; i += 2 * half)
                    merge_into(&one, a[i], a[i + half], N, D);
            radar_cpu_merge(&all.base, b, pieces, N, D);
            assert_memory_equal(b[0], a[0], sizeof *a[0] * (size_t)(N * RADAR_PARTIAL(D)));
            for (int i = 0; i < pieces; i++) radar_free(a[i]), radar_free(b[i]);
        }
    }
    for (int i = 0; i < MOST; i++) radar_free(from[i]);
}

/* 8 shards of a cache, attended apart and merged pairwise, against all keys at once in double. */
static void merges_shards_like_one_softmax(void **state) {
    (void)state;
    enum { D = 64, SHARDS = 8, SEGMENTS = 36 };
    radar_cpu cpu = cpu_with(NULL, 2);
    radar_kv_view kv = kv_random(RADAR_F16, D, SEGMENTS, 3, 2);
    float *q = normals(D, 4, 2), part[SHARDS][RADAR_PARTIAL(D)];
    radar_item item[SHARDS][SEGMENTS];
    radar_attend_task task[SHARDS];
    int64_t position = SEGMENTS * 16 - 5;
    double m = -INFINITY, l = 0, o[D] = {0};
    for (int i = 0; i < SHARDS; i++) {
        task[i] = (radar_attend_task){.kv = kv,
                                      .n_query = 1,
                                      .q = q,
                                      .q_stride = D,
                                      .position = &position,
                                      .items = {.item = item[i], .n = 0},
                                      .partial = part[i],
                                      .partial_stride = RADAR_PARTIAL(D)};
        for (int s = 0; s < SEGMENTS; s++)
            if (s * 7 % 11 % SHARDS == i && i != 5)
                item[i][task[i].items.n++] = (radar_item){s, 0xffff};
    }
    radar_cpu_attend(&cpu.base, task, SHARDS, 0.125f, 1);
    for (int width = 1; width < SHARDS; width *= 2)
        for (int i = 0; i < SHARDS; i += 2 * width)
            merge_into(&cpu, part[i], part[i + width], 1, D);
    for (int pass = 0; pass < 2; pass++) {
        for (int t = 0; t <= position; t++) {
            if (t / 16 * 7 % 11 % SHARDS == 5) continue;
            double s = logit_ref(&kv, q, t);
            if (pass == 0) {
                m = fmax(m, s);
                continue;
            }
            l += exp(s - m);
            for (int d = 0; d < D; d++) o[d] += exp(s - m) * value_at(&kv, t, d);
        }
    }
    assert_true(fabs(part[0][RADAR_PARTIAL_L] - l) <= 3e-6 * l);
    for (int d = 0; d < D; d++)
        assert_true(fabs(part[0][RADAR_PARTIAL_O + d] / part[0][RADAR_PARTIAL_L] - o[d] / l) <=
                    3e-6);
    radar_free(q);
    kv_free(&kv);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_formula_in_double),
        cmocka_unit_test(bits_do_not_depend_on_isa_threads_or_cut),
        cmocka_unit_test(the_identity_changes_nothing_from_either_side),
        cmocka_unit_test(pieces_merge_like_pairs),
        cmocka_unit_test(merges_shards_like_one_softmax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
