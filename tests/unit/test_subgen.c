/* SubGen as a policy: outputs over shards, layers and heads against the estimator's formula in double on what the cache holds,
 * and where it can go back to. */
#include "parallel/shard.h"
#include "tests/unit/shards_fixture.h"
#include "tests/unit/subgen_ref.h"

#define L 2
#define G 2
#define GROUP 3
#define H (G * GROUP)
#define DIM 32
#define PROMPT 380
#define TEXT 440

typedef struct text {
    float *q, *k, *v; /* [L, TEXT, H or G, DIM] */
} text;

static const radar_attention numbers = {
    .window = 37, .sinks = 21, .budget = 96, .pick_seed = 11, .restream = false};

static text make_text(void) {
    return (text){normals(L * TEXT * H * DIM, 1, 1), normals(L * TEXT * G * DIM, 2, 1),
                  normals(L * TEXT * G * DIM, 3, 1)};
}

static void free_text(text *t) { radar_free(t->q), radar_free(t->k), radar_free(t->v); }

static void run_rows(shards *s, const text *t, int first, int n, bool decode, float *out) {
    for (int layer = 0; layer < L; layer++) {
        size_t row = (size_t)(layer * TEXT + first);
        shards_rows(s, layer, first, n, decode ? t->q + row * H * DIM : NULL, t->k + row * G * DIM,
                    t->v + row * G * DIM, out + layer * H * DIM);
    }
}

static void run_prompt(shards *s, const text *t, int begin, int end) {
    float none[L * H * DIM];
    for (int first = begin; first < end; first += SHARDS_MOST_ROWS) {
        int n = end - first < SHARDS_MOST_ROWS ? end - first : SHARDS_MOST_ROWS;
        run_rows(s, t, first, n, false, none);
    }
}

static double cached(const shards *s, int layer, int head, int token, int d, bool key) {
    radar_kv_view view =
        radar_kvcache_view(&s->kv, layer, head, radar_shard_of(&s->kv.layout, token));
    int slot = (int)radar_slot_of(&s->kv.layout, token);
    return key ? key_at(&view, slot, d) : value_at(&view, slot, d);
}

/* The reference of one head has seen what the cache holds of tokens [0, n). */
static void learn(ref *r, const shards *s, int layer, int head, int n) {
    int budget = s->attention.budget < 0 ? 512 : (int)s->attention.budget;
    *r = (ref){.D = DIM,
               .m = budget / 8,
               .s = budget / 2,
               .window = (int)s->attention.window,
               .sinks = (int)s->attention.sinks,
               .seed = radar_random(s->attention.pick_seed, RADAR_STREAM_SUBGEN,
                                    (uint64_t)(layer * G + head))};
    ref_reset(r);
    for (int p = 0; p < n; p++) {
        for (int d = 0; d < DIM; d++) {
            r->key[p][d] = cached(s, layer, head, p, d, true);
            r->norm2[p] += pow(cached(s, layer, head, p, d, false), 2);
        }
        ref_push(r, p);
    }
}

/* z / tau of query q at token `now`, after the reference has seen everything before it. */
static void estimate(double *out, const ref *r, const shards *s, int layer, int head, int now,
                     const float *query) {
    double q[DIM], tau = 0, z[DIM] = {0};
    for (int d = 0; d < DIM; d++) q[d] = query[d];
    for (int i = 0; i < r->n; i++)
        for (int j = 0; j < T; j++)
            tau += (double)count_of(r, i) / T * weight_of(r, q, r->sample[i][j]);
    for (int j = 0; j < r->s && r->n > 0; j++)
        for (int d = 0; d < DIM; d++)
            z[d] += r->mu / (r->s * r->norm2[r->value[j]]) * weight_of(r, q, r->value[j]) *
                    cached(s, layer, head, r->value[j], d, false);
    for (int p = 0; p <= now; p++) {
        if (p >= r->sinks && p <= now - r->window) continue;
        double x = 0;
        for (int d = 0; d < DIM; d++) x += q[d] * cached(s, layer, head, p, d, true);
        tau += exp(x / sqrt(DIM));
        for (int d = 0; d < DIM; d++)
            z[d] += exp(x / sqrt(DIM)) * cached(s, layer, head, p, d, false);
    }
    for (int d = 0; d < DIM; d++) out[d] = z[d] / tau;
}

