/* The random features of kernels/cpu/rf.h against what the authors' own code computed: summaries, scores, selected segments.
 * radar-reference.json explains itself in `layout`, `rule` and `M_plus, M_minus`. */
#include "tests/unit/kv_fixture.h"

#include <jansson.h>

#include "kernels/cpu/rf.h"

#define EPSILON 1e-18f
enum { D = 64, MOST_FEATURES = 512, MOST_SEGMENTS = 256 };

typedef struct data {
    int tokens, kv_heads, heads;
    uint16_t *k; /* [tokens][kv_heads][64] */
    float *q;    /* [positions][heads][64] */
    json_t *q_positions;
} data;

typedef struct step_ref {
    int stored, size, segments, keep, query;
    float m_plus[3], m_minus[3];
    json_t *json;
} step_ref;

static int whole(json_t *object, const char *key) {
    return (int)json_integer_value(json_object_get(object, key));
}

static data load_data(json_t *root, const char *name) {
    json_t *j = json_object_get(root, name),
           *shape = json_object_get(json_object_get(j, "k"), "shape");
    data d = {.tokens = (int)json_integer_value(json_array_get(shape, 0)),
              .kv_heads = whole(j, "kv_heads"),
              .heads = whole(j, "query_heads")};
    char file[64];
    d.q_positions = json_object_get(j, "q_positions");
    snprintf(file, sizeof file, "radar-%s-k.f16", name);
    d.k = golden(file, (size_t)(d.tokens * d.kv_heads * D) * 2);
    snprintf(file, sizeof file, "radar-%s-q.f32", name);
    d.q = golden(file, json_array_size(d.q_positions) * (size_t)(d.heads * D) * 4);
    return d;
}

static const float *key_of(const data *d, float *out, int position, int g) {
    for (int i = 0; i < D; i++)
        out[i] = radar_f16_to_f32(d->k[(position * d->kv_heads + g) * D + i]);
    return out;
}

static step_ref read_step(const data *d, json_t *json) {
    step_ref s = {whole(json, "stored_tokens"),
                  whole(json, "segment_size"),
                  whole(json, "segments"),
                  whole(json, "k"),
                  -1,
                  {0},
                  {0},
                  json};
    for (size_t i = 0; i < json_array_size(d->q_positions); i++)
        if (json_integer_value(json_array_get(d->q_positions, i)) == whole(json, "query_position"))
            s.query = (int)i;
    assert_true(s.query >= 0 && s.segments <= MOST_SEGMENTS);
    for (int g = 0; g < d->kv_heads && s.segments; g++) {
        s.m_plus[g] =
            (float)json_real_value(json_array_get(json_object_get(json, "M_plus"), (size_t)g));
        s.m_minus[g] =
            (float)json_real_value(json_array_get(json_object_get(json, "M_minus"), (size_t)g));
    }
    return s;
}

/* Stored tokens at the last rebuild: the last event up to this step that changed the segment size. */
static int last_rebuild(json_t *config, const step_ref *s) {
    int at = 0, size = 0;
    json_t *event;
    size_t i;
    json_array_foreach(json_object_get(config, "events"), i, event) {
        int stored = (int)json_integer_value(json_array_get(event, 0)),
            now = (int)json_integer_value(json_array_get(event, 1));
        if (stored > s->stored) break;
        if (now != size) at = stored;
        size = now;
    }
    return at;
}

/* Largest a and b over keys 1 .. stored, at least 0. */
static void check_normalisers(const radar_rf_map *map, const data *d, const step_ref *s,
                              int stored) {
    float a[MOST_FEATURES], b[MOST_FEATURES], key[D];
    for (int g = 0; g < d->kv_heads; g++) {
        float plus = 0, minus = 0;
        for (int t = 1; t <= stored; t++) {
            radar_rf_exponents(map, a, b, key_of(d, key, t, g));
            for (int i = 0; i < map->n; i++) {
                plus = fmaxf(plus, a[i]);
                minus = fmaxf(minus, b[i]);
            }
        }
        assert_true(fabsf(plus - s->m_plus[g]) <= 2e-5f && fabsf(minus - s->m_minus[g]) <= 2e-5f);
    }
}

