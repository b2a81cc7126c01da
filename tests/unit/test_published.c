/* The published Radar, `code`, step by step against what its authors' own code did; radar-reference.json explains itself in
 * `layout`, `rule`, `history`.  Rows go through the policy itself, over a real cache of one shard and the attention kernel. */
#include "tests/unit/published_rig.h"

#include <jansson.h>

/* ---- golden data ---- */

typedef struct data {
    int tokens, kv_heads, heads;
    float *k, *v; /* [tokens, G, D] */
    float *q;     /* [positions, H, D] */
    json_t *q_positions;
} data;

static int whole(const json_t *object, const char *key) {
    return (int)json_integer_value(json_object_get(object, key));
}

static int element(const json_t *array, size_t i) {
    return (int)json_integer_value(json_array_get(array, i));
}

static float *widened(const char *file, size_t n) {
    uint16_t *half = golden(file, n * 2);
    float *x = must(radar_alloc_array(n, sizeof *x));
    for (size_t i = 0; i < n; i++) x[i] = radar_f16_to_f32(half[i]);
    radar_free(half);
    return x;
}

static data load_data(const json_t *root, const char *name) {
    const json_t *j = json_object_get(root, name),
                 *shape = json_object_get(json_object_get(j, "k"), "shape");
    data d = {.tokens = element(shape, 0),
              .kv_heads = whole(j, "kv_heads"),
              .heads = whole(j, "query_heads"),
              .q_positions = json_object_get(j, "q_positions")};
    size_t n = (size_t)(d.tokens * d.kv_heads * D);
    char file[64];
    snprintf(file, sizeof file, "radar-%s-k.f16", name);
    d.k = widened(file, n);
    snprintf(file, sizeof file, "radar-%s-v.f16", name);
    d.v = widened(file, n);
    snprintf(file, sizeof file, "radar-%s-q.f32", name);
    d.q = golden(file, json_array_size(d.q_positions) * (size_t)(d.heads * D) * 4);
    return d;
}

static void free_data(data *d) { radar_free(d->k), radar_free(d->v), radar_free(d->q); }

/* The recorded queries of a position; zeros where none were. */
static const float *query_at(const data *d, int position) {
    static const float none[MOST_HEADS * D];
    for (size_t i = 0; i < json_array_size(d->q_positions); i++)
        if (element(d->q_positions, i) == position) return d->q + i * (size_t)(d->heads * D);
    return none;
}

static radar_published_rule golden_rule(const json_t *config, float **omega) {
    static const char *const ablations[] = {"none", "bottom", "random", "last", "exact"};
    char file[64];
    int n = whole(config, "projection_dim"), pick = 0;
    snprintf(file, sizeof file, "radar-omega-%d.f32", n);
    *omega = golden(file, (size_t)(D * n) * 4);
    const char *ablation = json_string_value(json_object_get(config, "ablation"));
    for (int i = 0; ablation && i < 5; i++)
        if (strcmp(ablation, ablations[i]) == 0) pick = i;
    return (radar_published_rule){.code = true,
                                  .window = whole(config, "window"),
                                  .sinks = 1,
                                  .aspect = whole(config, "aspect_ratio"),
                                  .keep = whole(config, "topk"),
                                  .target = whole(config, "target_tokens"),
                                  .exact = pick == 4,
                                  .pick = pick == 4 ? RADAR_PICK_TOP : (radar_pick)pick,
                                  .features = n,
                                  .omega = *omega};
}

typedef struct errors {
    double summaries, scores, out, normalisers;
    int steps, sets, events;
} errors;

static double relative(double got, double want, double floor) {
    return fabs(got - want) / (fabs(want) + floor);
}

static void check_normalisers(const rig *r, const json_t *step, errors *w) {
    const json_t *plus = json_object_get(step, "M_plus"), *minus = json_object_get(step, "M_minus");
    for (size_t g = 0; plus && g < (size_t)r->kv.kv_heads; g++) {
        for (size_t i = 0; i < 2; i++)
            note(&w->normalisers, fabs((double)r->p->normaliser[2 * g + i] -
                                       json_real_value(json_array_get(i ? minus : plus, g))));
    }
}

