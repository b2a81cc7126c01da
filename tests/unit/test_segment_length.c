/* Scoring longer segments: which length at which position, what is then a candidate, chosen and attended, and what must not change. */
#include "tests/unit/plan_fixture.h"

#include "runtime/attention.h"
#include "runtime/radar.h"

/* ---- rules ---- */

static radar_attention attention_of(int64_t segment, int64_t longest) {
    return (radar_attention){.window = 256,
                             .sinks = 4,
                             .budget = -1,
                             .dense_below = -1,
                             .segment = segment,
                             .longest = longest};
}

/* The power of two in [16, longest] nearest to sqrt(t) / 4, in the logarithm. */
static void auto_is_the_power_of_two_nearest_a_quarter_of_the_root(void **state) {
    (void)state;
    const int64_t longest[] = {64, 256, 65536};
    for (int l = 0; l < COUNT(longest); l++) {
        radar_attention a = attention_of(-1, longest[l]);
        for (double x = 1; x < 1e13; x *= 1.003) {
            int64_t t = (int64_t)x, best = 16;
            for (int64_t n = 16; n <= longest[l]; n *= 2)
                if (fabs(log2((double)n) - log2(sqrt((double)t) / 4)) <
                    fabs(log2((double)best) - log2(sqrt((double)t) / 4)) - 1e-9)
                    best = n;
            assert_int_equal(16 * radar_attention_unit(&a, t - 1), best);
        }
        const struct {
            int64_t t, segment;
        } at[] = {{8191, 16},    {8192, 32},    {32767, 32},   {32768, 64},    {131071, 64},
                  {131072, 128}, {524287, 128}, {524288, 256}, {2097151, 256}, {2097152, 512}};
        for (int i = 0; i < COUNT(at); i++)
            assert_int_equal(16 * radar_attention_unit(&a, at[i].t - 1),
                             at[i].segment < longest[l] ? at[i].segment : longest[l]);
    }
    radar_attention fixed = attention_of(64, 256);
    assert_int_equal(radar_attention_unit(&fixed, 0), 4);
    assert_int_equal(radar_attention_unit(&fixed, 10000000), 4);
}

/* Token by token: a longer segment is a candidate iff all its blocks are sealed and it begins at or behind the rounded sinks. */
static void candidates_are_whole_units(void **state) {
    (void)state;
    const int64_t windows[] = {1, 50, 256}, sinks[] = {0, 4, 16, 100, 300};
    for (int w = 0; w < COUNT(windows); w++)
        for (int k = 0; k < COUNT(sinks); k++)
            for (int64_t unit = 1; unit <= 16; unit *= 2) {
                radar_attention a = attention_of(16 * unit, 256);
                a.window = windows[w], a.sinks = sinks[k];
                for (int64_t position = 0; position < 1500; position += 3) {
                    int64_t begin, end, t = position + 1, expected = 0;
                    radar_attention_candidates(&a, position, &begin, &end);
                    assert_true(begin % unit == 0 && end % unit == 0 && begin <= end);
                    for (int64_t i = 0; i * unit * 16 <= position; i++) {
                        int64_t last = (i + 1) * unit * 16 - 1, sealed = last / 64 * 64 + 63;
                        bool candidate =
                            sealed < t - windows[w] && i * unit * 16 >= (sinks[k] + 15) / 16 * 16;
                        assert_int_equal(candidate, i * unit >= begin && i * unit < end);
                        expected += candidate;
                    }
                    assert_int_equal(expected * unit, end - begin);
                }
            }
}

static void budget_counts_tokens_and_segments_count_units(void **state) {
    (void)state;
    radar_attention a = attention_of(64, 256);
    assert_int_equal(radar_attention_keep(&a, 9999), 8);   /* 512 / 64 */
    assert_int_equal(radar_attention_keep(&a, 99999), 16); /* 1,024 / 64 */
    a.segment = 256;
    assert_int_equal(radar_attention_keep(&a, 9999), 8); /* never fewer */
    a.budget = 4096;
    assert_int_equal(radar_attention_keep(&a, 99999), 16);
    a.segments = 3;
    assert_int_equal(radar_attention_keep(&a, 99999), 3);
    assert_int_equal(radar_attention_keep(&a, 1100), 2); /* sealed to 832: [256, 768) are whole */
}

