/* evict_rig.h - one layer of the decoder around a policy that keeps a state: its cache, random rows, and which tokens each query
 * head attended. */
#ifndef RADAR_TEST_EVICT_RIG_H
#define RADAR_TEST_EVICT_RIG_H

#include "tests/unit/plan_fixture.h"

#include "runtime/attention.h"

enum { D = 16, G = 2, GROUP = 3, H = G * GROUP, N = 520, BLOCK = 64 };
enum { SHARDS = 8, PIECE = BLOCK * H * RADAR_PARTIAL(D) };

typedef struct rig {
    radar_cpu cpu;
    radar_kvcache kv;
    radar_attention a;
    const radar_policy *policy;
    void *state;
    radar_plan plan;
    radar_comm *comm;
    radar_counts counts;
    radar_error err;
    int64_t t;                   /* rows so far */
    float *q, *k, *v;            /* [N, H, D], [N, G, D]: k and v as the cache holds them */
    float *out;                  /* [N, H, D] */
    float *arranged, *pieces;    /* of a block */
    unsigned char (*seen)[H][N]; /* [N]: what each row's heads attended */
} rig;

static inline float *held(size_t n, uint64_t seed, float scale) {
    float *x = normals(n, seed, scale);
    for (size_t i = 0; i < n; i++) x[i] = radar_f16_to_f32(radar_f32_to_f16(x[i]));
    return x;
}

static inline void room(rig *r) {
    radar_plan dense = {0};
    int rows = r->policy->most_rows ? r->policy->most_rows : BLOCK;
    r->policy->room(&r->kv, &r->a, H, rows, &r->plan);
    radar_policy_dense.room(&r->kv, &r->a, H, BLOCK, &dense);
    if (r->plan.max_tasks < dense.max_tasks) r->plan.max_tasks = dense.max_tasks;
    plan_open(&r->plan, &r->kv);
}

static inline void rig_open(rig *r, const char *name, radar_attention a, radar_dtype type,
                            int shards, uint64_t seed) {
    *r = (rig){.cpu = cpu_with(NULL, 2), .a = a, .policy = radar_policy_find(name)};
    assert_non_null(r->policy);
    r->kv = (radar_kvcache){.be = &r->cpu.base,
                            .layout = {.shards = shards, .stripe = 64, .ranks = 1},
                            .layers = 1,
                            .kv_heads = G,
                            .D = D,
                            .type = type,
                            .context = N};
    assert_int_equal(radar_kvcache_plan(&r->kv, NULL), RADAR_OK);
    assert_int_equal(radar_kvcache_open(&r->kv, NULL), RADAR_OK);
    assert_int_equal(radar_comm_self(&r->comm, NULL), RADAR_OK);
    room(r);
    const radar_policy_shape shape = {&r->kv, &r->a, H};
    assert_int_equal(r->policy->open(&r->state, &shape, &r->err), RADAR_OK);
    r->q = normals(N * H * D, seed, 1.5f);
    r->k = held(N * G * D, seed + 1, 1.5f);
    r->v = held(N * G * D, seed + 2, 1);
    r->out = must(radar_alloc(N * H * D * sizeof *r->out));
    r->arranged = must(radar_alloc(BLOCK * H * D * sizeof *r->arranged));
    r->pieces = must(radar_alloc((size_t)SHARDS * PIECE * sizeof *r->pieces));
    r->seen = must(radar_alloc(N * sizeof *r->seen));
}

static inline void rig_close(rig *r) {
    r->policy->close(r->state);
    radar_kvcache_close(&r->kv);
    radar_comm_close(r->comm);
    plan_close(&r->plan);
    void *const all[] = {r->q, r->k, r->v, r->out, r->arranged, r->pieces, r->seen};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) radar_free(all[i]);
    assert_int_equal(radar_alloc_live(), 0);
}

typedef struct merge_user {
    rig *r;
    int n;
} merge_user;

