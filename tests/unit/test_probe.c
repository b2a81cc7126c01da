/* What an observer sees, against a slow double-precision softmax over keys and values read from the cache. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/radar.h"
#include "runtime/sys.h"

enum { N = 440, FROM = 400, VOCAB = 128, L = 2, H = 4, G = 2, D = 32, GROUP = H / G, MOST = 64 };

/* A deep copy: the arrays of an observation are good during the call only. */
typedef struct seen {
    radar_observation o;
    float q[H][D], output[H][D], dense_output[H][D], mass[H], dense_mass[H], coverage[H];
    float exact[H][MOST], estimate[H][MOST];
    unsigned char chosen[H][MOST];
} seen;

typedef struct journal {
    seen row[(N - FROM) * L];
    int n;
} journal;

static journal book;
static float keys[L][G][N][D], values[L][G][N][D];

static void note(void *user, const radar_observation *o) {
    journal *j = user;
    assert_int_equal(o->size, sizeof *o);
    assert_true(j->n < (N - FROM) * L && o->heads == H && o->head_dim == D && o->layers == L);
    assert_true(o->candidates <= MOST);
    seen *s = &j->row[j->n++];
    *s = (seen){.o = *o};
    memcpy(s->q, o->q, sizeof s->q);
    memcpy(s->output, o->output, sizeof s->output);
    memcpy(s->dense_output, o->dense_output, sizeof s->dense_output);
    memcpy(s->mass, o->mass, sizeof s->mass);
    memcpy(s->dense_mass, o->dense_mass, sizeof s->dense_mass);
    memcpy(s->coverage, o->coverage, sizeof s->coverage);
    for (int h = 0; h < H; h++) {
        size_t n = (size_t)o->candidates, at = (size_t)h * n;
        memcpy(s->exact[h], o->exact + at, n * sizeof(float));
        memcpy(s->estimate[h], o->estimate + at, n * sizeof(float));
        memcpy(s->chosen[h], o->chosen + at, n);
    }
}

static radar_engine *open_engine(void) {
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_engine *e;
    char error[512] = "";
    opt.model = "tests/golden/tiny/qwen3-qknorm-bf16";
    opt.stripe = 64;
    if (radar_engine_open(&e, MPI_COMM_NULL, &opt, error, sizeof error) != RADAR_OK)
        fail_msg("%s", error);
    return e;
}

static radar_session_options options(void) {
    radar_session_options opt = RADAR_SESSION_OPTIONS_DEFAULT;
    opt.context = N, opt.kv_type = "f32", opt.dense_below = 0, opt.window = 32, opt.segments = 3;
    return opt;
}

static void fill_ids(int32_t *ids) {
    for (int i = 0; i < N; i++) ids[i] = (int32_t)((unsigned)(i * 2654435761u >> 7) % VOCAB);
}

/* Scores [FROM, N) under opt; with every > 0 the book is filled and the cache read.  logits may be NULL. */
static void score(const radar_session_options *opt, int64_t every, float *logits) {
    int32_t ids[N];
    fill_ids(ids);
    radar_engine *e = open_engine();
    radar_session *s;
    if (radar_session_open(&s, e, opt) != RADAR_OK) fail_msg("%s", radar_last_error(e));
    assert_int_equal(radar_prefill(s, ids, FROM), RADAR_OK);
    if (every) {
        book.n = 0;
        assert_int_equal(radar_session_observe(s, note, &book, every), RADAR_OK);
    }
    assert_int_equal(radar_score(s, ids + FROM, N - FROM, logits), RADAR_OK);
    for (int l = 0; every && l < L; l++)
        for (int g = 0; g < G; g++)
            assert_int_equal(radar_session_read(s, l, g, 0, N, keys[l][g][0], values[l][g][0]),
                             RADAR_OK);
    radar_session_close(s);
    radar_engine_close(e);
    assert_int_equal(radar_alloc_live(), 0);
}

/* ---- the reference ---- */

