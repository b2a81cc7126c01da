/* The segments of the published Radar: when they are rebuilt, their summaries, their scores, which are chosen. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/segment.h"
#include "kernels/cpu/vmath.h"
#include "runtime/policy/published.h"
#include "runtime/sys.h"

#define EPSILON 1e-18f

/* floor(sqrt x), x >= 0 */
static int64_t root(int64_t x) {
    int64_t r = (int64_t)sqrt((double)x);
    while (r * r > x) r--;
    while ((r + 1) * (r + 1) <= x) r++;
    return r;
}

int64_t radar_published_stored(const radar_published_rule *rule, int64_t position) {
    return radar_max64(position - rule->window - rule->sinks, 0);
}

/* ---- sizes ---- */

/* S is below 2 r^2 c before the next rebuild, and right after one T / c <= r^2 (c + 1)^2 / c, which is more while c < 3. */
static int64_t most_segments(const radar_published_rule *rule, int64_t stored) {
    int64_t r = rule->aspect, most = 1;
    if (!rule->code) return root(stored) + 1;
    for (int64_t c = 1; c <= root(stored) / r; c++) {
        int64_t room = radar_max64(2 * r * r * c, r * r * (c + 1) * (c + 1) / c + 1);
        most = radar_max64(most, radar_min64(stored / c, room));
    }
    return most;
}

/* While c < 3, T / c >= 2 r^2 c already holds right after a rebuild and every row is one: for 2 r^2 values of T with c = 1 and
 * r^2 with c = 2.  From there on c grows by sqrt 2 each time. */
static int64_t most_rebuilds(const radar_published_rule *rule) {
    return rule->code ? 3 * rule->aspect * rule->aspect + 64 : 1;
}

static bool uses_features(const radar_published_rule *rule) {
    return !rule->exact && (rule->pick == RADAR_PICK_TOP || rule->pick == RADAR_PICK_BOTTOM);
}

static void draw_omega(float *omega, int D, int n, uint64_t seed) {
    for (int i = 0; i < n; i++)
        for (int d = 0; d < D; d++)
            omega[(size_t)d * (size_t)n + (size_t)i] = (float)radar_random_normal(
                seed, RADAR_STREAM_OMEGA, (uint64_t)i * (uint64_t)D + (uint64_t)d);
}

static bool reserve(radar_published *p) {
    size_t F = (size_t)p->F, n = (size_t)p->rule.features, heads = (size_t)p->heads,
           most = (size_t)p->most_segments, rebuilds = (size_t)most_rebuilds(&p->rule),
           pieces = (size_t)p->layers * (size_t)p->kv_heads, summaries;
    if (!radar_mul(pieces, most, &summaries) || !radar_mul(summaries, F, &summaries)) return false;
    p->omega = radar_alloc_array((size_t)p->map.D * n, sizeof *p->omega);
    p->layer = radar_alloc_array((size_t)p->layers, sizeof *p->layer);
    p->built = radar_alloc_array((size_t)p->layers * rebuilds, sizeof *p->built);
    p->summary = radar_alloc_array(summaries + 1, sizeof *p->summary);
    p->scale = radar_alloc_array(pieces * most, sizeof *p->scale);
    p->normaliser = radar_alloc_array(pieces * 2, sizeof *p->normaliser);
    p->phi = radar_alloc_array(heads / (size_t)p->kv_heads * F + 1, sizeof *p->phi);
    p->sum = radar_alloc_array(F + 1, sizeof *p->sum);
    p->score = radar_alloc_array(heads * most, sizeof *p->score);
    p->key = radar_alloc_array(heads * most, sizeof *p->key);
    p->range = radar_alloc_array(heads, sizeof *p->range);
    p->topk = radar_alloc_array(heads, sizeof *p->topk);
    return p->omega && p->layer && p->built && p->summary && p->scale && p->normaliser && p->phi &&
           p->sum && p->score && p->key && p->range && p->topk;
}

double radar_published_bytes(const radar_published_rule *rule, const radar_policy_shape *shape) {
    const radar_kvcache *kv = shape->kv;
    double most = (double)most_segments(rule, radar_published_stored(rule, kv->context - 1)),
           F = uses_features(rule) ? rule->features * (rule->code ? 2.0 : 1.0) : 0,
           pieces = (double)kv->layers * kv->kv_heads;
    return sizeof(float) * (pieces * most * (F + 1) + (double)kv->D * rule->features) +
           shape->n_heads * most * (sizeof(float) + sizeof(uint64_t));
}