/* Mean feature of each segment, [segments][2n]. */
static void summarise(double *out, const radar_rf_map *map, const data *d, const step_ref *s,
                      int g) {
    float phi[MOST_FEATURES], key[D];
    memset(out, 0, sizeof *out * (size_t)(s->segments * 2 * map->n));
    for (int t = 0; t < s->segments * s->size; t++) {
        radar_rf_reference(map, phi, key_of(d, key, 1 + t, g), s->m_plus[g], s->m_minus[g],
                           EPSILON);
        for (int i = 0; i < 2 * map->n; i++)
            out[t / s->size * 2 * map->n + i] += (double)phi[i] / s->size;
    }
}

/* The queries' normalisers: maxima over the heads that share the KV head. */
static void query_features(float (*out)[MOST_FEATURES], const radar_rf_map *map, const data *d,
                           const step_ref *s, int g) {
    int group = d->heads / d->kv_heads;
    float a[MOST_FEATURES], b[MOST_FEATURES], plus = -INFINITY, minus = -INFINITY;
    for (int pass = 0; pass < 2; pass++) {
        for (int r = 0; r < group; r++) {
            const float *q = d->q + (s->query * d->heads + g * group + r) * D;
            if (pass) {
                radar_rf_reference(map, out[r], q, plus, minus, EPSILON);
                continue;
            }
            radar_rf_exponents(map, a, b, q);
            for (int i = 0; i < map->n; i++) {
                plus = fmaxf(plus, a[i]);
                minus = fmaxf(minus, b[i]);
            }
        }
    }
}

static double relative(double got, double want, double floor) {
    return fabs(got - want) / (fabs(want) + floor);
}

static void check_summaries(const double *got, const step_ref *s, int n, int g, double *worst) {
    json_t *file = json_object_get(s->json, "summaries");
    if (!file) return;
    size_t count = (size_t)(s->segments * 2 * n),
           heads = (size_t)json_integer_value(json_array_get(json_object_get(file, "shape"), 0));
    float *want = golden(json_string_value(json_object_get(file, "file")), heads * count * 4);
    for (size_t i = 0; i < count; i++) {
        double e = relative(got[i], want[(size_t)g * count + i], 1e-16); /* 1e-4 relative + 1e-20 */
        *worst = !(e <= *worst) ? e : *worst;
    }
    radar_free(want);
}

/* One query head: scores, and the set of the best. */
static void check_head(const float *score, const float *want, const step_ref *s, int head,
                       double *worst, int *sets) {
    uint64_t key[MOST_SEGMENTS];
    for (int i = 0; i < s->segments; i++) {
        double e = relative(score[i], want[i], 0);
        *worst = !(e <= *worst) ? e : *worst;
        key[i] = radar_topk_key(score[i], (uint32_t)i);
    }
    json_t *margin = json_array_get(json_object_get(s->json, "margin"), (size_t)head);
    json_t *selected = json_array_get(json_object_get(s->json, "selected"), (size_t)head);
    if (json_is_number(margin) && json_number_value(margin) <= 1e-4) return;
    int n = radar_topk_select(key, s->segments, s->keep);
    assert_int_equal(n, json_array_size(selected));
    for (int i = 0; i < n; i++) {
        bool found = false;
        for (int j = 0; j < n; j++)
            found |= json_integer_value(json_array_get(selected, (size_t)i)) ==
                     (json_int_t)radar_topk_segment(key[j]);
        if (!found)
            fail_msg("head %d at %d stored tokens: a segment of the reference is not selected",
                     head, s->stored);
    }
    (*sets)++;
}