static double logit(const seen *s, int h, int64_t i) {
    double sum = 0;
    const float *k = keys[s->o.layer][h / GROUP][i];
    for (int d = 0; d < D; d++) sum += (double)s->q[h][d] * (double)k[d];
    return sum / sqrt(D);
}

/* Attention of head h over the positions attended[0 .. row]: output, and ln of the mass. */
static double attention(const seen *s, int h, const unsigned char *attended, double out[D]) {
    double m = -INFINITY, l = 0;
    memset(out, 0, D * sizeof *out);
    for (int64_t i = 0; i <= s->o.position; i++)
        if (attended[i]) m = fmax(m, logit(s, h, i));
    for (int64_t i = 0; i <= s->o.position; i++) {
        if (!attended[i]) continue;
        double p = exp(logit(s, h, i) - m);
        l += p;
        for (int d = 0; d < D; d++) out[d] += p * (double)values[s->o.layer][h / GROUP][i][d];
    }
    for (int d = 0; d < D; d++) out[d] /= l;
    return m + log(l);
}

static double worst, worst_output;

static void near(double got, double want, double tolerance) {
    double d = fabs(got - want);
    if (!(d <= tolerance)) fail_msg("%.9g, reference %.9g", got, want);
    worst = fmax(worst, d);
}

static void check_dense(const seen *s, int h) {
    unsigned char all[N];
    double out[D];
    memset(all, 1, sizeof all);
    near((double)s->dense_mass[h], attention(s, h, all, out), 1e-4);
    for (int d = 0; d < D; d++) near((double)s->dense_output[h][d], out[d], 1e-5);
}

static void check_exact(const seen *s, int h) {
    for (int64_t c = 0; c < s->o.candidates; c++) {
        double sum = 0;
        int64_t first = s->o.first_candidate + c * s->o.segment;
        for (int64_t i = first; i < first + s->o.segment; i++) sum += exp(logit(s, h, i));
        near((double)s->exact[h][c], log(sum), 1e-4);
    }
}

/* What was attended is what the lists say: the union of the group's, or each head its own. */
static void check_attended(const seen *s, int h, int share_head) {
    unsigned char attended[N];
    double out[D];
    memset(attended, 1, sizeof attended);
    for (int64_t c = 0; c < s->o.candidates; c++) {
        int in = 0;
        for (int j = 0; j < H; j++)
            if (share_head ? j == h : j / GROUP == h / GROUP) in |= s->chosen[j][c];
        memset(attended + s->o.first_candidate + c * s->o.segment, in, (size_t)s->o.segment);
    }
    near((double)s->mass[h], attention(s, h, attended, out), 1e-4);
    for (int d = 0; d < D; d++) {
        near((double)s->output[h][d], out[d], 1e-5);
        worst_output = fmax(worst_output, fabs(out[d] - (double)s->dense_output[h][d]));
    }
}

static void check_book(const radar_session_options *opt) {
    int share_head = strcmp(opt->share, "head") == 0;
    worst = worst_output = 0;
    assert_int_equal(book.n, (N - FROM) * L);
    for (int r = 0; r < book.n; r++) {
        const seen *s = &book.row[r];
        assert_true(s->o.candidates >= 18 && s->o.keep == 3);
        assert_int_equal(s->o.first_candidate, 16);
        for (int h = 0; h < H; h++) {
            check_dense(s, h);
            check_exact(s, h);
            check_attended(s, h, share_head);
        }
    }
    assert_true(worst_output > 1e-4); /* something was left out */
}

/* ---- the tests ---- */

static void dense_attention_observes_itself(void **state) {
    (void)state;
    radar_session_options opt = options();
    opt.attention = "dense";
    score(&opt, 1, NULL);
    assert_int_equal(book.n, (N - FROM) * L);
    for (int r = 0; r < book.n; r++) {
        const seen *s = &book.row[r];
        assert_int_equal(s->o.position, FROM + r % (N - FROM));
        assert_int_equal(s->o.layer, r / (N - FROM));
        assert_int_equal(s->o.candidates, 0);
        assert_memory_equal(s->output, s->dense_output, sizeof s->output);
        assert_memory_equal(s->mass, s->dense_mass, sizeof s->mass);
        for (int h = 0; h < H; h++) {
            assert_true(s->coverage[h] == 1);
            check_dense(s, h);
        }
    }
}