/* Largest error of the outputs of row `now`, as a share of the head's largest output where that is above 1. */
static double row_error(const shards *s, const text *t, int now, const float *out, ref *r) {
    double worst = 0, want[DIM];
    for (int layer = 0; layer < L; layer++) {
        for (int head = 0; head < G; head++) {
            learn(r, s, layer, head, now);
            for (int h = head * GROUP; h < (head + 1) * GROUP; h++) {
                double most = 1;
                estimate(want, r, s, layer, head, now,
                         t->q + ((size_t)(layer * TEXT + now) * H + (size_t)h) * DIM);
                for (int d = 0; d < DIM; d++) most = fmax(most, fabs(want[d]));
                for (int d = 0; d < DIM; d++)
                    worst = worse(worst, fabs(out[(layer * H + h) * DIM + d] - want[d]) / most);
            }
        }
    }
    return worst;
}

static void outputs_are_those_of_the_formula(void **state) {
    (void)state;
    static const struct {
        radar_dtype type;
        int shards, stripe;
        const char *isa;
    } cases[] = {{RADAR_F32, 1, 64, "plain"}, {RADAR_F16, 4, 64, NULL}, {RADAR_BF16, 8, 64, NULL}};
    text t = make_text();
    ref *r = must(radar_alloc(sizeof *r));
    for (int c = 0; c < COUNT(cases); c++) {
        shards s;
        double worst = 0;
        float out[L * H * DIM];
        shards_open(&s, "subgen", &numbers,
                    &(shards_shape){cases[c].type, cases[c].shards, cases[c].stripe, L, G, GROUP,
                                    DIM, TEXT},
                    cases[c].isa);
        run_prompt(&s, &t, 0, PROMPT);
        for (int p = PROMPT; p < PROMPT + 20; p++) {
            run_rows(&s, &t, p, 1, true, out);
            if (p % 6 == 0) worst = worse(worst, row_error(&s, &t, p, out, r));
            for (int i = 0; i < H; i++) assert_true(s.coverage[i] == 1);
        }
        print_message("%d shards: outputs within %.2g\n", cases[c].shards, worst);
        assert_true(worst <= 1e-5);
        /* sinks, window, and of the samples those that differ: fewer than a budget */
        assert_in_range(s.counts.attended_tokens, 20 * L * G * (21 + 37 + 30),
                        20 * L * G * (21 + 37 + 96));
        shards_close(&s);
    }
    radar_free(r);
    free_text(&t);
    assert_int_equal(radar_alloc_live(), 0);
}

/* From the first row on, without a prompt: window and sinks fill first, and attention is exact until a token leaves. */
static void rows_from_the_start_are_exact_until_a_token_leaves(void **state) {
    (void)state;
    text t = make_text();
    ref *r = must(radar_alloc(sizeof *r));
    shards s;
    float out[L * H * DIM];
    shards_open(&s, "subgen", &numbers, &(shards_shape){RADAR_F16, 4, 64, L, G, GROUP, DIM, TEXT},
                NULL);
    for (int p = 0; p < 70; p++) {
        run_rows(&s, &t, p, 1, true, out);
        if (p < 4 || p % 10 == 0) assert_true(row_error(&s, &t, p, out, r) <= 1e-5);
        if (p < 58) assert_int_equal(r->n, 0);
    }
    learn(r, &s, 0, 0, 70);
    assert_int_equal(r->n, 12); /* tokens 21 ... 32 */
    shards_close(&s);
    radar_free(r);
    free_text(&t);
}

static void decode(shards *s, const text *t, int first, int n, float *out) {
    for (int i = 0; i < n; i++) run_rows(s, t, first + i, 1, true, out + i * L * H * DIM);
}

static void rewinds_to_the_prompts_end_and_to_nothing(void **state) {
    (void)state;
    text t = make_text();
    shards s;
    const size_t bytes = 40 * L * H * DIM * sizeof(float);
    float *first = must(radar_alloc(bytes)), *again = must(radar_alloc(bytes));
    shards_open(&s, "subgen", &numbers, &(shards_shape){RADAR_F16, 4, 64, L, G, GROUP, DIM, TEXT},
                NULL);
    run_prompt(&s, &t, 0, 200);
    decode(&s, &t, 200, 40, first);
    assert_false(s.policy->rewind(s.state, 220));
    assert_false(s.policy->rewind(s.state, 100));
    for (int times = 0; times < 2; times++) {
        assert_true(s.policy->rewind(s.state, 200));
        memset(again, 0, bytes);
        decode(&s, &t, 200, 40, again);
        assert_memory_equal(first, again, bytes);
    }
    /* more prompt behind decoded rows: the end of the prompt moves */
    run_prompt(&s, &t, 240, 260);
    decode(&s, &t, 260, 10, first);
    assert_false(s.policy->rewind(s.state, 200));
    assert_true(s.policy->rewind(s.state, 260));
    decode(&s, &t, 260, 10, again);
    assert_memory_equal(first, again, bytes / 4);
    assert_true(s.policy->rewind(s.state, 0));
    run_prompt(&s, &t, 0, 200);
    decode(&s, &t, 200, 40, first);
    run_prompt(&s, &t, 240, 260);
    decode(&s, &t, 260, 10, first);
    assert_memory_equal(first, again, bytes / 4);
    shards_close(&s);
    radar_free(first), radar_free(again);
    free_text(&t);
}

