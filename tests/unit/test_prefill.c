/* Sparse prefill: which segments a block of queries chooses together, what it attends to, and what must not change. */
#include "tests/unit/plan_fixture.h"

#include "runtime/attention.h"
#include "runtime/radar.h"

/* ---- one call over a cache of its own, against double precision ---- */

enum { HEADS = 6, KV_HEADS = 2, GROUP = 3, DIM = 32, CONTEXT = 448, FIRST = 264, END = 424 };
enum { ROWS = END - FIRST, SEGMENTS = CONTEXT / 16 };

typedef struct rig {
    radar_cpu cpu;
    radar_comm *comm;
    radar_kvcache kv;
    radar_attention attention;
    radar_plan plan;
    radar_counts counts;
    int64_t attended; /* tokens, of the last call */
    float *k, *v, *q; /* [CONTEXT, G, D], [ROWS, H, D] */
    float *out;       /* [ROWS, H, D] */
} rig;

static void rig_open(rig *r) {
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    const size_t row = KV_HEADS * DIM;
    int32_t slot[CONTEXT];
    *r = (rig){.cpu = cpu_with(NULL, 1)};
    assert_int_equal(radar_comm_self(&r->comm, NULL), RADAR_OK);
    opt.attention = "dense", opt.scorer = "exact", opt.prefill = "radar";
    opt.window = 50, opt.sinks = 5, opt.segments = 2, opt.dense_prefill = 0;
    assert_int_equal(radar_attention_open(&r->attention, &opt, DIM, NULL, NULL), RADAR_OK);
    r->kv = (radar_kvcache){.be = &r->cpu.base,
                            .layout = {.shards = 4, .stripe = 64, .ranks = 1},
                            .layers = 1,
                            .kv_heads = KV_HEADS,
                            .D = DIM,
                            .type = RADAR_F32,
                            .context = CONTEXT};
    r->attention.max_keep = radar_attention_most_keep(&r->attention, CONTEXT);
    assert_int_equal(radar_kvcache_plan(&r->kv, NULL), RADAR_OK);
    assert_int_equal(radar_kvcache_open(&r->kv, NULL), RADAR_OK);
    r->k = normals(CONTEXT * row, 1, 1.5f), r->v = normals(CONTEXT * row, 2, 1);
    r->q = normals(ROWS * HEADS * DIM, 3, 1.5f);
    r->out = must(radar_alloc(ROWS * HEADS * DIM * sizeof(float)));
    radar_kvcache_append(&r->kv, 0, 0, END, r->k, r->v, slot);
    radar_kvcache_seal(&r->kv, r->attention.scorer, 0, END, r->attention.window);
}

static void rig_close(rig *r) {
    radar_attention_close(&r->attention);
    radar_comm_close(r->comm);
    radar_kvcache_close(&r->kv);
    radar_free(r->k), radar_free(r->v), radar_free(r->q), radar_free(r->out);
}

typedef struct tree_user {
    rig *r;
    float *pieces;
} tree_user;

static void merge(void *user, int first, int count, int apart) {
    const tree_user *t = user;
    size_t floats = (size_t)ROWS * HEADS * (size_t)RADAR_PARTIAL(DIM);
    float *piece[RADAR_MAX_SHARDS];
    for (int i = 0; i < count; i++) piece[i] = t->pieces + (size_t)(first + i * apart) * floats;
    radar_cpu_merge(&t->r->cpu.base, piece, count, ROWS * HEADS, DIM);
}