static void every_way_of_choosing_is_seen_as_it_attends(void **state) {
    (void)state;
    static const struct {
        const char *scorer, *share, *pick, *select, *scan;
    } way[] = {{"sketch", "group", "top", "global", "full"},
               {"mean", "head", "top", "global", "full"},
               {"rf", "group", "bottom", "global", "full"},
               {"sketch", "group", "random", "global", "full"},
               {"sketch", "head", "random", "local", "full"},
               {"exact", "group", "top", "local", "full"},
               {"sketch", "group", "last", "global", "full"},
               {"sketch", "head", "top", "global", "progressive"},
               {"sketch", "group", "top", "local", "progressive"}};
    for (size_t i = 0; i < sizeof way / sizeof way[0]; i++) {
        radar_session_options opt = options();
        opt.scorer = way[i].scorer, opt.share = way[i].share, opt.pick = way[i].pick,
        opt.select = way[i].select, opt.scan = way[i].scan;
        score(&opt, 1, NULL);
        check_book(&opt);
        print_message(
            "    %s, %s, %s, %s, %s: worst difference %.2g; left out changes outputs by %.2g\n",
            way[i].scorer, way[i].share, way[i].pick, way[i].select, way[i].scan, worst,
            worst_output);
    }
}

static void the_oracle_chooses_the_largest_masses(void **state) {
    (void)state;
    radar_session_options opt = options();
    opt.scorer = "exact";
    score(&opt, 1, NULL);
    check_book(&opt);
    for (int r = 0; r < book.n; r++) {
        const seen *s = &book.row[r];
        for (int h = 0; h < H; h++) {
            int chosen = 0;
            assert_memory_equal(s->exact[h], s->estimate[h],
                                (size_t)s->o.candidates * sizeof(float));
            for (int64_t c = 0; c < s->o.candidates; c++) {
                int larger = 0;
                for (int64_t j = 0; j < s->o.candidates; j++)
                    larger += s->exact[h][j] > s->exact[h][c] ||
                              (s->exact[h][j] == s->exact[h][c] && j < c);
                assert_int_equal(s->chosen[h][c], larger < 3);
                chosen += s->chosen[h][c];
            }
            assert_int_equal(chosen, 3);
        }
    }
}

static void watching_changes_nothing(void **state) {
    (void)state;
    static float alone[(N - FROM) * VOCAB], watched[(N - FROM) * VOCAB];
    static const char *const attention[] = {"radar", "streaming"};
    for (int i = 0; i < 2; i++) {
        radar_session_options opt = options();
        opt.attention = attention[i], opt.kv_type = "f16";
        score(&opt, 0, alone);
        score(&opt, 3, watched);
        assert_memory_equal(alone, watched, sizeof alone);
        assert_int_equal(book.n, 13 * L); /* 402, 405, ... 438 */
        for (int r = 0; r < book.n; r++) {
            assert_int_equal(book.row[r].o.position, 402 + 3 * (r % 13));
            assert_true((book.row[r].o.candidates > 0) == (i == 0));
            for (int h = 0; h < H; h++)
                assert_true(book.row[r].mass[h] < book.row[r].dense_mass[h]);
        }
    }
}

static void rows_attended_densely_have_no_candidates(void **state) {
    (void)state;
    radar_session_options opt = options();
    opt.dense_below = FROM + 21;
    score(&opt, 1, NULL);
    for (int r = 0; r < book.n; r++)
        assert_true((book.row[r].o.candidates == 0) == (book.row[r].o.position < FROM + 20));
}