radar_status radar_published_check(const radar_policy_shape *shape, radar_error *err) {
    const radar_kvcache *kv = shape->kv;
    const char *name = shape->attention->policy->name;
    if (kv->layout.shards != 1)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "attention '%s': a reference policy of one shard; use --shards 1", name);
    if (kv->type == RADAR_Q8)
        return radar_fail(
            err, RADAR_ERR_CONFIG,
            "attention '%s': a reference policy whose features are of exact keys; use "
            "--kv-type f16",
            name);
    if (kv->be && strcmp(kv->be->ops->name, "cpu") != 0)
        return radar_fail(err, RADAR_ERR_CONFIG,
                          "attention '%s': a reference policy of the CPU; use --backend cpu", name);
    return RADAR_OK;
}

radar_status radar_published_open(radar_published **out, const radar_published_rule *rule,
                                  const radar_policy_shape *shape, radar_error *err) {
    const radar_kvcache *kv = shape->kv;
    const char *name = rule->code ? "code" : "paper";
    *out = NULL;
    radar_published *p = radar_alloc(sizeof *p);
    if (!p) return radar_fail(err, RADAR_ERR_MEMORY, "attention '%s': no memory", name);
    p->rule = *rule;
    p->F = uses_features(rule) ? rule->features * (rule->code ? 2 : 1) : 0;
    p->layers = kv->layers, p->heads = shape->n_heads, p->kv_heads = kv->kv_heads;
    p->most_segments = most_segments(rule, radar_published_stored(rule, kv->context - 1));
    p->map =
        (radar_rf_map){.D = kv->D, .n = rule->features, .avx512 = radar_cpu_of(kv->be)->isa.avx512};
    if (!reserve(p)) {
        radar_published_close(p);
        return radar_fail(err, RADAR_ERR_MEMORY,
                          "attention '%s': no memory for the summaries of a context of %lld "
                          "tokens; use a smaller --ctx or --rf-features",
                          name, (long long)kv->context);
    }
    for (int l = 0; l < p->layers; l++) p->layer[l].built = p->built + l * most_rebuilds(rule);
    p->map.omega = p->omega;
    if (rule->omega)
        memcpy(p->omega, rule->omega, (size_t)kv->D * (size_t)rule->features * sizeof *p->omega);
    else if (p->F)
        draw_omega(p->omega, kv->D, rule->features, rule->seed);
    p->rule.omega = NULL;
    *out = p;
    return RADAR_OK;
}

void radar_published_close(radar_published *p) {
    if (!p) return;
    radar_free(p->omega);
    radar_free(p->layer);
    radar_free(p->built);
    radar_free(p->summary);
    radar_free(p->scale);
    radar_free(p->normaliser);
    radar_free(p->phi);
    radar_free(p->sum);
    radar_free(p->score);
    radar_free(p->key);
    radar_free(p->range);
    radar_free(p->topk);
    radar_free(p);
}

/* ---- features ---- */

static size_t piece_of(const radar_published *p, int layer, int g) {
    return (size_t)layer * (size_t)p->kv_heads + (size_t)g;
}

static float *summary_of(const radar_published *p, int layer, int g, int64_t j) {
    size_t at = piece_of(p, layer, g) * (size_t)p->most_segments + (size_t)j;
    return p->summary + at * (size_t)p->F;
}

static void read_key(float *key, const radar_kv_view *kv, int64_t position) {
    const radar_place place = radar_place_of(kv, position / RADAR_SEGMENT);
    size_t lane = (size_t)(position % RADAR_SEGMENT);
    for (int d = 0; d < kv->D; d++)
        key[d] = radar_segment_at(place.type, place.k, (size_t)d * RADAR_SEGMENT + lane);
}

static float largest(const float *a, int n, float most) {
    for (int i = 0; i < n; i++) most = a[i] > most ? a[i] : most;
    return most;
}

/* M+ and M- of the first T stored keys. */
static void measure(radar_published *p, const radar_kv_view *kv, int layer, int g, int64_t stored) {
    float key[RADAR_MAX_D], *m = p->normaliser + 2 * piece_of(p, layer, g);
    int n = p->map.n;
    m[0] = m[1] = 0;
    for (int64_t t = 0; t < stored; t++) {
        read_key(key, kv, p->rule.sinks + t);
        radar_rf_exponents(&p->map, p->phi, p->phi + n, key);
        m[0] = largest(p->phi, n, m[0]);
        m[1] = largest(p->phi + n, n, m[1]);
    }
}