/* R = 256 bytes a token, B = 8 at 16 tokens of mean: R t <= B / unit t + (4 + 256 + 1.6 * chosen) R */
static void break_even_follows_the_scan_and_what_is_chosen(void **state) {
    (void)state;
    radar_kvcache kv = {.D = 64, .type = RADAR_F16, .block_bytes = 8 * 64, .context = 1 << 20};
    const int64_t units[] = {1, 4, 16}, chosen[] = {512, 512, 2048};
    for (int i = 0; i < 3; i++) {
        radar_attention a = attention_of(16 * units[i], 256);
        double want = (260 + 1.6 * (double)chosen[i]) * 256 / (256 - 8.0 / (double)units[i]);
        assert_int_equal(radar_attention_dense_limit(&a, &kv, 5000), (int64_t)want);
    }
}

/* What is reserved for the worst position is enough for every one, and no more than one needs. */
static void room_is_that_of_the_worst_position(void **state) {
    (void)state;
    const int64_t contexts[] = {300, 8191, 8192, 9000, 40000, 70000};
    for (int c = 0; c < COUNT(contexts); c++)
        for (int k = 0; k < 4; k++) {
            radar_attention a = attention_of(k == 3 ? 64 : -1, 256);
            a.segments = k == 1 ? 40 : 0;
            a.budget = k == 2 ? 3000 : -1;
            radar_kvcache kv = {.layout = {.shards = 4, .stripe = 256, .ranks = 1},
                                .layers = 1,
                                .kv_heads = 1,
                                .D = 16,
                                .type = RADAR_F16,
                                .block_bytes = 128,
                                .context = contexts[c]};
            assert_int_equal(radar_kvcache_plan(&kv, NULL), RADAR_OK);
            int64_t keep = 0, items = 0, scores[4] = {0}, begin, end;
            for (int64_t p = 0; p < contexts[c]; p += 1 + (p % 97 != 0)) {
                int64_t unit = radar_attention_unit(&a, p), n = radar_attention_keep(&a, p);
                radar_attention_candidates(&a, p, &begin, &end);
                keep = n > keep ? n : keep;
                int64_t list = p / 16 + 1 - (end - begin) + 3 * n * unit;
                items = list > items ? list : items;
                for (int i = 0; i < 4; i++) {
                    int64_t s = (radar_shard_tokens(&kv.layout, i, end * 16) -
                                 radar_shard_tokens(&kv.layout, i, begin * 16)) /
                                16 / unit;
                    scores[i] = s > scores[i] ? s : scores[i];
                }
            }
            const int64_t listed = radar_attention_longest_list(&a, &kv, 3);
            assert_true(radar_attention_most_keep(&a, contexts[c]) >= keep);
            assert_true(radar_attention_most_keep(&a, contexts[c]) <= keep + 1);
            assert_true(listed >= items && listed <= items + 3 * 16 * 3);
            for (int i = 0; i < 4; i++)
                assert_true(radar_attention_most_scores(&a, &kv, i) >= scores[i]);
        }
}

