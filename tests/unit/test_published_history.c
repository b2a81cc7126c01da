/* The published Radar: rows together, rows taken back, a whole decoder, refusals. */
#include "tests/unit/published_rig.h"

#include "runtime/radar.h"

/* ---- rows together, rows taken back ---- */

/* Rows [from, to) of t, `n` at a time, into out [ROWS, H, D]. */
static void run_rows(rig *r, const tokens *t, int from, int to, int n, float *out) {
    for (int at = from; at < to; at += n) {
        int rows = to - at < n ? to - at : n;
        rig_rows(r, at, rows, t->q + at * H * D);
        memcpy(out + at * H * D, r->out, (size_t)(rows * H * D) * sizeof *out);
    }
}

/* What a dense prefill from `position` on tells the policy. */
static void prefilled(rig *r, int64_t position) {
    radar_select s = {
        .kv = &r->kv, .n_rows = 1, .position = &position, .state = r->p, .prefill = true};
    assert_int_equal(radar_policy_code.attended(&s), RADAR_OK);
}

/* Both have been rebuilt at the same rows and hold the same bits. */
static void check_same_state(const radar_published *a, const radar_published *b) {
    const radar_published_layer *l = &a->layer[0];
    assert_int_equal(l->n_built, b->layer[0].n_built);
    assert_memory_equal(l->built, b->layer[0].built, (size_t)l->n_built * sizeof *l->built);
    assert_int_equal(l->segments, b->layer[0].segments);
    assert_memory_equal(a->normaliser, b->normaliser, 2 * G * sizeof *a->normaliser);
    for (int g = 0; g < G; g++)
        assert_memory_equal(a->summary + g * a->most_segments * a->F,
                            b->summary + g * a->most_segments * a->F,
                            (size_t)(l->segments * a->F) * sizeof *a->summary);
}

/* A run that goes to the end, back to `back`, and on with other tokens, against one that never was beyond.  prefill: so many
 * tokens come anew as a prefill, without a rewind, as after a pass that was stopped. */
static void check_back(const radar_published_rule *rule, const tokens *t, const tokens *other,
                       int first, int back, int prefill) {
    static float out[ROWS * H * D], fresh[ROWS * H * D];
    int on = back + prefill;
    rig a, b;
    open_with(&a, rule, t);
    open_with(&b, rule, t);
    run_rows(&a, t, first, ROWS, 7, out);
    if (prefill)
        prefilled(&a, back);
    else
        assert_true(radar_policy_code.rewind(a.p, back));
    for (int i = 0; i < 2; i++)
        rig_put(i ? &a : &b, back, ROWS - back, other->k + back * G * D, other->v + back * G * D);
    run_rows(&a, other, on, ROWS, 16, out);
    run_rows(&b, t, first, back, 1, fresh);
    run_rows(&b, other, on, ROWS, 1, fresh);
    if (memcmp(out + on * H * D, fresh + on * H * D, (size_t)((ROWS - on) * H * D) * sizeof *out))
        fail_msg("%s: rows from %d on differ after going back", rule->code ? "code" : "paper", on);
    check_same_state(a.p, b.p);
    rig_close(&a), rig_close(&b);
}

static void rows_together_and_rows_taken_back_change_no_bit(void **state) {
    (void)state;
    tokens t = make_tokens(51, 1), other = make_tokens(61, 1);
    const int back[] = {0, 401, 153, 537, 60, 640, 280};
    for (int variant = 0; variant < 4; variant++) {
        radar_published_rule rule = rule_of(variant % 2);
        for (int i = 0; i < COUNT(back); i++) /* rows from 0 on, or from where a prefill ended */
            check_back(&rule, &t, &other, i % 2 ? 300 : 0, back[i], variant / 2 * 40);
    }
    free_tokens(&t), free_tokens(&other);
}

/* ---- a whole decoder ---- */

enum { PROMPT = 150, TEXT = 260, VOCAB = 128 };

static radar_engine *open_engine(int shards) {
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e;
    char error[512] = "";
    opt.model = "tests/golden/tiny/llama-tied-f32";
    opt.shards = shards;
    opt.threads = 1;
    if (radar_engine_open(&e, MPI_COMM_NULL, &opt, error, sizeof error) != RADAR_OK)
        fail_msg("%s", error);
    return e;
}

static radar_session_options options_of(const char *attention) {
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    opt.attention = attention;
    opt.context = 300;
    opt.window = 16;
    opt.sinks = 1;
    opt.segments = 4;
    return opt;
}

static void more_than_one_shard_is_refused(void **state) {
    (void)state;
    const char *const names[] = {"paper", "code"};
    radar_engine *e = open_engine(8);
    for (int i = 0; i < 2; i++) {
        radar_session *s;
        radar_session_options opt = options_of(names[i]);
        assert_int_equal(radar_session_open(&s, e, &opt), RADAR_ERR_CONFIG);
        assert_null(s);
        assert_non_null(strstr(radar_last_error(e), names[i]));
        assert_non_null(strstr(radar_last_error(e), "use --shards 1"));
    }
    radar_engine_close(e);
    assert_int_equal(radar_alloc_live(), 0);
}

static void fill_text(int32_t *ids) {
    for (int i = 0; i < TEXT; i++) ids[i] = (int32_t)(radar_random(7, 99, (uint64_t)i) % VOCAB);
}