static void check_step(const radar_rf_map *map, const data *d, const step_ref *s,
                       const float *scores, double worst[2], int *sets) {
    static double phi_k[MOST_SEGMENTS * MOST_FEATURES];
    static float phi_q[8][MOST_FEATURES];
    int group = d->heads / d->kv_heads;
    for (int g = 0; g < d->kv_heads; g++) {
        summarise(phi_k, map, d, s, g);
        check_summaries(phi_k, s, map->n, g, &worst[0]);
        query_features(phi_q, map, d, s, g);
        for (int r = 0; r < group; r++) {
            float score[MOST_SEGMENTS];
            for (int i = 0; i < s->segments; i++) {
                double dot = 0;
                for (int f = 0; f < 2 * map->n; f++)
                    dot += (double)phi_q[r][f] * phi_k[i * 2 * map->n + f];
                score[i] = (float)dot;
            }
            check_head(score, scores + (g * group + r) * s->segments, s, g * group + r, &worst[1],
                       sets);
        }
    }
}

static void check_config(json_t *root, json_t *config, bool avx512) {
    data d = load_data(root, json_string_value(json_object_get(config, "data")));
    char file[64];
    int n = whole(config, "projection_dim"), steps = 0, sets = 0, rebuild = -1;
    json_t *scores = json_object_get(config, "scores"), *json;
    size_t count = (size_t)json_integer_value(json_array_get(json_object_get(scores, "shape"), 0)),
           i;
    float *want = golden(json_string_value(json_object_get(scores, "file")), count * 4);
    snprintf(file, sizeof file, "radar-omega-%d.f32", n);
    radar_rf_map map = {D, n, golden(file, (size_t)(D * n) * 4), avx512};
    double worst[2] = {0};
    json_array_foreach(json_object_get(config, "steps"), i, json) {
        step_ref s = read_step(&d, json);
        if (!s.segments) continue;
        size_t at = (size_t)whole(json, "scores_at");
        assert_true(at + (size_t)(d.heads * s.segments) <= count);
        if (last_rebuild(config, &s) != rebuild)
            check_normalisers(&map, &d, &s, rebuild = last_rebuild(config, &s));
        check_step(&map, &d, &s, want + at, worst, &sets);
        steps++;
    }
    print_message("%s: %d steps, %d selected sets equal, summaries within %.2g, scores within %.2g "
                  "(relative)\n",
                  json_string_value(json_object_get(config, "name")), steps, sets, worst[0],
                  worst[1]);
    assert_true(steps >= 3);
    assert_true(worst[0] <= 1e-4);
    assert_true(worst[1] <= 1e-4);
    radar_free(want), radar_free((void *)map.omega), radar_free(d.k), radar_free(d.q);
}

static void check_all(bool avx512) {
    json_error_t err;
    json_t *root = json_load_file("tests/golden/radar-reference.json", 0, &err), *config;
    size_t i;
    int checked = 0;
    if (!root) fail_msg("tests/golden/radar-reference.json: %s", err.text);
    json_array_foreach(json_object_get(root, "configs"), i, config) {
        if (strcmp(json_string_value(json_object_get(config, "ablation")), "none")) continue;
        check_config(root, config, avx512);
        checked++;
    }
    assert_int_equal(checked, 8);
    json_decref(root);
}

static void features_are_those_of_the_authors_code(void **state) {
    (void)state;
    check_all(has_avx512());
}

static void plain_features_have_the_same_bits(void **state) {
    (void)state;
    if (!has_avx512()) skip();
    radar_rf_map map[2] = {{D, 256, golden("radar-omega-256.f32", D * 256 * 4), false}};
    float *q = golden("radar-real-q.f32", 17 * 9 * D * 4), phi[2][MOST_FEATURES];
    map[1] = map[0];
    map[1].avx512 = true;
    for (int j = 0; j < 17 * 9; j++) {
        for (int i = 0; i < 2; i++) radar_rf_reference(&map[i], phi[i], q + j * D, 3, 4, EPSILON);
        assert_memory_equal(phi[0], phi[1], sizeof phi[0]);
    }
    radar_free((void *)map[0].omega), radar_free(q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_are_those_of_the_authors_code),
        cmocka_unit_test(plain_features_have_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