static void lengths_that_cannot_be_are_refused(void **state) {
    (void)state;
    const struct {
        const char *scorer;
        int64_t segment;
        int stripe, center;
        const char *says;
    } cases[] = {{"sketch", 32, 256, 0, "one of the scorers that can: mean, rf"},
                 {"exact", -1, 256, 0, "mean, rf"},
                 {"mean", 48, 256, 0, "power of two"},
                 {"mean", 8, 256, 0, "power of two"},
                 {"mean", 0, 256, 0, "power of two"},
                 {"mean", -2, 256, 0, "power of two"},
                 {"mean", INT64_MIN, 256, 0, "power of two"},
                 {"mean", 131072, 65536, 0, "power of two"},
                 {"mean", 512, 256, 0, "--stripe 256"},
                 {"mean", 128, 192, 0, "--stripe 192"},
                 {"rf", 128, 256, 1, "up to 64 tokens"}};
    for (int i = 0; i < COUNT(cases); i++) {
        radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
        radar_layout layout = {.shards = 8, .stripe = cases[i].stripe, .ranks = 1};
        radar_error err = {0};
        radar_attention a;
        opt.scorer = cases[i].scorer, opt.segment = cases[i].segment;
        opt.rf_center = cases[i].center;
        radar_status st = radar_attention_open(&a, &opt, 64, NULL, &err);
        if (st == RADAR_OK) st = radar_attention_fit(&a, &layout, &err);
        assert_int_equal(st, RADAR_ERR_USAGE);
        if (!strstr(err.text, cases[i].says)) fail_msg("%d: %s", i, err.text);
        radar_attention_close(&a);
    }
    assert_int_equal(radar_alloc_live(), 0);
}

/* ---- what a row attends to, through the policy ---- */

enum { D = 16, CONTEXT = 3000, SHARDS = 4, GROUP = 2, G = 2, KEEP = 3, MOST_UNITS = 200 };

typedef struct bench {
    radar_cpu cpu;
    radar_kvcache kv;
    radar_attention attention;
    radar_comm *comm;
} bench;

static void open_bench(bench *b, int64_t segment, const char *isa) {
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    int32_t scratch[CONTEXT];
    opt.scorer = "mean", opt.segment = segment, opt.segments = KEEP, opt.dense_below = 0;
    opt.window = 50, opt.sinks = 20;
    *b = (bench){.cpu = cpu_with(isa, 1)};
    assert_int_equal(radar_attention_open(&b->attention, &opt, D, isa, NULL), RADAR_OK);
    b->kv = (radar_kvcache){.be = &b->cpu.base,
                            .layout = {.shards = SHARDS, .stripe = 256, .ranks = 1},
                            .layers = 1,
                            .kv_heads = G,
                            .D = D,
                            .type = RADAR_F32,
                            .block_bytes = b->attention.scorer->block_bytes,
                            .levels = 4,
                            .context = CONTEXT};
    assert_int_equal(radar_attention_fit(&b->attention, &b->kv.layout, NULL), RADAR_OK);
    b->attention.max_keep = radar_attention_most_keep(&b->attention, CONTEXT);
    assert_int_equal(radar_kvcache_plan(&b->kv, NULL), RADAR_OK);
    assert_int_equal(radar_kvcache_open(&b->kv, NULL), RADAR_OK);
    assert_int_equal(radar_comm_self(&b->comm, NULL), RADAR_OK);
    float *k = normals(CONTEXT * G * D, 4, 3);
    radar_kvcache_append(&b->kv, 0, 0, CONTEXT, k, k, scratch);
    radar_kvcache_seal(&b->kv, b->attention.scorer, 0, CONTEXT, 50);
    radar_free(k);
}

static void close_bench(bench *b) {
    radar_comm_close(b->comm);
    radar_kvcache_close(&b->kv);
    radar_attention_close(&b->attention);
}

/* The mean scorer's log-mass of a unit, in double from the keys. */
static double unit_score(const bench *b, const float *q, int g, int64_t number, int64_t unit) {
    double sum = 0;
    for (int64_t p = number * unit * 16; p < (number + 1) * unit * 16; p++) {
        int shard = radar_shard_of(&b->kv.layout, p);
        radar_kv_view view = radar_kvcache_view(&b->kv, 0, g, shard);
        sum += logit_ref(&view, q, (int)radar_slot_of(&b->kv.layout, p));
    }
    return log(16 * (double)unit) + sum / (16 * (double)unit);
}

