/* h2o and snapkv on one layer, through the same calls as the decoder's, against slow references in double that were written from
 * the papers: which tokens each query head attends to, and what comes out. */
#include "tests/unit/evict_rig.h"

enum { MOST_LISTS = H };

/* ---- in double ---- */

typedef struct model {
    const rig *r;
    double weight[MOST_LISTS][N]; /* received so far */
    bool dropped[MOST_LISTS][N];
    int ties;
} model;

static int lists_of(const rig *r) { return r->a.share_head ? H : G; }
static int list_of(const rig *r, int head) { return r->a.share_head ? head : head / GROUP; }

/* Softmax of a query over the tokens in `set` (NULL: all) up to its own; e [N] are the shares. */
static void softmax(const rig *r, int64_t t, int head, const unsigned char *set, double *e) {
    double m = -INFINITY, l = 0;
    memset(e, 0, N * sizeof *e);
    for (int pass = 0; pass < 2; pass++)
        for (int64_t p = 0; p <= t; p++) {
            double s = 0;
            if (set && !set[p]) continue;
            for (int d = 0; d < D; d++)
                s += (double)r->q[(t * H + head) * D + d] *
                     (double)r->k[(p * G + head / GROUP) * D + d];
            s /= sqrt(D);
            if (pass == 0)
                m = fmax(m, s);
            else
                l += e[p] = exp(s - m);
        }
    for (int64_t p = 0; p <= t; p++) e[p] /= l;
}

static void check_output(const rig *r, int64_t t, int head, const double *e) {
    for (int d = 0; d < D; d++) {
        double want = 0, got = (double)r->out[(t * H + head) * D + d];
        for (int64_t p = 0; p <= t; p++)
            want += e[p] * (double)r->v[(p * G + head / GROUP) * D + d];
        if (!(fabs(got - want) <= 1e-5))
            fail_msg("row %d head %d: output %g, in double %g", (int)t, head, got, want);
    }
}

/* Of the tokens in `from` the `keep` with the largest values, equal ones in the order of positions, must be those that were
 * attended; only tokens within 1e-6 of the border may be others, and are then counted. */
static void check_best(model *m, const double *value, const bool *from, int64_t end, int keep,
                       const unsigned char *seen) {
    double border = 0;
    bool want[N];
    for (int64_t p = 0; p < end; p++) {
        int before = 0;
        for (int64_t o = 0; o < end; o++)
            before += from[o] && (value[o] > value[p] || (value[o] == value[p] && o < p));
        want[p] = from[p] && before < keep;
        if (from[p] && before == keep) border = value[p];
    }
    for (int64_t p = 0; p < end; p++) {
        if (seen[p] == want[p]) continue;
        m->ties++;
        if (!from[p] || !(fabs(value[p] - border) <= 1e-6 * border))
            fail_msg("token %d is %s, its weight %.9g, the border %.9g", (int)p,
                     seen[p] ? "kept" : "dropped", value[p], border);
    }
}

/* ---- H2O: the heaviest by accumulated attention, and the recent half ---- */

static void h2o_choice(model *m, int64_t t) {
    const rig *r = m->r;
    int total = (int)(r->a.window + r->a.budget), recent = total / 2, heavy = total - recent;
    int64_t end = t + 1 > recent ? t + 1 - recent : 0;
    for (int head = 0; head < H; head++) {
        int list = list_of(r, head);
        bool from[N] = {false};
        for (int64_t p = 0; p < end; p++) from[p] = !m->dropped[list][p];
        check_best(m, m->weight[list], from, end, heavy, r->seen[t][head]);
        for (int64_t p = end; p <= t; p++) assert_int_equal(r->seen[t][head][p], 1);
    }
    for (int head = 0; head < H; head++)
        for (int64_t p = 0; p < end; p++)
            if (!r->seen[t][head][p]) m->dropped[list_of(r, head)][p] = true;
}