/* Rows FIRST .. END - 1 in one call. */
static void rig_run(rig *r) {
    radar_plan *p = &r->plan;
    int64_t position[ROWS], query_position[ROWS * GROUP];
    float *arranged = must(radar_alloc(ROWS * HEADS * DIM * sizeof *arranged));
    float *pieces =
        must(radar_alloc(4 * ROWS * HEADS * (size_t)RADAR_PARTIAL(DIM) * sizeof(float)));
    float *coverage = must(radar_alloc(ROWS * HEADS * sizeof *coverage));
    tree_user user = {r, pieces};
    *p = (radar_plan){0};
    radar_policy_prefill.room(&r->kv, &r->attention, HEADS, ROWS, p);
    plan_open(p, &r->kv);
    plan_litter(p);
    for (int i = 0; i < ROWS; i++) position[i] = FIRST + i;
    for (int i = 0; i < ROWS * GROUP; i++) query_position[i] = FIRST + i / GROUP;
    radar_cpu_arrange(&r->cpu.base, arranged, r->q, ROWS, KV_HEADS, GROUP, DIM);
    radar_select select = {.comm = r->comm,
                           .kv = &r->kv,
                           .attention = &r->attention,
                           .counts = &r->counts,
                           .plan = p,
                           .n_rows = ROWS,
                           .n_heads = HEADS,
                           .position = position,
                           .query_position = query_position,
                           .q = arranged,
                           .partial = pieces,
                           .prefill = true};
    assert_int_equal(radar_policy_prefill.select(&select), RADAR_OK);
    plan_check_room(p);
    assert_int_equal(p->n_missed, 0);
    radar_cpu_attend(&r->cpu.base, p->task, p->n_tasks, 1.0f / sqrtf((float)DIM), ROWS);
    radar_tree(0, 4, merge, &user);
    radar_cpu_finish(&r->cpu.base, r->out, coverage, pieces, ROWS, KV_HEADS, GROUP, DIM);
    plan_close(p);
    radar_free(arranged), radar_free(pieces), radar_free(coverage);
}

static double logit(const rig *r, const double *q, int g, int token) {
    double sum = 0;
    for (int d = 0; d < DIM; d++) sum += q[d] * (double)r->k[(token * KV_HEADS + g) * DIM + d];
    return sum / sqrt(DIM);
}

/* Adds to chosen the `keep` segments of [begin, end) with most mass for the query at a position of a head. */
static void choose(const rig *r, bool *chosen, int head, int position, int begin, int end,
                   int keep) {
    double q[DIM], mass[SEGMENTS] = {0};
    bool taken[SEGMENTS] = {false};
    for (int d = 0; d < DIM; d++) q[d] = r->q[((position - FIRST) * HEADS + head) * DIM + d];
    for (int s = begin; s < end; s++)
        for (int i = 0; i < 16; i++) mass[s] += exp(logit(r, q, head / GROUP, 16 * s + i));
    for (int n = 0; n < keep; n++) {
        int best = -1;
        for (int s = begin; s < end; s++)
            if (!taken[s] && (best < 0 || mass[s] > mass[best])) best = s;
        if (best >= 0) taken[best] = chosen[best] = true;
    }
}

/* What rows [first, last) of a block attend to before position 16 end, by list: heads [head, head + n). */
static void block_list(const rig *r, bool *listed, int head, int n, int first, int last, int *end) {
    const int begin = (int)(r->attention.sinks + 15) / 16, keep = (int)r->attention.segments;
    *end = begin;
    while ((*end / 4 + 1) * 64 - 1 < first + 1 - r->attention.window) ++*end;
    for (int s = 0; s < SEGMENTS; s++) listed[s] = s < begin;
    for (int run = first, next; run < last; run = next) {
        next = run / 16 * 16 + 16 < last ? run / 16 * 16 + 16 : last;
        for (int h = head; h < head + n; h++) choose(r, listed, h, next - 1, begin, *end, keep);
    }
}