/* Position by position from `back` on, as far as `logits` of [PROMPT, TEXT) go. */
static void decode_again(radar_session *s, const int32_t *ids, int64_t back, const float *logits) {
    float row[VOCAB];
    assert_int_equal(radar_rewind(s, back), RADAR_OK);
    if (back < PROMPT)
        assert_int_equal(radar_prefill(s, ids + back, (size_t)(PROMPT - back)), RADAR_OK);
    for (int64_t at = radar_max64(back, PROMPT); at < TEXT; at++) {
        assert_int_equal(radar_score(s, ids + at, 1, row), RADAR_OK);
        assert_memory_equal(row, logits + (at - PROMPT) * VOCAB, sizeof row);
    }
}

/* Logits of positions [PROMPT, TEXT) of a new session, all at once; then again from n_back positions. */
static void decode(radar_engine *e, const radar_session_options *opt, float *logits,
                   radar_session_stats *stats, const int64_t *back, int n_back) {
    int32_t ids[TEXT];
    radar_session *s;
    fill_text(ids);
    assert_int_equal(radar_session_open(&s, e, opt), RADAR_OK);
    assert_int_equal(radar_prefill(s, ids, PROMPT), RADAR_OK);
    assert_int_equal(radar_score(s, ids + PROMPT, TEXT - PROMPT, logits), RADAR_OK);
    *stats = (radar_session_stats){.size = sizeof *stats};
    assert_int_equal(radar_stats(s, stats), RADAR_OK);
    for (int i = 0; i < n_back; i++) decode_again(s, ids, back[i], logits);
    radar_session_close(s);
}

static void a_decoder_gives_the_same_bits_row_by_row_and_after_a_rewind(void **state) {
    (void)state;
    static float logits[3][(TEXT - PROMPT) * VOCAB];
    const char *const names[] = {"paper", "code"};
    const int64_t back[] = {PROMPT, 100, 200, TEXT - 1};
    radar_engine *e = open_engine(1);
    radar_session_stats stats;
    for (int i = 0; i < 2; i++) {
        radar_session_options opt = options_of(names[i]);
        decode(e, &opt, logits[0], &stats, back, COUNT(back));
        assert_int_equal(stats.steps, TEXT - PROMPT);
        assert_true(stats.segments_scored > 0 && stats.attended_tokens_mean > 0);
        assert_true(stats.coverage_mean == 1 && stats.candidate_shards == 1);
        opt.scorer = "exact";
        decode(e, &opt, logits[1], &stats, NULL, 0);
        assert_memory_not_equal(logits[0], logits[1], sizeof logits[0]);
        opt.segments = 1000; /* never so many: everything is attended */
        decode(e, &opt, logits[1], &stats, NULL, 0);
        assert_int_equal(stats.segments_scored, 0);
        opt = options_of("dense");
        decode(e, &opt, logits[2], &stats, NULL, 0);
        assert_memory_equal(logits[1], logits[2], sizeof logits[1]);
    }
    radar_engine_close(e);
    assert_int_equal(radar_alloc_live(), 0);
}

static void score_under(radar_session *s, const char *attention, const int32_t *ids, int64_t end,
                        float *logits) {
    int64_t from = radar_position(s);
    assert_int_equal(radar_session_set_attention(s, attention), RADAR_OK);
    assert_int_equal(radar_score(s, ids + from, (size_t)(end - from), logits), RADAR_OK);
}

/* Rows behind those of another attention are forgotten too when the session goes back, whatever comes in their place. */
static void rows_behind_another_attention_are_taken_back(void **state) {
    (void)state;
    const char *const names[] = {"paper", "code"};
    const int64_t from = PROMPT + 1, on = TEXT - 10;
    static float first[TEXT * VOCAB], want[10 * VOCAB], got[10 * VOCAB];
    int32_t ids[TEXT], other[TEXT];
    radar_engine *e = open_engine(1);
    fill_text(ids);
    for (int i = 0; i < TEXT; i++) other[i] = i < from ? ids[i] : (ids[i] + 50) % VOCAB;
    for (int i = 0; i < 2; i++) {
        radar_session_options opt = options_of(names[i]);
        radar_session *s, *fresh;
        assert_int_equal(radar_session_open(&s, e, &opt), RADAR_OK);
        assert_int_equal(radar_session_open(&fresh, e, &opt), RADAR_OK);
        assert_int_equal(radar_prefill(s, ids, PROMPT), RADAR_OK);
        score_under(s, "dense", ids, from, first);
        score_under(s, names[i], ids, TEXT, first);
        assert_int_equal(radar_rewind(s, from), RADAR_OK);
        score_under(s, "dense", other, on, first);
        score_under(s, names[i], other, TEXT, got);
        assert_int_equal(radar_prefill(fresh, ids, PROMPT), RADAR_OK);
        score_under(fresh, "dense", other, on, first);
        score_under(fresh, names[i], other, TEXT, want);
        assert_memory_equal(got, want, sizeof got);
        radar_session_close(s);
        radar_session_close(fresh);
    }
    radar_engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_together_and_rows_taken_back_change_no_bit),
        cmocka_unit_test(more_than_one_shard_is_refused),
        cmocka_unit_test(a_decoder_gives_the_same_bits_row_by_row_and_after_a_rewind),
        cmocka_unit_test(rows_behind_another_attention_are_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