static void h2o_rows(model *m, int64_t begin, int64_t end, bool prefill) {
    double e[N];
    for (int64_t t = begin; t < end; t++) {
        if (!prefill) h2o_choice(m, t);
        for (int head = 0; head < H; head++) {
            softmax(m->r, t, head, prefill ? NULL : m->r->seen[t][head], e);
            check_output(m->r, t, head, e);
            for (int64_t p = 0; p <= t; p++) m->weight[list_of(m->r, head)][p] += e[p];
        }
    }
}

/* ---- SnapKV: the pooled vote of the prompt's last queries ---- */

static void snapkv_rows(model *m, int64_t prompt, int64_t begin, int64_t end) {
    const rig *r = m->r;
    int64_t n = begin - prompt < r->a.observe ? begin - prompt : r->a.observe, first = begin - n;
    double vote[MOST_LISTS][N] = {{0}}, e[N];
    bool from[N];
    for (int64_t p = 0; p < N; p++) from[p] = p < first;
    for (int64_t t = first; t < begin; t++)
        for (int head = 0; head < H; head++) {
            softmax(r, t, head, NULL, e);
            for (int64_t p = 0; p < first; p++) vote[list_of(r, head)][p] += e[p];
        }
    for (int list = 0; list < lists_of(r); list++)
        for (int64_t p = 0; p < first; p++) {
            m->weight[list][p] = 0;
            for (int64_t o = p - 2; o <= p + 2; o++)
                if (o >= 0 && o < first) m->weight[list][p] += vote[list][o] / 5;
        }
    for (int64_t t = begin; t < end; t++)
        for (int head = 0; head < H; head++) {
            check_best(m, m->weight[list_of(r, head)], from, first,
                       (int)(r->a.window + r->a.budget - n), r->seen[t][head]);
            for (int64_t p = first; p <= t; p++) assert_int_equal(r->seen[t][head][p], 1);
            softmax(r, t, head, r->seen[t][head], e);
            check_output(r, t, head, e);
        }
}

/* ---- tests ---- */

static const radar_attention small = {.window = 40, .budget = 60, .observe = 24};

static void conversation(rig *r) { /* prompt, answer, a long and a short question with answers */
    rows(r, 300, 50, true);
    rows(r, 60, 17, false);
    rows(r, 60, 64, true);
    rows(r, 40, 9, false);
    rows(r, 10, 10, true);
    rows(r, 50, 50, false);
}

static void check_conversation(const rig *r, model *m, bool h2o) {
    static const int ends[] = {0, 300, 360, 420, 460, 470, 520};
    *m = (model){.r = r};
    for (int i = 0; i < 6; i++) {
        if (h2o)
            h2o_rows(m, ends[i], ends[i + 1], i % 2 == 0);
        else if (i % 2 == 1)
            snapkv_rows(m, ends[i - 1], ends[i], ends[i + 1]);
    }
}

static void check_policy(const char *name) {
    static const radar_dtype types[] = {RADAR_F32, RADAR_F16};
    static model m;
    int ties = 0, runs = 0;
    for (int shards = 1; shards <= SHARDS; shards *= 8)
        for (int share = 0; share < 2; share++, runs++) {
            rig r;
            radar_attention a = small;
            a.share_head = share;
            rig_open(&r, name, a, types[runs % 2], shards, (uint64_t)(10 * runs + 1));
            conversation(&r);
            check_conversation(&r, &m, strcmp(name, "h2o") == 0);
            ties += m.ties;
            rig_close(&r);
        }
    print_message("    %s: 4 conversations of %d tokens, %d tokens at a tie\n", name, N, ties);
}

static void h2o_keeps_what_its_paper_says(void **state) {
    (void)state;
    check_policy("h2o");
}

static void snapkv_keeps_what_its_paper_says(void **state) {
    (void)state;
    check_policy("snapkv");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(h2o_keeps_what_its_paper_says),
        cmocka_unit_test(snapkv_keeps_what_its_paper_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