static void an_observer_follows_a_change_of_attention_and_can_be_removed(void **state) {
    (void)state;
    int32_t ids[N], token;
    radar_session_options opt = options();
    radar_engine *e = open_engine();
    radar_session *s;
    fill_ids(ids);
    opt.scorer = "mean";
    assert_int_equal(radar_session_open(&s, e, &opt), RADAR_OK);
    assert_int_equal(radar_prefill(s, ids, FROM), RADAR_OK);
    book.n = 0;
    assert_int_equal(radar_session_observe(s, note, &book, 1), RADAR_OK);
    opt.scorer = "rf", opt.rf_features = 2048; /* prepared queries are longer */
    assert_int_equal(radar_session_reconfigure(s, &opt), RADAR_OK);
    assert_int_equal(radar_score(s, ids + FROM, 2, NULL), RADAR_OK);
    assert_int_equal(book.n, 2 * L);
    assert_int_equal(radar_step(s, &token), RADAR_OK);
    assert_int_equal(radar_step(s, &token), RADAR_OK);
    assert_int_equal(book.n, 3 * L);
    assert_int_equal(book.row[2 * L].o.position, FROM + 2);
    assert_int_equal(radar_session_observe(s, note, &book, 0), RADAR_ERR_USAGE);
    assert_int_equal(radar_session_observe(s, NULL, NULL, 0), RADAR_OK);
    assert_int_equal(radar_step(s, &token), RADAR_OK);
    assert_int_equal(book.n, 3 * L);
    radar_session_close(s);
    radar_engine_close(e);
    assert_int_equal(radar_alloc_live(), 0);
}

static void any_range_can_be_read_and_no_other(void **state) {
    (void)state;
    static float part[N][D], whole[N][D];
    int32_t ids[N];
    static const char *const types[] = {"f32", "f16", "bf16"};
    radar_engine *e = open_engine();
    fill_ids(ids);
    for (int t = 0; t < 3; t++) {
        radar_session_options opt = options();
        radar_session *s;
        double rounding = t == 0 ? 0 : t == 1 ? 1e-3 : 1e-2;
        opt.kv_type = types[t];
        assert_int_equal(radar_session_open(&s, e, &opt), RADAR_OK);
        assert_int_equal(radar_prefill(s, ids, FROM), RADAR_OK);
        assert_int_equal(radar_session_read(s, 0, 1, 0, FROM, whole[0], NULL), RADAR_OK);
        assert_int_equal(radar_session_read(s, 0, 1, 61, 133, part[0], NULL), RADAR_OK);
        assert_memory_equal(part[0], whole[61], 133 * sizeof part[0]);
        for (int i = 0; i < FROM; i++) /* layer 0 depends on the tokens alone */
            for (int d = 0; d < D; d++)
                assert_true(fabs((double)whole[i][d] - (double)keys[0][1][i][d]) <=
                            rounding * fabs((double)keys[0][1][i][d]));
        assert_int_equal(radar_session_read(s, 0, 1, FROM, 0, part[0], NULL), RADAR_OK);
        assert_int_equal(radar_session_read(s, L, 0, 0, 1, part[0], NULL), RADAR_ERR_USAGE);
        assert_int_equal(radar_session_read(s, 0, G, 0, 1, part[0], NULL), RADAR_ERR_USAGE);
        assert_int_equal(radar_session_read(s, 0, 0, 1, FROM, part[0], NULL), RADAR_ERR_USAGE);
        assert_int_equal(radar_session_read(s, 0, 0, -1, 1, part[0], NULL), RADAR_ERR_USAGE);
        radar_session_close(s);
    }
    radar_engine_close(e);
    assert_int_equal(radar_alloc_live(), 0);
}

/* ---- the demo model ---- */

#define DEMO "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"
enum { DEMO_FROM = 500, DEMO_ROWS = 2, DEMO_H = 9, DEMO_D = 64, DEMO_LAYER = 15, DEMO_MOST = 32 };

typedef struct demo_seen {
    float q[DEMO_H][DEMO_D], mass[DEMO_H], dense_mass[DEMO_H], exact[DEMO_H][DEMO_MOST];
    int64_t position, first_candidate, candidates;
    int rows;
} demo_seen;

