/* Streaming with positions counted within what is kept, against a reference that re-indexes as its paper says: keys without
 * positions are kept, and every step gives them, and the query, the indices they have among the kept tokens. */
#include "tests/unit/shards_fixture.h"

#define TOKENS 400
#define G 2
#define GROUP 3
#define H (G * GROUP)
#define D 32
#define ROTARY 24
#define ROWS 5

typedef struct text {
    float *q, *k, *v; /* [TOKENS, H or G, D] without positions */
    float *turned_q, *turned_k;
    double frequency[ROTARY / 2];
    radar_rope_style style;
} text;

/* x [heads, D] turned to a position, in double. */
static void turn(const text *t, double *out, const float *x, double position) {
    for (int d = 0; d < D; d++) out[d] = x[d];
    for (int j = 0; j < ROTARY / 2; j++) {
        int a = t->style == RADAR_ROPE_HALF ? j : 2 * j,
            b = t->style == RADAR_ROPE_HALF ? j + ROTARY / 2 : 2 * j + 1;
        double c = cos(position * t->frequency[j]), s = sin(position * t->frequency[j]);
        out[a] = x[a] * c - x[b] * s;
        out[b] = x[b] * c + x[a] * s;
    }
}

static float *turn_all(const text *t, const float *x, int heads) {
    float *out = must(radar_alloc((size_t)(TOKENS * heads * D) * sizeof *out));
    for (int i = 0; i < TOKENS * heads; i++) {
        double y[D];
        turn(t, y, x + i * D, i / heads);
        for (int d = 0; d < D; d++) out[i * D + d] = (float)y[d];
    }
    return out;
}

static text make_text(radar_rope_style style) {
    text t = {.q = normals(TOKENS * H * D, 1, 1.3f),
              .k = normals(TOKENS * G * D, 2, 1.3f),
              .v = normals(TOKENS * G * D, 3, 1),
              .style = style};
    for (int j = 0; j < ROTARY / 2; j++) t.frequency[j] = pow(1e4, -2.0 * j / ROTARY);
    t.turned_q = turn_all(&t, t.q, H);
    t.turned_k = turn_all(&t, t.k, G);
    return t;
}

static void free_text(text *t) {
    radar_free(t->q), radar_free(t->k), radar_free(t->v);
    radar_free(t->turned_q), radar_free(t->turned_k);
}

/* The kept tokens of the row at `position`, in order; their indices are their places in the list. */
static int kept_tokens(int *token, int position, int sinks, int window) {
    int n = 0;
    for (int p = 0; p <= position; p++)
        if (p < sinks || p > position - window) token[n++] = p;
    return n;
}

/* renamed: indices among the kept tokens; else positions of the cache. */
static void reference(const text *t, double *out, int position, int head, int sinks, int window,
                      bool renamed) {
    int token[TOKENS], n = kept_tokens(token, position, sinks, window);
    double q[D], k[D], weight[TOKENS], most = -INFINITY, sum = 0;
    turn(t, q, t->q + (position * H + head) * D, renamed ? n - 1 : position);
    for (int i = 0; i < n; i++) {
        turn(t, k, t->k + (token[i] * G + head / GROUP) * D, renamed ? i : token[i]);
        weight[i] = 0;
        for (int d = 0; d < D; d++) weight[i] += q[d] * k[d] / sqrt(D);
        most = fmax(most, weight[i]);
    }
    for (int i = 0; i < n; i++) sum += weight[i] = exp(weight[i] - most);
    for (int d = 0; d < D; d++) {
        out[d] = 0;
        for (int i = 0; i < n; i++)
            out[d] += weight[i] / sum * t->v[(token[i] * G + head / GROUP) * D + d];
    }
}

typedef struct setting {
    int sinks, window, stripe, shards;
    const char *isa;
} setting;

