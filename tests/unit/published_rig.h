/* published_rig.h - the published Radar's policy at work: one layer of a session without the model around it. */
#ifndef RADAR_TEST_PUBLISHED_RIG_H
#define RADAR_TEST_PUBLISHED_RIG_H

#include "runtime/policy/published.h"
#include "tests/unit/plan_fixture.h"

extern const radar_policy radar_policy_code;

enum { D = 64, MOST_ROWS = 16, MOST_HEADS = 9 };

typedef struct rig {
    radar_cpu cpu;
    radar_kvcache kv;
    radar_published *p;
    radar_attention attention;
    radar_counts counts;
    radar_plan plan;
    int heads;
    float *partial, *arranged, *coverage;
    float *out; /* [rows, H, D] of the last rows */
} rig;

static inline void rig_open(rig *r, int tokens, int kv_heads, int heads,
                            const radar_published_rule *rule) {
    radar_error err = {0};
    *r = (rig){.cpu = cpu_with(has_avx512() ? "avx512" : "plain", 1), .heads = heads};
    r->kv = (radar_kvcache){.be = &r->cpu.base,
                            .layout = {.shards = 1, .stripe = 256, .ranks = 1},
                            .layers = 1,
                            .kv_heads = kv_heads,
                            .D = D,
                            .type = RADAR_F16,
                            .context = tokens};
    size_t rows = (size_t)(MOST_ROWS * heads);
    r->partial = must(radar_alloc_array(rows * RADAR_PARTIAL(D), sizeof(float)));
    r->arranged = must(radar_alloc_array(rows * D, sizeof(float)));
    r->out = must(radar_alloc_array(rows * D, sizeof(float)));
    r->coverage = must(radar_alloc_array(rows, sizeof(float)));
    assert_int_equal(radar_kvcache_plan(&r->kv, &err), RADAR_OK);
    assert_int_equal(radar_kvcache_open(&r->kv, &err), RADAR_OK);
    radar_policy_code.room(&r->kv, &r->attention, heads, MOST_ROWS, &r->plan);
    plan_open(&r->plan, &r->kv);
    const radar_policy_shape shape = {&r->kv, &r->attention, heads};
    assert_int_equal(radar_published_open(&r->p, rule, &shape, &err), RADAR_OK);
}

static inline void rig_close(rig *r) {
    radar_published_close(r->p);
    radar_kvcache_close(&r->kv);
    plan_close(&r->plan);
    radar_free(r->partial), radar_free(r->arranged), radar_free(r->out), radar_free(r->coverage);
}

/* k and v [n, G, D] at positions [first, first + n). */
static inline void rig_put(rig *r, int first, int n, const float *k, const float *v) {
    int32_t *slot = must(radar_alloc_array((size_t)n, sizeof *slot));
    radar_kvcache_append(&r->kv, 0, first, n, k, v, slot);
    radar_free(slot);
}

/* Rows [position, position + n) with queries q [n, H, D]: r->out. */
static inline void rig_rows(rig *r, int64_t position, int n, const float *q) {
    int group = r->heads / r->kv.kv_heads;
    int64_t at[MOST_ROWS], query_at[MOST_ROWS * MOST_HEADS];
    radar_error err = {0};
    const radar_backend_ops *ops = r->cpu.base.ops;
    for (int i = 0; i < n; i++) at[i] = position + i;
    for (int i = 0; i < n * group; i++) query_at[i] = position + i / group;
    ops->arrange(&r->cpu.base, r->arranged, q, n, r->kv.kv_heads, group, D);
    plan_begin(&r->plan);
    radar_select s = {.kv = &r->kv,
                      .attention = &r->attention,
                      .counts = &r->counts,
                      .plan = &r->plan,
                      .n_rows = n,
                      .n_heads = r->heads,
                      .position = at,
                      .query_position = query_at,
                      .q = r->arranged,
                      .partial = r->partial,
                      .state = r->p,
                      .err = &err};
    assert_int_equal(radar_policy_code.select(&s), RADAR_OK);
    plan_check_room(&r->plan);
    ops->attend(&r->cpu.base, r->plan.task, r->plan.n_tasks, 0.125f, n);
    ops->finish(&r->cpu.base, r->out, r->coverage, r->partial, n, r->kv.kv_heads, group, D);
}

/* Segments that a head has chosen; their keys come first. */
static inline int n_chosen(const rig *r, int head) {
    const radar_topk_task *t = &r->p->topk[head];
    int n = 0;
    while (n < t->keep && t->key[n]) n++;
    return n;
}

static inline bool is_chosen(const rig *r, int head, int segment) {
    for (int i = 0; i < n_chosen(r, head); i++)
        if ((int)radar_topk_segment(r->p->topk[head].key[i]) == segment) return true;
    return false;
}

static inline const float *scores_of(const rig *r, int head) {
    return r->p->score + head * r->p->most_segments;
}

/* The worst error so far; NaN stays. */
static inline void note(double *worst, double error) {
    if (!(error <= *worst) && !isnan(*worst)) *worst = error;
}

/* ---- random tokens, and the rule of the tests that use them ---- */

enum { G = 2, H = 4, N = 64, ROWS = 740, WINDOW = 21, SINKS = 3, KEEP = 4 };

static inline radar_published_rule rule_of(bool code) {
    return (radar_published_rule){.code = code,
                                  .window = WINDOW,
                                  .sinks = SINKS,
                                  .aspect = code ? 2 : 1,
                                  .keep = KEEP,
                                  .seed = 3,
                                  .features = N};
}

/* Random tokens, as the cache will hold them. */
typedef struct tokens {
    float *k, *v; /* [ROWS, G, D] */
    float *q;     /* [ROWS, H, D] */
} tokens;

static inline float *rounded(size_t n, uint64_t seed, float scale) {
    float *x = normals(n, seed, scale);
    for (size_t i = 0; i < n; i++) x[i] = radar_f16_to_f32(radar_f32_to_f16(x[i]));
    return x;
}

static inline tokens make_tokens(uint64_t seed, float scale) {
    return (tokens){rounded(ROWS * G * D, seed, scale), rounded(ROWS * G * D, seed + 1, 1),
                    rounded(ROWS * H * D, seed + 2, scale)};
}

static inline void free_tokens(tokens *t) { radar_free(t->k), radar_free(t->v), radar_free(t->q); }

static inline void open_with(rig *r, const radar_published_rule *rule, const tokens *t) {
    rig_open(r, ROWS, G, H, rule);
    rig_put(r, 0, ROWS, t->k, t->v);
}

#endif