static void check_summaries(const rig *r, const json_t *step, errors *w) {
    const json_t *file = json_object_get(step, "summaries");
    if (!file) return;
    int segments = whole(step, "segments"), F = r->p->F;
    size_t each = (size_t)(segments * F);
    float *want =
        golden(json_string_value(json_object_get(file, "file")), each * (size_t)r->kv.kv_heads * 4);
    for (int g = 0; g < r->kv.kv_heads; g++)
        for (size_t i = 0; i < each; i++) /* 1e-4 relative + 1e-20 */
            note(&w->summaries, relative(r->p->summary[(size_t)(g * r->p->most_segments * F) + i],
                                         want[(size_t)g * each + i], 1e-16));
    radar_free(want);
}

/* want [H, segments]; the reference gives exact masses up to a factor common to all heads. */
static void check_scores(const rig *r, const float *want, int segments, errors *w) {
    double shift = log((double)want[0]) - (double)scores_of(r, 0)[0];
    for (int head = 0; head < r->heads; head++)
        for (int j = 0; j < segments; j++) {
            double got = scores_of(r, head)[j];
            note(&w->scores,
                 relative(r->p->rule.exact ? exp(got + shift) : got, want[head * segments + j], 0));
        }
}

static void check_selected(const rig *r, const json_t *step, errors *w) {
    const json_t *selected = json_object_get(step, "selected");
    for (int head = 0; head < r->heads; head++) {
        const json_t *margin = json_array_get(json_object_get(step, "margin"), (size_t)head),
                     *list = json_array_get(selected, (size_t)head);
        if (json_is_number(margin) && json_number_value(margin) <= 1e-4) continue;
        assert_int_equal(n_chosen(r, head), json_array_size(list));
        for (size_t i = 0; i < json_array_size(list); i++)
            if (!is_chosen(r, head, element(list, i)))
                fail_msg("stored %d, head %d: segment %d of the reference is not selected",
                         whole(step, "stored_tokens"), head, element(list, i));
        w->sets++;
    }
}

static void check_out(const rig *r, const float *want, errors *w) {
    for (int i = 0; i < r->heads * D; i++) note(&w->out, fabs((double)r->out[i] - (double)want[i]));
}

/* The rebuilds and additions so far must be golden's, in order. */
static void check_event(const rig *r, const json_t *events, int64_t position, int now[4],
                        errors *w) {
    const radar_published_layer *l = &r->p->layer[0];
    int stored = (int)radar_published_stored(&r->p->rule, position);
    if (w->events > 0 && now[1] == l->size && now[2] == l->segments) return;
    now[0] = stored, now[1] = (int)l->size, now[2] = (int)l->segments;
    now[3] = stored - now[1] * now[2];
    const json_t *event = json_array_get(events, (size_t)w->events++);
    assert_non_null(event);
    for (size_t i = 0; i < 4; i++) assert_int_equal(now[i], element(event, i));
}

static void check_step(const rig *r, const json_t *step, const float *scores, const float *out,
                       errors *w) {
    const radar_published_layer *l = &r->p->layer[0];
    int stored = (int)radar_published_stored(&r->p->rule, whole(step, "query_position"));
    assert_int_equal(stored, whole(step, "stored_tokens"));
    assert_int_equal(l->size, whole(step, "segment_size"));
    assert_int_equal(l->segments, whole(step, "segments"));
    assert_int_equal(stored - l->size * l->segments, whole(step, "remainder"));
    check_out(r, out + whole(step, "out_at"), w);
    w->steps++;
    if (l->segments == 0) return;
    check_normalisers(r, step, w);
    check_summaries(r, step, w);
    if (scores) check_scores(r, scores + whole(step, "scores_at"), (int)l->segments, w);
    check_selected(r, step, w);
}