/* Marks the KEEP best units of one head in chosen; false where the decision is close. */
static bool best_units(const double *score, int n, bool *chosen) {
    double last = INFINITY, next;
    for (int k = 0; k < KEEP; k++) {
        int best = -1;
        for (int i = 0; i < n; i++)
            if (score[i] < last && (best < 0 || score[i] > score[best])) best = i;
        chosen[best] = true;
        last = score[best];
    }
    next = -INFINITY;
    for (int i = 0; i < n; i++)
        if (score[i] < last && score[i] > next) next = score[i];
    return last - next > 0.02;
}

typedef struct row_case {
    const bench *b;
    radar_plan *plan;
    const float *q; /* [G, rows, GROUP, D] */
    int row, rows;
    int64_t position;
} row_case;

static const float *query_of(const row_case *r, int g, int h) {
    return r->q + ((g * r->rows + r->row) * GROUP + h) * D;
}

/* What all shards estimate that head h of KV head g has missed. */
static double missed_by(const row_case *r, int g, int h, int64_t unit) {
    const size_t query = (size_t)((g * r->rows + r->row) * GROUP + h);
    double sum = 0;
    for (int t = 0; t < r->plan->n_missed; t++) {
        const radar_missed_task *m = &r->plan->missed[t];
        for (int j = 0; j < m->n_query; j++) {
            const float *missed = m->missed + (size_t)j * m->missed_stride;
            size_t at = (size_t)(missed - RADAR_PARTIAL_MISSED_M(D) - r->plan->task[0].partial);
            if (at / RADAR_PARTIAL(D) % (size_t)(G * r->rows * GROUP) != query) continue;
            assert_int_equal(m->unit, unit);
            sum += missed[1] > 0 ? exp((double)missed[0]) * (double)missed[1] : 0;
        }
    }
    return sum;
}

/* One KV head of one row: exactly the union of its heads' best units and what is no candidate; and the estimate of the rest. */
static int check_row(const row_case *r, int g) {
    int64_t begin, end, unit = radar_attention_unit(&r->b->attention, r->position);
    radar_attention_candidates(&r->b->attention, r->position, &begin, &end);
    int n = (int)((end - begin) / unit);
    double score[GROUP][MOST_UNITS];
    bool chosen[MOST_UNITS] = {0}, sure = true;
    assert_true(n > KEEP && n <= MOST_UNITS);
    for (int h = 0; h < GROUP; h++) {
        for (int i = 0; i < n; i++)
            score[h][i] = unit_score(r->b, query_of(r, g, h), g, begin / unit + i, unit);
        sure &= best_units(score[h], n, chosen);
    }
    if (!sure) return 0;
    char seen[CONTEXT] = {0};
    for (int t = 0; t < r->plan->n_tasks; t++) {
        const radar_attend_task *task = &r->plan->task[t];
        if (task->q != query_of(r, g, 0)) continue;
        assert_int_equal(task->n_query, GROUP);
        const radar_items items = plan_items(task);
        for (int i = 0; i < items.n; i++)
            for (int j = 0; j < 16; j++) {
                int64_t p = radar_kv_position(&task->kv, items.item[i].segment) + j;
                if (p <= r->position) seen[p]++;
            }
    }
    for (int64_t p = 0; p <= r->position; p++) {
        bool candidate = p / 16 >= begin && p / 16 < end;
        assert_int_equal(seen[p], !candidate || chosen[p / 16 / unit - begin / unit]);
    }
    for (int h = 0; h < GROUP; h++) {
        double want = 0;
        for (int i = 0; i < n; i++)
            if (!chosen[i]) want += exp(score[h][i]);
        assert_true(fabs(missed_by(r, g, h, unit) - want) <= 0.01 * want);
    }
    return 1;
}

