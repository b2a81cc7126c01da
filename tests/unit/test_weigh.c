/* The weights that attention gave to tokens: against shares of one softmax in double, and the same bits in every way of asking. */
#include "tests/unit/kv_fixture.h"

#include "kernels/attend.h"
#include "kernels/weigh.h"

#define MAX_QUERIES 150

typedef struct weigh_case {
    radar_kv_view kv;
    int n_query, n_items, segments;
    float *q, *root; /* [n_query, D], [n_query, PARTIAL(D)] as attend leaves it */
    int64_t position[MAX_QUERIES];
    radar_item item[64];
    float scale;
} weigh_case;

/* Two segments of three, some tokens of them; ascending positions, the first before every token but one. */
static weigh_case make_case(radar_dtype type, int D, int n_query, int segments, uint64_t seed) {
    weigh_case c = {.kv = kv_random(type, D, segments, seed, 1.5f),
                    .n_query = n_query,
                    .segments = segments,
                    .scale = (float)(1 / sqrt(D))};
    c.q = normals((size_t)(n_query * D), seed + 7, 1.5f);
    c.root = must(radar_alloc((size_t)(n_query * RADAR_PARTIAL(D)) * sizeof *c.root));
    for (int s = 0; s < segments; s++) {
        uint64_t r = radar_random(seed, 5, (uint64_t)s);
        if (s % 3 != 1)
            c.item[c.n_items++] = (radar_item){s, r & 2 ? 0xffff : (uint32_t)(r >> 20 & 0xffff)};
    }
    for (int j = 0; j < n_query; j++) c.position[j] = (int64_t)j * segments * 16 / n_query;
    radar_cpu cpu = cpu_with("plain", 1);
    radar_attend_task attend = {.kv = c.kv,
                                .n_query = n_query,
                                .q = c.q,
                                .q_stride = (size_t)D,
                                .position = c.position,
                                .items = {.item = c.item, .n = c.n_items},
                                .partial = c.root,
                                .partial_stride = (size_t)RADAR_PARTIAL(D)};
    radar_cpu_attend(&cpu.base, &attend, 1, c.scale, n_query);
    return c;
}

static void free_case(weigh_case *c) {
    kv_free(&c->kv);
    radar_free(c->q);
    radar_free(c->root);
}

/* Adds what queries [0, n_query) give, `per_call` of them at a time. */
static void add_weights(const weigh_case *c, const char *isa, int threads, int per_call,
                        float *weight) {
    radar_cpu cpu = cpu_with(isa, threads);
    for (int j = 0; j < c->n_query; j += per_call) {
        radar_weigh_task task = {
            .kv = c->kv,
            .n_query = c->n_query - j < per_call ? c->n_query - j : per_call,
            .q = c->q + (size_t)j * (size_t)c->kv.D,
            .q_stride = (size_t)c->kv.D,
            .position = c->position + j,
            .items = {.item = c->item, .n = c->n_items},
            .root = c->root + (size_t)j * (size_t)RADAR_PARTIAL(c->kv.D),
            .root_stride = (size_t)RADAR_PARTIAL(c->kv.D),
            .weight = weight,
        };
        radar_cpu_weigh(&cpu.base, &task, 1, c->scale);
    }
}

static float *run_case(const weigh_case *c, const char *isa, int threads, int per_call) {
    float *weight = must(radar_alloc((size_t)c->segments * 16 * sizeof *weight));
    add_weights(c, isa, threads, per_call, weight);
    return weight;
}

/* Adds the softmax of query j over what it attends, in double. */
static void add_softmax(const weigh_case *c, int j, double *sum) {
    double e[64 * 16] = {0}, l = 0;
    for (int i = 0; i < c->n_items; i++)
        for (int b = 0; b < 16; b++) {
            int slot = c->item[i].segment * 16 + b;
            if (!(c->item[i].tokens >> b & 1) || slot > c->position[j]) continue;
            e[slot] = exp(logit_ref(&c->kv, c->q + j * c->kv.D, slot));
            l += e[slot];
        }
    for (int slot = 0; slot < c->segments * 16 && l > 0; slot++) sum[slot] += e[slot] / l;
}

static double worst_error(const weigh_case *c, const float *weight) {
    double want[64 * 16] = {0}, worst = 0;
    for (int j = 0; j < c->n_query; j++) add_softmax(c, j, want);
    for (int slot = 0; slot < c->segments * 16; slot++) {
        if (want[slot] == 0) assert_true(weight[slot] == 0);
        double e = want[slot] == 0 ? 0 : fabs((double)weight[slot] - want[slot]) / want[slot];
        worst = !(e <= worst) ? e : worst;
    }
    return worst;
}

