/* shards_fixture.h - a policy at work over all shards of a small cache in one process: the attention part of a forward pass. */
#ifndef RADAR_TEST_SHARDS_FIXTURE_H
#define RADAR_TEST_SHARDS_FIXTURE_H

#include "tests/unit/plan_fixture.h"

#define SHARDS_MOST_ROWS 8

typedef struct shards {
    radar_cpu cpu;
    radar_kvcache kv;
    radar_attention attention;
    radar_counts counts;
    radar_plan plan;
    radar_rope rope;
    const radar_policy *policy;
    void *state;
    int n_heads;
    float *pieces, *coverage;
} shards;

typedef struct shards_shape {
    radar_dtype type;
    int shards, stripe, layers, kv_heads, group, D;
    int64_t context;
} shards_shape;

/* attention: its numbers, without policy. */
static inline void shards_open(shards *s, const char *policy, const radar_attention *attention,
                               const shards_shape *shape, const char *isa) {
    *s = (shards){.cpu = cpu_with(isa, 1), .attention = *attention};
    s->policy = must((void *)radar_policy_find(policy));
    s->n_heads = shape->kv_heads * shape->group;
    s->kv = (radar_kvcache){
        .be = &s->cpu.base,
        .layout = {.shards = shape->shards, .stripe = shape->stripe, .ranks = 1},
        .layers = shape->layers,
        .kv_heads = shape->kv_heads,
        .D = shape->D,
        .type = shape->type,
        .context = shape->context,
    };
    assert_int_equal(radar_kvcache_plan(&s->kv, NULL), RADAR_OK);
    assert_int_equal(radar_kvcache_open(&s->kv, NULL), RADAR_OK);
    s->policy->room(&s->kv, &s->attention, s->n_heads, SHARDS_MOST_ROWS, &s->plan);
    plan_open(&s->plan, &s->kv);
    const radar_policy_shape of = {&s->kv, &s->attention, s->n_heads};
    if (s->policy->open) assert_int_equal(s->policy->open(&s->state, &of, NULL), RADAR_OK);
    size_t queries = (size_t)s->n_heads * SHARDS_MOST_ROWS;
    s->pieces = plan_array((size_t)shape->shards * queries * (size_t)RADAR_PARTIAL(shape->D),
                           sizeof *s->pieces);
    s->coverage = plan_array(queries, sizeof *s->coverage);
}

static inline void shards_close(shards *s) {
    if (s->policy->close) s->policy->close(s->state);
    radar_kvcache_close(&s->kv);
    plan_close(&s->plan);
    radar_free(s->pieces), radar_free(s->coverage);
}

typedef struct shards_tree {
    shards *s;
    int64_t partials;
} shards_tree;

static inline void shards_merge(void *user, int first, int count, int apart) {
    const shards_tree *t = user;
    size_t floats = (size_t)t->partials * (size_t)RADAR_PARTIAL(t->s->kv.D);
    float *piece[RADAR_MAX_SHARDS];
    for (int i = 0; i < count; i++) piece[i] = t->s->pieces + (size_t)(first + i * apart) * floats;
    radar_cpu_merge(&t->s->cpu.base, piece, count, t->partials, t->s->kv.D);
}

static inline void shards_run_plan(shards *s, int n) {
    radar_plan *p = &s->plan;
    shards_tree tree = {s, (int64_t)n * s->n_heads};
    plan_check_room(p);
    radar_cpu_attend(&s->cpu.base, p->task, p->n_tasks, 1.0f / sqrtf((float)s->kv.D), n);
    for (int i = 0; i < p->n_folds; i++)
        merge_into(&s->cpu, p->fold[i].into, p->fold[i].from, p->fold[i].n, s->kv.D);
    radar_tree(0, s->kv.layout.shards, shards_merge, &tree);
}

/* Rows of one layer at positions first ... : their k, v [n, G, D] are appended, and q [n, H, D] attends under the policy into
 * out [n, H, D].  q NULL: rows of the prompt, which the policy only sees. */
static inline void shards_rows(shards *s, int layer, int64_t first, int n, const float *q,
                               const float *k, const float *v, float *out) {
    int group = s->n_heads / s->kv.kv_heads;
    int32_t slot[SHARDS_MOST_ROWS];
    int64_t position[SHARDS_MOST_ROWS], *query_position = plan_array((size_t)(n * group), 8);
    float *arranged =
        plan_array((size_t)n * (size_t)s->n_heads * (size_t)s->kv.D, sizeof *arranged);
    assert_true(n <= SHARDS_MOST_ROWS);
    radar_kvcache_append(&s->kv, layer, first, n, k, v, slot);
    for (int i = 0; i < n; i++) position[i] = first + i;
    for (int i = 0; i < n * group; i++) query_position[i] = first + i / group;
    if (q) radar_cpu_arrange(&s->cpu.base, arranged, q, n, s->kv.kv_heads, group, s->kv.D);
    radar_select select = {.kv = &s->kv,
                           .attention = &s->attention,
                           .counts = &s->counts,
                           .plan = &s->plan,
                           .layer = layer,
                           .n_rows = n,
                           .n_heads = s->n_heads,
                           .position = position,
                           .query_position = query_position,
                           .q = arranged,
                           .k = k,
                           .v = v,
                           .partial = s->pieces,
                           .rope = &s->rope,
                           .state = s->state,
                           .prefill = q == NULL};
    plan_begin(&s->plan);
    if (q) {
        assert_int_equal(s->policy->select(&select), RADAR_OK);
        shards_run_plan(s, n);
    }
    if (s->policy->attended) assert_int_equal(s->policy->attended(&select), RADAR_OK);
    if (q)
        radar_cpu_finish(&s->cpu.base, out, s->coverage, s->pieces, n, s->kv.kv_heads, group,
                         s->kv.D);
    radar_free(arranged);
    radar_free(query_position);
}

#endif