static int check_bench(const bench *b, const int64_t *position, int rows) {
    radar_plan plan = {0};
    radar_counts counts = {0};
    int64_t query_position[16 * GROUP];
    int checked = 0;
    b->attention.policy->room(&b->kv, &b->attention, G * GROUP, rows, &plan);
    plan_open(&plan, &b->kv);
    plan_litter(&plan);
    float *q = normals((size_t)(G * rows * GROUP * D), 12, 3);
    float *partial =
        must(radar_alloc((size_t)(SHARDS * G * rows * GROUP) * RADAR_PARTIAL(D) * sizeof *q));
    for (int i = 0; i < rows * GROUP; i++) query_position[i] = position[i / GROUP];
    radar_select select = {.comm = b->comm,
                           .kv = (radar_kvcache *)&b->kv,
                           .attention = &b->attention,
                           .counts = &counts,
                           .plan = &plan,
                           .n_rows = rows,
                           .n_heads = G * GROUP,
                           .position = position,
                           .query_position = query_position,
                           .q = q,
                           .partial = partial};
    assert_int_equal(b->attention.policy->select(&select), RADAR_OK);
    plan_check_room(&plan);
    radar_cpu cpu = b->cpu;
    radar_cpu_missed(&cpu.base, plan.missed, plan.n_missed);
    for (int row = 0; row < rows; row++)
        for (int g = 0; g < G; g++)
            checked += check_row(&(row_case){b, &plan, q, row, rows, position[row]}, g);
    plan_close(&plan);
    radar_free(q), radar_free(partial);
    return checked;
}

static void rows_attend_to_the_best_units_and_to_what_is_no_candidate(void **state) {
    (void)state;
    const int64_t position[] = {1700, 2050, 2403, 2404, 2700, 2999};
    for (int64_t segment = 16; segment <= 256; segment *= 2) {
        bench b;
        open_bench(&b, segment, segment == 32 || segment == 256 ? "plain" : NULL);
        int checked = check_bench(&b, position, COUNT(position));
        print_message("    segments of %d: %d of %d lists checked\n", (int)segment, checked,
                      COUNT(position) * G);
        assert_true(checked >= COUNT(position));
        close_bench(&b);
    }
    assert_int_equal(radar_alloc_live(), 0);
}

/* ---- whole sessions ---- */

enum { VOCAB = 128 };

static radar_engine *open_engine(void) {
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e;
    char error[512] = "";
    opt.model = "tests/golden/tiny/qwen3-qknorm-bf16";
    opt.precision = "exact", opt.threads = 1;
    if (radar_engine_open(&e, MPI_COMM_NULL, &opt, error, sizeof error) != RADAR_OK)
        fail_msg("%s", error);
    return e;
}

static radar_session_options options_of(const char *scorer, int64_t segment, int64_t context,
                                        int64_t segments) {
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    opt.context = context, opt.scorer = scorer, opt.segment = segment, opt.segments = segments;
    opt.window = 32, opt.sinks = 4, opt.dense_below = 0, opt.rf_features = 64;
    return opt;
}

static radar_session *open_session(radar_engine *e, const radar_session_options *opt) {
    radar_session *s;
    if (radar_session_open(&s, e, opt) != RADAR_OK) fail_msg("%s", radar_last_error(e));
    return s;
}

static int32_t *make_ids(int n, unsigned seed) {
    int32_t *ids = must(radar_alloc((size_t)n * sizeof *ids));
    for (int i = 0; i < n; i++)
        ids[i] = (int32_t)(((unsigned)i * 2654435761u + seed * 97003u) >> 7) & (VOCAB - 1);
    return ids;
}

/* Prefill of `from` tokens, then n scored ones; segments scored are added up in *scored. */
static float *run(radar_engine *e, const radar_session_options *opt, const int32_t *ids, int from,
                  int n, int64_t *scored) {
    float *logits = must(radar_alloc((size_t)n * VOCAB * sizeof *logits));
    radar_session_stats stats = {.size = sizeof stats};
    radar_session *s = open_session(e, opt);
    assert_int_equal(radar_prefill(s, ids, (size_t)from), RADAR_OK);
    assert_int_equal(radar_score(s, ids + from, (size_t)n, logits), RADAR_OK);
    assert_int_equal(radar_stats(s, &stats), RADAR_OK);
    if (scored) {
        *scored = stats.segments_scored;
        assert_true(stats.coverage_min == 1);
    }
    radar_session_close(s);
    return logits;
}