static void draws_follow_the_seed(void **state) {
    (void)state;
    text t = make_text();
    float out[3][L * H * DIM];
    for (int i = 0; i < 3; i++) {
        shards s;
        radar_attention a = numbers;
        a.pick_seed = i == 2 ? 12 : 11;
        shards_open(&s, "subgen", &a, &(shards_shape){RADAR_F16, 4, 64, L, G, GROUP, DIM, TEXT},
                    NULL);
        run_prompt(&s, &t, 0, PROMPT);
        run_rows(&s, &t, PROMPT, 1, true, out[i]);
        shards_close(&s);
    }
    assert_memory_equal(out[0], out[1], sizeof out[0]);
    assert_memory_not_equal(out[0], out[2], sizeof out[0]);
    free_text(&t);
}

static void *(*real_alloc)(size_t);
static int allocations_left;
static void *failing_alloc(size_t bytes) {
    return allocations_left-- > 0 ? real_alloc(bytes) : NULL;
}

static size_t one_gigabyte(void) { return (size_t)1 << 30; }

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    radar_attention a = numbers;
    radar_kvcache kv = {.layout = {.shards = 4, .stripe = 64, .ranks = 1},
                        .layers = L,
                        .kv_heads = G,
                        .D = DIM,
                        .type = RADAR_F16,
                        .context = TEXT};
    const radar_policy_shape shape = {&kv, &a, H};
    const radar_policy *subgen = radar_policy_find("subgen");
    radar_error err = {0};
    void *opened = NULL;
    assert_int_equal(radar_kvcache_plan(&kv, NULL), RADAR_OK);
    a.budget = (int64_t)1 << 40;
    assert_int_equal(subgen->open(&opened, &shape, &err), RADAR_ERR_MEMORY);
    assert_null(opened);
    if (!strstr(err.text, "--budget")) fail_msg("%s", err.text);
    size_t (*available)(void) = radar_sys_table.available;
    radar_sys_table.available = one_gigabyte;
    a.budget = (int64_t)1 << 25; /* more than there is, and less than the system would promise */
    err = (radar_error){0};
    assert_int_equal(subgen->open(&opened, &shape, &err), RADAR_ERR_MEMORY);
    radar_sys_table.available = available;
    a.budget = 1; /* one cluster, one value */
    assert_int_equal(subgen->open(&opened, &shape, &err), RADAR_OK);
    subgen->close(opened);
    subgen->close(NULL);
    real_alloc = radar_sys_table.alloc;
    radar_sys_table.alloc = failing_alloc;
    for (int n = 0; n < 8; n++) {
        allocations_left = n;
        err = (radar_error){0};
        assert_int_equal(subgen->open(&opened, &shape, &err), RADAR_ERR_MEMORY);
    }
    allocations_left = 8;
    assert_int_equal(subgen->open(&opened, &shape, &err), RADAR_OK);
    radar_sys_table.alloc = real_alloc;
    subgen->close(opened);
    assert_int_equal(radar_alloc_live(), 0);
}

/* A context of one stripe lies on one rank alone; the others take part all the same. */
static void a_rank_may_hold_no_token(void **state) {
    (void)state;
    radar_attention a = numbers;
    radar_error err = {0};
    for (int rank = 0; rank < 4; rank++) {
        radar_kvcache kv = {.layout = {.shards = 4, .stripe = 64, .ranks = 4},
                            .rank = rank,
                            .layers = L,
                            .kv_heads = G,
                            .D = DIM,
                            .type = RADAR_F16,
                            .context = 64};
        const radar_policy_shape shape = {&kv, &a, H};
        const radar_policy *subgen = radar_policy_find("subgen");
        void *opened = NULL;
        assert_int_equal(radar_kvcache_plan(&kv, NULL), RADAR_OK);
        assert_int_equal(kv.rank_tokens, rank == 0 ? 64 : 0);
        if (subgen->open(&opened, &shape, &err) != RADAR_OK)
            fail_msg("rank %d: %s", rank, err.text);
        subgen->close(opened);
    }
    assert_int_equal(radar_alloc_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_are_those_of_the_formula),
        cmocka_unit_test(rows_from_the_start_are_exact_until_a_token_leaves),
        cmocka_unit_test(rewinds_to_the_prompts_end_and_to_nothing),
        cmocka_unit_test(draws_follow_the_seed),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(a_rank_may_hold_no_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