static void agrees_with_softmax_in_double(void **state) {
    (void)state;
    double worst = 0;
    for (int t = 0; t < COUNT(all_types); t++)
        for (int d = 0; d < COUNT(all_D); d++)
            for (int isa = 0; isa < 2; isa++) {
                if (isa && !has_avx512()) continue;
                weigh_case c =
                    make_case(all_types[t], all_D[d], MAX_QUERIES, 24, (uint64_t)(100 * t + d));
                float *weight = run_case(&c, isa ? "avx512" : "plain", 1, MAX_QUERIES);
                double e = worst_error(&c, weight);
                if (!(e <= 1e-5))
                    fail_msg("type %d D %d isa %d: error %g", all_types[t], all_D[d], isa, e);
                worst = fmax(worst, e);
                radar_free(weight);
                free_case(&c);
            }
    print_message("worst relative error of a token's weight: %.2g\n", worst);
}

static void bits_do_not_depend_on_isa_or_cut(void **state) {
    (void)state;
    static const int per_call[] = {MAX_QUERIES, 64, 7, 1};
    for (int t = 0; t < COUNT(all_types); t++)
        for (int d = 0; d < COUNT(all_D); d++) {
            weigh_case c =
                make_case(all_types[t], all_D[d], MAX_QUERIES - 1, 20, (uint64_t)(7 * t + d));
            float *one = run_case(&c, "plain", 1, MAX_QUERIES);
            for (int i = 0; i < COUNT(per_call); i++) {
                float *other = run_case(&c, NULL, 1, per_call[i]);
                assert_memory_equal(one, other, (size_t)c.segments * 16 * sizeof *one);
                radar_free(other);
            }
            radar_free(one);
            free_case(&c);
        }
}

/* As a token at the beginning of a prompt is given something by every query of it. */
static void a_long_sum_stays_close(void **state) {
    (void)state;
    enum { TIMES = 20 };
    weigh_case c = make_case(RADAR_F16, 64, MAX_QUERIES, 24, 9);
    double want[64 * 16] = {0}, worst = 0;
    float *weight = must(radar_alloc((size_t)c.segments * 16 * sizeof *weight));
    for (int i = 0; i < TIMES; i++) add_weights(&c, NULL, 1, 64, weight);
    for (int j = 0; j < MAX_QUERIES; j++) add_softmax(&c, j, want);
    for (int slot = 0; slot < c.segments * 16; slot++)
        if (want[slot] > 0)
            worst = fmax(worst, fabs((double)weight[slot] / TIMES - want[slot]) / want[slot]);
    print_message("worst relative error after %d additions: %.2g\n", TIMES * MAX_QUERIES, worst);
    assert_true(worst <= 1e-5);
    radar_free(weight);
    free_case(&c);
}

/* Tasks of one call on several threads: as one by one. */
static void bits_do_not_depend_on_threads(void **state) {
    (void)state;
    enum { TASKS = 6 };
    weigh_case c = make_case(RADAR_F16, 64, MAX_QUERIES, 40, 3);
    float *one = run_case(&c, NULL, 1, MAX_QUERIES), *weight[TASKS];
    radar_weigh_task task[TASKS];
    radar_cpu cpu = cpu_with(NULL, 3);
    for (int i = 0; i < TASKS; i++) {
        weight[i] = must(radar_alloc((size_t)c.segments * 16 * sizeof *weight[i]));
        task[i] = (radar_weigh_task){.kv = c.kv,
                                     .n_query = c.n_query,
                                     .q = c.q,
                                     .q_stride = (size_t)c.kv.D,
                                     .position = c.position,
                                     .items = {.item = c.item, .n = c.n_items},
                                     .root = c.root,
                                     .root_stride = (size_t)RADAR_PARTIAL(c.kv.D),
                                     .weight = weight[i]};
    }
    radar_cpu_weigh(&cpu.base, task, TASKS, c.scale);
    for (int i = 0; i < TASKS; i++) {
        assert_memory_equal(weight[i], one, (size_t)c.segments * 16 * sizeof *one);
        radar_free(weight[i]);
    }
    radar_free(one);
    free_case(&c);
}

/* l = 0 and m = -inf, the identity of merge.h: nothing was attended, nothing is added. */
static void a_query_that_attended_nothing_adds_nothing(void **state) {
    (void)state;
    const char *isa[] = {"plain", NULL};
    for (int k = 0; k < 2; k++) {
        weigh_case c = make_case(RADAR_F32, 16, 5, 8, 11);
        for (int j = 0; j < c.n_query; j++) {
            float *root = c.root + j * RADAR_PARTIAL(16);
            root[RADAR_PARTIAL_M] = -INFINITY, root[RADAR_PARTIAL_L] = 0;
        }
        float *weight = run_case(&c, isa[k], 1, 5);
        for (int slot = 0; slot < c.segments * 16; slot++) assert_true(weight[slot] == 0);
        radar_free(weight);
        free_case(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_softmax_in_double),
        cmocka_unit_test(bits_do_not_depend_on_isa_or_cut),
        cmocka_unit_test(a_long_sum_stays_close),
        cmocka_unit_test(bits_do_not_depend_on_threads),
        cmocka_unit_test(a_query_that_attended_nothing_adds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