static void every_candidate_chosen_is_dense_bit_for_bit(void **state) {
    (void)state;
    enum { FROM = 700, N = 100 };
    static const char *const scorers[] = {"mean", "rf"};
    radar_engine *e = open_engine();
    radar_session_options opt = options_of("mean", 16, FROM + N, 1000);
    int32_t *ids = make_ids(FROM + N, 1);
    opt.attention = "dense";
    float *dense = run(e, &opt, ids, FROM, N, NULL);
    for (int i = 0; i < 2; i++)
        for (int64_t segment = 16; segment <= 256; segment *= 2) {
            int64_t scored, want = 0;
            opt = options_of(scorers[i], segment, FROM + N, 1000);
            float *got = run(e, &opt, ids, FROM, N, &scored);
            assert_memory_equal(got, dense, N * VOCAB * sizeof *got);
            for (int t = FROM + 1; t <= FROM + N; t++) {
                int64_t sealed = (t - 32) / 64 * 64;
                want += sealed / segment - 1; /* all whole ones but that of the sinks */
            }
            assert_int_equal(scored, want * 2 * 2); /* layers, KV heads */
            radar_free(got);
        }
    radar_free(dense), radar_free(ids);
    radar_engine_close(e);
    assert_int_equal(radar_alloc_live(), 0);
}

/* Scores n tokens behind the first `from` again, as opt says. */
static void score_again(radar_session *s, const radar_session_options *opt, const int32_t *ids,
                        int from, int n, float *logits) {
    assert_int_equal(radar_rewind(s, from), RADAR_OK);
    assert_int_equal(radar_session_reconfigure(s, opt), RADAR_OK);
    assert_int_equal(radar_score(s, ids + from, (size_t)n, logits), RADAR_OK);
}

/* A batch whose rows have different units; level 1 is complete when it is first used. */
static void auto_switches_within_a_batch_and_nothing_is_lost(void **state) {
    (void)state;
    enum { FROM = 8180, N = 40, CHANGE = 8191, ROWS = N * VOCAB };
    static float all[ROWS], dense[ROWS], few[3][ROWS], row[VOCAB];
    const int64_t segments[] = {-1, 16, 32};
    radar_engine *e = open_engine();
    radar_session_stats stats = {.size = sizeof stats};
    int32_t *ids = make_ids(FROM + N, 2);
    radar_session_options opt = options_of("mean", -1, FROM + N, 1000);
    radar_session *s = open_session(e, &opt);
    assert_int_equal(radar_prefill(s, ids, FROM), RADAR_OK);
    assert_int_equal(radar_score(s, ids + FROM, N, all), RADAR_OK);
    assert_int_equal(radar_stats(s, &stats), RADAR_OK);
    int64_t want = 0;
    for (int t = FROM + 1; t <= FROM + N; t++)
        want += (t - 32) / 64 * 64 / (t < 8192 ? 16 : 32) - 1;
    assert_int_equal(stats.segments_scored, want * 2 * 2); /* layers, KV heads */
    opt.attention = "dense";
    score_again(s, &opt, ids, FROM, N, dense);
    assert_memory_equal(all, dense, sizeof all);
    /* few chosen: before the change as with 16, from it on as with 32 over that past, and row by row the same */
    for (int i = 0; i < 3; i++) {
        opt = options_of("mean", segments[i], FROM + N, 4);
        score_again(s, &opt, ids, FROM, N, few[i]);
    }
    assert_memory_equal(few[0], few[1], (CHANGE - FROM) * sizeof row);
    assert_memory_not_equal(few[0] + (CHANGE - FROM) * VOCAB, few[1] + (CHANGE - FROM) * VOCAB,
                            sizeof row);
    opt.segment = -1;
    score_again(s, &opt, ids, FROM, CHANGE - FROM, few[1]);
    opt.segment = 32;
    assert_int_equal(radar_session_reconfigure(s, &opt), RADAR_OK);
    assert_int_equal(radar_score(s, ids + CHANGE, FROM + N - CHANGE, few[1]), RADAR_OK);
    assert_memory_equal(few[1], few[0] + (CHANGE - FROM) * VOCAB, (FROM + N - CHANGE) * sizeof row);
    opt.segment = -1;
    score_again(s, &opt, ids, FROM, 0, row);
    for (int i = 0; i < N; i++) {
        assert_int_equal(radar_score(s, ids + FROM + i, 1, row), RADAR_OK);
        assert_memory_equal(row, few[0] + i * VOCAB, sizeof row);
    }
    radar_session_close(s);
    radar_free(ids);
    radar_engine_close(e);
    assert_int_equal(radar_alloc_live(), 0);
}