/* Compares one query; returns the tokens it attends to. */
static int check_query(const rig *r, const bool *listed, int end, int head, int position) {
    const int g = head / GROUP;
    double q[DIM], o[DIM] = {0}, l = 0;
    int attended = 0;
    for (int d = 0; d < DIM; d++) q[d] = r->q[((position - FIRST) * HEADS + head) * DIM + d];
    for (int t = 0; t <= position; t++) {
        if (t / 16 < end && !listed[t / 16]) continue;
        double weight = exp(logit(r, q, g, t));
        attended++;
        l += weight;
        for (int d = 0; d < DIM; d++) o[d] += weight * (double)r->v[(t * KV_HEADS + g) * DIM + d];
    }
    for (int d = 0; d < DIM; d++) {
        double got = r->out[((position - FIRST) * HEADS + head) * DIM + d], want = o[d] / l;
        if (!(fabs(got - want) < 1e-5))
            fail_msg("position %d, head %d: %g, expected %g", position, head, got, want);
    }
    return attended;
}

static void check_all(rig *r) {
    const int heads = r->attention.share_head ? 1 : GROUP;
    int64_t attended = 0, items = 0;
    r->counts = (radar_counts){.listed = &items};
    rig_run(r);
    for (int first = FIRST, last; first < END; first = last) {
        last = first / 64 * 64 + 64 < END ? first / 64 * 64 + 64 : END;
        for (int head = 0; head < HEADS; head += heads) {
            bool listed[SEGMENTS];
            int end;
            block_list(r, listed, head, heads, first, last, &end);
            for (int p = first; p < last; p++)
                for (int h = head; h < head + heads; h++) {
                    int n = check_query(r, listed, end, h, p);
                    attended += h == head ? n : 0;
                }
        }
    }
    r->attended = r->counts.attended_tokens + RADAR_SEGMENT * items;
    assert_int_equal(r->attended, attended);
}

static void a_block_attends_to_the_union_of_what_its_runs_choose(void **state) {
    (void)state;
    rig r;
    rig_open(&r);
    check_all(&r);
    r.attention.share_head = true; /* each head what its own runs choose */
    check_all(&r);
    r.attention.segments = 1000; /* everything: dense attention */
    check_all(&r);
    assert_int_equal(r.attended, (int64_t)HEADS * ROWS * (FIRST + END + 1) / 2);
    r.attention.sinks = 100 * CONTEXT; /* no candidates, and sinks that are not there yet */
    check_all(&r);
    assert_int_equal(r.attended, (int64_t)HEADS * ROWS * (FIRST + END + 1) / 2);
    rig_close(&r);
    assert_int_equal(radar_alloc_live(), 0);
}

/* ---- sessions ---- */

#define TINY "tests/golden/tiny/llama-tied-f32"
enum { TOKENS = 700, PROMPT = 650 };

static radar_engine *engine_of(const char *model, int chunk) {
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e;
    char error[512] = "";
    opt.model = model;
    opt.stripe = 64;
    opt.chunk = chunk;
    opt.threads = 1;
    if (radar_engine_open(&e, MPI_COMM_NULL, &opt, error, sizeof error) != RADAR_OK) {
        if (getenv("RADAR_NO_MODEL")) skip();
        fail_msg("%s", error);
    }
    return e;
}

static radar_session_options options(const char *prefill) {
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    opt.context = TOKENS;
    opt.attention = "dense";
    opt.prefill = prefill;
    opt.dense_prefill = 0;
    opt.window = 32;
    opt.segments = 2;
    return opt;
}

static radar_model_info info_of(const radar_engine *e) {
    radar_model_info info = {.size = sizeof info};
    radar_engine_info(e, &info);
    return info;
}