/* prefill to the first recorded step, then one row at a time */
static void check_config(const json_t *root, const json_t *config) {
    data d = load_data(root, json_string_value(json_object_get(config, "data")));
    float *omega;
    radar_published_rule rule = golden_rule(config, &omega);
    rig r;
    rig_open(&r, d.tokens, d.kv_heads, d.heads, &rule);
    errors w = {0};
    int now[4] = {0};
    const json_t *steps = json_object_get(config, "steps"), *files[2], *step;
    float *file[2] = {NULL};
    files[0] = json_object_get(config, "scores"), files[1] = json_object_get(config, "out");
    for (int i = 0; i < 2; i++) {
        const json_t *shape = json_object_get(files[i], "shape");
        size_t n = sizeof(float);
        for (size_t j = 0; j < json_array_size(shape); j++) n *= (size_t)element(shape, j);
        if (shape) file[i] = golden(json_string_value(json_object_get(files[i], "file")), n);
    }
    rig_put(&r, 0, d.tokens, d.k, d.v);
    size_t next = 0;
    for (int at = whole(json_array_get(steps, 0), "query_position"); next < json_array_size(steps);
         at++) {
        rig_rows(&r, at, 1, query_at(&d, at));
        check_event(&r, json_object_get(config, "events"), at, now, &w);
        step = json_array_get(steps, next);
        if (whole(step, "query_position") == at) {
            check_step(&r, step, file[0], file[1], &w);
            next++;
        }
    }
    print_message("%s: %d steps, %d events, %d selected sets equal; normalisers within %.2g, "
                  "summaries %.2g and scores %.2g relative, outputs %.2g\n",
                  json_string_value(json_object_get(config, "name")), w.steps, w.events, w.sets,
                  w.normalisers, w.summaries, w.scores, w.out);
    assert_int_equal(w.events, json_array_size(json_object_get(config, "events")));
    assert_true(w.sets >= 9);
    assert_true(w.normalisers <= 2e-5);
    assert_true(w.summaries <= 1e-4);
    assert_true(w.scores <= 1e-4);
    assert_true(w.out <= 2e-5);
    rig_close(&r);
    free_data(&d);
    radar_free(omega), radar_free(file[0]), radar_free(file[1]);
}

static json_t *load_reference(void) {
    json_error_t err;
    json_t *root = json_load_file("tests/golden/radar-reference.json", 0, &err);
    if (!root) fail_msg("tests/golden/radar-reference.json: %s", err.text);
    return root;
}

static void code_does_what_its_authors_code_did(void **state) {
    (void)state;
    json_t *root = load_reference(), *config;
    size_t i;
    json_array_foreach(json_object_get(root, "configs"), i, config) check_config(root, config);
    assert_int_equal(i, 11);
    json_decref(root);
    assert_int_equal(radar_alloc_live(), 0);
}

/* ---- several segments at once: where the authors' code stores their summaries in reverse ---- */

static void check_one_by_one(const rig *r, const json_t *want, double *worst) {
    assert_int_equal(r->p->layer[0].size, whole(want, "segment_size"));
    assert_int_equal(r->p->layer[0].segments, whole(want, "segments"));
    for (int head = 0; head < r->heads; head++) {
        const json_t *score = json_array_get(json_object_get(want, "scores"), (size_t)head),
                     *list = json_array_get(json_object_get(want, "selected"), (size_t)head);
        assert_int_equal(json_array_size(score), r->p->layer[0].segments);
        for (size_t j = 0; j < json_array_size(score); j++)
            note(worst,
                 relative(scores_of(r, head)[j], json_real_value(json_array_get(score, j)), 0));
        assert_int_equal(n_chosen(r, head), json_array_size(list));
        for (size_t j = 0; j < json_array_size(list); j++)
            assert_true(is_chosen(r, head, element(list, j)));
    }
}

static void many_tokens_at_once_are_as_one_by_one(void **state) {
    (void)state;
    json_t *root = load_reference(), *many = json_object_get(root, "many_tokens_at_once");
    data d = load_data(root, json_string_value(json_object_get(many, "data")));
    float *omega, out[MOST_HEADS * D];
    int last = whole(many, "query_position"), added = whole(many, "added_then");
    radar_published_rule rule = golden_rule(many, &omega);
    rule.window = last - 1 - whole(many, "stored_first") - added;
    double worst = 0;
    for (int stride = added; stride >= 1; stride -= added - 1) {
        rig r;
        rig_open(&r, d.tokens, d.kv_heads, d.heads, &rule);
        rig_put(&r, 0, d.tokens, d.k, d.v);
        for (int at = last - added; at <= last; at += stride) rig_rows(&r, at, 1, query_at(&d, at));
        check_one_by_one(&r, json_object_get(many, "one_by_one"), &worst);
        if (stride == 1) assert_memory_equal(out, r.out, (size_t)(d.heads * D) * sizeof *out);
        memcpy(out, r.out, (size_t)(d.heads * D) * sizeof *out);
        rig_close(&r);
    }
    print_message("scores within %.2g relative\n", worst);
    assert_true(worst <= 1e-4);
    free_data(&d);
    radar_free(omega);
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(code_does_what_its_authors_code_did),
        cmocka_unit_test(many_tokens_at_once_are_as_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