/* phi := exp(a_i - lambda), lambda the largest a_i; returned. */
static float plain_features(const radar_rf_map *map, float *phi, const float *u) {
    radar_rf_exponents(map, phi, NULL, u);
    float lambda = largest(phi, map->n, -INFINITY);
    for (int i = 0; i < map->n; i++) phi[i] = radar_expf1(phi[i] - lambda);
    return lambda;
}

/* p->sum += the features of one key; paper: both on the larger of the two scales. */
static void add_key(radar_published *p, const float *key, const float *m, float *lambda) {
    if (p->rule.code) {
        radar_rf_reference(&p->map, p->phi, key, m[0], m[1], EPSILON);
        for (int i = 0; i < p->F; i++) p->sum[i] += (double)p->phi[i];
        return;
    }
    float own = plain_features(&p->map, p->phi, key), both = own > *lambda ? own : *lambda;
    double before = exp((double)*lambda - (double)both), now = exp((double)own - (double)both);
    for (int i = 0; i < p->F; i++) p->sum[i] = p->sum[i] * before + (double)p->phi[i] * now;
    *lambda = both;
}

static void summarise(radar_published *p, const radar_kv_view *kv, int layer, int g, int64_t j) {
    float key[RADAR_MAX_D], *out = summary_of(p, layer, g, j), lambda = -INFINITY;
    int64_t c = p->layer[layer].size;
    memset(p->sum, 0, (size_t)p->F * sizeof *p->sum);
    for (int64_t t = j * c; t < (j + 1) * c; t++) {
        read_key(key, kv, p->rule.sinks + t);
        add_key(p, key, p->normaliser + 2 * piece_of(p, layer, g), &lambda);
    }
    for (int i = 0; i < p->F; i++) out[i] = (float)(p->sum[i] / (double)c);
    p->scale[piece_of(p, layer, g) * (size_t)p->most_segments + (size_t)j] = lambda;
}

/* ---- one row after the other ---- */

void radar_published_forget(radar_published *p, int layer, int64_t position) {
    radar_published_layer *l = &p->layer[layer];
    if (position >= l->next) return;
    l->next = position;
    int64_t stored = radar_published_stored(&p->rule, position - 1);
    int before = l->n_built;
    while (l->n_built > 0 && l->built[l->n_built - 1] > stored) l->n_built--;
    if (l->n_built == before && l->n_built > 0) {
        l->segments = radar_min64(l->segments, stored / l->size);
        return;
    }
    l->size = l->n_built ? root(l->built[l->n_built - 1]) / p->rule.aspect : 0;
    l->segments = 0;
    l->measured = false;
}

/* Enough is stored for k segments. */
static bool ready(const radar_published_rule *rule, int64_t stored) {
    int64_t r = rule->aspect;
    if (root(stored) < r) return false;
    return rule->target > 0 ? rule->target <= stored : rule->keep <= root(r * r * stored);
}

static bool due(const radar_published *p, const radar_published_layer *l, int64_t stored) {
    int64_t r = p->rule.aspect;
    if (l->n_built == 0) return true;
    return p->rule.code ? stored / l->size >= 2 * r * r * l->size : root(stored) != l->size;
}

void radar_published_advance(radar_published *p, const radar_kvcache *kv, int layer,
                             int64_t position) {
    radar_published_layer *l = &p->layer[layer];
    int64_t stored = radar_published_stored(&p->rule, position);
    radar_published_forget(p, layer, position);
    l->next = position + 1;
    if (!ready(&p->rule, stored)) return;
    if (due(p, l, stored)) {
        if (!p->rule.code) l->n_built = 0;
        l->built[l->n_built++] = stored;
        l->size = root(stored) / p->rule.aspect;
        l->segments = 0;
        l->measured = false;
    }
    int64_t segments = p->rule.code ? stored / l->size : l->size;
    for (int g = 0; g < p->kv_heads && p->F > 0; g++) {
        radar_kv_view view = radar_kvcache_view(kv, layer, g, 0);
        if (p->rule.code && !l->measured) measure(p, &view, layer, g, l->built[l->n_built - 1]);
        for (int64_t j = l->segments; j < segments; j++) summarise(p, &view, layer, g, j);
    }
    l->measured = true;
    l->segments = segments;
}

/* ---- scores ---- */