static inline void merge(void *user, int first, int count, int apart) {
    const merge_user *m = user;
    int64_t partials = (int64_t)m->n * H, floats = partials * RADAR_PARTIAL(D);
    float *piece[RADAR_MAX_SHARDS];
    for (int i = 0; i < count; i++) piece[i] = m->r->pieces + (first + i * apart) * floats;
    radar_cpu_merge(&m->r->cpu.base, piece, count, partials, D);
}

/* What the tasks list, by row, head and position; every query of a token once at most. */
static inline void note_seen(rig *r, int n) {
    memset(r->seen + r->t, 0, (size_t)n * sizeof *r->seen);
    for (int t = 0; t < r->plan.n_tasks; t++) {
        const radar_attend_task *task = &r->plan.task[t];
        int query = (int)((task->q - r->arranged) / D), g = query / (n * GROUP);
        for (int j = 0; j < task->n_query; j++) {
            int at = query % (n * GROUP) + j, row = at / GROUP, head = g * GROUP + at % GROUP;
            const radar_items items = plan_items(task);
            for (int i = 0; i < items.n; i++)
                for (int b = 0; b < 16; b++) {
                    int64_t p = radar_kv_position(&task->kv, items.item[i].segment) + b;
                    if (items.item[i].tokens >> b & 1 && p <= r->t + row)
                        assert_int_equal(r->seen[r->t + row][head][p]++, 0);
                }
        }
    }
}

static inline void finish(rig *r, int n) {
    for (int row = 0; row < n; row++)
        for (int h = 0; h < H; h++) {
            const float *p =
                r->pieces + ((h / GROUP * n + row) * GROUP + h % GROUP) * RADAR_PARTIAL(D);
            for (int d = 0; d < D; d++)
                r->out[((r->t + row) * H + h) * D + d] =
                    p[RADAR_PARTIAL_O + d] / p[RADAR_PARTIAL_L];
        }
}

/* One block of rows, as the decoder computes it. */
static inline void block(rig *r, int n, bool prefill) {
    assert_true(n <= BLOCK);
    int64_t position[BLOCK], query_position[BLOCK * GROUP];
    int32_t slot[BLOCK];
    for (int i = 0; i < n * GROUP; i++) query_position[i] = r->t + i / GROUP;
    for (int i = 0; i < n; i++) position[i] = r->t + i;
    radar_kvcache_append(&r->kv, 0, r->t, n, r->k + r->t * G * D, r->v + r->t * G * D, slot);
    radar_cpu_arrange(&r->cpu.base, r->arranged, r->q + r->t * H * D, n, G, GROUP, D);
    plan_begin(&r->plan);
    radar_select s = {.comm = r->comm,
                      .kv = &r->kv,
                      .attention = &r->a,
                      .counts = &r->counts,
                      .plan = &r->plan,
                      .n_rows = n,
                      .n_heads = H,
                      .position = position,
                      .query_position = query_position,
                      .q = r->arranged,
                      .k = r->k + r->t * G * D,
                      .v = r->v + r->t * G * D,
                      .partial = r->pieces,
                      .state = r->state,
                      .prefill = prefill,
                      .err = &r->err};
    merge_user user = {r, n};
    assert_int_equal((prefill ? &radar_policy_dense : r->policy)->select(&s), RADAR_OK);
    plan_check_room(&r->plan);
    note_seen(r, n);
    radar_cpu_attend(&r->cpu.base, r->plan.task, r->plan.n_tasks, 1.0f / sqrtf(D), n);
    radar_tree(0, r->kv.layout.shards, merge, &user);
    assert_int_equal(r->policy->attended(&s), RADAR_OK);
    finish(r, n);
    r->t += n;
}

static inline void rows(rig *r, int n, int at_once, bool prefill) {
    if (!prefill && r->policy->most_rows) at_once = r->policy->most_rows;
    for (int m; n > 0; n -= m) block(r, m = n < at_once ? n : at_once, prefill);
}

#endif