/* Other tokens, forgotten again, leave no trace; neither do other options. */
static void what_was_rewound_leaves_no_trace(void **state) {
    (void)state;
    enum { FROM = 500, N = 150 };
    const int64_t segments[] = {32, 64, 256, -1};
    const int back[] = {FROM, 430, 130};
    radar_engine *e = open_engine();
    int32_t *ids = make_ids(FROM + 400, 3), *others = make_ids(400, 4);
    float *again = must(radar_alloc(N * VOCAB * sizeof *again));
    for (int i = 0; i < COUNT(segments); i++) {
        radar_session_options opt = options_of(i % 2 ? "rf" : "mean", segments[i], FROM + 400, 3),
                              between = options_of("mean", 16, FROM + 400, 3);
        opt.rf_center = segments[i] == 64;
        float *first = run(e, &opt, ids, FROM, N, NULL);
        radar_session *s = open_session(e, &opt);
        assert_int_equal(radar_prefill(s, ids, FROM), RADAR_OK);
        for (int b = 0; b < COUNT(back); b++) {
            assert_int_equal(radar_score(s, others, 400, NULL), RADAR_OK);
            if (b == 1) assert_int_equal(radar_session_reconfigure(s, &between), RADAR_OK);
            assert_int_equal(radar_rewind(s, back[b]), RADAR_OK);
            if (b == 1) assert_int_equal(radar_session_reconfigure(s, &opt), RADAR_OK);
            assert_int_equal(radar_prefill(s, ids + back[b], (size_t)(FROM - back[b])), RADAR_OK);
            assert_int_equal(radar_score(s, ids + FROM, N, again), RADAR_OK);
            assert_memory_equal(again, first, N * VOCAB * sizeof *again);
            assert_int_equal(radar_rewind(s, FROM), RADAR_OK);
        }
        radar_session_close(s);
        radar_free(first);
    }
    radar_free(ids), radar_free(others), radar_free(again);
    radar_engine_close(e);
    assert_int_equal(radar_alloc_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_is_the_power_of_two_nearest_a_quarter_of_the_root),
        cmocka_unit_test(candidates_are_whole_units),
        cmocka_unit_test(budget_counts_tokens_and_segments_count_units),
        cmocka_unit_test(break_even_follows_the_scan_and_what_is_chosen),
        cmocka_unit_test(room_is_that_of_the_worst_position),
        cmocka_unit_test(lengths_that_cannot_be_are_refused),
        cmocka_unit_test(rows_attend_to_the_best_units_and_to_what_is_no_candidate),
        cmocka_unit_test(every_candidate_chosen_is_dense_bit_for_bit),
        cmocka_unit_test(auto_switches_within_a_batch_and_nothing_is_lost),
        cmocka_unit_test(what_was_rewound_leaves_no_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