/* a . b, products exact, sums in eight chains over i % 8. */
static double dot(const float *a, const float *b, int n) {
    double chain[8] = {0};
    int i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) chain[l] += (double)a[i + l] * (double)b[i + l];
    for (; i < n; i++) chain[i % 8] += (double)a[i] * (double)b[i];
    return ((chain[0] + chain[1]) + (chain[2] + chain[3])) +
           ((chain[4] + chain[5]) + (chain[6] + chain[7]));
}

static void score_pair(radar_published *p, int layer, int g, const float *q) {
    int D = p->map.D, n = p->map.n, group = p->heads / p->kv_heads;
    float m[2] = {-INFINITY, -INFINITY};
    for (int h = 0; h < group; h++) {
        float *phi = p->phi + (size_t)h * (size_t)p->F;
        radar_rf_exponents(&p->map, phi, phi + n, q + h * D);
        m[0] = largest(phi, n, m[0]);
        m[1] = largest(phi + n, n, m[1]);
    }
    for (int h = 0; h < group; h++) {
        float *phi = p->phi + (size_t)h * (size_t)p->F,
              *score = p->score + (g * group + h) * p->most_segments;
        radar_rf_reference(&p->map, phi, q + h * D, m[0], m[1], EPSILON);
        for (int64_t j = 0; j < p->layer[layer].segments; j++)
            score[j] = (float)dot(phi, summary_of(p, layer, g, j), p->F);
    }
}

static void score_plain(radar_published *p, int layer, int g, const float *q) {
    int group = p->heads / p->kv_heads;
    const float *scale = p->scale + piece_of(p, layer, g) * (size_t)p->most_segments;
    for (int h = 0; h < group; h++) {
        float *score = p->score + (g * group + h) * p->most_segments;
        double lambda = (double)plain_features(&p->map, p->phi, q + h * p->map.D) - log(p->F);
        for (int64_t j = 0; j < p->layer[layer].segments; j++)
            score[j] = (float)(lambda + (double)scale[j] +
                               log(dot(p->phi, summary_of(p, layer, g, j), p->F)));
    }
}

/* ln sum over the segment of exp(q . k / sqrt D) */
static double mass(const radar_kv_view *kv, const float *q, int64_t first, int64_t n) {
    double most = -INFINITY, sum = 0;
    for (int64_t t = first; t < first + n; t++) {
        float key[RADAR_MAX_D];
        read_key(key, kv, t);
        double logit = dot(q, key, kv->D) / sqrt(kv->D), both = logit > most ? logit : most;
        sum = sum * exp(most - both) + exp(logit - both);
        most = both;
    }
    return most + log(sum);
}

static void score_exact(radar_published *p, const radar_kv_view *kv, int layer, int g,
                        const float *q) {
    const radar_published_layer *l = &p->layer[layer];
    int group = p->heads / p->kv_heads;
    for (int h = 0; h < group; h++)
        for (int64_t j = 0; j < l->segments; j++)
            p->score[(g * group + h) * p->most_segments + j] =
                (float)mass(kv, q + h * kv->D, p->rule.sinks + j * l->size, l->size);
}

void radar_published_score(radar_published *p, const radar_kvcache *kv, int layer, int kv_head,
                           const float *q) {
    radar_kv_view view = radar_kvcache_view(kv, layer, kv_head, 0);
    if (p->rule.exact)
        score_exact(p, &view, layer, kv_head, q);
    else if (p->rule.code)
        score_pair(p, layer, kv_head, q);
    else
        score_plain(p, layer, kv_head, q);
}

void radar_published_pick(radar_published *p, const radar_kvcache *kv, int layer,
                          int64_t position) {
    const radar_published_layer *l = &p->layer[layer];
    int64_t keep = p->rule.target > 0 ? p->rule.target / l->size : p->rule.keep;
    for (int head = 0; head < p->heads; head++) {
        uint64_t draw =
            ((uint64_t)position * (uint64_t)p->layers + (uint64_t)layer) * (uint64_t)p->heads +
            (uint64_t)head;
        p->range[head] =
            (radar_topk_range){.score = p->score + head * p->most_segments, .n = (int)l->segments};
        p->topk[head] =
            (radar_topk_task){.range = &p->range[head],
                              .n_ranges = 1,
                              .stripe_segments = 1,
                              .shards = 1,
                              .pick = p->rule.pick,
                              .seed = radar_random(p->rule.seed, RADAR_STREAM_PICK, draw),
                              .keep = (int)radar_min64(keep, l->segments),
                              .scratch = p->key + head * p->most_segments,
                              .key = p->key + head * p->most_segments};
    }
    kv->be->ops->topk(kv->be, p->topk, p->heads);
}