static void note_one_layer(void *user, const radar_observation *o) {
    demo_seen *s = user;
    if (o->layer != DEMO_LAYER) return;
    assert_true(o->candidates > 0 && o->candidates <= DEMO_MOST);
    s->rows++;
    s->position = o->position, s->first_candidate = o->first_candidate;
    s->candidates = o->candidates;
    memcpy(s->q, o->q, sizeof s->q);
    memcpy(s->mass, o->mass, sizeof s->mass);
    memcpy(s->dense_mass, o->dense_mass, sizeof s->dense_mass);
    for (int h = 0; h < DEMO_H; h++)
        memcpy(s->exact[h], o->exact + h * o->candidates, (size_t)o->candidates * sizeof(float));
}

static double demo_mass(const float *q, float k[][DEMO_D], int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t i = begin; i < end; i++) {
        double dot = 0;
        for (int d = 0; d < DEMO_D; d++) dot += (double)q[d] * (double)k[i][d];
        sum += exp(dot / sqrt(DEMO_D));
    }
    return log(sum);
}

static void the_demo_model_is_seen_alike(void **state) {
    (void)state;
    static float k[DEMO_FROM + DEMO_ROWS][DEMO_D];
    static demo_seen got;
    int32_t *ids = malloc(4096 * sizeof *ids);
    FILE *f = fopen("tests/golden/ids-kjv-4096.u32", "rb");
    radar_engine_options opt = RADAR_ENGINE_OPTIONS_DEFAULT;
    radar_session_options so = options();
    radar_engine *e;
    radar_session *s;
    char error[512] = "";
    assert_int_equal(fread(ids, sizeof *ids, 4096, f), 4096);
    fclose(f);
    opt.model = DEMO;
    so.context = DEMO_FROM + DEMO_ROWS;
    if (radar_engine_open(&e, MPI_COMM_NULL, &opt, error, sizeof error) != RADAR_OK) {
        free(ids);
        if (!getenv("RADAR_NO_MODEL")) fail_msg("%s", error);
        skip();
    }
    assert_int_equal(radar_session_open(&s, e, &so), RADAR_OK);
    assert_int_equal(radar_prefill(s, ids, DEMO_FROM), RADAR_OK);
    assert_int_equal(radar_session_observe(s, note_one_layer, &got, 1), RADAR_OK);
    assert_int_equal(radar_score(s, ids + DEMO_FROM, DEMO_ROWS, NULL), RADAR_OK);
    assert_int_equal(got.rows, DEMO_ROWS);
    worst = 0;
    for (int h = 0; h < DEMO_H; h++) {
        if (h % 3 == 0)
            assert_int_equal(radar_session_read(s, DEMO_LAYER, h / 3, 0, so.context, k[0], NULL),
                             RADAR_OK);
        near((double)got.dense_mass[h], demo_mass(got.q[h], k, 0, got.position + 1), 1e-4);
        assert_true(got.mass[h] < got.dense_mass[h]);
        for (int64_t c = 0; c < got.candidates; c++) {
            int64_t first = got.first_candidate + 16 * c;
            near((double)got.exact[h][c], demo_mass(got.q[h], k, first, first + 16), 1e-4);
        }
    }
    print_message("    worst difference of a mass %.2g\n", worst);
    radar_session_close(s);
    radar_engine_close(e);
    free(ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_attention_observes_itself),
        cmocka_unit_test(every_way_of_choosing_is_seen_as_it_attends),
        cmocka_unit_test(the_oracle_chooses_the_largest_masses),
        cmocka_unit_test(watching_changes_nothing),
        cmocka_unit_test(rows_attended_densely_have_no_candidates),
        cmocka_unit_test(an_observer_follows_a_change_of_attention_and_can_be_removed),
        cmocka_unit_test(any_range_can_be_read_and_no_other),
        cmocka_unit_test(the_demo_model_is_seen_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