/* Largest error of any output over the whole text, ROWS rows at a time; *changed: how far re-indexing moves an output at most. */
static double worst_error(const text *t, const setting *set, bool restream, double *changed) {
    const radar_attention a = {.sinks = set->sinks, .window = set->window, .restream = restream};
    const shards_shape shape = {RADAR_F32, set->shards, set->stripe, 1, G, GROUP, D, TOKENS};
    shards s;
    double worst = 0;
    float out[ROWS * H * D];
    shards_open(&s, "streaming", &a, &shape, set->isa);
    s.rope = (radar_rope){t->frequency, ROTARY, t->style, 1};
    for (int first = 0; first < TOKENS; first += ROWS) {
        shards_rows(&s, 0, first, ROWS, t->turned_q + first * H * D, t->turned_k + first * G * D,
                    t->v + first * G * D, out);
        for (int i = 0; i < ROWS * H; i++) {
            double want[D], other[D];
            reference(t, want, first + i / H, i % H, set->sinks, set->window, restream);
            reference(t, other, first + i / H, i % H, set->sinks, set->window, !restream);
            for (int d = 0; d < D; d++) {
                worst = worse(worst, fabs(out[i * D + d] - want[d]));
                *changed = fmax(*changed, fabs(want[d] - other[d]));
            }
        }
    }
    int64_t kept = 0;
    for (int p = 0; p < TOKENS; p++)
        kept += p + 1 < set->sinks + set->window ? p + 1 : set->sinks + set->window;
    assert_int_equal(s.counts.attended_tokens, G * kept);
    shards_close(&s);
    return worst;
}

/* Sinks in one shard and in several, whole and cut segments, sinks and window in one segment. */
static const setting settings[] = {{4, 50, 64, 4, NULL},    {16, 17, 64, 8, "plain"},
                                   {150, 33, 64, 4, NULL},  {1, 1, 64, 1, NULL},
                                   {70, 200, 128, 2, NULL}, {21, 3, 64, 4, NULL}};

static void run_style(radar_rope_style style, bool restream) {
    text t = make_text(style);
    for (int i = 0; i < COUNT(settings); i++) {
        double changed = 0, e = worst_error(&t, &settings[i], restream, &changed);
        print_message("sinks %d, window %d: within %.2g; re-indexing moves outputs by %.2g\n",
                      settings[i].sinks, settings[i].window, e, changed);
        assert_true(e <= 1e-5);
        assert_true(changed > 0.01);
    }
    free_text(&t);
}

static void restream_attends_as_re_indexed_keys_do(void **state) {
    (void)state;
    run_style(RADAR_ROPE_HALF, true);
    run_style(RADAR_ROPE_ADJACENT, true);
}

static void without_restream_positions_are_those_of_the_cache(void **state) {
    (void)state;
    run_style(RADAR_ROPE_HALF, false);
    run_style(RADAR_ROPE_ADJACENT, false);
}

static void no_sinks_leave_nothing_to_turn(void **state) {
    (void)state;
    const setting set = {0, 40, 64, 4, NULL};
    double changed = 0;
    text t = make_text(RADAR_ROPE_HALF);
    assert_true(worst_error(&t, &set, true, &changed) <= 1e-5);
    assert_true(changed <= 1e-9); /* distances inside a window are the same either way */
    free_text(&t);
}

/* The same rows one at a time and several at once. */
static void bits_do_not_depend_on_neighbours(void **state) {
    (void)state;
    const radar_attention a = {.sinks = 20, .window = 30, .restream = true};
    const shards_shape shape = {RADAR_F16, 4, 64, 1, G, GROUP, D, TOKENS};
    text t = make_text(RADAR_ROPE_HALF);
    shards one, many;
    float single[H * D], several[ROWS * H * D];
    shards_open(&one, "streaming", &a, &shape, NULL);
    shards_open(&many, "streaming", &a, &shape, NULL);
    one.rope = many.rope = (radar_rope){t.frequency, ROTARY, t.style, 1};
    for (int first = 0; first < TOKENS; first += ROWS) {
        shards_rows(&many, 0, first, ROWS, t.turned_q + first * H * D, t.turned_k + first * G * D,
                    t.v + first * G * D, several);
        for (int i = 0; i < ROWS; i++) {
            int p = first + i;
            shards_rows(&one, 0, p, 1, t.turned_q + p * H * D, t.turned_k + p * G * D,
                        t.v + p * G * D, single);
            assert_memory_equal(single, several + i * H * D, sizeof single);
        }
    }
    shards_close(&one);
    shards_close(&many);
    free_text(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restream_attends_as_re_indexed_keys_do),
        cmocka_unit_test(without_restream_positions_are_those_of_the_cache),
        cmocka_unit_test(no_sinks_leave_nothing_to_turn),
        cmocka_unit_test(bits_do_not_depend_on_neighbours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
