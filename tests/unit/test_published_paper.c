/* The published Radar, `paper`, against its formulas in double (published.h, rf.h); and the picks of both forms. */
#include "tests/unit/published_rig.h"

/* ---- paper, in double ---- */

/* phi_i(u) = n^(-1/2) exp(w_i . u' - |u'|^2 / 2), u' = u D^(-1/4); omega [D, N] */
static void phi_ref(double *phi, const float *omega, const float *u) {
    double square = 0, root = pow(D, -0.25);
    for (int d = 0; d < D; d++) square += (u[d] * root) * (u[d] * root);
    for (int i = 0; i < N; i++) {
        double a = 0;
        for (int d = 0; d < D; d++) a += (double)omega[d * N + i] * (u[d] * root);
        phi[i] = exp(a - square / 2) / sqrt(N);
    }
}

/* phi(q) . mean of phi(k) over the segment */
static double score_ref(const double *phi_q, const double (*phi_k)[G][N], int g, int first, int c) {
    double sum = 0;
    for (int t = first; t < first + c; t++)
        for (int i = 0; i < N; i++) sum += phi_q[i] * phi_k[t][g][i];
    return sum / c;
}

/* Softmax attention of a head of row `at` over the positions marked in `attended`. */
static double out_error(const float *got, const tokens *t, int at, int head, const bool *attended) {
    double most = -INFINITY, sum = 0, o[D] = {0}, logit[ROWS], worst = 0;
    int g = head / (H / G);
    for (int p = 0; p <= at; p++) {
        logit[p] = 0;
        for (int d = 0; d < D; d++)
            logit[p] += (double)t->q[(at * H + head) * D + d] * t->k[(p * G + g) * D + d] / 8;
        if (attended[p]) most = fmax(most, logit[p]);
    }
    for (int p = 0; p <= at; p++) {
        if (!attended[p]) continue;
        double e = exp(logit[p] - most);
        sum += e;
        for (int d = 0; d < D; d++) o[d] += e * t->v[(p * G + g) * D + d];
    }
    for (int d = 0; d < D; d++) note(&worst, fabs(got[head * D + d] - o[d] / sum));
    return worst;
}

/* The chosen segments are the best by the reference's scores; where two are within a tie of each other either will do. */
static int check_best(const rig *r, int head, const double *want, int segments) {
    double worst_in = INFINITY, best_out = -INFINITY;
    int chosen = 0;
    for (int j = 0; j < segments; j++) {
        if (is_chosen(r, head, j))
            worst_in = fmin(worst_in, want[j]), chosen++;
        else
            best_out = fmax(best_out, want[j]);
    }
    assert_int_equal(chosen, KEEP < segments ? KEEP : segments);
    assert_true(worst_in >= best_out * (1 - 2e-5));
    return worst_in > best_out * (1 + 2e-5);
}

typedef struct figures {
    double score, out;
    int rows, sets;
} figures;

static void check_head(const rig *r, const tokens *t, const double (*phi_k)[G][N], int at, int head,
                       int c, figures *f) {
    double phi_q[N], want[ROWS];
    bool attended[ROWS] = {false};
    phi_ref(phi_q, r->p->omega, t->q + (at * H + head) * D);
    for (int p = 0; p <= at; p++) attended[p] = p < SINKS || p >= SINKS + c * c;
    for (int j = 0; j < c; j++) {
        want[j] = score_ref(phi_q, phi_k, head / (H / G), SINKS + j * c, c);
        note(&f->score, fabs(expm1((double)scores_of(r, head)[j] - log(want[j]))));
        for (int i = 0; i < c; i++) attended[SINKS + j * c + i] = is_chosen(r, head, j);
    }
    if (c) f->sets += check_best(r, head, want, c);
    note(&f->out, out_error(r->out, t, at, head, attended));
}

static void paper_is_its_formula_in_double(void **state) {
    (void)state;
    static double phi_k[ROWS][G][N];
    tokens t = make_tokens(11, 1);
    radar_published_rule rule = rule_of(false);
    figures f = {0};
    int squares = 0;
    rig r;
    open_with(&r, &rule, &t);
    for (int p = 0; p < ROWS; p++)
        for (int g = 0; g < G; g++) phi_ref(phi_k[p][g], r.p->omega, t.k + (p * G + g) * D);
    for (int at = 0; at < ROWS; at++) {
        int stored = at - WINDOW - SINKS > 0 ? at - WINDOW - SINKS : 0, c = 0;
        while ((c + 1) * (c + 1) <= stored) c++;
        if (c < KEEP) c = 0; /* everything is attended until there are k segments */
        r.counts = (radar_counts){0};
        rig_rows(&r, at, 1, t.q + at * H * D);
        assert_int_equal(r.p->layer[0].size, c);
        assert_int_equal(r.p->layer[0].segments, c);
        assert_int_equal(r.counts.segments_scored, G * c);
        assert_int_equal(r.counts.attended_tokens,
                         c ? H * (at + 1 - c * c + KEEP * c) : G * (at + 1));
        squares += c > 0 && c * c == stored;
        for (int head = 0; head < H; head++) check_head(&r, &t, phi_k, at, head, c, &f);
    }
    print_message("%d rows, %d rebuilds at squares, %d sets without ties; scores within %.2g "
                  "relative, outputs %.2g\n",
                  ROWS, squares, f.sets, f.score, f.out);
    assert_int_equal(squares, 23); /* 4^2 .. 26^2 */
    assert_true(f.sets >= 2700);
    assert_true(f.score <= 1e-5);
    assert_true(f.out <= 1e-5);
    rig_close(&r);
    free_tokens(&t);
}