/* The prompt's last logits [vocab], prefilled in two calls cut at `cut`, and the tokens a query read. */
static float *prompted(radar_engine *e, const radar_session_options *opt, size_t cut,
                       double *attended) {
    const radar_model_info info = info_of(e);
    int32_t token[PROMPT];
    radar_session *s;
    radar_session_stats stats = {.size = sizeof stats};
    uint32_t x = 7;
    for (int i = 0; i < PROMPT; i++) {
        x = x * 1664525u + 1013904223u;
        token[i] = (int32_t)((x >> 8) % (uint32_t)info.vocab);
    }
    float *logits = must(radar_alloc((size_t)info.vocab * sizeof *logits));
    if (radar_session_open(&s, e, opt) != RADAR_OK) fail_msg("%s", radar_last_error(e));
    assert_int_equal(radar_prefill(s, token, cut), RADAR_OK);
    assert_int_equal(radar_prefill(s, token + cut, PROMPT - cut), RADAR_OK);
    assert_int_equal(radar_stats(s, &stats), RADAR_OK);
    if (attended) *attended = stats.prefill_attended_tokens_mean;
    memcpy(logits, radar_logits(s), (size_t)info.vocab * sizeof *logits);
    radar_session_close(s);
    return logits;
}

/* Whether both prefills leave the same bits. */
static bool same(radar_engine *e, const radar_session_options *a, size_t cut_a,
                 const radar_session_options *b, size_t cut_b) {
    float *x = prompted(e, a, cut_a, NULL), *y = prompted(e, b, cut_b, NULL);
    bool equal = memcmp(x, y, (size_t)info_of(e).vocab * sizeof *x) == 0;
    radar_free(x), radar_free(y);
    return equal;
}

static void everything_chosen_gives_the_bits_of_a_dense_prefill(void **state) {
    (void)state;
    const int chunks[] = {48, 512}; /* the first cuts blocks and runs */
    for (int i = 0; i < COUNT(chunks); i++) {
        radar_engine *e = engine_of(TINY, chunks[i]);
        radar_session_options dense = options("dense"), all = options("radar"), few = all;
        all.segments = 1000;
        assert_true(same(e, &dense, 0, &all, 0));
        assert_true(same(e, &dense, 0, &all, 591)); /* 59 rows of two blocks, 5 runs */
        all.share = "head", all.scorer = "minmax";
        assert_true(same(e, &dense, 0, &all, 0));
        all.select = "local", all.scorer = "mean", all.segment = 64;
        assert_true(same(e, &dense, 0, &all, 0));
        assert_false(same(e, &dense, 0, &few, 0));
        radar_engine_close(e);
    }
}

static void dense_prefill_covers_whole_blocks(void **state) {
    (void)state;
    radar_engine *e = engine_of(TINY, 512);
    radar_session_options dense = options("dense"), first = options("radar"), more = first;
    first.dense_prefill =
        641; /* of blocks [0, 64), [64, 128) ... the last that begins before is [640, 704) */
    assert_true(same(e, &dense, 0, &first, 0));
    first.dense_prefill = 513;
    more.dense_prefill = 576;
    assert_true(same(e, &first, 0, &more, 0));
    more.dense_prefill = 512;
    assert_false(same(e, &first, 0, &more, 0));
    radar_engine_close(e);
}

static void a_prefill_cut_at_a_chunk_gives_the_bits_of_one(void **state) {
    (void)state;
    const int chunks[] = {48, 128};
    for (int i = 0; i < COUNT(chunks); i++) {
        radar_engine *e = engine_of(TINY, chunks[i]);
        radar_session_options opt = options("radar");
        assert_true(same(e, &opt, 0, &opt, 384));
        radar_engine_close(e);
    }
}

/* The latest segments of the candidates, whatever the queries: what is read is known in advance, and at a multiple of the block the
 * chunk changes nothing. */
static void what_is_read_is_counted(void **state) {
    (void)state;
    radar_session_options opt = options("radar");
    double sum = 0, got[2];
    float *logits[2];
    opt.pick = "last";
    opt.segments = 3;
    for (int p = 0; p < PROMPT; p++) {
        int first = p / 64 * 64, end = first + 1 > 32 ? (first + 1 - 32) / 64 * 4 : 0;
        int candidates = end > 1 ? end - 1 : 0, chosen = candidates < 3 ? candidates : 3;
        sum += p + 1 - 16 * candidates + 16 * chosen;
    }
    const int chunks[] = {64, 512};
    for (int i = 0; i < 2; i++) {
        radar_engine *e = engine_of(TINY, chunks[i]);
        logits[i] = prompted(e, &opt, 0, &got[i]);
        assert_true(got[i] == sum / PROMPT);
        if (i) assert_memory_equal(logits[0], logits[1], (size_t)info_of(e).vocab * sizeof(float));
        radar_engine_close(e);
    }
    radar_free(logits[0]), radar_free(logits[1]);
}