/* At |k|^2 / sqrt D = |q|^2 / sqrt D = 320 single features span 200 nats: no score may vanish, and none may tie. */
static void far_keys_neither_vanish_nor_tie(void **state) {
    (void)state;
    tokens t = make_tokens(21, (float)sqrt(40));
    radar_published_rule rule = rule_of(false);
    rig r;
    open_with(&r, &rule, &t);
    rig_rows(&r, ROWS - 1, 1, t.q + (ROWS - 1) * H * D);
    int segments = (int)r.p->layer[0].segments;
    assert_int_equal(segments, 26);
    for (int head = 0; head < H; head++)
        for (int j = 0; j < segments; j++) {
            assert_true(isfinite(scores_of(&r, head)[j]));
            for (int i = 0; i < j; i++)
                assert_true(scores_of(&r, head)[i] != scores_of(&r, head)[j]);
        }
    rig_close(&r);
    free_tokens(&t);
}

/* ---- picks ---- */

static void check_picks(radar_pick pick, int segments, const rig *r, int head) {
    int chosen[ROWS], n = 0;
    for (int j = 0; j < segments; j++)
        if (is_chosen(r, head, j)) chosen[n++] = j;
    assert_int_equal(n, KEEP); /* distinct: without replacement */
    for (int j = 0; j < segments; j++) {
        float score = scores_of(r, head)[j];
        if (is_chosen(r, head, j)) continue;
        for (int i = 0; i < n; i++) {
            if (pick == RADAR_PICK_TOP) assert_true(score <= scores_of(r, head)[chosen[i]]);
            if (pick == RADAR_PICK_BOTTOM) assert_true(score >= scores_of(r, head)[chosen[i]]);
            if (pick == RADAR_PICK_LAST) assert_true(j < chosen[i]);
        }
    }
}

static void every_pick_takes_its_segments(void **state) {
    (void)state;
    tokens t = make_tokens(31, 1);
    for (int variant = 0; variant < 16; variant++) {
        radar_published_rule rule = rule_of(variant % 2);
        rule.pick = (radar_pick)(variant / 2 % 4);
        rule.exact = variant >= 8;
        bool scored = rule.pick == RADAR_PICK_TOP || rule.pick == RADAR_PICK_BOTTOM;
        rig r;
        open_with(&r, &rule, &t);
        for (int at = 600; at < ROWS; at += 20) {
            r.counts = (radar_counts){0};
            rig_rows(&r, at, 1, t.q + at * H * D);
            int segments = (int)r.p->layer[0].segments, c = (int)r.p->layer[0].size;
            assert_int_equal(r.counts.segments_scored, scored ? G * segments : 0);
            assert_int_equal(r.counts.attended_tokens, H * (at + 1 - c * segments + KEEP * c));
            for (int head = 0; head < H; head++) check_picks(rule.pick, segments, &r, head);
        }
        rig_close(&r);
    }
    free_tokens(&t);
}

/* How often each of the segments is drawn, over rows and heads: near the mean, and another seed draws others. */
static void random_picks_are_even_and_seeded(void **state) {
    (void)state;
    tokens t = make_tokens(41, 1);
    radar_published_rule rule = rule_of(false);
    rule.pick = RADAR_PICK_RANDOM;
    rig r[2];
    open_with(&r[0], &rule, &t);
    rule.seed++;
    open_with(&r[1], &rule, &t);
    int drawn[26] = {0}, same = 0, draws = 0;
    for (int at = 700; at < 729; at++) { /* 676 to 704 stored tokens: 26 segments */
        for (int i = 0; i < 2; i++) rig_rows(&r[i], at, 1, t.q + at * H * D);
        for (int head = 0; head < H; head++)
            for (int j = 0; j < 26; j++) {
                drawn[j] += is_chosen(&r[0], head, j);
                draws += is_chosen(&r[0], head, j);
                same += is_chosen(&r[0], head, j) && is_chosen(&r[1], head, j);
            }
    }
    assert_int_equal(draws, 29 * H * KEEP);
    for (int j = 0; j < 26; j++) assert_in_range(drawn[j], 4, 35); /* 17.8 expected, sd 3.9 */
    assert_in_range(same, 36, 108);                                /* 71.4 expected, sd 7 */
    rig_close(&r[0]), rig_close(&r[1]);
    free_tokens(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paper_is_its_formula_in_double),
        cmocka_unit_test(far_keys_neither_vanish_nor_tie),
        cmocka_unit_test(every_pick_takes_its_segments),
        cmocka_unit_test(random_picks_are_even_and_seeded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