static void attentions_that_learn_from_the_prompt_are_refused(void **state) {
    (void)state;
    static const char *const learns[] = {"h2o", "snapkv", "subgen", "paper", "code"};
    radar_engine *e = engine_of(TINY, 512);
    for (int i = 0; i < COUNT(learns); i++) {
        radar_session_options opt = options("radar");
        radar_session *s;
        opt.attention = learns[i];
        assert_int_equal(radar_session_open(&s, e, &opt), RADAR_ERR_CONFIG);
        assert_non_null(strstr(radar_last_error(e), learns[i]));
        assert_non_null(strstr(radar_last_error(e), "--prefill dense"));
    }
    radar_engine_close(e);
}

/* ---- a real text ---- */

/* Loss of tokens 1,793 to 2,048 of a real text, attended densely after a prefill that chose 128 tokens a query and head, against
 * what an independent implementation says of dense attention all along. */
static void a_real_text_loses_little(void **state) {
    (void)state;
    enum { N = 2048, FROM = 1792 };
    radar_engine *e = engine_of("build/models/SmolLM2-135M-Instruct.Q4_1.gguf", 512);
    int32_t *token = golden("ids-kjv-4096.u32", 4096 * 4);
    float *dense = golden("nll-kjv-4096.f32", 4095 * 4);
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    radar_session_stats stats = {.size = sizeof stats};
    size_t vocab = (size_t)info_of(e).vocab;
    float *logits = must(radar_alloc((N - FROM) * vocab * sizeof *logits));
    double above = 0;
    radar_session *s;
    opt.context = N, opt.attention = "dense", opt.prefill = "radar";
    opt.dense_prefill = 512, opt.budget = 128;
    assert_int_equal(radar_session_open(&s, e, &opt), RADAR_OK);
    assert_int_equal(radar_prefill(s, token, FROM), RADAR_OK);
    assert_int_equal(radar_stats(s, &stats), RADAR_OK);
    assert_int_equal(radar_score(s, token + FROM, N - FROM, logits), RADAR_OK);
    for (int i = 0; i < N - FROM; i++) {
        const float *x = logits + (size_t)i * vocab;
        double sum = 0;
        for (size_t j = 0; j < vocab; j++) sum += exp((double)x[j]);
        above += log(sum) - (double)x[token[FROM + i + 1]] - (double)dense[FROM + i];
    }
    above /= N - FROM;
    print_message("    %.0f tokens read a query (dense %.0f), %+.4f nats above dense\n",
                  stats.prefill_attended_tokens_mean, (FROM + 1) / 2.0, above);
    assert_true(stats.prefill_attended_tokens_mean < 0.8 * (FROM + 1) / 2);
    assert_true(above < 0.05 && above > -0.05);
    radar_session_close(s);
    radar_engine_close(e);
    radar_free(token), radar_free(dense), radar_free(logits);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_attends_to_the_union_of_what_its_runs_choose),
        cmocka_unit_test(everything_chosen_gives_the_bits_of_a_dense_prefill),
        cmocka_unit_test(dense_prefill_covers_whole_blocks),
        cmocka_unit_test(a_prefill_cut_at_a_chunk_gives_the_bits_of_one),
        cmocka_unit_test(what_is_read_is_counted),
        cmocka_unit_test(attentions_that_learn_from_the_prompt_are_refused),
        cmocka_unit_test(a_real_text_loses_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
